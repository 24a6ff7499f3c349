//! The adapter with a scripted host. The streams have the shapes of the vendor and of the servers that are compatible
//! with it, each with what it leaves out.

use midplane_plugin::agent::{Agent, Outcome, Session, Task};
use midplane_plugin::agent_loop::RETURN_RESULT;
use midplane_plugin::testing::{FakeHost, Reply, record, task};
use midplane_plugin::{ErrorKind, Value, json};

use super::*;

fn host(api: &str) -> FakeHost {
    FakeHost::new()
        .setting("base_url", "https://api.openai.com/v1/")
        .setting("api", api)
        .setting("model", "gpt-test")
        .setting("efforts", r#"["low","high"]"#)
        .setting("reasoning_summary", "auto")
        .setting("extra", "{}")
        .setting("headers", "{}")
}

/// A stream of the Responses API: each event has its type as name too.
fn responses(events: &[Value]) -> Reply {
    let body: String = events
        .iter()
        .map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or("message")))
        .collect();
    Reply::stream(&body, 11)
}

/// A stream of Chat Completions with its end.
fn chat(chunks: &[Value]) -> Reply {
    Reply::stream(&format!("{}data: [DONE]\n\n", chat_text(chunks)), 11)
}

fn chat_text(chunks: &[Value]) -> String {
    chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect()
}

fn created() -> Value {
    json!({"type": "response.created", "sequence_number": 0, "response": {"id": "resp_1", "status": "in_progress", "model": "gpt-test-2026-10-01", "output": []}})
}

fn completed(status: &str, more: Value) -> Value {
    let mut response = json!({"id": "resp_1", "status": status, "model": "gpt-test-2026-10-01", "error": null, "incomplete_details": null, "usage": {
        "input_tokens": 120, "input_tokens_details": {"cached_tokens": 100}, "output_tokens": 30,
        "output_tokens_details": {"reasoning_tokens": 12}, "total_tokens": 150}});
    for (name, value) in more.as_object().expect("an object") {
        response[name] = value.clone();
    }
    json!({"type": format!("response.{status}"), "response": response})
}

fn item_done(index: u64, item: Value) -> Value {
    json!({"type": "response.output_item.done", "output_index": index, "item": item})
}

fn message_item(text: &str) -> Value {
    json!({"id": "msg_1", "type": "message", "status": "completed", "role": "assistant",
        "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": text}]})
}

