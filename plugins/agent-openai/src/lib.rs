//! OpenAI's models and every compatible server, as a Midplane agent: over the Responses API, or over Chat Completions.
//!
//! The tool loop, retries, transcript and structured output are the SDK's (`midplane_plugin::agent_loop`); this crate
//! is the vendor's translation and little else. A compatible vendor is a profile with other settings.
//!
//! # Layout
//! - this file: settings, and what both APIs share
//! - [`responses`]: requests and streams of the Responses API
//! - [`chat`]: requests and streams of Chat Completions
//! - [`errors`]: the vendor's codes
//!
//! # What it never does
//! It never sees the key: the host adds it while it sends. It keeps nothing at the vendor (`store` is false) and sends
//! the conversation whole each time. It runs no tool and reads no file.

#![forbid(unsafe_code)]

pub mod chat;
pub mod errors;
pub mod responses;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use midplane_plugin::agent_loop::prelude::*;

/// Calls or items of one reply at most.
pub(crate) const PARTS_MAX: usize = 1024;

/// The words of `reasoning_summary`, and what is sent for them.
const SUMMARIES: [(&str, Option<&str>); 4] =
    [("none", None), ("auto", Some("auto")), ("concise", Some("concise")), ("detailed", Some("detailed"))];

/// The vendor, as configured.
#[derive(Debug, Clone)]
pub struct OpenAi {
    /// Where it is, with the version of the API and without a slash at the end.
    pub base_url: String,
    /// Which API is spoken.
    pub api: Api,
    /// The words for reasoning effort; empty when the model does not reason.
    pub efforts: Vec<String>,
    /// The summary of its reasoning that the model is asked for.
    pub reasoning_summary: Option<&'static str>,
    /// Most tokens of one reply; 0 leaves it to the vendor.
    pub max_output_tokens: u32,
    /// Fields of each request, from the operator.
    pub extra: Map<String, Value>,
    /// Headers of each request, from the operator.
    pub headers: BTreeMap<String, String>,
}

/// Which API is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// `POST /responses`.
    Responses,
    /// `POST /chat/completions`.
    Chat,
}

impl Adapter for OpenAi {
    const API: &'static str = "the API";

    fn configured(host: &dyn Host) -> Result<Self> {
        let extra: Map<String, Value> = settings::parsed_or(host, "extra", Map::new())?;
        // What the loop itself decides: another value would break the conversation in ways that are hard to see.
        let own = ["model", "input", "messages", "stream"];
        if let Some(name) = own.into_iter().find(|name| extra.contains_key(*name)) {
            return Err(Error::invalid(
                "setting",
                format!("setting `extra` cannot have `{name}`: it is set by each request"),
            ));
        }
        Ok(Self {
            base_url: adapter::base_url(host)?,
            api: settings::choice(host, "api", &[("responses", Api::Responses), ("chat", Api::Chat)])?,
            efforts: settings::parsed_or(host, "efforts", Vec::new())?,
            reasoning_summary: settings::choice(host, "reasoning_summary", &SUMMARIES)?,
            max_output_tokens: settings::parsed_or(host, "max_output_tokens", 0)?,
            extra,
            headers: settings::parsed_or(host, "headers", BTreeMap::new())?,
        })
    }

    fn check_effort(&self, effort: &str, _model: &str) -> Result<()> {
        if self.efforts.iter().any(|known| known == effort) {
            return Ok(());
        }
        let message = if self.efforts.is_empty() {
            "the model does not reason (the setting `efforts` is empty); leave it out".to_owned()
        } else {
            format!("`{effort}` is none of `{}` (the setting `efforts`)", self.efforts.join("`, `"))
        };
        Err(Error::invalid("reasoning-effort", message))
    }

    fn probe(&self) -> Builder {
        self.with_headers(Builder::new("GET", format!("{}/models", self.base_url)))
    }
}

midplane_plugin::export_agent!(OpenAi);

impl Vendor for OpenAi {
    fn form(&self) -> &str {
        match self.api {
            Api::Responses => "openai-responses",
            Api::Chat => "openai-chat",
        }
    }

    fn user(&self, text: &str) -> Value {
        // Both APIs take this form.
        json!({ "role": "user", "content": text })
    }

    fn partial(&self, text: &str) -> Value {
        json!({ "role": "assistant", "content": text })
    }

    fn answers(&self, answers: &[Answer]) -> Vec<Value> {
        // Neither API has a field for a failed call; the host's text says that it failed.
        let message = |answer: &Answer| match self.api {
            Api::Responses => json!({ "type": "function_call_output", "call_id": answer.id, "output": answer.text }),
            Api::Chat => json!({ "role": "tool", "tool_call_id": answer.id, "content": answer.text }),
        };
        answers.iter().map(message).collect()
    }

    fn request(&self, turn: &Turn<'_>) -> Result<Builder> {
        let (path, mut body) = match self.api {
            Api::Responses => ("responses", responses::body(self, turn)?),
            Api::Chat => ("chat/completions", chat::body(self, turn)?),
        };
        // An operator's `null` takes a field out.
        body.extend(self.extra.clone());
        body.retain(|name, value| !value.is_null() || !self.extra.contains_key(name));
        let request = Builder::new("POST", format!("{}/{path}", self.base_url)).header("accept", "text/event-stream");
        self.with_headers(request).json(&body)
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        match self.api {
            Api::Responses => Box::new(responses::ResponseStream::default()),
            Api::Chat => Box::new(chat::ChatStream::default()),
        }
    }

    fn error(&self, status: u16, headers: &[(String, String)], body: &[u8]) -> Error {
        errors::of_answer(status, headers, body)
    }
}

impl OpenAi {
    fn with_headers(&self, request: Builder) -> Builder {
        self.headers.iter().fold(request, |request, (name, value)| request.header(name, value))
    }
}

/// The counters of a `usage` object, whose fields have other names in the two APIs. The contract counts what came from
/// the cache apart, the vendor counts it into the input.
pub(crate) fn usage(value: &Value) -> Usage {
    let first = |names: &[&str]| names.iter().find_map(|name| value.pointer(name)?.as_u64());
    let cached = first(&[
        "/input_tokens_details/cached_tokens",
        "/prompt_tokens_details/cached_tokens",
        // DeepSeek.
        "/prompt_cache_hit_tokens",
    ]);
    parts::usage(
        first(&["/input_tokens", "/prompt_tokens"]),
        cached,
        [first(&["/output_tokens", "/completion_tokens"]), None],
        first(&["/total_tokens"]),
    )
}
