//! The commands about a project's files: `check`, `requests`, `explain`, `schema`. Whole outputs, as a person sees them.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use crate::command::{Home, Printed, printed};

/// A project: file names and texts.
fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("folder");
        std::fs::write(path, text).expect("file");
    }
    folder
}

fn run(folder: &Path, arguments: &[&str]) -> Printed {
    // No package manager at hand, so that what is suggested is the same everywhere.
    let home = Home::new().env("PATH", "/nonexistent");
    printed(home.command(arguments).current_dir(folder).output().expect("the command runs"))
}

/// The command line, the exit code, and all that was printed.
fn shown(arguments: &[&str], printed: &Printed) -> String {
    let code = printed.code.map_or_else(|| "none".to_owned(), |code| code.to_string());
    format!("$ midplane {}\nexit {code}\n{}{}\n", arguments.join(" "), printed.out, printed.err)
}

const MANIFEST: &str = "\
# What we ship.
name: shop
template: web-app
runtime: node
env_schema:
  - name: API_URL # the shop's own
    type: url
";
const PACKAGE: &str = r#"{"name": "shop", "version": "1.0.0", "dependencies": {"ms": "^2.1.2"}}"#;
const LOCK: &str = r#"{"name": "shop", "version": "1.0.0", "lockfileVersion": 3, "packages": {
  "": {"name": "shop", "version": "1.0.0", "dependencies": {"ms": "^1.0.0"}},
  "node_modules/ms": {"version": "1.0.0"}
}}"#;
const REQUESTS: &str = "\
requested:
  features: {database: true}
  env_vars:
    - {name: STRIPE_KEY, secret: true, reason: payments}
  egress_allowlist: [api.stripe.com]
notes: [\"tests pass without it\"]
";

#[test]
fn check_says_all_that_is_wrong_and_where() {
    let sound = project(&[("runtm.yaml", MANIFEST)]);
    let drifted = project(&[("runtm.yaml", MANIFEST), ("package.json", PACKAGE), ("package-lock.json", LOCK)]);
    let broken = project(&[
        ("runtm.yaml", "name: shop\ntemplate: web-app\nruntime: node\nport: [80\n"),
        ("runtm.requests.yaml", "requested: {features: {databse: true}}\n"),
        ("plugin.toml", "name = 5\n"),
        ("other.yaml", "name: Shop\n"),
    ]);
    std::fs::write(broken.path().join("runtm.discovery.yaml"), b"summary: caf\xe9\n").expect("file");
    let rows: &[(&Path, &[&str])] = &[
        (sound.path(), &["check"]),
        (sound.path(), &["check", "--json"]),
        (drifted.path(), &["check"]),
        (drifted.path(), &["check", "package-lock.json", "--json"]),
        (broken.path(), &["check"]),
        (broken.path(), &["check", "plugin.toml"]),
        (broken.path(), &["check", "other.yaml"]),
        (broken.path(), &["check", "other.yaml", "--as", "manifest"]),
        (broken.path(), &["check", "other.yaml", "--as", "manifest", "--compat"]),
        (broken.path(), &["check", "no/runtm.yaml"]),
        (broken.path(), &["check", "-"]),
    ];
    let texts: Vec<String> = rows.iter().map(|(folder, words)| shown(words, &run(folder, words))).collect();
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn check_reads_standard_input() {
    let home = Home::new();
    let mut child =
        home.command(&["check", "-", "--as", "manifest"]).stdin(Stdio::piped()).spawn().expect("the command starts");
    child.stdin.take().expect("a pipe").write_all(MANIFEST.as_bytes()).expect("written");
    let printed = printed(child.wait_with_output().expect("the command ends"));
    assert_eq!((printed.code, printed.out.as_str()), (Some(0), "<stdin>: ok\n"), "{}", printed.err);
}

#[test]
fn requests_are_shown_and_merged_after_a_yes() {
    let folder = project(&[("runtm.yaml", MANIFEST), ("runtm.requests.yaml", REQUESTS)]);
    let manifest = || std::fs::read_to_string(folder.path().join("runtm.yaml")).expect("manifest");
    let mut texts = Vec::new();
    let mut then = |words: &[&str]| texts.push(shown(words, &run(folder.path(), words)));
    then(&["requests", "show"]);
    then(&["requests", "apply"]);
    assert_eq!(manifest(), MANIFEST, "nobody said yes");
    then(&["requests", "apply", "--yes"]);
    texts.push(manifest());
    let mut then = |words: &[&str]| texts.push(shown(words, &run(folder.path(), words)));
    // What is there is not asked for again, and the result is sound.
    then(&["requests", "apply", "--yes", "--json"]);
    then(&["check", "runtm.yaml"]);
    std::fs::write(
        folder.path().join("runtm.requests.yaml"),
        "requested: {env_vars: [{name: API_URL, type: number}]}\n",
    )
    .expect("file");
    then(&["requests", "apply", "--yes"]);
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn codes_and_schemas_are_explained() {
    let folder = tempfile::tempdir().expect("folder");
    let rows: &[&[&str]] = &[
        &["explain", "lock-drifted"],
        &["explain", "[lock-drifted]", "--json"],
        &["explain", "MANIFEST_NOT_FOUND"],
        &["explain", "lock-drifed"],
        &["schema"],
        &["schema", "manifests"],
    ];
    let texts: Vec<String> = rows.iter().map(|words| shown(words, &run(folder.path(), words))).collect();
    insta::assert_snapshot!(texts.join("\n"));
    for name in ["manifest", "requests", "discovery"] {
        let schema = run(folder.path(), &["schema", name]).json();
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    }
    let listed = run(folder.path(), &["explain", "--json"]).json();
    assert!(listed.as_array().expect("a list").len() > 200, "{listed}");
}
