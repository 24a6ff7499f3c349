//! Runs a playbook.
//!
//! ```text
//!  step ─► when? ─no─► skipped (its variable is none)
//!            │yes
//!            ▼
//!        action ─► expect ─► set ─► keep / save_as ─► next step
//!            │        │        │
//!            └────────┴────────┴─failed─► on_error: fail │ continue │ steps
//! ```
//!
//! A loop does this for each item. Calls of reading tools go out side by side, up to 32 at once, when nothing of one
//! item can be seen by the next (no `set`); everything that changes something runs one by one, so that a failure
//! stops what follows.

use serde_json::{Map, Value as Json, json};

use midplane_plugin::agent::Artifact;
use midplane_plugin::host::{Answer, Call};
use midplane_plugin::{Error, Events, Host, Result};
use minijinja::value::Value;

use crate::expr::{Engine, Scope, from_json, to_json};
use crate::limits::{BATCH_CALLS_MAX, ERRORS_KEPT_MAX, LOOP_ITEMS_MAX, TOOL_CALLS_MAX, VALUE_BYTES_MAX};
use crate::playbook::{Action, Each, List, OnError, Playbook, Step};

/// Tools of the host that only read. Their calls may run side by side.
const READING_TOOLS: [&str; 4] = ["read_file", "list_dir", "glob", "grep"];
/// Tools of the host that make files, with the field of their result that names it.
const MAKING_TOOLS: [(&str, &str); 3] = [("write_file", "path"), ("edit_file", "path"), ("move_file", "to")];
/// Files that are listed as made by the run.
const ARTIFACTS_MAX: usize = 1000;

/// Why a run ended before its last step.
#[derive(Debug)]
pub enum Stop {
    /// A step failed.
    Failed(Failure),
    /// The run cannot go on, whatever `on_error` says: it is cancelled, or the host or a bound ends it.
    Ended(Error),
}

/// The failure of a step.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The step: number, name and item.
    pub step: String,
    /// A code: `tool`, `expect`, `expression`, `fail`.
    pub code: &'static str,
    /// What went wrong.
    pub message: String,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Ended(error)
    }
}

/// What a run counts.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    /// Steps that ran, each item of a loop counted.
    pub run: usize,
    /// Steps that were skipped by their `when`.
    pub skipped: usize,
    /// Tool calls.
    pub calls: usize,
    /// Failures that `on_error: continue` passed over.
    pub errors: usize,
}

/// One run.
pub struct Execution<'a> {
    host: &'a dyn Host,
    engine: &'a Engine,
    /// The events, to be flushed by the caller at the end.
    pub events: Events<'a>,
    /// The variables.
    pub scope: Scope,
    /// What was counted.
    pub counts: Counts,
    /// Files that were made.
    pub artifacts: Vec<Artifact>,
    errors: Vec<Json>,
    call_ids: usize,
}

impl<'a> Execution<'a> {
    /// A run before its first step.
    pub fn new(host: &'a dyn Host, engine: &'a Engine, events: Events<'a>, scope: Scope) -> Self {
        Self {
            host,
            engine,
            events,
            scope,
            counts: Counts::default(),
            artifacts: Vec::new(),
            errors: Vec::new(),
            call_ids: 0,
        }
    }

    /// Runs all steps of a playbook, saying each as it begins.
    pub fn playbook(&mut self, playbook: &Playbook) -> Result<(), Stop> {
        let total = playbook.steps.len();
        for step in &playbook.steps {
            self.events.text(&format!("[{}/{total}] {}\n", step.number, step.name))?;
            if !self.step(step)? {
                self.events.text("    skipped\n")?;
            }
        }
        Ok(())
    }

    fn steps(&mut self, steps: &[Step]) -> Result<(), Stop> {
        for step in steps {
            self.step(step)?;
        }
        Ok(())
    }

    /// Runs a step; says whether any of it ran.
    fn step(&mut self, step: &Step) -> Result<bool, Stop> {
        if let Some(each) = &step.each {
            return self.each(step, each);
        }
        match self.condition(step) {
            Ok(true) => {}
            Ok(false) => {
                self.counts.skipped += 1;
                if let Some(name) = &step.save_as {
                    self.scope.insert(name.clone(), Value::from(()));
                }
                return Ok(false);
            }
            Err(failure) => return self.handle(step, failure).map(|()| true),
        }
        let done = self.once(step, &label(step, None));
        match done {
            Ok(value) => {
                if let (Some(name), Some(value)) = (&step.save_as, value) {
                    self.save(step, name, &value)?;
                }
            }
            Err(Stop::Failed(failure)) => {
                if let Some(name) = &step.save_as {
                    self.scope.insert(name.clone(), Value::from(()));
                }
                self.handle(step, failure)?;
            }
            Err(stop) => return Err(stop),
        }
        Ok(true)
    }

