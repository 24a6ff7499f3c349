//! What a record says to a person, in words that may be shown: control characters escaped, lengths bounded.

use midplane::core::Error;
use midplane::core::event::{EventKind, Record};
use midplane::core::outcome::{FinishReason, Outcome, Usage};
use midplane::core::text::{escape_controls, shown};
use serde::Deserialize as _;
use serde_json::{Map, Value};

use crate::render::units;

/// What a record says.
#[derive(Debug)]
pub(crate) enum Said {
    /// A piece of the agent's text.
    Text(String),
    /// A piece of its thinking.
    Thinking(String),
    /// A tool call began.
    ToolBegan {
        /// The id by which its end is known.
        id: String,
        /// Name and arguments in one line.
        call: String,
    },
    /// A tool call ended.
    ToolEnded(ToolEnd),
    /// Something worth a line of its own; further lines of the text belong to it.
    Line {
        /// What it is about, in one word.
        label: &'static str,
        /// What it is.
        text: String,
    },
    /// Counters, cumulative.
    Usage(Usage),
    /// A file was changed: path and change.
    Change(String, String),
    /// What only someone who looks for a fault wants to see.
    Detail(String),
    /// The end.
    End(Box<Outcome>),
}

/// How a tool call ended.
#[derive(Debug)]
pub(crate) struct ToolEnd {
    /// As when it began.
    pub(crate) id: String,
    /// The tool.
    pub(crate) name: String,
    /// `ok`, `error`, `declined` or `cancelled`.
    pub(crate) status: String,
    /// How long it took and how large its answer is, as far as known.
    pub(crate) measures: Vec<String>,
    /// Why it was not done, if it was not.
    pub(crate) why: Option<String>,
}

/// Characters of one argument of a tool call, and of all of them.
const ARGUMENT_CHARS: usize = 48;
const ARGUMENTS_CHARS: usize = 120;
/// Characters of a message in a line.
const MESSAGE_CHARS: usize = 400;
/// Characters of a text of several lines, such as a plan.
const TEXT_CHARS: usize = 4_000;

/// What a record says.
pub(crate) fn said(record: &Record) -> Said {
    let data = &record.data;
    let line = |label, text: String| Said::Line { label, text };
    match record.kind {
        EventKind::AssistantText => Said::Text(lines(text(data, "text"))),
        EventKind::ToolRequest => Said::ToolBegan { id: text(data, "id").to_owned(), call: call(data) },
        EventKind::ToolResponse => Said::ToolEnded(tool_end(data)),
        EventKind::SkillLoaded => line("loaded", format!("skill {}", short(data, "name"))),
        EventKind::FileUploaded => line("loaded", short(data, "name")),
        EventKind::StreamError => line("warning", format!("{} ({})", short(data, "message"), short(data, "code"))),
        EventKind::RuntimeStarted => match data.get("model") {
            Some(_) => line("model", short(data, "model")),
            None => Said::Detail(detail(record)),
        },
        EventKind::RuntimeTerminal => {
            let outcome = Outcome::deserialize(Value::Object(data.clone())).unwrap_or_else(|error| {
                let error = Error::internal("terminal", format!("unreadable terminal: {error}"));
                Outcome::ended(FinishReason::Failed, Some(error))
            });
            Said::End(Box::new(outcome))
        }
        EventKind::Notification => match text(data, "type") {
            "thinking" => Said::Thinking(lines(text(data, "text"))),
            "usage" => match Usage::deserialize(Value::Object(data.clone())) {
                Ok(usage) => Said::Usage(usage),
                Err(_) => Said::Detail(detail(record)),
            },
            "file_change" => Said::Change(short(data, "path"), short(data, "change")),
            "plan" => line(
                "plan",
                lines(&midplane::core::text::preview(text(data, "text"), TEXT_CHARS)).trim_end().to_owned(),
            ),
            "retry" => {
                let number = |name| data.get(name).and_then(Value::as_u64).unwrap_or_default();
                let wait = units::duration(number("wait_ms"));
                line("retry", format!("{} in {wait} ({})", number("attempt"), short(data, "code")))
            }
            "approval" => {
                let allowed = data.get("allowed").and_then(Value::as_bool).unwrap_or_default();
                let answer = if allowed { "allowed" } else { "declined" };
                line("approval", format!("{}: {answer} by {}", short(data, "title"), short(data, "by")))
            }
            "steer" => line("steer", short(data, "text")),
            "log" => line("log", format!("{}: {}", short(data, "level"), short(data, "message"))),
            _ => Said::Detail(detail(record)),
        },
    }
}

/// A record in one line: its kind, the type of a notification, and its fields as JSON.
pub(crate) fn detail(record: &Record) -> String {
    let mut data = record.data.clone();
    let of = match record.kind {
        EventKind::Notification => data.remove("type").and_then(|of| Some(format!(" {}", shown(of.as_str()?, 40)))),
        _ => None,
    };
    format!(
        "{}{} {}",
        record.kind.as_str(),
        of.unwrap_or_default(),
        shown(&Value::Object(data).to_string(), MESSAGE_CHARS)
    )
}

fn tool_end(data: &Map<String, Value>) -> ToolEnd {
    let number = |name| data.get(name).and_then(Value::as_u64);
    let status = short(data, "status");
    let ok = status == "ok";
    let mut measures = Vec::new();
    measures.extend(number("duration_ms").map(units::duration));
    measures.extend(number("size_bytes").filter(|_| ok).map(units::bytes));
    ToolEnd {
        id: text(data, "id").to_owned(),
        name: short(data, "name"),
        measures,
        why: (!ok).then(|| one_line(text(data, "preview"), MESSAGE_CHARS)).filter(|why| !why.is_empty()),
        status,
    }
}

