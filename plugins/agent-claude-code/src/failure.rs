//! Errors of the vendor, by class: a status of its API, a word of a message, or a subtype of a result.

use midplane_plugin::{Error, Value};

/// Longest text of the vendor in an error, in bytes.
const SAID_BYTES_MAX: usize = 2000;

/// How a result that is an error ends the run: its finish reason and its error.
#[must_use]
pub fn of_result(result: &Value, word: Option<&str>, limited: bool) -> (&'static str, Error) {
    let subtype = result["subtype"].as_str().unwrap_or_default();
    let said = said(result);
    match subtype {
        "error_max_turns" => ("max_turns", Error::limit("max-turns", said)),
        "error_max_budget_usd" => ("failed", Error::limit("budget", said)),
        "error_max_structured_output_retries" => ("failed", Error::invalid("nonconforming", said)),
        _ => {
            let status = result["api_error_status"].as_u64();
            let by_status = status.and_then(|status| of_status(status, &said));
            let error = by_status.or_else(|| word.map(|word| of_word(word, &said)));
            let error = error.unwrap_or_else(|| Error::internal("vendor-error", said));
            ("failed", if limited { used_up(error) } else { error })
        }
    }
}

/// The error of a word in a message's `error`.
#[must_use]
pub fn of_word(word: &str, said: &str) -> Error {
    match word {
        "authentication_failed" | "cloud_credential_error" => Error::denied("credential", said)
            .hint("grant the endpoint its credential, or sign in in the program's own home"),
        "oauth_org_not_allowed" | "account_on_hold" | "verification_required" => {
            Error::denied("vendor-permission", said)
        }
        "billing_error" => Error::limit("billing", said),
        "rate_limit" => Error::unavailable("rate-limited", said),
        "overloaded" => Error::unavailable("overloaded", said),
        "server_error" => Error::unavailable("vendor-error", said),
        "invalid_request" => Error::invalid("request", said),
        "model_not_found" => Error::not_found("model", said),
        _ => Error::internal("vendor-error", said),
    }
}

/// A quota is used up, which waiting a little does not mend.
#[must_use]
pub fn used_up(error: Error) -> Error {
    if error.code == "rate-limited" { Error::limit("quota", error.message) } else { error }
}

/// The error of a status of the vendor's API. The table is that of the adapter for the API itself.
fn of_status(status: u64, said: &str) -> Option<Error> {
    Some(match status {
        400 => Error::invalid("request", said),
        401 => of_word("authentication_failed", said),
        402 => Error::limit("billing", said),
        403 => Error::denied("vendor-permission", said),
        404 => Error::not_found("vendor-not-found", said),
        413 => Error::limit("request-size", said),
        429 => Error::unavailable("rate-limited", said),
        529 => Error::unavailable("overloaded", said),
        408 | 504 => Error::unavailable("timeout", said),
        500..=599 => Error::unavailable("vendor-error", said),
        _ => return None,
    })
}

/// What a result says for itself.
fn said(result: &Value) -> String {
    let errors: Vec<&str> = result["errors"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let text = match (errors.join("; "), result["result"].as_str().map(str::trim)) {
        (errors, _) if !errors.is_empty() => errors,
        (_, Some(result)) if !result.is_empty() => result.to_owned(),
        _ => match result["subtype"].as_str() {
            Some(subtype) if subtype != "success" => format!("the program ended its turn with `{subtype}`"),
            _ => "the program ended its turn with an error and no explanation".to_owned(),
        },
    };
    midplane_plugin::error::cut(text, SAID_BYTES_MAX)
}
