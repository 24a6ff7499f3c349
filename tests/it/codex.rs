//! The Codex plugin with the real `codex`, in an empty environment and a home of the host's, its model played by `aimock`,
//! which takes the right key and no other.

use std::io::{BufRead as _, BufReader};

use serde_json::{Value, json};

use crate::bench::{Bench, after_tools, calls, ended, failing, of, processes, terminal, told};
use crate::command::Home;
use crate::peer::{Aimock, installed};
use crate::world::KEY;

/// The native program: npm's launcher would be one process more.
const PROGRAM: &str = "target/peers/node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex";
/// Seconds that a command of the tests sleeps; told apart from all else on the machine by its number.
const SLEEP_S: u32 = 4723;

/// None where the program or the mock is not installed.
async fn open(fixtures: Value, approvals: Value) -> Option<Bench> {
    open_in(fixtures, approvals, "host").await
}

/// The same with a sandbox of the host's around the program, or with the program's `own` around its commands. In the
/// host's, it runs what it likes without a question, since it cannot leave.
async fn open_in(fixtures: Value, approvals: Value, sandbox: &str) -> Option<Bench> {
    let program = installed("codex", PROGRAM)?.display().to_string();
    let mock = Aimock::start(KEY, &json!({ "fixtures": fixtures })).await?;
    let url = format!("{}/v1", mock.url());
    let own = ["secret:OPENAI_API_KEY".to_owned(), "env:CODEX_HOME".to_owned()];
    let grants = [vec![format!("http:{url}"), format!("command:{program}")], own.to_vec()].concat();
    let settings = json!({
        "program": program, "base_url": url, "model": "mock-model",
        // A vendor that fails is asked once more and not for minutes.
        "config": { "model_providers.midplane.request_max_retries": 1, "model_providers.midplane.stream_max_retries": 1 },
    });
    let profile =
        json!({ "settings": settings, "grants": grants, "approvals": approvals, "sandbox": { "mode": sandbox } });
    // A dollar for each token.
    let prices = json!({ "mock-model": { "input": 1_000_000.0, "output": 1_000_000.0 } });
    let config = json!({ "profiles": { "codex": profile }, "prices": prices });
    let home = Home::new().config(&config.to_string()).env("OPENAI_API_KEY", KEY);
    Some(Bench::new("codex", mock, home))
}

/// A model that calls the vendor's shell.
fn command(goal: &str, arguments: &Value) -> Value {
    json!({ "match": { "userMessage": goal, "hasToolResult": false }, "response": { "content": "Let me look.", "toolCalls": [
        { "id": format!("call_{goal}"), "name": "exec_command", "arguments": arguments.to_string() } ] } })
}

