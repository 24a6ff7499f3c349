//! The records of a run as one trace: the run is the root span, each tool call a child, and what else happened an event of
//! the root.
//!
//! ```text
//!  run ├────────────────────────────────────────────────────────────┤   status, finish reason, tokens
//!      │ ● status  ● runtime_started  ● retry        ● stream_error
//!      └── tool ├──────┤   tool ├───────────┤                            name, status, size
//! ```
//! A pure projection, record by record, so that a long log is never in memory. Its ids come from the run's id: the same run is
//! always the same trace, whoever exports it.
//!
//! What it never carries: a text, an argument, a path, a message, a preview. An attribute is in [`ATTRIBUTES`], and its value is a
//! number, a boolean or a *word* ([`word`]); whatever else a plugin wrote is left out.

use std::collections::HashMap;
use std::num::{NonZeroU64, NonZeroU128};

use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::SpanStatus;
use super::traceparent::Traceparent;
use crate::RunId;
use crate::event::{EventKind, Record};
use crate::run::State;

/// Tool calls of one trace. Those after are counted, not kept.
pub const TOOL_SPANS_MAX: usize = 1_000;

/// Events of the root span, as many as the specification keeps. Those after are counted, not kept.
pub const EVENTS_MAX: usize = 128;

/// Characters of a word.
pub const WORD_CHARS_MAX: usize = 100;

/// Every attribute that a span or an event of a trace may have. The names with `gen_ai` and `error` are OpenTelemetry's.
pub const ATTRIBUTES: [&str; 26] = [
    "error.type",
    "gen_ai.operation.name",
    "gen_ai.request.model",
    "gen_ai.tool.name",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "midplane.act",
    "midplane.allowed",
    "midplane.attempt",
    "midplane.by",
    "midplane.duration_ms",
    "midplane.error.kind",
    "midplane.finish_reason",
    "midplane.outcome",
    "midplane.plugin.name",
    "midplane.plugin.version",
    "midplane.profile",
    "midplane.reason",
    "midplane.retryable",
    "midplane.rounds",
    "midplane.run.id",
    "midplane.size_bytes",
    "midplane.status",
    "midplane.tool_spans_dropped",
    "midplane.usage.cost_usd",
    "midplane.wait_ms",
];

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum AttributeValue {
    /// A word ([`word`]).
    Word(String),
    /// A whole number.
    Int(i64),
    /// An amount.
    Float(f64),
    /// Yes or no.
    Bool(bool),
}

/// Attributes of a span or an event.
pub type Attributes = Vec<(&'static str, AttributeValue)>;

/// Something that happened within a span.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SpanEvent {
    /// What.
    pub name: String,
    /// When, in milliseconds since 1970 UTC.
    pub t_ms: u64,
    /// What is known of it.
    pub attributes: Attributes,
}

/// Something that took time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Span {
    /// Its id.
    pub id: NonZeroU64,
    /// The span that it is part of; none for the root of the trace.
    pub parent_id: Option<NonZeroU64>,
    /// What.
    pub name: String,
    /// From when, in milliseconds since 1970 UTC.
    pub start_ms: u64,
    /// Until when.
    pub end_ms: u64,
    /// How it ended.
    pub status: SpanStatus,
    /// What is known of it.
    pub attributes: Attributes,
    /// What happened meanwhile, in order.
    pub events: Vec<SpanEvent>,
    /// Events that were not kept.
    pub events_dropped: u32,
}

/// One trace.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trace {
    /// Its id.
    pub id: NonZeroU128,
    /// Its spans, the root first.
    pub spans: Vec<Span>,
}

/// The trace id of a run: the 128 bits of its id.
#[must_use]
pub fn trace_id(run_id: &RunId) -> NonZeroU128 {
    let id = ulid::Ulid::from_string(run_id.as_str()).ok().and_then(|id| NonZeroU128::new(id.0));
    // An id of the right form need not be a ULID; then its digest will do.
    id.unwrap_or_else(|| NonZeroU128::new(u128::from(span_id(run_id, u64::MAX).get())).unwrap_or(NonZeroU128::MIN))
}

/// The id of the span that begins with a record; 0 stands for the run itself.
fn span_id(run_id: &RunId, seq: u64) -> NonZeroU64 {
    let digest = Sha256::new().chain_update(run_id.as_str()).chain_update(seq.to_be_bytes()).finalize();
    let head = digest.iter().take(8).fold(0_u64, |head, byte| head << 8 | u64::from(*byte));
    NonZeroU64::new(head).unwrap_or(NonZeroU64::MIN)
}

