//! Scripts, played by the real program over real pipes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

/// A program of a script that records what it sees.
fn started(folder: &Path, mut script: Value, args: &[&str]) -> Child {
    script["record"] = json!("seen.jsonl");
    let program = Path::new(env!("CARGO_BIN_EXE_guest-program"));
    let path = guest_program::install(program, folder, "vendor", &script).expect("installed");
    Command::new(path)
        .args(args)
        .current_dir(folder)
        .env_clear()
        .env("GREETING", "hi")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started")
}

/// What it writes when it is sent this, how it ends, and what it has recorded after its start.
fn played(script: Value, args: &[&str], sent: &str) -> (String, String, Option<i32>, Vec<Value>) {
    let folder = tempfile::tempdir().expect("folder");
    let mut child = started(folder.path(), script, args);
    // A program that has ended reads nothing.
    let _ = child.stdin.take().expect("stdin").write_all(sent.as_bytes());
    let output = child.wait_with_output().expect("ended");
    let records = guest_program::records(&folder.path().join("seen.jsonl"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code(), records.into_iter().skip(1).collect())
}

#[test]
fn a_conversation_with_captured_ids() {
    let script = json!({ "steps": [
        { "expect": { "method": "hello" }, "capture": { "id": "/id" } },
        { "write": { "id": "{{id}}", "result": "{{env.GREETING}} there" } },
        { "expect": "plain" },
        { "raw": "cut " }, { "bytes": [255, 10] }, { "stderr": "bye\n" }, { "until_eof": true },
    ], "exit": 3 });
    let (out, err, code, records) = played(script, &[], "{\"id\":0,\"method\":\"hello\"}\nplain\nmore\n");
    assert_eq!(out, "{\"id\":0,\"result\":\"hi there\"}\ncut \u{fffd}\n");
    assert_eq!((err.as_str(), code), ("bye\n", Some(3)));
    assert_eq!(
        records,
        [
            json!({ "read": { "id": 0, "method": "hello" } }),
            json!({ "read": "plain" }),
            json!({ "read": "more" }),
            json!({ "eof": true }),
            json!({ "exit": 3 }),
        ]
    );
}

#[test]
fn what_is_not_expected_ends_it_and_is_recorded() {
    let (_, err, code, records) = played(json!({ "steps": [{ "expect": { "id": 1 } }] }), &[], "{\"id\":2}\n");
    assert_eq!(code, Some(i32::from(guest_program::EXIT_UNEXPECTED)));
    assert!(err.contains(r#"read {"id":2}; expected {"id":1}"#), "{err}");
    assert!(records.iter().any(|record| record.get("unexpected").is_some()), "{records:?}");
}

#[test]
fn rules_answer_until_the_last_one() {
    let script = json!({ "steps": [{ "serve": [
        { "on": { "ask": { "$any": true } }, "capture": { "what": "/ask" }, "steps": [{ "write": ["{{what}}"] }] },
        { "on": { "stop": true }, "last": true },
    ] }, { "write": "done" }] });
    let (out, _, code, _) = played(script, &[], "{\"ask\":1}\n?\n{\"ask\":null}\n{\"stop\":true}\n{\"ask\":2}\n");
    assert_eq!((out.as_str(), code), ("[1]\n[null]\ndone\n", Some(0)));
}

#[test]
fn arguments_choose_other_steps() {
    let script = json!({
        "when": [
            { "args": ["--version"], "steps": [{ "write": "1.2.3" }], "exit": 4 },
            { "args": ["--effort=*"], "steps": [{ "stderr": "unknown option" }], "exit": 6 },
        ],
        "steps": [{ "exit": 5 }],
    });
    assert_eq!(played(script.clone(), &["-v", "--version"], "").2, Some(4));
    assert_eq!(played(script.clone(), &["--effort=high"], "").2, Some(6));
    assert_eq!(played(script, &["-v"], "").2, Some(5));
}

#[test]
fn a_closed_stdout_ends_for_its_reader_while_the_program_lives() {
    let folder = tempfile::tempdir().expect("folder");
    let script = json!({ "steps": [{ "write": "one" }, { "close": "stdout" }, { "until_eof": true }] });
    let mut child = started(folder.path(), script, &[]);
    let mut out = String::new();
    // Returns only because the pipe has no other end any more: stdin is still open, so the program waits.
    child.stdout.take().expect("stdout").read_to_string(&mut out).expect("text");
    assert_eq!(out, "one\n");
    assert_eq!(child.try_wait().expect("asked"), None);
    drop(child.stdin.take());
    assert_eq!(child.wait().expect("ended").code(), Some(0));
}

#[test]
fn signals_are_noted_and_children_outlive_a_step() {
    let folder = tempfile::tempdir().expect("folder");
    let script = json!({ "steps": [
        { "ignore": ["TERM"] }, { "spawn": ["sleep", "600"], "own_group": true, "name": "child" },
        { "write": { "child": "{{child}}" } }, { "hang": true },
    ] });
    let mut child = started(folder.path(), script, &[]);
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut line).expect("a line");
    let line: Value = serde_json::from_str(&line).expect("JSON");
    let signal = |signal: &str, id: &str| Command::new("kill").args([signal, id]).status().expect("kill").success();
    let own = child.id().to_string();
    assert!(signal("-TERM", &own));
    let seen = folder.path().join("seen.jsonl");
    while !guest_program::records(&seen).contains(&json!({ "signal": "TERM" })) {
        std::thread::yield_now();
    }
    assert_eq!(child.try_wait().expect("asked"), None, "it lives");
    let spawned = line["child"].to_string();
    assert!(signal("-0", &spawned), "its child lives");
    child.kill().expect("killed");
    child.wait().expect("reaped");
    assert!(signal("-KILL", &spawned), "which outlives it, and is ended here");
}

#[test]
fn a_wrong_script_is_named() {
    let (_, err, code, _) = played(json!({ "steps": [{ "dance": 1 }] }), &[], "");
    assert_eq!(code, Some(i32::from(guest_program::EXIT_SCRIPT)));
    assert!(err.contains("vendor.json"), "{err}");
}

#[test]
fn a_request_is_made_and_its_answer_kept() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("port");
    let address = server.local_addr().expect("address");
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().expect("connection");
        let mut asked = vec![0; 4096];
        let read = stream.read(&mut asked).expect("request");
        stream.write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok").expect("answer");
        String::from_utf8_lossy(&asked[..read]).into_owned()
    });
    let script = json!({ "steps": [
        { "http": { "url": format!("http://{address}/v1"), "headers": { "x-hi": "{{env.GREETING}}" }, "name": "got" } },
        { "write": "{{got}}" },
    ] });
    let (out, _, _, records) = played(script, &[], "");
    assert_eq!(out, "{\"body\":\"ok\",\"status\":201}\n");
    assert!(records.contains(&json!({ "http": { "status": 201, "body": "ok" } })), "{records:?}");
    let asked = asked.join().expect("served");
    assert!(asked.starts_with("GET /v1 HTTP/1.1\r\n") && asked.contains("x-hi: hi\r\n"), "{asked}");
}

