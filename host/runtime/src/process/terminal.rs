//! A terminal of its own for a program: a pair of ends, of which the host keeps one.
//!
//! ```text
//! host ── outer end ── kernel ── inner end ── supervisor ──► `helper terminal` ──► the program
//!                                                             session, terminal     (same process)
//! ```
//! The program never has the operator's own terminal, into which it could type. What makes the inner end the terminal of a
//! session is done by the process itself before it becomes the program, inside the sandbox.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use midplane_core::{Error, Result};
use rustix::termios::Winsize;

/// The verb of the helper that becomes a program at a terminal.
pub(crate) const VERB: &str = "terminal";

/// Columns and rows of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Characters of a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// Makes a terminal: its outer end, then its inner one.
pub(crate) fn open(size: Size) -> Result<(File, OwnedFd)> {
    let failed =
        |error: io::Error| Error::unavailable("terminal-unavailable", format!("no terminal can be made: {error}"));
    let (outer, inner) = pair().map_err(failed)?;
    resize(&outer, size).map_err(failed)?;
    Ok((outer, inner))
}

/// Tells a terminal how large it is shown.
pub(crate) fn resize(outer: &File, size: Size) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(outer, size)?)
}

/// Both ends, each closed in every program that is started.
fn pair() -> io::Result<(File, OwnedFd)> {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::OpenOptionsExt as _;

    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
    // Elsewhere there is a moment in which it would be inherited.
    #[cfg(target_os = "linux")]
    let flags = flags | OpenptFlags::CLOEXEC;
    let outer = openpt(flags)?;
    rustix::io::fcntl_setfd(&outer, rustix::io::FdFlags::CLOEXEC)?;
    grantpt(&outer)?;
    unlockpt(&outer)?;
    let name = ptsname(&outer, Vec::new())?;
    let mut options = File::options();
    // The host itself gets no terminal by this.
    options.read(true).write(true).custom_flags(rustix::fs::OFlags::NOCTTY.bits().cast_signed());
    let inner = options.open(OsStr::from_bytes(name.as_bytes()))?;
    Ok((outer.into(), inner.into()))
}

/// What a supervisor starts in a program's place. Not in a group of its own, which could not become a session.
pub(super) fn command(program: &Path, args: &[OsString], terminal: Option<&OwnedFd>) -> io::Result<Command> {
    let terminal = terminal.ok_or_else(|| io::Error::other("no terminal came along"))?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("helper").arg(VERB).arg(program).args(args);
    command.stdout(terminal.try_clone()?).stderr(terminal.try_clone()?);
    Ok(command)
}

/// The body of `helper terminal PROGRAM ARGS`: a new session, whose terminal standard input becomes, and then the program.
pub(crate) fn main(program: &str, args: &[String]) -> u8 {
    let error = become_program(program.as_ref(), args);
    // It is read where the program's own words would be.
    eprintln!("`{}` cannot be started: {error}", midplane_core::text::shown(program, 200));
    1
}

fn become_program(program: &OsStr, args: &[String]) -> io::Error {
    let lead = || -> io::Result<()> {
        rustix::process::setsid()?;
        Ok(rustix::process::ioctl_tiocsctty(io::stdin().as_fd())?)
    };
    match lead() {
        Ok(()) => Command::new(program).args(args).exec(),
        Err(error) => error,
    }
}
