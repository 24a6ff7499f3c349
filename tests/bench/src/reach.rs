//! What both sides need: the measured plugin, hosts, and ports that lead nowhere.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use midplane::core::task::{PermissionProfile, Task};
use midplane::{Config, Embedded, FIRST_PARTY, Host, Paths, Run, RunRequest};
use midplane_core::Error;
use midplane_core::limits::Limits;
use midplane_engine::ports::{self, Ports};
use midplane_engine::{AgentTask, Control, Engine, Plugin};
use tempfile::TempDir;

/// The guest that is measured.
pub(crate) const GUEST: Embedded = Embedded {
    manifest: include_str!("../../guests/bench/plugin.toml"),
    component: include_bytes!(concat!(env!("OUT_DIR"), "/guest_bench.wasm")),
};

/// A folder beside this program, so on a disk and not in memory; gone when it is dropped.
pub(crate) fn folder() -> Result<TempDir> {
    let program = std::env::current_exe()?;
    let below: PathBuf = program.parent().context("the program lies in a folder")?.to_owned();
    Ok(tempfile::Builder::new().prefix("bench-").tempdir_in(below)?)
}

/// A host with a durable store of its own, and the measured guest. Clones share it.
#[derive(Clone)]
pub(crate) struct Home {
    /// The host.
    pub(crate) host: Host,
    _folder: Arc<TempDir>,
}

impl Home {
    /// Opens one. The guest is compiled and loaded when this returns.
    pub(crate) async fn open(limits: &[(&str, u64)]) -> Result<Self> {
        let folder = folder()?;
        let mut config = Config::default();
        config.limits = limits.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
        let host = Host::builder().paths(Paths::under(folder.path())).plugin(GUEST).config(config).open().await?;
        let home = Self { host, _folder: Arc::new(folder) };
        home.start("noop").await?.outcome().await?;
        Ok(home)
    }

    /// Starts a run.
    pub(crate) async fn start(&self, goal: &str) -> Result<Run> {
        Ok(self.host.run(RunRequest { profile: "bench".to_owned(), task: Task::new(goal), allow: Vec::new() }).await?)
    }
}

/// A component in our engine.
pub(crate) fn plugin(engine: &Engine, component: &[u8]) -> Result<Plugin> {
    let folder = folder()?;
    let compiled = folder.path().join("compiled");
    std::fs::write(&compiled, engine.compile(component)?)?;
    Ok(engine.load(&compiled)?)
}

/// Name and component of each plugin that comes with the program.
pub(crate) fn first_party() -> impl Iterator<Item = (&'static str, &'static [u8])> {
    FIRST_PARTY.iter().map(|plugin| {
        let name = plugin.manifest.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
        (name.unwrap_or("?"), plugin.component)
    })
}

/// A task for the engine.
pub(crate) fn agent_task(goal: &str) -> AgentTask {
    AgentTask {
        run_id: "run".to_owned(),
        task_id: "task".to_owned(),
        goal: goal.to_owned(),
        system: None,
        model: None,
        reasoning_effort: None,
        working_directory: None,
        mcp_servers: Vec::new(),
        permissions: PermissionProfile::default(),
        max_rounds: None,
        budget_usd: None,
        session: None,
        output_schema: None,
        attachments: Vec::new(),
        metadata: serde_json::json!({}),
    }
}

/// Ports of a call, made anew for each as the host makes them, that lead nowhere.
pub(crate) fn ports(limits: &Limits) -> Ports {
    let nowhere = Arc::new(Nowhere);
    Ports {
        control: Arc::new(Control::new(Duration::from_millis(limits.query_ms_max))),
        config: Arc::new(BTreeMap::new()),
        log: nowhere.clone(),
        events: nowhere.clone(),
        http: nowhere.clone(),
        blobs: nowhere.clone(),
        kv: nowhere.clone(),
        tools: nowhere.clone(),
        approval: nowhere.clone(),
        process: nowhere,
    }
}

/// Takes events and log lines, and refuses the rest.
struct Nowhere;

fn nothing<T>() -> midplane_core::Result<T> {
    Err(Error::unsupported("bench", "there is nothing here"))
}

impl ports::Log for Nowhere {
    fn write(&self, _level: ports::Level, _message: String) {}
}

#[async_trait]
impl ports::Events for Nowhere {
    async fn emit(&self, _events: Vec<(String, String)>) -> midplane_core::Result<()> {
        Ok(())
    }
}

#[async_trait]
impl ports::Http for Nowhere {
    async fn send(
        &self,
        _request: ports::HttpRequest,
        _body: ports::HttpBody,
    ) -> midplane_core::Result<Box<dyn ports::HttpResponse>> {
        nothing()
    }

    async fn presign(
        &self,
        _request: ports::HttpRequest,
        _expires_s: u32,
    ) -> midplane_core::Result<ports::SignedRequest> {
        nothing()
    }
}

impl ports::Blobs for Nowhere {
    fn open_writer(&self) -> midplane_core::Result<Box<dyn ports::BlobWriter>> {
        nothing()
    }
}

#[async_trait]
impl ports::Kv for Nowhere {
    async fn get(&self, _key: &str) -> midplane_core::Result<Option<(Vec<u8>, u64)>> {
        nothing()
    }

    async fn put(&self, _key: &str, _value: Vec<u8>, _expect: Option<u64>) -> midplane_core::Result<u64> {
        nothing()
    }

    async fn remove(&self, _key: &str, _expect: Option<u64>) -> midplane_core::Result<bool> {
        nothing()
    }

    async fn keys(&self, _prefix: &str, _after: Option<&str>, _limit: u32) -> midplane_core::Result<Vec<String>> {
        nothing()
    }
}

#[async_trait]
impl ports::Tools for Nowhere {
    async fn offered(&self) -> midplane_core::Result<Vec<ports::Tool>> {
        nothing()
    }

    async fn call_all(&self, _calls: Vec<ports::ToolCall>) -> midplane_core::Result<Vec<ports::ToolAnswer>> {
        nothing()
    }
}

#[async_trait]
impl ports::Approval for Nowhere {
    async fn ask(&self, _question: ports::Question) -> midplane_core::Result<ports::Decision> {
        nothing()
    }
}

#[async_trait]
impl ports::Process for Nowhere {
    async fn spawn(&self, _command: ports::Command) -> midplane_core::Result<Box<dyn ports::Child>> {
        nothing()
    }
}
