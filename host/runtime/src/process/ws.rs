//! A websocket to a port that a child opened on the loopback address.
//!
//! ```text
//! send ─► queue (bounded) ─► secrets put in ─► child         child ─► one message ─► secrets out ─► queue (bounded) ─► receive
//! ```
//! The child is the permission: whoever answers must be one of its processes. That is asked three times, since a port can
//! change hands: before the connection is made, before a byte is sent over it, and once it is open of the very connection.
//!
//! # What it never does
//! It names no other host and follows no redirect. It does not read for ever what nobody takes: when the queue is full the
//! child waits.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{SinkExt, Stream, StreamExt};
use http::{HeaderName, HeaderValue, Request};
use midplane_core::limits::Limits;
use midplane_core::redact::Redactor;
use midplane_core::text::shown;
use midplane_core::{Error, Result};
use midplane_engine::ports::{self, Dial, Frame};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as WsError};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::Reach;
use super::group::Group;

/// How long a child may take to answer the opening of a websocket.
const OPENING: Duration = Duration::from_secs(30);
/// How long what is queued may take to be sent after the handle is gone.
const LINGER: Duration = Duration::from_secs(2);
/// What a message costs in a queue beside its bytes, so that empty ones are bounded too.
const MESSAGE_BYTES: usize = 64;
/// Headers of one opening, and the bytes of their names and values.
const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 16 * 1024;

type Connection = WebSocketStream<TcpStream>;

/// A message that waits, with its share of the queue.
struct Waiting<T> {
    message: T,
    _room: OwnedSemaphorePermit,
}

/// An open websocket.
pub(super) struct Socket {
    reach: Arc<Reach>,
    argv: Vec<String>,
    /// Gone with the handle: what is queued is still sent, then the connection closes.
    outgoing: mpsc::UnboundedSender<Waiting<(Frame, bool)>>,
    room: Queue,
    incoming: mpsc::UnboundedReceiver<Waiting<Result<Frame>>>,
    /// It ends by itself: with the connection, the child, or [`LINGER`] after this handle.
    _work: JoinHandle<()>,
}

/// The bytes that one direction may hold.
#[derive(Clone)]
struct Queue {
    room: Arc<Semaphore>,
    bytes_max: usize,
}

/// What a websocket is opened with, besides the reach of its call.
pub(super) struct Opening {
    pub(super) dial: Dial,
    pub(super) argv: Vec<String>,
    /// One of those that may be open at once in the call.
    pub(super) slot: OwnedSemaphorePermit,
    /// Ends when the handle of the child is gone.
    pub(super) alive: watch::Receiver<()>,
}

impl Socket {
    /// Opens a websocket to a port of a group's own.
    pub(super) async fn open(reach: &Arc<Reach>, group: &Group, opening: Opening) -> Result<Self> {
        let Opening { dial, argv, slot, alive } = opening;
        let request = request(&dial)?;
        let limits = &reach.call.limits;
        let connection = tokio::time::timeout(OPENING, connect(group, dial.port, request, limits)).await;
        let connection = connection
            .map_err(|_| Error::unavailable("websocket", format!("port {} does not answer", dial.port)))??;
        let (outgoing, to_send) = mpsc::unbounded_channel();
        let (received, incoming) = mpsc::unbounded_channel();
        let work = {
            let (reach, argv, room) = (Arc::clone(reach), argv.clone(), Queue::new(limits));
            async move {
                let _slot = slot;
                serve(connection, &reach, &argv, to_send, &received, &room, alive).await;
            }
        };
        let work = tokio::spawn(work);
        Ok(Self { reach: Arc::clone(reach), argv, outgoing, room: Queue::new(limits), incoming, _work: work })
    }
}

