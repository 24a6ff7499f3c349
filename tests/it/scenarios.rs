//! A folder is a test: `tests/scenarios/<name>/` has
//!
//! - `scenario.yaml`: `profile`, `args` of `midplane run`, `grants` given before, `config`, `env`, `exit`
//! - `task.yaml`, if the scenario runs a task file
//! - `workspace/`: copied to a fresh folder, in which the command is run with `--workspace .:rw` (or what `args` say)
//! - `expected.snap`: every event, what was printed, the exit code, and the workspace afterwards
//!
//! What differs from run to run (ids, times, digests of plugins, paths) is replaced by its name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::command::Home;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    /// Why there is this test.
    about: String,
    profile: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    grants: Vec<String>,
    #[serde(default)]
    config: Option<Value>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    exit: i32,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios")
}

#[test]
fn scenarios() {
    let mut names: Vec<_> =
        std::fs::read_dir(folder()).expect("scenarios").flatten().map(|entry| entry.path()).collect();
    names.sort();
    assert!(names.len() >= 8, "the scenarios are not there");
    for path in names {
        let name = path.file_name().expect("name").to_string_lossy().into_owned();
        let shown = play(&path);
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(&path);
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!("expected", shown, &name));
    }
}

fn play(path: &Path) -> String {
    let text = std::fs::read_to_string(path.join("scenario.yaml")).expect("scenario.yaml");
    let scenario: Scenario =
        midplane::core::yaml::parse(&text, &path.join("scenario.yaml").display().to_string(), "scenario")
            .expect("a scenario");
    let mut home = Home::new();
    if let Some(config) = &scenario.config {
        home = home.config(&config.to_string());
    }
    for (name, value) in &scenario.env {
        home = home.env(name, value);
    }
    let workspace = tempfile::tempdir().expect("workspace");
    copy(&path.join("workspace"), workspace.path());
    if !scenario.grants.is_empty() {
        let mut arguments = vec!["grant", "allow", &scenario.profile];
        arguments.extend(scenario.grants.iter().map(String::as_str));
        let granted = home.run(&arguments);
        assert_eq!(granted.code, Some(0), "{granted:?}");
    }
    let mut arguments = vec!["run".to_owned(), scenario.profile.clone(), "--json".to_owned()];
    arguments.extend(scenario.args.iter().map(|argument| argument.replace("SCENARIO", &path.display().to_string())));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = home.command(&arguments).current_dir(workspace.path()).output().expect("the command runs");
    let printed = crate::command::printed(output);
    let real = workspace.path().canonicalize().expect("path");
    let mut shown = format!("{}\n\n-- events\n", scenario.about);
    for mut record in printed.lines() {
        normalise(&mut record, &real, path);
        shown.push_str(&format!(
            "{} {} {}\n",
            record["seq"],
            record["kind"].as_str().unwrap_or_default(),
            record["data"]
        ));
    }
    let err =
        printed.err.replace(&real.display().to_string(), "WORKSPACE").replace(&path.display().to_string(), "SCENARIO");
    shown.push_str(&format!("-- stderr\n{err}-- exit {:?}\n-- workspace\n", printed.code));
    list(workspace.path(), workspace.path(), &mut shown);
    assert_eq!(printed.code, Some(scenario.exit), "{}: {shown}", path.display());
    shown
}

fn normalise(value: &mut Value, workspace: &Path, scenario: &Path) {
    match value {
        Value::Object(map) => {
            let of_sandbox = map.get("act").is_some_and(|act| act == "sandbox");
            for (name, field) in map.iter_mut() {
                match name.as_str() {
                    // Of this kernel.
                    "outcome" if of_sandbox => *field = Value::from("SANDBOX"),
                    "run_id" | "duration_ms" => *field = Value::from(name.to_uppercase()),
                    "task_id" if field.as_str().is_some_and(|id| id.starts_with("task-")) => {
                        *field = Value::from("TASK_ID")
                    }
                    // Of a plugin: it changes with every compiler. Digests of outputs stay: they are what is promised.
                    "plugin" => field["digest"] = Value::from("DIGEST"),
                    _ => normalise(field, workspace, scenario),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| normalise(item, workspace, scenario)),
        Value::String(text) => {
            *text = text.replace(&workspace.display().to_string(), "WORKSPACE");
            *text = text.replace(&scenario.display().to_string(), "SCENARIO");
            // The folder in which attachments are staged has the run's id for a name.
            if let Some((before, after)) = text.split_once(".midplane/") {
                *text = format!("{before}.midplane/RUN_ID{}", after.get(26..).unwrap_or_default());
            }
        }
        _ => {}
    }
}

fn copy(from: &Path, to: &Path) {
    let Ok(entries) = std::fs::read_dir(from) else { return };
    for entry in entries.flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir(&target).expect("folder");
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("file");
        }
    }
}

fn list(root: &Path, folder: &Path, shown: &mut String) {
    let mut entries: Vec<_> = std::fs::read_dir(folder).expect("folder").flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            list(root, &path, shown);
        } else {
            let text = std::fs::read_to_string(&path).unwrap_or_else(|_| "(binary)".to_owned());
            let name = path.strip_prefix(root).expect("below").display().to_string();
            shown.push_str(&format!(
                "[{name}]\n{text}{}",
                if text.ends_with('\n') || text.is_empty() { "" } else { "\n" }
            ));
        }
    }
}
