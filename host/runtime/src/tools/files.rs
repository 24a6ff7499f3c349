//! What file tools work with: the folder, its bounds, and what the run changed in it.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cap_std::fs::{Dir, Metadata, MetadataExt, Permissions, PermissionsExt};
use cap_tempfile::TempFile;
use midplane_core::limits::Limits;
use midplane_core::redact::Redactor;
use midplane_core::{Error, Result};
use rustix::fs::{Mode, OFlags};

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

impl Entry {
    fn changes(&self) -> Vec<FileChange> {
        let one = |path: &str, change| FileChange { path: path.to_owned(), change };
        match self {
            Self::Changed(change) => vec![change.clone()],
            Self::MovedFolder { from, to } => vec![one(from, Change::Deleted), one(to, Change::Created)],
        }
    }
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
    /// The only folders that are changed, if there are some.
    only: Option<Vec<RelPath>>,
    journal: Mutex<Journal>,
}

#[derive(Default)]
struct Journal {
    entries: Vec<Entry>,
    /// How many of them the events have told.
    told: usize,
}

/// One act of a tool.
enum Entry {
    Changed(FileChange),
    /// A folder has another name, and with it all that is in it.
    MovedFolder {
        from: String,
        to: String,
    },
}

impl Files {
    pub(super) fn new(workspace: Arc<Workspace>, redactor: Redactor, limits: &Limits) -> Self {
        Self {
            workspace,
            redactor,
            file_bytes_max: limits.tool_file_bytes_max,
            answer_bytes_max: usize::try_from(limits.tool_answer_bytes_max).unwrap_or(usize::MAX),
            only: None,
            journal: Mutex::default(),
        }
    }

