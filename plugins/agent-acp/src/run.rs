//! One run: the program is started, greeted, given the prompt, listened to, and ended.
//!
//! ```text
//! spawn ──► initialize ──► session/new | session/load ──► mode ──► session/prompt ──► result ──► end
//!                              │  ▲                                     │
//!                              ▼  │ login demanded                      ├─ session/update        told as events
//!                          authenticate                                 ├─ request_permission    asked of the host
//!                                                                       ├─ any other request     -32601
//!                                                                       └─ cancel ──► session/cancel, questions
//!                                                                          unanswered, until the result or the grace ends
//! ```
//!
//! There is one prompt at a time and one prompt a run: agents differ in what a second one does.

use midplane_plugin::agent::{Outcome, Task};
use midplane_plugin::child::{Child, Limits};
use midplane_plugin::host::StopMode;
use midplane_plugin::jsonrpc::{Dialect, Id, Incoming, METHOD_NOT_FOUND, Peer, Reply};
use midplane_plugin::program::{Patience, explain_spawn, patience_ms};
use midplane_plugin::settings::{self, Endpoint};
use midplane_plugin::{Error, ErrorKind, Host, Result, Value, json};

use crate::fault;
use crate::profile::{Profile, Start};
use crate::turn::{Turn, outcome, unanswered};

/// The version of the protocol that is spoken here.
pub const PROTOCOL_VERSION: u64 = 1;
/// How long each step before the prompt may take, in milliseconds. Agents take seconds where the machine is busy.
const START_MS: u64 = 120_000;
/// How long one wait is, in milliseconds, so that time limits are looked at now and then.
const STEP_MS: u32 = 250;
/// Lines that are no messages before the first answer, after which it is no agent.
const GARBAGE_MAX: u64 = 100;
/// How long an agent may take to end the turn that we stopped for its rounds, in milliseconds.
const STOP_MS: u64 = 10_000;
/// How long each step of ending the program may take, in milliseconds, where the time that is left allows it.
const END_MS: u32 = 2000;
/// Longest silence that a loaded session's history is waited for, in milliseconds, all in all.
const SETTLE_MS_MAX: u64 = 5_000;
/// What the agent is told that we can do. Neither files nor terminals: it works in its own sandbox.
fn client() -> Value {
    json!({
        "protocolVersion": PROTOCOL_VERSION,
        "clientCapabilities": { "fs": { "readTextFile": false, "writeTextFile": false }, "terminal": false },
        "clientInfo": { "name": "midplane", "title": "Midplane", "version": env!("CARGO_PKG_VERSION") },
    })
}

/// Does the task.
pub fn run(host: &dyn Host, task: &Task, profile: &Profile) -> Result<Outcome> {
    let allowed = &task.permissions;
    let (word, mode) =
        profile.mode(allowed).map_err(|(field, why)| Error::unsupported("permission", format!("{field}: {why}")))?;
    let folder = task.working_directory.as_deref().ok_or_else(|| {
        Error::invalid("working-directory", "an agent needs a folder to work in").hint("give one with `--workspace`")
    })?;
    let setting = settings::text(host, "model");
    let model = task.model.as_deref().or(setting.as_deref()).or(profile.model.as_deref());
    let endpoint = endpoint(host, profile)?;
    let confined = (settings::text(host, "host.sandbox").as_deref() == Some("host"))
        .then(|| profile.confined_args.get(word))
        .flatten()
        .map(Vec::as_slice);
    // The arguments say it then, and a mode that is set would undo them.
    let mode = mode.filter(|_| confined.is_none());
    let start = Start {
        model,
        confined,
        effort: task.reasoning_effort.as_deref(),
        endpoint: endpoint.as_ref(),
        mode,
        unasked: word == "full",
    };
    let mut agent = Agent::start(host, profile, &start, Turn::new(host, profile, folder, mode))?;
    agent.reads_only = crate::reads_only(allowed);
    agent.rounds_max = task.max_rounds;
    let result = agent.work(task, folder, model, mode);
    agent.close(result)
}

