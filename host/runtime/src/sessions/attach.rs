//! Working in a session: one command at a time, which holds the session's lease.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use midplane_core::deploy::lease::Lease;
use midplane_core::deploy::record::SessionMode;
use midplane_core::deploy::session::SessionState;
use midplane_core::permission::Grant;
use midplane_core::session::Session;
use midplane_core::session::step::Verb;
use midplane_core::task::{Task, Workspace as Folder, WorkspaceAccess};
use midplane_core::{Error, ProfileName, Result, RunId};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::ground::{Ground, Within};
use super::proxy::Proxy;
use super::shell::Shell;
use crate::admit::{Refusal, Run, RunRequest};
use crate::host::Host;
use crate::process::place::Place;
use crate::process::terminal::Size;
use crate::workspace::Workspace;

/// How often is looked whether the session was stopped.
const LOOK: Duration = Duration::from_millis(200);
/// How much longer than its time a lease lasts: what ends late is ended by then.
const LEASE_MORE_MS: u64 = 600_000;
/// What a vendor's conversation needs of an adapter.
const RESUME: &str = "session_resume";

/// A session with this process attached: nobody else is until [`close`](Self::close). If the process is killed, the session
/// can be taken up again at once.
pub struct Attached {
    host: Host,
    id: String,
    session: Session,
    ground: Ground,
    within: Arc<Within>,
    lease: Option<Lease>,
    watch: Option<JoinHandle<()>>,
}

impl Host {
    /// Attaches to a session, by its id or name. Errors: `not-found` `session-unknown`; `conflict` `session-attached`,
    /// `session-incomplete` or `session-transition`; `unsupported` `session-sandbox`; `invalid` `session-folder`.
    pub async fn session_attach(&self, session: &str) -> Result<Attached> {
        let id = self.session_id(session).await?;
        let ground = self.session_ground(&id);
        let Some(session) = ground.read()? else {
            // Of one that is gone its state is the reason.
            self.session_state(&id, Verb::Attach).await?;
            return Err(Error::conflict("session-incomplete", format!("the start of session `{id}` was cut off"))
                .hint("destroy the session and start another one"));
        };
        if let Some(profile) = &session.profile {
            self.session_can_confine(profile)?;
        }
        let lease_ms = session.reach.timeout_ms.saturating_add(LEASE_MORE_MS);
        let lease = self.session_lease(&id, lease_ms).await?.ok_or_else(|| {
            Error::conflict("session-attached", format!("another command is attached to session `{id}`"))
                .hint(format!("end it with `midplane session stop {id}`, or wait"))
        })?;
        let attached = async {
            let mut within = ground.within(&id, &session)?;
            if let (Some(domains), true) = (&session.reach.domains, session.reach.network) {
                // For an empty list too: it says why a host is refused, where the kernel only refuses.
                within.proxy = Some(Proxy::start(domains.clone(), self.inner.resolver.clone()).await?);
            }
            self.session_state(&id, Verb::Attach).await?;
            self.session_go(&id, Verb::Attach, false, "a command was attached").await?;
            Ok::<_, Error>(Arc::new(within))
        };
        match attached.await {
            Ok(within) => {
                let host = self.clone();
                Ok(Attached { host, id, session, ground, within, lease: Some(lease), watch: None })
            }
            Err(error) => {
                self.session_release(&id, &lease).await;
                Err(error)
            }
        }
    }
}

impl Attached {
    /// The session's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the session is.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// What of the session's bounds this system does not enforce, in words.
    #[must_use]
    pub fn not_enforced(&self) -> Vec<String> {
        super::not_enforced(&self.session)
    }

    /// The prompt of the next run: the given one, or that of the session's start for the first run. `invalid` code
    /// `session-mode` where there is none, or where the session has a shell instead.
    pub fn prompt(&self, given: Option<String>) -> Result<String> {
        let id = &self.id;
        if self.session.mode == SessionMode::Interactive {
            return Err(Error::invalid("session-mode", format!("session `{id}` is interactive, and takes no prompt"))
                .hint(format!("`midplane session attach {id}` opens its shell")));
        }
        let first = || self.session.prompt.clone().filter(|_| self.session.last_run.is_none());
        given.or_else(first).ok_or_else(|| {
            Error::invalid("session-mode", format!("session `{id}` is in autopilot, and needs a prompt"))
                .hint(format!("`midplane session attach {id} PROMPT`"))
        })
    }

