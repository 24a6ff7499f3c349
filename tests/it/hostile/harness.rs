//! A host for one test, what a run left, and what holds after every one of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use midplane::config::ProfileConfig;
use midplane::core::Error;
use midplane::core::event::{EventKind, Record};
use midplane::core::outcome::Outcome;
use midplane::core::permission::Grant;
use midplane::core::task::{self, Task, WorkspaceAccess};
use midplane::core::{ProfileName, RunId};
use midplane::{Config, FIRST_PARTY, Host, Paths, Run, RunRequest};
use serde_json::{Value, json};

use super::places::{OTHER, Places, TOKEN, disguises};

/// The plugin and its manifest.
pub(crate) const GUEST: &str = env!("GUEST_HOSTILE");

/// What the process may hold more than before the first hostile guest: after one, and at its highest. Tests run side by
/// side, so both are a few guests' memory bound and not one's; what leaked with each run would still add up to more.
const GROWTH_BYTES_MAX: u64 = 384 * 1024 * 1024;
const PEAK_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// A test that has not ended by then hangs.
const HANG: Duration = Duration::from_secs(60);

/// How one behaviour is run, and how it must end.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    /// The behaviour and its parameters. `{outside}`, `{port}`, `{forbidden}` and `{listener}` are filled in.
    pub(crate) goal: &'static str,
    /// The setting `mode`.
    pub(crate) mode: &'static str,
    /// Grants, with the same placeholders; the server of the test is always granted.
    pub(crate) grants: &'static [&'static str],
    /// Bounds that differ from those of [`LIMITS`].
    pub(crate) limits: &'static [(&'static str, u64)],
    pub(crate) workspace: Option<WorkspaceAccess>,
    pub(crate) timeout_ms: Option<u64>,
    /// Whether somebody cancels it once it has started.
    pub(crate) cancel: bool,
    /// `done`, or `failed: kind code`, or `refused: kind code`.
    pub(crate) end: &'static str,
    /// What else must hold.
    pub(crate) check: Option<fn(&Seen)>,
}

/// A row without anything special: a finish reason, then kind and code of the error if there is one; `refused` is the
/// reason of what ends before there is a run.
pub(crate) const fn row(goal: &'static str, end: &'static str) -> Row {
    Row { goal, mode: "", grants: &[], limits: &[], workspace: None, timeout_ms: None, cancel: false, end, check: None }
}

/// Short, so that what only its bound ends is soon over.
const LIMITS: &[(&str, u64)] = &[
    ("grace_ms", 200),
    ("cpu_ms_max", 400),
    ("query_ms_max", 5_000),
    ("memory_bytes_max", 64 << 20),
    ("run_events_max", 5_000),
    ("blob_bytes_max", 8 << 20),
    ("kv_total_bytes_max", 4 << 20),
    ("http_requests_max", 60),
    ("http_bytes_max", 16 << 20),
    ("http_head_ms_max", 20_000),
    ("tool_calls_max", 200),
    ("children_max", 4),
    ("log_lines_per_s_max", 50),
    ("run_ms_default", 20_000),
];

/// A host with its folders and servers.
pub(crate) struct World {
    pub(crate) host: Host,
    pub(crate) home: tempfile::TempDir,
    pub(crate) places: Places,
    pub(crate) logs: Logs,
    /// Holds the workspace, and beside it a folder that nobody granted.
    yard: tempfile::TempDir,
}

/// What a run left.
pub(crate) struct Seen {
    pub(crate) outcome: Outcome,
    pub(crate) records: Vec<Record>,
    pub(crate) logs: Vec<String>,
    pub(crate) workspace: PathBuf,
    pub(crate) outside: PathBuf,
    pub(crate) forbidden_requests: usize,
    pub(crate) closed_connections: Arc<std::sync::atomic::AtomicUsize>,
    pub(crate) granted_requests: Vec<crate::script_server::Request>,
}

/// Runs one row in a runtime of its own, and checks all that must hold after it.
pub(crate) fn check(name: &str, row: &Row) {
    with_runtime(|logs| async move {
        let world = World::open(row, logs).await;
        world.install(Path::new(GUEST)).await;
        world.check(name, row).await;
    });
}

/// A runtime whose log lines are kept, also those of its workers.
pub(crate) fn with_runtime<F: Future<Output = ()>>(test: impl FnOnce(Logs) -> F) {
    let logs = Logs::default();
    let dispatch = tracing::Dispatch::new(logs.clone());
    let for_workers = dispatch.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        // For as long as the thread lives.
        .on_thread_start(move || std::mem::forget(tracing::dispatcher::set_default(&for_workers)))
        .build()
        .expect("runtime");
    let _here = tracing::dispatcher::set_default(&dispatch);
    runtime.block_on(async { tokio::time::timeout(HANG, test(logs)).await.expect("the test hangs") });
    runtime.shutdown_timeout(Duration::from_secs(1));
}

