//! Whether a profile could run, and what it lacks: gathers the facts of which [`midplane_core::agent::readiness`] says what
//! follows.
//!
//! Looked at are grants, programs on this machine, references of secrets, endpoints, and the plugin's own answer, for which a
//! vendor is asked only where there is time for it. A program that is granted beside those of the plugin is one that tasks
//! name, such as an MCP server. No value of a secret is in what is told, only where it was looked for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use midplane_core::agent::readiness::{Facts, Failure, Package, Probe, Readiness, Reason, Source, SourceState, Status};
use midplane_core::gate::{allow_command, overlap, whole};
use midplane_core::permission::{Grant, Grants, Permission, Permissions};
use midplane_core::run::Fault;
use midplane_core::{Error, Result};
use serde::Serialize;
use serde_json::{Map, json};

use crate::Availability;
use crate::endpoints::Tokens;
use crate::host::{Host, Resolved};
use crate::process::group::find_program;
use crate::profile::{Profile, secret_names};

/// Whether a profile could run, and all that it is made of.
#[derive(Debug, Clone, Serialize)]
pub struct ProfileReadiness {
    /// What follows from all of it.
    #[serde(flatten)]
    pub readiness: Readiness,
    /// Its programs, secrets and endpoints.
    pub parts: Vec<Part>,
}

/// One thing that a profile rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// `program`, `secret` or `endpoint`.
    pub what: &'static str,
    /// Its name.
    pub name: String,
    /// Whether it is in order. What is optional and not granted is.
    pub ok: bool,
    /// Where it was found, or why not.
    pub detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Host {
    /// Whether a run under a profile could succeed, and what it rests on; asks the vendor where `probe` is not zero.
    pub async fn readiness(&self, name: &str, probe: Duration) -> Result<ProfileReadiness> {
        let profile = self.load(name).await?;
        let grants = self.granted(&profile.name, &[]).await?;
        let (secrets, redactor) = self.secrets(&profile, &grants, &Permissions::default(), &Tokens::new()).await?;
        let parts = self.parts(&profile, &grants).await;
        let mut facts = Facts {
            kind: profile.name.to_string(),
            package: package(&profile, &grants),
            lacks: self.lacks(&profile, &grants, &secrets),
            sources: sources(&profile, &grants, &secrets),
            probe: Probe::None,
        };
        // What cannot start is not asked.
        if Readiness::of(&facts).status != Status::NotReady {
            let answer = self.ask(&profile, grants, secrets, redactor, probe).await?;
            if let (Ok(Availability { version: Some(told), .. }), Package::There { version, .. }) =
                (&answer, &mut facts.package)
            {
                *version = Some(told.clone());
            }
            facts.probe = said(answer, probe);
        }
        Ok(ProfileReadiness { readiness: Readiness::of(&facts), parts })
    }

    /// What the plugin cannot do without and does not have, with what to do.
    fn lacks(&self, profile: &Profile, grants: &Grants, secrets: &Resolved) -> Option<(Reason, String)> {
        if let Err(refusal) = self.granted_all(profile, grants, &Permissions::default()) {
            let reason = if refusal.missing.is_empty() { Reason::MissingSetting } else { Reason::MissingGrant };
            return Some((reason, refusal.error.message));
        }
        // One that drives whichever program it is told to needs one of them.
        let mut asked = commands(profile).peekable();
        if asked.peek().is_some()
            && asked.all(|(_, optional, whole)| optional && !grants.iter().any(|(given, _)| overlap(given, &whole)))
        {
            let message =
                format!("profile `{}` may start none of its programs; allow the one that it is to use", profile.name);
            return Some((Reason::MissingGrant, message));
        }
        let missing = profile.required_secrets().into_iter().find_map(|name| secrets.missing(&name).cloned());
        missing.map(|error| (Reason::MissingCredentials, error.message))
    }

    async fn parts(&self, profile: &Profile, grants: &Grants) -> Vec<Part> {
        let mut parts = programs(profile, grants);
        let references = self.references(&profile.name);
        let required = profile.required_secrets();
        let granted = grants.iter().filter_map(|(grant, _)| match grant {
            Grant::Secret(name) => Some(name.clone()),
            _ => None,
        });
        let names: BTreeSet<String> = secret_names(&profile.permissions).into_iter().chain(granted).collect();
        for name in names {
            let grant = Grant::Secret(name.clone());
            if !grants.contains(&grant) {
                parts.push(not_granted("secret", name.clone(), !required.contains(&name), profile, &grant));
                continue;
            }
            parts.push(match references.resolve(&name).await.0 {
                Ok(_) => Part { what: "secret", ok: true, detail: references.reference(&name), hint: None, name },
                Err(error) => failed("secret", name, error),
            });
        }
        for endpoint in profile.endpoints.iter() {
            let url = Grant::Http(endpoint.url.clone());
            let optional = !profile.permissions.iter().any(|requested| {
                !requested.optional
                    && matches!(&requested.permission, Permission::Http { prefix, .. } if *prefix == endpoint.url)
            });
            let detail = format!("stands for {}, with the credential `{}`", endpoint.url, endpoint.credential);
            parts.push(match grants.iter().any(|(given, _)| overlap(given, &url)) {
                true => Part { what: "endpoint", name: endpoint.name.clone(), ok: true, detail, hint: None },
                false => not_granted("endpoint", endpoint.name.clone(), optional, profile, &url),
            });
        }
        parts
    }
}