/// Starts the program and greets it, to see its version.
pub fn greet(host: &dyn Host, profile: &Profile, timeout_ms: u32) -> Result<String> {
    let mut agent = Agent::start(host, profile, &Start::default(), Turn::new(host, profile, "", None))?;
    agent.start_ms = timeout_ms.into();
    let greeting = agent.initialize();
    let version = agent.version.take().unwrap_or_default();
    agent.end();
    greeting.map(|_| version)
}

/// The endpoint of the row's API, unless the agent has a login of its own.
fn endpoint(host: &dyn Host, profile: &Profile) -> Result<Option<Endpoint>> {
    let Some(api) = profile.api.as_deref() else { return Ok(None) };
    match settings::text(host, "login").as_deref() {
        Some("own") => return Ok(None),
        None | Some("endpoint") => {}
        Some(other) => {
            return Err(Error::invalid("setting", format!("setting `login` is `{other}`, not `endpoint` or `own`")));
        }
    }
    settings::endpoint(host, api)?.map(Some).ok_or_else(|| {
        Error::denied("endpoint", format!("the host serves no endpoint for the API of {}", profile.title()))
            .hint(&format!("{}; or set `login` to `own`", profile.needs(host)))
    })
}

/// A program that is being driven.
struct Agent<'h> {
    host: &'h dyn Host,
    profile: Profile,
    peer: Peer<'h>,
    turn: Turn<'h>,
    session_id: Option<String>,
    version: Option<String>,
    greeting: Value,
    reads_only: bool,
    rounds_max: Option<u32>,
    start_ms: u64,
    patience: Patience<'h>,
    /// Whether `session/prompt` is on its way.
    prompted: bool,
    stopped: Option<Stop>,
}

/// Why we asked the agent to stop, and how long its answer is waited for.
#[derive(Clone, Copy)]
struct Stop {
    rounds: bool,
    end_ms: u64,
}

impl<'h> Agent<'h> {
    fn start(host: &'h dyn Host, profile: &Profile, start: &Start<'_>, turn: Turn<'h>) -> Result<Self> {
        let child =
            Child::spawn(host, &profile.command(start), Limits::default()).map_err(|error| match error.kind {
                // The host's message names the grant; of an agent that is new here more of them are missing.
                ErrorKind::Denied => error.hint(&format!("in all, {}", profile.needs(host))),
                _ => explain_spawn(error, &profile.program, &format!("install it: {}", profile.install)),
            })?;
        Ok(Self {
            host,
            profile: profile.clone(),
            peer: Peer::new(child, Dialect { member: true, text_ids: false }),
            turn,
            session_id: None,
            version: None,
            greeting: Value::Null,
            reads_only: false,
            rounds_max: None,
            start_ms: START_MS,
            patience: Patience::from_settings(host)?,
            prompted: false,
            stopped: None,
        })
    }

    /// All up to the answer to the prompt.
    fn work(&mut self, task: &Task, folder: &str, model: Option<&str>, mode: Option<&str>) -> Result<Value> {
        self.initialize()?;
        let opened = self.open(task, folder)?;
        self.turn.events.push("runtime_started", &self.started(model))?;
        self.set_mode(&opened, mode)?;
        if task.session.is_some() {
            self.settle()?;
        }
        let prompt = json!({ "sessionId": self.session_id, "prompt": crate::prompt::blocks(task, folder) });
        for attachment in &task.attachments {
            self.turn.events.attached(attachment)?;
        }
        self.prompted = true;
        self.patience.restart();
        let reply = self.exchange("session/prompt", &prompt)?;
        self.prompted = false;
        reply.map_err(|error| {
            self.turn.meter.result(&error.data);
            fault::of(&format!("the turn of {} failed", self.profile.title()), &error)
        })
    }

    /// The first event of the log.
    fn started(&self, model: Option<&str>) -> Value {
        let mut started = json!({ "session_id": self.session_id });
        let version = self.version.as_deref().filter(|version| !version.is_empty());
        for (name, value) in [("model", model), ("vendor_version", version)] {
            if let Some(value) = value {
                started[name] = json!(value);
            }
        }
        started
    }

