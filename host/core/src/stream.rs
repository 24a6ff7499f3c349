//! The rules above one batch: retries, conflicts, one terminal. For runs whose events come from outside.
//!
//! ```text
//!  batch ─► batch::validate ─► arrivals (redacted, one identity each) ─┐
//!  the job was seen ───────────────────────────────────────────────────┼─► step ─► events to append, or a refusal
//!  time passed, a caller wants it to stop ─────────────────────────────┘
//! ```
//! The happy path: `opened` makes a run, batches are appended, the sender's `runtime_terminal` is kept as a *claim*, the
//! job is seen to end, and claim and observation become the one `runtime_terminal`. The rules are those that antpath
//! leaves to its host: a batch continues its run in `seq` and `tMs`; what was sent before is a no-op if it is the same
//! and a conflict if not; nothing is applied by halves; the host owns the terminal, and nothing follows it.
//!
//! [`step`] decides and [`State::apply`] folds, as in [`crate::run`]: the state is the fold of the log, so it does not
//! matter which process took a batch, or whether one was killed before it could answer.
//!
//! # Layout
//! - this file: the state, its fold, the decisions
//! - `stream/arrival.rs`: an event of a batch as an event of the log, and what it is recognised by
//! - `stream/ending.rs`: claim and observation as one outcome
//!
//! # What it never does
//! It trusts no word of the sender about the run's state: a notification of a type that is the host's is kept as text.
//! It holds no text back between two batches, since each is durable when it is answered: a secret that is cut by the
//! border of two batches is not found, one that is cut within a batch is.

mod arrival;
mod ending;

use serde_json::{Map, Value, json};

pub use arrival::{Arrival, arrivals};
pub use ending::Observation;

use crate::codes::codes;
use crate::event::{Event, EventKind, Record};
use crate::limits::Limits;
use crate::run::{self, End, StopCause};
use crate::{Error, Result};

use arrival::Identity;

/// The field of a record's data that says what the sender called it: `seq`, `t_ms`, the digest of its content, and, where
/// the log cannot hold the data as it is, its `text`.
pub const OUTSIDE: &str = "outside";

/// The type of the notification that holds a terminal of the sender until the host writes its own.
pub const CLAIM: &str = "claim";

/// The `reason` of a terminal that the host wrote because the job ended without one.
pub const NO_TERMINAL: &str = "runtime_exited_without_terminal";

/// Records that a run keeps free for the host: its status and its terminal.
const RESERVED: u64 = 4;

/// A run that is fed from outside, as its log tells it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// What it is like any other run.
    pub run: run::State,
    /// Sequence number and identity of each event that was taken, ascending; 24 bytes each, at most `run_events_max`.
    seen: Vec<(f64, Identity)>,
    last_t_ms: f64,
    started: bool,
    claim: Option<Claim>,
}

/// A terminal of the sender that waits for the job to end.
#[derive(Debug, Clone, PartialEq)]
struct Claim {
    data: Map<String, Value>,
    /// When it was written, by the host's clock.
    t_ms: u64,
}

/// What came, or is asked.
#[derive(Debug, Clone)]
pub enum Input<'a> {
    /// A batch.
    Batch(&'a [Arrival]),
    /// The job was seen.
    Observed(&'a Observation),
    /// Time passed: a claim that has waited for `grace_ms` becomes the terminal without the job.
    Tick {
        /// Now, in milliseconds since 1970 UTC.
        now_ms: u64,
        /// How long a claim waits.
        grace_ms: u64,
    },
    /// A caller wants it to stop.
    Stop(StopCause),
}

/// A decision.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What the sender is told.
    pub verdict: Verdict,
    /// What to append, as one batch. Nothing where nothing is to be done.
    pub append: Vec<Event>,
}

/// What a batch that is not refused was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// So many of its events are new.
    Accepted(usize),
    /// All of it was there.
    Duplicate,
}

/// The first records of a run that is fed from outside. `created` is what the record of that name carries.
#[must_use]
pub fn opened(created: Value) -> Vec<Event> {
    let mut created = Event::notification("created", created);
    created.data.insert(OUTSIDE.to_owned(), Value::Bool(true));
    let status = |word: &str| Event::notification("status", json!({ "status": word }));
    vec![created, status("queued"), status("provisioning")]
}

