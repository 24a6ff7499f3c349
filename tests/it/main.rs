//! All integration tests, as one binary.

mod anthropic;
mod command;
mod context;
mod docs;
mod hostile;
mod ingest;
mod library;
#[cfg(target_os = "linux")]
mod orphans;
mod peer;
mod processes;
mod project;
mod rules;
mod scenarios;
mod script_server;
mod secrets;
mod vendor;
mod world;
