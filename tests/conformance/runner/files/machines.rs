//! The state machines, and leases against the original's counters.
//!
//! Files: `runtm_deployment_state.json`, `runtm_session_state.json`, `runtm_deploy_tracking.json`.

use crate::case::Check;

pub const CHECKS: &[(&str, Check)] = &[];
