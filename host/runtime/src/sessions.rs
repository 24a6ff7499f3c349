//! Sessions: lasting workspaces with an agent. Made, listed, stopped and destroyed here; worked in by [`attach`].
//!
//! ```text
//!  start ─► running ◄──attach── stopped        who is attached holds the session's lease; the lease of a process
//!              └────end, stop────► │           that is gone is taken over, and the session is stopped first
//!              └────destroy────────┴──► destroyed
//! ```
//! # Layout
//! - here: start, list, stop, destroy; leases and states
//! - [`attach`]: a run or a shell in a session; [`shell`]: the shell
//! - [`ground`]: the folders; [`proxy`]: the way of programs to the listed domains
//!
//! # What it never does
//! It decides nothing about what a session may reach or where a state leads: `core::session` does. It ends no process by its
//! number: who is attached sees that the session is stopped and ends what it started, and what a process that is gone had started
//! its supervisor has ended. The log comes before the folders when a session is made, and after them nowhere: what is cut off can be
//! destroyed.

pub(crate) mod attach;
pub(crate) mod ground;
pub(crate) mod proxy;
pub(crate) mod shell;

use std::path::Path;
use std::time::Duration;

use midplane_core::deploy::lease::{Decision, Lease, Request, Scope, TTL_MS_MAX};
use midplane_core::deploy::session::{SandboxState, SessionState};
use midplane_core::deploy::state::{Machine, REASON_BYTES_MAX, Transition};
use midplane_core::sandbox::Mode;
use midplane_core::session::reach::WritePath;
use midplane_core::session::step::{self, Verb};
use midplane_core::session::{Session, SessionRequest};
use midplane_core::text::{cut, shown};
use midplane_core::{Error, ProfileName, Result};
use midplane_store::{MACHINES_MAX, Step};
use serde::Serialize;

use self::ground::{Ground, kv, operators_folder};
use crate::admit::Refusal;
use crate::driver::now_ms;
use crate::host::{Host, new_id};
use crate::process::fence;

/// How long a lease lasts that is held for a moment, in milliseconds.
const MOMENT_MS: u64 = 60_000;
/// How often a change of state is tried where others change it as well.
const TRIES_MAX: usize = 16;
/// How long is waited for a command to let go, beside the grace period.
const LET_GO: Duration = Duration::from_secs(5);

/// A session, as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SessionView {
    /// Its id.
    pub id: String,
    /// Where it stands.
    pub state: SessionState,
    /// Whether a command is attached to it.
    pub attached: bool,
    /// Why it stands there.
    pub reason: String,
    /// Since when, in milliseconds since 1970 UTC.
    pub updated_ms: u64,
    /// What it is; unset once it is destroyed, and where its start was cut off.
    #[serde(flatten)]
    pub session: Option<Session>,
    /// What of its bounds this system does not enforce, in words.
    pub not_enforced: Vec<String>,
}

impl Host {
    /// Starts a session: its folders are made, and nothing runs yet. A request that cannot be honoured is refused with all
    /// reasons, and leaves nothing.
    pub async fn session_start(&self, request: SessionRequest) -> Result<SessionView, Box<Refusal>> {
        let checked = request.check().map_err(|issues| {
            let first = issues.first().map(|issue| format!("`{}` {}", issue.field, issue.message)).unwrap_or_default();
            let error = Error::invalid("session", format!("the session cannot be started: {first}"));
            Box::new(Refusal { issues, ..Refusal::from(error) })
        })?;
        if let Some(profile) = &checked.profile {
            self.profile(profile.as_str()).await?;
            self.session_can_confine(profile)?;
        }
        if let Some(name) = &checked.name
            && self.sessions(false).await?.iter().any(|other| other.name() == Some(name))
        {
            let message = format!("there is a session `{}` already", shown(name, 80));
            return Err(Error::conflict("session-name", message).hint("choose another name, or destroy it").into());
        }
        for path in &checked.reach.write {
            if let WritePath::Outside(path) = path {
                operators_folder(path.as_str(), &self.inner.state)?;
            }
        }
        let id = new_id()?;
        let ground = self.session_ground(&id);
        let workspace = match &request.workspace {
            Some(path) => operators_folder(path, &self.inner.state)?,
            None => ground.workspace(),
        };
        let Some(workspace) = workspace.to_str().map(str::to_owned) else {
            return Err(Error::invalid("session-folder", "the path of a workspace is not UTF-8").into());
        };
        let session = Session {
            name: checked.name,
            agent: checked.agent,
            mode: request.mode,
            profile: checked.profile,
            workspace,
            own_workspace: request.workspace.is_none(),
            prompt: request.prompt,
            constraints: request.constraints,
            reach: checked.reach,
            created_ms: now_ms(),
            last_run: None,
            conversation: None,
        };
        self.go::<SandboxState>(&id, None, SandboxState::Creating, "its session was started").await?;
        self.go::<SessionState>(&id, None, SessionState::Running, "it was started").await?;
        ground.make(&session)?;
        self.sandbox_follows(&id, SessionState::Running, "its folders are made").await?;
        Ok(self.session(&id).await?)
    }

