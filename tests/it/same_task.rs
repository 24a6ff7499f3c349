//! `examples/same-task` as a user runs it, with the configuration and the mock that lie beside it: one table in which all are
//! done, one in which all are cancelled. While they run, all of their processes are searched for the key; after it there is
//! none.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::command::{Home, Printed, binary, printed, same_task};
use crate::peer::{Aimock, installed};
use crate::seen::{Process, holds};
use crate::world::KEY;

/// The file name of a program, and the variable with its token, where it has one.
type Program = (&'static str, Option<&'static str>);

/// The agents of the table, in its order; those with a program behind it: its file name, and the variable with the token of
/// its endpoint, which codex is told over its pipe.
const AGENTS: [(&str, Option<Program>); 9] = [
    ("anthropic", None),
    ("antigravity", Some(("localharness", None))),
    ("claude-code", Some(("claude", Some("ANTHROPIC_AUTH_TOKEN")))),
    ("codex", Some(("codex", None))),
    ("codex-acp", Some(("codex-acp", Some("MIDPLANE_TOKEN")))),
    ("gemini", None),
    ("gemini-cli", Some(("node", Some("GEMINI_API_KEY")))),
    ("openai", None),
    ("openai-chat", None),
];
/// Of the task that waits; not of the command that it names, so that it is in no argument of that.
const GOAL: &str = "and wait for it. Then say that you are done";

/// The example with all that it needs, in one folder.
struct Bench {
    home: Home,
    folder: tempfile::TempDir,
    _mock: Aimock,
}

impl Bench {
    /// None where a peer is not installed.
    async fn open() -> Option<Self> {
        for (peer, file) in [
            ("codex", "node_modules/.bin/codex"),
            ("codex-acp", "node_modules/.bin/codex-acp"),
            ("gemini", "node_modules/.bin/gemini"),
            ("localharness", "localharness"),
        ] {
            installed(peer, &format!("target/peers/{file}"))?;
        }
        let fixtures = serde_json::from_str(&example("mock/fixtures.json")).expect("fixtures");
        let mock = Aimock::start(KEY, &fixtures).await?;
        let folder = tempfile::tempdir().expect("folder");
        // The program of Claude Code is never run here: a scripted one is in its place.
        let claude = folder.path().join("claude").display().to_string();
        let config = example("mock/config.yaml").replace("http://127.0.0.1:4010", mock.url());
        let config = format!(
            "{config}  claude-code:\n    settings: {{ program: {claude:?}, base_url: {url:?} }}\n    grants: {grants}\n",
            url = mock.url(),
            grants = json!([
                format!("command:{claude}"),
                format!("http:{}", mock.url()),
                "secret:ANTHROPIC_API_KEY",
                "env:ANTHROPIC_AUTH_TOKEN",
                "env:ANTHROPIC_BASE_URL",
                "env:CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
                "env:CLAUDE_CODE_ENTRYPOINT",
                "env:CLAUDE_CODE_SDK_READS_SESSION_STATE",
            ]),
        );
        // By its path the helper is known for one of this test.
        let helper = folder.path().join("midplane");
        std::fs::hard_link(binary(), &helper).or_else(|_| std::fs::copy(binary(), &helper).map(drop)).expect("helper");
        let peers = root().join("target/peers");
        let inherited = std::env::var_os("PATH").unwrap_or_default();
        let places = [peers.join("node_modules/.bin"), peers].into_iter().chain(std::env::split_paths(&inherited));
        let path = std::env::join_paths(places).expect("a path");
        let mut home = Home::new().config(&config).env("PATH", path.to_str().expect("UTF-8"));
        for (name, value) in [
            ("ANTHROPIC_API_KEY", KEY),
            ("OPENAI_API_KEY", KEY),
            ("GEMINI_API_KEY", KEY),
            ("MIDPLANE_HELPER", helper.to_str().expect("UTF-8")),
            // Where the example makes a folder for each agent to work in.
            ("TMPDIR", folder.path().to_str().expect("UTF-8")),
        ] {
            home = home.env(name, value);
        }
        Some(Self { home, folder, _mock: mock })
    }

