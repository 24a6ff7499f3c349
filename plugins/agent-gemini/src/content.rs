//! `generateContent`, streamed: each event is a whole response with the next parts of the reply.
//!
//! The parts go back to the vendor as they came, because a part can carry a signature of what the model thought, and a
//! call without its signature is refused. Only neighbouring pieces of plain text are joined.

use midplane_plugin::agent_loop::prelude::*;

use crate::Gemini;
use crate::wire::{self, Thinking};

/// Parts of one reply at most.
const PARTS_MAX: usize = 4096;

/// A message of one text.
#[must_use]
pub fn message(role: &str, text: &str) -> Value {
    json!({ "role": role, "parts": [{ "text": text }] })
}

/// All answers go into one message, in the order of the calls. Name and id are put in when they are sent.
#[must_use]
pub fn answers(answers: &[Answer]) -> Value {
    let part = |answer: &Answer| {
        let key = if answer.is_error { "error" } else { "output" };
        json!({ "functionResponse": { "response": { key: answer.text } } })
    };
    json!({ "role": "user", "parts": answers.iter().map(part).collect::<Vec<_>>() })
}

/// The body of the request for the next reply.
pub fn body(gemini: &Gemini, turn: &Turn<'_>) -> Result<Map<String, Value>> {
    let tools = parts::tools(
        turn.tools,
        |tool, schema| json!({ "name": tool.name, "description": tool.description, "parametersJsonSchema": schema }),
    )?;
    let forced = turn
        .force_tool
        .filter(|_| tools.is_some())
        .map(|name| json!({ "functionCallingConfig": { "mode": "ANY", "allowedFunctionNames": [name] } }));
    let effort = gemini.thinking(turn)?;
    let (budget, level) = match effort {
        Thinking::Default => (None, None),
        Thinking::Budget(tokens) => (Some(json!(tokens)), None),
        Thinking::Level(level) => (None, Some(json!(level.to_uppercase()))),
    };
    let thoughts = gemini.wants_thoughts(turn.model, effort).then_some(json!(true));
    let thinking = [("thinkingBudget", budget), ("thinkingLevel", level), ("includeThoughts", thoughts)];
    let config = [("thinkingConfig", parts::object(thinking)), ("maxOutputTokens", gemini.max_tokens.map(Value::from))];
    Ok(parts::fields([
        ("contents", Some(Value::Array(matched(turn.messages)))),
        ("systemInstruction", (!turn.system.is_empty()).then(|| json!({ "parts": [{ "text": turn.system }] }))),
        ("tools", tools.map(|tools| json!([{ "functionDeclarations": tools }]))),
        ("toolConfig", forced),
        ("generationConfig", parts::object(config)),
    ]))
}

/// The messages with each answer under the name and id of its call. The vendor matches by id where it gave one, and by
/// order where it did not; the loop answers all calls in their order, so that is what is gone by here.
fn matched(messages: &[Value]) -> Vec<Value> {
    let mut sent = messages.to_vec();
    let mut open = Vec::new();
    for message in &mut sent {
        // A transcript can be a caller's, so nothing about its shape is known.
        let is_models = message["role"] == "model";
        let parts = message.get_mut("parts").and_then(Value::as_array_mut);
        if is_models {
            open = parts.into_iter().flatten().filter_map(|part| part.get("functionCall").cloned()).collect();
            continue;
        }
        let responses =
            parts.into_iter().flatten().filter_map(|part| part.get_mut("functionResponse")?.as_object_mut());
        for (response, call) in responses.zip(&open) {
            for field in ["name", "id"].into_iter().filter(|field| call.get(field).is_some()) {
                response.entry(field).or_insert_with(|| call[field].clone());
            }
        }
    }
    sent
}

/// Decodes one stream.
#[derive(Debug, Default)]
pub struct ContentStream {
    parts: Vec<Value>,
    finish: Option<String>,
    finish_message: Option<String>,
    blocked: Option<String>,
}

