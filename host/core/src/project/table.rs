//! How a file is described, and the one reader that goes by the description.
//!
//! A [`Model`] lists its fields once, and the parser and the JSON Schema are made from that list. A rule of a value takes the
//! mode, because the strict parser refuses some of what the original accepts.

use std::borrow::Cow;

use serde_json::{Map, Value as Json};

use super::value::{Item, Val, join};
use super::{Mode, lax};
use crate::problem::{Mark, PROBLEMS_MAX, Problem};
use crate::text::{near, shown};

/// A mapping with known keys.
pub(super) struct Model {
    /// Its name in the schema.
    pub name: &'static str,
    pub about: &'static str,
    pub fields: &'static [Field],
    /// Whether unknown keys are kept instead of refused.
    pub open: bool,
    /// What must hold between fields. Given the fields that are right, defaults included.
    pub check: fn(&Map<String, Json>, Mode) -> Vec<Finding>,
}

/// One key of a [`Model`].
pub(super) struct Field {
    pub name: &'static str,
    pub about: &'static str,
    pub shape: Shape,
    pub default: Default,
    /// Whether `null` may be written, which stands for the absence of a value.
    pub nullable: bool,
}

/// What a field is when its key is absent.
pub(super) enum Default {
    Required,
    Null,
    Is(fn() -> Json),
}

/// What a value must be.
pub(super) enum Shape {
    /// Text that follows a rule, which gives the text that is kept. The pattern is that of the strict rule.
    Text {
        rule: fn(&str, Mode) -> Result<String, Wrong>,
        pattern: Option<&'static str>,
    },
    /// Text out of a list.
    Choice(&'static [&'static str]),
    Flag,
    /// A whole number in a range; the code for one outside, if it has one of its own.
    Whole {
        min: i64,
        max: i64,
        code: Option<&'static str>,
    },
    /// A list with at least so many items.
    List {
        item: &'static Shape,
        least: usize,
    },
    Model(&'static Model),
    /// A date, or a date and a time.
    Moment,
}

/// Free text.
pub(super) const TEXT: Shape = Shape::Text { rule: |text, _| Ok(text.to_owned()), pattern: None };
/// A list of free text.
pub(super) const TEXTS: Shape = Shape::List { item: &TEXT, least: 0 };

/// Why a value is wrong.
pub(super) struct Wrong {
    pub code: &'static str,
    pub message: String,
    pub hint: Option<String>,
}

