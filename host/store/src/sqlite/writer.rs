//! The one thread that writes.
//!
//! ```text
//!  callers ─► bounded queue ─► BEGIN IMMEDIATE ─► job, job, job ─► COMMIT ─► replies ─► whatever queued meanwhile ─► …
//! ```
//! Group commit needs no timer: while one commit waits for the disk, the next group gathers. Each job has a savepoint
//! of its own, so that one that is refused does not spoil the others. No reply precedes the commit.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};

use midplane_core::{Error, Result};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::error::{self, sql};
use super::schema::{self, Writable};

/// Jobs that wait; a caller beyond that waits for room.
pub(crate) const QUEUE_MAX: usize = 256;

/// What one transaction takes at most.
const GROUP_JOBS_MAX: usize = 256;
const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Size of the journal at which the thread waits for readers in order to begin it anew. Beyond that, readers that
/// follow each other without a gap would let it grow for ever.
const JOURNAL_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// Something to do in a transaction.
pub(crate) trait Job: Send {
    /// Does it. On an error all that it did is undone.
    fn run(&mut self, conn: &Connection) -> Result<()>;
    /// Tells how it ended: durable, or undone.
    fn done(self: Box<Self>, outcome: Result<()>);
    /// About how much it writes.
    fn bytes(&self) -> usize;
}

/// A job from a closure: `work` in the transaction, `after` on the thread once its value is durable, then the reply.
pub(crate) struct Call<T, W, A> {
    pub(crate) work: Option<W>,
    pub(crate) after: A,
    pub(crate) value: Option<T>,
    pub(crate) bytes: usize,
    pub(crate) reply: oneshot::Sender<Result<T>>,
}

