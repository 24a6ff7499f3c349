//! Values as JSON, as text within text, and shortened for people.

use serde_json::{Map, Number, Value as Json};

use super::{Node, Value};

impl Node {
    /// The value as JSON. Numbers beyond JSON's are the nearest double; infinities and not-a-number
    /// are the text that YAML has for them.
    #[must_use]
    pub fn to_json(&self) -> Json {
        self.value.to_json()
    }
}

impl Value {
    /// See [`Node::to_json`].
    #[must_use]
    pub fn to_json(&self) -> Json {
        match self {
            Self::Null => Json::Null,
            Self::Bool(value) => Json::Bool(*value),
            Self::Int(value) => match (i64::try_from(value), u64::try_from(value)) {
                (Ok(value), _) => value.into(),
                (_, Ok(value)) => value.into(),
                _ => double(value.to_string().parse().unwrap_or(f64::NAN)),
            },
            Self::Float(value) => double(*value),
            Self::Text(text) => Json::String(text.clone()),
            Self::Expression(expression) => Json::String(expression.text.clone()),
            Self::List(items) => items.iter().map(Node::to_json).collect(),
            Self::Map(map) => {
                Json::Object(map.iter().map(|(key, node)| (key.clone(), node.to_json())).collect::<Map<_, _>>())
            }
        }
    }
}

/// JSON has no word for what is not finite, so that is the text that YAML has for it.
fn double(value: f64) -> Json {
    match Number::from_f64(value) {
        Some(number) => Json::Number(number),
        None if value.is_nan() => Json::from(".nan"),
        None => Json::from(if value > 0.0 { ".inf" } else { "-.inf" }),
    }
}

/// A value as it stands within a text: the form is Python's, because that is what the files were written for.
pub(super) fn within_text(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        value => literal(value),
    }
}

fn literal(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => float(*value),
        Value::Text(text) => quoted(text),
        Value::Expression(expression) => quoted(&expression.text),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(|item| literal(&item.value)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Map(map) => {
            let entries: Vec<String> =
                map.iter().map(|(key, node)| format!("{}: {}", quoted(key), literal(&node.value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

/// The shortest text that reads back as the number, with an exponent below 1e-4 and from 1e16.
pub(super) fn float(value: f64) -> String {
    if !value.is_finite() {
        return if value.is_nan() { "nan".to_owned() } else { if value > 0.0 { "inf" } else { "-inf" }.to_owned() };
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{value}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// In single quotes, or in double ones if it holds only single ones.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}
