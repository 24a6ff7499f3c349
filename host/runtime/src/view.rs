//! What others see: runs, plugins, profiles, grants and outputs as values, and a run's events as they come.

use std::time::Duration;

use midplane_core::event::{EventKind, Record};
use midplane_core::gate;
use midplane_core::outcome::{Outcome, Usage};
use midplane_core::permission::{Grant, Grants};
use midplane_core::run::State;
use midplane_core::{Digest, Error, ProfileName, Result, RunId};
use midplane_store::{ArtifactRef, RunRow, Tail};
use serde::Serialize;
use serde_json::Value;

use crate::host::Host;
use crate::profile::{Settled, missing};
use crate::registry::{Entry, Origin};

/// A run, folded from its log.
#[derive(Debug, Clone, Serialize)]
pub struct RunView {
    /// Its id.
    pub run_id: RunId,
    /// Under which profile.
    pub profile: ProfileName,
    /// The caller's name of the task.
    pub task_id: String,
    /// Where it stands.
    pub status: &'static str,
    /// When it was created, in milliseconds since 1970 UTC.
    pub created_ms: u64,
    /// When it was last written.
    pub updated_ms: u64,
    /// How many events it has.
    pub events: u64,
    /// What it used so far.
    pub usage: Usage,
    /// The conversation that was last named.
    pub session_id: Option<String>,
    /// What was asked, with plugin and grants, as it was written at the beginning.
    pub created: Option<Value>,
    /// The result, once there is one.
    pub outcome: Option<Outcome>,
}

impl RunView {
    pub(crate) fn new(row: &RunRow, state: &State) -> Self {
        Self {
            run_id: row.run_id.clone(),
            profile: row.index.profile.clone(),
            task_id: row.index.task_id.clone(),
            status: state.status.as_str(),
            created_ms: row.index.created_ms,
            updated_ms: state.last_t_ms,
            events: state.last_seq,
            usage: state.usage.clone(),
            session_id: state.session_id.clone(),
            created: state.created.clone(),
            outcome: state.outcome.clone(),
        }
    }
}

/// A file that a run made or changed.
#[derive(Debug, Clone, Serialize)]
pub struct OutputFile {
    /// Its path in the workspace.
    pub path: String,
    /// What it is.
    pub kind: String,
    /// SHA-256 over its content.
    pub digest: Digest,
    /// Its size.
    pub size_bytes: u64,
}

impl From<ArtifactRef> for OutputFile {
    fn from(reference: ArtifactRef) -> Self {
        Self { path: reference.name, kind: reference.kind, digest: reference.digest, size_bytes: reference.size_bytes }
    }
}

/// A plugin, and whether it loads.
#[derive(Debug, Clone, Serialize)]
pub struct PluginView {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: &'static str,
    /// Its version.
    pub version: String,
    /// The release of the contract that it was built against.
    pub wit: String,
    /// What it is.
    pub description: String,
    /// Who made it.
    pub publisher: String,
    /// SHA-256 over its component.
    pub digest: Digest,
    /// `embedded` or `installed`.
    pub origin: &'static str,
    /// When it was installed.
    pub installed_ms: Option<u64>,
    /// What it declares that it can do, under the profile of its own name; empty where it does not load.
    pub features: Vec<String>,
    /// What it asks for.
    pub permissions: Value,
    /// Places on loopback that the host serves for its programs during a run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<midplane_core::manifest::Endpoint>,
    /// What the profile of its own name was granted.
    pub granted: Vec<String>,
    /// What can be set.
    pub settings: Value,
    /// Whether it can be loaded.
    pub loads: bool,
    /// Why not, or why it does not say what it can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
}

