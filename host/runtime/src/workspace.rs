//! The folder that a run works in, opened once, and the paths that lead into it.
//!
//! ```text
//! text of a guest ─► RelPath (no `..`, not absolute) ─► Dir (cap-std: a link that leads out is an error)
//! ```
//! Both steps refuse by themselves. The first gives the clear answer to what a model usually gets wrong; the second is
//! the fence, and holds also against links that were placed by a child.
//!
//! # What it never does
//! It joins no path of a guest to the path of the folder, except in [`Workspace::folder_for_child`], whose caller starts a
//! program that could go anywhere by itself. It never opens what is neither a file nor a folder: a FIFO would block.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, FileTypeExt, Metadata, OpenOptions, OpenOptionsExt};
use midplane_core::text::shown;
use midplane_core::{Error, Result};
use rustix::fs::OFlags;

/// The longest path, in bytes: what Linux takes.
const PATH_BYTES_MAX: usize = 4096;
/// The longest name in a path, in bytes: what nearly every file system takes.
const NAME_BYTES_MAX: usize = 255;

/// An open folder.
#[derive(Debug)]
pub(crate) struct Workspace {
    dir: Dir,
    path: PathBuf,
}

impl Workspace {
    /// Opens the folder. Errors: `not-found` or `invalid` code `workspace`, with the path.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let refused = |error: io::Error| {
            let message = format!("the workspace `{}` cannot be opened: {error}", shown(&path.to_string_lossy(), 200));
            match error.kind() {
                io::ErrorKind::NotFound => {
                    Error::not_found("workspace", message).hint("`--workspace` names a folder that exists")
                }
                _ => Error::invalid("workspace", message),
            }
        };
        // The path for children has no link in it, so that it stays the folder that was opened.
        let path = path.canonicalize().map_err(refused)?;
        let dir = Dir::open_ambient_dir(&path, ambient_authority()).map_err(refused)?;
        Ok(Self { dir, path })
    }

    /// The folder as a file tool reaches it.
    pub(crate) fn dir(&self) -> &Dir {
        &self.dir
    }

    /// The folder as a child process sees it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The absolute path of a folder inside, for the working directory of a program.
    pub(crate) fn folder_for_child(&self, relative: &str) -> Result<PathBuf> {
        let relative = RelPath::parse(relative)?;
        // Opened through the fence first: a link that leads out is refused here.
        let real = self.dir.canonicalize(relative.as_str()).map_err(|error| relative.failed(&error))?;
        let metadata = self.dir.metadata(&real).map_err(|error| relative.failed(&error))?;
        if !metadata.is_dir() {
            return Err(Error::invalid("not-a-folder", format!("`{relative}` is not a folder")));
        }
        Ok(self.path.join(real))
    }
}

/// A path inside a workspace: relative, without `.` and `..` parts. The folder itself is `.`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RelPath(String);

impl RelPath {
    /// The folder itself.
    pub(crate) fn root() -> Self {
        Self(".".to_owned())
    }

    /// Takes a path as a model writes it. Errors: `denied` code `path` where it would lead out, else `invalid`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let bad =
            |why: &str| Error::invalid("path", format!("`{}` is not a path in the workspace: {why}", shown(text, 200)));
        if text.is_empty() {
            return Err(bad("it is empty"));
        }
        if text.len() > PATH_BYTES_MAX {
            return Err(bad("it has more than 4096 bytes"));
        }
        if text.contains('\0') {
            return Err(bad("it contains a NUL character"));
        }
        if text.starts_with('/') {
            return Err(outside(text, "it is absolute").hint("give the path relative to the workspace"));
        }
        let mut parts = Vec::new();
        for part in text.split('/').filter(|part| !part.is_empty() && *part != ".") {
            if part == ".." {
                return Err(
                    outside(text, "it contains `..`").hint("give the path relative to the workspace, without `..`")
                );
            }
            if part.len() > NAME_BYTES_MAX {
                return Err(bad("a name in it has more than 255 bytes"));
            }
            parts.push(part);
        }
        Ok(if parts.is_empty() { Self::root() } else { Self(parts.join("/")) })
    }

    /// The path; never empty.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the folder itself.
    pub(crate) fn is_root(&self) -> bool {
        self.0 == "."
    }

    /// The path of something in this folder.
    pub(crate) fn join(&self, name: &str) -> String {
        if self.is_root() { name.to_owned() } else { format!("{}/{name}", self.0) }
    }

    /// The folder that holds it, and its name in there; nothing for the root.
    pub(crate) fn split(&self) -> Option<(Self, &str)> {
        if self.is_root() {
            return None;
        }
        Some(match self.0.rsplit_once('/') {
            Some((parent, name)) => (Self(parent.to_owned()), name),
            None => (Self::root(), &self.0),
        })
    }

    /// Why an operation on this path failed, in words for a model.
    pub(crate) fn failed(&self, error: &io::Error) -> Error {
        use io::ErrorKind as Kind;
        let path = shown(&self.0, 200);
        match error.kind() {
            // cap-std's own refusal has no number of the system, unlike a file that may not be read.
            Kind::PermissionDenied if error.raw_os_error().is_none() => {
                outside(&self.0, "a symbolic link in it leads out of the workspace")
            }
            Kind::PermissionDenied => Error::denied("file-mode", format!("`{path}`: the system does not permit it")),
            Kind::ReadOnlyFilesystem => Error::denied("file-mode", format!("`{path}` is on a read-only file system")),
            Kind::NotFound => Error::not_found("path", format!("`{path}` does not exist")),
            Kind::NotADirectory => Error::invalid("not-a-folder", format!("`{path}`: a part of it is not a folder")),
            Kind::IsADirectory => Error::invalid("not-a-file", format!("`{path}` is a folder")),
            Kind::AlreadyExists => Error::conflict("exists", format!("`{path}` exists already")),
            Kind::DirectoryNotEmpty => Error::conflict("exists", format!("`{path}` is a folder that is not empty")),
            Kind::StorageFull | Kind::QuotaExceeded => Error::limit("disk-full", format!("`{path}`: no space is left")),
            _ => Error::unavailable("file", format!("`{path}`: {error}")),
        }
    }
}

