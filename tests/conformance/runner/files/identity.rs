//! Runtime identity, secrets and the runtime context.
//!
//! Files: `mxm_identity.json`, `mxm_discovery.json`, `mxm_secrets.json`, `mxm_context.json`.

use crate::case::Check;

pub const CHECKS: &[(&str, Check)] = &[];
