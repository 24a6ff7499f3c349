//! What both APIs share: how hard to think, names of models, errors.

use midplane_plugin::agent_loop::prelude::*;
use midplane_plugin::http::duration_ms;

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

/// Whether a name can become part of a path: nothing in it may end that part or lead out of it. Beside letters and
/// digits it has `signs` only.
pub fn fits_path(part: &str, signs: &[u8]) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || signs.contains(&byte);
    !part.is_empty() && !part.starts_with('.') && part.bytes().all(known)
}

/// Refuses the name of a model that cannot become part of a path.
pub fn check_model(model: &str) -> Result<()> {
    if model.len() <= 256 && model.split('/').all(|part| fits_path(part, b"-_.@")) {
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
    fault::of_answer(status, headers, body, |error, _| typed(error["status"].as_str()?, error))
}

/// The error of one of Google's status words, the same in an error body and in a stream. A word that is not known is
/// judged by the status of the answer.
#[must_use]
pub fn typed(word: &str, error: &Value) -> Option<Error> {
    let typed = fault::of_word(word, error["message"].as_str().unwrap_or("no explanation"))?;
    let details = || error["details"].as_array().into_iter().flatten();
    let per_day = |detail: &Value| {
        let violations = detail["violations"].as_array().into_iter().flatten();
        violations.filter_map(|violation| violation["quotaId"].as_str()).any(|id| id.contains("PerDay"))
    };
    Some(match word {
        // A wrong key is an invalid argument, and only the reason tells it from a wrong request.
        "INVALID_ARGUMENT" if details().any(|detail| detail["reason"] == "API_KEY_INVALID") => {
            Error::denied("credential", typed.message)
        }
        // A daily quota comes with a delay of seconds too, after which it is as spent as before.
        "RESOURCE_EXHAUSTED" if details().any(per_day) => Error::limit("quota", typed.message),
        "RESOURCE_EXHAUSTED" => match details().find_map(|detail| duration_ms(detail["retryDelay"].as_str()?)) {
            Some(ms) => typed.retry_after_ms(ms),
            None => typed,
        },
        _ => typed,
    })
}
