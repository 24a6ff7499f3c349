//! `runtm.yaml`, requests and discovery files, and their parts, under `--compat`.
//!
//! Files: `runtm_manifest.json`, `runtm_env_var.json`, `runtm_requests_file.json`, `runtm_submodels.json`, `runtm_discovery.json`, `runtm_redaction.json`.

use std::collections::BTreeSet;

use midplane_core::problem::Problem;
use midplane_core::project::{Mode, discovery, manifest, original_type, requests};
use serde_json::{Value, json};

use crate::case::{Case, Check, Ours};

pub(crate) const CHECKS: &[(&str, Check)] = &[
    ("runtm_manifest.json", manifest_file),
    ("runtm_env_var.json", part),
    ("runtm_submodels.json", part),
    ("runtm_requests_file.json", requests_file),
    ("runtm_discovery.json", discovery_file),
    ("runtm_redaction.json", redaction),
];

fn yaml<'a>(case: &Case<'a>) -> &'a str {
    case.input()["yaml"].as_str().expect("a case of a file has its text")
}

fn manifest_file(case: &Case<'_>) -> Ours {
    match manifest::parse(yaml(case), "runtm.yaml", Mode::Compat) {
        Err(problems) => refused(case, &problems),
        Ok(manifest) => {
            accepted(case, &json!(manifest)).equal("to_dict", &manifest.to_value(), &case.expect()["to_dict"])
        }
    }
}

fn requests_file(case: &Case<'_>) -> Ours {
    match requests::parse(yaml(case), "runtm.requests.yaml", Mode::Compat) {
        Err(problems) => refused(case, &problems),
        Ok(requests) => accepted(case, &json!(requests))
            .equal("to_dict", &requests.to_value(), &case.expect()["to_dict"])
            .equal("is_empty", &json!(requests.is_empty()), &case.expect()["is_empty"])
            .equal("summary", &json!(requests.summary()), &case.expect()["summary"]),
    }
}

fn discovery_file(case: &Case<'_>) -> Ours {
    match discovery::parse(yaml(case), "runtm.discovery.yaml", Mode::Compat) {
        Err(problems) => refused(case, &problems),
        Ok(discovery) => accepted(case, &json!(discovery)).equal(
            "is_empty",
            &json!(discovery.is_empty()),
            &case.expect()["is_empty"],
        ),
    }
}

fn part(case: &Case<'_>) -> Ours {
    let model = case.input()["model"].as_str().expect("a case of a part names its model");
    match manifest::parse_part(model, &case.input()["data"], Mode::Compat) {
        None => Ours::refused("no-such-model").differs(format!("there is no part `{model}`")),
        Some(Ok(value)) => accepted(case, &value),
        Some(Err(problems)) => refused(case, &problems),
    }
}

fn accepted(case: &Case<'_>, normalized: &Value) -> Ours {
    let expect = case.expect();
    if expect["ok"] != true {
        return Ours::accepted().differs(format!("the original refuses it: {expect}"));
    }
    Ours::accepted().equal("normalized", normalized, &expect["normalized"])
}

/// The first problem is the one that the original names; of the others only where they are, and what.
fn refused(case: &Case<'_>, problems: &[Problem]) -> Ours {
    let first = &problems[0];
    let ours = Ours::refused(first.code.to_string());
    let expect = case.expect();
    if expect["ok"] == true {
        return ours.differs(format!("the original accepts it, ours: {first}"));
    }
    let kind = if first.code.starts_with("yaml-") {
        "yaml"
    } else if first.code == "file-not-a-mapping" {
        "shape"
    } else {
        "validation"
    };
    // An exception that the original does not document is a refusal like that of bad YAML.
    let original = if expect["kind"] == "uncaught" { "yaml" } else { expect["kind"].as_str().unwrap_or_default() };
    let ours = ours.equal("kind", &json!(kind), &json!(original));
    if kind != "validation" || original != "validation" {
        return ours;
    }
    let found: BTreeSet<(String, &str)> = problems
        .iter()
        .map(|problem| (problem.field.clone(), original_type(&problem.code).unwrap_or(&problem.code)))
        .collect();
    let wanted = expect["errors"].as_array().into_iter().flatten();
    let wanted: BTreeSet<(String, &str)> = wanted
        .map(|error| {
            (error["field"].as_str().unwrap_or_default().to_owned(), error["type"].as_str().unwrap_or_default())
        })
        .collect();
    ours.equal("field", &json!(first.field), &expect["field"])
        .equal("type", &json!(original_type(&first.code)), &expect["type"])
        .equal("errors", &json!(found), &json!(wanted))
}

fn redaction(case: &Case<'_>) -> Ours {
    let input = case.input();
    // The lists are parts of a manifest, so they are read as one.
    let whole = json!({
        "name": "a", "template": "docker", "env_schema": input["env_schema"], "connections": input["connections"],
    });
    match manifest::parse(&whole.to_string(), "runtm.yaml", Mode::Compat) {
        Err(problems) => refused(case, &problems),
        Ok(manifest) => {
            let names = |vars: Vec<&manifest::EnvVar>| json!(vars.iter().map(|var| &var.name).collect::<Vec<_>>());
            let query = input["query"].as_str().expect("a case asks for a connection");
            let expect = case.expect();
            Ours::accepted()
                .equal("secret", &names(manifest.secret_env_vars()), &expect["secret"])
                .equal("required", &names(manifest.required_env_vars()), &expect["required"])
                .equal(
                    "connection_env_vars",
                    &json!(manifest.connection_env_vars(query)),
                    &expect["connection_env_vars"],
                )
        }
    }
}
