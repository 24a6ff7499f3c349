//! The operations on whole texts, bytes, JSON and errors.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::matcher::{Matcher, Values};
use super::{SecretValue, Secrets, is_sensitive_key};
use crate::{Error, Result};

/// What stands where a value was hidden for the name of its field, and where [`SecretValue`] prints.
pub const REDACTED: &str = "[redacted]";

/// Hides secrets. Cheap to clone; with no live value all but the rule for field names costs nothing.
#[derive(Clone, Default)]
pub struct Redactor {
    pub(super) matcher: Option<Arc<Matcher>>,
    values: Values,
}

impl Redactor {
    /// A redactor of these live values.
    #[must_use]
    pub fn new(secrets: Secrets) -> Self {
        let (matcher, values) = secrets.into_parts();
        Self { matcher, values }
    }

    /// A redactor that also hides a value that came later, such as a token for which a secret was exchanged. The errors
    /// are those of [`Secrets::new`].
    pub fn with(&self, name: &str, value: &SecretValue) -> Result<Self> {
        let known = self.values.iter().map(|(name, value)| (name.as_str(), value.expose()));
        Ok(Self::new(Secrets::new(known.chain([(name, value.expose())]))?))
    }

    /// Bytes without live values. Borrowed where there is none.
    #[must_use]
    pub fn bytes<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let Some(matcher) = &self.matcher else {
            return Cow::Borrowed(bytes);
        };
        let spans = matcher.spans(bytes);
        if spans.is_empty() {
            return Cow::Borrowed(bytes);
        }
        let mut out = Vec::with_capacity(bytes.len());
        let mut at = 0;
        for span in &spans {
            out.extend_from_slice(&bytes[at..span.start]);
            out.extend_from_slice(matcher.label(span).as_bytes());
            at = span.end;
        }
        out.extend_from_slice(&bytes[at..]);
        Cow::Owned(out)
    }

    /// Bytes in which every byte of a live value is `*`, so that each position stays what it was: for readers that go by
    /// offset. Borrowed where there is no live value.
    #[must_use]
    pub fn mask<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let spans = self.matcher.as_ref().map(|matcher| matcher.spans(bytes)).unwrap_or_default();
        if spans.is_empty() {
            return Cow::Borrowed(bytes);
        }
        let mut out = bytes.to_vec();
        for span in spans {
            out[span.start..span.end].fill(b'*');
        }
        Cow::Owned(out)
    }

    /// Text without live values. Where a value that is not UTF-8 began or ended inside a character, what is left of the
    /// character becomes U+FFFD.
    #[must_use]
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.bytes(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(bytes) => Cow::Owned(lossy(bytes)),
        }
    }

    /// JSON without secrets: a field of a sensitive name becomes `"[redacted]"` whatever it was, live values go out of
    /// all strings and names, and out of numbers that spell one. The value of `{"name": .., "value": ..}` (or `key`)
    /// is judged by what is named. Works on any depth without recursion.
    pub fn json(&self, value: &mut Value) {
        let mut todo = vec![value];
        while let Some(value) = todo.pop() {
            match value {
                Value::Null | Value::Bool(_) => {}
                Value::Number(number) => {
                    // Rare, so the text of a number is made only where some value could be one.
                    if self.matcher.as_ref().is_some_and(|matcher| matcher.numeric)
                        && let Cow::Owned(text) = self.text(&number.to_string())
                    {
                        *value = Value::String(text);
                    }
                }
                Value::String(text) => self.in_place(text),
                Value::Array(items) => todo.extend(items),
                Value::Object(map) => {
                    self.names(map);
                    let named = map.contains_key("value") && names_a_credential(map);
                    for (name, value) in map {
                        if is_sensitive_key(name) || named && name == "value" {
                            *value = Value::from(REDACTED);
                        } else {
                            todo.push(value);
                        }
                    }
                }
            }
        }
    }

    /// An error without live values, also in its code, which a plugin may have chosen.
    pub fn error(&self, error: &mut Error) {
        self.in_place(&mut error.message);
        if let Some(hint) = &mut error.hint {
            self.in_place(hint);
        }
        if let Cow::Owned(_) = self.text(&error.code) {
            error.code = Cow::Borrowed("redacted"); // a code has no brackets
        }
    }

    fn in_place(&self, text: &mut String) {
        if let Cow::Owned(clean) = self.text(text) {
            *text = clean;
        }
    }

    /// Takes live values out of the names of an object. Names that become equal are numbered, so that no field is lost.
    fn names(&self, map: &mut Map<String, Value>) {
        if self.matcher.is_none() || map.keys().all(|name| matches!(self.text(name), Cow::Borrowed(_))) {
            return;
        }
        for (name, value) in std::mem::take(map) {
            let clean = self.text(&name).into_owned();
            let mut free = clean.clone();
            let mut number = 1;
            while map.contains_key(&free) {
                number += 1;
                free = format!("{clean}#{number}");
            }
            map.insert(free, value);
        }
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The automaton spells out every value.
        f.debug_struct("Redactor").field("live", &self.matcher.is_some()).finish()
    }
}

/// Bytes as text; only the bytes that are not UTF-8 are lost.
pub(super) fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Whether an object is a pair that names a credential, as lists of headers and variables write it.
fn names_a_credential(map: &Map<String, Value>) -> bool {
    ["name", "key"].iter().any(|field| map.get(*field).and_then(Value::as_str).is_some_and(is_sensitive_key))
}
