//! The Antigravity adapter: the real component in a real host, with a scripted program in the harness's place, which greets
//! over its pipes and serves a websocket as the harness does.
//!
//! File: `ark-adapter-antigravity.json`. Its chunks are what the vendor's Python SDK made of the harness's frames; each is
//! put back into its frame here: a text and a thought into a step, a call of a tool and its result into the two hooks, a
//! result that names arguments into a step that has both, whatever else into a step of that action.
//!
//! Not compared, because it is a matter of form: durations, which the original gives as 0; metadata, which names the
//! original's SDK; prose of errors but for the vendor's own words in it; where conversations are kept. The original's
//! `allow_all` is compared by its effect: no tool that is enabled is refused by the harness itself. Ours asks before
//! some of them, which the adapter's own tests say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use midplane::Host;
use midplane::core::Error;
use midplane::core::agent::event::AgentEvent;
use midplane::core::agent::result;
use serde_json::{Map, Value, json};

use super::adapter::{self, Played, Profile};
use crate::case::{Case, Check, Ours};

pub(crate) const CHECKS: &[(&str, Check)] = &[("ark-adapter-antigravity.json", check)];

/// The profile, under the name that the original's events carry.
pub(super) const KIND: &str = "antigravity-agent-sdk";
/// A server that no case talks to.
const BASE_URL: &str = "http://127.0.0.1:1";
/// The key, which the program must never see.
const KEY: &str = "AIza-conformance-0123456789abcdefghijkl";
/// The conversation that the original's fake makes, where a case names none.
const CONVERSATION: &str = "ag-1";

/// The harness's switches and the tools that they switch, in the original's words.
const SWITCHES: [(&str, &str); 14] = [
    ("listDir", "list_directory"),
    ("grepSearch", "search_directory"),
    ("find", "find_file"),
    ("viewFile", "view_file"),
    ("writeToFile", "create_file"),
    ("fileEdit", "edit_file"),
    ("runCommand", "run_command"),
    ("userQuestions", "ask_question"),
    ("subagents", "invoke_subagent"),
    ("runWorkflow", "run_workflow"),
    ("generateImage", "generate_image"),
    ("searchWeb", "search_web"),
    ("readUrlContent", "read_url_content"),
    ("schedule", "schedule"),
];

fn check(case: &Case<'_>) -> Ours {
    adapter::verdict(played(case))
}

async fn played(case: &Case<'_>) -> Result<Ours, Error> {
    let (input, expect) = (case.input(), case.expect());
    let script = script(input);
    let played = adapter::play(case, KIND, "localharness", &script, async |program| {
        host(program, &input["adapter_config"]).await
    });
    let Played { outcome, events, records, place, has_folder } = match played.await? {
        Ok(played) => played,
        Err(refused) => return Ok(refused),
    };
    let said = vendors_words(input);
    let shape = |value: &Value| shaped(value, &said, &place, has_folder);

    let mut ours = match &outcome.error {
        None => Ours::accepted(),
        Some(error) => Ours::refused(error.code.to_string()),
    };
    if let Some(raised) = expect.get("raised") {
        // A vendor's exception there is an outcome here, so that what was heard is not lost.
        if outcome.finish_reason.as_str() != "failed" {
            ours = ours
                .differs(format!("ours ended as `{}`, the original raised {raised}", outcome.finish_reason.as_str()));
        }
    } else {
        ours = ours.equal("the result", &shape(&result::to_json(&outcome)), &shape(&expect["result"]));
    }
    ours = ours.equal("the events", &shape(&told(&events)), &shape(&joined(&expect["events"])));
    Ok(ours.equal("what was asked of the vendor", &asked_by_ours(&records, expect), &asked_by_original(expect)))
}

/// A host with one profile of the plugin, whose program this is.
pub(super) async fn host(program: &Path, config_of_case: &Value) -> Result<Host, Error> {
    let mut settings: BTreeMap<String, Value> =
        BTreeMap::from([("program".to_owned(), json!(program)), ("base_url".to_owned(), json!(BASE_URL))]);
    let same_here = [("default_model", "model"), ("supported_models", "models"), ("vertex", "vertex")];
    settings.extend(same_here.iter().filter_map(|(theirs, ours)| {
        let value = &config_of_case[*theirs];
        (!value.is_null()).then(|| ((*ours).to_owned(), value.clone()))
    }));
    let grants = vec![format!("http:{BASE_URL}"), "secret:GEMINI_API_KEY".to_owned()];
    let profile = Profile { kind: KIND, plugin: "antigravity", settings, grants, program };
    adapter::host(profile, Some(("GEMINI_API_KEY", KEY))).await
}

