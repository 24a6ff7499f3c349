#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::TcpListener as StdListener;

use midplane_core::sandbox::SandboxSettings;
use midplane_engine::ports::{Child as _, Command, Output, Process as _};
use tokio::net::{TcpListener, TcpSocket};
use tokio_tungstenite::tungstenite::handshake::server::{Request as Opened, Response as Answer};

use super::*;
use crate::fakes::{Recorder, Values, call, place_with, rights};
use crate::placeholder::Placeholders;
use crate::process::{ChildHandle, Processes};

const SECRET: &str = "sk-live-0123456789";

/// What the child of these tests is told to be; unset in the test run itself.
const MODE: &str = "MIDPLANE_TEST_SERVER";

struct Rig {
    processes: Processes,
    recorder: Arc<Recorder>,
    placeholders: Placeholders,
    program: String,
    _home: tempfile::TempDir,
}

fn rig(limits: Limits) -> Rig {
    let program = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    let (call, recorder) = call(limits);
    let rights = rights(
        &[(&[&program], &[MODE], &["KEY"]), (&["sh"], &[MODE], &[])],
        &[&format!("command:{program}"), "command:sh", &format!("env:{MODE}"), "secret:KEY"],
    );
    let values = Values(BTreeMap::from([("KEY", SECRET)]));
    let redactor = values.redactor();
    let placeholders = Placeholders::new().unwrap();
    // A shell starts it, too, which brings no right to run it.
    let read = vec![std::env::current_exe().unwrap().parent().unwrap().to_owned()];
    let (place, home) = place_with(None, SandboxSettings { read, ..SandboxSettings::default() }, true);
    let processes = Processes::new(call, rights, place, Arc::new(values), placeholders.clone(), redactor);
    Rig { processes, recorder, placeholders, program, _home: home }
}

const SERVER: [&str; 3] = ["process::ws::tests::server", "--exact", "--nocapture"];

impl Rig {
    /// A child that serves in some way, and its port.
    async fn serve(&self, mode: &str) -> (ChildHandle, u16) {
        self.start(std::iter::once(self.program.as_str()).chain(SERVER).collect(), mode).await
    }

    async fn start(&self, argv: Vec<&str>, mode: &str) -> (ChildHandle, u16) {
        let command = Command {
            argv: argv.into_iter().map(str::to_owned).collect(),
            cwd: None,
            env: vec![(MODE.to_owned(), mode.to_owned())],
            secret_env: Vec::new(),
        };
        let mut child = self.processes.start(command).await.unwrap();
        let mut text = String::new();
        loop {
            // The test runner prints something of its own before.
            if let Some((_, rest)) = text.split_once("port=")
                && let Some((port, _)) = rest.split_once('\n')
            {
                return (child, port.parse().unwrap());
            }
            match child.next(1 << 16).await.unwrap() {
                Output::Stdout(bytes) | Output::Stderr(bytes) => text.push_str(&String::from_utf8(bytes).unwrap()),
                Output::Exited(exit) => panic!("{exit:?}: {text}"),
            }
        }
    }
}

fn dial(port: u16) -> Dial {
    Dial { port, path: "/a?b=c".to_owned(), headers: vec![("x-key".to_owned(), "made up".to_owned())] }
}

fn text(text: &str) -> Frame {
    Frame::Text(text.to_owned())
}

/// The body of the child: a server in one of several manners. In the test run itself it does nothing.
#[tokio::test]
async fn server() {
    let Ok(mode) = std::env::var(MODE) else { return };
    let listener = match mode.strip_prefix("shared ") {
        Some(port) => shared(port.parse().unwrap()),
        None => TcpListener::bind("127.0.0.1:0").await.unwrap(),
    };
    println!("port={}", listener.local_addr().unwrap().port());
    std::io::stdout().flush().unwrap();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        if mode == "http" {
            tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 403 no\r\ncontent-length: 0\r\n\r\n")
                .await
                .unwrap();
            continue;
        }
        if mode == "silent" {
            std::mem::forget(stream);
            continue;
        }
        tokio::spawn(echo(stream, mode.clone()));
    }
}

