//! Builds the first-party plugins and hands their bytes to the crate.

#[path = "../../sdk/build-guests.rs"]
mod guests;

/// Packages below `plugins/` that are embedded, in the order of `FIRST_PARTY`.
const PLUGINS: [&str; 4] = ["agent-playbook", "agent-anthropic", "agent-gemini", "agent-openai"];

fn main() {
    guests::build(&PLUGINS, &["plugins"]);
}
