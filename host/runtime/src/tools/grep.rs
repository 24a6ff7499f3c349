//! `grep`: lines of files by a regular expression, with ripgrep's engine (linear time, no backtracking).
//!
//! It searches what a guest may see: with live secret values replaced *before* the search. Otherwise whether a line
//! matches would tell a value letter by letter.

use std::io;
use std::ops::ControlFlow;

use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder, Sink, SinkContext, SinkMatch};
use midplane_core::text::{preview, shown};
use midplane_core::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Answer, Budget, json_bytes};
use super::files::Files;
use super::glob::{Names, names_hidden};
use super::tool::{FileTool, Needs, Stop};
use super::walk::{Found, Walk, Walked, walk};
use crate::workspace::RelPath;

/// The longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 4096;
/// The largest compiled pattern, in bytes.
const REGEX_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Characters of a line that are shown.
const LINE_CHARS_MAX: usize = 500;
/// Matches that are given where the call says nothing.
const MATCHES_DEFAULT: usize = 500;
/// Bytes of a match's JSON beside path and text, at most; and of its line of text.
const MATCH_BYTES: usize = 64;

pub(super) struct Grep;

#[derive(Deserialize)]
pub(super) struct Arguments {
    pattern: String,
    path: Option<String>,
    glob: Option<String>,
    ignore_case: Option<bool>,
    context: Option<usize>,
    max: Option<usize>,
}

impl FileTool for Grep {
    type Arguments = Arguments;
    const NAME: &'static str = "grep";
    const DESCRIPTION: &'static str = "Searches the files of the workspace for lines that match a regular expression (Rust syntax, \
        one line at a time). Gives `path:line:text`. Skips what .gitignore leaves out, hidden files unless `path` or `glob` \
        names them, and binary files.";
    const NEEDS: Needs = Needs::Read;

    fn schema() -> Value {
        json!({
            "type": "object",
            "properties": {
                "pattern": { "type": "string", "minLength": 1, "description": "The regular expression" },
                "path": { "type": "string", "default": ".", "description": "File or folder relative to the workspace" },
                "glob": { "type": "string", "minLength": 1, "description": "Only files whose path below `path` matches, such as `**/*.rs`; without `/` the name alone" },
                "ignore_case": { "type": "boolean", "default": false, "description": "Whether case does not matter" },
                "context": { "type": "integer", "minimum": 0, "maximum": 20, "default": 0, "description": "Lines to show around each match" },
                "max": { "type": "integer", "minimum": 1, "maximum": 10000, "default": MATCHES_DEFAULT, "description": "Most matches to give" }
            },
            "required": ["pattern"],
            "additionalProperties": false
        })
    }

