//! Who may call what, and which address may be dialled for it.

use midplane_core::endpoint::Target;

use super::harness::*;
use crate::egress::request::Checked;

#[tokio::test]
async fn permission_and_grant_must_both_hold() {
    let server = Server::answering(|_| answer("200 OK", "", "hello")).await;
    let port = server.port();
    let gate = Setup::empty()
        .allow(&format!("http://api.test:{port}/v1"), &["GET", "POST"], None)
        .allow(&format!("http://127.0.0.1:{port}"), &["GET"], None)
        .grant(&format!("http:http://granted-only.test:{port}"))
        .name("granted-only.test", &[&["127.0.0.1"]]);
    let mut gate = gate;
    gate.permissions.push(permission(&format!("http://asked-only.test:{port}/a"), &ALL, None));
    let gate = gate.name("asked-only.test", &[&["127.0.0.1"]]).build();
    let mut lines = Vec::new();
    for (method, url) in [
        ("GET", "http://api.test:PORT/v1"),
        ("GET", "http://api.test:PORT/v1/models?x=1"),
        ("POST", "http://api.test:PORT/v1/messages"),
        ("DELETE", "http://api.test:PORT/v1/messages"),
        ("GET", "http://api.test:PORT/v1beta"),
        ("GET", "http://api.test:PORT/v1/../admin"),
        ("GET", "http://api.test:PORT/v1/%2e%2e/admin"),
        ("GET", "https://api.test:PORT/v1"),
        ("GET", "http://api.test/v1"),
        ("GET", "http://other.test:PORT/v1"),
        ("GET", "http://asked-only.test:PORT/a/b?key=hidden"),
        ("GET", "http://granted-only.test:PORT/"),
        ("GET", "http://127.0.0.1:PORT/"),
        ("GET", "http://2130706433:PORT/"),
        ("GET", "http://0x7f.1:PORT/"),
        ("GET", "http://localhost:PORT/"),
        ("GET", "http://[::1]:PORT/"),
        ("GET", "http://user:hidden@api.test:PORT/v1"),
    ] {
        let shown = gate.shown(method, url.replace("PORT", &port.to_string())).await;
        lines.push(format!("{method} {url}\n    {}", shown.replace(&port.to_string(), "PORT")));
    }
    insta::assert_snapshot!("matrix", lines.join("\n"));
    insta::assert_snapshot!("matrix_audit", gate.log.shown(port).join("\n"));
    assert_eq!(server.seen().len(), 6, "what was refused was not sent");
}

#[tokio::test]
async fn a_missing_grant_says_how_to_give_it() {
    let mut setup = Setup::empty();
    setup.permissions.push(permission("https://api.test/v1", &["GET"], None));
    let error = setup.build().send("GET", "https://api.test/v1/x").await.err().unwrap();
    assert_eq!(error.code, "grant-missing");
    assert_eq!(error.hint.as_deref(), Some("`midplane grant allow tester 'http:https://api.test/v1'`"));
}

