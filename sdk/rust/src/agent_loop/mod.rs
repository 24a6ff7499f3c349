//! The tool loop that every adapter of a model's HTTP API shares.
//!
//! ```text
//!            ┌───────────────────────── retry: only before the first output ─┐
//!            ▼                                                               │
//!  goal ─► request ─► stream ─► deltas become events ─► reply ─► calls? ──no─┼─► done
//!            ▲                      │ broken, cancelled    │ yes             │
//!            │                      └──────────────────────┼─► failed / interrupted, with what was heard
//!            └── answers appended ◄── tools.call-all ◄─────┘
//! ```
//!
//! An adapter implements [`Vendor`] (how a request looks, what an answer means) and [`Decoder`] (the events of one
//! stream); everything else is here, once. The transcript is a list of messages in the vendor's own form: the loop
//! stores and returns them unchanged, so signatures and ids survive.
//!
//! # Layout
//! - [`Vendor`], [`Decoder`], [`Turn`], [`Reply`], [`run`]: this file, and the order of things in a run
//! - [`adapter`]: settings, declarations, refusals and availability, the same for every adapter
//! - [`exchange`]: one model turn: send, stream, retry
//! - [`parts`], [`blocks`]: pieces of a translation that most vendors need
//! - [`fault`]: what a vendor's error means
//! - [`retry`]: how long to wait, as a pure function
//! - [`ledger`]: what was used
//! - [`transcript`]: the messages, kept in `kv`
//! - [`system`]: the system prompt
//!
//! # What it never does
//! It knows no vendor, runs no tool itself, and never repeats a request whose output the caller has seen.

pub mod adapter;
pub mod blocks;
pub mod exchange;
pub mod fault;
pub mod ledger;
pub mod parts;
pub mod retry;
pub mod system;
pub mod transcript;

#[cfg(test)]
mod tests;

/// All that an adapter of an HTTP API is made of.
pub mod prelude {
    pub use serde_json::{Map, Value, json};

    pub use super::adapter::{self, Adapter};
    pub use super::blocks::Blocks;
    pub use super::parts::{self, malformed};
    pub use super::{Decoder, Delta, Reply, Stop, Turn, Vendor, fault};
    pub use crate::agent::Usage;
    pub use crate::error::{Error, ErrorKind, Result, cut};
    pub use crate::host::{Answer, Call, Host, Tool};
    pub use crate::http::Builder;
    pub use crate::settings;
    pub use crate::sse::SseEvent;
}

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::agent::{Outcome, Task, Usage};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::host::{Answer, Call, Host, Level, Tool};
use crate::http::Builder;
use crate::sse::SseEvent;
use ledger::Ledger;
use transcript::Transcript;

/// The host's tool that takes a structured answer.
pub const RETURN_RESULT: &str = "return_result";
/// Model turns of a run whose task and host name no number: a loop must have an end.
pub const ROUNDS_MAX: u32 = 200;
/// Calls in one `call-all` (`wit/v0/tools.wit`).
const CALLS_MAX: usize = 64;
/// How often a model that forgets [`RETURN_RESULT`] is reminded.
const REMINDERS_MAX: u32 = 2;

/// A vendor's translation. Everything is a pure function of its arguments.
pub trait Vendor {
    /// The form of its messages, kept with a transcript so that another form is refused rather than sent.
    fn form(&self) -> &str;

    /// A message of the user.
    fn user(&self, text: &str) -> Value;

    /// A message of the model that was cut off; `text` is not blank.
    fn partial(&self, text: &str) -> Value;

    /// The messages that answer all calls of one reply, in order.
    fn answers(&self, answers: &[Answer]) -> Vec<Value>;

    /// The request for the next reply.
    fn request(&self, turn: &Turn<'_>) -> Result<Builder>;

    /// A decoder for one stream.
    fn decoder(&self) -> Box<dyn Decoder>;

    /// The error of an answer that is not a success. Whether it may be repeated is [`Error::is_retryable`].
    fn error(&self, status: u16, headers: &[(String, String)], body: &[u8]) -> Error;
}

/// Reads one stream of a vendor.
pub trait Decoder {
    /// Takes one event and adds what it means; an event that it does not know means nothing.
    fn event(&mut self, event: &SseEvent, deltas: &mut Vec<Delta>) -> Result<()>;

    /// Whether the vendor has said that the reply is whole. Nothing is read after that.
    fn is_complete(&self) -> bool;

