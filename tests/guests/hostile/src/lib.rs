//! One plugin that misbehaves in every way that a test names.
//!
//! The first word of the task's goal is the behaviour, the rest are its parameters; `list` gives all names. A behaviour
//! that expects to be refused by the host passes the refusal on (`?`), so that the run ends with the very error that the
//! guest was given; one that got through says so with the code `survived`, which no row of the tests expects.
//!
//! # Layout
//! - here: the table of behaviours, the plugin's exports
//! - `compute`: processor, stack, memory, handles, large arguments
//! - `event`: what is emitted
//! - `cancel`: what happens after a cancel, and in `cancel`
//! - `traps`: ways to end without returning
//! - `workspace`: files, tools, programs
//! - `net`, `secret`: HTTP, and a server that echoes a credential
//! - `state`: `kv`, blobs, log lines
//! - `wasi`: what a language runtime could reach
//! - `result`: outcomes that are none
//! - `query`: `capabilities`, `availability`, `validate`
//!
//! What Rust cannot say (a string that is no UTF-8, a growing table, lists that share their elements) is written by hand
//! as core WebAssembly beside the tests that run it.

#![forbid(unsafe_code)]
// On a native target nothing is exported, so nothing is used; it is compiled there all the same to be checked.
#![cfg_attr(not(target_arch = "wasm32"), expect(dead_code, reason = "exported only as a component"))]

mod cancel;
mod compute;
mod event;
mod net;
mod query;
mod result;
mod secret;
mod state;
mod traps;
mod wasi;
mod workspace;

use midplane_plugin::agent::{AvailabilityReport, CapabilitySet, Issue, Outcome, Task};
use midplane_plugin::{Agent, Error, Host, Result};

/// What a behaviour is given.
struct Call<'a> {
    host: &'a dyn Host,
    task: &'a Task,
    words: Vec<&'a str>,
}

impl Call<'_> {
    /// The parameter at a place, or nothing.
    fn word(&self, index: usize) -> &str {
        self.words.get(index).copied().unwrap_or_default()
    }

    /// A parameter that is a number, or zero.
    fn number(&self, index: usize) -> u64 {
        self.word(index).parse().unwrap_or_default()
    }
}

type Behaviour = fn(&Call<'_>) -> Result<Outcome>;

/// Those of `run`. Those of the other exports are chosen where `run` is not reached: see [`query`] and [`cancel`].
fn behaviours() -> Vec<(&'static str, Behaviour)> {
    [
        compute::BEHAVIOURS,
        event::BEHAVIOURS,
        cancel::BEHAVIOURS,
        traps::BEHAVIOURS,
        workspace::BEHAVIOURS,
        net::BEHAVIOURS,
        secret::BEHAVIOURS,
        state::BEHAVIOURS,
        wasi::BEHAVIOURS,
        result::BEHAVIOURS,
    ]
    .concat()
}

/// What a behaviour ends with that the host should have refused.
fn survived(what: impl Into<String>) -> Result<Outcome> {
    Err(Error::internal("survived", what))
}

struct Hostile;

impl Agent for Hostile {
    fn capabilities(host: &dyn Host) -> CapabilitySet {
        query::capabilities(host)
    }

    fn availability(host: &dyn Host, _probe_timeout_ms: u32) -> AvailabilityReport {
        query::availability(host)
    }

    fn validate(_host: &dyn Host, task: &Task) -> Vec<Issue> {
        query::validate(task)
    }

    fn run(host: &dyn Host, task: Task) -> Result<Outcome> {
        let words: Vec<&str> = task.goal.split_whitespace().collect();
        let name = words.first().copied().unwrap_or_default();
        if name == "list" {
            let names = behaviours().into_iter().map(|(name, _)| name).chain(query::NAMES.iter().copied());
            return Ok(Outcome::done(names.chain(cancel::NAMES.iter().copied()).collect::<Vec<_>>().join(" ")));
        }
        let found = behaviours().into_iter().find(|(known, _)| *known == name);
        let (_, behaviour) = found.ok_or_else(|| Error::invalid("behaviour", format!("no behaviour `{name}`")))?;
        behaviour(&Call { host, task: &task, words })
    }

    fn cancel(host: &dyn Host, run_id: &str, session_id: Option<&str>) -> Result<()> {
        cancel::tell(host, run_id, session_id.unwrap_or_default())
    }
}

midplane_plugin::export_agent!(Hostile);
