//! Enumerations, constants and defaults. Ours are told under the names of the original; what they hold is the library's.

use midplane_core::deploy::env_value::EnvType;
use midplane_core::deploy::lease::TTL_MS_WITHOUT_HEARTBEAT;
use midplane_core::deploy::limits::{DeployLimits, IDEMPOTENCY_WINDOW_MS, TenantLimits};
use midplane_core::deploy::record::{AgentType, CustomDomain, LogType, SessionConstraints, SessionMode, SessionRecord};
use midplane_core::deploy::scope::{AuthContext, AuthMode, Scope};
use midplane_core::deploy::session::{SandboxState, SessionState};
use midplane_core::deploy::state::{DeploymentState, Machine};
use midplane_core::deploy::tier::{MachineConfig, MachineTier, VolumeConfig};
use midplane_core::project::manifest::PolicyMode;
use midplane_core::redact::SecretValue;
use midplane_core::telemetry::{
    DURATION_BUCKETS_MS, EVENT_ATTRIBUTES, EVENTS, LABEL_CHARS_MAX, METRIC_LABELS, SPAN_ATTRIBUTES, SpanStatus,
};
use serde_json::{Value, json};

use super::unknown;
use crate::case::{Case, Ours};

pub(super) fn enums(case: &Case<'_>) -> Ours {
    let input = case.input();
    let ours = if let Some(name) = input["enum"].as_str() {
        enumeration(name)
            .map(|words| json!({ "names": words.iter().map(|word| member(word)).collect::<Vec<_>>(), "values": words }))
    } else if let Some(name) = input["const"].as_str() {
        constant(name)
    } else {
        input["defaults"].as_str().and_then(defaults)
    };
    match ours {
        Some(ours) => Ours::accepted().equal("as a whole", &ours, case.expect()),
        None => unknown(case),
    }
}

/// The words of an enumeration, in the order of its declaration.
fn enumeration(name: &str) -> Option<Vec<&'static str>> {
    Some(match name {
        "AgentType" => AgentType::ALL.map(AgentType::as_str).into(),
        "ApiKeyScope" => Scope::ALL.map(Scope::as_str).into(),
        "AuthMode" => AuthMode::ALL.map(AuthMode::as_str).into(),
        "DeploymentState" => states::<DeploymentState>(),
        "EnvVarType" => EnvType::ALL.map(EnvType::as_str).into(),
        "EventType" => EVENTS.into(),
        "LogType" => LogType::ALL.map(LogType::as_str).into(),
        "MachineTier" => MachineTier::ALL.map(MachineTier::as_str).into(),
        "PolicyMode" => PolicyMode::ALL.map(PolicyMode::as_str).into(),
        "SandboxState" => states::<SandboxState>(),
        "SessionMode" => SessionMode::ALL.map(SessionMode::as_str).into(),
        "SessionState" => states::<SessionState>(),
        "SpanStatus" => SpanStatus::ALL.map(SpanStatus::as_str).into(),
        _ => return None,
    })
}

fn states<S: Machine>() -> Vec<&'static str> {
    S::ALL.iter().map(|state| state.as_str()).collect()
}

/// How a Python program spells the member of a word: the program that an event is of goes without saying.
fn member(word: &str) -> String {
    let plain = word.strip_prefix("cli.").or_else(|| word.strip_prefix("runtm.")).unwrap_or(word);
    plain.replace(['.', '-'], "_").to_uppercase()
}

fn constant(name: &str) -> Option<Value> {
    Some(match name {
        "CONCURRENT_DEPLOY_TTL_SECONDS" => json!({ "value": TTL_MS_WITHOUT_HEARTBEAT / 1000 }),
        "DEFAULT_DURATION_BUCKETS" => {
            let buckets = DURATION_BUCKETS_MS.iter().map(|bound| json!(bound)).chain([json!("inf")]);
            json!({ "values": buckets.collect::<Vec<_>>() })
        }
        "ALLOWED_EVENT_ATTRIBUTES" => json!({ "values": EVENT_ATTRIBUTES.to_vec() }),
        "ALLOWED_SPAN_ATTRIBUTES" => json!({ "values": SPAN_ATTRIBUTES }),
        "ALLOWED_METRIC_LABELS" => json!({ "values": METRIC_LABELS, "max_value_length": LABEL_CHARS_MAX }),
        "VALID_SCOPES" => {
            let mut words = Scope::ALL.map(Scope::as_str);
            words.sort_unstable();
            json!({ "values": words })
        }
        "VALID_TIER_NAMES" => {
            let mut words = MachineTier::ALL.map(MachineTier::as_str);
            words.sort_unstable();
            json!({ "values": words })
        }
        "Limits" => {
            let (limits, tier) = (DeployLimits::default(), MachineTier::default());
            json!({
                "MAX_ARTIFACT_SIZE_BYTES": limits.artifact_bytes_max,
                "BUILD_TIMEOUT_SECONDS": limits.build_ms_max / 1000,
                "DEPLOY_TIMEOUT_SECONDS": limits.deploy_ms_max / 1000,
                "DEFAULT_MEMORY_MB": tier.spec().memory_mb,
                "DEFAULT_CPUS": tier.spec().cpus,
                "DEFAULT_TIER": tier,
                "MAX_DEPLOYMENTS_PER_HOUR": limits.deployments_per_hour_max,
                "IDEMPOTENCY_KEY_TTL_HOURS": IDEMPOTENCY_WINDOW_MS / 3_600_000,
            })
        }
        _ => return None,
    })
}

/// What a record holds of which only the named arguments are given: `Class(a=x,b=y)`.
fn defaults(call: &str) -> Option<Value> {
    let (class, arguments) = match call.strip_suffix(')').and_then(|call| call.split_once('(')) {
        Some((class, arguments)) => (class, arguments),
        None => (call, ""),
    };
    let argument = |wanted: &str| {
        let pairs = arguments.split(',').filter_map(|pair| pair.trim().split_once('='));
        pairs.into_iter().find_map(|(name, value)| (name == wanted).then_some(value))
    };
    Some(match class {
        "AuthContext" => {
            let auth = AuthContext::new(SecretValue::from(argument("token")?.to_owned()));
            let mut scopes: Vec<&str> = auth.scopes.iter().map(|scope| scope.as_str()).collect();
            scopes.sort_unstable();
            json!({
                "token": auth.token.expose_text(),
                "tenant_id": auth.tenant_id,
                "principal_id": auth.principal_id,
                "api_key_id": auth.api_key_id,
                "scopes": scopes,
            })
        }
        "CustomDomainInfo" => json!(CustomDomain::new(argument("hostname")?)),
        "MachineConfig" => json!(MachineConfig::new(argument("image")?)),
        "Session" => json!(SessionRecord::new(argument("id")?)),
        "SessionConstraints" => json!(SessionConstraints::default()),
        "TenantLimits" => json!(TenantLimits::default()),
        "VolumeConfig" => json!(VolumeConfig::new(argument("name")?, argument("path")?)),
        _ => return None,
    })
}
