//! The host: everything an embedder or the command does goes through here.
//!
//! One [`Host`] a process. Several processes may share one store: each owns the runs that it started, and any of them can
//! list, follow and cancel the runs of the others.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use midplane_core::approval::Policy;
use midplane_core::limits::Limits;
use midplane_core::manifest::PluginKind;
use midplane_core::permission::{Grant, Grants, Origin, Permissions};
use midplane_core::price::Prices;
use midplane_core::redact::{Redactor, SecretValue, Secrets};
use midplane_core::run::{self, End, Input, State, StopCause};
use midplane_core::stream::OUTSIDE;
use midplane_core::telemetry::measure::Sample;
use midplane_core::telemetry::settings::Settings;
use midplane_core::{Digest, Error, ProfileName, Result, RunId};
use midplane_engine::plugin::Availability;
use midplane_engine::{Control, Engine};
use midplane_store::{Append, Leases, Machines, RunQuery, RunRow, Store};
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::approval::{Asker, Questions};
use crate::call::Audit;
use crate::config::Config;
use crate::context::RuntimeContext;
use crate::driver::{Command, Ended, index_of, now_ms};
use crate::egress::{AccessTokens, Resolve, SystemResolver, Tls};
use crate::endpoints::Tokens;
use crate::ingest::Feeds;
use crate::owner::Owner;
use crate::paths::Paths;
use crate::process::place::Ground;
use crate::profile::{self, Profile};
use crate::questions::answer_of;
use crate::registry::{Embedded, Entry, Registry, unknown};
use crate::secret::keeper::{Keeper, Resolution};
use crate::secret::{Environment, References, SecretSource};
use crate::slots::{Slot, Slots};
use crate::telemetry::Telemetry;
use crate::view::{GrantView, OutputFile, PluginView, ProfileView, RunView, Subscription};

/// Makes a [`Host`].
pub struct Builder {
    paths: Option<Paths>,
    cache: Option<PathBuf>,
    helper: Option<PathBuf>,
    config: Config,
    embedded: Vec<Embedded>,
    asker: Option<Arc<dyn Asker>>,
    env: Environment,
    keeper: Option<Keeper>,
    /// Where artifacts are kept if not with the rest of the store.
    artifacts: Option<PathBuf>,
    core_dumps: Option<PathBuf>,
    telemetry: Option<Settings>,
}

/// A host of agent runs. Clones share it.
#[derive(Clone)]
pub struct Host {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) config: Config,
    pub(crate) limits: Limits,
    pub(crate) owner: Option<Owner>,
    pub(crate) owner_id: String,
    pub(crate) asker: Option<Arc<dyn Asker>>,
    pub(crate) prices: Arc<Prices>,
    pub(crate) tls: Tls,
    /// Access tokens, shared by all runs.
    pub(crate) tokens: Arc<AccessTokens>,
    pub(crate) resolver: Arc<dyn Resolve>,
    /// Where blobs that are too large for memory are spooled, in files without a name.
    pub(crate) spool: PathBuf,
    /// Where programs have their homes, and who supervises them.
    pub(crate) ground: Ground,
    /// Where sessions have their folders.
    pub(crate) sessions: PathBuf,
    /// Folders of this installation, which nothing that runs may change.
    pub(crate) state: Vec<PathBuf>,
    /// The folder of a host whose state is in memory, removed with it.
    _temporary: Option<tempfile::TempDir>,
    pub(crate) room: Arc<Semaphore>,
    /// Unset where nothing leaves, which is the default.
    pub(crate) telemetry: Option<Telemetry>,
    env: Environment,
    /// Secrets of a vault, under the identity of this host.
    keeper: Option<Keeper>,
    runs: Mutex<HashMap<RunId, Active>>,
    /// Runs that are fed from outside through this process.
    pub(crate) feeds: Feeds,
    /// Task ids of runs that are not over.
    slots: Slots,
    /// Redactors by the values that they hide: making one takes longer than starting a run.
    redactors: Mutex<HashMap<Digest, Redactor>>,
    /// Set when the host shuts down; no run starts afterwards.
    closing: watch::Sender<bool>,
}

/// A run of this process.
#[derive(Clone)]
pub(crate) struct Active {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) ended: watch::Receiver<Ended>,
    /// Whether someone asked for its end.
    pub(crate) cancelled: Arc<AtomicBool>,
    /// What it waits to be answered.
    pub(crate) questions: Questions,
}

/// What a cancel found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelReceipt {
    /// The process that drives the run was asked.
    Requested,
    /// It was asked before and is stopping.
    AlreadyRequested,
    /// The run had ended already.
    NotActive,
    /// Nobody drove it any more; it is closed now.
    Closed,
}

impl Builder {
    /// Keeps state in these folders. Without, all state is in memory and gone with the host.
    #[must_use]
    pub fn paths(mut self, paths: Paths) -> Self {
        self.paths = Some(paths);
        self
    }

