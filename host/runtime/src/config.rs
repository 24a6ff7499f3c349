//! The operator's configuration: profiles with their settings and secret references, and limits.
//!
//! One YAML file, strict: an unknown key is refused with line and column. A grant is not configuration; it lives in the
//! store and comes from `midplane grant`.

use std::collections::BTreeMap;
use std::path::Path;

use midplane_core::limits::Limits;
use midplane_core::{Error, PluginName, ProfileName, Result};
use serde::Deserialize;
use serde_json::Value;

/// What the configuration file says.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Profiles by name. Each plugin also has one of its own name without being listed.
    pub profiles: BTreeMap<ProfileName, ProfileConfig>,
    /// Where a secret comes from, for every profile that does not say otherwise.
    pub secrets: BTreeMap<String, String>,
    /// Bounds that differ from their defaults.
    pub limits: BTreeMap<String, u64>,
    /// Files of certificate authorities to trust beside the public ones, for servers inside an organisation.
    pub certificate_authorities: Vec<String>,
    /// Secrets, databases and folders of a [`RuntimeContext`](crate::RuntimeContext), which reads them itself with all layers.
    pub vault: Option<Value>,
    /// See [`Self::vault`].
    pub databases: Option<Value>,
    /// See [`Self::vault`].
    pub paths: Option<Value>,
}

/// One profile: a plugin under a name.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProfileConfig {
    /// The plugin; unset is the one of the profile's name.
    pub plugin: Option<PluginName>,
    /// Values of the plugin's settings.
    pub settings: BTreeMap<String, Value>,
    /// Where its secrets come from: `env:NAME` or `file:/path`.
    pub secrets: BTreeMap<String, String>,
}

/// The largest configuration file that is read.
const CONFIG_BYTES_MAX: usize = 1024 * 1024;

impl Config {
    /// Reads a file; one that does not exist says nothing.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, &shown),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Error::invalid("config", format!("`{shown}` cannot be read: {error}"))),
        }
    }

    /// Reads a text. `origin` is its name in messages.
    pub fn parse(text: &str, origin: &str) -> Result<Self> {
        if text.len() > CONFIG_BYTES_MAX {
            return Err(Error::limit("config", format!("`{origin}` has more than {CONFIG_BYTES_MAX} bytes")));
        }
        // An empty document is an empty configuration.
        let config: Option<Self> = midplane_core::yaml::parse(text, origin, "config")?;
        let config = config.unwrap_or_default();
        config.limits().map_err(|mut error| {
            error.message = format!("{origin}: {}", error.message);
            error
        })?;
        Ok(config)
    }

    /// The bounds in force.
    pub fn limits(&self) -> Result<Limits> {
        Limits::default().configured(&self.limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_configurations_say_where() {
        let cases = [
            "profiles:\n  deepseek:\n    plugin: openai\n    settings: {base_url: 'http://127.0.0.1:1'}\n",
            "",
            "profile: {}\n",
            "profiles:\n  Deep Seek: {}\n",
            "limits:\n  memory_bytes: 3\n",
            "limits:\n  stack_bytes_max: 999999999\n",
            "profiles: [\n",
        ];
        let shown: Vec<String> = cases
            .iter()
            .map(|text| match Config::parse(text, "config.yaml") {
                Ok(config) => format!("{text:?}\n    {config:?}"),
                Err(error) => format!("{text:?}\n    {error} | {}", error.hint.as_deref().unwrap_or("-")),
            })
            .collect();
        insta::assert_snapshot!(shown.join("\n"));
    }
}
