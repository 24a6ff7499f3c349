//! The Interactions API, streamed: a reply is a list of steps, each begun, filled by deltas, and ended.
//!
//! The transcript is the list of steps, with a mark `{"type": "interaction", "id": ..}` after those of each reply. Where
//! the vendor keeps the conversation, a request names the last mark and holds the steps after it; where it does not, it
//! holds all steps, unchanged.

use midplane_plugin::agent_loop::blocks::Block;
use midplane_plugin::agent_loop::prelude::*;

use crate::Gemini;
use crate::wire::{self, Thinking};

/// The revision of the interface that this adapter speaks.
pub const REVISION: &str = "2026-05-20";

/// A step of one text.
#[must_use]
pub fn step(kind: &str, text: &str) -> Value {
    json!({ "type": kind, "content": [{ "type": "text", "text": text }] })
}

/// The answer to one call.
#[must_use]
pub fn answer(answer: &Answer) -> Value {
    let mut step = json!({ "type": "function_result", "call_id": answer.id, "result": answer.text });
    if answer.is_error {
        step["is_error"] = json!(true);
    }
    step
}

/// The body of the request for the next reply.
pub fn body(gemini: &Gemini, turn: &Turn<'_>) -> Result<Map<String, Value>> {
    let last = turn.messages.iter().rposition(is_mark).filter(|_| gemini.store);
    let new = last.map_or(turn.messages, |at| &turn.messages[at + 1..]);
    let input: Vec<&Value> = new.iter().filter(|message| !is_mark(message)).collect();
    let tools = parts::tools(
        turn.tools,
        |tool, schema| json!({ "type": "function", "name": tool.name, "description": tool.description, "parameters": schema }),
    )?;
    let forced = turn.force_tool.filter(|_| tools.is_some());
    let effort = gemini.thinking(turn)?;
    let config = parts::object([
        ("tool_choice", forced.map(|name| json!({ "allowed_tools": { "mode": "any", "tools": [name] } }))),
        ("thinking_level", if let Thinking::Level(level) = effort { Some(json!(level)) } else { None }),
        ("thinking_summaries", gemini.wants_thoughts(turn.model, effort).then_some(json!("auto"))),
        ("max_output_tokens", gemini.max_tokens.map(Value::from)),
    ]);
    Ok(parts::fields([
        ("model", Some(json!(turn.model))),
        ("stream", Some(json!(true))),
        ("store", Some(json!(gemini.store))),
        ("input", Some(json!(input))),
        ("previous_interaction_id", last.map(|at| turn.messages[at]["id"].clone())),
        ("system_instruction", (!turn.system.is_empty()).then_some(json!(turn.system))),
        ("tools", tools),
        ("generation_config", config),
    ]))
}

fn is_mark(message: &Value) -> bool {
    message["type"] == "interaction"
}

/// Decodes one stream.
#[derive(Debug, Default)]
pub struct StepStream {
    steps: Blocks,
    id: Option<String>,
    status: Option<String>,
}

