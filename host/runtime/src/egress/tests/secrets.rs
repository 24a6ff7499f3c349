//! Credentials go out where a rule says, and never come back.

use std::collections::HashMap;

use base64::Engine as _;
use midplane_core::manifest::Scheme;

use super::harness::*;
use crate::egress::{Http as _, HttpBody};

#[tokio::test]
async fn rules_are_applied_in_place_of_what_the_guest_sent() {
    let server = Server::answering(|_| answer("200 OK", "", "")).await;
    let port = server.port();
    let base64 = base64::engine::general_purpose::STANDARD.encode(format!("me:{KEY}"));
    for (scheme, path, name, want) in [
        (Scheme::Bearer, "/?a=1", "authorization", format!("Bearer {KEY}")),
        (Scheme::Basic { username: "me".to_owned() }, "/?a=1", "authorization", format!("Basic {base64}")),
        (Scheme::Header { header: "x-api-key".to_owned() }, "/?a=1", "x-api-key", KEY.to_owned()),
        (Scheme::Header { header: "x-odd".to_owned() }, "/?a=1", "x-odd", KEY.to_owned()),
        (
            Scheme::Query { parameter: "key".to_owned() },
            "/?a=1&key=sk-live-0123456789%2Fabc%2Bdef",
            "authorization",
            String::new(),
        ),
    ] {
        let gate = Setup::empty()
            .allow(&format!("http://api.test:{port}"), &ALL, Some(rule("key", scheme, "API_KEY")))
            .value("API_KEY", KEY)
            .build();
        let mut wanted = request("GET", format!("http://api.test:{port}/?a=1"));
        for header in ["Authorization", "X-Api-Key", "x-odd", "Cookie", "X-Goog-Api-Key", "X-Kept"] {
            wanted.headers.push((header.to_owned(), "from the guest".to_owned()));
        }
        gate.egress.send(wanted, HttpBody::Empty).await.unwrap();
        let seen = server.seen();
        let head = &seen[seen.len() - 1].0;
        assert!(head.starts_with(&format!("GET {path} HTTP/1.1\r\n")), "{head}");
        assert_eq!(header(head, name).unwrap_or_default(), want);
        let of_guest = head.lines().filter(|line| line.ends_with("from the guest")).count();
        assert_eq!(of_guest, if name == "x-odd" { 1 } else { 2 }, "x-kept and, unless it is the rule's, x-odd: {head}");
        assert_eq!(
            gate.log.shown(port),
            ["http GET http://api.test:PORT ok [http:http://api.test:PORT secret:API_KEY address:127.0.0.1]"]
        );
    }
}

