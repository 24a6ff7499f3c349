//! Identity, context and secrets as a user meets them: on the command line, and in a run.

use std::os::unix::fs::PermissionsExt as _;

use midplane::Keeper;
use midplane::core::vault::Vault;
use serde_json::{Value, json};

use crate::command::{Home, Printed};
use crate::script_server::{ScriptServer, answer, message, sse_text, text};
use crate::world::{KEY, Setup, request};

const CONFIG: &str = "\
vault:
  stores:
    red: {backend: gopass, root: mxm/red, timeout_ms: 1500}
    here: {backend: env, root: RED_}
  refs:
    good: {store: red, path: good, policy: desk}
    absent: {store: red, path: absent, policy: desk}
    broken: {store: red, path: broken, policy: desk}
    slow: {store: red, path: slow, policy: desk}
    closed: {store: here, path: CLOSED, policy: nobody}
    variable: {store: here, path: KEY, policy: desk}
  policies:
    desk: {allowed_principals: [research]}
    nobody: {allowed_principals: []}
databases: {main: {host: db.example.com}}
";

const GOPASS: &str = r#"#!/bin/sh
[ "$1 $2 $3" = 'show -o --' ] || exit 2
case "$4" in
mxm/red/good) echo sk-live-0123456789 ;;
mxm/red/slow) echo sk-live-0123456789; sleep 600 ;;
mxm/red/broken) echo 'gpg: sk-live-0123456789' >&2; exit 11 ;;
*) echo 'Error: entry is not in the password store' >&2; exit 11 ;;
esac
"#;

/// A home with a configuration and a `gopass` on its path.
fn home() -> Home {
    let home = Home::new().config(CONFIG);
    let tools = home.path().join("tools");
    std::fs::create_dir(&tools).expect("a folder");
    let gopass = tools.join("gopass");
    std::fs::write(&gopass, GOPASS).expect("a script");
    std::fs::set_permissions(&gopass, std::fs::Permissions::from_mode(0o755)).expect("permissions");
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", tools.display());
    home.env("PATH", &path).env("RED_KEY", "sk-live-9876543210").env("RED_CLOSED", "sk-live-9876543210")
}

fn shown(command: &str, printed: &Printed) -> String {
    assert!(!format!("{printed:?}").contains("sk-live"), "a value is shown: {printed:?}");
    format!("$ midplane {command}\n{}{}-- exit {:?}\n\n", printed.out, printed.err, printed.code)
}

#[test]
fn secrets_are_listed_and_checked_without_their_values() {
    let home = home();
    let commands = [
        "secret list --role research",
        "secret check --role research",
        "secret check good --role research",
        "secret check variable --role research --json",
        "secret check good --role execution",
        "secret check good --role prefect-worker",
        "secret check god --role research",
    ];
    let mut all = String::new();
    for command in commands {
        let words: Vec<&str> = command.split(' ').collect();
        all.push_str(&shown(command, &home.run(&words)));
    }
    let without = home.env("PATH", "/nowhere");
    all.push_str(&shown("secret check good", &without.run(&["secret", "check", "good", "--role", "research"])));
    insta::assert_snapshot!(all);
}

