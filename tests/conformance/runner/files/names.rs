//! Ids, URLs, env files, errors, enumerations, tiers and scopes.
//!
//! Files: `runtm_ids.json`, `runtm_urls.json`, `runtm_env_file.json`, `runtm_errors.json`, `runtm_enums.json`, `runtm_machine_tiers.json`, `runtm_api_scopes.json`.

use std::collections::BTreeMap;
use std::path::Path;

use midplane_core::deploy::env_file::{EnvFile, project_root};
use midplane_core::deploy::error::{DeployError, Group, class};
use midplane_core::deploy::id::{Content, DeploymentId, IdempotencyKey};
use midplane_core::deploy::key::StorageKey;
use midplane_core::deploy::scope::{Scope, has_scope, validate_scopes};
use midplane_core::deploy::tier::{MachineConfig, MachineTier};
use midplane_core::deploy::url::{AppAddress, base_domain};
use midplane_core::project::{Mode, manifest};
use midplane_core::{Digest, Error, ErrorKind, Result};
use serde_json::{Value, json};

use crate::case::{Case, Check, Ours};

mod enums;

pub(crate) const CHECKS: &[(&str, Check)] = &[
    ("runtm_ids.json", ids),
    ("runtm_urls.json", urls),
    ("runtm_env_file.json", env_file),
    ("runtm_errors.json", errors),
    ("runtm_enums.json", enums::enums),
    ("runtm_machine_tiers.json", tiers),
    ("runtm_api_scopes.json", scopes),
];

/// A verdict with its value against `expect: {ok, value?}`. What the original answers with `false` or `null` instead of an error
/// is a refusal too: a text without the form of what it should be.
fn verdict(case: &Case<'_>, ours: Result<Value>) -> Ours {
    let (expect, value) = (case.expect(), &case.expect()["value"]);
    let taken = expect["ok"] == true && !matches!(value, Value::Null);
    match ours {
        Ok(_) if !taken => Ours::accepted().differs(format!("the original refuses: {expect}")),
        Ok(ours) => Ours::accepted().equal("value", &ours, value),
        Err(error) if taken => Ours::refused(error.code).differs(format!("the original gives {value}")),
        Err(error) => Ours::refused(error.code),
    }
}

