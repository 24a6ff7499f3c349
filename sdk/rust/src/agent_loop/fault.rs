//! What a vendor's error means: by the word that it gives, else by the status of its answer.
//!
//! Vendors and the servers that are compatible with them use each other's words, and no word means two things, so there
//! is one table. An adapter adds only what its vendor says in a way of its own.

use serde_json::Value;

use crate::error::{Error, ErrorKind, cut};
use crate::http::{body_message, header, status_error, with_retry_after};

/// Words of `error.type`, `error.code` and `error.status`.
const WORDS: &[(&str, ErrorKind, &str)] = &[
    // The Messages API.
    ("authentication_error", ErrorKind::Denied, "credential"),
    ("permission_error", ErrorKind::Denied, "vendor-permission"),
    ("billing_error", ErrorKind::Limit, "billing"),
    ("not_found_error", ErrorKind::NotFound, "vendor-not-found"),
    ("request_too_large", ErrorKind::Limit, "request-size"),
    ("rate_limit_error", ErrorKind::Unavailable, "rate-limited"),
    ("timeout_error", ErrorKind::Unavailable, "timeout"),
    ("api_error", ErrorKind::Unavailable, "vendor-error"),
    ("overloaded_error", ErrorKind::Unavailable, "overloaded"),
    // OpenAI's APIs, and servers that are compatible with them.
    ("invalid_api_key", ErrorKind::Denied, "credential"),
    ("unsupported_country_region_territory", ErrorKind::Denied, "vendor-permission"),
    ("insufficient_quota", ErrorKind::Limit, "spend-limit"),
    ("credit_balance_exhausted", ErrorKind::Limit, "spend-limit"),
    ("organization_spend_limit_exceeded", ErrorKind::Limit, "spend-limit"),
    ("project_spend_limit_exceeded", ErrorKind::Limit, "spend-limit"),
    ("organization_usage_limit_exceeded", ErrorKind::Limit, "spend-limit"),
    ("billing_hard_limit_reached", ErrorKind::Limit, "spend-limit"),
    ("billing_not_active", ErrorKind::Limit, "spend-limit"),
    ("rate_limit_exceeded", ErrorKind::Unavailable, "rate-limited"),
    ("slow_down", ErrorKind::Unavailable, "rate-limited"),
    ("too_many_requests", ErrorKind::Unavailable, "rate-limited"),
    ("server_error", ErrorKind::Unavailable, "vendor-error"),
    ("internal_error", ErrorKind::Unavailable, "vendor-error"),
    ("internal_server_error", ErrorKind::Unavailable, "vendor-error"),
    ("server_is_overloaded", ErrorKind::Unavailable, "overloaded"),
    ("server_overloaded", ErrorKind::Unavailable, "overloaded"),
    ("overloaded", ErrorKind::Unavailable, "overloaded"),
    ("service_unavailable", ErrorKind::Unavailable, "overloaded"),
    ("content_filter", ErrorKind::Denied, "content-filter"),
    ("content_policy_violation", ErrorKind::Denied, "content-filter"),
    ("invalid_prompt", ErrorKind::Denied, "content-filter"),
    ("model_not_found", ErrorKind::NotFound, "vendor-not-found"),
    ("context_length_exceeded", ErrorKind::Limit, "context-length"),
    // Google's APIs.
    ("INVALID_ARGUMENT", ErrorKind::Invalid, "request"),
    ("FAILED_PRECONDITION", ErrorKind::Invalid, "request"),
    ("OUT_OF_RANGE", ErrorKind::Invalid, "request"),
    ("UNAUTHENTICATED", ErrorKind::Denied, "credential"),
    ("PERMISSION_DENIED", ErrorKind::Denied, "vendor-permission"),
    ("NOT_FOUND", ErrorKind::NotFound, "vendor-not-found"),
    ("RESOURCE_EXHAUSTED", ErrorKind::Unavailable, "rate-limited"),
    ("UNIMPLEMENTED", ErrorKind::Unsupported, "vendor-unsupported"),
    ("UNAVAILABLE", ErrorKind::Unavailable, "overloaded"),
    ("DEADLINE_EXCEEDED", ErrorKind::Unavailable, "timeout"),
    ("INTERNAL", ErrorKind::Unavailable, "vendor-error"),
    ("UNKNOWN", ErrorKind::Unavailable, "vendor-error"),
    ("ABORTED", ErrorKind::Unavailable, "vendor-error"),
    ("CANCELLED", ErrorKind::Unavailable, "vendor-error"),
    ("DATA_LOSS", ErrorKind::Unavailable, "vendor-error"),
];