    /// Keeps compiled plugins in this folder, wherever the rest is. Without it and without [`Self::paths`] they are compiled
    /// anew by each host, and gone with it.
    #[must_use]
    pub fn cache(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cache = Some(folder.into());
        self
    }

    /// The program that is run as `<path> helper ...`: the `midplane` command, or one that calls
    /// [`helper_main`](crate::helper_main). Without it, plugins from outside cannot be installed, and what a local program
    /// leaves behind outside of its process group, or when this process is killed, is not ended; the audit says so.
    #[must_use]
    pub fn helper(mut self, path: impl Into<PathBuf>) -> Self {
        self.helper = Some(path.into());
        self
    }

    /// The operator's configuration.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// A plugin that comes with the program.
    #[must_use]
    pub fn plugin(mut self, plugin: Embedded) -> Self {
        self.embedded.push(plugin);
        self
    }

    /// Who answers when a vendor's program asks. Without, every question is declined.
    #[must_use]
    pub fn asker(mut self, asker: Arc<dyn Asker>) -> Self {
        self.asker = Some(asker);
        self
    }

    /// Where references `env:NAME` of secrets are looked up; the process's environment unless set.
    #[must_use]
    pub fn env(mut self, env: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        self.env = Arc::new(env);
        self
    }

    /// Takes the configuration, the folders of the store and of artifacts, and the secrets from a context.
    #[must_use]
    pub fn context(mut self, context: &RuntimeContext) -> Self {
        self.artifacts = Some(context.paths().artifact_root.clone());
        self.paths(context.host_paths()).config(context.config().clone()).keeper(context.secrets().clone())
    }

    /// Who gives the secrets that references `vault:NAME` ask for, under one identity. Without, such a reference is refused.
    #[must_use]
    pub fn keeper(mut self, keeper: Keeper) -> Self {
        self.keeper = Some(keeper);
        self
    }

    /// Writes the memories of each guest that traps into this folder, one file each. For tests that search them for
    /// secrets.
    #[must_use]
    pub fn core_dumps(mut self, folder: impl Into<PathBuf>) -> Self {
        self.core_dumps = Some(folder.into());
        self
    }

    /// Sends each ended run as a trace to the collector that the settings name. Without, and with settings that name none,
    /// nothing leaves. What the settings say that cannot be used is logged, and fails nothing.
    #[must_use]
    pub fn telemetry(mut self, settings: Settings) -> Self {
        self.telemetry = Some(settings);
        self
    }

    /// Opens it: the store, the engine, and what other processes left unfinished.
    pub async fn open(self) -> Result<Host> {
        let limits = self.config.limits()?;
        let prices = Arc::new(Prices::with(self.config.prices.clone())?);
        let tls = trust(&self.config.certificate_authorities)?;
        let mut temporary = None;
        let (store, owner, cache, homes) = match &self.paths {
            Some(paths) => {
                crate::helper::private_folder(&paths.data)?;
                crate::helper::private_folder(&paths.cache)?;
                let data = paths.data.clone();
                let artifacts = self.artifacts.unwrap_or_else(|| data.join("artifacts"));
                let store = tokio::task::spawn_blocking(move || Store::open_with(&data, &artifacts))
                    .await
                    .map_err(|error| Error::internal("store", format!("opening was lost: {error}")))??;
                let owner = Owner::new(&paths.data.join("owners"), new_id()?)?;
                (store, Some(owner), paths.cache.clone(), paths.homes())
            }
            None => {
                let folder = tempfile::Builder::new().prefix("midplane-").tempdir().map_err(|error| {
                    Error::unavailable("folder", format!("no temporary folder can be made: {error}"))
                })?;
                let cache = folder.path().to_owned();
                temporary = Some(folder);
                let homes = cache.join("homes");
                (Store::memory()?, None, cache, homes)
            }
        };
        let telemetry = self.telemetry.and_then(|settings| Telemetry::start(settings, &tls));
        let spool = cache.clone();
        let cache = self.cache.unwrap_or(cache);
        let engine = match self.core_dumps {
            Some(folder) => Engine::with_core_dumps(&limits, folder)?,
            None => Engine::new(&limits)?,
        };
        let sessions = homes.with_file_name("sessions");
        let state = self.paths.iter().flat_map(|paths| [&paths.config, &paths.data, &paths.cache]).cloned().collect();
        let ground = Ground { homes, helper: self.helper.clone() };
        let registry = Registry::new(engine, store.clone(), cache, self.helper, limits.clone(), &self.embedded)?;
        let owner_id = match &owner {
            Some(owner) => owner.id().to_owned(),
            None => new_id()?,
        };
        let room = usize::try_from(limits.runs_max).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let host = Host {
            inner: Arc::new(Inner {
                store,
                registry,
                config: self.config,
                limits,
                owner,
                owner_id,
                asker: self.asker,
                prices,
                tls,
                tokens: Arc::default(),
                resolver: Arc::new(SystemResolver),
                spool,
                ground,
                sessions,
                state,
                _temporary: temporary,
                room: Arc::new(Semaphore::new(room)),
                telemetry,
                keeper: self.keeper,
                env: self.env,
                runs: Mutex::default(),
                feeds: Feeds::default(),
                slots: Slots::default(),
                redactors: Mutex::default(),
                closing: watch::Sender::new(false),
            }),
        };
        host.recover().await?;
        host.listen();
        Ok(host)
    }
}

