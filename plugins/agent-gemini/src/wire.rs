//! What both APIs share: settings, URLs, how hard to think, and errors.

use midplane_plugin::agent_loop::Options;
use midplane_plugin::error::cut;
use midplane_plugin::http::{body_message, retry_after_ms, status_error};
use midplane_plugin::{Error, Host, Result, settings};
use serde_json::Value;

/// The most thinking tokens that any model takes.
const THINKING_TOKENS_MAX: u32 = 32_768;

/// Which of Google's two interfaces is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// `generateContent`.
    GenerateContent,
    /// The Interactions API.
    Interactions,
}

/// A place in Vertex AI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vertex {
    /// The project of Google Cloud.
    pub project: String,
    /// The location, such as `global`.
    pub location: String,
}

/// The vendor, as configured.
#[derive(Debug, Clone)]
pub struct Gemini {
    /// Where it is, without version and without a slash at the end.
    pub base_url: String,
    /// Which interface.
    pub api: Api,
    /// Whether the vendor keeps the conversation; Interactions only.
    pub store: bool,
    /// Set for Vertex AI.
    pub vertex: Option<Vertex>,
    /// Most tokens of one reply.
    pub max_tokens: Option<u32>,
    /// Whether summaries of the thinking are asked for.
    pub thoughts: bool,
    /// How much it may think.
    pub thinking: Thinking,
}

/// How much the model may think. Models up to 2.5 take a number of tokens, later ones a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thinking {
    /// The model's own measure.
    Default,
    /// A number of tokens; -1 leaves it to the model.
    Budget(i32),
    /// A level, in lower case.
    Level(&'static str),
}

impl Thinking {
    /// Reads an effort: a word, or a number of tokens.
    pub fn parse(effort: &str, model: &str, api: Api) -> Result<Self> {
        let refused = |why: &str| Err(Error::invalid("reasoning-effort", format!("`{effort}` {why}")));
        let name = model.rsplit('/').next().unwrap_or(model);
        let by_level = api == Api::Interactions || !takes_budget(name);
        if let Ok(tokens) = effort.parse::<u32>() {
            return match i32::try_from(tokens) {
                _ if api == Api::Interactions => refused("is a number, and the Interactions API takes only words"),
                Ok(tokens) if tokens.unsigned_abs() <= THINKING_TOKENS_MAX => Ok(Self::Budget(tokens)),
                _ => refused(&format!("is more than {THINKING_TOKENS_MAX} tokens")),
            };
        }
        // The numbers are those of the vendor's own table for words of other APIs.
        let most = if name.contains("pro") { 32_768 } else { 24_576 };
        let (level, budget) = match effort {
            "auto" => return Ok(if by_level { Self::Default } else { Self::Budget(-1) }),
            "none" | "off" if by_level => return refused("cannot be had of this model; the least is `minimal`"),
            "none" | "off" if name.contains("pro") => {
                return refused("cannot be had of this model; the least is `low`");
            }
            "none" | "off" => return Ok(Self::Budget(0)),
            "minimal" => ("minimal", 512),
            "low" => ("low", 1024),
            "medium" => ("medium", 8192),
            "high" => ("high", 24_576),
            "max" => ("high", most),
            _ => {
                return refused(
                    "is none of `none`, `auto`, `minimal`, `low`, `medium`, `high`, `max` or a number of tokens",
                );
            }
        };
        Ok(if by_level { Self::Level(level) } else { Self::Budget(budget) })
    }
}

/// Whether the model is of a generation that takes a number of tokens instead of a level.
fn takes_budget(name: &str) -> bool {
    ["gemini-1.", "gemini-2."].iter().any(|start| name.starts_with(start))
}

impl Gemini {
    /// Whether to ask for summaries of the thinking: models that cannot think refuse to be asked.
    #[must_use]
    pub fn wants_thoughts(&self, model: &str) -> bool {
        let name = model.rsplit('/').next().unwrap_or(model);
        let old = ["gemini-1.", "gemini-2.0"].iter().any(|start| name.starts_with(start));
        self.thoughts && self.thinking != Thinking::Budget(0) && name.starts_with("gemini-") && !old
    }

