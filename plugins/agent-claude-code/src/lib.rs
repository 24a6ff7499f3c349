//! The Claude Code program, as a Midplane agent.
//!
//! # Layout
//! - this file: what the adapter declares, what it refuses
//! - [`launch`]: arguments, environment, and what the program is told before the prompt
//! - [`rules`]: what the task's words about tools mean, and how they are held
//! - [`drive`]: the conversation with the program, from its start to its end
//! - [`turn`]: its frames, as events and as the outcome; `usage`: what they say was used
//! - [`failure`]: its errors, by class
//!
//! # What it never does
//! It sees no key and puts none into the program's environment: that reaches its vendor through the host. It answers no
//! permission question by itself but with no. It keeps no frame longer than it takes to read it.

#![forbid(unsafe_code)]

pub mod drive;
pub mod failure;
pub mod launch;
pub mod rules;
pub mod turn;
mod usage;

#[cfg(test)]
mod tests;

use midplane_plugin::agent::{self, AvailabilityReport, CapabilitySet, Issue, Outcome, Readiness, Task, issue};
use midplane_plugin::{Agent, Host, Result};

use launch::Setup;
use rules::Rules;

/// What the adapter can do.
const FEATURES: &[&str] = &[
    "mcp_support",
    "working_directory",
    "session_resume",
    "structured_output",
    "streaming",
    "tool_audit",
    "cancellation",
    "budget",
    "reasoning_effort",
    "tool_filters",
    "mcp_server_env",
    "skills",
    "files",
    "steering",
];

/// Attachments that the program can be told of.
const ATTACHMENTS: [&str; 3] = ["instructions", "skill", "file"];

/// The adapter.
pub struct ClaudeCodeAgent;

impl Agent for ClaudeCodeAgent {
    fn capabilities(_host: &dyn Host) -> CapabilitySet {
        agent::features(FEATURES)
    }

    fn availability(host: &dyn Host, probe_timeout_ms: u32) -> AvailabilityReport {
        let setup = match Setup::read(host, None) {
            Ok(setup) => setup,
            Err(error) => return agent::availability(Readiness::NotReady, "setup-failed", error.message),
        };
        if probe_timeout_ms == 0 {
            let message = "the settings are complete; the program was not started";
            return agent::availability(Readiness::Unknown, "unknown", message);
        }
        match drive::version(host, &setup.program, probe_timeout_ms) {
            Ok(version) => {
                let message = "the program is there; whether it may use its vendor only a run can tell";
                let report = agent::availability(Readiness::Ready, "available", message);
                AvailabilityReport { version: Some(version), ..report }
            }
            Err(error) if error.code == "program" => {
                agent::availability(Readiness::NotReady, "missing-package", error.message)
            }
            Err(error) if error.code == "timeout" => agent::availability(Readiness::Unknown, "unknown", error.message),
            Err(error) => agent::availability(Readiness::NotReady, "setup-failed", error.message),
        }
    }

    fn validate(host: &dyn Host, task: &Task) -> Vec<Issue> {
        let mut issues: Vec<Issue> = agent::model(host, task, None).err().into_iter().collect();
        if task.reasoning_effort.as_ref().is_some_and(|effort| effort.trim().is_empty()) {
            issues.push(issue("reasoning_effort", "the effort is blank; leave it out for the program's own"));
        }
        if let Err((field, why)) = Rules::new(&task.permissions, task.working_directory.as_deref()) {
            issues.push(issue(field, why));
        }
        if task.permissions.network.is_some() {
            issues.push(issue(
                "permissions.network",
                "the program has no switch for the network of what it starts; leave it out, and bound it by grants",
            ));
        }
        if task.permissions.native_profile.is_some() {
            issues.push(issue("permissions.native_profile", "the program has no permission profiles; leave it out"));
        }
        if let Some(session) = &task.session {
            if session.id.trim().is_empty() {
                issues.push(issue("session.id", "the id of the conversation is blank"));
            }
            if agent::has_transcript(task) {
                let message =
                    "the program goes on only with conversations that it has written down itself; leave it out";
                issues.push(issue("session.transcript", message));
            }
        }
        for (index, attachment) in task.attachments.iter().enumerate() {
            if !ATTACHMENTS.contains(&attachment.kind.as_str()) {
                issues.push(issue(
                    format!("attachments[{index}].kind"),
                    format!("an attachment of kind `{}` cannot be made known to the program", attachment.kind),
                ));
            }
        }
        match Setup::read(host, None).map(|setup| setup.with_metadata(&task.metadata)) {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => issues.push(issue("metadata.setting_sources", error.message)),
            Err(error) => issues.push(issue("settings", error.message)),
        }
        issues
    }

    fn run(host: &dyn Host, task: Task) -> Result<Outcome> {
        drive::run(host, &task)
    }
}

midplane_plugin::export_agent!(ClaudeCodeAgent);
