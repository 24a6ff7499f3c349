//! How the host holds a secret value: wiped on drop, and never printed by accident.

use std::fmt;

use zeroize::Zeroizing;

use super::REDACTED;

/// A secret value. It prints as `[redacted]`, cannot be serialised or compared, and its memory is wiped when it is
/// dropped. The one way to the value is [`SecretValue::expose`], which is easy to search for.
#[derive(Clone)]
pub struct SecretValue(Zeroizing<Vec<u8>>);

impl SecretValue {
    /// Takes over a value; its buffer is the one that is wiped.
    #[must_use]
    pub fn new(value: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(value.into()))
    }

    /// The value itself, for the one place that sends it.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The value as text, or nothing where it is not UTF-8.
    #[must_use]
    pub fn expose_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Whether the value is empty: a variable that is set to nothing is no secret.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for SecretValue {
    fn from(value: String) -> Self {
        Self::new(value)
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_prints_as_redacted() {
        let value = SecretValue::from("sk-live-0123456789".to_owned());
        assert_eq!(format!("{value} {value:?} {:#?}", Some(&value)), "[redacted] [redacted] Some(\n    [redacted],\n)");
        assert_eq!(value.expose_text(), Some("sk-live-0123456789"));
        assert_eq!(SecretValue::new([0xff]).expose_text(), None);
        assert!(SecretValue::new("").is_empty());
    }
}
