//! What is asked of an agent: a task, its strict text form, and the checks that need nothing but the task.
//!
//! The fields are those of `agent.task` in `wit/v0` with the host's own beside them (workspace, time-out). The text form is
//! YAML, of which JSON is a part; unknown keys are refused with line and column.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::agent::deadline::Deadline;
use crate::agent::is_blank;
use crate::endpoint::Prefix;
use crate::manifest::{Credential, Scheme, credential_header};
use crate::permission::{Permission, variable_name};
use crate::text::shown;
use crate::{Error, Result};

/// A task, as an operator or embedder writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// What to do. Not blank; given to the vendor as it is.
    pub goal: String,
    /// The caller's name of the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// System prompt; may be empty. Unset leaves the vendor's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The model, in the vendor's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How hard to think, in the vendor's words.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "effort")]
    pub reasoning_effort: Option<String>,
    /// The folder to work in, with what may be done there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<Workspace>,
    /// MCP servers for the agent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mcp_servers: Vec<McpServer>,
    /// What the agent may do.
    #[serde(default)]
    pub permissions: PermissionProfile,
    /// Most model turns.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "max_turns")]
    pub max_rounds: Option<u32>,
    /// Most that the run may cost, in US dollars. Zero is a budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_usd: Option<f64>,
    /// Most time that the run may take, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Until when the run may go on, as an instant with its time zone; waiting for a place is part of it. Instead of
    /// `timeout_ms`. A run whose deadline has passed ends `timed_out` without having started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Deadline>,
    /// How many executions the caller counts on; at least 1. Nobody enforces it: it is told in events and to the adapter.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub sdk_executions: u64,
    /// The conversation to go on with.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "conversation")]
    pub session_id: Option<String>,
    /// A transcript from elsewhere for it, in the adapter's own form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcript: Option<Value>,
    /// JSON Schema of the wanted answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
    /// What the caller gives along.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// For what has no field here.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
}

fn one() -> u64 {
    1
}

// By reference, because serde calls it so.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_one(count: &u64) -> bool {
    *count == 1
}

/// The folder that a run works in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workspace {
    /// Where it is. Relative to the caller's folder on the command line, else absolute.
    pub path: String,
    /// What may be done there.
    #[serde(default)]
    pub access: WorkspaceAccess,
}

/// What may be done in a workspace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkspaceAccess {
    /// Looking.
    #[default]
    #[serde(alias = "ro")]
    Read,
    /// Changing, too.
    #[serde(alias = "rw")]
    ReadWrite,
}

/// What an agent may do. Unknown words are refused: one must never become a wider right.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PermissionProfile {
    /// How freely it acts.
    pub mode: PermissionMode,
    /// What it may write.
    pub filesystem: FilesystemAccess,
    /// Only these tools; empty is no restriction.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_tools: Vec<String>,
    /// Not these tools.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub disallowed_tools: Vec<String>,
    /// Whether its own programs may use the network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<bool>,
    /// A profile that the vendor knows by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub native_profile: Option<String>,
}

/// How freely an agent acts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PermissionMode {
    /// The adapter's sensible middle.
    #[default]
    Default,
    /// Plan and read.
    Strict,
    /// Ask before changing.
    Cautious,
    /// Do not ask.
    Permissive,
}

/// What an agent may write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FilesystemAccess {
    /// Nothing.
    ReadOnly,
    /// Its workspace.
    #[default]
    WorkspaceWrite,
    /// All that its sandbox shows it.
    FullAccess,
}

/// An MCP server: a program that is started and spoken to over stdio, or a URL that speaks streamable HTTP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct McpServer {
    /// Unique in the task; prefix of its tools' names.
    pub name: String,
    /// Program; empty where `url` is set.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub command: String,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Its environment.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub env: std::collections::BTreeMap<String, String>,
    /// Names of secrets to place in its environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secret_env: Vec<String>,
    /// Where it is, instead of a program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Name of the secret that is sent to `url`, as `authorization: Bearer` unless `header` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Header in which the secret is sent instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
}

/// Something that the caller gives along with the task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// What it is.
    pub kind: AttachmentKind,
    /// Its name, unique in the task; the file's name where unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where it is on this machine.
    pub path: String,
}

/// What an attachment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttachmentKind {
    /// Text such as AGENTS.md.
    Instructions,
    /// A folder.
    Skill,
    /// A file.
    File,
}

impl AttachmentKind {
    /// The word of the contract.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Instructions => "instructions",
            Self::Skill => "skill",
            Self::File => "file",
        }
    }
}

/// A reason why a task cannot be done as asked: where, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issue {
    /// Path of the field, such as `permissions.network`.
    pub field: String,
    /// Why, and what would do.
    pub message: String,
}

