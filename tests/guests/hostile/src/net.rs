//! HTTP: requests that are none, places that are refused, answers without end.

use midplane_plugin::agent::Outcome;
use midplane_plugin::bindings::midplane::plugin::http;
use midplane_plugin::host::{Incoming, Request};
use midplane_plugin::{Error, Host, Result};

use crate::{Behaviour, Call, survived};

pub(crate) const BEHAVIOURS: &[(&str, Behaviour)] = &[
    ("http_get", http_get),
    ("http_named", http_named),
    ("http_headers", headers),
    ("http_header_split", header_split),
    ("http_zero_timeout", zero_timeout),
    ("http_method", method),
    ("http_body_large", body_large),
    ("http_credential", credential),
    ("http_never_read", never_read),
    ("http_requests", requests),
    ("http_endless", endless),
    ("http_steered", steered),
];

pub(crate) fn url(host: &dyn Host, path: &str) -> String {
    format!("{}{path}", host.setting("server").unwrap_or_default())
}

pub(crate) fn request(host: &dyn Host, path: &str) -> Request {
    // Without a credential: only a test that is about one grants it.
    let credential = Some("anonymous".into());
    Request { method: "GET".into(), url: url(host, path), headers: Vec::new(), credential, timeout_ms: None }
}

pub(crate) fn get<'a>(host: &'a dyn Host, path: &str) -> Result<Box<dyn Incoming + 'a>> {
    host.send(&request(host, path), Vec::new())
}

/// Reads a body to its end.
pub(crate) fn whole(mut response: Box<dyn Incoming + '_>) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(piece) = response.read(u32::MAX)? {
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// Gets a URL: absolute as it is, a path of the test's server.
fn http_get(call: &Call<'_>) -> Result<Outcome> {
    let mut request = request(call.host, "");
    let place = call.word(1);
    request.url = if place.starts_with('/') { url(call.host, place) } else { place.to_owned() };
    let body = whole(call.host.send(&request, Vec::new())?)?;
    survived(String::from_utf8_lossy(&body).into_owned())
}

/// Gets a path of the test's server by its name.
fn http_named(call: &Call<'_>) -> Result<Outcome> {
    let mut request = request(call.host, "");
    request.url = format!("{}{}", call.host.setting("named").unwrap_or_default(), call.word(1));
    call.host.send(&request, Vec::new())?;
    survived("a private address by name")
}

fn headers(call: &Call<'_>) -> Result<Outcome> {
    let mut request = request(call.host, "/ok");
    request.headers = vec![("a".into(), "b".into()); usize::try_from(call.number(1)).unwrap_or(0)];
    call.host.send(&request, Vec::new())?;
    survived("so many headers")
}

fn header_split(call: &Call<'_>) -> Result<Outcome> {
    let mut request = request(call.host, "/ok");
    request.headers = vec![("a".into(), "b\r\nhost: elsewhere".into())];
    call.host.send(&request, Vec::new())?;
    survived("a header of two lines")
}

fn zero_timeout(call: &Call<'_>) -> Result<Outcome> {
    call.host.send(&Request { timeout_ms: Some(0), ..request(call.host, "/ok") }, Vec::new())?;
    survived("no time at all")
}

fn method(call: &Call<'_>) -> Result<Outcome> {
    call.host.send(&Request { method: call.word(1).into(), ..request(call.host, "/ok") }, Vec::new())?;
    survived("such a method")
}

fn body_large(call: &Call<'_>) -> Result<Outcome> {
    call.host.send(&Request { method: "POST".into(), ..request(call.host, "/ok") }, vec![0; 5 * 1024 * 1024])?;
    survived("a body of 5 MiB")
}

/// A credential that is not for this server.
fn credential(call: &Call<'_>) -> Result<Outcome> {
    call.host.send(&Request { credential: Some("other".into()), ..request(call.host, "/ok") }, Vec::new())?;
    survived("a credential of elsewhere")
}

/// Fifty answers that are begun and not read, and then an end without giving one back.
fn never_read(call: &Call<'_>) -> Result<Outcome> {
    for _ in 0..50 {
        std::mem::forget(http::send(&request(call.host, "/drip"), &http::Body::Empty)?);
    }
    Ok(Outcome::done(""))
}

fn requests(call: &Call<'_>) -> Result<Outcome> {
    for _ in 0..1_000 {
        whole(get(call.host, "/ok")?)?;
    }
    survived("a thousand requests")
}

fn endless(call: &Call<'_>) -> Result<Outcome> {
    let mut response = get(call.host, "/endless")?;
    while response.read(u32::MAX)?.is_some() {}
    survived("a body without end")
}

/// Headers that are the host's to set. The server answers with what came.
fn steered(call: &Call<'_>) -> Result<Outcome> {
    let mut request = request(call.host, "/headers");
    for (name, value) in [
        ("host", "evil"),
        ("authorization", "Bearer mine"),
        ("cookie", "a=b"),
        ("content-length", "9"),
        ("x-forwarded-for", "8.8.8.8"),
        ("transfer-encoding", "chunked"),
    ] {
        request.headers.push((name.into(), value.into()));
    }
    let seen = whole(call.host.send(&request, Vec::new())?)?;
    String::from_utf8(seen).map(Outcome::done).map_err(Error::from)
}
