//! Chat Completions: requests, and the chunks of one streamed reply.
//!
//! Each chunk has a delta of the message; a tool call arrives in pieces under its index; a chunk with a finish reason
//! ends the choice, one with `usage` follows where the server counts, and `[DONE]` ends the stream. Compatible servers
//! leave out ids, indexes, counters or `[DONE]`; none of that is needed here.

use midplane_plugin::agent_loop::prelude::*;

use crate::{OpenAi, PARTS_MAX, errors, usage};

/// The body of a request.
pub(crate) fn body(vendor: &OpenAi, turn: &Turn<'_>) -> Result<Map<String, Value>> {
    let system = (!turn.system.is_empty()).then(|| json!({ "role": "system", "content": turn.system }));
    let tools = parts::tools(turn.tools, |tool, schema| {
        json!({ "type": "function", "function": {
            "name": tool.name, "description": tool.description, "parameters": schema,
        }})
    })?;
    let forced = turn.force_tool.filter(|_| tools.is_some());
    let max = (vendor.max_output_tokens > 0).then_some(vendor.max_output_tokens);
    Ok(parts::fields([
        ("model", Some(json!(turn.model))),
        ("messages", Some(system.iter().chain(turn.messages).cloned().collect())),
        ("stream", Some(json!(true))),
        ("stream_options", Some(json!({ "include_usage": true }))),
        ("tools", tools),
        ("tool_choice", forced.map(|name| json!({ "type": "function", "function": { "name": name } }))),
        ("reasoning_effort", turn.effort.map(Value::from)),
        ("max_completion_tokens", max.map(Value::from)),
    ]))
}

/// Decodes one stream.
#[derive(Debug, Default)]
pub struct ChatStream {
    text: String,
    refusal: String,
    /// The field in which the server gives what the model thinks, and the thoughts.
    reasoning: Option<(&'static str, String)>,
    calls: Vec<Partial>,
    finish: Option<String>,
    named: bool,
    done: bool,
}

/// A call whose arguments are still arriving.
#[derive(Debug)]
struct Partial {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
}

impl Decoder for ChatStream {
    fn event(&mut self, event: &SseEvent, deltas: &mut Vec<Delta>) -> Result<()> {
        let Some(chunk) = parts::event_data(event)? else {
            self.done = true;
            return Ok(());
        };
        if !self.named
            && let Some(model) = chunk["model"].as_str()
        {
            self.named = true;
            deltas.push(Delta::Model(model.to_owned()));
        }
        // Some servers send it in the last chunk of the choice, some after it, some with each chunk.
        if chunk["usage"].is_object() {
            deltas.push(Delta::Usage(usage(&chunk["usage"])));
        }
        if !chunk["error"].is_null() {
            return Err(errors::of_stream(&chunk["error"]));
        }
        let choice = &chunk["choices"][0];
        self.add(&choice["delta"], deltas)?;
        if let Some(reason) = choice["finish_reason"].as_str() {
            self.finish = Some(reason.to_owned());
        }
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.done
    }

    /// A server without `[DONE]`: the finish reason came after all that the model had to say.
    fn ends_whole(&mut self) -> bool {
        self.finish.is_some()
    }

