//! Runs that are fed from outside: a runner that is no plugin sends its events as batches of JSON, and what runs the runner says
//! how its job fares.
//!
//! ```text
//! open ─► run id ─► ingest, ingest, ... ─► terminal = claim ─┬─► observe_job ─┐
//!                                                            └─► grace ───────┴─► runtime_terminal
//! ```
//! Every decision is [`stream::step`]'s. This file reads the log as far as it is not known yet, asks, and appends by
//! compare-and-set on the log's sequence number; where another process was quicker it reads on and asks again. So any number
//! of processes can feed one run, and one that is killed leaves a batch either appended as a whole or not at all.
//! No process owns such a run: a claim whose grace has passed is settled by whoever looks at the run next.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use midplane_core::batch;
use midplane_core::event::{Event, EventKind, FORMAT_VERSION, Record};
use midplane_core::redact::Redactor;
use midplane_core::run::StopCause;
use midplane_core::stream::{self, Input, Observation, State, Step, Verdict};
use midplane_core::{Error, ProfileName, Result, RunId};
use midplane_store::log::READ_RECORDS_MAX;
use midplane_store::{Append, RunIndex, RunRow};
use serde_json::{Map, Value, json};

use crate::driver::{changes_index, index_of, now_ms};
use crate::host::{Host, new_run_id};

/// A run that is to be fed from outside.
#[derive(Debug, Clone, Default)]
pub struct OutsideRun {
    /// Whose run it is: the name under which it is listed, in the form of a profile's. It need not be a profile of this host;
    /// where it is one, the secrets of that profile are redacted, too.
    pub provider: String,
    /// The caller's name of the task.
    pub task_id: Option<String>,
    /// What the runner was asked to do.
    pub goal: Option<String>,
    /// What the sender calls the run in its batches; unset, it is the run's own id.
    pub sender_run_id: Option<String>,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Ingested {
    /// It is in the log, durably.
    Accepted {
        /// How many of its events were not there before.
        events: usize,
    },
    /// All of it was there, as it is.
    Duplicate,
    /// Nothing of it was taken.
    Refused {
        /// Why.
        error: Error,
        /// Events for this run that came after its terminal, as far as this process has counted them.
        late_events: u64,
    },
}

/// Runs whose state is kept between two batches.
const KEPT_MAX: usize = 64;

/// Runs that this process feeds, the one that was used last at the end.
#[derive(Default)]
pub(crate) struct Feeds(Mutex<VecDeque<(RunId, Arc<tokio::sync::Mutex<Feed>>)>>);

/// One of them. Its lock is held while a batch is decided and appended, so that batches of this process do not race.
#[derive(Default)]
pub(crate) struct Feed {
    state: State,
    redactor: Option<Redactor>,
    late_events: u64,
}

impl Feeds {
    fn of(&self, run_id: &RunId) -> Arc<tokio::sync::Mutex<Feed>> {
        // Nothing panics while it is held.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(id, _)| id == run_id);
        let entry = at.and_then(|at| kept.remove(at)).unwrap_or_else(|| (run_id.clone(), Arc::default()));
        let feed = entry.1.clone();
        kept.push_back(entry);
        if kept.len() > KEPT_MAX {
            // What is forgotten is read again from the log.
            kept.pop_front();
        }
        feed
    }
}

impl Host {
    /// Makes a run that is fed from outside, and gives its id.
    ///
    /// Errors: `invalid` where `provider` is no name; those of the store.
    pub async fn open_outside_run(&self, run: OutsideRun) -> Result<RunId> {
        let profile = ProfileName::new(run.provider.as_str())?;
        let (run_id, t_ms) = (new_run_id()?, now_ms());
        let redactor = self.redactor_of(&profile).await?;
        let task_id = run.task_id.unwrap_or_else(|| format!("task-{run_id}"));
        let mut created = json!({
            "profile": profile,
            "task_id": task_id,
            "task": { "goal": run.goal.clone().unwrap_or_default() },
            "grants": [],
            "format": FORMAT_VERSION,
        });
        redactor.json(&mut created);
        if let Some(name) = run.sender_run_id {
            // Not redacted: it is what batches are compared with.
            created["sender_run_id"] = Value::from(name);
        }
        let events = stream::opened(created);
        let state = folded(&State::default(), &run_id, t_ms, &events);
        let goal = midplane_core::text::preview(&run.goal.unwrap_or_default(), 200);
        let summary = json!({ "goal": redactor.text(&goal), stream::OUTSIDE: true });
        let index = index_of(&state.run, &profile, &task_id, t_ms, None, summary);
        let append = Append { run_id: run_id.clone(), expected_seq: 0, t_ms, events, index: Some(index) };
        self.inner.store.log.append(append).await?;
        Ok(run_id)
    }

