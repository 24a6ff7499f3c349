//! The events of one streamed reply.
//!
//! `message_start`, then for each block `content_block_start`, deltas, `content_block_stop`, then `message_delta` with
//! the stop reason, then `message_stop`. Blocks are rebuilt exactly as they came, also those of a type that is not
//! known here, because the vendor wants them back unchanged (a thinking block is signed).

use std::collections::BTreeMap;

use midplane_plugin::agent::Usage;
use midplane_plugin::agent_loop::parts::{self, malformed};
use midplane_plugin::agent_loop::{Decoder, Delta, Reply, Stop};
use midplane_plugin::error::cut;
use midplane_plugin::sse::SseEvent;
use midplane_plugin::{Error, Result};
use serde_json::{Value, json};

use crate::wire::typed_error;

/// Blocks of one reply at most.
const BLOCKS_MAX: usize = 1024;

/// Decodes one stream.
#[derive(Debug, Default)]
pub struct MessageStream {
    blocks: BTreeMap<u64, Block>,
    stop_reason: Option<String>,
    /// What the vendor says about a refusal.
    explanation: Option<String>,
    complete: bool,
}

/// A block, with what its deltas added.
#[derive(Debug)]
struct Block {
    value: Value,
    /// The joined `partial_json` of a tool's input.
    input: String,
}

impl Decoder for MessageStream {
    fn event(&mut self, event: &SseEvent, deltas: &mut Vec<Delta>) -> Result<()> {
        let known = [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
            "error",
        ];
        // `ping`, and whatever is added later.
        if !known.contains(&event.name.as_str()) {
            return Ok(());
        }
        let Some(data) = parts::event_data(event)? else { return Ok(()) };
        match event.name.as_str() {
            "message_start" => {
                let message = &data["message"];
                if let Some(model) = message["model"].as_str() {
                    deltas.push(Delta::Model(model.to_owned()));
                }
                deltas.push(Delta::Usage(usage(&message["usage"])));
            }
            "content_block_start" => self.start_block(&data, deltas)?,
            "content_block_delta" => self.add_to_block(&data, deltas)?,
            "content_block_stop" => {}
            "message_delta" => {
                if let Some(reason) = data["delta"]["stop_reason"].as_str() {
                    self.stop_reason = Some(reason.to_owned());
                }
                if let Some(text) = data["delta"]["stop_details"]["explanation"].as_str() {
                    self.explanation = Some(cut(text.to_owned(), 500));
                }
                deltas.push(Delta::Usage(usage(&data["usage"])));
            }
            "message_stop" => self.complete = true,
            _ => {
                let kind = data["error"]["type"].as_str().unwrap_or("error");
                let message = data["error"]["message"].as_str().unwrap_or("no explanation");
                return Err(typed_error(kind, message).unwrap_or_else(|| {
                    Error::internal("vendor-error", format!("the vendor says `{kind}`: {message}"))
                }));
            }
        }
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.complete
    }

    fn reply(self: Box<Self>) -> Result<Reply> {
        let Some(stop_word) = self.stop_reason else {
            return Err(malformed("the reply ended without a stop reason"));
        };
        let stop = match stop_word.as_str() {
            "max_tokens" | "model_context_window_exceeded" => Stop::MaxTokens,
            "pause_turn" => Stop::Again,
            "refusal" => {
                let why = self.explanation.map(|text| format!(": {text}")).unwrap_or_default();
                Stop::Failed(Error::denied("refusal", format!("the model declined to answer{why}")))
            }
            // `end_turn`, `stop_sequence`, `tool_use`, and a reason that is added later: the calls decide.
            _ => Stop::Done,
        };
        let mut content = Vec::new();
        let mut calls = Vec::new();
        for block in self.blocks.into_values() {
            match block.finish() {
                Ok(block) => {
                    if block["type"] == "tool_use" {
                        calls.push(parts::call(block["id"].as_str(), &block["name"], &block["input"])?);
                    }
                    if can_go_back(&block) {
                        content.push(block);
                    }
                }
                // A call that was cut in the middle of its input: it cannot be run, and need not be answered.
                Err(_) if stop == Stop::MaxTokens => {}
                Err(error) => return Err(error),
            }
        }
        // A pause for the vendor's own tools leaves none of ours open; where it did, they are answered first.
        let stop = if stop == Stop::Again && !calls.is_empty() { Stop::Done } else { stop };
        let messages =
            if content.is_empty() { Vec::new() } else { vec![json!({ "role": "assistant", "content": content })] };
        Ok(Reply { messages, calls, stop, stop_word })
    }
}