#[test]
fn a_websocket_is_served_to_whoever_has_the_key() {
    use tungstenite::client::IntoClientRequest as _;
    let script = json!({ "steps": [
        { "websocket": {
            "greeting": [{ "sized": [8, { "varint": "{{port}}" }, 18, 3, "abc"] }], "headers": { "x-key": "abc" },
        } },
        { "expect": { "config": { "$any": true } }, "capture": { "name": "/config/name" } },
        { "write": { "hello": "{{name}}" } }, { "raw": "not JSON" }, { "expect": "bye" }, { "close": "websocket" },
        { "until_eof": true },
    ] });
    let folder = tempfile::tempdir().expect("folder");
    let mut child = started(folder.path(), script, &[]);
    let mut stdin = child.stdin.take().expect("stdin");
    stdin.write_all(&[1, 0, 10]).expect("written");
    let mut greeting = [0; 13];
    child.stdout.as_mut().expect("stdout").read_exact(&mut greeting).expect("a greeting");
    assert_eq!((&greeting[..5], &greeting[8..]), (&[9, 0, 0, 0, 8][..], &[18, 3, b'a', b'b', b'c'][..]));
    let port = u16::from(greeting[5] & 0x7f) | u16::from(greeting[6] & 0x7f) << 7 | u16::from(greeting[7]) << 14;
    let connect = |key: &str| {
        let mut request = format!("ws://127.0.0.1:{port}/").into_client_request().expect("a request");
        request.headers_mut().insert("x-key", key.parse().expect("a header"));
        let stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        tungstenite::client(request, stream).map(|(socket, _)| socket)
    };
    assert!(connect("wrong").is_err());
    let mut socket = connect("abc").expect("accepted");
    socket.send(r#"{"config":{"name":"n"}}"#.into()).expect("sent");
    assert_eq!(socket.read().expect("a message").to_string(), r#"{"hello":"n"}"#);
    assert_eq!(socket.read().expect("a message").to_string(), "not JSON");
    socket.send("bye".into()).expect("sent");
    assert!(socket.read().expect("a close").is_close());
    drop(stdin);
    assert_eq!(child.wait().expect("ended").code(), Some(0));
    let records = guest_program::records(&folder.path().join("seen.jsonl"));
    assert!(records.contains(&json!({ "read": { "config": { "name": "n" } } })), "{records:?}");
}
