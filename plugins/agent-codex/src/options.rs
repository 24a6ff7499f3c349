//! Settings, and what the program, a thread and a turn are started with.
//!
//! Permissions of a task are set on the thread and again on each turn: a thread that is resumed keeps what it was
//! started with, and a turn's word wins over it. How they are mapped depends on who answers the agent's questions:
//!
//! | mode | `approvals = "host"` | `approvals = "vendor"` (as agent-runtime-kit maps) |
//! |---|---|---|
//! | strict | `never`, files always read-only | `never` |
//! | cautious | `untrusted`: asks before each command but known reading ones | `never` |
//! | default, permissive | `on-request` | `on-request`, reviewed by a model of the vendor |
//!
//! Files: `read-only`, `workspace-write`, `danger-full-access`. The network of commands is off unless the task says so
//! (nothing can shut it off at full access). A named profile of the vendor replaces both.

use midplane_plugin::agent::{FilesystemAccess, McpServer, PermissionMode, PermissionProfile, Task};
use midplane_plugin::child::visible;
use midplane_plugin::host::Command;
use midplane_plugin::{Error, Host, Result, Value, json, settings};

/// A table of the program's configuration.
pub type Table = serde_json::Map<String, Value>;

/// The provider of ours in the program's configuration.
const PROVIDER: &str = "midplane";

/// What of the program's configuration says the same as a named permission profile, and wins over it.
const SANDBOX_WORDS: [&str; 3] = ["sandbox_mode", "sandbox_workspace_write", "default_permissions"];

/// Who answers the agent's questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Approvals {
    /// The host's policy, or a person whom it asks.
    Host,
    /// A model of the vendor; what it leaves open is asked of the host all the same.
    Vendor,
}

/// The settings.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program.
    pub program: String,
    args: Vec<String>,
    model: Option<String>,
    codex_home: Option<String>,
    approvals: Approvals,
    config: Table,
    /// Whether the host's own sandbox is around the program and all that it runs. The program's would not work inside it, since
    /// it mounts, and the host's does what the task says.
    confined: bool,
    /// How long the program may take to be ready, in milliseconds.
    pub startup_ms: u32,
}

impl Options {
    /// Reads the settings. `invalid` code `setting` names one that is wrong.
    pub fn read(host: &dyn Host) -> Result<Self> {
        let given = |name| settings::text(host, name).filter(|text| !text.trim().is_empty());
        let approvals = match given("approvals").as_deref() {
            None | Some("host") => Approvals::Host,
            Some("vendor") => Approvals::Vendor,
            Some(other) => {
                let message = format!("setting `approvals` is `{other}`, neither `host` nor `vendor`");
                return Err(Error::invalid("setting", message));
            }
        };
        let startup_s: u32 = settings::parsed_or(host, "startup_s", 30)?;
        for name in ["first_event_s", "idle_s"] {
            settings::parsed_or::<u64>(host, name, 0)?;
        }
        Ok(Self {
            program: settings::text_required(host, "program")?,
            args: settings::parsed_or(host, "args", Vec::new())?,
            model: given("model"),
            codex_home: given("codex_home"),
            approvals,
            config: nested(&settings::parsed_or(host, "config", Table::new())?)?,
            confined: settings::text(host, "host.sandbox").as_deref() == Some("host"),
            startup_ms: startup_s.saturating_mul(1000),
        })
    }

    /// How the program is started, for a task with a named profile or without. Nothing else of the task and no token is on
    /// the argument vector.
    #[must_use]
    pub fn command(&self, profile: Option<&str>) -> Command {
        let mut argv = vec![self.program.clone()];
        argv.extend(self.args.iter().cloned());
        // Its plugins would bring tools of which the operator knows nothing.
        argv.extend(["--config", "features.plugins=false"].map(str::to_owned));
        // A file with profiles of which it names none it cannot read, so it must know from the start which one is meant.
        if let Some(profile) = profile {
            argv.extend(["--config".to_owned(), format!("default_permissions={}", json!(profile))]);
        }
        argv.extend(["app-server", "--listen", "stdio://"].map(str::to_owned));
        let env = self.codex_home.iter().map(|home| ("CODEX_HOME".to_owned(), home.clone())).collect();
        Command { argv, cwd: None, env, secret_env: Vec::new() }
    }

