//! `plugin.toml`: what a plugin is, what it asks for, and what it can be set to.
//!
//! [`Manifest::parse`] is strict. An unknown field, a wrong type or a bad value is refused with its place in the text, the
//! field and a hint; so is a manifest whose parts do not fit each other (a credential that nothing uses, a setting that is
//! not there, a limit above the host's). A manifest that was parsed therefore needs no second look, except at the
//! settings of a profile, which [`crate::permission::Permissions::resolve`] fills in.
//!
//! # Layout
//! - here: what a manifest holds, the settings of a profile, and [`check_release`]
//! - `fields`: the rules of each field
//! - `reader`: TOML with places
//!
//! It never reads a file: text comes in, and the name to call it in messages.

mod fields;
mod reader;

use std::collections::BTreeMap;
use std::{fmt, iter};

use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use self::fields::credential_header;
use self::reader::suggestion;
use crate::ids::PluginName;
use crate::permission::Access;
use crate::text::shown;
use crate::{Error, Result};

/// The largest manifest, in bytes.
pub const MANIFEST_BYTES_MAX: usize = 256 * 1024;

/// The credential name that means "none" in a request (`http.request.credential`); no rule can have it.
pub const ANONYMOUS: &str = "anonymous";

/// What a plugin does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PluginKind {
    /// Runs coding-agent tasks with one vendor.
    Agent,
    /// Reads and changes the DNS of one provider.
    Dns,
    /// Keeps objects in one kind of store.
    Storage,
    /// Runs jobs on one kind of substrate.
    Executor,
}

impl PluginKind {
    /// The word in a manifest.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Dns => "dns",
            Self::Storage => "storage",
            Self::Executor => "executor",
        }
    }

    /// The world of the contract that its component has.
    #[must_use]
    pub fn world(self) -> &'static str {
        match self {
            Self::Agent => "agent-adapter",
            Self::Dns => "dns-provider",
            Self::Storage => "storage-backend",
            Self::Executor => "job-executor",
        }
    }

    /// The permissions that its world has an import for.
    fn permissions(self) -> &'static [&'static str] {
        match self {
            Self::Agent => &["http", "workspace", "command", "shell", "folder"],
            Self::Dns | Self::Storage => &["http", "folder"],
            Self::Executor => &["http", "command", "folder"],
        }
    }
}

impl fmt::Display for PluginKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A manifest in which everything fits together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Manifest {
    /// The plugin's name; its own profile has the same.
    pub name: PluginName,
    /// What it does.
    pub kind: PluginKind,
    /// Its version.
    pub version: Version,
    /// The release of the contract that it was built against. Never a pre-release.
    pub wit: Version,
    /// What it is, in one line.
    pub description: String,
    /// Who made it.
    pub publisher: String,
    /// What an operator can set, by name.
    pub settings: BTreeMap<String, Setting>,
    /// How secrets are applied.
    pub credentials: Vec<Credential>,
    /// What it asks for, in the order of the text.
    pub permissions: Vec<PermissionRequest>,
    /// What the host serves on loopback during a run, so that a program needs no credential of its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
    /// Bounds that it asks to be lower than the host's, by name.
    pub limits: BTreeMap<String, u64>,
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setting {
    /// What its value may be.
    #[serde(rename = "type")]
    pub kind: SettingType,
    /// Its value where the operator gives none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// What it is for, in one line.
    pub description: String,
}

/// The type of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SettingType {
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// True or false.
    Boolean,
    /// Several values.
    List,
    /// Values by name.
    Table,
}

impl SettingType {
    /// Whether a value is of this type.
    #[must_use]
    pub fn admits(self, value: &Value) -> bool {
        match self {
            Self::String => value.is_string(),
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
            Self::List => value.is_array(),
            Self::Table => value.is_object(),
        }
    }

    fn article(self) -> &'static str {
        match self {
            Self::String => "a string",
            Self::Integer => "a whole number",
            Self::Number => "a number",
            Self::Boolean => "a boolean",
            Self::List => "a list",
            Self::Table => "a table",
        }
    }
}

