//! A loaded component and its calls: a fresh store for each, thrown away after it.
//!
//! A call ends in one of four ways: it returns, it faults, it returns late and is dropped at the end of the grace period,
//! or its caller drops it. In each the store is gone afterwards, and with it every handle: responses are closed, children
//! are killed.

use midplane_core::capability::CapabilitySet;
use midplane_core::limits::Limits;
use midplane_core::outcome::{Artifact, Claim, ToolAudit, Usage};
use midplane_core::run::Fault;
use midplane_core::task::{FilesystemAccess, Issue, PermissionMode, PermissionProfile};
use midplane_core::{Error, Result};
use serde_json::Value;
use std::pin::Pin;
use std::time::Duration;
use wasmtime::component::{Component, InstancePre};
use wasmtime::{Store, UpdateDeadline};

use crate::bindings::{Everything, EverythingPre, agent, types};
use crate::data::{Data, fault};
use crate::imports::from_wit;
use crate::{Engine, Ports};

/// A component that is compiled, linked and ready to be called.
#[derive(Clone)]
pub struct Plugin {
    engine: Engine,
    exports: Exports,
}

/// What a component exports. Only agents have calls so far; the other kinds load and start, so that they can be installed.
#[derive(Clone)]
enum Exports {
    Agent(EverythingPre<Data>),
    Other(InstancePre<Data>),
}

/// An agent's task as it crosses the border, with what the host made of it.
#[derive(Debug, Clone)]
pub struct AgentTask {
    /// The run.
    pub run_id: String,
    /// The caller's name of the task.
    pub task_id: String,
    /// What to do.
    pub goal: String,
    /// System prompt.
    pub system: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// How hard to think.
    pub reasoning_effort: Option<String>,
    /// The workspace as a child sees it.
    pub working_directory: Option<String>,
    /// Servers to hand to a vendor program.
    pub mcp_servers: Vec<McpServer>,
    /// What the agent may do.
    pub permissions: PermissionProfile,
    /// Most model turns.
    pub max_rounds: Option<u32>,
    /// Most that it may cost.
    pub budget_usd: Option<f64>,
    /// The conversation to go on with: id and transcript.
    pub session: Option<(String, Option<Value>)>,
    /// Schema of the wanted answer.
    pub output_schema: Option<Value>,
    /// What was staged.
    pub attachments: Vec<Attached>,
    /// The caller's metadata.
    pub metadata: Value,
}

/// An MCP server that a vendor program starts itself.
#[derive(Debug, Clone)]
pub struct McpServer {
    /// Unique in the task.
    pub name: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Its environment.
    pub env: Vec<(String, String)>,
}

/// Something that the caller gave along, staged in the workspace.
#[derive(Debug, Clone)]
pub struct Attached {
    /// `instructions`, `skill` or `file`.
    pub kind: String,
    /// Its name, unique in the task.
    pub name: String,
    /// Where it is, relative to the workspace; empty before it is staged.
    pub path: String,
    /// SHA-256 over its content, in hex; empty before it is staged.
    pub digest: String,
}

/// Whether a plugin could do its work right now.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Availability {
    /// `ready`, `not-ready` or `unknown`.
    pub status: &'static str,
    /// Why, as a word.
    pub reason: String,
    /// Why, as a sentence.
    pub message: String,
    /// Version of the vendor's program or interface.
    pub version: Option<String>,
}

/// A call of an export. Boxed, because a borrowed async closure cannot be named as one that may move between threads.
type InFlight<'a, T> = Pin<Box<dyn Future<Output = wasmtime::Result<T>> + Send + 'a>>;

/// An agent's run in flight. It owns what it needs, so that a driver can hold it beside everything else.
pub type Running = Pin<Box<dyn Future<Output = Result<Result<Claim>, Fault>> + Send>>;

