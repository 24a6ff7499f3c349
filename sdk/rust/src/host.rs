//! Everything that a plugin may ask of the host, as one trait.
//!
//! A plugin takes `&dyn Host`. As a component that is [`Imports`], which calls the imports of the world; in a unit
//! test it is `testing::FakeHost`. Each method is one import; what they promise is written in `wit/v0`.

use crate::bindings::midplane::plugin as wit;
use crate::error::Result;

pub use wit::approval::{Decision, Question};
pub use wit::control::Signal;
pub use wit::events::Event;
pub use wit::http::Request;
pub use wit::kv::Entry;
pub use wit::log::Level;
pub use wit::process::Output;
pub use wit::tools::{Answer, Call, Tool};
pub use wit::types::{Command, Exit, StopMode};
pub use wit::ws::{Frame, Received};

/// What a plugin may ask of the host.
pub trait Host {
    /// `config.get`: the value of a setting, or unset.
    fn setting(&self, name: &str) -> Option<String>;

    /// `log.write`: one line for the operator.
    fn log(&self, level: Level, message: &str);

    /// `control.cancelled`: whether this call is cancelled. Never waits.
    fn cancelled(&self) -> bool;

    /// `control.remaining-ms`: milliseconds until the deadline; after a cancel, until the end of the grace period.
    fn remaining_ms(&self) -> u64;

    /// `control.next`: the next signal, waiting at most so long. The one way to sleep: a cancel ends it with kind
    /// `cancelled`, and a signal ends it early.
    fn signal(&self, timeout_ms: u32) -> Result<Option<Signal>>;

    /// Milliseconds on a clock that only goes forward, from an unknown start.
    fn now_ms(&self) -> u64;

    /// A number that others cannot guess well enough to collide with on purpose. Not for keys.
    fn random(&self) -> u64;

    /// `events.emit`: appends 1 to 256 events, all or none. Use [`crate::Events`] instead.
    fn emit(&self, events: &[Event]) -> Result<()>;

    /// `http.send` with a body of bytes; an empty one sends none. Returns when the response head is there.
    fn send(&self, request: &Request, body: Vec<u8>) -> Result<Box<dyn Incoming + '_>>;

    /// `kv.get`.
    fn kv_get(&self, key: &str) -> Result<Option<Entry>>;

    /// `kv.put`. `expect`: unset for always, 0 for absent, else exactly this revision.
    fn kv_put(&self, key: &str, value: &[u8], expect: Option<u64>) -> Result<u64>;

    /// `kv.remove`.
    fn kv_remove(&self, key: &str, expect: Option<u64>) -> Result<bool>;

    /// `kv.keys`.
    fn kv_keys(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<String>>;

    /// `tools.offered`: the tools of this run.
    fn offered(&self) -> Result<Vec<Tool>>;

    /// `tools.call-all`: runs 1 to 64 calls, an answer for each, in order.
    fn call_all(&self, calls: &[Call]) -> Result<Vec<Answer>>;

    /// `process.spawn`: starts a granted program. Use [`crate::child::Child`] to talk to it in lines.
    fn spawn(&self, command: &Command) -> Result<Box<dyn Process<'_> + '_>>;

    /// `approval.ask`: the host's policy, or a person, answers a vendor program's question. To be passed on as it is.
    fn ask(&self, question: &Question) -> Result<Decision>;
}

/// A program that was started with a host of the lifetime `'h`. Dropping it kills its process group.
pub trait Process<'h> {
    /// `child.write`: queues bytes for stdin, all or none; `limit` code `stdin-full`, `conflict` code `stdin-closed`.
    fn write(&self, data: &[u8]) -> Result<()>;

    /// `child.close-stdin`: ends stdin after what is queued.
    fn close_stdin(&self);

    /// `child.next`: the one place to wait; `cancelled` once, then works on until the grace period ends.
    fn next(&self, bytes_max: u32, timeout_ms: u32) -> Result<Output>;

    /// `child.stop`: asks the whole process group to end, and does not wait.
    fn stop(&self, how: StopMode) -> Result<()>;

    /// `ws.connect`: a websocket to a port that the program itself opened on the loopback address. Use
    /// [`crate::ws::Connection`] to wait for both.
    fn connect(&self, port: u16, path: &str, headers: &[(String, String)]) -> Result<Box<dyn Socket + 'h>>;
}

/// A websocket to a program that was started. Dropping it closes the connection.
pub trait Socket {
    /// `socket.send`: queues one message of at most 4 MiB, whole or not at all; `unavailable` code `closed`, `limit` code
    /// `frame-size` or `queue-full`.
    fn send(&self, frame: &Frame) -> Result<()>;

