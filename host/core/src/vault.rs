//! Secrets as configured: stores, references, policies by principal; and the decision who may have which.
//!
//! A reference names a secret: its store, its path in there, its policy. A policy lists the principals that may have the
//! secret; the principal is the role of a [`RuntimeIdentity`](crate::identity::RuntimeIdentity). The rules and the order
//! of checks are those of mxm-secrets 0.3.2. What is stricter: no path climbs out of its store, and an absent secret, an absent tool
//! and a broken tool are told apart; only the first of them gives way to a default.
//!
//! # Layout
//! - [`Vault`]: what is configured; [`Vault::authorise`] decides, [`Vault::get`] decides and reads
//! - [`Location`], [`Backend`]: where a secret that may be had lies
//! - [`failure`]: what a backend answers when it has no value
//! - `parse`: a vault from configuration, with all problems; [`Vault::check`]: what would fail at first use
//!
//! # What it never does
//! It holds no value of a secret and reads none: whoever has a [`Location`] does. A denied secret never becomes a default.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::codes::codes;
use crate::identity::is_space;
use crate::redact::SecretValue;
use crate::text::{near, shown};
use crate::{Error, Result};

pub mod failure;
mod parse;

/// The longest time that a backend is waited for, unless its store says otherwise.
pub const TIMEOUT_MS: u64 = 10_000;
/// The most that a store may say.
pub const TIMEOUT_MS_MAX: u64 = 300_000;

/// What is configured of secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vault {
    stores: BTreeMap<String, SecretStore>,
    refs: BTreeMap<String, SecretRef>,
    policies: BTreeMap<String, SecretPolicy>,
    /// Fields that were not known, as dotted paths. The original ignores them, so only [`Vault::check`] speaks of them.
    unknown: Vec<String>,
}

/// A place where secrets are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SecretStore {
    /// Its name.
    pub name: String,
    /// What reads it; see [`Backend`]. An unknown one fails at first use.
    pub backend: String,
    /// Where in the backend its secrets begin.
    pub root: String,
    /// What only some backends need.
    #[serde(flatten)]
    pub options: StoreOptions,
}

/// What a store can say beyond the original's two fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StoreOptions {
    /// Of the backend `command`: program and arguments. `{path}` in one of them is the path of the secret.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Variables that the program gets beside `PATH` and `HOME`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Exit codes by which the program says that there is no such secret. Any other is a failure.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub absent_exit: Vec<i32>,
    /// How long it is waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// A secret by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SecretRef {
    /// Its name.
    pub name: String,
    /// The store.
    pub store: String,
    /// The path in the store.
    pub path: String,
    /// The policy.
    pub policy: String,
}

impl SecretRef {
    /// `store:name`, the name for messages: it does not show the path.
    #[must_use]
    pub fn qualified_name(&self) -> String {
        format!("{}:{}", self.store, self.name)
    }
}

/// Who may have secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SecretPolicy {
    /// Its name.
    pub name: String,
    /// The principals. None means nobody; there is no wildcard.
    pub allowed_principals: Vec<String>,
}

/// Whoever asks for a secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Principal(String);

