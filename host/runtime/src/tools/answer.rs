//! An answer within its bounds.

use midplane_core::redact::Redactor;
use midplane_core::text::cut;
use midplane_core::{Error, ErrorKind};
use serde_json::Value;

/// What a tool gives back, before it has the id of its call.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    /// For the model.
    pub(super) text: String,
    /// The same for a program.
    pub(super) structured: Option<Value>,
    /// How it went.
    pub(super) status: Status,
}

/// The word of a `tool_response`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    Error,
    Declined,
    Cancelled,
}

impl Status {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Declined => "declined",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Answer {
    /// A good answer.
    pub(super) fn ok(text: impl Into<String>, structured: Value) -> Self {
        Self { text: text.into(), structured: Some(structured), status: Status::Ok }
    }

    /// A failed answer without a structure.
    pub(super) fn failed(status: Status, text: impl Into<String>) -> Self {
        Self { text: text.into(), structured: None, status }
    }

    /// The answer as it may enter a guest: without live secret values, and within `bytes_max` each for text and structure.
    /// The tools keep to the bound by themselves; this catches what replacements add.
    pub(super) fn bounded(mut self, redactor: &Redactor, bytes_max: usize) -> Self {
        self.text = redactor.text(&self.text).into_owned();
        if let Some(value) = &mut self.structured {
            redactor.json(value);
        }
        if self.text.len() > bytes_max {
            const NOTE: &str = "\n[cut: the answer is longer than a tool may give]";
            self.text = format!("{}{NOTE}", cut(&self.text, bytes_max.saturating_sub(NOTE.len())));
        }
        if self.structured.as_ref().is_some_and(|value| value.to_string().len() > bytes_max) {
            self.structured = None;
        }
        self
    }
}

impl From<Error> for Answer {
    fn from(error: Error) -> Self {
        let status = match error.kind {
            ErrorKind::Denied => Status::Declined,
            ErrorKind::Cancelled => Status::Cancelled,
            _ => Status::Error,
        };
        let text = match &error.hint {
            Some(hint) => format!("{}\nhint: {hint}", error.message),
            None => error.message,
        };
        Self::failed(status, text)
    }
}

/// Bytes that a text has inside a JSON string.
pub(super) fn json_bytes(text: &str) -> usize {
    text.chars().map(json_char_bytes).sum()
}

/// The longest prefix whose JSON form has at most `bytes_max` bytes.
pub(super) fn json_cut(text: &str, bytes_max: usize) -> &str {
    // Most texts fit even if every byte needed the longest escape.
    if text.len().saturating_mul(6) <= bytes_max {
        return text;
    }
    let mut bytes = 0;
    for (at, c) in text.char_indices() {
        bytes += json_char_bytes(c);
        if bytes > bytes_max {
            return &text[..at];
        }
    }
    text
}

/// The longest end whose JSON form has at most `bytes_max` bytes.
pub(super) fn json_cut_front(text: &str, bytes_max: usize) -> &str {
    let mut bytes = 0;
    for (at, c) in text.char_indices().rev() {
        bytes += json_char_bytes(c);
        if bytes > bytes_max {
            return &text[at + c.len_utf8()..];
        }
    }
    text
}

fn json_char_bytes(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        c => c.len_utf8(),
    }
}

/// Collects items of a list until their JSON would be too long.
pub(super) struct Budget {
    left: usize,
}

impl Budget {
    /// Room for items, with some set aside for what stands around them and for replaced secrets.
    pub(super) fn new(answer_bytes_max: usize) -> Self {
        Self { left: (answer_bytes_max - answer_bytes_max / 16).saturating_sub(256) }
    }

    /// Whether there was room for so many bytes more.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.left;
        self.left = if fits { self.left - bytes } else { 0 };
        fits
    }

    /// How many bytes are left.
    pub(super) fn left(&self) -> usize {
        self.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lengths_are_those_of_serde(text in "[\\x00-\\x7f\u{e9}日]{0,64}", bytes_max in 0usize..400) {
            let form = |text: &str| serde_json::to_string(text).unwrap().len() - 2;
            prop_assert_eq!(json_bytes(&text), form(&text));
            let cut = json_cut(&text, bytes_max);
            prop_assert!(text.starts_with(cut) && form(cut) <= bytes_max);
            let next = text[cut.len()..].chars().next();
            prop_assert!(next.is_none_or(|next| form(cut) + json_char_bytes(next) > bytes_max));
            let end = json_cut_front(&text, bytes_max);
            prop_assert!(text.ends_with(end) && form(end) <= bytes_max);
            let before = text[..text.len() - end.len()].chars().next_back();
            prop_assert!(before.is_none_or(|before| form(end) + json_char_bytes(before) > bytes_max));
        }
    }
}
