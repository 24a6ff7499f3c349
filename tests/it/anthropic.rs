//! The Anthropic plugin through the library: against `aimock`, whose journal says what it was sent, and against scripted
//! answers for the shapes that `aimock` does not make.

use midplane::core::ErrorKind;
use midplane::core::event::EventKind;
use midplane::core::outcome::FinishReason;
use midplane::{CancelReceipt, Refusal};
use serde_json::{Value, json};

use crate::peer::Aimock;
use crate::script_server::{
    ScriptServer, Step, answer, block, chunked, message, sse, sse_head, sse_text, start, text, tool,
};
use crate::world::{KEY, Ran, Setup, World, request};

const SSE: (&str, &str) = ("content-type", "text/event-stream");

/// A mock with these fixtures and a host in front of it, or none where the mock is not installed.
async fn mocked(fixtures: Value) -> Option<(Aimock, World)> {
    mocked_with(fixtures, |setup| setup).await
}

async fn mocked_with(fixtures: Value, set: impl FnOnce(Setup) -> Setup) -> Option<(Aimock, World)> {
    let mock = Aimock::start(KEY, &json!({ "fixtures": fixtures })).await?;
    let world = set(Setup::new(mock.url()).setting("model", json!("claude-mocked"))).open().await;
    Some((mock, world))
}

/// The journal in short: of each request its answer, and its messages but for the system prompt.
fn asked(journal: &[Value]) -> String {
    let mut shown = String::new();
    for (number, entry) in journal.iter().enumerate() {
        shown.push_str(&format!("request {number}: {}\n", entry["response"]["status"]));
        for message in
            entry["body"]["messages"].as_array().into_iter().flatten().filter(|message| message["role"] != "system")
        {
            shown.push_str(&format!("    {message}\n"));
        }
    }
    shown
}

/// Outcome and log of a run.
fn shown(ran: &Ran) -> String {
    format!("{}\nerror {}\n", ran.story(), ran.error())
}

#[tokio::test]
async fn a_text_reply() {
    let fixtures = json!([{
        "match": {"userMessage": "greet"},
        "response": {"content": "Hello from the mock, ünïcode too.", "usage": {"input_tokens": 11, "output_tokens": 7}},
        "chunkSize": 3,
    }]);
    let Some((mock, world)) = mocked(fixtures).await else { return };
    let mut task = world.task("greet me");
    task.system = Some("Be brief.".to_owned());
    let ran = world.run(task).await;
    insta::assert_snapshot!(shown(&ran));

    let journal = mock.journal().await;
    assert_eq!(journal.len(), 1);
    let (head, body) = (&journal[0]["headers"], &journal[0]["body"]);
    // The mock takes the request only with the right key, once, and masks it in what it shows.
    assert_eq!(head["x-api-key"], "[REDACTED]");
    assert_eq!(head["anthropic-version"], "2023-06-01");
    assert_eq!(head["content-type"], "application/json");
    assert_eq!(head["authorization"], Value::Null);
    assert_eq!(
        (&body["model"], &body["stream"], &body["max_tokens"]),
        (&json!("claude-mocked"), &json!(true), &json!(16384))
    );
    assert!(body["messages"][0]["content"].as_str().is_some_and(|system| system.contains("Be brief.")), "{body}");
    assert_eq!(body["messages"][1], json!({"role": "user", "content": "greet me"}));
    let names: Vec<&str> =
        body["tools"].as_array().into_iter().flatten().filter_map(|tool| tool["function"]["name"].as_str()).collect();
    // No shell without a grant, no `return_result` without a schema.
    assert_eq!(names, ["read_file", "write_file", "edit_file", "move_file", "list_dir", "glob", "grep"]);
}

#[tokio::test]
async fn what_the_model_thinks_is_told_apart() {
    let fixtures = json!([{"match": {"userMessage": "think"}, "response": {"content": "It is 42.", "reasoning": "Six by seven."}}]);
    let Some((mock, world)) = mocked(fixtures).await else { return };
    let mut task = world.task("think hard");
    task.reasoning_effort = Some("low".to_owned());
    let ran = world.run(task).await;
    let thoughts: String =
        ran.notifications("thinking").iter().filter_map(|data| data["text"].as_str().map(str::to_owned)).collect();
    assert_eq!((ran.outcome.output.as_str(), thoughts.as_str()), ("It is 42.", "Six by seven."), "{}", shown(&ran));
    assert_eq!(mock.journal().await.len(), 1);
}

