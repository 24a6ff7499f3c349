//! What an agent tells while it works, as events and audits. No call here waits for anybody but the log.
//!
//! ```text
//! tool call:  pending ──► told ──► ended         each step once, whatever comes first and however often
//!                            └───► declined
//! ```
//!
//! An agent may ask for permission before or without announcing a call, repeat itself, or say nothing more of a call that
//! was declined. Hence a call is told when its arguments are known (it runs, or is asked about), its end is told once, and
//! what has no end when the turn is over is so audited.
//!
//! # What it never does
//! It never tells the history of a loaded session as if it were new, and keeps no more of an agent than its bounds.

use std::collections::BTreeMap;

use midplane_plugin::agent::Artifact;
use midplane_plugin::child::visible;
use midplane_plugin::error::cut;
use midplane_plugin::host::Question;
use midplane_plugin::program::{Audit, CallStatus, Finished, Text, file_change};
use midplane_plugin::{Events, Host, Result, Value, json};

use crate::profile::Profile;
use crate::usage::Meter;

/// Calls that are followed at most; those beyond it are left out.
const TOOLS_MAX: usize = 4096;
/// Longest id of a call, in bytes.
const ID_BYTES_MAX: usize = 256;
/// Longest arguments of a call as JSON, in bytes.
const ARGUMENTS_BYTES_MAX: usize = 64 * 1024;
/// Longest result of a call that is kept, in bytes.
const RESULT_BYTES_MAX: usize = 64 * 1024;
/// Longest title, name or path, in bytes.
const TITLE_BYTES_MAX: usize = 2048;
/// Files named as made at most.
const FILES_MAX: usize = 1000;

/// Everything that is known of a turn.
pub struct Turn<'h> {
    /// Where it is told.
    pub events: Events<'h>,
    /// What it used.
    pub meter: Meter,
    /// Whether what comes is a loaded session's past.
    pub history: bool,
    /// Whether we have asked the agent to stop.
    pub cancelled: bool,
    /// Model turns, counted from what is seen: one more each time when something new comes after a tool has ended.
    pub rounds: u32,
    /// The agent's one machine-readable sign that the turn failed, where it ends it as if it were done.
    pub system_error: bool,
    /// What the tools did.
    pub audit: Audit,
    /// The agent's last message.
    pub output: Text,
    /// New files.
    pub files: Vec<Artifact>,
    host: &'h dyn Host,
    profile: Profile,
    folder: String,
    mode: Option<String>,
    tools: BTreeMap<String, Tool>,
    /// The next text begins a new message, so that the output is the last one.
    output_over: bool,
    message_id: Option<String>,
    round_over: bool,
}

/// A call that is followed.
#[derive(Debug, Default)]
struct Tool {
    /// The id in events: an agent may use one twice.
    event_id: String,
    title: String,
    kind: String,
    named: Option<String>,
    arguments: Option<Value>,
    result: String,
    exit_code: Option<i64>,
    changes: Vec<(String, &'static str)>,
    state: State,
    uses: u32,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Pending,
    Told,
    Declined,
    Ended,
}

/// Which message speaks of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Call,
    Update,
    Question,
}

/// A question of the agent.
#[derive(Debug)]
pub struct Asked {
    /// For the host.
    pub question: Question,
    /// The protocol's kind of tool: `read`, `edit`, `execute` and so on.
    pub kind: String,
    /// The id of the call as the agent has it.
    pub id: Option<String>,
}

impl<'h> Turn<'h> {
    /// A turn in a folder, in a mode of the agent.
    pub fn new(host: &'h dyn Host, profile: &Profile, folder: &str, mode: Option<&str>) -> Self {
        Self {
            events: Events::new(host),
            meter: Meter::default(),
            history: false,
            cancelled: false,
            rounds: 0,
            system_error: false,
            audit: Audit::default(),
            output: Text::default(),
            files: Vec::new(),
            host,
            profile: profile.clone(),
            folder: folder.trim_end_matches('/').to_owned(),
            mode: mode.map(str::to_owned),
            tools: BTreeMap::new(),
            output_over: false,
            message_id: None,
            round_over: true,
        }
    }