impl Decoder for StepStream {
    fn event(&mut self, event: &SseEvent, deltas: &mut Vec<Delta>) -> Result<()> {
        let Some(data) = parts::event_data(event)? else { return Ok(()) };
        let interaction = &data["interaction"];
        if let Some(id) = interaction["id"].as_str().filter(|id| !id.is_empty()) {
            self.id = Some(id.to_owned());
        }
        parts::say(deltas, &interaction["model"], Delta::Model);
        let usage = [&interaction["usage"], &data["metadata"]["total_usage"]];
        if let Some(counters) = usage.into_iter().find(|counters| counters.is_object()) {
            deltas.push(Delta::Usage(counted(counters)));
        }
        match data["event_type"].as_str() {
            Some("step.start") => {
                let step = &data["step"];
                self.steps.begin(&data, step)?;
                // Usually empty at the start, but nothing says that it must be.
                match step["type"].as_str() {
                    Some("model_output") => {
                        let content = step["content"].as_array().into_iter().flatten();
                        content.for_each(|item| parts::say(deltas, &item["text"], Delta::Text));
                    }
                    Some("thought") => {}
                    _ => deltas.push(Delta::Silent),
                }
            }
            Some("step.delta") => add(self.steps.of(&data)?, &data["delta"], deltas),
            Some("interaction.completed") => {
                self.status = Some(interaction["status"].as_str().unwrap_or("completed").to_owned());
            }
            Some("error") => {
                let error = &data["error"];
                // A word, or a URI whose last part is one.
                let word = wire::last_part(error["code"].as_str().unwrap_or("error")).to_ascii_uppercase();
                let message = error["message"].as_str().unwrap_or("no explanation");
                return Err(wire::typed(&word, error).unwrap_or_else(|| fault::unknown(&word, message)));
            }
            // `interaction.created`, `interaction.status_update`, `step.stop`, and whatever is added later.
            _ => {}
        }
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.status.is_some()
    }

    fn reply(self: Box<Self>) -> Result<Reply> {
        let stop_word = self.status.ok_or_else(|| malformed("the interaction ended without a status"))?;
        let cut_off = matches!(stop_word.as_str(), "incomplete" | "requires_continuation");
        let mut messages = self.steps.finish("arguments", cut_off)?;
        let calls = parts::calls(&messages, "function_call", "arguments")?;
        if let Some(id) = self.id {
            messages.push(json!({ "type": "interaction", "id": id }));
        }
        let other = || format!("the vendor ended the reply as `{}`", cut(stop_word.clone(), 64));
        let stop = match stop_word.as_str() {
            "completed" | "requires_action" => Stop::Done,
            _ if cut_off => Stop::MaxTokens,
            "budget_exceeded" => Stop::Failed(Error::limit("vendor-budget", other())),
            "cancelled" => Stop::Failed(Error::unavailable("vendor-cancelled", other())),
            _ => Stop::Failed(Error::internal("vendor-error", other())),
        };
        Ok(Reply { messages, calls, stop, stop_word })
    }
}

/// Adds to a step what a delta of it says.
fn add(step: &mut Block, delta: &Value, deltas: &mut Vec<Delta>) {
    if delta["signature"].is_string() {
        step.value["signature"] = delta["signature"].clone();
    }
    match delta["type"].as_str() {
        Some("text") => {
            append(&mut step.value["content"], &delta["text"]);
            if step.value["type"] == "model_output" {
                parts::say(deltas, &delta["text"], Delta::Text);
            }
        }
        Some("thought_summary") => {
            append(&mut step.value["summary"], &delta["content"]["text"]);
            parts::say(deltas, &delta["content"]["text"], Delta::Thinking);
        }
        kind => {
            if kind == Some("arguments_delta") {
                step.input.push_str(delta["arguments"].as_str().unwrap_or_default());
            }
            deltas.push(Delta::Silent);
        }
    }
}

/// Adds to the last text of a list of contents.
fn append(contents: &mut Value, text: &Value) {
    let text = text.as_str().unwrap_or_default();
    if !contents.is_array() {
        *contents = json!([]);
    }
    let Some(list) = contents.as_array_mut() else { return };
    match list.last_mut().and_then(|item| item.get_mut("text")) {
        Some(Value::String(joined)) => joined.push_str(text),
        _ => list.push(json!({ "type": "text", "text": text })),
    }
}

/// The counters of an interaction: the input holds what came from the cache, the output leaves out thinking.
fn counted(value: &Value) -> Usage {
    let count = |name: &str| value[name].as_u64();
    parts::usage(
        count("total_input_tokens").map(|input| input.saturating_add(count("total_tool_use_tokens").unwrap_or(0))),
        count("total_cached_tokens"),
        [count("total_output_tokens"), count("total_thought_tokens")],
        count("total_tokens"),
    )
}
