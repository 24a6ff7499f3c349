//! What can go wrong with an agent that is no fault of the run: its program is missing, old, says garbage, dies, hangs, floods
//! or closes its pipes; there is no credential; the task asks for what the agent cannot do. The same list for all of
//! them, through the command: whoever the vendor is, the end is typed, what was heard is kept, and nothing is left running.

use std::path::Path;

use serde_json::{Value, json};

use crate::command::{Home, Printed};

/// Takes a connection from nobody.
const NOWHERE: &str = "http://127.0.0.1:1";

/// An agent with a program of its own, which a script plays.
struct Vendor {
    /// Profile and plugin.
    name: &'static str,
    /// Its settings but for the program.
    settings: Value,
    /// Its grants but for the program.
    grants: &'static [&'static str],
    secret: &'static str,
    /// What the program does: up to a turn in which a text, a tool and usage were heard, and then these steps. Without any it
    /// says a version that is too old.
    script: fn(Option<Vec<Value>>) -> Value,
}

const VENDORS: [fn() -> Vendor; 4] = [acp, antigravity, claude_code, codex];

fn acp() -> Vendor {
    let grants = &["env:GEMINI_CLI_TRUST_WORKSPACE", "env:GOOGLE_GEMINI_BASE_URL", "env:GEMINI_API_KEY"];
    let settings = json!({ "agent": "gemini", "gemini_url": NOWHERE });
    Vendor { name: "acp", settings, grants, secret: "GEMINI_API_KEY", script: acp_script }
}

fn acp_script(then: Option<Vec<Value>>) -> Value {
    let answer = |method: &str, result: Value, steps: Vec<Value>| {
        let write = json!({ "write": { "jsonrpc": "2.0", "id": "{{id}}", "result": result } });
        let steps: Vec<Value> = std::iter::once(write).chain(steps).collect();
        json!({ "on": { "method": method }, "capture": { "id": "/id" }, "steps": steps })
    };
    let told = |update: Value| json!({ "write": { "jsonrpc": "2.0", "method": "session/update", "params": { "sessionId": "s-1", "update": update } } });
    let version = if then.is_some() { "0.61.0" } else { "0.12.0" };
    let greeting = json!({ "protocolVersion": 1, "agentInfo": { "name": "gemini-cli", "version": version } });
    let mut steps = vec![
        told(json!({ "sessionUpdate": "agent_message_chunk", "content": { "type": "text", "text": "So far." },
            "_meta": { "usage": { "inputTokens": 30, "outputTokens": 4, "totalTokens": 34 } } })),
        told(json!({ "sessionUpdate": "tool_call", "toolCallId": "t-1", "title": "make", "kind": "execute",
            "status": "in_progress" })),
    ];
    steps.extend(then.unwrap_or_default());
    let modes = json!({ "currentModeId": "default", "availableModes": [{ "id": "default", "name": "Default" }] });
    json!([
        answer("initialize", greeting, Vec::new()),
        answer("session/new", json!({ "sessionId": "s-1", "modes": modes }), Vec::new()),
        answer("session/set_mode", json!({}), Vec::new()),
        { "on": { "method": "session/prompt" }, "steps": steps },
    ])
}

fn antigravity() -> Vendor {
    let settings = json!({ "base_url": NOWHERE });
    Vendor { name: "antigravity", settings, grants: &[], secret: "GEMINI_API_KEY", script: antigravity_script }
}

