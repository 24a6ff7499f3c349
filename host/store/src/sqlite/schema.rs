//! Opening: who may, what is refused, and how a database comes to the version of this program.
//!
//! ```text
//!  no file ──► made beside, complete ──► renamed into place ─┐
//!  file ──► ours? ──► not newer? ──► migrate ──► whole? ─────┴──► connection
//!             └── no ──────┴── no ───────────────── no ──► refused, its bytes as they were
//! ```
//! All of it happens under a file lock of the folder, so that several processes can open at once. Since a new database
//! is complete before it has its name, an empty file under that name is always damage and never "new".
//!
//! How damage is looked for: SQLite itself refuses what has no header or is shorter than the header says; the tables
//! are compared with those that the migrations make; and a file of up to [`CHECKED_BYTES_MAX`] is checked in full, which
//! takes milliseconds. A larger one is not, since a command must start at once and a full check reads every page:
//! damage in it is reported by the statement that meets it, and `Store::check` looks at everything on request.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use midplane_core::{Error, ErrorKind, Result};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::error::{self, sql};

/// Name of the database in the store's folder.
pub(crate) const FILE: &str = "midplane.db";

/// Marks a SQLite file as one of this program: `MPLN`.
pub(crate) const APPLICATION_ID: i64 = 0x4d50_4c4e;

/// Step `n` brings version `n` to `n + 1`.
const MIGRATIONS: [&str; 2] = [include_str!("v1.sql"), include_str!("v2.sql")];

/// The version that this program reads and writes.
pub(crate) const VERSION: i64 = MIGRATIONS.len() as i64;

/// Files up to this size are checked in full when they are opened.
const CHECKED_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How often a locked database is tried again, a millisecond apart, before `store-busy`.
pub(crate) const BUSY_TRIES_MAX: i32 = 10_000;

/// The connection that writes, and how patient it is with locks.
pub(crate) struct Writable {
    pub(crate) conn: Connection,
    /// Tries of the busy handler, so that a checkpoint can be less patient than a commit.
    pub(crate) patience: Arc<AtomicI32>,
}

/// Opens the database of a folder for writing, makes folder and database if there are none, and migrates.
pub(crate) fn open(dir: &Path) -> Result<Writable> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| error::file("make", dir, &e))?;
    let lock_path = dir.join("midplane.lock");
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&lock_path)
        .map_err(|e| error::file("write", &lock_path, &e))?;
    // Held until this function returns: the file is closed then, and the system lets the lock go even after a crash.
    lock.lock().map_err(|e| error::file("lock", &lock_path, &e))?;

    let path = dir.join(FILE);
    match fs::metadata(&path) {
        Ok(found) if found.is_file() && found.len() > 0 => {}
        Ok(found) if found.is_file() => return Err(refused(&path, "it is empty")),
        Ok(_) => return Err(refused(&path, "it is not a file")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => create(dir, &path)?,
        Err(e) => return Err(error::file("read", &path, &e)),
    }
    // Nothing here opens the file by itself: closing such a handle would drop the locks of every other connection that
    // this process has on it (POSIX locks belong to process and file).
    let writable = connect(&path)?;
    prepare(&writable.conn, &path).map_err(|error| match error.kind {
        // Damage that SQLite found is a wrong input here, not a defect of the store.
        ErrorKind::Internal if error.code == "store-damaged" => refused(&path, &error.message),
        _ => error,
    })?;
    Ok(writable)
}

/// Takes an existing database into use, or refuses it.
fn prepare(conn: &Connection, path: &Path) -> Result<()> {
    accept(conn, path)?;
    configure(conn).map_err(sql)?;
    migrate(conn)?;
    whole(conn, path)?;
    // From here on the last connection to close leaves one tidy file.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(sql)?;
    Ok(())
}

/// A private database in memory, with the same tables.
pub(crate) fn memory() -> Result<Writable> {
    let conn = Connection::open_in_memory().map_err(sql)?;
    conn.pragma_update(None, "foreign_keys", true).map_err(sql)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    migrate(&conn)?;
    Ok(Writable { conn, patience: Arc::new(AtomicI32::new(BUSY_TRIES_MAX)) })
}

/// A connection that only reads.
pub(crate) fn reader(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(sql)?;
    conn.busy_timeout(Duration::from_secs(10)).map_err(sql)?;
    conn.execute_batch("PRAGMA cache_size = -2048; PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF")
        .map_err(sql)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(conn)
}

/// Reads every page and says what is wrong, if anything.
pub(crate) fn check(conn: &Connection) -> Result<()> {
    let verdict: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(sql)?;
    // What is wrong comes last, below a heading.
    if verdict == "ok" { Ok(()) } else { Err(error::damaged(verdict.lines().last().unwrap_or_default())) }
}

/// Refuses to go on in a database that a newer program has migrated meanwhile. Called inside each transaction.
pub(crate) fn still_ours(conn: &Connection) -> Result<()> {
    let found: i64 =
        conn.prepare_cached("PRAGMA user_version").and_then(|mut s| s.query_row([], |row| row.get(0))).map_err(sql)?;
    if found == VERSION { Ok(()) } else { Err(newer(found)) }
}

/// Statements that a connection keeps prepared: about as many as there are.
const STATEMENTS: usize = 64;

