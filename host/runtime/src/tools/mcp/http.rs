//! A server at a URL: rmcp's client of streamable HTTP, whose requests are sent by the egress gate.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use http::{HeaderName, HeaderValue};
use midplane_core::text::shown;
use midplane_core::{Error, Result};
use midplane_engine::ports::{Http, HttpBody, HttpRequest, HttpResponse};
use rmcp::model::ClientJsonRpcMessage;
use rmcp::transport::streamable_http_client::{
    StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse as Posted,
};
use sse_stream::{Sse, SseStream};

use super::wire::Said;

/// How much is read at once, in bytes.
const PIECE_BYTES: usize = 64 * 1024;
/// Bytes of an answer that is no success, for the message.
const REFUSAL_BYTES_MAX: usize = 4 * 1024;

const SESSION: &str = "mcp-session-id";
const EVENTS: &str = "text/event-stream";

type Failure = StreamableHttpError<Error>;
type Events = BoxStream<'static, std::result::Result<Sse, sse_stream::Error>>;
type Headers = HashMap<HeaderName, HeaderValue>;

/// The egress gate as rmcp's HTTP client.
#[derive(Clone)]
pub(super) struct HttpServer {
    http: Arc<dyn Http>,
    bytes_max: usize,
    said: Arc<Said>,
}

impl HttpServer {
    pub(super) fn new(http: Arc<dyn Http>, bytes_max: usize, said: Arc<Said>) -> Self {
        Self { http, bytes_max, said }
    }

    /// Sends by the gate, which puts the credential in.
    async fn send(
        &self,
        method: &str,
        uri: &str,
        session: Option<&str>,
        own: Vec<(&str, String)>,
        further: &Headers,
        body: HttpBody,
    ) -> Result<Box<dyn HttpResponse>, Failure> {
        let mut headers: Vec<(String, String)> =
            own.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        headers.extend(session.map(|id| (SESSION.to_owned(), id.to_owned())));
        let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
        headers.extend(further.iter().filter_map(|(name, value)| Some((name.to_string(), text(value)?))));
        let request = HttpRequest {
            method: method.to_owned(),
            url: uri.to_owned(),
            headers,
            credential: None, // the only rule that there is at this URL
            timeout_ms: None,
        };
        self.http.send(request, body).await.map_err(|error| self.broke(error))
    }

    /// Why an answer is none, in words; what the server writes is bounded.
    async fn refused(&self, mut response: Box<dyn HttpResponse>) -> Failure {
        let status = response.status();
        let body = read(&mut *response, REFUSAL_BYTES_MAX).await.unwrap_or_default();
        let body = shown(String::from_utf8_lossy(&body).trim(), 300);
        let why = if body.is_empty() {
            format!("it answered HTTP {status}")
        } else {
            format!("it answered HTTP {status}: {body}")
        };
        let mut error = Error::unavailable("mcp-server", why.clone());
        if matches!(status, 401 | 403) {
            error = error.hint("name the secret that it wants as `secret` of the server, and grant it");
        }
        self.said.broke(&error);
        StreamableHttpError::UnexpectedServerResponse(why.into())
    }

    fn broke(&self, error: Error) -> Failure {
        self.said.broke(&error);
        StreamableHttpError::Client(error)
    }

    fn events(&self, response: Box<dyn HttpResponse>) -> Events {
        SseStream::from_bytes_stream(bounded(response, self.bytes_max, self.said.clone())).boxed()
    }
}

impl StreamableHttpClient for HttpServer {
    type Error = Error;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        _auth_header: Option<String>,
        custom_headers: Headers,
    ) -> Result<Posted, Failure> {
        let own =
            vec![("content-type", "application/json".to_owned()), ("accept", format!("application/json, {EVENTS}"))];
        let body = HttpBody::Bytes(serde_json::to_vec(&message)?);
        let mut response = self.send("POST", &uri, session_id.as_deref(), own, &custom_headers, body).await?;
        match response.status() {
            202 | 204 => return Ok(Posted::Accepted),
            404 if session_id.is_some() => return Err(StreamableHttpError::SessionExpired),
            200..=299 => {}
            _ => return Err(self.refused(response).await),
        }
        let header =
            |name: &str| response.headers().into_iter().find(|(known, _)| known == name).map(|(_, value)| value);
        let (kind, session) = (header("content-type").unwrap_or_default(), header(SESSION));
        if kind.starts_with(EVENTS) {
            return Ok(Posted::Sse(self.events(response), session));
        }
        let body = read(&mut *response, self.bytes_max).await.map_err(|error| self.broke(error))?;
        match serde_json::from_slice(&body) {
            Ok(message) => Ok(Posted::Json(message, session)),
            // Nothing has to be answered to what is no request.
            Err(_) if !matches!(message, ClientJsonRpcMessage::Request(_)) => Ok(Posted::Accepted),
            Err(_) => {
                let body = shown(&String::from_utf8_lossy(&body), 200);
                let why = format!("it answered what is no MCP message (`{}`): {body}", shown(&kind, 60));
                self.said.broke(&Error::unavailable("mcp-server", why.clone()));
                Err(StreamableHttpError::UnexpectedServerResponse(why.into()))
            }
        }
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session_id: Arc<str>,
        _auth_header: Option<String>,
        custom_headers: Headers,
    ) -> Result<(), Failure> {
        // A server that keeps its sessions says 405; either way this one is over.
        self.send("DELETE", &uri, Some(&session_id), Vec::new(), &custom_headers, HttpBody::Empty).await.map(drop)
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        _auth_header: Option<String>,
        custom_headers: Headers,
    ) -> Result<Events, Failure> {
        let mut own = vec![("accept", EVENTS.to_owned())];
        own.extend(last_event_id.map(|id| ("last-event-id", id)));
        let response = self.send("GET", &uri, session_id.as_deref(), own, &custom_headers, HttpBody::Empty).await?;
        match response.status() {
            200..=299 => Ok(self.events(response)),
            // A server need not have one.
            _ => Err(StreamableHttpError::ServerDoesNotSupportSse),
        }
    }
}

/// A whole body within a bound.
async fn read(response: &mut dyn HttpResponse, bytes_max: usize) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(piece) = response.read(PIECE_BYTES).await? {
        body.extend(piece);
        if body.len() > bytes_max {
            return Err(Error::limit("mcp-message", format!("an answer has more than {bytes_max} bytes")));
        }
    }
    Ok(body)
}

/// The bytes of an event stream, of which no event is larger than the bound: the parser would hold it whole.
fn bounded(
    response: Box<dyn HttpResponse>,
    bytes_max: usize,
    said: Arc<Said>,
) -> impl futures_util::Stream<Item = Result<Bytes>> + Send + 'static {
    let state = (response, said, 0_usize, b'\n');
    stream::try_unfold(state, move |(mut response, said, mut event_bytes, mut before)| async move {
        let Some(piece) = response.read(PIECE_BYTES).await? else { return Ok(None) };
        for byte in piece.iter().copied().filter(|byte| *byte != b'\r') {
            // An empty line ends an event.
            event_bytes = if byte == b'\n' && before == b'\n' { 0 } else { event_bytes + 1 };
            before = byte;
        }
        if event_bytes > bytes_max {
            let error = Error::limit("mcp-message", format!("an event has more than {bytes_max} bytes"));
            said.broke(&error);
            return Err(error);
        }
        Ok(Some((Bytes::from(piece), (response, said, event_bytes, before))))
    })
}
