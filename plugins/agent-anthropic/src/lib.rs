//! Claude over the Anthropic Messages API, as a Midplane agent.
//!
//! The tool loop, retries, transcript and structured output are the SDK's (`midplane_plugin::agent_loop`); this crate
//! is the vendor's translation and little else.
//!
//! # Layout
//! - this file: settings, what the adapter declares, what it refuses
//! - [`wire`]: requests, answers to tool calls, errors
//! - [`stream`]: the events of one streamed reply
//!
//! # What it never does
//! It never sees the key: the host adds `x-api-key` while it sends. It runs no tool and reads no file.

#![forbid(unsafe_code)]

pub mod stream;
pub mod wire;

#[cfg(test)]
mod tests;

use midplane_plugin::agent::{self, AvailabilityReport, CapabilitySet, Issue, Outcome, Readiness, Task, issue};
use midplane_plugin::agent_loop::{self, Options, system};
use midplane_plugin::http::Builder;
use midplane_plugin::{Agent, Error, ErrorKind, Host, Result, settings};

use wire::{Anthropic, Thinking};

/// What the adapter can do. Not `budget`: a reply names no price, so a limit in money could not be kept.
const FEATURES: &[&str] = &[
    "working_directory",
    "session_resume",
    "structured_output",
    "streaming",
    "tool_audit",
    "cancellation",
    "reasoning_effort",
    "tool_filters",
    "skills",
    "files",
    "steering",
];

/// The adapter.
pub struct AnthropicAgent;

impl Agent for AnthropicAgent {
    fn capabilities(_host: &dyn Host) -> CapabilitySet {
        agent::features(FEATURES)
    }

    fn availability(host: &dyn Host, probe_timeout_ms: u32) -> AvailabilityReport {
        let vendor = match configured(host, None) {
            Ok((vendor, _)) => vendor,
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
        match probe(host, &vendor, probe_timeout_ms) {
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
        if task.model.as_ref().is_some_and(|model| model.trim().is_empty()) {
            issues.push(issue("model", "the model is blank; leave it out for the one of the settings"));
        }
        if let Some(effort) = &task.reasoning_effort
            && let Err(error) = Thinking::parse(effort)
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
            issues
                .push(issue("permissions.native_profile", "the Messages API has no permission profiles; leave it out"));
        }
        for (index, attachment) in task.attachments.iter().enumerate() {
            if !system::ATTACHMENT_KINDS.contains(&attachment.kind.as_str()) {
                issues.push(issue(
                    format!("attachments[{index}].kind"),
                    format!("an attachment of kind `{}` cannot be made known to the model", attachment.kind),
                ));
            }
        }
        if let Err(error) = configured(host, task.model.as_deref()) {
            issues.push(issue("settings", error.message));
        }
        issues
    }

    fn run(host: &dyn Host, task: Task) -> Result<Outcome> {
        let (mut vendor, options) = configured(host, task.model.as_deref())?;
        if let Some(effort) = &task.reasoning_effort {
            vendor.thinking = Thinking::parse(effort)?;
        }
        agent_loop::run(host, &vendor, &task, &options)
    }
}

midplane_plugin::export_agent!(AnthropicAgent);

/// The vendor and the loop's options, from the settings.
fn configured(host: &dyn Host, model: Option<&str>) -> Result<(Anthropic, Options)> {
    let base_url = settings::text_required(host, "base_url")?;
    let base_url = base_url.trim().trim_end_matches('/').trim_end_matches("/v1");
    if !base_url.starts_with("https://") && !base_url.starts_with("http://") {
        return Err(Error::invalid(
            "setting",
            format!("setting `base_url` is `{base_url}`, not an `https` or `http` URL"),
        ));
    }
    let model = match model {
        Some(model) => model.to_owned(),
        None => settings::text_required(host, "model")?,
    };
    let max_tokens: u32 = settings::parsed_or(host, "max_tokens", 16_384)?;
    if max_tokens == 0 {
        return Err(Error::invalid("setting", "setting `max_tokens` is 0, and a reply has at least 1"));
    }
    let vendor = Anthropic {
        base_url: base_url.to_owned(),
        max_tokens,
        thinking: Thinking::OFF,
        prompt_cache: settings::parsed_or(host, "prompt_cache", true)?,
        betas: settings::parsed_or(host, "betas", Vec::new())?,
    };
    let retry_wait_max_s: u64 = settings::parsed_or(host, "retry_wait_max_s", 120)?;
    let options = Options {
        model,
        retries_max: settings::parsed_or(host, "retries_max", 4)?,
        retry_wait_max_ms: retry_wait_max_s.saturating_mul(1000),
    };
    Ok((vendor, options))
}

/// Asks for the list of models, which costs nothing.
fn probe(host: &dyn Host, vendor: &Anthropic, timeout_ms: u32) -> Result<()> {
    let response = Builder::new("GET", format!("{}/v1/models?limit=1", vendor.base_url))
        .header("anthropic-version", wire::VERSION)
        .timeout_ms(timeout_ms)
        .send(host)?;
    match response.status {
        200..=299 => Ok(()),
        // No text of the vendor may be copied into a report, so the status speaks for itself.
        401 | 403 => Err(Error::denied(
            "credential",
            format!("the vendor refused the credential with status {}", response.status),
        )),
        status => Err(Error::unavailable("status", format!("the vendor answered with status {status}"))),
    }
}