/// What the program does: it greets, and says the frames of the case once it is told the task.
pub(super) fn script(input: &Value) -> Value {
    let response = &input["vendor_response"];
    let conversation = match response.get("conversation_id") {
        Some(id) => id.clone(),
        None => json!(CONVERSATION),
    };
    let trajectory = conversation.as_str().unwrap_or(CONVERSATION).to_owned();
    let state = |fields: Value| {
        let mut update = fields;
        update["trajectoryId"] = json!(trajectory);
        json!({ "trajectoryStateUpdate": update })
    };
    let mut begun = json!({ "sandboxStatus": { "available": true } });
    if conversation.is_string() {
        begun["cascadeId"] = conversation.clone();
    }
    let user = json!({ "stepIndex": 0, "source": "SOURCE_USER", "target": "TARGET_MODEL", "state": "STATE_DONE",
        "textDelta": "{{goal}}", "text": "{{goal}}" });
    let mut frames = vec![state(json!({ "state": "STATE_RUNNING" })), step(&trajectory, user)];
    let chunks = input["vendor_chunks"].as_array().cloned().unwrap_or_default();
    frames.extend(chunks.iter().enumerate().map(|(index, chunk)| frame_of(chunk, index, &trajectory)));
    if !response["structured_output"].is_null() {
        let output = json!({ "outputString": response["structured_output"].to_string() });
        let done = json!({ "stepIndex": 9, "source": "SOURCE_MODEL", "state": "STATE_DONE", "finish": output });
        frames.push(step(&trajectory, done));
    }
    frames.extend(usage_of(&response["usage_metadata"]));
    let mut steps = vec![
        json!({ "websocket": {
            "greeting": [{ "sized": [8, { "varint": "{{port}}" }, 18, 3, "abc"] }], "headers": { "x-goog-api-key": "abc" },
        } }),
        json!({ "expect": { "config": { "$any": true } } }),
        json!({ "write": { "initializeConversationResponse": begun, "seqNum": "1" } }),
        json!({ "expect": { "userInput": { "$any": true } }, "capture": { "goal": "/userInput/parts/0/text" } }),
    ];
    steps.extend(frames.iter().map(|frame| json!({ "write": frame })));
    if let Some(words) = input["vendor_raises_after_stream"].as_str() {
        steps.extend([json!({ "stderr": format!("{words}\n") }), json!({ "exit": 2 })]);
    } else {
        let mut idle = json!({ "state": "STATE_FULLY_IDLE" });
        let word = [&response["finish_reason"], &response["stop_reason"]].into_iter().find_map(Value::as_str);
        if let Some(word) = word.filter(|word| !word.is_empty()) {
            idle["stopReason"] = json!(format!("STOP_REASON_{word}"));
        }
        steps.extend([json!({ "write": state(idle) }), json!({ "until_eof": true })]);
    }
    json!({ "record": "seen.jsonl", "steps": steps })
}

/// The frame of which the vendor's SDK made this chunk.
fn frame_of(chunk: &Value, index: usize, trajectory: &str) -> Value {
    let id = chunk["id"].as_str().unwrap_or_default();
    let hook = |kind: &str, arguments: Value| {
        let mut request = json!({ "requestId": format!("hook_request_{index}") });
        request[kind] = arguments;
        json!({ "callHookRequest": request })
    };
    let said = |field: &str| {
        let mut of_model =
            json!({ "stepIndex": 1, "source": "SOURCE_MODEL", "target": "TARGET_USER", "state": "STATE_ACTIVE" });
        of_model[field] = chunk["text"].clone();
        step(trajectory, of_model)
    };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    match chunk["type"].as_str().unwrap_or_default() {
        "text" => said("textDelta"),
        "thought" => said("thinkingDelta"),
        "tool_call" => hook(
            "preToolArgs",
            json!({ "toolName": chunk["name"], "argumentsJson": chunk["args"].to_string(), "callId": id }),
        ),
        "tool_result" => {
            let error = chunk.get("error").filter(|error| !error.is_null()).map(text).unwrap_or_default();
            let result = chunk.get("result").filter(|result| !result.is_null()).map(text).unwrap_or_default();
            if chunk["args"].is_null() {
                let end = json!({ "toolName": chunk["name"], "result": result, "error": error, "callId": id });
                return hook("postToolArgs", end);
            }
            let call = json!({ "id": id, "name": chunk["name"], "argumentsJson": chunk["args"].to_string() });
            let response = json!({ "responseJson": result, "errorMessage": error });
            step(
                trajectory,
                json!({ "stepIndex": index + 2, "source": "SOURCE_MODEL", "state": "STATE_DONE",
                    "customTool": { "toolCall": call, "toolResponse": response } }),
            )
        }
        other => {
            let mut of_model = json!({ "stepIndex": index + 2, "source": "SOURCE_MODEL", "state": "STATE_DONE" });
            of_model[other] = chunk.clone();
            step(trajectory, of_model)
        }
    }
}

