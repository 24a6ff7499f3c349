//! JSON-RPC with a vendor's program, one message a line, in both directions.
//!
//! A [`Peer`] numbers its calls, matches the answers, and tells the rest in order. What the other side sends is bounded
//! and never believed: an answer to no call is counted and skipped, a line that is no message likewise.
//!
//! # What it never does
//! It answers no request of the other side by itself: the adapter must, also one that it does not know
//! ([`Peer::refuse`]).

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

use crate::child::{Child, Said};
use crate::error::{Error, Result, cut};
use crate::host::Exit;

/// Calls without an answer at most.
const PENDING_MAX: usize = 64;
/// Messages that wait at most, while a [`Peer::request`] waits for its answer.
const BACKLOG_MAX: usize = 4096;
/// Bytes of such messages at most.
const BACKLOG_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest text id of the other side's requests, in bytes.
const ID_BYTES_MAX: usize = 256;
/// Longest message of an error that is kept, in bytes.
const MESSAGE_BYTES_MAX: usize = 4096;

/// The code for a method that is not known.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// The code for parameters that cannot be used.
pub const INVALID_PARAMS: i64 = -32602;
/// The code for a defect.
pub const INTERNAL_ERROR: i64 = -32603;

/// What differs between programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// Whether messages carry `"jsonrpc": "2.0"`. They are understood with and without.
    pub member: bool,
    /// Whether the ids of our calls are text; else they are numbers.
    pub text_ids: bool,
}

/// The id of a request of the other side: 0 is one, and its kind must be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Id(Value);

impl Id {
    /// The id as it stood in the message.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.0
    }

    /// A number or a text of a sensible length is one.
    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Number(_) => Some(Self(value.clone())),
            Value::String(text) if text.len() <= ID_BYTES_MAX => Some(Self(value.clone())),
            _ => None,
        }
    }
}

/// One of our calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId(u64);

/// The other side's error.
#[derive(Debug, Clone, PartialEq)]
pub struct RpcError {
    /// Its number.
    pub code: i64,
    /// What it says, cut to 4 KiB.
    pub message: String,
    /// More about it, or null.
    pub data: Value,
}

/// The answer to one of our calls.
pub type Reply = Result<Value, RpcError>;

/// What [`Peer::wait`] saw.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// It tells something.
    Notification {
        /// What.
        method: String,
        /// Its parameters, or null.
        params: Value,
    },
    /// It asks something and waits for [`Peer::answer`] or [`Peer::refuse`].
    Request {
        /// To answer with.
        id: Id,
        /// What it wants.
        method: String,
        /// Its parameters, or null.
        params: Value,
    },
    /// It answers one of our calls.
    Response {
        /// Which.
        call: CallId,
        /// What.
        reply: Reply,
    },
    /// A line of its stderr.
    Stderr(String),
    /// `control.next` has something.
    Signal,
    /// Nothing came in the time given.
    Timeout,
    /// The run was cancelled; told once.
    Cancelled,
    /// It ended, and all that it said has been told.
    Exited(Exit),
}

/// A program that speaks JSON-RPC in lines.
pub struct Peer<'h> {
    child: Child<'h>,
    dialect: Dialect,
    next_id: u64,
    pending: BTreeMap<CallId, String>,
    backlog: VecDeque<(usize, Incoming)>,
    backlog_bytes: usize,
    ignored: u64,
}

impl<'h> Peer<'h> {
    /// Speaks with a program that was started.
    #[must_use]
    pub fn new(child: Child<'h>, dialect: Dialect) -> Self {
        Self {
            child,
            dialect,
            next_id: 1,
            pending: BTreeMap::new(),
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            ignored: 0,
        }
    }

