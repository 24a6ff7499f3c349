//! `runtm.requests.yaml`: what an agent proposes to change in the manifest.
//!
//! Rules: runtm-shared 0.2.4, `RequestsFile` and its parts. A proposal changes nothing by itself; [`apply()`] merges
//! it once a person approved it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use super::manifest::{EGRESS_HOSTS, ENV_NAME, ENV_TYPES, EnvVar, compact, field, optional, repeated, text, typed};
use super::table::{Default as Absent, Finding, Model, Reader, Shape, TEXT, TEXTS, nothing_between};
use super::value::{Val, read};
use super::{Mode, names};
use crate::deploy::env_value::EnvType;
use crate::problem::Problem;

pub use super::apply::{Merged, apply};

/// A requests file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requests {
    /// What is proposed.
    pub requested: RequestedChanges,
    /// What the agent says to whoever decides.
    pub notes: Vec<String>,
}

/// What is proposed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestedChanges {
    /// Features to switch on or off.
    pub features: Option<RequestedFeatures>,
    /// Variables to declare.
    pub env_vars: Vec<RequestedEnvVar>,
    /// Hosts to reach.
    pub egress_allowlist: Vec<String>,
    /// Connections to add.
    pub connections: Vec<RequestedConnection>,
}

/// Features to switch on or off; what is absent stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestedFeatures {
    /// See [`super::manifest::Features::database`].
    pub database: Option<bool>,
    /// See [`super::manifest::Features::auth`].
    pub auth: Option<bool>,
    /// Why.
    pub reason: Option<String>,
}

impl RequestedFeatures {
    /// Whether it proposes anything.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        self.database.is_some() || self.auth.is_some()
    }
}

/// A variable to declare: an [`EnvVar`] without a default, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestedEnvVar {
    /// Its name.
    pub name: String,
    /// What its text must be.
    #[serde(rename = "type")]
    pub kind: EnvType,
    /// Whether the app cannot start without it.
    pub required: bool,
    /// Whether its value is kept out of logs.
    pub secret: bool,
    /// What it is for.
    pub description: Option<String>,
    /// Why it is needed.
    pub reason: Option<String>,
}

impl RequestedEnvVar {
    /// What would stand in the manifest.
    #[must_use]
    pub fn to_env_var(&self) -> EnvVar {
        EnvVar {
            name: self.name.clone(),
            kind: self.kind,
            required: self.required,
            secret: self.secret,
            description: self.description.clone(),
            default: None,
        }
    }
}

/// A connection to add.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestedConnection {
    /// Its name, in lower case.
    pub name: String,
    /// Names of variables.
    pub env_vars: Vec<String>,
    /// Why it is needed.
    pub reason: Option<String>,
}

/// Reads a requests file. `file` is its name in problems.
pub fn parse(text: &str, file: &str, mode: Mode) -> Result<Requests, Vec<Problem>> {
    let mut reader = Reader::new(file, mode);
    let Some(item) = read(text, &mut reader) else { return reader.finish(None) };
    if !matches!(item.value, Val::Map(_) | Val::Broken) {
        let why = format!("a requests file is a mapping of keys to values, found {}", item.value.kind());
        reader.report("file-not-a-mapping", "", item.at, why, Some("begin with `requested:`".to_owned()));
        return reader.finish(None);
    }
    let fields = reader.model(&REQUESTS, &item, "");
    typed(reader.finish(fields)?, file)
}

impl Requests {
    /// Whether nothing is proposed. Notes and a reason alone propose nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let requested = &self.requested;
        !requested.features.as_ref().is_some_and(RequestedFeatures::has_changes)
            && requested.env_vars.is_empty()
            && requested.egress_allowlist.is_empty()
            && requested.connections.is_empty()
    }

    /// What is proposed, on one line: `Pending: features: database, 2 env vars`, or `No pending requests`. Where all that is
    /// proposed is to switch features off, they are named (`no auth`): the original says then that nothing is pending.
    #[must_use]
    pub fn summary(&self) -> String {
        let requested = &self.requested;
        let features = requested.features.clone().unwrap_or_default();
        let named = [("database", features.database), ("auth", features.auth)];
        let those = |state: bool| named.iter().filter(move |(_, set)| *set == Some(state)).map(|(name, _)| *name);
        let mut parts = Vec::new();
        let on: Vec<&str> = those(true).collect();
        if !on.is_empty() {
            parts.push(format!("features: {}", on.join(", ")));
        }
        let counted = [
            (requested.env_vars.len(), "env vars"),
            (requested.egress_allowlist.len(), "egress domains"),
            (requested.connections.len(), "connections"),
        ];
        parts.extend(counted.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")));
        if parts.is_empty() {
            let off: Vec<String> = those(false).map(|name| format!("no {name}")).collect();
            if off.is_empty() {
                return "No pending requests".to_owned();
            }
            parts.push(format!("features: {}", off.join(", ")));
        }
        format!("Pending: {}", parts.join(", "))
    }

    /// Its short form, without what is absent or empty.
    #[must_use]
    pub fn to_value(&self) -> Json {
        let mut requested = Map::new();
        if let Some(features) = self.requested.features.as_ref().filter(|features| features.has_changes()) {
            let mut features = compact(json!(features));
            // An empty reason says nothing.
            if let Some(entries) = features.as_object_mut().filter(|entries| entries.get("reason") == Some(&json!("")))
            {
                entries.remove("reason");
            }
            requested.insert("features".to_owned(), features);
        }
        let mut list = |key: &str, items: Vec<Json>| {
            if !items.is_empty() {
                requested.insert(key.to_owned(), Json::Array(items));
            }
        };
        list("env_vars", self.requested.env_vars.iter().map(|var| without_null(json!(var))).collect());
        list("egress_allowlist", self.requested.egress_allowlist.iter().map(|host| json!(host)).collect());
        list(
            "connections",
            self.requested.connections.iter().map(|connection| without_null(json!(connection))).collect(),
        );
        let mut out = Map::new();
        out.insert("requested".to_owned(), Json::Object(requested));
        if !self.notes.is_empty() {
            out.insert("notes".to_owned(), json!(self.notes));
        }
        Json::Object(out)
    }

    /// [`Self::to_value`] as YAML.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        crate::yaml::write::to_text(&self.to_value(), super::KEY_ORDER)
    }
}

