//! Agent contracts: tasks, gating, results, events, structured output.
//!
//! Files: `ark-task-validation.json`, `ark-result-invariants.json`, `ark-gating-capabilities.json`, `ark-event-builders.json`, `ark-event-sanitisation.json`, `ark-event-redaction-keys.json`, `ark-structured-output-resolution.json`, `ark-structured-output-schemas.json`, `ark-structured-output-values.json`.

use midplane_core::agent::event::{self, About, AgentEvent, Draft};
use midplane_core::agent::{errors, output, result, sanitise, task};
use midplane_core::capability::{self, CapabilitySet};
use midplane_core::limits::Limits;
use midplane_core::problem::Problem;
use midplane_core::redact::is_sensitive_key;
use midplane_core::schema::{self, Schema};
use midplane_core::{Error, ErrorKind};
use serde_json::{Map, Value, json};

use crate::case::{Case, Check, Ours};

pub(crate) const CHECKS: &[(&str, Check)] = &[
    ("ark-task-validation.json", task_validation),
    ("ark-result-invariants.json", result_invariants),
    ("ark-gating-capabilities.json", gating),
    ("ark-event-builders.json", builders),
    ("ark-event-sanitisation.json", sanitisation),
    ("ark-event-redaction-keys.json", redaction_keys),
    ("ark-structured-output-resolution.json", resolution),
    ("ark-structured-output-schemas.json", schemas),
    ("ark-structured-output-values.json", values),
];

fn task_validation(case: &Case<'_>) -> Ours {
    match task::from_json(&case.input()["task"], "task") {
        Ok(ours) => accepted(case).equal(
            "the normal form",
            &numbers(&task::to_json(&ours)),
            &numbers(&case.expect()["normalized"]),
        ),
        Err(problems) => refused(case, problems),
    }
}

fn result_invariants(case: &Case<'_>) -> Ours {
    let fields = &case.input()["fields"];
    let told = match case.input()["type"].as_str().unwrap_or_default() {
        "AgentResult" => match result::result(fields, "result") {
            Ok(ours) => {
                return accepted(case)
                    .equal("is_success", &json!(ours.is_success()), &case.expect()["is_success"])
                    .equal(
                        "parsed_output_available",
                        &json!(ours.parsed_output_available()),
                        &case.expect()["parsed_output_available"],
                    );
            }
            Err(problems) => Err(problems),
        },
        "Usage" => result::usage(fields, "usage").map(|_| ()),
        "ToolCallAudit" => result::audit(fields, "audit").map(|_| ()),
        "ArtifactRef" => result::artifact(fields, "artifact").map(|_| ()),
        "CancellationReceipt" => result::receipt(fields, "receipt").map(|_| ()),
        other => return Ours::refused("unknown-type").differs(format!("the type `{other}` has no reader")),
    };
    match told {
        Ok(()) => accepted(case),
        Err(problems) => refused(case, problems),
    }
}