fn step(trajectory: &str, mut fields: Value) -> Value {
    fields["trajectoryId"] = json!(trajectory);
    json!({ "stepUpdate": fields })
}

/// The frame of the counters, 64-bit numbers as text.
fn usage_of(metadata: &Value) -> Option<Value> {
    let names = [
        ("prompt_token_count", "promptTokenCount"),
        ("cached_content_token_count", "cachedContentTokenCount"),
        ("candidates_token_count", "candidatesTokenCount"),
        ("thoughts_token_count", "thoughtsTokenCount"),
        ("total_token_count", "totalTokenCount"),
    ];
    metadata.as_object()?;
    let known = names.iter().filter(|(theirs, _)| !metadata[*theirs].is_null());
    let total: Map<String, Value> =
        known.map(|(theirs, wire)| ((*wire).to_owned(), json!(metadata[*theirs].to_string()))).collect();
    Some(json!({ "usageUpdate": { "agents": [], "total": total } }))
}

// ---- what was asked ----

/// By meaning, from what our program read.
pub(super) fn asked_by_ours(records: &[Value], expect: &Value) -> Value {
    let read = |field: &str| records.iter().map(|record| &record["read"]).find(|read| read.get(field).is_some());
    let mut asked = Map::new();
    let closed = records.iter().any(|record| record["eof"] == true);
    asked.insert("closed".to_owned(), json!(closed || expect.get("raised").is_some()));
    if records.iter().any(|record| record.to_string().contains(KEY)) {
        asked.insert("key".to_owned(), json!("was handed to the program"));
    }
    if let Some(input) = read("userInput") {
        asked.insert("prompt".to_owned(), input["userInput"]["parts"][0]["text"].clone());
    }
    let Some(config) = read("config").map(|read| &read["config"]) else { return Value::Object(asked) };
    let switches = &config["harnessSideTools"];
    let enabled: BTreeSet<&str> =
        SWITCHES.iter().filter(|(switch, _)| switches[*switch]["enabled"] == true).map(|(_, tool)| *tool).collect();
    let rules = config["policyConfig"]["rules"].as_array().cloned().unwrap_or_default();
    let refused = |tool: &&&str| {
        let rule = rules.iter().find(|rule| rule["tool"] == **tool || rule["tool"] == "*");
        rule.is_none_or(|rule| rule["decision"] == "POLICY_DECISION_DENY")
    };
    asked.insert("refused".to_owned(), json!(enabled.iter().filter(refused).collect::<Vec<_>>()));
    asked.insert("tools".to_owned(), json!(enabled));
    let conversation = config["cascadeId"].as_str().filter(|id| !id.is_empty());
    asked.insert("conversation".to_owned(), json!(conversation));
    let schema = config["finishToolSchemaJson"].as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    asked.insert("schema".to_owned(), json!(schema));
    let system = &config["systemInstructions"]["appended"]["appendedSections"][0]["content"];
    asked.insert("system".to_owned(), system.clone());
    let servers: Vec<Value> = config["mcpServers"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|server| json!({ "name": server["name"], "command": server["stdio"]["command"], "args": server["stdio"]["args"] }))
        .collect();
    asked.insert("servers".to_owned(), json!(servers));
    // Ours always names a model; the original leaves that to the vendor where nobody does.
    if !expect["vendor_request"]["config"]["model"].is_null() {
        asked.insert("model".to_owned(), config["models"][0]["name"].clone());
    }
    let vertex = config["models"][0].get("vertexEndpoint").is_some();
    asked.insert("vertex".to_owned(), json!(vertex));
    Value::Object(asked)
}