impl Plugin {
    pub(crate) fn new(engine: &Engine, component: &Component) -> Result<Self> {
        let failed = |error: wasmtime::Error| unfit(&error);
        let pre = engine.linker().instantiate_pre(component).map_err(failed)?;
        let is_agent = component
            .component_type()
            .exports(engine.wasmtime())
            .any(|(name, _)| name.starts_with("midplane:plugin/agent@"));
        let exports =
            if is_agent { Exports::Agent(EverythingPre::new(pre).map_err(failed)?) } else { Exports::Other(pre) };
        Ok(Self { engine: engine.clone(), exports })
    }

    /// Instantiates it once and throws the instance away: what install does to see that it starts.
    pub async fn trial(&self, ports: Ports, limits: &Limits) -> Result<()> {
        let mut store = self.store(ports, limits);
        let instance = match &self.exports {
            Exports::Agent(pre) => pre.instantiate_async(&mut store).await.map(|_| ()),
            Exports::Other(pre) => pre.instantiate_async(&mut store).await.map(|_| ()),
        };
        instance.map_err(|error| match instantiate(&error, store.data()) {
            // The types of exports are compared here. What is not a trap is a component that does not fit.
            Fault::Instantiate(_) if error.downcast_ref::<wasmtime::Trap>().is_none() => unfit(&error),
            fault => fault.error(),
        })
    }

    /// What it declares.
    pub async fn capabilities(&self, ports: Ports, limits: &Limits) -> Result<CapabilitySet, Fault> {
        let set = self
            .call(ports, limits, |agent, store| Box::pin(agent.midplane_plugin_agent().call_capabilities(store)))
            .await?;
        // Bounded: a capability set is kept and printed for as long as the plugin is installed.
        let name = |name: String| midplane_core::text::cut(&name, NAME_BYTES_MAX).to_owned();
        Ok(CapabilitySet {
            features: set.features.into_iter().take(NAMES_MAX).map(name).collect(),
            limits: set.limits.into_iter().take(NAMES_MAX).map(|(limit, value)| (name(limit), value)).collect(),
        })
    }

    /// Whether a run could succeed.
    pub async fn availability(
        &self,
        ports: Ports,
        limits: &Limits,
        probe_timeout_ms: u32,
    ) -> Result<Availability, Fault> {
        let report = self
            .call(ports, limits, |agent, store| {
                Box::pin(agent.midplane_plugin_agent().call_availability(store, probe_timeout_ms))
            })
            .await?;
        let shown = |text: &str| midplane_core::text::shown(text, SENTENCE_CHARS_MAX);
        Ok(Availability {
            status: match report.status {
                types::Readiness::Ready => "ready",
                types::Readiness::NotReady => "not-ready",
                types::Readiness::Unknown => "unknown",
            },
            reason: shown(&report.reason),
            message: shown(&report.message),
            version: report.version.as_deref().map(shown),
        })
    }

    /// Why it would refuse a task.
    pub async fn validate(&self, ports: Ports, limits: &Limits, task: &AgentTask) -> Result<Vec<Issue>, Fault> {
        let task = to_wit(task);
        let issues = self
            .call(ports, limits, |agent, store| {
                Box::pin(async move { agent.midplane_plugin_agent().call_validate(store, &task).await })
            })
            .await?;
        let shown = |text: &str| midplane_core::text::shown(text, SENTENCE_CHARS_MAX);
        Ok(issues
            .into_iter()
            .take(NAMES_MAX)
            .map(|issue| Issue::new(shown(&issue.field), shown(&issue.message)))
            .collect())
    }

    /// Does a task. The outer failure is a fault of the call, the inner one the adapter's word.
    pub fn run(self, ports: Ports, limits: Limits, task: AgentTask) -> Running {
        Box::pin(async move {
            let task = to_wit(&task);
            let outcome = self
                .call(ports, &limits, |agent, store| {
                    Box::pin(async move { agent.midplane_plugin_agent().call_run(store, &task).await })
                })
                .await?;
            Ok(outcome.map(claim).map_err(from_wit))
        })
    }