impl Principal {
    /// The principal of a role.
    ///
    /// # Errors
    /// `invalid` code `principal-name`.
    pub fn of_role(role: &str) -> Result<Self> {
        identifier(role).map_err(|why| {
            Error::invalid("principal-name", format!("the role `{}` cannot be a principal: {why}", shown(role, 64)))
                .hint("a principal has lower case letters, digits and `_`, and begins with a letter")
        })?;
        Ok(Self(role.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What can read a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Variables of the environment: the root is the beginning of their names (`.` for none), the path the rest.
    Env,
    /// Files: the root is a folder.
    File,
    /// A program that prints the secret.
    Command,
    /// The program `gopass`.
    Gopass,
    /// The keyring of the operating system: the root is the service, the path the account.
    Keyring,
}

impl Backend {
    /// All of them, with their words.
    pub const ALL: [(&'static str, Self); 5] = [
        ("command", Self::Command),
        ("env", Self::Env),
        ("file", Self::File),
        ("gopass", Self::Gopass),
        ("keyring", Self::Keyring),
    ];

    /// The word in a configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, backend)| *backend == self).map_or("", |(word, _)| word)
    }

    fn of(store: &SecretStore) -> Result<Self> {
        let found = Self::ALL.iter().find(|(word, _)| *word == store.backend).map(|(_, backend)| *backend);
        found.ok_or_else(|| {
            let words: Vec<&str> = Self::ALL.iter().map(|(word, _)| *word).collect();
            let error = Error::invalid(
                "secret-backend",
                format!("store `{}`: there is no backend `{}`", store.name, shown(&store.backend, 64)),
            );
            match near(&store.backend, words.iter().copied()).first() {
                Some(word) => error.hint(format!("did you mean `{word}`?")),
                None => error.hint(format!("backends are {}", words.join(", "))),
            }
        })
    }
}

/// Where a secret lies that a principal may have. Its `Debug` and `Display` show the name, never the path.
#[derive(Clone, PartialEq, Eq)]
pub struct Location {
    /// The name of the secret.
    pub name: String,
    /// The store.
    pub store: SecretStore,
    /// What reads it.
    pub backend: Backend,
    /// The path in the store.
    pub path: String,
    /// Root and path, joined.
    pub full_path: String,
    /// Who may have it.
    pub principal: Principal,
}

impl Location {
    /// How long the backend is waited for.
    #[must_use]
    pub fn timeout_ms(&self) -> u64 {
        self.store.options.timeout_ms.unwrap_or(TIMEOUT_MS)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.store.name, self.name)
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({self} by {})", self.backend.as_str())
    }
}

impl SecretStore {
    /// The path of a secret in the backend: the root without slashes at its end, a slash, the path.
    ///
    /// # Errors
    /// `invalid` code `secret-path` for a path that is empty, has white space around it, is absolute, or has a part `..`: the
    /// original lets that through, so that the policy of one store reaches into another.
    pub fn resolve_path(&self, path: &str) -> Result<String> {
        let refused = |why: &str| {
            // The path itself may be private to the store.
            Error::invalid("secret-path", format!("store `{}`: a path in it {why}", self.name))
                .hint("write the path from the root of the store, without `..`")
        };
        clean(path).map_err(refused)?;
        if path.starts_with('/') {
            return Err(refused("is absolute"));
        }
        // A backslash separates on one system; the others have no use for it in front of `..`.
        if path.split(['/', '\\']).any(|part| part == "..") {
            return Err(refused("climbs with `..`"));
        }
        Ok(format!("{}/{path}", self.root.trim_end_matches('/')))
    }
}

impl Vault {
    /// The stores, by name.
    #[must_use]
    pub fn stores(&self) -> &BTreeMap<String, SecretStore> {
        &self.stores
    }

    /// The references, by name.
    #[must_use]
    pub fn refs(&self) -> &BTreeMap<String, SecretRef> {
        &self.refs
    }

    /// The policies, by name.
    #[must_use]
    pub fn policies(&self) -> &BTreeMap<String, SecretPolicy> {
        &self.policies
    }

    /// Whether a role may have a secret, and where it lies. The order is: the name, the role, the policy, whether it allows,
    /// the store, the path, the backend. So one who may not have a secret learns nothing of where it lies.
    ///
    /// # Errors
    /// `not-found` codes `secret-unknown`, `secret-policy-unknown`, `secret-store-unknown`; `denied` code `secret-denied`;
    /// `invalid` codes `principal-name`, `secret-path`, `secret-backend`.
    pub fn authorise(&self, name: &str, role: &str) -> Result<Location> {
        let secret = self.refs.get(name).ok_or_else(|| unknown("secret-unknown", "secret", name, self.refs.keys()))?;
        let principal = Principal::of_role(role)?;
        let policy = self
            .policies
            .get(&secret.policy)
            .ok_or_else(|| unknown("secret-policy-unknown", "secret policy", &secret.policy, self.policies.keys()))?;
        if !policy.allowed_principals.contains(&principal.0) {
            return Err(Error::denied(
                "secret-denied",
                format!("secret `{}` is denied to the role `{role}`", secret.qualified_name()),
            )
            .hint(format!("the policy `{}` lists the roles that may have it", policy.name)));
        }
        let store = self
            .stores
            .get(&secret.store)
            .ok_or_else(|| unknown("secret-store-unknown", "secret store", &secret.store, self.stores.keys()))?;
        let full_path = store.resolve_path(&secret.path)?;
        let backend = Backend::of(store)?;
        Ok(Location {
            name: name.to_owned(),
            store: store.clone(),
            backend,
            path: secret.path.clone(),
            full_path,
            principal,
        })
    }

    /// A secret for a role. `read` asks the backend and gives nothing where it has no such secret; only then the default
    /// is taken, and never for a secret that is denied or cannot be read.
    ///
    /// # Errors
    /// Those of [`Vault::authorise`], and what `read` gives.
    pub fn get(
        &self,
        name: &str,
        role: &str,
        default: Option<SecretValue>,
        read: impl FnOnce(&Location) -> Result<Option<SecretValue>>,
    ) -> Result<Option<SecretValue>> {
        let location = self.authorise(name, role)?;
        Ok(read(&location)?.map(|found| trimmed(&found)).or(default))
    }
}

/// The value as it is used: without white space around it, which is what tools and files end with.
#[must_use]
pub fn trimmed(value: &SecretValue) -> SecretValue {
    match value.expose_text() {
        Some(text) => SecretValue::new(text.trim_matches(is_space).as_bytes()),
        None => SecretValue::new(value.expose().trim_ascii()),
    }
}

fn unknown<'a>(code: &'static str, what: &str, name: &str, known: impl Iterator<Item = &'a String>) -> Error {
    let error = Error::not_found(code, format!("there is no {what} `{}`", shown(name, 64)));
    match near(name, known.map(String::as_str)).first() {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint("`midplane secret list` lists what is configured"),
    }
}

/// Whether a text is not empty and has no white space around it. The error is the reason.
pub fn clean(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        Err("is empty")
    } else if text.starts_with(is_space) || text.ends_with(is_space) {
        Err("has white space around it")
    } else {
        Ok(())
    }
}

