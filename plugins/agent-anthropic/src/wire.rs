//! Requests to the Messages API, answers to its tool calls, and its errors.

use midplane_plugin::agent_loop::prelude::*;

use crate::stream::MessageStream;

/// The version of the interface that this adapter speaks.
pub const VERSION: &str = "2023-06-01";
/// Least thinking budget that the vendor takes, in tokens.
const THINKING_TOKENS_MIN: u32 = 1024;
/// Most that is asked for.
const THINKING_TOKENS_MAX: u32 = 64_000;
/// The room for thinking of a model that thinks without being asked.
const THINKING_TOKENS_DEFAULT: u32 = 24_576;

/// The tokens of an effort: a word, or a number.
pub fn effort_tokens(effort: &str) -> Result<u32> {
    Ok(match effort {
        "none" | "off" => 0,
        "low" => 2048,
        "medium" => 8192,
        "high" => 24_576,
        "xhigh" => 36_000,
        // With the reply's own default it stays below the 64000 tokens that most models can write.
        "max" => 47_000,
        number => match number.parse() {
            Ok(tokens @ THINKING_TOKENS_MIN..=THINKING_TOKENS_MAX) => tokens,
            _ => {
                return Err(Error::invalid(
                    "reasoning-effort",
                    format!(
                        "`{effort}` is none of `none`, `low`, `medium`, `high`, `xhigh`, `max` or a number of tokens \
                         from {THINKING_TOKENS_MIN} to {THINKING_TOKENS_MAX}"
                    ),
                ));
            }
        },
    })
}

/// How the model is asked to think. Models up to 4.5 take a number of tokens; later ones measure it themselves, by a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thinking {
    /// Tokens to add to those of the reply, since the vendor counts them together.
    room: u32,
    /// `thinking` and `output_config` of the request, where there is something to say.
    fields: Vec<(&'static str, Value)>,
}

impl Thinking {
    /// What an effort is for a model.
    pub fn of(effort: Option<&str>, model: &str) -> Result<Self> {
        let version = version(model);
        let Some(effort) = effort else {
            // From 5 on models think unless they are told not to.
            return Ok(Self { room: if version >= (5, 0) { THINKING_TOKENS_DEFAULT } else { 0 }, fields: Vec::new() });
        };
        let tokens = effort_tokens(effort)?;
        let fields = match tokens {
            0 if version >= (5, 0) => vec![("thinking", json!({ "type": "disabled" }))],
            0 => Vec::new(),
            _ if version < (4, 6) => vec![("thinking", json!({ "type": "enabled", "budget_tokens": tokens }))],
            _ if effort.parse::<u32>().is_ok() => {
                return Err(Error::invalid(
                    "reasoning-effort",
                    format!("`{effort}` is a number, and the model takes only words such as `high`"),
                ));
            }
            _ => vec![("thinking", json!({ "type": "adaptive" })), ("output_config", json!({ "effort": effort }))],
        };
        Ok(Self { room: tokens, fields })
    }

    fn is_on(&self) -> bool {
        self.room > 0
    }
}

/// The version in the name of a model, before or after that of its family; a date is none. A name without one is taken
/// for an old model, whose form more servers know.
fn version(model: &str) -> (u32, u32) {
    let mut numbers = model.split(['-', '.', '@']).filter(|part| part.len() < 8).filter_map(|part| part.parse().ok());
    match numbers.next() {
        Some(major) => (major, numbers.next().unwrap_or(0)),
        None => (0, 0),
    }
}

/// The vendor, as configured.
#[derive(Debug, Clone)]
pub struct Anthropic {
    /// Where it is, without `/v1` and without a slash at the end.
    pub base_url: String,
    /// Most tokens of one reply, thinking not counted.
    pub max_tokens: u32,
    /// Whether the start of the conversation is marked for the vendor's cache.
    pub prompt_cache: bool,
    /// Names for `anthropic-beta`.
    pub betas: Vec<String>,
}