    fn each(&mut self, step: &Step, each: &Each) -> Result<bool, Stop> {
        let items = match self.items(step, each) {
            Ok(items) => items,
            Err(failure) => {
                self.handle(step, failure)?;
                Vec::new()
            }
        };
        let side_by_side = match &step.action {
            Action::Tool { tool, .. } if step.set.is_empty() => {
                step.parallel.unwrap_or(READING_TOOLS.contains(&tool.as_str()))
            }
            _ => false,
        };
        let outer = [each.name.as_str(), "index"].map(|name| (name.to_owned(), self.scope.get(name).cloned()));
        let mut values = Vec::new();
        let width = if side_by_side { BATCH_CALLS_MAX } else { 1 };
        let mut ran = false;
        let mut first = 0;
        let mut result = Ok(());
        for chunk in items.chunks(width) {
            match self.chunk(step, each, chunk, first, &mut values) {
                Ok(some) => ran |= some,
                Err(stop) => {
                    result = Err(stop);
                    break;
                }
            }
            first += chunk.len();
        }
        for (name, value) in outer {
            match value {
                Some(value) => self.scope.insert(name, value),
                None => self.scope.remove(&name),
            };
        }
        result?;
        if let Some(name) = &step.save_as {
            self.save(step, name, &Json::Array(values))?;
        }
        Ok(ran)
    }

    /// Some items of a loop: their calls go out together, what follows a call is done item by item.
    fn chunk(
        &mut self,
        step: &Step,
        each: &Each,
        items: &[Json],
        first: usize,
        values: &mut Vec<Json>,
    ) -> Result<bool, Stop> {
        let mut wanted = Vec::new();
        for (offset, item) in items.iter().enumerate() {
            let index = first + offset;
            self.bind(each, item, index);
            let prepared = match self.condition(step) {
                Ok(true) => match &step.action {
                    Action::Tool { tool, with } => self.call(step, Some(index), tool, with).map(Some),
                    _ => Ok(None),
                },
                Ok(false) => {
                    self.counts.skipped += 1;
                    continue;
                }
                Err(failure) => Err(Failure { step: label(step, Some(index)), ..failure }),
            };
            match prepared {
                Ok(call) => wanted.push((index, item, call)),
                Err(failure) => self.handle(step, failure)?,
            }
        }
        let calls: Vec<Call> = wanted.iter().filter_map(|(_, _, call)| call.clone()).collect();
        let mut answers = if calls.is_empty() { Vec::new() } else { self.call_all(&calls)? }.into_iter();
        let ran = !wanted.is_empty();
        for (index, item, call) in wanted {
            self.bind(each, item, index);
            let label = label(step, Some(index));
            let done = match call {
                Some(call) => match answers.next() {
                    Some(answer) => self.after_call(step, &label, &call.name, &answer),
                    None => Err(Stop::Ended(Error::internal("answers", "the host gave fewer answers than calls"))),
                },
                None => self.once(step, &label),
            };
            match done {
                Ok(value) => values.extend(value),
                Err(Stop::Failed(failure)) => self.handle(step, failure)?,
                Err(stop) => return Err(stop),
            }
        }
        Ok(ran)
    }

    fn bind(&mut self, each: &Each, item: &Json, index: usize) {
        self.scope.insert(each.name.clone(), from_json(item));
        self.scope.insert("index".into(), Value::from(index));
    }

    fn items(&self, step: &Step, each: &Each) -> Result<Vec<Json>, Failure> {
        let failed = |message: String| failure(label(step, None), "expression", message);
        let list = match &each.list {
            List::Expression(text) => self
                .engine
                .expression(text, &self.scope)
                .and_then(|value| to_json(&value))
                .map_err(|error| failed(format!("`for_each: {text}`: {error}")))?,
            List::Items(items) => {
                self.engine.fill(items, &self.scope).map_err(|error| failed(format!("`for_each`: {error}")))?
            }
        };
        let items = match list {
            Json::Array(items) => items,
            // A mapping is gone over as pairs, so that nobody has to know how to turn it into a list.
            Json::Object(entries) => {
                entries.into_iter().map(|(key, value)| json!({ "key": key, "value": value })).collect()
            }
            other => return Err(failed(format!("`for_each` needs a list, this is {}", kind_of(&other)))),
        };
        if items.len() > LOOP_ITEMS_MAX {
            return Err(failed(format!("the loop has {} items, at most {LOOP_ITEMS_MAX} are allowed", items.len())));
        }
        Ok(items)
    }

