//! The OpenAI plugin through the library, over both of its APIs: against `aimock`, whose journal says what it was sent, and
//! against scripted answers for the shapes that `aimock` does not make.

use midplane::CancelReceipt;
use midplane::core::event::EventKind;
use midplane::core::outcome::FinishReason;
use serde_json::{Value, json};

use crate::peer::Aimock;
use crate::script_server::{ScriptServer, Step, answer, chunked, sse, sse_head};
use crate::world::{KEY, Ran, Setup, World};

const SSE: (&str, &str) = ("content-type", "text/event-stream");
/// Both values of the setting `api`.
const APIS: [&str; 2] = ["responses", "chat"];

fn setup(url: &str, api: &str) -> Setup {
    Setup::of("openai", Some("OPENAI_API_KEY"), url).setting("api", json!(api)).setting("model", json!("gpt-mocked"))
}

/// A mock with these fixtures and a host in front of it, or none where the mock is not installed.
async fn mocked(api: &str, fixtures: &Value) -> Option<(Aimock, World)> {
    mocked_with(api, fixtures, |setup| setup).await
}

async fn mocked_with(api: &str, fixtures: &Value, set: impl FnOnce(Setup) -> Setup) -> Option<(Aimock, World)> {
    let mock = Aimock::start(KEY, &json!({ "fixtures": fixtures })).await?;
    let world = set(setup(&format!("{}/v1", mock.url()), api)).open().await;
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
        "response": {"content": "Hello from the mock, ünïcode too.", "reasoning": "A greeting.", "usage": {
            "input_tokens": 11, "output_tokens": 7, "prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}},
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
        assert_eq!(head["authorization"], "[REDACTED]");
        assert_eq!((&head["x-api-key"], &head["api-key"]), (&Value::Null, &Value::Null));
        assert_eq!((&body["model"], &body["stream"]), (&json!("gpt-mocked"), &json!(true)));
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
            "message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}, "status": 429, "retryAfter": 1}},
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

/// What the vendor answers instead of a stream: how often it is asked, and how the run ends.
#[tokio::test]
async fn errors_of_the_vendor() {
    let error = |word: &str, code: &str, status: u16| {
        json!({"match": {"userMessage": word}, "response": {"error": {
            "message": format!("about {word}"), "type": "invalid_request_error", "code": code}, "status": status}})
    };
    let cases = [
        ("wrong", "invalid_value", 400),
        ("long", "context_length_exceeded", 400),
        ("elsewhere", "unsupported_country_region_territory", 403),
        ("unknown", "model_not_found", 404),
        ("large", "request_too_large", 413),
        ("spent", "insufficient_quota", 429),
        ("capped", "organization_spend_limit_exceeded", 429),
        ("hasty", "slow_down", 429),
        ("down", "server_error", 500),
        ("crowded", "service_unavailable", 503),
    ];
    let fixtures = json!(cases.map(|(word, code, status)| error(word, code, status)));
    let mut lines = Vec::new();
    for api in APIS {
        let Some((mock, world)) = mocked_with(api, &fixtures, |setup| setup.setting("retries_max", json!(1))).await
        else {
            return;
        };
        for (goal, ..) in cases {
            let before = mock.journal().await.len();
            let ran = world.run(world.task(goal)).await;
            let asked = mock.journal().await.len() - before;
            let (reason, error) = (ran.outcome.finish_reason.as_str(), ran.error());
            lines.push(format!("{api} {goal}: {reason} {error}, asked {asked} times"));
        }
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[tokio::test]
async fn a_key_that_the_vendor_refuses() {
    let fixtures = json!([{"match": {"userMessage": "hi"}, "response": {"content": "x"}}]);
    for api in APIS {
        let other = "sk-proj-this-key-is-not-the-one-that-the-mock-takes";
        let Some((_mock, world)) = mocked_with(api, &fixtures, |setup| setup.key(Some(other))).await else { return };
        let ran = world.run(world.task("hi")).await;
        assert_eq!((ran.outcome.finish_reason, ran.error().as_str()), (FinishReason::Failed, "denied/credential"));
        assert!(!format!("{:?}", ran.outcome).contains(other));
        let report = world.host.availability("openai", std::time::Duration::from_secs(5)).await.expect("a report");
        assert_eq!((report.status, report.reason.as_str()), ("not-ready", "missing-credentials"), "{report:?}");
    }
}

/// A server without keys is a setting: no secret is needed, granted or sent. Azure's header is another.
#[tokio::test]
async fn the_key_is_sent_as_the_setting_says() {
    for (credential, secret, sent) in [
        ("anonymous", None, [0, 0]),
        ("bearer", Some("OPENAI_API_KEY"), [1, 0]),
        ("api-key", Some("OPENAI_API_KEY"), [0, 1]),
    ] {
        let server = ScriptServer::start(|_, _| chat(&[text_chunk("Hi", Some("stop"))])).await;
        let world = Setup::of("openai", secret, &server.url())
            .key(secret.map(|_| KEY))
            .setting("api", json!("chat"))
            .setting("credential", json!(credential))
            .open()
            .await;
        let ran = world.run(world.task("hi")).await;
        assert_eq!(ran.outcome.output, "Hi", "{credential}: {}", ran.error());
        let requests = server.requests();
        let found = [requests[0].header("authorization").len(), requests[0].header("api-key").len()];
        assert_eq!(found, sent, "{credential}");
        assert_eq!(requests[0].line, "POST /chat/completions HTTP/1.1");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_in_the_stream() {
    let fixtures = json!([{
        "match": {"userMessage": "talk"}, "response": {"content": "one two three four five six seven eight"},
        "chunkSize": 4, "latency": 60, "truncateAfterChunks": 9,
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
async fn a_reply_cut_at_its_most_tokens() {
    let fixtures = json!([{"match": {"userMessage": "essay"}, "response": {"content": "It was a dark and", "finishReason": "length"}}]);
    for api in APIS {
        let Some((_mock, world)) = mocked(api, &fixtures).await else { return };
        let ran = world.run(world.task("essay")).await;
        assert_eq!((ran.outcome.finish_reason, ran.error().as_str()), (FinishReason::MaxTokens, "limit/max-tokens"));
        assert_eq!(ran.outcome.output, "It was a dark and");
    }
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

fn text_chunk(text: &str, finish: Option<&str>) -> Value {
    json!({"id": "chatcmpl-1", "model": "gpt-scripted", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]})
}

/// An SSE answer of Chat Completions, with its end.
fn chat(chunks: &[Value]) -> Vec<Step> {
    let text: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    answer("200 OK", &[SSE], &[&text, "data: [DONE]\n\n"])
}

fn delta(text: &str) -> Value {
    json!({"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": text})
}

fn ended(status: &str, more: Value) -> Value {
    let mut response = json!({"id": "resp_1", "status": status, "model": "gpt-scripted", "usage": {
        "input_tokens": 20, "input_tokens_details": {"cached_tokens": 16}, "output_tokens": 3, "total_tokens": 23}});
    for (name, value) in more.as_object().expect("an object") {
        response[name] = value.clone();
    }
    json!({"type": format!("response.{status}"), "response": response})
}

fn said(text: &str) -> Vec<Value> {
    let item = json!({"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": [{"type": "output_text", "text": text, "annotations": []}]});
    vec![
        delta(text),
        json!({"type": "response.output_item.done", "output_index": 0, "item": item}),
        ended("completed", json!({})),
    ]
}

/// What is answered to each request, by its number.
type Answers = fn(usize) -> Vec<Step>;

/// Answers that `aimock` does not make: how often the vendor is asked, and what comes of it.
#[tokio::test]
async fn scripted_answers() {
    let cases: [(&str, &str, Answers); 15] = [
        ("responses", "a refusal", |_| {
            let item = json!({"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "I cannot."}]});
            sse(&[
                json!({"type": "response.refusal.delta", "delta": "I cannot."}),
                json!({"type": "response.output_item.done", "output_index": 0, "item": item}),
                ended("completed", json!({})),
            ])
        }),
        ("responses", "cut by its most tokens", |_| {
            sse(&[delta("Half"), ended("incomplete", json!({"incomplete_details": {"reason": "max_output_tokens"}}))])
        }),
        ("responses", "cut by the content filter", |_| {
            sse(&[delta("Half"), ended("incomplete", json!({"incomplete_details": {"reason": "content_filter"}}))])
        }),
        ("responses", "failed before output is repeated", |number| match number {
            0 => sse(&[ended("failed", json!({"error": {"code": "server_error", "message": "broke"}}))]),
            _ => sse(&said("Now.")),
        }),
        ("responses", "an error event after output is not", |_| {
            sse(&[
                delta("Half of "),
                json!({"type": "error", "code": "server_error", "message": "broke", "param": null}),
            ])
        }),
        ("responses", "a clean end without a last event, before output", |number| match number {
            0 => sse(&[json!({"type": "response.created", "response": {"model": "gpt-scripted"}})]),
            _ => sse(&said("Now.")),
        }),
        ("responses", "a clean end without a last event, after output", |_| sse(&[delta("Half of ")])),
        ("responses", "data that is not JSON", |_| answer("200 OK", &[SSE], &["data: {\"type\": \"response.cr\n\n"])),
        ("responses", "a page of HTML with status 200", |_| {
            answer("200 OK", &[("content-type", "text/html")], &["<html>Sign in</html>"])
        }),
        ("responses", "a page of HTML with status 502", |_| {
            answer("502 Bad Gateway", &[("content-type", "text/html")], &["<html>Bad gateway</html>"])
        }),
        ("responses", "a wait that the vendor wants too long", |_| {
            let body = json!({"error": {"code": "rate_limit_exceeded", "message": "slow down"}}).to_string();
            let headers = [
                ("content-type", "application/json"),
                ("x-ratelimit-remaining-tokens", "0"),
                ("x-ratelimit-reset-tokens", "6m0s"),
            ];
            answer("429 Too Many Requests", &headers, &[&body])
        }),
        ("chat", "a refusal", |_| {
            chat(&[json!({"choices": [{"delta": {"refusal": "I cannot."}, "finish_reason": "stop"}]})])
        }),
        ("chat", "a server without `[DONE]`", |_| {
            answer("200 OK", &[SSE], &[&format!("data: {}\n\n", text_chunk("Whole.", Some("stop")))])
        }),
        ("chat", "a clean end without a finish reason, after output", |_| {
            answer("200 OK", &[SSE], &[&format!("data: {}\n\n", text_chunk("Half of ", None))])
        }),
        ("chat", "a connection cut inside a chunk, before output", |number| match number {
            0 => vec![sse_head(), Step::Send(chunked("data: {\"id\": \"chat")[..12].to_vec())],
            _ => chat(&[text_chunk("Now.", Some("stop"))]),
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

/// The bytes on the wire: head and body of each request of a thinking tool loop, over both APIs.
#[tokio::test]
async fn requests_are_what_the_vendor_wants() {
    let script = |number: usize, request: &crate::script_server::Request| {
        let over_chat = request.line.contains("/chat/completions");
        match (over_chat, number) {
            (false, 0) => {
                let reasoning =
                    json!({"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "gAAAAABo=="});
                let call = |id: &str, name: &str, arguments: &str| json!({"id": format!("fc_{id}"), "type": "function_call", "status": "completed", "call_id": id, "name": name, "arguments": arguments});
                let items =
                    [reasoning, call("call_1", "list_dir", "{}"), call("call_2", "read_file", "{\"path\":\"a.txt\"}")];
                let mut events: Vec<Value> = items
                    .into_iter()
                    .enumerate()
                    .map(|(index, item)| json!({"type": "response.output_item.done", "output_index": index, "item": item}))
                    .collect();
                events.push(ended("completed", json!({})));
                // One byte of body in a chunk of the transport: nothing depends on where it is cut.
                let body = crate::script_server::sse_text(&events);
                let letters: Vec<&str> = body.split_inclusive(|_: char| true).collect();
                answer("200 OK", &[SSE], &letters)
            }
            (false, _) => sse(&said("Done.")),
            (true, 0) => chat(&[
                json!({"model": "gpt-scripted", "choices": [{"delta": {"role": "assistant", "content": null, "reasoning_content": "Let me look."}}]}),
                json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "list_dir", "arguments": ""}}]}}]}),
                json!({"choices": [{"delta": {"tool_calls": [{"index": 1, "id": "call_2", "function": {"name": "read_file", "arguments": "{\"pa"}}]}}]}),
                json!({"choices": [{"delta": {"tool_calls": [{"index": 1, "function": {"arguments": "th\":\"a.txt\"}"}}]}, "finish_reason": "tool_calls"}]}),
            ]),
            (true, _) => chat(&[text_chunk("Done.", Some("stop"))]),
        }
    };
    let mut wire = Vec::new();
    for api in APIS {
        let server = ScriptServer::start(script).await;
        let world = setup(&server.url(), api).setting("reasoning_summary", json!("auto")).open().await;
        std::fs::write(world.workspace.path().join("a.txt"), "alpha\n").expect("a file");
        let mut task = world.task("look");
        task.reasoning_effort = Some("low".to_owned());
        task.permissions.allowed_tools = vec!["list_dir".to_owned(), "read_file".to_owned()];
        let ran = world.run(task).await;
        for request in server.requests() {
            // Once, with what the host put there, and nowhere else.
            assert_eq!(request.header("authorization"), [format!("Bearer {KEY}")]);
            assert!(!String::from_utf8_lossy(&request.body).contains(KEY));
            wire.push(request.line.clone());
            for (name, value) in &request.headers {
                let value = match name.to_lowercase().as_str() {
                    "authorization" => "<key>",
                    "host" => "<host>",
                    "content-length" => "<length>",
                    "user-agent" => "<agent>",
                    _ => value,
                };
                wire.push(format!("{name}: {value}"));
            }
            let mut body = request.json();
            for tool in body["tools"].as_array_mut().into_iter().flatten() {
                // Their words are held by the tests of the tools.
                let function = if api == "chat" { &mut tool["function"] } else { tool };
                function["description"] = json!("<description>");
                function["parameters"] = json!("<schema>");
            }
            *(if api == "chat" { &mut body["messages"][0]["content"] } else { &mut body["instructions"] }) =
                json!("<system>");
            wire.push(serde_json::to_string_pretty(&body).expect("JSON"));
        }
        wire.push(shown(&ran));
    }
    insta::assert_snapshot!(wire.join("\n"));
}
