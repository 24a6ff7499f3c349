//! Secrets out of everything that leaves (events, logs, errors, output), and out of what enters a guest (what HTTP, a
//! child or a tool answers), so that an echo does not undo the host's injection.
//!
//! Two rules, and both apply to JSON: the *name* of a field says that its value is a credential ([`is_sensitive_key`]);
//! or a text holds a *live value* in one of its usual encodings ([`Secrets`]). A value is replaced by `[redacted:NAME]`,
//! the same text whatever its length or encoding was.
//!
//! # Layout
//! - [`keys`]: which field names are of credentials
//! - `encodings`: the forms in which a value is looked for
//! - `matcher`: all forms of all values in one automaton, and the scan that turns text into spans
//! - [`redactor`]: [`Redactor`], the operations on whole texts, bytes, JSON and errors
//! - [`stream`]: the same over a text that arrives in pieces
//! - [`value`]: [`SecretValue`], how the host holds a value
//!
//! # What it never does
//! It guards against the *accidental* echo. A guest that works together with a server can carry a value out in a form
//! that no list foresees (letter by letter, encrypted); only egress rules stop that. Not looked for: a part of a value,
//! base64 with line breaks, UTF-16, compressed bytes, base64 of an escaped form. Where the vendor uses a part of a
//! secret by itself (the key inside an account file) or derives one (a session token), give that to [`Secrets`] too.
//! Redact **before** text is cut, escaped for a terminal or counted: a cut or escaped value is not found any more.

pub mod keys;
pub mod redactor;
pub mod stream;
pub mod value;

mod encodings;
mod matcher;
#[cfg(test)]
mod tests;

pub use keys::is_sensitive_key;
pub use matcher::Secrets;
pub use redactor::{REDACTED, Redactor};
pub use stream::{Stream, TextStream};
pub use value::SecretValue;
