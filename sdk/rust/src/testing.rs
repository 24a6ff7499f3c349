//! A scripted host for unit tests: what it answers is set before, what it was asked is read after.
//!
//! It keeps the rules of the contract that a plugin could break (batch sizes, the order of `runtime_started`, ids used
//! twice, compare-and-set), so that a test fails where the real host would refuse. Its clock moves only when the
//! plugin waits or the test says so.

mod child;
mod record;
mod socket;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet, VecDeque};

use serde_json::Value;

use crate::agent::{FilesystemAccess, PermissionMode, PermissionProfile, Task};
use crate::error::{Error, Result};
use crate::host::{
    Answer, Call, Command, Decision, Entry, Event, Host, Incoming, Level, Process, Question, Request, Signal, Tool,
};

pub use child::{FakeChild, Step, command};
pub use record::{assert_cuts_do_not_matter, record, record_short};
pub use socket::{Dialed, FakeSocket};

type AskFn = Box<dyn Fn(&Question) -> Result<Decision>>;
type ToolFn = Box<dyn Fn(&Call) -> Answer>;

/// A scripted answer to one HTTP request.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    chunks: VecDeque<Result<Vec<u8>>>,
    cancel_at_end: bool,
}

impl Reply {
    /// An answer with a body in one chunk.
    #[must_use]
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), chunks: VecDeque::from([Ok(body.into())]), cancel_at_end: false }
    }

    /// A stream of server-sent events that arrives in chunks of so many bytes.
    #[must_use]
    pub fn stream(body: &str, chunk_bytes: usize) -> Self {
        let chunks = body.as_bytes().chunks(chunk_bytes.max(1)).map(|chunk| Ok(chunk.to_vec())).collect();
        Self { status: 200, headers: Vec::new(), chunks, cancel_at_end: false }
            .header("content-type", "text/event-stream")
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Ends the body with an error of `read`.
    #[must_use]
    pub fn broken(mut self, error: Error) -> Self {
        self.chunks.push_back(Err(error));
        self
    }

    /// After the last chunk the run is cancelled, and `read` answers so.
    #[must_use]
    pub fn then_cancel(mut self) -> Self {
        self.cancel_at_end = true;
        self
    }
}

/// The scripted host.
#[derive(Default)]
pub struct FakeHost {
    settings: BTreeMap<String, String>,
    replies: RefCell<VecDeque<Result<Reply>>>,
    tools: Vec<Tool>,
    tool: Option<ToolFn>,
    cancelled: Cell<bool>,
    cancel_after_calls: Cell<Option<usize>>,
    deadline_ms: Cell<Option<u64>>,
    clock_ms: Cell<u64>,
    random: Cell<u64>,
    signals: RefCell<VecDeque<Signal>>,
    steered: Cell<usize>,
    kv: RefCell<BTreeMap<String, (Vec<u8>, u64)>>,
    kv_broken: Cell<bool>,
    revisions: Cell<u64>,
    events: RefCell<Vec<Event>>,
    emits: Cell<usize>,
    requests: RefCell<Vec<(Request, Value)>>,
    calls: RefCell<Vec<Vec<Call>>>,
    log: RefCell<Vec<String>>,
    waits: RefCell<Vec<u32>>,
    children: RefCell<VecDeque<Result<FakeChild>>>,
    commands: RefCell<Vec<Command>>,
    written: RefCell<Vec<String>>,
    connects: RefCell<Vec<Dialed>>,
    stops: RefCell<Vec<&'static str>>,
    ask: Option<AskFn>,
    questions: RefCell<Vec<Question>>,
}