impl Host {
    /// A builder with nothing in it.
    #[must_use]
    pub fn builder() -> Builder {
        Builder {
            paths: None,
            cache: None,
            helper: None,
            config: Config::default(),
            embedded: Vec::new(),
            asker: None,
            env: Arc::new(|name| std::env::var(name).ok()),
            keeper: None,
            artifacts: None,
            core_dumps: None,
            telemetry: None,
        }
    }

    /// The configuration that it was made with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The bounds in force.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    // ---- runs ----

    /// Asks a run to stop. Whoever drives it does it, in this process or another.
    pub async fn cancel(&self, run_id: &RunId) -> Result<CancelReceipt> {
        if let Some(active) = self.active(run_id) {
            // Its place among the active is given up a moment after its end is told.
            if active.ended.borrow().is_some() {
                return Ok(CancelReceipt::NotActive);
            }
            if active.cancelled.swap(true, Ordering::SeqCst) {
                return Ok(CancelReceipt::AlreadyRequested);
            }
            return Ok(match active.commands.send(Command::Stop(StopCause::User)).await {
                Ok(()) => CancelReceipt::Requested,
                Err(_) => CancelReceipt::NotActive,
            });
        }
        let row = self.row(run_id).await?;
        if row.index.finish_reason.is_some() {
            return Ok(CancelReceipt::NotActive);
        }
        if self.close_if_lost(&row).await? {
            return Ok(CancelReceipt::Closed);
        }
        if row.index.status == run::Status::Stopping.as_str() {
            return Ok(CancelReceipt::AlreadyRequested);
        }
        if is_outside(&row) {
            self.stop_outside(run_id).await?;
            return Ok(CancelReceipt::Requested);
        }
        self.inner.store.signals.push(run_id, "cancel", "").await?;
        Ok(CancelReceipt::Requested)
    }

    /// Gives a running agent a message.
    pub async fn steer(&self, run_id: &RunId, text: &str) -> Result<()> {
        let max = self.inner.limits.signal_bytes_max;
        if text.len() as u64 > max {
            return Err(Error::limit("signal-size", format!("a message has at most {max} bytes")));
        }
        let ended = || Error::conflict("run-ended", format!("run `{run_id}` has ended"));
        if let Some(active) = self.active(run_id) {
            return active.commands.send(Command::Steer(text.to_owned())).await.map_err(|_| ended());
        }
        let row = self.row(run_id).await?;
        if row.index.finish_reason.is_some() {
            return Err(ended());
        }
        if is_outside(&row) {
            return Err(Error::unsupported("run-outside", format!("run `{run_id}` is fed from outside")));
        }
        self.inner.store.signals.push(run_id, "steer", text).await.map(|_| ())
    }

    /// What the operator answers in advance to the programs of a profile.
    pub(crate) fn approvals(&self, name: &ProfileName) -> Policy {
        self.inner.config.profiles.get(name).map(|profile| profile.approvals.clone()).unwrap_or_default()
    }

    /// A run as its log tells it.
    pub async fn get(&self, run_id: &RunId) -> Result<RunView> {
        let row = self.row(run_id).await?;
        if row.index.finish_reason.is_none() && self.close_if_lost(&row).await? {
            return Ok(RunView::new(&self.row(run_id).await?, &self.fold(run_id).await?));
        }
        Ok(RunView::new(&row, &self.fold(run_id).await?))
    }

    /// Runs, newest first.
    pub async fn runs(&self, query: RunQuery) -> Result<Vec<RunRow>> {
        self.inner.store.log.runs(query).await
    }

    /// The run of an id, or of the only id that begins so.
    pub async fn find(&self, prefix: &str) -> Result<RunId> {
        if let Ok(id) = RunId::new(prefix) {
            return self.row(&id).await.map(|row| row.run_id);
        }
        let rows = self.runs(RunQuery::default()).await?;
        let mut found =
            rows.iter().filter(|row| !prefix.is_empty() && row.run_id.as_str().starts_with(&prefix.to_lowercase()));
        match (found.next(), found.next()) {
            (Some(row), None) => Ok(row.run_id.clone()),
            (Some(_), Some(_)) => Err(Error::invalid("run-ambiguous", format!("several runs begin with `{prefix}`"))
                .hint("give more of the id")),
            _ => Err(no_run(prefix)),
        }
    }

    /// Events of a run from a sequence number on: those that are there, then those to come, until the terminal.
    pub async fn subscribe(&self, run_id: &RunId, from_seq: u64) -> Result<Subscription> {
        let row = self.row(run_id).await?;
        if row.index.finish_reason.is_none() {
            // Nobody would ever write the terminal that the reader waits for.
            self.close_if_lost(&row).await?;
        }
        Ok(Subscription::new(
            self.clone(),
            run_id.clone(),
            self.inner.store.log.tail(run_id, from_seq),
            row.index.owner,
        ))
    }

