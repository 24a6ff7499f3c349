//! The Gemini plugin through the library, over both of its APIs: against `aimock`, whose journal says what it was sent, and
//! against scripted answers in the vendor's own shapes, from which `aimock` departs. Vertex AI with a token of the host's.

use midplane::CancelReceipt;
use midplane::core::event::EventKind;
use midplane::core::outcome::FinishReason;
use serde_json::{Value, json};

use crate::peer::Aimock;
use crate::script_server::{Request, ScriptServer, Step, answer, chunked, sse_head};
use crate::world::{KEY, Ran, Setup, World};

const SSE: (&str, &str) = ("content-type", "text/event-stream");
const JSON: (&str, &str) = ("content-type", "application/json; charset=UTF-8");
/// Both values of the setting `api`.
const APIS: [&str; 2] = ["generate-content", "interactions"];

/// The mock keeps no interaction, so all steps are sent each time.
fn setup(url: &str, api: &str) -> Setup {
    Setup::of("gemini", Some("GEMINI_API_KEY"), url)
        .setting("api", json!(api))
        .setting("store", json!(false))
        .setting("model", json!("gemini-3.5-flash"))
}

/// A mock with these fixtures and a host in front of it, or none where the mock is not installed.
async fn mocked(api: &str, fixtures: &Value) -> Option<(Aimock, World)> {
    mocked_with(api, fixtures, |setup| setup).await
}

async fn mocked_with(api: &str, fixtures: &Value, set: impl FnOnce(Setup) -> Setup) -> Option<(Aimock, World)> {
    let mock = Aimock::start(KEY, &json!({ "fixtures": fixtures })).await?;
    let world = set(setup(mock.url(), api)).open().await;
    Some((mock, world))
}

/// The journal in short: of each request its path and answer, and its messages but for the system prompt.
fn asked(journal: &[Value]) -> String {
    let mut shown = String::new();
    for entry in journal {
        shown.push_str(&format!("{}: {}\n", entry["path"].as_str().unwrap_or_default(), entry["response"]["status"]));
        for message in entry["body"]["messages"].as_array().into_iter().flatten() {
            if message["role"] != "system" {
                shown.push_str(&format!("    {message}\n"));
            }
        }
    }
    shown
}

/// Outcome and log of a run.
fn shown(ran: &Ran) -> String {
    format!("{}\nerror {}\n", ran.story(), ran.error())
}

#[tokio::test]
async fn a_text_reply_with_what_the_model_thinks() {
    let fixtures = json!([{
        "match": {"userMessage": "greet"},
        "response": {"content": "Hello from the mock, ünïcode too.", "reasoning": "A greeting.", "usage": {"input_tokens": 11, "output_tokens": 7}},
        "chunkSize": 3,
    }]);
    let mut all = Vec::new();
    for api in APIS {
        let Some((mock, world)) = mocked(api, &fixtures).await else { return };
        let mut task = world.task("greet me");
        task.system = Some("Be brief.".to_owned());
        task.reasoning_effort = Some("low".to_owned());
        let ran = world.run(task).await;
        all.push(format!("-- {api}\n{}", shown(&ran)));

        let journal = mock.journal().await;
        assert_eq!(journal.len(), 1);
        let (head, body) = (&journal[0]["headers"], &journal[0]["body"]);
        // The mock takes the request only with the right key, once, and masks it in what it shows.
        assert_eq!(head["x-goog-api-key"], "[REDACTED]");
        assert_eq!((&head["x-api-key"], &head["authorization"]), (&Value::Null, &Value::Null));
        assert_eq!((&body["model"], &body["stream"]), (&json!("gemini-3.5-flash"), &json!(true)));
        assert!(body["messages"][0]["content"].as_str().is_some_and(|text| text.contains("Be brief.")), "{body}");
        assert_eq!(body["messages"][1], json!({"role": "user", "content": "greet me"}));
    }
    insta::assert_snapshot!(all.join("\n"));
}

