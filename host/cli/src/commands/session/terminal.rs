//! This terminal, or these pipes, passed through to a shell and back.
//!
//! While a terminal is passed through it is raw: each key goes to the shell as it is, Ctrl-C included. It is put back when
//! that ends, in whatever way short of being killed.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::time::Duration;

use midplane::{ShellEnd, Size, Terminal};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Bytes that are passed at once.
const CHUNK_BYTES: usize = 16 * 1024;
/// How long after a shell's end the rest of what it wrote is awaited.
const REST: Duration = Duration::from_millis(500);

/// How large this terminal is; unset where it is none.
pub(super) fn size() -> Option<Size> {
    let size = tcgetwinsize(io::stdin()).ok()?;
    Some(Size { columns: size.ws_col, rows: size.ws_row })
}

/// Passes this terminal through until the shell has ended; unset where this process was told to end before.
pub(super) async fn through(outer: Terminal, ended: impl Future<Output = ShellEnd>) -> io::Result<Option<ShellEnd>> {
    let raw = Raw::enter()?;
    let (mut keys, mut shown) = (outer.try_clone()?, outer.try_clone()?);
    // Reading this terminal cannot be called off: the thread ends with the process, or with the first key that goes nowhere.
    let mut typed = input()?;
    std::thread::spawn(move || io::copy(&mut typed, &mut keys));
    let (done, mut all_shown) = mpsc::channel::<()>(1);
    std::thread::spawn(move || {
        let _done = done;
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut out = io::stdout();
        // It fails once nobody has the other end open any more.
        while let Ok(read @ 1..) = shown.read(&mut buffer) {
            if out.write_all(&buffer[..read]).and_then(|()| out.flush()).is_err() {
                return;
            }
        }
    });
    let mut resized = signal(SignalKind::window_change())?;
    let resizing = async {
        while resized.recv().await.is_some() {
            if let Some(size) = size() {
                // What shows it wrongly still shows it.
                let _ = outer.resize(size);
            }
        }
    };
    let end = tokio::select! {
        end = ended => Some(end),
        told = told_to_end() => { told?; None }
        () = resizing => None,
    };
    let _ = tokio::time::timeout(REST, all_shown.recv()).await;
    drop(raw);
    Ok(end)
}

/// Passes standard input, output and error through until the shell has ended.
pub(super) async fn piped(
    stdin: ChildStdin,
    mut stdout: ChildStdout,
    mut stderr: ChildStderr,
    ended: impl Future<Output = ShellEnd>,
) -> io::Result<Option<ShellEnd>> {
    let mut typed = input()?;
    let (send, mut lines) = mpsc::channel::<Vec<u8>>(4);
    std::thread::spawn(move || {
        let mut buffer = vec![0; CHUNK_BYTES];
        while let Ok(read @ 1..) = typed.read(&mut buffer) {
            if send.blocking_send(buffer[..read].to_vec()).is_err() {
                return;
            }
        }
    });
    let feed = tokio::spawn(async move {
        let mut stdin = stdin;
        while let Some(bytes) = lines.recv().await {
            if stdin.write_all(&bytes).await.is_err() {
                return;
            }
        }
        // Dropped here: the shell reads its end.
    });
    let shown = tokio::spawn(async move {
        let (mut out, mut err) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
        let (mut out_open, mut err_open) = (true, true);
        while out_open || err_open {
            tokio::select! {
                read = stdout.read(&mut out), if out_open => match read {
                    Ok(read @ 1..) => out_open = io::stdout().write_all(&out[..read]).and_then(|()| io::stdout().flush()).is_ok(),
                    _ => out_open = false,
                },
                read = stderr.read(&mut err), if err_open => match read {
                    Ok(read @ 1..) => err_open = io::stderr().write_all(&err[..read]).is_ok(),
                    _ => err_open = false,
                },
            }
        }
    });
    let end = tokio::select! {
        end = ended => Some(end),
        told = told_to_end() => { told?; None }
    };
    feed.abort();
    let _ = tokio::time::timeout(REST, shown).await;
    Ok(end)
}

/// Waits for a signal that asks this process to end.
async fn told_to_end() -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
    Ok(())
}

/// Standard input without a buffer: what is not passed on stays where it is.
fn input() -> io::Result<File> {
    Ok(io::stdin().as_fd().try_clone_to_owned()?.into())
}

/// This terminal while it is raw.
struct Raw(Termios);

impl Raw {
    fn enter() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
    }
}
