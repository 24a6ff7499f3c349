//! Claude over the Anthropic Messages API, as a Midplane agent.
//!
//! The tool loop, retries, transcript, structured output and the rules of every adapter are the SDK's
//! (`midplane_plugin::agent_loop`); this crate is the vendor's translation and little else.
//!
//! # Layout
//! - this file: settings, and what is refused besides what every adapter refuses
//! - [`wire`]: requests, answers to tool calls, thinking, errors
//! - [`stream`]: the events of one streamed reply
//!
//! # What it never does
//! It never sees the key: the host adds `x-api-key` while it sends. It runs no tool and reads no file.

#![forbid(unsafe_code)]

pub mod stream;
pub mod wire;

#[cfg(test)]
mod tests;

use midplane_plugin::agent_loop::prelude::*;
use wire::{Anthropic, Thinking};

impl Adapter for Anthropic {
    const API: &'static str = "the Messages API";

    fn configured(host: &dyn Host) -> Result<Self> {
        Ok(Self {
            base_url: adapter::base_url(host)?.trim_end_matches("/v1").to_owned(),
            max_tokens: adapter::reply_tokens(host, "max_tokens")?.unwrap_or(16_384),
            prompt_cache: settings::parsed_or(host, "prompt_cache", true)?,
            betas: settings::parsed_or(host, "betas", Vec::new())?,
        })
    }

    fn check_effort(&self, effort: &str, model: &str) -> Result<()> {
        Thinking::of(Some(effort), model).map(drop)
    }

    /// Lists one model, which costs nothing.
    fn probe(&self) -> Builder {
        Builder::new("GET", format!("{}/v1/models?limit=1", self.base_url)).header("anthropic-version", wire::VERSION)
    }
}

midplane_plugin::export_agent!(Anthropic);
