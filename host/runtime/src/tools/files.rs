//! What file tools work with: the folder, its bounds, and what the run changed in it.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cap_std::fs::{Dir, Metadata, MetadataExt, Permissions, PermissionsExt};
use cap_tempfile::TempFile;
use midplane_core::limits::Limits;
use midplane_core::redact::Redactor;
use midplane_core::{Error, Result};

use crate::workspace::{RelPath, Workspace, read_file, regular};

/// How a file was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It was not there before.
    Created,
    /// It was there, with other content.
    Modified,
    /// It is not there any more.
    Deleted,
}

impl Change {
    /// The word in a `file_change`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Modified => "modified",
            Self::Deleted => "deleted",
        }
    }
}

/// One file that the run changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileChange {
    /// Its path in the workspace. A folder that was moved is named by itself, not by what is in it.
    pub(crate) path: String,
    /// How.
    pub(crate) change: Change,
}

/// The workspace as file tools see it.
pub(super) struct Files {
    workspace: Arc<Workspace>,
    /// Hides live secret values. A tool applies it *before* it cuts or searches, else a part would pass unseen.
    pub(super) redactor: Redactor,
    /// Bytes of a file that a tool reads or writes.
    pub(super) file_bytes_max: u64,
    /// Bytes of an answer.
    pub(super) answer_bytes_max: usize,
    journal: Mutex<Journal>,
}

#[derive(Default)]
struct Journal {
    changes: Vec<FileChange>,
    /// How many of them the events have told.
    told: usize,
}

impl Files {
    pub(super) fn new(workspace: Arc<Workspace>, redactor: Redactor, limits: &Limits) -> Self {
        Self {
            workspace,
            redactor,
            file_bytes_max: limits.tool_file_bytes_max,
            answer_bytes_max: usize::try_from(limits.tool_answer_bytes_max).unwrap_or(usize::MAX),
            journal: Mutex::default(),
        }
    }

    pub(super) fn dir(&self) -> &Dir {
        self.workspace.dir()
    }

    pub(super) fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// A whole file.
    pub(super) fn read(&self, path: &RelPath) -> Result<(Vec<u8>, Metadata)> {
        read_file(self.dir(), path, self.file_bytes_max)
    }

    /// A whole file as text. Errors name what it is instead.
    pub(super) fn read_text(&self, path: &RelPath) -> Result<(String, Metadata)> {
        let (content, metadata) = self.read(path)?;
        let size = content.len();
        if content.contains(&0) {
            return Err(Error::invalid("binary", format!("`{path}` is a binary file of {size} bytes")));
        }
        let text = String::from_utf8(content).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Error::invalid("binary", format!("`{path}` is not UTF-8 text: byte {at} of {size} begins no character"))
        })?;
        Ok((text, metadata))
    }

    /// Writes a file as a whole, or not at all, and notes the change. Gives whether it is new.
    ///
    /// A symbolic link stays one: what it points at is written. The mode of a file that was there is kept, and one that
    /// nobody may write is left alone, as an editor would.
    pub(super) fn write(&self, path: &RelPath, content: &[u8]) -> Result<bool> {
        if content.len() as u64 > self.file_bytes_max {
            let message = format!("`{path}` would have {} bytes, more than the {} that a tool handles", content.len(), self.file_bytes_max);
            return Err(Error::limit("file-size", message));
        }
        let failed = |error: std::io::Error| path.failed(&error);
        let real = self.through_links(path)?;
        let (parent, name) = real.split().ok_or_else(|| Error::invalid("not-a-file", "`.` is a folder"))?;
        let old = match self.dir().symlink_metadata(real.as_str()) {
            Ok(metadata) => {
                regular(path, &metadata)?;
                if metadata.mode() & 0o222 == 0 {
                    return Err(Error::denied("file-mode", format!("`{path}` is marked read-only")));
                }
                Some(metadata)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        let folder = self.dir().open_dir(parent.as_str()).map_err(failed)?;
        let mut file = TempFile::new(&folder).map_err(failed)?;
        file.write_all(content).map_err(failed)?;
        if let Some(old) = &old {
            // Without setuid and setgid: new content must not inherit them.
            file.as_file().set_permissions(Permissions::from_mode(old.mode() & 0o777)).map_err(failed)?;
        }
        file.as_file().sync_all().map_err(failed)?;
        file.replace(name).map_err(failed)?;
        sync_folder(&folder);
        let change = if old.is_some() { Change::Modified } else { Change::Created };
        self.changed(real.as_str(), change);
        Ok(old.is_none())
    }

    /// The path with the links resolved that its last part goes through; a link to nothing is refused.
    fn through_links(&self, path: &RelPath) -> Result<RelPath> {
        let is_link = self.dir().symlink_metadata(path.as_str()).is_ok_and(|metadata| metadata.is_symlink());
        if !is_link {
            return Ok(path.clone());
        }
        let real = self.dir().canonicalize(path.as_str()).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Error::invalid("not-a-file", format!("`{path}` is a symbolic link to something that does not exist"))
            }
            _ => path.failed(&error),
        })?;
        RelPath::parse(&text_of(&real))
    }

    /// Notes a change, for the events and for the list at the end of the run.
    pub(super) fn changed(&self, path: &str, change: Change) {
        self.journal().changes.push(FileChange { path: path.to_owned(), change });
    }

    /// The changes that were not told yet, in order.
    pub(super) fn untold(&self) -> Vec<FileChange> {
        let mut journal = self.journal();
        let untold = journal.changes[journal.told..].to_vec();
        journal.told = journal.changes.len();
        untold
    }

    /// The changes of the run by path: what came of several changes of one file.
    pub(super) fn changes(&self) -> Vec<FileChange> {
        let mut by_path: BTreeMap<String, Option<Change>> = BTreeMap::new();
        for FileChange { path, change } in &self.journal().changes {
            let before = by_path.get(path).copied().flatten();
            let now = match (before, change) {
                (Some(Change::Created), Change::Deleted) => None,
                (Some(Change::Created), _) => Some(Change::Created),
                (Some(Change::Deleted), Change::Created) => Some(Change::Modified),
                (_, change) => Some(*change),
            };
            by_path.insert(path.clone(), now);
        }
        by_path.into_iter().filter_map(|(path, change)| change.map(|change| FileChange { path, change })).collect()
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        // Nothing panics while it is held.
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A path as text; a name that is not UTF-8 shows where, and cannot be used to reach the file.
pub(super) fn text_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Makes a rename durable. Not every file system can; the file itself is safe before.
pub(super) fn sync_folder(folder: &Dir) {
    if let Ok(folder) = folder.try_clone() {
        let _ = folder.into_std_file().sync_all();
    }
}