    /// The same with nothing changed outside of some folders.
    pub(super) fn only(self, only: Option<Vec<RelPath>>) -> Self {
        Self { only, ..self }
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
            let message = format!(
                "`{path}` would have {} bytes, more than the {} that a tool handles",
                content.len(),
                self.file_bytes_max
            );
            return Err(Error::limit("file-size", message));
        }
        let failed = |error: std::io::Error| path.failed(&error);
        self.changeable(path)?;
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
        let folder = self.dir().open_dir(parent.as_str()).map_err(|error| parent.failed(&error))?;
        let mut file = TempFile::new(&folder).map_err(failed)?;
        file.write_all(content).map_err(failed)?;
        if let Some(old) = &old {
            // Without setuid and setgid: new content must not inherit them.
            file.as_file().set_permissions(Permissions::from_mode(old.mode() & 0o777)).map_err(failed)?;
        }
        file.as_file().sync_all().map_err(failed)?;
        file.replace(name).map_err(failed)?;
        let _ = sync_folder(&folder);
        let change = if old.is_some() { Change::Modified } else { Change::Created };
        self.changed(real.as_str(), change);
        Ok(old.is_none())
    }

    /// Refuses to change what is in a `.git` folder, by whatever links it is reached: its hooks and configuration name
    /// programs that the operator's own git runs, outside of every sandbox. Nothing else in a workspace does.
    pub(super) fn changeable(&self, path: &RelPath) -> Result<()> {
        let is_git = |path: &Path| path.iter().any(|part| part.eq_ignore_ascii_case(".git"));
        let there = Path::new(path.as_str())
            .ancestors()
            .filter(|part| !part.as_os_str().is_empty())
            .find_map(|part| self.dir().canonicalize(part).ok());
        if is_git(Path::new(path.as_str())) || there.is_some_and(|there| is_git(&there)) {
            return Err(Error::denied(
                "git-folder",
                format!("`{path}` is in a `.git` folder, which file tools do not change"),
            )
            .hint("use git itself, through `shell`, where that is granted"));
        }
        self.in_write_paths(path)
    }

    /// Refuses what is not in one of the write paths, both by the place where it is and by where it leads, if it is a link.
    fn in_write_paths(&self, path: &RelPath) -> Result<()> {
        let Some(only) = &self.only else { return Ok(()) };
        let inside = |real: &Path| only.iter().any(|folder| folder.is_root() || real.starts_with(folder.as_str()));
        let (leads, lies) = (self.real(path), path.split().map(|(parent, name)| self.real(&parent).join(name)));
        if inside(&leads) && lies.is_none_or(|lies| inside(&lies)) {
            return Ok(());
        }
        let listed: Vec<String> = only.iter().map(|folder| format!("`{folder}`")).collect();
        Err(Error::denied("write-path", format!("`{path}` is in no folder that this session may change"))
            .hint(format!("it may change {}", if listed.is_empty() { "none".to_owned() } else { listed.join(", ") })))
    }

    /// Where a path really is: links followed as far as there is something.
    fn real(&self, path: &RelPath) -> PathBuf {
        let path = Path::new(path.as_str());
        let there = path.ancestors().filter(|part| !part.as_os_str().is_empty());
        let found = there.into_iter().find_map(|part| {
            let rest = path.strip_prefix(part).ok()?;
            Some(self.dir().canonicalize(part).ok()?.join(rest))
        });
        found.unwrap_or_else(|| path.to_owned())
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

    /// Makes a folder and those on the way to it, where they are missing.
    pub(super) fn make_folder(&self, path: &RelPath) -> Result<()> {
        self.changeable(path)?;
        self.dir().create_dir_all(path.as_str()).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => Error::conflict("not-a-folder", format!("`{path}` is not a folder")),
            _ => path.failed(&error),
        })
    }

    /// Notes a change, for the events and for the list at the end of the run.
    pub(super) fn changed(&self, path: &str, change: Change) {
        self.journal().entries.push(Entry::Changed(FileChange { path: path.to_owned(), change }));
    }

    /// Notes that a folder was moved.
    pub(super) fn moved_folder(&self, from: &str, to: &str) {
        self.journal().entries.push(Entry::MovedFolder { from: from.to_owned(), to: to.to_owned() });
    }

    /// The changes that were not told yet, in order.
    pub(super) fn untold(&self) -> Vec<FileChange> {
        let mut journal = self.journal();
        let untold = journal.entries[journal.told..].iter().flat_map(Entry::changes).collect();
        journal.told = journal.entries.len();
        untold
    }

    /// The changes of the run by path: what came of several changes of one file.
    pub(super) fn changes(&self) -> Vec<FileChange> {
        let mut by_path: BTreeMap<String, Change> = BTreeMap::new();
        for entry in &self.journal().entries {
            if let Entry::MovedFolder { from, to } = entry {
                // What the run had made in it is now made in the other place, and nothing is deleted by that.
                let inside = format!("{from}/");
                let moved: Vec<String> = by_path.keys().filter(|path| path.starts_with(&inside)).cloned().collect();
                for path in moved {
                    let change = by_path.remove(&path);
                    let kept = change.filter(|change| *change != Change::Deleted).map(|_| Change::Created);
                    by_path.extend(kept.map(|change| (format!("{to}/{}", &path[inside.len()..]), change)));
                }
            }
            for FileChange { path, change } in entry.changes() {
                let before = by_path.remove(&path);
                let now = match (before, change) {
                    (Some(Change::Created), Change::Deleted) => None,
                    (Some(Change::Created), _) => Some(Change::Created),
                    (Some(Change::Deleted), Change::Created) => Some(Change::Modified),
                    (_, change) => Some(change),
                };
                by_path.extend(now.map(|change| (path, change)));
            }
        }
        by_path.into_iter().map(|(path, change)| FileChange { path, change }).collect()
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

/// Makes a rename durable. Not every file system can, so callers go on without; the content itself is safe before.
pub(super) fn sync_folder(folder: &Dir) -> std::io::Result<()> {
    // Opened once more, because the descriptor of a `Dir` is one for paths alone, which cannot be synced.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(folder, ".", flags, Mode::empty())?;
    Ok(rustix::fs::fsync(folder)?)
}
