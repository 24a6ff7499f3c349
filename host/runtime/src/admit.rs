//! Admission: what must hold before a run exists, in order, and the start of its driver.
//!
//! ```text
//! task ─► its own issues ─► profile, plugin ─► gate 1 (features) ─► grants ─► secrets ─► the adapter's `validate` ─► run
//! ```
//! Nothing is written before all of it has passed: a refused task leaves no trace but its answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use midplane_core::capability;
use midplane_core::gate::{Request, overlap};
use midplane_core::limits::Limits;
use midplane_core::outcome::Outcome;
use midplane_core::permission::{Grant, Grants, Permission, Permissions};
use midplane_core::redact::Redactor;
use midplane_core::run::{Fault, State};
use midplane_core::sandbox::SandboxSettings;
use midplane_core::session::reach::Reach;
use midplane_core::task::{Issue, Task, WorkspaceAccess};
use midplane_core::{Error, ProfileName, Result, RunId};
use midplane_engine::plugin::Availability;
use midplane_engine::{AgentTask, Attached, Control, Ports, ports};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tracing::Instrument as _;

use crate::approval::{Answering, Approvals, Questions};
use crate::blob::{BlobBudget, BlobSpace};
use crate::call::{Call, Sink};
use crate::driver::{COMMANDS_MAX, Driver, Ended, Invocation, now_ms};
use crate::egress::{Egress, HttpBudget, TokenUse};
use crate::endpoints::{self, Plan, Tokens};
use crate::host::{Active, Host, Resolved, new_run_id, query_control};
use crate::placeholder::Placeholders;
use crate::process::Processes;
use crate::process::place::Place;
use crate::profile::{self, Profile, secret_names};
use crate::provision::Provision;
use crate::reach::{ProfileKv, TraceLog, Without, pure};
use crate::rights::{Rights, grants_text};
use crate::sessions::ground::Within;
use crate::sink::{RunSink, TraceSink, WRITES_MAX};
use crate::tools::mcp::bridge::Sockets;
use crate::tools::mcp::{self, Server, Servers};
use crate::tools::{HostTools, ToolPolicy};
use crate::workspace::Workspace;

/// What is asked of a host.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// Under which profile.
    pub profile: String,
    /// What to do.
    pub task: Task,
    /// What the operator allows for this run alone. The task's workspace is a grant by itself.
    pub allow: Vec<Grant>,
}

/// A task that is not run, with all reasons.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// The first reason.
    pub error: Error,
    /// Fields of the task that cannot be honoured, in order.
    pub issues: Vec<Issue>,
    /// Grants that are missing, with the profile that they are missing for.
    pub missing: Vec<Grant>,
    /// The profile, once it is known.
    pub profile: Option<ProfileName>,
}

