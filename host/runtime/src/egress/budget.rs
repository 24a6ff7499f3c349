//! What the requests of one run may move, all its calls together.

use std::sync::atomic::{AtomicU64, Ordering};

use midplane_core::limits::Limits;
use midplane_core::{Error, Result};

/// What is left of [`Limits::http_bytes_max`] and [`Limits::http_requests_max`].
///
/// Counted are bodies in both directions, and heads by their names and values. What the transport adds is not.
#[derive(Debug)]
pub(crate) struct HttpBudget {
    bytes_left: AtomicU64,
    requests_left: AtomicU64,
}

impl HttpBudget {
    /// The whole budget of a run.
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            bytes_left: AtomicU64::new(limits.http_bytes_max),
            requests_left: AtomicU64::new(limits.http_requests_max),
        }
    }

    pub(super) fn take_bytes(&self, bytes: u64) -> Result<()> {
        take(&self.bytes_left, bytes).map_err(|()| {
            Error::limit("http-bytes", "the bytes that this run may send and receive over HTTP are used up")
        })
    }

    pub(super) fn take_request(&self) -> Result<()> {
        take(&self.requests_left, 1)
            .map_err(|()| Error::limit("rate-limited", "the HTTP requests that this run may make are used up"))
    }
}

fn take(left: &AtomicU64, amount: u64) -> Result<(), ()> {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(amount)).map(drop).map_err(drop)
}