fn antigravity_script(then: Option<Vec<Value>>) -> Value {
    let greeting = json!([{ "sized": [8, { "varint": "{{port}}" }, 18, 3, "abc"] }]);
    let step = |mut fields: Value| {
        fields["trajectoryId"] = json!("s-1");
        json!({ "write": { "stepUpdate": fields } })
    };
    let mut steps = vec![
        json!({ "websocket": { "greeting": greeting, "headers": { "x-goog-api-key": "abc" } } }),
        json!({ "expect": { "config": { "$any": true } } }),
        json!({ "write": { "initializeConversationResponse": { "cascadeId": "s-1" }, "seqNum": "1" } }),
        json!({ "expect": { "userInput": { "$any": true } } }),
        json!({ "write": { "trajectoryStateUpdate": { "trajectoryId": "s-1", "state": "STATE_RUNNING" } } }),
        step(json!({ "stepIndex": 0, "source": "SOURCE_USER", "target": "TARGET_MODEL", "state": "STATE_DONE",
            "text": "make it" })),
        step(json!({ "stepIndex": 1, "source": "SOURCE_MODEL", "target": "TARGET_USER", "state": "STATE_ACTIVE",
            "textDelta": "So far." })),
        json!({ "write": { "callHookRequest": { "requestId": "h-1", "preToolArgs": {
            "toolName": "run_command", "argumentsJson": "{}", "callId": "t-1" } } } }),
        // A connection that is closed with something unread takes back what was said last.
        json!({ "expect": { "callHookResponse": { "$any": true } }, "skip": true }),
        json!({ "write": { "usageUpdate": { "agents": [], "total": {
            "promptTokenCount": "30", "cachedContentTokenCount": "0", "candidatesTokenCount": "4",
            "thoughtsTokenCount": "0", "totalTokenCount": "34" } } } }),
    ];
    steps.extend(then.unwrap_or_default());
    json!(steps)
}

fn claude_code() -> Vendor {
    let grants = &[
        "env:ANTHROPIC_AUTH_TOKEN",
        "env:ANTHROPIC_BASE_URL",
        "env:CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
        "env:CLAUDE_CODE_ENTRYPOINT",
        "env:CLAUDE_CODE_SDK_READS_SESSION_STATE",
    ];
    let settings = json!({ "base_url": NOWHERE });
    Vendor { name: "claude-code", settings, grants, secret: "ANTHROPIC_API_KEY", script: claude_script }
}

fn claude_script(then: Option<Vec<Value>>) -> Value {
    let initialized = json!({ "on": { "type": "control_request", "request": { "subtype": "initialize" } },
        "capture": { "id": "/request_id" },
        "steps": [{ "write": { "type": "control_response", "response": {
            "subtype": "success", "request_id": "{{id}}", "response": {} } } }] });
    let version = if then.is_some() { "2.1.330" } else { "2.0.1" };
    let message = json!({ "id": "m-1", "role": "assistant", "model": "claude-x",
        "usage": { "input_tokens": 30, "output_tokens": 4 },
        "content": [{ "type": "text", "text": "So far." },
            { "type": "tool_use", "id": "t-1", "name": "Bash", "input": { "command": "make" } }] });
    let mut steps = vec![
        json!({ "write": { "type": "system", "subtype": "init", "session_id": "s-1", "model": "claude-x",
            "claude_code_version": version } }),
        json!({ "write": { "type": "assistant", "parent_tool_use_id": null, "session_id": "s-1", "message": message } }),
    ];
    steps.extend(then.unwrap_or_default());
    json!([initialized, { "on": { "type": "user" }, "steps": steps }])
}

fn codex() -> Vendor {
    let settings = json!({ "base_url": NOWHERE });
    Vendor { name: "codex", settings, grants: &["env:CODEX_HOME"], secret: "OPENAI_API_KEY", script: codex_script }
}

fn codex_script(then: Option<Vec<Value>>) -> Value {
    let answer = |method: &str, result: Value, steps: Vec<Value>| {
        let steps: Vec<Value> =
            std::iter::once(json!({ "write": { "id": "{{id}}", "result": result } })).chain(steps).collect();
        json!({ "on": { "method": method }, "capture": { "id": "/id" }, "steps": steps })
    };
    let told = |method: &str, mut params: Value| {
        (params["threadId"], params["turnId"]) = (json!("s-1"), json!("tu-1"));
        json!({ "write": { "method": method, "params": params } })
    };
    let version = if then.is_some() { "0.163.0" } else { "0.100.0" };
    let used = json!({ "inputTokens": 30, "cachedInputTokens": 0, "outputTokens": 4, "reasoningOutputTokens": 0,
        "totalTokens": 34 });
    let mut steps = vec![
        told("item/completed", json!({ "item": { "type": "agentMessage", "id": "m-1", "text": "So far." } })),
        told(
            "item/started",
            json!({ "item": { "type": "commandExecution", "id": "t-1", "command": "make",
            "status": "inProgress" } }),
        ),
        told("thread/tokenUsage/updated", json!({ "tokenUsage": { "last": used, "total": used } })),
    ];
    steps.extend(then.unwrap_or_default());
    let turn = json!({ "turn": { "id": "tu-1", "items": [], "status": "inProgress" } });
    json!([
        answer("initialize", json!({ "userAgent": format!("codex_cli_rs/{version} (test)") }), Vec::new()),
        answer("thread/start", json!({ "thread": { "id": "s-1" }, "model": "gpt-x" }), Vec::new()),
        answer("turn/start", turn, steps),
    ])
}

