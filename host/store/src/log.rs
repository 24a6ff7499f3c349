//! The log of events as a trait: append, read, tail, and a derived row a run to find it by.
//!
//! ```text
//!  append ──► one atomic, durable batch ──► notice ──► Tail::next ──► read
//! ```
//! A tail never receives records, only the notice that there are more; it reads them at its own pace. So a slow
//! reader blocks no writer, holds no memory, and misses nothing.
//!
//! What it never does: decide. Which event may follow which, and what a row says, is the caller's.

use std::sync::Arc;

use async_trait::async_trait;
use midplane_core::event::{Event, Record};
use midplane_core::{Error, ProfileName, Result, RunId};
use tokio::sync::watch;

/// Records that one [`EventLog::read`] gives at most, whatever its `limit` says.
pub const READ_RECORDS_MAX: usize = 1_000;

/// Bytes of data after which one [`EventLog::read`] stops, having given at least one record.
pub const READ_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Rows that one [`EventLog::runs`] gives at most, whatever its `limit` says.
pub const RUNS_MAX: usize = 1_000;

/// A batch to append: all or nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Append {
    /// The run.
    pub run_id: RunId,
    /// The last sequence number that the caller saw; 0 for a run that does not exist yet.
    pub expected_seq: u64,
    /// The time, in milliseconds since 1970 UTC. Records get the later of this and the last record's.
    pub t_ms: u64,
    /// What to append, in order; at least one.
    pub events: Vec<Event>,
    /// The run's row from now on. The first append of a run must have it; later ones leave it out if nothing changed.
    pub index: Option<RunIndex>,
}

/// What is kept of a run to list and find it without reading its log. Derived: the caller computes it from the fold.
#[derive(Debug, Clone, PartialEq)]
pub struct RunIndex {
    /// Whose run it is.
    pub profile: ProfileName,
    /// The caller's name of the task.
    pub task_id: String,
    /// Where it stands.
    pub status: String,
    /// Why it ended; unset is what [`RunQuery::unfinished`] asks for.
    pub finish_reason: Option<String>,
    /// When it was created, in milliseconds since 1970 UTC.
    pub created_ms: u64,
    /// When it last changed.
    pub updated_ms: u64,
    /// The process that drives it. Set freely while there is none; from then on another name is refused
    /// (`conflict`, code `run-owner`) and only [`EventLog::claim`] hands over, so that a process that lost a run
    /// cannot take it back by writing on.
    pub owner: Option<String>,
    /// Whatever else a list shows; JSON.
    pub summary: serde_json::Value,
}

/// A run as it is found.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRow {
    /// The run.
    pub run_id: RunId,
    /// What the caller derived.
    pub index: RunIndex,
    /// Sequence number of its last record.
    pub last_seq: u64,
    /// The newest stored form among its records (`midplane_core::event::FORMAT_VERSION` of the writers).
    pub format_version: u32,
}

/// Which runs to list. All fields that are set must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunQuery {
    /// Of this profile.
    pub profile: Option<ProfileName>,
    /// With this status.
    pub status: Option<String>,
    /// Driven by this process.
    pub owner: Option<String>,
    /// Without a finish reason.
    pub unfinished: bool,
    /// Older than this run: the cursor of the next page.
    pub before: Option<RunId>,
    /// At most so many; 0 stands for [`RUNS_MAX`].
    pub limit: usize,
}

/// The log. Implementations pass `suite::event_log` (feature `suite`).
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Appends a batch and gives its records. When it returns, the batch is durable and visible to every reader.
    /// A dropped call may still append: what is queued is written.
    ///
    /// Errors: `conflict` `log-seq` (the run is elsewhere; nothing was written) or `run-owner`; `invalid` `append-empty`
    /// or `index-missing`; `limit` `disk`; `unavailable` `store-busy`; `uncertain` `store-commit`.
    async fn append(&self, append: Append) -> Result<Arc<[Record]>>;

    /// Records from a sequence number on, in order. At most `limit`, at most [`READ_RECORDS_MAX`], and fewer when they
    /// are large ([`READ_BYTES_MAX`]); none only at the end, or if there is no such run.
    async fn read(&self, run_id: &RunId, from_seq: u64, limit: usize) -> Result<Vec<Record>>;

    /// Follows a run from a sequence number on. The run need not exist yet.
    fn tail(&self, run_id: &RunId, from_seq: u64) -> Tail;

    /// Runs, newest first (by id, which sorts by time).
    async fn runs(&self, query: RunQuery) -> Result<Vec<RunRow>>;

    /// One run.
    async fn run(&self, run_id: &RunId) -> Result<Option<RunRow>>;

    /// Makes `owner` the one that drives a run, if it is driven by `expected` now; says whether that was so.
    async fn claim(&self, run_id: &RunId, expected: Option<&str>, owner: &str) -> Result<bool>;

    /// Removes a run: records, row, signals, references to artifacts. Says whether it was there.
    async fn remove_run(&self, run_id: &RunId) -> Result<bool>;
}

