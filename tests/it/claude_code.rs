//! Claude Code through the command, with a scripted program in the vendor's place: the program itself is never run here.
//!
//! What the program was started with and what it was told is read from its own record; what it left running, from the
//! system.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::command::{Home, Printed, printed};

/// The vendor's key, which the program must never see.
const KEY: &str = "sk-ant-api03-q7/Zt+Jw0~4mVx=Ld8Rb2Nf6Ys9Hc1Gp5Ke3Ua";
/// What a person wrote for the model, which no other user of the machine may read.
const PRIVATE: &str = "the-words-of-the-system-prompt";

/// An installation with a program that plays a script.
struct Claude {
    home: Home,
    folder: tempfile::TempDir,
    workspace: tempfile::TempDir,
}

impl Claude {
    /// The profile `claude-code` with all its grants; `more` is what its configuration says besides.
    fn new(script: &Value, more: &str) -> Self {
        let (folder, workspace) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("workspace"));
        let program = install(folder.path(), script);
        let settings = if more.contains("settings:") { String::new() } else { "    settings:\n".to_owned() };
        let config = format!("profiles:\n  claude-code:\n{settings}{more}      program: {program}\n");
        let config = if more.contains("endpoint") { config } else { format!("{config}      endpoint: false\n") };
        let home = Home::new().config(&config).env("ANTHROPIC_API_KEY", KEY);
        let granted = home.run(&["grant", "allow", "claude-code", "--all"]);
        assert_eq!(granted.code, Some(0), "{granted:?}");
        Self { home, folder, workspace }
    }

    /// Another script for the next start.
    fn then(&self, script: &Value) {
        install(self.folder.path(), script);
    }

    fn arguments(&self, more: &[&str]) -> Vec<String> {
        let workspace = format!("{}:rw", self.workspace.path().display());
        let fixed = ["run", "claude-code", "--goal", "fix the bug", "--json", "--workspace", &workspace];
        fixed.iter().chain(more).map(|word| (*word).to_owned()).collect()
    }

    /// Runs the task to its end.
    fn run(&self, more: &[&str]) -> Ran {
        let arguments = self.arguments(more);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Ran::of(self.home.run(&arguments))
    }

    /// What the program has recorded in all its starts.
    fn records(&self) -> Vec<Value> {
        guest_program::records(&self.workspace.path().join("seen.jsonl"))
    }

    /// What the program was told.
    fn told(&self) -> Vec<Value> {
        self.records().iter().filter_map(|record| record.get("read").cloned()).collect()
    }

    /// Nothing that the program was or started is there any more.
    fn left_nothing(&self) {
        for record in self.records() {
            for id in [&record["pid"], &record["spawned"]].into_iter().filter_map(Value::as_i64) {
                let id = rustix::process::Pid::from_raw(i32::try_from(id).expect("an id")).expect("an id");
                // It was asked to end, or killed; the system may need a moment to take it away.
                let gone = (0..200).any(|_| {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                    rustix::process::test_kill_process(id).is_err()
                });
                assert!(gone, "{record} is still there");
            }
        }
    }
}

fn install(folder: &Path, script: &Value) -> String {
    let mut script = script.clone();
    script["record"] = json!("seen.jsonl");
    let program = Path::new(env!("CARGO_BIN_EXE_it-program"));
    guest_program::install(program, folder, "claude", &script).expect("installed").display().to_string()
}

/// A run that ended, as the command told it.
struct Ran {
    code: Option<i32>,
    events: Vec<Value>,
    all: String,
}

impl Ran {
    fn of(printed: Printed) -> Self {
        let all = format!("{}{}", printed.out, printed.err);
        Self { code: printed.code, events: printed.lines(), all }
    }

    fn terminal(&self) -> &Value {
        let last = self.events.last().unwrap_or_else(|| panic!("no events: {}", self.all));
        assert_eq!(last["kind"], "runtime_terminal", "{last}");
        &last["data"]
    }

