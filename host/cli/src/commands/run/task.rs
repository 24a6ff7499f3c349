//! The options of a task, and the task that they make: a file's fields with the options put over them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use midplane::core::task::{Attachment, McpServer, Task, Workspace};
use midplane::core::{Error, Result, yaml};
use serde_json::{Map, Value};

use crate::values::{self, Filesystem, Inputs, Mode, Source, Switch};

/// What is asked of the agent.
#[derive(Debug, clap::Args)]
pub(crate) struct TaskArgs {
    /// What to do; `@FILE` reads a file, `-` standard input
    #[arg(long, value_name = "TEXT|@FILE|-", required_unless_present = "task")]
    goal: Option<Source>,
    /// Task file, YAML or JSON, with any field of a task; options replace its fields
    #[arg(long, value_name = "FILE")]
    task: Option<PathBuf>,
    /// Folder to work in, and at once the grant for it: `:ro` (read only) unless `:rw` is said
    #[arg(long, value_name = "DIR[:ro|:rw]", value_parser = values::workspace)]
    workspace: Option<Workspace>,
    /// Model, in the vendor's words
    #[arg(long)]
    model: Option<String>,
    /// How hard to think, in the vendor's words
    #[arg(long, value_name = "LEVEL")]
    effort: Option<String>,
    /// System prompt; `@FILE` reads a file, `-` standard input
    #[arg(long, value_name = "TEXT|@FILE")]
    system: Option<Source>,
    /// Most time it may take, such as `30s`, `5m`, `1h` or a number of seconds
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    timeout: Option<Duration>,
    /// Most model turns
    #[arg(long, value_name = "N")]
    max_turns: Option<u32>,
    /// Most that it may cost, in US dollars
    #[arg(long, value_name = "AMOUNT")]
    budget_usd: Option<f64>,
    /// JSON Schema of the wanted answer: a file, or the schema itself
    #[arg(long, value_name = "FILE|JSON")]
    output_schema: Option<String>,
    /// How freely it acts
    #[arg(long)]
    mode: Option<Mode>,
    /// What it may write
    #[arg(long)]
    filesystem: Option<Filesystem>,
    /// Whether its own programs may use the network
    #[arg(long)]
    network: Option<Switch>,
    /// Only this tool; repeatable
    #[arg(long, value_name = "TOOL")]
    allow_tool: Vec<String>,
    /// Not this tool; repeatable
    #[arg(long, value_name = "TOOL")]
    deny_tool: Vec<String>,
    /// MCP server: a program with its arguments or a URL; or a YAML or JSON file with a list of them; repeatable
    #[arg(long, value_name = "NAME=PROGRAM ..|NAME=URL|FILE")]
    mcp: Vec<String>,
    /// Give something along: `skill:DIR`, `file:PATH` or `instructions:PATH`; repeatable
    #[arg(long, value_name = "KIND:PATH[=NAME]", value_parser = values::attachment)]
    attach: Vec<Attachment>,
    /// Go on with this conversation
    #[arg(long, value_name = "ID")]
    conversation: Option<String>,
    /// What has no option of its own, as text or as a JSON object; repeatable
    #[arg(long, value_name = "KEY=TEXT|JSON", value_parser = values::metadata)]
    metadata: Vec<Map<String, Value>>,
}

