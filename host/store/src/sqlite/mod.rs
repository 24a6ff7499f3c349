//! The database: one thread writes, a few connections read, one thread watches what other processes do.
//!
//! # Layout
//! - [`schema`] (`v1.sql`, `v2.sql`): opening, refusing, migrating
//! - [`writer`]: the queue and the group commit; [`readers`]: the pool; [`poller`]: news from other processes
//! - [`log`]: the event log on top of them
//! - [`error`]: what SQLite says, in the words of the libraries

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use midplane_core::{Error, Result};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::watch::Watchers;
use readers::Readers;
use schema::Writable;
use writer::{Call, Job};

pub(crate) mod error;
pub(crate) mod log;
pub(crate) mod poller;
mod readers;
mod schema;
mod writer;

pub(crate) use log::SqliteLog;

/// An open database. Dropping it writes what is queued and closes it.
pub(crate) struct Db {
    /// Unset only while it is dropped.
    queue: Option<mpsc::Sender<Box<dyn Job>>>,
    threads: Vec<JoinHandle<()>>,
    /// Unset for a database in memory, whose only connection is the writer's.
    readers: Option<Readers>,
    pub(crate) watchers: Arc<Watchers>,
}

impl Db {
    /// Opens the database of a folder; makes both if there are none. Blocks for some milliseconds.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(schema::FILE);
        let journal = dir.join(format!("{}-wal", schema::FILE));
        let mut db = Self::start(schema::open(dir)?, Some(journal))?;
        let (polled, watchers) = (path.clone(), Arc::clone(&db.watchers));
        db.threads.push(spawn("midplane-store-poll", move || poller::run(polled, watchers))?);
        db.readers = Some(Readers::new(path));
        Ok(db)
    }

    /// A database that is gone when it is dropped.
    pub(crate) fn memory() -> Result<Self> {
        Self::start(schema::memory()?, None)
    }

    fn start(writable: Writable, journal: Option<PathBuf>) -> Result<Self> {
        let (queue, jobs) = mpsc::channel(writer::QUEUE_MAX);
        let thread = spawn("midplane-store-write", move || writer::run(writable, journal, jobs))?;
        Ok(Self { queue: Some(queue), threads: vec![thread], readers: None, watchers: Arc::new(Watchers::new()) })
    }

    /// Changes something: `work` runs inside a transaction, and when this returns its effect is durable.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.write_then(0, work, |_| {}).await
    }

    /// As [`Db::write`]; `after` runs once it is durable, also when the caller has given up. `bytes` is about how much
    /// is written.
    pub(crate) async fn write_then<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
        after: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T> {
        let stopped = || Error::internal("store-writer", "the store's writer has stopped");
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Call { work: Some(work), after, value: None, bytes, reply });
        self.queue.as_ref().ok_or_else(stopped)?.send(job).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Reads what is committed.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        match &self.readers {
            Some(readers) => readers.read(work).await,
            None => self.write(work).await,
        }
    }

    /// Reads every page and says what is wrong.
    pub(crate) async fn check(&self) -> Result<()> {
        self.read(schema::check).await
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        // Readers first: the connection that closes last leaves one tidy file, and only the writer's may.
        if let Some(readers) = &self.readers {
            readers.close();
        }
        self.watchers.stop();
        self.queue = None;
        // The poller was pushed last. Neither thread waits for anything of this one, so this ends.
        for thread in self.threads.drain(..).rev() {
            let _ = thread.join();
        }
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(|error| Error::unavailable("store-thread", format!("cannot start a thread: {error}")))
}