/// A rule by which the host applies a secret while it sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Credential {
    /// Its name, by which a plugin asks for it.
    pub name: String,
    /// Where in the request the secret goes.
    #[serde(flatten)]
    pub scheme: Scheme,
    /// The reference name of the secret.
    pub secret: String,
}

/// Where a secret goes in a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "scheme", rename_all = "lowercase")]
pub enum Scheme {
    /// `authorization: Bearer <secret>`.
    Bearer,
    /// A header of its own.
    Header {
        /// Its name in lower case.
        header: String,
    },
    /// `authorization: Basic`, the secret being the password.
    Basic {
        /// The user name; may be empty.
        username: String,
    },
    /// A parameter of the query.
    Query {
        /// Its name.
        parameter: String,
    },
    /// `authorization: Bearer <token>`, the secret being an account of Google (JSON with a service account's key or a
    /// refresh token) that the host exchanges for the token.
    #[serde(rename = "google-oauth")]
    GoogleOauth {
        /// What the token is good for: scopes with a space between.
        scope: String,
    },
}

/// The scope of [`Scheme::GoogleOauth`] where the manifest names none: all of Google Cloud that the account may use.
pub const GOOGLE_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// `[[endpoints]]`: a place on loopback that lives as long as a run and stands for a URL of the plugin's. What is sent to it
/// goes on through the egress gate, which applies the credential: the program that the plugin drives needs none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// Its name, unique in the manifest: the plugin reads `endpoint.<name>.url` and `endpoint.<name>.token`.
    pub name: String,
    /// What it stands for: the `url` of a `permissions.http`, or one that continues it.
    pub url: Template,
    /// The credential that is applied, as that permission names it.
    pub credential: Template,
}

/// One permission as the manifest writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PermissionRequest {
    /// What is asked for.
    #[serde(flatten)]
    pub wanted: Wanted,
    /// Whether the plugin can work without it.
    pub optional: bool,
    /// Why, for the operator.
    pub reason: String,
}

/// What a permission asks for, with the settings not yet filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "permission", rename_all = "lowercase")]
pub enum Wanted {
    /// `[[permissions.http]]`: call URLs.
    Http {
        /// `scheme://host[:port][/path]`.
        url: Template,
        /// Methods in upper case.
        methods: Vec<String>,
        /// The name of the credential that may be applied there; a setting can choose it, and then it can be
        /// [`ANONYMOUS`]: none is applied, and none is needed.
        credential: Option<Template>,
    },
    /// `[permissions.workspace]`: the workspace of the run.
    Workspace {
        /// How.
        access: Access,
    },
    /// `[[permissions.command]]`: start a program.
    Command {
        /// The program and its fixed leading arguments.
        argv: Vec<Template>,
        /// Variables that may be set for it.
        env: Vec<String>,
        /// Secrets that may be placed in its environment.
        secret_env: Vec<String>,
    },
    /// `[permissions.shell]`: the unconfined `shell` tool.
    Shell,
    /// `[[permissions.folder]]`: files of the host.
    Folder {
        /// An absolute path.
        path: Template,
        /// How.
        access: Access,
    },
}

impl Wanted {
    /// The settings that it names.
    pub fn settings(&self) -> impl Iterator<Item = &str> {
        let templates: Vec<&Template> = match self {
            Self::Http { url, credential, .. } => iter::once(url).chain(credential).collect(),
            Self::Folder { path, .. } => vec![path],
            Self::Command { argv, .. } => argv.iter().collect(),
            Self::Workspace { .. } | Self::Shell => Vec::new(),
        };
        templates.into_iter().flat_map(Template::settings)
    }
}

/// A text in which `{settings.x}` stands for the value of a setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Setting(String),
}