#[async_trait]
impl ports::Socket for Socket {
    fn send(&self, frame: Frame) -> Result<()> {
        let data = bytes_of(&frame);
        let bytes_max = self.reach.call.limits.socket_frame_bytes_max;
        if data.len() as u64 > bytes_max {
            return Err(Error::limit("frame-size", format!("a message has at most {bytes_max} bytes")));
        }
        let secrets = self.reach.allow_placeholders(data, &self.argv)?;
        if self.outgoing.is_closed() {
            return Err(closed());
        }
        let room = self.room.try_take(data.len()).ok_or_else(|| {
            let message = format!("the queue of {} bytes of the websocket has no room for it", self.room.bytes_max);
            Error::limit("queue-full", message).hint("receive what the program sends, then try again")
        })?;
        self.outgoing.send(Waiting { message: (frame, secrets), _room: room }).map_err(|_| closed())
    }

    async fn receive(&mut self) -> Result<Option<Frame>> {
        self.incoming.recv().await.map(|waiting| waiting.message).transpose()
    }
}

impl Queue {
    fn new(limits: &Limits) -> Self {
        let bytes_max = usize::try_from(limits.socket_queue_bytes_max).unwrap_or(usize::MAX);
        let bytes_max = bytes_max.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self { room: Arc::new(Semaphore::new(bytes_max)), bytes_max }
    }

    /// What a message takes; one that is larger than all of it takes all.
    fn share(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.saturating_add(MESSAGE_BYTES).min(self.bytes_max)).unwrap_or(u32::MAX)
    }

    fn try_take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).try_acquire_many_owned(self.share(bytes)).ok()
    }

    async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).acquire_many_owned(self.share(bytes)).await.ok()
    }
}

/// The request that opens a websocket; the library adds what makes it one.
fn request(dial: &Dial) -> Result<Request<()>> {
    let bad_path = || Error::invalid("url", format!("`{}` is not a path for a websocket", shown(&dial.path, 200)));
    if !dial.path.starts_with('/') {
        return Err(bad_path().hint("it begins with `/`"));
    }
    let url = format!("ws://{}:{}{}", Ipv4Addr::LOCALHOST, dial.port, dial.path);
    let mut request = url.into_client_request().map_err(|_| bad_path())?;
    let bytes: usize = dial.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if dial.headers.len() > HEADERS_MAX || bytes > HEADER_BYTES_MAX {
        let message = format!("a websocket is opened with at most {HEADERS_MAX} headers of {HEADER_BYTES_MAX} bytes");
        return Err(Error::limit("headers", message));
    }
    let ours: Vec<HeaderName> = request.headers().keys().cloned().collect();
    for (name, value) in &dial.headers {
        let bad = |why: &str| Error::invalid("header", format!("the header `{}` {why}", shown(name, 100)));
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad("has a name that cannot be sent"))?;
        let framing = ["sec-websocket-extensions", "content-length", "transfer-encoding"];
        if ours.contains(&parsed) || framing.contains(&parsed.as_str()) {
            return Err(bad("is the host's to set"));
        }
        let mut value = HeaderValue::from_str(value).map_err(|_| bad("has a value that cannot be sent"))?;
        value.set_sensitive(true);
        request.headers_mut().append(parsed, value);
    }
    Ok(request)
}

async fn connect(group: &Group, port: u16, request: Request<()>, limits: &Limits) -> Result<Connection> {
    let foreign = || {
        Error::denied("not-own-port", format!("port {port} is not one that the program itself listens on"))
            .hint("a websocket goes only to a port that the child opened on the loopback address")
    };
    let failed = |why: &dyn std::fmt::Display| {
        Error::unavailable("websocket", format!("port {port} cannot be opened as a websocket: {why}"))
    };
    if !group.owns(port, None).await? {
        return Err(foreign());
    }
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.map_err(|error| failed(&error))?;
    // Before the headers are sent, which may be a key to the child.
    if !group.owns(port, None).await? {
        return Err(foreign());
    }
    let ours = stream.local_addr().map_err(|error| failed(&error))?;
    let _ = stream.set_nodelay(true); // only a matter of speed
    let bytes_max = usize::try_from(limits.socket_frame_bytes_max).unwrap_or(usize::MAX);
    let config = WebSocketConfig::default().max_message_size(Some(bytes_max)).max_frame_size(Some(bytes_max));
    let opened = client_async_with_config(request, stream, Some(config)).await;
    let (connection, _) = opened.map_err(|error| match error {
        WsError::Http(answer) => failed(&format!("it answers with status {}", answer.status().as_u16())),
        error => failed(&shown(&error.to_string(), 200)),
    })?;
    // It has answered, so somebody has accepted it, and who that is cannot change any more behind our back.
    if !group.owns(port, Some(ours)).await? {
        return Err(foreign());
    }
    Ok(connection)
}