    /// Appends a batch of a run that is fed from outside: all of it or nothing. When it returns, the batch is durable, so
    /// one that got no answer may be sent again, to this process or another.
    ///
    /// Errors are those of the host (`not-found` `run-unknown`, `conflict` `run-inside`, those of the store); what is wrong
    /// with the batch is [`Ingested::Refused`].
    pub async fn ingest(&self, run_id: &RunId, batch_text: &str) -> Result<Ingested> {
        let feed = self.inner.feeds.of(run_id);
        let mut feed = feed.lock().await;
        let row = self.read_on(run_id, &mut feed).await?;
        let redactor = match &feed.redactor {
            Some(redactor) => redactor.clone(),
            None => feed.redactor.insert(self.redactor_of(&row.index.profile).await?).clone(),
        };
        let refused = |mut error: Error, feed: &Feed| {
            // A message quotes the batch.
            redactor.error(&mut error);
            Ok(Ingested::Refused { error, late_events: feed.late_events })
        };
        let arrivals = match self.arrivals(run_id, &feed.state, batch_text, &redactor) {
            Ok(arrivals) => arrivals,
            Err(error) => return refused(error, &feed),
        };
        let waited = feed.state.due_ms(0).is_some();
        let decided = self.decide(row, &mut feed, Input::Batch(&arrivals)).await?;
        if !waited && feed.state.due_ms(0).is_some() {
            self.settle_later(run_id.clone());
        }
        match decided {
            Ok(Verdict::Accepted(events)) => Ok(Ingested::Accepted { events }),
            Ok(Verdict::Duplicate) => Ok(Ingested::Duplicate),
            Err(error) => {
                if error.code == "after-terminal" {
                    let events = feed.state.late(&arrivals);
                    feed.late_events += events;
                    tracing::info!(run = %run_id, events, "events came after the terminal");
                }
                refused(error, &feed)
            }
        }
    }

    /// Takes note of how the job stands that feeds a run. One that has ended ends the run: what its sender claimed and what is
    /// observed become the one terminal. Once the run has ended this changes nothing.
    ///
    /// Errors: `conflict` `illegal-transition` where a job cannot come to stand there; `run-unknown`, `run-inside`, those of
    /// the store.
    pub async fn observe_job(&self, run_id: &RunId, observation: &Observation) -> Result<()> {
        let feed = self.inner.feeds.of(run_id);
        let mut feed = feed.lock().await;
        let row = self.read_on(run_id, &mut feed).await?;
        self.decide(row, &mut feed, Input::Observed(observation)).await?.map(|_| ())
    }

    /// Settles a claim whose grace has passed. Whether the run has ended by it.
    pub(crate) async fn settle_if_due(&self, row: &RunRow) -> Result<bool> {
        let claimed_ms = row.index.summary.get(CLAIMED_MS).and_then(Value::as_u64);
        let grace_ms = self.inner.limits.grace_ms;
        if claimed_ms.is_none_or(|claimed_ms| claimed_ms.saturating_add(grace_ms) > now_ms()) {
            return Ok(false);
        }
        let feed = self.inner.feeds.of(&row.run_id);
        let mut feed = feed.lock().await;
        let row = self.read_on(&row.run_id, &mut feed).await?;
        let tick = Input::Tick { now_ms: now_ms(), grace_ms };
        self.decide(row, &mut feed, tick).await??;
        Ok(feed.state.run.status.is_terminal())
    }

    /// Notes that a caller wants such a run to stop. Its job is not this host's to stop.
    pub(crate) async fn stop_outside(&self, run_id: &RunId) -> Result<()> {
        let feed = self.inner.feeds.of(run_id);
        let mut feed = feed.lock().await;
        let row = self.read_on(run_id, &mut feed).await?;
        self.decide(row, &mut feed, Input::Stop(StopCause::User)).await?.map(|_| ())
    }

    fn arrivals(&self, run_id: &RunId, state: &State, text: &str, redactor: &Redactor) -> Result<Vec<stream::Arrival>> {
        let limits = &self.inner.limits;
        if text.len() as u64 > limits.batch_bytes_max {
            return Err(Error::limit("batch-size", format!("a batch has at most {} bytes", limits.batch_bytes_max)));
        }
        let batch = batch::validate(text)?;
        let named = state.run.created.as_ref().and_then(|created| created.get("sender_run_id")?.as_str());
        let name = named.unwrap_or(run_id.as_str());
        if batch.run_id() != *name {
            let other = midplane_core::text::shown(&batch.run_id().to_str_lossy(), 60);
            return Err(Error::invalid("run-mismatch", format!("the batch is of run `{other}`, not of `{name}`")));
        }
        stream::arrivals(&batch, redactor, limits)
    }

