//! The pure part of Midplane: its vocabulary, its state machines, and every decision that must be right.
//!
//! # Layout
//! - [`error`], [`ids`], [`text`]: the words that all other modules use
//! - [`limits`], [`price`]: every bound, with its unit; what a run costs
//! - [`task`], [`outcome`], [`capability`]: what is asked, what came of it, and gate 1 (task × declared features)
//! - [`manifest`], [`permission`], [`gate`]: what a plugin requests, what the operator grants, and gate 2
//! - [`sandbox`]: what a local program may reach
//! - [`approval`]: what the operator answers in advance to a vendor's program
//! - [`endpoint`], [`address`]: URLs and IP addresses in the one form that the gate compares
//! - [`event`], [`run`]: the records of a run's log, and the machine whose state is their fold
//! - [`json`], [`batch`]: event batches that come from outside as JSON text
//! - [`stream`]: the rules above one batch: retries, conflicts, one terminal
//! - [`agent`]: results, events as `agent.*`, structured output, mapping tables of vendors
//! - [`redact`]: secrets out of everything that leaves, and out of what enters a guest
//! - [`project`], [`lockfile`]: the files of a project: manifest, requests, discovery, lock files
//! - [`deploy`]: what a deployment is made of: states, leases, names, env files, tiers, scopes
//! - [`session`]: lasting workspaces with an agent: what may be reached from them, what a command does to them
//! - [`identity`], [`layers`], [`vault`]: who runs where, layered configuration, secrets as configured
//! - [`telemetry`]: what may be measured, and how it is named
//! - [`yaml`], [`problem`], [`codes`]: files that people write, what is wrong with them, what each code means
//!
//! # What it never does
//! No I/O, no clock, no randomness, no thread, no async runtime, no wasmtime. Each decision is a synchronous function of
//! its input, so that it can be property-tested. Nothing in here is visible to a guest: WIT is the only schema there.

#![forbid(unsafe_code)]

pub mod address;
pub mod agent;
pub mod approval;
pub mod batch;
pub mod capability;
pub mod codes;
pub mod deploy;
pub mod endpoint;
pub mod error;
pub mod event;
pub mod gate;
pub mod identity;
pub mod ids;
pub mod json;
pub mod layers;
pub mod limits;
pub mod lockfile;
pub mod manifest;
pub mod outcome;
pub mod permission;
pub mod price;
pub mod problem;
pub mod project;
pub mod redact;
pub mod run;
pub mod sandbox;
pub mod schema;
pub mod session;
pub mod stream;
pub mod task;
pub mod telemetry;
pub mod text;
pub mod vault;
pub mod yaml;

pub use error::{Error, ErrorKind, Result};
pub use ids::{Digest, PluginName, ProfileName, RunId};
