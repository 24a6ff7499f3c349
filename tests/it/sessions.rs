//! Sessions through the command: started, worked in by runs and shells, stopped, taken up again, destroyed; and what is kept
//! from what runs in them, by the kernel and by the host.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::command::{Home, Printed, printed};

/// A playbook of one command of the `shell` tool.
fn playbook(command: &str) -> String {
    let command = command.replace('\'', "''");
    format!("playbook: 1\nname: works\nsteps:\n  - name: work\n    tool: shell\n    with: {{command: '{command}'}}\n")
}

/// Starts a session and gives its id.
fn start(home: &Home, more: &[&str]) -> String {
    let started = home.run(&[&["session", "start", "--json"], more].concat());
    assert_eq!(started.code, Some(0), "{started:?}");
    started.json()["id"].as_str().expect("an id").to_owned()
}

const PLAYBOOK: [&str; 4] = ["--agent", "custom", "--profile", "playbook"];
const SHELL: [&str; 4] = ["--agent", "custom", "--mode", "interactive"];

fn attach(home: &Home, id: &str, command: &str) -> Printed {
    home.run(&["session", "attach", id, &playbook(command), "--json", "--allow", "shell"])
}

/// Gives a shell of a session its input through a pipe.
fn piped(home: &Home, id: &str, input: &str) -> Printed {
    let mut child = home.command(&["session", "attach", id]).stdin(Stdio::piped()).spawn().expect("started");
    child.stdin.take().expect("stdin").write_all(input.as_bytes()).expect("written");
    printed(child.wait_with_output().expect("ended"))
}

fn list(home: &Home) -> Vec<Value> {
    home.run(&["session", "list", "--json", "--all"]).json().as_array().expect("a list").clone()
}

/// State, whether one is attached, and why it stands there.
fn standing(home: &Home, id: &str) -> (String, bool, String) {
    let all = list(home);
    let one = all.iter().find(|one| one["id"] == id).unwrap_or_else(|| panic!("no {id} in {all:?}"));
    let text = |name: &str| one[name].as_str().expect("text").to_owned();
    (text("state"), one["attached"] == true, text("reason"))
}

/// Kind and code of a command's error.
fn refused(printed: &Printed) -> (Option<i32>, String) {
    let error: Value = serde_json::from_str(&printed.err).unwrap_or_else(|_| panic!("{printed:?}"));
    (printed.code, error["error"]["code"].as_str().expect("a code").to_owned())
}