impl PluginView {
    pub(crate) fn new(entry: &Entry, loads: bool, features: Result<Vec<String>>, granted: Vec<String>) -> Self {
        let manifest = &entry.manifest;
        let (features, error) = match features {
            Ok(features) => (features, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        Self {
            name: manifest.name.to_string(),
            kind: manifest.kind.as_str(),
            version: manifest.version.to_string(),
            wit: manifest.wit.to_string(),
            description: manifest.description.clone(),
            publisher: manifest.publisher.clone(),
            digest: entry.digest.clone(),
            origin: match entry.origin {
                Origin::Embedded(_) => "embedded",
                Origin::Installed => "installed",
            },
            installed_ms: entry.installed_ms,
            // A manifest is made of texts, numbers and tables: it always serialises.
            features,
            permissions: serde_json::to_value(&manifest.permissions).unwrap_or_default(),
            endpoints: manifest.endpoints.clone(),
            granted,
            settings: serde_json::to_value(&manifest.settings).unwrap_or_default(),
            loads,
            error,
        }
    }
}

/// A profile, with what it asks and what it was granted.
#[derive(Debug, Clone, Serialize)]
pub struct ProfileView {
    /// Its name.
    pub name: ProfileName,
    /// The plugin under it.
    pub plugin: Option<String>,
    /// The plugin's kind.
    pub kind: Option<&'static str>,
    /// Its settings, as the plugin reads them.
    pub settings: std::collections::BTreeMap<String, String>,
    /// What it asks for: grant, whether it can do without, why, and whether it is granted.
    pub permissions: Vec<PermissionView>,
    /// All that it was granted.
    pub grants: Vec<String>,
    /// Where in the configuration each setting, grant and secret reference of it stands: `settings.NAME`, `grants.GRANT`,
    /// `secrets.NAME`. What the configuration does not say is not among them.
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub configured: std::collections::BTreeMap<String, midplane_core::layers::Origin>,
    /// Grants without which it does not run, secrets included; a workspace comes with each run.
    pub missing: Vec<String>,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
}

/// One permission of a profile.
#[derive(Debug, Clone, Serialize)]
pub struct PermissionView {
    /// The grant that would give it whole.
    pub grant: String,
    /// Whether the plugin can do without.
    pub optional: bool,
    /// Why it is asked for.
    pub reason: String,
    /// Whether this very grant was given.
    pub granted: bool,
}

impl ProfileView {
    pub(crate) fn new(
        name: &ProfileName,
        entry: &Entry,
        settled: &Settled,
        granted: &Grants,
        config: &crate::Config,
    ) -> Self {
        let permission = |requested: &midplane_core::permission::Requested| {
            let grant = gate::whole(&requested.permission);
            PermissionView {
                granted: granted.contains(&grant),
                grant: grant.to_string(),
                optional: requested.optional,
                reason: requested.reason.clone(),
            }
        };
        Self {
            name: name.clone(),
            plugin: Some(entry.manifest.name.to_string()),
            kind: Some(entry.manifest.kind.as_str()),
            settings: settled.config.clone(),
            permissions: settled.permissions.iter().map(permission).collect(),
            grants: granted.iter().map(|(grant, _)| grant.to_string()).collect(),
            configured: configured(name, config),
            missing: missing(name, &settled.permissions, granted).iter().map(ToString::to_string).collect(),
            error: None,
        }
    }

    pub(crate) fn broken(name: &ProfileName, error: Error) -> Self {
        Self {
            name: name.clone(),
            plugin: None,
            kind: None,
            settings: std::collections::BTreeMap::new(),
            permissions: Vec::new(),
            grants: Vec::new(),
            configured: std::collections::BTreeMap::new(),
            missing: Vec::new(),
            error: Some(error),
        }
    }
}

/// Where what the configuration says of a profile stands.
fn configured(
    name: &ProfileName,
    config: &crate::Config,
) -> std::collections::BTreeMap<String, midplane_core::layers::Origin> {
    let Some(profile) = config.profiles.get(name) else { return std::collections::BTreeMap::new() };
    let at = |section: &str, key: &str| config.origin(&["profiles", name.as_str(), section, key]).cloned();
    let settings = profile.settings.keys().map(|key| (format!("settings.{key}"), at("settings", key)));
    let secrets = profile.secrets.keys().map(|key| (format!("secrets.{key}"), at("secrets", key)));
    let grants = config.grants(name).map(|(grant, origin)| (format!("grants.{grant}"), origin.cloned()));
    settings.chain(secrets).chain(grants).filter_map(|(key, origin)| Some((key, origin?))).collect()
}

/// One grant of the operator.
#[derive(Debug, Clone, Serialize)]
pub struct GrantView {
    /// To which profile.
    pub profile: ProfileName,
    /// What.
    pub grant: String,
    /// When, in milliseconds since 1970 UTC; unset for one that stands in the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_ms: Option<u64>,
    /// Where in the configuration it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configured: Option<midplane_core::layers::Origin>,
}

impl From<midplane_store::Grant> for GrantView {
    fn from(grant: midplane_store::Grant) -> Self {
        Self { profile: grant.profile, grant: grant.grant, created_ms: Some(grant.created_ms), configured: None }
    }
}

impl GrantView {
    pub(crate) fn configured(profile: &ProfileName, grant: &Grant, at: Option<&midplane_core::layers::Origin>) -> Self {
        Self { profile: profile.clone(), grant: grant.to_string(), created_ms: None, configured: at.cloned() }
    }
}

impl GrantView {
    /// The grant as a value.
    pub fn parse(&self) -> Result<Grant> {
        self.grant.parse()
    }
}

/// A run's events: those that are there, then those to come, until the terminal. A reader that is slow lags; the run does
/// not wait for it.
pub struct Subscription {
    host: Host,
    run_id: RunId,
    tail: Tail,
    owner: Option<String>,
    ended: bool,
}

/// How often a reader that waits looks whether the run's process is still there.
const LOST_CHECK: Duration = Duration::from_millis(500);

impl Subscription {
    pub(crate) fn new(host: Host, run_id: RunId, tail: Tail, owner: Option<String>) -> Self {
        Self { host, run_id, tail, owner, ended: false }
    }

    /// The next records, at least one; none after the terminal.
    pub async fn next(&mut self) -> Result<Option<Vec<Record>>> {
        if self.ended {
            return Ok(None);
        }
        loop {
            tokio::select! {
                records = self.tail.next() => {
                    let records = records?;
                    self.ended = records.iter().any(|record| record.kind == EventKind::RuntimeTerminal);
                    return Ok(Some(records));
                }
                // Only another process's run can be lost without this one noticing.
                () = tokio::time::sleep(LOST_CHECK), if self.owner.as_deref() != Some(&self.host.inner.owner_id) => {
                    let row = self.host.inner.store.log.run(&self.run_id).await?;
                    if let Some(row) = row.filter(|row| row.index.finish_reason.is_none()) {
                        self.host.close_if_lost(&row).await?;
                    }
                }
            }
        }
    }
}