    /// Where a model is asked for content. A model without a slash is one of Google's.
    #[must_use]
    pub fn content_url(&self, model: &str) -> String {
        let base = &self.base_url;
        let model = model.strip_prefix("models/").unwrap_or(model);
        let path = match &self.vertex {
            Some(Vertex { project, location }) => {
                let place = format!("v1/projects/{project}/locations/{location}");
                if model.contains('/') {
                    format!("{place}/{model}")
                } else {
                    format!("{place}/publishers/google/models/{model}")
                }
            }
            None if model.contains('/') => format!("v1beta/{model}"),
            None => format!("v1beta/models/{model}"),
        };
        format!("{base}/{path}:streamGenerateContent?alt=sse")
    }

    /// Where the models are listed.
    #[must_use]
    pub fn models_url(&self) -> String {
        let path = if self.vertex.is_some() { "v1beta1/publishers/google/models" } else { "v1beta/models" };
        format!("{}/{path}?pageSize=1", self.base_url)
    }
}

/// The vendor and the loop's options, from the settings.
pub fn configured(host: &dyn Host, model: Option<&str>) -> Result<(Gemini, Options)> {
    let bad = |message: String| Err(Error::invalid("setting", message));
    let base_url = settings::text_required(host, "base_url")?;
    let base_url = base_url.trim().trim_end_matches('/').trim_end_matches("/v1beta").trim_end_matches("/v1");
    if !base_url.starts_with("https://") && !base_url.starts_with("http://") {
        return bad(format!("setting `base_url` is `{base_url}`, not an `https` or `http` URL"));
    }
    let api = match settings::text(host, "api").as_deref() {
        None | Some("generate-content") => Api::GenerateContent,
        Some("interactions") => Api::Interactions,
        Some(other) => return bad(format!("setting `api` is `{other}`, not `generate-content` or `interactions`")),
    };
    let vertex = match settings::text(host, "vertex_project").filter(|project| !project.trim().is_empty()) {
        None => None,
        Some(project) => {
            let location = settings::text(host, "vertex_location").unwrap_or_else(|| "global".into());
            // Both become parts of a path.
            for (name, value) in [("vertex_project", &project), ("vertex_location", &location)] {
                if !value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-:.".contains(&b)) || value.starts_with('.') {
                    return bad(format!("setting `{name}` is `{value}`, which is no name of Google Cloud"));
                }
            }
            if api == Api::Interactions {
                return bad(
                    "setting `api` is `interactions`, which is not spoken to Vertex AI; use `generate-content`".into(),
                );
            }
            if base_url.ends_with("//generativelanguage.googleapis.com") {
                let region = if location == "global" { String::new() } else { format!("{location}-") };
                return bad(format!(
                    "setting `vertex_project` is set and `base_url` is not of Vertex AI; set `base_url` to \
                     `https://{region}aiplatform.googleapis.com` and `credential` to `vertex`"
                ));
            }
            Some(Vertex { project, location })
        }
    };
    let model = match model {
        Some(model) => model.to_owned(),
        None => settings::text_required(host, "model")?,
    };
    check_model(&model)?;
    let max_tokens: Option<u32> = settings::parsed(host, "max_tokens")?;
    if max_tokens == Some(0) {
        return bad("setting `max_tokens` is 0, and a reply has at least 1".into());
    }
    let gemini = Gemini {
        base_url: base_url.to_owned(),
        api,
        store: settings::parsed_or(host, "store", true)?,
        vertex,
        max_tokens,
        thoughts: settings::parsed_or(host, "thoughts", true)?,
        thinking: Thinking::Default,
    };
    let retry_wait_max_s: u64 = settings::parsed_or(host, "retry_wait_max_s", 120)?;
    let options = Options {
        model,
        retries_max: settings::parsed_or(host, "retries_max", 4)?,
        retry_wait_max_ms: retry_wait_max_s.saturating_mul(1000),
    };
    Ok((gemini, options))
}

