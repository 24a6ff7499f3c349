//! A workspace in memory with the host's tools, as far as playbooks need them: real enough that a playbook that works
//! here works on files, because the shapes of arguments and results are the host's.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use midplane_plugin::host::{Answer, Call};
use midplane_plugin::testing::{FakeHost, answer};
use regex_lite::Regex;
use serde_json::{Value as Json, json};

pub(super) type Files = Rc<RefCell<BTreeMap<String, String>>>;

const READING: [&str; 4] = ["read_file", "list_dir", "glob", "grep"];
const WRITING: [&str; 3] = ["write_file", "edit_file", "move_file"];

/// A host with these files, and all tools.
pub(super) fn writable(files: &[(&str, &str)]) -> (FakeHost, Files) {
    let (host, files) = with_tools(files, &[&READING[..], &WRITING[..], &["shell"]].concat());
    (host, files)
}

/// A host with these files that only reads.
pub(super) fn read_only(files: &[(&str, &str)]) -> (FakeHost, Files) {
    with_tools(files, &READING)
}

fn with_tools(files: &[(&str, &str)], tools: &[&str]) -> (FakeHost, Files) {
    let files: BTreeMap<String, String> = files.iter().map(|(path, text)| ((*path).into(), (*text).into())).collect();
    let files = Rc::new(RefCell::new(files));
    let shared = Rc::clone(&files);
    (FakeHost::new().tools(tools).on_call(move |call| run(&shared, call)), files)
}

fn run(files: &Files, call: &Call) -> Answer {
    let arguments: Json = serde_json::from_str(&call.arguments).expect("arguments are JSON");
    let text = |name: &str| arguments[name].as_str().unwrap_or_default().to_owned();
    let mut files = files.borrow_mut();
    let ok = |value: Json| answer(call, false, value.to_string(), Some(value));
    let failed = |text: String| answer(call, true, text, None);
    let missing = |path: &str| failed(format!("there is no file `{path}`\nhint: list the folder"));
    match call.name.as_str() {
        "read_file" => match files.get(&text("path")) {
            Some(content) => {
                ok(json!({ "path": text("path"), "content": content, "size_bytes": content.len(), "truncated": false }))
            }
            None => missing(&text("path")),
        },
        "write_file" => {
            files.insert(text("path"), text("content"));
            ok(json!({ "path": text("path"), "size_bytes": text("content").len(), "created": true }))
        }
        "edit_file" => match files.get_mut(&text("path")) {
            Some(content) => {
                let replacements = content.matches(&text("old")).count();
                *content = content.replace(&text("old"), &text("new"));
                ok(json!({ "path": text("path"), "size_bytes": content.len(), "replacements": replacements }))
            }
            None => missing(&text("path")),
        },
        "move_file" => match files.remove(&text("from")) {
            Some(content) => {
                files.insert(text("to"), content);
                ok(json!({ "from": text("from"), "to": text("to") }))
            }
            None => missing(&text("from")),
        },
        "list_dir" => ok(list_dir(&files, &arguments)),
        "glob" => {
            let pattern = glob(&text("pattern"));
            let paths: Vec<&String> = files.keys().filter(|path| pattern.is_match(path)).collect();
            ok(json!({ "paths": paths, "truncated": false }))
        }
        "grep" => {
            let names = arguments["glob"].as_str().map(glob);
            let pattern = match Regex::new(&text("pattern")) {
                Ok(pattern) => pattern,
                Err(error) => return failed(format!("not a pattern: {error}")),
            };
            let mut matches = Vec::new();
            for (path, content) in
                files.iter().filter(|(path, _)| names.as_ref().is_none_or(|names| names.is_match(path)))
            {
                for (index, line) in content.lines().enumerate().filter(|(_, line)| pattern.is_match(line)) {
                    matches.push(json!({ "path": path, "line": index + 1, "text": line }));
                }
            }
            ok(json!({ "matches": matches, "truncated": false }))
        }
        "shell" => {
            let code: i64 = text("command").strip_prefix("exit ").and_then(|code| code.parse().ok()).unwrap_or(0);
            let value = json!({ "exit_code": code, "stdout": format!("$ {}", text("command")), "stderr": "", "timed_out": false });
            answer(call, code != 0, format!("$ {}\n[exit code {code}]", text("command")), Some(value))
        }
        other => failed(format!("there is no tool `{other}`")),
    }
}

fn list_dir(files: &BTreeMap<String, String>, arguments: &Json) -> Json {
    let start = arguments["path"].as_str().unwrap_or(".");
    let prefix = if start == "." { String::new() } else { format!("{start}/") };
    let depth = usize::try_from(arguments["depth"].as_u64().unwrap_or(1)).expect("small");
    let mut folders = BTreeSet::new();
    let mut entries = Vec::new();
    for (path, content) in files.iter().filter(|(path, _)| path.starts_with(&prefix)) {
        let parts: Vec<&str> = path[prefix.len()..].split('/').collect();
        for below in 1..parts.len().min(depth + 1) {
            folders.insert(format!("{prefix}{}", parts[..below].join("/")));
        }
        if parts.len() <= depth {
            entries.push(json!({ "path": path, "type": "file", "size_bytes": content.len() }));
        }
    }
    entries.extend(folders.iter().map(|path| json!({ "path": path, "type": "dir", "size_bytes": 0 })));
    json!({ "entries": entries, "truncated": false })
}

/// A pattern of names as a regular expression.
fn glob(pattern: &str) -> Regex {
    let mut regex = String::from("^");
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        let (part, length) = match first {
            _ if rest.starts_with("**/") => ("(.*/)?".to_owned(), 3),
            _ if rest.starts_with("**") => (".*".to_owned(), 2),
            '*' => ("[^/]*".to_owned(), 1),
            '{' => ("(".to_owned(), 1),
            '}' => (")".to_owned(), 1),
            ',' => ("|".to_owned(), 1),
            c => (regex_lite::escape(&c.to_string()), c.len_utf8()),
        };
        regex.push_str(&part);
        rest = &rest[length..];
    }
    Regex::new(&format!("{regex}$")).expect("a pattern of the tests")
}
