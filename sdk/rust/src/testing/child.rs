//! A scripted program: what it says at its start and to each line, and how it takes being stopped.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use super::FakeHost;
use super::socket::{self, Dialed, FakeSocket};
use crate::error::{Error, Result};
use crate::host::{Command, Exit, Host, Output, Process, Socket, StopMode};

/// Waits for nothing after which a test has shown that the plugin never ends.
const TIMEOUTS_MAX: usize = 100_000;

type LineFn = Box<dyn FnMut(&str) -> Vec<Step>>;

/// One thing that a scripted program does.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Writes a line to stdout; the end is added.
    Line(String),
    /// Writes bytes to stdout as they are.
    Raw(Vec<u8>),
    /// Writes text to stderr as it is.
    Stderr(String),
    /// Lets time pass before the next.
    Wait(u32),
    /// Ends.
    Exit(Exit),
    /// Not the program: the run is cancelled now.
    Cancel,
    /// Not the program: the user steers now.
    Steer(String),
}

impl Step {
    /// Writes a JSON value as a line.
    #[must_use]
    pub fn json(value: &serde_json::Value) -> Self {
        Self::Line(value.to_string())
    }
}

/// A scripted program for [`FakeHost::child`].
#[derive(Default)]
pub struct FakeChild {
    start: Vec<Step>,
    line: Option<LineFn>,
    stdin_full: usize,
    ignores_eof: bool,
    ignores_terminate: bool,
    sockets: VecDeque<Result<FakeSocket>>,
}

impl FakeChild {
    /// A program that says nothing, and ends when stdin does.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What it does when it starts.
    #[must_use]
    pub fn at_start(mut self, steps: Vec<Step>) -> Self {
        self.start = steps;
        self
    }

    /// What it does for each line of its input.
    #[must_use]
    pub fn on_line(mut self, line: impl FnMut(&str) -> Vec<Step> + 'static) -> Self {
        self.line = Some(Box::new(line));
        self
    }

    /// Its stdin is full so many times.
    #[must_use]
    pub fn stdin_full(mut self, times: usize) -> Self {
        self.stdin_full = times;
        self
    }

    /// It goes on when stdin ends.
    #[must_use]
    pub fn ignores_eof(mut self) -> Self {
        self.ignores_eof = true;
        self
    }

    /// The next websocket to it.
    #[must_use]
    pub fn socket(mut self, socket: FakeSocket) -> Self {
        self.sockets.push_back(Ok(socket));
        self
    }

    /// The next attempt to connect to it fails.
    #[must_use]
    pub fn socket_error(mut self, error: Error) -> Self {
        self.sockets.push_back(Err(error));
        self
    }

    /// It goes on when it is asked to end.
    #[must_use]
    pub fn ignores_terminate(mut self) -> Self {
        self.ignores_terminate = true;
        self
    }
}

/// A command of these arguments, without anything else.
#[must_use]
pub fn command(argv: &[&str]) -> Command {
    Command {
        argv: argv.iter().map(|part| (*part).to_owned()).collect(),
        cwd: None,
        env: Vec::new(),
        secret_env: Vec::new(),
    }
}

/// A started [`FakeChild`].
pub(super) struct Running<'h> {
    host: &'h FakeHost,
    steps: RefCell<VecDeque<Step>>,
    line: RefCell<Option<LineFn>>,
    stdin_full: Cell<usize>,
    stdin_closed: Cell<bool>,
    ignores_eof: bool,
    ignores_terminate: bool,
    input: RefCell<Vec<u8>>,
    exit: RefCell<Option<Exit>>,
    cancel_said: Cell<bool>,
    signals_said: Cell<usize>,
    timeouts: Cell<usize>,
    sockets: RefCell<VecDeque<Result<FakeSocket>>>,
}

impl<'h> Running<'h> {
    pub(super) fn new(host: &'h FakeHost, child: FakeChild) -> Self {
        Self {
            host,
            steps: RefCell::new(child.start.into()),
            line: RefCell::new(child.line),
            stdin_full: Cell::new(child.stdin_full),
            stdin_closed: Cell::new(false),
            ignores_eof: child.ignores_eof,
            ignores_terminate: child.ignores_terminate,
            input: RefCell::new(Vec::new()),
            exit: RefCell::new(None),
            cancel_said: Cell::new(false),
            signals_said: Cell::new(0),
            timeouts: Cell::new(0),
            sockets: RefCell::new(child.sockets),
        }
    }

    /// All that it still does when it is asked to end: what it has said is read before the end.
    fn then_exit(&self, exit: Exit) {
        self.steps.borrow_mut().push_back(Step::Exit(exit));
    }
}

