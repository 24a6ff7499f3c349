//! The records of a run's log: nine kinds, one envelope, and the checks that an event of a plugin passes.
//!
//! The kinds and the envelope are antpath's; the fields of each kind's `data` are the table in `wit/README.md`. What
//! the host itself has to say about a run (that it was created, its status, an audit of a gated call) is a
//! `notification` of a type that is reserved for it ([`HOST_TYPES`]), so that a log has one sequence without gaps and
//! its readers need nothing beyond the nine kinds.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Error, Result, RunId, limits::Limits};

/// The version of the stored form. It grows when a field is *added*: an old writer beside a new reader counts too.
pub const FORMAT_VERSION: u32 = 1;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The vendor accepted the first turn.
    RuntimeStarted,
    /// A piece of the model's text.
    AssistantText,
    /// A tool call, complete with its arguments.
    ToolRequest,
    /// What a tool call gave back.
    ToolResponse,
    /// A skill is known to the agent.
    SkillLoaded,
    /// A file is known to the agent.
    FileUploaded,
    /// All that fits nowhere else.
    Notification,
    /// Something went wrong in the stream and the run goes on.
    StreamError,
    /// The end, exactly once, written by the host.
    RuntimeTerminal,
}

impl EventKind {
    /// All nine, in the order of the original's list.
    pub const ALL: [Self; 9] = [
        Self::RuntimeStarted,
        Self::AssistantText,
        Self::ToolRequest,
        Self::ToolResponse,
        Self::SkillLoaded,
        Self::FileUploaded,
        Self::Notification,
        Self::StreamError,
        Self::RuntimeTerminal,
    ];

    /// The word in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RuntimeStarted => "runtime_started",
            Self::AssistantText => "assistant_text",
            Self::ToolRequest => "tool_request",
            Self::ToolResponse => "tool_response",
            Self::SkillLoaded => "skill_loaded",
            Self::FileUploaded => "file_uploaded",
            Self::Notification => "notification",
            Self::StreamError => "stream_error",
            Self::RuntimeTerminal => "runtime_terminal",
        }
    }

    /// The kind of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        // Asked for each event. With its length known in advance, a word is compared in two steps, where a search over
        // texts would call out for each of them.
        fn is<const N: usize>(word: &[u8], known: &[u8; N]) -> bool {
            word.first_chunk() == Some(known)
        }
        let bytes = word.as_bytes();
        let kind = match bytes.len() {
            14 if is(bytes, b"assistant_text") => Self::AssistantText,
            12 if is(bytes, b"tool_request") => Self::ToolRequest,
            13 if is(bytes, b"tool_response") => Self::ToolResponse,
            12 if is(bytes, b"notification") => Self::Notification,
            15 if is(bytes, b"runtime_started") => Self::RuntimeStarted,
            12 if is(bytes, b"skill_loaded") => Self::SkillLoaded,
            13 if is(bytes, b"file_uploaded") => Self::FileUploaded,
            12 if is(bytes, b"stream_error") => Self::StreamError,
            16 if is(bytes, b"runtime_terminal") => Self::RuntimeTerminal,
            _ => return None,
        };
        Some(kind)
    }
}

/// An event before it has a place in a log.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What it is about.
    pub kind: EventKind,
    /// Its fields.
    pub data: Map<String, Value>,
}

impl Event {
    /// An event from a JSON object; the host's own events are written with `json!`, which gives one.
    #[must_use]
    pub fn new(kind: EventKind, data: Value) -> Self {
        let data = match data {
            Value::Object(map) => map,
            // Only host code calls this, always with an object; anything else is kept rather than lost.
            other => Map::from_iter([("value".to_owned(), other)]),
        };
        Self { kind, data }
    }

    /// A `notification` of a type.
    #[must_use]
    pub fn notification(of: &str, data: Value) -> Self {
        let mut event = Self::new(EventKind::Notification, data);
        event.data.insert("type".to_owned(), Value::from(of));
        event
    }

