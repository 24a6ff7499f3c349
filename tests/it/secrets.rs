//! The key of a vendor appears nowhere: not in events, outcome, views, log lines, any file of the host, the workspace, or the
//! memory of the guest that used it, also when the server sends it back in every usual form.
//!
//! Each search is proven on a decoy: a value of the same shape that is no secret, sent back in the same forms at the same
//! places. Where the decoy is not found the search is blind, and the test fails.

use std::path::Path;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use midplane::core::outcome::FinishReason;
use serde_json::json;

use crate::script_server::{
    Request, ScriptServer, Step, answer, block, chunked, message, sse, sse_head, sse_text, start, text, tool,
};
use crate::world::{KEY, Setup, World};

/// As the key is, but no secret.
const DECOY: &str = "sk-ant-decoy-u2/Bx+Kp6~9tGz=Wc3Me8Qa5Ld1Vh7Fs4Jn0Ry";

/// The usual forms of a value, by name.
fn forms(value: &str) -> Vec<(&'static str, String)> {
    let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    let every: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let percent: String = value
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-._~".contains(c) {
                c.to_string()
            } else {
                format!("%{:02X}", u32::from(c))
            }
        })
        .collect();
    vec![
        ("plain", value.to_owned()),
        ("base64", STANDARD_NO_PAD.encode(value)),
        ("base64url", URL_SAFE_NO_PAD.encode(value)),
        // As `basic` credentials hold it. What its neighbours share with it is not searched for.
        ("base64 behind a user", STANDARD_NO_PAD.encode(format!("me:{value}"))[4..].to_owned()),
        ("base64 behind one letter", STANDARD_NO_PAD.encode(format!("u{value}"))[2..].to_owned()),
        ("base64 behind two letters", STANDARD_NO_PAD.encode(format!("u:{value}"))[3..].to_owned()),
        ("hex", hex.clone()),
        ("upper hex", hex.to_uppercase()),
        ("percent", percent),
        ("percent everywhere", every),
    ]
}

/// All forms of both values, as a server would say them.
fn echo() -> String {
    let mut said = String::new();
    for value in [KEY, DECOY] {
        for (name, form) in forms(value) {
            said.push_str(&format!("{name} <{form}> and "));
        }
    }
    said
}

/// Which forms of a value are in these bytes.
fn found(value: &str, bytes: &[u8]) -> Vec<&'static str> {
    let forms = forms(value).into_iter();
    forms.filter(|(_, form)| memchr::memmem::find(bytes, form.as_bytes()).is_some()).map(|(name, _)| name).collect()
}

/// All that a search looks at, by where it is.
#[derive(Default)]
struct Places(Vec<(String, Vec<u8>)>);

impl Places {
    fn add(&mut self, name: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.push((name.into(), bytes.into()));
    }

    /// All files below a folder, with their names.
    fn add_files(&mut self, folder: &Path) {
        for entry in std::fs::read_dir(folder).expect("folder").flatten() {
            let path = entry.path();
            self.add("names of files", path.display().to_string());
            if path.is_dir() {
                self.add_files(&path);
            } else {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let place = if name.starts_with("midplane.db") { "database".to_owned() } else { name };
                self.add(place, std::fs::read(&path).expect("file"));
            }
        }
    }

    /// The key is in none of them.
    fn hold_no_key(&self) {
        for (name, bytes) in &self.0 {
            assert_eq!(found(KEY, bytes), Vec::<&str>::new(), "the key is in {name}");
        }
    }

    /// The search sees these forms of the decoy at a place, so it would see the key there.
    fn hold_the_decoy(&self, place: &str, wanted: &[&'static str]) {
        let seen: Vec<&str> =
            self.0.iter().filter(|(name, _)| name == place).flat_map(|(_, bytes)| found(DECOY, bytes)).collect();
        for form in wanted {
            assert!(seen.contains(form), "the search does not see the form `{form}` in {place}: it sees {seen:?}");
        }
    }
}

/// Log lines of the host, at the finest level, while it is alive.
#[derive(Clone, Default)]
struct LogLines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for LogLines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nothing panics while it is held").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl LogLines {
    /// Records for this thread, on which the runtime of a test and all its tasks run.
    fn record(&self) -> tracing::subscriber::DefaultGuard {
        let lines = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || lines.clone());
        tracing::subscriber::set_default(subscriber.finish())
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.lock().expect("nothing panics while it is held").clone()
    }
}

