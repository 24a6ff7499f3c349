//! `runtm.yaml`, requests and discovery files, and their parts, under `--compat`.
//!
//! Files: `runtm_manifest.json`, `runtm_env_var.json`, `runtm_requests_file.json`, `runtm_submodels.json`, `runtm_discovery.json`, `runtm_redaction.json`.

use crate::case::Check;

pub const CHECKS: &[(&str, Check)] = &[];