    /// The body has ended as it should (a connection that broke is an error before). Says whether that makes the reply
    /// whole: only where the vendor has no last event of its own, and what it said before was an end.
    fn ends_whole(&mut self) -> bool {
        false
    }

    /// The reply. Called only when it is whole.
    fn reply(self: Box<Self>) -> Result<Reply>;
}

/// What a stream says while it goes on.
#[derive(Debug, Clone, PartialEq)]
pub enum Delta {
    /// Text for the user.
    Text(String),
    /// What the model thinks.
    Thinking(String),
    /// Something of the reply that is not shown (a call being written). It too is output: a retry would repeat it.
    Silent,
    /// The counters of this stream, cumulative. Unset leaves what was said before.
    Usage(Usage),
    /// The model that answers.
    Model(String),
}

/// A whole reply.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// What to append to the transcript.
    pub messages: Vec<Value>,
    /// The tools that it wants.
    pub calls: Vec<Call>,
    /// Why it ended.
    pub stop: Stop,
    /// The same in the vendor's word, for the outcome's metadata.
    pub stop_word: String,
}

/// Why a reply ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Stop {
    /// It is finished, or it wants tools.
    Done,
    /// The vendor pauses and wants the transcript back to go on.
    Again,
    /// The model wrote a call that the vendor cannot read. It is told so; a second one in a row fails the run.
    BadCall(Error),
    /// A bound on tokens cut it.
    MaxTokens,
    /// The vendor will not answer.
    Failed(Error),
}

/// What the next request is made of.
#[derive(Debug, Clone)]
pub struct Turn<'a> {
    /// The model.
    pub model: &'a str,
    /// How hard to think, in the vendor's words.
    pub effort: Option<&'a str>,
    /// The system prompt; empty is none.
    pub system: &'a str,
    /// The transcript.
    pub messages: &'a [Value],
    /// The tools.
    pub tools: &'a [Tool],
    /// A tool that the reply should use, where the vendor can be told so.
    pub force_tool: Option<&'a str>,
}

/// How a run is done, from the adapter's settings.
#[derive(Debug, Clone)]
pub struct Options {
    /// The model.
    pub model: String,
    /// Repeats of one request at most, after the first try.
    pub retries_max: u32,
    /// Longest wait before a repeat, in milliseconds; a vendor that asks for more is not waited for.
    pub retry_wait_max_ms: u64,
}

/// Runs the task to its end.
///
/// An error is one from before the vendor did anything; all else is an outcome that keeps usage, output and session.
pub fn run(host: &dyn Host, vendor: &dyn Vendor, task: &Task, options: &Options) -> Result<Outcome> {
    if task.budget_usd.is_some_and(|budget| budget <= 0.0) {
        return Err(Error::limit("budget", "the budget of the run is zero, and a model costs something"));
    }
    let mut run = Run::start(host, vendor, task, options)?;
    let end = run.drive().unwrap_or_else(End::Failed);
    Ok(run.finish(end))
}

/// How a run ended.
enum End {
    Done,
    MaxTurns,
    MaxTokens,
    Failed(Error),
}

/// One run in progress.
struct Run<'a> {
    host: &'a dyn Host,
    vendor: &'a dyn Vendor,
    task: &'a Task,
    options: &'a Options,
    events: Events<'a>,
    tools: Vec<Tool>,
    system: String,
    transcript: Transcript,
    ledger: Ledger,
    /// When the counters were last made an event.
    usage_told_ms: Option<u64>,
    /// They have changed since.
    usage_untold: bool,
    /// The vendor has taken a request that names the attachments.
    attached: bool,
    /// Text of the reply that is arriving.
    text: String,
    /// Text of the last whole reply that had some.
    output: String,
    /// Messages of the user that came during a wait.
    steers: Vec<String>,
    /// Ids given to the host so far: a model may use one again, the host takes each once.
    call_ids: HashSet<String>,
    rounds: u32,
    retries: u32,
    model_seen: Option<String>,
    stop_word: Option<String>,
}

