//! Where the programs of one call run: their home, their temporary files, their sandbox, their supervisor. A call within a
//! session has the session's home, and is kept from more.
//!
//! ```text
//! <state>/homes/<profile>/          HOME: lasts between runs, so that a vendor's conversations can be resumed
//!         ├── .config .cache ...    as the XDG variables say
//!         └── tmp/midplane-XXXXXX/  TMPDIR of one call, removed with it; work/ in it where the call has no workspace
//! ```
//! Nothing of the operator's home is in it. What a program signs in with or remembers stays with the profile.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use midplane_core::sandbox::{Mode, Sandbox, SandboxSettings, Surroundings};
use midplane_core::{Error, ProfileName, Result};
use rustix::fs::{Access, access};

use super::fence::{self, Confinement};
use super::group::{Group, Launch, Pipes, host_path};
use crate::helper::private_folder;
use crate::sessions::ground::Within;
use crate::workspace::Workspace;

/// What all calls of a host share of it.
#[derive(Debug, Clone)]
pub(crate) struct Ground {
    /// Where homes are kept.
    pub(crate) homes: PathBuf,
    /// The program whose `helper child` supervises; without one nobody does.
    pub(crate) helper: Option<PathBuf>,
}

/// Where the programs of one call run.
pub(crate) struct Place {
    ground: Ground,
    home: PathBuf,
    workspace: Option<(Arc<Workspace>, bool)>,
    settings: SandboxSettings,
    network: bool,
    /// The session that the call is a part of, and whether its programs may change what that lets them.
    within: Option<(Arc<Within>, bool)>,
    /// Loopback ports that the host serves for the run.
    endpoints: Mutex<Vec<u16>>,
    /// Made when the first program starts, removed with this.
    temporary: OnceLock<tempfile::TempDir>,
}

/// What to start in a place.
pub(crate) struct Start {
    /// Absolute path of the program.
    pub(crate) program: PathBuf,
    /// Files beside it that are the program as well, such as the script of an interpreter.
    pub(crate) scripts: Vec<PathBuf>,
    /// Its arguments, without the program.
    pub(crate) args: Vec<String>,
    /// Its working directory.
    pub(crate) cwd: PathBuf,
    /// Variables beside those of the place, which they replace.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Whether it gets a pipe for its standard input; else that is at its end.
    pub(crate) stdin: bool,
}

impl Place {
    /// A place for the programs of a profile. The workspace comes with whether its programs may change it.
    pub(crate) fn new(
        ground: Ground,
        profile: &ProfileName,
        workspace: Option<(Arc<Workspace>, bool)>,
        settings: SandboxSettings,
        network: bool,
    ) -> Self {
        let home = ground.homes.join(profile.as_str());
        let (endpoints, temporary) = (Mutex::default(), OnceLock::new());
        Self { ground, home, workspace, settings, network, within: None, endpoints, temporary }
    }

    /// The same within a session, of whose folders its programs may change some only if they may change anything.
    pub(crate) fn within(mut self, within: Option<Arc<Within>>, writes: bool) -> Self {
        if let Some(within) = within {
            self.home.clone_from(&within.home);
            self.serve(within.proxy.as_ref().map(|proxy| proxy.port));
            self.within = Some((within, writes));
        }
        self
    }

    /// Names loopback ports that the host serves for the run: programs that are started afterwards reach them.
    pub(crate) fn serve(&self, ports: impl IntoIterator<Item = u16>) {
        self.endpoints().extend(ports);
    }

    fn endpoints(&self) -> MutexGuard<'_, Vec<u16>> {
        // Nothing panics while it is held.
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The workspace of the call.
    pub(crate) fn workspace(&self) -> Option<&Workspace> {
        self.workspace.as_ref().map(|(workspace, _)| workspace.as_ref())
    }

