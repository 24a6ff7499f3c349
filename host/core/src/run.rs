//! The machine of a run.
//!
//! ```text
//!  queued ──► provisioning ──► running ──────────► terminated   (done, interrupted)
//!    │             │              │                    ▲
//!    │             └──► stopping ◄┘                    │
//!    │                     └───────────────────────────┤
//!    └─────────────────────────────────────────────────┴──► failed   (all other reasons)
//! ```
//! The happy path: `Create` writes the task and queues it; the driver takes it up (`Provision`), has the plugin's instance
//! ready (`Running`), appends what it emits (`Events`), and hands in how the call ended (`End`), of which the machine
//! makes the one `runtime_terminal`. `Stop` may come at any time and is first come, first served.
//!
//! [`step`] decides: a pure function from a state and an input to the records to append and the effects to carry out
//! *after* they are durable. [`State::apply`] folds a record into a state; nothing else changes one. So the state of
//! a run is the fold of its log, whoever reads it. The 36 cells of [`Status::to`] are antpath's job matrix.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::event::{Event, EventKind, Record};
use crate::outcome::{Claim, FinishReason, Outcome, Usage};
use crate::{Error, Result};

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Accepted and written; nothing was started.
    Queued,
    /// The workspace is prepared and the plugin instantiated.
    Provisioning,
    /// The plugin's `run` is in flight.
    Running,
    /// It was told to stop and may still wind down.
    Stopping,
    /// Ended as it should: done, or interrupted by a caller.
    Terminated,
    /// Ended otherwise.
    Failed,
}

/// What a change of status would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// To where it is: nothing is written.
    Noop,
    /// A step of the order.
    Legal,
    /// Legal with `running` in between, so that a recorded history always walks the order.
    Expanded,
    /// Never.
    Refused,
}

impl Status {
    /// All six, in the order a run walks them.
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Provisioning, Self::Running, Self::Stopping, Self::Terminated, Self::Failed];

    /// The word in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Provisioning => "provisioning",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Terminated => "terminated",
            Self::Failed => "failed",
        }
    }

    /// The status of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// Whether nothing follows.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Terminated | Self::Failed)
    }

    /// The cell of the matrix. Rows and columns in the order of [`Status::ALL`].
    #[must_use]
    pub fn to(self, next: Self) -> Move {
        use Status::{Failed, Provisioning, Queued, Running, Stopping, Terminated};
        match (self, next) {
            (from, to) if from == to => Move::Noop,
            (Queued, Provisioning | Terminated | Failed)
            | (Provisioning, Running | Stopping | Failed)
            | (Running, Stopping | Terminated | Failed)
            | (Stopping, Terminated | Failed) => Move::Legal,
            // A call can end before anyone saw it run.
            (Provisioning, Terminated) => Move::Expanded,
            _ => Move::Refused,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a run is told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopCause {
    /// A caller cancelled it.
    User,
    /// The host is shutting down.
    Shutdown,
    /// The deadline passed.
    Deadline,
    /// The budget of the task is spent.
    Budget,
    /// The task has a budget, and nobody knows what its model costs.
    Unpriced,
    /// Nothing came for too long after it was called.
    FirstEvent,
    /// Nothing came for too long after something had.
    Idle,
}

impl StopCause {
    fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Shutdown => "shutdown",
            Self::Deadline => "deadline",
            Self::Budget => "budget",
            Self::Unpriced => "unpriced",
            Self::FirstEvent => "first_event",
            Self::Idle => "idle",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        use StopCause::{Budget, Deadline, FirstEvent, Idle, Shutdown, Unpriced, User};
        let all = [User, Shutdown, Deadline, Budget, Unpriced, FirstEvent, Idle];
        all.into_iter().find(|cause| cause.as_str() == word)
    }

    /// What the outcome is when the host stopped the run for this cause, whatever the adapter says.
    fn verdict(self) -> (FinishReason, Option<Error>) {
        match self {
            Self::User | Self::Shutdown => (FinishReason::Interrupted, None),
            Self::Deadline => (
                FinishReason::TimedOut,
                Some(
                    Error::cancelled("deadline", "the run's deadline passed")
                        .hint("give it more time with `--timeout`"),
                ),
            ),
            Self::Budget => (FinishReason::Failed, Some(Error::limit("budget", "the run's budget is spent"))),
            Self::Unpriced => {
                let error = Error::unsupported("budget-unpriced", "the budget cannot be kept: its model has no price");
                let hint = "give one under `prices` in the configuration, or leave the budget out";
                (FinishReason::Failed, Some(error.hint(hint)))
            }
            Self::FirstEvent => (
                FinishReason::TimedOut,
                Some(
                    Error::unavailable(
                        "first-event-timeout",
                        "nothing came from the agent in the time for a beginning",
                    )
                    .hint("raise `first_event_ms_max` under `limits` if its vendor is that slow"),
                ),
            ),
            Self::Idle => (
                FinishReason::TimedOut,
                Some(
                    Error::unavailable("idle-timeout", "nothing came from the agent for too long")
                        .hint("raise `idle_ms_max` under `limits` if its tools take that long"),
                ),
            ),
        }
    }
}

/// How the call of a plugin ended when it did not return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It trapped: a defect of the plugin. With the engine's words.
    Trap(String),
    /// It asked for more memory, tables or instances than it may have.
    Memory(String),
    /// It recursed too deep.
    Stack,
    /// It computed longer than it may.
    Cpu,
    /// It passed an argument larger than the bound of one call.
    Argument(String),
    /// It held more handles than it may.
    Handles,
    /// It did not return before the grace period ended and was dropped.
    Dropped,
    /// It could not be instantiated.
    Instantiate(String),
}

