//! What a collector gets over the wire, and what happens when it does not answer as it should.

use std::net::Ipv4Addr;

use midplane_core::ProfileName;
use midplane_core::event::Event;
use midplane_core::stream::Observation;
use midplane_core::task::{Task, Workspace, WorkspaceAccess};
use midplane_core::telemetry::settings::{OptOut, Service};
use midplane_store::{Append, MemoryLog, RunIndex};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue as Attribute;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use prost::Message as _;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::{Host, OutsideRun, RunRequest};

const SECRET: &str = "what nobody may see";

fn run_id(number: u64) -> RunId {
    RunId::from_parts(1_700_000_000_000 + number, u128::from(number) << 40 | 7)
}

/// A log with one ended run of two tool calls.
async fn log(number: u64) -> Arc<dyn EventLog> {
    let log = MemoryLog::new();
    let events = vec![
        Event::notification(
            "created",
            json!({ "profile": "p", "plugin": { "name": "playbook", "version": "0.1.0", "digest": SECRET }, "task": { "goal": SECRET } }),
        ),
        Event::notification("status", json!({ "status": "running" })),
        Event::new(EventKind::RuntimeStarted, json!({ "model": "m-1" })),
        Event::new(
            EventKind::ToolRequest,
            json!({ "id": "a", "name": "shell", "arguments": { "command": SECRET }, "by": "host" }),
        ),
        Event::new(
            EventKind::ToolResponse,
            json!({ "id": "a", "name": "shell", "status": "error", "preview": SECRET, "size_bytes": 9, "by": "host" }),
        ),
        Event::new(EventKind::StreamError, json!({ "code": "cut", "message": SECRET, "retryable": true })),
        Event::new(
            EventKind::RuntimeTerminal,
            json!({ "finish_reason": "done", "output": SECRET, "usage": { "input_tokens": 3, "output_tokens": 4 }, "rounds": 1 }),
        ),
    ];
    let index = RunIndex {
        profile: ProfileName::new("p").expect("a name"),
        task_id: "t".to_owned(),
        status: "terminated".to_owned(),
        finish_reason: Some("done".to_owned()),
        created_ms: 1,
        updated_ms: 2,
        owner: None,
        summary: json!({}),
    };
    let append =
        Append { run_id: run_id(number), expected_seq: 0, t_ms: 1_700_000_000_123, events, index: Some(index) };
    log.append(append).await.expect("append");
    Arc::new(log)
}

/// A collector that answers each request with these bytes, or never if there are none. Its URL, and what it was sent.
async fn collector(answer: &'static str) -> (String, mpsc::UnboundedReceiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let url = format!("http://{}/v1/traces", listener.local_addr().expect("an address"));
    let (sender, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, answer, sender.clone()));
        }
    });
    (url, requests)
}

async fn serve(mut stream: TcpStream, answer: &str, sender: mpsc::UnboundedSender<(String, Vec<u8>)>) {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).await.expect("read");
        bytes.extend_from_slice(&piece[..count]);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes[..end].to_vec()).expect("text").to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        let body = &bytes[end + 4..];
        if body.len() == length.parse::<usize>().expect("a number") {
            // The test may have heard enough.
            let _ = sender.send((head, body.to_vec()));
            break;
        }
    }
    if answer.is_empty() {
        std::future::pending::<()>().await;
    }
    // Nor need the other side wait for it.
    let _ = stream.write_all(answer.as_bytes()).await;
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";

fn settings(endpoint: &str) -> Settings {
    let service = Service { name: "midplane-test".to_owned(), version: "9".to_owned() };
    Settings { endpoint: Some(endpoint.to_owned()), ..Settings::local(service) }
}

fn start(settings: Settings) -> Option<Telemetry> {
    Telemetry::start(settings, &Tls::shared().expect("TLS"))
}

fn count(telemetry: &Telemetry, name: &str) -> f64 {
    telemetry.samples().iter().filter(|sample| sample.name == name).map(|sample| sample.value).sum()
}

const FAILURES: &str = "runtm_telemetry_flush_failures";
const DROPPED: &str = "runtm_telemetry_dropped_events";

