//! Whole runs against a scripted program, in the shapes that the real one was seen to speak.

mod hostile;

use std::cell::RefCell;
use std::rc::Rc;

use midplane_plugin::agent::{FilesystemAccess, McpServer, Outcome, PermissionMode, Readiness, Session, Task};
use midplane_plugin::host::Decision;
use midplane_plugin::testing::{FakeChild, FakeHost, Step, task};
use midplane_plugin::{Agent, Error, ErrorKind, Value, json};

use crate::CodexAgent;

const THREAD: &str = "th-1";
const TURN: &str = "tu-1";

/// What the program says and does after `turn/start`, and for other lines.
/// A program that shakes hands, starts thread and turn, and then does `turn`; `more` answers all else.
fn program(turn: Vec<Step>, more: impl Fn(&Value) -> Vec<Step> + Send + Sync + 'static) -> FakeChild {
    FakeChild::new().on_line(move |line| {
        let message: Value = serde_json::from_str(line).expect("a message");
        let answer = |result: Value| Step::json(&json!({ "id": message["id"], "result": result }));
        match message["method"].as_str() {
            Some("initialize") => vec![answer(json!({ "userAgent": "midplane/0.169.0 (Debian 12.0.0; x86_64)" }))],
            Some("initialized") => vec![],
            Some("thread/start" | "thread/resume") => {
                vec![answer(json!({ "thread": { "id": THREAD }, "model": "gpt-x" }))]
            }
            Some("turn/start") => {
                let mut steps = vec![answer(json!({ "turn": { "id": TURN, "status": "inProgress" } }))];
                steps.extend(turn.clone());
                steps
            }
            _ => more(&message),
        }
    })
}

fn told(method: &str, mut params: Value) -> Step {
    params["threadId"] = json!(THREAD);
    params["turnId"] = json!(TURN);
    Step::json(&json!({ "method": method, "params": params, "emittedAtMs": 1 }))
}

fn item(method: &str, item: Value) -> Step {
    told(method, json!({ "item": item }))
}

fn says(text: &str) -> Step {
    item("item/completed", json!({ "type": "agentMessage", "id": "m9", "text": text, "phase": null }))
}

fn completed(status: &str, error: Value) -> Step {
    told("turn/completed", json!({ "turn": { "id": TURN, "items": [], "status": status, "error": error } }))
}

fn used(last: (u64, u64, u64), total: (u64, u64, u64)) -> Step {
    let counters = |(input, cached, output): (u64, u64, u64)| {
        json!({ "inputTokens": input, "cachedInputTokens": cached, "outputTokens": output,
            "reasoningOutputTokens": 0, "totalTokens": input + output })
    };
    told("thread/tokenUsage/updated", json!({ "tokenUsage": { "last": counters(last), "total": counters(total) } }))
}

fn nothing(_: &Value) -> Vec<Step> {
    vec![]
}

fn host() -> FakeHost {
    FakeHost::new()
        .setting("program", "codex")
        .setting("endpoint.vendor.url", "http://127.0.0.1:4/r")
        .setting("endpoint.vendor.token", "${endpoint:vendor}")
}

fn run(host: &FakeHost, task: Task) -> Outcome {
    CodexAgent::run(host, task).expect("an outcome")
}

/// An outcome in lines, for comparison.
fn shown(outcome: &Outcome) -> String {
    let mut lines = vec![format!("{} {:?}", outcome.finish_reason, outcome.output)];
    if let Some(error) = &outcome.error {
        lines.push(format!("error {:?} {}: {}", error.kind, error.code, error.message));
    }
    let usage = &outcome.usage;
    lines.push(format!("usage {}", midplane_plugin::events::usage_fields(usage)));
    for call in &outcome.tool_calls {
        lines.push(format!("call {} {} {} {:?}", call.name, call.arguments, call.status, call.result_preview));
    }
    lines
        .push(format!("session {:?} rounds {} parsed {:?}", outcome.session_id, outcome.rounds, outcome.parsed_output));
    lines.push(format!("metadata {}", outcome.metadata));
    lines.join("\n")
}

fn all(host: &FakeHost, outcome: &Outcome) -> String {
    format!("{}\n--\n{}\n--\n{}", host.written().join("\n"), host.event_lines().join("\n"), shown(outcome))
}

