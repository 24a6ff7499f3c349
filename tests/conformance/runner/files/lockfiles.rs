//! Lock files checked without running anything.
//!
//! Files: `runtm_lockfiles.json`.
//!
//! A case names the files of a project and, for each package manager on the path, the exit code of its run. Ours runs nothing,
//! so the exit code becomes files: 0 a lock file that its manager wrote for the project, any other one that it wrote for
//! an older state of it. A manager that is not there says nothing about the files, so that they are in sync. What the
//! original ran (`ran`) has no counterpart: ours is always empty.

use std::collections::BTreeMap;

use midplane_core::lockfile::{Manager, Status, check, check_all};
use serde_json::{Value, json};

use crate::case::{Case, Check, Ours};

pub(super) const CHECKS: &[(&str, Check)] = &[("runtm_lockfiles.json", lockfiles)];

fn lockfiles(case: &Case<'_>) -> Ours {
    let input = case.input();
    let runtime = input["runtime"].as_str().unwrap_or_default();
    let tools = &input["tools"];
    let at_hand: Vec<Manager> = MANAGERS.iter().copied().filter(|manager| !tools[manager.as_str()].is_null()).collect();
    let mut files = BTreeMap::new();
    for (path, text) in input["files"].as_object().into_iter().flatten() {
        let text = generated(path, tools).map_or_else(|| text.as_str().unwrap_or_default().into(), <[u8]>::to_vec);
        files.insert(path.clone(), text);
    }

    let statuses = match input["op"].as_str() {
        Some("check_all") => check_all(runtime, &files, &at_hand),
        _ => vec![check(runtime, &files, &at_hand)],
    };
    let shown: Vec<Value> = statuses.iter().map(original_fields).collect();
    let expected = &case.expect()["status"];
    // The outcome is what ours says of the first lock file on which the two differ, as the original names it where ours
    // knows that one too; else of the first that needs a fix.
    let differing = (0..shown.len()).find(|at| Some(&shown[*at]) != expected.get(at));
    let all = check_all(runtime, &files, &at_hand);
    let told = match differing {
        Some(at) => {
            let named = |own: &&Status| expected[at]["lockfile_path"] == own.lockfile_path.as_str();
            all.iter().find(named).or(Some(&statuses[at]))
        }
        None => statuses.iter().find(|status| status.needs_fix()),
    };
    let ours = match told.filter(|status| status.needs_fix()) {
        None => Ours::accepted(),
        Some(status) => Ours::refused(status.problems()[0].code.clone()),
    };
    let ours = ours.equal("ok", &json!(true), &case.expect()["ok"]).equal("status", &json!(shown), expected);
    if input["op"] != "fix" {
        return ours;
    }

    // The original runs the install command. Ours shows it, and a person runs it: what it leaves behind, the project's file and
    // this manager's lock file, is checked again.
    let status = &statuses[0];
    let folder = |status: &Status| status.lockfile_path.rsplit_once('/').map(|(folder, _)| format!("{folder}/"));
    if tools[status.manager.as_str()] == 0 {
        let is_node = !matches!(status.manager, Manager::Uv | Manager::Poetry | Manager::Pip);
        let prefix = folder(status).unwrap_or_default();
        files.retain(|path, _| path.strip_prefix(&prefix).is_none_or(|name| name.contains('/')));
        let source = format!("{prefix}{}", if is_node { "package.json" } else { "pyproject.toml" });
        for path in [source, status.lockfile_path.clone()] {
            files.insert(path.clone(), generated(&path, tools).unwrap_or_default().to_vec());
        }
    }
    let again = check_all(runtime, &files, &at_hand).into_iter().find(|own| folder(own) == folder(status));
    let again = again.unwrap_or_else(|| check(runtime, &files, &at_hand));
    ours.equal("fixed", &json!(!again.needs_fix()), &case.expect()["fixed"])
}

/// The fields that the original has too.
fn original_fields(status: &Status) -> Value {
    let mut fields = serde_json::to_value(status).unwrap_or_default();
    if let Some(fields) = fields.as_object_mut() {
        ["state", "differences", "problem", "reason"].iter().for_each(|own| {
            fields.remove(*own);
        });
    }
    fields
}

const MANAGERS: [Manager; 7] =
    [Manager::Npm, Manager::Pnpm, Manager::Yarn, Manager::Bun, Manager::Uv, Manager::Poetry, Manager::Pip];

macro_rules! bytes {
    ($path:literal) => {
        include_bytes!(concat!("../../../../host/core/tests/lockfiles/", $path))
    };
}

/// What stands in a file of a project: files that the managers themselves wrote, all for the same two projects.
fn generated(path: &str, tools: &Value) -> Option<&'static [u8]> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let pair = |manager: Manager, in_sync: &'static [u8], drifted: &'static [u8]| {
        let exit = &tools[manager.as_str()];
        Some(if exit.is_null() || *exit == 0 { in_sync } else { drifted })
    };
    match name {
        "package.json" => Some(bytes!("npm-v3-in-sync/package.json")),
        "pyproject.toml" => Some(bytes!("poetry-2-in-sync/pyproject.toml")),
        "package-lock.json" => {
            pair(Manager::Npm, bytes!("npm-v3-in-sync/package-lock.json"), bytes!("npm-v3-drifted/package-lock.json"))
        }
        "npm-shrinkwrap.json" => pair(
            Manager::Npm,
            bytes!("npm-shrinkwrap-in-sync/npm-shrinkwrap.json"),
            bytes!("npm-shrinkwrap-drifted/npm-shrinkwrap.json"),
        ),
        "pnpm-lock.yaml" => {
            pair(Manager::Pnpm, bytes!("pnpm-v9-in-sync/pnpm-lock.yaml"), bytes!("pnpm-v9-drifted/pnpm-lock.yaml"))
        }
        "yarn.lock" => {
            pair(Manager::Yarn, bytes!("yarn-classic-in-sync/yarn.lock"), bytes!("yarn-classic-drifted/yarn.lock"))
        }
        "bun.lock" => pair(Manager::Bun, bytes!("bun-text-in-sync/bun.lock"), bytes!("bun-text-drifted/bun.lock")),
        "bun.lockb" => {
            pair(Manager::Bun, bytes!("bun-binary-in-sync/bun.lockb"), bytes!("bun-binary-drifted/bun.lockb"))
        }
        "uv.lock" => pair(Manager::Uv, bytes!("uv-in-sync/uv.lock"), bytes!("uv-drifted/uv.lock")),
        "poetry.lock" => {
            pair(Manager::Poetry, bytes!("poetry-2-in-sync/poetry.lock"), bytes!("poetry-2-drifted/poetry.lock"))
        }
        "requirements.lock" => pair(
            Manager::Pip,
            bytes!("requirements-uv-in-sync/requirements.lock"),
            bytes!("requirements-uv-drifted/requirements.lock"),
        ),
        _ => None,
    }
}
