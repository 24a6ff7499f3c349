//! Many runs against a vendor that misbehaves at random: every one ends, and its log has exactly one terminal.
//!
//! `MIDPLANE_SOAK_RUNS` says how many (50 without it), spread over all wires. By hand:
//!
//! ```sh
//! MIDPLANE_SOAK_RUNS=500 cargo test -p midplane-it soak:: -- --nocapture
//! ```
//!
//! 500 runs over four wires on 2026-11-21: 186 done, 220 failed, 94 interrupted, none that hung, each with one terminal.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use midplane::core::event::EventKind;
use midplane::core::outcome::FinishReason;
use serde_json::{Value, json};

use crate::peer::Aimock;
use crate::wires::{WIRES, Wire};
use crate::world::{KEY, World};

/// How often the mock misbehaves, of each request: an error, an answer that is no JSON, a connection that is closed, a rate
/// limit. Three of four requests are answered.
const CHAOS: [&str; 8] =
    ["--chaos-drop", "0.08", "--chaos-malformed", "0.05", "--chaos-disconnect", "0.08", "--chaos-ratelimit", "0.05"];

/// Runs side by side.
const LANES: usize = 6;
/// A run that takes longer hangs: each has at most three tries of each of two requests, a second apart.
const HANG: Duration = Duration::from_secs(120);

/// What is asked for: a text, tools and a text, a stream that breaks, one that drips and is cancelled, a vendor that is down.
fn fixtures() -> Value {
    let look = json!([{"id": "call_1", "name": "list_dir", "arguments": "{}"}, {"id": "call_2", "name": "read_file", "arguments": "{\"path\":\"a.txt\"}"}]);
    json!({"fixtures": [
        {"match": {"userMessage": "talk"}, "response": {"content": "one two three four five six"}, "chunkSize": 5},
        {"match": {"userMessage": "work", "hasToolResult": false}, "response": {"content": "I look.", "toolCalls": look}},
        {"match": {"userMessage": "work", "hasToolResult": true}, "response": {"content": "Done."}},
        {"match": {"userMessage": "break"}, "response": {"content": "one two three four five six"}, "chunkSize": 4, "latency": 20, "disconnectAfterMs": 130},
        {"match": {"userMessage": "drip"}, "response": {"content": "drip ".repeat(40)}, "chunkSize": 2, "latency": 30},
        {"match": {"userMessage": "down"}, "response": {"error": {"message": "down", "type": "server_error"}, "status": 503}},
    ]})
}

const GOALS: [&str; 5] = ["talk", "work", "break", "drip", "down"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_run_ends_once_whatever_the_vendor_does() {
    let runs: usize = match std::env::var("MIDPLANE_SOAK_RUNS") {
        Ok(text) => text.parse().expect("`MIDPLANE_SOAK_RUNS` is a number"),
        Err(_) => 50,
    };
    let Some(mock) = Aimock::start_with(KEY, &fixtures(), &CHAOS).await else { return };
    let mut ends: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (row, wire) in WIRES.iter().enumerate() {
        let setup = wire.at(&mock).setting("retries_max", json!(2)).setting("retry_wait_max_s", json!(1));
        let world = setup.open().await;
        std::fs::write(world.workspace.path().join("a.txt"), "alpha\n").expect("a file");
        // Each wire has its part of the runs, the first ones one more.
        let own: Vec<usize> = (0..runs).skip(row).step_by(WIRES.len()).collect();
        let mut done = 0;
        for lane in own.chunks(LANES) {
            let reasons = join_all(lane.iter().map(|number| one(&world, wire, *number / WIRES.len()))).await;
            for reason in reasons {
                done += usize::from(reason == FinishReason::Done);
                *ends.entry((wire.name, reason.as_str())).or_default() += 1;
            }
        }
        // A soak in which nothing works shows nothing.
        assert!(done > 0 || own.len() < 10, "no run of {} was done: {ends:?}", wire.name);
    }
    let total: usize = ends.values().sum();
    assert_eq!(total, runs);
    println!("{runs} runs: {ends:#?}");
}

/// One run to its end, and what its log must have.
async fn one(world: &World, wire: &Wire, number: usize) -> FinishReason {
    let goal = GOALS[number % GOALS.len()];
    let mut run = world.host.run(world.request(world.task(goal))).await.expect("admitted");
    if goal == "drip" {
        // Somewhere in it: before the first word, or after some.
        tokio::time::sleep(Duration::from_millis(97 * (number as u64 % 11))).await;
        world.host.cancel(run.id()).await.expect("a receipt");
    }
    let outcome = tokio::time::timeout(HANG, run.outcome()).await;
    let outcome = outcome.unwrap_or_else(|_| panic!("{} {goal} number {number} hangs", wire.name)).expect("an outcome");
    let reason = outcome.finish_reason;
    let ran = world.ran(run.id(), outcome).await;
    let terminals: Vec<u64> = ran
        .records
        .iter()
        .filter(|record| record.kind == EventKind::RuntimeTerminal)
        .map(|record| record.seq)
        .collect();
    let last = ran.records.last().expect("records").seq;
    assert_eq!(terminals, [last], "{} {goal} number {number}", wire.name);
    // What the mock does can end in these ways and in no other: never in a trap, a time-out or an untyped error.
    let error = ran.error();
    match reason {
        FinishReason::Done => assert_eq!(error, "none"),
        FinishReason::Interrupted => assert_eq!(goal, "drip"),
        FinishReason::Failed => assert!(
            ["unavailable/", "internal/not-event-stream"].iter().any(|kind| error.starts_with(kind)),
            "{} {goal} number {number}: {error}",
            wire.name
        ),
        other => panic!("{} {goal} number {number} ended {}", wire.name, other.as_str()),
    }
    assert_eq!(ran.text().is_empty(), ran.outcome.output.is_empty(), "what was heard is in the log and in the outcome");
    reason
}
