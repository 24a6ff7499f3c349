//! Layered configuration with the origin of every value.
//!
//! Texts of several layers become one tree: `default` < `environment` < `machine` < `substrate` < `role` < `overrides`, with a
//! project's own file below them all. Every value of the tree says which layer, file, line and column it comes from, and
//! what it replaced on the way. Then references between values are followed.
//!
//! # Layout
//! - `source`: one layer, from YAML, from data, or from assignments such as `--set a.b=c` ([`Source`])
//! - `merge`: layers into one tree ([`merge()`], [`Merged`])
//! - `expression`, `lex`: the grammar of `${...}`
//! - `resolve`, `functions`: what a reference stands for; which environment variables may be read ([`Variables`])
//! - `path`: dotted and bracketed paths, and parts of a tree ([`View`])
//! - `store`: the files of an application, and which block of each counts ([`load`])
//! - `shown`: values as text and as JSON
//!
//! The rules of merge, selection and interpolation are those of mxm-config, which are OmegaConf's. Where ours differ: an escaped
//! reference stays text, functions may give lists and mappings, selectors are compared as text, and an environment variable
//! is read only if it is allowed.
//!
//! # What it never does
//! It reads no file and no environment, evaluates no value of a variable as an expression, and neither recurses nor grows
//! without bound on any input.

mod expression;
mod functions;
mod lex;
mod merge;
mod path;
mod resolve;
mod shown;
mod source;
mod store;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::codes::codes;
use crate::problem::{Mark, Problem};
use crate::yaml::tree::BigInt;
use crate::{Error, ErrorKind};

pub use expression::Expression;
pub use merge::{Merged, merge};
pub use path::{Step, View, dotted};
pub use resolve::Variables;
pub use source::Source;
pub use store::{Found, Selectors, load};

/// How deep mappings and lists may nest.
pub const DEPTH_MAX: usize = 64;
/// Values of one file or of a whole tree, counted after references to mappings and lists are copied.
pub const NODES_MAX: usize = 50_000;
/// Bytes of text that following references may make, in one tree.
pub const TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Where a value stands in the order of precedence. Later ones win.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// What a project brings with it. It is not the operator's, so its user decides what it may set.
    Project,
    /// For every identity.
    Default,
    /// For one environment, such as `dev`.
    Environment,
    /// For one machine.
    Machine,
    /// For one kind of substrate, such as `local-process`.
    Substrate,
    /// For one role.
    Role,
    /// Of this call only.
    Overrides,
}

impl Layer {
    /// Every layer, from low to high.
    pub const ALL: [Self; 7] =
        [Self::Project, Self::Default, Self::Environment, Self::Machine, Self::Substrate, Self::Role, Self::Overrides];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::Default => "default",
            Self::Environment => "environment",
            Self::Machine => "machine",
            Self::Substrate => "substrate",
            Self::Role => "role",
            Self::Overrides => "overrides",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// The layer.
    pub layer: Layer,
    /// The file, as it was named, or what stands for one (`--set`).
    #[serde(serialize_with = "as_text")]
    pub file: Arc<str>,
    /// The place in it; none for values that come from no text.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub at: Option<Mark>,
}

fn as_text<S: serde::Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

/// `role.yaml:3:5 (layer role)`
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(at) = self.at {
            write!(f, ":{}:{}", at.line, at.column)?;
        }
        write!(f, " (layer {})", self.layer)
    }
}

/// A value, where it comes from, and what was there before.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it was written. For a mapping with keys from several layers, where it appeared first.
    pub origin: Origin,
    /// What it replaced, from the lowest layer up.
    pub replaced: Vec<Replaced>,
    /// The expression from which the value was made.
    pub written: Option<Arc<str>>,
}

/// A value of a lower layer that does not count any more.
#[derive(Debug, Clone, PartialEq)]
pub struct Replaced {
    /// It.
    pub value: Value,
    /// Where it was written.
    pub origin: Origin,
}

/// What a value can be.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(BigInt),
    /// Any other number; infinities and not-a-number too.
    Float(f64),
    /// A text.
    Text(String),
    /// A text with references that are not yet followed. A resolved tree has none.
    Expression(Arc<Expression>),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order in which its keys appeared.
    Map(IndexMap<String, Node>),
}

impl Value {
    /// What it is, for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Int(_) | Self::Float(_) => "a number",
            Self::Text(_) => "a text",
            Self::Expression(_) => "an expression",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }

    /// Whether it is the mark of a value that a higher layer must give.
    #[must_use]
    pub fn is_mandatory(&self) -> bool {
        matches!(self, Self::Text(text) if text == MANDATORY)
    }
}

/// Stands for a value that a higher layer must give.
const MANDATORY: &str = "???";

impl Node {
    fn new(value: Value, origin: Origin) -> Self {
        Self { value, origin, replaced: Vec::new(), written: None }
    }

    /// The children of a mapping; none for anything else.
    #[must_use]
    pub fn entries(&self) -> Option<&IndexMap<String, Self>> {
        match &self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The child of that key, or of that index.
    #[must_use]
    pub fn child(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(map) => map.get(key),
            Value::List(list) => list.get(key.parse::<usize>().ok()?),
            _ => None,
        }
    }