impl Issue {
    /// An issue of a field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

impl Task {
    /// A task with a goal and nothing else.
    #[must_use]
    pub fn new(goal: impl Into<String>) -> Self {
        Self {
            goal: goal.into(),
            task_id: None,
            system: None,
            model: None,
            reasoning_effort: None,
            workspace: None,
            mcp_servers: Vec::new(),
            permissions: PermissionProfile::default(),
            max_rounds: None,
            budget_usd: None,
            timeout_ms: None,
            deadline: None,
            sdk_executions: 1,
            session_id: None,
            transcript: None,
            output_schema: None,
            attachments: Vec::new(),
            metadata: Map::new(),
        }
    }

    /// Reads a task file, YAML or JSON. `origin` is its name in messages.
    pub fn parse(text: &str, origin: &str) -> Result<Self> {
        crate::yaml::parse(text, origin, "task")
            .map_err(|error: Error| error.hint("`midplane run --help` lists the fields of a task"))
    }

    /// All reasons why no adapter could do this task, in the order of its fields.
    #[must_use]
    pub fn issues(&self) -> Vec<Issue> {
        let mut issues = Vec::new();
        let mut issue = |field: &str, message: &str| issues.push(Issue::new(field, message));
        let blank = |text: &Option<String>| text.as_deref().is_some_and(is_blank);
        if is_blank(&self.goal) {
            issue("goal", "a task has a goal");
        }
        for (name, field) in [
            ("task_id", &self.task_id),
            ("model", &self.model),
            ("reasoning_effort", &self.reasoning_effort),
            ("session_id", &self.session_id),
        ] {
            if blank(field) {
                issue(name, "is blank; leave it out instead");
            }
        }
        for (index, server) in self.mcp_servers.iter().enumerate() {
            server.issues(|field, message| issue(&format!("mcp_servers.{index}.{field}"), message));
        }
        if let Some(name) = first_twice(self.mcp_servers.iter().map(|server| server.name.as_str())) {
            issue("mcp_servers", &format!("two servers have the name `{}`", shown(name, 60)));
        }
        self.permissions.issues(&mut issues);
        let mut issue = |field: &str, message: &str| issues.push(Issue::new(field, message));
        if self.max_rounds == Some(0) {
            issue("max_rounds", "is at least 1");
        }
        if self.budget_usd.is_some_and(|budget| !budget.is_finite() || budget < 0.0) {
            issue("budget_usd", "is a finite amount, not negative");
        }
        // A time-out of zero is a deadline that has passed, not a mistake.
        if self.timeout_ms.is_some() && self.deadline.is_some() {
            issue("deadline", "is given beside `timeout_ms`; give one of them");
        }
        if self.sdk_executions == 0 {
            issue("sdk_executions", "is at least 1");
        }
        if self.transcript.is_some() && self.session_id.is_none() {
            issue("transcript", "belongs to a `session_id`");
        }
        if let Some(Err(error)) = self.output_schema.as_ref().map(crate::schema::check) {
            issues.push(Issue::new("output_schema", error.message));
        }
        issues
    }

    /// This task with what its metadata says under older names, where the field itself is not set: `model`,
    /// `reasoning_effort` (without surrounding space, blank is nothing), and the first object of `output_schema` and
    /// `json_schema`. The metadata stays as it is.
    #[must_use]
    pub fn with_aliases(mut self) -> Self {
        let (model, effort) = (self.word("model"), self.word("reasoning_effort"));
        self.model = self.model.or(model);
        self.reasoning_effort = self.reasoning_effort.or(effort);
        if self.output_schema.is_none() {
            self.output_schema = self.schema_alias().and_then(|name| self.metadata.get(name)).cloned();
        }
        self
    }

    /// Where in this task stands what [`Self::with_aliases`] puts into a field: in the field itself, or in the metadata.
    #[must_use]
    pub fn written_as(&self, field: &str) -> String {
        let alias = match field {
            "model" if self.model.is_none() => self.word("model").map(|_| "model"),
            "reasoning_effort" if self.reasoning_effort.is_none() => self.word(field).map(|_| "reasoning_effort"),
            "output_schema" if self.output_schema.is_none() => self.schema_alias(),
            _ => None,
        };
        alias.map_or_else(|| field.to_owned(), |name| format!("metadata.{name}"))
    }

    /// A text of the metadata without surrounding space; blank is none.
    fn word(&self, name: &str) -> Option<String> {
        let text = self.metadata.get(name)?.as_str()?;
        (!is_blank(text)).then(|| crate::agent::trim(text).to_owned())
    }

