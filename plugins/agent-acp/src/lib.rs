//! Any program that speaks the Agent Client Protocol, as a Midplane agent.
//!
//! The program runs the agent loop; this crate starts it, tells it what to do, passes its questions on to the host, and
//! says what it did. Which program it is, is data: one more is one more row.
//!
//! # Layout
//! - this file: what the adapter declares, what it refuses
//! - [`profile`]: the table of agents, and how a row becomes a command
//! - [`run`]: the conversation, from the start of the program to its end
//! - [`turn`]: what the agent tells, as events and audits
//! - [`prompt`]: what the agent is told
//! - [`usage`], [`fault`]: where agents put their counters and errors
//!
//! # What it never does
//! It gives no key to the program where the host serves an endpoint, and never puts a secret on an argument vector. It
//! answers no question by itself with yes, and never picks an option that holds for longer than once. It serves neither
//! files nor terminals.

#![forbid(unsafe_code)]

pub mod fault;
pub mod profile;
pub mod prompt;
pub mod run;
pub mod turn;
pub mod usage;

#[cfg(test)]
mod tests;

use midplane_plugin::agent::{
    self, AvailabilityReport, CapabilitySet, FilesystemAccess, Issue, Outcome, PermissionMode, PermissionProfile,
    Readiness, Task, has_transcript, issue,
};
use midplane_plugin::agent_loop::system::ATTACHMENT_KINDS;
use midplane_plugin::{Agent, ErrorKind, Host, Result, settings};

use profile::{Profile, is_plain_word};

/// What the adapter can do with every agent. Not `structured_output`: the protocol has none, and an answer that was only
/// asked for in words could not be promised. Not `steering`: agents differ in what a second prompt does. `budget` only
/// with an agent whose row `counts_requests`: most tell their tokens when the turn is over, and a run that nobody can
/// stop in time keeps no budget.
const FEATURES: &[&str] = &[
    "mcp_support",
    "working_directory",
    "session_resume",
    "streaming",
    "tool_audit",
    "cancellation",
    "mcp_server_env",
    "skills",
    "files",
];

/// The adapter.
pub struct AcpAgent;

impl Agent for AcpAgent {
    fn capabilities(host: &dyn Host) -> CapabilitySet {
        let mut features = FEATURES.to_vec();
        if let Ok(profile) = Profile::read(host) {
            features.extend((!profile.effort_args.is_empty()).then_some("reasoning_effort"));
            features.extend(profile.counts_requests.then_some("budget"));
        }
        agent::features(&features)
    }

    fn availability(host: &dyn Host, probe_timeout_ms: u32) -> AvailabilityReport {
        let profile = match Profile::read(host) {
            Ok(profile) => profile,
            Err(error) => return agent::availability(Readiness::NotReady, "setup-failed", error.message),
        };
        let title = profile.title();
        if probe_timeout_ms == 0 {
            let message = format!("the settings are complete; {title} was not started");
            return agent::availability(Readiness::Unknown, "unknown", message);
        }
        match run::greet(host, &profile, probe_timeout_ms) {
            Ok(version) => {
                // Whether its model answers is known only after a prompt, which may cost something.
                let message = format!("{title} starts and speaks version {} of the protocol", run::PROTOCOL_VERSION);
                let report = agent::availability(Readiness::Ready, "available", message);
                AvailabilityReport { version: Some(version).filter(|version| !version.is_empty()), ..report }
            }
            Err(error) if error.kind == ErrorKind::NotFound => {
                let message =
                    format!("`{}` is not there; {title} is installed by: {}", profile.program, profile.install);
                agent::availability(Readiness::NotReady, "missing-program", message)
            }
            Err(error) if error.kind == ErrorKind::Denied && matches!(error.code.as_str(), "command" | "env") => {
                agent::availability(Readiness::NotReady, "setup-failed", error.message)
            }
            // No text of the agent may be copied into a report.
            Err(error) => {
                let status = match error.kind {
                    ErrorKind::Unsupported | ErrorKind::Invalid => Readiness::NotReady,
                    _ => Readiness::Unknown,
                };
                agent::availability(status, "setup-failed", format!("{title} did not start well: `{}`", error.code))
            }
        }
    }

