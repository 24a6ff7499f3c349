//! Whole runs against recorded shapes of the vendor's streams, with a scripted host. Everything that a run gives
//! (outcome, events, requests, calls) is compared.

use midplane_plugin::agent::{Attachment, Session};
use midplane_plugin::testing::{FakeHost, Reply, answer, assert_cuts_do_not_matter, record, record_short, task};
use midplane_plugin::{Agent, Value, json};

use crate::wire::Anthropic;

fn host() -> FakeHost {
    FakeHost::new().setting("base_url", "https://vendor.example/v1/").setting("model", "claude-test")
}

/// A stream as the vendor writes it: each event named by the `type` of its data, cut into chunks of 11 bytes.
fn stream(events: &[Value]) -> Reply {
    Reply::stream(&text(events), 11)
}

fn text(events: &[Value]) -> String {
    events.iter().map(|data| format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or("x"))).collect()
}

fn start() -> Value {
    json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-test-20260101",
        "content": [], "stop_reason": null, "usage": {"input_tokens": 12, "cache_creation_input_tokens": 300,
        "cache_read_input_tokens": 40, "output_tokens": 1}}})
}

fn block(index: u64, start: Value, deltas: &[Value]) -> Vec<Value> {
    let mut events = vec![json!({"type": "content_block_start", "index": index, "content_block": start})];
    events.extend(deltas.iter().map(|delta| json!({"type": "content_block_delta", "index": index, "delta": delta})));
    events.push(json!({"type": "content_block_stop", "index": index}));
    events
}

fn text_block(index: u64, parts: &[&str]) -> Vec<Value> {
    let deltas: Vec<Value> = parts.iter().map(|part| json!({"type": "text_delta", "text": part})).collect();
    block(index, json!({"type": "text", "text": ""}), &deltas)
}

fn tool_block(index: u64, id: &str, name: &str, parts: &[&str]) -> Vec<Value> {
    let deltas: Vec<Value> =
        parts.iter().map(|part| json!({"type": "input_json_delta", "partial_json": part})).collect();
    block(index, json!({"type": "tool_use", "id": id, "name": name, "input": {}}), &deltas)
}

fn end(reason: &str, output_tokens: u64) -> Vec<Value> {
    vec![
        json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null}, "usage": {"output_tokens": output_tokens}}),
        json!({"type": "message_stop"}),
    ]
}

fn message(blocks: Vec<Vec<Value>>, reason: &str) -> Vec<Value> {
    let mut events = vec![start(), json!({"type": "ping"})];
    events.extend(blocks.into_iter().flatten());
    events.extend(end(reason, 25));
    events
}

#[test]
fn a_text_reply() {
    let host = host().reply(stream(&message(vec![text_block(0, &["Hel", "lo, ", "wörld"])], "end_turn")));
    insta::assert_snapshot!(record::<Anthropic>(&host, task("greet")));
}