    /// Sessions, the oldest first; with `all` also those that were destroyed.
    pub async fn sessions(&self, all: bool) -> Result<Vec<SessionView>> {
        let (mut views, mut after) = (Vec::new(), None);
        loop {
            let page = self.inner.store.machines.list::<SessionState>(after.as_deref(), MACHINES_MAX).await?;
            let Some(last) = page.last() else { return Ok(views) };
            after = Some(last.id.clone());
            for standing in page.iter().filter(|one| all || one.last.transition.to() != SessionState::Destroyed) {
                views.push(self.session_view(&standing.id).await?);
            }
        }
    }

    /// A session, by its id, the beginning of its id, or its name.
    pub async fn session(&self, session: &str) -> Result<SessionView> {
        let id = self.session_id(session).await?;
        self.session_view(&id).await
    }

    /// Ends what works in a session; it can be attached again. Fine also where nothing does. Errors: `not-found`
    /// `session-unknown`; `conflict` `session-transition` for one that is destroyed; `unavailable` `session-stuck`.
    pub async fn session_stop(&self, session: &str, reason: &str) -> Result<SessionView> {
        let id = self.session_id(session).await?;
        let lease = self.session_lease(&id, MOMENT_MS).await?;
        let went = self.session_go(&id, Verb::Stop, lease.is_none(), reason).await;
        let lease = match (&went, lease) {
            (Ok(_), None) => self.session_let_go(&id).await.map(Some),
            (_, lease) => Ok(lease),
        };
        if let Ok(Some(lease)) = &lease {
            self.session_release(&id, lease).await;
        }
        went.and(lease)?;
        self.session_view(&id).await
    }

    /// Removes a session with its folders and all that adapters keep for it; the logs of its runs stay. Fine also for one
    /// that is destroyed already. A folder that the operator named stays as it is. Errors: `not-found` `session-unknown`;
    /// `conflict` `session-attached` without `force`; `unavailable` `session-stuck` or `folder`.
    pub async fn session_destroy(&self, session: &str, force: bool) -> Result<SessionView> {
        let id = self.session_id(session).await?;
        let lease = self.session_lease(&id, MOMENT_MS).await?;
        let destroyed = async {
            self.session_go(&id, Verb::Destroy { force }, lease.is_none(), "it was destroyed").await?;
            let lease = match &lease {
                Some(lease) => lease.clone(),
                None => self.session_let_go(&id).await?,
            };
            let ground = self.session_ground(&id);
            let removed = tokio::task::spawn_blocking(move || ground.remove()).await;
            let removed = removed.map_err(|error| Error::internal("folder", format!("removing was lost: {error}")))?;
            let forgotten = self.inner.store.kv.remove_profile(&kv(&id)?).await;
            self.session_release(&id, &lease).await;
            removed.and(forgotten)
        };
        let destroyed = destroyed.await;
        if let Some(lease) = &lease {
            // Fine where it was let go already.
            self.session_release(&id, lease).await;
        }
        destroyed?;
        self.session_view(&id).await
    }

    // ---- inside ----

