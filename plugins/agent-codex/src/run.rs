//! One run: the program is started, a thread begun or resumed, a turn run to its end, and the program ended.
//!
//! A cancel interrupts the turn and then clears the commands that it left running, which the program does not do by
//! itself; only then does the program end. Whatever goes wrong once the thread is there is an outcome, so that usage,
//! audits and session are kept.

use midplane_plugin::agent::{self, AvailabilityReport, Outcome, Readiness, Task};
use midplane_plugin::child::{Child, Limits};
use midplane_plugin::error::cut;
use midplane_plugin::host::Level;
use midplane_plugin::jsonrpc::{CallId, Dialect, Incoming, Peer};
use midplane_plugin::program::{self, Patience};
use midplane_plugin::{Error, Host, Result, Value, json};

use crate::failure;
use crate::options::{self, Options};
use crate::questions;
use crate::turn::Turn;

/// The first version whose protocol is spoken here, and the first of which that is not known.
const FROM: [u64; 3] = [0, 157, 1];
const BELOW: [u64; 3] = [0, 180, 0];
/// How to get the program.
const INSTALL: &str = "install it with `npm install --global @openai/codex@0.169.0`";
/// How long an answer to a call may take, once the program is ready, in milliseconds.
const CALL_MS: u32 = 60_000;
/// How long the program may take for its part of a cancel, in milliseconds.
const INTERRUPT_MS: u32 = 5_000;
/// How long it may take to end by itself, and then each harder way, in milliseconds.
const END_MS: u32 = 2_000;
/// The code of a run whose model turns are used up, which is no failure but an end of its own.
const MAX_TURNS: &str = "max-turns";
/// Longest id of a thread or turn, in bytes.
const ID_BYTES_MAX: usize = 256;

/// How a turn ended.
struct Ended {
    status: String,
    error: Value,
}

/// Runs a task.
pub fn run(host: &dyn Host, options: &Options, task: &Task) -> Result<Outcome> {
    // Before anything is started: what is wrong here is known already.
    let params = options.thread(host, task)?;
    let profile = task.permissions.native_profile.as_deref();
    let (mut peer, version) = start(host, options, profile, options.startup_ms)?;
    let begun = begin(task, params, &mut peer);
    let (thread, model) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            let ignored = peer.ignored();
            end(host, peer);
            let mut outcome = Outcome::failed(error);
            outcome.session_id = task.session.as_ref().map(|session| session.id.clone());
            outcome.metadata = json!({ "vendor_version": version, "ignored_answers": ignored }).to_string();
            return Ok(outcome);
        }
    };
    // A thread without an id would be one that cannot be named again; the caller's name is all there is then.
    let session_id = thread.clone().or_else(|| task.session.as_ref().map(|session| session.id.clone()));
    let mut turn = Turn::new(host, task.working_directory.as_deref());
    let mut started = json!({ "vendor_version": version });
    for (name, value) in [("session_id", &session_id), ("model", &model)] {
        if let Some(value) = value {
            started[name] = json!(value);
        }
    }
    turn.events.push("runtime_started", &started)?;
    let mut run = Run {
        host,
        options,
        task,
        peer,
        turn,
        thread: thread.unwrap_or_default(),
        turns: 0,
        steers: Vec::new(),
        late: Vec::new(),
        cancelled: false,
    };
    let result = run.turns();
    let cleared = run.clear(result.as_ref().is_ok_and(|ended| ended.status != "interrupted"));
    let Run { peer, mut turn, turns, cancelled, .. } = run;
    let (ignored, skipped) = (peer.ignored(), peer.child().skipped());
    end(host, peer);
    turn.audit.close(&mut turn.events, host)?;
    turn.events.flush()?;
    let (asked, source) = options.model(task);
    let mut metadata = json!({ "vendor_version": version, "model_source": source });
    for (name, value) in [
        ("model", turn.rerouted.as_deref().or(asked).or(model.as_deref()).map(Value::from)),
        ("requested_native_permission_profile", task.permissions.native_profile.as_deref().map(Value::from)),
        ("ignored_answers", (ignored > 0).then(|| json!(ignored))),
        ("unusable_lines", (skipped > 0).then(|| json!(skipped))),
        ("audits_left_out", (turn.audit.left_out() > 0).then(|| json!(turn.audit.left_out()))),
        ("commands_not_cleared", cleared.err().map(|error| json!(error.code))),
    ] {
        if let Some(value) = value {
            metadata[name] = value;
        }
    }
    let mut outcome = judge(result, &turn, cancelled, task, &mut metadata);
    outcome.usage = turn.usage;
    outcome.rounds = turn.replies.max(turns);
    outcome.session_id = session_id;
    outcome.metadata = metadata.to_string();
    outcome.tool_calls = turn.audit.into_calls();
    Ok(outcome)
}

