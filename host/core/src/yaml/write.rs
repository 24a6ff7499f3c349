//! JSON values as YAML text that every reader takes for the same: block style, text in quotes wherever it could be
//! anything else in YAML 1.1, in YAML 1.2 or to a person.

use std::fmt::Write as _;

use serde_json::Value;

use super::scalar::{Dialect, Scalar, scalar};
use super::tree::{Node, Yaml};
use crate::problem::Mark;

/// A mapping or list as a document that ends with a newline. Empty collections are written in flow style. Recurses as deep
/// as the value is.
#[must_use]
pub fn to_text(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(_) | Value::Array(_) if !is_empty(value) => block(value, 0, &mut out),
        _ => {
            out.push_str(&inline(value));
            out.push('\n');
        }
    }
    out
}

/// A value on one line, in flow style.
#[must_use]
pub fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => quoted_if_needed(text),
        Value::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Object(entries) => {
            let entries: Vec<String> =
                entries.iter().map(|(key, value)| format!("{}: {}", quoted_if_needed(key), inline(value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Number(number) if number.is_f64() => float(number),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// The lines of a collection, each indented.
pub(crate) fn block(value: &Value, indent: usize, out: &mut String) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                let _ = write!(out, "{pad}{}:", quoted_if_needed(key));
                below(value, indent + 2, out);
            }
        }
        Value::Array(items) => {
            for item in items {
                if is_empty(item) || !item.is_object() {
                    let _ = write!(out, "{pad}-");
                    below(item, indent + 2, out);
                } else {
                    // The first key stands on the line of the dash, where it is as wide as the indentation.
                    let mut lines = String::new();
                    block(item, indent + 2, &mut lines);
                    let _ = write!(out, "{pad}- {}", lines.trim_start_matches(' '));
                }
            }
        }
        _ => {}
    }
}

fn below(value: &Value, indent: usize, out: &mut String) {
    if (value.is_object() || value.is_array()) && !is_empty(value) {
        out.push('\n');
        block(value, indent, out);
    } else {
        out.push(' ');
        out.push_str(&inline(value));
        out.push('\n');
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(entries) => entries.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => true,
    }
}

/// A double with a point: YAML 1.1 takes no other for one.
fn float(number: &serde_json::Number) -> String {
    let text = number.to_string();
    match text.split_once(['e', 'E']) {
        None => text,
        Some((digits, exponent)) => {
            let point = if digits.contains('.') { "" } else { ".0" };
            let sign = if exponent.starts_with('-') { "" } else { "+" };
            format!("{digits}{point}e{sign}{exponent}")
        }
    }
}

fn quoted_if_needed(text: &str) -> String {
    let bare = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/' | b' ');
    let looks_plain = text.bytes().all(bare)
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'/')
        && !text.ends_with(' ');
    if looks_plain && is_text_to_all(text) {
        return text.to_owned();
    }
    // A JSON string is one of YAML, but for what JSON leaves as it is and YAML cannot hold or would fold.
    let mut out = String::new();
    for c in Value::from(text).to_string().chars() {
        match c {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

fn is_text_to_all(text: &str) -> bool {
    let value = Yaml::Scalar { text: text.to_owned(), plain: true };
    let node = Node { at: Mark { line: 1, column: 1 }, tag: None, value };
    let one_letter = matches!(text, "y" | "Y" | "n" | "N");
    !one_letter
        && [Dialect::Core, Dialect::Yaml11, Dialect::Config]
            .iter()
            .all(|dialect| matches!(scalar(&node, *dialect), Ok(Scalar::Text(_))))
}
