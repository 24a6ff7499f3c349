//! The Antigravity plugin through the library, with the **real** harness program in front of `aimock`.
//!
//! The harness's follow-up requests do not look to the mock as if they brought a tool's answer, so fixtures go by
//! `sequenceIndex`; and as a model that calls for ever would, each host bounds the calls of a run.

use std::time::Duration;

use midplane::CancelReceipt;
use midplane::core::approval::{Otherwise, Policy, Rule};
use midplane::core::event::EventKind;
use midplane::core::outcome::FinishReason;
use midplane::core::task::PermissionMode;
use serde_json::{Value, json};

use crate::bench::processes;
use crate::peer::{Aimock, localharness};
use crate::world::{KEY, Ran, Setup, World};

/// The mock, a host before it, and the program; none where one of both is not installed.
async fn real(fixtures: Value) -> Option<(Aimock, World)> {
    real_with(fixtures, |setup| setup).await
}

async fn real_with(fixtures: Value, set: impl FnOnce(Setup) -> Setup) -> Option<(Aimock, World)> {
    let program = localharness()?;
    let mock = Aimock::start(KEY, &json!({ "fixtures": fixtures })).await?;
    // The harness may ask for a command of ours alone.
    let echoes = Rule { kind: Some("command".to_owned()), title: Some("echo *".to_owned()), allow: true };
    let setup = Setup::of("antigravity", Some("GEMINI_API_KEY"), mock.url())
        .setting("program", json!(program))
        .setting("model", json!("gemini-3.5-flash"))
        .setting("model_calls_max", json!(6))
        .setting("retries_max", json!(1))
        .approvals(Policy { rules: vec![echoes], otherwise: Some(Otherwise::Decline) });
    let world = set(setup).open().await;
    let grant = format!("command:{}", program.display());
    world.host.allow("antigravity", &grant.parse().expect("a grant")).await.expect("allowed");
    Some((mock, world))
}

/// Two fixtures: the model runs a command, then says something.
fn command(prompt: &str, line: &str, then: &str) -> [Value; 2] {
    let arguments = json!({ "CommandLine": line, "Cwd": ".", "WaitMsBeforeAsync": 600_000 }).to_string();
    [
        json!({ "match": { "userMessage": prompt, "sequenceIndex": 0 },
            "response": { "toolCalls": [{ "id": "call_1", "name": "run_command", "arguments": arguments }] } }),
        json!({ "match": { "userMessage": prompt, "sequenceIndex": 1 }, "response": { "content": then } }),
    ]
}

/// What became of the calls of tools: name, status, what came back.
fn calls(ran: &Ran) -> Vec<(String, String, String)> {
    let calls = ran.outcome.tool_calls.iter();
    calls.map(|call| (call.name.clone(), call.status.clone(), call.result_preview.clone())).collect()
}

fn owned(name: &str, status: &str, preview: &str) -> (String, String, String) {
    (name.to_owned(), status.to_owned(), preview.to_owned())
}