fn folders(home: &Home) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(home.path().join("data/sessions")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// A command that is attached and works, told by a line of its events.
struct Working {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Working {
    fn new(home: &Home, id: &str, command: &str) -> Self {
        let mut child = home.start(&["session", "attach", id, &playbook(command), "--json", "--allow", "shell"]);
        let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        let begun = lines.by_ref().map_while(Result::ok).any(|line| line.contains("\"tool_request\""));
        assert!(begun, "it begins to work");
        Self { child, lines }
    }

    fn ended(mut self) -> (Option<i32>, String) {
        let last = self.lines.by_ref().map_while(Result::ok).last().unwrap_or_default();
        (self.child.wait().expect("ended").code(), last)
    }
}

/// Waits until no process has a word among its arguments.
fn none_left(word: &str) {
    let alive = || {
        let of = |folder: PathBuf| {
            let line = std::fs::read(folder.join("cmdline")).ok()?;
            line.split(|byte| *byte == 0).any(|one| one == word.as_bytes()).then_some(folder)
        };
        std::fs::read_dir("/proc")
            .expect("processes")
            .flatten()
            .filter_map(|entry| of(entry.path()))
            .collect::<Vec<_>>()
    };
    for _ in 0..1_000 {
        if alive().is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{:?} still run", alive());
}

#[test]
fn a_session_from_start_to_end() {
    let home = Home::new();
    let id = start(&home, &[&PLAYBOOK[..], &["--name", "demo"]].concat());
    assert_eq!(standing(&home, &id), ("running".into(), false, "it was started".into()));
    let again =
        home.run(&["session", "start", "--json", "--agent", "custom", "--profile", "playbook", "--name", "demo"]);
    assert_eq!(refused(&again), (Some(1), "session-name".into()));

    let ran = attach(&home, "demo", "echo of-the-first > kept.txt; echo $HOME > home.txt");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let (state, attached, reason) = standing(&home, &id);
    assert!(state == "stopped" && !attached && reason.ends_with("ended: done"), "{state} {reason}");
    // The workspace lasts, by the id's beginning too.
    let ran = attach(&home, &id[..25], "cat kept.txt");
    assert!(ran.code == Some(0) && ran.out.contains("of-the-first"), "{ran:?}");
    let folder = home.path().join("data/sessions").join(&id);
    let told = std::fs::read_to_string(folder.join("workspace/home.txt")).expect("a file");
    assert_eq!(Path::new(told.trim()), folder.join("home"));

    let table = home.run(&["session", "list"]);
    assert!(table.out.contains("demo") && table.out.contains("custom (playbook)"), "{}", table.out);
    for _ in 0..2 {
        let stopped = home.run(&["session", "stop", "demo", "--json"]);
        assert_eq!((stopped.code, stopped.json()["state"].as_str()), (Some(0), Some("stopped")));
    }
    for _ in 0..2 {
        let destroyed = home.run(&["session", "destroy", &id, "--json"]);
        assert_eq!((destroyed.code, destroyed.json()["state"].as_str()), (Some(0), Some("destroyed")));
        assert_eq!(folders(&home), Vec::<PathBuf>::new());
    }
    assert_eq!(refused(&attach(&home, &id, "true")), (Some(1), "session-transition".into()));
    assert_eq!(refused(&home.run(&["session", "stop", &id, "--json"])), (Some(1), "session-transition".into()));
    assert_eq!(refused(&home.run(&["session", "stop", "demo", "--json"])), (Some(2), "session-unknown".into()));
    assert_eq!(home.run(&["session", "list", "--json"]).json(), json!([]));
    assert_eq!(list(&home).len(), 1);
    // What ran in it is still told.
    assert_eq!(home.run(&["runs", "list", "--json"]).json().as_array().map(Vec::len), Some(2));
}

#[test]
fn what_cannot_be_is_refused_with_all_reasons() {
    let home = Home::new().config("profiles:\n  own: {plugin: playbook, sandbox: {mode: own}}\n");
    let bad = home.run(&[
        "session",
        "start",
        "--json",
        "--agent",
        "custom",
        "--allow-domain",
        "https://x",
        "--deny-write-path",
        "src",
        "--timeout",
        "0",
        "--no-install",
        "--port",
        "0",
    ]);
    assert_eq!(refused(&bad), (Some(2), "session".into()));
    let error: Value = serde_json::from_str(&bad.err).expect("json");
    let fields: Vec<&str> =
        error["error"]["issues"].as_array().expect("issues").iter().filter_map(|one| one["field"].as_str()).collect();
    let wanted = [
        "profile",
        "network.allow_domains",
        "deny_write_paths",
        "timeout",
        "port_mappings",
        "constraints.allow_install",
    ];
    assert_eq!(fields, wanted);
    let refuses =
        |more: &[&str]| refused(&home.run(&[&["session", "start", "--json", "--agent", "custom"], more].concat()));
    assert_eq!(refuses(&["--profile", "none"]), (Some(2), "profile-unknown".into()));
    assert_eq!(refuses(&["--profile", "own"]), (Some(3), "session-sandbox".into()));
    let state = home.path().to_str().expect("text");
    for folder in [state, "/", "/no/such/folder"] {
        assert_eq!(refuses(&["--profile", "playbook", "--workspace", folder]), (Some(2), "session-folder".into()));
    }
    assert_eq!(refuses(&["--profile", "playbook", "--write-path", state]), (Some(2), "session-folder".into()));
    assert!(list(&home).is_empty() && folders(&home).is_empty(), "nothing is left of a start that was refused");

    let id = start(&home, &PLAYBOOK);
    assert_eq!(refused(&home.run(&["session", "attach", &id, "--json"])), (Some(2), "session-mode".into()));
    let id = start(&home, &SHELL);
    assert_eq!(refused(&home.run(&["session", "attach", &id, "do", "--json"])), (Some(2), "session-mode".into()));
    assert_eq!(refused(&home.run(&["session", "attach", &id, "--anew", "--json"])), (Some(2), "session-mode".into()));
}

#[test]
fn a_shell_is_kept_to_its_folders_by_the_kernel() {
    let home = Home::new().env("PRIVATE", "of-the-operator");
    let (outside, wider) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
    std::fs::write(home.path().join("notes"), "of-the-operator").expect("a file");
    let wide = wider.path().to_str().expect("text");
    let id = start(&home, &[&SHELL[..], &["--write-path", "out", "--write-path", wide]].concat());
    let script = format!(
        "cd out && echo in > a && cat a\necho wide > {wide}/b && echo wrote-wider\ncd ..\n\
         echo no > top || echo refused-top\necho no > {0}/c || echo refused-outside\n\
         cat {1}/notes || echo refused-notes\ncat {1}/data/midplane.db > /dev/null || echo refused-store\n\
         ln -s {0} out/link; echo no > out/link/d || echo refused-link\n\
         echo x > $HOME/mine && echo home:$HOME\necho tmp > $TMPDIR/x && echo wrote-tmp\nenv\necho session:$MIDPLANE_SESSION\nexit 3\n",
        outside.path().display(),
        home.path().display(),
    );
    let told = piped(&home, &id, &script);
    assert_eq!(told.code, Some(1), "{told:?}");
    let folder = home.path().join("data/sessions").join(&id);
    for line in [
        "in",
        "wrote-wider",
        "refused-top",
        "refused-outside",
        "refused-notes",
        "refused-store",
        "refused-link",
        "wrote-tmp",
        &format!("home:{}", folder.join("home").display()),
        &format!("session:{id}"),
    ] {
        assert!(told.out.lines().any(|told| told == line), "{line}: {told:?}");
    }
    assert!(!told.out.contains("of-the-operator"), "{}", told.out);
    assert_eq!(std::fs::read_dir(outside.path()).expect("folder").count(), 0);
    let (state, _, reason) = standing(&home, &id);
    assert!(state == "stopped" && reason.starts_with("the shell ended with code 3; sandbox: landlock"), "{reason}");

    // Destroying follows no link, and leaves what is the operator's.
    std::fs::write(outside.path().join("kept"), "").expect("a file");
    assert_eq!(home.run(&["session", "destroy", &id]).code, Some(0));
    assert!(folders(&home).is_empty() && outside.path().join("kept").exists() && wider.path().join("b").exists());
}

#[test]
fn file_tools_are_kept_to_the_write_paths() {
    let home = Home::new();
    let folder = tempfile::tempdir().expect("folder");
    std::fs::create_dir(folder.path().join("src")).expect("folder");
    std::fs::write(folder.path().join("src/a"), "a").expect("file");
    std::os::unix::fs::symlink("../src", folder.path().join("src/self")).expect("link");
    let at = folder.path().to_str().expect("text");
    let id = start(&home, &[&PLAYBOOK[..], &["--workspace", at, "--write-path", "out"]].concat());
    std::os::unix::fs::symlink("../src", folder.path().join("out/link")).expect("link");
    let steps = [
        ("write_file", "{path: out/deep/b, content: b}", true),
        ("write_file", "{path: src/a, content: changed}", false),
        ("write_file", "{path: out/link/c, content: c}", false),
        ("write_file", "{path: top, content: c}", false),
        ("move_file", "{from: src/a, to: out/a}", false),
        ("move_file", "{from: out/deep/b, to: src/b}", false),
        ("shell", "{command: 'echo s > out/s'}", true),
        ("shell", "{command: 'echo s > src/s'}", false),
    ];
    for (tool, with, works) in steps {
        let playbook = format!("playbook: 1\nname: x\nsteps:\n  - name: x\n    tool: {tool}\n    with: {with}\n");
        let ran = home.run(&["session", "attach", &id, &playbook, "--json", "--allow", "shell"]);
        assert_eq!(ran.code == Some(0), works, "{tool} {with}: {ran:?}");
        if !works && tool != "shell" {
            assert!(ran.out.contains("no folder that this session may change"), "{ran:?}");
        }
    }
    let mut names: Vec<_> =
        std::fs::read_dir(folder.path().join("src")).expect("src").flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    assert_eq!(names, ["a", "self"]);
    assert_eq!(std::fs::read_to_string(folder.path().join("src/a")).expect("file"), "a");
    // The operator's folder is no folder of the session's.
    assert_eq!(home.run(&["session", "destroy", &id]).code, Some(0));
    assert!(folder.path().join("out/deep/b").exists());
}

/// A port on which something answers everybody with `hello`.
fn greeter() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read(&mut [0; 1024]);
        }
    });
    port
}