    /// The name in the metadata under which there is a schema.
    pub(crate) fn schema_alias(&self) -> Option<&'static str> {
        ["output_schema", "json_schema"].into_iter().find(|name| self.metadata.get(*name).is_some_and(Value::is_object))
    }
}

impl McpServer {
    /// A server in one word, as a command line has it: `NAME=URL`, or `NAME=PROGRAM ARGUMENT ..` with the quotes of a shell. None
    /// where it has not that form, such as the name of a file.
    ///
    /// # Errors
    /// `invalid` code `mcp-server-form`, where quotes are not closed or nothing is named.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        let is_name = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        let Some((name, what)) = text.split_once('=').filter(|(name, _)| !name.is_empty() && is_name(name)) else {
            return Ok(None);
        };
        let server = Self { name: name.to_owned(), ..Self::default() };
        if what.starts_with("https://") || what.starts_with("http://") {
            return Ok(Some(Self { url: Some(what.to_owned()), ..server }));
        }
        let mut words = shlex::split(what).unwrap_or_default().into_iter();
        let Some(command) = words.next() else {
            let message = format!("`{}` names no program: it is empty, or its quotes are not closed", shown(text, 100));
            return Err(Error::invalid("mcp-server-form", message)
                .hint("write `NAME=PROGRAM ARGUMENT ...` or `NAME=https://host/path`"));
        };
        Ok(Some(Self { command, args: words.collect(), ..server }))
    }

    /// All that is wrong with it, in the order of its fields.
    fn issues(&self, mut issue: impl FnMut(&str, &str)) {
        const NAME: &str = "is no name of a secret: letters, digits and `_`, at most 128, the first no digit";
        if is_blank(&self.name) {
            issue("name", "is blank");
        }
        if self.url.is_none() && is_blank(&self.command) {
            issue("command", "is blank");
        }
        if self.env.keys().any(|key| is_blank(key)) {
            issue("env", "the name of a variable is blank");
        }
        if !self.secret_env.iter().all(|name| variable_name(name)) {
            issue("secret_env", NAME);
        }
        let Some(url) = &self.url else {
            for (field, set) in [("secret", self.secret.is_some()), ("header", self.header.is_some())] {
                if set {
                    issue(field, "belongs to a `url`; a program gets its secrets by `secret_env`");
                }
            }
            return;
        };
        if let Err(why) = Prefix::parse(url) {
            issue("url", &why);
        }
        let of_program =
            !(self.command.is_empty() && self.args.is_empty() && self.env.is_empty() && self.secret_env.is_empty());
        if of_program {
            issue("url", "is given beside a program; give one of them");
        }
        if self.secret.as_deref().is_some_and(|name| !variable_name(name)) {
            issue("secret", NAME);
        }
        if self.header.is_some() && self.secret.is_none() {
            issue("header", "belongs to a `secret`");
        }
        if let Some(Err(why)) = self.header.as_deref().map(credential_header) {
            issue("header", why);
        }
    }

    /// What it takes to use the server, as the gates see it: its program with its variables and secrets, or its URL. The task
    /// asks for it, and the operator grants it.
    ///
    /// # Errors
    /// The reason, where its URL or header are none; [`Task::issues`] says so before.
    pub fn permission(&self) -> Result<Permission, String> {
        let Some(url) = &self.url else {
            let argv = std::iter::once(&self.command).chain(&self.args).cloned().collect();
            let env = self.env.keys().cloned().collect();
            return Ok(Permission::Command { argv, env, secret_env: self.secret_env.clone() });
        };
        let scheme = match &self.header {
            Some(header) => Scheme::Header { header: credential_header(header)? },
            None => Scheme::Bearer,
        };
        let credential =
            self.secret.clone().map(|secret| Credential { name: MCP_CREDENTIAL.to_owned(), scheme, secret });
        // What streamable HTTP uses: messages, a stream of the server's own, the end of a session.
        let methods = ["GET", "POST", "DELETE"].map(str::to_owned).to_vec();
        Ok(Permission::Http { prefix: Prefix::parse(url)?, methods, credential })
    }

    /// Whether the host has to stand between a vendor's program and the server: it needs a secret, or is no program.
    #[must_use]
    pub fn is_bridged(&self) -> bool {
        self.url.is_some() || !self.secret_env.is_empty()
    }
}

/// The name of the rule by which the secret of a server is sent. Each server has a gate of its own.
pub const MCP_CREDENTIAL: &str = "mcp";

