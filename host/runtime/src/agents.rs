//! Agents under names of the embedder's: a registry, and a hub that runs tasks on what it names.
//!
//! A kind is any text that is not blank; under it stands a profile of the host. Kinds keep the order in which they came.
//! What agent-runtime-kit makes anew for each call is nothing here but a name and settings: the plugin is loaded once, and
//! each run has an instance of its own that is thrown away with it.
//!
//! - [`Agents`]: register, replace, unregister, resolve; `on` for handlers of events; `run` with arguments
//! - [`Agent`]: one that was resolved: what it can do, what it would refuse, whether it could start, run, cancel by task id
//! - [`AgentEvents`]: the events of a run as `agent.*`

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use midplane_core::agent::event::AgentEvent;
use midplane_core::agent::options::Arguments;
use midplane_core::agent::project::Projection;
use midplane_core::agent::result::{Disposition, Receipt};
use midplane_core::agent::{hub_kind, kind};
use midplane_core::capability::CapabilitySet;
use midplane_core::task::{Issue, Task};
use midplane_core::{Error, Result, RunId};
use serde_json::Value;

use crate::admit::{Refusal, Run, RunRequest};
use crate::host::{CancelReceipt, Host};
use crate::profile::Profile;
use crate::view::Subscription;
use crate::{Availability, registry};

/// What is told of an event. An error, and a panic too, is the handler's own affair: the run and the others go on.
pub type Handler = Arc<dyn Fn(&AgentEvent) -> Result<()> + Send + Sync>;

/// A registry of agents, and the hub over it. Clones share it.
#[derive(Clone)]
pub struct Agents {
    host: Host,
    entries: Arc<Mutex<Vec<(String, String)>>>,
    handlers: Arc<Mutex<Vec<(String, Handler)>>>,
}

/// An agent that was resolved: a profile under a kind, with settings of its own.
#[derive(Clone)]
pub struct Agent {
    host: Host,
    kind: String,
    profile: String,
    options: BTreeMap<String, Value>,
}

impl Agents {
    /// An empty registry.
    #[must_use]
    pub fn new(host: &Host) -> Self {
        Self { host: host.clone(), entries: Arc::default(), handlers: Arc::default() }
    }

    /// Puts a profile under a kind. Errors: `invalid` code `agent-kind` for a blank kind; `conflict` code `agent-exists`.
    pub fn register(&self, name: &str, profile: &str) -> Result<()> {
        let name = kind(name)?;
        let mut entries = self.entries();
        if entries.iter().any(|(known, _)| known == name) {
            let shown = midplane_core::text::shown(name, 60);
            return Err(Error::conflict("agent-exists", format!("an agent `{shown}` is registered already"))
                .hint("replace it, if that is meant"));
        }
        entries.push((name.to_owned(), profile.to_owned()));
        Ok(())
    }

    /// Puts a profile under a kind, in the place of the one that stands there.
    pub fn replace(&self, name: &str, profile: &str) -> Result<()> {
        let name = kind(name)?;
        let mut entries = self.entries();
        match entries.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => profile.clone_into(old),
            None => entries.push((name.to_owned(), profile.to_owned())),
        }
        Ok(())
    }

    /// Takes a kind out. Whether it was there.
    pub fn unregister(&self, name: &str) -> Result<bool> {
        let name = kind(name)?;
        let mut entries = self.entries();
        let before = entries.len();
        entries.retain(|(known, _)| known != name);
        Ok(entries.len() < before)
    }

    /// All kinds, in the order in which they were registered.
    #[must_use]
    pub fn kinds(&self) -> Vec<String> {
        self.entries().iter().map(|(name, _)| name.clone()).collect()
    }

    /// The agent of a kind, its plugin loaded. Errors: `not-found` code `agent-unknown`, and those of loading.
    pub async fn resolve(&self, name: &str) -> Result<Agent> {
        self.resolve_with(name, BTreeMap::new()).await
    }

    /// The same with settings laid over those of its profile. They are checked when the agent is used.
    pub async fn resolve_with(&self, name: &str, options: BTreeMap<String, Value>) -> Result<Agent> {
        let name = kind(name)?;
        let found = self.entries().iter().find(|(known, _)| known == name).cloned();
        let Some((kind, profile)) = found else {
            let kinds = self.kinds();
            let mut error = registry::unknown("agent", name, kinds.iter().map(String::as_str));
            if kinds.is_empty() {
                error.hint = Some("none is registered".to_owned());
            }
            return Err(error);
        };
        self.host.load(&profile).await?;
        Ok(Agent { host: self.host.clone(), kind, profile, options })
    }

    /// Tells a handler of the events of this name, or of all with `*`, of the runs that are started after this.
    pub fn on(&self, event: &str, handler: impl Fn(&AgentEvent) -> Result<()> + Send + Sync + 'static) {
        self.handlers().push((event.to_owned(), Arc::new(handler)));
    }

    /// Runs a task on an agent: the hub's one call. `name` may be a short name, exactly as it is written (`claude`).
    pub async fn run(&self, name: &str, arguments: Arguments) -> Result<AgentRun, Box<Refusal>> {
        let task = arguments.build()?;
        let agent = self.resolve(hub_kind(name)?).await?;
        let run = agent.run(task).await?;
        let handlers = self.handlers().clone();
        let telling = if handlers.is_empty() {
            None
        } else {
            let events = self.host.agent_events(run.id(), 1).await?;
            Some(tokio::spawn(tell(events, handlers)))
        };
        Ok(AgentRun { run, telling })
    }

    /// Asks the run of a task to stop. An agent that is not registered runs nothing.
    pub async fn cancel(&self, name: &str, task_id: &str) -> Result<Receipt> {
        let name = hub_kind(name)?;
        let profile = self.entries().iter().find(|(known, _)| known == name).map(|(_, profile)| profile.clone());
        let disposition = match profile {
            Some(profile) => self.host.cancel_task(&profile, task_id).await?,
            None => Disposition::NotActive,
        };
        Ok(Receipt { task_id: task_id.to_owned(), kind: name.to_owned(), disposition, message: None })
    }

    fn entries(&self) -> MutexGuard<'_, Vec<(String, String)>> {
        // Nothing panics while it is held.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handlers(&self) -> MutexGuard<'_, Vec<(String, Handler)>> {
        // The same.
        self.handlers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Agent {
    /// Under which kind it was found.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The profile under that kind.
    #[must_use]
    pub fn profile(&self) -> &str {
        &self.profile
    }

    /// The settings laid over those of the profile.
    #[must_use]
    pub fn options(&self) -> &BTreeMap<String, Value> {
        &self.options
    }

    /// What it declares.
    pub async fn capabilities(&self) -> Result<CapabilitySet> {
        self.host.capabilities(&self.loaded().await?).await
    }

    /// Whether it could start; asks the vendor where `probe` is not zero.
    pub async fn availability(&self, probe: Duration) -> Result<Availability> {
        self.host.probe(&self.loaded().await?, probe).await
    }

    /// All reasons why it cannot do a task, in order; see [`Host::issues`].
    pub async fn issues(&self, task: &Task) -> Result<Vec<Issue>> {
        self.host.issues_with(&self.profile, task, &self.options).await
    }

    /// Starts a run.
    pub async fn run(&self, task: Task) -> Result<Run, Box<Refusal>> {
        let request = RunRequest { profile: self.profile.clone(), task, allow: Vec::new() };
        self.host.run_with(request, &self.options, None).await
    }

    /// Asks the run of a task to stop.
    pub async fn cancel(&self, task_id: &str) -> Result<Receipt> {
        let disposition = self.host.cancel_task(&self.profile, task_id).await?;
        Ok(Receipt { task_id: task_id.to_owned(), kind: self.kind.clone(), disposition, message: None })
    }

    async fn loaded(&self) -> Result<Profile> {
        self.host.load_with(&self.profile, &self.options).await
    }
}