#[tokio::test]
async fn tools_of_the_host_on_a_real_folder() {
    let call =
        |id: &str, name: &str, arguments: Value| json!({"id": id, "name": name, "arguments": arguments.to_string()});
    let fixtures = json!([
        {"match": {"userMessage": "inventory", "hasToolResult": false}, "response": {"content": "I look.", "toolCalls": [
            call("call_1", "read_file", json!({"path": "notes.txt"})),
            call("call_2", "grep", json!({"pattern": "TODO"})),
            call("call_3", "read_file", json!({"path": "../outside.txt"})),
        ]}},
        {"match": {"userMessage": "inventory", "toolResultContains": "created"}, "response": {"content": "Written."}},
        {"match": {"userMessage": "inventory", "hasToolResult": true}, "response": {"toolCalls": [
            call("call_4", "write_file", json!({"path": "out/report.md", "content": "# One TODO\n"})),
        ]}},
    ]);
    let mut all = Vec::new();
    for api in APIS {
        let Some((mock, world)) = mocked(api, &fixtures).await else { return };
        std::fs::write(world.workspace.path().join("notes.txt"), "first\nTODO second\n").expect("a file");
        let ran = world.run(world.task("inventory of the folder")).await;
        all.push(format!("-- {api}\n{}\n{}", shown(&ran), asked(&mock.journal().await)));
        let report = std::fs::read_to_string(world.workspace.path().join("out/report.md")).expect("the report");
        assert_eq!(report, "# One TODO\n");
    }
    insta::assert_snapshot!(all.join("\n"));
}

#[tokio::test]
async fn a_rate_limit_is_waited_for() {
    let fixtures = json!([
        {"match": {"userMessage": "busy", "sequenceIndex": 0}, "response": {"error": {
            "message": "slow down", "type": "RESOURCE_EXHAUSTED"}, "status": 429, "retryAfter": 1}},
        {"match": {"userMessage": "busy", "sequenceIndex": 1}, "response": {"content": "Now."}},
    ]);
    for api in APIS {
        let Some((mock, world)) = mocked(api, &fixtures).await else { return };
        let ran = world.run(world.task("are you busy?")).await;
        assert_eq!((ran.error().as_str(), ran.outcome.output.as_str()), ("none", "Now."), "{api}");
        let retries = ran.notifications("retry");
        assert_eq!((&retries[0]["attempt"], &retries[0]["code"]), (&json!(1), &json!("rate-limited")));
        // The vendor's second is the floor of the wait.
        assert!(retries[0]["wait_ms"].as_u64().is_some_and(|wait| wait >= 1_000), "{retries:?}");
        assert_eq!((retries.len(), mock.journal().await.len()), (1, 2));
    }
}

