//! A task out of single arguments, as agent-runtime-kit's hub takes them: one by one, or beside a task that is there.
//!
//! The rules between arguments are its: a goal or a task; a time-out or a deadline; with a task only what may be laid over
//! it (`output_schema`, `deadline`, `timeout`); a whole permission profile or its parts.

use serde_json::{Map, Value, json};

use super::task::{self, FIELDS};
use crate::task::Task;
use crate::{Error, Result};

/// Arguments for one task.
#[derive(Debug, Clone, Default)]
pub struct Arguments {
    prebuilt: Option<Task>,
    timeout: Option<Value>,
    timeout_s: Option<f64>,
    fields: Map<String, Value>,
}

/// Arguments that are parts of the permission profile.
const PARTS: [&str; 3] = ["filesystem", "allowed_tools", "disallowed_tools"];

/// Arguments that may stand beside a task.
const OVER: [&str; 2] = ["output_schema", "deadline"];

/// Longest time-out that is one, in seconds: what the calendar of deadlines has room for.
const TIMEOUT_S_MAX: f64 = 250_000_000_000.0;

impl Arguments {
    /// No arguments.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A task that is there already.
    #[must_use]
    pub fn task(mut self, task: Task) -> Self {
        self.prebuilt = Some(task);
        self
    }

    /// How long it may take, in seconds.
    #[must_use]
    pub fn timeout_s(mut self, seconds: f64) -> Self {
        self.timeout_s = Some(seconds);
        self
    }

    /// Any argument by its name: a field of the original's task, `timeout` in seconds, or a part of the permission
    /// profile. `permissions` is a mode or a whole profile. A `null` is an argument, too.
    #[must_use]
    pub fn argument(mut self, name: &str, value: Value) -> Self {
        if name == "timeout" {
            self.timeout = Some(value);
        } else {
            self.fields.insert(name.to_owned(), value);
        }
        self
    }

    /// The task. Errors, all `invalid`: `task-option` where arguments exclude each other, `option-type` where a time-out is
    /// no number, and those of [`task::from_json`].
    pub fn build(mut self) -> Result<Task> {
        let timeout_ms = self.timeout_ms()?;
        let deadline = self.fields.get("deadline").is_some_and(|deadline| !deadline.is_null());
        if timeout_ms.is_some() && deadline {
            return Err(exclusive("timeout", "deadline"));
        }
        if self.fields.contains_key("output_type") && self.fields.get("output_schema").is_some_and(|of| !of.is_null()) {
            return Err(exclusive("output_type", "output_schema"));
        }
        let mut task = match self.prebuilt.take() {
            Some(task) => self.over(task, timeout_ms.is_some() || deadline)?,
            None => {
                if self.fields.get("goal").is_none_or(Value::is_null) {
                    return Err(Error::invalid("task-option", "neither `goal` nor `task` is given"));
                }
                task::from_json(&self.fields()?, "task")?
            }
        };
        if timeout_ms.is_some() {
            task.timeout_ms = timeout_ms;
        }
        Ok(task)
    }

    /// A task with what may be laid over it.
    fn over(&self, mut task: Task, bounded: bool) -> Result<Task> {
        if let Some(name) = self.fields.keys().find(|name| !OVER.contains(&name.as_str())) {
            return Err(exclusive("task", name));
        }
        if bounded && (task.deadline.is_some() || task.timeout_ms.is_some()) {
            return Err(exclusive("the task's own deadline", "another"));
        }
        if let Some(schema) = self.fields.get("output_schema").filter(|schema| !schema.is_null()) {
            crate::schema::check(schema)?;
            task.output_schema = Some(schema.clone());
        }
        if let Some(deadline) = self.fields.get("deadline").and_then(Value::as_str) {
            task.deadline = Some(deadline.parse()?);
        }
        Ok(task)
    }

