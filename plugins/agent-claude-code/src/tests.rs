//! The adapter against a scripted program. Tests whose names begin with `ark_14` are about defects of the adapter that
//! this one replaces (`agent-runtime-kit` 0.5.5, section 14 of what was found there), and fail on its behaviour.

use std::cell::RefCell;
use std::rc::Rc;

use midplane_plugin::agent::{Attachment, FilesystemAccess, McpServer, Outcome, PermissionMode, Session, Task};
use midplane_plugin::error::ErrorKind;
use midplane_plugin::host::{Decision, Exit};
use midplane_plugin::testing::{FakeChild, FakeHost, Step, task};
use midplane_plugin::{Agent, Error, Value, json};

use crate::ClaudeCodeAgent;

/// A host with the settings of the manifest, and no endpoint.
fn host() -> FakeHost {
    FakeHost::new().setting("program", "claude").setting("endpoint", "false")
}

/// A program that answers our requests, plays these steps after the prompt, and answers an interrupt with a result.
fn claude(after_prompt: Vec<Step>) -> FakeChild {
    FakeChild::new().on_line(move |line| {
        let line: Value = serde_json::from_str(line).expect("a frame");
        let reply = |body: Value| {
            let id = &line["request_id"];
            Step::json(&json!({
                "type": "control_response",
                "response": { "subtype": "success", "request_id": id, "response": body },
            }))
        };
        match (line["type"].as_str(), line["request"]["subtype"].as_str()) {
            (Some("user"), _) => after_prompt.clone(),
            (_, Some("interrupt")) => {
                let mut end = result("error_during_execution", true);
                end["terminal_reason"] = json!("aborted_streaming");
                vec![reply(json!({})), Step::json(&end)]
            }
            (_, Some("mcp_set_servers")) => vec![reply(json!({ "added": ["fs"], "removed": [], "errors": {} }))],
            (_, Some(_)) => vec![reply(json!({ "commands": [] }))],
            _ => Vec::new(),
        }
    })
}

fn frames(frames: &[Value]) -> Vec<Step> {
    frames.iter().map(Step::json).collect()
}

fn init() -> Value {
    json!({
        "type": "system", "subtype": "init", "session_id": "s-1", "model": "claude-x",
        "claude_code_version": "2.1.330", "tools": ["Read"], "permissionMode": "default",
    })
}

fn assistant(content: Value) -> Value {
    json!({
        "type": "assistant", "parent_tool_use_id": null, "session_id": "s-1",
        "message": { "id": "m-1", "model": "claude-x", "role": "assistant", "content": content },
    })
}

fn text(text: &str) -> Value {
    assistant(json!([{ "type": "text", "text": text }]))
}

fn tool_use(id: &str, name: &str, input: Value) -> Value {
    assistant(json!([{ "type": "tool_use", "id": id, "name": name, "input": input }]))
}

fn tool_result(id: &str, content: Value, is_error: bool) -> Value {
    json!({
        "type": "user", "parent_tool_use_id": null, "session_id": "s-1",
        "message": { "role": "user", "content": [
            { "type": "tool_result", "tool_use_id": id, "content": content, "is_error": is_error },
        ] },
    })
}

fn piece(delta: Value) -> Value {
    json!({
        "type": "stream_event", "parent_tool_use_id": null, "session_id": "s-1",
        "event": { "type": "content_block_delta", "index": 0, "delta": delta },
    })
}

fn result(subtype: &str, is_error: bool) -> Value {
    json!({
        "type": "result", "subtype": subtype, "is_error": is_error, "num_turns": 2, "session_id": "s-1",
        "duration_ms": 9, "duration_api_ms": 5, "stop_reason": "end_turn", "total_cost_usd": 0.25,
        "usage": {
            "input_tokens": 3, "output_tokens": 4, "cache_read_input_tokens": 7, "cache_creation_input_tokens": 0,
        },
    })
}

fn with(mut frame: Value, name: &str, value: Value) -> Value {
    frame[name] = value;
    frame
}

fn can_use(id: &str, tool: &str, input: Value) -> Value {
    json!({
        "type": "control_request", "request_id": id,
        "request": { "subtype": "can_use_tool", "tool_name": tool, "input": input, "tool_use_id": "t-1" },
    })
}

fn run(host: &FakeHost, task: Task) -> Outcome {
    assert_eq!(ClaudeCodeAgent::validate(host, &task), Vec::new());
    ClaudeCodeAgent::run(host, task).expect("an outcome")
}

fn play(steps: Vec<Step>) -> (FakeHost, Outcome) {
    let host = host().child(claude(steps));
    let outcome = run(&host, task("fix the bug"));
    (host, outcome)
}

