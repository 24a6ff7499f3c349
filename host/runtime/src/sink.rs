//! Where events go: checked, redacted, and handed to the one task that writes the run's log.
//!
//! ```text
//! guest ── emit ──► check_batch ─► redact ─┐
//!                                          ├─► driver ─► append (durable) ─► reply
//! tools, approval ── events, audit ────────┘
//! ```
//! A plugin waits until its batch is durable: back-pressure and crash safety in one. Text comes in pieces, and a secret may
//! be cut by them, so the end of a piece that could begin one waits for the next piece, for any other event, or for the
//! end of the run.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use midplane_core::event::{self, Event, EventKind, Order, Phase};
use midplane_core::limits::Limits;
use midplane_core::outcome::Claim;
use midplane_core::redact::{Redactor, TextStream};
use midplane_core::{Error, Result};
use midplane_engine::ports;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::call::{Audit, Sink};

/// What the driver of a run is sent.
pub(crate) struct Write {
    /// Checked and redacted.
    pub(crate) events: Vec<Event>,
    /// Told when they are durable, or why they never will be.
    pub(crate) done: oneshot::Sender<Result<()>>,
}

/// Batches that may wait for the driver; each waiter is a suspended guest or tool, so few are ever needed.
pub(crate) const WRITES_MAX: usize = 64;

/// The sink of one run.
pub(crate) struct RunSink {
    writes: mpsc::Sender<Write>,
    redactor: Redactor,
    limits: Limits,
    state: Mutex<State>,
}

struct State {
    order: Order,
    /// Events that the run may still append.
    left: u64,
    text: Held,
    thinking: Held,
    /// Audits that wait for the next batch.
    audits: Vec<Event>,
    audits_dropped: u64,
}

/// Text of one stream whose end is held back, and the fields of the event that it came with.
struct Held {
    stream: TextStream,
    kind: EventKind,
    like: serde_json::Map<String, Value>,
}

/// Audits that wait at most; a run that makes more between two batches has their number noted instead.
const AUDITS_MAX: usize = 1_000;

impl RunSink {
    pub(crate) fn new(writes: mpsc::Sender<Write>, redactor: Redactor, limits: Limits) -> Self {
        let held = |kind| Held { stream: TextStream::new(&redactor), kind, like: serde_json::Map::new() };
        let state = State {
            order: Order::default(),
            left: limits.run_events_max,
            text: held(EventKind::AssistantText),
            thinking: held(EventKind::Notification),
            audits: Vec::new(),
            audits_dropped: 0,
        };
        Self { writes, redactor, limits, state: Mutex::new(state) }
    }

    /// What is still held back at the end of a run: pieces of text, audits.
    pub(crate) fn finish(&self) -> Vec<Event> {
        let mut state = self.state();
        let mut events = Vec::new();
        state.flush_text(&self.redactor, &mut events);
        state.flush_thinking(&self.redactor, &mut events);
        state.flush_audits(&mut events);
        events
    }

    /// Redacts what the host writes itself, such as the terminal and the record of creation.
    pub(crate) fn redact(&self, data: &mut Value) {
        self.redactor.json(data);
    }

    /// Redacts an error that a plugin returned.
    pub(crate) fn redact_error(&self, error: &mut Error) {
        self.redactor.error(error);
    }

    /// Redacts what an adapter returned.
    pub(crate) fn redact_claim(&self, claim: &mut Claim) {
        let text = |text: &mut String| *text = self.redactor.text(text).into_owned();
        text(&mut claim.output);
        text(&mut claim.finish_reason);
        if let Some(error) = &mut claim.error {
            self.redactor.error(error);
        }
        if let Some(value) = &mut claim.parsed_output {
            self.redactor.json(value);
        }
        if let Some(id) = &mut claim.session_id {
            text(id);
        }
        for audit in &mut claim.tool_calls {
            text(&mut audit.name);
            text(&mut audit.result_preview);
            text(&mut audit.status);
            self.redactor.json(&mut audit.arguments);
        }
        for artifact in &mut claim.artifacts {
            text(&mut artifact.uri);
            text(&mut artifact.kind);
            self.redactor.json(&mut artifact.metadata);
        }
        self.redactor.json(&mut claim.metadata);
    }

    async fn write(&self, events: Vec<Event>) -> Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        let (done, written) = oneshot::channel();
        let closed = || Error::conflict("run-ended", "the run has ended");
        self.writes.send(Write { events, done }).await.map_err(|_| closed())?;
        written.await.map_err(|_| closed())?
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes events out of the allowance and gives what is to be written of them, after the audits that waited.
    fn accept(&mut self, events: Vec<Event>, redactor: &Redactor) -> Vec<Event> {
        self.left -= events.len() as u64;
        let mut out = Vec::with_capacity(events.len());
        self.flush_audits(&mut out);
        for event in events {
            self.push(event, redactor, &mut out);
        }
        out
    }