    /// Finish reason, and kind and code of the error.
    fn end(&self) -> (String, String) {
        let terminal = self.terminal();
        let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let error = &terminal["error"];
        (word(&terminal["finish_reason"]), format!("{}/{}", word(&error["kind"]), word(&error["code"])))
    }
}

/// Answers our requests up to the prompt, then plays these steps.
fn script(after_prompt: Vec<Value>) -> Value {
    let mut steps = vec![json!({ "serve": [request("initialize"), { "on": { "type": "user" }, "last": true }] })];
    steps.extend(after_prompt);
    json!({ "steps": steps })
}

/// A rule that answers a request of this subtype.
fn request(subtype: &str) -> Value {
    let reply = json!({ "type": "control_response", "response": {
        "subtype": "success", "request_id": "{{id}}", "response": {},
    } });
    json!({
        "on": { "type": "control_request", "request": { "subtype": subtype } },
        "capture": { "id": "/request_id" },
        "steps": [{ "write": reply }],
    })
}

fn says(frame: Value) -> Value {
    json!({ "write": frame })
}

fn init(session: &str) -> Value {
    says(json!({
        "type": "system", "subtype": "init", "session_id": session, "model": "claude-x", "claude_code_version": "2.1.330",
    }))
}

fn assistant(content: Value) -> Value {
    says(json!({
        "type": "assistant", "parent_tool_use_id": null, "session_id": "s-1",
        "message": { "id": "m-1", "role": "assistant", "model": "claude-x", "content": content },
    }))
}

fn text(text: &str) -> Value {
    assistant(json!([{ "type": "text", "text": text }]))
}

fn tool(name: &str, input: Value) -> Value {
    assistant(json!([{ "type": "tool_use", "id": "t-1", "name": name, "input": input }]))
}

fn tool_result(content: &str, is_error: bool) -> Value {
    says(json!({
        "type": "user", "parent_tool_use_id": null, "session_id": "s-1",
        "message": { "role": "user", "content": [
            { "type": "tool_result", "tool_use_id": "t-1", "content": content, "is_error": is_error },
        ] },
    }))
}

fn result(more: Value) -> Value {
    let mut frame = json!({
        "type": "result", "subtype": "success", "is_error": false, "num_turns": 2, "session_id": "s-1",
        "duration_ms": 9, "duration_api_ms": 5, "total_cost_usd": 0.25,
        "usage": { "input_tokens": 3, "output_tokens": 4, "cache_read_input_tokens": 7, "cache_creation_input_tokens": 0 },
    });
    for (name, value) in more.as_object().expect("fields") {
        frame[name] = value.clone();
    }
    says(frame)
}

fn until_eof() -> Value {
    json!({ "until_eof": true })
}

fn ask(command: &str) -> Value {
    says(json!({ "type": "control_request", "request_id": "p-1", "request": {
        "subtype": "can_use_tool", "tool_name": "Bash", "input": { "command": command }, "tool_use_id": "t-1",
    } }))
}

#[test]
fn a_prompt_and_a_tool() {
    let claude = Claude::new(
        &script(vec![
            init("s-1"),
            text("Looking."),
            tool("Read", json!({ "file_path": "a.rs" })),
            tool_result("fn main() {}", false),
            text("Done."),
            result(json!({ "result": "Done." })),
            until_eof(),
        ]),
        "",
    );
    let ran = claude.run(&[]);
    assert_eq!(ran.code, Some(0), "{}", ran.all);
    let terminal = ran.terminal();
    let usage = json!({
        "input_tokens": 3, "output_tokens": 4, "cache_read_tokens": 7, "cache_creation_tokens": 0, "total_tokens": 14,
        "cost_usd": 0.25,
    });
    assert_eq!(
        (&terminal["output"], &terminal["session_id"], &terminal["rounds"], &terminal["usage"]),
        (&json!("Looking.\nDone."), &json!("s-1"), &json!(2), &usage)
    );
    assert_eq!(terminal["tool_calls"][0]["result_preview"], "fn main() {}");
    let kinds: Vec<&str> = ran.events.iter().filter_map(|event| event["kind"].as_str()).collect();
    let wanted = ["runtime_started", "assistant_text", "tool_request", "tool_response", "assistant_text"];
    let told: Vec<&str> =
        kinds.into_iter().filter(|kind| *kind != "notification" && *kind != "runtime_terminal").collect();
    assert_eq!(told, wanted);
    claude.left_nothing();
}

