//! The one task that owns a run: the only writer of its log, the only one that decides where it stands.
//!
//! ```text
//!   commands (stop, steer) ─┐
//!   writes of the sink ─────┼─► step ─► append (durable) ─► fold ─► effects
//!   the plugin's call ──────┘
//! ```
//! Append precedes effect and precedes reply. The driver waits for one thing at a time, whatever comes first, and ends with
//! the terminal. If the log cannot be written, nothing can be promised any more: the call is dropped, who waits is told,
//! and the run is closed as lost by whoever can write again.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use midplane_core::event::{Event, EventKind, Record};
use midplane_core::limits::Limits;
use midplane_core::outcome::{Claim, Outcome};
use midplane_core::price::Prices;
use midplane_core::run::{self, Effect, End, Fault, Input, State, StopCause};
use midplane_core::{Error, ProfileName, Result, RunId};
use midplane_engine::{AgentTask, Control, Plugin, Ports, Signal};
use midplane_store::{Append, EventLog, RunIndex};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use crate::provision::{Kept, Provisioned, check_output};
use crate::sink::{RunSink, Write};
use crate::slots::Slot;
use crate::telemetry::Telemetry;

/// What others ask of a driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// End the run for this cause.
    Stop(StopCause),
    /// Give the agent a message.
    Steer(String),
}

/// Commands that may wait; more are refused, since a run takes them at once.
pub(crate) const COMMANDS_MAX: usize = 64;

/// The state of a run as those see it who wait for its end.
pub(crate) type Ended = Option<Result<Outcome>>;

/// All that a driver works with.
pub(crate) struct Driver {
    pub(crate) run_id: RunId,
    pub(crate) profile: ProfileName,
    pub(crate) task_id: String,
    pub(crate) owner: String,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) limits: Limits,
    /// Its task id's place among those that are not over.
    pub(crate) slot: Option<Slot>,
    pub(crate) control: Arc<Control>,
    /// Counted from admission: waiting for a place is part of the time that a caller gives.
    pub(crate) deadline: Instant,
    pub(crate) budget_usd: Option<f64>,
    pub(crate) prices: Arc<Prices>,
    pub(crate) sink: Arc<RunSink>,
    pub(crate) writes: mpsc::Receiver<Write>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) ended: watch::Sender<Ended>,
    pub(crate) state: State,
    /// Told of the end before anyone else, so that who waits for the run can flush it.
    pub(crate) telemetry: Option<Telemetry>,
    pub(crate) created_ms: u64,
    pub(crate) summary: Value,
}

/// What is waited for before the call.
pub(crate) type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What the driver calls: the plugin, and how to reach it for the run and for telling the vendor of a cancel.
pub(crate) struct Invocation {
    pub(crate) plugin: Plugin,
    pub(crate) ports: Ports,
    /// Ports of the fresh instance that tells the vendor of a cancel; made when it is needed.
    pub(crate) cancel_ports: Box<dyn Fn(Arc<Control>) -> Ports + Send + Sync>,
    pub(crate) task: AgentTask,
}

impl Driver {
    /// Writes that the run exists. Until this returns ok, it does not.
    pub(crate) async fn create(&mut self, mut data: Value) -> Result<()> {
        self.sink.redact(&mut data);
        self.feed(Input::Create(data)).await.map(|_| ())
    }

    /// Drives the run to its end. `permit` waits until the host has room for it, `provision` makes ready what it needs.
    pub(crate) async fn drive<P: Send>(
        mut self,
        permit: Work<P>,
        provision: Work<Result<Provisioned>>,
        invocation: Invocation,
    ) {
        let result = self.until_end(permit, provision, invocation).await;
        let ended = match (result, self.state.outcome.take()) {
            (_, Some(outcome)) => Ok(outcome),
            (Err(error), None) => {
                tracing::error!(run = %self.run_id, error = %error, "the run's log cannot be written");
                Err(error)
            }
            (Ok(()), None) => Err(Error::internal("no-terminal", "the driver ended without a terminal")),
        };
        self.writes.close();
        if let Some(telemetry) = self.telemetry.as_ref().filter(|_| ended.is_ok()) {
            telemetry.run_ended(&self.log, &self.run_id);
        }
        // Before the end is told: whoever hears of it may use the task id again.
        drop(self.slot.take());
        self.ended.send_replace(Some(ended));
    }

