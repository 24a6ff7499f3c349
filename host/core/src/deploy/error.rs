//! The errors of deployments: one kind, code and way out for each class of errors that runtm-shared has.
//!
//! # Layout
//! - [`DeployError`]: an error with its data; [`Error`] is made from it, and [`DeployError::body`] is what an API answers
//! - [`CLASSES`]: the table of classes; [`class`] and [`by_alias`] look into it
//!
//! runtm-shared (`errors.py`) tells errors apart by Python class and an upper-case code; six groups carry no code, nothing says
//! whether trying again can help, and the health check's hint names `/health` whatever the path is. Here each has a kind to
//! branch on, a stable code, and says whether trying again can help. The old codes stay as aliases, so that clients can move
//! one by one.

use serde_json::{Map, Value, json};

use crate::codes::Code;
use crate::text::{cut, shown};
use crate::{Error, ErrorKind};

/// An error of a deployment.
#[derive(Debug, Clone, PartialEq)]
pub enum DeployError {
    /// There is no manifest.
    ManifestNotFound {
        /// The folder that was looked into.
        path: String,
    },
    /// The manifest breaks a rule.
    ManifestInvalid {
        /// Which.
        message: String,
        /// The field, where it is one.
        field: Option<String>,
    },
    /// The manifest has a field that this version does not take.
    SecretsNotSupported {
        /// The field.
        field: String,
    },
    /// The packed artifact is too large.
    ArtifactTooLarge {
        /// Its size.
        size_bytes: u64,
        /// What it may be.
        max_bytes: u64,
    },
    /// The artifact is not in storage.
    ArtifactNotFound {
        /// Its key.
        key: String,
    },
    /// There is no Dockerfile where one is needed.
    DockerfileNotFound,
    /// There is no such deployment.
    DeploymentNotFound {
        /// The id that was asked for.
        id: String,
    },
    /// The state does not allow the step.
    InvalidTransition {
        /// The state.
        from: String,
        /// The state that was wanted.
        to: String,
    },
    /// The build failed.
    BuildFailed {
        /// Why.
        message: String,
    },
    /// The build took too long.
    BuildTimeout {
        /// What it may take.
        timeout_ms: u64,
    },
    /// The deployment took too long.
    DeployTimeout {
        /// What it may take.
        timeout_ms: u64,
    },
    /// The application does not answer as a healthy one.
    HealthCheckFailed {
        /// The path that was asked.
        path: String,
        /// What it answered, if anything.
        status: Option<u16>,
    },
    /// The caller's key is missing or wrong.
    InvalidToken,
    /// The caller asked too often.
    RateLimited {
        /// When asking again can help.
        retry_after_ms: Option<u64>,
    },
    /// A provider answered with an error.
    ProviderFailed {
        /// What it said.
        message: String,
        /// Its HTTP status, where it gave one.
        status: Option<u16>,
    },
    /// A provider lacks its settings.
    ProviderNotConfigured {
        /// Which.
        provider: String,
    },
    /// Storage could not be written.
    StorageWrite {
        /// The key.
        key: String,
        /// Why.
        reason: String,
    },
    /// Storage could not be read.
    StorageRead {
        /// The key.
        key: String,
        /// Why.
        reason: String,
    },
    /// An error that is known only by its group.
    Other {
        /// Which.
        group: Group,
        /// What happened.
        message: String,
        /// What to do about it.
        hint: Option<String>,
        /// A code of the caller's, in either spelling.
        code: Option<String>,
    },
}

/// What errors are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Anything.
    Any,
    /// The manifest.
    Manifest,
    /// The packed artifact.
    Artifact,
    /// The deployment itself.
    Deployment,
    /// Who the caller is, and what it may.
    Auth,
    /// A provider.
    Provider,
    /// Storage.
    Storage,
}

/// One class of errors.
#[derive(Debug, Clone, Copy)]
pub struct Class {
    /// The class of runtm-shared, then those that it derives from.
    pub chain: &'static [&'static str],
    /// Its code there, which is understood and told as an alias.
    pub alias: Option<&'static str>,
    /// Ours.
    pub code: Code,
    /// Whether trying again, with nothing changed, can help.
    pub retryable: bool,
    /// The data that an error of this class carries.
    pub fields: &'static [&'static str],
}