    fn run(arguments: Arguments, files: &Files, stop: &Stop) -> Result<Answer> {
        let matcher = compile(&arguments.pattern, arguments.ignore_case.unwrap_or(false))?;
        let names = arguments.glob.as_deref().map(names).transpose()?;
        let start = arguments.path.as_deref().map_or(Ok(RelPath::root()), RelPath::parse)?;
        let context = arguments.context.unwrap_or(0);
        let mut search = Search {
            searcher: SearcherBuilder::new()
                .line_number(true)
                .before_context(context)
                .after_context(context)
                .binary_detection(BinaryDetection::quit(0))
                .build(),
            matcher,
            hits: Hits {
                stop,
                budget: Budget::new(files.answer_bytes_max),
                left: arguments.max.unwrap_or(MATCHES_DEFAULT),
                gap: false,
                path: String::new(),
                text: String::new(),
                matches: Vec::new(),
                truncated: false,
            },
            skipped: 0,
        };
        let metadata = files.dir().metadata(start.as_str()).map_err(|error| start.failed(&error))?;
        let walked = if metadata.is_dir() {
            let prefix = start.join("");
            let hidden = names.as_ref().is_some_and(|names| names.hidden) || names_hidden(start.as_str());
            let what = Walk { start, hidden, ignored: false, depth_max: usize::MAX };
            walk(files, &what, stop, |Found { path, of }| {
                let below = path.strip_prefix(&prefix).unwrap_or(path);
                if of.is_file() && names.as_ref().is_none_or(|names| names.matches(below)) {
                    // A file that cannot be read must not end a search through thousands.
                    if RelPath::parse(path).and_then(|path| search.file(files, &path)).is_err() {
                        search.skipped += 1;
                    }
                }
                Ok(if search.hits.truncated { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?
        } else {
            search.file(files, &start)?;
            Walked::default()
        };
        stop.check()?;
        Ok(search.answer(&walked))
    }
}

/// A name without folders matches at any depth, as people mean it.
fn names(glob: &str) -> Result<Names> {
    if glob.contains('/') { Names::new(glob) } else { Names::new(&format!("**/{glob}")) }
}

fn compile(pattern: &str, ignore_case: bool) -> Result<RegexMatcher> {
    let bad = |why: &str| {
        Error::invalid("pattern", format!("`{}` is not a regular expression: {}", shown(pattern, 200), shown(why, 400)))
    };
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(bad("it has more than 4096 bytes"));
    }
    RegexMatcherBuilder::new()
        .case_insensitive(ignore_case)
        .multi_line(true)
        .line_terminator(Some(b'\n'))
        .size_limit(REGEX_BYTES_MAX)
        .dfa_size_limit(REGEX_BYTES_MAX)
        .build(pattern)
        // Of a long explanation with the pattern in it, the reason at its end.
        .map_err(|error| {
            bad(error.to_string().rsplit("error: ").next().unwrap_or_default())
                .hint("look-around and back-references do not exist; a line end cannot be matched")
        })
}

struct Search<'a> {
    searcher: Searcher,
    matcher: RegexMatcher,
    hits: Hits<'a>,
    /// Files that were too large or could not be read.
    skipped: usize,
}

impl Search<'_> {
    fn file(&mut self, files: &Files, path: &RelPath) -> Result<()> {
        let (content, _) = files.read(path)?;
        let clean = files.redactor.bytes(&content);
        path.as_str().clone_into(&mut self.hits.path);
        self.searcher
            .search_slice(&self.matcher, &clean, &mut self.hits)
            .map_err(|error| Error::unavailable("file", format!("`{path}`: {error}")))
    }

    fn answer(self, walked: &Walked) -> Answer {
        let Hits { text, matches, truncated, .. } = self.hits;
        let count = matches.len();
        let mut text = if count == 0 { "no line matches".to_owned() } else { text.trim_end().to_owned() };
        if truncated {
            text.push_str(&format!(
                "\n[cut after {count} matches; narrow the search with `path`, `glob` or the pattern]"
            ));
        }
        if self.skipped > 0 {
            text.push_str(&format!("\n[files skipped as too large or not readable: {}]", self.skipped));
        }
        text.push_str(&walked.notes());
        Answer::ok(text, json!({ "matches": matches, "truncated": truncated || walked.truncated }))
    }
}

/// What was found so far.
struct Hits<'a> {
    stop: &'a Stop,
    budget: Budget,
    /// Matches that may still come.
    left: usize,
    /// Whether the next line does not follow the one before it: with context lines that is shown.
    gap: bool,
    /// The file in work.
    path: String,
    text: String,
    matches: Vec<Value>,
    truncated: bool,
}

impl Hits<'_> {
    /// One line of the answer: `path:12:text` for a match, `path-12-text` around it.
    fn line(&mut self, line: u64, bytes: &[u8], separator: char) -> Option<String> {
        let text = String::from_utf8_lossy(bytes);
        let text = preview(text.trim_end_matches(['\n', '\r']), LINE_CHARS_MAX);
        // The structure is the longer form of a match; a line around it is in the text alone, but costs the same.
        if !self.budget.take(json_bytes(&self.path) + json_bytes(&text) + MATCH_BYTES) {
            self.truncated = true;
            return None;
        }
        if std::mem::take(&mut self.gap) && !self.text.is_empty() {
            self.text.push_str("--\n");
        }
        self.text.push_str(&format!("{}{separator}{line}{separator}{text}\n", self.path));
        Some(text)
    }
}

impl Sink for Hits<'_> {
    type Error = io::Error;

    fn matched(&mut self, _: &Searcher, hit: &SinkMatch<'_>) -> Result<bool, io::Error> {
        if self.stop.check().is_err() {
            return Ok(false);
        }
        if self.left == 0 {
            self.truncated = true;
            return Ok(false);
        }
        self.left -= 1;
        let line = hit.line_number().unwrap_or(0);
        let Some(text) = self.line(line, hit.bytes(), ':') else { return Ok(false) };
        self.matches.push(json!({ "path": self.path, "line": line, "text": text }));
        Ok(true)
    }

    fn context(&mut self, _: &Searcher, context: &SinkContext<'_>) -> Result<bool, io::Error> {
        let line = context.line_number().unwrap_or(0);
        Ok(self.line(line, context.bytes(), '-').is_some())
    }

    fn context_break(&mut self, _: &Searcher) -> Result<bool, io::Error> {
        self.gap = true;
        Ok(true)
    }

    fn begin(&mut self, searcher: &Searcher) -> Result<bool, io::Error> {
        self.gap = searcher.before_context() > 0;
        Ok(!self.truncated)
    }
}
