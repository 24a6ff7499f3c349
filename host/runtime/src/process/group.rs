//! One program in a process group of its own: started clean, watched, and ended with all that it started.
//!
//! ```text
//! start ─► leader runs ─► leader ended, not reaped ─► handle dropped ─► group killed ─► leader reaped
//!                └───────── handle dropped ──────────────────────────────┘
//! ```
//! With a helper the leader's parent is a supervisor ([`super::supervise`]), which also ends what left the group, whatever
//! becomes of the host. Without, the host is its parent, and what leaves the group is out of reach.
//!
//! The number of a group is free for reuse once its leader is reaped and it is empty. So a thread waits for the leader
//! *without reaping it*, and reaps only after the handle is gone: for as long as anybody can send a signal here, the
//! number means this group. tokio's own child reaps at once, and cannot be used for that.
//!
//! The `shell` tool and the `process` import both start their programs here, and nothing else in the host starts one
//! for a plugin. The thread that starts one enters its sandbox first ([`super::fence`]).

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use midplane_core::text::shown;
use midplane_core::{Error, Result};
use midplane_engine::ports::Exit;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::{oneshot, watch};

use super::fence::{self, Confinement};
use super::order::{Order, Report, SIGNALS};
#[cfg(target_os = "linux")]
use super::proc;
use crate::call::Audit;

/// Where programs are looked for when the host itself has no `PATH`.
const PATH_DEFAULT: &str = "/usr/local/bin:/usr/bin:/bin";
/// A variable that tells all that one start has started, for the case that its supervisor is killed.
const MARK: &str = "MIDPLANE_CHILD";
/// How often is looked for them.
const ROUNDS_MAX: usize = 1_000;
/// The longest report of a supervisor, in bytes.
const REPORT_BYTES_MAX: usize = 64 * 1024;

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
    /// A terminal for its standard input and output, instead of pipes. Only with a helper.
    pub(crate) terminal: Option<OwnedFd>,
    /// What it is kept from.
    pub(crate) confinement: Confinement,
    /// The program whose `helper child` watches over it.
    pub(crate) helper: Option<PathBuf>,
}

/// A running group. Dropping it kills every process in it.
pub(crate) struct Group {
    leader: Pid,
    /// The socket to the supervisor, and its number.
    supervisor: Option<(UnixStream, Pid)>,
    exit: watch::Receiver<Option<Exit>>,
    sandbox: String,
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
    /// Starts a program. Safe to drop: what was started meanwhile is ended.
    pub(crate) async fn start(launch: Launch) -> Result<(Self, Pipes)> {
        let name = shown(&launch.program.to_string_lossy(), 200);
        let (begun, hears) = oneshot::channel();
        let watcher = std::thread::Builder::new().name("child".to_owned());
        let work = move || match launch.helper.clone() {
            Some(helper) => supervised(&helper, launch, begun),
            None => alone(&launch, begun),
        };
        let failed =
            |error: &dyn std::fmt::Display| Error::unavailable("spawn", format!("`{name}` cannot be started: {error}"));
        watcher.spawn(work).map_err(|error| failed(&error))?;
        let begun = hears.await.map_err(|_| failed(&"the thread that watches it is lost"))?;
        let Begun { group, stdin, stdout, stderr } = begun.map_err(|why| why.error(&name))?;
        let pipes = (|| {
            Ok::<_, io::Error>(Pipes {
                stdin: stdin.map(ChildStdin::from_std).transpose()?,
                stdout: ChildStdout::from_std(stdout)?,
                stderr: ChildStderr::from_std(stderr)?,
            })
        })();
        Ok((group, pipes.map_err(|error| failed(&error))?))
    }

