//! A buffer for events, so that one call of the host carries all that has arrived.
//!
//! Each `emit` waits until its events are durable, so a call for each word of a model would be slow. A guest has no
//! timer either; hence the rule: [`Events::push`] while something is there, [`Events::flush`] before anything that
//! waits (a read, a tool call, the end). While the host writes one batch, the next one gathers, so batches grow by
//! themselves when the log is slow.

use serde_json::{Value, json};

use crate::agent::{Attachment, Usage};
use crate::error::Result;
use crate::host::{Event, Host};

/// Events in one batch at most, well below the contract's 256.
const BATCH_EVENTS_MAX: usize = 128;
/// Bytes in one batch after which it is sent, well below the contract's 1 MiB.
const BATCH_BYTES: usize = 128 * 1024;
/// Longest delta in one event, in bytes, so that its JSON stays below the contract's 256 KiB: escaping makes at most
/// six bytes of one.
const DELTA_BYTES_MAX: usize = 32 * 1024;
/// Longest time that an event waits while more of them arrive without a pause, in milliseconds.
const AGE_MS_MAX: u64 = 100;

/// Gathers events and emits them in batches. What is not flushed is lost, so every path flushes before it returns.
pub struct Events<'h> {
    host: &'h dyn Host,
    batch: Vec<Event>,
    /// Text of the open delta: neighbouring deltas of one kind become one event.
    open: Option<(Delta, String)>,
    bytes: usize,
    since_ms: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Delta {
    Text,
    Thinking,
}

impl<'h> Events<'h> {
    /// An empty buffer.
    #[must_use]
    pub fn new(host: &'h dyn Host) -> Self {
        Self { host, batch: Vec::new(), open: None, bytes: 0, since_ms: 0 }
    }

    /// The first event of a run.
    pub fn started(&mut self, session_id: Option<&str>, model: Option<&str>) -> Result<()> {
        let mut data = json!({});
        if let Some(id) = session_id {
            data["session_id"] = json!(id);
        }
        if let Some(model) = model {
            data["model"] = json!(model);
        }
        self.push("runtime_started", &data)
    }

    /// What the agent says.
    pub fn text(&mut self, delta: &str) -> Result<()> {
        self.delta(Delta::Text, delta)
    }

    /// What the agent thinks.
    pub fn thinking(&mut self, delta: &str) -> Result<()> {
        self.delta(Delta::Thinking, delta)
    }

    /// A `notification` of a type with its fields. `fields` is a JSON object.
    pub fn notification(&mut self, kind: &str, mut fields: Value) -> Result<()> {
        if let Some(object) = fields.as_object_mut() {
            object.insert("type".into(), json!(kind));
        }
        self.push("notification", &fields)
    }

    /// The counters so far, cumulative. What is unknown is left out.
    pub fn usage(&mut self, usage: &Usage) -> Result<()> {
        self.notification("usage", usage_fields(usage))
    }

    /// The stream of the vendor broke or said that something is wrong.
    pub fn stream_error(&mut self, code: &str, message: &str, retryable: bool) -> Result<()> {
        self.push("stream_error", &json!({ "code": code, "message": message, "retryable": retryable }))
    }

    /// An attachment was made known to the vendor: `skill_loaded` for a skill, else `file_uploaded`.
    pub fn attached(&mut self, attachment: &Attachment) -> Result<()> {
        let kind = if attachment.kind == "skill" { "skill_loaded" } else { "file_uploaded" };
        self.push(kind, &json!({ "name": attachment.name, "digest": attachment.digest, "path": attachment.path }))
    }

    /// Any event. `data` is a JSON object with the fields of its kind (`wit/README.md`).
    pub fn push(&mut self, kind: &str, data: &Value) -> Result<()> {
        self.close_delta();
        self.add(kind, data);
        if self.is_full() { self.flush() } else { Ok(()) }
    }

    /// Emits what is gathered; returns when it is durable.
    pub fn flush(&mut self) -> Result<()> {
        self.close_delta();
        if self.batch.is_empty() {
            return Ok(());
        }
        self.bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        self.host.emit(&batch)
    }

