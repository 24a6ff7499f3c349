//! A websocket that the program serves on the loopback address, once, to whoever shows the headers that the script wants.
//! From then on messages are what lines were before.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tungstenite::{Message, WebSocket};

use crate::pattern::{self, Captures};
use crate::record::Record;
use crate::script::Served;

/// How long one look for a message takes, in milliseconds: writes wait as long.
const LOOK_MS: u64 = 5;

/// The writing end.
pub(crate) struct Socket(Arc<Mutex<WebSocket<TcpStream>>>);

impl Socket {
    /// Sends a text message. False when the other side is gone.
    pub(crate) fn say(&self, text: &str) -> bool {
        self.with(|socket| socket.send(Message::text(text)).is_ok())
    }

    /// Closes the connection.
    pub(crate) fn close(&self) {
        self.with(|socket| {
            let _ = socket.close(None);
            let _ = socket.flush();
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut WebSocket<TcpStream>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Listens; the port is captured as `port`.
pub(crate) fn listen(captures: &mut Captures) -> Result<TcpListener, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| error.to_string())?;
    let port = listener.local_addr().map_err(|error| error.to_string())?.port();
    captures.insert("port".to_owned(), json!(port));
    Ok(listener)
}

/// Takes the first connection that shows the headers; others are answered 401. The channel has its messages, and ends
/// with it.
pub(crate) fn accept(
    listener: &TcpListener,
    served: &Served,
    captures: &Captures,
    record: &Record,
) -> Result<(Socket, Receiver<String>), String> {
    loop {
        let (stream, _) = listener.accept().map_err(|error| error.to_string())?;
        let check = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
            let shown = |(name, wanted): (&String, &String)| {
                let wanted = pattern::filled_text(wanted, captures);
                request.headers().get(name).is_some_and(|value| value.as_bytes() == wanted.as_bytes())
            };
            if served.headers.iter().all(shown) {
                return Ok(response);
            }
            let mut refused = ErrorResponse::new(None);
            *refused.status_mut() = tungstenite::http::StatusCode::UNAUTHORIZED;
            Err(refused)
        };
        match tungstenite::accept_hdr(stream, check) {
            Ok(socket) => return Ok(opened(socket, record)),
            Err(error) => record.add(&json!({ "refused": error.to_string() })),
        }
    }
}

fn opened(socket: WebSocket<TcpStream>, record: &Record) -> (Socket, Receiver<String>) {
    record.add(&json!({ "connected": true }));
    // Reading and writing take turns, so no read may wait for long.
    let _ = socket.get_ref().set_read_timeout(Some(Duration::from_millis(LOOK_MS)));
    let (shared, record) = (Arc::new(Mutex::new(socket)), record.clone());
    let (reader, (sender, messages)) = (shared.clone(), channel());
    std::thread::spawn(move || {
        loop {
            let read = reader.lock().unwrap_or_else(PoisonError::into_inner).read();
            match read {
                Ok(Message::Text(text)) => {
                    record.add(&json!({ "read": pattern::parsed(&text) }));
                    let _ = sender.send(text.to_string());
                }
                Ok(_) => {}
                Err(tungstenite::Error::Io(error))
                    if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
                {
                    // Without a pause the writer might never get its turn.
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(_) => break,
            }
        }
        record.add(&json!({ "disconnected": true }));
    });
    (Socket(shared), messages)
}

/// Bytes of parts: a number is a byte, a text its bytes; `{"varint": n}` is a number of variable length, seven bits a byte,
/// lowest first; `{"sized": [parts]}` puts the length of its parts before them, in four bytes, lowest first.
pub(crate) fn packed(parts: &[Value], captures: &Captures) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    for part in parts {
        let wrong = || format!("{part} is no part of bytes");
        match part {
            Value::Number(number) => bytes.push(number.as_u64().and_then(|n| u8::try_from(n).ok()).ok_or_else(wrong)?),
            Value::String(text) => bytes.extend_from_slice(pattern::filled_text(text, captures).as_bytes()),
            Value::Object(fields) => match (fields.get("varint"), fields.get("sized")) {
                (Some(number), None) => {
                    let mut number = pattern::filled(number, captures).as_u64().ok_or_else(wrong)?;
                    while number >= 0x80 {
                        bytes.push((number & 0x7f) as u8 | 0x80);
                        number >>= 7;
                    }
                    bytes.push(number as u8);
                }
                (None, Some(Value::Array(parts))) => {
                    let inner = packed(parts, captures)?;
                    bytes.extend_from_slice(&u32::try_from(inner.len()).map_err(|_| wrong())?.to_le_bytes());
                    bytes.extend(inner);
                }
                _ => return Err(wrong()),
            },
            _ => return Err(wrong()),
        }
    }
    Ok(bytes)
}
