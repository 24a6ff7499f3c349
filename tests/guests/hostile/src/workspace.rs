//! Files, tools and programs: beyond the workspace, beyond the grants, beyond the bounds.

use midplane_plugin::agent::Outcome;
use midplane_plugin::bindings::midplane::plugin::process::{self, Child, Output};
use midplane_plugin::bindings::midplane::plugin::types::Command;
use midplane_plugin::host::Call as ToolCall;
use midplane_plugin::{Error, Result, Value, json};

use crate::{Behaviour, Call, survived};

pub(crate) const BEHAVIOURS: &[(&str, Behaviour)] = &[
    ("read_outside", read_outside),
    ("write_outside", write_outside),
    ("write_read_only", write_read_only),
    ("tools_refused", tools_refused),
    ("tools_many", tools_many),
    ("tools_none", tools_none),
    ("tools_same_id", tools_same_id),
    ("tools_flood", tools_flood),
    ("shell_background", shell_background),
    ("shell_output", shell_output),
    ("spawn_ungranted", spawn_ungranted),
    ("spawn_outside", spawn_outside),
    ("spawn_env", spawn_env),
    ("spawn_secret", spawn_secret),
    ("spawn_argv", spawn_argv),
    ("spawn_many", spawn_many),
    ("child_output", child_output),
    ("child_stdin", child_stdin),
    ("child_left", child_left),
];

pub(crate) fn command(argv: &[&str]) -> Command {
    Command {
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        cwd: None,
        env: Vec::new(),
        secret_env: Vec::new(),
    }
}

pub(crate) fn spawn(argv: &[&str]) -> Result<Child> {
    process::spawn(&command(argv))
}

/// Calls tools one by one; the texts of those that did not fail are what got through.
fn through(call: &Call<'_>, calls: &[(&str, Value)]) -> Result<Outcome> {
    let mut through = Vec::new();
    let mut refused = Vec::new();
    for (index, (name, arguments)) in calls.iter().enumerate() {
        let call_of = ToolCall { id: index.to_string(), name: (*name).to_owned(), arguments: arguments.to_string() };
        for answer in call.host.call_all(&[call_of])? {
            let list = if answer.is_error { &mut refused } else { &mut through };
            list.push(format!("{name} {arguments}: {}", answer.text));
        }
    }
    if through.is_empty() { Ok(Outcome::done(refused.join("\n"))) } else { survived(through.join("\n")) }
}

/// `link` leads to a file and `links` to a folder outside; the parameter is the absolute path of the folder beside the
/// workspace that both lead to.
fn read_outside(call: &Call<'_>) -> Result<Outcome> {
    let outside = call.word(1);
    let mut calls = Vec::new();
    let folder = outside.rsplit('/').next().unwrap_or_default();
    for path in [
        format!("../{folder}/marked.txt"),
        format!("sub/../../{folder}/marked.txt"),
        format!("{outside}/marked.txt"),
        "/etc/passwd".to_owned(),
        "/proc/self/environ".to_owned(),
        "link".to_owned(),
        "links/marked.txt".to_owned(),
        "sub/./../links/marked.txt".to_owned(),
        "link/".to_owned(),
        "..".to_owned(),
        "a\0b".to_owned(),
    ] {
        calls.push(("read_file", json!({ "path": path })));
    }
    for path in [outside, "..", "links", "/", "links/"] {
        calls.push(("list_dir", json!({ "path": path })));
    }
    calls.push(("grep", json!({ "pattern": "marked", "path": ".." })));
    calls.push(("grep", json!({ "pattern": "marked", "path": "links" })));
    calls.push(("glob", json!({ "pattern": "**/*", "path": "/" })));
    calls.push(("glob", json!({ "pattern": "*", "path": "links" })));
    through(call, &calls)
}

fn write_outside(call: &Call<'_>) -> Result<Outcome> {
    let outside = call.word(1);
    let folder = outside.rsplit('/').next().unwrap_or_default();
    let mut calls = Vec::new();
    for path in [
        format!("../{folder}/made.txt"),
        format!("{outside}/made.txt"),
        "links/made.txt".to_owned(),
        "links/../made.txt".to_owned(),
        "sub/../../made.txt".to_owned(),
    ] {
        calls.push(("write_file", json!({ "path": path, "content": "written" })));
    }
    calls.push(("edit_file", json!({ "path": "link", "old": "marked", "new": "changed" })));
    calls.push(("move_file", json!({ "from": "inside.txt", "to": format!("../{folder}/moved.txt") })));
    calls.push(("move_file", json!({ "from": format!("../{folder}/marked.txt"), "to": "moved.txt" })));
    calls.push(("move_file", json!({ "from": "links/marked.txt", "to": "moved.txt" })));
    through(call, &calls)
}

/// The task gave the workspace to look at.
fn write_read_only(call: &Call<'_>) -> Result<Outcome> {
    through(
        call,
        &[
            ("write_file", json!({ "path": "made.txt", "content": "written" })),
            ("edit_file", json!({ "path": "inside.txt", "old": "inside", "new": "changed" })),
            ("move_file", json!({ "from": "inside.txt", "to": "moved.txt" })),
        ],
    )
}