impl From<Error> for Box<Refusal> {
    fn from(error: Error) -> Self {
        Self::new(Refusal::from(error))
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { error, issues: Vec::new(), missing: Vec::new(), profile: None }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Refusal {}

/// A run that this process drives.
pub struct Run {
    id: RunId,
    ended: watch::Receiver<Ended>,
}

impl Run {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &RunId {
        &self.id
    }

    /// Waits for its end. An error means that its log could not be written.
    pub async fn outcome(&mut self) -> Result<Outcome> {
        let lost = || Error::internal("driver-lost", "the driver of the run is gone");
        let ended = self.ended.wait_for(Option::is_some).await.map_err(|_| lost())?;
        ended.clone().ok_or_else(lost)?
    }
}

impl Host {
    /// Starts a run: checked, written, and on its way when this returns.
    pub async fn run(&self, request: RunRequest) -> Result<Run, Box<Refusal>> {
        self.run_with(request, &BTreeMap::new(), None).await
    }

    /// The same with settings laid over those of the profile, within a session.
    pub(crate) async fn run_with(
        &self,
        request: RunRequest,
        over: &BTreeMap<String, Value>,
        within: Option<Arc<Within>>,
    ) -> Result<Run, Box<Refusal>> {
        if self.is_closing() {
            return Err(Error::unavailable("closing", "the host is shutting down").into());
        }
        let task = request.task;
        invalid(task.issues(), "task", "the task is not valid")?;
        let profile = self.load_with(&request.profile, over).await?;
        let named = |error: Error| Box::new(Refusal { profile: Some(profile.name.clone()), ..Refusal::from(error) });
        let declared = self.capabilities(&profile).await.map_err(named)?;
        let lacking = capability::issues(&task, &declared);
        if !lacking.is_empty() {
            // What the adapter refuses besides is said along: a task is then put right once.
            unsupported(&profile, self.all_issues(&profile, &task, lacking).await.map_err(named)?)?;
        }
        // Older names in the metadata were gated by those names; from here on they are the fields that they mean.
        let (written, task) = (task.clone(), task.with_aliases());
        invalid(task.issues(), "task", "the task is not valid")?;
        let sockets = Sockets::new(&task, self.inner.registry.helper()).map_err(named)?;
        let asked = mcp::permissions(&task);
        let workspace = open_workspace(&task).map_err(named)?;
        let mut grants = self.granted(&profile.name, &request.allow).await.map_err(named)?;
        if let Some(within) = &within {
            grants = within.reach.grants(&grants, [&*profile.permissions, &asked]);
        }
        if let Some((_, write)) = &workspace {
            grants.insert(
                Grant::Workspace(midplane_core::permission::Access::needed(*write)),
                midplane_core::permission::Origin::Once,
            );
        }
        self.granted_all(&profile, &grants, &asked).map_err(|refusal| match &within {
            Some(within) => out_of_reach(&within.reach, refusal),
            None => refusal,
        })?;
        let tokens = endpoints::tokens(&profile.endpoints, &grants).map_err(named)?;
        let (secrets, redactor) = self.secrets(&profile, &grants, &asked, &tokens).await.map_err(named)?;
        let of_plugin = profile.required_secrets().into_iter().chain(profile.endpoint_secrets(&grants));
        let required = of_plugin.chain(secret_names(&asked));
        if let Some(error) = required.into_iter().find_map(|name| secrets.missing(&name).cloned()) {
            let mut error = error;
            // What is missing is a right to act at the vendor, so it is answered like a missing grant.
            error.kind = midplane_core::ErrorKind::Denied;
            return Err(named(error));
        }
        let run_id = new_run_id().map_err(named)?;
        let folder = workspace.as_ref().map(|(workspace, _)| workspace.as_ref());
        let mut agent_task = agent_task(&run_id, &task, folder, &profile.limits);
        agent_task.mcp_servers = sockets.servers(&task);
        let refused = self.validate(&profile, &agent_task).await.map_err(named)?;
        unsupported(&profile, as_written(&written, refused))?;
        let rights = Rights {
            profile: profile.name.clone(),
            permissions: profile.permissions.clone(),
            grants: Arc::new(grants),
        };
        let admitted = Admitted {
            run_id,
            task,
            agent_task,
            profile: &profile,
            rights,
            secrets,
            tokens,
            redactor,
            workspace,
            sockets,
            within,
        };
        self.start(admitted).await.map_err(named)
    }

    /// Whether everything is granted that the plugin cannot do without, or a task asks for besides.
    pub(crate) fn granted_all(
        &self,
        profile: &Profile,
        grants: &Grants,
        further: &Permissions,
    ) -> Result<(), Box<Refusal>> {
        let unset = profile.permissions.unset();
        if let Some(name) = unset.first() {
            return Err(Error::invalid(
                "setting-missing",
                format!("profile `{}` needs the setting `{name}`", profile.name),
            )
            .hint(format!("set it under `profiles: {}: settings:` in the configuration", profile.name))
            .into());
        }
        let mut missing = profile.missing(grants);
        missing.extend(profile::missing(&profile.name, further, grants));
        let Some(first) = missing.first() else { return Ok(()) };
        let list: Vec<String> = missing.iter().map(|grant| format!("`{grant}`")).collect();
        let error = Error::denied(
            "grant-missing",
            format!("profile `{}` may not run without the grant {}", profile.name, list.join(", ")),
        )
        .hint(midplane_core::gate::allow_command(&profile.name, first));
        Err(Box::new(Refusal { error, issues: Vec::new(), missing, profile: Some(profile.name.clone()) }))
    }

    /// What the plugin declares under these settings.
    pub(crate) async fn capabilities(&self, profile: &Profile) -> Result<capability::CapabilitySet> {
        let ports = self.pure(profile, "capabilities");
        profile.plugin.capabilities(ports, &profile.limits).await.map_err(|fault| unanswered(&fault, "capabilities"))
    }

    pub(crate) async fn validate(&self, profile: &Profile, task: &AgentTask) -> Result<Vec<Issue>> {
        let ports = self.pure(profile, "validate");
        profile.plugin.validate(ports, &profile.limits, task).await.map_err(|fault| unanswered(&fault, "validate"))
    }

    /// All reasons why a profile cannot do a task, in order: the features that it does not declare, then what its adapter
    /// refuses besides, each by the name under which the task has it. Empty when it can. Nothing is started, no secret is
    /// read, and no grant is asked for.
    pub async fn issues(&self, profile: &str, task: &Task) -> Result<Vec<Issue>> {
        self.issues_with(profile, task, &BTreeMap::new()).await
    }

    /// The same with settings laid over those of the profile.
    pub(crate) async fn issues_with(
        &self,
        profile: &str,
        task: &Task,
        over: &BTreeMap<String, Value>,
    ) -> Result<Vec<Issue>> {
        let profile = self.load_with(profile, over).await?;
        let lacking = capability::issues(task, &self.capabilities(&profile).await?);
        self.all_issues(&profile, task, lacking).await
    }

    async fn all_issues(&self, profile: &Profile, task: &Task, lacking: Vec<Issue>) -> Result<Vec<Issue>> {
        let meant = task.clone().with_aliases();
        let mut seen = agent_task(&RunId::from_parts(now_ms(), 0), &meant, None, &profile.limits);
        seen.mcp_servers = Sockets::new(&meant, self.inner.registry.helper())?.servers(&meant);
        Ok(capability::all(lacking, as_written(task, self.validate(profile, &seen).await?)))
    }

    fn pure(&self, profile: &Profile, call: &'static str) -> Ports {
        let span = tracing::info_span!("call", plugin = %profile.manifest.name, profile = %profile.name, call);
        pure(profile.config.clone(), Redactor::default(), span, &profile.limits)
    }

    pub(crate) async fn probe(&self, profile: &Profile, probe: Duration) -> Result<Availability> {
        let not_ready = |reason: &str, message: String| Availability {
            status: "not-ready",
            reason: reason.to_owned(),
            message,
            version: None,
        };
        let grants = self.granted(&profile.name, &[]).await?;
        if let Err(refusal) = self.granted_all(profile, &grants, &Permissions::default()) {
            return Ok(not_ready("missing-grant", refusal.error.message));
        }
        let (secrets, redactor) = self.secrets(profile, &grants, &Permissions::default(), &Tokens::new()).await?;
        if let Some(error) = profile.required_secrets().iter().find_map(|name| secrets.missing(name)) {
            return Ok(not_ready("missing-credentials", error.message.clone()));
        }
        Ok(match self.ask(profile, grants, secrets, redactor, probe).await? {
            Ok(report) => report,
            Err(Fault::Dropped) => Availability {
                status: "unknown",
                reason: "unknown".into(),
                message: "the plugin did not answer in time".into(),
                version: None,
            },
            Err(fault) => not_ready("setup-failed", fault.error().message),
        })
    }

    /// The plugin's own word on whether it could run.
    pub(crate) async fn ask(
        &self,
        profile: &Profile,
        grants: Grants,
        secrets: Resolved,
        redactor: Redactor,
        probe: Duration,
    ) -> Result<Result<Availability, Fault>> {
        let limits = Limits {
            query_ms_max: u64::try_from(probe.as_millis()).unwrap_or(u64::MAX).max(1_000),
            ..profile.limits.clone()
        };
        let control = query_control(&limits);
        let sink = Arc::new(TraceSink { redactor: redactor.clone(), limits: limits.clone() });
        let call = Arc::new(Call {
            profile: profile.name.clone(),
            run_id: None,
            limits: limits.clone(),
            control,
            sink: sink.clone(),
        });
        let rights = Rights {
            profile: profile.name.clone(),
            permissions: profile.permissions.clone(),
            grants: Arc::new(grants),
        };
        let shared = Shared::new(self, &limits, &redactor, &Tokens::new(), None)?;
        let services = Services {
            call,
            rights: Arc::new(rights),
            secrets: Arc::new(secrets),
            redactor,
            events: sink,
            tools: None,
        };
        let place = self.place(&profile.name, None, true, None);
        let ports = services.ports(self, profile, &shared, place);
        let probe_ms = u32::try_from(probe.as_millis()).unwrap_or(u32::MAX);
        Ok(profile.plugin.availability(ports, &limits, probe_ms).await)
    }

    /// Where the programs of a call run.
    fn place(
        &self,
        profile: &ProfileName,
        workspace: Option<(Arc<Workspace>, bool)>,
        network: bool,
        within: Option<(Arc<Within>, bool)>,
    ) -> Arc<Place> {
        let (ground, settings) = (self.inner.ground.clone(), self.sandbox_of(profile));
        let (within, writes) = within.unzip();
        let place = Place::new(ground, profile, workspace, settings, network);
        Arc::new(place.within(within, writes.unwrap_or_default()))
    }

    /// What the operator keeps the programs of a profile from.
    pub(crate) fn sandbox_of(&self, profile: &ProfileName) -> SandboxSettings {
        self.inner.config.profiles.get(profile).map(|profile| profile.sandbox.clone()).unwrap_or_default()
    }

    async fn start(&self, admitted: Admitted<'_>) -> Result<Run> {
        let Admitted {
            run_id,
            task,
            agent_task,
            profile,
            rights,
            mut secrets,
            tokens,
            redactor,
            workspace,
            sockets,
            within,
        } = admitted;
        let created_ms = now_ms();
        let timeout = match task.deadline {
            // An instant becomes a length of time here, once: a clock that is set later changes no deadline.
            Some(deadline) => u64::try_from(deadline.ms()).unwrap_or(0).saturating_sub(created_ms),
            None => task.timeout_ms.unwrap_or(profile.limits.run_ms_default),
        };
        let timeout = Duration::from_millis(timeout);
        let control = Arc::new(Control::new(timeout));
        let deadline = control.end();
        let (writes, written) = mpsc::channel(WRITES_MAX);
        let sink = Arc::new(RunSink::new(writes, redactor.clone(), profile.limits.clone()));
        // Read before there was a run to write it to.
        secrets.take_audits().into_iter().for_each(|audit| sink.audit(audit));
        let rights = Arc::new(rights);
        let call = Arc::new(Call {
            profile: profile.name.clone(),
            run_id: Some(run_id.clone()),
            limits: profile.limits.clone(),
            control: control.clone(),
            sink: sink.clone(),
        });
        let policy = ToolPolicy {
            workspace: workspace.clone(),
            allowed_tools: task.permissions.allowed_tools.clone(),
            disallowed_tools: task.permissions.disallowed_tools.clone(),
            filesystem_read_only: task.permissions.filesystem == midplane_core::task::FilesystemAccess::ReadOnly
                || task.permissions.mode == midplane_core::task::PermissionMode::Strict,
            output_schema: task.output_schema.clone(),
            write_paths: within.as_ref().and_then(|within| within.tools.clone()),
        };
        // What a task does not let its tools change, its programs do not change either. Write paths of a session are added by
        // themselves.
        let writes_all = !policy.filesystem_read_only && policy.write_paths.is_none();
        let folder = workspace.clone().map(|(folder, writes)| (folder, writes && writes_all));
        let network = task.permissions.network != Some(false);
        let place_within = within.clone().map(|within| (within, !policy.filesystem_read_only));
        let place = self.place(&profile.name, folder, network, place_within);
        let tools = HostTools::new(call.clone(), rights.clone(), policy, redactor.clone(), place.clone())?;
        let secrets = Arc::new(secrets);
        let shared = Arc::new(Shared::new(self, &profile.limits, &redactor, &tokens, within)?);
        let folder = workspace.map(|(workspace, _)| workspace);
        let servers = self.mcp_servers(&task, &call, &rights, &secrets, &redactor, &shared, &place)?;
        let tools = Arc::new(tools.with_servers(Servers::new(servers.clone(), call.clone())));
        let services = Services {
            call,
            rights: rights.clone(),
            secrets: secrets.clone(),
            redactor: redactor.clone(),
            events: sink.clone(),
            tools: Some(tools.clone()),
        };
        let ports = services.ports(self, profile, &shared, place.clone());
        let (http, blobs) = (ports.http.clone(), shared.blobs.clone());
        let endpoints = Plan::new(&profile.endpoints, &tokens, http, blobs, control.clone(), &profile.limits)?;
        let task_id = task.task_id.clone().unwrap_or_else(|| format!("task-{run_id}"));
        let slot = self.take_slot(&profile.name, &task_id, &run_id)?;
        let (commands, ordered) = mpsc::channel(COMMANDS_MAX);
        let (ended, ending) = watch::channel(None);
        let mut driver = Driver {
            run_id: run_id.clone(),
            profile: profile.name.clone(),
            task_id: task_id.clone(),
            owner: self.inner.owner_id.clone(),
            log: self.inner.store.log.clone(),
            limits: profile.limits.clone(),
            slot: Some(slot),
            control,
            deadline,
            budget_usd: task.budget_usd,
            prices: self.inner.prices.clone(),
            sink: sink.clone(),
            writes: written,
            commands: ordered,
            ended,
            state: State::default(),
            telemetry: self.inner.telemetry.clone(),
            created_ms,
            summary: json!({ "goal": redactor.text(&midplane_core::text::preview(&task.goal, 200)), "plugin": profile.manifest.name }),
        };
        driver.create(created(profile, &rights.grants, &task, &task_id)).await?;
        let provision = Provision {
            run_id: run_id.clone(),
            store: self.inner.store.clone(),
            limits: profile.limits.clone(),
            workspace: folder,
            attachments: task.attachments.clone(),
            output_schema: task.output_schema.clone(),
            tools,
            endpoints: Some(endpoints),
            place,
            placeholders: shared.placeholders.clone(),
            servers: Some((sockets, servers)),
        };
        let questions = shared.questions.clone();
        let cancel_ports = cancel_ports(self.clone(), profile, &services, shared, network);
        let invocation = Invocation { plugin: profile.plugin.clone(), ports, cancel_ports, task: agent_task };
        self.register(run_id.clone(), Active { commands, ended: ending.clone(), cancelled: Arc::default(), questions });
        let span = tracing::info_span!("run", run = %run_id, plugin = %profile.manifest.name, profile = %profile.name);
        let (room, host, id) = (self.inner.room.clone(), self.clone(), run_id.clone());
        if self.inner.owner.is_some() {
            let (host, id) = (self.clone(), run_id.clone());
            tokio::spawn(async move {
                if let Err(error) = host.take_signals_of(&[id]).await {
                    tracing::warn!(%error, "signals of other processes cannot be read");
                }
            });
        }
        let drive = async move {
            driver.drive(Box::pin(room.acquire_owned()), Box::pin(provision.prepare()), invocation).await;
            host.unregister(&id);
        };
        tokio::spawn(drive.instrument(span));
        Ok(Run { id: run_id, ended: ending })
    }

    /// The MCP servers of a task, each with gates of its own: what one may is nothing to another.
    #[expect(clippy::too_many_arguments, reason = "they are the parts of a run, which nothing else holds together yet")]
    fn mcp_servers(
        &self,
        task: &Task,
        call: &Arc<Call>,
        rights: &Arc<Rights>,
        secrets: &Arc<Resolved>,
        redactor: &Redactor,
        shared: &Shared,
        place: &Arc<Place>,
    ) -> Result<Vec<Arc<Server>>> {
        let mut servers = Vec::new();
        // One request for each server, in the same order.
        for (spec, requested) in task.mcp_servers.iter().zip(mcp::permissions(task).iter()) {
            let permissions = Arc::new(Permissions::from_iter([requested.clone()]));
            let own = Arc::new(Rights { permissions: permissions.clone(), ..(**rights).clone() });
            let grants = match &requested.permission {
                Permission::Command { argv, .. } => {
                    own.check(&Request::Command { argv }).ok().as_ref().and_then(grants_text)
                }
                permission => {
                    let whole = midplane_core::gate::whole(permission);
                    own.grants.iter().find(|(grant, _)| overlap(grant, &whole)).map(|(grant, _)| grant.to_string())
                }
            };
            // Placeholders of another nonce: a plugin's texts stand for nothing here.
            let placeholders = Placeholders::new()?;
            let http = Egress {
                call: call.clone(),
                permissions,
                grants: rights.grants.clone(),
                secrets: secrets.clone(),
                tokens: TokenUse::new(&self.inner.tokens, redactor),
                placeholders: Arc::new(placeholders.clone()),
                budget: shared.http.clone(),
                blobs: shared.blobs.clone(),
                tls: self.inner.tls.clone(),
                resolver: self.inner.resolver.clone(),
            };
            let (place, secrets, redactor) = (place.clone(), secrets.clone(), redactor.clone());
            let processes = Processes::new(call.clone(), own, place, secrets, placeholders, redactor);
            let server = Server { spec: spec.clone(), call: call.clone(), processes, http: Arc::new(http), grants };
            servers.push(Arc::new(server));
        }
        Ok(servers)
    }
}

/// A task that may run.
struct Admitted<'a> {
    run_id: RunId,
    task: Task,
    agent_task: AgentTask,
    profile: &'a Profile,
    rights: Rights,
    secrets: Resolved,
    /// Secrets that the host made for this run.
    tokens: Tokens,
    /// Where bridges to its MCP servers will find them.
    sockets: Sockets,
    redactor: Redactor,
    workspace: Option<(Arc<Workspace>, bool)>,
    within: Option<Arc<Within>>,
}

/// What all calls of one run share.
struct Shared {
    http: Arc<HttpBudget>,
    blobs: BlobSpace,
    placeholders: Placeholders,
    questions: Questions,
    /// The session that the run is a part of.
    within: Option<Arc<Within>>,
}

impl Shared {
    fn new(
        host: &Host,
        limits: &Limits,
        redactor: &Redactor,
        own: &Tokens,
        within: Option<Arc<Within>>,
    ) -> Result<Self> {
        let budget = Arc::new(BlobBudget::new(limits.blob_bytes_max));
        Ok(Self {
            http: Arc::new(HttpBudget::new(limits)),
            blobs: BlobSpace::new(host.inner.spool.clone(), budget, redactor.clone()),
            placeholders: Placeholders::new()?.with_own(own.keys().cloned()),
            questions: Questions::default(),
            within,
        })
    }
}

/// What the services of one call stand on.
struct Services<E> {
    call: Arc<Call>,
    rights: Arc<Rights>,
    secrets: Arc<Resolved>,
    redactor: Redactor,
    events: Arc<E>,
    tools: Option<Arc<HostTools>>,
}

impl<E: ports::Events + Sink + 'static> Services<E> {
    /// The settings, with placeholders for those that name a secret, `host.sandbox` and `host.home`.
    fn config(&self, profile: &Profile, shared: &Shared, place: &Place) -> Arc<BTreeMap<String, String>> {
        let mut config = (*profile.config).clone();
        // A program with a sandbox of its own can leave the work to ours, or must, where its own would mount.
        config.insert("host.sandbox".to_owned(), place.sandbox().to_owned());
        // For a program that keeps conversations where it is told, and not in its home by itself.
        config.insert("host.home".to_owned(), place.home().display().to_string());
        config.extend(
            profile.secret_settings.iter().map(|(setting, name)| (setting.clone(), shared.placeholders.text(name))),
        );
        Arc::new(config)
    }

