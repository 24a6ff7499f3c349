//! Builds the first-party plugins and hands their bytes to the crate.

#[path = "../../sdk/build-guests.rs"]
mod guests;

/// Packages below `plugins/` that are embedded, in the order of `FIRST_PARTY`.
const PLUGINS: [&str; 8] = [
    "agent-playbook",
    "agent-anthropic",
    "agent-openai",
    "agent-gemini",
    "agent-claude-code",
    "agent-codex",
    "agent-antigravity",
    "agent-acp",
];

fn main() {
    guests::build(&PLUGINS, &["plugins"]);
}
