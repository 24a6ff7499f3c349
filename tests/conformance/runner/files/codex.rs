//! The Codex adapter: the real component in a real host, with a scripted program in the vendor's place.
//!
//! Files: `ark-adapter-codex-wire.json`, `ark-adapter-codex.json`.
//!
//! In the first the lines are what the vendor's program says; in the second there is the result that its Python client
//! made of such lines, and that is put back into lines here. What was asked of the vendor is compared by meaning: the
//! original's client takes words (`auto_review`) that go over the wire as others.
//!
//! The plugin's setting `approvals` is `vendor`, which is the original's mapping; the plugin's own tests have the other.
//!
//! Not compared, because it is the vendor's own or a matter of form: durations, which the original gives as 0; which of the
//! original's clients made a result; the prose of errors that the vendor did not write. The original tells the final text
//! alone, once, at the end; ours tells all as it comes, so what ours told must end with it. Changes of files the original
//! leaves out: each must be in ours, once, and then is left out of the comparison. What was declined is an `error` there.

use std::collections::BTreeMap;
use std::path::Path;

use midplane::Host;
use midplane::core::Error;
use midplane::core::agent::event::AgentEvent;
use midplane::core::agent::result;
use serde_json::{Map, Value, json};

use super::adapter::{self, Played, Profile};
use crate::case::{Case, Check, Ours};

pub(crate) const CHECKS: &[(&str, Check)] =
    &[("ark-adapter-codex.json", check), ("ark-adapter-codex-wire.json", check)];

/// The profile, under the name that the original's events carry.
pub(super) const KIND: &str = "codex-agent-sdk";
/// Where the program finds its login in every case that names no other folder.
const HOME: &str = "/nonexistent-home-of-the-runner";

fn check(case: &Case<'_>) -> Ours {
    adapter::verdict(played(case))
}

async fn played(case: &Case<'_>) -> Result<Ours, Error> {
    let (input, expect) = (case.input(), case.expect());
    let script = script(input);
    let played =
        adapter::play(case, KIND, "codex", &script, async |program| host(program, &input["adapter_config"]).await);
    let Played { outcome, events, records, place, has_folder } = match played.await? {
        Ok(played) => played,
        Err(refused) => return Ok(refused),
    };

    let mut ours = match &outcome.error {
        None => Ours::accepted(),
        Some(error) => Ours::refused(error.code.to_string()),
    };
    let mut got = result::to_json(&outcome);
    let changed = changes_of_files(input);
    let audited = take_file_changes(&mut got["tool_calls"]);
    ours = ours.equal("audits of changed files", &json!(audited), &json!(changed));
    if let Some(raised) = expect.get("raised") {
        // A vendor's exception there is an outcome here, so that what was heard is not lost.
        if outcome.finish_reason.as_str() != "failed" {
            ours = ours
                .differs(format!("ours ended as `{}`, the original raised {raised}", outcome.finish_reason.as_str()));
        }
    } else {
        let shape = |value: &Value| shaped_result(value, input);
        ours = ours.equal("the result", &shape(&got), &shape(&expect["result"]));
        let (told, text) = told(&events);
        let (wanted, wanted_text) = told_by_original(&expect["events"]);
        ours = ours.equal("the events", &told, &wanted);
        // An event of the original holds the beginning of the text.
        if !text.contains(&wanted_text) {
            ours = ours.differs(format!("the text: ours {text:?}, the original's {wanted_text:?}"));
        }
    }
    let wanted = &expect["vendor_request"];
    let cwd = |value: &str| (has_folder && value == place).then_some("<folder>");
    let (mut asked, mut theirs) = (asked_by_ours(&records, cwd), asked_by_original(wanted));
    if wanted.get("stdin").is_some() {
        // What was seen on the wire there has no environment.
        (asked["env"], theirs["env"]) = (Value::Null, Value::Null);
    }
    Ok(ours.equal("what was asked of the vendor", &asked, &theirs))
}

