//! The one spinner that may stand at the bottom of the terminal, known to all who write there.

use std::io::{self, Write as _};
use std::sync::{Mutex, PoisonError};

use indicatif::ProgressBar;

/// A process has one terminal, and log lines come from any thread of it.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// This bar is at the bottom from now on.
pub(crate) fn show(bar: &ProgressBar) {
    *BAR.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.clone());
}

/// None is there any more.
pub(crate) fn clear() {
    let bar = BAR.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

/// Does something to the terminal while the bar is out of the way.
pub(crate) fn suspend<T>(write: impl FnOnce() -> T) -> T {
    // Cloned first: drawing must not happen under the lock, since it may wait for the terminal.
    let bar = BAR.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match bar {
        Some(bar) if !bar.is_finished() => bar.suspend(write),
        _ => write(),
    }
}

/// A line on standard error.
pub(crate) fn note(line: &str) {
    // Where standard error is closed there is nowhere to say so.
    let _ = suspend(|| io::stderr().write_all(format!("{line}\n").as_bytes()));
}