/// An agent under the command.
struct Bench {
    vendor: Vendor,
    home: Home,
    folder: tempfile::TempDir,
    workspace: tempfile::TempDir,
}

impl Bench {
    fn new(vendor: Vendor) -> Self {
        Self::with(vendor, true)
    }

    fn with(vendor: Vendor, has_key: bool) -> Self {
        let (folder, workspace) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("workspace"));
        let program = folder.path().join("program").display().to_string();
        let mut settings = vendor.settings.clone();
        settings["program"] = json!(program);
        // Only counted from the first sign of work, so a busy machine makes no difference.
        settings["idle_s"] = json!(1);
        let own = [format!("command:{program}"), format!("http:{NOWHERE}"), format!("secret:{}", vendor.secret)];
        let grants: Vec<String> =
            own.into_iter().chain(vendor.grants.iter().map(|grant| (*grant).to_owned())).collect();
        let config = json!({ "profiles": { vendor.name: { "settings": settings, "grants": grants } } });
        let home = Home::new().config(&config.to_string());
        let home = if has_key { home.env(vendor.secret, "sk-0123456789abcdef") } else { home };
        Self { vendor, home, folder, workspace }
    }

    /// Puts the program there. A script of Antigravity is its steps, one of the others what it answers.
    fn install(&self, script: &Value) {
        let is_steps = script[0].get("on").is_none();
        let steps = if is_steps { script.clone() } else { json!([{ "serve": script }]) };
        let script = json!({ "record": "seen.jsonl", "steps": steps });
        let program = Path::new(env!("CARGO_BIN_EXE_it-program"));
        guest_program::install(program, self.folder.path(), "program", &script).expect("installed");
    }

    fn run(&self) -> Printed {
        let workspace = format!("{}:rw", self.workspace.path().display());
        let fixed = ["run", self.vendor.name, "--json", "--goal", "make it", "--workspace", &workspace];
        self.home.run(&[&fixed[..], &["--timeout", "120s"]].concat())
    }

    /// A text without what differs from machine to machine.
    fn steady(&self, text: &str) -> String {
        let text = text.replace(&self.folder.path().display().to_string(), "FOLDER");
        text.replace(&self.workspace.path().display().to_string(), "WORKSPACE")
    }

    /// Neither the program nor what it started is there any more, of all its starts.
    fn left_nothing(&self, what: &str) {
        for record in guest_program::records(&self.workspace.path().join("seen.jsonl")) {
            for id in [&record["pid"], &record["spawned"]].into_iter().filter_map(Value::as_i64) {
                let id = rustix::process::Pid::from_raw(i32::try_from(id).expect("an id")).expect("an id");
                // What was killed may take the system a moment.
                let gone = (0..300).any(|_| {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                    rustix::process::test_kill_process(id).is_err()
                });
                assert!(gone, "{what}: {record} is still there");
            }
        }
    }
}

/// How a run ended, in lines.
fn shown(bench: &Bench, ran: &Printed) -> String {
    let code = ran.code.map_or_else(|| "none".to_owned(), |code| code.to_string());
    let events = ran.lines();
    let Some(end) = events.iter().rfind(|event| event["kind"] == "runtime_terminal").map(|event| &event["data"]) else {
        return format!("exit {code}\n{}{}", bench.steady(&ran.out), bench.steady(&ran.err));
    };
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let calls: Vec<String> = end["tool_calls"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|call| format!("{} {}", word(&call["name"]), word(&call["status"])))
        .collect();
    let error = &end["error"];
    format!(
        "exit {code}, {} {}/{}\n  {}\n  output {}, session {}, tokens {} and {}, calls {calls:?}\n",
        word(&end["finish_reason"]),
        word(&error["kind"]),
        word(&error["code"]),
        bench.steady(&word(&error["message"])).escape_debug(),
        end["output"],
        word(&end["session_id"]),
        end["usage"]["input_tokens"],
        end["usage"]["output_tokens"],
    )
}

