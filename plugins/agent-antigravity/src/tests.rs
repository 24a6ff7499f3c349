//! Whole runs against frames as the real harness (google-antigravity 0.1.22) sends them, with a scripted host. Everything
//! that a run gives (outcome, events, frames that were sent, questions) is compared.

use midplane_plugin::agent::{PermissionMode, Session, Task};
use midplane_plugin::host::{Decision, Exit};
use midplane_plugin::testing::{Dialed, FakeChild, FakeHost, FakeSocket, Step, task};
use midplane_plugin::{Agent, Error, Value, json};

use crate::AntigravityAgent;

mod harness;

use harness::*;

fn at_work(goal: &str) -> Task {
    let mut task = task(goal);
    task.working_directory = Some("/work".into());
    task
}

/// The frame that tells the harness what it is to be; the greeting in bytes comes before it.
fn first_frame(host: &FakeHost) -> Value {
    let frame = host.written().into_iter().find(|line| line.starts_with(r#"{"config""#)).expect("sent");
    serde_json::from_str(&frame).expect("JSON")
}

fn record(host: &FakeHost, task: Task) -> String {
    let mut lines = match AntigravityAgent::run(host, task) {
        Ok(outcome) => {
            let calls = outcome.tool_calls.iter().map(|call| {
                format!(
                    "call {} {} {} {:?} {:?}",
                    call.name, call.status, call.arguments, call.result_preview, call.duration_ms
                )
            });
            let mut lines = vec![
                format!("finish {} rounds {} session {:?}", outcome.finish_reason, outcome.rounds, outcome.session_id),
                format!("output {:?}", outcome.output),
                format!("error {:?}", outcome.error.map(|error| (error.kind, error.code, error.message))),
                format!("parsed {:?}", outcome.parsed_output),
                format!("usage {}", midplane_plugin::events::usage_fields(&outcome.usage)),
                format!("metadata {}", outcome.metadata),
            ];
            lines.extend(calls);
            lines
        }
        Err(error) => vec![format!("error {error:?}")],
    };
    lines.push("-- events".into());
    lines.extend(host.event_lines());
    lines.push("-- questions".into());
    lines.extend(host.questions().iter().map(|q| format!("{} {:?} {:?} {}", q.kind, q.title, q.call_id, q.detail)));
    lines.push("-- sent".into());
    // The first frame is compared in `config`.
    lines.extend(host.written().into_iter().skip_while(|line| !line.starts_with(r#"{"config""#)).skip(1));
    lines.push(format!("-- ended by {:?}", host.stops()));
    lines.join("\n")
}

#[test]
fn a_text_reply() {
    let host = host(harness(vec![vec![
        running(),
        user("greet"),
        step(
            1,
            json!({ "state": "STATE_ACTIVE", "source": "SOURCE_MODEL", "target": "TARGET_USER", "textDelta": "Hel",
            "thinkingDelta": "Let me ponder.", "thinking": "Let me ponder." }),
        ),
        said(1, "STATE_ACTIVE", "lo. \n"),
        said(1, "STATE_DONE", ""),
        usage(11, 4, 7, 2),
        json!({ "somethingNew": { "x": 1 } }),
        idle(),
    ]]));
    insta::assert_snapshot!(record(&host, at_work("greet")));
    let headers = vec![("x-goog-api-key".into(), "abc".into())];
    assert_eq!(host.connects(), [Dialed { port: 4711, path: "/".into(), headers }]);
}

#[test]
fn tools_are_told_by_id_with_what_came_back_and_changed_files() {
    let host = host(harness(vec![vec![
        running(),
        user("work"),
        said(1, "STATE_DONE", "Looking."),
        before("c1", "run_command", json!({ "CommandLine": "make" })),
        before("c2", "run_command", json!({ "CommandLine": "make test" })),
        acts(2, "STATE_ACTIVE", "runCommand", json!({ "commandLine": "make" })),
        after("c2", "run_command", &shell(2, "2 failed\r\n"), ""),
        after("c1", "run_command", &shell(0, "built\r\n"), ""),
        acts(2, "STATE_DONE", "runCommand", json!({ "commandLine": "make", "exitCode": 0 })),
        before("c3", "create_file", json!({ "TargetFile": "/work/a b.txt" })),
        acts(4, "STATE_DONE", "editFile", json!({ "filePath": "file:///work/a%20b.txt", "diffBlock": [] })),
        after("c3", "create_file", "Tool execution", ""),
        hook(
            "preToolArgs",
            json!({ "toolName": "echo", "serverName": "ev", "callId": "c4",
            "argumentsJson": r#"{"Arguments":{"message":"m"},"ServerName":"ev","ToolName":"echo"}"# }),
        ),
        hook(
            "onToolErrorArgs",
            json!({ "toolName": "echo", "serverName": "ev", "callId": "c4", "errorMessage": "it broke" }),
        ),
        before("c5", "view_file", json!({})),
        said(6, "STATE_DONE", "Done."),
        usage(100, 0, 10, 0),
        idle(),
    ]]));
    insta::assert_snapshot!(record(&host, at_work("work")));
}

#[test]
fn defect_14_07_what_the_policy_asks_the_host_answers_and_a_refusal_is_told() {
    let command = |text: &str| json!({ "CommandLine": text, "Cwd": "." });
    let host = host(harness(vec![
        vec![
            running(),
            user("go"),
            before("c1", "run_command", command("rm -rf build")),
            policy("1", "c1", "run_command", command("rm -rf build")),
        ],
        vec![
            after("c1", "run_command", &shell(0, ""), ""),
            before("c2", "search_web", json!({ "query": "secrets" })),
            policy("2", "c2", "search_web", json!({ "query": "secrets" })),
        ],
        vec![
            failed(3, "SOURCE_MODEL", 0, "no rule allows it (\"denied by pre-tool hook: no rule allows it\")"),
            before("c3", "view_file", json!({ "AbsolutePath": "/etc/shadow" })),
            failed(4, "SOURCE_MODEL", 0, "outside (\"denied by pre-tool hook: Access to path is denied\")"),
            step(
                5,
                json!({ "state": "STATE_WAITING_FOR_USER", "source": "SOURCE_MODEL", "requestText": "Delete it?",
                "toolConfirmationRequest": {}, "runCommand": { "commandLine": "rm x" } }),
            ),
        ],
        vec![said(6, "STATE_DONE", "Well."), idle()],
    ]))
    .on_ask(|question| {
        Ok(match question.title.as_str() {
            "rm -rf build" => Decision { allowed: true, message: "by rule".into() },
            _ => Decision { allowed: false, message: "no rule allows it".into() },
        })
    });
    insta::assert_snapshot!(record(&host, at_work("go")));
}

#[test]
fn questions_to_a_user_are_left_open() {
    let asks = step(
        1,
        json!({ "state": "STATE_WAITING_FOR_USER", "source": "SOURCE_MODEL", "target": "TARGET_UNSPECIFIED",
            "questionsRequest": { "questions": [{ "multipleChoice": { "question": "Which?", "choices": ["a", "b"] } }, {}] } }),
    );
    // A step that waits is told again until its answer is taken.
    let host = host(harness(vec![
        vec![running(), user("x"), asks.clone(), asks],
        vec![said(1, "STATE_DONE", ""), said(2, "STATE_DONE", "a then"), idle()],
    ]));
    insta::assert_snapshot!(record(&host, at_work("x")));
}

/// Section 14, item 2: the vendor's normal end is done, and each stop reason of its budgets and quota has a meaning.
#[test]
fn defect_14_02_a_normal_stop_is_done_and_budget_and_quota_have_a_meaning() {
    let ends = [
        "",
        "STOP_REASON_UNSPECIFIED",
        "UNSPECIFIED",
        "STOP",
        "STOP_REASON_MAX_MODEL_CALLS_EXCEEDED",
        "STOP_REASON_MAX_TOOL_CALLS_EXCEEDED",
        "STOP_REASON_MAX_INPUT_TOKENS_EXCEEDED",
        "STOP_REASON_MAX_OUTPUT_TOKENS_EXCEEDED",
        "STOP_REASON_MAX_TOTAL_TOKENS_EXCEEDED",
        "STOP_REASON_QUOTA_EXHAUSTED",
        "STOP_REASON_MAX_TOKENS",
        "STOP_REASON_SAFETY",
    ];
    let mut told = Vec::new();
    for stop in ends {
        let end = state("STATE_FULLY_IDLE", json!({ "stopReason": stop }));
        let frames = vec![running(), user("x"), said(1, "STATE_DONE", "partial"), usage(9, 0, 3, 0), end];
        let host = host(harness(vec![frames]));
        let outcome = AntigravityAgent::run(&host, at_work("x")).expect("an outcome");
        // What was used is kept however it ended.
        assert_eq!((outcome.usage.input_tokens, outcome.output.as_str()), (Some(9), "partial"));
        let error = outcome.error.map(|error| format!(" {:?} {}: {}", error.kind, error.code, error.message));
        told.push(format!("{stop} -> {}{}", outcome.finish_reason, error.unwrap_or_default()));
    }
    insta::assert_snapshot!(told.join("\n"));
}

/// Section 14, item 3: what a turn used and did is kept when it fails, with the conversation and the class of the error.
#[test]
fn defect_14_03_a_failed_turn_keeps_usage_audits_session_and_its_class() {
    for (code, kind, word) in [
        (401, midplane_plugin::ErrorKind::Denied, "credential"),
        (429, midplane_plugin::ErrorKind::Unavailable, "rate-limited"),
    ] {
        let text = format!("Error {code}, Message: no, Status: x, Details: []");
        let host = host(harness(vec![vec![
            running(),
            user("x"),
            before("a", "run_command", json!({ "CommandLine": "make" })),
            after("a", "run_command", &shell(0, "built"), ""),
            usage(9, 0, 3, 0),
            failed(2, "SOURCE_SYSTEM", code, &text),
            state("STATE_FULLY_IDLE", json!({ "error": text })),
        ]]));
        let outcome = AntigravityAgent::run(&host, at_work("x")).expect("an outcome");
        let error = outcome.error.expect("typed");
        assert_eq!((outcome.finish_reason.as_str(), error.kind, error.code.as_str()), ("failed", kind, word));
        assert_eq!((outcome.usage.input_tokens, outcome.session_id.as_deref()), (Some(9), Some(ID)));
        assert_eq!((outcome.tool_calls.len(), outcome.tool_calls[0].status.as_str()), (1, "ok"));
    }
}

/// Section 14, item 10: what the task says reaches the harness over its socket, and nothing of it is on the argument
/// vector, which other users of the machine can read, or in its environment.
#[test]
fn defect_14_10_the_argument_vector_has_neither_prompt_nor_environment_of_servers() {
    let host = host(harness(vec![vec![running(), user("x"), said(1, "STATE_DONE", "ok"), idle()]]));
    let mut asked = at_work("SECRET-goal");
    asked.system = Some("SECRET-system".into());
    asked.mcp_servers = vec![midplane_plugin::agent::McpServer {
        name: "m".into(),
        argv: vec!["m".into()],
        env: vec![("A".into(), "SECRET-env".into())],
    }];
    AntigravityAgent::run(&host, asked).expect("an outcome");
    let command = &host.commands()[0];
    assert!(!format!("{command:?}").contains("SECRET"), "{command:?}");
    assert!(!command.argv.join(" ").contains("endpoint:vendor"), "{command:?}");
    let sent = host.written().join("");
    assert!(["SECRET-goal", "SECRET-system", "SECRET-env"].iter().all(|word| sent.contains(word)), "{sent}");
}

/// Section 14, item 13: a harness that falls silent is ended after the time of the settings, by a clock that no change
/// of the wall's moves.
#[test]
fn defect_14_13_a_silent_harness_is_ended() {
    let quiet = [
        (vec![vec![], vec![idle()]], "first-event"),
        (vec![vec![running(), user("x"), said(1, "STATE_ACTIVE", "So far")], vec![idle()]], "idle"),
    ];
    for (frames, code) in quiet {
        let host = host(harness(frames)).setting("first_event_s", "5").setting("idle_s", "2");
        let outcome = AntigravityAgent::run(&host, at_work("x")).expect("an outcome");
        assert_eq!(outcome.finish_reason, "failed");
        assert_eq!(outcome.error.map(|error| error.code), Some(code.into()));
        assert_eq!(host.stops()[0], "close-stdin", "{code}");
    }
}

#[test]
fn to_be_idle_is_not_to_have_succeeded() {
    let vendor = |code: u16| {
        let text = format!("Error {code}, Message: no, Status: x, Details: []");
        vec![failed(1, "SOURCE_SYSTEM", code, &text), state("STATE_FULLY_IDLE", json!({ "error": text }))]
    };
    let plain = |error: &str| vec![state("STATE_FULLY_IDLE", json!({ "error": error }))];
    let rows = [
        vendor(400),
        vendor(401),
        vendor(403),
        vendor(404),
        vendor(429),
        vendor(503),
        // A page of HTML in the place of an answer.
        vec![
            failed(
                1,
                "SOURCE_SYSTEM",
                2,
                "Agent execution terminated due to error. (\"invalid stream chunk: <html>\")",
            ),
            state("STATE_FULLY_IDLE", json!({ "error": "iterateResponseStream: invalid stream chunk: <html>" })),
        ],
        plain("model unreachable: Error 500, Message: x"),
        plain("model output error: max tokens limit reached (generation or context length exceeded)."),
        plain("something else"),
        vec![state("STATE_CANCELLED", json!({}))],
        vec![idle()],
        // An earlier failure that the harness overcame does not count.
        vec![failed(1, "SOURCE_SYSTEM", 503, "Encountered retryable error"), said(2, "STATE_DONE", "Fine."), idle()],
    ];
    let mut told = Vec::new();
    for row in rows {
        let host = host(harness(vec![[vec![running(), user("x")], row].concat()]));
        let outcome = AntigravityAgent::run(&host, at_work("x")).expect("an outcome");
        let error = outcome.error.map(|error| format!(" {:?} {}: {}", error.kind, error.code, error.message));
        told.push(format!("{}{}", outcome.finish_reason, error.unwrap_or_default()));
    }
    insta::assert_snapshot!(told.join("\n"));
}

/// Section 14, item 6: calls are matched by the harness's ids, not by their names, and a command that fails is an error.
#[test]
fn defect_14_06_two_calls_of_one_tool_keep_their_own_results() {
    let host = host(harness(vec![vec![
        running(),
        user("x"),
        before("a", "run_command", json!({ "CommandLine": "first" })),
        before("b", "run_command", json!({ "CommandLine": "second" })),
        after("a", "run_command", &shell(0, "of the first"), ""),
        after("b", "run_command", &shell(1, "of the second"), ""),
        idle(),
    ]]));
    let outcome = AntigravityAgent::run(&host, at_work("x")).expect("an outcome");
    let calls: Vec<_> = outcome
        .tool_calls
        .iter()
        .map(|call| (call.arguments.as_str(), call.result_preview.as_str(), call.status.as_str()))
        .collect();
    assert_eq!(
        calls,
        [
            (r#"{"CommandLine":"first"}"#, "of the first", "ok"),
            (r#"{"CommandLine":"second"}"#, "of the second", "error")
        ]
    );
}

/// Section 14, item 8: the default mode allows neither the web nor other agents by itself.
#[test]
fn defect_14_08_the_default_mode_asks_before_the_web_and_before_subagents() {
    let decisions = |mode: PermissionMode| {
        let host = host(harness(vec![vec![running(), user("x"), said(1, "STATE_DONE", "x"), idle()]]));
        let mut task = at_work("x");
        task.permissions.mode = mode;
        AntigravityAgent::run(&host, task).expect("an outcome");
        let first = first_frame(&host);
        let rules = first["config"]["policyConfig"]["rules"].as_array().cloned().unwrap_or_default();
        let of = |rule: &Value| {
            let word = rule["decision"].as_str().unwrap_or_default().trim_start_matches("POLICY_DECISION_");
            format!("{}={word}", rule["tool"].as_str().unwrap_or_default())
        };
        format!("{mode:?}: {}", rules.iter().map(of).collect::<Vec<_>>().join(" "))
    };
    let all = [PermissionMode::Strict, PermissionMode::Cautious, PermissionMode::Default, PermissionMode::Permissive];
    insta::assert_snapshot!(all.map(decisions).join("\n"));
}

/// Section 14, item 17: what a subagent says is not the agent's answer.
#[test]
fn defect_14_17_a_subagents_text_is_not_in_the_output() {
    let mut other = said(1, "STATE_DONE", "from below");
    other["stepUpdate"]["trajectoryId"] = json!("sub");
    let mut its_end = state("STATE_FULLY_IDLE", json!({ "error": "it failed" }));
    its_end["trajectoryStateUpdate"]["trajectoryId"] = json!("sub");
    let host = host(harness(vec![vec![running(), user("x"), other, its_end, said(2, "STATE_DONE", "mine"), idle()]]));
    let outcome = AntigravityAgent::run(&host, at_work("x")).expect("an outcome");
    assert_eq!((outcome.finish_reason.as_str(), outcome.output.as_str()), ("done", "mine"));
}

#[test]
fn defect_14_12_a_cancel_halts_the_harness_and_keeps_what_was_heard() {
    let begun = vec![
        Step::json(&running()),
        Step::json(&user("x")),
        Step::json(&before("c1", "run_command", json!({ "CommandLine": "sleep 600" }))),
        Step::json(&said(1, "STATE_ACTIVE", "one t")),
        Step::json(&usage(5, 0, 1, 0)),
        Step::Cancel,
    ];
    let halted =
        vec![Step::json(&after("c1", "run_command", r#"{"command_line":"sleep 600"}"#, "")), Step::json(&idle())];
    let first = harness_of(json!({ "cascadeId": ID }), vec![begun.clone(), halted]);
    insta::assert_snapshot!(record(&host(first), at_work("x")));

    // One that does not heed it is ended all the same, and so is one that goes on without end.
    for tail in [vec![], vec![Step::json(&said(1, "STATE_ACTIVE", "more")); 3], vec![Step::Exit(Exit::Code(0))]] {
        let host = host(harness_of(json!({ "cascadeId": ID }), vec![begun.clone(), tail]));
        let outcome = AntigravityAgent::run(&host, at_work("x")).expect("an outcome");
        assert_eq!((outcome.finish_reason.as_str(), outcome.usage.input_tokens), ("interrupted", Some(5)));
        assert_eq!(outcome.session_id.as_deref(), Some(ID));
        assert_eq!(host.stops()[0], "close-stdin");
    }
}

#[test]
fn a_cancel_while_a_person_is_asked_declines() {
    let host = host(harness(vec![
        vec![
            running(),
            user("x"),
            before("c1", "run_command", json!({ "CommandLine": "x" })),
            policy("1", "c1", "run_command", json!({ "CommandLine": "x" })),
        ],
        vec![idle()],
    ]))
    .on_ask(|_| Err(Error::cancelled("cancelled", "the run was cancelled")));
    let outcome = AntigravityAgent::run(&host, at_work("x")).expect("an outcome");
    assert_eq!(outcome.tool_calls[0].status, "declined");
    let answer: Value = serde_json::from_str(host.written().last().expect("an answer")).expect("JSON");
    assert_eq!(answer["policyDecisionResponse"]["outcome"], "POLICY_EVALUATION_OUTCOME_DENY");
}

#[test]
fn what_the_user_adds_is_said_in_the_same_turn() {
    let host = host(harness_of(
        json!({ "cascadeId": ID }),
        vec![
            vec![
                Step::json(&running()),
                Step::json(&user("x")),
                Step::json(&said(1, "STATE_ACTIVE", "first")),
                Step::Steer("and be quick".into()),
            ],
            vec![
                // The harness was done just before it took what was added: the turn goes on.
                Step::json(&idle()),
                Step::json(&running()),
                Step::json(&user("and be quick")),
                Step::json(&said(3, "STATE_DONE", "second")),
                // Added in the last moment, and seen only after the end.
                Step::Steer("one more".into()),
                Step::json(&idle()),
            ],
            [running(), user("one more"), said(5, "STATE_DONE", "third"), idle()].iter().map(Step::json).collect(),
        ],
    ));
    insta::assert_snapshot!(record(&host, at_work("x")));
}

#[test]
fn a_conversation_goes_on_and_counts_only_its_own_run() {
    let response = json!({
        "cascadeId": ID, "history": [{ "stepIndex": 0, "textDelta": "old" }],
        "cumulativeUsage": { "promptTokenCount": "100", "cachedContentTokenCount": "10", "candidatesTokenCount": "20",
            "thoughtsTokenCount": "0", "totalTokenCount": "120" },
    });
    let mut frames = vec![running()];
    frames.push(usage(100, 10, 20, 0));
    frames.extend([user("again"), said(3, "STATE_DONE", "Again."), usage(150, 30, 25, 0), idle()]);
    let host = host(harness_of(response, steps(vec![frames])));
    let mut task = at_work("again");
    task.session = Some(Session { id: ID.into(), transcript: None });
    let outcome = AntigravityAgent::run(&host, task).expect("an outcome");
    assert_eq!(outcome.session_id.as_deref(), Some(ID));
    let used = (outcome.usage.input_tokens, outcome.usage.cache_read_tokens, outcome.usage.output_tokens);
    assert_eq!((used, outcome.rounds), ((Some(30), Some(20), Some(5)), 1));
    let first = first_frame(&host);
    assert_eq!(first["config"]["sessionContinuationMode"], "RESUME");
}

#[test]
fn a_conversation_that_is_not_there_is_said_so() {
    let socket = FakeSocket::new().on_text(|_| vec![Step::Exit(Exit::Code(0))]);
    let why = format!("Failed to create agent: conversation \"{ID}\" not found in \"/x\" (cannot resume)\n");
    let program = FakeChild::new()
        .at_start(vec![Step::Raw(LISTENING.to_vec()), Step::Stderr(why), Step::Exit(Exit::Code(1))])
        .socket(socket);
    let mut task = at_work("x");
    task.session = Some(Session { id: ID.into(), transcript: None });
    let error = AntigravityAgent::run(&host(program), task).expect_err("none");
    assert_eq!((error.kind, error.code.as_str()), (midplane_plugin::ErrorKind::NotFound, "conversation"));
}

#[test]
fn a_structured_answer_comes_from_the_finish_tool_else_from_the_text() {
    let finish = |text: &str| acts(1, "STATE_DONE", "finish", json!({ "outputString": text }));
    let object = r#"{"type":"object","properties":{"ok":{"type":"boolean"}}}"#;
    let list = r#"{"type":"array"}"#;
    let rows = [
        (object, vec![finish(r#"{"ok":1}"#), finish(r#"{"ok":true}"#)]),
        (object, vec![said(1, "STATE_ACTIVE", r#"{"ok":"#), said(1, "STATE_DONE", "false}")]),
        (object, vec![said(1, "STATE_DONE", "nope")]),
        (list, vec![finish(r#"{"value":[1]}"#)]),
        (list, vec![said(1, "STATE_DONE", "[2]")]),
    ];
    let mut told = Vec::new();
    for (schema, frames) in rows {
        let host = host(harness(vec![[vec![running(), user("x")], frames, vec![idle()]].concat()]));
        let mut task = at_work("x");
        task.output_schema = Some(schema.into());
        let outcome = AntigravityAgent::run(&host, task).expect("an outcome");
        let error = outcome.error.map(|error| error.code);
        told.push(format!("{} {:?} {error:?} {:?}", outcome.finish_reason, outcome.parsed_output, outcome.output));
    }
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn a_program_that_does_not_work_is_a_typed_error_and_is_ended() {
    let listening = || Step::Raw(LISTENING.to_vec());
    let garbage = FakeSocket::new().on_text(|_| vec![Step::Line("<html>".into()), Step::Line("[1".into())]);
    let rows = [
        ("missing", FakeHost::new().child_error(Error::not_found("program", "no such file"))),
        (
            "not granted",
            FakeHost::new().child_error(Error::denied("command", "the grant `command:localharness` is missing")),
        ),
        (
            "another program",
            FakeHost::new().child(FakeChild::new().at_start(vec![Step::Line("usage: ls [FILE]".into())])),
        ),
        ("silent", FakeHost::new().child(FakeChild::new().ignores_eof().ignores_terminate())),
        (
            "dies",
            FakeHost::new().child(
                FakeChild::new()
                    .at_start(vec![Step::Stderr("panic: \u{1b}[31mno\n".into()), Step::Exit(Exit::Code(2))]),
            ),
        ),
        (
            "another's port",
            FakeHost::new().child(
                FakeChild::new()
                    .at_start(vec![listening()])
                    .socket_error(Error::denied("not-own-port", "the port belongs to another program")),
            ),
        ),
        ("garbage at the start", FakeHost::new().child(FakeChild::new().at_start(vec![listening()]).socket(garbage))),
    ];
    let mut told = Vec::new();
    for (name, host) in rows {
        let host = settings(host);
        let error = AntigravityAgent::run(&host, at_work("x")).expect_err(name);
        told.push(format!("{name}: {:?} {}: {}\n  ended by {:?}", error.kind, error.code, error.message, host.stops()));
    }
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn defect_14_05_a_harness_that_breaks_in_the_turn_is_failed_and_keeps_what_was_heard() {
    let begun = |last: Vec<Step>| {
        let mut steps: Vec<Step> =
            [running(), user("x"), said(1, "STATE_ACTIVE", "part"), usage(5, 0, 1, 0)].iter().map(Step::json).collect();
        steps.extend(last);
        steps
    };
    let rows = [
        ("closed", host(harness_of(json!({ "cascadeId": ID }), vec![begun(vec![Step::Exit(Exit::Code(0))])]))),
        (
            "garbage, then silence",
            host(harness_of(
                json!({ "cascadeId": ID }),
                vec![begun(vec![Step::Line("not JSON".into()), Step::Raw(vec![0, 1]), Step::Line("[]".into())])],
            ))
            .setting("idle_s", "5"),
        ),
    ];
    let mut told = Vec::new();
    for (name, host) in rows {
        let outcome = AntigravityAgent::run(&host, at_work("x")).expect(name);
        let error = outcome.error.expect(name);
        told.push(format!(
            "{name}: {} {:?} {}: {}\n  output {:?} usage {} session {:?} metadata {}",
            outcome.finish_reason,
            error.kind,
            error.code,
            error.message,
            outcome.output,
            midplane_plugin::events::usage_fields(&outcome.usage),
            outcome.session_id,
            outcome.metadata,
        ));
    }
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn defect_14_14_a_flood_of_words_is_kept_to_a_bound() {
    let mut frames = vec![running(), user("x")];
    frames.extend(std::iter::repeat_n(said(1, "STATE_ACTIVE", &"w".repeat(100_000)), 30));
    frames.push(idle());
    let host = host(harness(vec![frames]));
    let outcome = AntigravityAgent::run(&host, at_work("x")).expect("an outcome");
    assert_eq!(outcome.output.len(), 1024 * 1024);
    let metadata: Value = serde_json::from_str(&outcome.metadata).expect("JSON");
    assert_eq!(metadata["left_out_bytes"], 3_000_000 - 1024 * 1024);
}

#[test]
fn defect_14_15_all_that_cannot_be_honoured_is_listed_in_the_order_of_the_task() {
    use midplane_plugin::agent::{Attachment, FilesystemAccess, McpServer};
    let host = settings(FakeHost::new()).setting("models", r#"["m-a"]"#);
    let mut bad = at_work("x");
    bad.model = Some("m-z".into());
    bad.mcp_servers = vec![McpServer { name: "a.b".into(), argv: Vec::new(), env: Vec::new() }];
    bad.permissions.filesystem = FilesystemAccess::ReadOnly;
    bad.permissions.allowed_tools = vec!["edit_file".into(), "Read".into(), "list_directory".into()];
    bad.permissions.disallowed_tools = vec!["start_subagent".into()];
    bad.session = Some(Session { id: "/".repeat(40), transcript: Some("[1]".into()) });
    bad.attachments = vec![Attachment { kind: "skill".into(), name: "s".into(), path: "s".into(), digest: "d".into() }];
    let issues: Vec<String> = AntigravityAgent::validate(&host, &bad)
        .into_iter()
        .map(|issue| format!("{}: {}", issue.field, issue.message))
        .collect();
    insta::assert_snapshot!(issues.join("\n"));
    let mut good = at_work("x");
    good.model = Some("m-a".into());
    assert_eq!(AntigravityAgent::validate(&host, &good), []);
}

#[test]
fn defect_14_18_availability_starts_the_program_only_when_it_may() {
    let works = FakeChild::new().at_start(vec![Step::Raw(LISTENING.to_vec())]);
    let rows = [
        (FakeHost::new(), 0),
        (FakeHost::new().child(works), 1000),
        (FakeHost::new().child_error(Error::not_found("program", "none")), 1000),
        (FakeHost::new().child(FakeChild::new().at_start(vec![Step::Line("secret words".into())])), 1000),
    ];
    let told = rows.map(|(host, probe)| {
        let report = AntigravityAgent::availability(&settings(host), probe);
        format!("{:?} {}: {}", report.status, report.reason, report.message)
    });
    insta::assert_snapshot!(told.join("\n"));
}

/// Each part of each recorded frame, put of another type: nothing panics, and the turn still ends.
#[test]
fn frames_with_parts_of_another_type_are_passed_over() {
    let frames = [
        user("x"),
        said(1, "STATE_DONE", "x"),
        acts(2, "STATE_DONE", "editFile", json!({ "filePath": "file:///work/%e2%82%ac%zz%" })),
        acts(3, "STATE_DONE", "finish", json!({ "outputString": "{}" })),
        acts(
            4,
            "STATE_DONE",
            "customTool",
            json!({ "toolCall": { "id": "a", "name": "n", "argumentsJson": "{}" }, "toolResponse": { "responseJson": "r" } }),
        ),
        failed(5, "SOURCE_SYSTEM", 500, "denied by pre-tool hook"),
        usage(1, 2, 3, 4),
        before("c", "run_command", json!({ "CommandLine": "x" })),
        after("c", "run_command", &shell(1, "x"), ""),
        policy("1", "c", "run_command", json!({})),
        step(
            6,
            json!({ "state": "STATE_WAITING_FOR_USER", "questionsRequest": { "questions": [{}] }, "toolConfirmationRequest": {} }),
        ),
        json!({ "toolCall": { "id": "c", "name": "n" } }),
        state("STATE_RUNNING", json!({ "error": "e", "stopReason": "STOP_REASON_SAFETY" })),
    ];
    let odd =
        [json!(null), json!(-1), json!(1.5), json!(""), json!([1]), json!({ "x": {} }), json!(u64::MAX), json!(true)];
    let mut wrong = Vec::new();
    for frame in &frames {
        for pointer in pointers(frame) {
            for value in &odd {
                let mut other = frame.clone();
                *other.pointer_mut(&pointer).expect("it is there") = value.clone();
                wrong.push(other);
            }
        }
    }
    assert!(wrong.len() > 500);
    let host =
        host(harness(vec![[vec![running(), user("x")], wrong, vec![said(7, "STATE_DONE", "y"), idle()]].concat()]));
    let outcome = AntigravityAgent::run(&host, at_work("x")).expect("an outcome");
    assert!(outcome.output.ends_with('y'), "{} {:?}", outcome.output, outcome.error);
}

/// All places in a value.
fn pointers(value: &Value) -> Vec<String> {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    let below = |(name, value): (String, &Value)| {
        let here = format!("/{name}");
        let mut all: Vec<String> = pointers(value).iter().map(|rest| format!("{here}{rest}")).collect();
        all.push(here);
        all
    };
    inner.into_iter().flat_map(below).collect()
}