    /// Puts one event behind the others, redacted, with what was held before it.
    fn push(&mut self, event: Event, redactor: &Redactor, out: &mut Vec<Event>) {
        let thinking = event.notification_type() == Some("thinking");
        match event.kind {
            EventKind::AssistantText => {
                self.flush_thinking(redactor, out);
                self.text.push(event, redactor, out);
            }
            EventKind::Notification if thinking => {
                self.flush_text(redactor, out);
                self.thinking.push(event, redactor, out);
            }
            _ => {
                self.flush_text(redactor, out);
                self.flush_thinking(redactor, out);
                out.push(redacted(event, redactor));
            }
        }
    }

    fn flush_text(&mut self, redactor: &Redactor, out: &mut Vec<Event>) {
        self.text.flush(redactor, out);
    }

    fn flush_thinking(&mut self, redactor: &Redactor, out: &mut Vec<Event>) {
        self.thinking.flush(redactor, out);
    }

    fn flush_audits(&mut self, out: &mut Vec<Event>) {
        out.append(&mut self.audits);
        let dropped = std::mem::take(&mut self.audits_dropped);
        if dropped > 0 {
            out.push(Event::notification(
                "audit",
                json!({ "act": "audit", "target": "", "outcome": "dropped", "count": dropped }),
            ));
        }
    }
}

impl Held {
    fn push(&mut self, event: Event, redactor: &Redactor, out: &mut Vec<Event>) {
        let mut like = event.data;
        let Some(Value::String(piece)) = like.remove("text") else {
            // Checked for `assistant_text`; a `thinking` without text is an ordinary notification.
            self.flush(redactor, out);
            out.push(redacted(Event { kind: self.kind, data: like }, redactor));
            return;
        };
        if like != self.like {
            // Another block of text: what was held of the one before cannot go on in it.
            self.flush(redactor, out);
            self.like = like;
        }
        let text = self.stream.push(&piece);
        // An empty piece from the plugin stays an event; a piece that is held back whole is none yet.
        if !text.is_empty() || piece.is_empty() {
            out.push(self.event(text, redactor));
        }
    }

    fn flush(&mut self, redactor: &Redactor, out: &mut Vec<Event>) {
        if self.stream.held_bytes() > 0 {
            let text = self.stream.finish();
            out.push(self.event(text, redactor));
        }
    }

    fn event(&self, text: String, redactor: &Redactor) -> Event {
        let mut event = redacted(Event { kind: self.kind, data: self.like.clone() }, redactor);
        event.data.insert("text".to_owned(), Value::from(text));
        event
    }
}

fn redacted(event: Event, redactor: &Redactor) -> Event {
    let mut data = Value::Object(event.data);
    redactor.json(&mut data);
    Event::new(event.kind, data)
}

#[async_trait]
impl ports::Events for RunSink {
    async fn emit(&self, raw: Vec<(String, String)>) -> Result<()> {
        let events = {
            let mut state = self.state();
            let State { order, left, .. } = &mut *state;
            let events = event::check_batch(&raw, Phase::Run, order, &self.limits, *left)?;
            state.accept(events, &self.redactor)
        };
        self.write(events).await
    }
}

#[async_trait]
impl Sink for RunSink {
    async fn events(&self, events: Vec<Event>) -> Result<()> {
        let events = {
            let mut state = self.state();
            // The host's own events count, too: a plugin cannot grow a log without end by calling tools.
            if state.left < events.len() as u64 {
                return Err(Error::limit(
                    "run-events",
                    format!("a run has at most {} events", self.limits.run_events_max),
                ));
            }
            state.accept(events, &self.redactor)
        };
        self.write(events).await
    }

    fn audit(&self, audit: Audit) {
        let event = redacted(audit_event(&audit), &self.redactor);
        let mut state = self.state();
        if state.audits.len() < AUDITS_MAX && state.left > 0 {
            state.left -= 1;
            state.audits.push(event);
        } else {
            state.audits_dropped += 1;
        }
    }
}

fn audit_event(audit: &Audit) -> Event {
    let mut data = json!({
        "act": audit.act,
        "target": audit.target,
        "outcome": audit.outcome,
        "duration_ms": audit.duration_ms,
        "size_bytes": audit.size_bytes,
    });
    if let (Some(grant), Some(map)) = (&audit.grant, data.as_object_mut()) {
        map.insert("grant".to_owned(), Value::from(grant.as_str()));
    }
    Event::notification("audit", data)
}

/// The sink of a call outside a run (`capabilities`, `availability`, `validate`): nothing is kept of it but trace lines.
pub(crate) struct TraceSink {
    pub(crate) redactor: Redactor,
    pub(crate) limits: Limits,
}