    /// Whether a login and configuration of the operator's own are used.
    #[must_use]
    pub fn uses_own_login(&self) -> bool {
        self.codex_home.is_some()
    }

    /// Why these settings do not go with a named permission profile, if they do not.
    #[must_use]
    pub fn profile_conflict(&self) -> Option<String> {
        let why = |place: &str, word: &str| {
            format!(
                "the setting `{place}` sets `{word}`, which a named profile brings itself; leave one of the two out"
            )
        };
        if let Some(word) = sandbox_word(&self.config) {
            return Some(why("config", word));
        }
        let mut args = self.args.iter();
        while let Some(arg) = args.next() {
            let given = match arg.as_str() {
                "-c" | "--config" => args.next().map_or("", String::as_str),
                other => match other.strip_prefix("--config=").or_else(|| other.strip_prefix("-c")) {
                    Some(given) => given,
                    None => continue,
                },
            };
            // Its value can be a whole table, so the words are looked for in all of it.
            if let Some(word) = SANDBOX_WORDS.into_iter().find(|word| given.contains(word)) {
                return Some(why("args", word));
            }
            if !is_override(given) {
                let given = visible(given);
                return Some(format!(
                    "`{given}` in the setting `args` is no configuration, so a profile cannot be kept"
                ));
            }
        }
        None
    }

