//! What every adapter of a model's HTTP API does in the same way, over each wire against `aimock`, whose journal says what
//! it was sent. What is a vendor's own is in `anthropic`, `openai` and `gemini`.

use std::time::Duration;

use midplane::CancelReceipt;
use midplane::core::event::EventKind;
use midplane::core::outcome::FinishReason;
use midplane::core::task::{Attachment, AttachmentKind};
use serde_json::{Value, json};

use crate::peer::Aimock;
use crate::script_server::{ScriptServer, answer};
use crate::world::{KEY, Ran, Setup, World};

/// One vendor's API.
pub(crate) struct Wire {
    pub(crate) name: &'static str,
    plugin: &'static str,
    secret: &'static str,
    /// What follows the mock's address in `base_url`.
    path: &'static str,
    settings: &'static [(&'static str, &'static str)],
    model: &'static str,
    /// The header of the key.
    key: &'static str,
    /// An event that is cut in its JSON.
    malformed: &'static str,
    /// The mock's word for a refusal, and the error that it is. None where it ends each reply well.
    refusal: Option<(&'static str, &'static str)>,
    /// The vendor's words for its errors, by status.
    errors: &'static [(u16, &'static str)],
}

const OPENAI_ERRORS: &[(u16, &str)] = &[
    (400, "invalid_value"),
    (400, "context_length_exceeded"),
    (401, "invalid_api_key"),
    (403, "unsupported_country_region_territory"),
    (404, "model_not_found"),
    (413, "request_too_large"),
    (429, "insufficient_quota"),
    (429, "organization_spend_limit_exceeded"),
    (429, "slow_down"),
    (500, "server_error"),
    (503, "service_unavailable"),
    (529, "overloaded"),
];
const GOOGLE_ERRORS: &[(u16, &str)] = &[
    (400, "INVALID_ARGUMENT"),
    (401, "UNAUTHENTICATED"),
    (403, "PERMISSION_DENIED"),
    (404, "NOT_FOUND"),
    (429, "RESOURCE_EXHAUSTED"),
    (500, "INTERNAL"),
    (503, "UNAVAILABLE"),
    (529, "OVERLOADED"),
];

/// All of them.
pub(crate) const WIRES: [Wire; 5] = [
    Wire {
        name: "messages",
        plugin: "anthropic",
        secret: "ANTHROPIC_API_KEY",
        path: "",
        settings: &[],
        model: "claude-mocked",
        key: "x-api-key",
        malformed: "event: message_start\ndata: {\"type\": \"message_st\n\n",
        refusal: Some(("refusal", "denied/refusal")),
        errors: &[
            (400, "invalid_request_error"),
            (401, "authentication_error"),
            (402, "billing_error"),
            (403, "permission_error"),
            (404, "not_found_error"),
            (413, "request_too_large"),
            (429, "rate_limit_error"),
            (500, "api_error"),
            (529, "overloaded_error"),
        ],
    },
    Wire {
        name: "responses",
        plugin: "openai",
        secret: "OPENAI_API_KEY",
        path: "/v1",
        settings: &[("api", "responses")],
        model: "gpt-mocked",
        key: "authorization",
        malformed: "data: {\"type\": \"response.cr\n\n",
        // Its word for it is `failed`, without an error; the real shapes are scripted.
        refusal: None,
        errors: OPENAI_ERRORS,
    },
    Wire {
        name: "chat",
        plugin: "openai",
        secret: "OPENAI_API_KEY",
        path: "/v1",
        settings: &[("api", "chat")],
        model: "gpt-mocked",
        key: "authorization",
        malformed: "data: {\"choices\": [\n\n",
        refusal: Some(("content_filter", "denied/content-filter")),
        errors: OPENAI_ERRORS,
    },
    Wire {
        name: "generate-content",
        plugin: "gemini",
        secret: "GEMINI_API_KEY",
        path: "",
        settings: &[("api", "generate-content")],
        model: "gemini-3.5-flash",
        key: "x-goog-api-key",
        malformed: "data: {\"candidates\": [\n\n",
        refusal: Some(("content_filter", "denied/safety")),
        errors: GOOGLE_ERRORS,
    },
    // The mock keeps no interaction, so all steps are sent each time.
    Wire {
        name: "interactions",
        plugin: "gemini",
        secret: "GEMINI_API_KEY",
        path: "",
        settings: &[("api", "interactions"), ("store", "false")],
        model: "gemini-3.5-flash",
        key: "x-goog-api-key",
        malformed: "data: {\"event_type\": \"step.st\n\n",
        refusal: None,
        errors: GOOGLE_ERRORS,
    },
];