    /// Sends a signal to every process of the group. Fine also when all have ended.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        if let Some((socket, _)) = &self.supervisor {
            let letter = SIGNALS.iter().find(|(_, known)| *known == signal).map_or(b'K', |(letter, _)| *letter);
            // A supervisor that is gone has nothing left to signal.
            let _ = (&*socket).write_all(&[letter]);
            return Ok(());
        }
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

    /// What the program is kept from, and whether someone sees to the end of all that it starts, in words.
    pub(crate) fn sandbox(&self) -> String {
        let supervised = if self.supervisor.is_some() { "supervised" } else { "not supervised" };
        format!("{}; {supervised}", self.sandbox)
    }

    /// The same for the audit.
    pub(crate) fn audit(&self, program: &str) -> Audit {
        let outcome = self.sandbox();
        Audit { act: "sandbox", target: shown(program, 200), outcome, grant: None, duration_ms: 0, size_bytes: 0 }
    }

    /// Whether the programs of the group are those, and the only ones, that listen on a loopback port; or, given our
    /// address, those that hold the other end of a connection to it.
    #[cfg(target_os = "linux")]
    pub(crate) async fn owns(&self, port: u16, ours: Option<SocketAddr>) -> Result<bool> {
        let leader = self.leader.as_raw_nonzero().get();
        let supervisor = self.supervisor.as_ref().map(|(_, pid)| pid.as_raw_nonzero().get());
        let look = move || {
            let processes = match supervisor {
                Some(supervisor) => proc::descendants(supervisor).into_iter().map(|process| process.pid).collect(),
                None => proc::group(leader),
            };
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
        let message = "this system does not say whose a port is, so websockets to a child are refused";
        Err(Error::unsupported("websocket", message))
    }

    /// The number of the group.
    #[cfg(test)]
    pub(crate) fn id(&self) -> i32 {
        self.leader.as_raw_nonzero().get()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        match &self.supervisor {
            // Its end of the socket is at its end then, which is its word to kill all.
            Some((socket, _)) => drop(socket.shutdown(Shutdown::Both)),
            // The leader is not reaped yet, so the number is still that of this group.
            None => drop(rustix::process::kill_process_group(self.leader, Signal::KILL)),
        }
    }
}

/// A program that runs, as its watcher hands it over. Dropped on the way it ends, since its handle is in it.
struct Begun {
    group: Group,
    stdin: Option<std::process::ChildStdin>,
    stdout: std::process::ChildStdout,
    stderr: std::process::ChildStderr,
}

/// Why one does not.
enum Failure {
    Confined(Error),
    System(Option<i32>, String),
}

impl Failure {
    fn system(error: &io::Error) -> Self {
        Self::System(error.raw_os_error(), error.to_string())
    }

    fn lost() -> Self {
        Self::System(None, "a part of it is missing".to_owned())
    }

    fn error(self, name: &str) -> Error {
        let (number, text) = match self {
            Self::Confined(error) => return error,
            Self::System(number, text) => (number, text),
        };
        match number.map(|number| io::Error::from_raw_os_error(number).kind()) {
            Some(io::ErrorKind::NotFound) => {
                Error::not_found("program", format!("`{name}` cannot be started: it or its interpreter does not exist"))
            }
            Some(io::ErrorKind::ArgumentListTooLong) => {
                Error::invalid("command", format!("`{name}`: its arguments are too long"))
            }
            Some(io::ErrorKind::PermissionDenied) => {
                let message =
                    format!("`{name}` cannot be started: it may not be run, by its mode or by the sandbox around it");
                Error::unavailable("spawn", message)
                    .hint("`sandbox: {read: [...]}` of the profile names folders that its programs may read and run")
            }
            _ => Error::unavailable("spawn", format!("`{name}` cannot be started: {text}")),
        }
    }
}

type Hand = oneshot::Sender<Result<Begun, Failure>>;

/// What a watcher keeps of a program whose handle it gives away.
struct Kept {
    tell: watch::Sender<Option<Exit>>,
    released: mpsc::Receiver<()>,
}

fn handle(leader: Pid, supervisor: Option<(UnixStream, Pid)>, sandbox: String) -> (Group, Kept) {
    let (tell, exit) = watch::channel(None);
    let (release, released) = mpsc::channel();
    (Group { leader, supervisor, exit, sandbox, _release: release }, Kept { tell, released })
}

