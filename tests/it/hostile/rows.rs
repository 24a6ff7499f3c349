//! Behaviours of the guest `tests/guests/hostile`: what each is given, and the state in which it must end.

use midplane::core::task::WorkspaceAccess::{Read, ReadWrite};
use serde_json::{Value, json};

use super::harness::{Row, Seen, World, field, row, with_runtime};
use super::{cancels, secrets};

/// Makes a test of each row, and the list of all.
macro_rules! rows {
    ($($name:ident: $row:expr;)*) => {
        pub(crate) const ROWS: &[(&str, $crate::hostile::harness::Row)] = &[$((stringify!($name), $row),)*];
        $(
            #[test]
            fn $name() {
                $crate::hostile::harness::check(stringify!($name), &$row);
            }
        )*
    };
}
pub(crate) use rows;

const SHELL: Row = Row { grants: &["shell"], workspace: Some(ReadWrite), ..row("", "done") };
const CHILD: Row = Row { grants: &["command:sleep", "command:sh"], workspace: Some(ReadWrite), ..row("", "done") };

rows! {
    // The harness itself: a guest that does nothing wrong.
    hostile_not_at_all: row("done", "done");

    // ---- processor, stack, memory, handles, large arguments
    hostile_spin: row("spin", "failed: limit cpu");
    hostile_spin_in_calls: row("spin_in_calls", "failed: limit cpu");
    hostile_spin_until_the_deadline: Row { timeout_ms: Some(200), limits: &[("cpu_ms_max", 60_000)], ..row("spin", "timed_out: cancelled deadline") };
    hostile_recurse: row("recurse 1", "failed: limit stack");
    hostile_recurse_in_linear_memory: row("recurse_shadow 1", "failed: internal trap");
    hostile_grow_memory: row("grow_memory", "failed: limit memory");
    hostile_many_handles: row("many_handles", "failed: limit handles");
    hostile_many_handles_heard: row("many_handles_heard", "done");
    hostile_huge_string: row("huge_string", "failed: limit argument-size");
    hostile_huge_list: Row { limits: &[("memory_bytes_max", 160 << 20)], ..row("huge_list", "failed: limit argument-size") };
    hostile_huge_events: Row { limits: &[("memory_bytes_max", 160 << 20)], ..row("huge_events", "failed: limit argument-size") };

    // ---- events
    hostile_event_flood: row("event_flood", "failed: limit run-events");
    hostile_event_flood_deaf: Row { check: Some(few_events), ..row("event_flood_deaf", "failed: limit cpu") };
    hostile_event_rate: Row { limits: &[("run_events_max", 500)], check: Some(few_events), ..row("event_rate", "failed: limit run-events") };
    hostile_event_oversized: row("event_oversized", "failed: limit event-size");
    hostile_event_batch_count: row("event_batch_count", "failed: limit batch-size");
    hostile_event_batch_bytes: row("event_batch_bytes", "failed: limit batch-size");
    hostile_event_batch_empty: row("event_batch_empty", "failed: invalid batch-empty");
    hostile_event_before_start: row("event_before_start", "failed: invalid event-order");
    hostile_event_started_twice: row("event_started_twice", "failed: invalid event-order");
    hostile_event_terminal: row("event_terminal", "failed: invalid event-kind");
    hostile_event_unknown_kind: row("event_unknown_kind", "failed: invalid event-kind");
    hostile_event_not_json: row("event_not_json", "failed: invalid event-data");
    hostile_event_nested_json: row("event_nested_json", "failed: invalid event-data");
    hostile_event_foreign_run: row("event_foreign_run", "failed: invalid event-data");
    hostile_event_forged_envelope: row("event_forged_envelope", "done");
    hostile_event_forged_status: row("event_forged_host status", "failed: invalid event-data");
    hostile_event_forged_created: row("event_forged_host created", "failed: invalid event-data");
    hostile_event_forged_audit: row("event_forged_host audit", "failed: invalid event-data");
    hostile_event_forged_approval: row("event_forged_host approval", "failed: invalid event-data");
    hostile_event_forged_resumed: row("event_forged_host resumed", "failed: invalid event-data");
    hostile_event_forged_tool: row("event_forged_tool", "failed: invalid event-data");
    hostile_event_forged_usage: Row { check: Some(known_cost), ..row("event_forged_usage", "done") };
    hostile_event_escapes: Row { check: Some(escaped), ..row("event_escapes", "failed: internal \u{1b}[2J\u{1b}]0;owned\u{7}\u{202e}txt\r\u{9b}31m") };

    // ---- ends without returning
    hostile_trap: row("trap", "failed: internal trap");
    hostile_trap_holding: Row { check: Some(let_go), ..Row { goal: "trap_holding", end: "failed: internal trap", ..CHILD } };
    hostile_trap_after_events: Row { check: Some(last_words), ..row("trap_after_events", "failed: internal trap") };
    hostile_exit: row("exit 3", "failed: internal trap");
    hostile_exit_as_if_well: row("exit 0", "failed: internal trap");

    // ---- files, tools, programs
    hostile_read_outside: Row { workspace: Some(ReadWrite), check: Some(unread), ..row("read_outside {outside}", "done") };
    hostile_write_outside: Row { workspace: Some(ReadWrite), ..row("write_outside {outside}", "done") };
    hostile_write_read_only: Row { workspace: Some(Read), check: Some(unchanged), ..row("write_read_only", "done") };
    hostile_tools_refused: Row { workspace: Some(ReadWrite), ..row("tools_refused", "done") };
    hostile_tools_many: Row { workspace: Some(Read), ..row("tools_many", "failed: limit calls") };
    hostile_tools_none: Row { workspace: Some(Read), ..row("tools_none", "failed: invalid calls-empty") };
    hostile_tools_same_id: Row { workspace: Some(Read), ..row("tools_same_id", "failed: invalid call-id") };
    hostile_tools_flood: Row { workspace: Some(Read), ..row("tools_flood", "failed: limit tool-calls") };
    hostile_shell_background: Row { goal: "shell_background", ..SHELL };
    hostile_shell_output: Row { goal: "shell_output", ..SHELL };
    hostile_spawn_ungranted: row("spawn_ungranted", "failed: denied command");
    hostile_spawn_outside: Row { goal: "spawn_outside ../outside", end: "failed: denied path", ..CHILD };
    hostile_spawn_outside_by_link: Row { goal: "spawn_outside links", end: "failed: denied path", ..CHILD };
    hostile_spawn_outside_absolute: Row { goal: "spawn_outside {outside}", end: "failed: denied path", ..CHILD };
    hostile_spawn_env: Row { goal: "spawn_env", end: "failed: denied env", ..CHILD };
    hostile_spawn_secret: Row { goal: "spawn_secret", end: "failed: denied secret", ..CHILD };
    hostile_spawn_argv: Row { goal: "spawn_argv", end: "failed: invalid command", ..CHILD };
    hostile_spawn_many: Row { goal: "spawn_many", end: "failed: limit children", ..CHILD };
    hostile_child_output: Row { goal: "child_output", ..CHILD };
    hostile_child_stdin: Row { goal: "child_stdin", end: "failed: limit stdin-full", ..CHILD };
    hostile_child_left: Row { goal: "child_left", ..CHILD };

    // ---- HTTP: requests that are none
    hostile_http_headers: row("http_headers 40000", "failed: limit headers");
    hostile_http_header_split: row("http_header_split", "failed: invalid header");
    hostile_http_zero_timeout: row("http_zero_timeout", "failed: invalid timeout");
    hostile_http_method_connect: row("http_method CONNECT", "failed: invalid method");
    hostile_http_method_delete: row("http_method DELETE", "failed: denied permission-missing");
    hostile_http_body_large: row("http_body_large", "failed: limit http-bytes");
    hostile_http_steered: Row { check: Some(not_steered), ..row("http_steered", "done") };
    // ---- places that nobody granted
    hostile_http_elsewhere: row("http_get https://example.com/", "failed: denied permission-missing");
    hostile_http_ungranted: row("http_get https://never-granted.example/", "failed: denied grant-missing");
    hostile_http_other_port: row("http_get {forbidden}/", "failed: denied permission-missing");
    hostile_http_file: row("http_get file:///etc/passwd", "failed: invalid url");
    hostile_http_user: row("http_get http://user:pass@127.0.0.1:{port}/ok", "failed: invalid url");
    hostile_http_credential: row("http_credential", "failed: denied credential");
    // ---- private addresses
    hostile_private_by_ip: row("http_get http://127.0.0.2:{port}/ok", "failed: denied permission-missing");
    hostile_private_by_decimal_ip: row("http_get http://2130706434:{port}/ok", "failed: denied permission-missing");
    hostile_private_by_octal_ip: row("http_get http://0177.0.0.2:{port}/ok", "failed: denied permission-missing");
    hostile_private_by_mapped_ip: row("http_get http://[::ffff:127.0.0.2]:{port}/ok", "failed: denied permission-missing");
    hostile_private_by_nat64: row("http_get http://[64:ff9b::7f00:2]:{port}/ok", "failed: denied permission-missing");
    hostile_private_unspecified: row("http_get http://0.0.0.0:{port}/ok", "failed: denied permission-missing");
    hostile_private_by_name: Row { grants: &["http:http://localhost:{port}"], ..row("http_named /ok", "failed: denied address-refused") };
    hostile_private_metadata: row("http_get http://169.254.169.254/latest/meta-data/", "failed: denied grant-missing");
    hostile_private_by_redirect: row("http_get /to_forbidden", "failed: denied permission-missing");
    hostile_private_metadata_by_redirect: row("http_get /to_metadata", "failed: denied grant-missing");
    hostile_private_name_by_redirect: row("http_get /to_name", "failed: denied permission-missing");
    hostile_private_mapped_by_redirect: row("http_get /to_mapped", "failed: denied permission-missing");
    hostile_redirect_without_end: row("http_get /to_itself", "failed: unavailable broken");
    hostile_redirect_to_a_file: row("http_get /to_file", "failed: unavailable broken");
    // ---- answers that are none
    hostile_answer_many_headers: row("http_get /many_headers", "failed: unavailable broken");
    hostile_answer_long_head: row("http_get /long_head", "failed: unavailable broken");
    hostile_answer_two_lengths: row("http_get /split_head", "failed: unavailable broken");
    hostile_answer_no_http: row("http_get /no_http", "failed: unavailable broken");
    hostile_answer_short: row("http_get /short_body", "failed: unavailable body-truncated");
    hostile_answer_never_comes: Row { limits: &[("http_head_ms_max", 200)], ..row("http_get /silent", "failed: unavailable timeout") };
    hostile_answer_stops: Row { limits: &[("http_idle_ms_max", 200)], ..row("http_get /drip", "failed: unavailable body-idle") };
    hostile_answer_without_end: row("http_endless", "failed: limit http-bytes");
    hostile_answers_never_read: Row { check: Some(all_let_go), ..row("http_never_read", "done") };
    hostile_http_requests: row("http_requests", "failed: limit rate-limited");

    // ---- what the host keeps for a guest
    hostile_kv_flood: row("kv_flood", "failed: limit kv-full");
    hostile_kv_value: row("kv_value", "failed: limit value-size");
    hostile_kv_key_long: row("kv_key 513", "failed: invalid key");
    hostile_kv_key_control: row("kv_key", "failed: invalid key");
    hostile_kv_revision: row("kv_revision", "failed: conflict revision");
    hostile_blob_flood: row("blob_flood", "failed: limit blob-bytes");
    hostile_blob_write: row("blob_write", "failed: limit blob-bytes");
    hostile_blob_range: row("blob_range", "failed: invalid range");
    hostile_log_flood: Row { check: Some(few_lines), ..row("log_flood", "done") };
    hostile_stdout_flood: Row { check: Some(few_lines), limits: &[("cpu_ms_max", 5_000)], ..row("stdout_flood", "done") };

    // ---- what a language runtime could reach
    hostile_wasi_environment: row("wasi_environment", "done");
    hostile_wasi_files: Row { workspace: Some(ReadWrite), ..row("wasi_files", "done") };
    hostile_wasi_sockets: row("wasi_sockets {listener}", "done");

    // ---- outcomes
    hostile_outcome_unknown_word: row("outcome_unknown_word", "failed: internal finish-reason");
    hostile_outcome_done_with_error: row("outcome_done_with_error", "failed: conflict both");
    hostile_outcome_no_error: row("outcome_no_error", "failed: internal no-error");
    hostile_outcome_output: Row { check: Some(bounded), ..row("outcome_output 6", "failed: limit output-size") };
    hostile_outcome_output_beyond_a_call: row("outcome_output 20", "failed: limit argument-size");
    hostile_outcome_cost_nan: Row { check: Some(no_cost), ..row("outcome_cost NaN", "done") };
    hostile_outcome_cost_infinite: Row { check: Some(no_cost), ..row("outcome_cost inf", "done") };
    hostile_outcome_cost_negative: Row { check: Some(no_cost), ..row("outcome_cost -1", "done") };
    hostile_outcome_not_json: row("outcome_not_json", "done");
    hostile_outcome_bloat: Row { check: Some(bounded), ..row("outcome_bloat 500", "done") };
    hostile_outcome_bloat_beyond_a_call: row("outcome_bloat 1500", "failed: limit argument-size");
    hostile_outcome_error_bloat: Row { check: Some(short_error), ..row("outcome_error_bloat", ERROR_BLOAT) };
    hostile_outcome_claims_timeout: row("outcome_claims_timeout", "timed_out");
    hostile_outcome_nested: Row { check: Some(bounded), ..row("outcome_nested", "done") };

    // ---- the calls before a run
    hostile_capabilities_trap: Row { mode: "capabilities_trap", ..row("done", "refused: internal trap") };
    hostile_capabilities_spin: Row { mode: "capabilities_spin", ..row("done", "refused: limit cpu") };
    hostile_capabilities_sleep: Row { mode: "capabilities_sleep", limits: &[("query_ms_max", 300)], ..row("done", "refused: unavailable timeout") };
    hostile_capabilities_huge: Row { mode: "capabilities_huge", ..row("done", "done") };
    hostile_capabilities_imports: Row { mode: "capabilities_imports", ..row("done", "done") };
    hostile_validate_trap: row("validate_trap", "refused: internal trap");
    hostile_validate_spin: row("validate_spin", "refused: limit cpu");
    hostile_validate_sleep: Row { limits: &[("query_ms_max", 300)], ..row("validate_sleep", "refused: unavailable timeout") };
    hostile_validate_huge: row("validate_huge", "refused: unsupported task-unsupported");
}