/// A host with one profile of the plugin, whose program this is.
pub(super) async fn host(program: &Path, config_of_case: &Value) -> Result<Host, Error> {
    let overrides = config_of_case["config_overrides"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let overrides: Map<String, Value> = overrides.filter_map(override_of).collect();
    let home = config_of_case["env"]["CODEX_HOME"].as_str().unwrap_or(HOME);
    let mut settings = BTreeMap::from([
        ("program".to_owned(), json!(program)),
        ("approvals".to_owned(), json!("vendor")),
        ("codex_home".to_owned(), json!(home)),
        ("config".to_owned(), Value::Object(overrides)),
    ]);
    if let Some(model) = config_of_case["default_model"].as_str() {
        settings.insert("model".to_owned(), json!(model));
    }
    let grants = vec!["env:CODEX_HOME".to_owned()];
    adapter::host(Profile { kind: KIND, plugin: "codex", settings, grants, program }, None).await
}

// ---- what the program says ----

/// What the program does: it answers our calls, and says the lines of the case once a turn is begun.
pub(super) fn script(input: &Value) -> Value {
    let is_wire = input.get("server_notifications_after_turn_start").is_some();
    let thread = match (is_wire, input["task"]["session_id"].as_str()) {
        (true, _) => "th-1",
        (false, Some(id)) => id,
        (false, None) => "thread-new",
    };
    let thread = if input["vendor_thread_has_no_id"] == true { json!({}) } else { json!({ "id": thread }) };
    // A client that does not know an option is one of a version that is not supported.
    let missing = ["vendor_turn_options_missing", "vendor_thread_options_missing", "vendor_options_missing"];
    let is_old = missing.iter().any(|name| input[*name].as_array().is_some_and(|list| !list.is_empty()));
    let agent = if is_old { "codex_cli_rs/0.156.0 (test)" } else { "codex_cli_rs/0.163.0 (test)" };
    let answers = [
        ("initialize", json!({ "userAgent": agent })),
        ("thread/start", json!({ "thread": thread, "model": "gpt-x" })),
        ("thread/resume", json!({ "thread": thread, "model": "gpt-x" })),
        ("turn/start", json!({ "turn": { "id": "tu-1", "items": [], "status": "inProgress" } })),
        ("turn/interrupt", json!({})),
        ("thread/backgroundTerminals/clean", json!({})),
    ];
    let (config, when) = match config_of_home(input) {
        Ok(config) => (config, json!([])),
        Err(words) => {
            let died = json!({ "args": ["default_permissions=*"], "steps": [{ "stderr": words }], "exit": 1 });
            (Value::Null, json!([died]))
        }
    };
    let rules: Vec<Value> = answers
        .into_iter()
        .chain([("config/read", config)])
        .map(|(method, result)| {
            let error = &input["server_errors"][method];
            let answer = if error.is_null() {
                json!({ "id": "{{id}}", "result": result })
            } else {
                json!({ "id": "{{id}}", "error": error })
            };
            let mut steps = vec![json!({ "write": answer })];
            if method == "turn/start" && error.is_null() {
                steps.extend(lines(input).iter().map(|line| match line.as_str() {
                    Some("EXIT") => json!({ "exit": 0 }),
                    _ => json!({ "write": line }),
                }));
            }
            json!({ "on": { "method": method }, "capture": { "id": "/id" }, "steps": steps })
        })
        .collect();
    json!({ "record": "seen.jsonl", "when": when, "steps": [{ "serve": rules }] })
}

/// What the program says of its own configuration, or why it does not come up with a profile, as version 0.169.0 does.
fn config_of_home(input: &Value) -> Result<Value, String> {
    let text = input["adapter_config"]["codex_home_config_toml"].as_str().unwrap_or_default();
    let config: Value = toml::from_str(text).map_err(|error| format!("Error: {error}\n"))?;
    Ok(json!({ "config": config, "origins": {} }))
}

/// The lines of a turn, as the case has them or as the vendor's client must have seen them.
fn lines(input: &Value) -> Vec<Value> {
    if let Some(lines) = input["server_notifications_after_turn_start"].as_array() {
        return lines.clone();
    }
    let turn = &input["vendor_turn_result"];
    let told = |method: &str, mut params: Value| {
        params["turnId"] = json!("tu-1");
        json!({ "method": method, "params": params })
    };
    let mut lines = Vec::new();
    for (index, item) in turn["items"].as_array().into_iter().flatten().enumerate() {
        let mut item = camel(item, &["arguments"]);
        if item.get("id").is_none() {
            item["id"] = json!(format!("item-{index}"));
        }
        lines.push(told("item/completed", json!({ "item": item })));
    }
    if let Some(text) = turn["final_response"].as_str() {
        let item = json!({ "type": "agentMessage", "id": "final", "text": text, "phase": "final_answer" });
        lines.push(told("item/completed", json!({ "item": item })));
    }
    if !turn["usage"].is_null() {
        lines.push(told("thread/tokenUsage/updated", json!({ "tokenUsage": camel(&turn["usage"], &[]) })));
    }
    let end = json!({ "id": "tu-1", "items": [], "status": turn["status"], "error": camel(&turn["error"], &[]) });
    lines.push(json!({ "method": "turn/completed", "params": { "turn": end } }));
    lines
}

/// Names as on the wire; what stands under `kept` is not the vendor's.
fn camel(value: &Value, kept: &[&str]) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|item| camel(item, kept)).collect(),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| {
                let mut parts = name.split('_');
                let mut wire = parts.next().unwrap_or_default().to_owned();
                for part in parts {
                    let mut letters = part.chars();
                    wire.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
                    wire.push_str(letters.as_str());
                }
                (wire, if kept.contains(&name.as_str()) { value.clone() } else { camel(value, kept) })
            });
            Value::Object(fields.collect())
        }
        other => other.clone(),
    }
}

