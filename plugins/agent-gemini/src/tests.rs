//! Whole runs against recorded shapes of the vendor's streams, with a scripted host. Everything that a run gives
//! (outcome, events, requests, calls) is compared.

use midplane_plugin::agent::{Attachment, Session};
use midplane_plugin::testing::{FakeHost, Reply, answer, assert_cuts_do_not_matter, record, record_short, task};
use midplane_plugin::{Agent, Value, json};

use crate::Gemini;

fn host() -> FakeHost {
    FakeHost::new()
        .setting("base_url", "https://vendor.example/v1beta/")
        .setting("model", "gemini-3.5-flash")
        .setting("retries_max", "1")
}

fn interactions() -> FakeHost {
    host().setting("api", "interactions")
}

/// A stream as the vendor writes it, cut into chunks of 11 bytes.
fn stream(events: &[Value]) -> Reply {
    Reply::stream(&text(events), 11)
}

fn text(events: &[Value]) -> String {
    events.iter().map(|data| format!("data: {data}\r\n\r\n")).collect()
}

/// One response of `generateContent`, without a reason.
fn parts(parts: Value) -> Value {
    json!({"candidates": [{"content": {"role": "model", "parts": parts}, "index": 0}],
        "usageMetadata": {"promptTokenCount": 12, "totalTokenCount": 12}, "modelVersion": "gemini-3.5-flash", "responseId": "r1"})
}

/// The last response.
fn last(content: Value, reason: &str) -> Value {
    let mut response = parts(content);
    response["candidates"][0]["finishReason"] = json!(reason);
    response["usageMetadata"] = json!({"promptTokenCount": 112, "cachedContentTokenCount": 100, "candidatesTokenCount": 7,
        "thoughtsTokenCount": 20, "totalTokenCount": 139});
    response
}

fn said(words: &str) -> Reply {
    stream(&[last(json!([{"text": words}]), "STOP")])
}

/// Finish reason, and kind and code of the error.
fn end(host: &FakeHost) -> String {
    let outcome = Gemini::run(host, task("x")).expect("an outcome");
    let error =
        outcome.error.map_or("none".to_owned(), |error| format!("{:?} {}: {}", error.kind, error.code, error.message));
    format!("{} {:?} asked {}: {error}", outcome.finish_reason, outcome.output, host.requests().len())
}

#[test]
fn a_text_reply() {
    let pieces = ["Hel", "lo, ", "wörld"].map(|piece| parts(json!([{"text": piece}])));
    let events = [&pieces[..], &[last(json!([{"text": ""}]), "STOP")]].concat();
    insta::assert_snapshot!(record::<Gemini>(&host().reply(stream(&events)), task("greet")));
}

/// Signatures stand on thoughts, calls and even on empty texts, and each goes back as it came.
#[test]
fn signatures_and_parallel_calls_go_back_unchanged() {
    let first = [
        parts(json!([{"text": "Let me ", "thought": true}])),
        parts(json!([{"text": "look.", "thought": true}])),
        parts(json!([{"text": "I look.", "thoughtSignature": "c2lnMA=="}])),
        parts(
            json!([{"functionCall": {"name": "read_file", "args": {"path": "a.txt"}}, "thoughtSignature": "c2lnMQ=="}]),
        ),
        last(
            json!([{"functionCall": {"name": "list_dir"}}, {"functionCall": {"name": "read_file", "args": {"path": "b.txt"}, "id": "own-3"}},
            {"text": "", "thoughtSignature": "c2lnMg=="}]),
            "STOP",
        ),
    ];
    let host = host()
        .tools(&["list_dir", "read_file"])
        .on_call(|call| answer(call, call.name == "read_file", format!("did {}", call.name), None))
        .reply(stream(&first))
        .reply(said("Done."));
    let mut hard = task("look");
    hard.reasoning_effort = Some("low".into());
    insta::assert_snapshot!(record::<Gemini>(&host, hard));
}