macro_rules! classes {
    ($([$($chain:literal)*], $alias:expr, $kind:ident $code:literal, $retryable:literal, [$($field:literal)*], $meaning:literal, $recovery:literal;)*) => {
        /// All classes, each group with what belongs to it.
        pub const CLASSES: &[Class] = &[$(Class {
            chain: &[$($chain),*],
            alias: $alias,
            code: Code { code: $code, kind: ErrorKind::$kind, meaning: $meaning, recovery: $recovery },
            retryable: $retryable,
            fields: &[$($field),*],
        },)*];
    };
}

// The class and its bases, its old code, our kind and code, whether trying again can help, its data, meaning, recovery.
classes! {
    ["RuntmError"], None, Internal "unspecified", false, [],
        "Something failed that no other code names.",
        "Read the message; if it says too little, that is a defect to report.";
    ["ManifestError" "RuntmError"], None, Invalid "manifest-error", false, [],
        "Something about the manifest is wrong.",
        "Run `midplane check` in the project: it names every problem with its line.";
    ["ManifestNotFoundError" "ManifestError" "RuntmError"], Some("MANIFEST_NOT_FOUND"), NotFound "manifest-not-found", false, ["path"],
        "The folder has no `runtm.yaml`, so there is nothing that says what to deploy.",
        "Change to the project's folder, or write a `runtm.yaml` with at least `name`, `template` and `runtime`.";
    ["ManifestValidationError" "ManifestError" "RuntmError"], Some("MANIFEST_INVALID"), Invalid "manifest-invalid", false, ["field"],
        "The manifest breaks a rule, so nothing was deployed.",
        "Run `midplane check`: it names every problem with line, column and a hint.";
    ["SecretsNotSupportedError" "ManifestError" "RuntmError"], Some("SECRETS_NOT_SUPPORTED"), Unsupported "secrets-not-supported", false, ["field"],
        "The manifest has a field for values that do not belong into a file.",
        "Remove the field, declare the name under `env_schema` with `secret: true`, and set the value as a secret.";

    ["ArtifactError" "RuntmError"], None, Invalid "artifact-error", false, [],
        "Something about the packed artifact is wrong.",
        "Read the message, mend the project and deploy again.";
    ["ArtifactTooLargeError" "ArtifactError" "RuntmError"], Some("ARTIFACT_TOO_LARGE"), Limit "artifact-too-large", false, ["size_bytes" "max_bytes"],
        "The packed project has more bytes than `artifact_bytes_max`.",
        "Leave out what the build does not need (`.gitignore` and `.runtmignore` are honoured), or have the operator raise the bound.";
    ["ArtifactNotFoundError" "ArtifactError" "RuntmError"], Some("ARTIFACT_NOT_FOUND"), NotFound "artifact-not-found", false, ["key"],
        "Storage has no artifact under this key; it may have been removed since.",
        "Deploy again from the project, which packs and stores a new one.";
    ["DockerfileNotFoundError" "ArtifactError" "RuntmError"], Some("DOCKERFILE_NOT_FOUND"), NotFound "dockerfile-not-found", false, [],
        "The template builds from a Dockerfile, and the project has none.",
        "Add a `Dockerfile` beside the manifest, or choose a template that brings its own build.";

    ["DeploymentError" "RuntmError"], None, Internal "deployment-error", false, [],
        "Something about the deployment failed.",
        "Look at the deployment's log, which says at which step.";
    ["DeploymentNotFoundError" "DeploymentError" "RuntmError"], Some("DEPLOYMENT_NOT_FOUND"), NotFound "deployment-not-found", false, ["id"],
        "No deployment has this id, or it is another tenant's.",
        "Check the id: `dep_` and 12 digits of `0-9a-f`. It is not the name of the application.";
    ["DeploymentStateError" "DeploymentError" "RuntmError"], Some("INVALID_STATE_TRANSITION"), Conflict "deployment-transition", false, ["from" "to"],
        "A deployment in this state never goes to that state.",
        "Read the state again and decide anew. A destroyed one stays destroyed: start another.";
    ["BuildError" "DeploymentError" "RuntmError"], Some("BUILD_FAILED"), Invalid "build-failed", false, [],
        "The project was packed, and its build ended with an error.",
        "Read the build log of the deployment, mend the project and deploy again.";
    ["BuildTimeoutError" "DeploymentError" "RuntmError"], Some("BUILD_TIMEOUT"), Limit "build-timeout", false, ["timeout_ms"],
        "The build took longer than `build_ms_max` and was stopped.",
        "Make the build do less (fewer dependencies, cached layers), or have the operator raise the bound.";
    ["DeployTimeoutError" "DeploymentError" "RuntmError"], Some("DEPLOY_TIMEOUT"), Limit "deploy-timeout", false, ["timeout_ms"],
        "The application did not become healthy within `deploy_ms_max`.",
        "See in its log what it waits for; it must listen on the manifest's `port` and answer at `health_path`.";
    ["HealthCheckError" "DeploymentError" "RuntmError"], Some("HEALTH_CHECK_FAILED"), Unavailable "health-check-failed", true, ["path" "status"],
        "The application runs, but its health path gave no answer, or one that is not 200.",
        "Make the path answer 200 quickly and without a login; `health_path` in the manifest names it.";

    ["AuthError" "RuntmError"], None, Denied "auth-error", false, [],
        "The caller could not be admitted.",
        "Check which key is sent and what it may do.";
    ["InvalidTokenError" "AuthError" "RuntmError"], Some("INVALID_TOKEN"), Denied "invalid-token", false, [],
        "The request carried no key, or one that is not known.",
        "Set the key in the environment of the caller, or make a new one.";
    ["RateLimitError" "AuthError" "RuntmError"], Some("RATE_LIMIT_EXCEEDED"), Limit "rate-limit-exceeded", true, ["retry_after_ms"],
        "More was started in the last hour or day than the caller may.",
        "Wait as long as `retry_after_ms` says and send the same request with the same idempotency key.";

    ["ProviderError" "RuntmError"], None, Unavailable "provider-error", true, [],
        "The provider behind the deployment failed.",
        "Try again later; if it stays, see the provider's own status and log.";
    ["FlyError" "ProviderError" "RuntmError"], Some("FLY_ERROR"), Unavailable "provider-failed", true, ["status"],
        "The provider answered a call with an error, which the message quotes.",
        "A status of 401 or 403 means the provider's key: check it. Others often pass by themselves: try again.";
    ["ProviderNotConfiguredError" "ProviderError" "RuntmError"], Some("PROVIDER_NOT_CONFIGURED"), Invalid "provider-not-configured", false, ["provider"],
        "The provider lacks settings or secrets, so it was not called.",
        "Set what `midplane plugin show` lists as missing for it.";

    ["StorageError" "RuntmError"], None, Unavailable "storage-error", true, [],
        "Storage failed in a way that has no code of its own.",
        "Try again; if it stays, check the storage's settings, rights and space.";
    ["StorageWriteError" "StorageError" "RuntmError"], Some("STORAGE_WRITE_ERROR"), Unavailable "storage-write-error", true, ["key" "reason"],
        "An object could not be stored. What was there before is unchanged.",
        "Check rights and free space of the storage, then deploy again.";
    ["StorageReadError" "StorageError" "RuntmError"], Some("STORAGE_READ_ERROR"), Unavailable "storage-read-error", true, ["key" "reason"],
        "An object is there and could not be read.",
        "Try again; if it stays, check the storage, or deploy again to store it anew.";
}

