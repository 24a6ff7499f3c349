//! The folders of a session, and what a call within it is kept to.
//!
//! ```text
//! <state>/sessions/<id>/             mode 0700
//!         ├── session.json           what the session is; its state is in the store
//!         ├── home/                  HOME of all that runs in it, with XDG folders and TMPDIR
//!         └── workspace/             the folder to work in, unless the operator named one of his own
//! ```
//! # What it never does
//! It follows no link that something in the session made: not out of the workspace when a write path is opened, not when all of it
//! is removed. It removes no folder that the operator named.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use midplane_core::session::Session;
use midplane_core::session::reach::{Reach, WritePath};
use midplane_core::text::shown;
use midplane_core::{Error, ProfileName, Result};

use super::proxy::Proxy;
use crate::helper::{private_folder, write_whole};
use crate::workspace::{RelPath, Workspace};

/// The record of a session.
const RECORD: &str = "session.json";
/// The largest record that is read, in bytes.
const RECORD_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The home of what runs in it.
const HOME: &str = "home";
/// The folder to work in.
const WORKSPACE: &str = "workspace";

/// A session, as what runs in it is kept to it.
pub(crate) struct Within {
    /// The home of its programs.
    pub(crate) home: PathBuf,
    /// Where adapters keep their state for it: no other session's, nor the profile's own.
    pub(crate) kv: ProfileName,
    /// What may be reached.
    pub(crate) reach: Reach,
    /// What programs may change beside their home and the workspace as a whole.
    pub(crate) write: Vec<PathBuf>,
    /// The only folders of the workspace that file tools change, if there are some.
    pub(crate) tools: Option<Vec<RelPath>>,
    /// The way to the listed domains for programs, where there is a list.
    pub(crate) proxy: Option<Proxy>,
}

/// The folders of one session.
#[derive(Debug, Clone)]
pub(crate) struct Ground {
    folder: PathBuf,
}

impl Ground {
    pub(crate) fn new(sessions: &Path, id: &str) -> Self {
        Self { folder: sessions.join(id) }
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.folder.join(HOME)
    }

    pub(crate) fn workspace(&self) -> PathBuf {
        self.folder.join(WORKSPACE)
    }

    /// Makes the folders of a session, write paths in its workspace included, and last its record.
    pub(crate) fn make(&self, session: &Session) -> Result<()> {
        private_folder(&self.home())?;
        if session.own_workspace {
            private_folder(&self.workspace())?;
        }
        open_paths(&Workspace::open(Path::new(&session.workspace))?, &session.reach)?;
        self.write(session)
    }

    /// Writes the record, whole or not at all.
    pub(crate) fn write(&self, session: &Session) -> Result<()> {
        let text = serde_json::to_vec_pretty(session)
            .map_err(|error| Error::internal("session", format!("a session cannot be written: {error}")))?;
        write_whole(&self.folder.join(RECORD), &text)
    }

    /// Reads the record; none if there is none. `session-incomplete` for one that is damaged.
    pub(crate) fn read(&self) -> Result<Option<Session>> {
        let path = self.folder.join(RECORD);
        let damaged = |why: &dyn std::fmt::Display| {
            Error::conflict("session-incomplete", format!("the record of the session cannot be read: {why}"))
                .hint("destroy the session and start another one")
        };
        let file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(damaged(&error)),
        };
        let mut text = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(file, RECORD_BYTES_MAX), &mut text)
            .map_err(|error| damaged(&error))?;
        serde_json::from_slice(&text).map(Some).map_err(|error| damaged(&error))
    }

    /// What a call within the session is kept to. The proxy is the caller's to add.
    pub(crate) fn within(&self, id: &str, session: &Session) -> Result<Within> {
        let workspace = Workspace::open(Path::new(&session.workspace))?;
        let (write, tools) = open_paths(&workspace, &session.reach)?;
        Ok(Within { home: self.home(), kv: kv(id)?, reach: session.reach.clone(), write, tools, proxy: None })
    }

    /// Removes all of it. Fine also where nothing is left.
    pub(crate) fn remove(&self) -> Result<()> {
        let failed = |error: io::Error| {
            Error::unavailable("folder", format!("`{}` cannot be removed: {error}", self.folder.display()))
        };
        match remove(&self.folder) {
            // A folder that nobody may enter or write: its owner may again.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let dir = Dir::open_ambient_dir(&self.folder, ambient_authority()).map_err(failed)?;
                unlock(&dir, 0);
                remove(&self.folder).map_err(failed)
            }
            other => other.map_err(failed),
        }
    }
}

/// The namespace of a session in the store; no profile of that name can be meant, since ids are random.
pub(crate) fn kv(id: &str) -> Result<ProfileName> {
    ProfileName::new(format!("session-{id}"))
}