impl Fault {
    /// The error that the outcome carries.
    #[must_use]
    pub fn error(&self) -> Error {
        match self {
            Self::Trap(why) => Error::internal("trap", format!("the plugin trapped: {why}")),
            Self::Memory(why) => Error::limit("memory", format!("the plugin hit its memory bound: {why}")),
            Self::Stack => Error::limit("stack", "the plugin exhausted its stack"),
            Self::Cpu => Error::limit("cpu", "the plugin computed longer than its bound"),
            Self::Argument(why) => Error::limit("argument-size", format!("the plugin passed too much at once: {why}")),
            Self::Handles => Error::limit("handles", "the plugin held too many handles"),
            Self::Dropped => Error::cancelled("dropped", "the plugin did not return and was dropped"),
            Self::Instantiate(why) => Error::internal("instantiate", format!("the plugin could not be started: {why}")),
        }
    }
}

/// How a run came to its end.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// The adapter returned an outcome. `unfit` says why its structured answer is not one, if it is not.
    Returned {
        /// What the adapter says.
        claim: Box<Claim>,
        /// What is wrong with `parsed_output` against the task's schema.
        unfit: Option<Error>,
    },
    /// The adapter returned an error, or the host could not provision.
    Refused(Error),
    /// The call ended without returning.
    Fault(Fault),
    /// The process that drove the run is gone; another one closes it.
    HostLost,
    /// A run that is fed from outside ended so ([`crate::stream`]).
    Settled(Box<Outcome>),
}

/// What happened, or is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A run is accepted; the object is what `created` carries (profile, plugin, digest, task).
    Create(Value),
    /// The driver takes it up.
    Provision,
    /// The instance is ready and `run` is called.
    Running,
    /// The job of a run that is fed from outside was seen to stand here.
    Observed(Status),
    /// Checked and redacted events, of the plugin or the host.
    Events(Vec<Event>),
    /// Someone or something wants it to stop.
    Stop(StopCause),
    /// The call ended.
    End(End),
}

/// What the driver does once the records are durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Prepare the workspace and the instance.
    Provision,
    /// Call the plugin.
    Invoke,
    /// Raise the cancel flag, tell the vendor, and start the grace period.
    Cancel,
    /// Nothing is left to do: release everything and tell who waits.
    Finish,
}

/// A decision: append these, then do those.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Step {
    /// Events to append, in order, as one batch.
    pub append: Vec<Event>,
    /// What to do afterwards.
    pub effects: Vec<Effect>,
}