impl Wire {
    /// The profile of its plugin at a server.
    pub(crate) fn setup(&self, url: &str) -> Setup {
        let setup = Setup::of(self.plugin, Some(self.secret), url).setting("model", json!(self.model));
        let of = |text: &str| text.parse::<bool>().map_or(json!(text), Value::from);
        self.settings.iter().fold(setup, |setup, (name, value)| setup.setting(name, of(value)))
    }

    /// The same at a mock.
    pub(crate) fn at(&self, mock: &Aimock) -> Setup {
        self.setup(&format!("{}{}", mock.url(), self.path))
    }

    /// A mock with these fixtures and a host in front of it, or none where the mock is not installed.
    async fn mocked(&self, fixtures: &Value) -> Option<(Aimock, World)> {
        self.mocked_with(fixtures, |setup| setup).await
    }

    async fn mocked_with(&self, fixtures: &Value, set: impl FnOnce(Setup) -> Setup) -> Option<(Aimock, World)> {
        let mock = Aimock::start(KEY, &json!({ "fixtures": fixtures })).await?;
        let world = set(self.at(&mock)).open().await;
        Some((mock, world))
    }
}

/// The journal in short: of each request its path and answer, and its messages but for the system prompt.
pub(crate) fn asked(journal: &[Value]) -> String {
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
pub(crate) fn shown(ran: &Ran) -> String {
    format!("{}\nerror {}\n", ran.story(), ran.error())
}

/// How a run ended.
fn ended(ran: &Ran) -> (FinishReason, String) {
    (ran.outcome.finish_reason, ran.error())
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
    for wire in &WIRES {
        let Some((mock, world)) = wire.mocked(&fixtures).await else { return };
        let mut task = world.task("greet me");
        task.system = Some("Be brief.".to_owned());
        task.reasoning_effort = Some("low".to_owned());
        let ran = world.run(task).await;
        all.push(format!("-- {}\n{}", wire.name, shown(&ran)));

        let journal = mock.journal().await;
        assert_eq!(journal.len(), 1);
        let (head, body) = (&journal[0]["headers"], &journal[0]["body"]);
        // The mock takes the request only with the right key, once, and masks it in what it shows.
        for name in ["x-api-key", "api-key", "authorization", "x-goog-api-key"] {
            let sent = if name == wire.key { json!("[REDACTED]") } else { Value::Null };
            assert_eq!(head[name], sent, "{}: {name}", wire.name);
        }
        assert_eq!((&body["model"], &body["stream"]), (&json!(wire.model), &json!(true)));
        assert!(body["messages"][0]["content"].as_str().is_some_and(|text| text.contains("Be brief.")), "{body}");
        assert_eq!(body["messages"][1], json!({"role": "user", "content": "greet me"}));
        let tools = body["tools"].as_array().into_iter().flatten();
        let names: Vec<&str> = tools.filter_map(|tool| tool["function"]["name"].as_str()).collect();
        // No shell without a grant, no `return_result` without a schema.
        assert_eq!(names, ["read_file", "write_file", "edit_file", "move_file", "list_dir", "glob", "grep"]);
    }
    insta::assert_snapshot!(all.join("\n"));
}

/// Three calls in one reply, one of which is refused, then one more turn with a call.
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
    for wire in &WIRES {
        let Some((mock, world)) = wire.mocked(&fixtures).await else { return };
        std::fs::write(world.workspace.path().join("notes.txt"), "first\nTODO second\n").expect("a file");
        let ran = world.run(world.task("inventory of the folder")).await;
        all.push(format!("-- {}\n{}\n{}", wire.name, shown(&ran), asked(&mock.journal().await)));
        let report = std::fs::read_to_string(world.workspace.path().join("out/report.md")).expect("the report");
        assert_eq!(report, "# One TODO\n");
        let outputs = world.host.outputs(&ran.records[0].run_id).await.expect("outputs");
        assert_eq!(outputs.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["out/report.md"]);
    }
    insta::assert_snapshot!(all.join("\n"));
}