/// A code is at most 64 bytes, whatever a guest says.
const ERROR_BLOAT: &str = "failed: invalid cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";

fn few_events(seen: &Seen) {
    assert!(seen.records.len() <= 5_100, "{} events", seen.records.len());
}

fn few_lines(seen: &Seen) {
    assert!(!seen.logs.is_empty(), "the first lines are kept");
    // 50 a second, for as long as the test may take, beside words about what was dropped.
    assert!(seen.logs.len() < 2_000, "{} lines", seen.logs.len());
    assert!(seen.logs.iter().all(|line| line.len() <= 9 * 1024), "a line is cut");
}

fn known_cost(seen: &Seen) {
    assert_eq!(field(seen, "usage"), Some(&json!({ "cost_usd": 0.25 })));
}

fn no_cost(seen: &Seen) {
    assert_eq!(field(seen, "usage"), Some(&json!({})));
}

/// The words of a guest are there, and none of its codes is (that no control character is, holds after every test).
fn escaped(seen: &Seen) {
    let all = seen.logs.join("\n");
    assert!(all.contains("owned") && all.contains("stdout") && all.contains("stderr"), "{all}");
    assert!(!all.contains('\u{202e}'), "{all}");
}

fn last_words(seen: &Seen) {
    assert!(seen.story().contains("last words"), "{}", seen.story());
}

