//! Whole runs against scripted agents. Each file of `transcripts` is one: what an agent of that name said, trimmed (the
//! rest is written from the protocol's text), and what is to be seen of it. Everything that a run gives (outcome, events,
//! what was written to the agent, what the host was asked) is compared.
//!
//! ```text
//! # key value      how the run is set up, and what it shows
//! > method         when this was called (`answer`: a question was answered), the agent
//! < message        says this, `$method` standing for the id of our call
//! ! thing          or does this
//! ```

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use midplane_plugin::agent::{Attachment, McpServer, Outcome, PermissionMode, Readiness, Session, Task};
use midplane_plugin::events::usage_fields;
use midplane_plugin::host::{Decision, Exit};
use midplane_plugin::testing::{FakeChild, FakeHost, Step, task};
use midplane_plugin::{Agent, Error, Result, Value, json};
use proptest::prelude::*;

use crate::AcpAgent;

/// What an agent does when it is called, each time anew.
type Script = BTreeMap<String, VecDeque<Vec<Step>>>;

/// One file.
#[derive(Default)]
struct Transcript {
    keys: BTreeMap<String, String>,
    script: Script,
}

impl Transcript {
    fn read(text: &str) -> Self {
        let mut this = Self::default();
        let mut method = String::new();
        for line in text.lines() {
            let (mark, rest) = line.split_at_checked(2).expect("a mark and a text");
            let step = match mark {
                "# " => {
                    let (key, value) = rest.split_once(' ').unwrap_or((rest, ""));
                    this.keys.insert(key.trim_end_matches(':').into(), value.into());
                    continue;
                }
                "> " => {
                    rest.clone_into(&mut method);
                    this.script.entry(method.clone()).or_default().push_back(Vec::new());
                    continue;
                }
                "< " => Step::Line(rest.to_owned()),
                _ => match rest.split_once(' ').unwrap_or((rest, "")) {
                    ("cancel", _) => Step::Cancel,
                    ("wait", ms) => Step::Wait(ms.parse().expect("milliseconds")),
                    ("stderr", text) => Step::Stderr(format!("{text}\n")),
                    ("exit", code) => Step::Exit(Exit::Code(code.parse().expect("a code"))),
                    (other, _) => panic!("unknown step `{other}`"),
                },
            };
            let steps = this.script.get_mut(&method).and_then(VecDeque::back_mut).expect("a method before a step");
            steps.push(step);
        }
        this
    }

    /// What the agent says first, where the file does not.
    fn greeted(mut self) -> Self {
        if !self.script.contains_key("initialize") {
            let path = format!("{}/src/transcripts/greeting-{}.txt", env!("CARGO_MANIFEST_DIR"), self.keys["agent"]);
            let greeting = Self::read(&std::fs::read_to_string(path).expect("a greeting"));
            self.script.extend(greeting.script);
        }
        self
    }

