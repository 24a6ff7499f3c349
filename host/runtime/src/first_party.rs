//! The plugins that come with the program, as the build script made them.

use crate::registry::Embedded;

macro_rules! embedded {
    ($folder:literal, $file:literal) => {
        Embedded {
            manifest: include_str!(concat!("../../../plugins/", $folder, "/plugin.toml")),
            component: include_bytes!(concat!(env!("OUT_DIR"), "/", $file)),
        }
    };
}

/// All of them. They load through the same path and gates as any other component: being here grants nothing.
pub const FIRST_PARTY: &[Embedded] = &[
    embedded!("agent-playbook", "agent_playbook.wasm"),
    embedded!("agent-anthropic", "agent_anthropic.wasm"),
    embedded!("agent-openai", "agent_openai.wasm"),
    embedded!("agent-gemini", "agent_gemini.wasm"),
    embedded!("agent-claude-code", "agent_claude_code.wasm"),
    embedded!("agent-codex", "agent_codex.wasm"),
    embedded!("agent-antigravity", "agent_antigravity.wasm"),
    embedded!("agent-acp", "agent_acp.wasm"),
];