/// Attachments are staged into the workspace, named to the model, told in the log when it has taken the request, and gone.
#[tokio::test]
async fn attachments_are_named_to_the_model_and_told() {
    let fixtures = json!([{"match": {"userMessage": "use"}, "response": {"content": "Used."}}]);
    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(folder.path().join("data.csv"), "a,b\n").expect("a file");
    std::fs::create_dir(folder.path().join("tidy")).expect("a folder");
    std::fs::write(folder.path().join("tidy/SKILL.md"), "Sort the lines.\n").expect("a file");
    let attached = |kind: AttachmentKind, name: &str| Attachment {
        kind,
        name: None,
        path: folder.path().join(name).display().to_string(),
    };
    for wire in &WIRES {
        let Some((mock, world)) = wire.mocked(&fixtures).await else { return };
        let mut task = world.task("use them");
        task.attachments = vec![attached(AttachmentKind::Skill, "tidy"), attached(AttachmentKind::File, "data.csv")];
        let ran = world.run(task).await;
        assert_eq!((ran.error().as_str(), ran.outcome.output.as_str()), ("none", "Used."), "{}", wire.name);
        let told = [EventKind::SkillLoaded, EventKind::FileUploaded].map(|kind| ran.of(kind).collect::<Vec<_>>());
        assert_eq!([told[0].len(), told[1].len()], [1, 1], "{}: {}", wire.name, shown(&ran));
        assert_eq!((&told[0][0]["name"], &told[1][0]["name"]), (&json!("tidy"), &json!("data.csv")));
        let system = mock.journal().await[0]["body"]["messages"][0].to_string();
        for told in told.iter().flatten() {
            let path = told["path"].as_str().expect("a path");
            assert!(system.contains(path), "{}: {path} is not in {system}", wire.name);
            assert!(!world.workspace.path().join(path).exists(), "{}: {path} is left", wire.name);
            assert!(told["digest"].as_str().is_some_and(|digest| digest.len() == 64), "{told}");
        }
    }
}