// ---- what was asked ----

/// By meaning, from the arguments and lines that our program was given.
pub(super) fn asked_by_ours(records: &[Value], cwd: impl Fn(&str) -> Option<&'static str>) -> Value {
    let argv = records.first().map(|record| record["argv"].clone()).unwrap_or_default();
    let read: Vec<Value> = records.iter().map(|record| record["read"].clone()).collect();
    let mut asked = of_wire(&argv, &read);
    let home = records.first().map(|record| record["env"]["CODEX_HOME"].clone()).unwrap_or_default();
    if home.is_string() && home != HOME {
        asked["env"]["CODEX_HOME"] = home;
    }
    for part in ["thread", "turn"] {
        if let Some(folder) = asked[part]["cwd"].as_str() {
            match cwd(folder) {
                Some(name) => asked[part]["cwd"] = json!(name),
                None => drop(asked[part].as_object_mut().and_then(|part| part.remove("cwd"))),
            }
        }
    }
    asked
}

/// By meaning, from what the original asked of the vendor's client, or that client of the program.
pub(super) fn asked_by_original(wanted: &Value) -> Value {
    let mut asked = if wanted.get("stdin").is_some() || wanted.is_null() {
        let stdin = wanted["stdin"].as_array().cloned().unwrap_or_default();
        of_wire(&wanted["argv"], &stdin)
    } else {
        of_client(wanted)
    };
    for part in ["thread", "turn"] {
        if asked[part]["cwd"].is_string() {
            asked[part]["cwd"] = json!("<folder>");
        }
    }
    asked
}