/// A text as the Responses API streams it.
fn says(text: &str) -> Vec<Value> {
    let mut events = vec![
        created(),
        json!({"type": "response.in_progress", "response": {}}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": {"id": "msg_1", "type": "message", "status": "in_progress", "role": "assistant", "content": []}}),
        json!({"type": "response.content_part.added", "output_index": 0, "content_index": 0, "part": {"type": "output_text", "text": ""}}),
    ];
    for word in text.split_inclusive(' ') {
        events.push(json!({"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": word}));
    }
    events.push(json!({"type": "response.output_text.done", "text": text}));
    events.push(item_done(0, message_item(text)));
    events.push(completed("completed", json!({})));
    events
}

fn function_call(id: &str, name: &str, arguments: &str) -> Value {
    json!({"id": format!("fc_{id}"), "type": "function_call", "status": "completed", "call_id": id, "name": name, "arguments": arguments})
}

fn chunk(delta: Value, finish: Option<&str>) -> Value {
    json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-test-2026-10-01",
        "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}], "usage": null})
}

/// A text as OpenAI streams it in Chat Completions.
fn chats(text: &str) -> Vec<Value> {
    let mut chunks = vec![chunk(json!({"role": "assistant", "content": "", "refusal": null}), None)];
    chunks.extend(text.split_inclusive(' ').map(|word| chunk(json!({"content": word}), None)));
    chunks.push(chunk(json!({}), Some("stop")));
    chunks.push(json!({"id": "chatcmpl-1", "choices": [], "usage": {"prompt_tokens": 120, "completion_tokens": 30, "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 100}, "completion_tokens_details": {"reasoning_tokens": 12}}}));
    chunks
}

fn run(host: &FakeHost, task: Task) -> Outcome {
    OpenAi::run(host, task).expect("an outcome")
}

#[test]
fn responses_reasoning_and_parallel_calls_go_back_unchanged() {
    let reasoning = json!({"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "**Looking**"}], "encrypted_content": "gAAAA=="});
    let calls = [function_call("call_a", "read_file", r#"{"path":"a"}"#), function_call("call_b", "shell", "")];
    let thought = |index: u64, text: &str| {
        [
            json!({"type": "response.reasoning_summary_part.added", "output_index": 0, "summary_index": index}),
            json!({"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": index, "delta": text}),
        ]
    };
    let mut first = vec![created()];
    first.extend(thought(0, "**Looking**"));
    first.extend(thought(1, "**Reading**"));
    first.extend([
        item_done(0, reasoning),
        json!({"type": "response.output_item.added", "output_index": 1, "item": {"type": "function_call", "call_id": "call_a", "arguments": ""}}),
        json!({"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "{\"path\":\"a\"}"}),
        // Items may be done in another order than they began.
        item_done(2, calls[1].clone()),
        item_done(1, calls[0].clone()),
        json!({"type": "response.something_new", "delta": 5}),
        completed("completed", json!({})),
    ]);
    let host =
        host("responses").tools(&["read_file", "shell"]).reply(responses(&first)).reply(responses(&says("All done.")));
    let mut work = task("work");
    work.system = Some("Be brief.".into());
    work.reasoning_effort = Some("high".into());
    insta::assert_snapshot!(record::<OpenAi>(&host, work));
}

#[test]
fn chat_calls_in_pieces_go_back_with_their_thoughts() {
    let piece = |value: Value| chunk(json!({"tool_calls": [value]}), None);
    let first = [
        chunk(json!({"role": "assistant", "content": null, "reasoning_content": "I "}), None),
        chunk(json!({"content": null, "reasoning_content": "look."}), None),
        piece(
            json!({"index": 0, "id": "call_a", "type": "function", "function": {"name": "read_file", "arguments": ""}}),
        ),
        piece(json!({"index": 0, "function": {"arguments": "{\"path\":"}})),
        piece(json!({"index": 1, "id": "call_b", "type": "function", "function": {"name": "shell", "arguments": ""}})),
        piece(json!({"index": 0, "function": {"arguments": "\"a\"}"}})),
        json!({"id": "x", "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "tool_calls"}],
            "usage": {"prompt_tokens": 40, "prompt_cache_hit_tokens": 32, "prompt_cache_miss_tokens": 8, "completion_tokens": 9, "total_tokens": 49}}),
    ];
    let host = host("chat").tools(&["read_file", "shell"]).reply(chat(&first)).reply(chat(&chats("All done.")));
    let mut work = task("work");
    work.system = Some("Be brief.".into());
    work.reasoning_effort = Some("high".into());
    insta::assert_snapshot!(record::<OpenAi>(&host, work));
}

/// What compatible servers make of tool calls: the calls that the host is asked for.
#[test]
fn chat_calls_are_told_apart_whatever_a_server_leaves_out() {
    let call = |value: Value| chunk(json!({"tool_calls": [value]}), None);
    let function = |name: &str, arguments: &str| json!({"name": name, "arguments": arguments});
    let cases: [(&str, Vec<Value>); 6] = [
        (
            "the same index for all",
            vec![
                call(json!({"index": 0, "id": "a", "function": function("shell", "{\"n\":1}")})),
                call(json!({"index": 0, "id": "b", "function": function("shell", "{\"n\":2}")})),
            ],
        ),
        (
            "no index",
            vec![
                call(json!({"id": "a", "function": function("shell", "{\"n\":")})),
                call(json!({"function": {"arguments": "1}"}})),
                call(json!({"id": "b", "function": function("shell", "{\"n\":2}")})),
            ],
        ),
        (
            "neither index nor id",
            vec![
                call(json!({"function": function("shell", "{\"n\":1}")})),
                call(json!({"function": function("shell", "{\"n\":2}")})),
            ],
        ),
        (
            "no id",
            vec![
                call(json!({"index": 0, "function": function("shell", "{\"n\":1}")})),
                call(json!({"index": 1, "function": function("shell", "{\"n\":2}")})),
            ],
        ),
        (
            "name and id with each piece",
            vec![
                call(json!({"index": 0, "id": "a", "function": function("shell", "{\"n\":")})),
                call(json!({"index": 0, "id": "a", "function": function("shell", "1}")})),
            ],
        ),
        (
            "arguments as an object",
            vec![call(json!({"index": 0, "id": "a", "function": {"name": "shell", "arguments": {"n": 1}}}))],
        ),
    ];
    let mut lines = Vec::new();
    for (name, mut chunks) in cases {
        chunks.push(chunk(json!({}), Some("stop")));
        let host = host("chat").tools(&["shell"]).reply(chat(&chunks)).reply(chat(&chats("ok")));
        run(&host, task("work"));
        let calls: Vec<String> =
            host.calls().iter().flatten().map(|call| format!("{} {}", call.id, call.arguments)).collect();
        lines.push(format!("{name}: {}", calls.join(", ")));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

/// How a reply ends, and what is made of it.
#[test]
fn each_end_of_a_reply_has_its_finish_reason() {
    let text = |value: Value| vec![chunk(json!({"role": "assistant", "content": "Half"}), None), value];
    let incomplete = |reason: &str| {
        let mut events = says("Half");
        events.pop();
        events.push(completed("incomplete", json!({"incomplete_details": {"reason": reason}})));
        responses(&events)
    };
    let refused = [
        created(),
        json!({"type": "response.refusal.delta", "delta": "I cannot help with that."}),
        item_done(
            0,
            json!({"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "I cannot help with that."}]}),
        ),
        completed("completed", json!({})),
    ];
    // As the mock has it: the event says completed, its response says incomplete.
    let mut mocked = says("Half");
    mocked.pop();
    mocked.push(json!({"type": "response.completed", "response": {"status": "incomplete"}}));
    let failed = |error: Value| responses(&[created(), completed("failed", json!({"error": error}))]);
    let mut after_text = says("Half");
    after_text.truncate(5);
    after_text.push(json!({"type": "error", "code": "server_error", "message": "broke", "param": null}));
    let mut truncated = says("Half");
    truncated.pop();
    let cases: Vec<(&str, &str, Reply)> = vec![
        ("stop", "chat", chat(&chats("Whole"))),
        ("length", "chat", chat(&text(chunk(json!({}), Some("length"))))),
        ("content filter", "chat", chat(&text(chunk(json!({}), Some("content_filter"))))),
        ("refusal", "chat", chat(&[chunk(json!({"refusal": "I cannot."}), None), chunk(json!({}), Some("stop"))])),
        ("error in a chunk", "chat", chat(&text(json!({"error": {"code": 502, "message": "upstream"}})))),
        (
            "error word in a chunk",
            "chat",
            chat(&text(json!({"error": {"message": "no credit", "type": "insufficient_quota"}}))),
        ),
        ("broken off", "chat", chat(&text(chunk(json!({}), Some("insufficient_system_resource"))))),
        (
            "without `[DONE]`",
            "chat",
            Reply::stream(&format!("data: {}\n\n", chunk(json!({"content": "Whole"}), Some("stop"))), 9),
        ),
        ("cut", "chat", Reply::stream(&format!("data: {}\n\n", chunk(json!({"content": "Half"}), None)), 9)),
        ("`[DONE]` without a finish reason", "chat", chat(&[chunk(json!({"content": "Half"}), None)])),
        ("no JSON", "chat", Reply::stream("data: {\"choices\": [\n\n", 9)),
        ("completed", "responses", responses(&says("Whole"))),
        ("max_output_tokens", "responses", incomplete("max_output_tokens")),
        ("max_output_tokens of the mock", "responses", responses(&mocked)),
        ("content_filter", "responses", incomplete("content_filter")),
        ("an unknown reason", "responses", incomplete("moon_phase")),
        ("refusal", "responses", responses(&refused)),
        ("failed by content", "responses", failed(json!({"code": "invalid_prompt", "message": "flagged"}))),
        ("failed by quota", "responses", failed(json!({"code": "insufficient_quota", "message": "spent"}))),
        (
            "error event",
            "responses",
            responses(&[created(), json!({"type": "error", "code": "context_length_exceeded", "message": "too long"})]),
        ),
        (
            "error event in an object",
            "responses",
            responses(&[
                created(),
                json!({"type": "error", "error": {"type": "invalid_request_error", "code": null, "message": "bad"}}),
            ]),
        ),
        ("error event after text", "responses", responses(&after_text)),
        ("cut", "responses", responses(&truncated)),
        ("no JSON", "responses", Reply::stream("data: {\"type\": \n\n", 9)),
        ("a web page", "responses", Reply::new(200, "<html>").header("content-type", "text/html; charset=utf-8")),
    ];
    let mut lines = Vec::new();
    for (name, api, reply) in cases {
        let host = host(api).setting("retries_max", "0").reply(reply);
        let outcome = run(&host, task("go"));
        let error = outcome
            .error
            .map_or_else(String::new, |error| format!(" {:?}/{}: {}", error.kind, error.code, error.message));
        let input = outcome.usage.input_tokens;
        lines.push(format!("{api}, {name}: {} {:?} {input:?}{error}", outcome.finish_reason, outcome.output));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn an_error_event_before_output_is_repeated() {
    for busy in [
        responses(&[created(), json!({"type": "error", "code": "server_is_overloaded", "message": "busy"})]),
        responses(&[
            created(),
            completed("failed", json!({"error": {"code": "rate_limit_exceeded", "message": "slow"}})),
        ]),
    ] {
        let host = host("responses").reply(busy).reply(responses(&says("Now.")));
        let outcome = run(&host, task("go"));
        assert_eq!((outcome.finish_reason.as_str(), outcome.output.as_str()), ("done", "Now."));
        assert_eq!(host.requests().len(), 2);
    }
}

#[test]
fn a_call_that_was_cut_is_not_run_and_reasoning_that_led_nowhere_does_not_go_back() {
    let mut cut = function_call("call_a", "shell", "{\"comm");
    cut["status"] = json!("incomplete");
    let reasoning = json!({"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "gAAAA=="});
    let reply = [
        created(),
        item_done(0, reasoning),
        item_done(1, cut),
        completed("incomplete", json!({"incomplete_details": {"reason": "max_output_tokens"}})),
    ];
    let piece = chunk(
        json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "shell", "arguments": "{\"comm"}}]}),
        None,
    );
    for (api, reply) in [("responses", responses(&reply)), ("chat", chat(&[piece, chunk(json!({}), Some("length"))]))] {
        let host = host(api).tools(&["shell"]).reply(reply);
        let outcome = run(&host, task("go"));
        assert_eq!(outcome.finish_reason, "max_tokens");
        assert!(host.calls().is_empty());
        let mut next = task("go on");
        next.run_id = "run-2".into();
        next.session = Some(Session { id: outcome.session_id.expect("kept"), transcript: None });
        host.next_run();
        host.add_reply(if api == "chat" { chat(&chats("ok")) } else { responses(&says("ok")) });
        run(&host, next);
        let sent = &host.requests()[0].1[if api == "chat" { "messages" } else { "input" }];
        let words: Vec<&Value> =
            sent.as_array().into_iter().flatten().filter(|message| message["role"] != "system").collect();
        assert_eq!(
            words,
            [&json!({"role": "user", "content": "go"}), &json!({"role": "user", "content": "go on"})],
            "{api}"
        );
    }
}

#[test]
fn arguments_that_are_no_json_do_not_go_back_to_a_server_that_reads_them() {
    let piece = chunk(
        json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "shell", "arguments": "{'n': 1}"}}]}),
        None,
    );
    let host = host("chat")
        .tools(&["shell"])
        .reply(chat(&[piece, chunk(json!({}), Some("tool_calls"))]))
        .reply(chat(&chats("ok")));
    run(&host, task("go"));
    let sent = &host.requests()[1].1["messages"];
    assert_eq!(sent[2]["tool_calls"][0]["function"]["arguments"], "{}");
    assert!(sent[3]["content"].as_str().is_some_and(|text| text.contains("not a JSON object")), "{sent}");
}

#[test]
fn deepseek_gets_the_thoughts_of_a_call_back_also_when_they_were_empty() {
    let piece = |thought: Value| {
        [
            chunk(json!({"role": "assistant", "content": null, "reasoning_content": thought}), None),
            chunk(
                json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "shell", "arguments": "{}"}}]}),
                Some("tool_calls"),
            ),
        ]
    };
    for (thought, expected) in [(json!(""), json!("")), (Value::Null, Value::Null), (json!("hm"), json!("hm"))] {
        let host = host("chat").tools(&["shell"]).reply(chat(&piece(thought))).reply(chat(&chats("ok")));
        run(&host, task("go"));
        let sent = host.requests()[1].1["messages"][2].clone();
        assert_eq!(sent["reasoning_content"], expected);
    }
    // After a plain answer they are not wanted.
    let host = host("chat").reply(chat(&[
        chunk(json!({"reasoning_content": "hm", "content": "Hi"}), None),
        chunk(json!({}), Some("stop")),
    ]));
    let outcome = run(&host, task("go"));
    host.next_run();
    host.add_reply(chat(&chats("ok")));
    let mut next = task("again");
    next.run_id = "run-2".into();
    next.session = Some(Session { id: outcome.session_id.expect("kept"), transcript: None });
    run(&host, next);
    assert_eq!(host.requests()[0].1["messages"][2], json!({"role": "assistant", "content": "Hi"}));
}

#[test]
fn mistral_answers_in_parts() {
    let parts = json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "Bonjour"}]});
    let host = host("chat").reply(chat(&[chunk(parts, None), chunk(json!({"content": "!"}), Some("stop"))]));
    let outcome = run(&host, task("go"));
    assert_eq!(outcome.output, "Bonjour!");
    assert!(host.event_lines().iter().any(|line| line.contains(r#""text":"hm","type":"thinking""#)));
}

#[test]
fn a_server_that_counts_nothing_leaves_the_counters_unknown() {
    let host = host("chat").reply(chat(&[chunk(json!({"content": "Hi"}), None), chunk(json!({}), Some("stop"))]));
    let usage = run(&host, task("go")).usage;
    assert_eq!((usage.input_tokens, usage.output_tokens, usage.total_tokens), (None, None, None));
}

#[test]
fn each_error_body_has_its_kind_and_says_whether_to_repeat() {
    let body = |code: &str, kind: &str| {
        json!({"error": {"message": "says the vendor", "type": kind, "param": null, "code": code}}).to_string()
    };
    let none: &[(&str, &str)] = &[];
    let reset: &[(&str, &str)] = &[
        ("x-ratelimit-remaining-requests", "12"),
        ("x-ratelimit-reset-requests", "1h0m0s"),
        ("x-ratelimit-remaining-tokens", "0"),
        ("x-ratelimit-reset-tokens", "6m0s"),
    ];
    let after: &[(&str, &str)] =
        &[("retry-after", "7"), ("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "6m0s")];
    let cases = [
        (400, none, body("invalid_value", "invalid_request_error")),
        (400, none, body("context_length_exceeded", "invalid_request_error")),
        (401, &[("x-request-id", "req_1")], body("invalid_api_key", "invalid_request_error")),
        (
            402,
            none,
            r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","code":"invalid_request_error"}}"#
                .into(),
        ),
        (403, none, body("unsupported_country_region_territory", "request_forbidden")),
        (404, none, body("model_not_found", "invalid_request_error")),
        (404, none, "404 page not found".into()),
        (413, none, String::new()),
        (429, after, body("rate_limit_exceeded", "requests")),
        (429, reset, body("rate_limit_exceeded", "tokens")),
        (429, after, body("slow_down", "rate_limit_error")),
        (
            429,
            none,
            r#"{"object":"error","message":"Requests rate limit exceeded","type":"rate_limited","code":"1300"}"#.into(),
        ),
        (429, after, body("insufficient_quota", "insufficient_quota")),
        (429, after, body("credit_balance_exhausted", "insufficient_quota")),
        (429, after, body("organization_spend_limit_exceeded", "requests")),
        (429, after, body("project_spend_limit_exceeded", "requests")),
        (429, after, body("organization_usage_limit_exceeded", "requests")),
        (500, none, body("server_error", "server_error")),
        (503, after, "<html>bad gateway</html>".into()),
    ];
    let vendor = OpenAi::configured(&host("responses")).expect("settings");
    let lines: Vec<String> = cases
        .into_iter()
        .map(|(status, headers, body)| {
            let headers: Vec<(String, String)> =
                headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            let error = vendor.error(status, &headers, body.as_bytes());
            let repeat = if error.is_retryable() { format!("repeat {:?}", error.retry_after_ms) } else { "end".into() };
            format!("{status} {repeat} {:?}/{}: {}", error.kind, error.code, error.message)
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_structured_answer_is_forced_when_the_model_forgets_it() {
    let mut wants = task("multiply");
    wants.output_schema = Some(r#"{"type":"object"}"#.into());
    let call = [
        created(),
        item_done(0, function_call("call_a", RETURN_RESULT, r#"{"answer":42}"#)),
        completed("completed", json!({})),
    ];
    let on_responses = host("responses").tools(&[RETURN_RESULT]).reply(responses(&says("42"))).reply(responses(&call));
    let piece = chunk(
        json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": RETURN_RESULT, "arguments": "{\"answer\":42}"}}]}),
        Some("stop"),
    );
    let on_chat = host("chat").tools(&[RETURN_RESULT]).reply(chat(&chats("42"))).reply(chat(&[piece]));
    for (host, choice) in [
        (on_responses, json!({"type": "function", "name": RETURN_RESULT})),
        (on_chat, json!({"type": "function", "function": {"name": RETURN_RESULT}})),
    ] {
        let outcome = run(&host, wants.clone());
        assert_eq!(outcome.finish_reason, "done", "{:?}", outcome.error);
        let asked = host.requests();
        assert_eq!((&asked[0].1["tool_choice"], &asked[1].1["tool_choice"]), (&Value::Null, &choice));
    }
}

#[test]
fn settings_are_sent_and_a_field_can_be_taken_out() {
    let host = host("chat")
        .setting("efforts", "[]")
        .setting("max_output_tokens", "900")
        .setting("extra", r#"{"stream_options":null,"temperature":0.2,"max_completion_tokens":null,"max_tokens":900}"#)
        .setting("headers", r#"{"x-title":"midplane"}"#)
        .reply(chat(&chats("ok")));
    run(&host, task("go"));
    let (head, body) = host.requests().remove(0);
    assert!(head.headers.contains(&("x-title".into(), "midplane".into())));
    let fields: Vec<&str> = body.as_object().expect("object").keys().map(String::as_str).collect();
    assert_eq!(fields, ["max_tokens", "messages", "model", "stream", "temperature"]);

    let plain = host_without_reasoning();
    run(&plain, task("go"));
    let body = plain.requests().remove(0).1;
    assert_eq!((&body["include"], &body["reasoning"], &body["store"]), (&Value::Null, &Value::Null, &json!(false)));
}

fn host_without_reasoning() -> FakeHost {
    host("responses").setting("efforts", "[]").reply(responses(&says("ok")))
}

#[test]
fn a_wrong_setting_and_an_unknown_effort_are_refused_by_name() {
    let issues = |host: FakeHost, effort: Option<&str>| {
        let mut task = task("x");
        task.reasoning_effort = effort.map(str::to_owned);
        OpenAi::validate(&host, &task)
            .into_iter()
            .map(|issue| format!("{}: {}", issue.field, issue.message))
            .collect::<Vec<_>>()
            .join("; ")
    };
    let lines = [
        issues(host("responses"), Some("low")),
        issues(host("responses"), Some("extreme")),
        issues(host("chat").setting("efforts", "[]"), Some("low")),
        issues(host("assistants"), None),
        issues(host("chat").setting("reasoning_summary", "long"), None),
        issues(host("chat").setting("extra", r#"{"messages":[]}"#), None),
        issues(host("chat").setting("base_url", "api.openai.com"), None),
        issues(host("chat").setting("headers", r#"{"x":1}"#), None),
    ];
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_conversation_of_one_api_is_not_sent_to_the_other() {
    let first = host("chat").reply(chat(&chats("ok")));
    let id = run(&first, task("go")).session_id.expect("kept");
    let head = first.kv_sizes();
    assert!(!head.is_empty());
    let mut next = task("on");
    next.session = Some(Session { id, transcript: None });
    let host = first.setting("api", "responses");
    let error = OpenAi::run(&host, next).expect_err("refused");
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Unsupported, "session-form"));
}

#[test]
fn defect_14_18_availability_asks_only_when_probed() {
    let host = host("chat").reply(Reply::new(200, "{}"));
    assert_eq!((OpenAi::availability(&host, 0).reason.as_str(), host.requests().len()), ("unknown", 0));
    let report = OpenAi::availability(&host, 1000);
    assert_eq!(report.reason, "available");
    assert_eq!(host.requests()[0].0.url, "https://api.openai.com/v1/models");
}

/// Without its finish reason, or without its last event, a reply is not whole, however the connection ended.
#[test]
fn defect_14_05_a_stream_that_ends_before_its_end_is_no_success_at_any_event() {
    let chunks = [chunk(json!({"content": "some"}), None), chunk(json!({"content": "thing"}), None)];
    let events = says("some thing");
    let whole = events.len();
    for length in 0..=chunks.len() {
        let host = host("chat").setting("retries_max", "0").reply(Reply::stream(&chat_text(&chunks[..length]), 11));
        assert_truncated(&host);
    }
    for length in 0..whole {
        let host = host("responses").setting("retries_max", "0").reply(responses(&events[..length]));
        assert_truncated(&host);
    }
}

fn assert_truncated(host: &FakeHost) {
    let outcome = run(host, task("x"));
    assert_eq!(outcome.finish_reason, "failed");
    assert_eq!(outcome.error.map(|error| error.code), Some("stream-truncated".into()));
}

/// Each value of each event, replaced by something else: a vendor that changes its mind is an error or a poorer reply,
/// never a panic, and what is called has a name and an id.
#[test]
fn no_stream_makes_the_decoders_panic() {
    let mut calls = vec![created()];
    calls.push(item_done(0, function_call("call_a", "shell", "{}")));
    calls.push(json!({"type": "response.reasoning_summary_part.added", "summary_index": 1}));
    calls.push(json!({"type": "response.reasoning_summary_text.delta", "delta": "hm"}));
    calls.push(completed("incomplete", json!({"incomplete_details": {"reason": "max_output_tokens"}})));
    let failed = vec![completed("failed", json!({"error": {"code": "server_error", "message": "broke"}}))];
    let mut chunks = chats("Hi there");
    chunks.insert(
        1,
        chunk(json!({"reasoning": "hm", "tool_calls": [{"index": 0, "id": "a", "function": {"name": "shell", "arguments": "{}"}}]}), None),
    );
    let mut decoded = 0;
    for (api, events) in
        [(Api::Responses, says("Hi")), (Api::Responses, calls), (Api::Responses, failed), (Api::Chat, chunks)]
    {
        for (at, event) in events.iter().enumerate() {
            for pointer in pointers(event, String::new()) {
                for other in
                    [Value::Null, json!(-5), json!(1e300), json!("x"), json!([]), json!({}), json!([{"text": 1}])]
                {
                    let mut changed = events.clone();
                    *changed[at].pointer_mut(&pointer).expect("it is there") = other;
                    decoded += 1;
                    decode(api, &changed);
                }
            }
        }
    }
    assert!(decoded > 1000, "{decoded}");
}

fn decode(api: Api, events: &[Value]) {
    let mut decoder: Box<dyn Decoder> = match api {
        Api::Responses => Box::new(responses::ResponseStream::default()),
        Api::Chat => Box::new(chat::ChatStream::default()),
    };
    let mut deltas = Vec::new();
    for event in events {
        let name = event["type"].as_str().unwrap_or("message").to_owned();
        let event = midplane_plugin::sse::SseEvent { name, data: event.to_string() };
        if decoder.event(&event, &mut deltas).is_err() {
            return;
        }
    }
    if (decoder.is_complete() || decoder.ends_whole())
        && let Ok(reply) = decoder.reply()
    {
        for call in reply.calls {
            assert!(!call.id.is_empty() && !call.name.is_empty(), "{call:?}");
        }
    }
}

/// The places of all values in a document.
fn pointers(value: &Value, at: String) -> Vec<String> {
    let mut all = vec![at.clone()];
    match value {
        Value::Object(fields) => {
            all.extend(fields.iter().flat_map(|(name, value)| pointers(value, format!("{at}/{name}"))))
        }
        Value::Array(values) => {
            all.extend(values.iter().enumerate().flat_map(|(index, value)| pointers(value, format!("{at}/{index}"))));
        }
        _ => {}
    }
    all
}