    /// The `type` of a notification.
    #[must_use]
    pub fn notification_type(&self) -> Option<&str> {
        match self.kind {
            EventKind::Notification => self.data.get("type").and_then(Value::as_str),
            _ => None,
        }
    }
}

/// One record of a log: an event in its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The run that it belongs to.
    pub run_id: RunId,
    /// 1 for the first, then one more each.
    pub seq: u64,
    /// When it was appended, in milliseconds since 1970 UTC; never less than in the record before.
    pub t_ms: u64,
    /// What it is about.
    pub kind: EventKind,
    /// Its fields.
    pub data: Map<String, Value>,
}

/// Notification types that only the host writes. A plugin that could write them could forge a run's state.
pub const HOST_TYPES: [&str; 8] = ["created", "status", "audit", "resumed", "question", "approval", "claim", "cost"];

/// What has been seen of a plugin's stream, so that the order rules can be checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Order {
    started: bool,
}

/// In which call of a plugin an event was emitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// An agent's `run`: all kinds but the terminal.
    Run,
    /// Any other call: `notification` only.
    Other,
}

/// Checks a batch of a plugin and gives its events, all or none. `seen` is what is left of the run's allowance.
///
/// Errors, as `events.emit` documents them: `batch-empty`, `batch-size`, `event-size`, `run-events`, `event-kind`,
/// `event-data`, `event-order`; the message names the index.
pub fn check_batch(
    raw: &[(String, String)],
    phase: Phase,
    order: &mut Order,
    limits: &Limits,
    run_events_left: u64,
) -> Result<Vec<Event>> {
    if raw.is_empty() {
        return Err(Error::invalid("batch-empty", "a batch has at least one event"));
    }
    let count = raw.len() as u64;
    if count > limits.batch_events_max {
        return Err(Error::limit("batch-size", format!("a batch has at most {} events", limits.batch_events_max)));
    }
    let bytes: u64 = raw.iter().map(|(_, data)| data.len() as u64).sum();
    if bytes > limits.batch_bytes_max {
        return Err(Error::limit("batch-size", format!("a batch has at most {} bytes", limits.batch_bytes_max)));
    }
    if count > run_events_left {
        return Err(Error::limit("run-events", format!("a run has at most {} events", limits.run_events_max)));
    }
    // The order is changed only if all events pass: a refused batch leaves no trace.
    let mut after = order.clone();
    let mut events = Vec::with_capacity(raw.len());
    for (index, (kind, data)) in raw.iter().enumerate() {
        events.push(check_event(kind, data, phase, &mut after, limits).map_err(|mut error| {
            error.message = format!("events[{index}]: {}", error.message);
            error
        })?);
    }
    *order = after;
    Ok(events)
}

fn check_event(kind: &str, data: &str, phase: Phase, order: &mut Order, limits: &Limits) -> Result<Event> {
    let parsed = EventKind::parse(kind)
        .filter(|kind| *kind != EventKind::RuntimeTerminal)
        .filter(|kind| phase == Phase::Run || *kind == EventKind::Notification);
    let Some(kind) = parsed else {
        let shown = crate::text::shown(kind, 40);
        return Err(Error::invalid("event-kind", format!("a plugin may not emit `{shown}` here")));
    };
    if data.len() as u64 > limits.event_bytes_max {
        return Err(Error::limit(
            "event-size",
            format!("an event's data has at most {} bytes", limits.event_bytes_max),
        ));
    }
    let data: Map<String, Value> = serde_json::from_str(data)
        .map_err(|error| Error::invalid("event-data", format!("data is not a JSON object: {error}")))?;
    check_data(kind, &data)?;
    match kind {
        EventKind::RuntimeStarted if order.started => {
            return Err(Error::invalid("event-order", "`runtime_started` comes once"));
        }
        EventKind::RuntimeStarted => order.started = true,
        _ if phase == Phase::Run && !order.started => {
            return Err(Error::invalid("event-order", "`runtime_started` comes first"));
        }
        _ => {}
    }
    Ok(Event { kind, data })
}