impl std::fmt::Display for RelPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&shown(&self.0, 200))
    }
}

fn outside(path: &str, why: &str) -> Error {
    Error::denied("path", format!("`{}` is outside of the workspace: {why}", shown(path, 200)))
}

/// Opens a file for reading, never anything else, without ever waiting for another process.
pub(crate) fn open_file(dir: &Dir, path: &RelPath) -> Result<(File, Metadata)> {
    // Looked at before it is opened, since opening a device can already act on it; and again after, since only an open
    // file stays what it is.
    let metadata = dir.metadata(path.as_str()).map_err(|error| path.failed(&error))?;
    regular(path, &metadata)?;
    let mut options = OpenOptions::new();
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    options.read(true).custom_flags(flags.bits().cast_signed());
    let file = dir.open_with(path.as_str(), &options).map_err(|error| path.failed(&error))?;
    let metadata = file.metadata().map_err(|error| path.failed(&error))?;
    regular(path, &metadata)?;
    Ok((file, metadata))
}

/// Reads a whole file of at most `bytes_max` bytes; `limit` code `file-size` for a larger one.
pub(crate) fn read_file(dir: &Dir, path: &RelPath, bytes_max: u64) -> Result<(Vec<u8>, Metadata)> {
    let (file, metadata) = open_file(dir, path)?;
    let too_large = |size: u64| {
        Error::limit("file-size", format!("`{path}` has {size} bytes, more than the {bytes_max} that a tool handles"))
            .hint("`grep` and `glob` find their way past it; a shell command can take a part of it")
    };
    if metadata.len() > bytes_max {
        return Err(too_large(metadata.len()));
    }
    let mut content = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    // One more than allowed: files of `/proc` say 0 and others grow.
    file.take(bytes_max + 1).read_to_end(&mut content).map_err(|error| path.failed(&error))?;
    if content.len() as u64 > bytes_max {
        return Err(too_large(content.len() as u64));
    }
    Ok((content, metadata))
}

/// Refuses what is not a regular file, saying what it is.
pub(crate) fn regular(path: &RelPath, metadata: &Metadata) -> Result<()> {
    let of = metadata.file_type();
    let what = if of.is_file() {
        return Ok(());
    } else if of.is_dir() {
        "a folder"
    } else if of.is_symlink() {
        "a symbolic link"
    } else if of.is_fifo() {
        "a FIFO"
    } else if of.is_socket() {
        "a socket"
    } else if of.is_block_device() || of.is_char_device() {
        "a device"
    } else {
        "not a file"
    };
    Err(Error::invalid("not-a-file", format!("`{path}` is {what}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths() {
        let long = "a".repeat(256);
        let texts = [
            "",
            ".",
            "./",
            "a",
            "./a//b/./c/",
            "a/..",
            "../a",
            "a/../../b",
            "/etc/passwd",
            "//x",
            "a\0b",
            "..a/b..",
            "...",
            "~/x",
            "a\nb",
            "ünï/日本",
            long.as_str(),
        ];
        let shown = texts.map(|text| match RelPath::parse(text) {
            Ok(path) => format!("{text:?} -> {:?}", path.as_str()),
            Err(error) => format!("{text:?} -> {}: {error}", error.kind),
        });
        insta::assert_snapshot!(shown.join("\n"));
    }

    proptest! {
        /// Whatever is accepted has no part that leads up or starts at the root.
        #[test]
        fn accepted_paths_stay_below(text in "[a-c./ \u{e9}]{0,24}") {
            if let Ok(path) = RelPath::parse(&text) {
                prop_assert!(!path.as_str().starts_with('/') && !path.as_str().is_empty());
                prop_assert!(path.is_root() || path.as_str().split('/').all(|part| !["", ".", ".."].contains(&part)));
                prop_assert_eq!(RelPath::parse(path.as_str()).unwrap(), path);
            }
        }
    }
}
