//! One request to an endpoint: who asks, where it goes, and the answer as it arrives.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::{Body as _, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use midplane_core::endpoint::Target;
use midplane_core::{Error, ErrorKind, Result};
use midplane_engine::ports::{HttpBody, HttpRequest, HttpResponse};
use serde_json::json;
use subtle::{Choice, ConstantTimeEq as _};
use url::form_urlencoded;

use super::{Plan, Route};
use crate::blob::Source;

/// How much of a response is passed on at once, in bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// How much of a request that was answered early is taken in all the same, in bytes, and for how long.
const REST_BYTES_MAX: usize = 64 * 1024 * 1024;
const REST: Duration = Duration::from_secs(10);

/// What an answer is made of.
type Body = UnsyncBoxBody<Bytes, Error>;

/// Answers requests.
pub(super) struct Serve {
    pub(super) plan: Plan,
}

impl Serve {
    /// An answer to any request.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let Some((route, rest)) = self.route(&request) else {
            // The same for a wrong path and a wrong token.
            return problem(StatusCode::UNAUTHORIZED, "endpoint-token", "path or token are not those of this run");
        };
        match self.forward(route, &rest, request).await {
            Ok(response) => response,
            Err(error) => refused(&error),
        }
    }

    /// The endpoint that a request means and may use, and what follows in the path. Neither of both comparisons ends early.
    fn route(&self, request: &Request<Incoming>) -> Option<(&Route, String)> {
        let path = request.uri().path().strip_prefix('/')?;
        let (first, rest) = path.find('/').map_or((path, ""), |at| path.split_at(at));
        let given = given_tokens(request.headers(), request.uri().query().unwrap_or_default());
        let mut found = None;
        for route in &self.plan.routes {
            let mut token = Choice::from(0);
            for given in &given {
                token |= given.ct_eq(route.token.expose());
            }
            if bool::from(first.as_bytes().ct_eq(route.path.as_bytes()) & token) {
                found = Some((route, rest.to_owned()));
            }
        }
        found
    }

    async fn forward(&self, route: &Route, rest: &str, request: Request<Incoming>) -> Result<Response<Body>> {
        let (head, body) = request.into_parts();
        let body = Upload(Some(body));
        if self.plan.control.is_cancelled() {
            // What is under way goes on until the end, so that a program can be interrupted in its own way.
            return Err(Error::cancelled("cancelled", "the run is being cancelled"));
        }
        let query = own_query(head.uri.query().unwrap_or_default());
        let mark = if query.is_empty() { "" } else { "?" };
        let url = format!("{}{rest}{mark}{query}", route.url);
        // The gate knows the whole permission; this is the part of it that the endpoint stands for.
        if !route.url.matches(&Target::parse(&url)?) {
            return Err(Error::denied("endpoint-path", format!("the endpoint `{}` does not lead there", route.name)));
        }
        // Hop-by-hop headers, credentials and what else is the host's are dropped by the gate.
        let headers = head.headers.iter().filter(|(name, _)| *name != ACCEPT_ENCODING);
        let headers =
            headers.filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())));
        let gated = HttpRequest {
            method: head.method.as_str().to_owned(),
            url,
            headers: headers.collect(),
            credential: Some(route.credential.clone()),
            timeout_ms: None,
        };
        let body = match body.size() {
            Some(0) => HttpBody::Empty,
            // On its way while it comes, where its length is known. In a blob no placeholder is replaced.
            size => HttpBody::Blob(self.plan.blobs.arriving(body, size)),
        };
        let response = self.plan.http.send(gated, body).await?;
        Ok(passed_on(response, &head.method))
    }
}

/// All that stands where vendors' programs put their key.
fn given_tokens(headers: &HeaderMap, query: &str) -> Vec<Vec<u8>> {
    let bearer = headers.get_all(AUTHORIZATION).iter().filter_map(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().as_bytes().to_vec())
    });
    let own = ["x-api-key", "x-goog-api-key"];
    let own = own.iter().flat_map(|name| headers.get_all(*name)).map(|value| value.as_bytes().to_vec());
    let key = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "key");
    bearer.chain(own).chain(key.map(|(_, value)| value.as_bytes().to_vec())).collect()
}

/// The query without the token; all else as it is written.
fn own_query(query: &str) -> String {
    let is_key = |pair: &&str| form_urlencoded::parse(pair.as_bytes()).any(|(name, _)| name == "key");
    let kept: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty() && !is_key(pair)).collect();
    kept.join("&")
}

/// The answer of the gate, piece by piece. Dropping it closes the connection behind it.
fn passed_on(response: Box<dyn HttpResponse>, method: &Method) -> Response<Body> {
    let mut out = Response::builder().status(response.status());
    for (name, value) in response.headers() {
        // Of a body without its secrets the length is another one.
        let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) else { continue };
        if name != CONTENT_LENGTH || *method == Method::HEAD {
            out = out.header(name, value);
        }
    }
    let pieces = stream::try_unfold(response, |mut response| async move {
        let piece = response.read(PIECE_BYTES).await?;
        Ok::<_, Error>(piece.map(|piece| (Frame::data(Bytes::from(piece)), response)))
    });
    let body = StreamBody::new(pieces).boxed_unsync();
    // Status and headers were those of a response already.
    out.body(body).unwrap_or_else(|_| problem(StatusCode::BAD_GATEWAY, "broken", "the answer cannot be passed on"))
}

/// An error of the host, in the form in which vendors' programs look for one.
fn refused(error: &Error) -> Response<Body> {
    let status = match error.kind {
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        // A spent budget too: to ask for a repeat would be asking for more of the same.
        ErrorKind::Denied | ErrorKind::Limit | ErrorKind::Unsupported | ErrorKind::NotFound => StatusCode::FORBIDDEN,
        ErrorKind::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Conflict | ErrorKind::Unavailable | ErrorKind::Internal | ErrorKind::Uncertain => {
            StatusCode::BAD_GATEWAY
        }
    };
    let message = match &error.hint {
        Some(hint) => format!("{} ({hint})", error.message),
        None => error.message.clone(),
    };
    problem(status, &error.code, &message)
}

fn problem(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    let message = format!("midplane: {message}");
    let body = json!({ "type": "error", "error": { "type": "midplane", "code": code, "message": message } });
    let body = Full::from(body.to_string()).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The body of a request, until its end was seen.
struct Upload(Option<Incoming>);

impl Upload {
    /// Its length, where it is known.
    fn size(&self) -> Option<u64> {
        self.0.as_ref().map_or(Some(0), |body| if body.is_end_stream() { Some(0) } else { body.size_hint().exact() })
    }
}

#[async_trait::async_trait]
impl Source for Upload {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        while let Some(body) = &mut self.0 {
            match body.frame().await {
                None => self.0 = None,
                Some(Err(_)) => {
                    self.0 = None;
                    return Err(Error::unavailable("broken", "the body of the request broke off"));
                }
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
        Ok(None)
    }
}

impl Drop for Upload {
    /// Takes in what is left of it. A program that is still sending when the connection closes finds it broken, and the
    /// answer, which says what is wrong, is lost.
    fn drop(&mut self) {
        let (Some(mut body), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) else { return };
        let rest = async move {
            let mut left = REST_BYTES_MAX;
            while let Some(Ok(frame)) = body.frame().await {
                match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                    Some(fewer) => left = fewer,
                    None => return,
                }
            }
        };
        // Without a result: nobody waits for it.
        drop(runtime.spawn(tokio::time::timeout(REST, rest)));
    }
}
