//! Runtime identity: who runs where, from evidence.
//!
//! An identity is five words: which app, in which environment, on which machine, on which substrate, in which role. Machine and
//! substrate can be found out ([`discover`]); the other three are claims of whoever starts the program. The rules are
//! those of mxm-runtime 0.1.2, which reads two facts only; everything beyond the host name and one marker file is ours.
//!
//! # Layout
//! - [`RuntimeIdentity`], [`Claims`]: the five words, what makes them valid, and whether they are true here
//! - [`evidence`]: what was read of the system, and the facts that follow from it
//! - [`settings`]: the sections of a configuration that a runtime context is made of
//!
//! # What it never does
//! It reads nothing of the system: whoever gathers [`Evidence`] does. App, environment and role are never attested, since nothing
//! that a process can read proves them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::codes::codes;
use crate::text::shown;
use crate::{Error, Result};

pub mod evidence;
pub mod settings;

pub use evidence::{Confidence, Evidence, Fact, Facts, MARKERS, VARIABLES, discover};

/// The fields of an identity, in the order in which problems name them.
pub const FIELDS: [&str; 5] = ["app", "environment", "machine", "substrate", "role"];

/// Who runs where.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeIdentity {
    /// The application.
    pub app: String,
    /// The environment: `dev`, `prod`.
    pub environment: String,
    /// The machine, by the first label of its host name unless stated.
    pub machine: String,
    /// What the process runs on: `local-process`, `docker-container`, and the words of [`evidence`].
    pub substrate: String,
    /// The role, which is the principal that policies of secrets name.
    pub role: String,
}

/// What whoever starts the program says of it. Machine and substrate are found out where they are not stated.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// The application.
    pub app: String,
    /// The environment.
    pub environment: String,
    /// The role.
    pub role: String,
    /// The machine, if stated. Stated as an empty text it stays empty, and is refused.
    #[serde(default)]
    pub machine: Option<String>,
    /// The substrate, if stated.
    #[serde(default)]
    pub substrate: Option<String>,
}

impl Claims {
    /// Reads claims from JSON-like data: text in each field, none that is not known.
    ///
    /// # Errors
    /// `invalid` code `identity-shape`.
    pub fn from_json(value: &Value) -> Result<Self> {
        Self::deserialize(value).map_err(|error| shape(&error))
    }
}

fn shape(error: &serde_json::Error) -> Error {
    Error::invalid("identity-shape", format!("this is no identity: {}", shown(&error.to_string(), 200)))
        .hint("an identity has the texts `app`, `environment`, `machine`, `substrate` and `role`")
}

impl RuntimeIdentity {
    /// The identity of a process: its claims, completed by what was found out, and not blank anywhere.
    ///
    /// # Errors
    /// `invalid` code `identity-empty`; see [`Self::validate`].
    pub fn build(claims: Claims, facts: &Facts) -> Result<Self> {
        let identity = Self {
            app: claims.app,
            environment: claims.environment,
            machine: claims.machine.unwrap_or_else(|| facts.machine.value.clone()),
            substrate: claims.substrate.unwrap_or_else(|| facts.substrate().value.clone()),
            role: claims.role,
        };
        identity.validate()?;
        Ok(identity)
    }

    /// Reads an identity from JSON-like data, as it stands: nothing is found out or checked.
    ///
    /// # Errors
    /// `invalid` code `identity-shape`.
    pub fn from_json(value: &Value) -> Result<Self> {
        Self::deserialize(value).map_err(|error| shape(&error))
    }