    /// The whole reach of the call.
    fn ports(&self, host: &Host, profile: &Profile, shared: &Shared, place: Arc<Place>) -> Ports {
        let Self { call, rights, secrets, redactor, events, tools } = self;
        let span = tracing::info_span!("call", plugin = %profile.manifest.name, profile = %profile.name);
        let answering = Answering {
            policy: host.approvals(&profile.name),
            asker: host.inner.asker.clone(),
            questions: shared.questions.clone(),
        };
        Ports {
            control: call.control.clone(),
            config: self.config(profile, shared, &place),
            log: Arc::new(TraceLog::new(redactor.clone(), span, &call.limits)),
            events: events.clone(),
            http: Arc::new(Egress {
                call: call.clone(),
                permissions: profile.permissions.clone(),
                grants: rights.grants.clone(),
                secrets: secrets.clone(),
                tokens: TokenUse::new(&host.inner.tokens, redactor),
                placeholders: Arc::new(shared.placeholders.clone()),
                budget: shared.http.clone(),
                blobs: shared.blobs.clone(),
                tls: host.inner.tls.clone(),
                resolver: host.inner.resolver.clone(),
            }),
            blobs: Arc::new(shared.blobs.clone()),
            kv: Arc::new(ProfileKv {
                store: host.inner.store.clone(),
                // Conversations that an adapter keeps here are the session's, and go with it.
                profile: shared.within.as_ref().map_or(&profile.name, |within| &within.kv).clone(),
                limits: call.limits.clone(),
                redactor: redactor.clone(),
            }),
            tools: match tools {
                Some(tools) => tools.clone(),
                None => Arc::new(Without("a tool")),
            },
            approval: Arc::new(Approvals::new(call.clone(), answering, redactor.clone())),
            process: Arc::new(Processes::new(
                call.clone(),
                rights.clone(),
                place,
                secrets.clone(),
                shared.placeholders.clone(),
                redactor.clone(),
            )),
        }
    }
}