#[test]
fn an_approval_that_a_rule_gives_and_one_that_nobody_gives() {
    let asks = |command: &str| {
        script(vec![
            init("s-1"),
            tool("Bash", json!({ "command": command })),
            ask(command),
            // It tells as the result what it was answered.
            json!({ "expect": { "type": "control_response" }, "capture": { "answer": "/response/response/behavior" } }),
            tool_result("{{answer}}", command.contains("rm")),
            text("ok"),
            result(json!({})),
            until_eof(),
        ])
    };
    let rules = "    approvals:\n      rules: [{kind: command, title: 'cargo test', allow: true}]\n    settings:\n";
    let claude = Claude::new(&asks("cargo test"), rules);
    for (command, answer, status) in [("cargo test", "allow", "ok"), ("rm -r /", "deny", "declined")] {
        claude.then(&asks(command));
        let ran = claude.run(&[]);
        assert_eq!(ran.code, Some(0), "{}", ran.all);
        let call = &ran.terminal()["tool_calls"][0];
        assert_eq!((&call["status"], &call["result_preview"]), (&json!(status), &json!(answer)), "{command}");
        let told = ran.events.iter().find(|event| event["data"]["type"] == "approval").expect("told");
        assert_eq!(
            (&told["data"]["title"], &told["data"]["allowed"]),
            (&json!(command), &json!(answer == "allow")),
            "{told}"
        );
    }
}

#[test]
fn an_interrupt_leaves_no_process_and_the_conversation_can_be_gone_on_with() {
    let works = |more: Vec<Value>| {
        let mut steps =
            vec![init("s-1"), tool("Bash", json!({ "command": "sleep 600" })), json!({ "spawn": ["sleep", "600"] })];
        steps.extend(more);
        script(steps)
    };
    let mut interrupted = request("interrupt");
    interrupted["last"] = json!(true);
    let heeds = vec![
        json!({ "serve": [interrupted] }),
        result(json!({ "subtype": "error_during_execution", "is_error": true })),
        until_eof(),
    ];
    // One ends its turn as the protocol says; one takes notice of nothing.
    let deaf = vec![json!({ "ignore": ["INT", "TERM", "HUP"] }), json!({ "hang": true })];
    for (heeds, steps) in [(true, heeds), (false, deaf)] {
        let claude = Claude::new(&works(steps), "");
        let arguments = claude.arguments(&[]);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut child = claude.home.command(&arguments).stdin(Stdio::null()).spawn().expect("started");
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().expect("stdout")));
        let mut events = Vec::new();
        while let Some(Ok(line)) = lines.next() {
            let event: Value = serde_json::from_str(&line).expect("an event");
            if event["kind"] == "tool_request" {
                // Its own child is started after it has told so.
                while !claude.records().iter().any(|record| record.get("spawned").is_some()) {
                    std::thread::yield_now();
                }
                let id = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("an id");
                rustix::process::kill_process(id, rustix::process::Signal::INT).expect("signal");
            }
            events.push(event);
        }
        let code = child.wait().expect("ended").code();
        let ran = Ran { code, events, all: String::new() };
        assert_eq!((ran.code, ran.end().0.as_str()), (Some(130), "interrupted"));
        assert_eq!(ran.terminal()["session_id"], "s-1");
        assert_eq!(ran.terminal()["tool_calls"][0]["status"], "requested");
        claude.left_nothing();
        if !heeds {
            continue;
        }
        assert_eq!(ran.terminal()["usage"]["cost_usd"], 0.25, "what it said after the interrupt is kept");
        // A new process goes on.
        claude.then(&script(vec![init("s-1"), text("on"), result(json!({})), until_eof()]));
        let ran = claude.run(&["--conversation", "s-1"]);
        assert_eq!(ran.code, Some(0), "{}", ran.all);
        let argv = claude.records().iter().rev().find_map(|record| record.get("argv").cloned()).expect("a start");
        assert!(argv.as_array().is_some_and(|argv| argv.contains(&json!("--resume=s-1"))), "{argv}");
    }
}

