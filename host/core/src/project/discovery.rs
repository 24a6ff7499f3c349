//! `runtm.discovery.yaml`: what an app says about itself, so that others find it.
//!
//! Rules: runtm-shared 0.2.4, `AppDiscovery` and its parts. Keys that are not known are kept, at each level.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use super::manifest::{field, optional, text, typed};
use super::table::{Default as Absent, Model, Reader, Shape, TEXT, TEXTS, nothing_between};
use super::value::{Item, Val, read};
use super::{Mode, names};
use crate::problem::Problem;

/// A discovery file; an empty one says nothing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Discovery {
    /// What the app does, at length.
    pub description: Option<String>,
    /// What it does, in a line.
    pub summary: Option<String>,
    /// What it can do.
    pub capabilities: Option<Vec<String>>,
    /// What it is good for.
    pub use_cases: Option<Vec<String>>,
    /// Words to find it by.
    pub tags: Option<Vec<String>>,
    /// Its API.
    pub api: Option<Api>,
    /// Who wrote the file.
    pub generated: Option<Generated>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Map<String, Json>,
}

/// What an app says about its API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Api {
    /// The path of its description.
    pub openapi_path: String,
    /// Its calls, such as `GET /users`.
    pub endpoints: Option<Vec<String>>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Map<String, Json>,
}

/// Who wrote a discovery file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Generated {
    /// Which tool.
    pub by: Option<String>,
    /// When, in ISO 8601.
    pub at: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Map<String, Json>,
}

/// Reads a discovery file. `file` is its name in problems.
pub fn parse(text: &str, file: &str, mode: Mode) -> Result<Discovery, Vec<Problem>> {
    let mut reader = Reader::new(file, mode);
    let Some(mut item) = read(text, &mut reader) else { return reader.finish(None) };
    if item.value == Val::Null {
        item = Item { at: item.at, value: Val::Map(Vec::new()) };
    }
    if !matches!(item.value, Val::Map(_) | Val::Broken) {
        let why = format!("a discovery file is a mapping of keys to values, found {}", item.value.kind());
        reader.report("file-not-a-mapping", "", item.at, why, Some("begin with `summary:`".to_owned()));
        return reader.finish(None);
    }
    let fields = reader.model(&DISCOVERY, &item, "");
    typed(reader.finish(fields)?, file)
}

impl Discovery {
    /// Whether it says nothing that helps to find the app: no tag, and only texts with `TODO` in them.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let says = |text: &String| !text.is_empty() && !text.contains("TODO");
        let can = self.capabilities.iter().flatten().any(|text| !text.contains("TODO"));
        let tagged = self.tags.as_ref().is_some_and(|tags| !tags.is_empty());
        !(self.description.as_ref().is_some_and(says) || self.summary.as_ref().is_some_and(says) || can || tagged)
    }

    /// It as YAML, without what is absent.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let mut value = json!(self);
        drop_nulls(&mut value);
        for part in ["api", "generated"] {
            if let Some(part) = value.get_mut(part) {
                drop_nulls(part);
            }
        }
        crate::yaml::write::to_text(&value, super::KEY_ORDER)
    }
}

fn drop_nulls(value: &mut Json) {
    if let Some(entries) = value.as_object_mut() {
        entries.retain(|_, value| !value.is_null());
    }
}

static API: Model = Model {
    name: "ApiDiscovery",
    about: "What the app says about its API.",
    fields: &[
        field(
            "openapi_path",
            "the path of the description",
            text!(names::openapi_path, "^/([^/].*)?$"),
            Absent::Is(|| json!("/openapi.json")),
        ),
        optional("endpoints", "its calls, such as `GET /users`", TEXTS),
    ],
    open: true,
    check: nothing_between,
};

static GENERATED: Model = Model {
    name: "GeneratedInfo",
    about: "Who wrote the file.",
    fields: &[optional("by", "which tool", TEXT), optional("at", "when, as `2025-01-31T10:30:00Z`", Shape::Moment)],
    open: true,
    check: nothing_between,
};

pub(super) static DISCOVERY: Model = Model {
    name: "AppDiscovery",
    about: "What an app says about itself: runtm.discovery.yaml.",
    fields: &[
        optional("description", "what the app does, at length", TEXT),
        optional("summary", "what it does, in a line", TEXT),
        optional("capabilities", "what it can do", TEXTS),
        optional("use_cases", "what it is good for", TEXTS),
        optional("tags", "words to find it by", TEXTS),
        optional("api", "its API", Shape::Model(&API)),
        optional("generated", "who wrote the file", Shape::Model(&GENERATED)),
    ],
    open: true,
    check: nothing_between,
};