    /// The model that is asked for, and where that comes from: `task`, `setting` or `provider-native`.
    #[must_use]
    pub fn model<'a>(&'a self, task: &'a Task) -> (Option<&'a str>, &'static str) {
        match (&task.model, &self.model) {
            (Some(model), _) => (Some(model), "task"),
            (None, Some(model)) => (Some(model), "setting"),
            (None, None) => (None, "provider-native"),
        }
    }

    /// The parameters of `thread/start`, and with a `threadId` of `thread/resume`. Errors: `denied` code `endpoint` when
    /// the host gives no endpoint and no home of the vendor's is set.
    pub fn thread(&self, host: &dyn Host, task: &Task) -> Result<Value> {
        let mut params = json!({});
        self.policy(&task.permissions, &mut params);
        if let Some(sandbox) = self.sandbox(&task.permissions) {
            params["sandbox"] = json!(sandbox);
        }
        for (name, value) in [
            ("cwd", task.working_directory.as_deref()),
            ("model", self.model(task).0),
            ("developerInstructions", task.system.as_deref()),
        ] {
            if let Some(value) = value {
                params[name] = json!(value);
            }
        }
        let config = self.config(host, task)?;
        if !config.is_empty() {
            params["config"] = Value::Object(config);
        }
        Ok(params)
    }

    /// The parameters of `turn/start` but for `threadId`.
    pub fn turn(&self, task: &Task, text: &str) -> Result<Value> {
        let mut params = json!({ "input": [{ "type": "text", "text": text }] });
        self.policy(&task.permissions, &mut params);
        if let Some(sandbox) = self.sandbox(&task.permissions) {
            let network = task.permissions.network.unwrap_or(false);
            params["sandboxPolicy"] = match sandbox {
                "read-only" => json!({ "type": "readOnly", "networkAccess": network }),
                "workspace-write" => json!({
                    "type": "workspaceWrite", "networkAccess": network, "writableRoots": [],
                    "excludeSlashTmp": false, "excludeTmpdirEnvVar": false,
                }),
                _ => json!({ "type": "dangerFullAccess" }),
            };
        }
        for (name, value) in [
            ("cwd", task.working_directory.as_deref()),
            ("model", self.model(task).0),
            ("effort", task.reasoning_effort.as_deref()),
        ] {
            if let Some(value) = value {
                params[name] = json!(value);
            }
        }
        if let Some(schema) = &task.output_schema {
            params["outputSchema"] = serde_json::from_str(schema)?;
        }
        Ok(params)
    }

    fn policy(&self, permissions: &PermissionProfile, params: &mut Value) {
        let (policy, reviewer) = match (permissions.mode, self.approvals) {
            (PermissionMode::Strict, _) | (PermissionMode::Cautious, Approvals::Vendor) => ("never", None),
            (PermissionMode::Cautious, Approvals::Host) => ("untrusted", Some("user")),
            (PermissionMode::Default | PermissionMode::Permissive, Approvals::Host) => ("on-request", Some("user")),
            (PermissionMode::Default | PermissionMode::Permissive, Approvals::Vendor) => {
                ("on-request", Some("auto_review"))
            }
        };
        params["approvalPolicy"] = json!(policy);
        if let Some(reviewer) = reviewer {
            params["approvalsReviewer"] = json!(reviewer);
        }
    }

    /// The sandbox; none where a profile of the vendor's is named, which brings its own.
    fn sandbox(&self, permissions: &PermissionProfile) -> Option<&'static str> {
        if permissions.native_profile.is_some() {
            return None;
        }
        if self.confined {
            return Some("danger-full-access");
        }
        Some(match permissions.filesystem {
            // To plan and read only is what the word says, whatever else may be written.
            _ if permissions.mode == PermissionMode::Strict && self.approvals == Approvals::Host => "read-only",
            FilesystemAccess::ReadOnly => "read-only",
            FilesystemAccess::WorkspaceWrite => "workspace-write",
            FilesystemAccess::FullAccess => "danger-full-access",
        })
    }

    fn config(&self, host: &dyn Host, task: &Task) -> Result<Table> {
        let mut config = self.config.clone();
        if let Some(profile) = &task.permissions.native_profile {
            config.insert("default_permissions".into(), json!(profile));
        }
        if !task.mcp_servers.is_empty() {
            let servers = table(&mut config, "mcp_servers")?;
            servers.extend(task.mcp_servers.iter().map(|server| (server.name.clone(), mcp_server(server))));
        }
        if self.codex_home.is_some() {
            return Ok(config);
        }
        let Some(endpoint) = settings::endpoint(host, "vendor")? else {
            return Err(Error::denied("endpoint", "the host gives no way to the vendor's API").hint(
                "grant the plugin's `http` permission, or set `codex_home` to a folder with a login of your own",
            ));
        };
        config.insert("model_provider".into(), json!(PROVIDER));
        let ours = [
            ("name", json!(PROVIDER)),
            ("base_url", json!(endpoint.url)),
            ("wire_api", json!("responses")),
            // On stdin rather than in the environment, which the agent's commands would inherit.
            ("experimental_bearer_token", json!(endpoint.token)),
            ("requires_openai_auth", json!(false)),
            ("supports_websockets", json!(false)),
        ];
        // What the operator set besides, such as numbers of retries, stays.
        let provider = table(table(&mut config, "model_providers")?, PROVIDER)?;
        provider.extend(ours.into_iter().map(|(name, value)| (name.to_owned(), value)));
        Ok(config)
    }
}

/// Names with dots as the tables that they stand for: the program takes no table beside a name with dots in it.
fn nested(flat: &Table) -> Result<Table> {
    let mut whole = Table::new();
    for (name, value) in flat {
        let mut place = &mut whole;
        let mut parts: Vec<&str> = name.split('.').collect();
        let last = parts.pop().unwrap_or_default();
        for part in parts {
            place = table(place, part)?;
        }
        match (place.get_mut(last), value) {
            (Some(Value::Object(there)), Value::Object(more)) => there.extend(more.clone()),
            _ => drop(place.insert(last.to_owned(), value.clone())),
        }
    }
    Ok(whole)
}

/// The table of a name, made where it is not there.
fn table<'t>(of: &'t mut Table, name: &str) -> Result<&'t mut Table> {
    match of.entry(name).or_insert_with(|| json!({})) {
        Value::Object(table) => Ok(table),
        _ => Err(Error::invalid("setting", format!("in setting `config`, `{name}` must be a table"))),
    }
}

