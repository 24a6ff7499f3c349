//! What an adapter refuses before anything starts.
//!
//! File: `ark-gating-adapters.json`.
//!
//! Each adapter is two profiles of one host: one that declares the original's flags, which are data of these tests, and the
//! real plugin, whose own refusals follow. Ours declare more than the originals (MCP servers with Codex, its network), so a flag
//! is the test's to give, and all else the product's. What the configuration of the vendor's program would do to a named
//! profile is known to that program alone: there the real component is run, and must refuse before a thread is begun.

use std::collections::BTreeMap;
use std::path::Path;

use midplane::config::ProfileConfig;
use midplane::core::agent::{errors, task};
use midplane::core::capability;
use midplane::core::task::Issue;
use midplane::core::{Error, PluginName, ProfileName};
use midplane::{Config, FIRST_PARTY, Host};
use serde_json::{Map, Value, json};

use super::control::{PLUGINS, RUNTIMES};
use super::{adapter, codex};
use crate::case::{Case, Check, Ours};

pub(crate) const CHECKS: &[(&str, Check)] = &[("ark-gating-adapters.json", check)];

/// The names of adapters in the cases, their kinds, and our plugins.
const ADAPTERS: [(&str, &str, Option<&str>); 4] = [
    ("claude", "claude-agent-sdk", Some("claude-code")),
    ("codex", "codex-agent-sdk", Some("codex")),
    ("antigravity", "antigravity-agent-sdk", Some("antigravity")),
    ("fake", "fake", None),
];
/// The profile with the plugin; the other has the name of its kind.
const REAL: &str = "real";

fn check(case: &Case<'_>) -> Ours {
    adapter::verdict(refused(case))
}

async fn refused(case: &Case<'_>) -> Result<Ours, Error> {
    let (input, expect) = (case.input(), case.expect());
    let asked = task::from_json(&input["task"], "task").map_err(Error::from)?;
    let Some((_, kind, plugin)) = ADAPTERS.into_iter().find(|(name, ..)| input["adapter"] == *name) else {
        return Ok(Ours::refused("unknown-adapter").differs("no such adapter"));
    };
    let host = host(kind, plugin, settings(&input["adapter_config"])).await?;
    let mut issues = host.issues(kind, &asked).await?;
    if plugin.is_some() {
        issues = capability::all(issues, host.issues(REAL, &asked).await?);
    }
    if kind == codex::KIND && issues.is_empty() && asked.permissions.native_profile.is_some() {
        issues.extend(at_start(case).await?);
    }
    let error = capability::refusal(kind, &issues);
    let fields: Vec<Value> = issues.iter().map(|issue| json!(task::gate_field(&issue.field))).collect();
    let told =
        error.as_ref().map(|error| json!({ "type": errors::original(error), "kind": kind, "field": fields.first() }));
    let ours = match &error {
        None => Ours::accepted(),
        Some(error) => Ours::refused(error.code.to_string()),
    };
    let listed: Vec<Value> = fields.iter().map(|field| json!({ "field": field })).collect();
    Ok(ours
        .equal("supported", &json!(error.is_none()), &expect["supported"])
        .equal("the issues", &json!(listed), &expect["issues"])
        .equal("the error", &told.unwrap_or_default(), &expect["error"])
        .equal("the kind", &json!(kind), &expect["kind"]))
}

/// A host with the profile that has the flags, and that of the plugin.
async fn host(kind: &str, plugin: Option<&str>, settings: BTreeMap<String, Value>) -> Result<Host, Error> {
    let profile = |plugin: &str, settings| {
        let plugin = Some(PluginName::new(plugin)?);
        Ok::<_, Error>(ProfileConfig { plugin, settings, ..ProfileConfig::default() })
    };
    let flags = RUNTIMES.iter().find(|(name, _)| *name == kind).map_or("", |(_, flags)| *flags);
    let flags = BTreeMap::from([("features".to_owned(), json!(flags))]);
    let mut config = Config::default();
    config.profiles.insert(ProfileName::new(kind)?, profile("scripted", flags)?);
    if let Some(plugin) = plugin {
        config.profiles.insert(ProfileName::new(REAL)?, profile(plugin, settings)?);
    }
    // Compiled once for all cases.
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance-cache");
    let mut builder = Host::builder().config(config).cache(cache);
    let line = plugin.map(|plugin| format!("name = \"{plugin}\""));
    let is_ours = |manifest: &str| line.as_ref().is_some_and(|line| manifest.contains(line));
    for plugin in PLUGINS.iter().take(1).chain(FIRST_PARTY.iter().filter(|plugin| is_ours(plugin.manifest))) {
        builder = builder.plugin(*plugin);
    }
    builder.open().await
}

/// What the constructor of an adapter is given there, as settings.
fn settings(config: &Value) -> BTreeMap<String, Value> {
    let mut settings = BTreeMap::new();
    for (theirs, ours) in [("default_model", "model"), ("supported_models", "models"), ("vertex", "vertex")] {
        if let Some(value) = config.get(theirs).filter(|value| !value.is_null()) {
            settings.insert(ours.to_owned(), value.clone());
        }
    }
    if let Some(overrides) = config["config_overrides"].as_array() {
        // What is no TOML can only stand among the arguments, as a person would write it there.
        let (mut table, mut args) = (Map::new(), Vec::new());
        for text in overrides.iter().filter_map(Value::as_str) {
            match (toml::from_str::<Value>(text), codex::override_of(text)) {
                (Ok(_), Some((name, value))) => drop(table.insert(name, value)),
                _ => args.extend(["--config", text]),
            }
        }
        settings.insert("config".to_owned(), Value::Object(table));
        settings.insert("args".to_owned(), json!(args));
    }
    settings
}

/// What the component refuses when its program has told of its own configuration.
async fn at_start(case: &Case<'_>) -> Result<Option<Issue>, Error> {
    let mut input = case.input().clone();
    input["vendor_turn_result"] = json!({ "status": "completed", "final_response": "ok" });
    let raw = json!({ "name": case.name, "input": input, "expect": {} });
    let whole = Case::new(&raw).map_err(|why| Error::internal("case", why))?;
    let (script, config) = (codex::script(&input), &input["adapter_config"]);
    let host = async |program: &Path| codex::host(program, config).await;
    let played = adapter::play(&whole, codex::KIND, "codex", &script, host).await?;
    let Ok(played) = played else { return Err(Error::internal("case", "a task without issues was refused")) };
    let begun = played.records.iter().any(|record| record["read"]["method"] == "thread/start");
    match played.outcome.error {
        None if begun => Ok(None),
        Some(error) if error.code == "native-profile" && !begun => {
            Ok(Some(Issue::new("permissions.native_profile", error.message)))
        }
        error => Err(error.unwrap_or_else(|| Error::internal("case", "the run ended before a thread was begun"))),
    }
}
