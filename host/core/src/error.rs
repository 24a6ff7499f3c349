//! The one error of the libraries: a closed kind to branch on, an open code to tell apart, a message to read.
//!
//! The kinds mirror `types.error-kind` of the contract (`wit/v0/types.wit`), so that an error crosses the border to
//! a plugin and back without translation. Every kind but [`ErrorKind::Uncertain`] and [`ErrorKind::Cancelled`]
//! asserts that nothing was changed.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What a caller can do about an error. Closed on purpose: detail belongs in [`Error::code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// The request is wrong and will stay wrong.
    Invalid,
    /// Not allowed; from the host it names the missing grant.
    Denied,
    /// The thing named does not exist.
    NotFound,
    /// The state is not what the caller required.
    Conflict,
    /// The other side cannot answer now.
    Unavailable,
    /// A bound was hit.
    Limit,
    /// The call was cancelled, or its deadline passed.
    Cancelled,
    /// This plugin or host cannot do that at all.
    Unsupported,
    /// A defect on the answering side.
    Internal,
    /// It may have happened: look before repeating.
    Uncertain,
}

impl ErrorKind {
    /// The word used in JSON, logs and documentation.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Denied => "denied",
            Self::NotFound => "not-found",
            Self::Conflict => "conflict",
            Self::Unavailable => "unavailable",
            Self::Limit => "limit",
            Self::Cancelled => "cancelled",
            Self::Unsupported => "unsupported",
            Self::Internal => "internal",
            Self::Uncertain => "uncertain",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why something failed, for a program (`kind`, `code`) and for a person (`message`, `hint`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// What the caller can do about it.
    pub kind: ErrorKind,
    /// A stable kebab-case word, at most 64 bytes. An open set: an unknown one is treated by its kind.
    pub code: Cow<'static, str>,
    /// One sentence: lower case, no final period, names in backticks.
    pub message: String,
    /// What to do about it, shown on a line of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Set when repeating the same call can help, not sooner than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of a kind, with a code and a message.
    pub fn new(kind: ErrorKind, code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { kind, code: code.into(), message: message.into(), hint: None, retry_after_ms: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the earliest time after which repeating can help.
    #[must_use]
    pub fn retry_after_ms(mut self, retry_after_ms: u64) -> Self {
        self.retry_after_ms = Some(retry_after_ms);
        self
    }
}

// One constructor a kind, so that a call site reads as the sentence it is: `Error::denied("grant-missing", ..)`.
macro_rules! constructors {
    ($($name:ident => $kind:ident),* $(,)?) => {
        impl Error {
            $(
                #[doc = concat!("An error of kind `", stringify!($kind), "`.")]
                pub fn $name(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
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

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
