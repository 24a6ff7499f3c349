//! The event log in the database.

use std::sync::Arc;

use async_trait::async_trait;
use midplane_core::event::{Event, EventKind, FORMAT_VERSION, Record};
use midplane_core::{Error, ProfileName, Result, RunId};
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::Db;
use super::error::{damaged, int, sql, uint};
use crate::log::{
    self, Append, EventLog, READ_BYTES_MAX, READ_RECORDS_MAX, RUNS_MAX, RunIndex, RunQuery, RunRow, Tail,
};

/// Records that one transaction removes, so that a long run does not hold up the others' commits.
const SWEEP_RECORDS_MAX: i64 = 2_000;

/// The log of an open database.
#[derive(Clone)]
pub(crate) struct SqliteLog {
    db: Arc<Db>,
}

impl SqliteLog {
    pub(crate) fn new(db: Arc<Db>) -> Self {
        Self { db }
    }
}

#[async_trait]
impl EventLog for SqliteLog {
    async fn append(&self, mut append: Append) -> Result<Arc<[Record]>> {
        log::check_append(&append)?;
        // Text is made here, on the caller's side: the writer is one thread for all.
        let rows: Vec<(EventKind, String)> =
            append.events.iter().map(|event| Ok((event.kind, text(event)?))).collect::<Result<_>>()?;
        let bytes = rows.iter().map(|(_, data)| data.len()).sum();
        let events = std::mem::take(&mut append.events);
        let (run_id, expected_seq) = (append.run_id.clone(), append.expected_seq);
        let last_seq = expected_seq + events.len() as u64;
        let (watchers, followed) = (Arc::clone(&self.db.watchers), run_id.clone());
        let work = move |conn: &Connection| insert(conn, &append, &rows);
        let t_ms = self.db.write_then(bytes, work, move |_| watchers.run_at(&followed, last_seq)).await?;
        Ok(log::records(&run_id, expected_seq, t_ms, events))
    }

    async fn read(&self, run_id: &RunId, from_seq: u64, limit: usize) -> Result<Vec<Record>> {
        let run_id = run_id.clone();
        self.db.read(move |conn| select(conn, &run_id, from_seq, log::page(limit, READ_RECORDS_MAX))).await
    }

    fn tail(&self, run_id: &RunId, from_seq: u64) -> Tail {
        Tail::new(Arc::new(self.clone()), self.db.watchers.run(run_id), run_id.clone(), from_seq)
    }

    async fn runs(&self, query: RunQuery) -> Result<Vec<RunRow>> {
        self.db.read(move |conn| list(conn, &query)).await
    }

    async fn run(&self, run_id: &RunId) -> Result<Option<RunRow>> {
        let run_id = run_id.clone();
        let one =
            move |conn: &Connection| Ok(rows(conn, "WHERE run_id = ?", vec![Sql::from(run_id.to_string())])?.pop());
        self.db.read(one).await
    }

    async fn claim(&self, run_id: &RunId, expected: Option<&str>, owner: &str) -> Result<bool> {
        let (run_id, expected, owner) = (run_id.clone(), expected.map(str::to_owned), owner.to_owned());
        let claim = move |conn: &Connection| {
            conn.prepare_cached("UPDATE runs SET owner = ?1 WHERE run_id = ?2 AND owner IS ?3")
                .and_then(|mut s| s.execute(params![owner, run_id.as_str(), expected]))
                .map_err(sql)
        };
        Ok(self.db.write(claim).await? == 1)
    }

    async fn remove_run(&self, run_id: &RunId) -> Result<bool> {
        // First the row, which is what everyone looks by; then the records, in pieces. What a crash leaves of them
        // is swept by the next removal.
        let id = run_id.clone();
        let (watchers, followed) = (Arc::clone(&self.db.watchers), run_id.clone());
        let hide = move |conn: &Connection| {
            let hidden = conn
                .execute("INSERT INTO runs_removed SELECT key FROM runs WHERE run_id = ?", [id.as_str()])
                .and_then(|_| conn.execute("DELETE FROM runs WHERE run_id = ?", [id.as_str()]))
                .map_err(sql)?;
            crate::state::forget_run(conn, &id)?;
            Ok(hidden == 1)
        };
        let removed = self.db.write_then(0, hide, move |_| watchers.run_at(&followed, 0)).await?;
        while self.db.write(sweep).await? {}
        Ok(removed)
    }
}

