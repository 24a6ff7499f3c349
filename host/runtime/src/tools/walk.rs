//! The files of a folder, in byte order of their paths, as `.gitignore` leaves them.
//!
//! The policy is ripgrep's: what `.gitignore` and `.ignore` files name is left out, each for the folder it is in and with the
//! nearest one deciding; hidden files (name with a dot) are left out unless asked for; symbolic links are not followed.
//! Unlike ripgrep a `.gitignore` counts also outside of a repository, and `.git` is never entered. Only files of the
//! workspace count: not those of the folders above it and not the user's own.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use cap_std::fs::{Dir, FileType};
use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use midplane_core::{Error, Result};

use super::files::{Files, text_of};
use super::tool::Stop;
use crate::workspace::{RelPath, read_file};

/// Most entries that one walk looks at. It bounds the time of a call and what is held for sorting.
pub(super) const ENTRIES_MAX: usize = 200_000;
/// The largest ignore file that counts, in bytes.
const IGNORE_BYTES_MAX: u64 = 256 * 1024;
/// The ignore files of a folder; the first decides.
const IGNORE_NAMES: [&str; 2] = [".ignore", ".gitignore"];

/// What to walk.
pub(super) struct Walk {
    /// Where to begin.
    pub(super) start: RelPath,
    /// Whether hidden files are shown.
    pub(super) hidden: bool,
    /// Whether ignored files are shown. Ignored folders are not entered either way.
    pub(super) ignored: bool,
    /// How deep to go: 1 is what is in the folder itself.
    pub(super) depth_max: usize,
}

/// Something that was found.
pub(super) struct Found {
    /// Its path in the workspace.
    pub(super) path: String,
    /// What it is; a symbolic link is not followed.
    pub(super) of: FileType,
}

/// How a walk ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Walked {
    /// Whether it stopped because there were too many entries.
    pub(super) truncated: bool,
    /// Folders that could not be read.
    pub(super) unreadable: usize,
}

impl Walked {
    /// What a model must know of it, as lines after an answer.
    pub(super) fn notes(&self) -> String {
        let mut notes = String::new();
        if self.truncated {
            notes
                .push_str(&format!("\n[stopped after {ENTRIES_MAX} entries; name a folder in `path` to see the rest]"));
        }
        if self.unreadable > 0 {
            notes.push_str(&format!("\n[folders that could not be read: {}]", self.unreadable));
        }
        notes
    }
}

/// An entry that waits for its turn.
struct Entry {
    found: Found,
    depth: usize,
    /// The rules of the folder that it is in.
    rules: Arc<Rules>,
    enter: bool,
}

/// Walks, and gives each entry below the start to `each` until that breaks. Fails if the start cannot be read.
pub(super) fn walk(
    files: &Files,
    walk: &Walk,
    stop: &Stop,
    mut each: impl FnMut(&Found) -> Result<ControlFlow<()>>,
) -> Result<Walked> {
    let mut walked = Walked::default();
    let mut seen = 0;
    // A stack of its own, so that a deep tree costs heap and not stack; the next entry is at its end.
    let mut waiting = Vec::new();
    let dir = files.dir();
    let start = dir.open_dir(walk.start.as_str()).map_err(|error| match error.kind() {
        io::ErrorKind::NotADirectory => Error::invalid("not-a-folder", format!("`{}` is not a folder", walk.start)),
        _ => walk.start.failed(&error),
    })?;
    let rules = Rules::above(dir, &walk.start);
    enter(walk, &start, &walk.start, 1, &rules, &mut waiting, &mut seen, &mut walked);
    while let Some(entry) = waiting.pop() {
        stop.check()?;
        if each(&entry.found)?.is_break() {
            break;
        }
        if entry.enter && entry.depth < walk.depth_max {
            // Opened from the root each time: no descriptor is held for the folders above, however deep it goes.
            let path = RelPath::parse(&entry.found.path);
            match path.as_ref().ok().map(|path| dir.open_dir(path.as_str())) {
                Some(Ok(folder)) => {
                    let path = path.unwrap_or_else(|_| RelPath::root());
                    enter(walk, &folder, &path, entry.depth + 1, &entry.rules, &mut waiting, &mut seen, &mut walked);
                }
                _ => walked.unreadable += 1,
            }
        }
    }
    Ok(walked)
}

