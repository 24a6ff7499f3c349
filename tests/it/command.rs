//! The `midplane` command as a user runs it: a binary, a home of its own, an empty environment.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// The folder of the command and of the example `same-task`, built if they are not there: `cargo test` builds no binary of
/// another package. Together with this test, so that they are linked from the libraries that it was linked from: for
/// other targets the features of dependencies are others, and all would be compiled once more.
fn binaries() -> &'static Path {
    static BINARIES: OnceLock<PathBuf> = OnceLock::new();
    BINARIES.get_or_init(|| {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--workspace", "--bin", "midplane", "--bin", "same-task", "--test", "it"])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
            .status()
            .expect("cargo runs");
        assert!(built.success(), "the command does not build");
        // target/<profile>/deps/it-...: the binaries are one folder up.
        let here = std::env::current_exe().expect("the path of this test");
        here.ancestors().nth(2).expect("a profile folder").to_owned()
    })
}

/// The command.
pub(crate) fn binary() -> PathBuf {
    binaries().join("midplane")
}

/// The example.
pub(crate) fn same_task() -> PathBuf {
    binaries().join("same-task")
}

/// An installation of its own, gone at the end.
pub(crate) struct Home {
    folder: tempfile::TempDir,
    env: Vec<(String, String)>,
}

/// What a command printed.
#[derive(Debug)]
pub(crate) struct Printed {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Home {
    pub(crate) fn new() -> Self {
        let home = Self { folder: tempfile::tempdir().expect("folder"), env: Vec::new() };
        // Compiled plugins are the same for all: made once, linked into each home.
        let cache = home.path().join("cache");
        std::fs::create_dir(&cache).expect("cache");
        for file in std::fs::read_dir(warm()).expect("warm cache").flatten() {
            std::fs::hard_link(file.path(), cache.join(file.file_name())).expect("link");
        }
        set_private(&cache);
        home
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Sets a variable for what is run from now on.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Writes the configuration.
    pub(crate) fn config(self, text: &str) -> Self {
        std::fs::write(self.path().join("config.yaml"), text).expect("config");
        self
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(&binary(), arguments)
    }

    /// Another program, in the same environment.
    pub(crate) fn command_of(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path())
            .env("MIDPLANE_HOME", self.path())
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a line of the documentation in a folder, as a person types it.
    pub(crate) fn shell(&self, folder: &Path, line: &str) -> Printed {
        let own = binary().parent().expect("a folder").display().to_string();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("sh");
        command.env_clear().env("PATH", format!("{own}:{path}")).env("HOME", self.path());
        command.env("MIDPLANE_HOME", self.path()).current_dir(folder).args(["-c", line]).stdin(Stdio::null());
        printed(command.output().expect("the shell runs"))
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Printed {
        printed(self.command(arguments).output().expect("the command runs"))
    }

    /// Starts it.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().expect("the command starts")
    }
}

pub(crate) fn printed(output: Output) -> Printed {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Printed { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

impl Printed {
    /// Each line as JSON.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    }

    /// The whole as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}\n{}", self.out, self.err))
    }
}

/// Compiled first-party plugins.
fn warm() -> &'static Path {
    static WARM: OnceLock<tempfile::TempDir> = OnceLock::new();
    let home = WARM.get_or_init(|| {
        let folder = tempfile::tempdir().expect("folder");
        let listed = Command::new(binary())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("MIDPLANE_HOME", folder.path())
            .args(["plugin", "list", "--json"])
            .output()
            .expect("the command runs");
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        folder
    });
    static CACHE: OnceLock<PathBuf> = OnceLock::new();
    CACHE.get_or_init(|| home.path().join("cache"))
}

fn set_private(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).expect("permissions");
}
