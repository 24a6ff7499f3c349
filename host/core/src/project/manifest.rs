//! `runtm.yaml`: what is deployed, and what it needs.
//!
//! Rules: runtm-shared 0.2.4, `Manifest` and its parts.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use super::lax::one_of;
use super::table::{Default as Absent, Field, Finding, Model, Reader, Shape, TEXT, Wrong, nothing_between};
use super::value::{Item, Val, read};
use super::{Mode, names};
use crate::deploy::env_value::{Declared, EnvType};
use crate::deploy::tier::MachineTier;
use crate::problem::{PROBLEMS_MAX, Problem};
use crate::text::{near, shown};

/// The templates.
pub const TEMPLATES: [&str; 4] = ["backend-service", "docker", "static-site", "web-app"];
/// The runtimes of every template but `docker`.
pub const RUNTIMES: [&str; 3] = ["fullstack", "node", "python"];
/// The sizes of machines, by name.
const TIERS: [&str; 3] = ["performance", "pro", "starter"];

/// A manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The name of the app: a host label.
    pub name: String,
    /// What kind of app it is: one of [`TEMPLATES`].
    pub template: String,
    /// What runs it: one of [`RUNTIMES`]. The template `docker` brings its own.
    pub runtime: Option<String>,
    /// The path that answers when the app is healthy.
    pub health_path: String,
    /// The port on which it listens.
    pub port: u16,
    /// The size of its machine.
    pub tier: MachineTier,
    /// The environment variables that it reads.
    pub env_schema: Vec<EnvVar>,
    /// Named groups of these variables.
    pub connections: Vec<Connection>,
    /// What a deployment of it may do.
    pub policy: Option<Policy>,
    /// Parts of the template that are switched on.
    pub features: Features,
    /// Folders that outlive a deployment.
    pub volumes: Vec<VolumeMount>,
}

/// An environment variable that the app reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// What its text must be.
    #[serde(rename = "type")]
    pub kind: EnvType,
    /// Whether the app cannot start without it.
    pub required: bool,
    /// Whether its value is kept out of logs. A secret has no default.
    pub secret: bool,
    /// What it is for.
    pub description: Option<String>,
    /// Its value where none is set.
    pub default: Option<String>,
}

/// A named group of variables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connection {
    /// Its name, in lower case.
    pub name: String,
    /// Names of declared variables.
    pub env_vars: Vec<String>,
}

/// Where a deployment runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyMode {
    /// For trying things out.
    Sandbox,
    /// For users.
    Prod,
}

/// Which hosts a deployment may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Egress {
    /// All.
    Public,
    /// Those of the list.
    Allowlist,
}

/// What a deployment may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Where it runs.
    pub mode: PolicyMode,
    /// Which hosts it may reach.
    pub egress: Egress,
    /// Host names, and `*.domain` for all below a domain.
    pub egress_allowlist: Vec<String>,
}

/// Parts of a template that are switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Features {
    /// A database on a volume.
    pub database: bool,
    /// Accounts; `web-app` with a database only.
    pub auth: bool,
}

/// A folder that outlives a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeMount {
    /// Its name, in lower case.
    pub name: String,
    /// Where it is mounted.
    pub path: String,
    /// How large it is, in GB: 1 to 100.
    pub size_gb: u8,
}

/// Reads a manifest. `file` is its name in problems.
pub fn parse(text: &str, file: &str, mode: Mode) -> Result<Manifest, Vec<Problem>> {
    let mut reader = Reader::new(file, mode);
    let Some(item) = read(text, &mut reader) else { return reader.finish(None) };
    if !matches!(item.value, Val::Map(_) | Val::Broken) {
        let why = format!("a manifest is a mapping of keys to values, found {}", item.value.kind());
        reader.report("file-not-a-mapping", "", item.at, why, Some("begin with `name:` and `template:`".to_owned()));
        return reader.finish(None);
    }
    let fields = reader.model(&MANIFEST, &item, "");
    let fields = reader.finish(fields)?;
    let mut manifest: Manifest = typed(fields, file)?;
    if manifest.features.database && manifest.volumes.is_empty() {
        let (name, path) = ("data".to_owned(), "/data".to_owned());
        manifest.volumes.push(VolumeMount { name, path, size_gb: 1 });
    }
    Ok(manifest)
}

