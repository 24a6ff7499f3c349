//! The Claude Code adapter: the real component in a real host, with a scripted program in the vendor's place.
//!
//! Files: `ark-adapter-claude-wire.json`, `ark-adapter-claude.json`.
//!
//! In the first the lines are what the vendor's program says; in the second they are the messages that its Python SDK
//! made of such lines, and each is put back into its line here. What was asked of the vendor is compared by meaning: the
//! original passes all on the argument vector, where ours puts what a person wrote into requests on stdin.
//!
//! Not compared, because it is the vendor's own or a matter of form: durations, which the original gives as 0; which of
//! the original's SDKs made a result; the prose of errors that the vendor did not write. The original tells each block of
//! text as an event of its own; ours may cut a block and parts blocks by a line's end, so stretches of text between other events
//! are compared.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use midplane::Host;
use midplane::core::Error;
use midplane::core::agent::event::AgentEvent;
use midplane::core::agent::result;
use serde_json::{Map, Value, json};

use super::adapter::{self, Played, Profile};
use crate::case::{Case, Check, Ours};

pub(crate) const CHECKS: &[(&str, Check)] =
    &[("ark-adapter-claude.json", check), ("ark-adapter-claude-wire.json", check)];

/// The profile, under the name that the original's events carry.
pub(super) const KIND: &str = "claude-agent-sdk";

/// What an option of the vendor's SDK is on its argument vector.
const OPTIONS: [(&str, &str); 7] = [
    ("effort", "--effort=*"),
    ("allowed_tools", "--tools=*"),
    ("disallowed_tools", "--disallowedTools=*"),
    ("max_budget_usd", "--max-budget-usd=*"),
    ("permission_mode", "--permission-mode=*"),
    ("model", "--model=*"),
    ("resume", "--resume=*"),
];

fn check(case: &Case<'_>) -> Ours {
    adapter::verdict(played(case))
}

async fn played(case: &Case<'_>) -> Result<Ours, Error> {
    let (input, expect) = (case.input(), case.expect());
    let script = script(input);
    let played = adapter::play(case, KIND, "claude", &script, async |program| host(program, input).await);
    let Played { outcome, events, records, place, has_folder } = match played.await? {
        Ok(played) => played,
        Err(refused) => return Ok(refused),
    };
    let said = vendors_words(input, expect);
    let shape = |value: &Value| shaped(value, &said, &place, has_folder);

    let mut ours = match &outcome.error {
        None => Ours::accepted(),
        Some(error) => Ours::refused(error.code.to_string()),
    };
    if let Some(raised) = expect.get("raised") {
        // A vendor's exception there is an outcome here, so that what was heard is not lost.
        if outcome.finish_reason.as_str() != "failed" {
            let ended = outcome.finish_reason.as_str();
            ours = ours.differs(format!("ours ended as `{ended}`, the original raised {raised}"));
        }
    } else {
        ours = ours.equal("the result", &shape(&result::to_json(&outcome)), &shape(&expect["result"]));
    }
    ours = ours.equal("the events", &shape(&told(&events)), &shape(&stretches(&expect["events"], "\n")));
    let wanted = &expect["vendor_request"];
    if input.get("vendor_options_missing").is_some() && expect.get("raised").is_some() {
        // An option that the vendor does not know: no prompt may have been sent.
        let prompted = records.iter().any(|record| record["read"]["type"] == "user");
        return Ok(if prompted { ours.differs("the program was prompted without a constraint") } else { ours });
    }
    Ok(ours.equal("what was asked of the vendor", &asked_by_ours(&records), &asked_by_original(wanted)))
}