fn of_wire(argv: &Value, lines: &[Value]) -> Value {
    let mut config = Map::new();
    let words: Vec<&str> = argv.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for pair in words.windows(2).filter(|pair| ["--config", "-c"].contains(&pair[0])) {
        config.extend(override_of(pair[1]));
    }
    let (mut thread, mut turn, mut answers) = (Value::Null, Value::Null, Vec::new());
    for line in lines {
        let params = &line["params"];
        match line["method"].as_str() {
            Some("thread/start" | "thread/resume") => {
                config.extend(params["config"].as_object().cloned().unwrap_or_default());
                let names = ["threadId", "approvalPolicy", "approvalsReviewer", "sandbox", "cwd", "model"];
                thread = part(params, &[&names[..], &["developerInstructions"]].concat());
            }
            Some("turn/start") => {
                let names = ["approvalPolicy", "approvalsReviewer", "cwd", "model", "effort", "outputSchema"];
                turn = part(params, &names);
                turn["prompt"] = params["input"][0]["text"].clone();
                let (sandbox, network) = match params["sandboxPolicy"]["type"].as_str() {
                    Some("readOnly") => (json!("read-only"), params["sandboxPolicy"]["networkAccess"].clone()),
                    Some("workspaceWrite") => {
                        (json!("workspace-write"), params["sandboxPolicy"]["networkAccess"].clone())
                    }
                    Some("dangerFullAccess") => (json!("danger-full-access"), json!(false)),
                    _ => continue,
                };
                turn["sandbox"] = sandbox;
                turn["network"] = json!(network == true);
            }
            None if line.get("result").is_some() => answers.push(line["result"].clone()),
            _ => {}
        }
    }
    let mut config = flat(&Value::Object(config));
    // In ours it is always there, in the original until a caller names overrides of his own.
    config.remove("features.plugins");
    json!({ "config": config, "env": {}, "thread": thread, "turn": turn, "answers": answers })
}