/// Reads one part of a manifest or of a requests file from JSON, by the name of its model (`EnvVar`, `Connection`,
/// `Policy`, `Features`, `VolumeMount`, `RequestedEnvVar`, `RequestedConnection`, `RequestedFeatures`), into its JSON with
/// all defaults. None if there is no such model.
#[must_use]
pub fn parse_part(model: &str, value: &Json, mode: Mode) -> Option<Result<Json, Vec<Problem>>> {
    let parts = [&ENV_VAR, &CONNECTION, &POLICY, &FEATURES, &VOLUME].into_iter().chain(super::requests::parts());
    let model = parts.into_iter().find(|part| part.name == model)?;
    let mut reader = Reader::new("", mode);
    let fields = reader.model(model, &Item::from_json(value), "");
    Some(reader.finish(fields).map(Json::Object))
}

/// Fields that were checked, as a type.
pub(super) fn typed<T: serde::de::DeserializeOwned>(fields: Map<String, Json>, file: &str) -> Result<T, Vec<Problem>> {
    serde_json::from_value(Json::Object(fields)).map_err(|error| {
        // The tables and the types say the same; a test reads each example through both.
        vec![Problem::new(file, "file-not-a-mapping", shown(&error.to_string(), 200))]
    })
}

impl Manifest {
    /// The names of the variables whose values are secret, in their order.
    #[must_use]
    pub fn secret_env_vars(&self) -> Vec<&EnvVar> {
        self.env_schema.iter().filter(|var| var.secret).collect()
    }

    /// The variables without which the app cannot start, in their order.
    #[must_use]
    pub fn required_env_vars(&self) -> Vec<&EnvVar> {
        self.env_schema.iter().filter(|var| var.required).collect()
    }

    /// The variables of a connection, by its exact name; empty if there is none, the first if there are several.
    #[must_use]
    pub fn connection_env_vars(&self, name: &str) -> &[String] {
        self.connections.iter().find(|connection| connection.name == name).map_or(&[], |found| &found.env_vars)
    }

    /// Its variables as what values are checked against.
    pub fn declared(&self) -> impl Iterator<Item = Declared<'_>> {
        self.env_schema.iter().map(|var| Declared {
            name: &var.name,
            kind: var.kind,
            required: var.required,
            secret: var.secret,
            description: var.description.as_deref(),
            default: var.default.as_deref(),
        })
    }

    /// Its short form: what is absent, empty or switched off is left out; name, template, health path, port and tier are
    /// always there.
    #[must_use]
    pub fn to_value(&self) -> Json {
        let mut out = Map::new();
        out.insert("name".to_owned(), json!(self.name));
        out.insert("template".to_owned(), json!(self.template));
        out.insert("health_path".to_owned(), json!(self.health_path));
        out.insert("port".to_owned(), json!(self.port));
        out.insert("tier".to_owned(), json!(self.tier));
        if let Some(runtime) = self.runtime.as_ref().filter(|runtime| !runtime.is_empty()) {
            out.insert("runtime".to_owned(), json!(runtime));
        }
        let mut list = |key: &str, items: Json| {
            if items.as_array().is_some_and(|items| !items.is_empty()) {
                out.insert(key.to_owned(), items);
            }
        };
        list("env_schema", self.env_schema.iter().map(|var| compact(json!(var))).collect());
        list("connections", json!(self.connections));
        list("volumes", json!(self.volumes));
        if let Some(policy) = &self.policy {
            out.insert("policy".to_owned(), compact(json!(policy)));
        }
        let features: Map<String, Json> = [("database", self.features.database), ("auth", self.features.auth)]
            .into_iter()
            .filter(|(_, on)| *on)
            .map(|(name, on)| (name.to_owned(), json!(on)))
            .collect();
        if !features.is_empty() {
            out.insert("features".to_owned(), Json::Object(features));
        }
        Json::Object(out)
    }

    /// [`Self::to_value`] as YAML, which reads as an equal manifest in the mode in which this one was read.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        crate::yaml::write::to_text(&self.to_value(), super::KEY_ORDER)
    }
}

