//! What host and supervisor say to each other over the socket between them.
//!
//! ```text
//! host ──► one byte with the program's standard input or terminal, the order as a line ──► letters: I, T, K ──► end: kill all ──► supervisor
//! host ◄── a line: started or refused ◄── a line: how the program ended ◄── end: nothing is left ◄── supervisor
//! ```
//! The order holds the program's environment, secrets included: it is on no argument vector and in no environment but the
//! program's own.

use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use midplane_core::Error;
use midplane_engine::ports::Exit;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::fence::Confinement;

/// The longest order, in bytes: all arguments and variables, each byte as a number.
const ORDER_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// How an order ends; no JSON has this byte.
const END: u8 = b'\n';

/// What to start.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    program: Vec<u8>,
    args: Vec<Vec<u8>>,
    cwd: Vec<u8>,
    env: Vec<(Vec<u8>, Vec<u8>)>,
    confinement: Confinement,
    /// Whether what came along is a terminal of the program's own.
    terminal: bool,
}

/// What the supervisor says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Report {
    /// The program runs.
    Started {
        /// Its number, which is that of its group.
        pid: i32,
        /// What of its sandbox stands.
        sandbox: String,
    },
    /// It could not be started: by the system, with the number of the error.
    Failed(Option<i32>, String),
    /// It could not be confined.
    Refused(Error),
    /// It ended.
    Code(u32),
    /// A signal ended it.
    Signal(String),
}

impl Report {
    /// How the program ended, if that is what it says.
    pub(super) fn exit(self) -> Option<Exit> {
        match self {
            Self::Code(code) => Some(Exit::Code(code)),
            Self::Signal(name) => Some(Exit::Signal(name)),
            Self::Started { .. } | Self::Failed(..) | Self::Refused(_) => None,
        }
    }
}

impl From<Exit> for Report {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Code(code) => Self::Code(code),
            Exit::Signal(name) => Self::Signal(name),
        }
    }
}

/// The letter for a signal, and the signal of a letter.
pub(super) const SIGNALS: [(u8, Signal); 3] = [(b'I', Signal::INT), (b'T', Signal::TERM), (b'K', Signal::KILL)];

impl Order {
    pub(super) fn new(launch: &super::group::Launch) -> Self {
        let bytes = |text: &OsString| text.as_bytes().to_vec();
        Self {
            program: launch.program.as_os_str().as_bytes().to_vec(),
            args: launch.args.iter().map(|arg| arg.as_bytes().to_vec()).collect(),
            cwd: launch.cwd.as_os_str().as_bytes().to_vec(),
            env: launch.env.iter().map(|(name, value)| (bytes(name), bytes(value))).collect(),
            confinement: launch.confinement.clone(),
            terminal: launch.terminal.is_some(),
        }
    }

    /// Whether what came along is a terminal.
    pub(super) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Program, arguments, working directory, environment, confinement.
    pub(super) fn parts(self) -> (PathBuf, Vec<OsString>, PathBuf, Vec<(OsString, OsString)>, Confinement) {
        let text = OsString::from_vec;
        (
            text(self.program).into(),
            self.args.into_iter().map(text).collect(),
            text(self.cwd).into(),
            self.env.into_iter().map(|(name, value)| (text(name), text(value))).collect(),
            self.confinement,
        )
    }

    pub(super) fn send(&self, mut socket: &UnixStream, stdin: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let passed: Vec<_> = stdin.into_iter().collect();
        if !passed.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&passed)) {
            return Err(io::Error::other("the standard input cannot be handed over"));
        }
        sendmsg(socket, &[IoSlice::new(&[END])], &mut control, SendFlags::empty())?;
        let mut text = Zeroizing::new(serde_json::to_vec(self)?);
        text.push(END);
        socket.write_all(&text)
    }

    pub(super) fn receive(socket: &UnixStream) -> io::Result<(Self, Option<OwnedFd>)> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut first = [0];
        recvmsg(socket.as_fd(), &mut [IoSliceMut::new(&mut first)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let stdin = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut passed) => passed.next(),
            _ => None,
        });
        let mut text = Zeroizing::new(Vec::new());
        // The host says nothing more before it was answered, so nothing of what follows is read here.
        let mut limited = io::Read::take(socket, ORDER_BYTES_MAX);
        let mut buffer = Zeroizing::new(vec![0; 64 * 1024]);
        while text.last() != Some(&END) {
            match limited.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => text.extend_from_slice(&buffer[..count]),
            }
        }
        Ok((serde_json::from_slice(&text)?, stdin))
    }
}

impl Report {
    pub(super) fn send(&self, mut socket: &UnixStream) -> io::Result<()> {
        let mut line = serde_json::to_vec(self)?;
        line.push(END);
        socket.write_all(&line)
    }
}