    /// Tells the vendor that a run is cancelled.
    pub async fn cancel(
        &self,
        ports: Ports,
        limits: &Limits,
        run_id: &str,
        session_id: Option<&str>,
    ) -> Result<Result<()>, Fault> {
        let (run_id, session_id) = (run_id.to_owned(), session_id.map(str::to_owned));
        let told = self
            .call(ports, limits, |agent, store| {
                Box::pin(async move {
                    agent.midplane_plugin_agent().call_cancel(store, &run_id, session_id.as_deref()).await
                })
            })
            .await?;
        Ok(told.map_err(from_wit))
    }

    fn store(&self, ports: Ports, limits: &Limits) -> Store<Data> {
        let mut store = Store::new(self.engine.wasmtime(), Data::new(ports, limits, self.engine.ticker().clone()));
        let size = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        store.limiter(|data| &mut data.bounds);
        store.set_hostcall_fuel(size(limits.hostcall_bytes_max));
        store.set_max_component_handles(size(limits.handles_max));
        store.call_hook(|mut context, hook| {
            context.data_mut().cpu.cross(hook);
            Ok(())
        });
        store.set_epoch_deadline(1);
        // Always give the thread back at a tick, so that whoever polls this call sees its own timers; and end a guest that
        // has computed longer than it may. Given back in tokio's own way, which looks at timers and sockets before it goes on:
        // with a plain yield, as many spinning guests as there are threads would hold up every timer of the process.
        store.epoch_deadline_callback(|mut context| {
            let may_go_on = context.data_mut().cpu.tick();
            let pause = || UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()));
            Ok(if may_go_on { pause() } else { UpdateDeadline::Interrupt })
        });
        store
    }

    /// One call: instantiate, call, and drop the store; at the latest when its time and grace have passed.
    async fn call<T>(
        &self,
        ports: Ports,
        limits: &Limits,
        work: impl for<'a> FnOnce(&'a Everything, &'a mut Store<Data>) -> InFlight<'a, T>,
    ) -> Result<T, Fault> {
        let Exports::Agent(pre) = &self.exports else {
            return Err(Fault::Instantiate("this host calls only agents yet".to_owned()));
        };
        let control = ports.control.clone();
        let mut store = self.store(ports, limits);
        let in_flight = async {
            let agent = match pre.instantiate_async(&mut store).await {
                Ok(agent) => agent,
                Err(error) => return Err(instantiate(&error, store.data())),
            };
            match work(&agent, &mut store).await {
                Ok(value) => Ok(value),
                Err(error) => {
                    self.engine.dump(&error, &store);
                    Err(fault(&error, store.data()))
                }
            }
        };
        tokio::pin!(in_flight);
        let mut told = false;
        loop {
            tokio::select! {
                // The call first: what has returned is taken, however late it is.
                biased;
                result = &mut in_flight => return result,
                () = tokio::time::sleep_until(control.end().into()) => {
                    if control.is_cancelled() {
                        return Err(Fault::Dropped);
                    }
                    // An elapsed deadline is a cancel in every respect.
                    control.cancel(Duration::from_millis(limits.grace_ms));
                }
                // A cancel moves the end.
                () = control.cancelled(), if !told => told = true,
            }
        }
    }
}

/// Names and issues that are kept of one answer, and how long each may be.
const NAMES_MAX: usize = 100;
const NAME_BYTES_MAX: usize = 100;
const SENTENCE_CHARS_MAX: usize = 1_000;

fn unfit(error: &wasmtime::Error) -> Error {
    let why = midplane_core::text::shown(&format!("{error:#}"), 600);
    Error::unsupported("link", format!("the component does not fit this host: {why}")).hint(format!(
        "this host offers `midplane:plugin@{}`; build the plugin against the SDK of this line",
        crate::WIT_RELEASE
    ))
}

