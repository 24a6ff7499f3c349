//! The harness's own tools: which a task gets, which of them ask first, and how each is switched on.
//!
//! The sets are the vendor's for its mode words; that a tool which reaches the network or starts other agents asks first
//! unless the task says `permissive` is ours: "default" grants nothing of that silently.

use midplane_plugin::agent::{FilesystemAccess, Issue, PermissionMode, PermissionProfile, issue};
use midplane_plugin::{Value, json};

use Class::{Command, Delegate, Edit, Network, Quiet};

/// What a tool can do, which decides when it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Looks, or only speaks.
    Quiet,
    /// Changes files.
    Edit,
    /// Runs a command.
    Command,
    /// Reaches the network by itself.
    Network,
    /// Starts other agents or later work.
    Delegate,
}

/// One tool of the harness.
#[derive(Debug)]
pub struct Tool {
    /// The vendor's name, which tasks and policies use.
    pub name: &'static str,
    /// Its field in `harnessSideTools`. `finish` has none: it is there with an output schema.
    switch: Option<&'static str>,
    class: Class,
    /// Whether it is in the vendor's set of tools that only read.
    reads_only: bool,
    /// Whether it is in the vendor's set of tools that destroy nothing.
    nondestructive: bool,
    /// Off unless asked for by name, yet counted as reading.
    deprecated: bool,
}

const fn tool(name: &'static str, switch: Option<&'static str>, class: Class) -> Tool {
    Tool { name, switch, class, reads_only: false, nondestructive: true, deprecated: false }
}

const fn reads(tool: Tool) -> Tool {
    Tool { reads_only: true, ..tool }
}

const fn old(tool: Tool) -> Tool {
    Tool { nondestructive: false, deprecated: true, ..tool }
}

const fn destroys(tool: Tool) -> Tool {
    Tool { nondestructive: false, ..tool }
}

/// All tools, in the vendor's order.
pub const TOOLS: &[Tool] = &[
    old(tool("list_directory", Some("listDir"), Quiet)),
    old(tool("search_directory", Some("grepSearch"), Quiet)),
    old(tool("find_file", Some("find"), Quiet)),
    reads(tool("view_file", Some("viewFile"), Quiet)),
    tool("create_file", Some("writeToFile"), Edit),
    tool("edit_file", Some("fileEdit"), Edit),
    destroys(tool("run_command", Some("runCommand"), Command)),
    tool("ask_question", Some("userQuestions"), Quiet),
    tool("invoke_subagent", Some("subagents"), Delegate),
    tool("run_workflow", Some("runWorkflow"), Delegate),
    tool("generate_image", Some("generateImage"), Network),
    tool("search_web", Some("searchWeb"), Network),
    reads(tool("read_url_content", Some("readUrlContent"), Network)),
    reads(tool("schedule", Some("schedule"), Delegate)),
    reads(tool("finish", None, Quiet)),
];

/// Names that the vendor takes for another tool.
const ALIASES: &[(&str, &str)] = &[("start_subagent", "invoke_subagent")];

/// What the harness does when a tool is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Runs it.
    Allow,
    /// Asks us, and we the host's `approval`.
    Ask,
    /// Refuses it.
    Deny,
}

