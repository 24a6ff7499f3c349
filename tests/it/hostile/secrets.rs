//! A server that gives the guest the credential of its own request, in disguises; the guest puts what it gets wherever it
//! can. That the secret is nowhere (events, log lines, all files of the host) is checked after every test; here, that it
//! was sent at all, and that the guest got something in its place.

use midplane::core::task::WorkspaceAccess::ReadWrite;

use super::harness::{Row, Seen, row};
use super::places::{TOKEN, disguises};
use super::rows::rows;

/// Slow on purpose: many small reads, each an event.
const ECHO: Row = Row {
    grants: &["secret:TOKEN"],
    workspace: Some(ReadWrite),
    limits: &[("cpu_ms_max", 5_000)],
    check: Some(sent_and_hidden),
    ..row("", "done")
};

rows! {
    hostile_secret_plain: Row { goal: "secret_echo /echo/plain", ..ECHO };
    hostile_secret_base64: Row { goal: "secret_echo /echo/base64", ..ECHO };
    hostile_secret_base64url: Row { goal: "secret_echo /echo/base64url", ..ECHO };
    hostile_secret_hex: Row { goal: "secret_echo /echo/hex", ..ECHO };
    hostile_secret_hex_upper: Row { goal: "secret_echo /echo/hex_upper", ..ECHO };
    hostile_secret_percent: Row { goal: "secret_echo /echo/percent", ..ECHO };
    hostile_secret_split: Row { goal: "secret_echo /echo/split", ..ECHO };
    hostile_secret_split_base64: Row { goal: "secret_echo /echo/split_base64", ..ECHO };
    hostile_secret_twice: Row { goal: "secret_echo /echo/twice", ..ECHO };
    hostile_secret_json: Row { goal: "secret_echo /echo/json", ..ECHO };
    hostile_secret_all: Row { goal: "secret_echo /echo/all", ..ECHO };
    hostile_secret_header: Row { goal: "secret_echo /echo/header", ..ECHO };
    hostile_secret_status: Row { goal: "secret_echo /echo/status_400", ..ECHO };
    hostile_secret_error: Row { goal: "secret_error /echo/all", end: "failed: unavailable echoed", ..ECHO };
    hostile_secret_blob: Row { goal: "secret_blob /echo/all", ..ECHO };
    hostile_secret_child: Row {
        goal: "secret_child",
        grants: &["secret:TOKEN", "command:sh", "command:sleep"],
        end: "failed: denied secret",
        check: None,
        ..ECHO
    };
}

fn sent_and_hidden(seen: &Seen) {
    let sent = seen.granted_requests.iter().any(|request| request.header("x-token") == [TOKEN]);
    assert!(sent, "the credential was not applied, so that nothing was tested");
    let written = std::fs::read_to_string(seen.workspace.join("spread.txt")).unwrap_or_default();
    let error = seen.outcome.error.as_ref().map_or("", |error| error.message.as_str());
    let output = format!("{}{error}{written}", seen.outcome.output);
    assert!(!output.is_empty(), "the guest got nothing");
    for (name, disguise) in disguises(TOKEN) {
        assert!(!output.contains(&disguise), "as {name} in {output}");
    }
}