/// The first word in a configuration, in whatever table, that a named profile cannot stand beside.
#[must_use]
pub fn sandbox_word(config: &Table) -> Option<&'static str> {
    let mut open = vec![config];
    while let Some(table) = open.pop() {
        for (name, value) in table.iter().filter(|(_, value)| !value.is_null()) {
            if let Some(word) = SANDBOX_WORDS.into_iter().find(|word| word == name) {
                return Some(word);
            }
            open.extend(value.as_object());
        }
    }
    None
}

/// Whether `NAME=VALUE` can be one of the program's settings: its value is there, and closed where it was opened.
fn is_override(text: &str) -> bool {
    let Some((name, value)) = text.split_once('=') else { return false };
    let value = value.trim();
    let closed = match value.chars().next() {
        None => false,
        Some('[') => value.ends_with(']'),
        Some('{') => value.ends_with('}'),
        Some(quote @ ('"' | '\'')) => value.len() > 1 && value.ends_with(quote),
        Some(_) => true,
    };
    closed && !name.trim().is_empty()
}

fn mcp_server(server: &McpServer) -> Value {
    let env: Table = server.env.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    json!({ "command": server.argv.first(), "args": server.argv.get(1..).unwrap_or_default(), "env": env })
}

/// Whether the program takes this name for an MCP server.
#[must_use]
pub fn is_server_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use midplane_plugin::testing::{FakeHost, task};

    use super::*;

    fn config(text: &str) -> Result<Value> {
        let host = FakeHost::new()
            .setting("program", "codex")
            .setting("config", text)
            .setting("endpoint.vendor.url", "http://127.0.0.1:1/r")
            .setting("endpoint.vendor.token", "T");
        Options::read(&host)?.thread(&host, &task("x")).map(|mut thread| thread["config"].take())
    }

    #[test]
    fn the_operators_configuration_stays_beside_ours() {
        let found = config(
            r#"{ "model_providers.midplane.request_max_retries": 1, "model_providers": { "other": { "name": "o" } },
                "model_provider": "other", "a.b.c": [1], "model_providers.midplane.base_url": "http://elsewhere" }"#,
        );
        assert_eq!(
            found,
            Ok(json!({
                "a": { "b": { "c": [1] } },
                "model_provider": "midplane",
                "model_providers": {
                    "other": { "name": "o" },
                    "midplane": {
                        "name": "midplane", "base_url": "http://127.0.0.1:1/r", "wire_api": "responses",
                        "experimental_bearer_token": "T", "requires_openai_auth": false, "supports_websockets": false,
                        "request_max_retries": 1,
                    },
                },
            }))
        );
    }

    #[test]
    fn a_named_profile_stands_beside_no_sandbox_of_the_settings() {
        let conflict = |name: &str, value: &str| {
            let host = FakeHost::new().setting("program", "codex").setting(name, value);
            Options::read(&host).expect("settings").profile_conflict().is_some()
        };
        for (name, value, wanted) in [
            ("config", r#"{"sandbox_mode": "read-only"}"#, true),
            ("config", r#"{"profiles.x.sandbox_mode": "read-only"}"#, true),
            ("config", r#"{"a": {"sandbox_workspace_write": {}}}"#, true),
            ("config", r#"{"default_permissions": "other"}"#, true),
            ("config", r#"{"features.plugins": false, "sandbox_mode": null, "sandbox_modes": 1}"#, false),
            ("args", r#"["-c", "sandbox_mode=\"read-only\""]"#, true),
            ("args", r#"["--config=profiles={x={sandbox_mode=\"read-only\"}}"]"#, true),
            ("args", r#"["--config", "no configuration"]"#, true),
            ("args", r#"["--config"]"#, true),
            ("args", r#"["-c", "model="]"#, true),
            ("args", r#"["-c", "model=[1"]"#, true),
            ("args", r#"["--strict-config", "-c", "model=\"m\""]"#, false),
        ] {
            assert_eq!(conflict(name, value), wanted, "{name} {value}");
        }
    }

    #[test]
    fn what_is_no_table_where_one_must_be_is_named() {
        for text in [r#"{"model_providers": 1}"#, r#"{"a": 1, "a.b": 2}"#, r#"{"model_providers.midplane": "x"}"#, "[]"]
        {
            assert_eq!(config(text).expect_err("refused").code, "setting", "{text}");
        }
    }
}
