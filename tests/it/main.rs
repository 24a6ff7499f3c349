//! All integration tests, as one binary.

mod anthropic;
mod command;
mod docs;
mod library;
mod peer;
mod rules;
mod scenarios;
mod script_server;
mod world;
