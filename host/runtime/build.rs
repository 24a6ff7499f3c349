//! Builds the first-party plugins for `wasm32-wasip2` and hands their bytes to the crate.
//!
//! They are members of this workspace, built by a nested `cargo` with a target folder of its own (`target/guests`): the
//! outer build holds the lock of the usual one, and the two share no artifact anyway.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Packages below `plugins/` that are embedded, in the order of `FIRST_PARTY`.
const PLUGINS: [&str; 2] = ["agent-playbook", "agent-anthropic"];

fn main() {
    let root = workspace();
    for input in ["plugins", "sdk/rust/src", "sdk/rust/Cargo.toml", "wit/v0", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR for a build script"));
    // <target>/<profile>/build/<package>/out: the folder above all profiles.
    let target = out.ancestors().nth(4).expect("OUT_DIR lies that deep below the target folder").join("guests");
    build(&root, &target);
    for plugin in PLUGINS {
        let file = format!("{}.wasm", plugin.replace('-', "_"));
        let built = target.join("wasm32-wasip2/guest").join(&file);
        std::fs::copy(&built, out.join(&file)).unwrap_or_else(|error| panic!("{} was not built: {error}", built.display()));
    }
}

fn build(root: &Path, target: &Path) {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(root)
        .args(["build", "--profile", "guest", "--target", "wasm32-wasip2", "--target-dir"])
        .arg(target)
        .args(PLUGINS.iter().flat_map(|plugin| ["--package", plugin]));
    // What was set for the outer build is for this machine's processor and its lints, not for a guest.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let outer = text.starts_with("CARGO_PROFILE_")
            || text.starts_with("CARGO_TARGET_")
            || ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTC"]
                .contains(&text.as_ref());
        if outer {
            cargo.env_remove(&name);
        }
    }
    let status = cargo.status().unwrap_or_else(|error| panic!("cargo cannot be started: {error}"));
    assert!(
        status.success(),
        "the first-party plugins did not build; if the target is missing: `rustup target add wasm32-wasip2`"
    );
}

fn workspace() -> PathBuf {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR for a build script"));
    here.ancestors().nth(2).expect("the crate lies two folders below the workspace").to_owned()
}
