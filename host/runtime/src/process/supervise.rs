//! `helper child`: the process between the host and a program, which sees to it that nothing of it is left behind.
//!
//! ```text
//! host ── socket ── supervisor ── program ── whatever it starts
//!                       └──────────── orphans, also of a session of their own ───┘
//! ```
//! It is the reaper of all that the program starts (`PR_SET_CHILD_SUBREAPER`): a process that leaves its group and session,
//! or whose parent is killed, becomes a child of the supervisor, and never a stranger. When the socket ends (the host let
//! go, or died in whatever way), or someone ends the supervisor, it kills all of them, again until none is left.
//!
//! # What it never does
//! It reads no configuration and opens no file. It does not stand in the way of the program's pipes: those are the
//! program's alone. On systems without `/proc` it ends the program's process group and no more.

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use midplane_engine::ports::Exit;
use rustix::process::{Pid, Signal, WaitOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::fence;
use super::group::exit_of;
use super::order::{Order, Report, SIGNALS};

/// What the supervisor hears of.
enum News {
    /// The host sent a letter.
    Signal(Signal),
    /// The host let go or is gone, or somebody wants this process to end.
    End,
    /// A process ended and was reaped.
    Reaped(Pid, Exit),
    /// No process is left.
    None,
}

/// The body of `helper child`.
pub(crate) fn main() -> u8 {
    u8::from(run().is_err())
}

fn run() -> io::Result<()> {
    let control = Arc::new(UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?));
    let (order, stdin) = Order::receive(&control)?;
    let nothing = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    runtime.block_on(async {
        let (tell, mut news) = mpsc::unbounded_channel();
        // Before the program runs: who ends this process must not leave it behind.
        for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::quit()] {
            let (mut asked, tell) = (signal(kind)?, tell.clone());
            tokio::spawn(async move {
                while asked.recv().await.is_some() {
                    let _ = tell.send(News::End);
                }
            });
        }
        let started = std::thread::spawn(move || start(order, stdin)).join();
        let started = started.unwrap_or_else(|_| Err(Report::Failed(None, "the starting thread is lost".to_owned())));
        let (leader, sandbox) = match started {
            Ok(started) => started,
            Err(report) => return report.send(&control),
        };
        // The program's pipes end with the program, not with this process.
        rustix::stdio::dup2_stdout(&nothing)?;
        rustix::stdio::dup2_stderr(&nothing)?;
        let told = Report::Started { pid: leader.as_raw_nonzero().get(), sandbox }.send(&control);
        let ears = (Arc::clone(&control), tell.clone());
        std::thread::spawn(move || listen(&ears.0, &ears.1));
        std::thread::spawn(move || reap(&tell));
        Watch { leader, alive: true, ending: told.is_err() }.run(&mut news, &control).await;
        Ok(())
    })
}

/// Starts the program from a thread that has entered its sandbox.
fn start(order: Order, stdin: Option<OwnedFd>) -> Result<(Pid, String), Report> {
    let failed = |error: io::Error| Report::Failed(error.raw_os_error(), error.to_string());
    let is_terminal = order.is_terminal();
    let (program, args, cwd, env, confinement) = order.parts();
    let mut command = if is_terminal {
        super::terminal::command(&program, &args, stdin.as_ref()).map_err(failed)?
    } else {
        let mut command = Command::new(program);
        command.args(args).process_group(0);
        command
    };
    let sandbox = fence::enter(&confinement).map_err(Report::Refused)?;
    let child = command
        .current_dir(cwd)
        .env_clear()
        .envs(env)
        .stdin(stdin.map_or_else(Stdio::null, Stdio::from))
        .spawn()
        .map_err(failed)?;
    // Reaped with all others, by its number.
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.map(|pid| (pid, sandbox)).ok_or_else(|| Report::Failed(None, "it has no number".to_owned()))
}

fn listen(mut control: &UnixStream, tell: &mpsc::UnboundedSender<News>) {
    let mut letter = [0];
    loop {
        match control.read(&mut letter) {
            Ok(1) => {
                if let Some((_, signal)) = SIGNALS.iter().find(|(known, _)| *known == letter[0]) {
                    let _ = tell.send(News::Signal(*signal));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => {
                let _ = tell.send(News::End);
                return;
            }
        }
    }
}

fn reap(tell: &mpsc::UnboundedSender<News>) {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) => {
                let exit = exit_of(status.exit_status(), status.terminating_signal());
                let _ = tell.send(News::Reaped(pid, exit));
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            // No child: then no descendant either, since each of them would have become one.
            Err(_) => {
                let _ = tell.send(News::None);
                return;
            }
        }
    }
}

struct Watch {
    leader: Pid,
    /// Whether the leader is not reaped, so that its number means its group.
    alive: bool,
    ending: bool,
}

impl Watch {
    async fn run(mut self, news: &mut mpsc::UnboundedReceiver<News>, control: &UnixStream) {
        let mut pause = Duration::from_millis(1);
        loop {
            let next = if self.ending {
                self.send(Signal::KILL);
                // One that was being started was not seen; a moment later it is.
                let next = tokio::time::timeout(pause, news.recv()).await;
                pause = (pause * 2).min(Duration::from_millis(50));
                let Ok(next) = next else { continue };
                next
            } else {
                news.recv().await
            };
            match next {
                Some(News::Signal(signal)) => self.send(signal),
                Some(News::End) => self.ending = true,
                Some(News::Reaped(pid, exit)) if pid == self.leader => {
                    self.alive = false;
                    if Report::from(exit).send(control).is_err() {
                        self.ending = true;
                    }
                }
                Some(News::Reaped(..)) => {}
                Some(News::None) | None => return,
            }
        }
    }

    /// Sends a signal to the program's group; a kill also to all who left it.
    fn send(&self, signal: Signal) {
        if self.alive {
            let _ = rustix::process::kill_process_group(self.leader, signal);
        }
        #[cfg(target_os = "linux")]
        for process in super::proc::descendants(rustix::process::getpid().as_raw_nonzero().get()) {
            let of_group = process.group == self.leader.as_raw_nonzero().get();
            // Who is in the living leader's group has it already.
            if (signal == Signal::KILL || of_group && !self.alive)
                && let Some(pid) = Pid::from_raw(process.pid)
            {
                let _ = rustix::process::kill_process(pid, signal);
            }
        }
        #[cfg(not(target_os = "linux"))]
        if !self.alive {
            let _ = rustix::process::kill_process_group(self.leader, signal);
        }
    }
}