async fn echo(stream: TcpStream, mode: String) {
    let mut opened = String::new();
    let note = |request: &Opened, answer: Answer| {
        opened = format!("{} {}", request.uri(), request.headers()["x-key"].to_str().unwrap());
        Ok(answer)
    };
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let mut ws = tokio_tungstenite::accept_hdr_async_with_config(stream, note, Some(config)).await.unwrap();
    ws.send(Message::Text(opened.into())).await.unwrap();
    if mode == "deaf" {
        std::future::pending::<()>().await;
    }
    while let Some(Ok(message)) = ws.next().await {
        let order = message.to_text().ok().filter(|_| message.is_text()).unwrap_or_default().to_owned();
        match order.split_once(' ') {
            Some(("flood", count)) => {
                for number in 0..count.parse::<u32>().unwrap() {
                    ws.send(Message::Text(format!("{number:01000}").into())).await.unwrap();
                }
            }
            Some(("size", bytes)) => {
                ws.send(Message::Binary(vec![b'x'; bytes.parse().unwrap()].into())).await.unwrap();
            }
            Some(("close", last)) => {
                ws.send(Message::Ping(Vec::new().into())).await.unwrap();
                ws.send(Message::Text(last.to_owned().into())).await.unwrap();
                ws.close(None).await.unwrap();
            }
            Some(("exit", _)) => std::process::exit(0),
            Some(("say", _)) => {
                println!("{order}");
                std::io::stdout().flush().unwrap();
            }
            _ if message.is_text() || message.is_binary() => ws.send(message).await.unwrap(),
            _ => {}
        }
    }
    println!("socket over");
    std::io::stdout().flush().unwrap();
}

fn shared(port: u16) -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, port).into()).unwrap();
    socket.listen(16).unwrap()
}

#[tokio::test]
async fn messages_go_both_ways() {
    let rig = rig(Limits::default());
    let (child, port) = rig.serve("echo").await;
    let mut socket = child.connect(dial(port)).await.unwrap();
    assert_eq!(socket.receive().await.unwrap(), Some(text("/a?b=c made up")));
    for frame in [text(""), text("ünï"), Frame::Binary(vec![0, 255]), Frame::Binary(vec![7; 4 << 20])] {
        socket.send(frame.clone()).unwrap();
        assert_eq!(socket.receive().await.unwrap(), Some(frame));
    }
    socket.send(text("close last words")).unwrap();
    assert_eq!(socket.receive().await.unwrap(), Some(text("last words")));
    for _ in 0..2 {
        assert_eq!(socket.receive().await.unwrap(), None, "repeated if asked again");
    }
    let error = socket.send(text("x")).unwrap_err();
    assert_eq!((error.kind.as_str(), error.code.as_ref()), ("unavailable", "closed"));
    let audits = rig.recorder.audits();
    assert!(audits.iter().any(|line| line.starts_with("websocket | ") && line.contains(&format!(":{port} | ok"))));
}

#[tokio::test]
async fn a_port_of_another_process_is_refused() {
    let rig = rig(Limits::default());
    let (child, port) = rig.serve("echo").await;
    // Ours, nobody's, a port of another child of the same call, and one that the child shares with us.
    let ours = StdListener::bind("127.0.0.1:0").unwrap();
    let nobody = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (other, others) = rig.serve("echo").await;
    let together = shared(0);
    let common = together.local_addr().unwrap().port();
    let (sharing, _) = rig.serve(&format!("shared {common}")).await;
    for (child, port) in [
        (&child, ours.local_addr().unwrap().port()),
        (&child, nobody),
        (&child, others),
        (&other, port),
        (&sharing, common),
    ] {
        let error = child.connect(dial(port)).await.err().unwrap();
        assert_eq!((error.kind.as_str(), error.code.as_ref()), ("denied", "not-own-port"), "{port}");
    }
    assert!(rig.recorder.audits().iter().any(|line| line.starts_with("websocket | ") && line.contains("| denied |")));
    // Nothing was sent to the port that is ours, and a connection to it is all that could have been.
    ours.set_nonblocking(true).unwrap();
    assert!(ours.accept().is_err());
    drop(together);
    assert!(sharing.connect(dial(common)).await.is_ok(), "now it is the child's alone");
}

