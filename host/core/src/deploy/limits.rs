//! Every bound of deployments, with its unit, in one table, and the checks that enforce each.
//!
//! The numbers are runtm-shared's (`Limits` in `types.py`), which declares them and enforces none. Bounds of one tenant
//! ([`TenantLimits`]) come from whoever runs the host; without one there is no bound.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::DeployError;
use super::tier::MachineTier;
use crate::limits::LimitInfo;
use crate::{Error, Result};

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// Milliseconds for which an idempotency key stands for its request. A promise to clients, so not in the table of what an
/// operator sets.
pub const IDEMPOTENCY_WINDOW_MS: u64 = DAY_MS;

macro_rules! limits {
    ($($(#[doc = $doc:literal])+ $name:ident = $default:expr;)*) => {
        /// The bounds in force.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
        pub struct DeployLimits { $($(#[doc = $doc])+ pub $name: u64,)* }

        impl Default for DeployLimits {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        /// All bounds, in the order of the documentation. An operator may set each lower or higher.
        pub const TABLE: &[LimitInfo] = &[
            $(LimitInfo { name: stringify!($name), default: $default, raisable: true, doc: concat!($($doc),+) },)*
        ];

        impl DeployLimits {
            fn field(&mut self, name: &str) -> Option<&mut u64> {
                match name { $(stringify!($name) => Some(&mut self.$name),)* _ => None }
            }
        }
    };
}

limits! {
    /// bytes of a packed artifact
    artifact_bytes_max = 20 * 1024 * 1024;
    /// milliseconds that a build may take
    build_ms_max = 600_000;
    /// milliseconds from the start of a deployment to its first healthy answer
    deploy_ms_max = 300_000;
    /// deployments that one tenant may start in an hour
    deployments_per_hour_max = 10;
}

impl DeployLimits {
    /// These bounds with the operator's settings (`invalid`, code `limit-unknown`).
    pub fn configured(mut self, settings: &BTreeMap<String, u64>) -> Result<Self> {
        for (name, value) in settings {
            *self.field(name).ok_or_else(|| unknown(name))? = *value;
        }
        Ok(self)
    }

    /// Refuses an artifact of too many bytes.
    pub fn check_artifact(&self, size_bytes: u64) -> Result<()> {
        let max_bytes = self.artifact_bytes_max;
        if size_bytes <= max_bytes {
            Ok(())
        } else {
            Err(DeployError::ArtifactTooLarge { size_bytes, max_bytes }.into())
        }
    }

    /// Refuses a build that has taken too long.
    pub fn check_build(&self, elapsed_ms: u64) -> Result<()> {
        let timeout_ms = self.build_ms_max;
        if elapsed_ms <= timeout_ms { Ok(()) } else { Err(DeployError::BuildTimeout { timeout_ms }.into()) }
    }

    /// Refuses a deployment that has taken too long.
    pub fn check_deploy(&self, elapsed_ms: u64) -> Result<()> {
        let timeout_ms = self.deploy_ms_max;
        if elapsed_ms <= timeout_ms { Ok(()) } else { Err(DeployError::DeployTimeout { timeout_ms }.into()) }
    }

    /// Refuses one more deployment at `now_ms` if those that were started before are as many as an hour may have. The hour
    /// is the last one, not that of the clock. Says when there is room again.
    pub fn check_rate(&self, started_ms: &[u64], now_ms: u64) -> Result<()> {
        check_window(started_ms, now_ms, self.deployments_per_hour_max, HOUR_MS)
    }
}

/// What one tenant may. What is unset is unbounded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantLimits {
    /// Applications at once.
    pub max_apps: Option<u64>,
    /// Days after which an application ends.
    pub app_lifespan_days: Option<u64>,
    /// Deployments started in an hour.
    pub deploys_per_hour: Option<u64>,
    /// Deployments started in a day.
    pub deploys_per_day: Option<u64>,
    /// Deployments at once.
    pub concurrent_deploys: Option<u64>,
    /// Sizes of machines.
    pub allowed_tiers: Option<Vec<MachineTier>>,
}

impl TenantLimits {
    /// Refuses one more application where there are `apps` (`limit`, code `tenant-apps`).
    pub fn check_apps(&self, apps: u64) -> Result<()> {
        match self.max_apps {
            Some(max) if apps >= max => {
                Err(Error::limit("tenant-apps", format!("a tenant may have at most {max} applications"))
                    .hint("destroy one that is no longer needed"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses one more deployment by the number of those started in the last hour and the last day.
    pub fn check_rate(&self, started_ms: &[u64], now_ms: u64) -> Result<()> {
        let windows = [(self.deploys_per_hour, HOUR_MS), (self.deploys_per_day, DAY_MS)];
        windows.iter().try_for_each(|(max, window_ms)| {
            max.map_or(Ok(()), |max| check_window(started_ms, now_ms, max, *window_ms))
        })
    }

    /// Refuses one more deployment where `running` have not ended (`limit`, code `tenant-concurrent`).
    pub fn check_concurrent(&self, running: u64) -> Result<()> {
        match self.concurrent_deploys {
            Some(max) if running >= max => {
                Err(Error::limit("tenant-concurrent", format!("a tenant may have at most {max} deployments at once"))
                    .hint("wait until one has ended"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a size that the tenant may not have (`denied`, code `tenant-tier`).
    pub fn check_tier(&self, tier: MachineTier) -> Result<()> {
        let Some(allowed) = &self.allowed_tiers else { return Ok(()) };
        if allowed.contains(&tier) {
            return Ok(());
        }
        let words: Vec<&str> = allowed.iter().map(|tier| tier.as_str()).collect();
        Err(Error::denied("tenant-tier", format!("this tenant may not use machines of tier `{tier}`")).hint(
            if words.is_empty() { "it may use none".to_owned() } else { format!("it may use: {}", words.join(", ")) },
        ))
    }

    /// When an application that began at `created_ms` ends, if it does.
    #[must_use]
    pub fn ends_at_ms(&self, created_ms: u64) -> Option<u64> {
        self.app_lifespan_days.map(|days| created_ms.saturating_add(days.saturating_mul(DAY_MS)))
    }
}

fn check_window(started_ms: &[u64], now_ms: u64, max: u64, window_ms: u64) -> Result<()> {
    // A start in the future is one of a clock that was set back since: it counts as now.
    let mut ages: Vec<u64> =
        started_ms.iter().map(|start| now_ms.saturating_sub(*start)).filter(|age| *age < window_ms).collect();
    if (ages.len() as u64) < max {
        return Ok(());
    }
    // There is room when all but `max - 1` of the starts are older than the window.
    ages.sort_unstable();
    let first_to_go = usize::try_from(max).ok().and_then(|max| ages.get(max.checked_sub(1)?));
    Err(DeployError::RateLimited { retry_after_ms: first_to_go.map(|age| window_ms - age) }.into())
}

fn unknown(name: &str) -> Error {
    let error = Error::invalid("limit-unknown", format!("there is no limit `{}`", crate::text::shown(name, 60)));
    match crate::text::near(name, TABLE.iter().map(|info| info.name)).first() {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_holds_at_its_edge() {
        let limits = DeployLimits::default();
        assert!(limits.check_artifact(20 << 20).is_ok());
        assert_eq!(limits.check_artifact((20 << 20) + 1).expect_err("a byte too many").code, "artifact-too-large");
        assert!(limits.check_build(600_000).is_ok() && limits.check_deploy(300_000).is_ok());
        assert_eq!(limits.check_build(600_001).expect_err("late").code, "build-timeout");
        assert_eq!(limits.check_deploy(300_001).expect_err("late").code, "deploy-timeout");
    }

    #[test]
    fn a_rate_says_when_there_is_room() {
        let limits = DeployLimits::default();
        let starts: Vec<u64> = (0..10).map(|n| n * 60_000).collect();
        assert!(limits.check_rate(&starts[..9], 600_000).is_ok());
        let error = limits.check_rate(&starts, 600_000).expect_err("ten in ten minutes");
        assert_eq!((error.code.as_ref(), error.retry_after_ms), ("rate-limit-exceeded", Some(3_000_000)));
        assert!(limits.check_rate(&starts, 3_599_999).is_err());
        assert!(limits.check_rate(&starts, 3_600_000).is_ok(), "the first is an hour old");
        // Twelve starts, ten allowed: the third oldest has to go first.
        let many: Vec<u64> = (0..12).map(|n| n * 60_000).collect();
        assert_eq!(limits.check_rate(&many, 660_000).expect_err("twelve").retry_after_ms, Some(3_060_000));
        let none = TenantLimits { deploys_per_day: Some(0), ..TenantLimits::default() };
        assert_eq!(none.check_rate(&[], 0).expect_err("none at all").retry_after_ms, None);
    }

    #[test]
    fn an_unset_bound_is_none() {
        let unbounded = TenantLimits::default();
        assert!(unbounded.check_apps(u64::MAX).is_ok() && unbounded.check_concurrent(u64::MAX).is_ok());
        assert!(unbounded.check_tier(MachineTier::Pro).is_ok() && unbounded.ends_at_ms(0).is_none());
        let bounded: TenantLimits = serde_json::from_value(serde_json::json!({
            "max_apps": 1, "concurrent_deploys": 1, "allowed_tiers": ["starter"], "app_lifespan_days": 1
        }))
        .expect("bounds");
        assert_eq!(bounded.check_apps(1).expect_err("one is there").code, "tenant-apps");
        assert_eq!(bounded.check_concurrent(1).expect_err("one runs").code, "tenant-concurrent");
        assert_eq!(bounded.check_tier(MachineTier::Pro).expect_err("too large").code, "tenant-tier");
        assert_eq!(bounded.ends_at_ms(1), Some(DAY_MS + 1));
    }

    #[test]
    fn an_operator_sets_bounds_by_name() {
        let set = |name: &str| DeployLimits::default().configured(&BTreeMap::from([(name.to_owned(), 1)]));
        assert_eq!(set("artifact_bytes_max").expect("known").artifact_bytes_max, 1);
        assert_eq!(
            set("artifact_byte_max").expect_err("unknown").hint.as_deref(),
            Some("did you mean `artifact_bytes_max`?")
        );
    }
}
