//! Each hop passes the whole gate again, and takes less with it.

use midplane_core::manifest::Scheme;

use super::harness::*;
use crate::egress::{Http as _, HttpBody};

/// `/to?URL` redirects to `URL`, `/part` to a part of a page, `/loop` to itself; all else answers with its path.
async fn redirecting(status: &'static str) -> Server {
    Server::answering(move |head| {
        let path = head.split(' ').nth(1).unwrap();
        match path.split_once('?') {
            Some(("/to", to)) => answer(status, &format!("location: {to}\r\n"), "moved"),
            _ if path == "/part" => answer(status, "location: next#part\r\n", "moved"),
            _ if path == "/loop" => answer(status, "location: /loop\r\n", "moved"),
            _ if path == "/nowhere" => answer(status, "", "moved"),
            _ if head.starts_with("HEAD") => "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n".to_owned(),
            _ => answer("200 OK", "", path),
        }
    })
    .await
}

#[tokio::test]
async fn where_a_redirect_may_lead() {
    let server = redirecting("302 Found").await;
    let port = server.port();
    let mut lines = Vec::new();
    for (method, path) in [
        ("GET", "/to?/next"),
        ("GET", "/part"),
        ("GET", "/to?//api.test:PORT/next"),
        ("GET", "/to?http://other.test:PORT/next"),
        ("GET", "/to?http://ungranted.test:PORT/next"),
        ("GET", "/to?http://private.test:PORT/next"),
        ("GET", "/to?http://127.0.0.1:PORT/next"),
        ("GET", "/to?http://169.254.169.254/latest/meta-data"),
        ("GET", "/to?file:///etc/passwd"),
        ("GET", "/to?http://user:hidden@api.test:PORT/"),
        ("GET", "/to?http://api.test:PORT/\u{e4}"),
        ("GET", "/loop"),
        ("GET", "/nowhere"),
        ("HEAD", "/to?/next"),
        ("POST", "/to?/next"),
        ("PUT", "/to?/next"),
        ("OPTIONS", "/to?/next"),
    ] {
        let mut setup = Setup::open(&server)
            .allow(&format!("http://other.test:{port}"), &ALL, None)
            .grant(&format!("http:http://private.test:{port}"))
            .name("private.test", &[&["10.1.2.3"]]);
        setup.permissions.push(permission(&format!("http://private.test:{port}"), &ALL, None));
        let path = path.replace("PORT", &port.to_string());
        let shown = setup.build().shown(method, format!("http://api.test:{port}{path}")).await;
        lines.push(format!("{method} {path}\n    {shown}").replace(&port.to_string(), "PORT"));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[tokio::test]
async fn all_five_codes_are_followed_and_no_other() {
    for (status, followed) in [
        ("300 Multiple Choices", false),
        ("301 Moved Permanently", true),
        ("302 Found", true),
        ("303 See Other", true),
        ("304 Not Modified", false),
        ("305 Use Proxy", false),
        ("307 Temporary Redirect", true),
        ("308 Permanent Redirect", true),
        ("201 Created", false),
    ] {
        let server = redirecting(status).await;
        let gate = Setup::open(&server).build();
        gate.send("GET", format!("http://api.test:{}/to?/next", server.port())).await.unwrap();
        assert_eq!(server.seen().len(), if followed { 2 } else { 1 }, "{status}");
    }
}

#[tokio::test]
async fn a_loop_ends_at_the_limit() {
    let server = redirecting("302 Found").await;
    let gate = Setup::open(&server).limits(|limits| limits.http_redirects_max = 3).build();
    let shown = failure(gate.send("GET", format!("http://api.test:{}/loop", server.port())).await);
    assert_eq!(shown, "unavailable broken");
    assert_eq!(server.seen().len(), 4);
    assert_eq!(gate.log.audits().len(), 4, "each hop has its record");
}

#[tokio::test]
async fn a_credential_stays_with_its_origin() {
    let server = redirecting("302 Found").await;
    let port = server.port();
    let at = |name: &str| format!("http://{name}.test:{port}");
    let gate = Setup::with_key(&server)
        .allow(&at("plain"), &ALL, None)
        .allow(&at("keyed"), &ALL, Some(rule("other", Scheme::Bearer, "OTHER_KEY")))
        .value("OTHER_KEY", "other-value-123")
        .build();
    for (to, named, want) in [
        ("/next".to_owned(), None, Some(format!("Bearer {KEY}"))),
        (format!("{}/next", at("plain")), None, None),
        (format!("{}/next", at("plain")), Some("key"), None),
        (format!("{}/next", at("keyed")), Some("key"), Some("Bearer other-value-123".to_owned())),
        (format!("{}/next", at("keyed")), Some("anonymous"), None),
    ] {
        let mut wanted = request("GET", format!("{}/to?{to}", at("api")));
        wanted.credential = named.map(str::to_owned);
        gate.egress.send(wanted, HttpBody::Empty).await.unwrap();
        let seen = server.seen();
        assert_eq!(header(&seen[seen.len() - 1].0, "authorization"), want.as_deref(), "{to} {named:?}");
    }
}

#[tokio::test]
async fn a_secret_in_the_location_goes_to_no_other_server() {
    let server = Server::answering(|head| {
        // A server that builds its redirect from the URL that it was called with.
        let query = head.split(' ').nth(1).unwrap().split_once('?').map_or("", |(_, query)| query);
        let port = header(head, "host").unwrap().rsplit(':').next().unwrap();
        answer("302 Found", &format!("location: http://other.test:{port}/?{query}\r\n"), "")
    })
    .await;
    let port = server.port();
    let query = rule("key", Scheme::Query { parameter: "key".to_owned() }, "API_KEY");
    let gate = Setup::empty()
        .allow(&format!("http://api.test:{port}"), &ALL, Some(query))
        .allow(&format!("http://other.test:{port}"), &ALL, None)
        .value("API_KEY", KEY)
        .build();
    let error = gate.send("GET", format!("http://api.test:{port}/")).await.err().unwrap();
    assert_eq!((error.kind.as_str(), error.code.as_ref()), ("denied", "credential"));
    assert!(server.head().contains("?key=sk-live-"));
    assert_eq!(
        error.message.replace(&port.to_string(), "PORT"),
        "`http://api.test:PORT` redirects to `http://other.test:PORT` with a secret in the URL"
    );
}

#[tokio::test]
async fn a_redirect_takes_no_body_along() {
    let server = redirecting("307 Temporary Redirect").await;
    let gate = Setup::open(&server).build();
    let url = format!("http://api.test:{}/to?/next", server.port());
    gate.send_bytes("GET", url, b"a body").await.unwrap();
    let bodies: Vec<Vec<u8>> = server.seen().into_iter().map(|(_, body)| body).collect();
    assert_eq!(bodies, [b"a body".to_vec(), Vec::new()]);
}
