//! Several `midplane` processes on one store, and processes that are killed.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout};

use serde_json::Value;

use crate::command::{Home, printed};

const SLEEP: &str =
    "playbook: 1\nname: sleeps\nsteps:\n  - name: sleep\n    tool: shell\n    with: {command: 'sleep 600'}\n";

/// A run in the background, with what it prints.
struct Started {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Started {
    fn new(home: &Home, folder: &Path, playbook: &str) -> Self {
        let arguments = [
            "run",
            "playbook",
            "--json",
            "--goal",
            playbook,
            "--workspace",
            &format!("{}:rw", folder.display()),
            "--allow",
            "shell",
        ];
        let mut child = home.start(&arguments);
        let lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        Self { child, lines }
    }

    /// The next event; none when the process has ended.
    fn next(&mut self) -> Option<Value> {
        let line = self.lines.next()?.ok()?;
        Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
    }

    /// Reads up to an event of a kind.
    fn until(&mut self, kind: &str) -> Value {
        loop {
            let event = self.next().expect("the event comes");
            if event["kind"] == kind {
                return event;
            }
        }
    }
}

#[test]
fn a_second_process_sees_follows_and_cancels_a_run() {
    let (home, folder) = (Home::new(), tempfile::tempdir().expect("folder"));
    let mut run = Started::new(&home, folder.path(), SLEEP);
    let id = run.until("tool_request")["run_id"].as_str().expect("id").to_owned();

    // Looking neither disturbs nor closes it.
    let list = home.run(&["runs", "list", "--json"]).json();
    assert_eq!(
        (list[0]["run_id"].as_str(), list[0]["status"].as_str()),
        (Some(id.as_str()), Some("running")),
        "{list}"
    );
    let mut follower = home.start(&["runs", "events", &id, "--follow", "--json"]);
    let mut followed = BufReader::new(follower.stdout.take().expect("stdout")).lines();
    let first: Value = serde_json::from_str(&followed.next().expect("line").expect("text")).expect("json");
    assert_eq!(first["seq"], 1);

    let cancel = home.run(&["runs", "cancel", &id, "--json"]);
    assert_eq!((cancel.code, cancel.json()["receipt"].as_str()), (Some(0), Some("requested")));
    let terminal = run.until("runtime_terminal");
    assert_eq!(terminal["data"]["finish_reason"], "interrupted");
    assert_eq!(run.child.wait().expect("ended").code(), Some(130));
    // The follower ends by itself, with the same events.
    let rest: Vec<Value> = followed.map(|line| serde_json::from_str(&line.expect("text")).expect("json")).collect();
    assert_eq!(rest.last(), Some(&terminal));
    assert_eq!(follower.wait().expect("ended").code(), Some(0));
}

#[test]
fn ctrl_c_cancels_cleanly() {
    let (home, folder) = (Home::new(), tempfile::tempdir().expect("folder"));
    let mut run = Started::new(&home, folder.path(), SLEEP);
    run.until("tool_request");
    signal(&run.child, rustix::process::Signal::INT);
    let terminal = run.until("runtime_terminal");
    assert_eq!(terminal["data"]["finish_reason"], "interrupted");
    assert_eq!(run.child.wait().expect("ended").code(), Some(130));
}

#[test]
fn a_killed_host_loses_no_acknowledged_event() {
    // Many small batches, each acknowledged before the next; what is printed was read back from the log.
    let steps: String =
        (0..150).map(|n| format!("  - name: s{n}\n    tool: glob\n    with: {{pattern: '*'}}\n")).collect();
    let playbook = format!("playbook: 1\nname: many\nsteps:\n{steps}");
    let (home, folder) = (Home::new(), tempfile::tempdir().expect("folder"));
    // Spread over the run by a fixed walk, so that a failure can be repeated.
    let mut at = 1_usize;
    for round in 0..12 {
        at = (at * 37 + 11) % 400;
        let mut run = Started::new(&home, folder.path(), &playbook);
        let mut seen = Vec::new();
        while seen.len() <= at {
            match run.next() {
                Some(event) => seen.push(event),
                None => break,
            }
        }
        run.child.kill().expect("kill -9");
        run.child.wait().expect("reaped");
        // What was printed before the kill and is still in the pipe was acknowledged, too; a torn last line was not.
        seen.extend(run.lines.map_while(Result::ok).filter_map(|line| serde_json::from_str::<Value>(&line).ok()));
        let id = seen[0]["run_id"].as_str().expect("id").to_owned();

        let log = home.run(&["runs", "events", &id, "--json"]);
        assert_eq!(log.code, Some(0), "{log:?}");
        let log = log.lines();
        assert_eq!(log[..seen.len()], seen[..], "round {round}: acknowledged events are there, unchanged");
        for (index, event) in log.iter().enumerate() {
            assert_eq!(event["seq"].as_u64(), Some(index as u64 + 1), "round {round}: no event twice, none missing");
        }
        let terminals: Vec<&Value> = log.iter().filter(|event| event["kind"] == "runtime_terminal").collect();
        assert_eq!(terminals.len(), 1, "round {round}: exactly one terminal");
        assert_eq!(log.last(), Some(terminals[0]), "round {round}: nothing follows it");
        let finish = terminals[0]["data"]["finish_reason"].as_str().expect("reason");
        let ended = seen.iter().any(|event| event["kind"] == "runtime_terminal");
        assert!(finish == "failed" && terminals[0]["data"]["reason"] == "host_lost" || finish == "done", "{finish}");
        assert!(!ended || finish == "done");
    }
}

#[test]
fn a_killed_host_takes_no_other_run_with_it() {
    let (home, folder) = (Home::new(), tempfile::tempdir().expect("folder"));
    let mut lost = Started::new(&home, folder.path(), SLEEP);
    let mut kept = Started::new(&home, folder.path(), SLEEP);
    let lost_id = lost.until("tool_request")["run_id"].as_str().expect("id").to_owned();
    let kept_id = kept.until("tool_request")["run_id"].as_str().expect("id").to_owned();
    // A follower that waits in another process is told of the loss.
    let follower = home.start(&["runs", "events", &lost_id, "--follow", "--json"]);
    lost.child.kill().expect("kill -9");
    lost.child.wait().expect("reaped");
    let followed = printed(follower.wait_with_output().expect("ended"));
    assert_eq!(followed.lines().last().expect("terminal")["data"]["reason"], "host_lost");
    let list = home.run(&["runs", "list", "--json"]).json();
    let status = |id: &str| {
        let rows = list.as_array().expect("rows");
        rows.iter().find(|row| row["run_id"] == id).expect("row")["status"].as_str().expect("status").to_owned()
    };
    assert_eq!((status(&lost_id).as_str(), status(&kept_id).as_str()), ("failed", "running"));
    signal(&kept.child, rustix::process::Signal::INT);
    kept.child.wait().expect("ended");
}

#[test]
fn a_damaged_or_newer_store_is_refused_and_left_alone() {
    let home = Home::new();
    assert_eq!(home.run(&["runs", "list"]).code, Some(0));
    let database = home.path().join("data/midplane.db");
    let whole = std::fs::read(&database).expect("database");
    for (what, bytes) in [
        ("not a database", b"hello, I am no database at all".repeat(100)),
        ("half of one", whole[..whole.len() / 2].to_vec()),
    ] {
        std::fs::write(&database, &bytes).expect("write");
        let printed = home.run(&["runs", "list"]);
        assert_eq!(printed.code, Some(2), "{what}: {printed:?}");
        assert!(printed.err.starts_with("error: ") && printed.err.contains("hint: "), "{what}: {}", printed.err);
        assert_eq!(std::fs::read(&database).expect("database"), bytes, "{what}: it was touched");
    }
}

#[test]
fn bad_input_has_one_line_and_a_hint() {
    let home = Home::new();
    let folder = tempfile::tempdir().expect("folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::create_dir(folder.path().join("broken")).expect("folder");
    std::fs::write(at("broken/plugin.toml"), "[plugin]\nname = \"x\"\nkinds = \"agent\"\n").expect("file");
    std::fs::write(at("broken/x.wasm"), b"\0asm").expect("file");
    let cases: Vec<(&str, Vec<String>)> = vec![
        ("unknown plugin", vec!["plugin".into(), "show".into(), "antropic".into()]),
        ("broken plugin.toml", vec!["plugin".into(), "add".into(), at("broken")]),
        ("nothing there", vec!["plugin".into(), "add".into(), at("nowhere")]),
        ("no grant", vec!["grant".into(), "allow".into(), "playbook".into(), "shel".into()]),
        ("no run", vec!["runs".into(), "show".into(), "zzz".into()]),
        ("no goal", vec!["run".into(), "playbook".into()]),
        ("both", vec!["run".into(), "playbook".into(), "--goal".into(), "@nowhere.yaml".into()]),
    ];
    let mut shown = String::new();
    for (what, arguments) in cases {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let printed = home.run(&arguments);
        assert!(printed.out.is_empty(), "{what}: {}", printed.out);
        shown.push_str(&format!(
            "{what}: exit {:?}\n{}\n",
            printed.code,
            printed.err.replace(&folder.path().display().to_string(), "FOLDER")
        ));
    }
    insta::assert_snapshot!(shown);
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, signal).expect("signal");
}
