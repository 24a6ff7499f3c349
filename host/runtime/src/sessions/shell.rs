//! The shell of an interactive session: at a terminal of its own or at pipes, in the session's sandbox, with an end.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use midplane_core::Result;
use midplane_engine::ports::Exit;
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::time::Instant;

use super::attach::Attached;
use crate::process::group::{Group, find_program};
use crate::process::place::{Place, Start};
use crate::process::terminal::{self, Size};

/// Shells that are looked for, in this order.
const SHELLS: [&str; 2] = ["bash", "sh"];

/// A shell that runs. Dropping it ends it with all that it started.
pub struct Shell {
    group: Option<Group>,
    /// Its temporary files go with it.
    _place: Place,
    deadline: Instant,
    sandbox: String,
    io: Option<ShellIo>,
}

/// Where a shell reads and writes.
pub enum ShellIo {
    /// A terminal.
    Terminal(Terminal),
    /// Pipes.
    Pipes {
        /// What it reads.
        stdin: ChildStdin,
        /// What it writes.
        stdout: ChildStdout,
        /// What it complains.
        stderr: ChildStderr,
    },
}

/// The outer end of a shell's terminal: what is written to it was typed, what is read from it is to be shown. Reading fails
/// once the shell has ended. It blocks.
#[derive(Debug)]
pub struct Terminal(File);

impl Terminal {
    /// One more handle, so that one thread can read while another writes.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Tells it how large it is shown.
    pub fn resize(&self, size: Size) -> io::Result<()> {
        terminal::resize(&self.0, size)
    }
}

impl io::Read for Terminal {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl io::Write for Terminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// How a shell ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShellEnd {
    /// By itself, with this code.
    Code(u32),
    /// By this signal.
    Signal(String),
    /// The session's time was up.
    TimedOut,
    /// The session was stopped or destroyed.
    Stopped,
}

impl std::fmt::Display for ShellEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "the shell ended with code {code}"),
            Self::Signal(name) => write!(f, "the shell was ended by {name}"),
            Self::TimedOut => f.write_str("the time of the session was up"),
            Self::Stopped => f.write_str("the session was stopped"),
        }
    }
}

impl Shell {
    /// Starts it in a place. `size` is that of a terminal; without one it gets pipes.
    pub(super) async fn start(place: Place, id: &str, size: Option<Size>, timeout_ms: u64) -> Result<Self> {
        let program = SHELLS.iter().find_map(|name| find_program(name).ok());
        let program = program.unwrap_or_else(|| PathBuf::from("/bin/sh"));
        let cwd = place.workspace().map(|workspace| workspace.path().to_owned());
        let cwd = cwd.map_or_else(|| place.work(), Ok)?;
        let inherited = |name: &str, usual: &str| std::env::var_os(name).unwrap_or_else(|| usual.into());
        let env = vec![
            ("SHELL".into(), program.clone().into()),
            ("MIDPLANE_SESSION".into(), id.into()),
            ("LANG".into(), inherited("LANG", "C.UTF-8")),
            ("TERM".into(), if size.is_some() { inherited("TERM", "dumb") } else { "dumb".into() }),
        ];
        let start = Start { program, scripts: Vec::new(), args: Vec::new(), cwd, env, stdin: true };
        let (group, io) = match size {
            Some(size) => {
                let (outer, inner) = terminal::open(size)?;
                (place.start_at(start, inner).await?, Some(ShellIo::Terminal(Terminal(outer))))
            }
            None => {
                let (group, pipes) = place.start(start).await?;
                let (stdout, stderr) = (pipes.stdout, pipes.stderr);
                (group, pipes.stdin.map(|stdin| ShellIo::Pipes { stdin, stdout, stderr }))
            }
        };
        let sandbox = group.sandbox();
        Ok(Self {
            group: Some(group),
            _place: place,
            deadline: Instant::now() + Duration::from_millis(timeout_ms),
            sandbox,
            io,
        })
    }

    /// Where it reads and writes; once.
    pub fn io(&mut self) -> Option<ShellIo> {
        self.io.take()
    }

    /// What it is kept from, and whether all that it starts is seen to its end, in words.
    #[must_use]
    pub fn sandbox(&self) -> &str {
        &self.sandbox
    }

    /// Waits for its end, or ends it when the session's time is up or the session is stopped. Nothing that it started is left
    /// afterwards.
    pub async fn ended(&mut self, attached: &Attached) -> ShellEnd {
        let Some(group) = &self.group else { return ShellEnd::Stopped };
        let mut exit = group.exit();
        let end = tokio::select! {
            ended = exit.wait_for(Option::is_some) => match ended.ok().and_then(|exit| exit.clone()) {
                Some(Exit::Code(code)) => ShellEnd::Code(code),
                Some(Exit::Signal(name)) => ShellEnd::Signal(name),
                None => ShellEnd::Signal("unknown".to_owned()),
            },
            () = tokio::time::sleep_until(self.deadline) => ShellEnd::TimedOut,
            () = attached.stopped() => ShellEnd::Stopped,
        };
        self.group = None;
        end
    }
}
