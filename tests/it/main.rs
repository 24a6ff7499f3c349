//! All integration tests, as one binary.

mod acp;
mod anthropic;
mod antigravity;
mod bad_input;
mod bench;
mod claude_code;
mod codex;
mod command;
mod context;
mod docs;
mod gemini;
mod hostile;
mod ingest;
mod library;
mod mcp;
mod openai;
#[cfg(target_os = "linux")]
mod orphans;
mod peer;
mod processes;
mod project;
mod readiness;
mod rules;
#[cfg(target_os = "linux")]
mod same_task;
mod scenarios;
mod script_server;
mod secrets;
#[cfg(target_os = "linux")]
mod seen;
#[cfg(target_os = "linux")]
mod sessions;
mod soak;
mod vendor;
mod wires;
mod world;
