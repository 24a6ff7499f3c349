//! What may stand in a configuration. Strict, and all problems at once.

use std::collections::BTreeMap;
use std::path::PathBuf;

use midplane_core::approval::Policy;
use midplane_core::layers::{Layer, Node, Refused, Value};
use midplane_core::limits::Limits;
use midplane_core::permission::Grant;
use midplane_core::price::{Price, Prices};
use midplane_core::problem::Problem;
use midplane_core::sandbox::SandboxSettings;
use midplane_core::text::{near, shown};
use midplane_core::{Error, PluginName, ProfileName};

use super::{Config, ProfileConfig};

/// The keys at the top. What `vault`, `databases` and `paths` hold is read by who uses them.
const SECTIONS: [&str; 9] = [
    "profiles",
    "secrets",
    "limits",
    "prices",
    "certificate_authorities",
    "environment_variables",
    "vault",
    "databases",
    "paths",
];
const PROFILE: [&str; 6] = ["plugin", "settings", "secrets", "grants", "approvals", "sandbox"];
/// How a reference to a secret begins.
const REFERENCES: [&str; 3] = ["env:", "file:", "vault:"];

/// Reads a tree whose references were followed.
pub(super) fn read(root: &Node) -> Result<Config, Refused> {
    let mut reader = Reader { problems: Vec::new() };
    let mut config = Config::default();
    reader.keys(root, "", &SECTIONS);
    for (name, node, field) in reader.entries(root.child("profiles"), "profiles") {
        let Some(profile) = reader.profile(node, &field) else { continue };
        match ProfileName::new(name) {
            Ok(name) => drop(config.profiles.insert(name, profile)),
            Err(error) => reader.error(node, &field, "config-shape", error),
        }
    }
    config.secrets = reader.references(root.child("secrets"), "secrets");
    for (name, node, field) in reader.entries(root.child("limits"), "limits") {
        if let Some(limit) = reader.limit(name, node, &field) {
            config.limits.insert(name.to_owned(), limit);
        }
    }
    for (model, node, field) in reader.entries(root.child("prices"), "prices") {
        if let Some(price) = reader.read::<Price>(node, &field) {
            config.prices.insert(model.to_owned(), price);
        }
    }
    if let Err(error) = Prices::with(config.prices.clone()) {
        let node = root.child("prices").unwrap_or(root);
        reader.error(node, "prices", "config-shape", error);
    }
    config.certificate_authorities = reader.texts(root.child("certificate_authorities"), "certificate_authorities");
    reader.texts(root.child("environment_variables"), "environment_variables");
    for section in ["vault", "databases", "paths"] {
        reader.entries(root.child(section), section);
    }
    for (field, node) in root.leaves() {
        if node.value.is_mandatory() {
            reader.report(node, &field, "config-mandatory", "no layer gives this value, which is `???`");
        }
    }
    reader.finish(config)
}

/// The variables that references may read: literal names, because they decide what references may do.
pub(super) fn variables(root: &Node) -> Result<Vec<String>, Refused> {
    let mut reader = Reader { problems: Vec::new() };
    let names = reader.texts(root.child("environment_variables"), "environment_variables");
    reader.finish(names)
}

/// Refuses what a project's file may not set. Everything else in it is read with the rest.
pub(super) fn of_project(root: &Node) -> Result<(), Refused> {
    let mut reader = Reader { problems: Vec::new() };
    for (name, node) in root.entries().into_iter().flatten() {
        if SECTIONS.contains(&name.as_str()) && !matches!(name.as_str(), "profiles" | "limits") {
            reader.forbidden(node, name, "is the operator's to set");
        }
    }
    let profiles = root.child("profiles").and_then(Node::entries);
    for (name, profile) in profiles.into_iter().flatten() {
        for key in ["secrets", "grants", "approvals", "sandbox"] {
            if let Some(node) = profile.child(key) {
                reader.forbidden(node, &format!("profiles.{name}.{key}"), "is the operator's to set");
            }
        }
        for (setting, node) in profile.child("settings").and_then(Node::entries).into_iter().flatten() {
            if node.child("secret").is_some() {
                let field = format!("profiles.{name}.settings.{setting}");
                reader.forbidden(node, &field, "names a secret, which is the operator's to do");
            }
        }
    }
    for (name, node) in root.child("limits").and_then(Node::entries).into_iter().flatten() {
        let (Value::Int(wanted), Some(usual)) = (&node.value, Limits::default().get(name)) else { continue };
        if *wanted > usual.into() {
            reader.forbidden(node, &format!("limits.{name}"), &format!("may only be lowered, from {usual}"));
        }
    }
    reader.finish(())
}