#[test]
fn an_identity_and_a_context_say_where_they_come_from() {
    let home = home().env("MIDPLANE_ROLE", "research");
    let identity = home.run(&["identity", "--json", "--environment", "dev"]);
    assert_eq!(identity.code, Some(0), "{identity:?}");
    let document = identity.json();
    assert_eq!(
        (&document["identity"]["role"], &document["identity"]["environment"]),
        (&json!("research"), &json!("dev"))
    );
    let source = |field: &str| {
        let sources = document["sources"].as_array().expect("a list");
        sources.iter().find(|source| source["field"] == field).map(|source| source["source"].clone())
    };
    assert_eq!(source("role"), Some(json!("variable `MIDPLANE_ROLE`")));
    assert_eq!(source("environment"), Some(json!("stated")));
    assert_eq!(source("app"), Some(json!("usual")));
    assert!(document["facts"]["substrates"][0]["confidence"].is_string(), "{document}");
    // The text names the same.
    let explained = home.run(&["identity", "--explain"]);
    assert!(explained.out.contains("variable `MIDPLANE_ROLE`") && explained.out.contains("host name"), "{explained:?}");

    let context = home.run(&["context", "--explain", "--json"]);
    assert_eq!(context.code, Some(0), "{context:?}");
    let document = context.json();
    assert_eq!(document["databases"], json!(["main"]));
    assert_eq!(document["secrets"], json!(["absent", "broken", "closed", "good", "slow", "variable"]));
    let value = |path: &str| {
        let values = document["values"].as_array().expect("a list");
        values.iter().find(|value| value["path"] == path).cloned().unwrap_or(Value::Null)
    };
    let host = value("databases.main.host");
    assert_eq!(
        (&host["value"], &host["origin"]),
        (&json!("db.example.com"), &json!(format!("{}/config.yaml:15:26 (layer default)", home.path().display())))
    );
}

#[test]
fn a_wrong_identity_or_configuration_is_refused_with_its_place() {
    let mut all = String::new();
    for arguments in [
        &["identity", "--app", "../x"][..],
        &["identity", "--role", " "],
        &["context", "--substrate", "no-such-substrate"],
    ] {
        let printed = home().run(arguments);
        // What is found out differs from machine to machine.
        let found = printed.err.split(" but is ").next().unwrap_or_default().to_owned();
        all.push_str(&format!("{arguments:?}: {} -- exit {:?}\n", found.trim_end(), printed.code));
    }
    for config in ["vault: {stores: {}}\n", "vault:\n  stores: {}\n  refs:\n    K: {}\n  policies: {}\n", "paths: 1\n"]
    {
        let home = Home::new().config(config);
        let printed = home.run(&["context"]);
        let said = printed.err.replace(&home.path().display().to_string(), "[home]");
        all.push_str(&format!("{config:?}: {said}-- exit {:?}\n", printed.code));
    }
    insta::assert_snapshot!(all);
}

/// A vault whose secret the role `research` may have, from a variable.
fn keeper(role: &str) -> Keeper {
    let config = json!({
        "stores": {"here": {"backend": "env", "root": "RED_"}},
        "refs": {"claude": {"store": "here", "path": "KEY", "policy": "desk"}},
        "policies": {"desk": {"allowed_principals": ["research"]}},
    });
    let vault = Vault::parse(&config, "config").expect("a vault");
    Keeper::new(vault, role).env(|name| (name == "RED_KEY").then(|| KEY.to_owned()))
}

#[tokio::test]
async fn a_run_has_a_secret_of_the_vault_and_its_log_says_so() {
    let server = ScriptServer::start(|_, request| {
        assert_eq!(request.header("x-api-key"), [KEY]);
        answer(
            "200 OK",
            &[("content-type", "text/event-stream")],
            &[&sse_text(&message(vec![text(0, &["done"])], "end_turn"))],
        )
    })
    .await;
    let setup = |role: &str| Setup::new(&server.url()).key(None).vault("claude", keeper(role));
    let world = setup("research").open().await;
    let ran = world.run(world.task("hello")).await;
    assert_eq!(ran.text(), "done", "{}", ran.error());
    let mut audits = ran.notifications("audit");
    audits.retain(|audit| audit["act"] == "secret" && audit["target"] == "here:claude for research");
    assert_eq!(audits.len(), 1, "{:?}", ran.notifications("audit"));
    assert_eq!(audits[0]["outcome"], "ok");
    assert!(!serde_json::to_string(&ran.records).expect("JSON").contains(KEY));

    // The variable of the secret's own name is no way around the policy.
    let world = Setup::new(&server.url()).vault("claude", keeper("execution")).open().await;
    let refusal = world.host.run(request(world.task("hello"))).await.err().expect("refused");
    assert_eq!(refusal.error.code, "secret-denied");
    assert_eq!(server.requests().len(), 1);
}
