//! What the harness is told at the start: the settings, and the task in its words.

use midplane_plugin::agent::{self, FilesystemAccess, Issue, PermissionMode, Task};
use midplane_plugin::settings::{self, Endpoint};
use midplane_plugin::{Error, Host, Result, Value, json};
use uuid::Uuid;

use crate::tools::{self, Decision, Tool};

/// The model where neither task nor settings name one.
const MODEL: &str = "gemini-3.8-flash";
/// Shortest id of a conversation that the harness takes, in bytes; its own are this long.
const ID_BYTES_MIN: usize = 32;
/// Longest that is handed on.
const ID_BYTES_MAX: usize = 256;
/// Below this the ids of callers are mapped, so that one name always means one conversation.
const NAMED: Uuid = Uuid::from_u128(0x7e47_bc2d_a8c4_4d2b_9c27_3aee_f321_42ba);
/// The hooks by which each call of a tool is told with its id and its end.
const HOOKS: [&str; 3] = ["LIFECYCLE_HOOK_PRE_TOOL", "LIFECYCLE_HOOK_POST_TOOL", "LIFECYCLE_HOOK_ON_TOOL_ERROR"];
/// Words of a schema that are looked up from its root, and so stay there when it is wrapped.
const DEFINITIONS: [&str; 2] = ["$defs", "definitions"];

/// The settings of the profile.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The harness program.
    pub program: String,
    /// The model of `generate_image`.
    image_model: String,
    /// Where conversations are kept; empty keeps none.
    pub storage_directory: String,
    sandbox: bool,
    /// Whether the host's own sandbox is around the program: the harness's would mount, and cannot inside of it.
    confined: bool,
    vertex: bool,
    model_calls_max: u32,
    tool_calls_max: u32,
    total_tokens_max: u64,
    retries_max: u32,
}

impl Settings {
    /// Reads and checks them.
    pub fn read(host: &dyn Host) -> Result<Self> {
        let read = Self {
            program: settings::text_required(host, "program")?,
            image_model: settings::text(host, "image_model").unwrap_or_default(),
            storage_directory: storage_directory(host)?,
            sandbox: settings::parsed_or(host, "sandbox", true)?,
            confined: settings::text(host, "host.sandbox").as_deref() == Some("host"),
            vertex: settings::parsed_or(host, "vertex", false)?,
            model_calls_max: settings::parsed_or(host, "model_calls_max", 0)?,
            tool_calls_max: settings::parsed_or(host, "tool_calls_max", 0)?,
            total_tokens_max: settings::parsed_or(host, "total_tokens_max", 0)?,
            retries_max: settings::parsed_or(host, "retries_max", 3)?,
        };
        let base_url = settings::text_required(host, "base_url")?;
        if !base_url.starts_with("https://") && !base_url.starts_with("http://") {
            let message = format!("setting `base_url` is `{base_url}`, not an `https` or `http` URL");
            return Err(Error::invalid("setting", message));
        }
        Ok(read)
    }
}

/// The model of a task, and why it may not be used.
pub fn model(host: &dyn Host, task: &Task) -> Result<String, Issue> {
    agent::model(host, task, Some(MODEL)).map(Option::unwrap_or_default)
}

/// Which conversation a run belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conversation {
    /// A new one; the harness makes up its id.
    New,
    /// One of the harness's own ids: it must exist.
    Vendor(String),
    /// A caller's own short name, which the harness would not take: made on its first use.
    Named {
        /// As the caller knows it.
        name: String,
        /// As the harness knows it.
        id: String,
    },
}