/// The tools that a task gets, in the vendor's order, or why its lists cannot be honoured.
pub fn enabled(permissions: &PermissionProfile) -> Result<Vec<&'static Tool>, Vec<Issue>> {
    let looks_only = looks_only(permissions);
    let mut issues = Vec::new();
    if !permissions.allowed_tools.is_empty() && !permissions.disallowed_tools.is_empty() {
        issues.push(issue(
            "permissions.allowed_tools",
            "the harness takes a list of tools to allow or one to refuse, not both; give only one",
        ));
    }
    let allowed = named("permissions.allowed_tools", &permissions.allowed_tools, &mut issues);
    let refused = named("permissions.disallowed_tools", &permissions.disallowed_tools, &mut issues);
    for tool in allowed.iter().filter(|tool| looks_only && !tool.reads_only && !tool.deprecated) {
        let message = format!(
            "`{}` changes something, and the task may only read; leave it out, or give another mode and filesystem \
             access than `strict` and `read-only`",
            tool.name
        );
        issues.push(issue("permissions.allowed_tools", message));
    }
    if !issues.is_empty() {
        return Err(issues);
    }
    let by_mode = |tool: &Tool| match permissions.mode {
        _ if looks_only => tool.reads_only,
        PermissionMode::Permissive => true,
        _ => tool.nondestructive,
    };
    let has = |list: &[&Tool], tool: &Tool| list.iter().any(|other| other.name == tool.name);
    let tools = TOOLS.iter().filter(|tool| match allowed.is_empty() {
        true => by_mode(tool) && !has(&refused, tool),
        false => has(&allowed, tool),
    });
    Ok(tools.collect())
}

/// What happens when an enabled tool is called.
#[must_use]
pub fn decision(tool: &Tool, mode: PermissionMode) -> Decision {
    match (mode, tool.class) {
        (_, Quiet) | (PermissionMode::Permissive, _) | (PermissionMode::Default, Edit) => Decision::Allow,
        _ => Decision::Ask,
    }
}

/// What happens when a tool of an MCP server is called. In `default` the task's naming of the server is enough.
#[must_use]
pub fn mcp_decision(permissions: &PermissionProfile) -> Decision {
    match (permissions.mode, permissions.filesystem) {
        (PermissionMode::Strict, _) => Decision::Deny,
        (PermissionMode::Cautious, _) => Decision::Ask,
        (PermissionMode::Default, FilesystemAccess::ReadOnly) => Decision::Ask,
        _ => Decision::Allow,
    }
}

/// `harnessSideTools`: each tool is named, for what is not named is the harness's choice.
#[must_use]
pub fn switches(enabled: &[&Tool], sandbox: bool) -> Value {
    let mut switches = json!({});
    for tool in TOOLS {
        if let Some(switch) = tool.switch {
            let on = enabled.iter().any(|other| other.name == tool.name);
            switches[switch] = json!({ "enabled": on });
        }
    }
    if sandbox {
        switches["runCommand"]["enableSandbox"] = json!(true);
    }
    // Commands and timers that go on need the tool that looks after them.
    let lasting = enabled.iter().any(|tool| matches!(tool.name, "run_command" | "schedule"));
    switches["manageTask"] = json!({ "enabled": lasting });
    switches
}

/// Whether the task may change nothing.
#[must_use]
pub fn looks_only(permissions: &PermissionProfile) -> bool {
    permissions.mode == PermissionMode::Strict || permissions.filesystem == FilesystemAccess::ReadOnly
}

/// The kind of question that `approval` is asked about a tool.
#[must_use]
pub fn question_kind(name: &str, server: &str) -> &'static str {
    let class = TOOLS.iter().find(|tool| tool.name == name && server.is_empty()).map(|tool| tool.class);
    match class {
        Some(Command) => "command",
        Some(Edit) => "file-change",
        Some(Network) => "network",
        _ => "tool",
    }
}

fn named(field: &str, names: &[String], issues: &mut Vec<Issue>) -> Vec<&'static Tool> {
    let mut found = Vec::new();
    for name in names {
        let name = ALIASES.iter().find(|(alias, _)| alias == name).map_or(name.as_str(), |(_, meant)| meant);
        match TOOLS.iter().find(|tool| tool.name == name) {
            Some(tool) => found.push(tool),
            None => {
                let mut all: Vec<&str> = TOOLS.iter().map(|tool| tool.name).collect();
                all.sort_unstable();
                issues.push(issue(
                    field,
                    format!("`{name}` is no tool of the harness; its tools are {}", all.join(", ")),
                ));
            }
        }
    }
    found
}