/// Whether a text is a name: a lower case letter, then lower case letters, digits and `_`. The error is the reason.
pub fn identifier(text: &str) -> Result<(), &'static str> {
    clean(text)?;
    let mut bytes = text.bytes();
    let head = bytes.next().is_some_and(|b| b.is_ascii_lowercase());
    if head && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
        Ok(())
    } else {
        Err("must have lower case letters, digits and `_` only, and begin with a letter")
    }
}

codes! {
    /// What secrets are refused with.
    Invalid "vault-shape":
        "A section, an entry or a field of the configuration of secrets is missing or of the wrong type."
        => "Write `stores`, `refs` and `policies` as mappings with the fields that the message names.";
    Invalid "vault-value":
        "A name, a root, a path or an option in the configuration of secrets is not well formed."
        => "Names have lower case letters, digits and `_`, and begin with a letter; roots and paths have no white space around them; a principal is listed once.";
    Invalid "vault-key":
        "The configuration of secrets has a field that means nothing."
        => "Correct its spelling, or remove it.";
    Invalid "vault-option":
        "A store has an option that its backend does not use, or lacks one that it needs."
        => "`command`, `env` and `absent_exit` belong to the backend `command`, which needs `command` with `{path}` in it.";
    Invalid "principal-name":
        "The role of the identity cannot be a principal, so no policy can name it."
        => "Use a role of lower case letters, digits and `_` that begins with a letter.";
    NotFound "secret-unknown":
        "No reference of that name is configured."
        => "Add it under `vault.refs`, or correct the name; `midplane secret list` lists them.";
    NotFound "secret-policy-unknown":
        "A reference names a policy that is not configured."
        => "Add it under `vault.policies`, or correct the name.";
    NotFound "secret-store-unknown":
        "A reference names a store that is not configured."
        => "Add it under `vault.stores`, or correct the name.";
    Denied "secret-denied":
        "The policy of the secret does not list the role of this identity. No default takes its place."
        => "Run in a role that may have it, or add the role to the policy's `allowed_principals`.";
    Invalid "secret-path":
        "The path of a secret is absolute, empty, or climbs out of its store with `..`."
        => "Write the path from the root of the store; a secret elsewhere needs a store and a policy of its own.";
    Invalid "secret-backend":
        "A store names a backend that does not exist."
        => "Backends are `env`, `file`, `command`, `gopass` and `keyring`.";
    NotFound "secret-absent":
        "The backend works and has no such secret."
        => "Put the secret there, or correct its path.";
    Unavailable "secret-tool-missing":
        "The program or service that reads the store is not there."
        => "Install it, put it on `PATH`, or use another backend.";
    Unavailable "secret-tool-failed":
        "The program or service that reads the store failed; whether the secret exists is not known."
        => "Run it by hand with the same environment; unlock the store if it is locked.";
    Unavailable "secret-timeout":
        "The backend did not answer in time and was stopped."
        => "See whether it waits for a passphrase or a key; `timeout_ms` of the store gives it longer.";
    Limit "secret-too-large":
        "The backend gave more bytes than a secret may have."
        => "Name a key, not a file of other data.";
}

#[cfg(test)]
mod tests;
