//! Machines: the states of deployments, sessions and sandboxes, as an append-only log of transitions with
//! compare-and-set. Which transitions there are is `core::deploy::state`'s; this appends what it is given.

use std::sync::Arc;

use midplane_core::Result;
use midplane_core::deploy::state::{Machine, Transition, check_id, moved};
use rusqlite::{Connection, OptionalExtension, params};

use crate::log::page;
use crate::sqlite::Db;
use crate::sqlite::error::{damaged, int, sql, uint};

/// Things, or steps of one, that one call gives at most, whatever its `limit` says.
pub const MACHINES_MAX: usize = 1_000;

/// A transition in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step<S> {
    /// Its number in the history of the thing, from 1 without a gap.
    pub seq: u64,
    /// The transition.
    pub transition: Transition<S>,
}

/// Where a thing stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing<S> {
    /// The thing.
    pub id: String,
    /// Its last step.
    pub last: Step<S>,
}

/// The handle.
#[derive(Clone)]
pub struct Machines {
    db: Arc<Db>,
}

impl Machines {
    pub(crate) fn new(db: Arc<Db>) -> Self {
        Self { db }
    }

    /// Appends a transition if the thing is in the state that it leaves (for a creation: if there is no such thing), and
    /// gives the step. Of several that leave the same state, in whatever processes, exactly one is appended. The step has
    /// the later of the transition's time and that of the step before.
    ///
    /// Errors: `conflict` `transition-order`, whose message names the state there is; `invalid` `machine-id`.
    pub async fn transition<S: Machine>(&self, id: &str, transition: Transition<S>) -> Result<Step<S>> {
        check_id(id)?;
        let id = id.to_owned();
        let append = move |conn: &Connection| {
            let last = last::<S>(conn, &id)?;
            let actual = last.as_ref().map(|step| step.transition.to());
            if transition.from() != actual {
                let shown = midplane_core::text::shown(&id, 80);
                return Err(moved(&format!("{} `{shown}`", S::NAME), transition.from(), actual));
            }
            let (seq, earliest_ms) = last.map_or((1, 0), |step| (step.seq + 1, step.transition.at_ms()));
            let transition = transition.not_before(earliest_ms);
            let (from, to) = (transition.from().map(S::as_str), transition.to().as_str());
            let values = params![S::NAME, id, int(seq)?, from, to, transition.reason(), int(transition.at_ms())?];
            conn.prepare_cached("INSERT INTO transitions VALUES (?, ?, ?, ?, ?, ?, ?)")
                .and_then(|mut s| s.execute(values))
                .map_err(sql)?;
            Ok(Step { seq, transition })
        };
        self.db.write(append).await
    }

    /// Where a thing stands; none if there never was such a thing.
    pub async fn current<S: Machine>(&self, id: &str) -> Result<Option<Step<S>>> {
        let id = id.to_owned();
        self.db.read(move |conn: &Connection| last(conn, &id)).await
    }

    /// The steps of a thing from a number on, in order; at most `limit`, at most [`MACHINES_MAX`].
    pub async fn history<S: Machine>(&self, id: &str, from_seq: u64, limit: usize) -> Result<Vec<Step<S>>> {
        let (id, from_seq) = (id.to_owned(), int(from_seq)?);
        let history = move |conn: &Connection| {
            let mut statement = conn
                .prepare_cached(
                    "SELECT seq, from_state, to_state, reason, at_ms FROM transitions
                     WHERE machine = ? AND id = ? AND seq >= ? ORDER BY seq LIMIT ?",
                )
                .map_err(sql)?;
            let limit = page(limit, MACHINES_MAX) as u64;
            let mut rows = statement.query(params![S::NAME, id, from_seq, int(limit)?]).map_err(sql)?;
            let mut found = Vec::new();
            while let Some(row) = rows.next().map_err(sql)? {
                found.push(Columns::of(row, 0).map_err(sql)?.step()?);
            }
            Ok(found)
        };
        self.db.read(history).await
    }

    /// All things of a machine with where they stand, by id, those after `after` if set; at most `limit`, at most
    /// [`MACHINES_MAX`].
    pub async fn list<S: Machine>(&self, after: Option<&str>, limit: usize) -> Result<Vec<Standing<S>>> {
        let after = after.unwrap_or_default().to_owned();
        let list = move |conn: &Connection| {
            // The other columns are those of the row with the largest `seq`: SQLite promises that of a bare `max`.
            let mut statement = conn
                .prepare_cached(
                    "SELECT id, max(seq), from_state, to_state, reason, at_ms FROM transitions
                     WHERE machine = ? AND id > ? GROUP BY id ORDER BY id LIMIT ?",
                )
                .map_err(sql)?;
            let limit = page(limit, MACHINES_MAX) as u64;
            let mut rows = statement.query(params![S::NAME, after, int(limit)?]).map_err(sql)?;
            let mut found = Vec::new();
            while let Some(row) = rows.next().map_err(sql)? {
                let last = Columns::of(row, 1).map_err(sql)?.step()?;
                found.push(Standing { id: row.get(0).map_err(sql)?, last });
            }
            Ok(found)
        };
        self.db.read(list).await
    }
}

/// The last step of a thing.
fn last<S: Machine>(conn: &Connection, id: &str) -> Result<Option<Step<S>>> {
    conn.prepare_cached(
        "SELECT seq, from_state, to_state, reason, at_ms FROM transitions
         WHERE machine = ? AND id = ? ORDER BY seq DESC LIMIT 1",
    )
    .and_then(|mut s| s.query_row([S::NAME, id], |row| Columns::of(row, 0)).optional())
    .map_err(sql)?
    .map(Columns::step)
    .transpose()
}

/// A row as SQLite gives it.
struct Columns {
    seq: i64,
    from: Option<String>,
    to: String,
    reason: String,
    at_ms: i64,
}

impl Columns {
    fn of(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get(first)?,
            from: row.get(first + 1)?,
            to: row.get(first + 2)?,
            reason: row.get(first + 3)?,
            at_ms: row.get(first + 4)?,
        })
    }

    /// What was written was legal; what is read and is not is damage.
    fn step<S: Machine>(self) -> Result<Step<S>> {
        let from = self.from.as_deref().map(S::parse).transpose().map_err(damaged)?;
        let to = S::parse(&self.to).map_err(damaged)?;
        let transition = Transition::new(from, to, self.reason, uint(self.at_ms)?).map_err(damaged)?;
        Ok(Step { seq: uint(self.seq)?, transition })
    }
}
