//! YAML text: into types, or into a tree in which every node knows its place.
//!
//! # Layout
//! - `typed`: a document straight into a type, the first mistake with its place ([`parse`])
//! - [`tree`]: a document as positioned nodes, for parsers that report all problems at once and for layered configuration
//! - [`scalar`]: what a scalar means in YAML 1.2, in YAML 1.1, and to the layered configuration

mod typed;

pub mod scalar;
pub mod tree;

pub use typed::parse;