/// A run as its log tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// Where it stands. Meaningless before the first record.
    pub status: Status,
    /// Sequence number of the last record, 0 for an empty log.
    pub last_seq: u64,
    /// Time of the last record.
    pub last_t_ms: u64,
    /// What `created` carried.
    pub created: Option<Value>,
    /// The conversation that was last named.
    pub session_id: Option<String>,
    /// What was used so far.
    pub usage: Usage,
    /// The model that answers, as the adapter named it last.
    pub model: Option<String>,
    /// What it cost so far by the host's own table, where the vendor does not say.
    pub cost_estimate_usd: Option<f64>,
    /// Why it is stopping, if it is.
    pub stop: Option<StopCause>,
    /// The result, once there is one.
    pub outcome: Option<Outcome>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            status: Status::Queued,
            last_seq: 0,
            last_t_ms: 0,
            created: None,
            session_id: None,
            usage: Usage::default(),
            model: None,
            cost_estimate_usd: None,
            stop: None,
            outcome: None,
        }
    }
}

impl State {
    /// The fold of a log.
    #[must_use]
    pub fn of<'a>(records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut state = Self::default();
        for record in records {
            state.apply(record);
        }
        state
    }

    /// Folds one more record in. Total: a record that makes no sense changes only the position.
    pub fn apply(&mut self, record: &Record) {
        self.last_seq = record.seq;
        self.last_t_ms = self.last_t_ms.max(record.t_ms);
        let text = |name: &str| record.data.get(name).and_then(Value::as_str);
        match record.kind {
            EventKind::RuntimeStarted => {
                if let Some(id) = text("session_id") {
                    self.session_id = Some(id.to_owned());
                }
                if let Some(model) = text("model") {
                    self.model = Some(model.to_owned());
                }
            }
            EventKind::Notification => match text("type") {
                Some("created") if self.created.is_none() => {
                    self.created = Some(Value::Object(record.data.clone()));
                }
                Some("status") => {
                    if let Some(status) = text("status").and_then(Status::parse) {
                        self.status = status;
                    }
                    if let Some(cause) = text("reason").and_then(StopCause::parse) {
                        self.stop = Some(cause);
                    }
                }
                Some("usage") => {
                    if let Ok(later) = Usage::deserialize(Value::Object(record.data.clone())) {
                        self.usage = std::mem::take(&mut self.usage).or_later(later);
                    }
                }
                Some("cost") => self.cost_estimate_usd = record.data.get("estimate_usd").and_then(Value::as_f64),
                Some("session") => {
                    if let Some(id) = text("session_id") {
                        self.session_id = Some(id.to_owned());
                    }
                }
                _ => {}
            },
            EventKind::RuntimeTerminal if self.outcome.is_none() => {
                let outcome = Outcome::deserialize(Value::Object(record.data.clone())).unwrap_or_else(|error| {
                    // Only the host writes terminals; one that does not read back is damage, and still an end.
                    Outcome::ended(
                        FinishReason::Failed,
                        Some(Error::internal("terminal", format!("unreadable terminal: {error}"))),
                    )
                });
                self.status = match outcome.finish_reason {
                    FinishReason::Done | FinishReason::Interrupted => Status::Terminated,
                    _ => Status::Failed,
                };
                self.outcome = Some(outcome);
            }
            _ => {}
        }
    }
}

/// Decides. Refusals are `conflict`: `run-exists`, `run-ended`, `illegal-transition`.
pub fn step(state: &State, input: Input) -> Result<Step> {
    if state.created.is_none() != matches!(input, Input::Create(_)) {
        return Err(Error::conflict("run-exists", "a run is created once, and before all else"));
    }
    match input {
        Input::Create(data) => Ok(Step {
            append: vec![Event::notification("created", data), status(Status::Queued, None)],
            effects: vec![Effect::Provision],
        }),
        Input::Provision => advance(state, Status::Provisioning, Effect::Invoke),
        Input::Running => advance(state, Status::Running, Effect::Invoke).map(|mut step| {
            // `Invoke` belongs to provisioning; that it runs is only noted.
            step.effects.clear();
            step
        }),
        Input::Observed(next) => match state.status.to(next) {
            Move::Noop => Ok(Step::default()),
            // How it ends is handed in as an end.
            Move::Legal if !next.is_terminal() => Ok(Step { append: vec![status(next, None)], effects: Vec::new() }),
            _ => Err(illegal(state.status, next)),
        },
        Input::Events(events) => {
            if state.status.is_terminal() {
                return Err(Error::conflict("run-ended", "the run has ended"));
            }
            Ok(Step { append: events, effects: Vec::new() })
        }
        Input::Stop(cause) => Ok(stop(state, cause)),
        Input::End(end) => Ok(finish(state, end)),
    }
}

