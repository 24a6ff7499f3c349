//! What a line may be, what is captured of it, and what is said with that.

use std::collections::BTreeMap;

use serde_json::Value;

/// What was captured, by name.
pub(crate) type Captures = BTreeMap<String, Value>;

/// A line as a script sees it: JSON where it is JSON, else text.
pub(crate) fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|_| Value::String(line.to_owned()))
}

/// Whether a line fits: text must be equal; an object needs the fields named, each of which fits; a list the same number
/// of items, each of which fits; `{"$any": true}` is anything at all and `{"$has": "text"}` a text that holds this one.
pub(crate) fn fits(pattern: &Value, line: &Value) -> bool {
    match (pattern, line) {
        (Value::Object(wanted), _) if wanted.len() == 1 && wanted.contains_key("$any") => true,
        (Value::Object(wanted), Value::String(text)) if wanted.len() == 1 && wanted.contains_key("$has") => {
            wanted["$has"].as_str().is_some_and(|part| text.contains(part))
        }
        (Value::Object(wanted), Value::Object(there)) => {
            wanted.iter().all(|(name, pattern)| there.get(name).is_some_and(|value| fits(pattern, value)))
        }
        (Value::Array(wanted), Value::Array(there)) => {
            wanted.len() == there.len() && wanted.iter().zip(there).all(|(pattern, value)| fits(pattern, value))
        }
        _ => pattern == line,
    }
}

/// Keeps the values at JSON pointers under their names. Nothing is captured when one of them is not there.
pub(crate) fn capture(wanted: &BTreeMap<String, String>, line: &Value, into: &mut Captures) -> Result<(), String> {
    for (name, pointer) in wanted {
        let value = line.pointer(pointer).ok_or_else(|| format!("nothing is at `{pointer}` of {line}"))?;
        into.insert(name.clone(), value.clone());
    }
    Ok(())
}

/// Puts in what was captured: a text that is only `{{name}}` becomes the value, of whatever type; within a longer text it
/// becomes its text. `{{env.NAME}}` is a variable of the environment. Other braces stay as they are.
pub(crate) fn filled(template: &Value, captures: &Captures) -> Value {
    match template {
        Value::String(text) => {
            let whole = text.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
            match whole.and_then(|name| value_of(name, captures)) {
                Some(value) => value,
                None => Value::String(filled_text(text, captures)),
            }
        }
        Value::Array(items) => items.iter().map(|item| filled(item, captures)).collect(),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(name, value)| (name.clone(), filled(value, captures))).collect())
        }
        other => other.clone(),
    }
}

/// As [`filled`], for a text.
pub(crate) fn filled_text(text: &str, captures: &Captures) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let named = after.split_once("}}").and_then(|(name, tail)| Some((value_of(name, captures)?, tail)));
        out.push_str(before);
        match named {
            Some((Value::String(value), tail)) => {
                out.push_str(&value);
                rest = tail;
            }
            Some((value, tail)) => {
                out.push_str(&value.to_string());
                rest = tail;
            }
            None => {
                out.push_str("{{");
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

fn value_of(name: &str, captures: &Captures) -> Option<Value> {
    match name.strip_prefix("env.") {
        Some(variable) => std::env::var(variable).ok().map(Value::String),
        None => captures.get(name).cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_fits() {
        for (pattern, line, wanted) in [
            (json!("a"), json!("a"), true),
            (json!("a"), json!("ab"), false),
            (json!({ "id": 1 }), json!({ "id": 1, "more": [] }), true),
            (json!({ "id": 1 }), json!({ "id": "1" }), false),
            (json!({ "a": { "b": null } }), json!({ "a": { "b": null, "c": 1 } }), true),
            (json!({ "a": { "b": null } }), json!({ "a": {} }), false),
            (json!([{ "$any": true }, 2]), json!([{}, 2]), true),
            (json!([1]), json!([1, 2]), false),
            (json!({ "t": { "$has": "sk-" } }), json!({ "t": "a sk-1" }), true),
            (json!({ "t": { "$has": "sk-" } }), json!({ "t": 1 }), false),
        ] {
            assert_eq!(fits(&pattern, &line), wanted, "{pattern} and {line}");
        }
    }

    #[test]
    fn captured_values_keep_their_type() {
        let mut captures = Captures::new();
        let wanted = BTreeMap::from([("id".to_owned(), "/id".to_owned()), ("text".to_owned(), "/p/t".to_owned())]);
        capture(&wanted, &json!({ "id": 0, "p": { "t": "hi" } }), &mut captures).expect("both are there");
        let filled = filled(&json!({ "id": "{{id}}", "say": "{{text}} {{id}} {{other}} {{" }), &captures);
        assert_eq!(filled, json!({ "id": 0, "say": "hi 0 {{other}} {{" }));
        assert!(capture(&wanted, &json!({}), &mut captures).is_err());
    }
}
