//! A few connections that only read, so that a read waits neither for a writer nor on a worker of the runtime.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use midplane_core::{Error, Result};
use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::schema;

/// Connections, and so reads at once; a reader beyond that waits.
const READERS_MAX: usize = 4;

/// The pool. Connections are opened when they are first needed.
#[derive(Clone)]
pub(crate) struct Readers {
    path: PathBuf,
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, idle: Arc::default(), permits: Arc::new(Semaphore::new(READERS_MAX)) }
    }

    /// Reads in one transaction-like view per statement, off the runtime's workers.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let closed = |_| Error::unavailable("store-closed", "the store was closed");
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(closed)?;
        let pool = self.clone();
        tokio::task::spawn_blocking(move || {
            // The permit goes with the work, not with the caller: a caller that gives up leaves the work running.
            let _permit = permit;
            let idle = pool.lock().pop();
            let conn = match idle {
                Some(conn) => conn,
                None => schema::reader(&pool.path)?,
            };
            let outcome = work(&conn);
            pool.lock().push(conn);
            outcome
        })
        .await
        .map_err(|error| Error::internal("store-reader", format!("a read did not end: {error}")))?
    }

    /// Closes what is idle.
    pub(crate) fn close(&self) {
        self.permits.close();
        self.lock().clear();
    }

    // No code that can panic runs under this lock.
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
