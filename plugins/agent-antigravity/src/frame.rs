//! Reading what stands in the harness's frames: texts, numbers, actions, calls. Whatever is not there, or is of another
//! type, reads as empty or unknown.

use midplane_plugin::agent::Usage;
use midplane_plugin::child::visible;
use midplane_plugin::error::cut;
use midplane_plugin::{Value, json};

/// Longest message of the harness that is told, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 1024;
/// Fields of a step that are objects and no action.
const NO_ACTIONS: [&str; 3] = ["error", "toolConfirmationRequest", "questionsRequest"];

/// Actions of the harness's own tools, which the hooks tell.
pub const KNOWN_ACTIONS: [&str; 16] = [
    "listDirectory",
    "findFile",
    "searchDirectory",
    "viewFile",
    "createFile",
    "editFile",
    "runCommand",
    "compaction",
    "invokeSubagent",
    "generateImage",
    "mcpTool",
    "searchWeb",
    "readUrlContent",
    "skillLookup",
    "runWorkflow",
    "manageTask",
];

/// Counters of the conversation, each unset where the harness does not say it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    prompt: Option<u64>,
    cached: Option<u64>,
    candidates: Option<u64>,
    thoughts: Option<u64>,
    total: Option<u64>,
}

impl Counters {
    /// What was used since another count, in the contract's terms. Each is unknown where a part of it is.
    #[must_use]
    pub fn since(&self, before: &Self) -> Usage {
        let since = |now: Option<u64>, before: Option<u64>| now.map(|now| now.saturating_sub(before.unwrap_or(0)));
        let prompt = since(self.prompt, before.prompt);
        let cached = since(self.cached, before.cached);
        let candidates = since(self.candidates, before.candidates);
        let thoughts = since(self.thoughts, before.thoughts);
        Usage {
            input_tokens: prompt.zip(cached).map(|(prompt, cached)| prompt.saturating_sub(cached)),
            output_tokens: candidates.zip(thoughts).map(|(candidates, thoughts)| candidates.saturating_add(thoughts)),
            cache_read_tokens: cached,
            total_tokens: since(self.total, before.total),
            ..Usage::default()
        }
    }

    /// Reads `UsageMetadata`, whose numbers of 64 bits are text.
    #[must_use]
    pub fn read(usage: &Value) -> Self {
        let number = |name: &str| match &usage[name] {
            Value::String(text) => text.parse().ok(),
            other => other.as_u64(),
        };
        Self {
            prompt: number("promptTokenCount"),
            cached: number("cachedContentTokenCount"),
            candidates: number("candidatesTokenCount"),
            thoughts: number("thoughtsTokenCount"),
            total: number("totalTokenCount"),
        }
    }
}

/// The text; empty for whatever is none.
#[must_use]
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A text of the harness as it may be told.
#[must_use]
pub fn message(value: &Value) -> String {
    cut(visible(text(value)), MESSAGE_BYTES_MAX)
}

/// The actions of a step, by name.
pub fn actions(step: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let fields = step.as_object().into_iter().flatten();
    fields
        .map(|(name, value)| (name.as_str(), value))
        .filter(|(name, value)| value.is_object() && !NO_ACTIONS.contains(name))
}

/// The arguments of a call, from their JSON.
#[must_use]
pub fn arguments(json: &Value) -> Value {
    serde_json::from_str(text(json)).unwrap_or(json!({}))
}

/// The arguments of a call. Those of an MCP tool stand inside of the call of the tool that calls it.
#[must_use]
pub fn call_arguments(call: &Value) -> Value {
    let mut found = arguments(&call["argumentsJson"]);
    if !text(&call["serverName"]).is_empty() && found["Arguments"].is_object() {
        return found["Arguments"].take();
    }
    found
}

/// The tool's name, in the form of the contract for one of an MCP server.
#[must_use]
pub fn full_name(call: &Value) -> String {
    match (text(&call["serverName"]), text(&call["toolName"])) {
        ("", name) => name.to_owned(),
        (server, name) => format!("{server}__{name}"),
    }
}

/// Undoes the escapes of a URL; what they give may be no text, and then the text as it was is better than none.
#[must_use]
pub fn unescaped(url: &str) -> String {
    let mut bytes = Vec::with_capacity(url.len());
    let mut rest = url.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.first_chunk::<2>().filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| url.to_owned())
}
