//! The Anthropic plugin through the library, against scripted answers for the shapes that `aimock` does not make. What it
//! does like every adapter is in `wires`.

use midplane::Refusal;
use midplane::core::ErrorKind;
use midplane::core::outcome::FinishReason;
use serde_json::{Value, json};

use crate::script_server::{
    ScriptServer, Step, answer, block, chunked, message, sse, sse_head, sse_text, start, text, tool,
};
use crate::wires::shown;
use crate::world::{KEY, Setup, request};

const SSE: (&str, &str) = ("content-type", "text/event-stream");

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
