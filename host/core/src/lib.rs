//! The pure part of Midplane: its vocabulary, its state machines, and every decision that must be right.
//!
//! # Layout
//! - [`error`], [`ids`], [`text`]: the words that all other modules use
//! - [`limits`]: every bound, with its unit
//! - [`task`], [`outcome`], [`capability`]: what is asked, what came of it, and gate 1 (task × declared features)
//! - [`manifest`], [`permission`], [`gate`]: what a plugin requests, what the operator grants, and gate 2
//! - [`endpoint`], [`address`]: URLs and IP addresses in the one form that the gate compares
//! - [`event`], [`run`]: the records of a run's log, and the machine whose state is their fold
//! - [`json`], [`batch`]: event batches that come from outside as JSON text
//! - [`redact`]: secrets out of everything that leaves, and out of what enters a guest
//!
//! # What it never does
//! No I/O, no clock, no randomness, no thread, no async runtime, no wasmtime. Each decision is a synchronous function of
//! its input, so that it can be property-tested. Nothing in here is visible to a guest: WIT is the only schema there.

#![forbid(unsafe_code)]

pub mod address;
pub mod batch;
pub mod capability;
pub mod endpoint;
pub mod error;
pub mod event;
pub mod gate;
pub mod ids;
pub mod json;
pub mod limits;
pub mod manifest;
pub mod outcome;
pub mod permission;
pub mod redact;
pub mod run;
pub mod schema;
pub mod task;
pub mod text;
pub mod yaml;

pub use error::{Error, ErrorKind, Result};
pub use ids::{Digest, PluginName, ProfileName, RunId};