fn error(outcome: &Outcome) -> (ErrorKind, &str, &str) {
    let error = outcome.error.as_ref().expect("an error");
    (error.kind, &error.code, &error.message)
}

/// What was written to the program after the prompt.
fn replies(host: &FakeHost) -> Vec<Value> {
    let written: Vec<Value> = host.written().iter().map(|line| serde_json::from_str(line).expect("a frame")).collect();
    written.into_iter().filter(|frame| frame["type"] == "control_response").collect()
}

#[test]
fn a_whole_conversation() {
    let (host, outcome) = play(frames(&[
        init(),
        piece(json!({ "type": "thinking_delta", "thinking": "hm" })),
        assistant(json!([{ "type": "thinking", "thinking": "hm", "signature": "s" }])),
        piece(json!({ "type": "text_delta", "text": "Look" })),
        piece(json!({ "type": "text_delta", "text": "ing" })),
        text("Looking."),
        tool_use("t-1", "Read", json!({ "file_path": "a.rs" })),
        json!({ "type": "brand_new_thing" }),
        tool_result("t-1", json!("fn main() {}"), false),
        json!({ "type": "rate_limit_event", "rate_limit_info": { "status": "allowed", "resetsAt": 1 } }),
        text("Done."),
        with(result("success", false), "result", json!("Done.")),
    ]));
    insta::assert_snapshot!(format!(
        "{}\n\n{}\n\n{}\n\n{outcome:#?}",
        host.commands()[0].argv.join("\n"),
        host.written().join("\n"),
        host.event_lines().join("\n"),
    ));
    assert_eq!(host.stops(), ["close-stdin"]);
}

