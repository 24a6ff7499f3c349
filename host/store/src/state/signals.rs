//! Signals: what one process asks of the one that drives a run (cancel, steer). Rows, because any of several
//! processes may ask and the owner may be any other.

use std::sync::Arc;

use midplane_core::limits::Limits;
use midplane_core::{Error, Result, RunId};
use rusqlite::{Connection, params};
use tokio::sync::watch;

use crate::sqlite::Db;
use crate::sqlite::error::{damaged, sql, uint};

/// Something asked of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// Its place in the order of all signals.
    pub id: u64,
    /// The run.
    pub run_id: RunId,
    /// What is asked, such as `cancel` or `steer`.
    pub kind: String,
    /// What goes with it.
    pub text: String,
}

/// The handle.
#[derive(Clone)]
pub struct Signals {
    db: Arc<Db>,
}

impl Signals {
    pub(crate) fn new(db: Arc<Db>) -> Self {
        Self { db }
    }

    /// Leaves a signal for whoever drives the run, and gives its id. Whether there is such a run is the caller's to know.
    ///
    /// Errors: `limit` `signals-full` (of this kind, so that a cancel always finds room) or `signal-size`.
    pub async fn push(&self, run_id: &RunId, kind: &str, text: &str) -> Result<u64> {
        let limits = Limits::default();
        if text.len() as u64 > limits.signal_bytes_max {
            return Err(Error::limit("signal-size", format!("a signal has at most {} bytes", limits.signal_bytes_max)));
        }
        let (run_id, kind, text) = (run_id.clone(), kind.to_owned(), text.to_owned());
        let push = move |conn: &Connection| {
            let waiting: i64 = conn
                .query_row(
                    "SELECT count(*) FROM signals WHERE run_id = ? AND kind = ?",
                    params![run_id.as_str(), kind],
                    |row| row.get(0),
                )
                .map_err(sql)?;
            if uint(waiting)? >= limits.signals_max {
                return Err(Error::limit(
                    "signals-full",
                    format!("{waiting} signals `{kind}` wait for run `{run_id}` already"),
                ));
            }
            conn.execute(
                "INSERT INTO signals (run_id, kind, text) VALUES (?, ?, ?)",
                params![run_id.as_str(), kind, text],
            )
            .map_err(sql)?;
            uint(conn.last_insert_rowid())
        };
        let watchers = Arc::clone(&self.db.watchers);
        self.db.write_then(0, push, move |id| watchers.signal_at(*id)).await
    }

    /// Takes what waits for these runs, in order. Each signal is given once, to one taker.
    pub async fn take(&self, run_ids: &[RunId]) -> Result<Vec<Signal>> {
        let run_ids = run_ids.to_vec();
        let take = move |conn: &Connection| {
            let mut statement =
                conn.prepare_cached("DELETE FROM signals WHERE run_id = ? RETURNING id, kind, text").map_err(sql)?;
            let mut found = Vec::new();
            for run_id in run_ids {
                let mut rows = statement.query([run_id.as_str()]).map_err(sql)?;
                while let Some(row) = rows.next().map_err(sql)? {
                    let id = uint(row.get(0).map_err(sql)?)?;
                    let (kind, text) = row.get(1).and_then(|kind| Ok((kind, row.get(2)?))).map_err(damaged)?;
                    found.push(Signal { id, run_id: run_id.clone(), kind, text });
                }
            }
            // `RETURNING` promises no order.
            found.sort_by_key(|signal| signal.id);
            Ok(found)
        };
        self.db.write(take).await
    }

    /// The id of the last signal that was ever left: unchanged means nothing new, for any run. One small read.
    pub async fn version(&self) -> Result<u64> {
        self.db.read(crate::sqlite::poller::last_signal).await
    }

    /// Tells when [`Signals::version`] changed: at once for this process, within some 25 ms for others. Call
    /// [`Signals::take`] once at the start: what was left before is not announced.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.db.watchers.signals()
    }
}