/// Whether the trace of a run is among the share that leaves. By the id alone, as OpenTelemetry's `traceidratio` decides, so
/// that all who see the trace agree.
#[must_use]
pub fn is_sampled(trace_id: NonZeroU128, share: f64) -> bool {
    if share >= 1.0 {
        return true;
    }
    // The lowest 63 bits, which are the random ones of a run id. A float holds 2^63 exactly; NaN and less than 0 give 0.
    let bound = (share * (1_u64 << 63) as f64) as u64;
    (trace_id.get() as u64) >> 1 < bound
}

/// Makes the trace of one run from its records.
pub struct RunTrace {
    run_id: RunId,
    parent: Option<Traceparent>,
    state: State,
    root: Span,
    tools: Vec<Span>,
    /// Calls without an answer yet, by their id, with their place in `tools`.
    open: HashMap<String, usize>,
    tools_dropped: u64,
    has_text: bool,
}

impl RunTrace {
    /// The trace of a run without records yet. With `parent`, the run is part of that trace.
    #[must_use]
    pub fn new(run_id: RunId, parent: Option<Traceparent>) -> Self {
        let root = Span {
            id: span_id(&run_id, 0),
            parent_id: parent.map(|parent| parent.span_id),
            name: "run".to_owned(),
            start_ms: 0,
            end_ms: 0,
            status: SpanStatus::Unset,
            attributes: vec![("midplane.run.id", AttributeValue::Word(run_id.to_string()))],
            events: Vec::new(),
            events_dropped: 0,
        };
        Self {
            run_id,
            parent,
            state: State::default(),
            root,
            tools: Vec::new(),
            open: HashMap::new(),
            tools_dropped: 0,
            has_text: false,
        }
    }

    /// Takes the next record.
    pub fn apply(&mut self, record: &Record) {
        self.state.apply(record);
        if self.root.start_ms == 0 {
            self.root.start_ms = record.t_ms;
        }
        self.root.end_ms = self.root.end_ms.max(record.t_ms);
        let data = Fields(&record.data);
        match record.kind {
            EventKind::ToolRequest => self.begin(record),
            EventKind::ToolResponse => self.end(record),
            EventKind::RuntimeStarted => {
                self.event(record, "runtime_started", data.of(&[("model", "gen_ai.request.model")]));
            }
            EventKind::StreamError => {
                let attributes = data.of(&[("code", "error.type"), ("retryable", "midplane.retryable")]);
                self.event(record, "stream_error", attributes);
            }
            // When the first text came is worth knowing; a mark for every piece is not.
            EventKind::AssistantText if !self.has_text => {
                self.has_text = true;
                self.event(record, "first_text", Vec::new());
            }
            EventKind::Notification => self.notification(record),
            EventKind::AssistantText
            | EventKind::SkillLoaded
            | EventKind::FileUploaded
            | EventKind::RuntimeTerminal => {}
        }
    }

    /// The trace as far as the run has come: complete once the terminal was taken.
    #[must_use]
    pub fn finish(mut self) -> Trace {
        for at in self.open.values() {
            if let Some(tool) = self.tools.get_mut(*at) {
                tool.end_ms = self.root.end_ms;
                tool.attributes.push(("midplane.status", AttributeValue::Word("requested".to_owned())));
            }
        }
        let root = &mut self.root;
        put(&mut root.attributes, "midplane.status", self.state.status.as_str());
        if let Some(created) = &self.state.created {
            let at = |pointer: &str| created.pointer(pointer).and_then(Value::as_str);
            let words = [
                ("midplane.profile", at("/profile")),
                ("midplane.plugin.name", at("/plugin/name")),
                ("midplane.plugin.version", at("/plugin/version")),
            ];
            words.into_iter().for_each(|(name, text)| put(&mut root.attributes, name, text.unwrap_or_default()));
        }
        let mut usage = self.state.usage.clone();
        if let Some(outcome) = &self.state.outcome {
            usage = usage.or_later(outcome.usage.clone());
            put(&mut root.attributes, "midplane.finish_reason", outcome.finish_reason.as_str());
            put(&mut root.attributes, "midplane.reason", outcome.reason.as_deref().unwrap_or_default());
            root.attributes.push(("midplane.rounds", AttributeValue::Int(outcome.rounds.into())));
            if let Some(error) = &outcome.error {
                put(&mut root.attributes, "midplane.error.kind", error.kind.as_str());
                put(&mut root.attributes, "error.type", &error.code);
            }
            root.status =
                if self.state.status == crate::run::Status::Failed { SpanStatus::Error } else { SpanStatus::Ok };
        }
        let tokens =
            [("gen_ai.usage.input_tokens", usage.input_tokens), ("gen_ai.usage.output_tokens", usage.output_tokens)];
        for (name, count) in tokens {
            root.attributes.extend(
                count.and_then(|count| i64::try_from(count).ok()).map(|count| (name, AttributeValue::Int(count))),
            );
        }
        root.attributes.extend(usage.cost_usd.map(|cost| ("midplane.usage.cost_usd", AttributeValue::Float(cost))));
        if self.tools_dropped > 0 {
            let dropped = i64::try_from(self.tools_dropped).unwrap_or(i64::MAX);
            root.attributes.push(("midplane.tool_spans_dropped", AttributeValue::Int(dropped)));
        }
        let id = self.parent.map_or_else(|| trace_id(&self.run_id), |parent| parent.trace_id);
        Trace { id, spans: std::iter::once(self.root).chain(self.tools).collect() }
    }

