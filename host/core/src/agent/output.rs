//! The structured answer of a task: out of the value that the vendor gave, or out of the final text.

use serde_json::Value;

use crate::schema::{Mismatch, Schema};
use crate::text::shown;
use crate::{Error, Result};

/// Resolves and checks the answer. `native` is the vendor's own value; where it is there it is the answer, and the text is
/// not looked at. Else the *whole* text is one JSON document: a fence around it or a word before it makes it none.
///
/// `available` says whether there is a native value where the value cannot: a `null` is one only if this says so, and no
/// value is one if this says not.
///
/// Errors, all `invalid`: `unparseable`, `nonconforming` (its message names the JSON path),
/// `output-schema`, `output-schema-reference`.
pub fn resolve(schema: &Value, text: &str, native: Option<&Value>, available: Option<bool>) -> Result<Value> {
    let schema = Schema::new(schema)?;
    let native = match available {
        Some(true) => Some(native.unwrap_or(&Value::Null)),
        Some(false) => None,
        None => native.filter(|value| !value.is_null()),
    };
    let value = match native {
        Some(value) => value.clone(),
        None => serde_json::from_str(text).map_err(|error| {
            let why = shown(&error.to_string(), 200);
            Error::invalid("unparseable", format!("the final text is not the JSON that the task asks for: {why}"))
        })?,
    };
    match schema.mismatch(&value) {
        None => Ok(value),
        Some(Mismatch { path, message }) => {
            let message = format!("the answer does not fit the output schema: at `{path}`: {message}");
            Err(Error::invalid("nonconforming", message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_native_value_comes_first() {
        let schema = json!({"type": ["object", "null"]});
        let code = |text, native: Option<Value>, available| {
            resolve(&schema, text, native.as_ref(), available).map_err(|error| error.code.into_owned())
        };
        assert_eq!(code(" {\"a\": 1}\n", None, None), Ok(json!({"a": 1})));
        assert_eq!(code("```json\n{}\n```", None, None), Err("unparseable".to_owned()));
        assert_eq!(code("{}", Some(json!(5)), None), Err("nonconforming".to_owned()));
        assert_eq!(code("{}", Some(json!(5)), Some(false)), Ok(json!({})));
        assert_eq!(code("x", Some(json!(null)), Some(true)), Ok(json!(null)));
        assert_eq!(code("{}", Some(json!(null)), None), Ok(json!({})));
    }
}