impl<T, W, A> Job for Call<T, W, A>
where
    T: Send,
    W: FnOnce(&Connection) -> Result<T> + Send,
    A: FnOnce(&T) + Send,
{
    fn run(&mut self, conn: &Connection) -> Result<()> {
        if let Some(work) = self.work.take() {
            self.value = Some(work(conn)?);
        }
        Ok(())
    }

    fn done(self: Box<Self>, outcome: Result<()>) {
        let answer = match (outcome, self.value) {
            (Ok(()), Some(value)) => {
                (self.after)(&value);
                Ok(value)
            }
            (Ok(()), None) => Err(Error::internal("store-writer", "a change was not carried out")),
            (Err(error), _) => Err(error),
        };
        // Nobody may wait any more; what was done is done all the same.
        let _ = self.reply.send(answer);
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The thread's body; ends when all senders are gone and the queue is empty.
pub(crate) fn run(writable: Writable, journal: Option<PathBuf>, mut queue: mpsc::Receiver<Box<dyn Job>>) {
    let Writable { conn, patience } = writable;
    let mut group = Vec::new();
    let mut groups = 0_u64;
    while let Some(first) = queue.blocking_recv() {
        let mut bytes = first.bytes();
        group.push(first);
        while group.len() < GROUP_JOBS_MAX && bytes < GROUP_BYTES_MAX {
            let Ok(job) = queue.try_recv() else { break };
            bytes += job.bytes();
            group.push(job);
        }
        commit(&conn, std::mem::take(&mut group));
        groups += 1;
        if let Some(journal) = journal.as_deref().filter(|_| groups.is_multiple_of(64)) {
            trim(&conn, journal, JOURNAL_BYTES_MAX, &patience);
        }
    }
}

/// One transaction for all jobs of a group.
fn commit(conn: &Connection, mut jobs: Vec<Box<dyn Job>>) {
    let mut outcomes = Vec::with_capacity(jobs.len());
    let transaction = (|| {
        execute(conn, "BEGIN IMMEDIATE").map_err(sql)?;
        schema::still_ours(conn)?;
        for job in &mut jobs {
            let outcome = savepoint(conn, job.as_mut());
            // A full disk, a failing one or a lack of memory ends the whole transaction.
            if conn.is_autocommit() {
                return outcome.and_then(|()| Err(Error::internal("store", "the transaction ended early")));
            }
            outcomes.push(outcome);
        }
        execute(conn, "COMMIT").map_err(error::commit)
    })();
    if let Err(error) = transaction {
        if !conn.is_autocommit() {
            // The error that led here is the one to report.
            let _ = execute(conn, "ROLLBACK");
        }
        // A job that was refused for its own sake is told that; all others share what befell the transaction.
        outcomes.resize(jobs.len(), Ok(()));
        for outcome in outcomes.iter_mut().filter(|outcome| outcome.is_ok()) {
            *outcome = Err(error.clone());
        }
    }
    for (job, outcome) in jobs.into_iter().zip(outcomes) {
        job.done(outcome);
    }
}

fn savepoint(conn: &Connection, job: &mut dyn Job) -> Result<()> {
    execute(conn, "SAVEPOINT job").map_err(sql)?;
    let outcome = job.run(conn);
    if conn.is_autocommit() {
        return outcome;
    }
    if outcome.is_err() {
        execute(conn, "ROLLBACK TO job").map_err(sql)?;
    }
    execute(conn, "RELEASE job").map_err(sql)?;
    outcome
}

fn execute(conn: &Connection, statement: &'static str) -> rusqlite::Result<()> {
    conn.prepare_cached(statement)?.execute([]).map(|_| ())
}

/// Begins the journal anew if it has become large. Little patience: a reader that hangs must not hold up commits.
fn trim(conn: &Connection, journal: &Path, bytes_max: u64, patience: &AtomicI32) {
    if !std::fs::metadata(journal).is_ok_and(|found| found.len() > bytes_max) {
        return;
    }
    let usual = patience.swap(50, Ordering::Relaxed);
    // If it does not come about now, it is tried again some commits later.
    let _ = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    patience.store(usual, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    type Answer = oneshot::Receiver<Result<i64>>;

    /// A job that inserts a signal of `bytes` bytes and then fails if told to, and its answer: how many there are.
    fn job(bytes: usize, fail: bool) -> (Box<dyn Job>, Answer) {
        let (reply, answer) = oneshot::channel();
        let work = move |conn: &Connection| {
            conn.execute("INSERT INTO signals (run_id, kind, text) VALUES ('', '', ?)", ["x".repeat(bytes)])
                .map_err(sql)?;
            if fail {
                return Err(Error::conflict("told-to", "told to fail"));
            }
            conn.query_row("SELECT count(*) FROM signals", [], |row| row.get(0)).map_err(sql)
        };
        (Box::new(Call { work: Some(work), after: |_: &i64| {}, value: None, bytes, reply }), answer)
    }

    /// Commits the jobs as one group and shows each answer.
    fn group(conn: &Connection, jobs: &[(usize, bool)]) -> Vec<String> {
        let (jobs, answers): (Vec<_>, Vec<_>) = jobs.iter().map(|(bytes, fail)| job(*bytes, *fail)).unzip();
        commit(conn, jobs);
        let show = |mut answer: Answer| match answer.try_recv().expect("answered") {
            Ok(count) => count.to_string(),
            Err(error) => error.code.into_owned(),
        };
        answers.into_iter().map(show).collect()
    }

    #[test]
    fn a_refused_job_spoils_no_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let conn = schema::open(dir.path()).expect("open").conn;
        assert_eq!(group(&conn, &[(1, false), (1, true), (1, false), (1, true)]), ["1", "told-to", "2", "told-to"]);
        assert_eq!(group(&conn, &[(1, true)]), ["told-to"]);
        assert_eq!(group(&conn, &[(1, false)]), ["3"]);
    }

    /// The disk fills in the middle of a group: nobody is told that it worked, nothing of it is there, and when there
    /// is room again all goes on.
    #[test]
    fn a_full_disk() {
        let dir = tempfile::tempdir().expect("a directory");
        let conn = schema::open(dir.path()).expect("open").conn;
        let pages: i64 = conn.query_row("PRAGMA page_count", [], |row| row.get(0)).expect("pages");
        let bound =
            |pages: i64| conn.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).expect("bound");
        bound(pages + 2);
        let jobs = [(1, false), (1, true), (100_000, false), (1, false)];
        assert_eq!(group(&conn, &jobs).first().map(String::as_str), Some("disk"));
        assert_eq!(group(&conn, &jobs), ["disk", "told-to", "disk", "disk"]);
        assert_eq!(group(&conn, &[(1, false)]), ["1"]);
        bound(pages + 100);
        assert_eq!(group(&conn, &jobs), ["2", "told-to", "3", "4"]);
    }

    /// Another process that holds the lock is waited for, and named when it does not let go.
    #[test]
    fn a_lock_that_is_held() {
        let dir = tempfile::tempdir().expect("a directory");
        let Writable { conn, patience } = schema::open(dir.path()).expect("open");
        let other = schema::open(dir.path()).expect("open").conn;
        other.execute_batch("BEGIN IMMEDIATE").expect("lock");
        patience.store(3, Ordering::Relaxed);
        assert_eq!(group(&conn, &[(1, false), (1, false)]), ["store-busy", "store-busy"]);
        other.execute_batch("COMMIT").expect("unlock");
        assert_eq!(group(&conn, &[(1, false), (1, false)]), ["1", "2"]);
    }

    /// The journal begins anew when no reader needs it, and a reader that does need it is waited for in vain and not
    /// for long.
    #[test]
    fn a_large_journal() {
        let dir = tempfile::tempdir().expect("a directory");
        let Writable { conn, patience } = schema::open(dir.path()).expect("open");
        let journal = dir.path().join("midplane.db-wal");
        let size = || std::fs::metadata(&journal).expect("journal").len();
        let reader = schema::reader(&dir.path().join(schema::FILE)).expect("reader");
        group(&conn, &[(100_000, false)]);
        reader.execute_batch("BEGIN; SELECT * FROM signals").expect("read");
        group(&conn, &[(100_000, false)]);
        let large = size();
        trim(&conn, &journal, large, &patience);
        assert_eq!(size(), large, "it is not too large yet");
        trim(&conn, &journal, large - 1, &patience);
        assert_eq!(size(), large, "a reader still needs it");
        reader.execute_batch("COMMIT").expect("read");
        trim(&conn, &journal, large - 1, &patience);
        assert_eq!(size(), 0);
        assert_eq!(patience.load(Ordering::Relaxed), schema::BUSY_TRIES_MAX, "commits are as patient as before");
    }
}