/// What a shell asks: directly, and by the proxy that its variables name, for a host and port.
fn dials(port: u16) -> String {
    format!(
        "direct() {{ (exec 3<>/dev/tcp/127.0.0.1/$1 && head -1 <&3) 2>&1 | head -1; }}\n\
         echo \"direct: $(direct {port})\"\n\
         url=${{HTTPS_PROXY#http://}}; at=${{url#*@}}; user=$(printf %s \"${{url%@*}}\" | base64 -w0)\n\
         via() {{ exec 3<>/dev/tcp/127.0.0.1/${{at#*:}} || return; \
         printf 'CONNECT %s HTTP/1.1\\r\\nProxy-Authorization: Basic %s\\r\\n\\r\\n' $1 $user >&3; head -1 <&3; exec 3>&-; }}\n\
         if [ -n \"$url\" ]; then echo \"listed: $(via 127.0.0.1:{port})\"; echo \"other: $(via other.example:443)\"; fi\n"
    )
}

#[test]
fn programs_reach_the_listed_domains_and_ports_only() {
    let (home, port) = (Home::new(), greeter());
    let text = port.to_string();
    let seen = |more: &[&str]| {
        let id = start(&home, &[&SHELL[..], more].concat());
        let told = piped(&home, &id, &dials(port));
        assert_eq!(told.code, Some(0), "{told:?}");
        (told.out.replace('\r', ""), standing(&home, &id).2)
    };
    let (open, _) = seen(&[]);
    assert_eq!(open, "direct: HTTP/1.1 200 OK\n");
    let (off, _) = seen(&["--network", "off"]);
    assert!(off.contains("Permission denied") && !off.contains("200 OK"), "{off}");
    let (by_port, _) = seen(&["--network", "off", "--port", &text]);
    assert_eq!(by_port, "direct: HTTP/1.1 200 OK\n");
    let (listed, reason) = seen(&["--allow-domain", "127.0.0.1"]);
    let lines: Vec<&str> = listed.lines().collect();
    assert!(lines[0].contains("Permission denied"), "{listed}");
    assert_eq!(lines[1..], ["listed: HTTP/1.1 200 Connection established", "other: HTTP/1.1 403 Forbidden"]);
    assert!(reason.ends_with("refused hosts: other.example (1)"), "{reason}");
    // In a run the `shell` tool is kept to the same.
    let id = start(&home, &[&PLAYBOOK[..], &["--allow-domain", "127.0.0.1"]].concat());
    std::fs::write(home.path().join("data/sessions").join(&id).join("workspace/dial.sh"), dials(port)).expect("file");
    let ran = attach(&home, &id, "bash dial.sh");
    for part in ["Permission denied", "listed: HTTP/1.1 200 Connection established", "other: HTTP/1.1 403 Forbidden"] {
        assert!(ran.out.contains(part), "{part}: {ran:?}");
    }
}

