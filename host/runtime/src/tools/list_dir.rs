//! `list_dir`: what is in a folder.

use std::ops::ControlFlow;

use midplane_core::Result;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Answer, Budget, json_bytes};
use super::files::Files;
use super::tool::{FileTool, Needs, Stop};
use super::walk::{Found, Walk, walk};
use crate::workspace::RelPath;

/// Bytes of an entry's JSON without its path, at most.
const ENTRY_BYTES: usize = 72;

pub(super) struct ListDir;

#[derive(Deserialize)]
pub(super) struct Arguments {
    path: Option<String>,
    depth: Option<usize>,
}

impl FileTool for ListDir {
    type Arguments = Arguments;
    const NAME: &'static str = "list_dir";
    const DESCRIPTION: &'static str = "Lists what is in a folder of the workspace, hidden and ignored files too, in byte order. \
        With `depth` it also enters folders, but not `.git` and none that .gitignore leaves out.";
    const NEEDS: Needs = Needs::Read;

    fn schema() -> Value {
        json!({
            "type": "object",
            "properties": {
                "path": { "type": "string", "default": ".", "description": "Folder relative to the workspace" },
                "depth": { "type": "integer", "minimum": 1, "maximum": 64, "default": 1, "description": "How many levels to list" }
            },
            "additionalProperties": false
        })
    }

    fn run(arguments: Arguments, files: &Files, stop: &Stop) -> Result<Answer> {
        let start = arguments.path.as_deref().map_or(Ok(RelPath::root()), RelPath::parse)?;
        let what = Walk { start, hidden: true, ignored: true, depth_max: arguments.depth.unwrap_or(1) };
        let mut budget = Budget::new(files.answer_bytes_max);
        let mut found: Vec<(String, &'static str, u64)> = Vec::new();
        let mut cut = false;
        let walked = walk(files, &what, stop, |Found { path, of }| {
            if !budget.take(json_bytes(path) + ENTRY_BYTES) {
                cut = true;
                return Ok(ControlFlow::Break(()));
            }
            let kind = match of {
                of if of.is_file() => "file",
                of if of.is_dir() => "dir",
                of if of.is_symlink() => "symlink",
                _ => "other",
            };
            let size = if kind == "file" {
                files.dir().symlink_metadata(path).map_or(0, |metadata| metadata.len())
            } else {
                0
            };
            found.push((path.clone(), kind, size));
            Ok(ControlFlow::Continue(()))
        })?;
        found.sort();
        let lines: Vec<String> = found
            .iter()
            .map(|(path, kind, size)| match *kind {
                "dir" => format!("{path}/"),
                "file" => format!("{path} ({size} bytes)"),
                kind => format!("{path} ({kind})"),
            })
            .collect();
        let mut text = if lines.is_empty() { "the folder is empty".to_owned() } else { lines.join("\n") };
        if cut {
            text.push_str(&format!("\n[cut after {} entries; name a folder in `path` to see the rest]", lines.len()));
        }
        text.push_str(&walked.notes());
        let entries: Vec<Value> =
            found.iter().map(|(path, kind, size)| json!({ "path": path, "type": kind, "size_bytes": size })).collect();
        Ok(Answer::ok(text, json!({ "entries": entries, "truncated": cut || walked.truncated })))
    }
}