#[tokio::test]
async fn which_rule_applies() {
    let server = Server::answering(|_| answer("200 OK", "", "")).await;
    let port = server.port();
    let url = format!("http://api.test:{port}");
    let gate = Setup::empty()
        .allow(&format!("{url}/one"), &ALL, Some(rule("first", Scheme::Bearer, "FIRST")))
        .allow(&format!("{url}/two"), &ALL, Some(rule("first", Scheme::Bearer, "FIRST")))
        .allow(&format!("{url}/two"), &ALL, Some(rule("second", Scheme::Bearer, "SECOND")))
        .allow(&format!("{url}/ungranted"), &ALL, Some(rule("third", Scheme::Bearer, "THIRD")))
        .allow(&format!("{url}/unset"), &ALL, Some(rule("fourth", Scheme::Bearer, "UNSET")))
        .allow(&format!("{url}/empty"), &ALL, Some(rule("fifth", Scheme::Bearer, "EMPTY")))
        .value("FIRST", "first-value")
        .value("SECOND", "second-value")
        .value("EMPTY", " \n")
        .grant("secret:UNSET")
        .build();
    let mut lines = Vec::new();
    for (path, named) in [
        ("/one", None),
        ("/one", Some("first")),
        ("/one", Some("second")),
        ("/one", Some("anonymous")),
        ("/two", None),
        ("/two", Some("second")),
        ("/two", Some("anonymous")),
        ("/ungranted", None),
        ("/ungranted", Some("anonymous")),
        ("/unset", None),
        ("/empty", None),
    ] {
        let before = server.seen().len();
        let mut wanted = request("GET", format!("{url}{path}"));
        wanted.credential = named.map(str::to_owned);
        let shown = match gate.egress.send(wanted, HttpBody::Empty).await {
            Err(error) => error_line(&error),
            Ok(_) => header(&server.seen()[before].0, "authorization").unwrap_or("none").to_owned(),
        };
        lines.push(format!("{path} {named:?}\n    {shown}").replace(&port.to_string(), "PORT"));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[tokio::test]
async fn a_value_that_would_come_back_unredacted_is_not_sent() {
    let server = Server::answering(|_| answer("200 OK", "", "")).await;
    let mut setup = Setup::with_key(&server);
    setup.hidden = Some(HashMap::from([("API_KEY".to_owned(), "the-value-of-yesterday".to_owned())]));
    let error = setup.build().send("GET", format!("http://api.test:{}/", server.port())).await.err().unwrap();
    assert_eq!(
        error_line(&error),
        "denied credential: the secret `API_KEY` cannot be used: it was changed since the call began"
    );
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn an_echo_is_redacted_in_body_and_headers() {
    let server = Server::answering(|head| {
        let key = header(head, "authorization").unwrap().strip_prefix("Bearer ").unwrap();
        let base64 = base64::engine::general_purpose::STANDARD.encode(key);
        let hex: String = key.bytes().map(|byte| format!("{byte:02x}")).collect();
        let percent: String = url::form_urlencoded::byte_serialize(key.as_bytes()).collect();
        let headers = format!(
            "X-Echo: {key}\r\nx-echo-64: <{base64}>\r\nAuthorization: Bearer {key}\r\nX-API-Key: {key}\r\nSet-Cookie: a={key}\r\n\
             set-cookie2: b\r\nKeep-Alive: 5\r\nx-twice: 1\r\nX-Twice: 2\r\nx-bytes: \u{e9}\r\nserver: test\r\n"
        );
        answer("401 Unauthorized", &headers, &format!("plain {key}\nbase64 {base64}\nhex {hex}\nform {percent}\njson \"{}\"", key.replace('/', "\\/")))
    })
    .await;
    let gate = Setup::with_key(&server).build();
    let mut response = gate.send("GET", format!("http://api.test:{}/", server.port())).await.unwrap();
    assert_eq!(response.status(), 401);
    let headers: Vec<String> = response.headers().into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
    insta::assert_snapshot!(format!("{}\n\n{}", headers.join("\n"), text(&mut *response).await.unwrap()));
}

#[tokio::test]
async fn header_bytes_that_are_not_text_are_replaced() {
    let server = Server::scripted(|mut peer| async move {
        peer.head().await;
        peer.send(b"HTTP/1.1 200 OK\r\nx-odd: a\xffb\r\ncontent-length: 0\r\n\r\n").await;
        peer.closed().await;
    })
    .await;
    let response =
        Setup::open(&server).build().send("GET", format!("http://api.test:{}/", server.port())).await.unwrap();
    assert_eq!(response.headers()[0], ("x-odd".to_owned(), "a\u{fffd}b".to_owned()));
}

#[tokio::test]
async fn a_header_that_carried_the_credential_is_not_given_back() {
    let server = Server::answering(|_| answer("200 OK", "x-odd: anything\r\nx-other: kept\r\n", "")).await;
    let port = server.port();
    let odd = rule("key", Scheme::Header { header: "x-odd".to_owned() }, "API_KEY");
    let gate = Setup::empty().allow(&format!("http://api.test:{port}"), &ALL, Some(odd)).value("API_KEY", KEY).build();
    let response = gate.send("GET", format!("http://api.test:{port}/")).await.unwrap();
    let names: Vec<String> = response.headers().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["x-other", "content-length"]);
}

#[tokio::test]
async fn an_echo_that_is_split_over_chunks_is_redacted() {
    let server = Server::scripted(|mut peer| async move {
        peer.head().await;
        peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        for byte in format!("<{KEY}><{}>", &KEY[..KEY.len() - 1]).bytes() {
            peer.send(format!("1\r\n{}\r\n", char::from(byte))).await;
        }
        peer.send("0\r\n\r\n").await;
    })
    .await;
    let gate = Setup::with_key(&server).build();
    let mut response = gate.send("GET", format!("http://api.test:{}/", server.port())).await.unwrap();
    let shown = text(&mut *response).await.unwrap();
    assert_eq!(shown, format!("<[redacted:API_KEY]><{}>", &KEY[..KEY.len() - 1]));
}

#[tokio::test]
async fn errors_do_not_show_the_query() {
    let server = Server::scripted(|_| async {}).await;
    let port = server.port();
    let query = rule("key", Scheme::Query { parameter: "key".to_owned() }, "API_KEY");
    let gate =
        Setup::empty().allow(&format!("http://api.test:{port}"), &ALL, Some(query)).value("API_KEY", KEY).build();
    for method in ["GET", "POST"] {
        let error = gate.send(method, format!("http://api.test:{port}/p?guest=1")).await.err().unwrap();
        let shown = format!("{error:?}");
        assert!(!shown.contains("sk-live") && !shown.contains("guest=1"), "{shown}");
    }
    assert!(gate.log.audits().iter().all(|audit| audit.target.ends_with("/p")));
}

#[tokio::test]
async fn placeholders_are_filled_where_the_secret_is_allowed() {
    let server = Server::answering(|_| answer("200 OK", "", "")).await;
    let port = server.port();
    let url = format!("http://api.test:{port}");
    let odd = "a\"b&c<d> e/f+g";
    let gate = Setup::empty()
        .allow(&format!("{url}/allowed"), &ALL, Some(rule("key", Scheme::Bearer, "ODD")))
        .allow(&format!("{url}/elsewhere"), &ALL, Some(rule("other", Scheme::Bearer, "OTHER")))
        .value("ODD", odd)
        .value("OTHER", "other-value-1")
        .build();
    let placeholder = gate.egress.placeholders.text("ODD");
    let unknown = gate.egress.placeholders.text("NEVER_HEARD_OF");
    for (path, kind, want) in [
        ("/allowed", "application/json", "a\\\"b&c<d> e/f+g"),
        ("/allowed", "application/x-www-form-urlencoded", "a%22b%26c%3Cd%3E+e%2Ff%2Bg"),
        ("/allowed", "application/xml", "a&quot;b&amp;c&lt;d&gt; e/f+g"),
        ("/allowed", "text/plain", odd),
        ("/elsewhere", "application/json", placeholder.as_str()),
    ] {
        let mut wanted = request("POST", format!("{url}{path}"));
        wanted.headers.push(("content-type".to_owned(), kind.to_owned()));
        let body = format!("x {placeholder} y {unknown} {placeholder}");
        gate.egress.send(wanted, HttpBody::Bytes(body.into_bytes())).await.unwrap();
        let seen = server.seen();
        let (head, body) = &seen[seen.len() - 1];
        assert_eq!(String::from_utf8_lossy(body), format!("x {want} y {unknown} {want}"), "{path} {kind}");
        assert_eq!(header(head, "content-length"), Some(body.len().to_string().as_str()));
    }
}

#[tokio::test]
async fn a_placeholder_whose_secret_is_not_granted_is_denied() {
    let server = Server::answering(|_| answer("200 OK", "", "")).await;
    let url = format!("http://api.test:{}", server.port());
    let mut setup = Setup::empty().allow(&url, &ALL, Some(rule("key", Scheme::Bearer, "ASKED")));
    setup.values.insert("ASKED".to_owned(), "asked-value".to_owned());
    let gate = setup.build();
    let mut wanted = request("POST", &url);
    wanted.credential = Some("anonymous".to_owned());
    let body = gate.egress.placeholders.text("ASKED").into_bytes();
    let error = gate.egress.send(wanted, HttpBody::Bytes(body)).await.err().unwrap();
    assert_eq!(
        (error.kind.as_str(), error.hint.as_deref()),
        ("denied", Some("`midplane grant allow tester 'secret:ASKED'`"))
    );
    assert_eq!(gate.log.audits()[0].grant.as_deref(), Some("secret:ASKED"));
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_body_with_its_secrets_in_it_is_bounded() {
    let server = Server::answering(|_| answer("200 OK", "", "")).await;
    let url = format!("http://api.test:{}", server.port());
    let gate = Setup::empty()
        .allow(&url, &ALL, Some(rule("key", Scheme::Bearer, "LONG")))
        .value("LONG", &"v".repeat(10_000))
        .limits(|limits| limits.http_request_bytes_max = 50_000)
        .build();
    let body = gate.egress.placeholders.text("LONG").repeat(6);
    assert_eq!(failure(gate.send_bytes("POST", &url, body).await), "limit http-bytes");
}

#[tokio::test]
async fn presigning_is_not_for_these_rules() {
    let url = "https://api.test";
    let keyed =
        Setup::empty().allow(url, &["GET"], Some(rule("key", Scheme::Bearer, "API_KEY"))).value("API_KEY", KEY).build();
    let plain = Setup::empty().allow(url, &["GET"], None).build();
    for (gate, method, want) in [
        (&keyed, "GET", "unsupported presign"),
        (&plain, "GET", "unsupported presign"),
        (&plain, "PUT", "denied permission-missing"),
    ] {
        assert_eq!(failure(gate.egress.presign(request(method, url), 60).await), want);
    }
    assert!(keyed.names.asked().is_empty());
}