fn text(event: &Event) -> Result<String> {
    serde_json::to_string(&event.data).map_err(|error| {
        Error::invalid("event-data", format!("the data of a `{}` is not JSON: {error}", event.kind.as_str()))
    })
}

/// The append itself, inside a transaction; gives the time of its records.
fn insert(conn: &Connection, append: &Append, events: &[(EventKind, String)]) -> Result<u64> {
    let found = conn
        .prepare_cached("SELECT key, owner FROM runs WHERE run_id = ?")
        .and_then(|mut s| {
            s.query_row([append.run_id.as_str()], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<String>>(1)?)))
                .optional()
        })
        .map_err(sql)?;
    // Read again each time: another process may have written since, so nothing is remembered between transactions.
    let last = match &found {
        None => None,
        Some((key, _)) => conn
            .prepare_cached("SELECT seq, t_ms FROM records WHERE run = ? ORDER BY seq DESC LIMIT 1")
            .and_then(|mut s| s.query_row([key], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))).optional())
            .map_err(sql)?,
    };
    let (last_seq, last_t_ms) = last.unwrap_or((0, 0));
    log::check_place(append, uint(last_seq)?, found.as_ref().map(|(_, owner)| owner.as_deref()))?;
    let key = write_index(conn, append, found.map(|(key, _)| key))?;
    let t_ms = int(append.t_ms)?.max(last_t_ms);
    let mut statement = conn.prepare_cached("INSERT INTO records VALUES (?, ?, ?, ?, ?)").map_err(sql)?;
    for (seq, (kind, data)) in (last_seq + 1..).zip(events) {
        statement.execute(params![key, seq, t_ms, kind.as_str(), data]).map_err(sql)?;
    }
    uint(t_ms)
}

/// Writes the run's row as far as the append changes it, and gives the run's key.
fn write_index(conn: &Connection, append: &Append, key: Option<i64>) -> Result<i64> {
    let Some(index) = &append.index else {
        let key = key.ok_or_else(|| damaged("a run without a row"))?; // `check_place` refuses a first append without an index
        // An older program's run that this one writes on holds this one's form from now on.
        conn.prepare_cached("UPDATE runs SET format_version = ?1 WHERE key = ?2 AND format_version < ?1")
            .and_then(|mut s| s.execute(params![FORMAT_VERSION, key]))
            .map_err(sql)?;
        return Ok(key);
    };
    // Not one upsert: that would use up a key at each change.
    let mut statement = conn
        .prepare_cached(match key {
            None => {
                "INSERT INTO runs (run_id, format_version, profile, task_id, status, finish_reason, created_ms, updated_ms, owner, summary)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
            }
            Some(_) => {
                "UPDATE runs SET format_version = max(format_version, ?2), profile = ?3, task_id = ?4, status = ?5,
                     finish_reason = ?6, created_ms = ?7, updated_ms = ?8, owner = ?9, summary = ?10 WHERE run_id = ?1"
            }
        })
        .map_err(sql)?;
    let row = params![
        append.run_id.as_str(),
        FORMAT_VERSION,
        index.profile.as_str(),
        index.task_id,
        index.status,
        index.finish_reason,
        int(index.created_ms)?,
        int(index.updated_ms)?,
        index.owner,
        index.summary.to_string(),
    ];
    statement.execute(row).map_err(sql)?;
    Ok(key.unwrap_or_else(|| conn.last_insert_rowid()))
}

