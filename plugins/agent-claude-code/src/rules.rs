//! What the task's words about tools mean, held by this adapter and not by the program's good will.
//!
//! The program's own `--allowedTools` means "need not ask"; a task's `allowed-tools` means "only these". So the built-in
//! tools are cut down with `--tools`, and each call is checked again where the program asks: in a hook before every call
//! and in its permission questions. `--disallowedTools` does mean "not these" there, and is used as it is.

use midplane_plugin::Value;
use midplane_plugin::agent::{FilesystemAccess, PermissionMode, PermissionProfile};

/// The tool through which the program gives a structured answer. It changes nothing and the task asked for it.
const ANSWER: &str = "StructuredOutput";
/// What ends one command of a shell and begins another, or runs one inside.
const SHELL_MARKS: [char; 13] = [';', '&', '|', '`', '$', '<', '>', '(', ')', '{', '}', '\n', '\r'];

/// The permission mode of the program: the table of agent-runtime-kit. To read only is a plan, whatever the mode.
#[must_use]
pub fn permission_mode(permissions: &PermissionProfile) -> &'static str {
    match (permissions.filesystem, permissions.mode) {
        (FilesystemAccess::ReadOnly, _) | (_, PermissionMode::Strict) => "plan",
        (_, PermissionMode::Permissive) => "bypassPermissions",
        (_, PermissionMode::Cautious | PermissionMode::Default) => "default",
    }
}

/// One entry of `allowed-tools`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Allowed {
    /// A tool by its name.
    Tool(String),
    /// `mcp__server`: all tools of a server.
    Server(String),
    /// `Bash(git:*)` and `Bash(git status)`: commands that begin with these words, or are exactly them.
    Command { words: String, more: bool },
}

/// The rules of one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    plan: bool,
    within: Option<String>,
    allowed: Vec<Allowed>,
    /// Entries without a scope: those with one are the program's to hold.
    denied: Vec<String>,
}

impl Rules {
    /// Reads a task's permissions. The error names the field and says what would do.
    pub fn new(permissions: &PermissionProfile, workspace: Option<&str>) -> Result<Self, (&'static str, String)> {
        let allowed = permissions.allowed_tools.iter().map(|entry| allowed(entry)).collect::<Result<Vec<_>, _>>();
        let allowed = allowed.map_err(|why| ("permissions.allowed_tools", why))?;
        let mut denied = Vec::new();
        for entry in &permissions.disallowed_tools {
            let (name, scope) = split(entry).map_err(|why| ("permissions.disallowed_tools", why))?;
            if scope.is_none() {
                denied.push(name.to_owned());
            }
        }
        // Elsewhere the sandbox around the program bounds what it writes.
        let bounded = permissions.filesystem == FilesystemAccess::WorkspaceWrite;
        Ok(Self {
            plan: permission_mode(permissions) == "plan",
            within: workspace.filter(|_| bounded).map(str::to_owned),
            allowed,
            denied,
        })
    }

    /// The value of `--tools`: the built-in tools that are left; unset leaves all.
    #[must_use]
    pub fn tools(&self) -> Option<String> {
        if self.allowed.is_empty() {
            return None;
        }
        let mut names: Vec<&str> = Vec::new();
        for allowed in &self.allowed {
            let name = match allowed {
                Allowed::Tool(name) if name.starts_with("mcp__") => continue,
                Allowed::Tool(name) => name,
                Allowed::Server(_) => continue,
                Allowed::Command { .. } => "Bash",
            };
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Some(names.join(","))
    }

    /// Whether the program must be told to ask before each call.
    #[must_use]
    pub fn need_hook(&self) -> bool {
        !self.allowed.is_empty() || !self.denied.is_empty()
    }

    /// Why a call may not be made; unset when the task's lists have nothing against it.
    #[must_use]
    pub fn refuses(&self, tool: &str, input: &Value) -> Option<String> {
        if tool == ANSWER {
            return None;
        }
        let named = |name: &String| tool == name || is_of_server(tool, name);
        if self.denied.iter().any(named) {
            return Some(format!("the task does not allow the tool `{tool}`"));
        }
        if self.allowed.is_empty() {
            return None;
        }
        let fits = |allowed: &Allowed| match allowed {
            Allowed::Tool(name) => tool == name,
            Allowed::Server(name) => is_of_server(tool, name),
            Allowed::Command { words, more } => {
                tool == "Bash" && input["command"].as_str().is_some_and(|command| begins(command, words, *more))
            }
        };
        (!self.allowed.iter().any(fits))
            .then(|| format!("the task allows only some tools, and not this use of `{tool}`"))
    }

    /// Why a call for which the program wants permission is declined without asking anybody.
    #[must_use]
    pub fn declines(&self, tool: &str, request: &Value) -> Option<String> {
        if let Some(why) = self.refuses(tool, &request["input"]) {
            return Some(why);
        }
        if self.plan {
            return Some("the task allows to read and to plan, and nothing that needs permission".into());
        }
        if tool == "AskUserQuestion" {
            return Some("nobody can answer a question in this run; decide, and say what was decided".into());
        }
        let workspace = self.within.as_deref()?;
        let path = request["blocked_path"].as_str()?;
        let inside = !path.split('/').any(|part| part == "..")
            && path.strip_prefix(workspace).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        (!inside).then(|| format!("the task may write to its workspace, and `{path}` is outside of it"))
    }
}

/// Reads one entry of `allowed-tools`.
fn allowed(entry: &str) -> Result<Allowed, String> {
    let (name, scope) = split(entry)?;
    match scope {
        None if name.starts_with("mcp__") && name.matches("__").count() == 1 => Ok(Allowed::Server(name.to_owned())),
        None => Ok(Allowed::Tool(name.to_owned())),
        Some(scope) if name == "Bash" => {
            let (words, more) = scope.strip_suffix(":*").map_or((scope, false), |words| (words, true));
            if words.trim().is_empty() || words.contains(['*', '?']) || words.contains(SHELL_MARKS) {
                return Err(format!("`{entry}` is no plain command; `Bash(git:*)` and `Bash(git status)` can be held"));
            }
            Ok(Allowed::Command { words: words.trim().to_owned(), more })
        }
        Some(_) => Err(format!(
            "`{entry}` narrows a tool in a way that cannot be held here; name the tool alone, or narrow `Bash` to a command"
        )),
    }
}

/// Takes `Name(scope)` apart.
fn split(entry: &str) -> Result<(&str, Option<&str>), String> {
    let (name, scope) = match entry.split_once('(') {
        None => (entry, None),
        Some((name, rest)) => {
            (name, Some(rest.strip_suffix(')').ok_or_else(|| format!("`{entry}` has no `)` at its end"))?))
        }
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || !name.chars().all(plain) {
        return Err(format!("`{entry}` is no name of a tool"));
    }
    if scope.is_some_and(|scope| scope.contains(['(', ')']) || scope.chars().any(char::is_control)) {
        return Err(format!("`{entry}` holds characters that cannot be passed on"));
    }
    Ok((name, scope))
}

fn is_of_server(tool: &str, server: &str) -> bool {
    server.starts_with("mcp__") && tool.strip_prefix(server).is_some_and(|rest| rest.starts_with("__"))
}

/// Whether a command line is one command that begins with these words. A mark of the shell could begin another, so with
/// one it is not.
fn begins(command: &str, words: &str, more: bool) -> bool {
    let command = command.trim();
    if command.contains(SHELL_MARKS) {
        return false;
    }
    match command.strip_prefix(words) {
        Some("") => true,
        Some(rest) => more && rest.starts_with([' ', '\t']),
        None => false,
    }
}