impl Template {
    /// Takes a text apart. The error is the reason.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((head, tail)) = rest.split_once('{') {
            let (inner, after) = tail.split_once('}').ok_or("has a `{` without its `}`")?;
            let name = inner.strip_prefix("settings.").ok_or_else(|| format!("has `{{{}}}`", shown(inner, 80)))?;
            parts.push(Part::Text(head.to_owned()));
            parts.push(Part::Setting(name.to_owned()));
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        if parts.iter().any(|part| matches!(part, Part::Text(text) if text.contains('}'))) {
            return Err("has a `}` without its `{`".to_owned());
        }
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Ok(Self(parts))
    }

    /// The names of the settings in it.
    pub fn settings(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Setting(name) => Some(name.as_str()),
        })
    }

    /// The text with each setting replaced; one that is unset leaves nothing.
    #[must_use]
    pub fn fill(&self, settings: &BTreeMap<String, Value>) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Setting(name) => settings.get(name).and_then(Value::as_str).unwrap_or_default().to_owned(),
        };
        self.0.iter().map(part).collect()
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Setting(name) => write!(f, "{{settings.{name}}}"),
        })
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.to_string()
    }
}

/// The credential of a name; none for [`ANONYMOUS`]. The error is the reason.
pub(crate) fn chosen<'a>(credentials: &'a [Credential], name: &str) -> Result<Option<&'a Credential>, String> {
    if name == ANONYMOUS {
        return Ok(None);
    }
    let found = credentials.iter().find(|credential| credential.name == name);
    found.map(Some).ok_or_else(|| {
        let known: Vec<&str> = credentials.iter().map(|credential| credential.name.as_str()).collect();
        format!("it must be `{}` or `{ANONYMOUS}`", known.join("`, `"))
    })
}

impl Manifest {
    /// Reads a manifest (`invalid`, code `manifest`). `origin` is what to call the text in messages, such as its path.
    pub fn parse(text: &str, origin: &str) -> Result<Self> {
        fields::manifest(text, origin)
    }

    /// The line of the contract that it was built against.
    #[must_use]
    pub fn wit_line(&self) -> String {
        line(&self.wit)
    }

    /// A credential rule by name.
    #[must_use]
    pub fn credential(&self, name: &str) -> Option<&Credential> {
        self.credentials.iter().find(|credential| credential.name == name)
    }

    /// The values in force: what the operator set for a profile, and the defaults for the rest. A setting that the plugin
    /// does not have, or a value of another type, is refused (`invalid`, code `setting`).
    pub fn settings_with(&self, values: &BTreeMap<String, Value>) -> Result<BTreeMap<String, Value>> {
        for (name, value) in values {
            let shown_name = shown(name, 80);
            let Some(setting) = self.settings.get(name) else {
                let known: Vec<&str> = self.settings.keys().map(String::as_str).collect();
                let error = Error::invalid("setting", format!("`{}` has no setting `{shown_name}`", self.name));
                return Err(error.hint(suggestion(name, &known)));
            };
            if !setting.kind.admits(value) {
                let wanted = setting.kind.article();
                return Err(Error::invalid(
                    "setting",
                    format!("the setting `{shown_name}` of `{}` must be {wanted}", self.name),
                )
                .hint(setting.description.clone()));
            }
        }
        let default = |name: &String, setting: &Setting| values.get(name).or(setting.default.as_ref()).cloned();
        Ok(self.settings.iter().filter_map(|(name, setting)| Some((name.clone(), default(name, setting)?))).collect())
    }
}

/// The line of a release: the first number that is not zero, and all before it.
#[must_use]
pub fn line(release: &Version) -> String {
    match (release.major, release.minor) {
        (0, 0) => format!("0.0.{}", release.patch),
        (0, minor) => format!("0.{minor}"),
        (major, _) => major.to_string(),
    }
}

/// Whether a host that offers one release of the contract can run a plugin that was built against another: the same line,
/// and the host's not earlier (`unsupported`, code `wit-release`). The rule is that of `wit/README.md`.
pub fn check_release(plugin: &Version, host: &Version) -> Result<()> {
    let same_line = line(plugin) == line(host);
    if same_line && plugin <= host {
        return Ok(());
    }
    let error =
        Error::unsupported("wit-release", format!("the plugin was built against `{plugin}`, host offers `{host}`"));
    Err(if plugin > host {
        error.hint("update the host, or install an earlier version of the plugin")
    } else {
        error.hint(format!("install a version of the plugin that is built against line `{}`", line(host)))
    })
}

#[cfg(test)]
mod tests;