    /// Runs a task in the session: in its workspace, within its reach and time, going on with its conversation unless the task
    /// names one or `anew` is set. Stopping the session cancels the run.
    pub async fn run(&mut self, mut task: Task, allow: Vec<Grant>, anew: bool) -> Result<Run, Box<Refusal>> {
        task.goal = self.prompt(Some(task.goal).filter(|goal| !goal.is_empty()))?;
        let Some(profile) = self.session.profile.clone() else {
            return Err(Error::invalid("session-mode", "the session has no profile to run under").into());
        };
        task.workspace = Some(Folder { path: self.session.workspace.clone(), access: WorkspaceAccess::ReadWrite });
        if task.deadline.is_none() {
            let most = self.session.reach.timeout_ms;
            task.timeout_ms = Some(task.timeout_ms.map_or(most, |wanted| wanted.min(most)));
        }
        if task.session_id.is_none() && !anew {
            task.session_id = self.conversation(&profile).await?;
        }
        let request = RunRequest { profile: profile.to_string(), task, allow };
        let run = self.host.run_with(request, &Default::default(), Some(self.within.clone())).await?;
        self.session.last_run = Some(run.id().clone());
        if let Err(error) = self.ground.write(&self.session) {
            // Nobody would find it again.
            let _ = self.host.cancel(run.id()).await;
            return Err(error.into());
        }
        let (host, id, run_id) = (self.host.clone(), self.id.clone(), run.id().clone());
        self.unwatch();
        self.watch = Some(tokio::spawn(async move {
            host.session_stopped(&id).await;
            if let Err(error) = host.cancel(&run_id).await {
                tracing::warn!(%error, "the run of a session that was stopped cannot be cancelled");
            }
        }));
        Ok(run)
    }

    /// Opens a shell in the session: at a terminal of this size, or at pipes.
    pub async fn shell(&mut self, size: Option<Size>) -> Result<Shell> {
        let id = &self.id;
        if self.session.mode == SessionMode::Autopilot {
            return Err(Error::invalid("session-mode", format!("session `{id}` is in autopilot, and has no shell"))
                .hint(format!("`midplane session attach {id} PROMPT` gives its agent a task")));
        }
        let workspace = Workspace::open(Path::new(&self.session.workspace))?;
        let reach = &self.session.reach;
        let settings = self.session.profile.as_ref().map(|profile| self.host.sandbox_of(profile)).unwrap_or_default();
        let profile = self.session.profile.clone().map_or_else(|| ProfileName::new("session"), Ok)?;
        let folder = Some((Arc::new(workspace), reach.writes_all()));
        let place = Place::new(self.host.inner.ground.clone(), &profile, folder, settings, true);
        Shell::start(place.within(Some(self.within.clone()), true), id, size, reach.timeout_ms).await
    }

    /// Waits until the session is stopped or destroyed from elsewhere.
    pub async fn stopped(&self) {
        self.host.session_stopped(&self.id).await;
    }

    /// Lets the session go. What ran in it has ended. `reason` is kept with its state.
    pub async fn close(mut self, reason: &str) -> Result<()> {
        self.unwatch();
        if let Some(conversation) = self.told_conversation().await {
            self.session.conversation = Some(conversation);
            self.ground.write(&self.session)?;
        }
        let refused = self.within.proxy.as_ref().and_then(Proxy::refused);
        let reason = refused.map_or_else(|| reason.to_owned(), |refused| format!("{reason}; {refused}"));
        let gone = self.host.session_go(&self.id, Verb::Detach, false, &reason).await;
        if let Some(lease) = self.lease.take() {
            self.host.session_release(&self.id, &lease).await;
        }
        gone.map(drop)
    }

    /// The conversation to go on with, if the adapter can.
    async fn conversation(&self, profile: &ProfileName) -> Result<Option<String>> {
        let told = self.told_conversation().await;
        let Some(conversation) = told.or_else(|| self.session.conversation.clone()) else { return Ok(None) };
        let declared = self.host.capabilities(&self.host.load(profile.as_str()).await?).await?;
        Ok(declared.features.iter().any(|feature| feature == RESUME).then_some(conversation))
    }

    /// What the latest run told of the vendor's conversation, also where the command that followed it was killed.
    async fn told_conversation(&self) -> Option<String> {
        let row = self.host.row(self.session.last_run.as_ref()?).await.ok()?;
        row.index.summary.get("session_id").and_then(Value::as_str).map(str::to_owned)
    }

    fn unwatch(&mut self) {
        if let Some(watch) = self.watch.take() {
            watch.abort();
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.unwatch();
        // Let go without a word: where there is a runtime it is said all the same.
        if let (Some(lease), Ok(runtime)) = (self.lease.take(), tokio::runtime::Handle::try_current()) {
            let (host, id) = (self.host.clone(), self.id.clone());
            runtime.spawn(async move {
                if let Err(error) = host.session_go(&id, Verb::Detach, false, "the command was given up").await {
                    tracing::warn!(%error, "a session cannot be let go");
                }
                host.session_release(&id, &lease).await;
            });
        }
    }
}

impl Host {
    /// Waits until a session does not run any more.
    pub(super) async fn session_stopped(&self, id: &str) {
        loop {
            tokio::time::sleep(LOOK).await;
            match self.inner.store.machines.current::<SessionState>(id).await {
                Ok(Some(step)) if step.transition.to() == SessionState::Running => {}
                Ok(_) => return,
                Err(error) => tracing::warn!(%error, "the state of a session cannot be read"),
            }
        }
    }

    /// The run that a session had last; for those who stop it.
    pub(super) fn session_last_run(&self, id: &str) -> Option<RunId> {
        self.session_ground(id).read().ok().flatten().and_then(|session| session.last_run)
    }
}