/// What a field holds.
#[derive(Clone, Copy)]
enum Is {
    Text,
    Count,
    Flag,
    Object,
    Any,
    OneOf(&'static [&'static str]),
}

/// The fields of each kind: name, what it holds, whether it must be there. The table of `wit/README.md` as data.
fn fields(kind: EventKind) -> &'static [(&'static str, Is, bool)] {
    const BY: Is = Is::OneOf(&["host", "vendor"]);
    match kind {
        EventKind::RuntimeStarted => {
            &[("session_id", Is::Text, false), ("model", Is::Text, false), ("vendor_version", Is::Text, false)]
        }
        EventKind::AssistantText => &[("text", Is::Text, true), ("block", Is::Any, false)],
        EventKind::ToolRequest => {
            &[("id", Is::Text, true), ("name", Is::Text, true), ("arguments", Is::Object, true), ("by", BY, true)]
        }
        EventKind::ToolResponse => &[
            ("id", Is::Text, true),
            ("name", Is::Text, true),
            ("status", Is::OneOf(&["ok", "error", "declined", "cancelled"]), true),
            ("preview", Is::Text, true),
            ("size_bytes", Is::Count, true),
            ("duration_ms", Is::Count, false),
            ("by", BY, true),
        ],
        EventKind::SkillLoaded | EventKind::FileUploaded => {
            &[("name", Is::Text, true), ("digest", Is::Text, true), ("path", Is::Text, false)]
        }
        EventKind::StreamError => {
            &[("code", Is::Text, true), ("message", Is::Text, true), ("retryable", Is::Flag, true)]
        }
        EventKind::Notification => &[("type", Is::Text, true)],
        EventKind::RuntimeTerminal => &[],
    }
}

