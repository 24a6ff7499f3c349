//! What both APIs share: how hard to think, names of models, errors.

use midplane_plugin::error::cut;
use midplane_plugin::http::{body_message, duration_ms, status_error, with_retry_after};
use midplane_plugin::{Error, Result};
use serde_json::Value;

use crate::Api;

/// The most thinking tokens that any model takes.
const THINKING_TOKENS_MAX: i32 = 32_768;

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

/// The words of an effort, with the level and the tokens of each. The tokens are those of the vendor's own table for the
/// words of other APIs.
const EFFORTS: [(&str, &str, i32); 5] = [
    ("minimal", "minimal", 512),
    ("low", "low", 1024),
    ("medium", "medium", 8192),
    ("high", "high", 24_576),
    ("max", "high", 24_576),
];

impl Thinking {
    /// What an effort is for a model: a word, or a number of tokens.
    pub fn of(effort: &str, model: &str, api: Api) -> Result<Self> {
        let refused = |why: &str| Err(Error::invalid("reasoning-effort", format!("`{effort}` {why}")));
        let name = last_part(model);
        let by_tokens = api == Api::GenerateContent && OLD.iter().any(|start| name.starts_with(start));
        let is_pro = name.contains("pro");
        if let Some((_, level, tokens)) = EFFORTS.iter().find(|(word, ..)| *word == effort) {
            let tokens = if is_pro && effort == "max" { THINKING_TOKENS_MAX } else { *tokens };
            return Ok(if by_tokens { Self::Budget(tokens) } else { Self::Level(level) });
        }
        match (effort, effort.parse()) {
            ("auto", _) => Ok(if by_tokens { Self::Budget(-1) } else { Self::Default }),
            ("none", _) if by_tokens && !is_pro => Ok(Self::Budget(0)),
            ("none", _) => refused("cannot be had of this model; the least is `minimal`"),
            (_, Ok(0..=THINKING_TOKENS_MAX)) if api == Api::Interactions => {
                refused("is a number, and the Interactions API takes only words such as `low`")
            }
            (_, Ok(tokens @ 0..=THINKING_TOKENS_MAX)) => Ok(Self::Budget(tokens)),
            _ => refused(&format!(
                "is none of `none`, `auto`, `minimal`, `low`, `medium`, `high`, `max` or a number of tokens up to \
                 {THINKING_TOKENS_MAX}"
            )),
        }
    }
}

/// How the names of models begin that take a number of tokens; the others take a level.
const OLD: [&str; 2] = ["gemini-1.", "gemini-2."];

/// The name of a model without the folders before it.
#[must_use]
pub fn last_part(model: &str) -> &str {
    model.rsplit('/').next().unwrap_or(model)
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
    match typed(error["status"].as_str().unwrap_or_default(), error) {
        Some(error) if error.retry_after_ms.is_some() => error,
        Some(error) => with_retry_after(error, headers),
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
            match details().find_map(|detail| duration_ms(detail["retryDelay"].as_str()?)) {
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
