//! A task in agent-runtime-kit's shape: read strictly from JSON into [`Task`], and written back in its normal form.
//!
//! | theirs | ours |
//! |---|---|
//! | `working_directory` | `workspace`, to read or to change as `permissions.filesystem` says |
//! | `resume_from {session_id, transcript}` | `session_id` with `transcript` |
//! | all others | the field of the same name |

use serde_json::{Value, json};

pub(super) use super::fields::what;
use super::fields::{Fields, Problems};
use crate::problem::Problem;
use crate::task::{FilesystemAccess, McpServer, PermissionProfile, Task, Workspace, WorkspaceAccess};

pub(super) const FIELDS: &[&str] = &[
    "goal",
    "task_id",
    "system",
    "model",
    "reasoning_effort",
    "deadline",
    "working_directory",
    "mcp_servers",
    "permissions",
    "sdk_executions",
    "budget_usd",
    "session_id",
    "resume_from",
    "output_schema",
    "metadata",
];

/// Reads a task. `origin` is its name in messages. All problems at once, in the order of the fields: code `task-field`,
/// `deadline-form` or `output-schema`.
pub fn from_json(value: &Value, origin: &str) -> Result<Task, Vec<Problem>> {
    let mut problems = Problems::new(origin, "task-field");
    let task = read(value, &mut problems);
    if let Some(task) = &task {
        for issue in task.issues() {
            let name = field(task, &issue.field);
            // A field that could not be read has a stand-in, whose issues would be news of nothing.
            if !problems.about(name) {
                let code = if name == "output_schema" { "output-schema" } else { "task-field" };
                problems.add_as(code, name, issue.message);
            }
        }
    }
    let place = |problem: &Problem| {
        let name = problem.field.split('.').next().unwrap_or_default();
        FIELDS.iter().position(|field| *field == name).unwrap_or(FIELDS.len())
    };
    problems.found.sort_by_key(place);
    match task {
        Some(task) if problems.found.is_empty() => Ok(task),
        _ => Err(problems.found),
    }
}

/// A task in the original's normal form: every field, defaults filled in, deadlines in UTC.
#[must_use]
pub fn to_json(task: &Task) -> Value {
    let resumed = task.transcript.as_ref();
    let server = |server: &McpServer| json!({ "name": server.name, "command": server.command, "args": server.args, "env": server.env });
    let permissions = &task.permissions;
    json!({
        "goal": task.goal,
        "task_id": task.task_id,
        "system": task.system,
        "model": task.model,
        "reasoning_effort": task.reasoning_effort,
        "deadline": task.deadline,
        "working_directory": working_directory(task),
        "mcp_servers": task.mcp_servers.iter().map(server).collect::<Vec<_>>(),
        "permissions": {
            "mode": permissions.mode,
            "filesystem": permissions.filesystem,
            "allowed_tools": permissions.allowed_tools,
            "disallowed_tools": permissions.disallowed_tools,
            "network": permissions.network,
            "native_profile": permissions.native_profile,
        },
        "sdk_executions": task.sdk_executions,
        "budget_usd": task.budget_usd,
        "session_id": if resumed.is_some() { None } else { task.session_id.as_ref() },
        "resume_from": resumed.map(|transcript| json!({ "session_id": task.session_id, "transcript": transcript })),
        "output_schema": task.output_schema,
        "metadata": task.metadata,
    })
}

/// The folder of a task as the original names it.
pub(super) fn working_directory(task: &Task) -> Option<&str> {
    task.workspace.as_ref().map(|workspace| workspace.path.as_str())
}

/// What the original calls the field of an issue of gate 1.
#[must_use]
pub fn gate_field(ours: &str) -> &str {
    match ours {
        "workspace" => "working_directory",
        "transcript" => "resume_from",
        // There it is an argument of the adapter's constructor.
        "settings.model" => "default_model",
        other => other,
    }
}

/// What the original calls the field of an issue of the task itself.
fn field<'a>(task: &Task, ours: &'a str) -> &'a str {
    match ours {
        "session_id" if task.transcript.is_some() => "resume_from.session_id",
        other => gate_field(other),
    }
}

fn read(value: &Value, problems: &mut Problems<'_>) -> Option<Task> {
    let fields = Fields::new(value, "", FIELDS, problems)?;
    let mut task = Task::new(fields.text("goal", problems));
    // A name that is there is a name: the original makes one up only where there is none.
    task.task_id = fields.given("task_id").map(|_| fields.text("task_id", problems));
    task.system = fields.text_if_set("system", problems);
    task.model = fields.text_if_set("model", problems);
    task.reasoning_effort = fields.text_if_set("reasoning_effort", problems);
    if let Some(text) = fields.text_if_set("deadline", problems) {
        match text.parse() {
            Ok(deadline) => task.deadline = Some(deadline),
            Err(error) if !problems.about("deadline") => problems.add_as("deadline-form", "deadline", error.message),
            Err(_) => {}
        }
    }
    task.permissions = permissions(&fields, problems);
    if let Some(path) = fields.text_if_set("working_directory", problems) {
        let access = match task.permissions.filesystem {
            FilesystemAccess::ReadOnly => WorkspaceAccess::Read,
            FilesystemAccess::WorkspaceWrite | FilesystemAccess::FullAccess => WorkspaceAccess::ReadWrite,
        };
        task.workspace = Some(Workspace { path: normal_path(&path), access });
    }
    for (index, server) in fields.list("mcp_servers", problems).iter().enumerate() {
        task.mcp_servers.extend(mcp_server(server, &format!("mcp_servers.{index}"), problems));
    }
    task.sdk_executions = match fields.given("sdk_executions") {
        None => 1,
        Some(_) => fields.count("sdk_executions", problems).unwrap_or(1),
    };
    task.budget_usd = fields.amount("budget_usd", problems);
    task.session_id = fields.text_if_set("session_id", problems);
    if let Some(resume) = fields.set("resume_from") {
        if task.session_id.is_some() {
            problems.add("session_id", "is given beside `resume_from`; give one of them");
        }
        if let Some(resume) = Fields::new(resume, "resume_from", &["session_id", "transcript"], problems) {
            task.session_id = Some(resume.text("session_id", problems));
            task.transcript = Some(Value::Array(resume.list("transcript", problems).to_vec()));
        }
    }
    task.output_schema = fields.set("output_schema").cloned();
    task.metadata = fields.object("metadata", problems);
    Some(task)
}

