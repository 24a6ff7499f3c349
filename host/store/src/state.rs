//! The tables beside the log. One file each, with the same shape: a handle, its rows, its statements.
//!
//! # Layout
//! - [`kv`]: small state of plugins, with compare-and-set
//! - [`plugins`]: what is installed; [`grants`]: what the operator allows
//! - [`signals`]: what other processes ask of the one that drives a run
//! - [`machines`]: transitions of deployments, sessions and sandboxes; [`leases`]: who may run at once
//!
//! Every change is durable when its call returns. Calls that are dropped may still have their effect.

use midplane_core::{Result, RunId};
use rusqlite::Connection;

use crate::sqlite::error::sql;

pub(crate) mod grants;
pub(crate) mod kv;
pub(crate) mod leases;
pub(crate) mod machines;
pub(crate) mod plugins;
pub(crate) mod signals;

/// Removes what hangs on a run outside its log. Inside the caller's transaction.
pub(crate) fn forget_run(conn: &Connection, run_id: &RunId) -> Result<()> {
    for statement in ["DELETE FROM signals WHERE run_id = ?", "DELETE FROM artifact_refs WHERE run_id = ?"] {
        conn.prepare_cached(statement).and_then(|mut s| s.execute([run_id.as_str()])).map_err(sql)?;
    }
    Ok(())
}