impl<'h> Process<'h> for Running<'h> {
    fn write(&self, data: &[u8]) -> Result<()> {
        if self.stdin_full.get() > 0 {
            self.stdin_full.set(self.stdin_full.get() - 1);
            return Err(Error::limit("stdin-full", "the queue of stdin is full"));
        }
        if self.stdin_closed.get() || self.exit.borrow().is_some() {
            return Err(Error::conflict("stdin-closed", "stdin is closed"));
        }
        let mut input = self.input.borrow_mut();
        input.extend_from_slice(data);
        while let Some(end) = input.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = input.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line[..end]).into_owned();
            let steps = self.line.borrow_mut().as_mut().map(|answer| answer(&line)).unwrap_or_default();
            self.host.written.borrow_mut().push(line);
            self.steps.borrow_mut().extend(steps);
        }
        Ok(())
    }

    fn close_stdin(&self) {
        self.host.stops.borrow_mut().push("close-stdin");
        if !self.stdin_closed.replace(true) && !self.ignores_eof {
            self.then_exit(Exit::Code(0));
        }
    }

    fn next(&self, bytes_max: u32, timeout_ms: u32) -> Result<Output> {
        if self.host.cancelled() && !self.cancel_said.replace(true) {
            return Err(Error::cancelled("cancelled", "the run was cancelled"));
        }
        if let Some(exit) = &*self.exit.borrow() {
            return Ok(Output::Exited(exit.clone()));
        }
        let step = self.steps.borrow_mut().pop_front();
        let (mut bytes, stdout) = match step {
            Some(Step::Line(line)) => (format!("{line}\n").into_bytes(), true),
            Some(Step::Raw(bytes)) => (bytes, true),
            Some(Step::Stderr(text)) => (text.into_bytes(), false),
            Some(Step::Wait(ms)) if ms > timeout_ms => {
                self.steps.borrow_mut().push_front(Step::Wait(ms - timeout_ms));
                self.host.advance(timeout_ms.into());
                return Ok(Output::Timeout);
            }
            Some(Step::Wait(ms)) => {
                self.host.advance(ms.into());
                return self.next(bytes_max, timeout_ms - ms);
            }
            Some(Step::Exit(exit)) => {
                *self.exit.borrow_mut() = Some(exit.clone());
                return Ok(Output::Exited(exit));
            }
            Some(Step::Cancel) => {
                self.host.cancel();
                return self.next(bytes_max, timeout_ms);
            }
            Some(Step::Steer(text)) => {
                self.host.steer(&text);
                return self.next(bytes_max, timeout_ms);
            }
            None => {
                // Each is said once, also when nobody has asked for the one before.
                if self.host.steered.get() > self.signals_said.get() {
                    self.signals_said.set(self.signals_said.get() + 1);
                    return Ok(Output::Signal);
                }
                self.timeouts.set(self.timeouts.get() + 1);
                assert!(self.timeouts.get() < TIMEOUTS_MAX, "the plugin waits for ever for a program that is silent");
                self.host.advance(timeout_ms.into());
                // An elapsed deadline is a cancel.
                if self.host.cancelled() && !self.cancel_said.replace(true) {
                    return Err(Error::cancelled("cancelled", "the run was cancelled"));
                }
                return Ok(Output::Timeout);
            }
        };
        let rest = bytes.split_off(bytes.len().min(bytes_max as usize));
        if !rest.is_empty() {
            let rest = if stdout { Step::Raw(rest) } else { Step::Stderr(String::from_utf8_lossy(&rest).into_owned()) };
            self.steps.borrow_mut().push_front(rest);
        }
        Ok(if stdout { Output::Stdout(bytes) } else { Output::Stderr(bytes) })
    }

    fn stop(&self, how: StopMode) -> Result<()> {
        let (word, signal, heeds) = match how {
            StopMode::Interrupt => ("interrupt", "SIGINT", !self.ignores_terminate),
            StopMode::Terminate => ("terminate", "SIGTERM", !self.ignores_terminate),
            StopMode::Kill => ("kill", "SIGKILL", true),
        };
        self.host.stops.borrow_mut().push(word);
        if heeds {
            self.then_exit(Exit::Signal(signal.into()));
        }
        Ok(())
    }

    fn connect(&self, port: u16, path: &str, headers: &[(String, String)]) -> Result<Box<dyn Socket + 'h>> {
        self.host.connects.borrow_mut().push(Dialed { port, path: path.to_owned(), headers: headers.to_vec() });
        let socket = self.sockets.borrow_mut().pop_front();
        let socket = socket.unwrap_or_else(|| panic!("no websocket is scripted for port {port}"))?;
        Ok(Box::new(socket::Open::new(self.host, socket)))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.exit.borrow().is_none() {
            self.host.stops.borrow_mut().push("drop");
        }
    }
}
