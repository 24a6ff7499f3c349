//! Where the values of secrets come from, for those who hand them over.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use midplane_core::redact::SecretValue;
use midplane_core::{Error, Result};

/// The secrets of one call. Whether a plugin may have one applied somewhere is the gate's question, asked before.
#[async_trait]
pub(crate) trait SecretSource: Send + Sync {
    /// The value of a secret by name. Errors: `not-found` code `secret`, `unavailable`.
    async fn resolve(&self, name: &str) -> Result<SecretValue>;
}

/// References as the operator wrote them, resolved when they are needed: `env:NAME` or `file:/path`. A name without a
/// reference is the environment variable of that name.
pub(crate) struct References {
    references: BTreeMap<String, String>,
    env: Environment,
}

/// The environment, as a function so that a test does not have to change the process's own.
pub(crate) type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The largest secret file that is read.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

impl References {
    pub(crate) fn new(references: BTreeMap<String, String>, env: Environment) -> Self {
        Self { references, env }
    }
}

#[async_trait]
impl SecretSource for References {
    async fn resolve(&self, name: &str) -> Result<SecretValue> {
        let own = format!("env:{name}");
        let reference = self.references.get(name).unwrap_or(&own);
        match reference.split_once(':') {
            Some(("env", variable)) => match (self.env)(variable) {
                Some(value) if !value.trim().is_empty() => Ok(SecretValue::new(value.trim().as_bytes())),
                _ => Err(Error::not_found("secret", format!("secret `{name}`: the variable `{variable}` is not set"))
                    .hint(format!(
                        "set it (`export {variable}=...`), or name another source under `secrets:` in the configuration"
                    ))),
            },
            Some(("file", path)) => read_file(name, path).await,
            _ => Err(Error::invalid(
                "secret",
                format!("secret `{name}`: `{}` is not a reference", midplane_core::text::shown(reference, 40)),
            )
            .hint("a reference is `env:NAME` or `file:/path`; a value does not belong into the configuration")),
        }
    }
}

async fn read_file(name: &str, path: &str) -> Result<SecretValue> {
    let failed = |why: String| Error::not_found("secret", format!("secret `{name}`: `{path}` {why}"));
    let size = tokio::fs::metadata(path).await.map_err(|error| failed(format!("cannot be read: {error}")))?.len();
    if size > SECRET_BYTES_MAX {
        return Err(failed(format!("has more than {SECRET_BYTES_MAX} bytes")));
    }
    let bytes = zeroize::Zeroizing::new(
        tokio::fs::read(path).await.map_err(|error| failed(format!("cannot be read: {error}")))?,
    );
    let trimmed = bytes.trim_ascii();
    if trimmed.is_empty() {
        return Err(failed("is empty".to_owned()));
    }
    Ok(SecretValue::new(trimmed))
}
