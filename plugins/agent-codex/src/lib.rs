//! OpenAI's Codex as a Midplane agent: the local program `codex app-server`, driven by JSON-RPC over its pipes.
//!
//! # Layout
//! - this file: what the adapter declares, what it refuses
//! - [`options`]: settings, and what a thread and a turn are started with: permissions, provider, MCP servers
//! - [`run`]: one run: start, turn, steering, interrupt, end
//! - [`turn`]: what the program tells of a turn: text, thinking, tools, usage
//! - [`questions`]: what the program asks, and the answers
//! - [`failure`]: the vendor's classes of failure as errors
//!
//! # What it never does
//! It never sees a key: the program talks to the host's endpoint of the run. It never allows anything by itself: each
//! question goes to the host's `approval`, for that action alone, and what cannot be asked so is declined.

#![forbid(unsafe_code)]

pub mod failure;
pub mod options;
pub mod questions;
pub mod run;
pub mod turn;

#[cfg(test)]
mod tests;

use midplane_plugin::agent::{
    self, AvailabilityReport, CapabilitySet, FilesystemAccess, Issue, Outcome, Readiness, Task, issue,
};
use midplane_plugin::{Agent, ErrorKind, Host, Result};

use options::Options;

/// What the adapter can do. `budget` is kept by the host, which knows prices: the program tells its tokens after each
/// request to its model, and is interrupted when they cost too much. Not `tool_filters`: it has no list of tools to
/// choose from.
const FEATURES: &[&str] = &[
    "mcp_support",
    "mcp_server_env",
    "working_directory",
    "session_resume",
    "structured_output",
    "streaming",
    "tool_audit",
    "cancellation",
    "budget",
    "reasoning_effort",
    "network_control",
    "named_permission_profiles",
    "steering",
];

/// The adapter.
pub struct CodexAgent;

impl Agent for CodexAgent {
    fn capabilities(_host: &dyn Host) -> CapabilitySet {
        agent::features(FEATURES)
    }

    fn availability(host: &dyn Host, probe_timeout_ms: u32) -> AvailabilityReport {
        let options = match Options::read(host) {
            Ok(options) => options,
            Err(error) => return agent::availability(Readiness::NotReady, "setup-failed", error.message),
        };
        if probe_timeout_ms == 0 {
            return agent::availability(
                Readiness::Unknown,
                "unknown",
                "the settings are complete; the program was not started",
            );
        }
        run::probe(host, &options, probe_timeout_ms).unwrap_or_else(|error| {
            let (status, reason) = match (error.kind, error.code.as_str()) {
                (_, "program") => (Readiness::NotReady, "missing-program"),
                (ErrorKind::Denied | ErrorKind::Unsupported | ErrorKind::Invalid, _) => {
                    (Readiness::NotReady, "setup-failed")
                }
                _ => (Readiness::Unknown, "unknown"),
            };
            // What the program said stays out of a report.
            let message = match error.code.as_str() {
                "program" | "command" | "program-version" | "setting" => error.message,
                _ => format!("the program could not be asked (`{}`)", error.code),
            };
            agent::availability(status, reason, message)
        })
    }

    fn validate(host: &dyn Host, task: &Task) -> Vec<Issue> {
        let mut issues: Vec<Issue> = agent::model(host, task, None).err().into_iter().collect();
        if task.reasoning_effort.as_ref().is_some_and(|effort| effort.trim().is_empty()) {
            issues.push(issue("reasoning_effort", "the effort is blank; leave it out for the model's own"));
        }
        for (index, server) in task.mcp_servers.iter().enumerate() {
            let field = format!("mcp_servers[{index}]");
            if server.argv.first().is_none_or(|program| program.trim().is_empty()) {
                issues.push(issue(format!("{field}.argv"), "the server has no program"));
            }
            if !options::is_server_name(&server.name) {
                issues.push(issue(
                    format!("{field}.name"),
                    "codex takes names of 1 to 64 letters, digits, `_` and `-` for MCP servers",
                ));
            }
        }
        permissions(task, &mut issues);
        if agent::has_transcript(task) {
            issues.push(issue(
                "session.transcript",
                "codex goes on only with threads that it keeps itself; give the session's id alone",
            ));
        }
        for (index, attachment) in task.attachments.iter().enumerate() {
            issues.push(issue(
                format!("attachments[{index}].kind"),
                format!(
                    "an attachment of kind `{}` cannot be made known to codex; put it into the workspace and name it",
                    attachment.kind
                ),
            ));
        }
        match Options::read(host) {
            Ok(options) if task.permissions.native_profile.is_some() => {
                issues.extend(options.profile_conflict().map(|why| issue("permissions.native_profile", why)));
            }
            Ok(_) => {}
            Err(error) => issues.push(issue("settings", error.message)),
        }
        issues
    }

    fn run(host: &dyn Host, task: Task) -> Result<Outcome> {
        let options = Options::read(host)?;
        run::run(host, &options, &task)
    }
}

midplane_plugin::export_agent!(CodexAgent);

fn permissions(task: &Task, issues: &mut Vec<Issue>) {
    let permissions = &task.permissions;
    if !permissions.allowed_tools.is_empty() {
        issues.push(issue(
            "permissions.allowed_tools",
            "codex has no list of tools to choose from; limit it by `mode` and `filesystem`",
        ));
    }
    if !permissions.disallowed_tools.is_empty() {
        issues.push(issue(
            "permissions.disallowed_tools",
            "codex has no list of tools to choose from; limit it by `mode` and `filesystem`",
        ));
    }
    match (permissions.network, &permissions.native_profile) {
        (Some(_), Some(_)) => issues.push(issue(
            "permissions.network",
            "a named profile brings its own rule for the network; leave one of the two out",
        )),
        (Some(false), None) if permissions.filesystem == FilesystemAccess::FullAccess => issues.push(issue(
            "permissions.network",
            "codex runs commands without any sandbox at `full-access`, so the network cannot be shut off; choose \
             `workspace-write`",
        )),
        _ => {}
    }
    if permissions.native_profile.as_ref().is_some_and(|name| name.trim().is_empty()) {
        issues.push(issue("permissions.native_profile", "the profile is blank; leave it out"));
    }
}