    /// The id that is meant.
    pub(crate) async fn session_id(&self, text: &str) -> Result<String> {
        let machines = &self.inner.store.machines;
        if machines.current::<SessionState>(text).await?.is_some() {
            return Ok(text.to_owned());
        }
        let (mut found, mut after) = (Vec::new(), None);
        while !text.is_empty() {
            let page = machines.list::<SessionState>(after.as_deref(), MACHINES_MAX).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id.clone());
            for standing in page {
                let is_there = standing.last.transition.to() != SessionState::Destroyed;
                let named = || {
                    let session = self.session_ground(&standing.id).read().ok().flatten();
                    session.is_some_and(|session| session.name.as_deref() == Some(text))
                };
                if standing.id.starts_with(&text.to_lowercase()) || is_there && named() {
                    found.push(standing.id);
                }
            }
        }
        let shown = shown(text, 60);
        match <[String; 1]>::try_from(found) {
            Ok([id]) => Ok(id),
            Err(found) if found.is_empty() => {
                Err(Error::not_found("session-unknown", format!("there is no session `{shown}`"))
                    .hint("`midplane session list` lists them"))
            }
            Err(_) => Err(Error::invalid("session-ambiguous", format!("several sessions can be meant by `{shown}`"))
                .hint("give more of the id")),
        }
    }

    pub(crate) fn session_ground(&self, id: &str) -> Ground {
        Ground::new(&self.inner.sessions, id)
    }

    /// Whether the host's sandbox is around the programs of a profile at all.
    pub(crate) fn session_can_confine(&self, profile: &ProfileName) -> Result<()> {
        if self.sandbox_of(profile).mode == Mode::Own {
            let message =
                format!("profile `{profile}` leaves the sandbox to its programs, so no bound of a session would hold");
            return Err(Error::unsupported("session-sandbox", message)
                .hint("take `sandbox: {mode: own}` out of the profile, or name another one"));
        }
        Ok(())
    }

    async fn session_view(&self, id: &str) -> Result<SessionView> {
        self.session_settle(id).await?;
        let step = self.current(id).await?;
        let session = self.session_ground(id).read().unwrap_or_else(|error| {
            tracing::warn!(session = id, %error, "a session is damaged");
            None
        });
        let (scope, now) = (scope(id)?, now_ms());
        let attached = self.inner.store.leases.slots(&scope).await?.live(now).next().is_some();
        Ok(SessionView {
            id: id.to_owned(),
            state: step.transition.to(),
            attached,
            reason: step.transition.reason().to_owned(),
            updated_ms: step.transition.at_ms(),
            not_enforced: session.as_ref().map(not_enforced).unwrap_or_default(),
            session: session.filter(|_| step.transition.to() != SessionState::Destroyed),
        })
    }

    async fn current(&self, id: &str) -> Result<Step<SessionState>> {
        self.inner.store.machines.current(id).await?.ok_or_else(|| {
            Error::not_found("session-unknown", format!("there is no session `{}`", shown(id, 60)))
                .hint("`midplane session list` lists them")
        })
    }

    /// Whether a verb is possible for a session to which nobody else is attached.
    pub(crate) async fn session_state(&self, id: &str, verb: Verb) -> Result<Vec<SessionState>> {
        step::decide(self.current(id).await?.transition.to(), false, verb)
    }

    /// Does what a verb means, each step by compare-and-set, and lets the sandbox follow. Gives where it stands then.
    pub(crate) async fn session_go(&self, id: &str, verb: Verb, attached: bool, reason: &str) -> Result<SessionState> {
        for _ in 0..TRIES_MAX {
            let mut state = self.current(id).await?.transition.to();
            let mut moved = None;
            for to in step::decide(state, attached, verb)? {
                if let Err(error) = self.go(id, Some(state), to, reason).await {
                    moved = Some(error);
                    break;
                }
                state = to;
            }
            match moved {
                None => {
                    self.sandbox_follows(id, state, reason).await?;
                    return Ok(state);
                }
                // Someone else was faster, which may change what is to be done.
                Some(error) if error.code == "transition-order" => {}
                Some(error) => return Err(error),
            }
        }
        Err(Error::conflict("transition-order", format!("the state of session `{id}` changes all the time")))
    }

    async fn sandbox_follows(&self, id: &str, session: SessionState, reason: &str) -> Result<()> {
        let mut at = self.inner.store.machines.current::<SandboxState>(id).await?.map(|step| step.transition.to());
        for to in step::follow(at, session) {
            match self.go(id, at, to, reason).await {
                Ok(()) => at = Some(to),
                // Another command brings it where its session is.
                Err(error) if error.code == "transition-order" => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn go<S: Machine>(&self, id: &str, from: Option<S>, to: S, reason: &str) -> Result<()> {
        let reason = cut(reason, REASON_BYTES_MAX);
        self.inner.store.machines.transition(id, Transition::new(from, to, reason, now_ms())?).await.map(drop)
    }

    /// The session's lease, for so long at most; none while another command of a living process has it.
    pub(crate) async fn session_lease(&self, id: &str, ttl_ms: u64) -> Result<Option<Lease>> {
        let scope = scope(id)?;
        // Not the process alone: two in one process are two.
        let owner = format!("{}/{}", self.inner.owner_id, new_id()?);
        let request = Request { owner, limit: Some(1), ttl_ms: ttl_ms.min(TTL_MS_MAX) };
        for _ in 0..TRIES_MAX {
            match self.inner.store.leases.acquire(&scope, request.clone(), now_ms()).await? {
                Decision::Granted { lease, .. } => return Ok(Some(lease)),
                Decision::Refused { .. } if !self.session_settle(id).await? => return Ok(None),
                Decision::Refused { .. } => {}
            }
        }
        Ok(None)
    }

    /// Takes the lease of a process that is gone away, and stops the session that it left running. Whether there was one.
    async fn session_settle(&self, id: &str) -> Result<bool> {
        let scope = scope(id)?;
        let slots = self.inner.store.leases.slots(&scope).await?;
        let Some(lease) = slots.live(now_ms()).next() else { return Ok(false) };
        let process = lease.owner.split('/').next().unwrap_or_default();
        // Held until the lease is released, so that two processes do not both do it.
        let Some(_gone) = self.inner.owner.as_ref().and_then(|owner| owner.gone(process)) else { return Ok(false) };
        // Attached only by name: its process is not there.
        self.session_go(id, Verb::Detach, false, "the command that was attached is gone").await?;
        self.session_release(id, lease).await;
        Ok(true)
    }

    pub(crate) async fn session_release(&self, id: &str, lease: &Lease) {
        let released =
            async { self.inner.store.leases.release(&scope(id)?, &lease.owner, lease.fence, now_ms()).await.map(drop) };
        if let Err(error) = released.await {
            // It expires.
            tracing::warn!(session = id, %error, "a session cannot be released");
        }
    }

    /// Waits for who is attached to see that the session does not run any more, and gives the lease.
    async fn session_let_go(&self, id: &str) -> Result<Lease> {
        if let Some(run) = self.session_last_run(id) {
            // Sooner than it would see by itself; fine where that one has ended.
            let _ = self.cancel(&run).await;
        }
        let end = tokio::time::Instant::now() + Duration::from_millis(self.inner.limits.grace_ms) + LET_GO;
        loop {
            if let Some(lease) = self.session_lease(id, MOMENT_MS).await? {
                return Ok(lease);
            }
            if tokio::time::Instant::now() >= end {
                let message = format!("the command that is attached to session `{id}` does not let go");
                return Err(
                    Error::unavailable("session-stuck", message).hint("end its process; what it started ends with it")
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl SessionView {
    /// What a person calls it.
    #[must_use]
    pub fn name(&self) -> Option<&String> {
        self.session.as_ref()?.name.as_ref()
    }

    /// The folder that is worked in.
    #[must_use]
    pub fn workspace(&self) -> Option<&Path> {
        Some(Path::new(&self.session.as_ref()?.workspace))
    }
}

/// What of a session's bounds this system does not enforce.
pub(crate) fn not_enforced(session: &Session) -> Vec<String> {
    session.reach.not_enforced(fence::offered().kernel)
}

fn scope(id: &str) -> Result<Scope> {
    Scope::new("session", id)
}