impl World {
    /// A host with the row's bounds.
    pub(crate) async fn open(row: &Row, logs: Logs) -> Self {
        // The guest need not be compiled for each test.
        Self::with(row, Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("hostile-cache")), logs).await
    }

    /// One that keeps compiled forms in its own folder, so that they can be looked at.
    pub(crate) async fn with_own_cache(row: &Row, logs: Logs) -> Self {
        Self::with(row, None, logs).await
    }

    async fn with(row: &Row, cache: Option<PathBuf>, logs: Logs) -> Self {
        baseline();
        let places = Places::open().await;
        let home = tempfile::tempdir().expect("home");
        let yard = yard();
        let mut limits: BTreeMap<String, u64> =
            LIMITS.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        limits.extend(row.limits.iter().map(|(name, value)| ((*name).to_owned(), *value)));
        let mut settings = BTreeMap::new();
        settings.insert("server".to_owned(), json!(places.granted.url()));
        settings.insert("named".to_owned(), json!(format!("http://localhost:{}", places.port())));
        settings.insert("mode".to_owned(), json!(row.mode));
        let profile = ProfileConfig { settings, ..ProfileConfig::default() };
        let mut config = Config::default();
        config.profiles.insert(profile_name(), profile);
        config.limits = limits;
        let mut paths = Paths::under(home.path());
        paths.cache = cache.unwrap_or(paths.cache);
        let mut builder = Host::builder().paths(paths).config(config).helper(env!("CARGO_BIN_EXE_it-helper")).env(
            |name| match name {
                "TOKEN" => Some(TOKEN.to_owned()),
                "OTHER" => Some(OTHER.to_owned()),
                _ => None,
            },
        );
        for plugin in FIRST_PARTY {
            builder = builder.plugin(*plugin);
        }
        let host = builder.open().await.expect("host");
        Self { host, home, places, logs, yard }
    }

    /// Installs a component under the manifest of the hostile guest.
    pub(crate) async fn install(&self, component: &Path) {
        static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        // The first test compiles, the others find it done.
        let _one = ONE.lock().await;
        let installed = self.host.install(&manifest(), component).await;
        installed.unwrap_or_else(|error| panic!("not installed: {error} ({:?})", error.hint));
    }

    pub(crate) fn workspace(&self) -> PathBuf {
        self.yard.path().join("workspace")
    }

    pub(crate) fn outside(&self) -> PathBuf {
        self.yard.path().join("outside")
    }

    fn filled(&self, text: &str) -> String {
        text.replace("{outside}", &self.outside().display().to_string())
            .replace("{port}", &self.places.port())
            .replace("{forbidden}", &self.places.forbidden.url())
            .replace("{listener}", self.places.forbidden.url().trim_start_matches("http://"))
    }

    /// Starts what the row says.
    pub(crate) async fn start(&self, row: &Row) -> Result<Run, Error> {
        let mut task = Task::new(self.filled(row.goal));
        task.timeout_ms = row.timeout_ms;
        if let Some(access) = row.workspace {
            task.workspace = Some(task::Workspace { path: self.workspace().display().to_string(), access });
        }
        let server = format!("http:{}", self.places.granted.url());
        let grants = row.grants.iter().map(|grant| self.filled(grant)).chain([server]);
        let allow: Vec<Grant> =
            grants.map(|grant| grant.parse().unwrap_or_else(|error| panic!("`{grant}`: {error}"))).collect();
        let request = RunRequest { profile: "hostile".to_owned(), task, allow };
        self.host.run(request).await.map_err(|refusal| {
            assert!(refusal.issues.len() <= 100, "{} issues are kept", refusal.issues.len());
            refusal.error
        })
    }

    /// Runs a row and checks all that must hold.
    pub(crate) async fn check(self, name: &str, row: &Row) {
        let end = match self.start(row).await {
            Err(error) => format!("refused: {} {}", error.kind, error.code),
            Ok(mut run) => {
                if row.cancel {
                    self.cancel(name, &run).await;
                }
                let outcome = run.outcome().await.expect("a log that can be written");
                let end = ended(&outcome);
                let seen = self.seen(run.id(), outcome).await;
                assert_eq!(end, row.end, "{name}: {:?}\n{}", seen.outcome.error, seen.story());
                seen.holds(run.id());
                if let Some(check) = row.check {
                    check(&seen);
                }
                self.alone().await;
                self.nothing_more(&run, seen.records.len()).await;
                end
            }
        };
        assert_eq!(end, row.end, "{name}");
        self.lives().await;
        self.host.shutdown().await;
        drop(self.host);
        no_secret(&std::fs::canonicalize(self.home.path()).expect("home"));
        within_budget(name);
    }

    /// Cancels once the guest says that it is on its way.
    async fn cancel(&self, name: &str, run: &Run) {
        let mut events = self.host.subscribe(run.id(), 1).await.expect("events");
        loop {
            let records =
                events.next().await.expect("records").unwrap_or_else(|| panic!("{name} ended before it began"));
            if records.iter().any(|record| record.kind == EventKind::RuntimeStarted) {
                break;
            }
        }
        // It says so just before it begins to misbehave.
        tokio::time::sleep(Duration::from_millis(60)).await;
        let asked = std::time::Instant::now();
        self.host.cancel(run.id()).await.expect("cancelled");
        let mut events = self.host.subscribe(run.id(), 1).await.expect("events");
        while events.next().await.expect("records").is_some() {}
        // How long it may take is the bench's to say.
        eprintln!("{name}: terminal {} ms after the cancel (grace 200 ms)", asked.elapsed().as_millis());
    }

    async fn seen(&self, id: &RunId, outcome: Outcome) -> Seen {
        Seen {
            outcome,
            records: self.records(id).await,
            logs: self.logs.guest(),
            workspace: self.workspace(),
            outside: self.outside(),
            forbidden_requests: self.places.forbidden.requests().len(),
            closed_connections: self.places.closed.clone(),
            granted_requests: self.places.granted.requests(),
        }
    }

    async fn records(&self, id: &RunId) -> Vec<Record> {
        let mut events = self.host.subscribe(id, 1).await.expect("events");
        let mut records = Vec::new();
        while let Some(more) = events.next().await.expect("records") {
            records.extend(more);
        }
        records
    }

    /// Whoever ran for the run works in its folder, so that nobody may be found there. Ends are asynchronous.
    async fn alone(&self) {
        let folder = std::fs::canonicalize(self.workspace()).expect("workspace");
        let mut left = processes_in(&folder);
        for _ in 0..200 {
            if left.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            left = processes_in(&folder);
        }
        panic!("processes are left: {left:?}");
    }

    /// Nothing follows the terminal, also not from what the run has left running.
    async fn nothing_more(&self, run: &Run, records: usize) {
        let view = self.host.get(run.id()).await.expect("the run");
        assert_eq!(self.records(run.id()).await.len(), records, "{view:?}");
    }

    /// The host does what it is for.
    pub(crate) async fn lives(&self) {
        let mut task =
            Task::new("playbook: 1\nname: alive\nsteps:\n  - name: look\n    tool: list_dir\n    with: {path: '.'}\n");
        let path = self.workspace().display().to_string();
        task.workspace = Some(task::Workspace { path, access: WorkspaceAccess::Read });
        let request = RunRequest { profile: "playbook".to_owned(), task, allow: Vec::new() };
        let mut run =
            self.host.run(request).await.unwrap_or_else(|refusal| panic!("the host refuses everybody: {refusal}"));
        let outcome = run.outcome().await.expect("a log that can be written");
        assert!(outcome.is_done(), "the host does not work any more: {:?}", outcome.error);
        self.host.check_store().await.expect("a sound store");
    }
}

