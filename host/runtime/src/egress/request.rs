//! What a guest may write into a request. A bad one is refused here, before anything is asked or sent.

use http::Method;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use midplane_core::endpoint::Target;
use midplane_core::gate;
use midplane_core::limits::Limits;
use midplane_core::text::shown;
use midplane_core::{Error, Result};
use midplane_engine::ports::HttpRequest;

/// Headers of a request (`http.request.headers`).
const HEADERS_MAX: usize = 128;
/// Bytes of their names and values.
const HEADERS_BYTES_MAX: usize = 64 * 1024;
/// The longest method that anyone registered has 17 letters.
const METHOD_BYTES_MAX: usize = 32;

/// A request that is well formed, without the headers that are the host's.
pub(super) struct Checked {
    pub(super) method: Method,
    pub(super) target: Target,
    pub(super) headers: HeaderMap,
    /// The credential rule that the guest named.
    pub(super) named: Option<String>,
    /// How long the head may take.
    pub(super) head_ms: u64,
}

impl Checked {
    pub(super) fn new(request: HttpRequest, limits: &Limits) -> Result<Self> {
        let head_ms = match request.timeout_ms {
            Some(0) => return Err(Error::invalid("timeout", "`timeout-ms` is at least 1")),
            Some(ms) => limits.http_head_ms_max.min(ms.into()),
            None => limits.http_head_ms_max,
        };
        Ok(Self {
            method: method(&request.method)?,
            target: Target::parse(&request.url)?,
            headers: headers(&request.headers)?,
            named: request.credential,
            head_ms,
        })
    }

    /// Whether a server may change something when it gets this.
    pub(super) fn is_changing(&self) -> bool {
        ![Method::GET, Method::HEAD, Method::OPTIONS].contains(&self.method)
    }

    /// What to ask the gate: for the request itself, and for a credential.
    pub(super) fn credential(&self) -> gate::Request<'_> {
        gate::Request::Credential { method: self.method.as_str(), target: &self.target, named: self.named.as_deref() }
    }
}

fn method(text: &str) -> Result<Method> {
    let letters = text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    let sendable = !text.is_empty() && text.len() <= METHOD_BYTES_MAX && letters;
    // `CONNECT` asks for a tunnel and `TRACE` echoes the credential.
    let method = Method::from_bytes(text.as_bytes()).ok().filter(|_| sendable && !matches!(text, "CONNECT" | "TRACE"));
    method.ok_or_else(|| {
        Error::invalid("method", format!("`{}` is not a method that can be sent", shown(text, 40)))
            .hint("write it in upper case, such as `GET`")
    })
}

fn headers(list: &[(String, String)]) -> Result<HeaderMap> {
    let bytes: usize = list.iter().map(|(name, value)| name.len() + value.len()).sum();
    if list.len() > HEADERS_MAX || bytes > HEADERS_BYTES_MAX {
        return Err(Error::limit(
            "headers",
            format!("a request has at most {HEADERS_MAX} headers of {HEADERS_BYTES_MAX} bytes together"),
        ));
    }
    let mut kept = Vec::with_capacity(list.len());
    let mut steering: Vec<HeaderName> = Vec::new();
    for (name, value) in list {
        let wrong = |what: &str| Error::invalid("header", format!("the header `{}` has {what}", shown(name, 80)));
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| wrong("a value with control characters"))?;
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong("a name that cannot be sent"))?;
        if name == http::header::CONNECTION {
            // It names further headers that end at the next server.
            steering.extend(value.to_str().unwrap_or_default().split(',').filter_map(|name| name.trim().parse().ok()));
        } else if !is_hosts(&name) {
            kept.push((name, value));
        }
    }
    kept.retain(|(name, _)| !steering.contains(name));
    let mut headers = HeaderMap::with_capacity(kept.len());
    for (name, value) in kept {
        headers.append(name, value);
    }
    Ok(headers)
}

/// Whether only the host sets this header.
fn is_hosts(name: &HeaderName) -> bool {
    let name = name.as_str();
    is_hop_by_hop(name)
        || is_credential(name)
        || name.starts_with("x-forwarded-")
        || [
            "host",
            "content-length",
            "expect",
            // Who a request comes from is not for the guest to say.
            "forwarded",
            "via",
            "x-real-ip",
            "x-client-ip",
            "x-cluster-client-ip",
            "x-original-forwarded-for",
            "true-client-ip",
            "cf-connecting-ip",
            "fastly-client-ip",
            "client-ip",
            // Servers behind some proxies take the path from these: it would not be the one that was granted.
            "x-original-url",
            "x-rewrite-url",
            "x-http-method",
            "x-http-method-override",
            "x-method-override",
        ]
        .contains(&name)
}

/// Whether a header belongs to one connection.
pub(super) fn is_hop_by_hop(name: &str) -> bool {
    [
        "connection",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "trailer",
        "trailers",
        "transfer-encoding",
        "upgrade",
    ]
    .contains(&name)
}

