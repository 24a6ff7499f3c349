//! What a file holds before it is checked: values with their places, made from YAML by the rules of a mode, or from JSON.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde_json::{Map, Value as Json};

use super::Mode;
use super::moment::Moment;
use super::table::Reader;
use crate::problem::Mark;
use crate::text::shown;
use crate::yaml::scalar::{BigInt, Dialect, Scalar, scalar};
use crate::yaml::tree::{CYCLE, Fault, Node, Yaml, merged};

/// A value and its place; values that come from JSON have none.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item {
    pub at: Option<Mark>,
    pub value: Val,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Val {
    Null,
    Bool(bool),
    Int(BigInt),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// A date or a moment; with how it was written.
    Moment(Moment, String),
    List(Vec<Item>),
    Map(Vec<(Item, Item)>),
    /// What was already reported, so that nothing more is said about it.
    Broken,
}

impl Val {
    /// What a message calls it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Text(_) => "text",
            Self::Bytes(_) => "bytes",
            Self::Moment(..) => "a date",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
            Self::Broken => "a broken value",
        }
    }

    /// How it is written: what a message quotes.
    pub(super) fn written(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(bool) => bool.to_string(),
            Self::Int(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Text(text) | Self::Moment(_, text) => text.clone(),
            _ => self.kind().to_owned(),
        }
    }

    /// What the original's mappings know a key by: equal for values that they take for one key. They compare numbers by
    /// value, and a boolean is one.
    fn identity(&self) -> String {
        match self {
            Self::Bool(bool) => format!("number {}", u8::from(*bool)),
            Self::Int(number) => format!("number {number}"),
            Self::Float(number) => format!("number {number}"),
            Self::Text(text) => format!("text {text}"),
            other => format!("{other:?}"),
        }
    }

    /// What a field is called whose key is this: text as it is, anything else as the original shows it.
    pub(super) fn as_key(&self) -> String {
        match self {
            Self::Null => "None".to_owned(),
            Self::Bool(bool) => u8::from(*bool).to_string(),
            Self::Float(number) if number.is_finite() && number.fract() == 0.0 && number.abs() < 1e16 => {
                format!("{number:.1}")
            }
            Self::Float(number) if number.abs() >= 1e16 && number.is_finite() => {
                format!("{number:e}").replace('e', "e+")
            }
            Self::Float(number) => number.to_string(),
            Self::Moment(moment, _) => moment.as_python(),
            _ => self.written(),
        }
    }
}

impl Item {
    /// A value that comes from JSON.
    pub(super) fn from_json(json: &Json) -> Self {
        let value = match json {
            Json::Null => Val::Null,
            Json::Bool(bool) => Val::Bool(*bool),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => Val::Int(number.into()),
                (None, Some(number)) => Val::Int(number.into()),
                (None, None) => match number.as_f64().unwrap_or(f64::NAN) {
                    // JSON has one kind of number, and one of this size is more likely to have been written in digits.
                    large if large.fract() == 0.0 && large.abs() >= 1e19 => {
                        format!("{large:.0}").parse().map_or(Val::Float(large), Val::Int)
                    }
                    number => Val::Float(number),
                },
            },
            Json::String(text) => Val::Text(text.clone()),
            Json::Array(items) => Val::List(items.iter().map(Self::from_json).collect()),
            Json::Object(entries) => Val::Map(
                entries
                    .iter()
                    .map(|(key, value)| (Self { at: None, value: Val::Text(key.clone()) }, Self::from_json(value)))
                    .collect(),
            ),
        };
        Self { at: None, value }
    }

    /// The JSON form of a value whose shape no rule names.
    pub(super) fn to_json(&self) -> Json {
        match &self.value {
            Val::Null | Val::Broken => Json::Null,
            Val::Bool(bool) => Json::Bool(*bool),
            Val::Int(number) => match (i64::try_from(number), u64::try_from(number)) {
                (Ok(number), _) => number.into(),
                (_, Ok(number)) => number.into(),
                _ => number.to_string().parse::<f64>().map_or(Json::Null, Json::from),
            },
            Val::Float(number) => Json::from(*number),
            Val::Text(text) => Json::String(text.clone()),
            Val::Bytes(bytes) => Json::String(String::from_utf8_lossy(bytes).into_owned()),
            Val::Moment(moment, _) => Json::String(moment.to_string()),
            Val::List(items) => items.iter().map(Self::to_json).collect(),
            Val::Map(entries) => Json::Object(
                entries.iter().map(|(key, value)| (key.value.as_key(), value.to_json())).collect::<Map<_, _>>(),
            ),
        }
    }

    /// The place of a field below this value, or of what is nearest above it.
    pub(super) fn locate(&self, path: &str) -> Option<Mark> {
        let mut here = self;
        for step in path.split('.').filter(|step| !step.is_empty()) {
            let next = match &here.value {
                Val::List(items) => step.parse::<usize>().ok().and_then(|index| items.get(index)),
                Val::Map(entries) => {
                    let named = |key: &Item| matches!(&key.value, Val::Text(text) if text == step);
                    entries.iter().find(|(key, _)| named(key)).map(|(_, value)| value)
                }
                _ => None,
            };
            match next {
                Some(next) => here = next,
                None => break,
            }
        }
        here.at
    }
}

