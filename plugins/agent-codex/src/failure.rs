//! The vendor's classes of failure (`codexErrorInfo`) and of JSON-RPC errors, as errors of the contract.

use midplane_plugin::child::visible;
use midplane_plugin::error::cut;
use midplane_plugin::jsonrpc::RpcError;
use midplane_plugin::{Error, ErrorKind, Value};

/// Longest text of the vendor in a message, in bytes.
const SAID_BYTES_MAX: usize = 2048;

/// Classes that are a word, with what they are here.
const CLASSES: &[(&str, ErrorKind, &str)] = &[
    ("contextWindowExceeded", ErrorKind::Limit, "context-window"),
    ("sessionBudgetExceeded", ErrorKind::Limit, "budget"),
    ("usageLimitExceeded", ErrorKind::Limit, "quota"),
    // The same call can help later, and the vendor has not said when.
    ("rateLimitExceeded", ErrorKind::Unavailable, "rate-limited"),
    ("flexUnavailable", ErrorKind::Unavailable, "overloaded"),
    ("serverOverloaded", ErrorKind::Unavailable, "overloaded"),
    ("policyCapacityUnavailable", ErrorKind::Unavailable, "overloaded"),
    ("internalServerError", ErrorKind::Unavailable, "vendor-error"),
    ("unauthorized", ErrorKind::Denied, "credential"),
    ("modelNotFound", ErrorKind::NotFound, "model"),
    ("badRequest", ErrorKind::Invalid, "request"),
    ("cyberPolicy", ErrorKind::Denied, "refusal"),
    ("misalignmentPolicyViolation", ErrorKind::Denied, "refusal"),
    ("inferenceHookDenied", ErrorKind::Denied, "refusal"),
    ("tooManyDenials", ErrorKind::Denied, "approvals"),
    ("sandboxError", ErrorKind::Internal, "sandbox"),
    ("threadRollbackFailed", ErrorKind::Internal, "vendor-failed"),
];

/// Types and codes of errors in the body of a vendor's answer, which the program passes on as the message of class
/// `other`.
const BODIES: &[(&str, ErrorKind, &str)] = &[
    ("insufficient_quota", ErrorKind::Limit, "quota"),
    ("rate_limit_exceeded", ErrorKind::Unavailable, "rate-limited"),
    ("rate_limit_error", ErrorKind::Unavailable, "rate-limited"),
    ("context_length_exceeded", ErrorKind::Limit, "context-window"),
    ("model_not_found", ErrorKind::NotFound, "model"),
    ("invalid_api_key", ErrorKind::Denied, "credential"),
    ("authentication_error", ErrorKind::Denied, "credential"),
    ("permission_error", ErrorKind::Denied, "vendor-permission"),
    ("invalid_request_error", ErrorKind::Invalid, "request"),
    ("server_error", ErrorKind::Unavailable, "vendor-error"),
];

/// The error of a failed turn, from its `error` object; null is one that the vendor did not explain.
#[must_use]
pub fn of_turn(error: &Value) -> Error {
    let message = error["message"].as_str().filter(|text| !text.trim().is_empty()).unwrap_or("Codex turn failed");
    let (kind, code) = class(&error["codexErrorInfo"], message);
    // The body of an answer, passed on as it came: its own message is what a person can read.
    let body: Option<Value> = serde_json::from_str(message).ok();
    let inner = body.as_ref().and_then(|body| body["error"]["message"].as_str()).filter(|text| !text.is_empty());
    Error::new(kind, code, said(inner.unwrap_or(message), error["additionalDetails"].as_str()))
}

/// What the vendor calls the class, for `metadata` and events; unset where it gave none.
#[must_use]
pub fn class_word(info: &Value) -> Option<String> {
    let word = match info {
        Value::String(word) => word.clone(),
        Value::Object(object) => object.keys().next()?.clone(),
        _ => return None,
    };
    Some(cut(word, 64))
}

/// The error of a call that the program refused.
#[must_use]
pub fn of_call(method: &str, error: &RpcError) -> Error {
    let message = said(&format!("codex refused `{method}` ({}): {}", error.code, error.message), None);
    let info = &error.data["codexErrorInfo"];
    let overloaded = [info, &error.data].iter().any(|data| data.as_str() == Some("server_overloaded"));
    match error.code {
        // `-32600` is all that a thread which it does not have and a method which it does not know have in common.
        _ if error.message.contains("no rollout found") || error.message.contains("thread not found") => {
            Error::not_found("session", message)
        }
        _ if overloaded => Error::unavailable("overloaded", message),
        _ if !info.is_null() => {
            let (kind, code) = class(info, &error.message);
            Error::new(kind, code, message)
        }
        -32602 | -32600 => Error::invalid("request", message),
        -32601 => Error::unsupported("method", message),
        _ => Error::internal("vendor-failed", message),
    }
}