impl Conversation {
    /// That of a task.
    pub fn of(task: &Task) -> Result<Self> {
        let Some(session) = &task.session else { return Ok(Self::New) };
        let id = &session.id;
        if id.len() < ID_BYTES_MIN {
            let mapped = Uuid::new_v5(&NAMED, id.as_bytes()).to_string();
            return Ok(Self::Named { name: id.clone(), id: mapped });
        }
        // The id becomes the name of a file of the harness.
        if id.len() > ID_BYTES_MAX || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
            let message =
                "an id of the harness has letters, digits, `-` and `_`, at most 256; give the one of an outcome";
            return Err(Error::invalid("session", message));
        }
        Ok(Self::Vendor(id.clone()))
    }

    /// The id that the caller knows, where it knows one.
    #[must_use]
    pub fn known(&self) -> Option<&str> {
        match self {
            Self::New => None,
            Self::Vendor(id) | Self::Named { name: id, id: _ } => Some(id),
        }
    }
}

/// The first frame on the socket. The endpoint's token is a placeholder that the host replaces while it sends.
#[must_use]
pub fn start(
    settings: &Settings,
    task: &Task,
    model: &str,
    tools: &[&Tool],
    conversation: &Conversation,
    endpoint: &Endpoint,
) -> Value {
    let sandboxed =
        settings.sandbox && !settings.confined && task.permissions.filesystem != FilesystemAccess::FullAccess;
    let mut config = json!({
        "harnessSideTools": tools::switches(tools, sandboxed),
        "policyConfig": policy(task, tools),
        "enabledHooks": HOOKS,
        "models": models(settings, model, tools, endpoint),
        "retryConfig": { "apiRetry": { "maxRetries": settings.retries_max } },
        // Nobody is there to answer questions in between.
        "agentBehavior": "AGENT_BEHAVIOR_AUTONOMOUS",
    });
    match conversation {
        Conversation::New => {}
        Conversation::Vendor(id) => {
            config["cascadeId"] = json!(id);
            config["sessionContinuationMode"] = json!("RESUME");
        }
        Conversation::Named { id, name: _ } => {
            config["cascadeId"] = json!(id);
            config["sessionContinuationMode"] = json!("CREATE_OR_RESUME");
        }
    }
    if let Some(directory) = &task.working_directory {
        config["workspaces"] = json!([{ "filesystemWorkspace": { "directory": directory } }]);
    }
    // Added to the harness's own instructions, without which it does not know its tools.
    if let Some(system) = task.system.as_deref().filter(|system| !system.trim().is_empty()) {
        config["systemInstructions"] = json!({ "appended": { "appendedSections": [{ "content": system }] } });
    }
    if let Some(schema) = &task.output_schema {
        config["finishToolSchemaJson"] = json!(answer_schema(schema).0);
    }
    if !task.mcp_servers.is_empty() {
        let servers = task.mcp_servers.iter().map(|server| {
            let env: serde_json::Map<String, Value> =
                server.env.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            let (command, args) =
                server.argv.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
            json!({ "name": server.name, "stdio": { "command": command, "args": args, "env": env } })
        });
        config["mcpServers"] = servers.collect();
    }
    let budget = budget(settings, task);
    if budget.as_object().is_some_and(|budget| !budget.is_empty()) {
        config["budgetConfig"] = budget;
    }
    json!({ "config": config })
}

/// The schema of the `finish` tool, and whether the answer stands in its field `value`: a tool takes an object, so any
/// other answer is wrapped in one. A schema that is no JSON is given as it is; the host has read it before.
#[must_use]
pub fn answer_schema(schema: &str) -> (String, bool) {
    let Ok(mut parsed) = serde_json::from_str::<Value>(schema) else { return (schema.to_owned(), false) };
    if parsed["type"] == "object" {
        return (schema.to_owned(), false);
    }
    let mut wrapped = json!({ "type": "object", "required": ["value"], "additionalProperties": false });
    for word in DEFINITIONS {
        if let Some(definitions) = parsed.as_object_mut().and_then(|object| object.remove(word)) {
            wrapped[word] = definitions;
        }
    }
    wrapped["properties"] = json!({ "value": parsed });
    (wrapped.to_string(), true)
}