/// Puts the entries of a folder onto the stack, the first of them on top.
#[expect(clippy::too_many_arguments, reason = "the state of one loop, in two functions")]
fn enter(
    walk: &Walk,
    folder: &Dir,
    path: &RelPath,
    depth: usize,
    above: &Arc<Rules>,
    waiting: &mut Vec<Entry>,
    seen: &mut usize,
    walked: &mut Walked,
) {
    let Ok(entries) = folder.entries() else {
        walked.unreadable += 1;
        return;
    };
    let rules = Rules::of(folder, path, above);
    let mut here = Vec::new();
    for entry in entries.flatten() {
        if *seen == ENTRIES_MAX {
            walked.truncated = true;
            break;
        }
        *seen += 1;
        let name = entry.file_name();
        let Ok(of) = entry.file_type() else { continue };
        if !walk.hidden && name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let found = Found { path: path.join(&text_of(name.as_ref())), of };
        let is_git = name == ".git";
        let ignored = rules.ignore(&found.path, of.is_dir());
        if (is_git || ignored) && !walk.ignored {
            continue;
        }
        here.push(Entry { depth, rules: Arc::clone(&rules), enter: of.is_dir() && !is_git && !ignored, found });
    }
    // As if a folder's name ended with `/`: then files come in the byte order of their whole paths.
    let key = |entry: &Entry| {
        let mut key = entry.found.path.clone();
        if entry.found.of.is_dir() {
            key.push('/');
        }
        key
    };
    here.sort_by_cached_key(|entry| std::cmp::Reverse(key(entry)));
    waiting.extend(here);
}

/// The ignore files of a folder and of those above it.
struct Rules {
    above: Option<Arc<Rules>>,
    /// The folder, with a `/` at its end unless it is the root.
    prefix: String,
    files: Vec<Gitignore>,
}

impl Rules {
    /// The rules of all folders above one, from the workspace down.
    fn above(dir: &Dir, path: &RelPath) -> Arc<Self> {
        let none = Arc::new(Self { above: None, prefix: String::new(), files: Vec::new() });
        let mut folders = Vec::new();
        let mut at = path.clone();
        while let Some((parent, _)) = at.split() {
            folders.push(parent.clone());
            at = parent;
        }
        folders.iter().rev().fold(none, |above, folder| match dir.open_dir(folder.as_str()) {
            Ok(opened) => Self::of(&opened, folder, &above),
            Err(_) => above,
        })
    }

    fn of(folder: &Dir, path: &RelPath, above: &Arc<Self>) -> Arc<Self> {
        let files: Vec<Gitignore> = IGNORE_NAMES.iter().filter_map(|name| ignore_file(folder, name)).collect();
        if files.is_empty() {
            return Arc::clone(above);
        }
        Arc::new(Self { above: Some(Arc::clone(above)), prefix: path.join(""), files })
    }

    fn ignore(&self, path: &str, is_dir: bool) -> bool {
        let mut rules = Some(self);
        while let Some(level) = rules {
            let inside = path.strip_prefix(&level.prefix).unwrap_or(path);
            for file in &level.files {
                match file.matched(inside, is_dir) {
                    Match::Ignore(_) => return true,
                    Match::Whitelist(_) => return false,
                    Match::None => {}
                }
            }
            rules = level.above.as_deref();
        }
        false
    }
}

/// The rules of one ignore file; none where it is not there, too large, or no text. A line that is no pattern is skipped.
fn ignore_file(folder: &Dir, name: &str) -> Option<Gitignore> {
    let path = RelPath::parse(name).ok()?;
    let (content, _) = read_file(folder, &path, IGNORE_BYTES_MAX).ok()?;
    let mut builder = GitignoreBuilder::new(".");
    for line in String::from_utf8_lossy(&content).trim_start_matches('\u{feff}').lines() {
        let _ = builder.add_line(None, line);
    }
    builder.build().ok().filter(|rules| !rules.is_empty())
}
