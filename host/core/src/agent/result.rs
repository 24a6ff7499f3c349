//! Results in agent-runtime-kit's shape: read strictly from JSON into our types, with its rules.
//!
//! A result is a [`Claim`]: what an adapter says of its run. Its `error` is a text there and an [`Error`] here.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::fields::{Fields, Problems, what};
use crate::outcome::{Artifact, Claim, Outcome, ToolAudit, Usage};
use crate::problem::Problem;
use crate::{Error, ErrorKind};

/// Reads a result (code `result-field`). All problems at once, in the order of the fields.
pub fn result(value: &Value, origin: &str) -> Result<Claim, Vec<Problem>> {
    checked(origin, |problems| {
        let known = [
            "output",
            "finish_reason",
            "error",
            "parsed_output",
            "parsed_output_available",
            "usage",
            "tool_calls",
            "artifacts",
            "session_id",
            "rounds",
            "metadata",
        ];
        let fields = Fields::new(value, "", &known, problems)?;
        let finish_reason = fields.text_or("finish_reason", "done", problems);
        nonblank("finish_reason", &finish_reason, problems);
        let error = fields.text_if_set("error", problems);
        if let Some(error) = &error {
            nonblank("error", error, problems);
            if finish_reason == "done" {
                problems.add("error", "is given with the finish reason `done`");
            }
        }
        let said = match fields.given("parsed_output_available") {
            None => false,
            Some(Value::Bool(said)) => *said,
            Some(other) => {
                problems.add("parsed_output_available", format!("is true or false, not {}", what(other)));
                false
            }
        };
        // A value that is there is there, whatever is said; only of `null` it must be said.
        let parsed_output = match fields.given("parsed_output") {
            None | Some(Value::Null) => said.then_some(Value::Null),
            Some(value) => Some(value.clone()),
        };
        let rounds = fields.count("rounds", problems).unwrap_or(0);
        if u32::try_from(rounds).is_err() {
            problems.add("rounds", "is more than 4294967295");
        }
        let mut tool_calls = Vec::new();
        for (index, call) in fields.list("tool_calls", problems).iter().enumerate() {
            tool_calls.extend(read_audit(call, &format!("tool_calls.{index}"), problems));
        }
        let mut artifacts = Vec::new();
        for (index, artifact) in fields.list("artifacts", problems).iter().enumerate() {
            artifacts.extend(read_artifact(artifact, &format!("artifacts.{index}"), problems));
        }
        let usage = match fields.given("usage") {
            None => Usage::default(),
            Some(usage) => read_usage(usage, "usage", problems).unwrap_or_default(),
        };
        Some(Claim {
            finish_reason,
            output: fields.text("output", problems),
            error: error.map(|text| Error::new(ErrorKind::Internal, "agent-error", text)),
            parsed_output,
            usage,
            tool_calls,
            artifacts,
            session_id: fields.text_if_set("session_id", problems),
            rounds: u32::try_from(rounds).unwrap_or(u32::MAX),
            metadata: Value::Object(fields.object("metadata", problems)),
        })
    })
}

/// An outcome in the original's shape, what it derives included.
#[must_use]
pub fn to_json(outcome: &Outcome) -> Value {
    let call = |audit: &ToolAudit| {
        json!({
            "tool_name": audit.name, "arguments": audit.arguments, "result_preview": audit.result_preview,
            "status": audit.status, "duration_ms": audit.duration_ms.unwrap_or(0),
        })
    };
    let made = |artifact: &Artifact| json!({ "uri": artifact.uri, "kind": artifact.kind, "metadata": object(&artifact.metadata) });
    let usage = &outcome.usage;
    json!({
        "output": outcome.output,
        "finish_reason": outcome.finish_reason,
        "error": outcome.error.as_ref().map(|error| error.message.as_str()),
        "is_success": outcome.is_done() && outcome.error.is_none(),
        "parsed_output": outcome.parsed_output,
        "parsed_output_available": outcome.parsed_output.is_some(),
        "usage": {
            "input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens,
            "cache_read_tokens": usage.cache_read_tokens, "cache_creation_tokens": usage.cache_creation_tokens,
            "total_tokens": usage.total_tokens, "cost_usd": usage.cost_usd,
        },
        "tool_calls": outcome.tool_calls.iter().map(call).collect::<Vec<_>>(),
        "artifacts": outcome.artifacts.iter().map(made).collect::<Vec<_>>(),
        "session_id": outcome.session_id,
        "rounds": outcome.rounds,
        "metadata": object(&outcome.metadata),
    })
}