    /// Greets the agent and agrees on a version.
    fn initialize(&mut self) -> Result<()> {
        let title = self.profile.title().to_owned();
        let greeting = self.exchange("initialize", &client())?;
        let greeting = greeting.map_err(|error| fault::of(&format!("{title} refused to begin"), &error))?;
        // A missing or odd version is none that we speak.
        if greeting["protocolVersion"].as_u64() != Some(PROTOCOL_VERSION) {
            let theirs = midplane_plugin::error::cut(greeting["protocolVersion"].to_string(), 40);
            return Err(Error::unsupported(
                "protocol-version",
                format!("{title} speaks version {theirs} of the protocol, this adapter version {PROTOCOL_VERSION}"),
            )
            .hint("take a release of the agent that speaks this version"));
        }
        let version = greeting["agentInfo"]["version"].as_str().unwrap_or_default();
        let version = midplane_plugin::child::visible(&midplane_plugin::error::cut(version.to_owned(), 64));
        if self.profile.is_too_old(&version) {
            let min = self.profile.version_min.as_deref().unwrap_or_default();
            return Err(Error::unsupported(
                "program-version",
                format!("{title} is version {version}, and {min} is needed"),
            )
            .hint(&format!("upgrade it: {}", self.profile.install)));
        }
        self.version = Some(version);
        self.greeting = greeting;
        Ok(())
    }

    /// Opens the session, after a login where one is demanded.
    fn open(&mut self, task: &Task, folder: &str) -> Result<Value> {
        let servers: Vec<Value> = task.mcp_servers.iter().map(mcp_server).collect();
        let mut params = json!({ "cwd": folder, "mcpServers": servers });
        let method = match &task.session {
            None => "session/new",
            Some(session) => {
                if self.greeting["agentCapabilities"]["loadSession"] != true {
                    return Err(Error::unsupported(
                        "session-load",
                        format!("{} cannot go on with an earlier session", self.profile.title()),
                    ));
                }
                params["sessionId"] = json!(session.id);
                "session/load"
            }
        };
        self.turn.history = true;
        let mut reply = self.exchange(method, &params)?;
        if reply.as_ref().is_err_and(|error| error.code == fault::AUTH_REQUIRED) {
            self.authenticate()?;
            reply = self.exchange(method, &params)?;
        }
        let opened = match (reply, &task.session) {
            (Ok(opened), _) => opened,
            (Err(error), Some(session)) => return Err(fault::of_load(&session.id, &error)),
            (Err(error), None) => {
                return Err(fault::of(&format!("{} opened no session", self.profile.title()), &error));
            }
        };
        let id = task.session.as_ref().map(|session| session.id.as_str()).or(opened["sessionId"].as_str());
        let id = id.filter(|id| !id.is_empty() && id.len() <= 512).ok_or_else(|| {
            Error::internal("agent-answer", format!("{} opened a session without a usable id", self.profile.title()))
        })?;
        self.session_id = Some(id.to_owned());
        self.turn.history = task.session.is_some();
        Ok(opened)
    }

    /// Does the login that the row names; every other one needs a person.
    fn authenticate(&mut self) -> Result<()> {
        let methods = self.greeting["authMethods"].as_array().cloned().unwrap_or_default();
        let wanted = self.profile.auth_method.clone();
        let Some(id) = wanted.filter(|id| methods.iter().any(|method| method["id"] == *id)) else {
            let offered: Vec<String> = methods
                .iter()
                .take(8)
                .map(|method| {
                    let part = |name: &str| {
                        let text = method[name].as_str().unwrap_or_default().to_owned();
                        midplane_plugin::child::visible(&midplane_plugin::error::cut(text, 200))
                    };
                    format!("`{}` ({}: {})", part("id"), part("name"), part("description"))
                })
                .collect();
            let offered = if offered.is_empty() { "none".to_owned() } else { offered.join(", ") };
            return Err(Error::denied(
                "authenticate",
                format!("{} demands a login; it offers {offered}", self.profile.title()),
            )
            .hint(
                "log in with the program itself in the home of this profile's programs, or set `login` to `endpoint`",
            ));
        };
        let reply = self.exchange("authenticate", &json!({ "methodId": id }))?;
        reply.map(drop).map_err(|error| fault::of(&format!("the login `{id}` failed"), &error))
    }