/// Without what is null or an empty list.
pub(super) fn compact(value: Json) -> Json {
    match value {
        Json::Object(entries) => Json::Object(
            entries
                .into_iter()
                .filter(|(_, value)| !value.is_null() && !value.as_array().is_some_and(Vec::is_empty))
                .collect(),
        ),
        value => value,
    }
}

fn word(code: &'static str, of: &[&str], text: &str) -> Result<String, Wrong> {
    if of.contains(&text) {
        return Ok(text.to_owned());
    }
    let wrong = one_of(code, of, &format!("`{}`", shown(text, 60)));
    Err(match near(&text.to_lowercase(), of.iter().copied()).first() {
        Some(near) => wrong.hint(format!("did you mean `{near}`?")),
        None => wrong,
    })
}

/// Repeated names in a list, each reported where it is repeated.
pub(super) fn repeated(fields: &Map<String, Json>, list: &str, key: &str, code: &'static str) -> Vec<Finding> {
    let mut seen = BTreeMap::new();
    let mut out = Vec::new();
    for (index, item) in fields.get(list).and_then(Json::as_array).into_iter().flatten().enumerate() {
        let name = if key.is_empty() { item.as_str() } else { item.get(key).and_then(Json::as_str) };
        if let Some((name, first)) = name.and_then(|name| Some((name, seen.insert(name, index)?))) {
            let path = format!("{list}.{index}.{key}");
            let why = format!("`{}` stands in `{list}` already, as its item {}", shown(name, 60), first + 1);
            out.push(Finding::new(path.trim_end_matches('.'), code, why).hint("rename or remove one of them"));
        }
    }
    out
}

fn between_env_var(fields: &Map<String, Json>, mode: Mode) -> Vec<Finding> {
    let Some(default) = fields.get("default").and_then(Json::as_str) else { return Vec::new() };
    let name = shown(fields.get("name").and_then(Json::as_str).unwrap_or("the variable"), 60);
    if fields.get("secret") == Some(&Json::Bool(true)) {
        let why = format!("`{name}` is secret and has a default");
        return vec![
            Finding::new("default", "env-default-secret", why)
                .hint("remove `default`, and set the value outside the file"),
        ];
    }
    // A type that is wrong itself was reported.
    let kind = fields.get("type").and_then(|kind| EnvType::deserialize(kind).ok()).unwrap_or_default();
    match kind.read(default) {
        Err(why) if mode == Mode::Strict => {
            let text = format!("the default of `{name}` is no {kind}: {}", why.message);
            let finding = Finding::new("default", "env-default-type", text);
            vec![Finding { wrong: Wrong { hint: why.hint, ..finding.wrong }, ..finding }]
        }
        _ => Vec::new(),
    }
}

fn between_connection(fields: &Map<String, Json>, mode: Mode) -> Vec<Finding> {
    if mode == Mode::Compat { Vec::new() } else { repeated(fields, "env_vars", "", "duplicate-item") }
}

