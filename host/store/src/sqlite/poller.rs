//! Finds what other processes wrote, for those who wait for it.
//!
//! SQLite tells nobody that another process committed, so one thread asks: `PRAGMA data_version` is a look into shared
//! memory. It asks only while someone waits, and looks closer only when the answer changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use midplane_core::{Result, RunId};
use rusqlite::{Connection, OptionalExtension};

use super::error::sql;
use super::schema;
use crate::watch::Watchers;

/// Between two questions: what a person does not notice, at a cost that does not show.
const PERIOD: Duration = Duration::from_millis(25);

/// The thread's body.
pub(crate) fn run(path: PathBuf, watchers: Arc<Watchers>) {
    let mut conn = None;
    let mut seen = None;
    while watchers.sleep(PERIOD) {
        if look(&path, &mut conn, &mut seen, &watchers).is_err() {
            // Those who wait shall not wait for ever: each meets the fault itself when it reads.
            (conn, seen) = (None, None);
            watchers.wake_all();
        }
    }
}

fn look(path: &Path, conn: &mut Option<Connection>, seen: &mut Option<i64>, watchers: &Watchers) -> Result<()> {
    let conn = match conn {
        Some(conn) => conn,
        None => conn.insert(schema::reader(path)?),
    };
    let version: i64 =
        conn.prepare_cached("PRAGMA data_version").and_then(|mut s| s.query_row([], |row| row.get(0))).map_err(sql)?;
    if *seen == Some(version) {
        return Ok(());
    }
    for run_id in watchers.runs() {
        watchers.run_at(&run_id, last_seq(conn, &run_id)?);
    }
    watchers.signal_at(last_signal(conn)?);
    *seen = Some(version);
    Ok(())
}

fn last_seq(conn: &Connection, run_id: &RunId) -> Result<u64> {
    let last: Option<i64> = conn
        .prepare_cached("SELECT (SELECT max(seq) FROM records WHERE run = runs.key) FROM runs WHERE run_id = ?")
        .and_then(|mut s| s.query_row([run_id.as_str()], |row| row.get(0)).optional())
        .map_err(sql)?
        .flatten();
    super::error::uint(last.unwrap_or(0))
}

/// The id of the last signal that was ever pushed.
pub(crate) fn last_signal(conn: &Connection) -> Result<u64> {
    let last: Option<i64> = conn
        .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'signals'")
        .and_then(|mut s| s.query_row([], |row| row.get(0)).optional())
        .map_err(sql)?;
    super::error::uint(last.unwrap_or(0))
}
