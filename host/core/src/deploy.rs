//! What a deployment is made of, apart from its manifest: names, states, sizes, rights, leases.
//!
//! # Layout
//! - [`state`], [`session`]: the machines of deployments, and of sessions and sandboxes
//! - [`lease`]: who may run at once, with owner, heartbeat and fencing
//! - [`id`], [`url`], [`dns_name`], [`key`]: how deployments, their addresses and their objects are named
//! - [`env_file`], [`env_value`]: env files, and values against the types a manifest declares
//! - [`tier`], [`scope`]: sizes of machines, rights of callers
//! - [`error`]: the errors of deployments, by the class of the original that each replaces

pub mod dns_name;
pub mod env_file;
pub mod env_value;
pub mod error;
pub mod id;
pub mod key;
pub mod lease;
pub mod scope;
pub mod session;
pub mod state;
pub mod tier;
pub mod url;