impl MessageStream {
    fn start_block(&mut self, data: &Value, deltas: &mut Vec<Delta>) -> Result<()> {
        let value = data["content_block"].clone();
        if !value.is_object() || self.blocks.len() >= BLOCKS_MAX {
            return Err(malformed("a block does not begin as an object, or there are too many"));
        }
        // Usually empty at the start, but nothing says that it must be.
        match value["type"].as_str() {
            Some("text") => push_text(deltas, &value["text"], Delta::Text),
            Some("thinking") => push_text(deltas, &value["thinking"], Delta::Thinking),
            _ => deltas.push(Delta::Silent),
        }
        self.blocks.insert(index(data)?, Block { value, input: String::new() });
        Ok(())
    }

    fn add_to_block(&mut self, data: &Value, deltas: &mut Vec<Delta>) -> Result<()> {
        let at = index(data)?;
        let block = self.blocks.get_mut(&at).ok_or_else(|| malformed("a delta names a block that did not begin"))?;
        let delta = &data["delta"];
        match delta["type"].as_str() {
            Some("text_delta") => {
                append(&mut block.value, "text", &delta["text"]);
                push_text(deltas, &delta["text"], Delta::Text);
            }
            Some("thinking_delta") => {
                append(&mut block.value, "thinking", &delta["thinking"]);
                push_text(deltas, &delta["thinking"], Delta::Thinking);
            }
            Some("signature_delta") => append(&mut block.value, "signature", &delta["signature"]),
            Some("input_json_delta") => block.input.push_str(delta["partial_json"].as_str().unwrap_or_default()),
            Some("citations_delta") => {
                let citations = &mut block.value["citations"];
                if !citations.is_array() {
                    *citations = json!([]);
                }
                if let Some(list) = citations.as_array_mut() {
                    list.push(delta["citation"].clone());
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Block {
    /// The block as it goes back to the vendor.
    fn finish(mut self) -> Result<Value> {
        if let Some(input) = parts::joined_input(&self.input)? {
            self.value["input"] = input;
        }
        Ok(self.value)
    }
}

/// Whether the vendor takes a block back: not a text without anything in it, and not a thought that was cut before its
/// signature.
fn can_go_back(block: &Value) -> bool {
    let has = |field: &str| block[field].as_str().is_some_and(|text| !text.trim().is_empty());
    match block["type"].as_str() {
        Some("text") => has("text"),
        Some("thinking") => has("signature"),
        _ => true,
    }
}

/// The counters of a `usage` object. `input_tokens` is without those of the cache, as the contract has it.
fn usage(value: &Value) -> Usage {
    Usage {
        input_tokens: value["input_tokens"].as_u64(),
        output_tokens: value["output_tokens"].as_u64(),
        cache_read_tokens: value["cache_read_input_tokens"].as_u64(),
        cache_creation_tokens: value["cache_creation_input_tokens"].as_u64(),
        ..Usage::default()
    }
}

fn index(data: &Value) -> Result<u64> {
    data["index"].as_u64().ok_or_else(|| malformed("an event of a block has no index"))
}

fn append(block: &mut Value, field: &str, text: &Value) {
    let Some(text) = text.as_str() else { return };
    match &mut block[field] {
        Value::String(joined) => joined.push_str(text),
        other => *other = Value::String(text.to_owned()),
    }
}

fn push_text(deltas: &mut Vec<Delta>, text: &Value, delta: fn(String) -> Delta) {
    if let Some(text) = text.as_str().filter(|text| !text.is_empty()) {
        deltas.push(delta(text.to_owned()));
    }
}
