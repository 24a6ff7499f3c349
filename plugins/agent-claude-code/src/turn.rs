//! What the program says, frame by frame: events as they come, and what is kept for the outcome.
//!
//! No frame is kept. Text, audits, counters and lists have bounds; what is beyond is counted.
//!
//! With partial messages a block of text comes twice: in pieces, and whole when it is complete. The pieces are told at
//! once; of the whole only what no piece told. A subagent's words are its own: they are told, and no part of the output.

use std::collections::{BTreeSet, VecDeque};

use midplane_plugin::agent::{Outcome, Task};
use midplane_plugin::error::cut;
use midplane_plugin::program::{Audit, CallStatus, Finished, Text, preview};
use midplane_plugin::{Error, Events, Host, Result, Value, json};

use crate::failure;
use crate::usage::Counted;

/// Blocks of text that came in pieces and are not there whole yet.
const BLOCKS_MAX: usize = 64;
/// Bytes of text in them; pieces beyond are told with the whole.
const PIECES_BYTES_MAX: usize = 1024 * 1024;
/// Declined calls and background tasks that are remembered.
const IDS_MAX: usize = 1024;
/// Denials that the outcome names.
const DENIALS_MAX: usize = 50;
/// Bytes of a text that is told in a `vendor` notification.
const TOLD_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a word of the vendor that is kept: an id, a model, a version.
const WORD_BYTES_MAX: usize = 256;

/// The state of one run.
pub struct Turn<'h> {
    host: &'h dyn Host,
    /// Whether a value was asked for; one that nobody asked for is none.
    wants_value: bool,
    /// What is told.
    pub events: Events<'h>,
    started: bool,
    output: Text,
    /// Whether any text of the agent was told.
    told: bool,
    pieces: VecDeque<String>,
    thought_in_pieces: bool,
    audit: Audit,
    declined: BTreeSet<String>,
    usage: Counted,
    session_id: Option<String>,
    model: Option<String>,
    /// The version that the program says.
    pub version: Option<String>,
    messages: u32,
    last_message: String,
    /// The word of the last message that has one.
    word: Option<(String, Error)>,
    rate_limit: Value,
    result: Option<Ended>,
    /// What the program says that it is doing: `running`, `idle`, `requires_action`.
    state: Option<String>,
    tasks: BTreeSet<String>,
}

/// The last result, without what is not needed of it.
struct Ended {
    finish: &'static str,
    error: Option<Error>,
    rounds: u32,
    structured: Option<String>,
    queued: u64,
    said: Value,
}

impl<'h> Turn<'h> {
    /// Nothing was said yet.
    #[must_use]
    pub fn new(host: &'h dyn Host, task: &Task) -> Self {
        Self {
            host,
            wants_value: task.output_schema.is_some(),
            events: Events::new(host),
            started: false,
            output: Text::default(),
            told: false,
            pieces: VecDeque::new(),
            thought_in_pieces: false,
            audit: Audit::default(),
            declined: BTreeSet::new(),
            usage: Counted::default(),
            session_id: task.session.as_ref().map(|session| session.id.clone()),
            model: None,
            version: None,
            messages: 0,
            last_message: String::new(),
            word: None,
            rate_limit: Value::Null,
            result: None,
            state: None,
            tasks: BTreeSet::new(),
        }
    }

    /// Takes a frame. What is not known is passed over. Errors: `invalid` code `malformed-frame`; what `emit` answers.
    pub fn take(&mut self, frame: &Value) -> Result<()> {
        let kind = frame["type"].as_str().unwrap_or_default();
        if kind == "system" && frame["subtype"] == "init" {
            return self.init(frame);
        }
        if !matches!(kind, "assistant" | "user" | "stream_event" | "result" | "rate_limit_event" | "system") {
            if kind == "conversation_reset" {
                self.session(&frame["new_conversation_id"])?;
            }
            return Ok(());
        }
        self.start()?;
        match kind {
            "assistant" => self.assistant(frame),
            "user" => self.user(frame),
            "stream_event" => self.piece(frame),
            "result" => self.ended(frame),
            "rate_limit_event" => self.limited(frame),
            _ => self.system(frame),
        }
    }