struct Reader {
    problems: Vec<Problem>,
}

impl Reader {
    fn finish<T>(self, read: T) -> Result<T, Refused> {
        if self.problems.is_empty() { Ok(read) } else { Err(Refused { problems: self.problems }) }
    }

    fn report(&mut self, node: &Node, field: &str, code: &'static str, message: &str) {
        self.problems.extend(Refused::at(&node.origin, field, code, message).problems);
    }

    fn error(&mut self, node: &Node, field: &str, code: &'static str, error: Error) {
        let refused = Refused::at(&node.origin, field, code, error.message);
        let refused = match error.hint {
            Some(hint) => refused.hint(hint),
            None => refused,
        };
        self.problems.extend(refused.problems);
    }

    fn forbidden(&mut self, node: &Node, field: &str, why: &str) {
        let refused = Refused::at(&node.origin, field, "config-project", format!("in a project's file, this {why}"))
            .hint("a project is not trusted like its user; put it into the operator's configuration if it is wanted");
        self.problems.extend(refused.problems);
    }

    fn kind(&mut self, node: &Node, field: &str, wanted: &str) {
        self.report(node, field, "config-shape", &format!("it must be {wanted}, not {}", node.value.kind()));
    }

    /// Every key must be one of those that are known.
    fn keys(&mut self, node: &Node, field: &str, known: &[&str]) {
        for (key, node) in node.entries().into_iter().flatten() {
            if known.contains(&key.as_str()) {
                continue;
            }
            let field = if field.is_empty() { key.clone() } else { format!("{field}.{key}") };
            let refused = Refused::at(
                &node.origin,
                &field,
                "config-unknown-key",
                format!("there is no key `{}` here", shown(key, 80)),
            );
            let hint = match near(key, known.iter().copied()).first() {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("one of: {}", known.join(", ")),
            };
            self.problems.extend(refused.hint(hint).problems);
        }
    }