#[test]
fn the_egress_gate_lets_only_the_listed_domains_through() {
    let port = greeter();
    let config = format!(
        "profiles:\n  anthropic:\n    settings: {{base_url: 'http://127.0.0.1:{port}', model: m}}\n    \
         grants: ['http:http://127.0.0.1:{port}', 'secret:ANTHROPIC_API_KEY']\n"
    );
    let home = Home::new().config(&config).env("ANTHROPIC_API_KEY", "sk-ant-of-a-test-0123456789");
    let attached = |more: &[&str]| {
        let id =
            start(&home, &[&["--agent", "custom", "--profile", "anthropic", "--prompt", "say hello"], more].concat());
        home.run(&["session", "attach", &id, "--json"])
    };
    // Granted for good, and still not in a session that does not list the host.
    let outside = attached(&["--allow-domain", "api.example.com"]);
    assert_eq!(refused(&outside), (Some(3), "session-domain".into()));
    assert!(outside.err.contains("--allow-domain 127.0.0.1"), "{}", outside.err);
    for more in [&[][..], &["--allow-domain", "127.0.0.1"]] {
        let inside = attached(more);
        // The greeter is no model; that it was asked is what counts.
        assert_eq!(inside.code, Some(1), "{inside:?}");
        let asked = inside.lines().iter().any(|event| {
            event["data"]["type"] == "audit" && event["data"]["act"] == "http" && event["data"]["outcome"] == "200"
        });
        assert!(asked || inside.out.contains("\"act\":\"http\""), "{inside:?}");
    }
}

