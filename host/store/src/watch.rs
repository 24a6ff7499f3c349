//! Who waits for what: the notices that there is more to read.
//!
//! One channel a followed run, holding its last known sequence number, and one for signals. Writers of this process
//! notify at once; what other processes wrote is found by the poller of `sqlite`, which sleeps while nobody waits.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use midplane_core::RunId;
use tokio::sync::watch;

/// All channels of one store.
#[derive(Debug)]
pub(crate) struct Watchers {
    inner: Mutex<Inner>,
    /// Wakes the poller when the first one waits, and when it shall stop.
    wanted: Condvar,
    signals: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    runs: HashMap<RunId, watch::Sender<u64>>,
    stopped: bool,
}

impl Watchers {
    pub(crate) fn new() -> Self {
        Self { inner: Mutex::default(), wanted: Condvar::new(), signals: watch::Sender::new(0) }
    }

    /// The channel of a run.
    pub(crate) fn run(&self, run_id: &RunId) -> watch::Receiver<u64> {
        let mut inner = self.lock();
        // Here rather than when a receiver is dropped: the map is as large as the number of live tails, or about.
        inner.runs.retain(|_, sender| sender.receiver_count() > 0);
        let sender = inner.runs.entry(run_id.clone()).or_insert_with(|| watch::Sender::new(0));
        let receiver = sender.subscribe();
        self.wanted.notify_all();
        receiver
    }

    /// The channel of signals: the id of the last one.
    pub(crate) fn signals(&self) -> watch::Receiver<u64> {
        let _inner = self.lock(); // so that the poller cannot miss it between its look and its sleep
        let receiver = self.signals.subscribe();
        self.wanted.notify_all();
        receiver
    }

    /// A run is at this sequence number now; 0 when it is gone.
    pub(crate) fn run_at(&self, run_id: &RunId, seq: u64) {
        if let Some(sender) = self.lock().runs.get(run_id) {
            set(sender, seq);
        }
    }

    /// The last signal has this id now.
    pub(crate) fn signal_at(&self, id: u64) {
        set(&self.signals, id);
    }

    /// The runs that someone follows.
    pub(crate) fn runs(&self) -> Vec<RunId> {
        self.lock().runs.iter().filter(|(_, sender)| sender.receiver_count() > 0).map(|(id, _)| id.clone()).collect()
    }

    /// Wakes everyone, so that each finds out by its own read what is wrong.
    pub(crate) fn wake_all(&self) {
        for sender in self.lock().runs.values() {
            sender.send_modify(|_| {});
        }
        self.signals.send_modify(|_| {});
    }

    /// Sleeps `period`, and longer while nobody waits; false when it is over. For the poller.
    pub(crate) fn sleep(&self, period: Duration) -> bool {
        let inner = self.lock();
        // Neither result carries news: the loop below looks at the state itself.
        let (mut inner, _) = self
            .wanted
            .wait_timeout_while(inner, period, |inner| !inner.stopped)
            .unwrap_or_else(PoisonError::into_inner);
        loop {
            if inner.stopped {
                return false;
            }
            if self.signals.receiver_count() > 0 || inner.runs.values().any(|sender| sender.receiver_count() > 0) {
                return true;
            }
            inner = self.wanted.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends the poller.
    pub(crate) fn stop(&self) {
        self.lock().stopped = true;
        self.wanted.notify_all();
    }

    // No code that can panic runs under this lock, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn set(sender: &watch::Sender<u64>, value: u64) {
    sender.send_if_modified(|known| std::mem::replace(known, value) != value);
}