fn instantiate(error: &wasmtime::Error, data: &Data) -> Fault {
    match fault(error, data) {
        Fault::Trap(why) => Fault::Instantiate(why),
        other => other,
    }
}

fn to_wit(task: &AgentTask) -> agent::Task {
    let permissions = &task.permissions;
    agent::Task {
        run_id: task.run_id.clone(),
        task_id: task.task_id.clone(),
        goal: task.goal.clone(),
        system: task.system.clone(),
        model: task.model.clone(),
        reasoning_effort: task.reasoning_effort.clone(),
        working_directory: task.working_directory.clone(),
        mcp_servers: task
            .mcp_servers
            .iter()
            .map(|server| agent::McpServer {
                name: server.name.clone(),
                argv: server.argv.clone(),
                env: server.env.clone(),
            })
            .collect(),
        permissions: agent::PermissionProfile {
            mode: match permissions.mode {
                PermissionMode::Default => agent::PermissionMode::Default,
                PermissionMode::Strict => agent::PermissionMode::Strict,
                PermissionMode::Cautious => agent::PermissionMode::Cautious,
                PermissionMode::Permissive => agent::PermissionMode::Permissive,
            },
            filesystem: match permissions.filesystem {
                FilesystemAccess::ReadOnly => agent::FilesystemAccess::ReadOnly,
                FilesystemAccess::WorkspaceWrite => agent::FilesystemAccess::WorkspaceWrite,
                FilesystemAccess::FullAccess => agent::FilesystemAccess::FullAccess,
            },
            allowed_tools: permissions.allowed_tools.clone(),
            disallowed_tools: permissions.disallowed_tools.clone(),
            network: permissions.network,
            native_profile: permissions.native_profile.clone(),
        },
        max_rounds: task.max_rounds,
        budget_usd: task.budget_usd,
        session: task.session.as_ref().map(|(id, transcript)| agent::Session {
            id: id.clone(),
            transcript: transcript.as_ref().map(Value::to_string),
        }),
        output_schema: task.output_schema.as_ref().map(Value::to_string),
        attachments: task
            .attachments
            .iter()
            .map(|attached| agent::Attachment {
                kind: attached.kind.clone(),
                name: attached.name.clone(),
                path: attached.path.clone(),
                digest: attached.digest.clone(),
            })
            .collect(),
        metadata: task.metadata.to_string(),
    }
}

fn claim(outcome: agent::Outcome) -> Claim {
    Claim {
        finish_reason: outcome.finish_reason,
        output: outcome.output,
        error: outcome.error.map(from_wit),
        // Text that is no JSON is kept as a text: the check against the schema will refuse it and say so.
        parsed_output: outcome.parsed_output.map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text))),
        usage: Usage {
            input_tokens: outcome.usage.input_tokens,
            output_tokens: outcome.usage.output_tokens,
            cache_read_tokens: outcome.usage.cache_read_tokens,
            cache_creation_tokens: outcome.usage.cache_creation_tokens,
            total_tokens: outcome.usage.total_tokens,
            cost_usd: outcome.usage.cost_usd,
        },
        tool_calls: outcome
            .tool_calls
            .into_iter()
            .map(|audit| ToolAudit {
                name: audit.name,
                arguments: object(&audit.arguments),
                result_preview: midplane_core::text::preview(&audit.result_preview, 256),
                status: audit.status,
                duration_ms: audit.duration_ms,
                by: "vendor".to_owned(),
            })
            .collect(),
        artifacts: outcome
            .artifacts
            .into_iter()
            .map(|artifact| Artifact { uri: artifact.uri, kind: artifact.kind, metadata: object(&artifact.metadata) })
            .collect(),
        session_id: outcome.session_id,
        rounds: outcome.rounds,
        metadata: object(&outcome.metadata),
    }
}

/// A JSON object that a guest gave as text; what is none is kept under `text`, so that nothing is lost.
fn object(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => value,
        _ if text.is_empty() => Value::Null,
        _ => serde_json::json!({ "text": text }),
    }
}