/// Starts the program and asks who it is logged in as, which changes nothing and refreshes nothing.
pub fn probe(host: &dyn Host, options: &Options, timeout_ms: u32) -> Result<AvailabilityReport> {
    let (mut peer, version) = start(host, options, None, timeout_ms)?;
    let account = peer.request("account/read", &json!({ "refreshToken": false }), timeout_ms);
    end(host, peer);
    let account = account?.map_err(|error| failure::of_call("account/read", &error))?;
    let needs_login = options.uses_own_login() && account["requiresOpenaiAuth"] == true && account["account"].is_null();
    let mut report = if needs_login {
        let message = "the folder of setting `codex_home` has no login";
        agent::availability(Readiness::NotReady, "missing-credentials", message)
    } else {
        agent::availability(Readiness::Ready, "available", "the program starts and speaks a supported version")
    };
    report.version = Some(version);
    Ok(report)
}

/// Starts the program and shakes hands; gives its version.
fn start<'h>(
    host: &'h dyn Host,
    options: &Options,
    profile: Option<&str>,
    timeout_ms: u32,
) -> Result<(Peer<'h>, String)> {
    let child = Child::spawn(host, &options.command(profile), Limits::default())
        .map_err(|error| program::explain_spawn(error, &options.program, INSTALL))?;
    let mut peer = Peer::new(child, Dialect { member: false, text_ids: true });
    let hello = json!({
        "clientInfo": { "name": "midplane", "title": "Midplane", "version": env!("CARGO_PKG_VERSION") },
        // Interrupting the commands of a turn is part of it.
        "capabilities": { "experimentalApi": true },
    });
    let known = peer
        .request("initialize", &hello, timeout_ms)
        .and_then(|reply| reply.map_err(|error| failure::of_call("initialize", &error)))
        .and_then(|reply| {
            let agent = reply["userAgent"].as_str().unwrap_or_default();
            program::check_version("codex", agent, FROM, BELOW, INSTALL)
        });
    match known {
        Ok([major, minor, patch]) => {
            peer.notify("initialized", None)?;
            Ok((peer, format!("{major}.{minor}.{patch}")))
        }
        Err(error) => {
            end(host, peer);
            // With a profile that its configuration does not have, or one that it cannot read, it does not come up.
            Err(match (profile, error.code.as_str()) {
                (Some(profile), "program-ended") => {
                    let why = format!("codex does not start with the profile `{profile}`: {}", error.message);
                    Error::unsupported("native-profile", why)
                }
                _ => error,
            })
        }
    }
}

/// Begins or resumes a thread; gives its id and model.
fn begin(task: &Task, mut params: Value, peer: &mut Peer<'_>) -> Result<(Option<String>, Option<String>)> {
    if task.permissions.native_profile.is_some() {
        keeps_profile(task, peer)?;
    }
    let method = match &task.session {
        Some(session) => {
            params["threadId"] = json!(session.id);
            // A long conversation would come back whole, in one line.
            params["excludeTurns"] = json!(true);
            "thread/resume"
        }
        None => "thread/start",
    };
    let reply = peer.request(method, &params, CALL_MS)?.map_err(|error| failure::of_call(method, &error))?;
    let text =
        |value: &Value| value.as_str().filter(|text| !text.is_empty() && text.len() <= ID_BYTES_MAX).map(str::to_owned);
    Ok((text(&reply["thread"]["id"]), text(&reply["model"])))
}

