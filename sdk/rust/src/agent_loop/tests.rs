//! The loop with a made-up vendor and a scripted host. The vendor's stream is one JSON object an event, so that a test
//! reads as what the model says.

use serde_json::{Value, json};

use super::*;
use crate::agent::{Attachment, Session};
use crate::host::Request;
use crate::http::status_error;
use crate::testing::{FakeHost, Reply as Http, answer, task};

pub(super) struct Toy;

#[derive(Default)]
struct ToyDecoder {
    text: String,
    calls: Vec<Call>,
    stop: Option<String>,
}

impl Vendor for Toy {
    fn form(&self) -> &str {
        "toy"
    }

    fn user(&self, text: &str) -> Value {
        json!({ "user": text })
    }

    fn partial(&self, text: &str) -> Value {
        json!({ "partial": text })
    }

    fn answers(&self, answers: &[Answer]) -> Vec<Value> {
        answers.iter().map(|a| json!({ "answer": a.id, "text": a.text, "error": a.is_error })).collect()
    }

    fn request(&self, turn: &Turn<'_>) -> Result<Builder> {
        let tools: Vec<&str> = turn.tools.iter().map(|tool| tool.name.as_str()).collect();
        Builder::new("POST", "https://toy.example/chat").json(&json!({
            "model": turn.model, "effort": turn.effort, "messages": turn.messages, "tools": tools, "force": turn.force_tool,
        }))
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        Box::new(ToyDecoder::default())
    }

    fn error(&self, status: u16, headers: &[(String, String)], body: &[u8]) -> Error {
        match body {
            b"spent" => Error::limit("spend-limit", "spent"),
            _ => status_error(status, headers, &crate::http::body_message(body)),
        }
    }
}

impl Decoder for ToyDecoder {
    fn event(&mut self, event: &SseEvent, deltas: &mut Vec<Delta>) -> Result<()> {
        let data: Value = serde_json::from_str(&event.data)
            .map_err(|_| Error::internal("stream-malformed", "the stream is not JSON"))?;
        if let Some(text) = data["text"].as_str() {
            self.text.push_str(text);
            deltas.push(Delta::Text(text.into()));
        }
        if let Some(text) = data["think"].as_str() {
            deltas.push(Delta::Thinking(text.into()));
        }
        if let Some(n) = data["out"].as_u64() {
            deltas.push(Delta::Usage(Usage {
                output_tokens: Some(n),
                cost_usd: data["cost"].as_f64(),
                ..Usage::default()
            }));
        }
        if let Some([id, name, arguments]) = data["call"].as_array().map(Vec::as_slice) {
            deltas.push(Delta::Silent);
            self.calls.push(Call {
                id: id.as_str().unwrap_or_default().into(),
                name: name.as_str().unwrap_or_default().into(),
                arguments: arguments.to_string(),
            });
        }
        if let Some([id, name, arguments]) = data["raw"].as_array().map(Vec::as_slice) {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            self.calls.push(Call { id: text(id), name: text(name), arguments: text(arguments) });
        }
        if let Some(code) = data["error"].as_str() {
            return Err(Error::unavailable(code, "the vendor says so"));
        }
        if let Some(stop) = data["stop"].as_str() {
            self.stop = Some(stop.into());
        }
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.stop.is_some()
    }

    fn ends_whole(&mut self) -> bool {
        self.text.ends_with("the end.")
    }

    fn reply(self: Box<Self>) -> Result<Reply> {
        let stop_word = self.stop.unwrap_or_default();
        let stop = match stop_word.as_str() {
            "again" => Stop::Again,
            "tokens" => Stop::MaxTokens,
            "bad" => Stop::BadCall(Error::internal("bad-call", "it is no JSON")),
            "refuse" => Stop::Failed(Error::denied("refusal", "the model declined")),
            _ => Stop::Done,
        };
        let ids: Vec<&str> = self.calls.iter().map(|call| call.id.as_str()).collect();
        let messages = vec![json!({ "model": self.text, "calls": ids })];
        Ok(Reply { messages, calls: self.calls, stop, stop_word })
    }
}

/// A stream of these events, cut into small chunks.
fn says(events: &[Value]) -> Http {
    let body: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    Http::stream(&body, 7)
}

fn done(text: &str) -> Http {
    says(&[json!({ "text": text }), json!({ "out": 5 }), json!({ "stop": "done" })])
}

