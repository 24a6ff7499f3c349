//! `edit_file`: one piece of text in place of another, found by its exact words.

use midplane_core::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::Answer;
use super::files::Files;
use super::tool::{FileTool, Needs, Stop};
use crate::workspace::RelPath;

pub(super) struct EditFile;

#[derive(Deserialize)]
pub(super) struct Arguments {
    path: String,
    old: String,
    new: String,
    all: Option<bool>,
}

impl FileTool for EditFile {
    type Arguments = Arguments;
    const NAME: &'static str = "edit_file";
    const DESCRIPTION: &'static str = "Replaces a piece of text in a file of the workspace. `old` must be in the file exactly as \
        given, with its spaces and line ends, and only once: give enough of what is around it, or set `all` to replace every one.";
    const NEEDS: Needs = Needs::Write;

    fn schema() -> Value {
        json!({
            "type": "object",
            "properties": {
                "path": { "type": "string", "description": "Path relative to the workspace" },
                "old": { "type": "string", "minLength": 1, "description": "The text to replace, exactly as it is in the file" },
                "new": { "type": "string", "description": "The text to put in its place" },
                "all": { "type": "boolean", "default": false, "description": "Whether to replace every occurrence" }
            },
            "required": ["path", "old", "new"],
            "additionalProperties": false
        })
    }

    fn run(arguments: Arguments, files: &Files, stop: &Stop) -> Result<Answer> {
        let Arguments { path, old, new, all } = arguments;
        let path = RelPath::parse(&path)?;
        if old == new {
            return Err(Error::invalid("edit", "`old` and `new` are the same, so there is nothing to change"));
        }
        let (content, _) = files.read_text(&path)?;
        let count = content.matches(&old).count();
        if count == 0 {
            return Err(not_found(&path, &content, &old));
        }
        if count > 1 && !all.unwrap_or(false) {
            return Err(Error::conflict("edit", format!("`old` is {count} times in `{path}`"))
                .hint("give more of what is around it, so that it is there once, or set `all`"));
        }
        stop.check()?;
        let changed = content.replace(&old, &new);
        files.write(&path, changed.as_bytes())?;
        let times = if count == 1 { String::new() } else { format!(" in {count} places") };
        let structured = json!({ "path": path.as_str(), "size_bytes": changed.len(), "replacements": count });
        Ok(Answer::ok(format!("edited `{path}`{times}"), structured))
    }
}

fn not_found(path: &RelPath, content: &str, old: &str) -> Error {
    let error = Error::not_found("edit", format!("`old` is not in `{path}`"));
    // The mistakes that a model makes most, and cannot see by reading again.
    if old.contains("[redacted") {
        error.hint("what is shown as redacted is something else in the file; edit around it")
    } else if content.contains("\r\n") && !old.contains('\r') && content.replace("\r\n", "\n").contains(old) {
        error.hint("the lines of this file end with CRLF; `old` must have `\\r\\n` too")
    } else if content.contains(old.trim()) && !old.trim().is_empty() {
        error.hint("it is there with other white space at its begin or end")
    } else {
        error.hint("read the file again: it must be exactly the same text")
    }
}
