#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use midplane_core::ErrorKind;
use midplane_core::vault::Vault;
use serde_json::{Value, json};

use super::keeper::Keeper;
use super::*;

const VALUE: &str = "sk-live-0123456789";

/// A keeper of one secret `k` at a path in a store, for the role `research`.
fn keeper(store: Value, path: &str, env: &[(&str, &str)]) -> Keeper {
    let config = json!({
        "stores": {"s": store},
        "refs": {
            "k": {"store": "s", "path": path, "policy": "p"},
            "closed": {"store": "s", "path": path, "policy": "q"},
        },
        "policies": {"p": {"allowed_principals": ["research"]}, "q": {"allowed_principals": []}},
    });
    let env: BTreeMap<String, String> = env.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    Keeper::new(Vault::parse(&config, "config").unwrap(), "research").env(move |name| env.get(name).cloned())
}

/// What comes of `k`: its value, `-` where there is none, or the code and message of the error.
async fn outcome(keeper: &Keeper) -> String {
    match keeper.get("k", None).await {
        Ok(Some(value)) => format!("`{}`", value.expose_text().unwrap()),
        Ok(None) => "-".to_owned(),
        Err(error) => format!("{} {error}", error.code),
    }
}

/// A folder with a script by this name in it.
fn tool(name: &str, script: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn path_with(folder: &Path) -> String {
    format!("{}:/usr/local/bin:/usr/bin:/bin", folder.display())
}

#[tokio::test]
async fn variables() {
    let env = [("RED_KEY", " value\n"), ("EMPTY", " "), ("OTHER", "o")];
    let store = |root: &str| json!({"backend": "env", "root": root});
    let mut seen = Vec::new();
    for (root, path) in [("RED_", "KEY"), (".", "OTHER"), (".", "EMPTY"), ("RED_", "NONE"), (".", "A=B")] {
        seen.push(outcome(&keeper(store(root), path, &env)).await);
    }
    assert_eq!(seen, ["`value`", "`o`", "-", "-", "-"]);
}

#[tokio::test]
async fn files_of_a_store_and_of_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (root, outside) = (folder.path().join("red"), folder.path().join("black"));
    std::fs::create_dir_all(root.join("sub")).unwrap();
    std::fs::write(&outside, "leak").unwrap();
    std::fs::write(root.join("sub/key"), "value\n").unwrap();
    std::fs::write(root.join("large"), vec![b'x'; 70_000]).unwrap();
    symlink("sub/key", root.join("inside")).unwrap();
    symlink(&outside, root.join("escape")).unwrap();
    symlink("../black", root.join("climb")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("pipe"), rustix::fs::Mode::RUSR).unwrap();
    let store = |root: &Path| json!({"backend": "file", "root": root});
    let mut seen = Vec::new();
    for path in ["sub/key", "inside", "none", "sub/none", "large", "escape", "climb", "pipe", "sub", "sub/key/x"] {
        seen.push(format!("{path}: {}", outcome(&keeper(store(&root), path, &[])).await));
    }
    seen.push(format!("no store: {}", outcome(&keeper(store(&root.join("gone")), "k", &[])).await));
    let home = root.to_str().unwrap();
    let below_home = json!({"backend": "file", "root": "~/sub"});
    seen.push(format!("home: {}", outcome(&keeper(below_home.clone(), "key", &[("HOME", home)])).await));
    seen.push(format!("no home: {}", outcome(&keeper(below_home, "key", &[])).await));
    insta::assert_snapshot!(seen.join("\n").replace(home, "[red]"));
    assert!(!seen.join("\n").contains("leak"));
}

