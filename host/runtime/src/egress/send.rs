//! One hop after the other, each through the whole gate; what may have happened when it fails; the audit of it.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use http::{Method, Uri};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use midplane_core::endpoint::Target;
use midplane_core::gate::{Allowed, Denial, check};
use midplane_core::manifest::{ANONYMOUS, Credential, Scheme};
use midplane_core::text::shown;
use midplane_core::{Error, ErrorKind, Result};
use midplane_engine::ports::{Blob, HttpBody, HttpRequest};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::connect::connect;
use super::oauth::Applied;
use super::request::Checked;
use super::response::{Connection, HEAD_BYTES_MAX, HEADERS_MAX, Response, Watch};
use super::{Egress, auth};
use crate::call::{Audit, Call};

/// How much of a blob is read at once to be sent.
const PIECE_BYTES: usize = 256 * 1024;

const AGENT: &str = concat!("midplane/", env!("CARGO_PKG_VERSION"));

impl Egress {
    /// Sends, and goes where the server redirects a `GET` or `HEAD`.
    pub(super) async fn follow(&self, request: HttpRequest, body: HttpBody) -> Result<Response> {
        let mut request = Checked::new(request, &self.call.limits)?;
        if let HttpBody::Bytes(bytes) = &body
            && bytes.len() as u64 > self.call.limits.http_request_bytes_max
        {
            let bytes_max = self.call.limits.http_request_bytes_max;
            return Err(Error::limit("http-bytes", format!("a body that is given as bytes has at most {bytes_max}"))
                .hint("give a larger one as a blob"));
        }
        let deadline = Instant::now() + Duration::from_millis(request.head_ms);
        let mut body = Some(body);
        let mut redirects_left = self.call.limits.http_redirects_max;
        loop {
            // Only the first server gets the body.
            let response = self.hop(&request, body.take().unwrap_or(HttpBody::Empty), deadline).await?;
            let Some(location) = redirection(&request.method, &response) else { return Ok(response) };
            if redirects_left == 0 {
                return Err(
                    self.clean(Error::unavailable("broken", format!("`{}` redirects too often", request.target)))
                );
            }
            redirects_left -= 1;
            let next = match self.redirected(&request.target, location) {
                Ok(next) => next,
                Err(error) => {
                    let error = self.clean(error);
                    self.note(&request).end(Some(&error));
                    return Err(error);
                }
            };
            if origin(&next) != origin(&request.target) && request.named.as_deref() != Some(ANONYMOUS) {
                // What was named for one server says nothing about another, where the gate chooses anew.
                request.named = None;
            }
            request.target = next;
        }
    }

    /// Why the request cannot be signed instead of being sent: it is not allowed, or no rule of this line can sign.
    pub(super) fn unsigned(&self, request: &Checked) -> Error {
        let mut note = self.note(request);
        let error = match check(&self.rights(), &request.credential()) {
            Err(denial) => note.denied(denial),
            Ok(Allowed { credential: Some(rule), .. }) => {
                Error::unsupported("presign", format!("the credential `{}` cannot sign a request ahead", rule.name))
                    .hint("bearer, header, basic, query and google-oauth credentials only work while the host sends")
            }
            Ok(_) => Error::unsupported("presign", "no credential applies to this request, so nothing can sign it"),
        };
        let error = self.clean(error);
        note.end(Some(&error));
        error
    }

