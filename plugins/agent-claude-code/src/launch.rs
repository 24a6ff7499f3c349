//! How the program is started and what it is told before the prompt.
//!
//! Arguments can be read by every user of the machine, so nothing that a person wrote for the model stands there: the
//! system prompt, the schema and the servers go through stdin, in the requests that the vendor's own TypeScript SDK
//! uses. The token goes through the environment, as a placeholder. On the argument vector are words of the task that the
//! program takes nowhere else: model, effort, limits, names of tools, and the id of a conversation.

use midplane_plugin::agent::{Attachment, Task};
use midplane_plugin::host::{Command, Host};
use midplane_plugin::settings::{self, Endpoint};
use midplane_plugin::{Error, Result, Value, json};

use crate::rules::{Rules, permission_mode};

/// The oldest version that takes all of this: its `initialize` has the system prompt as a list.
pub const VERSION_MIN: [u64; 3] = [2, 1, 112];
/// Above every version: the program has no known version that does not fit.
pub const VERSION_BELOW: [u64; 3] = [3, 0, 0];
/// How to get the program.
pub const INSTALL: &str = "install it with `npm install -g @anthropic-ai/claude-code`";
/// The id of the one hook.
pub const HOOK: &str = "midplane-tools";

/// The settings of the profile.
pub struct Setup {
    /// The program.
    pub program: String,
    /// The model, from the task or the settings.
    pub model: Option<String>,
    /// Whether the vendor is reached through the host.
    pub endpoint: bool,
    /// Which of its settings files the program reads.
    pub setting_sources: Vec<String>,
    /// Whether the goal is left as it is written.
    pub verbatim: bool,
}

impl Setup {
    /// Reads the settings.
    pub fn read(host: &dyn Host, model: Option<&str>) -> Result<Self> {
        let setting_sources: Vec<String> = settings::parsed_or(host, "setting_sources", Vec::new())?;
        sources(&setting_sources)
            .map_err(|why| Error::invalid("setting", format!("setting `setting_sources` {why}")))?;
        let model = model.map(str::to_owned).or_else(|| settings::text(host, "model"));
        Ok(Self {
            program: settings::text_required(host, "program")?,
            model: model.filter(|model| !model.trim().is_empty()),
            endpoint: settings::parsed_or(host, "endpoint", true)?,
            setting_sources,
            verbatim: settings::parsed_or(host, "verbatim_prompts", false)?,
        })
    }

    /// Takes what a task's metadata says about settings files, which agent-runtime-kit reads there, too.
    pub fn with_metadata(mut self, metadata: &str) -> Result<Self> {
        let metadata: Value = serde_json::from_str(metadata)?;
        if let Some(list) = metadata.get("setting_sources") {
            let list: Vec<String> = serde_json::from_value(list.clone())?;
            sources(&list).map_err(|why| Error::invalid("task", format!("`metadata.setting_sources` {why}")))?;
            self.setting_sources = list;
        }
        Ok(self)
    }

    /// The command of a task.
    #[must_use]
    pub fn command(&self, task: &Task, rules: &Rules, endpoint: Option<&Endpoint>) -> Command {
        let mut argv = vec![self.program.clone()];
        argv.extend(["--output-format=stream-json", "--input-format=stream-json", "--verbose"].map(str::to_owned));
        argv.extend(["--include-partial-messages", "--permission-prompt-tool=stdio"].map(str::to_owned));
        // A repository that is worked on may bring servers and settings of its own; only what the operator names counts.
        argv.push("--strict-mcp-config".to_owned());
        // With `=` a value that begins with a dash stays a value.
        let mut option = |name: &str, value: &str| argv.push(format!("--{name}={value}"));
        option("setting-sources", &self.setting_sources.join(","));
        option("permission-mode", permission_mode(&task.permissions));
        if let Some(tools) = rules.tools() {
            option("tools", &tools);
        }
        if !task.permissions.disallowed_tools.is_empty() {
            option("disallowedTools", &task.permissions.disallowed_tools.join(","));
        }
        if let Some(model) = &self.model {
            option("model", model);
        }
        if let Some(effort) = &task.reasoning_effort {
            option("effort", effort);
        }
        if let Some(rounds) = task.max_rounds {
            option("max-turns", &rounds.to_string());
        }
        if let Some(budget) = task.budget_usd {
            option("max-budget-usd", &budget.to_string());
        }
        if let Some(session) = &task.session {
            option("resume", &session.id);
        }
        let mut env = vec![
            ("CLAUDE_CODE_ENTRYPOINT", "midplane"),
            // It says when it is idle, which is when a run with work in the background is over.
            ("CLAUDE_CODE_SDK_READS_SESSION_STATE", "1"),
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
        ];
        if let Some(endpoint) = endpoint {
            env.push(("ANTHROPIC_BASE_URL", &endpoint.url));
            env.push(("ANTHROPIC_AUTH_TOKEN", &endpoint.token));
        }
        let env = env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Command { argv, cwd: None, env, secret_env: Vec::new() }
    }