/// The standard library's removal opens folders without following links, and takes a link away instead of going through it.
fn remove(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Lets the owner into all folders below one. Through open folders, so that no link leads out; what fails shows when it is
/// removed.
fn unlock(dir: &Dir, depth: usize) {
    /// Deeper than any path can name.
    const DEPTH_MAX: usize = 2_048;
    let open = |entry: &cap_std::fs::DirEntry| {
        let is_folder = entry.file_type().is_ok_and(|of| of.is_dir());
        is_folder.then(|| entry.file_name())
    };
    for name in dir.entries().into_iter().flatten().flatten().filter_map(|entry| open(&entry)) {
        let mode = cap_std::fs::Permissions::from_std(std::fs::Permissions::from_mode(0o700));
        let _ = dir.set_permissions(&name, mode);
        if let (Ok(below), true) = (dir.open_dir(&name), depth < DEPTH_MAX) {
            unlock(&below, depth + 1);
        }
    }
}

/// The write paths of a session as they are now: for programs, and for file tools if not all of the workspace is theirs. Missing
/// folders of the workspace are made. A link that was put in the place of one leads nowhere outside.
fn open_paths(workspace: &Workspace, reach: &Reach) -> Result<(Vec<PathBuf>, Option<Vec<RelPath>>)> {
    let (mut write, mut tools) = (Vec::new(), Vec::new());
    for path in &reach.write {
        match path {
            WritePath::Inside(path) => {
                let relative = RelPath::parse(path)?;
                if !relative.is_root() {
                    workspace.dir().create_dir_all(path).map_err(|error| no_folder(path, &relative.failed(&error)))?;
                }
                write.push(workspace.folder_for_child(path).map_err(|error| no_folder(path, &error))?);
                tools.push(relative);
            }
            WritePath::Outside(path) => write.push(outside(path.as_str())?),
        }
    }
    Ok((write, (!reach.writes_all()).then_some(tools)))
}

fn outside(path: &str) -> Result<PathBuf> {
    let real = Path::new(path).canonicalize().map_err(|error| no_folder(path, &error))?;
    if real.is_dir() { Ok(real) } else { Err(no_folder(path, &"it is no folder")) }
}

/// A folder that the operator named, without links, and not one that holds state of this host or is a part of it.
pub(crate) fn operators_folder(path: &str, state: &[PathBuf]) -> Result<PathBuf> {
    let real = outside(path)?;
    for own in state.iter().filter_map(|own| own.canonicalize().ok()) {
        if own.starts_with(&real) {
            return Err(no_folder(path, &"it holds the state of this host, which nothing that runs may change"));
        }
    }
    Ok(real)
}

fn no_folder(path: &str, why: &dyn std::fmt::Display) -> Error {
    Error::invalid("session-folder", format!("`{}` cannot be a folder of a session: {why}", shown(path, 200)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::symlink;

    use super::*;
    use midplane_core::deploy::record::{AgentType, SessionConstraints, SessionMode};

    fn session(workspace: &Path, write: &[&str]) -> Session {
        let write = write.iter().map(|path| WritePath::parse(path).unwrap()).collect();
        Session {
            name: None,
            agent: AgentType::Custom,
            mode: SessionMode::Interactive,
            profile: None,
            workspace: workspace.to_str().unwrap().to_owned(),
            own_workspace: true,
            prompt: None,
            constraints: SessionConstraints::default(),
            reach: Reach { domains: None, write, ports: BTreeSet::new(), timeout_ms: 1, network: true },
            created_ms: 1,
            last_run: None,
            conversation: None,
        }
    }

    #[test]
    fn a_session_is_made_read_and_removed_without_a_trace() {
        let folder = tempfile::tempdir().unwrap();
        let (sessions, other) = (folder.path().join("sessions"), folder.path().join("other"));
        std::fs::create_dir(&other).unwrap();
        std::fs::write(other.join("kept"), "kept").unwrap();
        let ground = Ground::new(&sessions, "one");
        let made = session(&ground.workspace(), &["out/deep", "tmp"]);
        ground.make(&made).unwrap();
        assert_eq!(ground.read().unwrap(), Some(made));
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&sessions.join("one")), mode(&sessions.join("one/session.json"))), (0o700, 0o600));
        // What something in it leaves: links out, and folders that nobody may enter.
        symlink(&other, ground.workspace().join("tmp/link")).unwrap();
        symlink(other.join("kept"), ground.home().join("link")).unwrap();
        std::fs::set_permissions(ground.workspace().join("out"), std::fs::Permissions::from_mode(0o0)).unwrap();
        ground.remove().unwrap();
        ground.remove().unwrap();
        assert_eq!(std::fs::read_dir(&sessions).unwrap().count(), 0);
        assert_eq!(std::fs::read_to_string(other.join("kept")).unwrap(), "kept");
        // The folder itself as a link: the link goes, and not what it leads to.
        symlink(&other, sessions.join("one")).unwrap();
        let _ = ground.remove();
        assert!(other.join("kept").exists());
    }

    #[test]
    fn a_write_path_that_became_a_link_leads_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let ground = Ground::new(folder.path(), "one");
        let made = session(&ground.workspace(), &["out"]);
        ground.make(&made).unwrap();
        assert_eq!(ground.within("a", &made).unwrap().write, [ground.workspace().canonicalize().unwrap().join("out")]);
        std::fs::remove_dir(ground.workspace().join("out")).unwrap();
        symlink("/etc", ground.workspace().join("out")).unwrap();
        assert_eq!(ground.within("a", &made).err().unwrap().code, "session-folder");
        std::fs::remove_file(ground.workspace().join("out")).unwrap();
        std::fs::write(ground.workspace().join("out"), "a file").unwrap();
        assert_eq!(ground.within("a", &made).err().unwrap().code, "session-folder");
    }

    #[test]
    fn folders_of_the_host_are_no_workspaces() {
        let folder = tempfile::tempdir().unwrap();
        let (home, work) = (folder.path().join("home"), folder.path().join("work"));
        for made in [&home, &work] {
            std::fs::create_dir(made).unwrap();
        }
        std::fs::write(work.join("file"), "").unwrap();
        let refused = |path: &Path| operators_folder(path.to_str().unwrap(), std::slice::from_ref(&home)).is_err();
        assert!(refused(&home) && refused(folder.path()) && refused(&work.join("file")) && refused(&work.join("none")));
        assert!(!refused(&work));
    }
}