    /// Every value below, with its path, in order: all but mappings and lists that only hold others. One that replaced
    /// something or was made from an expression is among them, before what it holds.
    #[must_use]
    pub fn leaves(&self) -> Vec<(String, &Self)> {
        let mut leaves = Vec::new();
        let mut todo = vec![(String::new(), self)];
        while let Some((path, node)) = todo.pop() {
            // Reversed, because the last one that is put on is taken first.
            let from = todo.len();
            match &node.value {
                Value::Map(map) => todo.extend(map.iter().map(|(key, node)| (path::joined(&path, key), node))),
                Value::List(list) => {
                    todo.extend(list.iter().enumerate().map(|(at, node)| (path::joined(&path, &at.to_string()), node)));
                }
                _ => {}
            }
            todo[from..].reverse();
            if todo.len() == from || !node.replaced.is_empty() || node.written.is_some() {
                leaves.push((path, node));
            }
        }
        leaves
    }
}

/// Why a configuration was refused: every problem that was found, in the order in which they were found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// The problems, at least one.
    pub problems: Vec<Problem>,
}

impl Refused {
    /// The problem of a value.
    #[must_use]
    pub fn at(origin: &Origin, field: &str, code: &'static str, message: impl fmt::Display) -> Self {
        Self::of(problem(origin, field, code, message))
    }

    /// One problem.
    #[must_use]
    pub fn of(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }

    /// Adds what to do about the last problem.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Some(last) = self.problems.last_mut() {
            last.hint = Some(hint.into());
        }
        self
    }

    /// The kind of the first problem: what a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        let code = self.problems.first().map_or("", |problem| &problem.code);
        CODES.iter().find(|known| known.code == code).map_or(ErrorKind::Invalid, |known| known.kind)
    }
}

/// A problem of a value says its layer, because the file alone may not.
fn problem(origin: &Origin, field: &str, code: &'static str, message: impl fmt::Display) -> Problem {
    let problem = Problem::new(&*origin.file, code, format!("{message} (layer {})", origin.layer)).field(field);
    match origin.at {
        Some(at) => problem.at(at),
        None => problem,
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.problems.iter().map(Problem::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Refused {}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        let kind = refused.kind();
        Self { kind, ..refused.problems.into() }
    }
}

codes! {
    /// The codes of configuration.
    Invalid "config-yaml":
        "A configuration file is not the YAML that configuration is written in."
        => "Correct the text at the place named. One document per file, no tags of a programming language, no tabs in indents.";
    Invalid "config-root":
        "A configuration file holds something other than a mapping."
        => "Write keys and values.";
    Invalid "config-key":
        "A key is there twice, or is null, a list or a mapping."
        => "Use each key once, and text for it.";
    Invalid "config-value":
        "A value is of a kind that configuration has not, such as binary data or a set."
        => "Write it as text, number, boolean, list or mapping.";
    NotFound "config-default":
        "The application has no `default.yaml`, or there is no such application."
        => "Check the application's name, or add the file; it may be empty.";
    Invalid "config-file":
        "What should be a configuration file is a folder or cannot be read."
        => "Put a readable file there, or nothing.";
    NotFound "config-selector":
        "The file of a layer exists but has no block for this identity."
        => "Add a block of that name, or a block `_` for all others where the caller allows one.";
    Invalid "config-block":
        "The block for this identity is not a mapping."
        => "Write keys and values below its name; `{}` sets nothing.";
    Invalid "config-unknown-key":
        "The configuration has a key that means nothing there."
        => "Correct its name; the hint says which keys there are.";
    Invalid "config-shape":
        "A value of the configuration is not what its key takes."
        => "Write the kind of value that the message names.";
    Denied "config-project":
        "The `midplane.yaml` of a project sets what only the operator may: rights, secrets, trust, paths, or a raised limit."
        => "Put it into the operator's own configuration, if it is wanted there, and take it out of the project's file.";
    Conflict "grant-configured":
        "A grant that is to be taken back stands in the configuration, which no command changes."
        => "Take it out of the file that the message names.";
    Invalid "config-merge":
        "One layer has a list where another has a mapping."
        => "Use one of the two in both layers, or set it to null in a layer between.";
    Invalid "config-expression":
        "A value with `${` is not a well-formed reference."
        => "Write `${key.of.another}` or `${function:arguments}`; for the characters themselves write `\\${`.";
    Invalid "config-reference":
        "A value refers to one that is not there."
        => "Correct the path, or give the value in some layer.";
    Invalid "config-cycle":
        "Values refer to each other in a circle, or one refers to what it is part of."
        => "Give one of them a value of its own.";
    Invalid "config-mandatory":
        "A value refers to one that is `???`, which some layer must give."
        => "Give it in a layer that applies to this identity.";
    Invalid "config-function":
        "A reference names a function that does not exist, or gives it arguments that it does not take."
        => "Use `oc.env`, `oc.select`, `oc.decode`, `oc.create`, `oc.coerce`, `oc.deprecated`, `oc.dict.keys` or `oc.dict.values`.";
    Invalid "config-variable":
        "A value reads an environment variable that configuration may not read."
        => "Let the operator allow the variable, or write the value itself.";
    Invalid "config-variable-unset":
        "A value reads an environment variable that is not set, and says no default."
        => "Set it, or write a default: `${oc.env:NAME,default}`.";
    Limit "config-too-large":
        "The configuration is larger or deeper than what is read, perhaps because references copy others again and again."
        => "Make it smaller, or refer to fewer things.";
    Conflict "config-unsettled":
        "A part of the configuration was asked for as standing by itself, and a value in it refers to another."
        => "Write the value itself, or take the part with its references resolved.";
    NotFound "config-path":
        "The configuration has nothing at this path, or null."
        => "Look at the whole with `midplane config show`.";
    Invalid "config-not-mapping":
        "A part of the configuration that must be a mapping is something else."
        => "Name the mapping that holds the value.";
    Invalid "config-assignment":
        "An assignment is not of the form `path=value`."
        => "Write for example `limits.run_events_max=1000`.";
}