    fn validate(host: &dyn Host, task: &Task) -> Vec<Issue> {
        let profile = match Profile::read(host) {
            Ok(profile) => profile,
            Err(error) => return vec![issue("settings", error.message)],
        };
        refused(host, task, &profile)
    }

    fn run(host: &dyn Host, task: Task) -> Result<Outcome> {
        let profile = Profile::read(host)?;
        match run::run(host, &task, &profile) {
            Err(error) if error.is_cancelled() => Ok(Outcome::failed(error)),
            result => result,
        }
    }
}

midplane_plugin::export_agent!(AcpAgent);

/// Whether the task allows looking and nothing else.
pub(crate) fn reads_only(allowed: &PermissionProfile) -> bool {
    allowed.mode == PermissionMode::Strict || allowed.filesystem == FilesystemAccess::ReadOnly
}

/// All reasons to refuse the task, in the order of its fields.
fn refused(host: &dyn Host, task: &Task, profile: &Profile) -> Vec<Issue> {
    let title = profile.title();
    let mut issues = Vec::new();
    let mut refuse = |field: &str, message: String| issues.push(issue(field, message));

    let setting = settings::text(host, "model");
    let model = task.model.as_deref().or(setting.as_deref());
    if let Some(model) = model {
        let field = if task.model.is_some() { "model" } else { "settings" };
        if !is_plain_word(model) {
            refuse(field, format!("`{}` is no name of a model that can be handed over", model.escape_debug()));
        } else if !profile.names_model(settings::text(host, "login").as_deref() != Some("own")) {
            let why = format!("{title} cannot be told a model, by its row and setting `login`; leave it out");
            refuse(field, why);
        }
    }
    if let Some(effort) = &task.reasoning_effort {
        if profile.effort_args.is_empty() {
            refuse("reasoning_effort", format!("{title} cannot be told how hard to think; leave it out"));
        } else if !is_plain_word(effort) {
            refuse("reasoning_effort", "it is not a plain word, such as `low` or `high`".to_owned());
        }
    }
    if task.working_directory.is_none() {
        refuse("working_directory", "an agent needs a folder to work in; give one with `--workspace`".to_owned());
    }
    let allowed = &task.permissions;
    if let Err((field, why)) = profile.mode(allowed) {
        refuse(field, why);
    }
    for (field, tools) in [
        ("permissions.allowed_tools", &allowed.allowed_tools),
        ("permissions.disallowed_tools", &allowed.disallowed_tools),
    ] {
        if !tools.is_empty() {
            let why = "the protocol has no list of tools; leave it out and take mode `strict` or `cautious`";
            refuse(field, why.to_owned());
        }
    }
    if allowed.network.is_some() {
        refuse(
            "permissions.network",
            "the protocol cannot switch the network of the agent's programs; leave it out".to_owned(),
        );
    }
    if allowed.native_profile.is_some() {
        refuse(
            "permissions.native_profile",
            "the agent's modes are chosen by `mode` and `filesystem`; leave it out".to_owned(),
        );
    }
    if task.budget_usd.is_some() && !profile.counts_requests {
        let why = format!("{title} tells what it used only when a turn is over, too late to stop it; leave it out");
        refuse("budget_usd", why);
    }
    if has_transcript(task) {
        refuse("session.transcript", "the agent keeps its own transcripts; give the id alone".to_owned());
    }
    if task.output_schema.is_some() {
        refuse("output_schema", "the protocol has no structured answers; ask for JSON in the goal".to_owned());
    }
    for (index, attachment) in task.attachments.iter().enumerate() {
        if !ATTACHMENT_KINDS.contains(&attachment.kind.as_str()) {
            let why = format!("an attachment of kind `{}` cannot be made known to the agent", attachment.kind);
            refuse(&format!("attachments[{index}].kind"), why);
        }
    }
    issues
}