/// The watcher of a program that is the host's own child.
fn alone(launch: &Launch, begun: Hand) {
    if launch.terminal.is_some() {
        let why = "a program at a terminal needs a helper program, and this host was made without one";
        return drop(begun.send(Err(Failure::Confined(Error::unsupported("helper", why)))));
    }
    let started = fence::enter(&launch.confinement).map_err(Failure::Confined).and_then(|sandbox| {
        let child = Command::new(&launch.program)
            .args(&launch.args)
            .current_dir(&launch.cwd)
            .env_clear()
            .envs(launch.env.iter().map(|(name, value)| (name, value)))
            .stdin(if launch.stdin { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn();
        Ok((child.map_err(|error| Failure::system(&error))?, sandbox))
    });
    let (mut child, sandbox) = match started {
        Ok(started) => started,
        Err(failure) => return drop(begun.send(Err(failure))),
    };
    let Some(leader) = pid_of(&child) else { return };
    let (group, Kept { tell, released }) = handle(leader, None, sandbox);
    let handed = match (child.stdout.take(), child.stderr.take()) {
        (Some(stdout), Some(stderr)) => Ok(Begun { group, stdin: child.stdin.take(), stdout, stderr }),
        _ => Err(Failure::lost()),
    };
    // Where nobody waits for it any more the handle is dropped here, and the program ends.
    let _ = begun.send(handed);
    tell.send_replace(Some(wait_without_reaping(leader)));
    // An error says that the handle is gone, which is what is waited for.
    let _ = released.recv();
    // What the leader left behind, also if it was started between the drop's signal and the leader's end.
    let _ = rustix::process::kill_process_group(leader, Signal::KILL);
    let _ = child.wait();
}

/// The watcher of a program under a supervisor.
fn supervised(helper: &Path, mut launch: Launch, begun: Hand) {
    let mark = mark();
    launch.env.push((MARK.into(), mark.clone().into()));
    let failed = |error: io::Error| Failure::System(None, format!("its supervisor cannot be started: {error}"));
    let (socket, mut supervisor) = match supervisor(helper).map_err(failed) {
        Ok(started) => started,
        Err(failure) => return drop(begun.send(Err(failure))),
    };
    let asked = ask(&socket, &launch).and_then(|asked| {
        let ours = socket.try_clone().map_err(failed)?;
        let pid = pid_of(&supervisor).ok_or_else(Failure::lost)?;
        let stdout = supervisor.stdout.take().ok_or_else(Failure::lost)?;
        let stderr = supervisor.stderr.take().ok_or_else(Failure::lost)?;
        let (group, kept) = handle(asked.leader, Some((ours, pid)), asked.sandbox);
        Ok((Begun { group, stdin: asked.stdin, stdout, stderr }, kept))
    });
    // Only the program's side is left open, so that ours is at its end when the program is.
    launch.terminal = None;
    let (handed, Kept { tell, released }) = match asked {
        Ok(begun) => begun,
        Err(failure) => {
            drop(socket);
            let _ = supervisor.wait();
            return drop(begun.send(Err(failure)));
        }
    };
    let leader = handed.group.leader;
    let _ = begun.send(Ok(handed));
    let mut told = false;
    for line in BufReader::new(&socket).lines() {
        let Ok(line) = line else { break };
        if let Some(exit) = serde_json::from_str(&line).ok().and_then(Report::exit) {
            told = true;
            tell.send_replace(Some(exit));
        }
    }
    if !supervisor.wait().is_ok_and(|status| status.success()) {
        // It was killed: what it cannot do any more is done as far as it can be from here.
        let _ = rustix::process::kill_process_group(leader, Signal::KILL);
        end_marked(&mark);
    }
    if !told {
        tell.send_replace(Some(exit_of(None, Some(Signal::KILL.as_raw()))));
    }
    let _ = released.recv();
}

/// A text that no other start has.
fn mark() -> String {
    static STARTS: AtomicU64 = AtomicU64::new(0);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
    format!("{}-{now}-{}", std::process::id(), STARTS.fetch_add(1, Ordering::Relaxed))
}

/// Ends all that bear a mark, again until none is found. What has put off its environment is not found.
fn end_marked(mark: &str) {
    #[cfg(target_os = "linux")]
    for _ in 0..ROUNDS_MAX {
        let left = proc::with_variable(MARK, mark);
        if left.is_empty() {
            return;
        }
        for pid in left.into_iter().filter_map(Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = mark;
}

/// Starts a supervisor. Its standard input is the socket between it and the host.
fn supervisor(helper: &Path) -> io::Result<(UnixStream, std::process::Child)> {
    let (socket, theirs) = UnixStream::pair()?;
    let supervisor = Command::new(helper)
        .args(["helper", "child"])
        .current_dir("/")
        .env_clear()
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A Ctrl-C at the host's terminal is not for it.
        .process_group(0)
        .spawn()?;
    Ok((socket, supervisor))
}

/// What a supervisor has started.
struct Asked {
    leader: Pid,
    sandbox: String,
    stdin: Option<std::process::ChildStdin>,
}

/// Has a supervisor start a program.
fn ask(socket: &UnixStream, launch: &Launch) -> Result<Asked, Failure> {
    let lost = |error: io::Error| Failure::System(None, format!("its supervisor does not work: {error}"));
    let (theirs, ours) = if launch.stdin { Some(io::pipe().map_err(lost)?) } else { None }.unzip();
    let passed = launch.terminal.as_ref().map(AsFd::as_fd).or_else(|| theirs.as_ref().map(AsFd::as_fd));
    Order::new(launch).send(socket, passed).map_err(lost)?;
    drop(theirs);
    // One line and no more, since what follows is read elsewhere.
    let mut line = Vec::new();
    let mut letter = [0];
    while line.last() != Some(&b'\n') && line.len() < REPORT_BYTES_MAX {
        (&mut &*socket).read_exact(&mut letter).map_err(lost)?;
        line.push(letter[0]);
    }
    match serde_json::from_slice(&line) {
        Ok(Report::Started { pid, sandbox }) => {
            let leader = Pid::from_raw(pid).ok_or_else(Failure::lost)?;
            Ok(Asked { leader, sandbox, stdin: ours.map(|pipe| OwnedFd::from(pipe).into()) })
        }
        Ok(Report::Failed(number, text)) => Err(Failure::System(number, text)),
        Ok(Report::Refused(error)) => Err(Failure::Confined(error)),
        Ok(Report::Code(_) | Report::Signal(_)) | Err(_) => {
            Err(Failure::System(None, "its supervisor gives no sensible answer".to_owned()))
        }
    }
}

fn pid_of(child: &std::process::Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

fn wait_without_reaping(leader: Pid) -> Exit {
    loop {
        match rustix::process::waitid(WaitId::Pid(leader), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Ok(Some(status)) => return exit_of(status.exit_status(), status.terminating_signal()),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            // Only if the embedder's process ignores or reaps its children itself: how it ended is lost, that it ended is not.
            Err(_) => return Exit::Signal("unknown".to_owned()),
        }
    }
}

/// How a process ended, by its code or by the signal that ended it.
pub(super) fn exit_of(code: Option<i32>, signal: Option<i32>) -> Exit {
    match code {
        Some(code) => Exit::Code(code.cast_unsigned()),
        None => Exit::Signal(signal_name(signal.unwrap_or_default())),
    }
}

/// The name of a signal; a number without one is `SIG34` and the like.
fn signal_name(number: i32) -> String {
    let known = Signal::from_named_raw(number).map(|signal| format!("{signal:?}"));
    match known.as_deref().map(|text| text.trim_matches('"').trim_start_matches("Signal::")) {
        // The library's names, where they are not those of the system.
        Some("ABORT") => "SIGABRT".to_owned(),
        Some("ALARM") => "SIGALRM".to_owned(),
        Some("CHILD") => "SIGCHLD".to_owned(),
        Some("VTALARM") => "SIGVTALRM".to_owned(),
        Some("POWER") => "SIGPWR".to_owned(),
        Some(name) => format!("SIG{name}"),
        None => format!("SIG{number}"),
    }
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

/// Where programs are looked for.
pub(crate) fn host_path() -> OsString {
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
