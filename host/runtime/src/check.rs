//! The files of a project, read from disk and checked: what `midplane check` shows. The rules are `core`'s; here are the
//! reads, each of them bounded, and nothing is run.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use midplane_core::codes;
use midplane_core::lockfile::{self, Manager, ProjectFiles, Status};
use midplane_core::manifest::Manifest as PluginManifest;
use midplane_core::problem::Problem;
use midplane_core::project::{Mode, discovery, manifest, requests};
use midplane_core::{Error, Result};
use serde::Serialize;

/// The largest file that people write.
const TEXT_BYTES_MAX: u64 = 1024 * 1024;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// `runtm.yaml`: what is deployed, and how.
    Manifest,
    /// `runtm.requests.yaml`: what an agent asks to be changed in the manifest.
    Requests,
    /// `runtm.discovery.yaml`: what an application says of itself.
    Discovery,
    /// `plugin.toml`: what a plugin is and asks for.
    Plugin,
    /// A lock file of a package manager, against the files of its folder.
    Lock,
}

impl FileKind {
    /// The kind of a file by its name.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        match path.file_name()?.to_str()? {
            MANIFEST => Some(Self::Manifest),
            REQUESTS => Some(Self::Requests),
            DISCOVERY => Some(Self::Discovery),
            "plugin.toml" => Some(Self::Plugin),
            name if LOCKS.contains(&name) => Some(Self::Lock),
            _ => None,
        }
    }
}

/// The manifest of a project.
pub const MANIFEST: &str = "runtm.yaml";
/// Its requests.
pub const REQUESTS: &str = "runtm.requests.yaml";
/// Its discovery file.
pub const DISCOVERY: &str = "runtm.discovery.yaml";

/// Names of lock files.
const LOCKS: &[&str] = &[
    "bun.lock",
    "bun.lockb",
    "npm-shrinkwrap.json",
    "package-lock.json",
    "pnpm-lock.yaml",
    "yarn.lock",
    "uv.lock",
    "poetry.lock",
    "requirements.lock",
    "requirements.txt",
];

/// What came of checking one file.
#[derive(Debug, Clone, Serialize)]
pub struct Checked {
    /// The file, as the caller named it.
    pub file: String,
    /// What it is.
    pub kind: FileKind,
    /// What is wrong with it, in the order of the file.
    pub problems: Vec<Problem>,
    /// Of a lock file: what comparing came to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock: Option<Status>,
}

impl Checked {
    /// Whether a person has to act. What cannot be told of a lock file is shown, and is no fault of it.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.lock.as_ref().map_or(self.problems.is_empty(), |status| !status.needs_fix())
    }

    fn new(file: &Path, kind: FileKind, problems: Vec<Problem>) -> Self {
        Self {
            file: file.display().to_string(),
            kind,
            problems: problems.into_iter().map(advised).collect(),
            lock: None,
        }
    }
}

/// A problem with what to do about it: where its rule has nothing closer to say, what its code says.
fn advised(problem: Problem) -> Problem {
    let recovery = || codes::find(&problem.code).map(|code| code.recovery);
    let Some(recovery) = problem.hint.is_none().then(recovery).flatten() else { return problem };
    // A sentence of the catalogue in the form of a hint.
    let mut letters = recovery.trim_end_matches('.').chars();
    let first = letters.next().map(|first| first.to_ascii_lowercase());
    problem.hint(first.into_iter().chain(letters).collect::<String>())
}

/// Checks a project: its manifest, which must be there, its requests and discovery files if they are, and the lock files
/// that its runtime has. An error is for a folder that is none (`not-found`).
pub fn check_project(folder: &Path, mode: Mode) -> Result<Vec<Checked>> {
    if !folder.is_dir() {
        return Err(Error::not_found("project-folder", format!("`{}` is not a folder", folder.display())));
    }
    let mut checked = Vec::new();
    let path = join(folder, MANIFEST);
    let read = read_text(&path, "manifest-not-found").map_err(|problem| vec![problem]);
    let parsed = read.and_then(|text| manifest::parse(&text, &path.display().to_string(), mode));
    let (manifest, problems) = match parsed {
        Ok(manifest) => (Some(manifest), Vec::new()),
        Err(problems) => (None, problems),
    };
    checked.push(Checked::new(&path, FileKind::Manifest, problems));
    for name in [REQUESTS, DISCOVERY] {
        let path = join(folder, name);
        if path.exists() {
            checked.push(check_file(&path, None, mode)?);
        }
    }
    // A manifest that is wrong elsewhere still says little about the runtime: the files do.
    let runtime = manifest.and_then(|manifest| manifest.runtime).unwrap_or_default();
    checked.extend(locks(folder, &runtime));
    Ok(checked)
}

