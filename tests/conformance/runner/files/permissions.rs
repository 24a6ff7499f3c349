//! What a task's permissions are in a vendor's words: the real components, each run once with a scripted program in the
//! vendor's place, and what that program was started with and told.
//!
//! File: `ark-permission-mapping.json`.
//!
//! Compared as meanings, as in the files of each adapter: the words of a vendor's Python client are those that it puts on the
//! wire. Antigravity's `allow_all` is that the harness itself refuses no tool that is on; without a policy it must not be let
//! do everything either. Which of the tools ask first is ours and in the adapter's own tests.

use std::path::Path;

use midplane::core::Error;
use serde_json::{Map, Value, json};

use super::adapter::{self, Played};
use super::{antigravity, claude, codex};
use crate::case::{Case, Check, Ours};

pub(crate) const CHECKS: &[(&str, Check)] = &[("ark-permission-mapping.json", check)];

fn check(case: &Case<'_>) -> Ours {
    adapter::verdict(mapped(case))
}

async fn mapped(case: &Case<'_>) -> Result<Ours, Error> {
    let expect = case.expect();
    let mut input = json!({
        "task": { "goal": "g", "task_id": "t1", "permissions": case.input()["permissions"] },
        "adapter_config": {},
    });
    // A turn that ends well, in the form of the vendor's own file of cases.
    let adapter = case.input()["adapter"].as_str().unwrap_or_default();
    let (name, turn) = match adapter {
        "claude" => (
            "vendor_stream",
            json!([{ "type": "result", "subtype": "success", "is_error": false, "num_turns": 1, "session_id": "s", "result": "ok" }]),
        ),
        "codex" => ("vendor_turn_result", json!({ "status": "completed", "final_response": "ok" })),
        "antigravity" => ("vendor_chunks", json!([{ "type": "text", "text": "ok" }])),
        other => return Ok(Ours::refused("unknown-adapter").differs(format!("no adapter `{other}`"))),
    };
    input[name] = turn;
    let raw = json!({ "name": case.name, "input": input, "expect": expect });
    let whole = Case::new(&raw).map_err(|why| Error::internal("case", why))?;
    let input = whole.input();
    let played = match adapter {
        "claude" => {
            let script = claude::script(input);
            adapter::play(&whole, claude::KIND, "claude", &script, async |program| claude::host(program, input).await)
                .await?
        }
        "codex" => {
            let (script, config) = (codex::script(input), &input["adapter_config"]);
            adapter::play(&whole, codex::KIND, "codex", &script, async |program| codex::host(program, config).await)
                .await?
        }
        _ => {
            let (script, config) = (antigravity::script(input), &input["adapter_config"]);
            let host = async |program: &Path| antigravity::host(program, config).await;
            adapter::play(&whole, antigravity::KIND, "localharness", &script, host).await?
        }
    };
    let Played { outcome, records, .. } = match played {
        Ok(played) => played,
        Err(refused) => return Ok(refused),
    };
    let ours = match &outcome.error {
        None => Ours::accepted(),
        Some(error) => Ours::refused(error.code.to_string()).differs(format!("the run failed: {error}")),
    };
    if let Some(raised) = expect.get("raised") {
        return Ok(ours.differs(format!("ours is run, the original raised {raised}")));
    }
    let (asked, wanted) = match adapter {
        "claude" => of_claude(&records, expect),
        "codex" => of_codex(&records, expect),
        _ => of_antigravity(&records, expect),
    };
    Ok(ours.equal("what was asked of the vendor", &asked, &wanted))
}

fn of_claude(records: &[Value], expect: &Value) -> (Value, Value) {
    let names = ["permission_mode", "allowed_tools", "disallowed_tools"];
    let original = claude::asked_by_original(&json!({ "options": expect }));
    (fields(&claude::asked_by_ours(records), &names), fields(&original, &names))
}

fn of_codex(records: &[Value], expect: &Value) -> (Value, Value) {
    let mut params = json!({ "approval_mode": expect["approval_mode"], "sandbox": expect["sandbox"] });
    if params["sandbox"] == "full-access" {
        params["sandbox"] = json!("danger-full-access");
    }
    let wanted =
        json!({ "config": { "config_overrides": expect["config_overrides"] }, "thread_start": params, "turn": params });
    let names = ["approvalPolicy", "approvalsReviewer", "sandbox"];
    let shown = |asked: &Value, is_without_plugins: bool| {
        json!({
            "thread": fields(&asked["thread"], &names),
            "turn": fields(&asked["turn"], &names),
            "config": asked["config"],
            "without its plugins": is_without_plugins,
        })
    };
    // Both comparisons of configurations leave it out.
    let off = json!("features.plugins=false");
    let has = |list: &Value| list.as_array().is_some_and(|list| list.contains(&off));
    let argv = records.first().map(|record| &record["argv"]).unwrap_or(&Value::Null);
    let ours = shown(&codex::asked_by_ours(records, |_| None), has(argv));
    (ours, shown(&codex::asked_by_original(&wanted), has(&expect["config_overrides"])))
}

fn of_antigravity(records: &[Value], expect: &Value) -> (Value, Value) {
    let asked = antigravity::asked_by_ours(records, &Value::Null);
    let config = records.iter().map(|record| &record["read"]["config"]).find(|config| config.is_object());
    let config = config.unwrap_or(&Value::Null);
    let switches = &config["harnessSideTools"];
    let on = |name: &str| switches[name]["enabled"] == true;
    // `*` of no server: everything, also what is not on.
    let rules = config["policyConfig"]["rules"].as_array().into_iter().flatten();
    let everything = |rule: &Value| {
        rule["tool"] == "*" && rule["serverName"].is_null() && rule["decision"] == "POLICY_DECISION_ALLOW"
    };
    let has_policy = !expect["policies"].as_array().is_some_and(Vec::is_empty);
    let ours = json!({
        "tools": asked["tools"],
        "delegation": on("subagents") || on("runWorkflow"),
        "refused": asked["refused"],
        "everything without a policy": !has_policy && rules.into_iter().any(everything),
    });
    // That one has no switch: it is there with a schema.
    let tools = expect["enabled_tools"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let tools: std::collections::BTreeSet<&str> = tools.filter(|tool| *tool != "finish").collect();
    let wanted = json!({
        "tools": tools,
        "delegation": expect["enable_subagents"],
        "refused": [],
        "everything without a policy": false,
    });
    (ours, wanted)
}

/// These fields of an object, as far as they are there.
fn fields(of: &Value, names: &[&str]) -> Value {
    let there = names.iter().filter(|name| !of[**name].is_null());
    Value::Object(there.map(|name| ((*name).to_owned(), of[*name].clone())).collect::<Map<_, _>>())
}
