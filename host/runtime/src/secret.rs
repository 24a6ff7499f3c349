//! Where the values of secrets come from, for those who hand them over.
//!
//! # Layout
//! - here: `SecretSource`, what a call asks; `References`, what the operator wrote (`env:NAME`, `file:/path`, `vault:NAME`)
//! - [`keeper`]: secrets of a vault for one identity, each decided, read, timed and audited
//! - `backend`: variables, files, the keyring; `command`: programs such as gopass
//!
//! # What it never does
//! It puts no value into a message, a log or an audit. It starts no shell, and no program outlives its time. A denied secret
//! has no other value: neither a default nor a variable of its name takes its place.

mod backend;
mod command;
pub mod keeper;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use midplane_core::redact::SecretValue;
use midplane_core::{Error, Result};

use self::backend::{FileFault, read_file};
use self::keeper::{Keeper, Resolution};

/// The secrets of one call. Whether a plugin may have one applied somewhere is the gate's question, asked before.
#[async_trait]
pub(crate) trait SecretSource: Send + Sync {
    /// The value of a secret by name. Errors: `not-found` code `secret`, `unavailable`, `denied`.
    async fn resolve(&self, name: &str) -> Result<SecretValue>;
}

/// References as the operator wrote them, resolved when they are needed: `env:NAME`, `file:/path` or `vault:NAME`. A name
/// without a reference is the environment variable of that name.
pub(crate) struct References {
    references: BTreeMap<String, String>,
    env: Environment,
    keeper: Option<Keeper>,
}

/// The environment, as a function so that a test does not have to change the process's own.
pub(crate) type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The largest secret that is read.
const SECRET_BYTES_MAX: u64 = 64 * 1024;
/// How long a file is waited for that no store gives a time: the name could be that of a device or a far file system.
const FILE_MS_MAX: u64 = midplane_core::vault::TIMEOUT_MS;

impl References {
    pub(crate) fn new(references: BTreeMap<String, String>, env: Environment, keeper: Option<Keeper>) -> Self {
        Self { references, env, keeper }
    }

    /// The names for which there is a reference.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.references.keys().map(String::as_str)
    }

    /// Where a secret is looked for.
    pub(crate) fn reference(&self, name: &str) -> String {
        self.references.get(name).cloned().unwrap_or_else(|| format!("env:{name}"))
    }

    /// The value of a secret, and where it was asked of a vault, what is to be audited.
    pub(crate) async fn resolve(&self, name: &str) -> (Result<SecretValue>, Option<Resolution>) {
        let reference = self.reference(name);
        let value = match reference.split_once(':') {
            Some(("env", variable)) => self.variable(name, variable),
            Some(("file", path)) => file(name, path).await,
            Some(("vault", secret)) => return self.of_vault(name, secret).await,
            _ => Err(Error::invalid(
                "secret",
                // Perhaps the value itself was put there, so it is not shown.
                format!("secret `{name}`: what is configured for it is not a reference"),
            )
            .hint("a reference is `env:NAME`, `file:/path` or `vault:NAME`; a value does not belong into the configuration")),
        };
        (value, None)
    }

    fn variable(&self, name: &str, variable: &str) -> Result<SecretValue> {
        match (self.env)(variable) {
            Some(value) if !value.trim().is_empty() => Ok(SecretValue::new(value.trim().as_bytes())),
            _ => Err(Error::not_found("secret", format!("secret `{name}`: the variable `{variable}` is not set"))
                .hint(format!(
                    "set it (`export {variable}=...`), or name another source under `secrets:` in the configuration"
                ))),
        }
    }

    async fn of_vault(&self, name: &str, secret: &str) -> (Result<SecretValue>, Option<Resolution>) {
        let Some(keeper) = &self.keeper else {
            let error = Error::invalid("vault-missing", format!("secret `{name}`: no vault is configured here"))
                .hint("add `vault:` to the configuration, and state the role with `MIDPLANE_ROLE`");
            return (Err(error), None);
        };
        let (value, resolution) = keeper.resolve(secret).await;
        (
            value.map_err(|error| Error { message: format!("secret `{name}`: {}", error.message), ..error }),
            Some(resolution),
        )
    }
}

async fn file(name: &str, path: &str) -> Result<SecretValue> {
    let failed = |why: String| Error::not_found("secret", format!("secret `{name}`: `{path}` {why}"));
    let owned = std::path::PathBuf::from(path);
    let read = backend::in_time(FILE_MS_MAX, move || read_file(&owned)).await;
    match read {
        None => Err(failed(format!("cannot be read within {FILE_MS_MAX} ms"))),
        Some(Err(FileFault::TooLarge)) => Err(failed(format!("has more than {SECRET_BYTES_MAX} bytes"))),
        Some(Err(FileFault::Io(error))) => Err(failed(format!("cannot be read: {error}"))),
        Some(Ok(value)) => {
            let value = midplane_core::vault::trimmed(&value);
            if value.is_empty() { Err(failed("is empty".to_owned())) } else { Ok(value) }
        }
    }
}
