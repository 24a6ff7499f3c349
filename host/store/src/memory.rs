//! The event log without a database: plain structures under a lock. For embedders that keep nothing, and for tests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use midplane_core::event::{FORMAT_VERSION, Record};
use midplane_core::{Result, RunId};

use crate::log::{
    self, Append, EventLog, READ_BYTES_MAX, READ_RECORDS_MAX, RUNS_MAX, RunIndex, RunQuery, RunRow, Tail,
};
use crate::watch::Watchers;

/// A log that is gone with the process. Clones share it.
#[derive(Clone)]
pub struct MemoryLog {
    // The std mutex: held for moments, never across an await.
    runs: Arc<Mutex<BTreeMap<RunId, Run>>>,
    watchers: Arc<Watchers>,
}

struct Run {
    records: Vec<Record>,
    index: RunIndex,
}

impl MemoryLog {
    /// An empty log.
    #[must_use]
    pub fn new() -> Self {
        Self { runs: Arc::default(), watchers: Arc::new(Watchers::new()) }
    }

    // No code that can panic runs under this lock.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<RunId, Run>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl EventLog for MemoryLog {
    async fn append(&self, mut append: Append) -> Result<Arc<[Record]>> {
        log::check_append(&append)?;
        let events = std::mem::take(&mut append.events);
        let mut runs = self.lock();
        let found = runs.get(&append.run_id);
        let last = found.and_then(|run| run.records.last());
        log::check_place(&append, last.map_or(0, |record| record.seq), found.map(|run| run.index.owner.as_deref()))?;
        let t_ms = last.map_or(append.t_ms, |record| record.t_ms.max(append.t_ms));
        let records = log::records(&append.run_id, append.expected_seq, t_ms, events);
        match (runs.get_mut(&append.run_id), append.index) {
            (Some(run), index) => {
                run.records.extend(records.iter().cloned());
                run.index = index.unwrap_or_else(|| run.index.clone());
            }
            (None, Some(index)) => {
                runs.insert(append.run_id.clone(), Run { records: records.to_vec(), index });
            }
            // `check_place` has refused it.
            (None, None) => {}
        }
        drop(runs);
        self.watchers.run_at(&append.run_id, append.expected_seq + records.len() as u64);
        Ok(records)
    }

    async fn read(&self, run_id: &RunId, from_seq: u64, limit: usize) -> Result<Vec<Record>> {
        let runs = self.lock();
        let Some(run) = runs.get(run_id) else { return Ok(Vec::new()) };
        // Record n is at n - 1, since there are no gaps.
        let skip = usize::try_from(from_seq.saturating_sub(1)).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let fits = |record: &&Record| {
            let before = bytes;
            bytes += serde_json::to_string(&record.data).map_or(0, |data| data.len());
            before < READ_BYTES_MAX
        };
        Ok(run.records.iter().skip(skip).take(log::page(limit, READ_RECORDS_MAX)).take_while(fits).cloned().collect())
    }

    fn tail(&self, run_id: &RunId, from_seq: u64) -> Tail {
        Tail::new(Arc::new(self.clone()), self.watchers.run(run_id), run_id.clone(), from_seq)
    }

    async fn runs(&self, query: RunQuery) -> Result<Vec<RunRow>> {
        let holds = |run_id: &RunId, index: &RunIndex| {
            query.profile.as_ref().is_none_or(|profile| *profile == index.profile)
                && query.status.as_ref().is_none_or(|status| *status == index.status)
                && query.owner.as_ref().is_none_or(|owner| Some(owner) == index.owner.as_ref())
                && query.before.as_ref().is_none_or(|before| run_id < before)
                && !(query.unfinished && index.finish_reason.is_some())
        };
        let runs = self.lock();
        let found = runs.iter().rev().filter(|(run_id, run)| holds(run_id, &run.index));
        Ok(found.take(log::page(query.limit, RUNS_MAX)).map(|(run_id, run)| row(run_id, run)).collect())
    }

    async fn run(&self, run_id: &RunId) -> Result<Option<RunRow>> {
        Ok(self.lock().get(run_id).map(|run| row(run_id, run)))
    }

    async fn claim(&self, run_id: &RunId, expected: Option<&str>, owner: &str) -> Result<bool> {
        let mut runs = self.lock();
        let found = runs.get_mut(run_id).filter(|run| run.index.owner.as_deref() == expected);
        Ok(found.map(|run| run.index.owner = Some(owner.to_owned())).is_some())
    }

    async fn remove_run(&self, run_id: &RunId) -> Result<bool> {
        let removed = self.lock().remove(run_id).is_some();
        self.watchers.run_at(run_id, 0);
        Ok(removed)
    }
}

fn row(run_id: &RunId, run: &Run) -> RunRow {
    RunRow {
        run_id: run_id.clone(),
        index: run.index.clone(),
        last_seq: run.records.last().map_or(0, |record| record.seq),
        format_version: FORMAT_VERSION,
    }
}
