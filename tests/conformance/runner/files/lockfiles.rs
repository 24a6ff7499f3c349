//! Lock files checked without running anything.
//!
//! Files: `runtm_lockfiles.json`.

use crate::case::Check;

pub const CHECKS: &[(&str, Check)] = &[];
