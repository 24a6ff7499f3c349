//! A playbook's text as a tree in which every value knows its line and column.
//!
//! YAML 1.2, of which JSON is a part. Duplicate keys are refused, and `yes`, `no`, `on` and `off` are text.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Location, Spanned};

use crate::limits::{DEPTH_MAX, NODES_MAX};

/// A value and where it stands.
#[derive(Debug, Clone)]
pub struct Node {
    /// The value.
    pub kind: Kind,
    /// Where it begins.
    pub at: At,
}

/// The kinds of values.
#[derive(Debug, Clone)]
pub enum Kind {
    /// Nothing, `null` or `~`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the text.
    Map(Vec<(Key, Node)>),
}

/// A key and where it stands.
#[derive(Debug, Clone)]
pub struct Key {
    /// The key.
    pub name: String,
    /// Where it begins.
    pub at: At,
}

/// A place in the text, both counted from 1; 0 is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct At {
    /// The line.
    pub line: u64,
    /// The column, in characters.
    pub column: u64,
}

impl Node {
    /// What it is, for a message.
    pub fn describe(&self) -> &'static str {
        match self.kind {
            Kind::Null => "nothing",
            Kind::Bool(_) => "a boolean",
            Kind::Number(_) => "a number",
            Kind::Text(_) => "text",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
        }
    }

    /// The same as JSON.
    pub fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(value) => Value::Bool(*value),
            Kind::Number(value) => Value::Number(value.clone()),
            Kind::Text(value) => Value::String(value.clone()),
            Kind::List(items) => items.iter().map(Node::to_json).collect(),
            Kind::Map(entries) => {
                let entries = entries.iter().map(|(key, value)| (key.name.clone(), value.to_json()));
                Value::Object(entries.collect::<Map<_, _>>())
            }
        }
    }
}

/// Reads the text. The error is a message with the place where the parser stopped.
pub fn read(text: &str) -> Result<Node, (String, At)> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: DEPTH_MAX, max_nodes: NODES_MAX },
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
        strict_booleans: true,
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Spanned<Kind>>(text, options) {
        Ok(root) => Ok(node(root)),
        Err(error) => {
            let at = error.location().map(place).unwrap_or_default();
            Err((first_line(&error.to_string()), at))
        }
    }
}

fn node(spanned: Spanned<Kind>) -> Node {
    Node { at: place(spanned.referenced), kind: spanned.value }
}

fn place(location: Location) -> At {
    At { line: location.line(), column: location.column() }
}

/// The parser's message without the place, which is told apart from it, and without advice for its programmer.
fn first_line(message: &str) -> String {
    let mut line = message.lines().next().unwrap_or_default();
    for end in [" at line ", ", set DuplicateKeyPolicy", "; use from_str"] {
        line = line.split_once(end).map_or(line, |(before, _)| before);
    }
    line.trim_end_matches('.').to_owned()
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        Kind::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Kind, E> {
        Number::from_f64(value).map(Kind::Number).ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Kind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element::<Spanned<Kind>>()? {
            items.push(node(item));
        }
        Ok(Kind::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kind, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let value = map.next_value::<Spanned<Kind>>()?;
            entries.push((Key { at: place(key.referenced), name: key.value }, node(value)));
        }
        Ok(Kind::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(node: &Node, depth: usize, out: &mut String) {
        let pad = "  ".repeat(depth);
        match &node.kind {
            Kind::List(items) => {
                for item in items {
                    out.push_str(&format!("{pad}- {}:{}\n", item.at.line, item.at.column));
                    show(item, depth + 1, out);
                }
            }
            Kind::Map(entries) => {
                for (key, value) in entries {
                    out.push_str(&format!(
                        "{pad}{} {}:{} -> {}:{}\n",
                        key.name, key.at.line, key.at.column, value.at.line, value.at.column
                    ));
                    show(value, depth + 1, out);
                }
            }
            _ => out.push_str(&format!("{pad}{}\n", node.to_json())),
        }
    }

    #[test]
    fn every_value_knows_its_place() {
        let text = "a: 1\nlist:\n  - x: yes\n    y: |\n      two\n      lines\n  - [true, ~, 1.5]\n\"quoted\": {b: 'c'}\nnorway: no\n";
        let mut out = String::new();
        show(&read(text).expect("YAML"), 0, &mut out);
        insta::assert_snapshot!(out);
    }

    #[test]
    fn json_is_read_too() {
        let node = read("{\n  \"a\": [1, {\"b\": null}]\n}").expect("JSON");
        assert_eq!(node.to_json(), serde_json::json!({ "a": [1, { "b": null }] }));
    }

    #[test]
    fn broken_text_is_an_error_with_its_place() {
        let cases = [
            "a: 1\na: 2\n",
            "a: [1,\nb: 2\n",
            "a: 'x\n",
            "\t- a\n",
            "",
            "a: 1\n---\nb: 2\n",
            "a: *nowhere\n",
            "{\"a\": }",
        ];
        let lines: Vec<String> = cases
            .iter()
            .map(|text| match read(text) {
                Ok(node) => format!("{text:?}: read as {}", node.to_json()),
                Err((message, at)) => format!("{text:?}: {message} at {}:{}", at.line, at.column),
            })
            .collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