#[test]
fn time_is_enforced() {
    let home = Home::new();
    let id = start(&home, &[&SHELL[..], &["--timeout", "1s"]].concat());
    let seconds = format!("7001.{}", std::process::id());
    let told = piped(&home, &id, &format!("setsid sleep {seconds} & sleep {seconds}\n"));
    assert_eq!(told.code, Some(4), "{told:?}");
    none_left(&seconds);
    assert!(standing(&home, &id).2.starts_with("the time of the session was up"));
    let id = start(&home, &[&PLAYBOOK[..], &["--timeout", "1s"]].concat());
    let ran = attach(&home, &id, &format!("sleep {seconds}"));
    assert_eq!(ran.code, Some(4), "{ran:?}");
    none_left(&seconds);
    assert!(standing(&home, &id).2.ends_with("ended: timed_out"));
}

#[test]
fn one_command_at_a_time_and_stop_ends_it() {
    let home = Home::new();
    let seconds = format!("7002.{}", std::process::id());
    let id = start(&home, &PLAYBOOK);
    let first = Working::new(&home, &id, &format!("sleep {seconds}"));
    assert!(standing(&home, &id).1);
    assert_eq!(refused(&attach(&home, &id, "true")), (Some(1), "session-attached".into()));
    assert_eq!(refused(&home.run(&["session", "destroy", &id, "--json"])), (Some(1), "session-attached".into()));
    let stopped = home.run(&["session", "stop", &id, "--json"]);
    assert_eq!((stopped.code, stopped.json()["state"].as_str()), (Some(0), Some("stopped")), "{stopped:?}");
    // When it has returned nothing runs any more.
    none_left(&seconds);
    let (code, last) = first.ended();
    assert!(code == Some(130) && last.contains("interrupted"), "{last}");
    assert_eq!(standing(&home, &id), ("stopped".into(), false, "it was stopped by `midplane session stop`".into()));
    assert_eq!(attach(&home, &id, "true").code, Some(0));

    // A shell the same, and by force.
    let id = start(&home, &SHELL);
    let mut shell = home.command(&["session", "attach", &id]).stdin(Stdio::piped()).spawn().expect("started");
    let mut input = shell.stdin.take().expect("stdin");
    input.write_all(format!("echo ready\nsetsid sleep {seconds} &\nsleep {seconds}\n").as_bytes()).expect("written");
    let mut lines = BufReader::new(shell.stdout.take().expect("stdout")).lines();
    assert_eq!(lines.next().expect("a line").expect("text"), "ready");
    assert_eq!(home.run(&["session", "destroy", &id, "--force"]).code, Some(0));
    none_left(&seconds);
    assert_eq!(shell.wait().expect("ended").code(), Some(130));
    assert!(!home.path().join("data/sessions").join(&id).exists(), "nothing comes back");
}