/// The response is closed with the store, not by the guest.
fn let_go(seen: &Seen) {
    closed(seen, 1);
}

fn all_let_go(seen: &Seen) {
    closed(seen, 50);
}

fn closed(seen: &Seen, wanted: usize) {
    let closed = || seen.closed_connections.load(std::sync::atomic::Ordering::SeqCst);
    // The server hears of it a moment later.
    for _ in 0..200 {
        if closed() == wanted {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("{} of {wanted} connections were closed", closed());
}

fn unread(seen: &Seen) {
    let all = seen.story() + &seen.outcome.output;
    assert!(!all.contains("not for a guest") && !all.contains("root:x:"), "{all}");
    assert!(seen.outcome.output.lines().count() >= 20, "all were tried:\n{}", seen.outcome.output);
}

fn unchanged(seen: &Seen) {
    assert_eq!(std::fs::read_to_string(seen.workspace.join("inside.txt")).expect("file"), "inside\n");
    assert!(!seen.workspace.join("made.txt").exists() && !seen.workspace.join("moved.txt").exists());
}

/// What came at the server is the host's, not the guest's.
fn not_steered(seen: &Seen) {
    let lines = seen.outcome.output.to_lowercase();
    for word in ["evil", "mine", "cookie", "8.8.8.8", "transfer-encoding", "authorization"] {
        assert!(!lines.contains(word), "`{word}` in {lines}");
    }
    assert!(lines.contains("host: 127.0.0.1:"), "{lines}");
}

/// The terminal has no more than one call can carry.
fn bounded(seen: &Seen) {
    let terminal = serde_json::to_string(seen.records.last().expect("a terminal")).expect("json").len();
    assert!(terminal <= 17 * 1024 * 1024, "a terminal of {terminal} bytes");
}

fn short_error(seen: &Seen) {
    let error = seen.outcome.error.as_ref().expect("an error");
    assert!(error.message.len() <= 4_096 && error.code.len() <= 64);
}

/// `availability` is asked outside of runs: the answer is bounded, in time and in size.
fn availability(mode: &'static str) -> Value {
    let (answer, receive) = std::sync::mpsc::channel();
    with_runtime(|logs| async move {
        let world = World::open(&Row { mode, ..row("", "done") }, logs).await;
        world.install(std::path::Path::new(super::harness::GUEST)).await;
        let server = format!("http:{}", world.places.granted.url()).parse().expect("a grant");
        world.host.allow("hostile", &server).await.expect("allowed");
        let report = world.host.availability("hostile", std::time::Duration::from_millis(300)).await.expect("a report");
        answer.send(serde_json::to_value(report).expect("json")).expect("a receiver");
        world.lives().await;
    });
    receive.recv().expect("a report")
}

#[test]
fn hostile_availability_trap() {
    assert_eq!(availability("availability_trap")["reason"], "setup-failed");
}

#[test]
fn hostile_availability_spin() {
    assert_eq!(availability("availability_spin")["reason"], "setup-failed");
}

#[test]
fn hostile_availability_sleep() {
    assert_eq!(availability("availability_sleep")["status"], "unknown");
}

#[test]
fn hostile_availability_huge() {
    let text = availability("availability_huge").to_string();
    assert!(text.len() < 64 * 1024, "{} bytes", text.len());
    assert!(!text.contains("\\u001b"), "escape codes are shown");
}

/// No orphan guests: each behaviour of the guest crate is in a row.
#[test]
fn hostile_behaviours_all_have_a_row() {
    with_runtime(|logs| async move {
        let world = World::open(&row("list", "done"), logs).await;
        world.install(std::path::Path::new(super::harness::GUEST)).await;
        let mut run = world.start(&row("list", "done")).await.expect("a run");
        let names = run.outcome().await.expect("an outcome").output;
        assert!(names.split(' ').count() > 80, "{names}");
        let rows: Vec<&Row> = ROWS.iter().chain(cancels::ROWS).chain(secrets::ROWS).map(|(_, row)| row).collect();
        let used = |name: &str| rows.iter().any(|row| row.mode == name || row.goal.split(' ').any(|word| word == name));
        // Those of `availability` have tests of another form, right above.
        let orphans: Vec<&str> =
            names.split(' ').filter(|name| !used(name) && !name.starts_with("availability_")).collect();
        assert!(orphans.is_empty(), "behaviours without a row: {orphans:?}");
    });
}
