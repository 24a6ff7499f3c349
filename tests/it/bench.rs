//! A real agent's program under the command: its model is played by `aimock`, and its runs are read as the command tells them.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::command::{Home, Printed};
use crate::peer::Aimock;

/// An agent with its model, under the command.
pub(crate) struct Bench {
    pub(crate) mock: Aimock,
    pub(crate) home: Home,
    /// The folder that tasks work in.
    pub(crate) folder: tempfile::TempDir,
    profile: &'static str,
}

impl Bench {
    pub(crate) fn new(profile: &'static str, mock: Aimock, home: Home) -> Self {
        Self { mock, home, folder: tempfile::tempdir().expect("folder"), profile }
    }

    pub(crate) fn arguments(&self, goal: &str, more: &[&str]) -> Vec<String> {
        let workspace = format!("{}:rw", self.folder.path().display());
        let fixed = ["run", self.profile, "--json", "--workspace", &workspace, "--goal", goal];
        fixed.iter().chain(more).map(|word| (*word).to_owned()).collect()
    }

    /// Runs a task to its end; gives its events.
    pub(crate) fn run(&self, goal: &str, more: &[&str]) -> (Printed, Vec<Value>) {
        let arguments = self.arguments(goal, more);
        let ran = self.home.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let events = ran.lines();
        (ran, events)
    }
}

/// The data of the events of a kind.
pub(crate) fn of<'e>(events: &'e [Value], kind: &str) -> Vec<&'e Value> {
    events.iter().filter(|event| event["kind"] == kind).map(|event| &event["data"]).collect()
}

/// The notifications of a type.
pub(crate) fn told<'e>(events: &'e [Value], kind: &str) -> Vec<&'e Value> {
    of(events, "notification").into_iter().filter(|data| data["type"] == kind).collect()
}

pub(crate) fn terminal(events: &[Value]) -> &Value {
    of(events, "runtime_terminal").pop().unwrap_or_else(|| panic!("no end: {events:#?}"))
}

/// Finish reason, kind and code of the error, and output.
pub(crate) fn ended(events: &[Value]) -> [&str; 4] {
    let end = terminal(events);
    [&end["finish_reason"], &end["error"]["kind"], &end["error"]["code"], &end["output"]]
        .map(|value| value.as_str().unwrap_or_default())
}

/// The calls that were told: name, how each ended, and what came back.
pub(crate) fn calls(events: &[Value]) -> Vec<[&str; 3]> {
    let names = ["name", "status", "preview"];
    let responses = of(events, "tool_response").into_iter();
    responses.map(|data| names.map(|name| data[name].as_str().unwrap_or_default())).collect()
}

/// All processes whose arguments have this in them, with arguments and environment.
pub(crate) fn processes(needle: &str) -> Vec<(PathBuf, String)> {
    let read = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).replace('\0', " ");
    let folders = std::fs::read_dir("/proc").expect("/proc").flatten().map(|entry| entry.path());
    folders
        .filter(|folder| folder.file_name().is_some_and(|name| name.as_encoded_bytes()[0].is_ascii_digit()))
        .filter_map(|folder| {
            let line = read(&folder.join("cmdline"));
            line.contains(needle).then(|| (folder.clone(), format!("{line}\n{}", read(&folder.join("environ")))))
        })
        .collect()
}

/// The model's last word after its tools.
pub(crate) fn after_tools(goal: &str) -> Value {
    json!({ "match": { "userMessage": goal, "hasToolResult": true },
        "response": { "content": "The tool is done.", "usage": { "input_tokens": 20, "output_tokens": 4, "total_tokens": 24 } } })
}

/// A model's API that fails.
pub(crate) fn failing(goal: &str, status: u16, kind: &str) -> Value {
    json!({ "match": { "userMessage": goal },
        "response": { "error": { "message": "about it", "type": kind }, "status": status } })
}