fn calls() -> Vec<Step> {
    vec![
        item(
            "item/started",
            json!({ "type": "commandExecution", "id": "c1", "command": "make", "status": "inProgress" }),
        ),
        item(
            "item/completed",
            json!({ "type": "commandExecution", "id": "c1", "command": "make", "status": "completed", "exitCode": 2,
                "aggregatedOutput": "no rule\n", "durationMs": 9 }),
        ),
        item(
            "item/completed",
            json!({ "type": "fileChange", "id": "f1", "status": "completed", "changes": [
                { "path": "/w/src/a.rs", "kind": { "type": "update", "move_path": null }, "diff": "@@" },
                { "path": "/elsewhere/b", "kind": { "type": "add" }, "diff": "@@" },
            ] }),
        ),
    ]
}

fn whole_turn() -> Vec<Step> {
    let turn = vec![
        told("turn/started", json!({})),
        item("item/started", json!({ "type": "reasoning", "id": "r1" })),
        told("item/reasoning/summaryTextDelta", json!({ "itemId": "r1", "delta": "Let me see", "summaryIndex": 0 })),
        told(
            "turn/plan/updated",
            json!({ "plan": [{ "step": "look", "status": "completed" }, { "step": "fix", "status": "inProgress" }] }),
        ),
        item("item/started", json!({ "type": "agentMessage", "id": "m0", "phase": "commentary", "text": "" })),
        told("item/agentMessage/delta", json!({ "itemId": "m0", "delta": " aloud" })),
        item("item/completed", json!({ "type": "agentMessage", "id": "m0", "phase": "commentary", "text": " aloud" })),
        used((100, 40, 7), (1100, 540, 107)),
        item("item/started", json!({ "type": "agentMessage", "id": "m1", "phase": null, "text": "" })),
        told("item/agentMessage/delta", json!({ "itemId": "m1", "delta": "All " })),
        told("item/agentMessage/delta", json!({ "itemId": "m1", "delta": "well." })),
        item("item/completed", json!({ "type": "agentMessage", "id": "m1", "phase": null, "text": "All well." })),
        used((200, 150, 3), (1300, 690, 110)),
        told("account/rateLimits/updated", json!({ "rateLimits": { "primary": { "usedPercent": 90 } } })),
        told("model/rerouted", json!({ "fromModel": "gpt-x", "toModel": "gpt-z", "reason": "highRiskCyberActivity" })),
        completed("completed", Value::Null),
    ];
    [calls(), turn].concat()
}

#[test]
fn a_whole_run() {
    let host = host().child(program(whole_turn(), nothing));
    let mut task = task("fix it");
    task.working_directory = Some("/w".into());
    task.system = Some("Be brief.".into());
    task.model = Some("gpt-y".into());
    task.reasoning_effort = Some("high".into());
    task.permissions.network = Some(true);
    task.mcp_servers = vec![McpServer {
        name: "fs".into(),
        argv: vec!["mcp-fs".into(), "--root".into(), "/w".into()],
        env: vec![("SECRET_OF_SERVER".into(), "s3cret".into())],
    }];
    let outcome = run(&host, task);
    insta::assert_snapshot!(all(&host, &outcome));
}

