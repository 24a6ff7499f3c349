//! Lock files of package managers, compared with what a project asks for, without running anything.
//!
//! Which lock file counts, the commands shown and the rules for projects with a front and a back end are those of
//! runtm-shared's `lockfiles` module. How a lock file is judged is not: the original ran the package manager, which
//! installs packages, executes their scripts and calls a missing program drift. Here both files are read and compared.
//!
//! # Layout
//! - [`check`], [`check_all`]: what callers use; they give a [`Status`]
//! - `choose`: which lock file of a folder counts
//! - `read`: files with a bound, parsers with a place
//! - `node`: `package.json`, and how it is compared; `npm`, `pnpm`, `yarn`, `bun`, `bun_binary`: what each lock file recorded
//! - `python`, `marker`: `pyproject.toml` and requirements (PEP 440, 503, 508); `uv`, `poetry`, `requirements`: what each recorded
//!
//! # What in sync means
//! The lock file was written for what the project asks for now: its own manager would leave it as it is. That is what
//! `uv lock --check`, `poetry check --lock` and pnpm's frozen install demand too. It is stricter than `npm ci`, bun's and classic
//! yarn's frozen installs, which let pass what the next install would rewrite: a changed range that still holds the locked
//! version, a dependency that moved to another section, one that is gone.
//!
//! # What it never does
//! It runs no program, asks no registry and follows no path that a lock file names but the members of a workspace. It does not
//! verify that a recorded tree is complete: it says whether the lock file still answers the project's own files. Where
//! that cannot be told from the files, the state is [`State::Unknown`] and never in sync.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::codes::codes;
use crate::problem::{Mark, Problem};
use crate::text::shown;

mod bun;
mod bun_binary;
mod choose;
mod marker;
mod node;
mod npm;
mod pnpm;
mod poetry;
mod python;
mod read;
mod requirements;
#[cfg(test)]
mod tests;
mod uv;
mod yarn;

pub use choose::{check, check_all};

/// Bytes of one file that are read; lock files of very large projects have about a third of this.
pub const FILE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Differences that are kept of one lock file; more do not help anyone to see that it is old.
pub const DIFFERENCES_MAX: usize = 100;

codes! {
    /// The codes of this module's problems.
    NotFound "lock-missing":
        "The project has no lock file, so that what is installed can differ from one machine to the next."
        => "Run the shown install command and commit the lock file that it writes.";
    Conflict "lock-drifted":
        "The lock file was made for other dependencies than the project's file names now."
        => "Run the shown install command and commit the changed lock file.";
    Invalid "lock-unreadable":
        "The lock file is damaged: it is not what its package manager writes."
        => "Restore it from version control, or delete it and run the shown install command.";
    Unsupported "lock-version":
        "The lock file is of a format version that is not known here."
        => "Check it with its own package manager, or write it again with a version that is supported.";
    Invalid "lock-source-unreadable":
        "The file that says what the project needs (`package.json`, `pyproject.toml`, requirements) is malformed."
        => "Correct it at the shown place.";
    Limit "lock-too-large":
        "A file of the project is larger than is read here."
        => "Check it with its own package manager.";
    Unsupported "lock-unknown":
        "Whether the lock file is in sync cannot be told from the files alone."
        => "Run the shown frozen command where running the package manager is allowed.";
}

/// The files of a project, by path relative to its folder, with `/` between parts and never with `..` among them.
pub trait ProjectFiles {
    /// The bytes of a file, or none if there is no such file or it cannot be read. A reader may stop after
    /// [`FILE_BYTES_MAX`] + 1 bytes: more are refused anyway.
    fn read(&self, path: &str) -> Option<Vec<u8>>;
    /// Whether a file or a folder of that name is there.
    fn exists(&self, path: &str) -> bool;
}

/// Files in memory. A key that ends with `/` is an empty folder.
impl ProjectFiles for BTreeMap<String, Vec<u8>> {
    fn read(&self, path: &str) -> Option<Vec<u8>> {
        self.get(path).cloned()
    }

    fn exists(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        self.contains_key(path)
            || self.range(folder.clone()..).next().is_some_and(|(name, _)| name.starts_with(&folder))
    }
}

/// A package manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "each is the name of a program")]
pub enum Manager {
    Npm,
    Pnpm,
    Yarn,
    Bun,
    Uv,
    Poetry,
    Pip,
}

impl Manager {
    /// Its program.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::Pnpm => "pnpm",
            Self::Yarn => "yarn",
            Self::Bun => "bun",
            Self::Uv => "uv",
            Self::Poetry => "poetry",
            Self::Pip => "pip",
        }
    }
}

impl fmt::Display for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One way in which a lock file does not answer the project's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The package; empty when the difference is not about one (`requires-python`, a hash over the whole file).
    pub package: String,
    /// Where the project's file asks for it (`devDependencies`, `project.dependencies`), in the words of that file.
    pub section: String,
    /// What the project asks for; none if it does not ask any more.
    pub wanted: Option<String>,
    /// What the lock file has; none if it has nothing.
    pub locked: Option<String>,
    /// The file that shows the difference: the project's own, or the lock file for what only that one has.
    pub file: String,
    /// Where in it.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub at: Option<Mark>,
}

