//! One conversation with the program: `initialize`, the task's servers, the prompt; then its frames and questions until
//! its turn is over; then an orderly end.
//!
//! On a cancel the program is interrupted by its own protocol and what it still says is taken, so that usage and the
//! conversation's id are not lost and the conversation can be gone on with.

use midplane_plugin::agent::{Outcome, Task};
use midplane_plugin::child::{Child, Limits, Said};
use midplane_plugin::error::cut;
use midplane_plugin::host::{Exit, Question};
use midplane_plugin::program::{self, Patience, patience_ms};
use midplane_plugin::settings;
use midplane_plugin::{Error, Host, Result, Value, json};

use crate::launch::{self, HOOK, INSTALL, Setup, VERSION_BELOW, VERSION_MIN};
use crate::rules::{Rules, permission_mode};
use crate::turn::Turn;

/// Longest time until the program answers a request of ours, in milliseconds: servers may have to start.
const ANSWER_MS_MAX: u64 = 120_000;
/// Longest time after a result until the program has nothing left to do, in milliseconds: its own bound.
const REST_MS_MAX: u64 = 600_000;
/// Longest step of an orderly end, in milliseconds: it writes the conversation down.
const END_MS: u32 = 5_000;
/// How long a program that no longer reads is listened to, in milliseconds.
const DEAF_MS_MAX: u64 = 5_000;
/// Lines that are no frames, after which a program is no such program.
const UNUSABLE_MAX: u64 = 1_000;
/// Longest title of a question, in bytes.
const TITLE_BYTES_MAX: usize = 1_000;

/// Does a task.
pub fn run(host: &dyn Host, task: &Task) -> Result<Outcome> {
    let setup = Setup::read(host, task.model.as_deref())?.with_metadata(&task.metadata)?;
    let rules = Rules::new(&task.permissions, task.working_directory.as_deref())
        .map_err(|(field, why)| Error::invalid("task", format!("`{field}`: {why}")))?;
    let endpoint = if setup.endpoint { settings::endpoint(host, "vendor")? } else { None };
    if setup.endpoint && endpoint.is_none() {
        let base_url = settings::text(host, "base_url").unwrap_or_default();
        return Err(Error::denied("endpoint", "this host gives the program no way to its vendor").hint(&format!(
            "grant `http:{base_url}` and `secret:ANTHROPIC_API_KEY`, or set `endpoint` to false for a login of its own"
        )));
    }
    let initialize = launch::initialize(task, &rules)?;
    let command = setup.command(task, &rules, endpoint.as_ref());
    let child = Child::spawn(host, &command, Limits::default())
        .map_err(|error| program::explain_spawn(error, &setup.program, INSTALL))?;
    let mut drive = Drive {
        host,
        task,
        setup: &setup,
        rules: &rules,
        child,
        turn: Turn::new(host, task),
        patience: Patience::from_settings(host)?,
        phase: Phase::Starting,
        asked: 0,
        since_ms: host.now_ms(),
        cancelled: false,
        deaf_since_ms: None,
    };
    let failure = drive.ask(initialize).and_then(|()| drive.converse()).err();
    Ok(drive.finish(failure))
}

/// The version that the program says of itself when it is asked for nothing else.
pub fn version(host: &dyn Host, program: &str, timeout_ms: u32) -> Result<String> {
    let command = midplane_plugin::host::Command {
        argv: vec![program.to_owned(), "--version".to_owned()],
        cwd: None,
        env: Vec::new(),
        secret_env: Vec::new(),
    };
    let mut child = Child::spawn(host, &command, Limits::default())
        .map_err(|error| program::explain_spawn(error, program, INSTALL))?;
    child.close_stdin();
    let end_ms = host.now_ms().saturating_add(timeout_ms.into());
    let mut first = None;
    loop {
        let left = end_ms.saturating_sub(host.now_ms());
        match child.wait(u32::try_from(left).unwrap_or(u32::MAX))? {
            Said::Line(line) => drop(first.get_or_insert(line)),
            Said::Exited(Exit::Code(0)) => {
                let said = first.unwrap_or_default();
                program::check_version(program, &said, VERSION_MIN, VERSION_BELOW, INSTALL)?;
                return Ok(said);
            }
            Said::Exited(exit) => return Err(child.ended(&exit, false)),
            Said::Timeout | Said::Cancelled => {
                return Err(Error::unavailable("timeout", format!("`{program} --version` gave no answer in time")));
            }
            Said::Stderr(_) | Said::Signal => {}
        }
    }
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The answer to `initialize`.
    Starting,
    /// The answer to the task's servers.
    Serving,
    /// The end of the turn.
    Working,
}

