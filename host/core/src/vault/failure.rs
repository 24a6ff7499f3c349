//! What a backend answers when it has no value: an absent secret, an absent tool, a tool that failed or did not answer.
//!
//! The original turns each of them into the default. Here only an absent secret gives way to one, so a backend says
//! `Ok(None)` for that while a default is possible, and [`absent`] where none is.

use super::{Backend, Location};
use crate::Error;
use crate::text::shown;

/// There is no such secret. `not-found` code `secret-absent`.
#[must_use]
pub fn absent(location: &Location) -> Error {
    let hint = match location.backend {
        Backend::Env => "set the variable",
        Backend::File => "write the file",
        Backend::Command | Backend::Gopass => "store it with the program that reads it",
        Backend::Keyring => "store it in the keyring",
    };
    Error::not_found("secret-absent", format!("secret `{location}` is not in its store")).hint(hint)
}

/// The tool that reads the store is not there. `unavailable` code `secret-tool-missing`.
#[must_use]
pub fn tool_missing(location: &Location, tool: &str) -> Error {
    Error::unavailable("secret-tool-missing", format!("secret `{location}`: `{}` is not there", shown(tool, 80)))
        .hint(format!("install it, or use another backend for the store `{}`", location.store.name))
}

/// The tool that reads the store failed. `why` must hold nothing that the tool printed on its standard output. `unavailable`
/// code `secret-tool-failed`.
#[must_use]
pub fn tool_failed(location: &Location, tool: &str, why: &str) -> Error {
    let (tool, why) = (shown(tool, 80), shown(why, 200));
    Error::unavailable("secret-tool-failed", format!("secret `{location}`: `{tool}` {why}"))
        .hint("run it by hand; unlock the store if it is locked")
}

/// The backend did not answer. `unavailable` code `secret-timeout`.
#[must_use]
pub fn timed_out(location: &Location) -> Error {
    let waited_ms = location.timeout_ms();
    Error::unavailable("secret-timeout", format!("secret `{location}`: no answer within {waited_ms} ms"))
        .hint("see whether it waits for a passphrase; `timeout_ms` of the store gives it longer")
}

/// The backend gave too much. `limit` code `secret-too-large`.
#[must_use]
pub fn too_large(location: &Location, bytes_max: u64) -> Error {
    Error::limit("secret-too-large", format!("secret `{location}` has more than {bytes_max} bytes"))
        .hint("name a key, not a file of other data")
}