/// Whether the program's own configuration leaves a named profile in force. Where it cannot say what that is, nobody can tell
/// what the profile stands for.
fn keeps_profile(task: &Task, peer: &mut Peer<'_>) -> Result<()> {
    let unsupported = |why: String| Err(Error::unsupported("native-profile", why));
    let params = json!({ "includeLayers": false, "cwd": task.working_directory });
    let read = match peer.request("config/read", &params, CALL_MS)? {
        Ok(read) => read,
        Err(error) => {
            let why = failure::of_call("config/read", &error).message;
            return unsupported(format!("codex cannot read its configuration, so no profile can be kept: {why}"));
        }
    };
    let Some(config) = read["config"].as_object() else {
        return unsupported("codex does not show its configuration, so no profile can be kept".to_owned());
    };
    // This one is replaced by the task's.
    let config = config.iter().filter(|(name, _)| *name != "default_permissions");
    let config = config.map(|(name, value)| (name.clone(), value.clone())).collect();
    match options::sandbox_word(&config) {
        None => Ok(()),
        Some(word) => unsupported(format!(
            "codex's own configuration sets `{word}`, which wins over a named profile; leave one of the two out"
        )),
    }
}

fn end(host: &dyn Host, peer: Peer<'_>) {
    let patience = program::patience_ms(host, END_MS);
    if peer.into_child().end(patience, |_| {}).is_none() {
        host.log(Level::Warn, "codex did not end in time and is killed by the host");
    }
}

/// A thread that is there.
struct Run<'h, 't> {
    host: &'h dyn Host,
    options: &'t Options,
    task: &'t Task,
    peer: Peer<'h>,
    turn: Turn<'h>,
    thread: String,
    /// Turns that were begun; each has one reply of the model or more.
    turns: u32,
    /// What the user added and the program has not answered to.
    steers: Vec<(CallId, String)>,
    /// What came too late for the turn: the next one takes it.
    late: Vec<String>,
    cancelled: bool,
}

impl Run<'_, '_> {
    /// The turn of the task, and one more for what the user added too late for it.
    fn turns(&mut self) -> Result<Ended> {
        let mut text = self.task.goal.clone();
        loop {
            let ended = self.one(&text)?;
            if self.late.is_empty() || self.cancelled || ended.status != "completed" {
                return Ok(ended);
            }
            text = std::mem::take(&mut self.late).join("\n\n");
            self.turn.next();
        }
    }

    fn one(&mut self, text: &str) -> Result<Ended> {
        let mut params = self.options.turn(self.task, text)?;
        params["threadId"] = json!(self.thread);
        let reply = self.peer.request("turn/start", &params, CALL_MS)?;
        let reply = reply.map_err(|error| failure::of_call("turn/start", &error))?;
        let Some(id) = reply["turn"]["id"].as_str().filter(|id| id.len() <= ID_BYTES_MAX).map(str::to_owned) else {
            return Err(Error::internal("protocol", "codex started a turn without an id"));
        };
        self.turns += 1;
        self.follow(&id)
    }

