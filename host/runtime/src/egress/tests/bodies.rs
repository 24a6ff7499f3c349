//! Bodies in both directions: as they arrive, untouched, and as blobs.

use std::sync::Arc;

use midplane_core::{Error, Result};
use midplane_engine::ports::Blob;
use tokio::sync::{Mutex, mpsc};

use super::harness::*;
use crate::blob::Source;
use crate::egress::{Http as _, HttpBody};

/// A server that answers with what a test sends it, piece by piece; the end of the channel ends the body.
async fn fed(head: &'static str) -> (mpsc::UnboundedSender<Vec<u8>>, Server) {
    let (sender, receiver) = mpsc::unbounded_channel::<Vec<u8>>();
    let receiver = Arc::new(Mutex::new(receiver));
    let server = Server::scripted(move |mut peer| {
        let receiver = Arc::clone(&receiver);
        async move {
            let request = peer.head().await;
            peer.body(&request).await;
            peer.send(head).await;
            let mut receiver = receiver.lock().await;
            while let Some(piece) = receiver.recv().await {
                if !peer.send(piece).await {
                    return;
                }
            }
        }
    })
    .await;
    (sender, server)
}

fn chunk(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

#[tokio::test]
async fn each_event_arrives_before_the_next_is_sent() {
    let (feed, server) = fed(CHUNKED).await;
    let gate = Setup::with_key(&server).build();
    let mut response = gate.send("POST", format!("http://api.test:{}/", server.port())).await.unwrap();
    for n in 0..5 {
        let event = format!("data: {{\"n\":{n}}}\n\n");
        feed.send(chunk(&event)).unwrap();
        // The server holds the next one back until this one was read: were it buffered, this would wait for ever.
        assert_eq!(response.read(1 << 20).await.unwrap().unwrap(), event.as_bytes());
    }
    feed.send(b"0\r\n\r\n".to_vec()).unwrap();
    assert_eq!(response.read(1 << 20).await.unwrap(), None);
    assert_eq!(response.read(1 << 20).await.unwrap(), None);
}

#[tokio::test]
async fn only_what_could_begin_a_secret_waits() {
    let (feed, server) = fed(CHUNKED).await;
    let gate = Setup::with_key(&server).build();
    let mut response = gate.send("GET", format!("http://api.test:{}/", server.port())).await.unwrap();
    feed.send(chunk("hello sk-live-0")).unwrap();
    assert_eq!(response.read(100).await.unwrap().unwrap(), b"hello ");
    feed.send(chunk("x, and on.")).unwrap();
    assert_eq!(response.read(100).await.unwrap().unwrap(), b"sk-live-0x, and on.");
    feed.send(chunk("sk-live")).unwrap();
    feed.send(b"0\r\n\r\n".to_vec()).unwrap();
    assert_eq!(text(&mut *response).await.unwrap(), "sk-live");
}

#[tokio::test]
async fn a_read_that_is_dropped_loses_nothing() {
    let (feed, server) = fed(CHUNKED).await;
    let gate = Setup::open(&server).build();
    let mut response = gate.send("GET", format!("http://api.test:{}/", server.port())).await.unwrap();
    for _ in 0..3 {
        tokio::select! {
            biased;
            read = response.read(10) => panic!("nothing was sent: {read:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
    feed.send(chunk("all of it")).unwrap();
    feed.send(b"0\r\n\r\n".to_vec()).unwrap();
    assert_eq!(text(&mut *response).await.unwrap(), "all of it");
}

#[tokio::test]
async fn a_read_gives_no_more_than_was_asked_for() {
    let server = Server::answering(|_| answer("200 OK", "", "0123456789")).await;
    let gate = Setup::open(&server).build();
    let mut response = gate.send("GET", format!("http://api.test:{}/", server.port())).await.unwrap();
    let mut pieces = Vec::new();
    while let Some(piece) = response.read(4).await.unwrap() {
        pieces.push(String::from_utf8(piece).unwrap());
    }
    assert_eq!(pieces, ["0123", "4567", "89"]);
}

#[tokio::test]
async fn compressed_bytes_are_not_touched() {
    // `gzip` of "hello", by hand: the host must neither ask for it nor unpack it.
    const GZIP: [u8; 25] =
        [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 7, 0, 0x86, 0xa6, 0x10, 0x36, 5, 0, 0, 0];
    let (feed, server) = fed("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 25\r\n\r\n").await;
    let gate = Setup::with_key(&server).build();
    let mut response = gate.send("GET", format!("http://api.test:{}/", server.port())).await.unwrap();
    assert!(response.headers().contains(&("content-encoding".to_owned(), "gzip".to_owned())));
    feed.send(GZIP.to_vec()).unwrap();
    assert_eq!(rest(&mut *response).await.unwrap(), GZIP);
}

#[tokio::test]
async fn answers_without_a_body() {
    let server = Server::answering(|head| match head.split(' ').next().unwrap() {
        "HEAD" => "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n".to_owned(),
        "PUT" => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        _ => "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned(),
    })
    .await;
    let gate = Setup::open(&server).build();
    for (method, want) in [("HEAD", "200 "), ("PUT", "204 "), ("POST", "200 "), ("GET", "200 ")] {
        assert_eq!(gate.shown(method, format!("http://api.test:{}/", server.port())).await, want, "{method}");
    }
    let lengths: Vec<Option<String>> =
        server.seen().iter().map(|(head, _)| header(head, "content-length").map(str::to_owned)).collect();
    assert_eq!(lengths, [None, Some("0".to_owned()), Some("0".to_owned()), None]);
}

#[tokio::test]
async fn a_body_becomes_a_blob_as_the_server_sent_it() {
    let (feed, server) = fed("HTTP/1.1 200 OK\r\ncontent-length: 3000000\r\n\r\n").await;
    let gate = Setup::with_key(&server).build();
    let response = gate.send("GET", format!("http://api.test:{}/", server.port())).await.unwrap();
    let blob = response.into_blob().unwrap();
    assert_eq!(blob.size().await.unwrap(), 3_000_000, "said before the first byte came");
    let mut body = vec![b'.'; 3_000_000];
    body[1_500_000..1_500_000 + KEY.len()].copy_from_slice(KEY.as_bytes());
    feed.send(body.clone()).unwrap();
    assert_eq!(blob.read(1_500_000, KEY.len()).await.unwrap(), KEY.as_bytes());
    assert_eq!(
        blob.read_masked(1_499_999, KEY.len() + 2).await.unwrap(),
        format!(".{}.", "*".repeat(KEY.len())).as_bytes()
    );
    assert!(blob.read(3_000_000, 1).await.unwrap().is_empty());
    // And goes out again without a change.
    let (upload, seen) = uploaded(Arc::clone(&blob)).await;
    upload.unwrap();
    assert!(seen == body);
}

/// Sends a blob to a fresh server, which gives what it got.
async fn uploaded(blob: Arc<dyn Blob>) -> (Result<()>, Vec<u8>) {
    let server = Server::answering(|_| answer("201 Created", "", "")).await;
    let gate = Setup::open(&server).build();
    let sent =
        gate.egress.send(request("PUT", format!("http://api.test:{}/", server.port())), HttpBody::Blob(blob)).await;
    let seen = server.seen().pop().map(|(_, body)| body).unwrap_or_default();
    (sent.map(drop), seen)
}

#[tokio::test]
async fn the_rest_of_a_body_that_was_read_in_part() {
    let (feed, server) = fed("HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n").await;
    let gate = Setup::with_key(&server).build();
    let mut response = gate.send("GET", format!("http://api.test:{}/", server.port())).await.unwrap();
    feed.send(b"0123456789sk-li".to_vec()).unwrap();
    assert_eq!(response.read(4).await.unwrap().unwrap(), b"0123");
    let blob = response.into_blob().unwrap();
    assert_eq!(blob.size().await.unwrap(), 16);
    feed.send(b"56789".to_vec()).unwrap();
    assert_eq!(blob.read(6, 100).await.unwrap()[..5], *b"sk-li");
    assert_eq!(blob.digest("md5").await.unwrap().len(), 16);
    assert_eq!(blob.read(0, 100).await.unwrap(), b"456789sk-li56789");
    let (feed, server) = fed("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n").await;
    let mut response =
        Setup::open(&server).build().send("GET", format!("http://api.test:{}/", server.port())).await.unwrap();
    feed.send(b"abc".to_vec()).unwrap();
    assert_eq!(text(&mut *response).await.unwrap(), "abc");
    let empty = response.into_blob().unwrap();
    assert_eq!((empty.size().await.unwrap(), empty.read(0, 9).await.unwrap()), (0, Vec::new()));
}

#[tokio::test]
async fn a_body_without_a_length_is_counted_to_its_end() {
    let (feed, server) = fed(CHUNKED).await;
    let gate = Setup::open(&server).build();
    let blob = gate.send("GET", format!("http://api.test:{}/", server.port())).await.unwrap().into_blob().unwrap();
    feed.send(chunk("12345")).unwrap();
    assert_eq!(blob.read(0, 9).await.unwrap(), b"12345");
    feed.send([chunk("678"), b"0\r\n\r\n".to_vec()].concat()).unwrap();
    assert_eq!(blob.size().await.unwrap(), 8);
}

/// A source that breaks off after some bytes.
struct Breaking(Option<bytes::Bytes>);

#[async_trait::async_trait]
impl Source for Breaking {
    async fn next(&mut self) -> Result<Option<bytes::Bytes>> {
        self.0.take().map(Some).ok_or_else(|| Error::unavailable("body-truncated", "the body broke off"))
    }
}

#[tokio::test]
async fn an_upload_whose_source_breaks_off_is_uncertain() {
    let server = Server::scripted(|mut peer| async move {
        let head = peer.head().await;
        assert_eq!(header(&head, "content-length"), Some("100"));
        peer.closed().await;
    })
    .await;
    let gate = Setup::open(&server).build();
    let url = format!("http://api.test:{}/", server.port());
    for (method, want) in [("PUT", "uncertain body-truncated"), ("GET", "unavailable body-truncated")] {
        let blob = gate.egress.blobs.arriving(Breaking(Some("some".into())), Some(100));
        assert_eq!(failure(gate.egress.send(request(method, &url), HttpBody::Blob(blob)).await), want);
    }
    // Without a size the break is seen before anything is sent.
    let blob = gate.egress.blobs.arriving(Breaking(Some("some".into())), None);
    assert_eq!(
        failure(gate.egress.send(request("PUT", &url), HttpBody::Blob(blob)).await),
        "unavailable body-truncated"
    );
}
