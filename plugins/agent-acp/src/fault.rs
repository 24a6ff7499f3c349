//! What an agent's errors mean.
//!
//! The protocol has one code for "authenticate first" and one for "no such thing"; whatever the model's API answered
//! stands somewhere in the error, in another place for each agent: as the code itself, in the message, in `data`, as text
//! or as JSON inside of text. This module looks in all of them for a status or a known word, and believes no more.

use midplane_plugin::child::visible;
use midplane_plugin::error::cut;
use midplane_plugin::jsonrpc::RpcError;
use midplane_plugin::{Error, ErrorKind, Value};

/// The protocol's code for a login that is missing.
pub const AUTH_REQUIRED: i64 = -32000;
/// The protocol's code for a thing that does not exist.
const RESOURCE_NOT_FOUND: i64 = -32002;
/// JSON-RPC's code for parameters that cannot be used; agents use it for a session that they do not know.
const INVALID_PARAMS: i64 = -32602;
/// Longest text of an agent in a message, in bytes.
const TEXT_BYTES_MAX: usize = 1000;
/// How many levels of JSON inside of text are looked into.
const DEPTH_MAX: usize = 8;

/// Words for kinds of errors, as APIs and agents write them, without case and separators.
const WORDS: &[(&str, u16)] = &[
    ("invalidrequesterror", 400),
    ("badrequest", 400),
    ("contextwindowexceeded", 400),
    ("authenticationerror", 401),
    ("unauthorized", 401),
    ("unauthenticated", 401),
    ("providerautherror", 401),
    ("permissionerror", 403),
    ("permissiondenied", 403),
    ("notfounderror", 404),
    ("insufficientquota", 402),
    ("billingerror", 402),
    ("usagelimitexceeded", 402),
    ("resourceexhausted", 429),
    ("ratelimiterror", 429),
    ("ratelimitexceeded", 429),
    ("servererror", 500),
    ("internalservererror", 500),
    ("overloadederror", 529),
    ("serveroverloaded", 529),
];

/// The typed error of a prompt that failed. `what` says what failed.
#[must_use]
pub fn of(what: &str, error: &RpcError) -> Error {
    let text = text(error);
    let message = if text.is_empty() { what.to_owned() } else { format!("{what}: {text}") };
    match status(error) {
        Some(status) => of_status(status, &text, message),
        // How codex says that there was no answer, or none that it could read; its class of it stands in its log alone.
        None if text.contains("stream disconnected before completion") => {
            Error::unavailable("stream-truncated", message)
        }
        None if error.code == AUTH_REQUIRED => Error::denied("authenticate", message),
        None if error.code == RESOURCE_NOT_FOUND => Error::not_found("vendor-not-found", message),
        None => Error::internal("agent-error", message),
    }
}

/// The typed error of a session that could not be loaded.
#[must_use]
pub fn of_load(id: &str, error: &RpcError) -> Error {
    let said = text(error);
    let lower = said.to_lowercase();
    let unknown = matches!(error.code, RESOURCE_NOT_FOUND | INVALID_PARAMS)
        || ["not found", "no previous session", "unknown session", "does not exist"]
            .iter()
            .any(|word| lower.contains(word));
    if unknown && error.code != AUTH_REQUIRED {
        return Error::not_found("session", format!("the agent knows no session `{id}`: {said}"))
            .hint("sessions live in the home of this profile's programs; start a new one");
    }
    of("the agent could not load the session", error)
}

/// The typed error of a failure that an agent only tells in words.
#[must_use]
pub fn of_text(what: &str, said: &str) -> Error {
    of(what, &RpcError { code: 0, message: cut(said.to_owned(), TEXT_BYTES_MAX), data: Value::Null })
}

fn of_status(status: u16, text: &str, message: String) -> Error {
    let spent = ["quota", "billing", "credit"].iter().any(|word| text.to_lowercase().contains(word));
    let (kind, code) = match status {
        401 => (ErrorKind::Denied, "credential"),
        402 => (ErrorKind::Limit, "billing"),
        403 => (ErrorKind::Denied, "vendor-permission"),
        404 => (ErrorKind::NotFound, "vendor-not-found"),
        408 | 504 => (ErrorKind::Unavailable, "timeout"),
        413 => (ErrorKind::Limit, "request-size"),
        429 if spent => (ErrorKind::Limit, "spend-limit"),
        429 => (ErrorKind::Unavailable, "rate-limited"),
        529 => (ErrorKind::Unavailable, "overloaded"),
        500..=599 => (ErrorKind::Unavailable, "vendor-error"),
        _ => (ErrorKind::Invalid, "request"),
    };
    Error::new(kind, code, message)
}

/// What the error says, most telling part first.
fn text(error: &RpcError) -> String {
    let data = &error.data;
    let detail = ["details", "message", "error"].iter().find_map(|name| data[*name].as_str()).or(data.as_str());
    // Some put the whole message again behind a word of their own.
    let said = match detail {
        Some(detail) if !detail.trim().is_empty() => detail,
        _ => &error.message,
    };
    visible(&cut(said.trim().to_owned(), TEXT_BYTES_MAX))
}

/// The status that the model's API answered, if it can be found.
fn status(error: &RpcError) -> Option<u16> {
    let of_code = u16::try_from(error.code).ok().filter(|code| (400..600).contains(code));
    of_code.or_else(|| in_value(&error.data, DEPTH_MAX)).or_else(|| in_text(&error.message, DEPTH_MAX))
}