impl Decoder for ContentStream {
    fn event(&mut self, event: &SseEvent, deltas: &mut Vec<Delta>) -> Result<()> {
        if event.name != "message" {
            return Ok(());
        }
        let Some(data) = parts::event_data(event)? else { return Ok(()) };
        if let Some(error) = data.get("error") {
            let status = error["code"].as_u64().unwrap_or(0);
            return Err(wire::error(u16::try_from(status).unwrap_or(0), &[], event.data.as_bytes()));
        }
        parts::say(deltas, &data["modelVersion"], Delta::Model);
        if let Some(counters) = data.get("usageMetadata") {
            deltas.push(Delta::Usage(usage(counters)));
        }
        if let Some(reason) = data["promptFeedback"]["blockReason"].as_str() {
            self.blocked = Some(reason.to_owned());
        }
        // One is asked for, so there is no other.
        let candidate = &data["candidates"][0];
        for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
            self.add(part, deltas)?;
        }
        if let Some(reason) = candidate["finishReason"].as_str() {
            self.finish = Some(reason.to_owned());
            self.finish_message = candidate["finishMessage"].as_str().map(|text| cut(text.to_owned(), 500));
        }
        Ok(())
    }

    /// There is no last event: the counters can come after the reason.
    fn is_complete(&self) -> bool {
        false
    }

    fn ends_whole(&mut self) -> bool {
        self.finish.is_some() || self.blocked.is_some()
    }

    fn reply(self: Box<Self>) -> Result<Reply> {
        let Self { parts: content, finish, finish_message, blocked } = *self;
        if let Some(reason) = blocked.filter(|_| finish.is_none()) {
            let error = Error::denied("prompt-blocked", format!("the vendor refused the prompt: `{}`", shown(&reason)));
            return Ok(Reply { messages: Vec::new(), calls: Vec::new(), stop: Stop::Failed(error), stop_word: reason });
        }
        let stop_word = finish.ok_or_else(|| malformed("the reply ended without a reason"))?;
        let calls = calls(&content)?;
        // A text without anything in it is refused, unless it carries a signature.
        let content: Vec<Value> = content.into_iter().filter(|part| !is_plain(part) || part["text"] != "").collect();
        let failure = || failure(&stop_word, finish_message.as_deref());
        let stop = match stop_word.as_str() {
            // Also ends calls; the last is the word of some compatible servers for that.
            "STOP" | "FINISH_REASON_UNSPECIFIED" | "FUNCTION_CALL" => Stop::Done,
            "MAX_TOKENS" | "CONTINUATION" => Stop::MaxTokens,
            "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" => Stop::BadCall(failure()),
            _ => Stop::Failed(failure()),
        };
        let message = (!content.is_empty()).then(|| json!({ "role": "model", "parts": content }));
        let messages = message.into_iter().collect();
        Ok(Reply { messages, calls, stop, stop_word })
    }
}

impl ContentStream {
    fn add(&mut self, part: &Value, deltas: &mut Vec<Delta>) -> Result<()> {
        if !part.is_object() {
            return Err(malformed("a part is not an object"));
        }
        match &part["text"] {
            text @ Value::String(_) if part["thought"] == true => parts::say(deltas, text, Delta::Thinking),
            text @ Value::String(_) => parts::say(deltas, text, Delta::Text),
            _ => deltas.push(Delta::Silent),
        }
        if let Some(last) = self.parts.last_mut()
            && is_plain(last)
            && is_plain(part)
            && last.get("thought") == part.get("thought")
            && let (Some(Value::String(joined)), Some(text)) = (last.get_mut("text"), part["text"].as_str())
        {
            joined.push_str(text);
            return Ok(());
        }
        if self.parts.len() >= PARTS_MAX {
            return Err(malformed(&format!("a reply has more than {PARTS_MAX} parts")));
        }
        self.parts.push(part.clone());
        Ok(())
    }
}

/// Whether a part is text and nothing else, above all without a signature.
fn is_plain(part: &Value) -> bool {
    part["text"].is_string()
        && part.as_object().is_some_and(|fields| fields.keys().all(|name| matches!(name.as_str(), "text" | "thought")))
}

fn calls(content: &[Value]) -> Result<Vec<Call>> {
    let calls = content.iter().filter_map(|part| part.get("functionCall")).enumerate();
    let read = |(index, call): (usize, &Value)| {
        let own = format!("call-{}", index + 1);
        parts::call(call["id"].as_str().filter(|id| !id.is_empty()).or(Some(&own)), &call["name"], &call["args"])
    };
    calls.map(read).collect()
}

/// The error of a reason that is no success. The class is the code, in the vendor's word.
fn failure(word: &str, message: Option<&str>) -> Error {
    let code = shown(word).to_ascii_lowercase().replace('_', "-");
    let more = message.map(|message| format!(": {message}")).unwrap_or_default();
    let text = format!("the vendor stopped the reply: `{}`{more}", shown(word));
    match word {
        "SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" => Error::denied(code, text),
        "IMAGE_SAFETY" | "IMAGE_PROHIBITED_CONTENT" | "IMAGE_RECITATION" => Error::denied(code, text),
        "LANGUAGE" => Error::unsupported(code, text),
        "TOO_MANY_TOOL_CALLS" => Error::limit(code, text),
        "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" => Error::internal(code, text),
        // What is not known is no success.
        _ => Error::internal("stopped", text),
    }
}

fn shown(word: &str) -> String {
    cut(word.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect(), 64)
}

/// The counters of `usageMetadata`: the prompt's hold what came from the cache, the candidates' leave out thinking.
fn usage(value: &Value) -> Usage {
    let count = |name: &str| value[name].as_u64();
    parts::usage(
        count("promptTokenCount").map(|prompt| prompt.saturating_add(count("toolUsePromptTokenCount").unwrap_or(0))),
        count("cachedContentTokenCount"),
        [count("candidatesTokenCount"), count("thoughtsTokenCount")],
        count("totalTokenCount"),
    )
}