/// One that it must ask for, since it wants out of its sandbox.
fn escalated(goal: &str, line: &str) -> Value {
    command(goal, &json!({ "cmd": line, "sandbox_permissions": "require_escalated", "justification": "May I?" }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_commands_a_patch_questions_a_resume_and_an_answer_in_a_schema() {
    let patch = "apply_patch <<'EOF'\n*** Begin Patch\n*** Add File: new.txt\n+hi\n*** End Patch\nEOF";
    let fixtures = json!([
        { "match": { "userMessage": "greet" }, "response": { "content": "Hello from the model." } },
        { "match": { "userMessage": "again" }, "response": { "content": "Hello again." } },
        { "match": { "userMessage": "shape" }, "response": { "content": "{\"ok\":true}" } },
        command("shell", &json!({ "cmd": "echo out-42; exit 3" })), after_tools("shell"),
        command("patch", &json!({ "cmd": patch })), after_tools("patch"),
        escalated("allowed", "touch allowed.txt"), after_tools("allowed"),
        escalated("refused", "touch refused.txt"), after_tools("refused"),
    ]);
    let approvals = json!({ "otherwise": "decline", "rules": [
        { "kind": "command", "title": "/bin/bash -lc 'touch allowed.txt'", "allow": true } ] });
    let Some(bench) = open_in(fixtures, approvals, "own").await else { return };

    let (ran, events) = bench.run("greet me", &[]);
    assert_eq!((ran.code, ended(&events)), (Some(0), ["done", "", "", "Hello from the model."]), "{ran:?}");
    assert_eq!(of(&events, "runtime_started")[0]["vendor_version"], "0.169.0");
    let session = terminal(&events)["session_id"].as_str().expect("a session").to_owned();

    // The same conversation in a new process of host and program: the model is sent what was said before.
    let (ran, events) = bench.run("again", &["--conversation", &session]);
    assert_eq!((ran.code, ended(&events)), (Some(0), ["done", "", "", "Hello again."]), "{ran:?}");
    assert_eq!(terminal(&events)["session_id"], session.as_str());
    let said = of(&events, "assistant_text");
    assert_eq!(said.len(), 1, "what was said before is not told again: {said:?}");
    let journal = bench.mock.journal().await;
    let last = journal.last().expect("a request").to_string();
    assert!(last.contains("greet me") && last.contains("Hello from the model."), "{last}");

    // A command that fails is an error; text before it is told, and is not the answer.
    let (ran, events) = bench.run("shell", &[]);
    assert_eq!((ran.code, ended(&events)), (Some(0), ["done", "", "", "The tool is done."]), "{ran:?}");
    assert_eq!(calls(&events), [["command", "error", "out-42\n"]]);
    let said: String = of(&events, "assistant_text").iter().filter_map(|data| data["text"].as_str()).collect();
    assert_eq!(said, "Let me look.The tool is done.");
    assert_eq!(terminal(&events)["rounds"], 2);

    // A change of a file is audited and told.
    let (ran, events) = bench.run("patch", &[]);
    assert_eq!((ran.code, calls(&events)), (Some(0), vec![["file_change", "ok", ""]]), "{ran:?}");
    let changes = told(&events, "file_change");
    assert_eq!((changes.len(), &changes[0]["path"], &changes[0]["change"]), (1, &json!("new.txt"), &json!("add")));
    assert_eq!(std::fs::read_to_string(bench.folder.path().join("new.txt")).expect("written"), "hi\n");

    // What a rule allows is done, for what none allows the answer is no, and the model goes on with it.
    for (goal, status) in [("allowed", "ok"), ("refused", "declined")] {
        let (ran, events) = bench.run(goal, &[]);
        assert_eq!((ran.code, ended(&events)), (Some(0), ["done", "", "", "The tool is done."]), "{ran:?}");
        assert_eq!(calls(&events), [["command", status, ""]]);
        let asked = told(&events, "approval");
        assert_eq!((asked.len(), asked[0]["allowed"].as_bool()), (1, Some(status == "ok")), "{asked:?}");
        assert_eq!(bench.folder.path().join(format!("{goal}.txt")).exists(), status == "ok");
    }

    let schema =
        r#"{"type":"object","properties":{"ok":{"type":"boolean"}},"required":["ok"],"additionalProperties":false}"#;
    let (ran, events) = bench.run("shape", &["--output-schema", schema]);
    assert_eq!((ran.code, &terminal(&events)["parsed_output"]), (Some(0), &json!({ "ok": true })), "{ran:?}");
}

/// The vendor's own limits of files hold whatever the model asks for, and its strict mode reads only.
#[tokio::test(flavor = "multi_thread")]
async fn a_strict_task_writes_nothing() {
    let fixtures = json!([command("write", &json!({ "cmd": "touch strict.txt" })), after_tools("write")]);
    let Some(bench) = open(fixtures, json!({ "otherwise": "decline" })).await else { return };
    let (ran, events) = bench.run("write", &["--mode", "strict"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(calls(&events)[0][..2], ["command", "error"], "{events:#?}");
    assert!(!bench.folder.path().join("strict.txt").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_ends_the_running_command_and_the_session_can_go_on() {
    let sleep = format!("sleep {SLEEP_S}");
    let fixtures = json!([
        command("wait", &json!({ "cmd": sleep, "yield_time_ms": 60_000 })),
        { "match": { "userMessage": "go on" }, "response": { "content": "Gone on." } },
    ]);
    let Some(bench) = open(fixtures, json!({ "otherwise": "decline" })).await else { return };
    let arguments = bench.arguments("wait", &[]);
    let mut child = bench.home.start(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let mut events: Vec<Value> = Vec::new();
    let lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
    for line in lines.map_while(Result::ok) {
        let event: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let is_begun = event["kind"] == "tool_request";
        events.push(event);
        if is_begun {
            // The request is told before the command runs.
            let began = std::time::Instant::now();
            while processes(&sleep).is_empty() && began.elapsed().as_secs() < 30 {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            let running = processes(&sleep);
            assert!(!running.is_empty(), "the command runs");
            // Neither it nor the program above it was given a key.
            for (folder, seen) in running.iter().chain(&processes("app-server --listen stdio://")) {
                assert!(!seen.contains(KEY), "{}: {seen}", folder.display());
            }
            let id = events[0]["run_id"].as_str().expect("an id");
            let cancelled = bench.home.run(&["runs", "cancel", id]);
            assert_eq!(cancelled.code, Some(0), "{cancelled:?}");
        }
    }
    let status = child.wait().expect("it ends");
    assert_eq!((status.code(), ended(&events)[0]), (Some(130), "interrupted"), "{events:#?}");
    assert_eq!(calls(&events)[0][..1], ["command"]);
    assert_eq!(processes(&sleep), [], "nothing is left");

    let session = terminal(&events)["session_id"].as_str().expect("a session").to_owned();
    let (ran, events) = bench.run("go on", &["--conversation", &session]);
    assert_eq!((ran.code, ended(&events)), (Some(0), ["done", "", "", "Gone on."]), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_vendor_is_a_typed_end_that_keeps_its_session() {
    let rows = [
        ("wrong", 400, "invalid_request_error", ["failed", "invalid", "request", ""]),
        ("nokey", 401, "authentication_error", ["failed", "denied", "credential", ""]),
        ("many", 429, "rate_limit_error", ["failed", "unavailable", "rate-limited", ""]),
        ("broken", 500, "server_error", ["failed", "unavailable", "vendor-error", ""]),
    ];
    let mut fixtures: Vec<Value> = rows.iter().map(|(goal, status, kind, _)| failing(goal, *status, kind)).collect();
    fixtures.push(json!({ "match": { "userMessage": "cut" }, "latency": 300, "disconnectAfterMs": 700,
        "chunkSize": 5, "response": { "content": "This is cut before it is complete." } }));
    let Some(bench) = open(json!(fixtures), json!({ "otherwise": "decline" })).await else { return };
    for (goal, _, _, wanted) in rows {
        let (ran, events) = bench.run(goal, &[]);
        assert_eq!(ended(&events), wanted, "{ran:?}");
        assert!(terminal(&events)["session_id"].is_string(), "{ran:?}");
    }
    let (ran, events) = bench.run("cut", &[]);
    assert_eq!(ended(&events)[..3], ["failed", "unavailable", "stream-truncated"], "{ran:?}");
    let (ran, events) = bench.run("again", &["--conversation", "01a1fe3f-825c-78f2-ab59-1cccbacf85cd"]);
    assert_eq!(ended(&events)[..3], ["failed", "not-found", "session"], "{ran:?}");
}

/// The program tells its tokens after each request, and the host stops it when they have cost too much: a model that
/// calls for ever is asked no more than three times.
#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_is_spent_stops_the_run() {
    let mut again = command("loop", &json!({ "cmd": "echo again" }));
    again["match"] = json!({ "userMessage": "loop" });
    again["response"]["usage"] = json!({ "input_tokens": 15, "output_tokens": 5, "total_tokens": 20 });
    let Some(bench) = open(json!([again]), json!({ "otherwise": "decline" })).await else { return };
    let (ran, events) = bench.run("loop", &["--budget-usd", "50"]);
    assert_eq!(ended(&events)[..3], ["failed", "limit", "budget"], "{ran:?}");
    let costs: Vec<f64> = told(&events, "cost").iter().filter_map(|data| data["estimate_usd"].as_f64()).collect();
    assert_eq!(costs.iter().find(|cost| **cost > 50.0), Some(&60.0), "{costs:?}");
    // The request that follows may be on its way when the run is stopped, and none after it.
    let asked = bench.mock.journal().await.len();
    assert!((3..=4).contains(&asked), "asked {asked} times");
    assert!(terminal(&events)["session_id"].is_string(), "{ran:?}");
}

#[tokio::test]
async fn a_missing_program_is_named_with_how_to_get_it() {
    let profile = json!({ "settings": { "program": "no-such-codex", "codex_home": "/nonexistent" },
        "grants": ["command:no-such-codex", "env:CODEX_HOME"] });
    let home = Home::new().config(&json!({ "profiles": { "codex": profile } }).to_string());
    let ran = home.run(&["run", "codex", "--json", "--goal", "x"]);
    let events = ran.lines();
    assert_eq!(ended(&events)[..3], ["failed", "not-found", "program"], "{ran:?}");
    let message = terminal(&events)["error"].to_string();
    assert!(message.contains("`no-such-codex`") && message.contains("npm install --global @openai/codex"), "{message}");
}
