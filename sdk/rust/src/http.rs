//! Requests and responses over the host's egress gate. The host adds the credential, so no header here holds one.

use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Result, cut};
use crate::host::{Host, Incoming, Request};
use crate::sse::{Decoder, SseEvent};

/// Most bytes of a body that are read whole (an error body, a list of models).
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes asked for in one read.
const CHUNK_BYTES: u32 = 64 * 1024;

/// A request that is being put together.
#[derive(Debug, Clone, PartialEq)]
pub struct Builder {
    /// The head, as the host takes it.
    pub request: Request,
    /// The body; empty sends none.
    pub body: Vec<u8>,
}

impl Builder {
    /// A request without headers and body.
    #[must_use]
    pub fn new(method: &str, url: impl Into<String>) -> Self {
        Self {
            request: Request {
                method: method.into(),
                url: url.into(),
                headers: Vec::new(),
                credential: None,
                timeout_ms: None,
            },
            body: Vec::new(),
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.request.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body to this JSON, with its content type.
    pub fn json(mut self, body: &impl Serialize) -> Result<Self> {
        self.body = serde_json::to_vec(body)?;
        Ok(self.header("content-type", "application/json"))
    }

    /// Sets the time until the response head must be there.
    #[must_use]
    pub fn timeout_ms(mut self, timeout_ms: u32) -> Self {
        self.request.timeout_ms = Some(timeout_ms);
        self
    }

    /// Sends it and waits for the response head.
    pub fn send(self, host: &dyn Host) -> Result<Response<'_>> {
        let incoming = host.send(&self.request, self.body)?;
        Ok(Response { status: incoming.status(), headers: incoming.headers(), incoming })
    }
}

/// A response whose body is still arriving. Dropping it closes the connection.
pub struct Response<'h> {
    /// The status code. Any status is a response, not an error.
    pub status: u16,
    /// Headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    incoming: Box<dyn Incoming + 'h>,
}

impl<'h> Response<'h> {
    /// The first header of this name, in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// The next bytes as soon as some are there; unset at the end.
    pub fn chunk(&mut self) -> Result<Option<Vec<u8>>> {
        self.incoming.read(CHUNK_BYTES)
    }

    /// The whole body. `limit` code `body-size` when it is longer than `bytes_max`.
    pub fn bytes(mut self, bytes_max: usize) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk()? {
            if body.len() + chunk.len() > bytes_max {
                return Err(Error::limit("body-size", format!("the response is longer than {bytes_max} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// What can be had of the body, for an error message: a broken rest is left out, and it is cut, not refused.
    #[must_use]
    pub fn bytes_lossy(mut self, bytes_max: usize) -> Vec<u8> {
        let mut body = Vec::new();
        while body.len() < bytes_max {
            match self.chunk() {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) | Err(_) => break,
            }
        }
        body.truncate(bytes_max);
        body
    }

    /// The body as server-sent events.
    #[must_use]
    pub fn events(self) -> EventStream<'h> {
        EventStream { response: self, decoder: Decoder::new() }
    }
}

/// The server-sent events of a response.
pub struct EventStream<'h> {
    response: Response<'h>,
    decoder: Decoder,
}

impl EventStream<'_> {
    /// The events that the next chunk completes, possibly none; unset at the end of the body. Waits for the chunk.
    pub fn next_batch(&mut self) -> Result<Option<Vec<SseEvent>>> {
        match self.response.chunk()? {
            Some(chunk) => self.decoder.push(&chunk).map(Some),
            None => Ok(None),
        }
    }
}

/// The first header of this name, in lower case.
#[must_use]
pub fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// `retry-after` in milliseconds, where it is a number of seconds (also with a fraction). The form with a date is
/// not read: a guest has no wall clock that it may trust, and no vendor here sends it.
#[must_use]
pub fn retry_after_ms(headers: &[(String, String)]) -> Option<u64> {
    if let Some(value) = header(headers, "retry-after-ms")
        && let Ok(ms) = value.trim().parse()
    {
        return Some(ms);
    }
    let seconds: f64 = header(headers, "retry-after")?.trim().parse().ok()?;
    if !seconds.is_finite() || seconds < 0.0 {
        return None;
    }
    Some((seconds.min(86_400.0) * 1000.0).ceil() as u64)
}

/// Adds `retry-after` to an error, where repeating can help at all: to a spent budget a time changes nothing.
#[must_use]
pub fn with_retry_after(error: Error, headers: &[(String, String)]) -> Error {
    match retry_after_ms(headers) {
        Some(ms) if error.is_retryable() => error.retry_after_ms(ms),
        _ => error,
    }
}

/// A duration in words such as `6m0s`, `17s`, `1.5s` or `120ms`, in milliseconds and at most a day: how vendors write
/// when a limit is reset.
#[must_use]
pub fn duration_ms(text: &str) -> Option<u64> {
    const DAY_MS: f64 = 86_400_000.0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut total_ms = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let number: f64 = number.parse().ok()?;
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        total_ms += number
            * match unit {
                "ms" => 1.0,
                "s" => 1000.0,
                "m" => 60_000.0,
                "h" => 3_600_000.0,
                "d" => DAY_MS,
                _ => return None,
            };
        rest = after;
    }
    Some(total_ms.min(DAY_MS).ceil() as u64)
}

