//! What a guest or a server can make the host hold, and what a run may use up.

use super::harness::*;
use crate::egress::{Http as _, HttpBody};

#[tokio::test]
async fn a_head_that_is_too_large() {
    let header = "a: b\r\n";
    for (name, headers) in [
        ("many", header.repeat(40_000)),
        ("just too many", header.repeat(256)),
        ("one large", format!("a: {}\r\n", "b".repeat(70_000))),
        ("a name", format!("{}: b\r\n", "a".repeat(70_000))),
    ] {
        let server = Server::answering(move |_| answer("200 OK", &headers, "")).await;
        let gate = Setup::open(&server).build();
        let url = format!("http://api.test:{}/", server.port());
        assert_eq!(failure(gate.send("GET", &url).await), "unavailable broken", "{name}");
        assert_eq!(failure(gate.send("POST", &url).await), "uncertain broken", "{name}");
    }
    let server = Server::answering(move |_| answer("200 OK", &header.repeat(255), "")).await;
    let response =
        Setup::open(&server).build().send("GET", format!("http://api.test:{}/", server.port())).await.unwrap();
    assert_eq!(response.headers().len(), 256);
}

#[tokio::test]
async fn a_head_that_never_ends() {
    let server = Server::scripted(|mut peer| async move {
        peer.head().await;
        peer.send("HTTP/1.1 200 OK\r\n").await;
        while peer.send("a: b\r\n").await {}
    })
    .await;
    let gate = Setup::open(&server).build();
    assert_eq!(failure(gate.send("GET", format!("http://api.test:{}/", server.port())).await), "unavailable broken");
}

#[tokio::test]
async fn a_body_that_never_ends() {
    let server = Server::scripted(|mut peer| async move {
        peer.head().await;
        peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        while peer.send("1\r\nx\r\n").await {}
    })
    .await;
    for (method, want) in [("GET", "limit http-bytes"), ("POST", "uncertain http-bytes")] {
        let gate = Setup::open(&server).limits(|limits| limits.http_bytes_max = 10_000).build();
        let mut response = gate.send(method, format!("http://api.test:{}/", server.port())).await.unwrap();
        assert_eq!(failure(rest(&mut *response).await), want);
        // Nothing is left for a next one either, and none is sent.
        let url = format!("http://api.test:{}/{}", server.port(), "a".repeat(5_000));
        let _ = gate.send("GET", &url).await;
        assert_eq!(failure(gate.send_bytes("POST", &url, vec![0; 5_000]).await), "limit http-bytes");
    }
}

#[tokio::test]
async fn bytes_are_counted_in_both_directions() {
    let server = Server::answering(|_| answer("200 OK", "", &"x".repeat(1_000))).await;
    let url = format!("http://api.test:{}/", server.port());
    // Two of these fit, each of 1,000 bytes up and down with less than 300 of heads.
    let gate = Setup::open(&server).limits(|limits| limits.http_bytes_max = 4_900).build();
    for _ in 0..2 {
        let mut response = gate.send_bytes("PUT", &url, vec![0; 1_000]).await.unwrap();
        rest(&mut *response).await.unwrap();
    }
    assert_eq!(failure(gate.send_bytes("PUT", &url, vec![0; 1_000]).await), "limit http-bytes");
    assert_eq!(server.seen().len(), 2);
    let sizes: Vec<u64> = gate.log.audits().iter().map(|audit| audit.size_bytes).collect();
    assert!(sizes[0] > 1_000 && sizes[0] < 1_300 && sizes[0] == sizes[1] && sizes[2] == 0, "{sizes:?}");
}

#[tokio::test]
async fn requests_are_counted_with_their_redirects() {
    let server = Server::answering(|head| {
        if head.contains("/away") { answer("302 Found", "location: /there\r\n", "") } else { answer("200 OK", "", "") }
    })
    .await;
    let gate = Setup::open(&server).limits(|limits| limits.http_requests_max = 3).build();
    let url = format!("http://api.test:{}", server.port());
    assert_eq!(gate.shown("GET", format!("{url}/away")).await, "200 ");
    assert_eq!(failure(gate.send("GET", format!("{url}/away")).await), "limit rate-limited");
    assert_eq!(failure(gate.send("POST", &url).await), "limit rate-limited");
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn a_body_given_as_bytes_is_bounded() {
    let server = Server::answering(|_| answer("200 OK", "", "")).await;
    let gate = Setup::open(&server).build();
    let url = format!("http://api.test:{}/", server.port());
    gate.send_bytes("PUT", &url, vec![0; 4 << 20]).await.unwrap();
    assert_eq!(failure(gate.send_bytes("PUT", &url, vec![0; (4 << 20) + 1]).await), "limit http-bytes");
    // As a blob it may be larger.
    let mut writer = midplane_engine::ports::Blobs::open_writer(&gate.egress.blobs).unwrap();
    for _ in 0..5 {
        writer.write(vec![7; 1 << 20]).await.unwrap();
    }
    let blob = writer.finish().await.unwrap();
    for _ in 0..2 {
        let body = HttpBody::Blob(std::sync::Arc::clone(&blob));
        gate.egress.send(request("PUT", &url), body).await.unwrap();
        assert!(server.seen().pop().unwrap().1 == vec![7; 5 << 20], "a blob can be sent again");
    }
}

#[tokio::test]
async fn blobs_of_a_run_are_bounded() {
    let server = Server::answering(|_| answer("200 OK", "", &"x".repeat(2_000))).await;
    let gate = Setup::open(&server).limits(|limits| limits.blob_bytes_max = 1_000).build();
    for (method, want) in [("GET", "limit blob-bytes"), ("POST", "uncertain blob-bytes")] {
        let blob = gate.send(method, format!("http://api.test:{}/", server.port())).await.unwrap().into_blob().unwrap();
        assert_eq!(failure(blob.digest("md5").await), want);
    }
}

#[tokio::test]
async fn drops_come_one_by_one_until_the_budget_ends() {
    // Each byte is sent only when the one before was read: the body drips for as long as it is read.
    let (ask, asked) = tokio::sync::mpsc::unbounded_channel::<()>();
    let asked = std::sync::Arc::new(tokio::sync::Mutex::new(asked));
    let server = Server::scripted(move |mut peer| {
        let asked = std::sync::Arc::clone(&asked);
        async move {
            peer.head().await;
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").await;
            while asked.lock().await.recv().await.is_some() && peer.send("x").await {}
        }
    })
    .await;
    let gate = Setup::open(&server).limits(|limits| limits.http_bytes_max = 300).build();
    let mut response = gate.send("GET", format!("http://api.test:{}/", server.port())).await.unwrap();
    let mut drops = 0;
    let error = loop {
        ask.send(()).unwrap();
        match response.read(100).await {
            Ok(piece) => drops += piece.unwrap().len(),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code, "http-bytes");
    assert!((100..300).contains(&drops), "{drops}");
}