    /// One `session/update`. A kind that is not known is skipped: agents have private ones.
    pub fn update(&mut self, update: &Value) -> Result<()> {
        let kind = update["sessionUpdate"].as_str().unwrap_or_default();
        if self.history {
            if kind == "usage_update" {
                self.meter.context(update, true);
            }
            return Ok(());
        }
        if self.meter.request(&update["_meta"]) {
            self.events.usage(&self.meter.usage())?;
        }
        match kind {
            "agent_message_chunk" => self.message(update),
            "agent_thought_chunk" => {
                let text = update["content"]["text"].as_str().unwrap_or_default();
                if text.is_empty() {
                    return Ok(());
                }
                self.begin_round();
                self.events.thinking(text)
            }
            "tool_call" | "tool_call_update" => self.tool(update, kind == "tool_call"),
            "plan" => self.plan(&update["entries"]),
            "usage_update" => {
                if self.meter.context(update, false) {
                    self.events.usage(&self.meter.usage())?;
                }
                let stats = json!({ "context_used_tokens": update["used"], "context_size_tokens": update["size"] });
                self.events.notification("stats", stats)
            }
            "current_mode_update" => self.mode_changed(update["currentModeId"].as_str().unwrap_or_default()),
            "session_info_update" => {
                let status = &update["_meta"]["codex"]["threadStatus"];
                self.system_error |= status == "systemError" || status["type"] == "systemError";
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What the agent asks for; tells the call, whose arguments are now known. Unset where there is no call in it.
    pub fn asked(&mut self, params: &Value) -> Result<Asked> {
        let call = &params["toolCall"];
        let id = self.follow(call, Says::Question).map(str::to_owned);
        self.begin_round();
        let kind = call["kind"].as_str().map(str::to_owned);
        let kind = kind.or_else(|| Some(self.tools.get(id.as_deref()?)?.kind.clone())).unwrap_or_default();
        let mut call_id = None;
        let mut title = command_line(&call["rawInput"]["command"]).unwrap_or_default();
        if let Some(id) = &id {
            self.tell(id)?;
            if let Some(tool) = self.tools.get(id) {
                call_id = Some(tool.event_id.clone());
                if title.is_empty() {
                    let known = tool.arguments.as_ref().and_then(|arguments| command_line(&arguments["command"]));
                    title = known.unwrap_or_else(|| tool.title.clone());
                }
            }
        }
        if title.is_empty() {
            title = call["title"].as_str().unwrap_or("something that it does not name").to_owned();
        }
        let detail = call.to_string();
        let detail = if detail.len() > ARGUMENTS_BYTES_MAX { r#"{"truncated":true}"#.to_owned() } else { detail };
        let word = match kind.as_str() {
            "execute" => "command",
            "edit" | "delete" | "move" => "file-change",
            "fetch" => "network",
            "read" | "search" | "think" => "tool",
            _ => "other",
        };
        let question = Question {
            kind: word.to_owned(),
            title: cut(visible(&title).replace('\n', "\\n"), TITLE_BYTES_MAX),
            detail: if call.is_object() { detail } else { "{}".to_owned() },
            call_id,
        };
        Ok(Asked { question, kind, id })
    }

    /// The answer to a question was no. Some agents say nothing more of such a call, so its end is told now.
    pub fn declined(&mut self, asked: &Asked) -> Result<()> {
        let Some(id) = &asked.id else { return Ok(()) };
        self.end(id, CallStatus::Declined)
    }

    /// Nothing more comes: what has no end yet is told so.
    pub fn finish(&mut self) -> Result<()> {
        let pending: Vec<String> =
            self.tools.iter().filter(|(_, tool)| tool.state == State::Pending).map(|(id, _)| id.clone()).collect();
        for id in pending {
            self.tell(&id)?;
        }
        self.audit.close(&mut self.events, self.host)?;
        self.events.flush()
    }

    fn message(&mut self, update: &Value) -> Result<()> {
        let content = &update["content"];
        let text = content["text"].as_str().unwrap_or_default();
        if text.is_empty() {
            return Ok(());
        }
        if self.profile.asides.iter().any(|start| text.starts_with(start.as_str())) {
            return self.events.notification("log", json!({ "level": "warn", "message": cut(text.into(), 4096) }));
        }
        self.begin_round();
        let message_id = update["messageId"].as_str().map(|id| cut(id.to_owned(), ID_BYTES_MAX));
        if self.output_over || (message_id.is_some() && message_id != self.message_id) {
            self.output.set("");
            self.output_over = false;
        }
        self.message_id = message_id;
        self.output.push(text);
        self.events.text(text)
    }

    fn plan(&mut self, entries: &Value) -> Result<()> {
        let lines: Vec<String> = entries
            .as_array()
            .into_iter()
            .flatten()
            .take(200)
            .map(|entry| {
                let mark = match entry["status"].as_str() {
                    Some("completed") => "x",
                    Some("in_progress") => ">",
                    _ => " ",
                };
                format!("[{mark}] {}", cut(entry["content"].as_str().unwrap_or_default().into(), 500))
            })
            .collect();
        self.events.notification("plan", json!({ "text": lines.join("\n") }))
    }

    /// A mode that nobody here asked for may allow more than the task does: it is at least told.
    fn mode_changed(&mut self, mode: &str) -> Result<()> {
        if self.mode.as_deref().is_none_or(|wanted| wanted == mode) {
            return Ok(());
        }
        let message = format!("the agent changed its mode to `{}` by itself", visible(&cut(mode.into(), ID_BYTES_MAX)));
        self.events.notification("log", json!({ "level": "warn", "message": message }))
    }

    fn tool(&mut self, update: &Value, opens: bool) -> Result<()> {
        let says = if opens { Says::Call } else { Says::Update };
        let Some(id) = self.follow(update, says).map(str::to_owned) else { return Ok(()) };
        let state = self.tools.get(&id).map(|tool| tool.state).unwrap_or_default();
        let status = update["status"].as_str().unwrap_or_default();
        match (status, state) {
            ("completed", State::Declined) => {
                let message = format!("the agent says that it ran `{id}`, which was declined");
                self.events.notification("log", json!({ "level": "error", "message": message }))
            }
            (_, State::Ended | State::Declined) => Ok(()),
            ("in_progress", State::Pending) => self.tell(&id),
            ("completed", _) => self.end(&id, CallStatus::Ok),
            ("failed", _) => self.end(&id, CallStatus::Error),
            _ => Ok(()),
        }
    }

    /// Takes in what a message says of a call. Unset for one without a usable id, or one too many.
    fn follow<'u>(&mut self, update: &'u Value, says: Says) -> Option<&'u str> {
        let id = update["toolCallId"].as_str().filter(|id| !id.is_empty() && id.len() <= ID_BYTES_MAX)?;
        if !self.tools.contains_key(id) {
            if self.tools.len() >= TOOLS_MAX {
                return None;
            }
            self.tools.insert(id.to_owned(), Tool { event_id: id.to_owned(), uses: 1, ..Tool::default() });
            self.begin_round();
        }
        let tool = self.tools.get_mut(id)?;
        let starts = matches!(update["status"].as_str(), None | Some("pending" | "in_progress"));
        if says == Says::Call && starts && matches!(tool.state, State::Ended | State::Declined) {
            // The same id for another call: models that are mocked or small number from one again.
            let uses = tool.uses.saturating_add(1);
            *tool = Tool { event_id: format!("{id}#{uses}"), uses, ..Tool::default() };
        }
        if matches!(tool.state, State::Pending | State::Told) {
            tool.learn(update, &self.folder);
            // Before its end the content of a call or of a question is what it is about.
            if says == Says::Update || !starts {
                tool.learn_result(update);
            }
        }
        Some(id)
    }

    /// Tells a call, once.
    fn tell(&mut self, id: &str) -> Result<()> {
        let Some(tool) = self.tools.get_mut(id).filter(|tool| tool.state == State::Pending) else { return Ok(()) };
        tool.state = State::Told;
        tool.named = tool.named.take().or_else(|| {
            let (name, _) = id.split_once(self.profile.tool_name_end.as_deref()?)?;
            Some(name.to_owned())
        });
        self.output_over = true;
        self.audit.requested(&mut self.events, self.host, &tool.event_id, tool.name(), &tool.arguments())
    }

    /// Tells a call's end, once.
    fn end(&mut self, id: &str, how: CallStatus) -> Result<()> {
        self.tell(id)?;
        let Some(tool) = self.tools.get_mut(id).filter(|tool| tool.state == State::Told) else { return Ok(()) };
        let status = match how {
            CallStatus::Declined => how,
            // Agents call a command that we had killed completed.
            _ if self.cancelled => CallStatus::Cancelled,
            // Nor is a command good because its tool could run it.
            CallStatus::Ok if tool.exit_code.is_some_and(|code| code != 0) => CallStatus::Error,
            _ => how,
        };
        tool.state = if status == CallStatus::Declined { State::Declined } else { State::Ended };
        let changes = if status == CallStatus::Ok { std::mem::take(&mut tool.changes) } else { Vec::new() };
        // What it said is in the log now; only the state is needed further.
        let result = std::mem::take(&mut tool.result);
        let finished = Finished { status, result: &result, duration_ms: None };
        self.audit.finished(&mut self.events, self.host, &tool.event_id, finished)?;
        self.round_over = true;
        for (path, change) in changes {
            file_change(&mut self.events, &path, change)?;
            if change == "add" && self.files.len() < FILES_MAX && self.files.iter().all(|file| file.uri != path) {
                self.files.push(Artifact { uri: path, kind: "file".into(), metadata: "{}".into() });
            }
        }
        Ok(())
    }

    fn begin_round(&mut self) {
        if std::mem::take(&mut self.round_over) {
            self.rounds = self.rounds.saturating_add(1);
        }
    }
}

impl Tool {
    fn learn(&mut self, update: &Value, folder: &str) {
        if let Some(title) = update["title"].as_str().filter(|title| !title.is_empty()) {
            self.title = cut(title.to_owned(), TITLE_BYTES_MAX);
        }
        if let Some(kind) = update["kind"].as_str() {
            self.kind = cut(kind.to_owned(), 64);
        }
        if let Some(name) = update["_meta"]["toolName"].as_str() {
            self.named = Some(cut(name.to_owned(), 128));
        }
        if let Some(input) = update["rawInput"].as_object().filter(|input| !input.is_empty()) {
            let input = Value::Object(input.clone());
            let long = input.to_string().len() > ARGUMENTS_BYTES_MAX;
            self.arguments = Some(if long { json!({ "truncated": true, "title": self.title }) } else { input });
        }
        let items = update["content"].as_array();
        if let Some(items) = items.filter(|items| !items.is_empty()) {
            self.changes = items.iter().take(FILES_MAX).filter_map(|item| change(item, folder)).collect();
        }
        if self.kind == "delete" && self.changes.is_empty() {
            let paths = update["locations"].as_array().into_iter().flatten().filter_map(|at| at["path"].as_str());
            self.changes = paths.take(FILES_MAX).map(|path| (relative(path, folder), "delete")).collect();
        }
    }

    fn learn_result(&mut self, update: &Value) {
        let items = update["content"].as_array();
        let texts: Vec<&str> =
            items.into_iter().flatten().filter_map(|item| item["content"]["text"].as_str()).collect();
        let output = &update["rawOutput"];
        let told = ["formatted_output", "output", "stdout", "error"].iter().find_map(|name| output[*name].as_str());
        let text = if texts.is_empty() { told.or(output.as_str()).map(str::to_owned) } else { Some(texts.join("\n")) };
        if let Some(text) = text {
            self.result = cut(text, RESULT_BYTES_MAX);
        }
        let codes = [&output["exit_code"], &output["exitCode"], &output["metadata"]["exit"]];
        self.exit_code = codes.into_iter().find_map(Value::as_i64).or(self.exit_code);
    }

    fn name(&self) -> &str {
        match &self.named {
            Some(name) => name,
            None if self.kind.is_empty() => "other",
            None => &self.kind,
        }
    }

    /// What it was called with; where the agent does not say, what it says to a person.
    fn arguments(&self) -> Value {
        self.arguments.clone().unwrap_or_else(|| json!({ "title": self.title }))
    }
}

/// What may be answered to a permission question: the option that holds once, or that there is no answer. An option that
/// holds for longer is never taken, whatever policy says: it would answer questions that nobody has asked yet.
#[must_use]
pub fn outcome(options: &Value, allowed: bool) -> Value {
    let kind = if allowed { "allow_once" } else { "reject_once" };
    let option = options.as_array().into_iter().flatten().find(|option| option["kind"] == kind);
    match option.map(|option| &option["optionId"]) {
        Some(id) if id.is_string() => json!({ "outcome": { "outcome": "selected", "optionId": id } }),
        _ => unanswered(),
    }
}

/// The answer to a question when the turn was cancelled.
#[must_use]
pub fn unanswered() -> Value {
    json!({ "outcome": { "outcome": "cancelled" } })
}

/// A change of a file, from one item of a call's content.
fn change(item: &Value, folder: &str) -> Option<(String, &'static str)> {
    let path = item["path"].as_str().filter(|_| item["type"] == "diff")?;
    Some((relative(path, folder), if item["oldText"].is_string() { "update" } else { "add" }))
}

/// A path as the host names files: relative to the workspace where it is inside.
fn relative(path: &str, folder: &str) -> String {
    let inside = path.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'));
    cut(inside.unwrap_or(path).to_owned(), TITLE_BYTES_MAX)
}

/// The line of a command that is given as text or as words; of `sh -c LINE` the line.
fn command_line(command: &Value) -> Option<String> {
    if let Some(line) = command.as_str() {
        return Some(line.to_owned());
    }
    let words: Vec<&str> = command.as_array()?.iter().filter_map(Value::as_str).collect();
    match words.as_slice() {
        [] => None,
        [_, "-c" | "-lc", line] => Some((*line).to_owned()),
        words => Some(words.join(" ")),
    }
}