/// A document's value as PyYAML makes it: YAML 1.1, merge keys, the last of equal keys counts, tags for sets and pairs.
pub(super) fn lax(node: &Node) -> Result<Item, Fault> {
    let value = match &node.value {
        Yaml::Scalar { .. } => lax_scalar(node)?,
        Yaml::Sequence(items) => match core_tag(node) {
            None | Some("seq") => Val::List(items.iter().map(lax).collect::<Result<_, _>>()?),
            Some("omap" | "pairs") => Val::List(items.iter().map(pair).collect::<Result<_, _>>()?),
            Some(_) => return Err(no_such_tag(node)),
        },
        Yaml::Mapping(entries) => {
            let mut made: Vec<(Item, Item)> = Vec::with_capacity(entries.len());
            let mut seen: BTreeMap<String, usize> = BTreeMap::new();
            for (key, value) in merged(entries)? {
                let key = lax_key(key)?;
                let value = lax(value)?;
                match seen.entry(key.value.identity()) {
                    Entry::Occupied(at) => made[*at.get()].1 = value,
                    Entry::Vacant(at) => {
                        at.insert(made.len());
                        made.push((key, value));
                    }
                }
            }
            match core_tag(node) {
                None | Some("map") => Val::Map(made),
                Some("set") => Val::List(made.into_iter().map(|(key, _)| key).collect()),
                Some(_) => return Err(no_such_tag(node)),
            }
        }
    };
    Ok(Item { at: Some(node.at), value })
}

fn lax_scalar(node: &Node) -> Result<Val, Fault> {
    Ok(match scalar(node, Dialect::Yaml11)? {
        Scalar::Null => Val::Null,
        Scalar::Bool(bool) => Val::Bool(bool),
        Scalar::Int(number) => Val::Int(number),
        Scalar::Float(number) => Val::Float(number),
        Scalar::Text(text) => Val::Text(text),
        Scalar::Binary(bytes) => Val::Bytes(bytes),
        Scalar::Timestamp(text) => {
            let moment = Moment::from_yaml(&text).ok_or_else(|| no_such_date(node, &text))?;
            Val::Moment(moment, text)
        }
    })
}

fn no_such_date(node: &Node, text: &str) -> Fault {
    Fault { at: node.at, message: format!("`{}` is not a date that exists", shown(text, 60)) }
}

/// A key. Lists and mappings cannot be one; the plain text `=` is text here, though it is nothing elsewhere.
fn lax_key(node: &Node) -> Result<Item, Fault> {
    let value = match &node.value {
        Yaml::Scalar { text, plain: true } if text == "=" && node.tag.is_none() => Val::Text(text.clone()),
        Yaml::Scalar { .. } => lax_scalar(node)?,
        _ => return Err(Fault { at: node.at, message: format!("{} cannot be a key", node.kind()) }),
    };
    Ok(Item { at: Some(node.at), value })
}

fn pair(node: &Node) -> Result<Item, Fault> {
    match &node.value {
        Yaml::Mapping(entries) if entries.len() == 1 => {
            let pair = vec![lax_key(&entries[0].0)?, lax(&entries[0].1)?];
            Ok(Item { at: Some(node.at), value: Val::List(pair) })
        }
        _ => Err(Fault { at: node.at, message: "expected a mapping with one key".to_owned() }),
    }
}

fn core_tag(node: &Node) -> Option<&str> {
    let tag = node.tag.as_deref()?;
    if tag == CYCLE { None } else { Some(tag.strip_prefix("tag:yaml.org,2002:").unwrap_or(tag)) }
}

fn no_such_tag(node: &Node) -> Fault {
    let tag = node.tag.as_deref().unwrap_or_default();
    Fault { at: node.at, message: format!("no value is made for the tag `{}` on {}", shown(tag, 60), node.kind()) }
}

