//! A small HTTP server that answers as it is told, byte by byte: for shapes of answers that no mock makes.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request as it came over the wire.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Method and path.
    pub(crate) line: String,
    /// Names as they were written, in order.
    pub(crate) headers: Vec<(String, String)>,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// All values of a header.
    pub(crate) fn header(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }
}

/// What is written to one connection.
pub(crate) enum Step {
    /// These bytes, as one write.
    Send(Vec<u8>),
    /// These bytes, again and again until the other side closes.
    Repeat(Vec<u8>),
    /// Nothing more, until the other side closes.
    Hold,
    /// Counts that it came this far: after [`Step::Hold`], that the other side has closed.
    Count(Arc<AtomicUsize>),
}

type Script = dyn Fn(usize, &Request) -> Vec<Step> + Send + Sync;

/// The server. It stops with this value.
pub(crate) struct ScriptServer {
    port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
    accepting: JoinHandle<()>,
}

impl ScriptServer {
    /// Starts one on a free loopback port. `script` is given the number of the request, from 0, and the request.
    pub(crate) async fn start(script: impl Fn(usize, &Request) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("port");
        let port = listener.local_addr().expect("address").port();
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (seen, script): (_, Arc<Script>) = (requests.clone(), Arc::new(script));
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, script) = (seen.clone(), script.clone());
                // One that the other side left ends by itself at its next write.
                tokio::spawn(async move { serve(stream, &seen, script.as_ref()).await });
            }
        });
        Self { port, requests, accepting }
    }

    /// Where it listens, without a slash at the end.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it was sent, in order.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("nothing panics while it is held").clone()
    }
}

impl Drop for ScriptServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Reads one request, answers it, and closes. An error means that the other side is gone, which needs no answer.
async fn serve(mut stream: TcpStream, seen: &Mutex<Vec<Request>>, script: &Script) -> Option<()> {
    let request = read(&mut stream).await?;
    let number = {
        let mut seen = seen.lock().expect("nothing panics while it is held");
        seen.push(request.clone());
        seen.len() - 1
    };
    for step in script(number, &request) {
        match step {
            Step::Send(bytes) => {
                stream.write_all(&bytes).await.ok()?;
                stream.flush().await.ok()?;
            }
            Step::Repeat(bytes) => loop {
                stream.write_all(&bytes).await.ok()?;
            },
            Step::Hold => while stream.read_u8().await.is_ok() {},
            Step::Count(count) => {
                count.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
    stream.shutdown().await.ok()
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let mut body = bytes.split_off(end + 4);
    let head = String::from_utf8(bytes).ok()?;
    let mut lines = head.lines();
    let line = lines.next()?.to_owned();
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut request = Request { line, headers, body: Vec::new() };
    let size: usize = request.header("content-length").first().map_or(0, |size| size.parse().unwrap_or(0));
    while body.len() < size {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    request.body = body;
    Some(request)
}

/// An answer that ends with the connection, in chunks of the transport as given.
pub(crate) fn answer(status: &str, headers: &[(&str, &str)], chunks: &[&str]) -> Vec<Step> {
    let mut head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ntransfer-encoding: chunked\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut steps = vec![Step::Send(format!("{head}\r\n").into_bytes())];
    steps.extend(chunks.iter().map(|chunk| Step::Send(chunked(chunk))));
    steps.push(Step::Send(b"0\r\n\r\n".to_vec()));
    steps
}

/// The head of an SSE answer whose chunks follow as steps.
pub(crate) fn sse_head() -> Step {
    Step::Send(b"HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\ncontent-type: text/event-stream\r\n\r\n".to_vec())
}

/// One chunk of the transport.
pub(crate) fn chunked(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}

/// An SSE answer of Anthropic's events, each named by the `type` of its data.
pub(crate) fn sse(events: &[Value]) -> Vec<Step> {
    answer("200 OK", &[("content-type", "text/event-stream")], &[&sse_text(events)])
}

/// The same as text.
pub(crate) fn sse_text(events: &[Value]) -> String {
    events.iter().map(|data| format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or("x"))).collect()
}

/// A whole message of these blocks: start, each block with its deltas, and the end for `stop_reason`.
pub(crate) fn message(blocks: Vec<Vec<Value>>, stop_reason: &str) -> Vec<Value> {
    let mut events = vec![start()];
    events.extend(blocks.into_iter().flatten());
    events.push(json!({"type": "message_delta", "delta": {"stop_reason": stop_reason, "stop_sequence": null}, "usage": {"output_tokens": 9}}));
    events.push(json!({"type": "message_stop"}));
    events
}

/// The beginning of a message.
pub(crate) fn start() -> Value {
    json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-scripted",
        "content": [], "stop_reason": null, "usage": {"input_tokens": 12, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 4, "output_tokens": 1}}})
}

/// A block and its deltas.
pub(crate) fn block(index: u64, start: &Value, deltas: &[Value]) -> Vec<Value> {
    let mut events = vec![json!({"type": "content_block_start", "index": index, "content_block": start})];
    events.extend(deltas.iter().map(|delta| json!({"type": "content_block_delta", "index": index, "delta": delta})));
    events.push(json!({"type": "content_block_stop", "index": index}));
    events
}

/// A block of text in pieces.
pub(crate) fn text(index: u64, pieces: &[&str]) -> Vec<Value> {
    let deltas: Vec<Value> = pieces.iter().map(|piece| json!({"type": "text_delta", "text": piece})).collect();
    block(index, &json!({"type": "text", "text": ""}), &deltas)
}

/// A tool call whose arguments come in pieces.
pub(crate) fn tool(index: u64, id: &str, name: &str, pieces: &[&str]) -> Vec<Value> {
    let deltas: Vec<Value> =
        pieces.iter().map(|piece| json!({"type": "input_json_delta", "partial_json": piece})).collect();
    block(index, &json!({"type": "tool_use", "id": id, "name": name, "input": {}}), &deltas)
}
