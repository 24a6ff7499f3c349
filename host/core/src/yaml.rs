//! YAML text: into types, or into a tree in which every node knows its place.
//!
//! # Layout
//! - `typed`: a document straight into a type, the first mistake with its place ([`parse`])
//! - [`tree`]: a document as positioned nodes, for parsers that report all problems at once and for layered configuration
//! - [`scalar`]: what a scalar means in YAML 1.2, in YAML 1.1, and to the layered configuration
//! - `edit`: small changes to text that leave the rest as it is
//! - [`mod@write`]: JSON values as YAML text

mod typed;

pub(crate) mod edit;
pub mod scalar;
pub mod tree;
pub mod write;

pub use typed::parse;
