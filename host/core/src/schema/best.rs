//! Which of several problems of a value is the one to tell, and where it is, as a JSON path.
//!
//! The choice is that of the library which agent-runtime-kit uses: the problem highest up in the value; of several, the last
//! in the order of places; `anyOf` and `oneOf` only where nothing else is wrong. Where it is one of these, the deepest of
//! the problems inside it, as long as one stands out.

use std::cmp::Ordering;

use jsonschema::error::ValidationErrorKind;
use jsonschema::paths::LocationSegment;
use jsonschema::{ValidationError, Validator};
use serde_json::Value;

use crate::text::shown;

/// Most problems that are compared: a value of a model can have as many as it has parts.
const COMPARED_MAX: usize = 1_000;

/// Why a value does not conform, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The place in the value, such as `$.items[1].name`.
    pub path: String,
    /// What is wrong there.
    pub message: String,
}

pub(super) fn mismatch(validator: &Validator, document: &Value, value: &Value) -> Option<Mismatch> {
    let errors: Vec<ValidationError<'_>> = validator.iter_errors(value).take(COMPARED_MAX).collect();
    // The first of equals, as `max` of the original's language chooses.
    let mut best = errors.iter().reduce(|best, next| {
        if compare(&key(next, document, 0), &key(best, document, 0)) == Ordering::Greater { next } else { best }
    })?;
    loop {
        let depth = path(best).len();
        let mut inner: Vec<(Key, &ValidationError<'_>)> =
            context(best).map(|error| (key(error, document, depth), error)).collect();
        inner.sort_by(|a, b| compare(&a.0, &b.0));
        best = match &inner[..] {
            [] => break,
            [first, second, ..] if compare(&first.0, &second.0) == Ordering::Equal => break,
            [(_, first), ..] => first,
        };
    }
    Some(Mismatch { path: json_path(&path(best)), message: shown(&best.to_string(), 300) })
}

/// A step from a value to a part of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Index(usize),
    Name(String),
}

/// What is compared of a problem; the greater is the better one.
struct Key {
    path: Vec<Step>,
    strong: bool,
    other_type: bool,
}

fn compare(a: &Key, b: &Key) -> Ordering {
    (b.path.len().cmp(&a.path.len()))
        .then_with(|| a.path.cmp(&b.path))
        .then_with(|| a.strong.cmp(&b.strong))
        .then_with(|| a.other_type.cmp(&b.other_type))
}

/// The key of a problem, whose place counts from `depth` on.
fn key(error: &ValidationError<'_>, document: &Value, depth: usize) -> Key {
    let mut path = path(error);
    let path = path.split_off(depth.min(path.len()));
    let weak = matches!(
        error.kind(),
        ValidationErrorKind::AnyOf { .. }
            | ValidationErrorKind::OneOfMultipleValid { .. }
            | ValidationErrorKind::OneOfNotValid { .. }
    );
    Key { path, strong: !weak, other_type: !matches_type(error, document) }
}

/// The place of a problem. Where a part is there that must not be, it is the whole that holds the part.
fn path(error: &ValidationError<'_>) -> Vec<Step> {
    let mut path: Vec<Step> = error
        .instance_path()
        .iter()
        .map(|segment| match segment {
            LocationSegment::Index(index) => Step::Index(index),
            LocationSegment::Property(name) => Step::Name(name.into_owned()),
        })
        .collect();
    if matches!(error.kind(), ValidationErrorKind::FalseSchema) && is_of_part(error.schema_path().as_str()) {
        path.pop();
    }
    path
}

/// Whether the schema at a place in a schema is one for parts of the value.
fn is_of_part(place: &str) -> bool {
    let mut back = place.rsplit('/');
    let (last, before) = (back.next().unwrap_or_default(), back.next().unwrap_or_default());
    matches!(before, "properties" | "patternProperties" | "prefixItems" | "items")
        || matches!(last, "items" | "additionalItems")
}

/// Whether the schema that found the problem names the type that the value has.
fn matches_type(error: &ValidationError<'_>, document: &Value) -> bool {
    let keyword = error.schema_path().as_str();
    let around = keyword.rsplit_once('/').map_or("", |(around, _)| around);
    let value = error.instance();
    match document.pointer(around).and_then(|schema| schema.get("type")) {
        Some(Value::String(name)) => is_type(value, name),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).any(|name| is_type(value, name)),
        _ => false,
    }
}

fn is_type(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        _ => false,
    }
}

/// The problems inside a choice of which none fits.
fn context<'e>(error: &'e ValidationError<'_>) -> impl Iterator<Item = &'e ValidationError<'static>> {
    let groups: &[Vec<ValidationError<'static>>] = match error.kind() {
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => context,
        _ => &[],
    };
    groups.iter().flatten().take(COMPARED_MAX)
}

fn json_path(steps: &[Step]) -> String {
    let mut path = "$".to_owned();
    for step in steps {
        match step {
            Step::Index(index) => path.push_str(&format!("[{index}]")),
            Step::Name(name) if is_plain(name) => {
                path.push('.');
                path.push_str(name);
            }
            Step::Name(name) => {
                path.push_str(&format!("['{}']", name.replace('\\', "\\\\").replace('\'', "\\'")));
            }
        }
    }
    path
}

/// Whether a name needs no quotes in a path.
fn is_plain(name: &str) -> bool {
    name.as_bytes().first().is_some_and(u8::is_ascii_alphabetic)
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::super::Schema;
    use serde_json::{Value, json};

    fn at(schema: Value, value: Value) -> String {
        Schema::new(&schema).expect("a schema").mismatch(&value).expect("a mismatch").path
    }

    #[test]
    fn the_place_that_is_told() {
        let number = json!({"type": "number"});
        assert_eq!(at(json!({"properties": {"a": number, "b c": number}}), json!({"a": "", "b c": ""})), "$['b c']");
        assert_eq!(at(json!({"required": ["x"], "properties": {"a": number}}), json!({"a": ""})), "$");
        assert_eq!(at(json!({"items": {"items": number}}), json!([[1], [1, "x"]])), "$[1][1]");
        assert_eq!(at(json!({"prefixItems": [true], "items": false}), json!([1, 2])), "$");
        let either = json!({"anyOf": [{"properties": {"a": {"properties": {"b": number}}}}, {"type": "string"}]});
        assert_eq!(at(either, json!({"a": {"b": "x"}})), "$.a.b");
        assert_eq!(at(json!({"anyOf": [{"type": "string"}, {"type": "null"}]}), json!(5)), "$");
    }
}
