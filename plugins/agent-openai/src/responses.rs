//! The Responses API: requests, and the events of one streamed reply.
//!
//! `response.created`, then for each item `response.output_item.added`, deltas, `response.output_item.done`, then one
//! of `response.completed`, `response.incomplete`, `response.failed` or `error`. Items go back as they came: reasoning
//! is encrypted, and only the vendor can read it.

use std::collections::BTreeMap;

use midplane_plugin::agent_loop::{Decoder, Delta, Reply, Stop, Turn};
use midplane_plugin::host::Call;
use midplane_plugin::sse::SseEvent;
use midplane_plugin::{Error, Result};
use serde_json::{Map, Value, json};

use crate::{OpenAi, PARTS_MAX, errors, malformed, schema, usage};

/// The body of a request.
pub(crate) fn body(vendor: &OpenAi, turn: &Turn<'_>) -> Result<Map<String, Value>> {
    let mut body = Map::new();
    let mut set = |name: &str, value: Value| body.insert(name.to_owned(), value);
    set("model", json!(turn.model));
    set("input", json!(turn.messages));
    set("stream", json!(true));
    // Nothing is kept at the vendor.
    set("store", json!(false));
    if !turn.system.is_empty() {
        set("instructions", json!(turn.system));
    }
    if !turn.tools.is_empty() {
        let tools = turn.tools.iter().map(|tool| {
            // Not strict: that takes a part of JSON Schema only, and the host checks the arguments anyway.
            Ok(json!({
                "type": "function", "name": tool.name, "description": tool.description,
                "parameters": schema(&tool.input_schema)?, "strict": false,
            }))
        });
        set("tools", tools.collect::<Result<_>>()?);
        if let Some(name) = turn.force_tool {
            set("tool_choice", json!({ "type": "function", "name": name }));
        }
    }
    // A model that does not reason refuses each of these.
    if !vendor.efforts.is_empty() {
        set("include", json!(["reasoning.encrypted_content"]));
        let mut reasoning = Map::new();
        reasoning.extend(turn.effort.map(|effort| ("effort".to_owned(), json!(effort))));
        reasoning.extend(vendor.reasoning_summary.as_ref().map(|summary| ("summary".to_owned(), json!(summary))));
        if !reasoning.is_empty() {
            set("reasoning", Value::Object(reasoning));
        }
    }
    if vendor.max_output_tokens > 0 {
        set("max_output_tokens", json!(vendor.max_output_tokens));
    }
    Ok(body)
}

/// Decodes one stream.
#[derive(Debug, Default)]
pub struct ResponseStream {
    /// Finished items by their place.
    items: BTreeMap<u64, Value>,
    /// Text was heard.
    spoke: bool,
    /// What separates the next text or thought from the one before.
    gap: Option<Gap>,
    /// The response as its last event has it.
    last: Option<Value>,
}

#[derive(Debug, PartialEq)]
enum Gap {
    Text,
    Thought,
}

impl Decoder for ResponseStream {
    fn event(&mut self, event: &SseEvent, deltas: &mut Vec<Delta>) -> Result<()> {
        if event.data == "[DONE]" {
            // The end of the other API, which some servers send here too.
            return Ok(());
        }
        let mut data: Value =
            serde_json::from_str(&event.data).map_err(|error| malformed(&format!("data that is not JSON: {error}")))?;
        let kind = data["type"].as_str().unwrap_or(&event.name).to_owned();
        let delta = || data["delta"].as_str().unwrap_or_default();
        match kind.as_str() {
            "response.created" => {
                deltas.extend(data["response"]["model"].as_str().map(|model| Delta::Model(model.to_owned())));
            }
            "response.output_text.delta" | "response.refusal.delta" => self.say(delta(), deltas),
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => self.think(delta(), deltas),
            "response.reasoning_summary_part.added" if data["summary_index"].as_u64() > Some(0) => {
                self.gap = Some(Gap::Thought);
            }
            "response.output_item.added" => match data["item"]["type"].as_str() {
                Some("message") if self.spoke => self.gap = Some(Gap::Text),
                Some("function_call") => deltas.push(Delta::Silent),
                _ => {}
            },
            "response.function_call_arguments.delta" => deltas.push(Delta::Silent),
            "response.output_item.done" => {
                let at = data["output_index"].as_u64().unwrap_or(self.items.len() as u64);
                if self.items.len() >= PARTS_MAX || !data["item"].is_object() {
                    return Err(malformed("an item is no object, or there are too many"));
                }
                self.items.insert(at, data["item"].take());
            }
            "response.completed" | "response.incomplete" | "response.failed" => {
                let response = data["response"].take();
                deltas.push(Delta::Usage(usage(&response["usage"])));
                if kind == "response.failed" || response["status"] == "failed" {
                    return Err(errors::of_stream(&response["error"]));
                }
                self.last = Some(response);
            }
            // Its fields stand in the event itself, with some servers in an object.
            "error" => return Err(errors::of_stream(if data["error"].is_object() { &data["error"] } else { &data })),
            _ => {}
        }
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.last.is_some()
    }

