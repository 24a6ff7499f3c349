//! The three files in both modes, their schemas, and proposals merged.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::json;

use super::manifest::Manifest;
use super::requests::{Merged, apply};
use super::*;
use crate::problem::Problem;
use crate::schema::Schema;

const FULL: &str = "\
# what is deployed
name: shop-api
template: web-app
runtime: fullstack
health_path: /healthz?deep=1
port: 3000
tier: performance
env_schema:
  - name: DATABASE_URL # the main one
    type: url
    required: true
    secret: true
    description: \"main: database\"
  - {name: LOG_LEVEL, default: info}
  - name: WORKERS
    type: number
    default: '4'
  - {name: AUTH_SECRET, secret: true, required: true}
connections:
  - name: postgres
    env_vars: [DATABASE_URL]
policy:
  mode: prod
  egress: allowlist
  egress_allowlist:
    - api.stripe.com
    - '*.example.com'
features:
  database: true
  auth: true
volumes:
  - name: cache
    path: /cache
    size_gb: 10
";

const REQUESTS: &str = "\
requested:
  features: {database: true, reason: it keeps users}
  env_vars:
    - {name: API_KEY, secret: true, required: true, reason: prices}
    - name: MODE
      description: 'how: it runs'
  egress_allowlist: [api.prices.example]
  connections:
    - name: prices
      env_vars: [API_KEY]
notes: [the page is slow]
";

const DISCOVERY: &str = "\
summary: Event handler
capabilities: [validates signatures]
tags: [stripe]
api: {openapi_path: /openapi.json, endpoints: [POST /hook], auth: none}
generated: {by: someone, at: 2025-01-02T03:04:05Z}
owner: me
";

const SMALL: &str = "name: a\ntemplate: docker\n";

fn lines(problems: &[Problem]) -> String {
    let mut out = String::new();
    for problem in problems {
        out += &format!("{problem} [{}]\n", problem.code);
        if let Some(hint) = &problem.hint {
            out += &format!("    {hint}\n");
        }
    }
    out
}

fn strict(text: &str) -> Result<Manifest, Vec<Problem>> {
    manifest::parse(text, "runtm.yaml", Mode::Strict)
}

/// A text as JSON, as far as a schema sees it.
fn as_json(text: &str) -> serde_json::Value {
    let mut reader = table::Reader::new("", Mode::Strict);
    value::read(text, &mut reader).expect("it reads").to_json()
}