impl TaskArgs {
    /// The task. Relative paths begin at the folder of `inputs` and are absolute afterwards.
    pub(crate) fn task(&self, inputs: &mut Inputs<'_>) -> Result<Task> {
        let mut task = match &self.task {
            Some(file) => {
                let text = inputs.file(file, "the task file")?;
                Task::parse(&text, &file.display().to_string())?
            }
            None => Task::new(String::new()),
        };
        if let Some(goal) = &self.goal {
            task.goal = goal.read(inputs, "the goal")?;
        }
        if let Some(system) = &self.system {
            task.system = Some(system.read(inputs, "the system prompt")?);
        }
        if let Some(schema) = &self.output_schema {
            task.output_schema = Some(read_schema(schema, inputs)?);
        }
        if !self.mcp.is_empty() {
            task.mcp_servers = mcp_servers(&self.mcp, inputs)?;
        }
        set(&mut task.workspace, &self.workspace);
        set(&mut task.model, &self.model);
        set(&mut task.reasoning_effort, &self.effort);
        set(&mut task.session_id, &self.conversation);
        set(&mut task.max_rounds, &self.max_turns);
        set(&mut task.budget_usd, &self.budget_usd);
        set(&mut task.timeout_ms, &self.timeout.map(values::millis));
        if self.timeout.is_some() {
            // One bound in time: the option takes the place of the file's.
            task.deadline = None;
        }
        set(&mut task.permissions.network, &self.network.map(|switch| switch == Switch::On));
        if let Some(mode) = self.mode {
            task.permissions.mode = mode.into();
        }
        if let Some(filesystem) = self.filesystem {
            task.permissions.filesystem = filesystem.into();
        }
        replace(&mut task.permissions.allowed_tools, &self.allow_tool);
        replace(&mut task.permissions.disallowed_tools, &self.deny_tool);
        replace(&mut task.attachments, &self.attach);
        task.metadata.extend(self.metadata.iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
        if let Some(workspace) = &mut task.workspace {
            workspace.path = absolute(&inputs.folder, &workspace.path);
        }
        for attachment in &mut task.attachments {
            attachment.path = absolute(&inputs.folder, &attachment.path);
        }
        Ok(task)
    }
}

fn mcp_servers(named: &[String], inputs: &mut Inputs<'_>) -> Result<Vec<McpServer>> {
    let mut servers = Vec::new();
    for text in named {
        if let Some(server) = McpServer::parse(text)? {
            servers.push(server);
            continue;
        }
        let list = inputs.file(Path::new(text), "the list of MCP servers")?;
        let list: Vec<McpServer> = yaml::parse(&list, text, "mcp-servers").map_err(|error| {
            error.hint(
                "it is a list of `name`, `command`, `args`, `env` and `secret_env`, or `name`, `url` and `secret`",
            )
        })?;
        servers.extend(list);
    }
    Ok(servers)
}

fn set<T: Clone>(field: &mut Option<T>, option: &Option<T>) {
    if option.is_some() {
        field.clone_from(option);
    }
}

fn replace<T: Clone>(field: &mut Vec<T>, option: &[T]) {
    if !option.is_empty() {
        *field = option.to_vec();
    }
}

/// What is recorded of a run must mean the same wherever it is read.
fn absolute(folder: &Path, path: &str) -> String {
    let joined = folder.join(path);
    std::path::absolute(&joined).unwrap_or(joined).to_string_lossy().into_owned()
}

fn read_schema(schema: &str, inputs: &mut Inputs<'_>) -> Result<Value> {
    const WHAT: &str = "the output schema";
    if schema.trim_start().starts_with('{') {
        return serde_json::from_str(schema)
            .map_err(|error| Error::invalid("output-schema", format!("{WHAT} is not JSON: {error}")));
    }
    let text = inputs
        .file(Path::new(schema), WHAT)
        .map_err(|error| error.hint("give a file, or the schema itself, which begins with `{`"))?;
    yaml::parse(&text, schema, "output-schema")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        args: TaskArgs,
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in [
            ("goal.txt", "count the files\n"),
            ("schema.json", r#"{"type": "object"}"#),
            ("broken.json", "{\"type\": \n  [}"),
            ("mcp.yaml", "- name: fs\n  command: mcp-fs\n  args: [--root, .]\n  env: {LEVEL: '1'}\n"),
            ("mcp-typo.yaml", "- name: fs\n  comand: x\n"),
            (
                "task.yaml",
                "goal: from the file\nmodel: m1\nworkspace: {path: src, access: rw}\nmax_turns: 3\ntimeout_ms: 5\n\
                 permissions: {mode: strict, allowed_tools: [grep], network: true}\nmetadata: {a: 1, b: 2}\n\
                 attachments: [{kind: file, path: notes.md}]\n",
            ),
            ("task-typo.yaml", "goal: x\nmodle: y\n"),
        ] {
            std::fs::write(folder.path().join(name), text).expect("a file");
        }
        folder
    }

    #[test]
    fn arguments_make_a_task() {
        let folder = folder();
        let cases: &[&[&str]] = &[
            &["--goal", "hello"],
            &["--goal", "@goal.txt", "--system", "-"],
            &["--goal", "-", "--workspace", ".:rw"],
            &["--goal", "g", "--workspace", "/srv/x"],
            &[
                "--goal",
                "g",
                "--model",
                "m",
                "--effort",
                "high",
                "--timeout",
                "1h 30m",
                "--max-turns",
                "7",
                "--budget-usd",
                "0.5",
            ],
            &[
                "--goal",
                "g",
                "--timeout",
                "90",
                "--mode",
                "permissive",
                "--filesystem",
                "full-access",
                "--network",
                "off",
            ],
            &[
                "--goal",
                "g",
                "--allow-tool",
                "grep",
                "--allow-tool",
                "glob",
                "--deny-tool",
                "shell",
                "--conversation",
                "c-1",
            ],
            &["--goal", "g", "--output-schema", r#"{"type":"array"}"#, "--mcp", "mcp.yaml"],
            &["--goal", "g", "--output-schema", "schema.json"],
            &["--goal", "g", "--mcp", "fs=mcp-fs --root 'a b'", "--mcp", "docs=https://h/mcp", "--mcp", "mcp.yaml"],
            &[
                "--goal",
                "g",
                "--attach",
                "skill:skills/review=check",
                "--attach",
                "file:/etc/hosts",
                "--attach",
                "instructions:AGENTS.md",
            ],
            &["--goal", "g", "--metadata", "k=v", "--metadata", r#"{"vars":{"dry_run":true}}"#, "--metadata", "k=w"],
            &["--task", "task.yaml"],
            &[
                "--task",
                "task.yaml",
                "--goal",
                "over",
                "--model",
                "m2",
                "--workspace",
                ".",
                "--network",
                "off",
                "--mode",
                "default",
            ],
            &[
                "--task",
                "task.yaml",
                "--allow-tool",
                "glob",
                "--attach",
                "file:b",
                "--metadata",
                "b=3",
                "--timeout",
                "1s",
            ],
            // What is wrong is said with its place.
            &["--task", "task-typo.yaml"],
            &["--task", "none.yaml"],
            &["--goal", "@none.txt"],
            &["--goal", "-", "--system", "-"],
            &["--goal", "g", "--output-schema", "{]"],
            &["--goal", "g", "--output-schema", "broken.json"],
            &["--goal", "g", "--output-schema", "none.json"],
            &["--goal", "g", "--mcp", "mcp-typo.yaml"],
            &["--goal", "g", "--mcp", "fs='open"],
        ];
        let shown: Vec<String> = cases
            .iter()
            .map(|words| {
                let only = Only::try_parse_from(std::iter::once(&"run").chain(*words)).expect("arguments");
                let mut inputs = Inputs { folder: folder.path().into(), stdin: Some(Box::new(&b"from input"[..])) };
                let result = match only.args.task(&mut inputs) {
                    Ok(task) => serde_json::to_string(&task).expect("json"),
                    Err(error) => format!("{} | {} | {}", error.code, error.message, error.hint.unwrap_or_default()),
                };
                format!("{}\n    {}", words.join(" "), result.replace(&folder.path().display().to_string(), "[folder]"))
            })
            .collect();
        insta::assert_snapshot!(shown.join("\n"));
    }
}