#[test]
fn the_vendors_failures_are_typed_and_keep_usage() {
    let rows = [
        (
            json!({ "subtype": "error_max_turns", "is_error": true, "errors": ["3 turns"] }),
            "max_turns",
            "limit/max-turns",
        ),
        (json!({ "subtype": "error_max_budget_usd", "is_error": true }), "failed", "limit/budget"),
        (json!({ "is_error": true, "api_error_status": 401, "result": "API" }), "failed", "denied/credential"),
        (json!({ "is_error": true, "api_error_status": 529 }), "failed", "unavailable/overloaded"),
    ];
    for (more, finish, error) in rows {
        let mut play = script(vec![init("s-1"), text("part"), result(more.clone()), until_eof()]);
        // It ends with 1 after each of them, on purpose.
        play["exit"] = json!(1);
        let ran = Claude::new(&play, "").run(&[]);
        assert_eq!(ran.end(), (finish.to_owned(), error.to_owned()), "{more}");
        assert_eq!(ran.terminal()["usage"]["total_tokens"], 14, "{more}");
        assert_eq!((&ran.terminal()["output"], &ran.terminal()["session_id"]), (&json!("part"), &json!("s-1")));
    }
}

#[test]
fn a_program_that_misbehaves_has_a_typed_end_and_leaves_nothing() {
    let garbage = json!({ "flood": { "text": "no frame at all \u{1b}[31m\n", "times": 2000 } });
    let endless = json!({ "flood": { "text": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" } });
    let loud = json!({ "flood": { "stream": "stderr", "text": "woe\n", "times": 200_000 } });
    let dies = json!({ "stderr": "fatal: \u{1b}[2Jboom\n" });
    let rows: [(&str, Value, &[&str], &str); 8] = [
        ("garbage", script(vec![init("s-1"), garbage, json!({ "hang": true })]), &[], "failed invalid/not-frames"),
        (
            "dies",
            script(vec![init("s-1"), text("part"), dies, json!({ "exit": 3 })]),
            &[],
            "failed uncertain/program-ended",
        ),
        ("crashes", script(vec![init("s-1"), json!({ "abort": true })]), &[], "failed uncertain/program-ended"),
        (
            "cut",
            script(vec![init("s-1"), json!({ "raw": "{\"type\":\"assis" })]),
            &[],
            "failed uncertain/program-ended",
        ),
        ("never starts", json!({ "steps": [{ "exit": 2 }] }), &[], "failed unavailable/program-ended"),
        ("hangs", script(vec![init("s-1"), json!({ "hang": true })]), &["--timeout", "1s"], "timed_out"),
        ("no end of a line", script(vec![init("s-1"), endless]), &["--timeout", "1s"], "timed_out"),
        ("loud on stderr", script(vec![init("s-1"), loud, text("ok"), result(json!({})), until_eof()]), &[], "done"),
    ];
    for (what, play, more, wanted) in rows {
        let claude = Claude::new(&play, "");
        let ran = claude.run(more);
        let (finish, error) = ran.end();
        let shown = if error == "-/-" || finish == "timed_out" { finish } else { format!("{finish} {error}") };
        assert_eq!(shown, wanted, "{what}: {}", ran.terminal());
        if what == "dies" {
            let message = ran.terminal()["error"]["message"].as_str().expect("a message").to_owned();
            assert!(message.contains("code 3") && message.contains("boom") && !message.contains('\u{1b}'), "{message}");
            assert_eq!(ran.terminal()["output"], "part");
        }
        claude.left_nothing();
    }
}

#[test]
fn a_program_that_closes_its_pipes_is_ended() {
    for (what, closes) in [("stdin", json!({ "close": "stdin" })), ("stdout", json!({ "close": "stdout" }))] {
        let claude = Claude::new(&script(vec![init("s-1"), text("part"), closes, json!({ "hang": true })]), "");
        let ran = claude.run(&["--timeout", "2s"]);
        assert_eq!(ran.end().0, "timed_out", "{what}: {}", ran.terminal());
        assert_eq!(ran.terminal()["output"], "part", "{what}");
        claude.left_nothing();
    }
}

#[test]
fn a_missing_program_is_named_with_what_to_do() {
    let claude = Claude::new(&script(Vec::new()), "");
    std::fs::remove_file(claude.folder.path().join("claude")).expect("removed");
    let ran = claude.run(&[]);
    let error = &ran.terminal()["error"];
    assert_eq!((&error["kind"], &error["code"]), (&json!("not-found"), &json!("program")), "{error}");
    let said = error.to_string();
    assert!(said.contains("/claude") && said.contains("npm install -g @anthropic-ai/claude-code"), "{said}");
}

/// The program reaches its vendor with what it was given, and what it was given is worth nothing after the run. While
/// it waits for its answer all of it is searched, from outside: arguments, environment and memory.
#[cfg(target_os = "linux")] // it reads `/proc`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_holds_no_key_and_its_argument_vector_no_secret() {
    use std::path::PathBuf;
    use std::sync::{Arc, Mutex, OnceLock};

    use crate::script_server::{ScriptServer, answer};

    let found: Arc<Mutex<Vec<(&str, &str)>>> = Arc::default();
    let workspace: Arc<OnceLock<PathBuf>> = Arc::default();
    let (seen, place) = (found.clone(), workspace.clone());
    let server = ScriptServer::start(move |_, _| {
        let records = guest_program::records(&place.get().expect("the run began").join("seen.jsonl"));
        let token = records[0]["env"]["ANTHROPIC_AUTH_TOKEN"].as_str().unwrap_or("none").to_owned();
        let places = parts_of(&records[0]["pid"]);
        let names = [("key", KEY), ("prompt", PRIVATE), ("goal", "fix the bug"), ("token", token.as_str())];
        let mut seen = seen.lock().expect("nothing panics while it is held");
        for (part, bytes) in &places {
            let held = names.iter().filter(|(_, text)| memchr::memmem::find(bytes, text.as_bytes()).is_some());
            seen.extend(held.map(|(name, _)| (*part, *name)));
        }
        answer("200 OK", &[("content-type", "application/json")], &["{\"data\":[]}"])
    })
    .await;
    let http = json!({ "http": {
        "url": "{{env.ANTHROPIC_BASE_URL}}/v1/models?limit=1",
        "headers": { "authorization": "Bearer {{env.ANTHROPIC_AUTH_TOKEN}}", "anthropic-version": "2023-06-01" },
    } });
    let play = script(vec![init("s-1"), http, text("ok"), result(json!({})), until_eof()]);
    let url = server.url();
    let settings = format!("    settings:\n      endpoint: true\n      base_url: {url}\n");
    let (claude, ran) = tokio::task::spawn_blocking(move || {
        let claude = Claude::new(&play, &settings);
        workspace.set(claude.workspace.path().to_owned()).expect("set once");
        let grants = [&format!("http:{url}"), "secret:ANTHROPIC_API_KEY", "address:127.0.0.1"];
        let granted = claude.home.run(&[&["grant", "allow", "claude-code"], &grants[..]].concat());
        assert_eq!(granted.code, Some(0), "{granted:?}");
        let ran = claude.run(&["--system", PRIVATE]);
        (claude, ran)
    })
    .await
    .expect("no panic");
    assert_eq!(ran.code, Some(0), "{}", ran.all);

    // What is private is where it must be, so the search is not blind; the key is nowhere.
    let found = found.lock().expect("nothing panics while it is held").clone();
    for held in [("environ", "token"), ("memory", "token"), ("memory", "prompt")] {
        assert!(found.contains(&held), "{held:?} in {found:?}");
    }
    let wrong: Vec<_> = found.iter().filter(|(part, name)| *name == "key" || *part == "cmdline").collect();
    assert_eq!(wrong, Vec::<&(&str, &str)>::new());

    // Its request arrived with the key that only the host has, and without the token.
    let records = claude.records();
    let got = records.iter().find_map(|record| record.get("http")).expect("asked");
    assert_eq!((&got["status"], got.get("error")), (&json!(200), None), "{got}");
    let asked = &server.requests()[0];
    assert_eq!(asked.header("x-api-key"), [KEY]);
    assert!(asked.header("authorization").is_empty(), "{asked:?}");

    // What it was told, and what was told of it.
    let token = records[0]["env"]["ANTHROPIC_AUTH_TOKEN"].as_str().expect("a token").to_owned();
    assert!(claude.told().iter().any(|line| line["request"]["systemPrompt"] == json!([PRIVATE])));
    assert!(!Value::Array(records.clone()).to_string().contains(KEY), "the program has seen the key");
    assert!(!ran.all.contains(KEY) && !ran.all.contains(&token), "{}", ran.all);
    for name in records[0]["env"].as_object().expect("variables").keys() {
        let known = ["ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "HOME", "MIDPLANE_CHILD", "PATH", "TMPDIR"]
            .contains(&name.as_str());
        assert!(known || name.starts_with("CLAUDE_CODE_") || name.starts_with("XDG_"), "the variable `{name}`");
    }

    // The run is over, and with it what it gave.
    let url = records[0]["env"]["ANTHROPIC_BASE_URL"].as_str().expect("a URL");
    let address = url.trim_start_matches("http://").split('/').next().expect("an address").to_owned();
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "the endpoint still listens");
}

/// What can be read of a process from outside: its arguments, its environment, its memory.
#[cfg(target_os = "linux")]
fn parts_of(id: &Value) -> Vec<(&'static str, Vec<u8>)> {
    use std::os::unix::fs::FileExt as _;

    let place = Path::new("/proc").join(id.to_string());
    let mut memory = Vec::new();
    let mem = std::fs::File::open(place.join("mem")).expect("the memory of a child's child");
    for line in std::fs::read_to_string(place.join("maps")).expect("its areas").lines() {
        let mut words = line.split(' ');
        let (range, rights) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let ends = range.split_once('-').map(|(from, to)| (u64::from_str_radix(from, 16), u64::from_str_radix(to, 16)));
        if let Some((Ok(from), Ok(to))) = ends
            && rights.starts_with("rw")
        {
            let mut area = vec![0; usize::try_from(to - from).expect("an area")];
            // Areas of the system's own cannot be read.
            if mem.read_exact_at(&mut area, from).is_ok() {
                memory.extend(area);
            }
        }
    }
    let read = |name: &str| std::fs::read(place.join(name)).expect("a process that waits");
    vec![("cmdline", read("cmdline")), ("environ", read("environ")), ("memory", memory)]
}

#[test]
fn what_it_cannot_do_is_refused_before_it_starts() {
    let claude = Claude::new(&script(Vec::new()), "");
    let task = claude.folder.path().join("task.yaml");
    let workspace = claude.workspace.path().display();
    let asked = format!(
        "goal: g\nworkspace: {{path: {workspace}, access: read-write}}\npermissions:\n  allowed_tools: ['Read(src/**)']\n"
    );
    std::fs::write(&task, asked).expect("task");
    let arguments = ["run", "claude-code", "--task", &task.display().to_string(), "--json"];
    let refused = printed(claude.home.command(&arguments).output().expect("ran"));
    assert_eq!(refused.code, Some(3), "{refused:?}");
    let said = format!("{}{}", refused.out, refused.err);
    assert!(said.contains("permissions.allowed_tools"), "{said}");
    assert_eq!(claude.records(), Vec::<Value>::new());
}
