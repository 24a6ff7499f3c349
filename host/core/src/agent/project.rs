//! A run's log as `agent.*` events: a pure fold over its records, one event each at most.
//!
//! | record | event |
//! |---|---|
//! | `notification` `status` `provisioning` | `agent.task.started`: the run has its place, what it needs is made ready |
//! | `assistant_text` | `agent.output.delta` |
//! | `tool_request`, `tool_response` | `agent.tool.requested`, `agent.tool.completed` |
//! | `notification` `thinking`, `vendor`; `stream_error` | `agent.vendor.turn` |
//! | `runtime_terminal` | `agent.task.completed` if it is `done`, else `agent.task.failed` |
//!
//! All others say what the original has no word for. A run that ended before it had its place (cancelled in the queue, its
//! deadline passed) has the last event alone, as there.

use serde_json::{Map, Value};

use super::event::{self, About, AgentEvent, Draft};
use crate::event::{EventKind, Record};
use crate::limits::Limits;
use crate::outcome::{Claim, Outcome, ToolAudit};
use crate::task::Task;

/// The state of a projection. Records are given in the order of the log, from the first on.
#[derive(Debug, Clone)]
pub struct Projection {
    about: About,
    task: Option<Task>,
    /// Tool calls seen, whoever ran them.
    tools: usize,
    bytes_max: u64,
}

impl Projection {
    /// A projection of a log that begins with its first record.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let about = About { task_id: String::new(), runtime_kind: String::new() };
        Self { about, task: None, tools: 0, bytes_max: limits.event_bytes_max }
    }

    /// Takes the next record and gives its event, if it is one there.
    pub fn take(&mut self, record: &Record) -> Option<AgentEvent> {
        let draft = self.draft(record)?;
        Some(draft.at(record.t_ms, self.bytes_max))
    }

    fn draft(&mut self, record: &Record) -> Option<Draft> {
        let about = &self.about;
        let text = |name: &str| record.data.get(name).and_then(Value::as_str).unwrap_or_default();
        match record.kind {
            EventKind::AssistantText => Some(event::output_delta(about, text("text"))),
            EventKind::ToolRequest => {
                self.tools += 1;
                let none = Map::new();
                let arguments = record.data.get("arguments").and_then(Value::as_object).unwrap_or(&none);
                Some(event::tool_requested(about, text("name"), arguments))
            }
            EventKind::ToolResponse => {
                let audit = ToolAudit {
                    name: text("name").to_owned(),
                    arguments: Value::Null,
                    result_preview: text("preview").to_owned(),
                    status: text("status").to_owned(),
                    duration_ms: record.data.get("duration_ms").and_then(Value::as_u64),
                    by: text("by").to_owned(),
                };
                Some(event::tool_completed(about, &audit))
            }
            EventKind::StreamError => {
                let mut payload = record.data.clone();
                payload.insert("type".to_owned(), Value::from("stream_error"));
                Some(event::vendor_turn(about, &payload, None))
            }
            EventKind::RuntimeTerminal => Some(self.terminal(&record.data)),
            EventKind::Notification => match text("type") {
                "created" => {
                    self.created(&record.data);
                    None
                }
                "status" if text("status") == "provisioning" => {
                    Some(event::started(about, self.task.as_ref().unwrap_or(&Task::new(""))))
                }
                "thinking" => {
                    // Thoughts are told by their length alone.
                    let mut payload = Map::new();
                    payload.insert("chunk_type".to_owned(), Value::from("thinking"));
                    payload.insert("delta_length".to_owned(), Value::from(text("text").chars().count()));
                    Some(event::vendor_turn(about, &payload, None))
                }
                "vendor" => Some(vendor(about, &record.data)),
                _ => None,
            },
            EventKind::RuntimeStarted | EventKind::SkillLoaded | EventKind::FileUploaded => None,
        }
    }

    fn created(&mut self, data: &Map<String, Value>) {
        let text = |name: &str| data.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        self.about = About { task_id: text("task_id"), runtime_kind: text("profile") };
        // What the log holds was written by this program; a field that a later version added is not needed here.
        self.task = data.get("task").and_then(|task| serde_json::from_value(task.clone()).ok());
    }

    fn terminal(&self, data: &Map<String, Value>) -> Draft {
        let Ok(outcome) = serde_json::from_value::<Outcome>(Value::Object(data.clone())) else {
            return event::failed(&self.about, "the end of the run cannot be read", None);
        };
        if !outcome.is_done() {
            let said = outcome.error.as_ref().map(|error| error.message.clone()).or_else(|| outcome.reason.clone());
            let word = outcome.finish_reason.as_str();
            return event::failed(&self.about, &said.unwrap_or_else(|| word.to_owned()), Some(word));
        }
        // The calls that a vendor ran are in its outcome and, where it tells them as they come, in the log, too.
        let tools = self.tools.max(outcome.tool_calls.len());
        let result = Claim {
            finish_reason: outcome.finish_reason.as_str().to_owned(),
            output: outcome.output,
            usage: outcome.usage,
            session_id: outcome.session_id,
            rounds: outcome.rounds,
            metadata: outcome.metadata,
            ..Claim::default()
        };
        let count = Map::from_iter([("tool_call_count".to_owned(), Value::from(tools))]);
        event::completed(&self.about, &result).extra(count)
    }
}