fn status(status: Status, cause: Option<StopCause>) -> Event {
    let data = match cause {
        None => json!({ "status": status.as_str() }),
        Some(cause) => json!({ "status": status.as_str(), "reason": cause.as_str() }),
    };
    Event::notification("status", data)
}

fn advance(state: &State, next: Status, effect: Effect) -> Result<Step> {
    match state.status.to(next) {
        Move::Noop => Ok(Step::default()),
        Move::Legal => Ok(Step { append: vec![status(next, None)], effects: vec![effect] }),
        Move::Expanded | Move::Refused => Err(illegal(state.status, next)),
    }
}

fn illegal(from: Status, next: Status) -> Error {
    Error::conflict("illegal-transition", format!("a run cannot go from `{from}` to `{next}`"))
}

fn stop(state: &State, cause: StopCause) -> Step {
    match state.status {
        // Nothing exists that could be stopped, so there is no `stopping`.
        Status::Queued => {
            let (reason, error) = cause.verdict();
            let mut outcome = Outcome::ended(reason, error);
            outcome.reason = Some(cause.as_str().to_owned());
            Step { append: vec![terminal(&outcome)], effects: vec![Effect::Finish] }
        }
        Status::Provisioning | Status::Running => {
            Step { append: vec![status(Status::Stopping, Some(cause))], effects: vec![Effect::Cancel] }
        }
        // The first cause holds; to stop what has ended is a success without effect.
        Status::Stopping | Status::Terminated | Status::Failed => Step::default(),
    }
}

fn finish(state: &State, end: End) -> Step {
    if state.status.is_terminal() {
        return Step::default();
    }
    let outcome = merge(state, end);
    let target = match outcome.finish_reason {
        FinishReason::Done | FinishReason::Interrupted => Status::Terminated,
        _ => Status::Failed,
    };
    let mut append = Vec::with_capacity(2);
    if state.status.to(target) == Move::Expanded {
        append.push(status(Status::Running, None));
    }
    append.push(terminal(&outcome));
    Step { append, effects: vec![Effect::Finish] }
}

fn terminal(outcome: &Outcome) -> Event {
    // An outcome always serialises: it has text keys, finite numbers and JSON values only.
    Event::new(
        EventKind::RuntimeTerminal,
        serde_json::to_value(outcome).unwrap_or_else(|_| json!({ "finish_reason": "failed" })),
    )
}

/// The claim of the adapter and what the host saw, made one. The host's own acts come first: where it stopped the run,
/// its cause is the reason; the adapter's usage, audits, text and session are kept all the same.
fn merge(state: &State, end: End) -> Outcome {
    let mut outcome = match end {
        End::Returned { claim, unfit } => returned(*claim, unfit),
        End::Refused(error) => Outcome::ended(FinishReason::Failed, Some(error)),
        End::Fault(fault) => Outcome::ended(FinishReason::Failed, Some(fault.error())),
        End::HostLost => {
            let mut outcome = Outcome::ended(
                FinishReason::Failed,
                Some(Error::unavailable("host-lost", "the process that drove the run is gone")),
            );
            outcome.reason = Some("host_lost".to_owned());
            outcome
        }
        End::Settled(outcome) => *outcome,
    };
    if let Some(cause) = state.stop {
        let (reason, error) = cause.verdict();
        outcome.finish_reason = reason;
        outcome.error = error;
        if outcome.reason.is_none() {
            outcome.reason = Some(cause.as_str().to_owned());
        }
    }
    outcome.usage = state.usage.clone().or_later(outcome.usage);
    if outcome.usage.cost_usd.is_none() {
        outcome.cost_estimate_usd = state.cost_estimate_usd;
    }
    if outcome.session_id.is_none() {
        outcome.session_id.clone_from(&state.session_id);
    }
    outcome
}