/// A run of the hub.
pub struct AgentRun {
    run: Run,
    telling: Option<tokio::task::JoinHandle<()>>,
}

impl AgentRun {
    /// The run itself: its id and its end.
    pub fn run(&mut self) -> &mut Run {
        &mut self.run
    }

    /// Waits until the handlers were told of everything, which a slow one can make long.
    pub async fn told(self) {
        if let Some(telling) = self.telling {
            // A task that panicked tells no more; handlers that panic are caught inside.
            let _ = telling.await;
        }
    }
}

/// The events of a run as `agent.*`: those that are there, then those to come, until the last.
pub struct AgentEvents {
    subscription: Subscription,
    projection: Projection,
    from_seq: u64,
}

impl AgentEvents {
    /// The next events, at least one; none after the last.
    pub async fn next(&mut self) -> Result<Option<Vec<AgentEvent>>> {
        while let Some(records) = self.subscription.next().await? {
            let mut events = Vec::new();
            for record in &records {
                // Those before are read all the same: the first says whose events they are.
                let event = self.projection.take(record);
                events.extend(event.filter(|_| record.seq >= self.from_seq));
            }
            if !events.is_empty() {
                return Ok(Some(events));
            }
        }
        Ok(None)
    }
}

impl Host {
    /// The events of a run as `agent.*`, of the records from a sequence number on.
    pub async fn agent_events(&self, run_id: &RunId, from_seq: u64) -> Result<AgentEvents> {
        let subscription = self.subscribe(run_id, 1).await?;
        Ok(AgentEvents { subscription, projection: Projection::new(self.limits()), from_seq })
    }

    /// Asks the run of this process that has a task id to stop.
    pub async fn cancel_task(&self, profile: &str, task_id: &str) -> Result<Disposition> {
        let Some(run_id) = self.run_of_task(profile, task_id) else { return Ok(Disposition::NotActive) };
        Ok(match self.cancel(&run_id).await {
            Ok(CancelReceipt::Requested) => Disposition::Requested,
            Ok(CancelReceipt::AlreadyRequested) => Disposition::AlreadyRequested,
            Ok(CancelReceipt::NotActive | CancelReceipt::Closed) => Disposition::NotActive,
            // It has its name and is not written yet.
            Err(error) if error.code == "run-unknown" => Disposition::NotActive,
            Err(error) => return Err(error),
        })
    }
}

async fn tell(mut events: AgentEvents, handlers: Vec<(String, Handler)>) {
    loop {
        let told = match events.next().await {
            Ok(Some(told)) => told,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "handlers are not told of the rest of a run");
                return;
            }
        };
        for event in &told {
            for (name, handler) in &handlers {
                if name != "*" && name != event.name {
                    continue;
                }
                match std::panic::catch_unwind(AssertUnwindSafe(|| handler(event))) {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!(event = event.name, %error, "a handler failed"),
                    Err(_) => tracing::warn!(event = event.name, "a handler panicked"),
                }
            }
        }
    }
}