#[test]
fn thinking_and_parallel_tools_go_back_unchanged() {
    let thinking = block(
        0,
        json!({"type": "thinking", "thinking": "", "signature": ""}),
        &[
            json!({"type": "thinking_delta", "thinking": "Let me "}),
            json!({"type": "thinking_delta", "thinking": "look."}),
            json!({"type": "signature_delta", "signature": "EqQBCg=="}),
        ],
    );
    let redacted = block(1, json!({"type": "redacted_thinking", "data": "b3BhcXVl"}), &[]);
    let first = message(
        vec![
            thinking,
            redacted,
            text_block(2, &["I look."]),
            tool_block(3, "toolu_1", "list_dir", &[]),
            tool_block(4, "toolu_2", "read_file", &["{\"pa", "th\": \"a.t", "xt\"}"]),
        ],
        "tool_use",
    );
    let host = host()
        .setting("prompt_cache", "false")
        .setting("betas", r#"["interleaved-thinking-2025-05-14"]"#)
        .tools(&["list_dir", "read_file"])
        .on_call(|call| answer(call, call.name == "read_file", format!("did {}", call.name), None))
        .reply(stream(&first))
        .reply(stream(&message(vec![text_block(0, &["Done."])], "end_turn")));
    let mut hard = task("look");
    hard.system = Some(String::new());
    hard.reasoning_effort = Some("low".into());
    insta::assert_snapshot!(record::<Anthropic>(&host, hard));
}

#[test]
fn a_stream_cut_at_any_byte_decodes_to_the_same() {
    let body = text(&message(
        vec![text_block(0, &["né", "€"]), tool_block(1, "toolu_1", "list_dir", &["{\"path\":", "\"ü\"}"])],
        "tool_use",
    ));
    assert_cuts_do_not_matter::<Anthropic>(
        || host().tools(&["list_dir"]),
        &body,
        &stream(&message(vec![], "end_turn")),
    );
}

#[test]
fn each_stop_reason_ends_as_documented() {
    let text = || text_block(0, &["part"]);
    let mut lines = Vec::new();
    for reason in ["end_turn", "stop_sequence", "max_tokens", "model_context_window_exceeded", "refusal", "added_later"]
    {
        let host = host().reply(stream(&message(vec![text()], reason)));
        let outcome = Anthropic::run(&host, task("x")).expect("an outcome");
        let error = outcome.error.map(|error| format!("{:?} {}", error.kind, error.code));
        lines.push(format!("{reason}: {} {:?} {:?}", outcome.finish_reason, outcome.output, error));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_paused_turn_is_sent_back_and_goes_on() {
    let search = block(
        0,
        json!({"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}),
        &[json!({"type": "input_json_delta", "partial_json": "{\"query\":\"x\"}"})],
    );
    let host = host()
        .reply(stream(&message(vec![search], "pause_turn")))
        .reply(stream(&message(vec![text_block(0, &["found"])], "end_turn")));
    let outcome = Anthropic::run(&host, task("x")).expect("an outcome");
    assert_eq!((outcome.finish_reason.as_str(), outcome.output.as_str(), outcome.rounds), ("done", "found", 2));
    assert_eq!(outcome.usage.input_tokens, Some(24), "both requests are counted");
    let sent = &host.requests()[1].1["messages"];
    assert_eq!(sent.as_array().map(Vec::len), Some(2));
    assert_eq!(
        sent[1]["content"],
        json!([{"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}}])
    );
}

#[test]
fn a_call_cut_by_max_tokens_is_not_run() {
    let host = host().tools(&["shell"]).reply(stream(&message(
        vec![text_block(0, &["now"]), tool_block(1, "toolu_1", "shell", &["{\"comm"])],
        "max_tokens",
    )));
    insta::assert_snapshot!(record_short::<Anthropic>(&host, task("x")));
    assert_eq!(host.calls().len(), 0);
}

#[test]
fn defect_14_03_an_error_event_after_output_fails_the_run_and_keeps_usage_and_text() {
    let mut events = vec![start()];
    events.extend(text_block(0, &["half"]));
    events.push(json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}));
    let host = host().reply(stream(&events));
    insta::assert_snapshot!(record_short::<Anthropic>(&host, task("x")));
}

#[test]
fn an_error_event_before_output_is_repeated() {
    let overloaded =
        [start(), json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})];
    let host = host().reply(stream(&overloaded)).reply(stream(&message(vec![text_block(0, &["ok"])], "end_turn")));
    insta::assert_snapshot!(record_short::<Anthropic>(&host, task("x")));
}

#[test]
fn defect_14_05_a_stream_that_ends_before_message_stop_is_no_success_at_any_event() {
    let events = message(vec![text_block(0, &["some", "thing"])], "end_turn");
    for length in 0..events.len() {
        let host = host().setting("retries_max", "0").reply(stream(&events[..length]));
        let outcome = Anthropic::run(&host, task("x")).expect("an outcome");
        assert_eq!(outcome.finish_reason, "failed", "{length} events");
        assert_eq!(outcome.error.map(|error| error.code), Some("stream-truncated".into()));
        assert_eq!(outcome.usage.input_tokens, (length > 0).then_some(12), "usage is kept");
    }
}

#[test]
fn a_malformed_stream_is_a_typed_error() {
    let bad = [
        "event: message_start\ndata: {\"type\":\n\n".to_owned(),
        text(&[
            start(),
            json!({"type": "content_block_delta", "index": 3, "delta": {"type": "text_delta", "text": "x"}}),
        ]),
        text(&message(vec![tool_block(0, "t", "shell", &["[1]"])], "tool_use")),
        text(&message(vec![tool_block(0, "t", "shell", &["{]"])], "tool_use")),
        text(&message(vec![block(0, json!("text"), &[])], "end_turn")),
        text(&[start(), json!({"type": "message_stop"})]),
    ];
    let mut lines = Vec::new();
    for body in bad {
        let host = host().tools(&["shell"]).reply(Reply::stream(&body, 5));
        let outcome = Anthropic::run(&host, task("x")).expect("an outcome");
        let error = outcome.error.expect("failed");
        lines.push(format!("{:?} {}: {}", error.kind, error.code, error.message));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn events_that_are_not_known_are_skipped() {
    let mut events = message(vec![text_block(0, &["ok"])], "end_turn");
    events.insert(1, json!({"type": "added_later", "x": 1}));
    let mut body = text(&events);
    body = body.replacen("event: ping\ndata: {\"type\":\"ping\"}", "event: ping\ndata: not JSON", 1);
    let host = host().reply(Reply::stream(&body, 9));
    let outcome = Anthropic::run(&host, task("x")).expect("an outcome");
    assert_eq!(outcome.output, "ok");
}

#[test]
fn each_error_body_has_its_kind_and_says_whether_to_repeat() {
    let body = |kind: &str| {
        json!({"type": "error", "error": {"type": kind, "message": "because"}, "request_id": "req_1"}).to_string()
    };
    let spent = json!({"error": {"type": "rate_limit_error", "message": "spent", "details": {"error_code": "enforced_spend_limit_reached"}}});
    let cases = [
        (400, body("invalid_request_error")),
        (401, body("authentication_error")),
        (402, body("billing_error")),
        (403, body("permission_error")),
        (404, body("not_found_error")),
        (413, body("request_too_large")),
        (429, body("rate_limit_error")),
        (429, spent.to_string()),
        (500, body("api_error")),
        (529, body("overloaded_error")),
        (418, body("added_later")),
        (502, "<html><body>Bad gateway</body></html>".into()),
    ];
    let mut lines = Vec::new();
    for (status, body) in cases {
        let reply = Reply::new(status, body).header("retry-after", "3").header("content-type", "application/json");
        let host = host().setting("retries_max", "0").reply(reply);
        let outcome = Anthropic::run(&host, task("x")).expect("an outcome");
        let error = outcome.error.expect("failed");
        lines.push(format!("{status} {:?} {} {:?}: {}", error.kind, error.code, error.retry_after_ms, error.message));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_page_of_html_with_status_200_is_not_a_reply() {
    let host = host().reply(Reply::new(200, "<html>login</html>").header("content-type", "text/html; charset=utf-8"));
    insta::assert_snapshot!(record_short::<Anthropic>(&host, task("x")));
}

#[test]
fn defect_14_12_a_cancel_in_the_stream_keeps_the_text_and_the_conversation_goes_on() {
    let mut events = vec![start()];
    events.extend(text_block(0, &["half a sen"]));
    let host = host().reply(stream(&events).then_cancel());
    let first = record_short::<Anthropic>(&host, task("x"));
    host.next_run();
    host.add_reply(stream(&message(vec![text_block(0, &["whole"])], "end_turn")));
    let mut next = task("go on");
    next.run_id = "run-2".into();
    next.session = Some(Session { id: "run-1".into(), transcript: None });
    insta::assert_snapshot!(format!("{first}\n\n{}", record::<Anthropic>(&host, next)));
}

#[test]
fn a_structured_answer_is_forced_only_without_thinking() {
    let run = |effort: Option<&str>| {
        let plain = || stream(&message(vec![text_block(0, &["42"])], "end_turn"));
        let result = tool_block(0, "toolu_9", "return_result", &["{\"n\":42}"]);
        let host = host().tools(&["return_result"]).reply(plain()).reply(stream(&message(vec![result], "tool_use")));
        let mut task = task("x");
        task.output_schema = Some("{}".into());
        task.reasoning_effort = effort.map(str::to_owned);
        let outcome = Anthropic::run(&host, task).expect("an outcome");
        assert_eq!(outcome.finish_reason, "done");
        assert_eq!(host.call_lines(), "return_result {\"n\":42}\n");
        host.requests()[1].1["tool_choice"].clone()
    };
    assert_eq!(run(None), json!({"type": "tool", "name": "return_result"}));
    assert_eq!(run(Some("high")), Value::Null);
}

/// The form of the request by the generation of the model: a number of tokens, or a word.
#[test]
fn thinking_by_model_and_word() {
    let models = ["claude-sonnet-4-5", "claude-3-7-sonnet-20250219", "claude-opus-4-6", "claude-opus-5", "claude-next"];
    let mut lines = Vec::new();
    for model in models {
        for effort in [None, Some("none"), Some("low"), Some("xhigh"), Some("max"), Some("2000")] {
            let host =
                host().tools(&["return_result"]).reply(stream(&message(vec![text_block(0, &["x"])], "end_turn")));
            let mut task = task("x");
            task.model = Some(model.into());
            task.reasoning_effort = effort.map(str::to_owned);
            let issues = Anthropic::validate(&host, &task);
            let said = match issues.first() {
                Some(issue) => format!("{}: {}", issue.field, issue.message),
                None => {
                    let _ = Anthropic::run(&host, task);
                    let body = &host.requests()[0].1;
                    format!("{} {} {}", body["max_tokens"], body["thinking"], body["output_config"])
                }
            };
            lines.push(format!("{model} {}: {said}", effort.unwrap_or("-")));
        }
    }
    insta::assert_snapshot!(lines.join("\n"));
}

/// What is searched and found by the vendor's own tools belongs to the reply, and goes back as it came.
#[test]
fn blocks_of_the_vendors_own_tools_go_back_unchanged() {
    let search = block(
        0,
        json!({"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}),
        &[
            json!({"type": "input_json_delta", "partial_json": "{\"query\":"}),
            json!({"type": "input_json_delta", "partial_json": "\"x\"}"}),
        ],
    );
    let found = json!({"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [
        {"type": "web_search_result", "url": "https://x.example", "title": "X", "encrypted_content": "b3BhcXVl", "page_age": null}]});
    let cited = block(
        2,
        json!({"type": "text", "text": ""}),
        &[
            json!({"type": "text_delta", "text": "It is x."}),
            json!({"type": "citations_delta", "citation": {"type": "web_search_result_location", "url": "https://x.example", "encrypted_index": "RW8="}}),
            json!({"type": "added_later_delta", "x": 1}),
        ],
    );
    let added = json!({"type": "added_later", "kept": [1, 2]});
    let events = message(
        vec![search, block(1, found, &[]), cited, block(3, added, &[]), tool_block(4, "toolu_1", "list_dir", &[])],
        "tool_use",
    );
    let host = host()
        .setting("prompt_cache", "false")
        .tools(&["list_dir"])
        .reply(stream(&events))
        .reply(stream(&message(vec![text_block(0, &["Done."])], "end_turn")));
    let outcome = Anthropic::run(&host, task("x")).expect("an outcome");
    assert_eq!(
        (outcome.finish_reason.as_str(), host.call_lines().as_str()),
        ("done", "list_dir {}\n"),
        "only ours is run"
    );
    insta::assert_snapshot!(serde_json::to_string_pretty(&host.requests()[1].1["messages"]).expect("JSON"));
}

#[test]
fn a_refusal_says_why_and_a_pause_with_calls_answers_them() {
    let mut refused = message(vec![text_block(0, &["I can"])], "refusal");
    let at = refused.len() - 2;
    refused[at]["delta"]["stop_details"] =
        json!({"type": "refusal", "category": "cyber", "explanation": "it could do harm"});
    let outcome = Anthropic::run(&host().reply(stream(&refused)), task("x")).expect("an outcome");
    let error = outcome.error.expect("failed");
    assert_eq!(
        (error.code.as_str(), error.message.as_str()),
        ("refusal", "the model declined to answer: it could do harm")
    );

    let paused = message(vec![tool_block(0, "toolu_1", "list_dir", &[])], "pause_turn");
    let host = host()
        .tools(&["list_dir"])
        .reply(stream(&paused))
        .reply(stream(&message(vec![text_block(0, &["ok"])], "end_turn")));
    let outcome = Anthropic::run(&host, task("x")).expect("an outcome");
    assert_eq!((outcome.output.as_str(), host.call_lines().as_str()), ("ok", "list_dir {}\n"));
    assert_eq!(host.requests()[1].1["messages"][2]["content"][0]["tool_use_id"], "toolu_1");
}

#[test]
fn defect_14_15_all_that_cannot_be_honoured_is_listed_in_the_order_of_the_task() {
    let mut task = task("x");
    task.model = Some(" ".into());
    task.reasoning_effort = Some("extreme".into());
    task.permissions.network = Some(false);
    task.permissions.native_profile = Some("ci".into());
    let attachment =
        |kind: &str| Attachment { kind: kind.into(), name: kind.into(), path: kind.into(), digest: "00".into() };
    task.attachments = vec![attachment("skill"), attachment("video")];
    let host = FakeHost::new().setting("base_url", "vendor.example");
    let issues: Vec<String> =
        Anthropic::validate(&host, &task).iter().map(|issue| format!("{}: {}", issue.field, issue.message)).collect();
    insta::assert_snapshot!(issues.join("\n"));
}

#[test]
fn a_plain_task_has_no_issues() {
    assert_eq!(Anthropic::validate(&host(), &task("x")), []);
}

#[test]
fn defect_14_18_availability_asks_only_when_probed() {
    let cases = [
        host(),
        host().reply(Reply::new(200, "{\"data\":[]}")),
        host().reply(Reply::new(401, "secret text of the vendor")),
        host().reply(Reply::new(500, "")),
        host().reply_error(midplane_plugin::Error::denied(
            "grant-missing",
            "`http https://vendor.example` is not granted",
        )),
        FakeHost::new(),
    ];
    let mut lines = Vec::new();
    for (index, host) in cases.into_iter().enumerate() {
        let report = Anthropic::availability(&host, if index == 0 { 0 } else { 2000 });
        let sent: Vec<String> =
            host.requests().iter().map(|(head, _)| format!("{} {}", head.method, head.url)).collect();
        lines.push(format!("{:?} {} {} {sent:?}", report.status, report.reason, report.message));
    }
    insta::assert_snapshot!(lines.join("\n"));
}