    fn condition(&self, step: &Step) -> Result<bool, Failure> {
        match &step.when {
            None => Ok(true),
            Some(text) => self
                .engine
                .holds(text, &self.scope)
                .map_err(|error| failure(label(step, None), "expression", format!("`when: {text}`: {error}"))),
        }
    }

    /// Does what a step does, once. Gives its value, if it has one.
    fn once(&mut self, step: &Step, label: &str) -> Result<Option<Json>, Stop> {
        self.check_alive()?;
        match &step.action {
            Action::Tool { tool, with } => {
                let call = self.call(step, None, tool, with).map_err(Stop::Failed)?;
                let answers = self.call_all(std::slice::from_ref(&call))?;
                let answer = answers
                    .first()
                    .ok_or_else(|| Error::internal("answers", "the host gave fewer answers than calls"))?;
                return self.after_call(step, label, tool, answer);
            }
            Action::Say(text) => {
                let text = self.text(label, "say", text)?;
                self.events.text(&format!("{text}\n"))?;
            }
            Action::Fail(text) => {
                let text = self.text(label, "fail", text)?;
                return Err(Stop::Failed(failure(label.to_owned(), "fail", text)));
            }
            Action::Steps(steps) => self.steps(steps)?,
            Action::Compute => {}
        }
        self.counts.run += 1;
        self.afterwards(step, label)
    }

    /// What follows an answer of a tool.
    fn after_call(&mut self, step: &Step, label: &str, tool: &str, answer: &Answer) -> Result<Option<Json>, Stop> {
        self.counts.run += 1;
        let value = match &answer.structured {
            Some(text) => serde_json::from_str(text).map_err(|error| {
                Error::internal("not-json", format!("`{tool}` gave a result that is not JSON: {error}"))
            })?,
            None => Json::String(answer.text.clone()),
        };
        let told = || failure(label.to_owned(), "tool", format!("`{tool}` failed: {}", answer.text));
        // With expectations the author decides what counts as failure, such as an exit code that may be 1.
        if answer.is_error && step.expect.is_empty() {
            return Err(Stop::Failed(told()));
        }
        if !answer.is_error {
            self.note_made(tool, &value);
        }
        let result = json!({ "ok": !answer.is_error, "text": answer.text, "value": value });
        self.scope.insert("result".into(), from_json(&result));
        let kept = self.afterwards(step, label);
        self.scope.remove("result");
        match kept {
            // An expectation that cannot even be asked, because there is no result: the tool's own words say more.
            Err(Stop::Failed(failure)) if answer.is_error && failure.code == "expression" => Err(Stop::Failed(told())),
            Ok(kept) => Ok(Some(kept.unwrap_or(value))),
            Err(stop) => Err(stop),
        }
    }

    fn afterwards(&mut self, step: &Step, label: &str) -> Result<Option<Json>, Stop> {
        let failed = |code, message: String| Stop::Failed(failure(label.to_owned(), code, message));
        for expect in &step.expect {
            let that = &expect.that;
            let holds = self
                .engine
                .holds(that, &self.scope)
                .map_err(|error| failed("expression", format!("`expect: {that}`: {error}")))?;
            if !holds {
                let message = match &expect.message {
                    Some(text) => self.text(label, "expect.message", text)?,
                    None => match self.scope.get("result").map(|result| result.get_attr("text")) {
                        Some(Ok(text)) => format!("expected `{that}`; the tool said: {text}"),
                        _ => format!("expected `{that}`"),
                    },
                };
                return Err(failed("expect", message));
            }
        }
        for (name, value) in &step.set {
            let value = self
                .engine
                .fill(value, &self.scope)
                .map_err(|error| failed("expression", format!("`set.{name}`: {error}")))?;
            self.save(step, name, &value)?;
        }
        match &step.keep {
            None => Ok(None),
            Some(value) => {
                let value = self
                    .engine
                    .fill(value, &self.scope)
                    .map_err(|error| failed("expression", format!("`keep`: {error}")))?;
                Ok(Some(value))
            }
        }
    }

