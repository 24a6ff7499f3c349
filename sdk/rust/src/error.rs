//! The one error of a plugin: the record `types.error` of the contract, with a constructor for each kind.
//!
//! It is the generated type itself, so an error of an import is an error of an export and `?` works between them
//! without a conversion. Act on `kind`, tell apart by `code`, show `message`.

pub use crate::bindings::midplane::plugin::types::{Error, ErrorKind};

/// The result of everything that can fail in a plugin.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Longest code, in bytes (`wit/v0/types.wit`).
const CODE_BYTES_MAX: usize = 64;
/// Longest message, in bytes (`wit/v0/types.wit`).
const MESSAGE_BYTES_MAX: usize = 4096;

impl Error {
    /// An error of a kind. Code and message are cut to the lengths of the contract.
    pub fn new(kind: ErrorKind, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            kind,
            code: cut(code.into(), CODE_BYTES_MAX),
            message: cut(message.into(), MESSAGE_BYTES_MAX),
            retry_after_ms: None,
        }
    }

    /// Adds what to do about it. The record of the contract has no field for it, so it ends the message.
    #[must_use]
    pub fn hint(mut self, hint: &str) -> Self {
        self.message = cut(format!("{}; hint: {hint}", self.message), MESSAGE_BYTES_MAX);
        self
    }

    /// Says that repeating the same call can help, not before this many milliseconds.
    #[must_use]
    pub fn retry_after_ms(mut self, retry_after_ms: u64) -> Self {
        self.retry_after_ms = Some(retry_after_ms);
        self
    }

    /// Whether repeating the same call can help at all, by the rule of the contract: a given time says so, and
    /// without one only `unavailable` may be repeated. A `limit` without a time (spend, quota) is never repeated.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.retry_after_ms.is_some() || self.kind == ErrorKind::Unavailable
    }

    /// Whether the call was cancelled rather than failed.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.kind == ErrorKind::Cancelled
    }
}

macro_rules! constructors {
    ($($name:ident => $kind:ident),* $(,)?) => {
        impl Error {
            $(
                #[doc = concat!("An error of kind `", stringify!($name), "`.")]
                pub fn $name(code: impl Into<String>, message: impl Into<String>) -> Self {
                    Self::new(ErrorKind::$kind, code, message)
                }
            )*
        }
    };
}

constructors! {
    invalid => Invalid,
    denied => Denied,
    not_found => NotFound,
    conflict => Conflict,
    unavailable => Unavailable,
    limit => Limit,
    cancelled => Cancelled,
    unsupported => Unsupported,
    internal => Internal,
    uncertain => Uncertain,
}

/// JSON that a peer or a caller wrote and that cannot be read.
impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::invalid("not-json", format!("not the expected JSON: {error}"))
    }
}

/// Bytes that should be text.
impl From<std::string::FromUtf8Error> for Error {
    fn from(error: std::string::FromUtf8Error) -> Self {
        Self::invalid("not-utf8", format!("not UTF-8 text: {error}"))
    }
}

/// Shortens text to a number of bytes without cutting a character.
#[must_use]
pub fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unavailable_and_what_names_a_time_may_be_repeated() {
        let kinds = [
            (Error::unavailable("overloaded", ""), true),
            (Error::limit("spend-limit", ""), false),
            (Error::limit("rate", "").retry_after_ms(0), true),
            (Error::invalid("request", ""), false),
            (Error::uncertain("broken", ""), false),
        ];
        for (error, expected) in kinds {
            assert_eq!(error.is_retryable(), expected, "{error:?}");
        }
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let error = Error::invalid("x".repeat(100), "ä".repeat(5000)).hint("shorter");
        assert_eq!(error.code.len(), CODE_BYTES_MAX);
        assert!(error.message.len() <= MESSAGE_BYTES_MAX);
        assert!(error.message.chars().all(|c| c == 'ä'));
    }

    #[test]
    fn a_question_mark_turns_a_json_error_into_an_error() {
        fn parse(text: &str) -> Result<u32> {
            Ok(serde_json::from_str(text)?)
        }
        let error = parse("x").expect_err("not a number");
        assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Invalid, "not-json"));
    }
}
