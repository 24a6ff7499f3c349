//! Builds the guest that is measured, as `host/runtime/build.rs` builds the first-party plugins: by a nested `cargo` with
//! the target folder of all guests.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    let here =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR for a build script"));
    let root = here.ancestors().nth(2).expect("the crate lies two folders below the workspace").to_owned();
    for input in ["tests/guests/bench", "sdk/rust/src", "sdk/rust/Cargo.toml", "wit/v0", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR for a build script"));
    // <target>/<profile>/build/<package>/out: the folder above all profiles.
    let target = out.ancestors().nth(4).expect("OUT_DIR lies that deep below the target folder").join("guests");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(&root)
        .args(["build", "--package", "guest-bench", "--profile", "guest", "--target", "wasm32-wasip2", "--target-dir"])
        .arg(&target);
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
    assert!(status.success(), "the guest did not build; if the target is missing: `rustup target add wasm32-wasip2`");
    let built = target.join("wasm32-wasip2/guest/guest_bench.wasm");
    std::fs::copy(&built, out.join("guest.wasm"))
        .unwrap_or_else(|error| panic!("{} was not built: {error}", built.display()));
}