/// A rule for each tool that the task gets: what no rule names, the harness refuses.
fn policy(task: &Task, tools: &[&Tool]) -> Value {
    let mode = task.permissions.mode;
    let mut rules: Vec<Value> = tools.iter().map(|tool| rule(tool.name, None, tools::decision(tool, mode))).collect();
    if mode == PermissionMode::Permissive {
        rules = vec![rule("*", None, Decision::Allow)];
    } else if tools.iter().any(|tool| matches!(tool.name, "run_command" | "schedule")) {
        // It only looks after what was let run.
        rules.push(rule("manage_task", None, Decision::Allow));
    }
    let of_servers = tools::mcp_decision(&task.permissions);
    rules.extend(task.mcp_servers.iter().map(|server| rule("*", Some(&server.name), of_servers)));
    // The harness's file tools stay in the workspace, but for a task that may reach everything.
    let contained = match task.permissions.filesystem {
        FilesystemAccess::FullAccess => "WORKSPACE_CONTAINMENT_DISABLED",
        _ => "WORKSPACE_CONTAINMENT_ENABLED",
    };
    json!({ "rules": rules, "workspaceContainment": contained })
}

fn rule(tool: &str, server: Option<&str>, decision: Decision) -> Value {
    let mut rule = json!({ "tool": tool, "name": tool });
    if let Some(server) = server {
        rule["serverName"] = json!(server);
    }
    match decision {
        Decision::Allow => rule["decision"] = json!("POLICY_DECISION_ALLOW"),
        Decision::Deny => {
            rule["decision"] = json!("POLICY_DECISION_DENY");
            rule["denyReason"] = json!("the task may only read");
        }
        Decision::Ask => {
            rule["decision"] = json!("POLICY_DECISION_ASK_USER");
            // Without both the harness refuses the whole conversation, and says so on stderr alone.
            rule["isDynamic"] = json!(true);
            rule["ruleId"] = json!(format!("{}/{tool}", server.unwrap_or("harness")));
        }
    }
    rule
}

fn models(settings: &Settings, model: &str, tools: &[&Tool], endpoint: &Endpoint) -> Value {
    let one = |name: &str, kind: &str| {
        let place = if settings.vertex { "vertexEndpoint" } else { "geminiApiEndpoint" };
        let at = json!({ "baseUrl": endpoint.url, "apiKey": endpoint.token });
        let mut one = json!({ "name": name, "types": [kind] });
        one[place] = at;
        one
    };
    let mut models = vec![one(model, "MODEL_TYPE_TEXT")];
    if !settings.image_model.is_empty() && tools.iter().any(|tool| tool.name == "generate_image") {
        models.push(one(&settings.image_model, "MODEL_TYPE_IMAGE"));
    }
    Value::Array(models)
}

fn budget(settings: &Settings, task: &Task) -> Value {
    let mut budget = json!({});
    // The host gives each task a bound; the operator's own may be narrower.
    let bounds = [task.max_rounds, Some(settings.model_calls_max)].into_iter().flatten().filter(|calls| *calls > 0);
    if let Some(calls) = bounds.min() {
        budget["maxModelCalls"] = json!(calls);
    }
    if settings.tool_calls_max > 0 {
        budget["maxToolCalls"] = json!(settings.tool_calls_max);
    }
    if settings.total_tokens_max > 0 {
        // 64-bit numbers are text in the JSON of protobuf.
        budget["maxTotalTokens"] = json!(settings.total_tokens_max.to_string());
    }
    if budget.as_object().is_some_and(|budget| !budget.is_empty()) {
        // Of this run, not of the conversation's whole life.
        budget["scope"] = json!("BUDGET_SCOPE_FORWARD_LOOKING");
    }
    budget
}

