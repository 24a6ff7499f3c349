//! Every code that an error or a problem can carry, with what it means and what to do: what `midplane explain` prints.
//!
//! A code lives beside the rule that refuses with it: each family of modules exports its own `CODES`, and this module joins
//! them. A test of the workspace reads the sources and fails on a code that is missing here.

use crate::ErrorKind;

/// One code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// The word itself, kebab-case, stable.
    pub code: &'static str,
    /// The kind of an error with this code.
    pub kind: ErrorKind,
    /// What it means, in one or two sentences.
    pub meaning: &'static str,
    /// What to do about it.
    pub recovery: &'static str,
}