/// The codes of all classes.
pub const CODES: &[Code] = &{
    let mut codes = [CLASSES[0].code; CLASSES.len()];
    let mut at = 0;
    while at < CLASSES.len() {
        codes[at] = CLASSES[at].code;
        at += 1;
    }
    codes
};

/// The class of a name of runtm-shared.
#[must_use]
pub fn class(name: &str) -> Option<&'static Class> {
    CLASSES.iter().find(|class| class.name() == name)
}

/// The class of a code of runtm-shared (`MANIFEST_NOT_FOUND`).
#[must_use]
pub fn by_alias(alias: &str) -> Option<&'static Class> {
    CLASSES.iter().find(|class| class.alias == Some(alias))
}

impl Class {
    /// Its name in runtm-shared.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.chain.first().copied().unwrap_or_default()
    }
}

impl Group {
    fn class_name(self) -> &'static str {
        match self {
            Self::Any => "RuntmError",
            Self::Manifest => "ManifestError",
            Self::Artifact => "ArtifactError",
            Self::Deployment => "DeploymentError",
            Self::Auth => "AuthError",
            Self::Provider => "ProviderError",
            Self::Storage => "StorageError",
        }
    }
}

impl DeployError {
    /// Its row in the table.
    #[must_use]
    pub fn class(&self) -> &'static Class {
        let name = match self {
            Self::ManifestNotFound { .. } => "ManifestNotFoundError",
            Self::ManifestInvalid { .. } => "ManifestValidationError",
            Self::SecretsNotSupported { .. } => "SecretsNotSupportedError",
            Self::ArtifactTooLarge { .. } => "ArtifactTooLargeError",
            Self::ArtifactNotFound { .. } => "ArtifactNotFoundError",
            Self::DockerfileNotFound => "DockerfileNotFoundError",
            Self::DeploymentNotFound { .. } => "DeploymentNotFoundError",
            Self::InvalidTransition { .. } => "DeploymentStateError",
            Self::BuildFailed { .. } => "BuildError",
            Self::BuildTimeout { .. } => "BuildTimeoutError",
            Self::DeployTimeout { .. } => "DeployTimeoutError",
            Self::HealthCheckFailed { .. } => "HealthCheckError",
            Self::InvalidToken => "InvalidTokenError",
            Self::RateLimited { .. } => "RateLimitError",
            Self::ProviderFailed { .. } => "FlyError",
            Self::ProviderNotConfigured { .. } => "ProviderNotConfiguredError",
            Self::StorageWrite { .. } => "StorageWriteError",
            Self::StorageRead { .. } => "StorageReadError",
            Self::Other { group, .. } => group.class_name(),
        };
        // A test makes one of each; the first row stands for what no row names.
        class(name).unwrap_or(&CLASSES[0])
    }

    /// One sentence.
    #[must_use]
    pub fn message(&self) -> String {
        let name = |text: &str| shown(text, 200);
        match self {
            Self::ManifestNotFound { path } => format!("there is no `runtm.yaml` in `{}`", name(path)),
            Self::ManifestInvalid { message, .. } => format!("the manifest is not valid: {message}"),
            Self::SecretsNotSupported { field } => format!("`{}` is not supported in a manifest", name(field)),
            Self::ArtifactTooLarge { size_bytes, max_bytes } => {
                format!("the artifact has {size_bytes} bytes, more than the {max_bytes} of `artifact_bytes_max`")
            }
            Self::ArtifactNotFound { key } => format!("there is no artifact `{}`", name(key)),
            Self::DockerfileNotFound => "there is no `Dockerfile` in the project".to_owned(),
            Self::DeploymentNotFound { id } => format!("there is no deployment `{}`", name(id)),
            Self::InvalidTransition { from, to } => format!("it cannot go from `{}` to `{}`", name(from), name(to)),
            Self::BuildFailed { message } => format!("the build failed: {message}"),
            Self::BuildTimeout { timeout_ms } => format!("the build took more than {timeout_ms} ms"),
            Self::DeployTimeout { timeout_ms } => format!("the deployment took more than {timeout_ms} ms"),
            Self::HealthCheckFailed { path, status: Some(status) } => {
                format!("the health check at `{}` answered {status}", name(path))
            }
            Self::HealthCheckFailed { path, status: None } => {
                format!("the health check at `{}` had no answer", name(path))
            }
            Self::InvalidToken => "the key is missing or not valid".to_owned(),
            Self::RateLimited { .. } => "too much was started in a short time".to_owned(),
            Self::ProviderFailed { message, status: Some(status) } => {
                format!("the provider answered {status}: {message}")
            }
            Self::ProviderFailed { message, status: None } => format!("the provider failed: {message}"),
            Self::ProviderNotConfigured { provider } => format!("the provider `{}` is not configured", name(provider)),
            Self::StorageWrite { key, reason } => format!("`{}` cannot be stored: {reason}", name(key)),
            Self::StorageRead { key, reason } => format!("`{}` cannot be read: {reason}", name(key)),
            Self::Other { message, .. } => message.clone(),
        }
    }

    /// What to do about it: of this error where it knows more than its class.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::ManifestInvalid { field: Some(field), .. } => Some(format!("mend the field `{}`", shown(field, 80))),
            Self::SecretsNotSupported { field } => {
                Some(format!("remove the field `{}` from the manifest", shown(field, 80)))
            }
            Self::HealthCheckFailed { path, .. } => Some(format!("make `{}` answer 200 quickly", shown(path, 200))),
            Self::RateLimited { retry_after_ms: Some(ms) } => {
                Some(format!("wait {} s, then try again", ms.div_ceil(1000)))
            }
            Self::ProviderNotConfigured { provider } => {
                Some(format!("set the settings and secrets that `{}` needs", shown(provider, 80)))
            }
            Self::Other { hint, .. } => hint.clone().filter(|hint| !hint.is_empty()),
            _ => Some(as_hint(self.class().code.recovery)),
        }
    }

    /// The stable word for it. A code of the caller's is brought into the form of codes, or turned into the code that it
    /// is an alias of.
    #[must_use]
    pub fn code(&self) -> String {
        let own = match self.own_code() {
            Some(own) => by_alias(own).map_or_else(|| kebab(own), |class| class.code.code.to_owned()),
            None => String::new(),
        };
        if own.is_empty() { self.class().code.code.to_owned() } else { own }
    }

    /// The code by which clients of runtm-shared know it.
    #[must_use]
    pub fn alias(&self) -> Option<&str> {
        self.own_code().or(self.class().alias)
    }

    /// Its data, by the names in the table.
    #[must_use]
    pub fn fields(&self) -> Map<String, Value> {
        let fields = match self {
            Self::ManifestNotFound { path } => json!({ "path": path }),
            Self::ManifestInvalid { field, .. } => json!({ "field": field }),
            Self::SecretsNotSupported { field } => json!({ "field": field }),
            Self::ArtifactTooLarge { size_bytes, max_bytes } => {
                json!({ "size_bytes": size_bytes, "max_bytes": max_bytes })
            }
            Self::ArtifactNotFound { key } => json!({ "key": key }),
            Self::DeploymentNotFound { id } => json!({ "id": id }),
            Self::InvalidTransition { from, to } => json!({ "from": from, "to": to }),
            Self::BuildTimeout { timeout_ms } | Self::DeployTimeout { timeout_ms } => {
                json!({ "timeout_ms": timeout_ms })
            }
            Self::HealthCheckFailed { path, status } => json!({ "path": path, "status": status }),
            Self::RateLimited { retry_after_ms } => json!({ "retry_after_ms": retry_after_ms }),
            Self::ProviderFailed { status, .. } => json!({ "status": status }),
            Self::ProviderNotConfigured { provider } => json!({ "provider": provider }),
            Self::StorageWrite { key, reason } | Self::StorageRead { key, reason } => {
                json!({ "key": key, "reason": reason })
            }
            Self::DockerfileNotFound | Self::BuildFailed { .. } | Self::InvalidToken | Self::Other { .. } => json!({}),
        };
        match fields {
            Value::Object(fields) => fields,
            _ => Map::new(),
        }
    }

    /// What an API answers: kind, code, alias, message, hint, whether trying again can help, and the data.
    #[must_use]
    pub fn body(&self) -> Value {
        let class = self.class();
        let mut body = json!({
            "kind": class.code.kind,
            "code": self.code(),
            "message": self.message(),
            "retryable": class.retryable,
            "fields": self.fields(),
        });
        if let Some(alias) = self.alias() {
            body["alias"] = alias.into();
        }
        if let Some(hint) = self.hint() {
            body["hint"] = hint.into();
        }
        body
    }

    fn own_code(&self) -> Option<&str> {
        match self {
            Self::Other { code, .. } => code.as_deref().filter(|code| !code.is_empty()),
            _ => None,
        }
    }
}