impl Vendor for Anthropic {
    fn form(&self) -> &str {
        "anthropic-messages"
    }

    fn user(&self, text: &str) -> Value {
        json!({ "role": "user", "content": [{ "type": "text", "text": text }] })
    }

    fn partial(&self, text: &str) -> Value {
        json!({ "role": "assistant", "content": [{ "type": "text", "text": text }] })
    }

    /// All answers go into one user message: each `tool_use` must be answered in the very next one.
    fn answers(&self, answers: &[Answer]) -> Vec<Value> {
        let blocks: Vec<Value> = answers
            .iter()
            .map(|answer| {
                let mut block = json!({ "type": "tool_result", "tool_use_id": answer.id, "content": answer.text });
                if answer.is_error {
                    block["is_error"] = json!(true);
                }
                block
            })
            .collect();
        vec![json!({ "role": "user", "content": blocks })]
    }

    fn request(&self, turn: &Turn<'_>) -> Result<Builder> {
        let thinking = Thinking::of(turn.effort, turn.model)?;
        let mut body = json!({
            "model": turn.model,
            // The vendor counts thinking into `max_tokens`.
            "max_tokens": self.max_tokens.saturating_add(thinking.room),
            "stream": true,
            "messages": turn.messages,
        });
        if !turn.system.is_empty() {
            body["system"] = json!([{ "type": "text", "text": turn.system }]);
        }
        for (field, value) in &thinking.fields {
            body[*field] = value.clone();
        }
        let form =
            |tool: &Tool, schema| json!({ "name": tool.name, "description": tool.description, "input_schema": schema });
        if let Some(tools) = parts::tools(turn.tools, form)? {
            body["tools"] = tools;
            // While it thinks, the vendor refuses to be forced.
            if let Some(name) = turn.force_tool.filter(|_| !thinking.is_on()) {
                body["tool_choice"] = json!({ "type": "tool", "name": name });
            }
        }
        if self.prompt_cache {
            mark_for_cache(&mut body);
        }
        let mut request =
            Builder::new("POST", format!("{}/v1/messages", self.base_url)).header("anthropic-version", VERSION);
        if !self.betas.is_empty() {
            request = request.header("anthropic-beta", &self.betas.join(","));
        }
        request.header("accept", "text/event-stream").json(&body)
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        Box::new(MessageStream::default())
    }

    fn error(&self, status: u16, headers: &[(String, String)], body: &[u8]) -> Error {
        fault::of_answer(status, headers, body, |error, message| {
            if error["details"]["error_code"] == "enforced_spend_limit_reached" {
                let text = format!("the vendor's spend limit is reached: {message}");
                return Some(Error::limit("spend-limit", text));
            }
            typed_error(error["type"].as_str()?, message)
        })
    }
}

/// The error of a vendor's `error.type`, the same for an error body and for an `error` event in a stream. A type that
/// is not known is judged by its status.
pub fn typed_error(kind: &str, message: &str) -> Option<Error> {
    match kind {
        // Not in the table of all vendors: elsewhere it says less than the status.
        "invalid_request_error" => Some(Error::invalid("request", format!("the vendor says `{kind}`: {message}"))),
        _ => fault::of_word(kind, message),
    }
}

/// Marks the ends of what stays the same in the next request: the system prompt (with the tools, which come before
/// it), and the last message of the user. The transcript itself is not touched.
fn mark_for_cache(body: &mut Value) {
    let mark = json!({ "type": "ephemeral" });
    if let Some(block) = body["system"].as_array_mut().and_then(|blocks| blocks.last_mut()) {
        block["cache_control"] = mark.clone();
    }
    let last = body["messages"].as_array_mut().and_then(|messages| messages.last_mut());
    if let Some(message) = last.filter(|message| message["role"] == "user")
        && let Some(block) = message["content"].as_array_mut().and_then(|blocks| blocks.last_mut())
    {
        block["cache_control"] = mark;
    }
}