/// Checks one file as what its name says, or as what `kind` says. Errors: `invalid` code `file-kind` for a name that says
/// nothing.
pub fn check_file(path: &Path, kind: Option<FileKind>, mode: Mode) -> Result<Checked> {
    let shown = path.display().to_string();
    let Some(kind) = kind.or_else(|| FileKind::of(path)) else {
        let known = [MANIFEST, REQUESTS, DISCOVERY, "plugin.toml"].join("`, `");
        return Err(Error::invalid("file-kind", format!("`{shown}` does not say by its name what it is"))
            .hint(format!("known are `{known}` and lock files; `--as` says what a file of another name is")));
    };
    if kind == FileKind::Lock {
        return Ok(check_lock(path));
    }
    let problems = match read_text(path, "file-not-found") {
        Err(problem) => vec![problem],
        Ok(text) => check_text(&text, &shown, kind, mode),
    };
    Ok(Checked::new(path, kind, problems))
}

/// Checks a text that is not a lock file, which is nothing without its folder.
#[must_use]
pub fn check_text(text: &str, file: &str, kind: FileKind, mode: Mode) -> Vec<Problem> {
    let problems = match kind {
        FileKind::Manifest => manifest::parse(text, file, mode).err(),
        FileKind::Requests => requests::parse(text, file, mode).err(),
        FileKind::Discovery => discovery::parse(text, file, mode).err(),
        FileKind::Plugin => PluginManifest::parse(text, file).err().map(|error| vec![plugin_problem(file, error)]),
        FileKind::Lock => None,
    };
    problems.unwrap_or_default().into_iter().map(advised).collect()
}

/// The error of a plugin's manifest has its place in front of its message (`plugin.toml:3:9: ...`).
fn plugin_problem(file: &str, error: Error) -> Problem {
    let message = error.message.strip_prefix(file).and_then(|rest| rest.strip_prefix(':')).map(str::trim_start);
    let mut parts = message.unwrap_or_default().splitn(3, ':');
    let place = (parts.next().and_then(|line| line.parse().ok()), parts.next().and_then(|column| column.parse().ok()));
    let mut problem = match (place, parts.next()) {
        ((Some(line), Some(column)), Some(rest)) => {
            Problem::new(file, error.code, rest.trim_start()).at(midplane_core::problem::Mark { line, column })
        }
        _ => Problem::new(file, error.code, message.unwrap_or(&error.message)),
    };
    problem.hint = error.hint;
    problem
}

/// The lock file that was named, against the files beside it.
fn check_lock(path: &Path) -> Checked {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if !path.exists() {
        let problem = Problem::new(path.display().to_string(), "file-not-found", "there is no such file");
        return Checked::new(path, FileKind::Lock, vec![problem]);
    }
    let runtime =
        if matches!(name, "uv.lock" | "poetry.lock") || name.starts_with("requirements") { "python" } else { "node" };
    let status = lockfile::check(runtime, &Folder(folder.to_path_buf()), &at_hand());
    let mut checked = lock(folder, status);
    if checked.lock.as_ref().is_some_and(|status| status.lockfile_path != name) {
        // Two lock files side by side: only one of them is what the project is installed from.
        let counts = checked.file;
        let problem = Problem::new(path.display().to_string(), "lock-shadowed", format!("`{counts}` counts instead"))
            .hint("remove the one that is not used");
        checked = Checked::new(path, FileKind::Lock, vec![problem]);
    }
    checked
}

/// The lock files of a project. A project without a `package.json` or `pyproject.toml` has nothing to lock.
fn locks(folder: &Path, runtime: &str) -> Vec<Checked> {
    let sources = ["package.json", "pyproject.toml", "frontend/package.json", "backend/pyproject.toml"];
    if !sources.iter().any(|name| folder.join(name).exists()) {
        return Vec::new();
    }
    let found = lockfile::check_all(runtime, &Folder(folder.to_path_buf()), &at_hand());
    found.into_iter().map(|status| lock(folder, status)).collect()
}

fn lock(folder: &Path, status: Status) -> Checked {
    let mut checked = Checked::new(&join(folder, &status.lockfile_path), FileKind::Lock, status.problems());
    for problem in &mut checked.problems {
        problem.file = join(folder, &problem.file).display().to_string();
    }
    checked.lock = Some(status);
    checked
}