    async fn until_end<P: Send>(
        &mut self,
        permit: Work<P>,
        provision: Work<Result<Provisioned>>,
        invocation: Invocation,
    ) -> Result<()> {
        // Held until the end: this is the run's place among those at once.
        let Some(_permit) = self.attend(permit).await? else { return Ok(()) };
        self.feed(Input::Provision).await?;
        let provisioned = match self.attend(provision).await? {
            Some(Ok(provisioned)) => provisioned,
            Some(Err(error)) => return self.end(End::Refused(error)).await,
            // Stopped while it was prepared: nothing was called yet.
            None => return self.end(End::Fault(Fault::Dropped)).await,
        };
        self.feed(Input::Running).await?;
        let Invocation { plugin, mut ports, cancel_ports, mut task } = invocation;
        ports.config = provisioned.config(&ports.config);
        task.attachments = provisioned.attachments.clone();
        task.working_directory = provisioned.working_directory.clone();
        let limits = self.limits.clone();
        let control = self.control.clone();
        let run_id = self.run_id.clone();
        let mut call = plugin.clone().run(ports, limits.clone(), task);
        let deadline = tokio::time::sleep_until(self.deadline.into());
        tokio::pin!(deadline);
        let mut telling = None;
        let mut quiet = Quiet::new(&limits);
        let returned = loop {
            let stop = tokio::select! {
                // What the plugin wrote before it returned is in the queue when it returns, so writes come first.
                biased;
                Some(write) = self.writes.recv() => {
                    quiet.broken(&limits);
                    self.write(write).await?
                }
                Some(command) = self.commands.recv() => match command {
                    Command::Stop(cause) => Some(cause),
                    Command::Steer(text) => {
                        self.steer(text).await?;
                        None
                    }
                },
                returned = &mut call => break returned,
                () = &mut deadline, if self.state.stop.is_none() => Some(StopCause::Deadline),
                () = tokio::time::sleep_until(quiet.until.into()), if self.state.stop.is_none() => Some(quiet.cause),
            };
            if let Some(cause) = stop {
                let effects = self.feed(Input::Stop(cause)).await?;
                if effects.contains(&Effect::Cancel) {
                    control.cancel(Duration::from_millis(limits.grace_ms));
                    // Beside the running call, which may be busy: a fresh instance tells the vendor. Its answer changes
                    // nothing here, and it is not waited for longer than the call itself.
                    let beside = Control::new(Duration::from_millis(limits.grace_ms));
                    let ports = cancel_ports(Arc::new(beside));
                    let told =
                        tell(plugin.clone(), ports, limits.clone(), run_id.clone(), self.state.session_id.clone());
                    telling = Some(tokio::spawn(told));
                }
            }
        };
        if let Some(telling) = telling {
            telling.abort();
        }
        // The engine's own clock may have seen the deadline first.
        if control.is_cancelled() && self.state.stop.is_none() {
            self.feed(Input::Stop(StopCause::Deadline)).await?;
        }
        self.drain().await?;
        let schema = provisioned.schema();
        let kept = provisioned.finish().await;
        let end = self.judge(returned, schema.as_ref(), kept);
        self.end(end).await
    }

    /// Waits for something before the call, while commands are still heard. None when the run was stopped meanwhile.
    async fn attend<T: Send>(&mut self, mut work: Work<T>) -> Result<Option<T>> {
        // Asked outright, since a timer of the past takes its moment to fire: what is too late does not begin.
        let late = self.deadline <= Instant::now();
        let deadline = tokio::time::sleep_until(self.deadline.into());
        tokio::pin!(deadline);
        let cause = loop {
            if late {
                break StopCause::Deadline;
            }
            tokio::select! {
                biased;
                Some(command) = self.commands.recv() => {
                    if let Command::Stop(cause) = command {
                        break cause;
                    }
                }
                Some(write) = self.writes.recv() => {
                    self.write(write).await?;
                }
                done = &mut work => return Ok(Some(done)),
                () = &mut deadline => break StopCause::Deadline,
            }
        };
        self.control.cancel(Duration::ZERO);
        self.feed(Input::Stop(cause)).await?;
        Ok(None)
    }

    /// Appends what a writer brought and tells it. Whether the run must stop because of it.
    async fn write(&mut self, write: Write) -> Result<Option<StopCause>> {
        let result = self.feed(Input::Events(write.events)).await;
        let told = result.as_ref().map(|_| ()).map_err(Clone::clone);
        // A writer that is gone was dropped with its call; what it wrote is written.
        let _ = write.done.send(told);
        result?;
        self.reckon().await
    }

