//! How the host speaks to a call in flight: the deadline, the cancel flag, and signals for the agent.
//!
//! One [`Control`] a call, shared by the driver that owns the call and the guest that is in it. The rules of what works
//! after a cancel are written in `wit/v0/control.wit`; the imports keep them with [`Control::guard`] and
//! [`Control::cancelled`].

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use midplane_core::{Error, Result};
use tokio::sync::Notify;

/// One message to an agent run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// What it is; `steer` in this line.
    pub kind: String,
    /// Its text.
    pub text: String,
}

/// Time left, cancel and signals of one call.
#[derive(Debug)]
pub struct Control {
    cancelled: AtomicBool,
    cancel_notify: Notify,
    state: Mutex<State>,
    signal_notify: Notify,
}

#[derive(Debug)]
struct State {
    /// The end: the deadline, or after a cancel the end of the grace period.
    end: Instant,
    signals: VecDeque<Signal>,
    /// How many signals ever came; a waiter that has announced this many need not be woken for them again.
    signals_seen: u64,
}

impl Control {
    /// A control with this much time.
    #[must_use]
    pub fn new(time: Duration) -> Self {
        Self {
            cancelled: AtomicBool::new(false),
            cancel_notify: Notify::new(),
            state: Mutex::new(State { end: Instant::now() + time, signals: VecDeque::new(), signals_seen: 0 }),
            signal_notify: Notify::new(),
        }
    }

    /// Cancels the call; from now on the grace period runs. A second cancel changes nothing.
    pub fn cancel(&self, grace: Duration) {
        if !self.cancelled.swap(true, Ordering::SeqCst) {
            self.state().end = Instant::now() + grace;
            self.cancel_notify.notify_waiters();
        }
    }

    /// Whether it is cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Waits for a cancel.
    pub async fn cancelled(&self) {
        let notified = self.cancel_notify.notified();
        tokio::pin!(notified);
        // Registered before the flag is read, so that a cancel in between is not missed.
        notified.as_mut().enable();
        if !self.is_cancelled() {
            notified.await;
        }
    }

    /// When the call ends at the latest.
    #[must_use]
    pub fn end(&self) -> Instant {
        self.state().end
    }

    /// Milliseconds until then.
    #[must_use]
    pub fn remaining_ms(&self) -> u64 {
        u64::try_from(self.end().saturating_duration_since(Instant::now()).as_millis()).unwrap_or(u64::MAX)
    }

    /// Runs what starts or fetches something: fails at once after a cancel, also while it waits.
    pub async fn guard<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        if self.is_cancelled() {
            return Err(cancelled());
        }
        tokio::select! {
            // The work first: what has finished is not thrown away because a cancel came in the same moment.
            biased;
            result = work => result,
            () = self.cancelled() => Err(cancelled()),
        }
    }

    /// Gives the agent a message; `limit` when too many wait.
    pub fn signal(&self, signal: Signal, signals_max: u64) -> Result<()> {
        let mut state = self.state();
        if state.signals.len() as u64 >= signals_max {
            return Err(Error::limit("signals", "too many messages wait for this run"));
        }
        state.signals.push_back(signal);
        state.signals_seen += 1;
        drop(state);
        self.signal_notify.notify_waiters();
        Ok(())
    }

    /// Takes the next signal, if there is one.
    #[must_use]
    pub fn take_signal(&self) -> Option<Signal> {
        self.state().signals.pop_front()
    }

    /// Waits until a signal is there that `announced` does not count yet, and counts it.
    pub async fn signal_waiting(&self, announced: &mut u64) {
        loop {
            let notified = self.signal_notify.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            {
                let state = self.state();
                if state.signals_seen > *announced && !state.signals.is_empty() {
                    *announced = state.signals_seen;
                    return;
                }
            }
            notified.await;
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing panics while it is held, so a poisoned lock still holds a whole state.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// What a cancelled call is told.
#[must_use]
pub fn cancelled() -> Error {
    Error::cancelled("cancelled", "the call is cancelled")
}
