//! Gate 1: does an adapter declare what a task needs? All reasons, in a normative order, before anything starts.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Error;
use crate::agent::is_blank;
use crate::task::{AttachmentKind, Issue, Task};

/// Features that the contract knows, with what each is for.
pub const FEATURES: [(&str, &str); 16] = [
    ("mcp_support", "MCP servers"),
    ("working_directory", "a workspace"),
    ("session_resume", "going on with a conversation"),
    ("structured_output", "an answer in a schema"),
    ("streaming", "text as it comes"),
    ("tool_audit", "a record of each tool call"),
    ("cancellation", "stopping at the vendor, too"),
    ("budget", "a limit in money"),
    ("reasoning_effort", "a choice of effort"),
    ("network_control", "network on or off"),
    ("tool_filters", "lists of tools"),
    ("mcp_server_env", "environment of MCP servers"),
    ("named_permission_profiles", "a vendor's own profiles"),
    ("skills", "skills given along"),
    ("files", "files given along"),
    ("steering", "messages while it runs"),
];

/// What a plugin declares.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilitySet {
    /// Features, each at most once.
    pub features: Vec<String>,
    /// Numeric bounds of the vendor, by name.
    pub limits: Vec<(String, u64)>,
}

impl CapabilitySet {
    /// Whether a feature is declared.
    #[must_use]
    pub fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|name| name == feature)
    }

    /// Declared names that this host does not know; it ignores them and says so at install.
    #[must_use]
    pub fn unknown(&self) -> Vec<&str> {
        let known = |name: &str| FEATURES.iter().any(|(feature, _)| *feature == name);
        self.features.iter().map(String::as_str).filter(|name| !known(name)).collect()
    }
}

/// All reasons why a task cannot be given to a plugin that declares this, in agent-runtime-kit's order, with what the
/// contract added at its end. Empty when it can.
#[must_use]
pub fn issues(task: &Task, declared: &CapabilitySet) -> Vec<Issue> {
    let mut issues = Vec::new();
    let mut need = |needed: bool, feature: &str, field: &str| {
        let lacks = needed && !declared.has(feature);
        if lacks {
            issues.push(Issue::new(field, format!("needs `{feature}`, which this agent does not declare")));
        }
        lacks
    };
    let permissions = &task.permissions;
    if !need(!task.mcp_servers.is_empty(), "mcp_support", "mcp_servers") {
        need(task.mcp_servers.iter().any(|server| !server.env.is_empty()), "mcp_server_env", "mcp_servers.env");
    }
    need(task.workspace.is_some(), "working_directory", "workspace");
    // A conversation with a transcript is the original's `resume_from`, which it reports by that name.
    need(
        task.session_id.is_some(),
        "session_resume",
        if task.transcript.is_some() { "transcript" } else { "session_id" },
    );
    if task.output_schema.is_some() {
        need(true, "structured_output", "output_schema");
    } else if let Some(alias) = task.schema_alias() {
        need(true, "structured_output", &format!("metadata.{alias}"));
    }
    need(task.budget_usd.is_some(), "budget", "budget_usd");
    if task.reasoning_effort.is_some() {
        need(true, "reasoning_effort", "reasoning_effort");
    } else {
        let alias = task.metadata.get("reasoning_effort").and_then(Value::as_str);
        need(alias.is_some_and(|effort| !is_blank(effort)), "reasoning_effort", "metadata.reasoning_effort");
    }
    need(permissions.network.is_some(), "network_control", "permissions.network");
    need(permissions.native_profile.is_some(), "named_permission_profiles", "permissions.native_profile");
    need(!permissions.allowed_tools.is_empty(), "tool_filters", "permissions.allowed_tools");
    need(!permissions.disallowed_tools.is_empty(), "tool_filters", "permissions.disallowed_tools");
    let attached =
        |kinds: &[AttachmentKind]| task.attachments.iter().any(|attachment| kinds.contains(&attachment.kind));
    need(attached(&[AttachmentKind::Skill]), "skills", "attachments");
    need(attached(&[AttachmentKind::File, AttachmentKind::Instructions]), "files", "attachments");
    issues
}

/// What is not declared, and what an adapter refuses besides. One reason for a field is enough: what is not declared most
/// adapters refuse, too, and what stands inside of a field that is refused as a whole is not looked at.
#[must_use]
pub fn all(lacking: Vec<Issue>, refused: Vec<Issue>) -> Vec<Issue> {
    let is_within = |field: &str, whole: &str| {
        field.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let is_new = |issue: &Issue| lacking.iter().all(|known| !is_within(&issue.field, &known.field));
    let new: Vec<Issue> = refused.into_iter().filter(is_new).collect();
    lacking.into_iter().chain(new).collect()
}

/// The refusal of a task that has issues with an agent (`unsupported`, code `task-unsupported`): it names the first of them.
#[must_use]
pub fn refusal(agent: &str, issues: &[Issue]) -> Option<Error> {
    let first = issues.first()?;
    let more = match issues.len() {
        1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    let message = format!("`{agent}` cannot do this task: `{}` {}{more}", first.field, first.message);
    Some(Error::unsupported("task-unsupported", message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{McpServer, Workspace, WorkspaceAccess};

    #[test]
    fn order_is_normative() {
        let mut task = Task::new("x");
        task.budget_usd = Some(0.0);
        task.workspace = Some(Workspace { path: ".".into(), access: WorkspaceAccess::Read });
        task.mcp_servers = vec![McpServer {
            name: "a".into(),
            command: "b".into(),
            args: vec![],
            env: [("K".into(), "v".into())].into(),
            ..McpServer::default()
        }];
        task.permissions.network = Some(false);
        task.permissions.disallowed_tools = vec!["x".into()];
        let fields = |declared: &[&str]| -> Vec<String> {
            let declared = CapabilitySet { features: declared.iter().map(|&f| f.to_owned()).collect(), limits: vec![] };
            issues(&task, &declared).into_iter().map(|issue| issue.field).collect()
        };
        assert_eq!(
            fields(&[]),
            ["mcp_servers", "workspace", "budget_usd", "permissions.network", "permissions.disallowed_tools"]
        );
        assert_eq!(
            fields(&["mcp_support", "working_directory", "budget", "network_control", "tool_filters"]),
            ["mcp_servers.env"]
        );
    }

    #[test]
    fn what_is_refused_as_a_whole_is_not_refused_in_parts() {
        let of = |fields: &[&str]| fields.iter().map(|field| Issue::new(*field, "x")).collect::<Vec<_>>();
        let issues = all(
            of(&["mcp_servers", "permissions.network"]),
            of(&[
                "model",
                "mcp_servers[0].name",
                "mcp_servers",
                "permissions.network",
                "permissions.network_more",
                "model",
            ]),
        );
        let fields: Vec<&str> = issues.iter().map(|issue| issue.field.as_str()).collect();
        assert_eq!(fields, ["mcp_servers", "permissions.network", "model", "permissions.network_more", "model"]);
    }
}
