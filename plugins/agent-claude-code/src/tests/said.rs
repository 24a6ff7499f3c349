//! What is made of what the program says. Tests whose names begin with `ark_14` are about defects of the adapter that this
//! one replaces (`agent-runtime-kit` 0.5.5, numbered as in the list of its weak spots), and fail on its behaviour.

use super::*;

#[test]
fn defect_14_04_an_error_result_keeps_turns_usage_and_cost_whatever_the_exit_code() {
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
fn defect_14_05_a_stream_without_a_result_is_failed_also_with_exit_0() {
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
fn defect_14_06_audits_are_by_id_with_durations_and_text_of_lists() {
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
fn defect_14_08_allowed_tools_restrict_rather_than_preapprove() {
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
fn defect_14_10_no_prompt_schema_or_server_stands_on_the_argument_vector() {
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
fn defect_14_12_a_cancel_interrupts_and_keeps_what_was_heard() {
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
fn defect_14_14_a_flood_of_frames_is_not_kept() {
    let count = 3_000;
    let part = "x".repeat(1_000);
    let mut steps = Vec::new();
    for n in 0..count {
        steps.push(Step::json(&text(&part)));
        steps.push(Step::json(&tool_use(&n.to_string(), "Read", json!({ "p": part }))));
    }
    steps.push(Step::json(&result("success", false)));
    let (_, outcome) = play(steps);
    assert_eq!(outcome.finish_reason, "done");
    assert!(outcome.output.len() <= 1024 * 1024, "{}", outcome.output.len());
    assert_eq!(outcome.tool_calls.len(), 1024);
    let metadata: Value = serde_json::from_str(&outcome.metadata).expect("JSON");
    assert_eq!(metadata["tool_calls_left_out"], count - 1024);
    assert!(metadata["output_left_out_bytes"].as_u64().is_some_and(|bytes| bytes > 1024 * 1024));
}

#[test]
fn defect_14_17_a_subagents_text_is_told_and_no_part_of_the_output() {
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
            "input_tokens": "7", "output_tokens": -3.0, "cache_read_input_tokens": 1.5, "cache_creation_input_tokens": true,
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
fn defect_14_13_limits_and_retries_of_the_vendor_are_told() {
    let retry = json!({
        "type": "system", "subtype": "api_retry", "attempt": 2, "max_retries": 10, "retry_delay_ms": 500,
        "error_status": 529, "error": "overloaded",
    });
    let limit = json!({ "type": "rate_limit_event", "rate_limit_info": {
        "status": "allowed_warning", "resetsAt": 1_800_000_000, "rateLimitType": "five_hour", "utilization": 0.9,
    } });
    let (host, outcome) = play(frames(&[retry, limit, text("x"), result("success", false)]));
    let told = host.event_lines().join("\n");
    assert!(told.contains(r#"{"attempt":2,"code":"overloaded","type":"retry","wait_ms":500}"#), "{told}");
    assert!(told.contains(r#""rateLimitType":"five_hour""#) && told.contains(r#""utilization":0.9"#), "{told}");
    assert!(outcome.metadata.contains("five_hour"), "{}", outcome.metadata);
}