#[tokio::test]
async fn a_key_that_the_vendor_refuses() {
    let fixtures = json!([{"match": {"userMessage": "hi"}, "response": {"content": "x"}}]);
    for api in APIS {
        let other = "AIzaSy-this-key-is-not-the-one-that-the-mock-takes";
        let Some((_mock, world)) = mocked_with(api, &fixtures, |setup| setup.key(Some(other))).await else { return };
        let ran = world.run(world.task("hi")).await;
        assert_eq!((ran.outcome.finish_reason, ran.error().as_str()), (FinishReason::Failed, "denied/credential"));
        assert!(!format!("{:?}", ran.outcome).contains(other));
        let report = world.host.availability("gemini", std::time::Duration::from_secs(5)).await.expect("a report");
        assert_eq!((report.status, report.reason.as_str()), ("not-ready", "missing-credentials"), "{report:?}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_in_the_stream() {
    let fixtures = json!([{
        "match": {"userMessage": "talk"}, "response": {"content": "one two three four five six seven eight"},
        "chunkSize": 4, "latency": 60, "truncateAfterChunks": 6,
    }]);
    for api in APIS {
        let Some((mock, world)) = mocked(api, &fixtures).await else { return };
        let ran = world.run(world.task("talk")).await;
        assert_eq!(
            (ran.outcome.finish_reason, ran.error().as_str()),
            (FinishReason::Failed, "unavailable/body-truncated"),
            "{}",
            shown(&ran)
        );
        // What was heard is kept, and nothing is asked again: the text would come twice.
        assert!(ran.outcome.output.starts_with("one "), "{api}: {}", ran.outcome.output);
        assert_eq!(ran.text(), ran.outcome.output);
        assert_eq!(ran.of(EventKind::StreamError).count(), 1);
        assert_eq!(mock.journal().await.len(), 1);
    }
}

/// Letters that come one by one, and would for half a minute.
fn slow() -> Value {
    json!([{"match": {"userMessage": "drip"}, "response": {"content": "drip ".repeat(60)}, "chunkSize": 1, "latency": 100}])
}

#[tokio::test]
async fn a_slow_drip_against_a_deadline() {
    for api in APIS {
        let Some((_mock, world)) = mocked(api, &slow()).await else { return };
        let mut task = world.task("drip");
        task.timeout_ms = Some(4_000);
        let ran = world.run(task).await;
        assert_eq!(
            (ran.outcome.finish_reason, ran.error().as_str()),
            (FinishReason::TimedOut, "cancelled/deadline"),
            "{}",
            shown(&ran)
        );
        assert!(ran.outcome.output.starts_with("drip") && ran.text() == ran.outcome.output, "{}", shown(&ran));
    }
}

#[tokio::test]
async fn a_cancel_in_the_stream_keeps_what_was_heard() {
    for api in APIS {
        let Some((mock, world)) = mocked(api, &slow()).await else { return };
        let mut run = world.host.run(world.request(world.task("drip"))).await.expect("a run");
        let mut events = world.host.subscribe(run.id(), 1).await.expect("events");
        while let Some(records) = events.next().await.expect("records") {
            if records.iter().any(|record| record.kind == EventKind::AssistantText) {
                break;
            }
        }
        assert_eq!(world.host.cancel(run.id()).await.expect("a receipt"), CancelReceipt::Requested);
        let outcome = run.outcome().await.expect("an outcome");
        let ran = world.ran(run.id(), outcome).await;
        assert_eq!(
            (ran.outcome.finish_reason, ran.error().as_str()),
            (FinishReason::Interrupted, "none"),
            "{}",
            shown(&ran)
        );
        assert!(
            !ran.outcome.output.is_empty() && "drip ".repeat(60).starts_with(&ran.outcome.output),
            "{}",
            shown(&ran)
        );
        assert!(ran.outcome.session_id.is_some(), "it can be continued");
        assert_eq!(mock.journal().await.len(), 1);
    }
}

#[tokio::test]
async fn a_structured_answer_is_repaired() {
    let answer = |answer: Value| json!({"toolCalls": [{"id": "call_1", "name": "return_result", "arguments": json!({"answer": answer}).to_string()}]});
    let fixtures = json!([
        {"match": {"userMessage": "multiply", "hasToolResult": false}, "response": answer(json!("forty-two"))},
        {"match": {"userMessage": "multiply", "toolResultContains": "does not fit the schema"}, "response": answer(json!(42))},
    ]);
    for api in APIS {
        let Some((mock, world)) = mocked(api, &fixtures).await else { return };
        let mut task = world.task("multiply six by seven");
        task.output_schema = Some(
            json!({"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"], "additionalProperties": false}),
        );
        let ran = world.run(task).await;
        assert_eq!(
            (ran.outcome.finish_reason, &ran.outcome.parsed_output),
            (FinishReason::Done, &Some(json!({"answer": 42}))),
            "{}",
            shown(&ran)
        );
        assert_eq!(mock.journal().await.len(), 2);
    }
}

#[tokio::test]
async fn a_reply_cut_at_its_most_tokens_or_by_a_filter() {
    let fixtures = json!([
        {"match": {"userMessage": "essay"}, "response": {"content": "It was a dark and", "finishReason": "length"}},
        {"match": {"userMessage": "recipe"}, "response": {"content": "First take", "finishReason": "content_filter"}},
    ]);
    // The mock ends an interaction in one way only; the others are scripted below.
    let Some((mock, world)) = mocked("generate-content", &fixtures).await else { return };
    for (goal, reason, error, output) in [
        ("essay", FinishReason::MaxTokens, "limit/max-tokens", "It was a dark and"),
        ("recipe", FinishReason::Failed, "denied/safety", "First take"),
    ] {
        let ran = world.run(world.task(goal)).await;
        assert_eq!((ran.outcome.finish_reason, ran.error().as_str()), (reason, error));
        assert_eq!(ran.outcome.output, output);
    }
    assert_eq!(mock.journal().await.len(), 2);
}

#[tokio::test]
async fn a_conversation_goes_on_after_a_restart() {
    let fixtures = json!([
        {"match": {"userMessage": "my number"}, "response": {"content": "I keep 7."}},
        {"match": {"userMessage": "which number"}, "response": {"content": "It was 7."}},
    ]);
    let mut all = Vec::new();
    for api in APIS {
        let Some((mock, world)) = mocked(api, &fixtures).await else { return };
        let first = world.run(world.task("my number is 7")).await;
        let session = first.outcome.session_id.clone().expect("a session");
        let world = world.reopened().await;
        let mut task = world.task("which number was it?");
        task.session_id = Some(session.clone());
        let second = world.run(task).await;
        assert_eq!(second.outcome.session_id, Some(session));
        all.push(asked(&mock.journal().await));
    }
    insta::assert_snapshot!(all.join("\n"));
}

// ---- Scripted answers

/// A stream as the vendor writes it: unnamed events, lines that end in CR LF.
fn sse(events: &[Value]) -> Vec<Step> {
    let text: String = events.iter().map(|event| format!("data: {event}\r\n\r\n")).collect();
    answer("200 OK", &[SSE], &[&text])
}

/// A response of `generateContent` with these parts, and a reason where it is the last.
fn content(parts: Value, reason: Option<&str>) -> Value {
    let mut response = json!({"candidates": [{"content": {"role": "model", "parts": parts}, "index": 0}], "modelVersion": "gemini-3.5-flash",
        "usageMetadata": {"promptTokenCount": 112, "cachedContentTokenCount": 100, "candidatesTokenCount": 7, "thoughtsTokenCount": 20, "totalTokenCount": 139}});
    if let Some(reason) = reason {
        response["candidates"][0]["finishReason"] = json!(reason);
    }
    response
}

fn said(text: &str) -> Vec<Step> {
    sse(&[content(json!([{"text": text}]), Some("STOP"))])
}

/// An interaction of one text that ends with a status.
fn interaction(id: &str, status: &str, text: &str) -> Vec<Step> {
    sse(&[
        json!({"event_type": "interaction.created", "interaction": {"id": id, "status": "in_progress", "model": "gemini-3.5-flash"}}),
        json!({"event_type": "step.start", "index": 0, "step": {"type": "model_output"}}),
        json!({"event_type": "step.delta", "index": 0, "delta": {"type": "text", "text": text}}),
        json!({"event_type": "step.stop", "index": 0}),
        json!({"event_type": "interaction.completed", "interaction": {"id": id, "status": status,
            "usage": {"total_input_tokens": 9, "total_output_tokens": 4, "total_thought_tokens": 2, "total_tokens": 15}}}),
    ])
}

/// An error body of Google's.
fn failed(status: &str, word: &str, details: Value) -> Vec<Step> {
    let code: u16 = status[..3].parse().expect("a status");
    let body = json!({"error": {"code": code, "message": format!("about {word}"), "status": word, "details": details}});
    answer(status, &[JSON], &[&body.to_string()])
}

fn quota(id: &str, delay: &str) -> Value {
    json!([
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": id}]},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay},
    ])
}

/// What is answered to each request, by its number.
type Answers = fn(usize) -> Vec<Step>;

/// How often the vendor is asked, and what comes of it.
#[tokio::test]
async fn scripted_answers() {
    let generate = "generate-content";
    let cases: [(&str, &str, Answers); 24] = [
        (generate, "a wrong request", |_| failed("400 Bad Request", "INVALID_ARGUMENT", json!([]))),
        (generate, "a wrong key", |_| {
            failed(
                "400 Bad Request",
                "INVALID_ARGUMENT",
                json!([{"reason": "API_KEY_INVALID", "domain": "googleapis.com"}]),
            )
        }),
        (generate, "no credential", |_| failed("401 Unauthorized", "UNAUTHENTICATED", json!([]))),
        (generate, "a service that is off", |_| failed("403 Forbidden", "PERMISSION_DENIED", json!([]))),
        (generate, "no such model", |_| failed("404 Not Found", "NOT_FOUND", json!([]))),
        (generate, "a short delay", |number| match number {
            0 => failed("429 Too Many Requests", "RESOURCE_EXHAUSTED", quota("RequestsPerMinute", "0.2s")),
            _ => said("Now."),
        }),
        (generate, "a delay that is too long", |_| {
            failed("429 Too Many Requests", "RESOURCE_EXHAUSTED", quota("RequestsPerMinute", "4000s"))
        }),
        (generate, "a quota per day", |_| {
            failed(
                "429 Too Many Requests",
                "RESOURCE_EXHAUSTED",
                quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier", "7s"),
            )
        }),
        (generate, "down", |_| failed("503 Service Unavailable", "UNAVAILABLE", json!([]))),
        (generate, "broken", |_| failed("500 Internal Server Error", "INTERNAL", json!([]))),
        (generate, "a prompt that is blocked", |_| {
            sse(&[
                json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 4, "totalTokenCount": 4}}),
            ])
        }),
        (generate, "a reply that is stopped", |_| sse(&[content(json!([{"text": "I can"}]), Some("RECITATION"))])),
        (generate, "a malformed call, then a good reply", |number| match number {
            0 => sse(&[content(json!([]), Some("MALFORMED_FUNCTION_CALL"))]),
            _ => said("Better."),
        }),
        (generate, "two malformed calls", |_| sse(&[content(json!([]), Some("MALFORMED_FUNCTION_CALL"))])),
        (generate, "an error event before output", |number| match number {
            0 => sse(&[json!({"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}})]),
            _ => said("Now."),
        }),
        (generate, "an error event after output", |_| {
            sse(&[
                content(json!([{"text": "Half of "}]), None),
                json!({"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}),
            ])
        }),
        (generate, "an end without a reason, after output", |_| sse(&[content(json!([{"text": "Half of "}]), None)])),
        (generate, "a page of HTML with status 200", |_| {
            answer("200 OK", &[("content-type", "text/html")], &["<html>Sign in</html>"])
        }),
        (generate, "data that is not JSON", |_| answer("200 OK", &[SSE], &["data: {\"candidates\": [\n\n"])),
        (generate, "a connection cut inside an event, before output", |number| match number {
            0 => vec![sse_head(), Step::Send(chunked("data: {\"candidates\": [{\"content\"")[..20].to_vec())],
            _ => said("Now."),
        }),
        ("interactions", "cut at its most tokens", |_| interaction("i-1", "incomplete", "It was")),
        ("interactions", "failed by the vendor", |_| interaction("i-1", "failed", "It was")),
        ("interactions", "an error event before output", |number| match number {
            0 => sse(&[json!({"event_type": "error", "error": {"code": "unavailable", "message": "overloaded"}})]),
            _ => interaction("i-1", "completed", "Now."),
        }),
        ("interactions", "an end without the last event", |_| {
            sse(&[
                json!({"event_type": "interaction.created", "interaction": {"id": "i-1", "status": "in_progress"}}),
                json!({"event_type": "step.start", "index": 0, "step": {"type": "model_output"}}),
                json!({"event_type": "step.delta", "index": 0, "delta": {"type": "text", "text": "Half of "}}),
            ])
        }),
    ];
    let mut all = Vec::new();
    for (api, name, script) in cases {
        let server = ScriptServer::start(move |number, _| script(number)).await;
        let world = setup(&server.url(), api).setting("retries_max", json!(1)).open().await;
        let ran = world.run(world.task("hi")).await;
        all.push(format!("-- {api}: {name} (asked {} times)\n{}", server.requests().len(), shown(&ran)));
    }
    insta::assert_snapshot!(all.join("\n"));
}

/// Head and body of each request, with what differs from run to run replaced.
fn on_the_wire(requests: &[Request], key: &str) -> String {
    let mut wire = Vec::new();
    for request in requests {
        wire.push(request.line.clone());
        for (name, value) in &request.headers {
            let value = match name.to_lowercase().as_str() {
                "host" => "<host>",
                "content-length" => "<length>",
                "user-agent" => "<agent>",
                _ => value,
            };
            wire.push(format!("{name}: {}", value.replace(key, "<key>")));
        }
        let mut body = request.json();
        let list = if body["tools"][0]["functionDeclarations"].is_array() {
            &mut body["tools"][0]["functionDeclarations"]
        } else {
            &mut body["tools"]
        };
        for tool in list.as_array_mut().into_iter().flatten() {
            // Their words are held by the tests of the tools.
            tool["description"] = json!("<description>");
            let schema = if tool["parametersJsonSchema"].is_object() { "parametersJsonSchema" } else { "parameters" };
            assert_eq!(tool[schema]["type"], "object");
            tool[schema] = json!("<schema>");
        }
        for place in ["/systemInstruction/parts/0/text", "/system_instruction"] {
            if let Some(system) = body.pointer_mut(place) {
                *system = json!("<system>");
            }
        }
        wire.push(serde_json::to_string_pretty(&body).expect("JSON"));
    }
    wire.join("\n")
}

/// The bytes on the wire: head and body of each request of a thinking tool loop, over both APIs.
#[tokio::test]
async fn requests_are_what_the_vendor_wants() {
    let script = |number: usize, request: &Request| {
        let step = |index: u64, step: Value, delta: Value| {
            [
                json!({"event_type": "step.start", "index": index, "step": step}),
                json!({"event_type": "step.delta", "index": index, "delta": delta}),
                json!({"event_type": "step.stop", "index": index}),
            ]
        };
        match (request.line.contains("/interactions"), number) {
            (false, 0) => {
                let events = [
                    content(json!([{"text": "Let me look.", "thought": true}]), None),
                    content(
                        json!([{"functionCall": {"name": "list_dir", "args": {}}, "thoughtSignature": "c2lnMQ=="}]),
                        None,
                    ),
                    content(json!([{"functionCall": {"name": "read_file", "args": {"path": "a.txt"}}}]), Some("STOP")),
                ];
                // One byte of body in a chunk of the transport: nothing depends on where it is cut.
                let body: String = events.iter().map(|event| format!("data: {event}\r\n\r\n")).collect();
                let letters: Vec<&str> = body.split_inclusive(|_: char| true).collect();
                answer("200 OK", &[SSE], &letters)
            }
            (false, _) => said("Done."),
            (true, 0) => {
                let thought =
                    step(0, json!({"type": "thought"}), json!({"type": "thought_signature", "signature": "c2lnMQ=="}));
                let call = |index: u64, id: &str, name: &str, arguments: &str| {
                    step(
                        index,
                        json!({"type": "function_call", "id": id, "name": name}),
                        json!({"type": "arguments_delta", "arguments": arguments}),
                    )
                };
                let end = json!({"event_type": "interaction.completed", "interaction": {"id": "i-1", "status": "requires_action"}});
                let events = [
                    &thought[..],
                    &call(1, "c1", "list_dir", "{}"),
                    &call(2, "c2", "read_file", "{\"path\":\"a.txt\"}"),
                    &[end],
                ];
                sse(&events.concat())
            }
            (true, _) => interaction("i-2", "completed", "Done."),
        }
    };
    let mut wire = Vec::new();
    for (api, store) in [("generate-content", false), ("interactions", true), ("interactions", false)] {
        let server = ScriptServer::start(script).await;
        let world = setup(&server.url(), api).setting("store", json!(store)).open().await;
        std::fs::write(world.workspace.path().join("a.txt"), "alpha\n").expect("a file");
        let mut task = world.task("look");
        task.reasoning_effort = Some("low".to_owned());
        task.permissions.allowed_tools = vec!["list_dir".to_owned(), "read_file".to_owned()];
        let ran = world.run(task).await;
        for request in server.requests() {
            // Under its name once, with the value that the host put there, and nowhere else.
            assert_eq!(request.header("x-goog-api-key"), [KEY]);
            assert!(!String::from_utf8_lossy(&request.body).contains(KEY) && !request.line.contains(KEY));
        }
        wire.push(format!("-- {api}, store {store}\n{}\n{}", on_the_wire(&server.requests(), KEY), shown(&ran)));
    }
    insta::assert_snapshot!(wire.join("\n"));
}

/// Vertex AI: the host exchanges the account for a token, which is in no place but the request.
#[tokio::test]
async fn an_account_of_google_cloud_is_exchanged_by_the_host() {
    const TOKEN: &str = "ya29.c0AZ-token_of.the_account";
    let server = ScriptServer::start(|number, request| match request.line.as_str() {
        "POST /token HTTP/1.1" => {
            let body = json!({"access_token": TOKEN, "expires_in": 3599, "token_type": "Bearer"});
            answer("200 OK", &[JSON], &[&body.to_string()])
        }
        // A server that repeats what it was sent.
        _ if number == 1 => sse(&[content(
            json!([{"text": request.header("authorization")[0]}, {"functionCall": {"name": "list_dir"}}]),
            Some("STOP"),
        )]),
        _ => said("Done."),
    })
    .await;
    let account = json!({"type": "authorized_user", "client_id": "me.apps", "client_secret": "hush-hush-hush",
        "refresh_token": "1//refresh-me", "token_uri": format!("{}/token", server.url())});
    let world = Setup::of("gemini", Some("GOOGLE_CREDENTIALS"), &server.url())
        .key(Some(&account.to_string()))
        .setting("credential", json!("vertex"))
        .setting("vertex_project", json!("my-project"))
        .setting("vertex_location", json!("europe-west4"))
        .open()
        .await;
    // The endpoint of the account is the operator's word; its address on this machine is granted like any other.
    let ran = world.run(world.task("look")).await;
    assert_eq!(ran.error(), "denied/address-refused", "{}", shown(&ran));
    assert_eq!(server.requests().len(), 0);
    world.host.allow("gemini", &"address:127.0.0.1".parse().expect("a grant")).await.expect("allowed");

    for _ in 0..2 {
        let ran = world.run(world.task("look")).await;
        assert_eq!((ran.error().as_str(), ran.outcome.output.as_str()), ("none", "Done."));
    }
    let requests = server.requests();
    let lines: Vec<&str> = requests.iter().map(|request| request.line.as_str()).collect();
    let model = "POST /v1/projects/my-project/locations/europe-west4/publishers/google/models/gemini-3.5-flash:streamGenerateContent?alt=sse HTTP/1.1";
    assert_eq!(lines, ["POST /token HTTP/1.1", model, model, model], "one token for both runs");
    assert!(requests[1..].iter().all(|request| request.header("authorization") == [format!("Bearer {TOKEN}")]));
    assert!(requests[1..].iter().all(|request| request.header("x-goog-api-key").is_empty()));
    let sent_back = String::from_utf8_lossy(&requests[2].body).into_owned();
    assert!(sent_back.contains("Bearer [redacted:GOOGLE_CREDENTIALS]") && !sent_back.contains(TOKEN), "{sent_back}");

    // Neither in the log nor in any file of the host.
    let mut folders = vec![world.home.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                folders.push(entry);
                continue;
            }
            let bytes = std::fs::read(&entry).expect("a file");
            for secret in [TOKEN, "refresh-me", "hush-hush"] {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "`{secret}` is in {}", entry.display());
            }
        }
    }
}