/// A document's value in strict mode: only what YAML 1.1 and YAML 1.2 read alike, no key twice. What is wrong is
/// reported and left out, so that the rest is still checked.
pub(super) fn strict(node: &Node, path: &str, reader: &mut Reader<'_>) -> Item {
    let at = Some(node.at);
    if !matches!(core_tag(node), None | Some("seq" | "map")) && !matches!(node.value, Yaml::Scalar { .. }) {
        reader.report("yaml-tag", path, at, no_such_tag(node).message, None);
        return Item { at, value: Val::Broken };
    }
    let value = match &node.value {
        Yaml::Scalar { .. } => strict_scalar(node, path, reader),
        Yaml::Sequence(items) => Val::List(
            items.iter().enumerate().map(|(i, item)| strict(item, &join(path, &i.to_string()), reader)).collect(),
        ),
        Yaml::Mapping(entries) => {
            let mut made: Vec<(Item, Item)> = Vec::with_capacity(entries.len());
            let mut seen = BTreeMap::new();
            for (key, value) in entries {
                let Yaml::Scalar { .. } = &key.value else {
                    reader.report(
                        "key-not-text",
                        path,
                        Some(key.at),
                        format!("a key is text, not {}", key.kind()),
                        None,
                    );
                    continue;
                };
                let name = strict_scalar(key, path, reader);
                let path = join(path, &name.written());
                if let Some(first) = (name != Val::Broken).then(|| seen.insert(name.written(), key.at)).flatten() {
                    let why = format!("the key `{}` is already on line {}", shown(&name.written(), 60), first.line);
                    reader.report("yaml-duplicate-key", &path, Some(key.at), why, Some("keep one of them".to_owned()));
                    continue;
                }
                let value = strict(value, &path, reader);
                if name != Val::Broken {
                    made.push((Item { at: Some(key.at), value: name }, value));
                }
            }
            Val::Map(made)
        }
    };
    Item { at, value }
}

fn strict_scalar(node: &Node, path: &str, reader: &mut Reader<'_>) -> Val {
    let (new, old) = (scalar(node, Dialect::Core), scalar(node, Dialect::Yaml11));
    let (now, then) = match (&new, &old) {
        (Ok(Scalar::Text(text)), Ok(Scalar::Timestamp(_))) | (Ok(Scalar::Timestamp(text)), Ok(_)) => {
            return match Moment::from_yaml(text) {
                Some(moment) => Val::Moment(moment, text.clone()),
                None => {
                    reader.report("yaml-value", path, Some(node.at), no_such_date(node, text).message, None);
                    Val::Broken
                }
            };
        }
        // Compared as they print, so that NaN equals itself.
        (Ok(new), Ok(old)) if format!("{new:?}") == format!("{old:?}") => {
            return lax_scalar(node).unwrap_or(Val::Broken);
        }
        (Ok(new), Ok(old)) => (named(new), named(old)),
        (Ok(_), Err(fault)) | (Err(fault), _) => {
            reader.report("yaml-value", path, Some(node.at), fault.message.clone(), None);
            return Val::Broken;
        }
    };
    let text = match &node.value {
        Yaml::Scalar { text, .. } => shown(text, 60),
        _ => String::new(),
    };
    let why = if now == then {
        format!("`{text}` is another number in YAML 1.2 than in YAML 1.1")
    } else {
        format!("`{text}` is {now} in YAML 1.2 and {then} in YAML 1.1")
    };
    let hint = format!("write `\"{text}\"` if it is text, and a plain value of one meaning if not");
    reader.report("yaml-ambiguous", path, Some(node.at), why, Some(hint));
    Val::Broken
}

fn named(scalar: &Scalar) -> &'static str {
    match scalar {
        Scalar::Null => "nothing",
        Scalar::Bool(_) => "a boolean",
        Scalar::Int(_) => "a whole number",
        Scalar::Float(_) => "a number",
        Scalar::Text(_) => "text",
        Scalar::Timestamp(_) => "a date",
        Scalar::Binary(_) => "bytes",
    }
}

/// The name of a field below another.
pub(super) fn join(path: &str, step: &str) -> String {
    if path.is_empty() { step.to_owned() } else { format!("{path}.{step}") }
}

/// Reads a text into a value, or none when it has no document. Faults of syntax are reported.
pub(super) fn read(text: &str, reader: &mut Reader<'_>) -> Option<Item> {
    let made = match reader.mode {
        Mode::Strict => crate::yaml::tree::read(text).map(|node| node.map(|node| strict(&node, "", reader))),
        Mode::Compat => crate::yaml::tree::read_with_cycles(text).and_then(|node| node.as_ref().map(lax).transpose()),
    };
    match made {
        Ok(item) => Some(item.unwrap_or(Item { at: None, value: Val::Null })),
        Err(fault) => {
            reader.report("yaml-syntax", "", Some(fault.at), fault.message, None);
            None
        }
    }
}