/// A host whose files are all in its own folder.
async fn world(url: &str) -> World {
    Setup::new(url).setting("retries_max", json!(0)).own_cache().open().await
}

/// Everything that is left of a run.
async fn places(world: &World, goal: &str, log: &LogLines) -> (Places, midplane::core::outcome::Outcome) {
    let ran = world.run(world.task(goal)).await;
    let id = ran.records[0].run_id.clone();
    let mut places = Places::default();
    places.add("events", json_of(&ran.records));
    places.add("outcome", json_of(&ran.outcome));
    places.add("the run", json_of(&world.host.get(&id).await.expect("a run")));
    places
        .add("the list of runs", format!("{:?}", world.host.runs(midplane::RunQuery::default()).await.expect("runs")));
    places.add("profile", json_of(&world.host.profile("anthropic").await.expect("a profile")));
    for file in world.host.outputs(&id).await.expect("outputs") {
        places.add("outputs", world.host.output(&file.digest).await.expect("an output"));
    }
    places.add_files(world.workspace.path());
    places.add_files(world.home.path());
    places.add("log lines", log.bytes());
    (places, ran.outcome)
}

fn json_of(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("JSON")
}

/// What a server says back in text, thinking, a tool's arguments and headers, cut at every place by the transport.
fn echoing(number: usize, request: &Request) -> Vec<Step> {
    assert_eq!(request.header("x-api-key"), [KEY], "the key is sent, or there is nothing to hide");
    let said = echo();
    if number > 0 {
        return answer(
            "200 OK",
            &[("content-type", "text/event-stream")],
            &[&sse_text(&message(vec![text(0, &["Done: ", &said])], "end_turn"))],
        );
    }
    let thinking = block(
        0,
        &json!({"type": "thinking", "thinking": "", "signature": ""}),
        &[json!({"type": "thinking_delta", "thinking": said}), json!({"type": "signature_delta", "signature": "c2ln"})],
    );
    let arguments = json!({"path": "said.txt", "content": said}).to_string();
    let events =
        message(vec![thinking, text(1, &[&said]), tool(2, "toolu_1", "write_file", &[&arguments])], "tool_use");
    let body = sse_text(&events);
    // Chunks of 7 bytes: each value is cut several times.
    let chunks: Vec<&str> = body.as_bytes().chunks(7).map(|chunk| std::str::from_utf8(chunk).expect("ASCII")).collect();
    answer("200 OK", &[("content-type", "text/event-stream"), ("request-id", KEY)], &chunks)
}

#[tokio::test]
async fn an_echoed_key_is_nowhere() {
    let log = LogLines::default();
    let _recording = log.record();
    let server = ScriptServer::start(echoing).await;
    let world = world(&server.url()).await;
    let (places, outcome) = places(&world, "write down what you know", &log).await;
    assert_eq!(outcome.finish_reason, FinishReason::Done, "{outcome:?}");
    let all: Vec<&str> = forms(DECOY).into_iter().map(|(name, _)| name).collect();
    // The database as it is on the disk, with its journal.
    for place in ["events", "outcome", "outputs", "said.txt", "database"] {
        places.hold_the_decoy(place, &all);
    }
    assert!(log.bytes().windows(4).any(|bytes| bytes == b"run="), "nothing was logged");
    places.hold_no_key();
}

