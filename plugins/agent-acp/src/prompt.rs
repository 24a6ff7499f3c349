//! What the agent is told, as blocks of content.
//!
//! The protocol has no place for a system prompt, so it stands before the goal. Every agent must take text and links.

use midplane_plugin::agent::Task;
use midplane_plugin::{Value, json};

/// The blocks of the prompt; the goal comes last and as it is.
#[must_use]
pub fn blocks(task: &Task, folder: &str) -> Vec<Value> {
    let mut blocks = Vec::new();
    let mut text = |text: String| blocks.push(json!({ "type": "text", "text": text }));
    if let Some(system) = task.system.as_deref().filter(|system| !system.trim().is_empty()) {
        text(system.to_owned());
    }
    let list = |kind: &str| -> String {
        let of_kind = task.attachments.iter().filter(|attachment| attachment.kind == kind);
        of_kind.map(|attachment| format!("\n- `{}` ({})", attachment.path, attachment.name)).collect()
    };
    for (kind, intro) in [
        ("instructions", "Read these instructions before anything else, and follow them:"),
        ("skill", "These folders hold skills. When one fits the task, read its `SKILL.md` and follow it:"),
    ] {
        let lines = list(kind);
        if !lines.is_empty() {
            text(format!("{intro}{lines}"));
        }
    }
    for attachment in task.attachments.iter().filter(|attachment| attachment.kind == "file") {
        let path = format!("{}/{}", folder.trim_end_matches('/'), attachment.path);
        blocks.push(json!({ "type": "resource_link", "uri": file_uri(&path), "name": attachment.name }));
    }
    blocks.push(json!({ "type": "text", "text": task.goal }));
    blocks
}

/// A `file:` URI of an absolute path.
fn file_uri(path: &str) -> String {
    let mut uri = String::from("file://");
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}
