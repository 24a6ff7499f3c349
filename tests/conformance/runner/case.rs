//! What a case is, and what a check says about it.

use std::fmt;

use serde_json::Value;

/// One case of a file.
pub(crate) struct Case<'a> {
    /// Its name in the file.
    pub(crate) name: &'a str,
    /// The whole case, for files whose cases have more than an input and an expectation.
    pub(crate) raw: &'a Value,
}

impl<'a> Case<'a> {
    pub(crate) fn new(raw: &'a Value) -> Result<Self, String> {
        let name = raw.get("name").and_then(Value::as_str).ok_or("a case has no name")?;
        Ok(Self { name, raw })
    }

    /// What the original was given; `null` when the case has none.
    pub(crate) fn input(&self) -> &'a Value {
        &self.raw["input"]
    }

    /// What the original did.
    pub(crate) fn expect(&self) -> &'a Value {
        &self.raw["expect"]
    }

    /// Whether whoever made the case marked the original's behaviour as doubtful: in a list of tags, or, in the `ark` files, as a
    /// field with the reason.
    pub(crate) fn is_doubtful(&self) -> bool {
        let marks = ["quirk", "escape", "reference_defect"];
        let tags = self.raw["tags"].as_array().into_iter().flatten().filter_map(Value::as_str);
        tags.into_iter().any(|tag| marks.contains(&tag)) || marks.iter().any(|mark| self.raw.get(mark).is_some())
    }
}

/// Runs one case against this project.
pub(crate) type Check = fn(&Case<'_>) -> Ours;

/// What this project did with a case.
pub(crate) struct Ours {
    /// In the words of a deviation rule.
    pub(crate) outcome: Outcome,
    /// Whether that is what the original did, and if not, the difference.
    pub(crate) same: Result<(), String>,
}

/// Whether an input was taken, or refused with a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Accepted,
    Refused(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => f.write_str("accepted"),
            Self::Refused(code) => write!(f, "refused as `{code}`"),
        }
    }
}

impl Ours {
    /// Taken, as the original did.
    pub(crate) fn accepted() -> Self {
        Self { outcome: Outcome::Accepted, same: Ok(()) }
    }

    /// Refused, as the original did.
    pub(crate) fn refused(code: impl Into<String>) -> Self {
        Self { outcome: Outcome::Refused(code.into()), same: Ok(()) }
    }

    /// But not as the original did. The first difference stays.
    pub(crate) fn differs(mut self, difference: impl Into<String>) -> Self {
        if self.same.is_ok() {
            self.same = Err(difference.into());
        }
        self
    }

    /// And `ours` must be what the original gave.
    pub(crate) fn equal(self, what: &str, ours: &Value, original: &Value) -> Self {
        if ours == original { self } else { self.differs(format!("{what}: ours {ours}, the original's {original}")) }
    }
}