    /// Puts the session into the mode for what the task allows. Without it the agent may do more than that.
    fn set_mode(&mut self, opened: &Value, mode: Option<&str>) -> Result<()> {
        let Some(mode) = mode.filter(|_| self.profile.mode_env.is_none()) else { return Ok(()) };
        let modes = &opened["modes"];
        let ids = |list: &Value, name: &str| -> Vec<String> {
            let list = list.as_array().into_iter().flatten().take(64);
            list.filter_map(|item| item[name].as_str()).map(str::to_owned).collect()
        };
        let available = ids(&modes["availableModes"], "id");
        // Newer agents have the mode among their options.
        let options = opened["configOptions"].as_array().into_iter().flatten();
        let option = options.into_iter().find(|option| option["category"] == "mode" || option["id"] == "mode");
        let values = option.map(|option| ids(&option["options"], "value")).unwrap_or_default();
        let (method, params) = if available.iter().any(|id| id == mode) {
            if modes["currentModeId"] == mode {
                return Ok(());
            }
            ("session/set_mode", json!({ "sessionId": self.session_id, "modeId": mode }))
        } else if let Some(option) = option.filter(|_| values.iter().any(|value| value == mode)) {
            if option["currentValue"] == mode {
                return Ok(());
            }
            let params = json!({ "sessionId": self.session_id, "configId": option["id"], "value": mode });
            ("session/set_config_option", params)
        } else {
            let known = [available, values].concat().join(", ");
            return Err(Error::unsupported(
                "mode",
                format!("{} has no mode `{mode}`; it has: {known}", self.profile.title()),
            ));
        };
        let reply = self.exchange(method, &params)?;
        reply.map(drop).map_err(|error| fault::of(&format!("the mode `{mode}` could not be set"), &error))
    }

    /// Lets a loaded session's history pass: some agents tell it after they have answered.
    fn settle(&mut self) -> Result<()> {
        let (silence_ms, start_ms) = (u64::from(self.profile.settle_ms.max(50)), self.host.now_ms());
        let mut heard_ms = start_ms;
        loop {
            let now_ms = self.host.now_ms();
            let left = (heard_ms + silence_ms).saturating_sub(now_ms);
            if left == 0 || now_ms.saturating_sub(start_ms) > SETTLE_MS_MAX {
                break;
            }
            match self.peer.wait(u32::try_from(left).unwrap_or(STEP_MS))? {
                Incoming::Timeout => break,
                other => {
                    heard_ms = self.host.now_ms();
                    self.take(other)?;
                }
            }
        }
        self.turn.history = false;
        Ok(())
    }

    /// Sends a call and waits for its answer, while all else that comes is dealt with.
    fn exchange(&mut self, method: &str, params: &Value) -> Result<Reply> {
        let call = self.peer.call(method, params)?;
        let start_ms = self.host.now_ms();
        loop {
            // What has come is told together, and before anything that waits.
            let incoming = match self.peer.wait(0)? {
                Incoming::Timeout => {
                    self.turn.events.flush()?;
                    self.peer.wait(STEP_MS)?
                }
                other => other,
            };
            match incoming {
                Incoming::Response { call: answered, reply } if answered == call => return Ok(reply),
                other => self.take(other)?,
            }
            // Also while it talks: one that never pauses must not outlast its time.
            self.look_at_the_time(method, start_ms)?;
            if self.greeting.is_null() && self.peer.child().skipped() > GARBAGE_MAX {
                let error = Error::invalid("not-acp", "the program does not speak the Agent Client Protocol");
                return Err(self.peer.child().describe(error));
            }
            if self.stopped.is_none() && self.rounds_max.is_some_and(|max| self.turn.rounds > max) {
                self.stop(true)?;
            }
        }
    }

