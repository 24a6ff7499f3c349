//! One run: the program is started, greeted and told the task; its frames are taken until it is done; then it is ended.

use midplane_plugin::agent::{AvailabilityReport, Outcome, Readiness, Task, availability};
use midplane_plugin::child::{Child, Limits};
use midplane_plugin::error::cut;
use midplane_plugin::host::{Command, Level};
use midplane_plugin::http::status_error;
use midplane_plugin::program::{Patience, explain_spawn, patience_ms};
use midplane_plugin::settings;
use midplane_plugin::ws::{Connection, Heard};
use midplane_plugin::{Error, Host, Result, Value, json};

use crate::config::{self, Conversation, Settings};
use crate::handshake;
use crate::tools::Tool;
use crate::turn::{Ended, Todo, Turn};

/// How to get the program.
const INSTALL: &str =
    "install it with `pip install google-antigravity`; it is `google/antigravity/bin/localharness` there";
/// How long the program may take to greet and to open its port, in milliseconds.
const GREETING_MS: u32 = 20_000;
/// How long the start of a conversation may take, in milliseconds: MCP servers are started in it.
const START_MS: u64 = 120_000;
/// How long a halted harness is waited for, in milliseconds, where the grace period has as much.
const HALT_MS: u32 = 5_000;
/// How long each step of an orderly end may take, in milliseconds.
const END_MS: u32 = 2_000;

/// Runs a task. `tools` are those that the task gets.
pub fn run(host: &dyn Host, settings: &Settings, task: &Task, model: &str, tools: &[&Tool]) -> Result<Outcome> {
    let conversation = Conversation::of(task)?;
    let Some(endpoint) = settings::endpoint(host, "vendor")? else {
        return Err(Error::unsupported(
            "endpoint",
            "the host serves no endpoint `vendor`, and a key is not handed over",
        ));
    };
    if settings.storage_directory.is_empty() {
        host.log(Level::Warn, "no folder is known to keep the conversation in: it cannot be continued");
    }
    let mut connection = connect(host, settings)?;
    let first = config::start(settings, task, model, tools, &conversation, &endpoint);
    let response = match begin(&mut connection, &first, &conversation) {
        Ok(response) => response,
        Err(error) => {
            connection.end(patience_ms(host, END_MS));
            return Err(error);
        }
    };
    let mut run = Run {
        host,
        turn: Turn::new(host, task.working_directory.clone(), &response),
        connection,
        patience: Patience::from_settings(host)?,
        unreadable: 0,
    };
    // The id that the caller knows stays his.
    let session_id = conversation
        .known()
        .map(ToOwned::to_owned)
        .or_else(|| response["cascadeId"].as_str().filter(|id| !id.is_empty()).map(|id| cut(id.to_owned(), 256)));
    let end = run.turn.events.started(session_id.as_deref(), Some(model)).and_then(|()| run.drive(&task.goal));
    let sandbox = &response["sandboxStatus"];
    let metadata = json!({
        "model": model,
        "sandbox_available": sandbox["available"],
        "unreadable_frames": run.unreadable,
        "left_out_bytes": run.turn.text.left_out_bytes(),
        "left_out_calls": run.turn.audit.left_out(),
    });
    let mut outcome = run.outcome(end, task)?;
    outcome.session_id = session_id;
    outcome.metadata = metadata.to_string();
    Ok(outcome)
}

/// Whether the program is there and greets as the harness does; nothing is asked of the vendor.
pub fn probe(host: &dyn Host, settings: &Settings, timeout_ms: u32) -> AvailabilityReport {
    let spawned = spawn(host, settings).and_then(|mut child| {
        let greeted = child.greet(&handshake::hello(""), timeout_ms, handshake::answer);
        child.end(END_MS.min(timeout_ms), drop);
        greeted
    });
    match spawned {
        Ok(_) => availability(Readiness::Ready, "available", "the harness is there and greets"),
        Err(error) if error.code == "program" => availability(Readiness::NotReady, "missing-program", error.message),
        // What a program said on stderr is not copied into a report.
        Err(error) => availability(
            Readiness::NotReady,
            "setup-failed",
            format!("`{}` does not work as the harness (`{}`)", settings.program, error.code),
        ),
    }
}

fn spawn<'h>(host: &'h dyn Host, settings: &Settings) -> Result<Child<'h>> {
    let command = Command { argv: vec![settings.program.clone()], cwd: None, env: Vec::new(), secret_env: Vec::new() };
    Child::spawn(host, &command, Limits::default()).map_err(|error| explain_spawn(error, &settings.program, INSTALL))
}

fn connect<'h>(host: &'h dyn Host, settings: &Settings) -> Result<Connection<'h>> {
    let mut child = spawn(host, settings)?;
    let hello = handshake::hello(&settings.storage_directory);
    let listening = child.greet(&hello, GREETING_MS, handshake::answer)?;
    let headers = [("x-goog-api-key".to_owned(), listening.key)];
    Connection::open(child, listening.port, "/", &headers, GREETING_MS)
}

