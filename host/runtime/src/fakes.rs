//! What the tests of services share: a sink that keeps what it is told, rights written as text, a look at processes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use midplane_core::event::Event;
use midplane_core::limits::Limits;
use midplane_core::permission::{Access, Origin, Permission, Requested};
use midplane_core::redact::{Redactor, SecretValue, Secrets};
use midplane_core::sandbox::SandboxSettings;
use midplane_core::{Error, ProfileName, Result, RunId};
use midplane_engine::Control;

use crate::call::{Audit, Call, Sink};
use crate::process::place::{Ground, Place};
use crate::rights::Rights;
use crate::secret::SecretSource;
use crate::workspace::Workspace;

/// Keeps events and audits.
#[derive(Default)]
pub(crate) struct Recorder {
    events: Mutex<Vec<Event>>,
    audits: Mutex<Vec<Audit>>,
}

impl Recorder {
    /// Kind, type and data of each event since the last time, one line each; how long it took is left out.
    pub(crate) fn events(&self) -> Vec<String> {
        let events = std::mem::take(&mut *self.events.lock().unwrap());
        let line = |mut event: Event| {
            event.data.remove("duration_ms");
            format!("{} {}", event.kind.as_str(), serde_json::Value::Object(event.data))
        };
        events.into_iter().map(line).collect()
    }

    /// Each audit since the last time, one line each, without its time.
    pub(crate) fn audits(&self) -> Vec<String> {
        let audits = std::mem::take(&mut *self.audits.lock().unwrap());
        let line = |audit: Audit| {
            let Audit { act, target, mut outcome, grant, size_bytes, .. } = audit;
            if act == "sandbox" {
                "what this kernel can".clone_into(&mut outcome);
            }
            format!("{act} | {target} | {outcome} | {} | {size_bytes}", grant.as_deref().unwrap_or("-"))
        };
        audits.into_iter().map(line).collect()
    }
}

#[async_trait]
impl Sink for Recorder {
    async fn events(&self, events: Vec<Event>) -> Result<()> {
        self.events.lock().unwrap().extend(events);
        Ok(())
    }

    fn audit(&self, audit: Audit) {
        self.audits.lock().unwrap().push(audit);
    }
}

/// A call with these bounds, and where it writes.
pub(crate) fn call(limits: Limits) -> (Arc<Call>, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    let call = Call {
        profile: ProfileName::new("test").unwrap(),
        run_id: Some(RunId::from_parts(0, 1)),
        limits,
        control: Arc::new(Control::new(Duration::from_secs(3600))),
        sink: recorder.clone(),
    };
    (Arc::new(call), recorder)
}

/// A manifest that asks for the workspace, the shell and some programs, with these grants.
pub(crate) fn rights(commands: &[(&[&str], &[&str], &[&str])], grants: &[&str]) -> Arc<Rights> {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let commands = commands.iter().map(|(argv, env, secret_env)| Permission::Command {
        argv: owned(argv),
        env: owned(env),
        secret_env: owned(secret_env),
    });
    let requested = commands
        .chain([Permission::Workspace(Access::ReadWrite), Permission::Shell])
        .map(|permission| Requested { permission, optional: true, reason: String::new() });
    Arc::new(Rights {
        profile: ProfileName::new("test").unwrap(),
        permissions: Arc::new(requested.collect()),
        grants: Arc::new(grants.iter().map(|text| (text.parse().unwrap(), Origin::Once)).collect()),
    })
}

/// A place for programs, and the folder that its homes are in. There is no helper, and so no supervisor.
pub(crate) fn place(workspace: Option<(Arc<Workspace>, bool)>) -> (Arc<Place>, tempfile::TempDir) {
    place_with(workspace, SandboxSettings::default(), true)
}

/// The same with a sandbox of its own.
pub(crate) fn place_with(
    workspace: Option<(Arc<Workspace>, bool)>,
    settings: SandboxSettings,
    network: bool,
) -> (Arc<Place>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let ground = Ground { homes: folder.path().canonicalize().unwrap(), helper: None };
    (Arc::new(Place::new(ground, &ProfileName::new("test").unwrap(), workspace, settings, network)), folder)
}

/// Secrets by name.
pub(crate) struct Values(pub(crate) BTreeMap<&'static str, &'static str>);

impl Values {
    /// What hides them.
    pub(crate) fn redactor(&self) -> Redactor {
        Redactor::new(Secrets::new(&self.0).unwrap())
    }
}

#[async_trait]
impl SecretSource for Values {
    async fn resolve(&self, name: &str) -> Result<SecretValue> {
        let value =
            self.0.get(name).ok_or_else(|| Error::not_found("secret", format!("there is no secret `{name}`")))?;
        Ok(SecretValue::new(*value))
    }
}

/// Waits until no process of the group is alive. A zombie that nobody has reaped yet does not count.
#[cfg(target_os = "linux")]
pub(crate) async fn group_is_gone(group: i32) {
    let alive = || {
        std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            // The name in parentheses may hold anything; what follows it: state, parent, group.
            let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
            let state = fields.next().unwrap_or("Z");
            state != "Z" && state != "X" && fields.nth(1) == Some(group.to_string().as_str())
        })
    };
    for _ in 0..1000 {
        if !alive() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the group {group} is still alive");
}
