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
    let failed = |error: io::Error| Error::unavailable("terminal", format!("no terminal can be made: {error}"));
    let (outer, inner) = pair().map_err(failed)?;
    resize(&outer, size).map_err(failed)?;
    Ok((outer, inner))
}

/// Tells a terminal how large it is shown.
pub(crate) fn resize(outer: &File, size: Size) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(outer, size)?)
}

/// Closed in every program that is started, from the moment they are open.
#[cfg(target_os = "linux")]
fn pair() -> io::Result<(File, OwnedFd)> {
    use nix::fcntl::OFlag;
    use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
    use rustix::fs::OFlags;
    use std::os::unix::fs::OpenOptionsExt as _;

    let outer = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)?;
    grantpt(&outer)?;
    unlockpt(&outer)?;
    let mut options = File::options();
    // The host itself gets no terminal by this.
    options.read(true).write(true).custom_flags(OFlags::NOCTTY.bits().cast_signed());
    let inner = options.open(ptsname_r(&outer)?)?;
    Ok((outer.as_fd().try_clone_to_owned()?.into(), inner.into()))
}

/// The same where the system opens both at once: closed in what is started a moment later.
#[cfg(not(target_os = "linux"))]
fn pair() -> io::Result<(File, OwnedFd)> {
    let pair = nix::pty::openpty(None, None)?;
    for end in [&pair.master, &pair.slave] {
        rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC)?;
    }
    Ok((pair.master.into(), pair.slave))
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