#[tokio::test]
async fn gopass_as_it_answers() {
    let cases = [
        ("asked", r#"echo "$*""#),
        ("environment", "env | cut -d= -f1 | grep -v -e PWD -e SHLVL -e '^_$' | sort | tr '\\n' ' '"),
        ("value", "printf '  one\\ntwo \\n\\n'"),
        ("absent by its words", "echo 'Error: failed to retrieve: entry is not in the password store' >&2; exit 11"),
        ("absent by its older words", "echo 'Entry is not in the password store' >&2; exit 1"),
        ("empty", "exit 10"),
        ("locked", "echo 'gpg: decryption failed: sk-live-0123456789' >&2; exit 11"),
        ("killed", "kill -9 $$"),
        ("too large", "head -c 70000 /dev/zero"),
        ("talkative", "head -c 300000 /dev/zero >&2; echo said"),
        ("leaves someone behind", "sleep 60 & echo done"),
    ];
    let mut seen = Vec::new();
    for (what, script) in cases {
        let folder = tool("gopass", script);
        let path = path_with(folder.path());
        let env = [("PATH", path.as_str()), ("HOME", "/h"), ("GNUPGHOME", "/g"), ("SECRET_OF_HOST", "x")];
        let store = json!({"backend": "gopass", "root": "-x"});
        seen.push(format!("{what}: {}", outcome(&keeper(store, "p/k", &env)).await));
    }
    let store = json!({"backend": "gopass", "root": "mxm"});
    seen.push(format!("not installed: {}", outcome(&keeper(store, "p/k", &[("PATH", "/nowhere")])).await));
    insta::assert_snapshot!(seen.join("\n"));
    assert!(!seen.join("\n").contains(VALUE));
}

#[tokio::test]
async fn a_command_of_the_operator() {
    let folder = tool("show", r#"[ "$1" = --fail ] && exit 3; printf '%s|' "$@"; printf '%s' "$NAMED""#);
    let path = path_with(folder.path());
    let env = [("PATH", path.as_str()), ("NAMED", "n"), ("UNNAMED", "u")];
    let store = |command: Value| json!({"backend": "command", "root": "-r", "command": command, "env": ["NAMED", "UNSET"], "absent_exit": [3]});
    let commands = [
        json!(["show", "--", "{path}"]),
        json!(["show", "--item={path}", "x"]),
        json!(["show", "{path}"]),
        json!(["show", "--fail", "--", "{path}"]),
        json!([]),
        json!(["./show", "--", "{path}"]),
        json!(["no-such-tool", "{path}"]),
    ];
    let mut seen = Vec::new();
    for command in commands {
        seen.push(format!("{command}: {}", outcome(&keeper(store(command.clone()), "p;$(id)", &env)).await));
    }
    insta::assert_snapshot!(seen.join("\n"));
}

#[tokio::test]
async fn a_program_that_hangs_is_ended_with_all_that_it_started() {
    let folder = tool("gopass", "sleep 600 & echo $! > \"$HOME/child\"; echo sk-live-0123456789; wait");
    let (path, home) = (path_with(folder.path()), folder.path().to_str().unwrap().to_owned());
    let env = [("PATH", path.as_str()), ("HOME", home.as_str())];
    let store = json!({"backend": "gopass", "root": "mxm", "timeout_ms": 1500});
    let keeper = keeper(store, "p/k", &env);
    let error = keeper.get("k", Some(SecretValue::new("default"))).await.unwrap_err();
    assert_eq!((error.kind, error.code.as_ref()), (ErrorKind::Unavailable, "secret-timeout"));
    assert!(!error.message.contains(VALUE));
    let child: i32 = std::fs::read_to_string(folder.path().join("child")).unwrap().trim().parse().unwrap();
    let child = rustix::process::Pid::from_raw(child).unwrap();
    // Signals are handed out by the kernel in its own time.
    let began = Instant::now();
    while rustix::process::test_kill_process(child).is_ok() && !is_zombie(child) {
        assert!(began.elapsed() < Duration::from_secs(60), "the child is alive");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whether a process has ended and waits to be reaped by whoever adopted it.
fn is_zombie(pid: rustix::process::Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit(") ").next().is_none_or(|rest| rest.starts_with('Z'))
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_keyring_of_the_kernel_answers_or_says_why_not() {
    use linux_keyutils::{KeyRing, KeyRingIdentifier};
    let path = format!("midplane-test/{}", std::process::id());
    let keeper = keeper(json!({"backend": "keyring", "root": "test/"}), &path, &[]);
    let absent = keeper.get("k", None).await;
    for ring in [KeyRingIdentifier::Session, KeyRingIdentifier::User] {
        match KeyRing::from_special_id(ring, false).and_then(|ring| ring.add_key(&format!("test/{path}"), VALUE)) {
            Ok(key) => {
                let found = keeper.require("k").await;
                key.invalidate().unwrap();
                assert_eq!(found.unwrap().expose_text(), Some(VALUE));
                assert!(matches!(absent, Ok(None)), "{absent:?}");
                assert_eq!(keeper.require("k").await.unwrap_err().code, "secret-absent");
            }
            // A sandbox that refuses the system calls: then nothing can be read either, or nothing is there.
            Err(fault) => {
                eprintln!("the keyring {ring:?} of this system cannot be used: {fault}");
                assert!(absent.as_ref().map_or_else(|error| error.kind == ErrorKind::Unavailable, Option::is_none));
            }
        }
    }
}

#[tokio::test]
async fn what_is_denied_has_no_other_value() {
    let env = [("KEY", VALUE), ("NAME", VALUE)];
    let keeper = keeper(json!({"backend": "env", "root": "."}), "KEY", &env);
    let denied = keeper.get("closed", Some(SecretValue::new("default"))).await.unwrap_err();
    assert_eq!((denied.kind, denied.code.as_ref()), (ErrorKind::Denied, "secret-denied"));

    let references =
        [("NAME", "vault:closed"), ("OPEN", "vault:k"), ("LOST", "vault:none"), ("ODD", "sk-live-0123456789")];
    let references: BTreeMap<String, String> =
        references.into_iter().map(|(name, reference)| (name.to_owned(), reference.to_owned())).collect();
    let env = |name: &str| (name == "NAME").then(|| VALUE.to_owned());
    let with = References::new(references.clone(), Arc::new(env), Some(keeper));
    let without = References::new(references, Arc::new(env), None);
    let mut seen = Vec::new();
    for (whose, source) in [("with", with), ("without", without)] {
        for name in ["NAME", "OPEN", "LOST", "ODD", "UNSET"] {
            let (value, resolution) = source.resolve(name).await;
            let audit = resolution.map(|resolution| {
                let audit = resolution.audit();
                format!(" [{} {} {}]", audit.act, audit.target, audit.outcome)
            });
            let shown = match value {
                Ok(value) => format!("{value}"),
                Err(error) => format!("{} {}: {error}", error.kind, error.code),
            };
            seen.push(format!("{whose} {name}: {shown}{}", audit.unwrap_or_default()));
        }
    }
    // What was written in place of a reference is shown, as far as an operator needs to find it.
    insta::assert_snapshot!(seen.join("\n"));
}

#[tokio::test]
async fn a_reference_to_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("key"), "value\n").unwrap();
    std::fs::write(at("empty"), "\n").unwrap();
    std::fs::write(at("large"), vec![b'x'; 70_000]).unwrap();
    symlink("key", at("link")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), rustix::fs::Mode::RUSR).unwrap();
    let mut seen = Vec::new();
    for name in ["key", "link", "empty", "large", "pipe", "none", "."] {
        let reference = ("K".to_owned(), format!("file:{}", at(name).display()));
        let source = References::new([reference].into(), Arc::new(|_| None), None);
        seen.push(match source.resolve("K").await.0 {
            Ok(value) => format!("{name}: `{}`", value.expose_text().unwrap()),
            Err(error) => format!("{name}: {} {error}", error.code),
        });
    }
    insta::assert_snapshot!(seen.join("\n").replace(folder.path().to_str().unwrap(), "[folder]"));
}