/// agent-runtime-kit, section 14 item 3: there a failed turn is an untyped exception, and usage, audits and the class of
/// the error are lost with it.
#[test]
fn defect_14_03_a_failed_turn_keeps_usage_audits_session_and_its_class() {
    let rows = [
        ("usageLimitExceeded", ErrorKind::Limit, "quota"),
        ("serverOverloaded", ErrorKind::Unavailable, "overloaded"),
        ("unauthorized", ErrorKind::Denied, "credential"),
    ];
    for (class, kind, code) in rows {
        let turn = vec![
            used((10, 4, 6), (10, 4, 6)),
            completed("failed", json!({ "message": "no more", "codexErrorInfo": class })),
        ];
        let host = host().child(program([calls(), turn].concat(), nothing));
        let outcome = run(&host, task("fix it"));
        assert_eq!(outcome.finish_reason, "failed");
        let error = outcome.error.expect("typed");
        assert_eq!((error.kind, error.code.as_str(), error.message.as_str()), (kind, code, "no more"));
        assert_eq!((outcome.usage.input_tokens, outcome.usage.total_tokens), (Some(6), Some(16)));
        assert_eq!(outcome.tool_calls.len(), 2);
        assert_eq!(outcome.session_id.as_deref(), Some(THREAD));
        assert!(outcome.metadata.contains(&format!(r#""error_class":"{class}""#)), "{}", outcome.metadata);
    }
}

/// Section 14 item 6: there changes of files are not audited, and a command that failed but ran to its end reads `ok`.
#[test]
fn defect_14_06_file_changes_are_audited_and_a_failing_command_is_an_error() {
    let turn = vec![says("done"), completed("completed", Value::Null)];
    let host = host().child(program([calls(), turn].concat(), nothing));
    let mut task = task("fix it");
    task.working_directory = Some("/w/".into());
    let outcome = run(&host, task);
    let audits: Vec<_> = outcome.tool_calls.iter().map(|call| (call.name.as_str(), call.status.as_str())).collect();
    assert_eq!(audits, [("command", "error"), ("file_change", "ok")]);
    let told: Vec<String> = host
        .event_lines()
        .into_iter()
        .filter(|line| line.starts_with("notification") && line.contains("file_change"))
        .collect();
    assert_eq!(
        told,
        [
            r#"notification {"change":"update","path":"src/a.rs","type":"file_change"}"#,
            r#"notification {"change":"add","path":"/elsewhere/b","type":"file_change"}"#,
        ]
    );
}

fn questions() -> Vec<Step> {
    let ask = |id: u64, method: &str, mut params: Value| {
        params["threadId"] = json!(THREAD);
        params["turnId"] = json!(TURN);
        Step::json(&json!({ "id": id, "method": method, "params": params }))
    };
    vec![
        ask(
            0,
            "item/commandExecution/requestApproval",
            json!({ "itemId": "c1", "command": "rm -r x", "reason": "May I?",
            "availableDecisions": ["accept", "acceptForSession", "cancel"] }),
        ),
        item(
            "item/started",
            json!({ "type": "fileChange", "id": "f1", "status": "inProgress", "changes": [{ "path": "a.rs", "kind": { "type": "add" } }] }),
        ),
        ask(1, "item/fileChange/requestApproval", json!({ "itemId": "f1", "reason": null })),
        ask(
            2,
            "mcpServer/elicitation/request",
            json!({ "serverName": "fs", "message": "Allow it?", "_meta": { "codex_approval_kind": "mcp_tool_call",
                "persist": ["session", "always"], "tool_name": "read", "tool_params": { "path": "a" } } }),
        ),
        ask(3, "mcpServer/elicitation/request", json!({ "message": "Your name?", "mode": "form" })),
        ask(
            4,
            "item/permissions/requestApproval",
            json!({ "itemId": "p1", "permissions": { "network": { "enabled": true } } }),
        ),
        ask(5, "item/tool/requestUserInput", json!({ "itemId": "u1", "questions": [] })),
        ask(6, "item/tool/call", json!({ "callId": "d1", "tool": "x", "arguments": {} })),
        ask(7, "execCommandApproval", json!({})),
        ask(8, "attestation/generate", json!({})),
        says("done"),
        completed("completed", Value::Null),
    ]
}

/// Section 14 item 7: there the client accepts every command and file change that the server asks about, and tells the
/// caller nothing.
#[test]
fn defect_14_07_nothing_is_accepted_that_the_host_did_not_allow() {
    let answers = |host: &FakeHost| -> Vec<Value> {
        let lines = host.written();
        let answers = lines.iter().map(|line| serde_json::from_str::<Value>(line).expect("a message"));
        answers.filter(|message| message.get("method").is_none()).collect()
    };
    let declined = host().child(program(questions(), nothing));
    run(&declined, task("x"));
    assert_eq!(
        answers(&declined),
        [
            json!({ "id": 0, "result": { "decision": "decline" } }),
            json!({ "id": 1, "result": { "decision": "decline" } }),
            json!({ "id": 2, "result": { "action": "decline", "content": null } }),
            json!({ "id": 3, "result": { "action": "decline", "content": null } }),
            json!({ "id": 4, "result": { "permissions": {}, "scope": "turn" } }),
            json!({ "id": 5, "result": { "answers": {} } }),
            json!({ "id": 6, "result": { "success": false, "contentItems": [{ "type": "inputText", "text": "there is no such tool" }] } }),
            json!({ "id": 7, "result": { "decision": "denied" } }),
            json!({ "id": 8, "error": { "code": -32601, "message": "not known to this client" } }),
        ]
    );
    let asked: Vec<_> =
        declined.questions().into_iter().map(|asked| (asked.kind, asked.title, asked.call_id)).collect();
    assert_eq!(
        asked,
        [
            ("command".into(), "rm -r x".into(), Some("c1".into())),
            ("file-change".into(), "add a.rs".into(), Some("f1".into())),
            ("tool".into(), r#"fs__read {"path":"a"}"#.into(), None),
        ]
    );

    let allowed =
        host().on_ask(|_| Ok(Decision { allowed: true, message: String::new() })).child(program(questions(), nothing));
    run(&allowed, task("x"));
    let decisions: Vec<Value> = answers(&allowed).into_iter().take(4).map(|answer| answer["result"].clone()).collect();
    assert_eq!(
        decisions,
        [
            json!({ "decision": "accept" }),
            json!({ "decision": "accept" }),
            json!({ "action": "accept", "content": {} }),
            json!({ "action": "decline", "content": null }),
        ],
        "for this action alone, whatever else is offered"
    );

    let broken = host().on_ask(|_| Err(Error::internal("x", "y"))).child(program(questions(), nothing));
    run(&broken, task("x"));
    assert_eq!(answers(&broken)[0]["result"]["decision"], "decline");
}

/// Section 14 item 10: there system prompt and the environment of MCP servers are on the argument vector.
#[test]
fn defect_14_10_the_argument_vector_has_neither_prompt_nor_secret() {
    let turn = vec![says("done"), completed("completed", Value::Null)];
    let host = host().setting("codex_home", "").child(program(turn, nothing));
    let mut task = task("the goal");
    task.system = Some("the system prompt".into());
    task.mcp_servers =
        vec![McpServer { name: "m".into(), argv: vec!["m".into()], env: vec![("K".into(), "the value".into())] }];
    run(&host, task);
    let command = &host.commands()[0];
    assert_eq!(command.argv, ["codex", "--config", "features.plugins=false", "app-server", "--listen", "stdio://"]);
    assert_eq!((command.env.len(), command.secret_env.len()), (0, 0), "and its environment has no token either");
}

fn interruptible(message: &Value) -> Vec<Step> {
    let answer = Step::json(&json!({ "id": message["id"], "result": {} }));
    match message["method"].as_str() {
        Some("turn/interrupt") => vec![answer, used((9, 0, 1), (9, 0, 1)), completed("interrupted", Value::Null)],
        Some("thread/backgroundTerminals/clean") => vec![
            item(
                "item/completed",
                json!({ "type": "commandExecution", "id": "c2", "command": "sleep 60", "status": "failed",
                "exitCode": -1, "aggregatedOutput": "", "durationMs": 4 }),
            ),
            answer,
        ],
        other => panic!("{other:?}"),
    }
}

/// Section 14 item 12: there a cancel kills the program without `turn/interrupt`, so the session cannot go on cleanly.
#[test]
fn defect_14_12_a_cancel_interrupts_the_turn_clears_its_commands_and_keeps_what_was_seen() {
    let turn = vec![
        item(
            "item/started",
            json!({ "type": "commandExecution", "id": "c2", "command": "sleep 60", "status": "inProgress" }),
        ),
        Step::Cancel,
    ];
    let host = host().child(program(turn, interruptible));
    let outcome = run(&host, task("x"));
    assert_eq!((outcome.finish_reason.as_str(), &outcome.error), ("interrupted", &None));
    assert_eq!(outcome.usage.input_tokens, Some(9));
    assert_eq!(outcome.tool_calls[0].status, "error");
    assert_eq!(outcome.session_id.as_deref(), Some(THREAD));
    let methods: Vec<Value> = host
        .written()
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).expect("a message")["method"].clone())
        .collect();
    assert_eq!(
        methods,
        [
            "initialize",
            "initialized",
            "thread/start",
            "turn/start",
            "turn/interrupt",
            "thread/backgroundTerminals/clean"
        ]
    );
    assert_eq!(host.stops(), ["close-stdin"], "it could end by itself");
}

#[test]
fn what_the_user_adds_goes_to_the_turn_or_when_it_is_over_to_one_more() {
    let calls = Rc::new(RefCell::new(0));
    let seen = calls.clone();
    let child = FakeChild::new().on_line(move |line| {
        let message: Value = serde_json::from_str(line).expect("a message");
        let answer = |result: Value| Step::json(&json!({ "id": message["id"], "result": result }));
        match message["method"].as_str() {
            Some("initialize") => vec![answer(json!({ "userAgent": "x/0.169.0" }))],
            Some("thread/start") => vec![answer(json!({ "thread": { "id": THREAD } }))],
            Some("turn/start") => {
                *seen.borrow_mut() += 1;
                let turn = answer(json!({ "turn": { "id": TURN } }));
                match *seen.borrow() {
                    1 => vec![turn, Step::Steer("in time".into())],
                    _ => vec![turn, says("second"), completed("completed", Value::Null)],
                }
            }
            Some("turn/steer") if message["params"]["input"][0]["text"] == "in time" => {
                vec![answer(json!({ "turnId": TURN })), Step::Steer("late".into())]
            }
            // The turn is over when this arrives.
            Some("turn/steer") => vec![
                says("first"),
                completed("completed", Value::Null),
                Step::json(&json!({ "id": message["id"], "error": { "code": -32600, "message": "no active turn" } })),
            ],
            _ => vec![],
        }
    });
    let host = host().child(child);
    let outcome = run(&host, task("goal"));
    assert_eq!((outcome.output.as_str(), outcome.rounds), ("second", 2));
    let inputs: Vec<Value> = host
        .written()
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).expect("a message")["params"]["input"][0]["text"].clone())
        .filter(|text| !text.is_null())
        .collect();
    assert_eq!(inputs, ["goal", "in time", "late", "late"]);
}