#[async_trait]
impl ports::Events for TraceSink {
    async fn emit(&self, raw: Vec<(String, String)>) -> Result<()> {
        let events =
            event::check_batch(&raw, Phase::Other, &mut Order::default(), &self.limits, self.limits.run_events_max)?;
        Sink::events(self, events).await
    }
}

#[async_trait]
impl Sink for TraceSink {
    async fn events(&self, events: Vec<Event>) -> Result<()> {
        for event in events {
            let event = redacted(event, &self.redactor);
            let data = Value::Object(event.data);
            tracing::debug!(kind = event.kind.as_str(), %data, "event outside a run");
        }
        Ok(())
    }

    fn audit(&self, audit: Audit) {
        let target = self.redactor.text(&audit.target);
        tracing::info!(act = audit.act, target = %target, outcome = %audit.outcome, duration_ms = audit.duration_ms, "gated act");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use midplane_core::redact::Secrets;
    use midplane_engine::ports::Events as _;

    fn sink(limits: Limits) -> (Arc<RunSink>, mpsc::Receiver<Write>) {
        let (writes, receiver) = mpsc::channel(WRITES_MAX);
        let secrets = Secrets::new([("KEY", "sk-very-secret-0123456789")]).expect("secrets");
        (Arc::new(RunSink::new(writes, Redactor::new(secrets), limits)), receiver)
    }

    /// Emits each batch, and shows what reached the driver.
    async fn written(batches: &[&[(&str, Value)]]) -> String {
        let (sink, mut writes) = sink(Limits::default());
        let log = tokio::spawn(async move {
            let mut lines = Vec::new();
            while let Some(write) = writes.recv().await {
                for event in &write.events {
                    lines.push(format!("{} {}", event.kind.as_str(), Value::Object(event.data.clone())));
                }
                let _ = write.done.send(Ok(()));
            }
            lines
        });
        for batch in batches {
            let raw = batch.iter().map(|(kind, data)| ((*kind).to_owned(), data.to_string())).collect();
            sink.emit(raw).await.expect("accepted");
        }
        let rest = sink.finish();
        drop(sink);
        let mut lines = log.await.expect("log");
        lines.push("-- finish".to_owned());
        lines.extend(rest.iter().map(|event| format!("{} {}", event.kind.as_str(), Value::Object(event.data.clone()))));
        lines.join("\n")
    }

    #[tokio::test]
    async fn a_secret_cut_by_deltas_is_found() {
        let text = |text: &str| ("assistant_text", json!({ "text": text }));
        let shown = written(&[
            &[("runtime_started", json!({}))],
            &[text("the key is sk-very-"), text("secret-01234")],
            &[text("56789, keep it")],
            &[text("and sk-ve")],
            &[("notification", json!({"type": "usage", "input_tokens": 3, "note": "sk-very-secret-0123456789"}))],
            &[("notification", json!({"type": "thinking", "text": "hm sk-very-secret"}))],
            &[("notification", json!({"type": "thinking", "text": "-0123456789"}))],
            &[text("ends with sk-v")],
        ])
        .await;
        insta::assert_snapshot!(shown);
        assert!(!shown.contains("0123456789"));
    }

    #[tokio::test]
    async fn what_stands_beside_a_held_text_is_redacted() {
        let said = json!({ "text": "sk-very", "vendor": { "note": "sk-very-secret-0123456789" } });
        let shown = written(&[&[("runtime_started", json!({}))], &[("assistant_text", said)]]).await;
        assert!(shown.contains("sk-very") && !shown.contains("0123456789"), "{shown}");
    }

    #[tokio::test]
    async fn the_allowance_of_a_run_ends() {
        let (sink, mut writes) = sink(Limits { run_events_max: 3, ..Limits::default() });
        tokio::spawn(async move {
            while let Some(write) = writes.recv().await {
                let _ = write.done.send(Ok(()));
            }
        });
        let started = vec![("runtime_started".to_owned(), "{}".to_owned())];
        sink.emit(started).await.expect("one");
        let two = || vec![Event::notification("x", json!({})), Event::notification("x", json!({}))];
        sink.events(two()).await.expect("three");
        assert_eq!(sink.events(two()).await.expect_err("over").code, "run-events");
        let more = vec![("assistant_text".to_owned(), r#"{"text":""}"#.to_owned())];
        assert_eq!(sink.emit(more).await.expect_err("over").code, "run-events");
    }

    #[tokio::test]
    async fn a_run_that_has_ended_refuses() {
        let (sink, writes) = sink(Limits::default());
        drop(writes);
        let error = sink.events(vec![Event::notification("x", json!({}))]).await.expect_err("ended");
        assert_eq!(error.code, "run-ended");
    }
}