    /// Follows a turn to its end.
    fn follow(&mut self, id: &str) -> Result<Ended> {
        let mut patience = Patience::from_settings(self.host)?;
        // After a cancel or a silence: until when the program may take to say how the turn ended.
        let mut until: Option<(u64, Error)> = None;
        let mut ended: Option<Ended> = None;
        loop {
            if ended.is_some() && self.steers.is_empty() {
                break;
            }
            let wait = match &until {
                None => patience.wait_ms(),
                Some((until, error)) => match until.saturating_sub(self.host.now_ms()) {
                    0 if ended.is_some() => break,
                    0 => return Err(error.clone()),
                    left => u32::try_from(left).unwrap_or(u32::MAX),
                },
            };
            // What is there comes without waiting; before a wait everything gathered is told.
            let incoming = match self.peer.wait(0)? {
                Incoming::Timeout => {
                    self.turn.events.flush()?;
                    self.peer.wait(wait)?
                }
                incoming => incoming,
            };
            match incoming {
                Incoming::Notification { method, params } => {
                    if until.is_none() && self.is_one_too_many(&method, &params) {
                        until = Some((self.interrupt(id), Error::limit(MAX_TURNS, "the model turns are used up")));
                    }
                    if let Some(done) = self.notification(id, &method, &params, &mut patience)? {
                        // What the user added just before the end is answered in a moment.
                        let late = Error::unavailable("no-answer", "no answer to `turn/steer`");
                        until.get_or_insert((self.host.now_ms().saturating_add(1_000), late));
                        ended = Some(done);
                    }
                }
                Incoming::Request { id, method, params } => {
                    self.turn.events.flush()?;
                    let about = params["itemId"].as_str().and_then(|item| self.turn.about(item)).map(str::to_owned);
                    let over = until.is_some() || self.host.cancelled();
                    questions::answer(self.host, &mut self.peer, &id, &method, &params, about.as_deref(), over)?;
                    patience.restart();
                }
                Incoming::Response { call, reply } => self.steered(call, reply.is_ok()),
                Incoming::Signal => self.steer(id)?,
                // Noise is no sign of work, however much of it there is.
                Incoming::Stderr(_) | Incoming::Timeout => {
                    if let Incoming::Stderr(line) = incoming {
                        self.host.log(Level::Debug, &cut(line, 1024));
                    }
                    if until.is_none()
                        && let Err(silence) = patience.check()
                    {
                        // It was given work that may be half done.
                        let silence = Error::uncertain(silence.code, silence.message);
                        until = Some((self.interrupt(id), self.peer.child().describe(silence)));
                    }
                }
                Incoming::Cancelled => {
                    self.cancelled = true;
                    until = Some((self.interrupt(id), Error::cancelled("cancelled", "the run was cancelled")));
                }
                Incoming::Exited(exit) => {
                    if let Some(ended) = ended {
                        return Ok(ended);
                    }
                    if self.cancelled {
                        return Err(Error::cancelled("cancelled", "the run was cancelled"));
                    }
                    return Err(self.peer.child().ended(&exit, true));
                }
            }
        }
        for (_, text) in self.steers.drain(..) {
            self.late.push(text);
        }
        let ended = ended.unwrap_or(Ended { status: String::new(), error: Value::Null });
        match until {
            // A silence that an interrupt ended is a failure all the same, and so are turns that are used up.
            Some((_, error)) if ["idle", "first-event", MAX_TURNS].contains(&error.code.as_str()) => Err(error),
            _ => Ok(ended),
        }
    }

    /// Whether the model begins a reply more than the task allows. The program has no limit of its own.
    fn is_one_too_many(&self, method: &str, params: &Value) -> bool {
        let begins = ["agentMessage", "reasoning"].iter().any(|kind| params["item"]["type"] == **kind);
        method == "item/started" && begins && self.task.max_rounds.is_some_and(|max| self.turn.replies >= max)
    }

    /// Takes a notification; gives the end of the turn.
    fn notification(
        &mut self,
        id: &str,
        method: &str,
        params: &Value,
        patience: &mut Patience<'_>,
    ) -> Result<Option<Ended>> {
        let foreign = |name: &str, own: &str| params[name].as_str().is_some_and(|other| other != own);
        if (!self.thread.is_empty() && foreign("threadId", &self.thread)) || foreign("turnId", id) {
            return Ok(None);
        }
        if method == "turn/completed" {
            let turn = &params["turn"];
            if turn["id"].as_str().is_some_and(|other| other != id) {
                return Ok(None);
            }
            let status = cut(turn["status"].as_str().unwrap_or_default().to_owned(), 64);
            return Ok(Some(Ended { status, error: turn["error"].clone() }));
        }
        // Warnings of the start are no work.
        if method.starts_with("item/") || method.starts_with("turn/") || method == "error" {
            patience.heard();
        }
        self.turn.notification(method, params)?;
        Ok(None)
    }

    /// Passes on what the user adds.
    fn steer(&mut self, id: &str) -> Result<()> {
        loop {
            let signal = match self.host.signal(0) {
                Ok(Some(signal)) => signal,
                Ok(None) => return Ok(()),
                // The wait for the program tells of the cancel.
                Err(error) if error.is_cancelled() => return Ok(()),
                Err(error) => return Err(error),
            };
            if signal.kind != "steer" {
                continue;
            }
            let params = json!({
                "threadId": self.thread, "expectedTurnId": id,
                "input": [{ "type": "text", "text": signal.text }],
            });
            let call = self.peer.call("turn/steer", &params)?;
            self.steers.push((call, signal.text));
        }
    }

    /// Takes the answer to a `turn/steer`; the host has told of the message itself.
    fn steered(&mut self, call: CallId, is_taken: bool) {
        let Some(place) = self.steers.iter().position(|(steer, _)| *steer == call) else { return };
        let (_, text) = self.steers.remove(place);
        if !is_taken {
            // The turn had ended in between.
            self.late.push(text);
        }
    }