    fn reply(self: Box<Self>) -> Result<Reply> {
        let Some(stop_word) = self.finish else {
            return Err(Error::unavailable("stream-truncated", "the vendor's stream ended without a finish reason"));
        };
        let stop = match stop_word.as_str() {
            _ if !self.refusal.is_empty() => {
                Stop::Failed(Error::denied("refusal", format!("the model declined: {}", self.refusal)))
            }
            // `model_length` is Mistral's word for a full context.
            "length" | "model_length" => Stop::MaxTokens,
            "content_filter" => {
                Stop::Failed(Error::denied("content-filter", "the vendor's content filter cut the reply"))
            }
            "error" | "insufficient_system_resource" => {
                Stop::Failed(Error::unavailable("vendor-error", format!("the vendor broke off: `{stop_word}`")))
            }
            // `stop`, `tool_calls`, and what a server may call it: the calls decide.
            _ => Stop::Done,
        };
        let mut calls = Vec::new();
        for (index, partial) in self.calls.into_iter().enumerate() {
            let whole = serde_json::from_str::<Map<String, Value>>(&partial.arguments).is_ok();
            // One that was cut in its arguments cannot be run.
            if !partial.name.is_empty() && (whole || stop != Stop::MaxTokens) {
                calls.push(partial.call(index));
            }
        }
        let mut message = json!({ "role": "assistant", "content": self.text });
        if !calls.is_empty() {
            message["tool_calls"] = calls.iter().map(sent_back).collect();
            // DeepSeek refuses a conversation in which a call lost its thoughts, also when they were empty. After a
            // plain answer they are not wanted.
            if let Some((field, thoughts)) = self.reasoning {
                message[field] = json!(thoughts);
            }
        }
        let messages = if self.text.is_empty() && calls.is_empty() { Vec::new() } else { vec![message] };
        Ok(Reply { messages, calls, stop, stop_word })
    }
}

impl ChatStream {
    fn add(&mut self, delta: &Value, deltas: &mut Vec<Delta>) -> Result<()> {
        // OpenAI's own API hides them; `reasoning_content` is DeepSeek's, Qwen's and vLLM's, `reasoning` Ollama's.
        for field in ["reasoning_content", "reasoning"] {
            if let Some(thought) = delta[field].as_str() {
                let (_, thoughts) = self.reasoning.get_or_insert((field, String::new()));
                thoughts.push_str(thought);
                parts::say(deltas, &delta[field], Delta::Thinking);
                break;
            }
        }
        match &delta["content"] {
            text @ Value::String(_) => self.say(text, deltas),
            // Mistral's models that think answer in parts.
            Value::Array(parts) => {
                for part in parts {
                    self.say(&part["text"], deltas);
                    for thought in part["thinking"].as_array().into_iter().flatten() {
                        parts::say(deltas, &thought["text"], Delta::Thinking);
                    }
                }
            }
            _ => {}
        }
        if let Some(text) = delta["refusal"].as_str() {
            self.refusal.push_str(text);
            parts::say(deltas, &delta["refusal"], Delta::Text);
        }
        for piece in delta["tool_calls"].as_array().into_iter().flatten() {
            deltas.push(Delta::Silent);
            self.add_call(piece)?;
        }
        Ok(())
    }

    fn say(&mut self, text: &Value, deltas: &mut Vec<Delta>) {
        self.text.push_str(text.as_str().unwrap_or_default());
        parts::say(deltas, text, Delta::Text);
    }

    /// A piece belongs to the call of its index. A server that gives none, or the same to all, tells calls apart by
    /// their ids, or gives each in one piece with its name; a piece without any of it goes on with the last.
    fn add_call(&mut self, piece: &Value) -> Result<()> {
        let function = &piece["function"];
        let (index, id) = (piece["index"].as_u64(), piece["id"].as_str().unwrap_or_default());
        let name = function["name"].as_str().unwrap_or_default();
        let known = match index {
            Some(_) => self.calls.iter().rposition(|call| call.index == index),
            None if id.is_empty() && !name.is_empty() => None,
            None => self.calls.len().checked_sub(1),
        };
        let same = |call: &Partial| id.is_empty() || call.id == id || (call.id.is_empty() && index.is_some());
        let at = match known.filter(|at| same(&self.calls[*at])) {
            Some(at) => at,
            None if self.calls.len() >= PARTS_MAX => return Err(malformed("too many calls in one reply")),
            None => {
                self.calls.push(Partial { index, id: String::new(), name: String::new(), arguments: String::new() });
                self.calls.len() - 1
            }
        };
        let call = &mut self.calls[at];
        if call.id.is_empty() {
            call.id.push_str(id);
        }
        // Some servers repeat the name with each piece.
        if call.name.is_empty() {
            call.name.push_str(name);
        }
        match &function["arguments"] {
            Value::String(text) => call.arguments.push_str(text),
            whole @ Value::Object(_) => call.arguments = whole.to_string(),
            _ => {}
        }
        Ok(())
    }
}

impl Partial {
    fn call(self, index: usize) -> Call {
        let id = if self.id.is_empty() { format!("call_{index}") } else { self.id };
        let arguments = if self.arguments.trim().is_empty() { "{}".to_owned() } else { self.arguments };
        Call { id, name: self.name, arguments }
    }
}

/// The call as the transcript keeps it. Servers that render it into a template fail on arguments that are not JSON;
/// what was wrong with them is in the answer.
fn sent_back(call: &Call) -> Value {
    let is_object = serde_json::from_str::<Map<String, Value>>(&call.arguments).is_ok();
    let arguments = if is_object { call.arguments.as_str() } else { "{}" };
    json!({ "id": call.id, "type": "function", "function": { "name": call.name, "arguments": arguments } })
}
