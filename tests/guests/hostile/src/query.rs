//! The calls before a run: `capabilities` and `availability` misbehave as the setting `mode` says, since they are given no
//! task; `validate` as the goal says.

use std::time::Duration;

use midplane_plugin::agent::{
    AvailabilityReport, CapabilitySet, Issue, Readiness, Task, availability as report, features, issue,
};
use midplane_plugin::bindings::midplane::plugin as wit;
use midplane_plugin::host::{Call as ToolCall, Request};
use midplane_plugin::{Host, json};

/// Behaviours of the calls before a run.
pub(crate) const NAMES: &[&str] = &[
    "capabilities_trap",
    "capabilities_spin",
    "capabilities_sleep",
    "capabilities_huge",
    "capabilities_imports",
    "availability_trap",
    "availability_spin",
    "availability_sleep",
    "availability_huge",
    "validate_trap",
    "validate_spin",
    "validate_sleep",
    "validate_huge",
];

/// What a task of the tests needs.
const FEATURES: [&str; 8] = [
    "working_directory",
    "streaming",
    "structured_output",
    "budget",
    "cancellation",
    "session_resume",
    "steering",
    "files",
];

pub(crate) fn capabilities(host: &dyn Host) -> CapabilitySet {
    match host.setting("mode").as_deref() {
        Some("capabilities_trap") => panic!("in `capabilities`"),
        Some("capabilities_spin") => spin(),
        Some("capabilities_sleep") => sleep(),
        Some("capabilities_huge") => {
            let mut set = features(&FEATURES);
            set.features.extend((0..100_000).map(|i| format!("feature_{i}_{}", "x".repeat(60))));
            set.limits = (0..10_000).map(|i| (format!("limit_{i}"), u64::MAX)).collect();
            set
        }
        Some("capabilities_imports") => {
            let reached = imports(host);
            assert!(reached.is_empty(), "reached {reached:?}");
            features(&FEATURES)
        }
        _ => features(&FEATURES),
    }
}

/// Uses each import that a pure call may not use; names of those that answered.
fn imports(host: &dyn Host) -> Vec<&'static str> {
    let request = Request {
        method: "GET".into(),
        url: crate::net::url(host, "/ok"),
        headers: Vec::new(),
        credential: None,
        timeout_ms: None,
    };
    let call = ToolCall { id: "1".into(), name: "list_dir".into(), arguments: json!({ "path": "." }).to_string() };
    let question =
        wit::approval::Question { kind: "other".into(), title: "?".into(), detail: "{}".into(), call_id: None };
    let tried = [
        ("http", host.send(&request, Vec::new()).is_ok()),
        ("kv", host.kv_get("k").is_ok() || host.kv_put("k", b"x", None).is_ok() || host.kv_keys("", None, 1).is_ok()),
        ("tools", host.offered().is_ok() || host.call_all(&[call]).is_ok()),
        ("events", host.emit(&[crate::event::event("notification", &json!({ "type": "x" }))]).is_ok()),
        ("process", crate::workspace::spawn(&["sleep", "1"]).is_ok()),
        ("blob", wit::blob::open_writer().is_ok()),
        ("approval", wit::approval::ask(&question).is_ok()),
    ];
    tried.into_iter().filter(|(_, reached)| *reached).map(|(name, _)| name).collect()
}

pub(crate) fn availability(host: &dyn Host) -> AvailabilityReport {
    match host.setting("mode").as_deref() {
        Some("availability_trap") => panic!("in `availability`"),
        Some("availability_spin") => spin(),
        Some("availability_sleep") => sleep(),
        Some("availability_huge") => {
            let long = "\u{1b}[31m".repeat(200_000);
            AvailabilityReport { version: Some(long.clone()), ..report(Readiness::Ready, &long, long.clone()) }
        }
        _ => report(Readiness::Ready, "available", ""),
    }
}

pub(crate) fn validate(task: &Task) -> Vec<Issue> {
    match task.goal.as_str() {
        "validate_trap" => panic!("in `validate`"),
        "validate_spin" => spin(),
        "validate_sleep" => sleep(),
        "validate_huge" => (0..100_000).map(|i| issue(format!("field\u{1b}{i}"), "\u{1b}[31m no ".repeat(5))).collect(),
        _ => Vec::new(),
    }
}

fn spin() -> ! {
    loop {
        std::hint::black_box(());
    }
}

fn sleep() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3_600));
    }
}
