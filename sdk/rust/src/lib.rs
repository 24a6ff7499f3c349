//! The SDK for Midplane plugins in Rust.
//!
//! A plugin implements [`agent::Agent`] and names its type in [`export_agent!`]; everything that it may ask of the
//! host comes as a [`Host`], so the same code runs as a component and, with `testing::FakeHost`, in a unit test on
//! the machine of its author.
//!
//! # Layout
//! - [`agent`]: the trait of an agent adapter, the types of a task and an outcome, `export_agent!`
//! - [`host`]: the trait of everything that a plugin may ask of the host, and its implementation over the imports
//! - [`error`]: the one error, with a constructor for each kind
//! - [`events`]: a buffer that batches events
//! - [`http`], [`sse`]: requests, responses, and a decoder of server-sent events
//! - [`child`], [`jsonrpc`]: a vendor's program that speaks in lines, and JSON-RPC with it
//! - [`program`]: what every adapter of a program needs beside its protocol: audits, patience, errors
//! - [`settings`], [`kv`]: typed settings, typed notes, endpoints
//! - [`agent_loop`]: the tool loop that all adapters of a model's HTTP API share
//! - [`bindings`]: what is generated from `wit/v0`
//! - [`ws`]: a websocket to a port that a vendor's program opened
//! - `testing`: a scripted host for unit tests (feature `testing`)
//!
//! # What it never does
//! It holds no secret, opens no socket and no file, starts no thread, and reads no environment: whatever is not a
//! [`Host`] method does not happen.

#![forbid(unsafe_code)]

pub mod agent;
pub mod agent_loop;
pub mod bindings;
pub mod child;
pub mod error;
pub mod events;
pub mod host;
pub mod http;
pub mod jsonrpc;
pub mod kv;
pub mod program;
pub mod settings;
pub mod sse;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod ws;

pub use agent::Agent;
pub use error::{Error, ErrorKind, Result};
pub use events::Events;
pub use host::Host;
pub use serde_json::{Value, json};
