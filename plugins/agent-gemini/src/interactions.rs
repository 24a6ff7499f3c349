//! The Interactions API, streamed: a reply is a list of steps, each begun, filled by deltas, and ended.
//!
//! The transcript is the list of steps, with a mark `{"type": "interaction", "id": ..}` after those of each reply. Where
//! the vendor keeps the conversation, a request names the last mark and holds the steps after it; where it does not, it
//! holds all steps, unchanged.

use std::collections::BTreeMap;

use midplane_plugin::agent::Usage;
use midplane_plugin::agent_loop::parts::{self, malformed};
use midplane_plugin::agent_loop::{Decoder, Delta, Reply, Stop, Turn};
use midplane_plugin::error::cut;
use midplane_plugin::host::Answer;
use midplane_plugin::sse::SseEvent;
use midplane_plugin::{Error, Result};
use serde_json::{Value, json};

use crate::Gemini;
use crate::wire::{self, Thinking};

/// The revision of the interface that this adapter speaks.
pub const REVISION: &str = "2026-05-20";
/// Steps of one reply at most.
const STEPS_MAX: usize = 1024;

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
pub fn body(gemini: &Gemini, turn: &Turn<'_>) -> Result<Value> {
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
    Ok(parts::object([
        ("model", Some(json!(turn.model))),
        ("stream", Some(json!(true))),
        ("store", Some(json!(gemini.store))),
        ("input", Some(json!(input))),
        ("previous_interaction_id", last.map(|at| turn.messages[at]["id"].clone())),
        ("system_instruction", (!turn.system.is_empty()).then_some(json!(turn.system))),
        ("tools", tools),
        ("generation_config", config),
    ])
    .unwrap_or_default())
}

fn is_mark(message: &Value) -> bool {
    message["type"] == "interaction"
}

/// Decodes one stream.
#[derive(Debug, Default)]
pub struct StepStream {
    steps: BTreeMap<u64, Step>,
    id: Option<String>,
    status: Option<String>,
}

/// A step, with what its deltas added.
#[derive(Debug)]
struct Step {
    value: Value,
    /// The joined pieces of a call's arguments.
    arguments: String,
}

impl Decoder for StepStream {
    fn event(&mut self, event: &SseEvent, deltas: &mut Vec<Delta>) -> Result<()> {
        let Some(data) = parts::event_data(event)? else { return Ok(()) };
        let usage = [&data["interaction"]["usage"], &data["metadata"]["total_usage"]];
        if let Some(counters) = usage.into_iter().find(|counters| counters.is_object()) {
            deltas.push(Delta::Usage(counted(counters)));
        }
        match data["event_type"].as_str() {
            Some("interaction.created") => self.note(&data["interaction"], deltas),
            Some("step.start") => {
                let value = data["step"].clone();
                if !value.is_object() || self.steps.len() >= STEPS_MAX {
                    return Err(malformed("a step does not begin as an object, or there are too many"));
                }
                // Usually empty at the start, but nothing says that it must be.
                let texts = value["content"].as_array().into_iter().flatten().filter_map(|item| item["text"].as_str());
                match value["type"].as_str() {
                    Some("model_output") => deltas.extend(texts.map(|text| Delta::Text(text.to_owned()))),
                    Some("thought") => {}
                    _ => deltas.push(Delta::Silent),
                }
                self.steps.insert(index(&data)?, Step { value, arguments: String::new() });
            }
            Some("step.delta") => {
                let step = self.steps.get_mut(&index(&data)?);
                let step = step.ok_or_else(|| malformed("a delta names a step that did not begin"))?;
                step.add(&data["delta"], deltas);
            }
            Some("interaction.completed") => {
                self.note(&data["interaction"], deltas);
                self.status = Some(data["interaction"]["status"].as_str().unwrap_or("completed").to_owned());
            }
            Some("error") => {
                let error = &data["error"];
                // A word, or a URI whose last part is one.
                let word = wire::last_part(error["code"].as_str().unwrap_or("error")).to_ascii_uppercase();
                let message = error["message"].as_str().unwrap_or("no explanation");
                let unknown = || Error::internal("vendor-error", format!("the vendor says `{word}`: {message}"));
                return Err(wire::typed(&word, error).unwrap_or_else(unknown));
            }
            // `interaction.status_update`, `step.stop`, and whatever is added later.
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
        let mut messages = Vec::new();
        let mut calls = Vec::new();
        for step in self.steps.into_values() {
            match step.finish() {
                Ok(step) => {
                    if step["type"] == "function_call" {
                        calls.push(parts::call(step["id"].as_str(), &step["name"], &step["arguments"])?);
                    }
                    messages.push(step);
                }
                // A call that was cut in the middle of its arguments: it cannot be run, and need not be answered.
                Err(_) if cut_off => {}
                Err(error) => return Err(error),
            }
        }
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

impl StepStream {
    fn note(&mut self, interaction: &Value, deltas: &mut Vec<Delta>) {
        if let Some(id) = interaction["id"].as_str().filter(|id| !id.is_empty()) {
            self.id = Some(id.to_owned());
        }
        if let Some(model) = interaction["model"].as_str() {
            deltas.push(Delta::Model(model.to_owned()));
        }
    }
}

impl Step {
    fn add(&mut self, delta: &Value, deltas: &mut Vec<Delta>) {
        if let Some(signature) = delta["signature"].as_str() {
            self.value["signature"] = json!(signature);
        }
        match delta["type"].as_str() {
            Some("text") => {
                let text = delta["text"].as_str().unwrap_or_default();
                append(&mut self.value["content"], text);
                if self.value["type"] == "model_output" && !text.is_empty() {
                    deltas.push(Delta::Text(text.to_owned()));
                }
            }
            Some("thought_summary") => {
                let text = delta["content"]["text"].as_str().unwrap_or_default();
                append(&mut self.value["summary"], text);
                if !text.is_empty() {
                    deltas.push(Delta::Thinking(text.to_owned()));
                }
            }
            Some("arguments_delta") => {
                self.arguments.push_str(delta["arguments"].as_str().unwrap_or_default());
                deltas.push(Delta::Silent);
            }
            _ => deltas.push(Delta::Silent),
        }
    }

    /// The step as it goes back to the vendor.
    fn finish(mut self) -> Result<Value> {
        if let Some(arguments) = parts::joined_input(&self.arguments)? {
            self.value["arguments"] = arguments;
        }
        Ok(self.value)
    }
}

/// Adds to the last text of a list of contents.
fn append(contents: &mut Value, text: &str) {
    if !contents.is_array() {
        *contents = json!([]);
    }
    let Some(list) = contents.as_array_mut() else { return };
    match list.last_mut().and_then(|item| item.get_mut("text")) {
        Some(Value::String(joined)) => joined.push_str(text),
        _ => list.push(json!({ "type": "text", "text": text })),
    }
}

fn index(data: &Value) -> Result<u64> {
    data["index"].as_u64().ok_or_else(|| malformed("an event of a step has no index"))
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
