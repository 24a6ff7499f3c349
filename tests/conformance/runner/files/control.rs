//! Control of a run and the registry, against a real host with scripted guests.
//!
//! Files: `ark-control-and-hub.json`, `ark-registry.json`.
//!
//! A runtime of the original is a profile of one guest (`tests/guests/scripted`) that does what the profile's settings say;
//! a factory that raises is a plugin whose component is none. What the original raises is the outcome of the run.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use midplane::agents::{Agent, Agents};
use midplane::config::ProfileConfig;
use midplane::core::agent::deadline::Deadline;
use midplane::core::agent::event::AgentEvent;
use midplane::core::agent::options::Arguments;
use midplane::core::agent::{errors, hub_kind, kind, result, task};
use midplane::core::outcome::Outcome;
use midplane::core::task::Task;
use midplane::core::{Error, ProfileName, RunId};
use midplane::{Config, Embedded, Host, Refusal};
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;

use crate::case::{Case, Check, Ours};

pub(crate) const CHECKS: &[(&str, Check)] =
    &[("ark-control-and-hub.json", control_and_hub), ("ark-registry.json", registry)];

/// What the runtimes of the original declare, in the order in which it registers them.
pub(super) const RUNTIMES: [(&str, &str); 4] = [
    ("fake", "mcp_support working_directory session_resume structured_output tool_audit cancellation mcp_server_env"),
    (
        "claude-agent-sdk",
        "mcp_support working_directory session_resume structured_output streaming tool_audit cancellation budget \
         reasoning_effort tool_filters mcp_server_env",
    ),
    (
        "codex-agent-sdk",
        "working_directory session_resume structured_output tool_audit cancellation reasoning_effort \
         named_permission_profiles",
    ),
    (
        "antigravity-agent-sdk",
        "mcp_support working_directory session_resume structured_output streaming tool_audit cancellation tool_filters",
    ),
];

/// The name of the runtime that the cases about control use.
const CONTROLLED: &str = "x-ctl";

/// The plugins of each host here. The second is none: it fails when it is loaded.
pub(super) static PLUGINS: LazyLock<[Embedded; 2]> = LazyLock::new(|| {
    let manifest = include_str!("../../../guests/scripted/plugin.toml");
    let broken: &'static str = Box::leak(manifest.replace("name = \"scripted\"", "name = \"boom\"").into_boxed_str());
    [
        Embedded { manifest, component: include_bytes!(env!("GUEST_SCRIPTED")) },
        Embedded { manifest: broken, component: b"no component" },
    ]
});

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a machine that runs tests runs threads"));

/// How much longer than in the cases everything takes: their times are coarse, and only order and outcome count. A machine that
/// is busy needs more than the original's few milliseconds to begin.
const SLOWER: i64 = 3;

type Settings = BTreeMap<String, Value>;

/// A host with these profiles of the scripted guest, all state in memory.
async fn host(profiles: Vec<(String, &str, Settings)>) -> Result<Host, Error> {
    let mut config = Config::default();
    for (name, plugin, settings) in profiles {
        let plugin = Some(midplane::core::PluginName::new(plugin)?);
        config.profiles.insert(ProfileName::new(name)?, ProfileConfig { plugin, settings, ..ProfileConfig::default() });
    }
    // Compiled once for all cases.
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance-cache");
    let mut builder = Host::builder().config(config).cache(cache);
    for plugin in PLUGINS.iter() {
        builder = builder.plugin(*plugin);
    }
    builder.open().await
}

/// One runtime under one kind.
async fn one(name: &str, settings: Settings) -> Result<(Host, Agents, Agent), Error> {
    let host = host(vec![(name.to_owned(), "scripted", settings)]).await?;
    let agents = Agents::new(&host);
    agents.register(name, name)?;
    let agent = agents.resolve(name).await?;
    Ok((host, agents, agent))
}

fn setting(name: &str, value: impl Into<Value>) -> (String, Value) {
    (name.to_owned(), value.into())
}

fn fake_settings() -> Settings {
    Settings::from([setting("features", RUNTIMES[0].1)])
}

// ---- control and hub ----