/// The error of a vendor's word, the same in an error body and in a stream; none for a word that is not known.
#[must_use]
pub fn of_word(word: &str, message: &str) -> Option<Error> {
    let (_, kind, code) = WORDS.iter().find(|(known, ..)| *known == word)?;
    Some(Error::new(*kind, *code, format!("the vendor says `{word}`: {message}")))
}

/// The error of a word that nobody here knows, in a stream, which has no status.
#[must_use]
pub fn unknown(word: &str, message: &str) -> Error {
    Error::internal("vendor-error", format!("the vendor says `{}`: {message}", cut(word.to_owned(), 64)))
}

/// The error of an answer that is not a success. `told` makes the error of what the body has under `error`, with the
/// message of the body and the vendor's name of the request; where it makes none, the status decides.
#[must_use]
pub fn of_answer(
    status: u16,
    headers: &[(String, String)],
    body: &[u8],
    told: impl FnOnce(&Value, &str) -> Option<Error>,
) -> Error {
    let parsed: Value = serde_json::from_slice(body).unwrap_or_default();
    // A stream that fails before it began is answered by some as a list with one element.
    let parsed = if parsed.is_array() { &parsed[0] } else { &parsed };
    let mut message = body_message(body);
    let request = ["request-id", "x-request-id"].iter().find_map(|name| header(headers, name));
    if let Some(id) = request.or(parsed["request_id"].as_str()) {
        message.push_str(&format!(" (request `{id}`)"));
    }
    match told(&parsed["error"], &message) {
        // A time in the body is more exact than that of the headers.
        Some(error) if error.retry_after_ms.is_some() => error,
        Some(error) => with_retry_after(error, headers),
        None => status_error(status, headers, &message),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_word_stands_twice_in_the_table() {
        let mut words: Vec<&str> = WORDS.iter().map(|(word, ..)| *word).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), WORDS.len());
    }

    #[test]
    fn a_word_says_more_than_the_status_and_the_status_more_than_nothing() {
        let headers: Vec<(String, String)> = [("retry-after", "3"), ("x-request-id", "r1")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let error = |status: u16, word: &str| {
            let body = json!({ "error": { "message": "because", "code": word } }).to_string();
            let told = |error: &Value, message: &str| of_word(error["code"].as_str()?, message);
            let error = of_answer(status, &headers, body.as_bytes(), told);
            (error.kind, error.code, error.retry_after_ms, error.message)
        };
        let spent = "the vendor says `insufficient_quota`: because (request `r1`)";
        assert_eq!(
            error(429, "insufficient_quota"),
            (ErrorKind::Limit, "spend-limit".into(), None, spent.into()),
            "no waiting helps a spent budget"
        );
        let busy = "the vendor says `UNAVAILABLE`: because (request `r1`)";
        assert_eq!(error(400, "UNAVAILABLE"), (ErrorKind::Unavailable, "overloaded".into(), Some(3000), busy.into()));
        let unknown = "the vendor answered 429: because (request `r1`)";
        assert_eq!(error(429, "new_word"), (ErrorKind::Unavailable, "rate-limited".into(), Some(3000), unknown.into()));
    }

    #[test]
    fn the_time_in_a_body_is_kept_and_a_list_is_looked_into() {
        let headers = [("retry-after".to_owned(), "3".to_owned())];
        let body = br#"[{"error":{"code":"slow_down"},"request_id":"r2"}]"#;
        let error = of_answer(429, &headers, body, |error, message| {
            of_word(error["code"].as_str()?, message).map(|error| error.retry_after_ms(80))
        });
        assert_eq!(error.retry_after_ms, Some(80));
        assert!(error.message.ends_with("(request `r2`)"), "{}", error.message);
    }
}