fn in_value(value: &Value, depth: usize) -> Option<u16> {
    let depth = depth.checked_sub(1)?;
    match value {
        Value::Object(object) => {
            let named = object.iter().find_map(|(name, value)| match name.as_str() {
                "status" | "statusCode" | "httpStatusCode" | "http_status_code" | "code" => of_number(value),
                _ => None,
            });
            // The names of members can be the word: `{"responseTooManyFailedAttempts": {"httpStatusCode": 429}}`.
            named.or_else(|| object.iter().find_map(|(name, value)| in_value(value, depth).or_else(|| of_word(name))))
        }
        Value::Array(items) => items.iter().take(8).find_map(|item| in_value(item, depth)),
        Value::String(text) => in_text(text, depth),
        _ => None,
    }
}

fn in_text(text: &str, depth: usize) -> Option<u16> {
    let depth = depth.checked_sub(1)?;
    let trimmed = text.trim();
    if trimmed.starts_with('{') || trimmed.starts_with('[') {
        return serde_json::from_str::<Value>(trimmed).ok().and_then(|value| in_value(&value, depth));
    }
    let lower = text.to_lowercase();
    // "unexpected status 401 Unauthorized", "429 too many", "Error 400, Message: ..", "(HTTP 503)".
    let after = ["status ", "status code ", "http ", "error "]
        .iter()
        .find_map(|word| lower.split(word).nth(1).and_then(leading_number));
    after.or_else(|| leading_number(lower.trim_start())).or_else(|| of_word(trimmed))
}

fn leading_number(text: &str) -> Option<u16> {
    let digits: &str = text.split(|c: char| !c.is_ascii_digit()).next()?;
    (digits.len() == 3).then(|| digits.parse().ok()).flatten().filter(|status| (400..600).contains(status))
}

fn of_number(value: &Value) -> Option<u16> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    u16::try_from(number).ok().filter(|status| (400..600).contains(status))
}

fn of_word(word: &str) -> Option<u16> {
    if word.len() > 40 {
        return None;
    }
    let plain: String = word.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    WORDS.iter().find(|(known, _)| *known == plain).map(|(_, status)| *status)
}

#[cfg(test)]
mod tests {
    use midplane_plugin::json;

    use super::*;

    fn error(code: i64, message: &str, data: Value) -> RpcError {
        RpcError { code, message: message.into(), data }
    }

    /// Each as an agent said it, but for the last four.
    #[test]
    fn the_class_is_found_wherever_an_agent_puts_it() {
        let quota = "You exceeded your current quota";
        let rows = [
            error(400, r#"{"error":{"code":400,"message":"bad req","status":"invalid_request_error"}}"#, Value::Null),
            error(401, r#"{"error":{"code":401,"message":"no key","status":"authentication_error"}}"#, Value::Null),
            error(-32603, "Internal error", json!({"details": "401 no key"})),
            error(-32603, "Internal error", json!({"details": "400 bad req"})),
            error(
                -32603,
                "Internal error",
                json!({"message": r#"{"error":{"message":"bad req","type":"invalid_request_error","param":null,"code":null}}"#,
                    "codex_error_info": "other"}),
            ),
            error(
                -32603,
                "Internal error",
                json!({"message": "unexpected status 401 Unauthorized: no key, url: http://x/v1/responses", "codex_error_info": "other"}),
            ),
            error(-32603, "Internal error: no key", json!({"service": "session", "errorName": "APIError"})),
            error(
                -32603,
                "x",
                json!({"codex_error_info": {"response_too_many_failed_attempts": {"http_status_code": 429}}}),
            ),
            error(-32603, "x", json!({"codex_error_info": "usage_limit_exceeded"})),
            error(
                -32603,
                "Internal error",
                json!({"message": "stream disconnected before completion: stream closed before response.completed", "codex_error_info": "other"}),
            ),
            error(429, quota, Value::Null),
            error(503, "<html>\u{1b}[31mno</html>", Value::Null),
            error(-32000, "Authentication required", Value::Null),
            error(-32603, "it broke in line 500 of 600", Value::Null),
        ];
        let mut shown = String::new();
        for row in rows {
            let typed = of("the turn failed", &row);
            shown.push_str(&format!("{} {:?} {}\n    {}\n", row.code, typed.kind, typed.code, typed.message));
        }
        insta::assert_snapshot!(shown);
    }

    #[test]
    fn a_session_that_is_not_known_is_not_found_and_a_defect_is_not() {
        let rows = [
            (error(-32002, "Resource not found", Value::Null), ErrorKind::NotFound),
            (
                error(-32603, "Internal error", json!({"details": "No previous sessions found for this project."})),
                ErrorKind::NotFound,
            ),
            (error(-32602, "Session not found: x", Value::Null), ErrorKind::NotFound),
            (error(-32603, "service failure", Value::Null), ErrorKind::Internal),
            (error(-32000, "Authentication required", Value::Null), ErrorKind::Denied),
        ];
        for (row, kind) in rows {
            assert_eq!(of_load("s1", &row).kind, kind, "{row:?}");
        }
    }

    #[test]
    fn json_inside_of_json_is_not_followed_for_ever() {
        let mut text = r#"{"status":429}"#.to_owned();
        for _ in 0..10 {
            text = json!({ "message": text }).to_string();
        }
        assert_eq!(of("x", &error(-32603, &text, Value::Null)).code, "agent-error");
    }
}
