//! What a guest can reach, as traits: one a contract interface, implemented by the runtime.
//!
//! The engine turns a guest's call into a call of one of these and turns the answer back. It holds no policy and no
//! transport: gates, sockets, files and tables are behind the traits. [`Ports`] is the whole reach of one call.
//!
//! Cancel is the engine's: it wraps what waits, so that an implementation only has to be safe to drop at an await point.
//! The one exception is [`Tools::call_all`], which must give every call an answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use midplane_core::Result;

use crate::Control;

/// Everything that one call of a plugin can reach.
#[derive(Clone)]
pub struct Ports {
    /// Time left, cancel, steering.
    pub control: Arc<Control>,
    /// The profile's settings; JSON text where a setting is no text.
    pub config: Arc<BTreeMap<String, String>>,
    /// Lines for the operator.
    pub log: Arc<dyn Log>,
    /// The log of the run or operation.
    pub events: Arc<dyn Events>,
    /// Outgoing HTTP through the egress gate.
    pub http: Arc<dyn Http>,
    /// Bytes that the host holds.
    pub blobs: Arc<dyn Blobs>,
    /// Durable state of the profile.
    pub kv: Arc<dyn Kv>,
    /// Tools that the host runs.
    pub tools: Arc<dyn Tools>,
    /// The host's answer to a vendor program's question.
    pub approval: Arc<dyn Approval>,
    /// Granted local programs.
    pub process: Arc<dyn Process>,
}

/// How much a log line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// For the author of the plugin.
    Debug,
    /// For an operator who looks.
    Info,
    /// Something is off and the plugin went on.
    Warn,
    /// Something failed.
    Error,
}

/// `log`.
pub trait Log: Send + Sync {
    /// One line; never waits, never fails.
    fn write(&self, level: Level, message: String);
}

/// `events`.
#[async_trait]
pub trait Events: Send + Sync {
    /// Kind and JSON text of each event, all or none; durable when it returns.
    async fn emit(&self, events: Vec<(String, String)>) -> Result<()>;
}

/// A request without its body, as the guest made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// `GET`, `POST`, ...
    pub method: String,
    /// Absolute URL.
    pub url: String,
    /// Names and values in order.
    pub headers: Vec<(String, String)>,
    /// The credential rule to apply; `anonymous` for none; unset for the one that matches.
    pub credential: Option<String>,
    /// Milliseconds until the response head must be there.
    pub timeout_ms: Option<u32>,
}

/// A request's body.
pub enum HttpBody {
    /// Nothing.
    Empty,
    /// Bytes of the guest.
    Bytes(Vec<u8>),
    /// Bytes that the host holds.
    Blob(Arc<dyn Blob>),
}

/// A request that anyone may send for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRequest {
    /// Method that was signed.
    pub method: String,
    /// URL with its signature.
    pub url: String,
    /// Headers that must be sent with it.
    pub headers: Vec<(String, String)>,
    /// When it ends, in milliseconds since 1970 UTC.
    pub expires_ms: u64,
}

/// `http`.
#[async_trait]
pub trait Http: Send + Sync {
    /// Sends and waits for the head.
    async fn send(&self, request: HttpRequest, body: HttpBody) -> Result<Box<dyn HttpResponse>>;
    /// Signs instead of sending.
    async fn presign(&self, request: HttpRequest, expires_s: u32) -> Result<SignedRequest>;
}

/// A response whose body is still arriving. Dropping it closes the connection.
#[async_trait]
pub trait HttpResponse: Send + Sync {
    /// The status code.
    fn status(&self) -> u16;
    /// Headers in order, names in lower case, secrets replaced.
    fn headers(&self) -> Vec<(String, String)>;
    /// The next bytes as soon as some are there, secrets replaced; none at the end of a complete body. Safe to drop.
    async fn read(&mut self, max_bytes: usize) -> Result<Option<Vec<u8>>>;
    /// The rest as a blob, without waiting for it.
    fn into_blob(self: Box<Self>) -> Result<Arc<dyn Blob>>;
}

/// Bytes that the host holds; immutable, perhaps still arriving.
#[async_trait]
pub trait Blob: Send + Sync {
    /// The length.
    async fn size(&self) -> Result<u64>;
    /// Bytes as they are, for the host's own use; empty at the end.
    async fn read(&self, offset: u64, max_bytes: usize) -> Result<Vec<u8>>;
    /// Bytes for a guest: live secret values masked, byte for byte, so that offsets stay true.
    async fn read_masked(&self, offset: u64, max_bytes: usize) -> Result<Vec<u8>>;
    /// A part of it, without a copy.
    async fn slice(&self, offset: u64, length: Option<u64>) -> Result<Arc<dyn Blob>>;
    /// `sha256`, `md5` or `crc32c` over all of it.
    async fn digest(&self, algorithm: &str) -> Result<Vec<u8>>;
}

/// `blob.open-writer`.
pub trait Blobs: Send + Sync {
    /// A new, empty writer.
    fn open_writer(&self) -> Result<Box<dyn BlobWriter>>;
}