    /// The program.
    #[must_use]
    pub fn child(&self) -> &Child<'h> {
        &self.child
    }

    /// The program, to end it.
    #[must_use]
    pub fn into_child(self) -> Child<'h> {
        self.child
    }

    /// How many answers came to no call of ours, late ones among them.
    #[must_use]
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    /// Sends a call; the answer comes by [`Peer::wait`]. Errors: as [`Child::send`], and `limit` code `calls-pending`.
    pub fn call(&mut self, method: &str, params: &Value) -> Result<CallId> {
        if self.pending.len() >= PENDING_MAX {
            return Err(Error::limit("calls-pending", format!("{PENDING_MAX} calls have no answer yet")));
        }
        let call = CallId(self.next_id);
        self.next_id += 1;
        let id = if self.dialect.text_ids { json!(call.0.to_string()) } else { json!(call.0) };
        self.send(json!({ "id": id, "method": method, "params": params }))?;
        self.pending.insert(call, method.to_owned());
        Ok(call)
    }

    /// Waits for the answer to a call, at most so long; what else comes waits for [`Peer::wait`], but for lines of stderr.
    /// Errors: `unavailable` code `no-answer` after that time; `cancelled`; what the program's end or the host says; `limit`
    /// code `backlog`.
    pub fn request(&mut self, method: &str, params: &Value, timeout_ms: u32) -> Result<Reply> {
        let host = self.child.host();
        let call = self.call(method, params)?;
        let end_ms = host.now_ms().saturating_add(timeout_ms.into());
        loop {
            let left = u32::try_from(end_ms.saturating_sub(host.now_ms())).unwrap_or(u32::MAX);
            let (bytes, incoming) = match self.read(left) {
                Ok(read) => read,
                Err(error) => {
                    self.pending.remove(&call);
                    return Err(error);
                }
            };
            match incoming {
                Incoming::Response { call: answered, reply } if answered == call => return Ok(reply),
                Incoming::Timeout => {
                    self.pending.remove(&call);
                    return Err(self.child.describe(Error::unavailable(
                        "no-answer",
                        format!("no answer to `{method}` in {timeout_ms} ms"),
                    )));
                }
                Incoming::Cancelled => {
                    self.pending.remove(&call);
                    return Err(Error::cancelled("cancelled", "the run was cancelled"));
                }
                Incoming::Exited(exit) => {
                    self.pending.remove(&call);
                    return Err(self.child.ended(&exit, false));
                }
                // Its end is kept by the child. Held here, noise would use up what answers and events need.
                Incoming::Stderr(_) => {}
                other => {
                    self.backlog_bytes += bytes;
                    self.backlog.push_back((bytes, other));
                    if self.backlog.len() > BACKLOG_MAX || self.backlog_bytes > BACKLOG_BYTES_MAX {
                        return Err(Error::limit("backlog", format!("too much came before the answer to `{method}`")));
                    }
                }
            }
        }
    }

    /// Tells something.
    pub fn notify(&mut self, method: &str, params: Option<&Value>) -> Result<()> {
        let mut message = json!({ "method": method });
        if let Some(params) = params {
            message["params"] = params.clone();
        }
        self.send(message)
    }

    /// Answers a request.
    pub fn answer(&mut self, id: &Id, result: &Value) -> Result<()> {
        self.send(json!({ "id": id.0, "result": result }))
    }

    /// Answers a request with an error.
    pub fn refuse(&mut self, id: &Id, code: i64, message: &str) -> Result<()> {
        self.send(json!({ "id": id.0, "error": { "code": code, "message": message } }))
    }

    /// Waits for what comes next, at most so long (0 only looks).
    pub fn wait(&mut self, timeout_ms: u32) -> Result<Incoming> {
        if let Some((bytes, held)) = self.backlog.pop_front() {
            self.backlog_bytes -= bytes;
            return Ok(held);
        }
        Ok(self.read(timeout_ms)?.1)
    }

    fn send(&mut self, mut message: Value) -> Result<()> {
        if self.dialect.member {
            message["jsonrpc"] = json!("2.0");
        }
        self.child.send(&message.to_string())
    }

    /// The next past the backlog, with the bytes of its line.
    fn read(&mut self, timeout_ms: u32) -> Result<(usize, Incoming)> {
        let host = self.child.host();
        let end_ms = host.now_ms().saturating_add(timeout_ms.into());
        loop {
            let left = u32::try_from(end_ms.saturating_sub(host.now_ms())).unwrap_or(u32::MAX);
            return Ok(match self.child.wait(left)? {
                Said::Line(line) => match self.message(&line) {
                    Some(incoming) => (line.len(), incoming),
                    // A flood of them must not hold the caller past its time.
                    None if host.now_ms() >= end_ms => (0, Incoming::Timeout),
                    None => continue,
                },
                Said::Stderr(line) => (line.len(), Incoming::Stderr(line)),
                Said::Signal => (0, Incoming::Signal),
                Said::Timeout => (0, Incoming::Timeout),
                Said::Cancelled => (0, Incoming::Cancelled),
                Said::Exited(exit) => (0, Incoming::Exited(exit)),
            });
        }
    }

    /// What a line says; unset for one to skip.
    fn message(&mut self, line: &str) -> Option<Incoming> {
        let Ok(Value::Object(mut message)) = serde_json::from_str(line) else {
            self.child.skip(line);
            return None;
        };
        let id = message.remove("id");
        if let Some(Value::String(method)) = message.remove("method") {
            let params = message.remove("params").unwrap_or_default();
            let Some(id) = id else { return Some(Incoming::Notification { method, params }) };
            let Some(id) = Id::read(&id) else {
                self.child.skip(line);
                return None;
            };
            return Some(Incoming::Request { id, method, params });
        }
        let reply = match (message.remove("result"), message.remove("error")) {
            (_, Some(Value::Object(error))) => Err(RpcError {
                code: error.get("code").and_then(Value::as_i64).unwrap_or_default(),
                message: cut(
                    error.get("message").and_then(Value::as_str).unwrap_or_default().into(),
                    MESSAGE_BYTES_MAX,
                ),
                data: error.get("data").cloned().unwrap_or_default(),
            }),
            (Some(result), _) => Ok(result),
            _ => {
                self.child.skip(line);
                return None;
            }
        };
        // Some give a number back as text, or the other way round.
        let call = match &id {
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(text)) => text.parse().ok(),
            _ => None,
        };
        let Some(call) = call.map(CallId).filter(|call| self.pending.remove(call).is_some()) else {
            self.ignored = self.ignored.saturating_add(1);
            return None;
        };
        Some(Incoming::Response { call, reply })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child::Limits;
    use crate::error::ErrorKind;
    use crate::testing::{FakeChild, FakeHost, Step, command};

    const PLAIN: Dialect = Dialect { member: false, text_ids: true };

    fn peer(host: &FakeHost, dialect: Dialect) -> Peer<'_> {
        Peer::new(Child::spawn(host, &command(&["v"]), Limits::default()).expect("starts"), dialect)
    }

    #[test]
    fn both_dialects_number_calls_and_match_answers() {
        for (dialect, sent) in [
            (PLAIN, r#"{"id":"1","method":"m","params":{}}"#),
            (Dialect { member: true, text_ids: false }, r#"{"id":1,"jsonrpc":"2.0","method":"m","params":{}}"#),
        ] {
            let host = FakeHost::new().child(FakeChild::new().on_line(|line| {
                let message: Value = serde_json::from_str(line).expect("a message");
                vec![
                    Step::json(&json!({ "method": "told" })),
                    Step::json(&json!({ "id": message["id"], "result": { "ok": true } })),
                ]
            }));
            let mut peer = peer(&host, dialect);
            assert_eq!(peer.request("m", &json!({}), 100), Ok(Ok(json!({ "ok": true }))));
            assert_eq!(host.written(), [sent]);
            let told = Incoming::Notification { method: "told".into(), params: Value::Null };
            assert_eq!(peer.wait(10), Ok(told));
            assert_eq!(peer.wait(10), Ok(Incoming::Timeout));
        }
    }

    #[test]
    fn an_answer_to_no_call_is_counted_and_what_is_no_message_is_skipped() {
        let lines = [
            r#"{"id":"9","result":1}"#,
            r#"{"id":null,"result":1}"#,
            r#"{"id":"1","result":1}"#,
            r#"{"id":"1","result":2}"#,
            "Welcome!",
            "[1]",
            r#"{"jsonrpc":"2.0"}"#,
            r#"{"id":{},"method":"m"}"#,
            r#"{"id":"nan","error":{"code":1}}"#,
        ];
        let host = FakeHost::new()
            .child(FakeChild::new().on_line(move |_| lines.iter().map(|line| Step::Line((*line).into())).collect()));
        let mut peer = peer(&host, PLAIN);
        let call = peer.call("m", &json!({})).expect("sent");
        assert_eq!(peer.wait(10), Ok(Incoming::Response { call, reply: Ok(json!(1)) }));
        assert_eq!(peer.wait(10), Ok(Incoming::Timeout));
        assert_eq!((peer.ignored(), peer.child().skipped()), (4, 4));
    }

    #[test]
    fn requests_of_the_program_keep_their_id_also_zero() {
        let host = FakeHost::new().child(FakeChild::new().at_start(vec![
            Step::Line(r#"{"id":0,"method":"ask","params":{"a":1}}"#.into()),
            Step::Line(r#"{"id":"x","method":"other"}"#.into()),
        ]));
        let mut peer = peer(&host, PLAIN);
        for expected in [json!(0), json!("x")] {
            let Ok(Incoming::Request { id, .. }) = peer.wait(10) else { panic!("a request") };
            assert_eq!(id.value(), &expected);
            if expected == json!(0) {
                peer.answer(&id, &json!({ "decision": "decline" })).expect("sent");
            } else {
                peer.refuse(&id, METHOD_NOT_FOUND, "not known").expect("sent");
            }
        }
        assert_eq!(
            host.written(),
            [
                r#"{"id":0,"result":{"decision":"decline"}}"#,
                r#"{"error":{"code":-32601,"message":"not known"},"id":"x"}"#
            ]
        );
    }

    #[test]
    fn a_request_ends_with_its_error_the_time_the_cancel_or_the_program() {
        let rows = [
            (vec![Step::Line(r#"{"id":"1","error":{"code":-32600,"message":"no"}}"#.into())], None),
            (vec![Step::Line("garbage".into())], Some((ErrorKind::Unavailable, "no-answer"))),
            (vec![Step::Cancel], Some((ErrorKind::Cancelled, "cancelled"))),
            (
                vec![Step::Stderr("boom\n".into()), Step::Exit(Exit::Code(1))],
                Some((ErrorKind::Unavailable, "program-ended")),
            ),
        ];
        for (steps, expected) in rows {
            let host = FakeHost::new().child(FakeChild::new().on_line(move |_| steps.clone()));
            let mut peer = peer(&host, PLAIN);
            match (peer.request("m", &json!({}), 100), expected) {
                (Ok(Err(error)), None) => assert_eq!((error.code, error.message.as_str()), (-32600, "no")),
                (Err(error), Some((kind, code))) => {
                    assert_eq!((error.kind, error.code.as_str()), (kind, code));
                    if code == "no-answer" {
                        assert!(error.message.contains("the first: `garbage`"), "{}", error.message);
                    }
                }
                other => panic!("{other:?}"),
            }
            assert!(peer.pending.is_empty());
        }
    }

    #[test]
    fn calls_and_the_backlog_are_bounded() {
        let host = FakeHost::new().child(FakeChild::new());
        let mut calls = peer(&host, PLAIN);
        for _ in 0..PENDING_MAX {
            calls.call("m", &json!({})).expect("room");
        }
        assert_eq!(calls.call("m", &json!({})).expect_err("full").code, "calls-pending");

        let flood = || vec![Step::Line(r#"{"method":"told"}"#.into()); BACKLOG_MAX + 1];
        let host = FakeHost::new().child(FakeChild::new().on_line(move |_| flood()));
        let mut peer = peer(&host, PLAIN);
        assert_eq!(peer.request("m", &json!({}), 100).expect_err("full").code, "backlog");

        // Noise beside the messages is none of them.
        let noise = || {
            let mut steps = vec![Step::Stderr("woe\n".into()); BACKLOG_MAX + 1];
            steps.push(Step::Line(r#"{"id":1,"result":{}}"#.into()));
            steps
        };
        let host = FakeHost::new().child(FakeChild::new().on_line(move |_| noise()));
        assert!(self::peer(&host, PLAIN).request("m", &json!({}), 100).is_ok_and(|reply| reply.is_ok()));
    }
}