#[test]
fn model_turns_that_are_used_up_end_the_run() {
    let reply = |id: &str| {
        vec![
            item("item/started", json!({ "type": "agentMessage", "id": id, "text": "" })),
            item("item/completed", json!({ "type": "agentMessage", "id": id, "text": id })),
            used((1, 0, 1), (1, 0, 1)),
        ]
    };
    let host = host().child(program([reply("one"), reply("two"), reply("three")].concat(), interruptible));
    let mut task = task("x");
    task.max_rounds = Some(2);
    let outcome = run(&host, task);
    assert_eq!(outcome.finish_reason, "max_turns");
    assert!(host.written().iter().any(|line| line.contains("turn/interrupt")));
}

/// Mode, files and network in the vendor's words, for both ways to answer questions.
#[test]
fn defect_14_08_permissions_are_mapped_and_never_widened() {
    let mut text = String::new();
    for approvals in ["host", "vendor"] {
        for mode in
            [PermissionMode::Strict, PermissionMode::Cautious, PermissionMode::Default, PermissionMode::Permissive]
        {
            for filesystem in
                [FilesystemAccess::ReadOnly, FilesystemAccess::WorkspaceWrite, FilesystemAccess::FullAccess]
            {
                let turn = vec![says("x"), completed("completed", Value::Null)];
                let host = host().setting("approvals", approvals).child(program(turn, nothing));
                let mut task = task("x");
                task.permissions.mode = mode;
                task.permissions.filesystem = filesystem;
                run(&host, task);
                let of = |index: usize| serde_json::from_str::<Value>(&host.written()[index]).expect("a message");
                let (thread, turn) = (&of(2)["params"], &of(3)["params"]);
                assert_eq!(thread["approvalPolicy"], turn["approvalPolicy"]);
                assert_eq!(thread["approvalsReviewer"], turn["approvalsReviewer"]);
                text.push_str(&format!(
                    "{approvals} {mode:?} {filesystem:?}: {} {} {} {}\n",
                    thread["approvalPolicy"], thread["approvalsReviewer"], thread["sandbox"], turn["sandboxPolicy"]
                ));
            }
        }
    }
    insta::assert_snapshot!(text);
}