impl FakeHost {
    /// A host with no settings, no tools and nothing to answer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a setting.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.into(), value.into());
        self
    }

    /// Adds an answer to the next request that has none yet.
    #[must_use]
    pub fn reply(self, reply: Reply) -> Self {
        self.replies.borrow_mut().push_back(Ok(reply));
        self
    }

    /// As [`FakeHost::reply`]: the next request fails.
    #[must_use]
    pub fn reply_error(self, error: Error) -> Self {
        self.replies.borrow_mut().push_back(Err(error));
        self
    }

    /// Offers tools of these names, each with an empty object as schema.
    #[must_use]
    pub fn tools(mut self, names: &[&str]) -> Self {
        self.tools.extend(names.iter().map(|name| Tool {
            name: (*name).into(),
            description: format!("the tool {name}"),
            input_schema: r#"{"type":"object"}"#.into(),
        }));
        self
    }

    /// How tools answer. Without it each answers `ok`.
    #[must_use]
    pub fn on_call(mut self, tool: impl Fn(&Call) -> Answer + 'static) -> Self {
        self.tool = Some(Box::new(tool));
        self
    }

    /// The run is cancelled when so many calls have been answered.
    #[must_use]
    pub fn cancel_after_calls(self, calls: usize) -> Self {
        self.cancel_after_calls.set(Some(calls));
        self
    }

    /// The run has so much time.
    #[must_use]
    pub fn deadline_ms(self, ms: u64) -> Self {
        self.deadline_ms.set(Some(ms));
        self
    }

    /// The next program that is started.
    #[must_use]
    pub fn child(self, child: FakeChild) -> Self {
        self.children.borrow_mut().push_back(Ok(child));
        self
    }

    /// As [`FakeHost::child`], for a later run on the same host.
    pub fn add_child(&self, child: FakeChild) {
        self.children.borrow_mut().push_back(Ok(child));
    }

    /// The next start of a program fails.
    #[must_use]
    pub fn child_error(self, error: Error) -> Self {
        self.children.borrow_mut().push_back(Err(error));
        self
    }

    /// How questions are answered. Without it each is declined.
    #[must_use]
    pub fn on_ask(mut self, ask: impl Fn(&Question) -> Result<Decision> + 'static) -> Self {
        self.ask = Some(Box::new(ask));
        self
    }

    /// A message from the user waits.
    pub fn steer(&self, text: &str) {
        self.signals.borrow_mut().push_back(Signal { kind: "steer".into(), text: text.into() });
        self.steered.set(self.steered.get() + 1);
    }

    /// Cancels the run.
    pub fn cancel(&self) {
        self.cancelled.set(true);
    }

    /// Makes each `kv_put` fail as full.
    pub fn break_kv(&self) {
        self.kv_broken.set(true);
    }

    /// Moves the clock.
    pub fn advance(&self, ms: u64) {
        self.clock_ms.set(self.clock_ms.get() + ms);
    }

    /// Forgets what the last run was asked and emitted; keeps `kv`. For a second run on the same host.
    pub fn next_run(&self) {
        self.events.borrow_mut().clear();
        self.requests.borrow_mut().clear();
        self.calls.borrow_mut().clear();
        self.written.borrow_mut().clear();
        self.connects.borrow_mut().clear();
        self.stops.borrow_mut().clear();
        self.cancelled.set(false);
    }

    /// Adds an answer for a later run.
    pub fn add_reply(&self, reply: Reply) {
        self.replies.borrow_mut().push_back(Ok(reply));
    }

    /// All events so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.events.borrow().clone()
    }

    /// All events so far, one line each: kind and data.
    #[must_use]
    pub fn event_lines(&self) -> Vec<String> {
        self.events.borrow().iter().map(|event| format!("{} {}", event.kind, event.data)).collect()
    }

    /// How often `emit` was called.
    #[must_use]
    pub fn emits(&self) -> usize {
        self.emits.get()
    }

    /// All requests so far, with their JSON bodies.
    #[must_use]
    pub fn requests(&self) -> Vec<(Request, Value)> {
        self.requests.borrow().clone()
    }

    /// All tool calls so far, by `call-all`.
    #[must_use]
    pub fn calls(&self) -> Vec<Vec<Call>> {
        self.calls.borrow().clone()
    }

    /// All tool calls so far, one line each, batches separated by `--`.
    #[must_use]
    pub fn call_lines(&self) -> String {
        let batches = self.calls.borrow();
        let batches: Vec<String> = batches
            .iter()
            .map(|batch| batch.iter().map(|call| format!("{} {}\n", call.name, call.arguments)).collect())
            .collect();
        batches.join("--\n")
    }

    /// All programs that were started.
    #[must_use]
    pub fn commands(&self) -> Vec<Command> {
        self.commands.borrow().clone()
    }

    /// All lines that programs were given.
    #[must_use]
    pub fn written(&self) -> Vec<String> {
        self.written.borrow().clone()
    }

    /// All websockets that were asked for.
    #[must_use]
    pub fn connects(&self) -> Vec<Dialed> {
        self.connects.borrow().clone()
    }

    /// How programs were ended: `close-stdin`, `interrupt`, `terminate`, `kill`, and `drop` for one still running.
    #[must_use]
    pub fn stops(&self) -> Vec<&'static str> {
        self.stops.borrow().clone()
    }

    /// All questions that were asked.
    #[must_use]
    pub fn questions(&self) -> Vec<Question> {
        self.questions.borrow().clone()
    }

    /// All log lines so far.
    #[must_use]
    pub fn log_lines(&self) -> Vec<String> {
        self.log.borrow().clone()
    }

    /// How long the plugin waited, each time.
    #[must_use]
    pub fn waits(&self) -> Vec<u32> {
        self.waits.borrow().clone()
    }

    /// All keys in `kv` with the length of their values.
    #[must_use]
    pub fn kv_sizes(&self) -> Vec<(String, usize)> {
        self.kv.borrow().iter().map(|(key, (value, _))| (key.clone(), value.len())).collect()
    }

    fn alive(&self) -> Result<()> {
        if self.cancelled() {
            return Err(Error::cancelled("cancelled", "the run was cancelled"));
        }
        Ok(())
    }
}