    /// Removes an ended run with its events and outputs.
    pub async fn remove_run(&self, run_id: &RunId) -> Result<()> {
        let row = self.row(run_id).await?;
        if row.index.finish_reason.is_none() && !self.close_if_lost(&row).await? {
            let how = if is_outside(&row) { "close" } else { "cancel" };
            return Err(Error::conflict("run-active", format!("run `{run_id}` has not ended"))
                .hint(format!("{how} it first: `midplane runs {how} {run_id}`")));
        }
        self.inner.store.remove_run(run_id).await.map(|_| ())
    }

    /// Removes ended runs that were last written before a time, and files that no run refers to any more. Gives how
    /// many runs and how many bytes.
    pub async fn prune(&self, before_ms: u64) -> Result<(u64, u64)> {
        let mut removed = 0;
        let mut before = None;
        loop {
            let page = self.runs(RunQuery { before: before.clone(), ..RunQuery::default() }).await?;
            let Some(last) = page.last() else { break };
            before = Some(last.run_id.clone());
            for row in &page {
                if row.index.finish_reason.is_some() && row.index.updated_ms < before_ms {
                    removed += u64::from(self.inner.store.remove_run(&row.run_id).await?);
                }
            }
        }
        let freed = self.inner.store.artifacts.gc(before_ms, false).await?;
        Ok((removed, freed.iter().map(|stored| stored.size_bytes).sum()))
    }

    /// Files that a run made or changed, kept by digest.
    pub async fn outputs(&self, run_id: &RunId) -> Result<Vec<OutputFile>> {
        self.row(run_id).await?;
        Ok(self.inner.store.artifacts.refs(run_id).await?.into_iter().map(OutputFile::from).collect())
    }

    /// The content of one of them.
    pub async fn output(&self, digest: &Digest) -> Result<Vec<u8>> {
        self.inner.store.artifacts.read(digest, self.inner.limits.tool_file_bytes_max).await
    }

    // ---- plugins, profiles, grants ----

    /// All plugins, and of each whether it loads.
    pub async fn plugins(&self) -> Result<Vec<PluginView>> {
        let mut views = Vec::new();
        for entry in self.inner.registry.list().await? {
            views.push(self.plugin_view(&entry).await?);
        }
        Ok(views)
    }

    /// How many plugins are loaded: each once, however often it is used.
    #[must_use]
    pub fn plugins_loaded(&self) -> usize {
        self.inner.registry.count_loaded()
    }

    /// One plugin.
    pub async fn plugin(&self, name: &str) -> Result<PluginView> {
        let entry = self.inner.registry.get(name).await?;
        self.plugin_view(&entry).await
    }

    /// Installs a plugin from its `plugin.toml` and component.
    pub async fn install(&self, manifest: &Path, component: &Path) -> Result<PluginView> {
        let entry = self.inner.registry.install(manifest, component, now_ms()).await?;
        self.plugin_view(&entry).await
    }

    /// Removes an installed plugin.
    pub async fn uninstall(&self, name: &str) -> Result<()> {
        self.inner.registry.remove(name).await
    }

