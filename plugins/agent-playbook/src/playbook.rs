//! What a playbook is, and how its text becomes one.
//!
//! Everything that can be known to be wrong is said before the first step runs, all of it and in the order of the
//! text: unknown fields, wrong types, expressions that do not parse, variables that nothing sets.

use std::fmt;

use serde_json::Value as Json;

use crate::check::Checker;
use crate::expr::Engine;
use crate::limits::{PLAYBOOK_BYTES_MAX, PROBLEMS_MAX};
use crate::source::{self, At};

/// A playbook.
#[derive(Debug)]
pub struct Playbook {
    /// Its name.
    pub name: String,
    /// Variables with their values, which may be templates over those before.
    pub vars: Vec<(String, Json)>,
    /// The steps.
    pub steps: Vec<Step>,
    /// Template of the output.
    pub output: Option<String>,
    /// Template of the structured answer.
    pub result: Option<Json>,
}

/// One step.
#[derive(Debug)]
pub struct Step {
    /// Its number among its neighbours, with those of the steps around it: `3` or `3.1`.
    pub number: String,
    /// Its name.
    pub name: String,
    /// Expression: whether it runs. In a loop asked for each item.
    pub when: Option<String>,
    /// The loop.
    pub each: Option<Each>,
    /// What it does.
    pub action: Action,
    /// Expressions that must hold afterwards.
    pub expect: Vec<Expect>,
    /// What happens when it fails.
    pub on_error: OnError,
    /// Variables to set afterwards, with templates.
    pub set: Vec<(String, Json)>,
    /// Variable that takes the value of the step.
    pub save_as: Option<String>,
    /// Template of that value, in place of the result of the tool.
    pub keep: Option<Json>,
    /// Whether calls of a loop may go out side by side; unset leaves it to the tool.
    pub parallel: Option<bool>,
}

/// A loop.
#[derive(Debug)]
pub struct Each {
    /// What it goes over.
    pub list: List,
    /// Variable that holds the item.
    pub name: String,
}

/// A list to go over.
#[derive(Debug)]
pub enum List {
    /// An expression that gives it.
    Expression(String),
    /// The list itself, with templates in it.
    Items(Json),
}

/// What a step does.
#[derive(Debug)]
pub enum Action {
    /// Calls a tool of the host.
    Tool {
        /// Its name.
        tool: String,
        /// Its arguments, templates.
        with: Json,
    },
    /// Says a line, a template.
    Say(String),
    /// Runs steps.
    Steps(Vec<Step>),
    /// Fails with a message, a template.
    Fail(String),
    /// Nothing but `set`, `keep` and `expect`.
    Compute,
}

/// Something that must hold.
#[derive(Debug)]
pub struct Expect {
    /// The expression.
    pub that: String,
    /// What to say when it does not, a template.
    pub message: Option<String>,
}

/// What happens when a step fails.
#[derive(Debug)]
pub enum OnError {
    /// The playbook ends.
    Fail,
    /// The failure is noted in `errors`.
    Continue,
    /// These steps run, with the failure in `error`.
    Steps(Vec<Step>),
}

/// What is wrong with a playbook, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The step, if it is in one: number and name.
    pub step: Option<String>,
    /// Path of the field from there.
    pub field: String,
    /// The place in the text.
    pub at: At,
    /// What is wrong.
    pub message: String,
    /// What would do.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.at.line > 0 {
            write!(f, "line {}, column {}: ", self.at.line, self.at.column)?;
        }
        if let Some(step) = &self.step {
            write!(f, "{step}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "field `{}`: ", self.field)?;
        }
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "; hint: {hint}")?;
        }
        Ok(())
    }
}

impl Playbook {
    /// Reads a playbook, or says all that is wrong with it (at most [`PROBLEMS_MAX`], at least one).
    pub fn parse(text: &str, engine: &Engine) -> Result<Self, Vec<Problem>> {
        let whole = |at: At, message: String, hint: Option<&str>| {
            vec![Problem { step: None, field: String::new(), at, message, hint: hint.map(str::to_owned) }]
        };
        if text.len() > PLAYBOOK_BYTES_MAX {
            return Err(whole(At::default(), format!("the playbook is longer than {PLAYBOOK_BYTES_MAX} bytes"), None));
        }
        let root = source::read(text).map_err(|(message, at)| {
            let line = usize::try_from(at.line).ok().and_then(|line| text.lines().nth(line.saturating_sub(1)));
            let hint =
                line.is_some_and(|line| line.contains("{{")).then_some("put a value that begins with `{{` into quotes");
            whole(at, message, hint)
        })?;
        let mut checker = Checker::new(engine);
        let playbook = checker.playbook(&root);
        let mut problems = checker.into_problems();
        match playbook {
            Some(playbook) if problems.is_empty() => Ok(playbook),
            _ => {
                problems.truncate(PROBLEMS_MAX);
                Err(problems)
            }
        }
    }
}
