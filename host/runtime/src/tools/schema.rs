//! The arguments of a call and the answer of a task against their schemas, with problems that a model can repair.

use midplane_core::schema::Schema;
use midplane_core::{Error, Result};
use serde_json::{Value, json};

/// The arguments of a built-in tool. A field that is `null` counts as absent: models that must name every field write it.
pub(super) fn check_arguments(schema: &Schema, mut arguments: Value) -> Result<Value> {
    if let Value::Object(fields) = &mut arguments {
        fields.retain(|_, value| !value.is_null());
    }
    match problems(schema, &arguments, "") {
        None => Ok(arguments),
        Some(problems) => Err(Error::invalid("arguments", format!("the arguments are wrong:{problems}"))),
    }
}

/// What is wrong with a value, one line each, with the place in it below `above`; nothing if it fits.
pub(super) fn problems(schema: &Schema, value: &Value, above: &str) -> Option<String> {
    let lines = schema.problems(value, above);
    match lines.as_slice() {
        [] => None,
        [line] => Some(format!(" {line}")),
        lines => Some(lines.iter().map(|line| format!("\n- {line}")).collect()),
    }
}

/// The output schema as the schema of a tool's arguments, which are always an object: any other answer goes into a field
/// `value`. Whether that was done is the second value.
pub(super) fn as_arguments(schema: &Value) -> (Value, bool) {
    let is_object = schema.get("type").is_some_and(|of| of == "object")
        || schema.get("type").is_none() && schema.get("properties").is_some();
    if is_object {
        return (schema.clone(), false);
    }
    let mut inner = schema.clone();
    let mut outer = json!({ "type": "object", "required": ["value"], "additionalProperties": false });
    // References are read from the root of the document, so what they point at stays there.
    for keyword in ["$schema", "$defs", "definitions"] {
        if let Some(part) = inner.as_object_mut().and_then(|fields| fields.remove(keyword)) {
            outer[keyword] = part;
        }
    }
    outer["properties"] = json!({ "value": inner });
    (outer, true)
}