    fn begin(&mut self, record: &Record) {
        if self.tools.len() >= TOOL_SPANS_MAX {
            self.tools_dropped += 1;
            return;
        }
        // The same id again: what was open stays so until the end of the run.
        if let Some(id) = record.data.get("id").and_then(Value::as_str) {
            self.open.insert(id.to_owned(), self.tools.len());
        }
        let span = self.tool(record, record.t_ms);
        self.tools.push(span);
    }

    fn end(&mut self, record: &Record) {
        let data = Fields(&record.data);
        let id = record.data.get("id").and_then(Value::as_str).unwrap_or_default();
        let at = match self.open.remove(id) {
            Some(at) => at,
            // An answer to a call that was not seen: it began as long before as it says it took.
            None if self.tools.len() < TOOL_SPANS_MAX => {
                let took_ms = record.data.get("duration_ms").and_then(Value::as_u64).unwrap_or_default();
                let start_ms = record.t_ms.saturating_sub(took_ms).max(self.root.start_ms);
                let span = self.tool(record, start_ms);
                self.tools.push(span);
                self.tools.len() - 1
            }
            // It was counted when it began, or is one more than is kept.
            None => return,
        };
        let Some(span) = self.tools.get_mut(at) else { return };
        span.end_ms = record.t_ms;
        span.attributes.extend(data.of(&[
            ("status", "midplane.status"),
            ("size_bytes", "midplane.size_bytes"),
            ("duration_ms", "midplane.duration_ms"),
        ]));
        span.status = match record.data.get("status").and_then(Value::as_str) {
            Some("ok") => SpanStatus::Ok,
            Some("error") => SpanStatus::Error,
            _ => SpanStatus::Unset,
        };
    }

    fn tool(&self, record: &Record, start_ms: u64) -> Span {
        let data = Fields(&record.data);
        let mut attributes = vec![("gen_ai.operation.name", AttributeValue::Word("execute_tool".to_owned()))];
        attributes.extend(data.of(&[("name", "gen_ai.tool.name"), ("by", "midplane.by")]));
        Span {
            id: span_id(&self.run_id, record.seq),
            parent_id: Some(self.root.id),
            name: "execute_tool".to_owned(),
            start_ms,
            end_ms: record.t_ms,
            status: SpanStatus::Unset,
            attributes,
            events: Vec::new(),
            events_dropped: 0,
        }
    }

    fn notification(&mut self, record: &Record) {
        let data = Fields(&record.data);
        let of = record.data.get("type").and_then(Value::as_str).unwrap_or_default();
        let known: &[(&str, &'static str)] = match of {
            // What the root says in the end, or what comes in pieces.
            "created" | "usage" | "thinking" => return,
            "status" => &[("status", "midplane.status"), ("reason", "midplane.reason")],
            "retry" => &[("attempt", "midplane.attempt"), ("wait_ms", "midplane.wait_ms"), ("code", "error.type")],
            "audit" => &[
                ("act", "midplane.act"),
                ("outcome", "midplane.outcome"),
                ("duration_ms", "midplane.duration_ms"),
                ("size_bytes", "midplane.size_bytes"),
            ],
            "approval" => &[("allowed", "midplane.allowed"), ("by", "midplane.by")],
            _ => &[],
        };
        let attributes = data.of(known);
        self.event(record, word(of).unwrap_or("notification"), attributes);
    }

    fn event(&mut self, record: &Record, name: &str, attributes: Attributes) {
        if self.root.events.len() >= EVENTS_MAX {
            self.root.events_dropped = self.root.events_dropped.saturating_add(1);
            return;
        }
        self.root.events.push(SpanEvent { name: name.to_owned(), t_ms: record.t_ms, attributes });
    }
}

/// The text, if it is a word: at most [`WORD_CHARS_MAX`] letters, digits and `. _ - : /` of ASCII. Names of tools, models and codes
/// are; sentences and paths from the root are not. Secrets are no concern here: what is in a log was redacted before.
#[must_use]
pub fn word(text: &str) -> Option<&str> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-:/".contains(&b);
    let is_word = text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.len() <= WORD_CHARS_MAX;
    (is_word && text.bytes().all(fits)).then_some(text)
}