fn control_and_hub(case: &Case<'_>) -> Ours {
    RUNTIME.block_on(async {
        let input = case.input();
        let ours = match (case.raw["group"].as_str().unwrap_or_default(), input["scenario"].as_str()) {
            ("hub", _) => hub(case).await,
            ("fake", _) => fake(case).await,
            ("sink", Some(_)) => sink(case).await,
            ("identity", Some(_)) => twice(case).await,
            _ if input.get("cancel_task_id").is_some() => cancel_unknown(case).await,
            _ if input.get("run_ms").is_some() => controlled(case).await,
            (group, scenario) => {
                return Ours::refused("unknown-scenario").differs(format!("no scenario for {group} {scenario:?}"));
            }
        };
        ours.unwrap_or_else(|error| Ours::refused(error.code.to_string()).differs(format!("{error}")))
    })
}

/// A run that lasts some time, with a deadline, cancels, or both.
async fn controlled(case: &Case<'_>) -> Result<Ours, Error> {
    let (input, expect) = (case.input(), case.expect());
    let (host, _, agent) = one(CONTROLLED, sleeps(input)).await?;
    let mut task = t1();
    if let Some(ms) = input["deadline_ms"].as_i64() {
        task.deadline = Deadline::from_ms(now_ms().saturating_add(ms.saturating_mul(SLOWER)));
    }
    let mut run = agent.run(task).await.map_err(|refusal| refusal.error)?;
    let id = run.id().clone();
    let mut receipts = Vec::new();
    if let Some(after) = input["cancel_after_ms"].as_u64() {
        // Counted from when it has begun, which the original's runs do at once.
        begun(&host, &id).await?;
        tokio::time::sleep(Duration::from_millis(after.saturating_mul(SLOWER.unsigned_abs()))).await;
        for _ in 0..input["cancels"].as_u64().unwrap_or(1) {
            receipts.push(json!(agent.cancel("t1").await?.disposition));
        }
    }
    let outcome = run.outcome().await?;
    let after_end = json!(agent.cancel("t1").await?.disposition);
    let ours = ended(&outcome)
        .equal("what is raised", &json!(errors::raised(&outcome)), &expect["raised"])
        .equal("the events", &told(&events(&host, &id).await?, false), &shown(&expect["events"], false))
        .equal("the receipts", &Value::Array(receipts), &expect["receipts"])
        .equal("the receipt after the end", &after_end, &expect["receipt_after_end"]);
    Ok(match expect.get("result") {
        Some(result) if outcome.is_done() => ours.equal("the result", &json!(outcome.output), result),
        _ => ours,
    })
}

async fn cancel_unknown(case: &Case<'_>) -> Result<Ours, Error> {
    let (_host, agents, agent) = one(CONTROLLED, Settings::new()).await?;
    let id = case.input()["cancel_task_id"].as_str().unwrap_or_default();
    let receipts = json!([agent.cancel(id).await?.disposition]);
    let other = agents.cancel("no-such-agent", id).await?.disposition;
    let ours = Ours::accepted().equal("the receipts", &receipts, &case.expect()["receipts"]);
    Ok(ours.equal("the receipt of an agent that is none", &json!([other]), &case.expect()["receipts"]))
}

/// A task id that is in use.
async fn twice(case: &Case<'_>) -> Result<Ours, Error> {
    let (host, _, agent) = one(CONTROLLED, sleeps(&json!({ "run_ms": 150 }))).await?;
    let mut first = agent.run(t1()).await.map_err(|refusal| refusal.error)?;
    begun(&host, &first.id().clone()).await?;
    let second = agent.run(t1()).await.err().map(|refusal| refusal.error);
    let first = first.outcome().await?;
    let again = match agent.run(t1()).await {
        Ok(mut run) => run.outcome().await?.is_done(),
        Err(_) => false,
    };
    let ours = json!({
        "second_raised": second.as_ref().and_then(errors::original),
        "first_result": first.output,
        "id_reusable_after_end": again,
    });
    Ok(ended(&first).equal("what came of the three", &ours, case.expect()))
}