    fn look_at_the_time(&mut self, method: &str, start_ms: u64) -> Result<()> {
        let now_ms = self.host.now_ms();
        if let Some(stop) = self.stopped {
            if now_ms >= stop.end_ms {
                return Err(Error::cancelled("no-answer", "the agent did not say that it has stopped"));
            }
        } else if !self.prompted && now_ms.saturating_sub(start_ms) >= self.start_ms {
            let error = Error::unavailable("no-answer", format!("no answer to `{method}` in {} ms", self.start_ms));
            return Err(self.peer.child().describe(error));
        } else if self.prompted {
            // It was given work that may be half done.
            return self.patience.check().map_err(|silence| Error::uncertain(silence.code, silence.message));
        }
        Ok(())
    }

    /// Deals with what is no answer to what we wait for.
    fn take(&mut self, incoming: Incoming) -> Result<()> {
        match incoming {
            Incoming::Notification { method, params } if method == "session/update" => {
                // Before the answer that names the session there is only one that it can be of.
                let ours = self.session_id.as_deref().is_none_or(|id| params["sessionId"] == id);
                self.patience.heard();
                if ours { self.turn.update(&params["update"]) } else { Ok(()) }
            }
            Incoming::Request { id, method, params } if method == "session/request_permission" => {
                self.permission(&id, &params)
            }
            // Also `fs/*` and `terminal/*`, which some agents call although they were told that there are none.
            Incoming::Request { id, method, .. } => {
                let method = midplane_plugin::error::cut(method, 100);
                self.peer.refuse(&id, METHOD_NOT_FOUND, &format!("method not found: {method}"))
            }
            Incoming::Signal => {
                // Steering is not declared; a signal that is not taken would wake us for ever.
                let _ = self.host.signal(0);
                Ok(())
            }
            Incoming::Cancelled if self.prompted => self.stop(false),
            Incoming::Cancelled => Err(Error::cancelled("cancelled", "the run was cancelled")),
            Incoming::Exited(exit) => Err(self.peer.child().ended(&exit, self.prompted)),
            Incoming::Notification { .. } | Incoming::Response { .. } | Incoming::Stderr(_) | Incoming::Timeout => {
                Ok(())
            }
        }
    }

    /// Passes a question on to the host and its answer back.
    fn permission(&mut self, id: &Id, params: &Value) -> Result<()> {
        // Every question is answered, also late: some agents wait for it until they are killed.
        if self.stopped.is_some() || !self.prompted {
            return self.peer.answer(id, &unanswered());
        }
        let asked = self.turn.asked(params)?;
        self.turn.events.flush()?;
        // A change of mode would answer questions to come; and who may only read needs no question about more.
        let never = asked.kind == "switch_mode"
            || (self.reads_only && !matches!(asked.kind.as_str(), "read" | "search" | "think" | "fetch"));
        let allowed = if never {
            false
        } else {
            let answer = self.host.ask(&asked.question);
            // A person may take long to answer.
            self.patience.heard();
            match answer {
                Ok(decision) => decision.allowed,
                Err(error) if error.is_cancelled() => {
                    self.stop(false)?;
                    return self.peer.answer(id, &unanswered());
                }
                Err(error) => {
                    self.peer.answer(id, &outcome(&params["options"], false))?;
                    return Err(error);
                }
            }
        };
        let answer = outcome(&params["options"], allowed);
        if !allowed || answer == unanswered() {
            self.turn.declined(&asked)?;
        }
        self.peer.answer(id, &answer)
    }