impl<'a> Run<'a> {
    fn start(host: &'a dyn Host, vendor: &'a dyn Vendor, task: &'a Task, options: &'a Options) -> Result<Self> {
        let transcript = Transcript::open(host, vendor.form(), task)?;
        let mut events = Events::new(host);
        events.started(Some(transcript.id()), Some(&options.model))?;
        events.flush()?;
        let tools = host.offered()?;
        let returns = tools.iter().any(|tool| tool.name == RETURN_RESULT);
        if task.output_schema.is_some() && !returns {
            return Err(Error::internal(
                "return-result",
                format!("the task has an output schema and the host offers no `{RETURN_RESULT}`"),
            ));
        }
        let system = system::prompt(task, returns);
        Ok(Self {
            host,
            vendor,
            task,
            options,
            events,
            tools,
            system,
            transcript,
            ledger: Ledger::default(),
            usage_told_ms: None,
            usage_untold: false,
            attached: false,
            text: String::new(),
            output: String::new(),
            steers: Vec::new(),
            call_ids: HashSet::new(),
            rounds: 0,
            retries: 0,
            model_seen: None,
            stop_word: None,
        })
    }

    fn drive(&mut self) -> Result<End> {
        let rounds_max = self.task.max_rounds.unwrap_or(ROUNDS_MAX);
        let returns = self.task.output_schema.is_some();
        let mut reminders = 0;
        let mut force_tool = None;
        let mut was_bad = false;
        self.transcript.push(self.vendor.user(&self.task.goal));
        loop {
            if self.rounds >= rounds_max {
                return Ok(End::MaxTurns);
            }
            let reply = self.exchange(force_tool.take())?;
            self.rounds += 1;
            self.stop_word = Some(reply.stop_word);
            self.keep_text();
            let may_go_on = self.rounds < rounds_max;
            let stop = match reply.stop {
                Stop::BadCall(error) if was_bad || !reply.calls.is_empty() => Stop::Failed(error),
                stop => stop,
            };
            was_bad = matches!(stop, Stop::BadCall(_));
            if !matches!(stop, Stop::Failed(_)) {
                self.transcript.extend(reply.messages);
            }
            match stop {
                // The refused reply is left out: sending it back would be refused again.
                Stop::Failed(error) => return Ok(End::Failed(error)),
                Stop::MaxTokens => {
                    self.decline(&reply.calls, "not run: the reply was cut at its most tokens");
                    return Ok(End::MaxTokens);
                }
                Stop::Again => {}
                Stop::BadCall(error) => {
                    let text = format!(
                        "Your last tool call was not run: {}. Call a tool that you were given, with arguments of its \
                         schema.",
                        error.message
                    );
                    self.transcript.push(self.vendor.user(&text));
                }
                Stop::Done if reply.calls.is_empty() => {
                    // What the user added is answered, or the run is out of turns; it is never dropped.
                    if !self.take_steers()? {
                        if !returns {
                            return Ok(self.answered());
                        }
                        if reminders == REMINDERS_MAX {
                            return Ok(End::Failed(Error::invalid(
                                "no-result",
                                format!("the model ended without calling `{RETURN_RESULT}`"),
                            )));
                        }
                        reminders += 1;
                        force_tool = Some(RETURN_RESULT);
                        let text = format!("Call `{RETURN_RESULT}` now with your final answer. Write no other text.");
                        self.transcript.push(self.vendor.user(&text));
                    }
                }
                Stop::Done if !may_go_on && !calls_result(&reply.calls) => {
                    // Nobody would read the answers, and what the tools change would surprise.
                    self.decline(&reply.calls, "not run: the run has used up its turns");
                    return Ok(End::MaxTurns);
                }
                Stop::Done => {
                    if self.call_all(&reply.calls)? {
                        return Ok(End::Done);
                    }
                    self.take_steers()?;
                }
            }
            self.transcript.save(self.host);
            self.check_budget()?;
        }
    }

    /// The end of a run whose model has nothing more to say. One that said and did nothing at all did not do the task.
    fn answered(&self) -> End {
        if self.output.is_empty() && self.call_ids.is_empty() {
            return End::Failed(Error::internal("empty-reply", "the model ended without a text and without a call"));
        }
        End::Done
    }

