//! `agent.*` events one by one: what each is called, says and carries. The rules are agent-runtime-kit's.
//!
//! An event has a name, a time, a summary for people and attributes, of which `task_id` and `runtime_kind` are always
//! there. Of a tool call the *values* never appear: only the names of its arguments and the length of what came back.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::deadline::timestamp;
use super::sanitise;
use super::task::working_directory;
use crate::outcome::{Claim, ToolAudit};
use crate::task::Task;

/// An event as it is told.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AgentEvent {
    /// What it is, such as `agent.task.started`.
    pub name: &'static str,
    /// When, as RFC 3339 in UTC with six digits of a second.
    pub timestamp: String,
    /// One line for people, cut like a text.
    pub summary: String,
    /// What it says, sanitised.
    pub attributes: Map<String, Value>,
    /// Whether a credential was found where no name announced one.
    #[serde(skip)]
    pub found_credential: bool,
}

/// Whose event it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The caller's name of the task.
    pub task_id: String,
    /// What ran it: the name of the profile.
    pub runtime_kind: String,
}

/// An event that is not sanitised yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    name: &'static str,
    summary: String,
    attributes: Map<String, Value>,
}

/// What is never left out of an event that is too large.
const KEEP: &[&str] = &["task_id", "runtime_kind", "finish_reason"];

impl Draft {
    fn new(about: &About, name: &'static str, summary: String, attributes: Value) -> Self {
        let mut all = Map::new();
        all.insert("task_id".to_owned(), Value::from(about.task_id.as_str()));
        all.insert("runtime_kind".to_owned(), Value::from(about.runtime_kind.as_str()));
        if let Value::Object(attributes) = attributes {
            all.extend(attributes);
        }
        Self { name, summary, attributes: all }
    }

    /// Another summary; an empty one is none.
    #[must_use]
    pub fn summary(mut self, summary: &str) -> Self {
        if !summary.is_empty() {
            summary.clone_into(&mut self.summary);
        }
        self
    }

    /// More attributes; one of the same name takes the place.
    #[must_use]
    pub fn extra(mut self, extra: Map<String, Value>) -> Self {
        self.attributes.extend(extra);
        self
    }

    /// The event at a time in milliseconds since 1970 UTC, its attributes in at most `bytes_max` bytes of JSON.
    #[must_use]
    pub fn at(self, t_ms: u64, bytes_max: u64) -> AgentEvent {
        let done = sanitise::attributes(self.attributes, KEEP, bytes_max);
        AgentEvent {
            name: self.name,
            timestamp: timestamp(t_ms),
            summary: sanitise::text(&self.summary).into_owned(),
            attributes: done.attributes,
            found_credential: done.found_credential,
        }
    }
}

/// The task has begun.
#[must_use]
pub fn started(about: &About, task: &Task) -> Draft {
    // A conversation that is gone on with by its transcript is not told, as in the original.
    let session_id = if task.transcript.is_some() { None } else { task.session_id.as_ref() };
    let attributes = json!({
        "session_id": session_id,
        "task_goal": task.goal,
        "system_prompt": task.system,
        "working_directory": working_directory(task),
        "sdk_executions": task.sdk_executions,
        "budget_usd": task.budget_usd,
        "metadata": task.metadata,
    });
    Draft::new(about, "agent.task.started", format!("started task {}", about.task_id), attributes)
}

/// The task ended with a result.
#[must_use]
pub fn completed(about: &About, result: &Claim) -> Draft {
    let metadata = if result.metadata.is_object() { result.metadata.clone() } else { json!({}) };
    let attributes = json!({
        "finish_reason": result.finish_reason,
        "output": result.output,
        "rounds": result.rounds,
        "cost_usd": result.usage.cost_usd,
        "session_id": result.session_id,
        "tool_call_count": result.tool_calls.len(),
        "result_metadata": metadata,
    });
    let summary = format!("completed task {} ({})", about.task_id, result.finish_reason);
    Draft::new(about, "agent.task.completed", summary, attributes)
}

/// The task ended without one. The reason is `failed` unless it is known better.
#[must_use]
pub fn failed(about: &About, error: &str, finish_reason: Option<&str>) -> Draft {
    let attributes = json!({ "finish_reason": finish_reason.unwrap_or("failed"), "error": error });
    Draft::new(about, "agent.task.failed", format!("failed task {}", about.task_id), attributes)
}

/// A piece of the model's text.
#[must_use]
pub fn output_delta(about: &About, text: &str) -> Draft {
    let length = text.chars().count();
    let (shown, truncated) = sanitise::preview(text);
    let attributes = json!({ "text_delta": shown, "text_delta_length": length, "text_delta_truncated": truncated });
    Draft::new(about, "agent.output.delta", format!("streamed {length} chars"), attributes)
}

/// A tool was called.
#[must_use]
pub fn tool_requested(about: &About, name: &str, arguments: &Map<String, Value>) -> Draft {
    let mut keys: Vec<&str> = arguments.keys().map(String::as_str).collect();
    keys.sort_unstable();
    let attributes = json!({ "tool_name": name, "argument_count": keys.len(), "argument_keys": keys });
    Draft::new(about, "agent.tool.requested", format!("tool requested: {name}"), attributes)
}

/// A tool call came back.
#[must_use]
pub fn tool_completed(about: &About, audit: &ToolAudit) -> Draft {
    let attributes = json!({
        "tool_name": audit.name,
        "status": audit.status,
        "duration_ms": audit.duration_ms.unwrap_or(0),
        "result_preview_length": audit.result_preview.chars().count(),
    });
    Draft::new(about, "agent.tool.completed", format!("tool completed: {} ({})", audit.name, audit.status), attributes)
}

/// Something of the vendor's that fits nowhere else.
#[must_use]
pub fn vendor_turn(about: &About, payload: &Map<String, Value>, turn_index: Option<u64>) -> Draft {
    let attributes = json!({ "turn_index": turn_index, "payload": payload });
    Draft::new(about, "agent.vendor.turn", "vendor turn update".to_owned(), attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events() {
        let about = About { task_id: "t".to_owned(), runtime_kind: "x".to_owned() };
        let mut task = Task::new("say password=x");
        task.metadata.insert("apiToken".to_owned(), json!(1));
        let audit = ToolAudit {
            name: "Bash".to_owned(),
            arguments: json!({"command": "secret"}),
            result_preview: "é😀".to_owned(),
            status: "ok".to_owned(),
            duration_ms: None,
            by: "vendor".to_owned(),
        };
        let result = Claim { finish_reason: "done".to_owned(), output: "o".repeat(1001), ..Claim::default() };
        let arguments = Map::from_iter([("b".to_owned(), json!("secret")), ("C".to_owned(), json!(1))]);
        let events: Vec<AgentEvent> = [
            started(&about, &task).extra(Map::from_iter([("sdk_executions".to_owned(), json!(7))])),
            output_delta(&about, &"😀".repeat(1001)),
            tool_requested(&about, "Bash", &arguments),
            tool_completed(&about, &audit).summary(""),
            vendor_turn(&about, &Map::from_iter([("token".to_owned(), json!("x"))]), None).summary("a turn"),
            completed(&about, &result),
            failed(&about, "late", Some("timed_out")),
        ]
        .into_iter()
        .map(|draft| draft.at(1_500, 1 << 18))
        .collect();
        let shown = serde_json::to_string_pretty(&events).expect("json");
        assert!(!shown.contains("\"secret\""));
        insta::assert_snapshot!(
            shown.replace(&"o".repeat(1000), "<1000 o>").replace(&"😀".repeat(1000), "<1000 faces>")
        );
    }
}