#[tokio::test]
async fn tools_of_the_host_on_a_real_folder() {
    let call =
        |id: &str, name: &str, arguments: Value| json!({"id": id, "name": name, "arguments": arguments.to_string()});
    let fixtures = json!([
        {"match": {"userMessage": "inventory", "hasToolResult": false}, "response": {"content": "I look.", "toolCalls": [
            call("toolu_1", "read_file", json!({"path": "notes.txt"})),
            call("toolu_2", "grep", json!({"pattern": "TODO"})),
            call("toolu_3", "read_file", json!({"path": "../outside.txt"})),
        ]}},
        {"match": {"userMessage": "inventory", "toolResultContains": "created"}, "response": {"content": "Written."}},
        {"match": {"userMessage": "inventory", "hasToolResult": true}, "response": {"toolCalls": [
            call("toolu_4", "write_file", json!({"path": "out/report.md", "content": "# One TODO\n"})),
        ]}},
    ]);
    let Some((mock, world)) = mocked(fixtures).await else { return };
    std::fs::write(world.workspace.path().join("notes.txt"), "first\nTODO second\n").expect("a file");
    let ran = world.run(world.task("inventory of the folder")).await;
    insta::assert_snapshot!(format!("{}\n{}", shown(&ran), asked(&mock.journal().await)));
    let report = std::fs::read_to_string(world.workspace.path().join("out/report.md")).expect("the report");
    assert_eq!(report, "# One TODO\n");
    let outputs = world.host.outputs(&ran.records[0].run_id).await.expect("outputs");
    assert_eq!(outputs.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["out/report.md"]);
}

#[tokio::test]
async fn a_rate_limit_is_waited_for() {
    let fixtures = json!([
        {"match": {"userMessage": "busy", "sequenceIndex": 0},
            "response": {"error": {"message": "slow down", "type": "rate_limit_error"}, "status": 429, "retryAfter": 1}},
        {"match": {"userMessage": "busy", "sequenceIndex": 1}, "response": {"content": "Now."}},
    ]);
    let Some((mock, world)) = mocked(fixtures).await else { return };
    let ran = world.run(world.task("are you busy?")).await;
    assert_eq!(
        (ran.outcome.finish_reason, ran.outcome.output.as_str()),
        (FinishReason::Done, "Now."),
        "{}",
        ran.error()
    );
    let retries = ran.notifications("retry");
    assert_eq!(retries.len(), 1);
    assert_eq!((&retries[0]["attempt"], &retries[0]["code"]), (&json!(1), &json!("rate-limited")));
    // The vendor's second is the floor of the wait.
    assert!(retries[0]["wait_ms"].as_u64().is_some_and(|wait| wait >= 1_000), "{retries:?}");
    assert_eq!(mock.journal().await.len(), 2);
}