    /// Notes what the run has cost so far, and says whether it may go on.
    async fn reckon(&mut self) -> Result<Option<StopCause>> {
        let State { usage, model, cost_estimate_usd, stop, .. } = &self.state;
        let cost = self.prices.cost(model.as_deref(), usage);
        if usage.cost_usd.is_none() && cost.is_some() && cost != *cost_estimate_usd {
            let data = json!({ "estimate_usd": cost, "model": model, "as_of": self.prices.as_of() });
            let stopped = stop.is_some();
            self.feed(Input::Events(vec![Event::notification("cost", data)])).await?;
            return Ok(if stopped { None } else { self.over_budget(cost) });
        }
        // Tokens without a price: a budget that nobody could keep is not quietly dropped.
        let counted =
            usage.input_tokens.or(usage.output_tokens).or(usage.total_tokens).is_some_and(|tokens| tokens > 0);
        let cause = match (self.budget_usd, cost) {
            (Some(_), None) if counted => Some(StopCause::Unpriced),
            _ => self.over_budget(cost),
        };
        Ok(cause.filter(|_| self.state.stop.is_none()))
    }

    fn over_budget(&self, cost: Option<f64>) -> Option<StopCause> {
        cost.zip(self.budget_usd).is_some_and(|(cost, budget)| cost > budget).then_some(StopCause::Budget)
    }

    async fn steer(&mut self, text: String) -> Result<()> {
        let signal = Signal { kind: "steer".to_owned(), text: text.clone() };
        if self.control.signal(signal, self.limits.signals_max).is_ok() {
            let mut data = json!({ "text": text });
            self.sink.redact(&mut data);
            self.feed(Input::Events(vec![Event::notification("steer", data)])).await?;
        }
        Ok(())
    }

    /// Takes what is still queued after the call has ended, and what the sink held back.
    async fn drain(&mut self) -> Result<()> {
        while let Ok(write) = self.writes.try_recv() {
            self.write(write).await?;
        }
        let rest = self.sink.finish();
        if !rest.is_empty() {
            self.feed(Input::Events(rest)).await?;
        }
        Ok(())
    }

    /// How the run ended, from how the call ended.
    fn judge(&self, returned: Result<Result<Claim>, Fault>, schema: Option<&Value>, kept: Kept) -> End {
        let mut claim = match returned {
            Err(fault) => return End::Fault(fault),
            Ok(Err(mut error)) => {
                self.sink.redact_error(&mut error);
                return End::Refused(error);
            }
            Ok(Ok(claim)) => claim,
        };
        claim.artifacts.extend(kept.artifacts);
        if claim.parsed_output.is_none() {
            claim.parsed_output = kept.parsed_output;
        }
        // Checked as it came, redacted whole, and only then cut: a cut could leave half of a secret.
        let unfit = check_output(schema, &mut claim).err();
        self.sink.redact_claim(&mut claim);
        let unfit = unfit.or(bound(&mut claim, &self.limits));
        End::Returned { claim: Box::new(claim), unfit }
    }

    async fn end(&mut self, end: End) -> Result<()> {
        self.drain().await?;
        self.feed(Input::End(end)).await.map(|_| ())
    }

    /// Decides, appends, folds, and gives the effects.
    async fn feed(&mut self, input: Input) -> Result<Vec<Effect>> {
        let step = run::step(&self.state, input)?;
        if step.append.is_empty() {
            return Ok(step.effects);
        }
        let t_ms = now_ms().max(self.state.last_t_ms);
        let index = step.append.iter().any(changes_index).then(|| self.index(&step.append, t_ms));
        let append =
            Append { run_id: self.run_id.clone(), expected_seq: self.state.last_seq, t_ms, events: step.append, index };
        let records = self.log.append(append).await?;
        for record in records.iter() {
            self.state.apply(record);
        }
        Ok(step.effects)
    }

    fn index(&self, events: &[Event], t_ms: u64) -> RunIndex {
        // The row is the fold of what is about to be appended; positions do not matter for it.
        let mut state = self.state.clone();
        for event in events {
            state.apply(&Record {
                run_id: self.run_id.clone(),
                seq: state.last_seq + 1,
                t_ms,
                kind: event.kind,
                data: event.data.clone(),
            });
        }
        let mut summary = self.summary.clone();
        if let (Some(id), Some(fields)) = (&state.session_id, summary.as_object_mut()) {
            fields.insert("session_id".to_owned(), json!(id));
        }
        index_of(&state, &self.profile, &self.task_id, self.created_ms, Some(self.owner.clone()), summary)
    }
}

