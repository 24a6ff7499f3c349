//! One program in a process group of its own: started clean, watched, and ended with all that it started.
//!
//! ```text
//! start ─► leader runs ─► leader ended, not reaped ─► handle dropped ─► group killed ─► leader reaped
//!                └───────── handle dropped ──────────────────────────────┘
//! ```
//! The number of a group is free for reuse once its leader is reaped and it is empty. So a thread waits for the leader
//! *without reaping it*, and reaps only after the handle is gone: for as long as anybody can send a signal here, the
//! number means this group. tokio's own child reaps at once, and cannot be used for that.
//!
//! The `shell` tool and the `process` import both start their programs here, and nothing else in the host starts one
//! for a plugin: a sandbox around children has this one place to stand.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;

use midplane_core::text::shown;
use midplane_core::{Error, Result};
use midplane_engine::ports::Exit;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::watch;

#[cfg(target_os = "linux")]
use super::proc;

/// Where programs are looked for when the host itself has no `PATH`.
const PATH_DEFAULT: &str = "/usr/local/bin:/usr/bin:/bin";

/// What to start.
pub(crate) struct Launch {
    /// Absolute path of the program.
    pub(crate) program: PathBuf,
    /// Its arguments, without the program.
    pub(crate) args: Vec<String>,
    /// Absolute path of its working directory.
    pub(crate) cwd: PathBuf,
    /// Its whole environment.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Whether it gets a pipe for its standard input; else that is at its end.
    pub(crate) stdin: bool,
}

/// A running group. Dropping it kills every process in it.
pub(crate) struct Group {
    leader: Pid,
    exit: watch::Receiver<Option<Exit>>,
    /// Dropped after the last signal, which lets the leader be reaped.
    _release: mpsc::Sender<()>,
}

/// The host's ends of a leader's pipes.
pub(crate) struct Pipes {
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: ChildStdout,
    pub(crate) stderr: ChildStderr,
}

impl Group {
    /// Starts a program. Errors: `not-found` code `program`, `invalid`, `unavailable` code `spawn`.
    pub(crate) fn start(launch: Launch) -> Result<(Self, Pipes)> {
        let name = shown(&launch.program.to_string_lossy(), 200);
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => {
                Error::not_found("program", format!("`{name}` cannot be started: it or its interpreter does not exist"))
            }
            io::ErrorKind::ArgumentListTooLong => {
                Error::invalid("command", format!("`{name}`: its arguments are too long"))
            }
            _ => Error::unavailable("spawn", format!("`{name}` cannot be started: {error}")),
        };
        let mut child = Command::new(&launch.program)
            .args(&launch.args)
            .current_dir(&launch.cwd)
            .env_clear()
            .envs(launch.env)
            .stdin(if launch.stdin { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let pipes = pipes(&mut child);
        let (tell, exit) = watch::channel(None);
        let (release, released) = mpsc::channel();
        let leader = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let watcher = leader.map(|leader| {
            std::thread::Builder::new()
                .name(format!("child {}", leader.as_raw_nonzero()))
                .spawn(move || watch_over(child, leader, &tell, &released))
        });
        // Without a watcher nobody would reap it. Its closure is dropped, and with it the pipes: what remains is to end
        // the group that was just started.
        let (leader, pipes) = match (leader, watcher, pipes) {
            (Some(leader), Some(Ok(_)), Ok(pipes)) => (leader, pipes),
            (leader, _, pipes) => {
                leader.map(|leader| rustix::process::kill_process_group(leader, Signal::KILL));
                let why =
                    pipes.err().map_or_else(|| "no thread is left to watch it".to_owned(), |error| error.to_string());
                return Err(Error::unavailable("spawn", format!("`{name}` cannot be started: {why}")));
            }
        };
        Ok((Self { leader, exit, _release: release }, pipes))
    }

    /// Sends a signal to every process of the group. Fine also when all have ended.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        match rustix::process::kill_process_group(self.leader, signal) {
            // A group of nothing but ended processes: macOS says `PERM`.
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(rustix::io::Errno::PERM) if self.exit.borrow().is_some() => Ok(()),
            Err(error) => Err(Error::unavailable("signal", format!("the program cannot be signalled: {error}"))),
        }
    }

    /// Tells how the leader ended, once it has.
    pub(crate) fn exit(&self) -> watch::Receiver<Option<Exit>> {
        self.exit.clone()
    }

    /// Whether the programs of the group are those, and the only ones, that listen on a loopback port; or, given our
    /// address, those that hold the other end of a connection to it.
    #[cfg(target_os = "linux")]
    pub(crate) async fn owns(&self, port: u16, ours: Option<SocketAddr>) -> Result<bool> {
        let group = self.leader.as_raw_nonzero().get();
        let look = move || {
            let processes = proc::group(group);
            match ours {
                None => proc::listens(port, &processes),
                Some(ours) => proc::answers(port, ours, &processes),
            }
        };
        // Files of `/proc` can be long where there are many sockets.
        let looked = tokio::task::spawn_blocking(look).await.map_err(io::Error::other).and_then(|looked| looked);
        looked.map_err(|error| Error::unavailable("websocket", format!("whose port {port} is cannot be seen: {error}")))
    }

    /// The same, where the system does not say it.
    #[cfg(not(target_os = "linux"))]
    pub(crate) async fn owns(&self, _port: u16, _ours: Option<SocketAddr>) -> Result<bool> {
        Err(Error::unsupported(
            "websocket",
            "this system does not say whose a port is, so websockets to a child are refused",
        ))
    }

    /// The number of the group.
    #[cfg(test)]
    pub(crate) fn id(&self) -> i32 {
        self.leader.as_raw_nonzero().get()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The leader is not reaped yet, so the number is still that of this group.
        let _ = rustix::process::kill_process_group(self.leader, Signal::KILL);
    }
}

