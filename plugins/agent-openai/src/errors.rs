//! The vendor's errors, the same for the answer to a request and for an event in a stream.

use midplane_plugin::Error;
use midplane_plugin::http::{body_message, duration_ms, header, status_error, with_retry_after};
use serde_json::Value;

/// The error of an answer that is not a success. Its code says more than its status: a 429 can be a spent budget,
/// which no waiting helps.
pub fn of_answer(status: u16, headers: &[(String, String)], body: &[u8]) -> Error {
    let parsed: Value = serde_json::from_slice(body).unwrap_or_default();
    let mut message = body_message(body);
    if let Some(id) = header(headers, "x-request-id") {
        message.push_str(&format!(" (request `{id}`)"));
    }
    let error = match of_words(&parsed["error"], &message) {
        Some(error) => with_retry_after(error, headers),
        None => status_error(status, headers, &message),
    };
    match reset_ms(headers) {
        Some(ms) if error.code == "rate-limited" && error.retry_after_ms.is_none() => error.retry_after_ms(ms),
        _ => error,
    }
}

/// The error of an `error` object in a stream.
pub fn of_stream(error: &Value) -> Error {
    let message = error["message"].as_str().or(error.as_str()).unwrap_or("no explanation");
    if let Some(error) = of_words(error, message) {
        return error;
    }
    // A router repeats the status of the vendor behind it.
    if let Some(status) = error["code"].as_u64().and_then(|code| u16::try_from(code).ok()) {
        return status_error(status, &[], message);
    }
    match error["type"].as_str() {
        Some("invalid_request_error") => Error::invalid("request", format!("the vendor says: {message}")),
        _ => Error::internal("vendor-error", format!("the vendor says: {message}")),
    }
}

/// By `code`, else by `type`; none of the two alone is always there.
fn of_words(error: &Value, message: &str) -> Option<Error> {
    let words = [&error["code"], &error["type"]];
    words.into_iter().find_map(|word| of_word(word.as_str()?, message))
}

fn of_word(word: &str, message: &str) -> Option<Error> {
    let text = format!("the vendor says `{word}`: {message}");
    Some(match word {
        "insufficient_quota"
        | "credit_balance_exhausted"
        | "organization_spend_limit_exceeded"
        | "project_spend_limit_exceeded"
        | "organization_usage_limit_exceeded"
        | "billing_hard_limit_reached"
        | "billing_not_active" => Error::limit("spend-limit", text),
        "rate_limit_exceeded" | "rate_limit_error" | "slow_down" | "too_many_requests" => {
            Error::unavailable("rate-limited", text)
        }
        "server_error" | "internal_error" | "internal_server_error" => Error::unavailable("vendor-error", text),
        "server_is_overloaded" | "server_overloaded" | "overloaded" | "overloaded_error" | "service_unavailable" => {
            Error::unavailable("overloaded", text)
        }
        "invalid_api_key" | "authentication_error" => Error::denied("credential", text),
        "permission_error" | "unsupported_country_region_territory" => Error::denied("vendor-permission", text),
        "content_filter" | "content_policy_violation" | "invalid_prompt" => Error::denied("content-filter", text),
        "model_not_found" => Error::not_found("vendor-not-found", text),
        "context_length_exceeded" => Error::limit("context-length", text),
        _ => return None,
    })
}

/// When the limit that was hit is reset, where the vendor gives no `retry-after`.
fn reset_ms(headers: &[(String, String)]) -> Option<u64> {
    let reset = |what: &str| {
        let left = header(headers, &format!("x-ratelimit-remaining-{what}"))?;
        let reset = header(headers, &format!("x-ratelimit-reset-{what}"))?;
        (left.trim() == "0").then(|| duration_ms(reset)).flatten()
    };
    reset("requests").max(reset("tokens"))
}