fn permissions(task: &Fields<'_>, problems: &mut Problems<'_>) -> PermissionProfile {
    let known = ["mode", "filesystem", "allowed_tools", "disallowed_tools", "network", "native_profile"];
    let Some(value) = task.given("permissions") else { return PermissionProfile::default() };
    let Some(fields) = Fields::new(value, "permissions", &known, problems) else {
        return PermissionProfile::default();
    };
    let network = match fields.set("network") {
        None => None,
        Some(Value::Bool(network)) => Some(*network),
        Some(other) => {
            problems.add("permissions.network", format!("is true, false or nothing, not {}", what(other)));
            None
        }
    };
    PermissionProfile {
        mode: fields.word("mode", &["default", "strict", "cautious", "permissive"], problems),
        filesystem: fields.word("filesystem", &["read-only", "workspace-write", "full-access"], problems),
        allowed_tools: fields.texts("allowed_tools", problems),
        disallowed_tools: fields.texts("disallowed_tools", problems),
        network,
        native_profile: fields.text_if_set("native_profile", problems),
    }
}

fn mcp_server(value: &Value, above: &str, problems: &mut Problems<'_>) -> Option<McpServer> {
    let fields = Fields::new(value, above, &["name", "command", "args", "env"], problems)?;
    let mut env = std::collections::BTreeMap::new();
    for (name, value) in fields.object("env", problems) {
        match value {
            Value::String(text) => {
                env.insert(name, text);
            }
            other => problems.add(fields.path("env"), format!("`{name}` is a text, not {}", what(&other))),
        }
    }
    Some(McpServer {
        name: fields.text("name", problems),
        command: fields.text("command", problems),
        args: fields.texts("args", problems),
        env,
        ..McpServer::default()
    })
}

/// A path as the original's path type keeps it: no empty and no `.` parts, `..` untouched, two leading slashes kept.
fn normal_path(path: &str) -> String {
    let root = match path.bytes().take_while(|byte| *byte == b'/').count() {
        0 => "",
        2 => "//",
        _ => "/",
    };
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let normal = format!("{root}{}", parts.join("/"));
    if normal.is_empty() { ".".to_owned() } else { normal }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_tasks_name_all_their_fields() {
        let cases = [
            json!([]),
            json!({}),
            json!({"goal": " ", "task_id": null, "gaol": 1, "sdk_executions": 0, "budget_usd": "nan"}),
            json!({"goal": "g", "deadline": "2030-01-01T00:00:00", "session_id": "s", "resume_from": {"session_id": "t"}}),
            json!({"goal": "g", "deadline": 5, "resume_from": {"session_id": "", "transcript": "x"}}),
            json!({"goal": "g", "mcp_servers": [{"name": "a", "command": "c"}, {"name": "a", "env": {"": "1", "B": 2}, "args": "-x"}]}),
            json!({"goal": "g", "permissions": {"mode": "rw", "filesystem": "read_only", "allowed_tools": ["a", "a", 1],
                "disallowed_tools": ["a", "\u{1c}"], "network": 1, "native_profile": "é"}}),
            json!({"goal": "g", "output_schema": {"type": "strng"}, "metadata": null}),
        ];
        let shown: Vec<String> = cases
            .iter()
            .map(|case| {
                let problems = from_json(case, "task").expect_err("refused");
                let lines: Vec<String> = problems.iter().map(|p| format!("    [{}] {p}", p.code)).collect();
                format!("{case}\n{}", lines.join("\n"))
            })
            .collect();
        insta::assert_snapshot!(shown.join("\n"));
    }

    #[test]
    fn the_normal_form_is_read_as_itself() {
        let full = json!({
            "goal": " do it ", "task_id": "t", "system": "", "model": "m", "reasoning_effort": "high",
            "deadline": "2030-01-01 01:00:00+01:00", "working_directory": "/a//b/./c/../", "sdk_executions": 3,
            "mcp_servers": [{"name": "fs", "command": "mcp-fs", "args": ["--ro"], "env": {"A": "1"}}],
            "permissions": {"mode": "strict", "filesystem": "read-only", "network": false, "native_profile": "p-1"},
            "budget_usd": 0, "resume_from": {"session_id": "s", "transcript": [{"role": "user"}]},
            "output_schema": {"type": "object"}, "metadata": {"team": 1},
        });
        let task = from_json(&full, "task").expect("a task");
        let normal = to_json(&task);
        insta::assert_snapshot!(serde_json::to_string_pretty(&normal).expect("json"));
        assert_eq!(from_json(&normal, "task").expect("a task"), task);
    }

    #[test]
    fn paths_are_normal() {
        for (path, normal) in [("", "."), ("./", "."), ("/", "/"), ("//a", "//a"), ("///a", "/a"), ("a/../b", "a/../b")]
        {
            assert_eq!(normal_path(path), normal, "{path}");
        }
    }
}
