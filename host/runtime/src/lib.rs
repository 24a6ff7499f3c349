//! Midplane as a library.
//!
//! # Layout
//! - [`Host`], its [`Builder`]: everything that an embedder or the command does (`host`)
//! - `admit`: what must hold before a run exists; `driver`: the one task that owns a run; `provision`: what it needs
//! - `registry`, `profile`, `helper`: plugins, plugins under a name, compiling in a bounded process
//! - `first_party`: the plugins that come with the program
//! - `ingest`: runs that are fed from outside, by batches of JSON
//! - `sink`, `reach`, `call`: where events go, what a call can reach, what every service knows of its call
//! - `egress`: the one way out to the network; `blob`: bytes that the host holds; `placeholder`: stand-ins for secrets
//! - `tools`, `process`: what the host runs for an agent, granted programs
//! - `approval`, `questions`: what a vendor's program asks, and answers from any process
//! - [`agents`]: agents under an embedder's names, their events as `agent.*`; `slots`: task ids that are in use
//! - `workspace`, `rights`: the folder of a run, what its plugin may do
//! - `owner`: which process drives a run; `paths`, `config`: where state is, what the operator wrote
//! - [`identity`], [`context`]: who runs where, and all that follows from it; [`secret`]: where secrets come from
//! - [`check`]: the files of a project, read and checked
//! - `telemetry`: ended runs as traces to an OTLP collector, if one is named
//! - `matrix`, `conversations`: what agents can do and refuse; vendors' threads, as their runs tell
//! - `sessions`: lasting workspaces with an agent
//! - [`readiness`]: whether a profile could run, and what it lacks
//! - `view`: what is shown of runs, plugins, profiles and grants
//!
//! # What it never does
//! It knows no command line and no HTTP server. It writes no grant by itself: they come from the operator, through
//! [`Host::allow`] and [`RunRequest::allow`]. No value of a secret is in what it returns.

#![forbid(unsafe_code)]

mod admit;
pub mod agents;
mod approval;
mod blob;
mod call;
pub mod check;
pub mod config;
pub mod context;
mod conversations;
mod driver;
mod egress;
mod endpoints;
#[cfg(test)]
mod fakes;
mod first_party;
mod helper;
mod host;
pub mod identity;
mod ingest;
mod matrix;
mod owner;
pub mod paths;
mod placeholder;
mod process;
mod profile;
mod provision;
mod questions;
mod reach;
pub mod readiness;
mod registry;
mod rights;
pub mod secret;
mod sessions;
mod sink;
mod slots;
mod telemetry;
mod tools;
pub mod view;
mod workspace;

pub use admit::{Refusal, Run, RunRequest};
pub use approval::{Asked, Asker, Reply};
pub use config::{Config, Selection, Sources};
pub use context::RuntimeContext;
pub use conversations::Conversation;
pub use first_party::FIRST_PARTY;
pub use helper::main as helper_main;
pub use host::{Builder, CancelReceipt, Host};
pub use ingest::{Ingested, OutsideRun};
pub use matrix::{AgentView, Rejection};
pub use midplane_core as core;
pub use midplane_engine::plugin::Availability;
pub use midplane_store::{Leases, Machines, RunQuery, RunRow};
pub use paths::Paths;
pub use process::terminal::Size;
pub use questions::OpenQuestion;
pub use registry::Embedded;
pub use secret::keeper::Keeper;
pub use sessions::SessionView;
pub use sessions::attach::Attached;
pub use sessions::shell::{Shell, ShellEnd, ShellIo, Terminal};

/// What this system enforces around local programs, in words; `none: ...` where nothing.
#[must_use]
pub fn child_sandbox() -> &'static str {
    &process::fence::offered().text
}
