//! Something wrong with a file that a person wrote: where, what, and what to do about it.
//!
//! A parser of a person's file reports *all* its problems at once, in the order of the file. An [`Error`] is for a call; a
//! problem is for a line.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;

use crate::{Error, ErrorKind};

/// Problems of one file that are kept; a file with more is not read better by showing them.
pub const PROBLEMS_MAX: usize = 100;

/// A place in a text. Both count from 1; a column counts code points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Mark {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file, as the person named it.
    pub file: String,
    /// Where in it; none for what concerns the file as a whole (it is missing, it is too large).
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub at: Option<Mark>,
    /// The field, as a dotted path with list indices (`env_schema.0.name`); empty for the file as a whole.
    pub field: String,
    /// A stable kebab-case word: what `midplane explain` takes.
    pub code: Cow<'static, str>,
    /// One sentence: lower case, no final period, names in backticks.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Problem {
    /// A problem of a file as a whole.
    pub fn new(file: impl Into<String>, code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            at: None,
            field: String::new(),
            code: code.into(),
            message: message.into(),
            hint: None,
        }
    }

    /// Adds the place.
    #[must_use]
    pub fn at(mut self, at: Mark) -> Self {
        self.at = Some(at);
        self
    }

    /// Adds the field.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = field.into();
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// `runtm.yaml:3:9: env_schema.0.name: the name is empty`; the hint is shown on a line of its own.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(at) = self.at {
            write!(f, ":{}:{}", at.line, at.column)?;
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// The first problem as the error of a call (`invalid`); how many more there are is said, not lost.
impl From<Vec<Problem>> for Error {
    fn from(problems: Vec<Problem>) -> Self {
        let more = problems.len().saturating_sub(1);
        let Some(first) = problems.into_iter().next() else {
            return Self::internal("no-problem", "a file was refused without a problem");
        };
        let more = if more == 0 { String::new() } else { format!(" (and {more} more)") };
        let message = format!("{first}{more}");
        Self { hint: first.hint, ..Self::new(ErrorKind::Invalid, first.code, message) }
    }
}