/// An operation that cases name and this module does not know.
fn unknown(case: &Case<'_>) -> Ours {
    Ours::refused("unknown-operation").differs(format!("no check for {}", case.input()))
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn ids(case: &Case<'_>) -> Ours {
    let input = case.input();
    let id = || DeploymentId::new(text(input, "id"));
    match text(input, "op") {
        "valid" => match (id(), &case.expect()["value"]) {
            (Ok(_), value) => Ours::accepted().equal("valid", &json!(true), value),
            (Err(error), value) => Ours::refused(error.code).equal("valid", &json!(false), value),
        },
        "parse" => verdict(case, id().map(|id| json!(id.as_str()))),
        "artifact_key" => verdict(case, id().map(|id| json!(StorageKey::artifact(&id).as_str()))),
        "build_key" => verdict(case, id().map(|id| json!(StorageKey::build_context(&id).as_str()))),
        "deterministic" => {
            let artifact = Digest::of(b"");
            let content = Content { tenant: "default", name: text(input, "name"), manifest: b"", artifact: &artifact };
            verdict(case, Ok(json!(DeploymentId::of(&content).as_str())))
        }
        // The pattern is that of the two newtypes: that they take the text is the check.
        "random" => {
            let made = |byte| DeploymentId::new(DeploymentId::from_random([byte; 6]).as_str());
            drawn(case, "^dep_[0-9a-f]{12}$", made(0x0f), made(0xf0))
        }
        "idempotency_key" => {
            let made = |byte| IdempotencyKey::new(IdempotencyKey::from_random([byte; 16]).as_str());
            drawn(case, "^[0-9a-f]{32}$", made(0x0f), made(0xf0))
        }
        _ => unknown(case),
    }
}

/// Something made of random bytes: other bytes, another text, in the form that the original promises.
fn drawn<T: PartialEq>(case: &Case<'_>, pattern: &str, one: Result<T>, other: Result<T>) -> Ours {
    match (one, other) {
        (Ok(one), Ok(other)) => Ours::accepted().equal("pattern", &json!(pattern), &case.expect()["pattern"]).equal(
            "differs each call",
            &json!(one != other),
            &case.expect()["differs_each_call"],
        ),
        (Err(error), _) | (_, Err(error)) => Ours::refused(error.code).differs("what is made has not the form"),
    }
}

fn urls(case: &Case<'_>) -> Ours {
    let (input, expect) = (case.input(), case.expect());
    let from_env = base_domain(|name| input["env"][name].as_str().map(str::to_owned));
    let base = input["base_domain"].as_str().unwrap_or(&from_env);
    let ours = match AppAddress::new(text(input, "app_name"), base) {
        Ok(address) => Ours::accepted().equal("url", &json!(address.url()), &expect["url"]).equal(
            "subdomain",
            &json!(address.subdomain()),
            &expect["subdomain"],
        ),
        Err(error) => Ours::refused(error.code).differs(format!("the original gives {}", expect["url"])),
    };
    ours.equal("base domain", &json!(from_env), &expect["base_domain_from_env"])
}

fn env_file(case: &Case<'_>) -> Ours {
    let (input, expect) = (case.input(), case.expect());
    match text(input, "op") {
        "load" => {
            let before: BTreeMap<String, String> =
                serde_json::from_value(input["env_before"].clone()).unwrap_or_default();
            let load = |file: &str| -> Result<BTreeMap<String, String>> {
                let added = EnvFile::parse(file, ".env")?.additions(|name| before.get(name).cloned())?;
                Ok(before.clone().into_iter().chain(added).collect())
            };
            let file = input["dotenv"].as_str();
            match file.map_or(Ok(before.clone()), load) {
                Err(error) if expect["ok"] == false => Ours::refused(error.code),
                Err(error) => refused_here(error, expect),
                Ok(_) if expect["ok"] == false => Ours::accepted().differs("the original refuses"),
                Ok(env) => Ours::accepted().equal("found", &json!(file.is_some()), &expect["loaded"]).equal(
                    "environment",
                    &json!(env),
                    &expect["env"],
                ),
            }
        }
        "root" => {
            // A folder ends with `/` in the tree, and those above a thing are there too.
            let there = |path: &Path| {
                let tree = input["tree"].as_array().into_iter().flatten().filter_map(Value::as_str);
                tree.map(|one| Path::new("/tree").join(one)).any(|one| one.ancestors().any(|above| above == path))
            };
            let start: std::path::PathBuf = Path::new("/tree").join(text(input, "start")).components().collect();
            let root = project_root(&start, there);
            let root = root.and_then(|root| root.strip_prefix("/tree").ok().map(|root| root.display().to_string()));
            let root = root.map(|root| if root.is_empty() { ".".to_owned() } else { root });
            Ours::accepted().equal("root", &json!(root), &expect["root"])
        }
        _ => unknown(case),
    }
}

fn refused_here(error: Error, expect: &Value) -> Ours {
    Ours::refused(error.code).differs(format!("the original gives {expect}"))
}

fn errors(case: &Case<'_>) -> Ours {
    let (input, expect) = (case.input(), case.expect());
    let name = text(input, "class");
    let Some(error) = error_of(name, input) else { return unknown(case) };
    let (row, body) = (error.class(), error.body());
    let told = &expect["to_dict"];
    // The original tells codes in its own spelling; ours are the aliases of those.
    let ours = Ours::accepted()
        .equal("class chain", &json!(row.chain), &expect["chain"])
        .equal("code", &body["alias"], &told["code"])
        .equal("has a message", &json!(!error.message().is_empty()), &json!(told["error"] != ""));
    let ours = match told.get("recovery_hint") {
        Some(_) => ours.equal("has a hint", &json!(body["hint"].is_string()), &json!(true)),
        None => ours.equal("hint", &body["hint"], &Value::Null),
    };
    let whole: Error = error.clone().into();
    let ours = ours
        .equal("kind of the error", &json!(whole.kind), &body["kind"])
        .equal("code of the error", &json!(whole.code), &body["code"])
        .equal("class by name", &json!(class(name).map(|class| class.code.code)), &json!(Some(row.code.code)));
    let fields = error.fields();
    expect["extra"].as_object().into_iter().flatten().fold(ours, |ours, (name, value)| {
        // Units are last in our names, and milliseconds.
        let (name, value) = match name.as_str() {
            "retry_after_seconds" => ("retry_after_ms", value.as_u64().map_or(Value::Null, |s| json!(s * 1000))),
            "status_code" => ("status", value.clone()),
            name => (name, value.clone()),
        };
        ours.equal(name, fields.get(name).unwrap_or(&json!("no such field")), &value)
    })
}

/// The error of a class of the original, from the arguments of its constructor.
fn error_of(class: &str, input: &Value) -> Option<DeployError> {
    let text = |at: usize| input["args"][at].as_str().map(str::to_owned);
    let number = |at: usize| input["args"][at].as_u64();
    // A status of 0 is none, as there.
    let status = |at: usize| number(at).filter(|status| *status > 0).and_then(|status| u16::try_from(status).ok());
    let other = |group| {
        let (hint, code) = (text(1), text(2));
        Some(DeployError::Other { group, message: text(0)?, hint, code })
    };
    Some(match class {
        "RuntmError" => other(Group::Any)?,
        "ManifestError" => other(Group::Manifest)?,
        "ArtifactError" => other(Group::Artifact)?,
        "DeploymentError" => other(Group::Deployment)?,
        "AuthError" => other(Group::Auth)?,
        "ProviderError" => other(Group::Provider)?,
        "StorageError" => other(Group::Storage)?,
        "ManifestNotFoundError" => DeployError::ManifestNotFound { path: text(0).unwrap_or_else(|| ".".to_owned()) },
        "ManifestValidationError" => DeployError::ManifestInvalid { message: text(0)?, field: text(1) },
        "SecretsNotSupportedError" => DeployError::SecretsNotSupported { field: text(0)? },
        "ArtifactTooLargeError" => DeployError::ArtifactTooLarge { size_bytes: number(0)?, max_bytes: number(1)? },
        "ArtifactNotFoundError" => DeployError::ArtifactNotFound { key: text(0)? },
        "DockerfileNotFoundError" => DeployError::DockerfileNotFound,
        "DeploymentNotFoundError" => DeployError::DeploymentNotFound { id: text(0)? },
        "DeploymentStateError" => DeployError::InvalidTransition { from: text(0)?, to: text(1)? },
        "BuildError" => DeployError::BuildFailed { message: text(0)? },
        "BuildTimeoutError" => DeployError::BuildTimeout { timeout_ms: number(0)? * 1000 },
        "DeployTimeoutError" => DeployError::DeployTimeout { timeout_ms: number(0)? * 1000 },
        "HealthCheckError" => DeployError::HealthCheckFailed { path: text(0)?, status: status(1) },
        "InvalidTokenError" => DeployError::InvalidToken,
        "RateLimitError" => DeployError::RateLimited { retry_after_ms: number(0).map(|s| s * 1000) },
        "FlyError" => DeployError::ProviderFailed {
            message: text(0)?,
            status: number(1).and_then(|status| u16::try_from(status).ok()),
        },
        "ProviderNotConfiguredError" => DeployError::ProviderNotConfigured { provider: text(0)? },
        "StorageWriteError" => DeployError::StorageWrite { key: text(0)?, reason: text(1)? },
        "StorageReadError" => DeployError::StorageRead { key: text(0)?, reason: text(1)? },
        _ => return None,
    })
}

fn tiers(case: &Case<'_>) -> Ours {
    let input = case.input();
    let tier = text(input, "tier");
    match text(input, "op") {
        "validate" => verdict(case, MachineTier::parse_loosely(tier).map(|tier| json!(tier))),
        "manifest_tier" => {
            let text = format!("name: app\ntemplate: docker\ntier: {}\n", input["tier"]);
            let manifest = manifest::parse(&text, "runtm.yaml", Mode::Compat).map_err(Error::from);
            verdict(case, manifest.map(|manifest| json!(manifest.tier)))
        }
        "spec" => verdict(
            case,
            MachineTier::parse(tier).map(|tier| {
                let spec = tier.spec();
                json!({
                    "tier": spec.tier,
                    "memory_mb": spec.memory_mb,
                    "cpus": spec.cpus,
                    "cpu_kind": spec.cpu_kind,
                    "description": spec.description(),
                    "estimated_cost": spec.estimated_cost(),
                })
            }),
        ),
        "from_tier" => verdict(case, machine(tier, input)),
        _ => unknown(case),
    }
}

fn machine(tier: &str, input: &Value) -> Result<Value> {
    let mut machine = MachineConfig::of_tier(MachineTier::parse(tier)?, text(input, "image"));
    let given = input.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    for (name, value) in given {
        let wrong = || Error::new(ErrorKind::Invalid, "machine", format!("`{name}` cannot be {value}"));
        match name.as_str() {
            "env" => machine.env = serde_json::from_value(value.clone()).map_err(|_| wrong())?,
            "volumes" => machine.volumes = serde_json::from_value(value.clone()).map_err(|_| wrong())?,
            "region" => machine.region = value.as_str().ok_or_else(wrong)?.to_owned(),
            "health_check_path" => machine.health_check_path = value.as_str().ok_or_else(wrong)?.to_owned(),
            "internal_port" => {
                machine.internal_port = value.as_u64().and_then(|port| port.try_into().ok()).ok_or_else(wrong)?;
            }
            "op" | "tier" | "image" => {}
            _ => return Err(wrong()),
        }
    }
    Ok(json!(machine))
}

fn scopes(case: &Case<'_>) -> Ours {
    let input = case.input();
    let words = |field: &str| -> Vec<&str> {
        input[field].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    };
    match text(input, "op") {
        "validate" => verdict(case, validate_scopes(words("scopes")).map(|scopes| json!(scopes))),
        "has" => match Scope::parse(text(input, "required")) {
            Ok(required) => {
                Ours::accepted().equal("has", &json!(has_scope(words("granted"), required)), &case.expect()["value"])
            }
            Err(error) => refused_here(error, case.expect()),
        },
        _ => unknown(case),
    }
}