    /// The entries of a mapping that are not null, which is how a layer takes one away: key, value, path.
    fn entries<'t>(&mut self, node: Option<&'t Node>, field: &str) -> Vec<(&'t str, &'t Node, String)> {
        let Some(node) = node else { return Vec::new() };
        match &node.value {
            Value::Map(map) => map
                .iter()
                .filter(|(_, node)| node.value != Value::Null)
                .map(|(key, node)| (key.as_str(), node, format!("{field}.{key}")))
                .collect(),
            Value::Null => Vec::new(),
            _ => {
                self.kind(node, field, "a mapping");
                Vec::new()
            }
        }
    }

    fn text<'t>(&mut self, node: &'t Node, field: &str) -> Option<&'t str> {
        match &node.value {
            Value::Text(text) => Some(text),
            _ => {
                self.kind(node, field, "a text");
                None
            }
        }
    }

    fn list<'t>(&mut self, node: Option<&'t Node>, field: &str) -> &'t [Node] {
        match node.map(|node| (node, &node.value)) {
            Some((_, Value::List(list))) => list,
            None | Some((_, Value::Null)) => &[],
            Some((node, _)) => {
                self.kind(node, field, "a list");
                &[]
            }
        }
    }

    fn texts(&mut self, node: Option<&Node>, field: &str) -> Vec<String> {
        let list = self.list(node, field).iter().enumerate();
        list.filter_map(|(at, node)| self.text(node, &format!("{field}.{at}")).map(str::to_owned)).collect()
    }

    fn profile(&mut self, node: &Node, field: &str) -> Option<ProfileConfig> {
        if !matches!(node.value, Value::Map(_)) {
            self.kind(node, field, "a mapping");
            return None;
        }
        self.keys(node, field, &PROFILE);
        let mut profile = ProfileConfig::default();
        if let Some(node) = node.child("plugin").filter(|node| node.value != Value::Null) {
            let field = format!("{field}.plugin");
            match self.text(node, &field).map(PluginName::new) {
                Some(Ok(plugin)) => profile.plugin = Some(plugin),
                Some(Err(error)) => self.error(node, &field, "config-shape", error),
                None => {}
            }
        }
        for (name, node, _) in self.entries(node.child("settings"), &format!("{field}.settings")) {
            profile.settings.insert(name.to_owned(), node.to_json());
        }
        profile.secrets = self.references(node.child("secrets"), &format!("{field}.secrets"));
        if let Some(node) = node.child("approvals").filter(|node| node.value != Value::Null) {
            let field = format!("{field}.approvals");
            if let Some(policy) = self.read::<Policy>(node, &field) {
                for (at, problem) in
                    policy.rules.iter().enumerate().filter_map(|(at, rule)| Some((at, rule.problem()?)))
                {
                    self.report(node, &format!("{field}.rules.{at}.kind"), "config-shape", &problem);
                }
                profile.approvals = policy;
            }
        }
        let grants = format!("{field}.grants");
        for (at, node) in self.list(node.child("grants"), &grants).iter().enumerate() {
            let field = format!("{grants}.{at}");
            match self.text(node, &field).map(str::parse::<Grant>) {
                // It is the operator's alone, whatever else was checked before.
                Some(Ok(grant)) if node.origin.layer != Layer::Project => profile.grants.push(grant),
                Some(Err(error)) => self.error(node, &field, "config-shape", error),
                Some(Ok(_)) => self.forbidden(node, &field, "is the operator's to set"),
                None => {}
            }
        }
        if let Some(node) = node.child("sandbox").filter(|node| node.value != Value::Null) {
            let field = format!("{field}.sandbox");
            if let Some(mut sandbox) = self.read::<SandboxSettings>(node, &field) {
                self.folders(node, &format!("{field}.read"), &mut sandbox.read);
                self.folders(node, &format!("{field}.write"), &mut sandbox.write);
                profile.sandbox = sandbox;
            }
        }
        Some(profile)
    }

    /// What a type of the library reads by itself.
    fn read<T: serde::de::DeserializeOwned>(&mut self, node: &Node, field: &str) -> Option<T> {
        match T::deserialize(node.to_json()) {
            Ok(value) => Some(value),
            Err(error) => {
                self.report(node, field, "config-shape", &error.to_string());
                None
            }
        }
    }

    /// Paths, absolute or below the operator's home.
    fn folders(&mut self, node: &Node, field: &str, folders: &mut [PathBuf]) {
        for folder in folders {
            if let Ok(below) = folder.strip_prefix("~")
                && let Some(home) = std::env::var_os("HOME").filter(|home| !home.is_empty())
            {
                *folder = PathBuf::from(home).join(below);
            }
            if !folder.is_absolute() {
                let message =
                    format!("`{}` must be an absolute path, or begin with `~/`", shown(&folder.to_string_lossy(), 80));
                self.report(node, field, "config-shape", &message);
            }
        }
    }

    fn references(&mut self, node: Option<&Node>, field: &str) -> BTreeMap<String, String> {
        let mut references = BTreeMap::new();
        for (name, node, field) in self.entries(node, field) {
            let Some(text) = self.text(node, &field) else { continue };
            if REFERENCES.iter().any(|form| text.starts_with(form)) {
                references.insert(name.to_owned(), text.to_owned());
            } else {
                // Perhaps the value itself was put there, so it is not shown.
                let refused = Refused::at(&node.origin, &field, "config-shape", "what is configured is no reference")
                    .hint("a reference is `env:NAME`, `file:/path` or `vault:NAME`; a value does not belong into the configuration");
                self.problems.extend(refused.problems);
            }
        }
        references
    }

    fn limit(&mut self, name: &str, node: &Node, field: &str) -> Option<u64> {
        let number = match &node.value {
            Value::Int(number) => u64::try_from(number).ok(),
            _ => None,
        };
        let Some(number) = number else {
            self.report(
                node,
                field,
                "config-shape",
                &format!("it must be a whole number from 0, not `{}`", node.to_json()),
            );
            return None;
        };
        match Limits::default().configured(&BTreeMap::from([(name.to_owned(), number)])) {
            Ok(_) => Some(number),
            Err(error) => {
                let known = Limits::default().get(name).is_some();
                self.error(node, field, if known { "config-shape" } else { "config-unknown-key" }, error);
                None
            }
        }
    }
}
