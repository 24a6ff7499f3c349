//! What comes back: the head, the body as it arrives with secrets replaced, or the rest of it as a blob.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use midplane_core::redact::{Redactor, Stream};
use midplane_core::{Error, Result};
use midplane_engine::ports::{Blob, HttpResponse};
use tokio::task::JoinHandle;

use super::HttpBudget;
use super::request::{is_credential, is_hop_by_hop};
use super::send::uncertain;
use crate::blob::{BlobSpace, Source};

/// Headers of a response. Real ones have less than a hundred.
pub(super) const HEADERS_MAX: usize = 256;
/// Bytes of a response head, and of what is read ahead of a guest.
pub(super) const HEAD_BYTES_MAX: usize = 64 * 1024;
/// What one read gives at most (`response.read`).
const READ_BYTES_MAX: usize = 1024 * 1024;

/// A connection and the task that moves its bytes; closed when this is dropped.
pub(super) struct Connection(JoinHandle<()>);

impl Connection {
    pub(super) fn spawn<E>(connection: impl Future<Output = Result<(), E>> + Send + 'static) -> Self {
        // Its error is told to whoever waits for the head or the body.
        Self(tokio::spawn(async move { drop(connection.await) }))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What to know of a request when its body is read.
pub(super) struct Watch {
    /// Whether the request may have changed something.
    pub(super) changing: bool,
    pub(super) idle_ms: u64,
    /// Where it went, for messages.
    pub(super) place: String,
    pub(super) budget: Arc<HttpBudget>,
}

/// A response whose body is still arriving.
pub(super) struct Response {
    code: u16,
    headers: Vec<(String, String)>,
    /// As the server sent them, for the host.
    raw: HeaderMap,
    stream: Stream,
    /// Redacted and not yet read.
    ready: BytesMut,
    /// Nothing comes any more, and why.
    end: Option<Result<()>>,
    pieces: Pieces,
    blobs: BlobSpace,
}

impl Response {
    /// `own_header` is the header in which a credential was sent.
    pub(super) fn new(
        answer: http::Response<Incoming>,
        connection: Connection,
        watch: Watch,
        redactor: &Redactor,
        own_header: Option<&str>,
        blobs: BlobSpace,
    ) -> Self {
        let (head, body) = answer.into_parts();
        Self {
            code: head.status.as_u16(),
            headers: shown_headers(&head.headers, redactor, own_header),
            raw: head.headers,
            stream: Stream::new(redactor),
            ready: BytesMut::new(),
            end: None,
            pieces: Pieces { body, watch, redactor: redactor.clone(), _connection: connection },
            blobs,
        }
    }

    pub(super) fn code(&self) -> u16 {
        self.code
    }

    pub(super) fn raw_header(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.raw.get(name)
    }
}

#[async_trait]
impl HttpResponse for Response {
    fn status(&self) -> u16 {
        self.code
    }

    fn headers(&self) -> Vec<(String, String)> {
        self.headers.clone()
    }

    async fn read(&mut self, max_bytes: usize) -> Result<Option<Vec<u8>>> {
        let max_bytes = max_bytes.clamp(1, READ_BYTES_MAX);
        loop {
            if !self.ready.is_empty() {
                let size = self.ready.len().min(max_bytes);
                return Ok(Some(self.ready.split_to(size).to_vec()));
            }
            if let Some(end) = &self.end {
                return end.clone().map(|()| None);
            }
            // The only wait, and nothing is taken from the body before it ends: safe to drop.
            match self.pieces.next().await {
                Ok(Some(piece)) => self.ready.extend_from_slice(&self.stream.push(&piece)),
                Ok(None) => {
                    self.ready.extend_from_slice(&self.stream.finish());
                    self.end = Some(Ok(()));
                }
                // What was held could be most of a secret: of a body that is broken it is not given out.
                Err(error) => self.end = Some(Err(error)),
            }
        }
    }

    fn into_blob(self: Box<Self>) -> Result<Arc<dyn Blob>> {
        let Self { mut stream, mut ready, end, pieces, blobs, .. } = *self;
        // A guest that has read before has moved a part out of the body. What it has not read of that part is the
        // beginning of the rest, as redacted as it was; what was not looked at yet is as the server sent it.
        ready.extend_from_slice(&stream.finish());
        let said = match &end {
            None => pieces.body.size_hint().exact().map(|rest| rest.saturating_add(ready.len() as u64)),
            Some(_) => Some(ready.len() as u64),
        };
        Ok(blobs.arriving(Rest { first: ready.freeze(), end, pieces }, said))
    }
}

/// Names in lower case, values as text without secrets. What belongs to the connection, cookies and what carries a
/// credential by its name are left out.
fn shown_headers(headers: &HeaderMap, redactor: &Redactor, own_header: Option<&str>) -> Vec<(String, String)> {
    let hidden = |name: &str| {
        is_hop_by_hop(name)
            || is_credential(name)
            || matches!(name, "set-cookie" | "set-cookie2")
            || own_header == Some(name)
    };
    headers
        .iter()
        .filter(|(name, _)| !hidden(name.as_str()))
        .map(|(name, value)| {
            // Before bytes that are not UTF-8 are replaced: a value may hold such bytes.
            let value = redactor.bytes(value.as_bytes());
            (redactor.text(name.as_str()).into_owned(), String::from_utf8_lossy(&value).into_owned())
        })
        .collect()
}

/// The body as it arrives, with the bounds and the words of its errors.
struct Pieces {
    body: Incoming,
    watch: Watch,
    redactor: Redactor,
    _connection: Connection,
}

impl Pieces {
    /// The next bytes; none at the end of a complete body.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let next = self.piece().await;
        next.map_err(|error| self.failed(error))
    }

    fn failed(&self, mut error: Error) -> Error {
        self.redactor.error(&mut error);
        if self.watch.changing { uncertain(error) } else { error }
    }

    async fn piece(&mut self) -> Result<Option<Bytes>> {
        let Watch { idle_ms, place, budget, .. } = &self.watch;
        loop {
            let frame = tokio::time::timeout(Duration::from_millis(*idle_ms), self.body.frame()).await;
            let frame = frame.map_err(|_| {
                Error::unavailable("body-idle", format!("nothing of the body of `{place}` came for {idle_ms} ms"))
            })?;
            let Some(frame) = frame else { return Ok(None) };
            let frame =
                frame.map_err(|_| Error::unavailable("body-truncated", format!("the body of `{place}` broke off")))?;
            // Trailers are not for plugins.
            if let Ok(bytes) = frame.into_data()
                && bytes.has_remaining()
            {
                budget.take_bytes(bytes.len() as u64)?;
                return Ok(Some(bytes));
            }
        }
    }
}

/// What is left of a body, for a blob.
struct Rest {
    first: Bytes,
    end: Option<Result<()>>,
    pieces: Pieces,
}

#[async_trait]
impl Source for Rest {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.first.has_remaining() {
            return Ok(Some(std::mem::take(&mut self.first)));
        }
        match &self.end {
            Some(end) => end.clone().map(|()| None),
            None => self.pieces.next().await,
        }
    }

    fn refused(&self, error: Error) -> Error {
        self.pieces.failed(error)
    }
}