/// Metadata that is not set is an empty object there.
fn object(value: &Value) -> Value {
    if value.is_object() { value.clone() } else { json!({}) }
}

/// Reads what a run used (code `result-field`).
pub fn usage(value: &Value, origin: &str) -> Result<Usage, Vec<Problem>> {
    checked(origin, |problems| read_usage(value, "", problems))
}

/// Reads one tool call (code `result-field`). The vendor ran it.
pub fn audit(value: &Value, origin: &str) -> Result<ToolAudit, Vec<Problem>> {
    checked(origin, |problems| read_audit(value, "", problems))
}

/// Reads a reference to something that a run made (code `result-field`).
pub fn artifact(value: &Value, origin: &str) -> Result<Artifact, Vec<Problem>> {
    checked(origin, |problems| read_artifact(value, "", problems))
}

/// What became of a request to cancel. It tells of the request: what the vendor's tools did before is not undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The caller's name of the task.
    pub task_id: String,
    /// The runtime.
    pub kind: String,
    /// What was found.
    pub disposition: Disposition,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What a request to cancel found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    /// The run was asked to stop.
    Requested,
    /// It had been asked before and is stopping.
    AlreadyRequested,
    /// There is no such run, or it has ended.
    NotActive,
    /// This runtime cannot be asked.
    Unsupported,
    /// Asking failed.
    Failed,
    /// A runtime from before receipts was asked and answered nothing.
    LegacyUnconfirmed,
}

impl Disposition {
    const WORDS: &'static [&'static str] =
        &["requested", "already_requested", "not_active", "unsupported", "failed", "legacy_unconfirmed"];
}

/// Reads a receipt (code `result-field`).
pub fn receipt(value: &Value, origin: &str) -> Result<Receipt, Vec<Problem>> {
    checked(origin, |problems| {
        let fields = Fields::new(value, "", &["task_id", "kind", "disposition", "message"], problems)?;
        let task_id = fields.text("task_id", problems);
        nonblank("task_id", &task_id, problems);
        let kind = fields.text("kind", problems);
        nonblank("kind", &kind, problems);
        let message = fields.text_if_set("message", problems);
        if let Some(message) = &message {
            nonblank("message", message, problems);
        }
        let word = fields.text("disposition", problems);
        let disposition = serde_json::from_value(Value::from(word)).ok();
        if disposition.is_none() && !problems.about("disposition") {
            problems.add("disposition", format!("is not one of {}", Disposition::WORDS.join(", ")));
        }
        Some(Receipt { task_id, kind: super::kind(&kind).ok()?.to_owned(), disposition: disposition?, message })
    })
}

impl Claim {
    /// Whether the agent finished by itself and without an error.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.finish_reason == "done" && self.error.is_none()
    }

    /// Whether there is a structured answer; `null` is one.
    #[must_use]
    pub fn parsed_output_available(&self) -> bool {
        self.parsed_output.is_some()
    }
}