/// Attributes in the order in which they stand.
fn shown(attributes: &[Attribute]) -> String {
    let value = |attribute: &Attribute| match attribute.value.as_ref().and_then(|any| any.value.clone()) {
        Some(Any::StringValue(text)) => text,
        Some(Any::IntValue(number)) => number.to_string(),
        Some(Any::BoolValue(yes)) => yes.to_string(),
        other => format!("{other:?}"),
    };
    attributes.iter().map(|one| format!(" {}={}", one.key, value(one))).collect()
}

/// What a collector reads in a body.
fn decode(body: &[u8]) -> String {
    let request = ExportTraceServiceRequest::decode(body).expect("OTLP");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut text = String::new();
    for resource in &request.resource_spans {
        // A resource is a set: the library behind it keeps no order.
        let mut of_resource = resource.resource.clone().expect("a resource").attributes;
        of_resource.sort_by(|one, other| one.key.cmp(&other.key));
        text += &format!("resource{}\n", shown(&of_resource));
        for spans in &resource.scope_spans {
            text += &format!("scope {}\n", spans.scope.as_ref().expect("a scope").name);
            for span in &spans.spans {
                let (trace, id, parent) = (hex(&span.trace_id), hex(&span.span_id), hex(&span.parent_span_id));
                let status = span.status.as_ref().map(|status| (status.code, status.message.as_str()));
                text +=
                    &format!("{} {trace} {id} parent={parent} {status:?}\n   {}\n", span.name, shown(&span.attributes));
                assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
                for event in &span.events {
                    text += &format!("    {}{}\n", event.name, shown(&event.attributes));
                }
            }
        }
    }
    text
}

#[tokio::test]
async fn a_run_arrives_as_one_trace() {
    let (url, mut requests) = collector(OK).await;
    let headers = vec![("authorization".to_owned(), "Bearer k".to_owned())];
    let telemetry = start(Settings { headers, ..settings(&format!("{url}?team=a")) }).expect("there is an endpoint");
    telemetry.run_ended(&log(1).await, &run_id(1));
    telemetry.flush().await;
    let (head, body) = requests.try_recv().expect("sent before the flush ended");
    assert!(head.starts_with("post /v1/traces?team=a http/1.1"), "{head}");
    for header in ["content-type: application/x-protobuf", "authorization: bearer k"] {
        assert!(head.contains(header), "{head}");
    }
    assert!(!body.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()));
    insta::assert_snapshot!(decode(&body));
    assert_eq!((count(&telemetry, FAILURES), count(&telemetry, DROPPED)), (0.0, 0.0));
}

/// From a playbook to a collector: the plugin runs, the host ends, and one trace has arrived.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_playbook_is_traced() {
    let (url, mut requests) = collector(OK).await;
    let builder = crate::FIRST_PARTY.iter().fold(Host::builder(), |builder, plugin| builder.plugin(*plugin));
    let host = builder.telemetry(settings(&url)).open().await.expect("host");
    let folder = tempfile::tempdir().expect("folder");
    let steps = "  - name: note\n    tool: write_file\n    with: {path: a.txt, content: what nobody may see}\n";
    let mut task = Task::new(format!("playbook: 1\nname: test\nsteps:\n{steps}"));
    task.workspace = Some(Workspace { path: folder.path().display().to_string(), access: WorkspaceAccess::ReadWrite });
    let request = RunRequest { profile: "playbook".into(), task, allow: Vec::new() };
    let mut run = host.run(request).await.expect("run");
    run.outcome().await.expect("outcome");
    host.shutdown().await;
    let (_, body) = requests.try_recv().expect("sent before the host was shut down");
    let text = decode(&body);
    assert!(!text.contains(SECRET), "{text}");
    let root = format!("run {:032x} ", trace_id(run.id()));
    assert!(text.contains(&root), "{text}");
    for part in [
        " service.name=midplane-test",
        " midplane.profile=playbook",
        " midplane.finish_reason=done",
        " midplane.status=terminated",
        "execute_tool",
        " gen_ai.tool.name=write_file midplane.by=host midplane.status=ok",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(requests.try_recv().is_err(), "one trace, one request");
    assert!(host.measures().is_empty());
}

