//! A profile: a plugin under a name, with its settings, permissions and bounds, as one call sees it.

use std::collections::BTreeMap;
use std::sync::Arc;

use midplane_core::endpoint::Prefix;
use midplane_core::gate;
use midplane_core::limits::Limits;
use midplane_core::manifest::{Manifest, SettingType};
use midplane_core::permission::{Grant, Grants, Permission, Permissions};
use midplane_core::{Digest, Error, ProfileName, Result};
use midplane_engine::Plugin;
use serde_json::Value;

use crate::endpoints;

/// A profile that is loaded and ready to be called.
#[derive(Clone)]
pub(crate) struct Profile {
    pub(crate) name: ProfileName,
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) digest: Digest,
    pub(crate) plugin: Plugin,
    /// What `config.get` answers.
    pub(crate) config: Arc<BTreeMap<String, String>>,
    /// Settings that name a secret: setting to secret. The plugin reads a placeholder.
    pub(crate) secret_settings: BTreeMap<String, String>,
    pub(crate) permissions: Arc<Permissions>,
    /// Endpoints of its runs.
    pub(crate) endpoints: Arc<[Endpoint]>,
    /// The operator's bounds, lowered by what the plugin asks for.
    pub(crate) limits: Limits,
}

/// An endpoint of a manifest with the settings of a profile filled in.
pub(crate) struct Endpoint {
    pub(crate) name: String,
    /// What it stands for.
    pub(crate) url: Prefix,
    /// The credential rule that the egress gate applies.
    pub(crate) credential: String,
}

/// What a manifest and an operator's settings make of a profile, before anything is loaded.
pub(crate) struct Settled {
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) secret_settings: BTreeMap<String, String>,
    pub(crate) permissions: Permissions,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) limits: Limits,
}

pub(crate) fn settle(manifest: &Manifest, settings: &BTreeMap<String, Value>, limits: &Limits) -> Result<Settled> {
    // `{secret: NAME}` in place of a value: the plugin gets a stand-in, which the host replaces while it sends.
    let named = |value: &Value| match value.as_object() {
        Some(map) if map.len() == 1 => map.get("secret").and_then(Value::as_str).map(str::to_owned),
        _ => None,
    };
    let of_text = |name: &str| manifest.settings.get(name).is_some_and(|setting| setting.kind == SettingType::String);
    let secret_settings: BTreeMap<String, String> = settings
        .iter()
        .filter(|(name, _)| of_text(name))
        .filter_map(|(name, value)| Some((name.clone(), named(value)?)))
        .collect();
    let plain = settings.iter().filter(|(name, _)| !secret_settings.contains_key(*name));
    let plain: BTreeMap<String, Value> = plain.map(|(name, value)| (name.clone(), value.clone())).collect();
    let settings = manifest.settings_with(&plain)?;
    let permissions = Permissions::resolve(manifest, &settings)?;
    let mut endpoints = Vec::new();
    for endpoint in &manifest.endpoints {
        // One whose setting is unset does not exist, as its permission does not.
        if endpoint.url.settings().all(|name| settings.contains_key(name)) {
            let url = Prefix::parse(&endpoint.url.fill(&settings)).map_err(|why| {
                Error::invalid("setting", format!("the URL of the endpoint `{}` cannot be used: {why}", endpoint.name))
            })?;
            endpoints.push(Endpoint {
                name: endpoint.name.clone(),
                url,
                credential: endpoint.credential.fill(&settings),
            });
        }
    }
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    Ok(Settled {
        config: settings.into_iter().map(|(name, value)| (name, text(value))).collect(),
        secret_settings,
        permissions,
        endpoints,
        limits: limits.clone().lowered(&manifest.limits)?,
    })
}

/// The grants that are missing for all that a profile cannot do without. The workspace is left out: a run brings its own.
pub(crate) fn missing(name: &ProfileName, permissions: &Permissions, grants: &Grants) -> Vec<Grant> {
    let mut missing = gate::missing(&gate::Rights { profile: name, permissions, grants });
    missing.retain(|grant| !matches!(grant, Grant::Workspace(_)));
    missing
}

impl Profile {
    /// The grants that are missing for all that the plugin cannot do without.
    pub(crate) fn missing(&self, grants: &Grants) -> Vec<Grant> {
        missing(&self.name, &self.permissions, grants)
    }

    /// Names of the secrets that may be applied under these grants.
    pub(crate) fn secrets(&self, grants: &Grants) -> Vec<String> {
        granted_secrets(&self.permissions, grants)
    }

    /// Secrets without which the plugin cannot do its work: those of credentials at endpoints that are not optional.
    pub(crate) fn required_secrets(&self) -> Vec<String> {
        self.permissions
            .iter()
            .filter(|requested| !requested.optional)
            .filter_map(|requested| match &requested.permission {
                Permission::Http { credential: Some(credential), .. } => Some(credential.secret.clone()),
                _ => None,
            })
            .collect()
    }

    /// The secrets that are applied at the endpoints which a run has under these grants. A plugin may do without such an
    /// endpoint; but where the operator gives it, what is sent there without its credential only fails.
    pub(crate) fn endpoint_secrets(&self, grants: &Grants) -> Vec<String> {
        let mut secrets = self.secrets(grants);
        let of_endpoint = |name: &String| {
            self.endpoints.iter().filter(|endpoint| endpoints::is_granted(endpoint, grants)).any(|endpoint| {
                self.permissions.iter().any(|requested| match &requested.permission {
                    Permission::Http { credential: Some(rule), .. } => {
                        rule.name == endpoint.credential && rule.secret == *name
                    }
                    _ => false,
                })
            })
        };
        secrets.retain(of_endpoint);
        secrets
    }
}

/// The secrets that permissions name and grants give, each once.
pub(crate) fn granted_secrets(permissions: &Permissions, grants: &Grants) -> Vec<String> {
    let mut names = secret_names(permissions);
    names.retain(|name| grants.contains(&Grant::Secret(name.clone())));
    names
}

/// The secrets that permissions name, each once.
pub(crate) fn secret_names(permissions: &Permissions) -> Vec<String> {
    let mut names = Vec::new();
    for requested in permissions.iter() {
        match &requested.permission {
            Permission::Http { credential: Some(credential), .. } => names.push(credential.secret.clone()),
            Permission::Command { secret_env, .. } => names.extend(secret_env.iter().cloned()),
            _ => {}
        }
    }
    names.sort();
    names.dedup();
    names
}