/// What a profile is made of: the program that its plugin drives, else the plugin. Of several that it can do without, that is
/// the first that was granted.
fn package(profile: &Profile, grants: &Grants) -> Package {
    let granted = |grant: &Grant| grants.iter().any(|(given, _)| overlap(given, grant));
    let driven = commands(profile).find(|(_, optional, whole)| !optional || granted(whole));
    let manifest = &profile.manifest;
    let Some((name, ..)) = driven else {
        let name = Some(manifest.name.to_string());
        return Package::There { name, version: Some(manifest.version.to_string()) };
    };
    let name = Some(name.to_owned());
    match find_program(name.as_deref().unwrap_or_default()) {
        Ok(_) => Package::There { name, version: None },
        Err(error) => Package::Missing { name, reason: Reason::MissingPackage, message: error.message },
    }
}

/// The ways to sign in: the secrets that were granted, then a login of the program's own where the plugin can do without
/// them.
fn sources(profile: &Profile, grants: &Grants, secrets: &Resolved) -> Vec<Source> {
    let source = |name: &str, state| Source { said: Map::from_iter([("auth_source".to_owned(), json!(name))]), state };
    let (granted, others): (Vec<String>, Vec<String>) =
        secret_names(&profile.permissions).into_iter().partition(|name| grants.contains(&Grant::Secret(name.clone())));
    let mut sources: Vec<Source> = granted
        .iter()
        .map(|name| {
            let state = match secrets.missing(name) {
                None => SourceState::Held,
                Some(error) => SourceState::Absent(error.message.clone()),
            };
            source(&name.to_lowercase().replace('_', "-"), state)
        })
        .collect();
    if !others.is_empty() {
        sources.push(source("provider-owned-local", SourceState::Unverified));
    }
    sources
}

/// An adapter's answer as a fact. That it does not know, without having asked anybody, is none.
fn said(answer: Result<Availability, Fault>, probe: Duration) -> Probe {
    let report = match answer {
        Ok(report) => report,
        Err(Fault::Dropped) => return Probe::Failed(Failure { what: "timeout", code: None }),
        Err(fault) => {
            return Probe::Failed(Failure { what: "error", code: Some(fault.error().code.into_owned()) });
        }
    };
    let Availability { status, reason, message, .. } = report;
    match status {
        "ready" => Probe::Said(Status::ReadyToAttempt, Reason::Available, message, Map::new()),
        "not-ready" => Probe::Said(Status::NotReady, Reason::of_adapter(&reason), message, Map::new()),
        _ if probe.is_zero() => Probe::None,
        _ => Probe::Said(Status::Indeterminate, Reason::of_adapter(&reason), message, Map::new()),
    }
}

/// The programs that a profile may start, each once: those of its plugin, and those that were granted for its tasks.
fn programs(profile: &Profile, grants: &Grants) -> Vec<Part> {
    let mut parts: BTreeMap<String, Part> = BTreeMap::new();
    for (name, optional, whole) in commands(profile) {
        let granted = grants.iter().any(|(given, _)| overlap(given, &whole));
        let part = if optional && !granted {
            not_granted("program", name.to_owned(), optional, profile, &whole)
        } else {
            program(name)
        };
        parts.insert(name.to_owned(), part);
    }
    for (grant, _) in grants.iter() {
        if let Grant::Command(argv) = grant
            && let Some(name) = argv.first()
        {
            parts.insert(name.clone(), program(name));
        }
    }
    parts.into_values().collect()
}

/// The programs that a plugin asks for: the name, whether it can do without, and the grant.
fn commands(profile: &Profile) -> impl Iterator<Item = (&str, bool, Grant)> {
    profile.permissions.iter().filter_map(|requested| {
        let Permission::Command { argv, .. } = &requested.permission else { return None };
        Some((argv.first()?.as_str(), requested.optional, whole(&requested.permission)))
    })
}

fn program(name: &str) -> Part {
    match find_program(name) {
        Ok(path) => {
            let detail = path.display().to_string();
            Part { what: "program", name: name.to_owned(), ok: true, detail, hint: None }
        }
        Err(error) => failed("program", name.to_owned(), error),
    }
}

fn failed(what: &'static str, name: String, error: Error) -> Part {
    Part { what, name, ok: false, detail: error.message, hint: error.hint }
}

fn not_granted(what: &'static str, name: String, optional: bool, profile: &Profile, grant: &Grant) -> Part {
    let detail = if optional { "not granted; it can do without" } else { "not granted" }.to_owned();
    Part { what, name, ok: optional, detail, hint: Some(allow_command(&profile.name, grant)) }
}