    /// The arguments in the shape of a task.
    fn fields(&self) -> Result<Value> {
        let mut fields = self.fields.clone();
        let parts: Map<String, Value> =
            PARTS.iter().filter_map(|part| Some(((*part).to_owned(), fields.remove(*part)?))).collect();
        let set = |value: &Value| !value.is_null() && *value != json!([]);
        let mut profile = match fields.remove("permissions") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(whole)) => {
                if let Some((part, _)) = parts.iter().find(|(_, value)| set(value)) {
                    return Err(exclusive("permissions", part));
                }
                whole
            }
            Some(mode) => Map::from_iter([("mode".to_owned(), mode)]),
        };
        profile.extend(parts.into_iter().filter(|(_, value)| set(value)));
        fields.insert("permissions".to_owned(), Value::Object(profile));
        // What is nothing by default may be given as nothing.
        let nothing = ["task_id", "metadata", "mcp_servers"];
        fields.retain(|name, value| !(value.is_null() && nothing.contains(&name.as_str())));
        if let Some(name) = fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
            let name = crate::text::shown(name, 60);
            return Err(Error::invalid("task-option", format!("there is no argument `{name}`")));
        }
        Ok(Value::Object(fields))
    }

    fn timeout_ms(&self) -> Result<Option<u64>> {
        let seconds = match (&self.timeout, self.timeout_s) {
            (None | Some(Value::Null), given) => given,
            (Some(_), Some(_)) => return Err(exclusive("timeout", "timeout_s")),
            (Some(Value::Bool(_)), None) => Some(f64::NAN),
            (Some(value), None) => Some(value.as_f64().ok_or_else(|| {
                Error::invalid("option-type", format!("`timeout` is a number of seconds, not {}", task::what(value)))
            })?),
        };
        let Some(seconds) = seconds else { return Ok(None) };
        if !(0.0..=TIMEOUT_S_MAX).contains(&seconds) {
            let why = "is a finite number of seconds, not negative, and not beyond the year 9999";
            return Err(Error::invalid("task-option", format!("`timeout` {why}")));
        }
        // Rounded up: only zero is no time at all. The bound is far below what the integer holds.
        Ok(Some((seconds * 1000.0).ceil() as u64))
    }
}

fn exclusive(one: &str, other: &str) -> Error {
    let other = crate::text::shown(other, 60);
    Error::invalid("task-option", format!("`{one}` and `{other}` exclude each other; give one of them"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(arguments: Arguments) -> String {
        match arguments.build() {
            Ok(_) => "ok".to_owned(),
            Err(error) => error.code.into_owned(),
        }
    }

    #[test]
    fn arguments_that_exclude_each_other() {
        let goal = || Arguments::new().argument("goal", json!("g"));
        let task = || Arguments::new().task(Task::new("g"));
        for (wanted, arguments) in [
            ("task-option", Arguments::new()),
            ("task-option", Arguments::new().argument("goal", json!(null))),
            ("task-field", Arguments::new().argument("goal", json!(" "))),
            ("ok", goal()),
            ("ok", task()),
            ("task-option", task().argument("goal", json!("x"))),
            ("task-option", task().argument("sdk_executions", json!(1))),
            ("task-option", task().argument("system", json!(null))),
            ("ok", task().argument("output_schema", json!({}))),
            ("output-schema", task().argument("output_schema", json!({"type": 1}))),
            ("task-option", goal().argument("timeout", json!(1)).argument("deadline", json!("2030-01-01T00:00:00Z"))),
            ("ok", goal().argument("timeout", json!(1)).argument("deadline", json!(null))),
            ("ok", goal().argument("timeout", json!(0))),
            ("task-option", goal().argument("timeout", json!(-1))),
            ("task-option", goal().argument("timeout", json!(true))),
            ("option-type", goal().argument("timeout", json!("5"))),
            ("task-option", goal().timeout_s(f64::NAN)),
            ("task-option", goal().timeout_s(1e30)),
            ("ok", goal().argument("permissions", json!("strict")).argument("filesystem", json!("read-only"))),
            ("task-field", goal().argument("permissions", json!("stricter"))),
            ("task-option", goal().argument("permissions", json!({})).argument("filesystem", json!("read-only"))),
            ("ok", goal().argument("permissions", json!({})).argument("allowed_tools", json!([]))),
            ("task-option", goal().argument("gaol", json!(1))),
        ] {
            let shown = format!("{arguments:?}");
            assert_eq!(code(arguments), wanted, "{shown}");
        }
    }

    #[test]
    fn times_are_rounded_up() {
        let task = Arguments::new().argument("goal", json!("g")).timeout_s(0.0001).build().expect("a task");
        assert_eq!(task.timeout_ms, Some(1));
    }
}
