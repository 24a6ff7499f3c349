//! Every code that an error or a problem can carry, with what it means and what to do: what `midplane explain` prints.
//!
//! A code lives beside the rule that refuses with it: each family of modules exports its own `CODES`, and this module joins
//! them; [`host`] has those of the modules that are no such family. A test of the workspace (`tests/codes.rs`) reads the
//! sources and fails on a code that is missing here, and on one here that no source uses.
//!
//! Meaning and recovery are sentences: they stand by themselves, unlike a message or a hint.

pub mod host;

use crate::ErrorKind;
use crate::deploy::error::by_alias;

/// The table `CODES` of a family: `Kind "code": "meaning" => "recovery";` for each.
macro_rules! codes {
    ($(#[$doc:meta])* $($kind:ident $code:literal: $meaning:literal => $recovery:literal;)*) => {
        $(#[$doc])*
        pub const CODES: &[$crate::codes::Code] = &[$($crate::codes::Code {
            code: $code,
            kind: $crate::ErrorKind::$kind,
            meaning: $meaning,
            recovery: $recovery,
        }),*];
    };
}
pub(crate) use codes;

/// One code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// The word itself, kebab-case, stable. The eight codes of batches have `_`: they are another project's contract.
    pub code: &'static str,
    /// The kind of an error with this code, or the commonest where there are several.
    pub kind: ErrorKind,
    /// What it means, in one or two sentences.
    pub meaning: &'static str,
    /// What to do about it.
    pub recovery: &'static str,
}

/// The families, each with its table. A code stands in one of them.
const FAMILIES: &[&[Code]] = &[
    host::CODES,
    crate::deploy::CODES,
    crate::deploy::state::CODES,
    crate::deploy::lease::CODES,
    crate::project::CODES,
    crate::lockfile::CODES,
    crate::stream::CODES,
    crate::telemetry::CODES,
    crate::identity::CODES,
    crate::layers::CODES,
    crate::vault::CODES,
    crate::agent::CODES,
    crate::session::CODES,
];

/// All codes, family by family; last those of the classes of errors of deployments that no family has told.
pub fn all() -> impl Iterator<Item = &'static Code> {
    let mut seen = std::collections::BTreeSet::new();
    FAMILIES.iter().copied().flatten().chain(crate::deploy::error::CODES).filter(move |code| seen.insert(code.code))
}

/// The code of that name. Upper case and `_` for `-` do not matter, and the codes of the replaced packages lead to ours
/// (`MANIFEST_NOT_FOUND`).
#[must_use]
pub fn find(word: &str) -> Option<&'static Code> {
    let exact = |word: &str| all().find(|code| code.code == word);
    let alias = || by_alias(&word.to_ascii_uppercase().replace('-', "_")).and_then(|class| exact(class.code.code));
    exact(word).or_else(alias).or_else(|| {
        let plain = |text: &str| text.to_ascii_lowercase().replace('_', "-");
        all().find(|code| plain(code.code) == plain(word))
    })
}

/// The code that is most like a word, if one is: what "did you mean" says.
#[must_use]
pub fn nearest(word: &str) -> Option<&'static str> {
    let word = word.to_ascii_lowercase().replace('_', "-");
    crate::text::near(&word, all().map(|code| code.code)).first().copied()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn codes_are_stable_words_with_sentences() {
        for Code { code, meaning, recovery, .. } in all() {
            let words = code.split(['-', '_']);
            let plain =
                |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            assert!(code.len() <= 64 && words.into_iter().all(plain), "`{code}` is no code");
            assert!(meaning.len() > 15 && recovery.len() > 5 && meaning != recovery, "`{code}` says too little");
        }
    }

    #[test]
    fn a_code_has_one_row() {
        let mut kinds: BTreeMap<&str, crate::ErrorKind> = BTreeMap::new();
        for code in FAMILIES.iter().copied().flatten() {
            assert_eq!(kinds.insert(code.code, code.kind), None, "`{}` has two rows", code.code);
        }
        for code in crate::deploy::error::CODES {
            assert_eq!(*kinds.entry(code.code).or_insert(code.kind), code.kind, "`{}` has two kinds", code.code);
        }
        assert_eq!(all().count(), kinds.len());
    }

    #[test]
    fn codes_are_found_by_every_name_they_have() {
        let found = |word: &str| find(word).map(|code| code.code);
        assert_eq!(found("manifest-not-found"), Some("manifest-not-found"));
        assert_eq!(found("MANIFEST_NOT_FOUND"), Some("manifest-not-found"));
        assert_eq!(found("FLY_ERROR"), Some("provider-failed"));
        assert_eq!(found("fly-error"), Some("provider-failed"));
        assert_eq!(found("INVALID_STATE_TRANSITION"), Some("deployment-transition"));
        assert_eq!(found("seq-not-monotonic"), Some("seq_not_monotonic"));
        assert_eq!(found("Grant-Missing"), Some("grant-missing"));
        assert_eq!(found("no-such-code"), None);
        assert_eq!(nearest("grant-mising"), Some("grant-missing"));
        assert_eq!(nearest("GRANT_MISING"), Some("grant-missing"));
        assert_eq!(nearest("zzz"), None);
    }
}
