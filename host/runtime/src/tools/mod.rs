//! `tools`: what an agent's loop can have done in the run's workspace, run and written down by the host.
//!
//! # Layout
//! - [`call_all`]: one batch of calls: checked, gated, run, answered, told in events
//! - [`tool`]: what a tool is, and the wrapper for those that work on files
//! - [`schema`]: arguments and answers against their JSON Schema
//! - [`answer`]: an answer within its bounds
//! - [`files`]: what file tools work with: the folder, its bounds, and what the run changed in it
//! - [`walk`]: the files of a folder in a fixed order, as .gitignore leaves them
//! - [`read_file`], [`write_file`], [`edit_file`], [`move_file`], [`list_dir`], [`glob`], [`grep`], [`shell`],
//!   [`return_result`]: one tool each
//! - here: which of them a run has
//! - [`mcp`]: tools of the task's MCP servers, which join the list when they are first asked for
//!
//! # What it never does
//! No file tool leaves the granted folder, follows a link out of it, or opens what is not a file. No tool but `shell`
//! starts a program. No answer reaches a guest with a live secret value in it.

mod answer;
mod call_all;
mod edit_file;
mod files;
mod glob;
mod grep;
mod list_dir;
pub(crate) mod mcp;
mod move_file;
mod read_file;
mod return_result;
mod schema;
mod shell;
// They look at `/proc` and make FIFOs.
#[cfg(all(test, target_os = "linux"))]
mod tests;
mod tool;
mod walk;
mod write_file;

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use midplane_core::gate::Request;
use midplane_core::redact::Redactor;
use midplane_core::text::{near, shown};
use midplane_core::{Error, Result};
use midplane_engine::ports::{Tool as Offered, ToolAnswer, ToolCall, Tools};
use serde_json::Value;

pub(crate) use self::files::{Change, FileChange};

use self::files::Files;
use self::mcp::Servers;
use self::return_result::ReturnResult;
use self::shell::Shell;
use self::tool::{Needs, OnFiles, Tool};
use crate::call::Call;
use crate::process::place::Place;
use crate::rights::{Refused, Rights, grants_text};
use crate::workspace::{RelPath, Workspace};

/// What a task says about tools, beside the rights of its profile.
#[derive(Default)]
pub(crate) struct ToolPolicy {
    /// The folder of the run, and whether the command line lets the run change it.
    pub(crate) workspace: Option<(Arc<Workspace>, bool)>,
    /// Only these tools; empty is no restriction. `return_result` is always there.
    pub(crate) allowed_tools: Vec<String>,
    /// Not these tools.
    pub(crate) disallowed_tools: Vec<String>,
    /// Whether the task wants nothing changed, whatever was granted.
    pub(crate) filesystem_read_only: bool,
    /// The only folders that file tools change, where the session of the run names some.
    pub(crate) write_paths: Option<Vec<RelPath>>,
    /// The form of the wanted answer.
    pub(crate) output_schema: Option<Value>,
}

/// The tools of one run.
pub(crate) struct HostTools {
    call: Arc<Call>,
    rights: Arc<Rights>,
    policy: ToolPolicy,
    redactor: Redactor,
    /// Where programs run.
    place: Arc<Place>,
    files: Option<Arc<Files>>,
    result: Option<Arc<ReturnResult>>,
    servers: Option<Servers>,
    /// How many calls there were.
    calls: AtomicU64,
    /// Whether the audit says what a command of `shell` is kept from.
    sandbox_said: AtomicBool,
}

/// The tools that every run could have, in the order in which they are offered.
static BUILT_IN: LazyLock<Vec<Arc<dyn Tool>>> = LazyLock::new(|| {
    vec![
        Arc::new(OnFiles::<read_file::ReadFile>::new()),
        Arc::new(OnFiles::<write_file::WriteFile>::new()),
        Arc::new(OnFiles::<edit_file::EditFile>::new()),
        Arc::new(OnFiles::<move_file::MoveFile>::new()),
        Arc::new(OnFiles::<list_dir::ListDir>::new()),
        Arc::new(OnFiles::<glob::Glob>::new()),
        Arc::new(OnFiles::<grep::Grep>::new()),
        Arc::new(Shell::new()),
    ]
});

impl HostTools {
    /// The tools of a run. `redactor` hides the live values of the whole run. `invalid` code `output-schema` where the
    /// schema is none.
    pub(crate) fn new(
        call: Arc<Call>,
        rights: Arc<Rights>,
        policy: ToolPolicy,
        redactor: Redactor,
        place: Arc<Place>,
    ) -> Result<Self> {
        let files = policy
            .workspace
            .as_ref()
            .map(|(workspace, _)| Files::new(Arc::clone(workspace), redactor.clone(), &call.limits))
            .map(|files| Arc::new(files.only(policy.write_paths.clone())));
        let result = match &policy.output_schema {
            Some(schema) => Some(Arc::new(ReturnResult::new(schema, call.limits.output_bytes_max)?)),
            None => None,
        };
        Ok(Self {
            call,
            rights,
            policy,
            redactor,
            place,
            files,
            result,
            servers: None,
            calls: AtomicU64::new(0),
            sandbox_said: AtomicBool::new(false),
        })
    }

