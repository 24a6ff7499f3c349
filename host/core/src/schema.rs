//! Structured output: is a schema one, and does a value conform to it.
//!
//! Dialect as `$schema` says, draft 2020-12 where it says nothing. `format` is annotation only, and references to other
//! documents are never fetched: both as in the contract that this replaces (agent-runtime-kit, section 10).

use serde_json::Value;

use crate::{Error, Result};

/// Refuses what is not a JSON Schema (`invalid`, code `output-schema`).
pub fn check(schema: &Value) -> Result<()> {
    validator(schema).map(|_| ())
}

/// Refuses a value that does not conform (`invalid`, code `nonconforming`); the message lists the first problems with
/// their paths.
pub fn conforms(schema: &Value, value: &Value) -> Result<()> {
    let validator = validator(schema)?;
    let problems: Vec<String> = validator
        .iter_errors(value)
        .take(PROBLEMS_MAX)
        .map(|error| {
            let path = error.instance_path().to_string();
            let path = if path.is_empty() { "/".to_owned() } else { path };
            crate::text::shown(&format!("`{path}`: {error}"), 300)
        })
        .collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Error::invalid("nonconforming", format!("the answer does not fit the output schema: {}", problems.join("; "))))
    }
}

/// Problems named in one message.
const PROBLEMS_MAX: usize = 5;

fn validator(schema: &Value) -> Result<jsonschema::Validator> {
    if !schema.is_object() {
        return Err(Error::invalid("output-schema", "the output schema is not a JSON object")
            .hint("a schema looks like {\"type\": \"object\", \"properties\": {...}}"));
    }
    jsonschema::options().should_validate_formats(false).build(schema).map_err(|error| {
        let why = crate::text::shown(&error.to_string(), 300);
        Error::invalid("output-schema", format!("the output schema is not a JSON Schema: {why}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn schemas_and_values() {
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
        assert!(check(&schema).is_ok());
        assert!(conforms(&schema, &json!({"n": 1})).is_ok());
        let error = conforms(&schema, &json!({"n": "x"})).expect_err("refused");
        assert_eq!((error.code.as_ref(), error.message.contains("/n")), ("nonconforming", true));
        for bad in [json!(3), json!({"type": "objekt"}), json!({"$schema": "http://nowhere.example/x"}), json!({"$ref": "http://nowhere.example/x"})] {
            assert_eq!(check(&bad).expect_err("refused").code, "output-schema", "{bad}");
        }
    }
}
