//! The rules of the workspace: which crate may name what, and that the contract's released lines stay as they are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("two folders down").to_owned()
}

/// Direct dependencies (not those of tests) of each host crate.
fn dependencies(manifest: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(manifest)).expect("manifest");
    let manifest: toml::Table = text.parse().expect("toml");
    let names = |key: &str| {
        let table = manifest.get(key).and_then(toml::Value::as_table);
        table.map(|table| table.keys().cloned().collect::<Vec<_>>()).unwrap_or_default()
    };
    names("dependencies")
}

/// Each crate may know one outside vocabulary; the reason stands beside the rule.
#[test]
fn seams() {
    // Crate, what it must not depend on, why.
    let rules: [(&str, &[&str], &str); 6] = [
        (
            "host/core",
            &["tokio", "async-trait", "wasmtime", "rusqlite", "hyper", "cap-std", "getrandom", "tracing"],
            "core is pure: no I/O, no clock, no runtime",
        ),
        (
            "host/engine",
            &["midplane-store", "midplane", "rusqlite", "hyper", "cap-std", "clap"],
            "the engine has no policy and no transport",
        ),
        ("host/store", &["midplane-engine", "midplane", "wasmtime", "hyper", "clap"], "the store only keeps"),
        (
            "host/runtime",
            &["wasmtime", "wasmtime-wasi", "rusqlite", "clap", "axum"],
            "the library knows no command line and no HTTP server",
        ),
        (
            "host/cli",
            &["wasmtime", "rusqlite", "midplane-engine", "midplane-store", "hyper"],
            "the command uses the library",
        ),
        (
            "sdk/rust",
            &["tokio", "midplane-core", "midplane-engine", "midplane"],
            "WIT is the only schema at the border",
        ),
    ];
    let mut broken = Vec::new();
    for (name, forbidden, why) in rules {
        for dependency in dependencies(&format!("{name}/Cargo.toml")) {
            if forbidden.contains(&dependency.as_str()) {
                broken.push(format!("{name} depends on {dependency}: {why}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// What is shipped: the crates of the host, the SDK, and every plugin.
fn shipped() -> Vec<String> {
    let fixed = ["host/core", "host/engine", "host/store", "host/runtime", "host/cli", "sdk/rust"].map(str::to_owned);
    let plugins = std::fs::read_dir(root().join("plugins")).expect("plugins");
    let plugins = plugins.map(|entry| format!("plugins/{}", entry.expect("an entry").file_name().display()));
    let mut all: Vec<String> = fixed.into_iter().chain(plugins).collect();
    all.sort();
    all
}

/// One crate alone names each of these.
#[test]
fn fenced_dependencies_have_one_home() {
    let homes = BTreeMap::from([
        ("wasmtime", "host/engine"),
        ("wasmtime-wasi", "host/engine"),
        ("rusqlite", "host/store"),
        ("clap", "host/cli"),
        ("hyper", "host/runtime"),
        ("jsonschema", "host/core"),
    ]);
    for name in shipped() {
        for dependency in dependencies(&format!("{name}/Cargo.toml")) {
            if let Some(home) = homes.get(dependency.as_str()) {
                assert_eq!(*home, name, "{dependency} belongs to {home}");
            }
        }
    }
}

/// Every dependency of the host and the plugins says on its line, or above it, why it is there.
#[test]
fn dependencies_have_reasons() {
    let mut silent = Vec::new();
    for name in shipped() {
        let text = std::fs::read_to_string(root().join(&name).join("Cargo.toml")).expect("manifest");
        let mut listed = false;
        let mut above = "";
        for line in text.lines() {
            if line.starts_with('[') {
                listed = line.ends_with("dependencies]");
            } else if listed
                && line.contains('=')
                && !line.trim_start().starts_with('#')
                && !line.contains(" # ")
                && !above.trim_start().starts_with('#')
            {
                silent.push(format!("{name}: {line}"));
            }
            above = line;
        }
    }
    assert!(silent.is_empty(), "dependencies without a reason:\n{}", silent.join("\n"));
}

/// The crates that cannot forbid unsafe code, with how many places they have.
#[test]
fn unsafe_code_stands_where_it_must() {
    let mut found = Vec::new();
    for name in ["host/core", "host/engine", "host/store", "host/runtime", "host/cli", "sdk/rust"] {
        let head = std::fs::read_to_string(root().join(name).join("src").join(if name == "host/cli" {
            "main.rs"
        } else {
            "lib.rs"
        }))
        .expect("head");
        if !head.contains("#![forbid(unsafe_code)]") {
            found.push(name);
        }
    }
    // The engine loads native code that it compiled itself; that is one expression, argued where it stands.
    assert_eq!(found, ["host/engine"]);
}

/// One file of a released line: its digest over the text without doc comments and blank lines.
fn frozen_digest(text: &str) -> String {
    let code: Vec<&str> = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.trim_start().starts_with("///") && !line.trim().is_empty())
        .collect();
    midplane::core::Digest::of(code.join("\n").as_bytes()).to_string()
}

/// Compares a folder of WIT with a `FROZEN` file of lines `version file digest`; what does not hold.
fn check_frozen(frozen: &str, folder: &Path) -> Vec<String> {
    let mut broken = Vec::new();
    for line in frozen.lines().filter(|line| !line.trim().is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [version, file, digest] = words[..] else {
            broken.push(format!("`{line}` is not `version file digest`"));
            continue;
        };
        match std::fs::read_to_string(folder.join(file)) {
            Err(error) => broken.push(format!("{file} of {version}: {error}")),
            Ok(text) if frozen_digest(&text) != digest => broken.push(format!(
                "{file} differs from the released {version}: a released line does not change; add a release by the table in wit/README.md instead"
            )),
            Ok(_) => {}
        }
    }
    broken
}

#[test]
fn released_lines_are_frozen() {
    let frozen = std::fs::read_to_string(root().join("wit/FROZEN")).expect("wit/FROZEN");
    assert_eq!(check_frozen(&frozen, &root().join("wit/v0")), Vec::<String>::new());
}

/// The test above would notice: proven on a line that is made here.
#[test]
fn a_frozen_line_notices_a_change_and_lets_comments_be() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("a.wit");
    let text = "/// Doc.\ninterface a {\n\n  f: func();\n}\n";
    std::fs::write(&file, text).expect("write");
    let frozen = format!("0.1.0 a.wit {}\n", frozen_digest(text));
    assert!(check_frozen(&frozen, folder.path()).is_empty());
    std::fs::write(&file, text.replace("/// Doc.", "/// Better.\n")).expect("write");
    assert!(check_frozen(&frozen, folder.path()).is_empty(), "comments may change");
    std::fs::write(&file, text.replace("f: func()", "f: func(x: u32)")).expect("write");
    let broken = check_frozen(&frozen, folder.path());
    assert!(broken.len() == 1 && broken[0].contains("add a release"), "{broken:?}");
    std::fs::remove_file(&file).expect("remove");
    assert_eq!(check_frozen(&frozen, folder.path()).len(), 1);
}

/// An adapter of a model's HTTP API is the vendor's translation and little else: what it shares with another is the SDK's.
#[test]
fn adapters_of_http_apis_are_small() {
    for name in ["anthropic", "openai", "gemini"] {
        let mut code_lines = 0;
        visit(&root().join(format!("plugins/agent-{name}/src")), &mut |path| {
            if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs") {
                let text = std::fs::read_to_string(path).expect("source");
                let lines = text.lines().map(str::trim);
                code_lines += lines.filter(|line| !line.is_empty() && !line.starts_with("//")).count();
            }
        });
        assert!((100..=600).contains(&code_lines), "agent-{name} has {code_lines} lines of code of its own");
    }
}

/// What a snapshot test left to be reviewed was not reviewed.
#[test]
fn no_snapshot_is_pending() {
    let mut pending = Vec::new();
    visit(&root(), &mut |path| {
        if path.extension().is_some_and(|extension| extension == "new") && path.to_string_lossy().contains(".snap") {
            pending.push(path.to_owned());
        }
    });
    assert!(pending.is_empty(), "review these snapshots: {pending:?}");
}

fn visit(folder: &Path, seen: &mut impl FnMut(&Path)) {
    for entry in std::fs::read_dir(folder).expect("folder").flatten() {
        let name = entry.file_name();
        if entry.path().is_dir() {
            if name != "target" && name != ".git" && name != "node_modules" {
                visit(&entry.path(), seen);
            }
        } else {
            seen(&entry.path());
        }
    }
}