/// By meaning, from what the original asked of its SDK.
fn asked_by_original(expect: &Value) -> Value {
    let wanted = &expect["vendor_request"];
    let config = &wanted["config"];
    let mut asked = Map::new();
    asked.insert("closed".to_owned(), json!(wanted["closed"] == true || expect.get("raised").is_some()));
    if let Some(prompt) = wanted.get("prompt") {
        asked.insert("prompt".to_owned(), prompt.clone());
    }
    if !config.is_object() {
        return Value::Object(asked);
    }
    let enabled = config["capabilities"]["enabled_tools"].as_array().into_iter().flatten().filter_map(Value::as_str);
    // That one is there with a schema and has no switch.
    let enabled: BTreeSet<&str> = enabled.filter(|tool| *tool != "finish").collect();
    asked.insert("refused".to_owned(), json!([]));
    asked.insert("tools".to_owned(), json!(enabled));
    asked.insert("conversation".to_owned(), config["conversation_id"].clone());
    asked.insert("schema".to_owned(), config["response_schema"].clone());
    asked.insert("system".to_owned(), config["system_instructions"].clone());
    let servers: Vec<Value> = config["mcp_servers"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|server| json!({ "name": server["name"], "command": server["command"], "args": server["args"] }))
        .collect();
    asked.insert("servers".to_owned(), json!(servers));
    if !config["model"].is_null() {
        asked.insert("model".to_owned(), config["model"].clone());
    }
    asked.insert("vertex".to_owned(), json!(config["vertex"] == true));
    Value::Object(asked)
}

// ---- what is compared ----

/// Our events in the shape of the cases.
fn told(events: &[AgentEvent]) -> Value {
    joined(&events.iter().map(|event| json!({ "name": event.name, "attributes": event.attributes })).collect())
}

/// Events with neighbouring pieces of text as one: the host may cut a piece or join two.
fn joined(events: &Value) -> Value {
    let mut all: Vec<Value> = Vec::new();
    for event in events.as_array().into_iter().flatten() {
        let mut event = json!({ "name": event["name"], "attributes": event["attributes"] });
        if event["name"] == "agent.output.delta"
            && let Some(last) = all.pop_if(|last| last["name"] == "agent.output.delta")
        {
            let text = |event: &Value| event["attributes"]["text_delta"].as_str().unwrap_or_default().to_owned();
            let length = |event: &Value| event["attributes"]["text_delta_length"].as_u64().unwrap_or(0);
            let (whole, characters) = (text(&last) + &text(&event), length(&last) + length(&event));
            let attributes = &mut event["attributes"];
            attributes["text_delta"] = json!(whole.chars().take(1000).collect::<String>());
            attributes["text_delta_length"] = json!(characters);
            attributes["text_delta_truncated"] = json!(characters > 1000);
        }
        all.push(event);
    }
    Value::Array(all)
}

/// What of an error is the vendor's own. The rest of it is prose.
fn vendors_words(input: &Value) -> BTreeSet<String> {
    let response = &input["vendor_response"];
    let words = [&response["finish_reason"], &response["stop_reason"]];
    // An output limit has a finish reason of its own.
    let words = words.into_iter().filter_map(Value::as_str).filter(|word| !word.is_empty());
    words.filter(|word| !word.eq_ignore_ascii_case("MAX_TOKENS")).map(ToOwned::to_owned).collect()
}

/// Results and events as they are compared.
fn shaped(value: &Value, said: &BTreeSet<String>, place: &str, has_folder: bool) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|item| shaped(item, said, place, has_folder)).collect(),
        Value::Object(fields) => {
            let mut shaped_fields = Map::new();
            for (name, value) in fields {
                let value = match (name.as_str(), value) {
                    ("duration_ms", Value::Number(_)) => json!(0),
                    ("error", Value::String(text)) => {
                        json!({ "said": said.iter().filter(|part| text.contains(part.as_str())).collect::<Vec<_>>() })
                    }
                    ("metadata" | "result_metadata", Value::Object(_)) => continue,
                    // The original names a class of its SDK, ours the field of the frame.
                    ("chunk_type", Value::String(kind)) => match kind.to_ascii_lowercase().as_str() {
                        "thinking" => json!("thought"),
                        kind => json!(kind),
                    },
                    ("working_directory", Value::String(_)) if has_folder => json!("<folder>"),
                    ("working_directory", Value::String(text)) if text == place => Value::Null,
                    (_, value) => shaped(value, said, place, has_folder),
                };
                shaped_fields.insert(name.clone(), value);
            }
            Value::Object(shaped_fields)
        }
        // A number is one, however it is written.
        Value::Number(number) => json!(number.as_f64()),
        other => other.clone(),
    }
}
