//! The ACP plugin with real agents: Zed's codex-acp and Gemini CLI, each in an empty environment and a home of the host's,
//! their models played by `aimock`, which takes the right key and no other.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::bench::{self, after_tools, failing, of, processes, terminal};
use crate::command::Home;
use crate::peer::{Aimock, installed};
use crate::world::KEY;

/// Seconds that a command of the tests sleeps; told apart from all else on the machine by its number.
const SLEEP_S: u32 = 4711;

/// An agent with its model, under the command.
struct Bench {
    of: bench::Bench,
    program: PathBuf,
}

impl std::ops::Deref for Bench {
    type Target = bench::Bench;

    fn deref(&self) -> &bench::Bench {
        &self.of
    }
}

impl Bench {
    /// None where the agent or the mock is not installed.
    async fn open(agent: &str, api: &str, program: &str, fixtures: Value, approvals: Value) -> Option<Self> {
        let program = installed(agent, program)?;
        let mock = Aimock::start(KEY, &json!({ "fixtures": fixtures })).await?;
        let (path, secret) = if api == "openai" { ("/v1", "OPENAI_API_KEY") } else { ("", "GEMINI_API_KEY") };
        let url = format!("{}{path}", mock.url());
        let command = program.display().to_string();
        let variables =
            ["MIDPLANE_TOKEN", "NO_BROWSER", "GEMINI_CLI_TRUST_WORKSPACE", "GOOGLE_GEMINI_BASE_URL", "GEMINI_API_KEY"];
        let mut grants = vec![format!("http:{url}"), format!("secret:{secret}"), format!("command:{command}")];
        grants.extend(variables.map(|name| format!("env:{name}")));
        let mut settings = json!({ "agent": agent, "program": command, "model": "gemini-2.5-pro" });
        settings[format!("{api}_url")] = json!(url);
        let config =
            json!({ "profiles": { "acp": { "settings": settings, "grants": grants, "approvals": approvals } } });
        let home = Home::new().config(&config.to_string()).env(secret, KEY);
        Some(Self { of: bench::Bench::new("acp", mock, home), program })
    }
}

/// Finish reason, code of the error, and output.
fn ended(events: &[Value]) -> (&str, &str, &str) {
    let [reason, _, code, output] = bench::ended(events);
    (reason, code, output)
}

/// The calls that were told: name or id, and how each ended.
fn calls(events: &[Value]) -> Vec<(&str, &str)> {
    bench::calls(events).into_iter().map(|[name, status, _]| (name, status)).collect()
}

fn command(goal: &str, tool: &str, arguments: &Value) -> Value {
    json!({ "match": { "userMessage": goal, "hasToolResult": false }, "response": { "toolCalls": [
        { "id": "call_1", "name": tool, "arguments": arguments.to_string() } ] } })
}

