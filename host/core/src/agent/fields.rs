//! Reading one JSON object of the original's shape, field by field, collecting all that is wrong.

use serde_json::{Map, Value};

use crate::problem::Problem;
use crate::text::{near, shown};

/// Most problems that are kept of one value.
const PROBLEMS_MAX: usize = crate::problem::PROBLEMS_MAX;

/// Problems of one value, with what they have in common.
pub(super) struct Problems<'a> {
    /// What is read, in messages.
    origin: &'a str,
    /// The code of all but those that have one of their own.
    code: &'static str,
    /// Those found, in the order of the fields.
    pub(super) found: Vec<Problem>,
}

impl<'a> Problems<'a> {
    pub(super) fn new(origin: &'a str, code: &'static str) -> Self {
        Self { origin, code, found: Vec::new() }
    }

    pub(super) fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.add_as(self.code, field, message);
    }

    pub(super) fn add_as(&mut self, code: &'static str, field: impl Into<String>, message: impl Into<String>) {
        if self.found.len() < PROBLEMS_MAX {
            let mut problem = Problem::new(self.origin, code, message);
            problem.field = field.into();
            self.found.push(problem);
        }
    }

    /// Whether something is wrong with a field, or inside it.
    pub(super) fn about(&self, field: &str) -> bool {
        self.found.iter().any(|problem| {
            problem.field.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }
}

/// One object. A field that is broken gives a problem and a stand-in, so that reading goes on.
pub(super) struct Fields<'v> {
    map: &'v Map<String, Value>,
    /// What stands in front of a field's name, with its dot.
    above: String,
}

impl<'v> Fields<'v> {
    /// Takes an object; all its fields must be `known`.
    pub(super) fn new(value: &'v Value, above: &str, known: &[&str], problems: &mut Problems<'_>) -> Option<Self> {
        let Value::Object(map) = value else {
            problems.add(above, format!("is an object, not {}", what(value)));
            return None;
        };
        let above = if above.is_empty() { String::new() } else { format!("{above}.") };
        for name in map.keys().filter(|name| !known.contains(&name.as_str())) {
            let like = near(name, known.iter().copied());
            let like = like.first().map_or_else(String::new, |like| format!("; did you mean `{like}`?"));
            problems.add(format!("{above}{}", shown(name, 60)), format!("is not a field here{like}"));
        }
        Some(Self { map, above })
    }

    pub(super) fn path(&self, name: &str) -> String {
        format!("{}{name}", self.above)
    }

    /// The field, if it is there; `null` is there.
    pub(super) fn given(&self, name: &str) -> Option<&'v Value> {
        self.map.get(name)
    }

    /// The field, unless it is absent or `null`.
    pub(super) fn set(&self, name: &str) -> Option<&'v Value> {
        self.given(name).filter(|value| !value.is_null())
    }

    /// A text that must be there.
    pub(super) fn text(&self, name: &str, problems: &mut Problems<'_>) -> String {
        match self.given(name) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => {
                problems.add(self.path(name), format!("is a text, not {}", what(other)));
                String::new()
            }
            None => {
                problems.add(self.path(name), "is missing");
                String::new()
            }
        }
    }

    /// A text with a default; `null` is no text.
    pub(super) fn text_or(&self, name: &str, default: &str, problems: &mut Problems<'_>) -> String {
        if self.given(name).is_some() { self.text(name, problems) } else { default.to_owned() }
    }

    /// A text, or nothing.
    pub(super) fn text_if_set(&self, name: &str, problems: &mut Problems<'_>) -> Option<String> {
        self.set(name).map(|_| self.text(name, problems))
    }

    /// A whole number that is not negative; one with a fraction part written (`1.0`) is none.
    pub(super) fn count(&self, name: &str, problems: &mut Problems<'_>) -> Option<u64> {
        let value = self.given(name)?;
        let count = value.as_u64();
        if count.is_none() {
            problems.add(self.path(name), format!("is a whole number, not negative, and not {}", what(value)));
        }
        count
    }

    /// A finite amount that is not negative, or nothing.
    pub(super) fn amount(&self, name: &str, problems: &mut Problems<'_>) -> Option<f64> {
        let value = self.set(name)?;
        let amount = value.as_f64().filter(|amount| amount.is_finite() && *amount >= 0.0);
        if amount.is_none() {
            problems.add(self.path(name), format!("is a finite amount, not negative, and not {}", what(value)));
        }
        amount
    }

    /// A list; absent is empty.
    pub(super) fn list(&self, name: &str, problems: &mut Problems<'_>) -> &'v [Value] {
        match self.given(name) {
            None => &[],
            Some(Value::Array(list)) => list,
            Some(other) => {
                problems.add(self.path(name), format!("is a list, not {}", what(other)));
                &[]
            }
        }
    }

    /// A list of texts; absent is empty.
    pub(super) fn texts(&self, name: &str, problems: &mut Problems<'_>) -> Vec<String> {
        let mut texts = Vec::new();
        for (index, value) in self.list(name, problems).iter().enumerate() {
            match value {
                Value::String(text) => texts.push(text.clone()),
                other => {
                    problems.add(format!("{}.{index}", self.path(name)), format!("is a text, not {}", what(other)));
                }
            }
        }
        texts
    }

    /// An object; absent is empty.
    pub(super) fn object(&self, name: &str, problems: &mut Problems<'_>) -> Map<String, Value> {
        match self.given(name) {
            None => Map::new(),
            Some(Value::Object(map)) => map.clone(),
            Some(other) => {
                problems.add(self.path(name), format!("is an object, not {}", what(other)));
                Map::new()
            }
        }
    }

    /// A word of an enumeration; absent is its default.
    pub(super) fn word<T: Default + serde::de::DeserializeOwned>(
        &self,
        name: &str,
        words: &[&str],
        problems: &mut Problems<'_>,
    ) -> T {
        let Some(value) = self.given(name) else { return T::default() };
        // Only the listed words count: aliases of our own text form are none of the original's.
        let known = value.as_str().is_some_and(|word| words.contains(&word));
        match serde_json::from_value(value.clone()) {
            Ok(word) if known => word,
            _ => {
                problems.add(self.path(name), format!("is {}, not one of {}", what(value), words.join(", ")));
                T::default()
            }
        }
    }
}

/// A value for a message: its type, and short ones as they are.
pub(super) fn what(value: &Value) -> String {
    match value {
        Value::Null => "`null`".to_owned(),
        Value::Bool(_) | Value::Number(_) => format!("`{}`", shown(&value.to_string(), 40)),
        Value::String(text) => format!("the text `{}`", shown(text, 40)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}