/// A blob in the making.
#[async_trait]
pub trait BlobWriter: Send + Sync {
    /// Appends.
    async fn write(&mut self, data: Vec<u8>) -> Result<()>;
    /// Ends it.
    async fn finish(self: Box<Self>) -> Result<Arc<dyn Blob>>;
}

/// `kv`. Bounds and codes are those of the interface.
#[async_trait]
pub trait Kv: Send + Sync {
    /// Value and revision.
    async fn get(&self, key: &str) -> Result<Option<(Vec<u8>, u64)>>;
    /// Writes under a precondition and gives the revision.
    async fn put(&self, key: &str, value: Vec<u8>, expect: Option<u64>) -> Result<u64>;
    /// Removes under a precondition; whether it was there.
    async fn remove(&self, key: &str, expect: Option<u64>) -> Result<bool>;
    /// A page of keys.
    async fn keys(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<String>>;
}

/// A tool to offer to the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// JSON Schema text of its arguments.
    pub input_schema: String,
}

/// One call that a model asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// The model's id of it.
    pub id: String,
    /// Name of the tool.
    pub name: String,
    /// JSON text of an object.
    pub arguments: String,
}

/// What to answer to the model for one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolAnswer {
    /// The id of the call.
    pub id: String,
    /// The result as text.
    pub text: String,
    /// The result as JSON text, if the tool gave one.
    pub structured: Option<String>,
    /// Whether the call failed.
    pub is_error: bool,
}

/// `tools`.
#[async_trait]
pub trait Tools: Send + Sync {
    /// The tools of this run.
    async fn offered(&self) -> Result<Vec<Tool>>;
    /// An answer for every call, in order, also when a cancel arrives meanwhile (see [`Control::cancelled`]).
    async fn call_all(&self, calls: Vec<ToolCall>) -> Result<Vec<ToolAnswer>>;
}

/// What a vendor program wants to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// `command`, `file-change`, `tool`, `network` or `other`.
    pub kind: String,
    /// The action in one line.
    pub title: String,
    /// JSON text of an object.
    pub detail: String,
    /// The tool call's id in the events.
    pub call_id: Option<String>,
}

/// The answer, for this one action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may be done.
    pub allowed: bool,
    /// Why.
    pub message: String,
}

/// `approval`.
#[async_trait]
pub trait Approval: Send + Sync {
    /// Asks and waits for the answer.
    async fn ask(&self, question: Question) -> Result<Decision>;
}

/// A program to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Working directory, relative to the workspace.
    pub cwd: Option<String>,
    /// Variables with plain values.
    pub env: Vec<(String, String)>,
    /// Names of secrets to place in the environment.
    pub secret_env: Vec<String>,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// It returned this code.
    Code(u32),
    /// A signal ended it.
    Signal(String),
}

/// How to ask a program to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// As Ctrl-C.
    Interrupt,
    /// Ask it to end.
    Terminate,
    /// End it.
    Kill,
}

/// What comes next from a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Bytes of its standard output, secrets replaced.
    Stdout(Vec<u8>),
    /// Bytes of its standard error, secrets replaced.
    Stderr(Vec<u8>),
    /// It ended, and all that it wrote before has been given. Repeated if asked again.
    Exited(Exit),
}

/// `process`.
#[async_trait]
pub trait Process: Send + Sync {
    /// Starts a granted program.
    async fn spawn(&self, command: Command) -> Result<Box<dyn Child>>;
}

/// A program that was started. Dropping it kills its process group.
#[async_trait]
pub trait Child: Send + Sync {
    /// Queues bytes for its standard input, all or none.
    fn write(&self, data: Vec<u8>) -> Result<()>;
    /// Ends its standard input after what is queued.
    fn close_stdin(&self);
    /// The next output or the end. Waits for ever; safe to drop. The engine adds time-outs, signals and cancel.
    async fn next(&mut self, max_bytes: usize) -> Result<Output>;
    /// Asks its process group to end, without waiting.
    fn stop(&self, how: StopMode) -> Result<()>;
    /// A websocket to a port that it listens on. Safe to drop.
    async fn connect(&self, dial: Dial) -> Result<Box<dyn Socket>>;
}

/// Which websocket to open, on the loopback address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dial {
    /// The child's port.
    pub port: u16,
    /// Path and query.
    pub path: String,
    /// Names and values, sent as they are.
    pub headers: Vec<(String, String)>,
}

/// One message of a websocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
}

/// A websocket to a child. Dropping it closes it, after what is queued.
#[async_trait]
pub trait Socket: Send + Sync {
    /// Queues one message, whole or not at all.
    fn send(&self, frame: Frame) -> Result<()>;
    /// The next message, secrets replaced; none when the other side has closed, repeated if asked again. Waits for ever;
    /// safe to drop. The engine adds time-outs, signals and cancel.
    async fn receive(&mut self) -> Result<Option<Frame>>;
}