fn returned(claim: Claim, unfit: Option<Error>) -> Outcome {
    let (finish_reason, error) = match (FinishReason::parse(&claim.finish_reason), claim.error) {
        (Some(FinishReason::Done), None) => match unfit {
            None => (FinishReason::Done, None),
            some => (FinishReason::Failed, some),
        },
        // An error beside `done` is a contradiction; the worse half is believed.
        (Some(FinishReason::Done), Some(error)) => (FinishReason::Failed, Some(error)),
        (Some(FinishReason::Failed), None) => {
            (FinishReason::Failed, Some(Error::internal("no-error", "the plugin failed without saying why")))
        }
        (Some(reason), error) => (reason, error),
        (None, error) => {
            let word = crate::text::shown(&claim.finish_reason, 40);
            let unknown =
                || Error::internal("finish-reason", format!("the plugin gave the unknown finish reason `{word}`"));
            (FinishReason::Failed, Some(error.unwrap_or_else(unknown)))
        }
    };
    Outcome {
        finish_reason,
        output: claim.output,
        error,
        parsed_output: claim.parsed_output,
        usage: Usage::default().or_later(claim.usage),
        cost_estimate_usd: None,
        tool_calls: claim.tool_calls,
        artifacts: claim.artifacts,
        session_id: claim.session_id,
        rounds: claim.rounds,
        exit_code: None,
        reason: None,
        metadata: claim.metadata,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RunId;
    use proptest::prelude::*;

    #[test]
    fn the_matrix_has_36_cells() {
        let mut counts = [0; 4];
        let mut table = String::new();
        for from in Status::ALL {
            for to in Status::ALL {
                let (index, mark) = match from.to(to) {
                    Move::Noop => (0, '.'),
                    Move::Legal => (1, 'Y'),
                    Move::Expanded => (2, '*'),
                    Move::Refused => (3, '-'),
                };
                counts[index] += 1;
                table.push(mark);
            }
            table.push('\n');
        }
        assert_eq!(counts, [6, 11, 1, 18]);
        assert_eq!(table, ".Y--YY\n-.YY*Y\n--.YYY\n---.YY\n----.-\n-----.\n");
    }

    /// Appends a step's events as a store would, and folds them.
    fn commit(state: &mut State, log: &mut Vec<Record>, step: &Step) {
        let run_id = RunId::from_parts(1, 2);
        for event in &step.append {
            let record = Record {
                run_id: run_id.clone(),
                seq: state.last_seq + 1,
                t_ms: 10,
                kind: event.kind,
                data: event.data.clone(),
            };
            state.apply(&record);
            log.push(record);
        }
    }

    fn any_end() -> impl Strategy<Value = End> {
        let claim = prop_oneof!["done", "failed", "max_turns", "interrupted", "odd"]
            .prop_map(|finish_reason| Claim { finish_reason, ..Claim::default() });
        prop_oneof![
            (claim, any::<bool>()).prop_map(|(claim, unfit)| End::Returned {
                claim: Box::new(claim),
                unfit: unfit.then(|| Error::invalid("nonconforming", "no")),
            }),
            Just(End::Refused(Error::denied("x", "x"))),
            Just(End::Fault(Fault::Cpu)),
            Just(End::Fault(Fault::Dropped)),
            Just(End::HostLost),
        ]
    }

    fn any_input() -> impl Strategy<Value = Input> {
        let cause = prop_oneof![Just(StopCause::User), Just(StopCause::Deadline), Just(StopCause::Budget)];
        prop_oneof![
            1 => Just(Input::Create(json!({"profile": "p"}))),
            3 => Just(Input::Provision),
            3 => Just(Input::Running),
            4 => Just(Input::Events(vec![Event::notification("usage", json!({"input_tokens": 3}))])),
            1 => cause.prop_map(Input::Stop),
            1 => any_end().prop_map(Input::End),
        ]
    }

    proptest! {
        /// Whatever comes in whatever order: the fold of the log is the state, a history never goes back, nothing
        /// follows the one terminal, and a stopped run ends as its cause says.
        #[test]
        fn walks(inputs in proptest::collection::vec(any_input(), 1..40)) {
            let (mut state, mut log) = (State::default(), Vec::new());
            let first = step(&state, Input::Create(json!({}))).expect("create");
            commit(&mut state, &mut log, &first);
            let mut history = vec![state.status];
            for input in inputs {
                let ended = state.status.is_terminal();
                let stop = state.stop;
                if let Ok(step) = step(&state, input) {
                    prop_assert!(!ended || step == Step::default());
                    commit(&mut state, &mut log, &step);
                }
                if state.status != *history.last().expect("one") {
                    history.push(state.status);
                }
                if let (Some(StopCause::User), Some(outcome), false) = (stop, &state.outcome, ended) {
                    prop_assert_eq!(outcome.finish_reason, FinishReason::Interrupted);
                }
            }
            prop_assert_eq!(&State::of(&log), &state);
            prop_assert!(history.is_sorted());
            let terminals = log.iter().filter(|r| r.kind == EventKind::RuntimeTerminal).count();
            prop_assert_eq!(terminals, usize::from(state.status.is_terminal()));
        }
    }

    fn outcome_of(stop_cause: Option<StopCause>, end: End) -> String {
        let (mut state, mut log) = (State::default(), Vec::new());
        let mut feed = |input| {
            let decided = step(&state, input).expect("legal");
            commit(&mut state, &mut log, &decided);
        };
        feed(Input::Create(json!({})));
        feed(Input::Provision);
        feed(Input::Running);
        feed(Input::Events(vec![Event::notification("usage", json!({"input_tokens": 3}))]));
        if let Some(cause) = stop_cause {
            feed(Input::Stop(cause));
        }
        feed(Input::End(end));
        let outcome = state.outcome.expect("terminal");
        serde_json::to_string(&outcome).expect("json")
    }

    #[test]
    fn merge_of_claim_and_observation() {
        let claim = |finish: &str, error: Option<Error>| End::Returned {
            claim: Box::new(Claim {
                finish_reason: finish.to_owned(),
                error,
                output: "text".into(),
                ..Claim::default()
            }),
            unfit: None,
        };
        let unfit = End::Returned {
            claim: Box::new(Claim { finish_reason: "done".into(), ..Claim::default() }),
            unfit: Some(Error::invalid("nonconforming", "no")),
        };
        let x = || Some(Error::unavailable("x", "x"));
        let cases = [
            ("done", None, claim("done", None)),
            ("done with error", None, claim("done", x())),
            ("done, unfit answer", None, unfit),
            ("failed without error", None, claim("failed", None)),
            ("unknown word", None, claim("great", None)),
            ("max_turns", None, claim("max_turns", None)),
            ("error", None, End::Refused(Error::denied("d", "d"))),
            ("trap", None, End::Fault(Fault::Trap("unreachable".into()))),
            ("lost", None, End::HostLost),
            ("user, claims done", Some(StopCause::User), claim("done", None)),
            ("user, dropped", Some(StopCause::User), End::Fault(Fault::Dropped)),
            ("user, lost", Some(StopCause::User), End::HostLost),
            ("deadline, claims interrupted", Some(StopCause::Deadline), claim("interrupted", None)),
            ("budget, trap", Some(StopCause::Budget), End::Fault(Fault::Trap("x".into()))),
        ];
        let shown: Vec<String> =
            cases.into_iter().map(|(name, stop, end)| format!("{name}\n    {}", outcome_of(stop, end))).collect();
        insta::assert_snapshot!(shown.join("\n"));
    }

    #[test]
    fn stopped_while_queued_has_no_stopping() {
        let (mut state, mut log) = (State::default(), Vec::new());
        let created = step(&state, Input::Create(json!({}))).expect("create");
        commit(&mut state, &mut log, &created);
        let stopped = step(&state, Input::Stop(StopCause::User)).expect("stop");
        assert_eq!(stopped.effects, [Effect::Finish]);
        commit(&mut state, &mut log, &stopped);
        assert_eq!(state.status, Status::Terminated);
    }
}