/// Ports for the fresh instance that tells the vendor of a cancel: the same grants, its own time, no tools, and events only
/// as trace lines, since the run's log belongs to the call that is ending.
fn cancel_ports(
    host: Host,
    profile: &Profile,
    services: &Services<RunSink>,
    shared: Arc<Shared>,
    network: bool,
) -> Box<dyn Fn(Arc<Control>) -> Ports + Send + Sync> {
    let profile = profile.clone();
    let (rights, secrets, redactor) = (services.rights.clone(), services.secrets.clone(), services.redactor.clone());
    let run_id = services.call.run_id.clone();
    Box::new(move |control| {
        let limits = profile.limits.clone();
        let sink = Arc::new(TraceSink { redactor: redactor.clone(), limits: limits.clone() });
        let call = Arc::new(Call {
            profile: profile.name.clone(),
            run_id: run_id.clone(),
            limits,
            control,
            sink: sink.clone(),
        });
        let services = Services {
            call,
            rights: rights.clone(),
            secrets: secrets.clone(),
            redactor: redactor.clone(),
            events: sink,
            tools: None,
        };
        // What tells the vendor of a cancel has nothing to change.
        let within = shared.within.clone().map(|within| (within, false));
        let place = host.place(&profile.name, None, network, within);
        services.ports(&host, &profile, &shared, place)
    })
}