    pub(super) fn note(&self, request: &Checked) -> Note<'_> {
        let target = format!("{} {}", request.method, request.target);
        let target = self.redactor().text(&target).into_owned();
        Note {
            call: &self.call,
            target,
            grants: Vec::new(),
            begun: std::time::Instant::now(),
            size_bytes: 0,
            ended: false,
        }
    }

    /// One request to one server, with its audit.
    async fn hop(&self, request: &Checked, body: HttpBody, deadline: Instant) -> Result<Response> {
        let mut note = self.note(request);
        let left = AtomicBool::new(false);
        let answer = timeout_at(deadline, self.exchange(request, body, &left, &mut note)).await;
        let answer = answer.unwrap_or_else(|_| {
            let ms = request.head_ms;
            Err(Error::unavailable("timeout", format!("`{}` gave no response head within {ms} ms", request.target)))
        });
        let answer = answer.map_err(|error| {
            let changing = request.is_changing() && left.load(Ordering::Relaxed);
            self.clean(if changing { uncertain(error) } else { error })
        });
        note.end(answer.as_ref().err());
        answer
    }

    async fn exchange(
        &self,
        request: &Checked,
        body: HttpBody,
        left: &AtomicBool,
        note: &mut Note<'_>,
    ) -> Result<Response> {
        let allowed = check(&self.rights(), &request.credential()).map_err(|denial| note.denied(denial))?;
        note.allowed(&allowed);
        self.budget.take_request()?;
        let addresses = self.addresses(&request.target, note).await?;
        let body = match body {
            HttpBody::Empty => SendBody::Bytes(Bytes::new()),
            HttpBody::Bytes(bytes) => SendBody::Bytes(self.fill(request, bytes, note).await?.into()),
            // Known at once, or when all of it is there: a body of unknown length is refused by too many servers.
            HttpBody::Blob(blob) => {
                SendBody::Blob(BlobBody { left: blob.size().await?, offset: 0, blob, reading: None })
            }
        };
        let (message, applied) = self.message(request, allowed.credential, body).await?;
        let (answer, connection) = self.transmit(&request.target, &addresses, message, left, note).await?;
        if let Some(applied) = applied {
            self.answered(&applied, answer.status().as_u16());
        }
        let watch = Watch {
            changing: request.is_changing(),
            idle_ms: self.call.limits.http_idle_ms_max,
            place: request.target.to_string(),
            budget: Arc::clone(&self.budget),
        };
        let own_header = allowed.credential.and_then(auth::header_of);
        let redactor = self.redactor();
        Ok(Response::new(answer, connection, watch, &redactor, own_header, self.blobs.hiding(&redactor)))
    }

    /// Writes a message to a connection of its own and waits for the head of the answer.
    pub(super) async fn transmit(
        &self,
        target: &Target,
        addresses: &[SocketAddr],
        message: http::Request<SendBody>,
        left: &AtomicBool,
        note: &mut Note<'_>,
    ) -> Result<(http::Response<Incoming>, Connection)> {
        let size = message.body().size() + head_bytes(message.headers()) + target.url().as_str().len() as u64;
        self.budget.take_bytes(size)?;
        let io = connect(target, addresses, &self.tls).await?;
        let broken =
            |why: &str| Error::unavailable("broken", format!("`{target}` gave no answer: {}", shown(why, 200)));
        let (mut sender, connection) = http1::Builder::new()
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| broken(&error.to_string()))?;
        let connection = Connection::spawn(connection);
        left.store(true, Ordering::Relaxed);
        note.size_bytes += size;
        let answer = sender.try_send_request(message).await.map_err(|mut error| {
            // Given back: not a byte of it was written.
            if error.take_message().is_some() {
                left.store(false, Ordering::Relaxed);
            }
            let error = error.into_error();
            // A blob that breaks off while it is being sent says why itself.
            match std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<Error>()) {
                Some(cause) => cause.clone(),
                None if error.is_parse() => broken("its answer is not HTTP, or its head is too large"),
                None => broken(&error.to_string()),
            }
        })?;
        let size = head_bytes(answer.headers());
        // The connection stops reading a little later than this.
        if size > HEAD_BYTES_MAX as u64 {
            return Err(broken("the head of its answer is too large"));
        }
        self.budget.take_bytes(size)?;
        note.size_bytes += size;
        Ok((answer, connection))
    }

    /// What is written to the connection, with the credential in it; and which token it was, where it was one.
    async fn message(
        &self,
        request: &Checked,
        rule: Option<&Credential>,
        body: SendBody,
    ) -> Result<(http::Request<SendBody>, Option<Applied>)> {
        let mut url = request.target.url().clone();
        let mut headers = request.headers.clone();
        let mut applied = None;
        if let Some(rule) = rule {
            let mut value = self.secret(&rule.secret).await?;
            if let Scheme::GoogleOauth { scope } = &rule.scheme {
                let (token, used) = self.token(&rule.secret, &value, scope).await?;
                (value, applied) = (token, Some(used));
            }
            auth::apply(rule, &value, &mut url, &mut headers)?;
        }
        Ok((Self::written(request, &url, headers, body)?, applied))
    }

    /// A message with the headers that only the host sets.
    pub(super) fn written(
        request: &Checked,
        url: &Url,
        mut headers: HeaderMap,
        body: SendBody,
    ) -> Result<http::Request<SendBody>> {
        let unusable =
            |what: &str| Error::invalid("url", format!("`{}` has {what} that cannot be sent", request.target));
        let host = url.host_str().unwrap_or_default();
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        headers.insert(HOST, HeaderValue::from_str(&host).map_err(|_| unusable("a host"))?);
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
        let wants_body = [Method::POST, Method::PUT, Method::PATCH].contains(&request.method);
        if body.size() > 0 || wants_body {
            headers.insert(CONTENT_LENGTH, body.size().into());
        }
        let path: String = [url.path(), url.query().map_or("", |_| "?"), url.query().unwrap_or_default()].concat();
        let mut message = http::Request::new(body);
        *message.method_mut() = request.method.clone();
        // The error would show the query.
        *message.uri_mut() = Uri::try_from(path).map_err(|_| unusable("a path or query"))?;
        *message.headers_mut() = headers;
        Ok(message)
    }

    /// Where a redirect leads, if it may be followed at all.
    fn redirected(&self, from: &Target, location: &HeaderValue) -> Result<Target> {
        let bad =
            |why: &str| Error::unavailable("broken", format!("`{from}` redirects to where nothing can be: {why}"));
        let location = location.to_str().map_err(|_| bad("it is no text"))?;
        let to = from.redirect(location).map_err(|error| bad(&error.message))?;
        if from.url().scheme() == "https" && to.url().scheme() != "https" {
            return Err(Error::denied("address-refused", format!("`{from}` redirects to `{to}`, away from TLS")));
        }
        // A server that writes the credential of a query into its redirect would pass it on to another.
        if origin(from) != origin(&to)
            && matches!(self.redactor().bytes(location.as_bytes()), std::borrow::Cow::Owned(_))
        {
            return Err(Error::denied("credential", format!("`{from}` redirects to `{to}` with a secret in the URL")));
        }
        Ok(to)
    }

    /// Without live values, which a server may have put into what a message quotes.
    fn clean(&self, mut error: Error) -> Error {
        self.redactor().error(&mut error);
        error
    }
}