fn between_policy(fields: &Map<String, Json>, mode: Mode) -> Vec<Finding> {
    if mode == Mode::Compat {
        return Vec::new();
    }
    let mut out = repeated(fields, "egress_allowlist", "", "duplicate-item");
    let listed = fields.get("egress_allowlist").and_then(Json::as_array).is_some_and(|list| !list.is_empty());
    if listed && fields.get("egress").and_then(Json::as_str) == Some("public") {
        let why = "the allowlist restricts nothing while egress is `public`";
        out.push(
            Finding::new("egress_allowlist", "egress-unused", why).hint("set `egress: allowlist`, or remove the list"),
        );
    }
    out
}

/// What must hold between the fields of a manifest, in the original's order.
fn between_manifest(fields: &Map<String, Json>, mode: Mode) -> Vec<Finding> {
    let mut out = undeclared(fields);
    let text = |key: &str| fields.get(key).and_then(Json::as_str);
    let template = text("template");
    let runtime = text("runtime").unwrap_or_default();
    let needs_runtime = template.is_some_and(|template| template != "docker");
    // What `docker` does with a runtime is nothing, but a strict file says nothing that means nothing.
    if needs_runtime && runtime.is_empty() && fields.contains_key("runtime") {
        let template = template.unwrap_or_default();
        let why = format!("the template `{template}` needs a runtime");
        out.push(Finding::new("runtime", "runtime-missing", why).hint("add `runtime: python`, `node` or `fullstack`"));
    } else if (needs_runtime || (mode == Mode::Strict && fields.get("runtime").is_some_and(Json::is_string)))
        && let Err(wrong) = word("unknown-runtime", &RUNTIMES, runtime)
        && fields.contains_key("runtime")
    {
        out.push(Finding { path: "runtime".to_owned(), wrong });
    }
    out.extend(auth(fields, mode));
    if mode == Mode::Strict {
        out.extend(repeated(fields, "env_schema", "name", "duplicate-name"));
        out.extend(repeated(fields, "connections", "name", "duplicate-name"));
        out.extend(repeated(fields, "volumes", "name", "duplicate-name"));
        out.extend(repeated(fields, "volumes", "path", "duplicate-path"));
    }
    out
}

fn undeclared(fields: &Map<String, Json>) -> Vec<Finding> {
    let list = |key: &str| fields.get(key).and_then(Json::as_array).into_iter().flatten();
    let declared: BTreeSet<Option<&str>> =
        list("env_schema").map(|var| var.get("name").and_then(Json::as_str)).collect();
    // A variable whose own name is wrong was reported; whether it is the one that is meant is not known.
    if !fields.contains_key("env_schema") || declared.contains(&None) {
        return Vec::new();
    }
    let mut out = Vec::new();
    for (index, connection) in list("connections").enumerate() {
        let vars = connection.get("env_vars").and_then(Json::as_array).into_iter().flatten();
        for (place, var) in vars.enumerate() {
            let Some(var) = var.as_str().filter(|var| !declared.contains(&Some(var))) else { continue };
            let name = shown(connection.get("name").and_then(Json::as_str).unwrap_or("?"), 60);
            let why =
                format!("the connection `{name}` names `{}`, which `env_schema` does not declare", shown(var, 60));
            // Looking for what is near takes time with every name, and no more problems than this are shown.
            let guess =
                if out.len() < PROBLEMS_MAX { near(var, declared.iter().copied().flatten()) } else { Vec::new() };
            let hint = match guess.first() {
                Some(near) => format!("did you mean `{near}`?"),
                None => "add it to `env_schema`".to_owned(),
            };
            let path = format!("connections.{index}.env_vars.{place}");
            out.push(Finding::new(path, "env-undeclared", why).hint(hint));
        }
    }
    out
}