/// What the vendor answers instead of a stream: how often it is asked, and how the run ends.
#[tokio::test]
async fn errors_of_the_vendor() {
    let error = |word: &str, kind: &str, status: u16| json!({"match": {"userMessage": word}, "response": {"error": {"message": format!("about {word}"), "type": kind}, "status": status}});
    let fixtures = json!([
        error("wrong", "invalid_request_error", 400),
        error("unpaid", "billing_error", 402),
        error("forbidden", "permission_error", 403),
        error("unknown", "not_found_error", 404),
        error("large", "request_too_large", 413),
        error("down", "api_error", 500),
        error("crowded", "overloaded_error", 529),
    ]);
    let Some((mock, world)) = mocked_with(fixtures, |setup| setup.setting("retries_max", json!(1))).await else {
        return;
    };
    let mut lines = Vec::new();
    let mut before = 0;
    for goal in ["wrong", "unpaid", "forbidden", "unknown", "large", "down", "crowded"] {
        let ran = world.run(world.task(goal)).await;
        let asked = mock.journal().await.len();
        let error = ran.outcome.error.clone().expect("an error");
        lines.push(format!(
            "{goal}: {} {}, asked {} times: {}",
            ran.outcome.finish_reason.as_str(),
            ran.error(),
            asked - before,
            error.message
        ));
        before = asked;
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[tokio::test]
async fn a_key_that_the_vendor_refuses() {
    let other = "sk-ant-api03-this-key-is-not-the-one-that-the-mock-takes";
    let Some((_mock, world)) =
        mocked_with(json!([{"match": {"userMessage": "hi"}, "response": {"content": "x"}}]), |setup| {
            setup.key(Some(other))
        })
        .await
    else {
        return;
    };
    let ran = world.run(world.task("hi")).await;
    assert_eq!((ran.outcome.finish_reason, ran.error().as_str()), (FinishReason::Failed, "denied/credential"));
    let availability = world.host.availability("anthropic", std::time::Duration::from_secs(5)).await.expect("a report");
    assert_eq!(
        (availability.status, availability.reason.as_str()),
        ("not-ready", "missing-credentials"),
        "{availability:?}"
    );
}

#[tokio::test]
async fn a_connection_that_breaks_in_the_stream() {
    let fixtures = json!([{
        "match": {"userMessage": "talk"}, "response": {"content": "one two three four five six seven eight", "usage": {"input_tokens": 5, "output_tokens": 6}},
        "chunkSize": 4, "latency": 60, "truncateAfterChunks": 7,
    }]);
    let Some((mock, world)) = mocked(fixtures).await else { return };
    let ran = world.run(world.task("talk")).await;
    assert_eq!(
        (ran.outcome.finish_reason, ran.error().as_str()),
        (FinishReason::Failed, "unavailable/body-truncated"),
        "{}",
        shown(&ran)
    );
    // What was heard is kept, and nothing is asked again: the text would come twice.
    assert!(
        ran.outcome.output.starts_with("one two")
            && "one two three four five six seven eight".starts_with(&ran.outcome.output)
    );
    assert_eq!(ran.text(), ran.outcome.output);
    assert_eq!(ran.of(EventKind::StreamError).count(), 1);
    assert_eq!(ran.outcome.usage.input_tokens, Some(5));
    assert_eq!(mock.journal().await.len(), 1);
}

/// Letters that come one by one, and would for half a minute.
fn slow(word: &str) -> Value {
    let content = "drip ".repeat(60);
    json!([{"match": {"userMessage": word}, "response": {"content": content, "usage": {"input_tokens": 5, "output_tokens": 6}}, "chunkSize": 1, "latency": 100}])
}

#[tokio::test]
async fn a_slow_drip_against_a_deadline() {
    let Some((_mock, world)) = mocked(slow("drip")).await else { return };
    let mut task = world.task("drip");
    task.timeout_ms = Some(3_000);
    let ran = world.run(task).await;
    assert_eq!(
        (ran.outcome.finish_reason, ran.error().as_str()),
        (FinishReason::TimedOut, "cancelled/deadline"),
        "{}",
        shown(&ran)
    );
    assert!(ran.outcome.output.starts_with("drip") && ran.text() == ran.outcome.output, "{}", shown(&ran));
}

#[tokio::test]
async fn a_cancel_in_the_stream_keeps_what_was_heard() {
    let Some((mock, world)) = mocked(slow("drip")).await else { return };
    let mut run = world.host.run(request(world.task("drip"))).await.expect("a run");
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
    assert!(!ran.outcome.output.is_empty() && "drip ".repeat(60).starts_with(&ran.outcome.output), "{}", shown(&ran));
    assert_eq!(ran.outcome.usage.input_tokens, Some(5));
    assert_eq!(world.host.cancel(run.id()).await.expect("a receipt"), CancelReceipt::NotActive);
    assert_eq!(mock.journal().await.len(), 1);
}

#[tokio::test]
async fn a_structured_answer_is_repaired() {
    let answer = |answer: Value| json!({"toolCalls": [{"id": "toolu_1", "name": "return_result", "arguments": json!({"answer": answer}).to_string()}]});
    let fixtures = json!([
        {"match": {"userMessage": "multiply", "hasToolResult": false}, "response": answer(json!("forty-two"))},
        {"match": {"userMessage": "multiply", "toolResultContains": "does not fit the schema"}, "response": answer(json!(42))},
    ]);
    let Some((mock, world)) = mocked(fixtures).await else { return };
    let mut task = world.task("multiply six by seven");
    task.output_schema = Some(
        json!({"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"], "additionalProperties": false}),
    );
    let ran = world.run(task).await;
    assert_eq!(ran.outcome.parsed_output, Some(json!({"answer": 42})));
    insta::assert_snapshot!(format!("{}\n{}", shown(&ran), asked(&mock.journal().await)));
}

#[tokio::test]
async fn a_reply_cut_at_its_most_tokens() {
    let fixtures = json!([{"match": {"userMessage": "essay"}, "response": {"content": "It was a dark and", "finishReason": "length"}}]);
    let Some((_mock, world)) = mocked(fixtures).await else { return };
    let ran = world.run(world.task("essay")).await;
    assert_eq!((ran.outcome.finish_reason, ran.error().as_str()), (FinishReason::MaxTokens, "limit/max-tokens"));
    assert_eq!(ran.outcome.output, "It was a dark and");
}

#[tokio::test]
async fn the_last_turn_runs_no_tool() {
    let fixtures = json!([{"match": {"userMessage": "write"}, "response": {"toolCalls": [
        {"id": "toolu_1", "name": "write_file", "arguments": "{\"path\":\"a.txt\",\"content\":\"a\"}"}]}}]);
    let Some((mock, world)) = mocked(fixtures).await else { return };
    let mut task = world.task("write");
    task.max_rounds = Some(1);
    let ran = world.run(task).await;
    assert_eq!(
        (ran.outcome.finish_reason, ran.error().as_str(), ran.outcome.rounds),
        (FinishReason::MaxTurns, "limit/max-turns", 1)
    );
    assert!(!world.workspace.path().join("a.txt").exists());
    assert_eq!(mock.journal().await.len(), 1);
}

#[tokio::test]
async fn a_conversation_goes_on_after_a_restart() {
    let fixtures = json!([
        {"match": {"userMessage": "my number"}, "response": {"content": "I keep 7."}},
        {"match": {"userMessage": "which number"}, "response": {"content": "It was 7."}},
    ]);
    let Some((mock, world)) = mocked(fixtures).await else { return };
    let first = world.run(world.task("my number is 7")).await;
    let session = first.outcome.session_id.clone().expect("a session");
    let world = world.reopened().await;
    let mut task = world.task("which number was it?");
    task.session_id = Some(session.clone());
    let second = world.run(task).await;
    assert_eq!(second.outcome.session_id.as_ref(), Some(&session));
    insta::assert_snapshot!(asked(&mock.journal().await));

    // Another profile's or nobody's conversation is not begun anew in silence.
    let mut task = world.task("which number was it?");
    task.session_id = Some("01nobodys".to_owned());
    let lost = world.run(task).await;
    assert_eq!((lost.outcome.finish_reason, lost.error().as_str()), (FinishReason::Failed, "not-found/session"));
    assert_eq!(mock.journal().await.len(), 2);
}

#[tokio::test]
async fn nothing_is_sent_without_grant_and_key() {
    let refused = |refusal: Result<midplane::Run, Box<Refusal>>| match refusal {
        Ok(run) => panic!("run {} was not refused", run.id()),
        Err(refusal) => refusal,
    };
    let server = ScriptServer::start(|_, _| Vec::new()).await;
    let url = server.url();
    let http: midplane::core::permission::Grant = format!("http:{url}").parse().expect("a grant");
    let secret = "secret:ANTHROPIC_API_KEY".parse().expect("a grant");

    let world = Setup::new(&url).ungranted().open().await;
    let refusal = refused(world.host.run(request(world.task("hi"))).await);
    assert_eq!((refusal.error.kind, refusal.error.code.as_ref()), (ErrorKind::Denied, "grant-missing"));
    assert_eq!(refusal.missing, [http.clone(), secret]);
    let hint = refusal.error.hint.unwrap_or_default();
    assert!(
        hint.contains(&format!("midplane grant allow anthropic '{http}'"))
            || hint.contains(&format!("midplane grant allow anthropic {http}")),
        "{hint}"
    );

    // One of the two is not enough.
    world.host.allow("anthropic", &http).await.expect("allowed");
    let refusal = refused(world.host.run(request(world.task("hi"))).await);
    assert_eq!(refusal.missing.iter().map(ToString::to_string).collect::<Vec<_>>(), ["secret:ANTHROPIC_API_KEY"]);

    let world = Setup::new(&url).key(None).open().await;
    let refusal = refused(world.host.run(request(world.task("hi"))).await);
    assert_eq!((refusal.error.kind, refusal.error.code.as_ref()), (ErrorKind::Denied, "secret"));
    assert!(refusal.error.message.contains("`ANTHROPIC_API_KEY`"), "{:?}", refusal.error);

    // A refused task leaves nothing behind.
    assert_eq!(server.requests().len(), 0);
    assert!(world.host.runs(midplane::RunQuery::default()).await.expect("runs").is_empty());
}

/// An `error` event.
fn failure(kind: &str) -> Value {
    json!({"type": "error", "error": {"type": kind, "message": "says the vendor"}})
}

/// What is answered to each request, by its number.
type Answers = fn(usize) -> Vec<Step>;

/// Answers that `aimock` does not make: how often the vendor is asked, and what comes of it.
#[tokio::test]
async fn scripted_answers() {
    let cases: [(&str, Answers); 14] = [
        ("a pause is gone on from", |number| match number {
            0 => sse(&message(vec![text(0, &["Searching."])], "pause_turn")),
            _ => sse(&message(vec![text(0, &["Found."])], "end_turn")),
        }),
        ("a refusal", |_| sse(&message(vec![text(0, &["I can"])], "refusal"))),
        ("a refusal that says why", |_| {
            let mut events = message(vec![text(0, &["I can"])], "refusal");
            let last = events.len() - 2;
            events[last]["delta"]["stop_details"] =
                json!({"type": "refusal", "category": "cyber", "explanation": "it could do harm"});
            sse(&events)
        }),
        ("the window of the model is full", |_| {
            sse(&message(vec![text(0, &["It was"])], "model_context_window_exceeded"))
        }),
        ("overloaded, with a time", |number| match number {
            0 => {
                let body = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
                answer(
                    "529 Site is overloaded",
                    &[("content-type", "application/json"), ("retry-after", "1"), ("request-id", "req_1")],
                    &[&body.to_string()],
                )
            }
            _ => sse(&message(vec![text(0, &["Now."])], "end_turn")),
        }),
        ("an error event before output is repeated", |number| match number {
            0 => sse(&[start(), failure("overloaded_error")]),
            _ => sse(&message(vec![text(0, &["Now."])], "end_turn")),
        }),
        ("an error event after output is not", |_| {
            let mut events = vec![start()];
            events.extend(text(0, &["Half of "]));
            events.push(failure("overloaded_error"));
            sse(&events)
        }),
        ("a page of HTML with status 200", |_| {
            answer("200 OK", &[("content-type", "text/html")], &["<html>Sign in</html>"])
        }),
        ("a clean end without message_stop, before output", |number| match number {
            0 => sse(&[start()]),
            _ => sse(&message(vec![text(0, &["Now."])], "end_turn")),
        }),
        ("a clean end without message_stop, after output", |_| {
            let mut events = vec![start()];
            events.extend(text(0, &["Half of "]));
            sse(&events)
        }),
        ("data that is not JSON", |_| {
            answer("200 OK", &[SSE], &["event: message_start\ndata: {\"type\": \"message_st\n\n"])
        }),
        ("a connection cut inside an event, before output", |number| match number {
            0 => vec![sse_head(), Step::Send(chunked("event: message_start\ndata: {\"ty")[..20].to_vec())],
            _ => sse(&message(vec![text(0, &["Now."])], "end_turn")),
        }),
        ("a spend limit is not waited for", |_| {
            let body = json!({"type": "error", "error": {"type": "rate_limit_error", "message": "limit reached", "details": {"error_code": "enforced_spend_limit_reached"}}});
            answer("429 Too Many Requests", &[("content-type", "application/json")], &[&body.to_string()])
        }),
        ("a wait that the vendor wants too long", |_| {
            let body = json!({"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}});
            answer(
                "429 Too Many Requests",
                &[("content-type", "application/json"), ("retry-after", "4000")],
                &[&body.to_string()],
            )
        }),
    ];
    let mut all = Vec::new();
    for (name, script) in cases {
        let server = ScriptServer::start(move |number, _| script(number)).await;
        let world = Setup::new(&server.url()).setting("retries_max", json!(1)).open().await;
        let ran = world.run(world.task("hi")).await;
        all.push(format!("-- {name} (asked {} times)\n{}", server.requests().len(), shown(&ran)));
    }
    insta::assert_snapshot!(all.join("\n"));
}

/// The bytes on the wire: head and body of each request of a thinking tool loop.
#[tokio::test]
async fn requests_are_what_the_vendor_wants() {
    let server = ScriptServer::start(|number, _| {
        let thinking = block(
            0,
            &json!({"type": "thinking", "thinking": "", "signature": ""}),
            &[
                json!({"type": "thinking_delta", "thinking": "Let me look."}),
                json!({"type": "signature_delta", "signature": "EqQBCg=="}),
            ],
        );
        match number {
            0 => {
                let hidden = block(1, &json!({"type": "redacted_thinking", "data": "b3BhcXVl"}), &[]);
                let calls = [
                    tool(3, "toolu_1", "list_dir", &[]),
                    tool(4, "toolu_2", "read_file", &["{\"pa", "th\": \"a.txt\"}"]),
                ]
                .concat();
                let events = message(vec![thinking, hidden, text(2, &["I ", "look."]), calls], "tool_use");
                // One byte of body in a chunk of the transport: nothing depends on where it is cut.
                let body = sse_text(&events);
                let letters: Vec<&str> = body.split_inclusive(|_: char| true).collect();
                answer("200 OK", &[SSE], &letters)
            }
            _ => sse(&message(vec![thinking, text(1, &["Done."])], "end_turn")),
        }
    })
    .await;
    let world = Setup::new(&server.url()).setting("betas", json!(["interleaved-thinking-2025-05-14"])).open().await;
    std::fs::write(world.workspace.path().join("a.txt"), "alpha\n").expect("a file");
    let mut task = world.task("look");
    task.model = Some("claude-scripted".to_owned());
    task.reasoning_effort = Some("low".to_owned());
    task.permissions.allowed_tools = vec!["list_dir".to_owned(), "read_file".to_owned()];
    let ran = world.run(task).await;
    let requests = server.requests();
    let mut wire = Vec::new();
    for request in &requests {
        // Under its name once, with the value that the host put there, and nowhere else.
        assert_eq!(request.header("x-api-key"), [KEY]);
        assert!(!String::from_utf8_lossy(&request.body).contains(KEY));
        wire.push(request.line.clone());
        for (name, value) in &request.headers {
            let value = match name.to_lowercase().as_str() {
                "x-api-key" => "<key>",
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
            tool["description"] = json!("<description>");
            assert_eq!(tool["input_schema"]["type"], "object");
            tool["input_schema"] = json!("<schema>");
        }
        body["system"][0]["text"] = json!("<system>");
        wire.push(serde_json::to_string_pretty(&body).expect("JSON"));
    }
    insta::assert_snapshot!(format!("{}\n{}", wire.join("\n"), shown(&ran)));
}

/// What a vendor says never steers the host: a reply that is too long, and one that never ends, are ended by its bounds.
#[tokio::test]
async fn a_vendor_that_never_ends_meets_the_bounds_of_the_host() {
    let delta = sse_text(&[
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "more ".repeat(2_000)}}),
    ]);
    let endless = move |_: usize, _: &crate::script_server::Request| {
        let head = sse_text(&[start(), text(0, &[])[0].clone()]);
        vec![sse_head(), Step::Send(chunked(&head)), Step::Repeat(chunked(&delta))]
    };
    let server = ScriptServer::start(endless).await;
    let world = Setup::new(&server.url()).limit("http_bytes_max", 2 * 1024 * 1024).open().await;
    let ran = world.run(world.task("hi")).await;
    let error = ran.outcome.error.as_ref().expect("an error");
    assert_eq!((ran.outcome.finish_reason, error.code.as_ref()), (FinishReason::Failed, "http-bytes"), "{error:?}");
    assert!(ran.outcome.output.starts_with("more more "));
}
