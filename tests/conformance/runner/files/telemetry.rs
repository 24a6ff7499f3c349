//! Telemetry: settings, allowlists, histogram, trace context.
//!
//! Files: `runtm_telemetry.json`.

use midplane_core::telemetry::measure::{
    Bound, Command, Histogram, Labels, Measures, event_attributes, metric_labels, span_attributes,
};
use midplane_core::telemetry::settings::{OptOut, Service, Settings};
use midplane_core::telemetry::traceparent::Traceparent;
use serde_json::{Value, json};

use crate::case::{Case, Check, Ours};

pub(crate) const CHECKS: &[(&str, Check)] = &[("runtm_telemetry.json", telemetry)];

fn telemetry(case: &Case<'_>) -> Ours {
    let input = case.input();
    match word(&input["op"]) {
        "config" => config(case),
        "traceparent" => traceparent(case),
        op => match value(op, input) {
            Some(ours) => {
                Ours::accepted().equal("the value", &json!({ "ok": true, "value": ours }), &written(case.expect()))
            }
            None => Ours::accepted().differs(format!("no such operation: `{op}`")),
        },
    }
}

/// What an operation gives that refuses nothing.
fn value(op: &str, input: &Value) -> Option<Value> {
    let object = |name: &str| input[name].as_object().cloned().unwrap_or_default();
    Some(match op {
        "event_attrs" => Value::Object(event_attributes(object("attributes"))),
        "span_attrs" => Value::Object(span_attributes(object("attributes"))),
        "labels" => {
            let labels: Vec<_> = object("labels").into_iter().map(|(name, value)| (name, python(&value))).collect();
            json!(metric_labels(labels.iter().map(|(name, value)| (name.as_str(), value.as_str()))))
        }
        "command_attrs" => Value::Object(command(input).attributes()),
        "histogram" => histogram(input),
        "metrics" => metrics(input),
        _ => return None,
    })
}

fn config(case: &Case<'_>) -> Ours {
    let env = &case.input()["env"];
    // The original's own name and version; ours come from who opens the host.
    let service = Service { name: "runtm-cli".to_owned(), version: "0.1.0".to_owned() };
    let settings = Settings::from_env(|name| env[name].as_str().map(str::to_owned), service);
    let value = json!({
        "enabled": settings.is_enabled(),
        "debug": settings.debug,
        "endpoint": settings.endpoint,
        "sample_rate": settings.sample_rate,
        "service_name": settings.service.name,
        "service_version": settings.service.version,
    });
    let ours = match settings.opt_out {
        Some(OptOut::DoNotTrack) => Ours::refused(OptOut::DoNotTrack.as_str()),
        Some(OptOut::Disabled) | None => Ours::accepted(),
    };
    ours.equal("the settings", &json!({ "ok": true, "value": value }), case.expect())
}

fn traceparent(case: &Case<'_>) -> Ours {
    let header = word(&case.input()["header"]);
    match header.parse::<Traceparent>() {
        Ok(one) => {
            let value = json!([format!("{:032x}", one.trace_id), format!("{:016x}", one.span_id)]);
            Ours::accepted().equal("the ids", &json!({ "ok": true, "value": value }), case.expect())
        }
        Err(error) => Ours::refused(error.code).equal("the ids", &json!({ "ok": false, "value": null }), case.expect()),
    }
}

fn command(input: &Value) -> Command<'_> {
    Command {
        name: word(&input["command"]),
        exit_code: input["exit_code"].as_i64(),
        template: input["template"].as_str(),
        tier: input["tier"].as_str(),
        runtime: input["runtime"].as_str(),
    }
}

fn histogram(input: &Value) -> Value {
    let bounds = list(&input["buckets"]);
    // A whole number stays one in the text of its bucket.
    let bound = |value: &Value| value.as_i64().map_or_else(|| Bound::from(number(value)), Bound::from);
    let mut histogram = if bounds.is_empty() { Histogram::default() } else { Histogram::new(bounds.iter().map(bound)) };
    for observation in list(&input["observations"]) {
        histogram.observe(Labels::new(), number(observation));
    }
    let samples = histogram.samples("h");
    samples.iter().map(|one| json!({ "name": one.name, "labels": one.labels, "value": one.value })).collect()
}

fn metrics(input: &Value) -> Value {
    let mut measures = Measures::default();
    for command in list(&input["commands"]) {
        measures.command(word(&command[0]), word(&command[1]), number(&command[2]));
    }
    for error in list(&input["errors"]) {
        measures.error(word(&error[0]), word(&error[1]));
    }
    for dropped in list(&input["dropped"]) {
        measures.dropped(dropped.as_u64().unwrap_or_default());
    }
    // The cases leave the buckets out.
    let samples = measures.samples();
    json!(samples.iter().filter(|sample| !sample.name.ends_with("_bucket")).collect::<Vec<_>>())
}

/// What the original was given as a label, as the text that Python makes of it.
fn python(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The original's numbers as they are compared: a sum that happens to be written without a point is the same sum.
fn written(expect: &Value) -> Value {
    let mut expect = expect.clone();
    for sample in expect["value"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        if let Some(number) = sample.get("value").and_then(Value::as_f64) {
            sample.insert("value".to_owned(), json!(number));
        }
    }
    expect
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn number(value: &Value) -> f64 {
    match value.as_str() {
        Some("inf") => f64::INFINITY,
        _ => value.as_f64().unwrap_or(f64::NAN),
    }
}
