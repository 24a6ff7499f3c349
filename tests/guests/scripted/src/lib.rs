//! A plugin that does what its settings say, so that a test can be about the host: how it cancels, keeps deadlines, tells
//! events and gates. The goal, metadata and all else of a task are the test's own.
//!
//! `fake` behaves as the fake runtime of agent-runtime-kit: one piece of text, one tool call, one turn of a vendor, a
//! structured answer where one is asked for. `sleep` waits, and takes notice of a cancel or not.

#![forbid(unsafe_code)]
// On a native target nothing is exported, so nothing is used; it is compiled there all the same to be checked.
#![cfg_attr(not(target_arch = "wasm32"), allow(dead_code, reason = "exported only as a component"))]

use std::time::Duration;

use midplane_plugin::agent::{
    AvailabilityReport, CapabilitySet, Issue, Outcome, Readiness, Task, ToolAudit, availability, features,
};
use midplane_plugin::host::Event;
use midplane_plugin::{Agent, Error, Host, Result, Value, json};

struct Scripted;

midplane_plugin::export_agent!(Scripted);

/// How long it sleeps between two looks at whether it was cancelled.
const LOOK: Duration = Duration::from_millis(2);

impl Agent for Scripted {
    fn capabilities(host: &dyn Host) -> CapabilitySet {
        let declared = host.setting("features").unwrap_or_default();
        features(&declared.split_whitespace().collect::<Vec<_>>())
    }

    fn availability(_host: &dyn Host, _probe_timeout_ms: u32) -> AvailabilityReport {
        availability(Readiness::Ready, "available", "")
    }

    fn validate(_host: &dyn Host, _task: &Task) -> Vec<Issue> {
        Vec::new()
    }

    fn run(host: &dyn Host, task: Task) -> Result<Outcome> {
        host.emit(&[event("runtime_started", &json!({}))])?;
        match host.setting("script").as_deref() {
            Some("sleep") => Ok(sleep(host)),
            Some("fake") => fake(host, &task),
            other => Err(Error::invalid("script", format!("no script `{}`", other.unwrap_or_default()))),
        }
    }

    fn cancel(_host: &dyn Host, _run_id: &str, _session_id: Option<&str>) -> Result<()> {
        Ok(())
    }
}

fn sleep(host: &dyn Host) -> Outcome {
    let number = |name: &str| host.setting(name).and_then(|text| text.parse().ok()).unwrap_or(0);
    let (end, heeds) = (host.now_ms() + number("run_ms"), number("swallows") == 0);
    while host.now_ms() < end {
        if heeds && host.cancelled() {
            return Outcome::new("interrupted");
        }
        std::thread::sleep(LOOK);
    }
    Outcome::done("done")
}

fn fake(host: &dyn Host, task: &Task) -> Result<Outcome> {
    let output = host
        .setting("output")
        .filter(|output| !output.is_empty())
        .unwrap_or_else(|| format!("Fake result for: {}", task.goal));
    let preview: String = output.chars().take(256).collect();
    let arguments = json!({ "goal": task.goal });
    host.emit(&[
        event("assistant_text", &json!({ "text": output })),
        event("tool_request", &json!({ "id": "1", "name": "fake", "arguments": arguments, "by": "vendor" })),
        event(
            "tool_response",
            &json!({
                "id": "1", "name": "fake", "status": "ok", "preview": preview, "size_bytes": output.len(),
                "duration_ms": 0, "by": "vendor",
            }),
        ),
        event(
            "notification",
            &json!({
                "type": "vendor", "summary": "fake runtime completed one turn",
                "vendor": { "runtime": "fake", "round": 1 },
            }),
        ),
    ])?;
    let mut metadata: Value =
        host.setting("metadata").and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(json!({}));
    if metadata.get("task_id").is_none() {
        metadata["task_id"] = json!(task.task_id);
    }
    // A conversation that comes with a transcript is another's: what is told is the task's own.
    let session = task.session.as_ref().filter(|session| session.transcript.is_none());
    let mut outcome = Outcome::done(output.clone());
    outcome.parsed_output = task.output_schema.as_ref().map(|_| json!({ "output": output }).to_string());
    outcome.session_id = Some(session.map_or_else(|| task.task_id.clone(), |session| session.id.clone()));
    outcome.rounds = 1;
    outcome.metadata = metadata.to_string();
    outcome.tool_calls = vec![ToolAudit {
        name: "fake".to_owned(),
        arguments: arguments.to_string(),
        result_preview: output,
        status: "ok".to_owned(),
        duration_ms: Some(0),
    }];
    Ok(outcome)
}

fn event(kind: &str, data: &Value) -> Event {
    Event { kind: kind.to_owned(), data: data.to_string() }
}