fn without_null(mut value: Json) -> Json {
    if let Some(entries) = value.as_object_mut() {
        entries.retain(|_, value| !value.is_null());
    }
    value
}

fn between_changes(fields: &Map<String, Json>, mode: Mode) -> Vec<Finding> {
    if mode == Mode::Compat {
        return Vec::new();
    }
    let mut out = repeated(fields, "env_vars", "name", "duplicate-name");
    out.extend(repeated(fields, "connections", "name", "duplicate-name"));
    out.extend(repeated(fields, "egress_allowlist", "", "duplicate-item"));
    out
}

fn between_connection(fields: &Map<String, Json>, mode: Mode) -> Vec<Finding> {
    if mode == Mode::Compat {
        return Vec::new();
    }
    let mut out = repeated(fields, "env_vars", "", "duplicate-item");
    if fields.get("env_vars").and_then(Json::as_array).is_some_and(Vec::is_empty) {
        out.push(Finding::new("env_vars", "list-empty", "the list needs at least 1 item"));
    }
    out
}

/// The parts that can be read alone.
pub(super) fn parts() -> [&'static Model; 3] {
    [&ENV_VAR, &CONNECTION, &FEATURES]
}

static FEATURES: Model = Model {
    name: "RequestedFeatures",
    about: "Features to switch on or off; what is absent stays.",
    fields: &[
        optional("database", "a database on a volume", Shape::Flag),
        optional("auth", "accounts; `web-app` with a database only", Shape::Flag),
        optional("reason", "why", TEXT),
    ],
    open: false,
    check: nothing_between,
};

static ENV_VAR: Model = Model {
    name: "RequestedEnvVar",
    about: "A variable to declare.",
    fields: &[
        field("name", "its name: letters, digits and `_`", ENV_NAME, Absent::Required),
        field("type", "what its text must be", ENV_TYPES, Absent::Is(|| json!("string"))),
        field("required", "whether the app cannot start without it", Shape::Flag, Absent::Is(|| json!(false))),
        field("secret", "whether its value is kept out of logs", Shape::Flag, Absent::Is(|| json!(false))),
        optional("description", "what it is for", TEXT),
        optional("reason", "why it is needed", TEXT),
    ],
    open: false,
    check: nothing_between,
};

static CONNECTION: Model = Model {
    name: "RequestedConnection",
    about: "A connection to add.",
    fields: &[
        field("name", "its name", text!(names::requested_connection, "^[a-z0-9][a-z0-9_-]{0,62}$"), Absent::Required),
        field("env_vars", "names of variables", TEXTS, Absent::Required),
        optional("reason", "why it is needed", TEXT),
    ],
    open: false,
    check: between_connection,
};

static CHANGES: Model = Model {
    name: "RequestedChanges",
    about: "What is proposed.",
    fields: &[
        optional("features", "features to switch on or off", Shape::Model(&FEATURES)),
        field(
            "env_vars",
            "variables to declare",
            Shape::List { item: &Shape::Model(&ENV_VAR), least: 0 },
            Absent::Is(|| json!([])),
        ),
        field("egress_allowlist", "hosts to reach", EGRESS_HOSTS, Absent::Is(|| json!([]))),
        field(
            "connections",
            "connections to add",
            Shape::List { item: &Shape::Model(&CONNECTION), least: 0 },
            Absent::Is(|| json!([])),
        ),
    ],
    open: false,
    check: between_changes,
};

pub(super) static REQUESTS: Model = Model {
    name: "RequestsFile",
    about: "What an agent proposes to change in the manifest: runtm.requests.yaml.",
    fields: &[
        field(
            "requested",
            "what is proposed",
            Shape::Model(&CHANGES),
            Absent::Is(|| json!(RequestedChanges::default())),
        ),
        field("notes", "what the agent says to whoever decides", TEXTS, Absent::Is(|| json!([]))),
    ],
    open: false,
    check: nothing_between,
};