#[tokio::test]
async fn names_of_private_addresses_are_refused() {
    let mut lines = Vec::new();
    for address in [
        "127.0.0.1",
        "10.0.0.1",
        "192.168.1.1",
        "172.16.0.1",
        "100.64.0.1",
        "169.254.1.1",
        "169.254.169.254",
        "0.0.0.0",
        "::1",
        "::",
        "fe80::1",
        "fd00::1",
        "::ffff:10.0.0.1",
        "::ffff:127.0.0.1",
        "64:ff9b::a00:1",
        "2002:a00:1::1",
        "224.0.0.1",
        "255.255.255.255",
        "fd00:ec2::254",
    ] {
        let mut setup = Setup::empty().grant("http:http://rebound.test").name("rebound.test", &[&[address]]);
        setup.permissions.push(permission("http://rebound.test", &ALL, None));
        let gate = setup.build();
        lines.push(gate.shown("GET", "http://rebound.test/").await);
        assert_eq!(gate.log.audits()[0].outcome, "denied");
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[tokio::test]
async fn a_private_address_is_dialled_where_it_is_granted() {
    let server = Server::answering(|_| answer("200 OK", "", "inside")).await;
    let url = format!("http://inside.test:{}", server.port());
    for (grant, want) in [("address:127.0.0.0/8", "200 inside"), ("address:127.0.0.1", "200 inside")] {
        let mut setup =
            Setup::empty().grant(&format!("http:{url}")).grant(grant).name("inside.test", &[&["::ffff:127.0.0.1"]]);
        setup.permissions.push(permission(&url, &ALL, None));
        assert_eq!(setup.build().shown("GET", &url).await, want, "{grant}");
    }
}

#[tokio::test]
#[cfg(target_os = "linux")] // other systems have only one loopback address unless told otherwise
async fn the_address_that_was_checked_is_the_one_that_is_dialled() {
    let checked = Server::answering(|_| answer("200 OK", "", "checked")).await;
    let port = checked.port();
    // Another server at the same port of another address, where a second look-up would lead.
    let inner =
        Server::answering_at(std::net::SocketAddr::from(([127, 0, 0, 2], port)), |_| answer("200 OK", "", "inner"))
            .await;
    let setup = Setup::open(&checked).name("api.test", &[&["127.0.0.1"], &["127.0.0.2"]]);
    let gate = setup.build();
    let url = format!("http://api.test:{port}/");
    assert_eq!(gate.shown("GET", &url).await, "200 checked");
    assert_eq!(gate.names.asked(), ["api.test"], "one look-up a hop");
    assert!(gate.shown("GET", &url).await.starts_with("denied address-refused"));
    assert_eq!((checked.seen().len(), inner.seen().len()), (1, 0));
}

#[tokio::test]
async fn of_several_addresses_the_refused_ones_are_left_out() {
    let gate = Setup::empty();
    let mut gate = gate
        .grant("http:http://mixed.test")
        .name("mixed.test", &[&["10.0.0.1", "93.184.215.14", "::1", "::ffff:93.184.215.15"]]);
    gate.permissions.push(permission("http://mixed.test", &ALL, None));
    let gate = gate.build();
    // Looked at only: nothing is dialled.
    let request = Checked::new(request("GET", "http://mixed.test/"), &gate.egress.call.limits).unwrap();
    let mut note = gate.egress.note(&request);
    let target = Target::parse("http://mixed.test/").unwrap();
    let allowed = gate.egress.addresses(&target, &mut note).await.unwrap();
    assert_eq!(allowed, ["93.184.215.14:80".parse().unwrap(), "93.184.215.15:80".parse().unwrap()]);
}

#[tokio::test]
async fn the_next_address_is_tried_where_one_does_not_answer() {
    let server = Server::answering(|_| answer("200 OK", "", "second")).await;
    // Nothing listens at this address and port.
    let setup = Setup::open(&server).name("api.test", &[&["127.0.0.3", "127.0.0.1"]]).grant("address:127.0.0.3");
    assert_eq!(setup.build().shown("GET", format!("http://api.test:{}/", server.port())).await, "200 second");
}

#[tokio::test]
async fn what_is_sent_is_the_checked_form() {
    let server = Server::answering(|_| answer("200 OK", "", "")).await;
    let port = server.port();
    let gate = Setup::open(&server).build();
    gate.send("GET", format!("HTTP://API.test.:{port}/a/./b/%7euser?q=%20a+b&x")).await.unwrap();
    let head = server.head();
    assert!(head.starts_with("GET /a/b/%7euser?q=%20a+b&x HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(&head, "host"), Some(format!("api.test:{port}").as_str()));
    assert_eq!(header(&head, "connection"), Some("close"));
    assert_eq!(header(&head, "user-agent"), Some(concat!("midplane/", env!("CARGO_PKG_VERSION"))));
}