#[test]
fn two_that_attach_at_once() {
    let home = Home::new();
    let id = start(&home, &PLAYBOOK);
    let commands: Vec<_> = (0..4)
        .map(|_| home.start(&["session", "attach", &id, &playbook("sleep 2"), "--json", "--allow", "shell"]))
        .collect();
    let ended: Vec<Printed> = commands.into_iter().map(|one| printed(one.wait_with_output().expect("ended"))).collect();
    let (won, lost): (Vec<_>, Vec<_>) = ended.iter().partition(|printed| printed.code == Some(0));
    assert!(!won.is_empty(), "{ended:?}");
    for printed in lost {
        assert_eq!(refused(printed), (Some(1), "session-attached".into()));
    }
    // As many runs as won, and no two at once.
    let runs = home.run(&["runs", "list", "--json"]).json();
    assert_eq!(runs.as_array().map(Vec::len), Some(won.len()));
}

#[test]
fn a_command_that_is_killed_leaves_a_session_for_the_next() {
    let home = Home::new();
    let seconds = format!("7003.{}", std::process::id());
    let id = start(&home, &PLAYBOOK);
    let mut first = Working::new(&home, &id, &format!("echo before > kept; setsid sleep {seconds} & sleep {seconds}"));
    // The request is told before the command is started.
    let kept = home.path().join("data/sessions").join(&id).join("workspace/kept");
    let written = || std::fs::read_to_string(&kept).is_ok_and(|text| text.contains("before"));
    assert!(
        (0..3_000).any(|_| written() || {
            std::thread::sleep(Duration::from_millis(10));
            false
        }),
        "it writes"
    );
    first.child.kill().expect("kill -9");
    first.child.wait().expect("reaped");
    none_left(&seconds);
    // Seen by whoever looks first, and taken up by whoever comes.
    let next = attach(&home, &id, "cat kept");
    assert!(next.code == Some(0) && next.out.contains("before"), "{next:?}");
    let runs = home.run(&["runs", "list", "--json"]).json();
    let ends: Vec<&str> =
        runs.as_array().expect("runs").iter().filter_map(|run| run["finish_reason"].as_str()).collect();
    assert_eq!(ends, ["done", "failed"], "{runs}");
    let mut second = Working::new(&home, &id, &format!("sleep {seconds}"));
    second.child.kill().expect("kill -9");
    second.child.wait().expect("reaped");
    let (state, attached, reason) = standing(&home, &id);
    assert_eq!(
        (state.as_str(), attached, reason.as_str()),
        ("stopped", false, "the command that was attached is gone")
    );
    assert_eq!(home.run(&["session", "destroy", &id]).code, Some(0));
    assert!(folders(&home).is_empty());
}

#[test]
fn an_agent_goes_on_with_the_conversation_of_its_session() {
    let programs = tempfile::tempdir().expect("folder");
    let reply = json!({ "type": "control_response", "response": {
        "subtype": "success", "request_id": "{{id}}", "response": {},
    } });
    let script = json!({ "record": "seen.jsonl", "steps": [
        { "serve": [
            { "on": { "type": "control_request", "request": { "subtype": "initialize" } },
              "capture": { "id": "/request_id" }, "steps": [{ "write": reply }] },
            { "on": { "type": "user" }, "last": true },
        ] },
        { "write": { "type": "system", "subtype": "init", "session_id": "s-1", "model": "claude-x", "claude_code_version": "2.1.330" } },
        { "write": { "type": "result", "subtype": "success", "is_error": false, "num_turns": 1, "session_id": "s-1",
            "duration_ms": 9, "duration_api_ms": 5, "total_cost_usd": 0.25, "result": "done",
            "usage": { "input_tokens": 3, "output_tokens": 4, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0 } } },
        { "until_eof": true },
    ] });
    let program = Path::new(env!("CARGO_BIN_EXE_it-program"));
    let program = guest_program::install(program, programs.path(), "claude", &script).expect("installed");
    let config =
        format!("profiles:\n  claude-code:\n    settings: {{program: {}, endpoint: false}}\n", program.display());
    let home = Home::new().config(&config);
    assert_eq!(home.run(&["grant", "allow", "claude-code", "--all"]).code, Some(0));
    // The agent alone: which profile drives it is data.
    let id = start(&home, &["--agent", "claude-code", "--prompt", "begin"]);
    let workspace = home.path().join("data/sessions").join(&id).join("workspace");
    for (more, resumed) in [(&[][..], false), (&["go on"], true), (&["again", "--anew"], false), (&["more"], true)] {
        let ran = home.run(&[&["session", "attach", &id, "--json"], more].concat());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let records = guest_program::records(&workspace.join("seen.jsonl"));
        let argv = records.iter().rev().find_map(|record| record.get("argv").cloned()).expect("a start");
        let resumes = argv.as_array().is_some_and(|argv| argv.contains(&json!("--resume=s-1")));
        assert_eq!(resumes, resumed, "{more:?}: {argv}");
    }
    assert_eq!(list(&home)[0]["conversation"], "s-1");
    let needs = home.run(&["session", "attach", &id, "--json"]);
    assert_eq!(refused(&needs), (Some(2), "session-mode".into()));
}

