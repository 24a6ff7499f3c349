//! A scripted websocket of a scripted program: what it says when it is open, and to each message.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use super::{FakeHost, Step};
use crate::error::{Error, Result};
use crate::host::{Frame, Host, Received, Socket};

type TextFn = Box<dyn FnMut(&str) -> Vec<Step>>;

/// A websocket that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialed {
    /// The port of the program.
    pub port: u16,
    /// The path.
    pub path: String,
    /// The headers.
    pub headers: Vec<(String, String)>,
}

/// A scripted websocket for [`super::FakeChild::socket`]. Its steps are those of a program: `Line` is a text message,
/// `Raw` a binary one, `Exit` closes the connection.
#[derive(Default)]
pub struct FakeSocket {
    start: Vec<Step>,
    text: Option<TextFn>,
}

impl FakeSocket {
    /// A websocket that says nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What it says once it is open.
    #[must_use]
    pub fn at_start(mut self, steps: Vec<Step>) -> Self {
        self.start = steps;
        self
    }

    /// What it says to each text message.
    #[must_use]
    pub fn on_text(mut self, text: impl FnMut(&str) -> Vec<Step> + 'static) -> Self {
        self.text = Some(Box::new(text));
        self
    }
}

/// An open [`FakeSocket`].
pub(super) struct Open<'h> {
    host: &'h FakeHost,
    steps: RefCell<VecDeque<Step>>,
    text: RefCell<Option<TextFn>>,
    closed: Cell<bool>,
    cancel_said: Cell<bool>,
    signals_said: Cell<usize>,
}

impl<'h> Open<'h> {
    pub(super) fn new(host: &'h FakeHost, socket: FakeSocket) -> Self {
        Self {
            host,
            steps: RefCell::new(socket.start.into()),
            text: RefCell::new(socket.text),
            closed: Cell::new(false),
            cancel_said: Cell::new(false),
            signals_said: Cell::new(0),
        }
    }
}

impl Socket for Open<'_> {
    fn send(&self, frame: &Frame) -> Result<()> {
        if self.closed.get() {
            return Err(Error::unavailable("closed", "the connection is closed"));
        }
        let Frame::Text(text) = frame else { return Ok(()) };
        let steps = self.text.borrow_mut().as_mut().map(|answer| answer(text)).unwrap_or_default();
        self.host.written.borrow_mut().push(text.clone());
        self.steps.borrow_mut().extend(steps);
        Ok(())
    }

    fn receive(&self, timeout_ms: u32) -> Result<Received> {
        if self.host.cancelled() && !self.cancel_said.replace(true) {
            return Err(Error::cancelled("cancelled", "the run was cancelled"));
        }
        if self.closed.get() {
            return Ok(Received::Closed);
        }
        let step = self.steps.borrow_mut().pop_front();
        match step {
            Some(Step::Line(text)) => Ok(Received::Frame(Frame::Text(text))),
            Some(Step::Raw(bytes)) => Ok(Received::Frame(Frame::Binary(bytes))),
            Some(Step::Stderr(_)) => panic!("a websocket has no stderr; script it for the program"),
            Some(Step::Wait(ms)) if ms > timeout_ms => {
                self.steps.borrow_mut().push_front(Step::Wait(ms - timeout_ms));
                self.host.advance(timeout_ms.into());
                Ok(Received::Timeout)
            }
            Some(Step::Wait(ms)) => {
                self.host.advance(ms.into());
                self.receive(timeout_ms - ms)
            }
            Some(Step::Exit(_)) => {
                self.closed.set(true);
                Ok(Received::Closed)
            }
            Some(Step::Cancel) => {
                self.host.cancel();
                self.receive(timeout_ms)
            }
            Some(Step::Steer(text)) => {
                self.host.steer(&text);
                self.receive(timeout_ms)
            }
            None => {
                let waiting = self.host.signals.borrow().len();
                if waiting > self.signals_said.replace(waiting) {
                    return Ok(Received::Signal);
                }
                self.host.advance(timeout_ms.into());
                if self.host.cancelled() && !self.cancel_said.replace(true) {
                    return Err(Error::cancelled("cancelled", "the run was cancelled"));
                }
                Ok(Received::Timeout)
            }
        }
    }
}