    /// Each field with its name, in order.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let values = [&self.app, &self.environment, &self.machine, &self.substrate, &self.role];
        FIELDS.into_iter().zip(values.map(String::as_str))
    }

    /// The fields that hold nothing but white space, in order.
    #[must_use]
    pub fn blank(&self) -> Vec<&'static str> {
        self.fields().filter(|(_, value)| value.chars().all(is_space)).map(|(name, _)| name).collect()
    }

    /// The original's one rule: no field is blank. It lets through what cannot be part of a path; see
    /// [`Self::validate_strictly`].
    ///
    /// # Errors
    /// `invalid` code `identity-empty`, naming every blank field.
    pub fn validate(&self) -> Result<()> {
        let blank = self.blank();
        if blank.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = blank.iter().map(|name| format!("`{name}`")).collect();
        let verb = if blank.len() == 1 { "is" } else { "are" };
        Err(Error::invalid("identity-empty", format!("of the identity {} {verb} empty", names.join(", ")))
            .hint(format!("state it, for example with `MIDPLANE_{}`", blank[0].to_uppercase())))
    }

    /// The rule for identities that select files: each field is also one safe part of a path (ASCII letters, digits, `.`, `_`
    /// and `-`, first a letter, a digit or `_`, at most 64). The original joins `app` to a path unseen, so that `../x`
    /// leaves the folder of its configuration.
    ///
    /// # Errors
    /// `invalid` code `identity-empty` or `identity-unsafe`, naming every such field.
    pub fn validate_strictly(&self) -> Result<()> {
        self.validate()?;
        let unsafe_fields: Vec<String> = self
            .fields()
            .filter(|(_, value)| !is_path_safe(value))
            .map(|(name, value)| format!("`{name}` (`{}`)", shown(value, 40)))
            .collect();
        if unsafe_fields.is_empty() {
            return Ok(());
        }
        Err(Error::invalid("identity-unsafe", format!("not usable in a file name: {}", unsafe_fields.join(", ")))
            .hint("use letters, digits, `.`, `_` and `-`, at most 64, the first a letter, a digit or `_`"))
    }

    /// What of the identity is not true here: machine and substrate, in this order.
    #[must_use]
    pub fn mismatches(&self, facts: &Facts) -> Vec<Mismatch> {
        let mut mismatches = Vec::new();
        if self.machine != facts.machine.value {
            mismatches.push(Mismatch::new("machine", &self.machine, &facts.machine));
        }
        if !facts.supports(&self.substrate) {
            mismatches.push(Mismatch::new("substrate", &self.substrate, facts.substrate()));
        }
        mismatches
    }

    /// Whether machine and substrate are what was found out. A substrate holds if any evidence supports it, under its own
    /// word or a usual other one (`docker` for `docker-container`).
    ///
    /// # Errors
    /// `conflict` code `identity-mismatch`, naming each field that is not true here.
    pub fn attest(&self, facts: &Facts) -> Result<()> {
        let mismatches = self.mismatches(facts);
        if mismatches.is_empty() {
            return Ok(());
        }
        let each: Vec<String> = mismatches
            .iter()
            .map(|it| {
                let (claimed, found) = (shown(&it.claimed, 64), shown(&it.found, 64));
                format!("`{}` is stated as `{claimed}` but is `{found}` here (by {})", it.field, it.source)
            })
            .collect();
        Err(Error::conflict("identity-mismatch", each.join("; "))
            .hint("`midplane identity --explain` shows the evidence; leave a field out to have it found out"))
    }
}

/// A field of an identity that is not true here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// Which.
    pub field: &'static str,
    /// What the identity says.
    pub claimed: String,
    /// What was found.
    pub found: String,
    /// From what.
    pub source: String,
}

impl Mismatch {
    fn new(field: &'static str, claimed: &str, fact: &Fact) -> Self {
        Self { field, claimed: claimed.to_owned(), found: fact.value.clone(), source: fact.source.clone() }
    }
}

/// White space as the originals trim it: that of Unicode and the four separators of ASCII. A zero-width space is none.
#[must_use]
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Whether a text is one part of a path that means the same on every file system, and no option on any command line.
pub(crate) fn is_path_safe(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= 64 && text.bytes().next().is_some_and(plain) && text.bytes().all(|b| plain(b) || b".-".contains(&b))
}

