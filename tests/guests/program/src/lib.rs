//! A native program that plays a vendor's program from a script, so that an adapter can be tested against all that such a
//! program may say and do without any vendor's program being there.
//!
//! # Layout
//! - [`script`]: the steps, as JSON
//! - `play.rs`: what each step does
//! - `socket.rs`: a websocket that it serves
//! - `record.rs`: what was seen, one JSON object a line, written as it happens so that a kill loses nothing
//! - this file: where the script is found; [`install`] and [`records`] for the tests that use it
//!
//! # How it is started
//! An adapter chooses arguments and environment, so the script stands beside the program: `DIR/claude` reads
//! `DIR/claude.json`. [`install`] makes the pair. `MIDPLANE_PROGRAM_SCRIPT` names another file.
//!
//! # How it ends
//! With the script's code when its steps are done; with [`EXIT_UNEXPECTED`] when it read something else than it expected,
//! with [`EXIT_SCRIPT`] when the script is wrong, both with a line on stderr and in the record.
//!
//! # What it never does
//! It knows no vendor and no protocol. It opens no connection but those that a step names.

#![forbid(unsafe_code)]

mod http;
mod pattern;
mod play;
mod record;
pub mod script;
mod socket;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

use script::Script;

/// The script when it does not stand beside the program.
pub const SCRIPT_VARIABLE: &str = "MIDPLANE_PROGRAM_SCRIPT";
/// It read what its script does not expect.
pub const EXIT_UNEXPECTED: u8 = 97;
/// There is no script, or it is wrong.
pub const EXIT_SCRIPT: u8 = 98;

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    let script = script_path().and_then(|path| {
        let text = std::fs::read_to_string(&path).map_err(|error| format!("`{}`: {error}", path.display()))?;
        Script::parse(&text).map_err(|error| format!("`{}`: {error}", path.display()))
    });
    match script {
        Ok(script) => ExitCode::from(play::play(&script)),
        Err(error) => {
            eprintln!("guest-program: {error}");
            ExitCode::from(EXIT_SCRIPT)
        }
    }
}

/// Puts the program under a name into a folder, with its script beside it, and gives its path. A script that is there is
/// replaced, so that a second start can play another.
///
/// # Errors
/// When the folder cannot be written.
pub fn install(program: &Path, folder: &Path, name: &str, script: &Value) -> std::io::Result<PathBuf> {
    let path = folder.join(name);
    if !path.exists() {
        // A link costs nothing, but is not possible between file systems.
        std::fs::hard_link(program, &path).or_else(|_| std::fs::copy(program, &path).map(drop))?;
    }
    std::fs::write(beside(&path), script.to_string())?;
    Ok(path)
}

/// The record that a program has written, in order; empty when there is none. A last line that a kill has cut is left out.
#[must_use]
pub fn records(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn script_path() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os(SCRIPT_VARIABLE) {
        return Ok(path.into());
    }
    // The name that it was started by is asked first: behind a symbolic link the executable is another file.
    let started = std::env::args_os().next().map(PathBuf::from).filter(|path| path.components().count() > 1);
    let candidates: Vec<PathBuf> =
        started.into_iter().chain(std::env::current_exe().ok()).map(|path| beside(&path)).collect();
    let found = candidates.iter().find(|path| path.exists()).cloned();
    found.ok_or_else(|| format!("no script: looked for {candidates:?} and `{SCRIPT_VARIABLE}`"))
}

fn beside(program: &Path) -> PathBuf {
    let mut name = program.as_os_str().to_owned();
    name.push(".json");
    name.into()
}
