//! Telemetry: settings, allowlists, histogram, trace context.
//!
//! Files: `runtm_telemetry.json`.

use crate::case::Check;

pub const CHECKS: &[(&str, Check)] = &[];
