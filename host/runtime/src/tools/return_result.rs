//! `return_result`: the agent's answer in the task's output schema, checked where the model can still repair it.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use midplane_core::schema::Schema;
use midplane_core::{Error, Result};
use serde_json::{Value, json};

use super::HostTools;
use super::answer::Answer;
use super::schema;
use super::tool::{Needs, Stop, Tool};

pub(super) struct ReturnResult {
    input_schema: Value,
    /// Of the answer itself, without the object that may stand around it.
    validator: Schema,
    /// Whether the answer is in a field `value`, because it is no object.
    wrapped: bool,
    bytes_max: u64,
    value: Mutex<Option<Value>>,
}

impl ReturnResult {
    pub(super) fn new(schema: &Value, bytes_max: u64) -> Result<Self> {
        let validator = Schema::new(schema)?;
        let (input_schema, wrapped) = schema::as_arguments(schema);
        Ok(Self { input_schema, validator, wrapped, bytes_max, value: Mutex::default() })
    }

    /// The last answer that fitted.
    pub(super) fn value(&self) -> Option<Value> {
        // Nothing panics while it is held.
        self.value.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Tool for ReturnResult {
    fn name(&self) -> &'static str {
        "return_result"
    }

    fn description(&self) -> &'static str {
        "Gives the final answer of the task, in the form that was asked for. Call it once, at the end. Wrong fields are named \
         in the answer: repair them and call it again."
    }

    fn input_schema(&self) -> &Value {
        &self.input_schema
    }

    fn needs(&self) -> Needs {
        Needs::Nothing
    }

    fn check(&self, mut arguments: Value) -> Result<Value> {
        if self.wrapped {
            // The one field that it has; what is missing is told as a problem of the answer.
            arguments = arguments.as_object_mut().and_then(|fields| fields.remove("value")).ok_or_else(|| {
                Error::invalid("arguments", "the answer does not fit the schema: the field `value` is missing")
            })?;
        }
        match schema::problems(&self.validator, &arguments, if self.wrapped { "/value" } else { "" }) {
            None => Ok(arguments),
            Some(problems) => {
                let message = format!("the answer does not fit the schema:{problems}");
                Err(Error::invalid("arguments", message).hint("repair this and call `return_result` again"))
            }
        }
    }

    async fn run(&self, arguments: Value, _: &HostTools, _: &Stop) -> Result<Answer> {
        let size = arguments.to_string().len() as u64;
        if size > self.bytes_max {
            let message = format!("the answer has {size} bytes, at most {} are kept", self.bytes_max);
            return Err(Error::limit("output-size", message));
        }
        *self.value.lock().unwrap_or_else(PoisonError::into_inner) = Some(arguments);
        Ok(Answer::ok("the answer is accepted", json!({ "accepted": true })))
    }
}