impl From<DeployError> for Error {
    fn from(error: DeployError) -> Self {
        let mut ours = Self::new(error.class().code.kind, error.code(), error.message());
        ours.hint = error.hint();
        if let DeployError::RateLimited { retry_after_ms } = error {
            ours.retry_after_ms = retry_after_ms;
        }
        ours
    }
}

impl std::fmt::Display for DeployError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message())
    }
}

impl std::error::Error for DeployError {}

/// A recovery, which is a sentence, in the form of hints: lower case, no final period.
fn as_hint(sentence: &str) -> String {
    let mut chars = sentence.trim_end_matches('.').chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// A word of someone else's in the form of a code: lower case, `-` for what is no letter or digit, at most 64 bytes.
fn kebab(word: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let word: String = cut(word, 64).chars().map(plain).collect();
    word.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One error of each class, with all its data.
    fn one_of_each() -> Vec<DeployError> {
        let text = || "x".to_owned();
        let groups = [
            Group::Any,
            Group::Manifest,
            Group::Artifact,
            Group::Deployment,
            Group::Auth,
            Group::Provider,
            Group::Storage,
        ];
        let mut all: Vec<DeployError> =
            groups.map(|group| DeployError::Other { group, message: text(), hint: None, code: None }).into();
        all.extend([
            DeployError::ManifestNotFound { path: text() },
            DeployError::ManifestInvalid { message: text(), field: Some(text()) },
            DeployError::SecretsNotSupported { field: text() },
            DeployError::ArtifactTooLarge { size_bytes: 2, max_bytes: 1 },
            DeployError::ArtifactNotFound { key: text() },
            DeployError::DockerfileNotFound,
            DeployError::DeploymentNotFound { id: text() },
            DeployError::InvalidTransition { from: text(), to: text() },
            DeployError::BuildFailed { message: text() },
            DeployError::BuildTimeout { timeout_ms: 1 },
            DeployError::DeployTimeout { timeout_ms: 1 },
            DeployError::HealthCheckFailed { path: text(), status: Some(503) },
            DeployError::InvalidToken,
            DeployError::RateLimited { retry_after_ms: Some(1_500) },
            DeployError::ProviderFailed { message: text(), status: Some(500) },
            DeployError::ProviderNotConfigured { provider: text() },
            DeployError::StorageWrite { key: text(), reason: text() },
            DeployError::StorageRead { key: text(), reason: text() },
        ]);
        all
    }

    #[test]
    fn every_class_has_one_error_with_the_data_of_its_row() {
        let all = one_of_each();
        let classes: std::collections::BTreeSet<&str> = all.iter().map(|error| error.class().name()).collect();
        assert_eq!((all.len(), classes.len()), (CLASSES.len(), CLASSES.len()));
        for error in &all {
            let class = error.class();
            let (mut fields, mut named): (Vec<_>, Vec<_>) = (
                error.fields().keys().cloned().collect(),
                class.fields.iter().map(|name| (*name).to_owned()).collect(),
            );
            fields.sort();
            named.sort();
            assert_eq!(fields, named, "{}", class.name());
            assert_eq!(class.chain.last(), Some(&"RuntmError"));
        }
        let bodies: Vec<String> = all.iter().map(|error| error.body().to_string()).collect();
        insta::assert_snapshot!(bodies.join("\n"));
    }

    #[test]
    fn a_code_of_the_caller_is_brought_into_form() {
        let of = |code: &str| {
            let (message, code) = ("x".to_owned(), Some(code.to_owned()));
            DeployError::Other { group: Group::Any, message, hint: Some(String::new()), code }
        };
        assert_eq!(
            (of("QUOTA_Exceeded").code(), of("QUOTA_Exceeded").alias()),
            ("quota-exceeded".to_owned(), Some("QUOTA_Exceeded"))
        );
        assert_eq!(of("BUILD_FAILED").code(), "build-failed");
        assert_eq!((of("").code(), of("").alias(), of("").hint()), ("unspecified".to_owned(), None, None));
        assert_eq!(of(&"é".repeat(100)).code(), "unspecified");
    }

    #[test]
    fn an_error_keeps_what_it_knows() {
        let error = Error::from(DeployError::RateLimited { retry_after_ms: Some(1_500) });
        assert_eq!((error.kind, error.retry_after_ms), (ErrorKind::Limit, Some(1_500)));
        assert_eq!(error.hint.as_deref(), Some("wait 2 s, then try again"));
        let error = DeployError::HealthCheckFailed { path: "/up".to_owned(), status: None };
        assert_eq!(error.hint().as_deref(), Some("make `/up` answer 200 quickly"));
    }
}
