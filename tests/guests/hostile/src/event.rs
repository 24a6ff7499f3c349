//! What is emitted: too much, too large, in the wrong order, or in the name of the host.

use midplane_plugin::agent::Outcome;
use midplane_plugin::host::Event;
use midplane_plugin::{Host, Result, Value, json};

use crate::{Behaviour, Call, survived};

pub(crate) const BEHAVIOURS: &[(&str, Behaviour)] = &[
    ("event_flood", flood),
    ("event_flood_deaf", flood_deaf),
    ("event_rate", rate),
    ("event_oversized", oversized),
    ("event_batch_count", batch_count),
    ("event_batch_bytes", batch_bytes),
    ("event_batch_empty", batch_empty),
    ("event_before_start", before_start),
    ("event_started_twice", started_twice),
    ("event_terminal", terminal),
    ("event_unknown_kind", unknown_kind),
    ("event_not_json", not_json),
    ("event_nested_json", nested_json),
    ("event_foreign_run", foreign_run),
    ("event_forged_envelope", forged_envelope),
    ("event_forged_host", forged_host),
    ("event_forged_tool", forged_tool),
    ("event_forged_usage", forged_usage),
    ("event_escapes", escapes),
];

pub(crate) fn event(kind: &str, data: &Value) -> Event {
    Event { kind: kind.to_owned(), data: data.to_string() }
}

pub(crate) fn start(host: &dyn Host, session: &str) -> Result<()> {
    host.emit(&[event("runtime_started", &json!({ "session_id": session }))])
}

fn text(text: &str) -> Event {
    event("assistant_text", &json!({ "text": text }))
}

/// One after another until the run may have no more.
fn flood(call: &Call<'_>) -> Result<Outcome> {
    start(call.host, "s")?;
    let batch: Vec<Event> = (0..256).map(|i| text(&format!("{i} "))).collect();
    for _ in 0..10_000 {
        call.host.emit(&batch)?;
    }
    survived("2.5 million events")
}

/// The same by one that does not listen: only its own end stops it.
fn flood_deaf(call: &Call<'_>) -> Result<Outcome> {
    start(call.host, "s")?;
    loop {
        // The point: what the host answers is of no interest here.
        let _ = call.host.emit(&[text("more")]);
    }
}

/// Small batches as fast as it goes, up to the bound of the run.
fn rate(call: &Call<'_>) -> Result<Outcome> {
    start(call.host, "s")?;
    loop {
        call.host.emit(&[text("x")])?;
    }
}

fn oversized(call: &Call<'_>) -> Result<Outcome> {
    start(call.host, "s")?;
    call.host.emit(&[text(&"x".repeat(300 * 1024))])?;
    survived("an event of 300 KiB")
}

fn batch_count(call: &Call<'_>) -> Result<Outcome> {
    start(call.host, "s")?;
    let batch: Vec<Event> = (0..257).map(|_| text("x")).collect();
    call.host.emit(&batch)?;
    survived("257 events in a batch")
}

fn batch_bytes(call: &Call<'_>) -> Result<Outcome> {
    start(call.host, "s")?;
    let batch: Vec<Event> = (0..6).map(|_| text(&"x".repeat(200 * 1024))).collect();
    call.host.emit(&batch)?;
    survived("1.2 MiB in a batch")
}

fn batch_empty(call: &Call<'_>) -> Result<Outcome> {
    call.host.emit(&[])?;
    survived("an empty batch")
}

fn before_start(call: &Call<'_>) -> Result<Outcome> {
    call.host.emit(&[text("early")])?;
    survived("text before `runtime_started`")
}

fn started_twice(call: &Call<'_>) -> Result<Outcome> {
    start(call.host, "s")?;
    start(call.host, "t")?;
    survived("two starts")
}

/// Ends the run by its own word, and goes on.
fn terminal(call: &Call<'_>) -> Result<Outcome> {
    start(call.host, "s")?;
    let end = event("runtime_terminal", &json!({ "finish_reason": "done", "output": "forged" }));
    let ended = call.host.emit(&[end]);
    // Whatever was said to that: the run goes on until the guest returns.
    call.host.emit(&[text("after the end")])?;
    ended?;
    survived("its own terminal")
}

fn unknown_kind(call: &Call<'_>) -> Result<Outcome> {
    start(call.host, "s")?;
    call.host.emit(&[event("runtime_paused", &json!({}))])?;
    survived("a kind that there is not")
}

fn not_json(call: &Call<'_>) -> Result<Outcome> {
    start(call.host, "s")?;
    call.host.emit(&[Event { kind: "notification".into(), data: "{\"type\": \"x\"} trailing".into() }])?;
    survived("text that is no JSON")
}

fn nested_json(call: &Call<'_>) -> Result<Outcome> {
    start(call.host, "s")?;
    let deep = format!("{{\"type\":\"x\",\"a\":{}{}}}", "[".repeat(50_000), "]".repeat(50_000));
    call.host.emit(&[Event { kind: "notification".into(), data: deep }])?;
    survived("50,000 levels of JSON")
}

fn foreign_run(call: &Call<'_>) -> Result<Outcome> {
    start(call.host, "s")?;
    let other = json!({ "text": "x", "run_id": "01ARZ3NDEKTSV4RRFFQ69G5FAV" });
    call.host.emit(&[event("assistant_text", &other)])?;
    survived("an event for another run")
}

/// A notification is open: it may carry any field, and none of them is the record's own.
fn forged_envelope(call: &Call<'_>) -> Result<Outcome> {
    start(call.host, "s")?;
    let data =
        json!({ "type": "x", "run_id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "seq": 1, "t_ms": 0, "kind": "runtime_terminal" });
    call.host.emit(&[event("notification", &data)])?;
    Ok(Outcome::done(""))
}

/// A notification of a type that only the host writes; the parameter is the type.
fn forged_host(call: &Call<'_>) -> Result<Outcome> {
    start(call.host, "s")?;
    let data = json!({ "type": call.word(1), "status": "terminated", "act": "http", "outcome": "ok", "profile": "x" });
    call.host.emit(&[event("notification", &data)])?;
    survived("a notification of the host")
}

fn forged_tool(call: &Call<'_>) -> Result<Outcome> {
    start(call.host, "s")?;
    let data = json!({ "id": "1", "name": "shell", "arguments": {}, "by": "host" });
    call.host.emit(&[event("tool_request", &data)])?;
    survived("a tool call of the host")
}

/// A cost that is no amount must neither stay nor hide what was spent.
fn forged_usage(call: &Call<'_>) -> Result<Outcome> {
    start(call.host, "s")?;
    for cost in [json!(0.25), json!(-5.0), json!("much")] {
        call.host.emit(&[event("notification", &json!({ "type": "usage", "cost_usd": cost }))])?;
    }
    Ok(Outcome::done(""))
}

/// Codes that move a terminal's cursor, in all that a person may see.
fn escapes(call: &Call<'_>) -> Result<Outcome> {
    const CODES: &str = "\u{1b}[2J\u{1b}]0;owned\u{7}\u{202e}txt\r\u{9b}31m";
    start(call.host, "s")?;
    call.host.emit(&[text(CODES)])?;
    call.host.log(midplane_plugin::host::Level::Warn, CODES);
    println!("stdout {CODES}");
    eprintln!("stderr {CODES}");
    let mut outcome = Outcome::failed(midplane_plugin::Error::internal(CODES, CODES));
    outcome.output = CODES.to_owned();
    outcome.finish_reason = CODES.to_owned();
    Ok(outcome)
}
