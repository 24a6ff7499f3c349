//! The adapter against a scripted program. Here: the conversation; below: what is made of what the program says.

mod said;

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
fn defect_14_08_words_of_permission_and_the_modes_of_the_program() {
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
fn defect_14_07_a_question_is_the_hosts_to_answer_and_declined_by_default() {
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
fn a_program_that_ignores_an_interrupt_is_ended_harder() {
    let deaf = FakeChild::new().ignores_eof().ignores_terminate().at_start(vec![Step::Cancel]);
    let host = host().deadline_ms(60_000).child(deaf);
    let outcome = ClaudeCodeAgent::run(&host, task("g")).expect("an outcome");
    assert_eq!(outcome.finish_reason, "interrupted");
    assert_eq!(host.stops(), ["close-stdin", "terminate", "kill"]);
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
    ]));
    assert_eq!((outcome.output.as_str(), outcome.rounds), ("one\ntwo", 5));

    // One that tells no state, and takes up another turn while it is asked to end.
    let (_, outcome) = play(frames(&[
        text("one"),
        result("success", false),
        text("two"),
        with(result("success", false), "num_turns", json!(3)),
    ]));
    assert_eq!((outcome.output.as_str(), outcome.rounds), ("one\ntwo", 3));
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
fn defect_14_13_a_silent_program_is_waited_for_as_long_as_the_settings_say() {
    let host = host().setting("idle_s", "2").child(claude(frames(&[text("x")])));
    let outcome = run(&host, task("g"));
    assert_eq!(error(&outcome).1, "idle");
    assert_eq!(outcome.output, "x");
}

#[test]
fn defect_14_15_all_that_cannot_be_honoured_is_refused_by_field() {
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
fn defect_14_18_availability_starts_the_program_only_when_it_may_and_asks_its_version() {
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
    let idle = host();
    assert_eq!(ClaudeCodeAgent::availability(&idle, 0).reason, "unknown");
    assert!(idle.commands().is_empty());
}
