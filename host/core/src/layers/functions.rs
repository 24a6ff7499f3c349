//! The functions that an expression may call: OmegaConf's own.

use std::rc::Rc;

use indexmap::IndexMap;

use super::expression::element;
use super::path::split;
use super::resolve::{At, Fault, Got, Resolver};
use super::shown::within_text;
use super::source::number;
use super::{Layer, Source, Value};
use crate::text::{near, shown};

const NAMES: [&str; 8] =
    ["oc.coerce", "oc.create", "oc.decode", "oc.deprecated", "oc.dict.keys", "oc.dict.values", "oc.env", "oc.select"];

impl<'t> Resolver<'t> {
    /// Calls a function for the value at a place.
    pub(super) fn call(&mut self, name: &str, arguments: Vec<Value>, at: &Rc<At<'t>>) -> Result<Got<'t>, Fault> {
        let most = match name {
            "oc.env" | "oc.select" | "oc.deprecated" | "oc.coerce" => 2,
            "oc.decode" | "oc.create" | "oc.dict.keys" | "oc.dict.values" => 1,
            _ => {
                let fault = Fault::new("config-function", format!("there is no function `{}`", shown(name, 80)));
                return Err(match near(name, NAMES).first() {
                    Some(name) => fault.hint(format!("did you mean `{name}`?")),
                    None => fault.hint("write `${a.b}` for a value, or `${oc.env:NAME}` for an environment variable"),
                });
            }
        };
        let least = if name == "oc.coerce" { 2 } else { 1 };
        if arguments.len() < least || arguments.len() > most {
            let fault = format!("`{name}` takes {least} to {most} arguments, not {}", arguments.len());
            return Err(Fault::new("config-function", fault));
        }
        let mut arguments = arguments.into_iter();
        let (first, second) = (arguments.next().unwrap_or(Value::Null), arguments.next());
        let value = match name {
            "oc.env" => self.env(&text(name, first)?, second)?,
            "oc.decode" => match first {
                Value::Null => Value::Null,
                first => self.decode(&text(name, first)?, at)?,
            },
            "oc.create" => create(first)?,
            "oc.coerce" => coerce(&text(name, first)?, second.unwrap_or(Value::Null))?,
            "oc.select" => {
                return Ok(match self.look(&text(name, first)?, true, at)? {
                    Some(got) if !got.node().value.is_mandatory() => got,
                    _ => Got::Made(self.made(second.unwrap_or(Value::Null), at)),
                });
            }
            "oc.deprecated" => {
                let path = text(name, first)?;
                return self.look(&path, true, at)?.ok_or_else(|| nowhere(name, &path));
            }
            _ => {
                let path = text(name, first)?;
                let got = self.look(&path, true, at)?.ok_or_else(|| nowhere(name, &path))?;
                let Value::Map(map) = self.value(got) else {
                    let fault = format!("`{name}` takes the path of a mapping, and `{}` is none", shown(&path, 80));
                    return Err(Fault::new("config-function", fault));
                };
                if name == "oc.dict.keys" {
                    Value::List(map.into_keys().map(|key| self.made(Value::Text(key), at)).collect())
                } else {
                    Value::List(map.into_values().collect())
                }
            }
        };
        Ok(Got::Made(self.made(value, at)))
    }

    /// What stands at a path that a function was given: from the root, or relative with leading dots.
    fn look(&mut self, path: &str, lenient: bool, at: &Rc<At<'t>>) -> Result<Option<Got<'t>>, Fault> {
        let dots = path.chars().take_while(|c| *c == '.').count();
        let Some(start) = self.start(dots, at) else { return Ok(None) };
        let rest = &path[dots..];
        if rest.is_empty() {
            return Ok(Some(Got::At(start)));
        }
        self.walk(&start, &split(rest), lenient)
    }

    /// The text of a variable. A default is text too, but null stays null.
    fn env(&self, name: &str, default: Option<Value>) -> Result<Value, Fault> {
        match (self.variables.get(name)?, default) {
            (Some(value), _) => Ok(Value::Text(value.to_owned())),
            (None, Some(Value::Null)) => Ok(Value::Null),
            (None, Some(default)) => Ok(Value::Text(within_text(&default))),
            (None, None) => {
                let fault = format!("the variable `{}` is not set", shown(name, 80));
                Err(Fault::new("config-variable-unset", fault)
                    .hint(format!("set it, or write a default: `${{oc.env:{name},default}}`")))
            }
        }
    }

    fn decode(&mut self, text: &str, at: &Rc<At<'t>>) -> Result<Value, Fault> {
        let element = element(text).map_err(|why| {
            let fault = format!("`oc.decode` cannot read `{}`: {}", shown(text, 80), why.0);
            Fault::new("config-function", fault)
        })?;
        self.decoded(&element, at)
    }
}

fn nowhere(name: &str, path: &str) -> Fault {
    Fault::new("config-reference", format!("`{name}` looks for `{}`, which is nowhere", shown(path, 80)))
}

fn text(name: &str, value: Value) -> Result<String, Fault> {
    match value {
        Value::Text(text) => Ok(text),
        value => Err(Fault::new("config-function", format!("`{name}` takes text first, not {}", value.kind()))),
    }
}

/// A list or mapping as it is, or a text as YAML. What comes of it is data: no expression in it is followed.
fn create(value: Value) -> Result<Value, Fault> {
    match value {
        Value::Null | Value::List(_) | Value::Map(_) => Ok(value),
        Value::Text(text) => {
            let source = Source::parse(Layer::Overrides, "oc.create", &text).map_err(|refused| {
                let why = refused.problems.into_iter().next().map_or(String::new(), |problem| problem.message);
                Fault::new("config-function", format!("`oc.create` cannot read `{}`: {why}", shown(&text, 80)))
            })?;
            Ok(source.root.value.into_literal())
        }
        value => {
            let fault = format!("`oc.create` takes a list, a mapping or text, not {}", value.kind());
            Err(Fault::new("config-function", fault))
        }
    }
}

impl Value {
    /// With every expression as the text that it was written as.
    fn into_literal(self) -> Self {
        let literal = |mut node: super::Node| {
            node.value = node.value.into_literal();
            node
        };
        match self {
            Self::Expression(expression) => Self::Text(expression.text.clone()),
            Self::List(items) => Self::List(items.into_iter().map(literal).collect()),
            Self::Map(map) => {
                Self::Map(map.into_iter().map(|(key, node)| (key, literal(node))).collect::<IndexMap<_, _>>())
            }
            value => value,
        }
    }
}

fn coerce(kind: &str, value: Value) -> Result<Value, Fault> {
    let refused = || {
        let given = shown(&within_text(&value), 80);
        Fault::new("config-function", format!("`oc.coerce` cannot make `{}` of `{given}`", shown(kind, 20)))
    };
    let made = match (kind, &value) {
        ("str", Value::Text(_) | Value::Bool(_) | Value::Int(_) | Value::Float(_)) => {
            Some(Value::Text(within_text(&value)))
        }
        ("bool", Value::Bool(_)) | ("int", Value::Int(_)) | ("float", Value::Float(_)) => Some(value.clone()),
        ("bool", Value::Int(number)) => Some(Value::Bool(*number != 0.into())),
        ("bool", Value::Text(text)) => match text.to_lowercase().as_str() {
            "yes" | "y" | "on" | "true" | "1" => Some(Value::Bool(true)),
            "no" | "n" | "off" | "false" | "0" => Some(Value::Bool(false)),
            _ => None,
        },
        ("int", Value::Text(text)) => match number(text.trim()) {
            Value::Int(number) => Some(Value::Int(number)),
            _ => None,
        },
        ("int", Value::Bool(value)) => Some(Value::Int(i64::from(*value).into())),
        ("float", Value::Int(number)) => number.to_string().parse().ok().map(Value::Float),
        ("float", Value::Bool(value)) => Some(Value::Float(f64::from(*value))),
        ("float", Value::Text(text)) => text.trim().replace('_', "").parse().ok().map(Value::Float),
        _ => None,
    };
    made.ok_or_else(refused)
}