#[tokio::test]
async fn a_process_that_the_child_started_may_listen() {
    let rig = rig(Limits::default());
    let script = format!("'{}' {} & wait", rig.program, SERVER.join(" "));
    let (child, port) = rig.start(vec!["sh", "-c", &script], "echo").await;
    let mut socket = child.connect(dial(port)).await.unwrap();
    assert!(socket.receive().await.unwrap().is_some());
    drop(child);
    assert_eq!(socket.receive().await.unwrap(), None, "it ends with the child");
    assert_eq!(socket.send(text("x")).unwrap_err().code, "closed");
}

#[tokio::test]
async fn openings_that_are_refused() {
    let rig = rig(Limits::default());
    let (child, port) = rig.serve("http").await;
    let with = |path: &str, headers: &[(&str, &str)]| Dial {
        port,
        path: path.to_owned(),
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
    };
    let many = vec![("x", "y"); 65];
    let mut seen = Vec::new();
    for dial in [
        with("", &[]),
        with("//", &[]),
        with("@127.0.0.1:1/", &[]),
        with("/ a", &[]),
        with("/\r\nx: y", &[]),
        with("/", &[("host", "x")]),
        with("/", &[("Sec-WebSocket-Key", "x")]),
        with("/", &[("content-length", "1")]),
        with("/", &[("a b", "x")]),
        with("/", &[("x", "a\r\nb")]),
        with("/", &many),
        with("/", &[]),
    ] {
        let shown: Vec<_> = dial.headers.iter().take(1).collect();
        let what = format!("{:?} {shown:?}", dial.path);
        let error = child.connect(dial).await.err().unwrap();
        seen.push(format!(
            "{what}\n  {} {}: {}",
            error.kind,
            error.code,
            error.message.replace(&port.to_string(), "PORT")
        ));
    }
    insta::assert_snapshot!(seen.join("\n"));
}

#[tokio::test]
async fn a_silent_port_can_be_given_up() {
    let rig = rig(Limits::default());
    let (child, port) = rig.serve("silent").await;
    tokio::select! {
        _ = child.connect(dial(port)) => panic!("it never answers"),
        () = tokio::time::sleep(Duration::from_millis(200)) => {}
    }
    assert_eq!(child.reach.sockets.available_permits(), 8);
}

#[tokio::test]
async fn messages_that_are_too_large() {
    let rig = rig(Limits::default());
    let (child, port) = rig.serve("echo").await;
    let mut socket = child.connect(dial(port)).await.unwrap();
    socket.receive().await.unwrap();
    let error = socket.send(Frame::Binary(vec![0; (4 << 20) + 1])).unwrap_err();
    assert_eq!((error.kind.as_str(), error.code.as_ref()), ("limit", "frame-size"));
    socket.send(text("still open")).unwrap();
    assert_eq!(socket.receive().await.unwrap(), Some(text("still open")));
    socket.send(text(&format!("size {}", (4 << 20) + 1))).unwrap();
    let error = socket.receive().await.unwrap_err();
    assert_eq!((error.kind.as_str(), error.code.as_ref()), ("limit", "frame-size"));
    assert_eq!(socket.receive().await.unwrap(), None);
}

#[tokio::test]
async fn a_flood_waits_for_its_reader() {
    let rig = rig(Limits { socket_queue_bytes_max: 100_000, ..Limits::default() });
    let (child, port) = rig.serve("echo").await;
    let mut socket = child.connect(dial(port)).await.unwrap();
    socket.receive().await.unwrap();
    socket.send(text("flood 20000")).unwrap();
    // 20 MB, of which no more than the queue and what the system holds are taken before they are asked for.
    tokio::time::sleep(Duration::from_millis(200)).await;
    for number in 0..20_000 {
        assert_eq!(socket.receive().await.unwrap(), Some(Frame::Text(format!("{number:01000}"))));
    }
}