/// A host with one profile of the plugin, whose program this is, with all the grants that the case needs.
pub(super) async fn host(program: &Path, input: &Value) -> Result<Host, Error> {
    let config_of_case = &input["adapter_config"];
    let mut settings: BTreeMap<String, Value> =
        BTreeMap::from([("program".to_owned(), json!(program)), ("endpoint".to_owned(), json!(false))]);
    let same_here = [("default_model", "model"), ("verbatim_prompts", "verbatim_prompts")];
    settings.extend(same_here.iter().filter_map(|(theirs, ours)| {
        let value = &config_of_case[*theirs];
        (!value.is_null()).then(|| ((*ours).to_owned(), value.clone()))
    }));
    let variables = [
        "ANTHROPIC_AUTH_TOKEN",
        "ANTHROPIC_BASE_URL",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
        "CLAUDE_CODE_ENTRYPOINT",
        "CLAUDE_CODE_SDK_READS_SESSION_STATE",
    ];
    let mut grants = variables.map(|name| format!("env:{name}")).to_vec();
    for server in input["task"]["mcp_servers"].as_array().into_iter().flatten() {
        grants.extend(server["command"].as_str().map(|command| format!("command:{command}")));
        grants.extend(server["env"].as_object().into_iter().flatten().map(|(name, _)| format!("env:{name}")));
    }
    adapter::host(Profile { kind: KIND, plugin: "claude-code", settings, grants, program }, None).await
}

