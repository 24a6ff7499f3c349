//! Runtime identity, secrets and the runtime context.
//!
//! Files: `mxm_identity.json`, `mxm_discovery.json`, `mxm_secrets.json`, `mxm_context.json`. An exception of the original
//! is compared by its class, which is our kind; its prose is not, but the fields that it lists are.

use std::cell::RefCell;

use midplane_core::identity::settings::{Sections, Settings};
use midplane_core::identity::{Claims, Evidence, FIELDS, Facts, RuntimeIdentity, discover};
use midplane_core::layers::{Found, Selectors, Variables, load};
use midplane_core::redact::SecretValue;
use midplane_core::vault::{Principal, Vault, clean, failure, identifier};
use midplane_core::{Error, ErrorKind};
use serde_json::{Value, json};

use crate::case::{Case, Check, Ours};

pub(crate) const CHECKS: &[(&str, Check)] = &[
    ("mxm_identity.json", identity),
    ("mxm_discovery.json", discovery),
    ("mxm_secrets.json", secrets),
    ("mxm_context.json", context),
];

fn identity(case: &Case<'_>) -> Ours {
    let input = case.input();
    let facts = facts(&input["hostname"], input["in_container"] == true);
    match input["op"].as_str() {
        Some("build") => {
            let built = Claims::from_json(&input["args"]).and_then(|claims| RuntimeIdentity::build(claims, &facts));
            let ours = verdict(case, built.as_ref().map(|built| json!({ "identity": built })));
            // Which fields are empty is part of what the original answers.
            match (built, original_message(case).split_once("field(s): ")) {
                (Err(error), Some((_, fields))) if error.code == "identity-empty" => {
                    let theirs: Vec<&str> = fields.split(", ").collect();
                    let quoted: Vec<&str> = error.message.split('`').skip(1).step_by(2).collect();
                    ours.equal("empty fields", &json!(quoted), &json!(theirs))
                }
                _ => ours,
            }
        }
        Some("attest") => {
            let claimed = RuntimeIdentity::from_json(&input["identity"]);
            let attested = claimed.clone().and_then(|identity| identity.attest(&facts));
            let ours = verdict(case, attested.as_ref().map(|()| json!({})));
            let theirs: Vec<&str> = FIELDS
                .into_iter()
                .filter(|field| original_message(case).contains(&format!("{field} claim does not match")))
                .collect();
            let fields: Vec<&str> = claimed
                .map(|identity| identity.mismatches(&facts).iter().map(|mismatch| mismatch.field).collect())
                .unwrap_or_default();
            ours.equal("fields that do not match", &json!(fields), &json!(theirs))
        }
        op => Ours::refused("case").differs(format!("no such operation: {op:?}")),
    }
}

fn discovery(case: &Case<'_>) -> Ours {
    let input = case.input();
    let found = match input["op"].as_str() {
        Some("machine") => facts(&input["hostname"], false).machine.value,
        // What a marker is, is for the file system to say; only whether it exists reaches the decision.
        Some("substrate") => {
            let exists = marker_exists(input["marker"].as_str().unwrap_or_default());
            facts(&json!("h"), exists).substrate().value.clone()
        }
        op => return Ours::refused("case").differs(format!("no such operation: {op:?}")),
    };
    verdict(case, Ok(json!({ "value": found })))
}