/// The error of an answer that is not a success, by its status alone. An adapter adds what the vendor's body says.
#[must_use]
pub fn status_error(status: u16, headers: &[(String, String)], message: &str) -> Error {
    let message = format!("the vendor answered {status}: {message}");
    let error = match status {
        400 | 405 | 409 | 415 | 422 => Error::invalid("request", message),
        401 => Error::denied("credential", message),
        403 => Error::denied("vendor-permission", message),
        402 => Error::limit("billing", message),
        404 => Error::not_found("vendor-not-found", message),
        413 => Error::limit("request-size", message),
        408 => Error::unavailable("timeout", message),
        429 => Error::unavailable("rate-limited", message),
        529 => Error::unavailable("overloaded", message),
        500..=599 => Error::unavailable("vendor-error", message),
        _ => Error::internal("status", message),
    };
    with_retry_after(error, headers)
}

/// What a person can read of an error body: a JSON message where there is one, else the first line of the text, but
/// never a page of HTML.
#[must_use]
pub fn body_message(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    if let Ok(mut value) = serde_json::from_str::<Value>(&text) {
        // A vendor that streams a JSON array answers with an array also when it fails.
        if value[0].is_object() {
            value = value[0].take();
        }
        let message = [&value["error"]["message"], &value["message"], &value["error"], &value["detail"]];
        if let Some(message) = message.into_iter().find_map(Value::as_str) {
            return cut(message.to_owned(), 1000);
        }
    }
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    if line.is_empty() {
        return "no explanation".into();
    }
    if line.starts_with('<') {
        return "a page of HTML instead of JSON".into();
    }
    cut(line.to_owned(), 300)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn retry_after_is_read_in_each_form_that_is_a_number() {
        let cases = [
            (headers(&[("retry-after", "7")]), Some(7000)),
            (headers(&[("retry-after", "0.25")]), Some(250)),
            (headers(&[("retry-after-ms", "80"), ("retry-after", "7")]), Some(80)),
            (headers(&[("retry-after", "-1")]), None),
            (headers(&[("retry-after", "NaN")]), None),
            (headers(&[("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT")]), None),
            (headers(&[]), None),
        ];
        for (headers, expected) in cases {
            assert_eq!(retry_after_ms(&headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn a_duration_is_read_in_the_words_of_vendors() {
        let cases = [
            ("6m0s", Some(360_000)),
            ("17s", Some(17_000)),
            ("1.5s", Some(1_500)),
            ("120ms", Some(120)),
            ("1h2m", Some(3_720_000)),
            ("0s", Some(0)),
            ("900d", Some(86_400_000)),
            ("", None),
            ("7", None),
            ("s", None),
            ("1.2.3s", None),
            ("-5s", None),
            ("5 s", None),
        ];
        for (text, expected) in cases {
            assert_eq!(duration_ms(text), expected, "{text}");
        }
    }

    #[test]
    fn a_status_says_what_can_be_done_about_it() {
        let table: Vec<String> = [400, 401, 402, 403, 404, 413, 429, 500, 503, 529, 302]
            .into_iter()
            .map(|status| {
                let error = status_error(status, &headers(&[("retry-after", "2")]), "no");
                format!("{status} {:?} {} {:?}", error.kind, error.code, error.retry_after_ms)
            })
            .collect();
        insta::assert_snapshot!(table.join("\n"));
    }

    #[test]
    fn an_error_body_becomes_one_readable_line() {
        let cases: [(&[u8], &str); 7] = [
            (br#"{"error":{"message":"bad model"}}"#, "bad model"),
            (br#"{"error":"bad"}"#, "bad"),
            (br#"[{"error":{"code":400,"message":"bad key"}}]"#, "bad key"),
            (br#"{"detail":"Not Found"}"#, "Not Found"),
            (b"<!doctype html><html>", "a page of HTML instead of JSON"),
            (b"\n  upstream gone\nmore", "upstream gone"),
            (b"", "no explanation"),
        ];
        for (body, expected) in cases {
            assert_eq!(body_message(body), expected);
        }
    }
}