#[tokio::test]
async fn a_rate_limit_is_waited_for() {
    for wire in &WIRES {
        let word = wire.errors.iter().rfind(|(status, _)| *status == 429).map(|(_, word)| *word);
        let error = json!({"message": "slow down", "type": word, "code": word});
        let fixtures = json!([
            {"match": {"userMessage": "busy", "sequenceIndex": 0},
                "response": {"error": error, "status": 429, "retryAfter": 1}},
            {"match": {"userMessage": "busy", "sequenceIndex": 1}, "response": {"content": "Now."}},
        ]);
        let Some((mock, world)) = wire.mocked(&fixtures).await else { return };
        let ran = world.run(world.task("are you busy?")).await;
        assert_eq!((ran.error().as_str(), ran.outcome.output.as_str()), ("none", "Now."), "{}", wire.name);
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
    let mut lines = Vec::new();
    for wire in &WIRES {
        let fixtures = wire.errors.iter().map(|(status, word)| {
            let error = json!({"message": format!("about {word}"), "type": word, "code": word});
            json!({"match": {"userMessage": word}, "response": {"error": error, "status": status}})
        });
        let fixtures: Value = fixtures.collect();
        let set = |setup: Setup| setup.setting("retries_max", json!(1));
        let Some((mock, world)) = wire.mocked_with(&fixtures, set).await else { return };
        for (status, word) in wire.errors {
            let before = mock.journal().await.len();
            let ran = world.run(world.task(word)).await;
            let asked = mock.journal().await.len() - before;
            let message = ran.outcome.error.as_ref().map(|error| error.message.clone()).unwrap_or_default();
            // The mock's name for the request is another one each time.
            let message = message.split(" (request `").next().unwrap_or_default();
            let (reason, error) = (ran.outcome.finish_reason.as_str(), ran.error());
            lines.push(format!("{} {status}: {reason} {error}, asked {asked} times: {message}", wire.name));
        }
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[tokio::test]
async fn a_key_that_the_vendor_refuses() {
    let fixtures = json!([{"match": {"userMessage": "hi"}, "response": {"content": "x"}}]);
    for wire in &WIRES {
        let other = "sk-proj-this-key-is-not-the-one-that-the-mock-takes";
        let Some((_mock, world)) = wire.mocked_with(&fixtures, |setup| setup.key(Some(other))).await else { return };
        let ran = world.run(world.task("hi")).await;
        assert_eq!(ended(&ran), (FinishReason::Failed, "denied/credential".into()), "{}", wire.name);
        assert!(!format!("{:?}", ran.outcome).contains(other));
        let report = world.host.availability(wire.plugin, Duration::from_secs(5)).await.expect("a report");
        assert_eq!((report.status, report.reason.as_str()), ("not-ready", "missing-credentials"), "{report:?}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_in_the_stream() {
    let content = "one two three four five six seven eight";
    let fixtures = json!([{
        "match": {"userMessage": "talk"}, "response": {"content": content, "usage": {"input_tokens": 5, "output_tokens": 6}},
        "chunkSize": 4, "latency": 60, "truncateAfterChunks": 9,
    }]);
    for wire in &WIRES {
        let Some((mock, world)) = wire.mocked(&fixtures).await else { return };
        let ran = world.run(world.task("talk")).await;
        assert_eq!(ended(&ran), (FinishReason::Failed, "unavailable/body-truncated".into()), "{}", shown(&ran));
        // What was heard is kept, and nothing is asked again: the text would come twice.
        let output = &ran.outcome.output;
        assert!(output.starts_with("one ") && content.starts_with(output), "{}: {output}", wire.name);
        assert_eq!(ran.text(), *output);
        assert_eq!(ran.of(EventKind::StreamError).count(), 1);
        assert_eq!(mock.journal().await.len(), 1);
        if wire.name == "messages" {
            // The one that counts at the start of a stream.
            assert_eq!(ran.outcome.usage.input_tokens, Some(5));
        }
    }
}

/// Answers that are no streams of the vendor's, each asked for once more where nothing was heard.
#[tokio::test]
async fn a_malformed_stream_and_a_page_of_html() {
    for wire in &WIRES {
        let body = wire.malformed;
        let stream =
            ScriptServer::start(move |_, _| answer("200 OK", &[("content-type", "text/event-stream")], &[body]));
        let page = ScriptServer::start(|_, _| answer("200 OK", &[("content-type", "text/html")], &["<html>Sign in"]));
        for (server, error) in [(stream.await, "internal/stream-malformed"), (page.await, "internal/not-event-stream")]
        {
            let world = wire.setup(&server.url()).setting("retries_max", json!(1)).open().await;
            let ran = world.run(world.task("hi")).await;
            assert_eq!(ended(&ran), (FinishReason::Failed, error.into()), "{}", wire.name);
            assert_eq!(server.requests().len(), 1, "{}: it would be the same again", wire.name);
        }
    }
}

/// Letters that come one by one, and would for half a minute.
fn slow() -> Value {
    json!([{"match": {"userMessage": "drip"}, "response": {"content": "drip ".repeat(60)}, "chunkSize": 1, "latency": 100}])
}

#[tokio::test]
async fn a_slow_drip_against_a_deadline() {
    for wire in &WIRES {
        let Some((_mock, world)) = wire.mocked(&slow()).await else { return };
        let mut task = world.task("drip");
        task.timeout_ms = Some(4_000);
        let ran = world.run(task).await;
        assert_eq!(ended(&ran), (FinishReason::TimedOut, "cancelled/deadline".into()), "{}", shown(&ran));
        assert!(ran.outcome.output.starts_with("drip") && ran.text() == ran.outcome.output, "{}", shown(&ran));
    }
}

#[tokio::test]
async fn a_cancel_in_the_stream_keeps_what_was_heard() {
    for wire in &WIRES {
        let Some((mock, world)) = wire.mocked(&slow()).await else { return };
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
        assert_eq!(ended(&ran), (FinishReason::Interrupted, "none".into()), "{}", shown(&ran));
        let output = &ran.outcome.output;
        assert!(!output.is_empty() && "drip ".repeat(60).starts_with(output), "{}", shown(&ran));
        assert!(ran.outcome.session_id.is_some(), "it can be continued");
        assert_eq!(world.host.cancel(run.id()).await.expect("a receipt"), CancelReceipt::NotActive);
        assert_eq!(mock.journal().await.len(), 1);
    }
}

#[tokio::test]
async fn a_structured_answer_is_repaired() {
    let answer = |answer: Value| {
        json!({"toolCalls": [{"id": "call_1", "name": "return_result", "arguments": json!({"answer": answer}).to_string()}],
        "usage": {"input_tokens": 10, "output_tokens": 5, "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}})
    };
    let fixtures = json!([
        {"match": {"userMessage": "multiply", "hasToolResult": false}, "response": answer(json!("forty-two"))},
        {"match": {"userMessage": "multiply", "toolResultContains": "does not fit the schema"}, "response": answer(json!(42))},
    ]);
    let mut all = Vec::new();
    for wire in &WIRES {
        let Some((mock, world)) = wire.mocked(&fixtures).await else { return };
        let mut task = world.task("multiply six by seven");
        task.output_schema = Some(
            json!({"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"], "additionalProperties": false}),
        );
        let ran = world.run(task).await;
        assert_eq!(ended(&ran), (FinishReason::Done, "none".into()), "{}", shown(&ran));
        assert_eq!(ran.outcome.parsed_output, Some(json!({"answer": 42})));
        all.push(format!("-- {}\n{}\n{}", wire.name, shown(&ran), asked(&mock.journal().await)));
    }
    insta::assert_snapshot!(all.join("\n"));
}

#[tokio::test]
async fn a_reply_cut_at_its_most_tokens_and_a_refusal() {
    for wire in &WIRES {
        let refusal = wire.refusal.map_or("", |(word, _)| word);
        let fixtures = json!([
            {"match": {"userMessage": "essay"}, "response": {"content": "It was a dark and", "finishReason": "length"}},
            {"match": {"userMessage": "recipe"}, "response": {"content": "First take", "finishReason": refusal}},
        ]);
        let Some((_mock, world)) = wire.mocked(&fixtures).await else { return };
        // The mock ends an interaction in one way only; the others are scripted.
        if wire.name != "interactions" {
            let ran = world.run(world.task("essay")).await;
            assert_eq!(ended(&ran), (FinishReason::MaxTokens, "limit/max-tokens".into()), "{}", wire.name);
            assert_eq!(ran.outcome.output, "It was a dark and");
        }
        if let Some((_, error)) = wire.refusal {
            let ran = world.run(world.task("recipe")).await;
            assert_eq!(ended(&ran), (FinishReason::Failed, error.into()), "{}", wire.name);
            assert_eq!(ran.outcome.output, "First take");
        }
    }
}

#[tokio::test]
async fn the_last_turn_runs_no_tool() {
    let fixtures = json!([{"match": {"userMessage": "write"}, "response": {"toolCalls": [
        {"id": "call_1", "name": "write_file", "arguments": "{\"path\":\"a.txt\",\"content\":\"a\"}"}]}}]);
    for wire in &WIRES {
        let Some((mock, world)) = wire.mocked(&fixtures).await else { return };
        let mut task = world.task("write");
        task.max_rounds = Some(1);
        let ran = world.run(task).await;
        assert_eq!(ended(&ran), (FinishReason::MaxTurns, "limit/max-turns".into()), "{}", wire.name);
        assert_eq!((ran.outcome.rounds, mock.journal().await.len()), (1, 1));
        assert!(!world.workspace.path().join("a.txt").exists());
    }
}

#[tokio::test]
async fn a_conversation_goes_on_after_a_restart() {
    let fixtures = json!([
        {"match": {"userMessage": "my number"}, "response": {"content": "I keep 7."}},
        {"match": {"userMessage": "which number"}, "response": {"content": "It was 7."}},
    ]);
    let mut all = Vec::new();
    for wire in &WIRES {
        let Some((mock, world)) = wire.mocked(&fixtures).await else { return };
        let first = world.run(world.task("my number is 7")).await;
        let session = first.outcome.session_id.clone().expect("a session");
        let world = world.reopened().await;
        let mut task = world.task("which number was it?");
        task.session_id = Some(session.clone());
        let second = world.run(task).await;
        assert_eq!(second.outcome.session_id, Some(session));
        all.push(format!("-- {}\n{}", wire.name, asked(&mock.journal().await)));

        // Another profile's or nobody's conversation is not begun anew in silence.
        let mut task = world.task("which number was it?");
        task.session_id = Some("01nobodys".to_owned());
        let lost = world.run(task).await;
        assert_eq!(ended(&lost), (FinishReason::Failed, "not-found/session".into()), "{}", wire.name);
        assert_eq!(mock.journal().await.len(), 2);
    }
    insta::assert_snapshot!(all.join("\n"));
}

/// A run is stopped when the tokens that its vendor names have cost its budget, and at once where nobody can say the cost.
#[tokio::test]
async fn a_budget_that_is_spent_stops_the_run() {
    let fixtures = json!([{"match": {"userMessage": "work"}, "response": {
        "toolCalls": [{"id": "call_1", "name": "list_dir", "arguments": "{}"}],
        "usage": {"input_tokens": 10, "output_tokens": 10, "prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}}}]);
    for wire in &WIRES {
        for (price, stopped, asked) in [(Some(1.0), "budget", 3), (None, "unpriced", 1)] {
            let set = |setup: Setup| match price {
                // For a million tokens: 20 dollars for each reply.
                Some(usd) => setup.price(wire.model, usd * 1e6),
                None => setup.setting("model", json!("nobodys-model")),
            };
            let Some((mock, world)) = wire.mocked_with(&fixtures, set).await else { return };
            let mut task = world.task("work");
            task.budget_usd = Some(50.0);
            let ran = world.run(task).await;
            let reasons: Vec<Value> = ran.notifications("status").iter().map(|data| data["reason"].clone()).collect();
            assert!(reasons.contains(&json!(stopped)), "{}: {}", wire.name, shown(&ran));
            assert_eq!(mock.journal().await.len(), asked, "{}: {}", wire.name, shown(&ran));
        }
    }
}