fn created(profile: &Profile, grants: &Grants, task: &Task, task_id: &str) -> Value {
    json!({
        "profile": profile.name,
        "plugin": { "name": profile.manifest.name, "version": profile.manifest.version.to_string(), "digest": profile.digest },
        "task_id": task_id,
        "task": task,
        "grants": grants.iter().map(|(grant, _)| grant.to_string()).collect::<Vec<_>>(),
        "format": midplane_core::event::FORMAT_VERSION,
    })
}

fn open_workspace(task: &Task) -> Result<Option<(Arc<Workspace>, bool)>> {
    let Some(wanted) = &task.workspace else { return Ok(None) };
    let workspace = Workspace::open(std::path::Path::new(&wanted.path))?;
    Ok(Some((Arc::new(workspace), wanted.access == WorkspaceAccess::ReadWrite)))
}

pub(crate) fn agent_task(run_id: &RunId, task: &Task, workspace: Option<&Workspace>, limits: &Limits) -> AgentTask {
    let attachments = task.attachments.iter().map(|attachment| {
        let name = attachment
            .name
            .clone()
            .unwrap_or_else(|| attachment.path.rsplit('/').next().unwrap_or_default().to_owned());
        // Where and what they are is known once they are staged; the adapter judges by kind and name.
        Attached { kind: attachment.kind.as_str().to_owned(), name, path: String::new(), digest: String::new() }
    });
    // The contract has no field for it: what a caller counts on is told with the rest.
    let mut metadata = task.metadata.clone();
    if task.sdk_executions != 1 {
        metadata.entry("sdk_executions").or_insert_with(|| json!(task.sdk_executions));
    }
    AgentTask {
        run_id: run_id.to_string(),
        task_id: task.task_id.clone().unwrap_or_else(|| format!("task-{run_id}")),
        goal: task.goal.clone(),
        system: task.system.clone(),
        model: task.model.clone(),
        reasoning_effort: task.reasoning_effort.clone(),
        working_directory: workspace.map(|workspace| workspace.path().display().to_string()),
        mcp_servers: Vec::new(),
        permissions: task.permissions.clone(),
        max_rounds: Some(task.max_rounds.unwrap_or_else(|| u32::try_from(limits.rounds_default).unwrap_or(u32::MAX))),
        budget_usd: task.budget_usd,
        session: task.session_id.clone().map(|id| (id, task.transcript.clone())),
        output_schema: task.output_schema.clone(),
        attachments: attachments.collect(),
        metadata: Value::Object(metadata),
    }
}

