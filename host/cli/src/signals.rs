//! Ctrl-C and SIGTERM while a run is driven: the first asks the run to stop, the second ends the command at once.
//!
//! Heard by a task of its own: the one that prints may be waiting for a reader that does not read.

use std::process;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use anyhow::Context as _;
use midplane::Host;
use midplane::core::RunId;
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::Exit;
use crate::screen;

/// The signals of this process, from when it is made.
pub(crate) struct Signals {
    run: Arc<Mutex<Option<(Host, RunId)>>>,
}

impl Signals {
    /// Begins to listen. `tell`: whether a person sees what it does.
    pub(crate) fn listen(tell: bool) -> anyhow::Result<Self> {
        let mut interrupts = signal(SignalKind::interrupt()).context("signals cannot be heard")?;
        let mut terms = signal(SignalKind::terminate()).context("signals cannot be heard")?;
        let run: Arc<Mutex<Option<(Host, RunId)>>> = Arc::default();
        let running = run.clone();
        tokio::spawn(async move {
            let mut asked = false;
            loop {
                tokio::select! {
                    _ = interrupts.recv() => {}
                    _ = terms.recv() => {}
                }
                let target = running.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let (Some((host, run_id)), false) = (target, asked) else { stop_now() };
                asked = true;
                if tell {
                    screen::note("stopping the run; once more ends it at once");
                }
                if let Err(error) = host.cancel(&run_id).await {
                    tracing::warn!(%error, "the run could not be asked to stop");
                }
            }
        });
        Ok(Self { run })
    }

    /// This run is asked to stop. Before, there is nothing that could be, and a signal ends the command.
    pub(crate) fn attach(&self, host: &Host, run_id: &RunId) {
        *self.run.lock().unwrap_or_else(PoisonError::into_inner) = Some((host.clone(), run_id.clone()));
    }
}

fn stop_now() -> ! {
    let (done, cleared) = mpsc::channel();
    // The terminal may not be taking anything, and that must not hold up the end.
    std::thread::spawn(move || {
        screen::clear();
        let _ = done.send(());
    });
    let _ = cleared.recv_timeout(Duration::from_millis(100));
    process::exit(i32::from(Exit::Interrupted.code()))
}