    /// Runs the calls of one reply and appends an answer for each. Says whether the structured answer was accepted: the
    /// host keeps it as the run's `parsed-output`, in the form of the schema and not of the tool's arguments.
    fn call_all(&mut self, calls: &[Call]) -> Result<bool> {
        self.events.flush()?;
        let mut answers: Vec<Answer> = Vec::with_capacity(calls.len());
        let mut failed = None;
        for batch in calls.chunks(CALLS_MAX) {
            let asked: Vec<Call> = batch.iter().map(|call| self.with_fresh_id(call)).collect();
            match self.host.call_all(&asked) {
                Ok(given) => answers.extend(given),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        // Each call must be answered under the model's own id, whatever happened, or the transcript is refused.
        let mut returned = false;
        for (index, call) in calls.iter().enumerate() {
            match answers.get_mut(index) {
                Some(answer) => {
                    answer.id.clone_from(&call.id);
                    returned |= call.name == RETURN_RESULT && !answer.is_error;
                }
                None => {
                    let why = failed.as_ref().map_or("the host gave no answer", |error| error.message.as_str());
                    answers.push(not_run(call, &format!("not run: {why}")));
                }
            }
        }
        let messages = self.vendor.answers(&answers);
        self.transcript.extend(messages);
        match failed {
            Some(error) => Err(error),
            None => Ok(returned),
        }
    }

    fn with_fresh_id(&mut self, call: &Call) -> Call {
        let mut fresh = call.clone();
        let mut n = 1;
        while !self.call_ids.insert(fresh.id.clone()) {
            n += 1;
            fresh.id = format!("{}~{n}", call.id);
        }
        fresh
    }

    /// Answers calls that are not run.
    fn decline(&mut self, calls: &[Call], why: &str) {
        if calls.is_empty() {
            return;
        }
        let answers: Vec<Answer> = calls.iter().map(|call| not_run(call, why)).collect();
        let messages = self.vendor.answers(&answers);
        self.transcript.extend(messages);
    }

    /// Appends what the user added meanwhile; says whether there was something.
    fn take_steers(&mut self) -> Result<bool> {
        while let Some(signal) = self.host.signal(0)? {
            if signal.kind == "steer" {
                self.steers.push(signal.text);
            }
        }
        let came = !self.steers.is_empty();
        for text in std::mem::take(&mut self.steers) {
            self.transcript.push(self.vendor.user(&text));
        }
        Ok(came)
    }

    /// The host stops a run by the usage that it sees; this one stops by what the vendor itself says it costs.
    fn check_budget(&self) -> Result<()> {
        match (self.ledger.total().cost_usd, self.task.budget_usd) {
            (Some(cost), Some(budget)) if cost >= budget => {
                Err(Error::limit("budget", format!("the run has cost {cost} US dollars of its budget of {budget}")))
            }
            _ => Ok(()),
        }
    }

    fn keep_text(&mut self) {
        let text = std::mem::take(&mut self.text);
        if !text.trim().is_empty() {
            self.output = text;
        }
    }

    fn finish(mut self, end: End) -> Outcome {
        // What was heard of a reply that broke off belongs to the output and to the conversation.
        let broke_off = !self.text.trim().is_empty();
        if broke_off {
            self.transcript.push(self.vendor.partial(self.text.trim_end()));
            self.keep_text();
        }
        // A run that heard nothing leaves the conversation as it was, so that the same goal can be sent again.
        if broke_off || self.rounds > 0 {
            self.transcript.save(self.host);
        }
        self.ledger.close();
        let (reason, error) = match end {
            End::Done => ("done", None),
            End::MaxTurns => {
                let error = Error::limit("max-turns", format!("the run has used its {} turns", self.rounds));
                ("max_turns", Some(error))
            }
            End::MaxTokens => {
                let error = Error::limit("max-tokens", "the reply was cut at its most tokens");
                ("max_tokens", Some(error))
            }
            End::Failed(error) if error.is_cancelled() => ("interrupted", None),
            End::Failed(error) => ("failed", Some(error)),
        };
        let mut outcome = Outcome {
            output: self.output,
            error,
            usage: self.ledger.total(),
            session_id: self.transcript.resumable_id(),
            rounds: self.rounds,
            metadata: json!({
                "model": self.model_seen.as_ref().unwrap_or(&self.options.model),
                "stop_reason": self.stop_word,
                "retries": self.retries,
            })
            .to_string(),
            ..Outcome::new(reason)
        };
        // The log refusing its last events must not pass as success; a failure that is known already says more.
        if let Err(error) = self.events.flush() {
            self.host.log(Level::Warn, &format!("the last events were refused: {}", error.message));
            if outcome.finish_reason == "done" {
                outcome.finish_reason = "failed".into();
                outcome.error = Some(error);
            }
        }
        outcome
    }
}

fn calls_result(calls: &[Call]) -> bool {
    calls.iter().any(|call| call.name == RETURN_RESULT)
}

fn not_run(call: &Call, why: &str) -> Answer {
    Answer { id: call.id.clone(), text: why.to_owned(), structured: None, is_error: true }
}
