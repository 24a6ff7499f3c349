//! One layer: a mapping in which every value knows its place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::Value as Json;

use super::expression::{Expression, is_expression};
use super::path::{joined, split};
use super::resolve::{Got, Resolver};
use super::{DEPTH_MAX, Layer, NODES_MAX, Node, Origin, Refused, Value, Variables, problem};
use crate::problem::{Mark, PROBLEMS_MAX, Problem};
use crate::text::{near, shown};
use crate::yaml::tree::{self, BigInt, Dialect, Scalar, Yaml};

/// A layer that was read, before it is merged.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    pub(super) root: Node,
    /// Keys of the root that are no text, as they were spelled: `on` and `10` as well as `true` and `10`.
    spelled: BTreeMap<String, String>,
}

impl Source {
    /// Reads the text of a file. `file` is its name in origins and problems.
    ///
    /// An empty text is an empty layer; a lone word is a key with null. Every expression in it must be well formed, those too
    /// that another layer will replace.
    pub fn parse(layer: Layer, file: &str, text: &str) -> Result<Self, Refused> {
        let mut reader = Reader::new(layer, file);
        let start = reader.origin(Some(Mark { line: 1, column: 1 }));
        let empty = || Node::new(Value::Map(IndexMap::new()), start.clone());
        let document = tree::read(text).map_err(|fault| reader.fault(&fault, ""))?;
        let root = match &document {
            None => empty(),
            Some(document) => reader.node(document, "", 0),
        };
        let root = match root.value {
            Value::Map(_) => root,
            Value::Null => empty(),
            Value::Text(word) => {
                let null = Node::new(Value::Null, root.origin.clone());
                Node::new(Value::Map(IndexMap::from([(word, null)])), root.origin)
            }
            value => {
                return Err(Refused::at(
                    &root.origin,
                    "",
                    "config-root",
                    format!("a configuration is a mapping, this is {}", value.kind()),
                ));
            }
        };
        let spelled = match &document {
            Some(tree::Node { value: Yaml::Mapping(entries), .. }) => {
                entries.iter().filter_map(|(key, _)| Some((spelling(key)?, Reader::key(key)?))).collect()
            }
            _ => BTreeMap::new(),
        };
        reader.finish(Self { root, spelled })
    }

    /// A layer from data. Its keys are literal: `a.b` is one key. `name` stands for the file.
    pub fn from_data(layer: Layer, name: &str, data: &serde_json::Map<String, Json>) -> Result<Self, Refused> {
        let mut reader = Reader::new(layer, name);
        let root = reader.json_map(data, "", 0);
        let root = Node::new(root, reader.origin(None));
        reader.finish(Self { root, spelled: BTreeMap::new() })
    }

    /// A layer, or several that were merged, whose references were followed: what is merged with it cannot change what they
    /// stand for. Anything but a mapping is an empty layer.
    #[must_use]
    pub fn settled(root: Node) -> Self {
        let root = match root.value {
            Value::Map(_) => root,
            _ => Node::new(Value::Map(IndexMap::new()), root.origin),
        };
        Self { root, spelled: BTreeMap::new() }
    }

    /// The layer of assignments such as `limits.run_events_max=1000`, later ones over earlier ones. The path is dotted or
    /// bracketed (a dot within a key is `\.`), the value is YAML. `name` stands for the file (`--set`).
    pub fn assignments<T: AsRef<str>>(name: &str, assignments: impl IntoIterator<Item = T>) -> Result<Self, Refused> {
        let empty = Self::from_data(Layer::Overrides, name, &serde_json::Map::new())?;
        let mut sources = vec![empty];
        for assignment in assignments {
            sources.push(Self::assignment(name, assignment.as_ref())?);
        }
        let merged = super::merge(sources, &Variables::default())?;
        Ok(Self { root: merged.into_root(), spelled: BTreeMap::new() })
    }

