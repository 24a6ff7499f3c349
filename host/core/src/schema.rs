//! JSON Schema: is a schema one, and does a value conform to it.
//!
//! Dialect as `$schema` says, draft 2020-12 where it says nothing. `format` is annotation only, and references to other
//! documents are never fetched: both as in the contract that this replaces (agent-runtime-kit, section 10). The crate
//! behind it is built without its resolvers.
//!
//! - [`check`] is what a task's schema must pass: it is a schema of a known dialect. A reference that leads nowhere is found
//!   when the schema is made ready ([`Schema::new`]), which the host does before a run starts.
//! - `best`: which of several problems of a value is told first, and where it is
//! - `draft3`: the one dialect that the crate does not know

mod best;
mod draft3;

use std::borrow::Cow;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, PatternOptions, ValidationOptions, Validator};
use serde_json::Value;

pub use best::Mismatch;

use crate::text::shown;
use crate::{Error, Result};

/// A schema, ready to check values.
#[derive(Debug, Clone)]
pub struct Schema {
    validator: Validator,
    /// The schema itself, for judging which problem counts.
    document: Value,
}

/// Most problems that are listed of one value.
const PROBLEMS_MAX: usize = 20;

/// Steps that the regular expression of a `pattern` may go back. Patterns are the operator's, but the texts are a model's.
const BACKTRACK_MAX: usize = 1_000_000;

/// The dialects by their identifiers, without an empty fragment.
const DIALECTS: [(&str, Draft); 5] = [
    ("https://json-schema.org/draft/2020-12/schema", Draft::Draft202012),
    ("https://json-schema.org/draft/2019-09/schema", Draft::Draft201909),
    ("http://json-schema.org/draft-07/schema", Draft::Draft7),
    ("http://json-schema.org/draft-06/schema", Draft::Draft6),
    ("http://json-schema.org/draft-04/schema", Draft::Draft4),
];

impl Schema {
    /// Takes a schema (`invalid`, code `output-schema` where it is none, `output-schema-reference` where a reference in it
    /// leads nowhere).
    pub fn new(schema: &Value) -> Result<Self> {
        match build(schema)? {
            Built::Ready(schema) => Ok(schema),
            Built::Dangling(why) => {
                let message = format!("a reference of the output schema leads nowhere: {why}");
                Err(Error::invalid("output-schema-reference", message)
                    .hint("references stay inside the schema: put what is meant under `$defs`"))
            }
        }
    }

    /// What is wrong with a value, each with its place; empty if it conforms. `above` is where the value is in what its
    /// maker wrote, and stands in front of each place.
    #[must_use]
    pub fn problems(&self, value: &Value, above: &str) -> Vec<String> {
        let problem = |error: jsonschema::ValidationError<'_>| {
            format!("at `{}`: {}", place(above, &error.instance_path().to_string()), shown(&error.to_string(), 300))
        };
        let mut errors = self.validator.iter_errors(value);
        let mut problems: Vec<String> = errors.by_ref().take(PROBLEMS_MAX).map(problem).collect();
        if errors.next().is_some() {
            problems.push("and more".to_owned());
        }
        problems
    }

    /// The problem that says most about a value that does not conform, with its place as a JSON path.
    #[must_use]
    pub fn mismatch(&self, value: &Value) -> Option<Mismatch> {
        best::mismatch(&self.validator, &self.document, value)
    }
}

/// Refuses what is not a JSON Schema of a known dialect (`invalid`, code `output-schema`).
pub fn check(schema: &Value) -> Result<()> {
    build(schema).map(|_| ())
}

enum Built {
    Ready(Schema),
    /// It is a schema, but a reference in it leads nowhere.
    Dangling(String),
}

fn build(schema: &Value) -> Result<Built> {
    if !schema.is_object() {
        return Err(Error::invalid("output-schema", "the output schema is not a JSON object")
            .hint("a schema looks like {\"type\": \"object\", \"properties\": {...}}"));
    }
    let (draft, document) = dialect(schema)?;
    let options = options(draft);
    match options.build(&document) {
        Ok(validator) => Ok(Built::Ready(Schema { validator, document: document.into_owned() })),
        Err(error) if matches!(error.kind(), ValidationErrorKind::Referencing(_)) => {
            // It was looked at only up to the reference; whether the rest is a schema is told without following any.
            let why = shown(&error.to_string(), 200);
            unreferenced(draft, &document).map(|()| Built::Dangling(why))
        }
        Err(error) => Err(refused(&error)),
    }
}