impl Host for FakeHost {
    fn setting(&self, name: &str) -> Option<String> {
        self.settings.get(name).cloned()
    }

    fn log(&self, level: Level, message: &str) {
        self.log.borrow_mut().push(format!("{level:?} {message}"));
    }

    fn cancelled(&self) -> bool {
        self.cancelled.get() || self.deadline_ms.get().is_some_and(|deadline| self.clock_ms.get() >= deadline)
    }

    fn remaining_ms(&self) -> u64 {
        self.deadline_ms.get().map_or(3_600_000, |deadline| deadline.saturating_sub(self.clock_ms.get()))
    }

    fn signal(&self, timeout_ms: u32) -> Result<Option<Signal>> {
        self.alive()?;
        let signal = self.signals.borrow_mut().pop_front();
        if signal.is_none() && timeout_ms > 0 {
            self.waits.borrow_mut().push(timeout_ms);
            self.advance(u64::from(timeout_ms));
            self.alive()?;
        }
        Ok(signal)
    }

    fn now_ms(&self) -> u64 {
        self.clock_ms.get()
    }

    fn random(&self) -> u64 {
        // A fixed sequence that covers the range, so that what depends on it can be compared.
        let next = self.random.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.random.set(next);
        next
    }

    fn emit(&self, events: &[Event]) -> Result<()> {
        assert!((1..=256).contains(&events.len()), "a batch has 1 to 256 events");
        assert!(events.iter().map(|event| event.data.len()).sum::<usize>() <= 1024 * 1024, "a batch has 1 MiB");
        let mut log = self.events.borrow_mut();
        for event in events {
            assert!(event.data.len() <= 256 * 1024, "an event has 256 KiB");
            let data: Value = serde_json::from_str(&event.data).expect("event data is JSON");
            assert!(data.is_object(), "event data is an object");
            assert!(event.kind != "runtime_started" || log.is_empty(), "`runtime_started` comes first, once");
            log.push(event.clone());
        }
        self.emits.set(self.emits.get() + 1);
        Ok(())
    }

