//! The files of a project, read from disk and checked: what `midplane check` shows. The rules are `core`'s; here are the
//! reads, each of them bounded, and nothing is run.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use midplane_core::lockfile::{self, ProjectFiles};
use midplane_core::problem::Problem;
use midplane_core::project::{self, Mode, manifest::Manifest};
use midplane_core::{Error, Result};
use serde::Serialize;

/// The largest file that people write.
const TEXT_BYTES_MAX: u64 = 1024 * 1024;
/// The largest file that a package manager writes.
const LOCK_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What a file is, which its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// `runtm.yaml`: what is deployed, and how.
    Manifest,
    /// `runtm.requests.yaml`: what an agent asks to be changed in the manifest.
    Requests,
    /// `runtm.discovery.yaml`: what an application says of itself.
    Discovery,
    /// A lock file of a package manager, against the files that it locks.
    Lock,
    /// `plugin.toml`: what a plugin is and asks for.
    Plugin,
}

impl FileKind {
    /// Words by which a kind is asked for, in the order in which they are listed.
    pub const NAMES: [(&'static str, Self); 5] = [
        ("manifest", Self::Manifest),
        ("requests", Self::Requests),
        ("discovery", Self::Discovery),
        ("lock", Self::Lock),
        ("plugin", Self::Plugin),
    ];

    /// The kind of a file by its name.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        match path.file_name()?.to_str()? {
            "runtm.yaml" => Some(Self::Manifest),
            "runtm.requests.yaml" => Some(Self::Requests),
            "runtm.discovery.yaml" => Some(Self::Discovery),
            "plugin.toml" => Some(Self::Plugin),
            name if lockfile::NAMES.contains(&name) => Some(Self::Lock),
            _ => None,
        }
    }
}