impl Seen {
    /// All of it as JSON lines.
    pub(crate) fn story(&self) -> String {
        let lines: Vec<String> =
            self.records.iter().map(|record| serde_json::to_string(record).expect("json")).collect();
        let all = lines.join("\n");
        if all.len() > 4_000 { format!("{} bytes of events", all.len()) } else { all }
    }

    fn holds(&self, id: &RunId) {
        for (index, record) in self.records.iter().enumerate() {
            assert_eq!((&record.run_id, record.seq), (id, index as u64 + 1), "{}", self.story());
        }
        let terminals = self.records.iter().filter(|record| record.kind == EventKind::RuntimeTerminal).count();
        let last = self.records.last().map(|record| record.kind);
        assert_eq!((terminals, last), (1, Some(EventKind::RuntimeTerminal)), "{}", self.story());
        assert_eq!(self.forbidden_requests, 0, "a request has reached a server that nobody granted");
        // What a guest put into the log is printed line by line: none of its characters may steer a terminal.
        for line in &self.logs {
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
        let all: Vec<String> = self.records.iter().map(|record| serde_json::to_string(record).expect("json")).collect();
        for text in all.iter().chain(&self.logs) {
            for (name, disguise) in disguises(TOKEN).into_iter().chain(disguises(OTHER)) {
                assert!(!text.contains(&disguise), "the secret is there as {name}: {text}");
            }
        }
        let marked = std::fs::read_to_string(self.outside.join("marked.txt")).expect("outside");
        let outside = std::fs::read_dir(&self.outside).expect("outside").count();
        assert_eq!((marked.as_str(), outside), (MARK, 1), "the folder outside was changed");
    }
}

/// What the file outside of the workspace says.
pub(crate) const MARK: &str = "marked: not for a guest\n";

/// A workspace with a file, a folder and two links that lead out, and the folder that they lead to.
fn yard() -> tempfile::TempDir {
    let yard = tempfile::tempdir().expect("yard");
    let (workspace, outside) = (yard.path().join("workspace"), yard.path().join("outside"));
    std::fs::create_dir_all(workspace.join("sub")).expect("workspace");
    std::fs::create_dir(&outside).expect("outside");
    std::fs::write(workspace.join("inside.txt"), "inside\n").expect("file");
    std::fs::write(outside.join("marked.txt"), MARK).expect("file");
    std::os::unix::fs::symlink(outside.join("marked.txt"), workspace.join("link")).expect("link");
    std::os::unix::fs::symlink(&outside, workspace.join("links")).expect("link");
    yard
}

/// How a run ended, in the form of a row's expectation.
fn ended(outcome: &Outcome) -> String {
    let reason = outcome.finish_reason.as_str();
    match &outcome.error {
        None => reason.to_owned(),
        Some(error) => format!("{reason}: {} {}", error.kind, error.code),
    }
}

pub(crate) fn profile_name() -> ProfileName {
    ProfileName::new("hostile").expect("a name")
}

/// The manifest of the hostile guest.
pub(crate) fn manifest() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../guests/hostile/plugin.toml")
}