    /// `socket.receive`: the next message; `limit` code `frame-size`; `cancelled` once, then works on until the grace
    /// period ends. The program's pipes are not read meanwhile.
    fn receive(&self, timeout_ms: u32) -> Result<Received>;
}

/// A response whose body is still arriving. Dropping it closes the connection.
pub trait Incoming {
    /// The status code.
    fn status(&self) -> u16;

    /// Headers in order, names in lower case.
    fn headers(&self) -> Vec<(String, String)>;

    /// The next bytes as soon as some are there; unset at the end of a complete body.
    fn read(&mut self, bytes_max: u32) -> Result<Option<Vec<u8>>>;
}

/// The host of a component: each method is a call of an import.
///
/// Outside of a component the imports do not exist, and calling one ends the program with "unreachable code".
#[derive(Debug, Default, Clone, Copy)]
pub struct Imports;

impl Host for Imports {
    fn setting(&self, name: &str) -> Option<String> {
        wit::config::get(name)
    }

    fn log(&self, level: Level, message: &str) {
        wit::log::write(level, message);
    }

    fn cancelled(&self) -> bool {
        wit::control::cancelled()
    }

    fn remaining_ms(&self) -> u64 {
        wit::control::remaining_ms()
    }

    fn signal(&self, timeout_ms: u32) -> Result<Option<Signal>> {
        wit::control::next(timeout_ms)
    }

    fn now_ms(&self) -> u64 {
        use std::sync::OnceLock;
        use std::time::Instant;
        // `Instant` has no zero, so the first question of the instance is the start.
        static START: OnceLock<Instant> = OnceLock::new();
        let elapsed = START.get_or_init(Instant::now).elapsed();
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    }

    fn random(&self) -> u64 {
        use std::hash::{BuildHasher, Hasher, RandomState};
        // The keys of a `RandomState` come from the host's `wasi:random`; an instance lives for one call, so this
        // is fresh enough for jitter and needs no crate.
        RandomState::new().build_hasher().finish()
    }

    fn emit(&self, events: &[Event]) -> Result<()> {
        wit::events::emit(events)
    }

    fn send(&self, request: &Request, body: Vec<u8>) -> Result<Box<dyn Incoming + '_>> {
        let body = if body.is_empty() { wit::http::Body::Empty } else { wit::http::Body::Bytes(body) };
        Ok(Box::new(wit::http::send(request, &body)?))
    }

    fn kv_get(&self, key: &str) -> Result<Option<Entry>> {
        wit::kv::get(key)
    }

    fn kv_put(&self, key: &str, value: &[u8], expect: Option<u64>) -> Result<u64> {
        wit::kv::put(key, value, expect)
    }

    fn kv_remove(&self, key: &str, expect: Option<u64>) -> Result<bool> {
        wit::kv::remove(key, expect)
    }

    fn kv_keys(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<String>> {
        wit::kv::keys(prefix, after, limit)
    }

    fn offered(&self) -> Result<Vec<Tool>> {
        wit::tools::offered()
    }

    fn call_all(&self, calls: &[Call]) -> Result<Vec<Answer>> {
        wit::tools::call_all(calls)
    }

    fn spawn(&self, command: &Command) -> Result<Box<dyn Process<'_> + '_>> {
        Ok(Box::new(wit::process::spawn(command)?))
    }

    fn ask(&self, question: &Question) -> Result<Decision> {
        wit::approval::ask(question)
    }
}

impl<'h> Process<'h> for wit::process::Child {
    fn write(&self, data: &[u8]) -> Result<()> {
        wit::process::Child::write(self, data)
    }

    fn close_stdin(&self) {
        wit::process::Child::close_stdin(self);
    }

    fn next(&self, bytes_max: u32, timeout_ms: u32) -> Result<Output> {
        wit::process::Child::next(self, bytes_max, timeout_ms)
    }

    fn stop(&self, how: StopMode) -> Result<()> {
        wit::process::Child::stop(self, how)
    }

    fn connect(&self, port: u16, path: &str, headers: &[(String, String)]) -> Result<Box<dyn Socket + 'h>> {
        Ok(Box::new(wit::ws::connect(self, port, path, headers)?))
    }
}

impl Socket for wit::ws::Socket {
    fn send(&self, frame: &Frame) -> Result<()> {
        wit::ws::Socket::send(self, frame)
    }

    fn receive(&self, timeout_ms: u32) -> Result<Received> {
        wit::ws::Socket::receive(self, timeout_ms)
    }
}

impl Incoming for wit::http::Response {
    fn status(&self) -> u16 {
        wit::http::Response::status(self)
    }

    fn headers(&self) -> Vec<(String, String)> {
        wit::http::Response::headers(self)
    }

    fn read(&mut self, bytes_max: u32) -> Result<Option<Vec<u8>>> {
        wit::http::Response::read(self, bytes_max)
    }
}
