//! An agent without a model: it runs a playbook of tool calls, given as the goal of the task, on the workspace.
//!
//! For chores that are always done the same way, and for CI: it needs no account and no network. The language is
//! described in the README of this crate.
//!
//! # Layout
//! - this file: the agent
//! - [`source`]: YAML to a tree that knows the line and column of everything
//! - [`playbook`], [`check`]: what a playbook is, and all that can be wrong with one
//! - [`expr`]: expressions and templates
//! - [`execute`]: the steps
//! - [`limits`]: every bound
//!
//! # What it never does
//! It opens no file and starts no program: each step is a tool of the host, gated and audited there. It sends nothing.

#![forbid(unsafe_code)]

pub mod check;
pub mod execute;
pub mod expr;
pub mod limits;
pub mod playbook;
pub mod source;

#[cfg(test)]
mod tests;

use midplane_plugin::agent::{self, AvailabilityReport, CapabilitySet, Issue, Outcome, Readiness, Task, Usage, issue};
use midplane_plugin::error::cut;
use midplane_plugin::{Agent, Error, ErrorKind, Events, Host, Result};
use serde_json::{Value as Json, json};

use execute::{Execution, Stop};
use expr::{Engine, Scope, from_json};
use limits::OUTPUT_BYTES_MAX;
use playbook::{Action, OnError, Playbook, Problem, Step};

/// What the agent can do. `budget`: a playbook costs nothing, so every budget is kept.
const FEATURES: [&str; 10] = [
    "mcp_support",
    "working_directory",
    "structured_output",
    "streaming",
    "tool_audit",
    "cancellation",
    "budget",
    "tool_filters",
    "mcp_server_env",
    "files",
];

/// The agent.
pub struct PlaybookAgent;

impl Agent for PlaybookAgent {
    fn capabilities(_host: &dyn Host) -> CapabilitySet {
        agent::features(&FEATURES)
    }

    fn availability(_host: &dyn Host, _probe_timeout_ms: u32) -> AvailabilityReport {
        agent::availability(Readiness::Ready, "available", "a playbook needs no account and no program")
    }

    fn validate(_host: &dyn Host, task: &Task) -> Vec<Issue> {
        let mut issues = Vec::new();
        let playbook = match Playbook::parse(&task.goal, &Engine::new()) {
            Ok(playbook) => Some(playbook),
            Err(problems) => {
                issues.extend(problems.iter().map(|problem| issue("goal", problem.to_string())));
                None
            }
        };
        let without_model = [
            ("system", task.system.as_ref().is_some_and(|text| !text.trim().is_empty())),
            ("model", task.model.is_some()),
            ("reasoning_effort", task.reasoning_effort.is_some()),
        ];
        for (field, given) in without_model {
            if given {
                issues.push(issue(field, "a playbook runs without a model; leave it out"));
            }
        }
        if task.permissions.network.is_some() {
            issues.push(issue("permissions.network", "a playbook has no network to switch; leave it out"));
        }
        if task.permissions.native_profile.is_some() {
            issues.push(issue("permissions.native_profile", "a playbook has no permission profiles; leave it out"));
        }
        if task.session.is_some() {
            issues.push(issue("session_id", "a playbook starts anew each time; there is nothing to continue"));
        }
        if task.output_schema.is_some() && playbook.as_ref().is_some_and(|playbook| playbook.result.is_none()) {
            issues.push(issue("output_schema", "the playbook has no `result`; add it, or leave the schema out"));
        }
        for (index, attachment) in task.attachments.iter().enumerate() {
            if attachment.kind != "file" {
                issues.push(issue(
                    format!("attachments[{index}].kind"),
                    format!("there is no model that could read an attachment of kind `{}`", attachment.kind),
                ));
            }
        }
        if let Some(Err(error)) = playbook.as_ref().map(|playbook| overrides(playbook, &task.metadata)) {
            issues.push(issue("metadata", error.message));
        }
        issues
    }