fn auth(fields: &Map<String, Json>, mode: Mode) -> Vec<Finding> {
    let on = |name: &str| fields.get("features").and_then(|features| features.get(name)) == Some(&Json::Bool(true));
    let mut out = Vec::new();
    if !on("auth") {
        return out;
    }
    if !on("database") {
        let why = "`features.auth` keeps its users in the database, which is not enabled";
        out.push(Finding::new("features.auth", "auth-needs-database", why).hint("set `features.database: true`"));
    }
    if let Some(template) = fields.get("template").and_then(Json::as_str).filter(|template| *template != "web-app") {
        let why = format!("`features.auth` works with the template `web-app` only, not with `{}`", shown(template, 60));
        out.push(Finding::new("features.auth", "auth-template", why));
    }
    let Some(vars) = fields.get("env_schema").and_then(Json::as_array) else { return out };
    let is = |var: &Json, key: &str| var.get(key) == Some(&Json::Bool(true));
    let secrets: Vec<(usize, &Json)> = vars
        .iter()
        .enumerate()
        .filter(|(_, var)| var.get("name").and_then(Json::as_str) == Some("AUTH_SECRET"))
        .collect();
    let good = secrets.iter().any(|(_, var)| is(var, "required") && (mode == Mode::Compat || is(var, "secret")));
    if !good {
        let path =
            secrets.first().map_or_else(|| "features.auth".to_owned(), |(index, _)| format!("env_schema.{index}"));
        let why = match secrets.is_empty() {
            true => "`features.auth` needs the variable `AUTH_SECRET`, which `env_schema` does not declare",
            false => "`features.auth` needs `AUTH_SECRET` to be required and secret",
        };
        let hint = "declare `{name: AUTH_SECRET, required: true, secret: true}`";
        out.push(Finding::new(path, "auth-secret", why).hint(hint));
    }
    out
}

/// The key of a name that follows a rule.
macro_rules! text {
    ($rule:expr) => {
        Shape::Text { rule: $rule, pattern: None }
    };
    ($rule:expr, $pattern:literal) => {
        Shape::Text { rule: $rule, pattern: Some($pattern) }
    };
}
pub(super) use text;

pub(super) const ENV_TYPES: Shape = Shape::Choice(&["string", "url", "number", "boolean"]);
pub(super) const ENV_NAME: Shape = text!(names::env, "^[A-Za-z][A-Za-z0-9_]{0,127}$");
pub(super) const EGRESS_HOSTS: Shape = Shape::List { item: &EGRESS_HOST, least: 0 };
const EGRESS_HOST: Shape = text!(names::egress, r"^(\*\.)?[^*\s/:]+$");

pub(super) const fn field(name: &'static str, about: &'static str, shape: Shape, default: Absent) -> Field {
    Field { name, about, shape, default, nullable: false }
}

pub(super) const fn optional(name: &'static str, about: &'static str, shape: Shape) -> Field {
    Field { name, about, shape, default: Absent::Null, nullable: true }
}

pub(super) static ENV_VAR: Model = Model {
    name: "EnvVar",
    about: "An environment variable that the app reads.",
    fields: &[
        field("name", "its name: letters, digits and `_`", ENV_NAME, Absent::Required),
        field("type", "what its text must be", ENV_TYPES, Absent::Is(|| json!("string"))),
        field("required", "whether the app cannot start without it", Shape::Flag, Absent::Is(|| json!(false))),
        field(
            "secret",
            "whether its value is kept out of logs; a secret has no default",
            Shape::Flag,
            Absent::Is(|| json!(false)),
        ),
        optional("description", "what it is for", TEXT),
        optional("default", "its value where none is set", TEXT),
    ],
    open: false,
    check: between_env_var,
};

static CONNECTION: Model = Model {
    name: "Connection",
    about: "A named group of variables.",
    fields: &[
        field("name", "its name", text!(names::connection, "^[a-z0-9][a-z0-9_-]{0,62}$"), Absent::Required),
        field(
            "env_vars",
            "names of variables that `env_schema` declares",
            Shape::List { item: &TEXT, least: 1 },
            Absent::Required,
        ),
    ],
    open: false,
    check: between_connection,
};

