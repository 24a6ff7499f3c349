//! JSON Schema: the arguments of a call and the answer of a task, checked with problems that a model can repair.
//!
//! Nothing is fetched: a reference to another document is refused (the crate is built without its resolvers).

use jsonschema::{PatternOptions, Validator};
use midplane_core::text::shown;
use midplane_core::{Error, Result};
use serde_json::{Value, json};

/// Most problems that are listed.
const PROBLEMS_MAX: usize = 20;
/// Steps that the regular expression of a `pattern` may go back. Patterns are the operator's, but the texts are a model's.
const BACKTRACK_MAX: usize = 1_000_000;

/// A validator of a schema; the error says why it is none.
pub(super) fn compile(schema: &Value) -> Result<Validator, String> {
    jsonschema::options()
        .with_pattern_options(PatternOptions::fancy_regex().backtrack_limit(BACKTRACK_MAX))
        .build(schema)
        .map_err(|error| format!("at `{}`: {error}", place(&error.instance_path().to_string())))
}

/// The validator of a task's output schema; `invalid` code `output-schema` where it is no schema.
pub(super) fn compile_output(schema: &Value) -> Result<Validator> {
    if !schema.is_object() {
        return Err(Error::invalid("output-schema", "the output schema is not a JSON object"));
    }
    compile(schema).map_err(|why| {
        Error::invalid("output-schema", format!("the output schema is not a JSON Schema: {}", shown(&why, 500)))
    })
}

/// The arguments of a built-in tool. A field that is `null` counts as absent: models that must name every field write it.
pub(super) fn check_arguments(validator: &Validator, mut arguments: Value) -> Result<Value> {
    if let Value::Object(fields) = &mut arguments {
        fields.retain(|_, value| !value.is_null());
    }
    match problems(validator, &arguments, "") {
        None => Ok(arguments),
        Some(problems) => Err(Error::invalid("arguments", format!("the arguments are wrong:{problems}"))),
    }
}

/// What is wrong with a value, one line each, with the place in it below `above`; nothing if it fits.
pub(super) fn problems(validator: &Validator, value: &Value, above: &str) -> Option<String> {
    let mut errors = validator.iter_errors(value);
    let lines: Vec<String> = errors
        .by_ref()
        .take(PROBLEMS_MAX)
        .map(|error| {
            let at = format!("{above}{}", error.instance_path());
            format!("at `{}`: {}", place(&at), shown(&error.to_string(), 300))
        })
        .collect();
    let more = if errors.next().is_some() { "\nand more" } else { "" };
    match lines.as_slice() {
        [] => None,
        [line] => Some(format!(" {line}")),
        lines => Some(format!("{}{more}", lines.iter().map(|line| format!("\n- {line}")).collect::<String>())),
    }
}

fn place(pointer: &str) -> &str {
    if pointer.is_empty() { "/" } else { pointer }
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