/// A vendor's own notification: `vendor` holds its fields, or they stand beside `type`.
fn vendor(about: &About, data: &Map<String, Value>) -> Draft {
    let index = data.get("turn_index").and_then(Value::as_u64);
    let summary = data.get("summary").and_then(Value::as_str).unwrap_or_default();
    let payload = match data.get("vendor").or_else(|| data.get("payload")) {
        Some(Value::Object(payload)) => payload.clone(),
        _ => data.iter().filter(|(name, _)| *name != "type").map(|(name, of)| (name.clone(), of.clone())).collect(),
    };
    event::vendor_turn(about, &payload, index).summary(summary)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RunId;
    use serde_json::json;

    fn told(records: &[(EventKind, Value)]) -> Vec<AgentEvent> {
        let mut projection = Projection::new(&Limits::default());
        let record = |(at, (kind, data)): (usize, &(EventKind, Value))| Record {
            run_id: RunId::from_parts(0, 1),
            seq: at as u64 + 1,
            t_ms: 1_000 + at as u64,
            kind: *kind,
            data: data.as_object().expect("an object").clone(),
        };
        records.iter().enumerate().map(record).filter_map(|record| projection.take(&record)).collect()
    }

    #[test]
    fn a_log_as_events() {
        use EventKind::*;
        let created = json!({"type": "created", "profile": "x", "task_id": "t", "task": Task::new("g")});
        let events = told(&[
            (Notification, created),
            (Notification, json!({"type": "status", "status": "queued"})),
            (Notification, json!({"type": "status", "status": "provisioning"})),
            (Notification, json!({"type": "status", "status": "running"})),
            (RuntimeStarted, json!({"session_id": "s"})),
            (AssistantText, json!({"text": "hi"})),
            (Notification, json!({"type": "thinking", "text": "secret thoughts"})),
            (ToolRequest, json!({"id": "1", "name": "shell", "arguments": {"command": "ls"}, "by": "host"})),
            (
                ToolResponse,
                json!({"id": "1", "name": "shell", "status": "ok", "preview": "é", "size_bytes": 2, "by": "host"}),
            ),
            (StreamError, json!({"code": "overloaded", "message": "busy", "retryable": true})),
            (Notification, json!({"type": "vendor", "vendor": {"token": "x"}, "turn_index": 2})),
            (Notification, json!({"type": "usage", "input_tokens": 3})),
            (
                RuntimeTerminal,
                json!({"finish_reason": "done", "output": "hi", "usage": {"cost_usd": 0.5}, "rounds": 1}),
            ),
        ]);
        insta::assert_snapshot!(serde_json::to_string_pretty(&events).expect("json"));
    }

    #[test]
    fn a_run_that_never_began_has_its_end_alone() {
        let created = json!({"type": "created", "profile": "x", "task_id": "t", "task": Task::new("g")});
        let end = json!({"finish_reason": "timed_out", "error": {"kind": "cancelled", "code": "deadline", "message": "late"}});
        let events = told(&[(EventKind::Notification, created), (EventKind::RuntimeTerminal, end)]);
        assert_eq!(events.iter().map(|event| event.name).collect::<Vec<_>>(), ["agent.task.failed"]);
        assert_eq!(events[0].attributes["error"], "late");
    }
}