fn gating(case: &Case<'_>) -> Ours {
    let input = case.input();
    let task = match task::from_json(&input["task"], "task") {
        Ok(task) => task,
        Err(problems) => return refused(case, problems).differs("the task itself is refused"),
    };
    let features = input["capabilities"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let declared = CapabilitySet { features: features.map(str::to_owned).collect(), limits: Vec::new() };
    let issues = capability::issues(&task, &declared);
    let fields: Vec<String> = issues.iter().map(|issue| task::gate_field(&issue.field).to_owned()).collect();
    let error = capability::refusal(input["kind"].as_str().unwrap_or_default(), &issues);
    let told = error
        .as_ref()
        .map(|error| json!({ "type": errors::original(error), "kind": input["kind"], "field": fields.first() }));
    let ours = match &error {
        None => Ours::accepted(),
        Some(error) => Ours::refused(error.code.to_string()),
    };
    let issues: Vec<Value> = fields.iter().map(|field| json!({ "field": field })).collect();
    ours.equal("supported", &json!(error.is_none()), &case.expect()["supported"])
        .equal("the issues", &Value::Array(issues), &case.expect()["issues"])
        .equal("the error", &told.unwrap_or_default(), &case.expect()["error"])
}

fn builders(case: &Case<'_>) -> Ours {
    let (input, limits) = (case.input(), Limits::default());
    let draft = match draft(input) {
        Ok(draft) => draft,
        Err(problems) => return refused(case, problems).differs("what the event is about is refused"),
    };
    let extra = input["extra"].as_object().cloned().unwrap_or_default();
    let draft = draft.summary(input["summary"].as_str().unwrap_or_default()).extra(extra);
    let AgentEvent { name, summary, attributes, found_credential, .. } = draft.at(0, limits.event_bytes_max);
    let event = json!({ "name": name, "summary": summary, "attributes": attributes });
    hidden_or_not(found_credential).equal("the event", &numbers(&event), &numbers(&case.expect()["event"]))
}

fn draft(input: &Value) -> Result<Draft, Vec<Problem>> {
    let task = task::from_json(&input["task"], "task")?;
    let text = |name: &str| input[name].as_str().unwrap_or_default();
    let about = About { task_id: task.task_id.clone().unwrap_or_default(), runtime_kind: text("kind").to_owned() };
    let none = Map::new();
    Ok(match text("builder") {
        "task_started" => event::started(&about, &task),
        "task_completed" => {
            // What the original derives from the rest is no field of it.
            let mut fields = input["result"].clone();
            if let Some(fields) = fields.as_object_mut() {
                fields.retain(|name, _| name != "is_success" && name != "cost_usd");
            }
            event::completed(&about, &result::result(&fields, "result")?)
        }
        "task_failed" => event::failed(&about, text("error"), input["finish_reason"].as_str()),
        "output_delta" => event::output_delta(&about, text("text")),
        "tool_requested" => {
            event::tool_requested(&about, text("tool_name"), input["arguments"].as_object().unwrap_or(&none))
        }
        "tool_completed" => event::tool_completed(&about, &result::audit(&input["audit"], "audit")?),
        "vendor_turn" => {
            let payload = input["payload"].as_object().unwrap_or(&none);
            event::vendor_turn(&about, payload, input["turn_index"].as_u64())
        }
        other => return Err(vec![Problem::new("event", "unknown-builder", format!("no event is built by `{other}`"))]),
    })
}

fn sanitisation(case: &Case<'_>) -> Ours {
    // A graph with a cycle comes as a sentence, which is no JSON.
    let attributes = match &case.input()["attributes_with_cycle"] {
        Value::String(graph) => serde_json::from_str(graph).map_err(|_| "not-json"),
        _ => serde_json::from_value(case.input()["attributes"].clone()).map_err(|_| "not-an-object"),
    };
    let attributes: Map<String, Value> = match attributes {
        Ok(attributes) => attributes,
        Err(code) => return Ours::refused(code).differs("the attributes are no JSON object"),
    };
    let ours = sanitise::attributes(attributes, &[], Limits::default().event_bytes_max);
    let shown = Value::Object(ours.attributes);
    hidden_or_not(ours.found_credential).equal("the attributes", &shown, &case.expect()["attributes"])
}

fn redaction_keys(case: &Case<'_>) -> Ours {
    let redacted = is_sensitive_key(case.input()["key"].as_str().unwrap_or_default());
    let ours = if redacted { Ours::refused("hidden") } else { Ours::accepted() };
    ours.equal("redacted", &json!(redacted), &case.expect()["redacted"])
}

fn resolution(case: &Case<'_>) -> Ours {
    let input = case.input();
    let text = input["output_text"].as_str().unwrap_or_default();
    let resolved = output::resolve(&input["schema"], text, input.get("native"), input["native_available"].as_bool());
    let (ours, value, failure) = match resolved {
        Ok(value) => (Ours::accepted(), value, Value::Null),
        Err(error) => (Ours::refused(error.code.to_string()), Value::Null, json!(error.code)),
    };
    ours.equal("available", &json!(failure.is_null()), &case.expect()["available"])
        .equal("the value", &value, &case.expect()["value"])
        .equal("the failure", &failure, &case.expect()["failure"])
}

fn schemas(case: &Case<'_>) -> Ours {
    let (ours, told) = match schema::check(&case.input()["schema"]) {
        Ok(()) => (Ours::accepted(), Value::Null),
        Err(error) => (Ours::refused(error.code.to_string()), json!(errors::original(&error))),
    };
    ours.equal("valid", &json!(told.is_null()), &case.expect()["valid"]).equal(
        "the error",
        &told,
        &case.expect()["error_type"],
    )
}

fn values(case: &Case<'_>) -> Ours {
    let input = case.input();
    let mismatch = Schema::new(&input["schema"]).map(|schema| schema.mismatch(&input["value"]));
    let (ours, conforms) = match &mismatch {
        Ok(None) => (Ours::accepted(), true),
        Ok(Some(_)) => (Ours::refused("nonconforming"), false),
        Err(error) => (Ours::refused(error.code.to_string()), false),
    };
    let ours = ours.equal("conforms", &json!(conforms), &case.expect()["conforms"]);
    // Where the original raises, ours is a typed failure: that of the schema.
    match (mismatch, case.expect().get("raises")) {
        (Err(_), Some(_)) | (Ok(None), None) => ours,
        (Err(error), None) => ours.differs(format!("the schema is refused: {error}")),
        (Ok(_), Some(_)) => ours.differs("the schema is not refused"),
        (Ok(Some(mismatch)), None) => ours.equal("the path", &json!(mismatch.path), &case.expect()["json_path"]),
    }
}

/// Whether something was hidden that the original shows.
fn hidden_or_not(found_credential: bool) -> Ours {
    if found_credential { Ours::refused("credential-in-text") } else { Ours::accepted() }
}

fn accepted(case: &Case<'_>) -> Ours {
    let ours = Ours::accepted();
    if case.expect()["accepted"] == json!(true) { ours } else { ours.differs("the original refuses it") }
}

/// A refusal, which must be of the kind and, where the original names one, of the field.
fn refused(case: &Case<'_>, problems: Vec<Problem>) -> Ours {
    let fields: Vec<String> = problems.iter().map(|problem| problem.field.clone()).collect();
    let error = Error::from(problems);
    let ours = Ours::refused(error.code.to_string());
    if case.expect()["accepted"] == json!(true) {
        return ours.differs(format!("the original accepts it; ours: {error}"));
    }
    let is_schema = case.expect()["error_type"] == "OutputSchemaError";
    let ours = if is_schema && errors::original(&error) != Some("OutputSchemaError") {
        ours.differs(format!("not refused for its schema: {error}"))
    } else if error.kind != ErrorKind::Invalid {
        ours.differs(format!("refused as {}, not as invalid", error.kind))
    } else {
        ours
    };
    match named_field(case.raw["info"]["message"].as_str().unwrap_or_default()) {
        Some(named) if !fields.iter().any(|field| field.split('.').any(|part| part == named)) => {
            ours.differs(format!("ours is about {fields:?}, the original's about `{named}`"))
        }
        _ => ours,
    }
}

/// The field in `Class.field must be ...`. Other messages name none in a way that can be told from prose.
fn named_field(message: &str) -> Option<&str> {
    let (class, rest) = message.split_once('.')?;
    let field = rest.split_once(' ')?.0;
    let named = class.chars().all(|c| c.is_ascii_alphabetic())
        && field.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    named.then_some(field)
}

/// JSON knows one kind of number: `1` and `1.0` are the same.
fn numbers(value: &Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().map_or_else(|| value.clone(), |number| json!(number)),
        Value::Array(items) => items.iter().map(numbers).collect(),
        Value::Object(fields) => Value::Object(fields.iter().map(|(name, of)| (name.clone(), numbers(of))).collect()),
        other => other.clone(),
    }
}