fn pipes(child: &mut std::process::Child) -> io::Result<Pipes> {
    let lost = || io::Error::other("a pipe is missing");
    Ok(Pipes {
        stdin: child.stdin.take().map(ChildStdin::from_std).transpose()?,
        stdout: ChildStdout::from_std(child.stdout.take().ok_or_else(lost)?)?,
        stderr: ChildStderr::from_std(child.stderr.take().ok_or_else(lost)?)?,
    })
}

fn watch_over(
    mut child: std::process::Child,
    leader: Pid,
    tell: &watch::Sender<Option<Exit>>,
    released: &mpsc::Receiver<()>,
) {
    tell.send_replace(Some(wait_without_reaping(leader)));
    // An error says that the handle is gone, which is what is waited for.
    let _ = released.recv();
    // What the leader left behind, also if it was started between the drop's signal and the leader's end.
    let _ = rustix::process::kill_process_group(leader, Signal::KILL);
    let _ = child.wait();
}

fn wait_without_reaping(leader: Pid) -> Exit {
    loop {
        match rustix::process::waitid(WaitId::Pid(leader), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Ok(Some(status)) => {
                return match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Exit::Code(code.cast_unsigned()),
                    (None, signal) => Exit::Signal(signal_name(signal.unwrap_or_default())),
                };
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            // Only if the embedder's process ignores or reaps its children itself: how it ended is lost, that it ended is not.
            Err(_) => return Exit::Signal("unknown".to_owned()),
        }
    }
}

/// The name of a signal; a number without one is `SIG34` and the like.
fn signal_name(number: i32) -> String {
    let known = Signal::from_named_raw(number).map(|signal| format!("{signal:?}"));
    match known.as_deref().map(|text| text.trim_matches('"').trim_start_matches("Signal::")) {
        Some(name) => format!("SIG{name}"),
        None => format!("SIG{number}"),
    }
}

/// What every child gets, whatever was granted: where programs are, and whose home it is.
pub(crate) fn base_env() -> Vec<(OsString, OsString)> {
    let home = std::env::var_os("HOME").unwrap_or_else(|| "/".into());
    vec![("PATH".into(), host_path()), ("HOME".into(), home)]
}

/// Finds a program as the host would: a plain name by `PATH`, else an absolute path.
pub(crate) fn find_program(name: &str) -> Result<PathBuf> {
    find_program_in(name, host_path().to_str())
}

/// The same by another `PATH`.
pub(crate) fn find_program_in(name: &str, search: Option<&str>) -> Result<PathBuf> {
    let runnable = |path: &Path| {
        path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    let found = if name.contains('/') {
        Some(PathBuf::from(name)).filter(|path| path.is_absolute() && runnable(path))
    } else {
        // Relative entries are skipped: they would look into a folder that a model can write.
        std::env::split_paths(search.unwrap_or(PATH_DEFAULT))
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join(name))
            .find(|path| runnable(path))
    };
    found.ok_or_else(|| {
        Error::not_found("program", format!("the program `{}` is not installed", shown(name, 200)))
            .hint("install it, or put its folder into `PATH`")
    })
}

fn host_path() -> OsString {
    std::env::var_os("PATH").filter(|path| !path.is_empty()).unwrap_or_else(|| PATH_DEFAULT.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_their_usual_names() {
        assert_eq!([2, 9, 11, 15, 34].map(signal_name), ["SIGINT", "SIGKILL", "SIGSEGV", "SIGTERM", "SIG34"]);
    }

    #[test]
    fn programs_are_found_as_the_host_would() {
        assert!(find_program("sh").unwrap().is_absolute());
        assert!(find_program("/bin/sh").is_ok());
        for name in ["./sh", "bin/sh", "../sh", "/etc/passwd", "/bin", "no-such-program-here", ""] {
            assert_eq!(find_program(name).unwrap_err().code, "program", "{name}");
        }
    }
}
