//! The Gemini plugin through the library, over both of its APIs, against scripted answers in the vendor's own shapes, from
//! which `aimock` departs. Vertex AI with a token of the host's. What it does like every adapter is in `wires`.

use serde_json::{Value, json};

use crate::script_server::{Request, ScriptServer, Step, answer, chunked, sse_head};
use crate::wires::shown;
use crate::world::{KEY, Setup};

const SSE: (&str, &str) = ("content-type", "text/event-stream");
const JSON: (&str, &str) = ("content-type", "application/json; charset=UTF-8");

/// The mock keeps no interaction, so all steps are sent each time.
fn setup(url: &str, api: &str) -> Setup {
    Setup::of("gemini", Some("GEMINI_API_KEY"), url)
        .setting("api", json!(api))
        .setting("store", json!(false))
        .setting("model", json!("gemini-3.5-flash"))
}

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