/// A run that is fed from outside is a trace like any other, once its end is settled.
#[tokio::test]
async fn a_run_from_outside_is_traced() {
    let (url, mut requests) = collector(OK).await;
    let host = Host::builder().telemetry(settings(&url)).open().await.expect("host");
    let id =
        host.open_outside_run(OutsideRun { provider: "runner".into(), ..OutsideRun::default() }).await.expect("run");
    let events = [
        json!({ "seq": 0, "tMs": 0, "kind": "runtime_started", "data": {} }),
        json!({ "seq": 1, "tMs": 1, "kind": "assistant_text", "data": { "text": SECRET } }),
        json!({ "seq": 2, "tMs": 2, "kind": "runtime_terminal", "data": { "reason": "complete" } }),
    ];
    let batch = json!({ "v": 1, "runId": id.as_str(), "events": events }).to_string();
    host.ingest(&id, &batch).await.expect("ingest");
    host.shutdown().await;
    assert!(requests.try_recv().is_err(), "a claim is no end");
    host.observe_job(&id, &Observation::exited(0)).await.expect("observed");
    host.ingest(&id, &batch).await.expect("a duplicate, and no second end");
    host.shutdown().await;
    let (_, body) = requests.try_recv().expect("sent before the host was shut down");
    let text = decode(&body);
    assert!(text.contains(" midplane.profile=runner midplane.finish_reason=done midplane.reason=complete"), "{text}");
    assert!(text.contains("    first_text\n") && !text.contains(SECRET), "{text}");
    assert!(requests.try_recv().is_err(), "one trace, one request");
}

/// Nothing is sent, and nothing even started.
#[tokio::test]
async fn nothing_leaves_unasked() {
    let local = Settings { endpoint: None, ..settings("") };
    assert!(start(local).is_none());
    assert!(start(settings("")).is_none());
    assert!(start(settings("ftp://localhost/")).is_none());
    let (url, mut requests) = collector(OK).await;
    let out = Settings { opt_out: Some(OptOut::DoNotTrack), debug: true, ..settings(&url) };
    assert!(start(out).is_none());
    let none = start(Settings { sample_rate: 0.0, ..settings(&url) }).expect("there is an endpoint");
    none.run_ended(&log(1).await, &run_id(1));
    // A run that is not there any more, or has no end yet, is no trace.
    let all = start(settings(&url)).expect("there is an endpoint");
    all.run_ended(&log(1).await, &run_id(2));
    none.flush().await;
    all.flush().await;
    assert!(requests.try_recv().is_err());
    assert_eq!(count(&all, FAILURES), 0.0);
}

/// Whatever the collector does, a failure is counted, and the next trace has its turn.
#[tokio::test]
async fn failures_are_counted() {
    let refusing = format!("http://{}/", {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        listener.local_addr().expect("an address")
    });
    let (silent, _requests) = collector("").await;
    let (denying, _requests) = collector("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await;
    let (rambling, _requests) = collector("no HTTP at all\r\n\r\n").await;
    let (large, _requests) = collector("HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n").await;
    let log = log(1).await;
    for url in [refusing, silent, denying, rambling, large, "http://name.invalid/".to_owned()] {
        let telemetry = start(Settings { timeout_ms: 100, ..settings(&url) }).expect("there is an endpoint");
        telemetry.run_ended(&log, &run_id(1));
        telemetry.run_ended(&log, &run_id(1));
        telemetry.flush().await;
        assert_eq!(count(&telemetry, FAILURES), 2.0, "{url}");
    }
}

/// Where traces come faster than they can be sent, the queue is the bound.
#[tokio::test]
async fn a_full_queue_drops() {
    let (silent, mut requests) = collector("").await;
    let telemetry = start(settings(&silent)).expect("there is an endpoint");
    let log = log(1).await;
    telemetry.run_ended(&log, &run_id(1));
    requests.recv().await.expect("the first is under way");
    for _ in 0..QUEUE_MAX + 3 {
        telemetry.run_ended(&log, &run_id(1));
    }
    assert_eq!(count(&telemetry, DROPPED), 3.0);
}