/// What the program does: it answers our requests, and says the lines of the case once it is prompted.
pub(super) fn script(input: &Value) -> Value {
    let reply = |body: Value| {
        json!({ "write": { "type": "control_response", "response": {
            "subtype": "success", "request_id": "{{id}}", "response": body,
        } } })
    };
    let id = json!({ "id": "/request_id" });
    let request = |subtype: &str| json!({ "type": "control_request", "request": { "subtype": subtype } });
    let lines = match input["cli_stdout_lines"].as_array() {
        Some(lines) => lines.clone(),
        None => input["vendor_stream"].as_array().into_iter().flatten().map(line_of).collect(),
    };
    let mut steps = vec![json!({ "serve": [
        { "on": request("initialize"), "capture": id, "steps": [reply(json!({}))] },
        { "on": request("mcp_set_servers"), "capture": id, "steps": [reply(json!({ "errors": {} }))] },
        { "on": { "type": "user" }, "last": true },
    ] })];
    steps.extend(lines.iter().map(|line| json!({ "write": line })));
    if let Some(text) = input["cli_stderr"].as_str().filter(|text| !text.is_empty()) {
        steps.push(json!({ "stderr": text }));
    }
    // After a result it lives until its input ends; without one it is gone.
    if lines.iter().any(|line| line["type"] == "result") {
        steps.push(json!({ "until_eof": true }));
    }
    let missing = input["vendor_options_missing"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let missing = missing.filter_map(|name| OPTIONS.iter().find(|(option, _)| *option == name));
    let when: Vec<Value> = missing
        .map(|(name, flag)| json!({ "args": [flag], "steps": [{ "stderr": format!("unknown option `{name}`\n") }], "exit": 1 }))
        .collect();
    json!({ "record": "seen.jsonl", "when": when, "steps": steps, "exit": input["cli_exit_code"].as_u64().unwrap_or(0) })
}

/// The line of which the vendor's SDK made this message.
fn line_of(message: &Value) -> Value {
    let kind = message["type"].as_str().unwrap_or_default();
    let field = |name: &str| message.get(name).cloned().unwrap_or_default();
    match kind {
        "assistant" | "user" => {
            // Its SDK knows no text in place of blocks from an agent.
            let content = match (kind, field("content")) {
                ("assistant", Value::String(text)) => json!([{ "type": "text", "text": text }]),
                (_, content) => content,
            };
            let mut line = json!({
                "type": kind,
                "message": { "id": "msg_1", "role": kind, "model": "claude-x", "content": content },
                "parent_tool_use_id": message["parent_tool_use_id"],
            });
            if !message["usage"].is_null() {
                line["message"]["usage"] = field("usage");
            }
            for name in ["session_id", "error"] {
                if !message[name].is_null() {
                    line[name] = field(name);
                }
            }
            line
        }
        "result" => {
            let mut line = json!({
                "subtype": "success", "is_error": false, "duration_ms": 0, "duration_api_ms": 0, "num_turns": null,
                "session_id": null,
            });
            for (name, value) in message.as_object().into_iter().flatten() {
                line[name] = value.clone();
            }
            line
        }
        _ => message.clone(),
    }
}

// ---- what was asked ----

/// By meaning, from the arguments and the lines that our program was given.
pub(super) fn asked_by_ours(records: &[Value]) -> Value {
    let mut asked = Map::new();
    let argv = records.first().and_then(|record| record["argv"].as_array()).cloned().unwrap_or_default();
    let argv: Vec<&str> = argv.iter().skip(1).filter_map(Value::as_str).collect();
    flags(&argv, &mut asked);
    for read in records.iter().map(|record| &record["read"]) {
        let request = &read["request"];
        match (read["type"].as_str(), request["subtype"].as_str()) {
            (Some("user"), _) => {
                asked.insert("prompt".to_owned(), read["message"]["content"].clone());
                if !read["client_composed"].is_null() {
                    asked.insert("verbatim".to_owned(), read["client_composed"].clone());
                }
            }
            (_, Some("initialize")) => {
                for (theirs, ours) in [("systemPrompt", "system"), ("jsonSchema", "schema")] {
                    let value = match &request[theirs] {
                        Value::Null => continue,
                        Value::Array(parts) if *parts == [""] => continue,
                        Value::Array(parts) if parts.len() == 1 => parts[0].clone(),
                        other => other.clone(),
                    };
                    asked.insert(ours.to_owned(), value);
                }
            }
            (_, Some("mcp_set_servers")) => {
                asked.insert("servers".to_owned(), names(&request["servers"]));
            }
            _ => {}
        }
    }
    Value::Object(asked)
}

/// By meaning, from what the original asked of its SDK, or the SDK of the program.
pub(super) fn asked_by_original(wanted: &Value) -> Value {
    let mut asked = Map::new();
    if let Some(argv) = wanted["argv"].as_array() {
        let argv: Vec<&str> = argv.iter().filter_map(Value::as_str).collect();
        flags(&argv, &mut asked);
        let lines = wanted["stdin"].as_array().into_iter().flatten();
        for line in lines.filter(|line| line["type"] == "user") {
            asked.insert("prompt".to_owned(), line["message"]["content"].clone());
            if !line["client_composed"].is_null() {
                asked.insert("verbatim".to_owned(), line["client_composed"].clone());
            }
        }
        return Value::Object(asked);
    }
    asked.insert("prompt".to_owned(), wanted["prompt"].clone());
    for (name, value) in wanted["options"].as_object().into_iter().flatten() {
        match (name.as_str(), value) {
            ("output_format", value) => drop(asked.insert("schema".to_owned(), value["schema"].clone())),
            ("system_prompt", value) => drop(asked.insert("system".to_owned(), value.clone())),
            ("mcp_servers", value) => drop(asked.insert("servers".to_owned(), names(value))),
            ("verbatim_prompts", value) => drop(asked.insert("verbatim".to_owned(), value.clone())),
            ("allowed_tools" | "disallowed_tools" | "setting_sources", Value::Array(list)) => {
                let list: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
                meaning(name, &list.join(","), &mut asked);
            }
            // The folder of the task: ours is always started in it.
            ("cwd", _) => {}
            (name, value) => {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                meaning(name, &text, &mut asked);
            }
        }
    }
    Value::Object(asked)
}

/// Reads an argument vector: `--name value`, `--name=value`, `--name`.
fn flags(argv: &[&str], asked: &mut Map<String, Value>) {
    let mut rest = argv.iter().peekable();
    while let Some(word) = rest.next() {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, value),
            None => match rest.peek() {
                Some(value) if !value.starts_with("--") => (*word, *rest.next().unwrap_or(&"")),
                _ => (*word, ""),
            },
        };
        let name = match name.trim_start_matches("--") {
            // Both speak JSON lines, and ours wants its pieces and its questions.
            "output-format" | "input-format" if value == "stream-json" => continue,
            "verbose" | "include-partial-messages" | "permission-prompt-tool" | "strict-mcp-config" => continue,
            // The same list twice: what is allowed, and the built-in tools that are left of it.
            "tools" | "allowedTools" => "allowed_tools",
            "disallowedTools" => "disallowed_tools",
            "max-budget-usd" => "max_budget_usd",
            // The tasks of the original have no such bound; every run here has one.
            "max-turns" => continue,
            "permission-mode" => "permission_mode",
            "setting-sources" => "setting_sources",
            "system-prompt" => "system",
            "json-schema" => "schema",
            "mcp-config" => "servers",
            other => other,
        };
        meaning(name, value, asked);
    }
}

/// The names of servers. What is started for one is the host's to say: a bridge of its own, which holds no secret.
fn names(servers: &Value) -> Value {
    servers.as_object().into_iter().flatten().map(|(name, _)| json!(name)).collect()
}