    fn has(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    fn agent(&self) -> FakeChild {
        let (mut script, garbage) = (self.script.clone(), self.has("garbage"));
        let mut ids: BTreeMap<String, Value> = BTreeMap::new();
        let mut child = FakeChild::new().on_line(move |line| {
            if garbage {
                return vec![Step::Line("<html>not found</html>".into()); 200];
            }
            let message: Value = serde_json::from_str(line).expect("JSON");
            assert_eq!(message["jsonrpc"], "2.0");
            let method = message["method"].as_str().unwrap_or("answer").to_owned();
            ids.insert(method.clone(), message["id"].clone());
            let steps = script.get_mut(&method).and_then(VecDeque::pop_front).unwrap_or_default();
            let fill = |line: String| {
                ids.iter().fold(line, |line, (method, id)| line.replace(&format!("\"${method}\""), &id.to_string()))
            };
            steps
                .into_iter()
                .map(|step| if let Step::Line(line) = step { Step::Line(fill(line)) } else { step })
                .collect()
        });
        if self.has("ignores-eof") {
            child = child.ignores_eof();
        }
        if self.has("ignores-terminate") {
            child = child.ignores_terminate();
        }
        child
    }

    fn host(&self) -> Rc<FakeHost> {
        let agent = self.keys["agent"].as_str();
        let (allowed, cancels) = (!self.has("decline"), self.has("cancel-question"));
        let cancel: Rc<RefCell<Option<Rc<FakeHost>>>> = Rc::default();
        let shared = cancel.clone();
        let mut host = endpoints(FakeHost::new()).setting("agent", agent).child(self.agent()).on_ask(move |_| {
            if cancels {
                if let Some(host) = &*shared.borrow() {
                    host.cancel();
                }
                return Err(Error::cancelled("cancelled", "the run was cancelled"));
            }
            Ok(Decision { allowed, message: "policy".into() })
        });
        if agent == "custom" {
            host = host.setting("custom", self.keys.get("row").map_or(r#"{"program": "x"}"#, String::as_str));
        }
        if self.has("idle") {
            host = host.setting("idle_s", "5");
        }
        let host = Rc::new(host);
        *cancel.borrow_mut() = Some(host.clone());
        host
    }

    fn task(&self) -> Task {
        let mut task = in_folder("do it");
        if let Some(id) = self.keys.get("session") {
            task.session = Some(Session { id: id.clone(), transcript: None });
        }
        if self.has("strict") {
            task.permissions.mode = PermissionMode::Strict;
        }
        task.max_rounds = self.keys.get("rounds").map(|rounds| rounds.parse().expect("a number"));
        task
    }
}

fn endpoints(mut host: FakeHost) -> FakeHost {
    for api in ["gemini", "openai", "anthropic"] {
        host = host
            .setting(&format!("endpoint.{api}.url"), &format!("http://127.0.0.1:1/{api}"))
            .setting(&format!("endpoint.{api}.token"), &format!("placeholder-{api}"));
    }
    host
}

fn in_folder(goal: &str) -> Task {
    Task { working_directory: Some("/ws".into()), ..task(goal) }
}

/// All that can be seen of a run.
fn shown(host: &FakeHost, result: &Result<Outcome>) -> String {
    let mut shown = String::new();
    match result {
        Err(error) => shown.push_str(&format!("error {:?} {}: {}\n", error.kind, error.code, error.message)),
        Ok(outcome) => {
            shown.push_str(&format!(
                "finish {} session {:?} rounds {}\n",
                outcome.finish_reason, outcome.session_id, outcome.rounds
            ));
            shown.push_str(&format!("output {:?}\nusage {}\n", outcome.output, usage_fields(&outcome.usage)));
            if let Some(error) = &outcome.error {
                shown.push_str(&format!("error {:?} {}: {}\n", error.kind, error.code, error.message));
            }
            for call in &outcome.tool_calls {
                shown.push_str(&format!(
                    "audit {} {} {} {:?}\n",
                    call.status, call.name, call.arguments, call.result_preview
                ));
            }
            outcome
                .artifacts
                .iter()
                .for_each(|artifact| shown.push_str(&format!("artifact {} {}\n", artifact.kind, artifact.uri)));
            shown.push_str(&format!("metadata {}\n", outcome.metadata));
        }
    }
    shown.push_str("-- events\n");
    host.event_lines().iter().for_each(|line| shown.push_str(&format!("{line}\n")));
    shown.push_str("-- asked\n");
    for question in host.questions() {
        shown.push_str(&format!("{} {} {:?}\n", question.kind, question.title, question.call_id));
    }
    shown.push_str("-- written\n");
    host.written().iter().for_each(|line| shown.push_str(&format!("{line}\n")));
    shown.push_str(&format!("-- ended by {}\n", host.stops().join(", ")));
    shown
}

#[test]
fn each_transcript() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/transcripts");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().trim_end_matches(".txt").to_owned())
        .filter(|name| !name.starts_with("greeting-"))
        .collect();
    names.sort();
    for name in names {
        let text = std::fs::read_to_string(format!("{folder}/{name}.txt")).expect("a transcript");
        let transcript = Transcript::read(&text).greeted();
        let host = transcript.host();
        let result = AcpAgent::run(&*host, transcript.task());
        if let Ok(outcome) = &result {
            // The contract's rule, whatever the agent said.
            assert_eq!(
                outcome.error.is_some(),
                outcome.finish_reason == "failed" || name == "codex-acp-command-declined",
                "{name}"
            );
        }
        insta::with_settings!({ snapshot_suffix => name.as_str(), omit_expression => true, description => transcript.keys.get("what").cloned().unwrap_or_default() }, {
            insta::assert_snapshot!("transcript", shown(&host, &result));
        });
    }
}

/// A row of the table: a name, a change to a good task, and the fields that are refused for it.
type Refused = (&'static str, fn(&mut Task), &'static [&'static str]);

#[test]
fn defect_14_15_all_that_cannot_be_honoured_is_refused_by_field() {
    let rows: &[Refused] = &[
        ("gemini", |_| {}, &[]),
        ("gemini", |task| task.model = Some("a\"]".into()), &["model"]),
        ("gemini", |task| task.reasoning_effort = Some("high".into()), &["reasoning_effort"]),
        ("codex-acp", |task| task.reasoning_effort = Some("high".into()), &[]),
        // Told when the turn is over, and by the one agent with each request.
        ("gemini", |task| task.budget_usd = Some(1.0), &["budget_usd"]),
        ("qwen", |task| task.budget_usd = Some(1.0), &[]),
        ("custom", |task| task.model = Some("m".into()), &["model"]),
        ("custom", |task| task.permissions.mode = PermissionMode::Strict, &["permissions.mode"]),
        (
            "gemini",
            |task| {
                task.working_directory = None;
                task.permissions.allowed_tools = vec!["x".into()];
                task.permissions.disallowed_tools = vec!["y".into()];
                task.permissions.network = Some(true);
                task.permissions.native_profile = Some("yolo".into());
                task.session = Some(Session { id: "s".into(), transcript: Some("[1]".into()) });
                task.output_schema = Some("{}".into());
                task.attachments = vec![attachment("video", "v")];
            },
            &[
                "working_directory",
                "permissions.allowed_tools",
                "permissions.disallowed_tools",
                "permissions.network",
                "permissions.native_profile",
                "session.transcript",
                "output_schema",
                "attachments[0].kind",
            ],
        ),
    ];
    for (agent, change, expected) in rows {
        let host = FakeHost::new().setting("agent", agent).setting("custom", r#"{"program": "x"}"#);
        let mut task = in_folder("x");
        change(&mut task);
        let fields: Vec<String> = AcpAgent::validate(&host, &task).into_iter().map(|issue| issue.field).collect();
        assert_eq!(fields, *expected, "{agent}");
    }
    // A model that only the endpoint's configuration names would be lost with a login of the agent's own.
    let host = FakeHost::new().setting("agent", "opencode").setting("login", "own").setting("model", "m");
    assert_eq!(AcpAgent::validate(&host, &in_folder("x"))[0].field, "settings");
    let host = FakeHost::new().setting("agent", "nano");
    assert_eq!(AcpAgent::validate(&host, &in_folder("x"))[0].field, "settings");
}

#[test]
fn the_prompt_names_attachments_and_servers_get_their_environment_over_the_pipe() {
    let transcript = Transcript::read(
        "# agent custom\n> session/prompt\n< {\"id\":\"$session/prompt\",\"result\":{\"stopReason\":\"end_turn\"}}",
    )
    .greeted();
    let host = transcript.host();
    let mut task = in_folder("the goal");
    task.system = Some("Be brief.".into());
    task.attachments =
        vec![attachment("file", "a b.png"), attachment("skill", "s"), attachment("instructions", "i.md")];
    task.mcp_servers = vec![McpServer {
        name: "m".into(),
        argv: vec!["/bin/m".into(), "stdio".into()],
        env: vec![("A".into(), "1".into())],
    }];
    let result = AcpAgent::run(&*host, task);
    insta::assert_snapshot!(shown(&host, &result));
}

/// No secret on an argument vector, and none in the environment but the token of the endpoint.
#[test]
fn the_program_is_given_an_address_and_a_token_and_no_key() {
    for (agent, api) in
        [("gemini", "gemini"), ("codex-acp", "openai"), ("opencode", "openai"), ("qwen", "openai"), ("goose", "openai")]
    {
        let host = endpoints(FakeHost::new()).setting("agent", agent).child(FakeChild::new());
        assert!(AcpAgent::run(&host, in_folder("x")).is_err());
        let command = host.commands().remove(0);
        assert!(!command.argv.join(" ").contains("placeholder"));
        assert!(command.secret_env.is_empty());
        let told: String = command
            .env
            .iter()
            .map(|(_, value)| value.as_str())
            .chain(command.argv.iter().map(String::as_str))
            .collect();
        assert!(
            told.contains(&format!("placeholder-{api}")) && told.contains(&format!("http://127.0.0.1:1/{api}")),
            "{agent}"
        );
    }
    // Without an endpoint nothing is started, unless the operator says that the agent has a login of its own.
    let host = FakeHost::new().setting("agent", "gemini");
    let error = AcpAgent::run(&host, in_folder("x")).expect_err("no endpoint");
    insta::assert_snapshot!(error.message);
    let host = FakeHost::new().setting("agent", "gemini").setting("login", "own").child(FakeChild::new());
    assert!(AcpAgent::run(&host, in_folder("x")).is_err());
    assert_eq!(host.commands()[0].env, [("GEMINI_CLI_TRUST_WORKSPACE".into(), "true".into())]);
}

#[test]
fn defect_14_18_readiness_starts_nothing_unless_it_may_and_says_what_is_missing() {
    let mut shown = String::new();
    let missing =
        || FakeHost::new().setting("agent", "qwen").child_error(Error::not_found("program", "`qwen` was not found"));
    let denied = || {
        FakeHost::new()
            .setting("agent", "qwen")
            .child_error(Error::denied("command", "the grant `command:qwen` is missing"))
    };
    let greeting = || Transcript::read("# agent qwen").greeted().agent();
    let old = r#"> initialize
< {"id":"$initialize","result":{"protocolVersion":1,"agentInfo":{"version":"0.1.2"}}}"#;
    for (host, timeout_ms) in [
        (FakeHost::new().setting("agent", "nano"), 0),
        (FakeHost::new().setting("agent", "qwen"), 0),
        (missing(), 1000),
        (denied(), 1000),
        (FakeHost::new().setting("agent", "qwen").child(greeting()), 1000),
        (FakeHost::new().setting("agent", "qwen").child(Transcript::read(old).agent()), 1000),
        (FakeHost::new().setting("agent", "qwen").child(FakeChild::new()), 1000),
    ] {
        let report = AcpAgent::availability(&host, timeout_ms);
        assert!(timeout_ms > 0 || host.commands().is_empty(), "nothing is started that need not be");
        let status = match report.status {
            Readiness::Ready => "ready",
            Readiness::NotReady => "not ready",
            Readiness::Unknown => "unknown",
        };
        shown.push_str(&format!("{status} {} {:?}: {}\n", report.reason, report.version, report.message));
        let never_ran = report.message.contains("not there") || report.message.contains("is missing");
        assert!(host.commands().is_empty() || never_ran || !host.stops().is_empty(), "nothing is left running");
    }
    insta::assert_snapshot!(shown);
}

/// The original puts the environment of MCP servers and the system prompt on the argument vector, where other users of the
/// machine can read them (weak spot 10).
#[test]
fn defect_14_10_neither_the_prompt_nor_the_environment_of_servers_is_on_the_argument_vector() {
    for agent in ["gemini", "codex-acp", "opencode", "qwen", "goose"] {
        let host = endpoints(FakeHost::new()).setting("agent", agent).child(FakeChild::new());
        let mut task = in_folder("SECRET-goal");
        task.system = Some("SECRET-system".into());
        task.mcp_servers =
            vec![McpServer { name: "m".into(), argv: vec!["m".into()], env: vec![("A".into(), "SECRET-env".into())] }];
        assert!(AcpAgent::run(&host, task).is_err());
        let command = host.commands().remove(0);
        assert!(!format!("{command:?}").contains("SECRET"), "{agent}");
    }
}

/// The original takes words of permission for wider ones (weak spot 8): here each is a mode of the agent, or refused.
#[test]
fn defect_14_08_a_word_of_permission_is_honoured_or_refused_and_never_widened() {
    use midplane_plugin::agent::FilesystemAccess::{FullAccess, ReadOnly, WorkspaceWrite};
    use midplane_plugin::agent::PermissionMode::{Cautious, Default, Permissive, Strict};
    for agent in ["gemini", "codex-acp", "opencode", "qwen", "goose"] {
        let mut unasked = 0;
        for (mode, filesystem) in [Strict, Cautious, Default, Permissive]
            .into_iter()
            .flat_map(|mode| [ReadOnly, WorkspaceWrite, FullAccess].map(|filesystem| (mode, filesystem)))
        {
            let host = endpoints(FakeHost::new()).setting("agent", agent);
            let profile = crate::profile::Profile::read(&host).expect("a row");
            let mut task = in_folder("x");
            (task.permissions.mode, task.permissions.filesystem) = (mode, filesystem);
            let found = profile.mode(&task.permissions).ok().and_then(|(_, mode)| mode);
            assert!(
                found.is_some() || (mode == Permissive && filesystem == ReadOnly),
                "{agent} {mode:?} {filesystem:?}"
            );
            if agent != "opencode" && found == profile.modes.full.as_deref() {
                unasked += 1;
            }
        }
        // The mode that asks for nothing is had by both words together and by nothing else.
        assert_eq!(unasked, usize::from(agent != "opencode"), "{agent}");
    }
}

/// Codex's own sandbox mounts, which the host's forbids: inside of that the host's does what the task says.
#[test]
fn in_the_hosts_sandbox_an_agent_has_none_of_its_own() {
    let script =
        "# agent codex-acp\n> session/prompt\n< {\"id\":\"$session/prompt\",\"result\":{\"stopReason\":\"end_turn\"}}";
    let transcript = Transcript::read(script).greeted();
    for (sandbox, confined) in [("host", true), ("partial", false), ("own", false)] {
        let host = endpoints(FakeHost::new()).setting("agent", "codex-acp").setting("host.sandbox", sandbox);
        let host = host.child(transcript.agent());
        let mut task = in_folder("x");
        task.permissions.mode = PermissionMode::Cautious;
        assert_eq!(AcpAgent::run(&host, task).expect("an outcome").finish_reason, "done");
        let argv = host.commands()[0].argv.join(" ");
        assert_eq!(
            argv.contains(r#"sandbox_mode="danger-full-access" -c approval_policy="untrusted""#),
            confined,
            "{argv}"
        );
        // In the mode `read-only`, which is the cautious one, it starts.
        assert!(!host.written().join("").contains("set_mode"), "{sandbox}");
    }
}

/// A flood of calls and text stays within bounds, and every event within the contract's.
#[test]
fn defect_14_14_a_flood_is_bounded() {
    let call = |n: usize| {
        json!({"method": "session/update", "params": {"sessionId": "s1", "update": {
            "sessionUpdate": "tool_call", "toolCallId": format!("c{n}"), "kind": "x".repeat(9000), "title": "t".repeat(9000),
            "status": "completed", "rawInput": {"text": "y".repeat(if n == 0 { 300_000 } else { 10 })},
            "content": [{"type": "content", "content": {"type": "text", "text": "z".repeat(1000)}}],
        }}})
    };
    let text = json!({"method": "session/update", "params": {"sessionId": "s1", "update": {
        "sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "w".repeat(700_000)}}}});
    let mut lines: Vec<Step> = (0..5000).map(|n| Step::json(&call(n))).collect();
    lines.extend([Step::json(&text), Step::json(&text)]);
    lines.push(Step::Line(r#"{"id":"$session/prompt","result":{"stopReason":"end_turn"}}"#.into()));
    let mut transcript = Transcript::read("# agent custom").greeted();
    transcript.script.insert("session/prompt".into(), VecDeque::from([lines]));
    let host = transcript.host();
    let outcome = AcpAgent::run(&*host, in_folder("x")).expect("an outcome");
    assert_eq!(outcome.finish_reason, "done");
    assert_eq!(outcome.output.len(), 1024 * 1024);
    assert_eq!(outcome.tool_calls.len(), 1024);
    assert!(outcome.tool_calls.iter().all(|call| call.name.len() <= 64 && call.arguments.len() < 70_000));
}

/// An agent that talks on after a cancel is left in time to tell the outcome.
#[test]
fn an_agent_that_talks_on_after_a_cancel_is_not_waited_for() {
    let text = json!({"method": "session/update", "params": {"sessionId": "s1", "update": {
        "sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "."}}}});
    let mut lines = vec![Step::Cancel];
    // Never so long that a wait ends without a word.
    (0..20_000).for_each(|_| lines.extend([Step::json(&text), Step::Wait(200)]));
    let mut transcript = Transcript::read("# agent custom").greeted();
    transcript.script.insert("session/prompt".into(), VecDeque::from([lines]));
    let host = transcript.host();
    let outcome = AcpAgent::run(&*host, in_folder("x")).expect("an outcome");
    assert_eq!(outcome.finish_reason, "interrupted");
    assert!(outcome.output.len() < 20_000, "{}", outcome.output.len());
}

/// All that the transcripts say of a turn: updates and questions.
fn said() -> Vec<Value> {
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/transcripts")).expect("the folder");
    let mut files: Vec<_> = folder.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let texts: String = files.iter().map(|path| std::fs::read_to_string(path).expect("a transcript")).collect();
    let messages = texts.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("< ")?).ok());
    messages.map(|message| message["params"].clone()).filter(|params| params["sessionId"].is_string()).collect()
}

proptest! {
    /// Whatever an agent says, in whatever order: each call is told once, and its end once and after it.
    #[test]
    fn calls_are_told_once_in_any_order(order in proptest::collection::vec((0_usize..1000, 0_u8..8), 0..60)) {
        let (host, said) = (FakeHost::new().setting("agent", "gemini"), said());
        let profile = crate::profile::Profile::read(&host).expect("a row");
        let mut turn = crate::turn::Turn::new(&host, &profile, "/ws", Some("default"));
        for (index, twist) in order {
            let params = &said[index % said.len()];
            if twist == 0 {
                turn.cancelled = true;
            }
            if params["toolCall"].is_object() {
                let asked = turn.asked(params).expect("told");
                if twist % 2 == 1 {
                    turn.declined(&asked).expect("told");
                }
            } else {
                turn.update(&params["update"]).expect("told");
            }
        }
        turn.finish().expect("told");
        let mut open = std::collections::BTreeSet::new();
        let mut seen = std::collections::BTreeSet::new();
        for event in host.events() {
            let data: Value = serde_json::from_str(&event.data).expect("JSON");
            let id = data["id"].as_str().unwrap_or_default().to_owned();
            match event.kind.as_str() {
                "tool_request" => {
                    prop_assert!(seen.insert(id.clone()), "`{id}` is told twice");
                    open.insert(id);
                }
                "tool_response" => prop_assert!(open.remove(&id), "`{id}` ends without a beginning"),
                _ => {}
            }
        }
        prop_assert!(open.is_empty(), "without an end: {open:?}");
        let ended = std::mem::take(&mut turn.audit).into_calls().len();
        prop_assert_eq!(ended, seen.len());
    }
}

fn attachment(kind: &str, name: &str) -> Attachment {
    Attachment { kind: kind.into(), name: name.into(), path: format!(".midplane/{name}"), digest: "0".repeat(64) }
}