/// The same failure, after a request that may have changed something has left.
pub(super) fn uncertain(mut error: Error) -> Error {
    if error.kind != ErrorKind::Cancelled {
        error.kind = ErrorKind::Uncertain;
        error.retry_after_ms = None;
    }
    error
}

/// Names and values, which is what guest and server chose.
fn head_bytes(headers: &HeaderMap) -> u64 {
    headers.iter().map(|(name, value): (&HeaderName, &HeaderValue)| (name.as_str().len() + value.len()) as u64).sum()
}

/// The place that an answer sends a request to, where it may be followed.
fn redirection<'r>(method: &Method, response: &'r Response) -> Option<&'r HeaderValue> {
    let follows =
        [Method::GET, Method::HEAD].contains(method) && matches!(response.code(), 301 | 302 | 303 | 307 | 308);
    response.raw_header(&LOCATION).filter(|_| follows)
}

fn origin(target: &Target) -> (&str, String, u16) {
    (target.url().scheme(), target.host().to_string(), target.port())
}

/// The audit record of one hop, written when it ends, also when its caller is dropped in it.
pub(super) struct Note<'a> {
    call: &'a Call,
    target: String,
    grants: Vec<String>,
    begun: std::time::Instant,
    size_bytes: u64,
    ended: bool,
}

impl Note<'_> {
    /// Adds what something rested on.
    pub(super) fn allowed(&mut self, by: &Allowed<'_>) {
        for grant in &by.grants {
            let grant = grant.to_string();
            if !self.grants.contains(&grant) {
                self.grants.push(grant);
            }
        }
    }

    /// Notes what is missing instead, and gives the error to answer.
    pub(super) fn denied(&mut self, denial: Denial) -> Error {
        self.grants = denial.grant().map(ToString::to_string).into_iter().collect();
        denial.into()
    }

    pub(super) fn end(mut self, error: Option<&Error>) {
        let outcome = match error {
            None => "ok".to_owned(),
            Some(error) if error.kind == ErrorKind::Denied => "denied".to_owned(),
            Some(error) => error.code.clone().into_owned(),
        };
        self.write(outcome);
    }

    fn write(&mut self, outcome: String) {
        self.ended = true;
        self.call.sink.audit(Audit {
            act: "http",
            target: std::mem::take(&mut self.target),
            outcome,
            grant: if self.grants.is_empty() { None } else { Some(self.grants.join(" ")) },
            duration_ms: u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            size_bytes: self.size_bytes,
        });
    }
}

impl Drop for Note<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.write("cancelled".to_owned());
        }
    }
}

/// What is sent after the head. Its length is always known.
pub(super) enum SendBody {
    Bytes(Bytes),
    Blob(BlobBody),
}

/// A read of a blob under way.
type Reading = Pin<Box<dyn Future<Output = Result<Vec<u8>>> + Send>>;

pub(super) struct BlobBody {
    blob: Arc<dyn Blob>,
    offset: u64,
    left: u64,
    reading: Option<Reading>,
}

impl SendBody {
    /// How much is still to be sent.
    fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Blob(body) => body.left,
        }
    }
}

impl Body for SendBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Bytes(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Blob(body) => body.poll_piece(cx).map(|piece| piece.map(|piece| piece.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.size() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.size())
    }
}

impl BlobBody {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let (offset, piece) =
            (self.offset, usize::try_from(self.left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES)));
        let reading = self.reading.get_or_insert_with(|| {
            let blob = Arc::clone(&self.blob);
            Box::pin(async move { blob.read(offset, piece).await })
        });
        let result = std::task::ready!(reading.as_mut().poll(cx));
        self.reading = None;
        Poll::Ready(Some(match result {
            // Fewer bytes than the head announced: the other side must not take it for a whole body.
            Ok(bytes) if bytes.is_empty() => {
                Err(Error::unavailable("broken", "the blob that was being sent is shorter than its size"))
            }
            Ok(bytes) => {
                self.offset += bytes.len() as u64;
                self.left -= bytes.len() as u64; // at most as much as was asked for
                Ok(bytes.into())
            }
            Err(error) => Err(error),
        }))
    }
}