    /// What plugins are told of it: `host` where the host's sandbox does all that it is asked for, `own` where the operator
    /// leaves it to the programs, `partial` where the kernel cannot do all or any of it.
    pub(crate) fn sandbox(&self) -> &'static str {
        match self.settings.mode {
            Mode::Own => "own",
            Mode::Host if fence::offered().whole => "host",
            Mode::Host => "partial",
        }
    }

    /// The home of its programs, as they see it.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// The folder to work in for a call without a workspace.
    pub(crate) fn work(&self) -> Result<PathBuf> {
        Ok(self.temporary()?.join("work"))
    }

    /// Starts a program.
    pub(crate) async fn start(&self, start: Start) -> Result<(Group, Pipes)> {
        let Start { program, scripts, args, cwd, env, stdin } = start;
        let temporary = self.temporary()?;
        let mut all = self.variables(&temporary);
        all.extend(env);
        let confinement = self.confinement(&program, &scripts, temporary);
        let helper = self.ground.helper.clone();
        Group::start(Launch { program, args, cwd, env: all, stdin, terminal: None, confinement, helper }).await
    }

    /// Starts a program at a terminal of its own, whose inner side is given.
    pub(crate) async fn start_at(&self, start: Start, terminal: OwnedFd) -> Result<Group> {
        let Start { program, mut scripts, args, cwd, env, stdin: _ } = start;
        let temporary = self.temporary()?;
        let mut all = self.variables(&temporary);
        all.extend(env);
        // It becomes the program, inside the sandbox.
        scripts.extend(self.ground.helper.clone());
        let confinement = self.confinement(&program, &scripts, temporary);
        let (terminal, helper) = (Some(terminal), self.ground.helper.clone());
        let launch = Launch { program, args, cwd, env: all, stdin: false, terminal, confinement, helper };
        Group::start(launch).await.map(|(group, _)| group)
    }

    fn variables(&self, temporary: &Path) -> Vec<(OsString, OsString)> {
        let below = |name: &str| self.home.join(name).into_os_string();
        let mut all: Vec<(OsString, OsString)> = vec![
            ("PATH".into(), host_path()),
            ("HOME".into(), self.home.clone().into()),
            ("XDG_CONFIG_HOME".into(), below(".config")),
            ("XDG_DATA_HOME".into(), below(".local/share")),
            ("XDG_STATE_HOME".into(), below(".local/state")),
            ("XDG_CACHE_HOME".into(), below(".cache")),
            ("TMPDIR".into(), temporary.join("tmp").into()),
        ];
        if let Some(proxy) = self.within.as_ref().and_then(|(within, _)| within.proxy.as_ref()) {
            all.extend(proxy.variables());
        }
        all
    }

    fn confinement(&self, program: &Path, scripts: &[PathBuf], temporary: PathBuf) -> Confinement {
        let mut programs = programs(program);
        // A script at the root brings nothing along: a whole file system is no package.
        programs.extend(scripts.iter().flat_map(|script| packages(script)).filter(|folder| folder.parent().is_some()));
        let own = [self.home.clone(), temporary];
        let endpoints = self.endpoints().clone();
        let around = Surroundings {
            workspace: self.workspace.as_ref().map(|(workspace, writes)| (workspace.path(), *writes)),
            own: &own,
            programs: &programs,
            network: self.network,
            endpoints: &endpoints,
        };
        match Sandbox::decide(&self.settings, &around) {
            Some(mut sandbox) => {
                if let Some((within, writes)) = &self.within {
                    within.reach.narrow(&mut sandbox, &endpoints);
                    sandbox.write.extend(within.write.iter().filter(|_| *writes).cloned());
                }
                Confinement::Host { sandbox, required: self.settings.required }
            }
            None => Confinement::Own,
        }
    }

    /// The call's folder for temporary files; `tmp` and `work` are in it.
    fn temporary(&self) -> Result<PathBuf> {
        if let Some(made) = self.temporary.get() {
            return Ok(made.path().to_owned());
        }
        let below = self.home.join("tmp");
        for folder in [&self.home, &below] {
            private_folder(folder)?;
        }
        for name in [".config", ".local/share", ".local/state", ".cache"] {
            private_folder(&self.home.join(name))?;
        }
        let failed = |error: std::io::Error| {
            Error::unavailable("spawn", format!("no folder for the program can be made: {error}"))
        };
        let made = tempfile::Builder::new().prefix("midplane-").tempdir_in(below).map_err(failed)?;
        for name in ["tmp", "work"] {
            private_folder(&made.path().join(name))?;
        }
        // Of two starts at once one folder is kept; the other goes with its handle.
        Ok(self.temporary.get_or_init(|| made).path().to_owned())
    }
}