static POLICY: Model = Model {
    name: "Policy",
    about: "What a deployment may do.",
    fields: &[
        field("mode", "where it runs", Shape::Choice(&["sandbox", "prod"]), Absent::Is(|| json!("sandbox"))),
        field(
            "egress",
            "which hosts it may reach",
            text!(|text, _| word("unknown-egress", &["allowlist", "public"], text), "^(public|allowlist)$"),
            Absent::Is(|| json!("public")),
        ),
        field(
            "egress_allowlist",
            "host names, and `*.domain` for all below a domain",
            EGRESS_HOSTS,
            Absent::Is(|| json!([])),
        ),
    ],
    open: false,
    check: between_policy,
};

static FEATURES: Model = Model {
    name: "Features",
    about: "Parts of the template that are switched on.",
    fields: &[
        field("database", "a database on a volume", Shape::Flag, Absent::Is(|| json!(false))),
        field("auth", "accounts; `web-app` with a database only", Shape::Flag, Absent::Is(|| json!(false))),
    ],
    open: false,
    check: nothing_between,
};

static VOLUME: Model = Model {
    name: "VolumeMount",
    about: "A folder that outlives a deployment.",
    fields: &[
        field("name", "its name", text!(names::volume, "^[a-z0-9][a-z0-9_-]{0,29}$"), Absent::Is(|| json!("data"))),
        field("path", "where it is mounted", text!(names::mount, "^(/[^/]+)+$"), Absent::Is(|| json!("/data"))),
        field("size_gb", "its size in GB", Shape::Whole { min: 1, max: 100, code: None }, Absent::Is(|| json!(1))),
    ],
    open: false,
    check: nothing_between,
};

pub(super) static MANIFEST: Model = Model {
    name: "Manifest",
    about: "What is deployed, and what it needs: runtm.yaml.",
    fields: &[
        field(
            "name",
            "the name of the app, which becomes a part of its host name",
            text!(names::app, "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"),
            Absent::Required,
        ),
        field(
            "template",
            "what kind of app it is: `backend-service`, `docker`, `static-site` or `web-app`",
            text!(
                |text, _| word("unknown-template", &TEMPLATES, text),
                "^(backend-service|docker|static-site|web-app)$"
            ),
            Absent::Required,
        ),
        optional(
            "runtime",
            "what runs it: `fullstack`, `node` or `python`; every template but `docker` needs one",
            text!(|text, _| Ok(text.to_owned()), "^(fullstack|node|python)$"),
        ),
        field(
            "health_path",
            "the path that answers when the app is healthy",
            text!(names::health_path, "^/([^/].*)?$"),
            Absent::Is(|| json!("/health")),
        ),
        field(
            "port",
            "the port on which it listens",
            Shape::Whole { min: 1, max: 65_535, code: Some("port-range") },
            Absent::Is(|| json!(8080)),
        ),
        field(
            "tier",
            "the size of its machine",
            text!(|text, _| word("unknown-tier", &TIERS, text), "^(performance|pro|starter)$"),
            Absent::Is(|| json!("starter")),
        ),
        field(
            "env_schema",
            "the environment variables that it reads",
            Shape::List { item: &Shape::Model(&ENV_VAR), least: 0 },
            Absent::Is(|| json!([])),
        ),
        field(
            "connections",
            "named groups of these variables",
            Shape::List { item: &Shape::Model(&CONNECTION), least: 0 },
            Absent::Is(|| json!([])),
        ),
        optional("policy", "what a deployment of it may do", Shape::Model(&POLICY)),
        field(
            "features",
            "parts of the template that are switched on",
            Shape::Model(&FEATURES),
            Absent::Is(|| json!({"database": false, "auth": false})),
        ),
        field(
            "volumes",
            "folders that outlive a deployment; a database without one gets `/data`",
            Shape::List { item: &Shape::Model(&VOLUME), least: 0 },
            Absent::Is(|| json!([])),
        ),
    ],
    open: false,
    check: between_manifest,
};
