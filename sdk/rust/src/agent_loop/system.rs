//! The system prompt: the caller's, or a short one of ours, with what the host has put into the workspace.

use crate::agent::{Attachment, Task};

use super::RETURN_RESULT;

/// What a model without a system prompt is told. A caller's prompt, also an empty one, takes its place.
const DEFAULT: &str = "You are a coding agent. You work on the files of one workspace, only through the tools given \
to you; paths are relative to its root. Look before you change something, change no more than the task needs, and \
check your work. If a tool is declined or fails, do not pretend that it worked. End with a short summary of what \
you did.";

/// The kinds of attachments that the prompt can make known.
pub const ATTACHMENT_KINDS: [&str; 3] = ["instructions", "skill", "file"];

/// The system prompt of a task; may be empty.
#[must_use]
pub fn prompt(task: &Task, returns_result: bool) -> String {
    let mut parts: Vec<String> = Vec::new();
    let own = task.system.as_deref().unwrap_or(DEFAULT).trim();
    if !own.is_empty() {
        parts.push(own.to_owned());
    }
    let mut list = |kind: &str, intro: &str| {
        let lines: String = of_kind(&task.attachments, kind)
            .map(|attachment| format!("\n- `{}` ({})", attachment.path, attachment.name))
            .collect();
        if !lines.is_empty() {
            parts.push(format!("{intro}{lines}"));
        }
    };
    list("instructions", "Read these instructions before anything else, and follow them:");
    list("skill", "These folders hold skills. When one fits the task, read its `SKILL.md` and follow it:");
    list("file", "These files were given along with the task:");
    if returns_result {
        parts.push(format!(
            "When you have the final answer, call the tool `{RETURN_RESULT}` with it. A text is not taken as the \
             answer. If the tool says that the answer is wrong, correct it and call the tool again."
        ));
    }
    parts.join("\n\n")
}

fn of_kind<'a>(attachments: &'a [Attachment], kind: &'a str) -> impl Iterator<Item = &'a Attachment> {
    attachments.iter().filter(move |attachment| attachment.kind == kind)
}
