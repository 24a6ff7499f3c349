//! `read_file`: a text file, or some lines of it, as it is.

use midplane_core::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Answer, Budget, json_cut};
use super::files::Files;
use super::tool::{FileTool, Needs, Stop};
use crate::workspace::RelPath;

pub(super) struct ReadFile;

#[derive(Deserialize)]
pub(super) struct Arguments {
    path: String,
    offset: Option<usize>,
    limit: Option<usize>,
}

impl FileTool for ReadFile {
    type Arguments = Arguments;
    const NAME: &'static str = "read_file";
    const DESCRIPTION: &'static str = "Reads a text file of the workspace and gives its content as it is. Use `offset` and \
        `limit` to take some lines of a long file; an answer that was cut says where to go on. Binary files are refused.";
    const NEEDS: Needs = Needs::Read;

    fn schema() -> Value {
        json!({
            "type": "object",
            "properties": {
                "path": { "type": "string", "description": "Path relative to the workspace" },
                "offset": { "type": "integer", "minimum": 1, "description": "First line to read, counted from 1" },
                "limit": { "type": "integer", "minimum": 1, "description": "Most lines to read" }
            },
            "required": ["path"],
            "additionalProperties": false
        })
    }

    fn run(arguments: Arguments, files: &Files, stop: &Stop) -> Result<Answer> {
        let path = RelPath::parse(&arguments.path)?;
        let (content, metadata) = files.read_text(&path)?;
        stop.check()?;
        // All of it, before lines are taken: a value can go over several.
        let content = files.redactor.text(&content);
        let lines = content.split_inclusive('\n').count();
        let first = arguments.offset.unwrap_or(1);
        if first > lines.max(1) {
            return Err(Error::invalid("offset", format!("`{path}` has {lines} lines, so none begins at {first}")));
        }
        let begin = line_start(&content, first - 1);
        let end = match arguments.limit.and_then(|limit| (first - 1).checked_add(limit)) {
            Some(last) if last < lines => line_start(&content, last),
            _ => content.len(),
        };
        let part = json_cut(&content[begin..end], Budget::new(files.answer_bytes_max).left());
        let truncated = begin > 0 || begin + part.len() < content.len();
        let mut text = part.to_owned();
        if begin + part.len() < content.len() {
            let shown = part.split_inclusive('\n').count();
            let whole = part.is_empty() || part.ends_with('\n');
            // A line that was cut is begun again; but one that alone is too long could then never be passed.
            let next = first + if whole || shown == 1 { shown } else { shown - 1 };
            let inside = if whole { "" } else { ", cut in the last of them" };
            let separator = if whole { "" } else { "\n" };
            let go_on = if next > lines { String::new() } else { format!("; go on with `offset` {next}") };
            let last = first + shown.max(1) - 1;
            text.push_str(&format!("{separator}[lines {first}-{last} of {lines} are shown{inside}{go_on}]"));
        }
        let structured =
            json!({ "path": path.as_str(), "content": part, "size_bytes": metadata.len(), "truncated": truncated });
        Ok(Answer::ok(text, structured))
    }
}

/// Where the line of an index begins.
fn line_start(content: &str, index: usize) -> usize {
    content.split_inclusive('\n').take(index).map(str::len).sum()
}