#[test]
fn a_named_profile_replaces_the_sandbox_and_a_session_is_resumed() {
    let turn = vec![says("{\"ok\":true}"), completed("completed", Value::Null)];
    let unset = |message: &Value| match message["method"].as_str() {
        Some("config/read") => vec![Step::json(&json!({ "id": message["id"], "result": { "config": {} } }))],
        _ => vec![],
    };
    let host = host().setting("codex_home", "/homes/codex").setting("config", r#"{"a":1}"#).child(program(turn, unset));
    let mut task = task("go on");
    task.permissions.native_profile = Some("locked".into());
    task.session = Some(Session { id: "th-0".into(), transcript: None });
    task.output_schema = Some(r#"{"type":"object"}"#.into());
    let outcome = run(&host, task);
    assert_eq!(host.commands()[0].env, [("CODEX_HOME".to_owned(), "/homes/codex".to_owned())]);
    assert_eq!(outcome.parsed_output.as_deref(), Some(r#"{"ok":true}"#));
    insta::assert_snapshot!(all(&host, &outcome));
}

#[test]
fn defect_14_15_all_that_cannot_be_honoured_is_refused_in_the_order_of_the_fields() {
    let host = host().setting("approvals", "always");
    let mut task = task("x");
    task.model = Some(" ".into());
    task.mcp_servers = vec![McpServer { name: "a.b".into(), argv: vec![], env: vec![] }];
    task.permissions.allowed_tools = vec!["shell".into()];
    task.permissions.disallowed_tools = vec!["web".into()];
    task.permissions.network = Some(false);
    task.permissions.filesystem = FilesystemAccess::FullAccess;
    task.session = Some(Session { id: "t".into(), transcript: Some("[1]".into()) });
    let issues: Vec<String> = CodexAgent::validate(&host, &task)
        .into_iter()
        .map(|issue| format!("{}: {}", issue.field, issue.message))
        .collect();
    insta::assert_snapshot!(issues.join("\n"));
}

#[test]
fn defect_14_18_readiness_starts_nothing_unless_it_may() {
    let idle = host();
    assert_eq!(CodexAgent::availability(&idle, 0).status, Readiness::Unknown);
    assert!(idle.commands().is_empty());

    fn account(message: &Value) -> Vec<Step> {
        assert_eq!(message["params"], json!({ "refreshToken": false }));
        vec![Step::json(&json!({ "id": message["id"], "result": { "account": null, "requiresOpenaiAuth": true } }))]
    }
    let ready = host().child(program(vec![], account));
    let report = CodexAgent::availability(&ready, 1000);
    assert_eq!(
        (report.status, report.reason.as_str(), report.version.as_deref()),
        (Readiness::Ready, "available", Some("0.169.0"))
    );
    assert_eq!(ready.stops(), ["close-stdin"]);

    let own = host().setting("codex_home", "/h").child(program(vec![], account));
    let report = CodexAgent::availability(&own, 1000);
    assert_eq!((report.status, report.reason.as_str()), (Readiness::NotReady, "missing-credentials"));

    let missing = host().child_error(Error::not_found("program", "x"));
    let report = CodexAgent::availability(&missing, 1000);
    assert_eq!((report.status, report.reason.as_str()), (Readiness::NotReady, "missing-program"));
    assert!(report.message.contains("npm install"), "{}", report.message);
}

/// What the program answers was taken from version 0.169.0 with such files.
#[test]
fn a_named_profile_is_not_begun_where_the_programs_own_configuration_would_win_over_it() {
    let broken = "failed to read configuration layers: /h/config.toml:1:9: string values must be quoted";
    let rows = [
        (
            json!({ "result": { "config": { "sandbox_mode": null, "default_permissions": "other" }, "origins": {} } }),
            true,
        ),
        (json!({ "result": { "config": { "sandbox_mode": "read-only" } } }), false),
        (json!({ "result": { "config": { "profiles": { "x": { "sandbox_mode": "workspace-write" } } } } }), false),
        (json!({ "result": { "config": { "sandbox_workspace_write": { "network_access": true } } } }), false),
        (json!({ "result": {} }), false),
        (json!({ "error": { "code": -32603, "message": broken } }), false),
    ];
    for (answer, keeps) in rows {
        let reply = move |message: &Value| {
            let mut answer = answer.clone();
            answer["id"] = message["id"].clone();
            if message["method"] == "config/read" { vec![Step::json(&answer)] } else { vec![] }
        };
        let host = host().child(program(vec![says("ok"), completed("completed", Value::Null)], reply));
        let mut task = task("x");
        task.permissions.native_profile = Some("locked".into());
        let outcome = run(&host, task);
        let begun = host.written().iter().any(|line| line.contains("thread/start"));
        assert_eq!((begun, outcome.finish_reason == "done"), (keeps, keeps), "{outcome:?}");
        if let Some(error) = outcome.error {
            assert_eq!((error.kind, error.code.as_str()), (midplane_plugin::ErrorKind::Unsupported, "native-profile"));
        }
    }
}