    /// Asks the agent to end its turn, once.
    fn stop(&mut self, rounds: bool) -> Result<()> {
        if self.stopped.is_some() {
            return Ok(());
        }
        // Something of the grace period is kept for ending the program and for what we return.
        let grace_ms = if rounds { STOP_MS } else { self.host.remaining_ms() };
        let wait_ms = grace_ms - (grace_ms / 2).min(1500);
        self.stopped = Some(Stop { rounds, end_ms: self.host.now_ms().saturating_add(wait_ms) });
        self.turn.cancelled = true;
        self.peer.notify("session/cancel", Some(&json!({ "sessionId": self.session_id })))
    }

    /// Ends the program and says how the run ended.
    fn close(mut self, result: Result<Value>) -> Result<Outcome> {
        let stopped = self.stopped;
        let mut ended = match (result, stopped) {
            (result, Some(stop)) => {
                // Whatever the agent calls it now, it ended because we asked.
                if let Ok(result) = &result {
                    self.turn.meter.result(result);
                }
                Outcome::new(if stop.rounds { "max_turns" } else { "interrupted" })
            }
            (Ok(result), None) => self.verdict(&result),
            // Nothing was asked of the vendor: an error says it all.
            (Err(error), None) if self.session_id.is_none() && !error.is_cancelled() => {
                self.end();
                return Err(error);
            }
            (Err(error), None) => Outcome::failed(error),
        };
        // A log that takes no more events must not keep the outcome back.
        let told = self.turn.finish();
        if let (Err(error), true) = (told, ended.error.is_none()) {
            ended.finish_reason = "failed".into();
            ended.error = Some(error);
        }
        ended.output = std::mem::take(&mut self.turn.output).into_string();
        ended.usage = self.turn.meter.usage();
        ended.tool_calls = std::mem::take(&mut self.turn.audit).into_calls();
        ended.artifacts = std::mem::take(&mut self.turn.files);
        ended.session_id = self.session_id.take();
        ended.rounds = self.turn.rounds;
        let mut metadata = json!({ "agent": self.profile.title(), "version": self.version });
        if ended.error.is_some() {
            metadata["stderr"] = json!(self.peer.child().stderr_tail());
        }
        ended.metadata = metadata.to_string();
        self.end();
        Ok(ended)
    }

    /// Ends the program in order.
    fn end(self) {
        let child = self.peer.into_child();
        if self.profile.ignores_eof {
            // It may have ended in between; the end below looks.
            let _ = child.stop(StopMode::Terminate);
        }
        child.end(patience_ms(self.host, END_MS), |_| ());
    }

    /// What the agent's own end of the turn means.
    fn verdict(&mut self, result: &Value) -> Outcome {
        self.turn.meter.result(result);
        let title = self.profile.title();
        let with = |finish: &str, error: Error| Outcome { error: Some(error), ..Outcome::new(finish) };
        match result["stopReason"].as_str() {
            // The text is then the error.
            Some("end_turn") if self.turn.system_error => {
                let what = format!("the turn of {title} failed");
                Outcome::failed(fault::of_text(&what, self.turn.output.as_str()))
            }
            Some("end_turn") => Outcome::new("done"),
            Some("max_tokens") => Outcome::new("max_tokens"),
            Some("max_turn_requests") => Outcome::new("max_turns"),
            Some("refusal") => Outcome::failed(Error::denied("refusal", format!("{title} refused to go on"))),
            // Not by us: an agent says so when a person said no.
            Some("cancelled") => with(
                "interrupted",
                Error::cancelled(
                    "agent-cancelled",
                    format!("{title} ended its turn by itself, as it does when it is declined"),
                ),
            ),
            other => {
                let other =
                    midplane_plugin::child::visible(&midplane_plugin::error::cut(other.unwrap_or("none").into(), 64));
                Outcome::failed(Error::internal(
                    "stop-reason",
                    format!("{title} ended its turn with the reason `{other}`"),
                ))
            }
        }
    }
}

fn mcp_server(server: &midplane_plugin::agent::McpServer) -> Value {
    let env: Vec<Value> = server.env.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
    let mut words = server.argv.iter();
    json!({
        "name": server.name, "command": words.next(), "args": words.collect::<Vec<_>>(), "env": env,
    })
}
