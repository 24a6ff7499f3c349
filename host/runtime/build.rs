//! Builds the first-party plugins and hands their bytes to the crate.

#[path = "../../sdk/build-guests.rs"]
mod guests;

/// Packages below `plugins/` that are embedded, in the order of `FIRST_PARTY`.
const PLUGINS: [&str; 3] = ["agent-playbook", "agent-anthropic", "agent-claude-code"];

fn main() {
    guests::build(&PLUGINS, &["plugins"]);
}
