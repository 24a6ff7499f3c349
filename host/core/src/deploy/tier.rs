//! Sizes of machines, and what a machine is started with. The figures are runtm-shared's (`types.py`).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::is_space;
use crate::text::{near, shown};
use crate::{Error, Result};

/// A size that a manifest can ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MachineTier {
    /// What is used where nothing is asked for.
    #[default]
    Starter,
    /// More of both.
    Performance,
    /// More memory.
    Pro,
}

/// What a size means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TierSpec {
    /// The size.
    pub tier: MachineTier,
    /// Mebibytes of memory.
    pub memory_mb: u32,
    /// Virtual processors.
    pub cpus: u32,
    /// Whether they are the machine's own.
    pub cpu_kind: &'static str,
    /// US dollars a month, when it runs all the time. An estimate for people, of no effect.
    pub month_usd: u32,
}

const SPECS: [TierSpec; 3] = [
    TierSpec { tier: MachineTier::Starter, memory_mb: 2048, cpus: 2, cpu_kind: "shared", month_usd: 15 },
    TierSpec { tier: MachineTier::Performance, memory_mb: 4096, cpus: 4, cpu_kind: "shared", month_usd: 30 },
    TierSpec { tier: MachineTier::Pro, memory_mb: 8192, cpus: 4, cpu_kind: "shared", month_usd: 55 },
];

impl MachineTier {
    /// All of them, smallest first.
    pub const ALL: [Self; 3] = [Self::Starter, Self::Performance, Self::Pro];

    /// The word in a manifest.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starter => "starter",
            Self::Performance => "performance",
            Self::Pro => "pro",
        }
    }

    /// Takes the word exactly as a manifest has it (`invalid`, code `unknown-tier`).
    pub fn parse(word: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|tier| tier.as_str() == word).ok_or_else(|| unknown(word))
    }

    /// Takes a word that a person typed: white space around it and upper case do not matter.
    pub fn parse_loosely(word: &str) -> Result<Self> {
        let plain = word.trim_matches(is_space).to_lowercase();
        Self::parse(&plain).map_err(|_| unknown(word))
    }

    /// What it means.
    #[must_use]
    pub fn spec(self) -> &'static TierSpec {
        match self {
            Self::Starter => &SPECS[0],
            Self::Performance => &SPECS[1],
            Self::Pro => &SPECS[2],
        }
    }
}

impl fmt::Display for MachineTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TierSpec {
    /// For people: `Starter: 2 shared CPUs, 2GB RAM`.
    #[must_use]
    pub fn description(&self) -> String {
        let (word, gigabytes) = (self.tier.as_str(), self.memory_mb / 1024);
        let (head, tail) = word.split_at(1);
        format!("{}{tail}: {} {} CPUs, {gigabytes}GB RAM", head.to_uppercase(), self.cpus, self.cpu_kind)
    }

    /// For people: `~$15/month (with auto-stop, much less)`.
    #[must_use]
    pub fn estimated_cost(&self) -> String {
        format!("~${}/month (with auto-stop, much less)", self.month_usd)
    }
}

/// A disk that outlives its machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeConfig {
    /// Its name.
    pub name: String,
    /// Where it is mounted.
    pub path: String,
    /// Gigabytes.
    #[serde(default = "one")]
    pub size_gb: u32,
}

impl VolumeConfig {
    /// A volume of the least size.
    pub fn new(name: impl Into<String>, path: impl Into<String>) -> Self {
        Self { name: name.into(), path: path.into(), size_gb: 1 }
    }
}

fn one() -> u32 {
    1
}

/// What a machine is started with.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct MachineConfig {
    /// The image that it runs.
    pub image: String,
    /// Mebibytes of memory.
    pub memory_mb: u32,
    /// Virtual processors.
    pub cpus: u32,
    /// Whether they are the machine's own.
    pub cpu_kind: String,
    /// Where it runs.
    pub region: String,
    /// Its environment. Values may be secret.
    pub env: BTreeMap<String, String>,
    /// The path that must answer before it counts as ready.
    pub health_check_path: String,
    /// The port that the program listens on.
    pub internal_port: u16,
    /// Whether it stops when nobody asks for it.
    pub auto_stop: bool,
    /// After how long it stops, as the provider writes it.
    pub auto_stop_timeout: String,
    /// What is mounted.
    pub volumes: Vec<VolumeConfig>,
}

impl MachineConfig {
    /// The least machine, with the defaults of all else.
    pub fn new(image: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            memory_mb: 256,
            cpus: 1,
            cpu_kind: "shared".to_owned(),
            region: "iad".to_owned(),
            env: BTreeMap::new(),
            health_check_path: "/health".to_owned(),
            internal_port: 8080,
            auto_stop: true,
            auto_stop_timeout: "5m".to_owned(),
            volumes: Vec::new(),
        }
    }

    /// A machine of a size, with the defaults of all else.
    pub fn of_tier(tier: MachineTier, image: impl Into<String>) -> Self {
        let spec = tier.spec();
        let (memory_mb, cpus, cpu_kind) = (spec.memory_mb, spec.cpus, spec.cpu_kind.to_owned());
        Self { memory_mb, cpus, cpu_kind, ..Self::new(image) }
    }
}

/// Without the values of its environment, which may be secret.
impl fmt::Debug for MachineConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.env.keys().collect();
        f.debug_struct("MachineConfig")
            .field("image", &self.image)
            .field("memory_mb", &self.memory_mb)
            .field("cpus", &self.cpus)
            .field("region", &self.region)
            .field("env", &names)
            .finish_non_exhaustive()
    }
}

fn unknown(word: &str) -> Error {
    let all = MachineTier::ALL.map(MachineTier::as_str);
    let error = Error::invalid("unknown-tier", format!("there is no machine tier `{}`", shown(word, 40)));
    error.hint(match near(&word.to_lowercase(), all).first() {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are: {}", all.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_sizes() {
        for (at, tier) in MachineTier::ALL.into_iter().enumerate() {
            assert_eq!(SPECS[at].tier, tier);
            assert_eq!(tier.spec().tier, tier);
            assert_eq!(MachineTier::parse(tier.as_str()).expect("its word"), tier);
        }
        assert_eq!(MachineTier::parse_loosely("\u{1f}\u{2003}PRO\t").expect("loose"), MachineTier::Pro);
        assert!(MachineTier::parse("Pro").is_err());
        assert_eq!(
            MachineTier::parse_loosely("Startr").expect_err("no tier").hint.as_deref(),
            Some("did you mean `starter`?")
        );
        assert_eq!(MachineTier::Pro.spec().description(), "Pro: 4 shared CPUs, 8GB RAM");
    }

    #[test]
    fn no_value_of_the_environment_is_shown() {
        let mut config = MachineConfig::of_tier(MachineTier::Pro, "img");
        config.env.insert("KEY".to_owned(), "hunter2".to_owned());
        let shown = format!("{config:?}");
        assert!(shown.contains("KEY") && !shown.contains("hunter2"), "{shown}");
    }
}
