//! What the frames of a turn mean: events, the audit of the harness's tools, questions to answer, usage, and the end.
//!
//! Recorded facts that shape it:
//! - The user's own words come back as a step with a text; so do labels of tools ("Tool execution") and errors. The agent
//!   speaks in steps of the model to the user that have no action and no error.
//! - A step has no id that a call has, and steps do not say what came back. The hooks do both, so they are the audit.
//! - To be idle is not to have succeeded: `error` and `stopReason` say how it went, and a halt has neither.
//! - Numbers of 64 bits are text. Unknown frames and fields are passed over.

use midplane_plugin::agent::Usage;
use midplane_plugin::child::visible;
use midplane_plugin::error::cut;
use midplane_plugin::host::Question;
use midplane_plugin::program::{Audit, CallStatus, Finished, Text, file_change};
use midplane_plugin::{Events, Host, Result, Value, json};

use crate::frame::{
    Counters, KNOWN_ACTIONS, MESSAGE_BYTES_MAX, actions, arguments, call_arguments, full_name, message, text, unescaped,
};
use crate::tools;

/// Longest title of a question, in bytes.
const TITLE_BYTES_MAX: usize = 4096;
/// Longest structured answer that is kept, in bytes; the host bounds the outcome, too.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// What the harness says as the result of a tool that has none to tell.
const LABEL: &str = "Tool execution";
/// How a step says that a call was refused before it ran.
const REFUSED: &str = "denied by pre-tool hook";

/// What is to be done about a frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Todo {
    /// Send this frame.
    Send(Value),
    /// Ask the host, then send the answer by [`Asked::answer`].
    Ask(Question, Asked),
}

/// What a question of the harness is answered with.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    /// By the id of the request.
    Policy {
        /// The request.
        request: Value,
        /// The call that it is about.
        call: String,
    },
    /// By the place of the step.
    Confirmation {
        /// The trajectory.
        trajectory: Value,
        /// The step in it.
        step: Value,
    },
}

impl Asked {
    /// The frame that answers.
    #[must_use]
    pub fn answer(&self, allowed: bool, message: &str) -> Value {
        match self {
            Self::Policy { request, call: _ } => {
                let word = if allowed { "ALLOW" } else { "DENY" };
                let mut response =
                    json!({ "requestId": request, "outcome": format!("POLICY_EVALUATION_OUTCOME_{word}") });
                if !allowed {
                    response["denyReason"] = json!(message);
                }
                json!({ "policyDecisionResponse": response })
            }
            Self::Confirmation { trajectory, step } => {
                json!({ "toolConfirmation": { "trajectoryId": trajectory, "stepIndex": step, "accepted": allowed } })
            }
        }
    }
}

/// How the harness said that it is done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ended {
    /// What went wrong; empty for nothing.
    pub error: String,
    /// The vendor's status of what went wrong, if it was seen.
    pub status: Option<u16>,
    /// Why it stopped, without the prefix of the enumeration; empty for the normal end.
    pub stop: String,
}

impl Ended {
    /// Whether nothing speaks against success.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.error.is_empty() && matches!(self.stop.as_str(), "" | "UNSPECIFIED")
    }
}

/// A turn as far as it was heard.
pub struct Turn<'h> {
    host: &'h dyn Host,
    /// The events that are not flushed yet.
    pub events: Events<'h>,
    /// The calls of the harness's tools.
    pub audit: Audit,
    /// What the agent said.
    pub text: Text,
    /// The structured answer, as the `finish` tool was given it.
    pub answer: Option<String>,
    /// Model calls.
    pub rounds: u32,
    /// How it ended, once it did.
    pub ended: Option<Ended>,
    /// A halt was asked for.
    pub halted: bool,
    /// The trajectory of the agent itself; all others are of its subagents.
    main: String,
    workspace: Option<String>,
    /// What the conversation had used before this run.
    before: Counters,
    now: Counters,
    /// Inputs that the harness has not repeated to us yet: it is not done before it has seen them.
    unheard_inputs: u32,
    /// The harness has taken the task.
    begun: bool,
    /// Steps that wait for us and were answered: the harness repeats a step until it has the answer.
    answered: Vec<Value>,
    /// Calls without an id: tool and the id given here, newest last.
    nameless: Vec<(String, String)>,
    nameless_total: u64,
    /// Calls that wait for the harness's own policy, newest last.
    undecided: Vec<String>,
    /// Refusals of ours that the harness has not repeated to us yet.
    refused: u32,
    /// The step of the agent's last words.
    last_said: Option<u64>,
    last_status: Option<u16>,
}