/// What a program needs to be run: its own folder, the folders that programs are looked for in, and what scripts among them
/// are made of.
fn programs(program: &Path) -> Vec<PathBuf> {
    let mut found = packages(program);
    let folders: Vec<PathBuf> = std::env::split_paths(&host_path()).filter(|folder| folder.is_absolute()).collect();
    for folder in folders.iter().cloned().chain(found.clone()) {
        found.extend(installation(&folder));
    }
    found.extend(folders);
    // A folder at the root, or nothing at all, is no folder of programs.
    found.retain(|folder| folder.parent().is_some());
    found.sort();
    found.dedup();
    found
}

/// The folders of a file, by its name and where that leads, each with all packages that it was installed with: one requires
/// another.
fn packages(file: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let real = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    for path in [file, &real] {
        found.extend(path.parent().map(Path::to_owned));
        let packages = path.ancestors().filter(|folder| folder.file_name().is_some_and(|name| name == "node_modules"));
        found.extend(packages.last().map(Path::to_owned));
    }
    found
}

/// The installation that a folder of programs is a part of, where that is sure to hold nothing else: a Python environment, one
/// version of a language, or the versions behind a folder of `shims`. Never a whole `~/.local` or `~/.cargo`.
fn installation(folder: &Path) -> Option<PathBuf> {
    let above = folder.parent()?;
    let named = |name: &str| folder.file_name().is_some_and(|of| of == name);
    let is_environment = || access(above.join("pyvenv.cfg"), Access::READ_OK).is_ok();
    let is_version = || {
        let versions = ["versions", "toolchains", "installs"];
        above.components().any(|part| versions.iter().any(|name| part.as_os_str() == *name))
    };
    (named("shims") || named("bin") && (is_environment() || is_version())).then(|| above.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_is_made_of() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in [
            "lib/node_modules/@a/b/bin/b.js",
            "lib/node_modules/@a/b/node_modules/c/bin/c",
            "venv/bin/tool",
            "venv/pyvenv.cfg",
            "x/versions/v20/bin/node",
            "y/shims/python3",
            ".local/bin/tool",
        ] {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        std::os::unix::fs::symlink("../../lib/node_modules/@a/b/bin/b.js", root.join(".local/bin/b")).unwrap();
        let of = |name: &str| {
            let found = programs(&root.join(name));
            let below = found.iter().filter_map(|path| Some(path.strip_prefix(&root).ok()?.to_str()?.to_owned()));
            below.collect::<Vec<_>>()
        };
        assert_eq!(of(".local/bin/b"), [".local/bin", "lib/node_modules", "lib/node_modules/@a/b/bin"]);
        let inner = "lib/node_modules/@a/b/node_modules/c/bin";
        assert_eq!(of(&format!("{inner}/c")), ["lib/node_modules", inner]);
        assert_eq!(of("venv/bin/tool"), ["venv", "venv/bin"]);
        assert_eq!(of("x/versions/v20/bin/node"), ["x/versions/v20", "x/versions/v20/bin"]);
        assert_eq!(of("y/shims/python3"), ["y", "y/shims"]);
        assert_eq!(of(".local/bin/tool"), [".local/bin"]);
        assert!(!programs(Path::new("/sh")).contains(&PathBuf::from("/")));
    }
}