/// A command that writes. In the host's sandbox codex asks for it, since it has none of its own then; else its own sandbox
/// refuses it, and the model wants out of that, for which codex asks as well.
fn execute(goal: &str, line: &str, printed: &str) -> [Value; 3] {
    let call = |id: &str, arguments: &Value| json!({ "toolCalls": [{ "id": id, "name": "exec_command", "arguments": arguments.to_string() }] });
    let escalated = json!({ "cmd": line, "sandbox_permissions": "require_escalated", "justification": "May I?" });
    [
        json!({ "match": { "userMessage": goal, "toolResultContains": printed }, "response": { "content": "The tool is done." } }),
        json!({ "match": { "userMessage": goal, "hasToolResult": false }, "response": call("call_1", &json!({ "cmd": line })) }),
        json!({ "match": { "userMessage": goal, "hasToolResult": true }, "response": call("call_2", &escalated) }),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_acp_from_a_prompt_to_a_cancel() {
    let sleep = format!("touch slept && sleep {SLEEP_S}");
    let make = "touch made-42 && echo out-42";
    let mut fixtures = vec![
        json!({ "match": { "userMessage": "greet" }, "response": { "content": "Hello from the model." } }),
        json!({ "match": { "userMessage": "again" }, "response": { "content": "Hello again." } }),
        failing("wrong", 400, "invalid_request_error"),
    ];
    fixtures.extend(execute("make it", make, "out-42"));
    fixtures.extend(execute("never", "touch never && echo no-42", "no-42"));
    fixtures.extend(execute("sleep", &sleep, "no end"));
    let approvals = json!({ "otherwise": "decline", "rules": [
        { "kind": "command", "title": make, "allow": true }, { "kind": "command", "title": sleep, "allow": true } ] });
    let script = "target/peers/node_modules/.bin/codex-acp";
    let Some(bench) = Bench::open("codex-acp", "openai", script, json!(fixtures), approvals).await else { return };
    let cautious = ["--mode", "cautious", "--timeout", "120s"];

    // A prompt; what the agent says of its own is no text of the model.
    let (ran, events) = bench.run("greet me", &[]);
    assert_eq!((ran.code, ended(&events)), (Some(0), ("done", "", "Hello from the model.")), "{ran:?}");
    let session = terminal(&events)["session_id"].as_str().expect("a session").to_owned();

    // The same conversation in a new process of host and agent: the history is sent to the model and not told again.
    let (ran, events) = bench.run("again", &["--conversation", &session]);
    assert_eq!((ran.code, ended(&events)), (Some(0), ("done", "", "Hello again.")), "{ran:?}");
    let said: String = of(&events, "assistant_text").iter().filter_map(|data| data["text"].as_str()).collect();
    assert_eq!(said, "Hello again.");
    let journal = bench.mock.journal().await;
    let sent = journal.last().expect("a request")["body"]["messages"].to_string();
    assert!(sent.contains("greet me") && sent.contains("Hello from the model."), "{sent}");

    // A command that policy allows, and one that it does not.
    let (ran, events) = bench.run("make it", &cautious);
    assert_eq!((ran.code, ended(&events)), (Some(0), ("done", "", "The tool is done.")), "{ran:?}");
    assert_eq!(calls(&events), [("execute", "ok")]);
    assert_eq!(of(&events, "tool_response")[0]["preview"], "out-42\n");
    let (_, events) = bench.run("never", &cautious);
    assert_eq!(ended(&events), ("interrupted", "agent-cancelled", ""));
    assert_eq!(calls(&events), [("execute", "declined")]);
    assert!(!bench.folder.path().join("never").exists());

    // The vendor's failure has its class.
    let (ran, events) = bench.run("wrong", &[]);
    assert_eq!(ended(&events), ("failed", "request", ""), "{ran:?}");

    // A cancel while a command runs.
    let arguments = bench.arguments("sleep", &cautious);
    let mut run = bench.home.start(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let mut lines = BufReader::new(run.stdout.take().expect("stdout")).lines();
    let mut events = Vec::new();
    let mut next = |until: &str| loop {
        let line = lines.next().expect("more events").expect("text");
        events.push(serde_json::from_str::<Value>(&line).expect("JSON"));
        if events.last().is_some_and(|event| event["kind"] == until) {
            break;
        }
    };
    next("tool_request");
    let sleeping = || processes(&format!("sleep {SLEEP_S}"));
    while sleeping().is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // Neither the key nor anything else of the operator's environment is in any process of the agent.
    let program = bench.program.parent().expect("a folder").display().to_string();
    let seen = [processes(&program), processes("codex-acp-linux"), sleeping()].concat();
    assert!(seen.iter().any(|(_, all)| all.contains("MIDPLANE_TOKEN=")), "{seen:?}");
    // What the agent runs has no need of it.
    assert!(sleeping().iter().all(|(_, all)| !all.contains("MIDPLANE_TOKEN=")), "{seen:?}");
    for (folder, all) in &seen {
        // The host's own process has the program among its arguments' values only in its configuration.
        assert!(!all.contains(KEY), "{}: {all}", folder.display());
        let arguments = all.lines().next().unwrap_or_default();
        assert!(!arguments.contains("MIDPLANE_TOKEN="), "{arguments}");
    }
    let pid = rustix::process::Pid::from_child(&run);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("signalled");
    next("runtime_terminal");
    assert_eq!(run.wait().expect("ended").code(), Some(130));
    assert_eq!((ended(&events).0, calls(&events)), ("interrupted", vec![("execute", "cancelled")]));
    assert!(sleeping().is_empty(), "a command outlived its run: {:?}", sleeping());
}

#[tokio::test(flavor = "multi_thread")]
async fn gemini_cli_asks_before_it_writes() {
    let touch = |goal: &str, file: &str| {
        command(goal, "run_shell_command", &json!({ "command": format!("touch {file}"), "description": "make it" }))
    };
    let fixtures = json!([
        touch("make it", "made-42"),
        after_tools("make it"),
        touch("not it", "not-42"),
        after_tools("not it"),
        failing("refused", 401, "authentication_error"),
    ]);
    let approvals =
        json!({ "otherwise": "decline", "rules": [{ "kind": "command", "title": "touch made-*", "allow": true }] });
    let script = "target/peers/node_modules/.bin/gemini";
    let Some(bench) = Bench::open("gemini", "gemini", script, fixtures, approvals).await else { return };

    // It asks for a call that it has not announced, and its question has the id 0.
    let (ran, events) = bench.run("make it", &[]);
    assert_eq!((ran.code, ended(&events)), (Some(0), ("done", "", "The tool is done.")), "{ran:?}");
    assert_eq!(calls(&events), [("run_shell_command", "ok")]);
    assert!(bench.folder.path().join("made-42").exists());
    assert!(terminal(&events)["usage"]["input_tokens"].is_u64(), "{}", terminal(&events));

    // It says nothing more of a call that was declined, and goes on.
    let (_, events) = bench.run("not it", &[]);
    assert_eq!(ended(&events), ("done", "", "The tool is done."));
    assert_eq!(calls(&events), [("run_shell_command", "declined")]);
    assert!(!bench.folder.path().join("not-42").exists());

    // Its error has the status of the vendor as its code.
    let (ran, events) = bench.run("refused", &[]);
    assert_eq!((ended(&events).0, ended(&events).1), ("failed", "credential"), "{ran:?}");
}