    fn run(host: &dyn Host, task: Task) -> Result<Outcome> {
        let engine = Engine::new();
        let playbook = Playbook::parse(&task.goal, &engine).map_err(|problems| malformed(&problems))?;
        let scope = scope(&playbook, &task, &engine)?;
        let mut events = Events::new(host);
        events.started(None, None)?;
        for attachment in &task.attachments {
            events.attached(attachment)?;
        }
        events.notification("plan", json!({ "text": plan(&playbook) }))?;
        events.flush()?;
        check_tools(host, &playbook)?;
        let mut execution = Execution::new(host, &engine, events, scope);
        let end = execution.playbook(&playbook);
        let mut outcome = outcome(end, &playbook, &engine, &mut execution);
        if let Err(error) = execution.events.flush()
            && outcome.finish_reason == "done"
        {
            outcome.finish_reason = "failed".into();
            outcome.error = Some(error);
        }
        Ok(outcome)
    }
}

midplane_plugin::export_agent!(PlaybookAgent);

fn malformed(problems: &[Problem]) -> Error {
    let mut message = problems.first().map_or_else(|| "the playbook is malformed".to_owned(), Problem::to_string);
    if problems.len() > 1 {
        message.push_str(&format!(" (and {} more)", problems.len() - 1));
    }
    Error::invalid("playbook", message)
}

/// The variables at the start: the playbook's own, in their order, each replaced by the caller's where there is one.
fn scope(playbook: &Playbook, task: &Task, engine: &Engine) -> Result<Scope> {
    let given = overrides(playbook, &task.metadata)?;
    let attachments: Vec<Json> = task
        .attachments
        .iter()
        .map(|a| json!({ "kind": a.kind, "name": a.name, "path": a.path, "digest": a.digest }))
        .collect();
    let about = json!({ "id": task.task_id, "run_id": task.run_id, "workspace": task.working_directory });
    let mut scope = Scope::from([
        ("task".to_owned(), from_json(&about)),
        ("attachments".to_owned(), from_json(&Json::Array(attachments))),
        ("errors".to_owned(), from_json(&json!([]))),
    ]);
    for (name, value) in &playbook.vars {
        let value = match given.get(name) {
            Some(value) => value.clone(),
            None => engine
                .fill(value, &scope)
                .map_err(|error| Error::invalid("playbook", format!("field `vars.{name}`: {error}")))?,
        };
        scope.insert(name.clone(), from_json(&value));
    }
    Ok(scope)
}

/// The caller's variables, from `vars` of the task's metadata. Only those that the playbook has can be given: a
/// misspelt one would be a run with the wrong value.
fn overrides(playbook: &Playbook, metadata: &str) -> Result<serde_json::Map<String, Json>> {
    let metadata: Json = serde_json::from_str(metadata)?;
    let vars = match &metadata["vars"] {
        Json::Null => return Ok(serde_json::Map::new()),
        Json::Object(vars) => vars.clone(),
        _ => return Err(Error::invalid("playbook-vars", "`metadata.vars` must be an object")),
    };
    for name in vars.keys() {
        if !playbook.vars.iter().any(|(known, _)| known == name) {
            let known: Vec<String> = playbook.vars.iter().map(|(name, _)| format!("`{name}`")).collect();
            let error = Error::invalid("playbook-vars", format!("the playbook has no variable `{name}`"));
            return Err(if known.is_empty() { error } else { error.hint(&format!("it has {}", known.join(", "))) });
        }
    }
    Ok(vars)
}

fn plan(playbook: &Playbook) -> String {
    let lines = playbook.steps.iter().map(|step| format!("{}. {}", step.number, step.name));
    cut(std::iter::once(playbook.name.clone()).chain(lines).collect::<Vec<_>>().join("\n"), 16 * 1024)
}