impl State {
    /// The fold of a log.
    #[must_use]
    pub fn of<'a>(records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut state = Self::default();
        records.into_iter().for_each(|record| state.apply(record));
        state
    }

    /// Folds one more record in.
    pub fn apply(&mut self, record: &Record) {
        self.run.apply(record);
        let Some(place) = arrival::place(&record.data) else { return };
        self.seen.push((place.seq, place.identity));
        self.last_t_ms = place.t_ms;
        self.started |= record.kind == EventKind::RuntimeStarted;
        if self.claim.is_none() && arrival::is_claim(record) {
            self.claim = Some(Claim { data: arrival::claimed(&record.data), t_ms: record.t_ms });
        }
    }

    /// Whether its events come from outside.
    #[must_use]
    pub fn is_outside(&self) -> bool {
        self.run.created.as_ref().is_some_and(|created| created.get(OUTSIDE) == Some(&Value::Bool(true)))
    }

    /// Sequence number and time of the last event that was taken.
    #[must_use]
    pub fn last(&self) -> Option<(f64, f64)> {
        self.seen.last().map(|(seq, _)| (*seq, self.last_t_ms))
    }

    /// The state without what it has seen: enough to see what an append would make of the run, and cheap to copy.
    #[must_use]
    pub fn tip(&self) -> Self {
        Self { seen: Vec::new(), run: self.run.clone(), claim: self.claim.clone(), ..*self }
    }

    /// How many events of a batch are not there: those that are counted when it comes after the terminal.
    #[must_use]
    pub fn late(&self, arrivals: &[Arrival]) -> u64 {
        self.unseen(arrivals).map_or(0, |new| new.len() as u64)
    }

    /// When a claim that waits becomes the terminal, in milliseconds since 1970 UTC.
    #[must_use]
    pub fn due_ms(&self, grace_ms: u64) -> Option<u64> {
        let waits = self.claim.as_ref().filter(|_| !self.run.status.is_terminal())?;
        Some(waits.t_ms.saturating_add(grace_ms))
    }

    /// The events of a batch that were not taken before, all others being the same as they were.
    fn unseen<'a>(&self, arrivals: &'a [Arrival]) -> Result<&'a [Arrival]> {
        let Some((last_seq, _)) = self.last() else { return Ok(arrivals) };
        // In a batch they ascend, so those that were there come first.
        let (old, new) = arrivals.split_at(arrivals.partition_point(|arrival| arrival.seq <= last_seq));
        for arrival in old {
            let seq = arrival.seq_text();
            match self.seen.binary_search_by(|(seen, _)| seen.total_cmp(&arrival.seq)) {
                Ok(at) if self.seen.get(at).is_some_and(|(_, identity)| *identity == arrival.identity) => {}
                Ok(_) => {
                    return Err(Error::conflict(
                        "seq-conflict",
                        format!("seq {seq} was sent before with other content"),
                    )
                    .hint("a batch that is sent again is the same to the last field"));
                }
                Err(_) => {
                    let last = crate::json::number_text(last_seq);
                    return Err(Error::conflict("seq-behind", format!("seq {seq} comes after seq {last} was taken"))
                        .hint("events are sent in their order, and a batch that got no answer before the next one"));
                }
            }
        }
        Ok(new)
    }
}

/// Decides. What is refused changes nothing: `seq-conflict`, `seq-behind`, `time-behind`, `not-started`,
/// `started-twice`, `after-terminal`, `run-events` for a batch; `illegal-transition` for an observation.
pub fn step(state: &State, input: Input<'_>, limits: &Limits) -> Result<Step> {
    let done = |append| Step { verdict: Verdict::Accepted(0), append };
    match input {
        Input::Batch(arrivals) => batch(state, arrivals, limits),
        Input::Observed(seen) => observed(state, seen).map(done),
        Input::Tick { now_ms, grace_ms } => match (&state.claim, state.due_ms(grace_ms)) {
            (Some(claim), Some(due_ms)) if due_ms <= now_ms => end(state, Some(claim), None).map(done),
            _ => Ok(done(Vec::new())),
        },
        Input::Stop(cause) => Ok(done(run::step(&state.run, run::Input::Stop(cause))?.append)),
    }
}

fn batch(state: &State, arrivals: &[Arrival], limits: &Limits) -> Result<Step> {
    let new = state.unseen(arrivals)?;
    let Some(first) = new.first() else { return Ok(Step { verdict: Verdict::Duplicate, append: Vec::new() }) };
    let after = |what: &str| {
        Err(Error::conflict("after-terminal", format!("the run {what}, and nothing follows that"))
            .hint("the sender's terminal is its last event"))
    };
    if state.run.status.is_terminal() {
        return after("has ended");
    }
    // A second claim is kept beside the first; anything else after one contradicts it.
    let mut claimed = state.claim.is_some();
    for arrival in new {
        if claimed && arrival.event.kind != EventKind::RuntimeTerminal {
            return after("was claimed to be at its end");
        }
        claimed |= arrival.event.kind == EventKind::RuntimeTerminal;
    }
    if let Some((_, last_t_ms)) = state.last()
        && first.t_ms < last_t_ms
    {
        let (t_ms, last) = (crate::json::number_text(first.t_ms), crate::json::number_text(last_t_ms));
        let message = format!("seq {} has tMs {t_ms}, and the run is at tMs {last}", first.seq_text());
        return Err(Error::invalid("time-behind", message));
    }
    check_start(state, new)?;
    if state.run.last_seq + new.len() as u64 + RESERVED > limits.run_events_max {
        return Err(Error::limit("run-events", format!("a run has at most {} events", limits.run_events_max)));
    }
    // The first event shows that the job runs. A run that is stopping stays so, whatever still arrives.
    let mut append = match state.run.status {
        run::Status::Provisioning => run::step(&state.run, run::Input::Running)?.append,
        _ => Vec::new(),
    };
    append.extend(new.iter().map(Arrival::to_event));
    Ok(Step { verdict: Verdict::Accepted(new.len()), append })
}

