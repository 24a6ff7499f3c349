//! Control of a run and the registry, against a real host with scripted guests.
//!
//! Files: `ark-control-and-hub.json`, `ark-registry.json`.

use crate::case::Check;

pub const CHECKS: &[(&str, Check)] = &[];
