//! Secrets of a vault for one identity.
//!
//! The decision is [`Vault::authorise`]'s, before anything is read. Each request is audited: the secret, its store, who asked
//! and what came of it, never a value.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use midplane_core::redact::SecretValue;
use midplane_core::text::shown;
use midplane_core::vault::{Location, Vault, failure, trimmed};
use midplane_core::{ErrorKind, Result};

use super::{Environment, backend};
use crate::call::Audit;

/// Gives secrets of a vault to one role. Clones share the vault.
#[derive(Clone)]
pub struct Keeper {
    vault: Arc<Vault>,
    role: Arc<str>,
    env: Environment,
}

/// One request for a secret, for the audit.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Resolution {
    /// The secret, as `store:name`, or as it was asked for where there is none.
    pub secret: String,
    /// The role that asked.
    pub principal: String,
    /// `ok`, `absent`, `denied`, or the code of what went wrong.
    pub outcome: String,
    /// How long it took.
    pub duration_ms: u64,
}

impl Keeper {
    /// A keeper that looks up variables in the environment of this process.
    #[must_use]
    pub fn new(vault: Vault, role: &str) -> Self {
        Self { vault: Arc::new(vault), role: role.into(), env: Arc::new(|name| std::env::var(name).ok()) }
    }

    /// Where variables are looked up instead: secrets of the backend `env`, and what programs are started with.
    #[must_use]
    pub fn env(self, env: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        self.env_of(Arc::new(env))
    }

    pub(crate) fn env_of(mut self, env: Environment) -> Self {
        self.env = env;
        self
    }

    /// What is configured.
    #[must_use]
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// Who asks.
    #[must_use]
    pub fn role(&self) -> &str {
        &self.role
    }

    /// A secret by name; nothing, or the default, where its store has no such secret. The request is traced.
    ///
    /// # Errors
    /// Those of [`Vault::authorise`]; `unavailable` codes `secret-tool-missing`, `secret-tool-failed`, `secret-timeout`;
    /// `limit` code `secret-too-large`. None of them is masked by the default.
    pub async fn get(&self, name: &str, default: Option<SecretValue>) -> Result<Option<SecretValue>> {
        Ok(self.ask(name).await.0?.or(default))
    }

    /// A secret that must be there. The request is traced.
    ///
    /// # Errors
    /// As [`Self::get`], and `not-found` code `secret-absent`.
    pub async fn require(&self, name: &str) -> Result<SecretValue> {
        self.resolve(name).await.0
    }

    /// A secret that must be there, and what is to be audited of it.
    pub(crate) async fn resolve(&self, name: &str) -> (Result<SecretValue>, Resolution) {
        let (found, resolution) = self.ask(name).await;
        let value = found.and_then(|value| match value {
            Some(value) => Ok(value),
            // It was found in its store just now, or rather was not.
            None => Err(self.vault.authorise(name, &self.role).map_or_else(|error| error, |at| failure::absent(&at))),
        });
        (value, resolution)
    }

    async fn ask(&self, name: &str) -> (Result<Option<SecretValue>>, Resolution) {
        let began = Instant::now();
        let location = self.vault.authorise(name, &self.role);
        let secret = match (&location, self.vault.refs().get(name)) {
            (Ok(location), _) => location.to_string(),
            (Err(_), Some(secret)) => secret.qualified_name(),
            (Err(_), None) => shown(name, 64),
        };
        let found = match location {
            Ok(location) => self.read(&location).await,
            Err(error) => Err(error),
        };
        let outcome = match &found {
            Ok(Some(_)) => "ok".to_owned(),
            Ok(None) => "absent".to_owned(),
            Err(error) if error.kind == ErrorKind::Denied => "denied".to_owned(),
            Err(error) => error.code.clone().into_owned(),
        };
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let resolution = Resolution { secret, principal: self.role.to_string(), outcome, duration_ms };
        resolution.trace();
        (found, resolution)
    }

    async fn read(&self, location: &Location) -> Result<Option<SecretValue>> {
        let time = Duration::from_millis(location.timeout_ms());
        // Dropping the read ends its program, with all that the program started.
        match tokio::time::timeout(time, backend::read(location, &self.env)).await {
            Ok(found) => Ok(found?.map(|value| trimmed(&value))),
            Err(_) => Err(failure::timed_out(location)),
        }
    }
}

impl Resolution {
    fn trace(&self) {
        let Self { secret, principal, outcome, duration_ms } = self;
        tracing::info!(act = "secret", target = %secret, %principal, %outcome, duration_ms, "gated act");
    }

    /// The record for the log of a run.
    pub(crate) fn audit(self) -> Audit {
        Audit {
            act: "secret",
            target: format!("{} for {}", self.secret, shown(&self.principal, 64)),
            outcome: self.outcome,
            grant: None,
            duration_ms: self.duration_ms,
            size_bytes: 0,
        }
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("role", &self.role).field("vault", &self.vault).finish_non_exhaustive()
    }
}
