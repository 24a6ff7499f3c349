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

use midplane_plugin::agent_loop::adapter::{self, Adapter};
use midplane_plugin::http::Builder;
use midplane_plugin::{Error, Host, Result, settings};

use wire::{Anthropic, Thinking};

impl Adapter for Anthropic {
    const API: &'static str = "the Messages API";

    fn configured(host: &dyn Host) -> Result<Self> {
        let max_tokens: u32 = settings::parsed_or(host, "max_tokens", 16_384)?;
        if max_tokens == 0 {
            return Err(Error::invalid("setting", "setting `max_tokens` is 0, and a reply has at least 1"));
        }
        Ok(Self {
            base_url: adapter::base_url(host)?.trim_end_matches("/v1").to_owned(),
            max_tokens,
            prompt_cache: settings::parsed_or(host, "prompt_cache", true)?,
            betas: settings::parsed_or(host, "betas", Vec::new())?,
        })
    }

    /// What it becomes depends on the model, so it is read again for each request.
    fn set_effort(&mut self, effort: &str) -> Result<()> {
        self.set_effort_of(effort, "")
    }

    fn set_effort_of(&mut self, effort: &str, model: &str) -> Result<()> {
        Thinking::of(Some(effort), model).map(drop)
    }

    /// Lists one model, which costs nothing.
    fn probe(&self) -> Builder {
        Builder::new("GET", format!("{}/v1/models?limit=1", self.base_url)).header("anthropic-version", wire::VERSION)
    }
}

midplane_plugin::export_agent!(Anthropic);
