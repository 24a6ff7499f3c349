//! A websocket to a port that a vendor's program opened, together with the program.
//!
//! A component waits in one place only, and while it waits for the socket nobody reads the program's pipes. So a
//! [`Connection`] holds both: it looks at the pipes in between, that a program which writes much to stderr is not stopped
//! by a full pipe, and keeps the end of stderr, that a connection which breaks can say why.
//!
//! # What it never does
//! It names no host: the program is the permission, and the host checks that the port is the program's own.

use crate::child::{Child, Said};
use crate::error::{Error, Result};
use crate::host::{Exit, Frame, Received, Socket};

/// Messages between two looks at the pipes.
const FRAMES_BETWEEN_LOOKS: u32 = 64;
/// Lines that are taken from the pipes in one look.
const LINES_PER_LOOK: u32 = 256;
/// How long a port that is not open yet is waited for in one step, in milliseconds.
const CONNECT_STEP_MS: u32 = 50;
/// How long a program whose connection broke is given to say why, in milliseconds.
const LAST_WORDS_MS: u32 = 1000;

/// What [`Connection::wait`] heard.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// `control.next` has something.
    Signal,
    /// Nothing came in the time given.
    Timeout,
    /// The run was cancelled. Told once; afterwards everything works on until the grace period ends.
    Cancelled,
    /// The other side closed the connection. Repeated if asked again.
    Closed,
}

/// A program and an open websocket to it. Dropping it closes the one and kills the other's process group.
pub struct Connection<'h> {
    // Before `child`: the connection is closed before the program is killed.
    socket: Box<dyn Socket + 'h>,
    child: Child<'h>,
    frames: u32,
}

impl<'h> Connection<'h> {
    /// Connects. A port that is not open yet is tried again for `patience_ms`, since a program may name it before it
    /// listens. Errors: `denied` code `not-own-port`, `unavailable` with what the program said on stderr, `cancelled`.
    pub fn open(
        mut child: Child<'h>,
        port: u16,
        path: &str,
        headers: &[(String, String)],
        patience_ms: u32,
    ) -> Result<Self> {
        let end_ms = child.host().now_ms().saturating_add(patience_ms.into());
        loop {
            match child.connect(port, path, headers) {
                Ok(socket) => return Ok(Self { socket, child, frames: 0 }),
                Err(error) if !error.is_retryable() || child.host().now_ms() >= end_ms => {
                    return Err(child.describe(error));
                }
                Err(_) => {}
            }
            // Waiting for the program is the one way to sleep that also tells when it ends.
            match child.wait(CONNECT_STEP_MS)? {
                Said::Exited(exit) => return Err(child.ended(&exit, false)),
                Said::Cancelled => return Err(Error::cancelled("cancelled", "the run was cancelled")),
                Said::Line(_) | Said::Stderr(_) | Said::Signal | Said::Timeout => {}
            }
        }
    }

    /// Sends a text message.
    pub fn send(&self, text: String) -> Result<()> {
        self.socket.send(&Frame::Text(text))
    }

    /// Waits for what comes next, at most so long (0 only looks). Errors: what the host answers, such as `limit` code
    /// `frame-size`.
    pub fn wait(&mut self, timeout_ms: u32) -> Result<Heard> {
        let heard = match self.socket.receive(timeout_ms) {
            Ok(Received::Frame(Frame::Text(text))) => Heard::Text(text),
            Ok(Received::Frame(Frame::Binary(bytes))) => Heard::Binary(bytes),
            Ok(Received::Signal) => Heard::Signal,
            Ok(Received::Timeout) => Heard::Timeout,
            Ok(Received::Closed) => Heard::Closed,
            Err(error) if error.is_cancelled() => Heard::Cancelled,
            Err(error) => return Err(error),
        };
        self.frames += 1;
        if heard == Heard::Timeout || self.frames >= FRAMES_BETWEEN_LOOKS {
            self.frames = 0;
            self.look();
        }
        Ok(heard)
    }