/// The package managers that are installed here: they decide which lock file to suggest where there is none.
fn at_hand() -> Vec<Manager> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let there = |manager: &Manager| folders.iter().any(|folder| folder.join(manager.as_str()).is_file());
    [Manager::Bun, Manager::Uv, Manager::Poetry].into_iter().filter(there).collect()
}

/// `.` in front of a name says nothing to a reader.
fn join(folder: &Path, name: &str) -> PathBuf {
    if folder == Path::new(".") { PathBuf::from(name) } else { folder.join(name) }
}

/// A text file, bounded. What cannot be read is a problem of that file, with `missing` as the code of one that is not there.
fn read_text(path: &Path, missing: &'static str) -> std::result::Result<String, Problem> {
    let file = path.display().to_string();
    let bytes = match read_bounded(path, TEXT_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let problem = Problem::new(file, missing, "there is no such file");
            return Err(problem.hint("name another file or folder, or write one: `midplane schema` describes each"));
        }
        Err(error) => return Err(Problem::new(file, "file-unreadable", format!("it cannot be read: {error}"))),
    };
    if bytes.len() as u64 > TEXT_BYTES_MAX {
        return Err(Problem::new(file, "file-too-large", format!("it has more than {TEXT_BYTES_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        // Valid so far, so that counting what is not a continuation counts code points.
        let last = valid.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let column = last.iter().filter(|byte| **byte & 0xC0 != 0x80).count() + 1;
        Problem::new(file, "file-not-utf8", "it is not UTF-8 text")
            .at(midplane_core::problem::Mark { line, column })
            .hint("save it as UTF-8")
    })
}

/// At most one byte more than the bound, which says that there are more.
fn read_bounded(path: &Path, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A folder as the lock file rules see it. No name that leads out of it is followed.
struct Folder(PathBuf);

impl Folder {
    fn inside(&self, path: &str) -> Option<PathBuf> {
        let plain = |part: std::path::Component<'_>| matches!(part, std::path::Component::Normal(_));
        Path::new(path).components().all(plain).then(|| self.0.join(path))
    }
}

impl ProjectFiles for Folder {
    fn read(&self, path: &str) -> Option<Vec<u8>> {
        read_bounded(&self.inside(path)?, lockfile::FILE_BYTES_MAX as u64).ok()
    }

    fn exists(&self, path: &str) -> bool {
        self.inside(path).is_some_and(|path| path.exists())
    }
}

/// What an agent asks to be changed in a manifest, read and merged but not written.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// The manifest that would change.
    pub manifest: PathBuf,
    /// In one line.
    pub summary: String,
    /// Each change as a line; none where the manifest has it all.
    pub changes: Vec<String>,
    /// What the agent wrote beside it.
    pub notes: Vec<String>,
    before: String,
    after: String,
}

/// Reads the requests of a project and merges them into its manifest. Errors: `invalid` with the first problem of either
/// file, and when both do not fit each other.
pub fn proposal(folder: &Path) -> Result<Proposal> {
    let path = join(folder, MANIFEST);
    let before = read_text(&path, "manifest-not-found").map_err(|problem| vec![problem])?;
    let asked = join(folder, REQUESTS);
    let text = read_text(&asked, "requests-not-found").map_err(|problem| vec![problem])?;
    let requests = requests::parse(&text, &asked.display().to_string(), Mode::Strict)?;
    let merged = requests::apply(&requests, &before, &path.display().to_string())?;
    Ok(Proposal {
        manifest: path,
        summary: requests.summary(),
        changes: merged.changes,
        notes: requests.notes,
        before,
        after: merged.text,
    })
}

impl Proposal {
    /// Writes the manifest, in one step. Errors: `conflict` code `manifest-changed` when it is not the one that was read.
    pub fn apply(&self) -> Result<()> {
        if self.changes.is_empty() {
            return Ok(());
        }
        let shown = self.manifest.display();
        let now = read_text(&self.manifest, "manifest-not-found").map_err(|problem| vec![problem])?;
        if now != self.before {
            let error = Error::conflict("manifest-changed", format!("`{shown}` was changed in the meantime"));
            return Err(error.hint("look at the changes again"));
        }
        let failed =
            |error: std::io::Error| Error::unavailable("disk", format!("`{shown}` cannot be written: {error}"));
        // A manifest that is a link stays one: what it leads to is replaced.
        let target = std::fs::canonicalize(&self.manifest).map_err(failed)?;
        let folder = target.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        std::io::Write::write_all(&mut file, self.after.as_bytes()).map_err(failed)?;
        let permissions = std::fs::metadata(&target).map_err(failed)?.permissions();
        file.as_file().set_permissions(permissions).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&target).map_err(|error| failed(error.error))?;
        Ok(())
    }
}