    fn send(&self, request: &Request, body: Vec<u8>) -> Result<Box<dyn Incoming + '_>> {
        self.alive()?;
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body)? };
        self.requests.borrow_mut().push((request.clone(), body));
        let reply = self.replies.borrow_mut().pop_front();
        let reply = reply.unwrap_or_else(|| panic!("no reply is scripted for {} {}", request.method, request.url))?;
        Ok(Box::new(FakeIncoming { host: self, reply }))
    }

    fn kv_get(&self, key: &str) -> Result<Option<Entry>> {
        Ok(self.kv.borrow().get(key).map(|(value, revision)| Entry { value: value.clone(), revision: *revision }))
    }

    fn kv_put(&self, key: &str, value: &[u8], expect: Option<u64>) -> Result<u64> {
        if key.is_empty() || key.len() > 512 || key.chars().any(char::is_control) {
            return Err(Error::invalid("key", "a key is 1 to 512 bytes without control characters"));
        }
        if value.len() > crate::kv::VALUE_BYTES_MAX {
            return Err(Error::limit("value-size", "a value is at most 1 MiB"));
        }
        if self.kv_broken.get() {
            return Err(Error::limit("kv-full", "the store of the profile is full"));
        }
        let mut kv = self.kv.borrow_mut();
        let now = kv.get(key).map_or(0, |(_, revision)| *revision);
        if expect.is_some_and(|expect| expect != now) {
            return Err(Error::conflict("revision", format!("`{key}` has revision {now}")));
        }
        let revision = self.revisions.get() + 1;
        self.revisions.set(revision);
        kv.insert(key.into(), (value.to_vec(), revision));
        Ok(revision)
    }

    fn kv_remove(&self, key: &str, expect: Option<u64>) -> Result<bool> {
        let mut kv = self.kv.borrow_mut();
        let now = kv.get(key).map_or(0, |(_, revision)| *revision);
        if expect.is_some_and(|expect| expect != now) {
            return Err(Error::conflict("revision", format!("`{key}` has revision {now}")));
        }
        Ok(kv.remove(key).is_some())
    }

    fn kv_keys(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<String>> {
        let kv = self.kv.borrow();
        let keys = kv.keys().filter(|key| key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after));
        Ok(keys.take(limit.min(1000) as usize).cloned().collect())
    }

    fn offered(&self) -> Result<Vec<Tool>> {
        self.alive()?;
        Ok(self.tools.clone())
    }

    fn call_all(&self, calls: &[Call]) -> Result<Vec<Answer>> {
        self.alive()?;
        assert!((1..=64).contains(&calls.len()), "1 to 64 calls");
        let mut seen: HashSet<String> = self.calls.borrow().iter().flatten().map(|call| call.id.clone()).collect();
        for call in calls {
            assert!(seen.insert(call.id.clone()), "the id `{}` is used twice", call.id);
        }
        self.calls.borrow_mut().push(calls.to_vec());
        let answers = calls.iter().map(|call| {
            if !self.tools.iter().any(|tool| tool.name == call.name) {
                return answer(call, true, format!("unknown tool `{}`", call.name), None);
            }
            // As the real host: a failed answer, which the model can repair.
            if !serde_json::from_str(&call.arguments).is_ok_and(|arguments: Value| arguments.is_object()) {
                return answer(call, true, "the arguments are not a JSON object", None);
            }
            let answer = match &self.tool {
                Some(tool) => tool(call),
                None => answer(call, false, "ok", None),
            };
            if let Some(left) = self.cancel_after_calls.get() {
                self.cancel_after_calls.set(Some(left.saturating_sub(1)));
                if left <= 1 {
                    self.cancel();
                }
            }
            answer
        });
        Ok(answers.collect())
    }

    fn spawn(&self, command: &Command) -> Result<Box<dyn Process<'_> + '_>> {
        self.alive()?;
        self.commands.borrow_mut().push(command.clone());
        let child = self.children.borrow_mut().pop_front();
        let child = child.unwrap_or_else(|| panic!("no program is scripted for {:?}", command.argv))?;
        Ok(Box::new(child::Running::new(self, child)))
    }

    fn ask(&self, question: &Question) -> Result<Decision> {
        self.alive()?;
        let detail: Value = serde_json::from_str(&question.detail).expect("the detail is JSON");
        assert!(detail.is_object(), "the detail is an object");
        self.questions.borrow_mut().push(question.clone());
        match &self.ask {
            Some(ask) => ask(question),
            None => Ok(Decision { allowed: false, message: "no rule allows it".into() }),
        }
    }
}

/// An answer to a call.
#[must_use]
pub fn answer(call: &Call, is_error: bool, text: impl Into<String>, structured: Option<Value>) -> Answer {
    Answer { id: call.id.clone(), text: text.into(), structured: structured.map(|value| value.to_string()), is_error }
}

/// A task with a goal and nothing else.
#[must_use]
pub fn task(goal: &str) -> Task {
    Task {
        run_id: "run-1".into(),
        task_id: "task-1".into(),
        goal: goal.into(),
        system: None,
        model: None,
        reasoning_effort: None,
        working_directory: None,
        mcp_servers: Vec::new(),
        permissions: PermissionProfile {
            mode: PermissionMode::Default,
            filesystem: FilesystemAccess::WorkspaceWrite,
            allowed_tools: Vec::new(),
            disallowed_tools: Vec::new(),
            network: None,
            native_profile: None,
        },
        max_rounds: None,
        budget_usd: None,
        session: None,
        output_schema: None,
        attachments: Vec::new(),
        metadata: "{}".into(),
    }
}

struct FakeIncoming<'h> {
    host: &'h FakeHost,
    reply: Reply,
}

impl Incoming for FakeIncoming<'_> {
    fn status(&self) -> u16 {
        self.reply.status
    }

    fn headers(&self) -> Vec<(String, String)> {
        self.reply.headers.clone()
    }

    fn read(&mut self, bytes_max: u32) -> Result<Option<Vec<u8>>> {
        self.host.alive()?;
        match self.reply.chunks.pop_front() {
            Some(Ok(mut chunk)) => {
                let rest = chunk.split_off(chunk.len().min(bytes_max as usize));
                if !rest.is_empty() {
                    self.reply.chunks.push_front(Ok(rest));
                }
                Ok(Some(chunk))
            }
            Some(Err(error)) => Err(error),
            None if self.reply.cancel_at_end => {
                self.host.cancel();
                Err(Error::cancelled("cancelled", "the run was cancelled"))
            }
            None => Ok(None),
        }
    }
}