    /// What the scripted program does after its prompt.
    fn claude(&self, steps: Vec<Value>) {
        let answer = |subtype: &str, last: bool| {
            let response = json!({ "subtype": "success", "request_id": "{{id}}", "response": {} });
            json!({
                "on": { "type": "control_request", "request": { "subtype": subtype } }, "capture": { "id": "/request_id" },
                "steps": [{ "write": { "type": "control_response", "response": response } }], "last": last,
            })
        };
        let mut all = vec![
            json!({ "serve": [answer("initialize", false), { "on": { "type": "user" }, "last": true }] }),
            json!({ "write": { "type": "system", "subtype": "init", "session_id": "s-1", "model": "claude-x",
                "claude_code_version": "2.1.330" } }),
            json!({ "write": { "type": "assistant", "parent_tool_use_id": null, "session_id": "s-1", "message": {
                "id": "m-1", "role": "assistant", "model": "claude-x",
                "content": [{ "type": "tool_use", "id": "t-1", "name": "Bash", "input": { "command": "as told" } }] } } }),
        ];
        // The last step stands for what an interrupt ends.
        let waits = steps.iter().any(|step| step.get("spawn").is_some());
        all.extend(steps);
        let mut result = json!({ "type": "result", "subtype": "success", "is_error": false, "num_turns": 2,
            "session_id": "s-1", "duration_ms": 9, "duration_api_ms": 5, "total_cost_usd": 0.25,
            "usage": { "input_tokens": 100, "output_tokens": 14 } });
        if waits {
            all.push(json!({ "serve": [answer("interrupt", true)] }));
            (result["subtype"], result["is_error"]) = (json!("error_during_execution"), json!(true));
        } else {
            all.push(
                json!({ "write": { "type": "assistant", "parent_tool_use_id": null, "session_id": "s-1", "message": {
                "id": "m-2", "role": "assistant", "model": "claude-x",
                "content": [{ "type": "text", "text": "I am done." }] } } }),
            );
        }
        all.extend([json!({ "write": result }), json!({ "until_eof": true })]);
        let program = Path::new(env!("CARGO_BIN_EXE_it-program"));
        guest_program::install(program, self.folder.path(), "claude", &json!({ "steps": all })).expect("installed");
    }