/// One wish. A list, and a system prompt, that are empty are none: the original's SDK always passes a prompt.
fn meaning(name: &str, value: &str, asked: &mut Map<String, Value>) {
    let value = match name {
        "schema" => serde_json::from_str(value).unwrap_or_default(),
        "servers" => serde_json::from_str::<Value>(value).map(|all| names(&all["mcpServers"])).unwrap_or_default(),
        "max_budget_usd" => json!(value.parse::<f64>().ok()),
        "system" | "setting_sources" | "disallowed_tools" if value.is_empty() => return,
        // Ours holds a scope itself, so built-in tools stand on its vector by name.
        "allowed_tools" => {
            let names = value.split(',').map(|entry| entry.split('(').next().unwrap_or(entry));
            let names: BTreeSet<&str> = names.filter(|name| !name.is_empty() && !name.starts_with("mcp__")).collect();
            if names.is_empty() {
                return;
            }
            json!(names)
        }
        _ => json!(value),
    };
    asked.insert(name.to_owned(), value);
}

// ---- what is compared ----

/// Our events in the shape of the cases. The original tells nothing of what the vendor says besides.
fn told(events: &[AgentEvent]) -> Value {
    let events = events.iter().filter(|event| event.name != "agent.vendor.turn");
    let events = events.map(|event| json!({ "name": event.name, "attributes": event.attributes })).collect();
    stretches(&events, "")
}

/// Events with neighbouring pieces of text as one. `between` is what parts two pieces that are blocks.
fn stretches(events: &Value, between: &str) -> Value {
    let mut joined: Vec<Value> = Vec::new();
    let mut first = true;
    for event in events.as_array().into_iter().flatten() {
        let mut event = json!({ "name": event["name"], "attributes": event["attributes"] });
        if event["name"] != "agent.output.delta" {
            joined.push(event);
            continue;
        }
        let follows = joined.last().is_some_and(|last| last["name"] == "agent.output.delta");
        let text = |event: &Value| event["attributes"]["text_delta"].as_str().unwrap_or_default().to_owned();
        let length = |event: &Value| event["attributes"]["text_delta_length"].as_u64().unwrap_or(0);
        let (mut whole, mut characters) = (text(&event), length(&event));
        if follows && let Some(last) = joined.pop() {
            whole = format!("{}{between}{whole}", text(&last));
            characters += length(&last) + between.chars().count() as u64;
        } else if !first && between.is_empty() && whole.starts_with('\n') {
            // The line's end between this block and the one before the other event.
            whole.remove(0);
            characters -= 1;
        }
        first = false;
        let attributes = &mut event["attributes"];
        attributes["text_delta"] = json!(whole.chars().take(1000).collect::<String>());
        attributes["text_delta_length"] = json!(characters);
        attributes["text_delta_truncated"] = json!(characters > 1000);
        joined.push(event);
    }
    Value::Array(joined)
}

/// What the original's errors hold of the vendor's own words. The rest of them is prose.
fn vendors_words(input: &Value, expect: &Value) -> BTreeSet<String> {
    let texts = |value: &Value, only: Option<&str>| {
        let mut found = BTreeSet::new();
        let mut open = vec![(value, None)];
        while let Some((value, name)) = open.pop() {
            match value {
                Value::String(text) if !text.is_empty() && (only.is_none() || only == name) => {
                    found.insert(text.clone());
                }
                Value::Array(items) => open.extend(items.iter().map(|item| (item, name))),
                Value::Object(fields) => open.extend(fields.iter().map(|(name, value)| (value, Some(name.as_str())))),
                _ => {}
            }
        }
        found
    };
    let said = texts(input, None);
    let errors = texts(expect, Some("error"));
    let parts = errors.iter().flat_map(|error| error.split("; ").chain([error.as_str()]));
    parts.filter(|part| said.contains(*part)).map(str::to_owned).collect()
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
                        // What the vendor wrote must be there; what is written around it is prose.
                        json!({ "said": said.iter().filter(|part| text.contains(part.as_str())).collect::<Vec<_>>() })
                    }
                    ("metadata" | "result_metadata", Value::Object(metadata))
                        if metadata.contains_key("permission_mode") =>
                    {
                        json!({ "permission_mode": metadata["permission_mode"], "model": metadata.get("model") })
                    }
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