fn class(info: &Value, message: &str) -> (ErrorKind, &'static str) {
    if let Some(word) = info.as_str()
        && let Some((_, kind, code)) = CLASSES.iter().find(|(known, ..)| *known == word)
    {
        return (*kind, code);
    }
    if let Some((_, detail)) = info.as_object().and_then(|object| object.iter().next()) {
        return of_status(detail["httpStatusCode"].as_u64());
    }
    if let Ok(body) = serde_json::from_str::<Value>(message) {
        let error = &body["error"];
        let words = [error["code"].as_str(), error["type"].as_str()];
        let known = |word: &str| BODIES.iter().find(|(known, ..)| *known == word);
        if let Some((_, kind, code)) = words.into_iter().flatten().find_map(known) {
            return (*kind, code);
        }
    }
    if message.starts_with("stream disconnected") {
        return (ErrorKind::Unavailable, "stream-truncated");
    }
    (ErrorKind::Internal, "vendor-failed")
}

/// What a status of the vendor's API means; without one there was no answer.
fn of_status(status: Option<u64>) -> (ErrorKind, &'static str) {
    match status {
        Some(401) => (ErrorKind::Denied, "credential"),
        Some(402) => (ErrorKind::Limit, "billing"),
        Some(403) => (ErrorKind::Denied, "vendor-permission"),
        Some(404) => (ErrorKind::NotFound, "vendor-not-found"),
        Some(429) => (ErrorKind::Unavailable, "rate-limited"),
        Some(400..=499) => (ErrorKind::Invalid, "request"),
        Some(503 | 529) => (ErrorKind::Unavailable, "overloaded"),
        Some(_) => (ErrorKind::Unavailable, "vendor-error"),
        None => (ErrorKind::Unavailable, "connect"),
    }
}

/// Words of the vendor as they may be shown.
pub(crate) fn said(message: &str, details: Option<&str>) -> String {
    let text = match details {
        Some(details) if !details.trim().is_empty() => format!("{message} ({details})"),
        _ => message.to_owned(),
    };
    visible(&cut(text, SAID_BYTES_MAX))
}

#[cfg(test)]
mod tests {
    use midplane_plugin::json;

    use super::*;

    #[test]
    fn every_class_of_the_vendor_is_a_typed_error() {
        let rows = [
            (json!("usageLimitExceeded"), "", ErrorKind::Limit, "quota"),
            (json!("rateLimitExceeded"), "", ErrorKind::Unavailable, "rate-limited"),
            (json!("serverOverloaded"), "", ErrorKind::Unavailable, "overloaded"),
            (json!("unauthorized"), "", ErrorKind::Denied, "credential"),
            (json!("badRequest"), "", ErrorKind::Invalid, "request"),
            (json!("tooManyDenials"), "", ErrorKind::Denied, "approvals"),
            (json!("cyberPolicy"), "", ErrorKind::Denied, "refusal"),
            (json!("contextWindowExceeded"), "", ErrorKind::Limit, "context-window"),
            (json!("neverHeardOf"), "", ErrorKind::Internal, "vendor-failed"),
            (json!(null), "", ErrorKind::Internal, "vendor-failed"),
            (json!({ "httpConnectionFailed": { "httpStatusCode": 401 } }), "", ErrorKind::Denied, "credential"),
            (
                json!({ "responseTooManyFailedAttempts": { "httpStatusCode": 429 } }),
                "",
                ErrorKind::Unavailable,
                "rate-limited",
            ),
            (
                json!({ "responseStreamDisconnected": { "httpStatusCode": 502 } }),
                "",
                ErrorKind::Unavailable,
                "vendor-error",
            ),
            (
                json!({ "responseStreamDisconnected": { "httpStatusCode": null } }),
                "",
                ErrorKind::Unavailable,
                "connect",
            ),
            (json!("other"), r#"{"error":{"type":"invalid_request_error"}}"#, ErrorKind::Invalid, "request"),
            (
                json!("other"),
                r#"{"error":{"type":"invalid_request_error","code":"insufficient_quota"}}"#,
                ErrorKind::Limit,
                "quota",
            ),
            (json!("other"), "stream disconnected before completion", ErrorKind::Unavailable, "stream-truncated"),
        ];
        for (info, message, kind, code) in rows {
            let error = of_turn(&json!({ "message": message, "codexErrorInfo": info }));
            assert_eq!((error.kind, error.code.as_str()), (kind, code), "{info} {message}");
        }
    }

    #[test]
    fn refused_calls_are_typed_errors() {
        let rows = [
            (-32600, "no rollout found for thread id 1", json!(null), ErrorKind::NotFound, "session"),
            (-32602, "bad sandbox", json!(null), ErrorKind::Invalid, "request"),
            (-32001, "later", json!({ "codexErrorInfo": "server_overloaded" }), ErrorKind::Unavailable, "overloaded"),
            (-32001, "x", json!({ "codexErrorInfo": "unauthorized" }), ErrorKind::Denied, "credential"),
            (-32603, "x", json!(null), ErrorKind::Internal, "vendor-failed"),
        ];
        for (code, message, data, kind, ours) in rows {
            let error = of_call("m", &RpcError { code, message: message.into(), data });
            assert_eq!((error.kind, error.code.as_str()), (kind, ours), "{message}");
        }
    }
}
