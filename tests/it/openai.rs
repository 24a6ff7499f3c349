//! The OpenAI plugin through the library, over both of its APIs, against scripted answers for the shapes that `aimock` does
//! not make. What it does like every adapter is in `wires`.

use serde_json::{Value, json};

use crate::script_server::{ScriptServer, Step, answer, chunked, sse, sse_head};
use crate::wires::shown;
use crate::world::{KEY, Setup};

const SSE: (&str, &str) = ("content-type", "text/event-stream");
/// Both values of the setting `api`.
const APIS: [&str; 2] = ["responses", "chat"];

fn setup(url: &str, api: &str) -> Setup {
    Setup::of("openai", Some("OPENAI_API_KEY"), url).setting("api", json!(api)).setting("model", json!("gpt-mocked"))
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
