//! Event batches: antpath's validator to the letter.
//!
//! Files: `runner_event_batch.json`.

use crate::case::Check;

pub const CHECKS: &[(&str, Check)] = &[];
