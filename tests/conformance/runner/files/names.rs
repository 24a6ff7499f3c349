//! Ids, URLs, env files, errors, enumerations, tiers and scopes.
//!
//! Files: `runtm_ids.json`, `runtm_urls.json`, `runtm_env_file.json`, `runtm_errors.json`, `runtm_enums.json`, `runtm_machine_tiers.json`, `runtm_api_scopes.json`.

use crate::case::Check;

pub const CHECKS: &[(&str, Check)] = &[];
