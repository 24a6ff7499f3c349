//! The vendor's errors, the same for the answer to a request and for an event in a stream.

use midplane_plugin::agent_loop::prelude::*;
use midplane_plugin::http::{duration_ms, header, status_error};

/// The error of an answer that is not a success. Its code says more than its status: a 429 can be a spent budget,
/// which no waiting helps.
pub fn of_answer(status: u16, headers: &[(String, String)], body: &[u8]) -> Error {
    let error = fault::of_answer(status, headers, body, of_words);
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
    words.into_iter().find_map(|word| fault::of_word(word.as_str()?, message))
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