/// A terminal, and what was shown on it.
struct Screen {
    outer: File,
    shown: Arc<Mutex<String>>,
}

impl Screen {
    fn new(rows: u16) -> (Self, File) {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        use std::os::unix::fs::OpenOptionsExt as _;

        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let outer = openpt(flags).expect("a terminal");
        grantpt(&outer).and_then(|()| unlockpt(&outer)).expect("usable");
        let inner = ptsname(&outer, Vec::new()).expect("a name").into_string().expect("UTF-8");
        let noctty = rustix::fs::OFlags::NOCTTY.bits().cast_signed();
        let inner = File::options().read(true).write(true).custom_flags(noctty).open(inner).expect("opened");
        let outer = File::from(outer);
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: 90, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&outer, size).expect("a size");
        let (shown, mut reads) = (Arc::new(Mutex::new(String::new())), outer.try_clone().expect("a handle"));
        let all = shown.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = reads.read(&mut buffer) {
                all.lock().expect("not poisoned").push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
        });
        (Self { outer, shown }, inner)
    }

    fn types(&mut self, text: &str) {
        self.outer.write_all(text.as_bytes()).expect("typed");
    }

    fn until(&self, text: &str) {
        for _ in 0..2_000 {
            if self.shown.lock().expect("not poisoned").contains(text) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("no `{text}` in {:?}", self.shown.lock().expect("not poisoned"));
    }
}

#[test]
fn a_shell_at_a_terminal() {
    let home = Home::new().env("TERM", "xterm");
    let id = start(&home, &SHELL);
    let (mut screen, inner) = Screen::new(33);
    let before = rustix::termios::tcgetattr(&inner).expect("modes");
    let end = || inner.try_clone().expect("a handle");
    let mut command = home.command(&["session", "attach", &id]);
    let mut child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("started");
    screen.until("a shell in");
    // A terminal of its own, with the size of this one and job control; not this one.
    screen.types("tty; stty size; case $- in *m*) echo jobs-$((20 + 2));; esac\n");
    screen.until("/dev/pts/");
    screen.until("33 90");
    screen.until("jobs-22");
    let own = rustix::termios::ttyname(&inner, Vec::new()).expect("a name").into_string().expect("UTF-8");
    assert!(!screen.shown.lock().expect("not poisoned").contains(&format!("{own}\r")));
    // Ctrl-C is the shell's to give: what runs in it ends, and it does not.
    screen.types("sleep 7004; echo after-$?\n");
    std::thread::sleep(Duration::from_millis(300));
    screen.types("\u{3}");
    screen.types("echo still-$((40 + 2))\n");
    screen.until("still-42");
    let size = rustix::termios::Winsize { ws_row: 20, ws_col: 50, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&screen.outer, size).expect("a size");
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).expect("a number")).expect("a number");
    rustix::process::kill_process(pid, rustix::process::Signal::WINCH).expect("told");
    std::thread::sleep(Duration::from_millis(300));
    screen.types("stty size\n");
    screen.until("20 50");
    screen.types("exit\n");
    assert_eq!(child.wait().expect("ended").code(), Some(0));
    // This terminal is as it was.
    let after = rustix::termios::tcgetattr(&inner).expect("modes");
    assert_eq!((after.local_modes, after.input_modes), (before.local_modes, before.input_modes));
    assert_eq!(standing(&home, &id).0, "stopped");
}