struct Drive<'h> {
    host: &'h dyn Host,
    task: &'h Task,
    setup: &'h Setup,
    rules: &'h Rules,
    child: Child<'h>,
    turn: Turn<'h>,
    patience: Patience<'h>,
    phase: Phase,
    /// Requests of ours so far; the last one's number is in its id.
    asked: u32,
    /// Since when the answer, or after a result the end, is waited for.
    since_ms: u64,
    cancelled: bool,
    deaf_since_ms: Option<u64>,
}

impl Drive<'_> {
    /// Talks until the turn is over.
    fn converse(&mut self) -> Result<()> {
        loop {
            // What is there is taken at once; before a real wait the log gets what was gathered.
            let said = match self.child.wait(0)? {
                Said::Timeout => {
                    self.turn.events.flush()?;
                    self.child.wait(self.patience.wait_ms())?
                }
                said => said,
            };
            match said {
                Said::Line(line) => self.line(&line)?,
                // Noise is no sign of work, however much of it there is.
                Said::Stderr(_) => self.waited()?,
                Said::Signal => self.steer()?,
                Said::Cancelled => self.interrupt(),
                Said::Timeout => self.waited()?,
                Said::Exited(exit) => {
                    return if self.turn.has_result() {
                        Ok(())
                    } else {
                        Err(self.child.ended(&exit, self.phase == Phase::Working))
                    };
                }
            }
            if self.turn.is_over() || (self.cancelled && self.turn.has_result()) {
                return Ok(());
            }
        }
    }

    /// Ends the program and gives the outcome.
    fn finish(mut self, failure: Option<Error>) -> Outcome {
        let mut metadata = json!({ "permission_mode": permission_mode(&self.task.permissions) });
        if let Some(model) = &self.setup.model {
            metadata["model"] = json!(model);
        }
        if let Some(version) = &self.turn.version {
            metadata["vendor_version"] = json!(version);
        }
        // It is described before the end, whose own noise is not the cause.
        let failure = failure.map(|error| match error.code.as_str() {
            "program-ended" => error,
            _ => self.child.describe(error),
        });
        if self.child.skipped() > 0 {
            metadata["unusable_lines"] = json!(self.child.skipped());
        }
        self.cancelled |= self.host.cancelled();
        let (child, turn) = (self.child, &mut self.turn);
        let exit = match child.exit() {
            Some(exit) => Some(exit.clone()),
            None => child.end(patience_ms(self.host, END_MS), |said| {
                // After an interrupt the result may come while the program ends, and a program that tells no state may
                // take up one more turn. A log that is full is told below.
                if let Said::Line(line) = said
                    && let Ok(frame) = serde_json::from_str::<Value>(&line)
                {
                    let _ = turn.take(&frame);
                }
            }),
        };
        match exit {
            // It ends with 1 after a result that is an error; what counts is the result.
            Some(Exit::Code(code)) if code != 0 => metadata["exit_code"] = json!(code),
            Some(Exit::Signal(signal)) => metadata["exit_signal"] = json!(signal),
            _ => {}
        }
        self.turn.outcome(self.cancelled, failure, metadata)
    }

    fn line(&mut self, line: &str) -> Result<()> {
        let Some(frame) = serde_json::from_str::<Value>(line).ok().filter(Value::is_object) else {
            self.child.skip(line);
            if self.child.skipped() > UNUSABLE_MAX {
                return Err(Error::invalid("not-frames", "the program writes lines that are no frames"));
            }
            return Ok(());
        };
        self.patience.heard();
        match frame["type"].as_str() {
            Some("control_request") => self.question(&frame),
            Some("control_response") => self.answer(&frame["response"]),
            _ => {
                let had_result = self.turn.has_result();
                self.turn.take(&frame)?;
                if !had_result {
                    self.since_ms = self.host.now_ms();
                }
                self.check_version()
            }
        }
    }

    /// The answer to a request of ours.
    fn answer(&mut self, response: &Value) -> Result<()> {
        if response["request_id"] != json!(self.request_id()) {
            return Ok(());
        }
        let refused = (response["subtype"] == "error")
            .then(|| cut(response["error"].as_str().unwrap_or("no reason given").to_owned(), TITLE_BYTES_MAX));
        let body = &response["response"];
        match (self.phase, refused) {
            (Phase::Starting, Some(why)) => {
                Err(Error::unavailable("handshake", format!("the program refused to start: {why}")))
            }
            (Phase::Starting, None) => {
                if let Some(version) = body["claude_code_version"].as_str() {
                    self.turn.version = Some(cut(version.to_owned(), 64));
                    self.check_version()?;
                }
                match launch::servers(self.task) {
                    Some(servers) => {
                        self.phase = Phase::Serving;
                        self.ask(servers)
                    }
                    None => self.prompt(),
                }
            }
            (Phase::Serving, Some(why)) => {
                Err(Error::unsupported("mcp-servers", format!("the program takes no MCP servers from its host: {why}"))
                    .hint(INSTALL))
            }
            (Phase::Serving, None) => {
                let failed = body["errors"].as_object().and_then(|errors| errors.iter().next());
                match failed {
                    Some((name, why)) => Err(Error::unavailable(
                        "mcp-server",
                        format!("the MCP server `{name}` did not start: {}", why.as_str().unwrap_or_default()),
                    )),
                    None => self.prompt(),
                }
            }
            // To an interrupt.
            (Phase::Working, _) => Ok(()),
        }
    }

    fn prompt(&mut self) -> Result<()> {
        self.phase = Phase::Working;
        let prompt = self.setup.prompt(&self.task.goal);
        for attachment in &self.task.attachments {
            self.turn.start()?;
            self.turn.events.attached(attachment)?;
        }
        self.send(&prompt)
    }

    fn check_version(&self) -> Result<()> {
        match &self.turn.version {
            // Those that say none predate the field; whether they fit shows.
            None => Ok(()),
            Some(said) => {
                program::check_version(&self.setup.program, said, VERSION_MIN, VERSION_BELOW, INSTALL).map(drop)
            }
        }
    }

    /// A request of the program's. All are answered.
    fn question(&mut self, frame: &Value) -> Result<()> {
        let (id, request) = (&frame["request_id"], &frame["request"]);
        let reply = match request["subtype"].as_str() {
            Some("can_use_tool") => Ok(self.permission(request)?),
            Some("hook_callback") if request["callback_id"] == HOOK => Ok(self.before_tool(&request["input"])),
            // No server of ours was named to it.
            Some("mcp_message") => {
                let error = json!({ "code": -32601, "message": "this host serves no MCP server over this channel" });
                Ok(json!({ "mcp_response": { "jsonrpc": "2.0", "id": request["message"]["id"], "error": error } }))
            }
            other => Err(format!("this host does not answer `{}`", cut(other.unwrap_or_default().to_owned(), 64))),
        };
        self.patience.restart();
        self.send(&match reply {
            Ok(reply) => json!({
                "type": "control_response",
                "response": { "subtype": "success", "request_id": id, "response": reply },
            }),
            Err(why) => json!({
                "type": "control_response",
                "response": { "subtype": "error", "request_id": id, "error": why },
            }),
        })
    }

    /// Asks the host, unless the task itself says no.
    fn permission(&mut self, request: &Value) -> Result<Value> {
        let tool = request["tool_name"].as_str().unwrap_or_default();
        let call_id = request["tool_use_id"].as_str();
        let deny = |why: String, interrupt: bool| {
            let mut reply = json!({ "behavior": "deny", "message": why });
            if interrupt {
                reply["interrupt"] = json!(true);
            }
            reply
        };
        let reply = match self.rules.declines(tool, request) {
            Some(why) => deny(why, false),
            None => {
                // A person may look at what was told so far.
                self.turn.events.flush()?;
                match self.host.ask(&question(tool, request, call_id)) {
                    Ok(decision) if decision.allowed => {
                        json!({ "behavior": "allow", "updatedInput": request["input"] })
                    }
                    Ok(decision) => deny(decision.message, false),
                    Err(error) if error.is_cancelled() => deny("the run was cancelled".into(), true),
                    Err(error) => deny(error.message, false),
                }
            }
        };
        if reply["behavior"] == "deny"
            && let Some(id) = call_id
        {
            self.turn.declined(id);
        }
        Ok(reply)
    }

    /// The hook before each call, also where the program would not ask.
    fn before_tool(&mut self, input: &Value) -> Value {
        let tool = input["tool_name"].as_str().unwrap_or_default();
        let Some(why) = self.rules.refuses(tool, &input["tool_input"]) else { return json!({}) };
        if let Some(id) = input["tool_use_id"].as_str() {
            self.turn.declined(id);
        }
        json!({ "hookSpecificOutput": {
            "hookEventName": "PreToolUse", "permissionDecision": "deny", "permissionDecisionReason": why,
        } })
    }

    /// What the user adds while it works is one more message, which the program takes in when it can.
    fn steer(&mut self) -> Result<()> {
        match self.host.signal(0) {
            Ok(Some(signal)) if signal.kind == "steer" => {
                self.turn.start()?;
                self.turn.events.notification("steer", json!({ "text": signal.text }))?;
                let prompt = self.setup.prompt(&signal.text);
                self.send(&prompt)
            }
            Ok(_) => Ok(()),
            Err(error) if error.is_cancelled() => {
                self.interrupt();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Interrupts by the protocol. The program answers, and ends its turn with a result.
    fn interrupt(&mut self) {
        self.cancelled = true;
        self.since_ms = self.host.now_ms();
        // One that does not read is ended all the same.
        let _ = self.ask(json!({ "subtype": "interrupt" }));
    }

    /// Nothing was said for a while.
    fn waited(&mut self) -> Result<()> {
        let waited_ms = self.host.now_ms().saturating_sub(self.since_ms);
        if self.cancelled {
            // Half of the grace is for the answer, the rest for the end.
            let enough = self.phase != Phase::Working || waited_ms >= self.host.remaining_ms();
            return if enough { Err(Error::cancelled("cancelled", "the run was cancelled")) } else { Ok(()) };
        }
        if self.deaf_since_ms.is_some_and(|since| self.host.now_ms().saturating_sub(since) >= DEAF_MS_MAX) {
            return Err(Error::uncertain("stdin-closed", "the program closed its input before its work was done"));
        }
        if self.turn.has_result() {
            // It says that it works on, and does not.
            return if waited_ms >= REST_MS_MAX {
                Err(Error::unavailable("idle", "the program has a result and does not come to its end"))
            } else {
                Ok(())
            };
        }
        if self.phase != Phase::Working && waited_ms >= ANSWER_MS_MAX {
            let error = format!("the program gave no answer to its start within {ANSWER_MS_MAX} ms");
            return Err(Error::unavailable("handshake", error));
        }
        self.patience.check().map_err(|silence| match self.phase {
            // It was given work that may be half done.
            Phase::Working => Error::uncertain(silence.code, silence.message),
            _ => silence,
        })
    }

    fn request_id(&self) -> String {
        format!("midplane-{}", self.asked)
    }

    fn ask(&mut self, request: Value) -> Result<()> {
        self.asked += 1;
        self.since_ms = self.host.now_ms();
        let id = self.request_id();
        self.send(&json!({ "type": "control_request", "request_id": id, "request": request }))
    }

    /// Sends a frame. A program that has closed its input may still say why, so that is no error yet.
    fn send(&mut self, frame: &Value) -> Result<()> {
        match self.child.send(&frame.to_string()) {
            Err(error) if error.code == "stdin-closed" => {
                self.deaf_since_ms.get_or_insert(self.host.now_ms());
                Ok(())
            }
            sent => sent,
        }
    }
}

/// A question for the host's policy, or for a person.
fn question(tool: &str, request: &Value, call_id: Option<&str>) -> Question {
    let input = &request["input"];
    let text = |name: &str| input[name].as_str().map(str::to_owned);
    let (kind, title) = match tool {
        "Bash" => ("command", text("command")),
        "Write" | "Edit" | "MultiEdit" | "NotebookEdit" => {
            ("file-change", text("file_path").or_else(|| text("notebook_path")))
        }
        "WebFetch" | "WebSearch" => ("network", text("url").or_else(|| text("query"))),
        _ => ("tool", None),
    };
    let title = title.unwrap_or_else(|| format!("{tool} {input}"));
    Question {
        kind: kind.to_owned(),
        title: cut(title, TITLE_BYTES_MAX),
        detail: request.to_string(),
        call_id: call_id.map(str::to_owned),
    }
}
