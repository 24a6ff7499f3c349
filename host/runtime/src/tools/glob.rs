//! `glob`: files by their names.

use std::ops::ControlFlow;

use globset::{GlobBuilder, GlobMatcher};
use midplane_core::text::shown;
use midplane_core::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Answer, Budget, json_bytes};
use super::files::Files;
use super::tool::{FileTool, Needs, Stop};
use super::walk::{Found, Walk, walk};
use crate::workspace::RelPath;

/// The longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 4096;

pub(super) struct Glob;

#[derive(Deserialize)]
pub(super) struct Arguments {
    pattern: String,
    path: Option<String>,
}

impl FileTool for Glob {
    type Arguments = Arguments;
    const NAME: &'static str = "glob";
    const DESCRIPTION: &'static str = "Finds files of the workspace by name, in byte order. `*` matches inside a name, `**` any \
        number of folders, `{a,b}` either. Files that .gitignore leaves out are skipped, and hidden ones unless the pattern \
        names them, as in `.github/**`.";
    const NEEDS: Needs = Needs::Read;

    fn schema() -> Value {
        json!({
            "type": "object",
            "properties": {
                "pattern": { "type": "string", "minLength": 1, "description": "For example `src/**/*.rs`, relative to `path`" },
                "path": { "type": "string", "default": ".", "description": "Folder relative to the workspace to search in" }
            },
            "required": ["pattern"],
            "additionalProperties": false
        })
    }

    fn run(arguments: Arguments, files: &Files, stop: &Stop) -> Result<Answer> {
        let matcher = Names::new(&arguments.pattern)?;
        let start = arguments.path.as_deref().map_or(Ok(RelPath::root()), RelPath::parse)?;
        let prefix = start.join("");
        let what = Walk {
            hidden: matcher.hidden || names_hidden(start.as_str()),
            start,
            ignored: false,
            depth_max: usize::MAX,
        };
        let mut budget = Budget::new(files.answer_bytes_max);
        let mut paths: Vec<String> = Vec::new();
        let mut cut = false;
        let walked = walk(files, &what, stop, |Found { path, of }| {
            if of.is_file() && matcher.matches(path.strip_prefix(&prefix).unwrap_or(path)) {
                if !budget.take(json_bytes(path) + 3) {
                    cut = true;
                    return Ok(ControlFlow::Break(()));
                }
                paths.push(path.clone());
            }
            Ok(ControlFlow::Continue(()))
        })?;
        let mut text = if paths.is_empty() { "no file matches".to_owned() } else { paths.join("\n") };
        if cut {
            text.push_str(&format!("\n[cut after {} files; use a narrower pattern]", paths.len()));
        }
        text.push_str(&walked.notes());
        Ok(Answer::ok(text, json!({ "paths": paths, "truncated": cut || walked.truncated })))
    }
}

/// A pattern of names, for `glob` and `grep`.
pub(super) struct Names {
    matcher: GlobMatcher,
    /// Whether it names something hidden: then hidden files are looked at.
    pub(super) hidden: bool,
}

impl Names {
    /// Compiles a pattern; `*` does not match `/`.
    pub(super) fn new(pattern: &str) -> Result<Self> {
        let bad =
            |why: &str| Error::invalid("pattern", format!("`{}` is not a glob pattern: {why}", shown(pattern, 200)));
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(bad("it has more than 4096 bytes"));
        }
        if pattern.starts_with('/') || pattern.split('/').any(|part| part == "..") {
            return Err(bad("it leads out of the folder").hint("a pattern is relative to `path`, without `..`"));
        }
        let pattern = pattern.strip_prefix("./").unwrap_or(pattern);
        let glob = GlobBuilder::new(pattern)
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map_err(|error| bad(&error.kind().to_string()))?;
        Ok(Self { matcher: glob.compile_matcher(), hidden: names_hidden(pattern) })
    }

    /// Whether a path matches.
    pub(super) fn matches(&self, path: &str) -> bool {
        self.matcher.is_match(path)
    }
}

/// Whether a part of a path or pattern begins with a dot (and is not `.` alone).
pub(super) fn names_hidden(path: &str) -> bool {
    path.split(['/', '{', ',']).any(|part| part.len() > 1 && part.starts_with('.'))
}