    /// Reads what was appended since, and gives the run's row.
    async fn read_on(&self, run_id: &RunId, feed: &mut Feed) -> Result<RunRow> {
        let row = self.row(run_id).await?;
        while feed.state.run.last_seq < row.last_seq {
            let page = self.inner.store.log.read(run_id, feed.state.run.last_seq + 1, READ_RECORDS_MAX).await?;
            if page.is_empty() {
                // Removed between the two; the next look says so.
                break;
            }
            page.iter().for_each(|record| feed.state.apply(record));
        }
        if !feed.state.is_outside() {
            return Err(Error::conflict("run-inside", format!("run `{run_id}` is driven by a plugin of this host"))
                .hint("`midplane runs open` makes a run that takes events from outside"));
        }
        Ok(row)
    }

    /// Asks, and appends what was decided, until no other process was quicker. The inner error is the refusal.
    async fn decide(&self, mut row: RunRow, feed: &mut Feed, input: Input<'_>) -> Result<Result<Verdict>> {
        let (log, limits) = (&self.inner.store.log, &self.inner.limits);
        loop {
            let now_ms = now_ms().max(feed.state.run.last_t_ms);
            // A claim whose grace has passed is the end, whatever came meanwhile.
            let tick = Input::Tick { now_ms, grace_ms: limits.grace_ms };
            let due = stream::step(&feed.state, tick, limits)?;
            let settles = !due.append.is_empty();
            let step = match settles {
                true => Ok(due),
                false => stream::step(&feed.state, input.clone(), limits),
            };
            let Step { verdict, append } = match step {
                Ok(step) => step,
                Err(error) => return Ok(Err(error)),
            };
            if append.is_empty() {
                return Ok(Ok(verdict));
            }
            let append = Append {
                run_id: row.run_id.clone(),
                expected_seq: feed.state.run.last_seq,
                t_ms: now_ms,
                index: index(&row, &feed.state, now_ms, &append),
                events: append,
            };
            match log.append(append).await {
                Ok(records) => {
                    records.iter().for_each(|record| feed.state.apply(record));
                    // In one append of one process, whoever ends the run.
                    if records.iter().any(|record| record.kind == EventKind::RuntimeTerminal) {
                        self.trace(&row.run_id);
                    }
                }
                // Another process was quicker, which is progress: it is read, and asked again.
                Err(error) if error.code == "log-seq" => {
                    row = self.read_on(&row.run_id, feed).await?;
                    continue;
                }
                Err(error) => return Err(error),
            }
            if !settles {
                return Ok(Ok(verdict));
            }
        }
    }

    /// Settles a claim once its grace has passed, if this process is still there.
    fn settle_later(&self, run_id: RunId) {
        let host = Arc::downgrade(&self.inner);
        let grace = Duration::from_millis(self.inner.limits.grace_ms);
        tokio::spawn(async move {
            tokio::time::sleep(grace).await;
            let Some(inner) = host.upgrade() else { return };
            let host = Self { inner };
            // A run that was closed or removed meanwhile needs nothing.
            if let Ok(row) = host.row(&run_id).await
                && let Err(error) = host.settle_if_due(&row).await
            {
                tracing::warn!(run = %run_id, %error, "a claimed end cannot be written");
            }
        });
    }
}

/// In a row's summary: when an end was claimed, in milliseconds since 1970 UTC.
const CLAIMED_MS: &str = "claimed_ms";

/// The row after an append, where the append changes it.
fn index(row: &RunRow, state: &State, t_ms: u64, events: &[Event]) -> Option<RunIndex> {
    let after = folded(state, &row.run_id, t_ms, events);
    let claims = state.due_ms(0).is_none() && after.due_ms(0).is_some();
    if !claims && !events.iter().any(changes_index) {
        return None;
    }
    let RunIndex { profile, task_id, created_ms, summary, .. } = row.index.clone();
    let mut summary = match summary {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    if let Some(claimed_ms) = after.due_ms(0) {
        summary.insert(CLAIMED_MS.to_owned(), Value::from(claimed_ms));
    }
    Some(index_of(&after.run, &profile, &task_id, created_ms, None, Value::Object(summary)))
}

/// The state once these events are appended.
fn folded(state: &State, run_id: &RunId, t_ms: u64, events: &[Event]) -> State {
    let mut state = state.tip();
    for event in events {
        state.apply(&Record {
            run_id: run_id.clone(),
            seq: state.run.last_seq + 1,
            t_ms,
            kind: event.kind,
            data: event.data.clone(),
        });
    }
    state
}
