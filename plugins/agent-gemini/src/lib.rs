//! Gemini over Google's HTTP APIs, as a Midplane agent: `generateContent` streamed, or the Interactions API; from the
//! Gemini API with a key, or from Vertex AI with an account of Google Cloud.
//!
//! The tool loop, retries, transcript, structured output and the rules of every adapter are the SDK's
//! (`midplane_plugin::agent_loop`); this crate is the vendor's translation and little else.
//!
//! # Layout
//! - this file: settings and URLs, and which of the two APIs is spoken
//! - [`content`]: the older API, `generateContent`
//! - [`interactions`]: the Interactions API
//! - [`wire`]: what both share: thinking, names of models, errors
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

use midplane_plugin::agent::{Issue, Task, issue};
use midplane_plugin::agent_loop::prelude::*;

use wire::Thinking;

/// Where the Gemini API is; Vertex AI is elsewhere.
const GEMINI_API: &str = "https://generativelanguage.googleapis.com";

/// Which of Google's two interfaces is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// `generateContent`.
    GenerateContent,
    /// The Interactions API.
    Interactions,
}

/// The vendor, as configured.
#[derive(Debug)]
pub struct Gemini {
    /// Where it is, without version and without a slash at the end.
    base_url: String,
    api: Api,
    /// Whether the vendor keeps the conversation; Interactions only.
    store: bool,
    /// `projects/P/locations/L`, for Vertex AI.
    vertex: Option<String>,
    /// Most tokens of one reply.
    max_tokens: Option<u32>,
    /// Whether summaries of the thinking are asked for.
    thoughts: bool,
}

impl Vendor for Gemini {
    fn form(&self) -> &str {
        match self.api {
            Api::GenerateContent => "gemini-contents",
            Api::Interactions => "gemini-interactions",
        }
    }

    fn user(&self, text: &str) -> Value {
        match self.api {
            Api::GenerateContent => content::message("user", text),
            Api::Interactions => interactions::step("user_input", text),
        }
    }

    fn partial(&self, text: &str) -> Value {
        match self.api {
            Api::GenerateContent => content::message("model", text),
            Api::Interactions => interactions::step("model_output", text),
        }
    }

    fn answers(&self, answers: &[Answer]) -> Vec<Value> {
        match self.api {
            Api::GenerateContent => vec![content::answers(answers)],
            Api::Interactions => answers.iter().map(interactions::answer).collect(),
        }
    }

    fn request(&self, turn: &Turn<'_>) -> Result<Builder> {
        wire::check_model(turn.model)?;
        let request = match self.api {
            Api::GenerateContent => {
                Builder::new("POST", self.content_url(turn.model)).json(&content::body(self, turn)?)
            }
            Api::Interactions => Builder::new("POST", format!("{}/v1beta/interactions", self.base_url))
                .header("api-revision", interactions::REVISION)
                .json(&interactions::body(self, turn)?),
        };
        Ok(request?.header("accept", "text/event-stream"))
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        match self.api {
            Api::GenerateContent => Box::new(content::ContentStream::default()),
            Api::Interactions => Box::new(interactions::StepStream::default()),
        }
    }

    fn error(&self, status: u16, headers: &[(String, String)], body: &[u8]) -> Error {
        wire::error(status, headers, body)
    }
}

impl Adapter for Gemini {
    const API: &'static str = "Gemini's API";

    fn configured(host: &dyn Host) -> Result<Self> {
        let base_url = adapter::base_url(host)?;
        let base_url = base_url.trim_end_matches("/v1beta").trim_end_matches("/v1").to_owned();
        let apis = [("generate-content", Api::GenerateContent), ("interactions", Api::Interactions)];
        let api = settings::choice(host, "api", &apis)?;
        Ok(Self {
            vertex: vertex(host, api, &base_url)?,
            base_url,
            api,
            store: settings::parsed_or(host, "store", true)?,
            max_tokens: adapter::reply_tokens(host, "max_tokens")?,
            thoughts: settings::parsed_or(host, "thoughts", true)?,
        })
    }

    fn check_effort(&self, effort: &str, model: &str) -> Result<()> {
        Thinking::of(effort, model, self.api).map(drop)
    }

    /// Lists one model, which costs nothing.
    fn probe(&self) -> Builder {
        let path = if self.vertex.is_some() { "v1beta1/publishers/google/models" } else { "v1beta/models" };
        Builder::new("GET", format!("{}/{path}?pageSize=1", self.base_url))
    }

    fn issues(&self, task: &Task) -> Vec<Issue> {
        // A blank one is told by the rules of every adapter.
        let model = task.model.as_deref().filter(|model| !model.trim().is_empty());
        let error = model.and_then(|model| wire::check_model(model).err());
        error.map(|error| issue("model", error.message)).into_iter().collect()
    }
}

midplane_plugin::export_agent!(Gemini);

impl Gemini {
    /// Where a model is asked for content. A model without a slash is one of Google's.
    fn content_url(&self, model: &str) -> String {
        let model = model.strip_prefix("models/").unwrap_or(model);
        let folder = match &self.vertex {
            Some(place) if model.contains('/') => format!("v1/{place}"),
            Some(place) => format!("v1/{place}/publishers/google/models"),
            None if model.contains('/') => "v1beta".to_owned(),
            None => "v1beta/models".to_owned(),
        };
        format!("{}/{folder}/{model}:streamGenerateContent?alt=sse", self.base_url)
    }

    /// How much the next reply may be thought about.
    fn thinking(&self, turn: &Turn<'_>) -> Result<Thinking> {
        turn.effort.map_or(Ok(Thinking::Default), |effort| Thinking::of(effort, turn.model, self.api))
    }

    /// Whether to ask for summaries of the thinking: models that cannot think refuse to be asked.
    fn wants_thoughts(&self, model: &str, thinking: Thinking) -> bool {
        let name = wire::last_part(model);
        let old = ["gemini-1.", "gemini-2.0"].iter().any(|start| name.starts_with(start));
        self.thoughts && thinking != Thinking::Budget(0) && name.starts_with("gemini-") && !old
    }
}

/// The place in Vertex AI, from the settings.
fn vertex(host: &dyn Host, api: Api, base_url: &str) -> Result<Option<String>> {
    let bad = |message: String| Err(Error::invalid("setting", message));
    let Some(project) = settings::text(host, "vertex_project").filter(|project| !project.trim().is_empty()) else {
        return Ok(None);
    };
    let location = settings::text(host, "vertex_location").unwrap_or_else(|| "global".into());
    // Both become parts of a path.
    let named = [("vertex_project", &project), ("vertex_location", &location)];
    if let Some((name, value)) = named.into_iter().find(|(_, value)| !wire::fits_path(value, b"-:.")) {
        return bad(format!("setting `{name}` is `{value}`, which is no name of Google Cloud"));
    }
    if api == Api::Interactions {
        return bad("setting `api` is `interactions`, which is not spoken to Vertex AI; use `generate-content`".into());
    }
    if base_url == GEMINI_API {
        let region = if location == "global" { String::new() } else { format!("{location}-") };
        return bad(format!(
            "setting `vertex_project` is set and `base_url` is not of Vertex AI; set `base_url` to \
             `https://{region}aiplatform.googleapis.com` and `credential` to `vertex`"
        ));
    }
    Ok(Some(format!("projects/{project}/locations/{location}")))
}