/// Handlers that fail and handlers that panic.
async fn sink(case: &Case<'_>) -> Result<Ours, Error> {
    let (_host, agents, _) = one("fake", fake_settings()).await?;
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    agents.on("*", |_| Err(Error::internal("handler", "fails on every event")));
    let names = heard.clone();
    agents.on("agent.task.completed", move |event| {
        names.lock().map_err(|_| Error::internal("handler", "poisoned"))?.push(event.name);
        Ok(())
    });
    let mut run = agents.run("fake", Arguments::new().task(t1())).await.map_err(|refusal| refusal.error)?;
    let outcome = run.run().outcome().await?;
    run.told().await;
    let ours = ended(&outcome).equal("the end", &json!(outcome.finish_reason), &case.expect()["finish_reason"]);
    let heard = heard.lock().map(|heard| heard.clone()).unwrap_or_default();
    Ok(ours.equal("what a handler that works was told", &json!(heard), &json!(["agent.task.completed"])))
}

/// The original's own runtime for tests.
async fn fake(case: &Case<'_>) -> Result<Ours, Error> {
    let (input, expect) = (case.input(), case.expect());
    let mut settings = fake_settings();
    let configured = &input["runtime_config"];
    if let Some(features) = configured["capabilities"].as_array() {
        let features: Vec<&str> = features.iter().filter_map(Value::as_str).collect();
        settings.extend([setting("features", features.join(" "))]);
    }
    if let Some(output) = configured["output"].as_str() {
        settings.extend([setting("output", output)]);
    }
    if configured["metadata"].is_object() {
        settings.extend([setting("metadata", configured["metadata"].to_string())]);
    }
    let (host, _, agent) = one("fake", settings).await?;
    let asked = task::from_json(&input["task"], "task").map_err(Error::from)?;
    let mut run = match agent.run(asked).await {
        Ok(run) => run,
        Err(refusal) => {
            let field = refusal.issues.first().map(|issue| task::gate_field(&issue.field));
            let raised = json!({ "type": errors::original(&refusal.error), "field": field });
            let ours =
                Ours::refused(refusal.error.code.to_string()).equal("what is raised", &raised, &expect["raised"]);
            // Nothing has begun, so there is nothing to tell.
            return Ok(ours.equal("the events", &json!([]), &shown(&expect["events"], true)));
        }
    };
    let outcome = run.outcome().await?;
    let events = events(&host, run.id()).await?;
    Ok(ended(&outcome)
        .equal("what is raised", &json!(errors::raised(&outcome)), &expect["raised"])
        .equal("the events", &told(&events, true), &shown(&expect["events"], true))
        .equal("the result", &prose(&result::to_json(&outcome)), &prose(&expect["result"])))
}

/// Arguments of the hub's one call.
async fn hub(case: &Case<'_>) -> Result<Ours, Error> {
    let (_host, agents, _) = one("fake", fake_settings()).await?;
    let mut arguments = Arguments::new();
    let given = |name: &str| case.input().get(name).is_some();
    if !given("goal") && !given("task") && case.input().as_object().is_some_and(|input| !input.is_empty()) {
        // A case about other arguments does not say that there is a goal, too.
        arguments = arguments.argument("goal", json!("g"));
    }
    for (name, value) in case.input().as_object().into_iter().flatten() {
        arguments = match (name.as_str(), value) {
            ("task", Value::Bool(true)) => arguments.task(Task::new("g")),
            // What JSON cannot say is named.
            ("timeout", Value::String(text)) if text.parse::<f64>().is_ok_and(|number| !number.is_finite()) => {
                arguments.timeout_s(text.parse().unwrap_or(f64::NAN))
            }
            ("deadline", Value::String(text)) if text == "future" || text == "past" => {
                let hour = if text == "future" { 3_600_000 } else { -3_600_000 };
                arguments.argument(name, json!(Deadline::from_ms(now_ms() + hour)))
            }
            _ => arguments.argument(name, value.clone()),
        };
    }
    let (ours, told) = match agents.run("fake", arguments).await {
        Ok(mut run) => {
            let outcome = run.run().outcome().await?;
            let told = match errors::raised(&outcome) {
                Some(raised) => json!({ "error_type": raised }),
                None => json!({ "error_type": null, "finish_reason": outcome.finish_reason }),
            };
            (ended(&outcome), told)
        }
        Err(refusal) => {
            let Refusal { error, .. } = *refusal;
            (Ours::refused(error.code.to_string()), json!({ "error_type": errors::original(&error) }))
        }
    };
    Ok(ours.equal("what came of it", &told, case.expect()))
}