#[tokio::test]
async fn a_reader_that_reads_nothing_fills_the_queue() {
    let rig = rig(Limits { socket_queue_bytes_max: 1 << 20, ..Limits::default() });
    let (child, port) = rig.serve("deaf").await;
    let socket = child.connect(dial(port)).await.unwrap();
    let error = loop {
        match socket.send(Frame::Binary(vec![0; 100_000])) {
            Ok(()) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert_eq!((error.kind.as_str(), error.code.as_ref()), ("limit", "queue-full"));
    // Empty messages are bounded, too.
    let socket = child.connect(dial(port)).await.unwrap();
    let sent = std::iter::repeat_with(|| socket.send(text(""))).take_while(Result::is_ok).count();
    assert!(sent <= (1 << 20) / MESSAGE_BYTES, "{sent}");
}

#[tokio::test]
async fn only_so_many_at_once_and_the_queue_is_sent_after_the_handle() {
    let rig = rig(Limits { sockets_max: 1, ..Limits::default() });
    let (mut child, port) = rig.serve("echo").await;
    let socket = child.connect(dial(port)).await.unwrap();
    let error = child.connect(dial(port)).await.err().unwrap();
    assert_eq!((error.kind.as_str(), error.code.as_ref()), ("limit", "sockets"));
    socket.send(text("say goodbye")).unwrap();
    drop(socket);
    let mut said = String::new();
    while !said.contains("socket over") {
        match child.next(1 << 16).await.unwrap() {
            Output::Stdout(bytes) => said.push_str(&String::from_utf8(bytes).unwrap()),
            other => panic!("{other:?}"),
        }
    }
    assert!(said.contains("say goodbye"), "{said}");
    while child.reach.sockets.available_permits() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(child.connect(dial(port)).await.is_ok());
}

#[tokio::test]
async fn it_ends_when_the_program_does() {
    let rig = rig(Limits::default());
    let (child, port) = rig.serve("echo").await;
    let mut socket = child.connect(dial(port)).await.unwrap();
    socket.receive().await.unwrap();
    socket.send(text("exit now")).unwrap();
    assert_eq!(socket.receive().await.unwrap(), None);
}

#[tokio::test]
async fn secrets_are_put_in_and_taken_out() {
    let rig = rig(Limits::default());
    let (mut child, port) = rig.serve("echo").await;
    let mut socket = child.connect(dial(port)).await.unwrap();
    socket.receive().await.unwrap();
    // The child tells the length of what it got, which is that of the value.
    let placeholder = rig.placeholders.text("KEY");
    socket.send(Frame::Text(format!("say {placeholder}!"))).unwrap();
    let mut said = String::new();
    while !said.contains('!') {
        match child.next(1 << 16).await.unwrap() {
            Output::Stdout(bytes) => said.push_str(&String::from_utf8(bytes).unwrap()),
            other => panic!("{other:?}"),
        }
    }
    assert!(said.contains("say [redacted:KEY]!"), "{said}");
    socket.send(Frame::Text(format!("key {placeholder}"))).unwrap();
    assert_eq!(socket.receive().await.unwrap(), Some(text("key [redacted:KEY]")));
    // Bytes keep their length, so that a protocol that counts them can still be read.
    socket.send(Frame::Binary(format!("\u{1}{placeholder}\u{2}").into_bytes())).unwrap();
    let masked = format!("\u{1}{}\u{2}", "*".repeat(SECRET.len()));
    assert_eq!(socket.receive().await.unwrap(), Some(Frame::Binary(masked.into_bytes())));
    // A program for which no secret is granted gets none.
    let script = format!("'{}' {} & wait", rig.program, SERVER.join(" "));
    let (child, port) = rig.start(vec!["sh", "-c", &script], "echo").await;
    let socket = child.connect(dial(port)).await.unwrap();
    let error = socket.send(Frame::Text(placeholder)).unwrap_err();
    assert_eq!((error.kind.as_str(), error.code.as_ref()), ("denied", "secret"));
}

#[tokio::test]
async fn spawn_gives_children_that_can_be_connected_to() {
    // The same through the port as the engine calls it.
    let rig = rig(Limits::default());
    let argv = std::iter::once(rig.program.clone()).chain(SERVER.map(str::to_owned)).collect();
    let env = vec![(MODE.to_owned(), "echo".to_owned())];
    let mut child = rig.processes.spawn(Command { argv, cwd: None, env, secret_env: Vec::new() }).await.unwrap();
    let mut text = String::new();
    while !text.contains("port=") || !text.ends_with('\n') {
        if let Output::Stdout(bytes) = child.next(1 << 16).await.unwrap() {
            text.push_str(&String::from_utf8(bytes).unwrap());
        }
    }
    let port = text.split_once("port=").unwrap().1.trim().parse().unwrap();
    assert!(child.connect(dial(port)).await.unwrap().receive().await.unwrap().is_some());
}