/// Tells the harness what it is to be, and gives its answer.
fn begin(connection: &mut Connection<'_>, first: &Value, conversation: &Conversation) -> Result<Value> {
    let host = connection.child().host();
    connection.send(first.to_string())?;
    let end_ms = host.now_ms().saturating_add(START_MS);
    loop {
        match connection.wait(1000)? {
            Heard::Text(text) => {
                let mut frame: Value = serde_json::from_str(&text).unwrap_or_default();
                let response = frame["initializeConversationResponse"].take();
                if response.is_object() {
                    return Ok(response);
                }
            }
            Heard::Binary(_) | Heard::Signal | Heard::Timeout => {}
            Heard::Cancelled => return Err(Error::cancelled("cancelled", "the run was cancelled")),
            // The harness says why on stderr alone.
            Heard::Closed => {
                let error = connection.lost(false);
                let gone = connection.child().stderr_tail().contains("cannot resume");
                return Err(match conversation.known() {
                    Some(id) if gone => {
                        let message = format!("the harness has no conversation `{id}`");
                        Error::not_found("conversation", message).hint("leave the session out to begin a new one")
                    }
                    _ => error,
                });
            }
        }
        if host.now_ms() >= end_ms {
            let error = Error::unavailable("first-event", "the harness did not begin the conversation");
            return Err(connection.child().describe(error));
        }
    }
}

struct Run<'h> {
    host: &'h dyn Host,
    turn: Turn<'h>,
    connection: Connection<'h>,
    patience: Patience<'h>,
    unreadable: u64,
}

impl Run<'_> {
    /// Says what is to be done and takes frames until the harness is done. An error is how the run broke.
    fn drive(&mut self, goal: &str) -> Result<Ended> {
        self.turn.events.flush()?;
        let input = self.turn.input(goal);
        self.connection.send(input.to_string())?;
        let mut halt_end_ms = u64::MAX;
        loop {
            match self.connection.wait(self.patience.wait_ms())? {
                Heard::Text(text) => self.frame(&text)?,
                Heard::Binary(_) => self.unreadable()?,
                Heard::Signal => drop(self.steer()?),
                Heard::Timeout => {
                    self.turn.events.flush()?;
                    self.look_at_the_time()?;
                }
                Heard::Cancelled => {
                    self.turn.halted = true;
                    self.turn.events.flush()?;
                    halt_end_ms = self.host.now_ms().saturating_add(patience_ms(self.host, HALT_MS).into());
                    self.connection.send(json!({ "haltRequest": true }).to_string())?;
                }
                Heard::Closed => return Err(self.connection.lost(true)),
            }
            if let Some(ended) = self.turn.ended.take() {
                // What the user added in the last moment begins another turn.
                if !self.turn.halted && ended.is_plain() && self.steer()? {
                    continue;
                }
                return Ok(ended);
            }
            if self.host.now_ms() >= halt_end_ms {
                return Err(Error::cancelled("halt", "the harness did not stop in time"));
            }
        }
    }

    fn frame(&mut self, text: &str) -> Result<()> {
        let Ok(frame) = serde_json::from_str::<Value>(text) else { return self.unreadable() };
        self.patience.heard();
        for todo in self.turn.take(&frame)? {
            match todo {
                Todo::Send(answer) => self.connection.send(answer.to_string())?,
                Todo::Ask(question, asked) => {
                    // Whoever is asked sees what led to it.
                    self.turn.events.flush()?;
                    let (allowed, message) = match self.host.ask(&question) {
                        Ok(decision) => (decision.allowed, decision.message),
                        // The cancel itself is told by the socket.
                        Err(error) if error.is_cancelled() => (false, "the run was cancelled".to_owned()),
                        Err(error) => return Err(error),
                    };
                    self.patience.restart();
                    self.turn.decided(&asked, allowed, &message)?;
                    self.connection.send(asked.answer(allowed, &message).to_string())?;
                }
            }
        }
        Ok(())
    }

    /// Noise is no sign of work, however much of it there is.
    fn unreadable(&mut self) -> Result<()> {
        self.unreadable += 1;
        self.look_at_the_time()
    }

    /// An error when the harness was silent for too long. A halt is given its own time.
    fn look_at_the_time(&self) -> Result<()> {
        if self.turn.halted { Ok(()) } else { self.patience.check().map_err(|error| self.silent(error)) }
    }

    /// What the user adds is queued by the harness and taken in the same turn. Says whether there was anything.
    fn steer(&mut self) -> Result<bool> {
        let mut steered = false;
        loop {
            let signal = match self.host.signal(0) {
                Ok(Some(signal)) => signal,
                Ok(None) => return Ok(steered),
                // The socket tells it, too.
                Err(error) if error.is_cancelled() => return Ok(steered),
                Err(error) => return Err(error),
            };
            if signal.kind == "steer" {
                self.turn.events.notification("steer", json!({ "text": signal.text }))?;
                let input = self.turn.input(&signal.text);
                self.connection.send(input.to_string())?;
                steered = true;
            }
        }
    }

    /// A harness that fell silent was given work, which may be half done.
    fn silent(&self, error: Error) -> Error {
        self.connection.child().describe(Error::uncertain(error.code, error.message))
    }

    /// Ends the program and says how the run went.
    fn outcome(mut self, end: Result<Ended>, task: &Task) -> Result<Outcome> {
        // A send can fail before the closing is heard, and only the program's end says why.
        let end = match end {
            Err(error) if error.code == "closed" => Err(self.connection.lost(true)),
            other => other,
        };
        self.connection.end(patience_ms(self.host, END_MS));
        let mut turn = self.turn;
        // What has no end in a turn that went its way stays as it was asked for; else it was broken off.
        if turn.halted || !end.as_ref().is_ok_and(Ended::is_plain) {
            turn.audit.close(&mut turn.events, self.host)?;
        }
        turn.events.flush()?;
        let usage = turn.usage();
        let text = turn.text.as_str().trim().to_owned();
        let acted = !turn.audit.is_empty();
        let answer = task.output_schema.as_deref().map(|schema| structured(schema, turn.answer.as_deref(), &text));
        let mut outcome = match end {
            _ if turn.halted => Outcome::new("interrupted"),
            Err(error) => Outcome::failed(error),
            Ok(ended) => ending(&ended),
        };
        if outcome.finish_reason == "done" {
            match answer {
                Some(Ok(value)) => outcome.parsed_output = Some(value),
                Some(Err(error)) => outcome = Outcome::failed(error),
                None if text.is_empty() && !acted => {
                    let message = "the agent ended without a text and without a call of a tool";
                    outcome = Outcome::failed(Error::internal("empty-reply", message));
                }
                None => {}
            }
        }
        outcome.output = text;
        outcome.usage = usage;
        outcome.rounds = turn.rounds.max(1);
        outcome.tool_calls = turn.audit.into_calls();
        Ok(outcome)
    }
}