fn sleeps(input: &Value) -> Settings {
    Settings::from([
        setting("script", "sleep"),
        setting("run_ms", input["run_ms"].as_u64().unwrap_or(0).saturating_mul(SLOWER.unsigned_abs())),
        setting("swallows", input["swallows_cancels"].as_u64().unwrap_or(0)),
    ])
}

fn t1() -> Task {
    let mut task = Task::new("g");
    task.task_id = Some("t1".to_owned());
    task
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Waits until the guest of a run is at work.
async fn begun(host: &Host, id: &RunId) -> Result<(), Error> {
    let mut records = host.subscribe(id, 1).await?;
    while let Some(more) = records.next().await? {
        if more.iter().any(|record| record.kind.as_str() == "runtime_started") {
            break;
        }
    }
    Ok(())
}

async fn events(host: &Host, id: &RunId) -> Result<Vec<AgentEvent>, Error> {
    let (mut events, mut all) = (host.agent_events(id, 1).await?, Vec::new());
    while let Some(more) = events.next().await? {
        all.extend(more);
    }
    Ok(all)
}

fn ended(outcome: &Outcome) -> Ours {
    if outcome.is_done() { Ours::accepted() } else { Ours::refused(outcome.finish_reason.as_str()) }
}

/// Our events in the shape of the cases, without times.
fn told(events: &[AgentEvent], summaries: bool) -> Value {
    let event =
        |event: &AgentEvent| json!({ "name": event.name, "summary": event.summary, "attributes": event.attributes });
    shown(&events.iter().map(event).collect(), summaries)
}

/// Events as they are compared: what an error says is prose.
fn shown(events: &Value, summaries: bool) -> Value {
    let event = |event: &Value| {
        let mut shown = json!({ "name": event["name"], "attributes": prose(&event["attributes"]) });
        if summaries {
            shown["summary"] = event["summary"].clone();
        }
        shown
    };
    events.as_array().into_iter().flatten().map(event).collect()
}

fn prose(value: &Value) -> Value {
    let mut value = value.clone();
    if let Some(error) = value.get_mut("error").filter(|error| error.as_str().is_some_and(|text| !text.is_empty())) {
        *error = json!("<why>");
    }
    value
}

// ---- registry ----

fn registry(case: &Case<'_>) -> Ours {
    RUNTIME.block_on(async {
        let input = case.input();
        let ours = if let Some(names) = input["normalize"].as_array() {
            Ok(normalize(case, names))
        } else if input["scenario"].is_string() {
            instances(case).await
        } else {
            operations(case).await
        };
        ours.unwrap_or_else(|error| Ours::refused(error.code.to_string()).differs(format!("{error}")))
    })
}

fn normalize(case: &Case<'_>, names: &[Value]) -> Ours {
    let result = |name: &Value| match hub_kind(name.as_str().unwrap_or_default()) {
        Ok(kind) => json!({ "ok": true, "kind": kind }),
        Err(error) => json!({ "ok": false, "error": { "type": errors::original(&error) } }),
    };
    Ours::accepted().equal("the results", &names.iter().map(result).collect(), &case.expect()["results"])
}

/// How often something is made for two runs and two questions.
async fn instances(case: &Case<'_>) -> Result<Ours, Error> {
    let (host, agents, agent) = one("fake", fake_settings()).await?;
    for _ in 0..2 {
        let task = Arguments::new().argument("goal", json!("g"));
        let mut run = agents.run("fake", task).await.map_err(|refusal| refusal.error)?;
        run.run().outcome().await?;
    }
    let after_runs = host.plugins_loaded();
    agent.capabilities().await?;
    agent.availability(Duration::ZERO).await?;
    let ours = json!({
        "instances_after_two_runs": after_runs,
        "instances_after_capabilities_and_availability": host.plugins_loaded(),
    });
    Ok(Ours::accepted().equal("what was made", &ours, case.expect()))
}

async fn operations(case: &Case<'_>) -> Result<Ours, Error> {
    let input = case.input();
    let operations: Vec<&Value> = input["ops"].as_array().into_iter().flatten().collect();
    // Each factory is a profile; names of profiles are stricter than those of factories.
    let mut factories: Vec<&str> = operations.iter().filter_map(|op| op["factory"].as_str()).collect();
    factories.sort_unstable();
    factories.dedup();
    let mut profiles: Vec<(String, &str, Settings)> = Vec::new();
    for (at, factory) in factories.iter().enumerate() {
        let plugin = if *factory == "boom" { "boom" } else { "scripted" };
        profiles.push((format!("factory-{at}"), plugin, Settings::new()));
    }
    for (name, features) in RUNTIMES {
        profiles.push((name.to_owned(), "scripted", Settings::from([setting("features", features)])));
    }
    let host = host(profiles).await?;
    let agents = Agents::new(&host);
    if let Some(default) = input["default_registry"].as_object() {
        let fake = default.get("include_fake") != Some(&json!(false));
        let adapters = default.get("adapters") == Some(&json!(true));
        for (name, _) in RUNTIMES.into_iter().filter(|(name, _)| if *name == "fake" { fake } else { adapters }) {
            agents.register(name, name)?;
        }
    }
    let expected: Vec<&Value> = case.expect()["results"].as_array().into_iter().flatten().collect();
    let mut ours = Ours::accepted();
    for (at, operation) in operations.iter().enumerate() {
        let expected = expected.get(at).copied().unwrap_or(&Value::Null);
        let result = match operate(&agents, &factories, operation).await {
            Ok(result) => result,
            Err(error) => failed(&error, operation, expected),
        };
        ours = ours.equal(&format!("result {at}"), &result, expected);
    }
    Ok(ours)
}

async fn operate(agents: &Agents, factories: &[&str], operation: &Value) -> Result<Value, Error> {
    let name = operation["kind"].as_str().unwrap_or_default();
    let factory = || {
        let at = factories.iter().position(|factory| operation["factory"] == *factory).unwrap_or(factories.len());
        format!("factory-{at}")
    };
    Ok(match operation["op"].as_str().unwrap_or_default() {
        "register" if operation["replace"] == json!(true) => {
            agents.replace(name, &factory())?;
            json!({ "ok": true })
        }
        "register" => {
            agents.register(name, &factory())?;
            json!({ "ok": true })
        }
        "unregister" => {
            agents.unregister(name)?;
            json!({ "ok": true })
        }
        "kinds" => json!({ "ok": true, "kinds": agents.kinds() }),
        "resolve" => {
            let options: BTreeMap<String, Value> =
                operation["options"].as_object().cloned().unwrap_or_else(Map::new).into_iter().collect();
            let agent = agents.resolve_with(name, options).await?;
            let at = agent.profile().strip_prefix("factory-").and_then(|at| at.parse::<usize>().ok());
            // An agent is a value of its own each time: nothing of one reaches another.
            let factory = at.and_then(|at| factories.get(at));
            json!({ "ok": true, "factory": factory, "options": agent.options(), "new_instance": true })
        }
        "capabilities" => {
            let features = agents.resolve(name).await?.capabilities().await?.features;
            json!({ "ok": true, "capabilities": features })
        }
        "availability" => {
            let told = agents.resolve(name).await?.availability(Duration::ZERO).await?;
            json!({ "ok": true, "available": told.status == "ready", "reason": told.reason })
        }
        other => return Err(Error::invalid("unknown-operation", format!("no operation `{other}`"))),
    })
}

/// A refusal in the shape of the cases. What a factory itself raises has no type there; here it is any error that is not
/// one of the registry's own.
fn failed(error: &Error, operation: &Value, expected: &Value) -> Value {
    let registry = ["agent-kind", "agent-unknown", "agent-exists"].contains(&error.code.as_ref());
    if expected["error"]["type"] == "RuntimeError" && !registry {
        return json!({ "ok": false, "error": { "type": "RuntimeError" } });
    }
    let name = errors::original(error);
    let mut told = json!({ "type": name });
    if name == Some("RuntimeNotRegisteredError") {
        told["kind"] = json!(kind(operation["kind"].as_str().unwrap_or_default()).unwrap_or_default());
    }
    json!({ "ok": false, "error": told })
}
