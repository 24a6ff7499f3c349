//! JSON values as YAML text that every reader takes for the same: block style, text in quotes wherever it could be
//! anything else in YAML 1.1, in YAML 1.2 or to a person.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::scalar::{Dialect, Scalar, scalar};
use super::tree::{Node, Yaml};
use crate::problem::Mark;

/// How many characters a list of plain values may have on one line.
const LINE_CHARS_MAX: usize = 72;

/// Keys that come first in a mapping, in their order; others follow by name.
pub type Order = &'static [&'static str];

/// A mapping or list as a document that ends with a newline. Recurses as deep as the value is.
#[must_use]
pub fn to_text(value: &Value, order: Order) -> String {
    let mut out = String::new();
    if is_block(value) {
        block(value, 0, order, &mut out);
    } else {
        out.push_str(&inline(value, order));
        out.push('\n');
    }
    out
}

/// A value on one line, in flow style.
#[must_use]
pub fn inline(value: &Value, order: Order) -> String {
    match value {
        Value::String(text) => quoted_if_needed(text),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(|item| inline(item, order)).collect::<Vec<_>>().join(", "))
        }
        Value::Object(entries) => {
            let entries: Vec<String> = ordered(entries, order)
                .map(|(key, value)| format!("{}: {}", quoted_if_needed(key), inline(value, order)))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Number(number) if number.is_f64() => float(number),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// The lines of a collection, each indented.
pub(crate) fn block(value: &Value, indent: usize, order: Order, out: &mut String) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(entries) => {
            for (key, value) in ordered(entries, order) {
                let _ = write!(out, "{pad}{}:", quoted_if_needed(key));
                below(value, indent + 2, order, out);
            }
        }
        Value::Array(items) => {
            for item in items {
                if item.is_object() && is_block(item) {
                    // The first key stands on the line of the dash, where it is as wide as the indentation.
                    let mut lines = String::new();
                    block(item, indent + 2, order, &mut lines);
                    let _ = write!(out, "{pad}- {}", lines.trim_start_matches(' '));
                } else {
                    let _ = write!(out, "{pad}-");
                    below(item, indent + 2, order, out);
                }
            }
        }
        _ => {}
    }
}

fn below(value: &Value, indent: usize, order: Order, out: &mut String) {
    if is_block(value) {
        out.push('\n');
        block(value, indent, order, out);
    } else {
        out.push(' ');
        out.push_str(&inline(value, order));
        out.push('\n');
    }
}

/// Whether a value takes lines of its own: a mapping with keys, and a list that is too much for one line.
fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(entries) => !entries.is_empty(),
        Value::Array(items) => {
            let simple = items.iter().all(|item| !item.is_object() && !item.is_array());
            !simple || items.iter().map(|item| inline(item, &[]).len() + 2).sum::<usize>() > LINE_CHARS_MAX
        }
        _ => false,
    }
}

fn ordered(entries: &Map<String, Value>, order: Order) -> impl Iterator<Item = (&String, &Value)> {
    let mut entries: Vec<_> = entries.iter().collect();
    let rank = |key: &str| order.iter().position(|first| *first == key).unwrap_or(order.len());
    entries.sort_by(|a, b| rank(a.0).cmp(&rank(b.0)).then_with(|| a.0.cmp(b.0)));
    entries.into_iter()
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
