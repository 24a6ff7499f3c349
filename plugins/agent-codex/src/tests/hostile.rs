//! A program that misbehaves: whatever it does, the run ends with a typed outcome.

use midplane_plugin::host::Exit;
use midplane_plugin::testing::{FakeChild, Step, task};
use midplane_plugin::{Agent, Error, ErrorKind, Value, json};

use super::{
    THREAD, TURN, calls, completed, host, interruptible, nothing, program, run, says, shown, told, whole_turn,
};
use crate::CodexAgent;

#[test]
fn a_program_that_does_not_heed_the_interrupt_is_ended_all_the_same() {
    let host = host().deadline_ms(60_000).child(program(vec![Step::Cancel], nothing).ignores_eof().ignores_terminate());
    let outcome = run(&host, task("x"));
    assert_eq!(outcome.finish_reason, "interrupted");
    assert!(outcome.metadata.contains(r#""commands_not_cleared":"no-answer""#), "{}", outcome.metadata);
    assert_eq!(host.stops(), ["close-stdin", "terminate", "kill"]);
}

/// What can go wrong, as outcomes.
#[test]
fn a_program_that_misbehaves_gives_a_typed_outcome() {
    let retry = told(
        "error",
        json!({ "willRetry": true, "error": { "message": "gone", "codexErrorInfo": { "responseStreamDisconnected": { "httpStatusCode": 502 } } } }),
    );
    let rows: Vec<(&str, FakeChild)> = vec![
        (
            "dies in the turn",
            program(
                [calls(), vec![Step::Stderr("panicked\u{1b}[31m at x\n".into()), Step::Exit(Exit::Code(101))]].concat(),
                nothing,
            ),
        ),
        ("is killed", program(vec![Step::Exit(Exit::Signal("SIGKILL".into()))], nothing)),
        ("retries and succeeds", program(vec![retry, says("ok"), completed("completed", Value::Null)], nothing)),
        ("ends with nothing", program(vec![completed("completed", Value::Null)], nothing)),
        ("ends with another word", program(vec![says("x"), completed("paused", Value::Null)], nothing)),
        ("interrupts itself", program(vec![says("partial"), completed("interrupted", Value::Null)], nothing)),
        (
            "writes garbage in the turn",
            program(
                vec![
                    Step::Line("{\"method\":1}".into()),
                    Step::Line("garbage".into()),
                    Step::Line("[]".into()),
                    says("mine"),
                    completed("completed", Value::Null),
                ],
                nothing,
            ),
        ),
        (
            "writes garbage and ends",
            FakeChild::new().at_start(vec![Step::Line("Usage: codex [OPTIONS]".into()), Step::Exit(Exit::Code(2))]),
        ),
        ("is silent", FakeChild::new()),
        (
            "is too old",
            FakeChild::new()
                .on_line(|_| vec![Step::Line(r#"{"id":"1","result":{"userAgent":"codex/0.100.0"}}"#.into())]),
        ),
        (
            "refuses the thread",
            FakeChild::new().on_line(|line| {
                let message: Value = serde_json::from_str(line).expect("a message");
                vec![Step::json(&match message["method"].as_str() {
                    Some("initialize") => json!({ "id": message["id"], "result": { "userAgent": "codex/0.163.0" } }),
                    _ => json!({ "id": message["id"], "error": { "code": -32602, "message": "bad sandbox" } }),
                })]
            }),
        ),
    ];
    let mut text = String::new();
    for (name, child) in rows {
        let host = host().child(child);
        let ended = match CodexAgent::run(&host, task("x")) {
            Ok(outcome) => shown(&outcome),
            Err(error) => format!("{:?} {}: {}", error.kind, error.code, error.message),
        };
        text.push_str(&format!("== {name} ({})\n{ended}\n", host.stops().join(" ")));
    }
    for error in [Error::not_found("program", "none"), Error::denied("command", "grant `command:codex` is missing")] {
        let host = host().child_error(error);
        let error = CodexAgent::run(&host, task("x")).expect_err("not started");
        text.push_str(&format!("== not started\n{:?} {}: {}\n", error.kind, error.code, error.message));
    }
    insta::assert_snapshot!(text);
}

/// Section 14 item 5: there a stream that ends early is a success when the exit code is 0.
#[test]
fn defect_14_05_a_program_that_ends_in_the_turn_with_exit_0_is_no_success() {
    let partial = [calls(), vec![says("All is"), Step::Exit(Exit::Code(0))]].concat();
    let outcome = run(&host().child(program(partial, nothing)), task("x"));
    let error = outcome.error.expect("typed");
    assert_eq!((outcome.finish_reason.as_str(), error.code.as_str()), ("failed", "program-ended"));
    assert_eq!((outcome.tool_calls.len(), outcome.session_id.as_deref()), (2, Some(THREAD)));
}

/// Section 14 item 14: there all that a vendor sends is kept, however much.
#[test]
fn defect_14_14_a_flood_is_bounded() {
    let call = |n: usize| {
        super::item(
            "item/completed",
            json!({ "type": "commandExecution", "id": format!("c{n}"), "command": "y".repeat(9_000), "status": "completed",
                "exitCode": 0, "aggregatedOutput": "z".repeat(9_000), "durationMs": 1 }),
        )
    };
    let mut turn: Vec<Step> = (0..2_000).map(call).collect();
    turn.extend([says(&"w".repeat(3_000_000)), completed("completed", Value::Null)]);
    let outcome = run(&host().child(program(turn, nothing)), task("x"));
    assert_eq!((outcome.finish_reason.as_str(), outcome.tool_calls.len()), ("done", 1024));
    assert_eq!(outcome.output.len(), 1024 * 1024);
    let kept: usize = outcome.tool_calls.iter().map(|call| call.arguments.len() + call.result_preview.len()).sum();
    assert!(kept < 2 * 1024 * 1024, "{kept}");
}

/// Section 14 item 17: there what a subagent says is joined into the output.
#[test]
fn defect_14_17_what_another_thread_or_turn_says_is_not_in_the_output() {
    let other = |thread: &str, turn: &str| {
        let item = json!({ "type": "agentMessage", "id": "m", "text": "not mine", "phase": "final_answer" });
        Step::json(
            &json!({ "method": "item/completed", "params": { "threadId": thread, "turnId": turn, "item": item } }),
        )
    };
    let turn = vec![other(THREAD, "other"), other("subagent", TURN), says("mine"), completed("completed", Value::Null)];
    let host = host().child(program(turn, nothing));
    assert_eq!(run(&host, task("x")).output, "mine");
    assert!(!host.event_lines().join("").contains("not mine"));
}

#[test]
fn defect_14_13_a_silent_vendor_is_interrupted() {
    let host = host().setting("first_event_s", "5").setting("idle_s", "2").child(program(vec![], interruptible));
    let outcome = run(&host, task("x"));
    let error = outcome.error.expect("typed");
    assert_eq!(
        (outcome.finish_reason.as_str(), error.kind, error.code.as_str()),
        ("failed", ErrorKind::Uncertain, "first-event")
    );
    assert!(host.written().iter().any(|line| line.contains("turn/interrupt")));
}

/// Whatever stands in place of any value of any message, the run ends with an outcome.
#[test]
fn no_message_makes_the_adapter_panic_or_wait_for_ever() {
    let turn = whole_turn();
    for (at, step) in turn.iter().enumerate() {
        let Step::Line(line) = step else { continue };
        for other in mangled(&serde_json::from_str(line).expect("a message")) {
            let mut turn = turn.clone();
            turn[at] = Step::json(&other);
            let host = host().deadline_ms(60_000).child(program(turn, nothing));
            let outcome = run(&host, task("x"));
            assert!(["done", "failed", "interrupted"].contains(&outcome.finish_reason.as_str()), "{other}");
        }
    }
}

/// A value with each of its parts in turn replaced by something of another kind.
fn mangled(value: &Value) -> Vec<Value> {
    let mut all = vec![json!(null), json!(-1), json!("x"), json!([[]]), json!({ "type": {} })];
    match value {
        Value::Object(fields) => all.extend(fields.iter().flat_map(|(name, part)| {
            mangled(part).into_iter().map(move |part| {
                let mut whole = value.clone();
                whole[name] = part;
                whole
            })
        })),
        Value::Array(items) => all.extend(items.iter().enumerate().flat_map(|(at, part)| {
            mangled(part).into_iter().map(move |part| {
                let mut whole = value.clone();
                whole[at] = part;
                whole
            })
        })),
        _ => {}
    }
    all
}
