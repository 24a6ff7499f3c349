//! What the checks of all program adapters share: a host with the adapter's one profile, and a case played in it, with our
//! scripted program in the place of the vendor's.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use midplane::config::ProfileConfig;
use midplane::core::agent::event::AgentEvent;
use midplane::core::agent::{errors, task};
use midplane::core::outcome::Outcome;
use midplane::core::sandbox::{Mode, SandboxSettings};
use midplane::core::task::{Workspace, WorkspaceAccess};
use midplane::core::{Error, PluginName, ProfileName};
use midplane::{Config, Embedded, FIRST_PARTY, Host, RunRequest};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::case::{Case, Ours};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a machine that runs tests runs threads"));

/// A profile of an adapter.
pub(super) struct Profile<'a> {
    /// Its name, which the original's events carry.
    pub(super) kind: &'static str,
    /// The plugin.
    pub(super) plugin: &'static str,
    /// Values of its settings.
    pub(super) settings: BTreeMap<String, Value>,
    /// What it is granted beside its program and the workspace.
    pub(super) grants: Vec<String>,
    /// Its program.
    pub(super) program: &'a Path,
}

/// What came of a case that was not refused.
pub(super) struct Played {
    pub(super) outcome: Outcome,
    pub(super) events: Vec<AgentEvent>,
    /// What the program wrote down.
    pub(super) records: Vec<Value>,
    /// The folder of the run.
    pub(super) place: String,
    /// Whether the case's task has one, too.
    pub(super) has_folder: bool,
}

/// The verdict of a check; what could not be done at all differs.
pub(super) fn verdict(check: impl Future<Output = Result<Ours, Error>>) -> Ours {
    let ours = RUNTIME.block_on(check);
    ours.unwrap_or_else(|error| Ours::refused(error.code.to_string()).differs(format!("{error}")))
}

/// Plays a case: `script` is what the program does under `name`, `host` opens a host for it. A task that is refused has its
/// verdict at once.
pub(super) async fn play(
    case: &Case<'_>,
    kind: &'static str,
    name: &str,
    script: &Value,
    host: impl AsyncFnOnce(&Path) -> Result<Host, Error>,
) -> Result<Result<Played, Ours>, Error> {
    let (input, expect) = (case.input(), case.expect());
    let io = |error: std::io::Error| Error::internal("files", error.to_string());
    let (folder, workspace) = (tempfile::tempdir().map_err(io)?, tempfile::tempdir().map_err(io)?);
    let program = Path::new(env!("CARGO_BIN_EXE_conformance-program"));
    let path = guest_program::install(program, folder.path(), name, script).map_err(io)?;
    let host = host(&path).await?;

    let mut asked = task::from_json(&input["task"], "task").map_err(Error::from)?;
    let has_folder = asked.workspace.is_some();
    // Every run has one, so that the program can leave its record there. Those of the cases are of another machine.
    let place = workspace.path().display().to_string();
    asked.workspace = Some(Workspace { path: place.clone(), access: WorkspaceAccess::ReadWrite });
    let mut run = match host.run(RunRequest { profile: kind.to_owned(), task: asked, allow: Vec::new() }).await {
        Ok(run) => run,
        Err(refusal) => {
            let field = refusal.issues.first().map(|issue| task::gate_field(&issue.field).to_owned());
            let raised = json!({ "type": errors::original(&refusal.error), "field": field });
            let theirs = json!({ "type": expect["raised"]["type"], "field": expect["raised"]["field"] });
            let ours = Ours::refused(refusal.error.code.to_string());
            if expect.get("raised").is_none() {
                return Ok(Err(ours.differs(format!("the task is refused: {}", refusal.error))));
            }
            return Ok(Err(ours.equal("what is raised", &raised, &theirs)));
        }
    };
    let outcome = run.outcome().await?;
    let (mut told, mut events) = (host.agent_events(run.id(), 1).await?, Vec::new());
    while let Some(more) = told.next().await? {
        events.extend(more);
    }
    let records = guest_program::records(&workspace.path().join("seen.jsonl"));
    Ok(Ok(Played { outcome, events, records, place, has_folder }))
}

/// A host with one profile, and `variable` as its environment.
pub(super) async fn host(profile: Profile<'_>, variable: Option<(&'static str, &'static str)>) -> Result<Host, Error> {
    let Profile { kind, plugin, settings, grants, program } = profile;
    // The vendor's program is left to its own sandbox: what is compared is what it is asked, which must not depend on what
    // the kernel of this machine can do.
    let sandbox = SandboxSettings { mode: Mode::Own, ..SandboxSettings::default() };
    let of_profile =
        ProfileConfig { plugin: Some(PluginName::new(plugin)?), settings, sandbox, ..ProfileConfig::default() };
    let mut config = Config::default();
    config.profiles.insert(ProfileName::new(kind)?, of_profile);
    // Compiled once for all cases.
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance-cache");
    let mut builder = Host::builder().config(config).cache(cache);
    if let Some((name, value)) = variable {
        builder = builder.env(move |asked| (asked == name).then(|| value.to_owned()));
    }
    let line = format!("name = \"{plugin}\"");
    let is_ours = |plugin: &&Embedded| plugin.manifest.contains(&line);
    for plugin in FIRST_PARTY.iter().filter(is_ours) {
        builder = builder.plugin(*plugin);
    }
    let host = builder.open().await?;
    let own = [format!("command:{}", program.display()), "workspace:read-write".to_owned()];
    for grant in own.iter().chain(&grants) {
        host.allow(kind, &grant.parse()?).await?;
    }
    Ok(host)
}