/// A reader that follows a run. It has no end of its own: the caller knows which record is the last.
pub struct Tail {
    log: Arc<dyn EventLog>,
    changes: watch::Receiver<u64>,
    run_id: RunId,
    next_seq: u64,
    /// Whether something was given, so that a run that is gone can be told from one that is to come.
    given: bool,
}

impl Tail {
    /// A tail over a log. `changes` carries the run's last sequence number as far as it is known, and is marked
    /// changed when there may be more; it must have been subscribed before the tail reads for the first time.
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>, changes: watch::Receiver<u64>, run_id: RunId, from_seq: u64) -> Self {
        Self { log, changes, run_id, next_seq: from_seq.max(1), given: false }
    }

    /// The next records, at least one: those already there, then those to come, without a gap. Safe to drop: a call
    /// that is dropped while it waits has consumed nothing.
    ///
    /// Errors: `not-found` `run-removed` when the run that it followed is gone; those of reading.
    pub async fn next(&mut self) -> Result<Vec<Record>> {
        loop {
            // Marked as seen *before* reading: an append that falls between the two leaves the mark set again.
            self.changes.borrow_and_update();
            let page = self.log.read(&self.run_id, self.next_seq, READ_RECORDS_MAX).await?;
            if let Some(last) = page.last() {
                self.next_seq = last.seq + 1;
                self.given = true;
                return Ok(page);
            }
            if self.given && self.log.run(&self.run_id).await?.is_none() {
                return Err(Error::not_found("run-removed", format!("run `{}` was removed", self.run_id)));
            }
            if self.changes.changed().await.is_err() {
                return Err(Error::unavailable("store-closed", "the store was closed"));
            }
        }
    }

    /// Where it is: the sequence number that it gives next.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }
}

/// The checks of an append that need no database; one home for both implementations.
pub(crate) fn check_append(append: &Append) -> Result<()> {
    if append.events.is_empty() {
        return Err(Error::invalid("append-empty", "an append has at least one event"));
    }
    Ok(())
}

/// What an append needs to know of the run as it is in the log. `index` is unset for a run that does not exist.
pub(crate) fn check_place(append: &Append, last_seq: u64, owner: Option<Option<&str>>) -> Result<()> {
    let Append { run_id, expected_seq, index, .. } = append;
    if *expected_seq != last_seq {
        return Err(Error::conflict(
            "log-seq",
            format!("run `{run_id}` is at seq {last_seq}, and the append expected {expected_seq}"),
        )
        .hint("read what was appended meanwhile and decide again"));
    }
    let wanted = index.as_ref().map(|index| index.owner.as_deref());
    match (owner, wanted) {
        (None, None) => {
            Err(Error::invalid("index-missing", format!("the first append of run `{run_id}` has no index")))
        }
        (Some(Some(owner)), Some(Some(wanted))) if owner != wanted => {
            Err(Error::conflict("run-owner", format!("run `{run_id}` is driven by `{owner}`, not by `{wanted}`")))
        }
        _ => Ok(()),
    }
}

/// The limit that a read or a list goes by.
pub(crate) fn page(limit: usize, max: usize) -> usize {
    if limit == 0 { max } else { limit.min(max) }
}

/// The records of a batch in their place.
pub(crate) fn records(run_id: &RunId, last_seq: u64, t_ms: u64, events: Vec<Event>) -> Arc<[Record]> {
    let place =
        |(seq, event): (u64, Event)| Record { run_id: run_id.clone(), seq, t_ms, kind: event.kind, data: event.data };
    (last_seq + 1..).zip(events).map(place).collect()
}