/// A value cut in two by the vendor's own framing: each half is harmless, and the adapter joins them.
#[tokio::test]
async fn a_key_in_pieces_is_nowhere() {
    let log = LogLines::default();
    let _recording = log.record();
    let server = ScriptServer::start(|number, _| {
        if number > 0 {
            return sse(&message(vec![text(0, &["Written."])], "end_turn"));
        }
        let mut pieces = Vec::new();
        for value in [KEY, DECOY] {
            let letters: Vec<char> = value.chars().collect();
            pieces.extend([
                "it is ".to_owned(),
                letters[..17].iter().collect(),
                letters[17..30].iter().collect(),
                letters[30..].iter().collect(),
            ]);
        }
        pieces.push(". That is all.".to_owned());
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        let thoughts: Vec<serde_json::Value> =
            pieces.iter().map(|piece| json!({"type": "thinking_delta", "thinking": piece})).collect();
        let thinking = block(0, &json!({"type": "thinking", "thinking": "", "signature": "c2ln"}), &thoughts);
        let arguments = [&["{\"path\": \"said.txt\", \"content\": \""][..], &pieces, &["\"}"]].concat();
        sse(&message(vec![thinking, text(1, &pieces), tool(2, "toolu_1", "write_file", &arguments)], "tool_use"))
    })
    .await;
    let world = world(&server.url()).await;
    let (places, outcome) = places(&world, "say it slowly", &log).await;
    assert_eq!(outcome.finish_reason, FinishReason::Done, "{outcome:?}");
    for place in ["database", "outputs", "said.txt"] {
        places.hold_the_decoy(place, &["plain"]);
    }
    places.hold_no_key();
}

/// A vendor that quotes the key in its refusal, and the errors that are made of that.
#[tokio::test]
async fn a_key_in_an_error_is_nowhere() {
    let log = LogLines::default();
    let _recording = log.record();
    let server = ScriptServer::start(|_, _| {
        let body = json!({"type": "error", "error": {"type": "authentication_error", "message": format!("invalid x-api-key: {}", echo())}});
        answer("401 Unauthorized", &[("content-type", "application/json"), ("request-id", KEY)], &[&body.to_string()])
    })
    .await;
    let world = world(&server.url()).await;
    let (mut places, outcome) = places(&world, "hello", &log).await;
    assert_eq!(outcome.finish_reason, FinishReason::Failed, "{outcome:?}");
    let probe = std::time::Duration::from_secs(5);
    places.add("availability", json_of(&world.host.availability("anthropic", probe).await.expect("a report")));
    for place in ["events", "outcome", "database"] {
        places.hold_the_decoy(place, &["plain", "base64"]);
    }
    places.hold_no_key();
}

/// The memory of the guest that sent the key and read the echo: the host ends it in the middle of a reply without end, by
/// its bound on computing time, and writes down all that it held.
#[tokio::test]
async fn the_guest_that_used_the_key_never_held_it() {
    let server = ScriptServer::start(|_, request| {
        assert_eq!(request.header("x-api-key"), [KEY]);
        // What it thinks: a text without end would be cut by the adapter before the host's bound.
        let thinking = json!({"type": "thinking", "thinking": "", "signature": ""});
        let said =
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": echo()}});
        let said = sse_text(&[said]);
        // Cut inside the key and inside the decoy, so that neither comes in one piece.
        let (first, rest) = said.split_at(said.find(KEY).expect("the key") + 9);
        let (second, third) = rest.split_at(rest.find(DECOY).expect("the decoy") + 9);
        let again = [chunked(first), chunked(second), chunked(third)].concat();
        let head = sse_text(&[start(), block(0, &thinking, &[])[0].clone()]);
        vec![sse_head(), Step::Send(chunked(&head)), Step::Repeat(again)]
    })
    .await;
    let dumps = tempfile::tempdir().expect("folder");
    let world = Setup::new(&server.url()).limit("cpu_ms_max", 150).core_dumps(dumps.path()).open().await;
    let ran = world.run(world.task("never stop")).await;
    assert_eq!(
        (ran.outcome.finish_reason, ran.error().as_str()),
        (FinishReason::Failed, "limit/cpu"),
        "{:?}",
        ran.outcome.error
    );
    let mut places = Places::default();
    for entry in std::fs::read_dir(dumps.path()).expect("folder").flatten() {
        places.add("memory", std::fs::read(entry.path()).expect("a dump"));
    }
    let all: Vec<&str> = forms(DECOY).into_iter().map(|(name, _)| name).collect();
    places.hold_the_decoy("memory", &all);
    // It knew that there was something.
    assert!(places.0.iter().any(|(_, bytes)| memchr::memmem::find(bytes, b"[redacted:ANTHROPIC_API_KEY]").is_some()));
    places.hold_no_key();
}