/// A value with all its problems, or without any.
fn checked<T>(origin: &str, read: impl FnOnce(&mut Problems<'_>) -> Option<T>) -> Result<T, Vec<Problem>> {
    let mut problems = Problems::new(origin, "result-field");
    match read(&mut problems) {
        Some(value) if problems.found.is_empty() => Ok(value),
        _ => Err(problems.found),
    }
}

fn nonblank(field: &str, text: &str, problems: &mut Problems<'_>) {
    if super::is_blank(text) && !problems.about(field) {
        problems.add(field, "is blank");
    }
}

fn read_usage(value: &Value, above: &str, problems: &mut Problems<'_>) -> Option<Usage> {
    let known =
        ["input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_tokens", "total_tokens", "cost_usd"];
    let fields = Fields::new(value, above, &known, problems)?;
    // Nothing is unknown, which is not zero.
    let mut count = |name: &str| fields.set(name).and_then(|_| fields.count(name, problems));
    let (input_tokens, output_tokens) = (count("input_tokens"), count("output_tokens"));
    let (cache_read_tokens, cache_creation_tokens) = (count("cache_read_tokens"), count("cache_creation_tokens"));
    let total_tokens = count("total_tokens");
    Some(Usage {
        input_tokens,
        output_tokens,
        cache_read_tokens,
        cache_creation_tokens,
        total_tokens,
        cost_usd: fields.amount("cost_usd", problems),
    })
}

fn read_audit(value: &Value, above: &str, problems: &mut Problems<'_>) -> Option<ToolAudit> {
    let known = ["tool_name", "arguments", "result_preview", "status", "duration_ms"];
    let fields = Fields::new(value, above, &known, problems)?;
    let name = fields.text("tool_name", problems);
    nonblank(&fields.path("tool_name"), &name, problems);
    let status = fields.text_or("status", "ok", problems);
    nonblank(&fields.path("status"), &status, problems);
    Some(ToolAudit {
        name,
        arguments: Value::Object(fields.object("arguments", problems)),
        result_preview: fields.text_or("result_preview", "", problems),
        status,
        duration_ms: Some(fields.count("duration_ms", problems).unwrap_or(0)),
        by: "vendor".to_owned(),
    })
}

fn read_artifact(value: &Value, above: &str, problems: &mut Problems<'_>) -> Option<Artifact> {
    let fields = Fields::new(value, above, &["uri", "kind", "metadata"], problems)?;
    let uri = fields.text("uri", problems);
    nonblank(&fields.path("uri"), &uri, problems);
    let kind = fields.text_or("kind", "file", problems);
    nonblank(&fields.path("kind"), &kind, problems);
    Some(Artifact { uri, kind, metadata: Value::Object(fields.object("metadata", problems)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told<T>(read: Result<T, Vec<Problem>>) -> String {
        match read {
            Ok(_) => "ok".to_owned(),
            Err(problems) => problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n    "),
        }
    }

    #[test]
    fn broken_values_name_all_their_fields() {
        let shown = [
            told(result(&json!({}), "result")),
            told(result(&json!({"output": "o", "error": " ", "finish_reason": "", "rounds": -1}), "result")),
            told(result(&json!({"output": "o", "error": "x"}), "result")),
            told(result(&json!({"output": "o", "usage": {"input_tokens": 1.0}, "tool_calls": [{}, 1]}), "result")),
            told(usage(&json!({"total_tokens": true, "cost_usd": -0.1, "output_tokens": null}), "usage")),
            told(audit(&json!({"tool_name": " ", "status": "", "duration_ms": 1.5}), "audit")),
            told(artifact(&json!({"uri": "", "kind": " ", "metadata": []}), "artifact")),
            told(receipt(&json!({"task_id": " ", "kind": " ", "disposition": "gone", "message": ""}), "receipt")),
            told(receipt(&json!({"task_id": "t", "kind": "k"}), "receipt")),
        ];
        insta::assert_snapshot!(shown.join("\n\n"));
    }

    #[test]
    fn an_answer_is_there_or_not() {
        let read = |value| result(&value, "result").expect("a result");
        assert!(!read(json!({"output": ""})).parsed_output_available());
        assert!(read(json!({"output": "", "parsed_output": 0})).parsed_output_available());
        assert!(!read(json!({"output": "", "parsed_output": null})).parsed_output_available());
        assert!(read(json!({"output": "", "parsed_output_available": true})).parsed_output_available());
        assert!(read(json!({"output": ""})).is_success());
        assert!(!read(json!({"output": "", "finish_reason": "DONE"})).is_success());
    }
}