fn of_client(wanted: &Value) -> Value {
    let overrides = wanted["config"]["config_overrides"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut config = flat(&Value::Object(overrides.filter_map(override_of).collect()));
    config.remove("features.plugins");
    let wire = |value: &Value, names: &[&str]| {
        let mut params = camel(value, &["output_schema"]);
        let mode = params["approvalMode"].take();
        let (policy, reviewer) = match mode.as_str() {
            Some("deny_all") => (json!("never"), Value::Null),
            Some("auto_review") => (json!("on-request"), json!("auto_review")),
            _ => (mode, Value::Null),
        };
        (params["approvalPolicy"], params["approvalsReviewer"]) = (policy, reviewer);
        part(&params, names)
    };
    let names = ["threadId", "approvalPolicy", "approvalsReviewer", "sandbox", "cwd", "model", "developerInstructions"];
    let thread = [&wanted["thread_start"], &wanted["thread_resume"]].into_iter().find(|value| !value.is_null());
    let thread = thread.map_or(Value::Null, |value| wire(value, &names));
    let names = ["approvalPolicy", "approvalsReviewer", "cwd", "model", "effort", "outputSchema", "prompt", "sandbox"];
    let mut turn = if wanted["turn"].is_null() { Value::Null } else { wire(&wanted["turn"], &names) };
    if turn["sandbox"].is_string() {
        turn["network"] = json!(false);
    }
    let env = if wanted["config"]["env"].is_null() { json!({}) } else { wanted["config"]["env"].clone() };
    json!({ "config": config, "env": env, "thread": thread, "turn": turn, "answers": [] })
}

/// These fields of a message, as far as they are there.
fn part(params: &Value, names: &[&str]) -> Value {
    let there = names.iter().filter(|name| !params[**name].is_null());
    Value::Object(there.map(|name| ((*name).to_owned(), params[*name].clone())).collect())
}

/// Tables as names with dots.
fn flat(config: &Value) -> Map<String, Value> {
    let mut found = Map::new();
    for (name, value) in config.as_object().into_iter().flatten() {
        match value {
            Value::Object(_) => {
                found.extend(flat(value).into_iter().map(|(rest, value)| (format!("{name}.{rest}"), value)))
            }
            value => drop(found.insert(name.clone(), value.clone())),
        }
    }
    found
}

/// `a.b=VALUE` of the program's command line: a value that is no TOML is text.
pub(super) fn override_of(text: &str) -> Option<(String, Value)> {
    let (name, value) = text.split_once('=')?;
    let table: Option<Map<String, Value>> = toml::from_str(&format!("value = {value}")).ok();
    let value = table.and_then(|mut table| table.remove("value")).unwrap_or_else(|| json!(value));
    Some((name.trim().to_owned(), value))
}

// ---- what is compared ----

/// How many changes of files the case has.
fn changes_of_files(input: &Value) -> usize {
    let is_change = |line: &&Value| {
        line["method"] == "item/completed"
            && line["params"]["item"]["type"] == "fileChange"
            && line["params"]["turnId"] == "tu-1"
    };
    lines(input).iter().filter(is_change).count()
}

/// Takes the audits of changed files out of a list; gives how many there were.
fn take_file_changes(audits: &mut Value) -> usize {
    let Some(list) = audits.as_array_mut() else { return 0 };
    let before = list.len();
    list.retain(|audit| audit["tool_name"] != "file_change");
    before - list.len()
}

fn shaped_result(value: &Value, input: &Value) -> Value {
    let mut value = numbers(value);
    for audit in value["tool_calls"].as_array_mut().into_iter().flatten() {
        audit["duration_ms"] = json!(0.0);
        if audit["status"] == "declined" {
            audit["status"] = json!("error");
        }
    }
    if let Some(text) = value["error"].as_str() {
        // What the vendor wrote must be there; what is written around it is prose.
        let said = [&input["vendor_turn_result"]["error"]["message"]].into_iter().filter_map(Value::as_str);
        value["error"] = json!({ "said": said.filter(|said| text.contains(said)).collect::<Vec<_>>() });
    }
    let metadata = value["metadata"].take();
    let source = match metadata["model_source"].as_str() {
        Some("constructor") => json!("setting"),
        _ => metadata["model_source"].clone(),
    };
    // Ours also says which model it was where nobody asked for one.
    let model = if source == "provider-native" { Value::Null } else { metadata["model"].clone() };
    let profile = &metadata["requested_native_permission_profile"];
    value["metadata"] = json!({ "model_source": source, "model": model, "profile": profile });
    value
}

/// Our events but the text, in the shape of the cases, and the text.
fn told(events: &[AgentEvent]) -> (Value, String) {
    let events = events.iter().filter(|event| event.name != "agent.vendor.turn");
    let all: Vec<Value> = events.map(|event| json!({ "name": event.name, "attributes": event.attributes })).collect();
    told_by_original(&json!(all))
}

fn told_by_original(events: &Value) -> (Value, String) {
    let (mut rest, mut text) = (Vec::new(), String::new());
    for event in events.as_array().into_iter().flatten() {
        let attributes = &event["attributes"];
        match event["name"].as_str() {
            Some("agent.output.delta") => text.push_str(attributes["text_delta"].as_str().unwrap_or_default()),
            Some("agent.tool.requested" | "agent.tool.completed") if attributes["tool_name"] == "file_change" => {}
            Some(name @ ("agent.tool.requested" | "agent.tool.completed")) => {
                let mut attributes = numbers(attributes);
                if attributes["status"] == "declined" {
                    attributes["status"] = json!("error");
                }
                attributes["duration_ms"] = Value::Null;
                rest.push(json!({ "name": name, "attributes": attributes }));
            }
            Some(name) => {
                let names = ["task_id", "runtime_kind", "finish_reason", "output", "session_id", "task_goal"];
                let mut attributes = part(attributes, &names);
                // Where the task names one: ours knows the thread before it tells of the start.
                if name == "agent.task.started" {
                    attributes["session_id"] = Value::Null;
                }
                rest.push(json!({ "name": name, "attributes": attributes }));
            }
            None => {}
        }
    }
    (Value::Array(rest), text)
}

/// A number is one, however it is written.
fn numbers(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(numbers).collect(),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(name, value)| (name.clone(), numbers(value))).collect())
        }
        Value::Number(number) => json!(number.as_f64()),
        other => other.clone(),
    }
}