fn select(conn: &Connection, run_id: &RunId, from_seq: u64, limit: usize) -> Result<Vec<Record>> {
    let mut statement = conn
        .prepare_cached(
            "SELECT seq, t_ms, kind, data FROM records
             WHERE run = (SELECT key FROM runs WHERE run_id = ?) AND seq >= ? ORDER BY seq LIMIT ?",
        )
        .map_err(sql)?;
    let mut rows = statement.query(params![run_id.as_str(), int(from_seq)?, limit as i64]).map_err(sql)?;
    let (mut records, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next().map_err(sql)? {
        let (record, size) = record(run_id, row)?;
        records.push(record);
        bytes += size;
        if bytes >= READ_BYTES_MAX {
            break;
        }
    }
    Ok(records)
}

fn record(run_id: &RunId, row: &Row<'_>) -> Result<(Record, usize)> {
    let seq = uint(row.get(0).map_err(sql)?)?;
    let place = || format!("record {seq} of run `{run_id}`");
    let kind = row.get_ref(2).map_err(sql)?.as_str().map_err(|_| damaged(place()))?;
    // A kind that is unknown was not written by this version.
    let kind = EventKind::parse(kind).ok_or_else(|| {
        Error::unsupported(
            "store-newer",
            format!("{} has the unknown kind `{}`", place(), midplane_core::text::shown(kind, 40)),
        )
        .hint("use the newer `midplane` that wrote it")
    })?;
    let data = row.get_ref(3).map_err(sql)?.as_str().map_err(|_| damaged(place()))?;
    let t_ms = uint(row.get(1).map_err(sql)?)?;
    let map = serde_json::from_str(data).map_err(|error| damaged(format!("{}: {error}", place())))?;
    Ok((Record { run_id: run_id.clone(), seq, t_ms, kind, data: map }, data.len()))
}

fn list(conn: &Connection, query: &RunQuery) -> Result<Vec<RunRow>> {
    let mut holds = vec!["TRUE"];
    let mut values = Vec::new();
    let filters = [
        ("profile = ?", query.profile.as_ref().map(ToString::to_string)),
        ("status = ?", query.status.clone()),
        ("owner = ?", query.owner.clone()),
        ("run_id < ?", query.before.as_ref().map(ToString::to_string)),
    ];
    for (hold, value) in filters {
        if let Some(value) = value {
            holds.push(hold);
            values.push(Sql::from(value));
        }
    }
    if query.unfinished {
        holds.push("finish_reason IS NULL");
    }
    values.push(Sql::from(log::page(query.limit, RUNS_MAX) as i64));
    rows(conn, &format!("WHERE {} ORDER BY run_id DESC LIMIT ?", holds.join(" AND ")), values)
}

fn rows(conn: &Connection, rest: &str, values: Vec<Sql>) -> Result<Vec<RunRow>> {
    let statement = format!(
        "SELECT run_id, format_version, profile, task_id, status, finish_reason, created_ms, updated_ms, owner, summary,
             coalesce((SELECT max(seq) FROM records WHERE run = runs.key), 0) FROM runs {rest}"
    );
    let mut statement = conn.prepare_cached(&statement).map_err(sql)?;
    let mut rows = statement.query(rusqlite::params_from_iter(values)).map_err(sql)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(sql)? {
        found.push(run_row(row)?);
    }
    Ok(found)
}

fn run_row(row: &Row<'_>) -> Result<RunRow> {
    let text = |column: usize| row.get::<_, String>(column).map_err(sql);
    let number = |column: usize| uint(row.get(column).map_err(sql)?);
    let bad = |error: Error| damaged(error.message);
    let summary = text(9)?;
    Ok(RunRow {
        run_id: RunId::new(text(0)?).map_err(bad)?,
        format_version: row.get(1).map_err(sql)?,
        index: RunIndex {
            profile: ProfileName::new(text(2)?).map_err(bad)?,
            task_id: text(3)?,
            status: text(4)?,
            finish_reason: row.get(5).map_err(sql)?,
            created_ms: number(6)?,
            updated_ms: number(7)?,
            owner: row.get(8).map_err(sql)?,
            summary: serde_json::from_str(&summary).map_err(damaged)?,
        },
        last_seq: number(10)?,
    })
}

/// Removes some records of runs that are gone; says whether there may be more.
fn sweep(conn: &Connection) -> Result<bool> {
    let next =
        conn.query_row("SELECT min(key) FROM runs_removed", [], |row| row.get::<_, Option<i64>>(0)).map_err(sql)?;
    let Some(key) = next else { return Ok(false) };
    let swept = conn
        .execute(
            "DELETE FROM records WHERE run = ?1 AND seq < (SELECT min(seq) FROM records WHERE run = ?1) + ?2",
            params![key, SWEEP_RECORDS_MAX],
        )
        .map_err(sql)?;
    if swept == 0 {
        conn.execute("DELETE FROM runs_removed WHERE key = ?", [key]).map_err(sql)?;
    }
    Ok(true)
}