/// Makes a complete database under another name and renames it. The lock is held, so nobody else does the same.
fn create(dir: &Path, path: &Path) -> Result<()> {
    if fs::metadata(dir.join(format!("{FILE}-wal"))).is_ok_and(|found| found.len() > 0) {
        return Err(refused(path, "it is gone, but its journal is still there"));
    }
    let making = dir.join(format!("{FILE}.new"));
    for leftover in ["", "-wal", "-shm", "-journal"] {
        // What a killed process left behind; that there is none is the normal case.
        let _ = fs::remove_file(dir.join(format!("{FILE}.new{leftover}")));
    }
    let file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&making)
        .map_err(|e| error::file("write", &making, &e))?;
    drop(file);
    let writable = connect(&making)?;
    let conn = &writable.conn;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(sql)?;
    conn.pragma_update(None, "application_id", APPLICATION_ID).map_err(sql)?;
    configure(conn).map_err(sql)?;
    migrate(conn)?;
    // Closing writes all of it into the one file; a failure here would otherwise go unseen.
    writable.conn.close().map_err(|(_, e)| sql(e))?;
    File::open(&making).and_then(|file| file.sync_all()).map_err(|e| error::file("write", &making, &e))?;
    fs::rename(&making, path).map_err(|e| error::file("make", path, &e))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| error::file("write", dir, &e))
}

fn connect(path: &Path) -> Result<Writable> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = Connection::open_with_flags(path, flags).map_err(sql)?;
    // A database that will be refused is left as it is, its journal too.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(sql)?;
    let patience = Arc::new(AtomicI32::new(BUSY_TRIES_MAX));
    let tries_max = Arc::clone(&patience);
    // SQLite's own handler sleeps up to 100 ms between tries and can starve beside a process that commits without
    // a pause; a millisecond finds its gaps.
    conn.busy_handler(Some(move |tries| {
        std::thread::sleep(Duration::from_millis(1));
        tries < tries_max.load(Ordering::Relaxed)
    }))
    .map_err(sql)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(Writable { conn, patience })
}

/// Whether it is a database of this program that this program can read. Writes nothing.
fn accept(conn: &Connection, path: &Path) -> Result<()> {
    if conn.is_readonly("main").map_err(sql)? {
        return Err(Error::denied("store-permission", format!("`{}` is read-only", path.display()))
            .hint("give this user read and write access to the store's folder and its files"));
    }
    let number =
        |pragma: &str| conn.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0)).map_err(sql);
    // The first statement that reads: no header, or fewer pages than the header says, ends here.
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(sql)?;
    if number("application_id")? != APPLICATION_ID {
        let what = if tables > 0 { "it belongs to another program" } else { "it was not made by this program" };
        return Err(refused(path, what));
    }
    let found = number("user_version")?;
    if found > VERSION {
        return Err(newer(found));
    }
    if found < 0 {
        return Err(refused(path, &format!("its version is {found}")));
    }
    Ok(())
}

fn configure(conn: &Connection) -> rusqlite::Result<()> {
    let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    // Some network file systems have no shared memory and silently stay with another mode.
    if mode != "wal" {
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN),
            Some(format!("write-ahead logging is not possible here, only `{mode}`")),
        ));
    }
    conn.execute_batch(
        "PRAGMA synchronous = FULL;
         PRAGMA fullfsync = ON;
         PRAGMA checkpoint_fullfsync = ON;
         PRAGMA foreign_keys = ON;
         PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -16384;
         PRAGMA cell_size_check = ON;
         PRAGMA trusted_schema = OFF;
         PRAGMA wal_autocheckpoint = 4096;
         PRAGMA journal_size_limit = 67108864;",
    )
}

/// Brings it to [`VERSION`], all steps in one transaction.
fn migrate(conn: &Connection) -> Result<()> {
    let version = || conn.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0)).map_err(sql);
    if version()? == VERSION {
        return Ok(());
    }
    conn.execute_batch("BEGIN IMMEDIATE").map_err(sql)?;
    let steps = || {
        // Again, now that nobody else can write: an older program without the lock may have been here first.
        let from = usize::try_from(version()?).unwrap_or(0);
        for step in MIGRATIONS.iter().skip(from) {
            conn.execute_batch(step).map_err(sql)?;
        }
        conn.pragma_update(None, "user_version", VERSION).map_err(sql)?;
        conn.execute_batch("COMMIT").map_err(error::commit)
    };
    steps().inspect_err(|_| {
        if !conn.is_autocommit() {
            // The error that led here is the one to report.
            let _ = conn.execute_batch("ROLLBACK");
        }
    })
}

/// Whether all is there that the migrations make, and, if it is small, whether it is sound.
fn whole(conn: &Connection, path: &Path) -> Result<()> {
    let tables = |conn: &Connection| {
        let mut statement = conn.prepare("SELECT name, coalesce(sql, '') FROM sqlite_schema ORDER BY name")?;
        statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<Vec<(String, String)>>>()
    };
    if tables(conn).map_err(sql)? != tables(&memory()?.conn).map_err(sql)? {
        return Err(refused(path, "its tables are not those of its version"));
    }
    match fs::metadata(path) {
        Ok(found) if found.len() <= CHECKED_BYTES_MAX => check(conn),
        _ => Ok(()),
    }
}

fn refused(path: &Path, why: &str) -> Error {
    let why = why.strip_prefix(error::DAMAGED).unwrap_or(why);
    Error::new(ErrorKind::Invalid, "store-damaged", format!("`{}` is not a sound store: {why}", path.display()))
        .hint(error::DAMAGED_HINT)
}

fn newer(found: i64) -> Error {
    Error::unsupported(
        "store-newer",
        format!("the store has version {found}, and this program knows versions up to {VERSION}"),
    )
    .hint("use the newer `midplane` that wrote it; nothing was changed")
}
