//! Those that do not want to end: spinning, sleeping, waiting for the host in every import that waits, trapping; and the
//! `cancel` of the instance beside them, misbehaving as well.
//!
//! How long each takes is printed; how long it may take is measured by the bench.

use midplane::core::task::WorkspaceAccess::ReadWrite;

use super::harness::{Row, Seen, row};
use super::rows::rows;

const CANCEL: Row = Row { cancel: true, limits: &[("cpu_ms_max", 60_000)], ..row("", "interrupted") };
const LATE: Row =
    Row { timeout_ms: Some(300), limits: &[("cpu_ms_max", 60_000)], ..row("", "timed_out: cancelled deadline") };
const WITH_SHELL: Row = Row { grants: &["shell"], workspace: Some(ReadWrite), ..CANCEL };
const WITH_CHILD: Row = Row { grants: &["command:sh"], workspace: Some(ReadWrite), ..CANCEL };

rows! {
    hostile_cancel_heard: Row { goal: "cancel_heard s", ..CANCEL };
    hostile_cancel_spin: Row { goal: "cancel_spin s", ..CANCEL };
    hostile_cancel_spin_deaf: Row { goal: "cancel_spin_deaf s", ..CANCEL };
    hostile_cancel_sleep: Row { goal: "cancel_sleep s", ..CANCEL };
    hostile_cancel_next: Row { goal: "cancel_next s", ..CANCEL };
    hostile_cancel_http_head: Row { goal: "cancel_http_head s", ..CANCEL };
    hostile_cancel_http_body: Row { goal: "cancel_http_body s", ..CANCEL };
    hostile_cancel_blob: Row { goal: "cancel_blob s", ..CANCEL };
    hostile_cancel_tool: Row { goal: "cancel_tool s", ..WITH_SHELL };
    hostile_cancel_child: Row { goal: "cancel_child s", ..WITH_CHILD };
    hostile_cancel_approval: Row { goal: "cancel_approval s", ..CANCEL };
    hostile_cancel_trap: Row { goal: "cancel_trap s", ..CANCEL };
    hostile_cancel_claims_done: Row { goal: "cancel_claims_done s", ..CANCEL };

    // The same by the clock.
    hostile_deadline_heard: Row { goal: "cancel_heard s", ..LATE };
    hostile_deadline_spin_deaf: Row { goal: "cancel_spin_deaf s", ..LATE };
    hostile_deadline_sleep: Row { goal: "cancel_sleep s", ..LATE };
    hostile_deadline_next: Row { goal: "cancel_next s", ..LATE };
    hostile_deadline_http_body: Row { goal: "cancel_http_body s", ..LATE };
    hostile_deadline_tool: Row { goal: "cancel_tool s", timeout_ms: Some(300), cancel: false, end: "timed_out: cancelled deadline", ..WITH_SHELL };
    hostile_deadline_trap: Row { goal: "cancel_trap s", ..LATE };
    hostile_deadline_claims_done: Row { goal: "cancel_claims_done s", ..LATE };

    // What the fresh instance does that tells the vendor; the run waits beside it.
    hostile_tell_ok: Row { goal: "cancel_sleep tell_ok", ..CANCEL };
    hostile_tell_trap: Row { goal: "cancel_sleep tell_trap", ..CANCEL };
    hostile_tell_spin: Row { goal: "cancel_sleep tell_spin", ..CANCEL };
    hostile_tell_sleep: Row { goal: "cancel_heard tell_sleep", ..CANCEL };
    hostile_tell_emits: Row { goal: "cancel_sleep tell_emits", check: Some(nothing_from_cancel), ..CANCEL };
    hostile_tell_imports: Row { goal: "cancel_sleep tell_imports", workspace: Some(ReadWrite), check: Some(nothing_from_cancel), ..CANCEL };
}

/// The log of a run belongs to the call that is ending, and so do its tools.
fn nothing_from_cancel(seen: &Seen) {
    assert!(!seen.story().contains("from_cancel"), "{}", seen.story());
    assert!(!seen.workspace.join("from_cancel").exists());
}