fn options() -> Options {
    Options { model: "toy-1".into(), retries_max: 3, retry_wait_max_ms: 60_000 }
}

fn run_task(host: &FakeHost, task: &Task) -> Outcome {
    run(host, &Toy, task, &options()).expect("an outcome")
}

/// Everything that came of a run, as one text to compare.
fn record(host: &FakeHost, outcome: &Outcome) -> String {
    let mut lines = vec![format!("{outcome:#?}"), String::new()];
    lines.push("events".into());
    lines.extend(host.event_lines());
    lines.push("requests".into());
    lines.extend(host.requests().iter().map(|(_, body)| body["messages"].to_string()));
    lines.push("calls".into());
    lines.push(host.call_lines());
    lines.join("\n")
}

#[test]
fn text_becomes_events_output_and_usage() {
    let host = FakeHost::new().reply(says(&[
        json!({ "think": "hm" }),
        json!({ "text": "Hello " }),
        json!({ "text": "there" }),
        json!({ "out": 5 }),
        json!({ "stop": "done" }),
        json!({ "text": "never read" }),
    ]));
    let outcome = run_task(&host, &task("greet"));
    insta::assert_snapshot!(record(&host, &outcome));
}

#[test]
fn defect_14_06_parallel_calls_are_answered_under_their_own_ids_also_when_a_model_repeats_one() {
    let calls = |text: &str| {
        says(&[
            json!({ "text": text }),
            json!({ "call": ["c1", "read_file", { "path": "a" }] }),
            json!({ "call": ["c2", "shell", {}] }),
            json!({ "stop": "done" }),
        ])
    };
    let host = FakeHost::new()
        .tools(&["read_file", "shell"])
        .on_call(|call| answer(call, call.name == "shell", format!("did {}", call.id), None))
        .reply(calls("one"))
        .reply(calls("two"))
        .reply(done("ready"));
    let outcome = run_task(&host, &task("work"));
    insta::assert_snapshot!(record(&host, &outcome));
}

#[test]
fn more_calls_than_one_batch_takes_are_split() {
    let mut events: Vec<Value> = (0..130).map(|n| json!({ "call": [format!("c{n}"), "shell", {}] })).collect();
    events.push(json!({ "stop": "done" }));
    let host = FakeHost::new().tools(&["shell"]).reply(says(&events)).reply(done("ready"));
    run_task(&host, &task("work"));
    let sizes: Vec<usize> = host.calls().iter().map(Vec::len).collect();
    assert_eq!(sizes, [64, 64, 2]);
}

#[test]
fn defect_14_13_a_rate_limit_before_output_is_repeated_not_sooner_than_the_vendor_says() {
    let host = FakeHost::new()
        .reply(Http::new(429, "slow down").header("retry-after", "7"))
        .reply_error(Error::uncertain("broken", "the connection broke"))
        .reply(says(&[json!({ "error": "overloaded" })]))
        .reply(done("at last"));
    let outcome = run_task(&host, &task("greet"));
    assert_eq!((outcome.finish_reason.as_str(), outcome.output.as_str()), ("done", "at last"));
    assert!(host.waits()[0] >= 7000);
    let retries: Vec<String> = host.event_lines().into_iter().filter(|line| line.contains("\"retry\"")).collect();
    insta::assert_snapshot!(retries.join("\n"));
}

#[test]
fn what_cannot_help_is_not_repeated() {
    let cases = [
        (Http::new(429, "spent"), "spend-limit"),
        (Http::new(400, "bad"), "request"),
        (Http::new(401, "no key"), "credential"),
        (Http::new(200, "<html>").header("content-type", "text/html"), "not-event-stream"),
        (Http::stream("data: {]\n\n", 3), "stream-malformed"),
        (Http::new(503, "busy").header("retry-after", "3600"), "vendor-error"),
    ];
    for (reply, code) in cases {
        let host = FakeHost::new().reply(reply);
        let outcome = run_task(&host, &task("greet"));
        assert_eq!(outcome.finish_reason, "failed");
        assert_eq!(outcome.error.expect("failed").code, code);
        assert_eq!(host.requests().len(), 1, "{code}");
        assert_eq!(outcome.session_id, None, "nothing to go on from");
    }
}