    /// The same with the tools of MCP servers, which are started when they are first asked for.
    pub(crate) fn with_servers(self, servers: Servers) -> Self {
        Self { servers: Some(servers), ..self }
    }

    /// Ends what runs for these tools beside a call: MCP servers.
    pub(crate) async fn close(&self) {
        if let Some(servers) = &self.servers {
            servers.close().await;
        }
    }

    /// Starts the MCP servers, unless they were.
    async fn start_servers(&self) -> Result<()> {
        if let Some(servers) = &self.servers {
            servers.tools(|name| self.is_listed(name)).await?;
        }
        Ok(())
    }

    /// The answer that the agent gave through `return_result`, in the task's schema; the last one, if there were several.
    pub(crate) fn parsed_output(&self) -> Option<Value> {
        self.result.as_ref().and_then(|result| result.value())
    }

    /// What file tools changed in the workspace, by path. What a `shell` command or a child changed is not known here.
    pub(crate) fn changes(&self) -> Vec<FileChange> {
        self.files.as_ref().map_or_else(Vec::new, |files| files.changes())
    }

    fn all(&self) -> impl Iterator<Item = Arc<dyn Tool>> {
        let result = self.result.iter().map(|result| Arc::clone(result) as Arc<dyn Tool>);
        let served = self.servers.iter().flat_map(|servers| servers.known()).cloned();
        BUILT_IN.iter().cloned().chain(served).chain(result)
    }

    /// Whether the task's own lists let a tool be used.
    fn is_listed(&self, name: &str) -> bool {
        let ToolPolicy { allowed_tools, disallowed_tools, .. } = &self.policy;
        let allowed = allowed_tools.is_empty() || allowed_tools.iter().any(|allowed| allowed == name);
        allowed && !disallowed_tools.iter().any(|disallowed| disallowed == name)
    }

    /// The tool of a name, if there is one and the run may use it; with the grants that it rests on.
    fn allowed(&self, name: &str) -> Result<(Arc<dyn Tool>, Option<String>), Refused> {
        let tool = self.all().find(|tool| tool.name() == name).ok_or_else(|| self.unknown(name))?;
        let grants = self.permit(tool.as_ref())?;
        Ok((tool, grants))
    }

    /// Whether the run may use a tool, and by which grants: the task first, then the workspace, then gate 2.
    fn permit(&self, tool: &dyn Tool) -> Result<Option<String>, Refused> {
        let name = tool.name();
        let policy = &self.policy;
        let denied =
            |why: &str| Err(Error::denied("tool", format!("the tool `{name}` is not available: {why}")).into());
        let needs = tool.needs();
        // What the host itself offers for the answer is no tool in the task's sense.
        if needs != Needs::Nothing && !self.is_listed(name) {
            return denied("the task does not allow it");
        }
        let write = match needs {
            Needs::Nothing => return Ok(None),
            // Nobody can keep a server from writing where it may: all there is to go by is its own word.
            Needs::Elsewhere { looks: false } if policy.filesystem_read_only => {
                return denied(
                    "the task wants a read-only file system, and the server does not say that it only looks",
                );
            }
            Needs::Elsewhere { .. } => return Ok(tool.grants()),
            Needs::Read => false,
            Needs::Write | Needs::Shell => true,
        };
        let Some((_, writable)) = &policy.workspace else {
            return denied("this run has no workspace");
        };
        if write && policy.filesystem_read_only {
            return denied("the task wants a read-only file system");
        }
        // An unconfined shell could change anything, so it needs the wider right: read-only is kept as a promise.
        if write && !writable {
            return denied("the workspace is read-only");
        }
        let mut grants = vec![self.rights.check(&Request::Workspace { write })?];
        if needs == Needs::Shell {
            grants.push(self.rights.check(&Request::Shell)?);
        }
        let texts: Vec<String> = grants.iter().filter_map(grants_text).collect();
        Ok(Some(texts.join(" ")))
    }

    fn unknown(&self, name: &str) -> Error {
        let tools: Vec<Arc<dyn Tool>> = self.all().collect();
        let near = near(name, tools.iter().map(|tool| tool.name()));
        let error = Error::not_found("tool", format!("there is no tool `{}`", shown(name, 80)));
        match near.first() {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error,
        }
    }
}

#[async_trait]
impl Tools for HostTools {
    async fn offered(&self) -> Result<Vec<Offered>> {
        self.start_servers().await?;
        let usable = self.all().filter(|tool| self.permit(tool.as_ref()).is_ok());
        Ok(usable
            .map(|tool| Offered {
                name: tool.name().to_owned(),
                // A server's own words come from outside.
                description: self.redactor.text(tool.description()).into_owned(),
                input_schema: self.redactor.text(&tool.input_schema().to_string()).into_owned(),
            })
            .collect())
    }

    async fn call_all(&self, calls: Vec<ToolCall>) -> Result<Vec<ToolAnswer>> {
        // A loop may know the names from elsewhere and never ask what is offered.
        let known = |call: &ToolCall| self.all().any(|tool| tool.name() == call.name);
        if self.servers.is_some() && !self.call.control.is_cancelled() && !calls.iter().all(known) {
            self.call.control.guard(self.start_servers()).await?;
        }
        call_all::call_all(self, calls).await
    }
}