impl Wrong {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// What does not hold between fields, and at which of them.
pub(super) struct Finding {
    pub path: String,
    pub wrong: Wrong,
}

impl Finding {
    pub(super) fn new(path: impl Into<String>, code: &'static str, message: impl Into<String>) -> Self {
        Self { path: path.into(), wrong: Wrong::new(code, message) }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.wrong.hint = Some(hint.into());
        self
    }
}

/// A check of a model without one.
pub(super) fn nothing_between(_: &Map<String, Json>, _: Mode) -> Vec<Finding> {
    Vec::new()
}

/// Reads values by their description and collects what is wrong.
pub(super) struct Reader<'a> {
    pub file: &'a str,
    pub mode: Mode,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a str, mode: Mode) -> Self {
        Self { file, mode, problems: Vec::new() }
    }

    pub(super) fn report(
        &mut self,
        code: &'static str,
        path: &str,
        at: Option<Mark>,
        message: String,
        hint: Option<String>,
    ) {
        let file = self.file.to_owned();
        self.problems.push(Problem { file, at, field: path.to_owned(), code: Cow::Borrowed(code), message, hint });
    }

    /// What was read, unless something was wrong: then all that was, strictly in the order of the file, in compatibility
    /// mode in the order in which the original finds it.
    pub(super) fn finish<T>(mut self, read: Option<T>) -> Result<T, Vec<Problem>> {
        match read {
            Some(read) if self.problems.is_empty() => Ok(read),
            _ => {
                if self.mode == Mode::Strict {
                    self.problems.sort_by_key(|problem| problem.at);
                    self.problems.truncate(PROBLEMS_MAX);
                }
                Err(self.problems)
            }
        }
    }

    fn wrong(&mut self, path: &str, item: &Item, wrong: Wrong) {
        self.report(wrong.code, path, item.at, wrong.message, wrong.hint);
    }

    /// A mapping by its model: its fields with their defaults, those that are wrong left out.
    pub(super) fn model(&mut self, model: &Model, item: &Item, path: &str) -> Option<Map<String, Json>> {
        let Val::Map(entries) = &item.value else {
            if item.value != Val::Broken {
                let why = format!("expected a mapping, found {}", item.value.kind());
                let keys: Vec<String> = model.fields.iter().map(|field| format!("`{}`", field.name)).collect();
                let hint = format!("its keys are {}", keys.join(", "));
                self.report("not-a-mapping", path, item.at, why, Some(hint));
            }
            return None;
        };
        let before = self.problems.len();
        let mut made = Map::new();
        for field in model.fields {
            let named = |key: &Item| matches!(&key.value, Val::Text(text) if text == field.name);
            let path = join(path, field.name);
            match (entries.iter().find(|(key, _)| named(key)), &field.default) {
                (Some((_, value)), _) if field.nullable && value.value == Val::Null => {
                    made.insert(field.name.to_owned(), Json::Null);
                }
                (Some((_, value)), _) => {
                    if let Some(value) = self.shape(&field.shape, value, &path) {
                        made.insert(field.name.to_owned(), value);
                    }
                }
                (None, Default::Required) => {
                    let why = format!("`{}` is missing", field.name);
                    self.report("field-missing", &path, item.at, why, Some(field.about.to_owned()));
                }
                (None, Default::Null) => {
                    made.insert(field.name.to_owned(), Json::Null);
                }
                (None, Default::Is(value)) => {
                    made.insert(field.name.to_owned(), value());
                }
            }
        }
        self.other_keys(model, entries, path, &mut made);
        let right = self.problems.len() == before;
        match self.mode {
            // The original looks between fields only when each is right, and stops at the first failure.
            Mode::Compat if right => {
                if let Some(finding) = (model.check)(&made, self.mode).into_iter().next() {
                    self.wrong(path, item, finding.wrong);
                }
            }
            Mode::Compat => {}
            Mode::Strict => {
                for finding in (model.check)(&made, self.mode) {
                    let Wrong { code, message, hint } = finding.wrong;
                    self.report(code, &join_maybe(path, &finding.path), item.locate(&finding.path), message, hint);
                }
            }
        }
        Some(made)
    }

    fn other_keys(&mut self, model: &Model, entries: &[(Item, Item)], path: &str, made: &mut Map<String, Json>) {
        for (key, value) in entries {
            let Val::Text(name) = &key.value else {
                let why = format!("a key is text, not {}", key.value.kind());
                self.report("key-not-text", &join(path, &key.value.as_key()), key.at, why, None);
                continue;
            };
            if model.fields.iter().any(|field| field.name == name) {
                continue;
            }
            if model.open {
                made.insert(name.clone(), value.to_json());
                continue;
            }
            let known = || model.fields.iter().map(|field| field.name);
            let hint = match near(&name.to_lowercase(), known()).first() {
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    format!("its keys are {}", known().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))
                }
            };
            let why = format!("the key `{}` is not known here", shown(name, 60));
            self.report("field-unknown", &join(path, name), key.at, why, Some(hint));
        }
    }

    fn shape(&mut self, shape: &Shape, item: &Item, path: &str) -> Option<Json> {
        if item.value == Val::Broken {
            return None;
        }
        if let (Mode::Strict, Val::Moment(_, text)) = (self.mode, &item.value)
            && !matches!(shape, Shape::Moment)
        {
            let text = shown(text, 60);
            let why = format!("`{text}` is text in YAML 1.2 and a date in YAML 1.1");
            self.report("yaml-ambiguous", path, item.at, why, Some(format!("write `\"{text}\"` if it is text")));
            return None;
        }
        let read = match shape {
            Shape::Text { rule, .. } => {
                lax::text(&item.value, self.mode).and_then(|text| rule(&text, self.mode)).map(Json::from)
            }
            Shape::Choice(of) => lax::choice(&item.value, of, self.mode).map(Json::from),
            Shape::Flag => lax::flag(&item.value, self.mode).map(Json::from),
            Shape::Whole { min, max, code } => lax::whole(&item.value, self.mode)
                .and_then(|number| lax::in_range(&number, *min, *max, *code))
                .map(Json::from),
            Shape::Moment => lax::moment(&item.value, self.mode).map(|moment| Json::String(moment.to_string())),
            Shape::Model(model) => return self.model(model, item, path).map(Json::Object),
            Shape::List { item: shape, least } => return self.list(shape, *least, item, path),
        };
        read.map_err(|wrong| self.wrong(path, item, wrong)).ok()
    }

    fn list(&mut self, shape: &Shape, least: usize, item: &Item, path: &str) -> Option<Json> {
        let Val::List(items) = &item.value else {
            let why = format!("expected a list, found {}", item.value.kind());
            self.report(
                "not-a-list",
                path,
                item.at,
                why,
                Some("write each item on a line of its own after `- `".to_owned()),
            );
            return None;
        };
        let before = self.problems.len();
        let made: Vec<Json> = items
            .iter()
            .enumerate()
            // A wrong item keeps its place, so that what refers to an item by its index finds it.
            .map(|(index, item)| self.shape(shape, item, &join(path, &index.to_string())).unwrap_or(Json::Null))
            .collect();
        if made.len() < least && self.problems.len() == before {
            self.report("list-empty", path, item.at, format!("the list needs at least {least} item"), None);
            return None;
        }
        Some(Json::Array(made))
    }
}

fn join_maybe(path: &str, below: &str) -> String {
    if below.is_empty() { path.to_owned() } else { join(path, below) }
}
