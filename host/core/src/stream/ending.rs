//! Claim and observation as one outcome: `{reason, usage}` of the sender with `{exitCode, errorClass}` of the job.

use serde_json::{Map, Value, json};

use super::NO_TERMINAL;
use crate::Error;
use crate::outcome::{FinishReason, Outcome, Usage};
use crate::run::Status;

/// What was seen of the job that feeds a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Where the job stands.
    pub status: Status,
    /// How its program ended, once it has.
    pub exit_code: Option<i64>,
    /// What kind of failure the substrate calls it, such as `OOMKilled`.
    pub error_class: Option<String>,
    /// What the substrate says besides.
    pub message: Option<String>,
}

impl Observation {
    /// A job that stands somewhere, with nothing more known of it.
    #[must_use]
    pub fn of(status: Status) -> Self {
        Self { status, exit_code: None, error_class: None, message: None }
    }

    /// A job whose program ended with a code; zero is success.
    #[must_use]
    pub fn exited(exit_code: i64) -> Self {
        let status = if exit_code == 0 { Status::Terminated } else { Status::Failed };
        Self { exit_code: Some(exit_code), ..Self::of(status) }
    }

    /// Why the job was no success, if it was none.
    fn failure(&self) -> Option<Error> {
        let code = self.exit_code.filter(|code| *code != 0);
        if self.status != Status::Failed && code.is_none() && self.error_class.is_none() {
            return None;
        }
        let mut message = match code {
            Some(code) => format!("the job ended with exit code {code}"),
            None => "the job failed".to_owned(),
        };
        for more in [&self.error_class, &self.message].into_iter().flatten() {
            message.push_str(": ");
            message.push_str(&crate::text::shown(more, 500));
        }
        Some(Error::internal("job-failed", message))
    }
}

/// The outcome of a run whose sender claimed its end, or whose job was seen to end, or both.
pub(super) fn outcome(claim: Option<&Map<String, Value>>, seen: Option<&Observation>) -> Outcome {
    let failure = seen.and_then(Observation::failure);
    let mut outcome = match claim {
        Some(claim) => claimed(claim, seen.is_some(), failure),
        None => {
            let error =
                failure.unwrap_or_else(|| Error::internal("no-terminal", "the job ended without a terminal event"));
            let mut outcome = Outcome::ended(FinishReason::Failed, Some(error));
            outcome.reason = Some(NO_TERMINAL.to_owned());
            outcome
        }
    };
    outcome.exit_code = seen.and_then(|seen| seen.exit_code);
    let class = seen.and_then(|seen| seen.error_class.clone());
    outcome.metadata = match (claim, class) {
        (None, None) => Value::Null,
        (None, Some(class)) => json!({ "error_class": class }),
        (Some(claim), None) => json!({ "claim": claim }),
        (Some(claim), Some(class)) => json!({ "claim": claim, "error_class": class }),
    };
    outcome
}

fn claimed(claim: &Map<String, Value>, was_seen: bool, failure: Option<Error>) -> Outcome {
    let text = |names: &[&str]| names.iter().find_map(|name| claim.get(*name)?.as_str()).map(str::to_owned);
    let said = text(&["reason", "finish_reason", "finishReason", "status"]);
    let known = said.as_deref().and_then(finish_reason);
    let own_error = || {
        let error = claim.get("error").unwrap_or(&Value::Null);
        let message = error.as_str().or_else(|| error.get("message")?.as_str()).map(str::to_owned);
        let message = message.or_else(|| text(&["message", "error_message", "errorMessage"]));
        Error::internal("runtime-failed", message.unwrap_or_else(|| "the runtime failed without saying why".to_owned()))
    };
    let unknown = || {
        let said = crate::text::shown(said.as_deref().unwrap_or("no reason"), 40);
        Error::internal("finish-reason", format!("the runtime gave the unknown finish reason `{said}`"))
    };
    let (finish_reason, error) = match (known, failure) {
        // Of two that contradict each other, the worse is believed.
        (Some(FinishReason::Done) | None, Some(failure)) => (FinishReason::Failed, Some(failure)),
        (Some(FinishReason::Failed), Some(failure)) if claim.get("error").is_none() => {
            (FinishReason::Failed, Some(failure))
        }
        (Some(FinishReason::Failed), _) => (FinishReason::Failed, Some(own_error())),
        (Some(reason), _) => (reason, None),
        // A word that says nothing to us, from a job that was seen to end well.
        (None, None) if was_seen => (FinishReason::Done, None),
        (None, None) => (FinishReason::Failed, Some(unknown())),
    };
    let mut outcome = Outcome::ended(finish_reason, error);
    outcome.reason = said;
    outcome.output = text(&["output"]).unwrap_or_default();
    outcome.session_id = text(&["session_id", "sessionId"]);
    outcome.usage = claim.get("usage").and_then(Value::as_object).map(usage).unwrap_or_default();
    outcome
}

/// The finish reason that a sender's word means: ours, and those that runtimes and their vendors use for the same.
fn finish_reason(word: &str) -> Option<FinishReason> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    FinishReason::parse(&word).or(match word.as_str() {
        "complete" | "completed" | "success" | "succeeded" | "ok" | "end_turn" | "stop" => Some(FinishReason::Done),
        "error" | "errored" | "failure" => Some(FinishReason::Failed),
        "cancelled" | "canceled" | "aborted" => Some(FinishReason::Interrupted),
        "timeout" | "timedout" | "deadline" => Some(FinishReason::TimedOut),
        "length" => Some(FinishReason::MaxTokens),
        _ => None,
    })
}

/// Counters in the spelling of either side.
fn usage(fields: &Map<String, Value>) -> Usage {
    let count = |snake: &str, camel: &str| [snake, camel].iter().find_map(|name| fields.get(*name)?.as_u64());
    let cost = ["cost_usd", "costUsd"].iter().find_map(|name| fields.get(*name)?.as_f64());
    let usage = Usage {
        input_tokens: count("input_tokens", "inputTokens"),
        output_tokens: count("output_tokens", "outputTokens"),
        cache_read_tokens: count("cache_read_tokens", "cacheReadTokens"),
        cache_creation_tokens: count("cache_creation_tokens", "cacheCreationTokens"),
        total_tokens: count("total_tokens", "totalTokens"),
        cost_usd: cost,
    };
    // Which leaves out a cost that is no amount.
    Usage::default().or_later(usage)
}
