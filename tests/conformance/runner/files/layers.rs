//! Layered configuration: merge, interpolation, views.
//!
//! Files: `mxm_config_merge.json`, `mxm_config_view.json`.

use crate::case::Check;

pub const CHECKS: &[(&str, Check)] = &[];