    /// All profiles: those of the configuration, and one for each plugin.
    pub async fn profiles(&self) -> Result<Vec<ProfileView>> {
        let mut names: Vec<ProfileName> = self.inner.config.profiles.keys().cloned().collect();
        for entry in self.inner.registry.list().await? {
            let name = ProfileName::new(entry.manifest.name.as_str())?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.sort();
        let mut views = Vec::new();
        for name in names {
            views.push(self.profile_view(&name).await?);
        }
        Ok(views)
    }

    /// One profile.
    pub async fn profile(&self, name: &str) -> Result<ProfileView> {
        let (name, _) = self.resolve(name).await?;
        self.profile_view(&name).await
    }

    /// What the plugin of a profile says of itself; asks the vendor where `probe` is not zero. [`Self::readiness`] says more.
    pub async fn availability(&self, name: &str, probe: Duration) -> Result<Availability> {
        let profile = self.load(name).await?;
        self.probe(&profile, probe).await
    }

    /// The operator's grants, of one profile or all.
    pub async fn grants(&self, profile: Option<&str>) -> Result<Vec<GrantView>> {
        let profile = profile.map(ProfileName::new).transpose()?;
        let stored = self.inner.store.grants.list(profile.as_ref()).await?;
        let configured =
            self.inner.config.profiles.keys().filter(|name| profile.as_ref().is_none_or(|own| own == *name));
        let configured = configured
            .flat_map(|name| self.inner.config.grants(name).map(|(grant, at)| GrantView::configured(name, grant, at)));
        let mut views: Vec<GrantView> = stored.into_iter().map(GrantView::from).chain(configured).collect();
        views.sort_by(|a, b| a.profile.cmp(&b.profile));
        Ok(views)
    }

    /// Grants something to a profile for good. Whether it is new.
    pub async fn allow(&self, profile: &str, grant: &Grant) -> Result<bool> {
        let (profile, entry) = self.resolve(profile).await?;
        // The plugin is noted because a project can put another one under the same name.
        let note = entry.manifest.name.to_string();
        let row = midplane_store::Grant { profile, grant: grant.to_string(), created_ms: now_ms(), note };
        self.inner.store.grants.allow(row).await
    }

    /// Takes a grant back. Whether it was there. Runs that have begun keep what they had.
    pub async fn revoke(&self, profile: &str, grant: &Grant) -> Result<bool> {
        // Also for a profile that is not there any more: its grants must not outlive it unseen.
        let profile = ProfileName::new(profile)?;
        let revoked = self.inner.store.grants.revoke(&profile, &grant.to_string()).await?;
        match self.inner.config.grants(&profile).find(|(configured, _)| *configured == grant) {
            Some((_, at)) => {
                let place = at.map_or_else(|| "the configuration".to_owned(), ToString::to_string);
                Err(Error::conflict("grant-configured", format!("`{profile}` has `{grant}` from {place}"))
                    .hint("take it out of the configuration"))
            }
            None => Ok(revoked),
        }
    }

    /// Reads the whole store and says what is wrong with it, if anything.
    pub async fn check_store(&self) -> Result<()> {
        self.inner.store.check().await
    }

    /// The machines of deployments, sessions and sandboxes: their states, changed by compare-and-set, with reasons and times.
    #[must_use]
    pub fn machines(&self) -> &Machines {
        &self.inner.store.machines
    }

    /// Leases: who may be at something at once, across all processes on this store.
    #[must_use]
    pub fn leases(&self) -> &Leases {
        &self.inner.store.leases
    }

    /// What telemetry counted in this process: what was dropped, what could not be sent. Empty where nothing leaves.
    #[must_use]
    pub fn measures(&self) -> Vec<Sample> {
        self.inner.telemetry.as_ref().map_or_else(Vec::new, Telemetry::samples)
    }

    // ---- end ----

    /// Stops all runs of this process and waits for their terminals, at most for the grace period and a little more.
    pub async fn shutdown(&self) {
        self.inner.closing.send_replace(true);
        let active: Vec<Active> = self.runs_here().values().cloned().collect();
        for run in &active {
            // A driver that has ended needs no word.
            let _ = run.commands.send(Command::Stop(StopCause::Shutdown)).await;
        }
        let time = Duration::from_millis(self.inner.limits.grace_ms) + Duration::from_secs(2);
        let all = async {
            for mut run in active {
                let _ = run.ended.wait_for(Option::is_some).await;
            }
        };
        if tokio::time::timeout(time, all).await.is_err() {
            tracing::warn!("runs did not end in time; they are closed by the next process");
        }
        if let Some(telemetry) = &self.inner.telemetry {
            telemetry.flush().await;
        }
    }

    // ---- inside ----

    pub(crate) fn is_closing(&self) -> bool {
        *self.inner.closing.borrow()
    }

    pub(crate) fn register(&self, run_id: RunId, active: Active) {
        self.runs_here().insert(run_id, active);
    }

    pub(crate) fn unregister(&self, run_id: &RunId) {
        self.runs_here().remove(run_id);
    }

    /// A run has its terminal: its trace may leave. Never waits, never fails.
    pub(crate) fn trace(&self, run_id: &RunId) {
        if let Some(telemetry) = &self.inner.telemetry {
            telemetry.run_ended(&self.inner.store.log, run_id);
        }
    }

    pub(crate) fn active(&self, run_id: &RunId) -> Option<Active> {
        self.runs_here().get(run_id).cloned()
    }

    fn runs_here(&self) -> std::sync::MutexGuard<'_, HashMap<RunId, Active>> {
        // Nothing panics while it is held.
        self.inner.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn row(&self, run_id: &RunId) -> Result<RunRow> {
        self.inner.store.log.run(run_id).await?.ok_or_else(|| no_run(run_id.as_str()))
    }

    async fn fold(&self, run_id: &RunId) -> Result<State> {
        let mut state = State::default();
        loop {
            let page =
                self.inner.store.log.read(run_id, state.last_seq + 1, midplane_store::log::READ_RECORDS_MAX).await?;
            if page.is_empty() {
                return Ok(state);
            }
            for record in &page {
                state.apply(record);
            }
        }
    }

    /// The name and plugin of a profile.
    async fn resolve(&self, name: &str) -> Result<(ProfileName, Entry)> {
        if let Ok(profile) = ProfileName::new(name) {
            if let Some(config) = self.inner.config.profiles.get(&profile) {
                let plugin = config.plugin.as_ref().map_or(name, |plugin| plugin.as_str());
                return Ok((profile, self.inner.registry.get(plugin).await?));
            }
            if let Ok(entry) = self.inner.registry.get(name).await {
                return Ok((profile, entry));
            }
        }
        let mut known: Vec<String> = self.inner.config.profiles.keys().map(ToString::to_string).collect();
        known.extend(self.inner.registry.list().await?.iter().map(|entry| entry.manifest.name.to_string()));
        known.sort();
        known.dedup();
        Err(unknown("profile", name, known.iter().map(String::as_str)))
    }

    /// The place of a task id while a run has it.
    pub(crate) fn take_slot(&self, profile: &ProfileName, task_id: &str, run_id: &RunId) -> Result<Slot> {
        self.inner.slots.take(profile, task_id, run_id)
    }

    /// The run of this process that has a task id.
    pub(crate) fn run_of_task(&self, profile: &str, task_id: &str) -> Option<RunId> {
        self.inner.slots.run(&ProfileName::new(profile).ok()?, task_id)
    }

    /// A profile, loaded.
    pub(crate) async fn load(&self, name: &str) -> Result<Profile> {
        self.load_with(name, &BTreeMap::new()).await
    }

    /// A profile, loaded, with settings laid over its own.
    pub(crate) async fn load_with(&self, name: &str, over: &BTreeMap<String, Value>) -> Result<Profile> {
        let (name, entry) = self.resolve(name).await?;
        self.load_as(name, entry, over).await
    }

    async fn load_as(&self, name: ProfileName, entry: Entry, over: &BTreeMap<String, Value>) -> Result<Profile> {
        let settled = self.settle(&name, &entry, over)?;
        let plugin = self.inner.registry.load(&entry).await?;
        Ok(Profile {
            name,
            manifest: entry.manifest,
            digest: entry.digest,
            plugin,
            config: Arc::new(settled.config),
            secret_settings: settled.secret_settings,
            permissions: Arc::new(settled.permissions),
            endpoints: settled.endpoints.into(),
            limits: settled.limits,
        })
    }

    fn settle(&self, name: &ProfileName, entry: &Entry, over: &BTreeMap<String, Value>) -> Result<profile::Settled> {
        let mut settings = self.inner.config.profiles.get(name).map_or_else(BTreeMap::new, |of| of.settings.clone());
        settings.extend(over.clone());
        profile::settle(&entry.manifest, &settings, &self.inner.limits).map_err(|mut error| {
            error.message = format!("profile `{name}`: {}", error.message);
            error
        })
    }

    /// What the operator allows a profile, with what is allowed for this once.
    pub(crate) async fn granted(&self, profile: &ProfileName, once: &[Grant]) -> Result<Grants> {
        let mut grants = Grants::default();
        let config = &self.inner.config;
        // Where a project says which plugin a profile is, only what was granted to that very plugin is meant.
        let meant = config.profiles.get(profile).and_then(|profile| profile.plugin.as_ref());
        let meant = meant.filter(|_| config.is_of_project(profile));
        for row in self.inner.store.grants.list(Some(profile)).await? {
            if meant.is_none_or(|plugin| plugin.as_str() == row.note) {
                grants.insert(row.grant.parse()?, Origin::Stored);
            }
        }
        for (grant, _) in config.grants(profile) {
            grants.insert(grant.clone(), Origin::Configured);
        }
        for grant in once {
            grants.insert(grant.clone(), Origin::Once);
        }
        Ok(grants)
    }

    /// The values of secrets that a profile may have applied, for its plugin or for what a task asks for besides (`further`),
    /// those that the host made for the call (`own`), and a redactor that hides them. A secret that cannot be had is left out; where it is needed, that is said then.
    pub(crate) async fn secrets(
        &self,
        profile: &Profile,
        grants: &Grants,
        further: &Permissions,
        own: &Tokens,
    ) -> Result<(Resolved, Redactor)> {
        let source = self.references(&profile.name);
        let mut audits = Vec::new();
        let mut values = BTreeMap::new();
        let mut missing = BTreeMap::new();
        let mut names: BTreeSet<String> = profile.secrets(grants).into_iter().collect();
        names.extend(profile::granted_secrets(further, grants));
        for name in names {
            let (value, resolution) = source.resolve(&name).await;
            audits.extend(resolution.map(Resolution::audit));
            match value {
                Ok(value) => {
                    values.insert(name, value);
                }
                Err(error) => {
                    missing.insert(name, error);
                }
            }
        }
        values.extend(own.iter().map(|(name, value)| (name.clone(), value.clone())));
        // Values of one run are in no other: their redactor is not kept.
        let redactor = if own.is_empty() { self.redactor(&values)? } else { new_redactor(&values)? };
        Ok((Resolved { values, missing, audits }, redactor))
    }

    /// A redactor of all secrets that can be had of those that the configuration names, for all and for this profile, and
    /// of those that the plugin under it asks for.
    pub(crate) async fn redactor_of(&self, profile: &ProfileName) -> Result<Redactor> {
        let source = self.references(profile);
        let mut names: Vec<String> = source.names().map(str::to_owned).collect();
        if let Ok((name, entry)) = self.resolve(profile.as_str()).await
            && let Ok(settled) = self.settle(&name, &entry, &BTreeMap::new())
        {
            names.extend(profile::secret_names(&settled.permissions));
        }
        let mut values = BTreeMap::new();
        for name in names {
            // One that cannot be had cannot be in what comes either.
            if let (Ok(value), _) = source.resolve(&name).await {
                values.insert(name, value);
            }
        }
        self.redactor(&values)
    }

    /// Where the secrets of a profile come from: what it says itself, before what is said for all.
    pub(crate) fn references(&self, profile: &ProfileName) -> References {
        let mut references = self.inner.config.secrets.clone();
        if let Some(config) = self.inner.config.profiles.get(profile) {
            references.extend(config.secrets.clone());
        }
        References::new(references, self.inner.env.clone(), self.inner.keeper.clone())
    }

    fn redactor(&self, values: &BTreeMap<String, SecretValue>) -> Result<Redactor> {
        if values.is_empty() {
            return Ok(Redactor::default());
        }
        let mut all = zeroize::Zeroizing::new(Vec::new());
        for (name, value) in values {
            for part in [name.as_bytes(), value.expose()] {
                all.extend_from_slice(&(part.len() as u64).to_le_bytes());
                all.extend_from_slice(part);
            }
        }
        let key = Digest::of(&all);
        let mut cached = self.inner.redactors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(redactor) = cached.get(&key) {
            return Ok(redactor.clone());
        }
        let redactor = new_redactor(values)?;
        // A value that changes leaves its redactor behind; a handful is kept at most.
        if cached.len() >= REDACTORS_MAX {
            cached.clear();
        }
        cached.insert(key, redactor.clone());
        Ok(redactor)
    }

    // ---- other processes ----

    /// Closes what processes left unfinished that are gone.
    async fn recover(&self) -> Result<()> {
        let rows = self.runs(RunQuery { unfinished: true, ..RunQuery::default() }).await?;
        for row in rows {
            self.close_if_lost(&row).await?;
        }
        if let Some(owner) = &self.inner.owner {
            for other in owner.all() {
                if let Some(gone) = owner.gone(&other) {
                    let left = RunQuery { owner: Some(other), unfinished: true, limit: 1, ..RunQuery::default() };
                    if self.runs(left).await?.is_empty() {
                        gone.forget();
                    }
                }
            }
        }
        Ok(())
    }

    /// Closes an unfinished run whose owner is gone, or whose end was claimed from outside long enough ago. Exactly once: the owner's lock is held meanwhile, the run is claimed
    /// by compare-and-set, and the append names the last record that was seen.
    pub(crate) async fn close_if_lost(&self, row: &RunRow) -> Result<bool> {
        if is_outside(row) {
            return self.settle_if_due(row).await;
        }
        let (Some(owner), Some(named)) = (&self.inner.owner, &row.index.owner) else { return Ok(false) };
        let Some(_gone) = owner.gone(named) else { return Ok(false) };
        if !self.inner.store.log.claim(&row.run_id, Some(named), owner.id()).await? {
            return Ok(false);
        }
        let mut state = self.fold(&row.run_id).await?;
        let step = run::step(&state, Input::End(End::HostLost))?;
        if step.append.is_empty() {
            return Ok(false);
        }
        let t_ms = now_ms().max(state.last_t_ms);
        let expected_seq = state.last_seq;
        for event in &step.append {
            state.apply(&midplane_core::event::Record {
                run_id: row.run_id.clone(),
                seq: state.last_seq + 1,
                t_ms,
                kind: event.kind,
                data: event.data.clone(),
            });
        }
        let index = index_of(
            &state,
            &row.index.profile,
            &row.index.task_id,
            row.index.created_ms,
            Some(owner.id().to_owned()),
            row.index.summary.clone(),
        );
        let append = Append { run_id: row.run_id.clone(), expected_seq, t_ms, events: step.append, index: Some(index) };
        self.inner.store.log.append(append).await?;
        self.trace(&row.run_id);
        tracing::warn!(run = %row.run_id, "a run whose process is gone was closed");
        Ok(true)
    }

    /// Hands signals that other processes left to the runs of this one.
    fn listen(&self) {
        let mut changes = self.inner.store.signals.watch();
        let host = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            loop {
                let Some(inner) = host.upgrade() else { return };
                let this = Self { inner };
                if let Err(error) = this.take_signals().await {
                    tracing::warn!(error = %error, "signals of other processes cannot be read");
                }
                drop(this);
                if changes.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    async fn take_signals(&self) -> Result<()> {
        let here: Vec<RunId> = self.runs_here().keys().cloned().collect();
        self.take_signals_of(&here).await
    }

    /// What others left for these runs. Also asked once for each run that begins: between its first record and its place
    /// among the runs here another process can see it, and would leave a word that nothing announces any more.
    pub(crate) async fn take_signals_of(&self, runs: &[RunId]) -> Result<()> {
        if runs.is_empty() {
            return Ok(());
        }
        for signal in self.inner.store.signals.take(runs).await? {
            let Some(active) = self.active(&signal.run_id) else { continue };
            if signal.kind == "answer" {
                // Too late, or not ours: whoever sent it finds the answer that counted in the log.
                if let Some((question, reply)) = answer_of(&signal.text) {
                    active.questions.answer(&question, reply);
                }
                continue;
            }
            let command = match signal.kind.as_str() {
                "cancel" => Command::Stop(StopCause::User),
                "steer" => Command::Steer(signal.text),
                // Left by a newer version: what this one does not know it cannot do.
                _ => continue,
            };
            // A run that has ended needs no word.
            let _ = active.commands.send(command).await;
        }
        Ok(())
    }

    async fn plugin_view(&self, entry: &Entry) -> Result<PluginView> {
        let name = ProfileName::new(entry.manifest.name.as_str())?;
        let granted = self.granted(&name, &[]).await?.iter().map(|(grant, _)| grant.to_string()).collect();
        Ok(match self.inner.registry.load(entry).await {
            Ok(_) => PluginView::new(entry, true, self.features(&name, entry).await, granted),
            Err(error) => PluginView::new(entry, false, Err(error), granted),
        })
    }

    /// What a plugin declares. Only agents have calls yet.
    async fn features(&self, name: &ProfileName, entry: &Entry) -> Result<Vec<String>> {
        if entry.manifest.kind != PluginKind::Agent {
            return Ok(Vec::new());
        }
        let profile = self.load_as(name.clone(), entry.clone(), &BTreeMap::new()).await?;
        Ok(self.capabilities(&profile).await?.features)
    }

    async fn profile_view(&self, name: &ProfileName) -> Result<ProfileView> {
        let granted = self.granted(name, &[]).await?;
        let (_, entry) = match self.resolve(name.as_str()).await {
            Ok(found) => found,
            Err(error) => return Ok(ProfileView::broken(name, error)),
        };
        Ok(match self.settle(name, &entry, &BTreeMap::new()) {
            Ok(settled) => ProfileView::new(name, &entry, &settled, &granted, &self.inner.config),
            Err(error) => ProfileView::broken(name, error),
        })
    }
}

/// Whether a run is fed from outside, so that no process drives it.
fn is_outside(row: &RunRow) -> bool {
    row.index.summary.get(OUTSIDE).is_some()
}

fn new_redactor(values: &BTreeMap<String, SecretValue>) -> Result<Redactor> {
    let secrets = Secrets::new(values.iter().map(|(name, value)| (name.as_str(), value.expose())))?;
    for weak in secrets.weak() {
        tracing::warn!(secret = %weak, "the secret is so short that it cannot be found safely in what comes back");
    }
    Ok(Redactor::new(secrets))
}

/// Redactors that are kept.
const REDACTORS_MAX: usize = 64;

/// Secrets of one call, resolved when it began: what the redactor hides is what can be applied.
pub(crate) struct Resolved {
    values: BTreeMap<String, SecretValue>,
    missing: BTreeMap<String, Error>,
    audits: Vec<Audit>,
}

impl Resolved {
    /// Why a secret cannot be had, if it cannot.
    pub(crate) fn missing(&self, name: &str) -> Option<&Error> {
        self.missing.get(name)
    }

    /// What was asked of a vault, to be written to the log of the call.
    pub(crate) fn take_audits(&mut self) -> Vec<Audit> {
        std::mem::take(&mut self.audits)
    }
}

#[async_trait::async_trait]
impl SecretSource for Resolved {
    async fn resolve(&self, name: &str) -> Result<SecretValue> {
        match (self.values.get(name), self.missing.get(name)) {
            (Some(value), _) => Ok(value.clone()),
            (None, Some(error)) => Err(error.clone()),
            (None, None) => Err(Error::not_found("secret", format!("secret `{name}` was not resolved for this call"))),
        }
    }
}

fn no_run(id: &str) -> Error {
    Error::not_found("run-unknown", format!("there is no run `{}`", midplane_core::text::shown(id, 40)))
        .hint("`midplane runs list` lists them")
}

fn trust(files: &[String]) -> Result<Tls> {
    if files.is_empty() {
        return Tls::shared();
    }
    let mut pem = Vec::new();
    for file in files {
        let bytes = std::fs::read(file).map_err(|error| {
            Error::invalid("config", format!("`certificate_authorities`: `{file}` cannot be read: {error}"))
        })?;
        pem.extend_from_slice(&bytes);
        pem.push(b'\n');
    }
    Tls::with_extra_ca(&pem)
}

/// A new id of 26 letters and digits that sorts by time.
pub(crate) fn new_id() -> Result<String> {
    new_run_id().map(|id| id.to_string())
}

/// A new run id.
pub(crate) fn new_run_id() -> Result<RunId> {
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random)
        .map_err(|error| Error::unavailable("random", format!("the system gives no randomness: {error}")))?;
    Ok(RunId::from_parts(now_ms(), u128::from_le_bytes(random)))
}

/// Time for a call that is not a run.
pub(crate) fn query_control(limits: &Limits) -> Arc<Control> {
    Arc::new(Control::new(Duration::from_millis(limits.query_ms_max)))
}