    fn assignment(name: &str, assignment: &str) -> Result<Self, Refused> {
        // Places in a text that is no file mean nothing.
        let mut reader = Reader { marks: false, ..Reader::new(Layer::Overrides, name) };
        let origin = reader.origin(None);
        let refused = |why: &str| {
            let text = shown(assignment, 80);
            Refused::at(&origin, "", "config-assignment", format!("`{text}` {why}"))
                .hint("write `path=value`, for example `limits.run_events_max=1000`")
        };
        let (path, text) = assignment_parts(assignment).ok_or_else(|| refused("has no `=`"))?;
        let keys = split(path);
        if keys.iter().any(String::is_empty) {
            return Err(refused("has an empty key in its path"));
        }
        if keys.len() > DEPTH_MAX {
            return Err(refused("has too many keys in its path"));
        }
        let document = tree::read(text).map_err(|fault| refused(&format!("has no YAML value: {}", fault.message)))?;
        let field = keys.iter().fold(String::new(), |field, key| joined(&field, key));
        let node = match document {
            Some(document) => reader.node(&document, &field, keys.len()),
            None => Node::new(Value::Null, origin.clone()),
        };
        let root = keys
            .into_iter()
            .rev()
            .fold(node, |node, key| Node::new(Value::Map(IndexMap::from([(key, node)])), origin.clone()));
        reader.finish(Self { root, spelled: BTreeMap::new() })
    }

    /// The block of that name, which is a key of the file as it was spelled, never a path; `fallback` is the block for
    /// names without one. A block may be an expression that refers to another block of the same file.
    pub fn select(&self, selector: &str, fallback: Option<&str>, variables: &Variables) -> Result<Self, Refused> {
        let Value::Map(blocks) = &self.root.value else { return Ok(self.clone()) };
        let layer = self.root.origin.layer;
        let found = |name: &str| {
            let key = if blocks.contains_key(name) { name } else { self.spelled.get(name)?.as_str() };
            let block = blocks.get(key).filter(|block| !block.value.is_mandatory())?;
            Some((key.to_owned(), block))
        };
        let Some((key, block)) = found(selector).or_else(|| found(fallback?)) else {
            let names: Vec<&str> = blocks.keys().map(String::as_str).collect();
            let origin = Origin { at: None, ..self.root.origin.clone() };
            let refused = Refused::at(
                &origin,
                "",
                "config-selector",
                format!("it has no block `{}` for the {layer} of this identity", shown(selector, 80)),
            );
            let listed: Vec<String> = names.iter().take(20).map(|name| format!("`{}`", shown(name, 80))).collect();
            let other = fallback.map_or(String::new(), |name| format!(", or add a block `{name}` for all others"));
            return Err(match near(selector, names.iter().copied()).first() {
                Some(name) => refused.hint(format!("did you mean `{}`?", shown(name, 80))),
                None if listed.is_empty() => refused.hint(format!("the file has no blocks{other}")),
                None => refused.hint(format!("it has {}{other}", listed.join(", "))),
            });
        };
        let root = match &block.value {
            Value::Expression(_) => match Resolver::new(&self.root, variables).at_path(std::slice::from_ref(&key))? {
                Got::At(at) => at.node.clone(),
                Got::Made(node) => node,
            },
            _ => block.clone(),
        };
        match root.value {
            Value::Map(_) => Ok(Self { root, spelled: BTreeMap::new() }),
            value => Err(Refused::at(
                &block.origin,
                &key,
                "config-block",
                format!(
                    "the block for the {layer} `{}` must be a mapping, this is {}",
                    shown(selector, 80),
                    value.kind()
                ),
            )),
        }
    }

    /// The values of this layer alone.
    #[must_use]
    pub fn root(&self) -> &Node {
        &self.root
    }
}

/// At the first `=` that has no backslash before it and stands in no brackets.
fn assignment_parts(text: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if c == '=' && !escaped {
            return Some((&text[..at], &text[at + 1..]));
        }
        escaped = c == '\\' && !escaped;
    }
    None
}

/// The text of a key that stands without quotes.
fn spelling(key: &tree::Node) -> Option<String> {
    match &key.value {
        Yaml::Scalar { text, plain: true } => Some(text.clone()),
        _ => None,
    }
}