/// Where conversations are kept: the setting, else below the home that the host keeps for the program of this profile.
/// Nothing where neither is known: the conversation cannot be continued then.
fn storage_directory(host: &dyn Host) -> Result<String> {
    let set = settings::text(host, "storage_directory").unwrap_or_default();
    if !set.is_empty() && !set.starts_with('/') {
        let message = format!("setting `storage_directory` is `{set}`, not an absolute path");
        return Err(Error::invalid("setting", message));
    }
    if !set.is_empty() {
        return Ok(set);
    }
    Ok(settings::text(host, "host.home").map_or_else(String::new, |home| format!("{home}/antigravity")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use midplane_plugin::agent::{McpServer, Session};
    use midplane_plugin::testing::{FakeHost, task};

    fn host() -> FakeHost {
        FakeHost::new()
            .setting("program", "localharness")
            .setting("model", "gemini-test")
            .setting("base_url", "https://vendor.example")
            .setting("host.home", "/home/of/child")
    }

    fn shown(host: &FakeHost, task: &Task) -> String {
        let settings = Settings::read(host).expect("complete");
        let endpoint = Endpoint { url: "http://127.0.0.1:1/r".into(), token: "${token}".into() };
        let tools = tools::enabled(&task.permissions).expect("tools");
        let model = model(host, task).expect("a model");
        let conversation = Conversation::of(task).expect("an id");
        let frame = start(&settings, task, &model, &tools, &conversation, &endpoint);
        serde_json::to_string_pretty(&frame["config"]).expect("JSON")
    }

    #[test]
    fn a_plain_task() {
        insta::assert_snapshot!(shown(&host(), &task("do it")));
    }

    #[test]
    fn a_task_with_everything() {
        let mut full = task("do it");
        full.system = Some("Be brief.".into());
        full.model = Some("gemini-other".into());
        full.working_directory = Some("/work".into());
        full.session = Some(Session { id: "30efad1272a923369414414d2f547454".into(), transcript: None });
        full.output_schema =
            Some(r##"{"type":"array","items":{"$ref":"#/$defs/n"},"$defs":{"n":{"type":"integer"}}}"##.into());
        full.max_rounds = Some(3);
        full.mcp_servers = vec![McpServer {
            name: "ev".into(),
            argv: vec!["midplane".into(), "helper".into()],
            env: vec![("A".into(), "b".into())],
        }];
        full.permissions.mode = PermissionMode::Cautious;
        full.permissions.allowed_tools = vec!["run_command".into(), "generate_image".into()];
        let host = host()
            .setting("tool_calls_max", "7")
            .setting("total_tokens_max", "9007199254740993")
            .setting("image_model", "gemini-image")
            .setting("vertex", "true");
        insta::assert_snapshot!(shown(&host, &full));
    }

    #[test]
    fn inside_of_the_hosts_sandbox_the_harness_uses_none_of_its_own() {
        for (host, sandboxed) in [(host(), true), (host().setting("host.sandbox", "host"), false)] {
            let asked = shown(&host, &task("x"));
            assert_eq!(asked.contains("enableSandbox"), sandboxed, "{asked}");
        }
    }

    #[test]
    fn ids_that_the_harness_would_not_take_are_mapped_and_keep_their_name() {
        let of = |id: &str| {
            let mut task = task("x");
            task.session = Some(Session { id: id.into(), transcript: None });
            Conversation::of(&task)
        };
        let named = of("short").expect("mapped");
        assert_eq!(named.known(), Some("short"));
        let mapped = "38459c97-164c-553c-bd38-c2ebfdc41dfb".to_owned();
        assert_eq!(named, Conversation::Named { name: "short".into(), id: mapped.clone() });
        assert_eq!(of(&mapped), Ok(Conversation::Vendor(mapped)));
        assert!(of(&"../".repeat(20)).is_err());
        assert!(of(&"a".repeat(300)).is_err());
    }

    #[test]
    fn settings_that_cannot_be_used_are_named() {
        for (name, value) in
            [("program", ""), ("base_url", "ftp://x"), ("storage_directory", "relative"), ("retries_max", "many")]
        {
            let error = Settings::read(&host().setting(name, value)).expect_err(name);
            assert!(error.message.contains(name), "{}", error.message);
        }
    }
}