/// `runtime_started` is the first event, and comes once. A runtime that never got ready may still end.
fn check_start(state: &State, new: &[Arrival]) -> Result<()> {
    let mut started = state.started;
    for arrival in new {
        match arrival.event.kind {
            EventKind::RuntimeStarted if started => {
                let message = format!("seq {} is a second `runtime_started`", arrival.seq_text());
                return Err(Error::invalid("started-twice", message));
            }
            EventKind::RuntimeStarted => started = true,
            EventKind::RuntimeTerminal => {}
            kind if !started => {
                let message = format!("seq {} is a `{}`, before `runtime_started`", arrival.seq_text(), kind.as_str());
                return Err(
                    Error::invalid("not-started", message).hint("the first event of a run is `runtime_started`")
                );
            }
            _ => {}
        }
    }
    Ok(())
}

fn observed(state: &State, seen: &Observation) -> Result<Vec<Event>> {
    if state.run.status.is_terminal() {
        // The first end holds; what is seen later cannot follow the terminal any more.
        return Ok(Vec::new());
    }
    if !seen.status.is_terminal() {
        return run::step(&state.run, run::Input::Observed(seen.status)).map(|step| step.append);
    }
    end(state, state.claim.as_ref(), Some(seen))
}

fn end(state: &State, claim: Option<&Claim>, seen: Option<&Observation>) -> Result<Vec<Event>> {
    let outcome = ending::outcome(claim.map(|claim| &claim.data), seen);
    run::step(&state.run, run::Input::End(End::Settled(Box::new(outcome)))).map(|step| step.append)
}

codes! {
    /// What a batch is refused with, alone and in its run, and what an outcome of such a run carries.
    Conflict "seq-conflict":
        "An event with this `seq` was taken before, and its content was another."
        => "Give each event a `seq` of its own; send a batch again only as it was.";
    Conflict "seq-behind":
        "An event comes with a `seq` that lies before the last one taken, and was never sent."
        => "Send events in their order, and wait for the answer to a batch before the next one is sent.";
    Invalid "time-behind":
        "A batch begins at a `tMs` before that of the last event taken."
        => "Take `tMs` from a clock that never goes back within a run.";
    Invalid "not-started":
        "The first event of the run is no `runtime_started`."
        => "Send `runtime_started` first; only a `runtime_terminal` may come without it.";
    Invalid "started-twice":
        "The run has started, and another `runtime_started` came."
        => "Send it once in a run. A second attempt is a run of its own.";
    Conflict "after-terminal":
        "The run has ended, or its sender has claimed its end, and another event came. Such events are counted."
        => "Send the terminal last.";
    Invalid "run-mismatch":
        "The batch names another run than the one that it was sent to."
        => "Put the id that `midplane runs open` printed into `runId`, or open the run with the sender's own id.";
    Unsupported "run-outside":
        "The run is fed from outside, and only a run of a plugin can be steered."
        => "Talk to the runner itself.";
    Conflict "run-inside":
        "The run is driven by a plugin of this host, so no events are taken for it from outside."
        => "Open a run for the sender with `midplane runs open`.";
    Internal "no-terminal":
        "A run ended and nobody had said how: its sender sent no terminal, or its driver was lost."
        => "Look at what the job itself wrote; a runtime sends `runtime_terminal` before it exits.";
    Internal "job-failed":
        "The job that fed the run was seen to fail: by its exit code, or by the word of what runs it."
        => "Look at the exit code and the class of the error in the outcome, and at what the job wrote.";
    Internal "runtime-failed":
        "The runtime claimed that the run failed."
        => "Look at `metadata.claim` of the outcome, which is what it said.";
    Invalid "invalid_envelope":
        "A batch is no JSON object."
        => "Send `{\"v\":1,\"runId\":…,\"events\":[…]}`.";
    Invalid "version_mismatch":
        "The field `v` of a batch is not 1."
        => "Send version 1 of the envelope.";
    Invalid "missing_run_id":
        "The field `runId` of a batch is no text, or empty."
        => "Put the id of the run into `runId`.";
    Invalid "empty_batch":
        "The field `events` of a batch is no array, or empty."
        => "Send at least one event.";
    Invalid "batch_too_large":
        "A batch has more than 256 events."
        => "Send them in several batches.";
    Invalid "invalid_event":
        "An event has not the shape of one; the message names its index and field."
        => "Give each event `seq`, `tMs`, one of the nine kinds, and an object as `data`.";
    Invalid "seq_not_monotonic":
        "In a batch, `seq` does not grow from one event to the next."
        => "Number events upwards, each with a number of its own.";
    Invalid "t_ms_not_monotonic":
        "In a batch, `tMs` falls from one event to the next."
        => "Take `tMs` from a clock that never goes back within a run.";
    Invalid "not-json":
        "A text is not JSON; the message says where."
        => "Mend the text at the line and column that the message names.";
    Limit "json-depth":
        "A JSON text has too many levels of arrays and objects."
        => "Send flatter data.";
    Limit "json-size":
        "A JSON text has more bytes than can be read."
        => "Send it in parts.";
}
