//! What SQLite says, as the one error of the libraries. SQL and file names inside messages stay out of user text.

use std::io;
use std::path::Path;

use midplane_core::{Error, Result};
use rusqlite::ErrorCode;

/// A failure of a statement. Whatever it is, the transaction around it is undone.
pub(crate) fn sql(error: rusqlite::Error) -> Error {
    let busy = || {
        Error::unavailable("store-busy", "another process holds the store")
            .hint("try again; if it lasts, look for a `midplane` process that hangs")
            .retry_after_ms(100)
    };
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => busy(),
        Some(ErrorCode::DiskFull) => disk(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => damaged(error),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            Error::denied("store-permission", format!("the store cannot be opened or written: {error}"))
                .hint("give this user read and write access to the store's folder and its files")
        }
        Some(ErrorCode::SystemIoFailure) => {
            Error::unavailable("store-io", format!("reading or writing the store failed: {error}"))
        }
        _ => Error::internal("store", format!("the store failed: {error}")),
    }
}

/// A failure of `COMMIT` itself. After an I/O error nobody knows whether the commit reached the disk: it may be found
/// there after a crash.
pub(crate) fn commit(error: rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(ErrorCode::SystemIoFailure) => {
            Error::uncertain("store-commit", format!("it is not known whether the change is on disk: {error}"))
        }
        _ => sql(error),
    }
}

/// How every message about damage begins.
pub(crate) const DAMAGED: &str = "the database is damaged: ";

/// What to do about damage, in one sentence.
pub(crate) const DAMAGED_HINT: &str = "nothing was changed; put a copy back, or move the file away to start anew";

/// A failure of the file system.
pub(crate) fn file(what: &str, path: &Path, error: &io::Error) -> Error {
    let message = format!("cannot {what} `{}`: {error}", path.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => disk(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Error::denied("store-permission", message)
                .hint("give this user read and write access to the store's folder and its files")
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => Error::invalid("store-path", message)
            .hint("the store is a folder; name one, or a path where one can be made"),
        _ => Error::unavailable("store-io", message),
    }
}

/// Damage: what SQLite found, or a value that the store itself wrote and cannot read back.
pub(crate) fn damaged(what: impl std::fmt::Display) -> Error {
    Error::internal("store-damaged", format!("{DAMAGED}{what}")).hint(DAMAGED_HINT)
}

/// A number as SQLite stores it.
pub(crate) fn int(number: u64) -> Result<i64> {
    i64::try_from(number)
        .map_err(|_| Error::invalid("number-range", format!("{number} is more than the store can hold")))
}

/// A number that [`int`] stored.
pub(crate) fn uint(number: i64) -> Result<u64> {
    u64::try_from(number).map_err(|_| damaged(format!("a negative number, {number}")))
}

fn disk() -> Error {
    Error::limit("disk", "the disk is full").hint("free some space, for instance with `midplane runs prune`")
}