#[test]
fn a_stream_cut_at_any_byte_decodes_to_the_same() {
    let body = text(&[
        parts(json!([{"text": "né"}])),
        parts(json!([{"text": "€"}])),
        last(json!([{"functionCall": {"name": "list_dir", "args": {"path": "ü"}}}]), "STOP"),
    ]);
    assert_cuts_do_not_matter::<Gemini>(|| host().tools(&["list_dir"]), &body, &said("x"));
}

#[test]
fn defect_14_02_a_normal_stop_is_done_and_each_finish_reason_ends_as_documented() {
    let reasons = [
        "STOP",
        "FINISH_REASON_UNSPECIFIED",
        "FUNCTION_CALL",
        "MAX_TOKENS",
        "CONTINUATION",
        "SAFETY",
        "RECITATION",
        "LANGUAGE",
        "OTHER",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "IMAGE_SAFETY",
        "TOO_MANY_TOOL_CALLS",
        "ADDED_LATER",
    ];
    let mut lines = Vec::new();
    for reason in reasons {
        lines.push(format!("{reason}: {}", end(&host().reply(stream(&[last(json!([{"text": "part"}]), reason)])))));
    }
    // A filter that ends the reply leaves the content out, and says why beside it.
    let mut bare = json!({"candidates": [{"finishReason": "SAFETY", "index": 0, "finishMessage": "too hot"}]});
    lines.push(format!("bare: {}", end(&host().reply(stream(std::slice::from_ref(&bare))))));
    bare = json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 4, "totalTokenCount": 4}});
    lines.push(format!("prompt: {}", end(&host().reply(stream(&[bare])))));
    insta::assert_snapshot!(lines.join("\n"));
}