#[test]
fn repeats_end_at_their_most_and_at_the_deadline() {
    let busy = || Http::new(503, "busy");
    let host = FakeHost::new().reply(busy()).reply(busy()).reply(busy()).reply(busy());
    let outcome = run_task(&host, &task("greet"));
    assert_eq!(outcome.error.map(|error| error.code), Some("vendor-error".into()));
    assert_eq!(host.requests().len(), 4);

    let host = FakeHost::new().deadline_ms(5000).reply(busy().header("retry-after", "7"));
    let error = run_task(&host, &task("greet")).error.expect("failed");
    assert_eq!((error.code.as_str(), error.retry_after_ms), ("vendor-error", Some(7000)));
    assert_eq!(host.waits(), Vec::<u32>::new());
}

#[test]
fn defect_14_03_a_stream_that_breaks_after_output_fails_the_run_and_keeps_what_was_heard() {
    let events = [json!({ "out": 3 }), json!({ "text": "half " })];
    let host = FakeHost::new().reply(says(&events));
    let outcome = run_task(&host, &task("greet"));
    insta::assert_snapshot!(record(&host, &outcome));
}

#[test]
fn a_body_that_ends_is_a_whole_reply_only_where_the_vendor_has_no_last_event() {
    let host = FakeHost::new().reply(says(&[json!({ "text": "This is the end." })]));
    let outcome = run_task(&host, &task("greet"));
    assert_eq!((outcome.finish_reason.as_str(), outcome.output.as_str()), ("done", "This is the end."));

    let broken = says(&[json!({ "text": "This is the end." })]).broken(Error::unavailable("body-truncated", "cut"));
    let outcome = run_task(&FakeHost::new().reply(broken), &task("greet"));
    assert_eq!(outcome.error.map(|error| error.code), Some("body-truncated".into()));
}

#[test]
fn defect_14_12_a_cancel_in_the_stream_is_an_interruption_that_can_be_continued() {
    let host = FakeHost::new().reply(says(&[json!({ "text": "half a " })]).then_cancel());
    let outcome = run_task(&host, &task("greet"));
    assert_eq!((outcome.finish_reason.as_str(), outcome.error.clone()), ("interrupted", None));
    assert_eq!(outcome.output, "half a ");

    host.next_run();
    host.add_reply(done("whole"));
    let mut next = task("go on");
    next.run_id = "run-2".into();
    next.session = Some(Session { id: outcome.session_id.expect("resumable"), transcript: None });
    let outcome = run_task(&host, &next);
    assert_eq!(outcome.session_id.as_deref(), Some("run-1"));
    insta::assert_snapshot!(record(&host, &outcome));
}

#[test]
fn a_call_that_cannot_be_read_is_asked_for_once_more_and_a_second_in_a_row_fails() {
    let bad = || says(&[json!({ "text": "hm" }), json!({ "stop": "bad" })]);
    let good = || says(&[json!({ "call": ["c1", "shell", {}] }), json!({ "stop": "done" })]);
    let with_call = || says(&[json!({ "call": ["c1", "shell", {}] }), json!({ "stop": "bad" })]);
    let cases = [
        ("once", vec![bad(), good(), done("ok")], "done", 3),
        ("apart", vec![bad(), good(), bad(), done("ok")], "done", 4),
        ("twice", vec![bad(), bad(), done("never asked")], "failed", 2),
        ("beside a call", vec![with_call(), done("never asked")], "failed", 1),
    ];
    for (name, replies, reason, asked) in cases {
        let host = FakeHost::new().tools(&["shell"]);
        replies.into_iter().for_each(|reply| host.add_reply(reply));
        let outcome = run_task(&host, &task("work"));
        assert_eq!((outcome.finish_reason.as_str(), host.requests().len()), (reason, asked), "{name}");
        let is_bad = outcome.error.is_some_and(|error| error.code == "bad-call");
        assert_eq!(is_bad, reason == "failed", "{name}");
        if name == "once" {
            let told = host.requests()[1].1["messages"][2]["user"].to_string();
            assert!(told.contains("not run: it is no JSON."), "{told}");
        }
    }
}

