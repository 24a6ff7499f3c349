//! Which process drives a run, seen from the others: each holds an operating system lock on a file of its own.
//!
//! A lock of the operating system ends with its process, however that ends, and needs no heartbeat: a run is unfinished
//! and *lost* exactly when it names an owner whose lock is free.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use midplane_core::{Error, Result};

/// This process, as owner of runs.
#[derive(Debug)]
pub(crate) struct Owner {
    id: String,
    folder: PathBuf,
    /// Held as long as the process lives.
    _lock: File,
}

/// The lock of an owner that is gone, held while its runs are closed, so that two processes do not both do it.
#[derive(Debug)]
pub(crate) struct Gone {
    path: PathBuf,
    _lock: File,
}

impl Owner {
    /// Becomes an owner under an id that nobody has.
    pub(crate) fn new(folder: &Path, id: String) -> Result<Self> {
        crate::helper::private_folder(folder)?;
        let path = folder.join(&id);
        let failed = |error: &dyn std::fmt::Display| {
            Error::unavailable("owner", format!("`{}` cannot be locked: {error}", path.display()))
        };
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(|error| failed(&error))?;
        lock.try_lock().map_err(|error| failed(&error))?;
        Ok(Self { id, folder: folder.to_owned(), _lock: lock })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Whether another owner is gone, and then its lock.
    pub(crate) fn gone(&self, other: &str) -> Option<Gone> {
        if other == self.id || !is_id(other) {
            return None;
        }
        let path = self.folder.join(other);
        // Made again where it is missing: without the file nobody can hold its lock, and with it nobody else closes too.
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path).ok()?;
        match lock.try_lock() {
            Ok(()) => Some(Gone { path, _lock: lock }),
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => None,
        }
    }

    /// Ids of all owners whose files are there.
    pub(crate) fn all(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return Vec::new() };
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).filter(|name| is_id(name)).collect()
    }
}

impl Gone {
    /// Nothing names it any more.
    pub(crate) fn forget(self) {
        // If it stays it is found free again, and has no runs.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // A clean end leaves no file behind; one that stays is found free.
        let _ = std::fs::remove_file(self.folder.join(&self.id));
    }
}

/// The form of an owner's id; what has another is no file of ours.
fn is_id(name: &str) -> bool {
    name.len() == 26 && name.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_tells_who_lives() {
        let folder = tempfile::tempdir().expect("folder");
        let id = |n: char| std::iter::repeat_n(n, 26).collect::<String>();
        let one = Owner::new(folder.path(), id('a')).expect("one");
        let two = Owner::new(folder.path(), id('b')).expect("two");
        // The lock belongs to the open file, so two owners in one process are as good as two processes.
        assert!(one.gone(two.id()).is_none());
        assert!(one.gone("../../etc/passwd").is_none());
        assert!(Owner::new(folder.path(), id('a')).is_err());
        drop(two);
        assert!(one.gone(&id('b')).is_some());
        assert_eq!(one.all().len(), 2);
        one.gone(&id('b')).expect("gone").forget();
        assert_eq!(one.all(), [id('a')]);
    }
}