fn options(draft: Draft) -> ValidationOptions<'static> {
    jsonschema::options()
        .with_draft(draft)
        .should_validate_formats(false)
        .with_pattern_options(PatternOptions::fancy_regex().backtrack_limit(BACKTRACK_MAX))
}

fn refused(error: &jsonschema::ValidationError<'_>) -> Error {
    let (at, why) = (place("", &error.instance_path().to_string()), shown(&error.to_string(), 300));
    Error::invalid("output-schema", format!("the output schema is not a JSON Schema: at `{at}`: {why}"))
}

/// The dialect of a schema, and the schema in words that the crate knows.
fn dialect(schema: &Value) -> Result<(Draft, Cow<'_, Value>)> {
    let Some(named) = schema.get("$schema") else { return Ok((Draft::Draft202012, Cow::Borrowed(schema))) };
    let name = named.as_str().map(|name| name.strip_suffix('#').unwrap_or(name));
    if name == Some(draft3::DIALECT) {
        return Ok((Draft::Draft4, Cow::Owned(draft3::as_draft4(schema)?)));
    }
    match DIALECTS.iter().find(|(known, _)| Some(*known) == name) {
        Some((known, draft)) => {
            let mut schema = Cow::Borrowed(schema);
            if named.as_str() != Some(*known)
                && let Some(fields) = schema.to_mut().as_object_mut()
            {
                fields.insert("$schema".to_owned(), Value::from(*known));
            }
            Ok((*draft, schema))
        }
        None => {
            let shown = shown(&named.to_string(), 80);
            Err(Error::invalid("output-schema", format!("the output schema has the unknown dialect {shown}"))
                .hint(format!("leave `$schema` out, or name one of {}", DIALECTS.map(|(name, _)| name).join(", "))))
        }
    }
}

/// Whether a document is a schema of a dialect, whatever its references.
fn unreferenced(draft: Draft, document: &Value) -> Result<()> {
    jsonschema::meta::options().validate(document).map_err(|error| refused(&error))?;
    // The patterns of the rest were not compiled: that is left to the day on which the reference is mended.
    let _ = draft;
    Ok(())
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
        let ready = Schema::new(&schema).expect("a schema");
        assert!(ready.mismatch(&json!({"n": 1})).is_none() && ready.problems(&json!({"n": 1}), "").is_empty());
        assert_eq!(ready.mismatch(&json!({"n": "x"})).expect("a mismatch").path, "$.n");
        assert!(ready.problems(&json!({"n": "x"}), "/value")[0].starts_with("at `/value/n`: "));
        let bad = [
            json!(3),
            json!({"type": "objekt"}),
            json!({"$schema": "http://nowhere.example/x"}),
            json!({"$schema": 5}),
            json!({"$ref": "#/$defs/none", "type": 5}),
            json!({"pattern": "["}),
        ];
        for bad in bad {
            assert_eq!(check(&bad).expect_err("refused").code, "output-schema", "{bad}");
        }
    }

    #[test]
    fn a_reference_that_leads_nowhere_is_told_apart() {
        for schema in [json!({"$ref": "#/$defs/none"}), json!({"$ref": "http://nowhere.example/x"})] {
            assert!(check(&schema).is_ok(), "{schema}");
            assert_eq!(Schema::new(&schema).expect_err("refused").code, "output-schema-reference", "{schema}");
        }
    }

    #[test]
    fn dialects_are_known_with_and_without_an_empty_fragment() {
        for (name, _) in DIALECTS.into_iter().chain([(draft3::DIALECT, Draft::Draft4)]) {
            for end in ["", "#"] {
                let schema = json!({"$schema": format!("{name}{end}"), "type": "integer"});
                let schema = Schema::new(&schema).expect("a schema");
                assert!(schema.mismatch(&json!(1)).is_none() && schema.mismatch(&json!("x")).is_some());
            }
        }
    }

    #[test]
    fn problems_are_bounded() {
        let schema = Schema::new(&json!({"type": "array", "items": {"type": "integer"}})).expect("schema");
        let problems = schema.problems(&json!(vec!["x"; 100]), "");
        assert_eq!((problems.len(), problems.last().map(String::as_str)), (PROBLEMS_MAX + 1, Some("and more")));
    }
}