    /// The prompt.
    #[must_use]
    pub fn prompt(&self, text: &str) -> Value {
        let mut prompt = json!({
            "type": "user",
            "session_id": "",
            "message": { "role": "user", "content": text },
            "parent_tool_use_id": null,
        });
        if self.verbatim {
            prompt["client_composed"] = json!(true);
        }
        prompt
    }
}

/// Checks the names of settings files.
fn sources(names: &[String]) -> Result<(), String> {
    let other = names.iter().find(|name| !["user", "project", "local"].contains(&name.as_str()));
    other.map_or(Ok(()), |other| Err(format!("has `{other}`; known are `user`, `project` and `local`")))
}

/// The first request: hooks, system prompt and schema. Errors: a schema that is no JSON.
pub fn initialize(task: &Task, rules: &Rules) -> Result<Value> {
    let mut request = json!({ "subtype": "initialize", "hooks": null });
    if rules.need_hook() {
        // A hook that cannot be asked must stop the call, not let it pass.
        let hook = json!({ "matcher": null, "hookCallbackIds": [HOOK], "onFailure": "block" });
        request["hooks"] = json!({ "PreToolUse": [hook] });
    }
    let attached = attached(&task.attachments);
    match (&task.system, attached) {
        (Some(system), attached) => {
            let parts: Vec<&str> = std::iter::once(system.as_str()).chain(attached.as_deref()).collect();
            request["systemPrompt"] = json!(parts);
            // A conversation that is gone on with would keep the prompt that it began with.
            request["systemPromptSnapshot"] = json!(false);
        }
        (None, Some(attached)) => request["appendSystemPrompt"] = json!(attached),
        (None, None) => {}
    }
    if let Some(schema) = &task.output_schema {
        request["jsonSchema"] = serde_json::from_str(schema)?;
    }
    Ok(request)
}

/// The request that hands over the task's servers; unset when there are none.
#[must_use]
pub fn servers(task: &Task) -> Option<Value> {
    let servers = task.mcp_servers.iter().map(|server| {
        let (program, args) = server.argv.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
        let env: serde_json::Map<String, Value> =
            server.env.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        (server.name.clone(), json!({ "type": "stdio", "command": program, "args": args, "env": env }))
    });
    let servers: serde_json::Map<String, Value> = servers.collect();
    (!servers.is_empty()).then(|| json!({ "subtype": "mcp_set_servers", "servers": servers }))
}

/// What the program is told of the files that the host has staged.
fn attached(attachments: &[Attachment]) -> Option<String> {
    let lines = |kind: &str, intro: &str| {
        let of_kind = attachments.iter().filter(|attachment| attachment.kind == kind);
        let lines: String =
            of_kind.map(|attachment| format!("\n- `{}` ({})", attachment.path, attachment.name)).collect();
        (!lines.is_empty()).then(|| format!("{intro}{lines}"))
    };
    let parts = [
        lines("instructions", "Read these instructions before anything else, and follow them:"),
        lines("skill", "These folders hold skills. When one fits the task, read its `SKILL.md` and follow it:"),
        lines("file", "These files were given along with the task:"),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join("\n\n"))
}