    fn delta(&mut self, kind: Delta, mut text: &str) -> Result<()> {
        while !text.is_empty() {
            if self.open.as_ref().is_some_and(|(open, _)| *open != kind) {
                self.close_delta();
            }
            self.note_time();
            let (_, open) = self.open.get_or_insert((kind, String::new()));
            // At least one character goes in: `open` is closed below as soon as it has less room than the longest.
            let room = text.floor_char_boundary(DELTA_BYTES_MAX - open.len());
            open.push_str(&text[..room]);
            text = &text[room..];
            if open.len() + 4 > DELTA_BYTES_MAX {
                self.close_delta();
            }
            if self.is_full() {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn close_delta(&mut self) {
        match self.open.take() {
            Some((Delta::Text, text)) => self.add("assistant_text", &json!({ "text": text })),
            Some((Delta::Thinking, text)) => {
                self.add("notification", &json!({ "type": "thinking", "text": text }));
            }
            None => {}
        }
    }

    fn add(&mut self, kind: &str, data: &Value) {
        self.note_time();
        let data = data.to_string();
        self.bytes += data.len();
        self.batch.push(Event { kind: kind.into(), data });
    }

    fn note_time(&mut self) {
        if self.batch.is_empty() && self.open.is_none() {
            self.since_ms = self.host.now_ms();
        }
    }

    fn is_full(&self) -> bool {
        self.batch.len() >= BATCH_EVENTS_MAX
            || self.bytes >= BATCH_BYTES
            || self.host.now_ms().saturating_sub(self.since_ms) >= AGE_MS_MAX
    }
}

/// The known counters as a JSON object, named as in `agent.usage` with underscores.
#[must_use]
pub fn usage_fields(usage: &Usage) -> Value {
    let mut fields = json!({});
    let counters = [
        ("input_tokens", usage.input_tokens),
        ("output_tokens", usage.output_tokens),
        ("cache_read_tokens", usage.cache_read_tokens),
        ("cache_creation_tokens", usage.cache_creation_tokens),
        ("total_tokens", usage.total_tokens),
    ];
    for (name, value) in counters {
        if let Some(value) = value {
            fields[name] = json!(value);
        }
    }
    if let Some(cost) = usage.cost_usd {
        fields["cost_usd"] = json!(cost);
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeHost;

    #[test]
    fn neighbouring_deltas_become_one_event_and_kinds_stay_apart() {
        let host = FakeHost::new();
        let mut events = Events::new(&host);
        for (thinking, text) in [(true, "h"), (true, "m"), (false, "one "), (false, "two")] {
            if thinking { events.thinking(text) } else { events.text(text) }.expect("accepted");
        }
        assert_eq!(host.event_lines(), Vec::<String>::new());
        events.flush().expect("accepted");
        assert_eq!(
            host.event_lines(),
            [r#"notification {"text":"hm","type":"thinking"}"#, r#"assistant_text {"text":"one two"}"#]
        );
        assert_eq!(host.emits(), 1);
    }

    #[test]
    fn a_long_text_is_split_into_events_that_join_to_it() {
        let host = FakeHost::new();
        let mut events = Events::new(&host);
        let text = "a€".repeat(200_000);
        events.text(&text).expect("accepted");
        events.flush().expect("accepted");
        let mut joined = String::new();
        for event in host.events() {
            assert!(event.data.len() <= 256 * 1024);
            let data: Value = serde_json::from_str(&event.data).expect("JSON");
            joined.push_str(data["text"].as_str().expect("text"));
        }
        assert_eq!(joined, text);
        assert!(host.emits() > 1, "flushed by size");
    }

    #[test]
    fn events_that_keep_coming_are_flushed_by_age() {
        let host = FakeHost::new();
        let mut events = Events::new(&host);
        events.text("a").expect("accepted");
        host.advance(AGE_MS_MAX);
        events.text("b").expect("accepted");
        assert_eq!(host.event_lines(), [r#"assistant_text {"text":"ab"}"#]);
    }

    #[test]
    fn unknown_counters_are_left_out_and_zero_is_not() {
        let usage = Usage { input_tokens: Some(0), ..Usage::default() };
        assert_eq!(usage_fields(&usage), json!({ "input_tokens": 0 }));
    }
}