    /// Why the connection was closed: the program's end or its last words on stderr. `working` as for [`Child::ended`];
    /// the code is `program-ended`, or `connection-closed` while the program lives on.
    pub fn lost(&mut self, working: bool) -> Error {
        let end_ms = self.child.host().now_ms().saturating_add(LAST_WORDS_MS.into());
        loop {
            let left = u32::try_from(end_ms.saturating_sub(self.child.host().now_ms())).unwrap_or(u32::MAX);
            match self.child.wait(left) {
                Ok(Said::Exited(exit)) => return self.child.ended(&exit, working),
                Ok(Said::Timeout) | Err(_) => break,
                Ok(_) if left == 0 => break,
                Ok(_) => {}
            }
        }
        let message = "the program closed the connection before its work was done";
        self.child.describe(if working {
            Error::uncertain("connection-closed", message)
        } else {
            Error::unavailable("connection-closed", message)
        })
    }

    /// The program.
    #[must_use]
    pub fn child(&self) -> &Child<'h> {
        &self.child
    }

    /// Closes the connection and ends the program in order; see [`Child::end`].
    pub fn end(self, patience_ms: u32) -> Option<Exit> {
        let Self { socket, child, frames: _ } = self;
        drop(socket);
        child.end(patience_ms, drop)
    }

    /// Takes what waits in the pipes. Signals and a cancel are told by the socket, an end by its closing.
    fn look(&mut self) {
        for _ in 0..LINES_PER_LOOK {
            match self.child.wait(0) {
                Ok(Said::Line(_) | Said::Stderr(_) | Said::Signal | Said::Cancelled) => {}
                Ok(Said::Timeout | Said::Exited(_)) | Err(_) => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child::Limits;
    use crate::error::ErrorKind;
    use crate::testing::{Dialed, FakeChild, FakeHost, FakeSocket, Step, command};

    fn open(host: &FakeHost) -> Result<Connection<'_>> {
        let child = Child::spawn(host, &command(&["/bin/vendor"]), Limits::default())?;
        Connection::open(child, 4711, "/", &[("x-key".into(), "k".into())], 200)
    }

    fn all(connection: &mut Connection<'_>) -> Vec<Heard> {
        let mut all = Vec::new();
        loop {
            let heard = connection.wait(10).expect("no error");
            all.push(heard.clone());
            if matches!(heard, Heard::Timeout | Heard::Closed) {
                return all;
            }
        }
    }

    #[test]
    fn messages_go_both_ways_and_what_waits_is_told_once() {
        let socket = FakeSocket::new()
            .at_start(vec![Step::Line("hi".into()), Step::Raw(vec![0, 1])])
            .on_text(|text| vec![Step::Line(format!("echo {text}")), Step::Steer("more".into()), Step::Cancel]);
        let host = FakeHost::new().child(FakeChild::new().socket(socket));
        let mut connection = open(&host).expect("open");
        assert_eq!(all(&mut connection), [Heard::Text("hi".into()), Heard::Binary(vec![0, 1]), Heard::Timeout]);
        connection.send("a".into()).expect("open");
        let told = [Heard::Text("echo a".into()), Heard::Cancelled, Heard::Signal, Heard::Timeout];
        assert_eq!(all(&mut connection), told);
        let headers = vec![("x-key".into(), "k".into())];
        assert_eq!(host.connects(), [Dialed { port: 4711, path: "/".into(), headers }]);
        assert_eq!(connection.end(100), Some(Exit::Code(0)));
        assert_eq!(host.stops(), ["close-stdin"]);
    }

    #[test]
    fn a_port_that_is_not_open_yet_is_tried_again_for_a_while() {
        let refused = || Error::unavailable("refused", "the connection was refused");
        let late = FakeChild::new().socket_error(refused()).socket_error(refused()).socket(FakeSocket::new());
        assert!(open(&FakeHost::new().child(late)).is_ok());

        let never = (0..9).fold(FakeChild::new(), |child, _| child.socket_error(refused()));
        let host = FakeHost::new().child(never.at_start(vec![Step::Stderr("no port\n".into())]));
        let error = open(&host).err().expect("refused");
        assert_eq!(error.message, "the connection was refused; its last words on stderr: `no port`");

        let other = FakeChild::new().socket_error(Error::denied("not-own-port", "the port is another's"));
        assert_eq!(open(&FakeHost::new().child(other)).err().expect("denied").code, "not-own-port");

        let gone = FakeChild::new().socket_error(refused()).at_start(vec![Step::Exit(Exit::Code(2))]);
        assert_eq!(open(&FakeHost::new().child(gone)).err().expect("gone").code, "program-ended");
    }

    #[test]
    fn a_closed_connection_says_why() {
        let closing = || FakeSocket::new().at_start(vec![Step::Exit(Exit::Code(0))]);
        let dying = FakeChild::new()
            .socket(closing())
            .at_start(vec![Step::Stderr("panic\n".into()), Step::Exit(Exit::Code(2))]);
        let host = FakeHost::new().child(dying);
        let mut connection = open(&host).expect("open");
        assert_eq!(all(&mut connection), [Heard::Closed]);
        let error = connection.lost(true);
        assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Uncertain, "program-ended"));
        assert!(error.message.ends_with("its last words on stderr: `panic`"), "{}", error.message);

        let living = FakeChild::new().socket(closing());
        let host = FakeHost::new().child(living);
        let error = open(&host).expect("open").lost(false);
        assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Unavailable, "connection-closed"));
    }

    #[test]
    fn a_full_stderr_is_emptied_while_only_the_socket_is_waited_for() {
        let steps = (0..100).map(|n| Step::Stderr(format!("line {n}\n"))).collect();
        let messages = (0..FRAMES_BETWEEN_LOOKS).map(|n| Step::Line(n.to_string())).collect();
        let child = FakeChild::new().at_start(steps).socket(FakeSocket::new().at_start(messages));
        let host = FakeHost::new().child(child);
        let mut connection = open(&host).expect("open");
        for _ in 0..FRAMES_BETWEEN_LOOKS {
            connection.wait(10).expect("a message");
        }
        assert!(connection.child().stderr_tail().ends_with("line 99"));
    }

    #[test]
    fn a_greeting_in_bytes_is_read_however_it_is_cut_and_lines_follow() {
        let read = |bytes: &[u8]| match bytes {
            [b'!', ..] => Err(Error::invalid("bad", "no greeting")),
            [a, b, c, ..] => Ok(Some(([*a, *b, *c], 3))),
            _ => Ok(None),
        };
        let child = FakeChild::new().at_start(vec![
            Step::Stderr("warn\n".into()),
            Step::Raw(vec![1]),
            Step::Raw(vec![2, b'\n', b'x', b'\n']),
        ]);
        let host = FakeHost::new().child(child);
        let mut child = Child::spawn(&host, &command(&["v"]), Limits::default()).expect("starts");
        assert_eq!(child.greet(b"hi", 100, read), Ok([1, 2, b'\n']));
        assert_eq!(child.wait(0), Ok(Said::Line("x".into())));
        for (steps, code) in [
            (vec![], "greeting"),
            (vec![Step::Line("!".into())], "bad"),
            (vec![Step::Exit(Exit::Code(1))], "program-ended"),
            (vec![Step::Cancel], "cancelled"),
        ] {
            let host = FakeHost::new().child(FakeChild::new().at_start(steps));
            let mut child = Child::spawn(&host, &command(&["v"]), Limits::default()).expect("starts");
            assert_eq!(child.greet(b"hi", 100, read).expect_err(code).code, code);
        }
    }
}
