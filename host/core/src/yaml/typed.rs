//! YAML text into types, with the place of a mistake in front of its message. JSON is a part of YAML.

use serde::de::DeserializeOwned;

use crate::text::shown;
use crate::{Error, Result};

/// Reads a document. `origin` is its name in messages, `code` that of the error (`invalid`).
pub fn parse<T: DeserializeOwned>(text: &str, origin: &str, code: &'static str) -> Result<T> {
    serde_saphyr::from_str(text).map_err(|error| {
        let at = error.location().map_or_else(String::new, |at| format!(":{}:{}", at.line(), at.column()));
        let why = error.without_snippet().to_string();
        // The place stands in front; the library says it again at the end, and how its own options could be set.
        let why = why.lines().next().unwrap_or_default();
        let why = why.split(" at line ").next().unwrap_or(why);
        let why = why.split(", set ").next().unwrap_or(why);
        Error::invalid(code, format!("{origin}{at}: {}", shown(why, 300)))
    })
}