/// What a program does in the middle of its turn.
fn misbehaviours() -> Vec<(&'static str, Vec<Value>)> {
    let flood = |stream: &str, text: &str| json!({ "flood": { "stream": stream, "text": text } });
    let spawned = || json!({ "spawn": ["sleep", "600"] });
    let hang = || json!({ "hang": true });
    let deaf = || json!({ "ignore": ["INT", "TERM", "HUP"] });
    vec![
        ("dies", vec![spawned(), json!({ "stderr": "fatal: \u{1b}[2Jboom\n" }), json!({ "exit": 3 })]),
        ("crashes", vec![spawned(), json!({ "abort": true })]),
        ("hangs", vec![spawned(), deaf(), hang()]),
        ("prints garbage", vec![json!({ "flood": { "text": "no message \u{1b}[31m\n", "times": 3000 } }), hang()]),
        ("floods its output", vec![flood("stdout", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx")]),
        ("floods its errors", vec![flood("stderr", "woe\n")]),
        ("closes its input", vec![json!({ "close": "stdin" }), hang()]),
        ("closes its output", vec![json!({ "close": "stdout" }), hang()]),
    ]
}

/// What came of each: a typed end that keeps what was heard, and nothing that is left.
fn misbehaving(vendor: Vendor) -> String {
    let bench = Bench::new(vendor);
    let mut text = String::new();
    for (what, steps) in misbehaviours() {
        let is_noise = steps.iter().any(|step| step.get("flood").is_some());
        bench.install(&(bench.vendor.script)(Some(steps)));
        let ran = bench.run();
        let mut lines: Vec<String> = shown(&bench, &ran).lines().map(str::to_owned).collect();
        if is_noise && let Some((cause, _)) = lines[1].split_once("; ") {
            // How much of it was read before it was enough depends on the machine.
            lines[1] = cause.to_owned();
        }
        text.push_str(&format!("{what}: {}\n", lines.join("\n")));
        bench.left_nothing(what);
    }
    text
}

// One test each, since each waits for silences.

#[test]
fn an_acp_agent_that_misbehaves() {
    insta::assert_snapshot!(misbehaving(acp()));
}

#[test]
fn antigravity_that_misbehaves() {
    insta::assert_snapshot!(misbehaving(antigravity()));
}

#[test]
fn claude_code_that_misbehaves() {
    insta::assert_snapshot!(misbehaving(claude_code()));
}

#[test]
fn codex_that_misbehaves() {
    insta::assert_snapshot!(misbehaving(codex()));
}

#[test]
fn a_program_that_is_missing_old_or_another_is_named_with_what_to_do() {
    let mut text = String::new();
    for vendor in VENDORS {
        let bench = Bench::new(vendor());
        let mut row = |what: &str| {
            let ran = bench.run();
            text.push_str(&format!("{} {what}: {}", bench.vendor.name, shown(&bench, &ran)));
            bench.left_nothing(what);
        };
        row("is missing");
        bench.install(
            &json!([{ "write": "Usage: program [OPTIONS]" }, { "stderr": "unknown option\n" }, { "exit": 2 }]),
        );
        row("is another program");
        if bench.vendor.name != "antigravity" {
            // The harness does not say its version.
            bench.install(&(bench.vendor.script)(None));
            row("is too old");
        }
        text.push('\n');
    }
    insta::assert_snapshot!(text);
}

#[test]
fn without_a_credential_it_is_said_which_one_and_where_it_is_set() {
    let mut text = String::new();
    for vendor in VENDORS {
        let bench = Bench::with(vendor(), false);
        bench.install(&(bench.vendor.script)(Some(Vec::new())));
        let ran = bench.run();
        text.push_str(&format!("{}: {}", bench.vendor.name, shown(&bench, &ran)));
        // No program is started for a run that could not reach its vendor.
        assert_eq!(guest_program::records(&bench.workspace.path().join("seen.jsonl")), Vec::<Value>::new());
    }
    for (name, secret) in
        [("anthropic", "ANTHROPIC_API_KEY"), ("gemini", "GEMINI_API_KEY"), ("openai", "OPENAI_API_KEY")]
    {
        let grants = [format!("http:{NOWHERE}"), format!("secret:{secret}")];
        let profile = json!({ "settings": { "base_url": NOWHERE }, "grants": grants });
        let home = Home::new().config(&json!({ "profiles": { name: profile } }).to_string());
        let ran = home.run(&["run", name, "--json", "--goal", "x"]);
        text.push_str(&format!("{name}: exit {:?}\n{}{}", ran.code, ran.out, ran.err));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn what_an_agent_cannot_do_is_refused_in_order_before_anything_starts() {
    let folder = tempfile::tempdir().expect("folder");
    let asked = |name: &str, task: Value| {
        let path = folder.path().join(name);
        std::fs::write(&path, task.to_string()).expect("task");
        path.display().to_string()
    };
    // The fields in the order in which they are refused, and the feature that each needs.
    let fields = [
        ("budget_usd", "budget"),
        ("reasoning_effort", "reasoning_effort"),
        ("permissions.network", "network_control"),
        ("permissions.native_profile", "named_permission_profiles"),
        ("permissions.allowed_tools", "tool_filters"),
    ];
    let undeclared = asked(
        "undeclared.yaml",
        json!({ "goal": "x", "reasoning_effort": "high", "budget_usd": 0.5,
            "permissions": { "network": false, "native_profile": "mine", "allowed_tools": ["no such tool"] } }),
    );
    let unwanted = asked("unwanted.yaml", json!({ "goal": "x", "model": "not-a-model" }));
    let names = ["acp", "anthropic", "antigravity", "claude-code", "codex", "gemini", "openai", "playbook"];
    let listed = ["anthropic", "antigravity", "gemini", "openai"];
    let settings = |name: &&str| ((*name).to_owned(), json!({ "settings": { "models": ["model-one"] } }));
    let profiles: serde_json::Map<String, Value> = listed.iter().map(settings).collect();
    let keys = ["ANTHROPIC_API_KEY", "GEMINI_API_KEY", "OPENAI_API_KEY"];
    let home = Home::new().config(&json!({ "profiles": profiles }).to_string());
    let home = keys.into_iter().fold(home, |home, key| home.env(key, "sk-0123456789abcdef"));
    let refused = |name: &str, task: &str| {
        let ran = home.run(&["run", name, "--json", "--task", task]);
        assert_eq!(ran.code, Some(3), "{name}: {ran:?}");
        let refused: Value = serde_json::from_str(&ran.err).unwrap_or_else(|error| panic!("{name}: {error}: {ran:?}"));
        assert_eq!(
            (&refused["error"]["kind"], &refused["error"]["code"]),
            (&json!("unsupported"), &json!("task-unsupported"))
        );
        let issues = refused["error"]["issues"].as_array().unwrap_or_else(|| panic!("{refused}"));
        let field = |issue: &Value| {
            assert!(issue["message"].as_str().is_some_and(|why| !why.is_empty()), "{refused}");
            issue["field"].as_str().expect("a field").to_owned()
        };
        issues.iter().map(field).collect::<Vec<String>>()
    };
    for name in names {
        let granted = home.run(&["grant", "allow", name, "--all"]);
        assert_eq!(granted.code, Some(0), "{granted:?}");
        let declared = home.run(&["agents", name, "--json"]).json();
        let declared = declared["features"].as_array().expect("features");
        let lacking = fields.iter().filter(|(_, feature)| !declared.contains(&json!(feature)));
        let lacking: Vec<&str> = lacking.map(|(field, _)| *field).collect();
        let found = refused(name, &undeclared);
        assert_eq!(found[..lacking.len().min(found.len())], lacking, "{name}: what is not declared stands first");
        if listed.contains(&name) {
            assert_eq!(refused(name, &unwanted), ["model"], "{name}");
        }
    }
}
