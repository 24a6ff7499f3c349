//! The Responses API: requests, and the events of one streamed reply.
//!
//! `response.created`, then for each item `response.output_item.added`, deltas, `response.output_item.done`, then one
//! of `response.completed`, `response.incomplete`, `response.failed` or `error`. Items go back as they came: reasoning
//! is encrypted, and only the vendor can read it.

use std::collections::BTreeMap;

use midplane_plugin::agent_loop::prelude::*;

use crate::{OpenAi, PARTS_MAX, errors, usage};

/// The body of a request.
pub(crate) fn body(vendor: &OpenAi, turn: &Turn<'_>) -> Result<Map<String, Value>> {
    // Not strict: that takes a part of JSON Schema only, and the host checks the arguments anyway.
    let tools = parts::tools(turn.tools, |tool, schema| {
        json!({
            "type": "function", "name": tool.name, "description": tool.description, "parameters": schema, "strict": false,
        })
    })?;
    let forced = turn.force_tool.filter(|_| tools.is_some());
    // A model that does not reason refuses each of these.
    let reasons = !vendor.efforts.is_empty();
    let summary = vendor.reasoning_summary.map(Value::from);
    let reasoning = parts::object([("effort", turn.effort.map(Value::from)), ("summary", summary)]);
    let max = (vendor.max_output_tokens > 0).then_some(vendor.max_output_tokens);
    Ok(parts::fields([
        ("model", Some(json!(turn.model))),
        ("input", Some(json!(turn.messages))),
        ("stream", Some(json!(true))),
        // Nothing is kept at the vendor.
        ("store", Some(json!(false))),
        ("instructions", (!turn.system.is_empty()).then_some(json!(turn.system))),
        ("tools", tools),
        ("tool_choice", forced.map(|name| json!({ "type": "function", "name": name }))),
        ("include", reasons.then_some(json!(["reasoning.encrypted_content"]))),
        ("reasoning", reasoning.filter(|_| reasons)),
        ("max_output_tokens", max.map(Value::from)),
    ]))
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
        let Some(mut data) = parts::event_data(event)? else { return Ok(()) };
        let kind = data["type"].as_str().unwrap_or(&event.name).to_owned();
        let delta = || data["delta"].as_str().unwrap_or_default();
        match kind.as_str() {
            "response.created" => {
                parts::say(deltas, &data["response"]["model"], Delta::Model);
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