fn put(attributes: &mut Attributes, name: &'static str, text: &str) {
    attributes.extend(word(text).map(|word| (name, AttributeValue::Word(word.to_owned()))));
}

/// The fields of a record.
struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    /// Some of them as attributes: numbers, booleans and words.
    fn of(&self, fields: &[(&str, &'static str)]) -> Attributes {
        let value = |value: &Value| match value {
            Value::Bool(yes) => Some(AttributeValue::Bool(*yes)),
            Value::Number(number) => {
                number.as_i64().map(AttributeValue::Int).or_else(|| number.as_f64().map(AttributeValue::Float))
            }
            Value::String(text) => word(text).map(|word| AttributeValue::Word(word.to_owned())),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        };
        fields.iter().filter_map(|(field, name)| Some((*name, value(self.0.get(*field)?)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn run_id() -> RunId {
        RunId::from_parts(1_700_000_000_000, 42)
    }

    fn trace(records: &[(EventKind, Value)]) -> Trace {
        let mut trace = RunTrace::new(run_id(), None);
        for ((kind, data), seq) in records.iter().zip(1..) {
            let data = data.as_object().expect("an object").clone();
            trace.apply(&Record { run_id: run_id(), seq, t_ms: 1_000 + seq * 10, kind: *kind, data });
        }
        trace.finish()
    }

    const SECRET: &str = "a secret text";

    fn run() -> Vec<(EventKind, Value)> {
        use EventKind::{
            AssistantText, Notification, RuntimeStarted, RuntimeTerminal, StreamError, ToolRequest, ToolResponse,
        };
        vec![
            (
                Notification,
                json!({ "type": "created", "profile": "p", "plugin": { "name": "playbook", "version": "0.1.0", "digest": "d" }, "task": { "prompt": SECRET } }),
            ),
            (Notification, json!({ "type": "status", "status": "running" })),
            (RuntimeStarted, json!({ "session_id": SECRET, "model": "claude-x:1" })),
            (AssistantText, json!({ "text": SECRET })),
            (AssistantText, json!({ "text": SECRET })),
            (ToolRequest, json!({ "id": "1", "name": "shell", "arguments": { "command": SECRET }, "by": "host" })),
            (ToolRequest, json!({ "id": "2", "name": SECRET, "arguments": {}, "by": "vendor" })),
            (
                Notification,
                json!({ "type": "audit", "act": "http", "target": "https://x.example/?key=1", "outcome": "allowed", "duration_ms": 3, "size_bytes": 9 }),
            ),
            (
                ToolResponse,
                json!({ "id": "1", "name": "shell", "status": "error", "preview": SECRET, "size_bytes": 13, "by": "host" }),
            ),
            (Notification, json!({ "type": "retry", "attempt": 2, "wait_ms": 500, "code": "overloaded" })),
            (Notification, json!({ "type": SECRET, "code": SECRET })),
            (StreamError, json!({ "code": "stream-cut", "message": SECRET, "retryable": true })),
            (
                ToolResponse,
                json!({ "id": "9", "name": "late", "status": "ok", "preview": "", "size_bytes": 0, "duration_ms": 15, "by": "vendor" }),
            ),
            (
                RuntimeTerminal,
                json!({ "finish_reason": "failed", "output": SECRET, "error": { "kind": "limit", "code": "budget", "message": SECRET },
                "usage": { "input_tokens": 10, "output_tokens": 20, "cost_usd": 0.5 }, "rounds": 2 }),
            ),
        ]
    }

    #[test]
    fn a_run_is_one_trace() {
        let trace = trace(&run());
        assert_eq!(
            format!("{:032x}", trace.id),
            format!("{:032x}", ulid::Ulid::from_string(run_id().as_str()).expect("a ULID").0)
        );
        let mut text = String::new();
        let shown = |attributes: &Attributes| serde_json::to_string(attributes).expect("json");
        for span in &trace.spans {
            let from = span.parent_id.map_or_else(|| "root".to_owned(), |id| format!("child of {:016x}", id));
            let Span { id, name, start_ms, end_ms, status, .. } = span;
            let attributes = shown(&span.attributes);
            text += &format!("{id:016x} {from}: {name} {start_ms}..{end_ms} {}\n    {attributes}\n", status.as_str());
            for event in &span.events {
                text += &format!("  {} {} {}\n", event.t_ms, event.name, shown(&event.attributes));
            }
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn nothing_that_was_said_is_in_it() {
        let text = serde_json::to_string(&trace(&run())).expect("json");
        for never in [SECRET, "secret", "x.example", "\"d\""] {
            assert!(!text.contains(never), "{never}");
        }
    }

    #[test]
    fn bounds() {
        let mut records = Vec::new();
        for call in 0..TOOL_SPANS_MAX + 7 {
            records.push((EventKind::ToolRequest, json!({ "id": call.to_string(), "name": "t" })));
            records.push((EventKind::Notification, json!({ "type": "plan", "text": SECRET })));
        }
        for call in 0..TOOL_SPANS_MAX + 7 {
            records.push((EventKind::ToolResponse, json!({ "id": call.to_string(), "name": "t", "status": "ok" })));
        }
        let trace = trace(&records);
        assert_eq!(trace.spans.len(), 1 + TOOL_SPANS_MAX);
        let root = &trace.spans[0];
        assert_eq!((root.events.len(), root.events_dropped as usize), (EVENTS_MAX, TOOL_SPANS_MAX + 7 - EVENTS_MAX));
        assert!(root.attributes.contains(&("midplane.tool_spans_dropped", AttributeValue::Int(7))));
        assert!(trace.spans[1..].iter().all(|span| span.status == SpanStatus::Ok));
    }

    #[test]
    fn part_of_another_trace() {
        let parent: Traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().expect("a context");
        let trace = RunTrace::new(run_id(), Some(parent)).finish();
        assert_eq!((trace.id, trace.spans[0].parent_id), (parent.trace_id, Some(parent.span_id)));
    }

    #[test]
    fn sampling() {
        let id = |low: u64| NonZeroU128::new(1 << 100 | u128::from(low)).expect("not 0");
        for (low, share, sampled) in [
            (0, 0.0, false),
            (u64::MAX, 1.0, true),
            (0, f64::NAN, false),
            (0, 1e-9, true),
            (u64::MAX, 0.999, false),
            (1 << 63, 0.5, false),
            ((1 << 63) - 1, 0.5, true),
        ] {
            assert_eq!(is_sampled(id(low), share), sampled, "{low} {share}");
        }
        let ids = (0..2_000).map(|n| trace_id(&RunId::from_parts(n, u128::from(n) * 0x9e37_79b9_7f4a_7c15_f39c)));
        let kept = ids.filter(|id| is_sampled(*id, 0.25)).count();
        assert!((400..600).contains(&kept), "{kept}");
    }

    proptest! {
        /// Whatever a plugin writes: attributes from the list only, words only, spans within the run, one root.
        #[test]
        fn whatever_is_written(records in proptest::collection::vec((0..9_usize, proptest::collection::vec(("(id|type|name|status|code|by|model|act|reason|duration_ms|size_bytes)", "\\PC{0,12}|[0-9]{1,19}|ok|error|status|retry"), 0..5)), 0..30)) {
            let records: Vec<_> = records
                .into_iter()
                .map(|(kind, fields)| {
                    let value = |text: String| text.parse::<u64>().map_or(Value::from(text), Value::from);
                    (EventKind::ALL[kind], Value::Object(fields.into_iter().map(|(name, text)| (name, value(text))).collect()))
                })
                .collect();
            let trace = trace(&records);
            let root = &trace.spans[0];
            for (at, span) in trace.spans.iter().enumerate() {
                prop_assert_eq!(span.parent_id, (at > 0).then_some(root.id));
                prop_assert!(root.start_ms <= span.start_ms && span.start_ms <= span.end_ms && span.end_ms <= root.end_ms);
                let of_events = span.events.iter().flat_map(|event| &event.attributes);
                for (name, value) in span.attributes.iter().chain(of_events) {
                    prop_assert!(ATTRIBUTES.binary_search(name).is_ok(), "{}", name);
                    if let AttributeValue::Word(text) = value {
                        prop_assert!(word(text).is_some());
                    }
                }
                prop_assert!(span.events.iter().all(|event| word(&event.name).is_some()));
            }
        }
    }
}
