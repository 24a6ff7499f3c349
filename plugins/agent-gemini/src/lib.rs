//! Gemini over Google's HTTP APIs, as a Midplane agent: `generateContent` streamed, or the Interactions API; from the
//! Gemini API with a key, or from Vertex AI with an account of Google Cloud.
//!
//! The tool loop, retries, transcript and structured output are the SDK's (`midplane_plugin::agent_loop`); this crate
//! is the vendor's translation and little else.
//!
//! # Layout
//! - this file: what the adapter declares, what it refuses
//! - [`wire`]: settings, URLs, thinking, errors: what both APIs share
//! - [`content`]: `generateContent`
//! - [`interactions`]: the Interactions API
//!
//! # What it never does
//! It never sees a key or token: the host puts in `x-goog-api-key` or an access token while it sends. It runs no tool
//! and reads no file.

#![forbid(unsafe_code)]

pub mod content;
pub mod interactions;
pub mod wire;

#[cfg(test)]
mod tests;

use midplane_plugin::agent::{self, AvailabilityReport, CapabilitySet, Issue, Outcome, Readiness, Task, issue};
use midplane_plugin::agent_loop::{self, Vendor, system};
use midplane_plugin::http::Builder;
use midplane_plugin::{Agent, ErrorKind, Host, Result};

use wire::{Api, Gemini, Thinking};

/// What the adapter can do. `budget` rests on the host, which prices the usage that the run reports.
const FEATURES: &[&str] = &[
    "working_directory",
    "session_resume",
    "structured_output",
    "streaming",
    "tool_audit",
    "cancellation",
    "budget",
    "reasoning_effort",
    "tool_filters",
    "skills",
    "files",
    "steering",
];

/// The adapter.
pub struct GeminiAgent;

impl Agent for GeminiAgent {
    fn capabilities(_host: &dyn Host) -> CapabilitySet {
        agent::features(FEATURES)
    }

    fn availability(host: &dyn Host, probe_timeout_ms: u32) -> AvailabilityReport {
        let gemini = match wire::configured(host, None) {
            Ok((gemini, _)) => gemini,
            Err(error) => return agent::availability(Readiness::NotReady, "setup-failed", error.message),
        };
        if probe_timeout_ms == 0 {
            // Whether the secret is there is known to the host alone.
            return agent::availability(
                Readiness::Unknown,
                "unknown",
                "the settings are complete; the vendor was not asked",
            );
        }
        match probe(host, &gemini, probe_timeout_ms) {
            Ok(()) => agent::availability(Readiness::Ready, "available", "the vendor answers and takes the credential"),
            Err(error) if error.kind == ErrorKind::Denied => {
                let reason = if error.code == "credential" { "missing-credentials" } else { "setup-failed" };
                agent::availability(Readiness::NotReady, reason, error.message)
            }
            Err(error) => agent::availability(Readiness::Unknown, "unknown", error.message),
        }
    }

    fn validate(host: &dyn Host, task: &Task) -> Vec<Issue> {
        let mut issues = Vec::new();
        let configured = wire::configured(host, task.model.as_deref());
        if let Some(model) = &task.model
            && let Err(error) = wire::check_model(model)
        {
            issues.push(issue("model", error.message));
        }
        // How a word is sent depends on model and API; where those are wrong, that is the issue.
        if let (Some(effort), Ok((gemini, options))) = (&task.reasoning_effort, &configured)
            && let Err(error) = Thinking::parse(effort, &options.model, gemini.api)
        {
            issues.push(issue("reasoning_effort", error.message));
        }
        if task.permissions.network.is_some() {
            issues.push(issue(
                "permissions.network",
                "the host's tools have no network of their own to switch; leave it out and grant or deny the shell instead",
            ));
        }
        if task.permissions.native_profile.is_some() {
            issues.push(issue("permissions.native_profile", "Gemini's API has no permission profiles; leave it out"));
        }
        for (index, attachment) in task.attachments.iter().enumerate() {
            if !system::ATTACHMENT_KINDS.contains(&attachment.kind.as_str()) {
                issues.push(issue(
                    format!("attachments[{index}].kind"),
                    format!("an attachment of kind `{}` cannot be made known to the model", attachment.kind),
                ));
            }
        }
        // A wrong model of the task is told above.
        if let Err(error) = configured
            && !issues.iter().any(|issue| issue.field == "model")
        {
            issues.push(issue("settings", error.message));
        }
        issues
    }

    fn run(host: &dyn Host, task: Task) -> Result<Outcome> {
        let (mut gemini, options) = wire::configured(host, task.model.as_deref())?;
        if let Some(effort) = &task.reasoning_effort {
            gemini.thinking = Thinking::parse(effort, &options.model, gemini.api)?;
        }
        let vendor: Box<dyn Vendor> = match gemini.api {
            Api::GenerateContent => Box::new(content::GenerateContent::new(gemini)),
            Api::Interactions => Box::new(interactions::Interactions::new(gemini)),
        };
        agent_loop::run(host, &*vendor, &task, &options)
    }
}

midplane_plugin::export_agent!(GeminiAgent);

/// Asks for the list of models, which costs nothing.
fn probe(host: &dyn Host, gemini: &Gemini, timeout_ms: u32) -> Result<()> {
    let response = Builder::new("GET", gemini.models_url()).timeout_ms(timeout_ms).send(host)?;
    let (status, headers) = (response.status, response.headers.clone());
    if (200..300).contains(&status) {
        return Ok(());
    }
    // A wrong key is answered with 400, and only the body says so. Its text is not copied into the report.
    let error = wire::error(status, &headers, &response.bytes_lossy(64 * 1024));
    let message = match error.code.as_str() {
        "credential" => format!("the vendor refused the credential with status {status}"),
        _ => format!("the vendor answered with status {status}"),
    };
    Err(midplane_plugin::Error::new(error.kind, error.code, message))
}