/// Whether a header carries a credential, with the vendors that do not use `authorization`. A plugin never holds one, so
/// what it sends here is a mistake or a try.
pub(super) fn is_credential(name: &str) -> bool {
    [
        "authorization",
        "proxy-authorization",
        "cookie",
        "cookie2",
        "x-api-key",
        "api-key",
        "apikey",
        "x-apikey",
        "x-goog-api-key",
        "x-goog-iam-authorization-token",
        "x-amz-security-token",
        "x-auth-token",
        "x-auth-key",
        "x-auth-email",
        "x-access-token",
        "x-vault-token",
        "private-token",
        "job-token",
        "deploy-token",
        "x-gitlab-token",
        "x-functions-key",
        "ocp-apim-subscription-key",
        "x-ms-authorization-auxiliary",
        "x-authorization",
        "x-forwarded-authorization",
        "x-forwarded-access-token",
    ]
    .contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(method: &str, url: &str, headers: &[(&str, &str)]) -> Result<Checked> {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let request =
            HttpRequest { method: method.to_owned(), url: url.to_owned(), headers, credential: None, timeout_ms: None };
        Checked::new(request, &Limits::default())
    }

    #[test]
    fn refusals() {
        let long = "a".repeat(8 * 1024);
        let shown = [
            ("", "https://h/", ("a", "b")),
            ("get", "https://h/", ("a", "b")),
            ("GET ", "https://h/", ("a", "b")),
            ("GET\r\nX: y", "https://h/", ("a", "b")),
            ("CONNECT", "https://h/", ("a", "b")),
            ("TRACE", "https://h/", ("a", "b")),
            ("GET", "/relative", ("a", "b")),
            ("GET", "ftp://h/", ("a", "b")),
            ("GET", "https://user:pass@h/", ("a", "b")),
            ("GET", "https://h/#part", ("a", "b")),
            ("GET", &format!("https://h/{long}"), ("a", "b")),
            ("GET", "https://h/", ("", "b")),
            ("GET", "https://h/", ("a b", "b")),
            ("GET", "https://h/", ("a:", "b")),
            ("GET", "https://h/", ("a", "b\r\nx: y")),
            ("GET", "https://h/", ("a", "b\0")),
        ]
        .map(|(method, url, header)| {
            let error = checked(method, url, &[header]).err().unwrap();
            format!("{} {}: {}", error.kind, error.code, error.message.replace(&long[..190], "…"))
        });
        insta::assert_snapshot!(shown.join("\n"));
    }

    #[test]
    fn bounds() {
        let many = vec![("a", "b"); HEADERS_MAX];
        assert_eq!(checked("GET", "https://h/", &many).unwrap().headers.len(), HEADERS_MAX);
        assert_eq!(checked("GET", "https://h/", &vec![("a", "b"); HEADERS_MAX + 1]).err().unwrap().code, "headers");
        assert_eq!(checked("GET", "https://h/", &vec![("a", "b"); 40_000]).err().unwrap().code, "headers");
        let large = "b".repeat(HEADERS_BYTES_MAX);
        assert_eq!(checked("GET", "https://h/", &[("a", &large)]).err().unwrap().code, "headers");
    }

    #[test]
    fn headers_of_the_host_are_dropped() {
        let kept = checked(
            "GET",
            "https://h/",
            &[
                ("Authorization", "Bearer x"),
                ("X-API-Key", "x"),
                ("Cookie", "x"),
                ("Proxy-Authorization", "x"),
                ("Api-Key", "x"),
                ("X-Goog-Api-Key", "x"),
                ("Host", "evil"),
                ("Content-Length", "5"),
                ("Transfer-Encoding", "chunked"),
                ("Connection", "close, X-Secret-Hop"),
                ("X-Secret-Hop", "x"),
                ("Keep-Alive", "x"),
                ("TE", "trailers"),
                ("Trailer", "x"),
                ("Upgrade", "h2c"),
                ("Expect", "100-continue"),
                ("X-Forwarded-For", "1.2.3.4"),
                ("X-Forwarded-Host", "x"),
                ("Forwarded", "x"),
                ("Via", "x"),
                ("X-Real-IP", "x"),
                ("X-Original-URL", "/admin"),
                ("X-HTTP-Method-Override", "DELETE"),
                ("Content-Type", "text/plain"),
                ("Accept", "a"),
                ("Accept", "b"),
                ("anthropic-version", "2023-06-01"),
            ],
        )
        .unwrap()
        .headers;
        let kept: Vec<String> =
            kept.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        assert_eq!(kept, ["content-type: text/plain", "accept: a", "accept: b", "anthropic-version: 2023-06-01"]);
    }

    #[test]
    fn what_may_change_something() {
        for (method, changing) in
            [("GET", false), ("HEAD", false), ("OPTIONS", false), ("POST", true), ("DELETE", true), ("PROPFIND", true)]
        {
            assert_eq!(checked(method, "https://h/", &[]).unwrap().is_changing(), changing, "{method}");
        }
    }
}
