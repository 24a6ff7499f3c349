//! Builds guests for `wasm32-wasip2` from a build script, which takes this file as a module by its path.
//!
//! They are members of this workspace, built by a nested `cargo` with a target folder of its own (`target/guests`): the
//! outer build holds the lock of the usual one, and the two share no artifact anyway.

use std::env;
use std::path::PathBuf;
use std::process::Command;

/// Builds these packages and gives the components, copied to the script's `OUT_DIR`, in the same order. `inputs` are the
/// files and folders below the root of the workspace that the packages are made of, beside the SDK and the contract.
pub(crate) fn build(packages: &[&str], inputs: &[&str]) -> Vec<PathBuf> {
    let here =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR for a build script"));
    let root = here.ancestors().nth(2).expect("the crate lies two folders below the workspace");
    for input in inputs.iter().chain(&["sdk/rust/src", "sdk/rust/Cargo.toml", "wit/v0", "Cargo.lock"]) {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR for a build script"));
    // <target>/<profile>/build/<package>/out: the folder above all profiles.
    let target = out.ancestors().nth(4).expect("OUT_DIR lies that deep below the target folder").join("guests");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(root)
        .args(["build", "--profile", "guest", "--target", "wasm32-wasip2", "--target-dir"])
        .arg(&target)
        .args(packages.iter().flat_map(|package| ["--package", package]));
    // What was set for the outer build is for this machine's processor and its lints, not for a guest.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let outer = text.starts_with("CARGO_PROFILE_")
            || text.starts_with("CARGO_TARGET_")
            || [
                "RUSTFLAGS",
                "CARGO_ENCODED_RUSTFLAGS",
                "CARGO_BUILD_TARGET",
                "RUSTC_WRAPPER",
                "RUSTC_WORKSPACE_WRAPPER",
                "RUSTC",
            ]
            .contains(&text.as_ref());
        if outer {
            cargo.env_remove(&name);
        }
    }
    let status = cargo.status().unwrap_or_else(|error| panic!("cargo cannot be started: {error}"));
    assert!(status.success(), "the guests did not build; if the target is missing: `rustup target add wasm32-wasip2`");
    let kept = packages.iter().map(|package| {
        let file = format!("{}.wasm", package.replace('-', "_"));
        let (built, kept) = (target.join("wasm32-wasip2/guest").join(&file), out.join(&file));
        std::fs::copy(&built, &kept).unwrap_or_else(|error| panic!("{} was not built: {error}", built.display()));
        kept
    });
    kept.collect()
}