/// Serves both directions until the connection ends, the child does, or the handle is gone and what it queued is sent.
async fn serve(
    connection: Connection,
    reach: &Reach,
    argv: &[String],
    mut to_send: mpsc::UnboundedReceiver<Waiting<(Frame, bool)>>,
    received: &mpsc::UnboundedSender<Waiting<Result<Frame>>>,
    room: &Queue,
    mut alive: watch::Receiver<()>,
) {
    // Two halves, since a full queue one way must not hold up the other.
    let (mut sink, stream) = connection.split();
    let sending = async {
        while let Some(Waiting { message: (frame, secrets), _room }) = to_send.recv().await {
            let message = match if secrets { filled(frame, reach, argv).await } else { Ok(frame) } {
                Ok(Frame::Text(text)) => Message::Text(text.into()),
                Ok(Frame::Binary(bytes)) => Message::Binary(bytes.into()),
                Err(error) => {
                    tracing::warn!(%error, "a secret for a program's websocket cannot be had; it is closed");
                    return;
                }
            };
            if sink.send(message).await.is_err() {
                return;
            }
        }
        let _ = sink.close().await;
    };
    let lingering = async {
        received.closed().await;
        tokio::time::sleep(LINGER).await;
    };
    tokio::select! {
        () = sending => {}
        () = receiving(stream, &reach.redactor, received, room) => {}
        () = lingering => {}
        // Nothing is ever sent: an error says that the child's handle is gone.
        _ = alive.changed() => {}
    }
}

/// Takes messages as long as there is room for them.
async fn receiving(
    mut stream: impl Stream<Item = Result<Message, WsError>> + Unpin,
    redactor: &Redactor,
    received: &mpsc::UnboundedSender<Waiting<Result<Frame>>>,
    room: &Queue,
) {
    while let Some(message) = stream.next().await {
        // Whole messages, each by itself: their borders belong to the protocol. Bytes keep their length, which such
        // protocols count.
        let (frame, last) = match message {
            Ok(Message::Text(text)) => (Ok(Frame::Text(redactor.text(&text).into_owned())), false),
            Ok(Message::Binary(bytes)) => (Ok(Frame::Binary(redactor.mask(&bytes).into_owned())), false),
            Ok(Message::Close(_)) => return,
            // A ping is answered by the library.
            Ok(_) => continue,
            Err(WsError::Capacity(CapacityError::MessageTooLong { size, max_size })) => {
                let message = format!("a message of {size} bytes came, more than {max_size}; the websocket is closed");
                (Err(Error::limit("frame-size", message)), true)
            }
            Err(_) => return,
        };
        let Some(share) = room.take(frame.as_ref().map_or(0, |frame| bytes_of(frame).len())).await else { return };
        // Without a reader it is thrown away: the connection lives on for what is still to be sent.
        let _ = received.send(Waiting { message: frame, _room: share });
        if last {
            return;
        }
    }
}

/// A message with secrets in place of their placeholders.
async fn filled(frame: Frame, reach: &Reach, argv: &[String]) -> Result<Frame> {
    let bytes = reach.filled(bytes_of(&frame), argv).await?.to_vec();
    match frame {
        Frame::Binary(_) => Ok(Frame::Binary(bytes)),
        Frame::Text(_) => Utf8Bytes::try_from(bytes)
            .map(|text| Frame::Text(text.as_str().to_owned()))
            .map_err(|_| Error::invalid("secret", "a secret that is not text cannot be in a text message")),
    }
}

fn bytes_of(frame: &Frame) -> &[u8] {
    match frame {
        Frame::Text(text) => text.as_bytes(),
        Frame::Binary(bytes) => bytes,
    }
}

fn closed() -> Error {
    Error::unavailable("closed", "the websocket is closed")
}

// Whose a port is is asked of `/proc`.
#[cfg(all(test, target_os = "linux"))]
mod tests;