impl<'h> Turn<'h> {
    /// A turn that has not begun. `response` is `initializeConversationResponse`.
    pub fn new(host: &'h dyn Host, workspace: Option<String>, response: &Value) -> Self {
        let before = Counters::read(&response["cumulativeUsage"]);
        Self {
            host,
            events: Events::new(host),
            audit: Audit::default(),
            text: Text::default(),
            answer: None,
            rounds: 0,
            ended: None,
            halted: false,
            main: text(&response["cascadeId"]).to_owned(),
            workspace,
            before,
            now: Counters::default(),
            unheard_inputs: 0,
            begun: false,
            answered: Vec::new(),
            nameless: Vec::new(),
            nameless_total: 0,
            undecided: Vec::new(),
            refused: 0,
            last_said: None,
            last_status: None,
        }
    }

    /// The frame that tells the harness something of the user.
    pub fn input(&mut self, text: &str) -> Value {
        self.unheard_inputs += 1;
        json!({ "userInput": { "parts": [{ "text": text }] } })
    }

    /// Takes a frame.
    pub fn take(&mut self, frame: &Value) -> Result<Vec<Todo>> {
        if frame["stepUpdate"].is_object() {
            return self.step(&frame["stepUpdate"]);
        }
        if frame["callHookRequest"].is_object() {
            return self.hook(&frame["callHookRequest"]);
        }
        if frame["policyDecisionRequest"].is_object() {
            return self.policy(&frame["policyDecisionRequest"]);
        }
        if frame["trajectoryStateUpdate"].is_object() {
            return self.state(&frame["trajectoryStateUpdate"]);
        }
        if frame["usageUpdate"]["total"].is_object() {
            return self.usage_update(&frame["usageUpdate"]["total"]);
        }
        if frame["toolCall"].is_object() {
            // We have given it no tools of ours; without an answer it would wait for ever.
            let call = &frame["toolCall"];
            let response = json!({ "id": call["id"], "errorMessage": "there is no such tool" });
            return Ok(vec![Todo::Send(json!({ "toolResponse": response }))]);
        }
        Ok(Vec::new())
    }

    /// The host answered a question.
    pub fn decided(&mut self, asked: &Asked, allowed: bool, message: &str) -> Result<()> {
        let Asked::Policy { call, request: _ } = asked else { return Ok(()) };
        self.undecided.retain(|id| id != call);
        if !allowed {
            self.refused = self.refused.saturating_add(1);
            self.finished(call, CallStatus::Declined, message)?;
        }
        Ok(())
    }