/// From a document to nodes. It goes on after a problem, so that all of them are found.
struct Reader {
    layer: Layer,
    file: Arc<str>,
    /// Whether places in the text are kept.
    marks: bool,
    nodes: usize,
    problems: Vec<Problem>,
}

impl Reader {
    fn new(layer: Layer, file: &str) -> Self {
        Self { layer, file: file.into(), marks: true, nodes: 0, problems: Vec::new() }
    }

    fn origin(&self, at: Option<Mark>) -> Origin {
        Origin { layer: self.layer, file: self.file.clone(), at: at.filter(|_| self.marks) }
    }

    fn finish(self, source: Source) -> Result<Source, Refused> {
        if self.problems.is_empty() { Ok(source) } else { Err(Refused { problems: self.problems }) }
    }

    fn report(&mut self, at: Option<Mark>, field: &str, code: &'static str, message: &str) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem(&self.origin(at), field, code, message));
        }
    }

    fn fault(&self, fault: &tree::Fault, field: &str) -> Refused {
        Refused::at(&self.origin(Some(fault.at)), field, "config-yaml", &fault.message)
    }

    /// Counts a value; past a bound nothing more is read, and that is said once.
    fn admit(&mut self, at: Option<Mark>, field: &str, depth: usize) -> bool {
        self.nodes += 1;
        let (deep, many) = (depth > DEPTH_MAX, self.nodes > NODES_MAX);
        if deep {
            self.report(at, field, "config-too-large", &format!("it is nested more than {DEPTH_MAX} deep"));
        } else if self.nodes == NODES_MAX + 1 {
            self.report(at, field, "config-too-large", &format!("there are more than {NODES_MAX} values"));
        }
        !deep && !many
    }

    fn node(&mut self, node: &tree::Node, field: &str, depth: usize) -> Node {
        let origin = self.origin(Some(node.at));
        if !self.admit(Some(node.at), field, depth) {
            return Node::new(Value::Null, origin);
        }
        let tagged = |kind: &str| node.tag.as_deref().is_some_and(|tag| tag != format!("tag:yaml.org,2002:{kind}"));
        let value = match &node.value {
            Yaml::Sequence(_) if tagged("seq") => self.unknown_tag(node, field),
            Yaml::Mapping(_) if tagged("map") => self.unknown_tag(node, field),
            Yaml::Sequence(items) => {
                let items = items.iter().enumerate();
                Value::List(
                    items.map(|(at, item)| self.node(item, &joined(field, &at.to_string()), depth + 1)).collect(),
                )
            }
            Yaml::Mapping(entries) => self.mapping(entries, field, depth),
            Yaml::Scalar { .. } => self.scalar(node, field),
        };
        Node::new(value, origin)
    }

    fn unknown_tag(&mut self, node: &tree::Node, field: &str) -> Value {
        let tag = shown(node.tag.as_deref().unwrap_or_default(), 80);
        self.report(Some(node.at), field, "config-value", &format!("no value is made for the tag `{tag}`"));
        Value::Null
    }

    fn mapping(&mut self, entries: &[(tree::Node, tree::Node)], field: &str, depth: usize) -> Value {
        let merged = match tree::merged(entries) {
            Ok(merged) => merged,
            Err(fault) => {
                self.report(Some(fault.at), field, "config-yaml", &fault.message);
                return Value::Null;
            }
        };
        // What `<<` brings stands before the mapping's own entries, and gives way to them.
        let own_from = entries.iter().rev().fold(merged.len(), |from, (key, _)| {
            let is_next = from.checked_sub(1).is_some_and(|at| std::ptr::eq(merged[at].0, key));
            from - usize::from(is_next)
        });
        let mut map = IndexMap::new();
        let mut own = BTreeSet::new();
        for (at, (key, value)) in merged.into_iter().enumerate() {
            let Some(name) = Self::key(key) else {
                let kinds = "a key is text, a number or a boolean";
                self.report(Some(key.at), field, "config-key", kinds);
                continue;
            };
            let path = joined(field, &name);
            if at >= own_from && !own.insert(name.clone()) {
                self.report(
                    Some(key.at),
                    &path,
                    "config-key",
                    &format!("the key `{}` is there twice", shown(&name, 80)),
                );
                continue;
            }
            let node = self.node(value, &path, depth + 1);
            if at >= own_from {
                // An own key that replaces a merged one stands where it was written.
                map.shift_remove(&name);
            }
            map.insert(name, node);
        }
        Value::Map(map)
    }

    /// Keys are text; a number or a boolean is the text that JSON has for it.
    fn key(key: &tree::Node) -> Option<String> {
        match tree::scalar(key, Dialect::Config).ok()? {
            Scalar::Text(text) => Some(text),
            Scalar::Bool(value) => Some(value.to_string()),
            Scalar::Int(value) => Some(value.to_string()),
            Scalar::Float(value) => Some(super::shown::float(value)),
            Scalar::Null | Scalar::Timestamp(_) | Scalar::Binary(_) => None,
        }
    }

    fn scalar(&mut self, node: &tree::Node, field: &str) -> Value {
        match tree::scalar(node, Dialect::Config) {
            Ok(Scalar::Null) => Value::Null,
            Ok(Scalar::Bool(value)) => Value::Bool(value),
            Ok(Scalar::Int(value)) => Value::Int(value),
            Ok(Scalar::Float(value)) => Value::Float(value),
            Ok(Scalar::Text(text)) => self.text(text, Some(node.at), field),
            Ok(Scalar::Timestamp(_)) => {
                self.report(Some(node.at), field, "config-value", "a date is written as text, without a tag");
                Value::Null
            }
            Ok(Scalar::Binary(_)) => {
                self.report(Some(node.at), field, "config-value", "configuration holds no binary data");
                Value::Null
            }
            Err(fault) => {
                self.report(Some(fault.at), field, "config-yaml", &fault.message);
                Value::Null
            }
        }
    }

    fn text(&mut self, text: String, at: Option<Mark>, field: &str) -> Value {
        if !is_expression(&text) {
            return Value::Text(text);
        }
        match Expression::parse(&text) {
            Ok(expression) => Value::Expression(Arc::new(expression)),
            Err(why) => {
                let message = format!("`{}` is no expression: {}", shown(&text, 80), why.0);
                self.report(at, field, "config-expression", &message);
                Value::Null
            }
        }
    }

    fn json(&mut self, json: &Json, field: &str, depth: usize) -> Node {
        let origin = self.origin(None);
        if !self.admit(None, field, depth) {
            return Node::new(Value::Null, origin);
        }
        let value = match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => Value::Int(number.into()),
                (_, Some(number)) => Value::Int(number.into()),
                _ => number.as_f64().map_or(Value::Null, Value::Float),
            },
            Json::String(text) => self.text(text.clone(), None, field),
            Json::Array(items) => {
                let items = items.iter().enumerate();
                Value::List(
                    items.map(|(at, item)| self.json(item, &joined(field, &at.to_string()), depth + 1)).collect(),
                )
            }
            Json::Object(map) => self.json_map(map, field, depth),
        };
        Node::new(value, origin)
    }

    fn json_map(&mut self, map: &serde_json::Map<String, Json>, field: &str, depth: usize) -> Value {
        let entries = map.iter();
        Value::Map(entries.map(|(key, item)| (key.clone(), self.json(item, &joined(field, key), depth + 1))).collect())
    }
}

/// A number as Python reads one in an expression; it was matched by the lexer.
pub(super) fn number(text: &str) -> Value {
    let plain: String = text.chars().filter(|c| *c != '_').collect();
    let digits = plain.strip_prefix('+').unwrap_or(&plain);
    match digits.parse::<BigInt>() {
        Ok(number) => Value::Int(number),
        Err(_) => Value::Float(digits.parse().unwrap_or(f64::NAN)),
    }
}