/// How long an agent may say nothing. Its own events count, and those of its tools and questions.
struct Quiet {
    until: Instant,
    cause: StopCause,
}

impl Quiet {
    fn new(limits: &Limits) -> Self {
        Self { until: Self::from_now(limits.first_event_ms_max), cause: StopCause::FirstEvent }
    }

    fn broken(&mut self, limits: &Limits) {
        *self = Self { until: Self::from_now(limits.idle_ms_max), cause: StopCause::Idle };
    }

    fn from_now(ms: u64) -> Instant {
        let now = Instant::now();
        // What no clock can show is a year away: never, for a run.
        now.checked_add(Duration::from_millis(ms)).unwrap_or(now + Duration::from_secs(365 * 24 * 3600))
    }
}

/// The row by which a run is listed, from its state.
pub(crate) fn index_of(
    state: &State,
    profile: &ProfileName,
    task_id: &str,
    created_ms: u64,
    owner: Option<String>,
    summary: Value,
) -> RunIndex {
    RunIndex {
        profile: profile.clone(),
        task_id: task_id.to_owned(),
        status: state.status.as_str().to_owned(),
        finish_reason: state.outcome.as_ref().map(|outcome| outcome.finish_reason.as_str().to_owned()),
        created_ms,
        updated_ms: state.last_t_ms,
        owner,
        summary,
    }
}

/// Whether the run's row is another one after it.
pub(crate) fn changes_index(event: &Event) -> bool {
    event.kind == EventKind::RuntimeTerminal || matches!(event.notification_type(), Some("created" | "status"))
}

/// What an outcome lists and names at most. An adapter's word for a conversation is also what a user types.
const ARTIFACTS_MAX: usize = 10_000;
const URI_BYTES_MAX: usize = 4096;
const NAME_BYTES_MAX: usize = 512;
const SESSION_ID_BYTES_MAX: usize = 512;

fn shorten(text: &mut String, bytes_max: usize) {
    let end = midplane_core::text::cut(text, bytes_max).len();
    text.truncate(end);
}

/// Cuts what an adapter returned to the bounds of an outcome, and says so.
fn bound(claim: &mut Claim, limits: &Limits) -> Option<Error> {
    let max = usize::try_from(limits.output_bytes_max).unwrap_or(usize::MAX);
    let size = |value: &Value| value.to_string().len();
    let too_large = |what: &str| {
        Some(Error::limit("output-size", format!("{what} has more than the {max} bytes of `output_bytes_max`")))
    };
    if claim.parsed_output.as_ref().is_some_and(|value| size(value) > max) {
        claim.parsed_output = None;
        return too_large("the structured answer");
    }
    if size(&claim.metadata) > max {
        claim.metadata = Value::Null;
    }
    claim.tool_calls.truncate(usize::try_from(limits.tool_calls_max).unwrap_or(usize::MAX));
    claim.artifacts.truncate(ARTIFACTS_MAX);
    for artifact in &mut claim.artifacts {
        shorten(&mut artifact.uri, URI_BYTES_MAX);
        shorten(&mut artifact.kind, NAME_BYTES_MAX);
    }
    for audit in &mut claim.tool_calls {
        shorten(&mut audit.name, NAME_BYTES_MAX);
        shorten(&mut audit.status, NAME_BYTES_MAX);
    }
    if claim.session_id.as_ref().is_some_and(|id| id.len() > SESSION_ID_BYTES_MAX) {
        // A part of an id is none.
        claim.session_id = None;
    }
    if claim.output.len() > max {
        claim.output = midplane_core::text::cut(&claim.output, max).to_owned();
        return too_large("the output");
    }
    None
}

async fn tell(plugin: Plugin, ports: Ports, limits: Limits, run_id: RunId, session_id: Option<String>) {
    match plugin.cancel(ports, &limits, run_id.as_str(), session_id.as_deref()).await {
        Ok(Ok(())) => tracing::debug!(run = %run_id, "the vendor was told of the cancel"),
        Ok(Err(error)) => tracing::debug!(run = %run_id, code = %error.code, "the vendor was not told of the cancel"),
        Err(fault) => {
            tracing::warn!(run = %run_id, fault = ?fault, "the plugin failed while it told the vendor of the cancel")
        }
    }
}

/// Milliseconds since 1970 UTC.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
