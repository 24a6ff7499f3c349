//! A host with all of its state in a folder of the test, a vendor's plugin pointed at a server of the test, and what its
//! runs leave behind, in a form that can be compared.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use midplane::config::ProfileConfig;
use midplane::core::approval::Policy;
use midplane::core::event::{EventKind, Record};
use midplane::core::outcome::Outcome;
use midplane::core::price::Price;
use midplane::core::task::{self, Task, WorkspaceAccess};
use midplane::core::{ProfileName, RunId};
use midplane::{Config, FIRST_PARTY, Host, Keeper, Paths, RunRequest};
use serde_json::{Value, json};

/// The key of the tests: long, of the vendor's form, with characters that each encoding writes differently.
pub(crate) const KEY: &str = "sk-ant-api03-q7/Zt+Jw0~4mVx=Ld8Rb2Nf6Ys9Hc1Gp5Ke3Ua";

/// How a host is set up.
pub(crate) struct Setup {
    /// The plugin, and the profile of its name.
    plugin: &'static str,
    /// The name of its secret; none is granted to a profile without one.
    secret: Option<&'static str>,
    base_url: String,
    key: Option<String>,
    granted: bool,
    settings: BTreeMap<String, Value>,
    limits: BTreeMap<String, u64>,
    prices: BTreeMap<String, Price>,
    core_dumps: Option<PathBuf>,
    own_cache: bool,
    vault: Option<(String, Keeper)>,
    approvals: Policy,
}

impl Setup {
    /// The profile `anthropic` at a server, with the key and both grants.
    pub(crate) fn new(base_url: &str) -> Self {
        Self::of("anthropic", Some("ANTHROPIC_API_KEY"), base_url)
    }

    /// The profile of a plugin at a server, with the key and its grants.
    pub(crate) fn of(plugin: &'static str, secret: Option<&'static str>, base_url: &str) -> Self {
        Self {
            plugin,
            secret,
            base_url: base_url.to_owned(),
            key: Some(KEY.to_owned()),
            granted: true,
            settings: BTreeMap::new(),
            limits: BTreeMap::new(),
            prices: BTreeMap::new(),
            core_dumps: None,
            own_cache: false,
            vault: None,
            approvals: Policy::default(),
        }
    }

    /// Another key, or none in the environment.
    pub(crate) fn key(mut self, key: Option<&str>) -> Self {
        self.key = key.map(str::to_owned);
        self
    }

    /// No grant of the operator.
    pub(crate) fn ungranted(mut self) -> Self {
        self.granted = false;
        self
    }

    /// A setting of the profile.
    pub(crate) fn setting(mut self, name: &str, value: Value) -> Self {
        self.settings.insert(name.to_owned(), value);
        self
    }

    /// A bound of the host.
    pub(crate) fn limit(mut self, name: &str, value: u64) -> Self {
        self.limits.insert(name.to_owned(), value);
        self
    }

    /// What a million tokens of a model cost.
    pub(crate) fn price(mut self, model: &str, usd: f64) -> Self {
        let price = Price { input: usd, output: usd, cache_read: None, cache_creation: None };
        self.prices.insert(model.to_owned(), price);
        self
    }

    /// Dumps the memories of guests that trap.
    pub(crate) fn core_dumps(mut self, folder: &Path) -> Self {
        self.core_dumps = Some(folder.to_owned());
        self
    }

    /// Keeps compiled plugins and spooled bodies in the test's own folder, so that they can be searched.
    pub(crate) fn own_cache(mut self) -> Self {
        self.own_cache = true;
        self
    }

    /// Takes the key from a secret of a vault.
    pub(crate) fn vault(mut self, secret: &str, keeper: Keeper) -> Self {
        self.vault = Some((secret.to_owned(), keeper));
        self
    }

    /// What is answered in advance when a vendor's program asks.
    pub(crate) fn approvals(mut self, approvals: Policy) -> Self {
        self.approvals = approvals;
        self
    }

    /// Opens it in new folders.
    pub(crate) async fn open(self) -> World {
        let home = tempfile::tempdir().expect("home");
        let workspace = tempfile::tempdir().expect("workspace");
        let host = self.host(home.path()).await;
        World { host, setup: self, workspace, home }
    }

    async fn host(&self, home: &Path) -> Host {
        let mut paths = Paths::under(home);
        if !self.own_cache {
            // The same plugin need not be compiled for each test.
            paths.cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
        }
        let mut settings = self.settings.clone();
        settings.insert("base_url".to_owned(), json!(self.base_url));
        let approvals = self.approvals.clone();
        let profile = ProfileConfig { settings, approvals, ..ProfileConfig::default() };
        let name = ProfileName::new(self.plugin).expect("a name");
        let own = self.secret.unwrap_or_default();
        let reference = |(secret, _): &(String, Keeper)| (own.to_owned(), format!("vault:{secret}"));
        let mut config = Config::default();
        config.profiles.insert(name, profile);
        config.limits.clone_from(&self.limits);
        config.prices.clone_from(&self.prices);
        config.secrets.extend(self.vault.iter().map(reference));
        let key = self.key.clone();
        let mut builder = Host::builder().paths(paths).config(config);
        builder = builder.env(move |name| key.clone().filter(|_| name == own));
        if let Some((_, keeper)) = &self.vault {
            builder = builder.keeper(keeper.clone());
        }
        if let Some(folder) = &self.core_dumps {
            builder = builder.core_dumps(folder);
        }
        for plugin in FIRST_PARTY {
            builder = builder.plugin(*plugin);
        }
        let host = builder.open().await.expect("host");
        if self.granted {
            let secret = self.secret.map(|name| format!("secret:{name}"));
            for grant in std::iter::once(format!("http:{}", self.base_url)).chain(secret) {
                host.allow(self.plugin, &grant.parse().expect("a grant")).await.expect("allowed");
            }
        }
        host
    }
}