#[test]
fn all_that_a_task_says_reaches_the_program() {
    let host = host()
        .setting("model", "other")
        .setting("setting_sources", r#"["project"]"#)
        .child(claude(frames(&[text("ok"), result("success", false)])));
    let mut asked = task("do it");
    asked.system = Some("be brief".into());
    asked.model = Some("m-1".into());
    asked.reasoning_effort = Some("high".into());
    asked.max_rounds = Some(3);
    asked.budget_usd = Some(0.5);
    asked.session = Some(Session { id: "-s".into(), transcript: None });
    asked.metadata = r#"{"setting_sources":["project","local"]}"#.into();
    asked.output_schema = Some(r#"{"type":"object"}"#.into());
    asked.permissions.mode = PermissionMode::Permissive;
    asked.permissions.allowed_tools = ["Read", "Bash(git:*)", "mcp__fs"].map(str::to_owned).to_vec();
    asked.permissions.disallowed_tools = vec!["WebFetch".into()];
    asked.mcp_servers = vec![McpServer {
        name: "fs".into(),
        argv: ["mcp", "-r"].map(str::to_owned).to_vec(),
        env: vec![("A".into(), "b".into())],
    }];
    asked.attachments = vec![Attachment {
        kind: "instructions".into(),
        name: "AGENTS.md".into(),
        path: "AGENTS.md".into(),
        digest: "d".into(),
    }];
    let outcome = run(&host, asked);
    assert_eq!(outcome.finish_reason, "done");
    let command = &host.commands()[0];
    insta::assert_snapshot!(format!("{}\n{:?}\n\n{}", command.argv.join("\n"), command.env, host.written().join("\n")));
    assert!(host.event_lines().iter().any(|line| line.starts_with("file_uploaded")));
}

#[test]
fn words_of_permission_and_the_modes_of_the_program() {
    let rows = [
        (PermissionMode::Strict, FilesystemAccess::WorkspaceWrite, "plan"),
        (PermissionMode::Cautious, FilesystemAccess::WorkspaceWrite, "default"),
        (PermissionMode::Default, FilesystemAccess::FullAccess, "default"),
        (PermissionMode::Permissive, FilesystemAccess::WorkspaceWrite, "bypassPermissions"),
        (PermissionMode::Permissive, FilesystemAccess::ReadOnly, "plan"),
    ];
    for (mode, filesystem, wanted) in rows {
        let host = host().child(claude(frames(&[text("ok"), result("success", false)])));
        let mut asked = task("g");
        (asked.permissions.mode, asked.permissions.filesystem) = (mode, filesystem);
        run(&host, asked);
        assert!(host.commands()[0].argv.contains(&format!("--permission-mode={wanted}")), "{mode:?} {filesystem:?}");
    }
}

#[test]
fn a_question_is_the_hosts_to_answer_and_declined_by_default() {
    let steps = frames(&[
        tool_use("t-1", "Bash", json!({ "command": "ls" })),
        can_use("p-1", "Bash", json!({ "command": "ls" })),
        tool_result("t-1", json!("no"), true),
        text("ok"),
        result("success", false),
    ]);
    let (declining, outcome) = play(steps.clone());
    let reply = &replies(&declining)[0]["response"];
    assert_eq!(reply["response"], json!({ "behavior": "deny", "message": "no rule allows it" }));
    assert_eq!(reply["request_id"], "p-1");
    assert_eq!(outcome.tool_calls[0].status, "declined");
    let question = &declining.questions()[0];
    assert_eq!((question.kind.as_str(), question.title.as_str()), ("command", "ls"));
    assert_eq!(question.call_id.as_deref(), Some("t-1"));

    let allowing = host().child(claude(steps)).on_ask(|_| Ok(Decision { allowed: true, message: String::new() }));
    run(&allowing, task("g"));
    let reply = &replies(&allowing)[0]["response"]["response"];
    assert_eq!(*reply, json!({ "behavior": "allow", "updatedInput": { "command": "ls" } }));
}

#[test]
fn what_the_task_forbids_is_declined_without_asking_anybody() {
    let allow = |_: &midplane_plugin::host::Question| Ok(Decision { allowed: true, message: String::new() });
    let outside = with(
        can_use("p-1", "Write", json!({ "file_path": "/etc/x" })),
        "request",
        json!({
            "subtype": "can_use_tool", "tool_name": "Write", "input": {}, "blocked_path": "/work/../etc/x",
        }),
    );
    type Change = fn(&mut Task);
    let rows: [(&str, Value, Change); 4] = [
        ("read", can_use("p-1", "ExitPlanMode", json!({})), |task| {
            task.permissions.filesystem = FilesystemAccess::ReadOnly;
        }),
        ("only some tools", can_use("p-1", "Write", json!({})), |task| {
            task.permissions.allowed_tools = vec!["Read".into()];
        }),
        ("outside", outside, |task| task.working_directory = Some("/work".into())),
        ("nobody can answer", can_use("p-1", "AskUserQuestion", json!({})), |_| {}),
    ];
    for (why, asked, change) in rows {
        let host = host().child(claude(frames(&[asked, text("ok"), result("success", false)]))).on_ask(allow);
        let mut task = task("g");
        change(&mut task);
        run(&host, task);
        let reply = &replies(&host)[0]["response"]["response"];
        assert_eq!(reply["behavior"], "deny", "{why}");
        assert!(reply["message"].as_str().is_some_and(|message| message.contains(why)), "{why}: {reply}");
        assert_eq!(host.questions().len(), 0, "{why}");
    }
}

#[test]
fn every_request_of_the_program_is_answered() {
    let request = |id: &str, request: Value| json!({ "type": "control_request", "request_id": id, "request": request });
    let (host, outcome) = play(frames(&[
        request(
            "r-0",
            json!({ "subtype": "mcp_message", "server_name": "x", "message": { "id": 7, "method": "ping" } }),
        ),
        request("r-1", json!({ "subtype": "hook_callback", "callback_id": "unknown", "input": {} })),
        request("r-2", json!({ "subtype": "brand_new" })),
        json!({ "type": "control_cancel_request", "request_id": "r-9" }),
        text("ok"),
        result("success", false),
    ]));
    assert_eq!(outcome.finish_reason, "done");
    let replies = replies(&host);
    let short: Vec<_> =
        replies.iter().map(|reply| (&reply["response"]["request_id"], &reply["response"]["subtype"])).collect();
    assert_eq!(
        short,
        [(&json!("r-0"), &json!("success")), (&json!("r-1"), &json!("error")), (&json!("r-2"), &json!("error")),]
    );
    assert_eq!(replies[0]["response"]["response"]["mcp_response"]["error"]["code"], -32601);
}

#[test]
fn ark_14_4_an_error_result_keeps_turns_usage_and_cost_whatever_the_exit_code() {
    for (subtype, finish, kind, code) in [
        ("error_max_turns", "max_turns", ErrorKind::Limit, "max-turns"),
        ("error_max_budget_usd", "failed", ErrorKind::Limit, "budget"),
        ("error_during_execution", "failed", ErrorKind::Internal, "vendor-error"),
        ("error_max_structured_output_retries", "failed", ErrorKind::Invalid, "nonconforming"),
    ] {
        let end = with(result(subtype, true), "errors", json!(["why", "and how"]));
        let mut steps = frames(&[text("part"), end]);
        steps.push(Step::Exit(Exit::Code(1)));
        let (_, outcome) = play(steps);
        assert_eq!(outcome.finish_reason, finish, "{subtype}");
        assert_eq!(error(&outcome), (kind, code, "why; and how"), "{subtype}");
        assert_eq!((outcome.output.as_str(), outcome.rounds), ("part", 2), "{subtype}");
        assert_eq!((outcome.usage.total_tokens, outcome.usage.cost_usd), (Some(14), Some(0.25)), "{subtype}");
        assert_eq!(outcome.session_id.as_deref(), Some("s-1"));
    }
}

#[test]
fn ark_14_5_a_stream_without_a_result_is_failed_also_with_exit_0() {
    let usage = json!({ "input_tokens": 10, "output_tokens": 5 });
    let mut said = text("only text");
    said["message"]["usage"] = usage;
    let mut steps = frames(&[init(), said]);
    steps.push(Step::Exit(Exit::Code(0)));
    let (_, outcome) = play(steps);
    assert_eq!(outcome.finish_reason, "failed");
    assert_eq!(
        error(&outcome),
        (ErrorKind::Uncertain, "program-ended", "`claude` ended with code 0 before its work was done",)
    );
    // What was heard is not lost.
    assert_eq!((outcome.output.as_str(), outcome.usage.input_tokens, outcome.rounds), ("only text", Some(10), 1));
    assert_eq!(outcome.session_id.as_deref(), Some("s-1"));
}

#[test]
fn ark_14_6_audits_are_by_id_with_durations_and_text_of_lists() {
    let parts =
        json!([{ "type": "text", "text": "a" }, { "type": "image", "source": {} }, { "type": "text", "text": "b" }]);
    let mut steps = frames(&[
        assistant(json!([
            { "type": "tool_use", "id": "u1", "name": "Read", "input": { "p": 1 } },
            { "type": "tool_use", "id": "u2", "name": "Read", "input": "no object" },
            { "type": "tool_use", "id": "u3", "name": "Bash", "input": {} },
        ])),
        tool_result("u2", parts, true),
    ]);
    steps.push(Step::Wait(40));
    steps.extend(frames(&[tool_result("u1", json!("first"), false), text("x"), result("success", false)]));
    let (_, outcome) = play(steps);
    let calls: Vec<_> = outcome
        .tool_calls
        .iter()
        .map(|call| (call.arguments.as_str(), call.status.as_str(), call.result_preview.as_str(), call.duration_ms))
        .collect();
    assert_eq!(calls[0], (r#"{"p":1}"#, "ok", "first", Some(40)));
    assert_eq!((calls[1].0, calls[1].1, calls[1].2), ("{}", "error", "a\n[image]\nb"));
    assert_eq!(calls[2], ("{}", "requested", "", None));
}

#[test]
fn ark_14_8_allowed_tools_restrict_rather_than_preapprove() {
    let hook = |id: &str, tool: &str, input: Value| {
        json!({ "type": "control_request", "request_id": id, "request": {
            "subtype": "hook_callback", "callback_id": crate::launch::HOOK, "tool_use_id": id,
            "input": { "hook_event_name": "PreToolUse", "tool_name": tool, "tool_input": input, "tool_use_id": id },
        } })
    };
    let rows = [
        ("Read", json!({}), true),
        ("Write", json!({}), false),
        ("Bash", json!({ "command": "git status" }), true),
        ("Bash", json!({ "command": "git" }), true),
        ("Bash", json!({ "command": "gitk" }), false),
        ("Bash", json!({ "command": "git status; rm -r x" }), false),
        ("Bash", json!({ "command": "git log $(rm x)" }), false),
        ("Bash", json!({ "command": "cargo test" }), true),
        ("Bash", json!({ "command": "cargo test --all" }), false),
        ("mcp__fs__read", json!({}), true),
        ("mcp__fsx__read", json!({}), false),
        ("StructuredOutput", json!({}), true),
    ];
    let asked: Vec<Value> =
        rows.iter().enumerate().map(|(n, row)| hook(&n.to_string(), row.0, row.1.clone())).collect();
    let host = host().child(claude(frames(&[&asked[..], &[text("ok"), result("success", false)]].concat())));
    let mut wanted = task("g");
    wanted.permissions.mode = PermissionMode::Permissive;
    let tools = ["Read", "Bash(git:*)", "Bash(cargo test)", "mcp__fs"];
    wanted.permissions.allowed_tools = tools.map(str::to_owned).to_vec();
    run(&host, wanted);
    let argv = host.commands()[0].argv.clone();
    assert!(argv.contains(&"--tools=Read,Bash".to_owned()), "{argv:?}");
    assert!(!argv.iter().any(|argument| argument.starts_with("--allowedTools")), "{argv:?}");
    for (reply, (tool, input, allowed)) in replies(&host).iter().zip(&rows) {
        let decision = &reply["response"]["response"]["hookSpecificOutput"]["permissionDecision"];
        assert_eq!(decision.is_null(), *allowed, "{tool} {input}: {reply}");
    }
    assert_eq!(replies(&host).len(), rows.len());
}

#[test]
fn ark_14_10_no_prompt_schema_or_server_stands_on_the_argument_vector() {
    let endpoint = FakeHost::new()
        .setting("program", "claude")
        .setting("endpoint.vendor.url", "http://127.0.0.1:9/r")
        .setting("endpoint.vendor.token", "${endpoint:vendor}")
        .child(claude(frames(&[text("ok"), result("success", false)])));
    let mut asked = task("the goal itself");
    asked.system = Some("private words".into());
    asked.output_schema = Some(r#"{"title":"private words"}"#.into());
    asked.mcp_servers = vec![McpServer {
        name: "fs".into(),
        argv: vec!["private words".into()],
        env: vec![("TOKEN".into(), "private words".into())],
    }];
    run(&endpoint, asked);
    let command = &endpoint.commands()[0];
    let argv = command.argv.join(" ");
    for private in ["private words", "the goal itself", "${endpoint:vendor}", "TOKEN"] {
        assert!(!argv.contains(private), "{private} in {argv}");
    }
    // The token goes through the environment, as what the host replaces; no key of the vendor's is there.
    assert!(command.env.contains(&("ANTHROPIC_AUTH_TOKEN".into(), "${endpoint:vendor}".into())));
    assert!(command.secret_env.is_empty() && !command.env.iter().any(|(name, _)| name == "ANTHROPIC_API_KEY"));
    assert_eq!(endpoint.written().join("\n").matches("private words").count(), 4);
}

#[test]
fn ark_14_12_a_cancel_interrupts_and_keeps_what_was_heard() {
    let mut steps = frames(&[init(), tool_use("t-1", "Bash", json!({ "command": "sleep 60" }))]);
    steps.push(Step::Cancel);
    let (host, outcome) = play(steps);
    assert_eq!((outcome.finish_reason.as_str(), outcome.error.clone()), ("interrupted", None));
    let last = host.written().last().cloned().expect("written");
    assert!(last.contains(r#""subtype":"interrupt""#), "{last}");
    assert_eq!(host.stops(), ["close-stdin"], "after the result it ends by itself");
    assert_eq!((outcome.session_id.as_deref(), outcome.usage.cost_usd, outcome.rounds), (Some("s-1"), Some(0.25), 2));
    assert_eq!(outcome.tool_calls[0].status, "requested");
    assert!(outcome.metadata.contains("aborted_streaming"), "{}", outcome.metadata);
}

#[test]
fn a_program_that_ignores_an_interrupt_is_ended_harder() {
    let deaf = FakeChild::new().ignores_eof().ignores_terminate().at_start(vec![Step::Cancel]);
    let host = host().deadline_ms(60_000).child(deaf);
    let outcome = ClaudeCodeAgent::run(&host, task("g")).expect("an outcome");
    assert_eq!(outcome.finish_reason, "interrupted");
    assert_eq!(host.stops(), ["close-stdin", "terminate", "kill"]);
}

#[test]
fn ark_14_14_a_flood_of_frames_is_not_kept() {
    let count = 3_000;
    let part = "x".repeat(1_000);
    let played = Rc::new(RefCell::new(0_usize));
    let mut steps = Vec::new();
    for n in 0..count {
        steps.push(Step::json(&text(&part)));
        steps.push(Step::json(&tool_use(&n.to_string(), "Read", json!({ "p": part }))));
        *played.borrow_mut() += 1;
    }
    steps.push(Step::json(&result("success", false)));
    let (_, outcome) = play(steps);
    assert_eq!(*played.borrow(), count);
    assert_eq!(outcome.finish_reason, "done");
    assert!(outcome.output.len() <= 1024 * 1024, "{}", outcome.output.len());
    assert_eq!(outcome.tool_calls.len(), 1024);
    let metadata: Value = serde_json::from_str(&outcome.metadata).expect("JSON");
    assert_eq!(metadata["tool_calls_left_out"], count - 1024);
    assert!(metadata["output_left_out_bytes"].as_u64().is_some_and(|bytes| bytes > 1024 * 1024));
}

#[test]
fn ark_14_17_a_subagents_text_is_told_and_no_part_of_the_output() {
    let subagent = with(text("inner words"), "parent_tool_use_id", json!("t-9"));
    let piece = with(piece(json!({ "type": "text_delta", "text": "inner" })), "parent_tool_use_id", json!("t-9"));
    let (host, outcome) = play(frames(&[text("outer"), piece, subagent, text("end"), result("success", false)]));
    assert_eq!(outcome.output, "outer\nend");
    let told: Vec<String> = host.event_lines().into_iter().filter(|line| line.contains("inner")).collect();
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("notification") && told[0].contains(r#""subagent":"t-9""#), "{told:?}");
}

#[test]
fn pieces_and_wholes_are_told_once() {
    let start = |kind: &str| {
        with(
            piece(json!({})),
            "event",
            json!({ "type": "content_block_start", "index": 0, "content_block": { "type": kind } }),
        )
    };
    let delta = |text: &str| piece(json!({ "type": "text_delta", "text": text }));
    let rows: [(&[Value], &str); 5] = [
        (&[text("one"), text("two")], "one\ntwo"),
        (&[start("text"), delta("on"), delta("e"), text("one"), start("text"), delta("t"), text("two")], "one\ntwo"),
        // All blocks of a message at once, after all their pieces.
        (
            &[
                start("text"),
                delta("one"),
                start("text"),
                delta("tw"),
                assistant(json!([{ "type": "text", "text": "one" }, { "type": "text", "text": "two" }])),
            ],
            "one\ntwo",
        ),
        // Pieces of a message that was taken back: the whole counts.
        (&[start("text"), delta("abc"), text("xyz")], "abc\nxyz"),
        (&[start("text"), text("whole")], "whole"),
    ];
    for (said, wanted) in rows {
        let (host, _) = play(frames(&[said, &[result("success", false)]].concat()));
        let told: String = host
            .events()
            .iter()
            .filter(|event| event.kind == "assistant_text")
            .map(|event| {
                serde_json::from_str::<Value>(&event.data).expect("JSON")["text"].as_str().expect("text").to_owned()
            })
            .collect();
        assert_eq!(told, wanted);
    }
}

#[test]
fn usage_is_counted_by_message_until_a_result_says_it_for_the_run() {
    let message = |id: &str, parent: Value, input: u64| {
        let mut frame = with(text("x"), "parent_tool_use_id", parent);
        frame["message"]["id"] = json!(id);
        frame["message"]["usage"] = json!({ "input_tokens": input, "output_tokens": 1 });
        frame
    };
    let mut steps = frames(&[
        message("a", Value::Null, 10),
        message("a", Value::Null, 10),
        message("s", json!("t-1"), 5),
        message("b", Value::Null, 100),
    ]);
    let whole = with(
        result("success", false),
        "modelUsage",
        json!({
            "big": { "inputTokens": 200, "outputTokens": 20, "cacheReadInputTokens": 1, "cacheCreationInputTokens": 2 },
            "small": { "inputTokens": 30, "outputTokens": 3, "cacheReadInputTokens": 0, "cacheCreationInputTokens": 0 },
        }),
    );
    let mut cut = steps.clone();
    cut.push(Step::Exit(Exit::Code(0)));
    assert_eq!(play(cut).1.usage.input_tokens, Some(115));
    steps.push(Step::json(&whole));
    let usage = play(steps).1.usage;
    assert_eq!((usage.input_tokens, usage.output_tokens, usage.total_tokens), (Some(230), Some(23), Some(256)));

    let odd = with(
        result("success", false),
        "usage",
        json!({
            "input_tokens": "7", "output_tokens": -3, "cache_read_input_tokens": 1.5, "cache_creation_input_tokens": true,
        }),
    );
    let usage = play(frames(&[text("x"), with(odd, "total_cost_usd", json!("0.5"))])).1.usage;
    assert_eq!((usage.input_tokens, usage.output_tokens, usage.total_tokens), (Some(7), None, None));
    assert_eq!((usage.cache_read_tokens, usage.cache_creation_tokens, usage.cost_usd), (None, None, Some(0.5)));
}

#[test]
fn errors_of_the_vendor_by_class() {
    let api =
        |status: u64| with(with(result("success", true), "api_error_status", json!(status)), "result", json!("API"));
    for (status, kind, code) in [
        (400, ErrorKind::Invalid, "request"),
        (401, ErrorKind::Denied, "credential"),
        (402, ErrorKind::Limit, "billing"),
        (403, ErrorKind::Denied, "vendor-permission"),
        (404, ErrorKind::NotFound, "vendor-not-found"),
        (413, ErrorKind::Limit, "request-size"),
        (429, ErrorKind::Unavailable, "rate-limited"),
        (500, ErrorKind::Unavailable, "vendor-error"),
        (504, ErrorKind::Unavailable, "timeout"),
        (529, ErrorKind::Unavailable, "overloaded"),
        (299, ErrorKind::Internal, "vendor-error"),
    ] {
        let (_, outcome) = play(frames(&[api(status)]));
        assert_eq!((error(&outcome).0, error(&outcome).1), (kind, code), "{status}");
        assert_eq!(outcome.usage.cost_usd, Some(0.25), "{status}");
    }
    for (word, kind, code) in [
        ("authentication_failed", ErrorKind::Denied, "credential"),
        ("billing_error", ErrorKind::Limit, "billing"),
        ("rate_limit", ErrorKind::Unavailable, "rate-limited"),
        ("invalid_request", ErrorKind::Invalid, "request"),
        ("server_error", ErrorKind::Unavailable, "vendor-error"),
        ("unknown", ErrorKind::Internal, "vendor-error"),
    ] {
        // A later result without an error does not mend it.
        let (_, outcome) = play(frames(&[with(text("sorry"), "error", json!(word)), result("success", false)]));
        assert_eq!((error(&outcome).0, error(&outcome).1), (kind, code), "{word}");
        let rejected =
            json!({ "type": "rate_limit_event", "rate_limit_info": { "status": "rejected", "resetsAt": 9 } });
        let (_, outcome) = play(frames(&[rejected, with(text("s"), "error", json!(word)), result("success", true)]));
        let wanted = if word == "rate_limit" { (ErrorKind::Limit, "quota") } else { (kind, code) };
        assert_eq!((error(&outcome).0, error(&outcome).1), wanted, "{word} of a quota");
    }
    for (reason, finish) in [("max_tokens", "max_tokens"), ("refusal", "failed"), ("end_turn", "done")] {
        let end = with(result("success", false), "stop_reason", json!(reason));
        assert_eq!(play(frames(&[text("x"), end])).1.finish_reason, finish, "{reason}");
    }
}

#[test]
fn a_result_ends_a_turn_and_not_the_work_in_the_background() {
    let system = |subtype: &str, more: Value| {
        let mut frame = more;
        frame["type"] = json!("system");
        frame["subtype"] = json!(subtype);
        frame
    };
    let (_, outcome) = play(frames(&[
        system("session_state_changed", json!({ "state": "running" })),
        system("task_started", json!({ "task_id": "k", "task_type": "local_agent", "description": "look" })),
        text("one"),
        result("success", false),
        system("task_notification", json!({ "task_id": "k", "status": "completed", "summary": "seen" })),
        text("two"),
        with(result("success", false), "num_turns", json!(5)),
        system("session_state_changed", json!({ "state": "idle" })),
        text("too late"),
    ]));
    assert_eq!((outcome.output.as_str(), outcome.rounds), ("one\ntwo", 5));
}

#[test]
fn what_the_user_adds_is_one_more_message() {
    let mut steps = frames(&[text("one")]);
    steps.push(Step::Steer("also this".into()));
    let host = host().child(FakeChild::new().on_line(move |line| {
        let line: Value = serde_json::from_str(line).expect("a frame");
        match line["message"]["content"].as_str() {
            Some("also this") => frames(&[text("two"), result("success", false)]),
            Some(_) => steps.clone(),
            None => frames(&[json!({ "type": "control_response", "response": {
                "subtype": "success", "request_id": line["request_id"], "response": {},
            } })]),
        }
    }));
    let outcome = run(&host, task("g"));
    assert_eq!(outcome.output, "one\ntwo");
    assert!(host.event_lines().iter().any(|line| line.contains(r#""type":"steer""#)));
}

#[test]
fn a_program_that_is_missing_old_or_no_such_program_is_named() {
    let missing = host().child_error(Error::not_found("program", "none"));
    let error_of = ClaudeCodeAgent::run(&missing, task("g")).expect_err("nothing began");
    assert_eq!((error_of.kind, error_of.code.as_str()), (ErrorKind::NotFound, "program"));
    assert!(error_of.message.contains("`claude`") && error_of.message.contains("npm install"), "{}", error_of.message);

    let (_, outcome) = play(frames(&[with(init(), "claude_code_version", json!("2.0.14")), text("x")]));
    assert_eq!(error(&outcome).1, "program-version");
    assert!(error(&outcome).2.contains("2.0.14") && error(&outcome).2.contains("2.1.112"), "{outcome:?}");

    let mut steps = vec![Step::Line("hello, I am no such program".into())];
    steps.push(Step::Stderr("usage: claude [FILE]\n".into()));
    steps.push(Step::Exit(Exit::Code(2)));
    let host = host().child(FakeChild::new().at_start(steps));
    let outcome = ClaudeCodeAgent::run(&host, task("g")).expect("an outcome");
    assert_eq!((error(&outcome).0, error(&outcome).1), (ErrorKind::Unavailable, "program-ended"));
    let message = error(&outcome).2;
    assert!(
        message.contains("code 2") && message.contains("usage: claude") && message.contains("hello, I am"),
        "{message}"
    );

    let garbage = std::iter::repeat_n(Step::Line("{\"cut\":".into()), 2_000).collect();
    let (_, outcome) = play(garbage);
    assert_eq!((error(&outcome).0, error(&outcome).1), (ErrorKind::Invalid, "not-frames"));

    let (_, outcome) = play(frames(&[json!({ "type": "assistant", "message": { "content": [] } })]));
    assert_eq!(error(&outcome).1, "malformed-frame");
    assert!(error(&outcome).2.contains("message.model"), "{outcome:?}");
}

#[test]
fn a_start_that_fails_says_why() {
    let refusing = |subtype: &'static str, answer: Value| {
        FakeChild::new().on_line(move |line| {
            let line: Value = serde_json::from_str(line).expect("a frame");
            let mut response = json!({ "subtype": "success", "request_id": line["request_id"], "response": {} });
            if line["request"]["subtype"] == subtype {
                for (name, value) in answer.as_object().expect("fields") {
                    response[name] = value.clone();
                }
            }
            frames(&[json!({ "type": "control_response", "response": response })])
        })
    };
    let server = McpServer { name: "fs".into(), argv: vec!["mcp".into()], env: Vec::new() };
    let rows = [
        (refusing("initialize", json!({ "subtype": "error", "error": "no" })), "handshake"),
        (refusing("mcp_set_servers", json!({ "subtype": "error", "error": "no" })), "mcp-servers"),
        (refusing("mcp_set_servers", json!({ "response": { "errors": { "fs": "gone" } } })), "mcp-server"),
        (FakeChild::new(), "handshake"),
    ];
    for (child, code) in rows {
        let host = host().child(child);
        let mut asked = task("g");
        asked.mcp_servers = vec![server.clone()];
        let outcome = ClaudeCodeAgent::run(&host, asked).expect("an outcome");
        assert_eq!((outcome.finish_reason.as_str(), error(&outcome).1), ("failed", code));
    }
    let none = FakeHost::new().setting("program", "claude");
    assert_eq!(ClaudeCodeAgent::run(&none, task("g")).expect_err("no endpoint").code, "endpoint");
}

#[test]
fn a_silent_program_is_waited_for_as_long_as_the_settings_say() {
    let host = host().setting("idle_s", "2").child(claude(frames(&[text("x")])));
    let outcome = run(&host, task("g"));
    assert_eq!(error(&outcome).1, "idle");
    assert_eq!(outcome.output, "x");
}

#[test]
fn what_cannot_be_honoured_is_refused_by_field() {
    let mut asked = task("g");
    asked.model = Some(" ".into());
    asked.permissions.allowed_tools = ["Read", "Read(src/**)"].map(str::to_owned).to_vec();
    asked.permissions.network = Some(false);
    asked.permissions.native_profile = Some("p".into());
    asked.session = Some(Session { id: "s".into(), transcript: Some("[{}]".into()) });
    asked.attachments =
        vec![Attachment { kind: "film".into(), name: "n".into(), path: "p".into(), digest: "d".into() }];
    asked.metadata = r#"{"setting_sources":["managed"]}"#.into();
    let issues = ClaudeCodeAgent::validate(&host(), &asked);
    insta::assert_snapshot!(
        issues.iter().map(|issue| format!("{}: {}\n", issue.field, issue.message)).collect::<String>()
    );
    for entry in ["Bash(git:*", "a b", "Read,Write", "Bash(*)", "Bash(git;ls:*)", "Bash(a\nb)", ""] {
        let mut asked = task("g");
        asked.permissions.allowed_tools = vec![entry.into()];
        assert_eq!(ClaudeCodeAgent::validate(&host(), &asked).len(), 1, "{entry}");
    }
}

#[test]
fn availability_asks_the_program_for_its_version() {
    use midplane_plugin::agent::Readiness;
    let says = |line: &str| FakeChild::new().at_start(vec![Step::Line(line.into()), Step::Exit(Exit::Code(0))]);
    let rows = [
        (host().child(says("2.1.330 (Claude Code)")), Readiness::Ready, "available"),
        (host().child(says("1.0.2 (Claude Code)")), Readiness::NotReady, "setup-failed"),
        (host().child(FakeChild::new().ignores_eof()), Readiness::Unknown, "unknown"),
        (host().child_error(Error::not_found("program", "none")), Readiness::NotReady, "missing-package"),
    ];
    for (host, status, reason) in rows {
        let report = ClaudeCodeAgent::availability(&host, 100);
        assert_eq!((report.status, report.reason.as_str()), (status, reason), "{report:?}");
    }
    assert_eq!(ClaudeCodeAgent::availability(&host(), 0).reason, "unknown");
}
