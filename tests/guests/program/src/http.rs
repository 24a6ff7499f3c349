//! One HTTP/1.1 request over a plain connection: as much as a test needs to see what a program of a vendor would get
//! from an endpoint of the host. The connection is closed after the answer, so the answer's end is the stream's.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::pattern::{self, Captures};
use crate::script::Request;

/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Asks, and gives `{"status", "body"}`, or `{"error"}`.
pub(crate) fn ask(request: &Request, captures: &Captures) -> Value {
    answer(request, captures).unwrap_or_else(|error| json!({ "error": error }))
}

fn answer(request: &Request, captures: &Captures) -> Result<Value, String> {
    let url = pattern::filled_text(&request.url, captures);
    let rest = url.strip_prefix("http://").ok_or_else(|| format!("`{url}` is no `http` URL"))?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let body = request.body.as_ref().map(|body| pattern::filled(body, captures).to_string()).unwrap_or_default();
    let method = request.method.as_deref().unwrap_or(if body.is_empty() { "GET" } else { "POST" });
    let path = if path.is_empty() { "/" } else { path };
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    for (name, value) in &request.headers {
        head.push_str(&format!("{name}: {}\r\n", pattern::filled_text(value, captures)));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    let address = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let mut stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
    stream.write_all(format!("{head}{body}").as_bytes()).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").ok_or("the answer has no head")?;
    let status: Option<u16> = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok(json!({ "status": status, "body": body }))
}
