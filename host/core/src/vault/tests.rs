use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::ErrorKind;

fn config() -> Value {
    json!({
        "stores": {
            "red": {"backend": "gopass", "root": "mxm/red/"},
            "black": {"backend": "vault", "root": "mxm/black"},
        },
        "refs": {
            "key": {"store": "red", "path": "p/k", "policy": "some"},
            "closed": {"store": "red", "path": "p/k", "policy": "nobody"},
            "climbs": {"store": "red", "path": "../black/x", "policy": "some"},
            "odd": {"store": "black", "path": "x", "policy": "some"},
            "lost": {"store": "blue", "path": "x", "policy": "some"},
            "free": {"store": "red", "path": "x", "policy": "none"},
            "lost_closed": {"store": "blue", "path": "/x", "policy": "nobody"},
        },
        "policies": {
            "some": {"allowed_principals": ["research", "marketdata"]},
            "nobody": {"allowed_principals": []},
        },
    })
}

fn vault() -> Vault {
    Vault::parse(&config(), "config").expect("a vault")
}

#[test]
fn who_may_have_what() {
    let vault = vault();
    let mut shown = Vec::new();
    for name in ["key", "closed", "climbs", "odd", "lost", "free", "lost_closed", "kay", "zzz"] {
        for role in ["research", "execution", "prefect-worker"] {
            shown.push(match vault.authorise(name, role) {
                Ok(location) => format!("{name} {role}: {location} at {}", location.full_path),
                Err(error) => {
                    format!("{name} {role}: {} {error} | {}", error.code, error.hint.as_deref().unwrap_or("-"))
                }
            });
        }
    }
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn only_an_absent_secret_gives_way_to_a_default() {
    let vault = vault();
    let default = || Some(SecretValue::new("default"));
    let text = |value: Option<SecretValue>| value.map(|value| value.expose_text().expect("text").to_owned());
    let found = vault.get("key", "research", default(), |_| Ok(Some(SecretValue::new(" v\u{a0}\u{1f}\n"))));
    assert_eq!(text(found.expect("found")).as_deref(), Some("v"));
    let empty = vault.get("key", "research", default(), |_| Ok(Some(SecretValue::new("\n"))));
    assert_eq!(text(empty.expect("empty")).as_deref(), Some(""));
    let absent = vault.get("key", "research", default(), |_| Ok(None));
    assert_eq!(text(absent.expect("absent")).as_deref(), Some("default"));
    assert!(vault.get("key", "research", None, |_| Ok(None)).expect("absent").is_none());
    let broken = vault.get("key", "research", default(), |location| Err(failure::tool_missing(location, "gopass")));
    assert_eq!(broken.expect_err("no tool").code, "secret-tool-missing");
    let denied = vault.get("closed", "research", default(), |_| panic!("a denied secret was read"));
    assert_eq!(denied.expect_err("denied").kind, ErrorKind::Denied);
}

#[test]
fn a_location_does_not_show_its_path() {
    let location = vault().authorise("key", "research").expect("allowed");
    assert_eq!(format!("{location} {location:?}"), "red:key Location(red:key by gopass)");
    let failures = [
        failure::absent(&location),
        failure::tool_missing(&location, "gopass"),
        failure::tool_failed(&location, "gopass", "ended with code 1"),
        failure::timed_out(&location),
        failure::too_large(&location, 9),
    ];
    assert!(failures.iter().all(|error| !error.message.contains("p/k")));
    assert!(failures.iter().all(|error| CODES.iter().any(|code| code.code == error.code && code.kind == error.kind)));
}

#[test]
fn all_problems_of_a_configuration() {
    let broken = json!({
        "stores": {
            "Red": {"backend": "go pass", "root": " x"},
            "a": 1,
            "b": {"root": 5, "env": "X", "timeout_ms": 0, "absent_exit": [1, 256, "2"], "command": ["", 1]},
        },
        "refs": {"k-1": {"store": "", "path": "p "}, "z": null},
        "policies": {"p": {"allowed_principals": ["a", "b-c", "a", 1]}, "q": {}, "r": {"allowed_principals": "a"}},
    });
    let mut shown = Vec::new();
    for config in [broken, json!({"stores": []}), json!([])] {
        let problems = Vault::parse(&config, "config").expect_err("broken");
        shown.extend(problems.iter().map(|problem| format!("{} {problem}", problem.code)));
        shown.push(String::new());
    }
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn what_would_fail_at_first_use() {
    let mut config = config();
    config["extra"] = json!(1);
    config["stores"]["red"]["colour"] = json!("red");
    config["stores"]["red"]["command"] = json!(["x"]);
    config["stores"]["tool"] = json!({"backend": "command", "root": "r"});
    config["stores"]["tool2"] = json!({"backend": "command", "root": "r", "command": ["show", "all"]});
    config["stores"]["near"] = json!({"backend": "keyrin", "root": "r"});
    let vault = Vault::parse(&config, "config").expect("a vault");
    let problems = vault.check("config");
    let shown: Vec<String> = problems
        .iter()
        .map(|problem| format!("{} {problem} | {}", problem.code, problem.hint.as_deref().unwrap_or("-")))
        .collect();
    insta::assert_snapshot!(shown.join("\n"));
    assert!(problems.iter().all(|problem| CODES.iter().any(|code| code.code == problem.code)));
}

proptest! {
    /// Whatever the path, what comes out lies below the root.
    #[test]
    fn no_path_leaves_its_store(path in "[a./\\\\ -]{0,12}|\\PC{0,12}") {
        let store = vault().stores()["red"].clone();
        if let Ok(full) = store.resolve_path(&path) {
            let mut depth = 0_i32;
            for part in full.strip_prefix("mxm/red/").expect("below the root").split(['/', '\\']) {
                depth += match part { ".." => -1, "" | "." => 0, _ => 1 };
                prop_assert!(depth >= 0, "{}", full);
            }
        }
    }

    /// No configuration makes it panic, and one that is taken can be checked and asked.
    #[test]
    fn any_configuration_is_answered(
        name in "[a-z_-]{0,3}", path in "\\PC{0,6}", root in "\\PC{0,6}", role in "[a-zA-Z_-]{0,3}", number in any::<i64>(),
    ) {
        let config = json!({
            "stores": {name.as_str(): {"backend": "file", "root": root, "timeout_ms": number}},
            "refs": {name.as_str(): {"store": name, "path": path, "policy": name}},
            "policies": {name.as_str(): {"allowed_principals": [role.as_str()]}},
        });
        if let Ok(vault) = Vault::parse(&config, "config") {
            let sound = vault.check("config").is_empty();
            prop_assert_eq!(sound, vault.authorise(&name, &role).is_ok());
        }
    }
}
