//! The scripted harness of the tests, and frames as the real one sends them.

use std::cell::RefCell;
use std::collections::VecDeque;

use midplane_plugin::testing::{FakeChild, FakeHost, FakeSocket, Step};
use midplane_plugin::{Value, json};

/// The conversation of the scripted harness.
pub(super) const ID: &str = "30efad1272a923369414414d2f547454";
/// What it writes to stdout when it listens: port 4711, key `abc`.
pub(super) const LISTENING: [u8; 12] = [8, 0, 0, 0, 0x08, 0xe7, 0x24, 0x12, 3, b'a', b'b', b'c'];

pub(super) fn host(program: FakeChild) -> FakeHost {
    settings(FakeHost::new().child(program))
}

pub(super) fn settings(host: FakeHost) -> FakeHost {
    host.setting("program", "localharness")
        .setting("model", "gemini-test")
        .setting("base_url", "https://vendor.example")
        .setting("host.home", "/home/of/child")
        .setting("endpoint.vendor.url", "http://127.0.0.1:1/r")
        .setting("endpoint.vendor.token", "${endpoint:vendor}")
}

/// A harness that answers what it is told by these frames, in order: first the task, then each further one.
pub(super) fn harness(answers: Vec<Vec<Value>>) -> FakeChild {
    harness_of(json!({ "cascadeId": ID, "sandboxStatus": { "available": true } }), steps(answers))
}

pub(super) fn steps(answers: Vec<Vec<Value>>) -> Vec<Vec<Step>> {
    answers.into_iter().map(|frames| frames.iter().map(Step::json).collect()).collect()
}

pub(super) fn harness_of(response: Value, answers: Vec<Vec<Step>>) -> FakeChild {
    let answers = RefCell::new(VecDeque::from(answers));
    let socket = FakeSocket::new().on_text(move |text| {
        let frame: Value = serde_json::from_str(text).expect("JSON is sent");
        if frame.get("config").is_some() {
            return vec![Step::json(&json!({ "initializeConversationResponse": response, "seqNum": "1" }))];
        }
        // Hooks are answered without waiting for it.
        match frame.get("callHookResponse") {
            Some(_) => Vec::new(),
            None => answers.borrow_mut().pop_front().unwrap_or_default(),
        }
    });
    FakeChild::new().at_start(vec![Step::Raw(LISTENING.to_vec())]).socket(socket)
}

pub(super) fn step(index: u32, mut fields: Value) -> Value {
    let all = fields.as_object_mut().expect("an object");
    for (name, value) in [
        ("cascadeId", json!(ID)),
        ("trajectoryId", json!(ID)),
        ("stepIndex", json!(index)),
        ("thinking", json!("")),
        ("thinkingDelta", json!("")),
    ] {
        all.entry(name).or_insert(value);
    }
    json!({ "stepUpdate": fields, "seqNum": "3", "timestampMicros": "1795265347734722" })
}

pub(super) fn user(text: &str) -> Value {
    step(
        0,
        json!({ "state": "STATE_DONE", "source": "SOURCE_USER", "target": "TARGET_MODEL", "textDelta": text, "text": text }),
    )
}

pub(super) fn said(index: u32, state: &str, delta: &str) -> Value {
    step(
        index,
        json!({ "state": state, "source": "SOURCE_MODEL", "target": "TARGET_USER", "textDelta": delta, "text": delta }),
    )
}

pub(super) fn acts(index: u32, state: &str, action: &str, fields: Value) -> Value {
    let mut it = step(
        index,
        json!({ "state": state, "source": "SOURCE_MODEL", "target": "TARGET_ENVIRONMENT", "textDelta": "Tool execution" }),
    );
    it["stepUpdate"][action] = fields;
    it
}

pub(super) fn failed(index: u32, source: &str, code: u16, message: &str) -> Value {
    step(
        index,
        json!({ "state": "STATE_ERROR", "source": source, "target": "TARGET_USER", "textDelta": message,
            "errorMessage": message, "error": { "errorMessage": message, "httpCode": code } }),
    )
}

pub(super) fn usage(prompt: u64, cached: u64, candidates: u64, thoughts: u64) -> Value {
    let total = json!({
        "promptTokenCount": prompt.to_string(), "cachedContentTokenCount": cached.to_string(),
        "candidatesTokenCount": candidates.to_string(), "thoughtsTokenCount": thoughts.to_string(),
        "totalTokenCount": (prompt + candidates + thoughts).to_string(),
    });
    json!({ "usageUpdate": { "agents": [{ "trajectoryId": ID, "usage": total }], "total": total } })
}

pub(super) fn state(word: &str, fields: Value) -> Value {
    let mut update = fields;
    update["trajectoryId"] = json!(ID);
    update["state"] = json!(word);
    json!({ "trajectoryStateUpdate": update })
}

pub(super) fn running() -> Value {
    state("STATE_RUNNING", json!({}))
}

pub(super) fn idle() -> Value {
    state("STATE_FULLY_IDLE", json!({}))
}

pub(super) fn before(id: &str, name: &str, arguments: Value) -> Value {
    hook(
        "preToolArgs",
        json!({ "toolName": name, "argumentsJson": arguments.to_string(), "serverName": "", "callId": id }),
    )
}

pub(super) fn after(id: &str, name: &str, result: &str, error: &str) -> Value {
    hook("postToolArgs", json!({ "toolName": name, "result": result, "error": error, "callId": id }))
}

pub(super) fn hook(kind: &str, arguments: Value) -> Value {
    let mut request = json!({ "requestId": format!("hook-{}", arguments["callId"]) });
    request[kind] = arguments;
    json!({ "callHookRequest": request })
}

pub(super) fn policy(request: &str, id: &str, name: &str, arguments: Value) -> Value {
    json!({ "policyDecisionRequest": { "requestId": request, "ruleId": format!("harness/{name}"),
        "toolArgs": { "toolName": name, "argumentsJson": arguments.to_string(), "serverName": "", "callId": id } } })
}

pub(super) fn shell(code: u16, output: &str) -> String {
    json!({ "command_line": "x", "working_dir": ".", "exit_code": code, "combined_output": output }).to_string()
}
