//! Agent contracts: tasks, gating, results, events, structured output.
//!
//! Files: `ark-task-validation.json`, `ark-result-invariants.json`, `ark-gating-capabilities.json`, `ark-event-builders.json`, `ark-event-sanitisation.json`, `ark-event-redaction-keys.json`, `ark-structured-output-resolution.json`, `ark-structured-output-schemas.json`, `ark-structured-output-values.json`.

use crate::case::Check;

pub const CHECKS: &[(&str, Check)] = &[];