/// A tool that a step is sure to need and that this run does not offer ends the run before anything has happened. A
/// step that may be skipped is judged when it runs: a dry run needs no right to write.
fn check_tools(host: &dyn Host, playbook: &Playbook) -> Result<()> {
    let offered: Vec<String> = host.offered()?.into_iter().map(|tool| tool.name).collect();
    match missing_tool(&playbook.steps, &offered) {
        None => Ok(()),
        Some((step, tool)) => {
            let names: Vec<String> = offered.iter().map(|name| format!("`{name}`")).collect();
            let hint = check::near(tool, offered.iter().map(String::as_str)).unwrap_or_else(|| {
                format!(
                    "it offers {}; writing needs a writable workspace, and `shell` a grant of its own",
                    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
                )
            });
            Err(Error::new(
                ErrorKind::Denied,
                "tool-not-offered",
                format!("step {} `{}` needs the tool `{tool}`, which this run does not offer", step.number, step.name),
            )
            .hint(&hint))
        }
    }
}

fn missing_tool<'p>(steps: &'p [Step], offered: &[String]) -> Option<(&'p Step, &'p str)> {
    // A loop may have no item, and a step that may fail has said what happens then.
    let sure = |step: &&Step| step.when.is_none() && step.each.is_none() && matches!(step.on_error, OnError::Fail);
    steps.iter().filter(sure).find_map(|step| match &step.action {
        Action::Tool { tool, .. } if !offered.contains(tool) => Some((step, tool.as_str())),
        Action::Steps(inner) => missing_tool(inner, offered),
        _ => None,
    })
}

fn outcome(end: Result<(), Stop>, playbook: &Playbook, engine: &Engine, execution: &mut Execution<'_>) -> Outcome {
    let counts = execution.counts;
    let summary = format!(
        "playbook `{}`: {} run, {} skipped, {} tool calls, {} failures passed over",
        playbook.name, counts.run, counts.skipped, counts.calls, counts.errors
    );
    let mut outcome = match end {
        Ok(()) => finish(playbook, engine, execution, &summary).unwrap_or_else(Outcome::failed),
        Err(Stop::Ended(error)) => Outcome::failed(error),
        Err(Stop::Failed(failure)) => {
            let kind = if failure.code == "expression" { ErrorKind::Invalid } else { ErrorKind::Conflict };
            Outcome::failed(Error::new(kind, failure.code, format!("{}: {}", failure.step, failure.message)))
        }
    };
    if outcome.finish_reason != "done" && outcome.output.is_empty() {
        outcome.output = summary;
    }
    outcome.artifacts = std::mem::take(&mut execution.artifacts);
    // No model, so no turn and no cost: these are known to be zero, and `max-rounds` is always kept.
    outcome.usage = Usage {
        input_tokens: Some(0),
        output_tokens: Some(0),
        cache_read_tokens: Some(0),
        cache_creation_tokens: Some(0),
        total_tokens: Some(0),
        cost_usd: Some(0.0),
    };
    outcome.metadata = json!({
        "playbook": playbook.name,
        "steps_run": counts.run,
        "steps_skipped": counts.skipped,
        "tool_calls": counts.calls,
        "errors": counts.errors,
    })
    .to_string();
    outcome
}

fn finish(playbook: &Playbook, engine: &Engine, execution: &Execution<'_>, summary: &str) -> Result<Outcome> {
    let failed = |field: &str, error: String| Error::invalid("expression", format!("field `{field}`: {error}"));
    let output = match &playbook.output {
        Some(text) => engine.text(text, &execution.scope).map_err(|error| failed("output", error))?,
        None => summary.to_owned(),
    };
    if output.len() > OUTPUT_BYTES_MAX {
        return Err(Error::limit(
            "output-size",
            format!("the output has {} bytes, at most {OUTPUT_BYTES_MAX} are allowed", output.len()),
        )
        .hint("write it to a file"));
    }
    let result = match &playbook.result {
        Some(value) => Some(engine.fill(value, &execution.scope).map_err(|error| failed("result", error))?),
        None => None,
    };
    Ok(Outcome { parsed_output: result.map(|value| value.to_string()), ..Outcome::done(output) })
}