/// What the harness's end means.
fn ending(ended: &Ended) -> Outcome {
    let word = ended.stop.to_ascii_uppercase();
    let stopped = |what: &str| format!("the agent stopped early: {what} (`{}`)", ended.stop);
    match word.as_str() {
        "" | "UNSPECIFIED" | "FINISH_REASON_UNSPECIFIED" | "STOP" | "END_TURN" | "MODEL_FINISH" => {}
        "MAX_TOKENS" => return limited("max_tokens", "max-tokens", &stopped("its reply was cut")),
        "MAX_MODEL_CALLS_EXCEEDED" => return limited("max_turns", "max-turns", &stopped("it has used its turns")),
        "QUOTA_EXHAUSTED" => return limited("failed", "quota", &stopped("the vendor's quota is spent")),
        _ if word.starts_with("MAX_") && word.ends_with("_EXCEEDED") => {
            return limited("failed", "budget", &stopped("a budget is spent"));
        }
        _ => return Outcome::failed(Error::internal("stopped-early", stopped("no reason that is known"))),
    }
    if ended.error.is_empty() {
        return Outcome::new("done");
    }
    if ended.error.contains("max tokens limit reached") {
        return limited("max_tokens", "max-tokens", &format!("the agent's reply was cut: {}", ended.error));
    }
    Outcome::failed(match ended.status.or_else(|| status_in(&ended.error)) {
        Some(status) => status_error(status, &[], &ended.error),
        None => Error::unavailable("vendor-failed", format!("the agent failed: {}", ended.error)),
    })
}

/// An end at a bound. Repeating does not help.
fn limited(reason: &str, code: &str, message: &str) -> Outcome {
    Outcome { error: Some(Error::limit(code, message)), ..Outcome::new(reason) }
}

/// The status in the harness's words for a vendor's failure: `Error 503, Message: ..`.
fn status_in(error: &str) -> Option<u16> {
    let (_, rest) = error.split_once("Error ")?;
    let digits = rest.get(..3)?;
    digits.parse().ok().filter(|status| (400..600).contains(status))
}

/// The structured answer: what the `finish` tool was given, else the whole text as one JSON document.
fn structured(schema: &str, answer: Option<&str>, text: &str) -> Result<String> {
    let (_, wrapped) = config::answer_schema(schema);
    let given: Option<Value> = answer.and_then(|answer| serde_json::from_str(answer).ok());
    let value = match given {
        Some(mut given) if wrapped && given.get("value").is_some() => Some(given["value"].take()),
        Some(given) => Some(given),
        None => serde_json::from_str(text).ok(),
    };
    let value: Value = value
        .ok_or_else(|| Error::invalid("unparseable", "the agent gave no JSON for the output schema of the task"))?;
    Ok(value.to_string())
}