codes! {
    /// What identities and contexts are refused with.
    Invalid "identity-shape":
        "An identity as data has a field that is missing, unknown or not a text."
        => "Give the texts `app`, `environment` and `role`, and `machine` and `substrate` if they are not to be found out.";
    Invalid "identity-empty":
        "A field of the identity is empty or blank. All such fields are named."
        => "State the field on the command line or in its variable, such as `MIDPLANE_ROLE`; a machine without a host name needs `MIDPLANE_MACHINE`.";
    Invalid "identity-unsafe":
        "A field of the identity could not stand in a file name: it selects files and sections of the configuration."
        => "Use ASCII letters, digits, `.`, `_` and `-`, at most 64, the first a letter, a digit or `_`.";
    Conflict "identity-mismatch":
        "The machine or the substrate of the identity is not what this process found out about itself."
        => "Look at `midplane identity --explain`; correct what is stated, or leave it out to have it found out.";
    NotFound "context-missing":
        "The configuration has no such section or key, which a runtime context is made of."
        => "Add it to the configuration; `midplane context --explain` shows what is there and from which layer.";
    Invalid "context-shape":
        "A section of the configuration is no mapping, or one of its paths is no text."
        => "Correct the value where the message says; paths are texts, sections are mappings.";
    Invalid "context-home":
        "A path begins with `~` but the home folder that it stands for is not known."
        => "Set `HOME`, or write the path in full; the home folder of another user (`~name`) is not looked up.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn identity(words: [&str; 5]) -> RuntimeIdentity {
        let [app, environment, machine, substrate, role] = words.map(str::to_owned);
        RuntimeIdentity { app, environment, machine, substrate, role }
    }

    #[test]
    fn what_is_blank_is_what_python_strips() {
        let blank = ["", " ", "\t\n", "\u{1c}\u{1f}", "\u{a0}", "\u{3000}", "\u{85}"];
        assert!(blank.iter().all(|text| identity([text, "e", "m", "s", "r"]).blank() == ["app"]));
        let content = ["\u{200b}", "\u{feff}", "\u{180e}", "\0", " x "];
        assert!(content.iter().all(|text| identity([text, "e", "m", "s", "r"]).blank().is_empty()));
        assert_eq!(identity(["", "", "", "", ""]).blank(), FIELDS);
    }

    #[test]
    fn strictness_is_about_paths() {
        let bad = ["..", ".", "../x", "a/b", "a\\b", "-x", ".x", "a b", "a\n", "名", &"x".repeat(65)];
        for text in bad {
            let error = identity(["a", "e", "m", "s", text]).validate_strictly().expect_err(text);
            assert_eq!(error.code, "identity-unsafe", "{text}");
        }
        let both = identity(["../a", "e", "m", "s", "-"]).validate_strictly().expect_err("both");
        assert!(both.message.contains("`app`") && both.message.contains("`role`"), "{both}");
        identity(["mxm-x", "dev", "host-01", "local-process", "_r.1"]).validate_strictly().expect("safe");
    }

    #[test]
    fn a_claim_holds_under_every_word_that_evidence_supports() {
        let markers = ["/.dockerenv".to_owned()].into();
        let docker = discover(&Evidence { hostname: "bridge.lan".to_owned(), markers, ..Evidence::default() });
        for word in ["docker-container", "docker"] {
            identity(["a", "e", "bridge", word, "r"]).attest(&docker).expect(word);
        }
        let error = identity(["a", "e", "Bridge", "local-process", "r"]).attest(&docker).expect_err("both");
        assert_eq!(error.code, "identity-mismatch");
        insta::assert_snapshot!(error.message);
    }

    proptest! {
        /// What is safe stays one part of a path, and never a special one.
        #[test]
        fn safe_words_are_one_part(text in "\\PC{0,70}") {
            if is_path_safe(&text) {
                let path = std::path::Path::new(&text);
                prop_assert_eq!(path.components().count(), 1);
                prop_assert!(matches!(path.components().next(), Some(std::path::Component::Normal(_))));
                prop_assert!(identity([&text; 5]).validate_strictly().is_ok());
            }
        }
    }
}