fn tools_refused(call: &Call<'_>) -> Result<Outcome> {
    through(
        call,
        &[
            ("shell", json!({ "command": "id" })),
            ("format_disk", json!({})),
            ("", json!({})),
            ("read_file", json!([])),
            ("read_file", json!({ "path": 1 })),
            ("read_file", json!({ "path": "inside.txt", "surprise": true })),
            ("grep", json!({ "pattern": "(".repeat(5_000) })),
        ],
    )
}

fn look(id: &str) -> ToolCall {
    ToolCall { id: id.to_owned(), name: "list_dir".into(), arguments: json!({ "path": "." }).to_string() }
}

fn tools_many(call: &Call<'_>) -> Result<Outcome> {
    let calls: Vec<ToolCall> = (0..65).map(|i| look(&i.to_string())).collect();
    call.host.call_all(&calls)?;
    survived("65 calls at once")
}

fn tools_none(call: &Call<'_>) -> Result<Outcome> {
    call.host.call_all(&[])?;
    survived("no calls")
}

fn tools_same_id(call: &Call<'_>) -> Result<Outcome> {
    call.host.call_all(&[look("1"), look("1")])?;
    survived("one id for two calls")
}

/// Until the run may have no more.
fn tools_flood(call: &Call<'_>) -> Result<Outcome> {
    for round in 0..1_000_000 {
        call.host.call_all(&[look(&round.to_string())])?;
    }
    survived("a million calls")
}

/// What a command leaves behind must not stay.
fn shell_background(call: &Call<'_>) -> Result<Outcome> {
    let arguments = json!({ "command": "(sleep 600 &) ; nohup sleep 600 >/dev/null 2>&1 & echo left" });
    call.host.call_all(&[ToolCall { id: "1".into(), name: "shell".into(), arguments: arguments.to_string() }])?;
    Ok(Outcome::done(""))
}

/// More output than anybody wants to hold.
fn shell_output(call: &Call<'_>) -> Result<Outcome> {
    let arguments = json!({ "command": "head -c 200000000 /dev/zero | tr '\\0' x" });
    let call_of = ToolCall { id: "1".into(), name: "shell".into(), arguments: arguments.to_string() };
    let answers = call.host.call_all(&[call_of])?;
    let size = answers.iter().map(|answer| answer.text.len()).sum::<usize>();
    if size > 300 * 1024 { survived(format!("an answer of {size} bytes")) } else { Ok(Outcome::done("")) }
}

fn spawn_ungranted(_call: &Call<'_>) -> Result<Outcome> {
    spawn(&["env"])?;
    survived("a program without a grant")
}

fn spawn_outside(call: &Call<'_>) -> Result<Outcome> {
    process::spawn(&Command { cwd: Some(call.word(1).to_owned()), ..command(&["sleep", "1"]) })?;
    survived("a program outside of the workspace")
}

fn spawn_env(_call: &Call<'_>) -> Result<Outcome> {
    process::spawn(&Command { env: vec![("LD_PRELOAD".into(), "evil.so".into())], ..command(&["sleep", "1"]) })?;
    survived("a variable without a grant")
}

fn spawn_secret(_call: &Call<'_>) -> Result<Outcome> {
    process::spawn(&Command { secret_env: vec!["OTHER".into()], ..command(&["sleep", "1"]) })?;
    survived("a secret without a grant")
}

fn spawn_argv(_call: &Call<'_>) -> Result<Outcome> {
    spawn(&["sleep"; 300])?;
    survived("300 arguments")
}

fn spawn_many(_call: &Call<'_>) -> Result<Outcome> {
    let mut held = Vec::new();
    for _ in 0..1_000 {
        held.push(spawn(&["sleep", "600"])?);
    }
    survived("a thousand programs")
}

/// A child that writes without end and is not read: the host holds a bounded part of it.
fn child_output(call: &Call<'_>) -> Result<Outcome> {
    let child =
        spawn(&["sh", "-c", "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done"])?;
    // Long enough for it to fill whatever there is.
    call.host.signal(300)?;
    let mut seen = 0;
    for _ in 0..8 {
        if let Output::Stdout(bytes) = child.next(u32::MAX, 0)? {
            seen += bytes.len();
            if bytes.len() > 1024 * 1024 {
                return survived(format!("{} bytes in one read", bytes.len()));
            }
        }
    }
    if seen == 0 { Err(Error::internal("test", "the child wrote nothing")) } else { Ok(Outcome::done("")) }
}

/// A child that reads nothing, and a guest that writes without end.
fn child_stdin(_call: &Call<'_>) -> Result<Outcome> {
    let child = spawn(&["sleep", "600"])?;
    for _ in 0..100 {
        child.write(&vec![0; 1024 * 1024])?;
    }
    survived("100 MiB of input that nobody reads")
}

/// Returns while its child runs.
fn child_left(_call: &Call<'_>) -> Result<Outcome> {
    // Forgotten, so that not the guest's own drop ends it.
    std::mem::forget(spawn(&["sleep", "600"])?);
    Ok(Outcome::done(""))
}