#[test]
fn a_cancel_during_the_tools_keeps_their_answers() {
    let host = FakeHost::new()
        .tools(&["shell"])
        .cancel_after_calls(1)
        .reply(says(&[json!({ "call": ["c1", "shell", {}] }), json!({ "stop": "done" })]));
    let outcome = run_task(&host, &task("work"));
    assert_eq!(outcome.finish_reason, "interrupted");
    let id = outcome.session_id.expect("resumable");
    let mut next = task("go on");
    next.run_id = "run-2".into();
    next.session = Some(Session { id, transcript: None });
    host.next_run();
    host.add_reply(done("ready"));
    run_task(&host, &next);
    let sent = &host.requests()[0].1["messages"];
    assert_eq!(sent[2], json!({ "answer": "c1", "text": "ok", "error": false }));
}

#[test]
fn used_up_turns_leave_a_whole_transcript_and_run_no_tool_that_nobody_reads() {
    let call = || says(&[json!({ "call": ["c1", "shell", {}] }), json!({ "stop": "done" })]);
    let host = FakeHost::new().tools(&["shell"]).reply(call()).reply(call());
    let mut two = task("work");
    two.max_rounds = Some(2);
    let outcome = run_task(&host, &two);
    assert_eq!((outcome.finish_reason.as_str(), outcome.rounds), ("max_turns", 2));
    assert_eq!(host.calls().len(), 1);
}

#[test]
fn each_stop_reason_has_its_finish_reason() {
    let host = FakeHost::new().reply(says(&[json!({ "text": "a" }), json!({ "stop": "again" })])).reply(done("b"));
    let outcome = run_task(&host, &task("x"));
    assert_eq!((outcome.finish_reason.as_str(), outcome.rounds, outcome.output.as_str()), ("done", 2, "b"));

    let cut = [json!({ "text": "a" }), json!({ "call": ["c", "shell", {}] }), json!({ "stop": "tokens" })];
    let host = FakeHost::new().tools(&["shell"]).reply(says(&cut));
    let outcome = run_task(&host, &task("x"));
    assert_eq!((outcome.finish_reason.as_str(), host.calls().len()), ("max_tokens", 0));

    let host = FakeHost::new().reply(says(&[json!({ "text": "no" }), json!({ "stop": "refuse" })]));
    let outcome = run_task(&host, &task("x"));
    assert_eq!((outcome.finish_reason.as_str(), outcome.output.as_str()), ("failed", "no"));
    assert_eq!(outcome.error.map(|error| error.code), Some("refusal".into()));
}