/// A call that cannot be read is asked for once more, with what was wrong; a second one in a row ends the run.
#[test]
fn a_malformed_call_is_repeated_once() {
    let broken = |reason: &str| {
        let mut event = json!({"candidates": [{"content": {}, "finishReason": reason, "index": 0}], "usageMetadata": {"promptTokenCount": 5, "totalTokenCount": 5}});
        event["candidates"][0]["finishMessage"] = json!("Malformed function call: print(x)");
        stream(&[event])
    };
    let good = || stream(&[last(json!([{"functionCall": {"name": "list_dir"}}]), "STOP")]);
    let mut lines = Vec::new();
    let cases = [
        ("once", vec![broken("MALFORMED_FUNCTION_CALL"), good(), said("Done.")]),
        ("twice", vec![broken("UNEXPECTED_TOOL_CALL"), broken("MALFORMED_FUNCTION_CALL")]),
        ("apart", vec![broken("MALFORMED_FUNCTION_CALL"), good(), broken("MALFORMED_FUNCTION_CALL"), said("Done.")]),
    ];
    for (name, replies) in cases {
        let host = host().tools(&["list_dir"]);
        for reply in replies {
            host.add_reply(reply);
        }
        lines.push(format!("{name}: {}", end(&host)));
        if name == "once" {
            lines.push(host.requests()[1].1["contents"].to_string());
        }
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn an_error_in_the_stream_is_repeated_only_before_output() {
    let error = json!({"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}});
    let odd = json!({"error": {"code": 500, "message": "odd"}});
    let lines = [
        end(&host().reply(stream(std::slice::from_ref(&error))).reply(said("Now."))),
        end(&host().reply(stream(&[odd])).reply(said("Now."))),
        end(&host().reply(stream(&[parts(json!([{"text": "half"}])), error])).reply(said("Never asked."))),
    ];
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn defect_14_05_a_stream_that_ends_without_a_reason_is_no_success_at_any_event() {
    let events = [parts(json!([{"text": "some"}])), parts(json!([{"text": "thing"}])), last(json!([]), "STOP")];
    for length in 0..events.len() {
        let host = host().setting("retries_max", "0").reply(stream(&events[..length]));
        let outcome = Gemini::run(&host, task("x")).expect("an outcome");
        assert_eq!(outcome.finish_reason, "failed", "{length} events");
        assert_eq!(outcome.error.map(|error| error.code), Some("stream-truncated".into()));
        assert_eq!(outcome.usage.input_tokens, (length > 0).then_some(12), "usage is kept");
    }
}

/// Some servers count in an event after the one with the reason.
#[test]
fn counters_after_the_reason_are_counted() {
    let mut events = vec![last(json!([{"text": "ok"}]), "STOP")];
    events[0]["usageMetadata"].take();
    events.push(json!({"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 4, "totalTokenCount": 7}}));
    let outcome = Gemini::run(&host().reply(stream(&events)), task("x")).expect("an outcome");
    assert_eq!((outcome.usage.input_tokens, outcome.usage.output_tokens), (Some(3), Some(4)));
}

#[test]
fn a_malformed_stream_is_a_typed_error() {
    let many: Vec<Value> = (0..5000).map(|_| json!({"inlineData": {}})).collect();
    let bad = [
        "data: {\"candidates\": [\n\n".to_owned(),
        "data: [1]\n\n".to_owned(),
        text(&[parts(json!(["x"]))]),
        text(&[last(json!([{"functionCall": {"args": {}}}]), "STOP")]),
        text(&[last(json!([{"functionCall": {"name": "shell", "args": [1]}}]), "STOP")]),
        text(&[parts(json!(many))]),
    ];
    let mut lines = Vec::new();
    for body in bad {
        lines.push(end(&host().tools(&["shell"]).reply(Reply::stream(&body, 4096))));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn each_error_body_has_its_kind_and_says_whether_to_repeat() {
    let body = |code: u16, word: &str, details: Value| {
        json!({"error": {"code": code, "message": "because", "status": word, "details": details}}).to_string()
    };
    let retry = json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17s"});
    let quota = |id: &str| json!({"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaMetric": "m", "quotaId": id}]});
    let key = json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}]);
    let cases = [
        (400, body(400, "INVALID_ARGUMENT", json!([]))),
        (400, body(400, "INVALID_ARGUMENT", key.clone())),
        (400, format!("[{}]", body(400, "INVALID_ARGUMENT", key))),
        (400, body(400, "FAILED_PRECONDITION", json!([]))),
        (401, body(401, "UNAUTHENTICATED", json!([]))),
        (402, body(402, "ADDED_LATER", json!([]))),
        (403, body(403, "PERMISSION_DENIED", json!([]))),
        (404, body(404, "NOT_FOUND", json!([]))),
        (429, body(429, "RESOURCE_EXHAUSTED", json!([quota("RequestsPerMinute"), retry]))),
        (
            429,
            body(429, "RESOURCE_EXHAUSTED", json!([quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier"), retry])),
        ),
        (429, body(429, "RESOURCE_EXHAUSTED", json!([]))),
        (500, body(500, "INTERNAL", json!([]))),
        (503, body(503, "UNAVAILABLE", json!([]))),
        (504, body(504, "DEADLINE_EXCEEDED", json!([]))),
        (501, body(501, "UNIMPLEMENTED", json!([]))),
        (502, "<html><body>Bad gateway</body></html>".into()),
        (429, "no JSON".into()),
    ];
    let mut lines = Vec::new();
    for (status, body) in cases {
        let reply = Reply::new(status, body).header("retry-after", "3").header("content-type", "application/json");
        let host = host().setting("retries_max", "0").reply(reply);
        let outcome = Gemini::run(&host, task("x")).expect("an outcome");
        let error = outcome.error.expect("failed");
        lines.push(format!("{status} {:?} {} {:?}: {}", error.kind, error.code, error.retry_after_ms, error.message));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn the_vendors_delay_is_the_floor_of_the_wait() {
    let details = json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17.5s"}]);
    let busy =
        json!({"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED", "details": details}});
    let host = host().reply(Reply::new(429, busy.to_string())).reply(said("Now."));
    let outcome = Gemini::run(&host, task("x")).expect("an outcome");
    assert_eq!((outcome.finish_reason.as_str(), host.waits()), ("done", vec![17_500]));
}

#[test]
fn a_page_of_html_with_status_200_is_not_a_reply() {
    let html = || Reply::new(200, "<html>login</html>").header("content-type", "text/html; charset=utf-8");
    insta::assert_snapshot!([end(&host().reply(html())), end(&interactions().reply(html()))].join("\n"));
}

#[test]
fn defect_14_12_a_cancel_in_the_stream_keeps_the_text_and_the_conversation_goes_on() {
    let host = host().reply(stream(&[parts(json!([{"text": "half a sen"}]))]).then_cancel());
    let first = record_short::<Gemini>(&host, task("x"));
    host.next_run();
    host.add_reply(said("whole"));
    let mut next = task("go on");
    next.run_id = "run-2".into();
    next.session = Some(Session { id: "run-1".into(), transcript: None });
    insta::assert_snapshot!(format!("{first}\n\n{}", record::<Gemini>(&host, next)));
}

/// A transcript of a caller can have any shape: it is sent as it is, and the vendor judges it.
#[test]
fn a_transcript_of_any_shape_is_sent_and_names_that_are_there_stay() {
    let transcript = json!([7, "x", null, [], {"role": "model", "parts": "x"}, {"role": "user", "parts": [3, {"functionResponse": "x"}]},
        {"role": "model", "parts": [{"functionCall": {"name": "a", "id": "1"}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "own", "response": {}}}, {"functionResponse": {}}]}]);
    for api in ["generate-content", "interactions"] {
        let host = host().setting("api", api).setting("retries_max", "0").reply(said("x"));
        let mut task = task("go on");
        task.session = Some(Session { id: "elsewhere".into(), transcript: Some(transcript.to_string()) });
        Gemini::run(&host, task).expect("an outcome");
        let body = &host.requests()[0].1;
        if api == "generate-content" {
            let mut expected = transcript.clone();
            expected[7]["parts"][0]["functionResponse"]["id"] = json!("1");
            expected.as_array_mut().expect("a list").push(json!({"role": "user", "parts": [{"text": "go on"}]}));
            assert_eq!(body["contents"], expected);
        }
    }
}

/// What is sent for each word: `thinkingConfig`, or why it is refused.
#[test]
fn thinking_by_model_and_word() {
    let mut lines = Vec::new();
    for (model, api) in [
        ("gemini-3.5-flash", "generate-content"),
        ("gemini-2.5-flash", "generate-content"),
        ("gemini-2.5-pro", "generate-content"),
        ("gemini-3.5-flash", "interactions"),
    ] {
        for effort in ["none", "auto", "minimal", "low", "medium", "high", "max", "4096", "40000", "-1", "extreme"] {
            let host =
                host().setting("api", api).setting("thoughts", "false").setting("retries_max", "0").reply(said("x"));
            let mut task = task("x");
            task.model = Some(model.into());
            task.reasoning_effort = Some(effort.into());
            let issues: Vec<String> = Gemini::validate(&host, &task)
                .into_iter()
                .map(|issue| format!("{}: {}", issue.field, issue.message))
                .collect();
            let sent = if issues.is_empty() {
                let _ = Gemini::run(&host, task);
                let body = &host.requests()[0].1;
                format!("{}{}", body["generationConfig"], body["generation_config"])
            } else {
                issues.join("; ")
            };
            lines.push(format!("{api} {model} {effort}: {sent}"));
        }
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn thoughts_are_asked_for_where_the_model_has_them() {
    let asked = |model: &str| {
        let host = host().reply(said("x"));
        let mut task = task("x");
        task.model = Some(model.into());
        let _ = Gemini::run(&host, task);
        host.requests()[0].1["generationConfig"]["thinkingConfig"]["includeThoughts"] == true
    };
    let models = ["gemini-3.5-flash", "gemini-2.5-pro", "gemini-2.0-flash", "gemini-flash-latest", "gemma-3-27b-it"];
    assert_eq!(models.map(asked), [true, true, false, true, false]);
}

#[test]
fn a_structured_answer_is_forced() {
    for (host, path) in [(host(), "/toolConfig"), (interactions(), "/generation_config/tool_choice")] {
        let is_content = path == "/toolConfig";
        let (plain, result) = if is_content {
            (
                said("42"),
                stream(&[last(json!([{"functionCall": {"name": "return_result", "args": {"n": 42}}}]), "STOP")]),
            )
        } else {
            (
                replied("i-1", "completed", vec![output(0, "42")]),
                replied("i-2", "requires_action", vec![called(0, "c1", "return_result", &["{\"n\":42}"])]),
            )
        };
        let host = host.tools(&["return_result"]).reply(plain).reply(result);
        let mut task = task("x");
        task.output_schema = Some("{}".into());
        let outcome = Gemini::run(&host, task).expect("an outcome");
        assert_eq!(
            (outcome.finish_reason.as_str(), host.call_lines().as_str()),
            ("done", "return_result {\"n\":42}\n")
        );
        let forced = host.requests()[1].1.pointer(path).cloned();
        let wanted = if is_content {
            json!({"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["return_result"]}})
        } else {
            json!({"allowed_tools": {"mode": "any", "tools": ["return_result"]}})
        };
        assert_eq!(forced, Some(wanted));
        assert_eq!(host.requests()[0].1.pointer(path), None);
    }
}

// ---- Interactions

fn output(index: u64, text: &str) -> Vec<Value> {
    vec![
        json!({"event_type": "step.start", "index": index, "step": {"type": "model_output"}}),
        json!({"event_type": "step.delta", "index": index, "delta": {"type": "text", "text": text}}),
        json!({"event_type": "step.stop", "index": index}),
    ]
}

fn called(index: u64, id: &str, name: &str, pieces: &[&str]) -> Vec<Value> {
    let mut events = vec![
        json!({"event_type": "step.start", "index": index, "step": {"type": "function_call", "id": id, "name": name, "arguments": {}}}),
    ];
    events.extend(pieces.iter().map(|piece| json!({"event_type": "step.delta", "index": index, "delta": {"type": "arguments_delta", "arguments": piece}})));
    events.push(json!({"event_type": "step.stop", "index": index}));
    events
}

fn interaction(id: &str, status: &str, steps: Vec<Vec<Value>>) -> Vec<Value> {
    let mut events = vec![
        json!({"event_type": "interaction.created", "interaction": {"id": id, "status": "in_progress", "model": "gemini-3.5-flash", "object": "interaction"}, "event_id": "e1"}),
        json!({"event_type": "interaction.status_update", "interaction_id": id, "status": "in_progress"}),
    ];
    events.extend(steps.into_iter().flatten());
    events.push(json!({"event_type": "interaction.completed", "interaction": {"id": id, "status": status, "steps": [], "usage":
        {"total_input_tokens": 112, "total_cached_tokens": 100, "total_output_tokens": 7, "total_thought_tokens": 20, "total_tokens": 139}}}));
    events
}

/// An interaction as the vendor streams it: each event named by its type, and a last line that other vendors have.
fn replied(id: &str, status: &str, steps: Vec<Vec<Value>>) -> Reply {
    let events = interaction(id, status, steps);
    let named =
        events.iter().map(|data| format!("event: {}\ndata: {data}\n\n", data["event_type"].as_str().unwrap_or("x")));
    Reply::stream(&(named.collect::<String>() + "event: done\ndata: [DONE]\n\n"), 11)
}

fn thought(index: u64) -> Vec<Value> {
    let delta = |delta: Value| json!({"event_type": "step.delta", "index": index, "delta": delta});
    vec![
        json!({"event_type": "step.start", "index": index, "step": {"type": "thought"}}),
        delta(json!({"type": "thought_summary", "content": {"type": "text", "text": "Let me "}})),
        delta(json!({"type": "thought_summary", "content": {"type": "text", "text": "look."}})),
        delta(json!({"type": "thought_signature", "signature": "c2lnMQ=="})),
        json!({"event_type": "step.stop", "index": index}),
    ]
}

/// With `store` a request names the interaction before and holds the answers; without, it holds all steps unchanged.
#[test]
fn interactions_go_on_by_id_or_with_all_steps() {
    for store in ["true", "false"] {
        let steps = vec![
            thought(0),
            output(1, "I look."),
            called(2, "call-a", "list_dir", &[]),
            called(3, "call-b", "read_file", &["{\"path\":", "\"a.txt\"}"]),
        ];
        let host = interactions()
            .setting("store", store)
            .tools(&["list_dir", "read_file"])
            .on_call(|call| answer(call, call.name == "read_file", format!("did {}", call.name), None))
            .reply(replied("i-1", "requires_action", steps))
            .reply(replied("i-2", "completed", vec![output(0, "Done.")]));
        let first = record::<Gemini>(&host, task("look"));
        host.next_run();
        host.add_reply(replied("i-3", "completed", vec![output(0, "Again.")]));
        let mut next = task("again");
        next.run_id = "run-2".into();
        next.session = Some(Session { id: "run-1".into(), transcript: None });
        let outcome = Gemini::run(&host, next).expect("an outcome");
        assert_eq!(outcome.output, "Again.");
        let (_, last) = host.requests().pop().expect("a request");
        insta::assert_snapshot!(
            format!("interactions_store_{store}"),
            format!("{first}\n-- next run\n{} {}", last["previous_interaction_id"], last["input"])
        );
    }
}

#[test]
fn each_status_of_an_interaction_ends_as_documented() {
    let statuses = [
        "completed",
        "requires_action",
        "incomplete",
        "requires_continuation",
        "failed",
        "cancelled",
        "budget_exceeded",
        "added_later",
    ];
    let mut lines = Vec::new();
    for status in statuses {
        let host = interactions().reply(replied("i-1", status, vec![output(0, "part")]));
        lines.push(format!("{status}: {}", end(&host)));
    }
    let mut cut = called(1, "c", "shell", &["{\"comm"]);
    cut.pop();
    lines.push(format!(
        "cut call: {}",
        end(&interactions().tools(&["shell"]).reply(replied("i", "incomplete", vec![output(0, "part"), cut])))
    ));
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_broken_interaction_is_a_typed_error() {
    let start = interaction("i-1", "completed", vec![])[0].clone();
    let error = |code: &str| json!({"event_type": "error", "error": {"code": code, "message": "because"}});
    let bad: Vec<Vec<Value>> = vec![
        vec![],
        vec![start.clone()],
        vec![start.clone(), error("resource_exhausted")],
        vec![start.clone(), error("https://errors.example/INVALID_ARGUMENT")],
        vec![start.clone(), error("odd")],
        vec![start.clone(), json!({"event_type": "step.start", "index": 0})],
        vec![start.clone(), json!({"event_type": "step.start", "step": {"type": "thought"}})],
        vec![start.clone(), json!({"event_type": "step.delta", "index": 4, "delta": {"type": "text", "text": "x"}})],
        interaction("i", "requires_action", vec![called(0, "c", "shell", &["{]"])]),
        interaction("i", "requires_action", vec![called(0, "c", "shell", &["[1]"])]),
        interaction(
            "i",
            "requires_action",
            vec![vec![json!({"event_type": "step.start", "index": 0, "step": {"type": "function_call"}})]],
        ),
    ];
    let mut lines: Vec<String> = bad
        .iter()
        .map(|events| end(&interactions().setting("retries_max", "0").tools(&["shell"]).reply(stream(events))))
        .collect();
    lines.push(end(&interactions().reply(Reply::stream("data: {\n\n", 99))));
    insta::assert_snapshot!(lines.join("\n"));
}

// ---- Vertex AI, settings, refusals

#[test]
fn where_requests_go() {
    let url = |host: FakeHost, model: &str| {
        let host = host.setting("retries_max", "0").reply(said("x"));
        let mut task = task("x");
        task.model = Some(model.into());
        match Gemini::run(&host, task) {
            Ok(_) => host.requests()[0].0.url.clone(),
            Err(error) => format!("{:?} {}: {}", error.kind, error.code, error.message),
        }
    };
    let vertex = |base: &str, location: &str| {
        host().setting("base_url", base).setting("vertex_project", "my-project").setting("vertex_location", location)
    };
    let lines = [
        url(host(), "gemini-3.5-flash"),
        url(host(), "models/gemini-3.5-flash"),
        url(host(), "tunedModels/mine-1"),
        url(vertex("https://aiplatform.googleapis.com", "global"), "gemini-3.5-flash"),
        url(vertex("https://europe-west4-aiplatform.googleapis.com/v1", "europe-west4"), "gemini-2.5-pro"),
        url(vertex("https://aiplatform.googleapis.com", "global"), "publishers/anthropic/models/claude-x@20260101"),
        url(vertex("https://generativelanguage.googleapis.com", "europe-west4"), "gemini-2.5-pro"),
        url(vertex("https://generativelanguage.googleapis.com", "global"), "gemini-2.5-pro"),
        url(vertex("https://aiplatform.googleapis.com", "a/../b"), "gemini-2.5-pro"),
        url(vertex("https://aiplatform.googleapis.com", "global").setting("api", "interactions"), "gemini-2.5-pro"),
        url(interactions(), "gemini-3.5-flash"),
        url(host().setting("api", "chat"), "x"),
        url(host().setting("max_tokens", "0"), "x"),
    ];
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_model_whose_name_would_leave_its_place_in_the_url_is_refused() {
    for model in ["../x", "a?b", "a#b", "a:b", "a b", "a//b", "/a", ".", "ü", "a\nb"] {
        let mut task = task("x");
        task.model = Some(model.into());
        let issues = Gemini::validate(&host(), &task);
        assert_eq!(issues.iter().map(|issue| issue.field.as_str()).collect::<Vec<_>>(), ["model"], "{model}");
        let outcome = Gemini::run(&host(), task).expect("an outcome");
        assert_eq!(outcome.error.map(|error| error.code), Some("model".into()), "{model}");
    }
}

#[test]
fn defect_14_15_all_that_cannot_be_honoured_is_listed() {
    let mut task = task("x");
    task.reasoning_effort = Some("extreme".into());
    task.permissions.network = Some(false);
    task.permissions.native_profile = Some("ci".into());
    let attachment =
        |kind: &str| Attachment { kind: kind.into(), name: kind.into(), path: kind.into(), digest: "00".into() };
    task.attachments = vec![attachment("skill"), attachment("video")];
    let host = FakeHost::new().setting("base_url", "https://vendor.example").setting("model", "m");
    let issues: Vec<String> =
        Gemini::validate(&host, &task).iter().map(|issue| format!("{}: {}", issue.field, issue.message)).collect();
    insta::assert_snapshot!(issues.join("\n"));
}

#[test]
fn a_plain_task_has_no_issues() {
    assert_eq!(Gemini::validate(&host(), &task("x")), []);
    assert_eq!(Gemini::validate(&interactions(), &task("x")), []);
}

#[test]
fn defect_14_18_availability_asks_only_when_probed() {
    let wrong = json!({"error": {"code": 400, "message": "secret text of the vendor", "status": "INVALID_ARGUMENT",
        "details": [{"reason": "API_KEY_INVALID"}]}});
    let vertex = host().setting("base_url", "https://aiplatform.googleapis.com").setting("vertex_project", "p");
    let cases = [
        host(),
        host().reply(Reply::new(200, "{\"models\":[]}")),
        host().reply(Reply::new(400, wrong.to_string())),
        vertex.reply(Reply::new(503, "")),
        FakeHost::new(),
    ];
    let mut lines = Vec::new();
    for (index, host) in cases.into_iter().enumerate() {
        let report = Gemini::availability(&host, if index == 0 { 0 } else { 2000 });
        let sent: Vec<String> =
            host.requests().iter().map(|(head, _)| format!("{} {}", head.method, head.url)).collect();
        lines.push(format!("{:?} {} {} {sent:?}", report.status, report.reason, report.message));
    }
    insta::assert_snapshot!(lines.join("\n"));
}