fn check_data(kind: EventKind, data: &Map<String, Value>) -> Result<()> {
    let bad = |name: &str, why: &str| Err(Error::invalid("event-data", format!("`{}`: `{name}` {why}", kind.as_str())));
    let table = fields(kind);
    for (name, is, required) in table {
        let Some(value) = data.get(*name) else {
            if *required {
                return bad(name, "is missing");
            }
            continue;
        };
        let (ok, what) = match is {
            Is::Text => (value.is_string(), "is a text"),
            Is::Count => (value.is_u64(), "is a whole number, not negative"),
            Is::Flag => (value.is_boolean(), "is true or false"),
            Is::Object => (value.is_object(), "is an object"),
            Is::Any => (true, ""),
            Is::OneOf(words) => (value.as_str().is_some_and(|word| words.contains(&word)), "is not one of its words"),
        };
        if !ok {
            return bad(name, what);
        }
    }
    if kind == EventKind::Notification {
        // A notification is open by nature: only the types of the host are closed to a plugin.
        let of = data.get("type").and_then(Value::as_str).unwrap_or_default();
        if HOST_TYPES.contains(&of) {
            return bad("type", "is written by the host alone");
        }
        return Ok(());
    }
    // A misspelt field would be lost on every reader; what a vendor says besides goes under `vendor`.
    if let Some(name) = data.keys().find(|name| *name != "vendor" && !table.iter().any(|(known, ..)| known == *name)) {
        return bad(&crate::text::shown(name, 40), "is not a field of this kind; put it under `vendor`");
    }
    if kind == EventKind::ToolRequest || kind == EventKind::ToolResponse {
        // The host writes those of its own tools; a plugin may only tell of its vendor's.
        if data.get("by").and_then(Value::as_str) != Some("vendor") {
            return bad("by", "is `vendor` in what a plugin emits");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: &str, data: &str) -> String {
        let mut order = Order { started: kind != "runtime_started" };
        let raw = [(kind.to_owned(), data.to_owned())];
        match check_batch(&raw, Phase::Run, &mut order, &Limits::default(), 10) {
            Ok(events) => format!("ok {}", events.len()),
            Err(error) => format!("{}: {}", error.code, error.message),
        }
    }

    #[test]
    fn each_kind_is_found_by_its_word() {
        for kind in EventKind::ALL {
            assert_eq!(EventKind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(EventKind::parse("Notification"), None);
    }

    #[test]
    fn events_of_a_plugin() {
        let cases = [
            ("runtime_started", "{}"),
            ("runtime_started", r#"{"session_id":1}"#),
            ("assistant_text", r#"{"text":"hi"}"#),
            ("assistant_text", r#"{"txt":"hi"}"#),
            ("assistant_text", r#"{"text":"hi","extra":1}"#),
            ("assistant_text", r#"{"text":"hi","vendor":{"extra":1}}"#),
            ("assistant_text", "[]"),
            ("assistant_text", "{"),
            ("tool_request", r#"{"id":"1","name":"x","arguments":{},"by":"host"}"#),
            ("tool_request", r#"{"id":"1","name":"x","arguments":{},"by":"vendor"}"#),
            ("tool_response", r#"{"id":"1","name":"x","status":"great","preview":"","size_bytes":0,"by":"vendor"}"#),
            ("notification", r#"{"type":"thinking","text":"hm"}"#),
            ("notification", r#"{"type":"status","status":"terminated"}"#),
            ("notification", "{}"),
            ("runtime_terminal", "{}"),
            ("made_up", "{}"),
        ];
        let shown: Vec<String> =
            cases.iter().map(|(kind, data)| format!("{kind} {data}\n    {}", check(kind, data))).collect();
        insta::assert_snapshot!(shown.join("\n"));
    }

    #[test]
    fn a_refused_batch_leaves_no_trace() {
        let mut order = Order::default();
        let raw = [("runtime_started".to_owned(), "{}".to_owned()), ("nope".to_owned(), "{}".to_owned())];
        let error = check_batch(&raw, Phase::Run, &mut order, &Limits::default(), 10).expect_err("refused");
        assert_eq!(
            (error.code.as_ref(), error.message.as_str()),
            ("event-kind", "events[1]: a plugin may not emit `nope` here")
        );
        assert_eq!(order, Order::default());
        let first = [("assistant_text".to_owned(), r#"{"text":""}"#.to_owned())];
        let error = check_batch(&first, Phase::Run, &mut order, &Limits::default(), 10).expect_err("refused");
        assert_eq!(error.code, "event-order");
    }

    #[test]
    fn bounds() {
        let limits = Limits { event_bytes_max: 10, batch_bytes_max: 30, batch_events_max: 2, ..Limits::default() };
        let event = |bytes: usize| ("notification".to_owned(), format!("{:1$}", "{}", bytes));
        let code = |raw: &[(String, String)], left| {
            check_batch(raw, Phase::Run, &mut Order { started: true }, &limits, left).expect_err("refused").code
        };
        assert_eq!(code(&[], 9), "batch-empty");
        assert_eq!(code(&[event(2), event(2), event(2)], 9), "batch-size");
        assert_eq!(code(&[event(31)], 9), "batch-size");
        assert_eq!(code(&[event(11)], 9), "event-size");
        assert_eq!(code(&[event(2), event(2)], 1), "run-events");
    }

    #[test]
    fn other_calls_only_notify() {
        let raw = [("assistant_text".to_owned(), r#"{"text":""}"#.to_owned())];
        let error = check_batch(&raw, Phase::Other, &mut Order::default(), &Limits::default(), 9).expect_err("refused");
        assert_eq!(error.code, "event-kind");
        let raw = [("notification".to_owned(), r#"{"type":"log","level":"info","message":"x"}"#.to_owned())];
        assert!(check_batch(&raw, Phase::Other, &mut Order::default(), &Limits::default(), 9).is_ok());
    }
}
