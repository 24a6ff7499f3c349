//! The events of one streamed reply.
//!
//! `message_start`, then for each block `content_block_start`, deltas, `content_block_stop`, then `message_delta` with
//! the stop reason, then `message_stop`. Blocks are rebuilt exactly as they came, also those of a type that is not
//! known here, because the vendor wants them back unchanged (a thinking block is signed).

use midplane_plugin::agent_loop::prelude::*;

use crate::wire::typed_error;

/// Decodes one stream.
#[derive(Debug, Default)]
pub struct MessageStream {
    blocks: Blocks,
    stop_reason: Option<String>,
    /// What the vendor says about a refusal.
    explanation: Option<String>,
    complete: bool,
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
                parts::say(deltas, &message["model"], Delta::Model);
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
                return Err(typed_error(kind, message).unwrap_or_else(|| fault::unknown(kind, message)));
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
        let mut content = self.blocks.finish("input", stop == Stop::MaxTokens)?;
        let calls = parts::calls(&content, "tool_use", "input")?;
        content.retain(can_go_back);
        // A pause for the vendor's own tools leaves none of ours open; where it did, they are answered first.
        let stop = if stop == Stop::Again && !calls.is_empty() { Stop::Done } else { stop };
        let messages =
            if content.is_empty() { Vec::new() } else { vec![json!({ "role": "assistant", "content": content })] };
        Ok(Reply { messages, calls, stop, stop_word })
    }
}

impl MessageStream {
    fn start_block(&mut self, data: &Value, deltas: &mut Vec<Delta>) -> Result<()> {
        let value = &data["content_block"];
        self.blocks.begin(data, value)?;
        // Usually empty at the start, but nothing says that it must be.
        match value["type"].as_str() {
            Some("text") => parts::say(deltas, &value["text"], Delta::Text),
            Some("thinking") => parts::say(deltas, &value["thinking"], Delta::Thinking),
            _ => deltas.push(Delta::Silent),
        }
        Ok(())
    }

    fn add_to_block(&mut self, data: &Value, deltas: &mut Vec<Delta>) -> Result<()> {
        let block = self.blocks.of(data)?;
        let delta = &data["delta"];
        match delta["type"].as_str() {
            Some("text_delta") => {
                block.append("text", &delta["text"]);
                parts::say(deltas, &delta["text"], Delta::Text);
            }
            Some("thinking_delta") => {
                block.append("thinking", &delta["thinking"]);
                parts::say(deltas, &delta["thinking"], Delta::Thinking);
            }
            Some("signature_delta") => block.append("signature", &delta["signature"]),
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