/// `` `ms` in dependencies: wanted `^2.1.2`, locked `^1.0.0` ``.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.package.is_empty() {
            write!(f, "{}: ", shown(&self.section, 200))?;
        } else {
            write!(f, "`{}` in {}: ", shown(&self.package, 200), shown(&self.section, 200))?;
        }
        let text = |value: &Option<String>| value.as_ref().map(|value| shown(value, 200));
        match (text(&self.wanted), text(&self.locked)) {
            (Some(wanted), Some(locked)) => write!(f, "wanted `{wanted}`, locked `{locked}`"),
            (Some(wanted), None) => write!(f, "wanted `{wanted}`, not in the lock file"),
            (None, Some(locked)) => write!(f, "locked `{locked}`, not wanted any more"),
            (None, None) => f.write_str("differs"),
        }
    }
}

/// What comparing came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// There is no lock file, or none that belongs to a project file.
    Missing,
    /// The lock file answers what the project asks for.
    InSync,
    /// It does not, at least in these ways; in the order of the project's sections and names, at most [`DIFFERENCES_MAX`].
    Drifted(Vec<Difference>),
    /// The lock file or the project's file is malformed.
    Unreadable(Problem),
    /// The files alone do not tell; the reason.
    Unknown(String),
}

/// What is known of the lock file of one folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whose lock file it is, or would be.
    pub manager: Manager,
    /// The lock file, relative to the project; where it would be if it is missing.
    pub lockfile_path: String,
    /// What comparing came to.
    pub state: State,
    /// What a person runs to write the lock file anew. Text to show: nothing here runs it.
    pub install_cmd: Cow<'static, str>,
    /// What a person runs to install exactly what is locked. Text to show.
    pub frozen_cmd: Cow<'static, str>,
}

impl Status {
    /// Whether a lock file is there.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.state != State::Missing
    }

    /// Whether it is there and known to be in sync.
    #[must_use]
    pub fn synced(&self) -> bool {
        self.state == State::InSync
    }

    /// Whether a person has to act: it is missing, drifted or unreadable. What is unknown is no reason to act.
    #[must_use]
    pub fn needs_fix(&self) -> bool {
        !matches!(self.state, State::InSync | State::Unknown(_))
    }

    /// How the lock file differs.
    #[must_use]
    pub fn differences(&self) -> &[Difference] {
        match &self.state {
            State::Drifted(differences) => differences,
            _ => &[],
        }
    }

    /// The state as problems of the files, with the command that helps as the hint. None when it is in sync.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let hint = match (self.manager, &self.state) {
            // What is shown for pip installs, as in the original; it writes no lock file.
            (Manager::Pip, State::Missing) => {
                "write one with `uv lock`, `poetry lock` or `pip-compile --output-file=requirements.lock`".to_owned()
            }
            _ => format!("run `{}` and commit `{}`", self.install_cmd, self.lockfile_path),
        };
        let whole = |code: &'static str, message: String| Problem::new(self.lockfile_path.clone(), code, message);
        match &self.state {
            State::InSync => Vec::new(),
            State::Missing => vec![whole("lock-missing", "there is no lock file".to_owned()).hint(hint)],
            State::Unreadable(problem) => vec![problem.clone()],
            State::Unknown(reason) => vec![
                whole("lock-unknown", format!("it cannot be told whether it is in sync: {reason}"))
                    .hint(format!("run `{}` where that is allowed", self.frozen_cmd)),
            ],
            State::Drifted(differences) => differences
                .iter()
                .map(|difference| {
                    let problem = Problem::new(difference.file.clone(), "lock-drifted", difference.to_string());
                    Problem { at: difference.at, hint: Some(hint.clone()), ..problem }
                })
                .collect(),
        }
    }
}

/// The fields of the original's status, and beside them the state with its details.
impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Status", 11)?;
        out.serialize_field("manager", &self.manager)?;
        out.serialize_field("lockfile_path", &self.lockfile_path)?;
        out.serialize_field("exists", &self.exists())?;
        out.serialize_field("synced", &self.synced())?;
        out.serialize_field("needs_fix", &self.needs_fix())?;
        out.serialize_field("install_cmd", &self.install_cmd)?;
        out.serialize_field("frozen_cmd", &self.frozen_cmd)?;
        let word = match &self.state {
            State::Missing => "missing",
            State::InSync => "in-sync",
            State::Drifted(_) => "drifted",
            State::Unreadable(_) => "unreadable",
            State::Unknown(_) => "unknown",
        };
        out.serialize_field("state", word)?;
        match &self.state {
            State::Drifted(differences) => out.serialize_field("differences", differences)?,
            State::Unreadable(problem) => out.serialize_field("problem", problem)?,
            State::Unknown(reason) => out.serialize_field("reason", reason)?,
            State::Missing | State::InSync => {}
        }
        out.end()
    }
}

/// Whether there are as many differences as are kept. Each place that looks for more stops then, since finding the line of
/// each of a million in a hostile file would take hours.
fn is_full(differences: &[Difference]) -> bool {
    differences.len() >= DIFFERENCES_MAX
}

/// In sync if nothing differs, else drifted.
fn state(mut differences: Vec<Difference>) -> State {
    differences.truncate(DIFFERENCES_MAX);
    if differences.is_empty() { State::InSync } else { State::Drifted(differences) }
}