fn wants_result() -> Task {
    let mut task = task("answer");
    task.output_schema = Some(r#"{"type":"object"}"#.into());
    task
}

#[test]
fn a_structured_answer_ends_the_run_and_a_wrong_one_is_repaired() {
    let result = |value: Value| says(&[json!({ "call": ["r", RETURN_RESULT, value] }), json!({ "stop": "done" })]);
    let host = FakeHost::new()
        .tools(&[RETURN_RESULT])
        .on_call(|call| answer(call, !call.arguments.contains("42"), "checked", None))
        .reply(result(json!({ "n": "x" })))
        .reply(result(json!({ "n": 42 })));
    let outcome = run_task(&host, &wants_result());
    assert_eq!((outcome.finish_reason.as_str(), outcome.rounds), ("done", 2));
    assert_eq!(outcome.parsed_output, None, "the host has it");
}

#[test]
fn a_model_that_forgets_the_structured_answer_is_reminded_and_then_it_is_a_failure() {
    let host = FakeHost::new().tools(&[RETURN_RESULT]).reply(done("42")).reply(done("42!")).reply(done("42!!"));
    let outcome = run_task(&host, &wants_result());
    assert_eq!(outcome.error.map(|error| error.code), Some("no-result".into()));
    let forced: Vec<Value> = host.requests().iter().map(|(_, body)| body["force"].clone()).collect();
    assert_eq!(forced, [Value::Null, json!(RETURN_RESULT), json!(RETURN_RESULT)]);
}

#[test]
fn a_long_conversation_is_split_over_keys_and_comes_back_whole() {
    let long = "x".repeat(1_500_000);
    let host = FakeHost::new().reply(done("ready"));
    let outcome = run_task(&host, &task(&long));
    let sizes = host.kv_sizes();
    assert_eq!(sizes.len(), 3, "a head and two segments: {sizes:?}");
    let mut next = task("more");
    next.run_id = "run-2".into();
    next.session = Some(Session { id: outcome.session_id.expect("resumable"), transcript: None });
    host.next_run();
    host.add_reply(done("again"));
    run_task(&host, &next);
    assert_eq!(host.requests()[0].1["messages"][0], json!({ "user": long }));
    assert_eq!(host.kv_sizes().len(), 4, "only what is new was written");
}

#[test]
fn a_conversation_that_cannot_be_kept_does_not_fail_the_run() {
    let host = FakeHost::new().reply(done("ready"));
    host.break_kv();
    let outcome = run_task(&host, &task("greet"));
    assert_eq!((outcome.finish_reason.as_str(), outcome.session_id), ("done", None));
    insta::assert_snapshot!(host.log_lines().join("\n"));
}

#[test]
fn an_unknown_conversation_and_one_of_another_form_are_refused_before_anything_is_sent() {
    let host = FakeHost::new();
    for id in ["gone", "", "../x", "a/b"] {
        let mut task = task("go on");
        task.session = Some(Session { id: id.into(), transcript: None });
        let error = run(&host, &Toy, &task, &options()).expect_err("refused");
        assert_eq!((error.kind, error.code.as_str()), (crate::ErrorKind::NotFound, "session"));
    }
    host.kv_put("session/other", br#"{"format":1,"form":"else","segments":[]}"#, None).expect("stored");
    let mut task = task("go on");
    task.session = Some(Session { id: "other".into(), transcript: None });
    let error = run(&host, &Toy, &task, &options()).expect_err("refused");
    assert_eq!(error.code, "session-form");
    assert_eq!(host.event_lines(), Vec::<String>::new());
}

#[test]
fn two_runs_that_continue_one_conversation_do_not_mix() {
    let host = FakeHost::new().reply(done("ready"));
    let id = run_task(&host, &task("start")).session_id.expect("resumable");
    let mut first = task("a");
    first.run_id = "run-2".into();
    first.session = Some(Session { id, transcript: None });
    let slow = Transcript::open(&host, "toy", &first);
    let mut slow = slow.expect("opened");
    host.next_run();
    host.add_reply(done("a"));
    let mut second = first.clone();
    second.run_id = "run-3".into();
    run_task(&host, &second);
    slow.push(json!({ "user": "late" }));
    slow.save(&host);
    assert_eq!(slow.resumable_id(), None);
    let now = Transcript::open(&host, "toy", &first).expect("opened");
    assert_eq!(now.messages().len(), 4);
    assert!(now.messages().iter().all(|message| message["user"] != "late"));
}

#[test]
fn a_user_who_steers_is_heard_between_turns() {
    let host = FakeHost::new().reply(done("one")).reply(done("two"));
    host.steer("and in French");
    let outcome = run_task(&host, &task("greet"));
    assert_eq!((outcome.output.as_str(), outcome.rounds), ("two", 2));
    assert_eq!(host.requests()[1].1["messages"][2], json!({ "user": "and in French" }));
}

#[test]
fn a_budget_stops_the_run_when_the_vendor_says_what_it_costs() {
    let mut zero = task("x");
    zero.budget_usd = Some(0.0);
    let error = run(&FakeHost::new(), &Toy, &zero, &options()).expect_err("refused");
    assert_eq!((error.kind, error.code.as_str()), (crate::ErrorKind::Limit, "budget"));

    let dear =
        says(&[json!({ "call": ["c", "shell", {}] }), json!({ "out": 1, "cost": 0.5 }), json!({ "stop": "done" })]);
    let host = FakeHost::new().tools(&["shell"]).reply(dear);
    let mut half = task("x");
    half.budget_usd = Some(0.5);
    let outcome = run_task(&host, &half);
    assert_eq!(outcome.error.map(|error| error.code), Some("budget".into()));
    assert_eq!(outcome.usage.cost_usd, Some(0.5));
}

#[test]
fn counters_that_come_with_each_word_do_not_flood_the_log_and_the_last_is_told() {
    let mut events: Vec<Value> = (1..50).flat_map(|n| [json!({ "text": "x" }), json!({ "out": n })]).collect();
    events.push(json!({ "stop": "done" }));
    let host = FakeHost::new().reply(says(&events));
    let outcome = run_task(&host, &task("greet"));
    assert_eq!(outcome.usage.output_tokens, Some(49));
    let told: Vec<String> = host.event_lines().into_iter().filter(|line| line.contains("\"usage\"")).collect();
    assert_eq!(
        told,
        [r#"notification {"output_tokens":1,"type":"usage"}"#, r#"notification {"output_tokens":49,"type":"usage"}"#]
    );
}

#[test]
fn a_model_that_says_and_does_nothing_has_not_done_the_task() {
    let host = FakeHost::new().reply(says(&[json!({ "think": "hm" }), json!({ "stop": "done" })]));
    let outcome = run_task(&host, &task("greet"));
    assert_eq!(outcome.error.map(|error| error.code), Some("empty-reply".into()));

    let call = says(&[json!({ "call": ["c1", "shell", {}] }), json!({ "stop": "done" })]);
    let host = FakeHost::new().tools(&["shell"]).reply(call).reply(says(&[json!({ "stop": "done" })]));
    assert_eq!(run_task(&host, &task("work")).finish_reason, "done", "the work itself can be all that was asked");
}

#[test]
fn arguments_that_are_no_json_are_answered_and_the_model_can_repair_them() {
    let broken = Call { id: "c1".into(), name: "shell".into(), arguments: "{\"command\": \"ls".into() };
    let text = json!({ "text": "", "stop": "done", "raw": [broken.id, broken.name, broken.arguments] });
    let host = FakeHost::new().tools(&["shell"]).reply(says(&[text])).reply(done("sorry"));
    let outcome = run_task(&host, &task("work"));
    assert_eq!(outcome.finish_reason, "done");
    let answer = &host.requests()[1].1["messages"][2];
    assert_eq!(answer["error"], true);
    assert!(answer["text"].as_str().is_some_and(|text| text.contains("not a JSON object")), "{answer}");
}

#[test]
fn defect_14_14_a_reply_that_never_ends_is_cut_before_it_fills_the_memory() {
    let part = json!({ "text": "x".repeat(1024 * 1024) });
    let events = [part.clone(), part.clone(), part.clone(), part];
    let body: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    let host = FakeHost::new().reply(Http::stream(&body, 64 * 1024));
    let outcome = run_task(&host, &task("greet"));
    assert_eq!(outcome.error.map(|error| error.code), Some("reply-size".into()));
    assert_eq!(outcome.output.len(), 3 * 1024 * 1024);
}

#[test]
fn a_user_who_steers_at_the_last_turn_is_told_that_the_turns_are_used_up() {
    let host = FakeHost::new().reply(done("one"));
    host.steer("and in French");
    let mut one = task("greet");
    one.max_rounds = Some(1);
    let outcome = run_task(&host, &one);
    assert_eq!((outcome.finish_reason.as_str(), outcome.output.as_str()), ("max_turns", "one"));
}

#[test]
fn attachments_are_told_only_when_the_vendor_has_taken_them() {
    let mut task = task("x");
    let file = Attachment { kind: "file".into(), name: "a".into(), path: "a".into(), digest: "00".into() };
    task.attachments = vec![file];
    let lines = |host: &FakeHost| host.event_lines().into_iter().filter(|line| line.contains("_uploaded")).count();
    let host = FakeHost::new().reply(Http::new(400, "bad"));
    run_task(&host, &task);
    assert_eq!(lines(&host), 0);
    let host = FakeHost::new().tools(&["shell"]).reply(Http::new(503, "busy"));
    host.add_reply(says(&[json!({ "call": ["c1", "shell", {}] }), json!({ "stop": "done" })]));
    host.add_reply(done("ready"));
    run_task(&host, &task);
    assert_eq!(lines(&host), 1);
}

#[test]
fn attachments_are_made_known_in_the_prompt_and_in_the_events() {
    let mut task = task("x");
    task.system = Some("Be brief.".into());
    task.attachments = [("instructions", "AGENTS.md"), ("skill", "skills/pdf"), ("file", "data.csv")]
        .map(|(kind, path)| Attachment { kind: kind.into(), name: path.into(), path: path.into(), digest: "00".into() })
        .into();
    let host = FakeHost::new().reply(done("ok"));
    run_task(&host, &task);
    let loaded: Vec<String> =
        host.event_lines().into_iter().filter(|line| line.contains("_loaded") || line.contains("_uploaded")).collect();
    insta::assert_snapshot!(format!("{}\n\n{}", system::prompt(&task, true), loaded.join("\n")));
}

#[test]
fn no_request_holds_a_credential_header() {
    let host = FakeHost::new().reply(done("ok"));
    run_task(&host, &task("x"));
    let heads: Vec<Request> = host.requests().into_iter().map(|(head, _)| head).collect();
    let names: Vec<&str> = heads[0].headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["content-type"]);
}