impl PermissionProfile {
    /// All that is wrong with it, in the order of its fields, as `permissions.<field>`.
    fn issues(&self, issues: &mut Vec<Issue>) {
        let mut issue = |field: &str, message: String| issues.push(Issue::new(format!("permissions.{field}"), message));
        for (field, tools) in [("allowed_tools", &self.allowed_tools), ("disallowed_tools", &self.disallowed_tools)] {
            if tools.iter().any(|tool| is_blank(tool)) {
                issue(field, "a tool's name is not blank".to_owned());
            }
            if let Some(tool) = first_twice(tools.iter().map(String::as_str)) {
                issue(field, format!("names `{}` twice", shown(tool, 60)));
            }
        }
        if let Some(tool) = self.disallowed_tools.iter().find(|tool| self.allowed_tools.contains(tool)) {
            issue("disallowed_tools", format!("`{}` is allowed, too", shown(tool, 60)));
        }
        if let Some(profile) = self.native_profile.as_deref().filter(|profile| !is_profile_name(profile)) {
            let why = "is not the name of a profile: ASCII letters, digits, `_` and `-`, the first a letter or digit";
            issue("native_profile", format!("`{}` {why}", shown(profile, 60)));
        }
    }
}

/// The form of a vendor's own profile name. Anything else could be read by a vendor's program as an option or a path.
fn is_profile_name(text: &str) -> bool {
    text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// The first name that stood there before.
fn first_twice<'a>(names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = std::collections::HashSet::new();
    names.into_iter().find(|name| !seen.insert(*name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mcp_servers_in_one_word() {
        let shown = [
            "fs=mcp-server-filesystem '/srv/my files'",
            "docs=https://h/mcp",
            "x=",
            "x='open",
            "servers.yaml",
            "./a=b.yaml",
            "=x",
        ]
        .map(|text| format!("{text}: {:?}", McpServer::parse(text).map_err(|error| error.message)));
        insta::assert_snapshot!(shown.join("\n"));
    }

    #[test]
    fn mcp_servers_are_a_program_or_a_url() {
        let cases = [
            "[{name: a, command: c, args: [x], env: {A: '1'}, secret_env: [KEY]}]",
            "[{name: a, url: 'https://h/mcp', secret: KEY}]",
            "[{name: a, url: 'https://h/mcp', secret: KEY, header: X-Api-Key}]",
            "[{name: ' '}]",
            "[{name: a, command: c, url: 'https://h'}]",
            "[{name: a, url: 'ftp://h'}]",
            "[{name: a, url: 'https://h?key=x'}]",
            "[{name: a, command: c, secret: KEY}]",
            "[{name: a, command: c, secret_env: ['not a name']}]",
            "[{name: a, url: 'https://h', secret: 'a b'}]",
            "[{name: a, url: 'https://h', header: x-key}]",
            "[{name: a, url: 'https://h', secret: KEY, header: host}]",
            "[{name: a, command: c}, {name: a, command: d}]",
        ];
        let shown = cases.map(|servers| {
            let task = Task::parse(&format!("goal: x\nmcp_servers: {servers}\n"), "task.yaml").unwrap();
            let issues: Vec<String> = task.issues().iter().map(|i| format!("  {}: {}", i.field, i.message)).collect();
            let permission = match issues.is_empty() {
                true => format!("  {:?}", task.mcp_servers[0].permission().unwrap()),
                false => issues.join("\n"),
            };
            format!("{servers}\n{permission}")
        });
        insta::assert_snapshot!(shown.join("\n"));
    }

    #[test]
    fn broken_task_files() {
        let cases = [
            "goal: x\nworkspace: {path: ., access: rw}\npermissions: {mode: strict}\nmax_turns: 3\n",
            "goal: x\ngaol: y\n",
            "goal: x\npermissions:\n  mode: yolo\n",
            "goal: [x\n",
            "goal: x\ngoal: y\n",
            "{}",
            "",
        ];
        let shown: Vec<String> = cases
            .iter()
            .map(|text| match Task::parse(text, "task.yaml") {
                Ok(task) => format!("{text:?}\n    {}", serde_json::to_string(&task).expect("json")),
                Err(error) => format!("{text:?}\n    {error}"),
            })
            .collect();
        insta::assert_snapshot!(shown.join("\n"));
    }

    #[test]
    fn issues_come_in_the_order_of_the_fields() {
        let mut task = Task::new(" ");
        task.model = Some(String::new());
        task.permissions.allowed_tools = vec!["a".into()];
        task.permissions.disallowed_tools = vec!["a".into()];
        task.budget_usd = Some(f64::NAN);
        task.output_schema = Some(serde_json::json!({"type": 3}));
        let fields: Vec<String> = task.issues().into_iter().map(|issue| issue.field).collect();
        assert_eq!(fields, ["goal", "model", "permissions.disallowed_tools", "budget_usd", "output_schema"]);
    }
}