    fn reply(self: Box<Self>) -> Result<Reply> {
        let mut last = self.last.unwrap_or_default();
        let mut items: Vec<Value> = self.items.into_values().collect();
        if items.is_empty()
            && let Value::Array(output) = last["output"].take()
        {
            // A server that gives the items only at the end.
            items = output;
            items.truncate(PARTS_MAX);
        }
        let status = last["status"].as_str().unwrap_or("completed");
        let cut = status == "incomplete";
        // A server that gives no reason means the one that there always is.
        let reason = last["incomplete_details"]["reason"].as_str().unwrap_or("max_output_tokens");
        let stop_word = if cut { reason } else { status }.to_owned();
        let stop = match (status, reason) {
            ("completed", _) => refusal(&items).map_or(Stop::Done, Stop::Failed),
            ("incomplete", "max_output_tokens") => Stop::MaxTokens,
            ("incomplete", "content_filter") => {
                Stop::Failed(Error::denied("content-filter", "the vendor's content filter cut the reply"))
            }
            ("cancelled", _) => Stop::Failed(Error::unavailable("vendor-cancelled", "the vendor cancelled the reply")),
            _ => Stop::Failed(Error::internal("incomplete", format!("the vendor ended the reply: `{stop_word}`"))),
        };
        if cut {
            // A call cut in the middle cannot be run, and the vendor takes no reasoning back that leads to nothing.
            items.retain(|item| item["type"] != "function_call" || item["status"] != "incomplete");
            while items.last().is_some_and(|item| item["type"] == "reasoning") {
                items.pop();
            }
        }
        let calls = items.iter().filter(|item| item["type"] == "function_call").map(call).collect::<Result<_>>()?;
        items.retain(can_go_back);
        Ok(Reply { messages: items, calls, stop, stop_word })
    }
}

impl ResponseStream {
    fn say(&mut self, text: &str, deltas: &mut Vec<Delta>) {
        if !text.is_empty() {
            let gap = if self.gap.take() == Some(Gap::Text) { "\n\n" } else { "" };
            self.spoke = true;
            deltas.push(Delta::Text(format!("{gap}{text}")));
        }
    }

    fn think(&mut self, text: &str, deltas: &mut Vec<Delta>) {
        if !text.is_empty() {
            let gap = if self.gap == Some(Gap::Thought) { "\n\n" } else { "" };
            if !gap.is_empty() {
                self.gap = None;
            }
            deltas.push(Delta::Thinking(format!("{gap}{text}")));
        }
    }
}

fn call(item: &Value) -> Result<Call> {
    // `call_id` is what an answer names, `id` is the item's.
    let (Some(id), Some(name)) = (item["call_id"].as_str(), item["name"].as_str()) else {
        return Err(malformed("a call has no `call_id` or no name"));
    };
    let arguments = item["arguments"].as_str().filter(|text| !text.trim().is_empty()).unwrap_or("{}");
    Ok(Call { id: id.to_owned(), name: name.to_owned(), arguments: arguments.to_owned() })
}

/// The model declined, in a part of its own.
fn refusal(items: &[Value]) -> Option<Error> {
    let mut parts = items.iter().filter_map(|item| item["content"].as_array()).flatten();
    let text = parts.find_map(|part| part["refusal"].as_str())?;
    Some(Error::denied("refusal", format!("the model declined: {text}")))
}

/// Whether the vendor takes an item back. Reasoning without its encrypted content is only a reference to what the
/// vendor would have stored.
fn can_go_back(item: &Value) -> bool {
    item["type"] != "reasoning" || item["encrypted_content"].is_string()
}
