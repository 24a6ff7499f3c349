//! The sandbox configuration of a session, in the shape of runtm-shared's `SandboxConfig`: a file, or the options of a command.
//!
//! What differs from the original: unknown keys are refused; without `allow_domains` the profile's grants are the bound, instead
//! of a list of thirteen hosts that nobody chose.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::deploy::record::AgentType;
use crate::{Error, Result};

/// The whole.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SandboxConfig {
    /// Which agent.
    pub agent: AgentType,
    /// What the workspace begins as.
    pub template: Option<String>,
    /// What may be reached, and how long.
    pub guardrails: Guardrails,
    /// Ports of this machine and of the session, which are the same.
    pub port_mappings: BTreeMap<u16, u16>,
}

impl Default for SandboxConfig {
    fn default() -> Self {
        Self {
            agent: AgentType::default(),
            template: None,
            guardrails: Guardrails::default(),
            port_mappings: BTreeMap::from([(3000, 3000), (8080, 8080)]),
        }
    }
}

/// What may be reached, and how long.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Guardrails {
    /// The network.
    pub network: Network,
    /// What may be changed: relative to the workspace, or absolute.
    pub allow_write_paths: Vec<String>,
    /// What may not, whatever is allowed.
    pub deny_write_paths: Vec<String>,
    /// How long one command may be attached, in minutes.
    pub timeout_minutes: u64,
}

impl Default for Guardrails {
    fn default() -> Self {
        Self {
            network: Network::default(),
            allow_write_paths: vec![".".to_owned()],
            deny_write_paths: Vec::new(),
            timeout_minutes: 60,
        }
    }
}

/// What of the network may be reached.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Whether programs reach any of it.
    pub enabled: bool,
    /// Hosts, and `*.` with a name for all below it. Unset leaves it to the profile's grants; an empty list is no host.
    pub allow_domains: Option<Vec<String>>,
}

impl Default for Network {
    fn default() -> Self {
        Self { enabled: true, allow_domains: None }
    }
}

impl SandboxConfig {
    /// Reads it from YAML or JSON. `origin` is the name of the text in messages.
    pub fn parse(text: &str, origin: &str) -> Result<Self> {
        crate::yaml::parse(text, origin, "session").map_err(|error: Error| {
            error.hint("the fields are `agent`, `guardrails` {`network`, `allow_write_paths`, `deny_write_paths`, `timeout_minutes`} and `port_mappings`")
        })
    }
}
