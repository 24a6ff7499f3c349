//! Telemetry: settings, allowlists, measures, trace context, and the trace of a run. Nothing here sends.
//!
//! # Layout
//! - the names: which events there are, and which attributes, labels and buckets a measure may have. What is on no list is
//!   dropped before it is kept, so that no measure can carry a path, a value or a name of someone's project. The lists are
//!   runtm-shared's, and sorted, so that a lookup is a binary search
//! - [`settings`]: whether anything leaves, and where to, from the environment
//! - [`measure`]: counters and histograms, labels and attributes filtered
//! - [`traceparent`]: the trace context of W3C, strictly
//! - [`run_trace`]: the records of a run as one trace

use serde::{Deserialize, Serialize};

use crate::codes::codes;

pub mod measure;
pub mod run_trace;
pub mod settings;
pub mod traceparent;

codes! {
    /// The codes of telemetry.
    Invalid "telemetry-endpoint":
        "The endpoint for telemetry cannot be used, and nothing is sent."
        => "Give an `http` or `https` URL of an OTLP collector without a user name, or none.";
    Invalid "telemetry-protocol":
        "OTLP is spoken as protobuf over HTTP here, and another protocol was asked for."
        => "Set `OTEL_EXPORTER_OTLP_PROTOCOL` to `http/protobuf`, and the endpoint to the collector's port for it, 4318 as a rule.";
    Invalid "telemetry-value":
        "A variable of telemetry has a value that cannot be read, and its default is used."
        => "Correct the variable that the message names, or unset it.";
    Invalid "traceparent":
        "This is not a trace context in the form that W3C gave it."
        => "Give `00-`, 32 lower case hex digits, `-`, 16 more, `-` and two flags; neither id is all zeros.";
}

/// The events, in the order of the original.
pub const EVENTS: [&str; 28] = [
    "cli.first_run",
    "cli.upgrade",
    "cli.config.loaded",
    "cli.login.started",
    "cli.login.completed",
    "cli.auth.failed",
    "cli.init.template_selected",
    "cli.init.completed",
    "cli.deploy.started",
    "cli.deploy.validation_failed",
    "cli.deploy.completed",
    "cli.deploy.failed",
    "cli.destroy.completed",
    "cli.run.started",
    "cli.run.completed",
    "cli.domain.added",
    "cli.domain.removed",
    "runtm.phase.started",
    "runtm.phase.completed",
    "runtm.phase.failed",
    "controlplane.deployment.created",
    "controlplane.deployment.failed",
    "worker.build.started",
    "worker.build.completed",
    "worker.deploy.started",
    "worker.deploy.completed",
    "worker.deploy.failed",
    "artifact.upload.completed",
];

/// The attributes that an event may have.
pub const EVENT_ATTRIBUTES: [&str; 27] = [
    "arch",
    "artifact_size_mb",
    "auth_method",
    "cli_version",
    "config_source",
    "deployment_id",
    "duration_ms",
    "error_count",
    "error_type",
    "from_version",
    "has_bun",
    "has_existing_files",
    "has_ssl",
    "install_id",
    "is_redeploy",
    "os",
    "outcome",
    "phase",
    "python_version",
    "runtime",
    "session_id",
    "state_reached",
    "template",
    "tier",
    "to_version",
    "version",
    "warning_count",
];

/// The attributes that a span may have.
pub const SPAN_ATTRIBUTES: [&str; 9] = [
    "runtm.command.exit_code",
    "runtm.command.name",
    "runtm.error_type",
    "runtm.install_id",
    "runtm.phase",
    "runtm.runtime",
    "runtm.session_id",
    "runtm.template",
    "runtm.tier",
];

/// The labels that a measure may have.
pub const METRIC_LABELS: [&str; 6] = ["command", "error_type", "outcome", "runtime", "template", "tier"];

/// Characters of a label's value; what is longer is cut.
pub const LABEL_CHARS_MAX: usize = 50;

/// Upper bounds of the buckets of a duration, in milliseconds. One more bucket takes what is above the last.
pub const DURATION_BUCKETS_MS: [u64; 12] = [10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000];

/// How a span ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpanStatus {
    /// Nobody said.
    #[default]
    Unset,
    /// Well.
    Ok,
    /// Badly.
    Error,
}

impl SpanStatus {
    /// All of them, in the order of declaration.
    pub const ALL: [Self; 3] = [Self::Unset, Self::Ok, Self::Error];

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unset => "unset",
            Self::Ok => "ok",
            Self::Error => "error",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted() {
        for list in [EVENT_ATTRIBUTES.as_slice(), &SPAN_ATTRIBUTES, &METRIC_LABELS] {
            assert!(list.is_sorted_by(|a, b| a < b));
        }
        assert!(DURATION_BUCKETS_MS.is_sorted_by(|a, b| a < b));
    }
}