    /// Runs the example, and has `look` see to its processes all the while.
    fn run(&self, arguments: &[&str], mut look: impl FnMut(&[Process]) + Send) -> Printed {
        let mut command = self.home.command_of(&same_task(), arguments);
        let child: Child = command.current_dir(self.folder.path()).spawn().expect("the example starts");
        let host = Process::of_id(child.id().into());
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    let mut all = self.processes();
                    // The host has the keys, and so has a copy of it that is about to become another program.
                    all.retain(|process| *process != host && process.program() != "same-task");
                    look(&all);
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
            let output = child.wait_with_output().expect("the example runs");
            over.store(true, Ordering::SeqCst);
            printed(output)
        })
    }

    /// All processes of this test: in both folders there is nothing of any other.
    fn processes(&self) -> Vec<Process> {
        let found = [self.folder.path(), self.home.path()].into_iter().flat_map(Process::of_folder);
        found.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// No process is left. What was killed may take the system a moment.
    fn left_nothing(&self) {
        for _ in 0..250 {
            if self.processes().is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let left: Vec<_> = self.processes().iter().map(Process::arguments).map(|line| text(&line)).collect();
        panic!("left behind: {left:#?}");
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("two folders down").to_owned()
}

fn path_of(file: &str) -> String {
    root().join("examples/same-task").join(file).display().to_string()
}

fn example(file: &str) -> String {
    std::fs::read_to_string(path_of(file)).expect("a file of the example")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', " ")
}

/// The rows of a table, each cell by the name of its column.
fn rows(ran: &Printed) -> Vec<BTreeMap<String, String>> {
    let mut lines = ran.out.lines();
    let head = lines.next().unwrap_or_else(|| panic!("no table: {ran:?}"));
    // A column begins where its name does: cells can be empty.
    let names: Vec<&str> = head.split("  ").map(str::trim).filter(|name| !name.is_empty()).collect();
    let starts: Vec<usize> = names.iter().map(|name| head.find(name).expect("a column")).collect();
    let cell = |line: &str, index: usize| {
        let end = starts.get(index + 1).copied().unwrap_or(usize::MAX);
        let cell: String = line.chars().skip(starts[index]).take(end - starts[index]).collect();
        (names[index].to_owned(), cell.trim().to_owned())
    };
    lines.map(|line| (0..names.len()).map(|index| cell(line, index)).collect()).collect()
}

/// What was seen of the processes.
#[derive(Default)]
struct Found {
    /// Each was searched whole, once.
    searched: BTreeSet<Process>,
    /// Commands of the agents.
    sleeping: BTreeSet<Process>,
    /// Programs in whose memory the goal was: the search is not blind.
    knowing: BTreeSet<String>,
    /// Programs that have a token, by its variable.
    tokens: BTreeMap<(String, String), String>,
    arguments: BTreeSet<String>,
    /// Where a key was, which is nowhere.
    leaks: BTreeSet<String>,
}

impl Found {
    fn look(&mut self, all: &[Process]) {
        let sleeps = |process: &&Process| process.arguments().ends_with(b"sleep\x00600\0");
        let new: Vec<Process> = all.iter().filter(sleeps).filter(|one| !self.sleeping.contains(one)).cloned().collect();
        self.sleeping.extend(new.iter().cloned());
        for process in all {
            let (program, arguments) = (process.program(), process.arguments());
            self.arguments.insert(text(&arguments));
            for (place, bytes) in [("arguments", arguments), ("environment", process.environment())] {
                if holds(&bytes, KEY.as_bytes()) {
                    self.leaks.insert(format!("{place} of `{program}`"));
                }
            }
            for variable in AGENTS.iter().filter_map(|(_, behind)| (*behind)?.1) {
                let token = process.variable(variable).map(|token| ((program.clone(), variable.to_owned()), token));
                self.tokens.extend(token);
            }
            // In the middle of its work, and no process twice.
            if new.is_empty() || !self.searched.insert(process.clone()) {
                continue;
            }
            let remembers = process.remembers(&[KEY, GOAL]).unwrap_or_default();
            if remembers.contains(GOAL) {
                self.knowing.insert(program.clone());
            }
            if remembers.contains(KEY) {
                self.leaks.insert(format!("memory of `{program}`"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_task_for_every_agent_done_then_cancelled() {
    let Some(bench) = Bench::open().await else { return };
    tokio::task::spawn_blocking(move || tables(&bench)).await.expect("no panic");
}

fn tables(bench: &Bench) {
    let names: Vec<&str> = AGENTS.iter().map(|(name, _)| *name).collect();
    let mut found = Found::default();

    bench.claude(vec![json!({ "file": "hello.txt", "text": "hello\n" })]);
    let ran = bench.run(&[&path_of("task.yaml")], |all| found.look(all));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    // What is not ready is named with its reason, and is in no row.
    assert!(ran.err.contains("left out `acp`: ") && ran.err.contains("`command:gemini --acp`"), "{}", ran.err);
    let table = rows(&ran);
    assert_eq!(table.iter().map(|row| row["AGENT"].as_str()).collect::<Vec<_>>(), names, "{ran:?}");
    for row in &table {
        assert_eq!(
            (row["FINISH"].as_str(), row["ROUNDS"].as_str(), row["TOOLS"].as_str()),
            ("done", "2", "1"),
            "{ran:?}"
        );
        // Zed's codex-acp says nothing of tokens, which is not none.
        let counted = if row["AGENT"] == "codex-acp" { ("?", "?") } else { ("100", "14") };
        assert_eq!((row["TOKENS IN"].as_str(), row["TOKENS OUT"].as_str()), counted, "{ran:?}");
        assert!(row["TIME S"].parse::<f64>().is_ok() && row["STOPPED S"].is_empty(), "{ran:?}");
    }
    bench.left_nothing();

    bench.claude(vec![json!({ "spawn": ["sleep", "600"] })]);
    let ran = bench.run(&[&path_of("wait.yaml"), "--cancel-after-ms", "2000"], |all| found.look(all));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let table = rows(&ran);
    assert_eq!(table.iter().map(|row| row["AGENT"].as_str()).collect::<Vec<_>>(), names, "{ran:?}");
    for row in &table {
        assert_eq!((row["FINISH"].as_str(), row["TOOLS"].as_str()), ("interrupted", "1"), "{ran:?}");
        assert!(row["STOPPED S"].parse::<f64>().is_ok(), "the time from the cancel to the end: {ran:?}");
    }
    bench.left_nothing();

    // Each was in the middle of a command, and of each program the memory was read.
    assert!(found.sleeping.len() >= AGENTS.len(), "{:?}", found.arguments);
    for (name, behind) in AGENTS {
        let Some((program, token)) = behind else { continue };
        assert!(found.knowing.iter().any(|known| known.starts_with(program)), "{name}: {:?}", found.knowing);
        let told = found.tokens.iter().any(|((_, variable), _)| token == Some(variable.as_str()));
        assert!(token.is_none() || told, "{name} has its token in its environment: {:?}", found.tokens.keys());
    }
    // The key was nowhere, and is in nothing that is left; nor is what stood for it, also not where a program keeps what it
    // knows of its own environment.
    assert_eq!(found.leaks, BTreeSet::new());
    let tokens: Vec<&str> = found.tokens.values().map(String::as_str).collect();
    let mut left = vec![(PathBuf::from("the output"), format!("{}{}", ran.out, ran.err).into_bytes())];
    left.extend(logs(bench));
    left.extend(found.arguments.iter().map(|line| (PathBuf::from("arguments"), line.clone().into_bytes())));
    files(bench.home.path(), &mut left);
    files(bench.folder.path(), &mut left);
    let is_store = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("midplane.db"));
    assert!(left.iter().any(|(path, bytes)| is_store(path) && holds(bytes, GOAL.as_bytes())), "the search is blind");
    for (path, bytes) in &left {
        assert!(!holds(bytes, KEY.as_bytes()), "the key is in {}", path.display());
        let has_token = tokens.iter().any(|token| holds(bytes, token.as_bytes()));
        assert!(!has_token, "a token is in {}", path.display());
    }
}

/// What each agent's run prints and logs at the finest level, of the libraries below, too.
fn logs(bench: &Bench) -> Vec<(PathBuf, Vec<u8>)> {
    bench.claude(vec![json!({ "file": "hello.txt", "text": "hello\n" })]);
    let of = |(name, _): &(&str, _)| {
        let workspace = tempfile::tempdir_in(bench.folder.path()).expect("folder");
        let place = format!("{}:rw", workspace.path().display());
        let log = ["--log", "trace,midplane=trace", "--json"];
        let task = path_of("task.yaml");
        let ran = bench.home.run(&[&log[..], &["run", name, "--task", &task, "--workspace", &place]].concat());
        assert_eq!(ran.code, Some(0), "{name}: {ran:?}");
        assert_eq!(std::fs::read_to_string(workspace.path().join("hello.txt")).expect("written"), "hello\n", "{name}");
        assert!(ran.err.contains("TRACE"), "{name}: {}", ran.err);
        (PathBuf::from(format!("the log of {name}")), format!("{}{}", ran.out, ran.err).into_bytes())
    };
    AGENTS.iter().map(of).collect()
}

/// All files below a folder.
fn files(folder: &Path, into: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).expect("folder").flatten() {
        let kind = entry.file_type().expect("its kind");
        if kind.is_dir() {
            files(&entry.path(), into);
        } else if kind.is_file() {
            into.push((entry.path(), std::fs::read(entry.path()).expect("file")));
        }
    }
}