#[test]
fn a_broken_manifest_tells_all() {
    let text = "\
name: Shop_API
template: backend-servce
runtime: pyton
port: 80800
helth_path: /x
env_schema:
  - name: 1ST
  - name: TOKEN
    secret: true
    default: abc
  - {name: PORT, type: number, default: eighty}
  - {name: PORT, required: yes}
connections:
  - {name: db, env_vars: [TOKN]}
policy:
  egress_allowlist: [http://x.example/]
features: {auth: true}
volumes:
  - {name: a, path: /etc/app}
  - {name: b, path: /data/../x, size_gb: 0.5}
port: 80
tier: 017
";
    insta::assert_snapshot!(lines(&strict(text).unwrap_err()));
}

#[test]
fn strict_refuses_what_the_original_lets_pass() {
    let base = "name: a\ntemplate: backend-service\nruntime: python\n";
    let refused: Vec<(&str, &str)> = vec![
        ("env_schema: [{name: X}, {name: X}]\n", "duplicate-name"),
        ("env_schema: [{name: É}]\n", "env-name"),
        ("env_schema: [{name: X, type: number, default: abc}]\n", "env-default-type"),
        ("env_schema: [{name: X, type: url, default: localhost}]\n", "env-default-type"),
        ("env_schema: [{name: X, type: boolean, default: perhaps}]\n", "env-default-type"),
        (
            "env_schema: [{name: X}]\nconnections: [{name: c, env_vars: [X]}, {name: c, env_vars: [X]}]\n",
            "duplicate-name",
        ),
        ("env_schema: [{name: X}]\nconnections: [{name: C, env_vars: [X]}]\n", "connection-name"),
        ("env_schema: [{name: X}]\nconnections: [{name: c, env_vars: [X, X]}]\n", "duplicate-item"),
        ("volumes: [{name: v, path: /a}, {name: v, path: /b}]\n", "duplicate-name"),
        ("volumes: [{name: v, path: /a}, {name: w, path: /a}]\n", "duplicate-path"),
        ("volumes: [{path: /etc}]\n", "volume-path"),
        ("volumes: [{path: //}]\n", "volume-path"),
        ("volumes: [{path: /data/../..}]\n", "volume-path"),
        ("volumes: [{path: /data/}]\n", "volume-path"),
        ("policy: {egress: allowlist, egress_allowlist: ['http://a b/']}\n", "egress-host"),
        ("policy: {egress: allowlist, egress_allowlist: ['']}\n", "egress-host"),
        ("policy: {egress: allowlist, egress_allowlist: ['*']}\n", "egress-host"),
        ("policy: {egress_allowlist: [a.example]}\n", "egress-unused"),
        ("policy: {egress: allowlist, egress_allowlist: [a.example, a.example]}\n", "duplicate-item"),
        ("health_path: //evil.example\n", "health-path"),
        ("health_path: \"/a\\r\\nX: y\"\n", "health-path"),
        ("port: 1\nport: 2\n", "yaml-duplicate-key"),
        ("port: '80'\n", "not-a-whole-number"),
        ("port: true\n", "not-a-whole-number"),
        ("port: 80.0\n", "not-a-whole-number"),
        ("port: 8:30\n", "yaml-ambiguous"),
        ("port: 017\n", "yaml-ambiguous"),
        ("features: {database: 1}\n", "not-a-boolean"),
        ("features: {database: yes}\n", "yaml-ambiguous"),
        ("env_schema: [{name: X, description: 2024-01-01}]\n", "yaml-ambiguous"),
        ("env_schema: [{name: X, description: !!binary aGk=}]\n", "not-text"),
        ("<<: {port: 1}\n", "yaml-value"),
        ("volumes: &v [*v]\n", "yaml-syntax"),
        ("volumes: !!set {a, b}\n", "yaml-tag"),
        ("? [a]\n: 1\n", "key-not-text"),
    ];
    for (more, code) in refused {
        let problems = strict(&format!("{base}{more}")).unwrap_err();
        assert!(problems.iter().any(|problem| problem.code == code), "{more:?}: {}", lines(&problems));
        assert!(problems.iter().all(|problem| problem.at.is_some()), "{more:?}: {}", lines(&problems));
    }
    for name in ["Upper", "a_b", "café", "-a", "a-", &"a".repeat(64)] {
        let problems = strict(&format!("name: '{name}'\ntemplate: docker\n")).unwrap_err();
        assert_eq!(problems[0].code, "app-name", "{name}");
    }
    let auth = "name: a\ntemplate: web-app\nruntime: node\nfeatures: {auth: true, database: true}\n";
    let open = format!("{auth}env_schema: [{{name: AUTH_SECRET, required: true}}]\n");
    assert_eq!(strict(&open).unwrap_err()[0].code, "auth-secret");
    assert!(manifest::parse(&open, "", Mode::Compat).is_ok());
    // A runtime that means nothing to the template must at least be one.
    assert_eq!(strict("name: a\ntemplate: docker\nruntime: rust\n").unwrap_err()[0].code, "unknown-runtime");
}

#[test]
fn documents_that_are_none() {
    for (text, code) in [("", "file-not-a-mapping"), ("- a\n", "file-not-a-mapping"), ("a: [\n", "yaml-syntax")] {
        for mode in [Mode::Strict, Mode::Compat] {
            assert_eq!(manifest::parse(text, "f", mode).unwrap_err()[0].code, code);
            assert_eq!(requests::parse(text, "f", mode).unwrap_err()[0].code, code);
        }
    }
    let nothing = discovery::parse("# nothing yet\n", "f", Mode::Strict).unwrap();
    assert!(nothing.is_empty());
}

#[test]
fn strict_reads_examples_as_the_original_does_and_schemas_hold() {
    let files = [("manifest", FULL), ("manifest", SMALL), ("requests", REQUESTS), ("discovery", DISCOVERY)];
    for (name, text) in files {
        let both = [Mode::Strict, Mode::Compat].map(|mode| match name {
            "manifest" => manifest::parse(text, "f", mode).map(|file| json!(file)),
            "requests" => requests::parse(text, "f", mode).map(|file| json!(file)),
            _ => discovery::parse(text, "f", mode).map(|file| json!(file)),
        });
        let [strict, compat] = both.map(|file| file.unwrap_or_else(|problems| panic!("{}", lines(&problems))));
        assert_eq!(strict, compat);
        let schema = schema(name).unwrap();
        let schema = Schema::new(&schema).unwrap();
        assert_eq!(schema.problems(&as_json(text), ""), Vec::<String>::new(), "{name}");
    }
    let manifest = Schema::new(&schema("manifest").unwrap()).unwrap();
    for (text, why) in [
        ("name: a\ntemplate: docker\nreplicas: 1\n", "an unknown key"),
        ("name: a\ntemplate: docker\nvolumes: [{mount: /a}]\n", "an unknown key below"),
        ("name: a\n", "a missing key"),
        ("name: A\ntemplate: docker\n", "a name"),
        ("name: a\ntemplate: docker\nport: 0\n", "a port"),
        ("name: a\ntemplate: docker\nenv_schema: [{name: X, type: int}]\n", "a type"),
    ] {
        assert!(!manifest.problems(&as_json(text), "").is_empty(), "{why}");
    }
    let requests = Schema::new(&schema("requests").unwrap()).unwrap();
    assert!(!requests.problems(&as_json("requested: {env_vars: [{name: A, default: x}]}\n"), "").is_empty());
    assert!(SCHEMAS.iter().all(|name| schema(name).is_some()));
    assert_eq!(schema("lock"), None);
}

#[test]
fn what_is_written_reads_as_the_same() {
    for text in [FULL, SMALL] {
        let manifest = strict(text).unwrap();
        assert_eq!(strict(&manifest.to_yaml()), Ok(manifest));
    }
    let asked = requests::parse(REQUESTS, "f", Mode::Strict).unwrap();
    assert_eq!(requests::parse(&asked.to_yaml(), "f", Mode::Strict), Ok(asked));
    let found = discovery::parse(DISCOVERY, "f", Mode::Strict).unwrap();
    assert_eq!(discovery::parse(&found.to_yaml(), "f", Mode::Strict), Ok(found));
}

#[test]
fn codes_are_kebab_case_and_once() {
    let mut seen = std::collections::BTreeSet::new();
    for code in CODES {
        assert!(seen.insert(code.code), "{}", code.code);
        assert!(code.code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
    }
    assert_eq!(original_type("field-missing"), Some("missing"));
    assert_eq!(original_type("app-name"), Some("value_error"));
    assert_eq!(original_type("yaml-syntax"), None);
    assert_eq!(original_type("nobody-knows"), None);
}

fn merged(manifest: &str, requests: &str) -> Result<Merged, Vec<Problem>> {
    let requests = requests::parse(requests, "runtm.requests.yaml", Mode::Strict).unwrap();
    apply(&requests, manifest, "runtm.yaml")
}

#[test]
fn proposals_keep_the_text() {
    let cases = [
        ("the full one", FULL),
        ("no list yet, no newline at the end", "name: a # mine\ntemplate: docker # too\n# the end"),
        (
            "lists without indentation",
            "name: a\nenv_schema:\n- name: X\n  type: url\n\n# about the rest\ntemplate: docker\n",
        ),
        (
            "lists in brackets",
            "name: a\ntemplate: docker\nenv_schema: [{name: X}]\nfeatures: {auth: false}\nconnections: []\n",
        ),
        (
            "JSON",
            r#"{"name": "a", "template": "docker", "env_schema": [{"name": "X"}], "features": {"database": false}}"#,
        ),
        (
            "a comment in brackets",
            "name: a\ntemplate: docker\nenv_schema: [\n  {name: X}, # mine\n]\nfeatures: { # none\n}\n",
        ),
        ("an anchor", "name: a\ntemplate: docker\nenv_schema: &e\n  - name: X\nconnections: []\n"),
    ];
    let mut out = String::new();
    for (what, text) in cases {
        let result = merged(text, REQUESTS).unwrap_or_else(|problems| panic!("{what}: {}", lines(&problems)));
        out += &format!("==== {what}\n{}----\n{}\n", result.text, result.changes.join("\n"));
        // Once more, there is nothing left to do.
        let again = merged(&result.text, REQUESTS).unwrap();
        assert_eq!((again.changes.len(), &again.text), (0, &result.text), "{what}");
    }
    insta::assert_snapshot!(out);
}

#[test]
fn proposals_that_contradict_are_refused() {
    let manifest = "name: a\ntemplate: docker\nenv_schema:\n  - {name: API_KEY, type: url}\nconnections:\n  - {name: prices, env_vars: [API_KEY]}\n";
    let requests = "requested:\n  env_vars: [{name: API_KEY, secret: true}, {name: B}]\n  connections: [{name: prices, env_vars: [API_KEY, B]}]\n";
    let mut out = lines(&merged(manifest, requests).unwrap_err());
    // What would come out must be right too.
    out += &lines(&merged(manifest, "requested: {features: {auth: true}}\n").unwrap_err());
    out += &lines(&merged(manifest, "requested: {connections: [{name: c, env_vars: [NOT_THERE]}]}\n").unwrap_err());
    out += &lines(&merged("name: A\n", "requested: {}\n").unwrap_err());
    insta::assert_snapshot!(out);
}

#[test]
fn features_can_be_switched_off() {
    let off = merged(FULL, "requested: {features: {auth: false}}\n").unwrap();
    assert_eq!(off.changes, ["feature `auth`: switched off"]);
    assert_eq!(off.text, FULL.replace("auth: true", "auth: false"));
    let requests = requests::parse("requested: {features: {auth: false}}\n", "f", Mode::Strict).unwrap();
    assert_eq!((requests.is_empty(), requests.summary().as_str()), (false, "Pending: features: no auth"));
}

#[test]
fn proposals_keep_the_line_breaks() {
    let merged = merged("name: a\r\ntemplate: docker", "requested: {features: {database: true}}\n").unwrap();
    assert_eq!(merged.text, "name: a\r\ntemplate: docker\r\nfeatures:\r\n  database: true\r\n");
}

/// The schemas, read once.
static READ_SCHEMAS: LazyLock<Vec<Schema>> =
    LazyLock::new(|| SCHEMAS.iter().map(|name| Schema::new(&schema(name).unwrap()).unwrap()).collect());

/// Texts near the border between what is accepted and what is not.
fn almost() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "name: a\n",
        "name: my-app\n",
        "name: 'A b'\n",
        "name: no\n",
        "template: docker\n",
        "template: web-app\n",
        "runtime: node\n",
        "port: 80\n",
        "port: '80'\n",
        "port: 0o17\n",
        "port: 8_0\n",
        "tier: pro\n",
        "tier: \"pro\"\n",
        "health_path: /x\n",
        "env_schema: [{name: A}, {name: B, type: number, default: '1'}]\n",
        "env_schema:\n- name: A\n  secret: true\n",
        "connections: [{name: c, env_vars: [A]}]\n",
        "features: {database: true}\n",
        "features: {database: on}\n",
        "policy: {egress: allowlist, egress_allowlist: [a.example]}\n",
        "policy:\n",
        "volumes: [{path: /x, size_gb: 2}]\n",
        "volumes:\n  - {}\n",
        "x: &a 1\n",
        "port: *a\n",
        "<<: {port: 9}\n",
        "# c\n",
        "\t",
        "{",
        "}",
        "[",
        "]",
        ": ",
        "- ",
        "\"",
        "'",
        "\u{85}",
        "!!str ",
        "? ",
        "&b ",
        "2024-01-01",
        "é",
        "---\n",
    ]);
    prop::collection::vec(piece, 0..9).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_text_panics_and_strict_means_what_compat_means(text in almost()) {
        for (name, schema) in SCHEMAS.into_iter().zip(READ_SCHEMAS.iter()) {
            let [strict, compat] = [Mode::Strict, Mode::Compat].map(|mode| match name {
                "manifest" => manifest::parse(&text, "f", mode).map(|file| json!(file)),
                "requests" => requests::parse(&text, "f", mode).map(|file| json!(file)),
                _ => discovery::parse(&text, "f", mode).map(|file| json!(file)),
            });
            if let Ok(strict) = strict {
                prop_assert_eq!(Ok(strict), compat);
                // An empty discovery file is fine, and no object.
                let seen = Some(as_json(&text)).filter(serde_json::Value::is_object).unwrap_or(json!({}));
                prop_assert_eq!(schema.problems(&seen, ""), Vec::<String>::new());
            }
        }
        if let Ok(manifest) = strict(&text) {
            prop_assert_eq!(strict(&manifest.to_yaml()), Ok(manifest));
            let asked = requests::parse(REQUESTS, "f", Mode::Strict).unwrap();
            if let Ok(merged) = apply(&asked, &text, "f") {
                prop_assert_eq!(apply(&asked, &merged.text, "f").unwrap().changes, Vec::<String>::new());
            }
        }
    }

    #[test]
    fn any_text_survives_writing(description in any::<String>(), default in any::<String>()) {
        let mut manifest = strict(FULL).unwrap();
        manifest.env_schema[1].description = Some(description);
        manifest.env_schema[1].default = Some(default);
        prop_assert_eq!(strict(&manifest.to_yaml()), Ok(manifest));
    }

    #[test]
    fn noise_is_refused_with_a_problem(text in ".{0,40}") {
        for mode in [Mode::Strict, Mode::Compat] {
            if let Err(problems) = manifest::parse(&text, "f", mode) {
                prop_assert!(!problems.is_empty());
            }
            let _ = requests::parse(&text, "f", mode);
            let _ = discovery::parse(&text, "f", mode);
        }
    }
}