    fn call(&mut self, step: &Step, index: Option<usize>, tool: &str, with: &Json) -> Result<Call, Failure> {
        let arguments = self
            .engine
            .fill(with, &self.scope)
            .map_err(|error| failure(label(step, index), "expression", format!("`with`: {error}")))?;
        // An argument that comes out as none is left out: that is how an optional one is made conditional.
        let arguments: Map<String, Json> = match arguments {
            Json::Object(entries) => entries.into_iter().filter(|(_, value)| !value.is_null()).collect(),
            _ => Map::new(),
        };
        self.call_ids += 1;
        Ok(Call {
            id: format!("c{}", self.call_ids),
            name: tool.to_owned(),
            arguments: Json::Object(arguments).to_string(),
        })
    }

    fn call_all(&mut self, calls: &[Call]) -> Result<Vec<Answer>, Stop> {
        self.check_alive()?;
        if self.counts.calls + calls.len() > TOOL_CALLS_MAX {
            let error = Error::limit("tool-calls", format!("the playbook makes more than {TOOL_CALLS_MAX} tool calls"));
            return Err(Stop::Ended(error));
        }
        self.events.flush()?;
        self.counts.calls += calls.len();
        Ok(self.host.call_all(calls)?)
    }

    fn check_alive(&self) -> Result<(), Stop> {
        if self.host.cancelled() {
            return Err(Stop::Ended(Error::cancelled("cancelled", "the run was cancelled")));
        }
        Ok(())
    }

    fn text(&self, label: &str, field: &str, text: &str) -> Result<String, Stop> {
        self.engine
            .text(text, &self.scope)
            .map_err(|error| Stop::Failed(failure(label.to_owned(), "expression", format!("`{field}`: {error}"))))
    }

    fn save(&mut self, step: &Step, name: &str, value: &Json) -> Result<(), Stop> {
        let bytes = value.to_string().len();
        if bytes > VALUE_BYTES_MAX {
            return Err(Stop::Ended(Error::limit(
                "value-size",
                format!(
                    "{}: the variable `{name}` has {bytes} bytes, at most {VALUE_BYTES_MAX} are allowed",
                    label(step, None)
                ),
            )));
        }
        self.scope.insert(name.to_owned(), from_json(value));
        Ok(())
    }

    fn handle(&mut self, step: &Step, failure: Failure) -> Result<(), Stop> {
        match &step.on_error {
            OnError::Fail => Err(Stop::Failed(failure)),
            OnError::Continue => {
                self.counts.errors += 1;
                self.events.text(&format!("    failed, going on: {}: {}\n", failure.step, failure.message))?;
                if self.errors.len() < ERRORS_KEPT_MAX {
                    self.errors.push(failure.to_json());
                    self.scope.insert("errors".into(), from_json(&Json::Array(self.errors.clone())));
                }
                Ok(())
            }
            OnError::Steps(steps) => {
                let outer = self.scope.insert("error".into(), from_json(&failure.to_json()));
                let result = self.steps(steps);
                match outer {
                    Some(outer) => self.scope.insert("error".into(), outer),
                    None => self.scope.remove("error"),
                };
                result
            }
        }
    }

    fn note_made(&mut self, tool: &str, value: &Json) {
        let Some((_, field)) = MAKING_TOOLS.iter().find(|(name, _)| *name == tool) else { return };
        let Some(path) = value[field].as_str() else { return };
        if self.artifacts.len() < ARTIFACTS_MAX && !self.artifacts.iter().any(|artifact| artifact.uri == path) {
            self.artifacts.push(Artifact { uri: path.to_owned(), kind: "file".into(), metadata: "{}".into() });
        }
    }
}

impl Failure {
    fn to_json(&self) -> Json {
        json!({ "step": self.step, "code": self.code, "message": self.message })
    }
}

fn failure(step: String, code: &'static str, message: String) -> Failure {
    Failure { step, code, message: preview(&message) }
}

fn label(step: &Step, index: Option<usize>) -> String {
    match index {
        Some(index) => format!("step {} `{}` (item {})", step.number, step.name, index + 1),
        None => format!("step {} `{}`", step.number, step.name),
    }
}

fn kind_of(value: &Json) -> &'static str {
    match value {
        Json::Null => "none",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "text",
        Json::Array(_) => "a list",
        Json::Object(_) => "a mapping",
    }
}

/// A text in one line for a message: of a long one the begin and the end, where an error mostly is.
fn preview(text: &str) -> String {
    let line = text.trim().lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    let chars: Vec<char> = line.chars().collect();
    if chars.len() <= 500 {
        return line;
    }
    let start: String = chars[..200].iter().collect();
    let end: String = chars[chars.len() - 300..].iter().collect();
    format!("{start} ... {end}")
}