/// `read_file path=README.md`: a call as one reads it.
fn call(data: &Map<String, Value>) -> String {
    let mut line = short(data, "name");
    let Some(arguments) = data.get("arguments").and_then(Value::as_object) else { return line };
    let mut rest = String::new();
    for (name, value) in arguments {
        let value = match value {
            Value::String(text) if text.is_empty() => "''".to_owned(),
            Value::String(text) => one_line(text, ARGUMENT_CHARS),
            other => shown(&other.to_string(), ARGUMENT_CHARS),
        };
        rest.push_str(&format!(" {}={value}", shown(name, ARGUMENT_CHARS)));
        if rest.len() > ARGUMENTS_CHARS * 4 {
            break;
        }
    }
    line.push_str(&midplane::core::text::preview(&rest, ARGUMENTS_CHARS));
    line
}

fn text<'a>(data: &'a Map<String, Value>, name: &str) -> &'a str {
    data.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn short(data: &Map<String, Value>, name: &str) -> String {
    one_line(text(data, name), MESSAGE_CHARS)
}

/// Lines become one, since what is meant for a line should stay in it.
fn one_line(text: &str, chars_max: usize) -> String {
    let mut words = text.split_whitespace();
    let mut line = words.next().unwrap_or_default().to_owned();
    for word in words {
        if line.len() > chars_max * 4 {
            break;
        }
        line.push(' ');
        line.push_str(word);
    }
    shown(&line, chars_max)
}

/// Text of several lines, escaped. A carriage return before a line's end is part of it.
fn lines(text: &str) -> String {
    escape_controls(&text.replace("\r\n", "\n"), true)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use midplane::core::RunId;
    use serde_json::json;

    /// Records as a log has them, from kinds and data.
    pub(crate) fn records(events: &[(&str, Value)]) -> Vec<Record> {
        let record = |(index, (kind, data)): (usize, &(&str, Value))| Record {
            run_id: RunId::from_parts(1, 2),
            seq: index as u64 + 1,
            t_ms: 1_000 + 250 * index as u64,
            kind: EventKind::parse(kind).unwrap_or(EventKind::Notification),
            data: {
                let mut data = data.as_object().cloned().expect("an object");
                if EventKind::parse(kind).is_none() {
                    data.insert("type".to_owned(), Value::from(*kind));
                }
                data
            },
        };
        events.iter().enumerate().map(record).collect()
    }

    /// A run in which everything happens that can be shown.
    pub(crate) fn eventful() -> Vec<Record> {
        records(&[
            ("created", json!({"profile": "p"})),
            ("status", json!({"status": "running"})),
            ("runtime_started", json!({"model": "model-1", "session_id": "s-1"})),
            ("plan", json!({"text": "inventory\n1. count\n2. write"})),
            ("thinking", json!({"text": "let me\nsee"})),
            ("assistant_text", json!({"text": "I look at "})),
            ("assistant_text", json!({"text": "the \u{1b}[31mfiles\u{1b}[0m.\r\nThen"})),
            ("audit", json!({"act": "http", "target": "https://h", "outcome": "ok"})),
            (
                "tool_request",
                json!({"id": "1", "name": "read_file", "arguments": {"path": "a\nb.md", "lines": [1, 2]}, "by": "host"}),
            ),
            (
                "tool_request",
                json!({"id": "2", "name": "write_file", "arguments": {"content": "x".repeat(500), "path": "out.md"}, "by": "host"}),
            ),
            (
                "tool_response",
                json!({"id": "1", "name": "read_file", "status": "ok", "preview": "secret of the file", "size_bytes": 345, "duration_ms": 12, "by": "host"}),
            ),
            (
                "tool_response",
                json!({"id": "2", "name": "write_file", "status": "error", "preview": "the workspace is\nread-only", "size_bytes": 10, "duration_ms": 3, "by": "host"}),
            ),
            ("usage", json!({"input_tokens": 1200, "output_tokens": 34})),
            ("retry", json!({"attempt": 1, "wait_ms": 2500, "code": "overloaded"})),
            ("stream_error", json!({"code": "odd", "message": "a strange line", "retryable": false})),
            ("approval", json!({"title": "run rm", "allowed": false, "by": "policy"})),
            ("steer", json!({"text": "faster"})),
            ("skill_loaded", json!({"name": "review", "digest": "d"})),
            ("file_change", json!({"path": "out.md", "change": "created"})),
            ("file_change", json!({"path": "out.md", "change": "modified"})),
            ("file_change", json!({"path": "tmp", "change": "created"})),
            ("file_change", json!({"path": "tmp", "change": "deleted"})),
            ("novelty", json!({"x": 1})),
            ("assistant_text", json!({"text": "It is done."})),
            (
                "runtime_terminal",
                json!({"finish_reason": "done", "output": "It is done.", "rounds": 2, "session_id": "s-1",
                    "usage": {"input_tokens": 2400, "output_tokens": 68, "cost_usd": 0.0123}}),
            ),
        ])
    }

    #[test]
    fn what_records_say() {
        let shown: Vec<String> = eventful().iter().map(|record| format!("{:?}", said(record))).collect();
        insta::assert_snapshot!(shown.join("\n"));
    }

    #[test]
    fn records_that_make_no_sense_are_still_shown() {
        let odd = records(&[
            ("assistant_text", json!({})),
            ("tool_request", json!({"name": 3, "arguments": "x"})),
            ("tool_response", json!({"status": "ok"})),
            ("usage", json!({"input_tokens": "many"})),
            ("runtime_terminal", json!({"finish_reason": "odd"})),
        ]);
        let shown: Vec<String> = odd.iter().map(|record| format!("{:?}", said(record))).collect();
        insta::assert_snapshot!(shown.join("\n"));
    }
}
