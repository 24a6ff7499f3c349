//! How it can go wrong, and what is said to have happened.

use std::net::Ipv4Addr;

use tokio::net::TcpSocket;
use tokio::sync::mpsc;

use super::harness::*;
use crate::egress::{Http as _, HttpBody};

/// Answers with some bytes and closes.
async fn closing(bytes: &'static str) -> Server {
    Server::scripted(move |mut peer| async move {
        let head = peer.head().await;
        peer.body(&head).await;
        peer.send(bytes).await;
    })
    .await
}

#[tokio::test]
async fn no_answer_is_uncertain_for_what_may_have_changed_something() {
    let cases = [
        ("nothing", ""),
        ("no http", "SSH-2.0-server\r\n\r\n"),
        ("half a head", "HTTP/1.1 200 OK\r\ncontent-"),
        ("http/2", "\0\0\u{12}\u{4}\0\0\0\0\0"),
        ("two lengths", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"),
        ("a length that is none", "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\nab"),
        ("a folded header", "HTTP/1.1 200 OK\r\na: b\r\n c: d\r\ncontent-length: 0\r\n\r\n"),
    ];
    for (name, bytes) in cases {
        let server = closing(bytes).await;
        let gate = Setup::open(&server).build();
        for method in ALL {
            if method == "HEAD" && name.contains("length") {
                continue; // there is no body whose end would be in doubt
            }
            let kind = if ["GET", "HEAD", "OPTIONS"].contains(&method) { "unavailable" } else { "uncertain" };
            let shown = failure(gate.send(method, format!("http://api.test:{}/", server.port())).await);
            assert_eq!(shown, format!("{kind} broken"), "{name}");
        }
        assert!(gate.log.audits().iter().all(|audit| audit.outcome == "broken"));
    }
}

#[tokio::test]
async fn what_fails_before_the_request_leaves_has_changed_nothing() {
    // A port that is taken and at which nothing listens.
    let taken = TcpSocket::new_v4().unwrap();
    taken.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let port = taken.local_addr().unwrap().port();
    let url = format!("http://api.test:{port}");
    let gate = Setup::empty().allow(&url, &ALL, None).build();
    assert_eq!(failure(gate.send("POST", &url).await), "unavailable connect");
    let mut setup = Setup::empty().allow(&url, &ALL, None);
    setup.names.clear();
    assert_eq!(failure(setup.build().send("POST", &url).await), "unavailable resolve");
    let setup = Setup::empty().allow(&url, &ALL, None).name("api.test", &[&[]]);
    assert_eq!(failure(setup.build().send("POST", &url).await), "unavailable resolve");
}

#[tokio::test]
async fn a_head_that_does_not_come() {
    let server = Server::scripted(|mut peer| async move {
        peer.head().await;
        peer.closed().await;
    })
    .await;
    let url = format!("http://api.test:{}/", server.port());
    let gate = Setup::open(&server).limits(|limits| limits.http_head_ms_max = 60_000).build();
    let low = Setup::open(&server).limits(|limits| limits.http_head_ms_max = 50).build();
    for (gate, timeout_ms) in [(&gate, Some(50)), (&low, None), (&low, Some(60_000))] {
        for (method, want) in [("GET", "unavailable timeout"), ("POST", "uncertain timeout")] {
            let mut wanted = request(method, &url);
            wanted.timeout_ms = timeout_ms;
            assert_eq!(failure(gate.egress.send(wanted, HttpBody::Empty).await), want);
        }
    }
    assert!(low.log.audits().iter().all(|audit| audit.outcome == "timeout"));
    let mut wanted = request("GET", &url);
    wanted.timeout_ms = Some(0);
    assert_eq!(failure(gate.egress.send(wanted, HttpBody::Empty).await), "invalid timeout");
}

#[tokio::test]
async fn a_body_that_breaks_off() {
    for (name, bytes) in [
        ("by length", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"),
        ("by chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc"),
        ("between chunks", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"),
        ("by a chunk that is none", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n"),
    ] {
        let server = closing(bytes).await;
        let gate = Setup::open(&server).build();
        for (method, want) in [("GET", "unavailable body-truncated"), ("POST", "uncertain body-truncated")] {
            let url = format!("http://api.test:{}/", server.port());
            let mut response = gate.send(method, &url).await.unwrap();
            assert_eq!(response.read(100).await.unwrap().unwrap(), b"abc", "{name}");
            assert_eq!(failure(response.read(100).await), want, "{name}");
            assert_eq!(failure(response.read(100).await), want, "{name}, and it stays so");
            let blob = gate.send(method, &url).await.unwrap().into_blob().unwrap();
            assert_eq!(failure(blob.read(3, 100).await), want, "{name} as a blob");
            assert_eq!(blob.read(0, 100).await.unwrap(), b"abc");
        }
    }
}

#[tokio::test]
async fn of_a_broken_body_no_part_of_a_secret_is_given_out() {
    let server = closing("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc sk-live-0123456789/abc+de").await;
    let gate = Setup::with_key(&server).build();
    let mut response = gate.send("GET", format!("http://api.test:{}/", server.port())).await.unwrap();
    assert_eq!(response.read(100).await.unwrap().unwrap(), b"abc ");
    assert_eq!(failure(response.read(100).await), "unavailable body-truncated");
}

#[tokio::test]
async fn a_body_that_stops() {
    let server = Server::scripted(|mut peer| async move {
        peer.head().await;
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc").await;
        peer.closed().await;
    })
    .await;
    let gate = Setup::open(&server).limits(|limits| limits.http_idle_ms_max = 50).build();
    for (method, want) in [("GET", "unavailable body-idle"), ("POST", "uncertain body-idle")] {
        let mut response = gate.send(method, format!("http://api.test:{}/", server.port())).await.unwrap();
        assert_eq!(response.read(100).await.unwrap().unwrap(), b"abc");
        assert_eq!(failure(response.read(100).await), want);
    }
}

#[tokio::test]
async fn dropping_a_send_closes_the_connection() {
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let (gone, mut ends) = mpsc::unbounded_channel();
    let server = Server::scripted(move |mut peer| {
        let (arrived, gone) = (arrived.clone(), gone.clone());
        async move {
            peer.head().await;
            arrived.send(()).unwrap();
            peer.closed().await;
            gone.send(()).unwrap();
        }
    })
    .await;
    let gate = Setup::open(&server).build();
    let egress = std::sync::Arc::clone(&gate.egress);
    let url = format!("http://api.test:{}/", server.port());
    let call = tokio::spawn(async move { egress.send(request("POST", url), HttpBody::Empty).await.map(drop) });
    arrivals.recv().await.unwrap();
    call.abort();
    ends.recv().await.unwrap();
    assert!(call.await.unwrap_err().is_cancelled());
    let audits = gate.log.audits();
    assert_eq!((audits.len(), audits[0].outcome.as_str()), (1, "cancelled"));
}

#[tokio::test]
async fn dropping_a_response_or_its_blob_closes_the_connection() {
    let (gone, mut ends) = mpsc::unbounded_channel();
    let server = Server::scripted(move |mut peer| {
        let gone = gone.clone();
        async move {
            peer.head().await;
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc").await;
            peer.closed().await;
            gone.send(()).unwrap();
        }
    })
    .await;
    let gate = Setup::open(&server).build();
    let url = format!("http://api.test:{}/", server.port());
    let unread = gate.send("GET", &url).await.unwrap();
    drop(unread);
    ends.recv().await.unwrap();
    let mut read = gate.send("GET", &url).await.unwrap();
    assert_eq!(read.read(10).await.unwrap().unwrap(), b"abc");
    drop(read);
    ends.recv().await.unwrap();
    let blob = gate.send("GET", &url).await.unwrap().into_blob().unwrap();
    assert_eq!(blob.read(0, 10).await.unwrap(), b"abc");
    drop(blob);
    ends.recv().await.unwrap();
}