/// A host and its folders.
pub(crate) struct World {
    /// The host.
    pub(crate) host: Host,
    /// The folder that tasks work in.
    pub(crate) workspace: tempfile::TempDir,
    /// All state of the host.
    pub(crate) home: tempfile::TempDir,
    setup: Setup,
}

impl World {
    /// A task in the workspace, which it may change.
    pub(crate) fn task(&self, goal: &str) -> Task {
        let mut task = Task::new(goal);
        let path = self.workspace.path().display().to_string();
        task.workspace = Some(task::Workspace { path, access: WorkspaceAccess::ReadWrite });
        task
    }

    /// A request under the profile of the setup.
    pub(crate) fn request(&self, task: Task) -> RunRequest {
        RunRequest { profile: self.setup.plugin.to_owned(), task, allow: Vec::new() }
    }

    /// Runs a task to its end.
    pub(crate) async fn run(&self, task: Task) -> Ran {
        let mut run = self.host.run(self.request(task)).await.unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
        let outcome = run.outcome().await.expect("a log that can be written");
        self.ran(run.id(), outcome).await
    }

    /// What a run that ended has left.
    pub(crate) async fn ran(&self, id: &RunId, outcome: Outcome) -> Ran {
        let mut events = self.host.subscribe(id, 1).await.expect("events");
        let mut records = Vec::new();
        while let Some(more) = events.next().await.expect("records") {
            records.extend(more);
        }
        Ran { outcome, records }
    }

    /// The same folders under a new host, as after a restart.
    pub(crate) async fn reopened(self) -> Self {
        let Self { host, workspace, home, setup } = self;
        host.shutdown().await;
        drop(host);
        let host = setup.host(home.path()).await;
        Self { host, workspace, home, setup }
    }
}

/// A request under the profile `anthropic`.
pub(crate) fn request(task: Task) -> RunRequest {
    RunRequest { profile: "anthropic".to_owned(), task, allow: Vec::new() }
}

/// A run that ended.
pub(crate) struct Ran {
    /// Its result.
    pub(crate) outcome: Outcome,
    /// Its log.
    pub(crate) records: Vec<Record>,
}

impl Ran {
    /// All text of the model, joined.
    pub(crate) fn text(&self) -> String {
        self.of(EventKind::AssistantText).filter_map(|data| data["text"].as_str().map(str::to_owned)).collect()
    }

    /// The data of all events of a kind.
    pub(crate) fn of(&self, kind: EventKind) -> impl Iterator<Item = Value> {
        self.records.iter().filter(move |record| record.kind == kind).map(|record| Value::Object(record.data.clone()))
    }

    /// The notifications of a type.
    pub(crate) fn notifications(&self, of: &str) -> Vec<Value> {
        self.of(EventKind::Notification).filter(|data| data["type"] == of).collect()
    }

    /// Kind and code of the error, `none` without one.
    pub(crate) fn error(&self) -> String {
        self.outcome.error.as_ref().map_or_else(|| "none".to_owned(), |error| format!("{}/{}", error.kind, error.code))
    }

    /// The log without what differs from run to run. Pieces of text are joined, since where they are cut is up to the
    /// network; audits are left out, since when they are written down is up to the batches.
    pub(crate) fn story(&self) -> String {
        let mut lines: Vec<(String, Value)> = Vec::new();
        for record in &self.records {
            let mut data = Value::Object(record.data.clone());
            steady(&mut data);
            let kind = match data["type"].as_str() {
                Some("audit" | "created") => continue,
                Some(of) => of.to_owned(),
                None => record.kind.as_str().to_owned(),
            };
            match lines.last_mut() {
                Some((last, joined)) if *last == kind && data.get("text").is_some() => {
                    joined["text"] = json!(format!(
                        "{}{}",
                        joined["text"].as_str().unwrap_or_default(),
                        data["text"].as_str().unwrap_or_default()
                    ));
                }
                _ => lines.push((kind, data)),
            }
        }
        lines.iter().map(|(kind, data)| format!("{kind} {data}\n")).collect()
    }
}

/// Replaces what is new in each run.
fn steady(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                match name.as_str() {
                    "duration_ms" | "wait_ms" => *value = json!(0),
                    "session_id" if value.is_string() => *value = json!("<session>"),
                    _ => steady(value),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(steady),
        _ => {}
    }
}
