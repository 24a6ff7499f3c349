//! JSON Schema: is a schema one, and does a value conform to it.
//!
//! Dialect as `$schema` says, draft 2020-12 where it says nothing. `format` is annotation only, and references to other
//! documents are never fetched: both as in the contract that this replaces (agent-runtime-kit, section 10). The crate
//! behind it is built without its resolvers.

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use crate::text::shown;
use crate::{Error, Result};

/// A schema, ready to check values.
#[derive(Debug, Clone)]
pub struct Schema(Validator);

/// Most problems that are listed of one value.
const PROBLEMS_MAX: usize = 20;

/// Steps that the regular expression of a `pattern` may go back. Patterns are the operator's, but the texts are a model's.
const BACKTRACK_MAX: usize = 1_000_000;

impl Schema {
    /// Takes a schema (`invalid`, code `output-schema` where it is none).
    pub fn new(schema: &Value) -> Result<Self> {
        if !schema.is_object() {
            return Err(Error::invalid("output-schema", "the output schema is not a JSON object")
                .hint("a schema looks like {\"type\": \"object\", \"properties\": {...}}"));
        }
        jsonschema::options()
            .should_validate_formats(false)
            .with_pattern_options(PatternOptions::fancy_regex().backtrack_limit(BACKTRACK_MAX))
            .build(schema)
            .map(Self)
            .map_err(|error| {
                let (at, why) = (place("", &error.instance_path().to_string()), shown(&error.to_string(), 300));
                Error::invalid("output-schema", format!("the output schema is not a JSON Schema: at `{at}`: {why}"))
            })
    }

    /// What is wrong with a value, each with its place; empty if it conforms. `above` is where the value is in what its
    /// maker wrote, and stands in front of each place.
    #[must_use]
    pub fn problems(&self, value: &Value, above: &str) -> Vec<String> {
        let problem = |error: jsonschema::ValidationError<'_>| {
            format!("at `{}`: {}", place(above, &error.instance_path().to_string()), shown(&error.to_string(), 300))
        };
        let mut errors = self.0.iter_errors(value);
        let mut problems: Vec<String> = errors.by_ref().take(PROBLEMS_MAX).map(problem).collect();
        if errors.next().is_some() {
            problems.push("and more".to_owned());
        }
        problems
    }
}

/// Refuses what is not a JSON Schema (`invalid`, code `output-schema`).
pub fn check(schema: &Value) -> Result<()> {
    Schema::new(schema).map(|_| ())
}

/// Refuses a value that does not conform (`invalid`, code `nonconforming`), with the problems.
pub fn conforms(schema: &Value, value: &Value) -> Result<()> {
    let problems = Schema::new(schema)?.problems(value, "");
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Error::invalid(
            "nonconforming",
            format!("the answer does not fit the output schema: {}", problems.join("; ")),
        ))
    }
}

fn place(above: &str, pointer: &str) -> String {
    let place = format!("{above}{pointer}");
    if place.is_empty() { "/".to_owned() } else { place }
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
        let bad = [
            json!(3),
            json!({"type": "objekt"}),
            json!({"$schema": "http://nowhere.example/x"}),
            json!({"$ref": "http://nowhere.example/x"}),
        ];
        for bad in bad {
            assert_eq!(check(&bad).expect_err("refused").code, "output-schema", "{bad}");
        }
    }

    #[test]
    fn problems_are_bounded() {
        let schema = Schema::new(&json!({"type": "array", "items": {"type": "integer"}})).expect("schema");
        let problems = schema.problems(&json!(vec!["x"; 100]), "");
        assert_eq!((problems.len(), problems.last().map(String::as_str)), (PROBLEMS_MAX + 1, Some("and more")));
    }
}
