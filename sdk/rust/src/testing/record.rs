//! Whole runs of an adapter as text, for snapshots, and how a stream is cut.

use super::{FakeHost, Reply, task};
use crate::agent::{Agent, Task};
use crate::events::usage_fields;

/// Everything that a run gives: outcome or error, events, calls of tools, and each request with its body.
#[must_use]
pub fn record<A: Agent>(host: &FakeHost, task: Task) -> String {
    let mut lines = vec![record_short::<A>(host, task)];
    for (head, body) in host.requests() {
        lines.push(format!("-- {} {} {:?}", head.method, head.url, head.headers));
        lines.push(format!("{body:#}"));
    }
    lines.join("\n")
}

/// The same without the requests, which other tests compare.
#[must_use]
pub fn record_short<A: Agent>(host: &FakeHost, task: Task) -> String {
    let mut lines = match A::run(host, task) {
        Ok(outcome) => vec![
            format!("finish {} rounds {} session {:?}", outcome.finish_reason, outcome.rounds, outcome.session_id),
            format!("output {:?}", outcome.output),
            format!("error {:?}", outcome.error),
            format!("parsed {:?}", outcome.parsed_output),
            format!("usage {}", usage_fields(&outcome.usage)),
            format!("metadata {}", outcome.metadata),
        ],
        Err(error) => vec![format!("error {error:?}")],
    };
    lines.push("-- events".into());
    lines.extend(host.event_lines());
    lines.push("-- calls".into());
    lines.push(host.call_lines());
    lines.join("\n")
}

/// Panics unless a stream that calls a tool is the same run however its bytes are cut into chunks. `last` is what the
/// vendor says to the answer of the tool.
pub fn assert_cuts_do_not_matter<A: Agent>(host: impl Fn() -> FakeHost, body: &str, last: &Reply) {
    let run = |bytes: usize| {
        let host = host().reply(Reply::stream(body, bytes)).reply(last.clone());
        let outcome = A::run(&host, task("x"));
        (outcome, host.call_lines(), host.requests())
    };
    let whole = run(body.len());
    assert_eq!(whole.2.len(), 2, "the stream calls a tool");
    for bytes in 1..body.len() {
        assert_eq!(run(bytes), whole, "chunks of {bytes} bytes");
    }
}