    /// What this run used.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.now.since(&self.before)
    }

    fn step(&mut self, step: &Value) -> Result<Vec<Todo>> {
        let (source, state) = (text(&step["source"]), text(&step["state"]));
        let own = self.is_own(&step["trajectoryId"]);
        if source == "SOURCE_USER" {
            self.begun |= own;
            self.unheard_inputs = self.unheard_inputs.saturating_sub(u32::from(own));
            return Ok(Vec::new());
        }
        let place = json!({ "trajectoryId": step["trajectoryId"], "stepIndex": step["stepIndex"] });
        let answered = self.answered.iter().position(|other| *other == place);
        if state == "STATE_WAITING_FOR_USER" {
            if answered.is_some() {
                return Ok(Vec::new());
            }
            if self.answered.len() >= 64 {
                self.answered.remove(0);
            }
            self.answered.push(place.clone());
            return self.waits(step, place);
        }
        if let Some(at) = answered {
            self.answered.swap_remove(at);
        }
        if state == "STATE_ERROR" {
            return self.failed_step(step, source).map(|()| Vec::new());
        }
        let thinking = text(&step["thinkingDelta"]);
        if own && !thinking.is_empty() {
            self.events.thinking(thinking)?;
        }
        let action = actions(step).next();
        match action {
            Some((name, action)) => self.action(name, action, state)?,
            None if source == "SOURCE_MODEL" && matches!(text(&step["target"]), "" | "TARGET_USER") => {
                let delta = text(&step["textDelta"]);
                if own && !delta.is_empty() {
                    self.say(step["stepIndex"].as_u64(), delta)?;
                } else if !own && !delta.is_empty() {
                    // A subagent's words are no part of the answer.
                    let said =
                        json!({ "subagent": step["trajectoryId"], "text": cut(delta.to_owned(), MESSAGE_BYTES_MAX) });
                    self.events.notification("vendor", json!({ "vendor": said }))?;
                }
            }
            None => {}
        }
        Ok(Vec::new())
    }

    /// The agent's words. Those of another step are a paragraph of their own: nothing else stands between them.
    fn say(&mut self, step: Option<u64>, delta: &str) -> Result<()> {
        if self.last_said.is_some() && self.last_said != step {
            self.text.push("\n\n");
            self.events.text("\n\n")?;
        }
        self.last_said = step;
        self.text.push(delta);
        self.events.text(delta)
    }

    fn action(&mut self, name: &str, action: &Value, state: &str) -> Result<()> {
        let done = state == "STATE_DONE";
        match name {
            "finish" => {
                let answer = text(&action["outputString"]);
                // The last one counts: the harness lets the model repair an answer that does not fit the schema.
                if !answer.is_empty() && answer.len() <= ANSWER_BYTES_MAX {
                    self.answer = Some(answer.to_owned());
                }
            }
            "editFile" | "createFile" if done => {
                let path = self.local(text(&action["filePath"]));
                file_change(&mut self.events, &path, if name == "editFile" { "update" } else { "add" })?;
            }
            "generateImage" if done => {
                let path = self.local(text(&action["outputPath"]));
                if !path.is_empty() {
                    file_change(&mut self.events, &path, "add")?;
                }
            }
            // A tool of a client: there is none of ours, and the step says all of it. The hooks tell all others.
            "customTool" => {
                let (call, response) = (&action["toolCall"], &action["toolResponse"]);
                let name = text(&call["name"]);
                let given = arguments(&call["argumentsJson"]);
                let open = match text(&call["id"]) {
                    "" => self.newest(name),
                    id => Some(id.to_owned()).filter(|id| self.audit.is_open(id)),
                };
                let id = match open {
                    Some(id) => {
                        self.audit.ran_with(&id, &given);
                        id
                    }
                    None => self.begun(text(&call["id"]), name, &given)?,
                };
                if done {
                    let error = text(&response["errorMessage"]);
                    let (status, result) = match error {
                        "" => (CallStatus::Ok, text(&response["responseJson"])),
                        error => (CallStatus::Error, error),
                    };
                    self.finished(&id, status, result)?;
                }
            }
            known if KNOWN_ACTIONS.contains(&known) => {}
            other if done => {
                let said = json!({ "chunk_type": cut(other.to_owned(), 64) });
                self.events.notification("vendor", json!({ "vendor": said }))?;
            }
            _ => {}
        }
        Ok(())
    }

    /// A step waits for us.
    fn waits(&mut self, step: &Value, place: Value) -> Result<Vec<Todo>> {
        if let Some(questions) = step["questionsRequest"]["questions"].as_array() {
            // Nobody can choose: each is told as open, and the model goes on with what it thinks best.
            let answers: Vec<Value> = questions.iter().take(64).map(|_| json!({ "unanswered": true })).collect();
            let asked: Vec<String> =
                questions.iter().take(8).map(|one| message(&one["multipleChoice"]["question"])).collect();
            self.events.notification("vendor", json!({ "vendor": { "unanswered_questions": asked } }))?;
            let mut response = place;
            response["response"] = json!({ "answers": answers });
            return Ok(vec![Todo::Send(json!({ "questionResponse": response }))]);
        }
        if step["toolConfirmationRequest"].is_object() {
            let (name, action) = actions(step).next().unwrap_or(("", &Value::Null));
            let title = [name, text(&step["requestText"])].join(" ");
            let question = Question {
                kind: "tool".into(),
                title: cut(visible(title.trim()), TITLE_BYTES_MAX),
                detail: json!({ "action": action, "step": place }).to_string(),
                call_id: None,
            };
            let asked = Asked::Confirmation {
                trajectory: step["trajectoryId"].clone(),
                step: step.get("stepIndex").cloned().unwrap_or(json!(0)),
            };
            return Ok(vec![Todo::Ask(question, asked)]);
        }
        Ok(Vec::new())
    }

    fn failed_step(&mut self, step: &Value, source: &str) -> Result<()> {
        // Where there was no answer, or none that it could read, the harness gives a number of gRPC, such as 2.
        let status = step["error"]["httpCode"].as_u64().and_then(|code| u16::try_from(code).ok());
        let status = status.filter(|code| (400..600).contains(code));
        let said = match text(&step["error"]["errorMessage"]) {
            "" => message(&step["errorMessage"]),
            _ => message(&step["error"]["errorMessage"]),
        };
        if source == "SOURCE_SYSTEM" {
            // Of the last one alone: an earlier failure that was repeated with success says nothing of the end.
            self.last_status = status;
            let code = status.map_or_else(|| "vendor-error".to_owned(), |status| format!("status-{status}"));
            return self.events.stream_error(&code, &said, said.starts_with("Encountered retryable"));
        }
        if said.contains(REFUSED) {
            if self.refused > 0 {
                self.refused -= 1;
                return Ok(());
            }
            // The harness's own policy refused a call. It does not say which; it decides when a call begins.
            if let Some(id) = self.undecided.pop() {
                return self.finished(&id, CallStatus::Declined, &said);
            }
        }
        self.events.notification("log", json!({ "level": "warn", "message": said }))
    }

    fn hook(&mut self, request: &Value) -> Result<Vec<Todo>> {
        let mut result = json!({ "requestId": request["requestId"] });
        let (before, after, failed) = (&request["preToolArgs"], &request["postToolArgs"], &request["onToolErrorArgs"]);
        if before.is_object() {
            self.before_tool(before)?;
            // Whether it may run is the policy's to say, which comes after.
            result["preToolResult"] = json!({ "decision": "ALLOW" });
        } else {
            if after.is_object() {
                self.after_tool(after, text(&after["error"]))?;
            } else if failed.is_object() {
                self.after_tool(failed, text(&failed["errorMessage"]))?;
            }
            result["emptyResult"] = json!({});
        }
        // After a halt nobody waits for the answer, and the harness takes it for an error.
        Ok(if self.halted { Vec::new() } else { vec![Todo::Send(json!({ "callHookResponse": result }))] })
    }

    fn before_tool(&mut self, call: &Value) -> Result<()> {
        let name = text(&call["toolName"]);
        // How the agent gives its structured answer, which is no tool of the task.
        if name == "finish" {
            return Ok(());
        }
        let arguments = call_arguments(call);
        let id = self.begun(text(&call["callId"]), &full_name(call), &arguments)?;
        if self.undecided.len() >= 64 {
            self.undecided.remove(0);
        }
        self.undecided.push(id);
        Ok(())
    }

    fn after_tool(&mut self, call: &Value, error: &str) -> Result<()> {
        let name = full_name(call);
        let result = text(&call["result"]);
        let command: Value = match name.as_str() {
            "run_command" => serde_json::from_str(result).unwrap_or_default(),
            _ => Value::Null,
        };
        let (status, said) = match (error, &command["exit_code"]) {
            ("", Value::Number(code)) if code.as_u64() != Some(0) => {
                (CallStatus::Error, text(&command["combined_output"]))
            }
            ("", Value::Number(_)) => (CallStatus::Ok, text(&command["combined_output"])),
            // A command that was broken off has no code.
            ("", _) if command.is_object() && self.halted => (CallStatus::Cancelled, text(&command["combined_output"])),
            ("", _) if result == LABEL => (CallStatus::Ok, ""),
            ("", _) => (CallStatus::Ok, result),
            (error, _) => (CallStatus::Error, error),
        };
        let id = match text(&call["callId"]) {
            "" => self.newest(&name),
            id => Some(id.to_owned()),
        };
        match id.filter(|id| self.audit.is_open(id)) {
            Some(id) => {
                self.undecided.retain(|other| *other != id);
                self.finished(&id, status, said)
            }
            None => {
                let end = Finished { status, result: said, duration_ms: None };
                self.audit.ended_alone(&mut self.events, text(&call["callId"]), &name, end)
            }
        }
    }

    fn policy(&mut self, request: &Value) -> Result<Vec<Todo>> {
        let call = &request["toolArgs"];
        let arguments = call_arguments(call);
        let (name, server) = (full_name(call), text(&call["serverName"]));
        let id = match text(&call["callId"]) {
            "" => self.newest(&name).unwrap_or_default(),
            id => id.to_owned(),
        };
        let shown = ["CommandLine", "TargetFile", "AbsolutePath", "Url", "query"]
            .iter()
            .find_map(|field| arguments[*field].as_str())
            .map_or_else(|| arguments.to_string(), ToOwned::to_owned);
        let kind = tools::question_kind(text(&call["toolName"]), server);
        let title = if kind == "command" { shown } else { format!("{name} {shown}") };
        let question = Question {
            kind: kind.into(),
            title: cut(visible(&title), TITLE_BYTES_MAX),
            detail:
                json!({ "tool": name, "server": server, "arguments": arguments, "reason": message(&request["reason"]) })
                    .to_string(),
            call_id: Some(id.clone()).filter(|id| !id.is_empty()),
        };
        Ok(vec![Todo::Ask(question, Asked::Policy { request: request["requestId"].clone(), call: id })])
    }

    fn state(&mut self, update: &Value) -> Result<Vec<Todo>> {
        let error = match &update["error"] {
            Value::String(error) => cut(visible(error), MESSAGE_BYTES_MAX),
            _ => String::new(),
        };
        if !self.is_own(&update["trajectoryId"]) {
            if !error.is_empty() {
                self.events.notification("log", json!({ "level": "warn", "message": error }))?;
            }
            return Ok(Vec::new());
        }
        let stop = text(&update["stopReason"]);
        let stop = cut(visible(stop.strip_prefix("STOP_REASON_").unwrap_or(stop)), 64);
        let mut ended = Ended { error, status: self.last_status, stop };
        match text(&update["state"]) {
            // Idle before it has taken what was said to it is the end of an earlier turn.
            "STATE_FULLY_IDLE" if ended.is_plain() && !self.halted && self.unheard_inputs > 0 => {}
            "STATE_FULLY_IDLE" => self.ended = Some(ended),
            "STATE_CANCELLED" => {
                if ended.error.is_empty() {
                    ended.error = "the harness cancelled the turn".into();
                }
                self.ended = Some(ended);
            }
            _ => {}
        }
        Ok(Vec::new())
    }

    fn usage_update(&mut self, total: &Value) -> Result<Vec<Todo>> {
        self.now = Counters::read(total);
        // When a conversation is taken up again, the harness first repeats what it had used, before our input.
        if self.begun {
            self.rounds = self.rounds.saturating_add(1);
        }
        let usage = self.usage();
        self.events.usage(&usage)?;
        Ok(Vec::new())
    }

    /// A call began; gives the id under which it is known.
    fn begun(&mut self, id: &str, name: &str, arguments: &Value) -> Result<String> {
        let name = if name.is_empty() { "tool" } else { name };
        let id = if id.is_empty() {
            self.nameless_total += 1;
            let id = format!("call-{}", self.nameless_total);
            if self.nameless.len() >= 64 {
                self.nameless.remove(0);
            }
            self.nameless.push((name.to_owned(), id.clone()));
            id
        } else {
            id.to_owned()
        };
        self.audit.requested(&mut self.events, self.host, &id, name, arguments)?;
        Ok(id)
    }

    fn finished(&mut self, id: &str, status: CallStatus, result: &str) -> Result<()> {
        self.nameless.retain(|(_, other)| other != id);
        let end = Finished { status, result, duration_ms: None };
        self.audit.finished(&mut self.events, self.host, id, end).map(drop)
    }

    /// The newest open call of a tool, for a harness that gives no ids.
    fn newest(&self, name: &str) -> Option<String> {
        self.nameless.iter().rev().find(|(other, _)| other == name).map(|(_, id)| id.clone())
    }

    fn is_own(&self, trajectory: &Value) -> bool {
        let trajectory = text(trajectory);
        trajectory.is_empty() || self.main.is_empty() || trajectory == self.main
    }

    /// A path as the task knows it: without the form of a URL, and relative to the workspace where it is inside.
    fn local(&self, path: &str) -> String {
        let path = path.strip_prefix("file://").map_or_else(|| path.to_owned(), unescaped);
        let inside = self.workspace.as_deref().and_then(|root| path.strip_prefix(root));
        match inside.and_then(|rest| rest.strip_prefix('/')) {
            Some(rest) => rest.to_owned(),
            None => path,
        }
    }
}