/// The name becomes part of a path, so nothing in it may end that part or lead out of it.
pub fn check_model(model: &str) -> Result<()> {
    let word = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.@".contains(&b))
    };
    if model.len() <= 256 && model.split('/').all(word) {
        return Ok(());
    }
    Err(Error::invalid(
        "model",
        "the model is no name that Google gives: letters, digits, `-`, `_`, `.`, and `/` between parts",
    ))
}

/// The error of an answer that is not a success.
#[must_use]
pub fn error(status: u16, headers: &[(String, String)], body: &[u8]) -> Error {
    let parsed: Value = serde_json::from_slice(body).unwrap_or_default();
    // A stream that fails before it began is answered as a list with one element.
    let error = if parsed.is_array() { &parsed[0]["error"] } else { &parsed["error"] };
    let Some(word) = error["status"].as_str() else { return status_error(status, headers, &body_message(body)) };
    match typed(word, error) {
        Some(error) => match retry_after_ms(headers) {
            Some(ms) if error.is_retryable() && error.retry_after_ms.is_none() => error.retry_after_ms(ms),
            _ => error,
        },
        None => status_error(status, headers, &body_message(body)),
    }
}

/// The error of one of Google's status words, the same in an error body and in a stream. A word that is not known is
/// judged by the status of the answer.
#[must_use]
pub fn typed(word: &str, error: &Value) -> Option<Error> {
    let message = cut(error["message"].as_str().unwrap_or("no explanation").to_owned(), 1000);
    let text = format!("the vendor says `{}`: {message}", cut(word.to_owned(), 64));
    let details = || error["details"].as_array().into_iter().flatten();
    Some(match word {
        // A wrong key is an invalid argument, and only the reason tells it from a wrong request.
        "INVALID_ARGUMENT" if details().any(|detail| detail["reason"] == "API_KEY_INVALID") => {
            Error::denied("credential", text)
        }
        "INVALID_ARGUMENT" | "FAILED_PRECONDITION" | "OUT_OF_RANGE" => Error::invalid("request", text),
        "UNAUTHENTICATED" => Error::denied("credential", text),
        "PERMISSION_DENIED" => Error::denied("vendor-permission", text),
        "NOT_FOUND" => Error::not_found("vendor-not-found", text),
        "RESOURCE_EXHAUSTED" => {
            let per_day = |detail: &Value| {
                detail["violations"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .any(|violation| violation["quotaId"].as_str().is_some_and(|id| id.contains("PerDay")))
            };
            // A daily quota comes with a delay of seconds too, after which it is as spent as before.
            if details().any(per_day) {
                return Some(Error::limit("quota", text));
            }
            let error = Error::unavailable("rate-limited", text);
            match details().find_map(|detail| delay_ms(detail["retryDelay"].as_str()?)) {
                Some(ms) => error.retry_after_ms(ms),
                None => error,
            }
        }
        "UNIMPLEMENTED" => Error::unsupported("vendor-unsupported", text),
        "UNAVAILABLE" => Error::unavailable("overloaded", text),
        "DEADLINE_EXCEEDED" => Error::unavailable("timeout", text),
        "INTERNAL" | "UNKNOWN" | "ABORTED" | "CANCELLED" | "DATA_LOSS" => Error::unavailable("vendor-error", text),
        _ => return None,
    })
}

/// A duration of `google.protobuf`, such as `17s` or `0.5s`.
fn delay_ms(text: &str) -> Option<u64> {
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    (seconds.is_finite() && seconds >= 0.0).then(|| (seconds.min(86_400.0) * 1000.0).ceil() as u64)
}

/// The error of data that no stream of this vendor has.
pub(crate) fn malformed(what: &str) -> Error {
    Error::internal("stream-malformed", format!("the vendor's stream is malformed: {what}"))
}

/// A JSON Schema as the vendor takes it: it knows no `$schema`.
pub(crate) fn schema(text: &str) -> Result<Value> {
    let mut schema: Value = serde_json::from_str(text)?;
    if let Some(fields) = schema.as_object_mut() {
        fields.remove("$schema");
    }
    Ok(schema)
}
