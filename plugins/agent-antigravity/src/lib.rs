//! Google's Antigravity agent, driven through its local harness program, as a Midplane agent.
//!
//! The harness runs the model and its tools; this crate translates: it greets the program over its pipes, opens the
//! websocket that the program serves, tells it the task, answers what it asks by the host's `approval`, and takes its
//! frames.
//!
//! # Layout
//! - this file: what the adapter declares, what it refuses
//! - [`tools`]: the harness's tools, which a task gets and which ask first
//! - [`config`]: settings, conversations, the first frame
//! - [`handshake`]: the two messages before the websocket
//! - [`turn`], [`frame`]: what the frames mean, and reading them
//! - [`session`]: one run from start to end
//!
//! # What it never does
//! It never sees the vendor's key, nor does the program: the harness is given a loopback endpoint of the host and a token
//! that dies with the run. It allows nothing by itself that the task's mode does not.

#![forbid(unsafe_code)]

pub mod config;
pub mod frame;
pub mod handshake;
pub mod session;
pub mod tools;
pub mod turn;

#[cfg(test)]
mod tests;

use midplane_plugin::agent::{self, AvailabilityReport, CapabilitySet, Issue, Outcome, Readiness, Task, issue};
use midplane_plugin::{Agent, Error, Host, Result};

use config::{Conversation, Settings};

/// What the adapter can do. `budget` is kept by the host, which knows prices: the harness tells its tokens after each
/// call of its model, and is halted when they cost too much. Not `network_control`: its commands have what the host's
/// sandbox gives them.
const FEATURES: &[&str] = &[
    "mcp_support",
    "working_directory",
    "session_resume",
    "structured_output",
    "streaming",
    "tool_audit",
    "cancellation",
    "budget",
    "tool_filters",
    "steering",
];

/// The adapter.
pub struct AntigravityAgent;

impl Agent for AntigravityAgent {
    fn capabilities(_host: &dyn Host) -> CapabilitySet {
        agent::features(FEATURES)
    }

    fn availability(host: &dyn Host, probe_timeout_ms: u32) -> AvailabilityReport {
        match Settings::read(host) {
            Err(error) => agent::availability(Readiness::NotReady, "setup-failed", error.message),
            // Whether program and secret are there is known to the host alone.
            Ok(_) if probe_timeout_ms == 0 => {
                agent::availability(Readiness::Unknown, "unknown", "the settings are complete; nothing was started")
            }
            Ok(settings) => session::probe(host, &settings, probe_timeout_ms),
        }
    }

    fn validate(host: &dyn Host, task: &Task) -> Vec<Issue> {
        let settings = Settings::read(host);
        let mut issues = Vec::new();
        issues.extend(config::model(host, task).err());
        // Before the servers: agent-runtime-kit's order, which callers of it know.
        if let Err(mut unfit) = tools::enabled(&task.permissions) {
            issues.append(&mut unfit);
        }
        for server in &task.mcp_servers {
            // The harness makes names of tools and rules of it.
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            if server.name.is_empty() || !server.name.bytes().all(fits) {
                let message = format!(
                    "the harness takes names of servers of letters, digits, `-` and `_`; `{}` is none",
                    midplane_plugin::child::visible(&server.name)
                );
                issues.push(issue("mcp_servers.name", message));
            }
            if server.argv.is_empty() {
                issues.push(issue("mcp_servers.argv", format!("the server `{}` names no program", server.name)));
            }
        }
        if let Err(error) = Conversation::of(task) {
            issues.push(issue("session", error.message));
        }
        if agent::has_transcript(task) {
            issues.push(issue("session.transcript", "the harness keeps its own transcripts; leave it out"));
        }
        for (index, attachment) in task.attachments.iter().enumerate() {
            let message = format!("an attachment of kind `{}` cannot be made known to the harness", attachment.kind);
            issues.push(issue(format!("attachments[{index}].kind"), message));
        }
        if let Err(error) = settings {
            issues.push(issue("settings", error.message));
        }
        issues
    }

    fn run(host: &dyn Host, task: Task) -> Result<Outcome> {
        let settings = Settings::read(host)?;
        let refused = |issue: Issue| Error::invalid("task", format!("`{}`: {}", issue.field, issue.message));
        let model = config::model(host, &task).map_err(refused)?;
        let tools = tools::enabled(&task.permissions).map_err(|mut issues| refused(issues.remove(0)))?;
        session::run(host, &settings, &task, &model, &tools)
    }
}

midplane_plugin::export_agent!(AntigravityAgent);