/// Searches all files of a host for the secrets.
fn no_secret(folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            no_secret(&path);
            continue;
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        for (name, disguise) in disguises(TOKEN).into_iter().chain(disguises(OTHER)) {
            let found = bytes.windows(disguise.len()).any(|window| window == disguise.as_bytes());
            assert!(!found, "the secret is in {} as {name}", path.display());
        }
    }
}

/// Processes whose working directory is in a folder, with their command lines.
fn processes_in(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("proc").flatten() {
        // One that ends meanwhile has no answer, and need not have one.
        let Ok(cwd) = std::fs::read_link(entry.path().join("cwd")) else { continue };
        if cwd.starts_with(folder) {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found.push(format!(
                "{} {}",
                entry.file_name().to_string_lossy(),
                String::from_utf8_lossy(&line).replace('\0', " ")
            ));
        }
    }
    found
}

/// Resident bytes of this process, now and at their highest.
fn resident() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    };
    (field("VmRSS:"), field("VmHWM:"))
}

fn baseline() -> u64 {
    static BASE: OnceLock<u64> = OnceLock::new();
    *BASE.get_or_init(|| resident().0)
}

pub(crate) fn within_budget(name: &str) {
    let (now, peak) = resident();
    let (grown, highest) = (now.saturating_sub(baseline()), peak.saturating_sub(baseline()));
    assert!(grown <= GROWTH_BYTES_MAX, "{name}: {grown} bytes more than before the first test");
    assert!(highest <= PEAK_BYTES_MAX, "{name}: {highest} bytes more at the highest");
}

/// What was traced in one test's runtime: target and message of each event.
#[derive(Clone, Default)]
pub(crate) struct Logs(Arc<Mutex<Vec<(String, String)>>>);

impl Logs {
    /// Lines of the guest.
    pub(crate) fn guest(&self) -> Vec<String> {
        let lines = self.0.lock().expect("nothing panics while it is held");
        lines.iter().filter(|(target, _)| target == "midplane::guest").map(|(_, line)| line.clone()).collect()
    }
}

impl tracing::Subscriber for Logs {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("midplane")
    }

    fn new_span(&self, _span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _span: &tracing::span::Id, _values: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _span: &tracing::span::Id, _follows: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = String::new();
        event.record(&mut Message(&mut line));
        self.0.lock().expect("nothing panics while it is held").push((event.metadata().target().to_owned(), line));
    }

    fn enter(&self, _span: &tracing::span::Id) {}

    fn exit(&self, _span: &tracing::span::Id) {}
}

/// Puts the message and the fields of an event into one line.
struct Message<'a>(&'a mut String);

impl tracing::field::Visit for Message<'_> {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        use std::fmt::Write as _;
        // A string takes any text.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

/// The value of a field of the terminal.
pub(crate) fn field<'a>(seen: &'a Seen, name: &str) -> Option<&'a Value> {
    seen.records.last().and_then(|record| record.data.get(name))
}