    /// Asks the program to stop the turn; gives until when to wait for the end of it.
    fn interrupt(&mut self, id: &str) -> u64 {
        let params = json!({ "threadId": self.thread, "turnId": id });
        if let Err(error) = self.peer.call("turn/interrupt", &params) {
            self.host.log(Level::Warn, &format!("codex could not be interrupted: {}", error.message));
        }
        self.host.now_ms().saturating_add(program::patience_ms(self.host, INTERRUPT_MS).into())
    }

    /// Ends the commands that the turn left running: an interrupt does not, and they are in process groups of their own.
    /// Also where the turn is complete: a command can go on in the background. What they still say is taken.
    fn clear(&mut self, is_complete: bool) -> Result<()> {
        if self.peer.child().exit().is_some() || (is_complete && !self.turn.audit.has_open()) {
            return Ok(());
        }
        let call = self.peer.call("thread/backgroundTerminals/clean", &json!({ "threadId": self.thread }))?;
        let until = self.host.now_ms().saturating_add(program::patience_ms(self.host, END_MS).into());
        loop {
            let left = u32::try_from(until.saturating_sub(self.host.now_ms())).unwrap_or(u32::MAX);
            match self.peer.wait(left)? {
                Incoming::Response { call: answered, reply } if answered == call => {
                    return reply
                        .map(drop)
                        .map_err(|error| failure::of_call("thread/backgroundTerminals/clean", &error));
                }
                Incoming::Notification { method, params } if method == "item/completed" => {
                    self.turn.notification(&method, &params)?;
                }
                Incoming::Request { id, method, params } => {
                    questions::answer(self.host, &mut self.peer, &id, &method, &params, None, true)?;
                }
                Incoming::Cancelled => self.cancelled = true,
                Incoming::Exited(_) => return Ok(()),
                _ => {}
            }
            if left == 0 {
                return Err(Error::unavailable("no-answer", "codex did not say that its commands ended"));
            }
        }
    }
}

/// The outcome of how the last turn ended.
fn judge(result: Result<Ended>, turn: &Turn<'_>, cancelled: bool, task: &Task, metadata: &mut Value) -> Outcome {
    let answer = turn.answer();
    let mut outcome = match result {
        Err(error) if error.code == MAX_TURNS => Outcome { error: Some(error), ..Outcome::new("max_turns") },
        Err(error) => Outcome::failed(error),
        Ok(ended) => match ended.status.as_str() {
            // Nothing at all is no answer, whatever the vendor calls it.
            "completed" | "" if answer.is_none_or(|text| text.as_str().is_empty()) && turn.audit.is_empty() => {
                Outcome::failed(Error::internal("no-output", "codex completed with neither text nor tool calls"))
            }
            "completed" | "" => Outcome::new("done"),
            // Not by a cancel of ours, which takes the error away again.
            "interrupted" => {
                let why = ended.error["message"].as_str().unwrap_or("Codex turn interrupted");
                let error = Error::cancelled("interrupted", failure::said(why, None));
                Outcome { error: Some(error), ..Outcome::new("interrupted") }
            }
            "failed" => {
                let error = if ended.error.is_null() { &turn.last_error } else { &ended.error };
                if let Some(class) = failure::class_word(&error["codexErrorInfo"]) {
                    metadata["error_class"] = json!(class);
                }
                Outcome::failed(failure::of_turn(error))
            }
            status => Outcome::failed(Error::internal(
                "vendor-status",
                format!("Codex turn ended with unexpected status '{status}'"),
            )),
        },
    };
    if cancelled {
        outcome.finish_reason = "interrupted".into();
        outcome.error = None;
    }
    if let Some(text) = answer {
        if text.left_out_bytes() > 0 {
            metadata["output_left_out_bytes"] = json!(text.left_out_bytes());
        }
        // The host checks it against the schema; text that is no JSON is none, which it reports.
        if outcome.finish_reason == "done" && task.output_schema.is_some() {
            let value = serde_json::from_str::<Value>(text.as_str());
            outcome.parsed_output = value.ok().map(|value| value.to_string());
        }
        outcome.output = text.as_str().to_owned();
    }
    outcome
}