/// What a session's domains leave out cannot be granted either: no offer to do so.
fn out_of_reach(reach: &Reach, refusal: Box<Refusal>) -> Box<Refusal> {
    let http = |grant: &&Grant| matches!(grant, Grant::Http(_));
    match (&reach.domains, refusal.missing.iter().find(http)) {
        (Some(_), Some(Grant::Http(prefix))) => {
            let message = format!("`{prefix}` is needed, and its host is not among the domains of the session");
            let hint = format!("start a session with `--allow-domain {}`", prefix.host());
            let error = Error::denied("session-domain", message).hint(hint);
            Box::new(Refusal { error, missing: Vec::new(), ..*refusal })
        }
        _ => refusal,
    }
}

/// Why a short call had no answer. One that was dropped took too long: nobody cancelled it.
fn unanswered(fault: &Fault, call: &str) -> Error {
    match fault {
        Fault::Dropped => Error::unavailable("timeout", format!("the plugin did not answer `{call}` in time")),
        fault => fault.error(),
    }
}

fn invalid(issues: Vec<Issue>, code: &'static str, what: &str) -> Result<(), Box<Refusal>> {
    let Some(first) = issues.first() else { return Ok(()) };
    let error = Error::invalid(code, format!("{what}: `{}` {}", first.field, first.message));
    Err(Box::new(Refusal { error, issues, missing: Vec::new(), profile: None }))
}

/// An adapter's issues by the names that a task was written with.
fn as_written(task: &Task, issues: Vec<Issue>) -> Vec<Issue> {
    issues.into_iter().map(|issue| Issue { field: task.written_as(&issue.field), ..issue }).collect()
}

fn unsupported(profile: &Profile, issues: Vec<Issue>) -> Result<(), Box<Refusal>> {
    let Some(first) = issues.first() else { return Ok(()) };
    let error = Error::unsupported(
        "task-unsupported",
        format!("profile `{}` cannot do this task: `{}` {}", profile.name, first.field, first.message),
    );
    Err(Box::new(Refusal { error, issues, missing: Vec::new(), profile: Some(profile.name.clone()) }))
}
