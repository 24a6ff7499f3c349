//! What each agent can do and what it refuses, by its own word: declared features, limits, and the answers of its `validate`
//! to one task for each thing that a task can ask for.
//!
//! Nothing is started or sent, and no secret is read: all of it are pure calls of the plugin.

use midplane_core::capability::{self, CapabilitySet};
use midplane_core::manifest::PluginKind;
use midplane_core::task::{FilesystemAccess, Issue, PermissionMode, Task};
use midplane_core::{ProfileName, Result};
use midplane_engine::AgentTask;
use serde::Serialize;

use crate::admit::agent_task;
use crate::driver::now_ms;
use crate::host::Host;
use crate::profile::Profile;

/// What an agent can do, under one profile.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AgentView {
    /// The profile.
    pub profile: ProfileName,
    /// Its plugin.
    pub plugin: String,
    /// The plugin's version.
    pub version: String,
    /// What it declares.
    pub features: Vec<String>,
    /// Numeric bounds of the vendor, by name.
    pub limits: Vec<(String, u64)>,
    /// What it would refuse, one entry for each thing that a task can ask for.
    pub rejects: Vec<Rejection>,
}

/// One thing that an agent refuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rejection {
    /// What a task would ask for, such as `permissions.network: false`.
    pub asked: String,
    /// Why not.
    pub why: String,
}

impl Host {
    /// What the agent of a profile can do and refuses. Errors: those of loading; `unsupported` code `plugin-kind` where the
    /// plugin is no agent.
    pub async fn agent(&self, profile: &str) -> Result<AgentView> {
        let profile = self.load(profile).await?;
        if profile.manifest.kind != PluginKind::Agent {
            let kind = profile.manifest.kind;
            let message = format!("profile `{}` is of kind `{kind}`, not an agent", profile.name);
            return Err(midplane_core::Error::unsupported("plugin-kind", message));
        }
        let declared = self.capabilities(&profile).await?;
        let mut rejects = Vec::new();
        // What the adapter finds wrong with a task that asks for nothing is no answer to what a task asks for.
        let always = self.refuses(&profile, &plain()).await?;
        for (asked, task) in probes(&declared) {
            let why: Vec<String> = self
                .refuses(&profile, &task)
                .await?
                .into_iter()
                .filter(|issue| !always.contains(issue))
                .map(|issue| issue.message)
                .collect();
            if !why.is_empty() {
                rejects.push(Rejection { asked: asked.to_owned(), why: why.join("; ") });
            }
        }
        Ok(AgentView {
            profile: profile.name.clone(),
            plugin: profile.manifest.name.to_string(),
            version: profile.manifest.version.to_string(),
            features: declared.features,
            limits: declared.limits,
            rejects,
        })
    }

    async fn refuses(&self, profile: &Profile, task: &Task) -> Result<Vec<Issue>> {
        self.validate(profile, &as_seen(task, profile)?).await
    }
}

fn as_seen(task: &Task, profile: &Profile) -> Result<AgentTask> {
    let run_id = midplane_core::RunId::from_parts(now_ms(), 0);
    Ok(agent_task(&run_id, task, None, &profile.limits))
}

fn plain() -> Task {
    Task::new("say what you would refuse")
}

/// A task for each thing that can be asked for and that gate 1 lets through: what is not declared is refused there already,
/// and the list of features says so.
fn probes(declared: &CapabilitySet) -> Vec<(&'static str, Task)> {
    type Ask = fn(&mut Task);
    let asks: [(&'static str, Ask); 14] = [
        ("permissions.mode: strict", |task| task.permissions.mode = PermissionMode::Strict),
        ("permissions.mode: cautious", |task| task.permissions.mode = PermissionMode::Cautious),
        ("permissions.mode: permissive", |task| task.permissions.mode = PermissionMode::Permissive),
        ("permissions.filesystem: read-only", |task| task.permissions.filesystem = FilesystemAccess::ReadOnly),
        ("permissions.filesystem: workspace-write", |task| {
            task.permissions.filesystem = FilesystemAccess::WorkspaceWrite;
        }),
        ("permissions.filesystem: full-access", |task| task.permissions.filesystem = FilesystemAccess::FullAccess),
        ("permissions.network: true", |task| task.permissions.network = Some(true)),
        ("permissions.network: false", |task| task.permissions.network = Some(false)),
        ("permissions.allowed_tools: [read_file]", |task| {
            task.permissions.allowed_tools = vec!["read_file".to_owned()]
        }),
        ("permissions.disallowed_tools: [read_file]", |task| {
            task.permissions.disallowed_tools = vec!["read_file".to_owned()]
        }),
        ("permissions.native_profile: a-profile", |task| {
            task.permissions.native_profile = Some("a-profile".to_owned())
        }),
        ("reasoning_effort: high", |task| task.reasoning_effort = Some("high".to_owned())),
        ("budget_usd: 1", |task| task.budget_usd = Some(1.0)),
        ("system: Be brief.", |task| task.system = Some("Be brief.".to_owned())),
    ];
    let tasks = asks.into_iter().map(|(asked, ask)| {
        let mut task = plain();
        ask(&mut task);
        (asked, task)
    });
    tasks.filter(|(_, task)| capability::issues(task, declared).is_empty()).collect()
}