/// Waits until no process has these words: one that was killed is gone a moment later.
async fn gone(words: &str) -> bool {
    for _ in 0..100 {
        if processes(words).is_empty() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

#[tokio::test]
async fn a_prompt_is_answered_and_the_key_is_added_by_the_host_alone() {
    let fixtures = json!([{
        "match": { "userMessage": "greet" },
        "response": { "content": "Hello from the mock, ünïcode too.", "usage": { "input_tokens": 11, "output_tokens": 7 } },
        "chunkSize": 5,
    }]);
    let Some((mock, world)) = real(fixtures).await else { return };
    let mut task = world.task("greet me");
    task.system = Some("Be brief.".to_owned());
    let ran = world.run(task).await;
    // What the machine's kernel offers the harness is no matter here.
    let story = ran.story().replace(r#""sandbox_available":false"#, r#""sandbox_available":true"#);
    insta::assert_snapshot!(format!("{story}error {}\n", ran.error()));
    let journal = mock.journal().await;
    // The mock takes a request only with the key, which the harness was never given.
    assert_eq!((journal.len(), &journal[0]["response"]["status"]), (1, &json!(200)));
    let messages = journal[0]["body"]["messages"].to_string();
    assert!(messages.contains("Be brief.") && messages.contains("greet me"), "{messages}");
}

#[tokio::test]
async fn a_shell_command_is_run_and_audited_with_what_came_back() {
    let mut fixtures = command("build it", "echo built && exit 3", "Built.").to_vec();
    fixtures.extend(command("look", "pwd", "Seen."));
    let Some((_mock, world)) = real(json!(fixtures)).await else { return };
    let mut task = world.task("build it");
    task.permissions.mode = PermissionMode::Permissive;
    let ran = world.run(task).await;
    assert_eq!(
        (ran.outcome.finish_reason, ran.outcome.output.as_str()),
        (FinishReason::Done, "Built."),
        "{}",
        ran.error()
    );
    // A command that fails is an error, also where the harness calls its step done.
    assert_eq!(calls(&ran), [owned("run_command", "error", "built\r\n")]);
    assert_eq!(ran.of(EventKind::ToolRequest).next().expect("told")["id"], "call_1");
    // No question was asked.
    assert_eq!(ran.notifications("approval"), Vec::<Value>::new());
}

#[tokio::test]
async fn the_hosts_policy_accepts_one_command_and_declines_another() {
    let mut fixtures = command("accepted", "echo hello", "It ran.").to_vec();
    fixtures.extend(command("declined", "touch made.txt", "It may not."));
    let Some((_mock, world)) = real(json!(fixtures)).await else { return };
    for (goal, wanted, output) in [
        ("accepted", owned("run_command", "ok", "hello\r\n"), "It ran."),
        ("declined", owned("run_command", "declined", ""), "It may not."),
    ] {
        let mut task = world.task(goal);
        task.permissions.allowed_tools = vec!["run_command".to_owned()];
        let ran = world.run(task).await;
        assert_eq!(ran.outcome.output, output, "{}", ran.error());
        let told = calls(&ran);
        assert_eq!((&told[0].0, &told[0].1), (&wanted.0, &wanted.1));
        assert!(wanted.2.is_empty() || told[0].2 == wanted.2, "{told:?}");
        let asked = ran.notifications("approval");
        assert_eq!((asked.len(), &asked[0]["allowed"]), (1, &json!(goal == "accepted")), "{asked:?}");
    }
    assert!(!world.workspace.path().join("made.txt").exists());
}

/// Section 14, item 8: without a word of the task, the web is asked for; here the policy declines.
#[tokio::test]
async fn defect_14_08_the_default_mode_does_not_read_the_web_unasked() {
    let arguments = json!({ "Url": "http://127.0.0.1:1/" }).to_string();
    let fixtures = json!([
        { "match": { "userMessage": "read", "sequenceIndex": 0 },
            "response": { "toolCalls": [{ "id": "c", "name": "read_url_content", "arguments": arguments }] } },
        { "match": { "userMessage": "read", "sequenceIndex": 1 }, "response": { "content": "Not read." } },
    ]);
    let Some((_mock, world)) = real(fixtures).await else { return };
    let ran = world.run(world.task("read a page")).await;
    assert_eq!(ran.outcome.output, "Not read.", "{}", ran.error());
    assert_eq!(calls(&ran)[0].1, "declined");
    assert_eq!(ran.notifications("approval")[0]["allowed"], json!(false));
}

#[tokio::test]
async fn a_cancel_ends_a_running_command_and_leaves_no_process_and_the_key_was_in_none() {
    let sleep = format!("sleep 60{}", std::process::id());
    let Some((_mock, world)) = real(json!(command("wait", &sleep, "Waited."))).await else { return };
    let mut task = world.task("wait for it");
    task.permissions.mode = PermissionMode::Permissive;
    let mut run = world.host.run(world.request(task)).await.expect("started");
    let mut events = world.host.subscribe(run.id(), 1).await.expect("events");
    let mut running = Vec::new();
    for _ in 0..600 {
        running = processes(&sleep);
        if !running.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!running.is_empty(), "the command runs");
    for (folder, seen) in running.iter().chain(&processes("peers/localharness")) {
        assert!(!seen.contains(KEY), "{}: {seen}", folder.display());
    }
    assert_eq!(world.host.cancel(run.id()).await.expect("a receipt"), CancelReceipt::Requested);
    let outcome = run.outcome().await.expect("a log that can be written");
    while events.next().await.expect("records").is_some() {}
    let ran = world.ran(run.id(), outcome).await;
    assert_eq!(ran.outcome.finish_reason, FinishReason::Interrupted, "{}", ran.error());
    assert_eq!(calls(&ran)[0].1, "requested");
    assert!(ran.outcome.session_id.is_some());
    assert!(gone(&sleep).await, "the command was left behind");
}

#[tokio::test]
async fn a_conversation_goes_on_in_a_new_program() {
    let fixtures = json!([
        { "match": { "userMessage": "first" },
            "response": { "content": "One.", "usage": { "input_tokens": 11, "output_tokens": 7 } } },
        { "match": { "userMessage": "second" },
            "response": { "content": "Two.", "usage": { "input_tokens": 30, "output_tokens": 2 } } },
    ]);
    let Some((mock, world)) = real(fixtures).await else { return };
    let first = world.run(world.task("the first")).await;
    let id = first.outcome.session_id.clone().expect("a conversation");
    let mut task = world.task("the second");
    task.session_id = Some(id.clone());
    let second = world.run(task).await;
    assert_eq!(second.outcome.output, "Two.", "{}", second.error());
    assert_eq!(second.outcome.session_id.as_deref(), Some(id.as_str()));
    // Of this run alone, though the harness counts the whole conversation.
    assert_eq!((second.outcome.usage.input_tokens, second.outcome.usage.output_tokens), (Some(30), Some(2)));
    let journal = mock.journal().await;
    assert!(journal.last().expect("asked").to_string().contains("One."), "the model was told what was said before");

    let mut other = world.task("the second");
    other.session_id = Some("0123456789abcdef0123456789abcdef".to_owned());
    let missing = world.run(other).await;
    assert_eq!(missing.error(), "not-found/conversation");
}

#[tokio::test]
async fn failures_of_the_vendor_are_typed() {
    let failing = |prompt: &str, status: u16, kind: &str| {
        json!({ "match": { "userMessage": prompt },
            "response": { "error": { "message": "no", "type": kind }, "status": status } })
    };
    let fixtures = json!([
        failing("bad request", 400, "invalid_request_error"),
        failing("bad key", 401, "authentication_error"),
        failing("too much", 429, "rate_limit_error"),
        { "match": { "userMessage": "cut" }, "response": { "content": "partial", "finishReason": "length" } },
        // The harness asks again, in these words.
        { "match": { "userMessage": "maximum output token limit" },
            "response": { "content": "partial", "finishReason": "length" } },
    ]);
    let Some((_mock, world)) = real(fixtures).await else { return };
    for (goal, reason, error) in [
        ("bad request", FinishReason::Failed, "invalid/request"),
        ("bad key", FinishReason::Failed, "denied/credential"),
        ("too much", FinishReason::Failed, "unavailable/rate-limited"),
        ("cut", FinishReason::MaxTokens, "limit/max-tokens"),
    ] {
        let ran = world.run(world.task(goal)).await;
        assert_eq!(
            (ran.outcome.finish_reason, ran.error().as_str()),
            (reason, error),
            "{goal}: {:?}",
            ran.outcome.error
        );
        assert!(ran.outcome.session_id.is_some());
    }
}

/// Section 14, item 2: the harness's own bound ends a model that calls for ever, with its usage kept.
#[tokio::test]
async fn defect_14_02_a_bound_of_the_harness_ends_a_loop() {
    let arguments = json!({ "AbsolutePath": "/nowhere.txt" }).to_string();
    let fixtures = json!([{ "match": { "userMessage": "loop" },
        "response": { "toolCalls": [{ "id": "c", "name": "view_file", "arguments": arguments }] } }]);
    let Some((_mock, world)) = real(fixtures).await else { return };
    let mut task = world.task("loop");
    task.max_rounds = Some(3);
    let ran = world.run(task).await;
    assert_eq!((ran.outcome.finish_reason, ran.error().as_str()), (FinishReason::MaxTurns, "limit/max-turns"));
}

/// The harness tells its tokens after each call of its model, and the host stops it when they have cost too much.
#[tokio::test]
async fn a_budget_that_is_spent_stops_the_run() {
    let arguments = json!({ "AbsolutePath": "/nowhere.txt" }).to_string();
    let fixtures = json!([{ "match": { "userMessage": "loop" }, "latency": 100, "response": {
        "toolCalls": [{ "id": "c", "name": "view_file", "arguments": arguments }],
        "usage": { "input_tokens": 15, "output_tokens": 5 } } }]);
    // A dollar for each token, twenty dollars a call.
    let calls_max = 60;
    let priced =
        |setup: Setup| setup.setting("model_calls_max", json!(calls_max)).price("gemini-3.5-flash", 1_000_000.0);
    let Some((mock, world)) = real_with(fixtures, priced).await else { return };
    let mut task = world.task("loop");
    task.budget_usd = Some(50.0);
    let ran = world.run(task).await;
    assert_eq!((ran.outcome.finish_reason, ran.error().as_str()), (FinishReason::Failed, "limit/budget"));
    let costs: Vec<f64> = ran.notifications("cost").iter().filter_map(|data| data["estimate_usd"].as_f64()).collect();
    assert!(costs.iter().any(|cost| *cost > 50.0), "{costs:?}");
    // The harness waits for nobody between its calls, so how many more it makes is a matter of time; not all, though.
    let asked = mock.journal().await.len();
    assert!((3..calls_max).contains(&asked), "asked {asked} times: {costs:?}");
    assert!(ran.outcome.session_id.is_some());
}

#[tokio::test]
async fn a_structured_answer_comes_from_the_finish_tool() {
    let arguments = json!({ "ok": true }).to_string();
    let fixtures = json!([{ "match": { "userMessage": "decide" },
        "response": { "toolCalls": [{ "id": "c", "name": "finish", "arguments": arguments }] } }]);
    let Some((_mock, world)) = real(fixtures).await else { return };
    let mut task = world.task("decide");
    task.output_schema =
        Some(json!({ "type": "object", "properties": { "ok": { "type": "boolean" } }, "required": ["ok"] }));
    let ran = world.run(task).await;
    assert_eq!((ran.outcome.parsed_output.clone(), ran.error().as_str()), (Some(json!({ "ok": true })), "none"));
}

/// The program greets without the end of a line: an end that could begin a secret must not be held back for ever.
#[tokio::test]
async fn the_greeting_always_comes() {
    let fixtures = json!([{ "match": { "userMessage": "again" }, "response": { "content": "Again." } }]);
    let Some((_mock, world)) = real(fixtures).await else { return };
    for _ in 0..12 {
        let ran = world.run(world.task("again")).await;
        assert_eq!(ran.outcome.output, "Again.", "{}", ran.error());
    }
}