/// Makes the marker as the case describes it, and looks whether it is there.
fn marker_exists(kind: &str) -> bool {
    let folder = std::env::temp_dir().join(format!("midplane-marker-{}-{kind}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    let (marker, other) = (folder.join("dockerenv"), folder.join("other"));
    let link = |to: &std::path::Path| std::os::unix::fs::symlink(to, &marker).expect("a link");
    match kind {
        "file" | "empty-file" | "regular-file" | "present" | "exists" => std::fs::write(&marker, "").expect("a file"),
        "directory" => std::fs::create_dir(&marker).expect("a folder"),
        "symlink-to-file" => {
            std::fs::write(&other, "").expect("a file");
            link(&other);
        }
        "symlink-to-directory" | "symlink-to-dir" => {
            std::fs::create_dir(&other).expect("a folder");
            link(&other);
        }
        "dangling-symlink" => link(&other),
        // Absent, in whatever way.
        _ => {}
    }
    let marker = if kind == "unreadable-parent-missing" { folder.join("none/dockerenv") } else { marker };
    let exists = marker.exists();
    let _ = std::fs::remove_dir_all(&folder);
    exists
}

fn facts(hostname: &Value, in_container: bool) -> Facts {
    let markers = in_container.then(|| "/.dockerenv".to_owned()).into_iter().collect();
    let hostname = hostname.as_str().unwrap_or_default().to_owned();
    discover(&Evidence { hostname, markers, ..Evidence::default() })
}

fn secrets(case: &Case<'_>) -> Ours {
    let input = case.input();
    let text = |field: &str| input[field].as_str().unwrap_or_default();
    let invalid = |why: &'static str| Error::invalid("vault-value", why);
    match input["op"].as_str() {
        Some("identifier") => verdict(case, identifier(text("value")).map_err(invalid).as_ref().map(|()| json!({}))),
        Some("clean") => verdict(case, clean(text("value")).map_err(invalid).as_ref().map(|()| json!({}))),
        Some("principal") => {
            let principal = Principal::of_role(text("role"));
            verdict(case, principal.as_ref().map(|principal| json!({ "value": principal })))
        }
        Some("resolve_path") => resolve_path(case),
        Some("config") => {
            let parsed = Vault::parse(&input["config"], "config");
            if let Err(problems) = &parsed {
                // The class of the original's one exception must be among all the problems.
                let code = if original_class(case) == "TypeError" { "vault-shape" } else { "vault-value" };
                let ours = verdict(case, Err(&Error::from(problems.clone())));
                let found = problems.iter().any(|problem| problem.code == code);
                return if found { ours } else { ours.differs(format!("no `{code}` in {problems:?}")) };
            }
            let vault = parsed.unwrap_or_default();
            let names = json!({
                "stores": vault.stores().keys().collect::<Vec<_>>(),
                "refs": vault.refs().keys().collect::<Vec<_>>(),
                "policies": vault.policies().keys().collect::<Vec<_>>(),
            });
            verdict(case, Ok(names))
        }
        Some("get") => get(case),
        op => Ours::refused("case").differs(format!("no such operation: {op:?}")),
    }
}

fn resolve_path(case: &Case<'_>) -> Ours {
    let input = case.input();
    let config = json!({
        "stores": {"s": {"backend": "gopass", "root": input["root"]}}, "refs": {}, "policies": {},
    });
    let store = Vault::parse(&config, "config").map_err(Error::from).map(|vault| vault.stores()["s"].clone());
    let path = store.and_then(|store| store.resolve_path(input["path"].as_str().unwrap_or_default()));
    verdict(case, path.as_ref().map(|path| json!({ "value": path })))
}

fn get(case: &Case<'_>) -> Ours {
    let input = case.input();
    let vault = match Vault::parse(&input["config"], "config") {
        Ok(vault) => vault,
        Err(problems) => return verdict(case, Err(&Error::from(problems))),
    };
    let default = input["default"].as_str().map(|text| SecretValue::new(text.as_bytes()));
    let asked = RefCell::new(Vec::new());
    let role = input["role"].as_str().unwrap_or_default();
    let found = vault.get(input["secret"].as_str().unwrap_or_default(), role, default, |location| {
        match input["backend"].as_str() {
            Some("absent") => return Err(failure::tool_missing(location, "gopass")),
            Some("broken") => return Err(failure::tool_failed(location, "gopass", "failed")),
            _ => asked.borrow_mut().push(location.full_path.clone()),
        }
        let value = input["vault"][location.full_path.as_str()].as_str();
        Ok(value.map(|value| SecretValue::new(value.as_bytes())))
    });
    let ours =
        verdict(case, found.as_ref().map(|value| json!({ "value": value.as_ref().map(|value| value.expose_text()) })));
    ours.equal("paths asked for", &json!(asked.into_inner()), &case.expect()["asked"])
}

fn context(case: &Case<'_>) -> Ours {
    let selectors = Selectors { app: "a", environment: "e", machine: "m", substrate: "s", role: "r" };
    let variables = Variables::default();
    let text = case.input()["default_yaml"].as_str().unwrap_or_default();
    let found = |path: &str| if path == "apps/a/default.yaml" { Found::Text(text.to_owned()) } else { Found::Nothing };
    let settings = load(selectors, None, &variables, |path| Ok(found(path)))
        .and_then(|merged| merged.resolve(&variables))
        .map_err(Error::from)
        .and_then(|config| Settings::read(&config, &Sections::MXM, Some("/h")));
    // The original never fills its metadata; here that is a fact of the process, which no configuration has a say in.
    let values = settings.as_ref().map(|settings| {
        json!({
            "paths": settings.paths,
            "databases": settings.databases,
            "secrets": settings.vault.refs().keys().collect::<Vec<_>>(),
        })
    });
    verdict(case, values)
}

/// The outcome, and how it compares: taken with these values, or refused with a kind that fits the original's class.
fn verdict(case: &Case<'_>, ours: Result<Value, &Error>) -> Ours {
    let expect = case.expect();
    match (ours, expect["ok"] == true) {
        (Ok(values), true) => {
            let mut verdict = Ours::accepted();
            for (field, value) in values.as_object().into_iter().flatten() {
                verdict = verdict.equal(field, value, &expect[field]);
            }
            verdict
        }
        (Ok(_), false) => Ours::accepted().differs(format!("the original refuses: {}", original_message(case))),
        (Err(error), true) => Ours::refused(error.code.clone()).differs(format!("the original takes it: {error}")),
        (Err(error), false) => {
            let ours = Ours::refused(error.code.clone());
            let class = original_class(case);
            if kind_of(class) == Some(error.kind) {
                ours
            } else {
                ours.differs(format!("ours is {}, the original's {class}: {error}", error.kind))
            }
        }
    }
}

/// Our kind for a class of exceptions.
fn kind_of(class: &str) -> Option<ErrorKind> {
    match class {
        "TypeError" | "ValueError" => Some(ErrorKind::Invalid),
        "KeyError" | "FileNotFoundError" => Some(ErrorKind::NotFound),
        "PermissionError" => Some(ErrorKind::Denied),
        "RuntimeError" => Some(ErrorKind::Conflict),
        _ => None,
    }
}

/// The built-in class that the original's exception is of.
fn original_class<'a>(case: &Case<'a>) -> &'a str {
    let expect = case.expect();
    expect["bases"][0].as_str().or(expect["error"].as_str()).unwrap_or_default()
}

fn original_message<'a>(case: &Case<'a>) -> &'a str {
    case.expect()["message"].as_str().unwrap_or_default()
}