    /// The run has begun, if it was not told before.
    pub fn start(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.started, true) {
            return Ok(());
        }
        let mut data = json!({});
        for (name, value) in
            [("session_id", &self.session_id), ("model", &self.model), ("vendor_version", &self.version)]
        {
            if let Some(value) = value {
                data[name] = json!(value);
            }
        }
        self.events.push("runtime_started", &data)
    }

    /// A call that was declined by the host, so that its answer is not read as a failure of the tool.
    pub fn declined(&mut self, call_id: &str) {
        if self.declined.len() < IDS_MAX {
            self.declined.insert(word(call_id));
        }
    }

    /// Whether the program has nothing left to do: its turn has a result, no message waits, nothing works on.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let result = self.result.as_ref().is_some_and(|result| result.queued == 0);
        result && self.tasks.is_empty() && self.state.as_deref().is_none_or(|state| state == "idle")
    }

    /// Whether there is a result, be it the last one or not.
    #[must_use]
    pub fn has_result(&self) -> bool {
        self.result.is_some()
    }

    /// The outcome, when all is told. `cancelled` and `failure` come before what the program said of its end.
    #[must_use]
    pub fn outcome(mut self, cancelled: bool, failure: Option<Error>, mut metadata: Value) -> Outcome {
        // A log that takes no more must not lose the outcome; it is why the run failed.
        let mut told = self.start();
        // What came in pieces and was never whole belongs to what was said.
        for text in std::mem::take(&mut self.pieces) {
            self.keep(&text);
        }
        let ended = self.result.take();
        let wanted_text = ended.as_ref().and_then(|ended| ended.said["result"].as_str()).unwrap_or_default().trim();
        if self.output.as_str().trim().is_empty() && !wanted_text.is_empty() {
            self.output.set(wanted_text);
            told = told.and(self.events.text(wanted_text));
        }
        let output = self.output.as_str().trim().to_owned();
        let mut outcome = Outcome::done(output);
        if let Some(ended) = ended {
            outcome.finish_reason = ended.finish.to_owned();
            outcome.error = ended.error;
            outcome.rounds = ended.rounds;
            outcome.parsed_output = ended.structured;
            copy(
                &ended.said,
                &mut metadata,
                &["terminal_reason", "stop_reason", "duration_api_ms", "permission_denials"],
            );
        } else {
            outcome.rounds = self.messages;
        }
        if outcome.error.is_none()
            && let Some((_, error)) = self.word
        {
            outcome.finish_reason = "failed".into();
            outcome.error = Some(error);
        }
        if outcome.finish_reason == "done"
            && outcome.output.is_empty()
            && outcome.parsed_output.is_none()
            && self.audit.is_empty()
        {
            outcome.finish_reason = "failed".into();
            outcome.error =
                Some(Error::internal("empty-answer", "the program ended its turn without text, tool or value"));
        }
        if cancelled {
            told = told.and(self.audit.close(&mut self.events, self.host));
        }
        told = told.and(self.events.flush());
        if let Some(error) = failure.or(told.err()) {
            outcome.finish_reason = "failed".into();
            outcome.error = Some(error);
        }
        if cancelled {
            outcome.finish_reason = "interrupted".into();
            outcome.error = None;
        }
        if outcome.error.is_some() {
            // A value of a turn that failed is none.
            outcome.parsed_output = None;
        }
        for (name, left_out) in
            [("output_left_out_bytes", self.output.left_out_bytes()), ("tool_calls_left_out", self.audit.left_out())]
        {
            if left_out > 0 {
                metadata[name] = json!(left_out);
            }
        }
        copy(
            &json!({ "vendor_model": self.model, "rate_limit": self.rate_limit }),
            &mut metadata,
            &["vendor_model", "rate_limit"],
        );
        outcome.usage = self.usage.total();
        outcome.session_id = self.session_id;
        outcome.tool_calls = self.audit.into_calls();
        outcome.metadata = metadata.to_string();
        outcome
    }

    fn init(&mut self, frame: &Value) -> Result<()> {
        self.model = frame["model"].as_str().map(word).or(self.model.take());
        self.version = frame["claude_code_version"].as_str().map(word).or(self.version.take());
        if !self.started {
            self.session_id = frame["session_id"].as_str().map(word).or(self.session_id.take());
            return self.start();
        }
        self.session(&frame["session_id"])
    }

    /// The conversation, if it is another than before.
    fn session(&mut self, id: &Value) -> Result<()> {
        let Some(id) = id.as_str().filter(|id| !id.is_empty()).map(word) else { return Ok(()) };
        if self.session_id.as_ref() == Some(&id) {
            return Ok(());
        }
        self.session_id = Some(id.clone());
        self.events.notification("session", json!({ "session_id": id }))
    }

    fn assistant(&mut self, frame: &Value) -> Result<()> {
        let message = &frame["message"];
        let blocks = message["content"].as_array().ok_or_else(|| malformed("assistant", "message.content"))?;
        let model = message["model"].as_str().ok_or_else(|| malformed("assistant", "message.model"))?;
        let parent = frame["parent_tool_use_id"].as_str();
        self.session(&frame["session_id"])?;
        let id = message["id"].as_str().unwrap_or_default();
        if parent.is_none() {
            self.model.get_or_insert_with(|| word(model));
            if self.messages == 0 || id != self.last_message {
                self.messages = self.messages.saturating_add(1);
                self.last_message = word(id);
            }
        }
        let mut text_of_error = String::new();
        for block in blocks {
            match block["type"].as_str() {
                Some("text") => {
                    let text = block["text"].as_str().ok_or_else(|| malformed("text", "text"))?;
                    if frame["error"].is_string() && text_of_error.is_empty() {
                        text_of_error = preview(text);
                    }
                    match parent {
                        None => self.text(text)?,
                        Some(parent) => self.subagent(parent, "text", text)?,
                    }
                }
                Some("thinking") => {
                    let text = block["thinking"].as_str().ok_or_else(|| malformed("thinking", "thinking"))?;
                    match parent {
                        None if std::mem::take(&mut self.thought_in_pieces) => {}
                        None => self.events.thinking(text)?,
                        Some(parent) => self.subagent(parent, "thinking", text)?,
                    }
                }
                Some("tool_use" | "server_tool_use") => {
                    let id = block["id"].as_str().ok_or_else(|| malformed("tool_use", "id"))?;
                    let name = block["name"].as_str().ok_or_else(|| malformed("tool_use", "name"))?;
                    let none = json!({});
                    let arguments = Some(&block["input"]).filter(|input| input.is_object()).unwrap_or(&none);
                    // Each block comes once, and is a call, whatever its id.
                    self.audit.began(&mut self.events, self.host, id, name, arguments)?;
                }
                // Also of tools that the vendor's own servers ran, such as `web_search_tool_result`.
                Some(kind) if kind.ends_with("tool_result") => self.answered(block)?,
                _ => {}
            }
        }
        if let Some(said) = frame["error"].as_str().filter(|said| !said.is_empty()) {
            let message = if text_of_error.is_empty() { said.to_owned() } else { format!("{said}: {text_of_error}") };
            let error = failure::of_word(said, &message);
            let error = if self.is_used_up() { failure::used_up(error) } else { error };
            self.word = Some((word(said), error));
        }
        if self.usage.message(parent.unwrap_or_default(), id, &message["usage"]) {
            self.events.usage(&self.usage.total())?;
        }
        Ok(())
    }

    fn user(&mut self, frame: &Value) -> Result<()> {
        let content = &frame["message"]["content"];
        if content.is_null() {
            return Err(malformed("user", "message.content"));
        }
        for block in content.as_array().into_iter().flatten() {
            if block["type"] == "tool_result" {
                self.answered(block)?;
            }
        }
        Ok(())
    }

    /// The answer of a tool.
    fn answered(&mut self, block: &Value) -> Result<()> {
        let id = block["tool_use_id"].as_str().ok_or_else(|| malformed("tool_result", "tool_use_id"))?;
        let status = match block["is_error"].as_bool() {
            Some(true) if self.declined.contains(&word(id)) => CallStatus::Declined,
            Some(true) => CallStatus::Error,
            _ => CallStatus::Ok,
        };
        let result = result_text(&block["content"]);
        let end = Finished { status, result: &result, duration_ms: None };
        if self.audit.finished(&mut self.events, self.host, id, end)? {
            return Ok(());
        }
        // Of a call that began before this run, or twice: told, since it happened.
        self.events.push(
            "tool_response",
            &json!({
                "id": word(id), "name": "tool", "status": status.event_word(), "preview": preview(&result),
                "size_bytes": result.len(), "by": "vendor",
            }),
        )
    }

    /// A piece of a message.
    fn piece(&mut self, frame: &Value) -> Result<()> {
        if frame["parent_tool_use_id"].is_string() {
            return Ok(());
        }
        let event = &frame["event"];
        match (event["type"].as_str(), event["delta"]["type"].as_str()) {
            (Some("content_block_start"), _) if event["content_block"]["type"] == "text" => {
                if self.pieces.len() < BLOCKS_MAX && self.pieces.back().is_none_or(|piece| !piece.is_empty()) {
                    self.pieces.push_back(String::new());
                }
                Ok(())
            }
            (Some("content_block_delta"), Some("text_delta")) => {
                let text = event["delta"]["text"].as_str().unwrap_or_default();
                let gathered: usize = self.pieces.iter().map(String::len).sum();
                if text.is_empty() || gathered + text.len() > PIECES_BYTES_MAX {
                    return Ok(());
                }
                if self.pieces.back().is_none_or(String::is_empty) {
                    self.begin_block()?;
                }
                if self.pieces.is_empty() {
                    self.pieces.push_back(String::new());
                }
                if let Some(piece) = self.pieces.back_mut() {
                    piece.push_str(text);
                }
                self.events.text(text)
            }
            (Some("content_block_delta"), Some("thinking_delta")) => {
                self.thought_in_pieces = true;
                self.events.thinking(event["delta"]["thinking"].as_str().unwrap_or_default())
            }
            _ => Ok(()),
        }
    }

    /// A whole block of text, of which pieces may have been told.
    fn text(&mut self, text: &str) -> Result<()> {
        self.keep(text);
        let told = self.pieces.pop_front().unwrap_or_default();
        match text.strip_prefix(told.as_str()) {
            _ if text.is_empty() => Ok(()),
            Some(rest) if !told.is_empty() => self.events.text(rest),
            // No piece, or pieces of something else: the whole is what counts.
            _ => {
                self.begin_block()?;
                self.events.text(text)
            }
        }
    }

    /// Blocks of text are lines of the output, and told so.
    fn begin_block(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.told, true) { self.events.text("\n") } else { Ok(()) }
    }

    fn keep(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if !self.output.as_str().is_empty() {
            self.output.push("\n");
        }
        self.output.push(text);
    }

    fn subagent(&mut self, parent: &str, kind: &str, text: &str) -> Result<()> {
        let told = cut(text.to_owned(), TOLD_BYTES_MAX);
        let vendor = json!({ "subagent": word(parent), "kind": kind, "text": told, "size_bytes": text.len() });
        self.events.notification("vendor", json!({ "vendor": vendor }))
    }

    fn limited(&mut self, frame: &Value) -> Result<()> {
        let mut told = json!({});
        let fields = ["status", "resetsAt", "rateLimitType", "utilization", "overageStatus"];
        copy(&frame["rate_limit_info"], &mut told, &fields);
        self.rate_limit = told.clone();
        self.events.notification("vendor", json!({ "vendor": { "rate_limit": told } }))
    }

    fn is_used_up(&self) -> bool {
        self.rate_limit["status"] == "rejected"
    }

    fn system(&mut self, frame: &Value) -> Result<()> {
        let subtype = frame["subtype"].as_str().unwrap_or_default();
        let task = frame["task_id"].as_str().map(word);
        match (subtype, task) {
            ("session_state_changed", _) => {
                self.state = frame["state"].as_str().map(word);
                return Ok(());
            }
            ("api_retry", _) => {
                let code = frame["error"].as_str().map_or_else(|| "unknown".to_owned(), word);
                let (attempt, wait_ms) = (&frame["attempt"], &frame["retry_delay_ms"]);
                let retry = json!({ "attempt": attempt.as_u64(), "wait_ms": wait_ms.as_u64(), "code": code });
                return self.events.notification("retry", retry);
            }
            // Only agents wake the main one again when they are done; a shell in the background may run for ever.
            ("task_started", Some(id)) => {
                let waited_for = matches!(frame["task_type"].as_str(), Some("local_agent" | "local_workflow"));
                if waited_for && self.tasks.len() < IDS_MAX {
                    self.tasks.insert(id);
                }
            }
            ("task_notification", Some(id)) => drop(self.tasks.remove(&id)),
            ("task_updated", Some(id)) => {
                if matches!(frame["patch"]["status"].as_str(), Some("completed" | "failed" | "stopped" | "killed")) {
                    self.tasks.remove(&id);
                }
            }
            ("compact_boundary" | "permission_denied" | "task_progress", _) => {}
            _ => return Ok(()),
        }
        let mut vendor = json!({ "subtype": subtype });
        for name in ["task_id", "task_type", "description", "status", "summary", "tool_name", "tool_use_id", "message"]
        {
            if let Some(text) = frame[name].as_str() {
                vendor[name] = json!(cut(text.to_owned(), TOLD_BYTES_MAX));
            }
        }
        self.events.notification("vendor", json!({ "vendor": vendor }))
    }

    fn ended(&mut self, frame: &Value) -> Result<()> {
        for field in ["subtype", "is_error", "num_turns", "session_id"] {
            if frame.get(field).is_none() {
                return Err(malformed("result", field));
            }
        }
        self.session(&frame["session_id"])?;
        let (mut finish, mut error) = match frame["stop_reason"].as_str() {
            Some("max_tokens" | "model_context_window_exceeded") => ("max_tokens", None),
            Some("refusal") => ("failed", Some(Error::denied("refusal", "the model declined to go on"))),
            _ => ("done", None),
        };
        if frame["is_error"] == true {
            let word = self.word.as_ref().map(|(word, _)| word.as_str());
            let (failed, why) = failure::of_result(frame, word, self.is_used_up());
            (finish, error) = (failed, Some(why));
        }
        let denials = frame["permission_denials"].as_array().into_iter().flatten().take(DENIALS_MAX);
        let denials: Vec<Value> = denials
            .map(|denial| {
                let mut told = json!({});
                copy(denial, &mut told, &["tool_name", "tool_use_id"]);
                told
            })
            .collect();
        let mut said = json!({});
        copy(frame, &mut said, &["terminal_reason", "stop_reason", "duration_api_ms"]);
        if let Some(text) = frame["result"].as_str() {
            said["result"] = json!(cut(text.to_owned(), PIECES_BYTES_MAX));
        }
        if !denials.is_empty() {
            said["permission_denials"] = json!(denials);
        }
        let structured = &frame["structured_output"];
        let rounds = frame["num_turns"].as_u64().unwrap_or(0);
        self.result = Some(Ended {
            finish,
            error,
            rounds: u32::try_from(rounds).unwrap_or(u32::MAX),
            structured: (self.wants_value && !structured.is_null()).then(|| structured.to_string()),
            queued: frame["queued_turn_count"].as_u64().unwrap_or(0),
            said,
        });
        self.usage.result(frame);
        self.events.usage(&self.usage.total())
    }
}

/// The text of a tool's answer: its text, and for other parts what they are.
fn result_text(content: &Value) -> String {
    let part = |part: &Value| match (part["type"].as_str(), part["text"].as_str()) {
        (_, Some(text)) => text.to_owned(),
        (Some(kind), None) => format!("[{kind}]"),
        (None, None) => part.to_string(),
    };
    match content {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Array(parts) => parts.iter().map(part).collect::<Vec<_>>().join("\n"),
        other => other.to_string(),
    }
}

fn copy(from: &Value, to: &mut Value, names: &[&str]) {
    for name in names {
        let value = &from[*name];
        let value = match value {
            Value::Null => continue,
            Value::String(text) => json!(word(text)),
            other => other.clone(),
        };
        to[*name] = value;
    }
}

pub(crate) fn word(text: &str) -> String {
    cut(text.to_owned(), WORD_BYTES_MAX)
}

fn malformed(frame: &str, field: &str) -> Error {
    Error::invalid("malformed-frame", format!("the program sent a frame `{frame}` without a usable `{field}`"))
}
