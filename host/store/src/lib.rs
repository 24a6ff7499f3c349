//! What Midplane keeps: the event log of every run, the host's tables, and artifacts by digest.
//!
//! # Layout
//! - [`log`]: the trait [`EventLog`] with its types, and [`Tail`], a reader that follows a run
//! - `sqlite`: the database (schema and opening, the writer thread with group commit, readers, news from other processes)
//! - `memory`: the same log without a database
//! - `state`: the tables beside the log: `kv`, plugins, grants, signals, machines, leases
//! - [`artifacts`]: files by digest, who refers to them, collection
//! - `suite` (feature `suite`): the contract of [`EventLog`] as tests, for every implementation
//! - [`Store`]: all of it, opened together
//!
//! # Invariants
//! This is the only crate that names a database. What returned is durable: commits are synced before anyone is told.
//! Several processes may have one store open; each sees what the others committed.
//!
//! # What it never does
//! No rules: it does not know which event may follow which, what a grant means, or when a run has ended. It reads no
//! clock (times are the caller's), and it never writes into a database that it refused.

#![forbid(unsafe_code)]

use std::path::Path;
use std::sync::Arc;

use midplane_core::{Result, RunId};

pub mod artifacts;
pub mod log;
mod memory;
mod sqlite;
mod state;
#[cfg(feature = "suite")]
pub mod suite;
mod watch;

pub use artifacts::{ArtifactReader, ArtifactRef, Artifacts, Stored};
pub use log::{Append, EventLog, RunIndex, RunQuery, RunRow, Tail};
pub use memory::MemoryLog;
pub use state::grants::{Grant, Grants};
pub use state::kv::{KV_KEYS_MAX, Kv};
pub use state::leases::Leases;
pub use state::machines::{MACHINES_MAX, Machines, Standing, Step};
pub use state::plugins::{Component, PluginRow, Plugins};
pub use state::signals::{Signal, Signals};

/// Everything that is kept, one field a kind. Clones share it; the last one that is dropped writes what is queued and
/// closes the database.
#[derive(Clone)]
pub struct Store {
    /// The events of runs.
    pub log: Arc<dyn EventLog>,
    /// Small state of plugins.
    pub kv: Kv,
    /// What is installed.
    pub plugins: Plugins,
    /// What the operator allows.
    pub grants: Grants,
    /// What is asked of runs.
    pub signals: Signals,
    /// The states of deployments, sessions and sandboxes.
    pub machines: Machines,
    /// Who may run at once.
    pub leases: Leases,
    /// Files by digest.
    pub artifacts: Artifacts,
    db: Arc<sqlite::Db>,
}

impl Store {
    /// Opens the store of a folder, and makes both if there are none. Blocks for some milliseconds: longer only while
    /// another process migrates the same store.
    ///
    /// Errors: `invalid` `store-damaged` or `store-path`; `unsupported` `store-newer`; `denied` `store-permission`;
    /// `limit` `disk`; `unavailable` `store-busy` or `store-io`. A store that is refused is left as it was.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::open_with(dir, &dir.join("artifacts"))
    }

    /// The same with artifacts in a folder of their own. Which folder that is, is not remembered: whoever opens the store says it.
    pub fn open_with(dir: &Path, artifacts: &Path) -> Result<Self> {
        let db = Arc::new(sqlite::Db::open(dir)?);
        let artifacts = Artifacts::in_folder(Arc::clone(&db), artifacts.to_owned())?;
        Ok(Self::of(Arc::new(sqlite::SqliteLog::new(Arc::clone(&db))), artifacts, db))
    }

    /// A store that is gone when it is dropped, artifacts included.
    pub fn memory() -> Result<Self> {
        let db = Arc::new(sqlite::Db::memory()?);
        Ok(Self::of(Arc::new(MemoryLog::new()), Artifacts::in_memory(Arc::clone(&db)), db))
    }

    fn of(log: Arc<dyn EventLog>, artifacts: Artifacts, db: Arc<sqlite::Db>) -> Self {
        let shared = || Arc::clone(&db);
        Self {
            log,
            kv: Kv::new(shared()),
            plugins: Plugins::new(shared()),
            grants: Grants::new(shared()),
            signals: Signals::new(shared()),
            machines: Machines::new(shared()),
            leases: Leases::new(shared()),
            artifacts,
            db,
        }
    }

    /// Removes a run with all that hangs on it. Its artifacts go with the next collection if nothing else uses them.
    pub async fn remove_run(&self, run_id: &RunId) -> Result<bool> {
        let removed = self.log.remove_run(run_id).await?;
        // The log in the database has done this in the same transaction; the one in memory cannot.
        let run_id = run_id.clone();
        self.db.write(move |conn| state::forget_run(conn, &run_id)).await?;
        Ok(removed)
    }

    /// Reads the whole database and says what is wrong with it (`internal` `store-damaged`), if anything. Takes about
    /// a second for each gigabyte; opening looks less closely.
    pub async fn check(&self) -> Result<()> {
        self.db.check().await
    }
}
