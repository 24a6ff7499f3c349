//! Runs that are fed from outside: through the library, through the command, and through processes that are killed.

use std::future::Future as _;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::task::Context;
use std::time::Duration;

use midplane::core::RunId;
use midplane::core::event::{EventKind, Record};
use midplane::core::run::Status;
use midplane::core::stream::{NO_TERMINAL, Observation};
use midplane::{CancelReceipt, Config, Host, Ingested, OutsideRun, Paths, RunQuery};
use serde_json::{Value, json};

use crate::command::Home;

fn outside(provider: &str) -> OutsideRun {
    OutsideRun { provider: provider.to_owned(), goal: Some("feed it".to_owned()), ..OutsideRun::default() }
}

fn batch(run_id: &str, events: &[Value]) -> String {
    json!({ "v": 1, "runId": run_id, "events": events }).to_string()
}

fn event(seq: u64, kind: &str, data: Value) -> Value {
    json!({ "seq": seq, "tMs": seq, "kind": kind, "data": data })
}

/// Batches of a whole run: start, `count` batches of some events, terminal.
fn script(run_id: &str, count: u64) -> Vec<String> {
    let mut batches = vec![batch(run_id, &[event(0, "runtime_started", json!({}))])];
    for n in 1..=count {
        let texts: Vec<Value> =
            (0..=n % 3).map(|m| event(n * 10 + m, "assistant_text", json!({ "text": format!("{n}.{m} ") }))).collect();
        batches.push(batch(run_id, &texts));
    }
    batches.push(batch(run_id, &[event(count * 10 + 10, "runtime_terminal", json!({ "reason": "complete" }))]));
    batches
}

/// What a log says that was fed by a [`script`], without times and the host's own.
fn outside_events(log: &[Value]) -> Vec<(Value, Value)> {
    log.iter()
        .filter(|record| record["data"]["outside"]["seq"].is_number())
        .map(|record| (record["data"]["outside"]["seq"].clone(), record["data"]["text"].clone()))
        .collect()
}

fn expected(batches: &[String]) -> Vec<(Value, Value)> {
    let events = |batch: &String| serde_json::from_str::<Value>(batch).expect("JSON")["events"].clone();
    let all = batches.iter().flat_map(|batch| events(batch).as_array().cloned().unwrap_or_default());
    all.map(|event| (event["seq"].clone(), event["data"]["text"].clone())).collect()
}

async fn all(host: &Host, run_id: &RunId) -> Vec<Record> {
    let mut events = host.subscribe(run_id, 1).await.expect("events");
    let mut records = Vec::new();
    while let Some(more) = events.next().await.expect("records") {
        records.extend(more);
    }
    records
}

fn as_json(records: &[Record]) -> Vec<Value> {
    records.iter().map(|record| serde_json::to_value(record).expect("JSON")).collect()
}

fn code(ingested: &Ingested) -> &str {
    match ingested {
        Ingested::Accepted { .. } => "accepted",
        Ingested::Duplicate => "duplicate",
        Ingested::Refused { error, .. } => &error.code,
    }
}

#[tokio::test]
async fn a_run_is_fed_followed_and_closed() {
    let host = Host::builder().open().await.expect("host");
    let id = host.open_outside_run(outside("fly-runner")).await.expect("run");
    assert_eq!(host.get(&id).await.expect("view").status, "provisioning");
    let follower = tokio::spawn({
        let (host, id) = (host.clone(), id.clone());
        async move { all(&host, &id).await }
    });
    let batches = script(id.as_str(), 4);
    for text in &batches {
        assert_eq!(code(&host.ingest(&id, text).await.expect("ingest")), "accepted");
        assert_eq!(code(&host.ingest(&id, text).await.expect("ingest")), "duplicate");
    }
    let view = host.get(&id).await.expect("view");
    assert_eq!((view.status, view.outcome), ("running", None));
    host.observe_job(&id, &Observation::exited(0)).await.expect("observed");
    let records = follower.await.expect("follower");
    assert_eq!(outside_events(&as_json(&records)), expected(&batches));
    assert!(records.iter().enumerate().all(|(index, record)| record.seq == index as u64 + 1));
    let view = host.get(&id).await.expect("view");
    let outcome = view.outcome.expect("outcome");
    assert_eq!((view.status, outcome.exit_code, outcome.reason.as_deref()), ("terminated", Some(0), Some("complete")));
    // After the end: what was there is there, what is new is refused and counted, and nothing is written.
    assert_eq!(code(&host.ingest(&id, &batches[2]).await.expect("ingest")), "duplicate");
    let late = batch(id.as_str(), &[event(900, "notification", json!({})), event(901, "notification", json!({}))]);
    for events in [2, 4] {
        let Ingested::Refused { error, late_events } = host.ingest(&id, &late).await.expect("ingest") else {
            panic!("taken after the terminal")
        };
        assert_eq!((error.code.as_ref(), late_events), ("after-terminal", events));
    }
    assert_eq!(host.get(&id).await.expect("view").events, records.len() as u64);
}

#[tokio::test]
async fn what_is_refused_leaves_no_trace() {
    let config = Config::parse("limits: {run_events_max: 12, event_bytes_max: 60, batch_bytes_max: 400}", "test");
    let host = Host::builder().config(config.expect("config")).open().await.expect("host");
    let id = host.open_outside_run(outside("r")).await.expect("run");
    let name = id.as_str();
    let start = batch(name, &[event(0, "runtime_started", json!({}))]);
    let cases = [
        ("no JSON", "{".to_owned()),
        ("wrong version", start.replace("\"v\":1", "\"v\":2")),
        ("another run", batch("run_1", &[event(0, "runtime_started", json!({}))])),
        ("not started", batch(name, &[event(0, "notification", json!({}))])),
        ("a large event", batch(name, &[event(0, "runtime_started", json!({ "x": "x".repeat(60) }))])),
        ("a large batch", batch(name, &[event(0, "runtime_started", json!({ "x": "x".repeat(500) }))])),
        (
            "many events",
            batch(
                name,
                &[0, 1, 2, 3, 4, 5]
                    .map(|n| event(n, if n == 0 { "runtime_started" } else { "notification" }, json!({}))),
            ),
        ),
    ];
    let mut shown = Vec::new();
    for (what, text) in &cases {
        let Ingested::Refused { error, .. } = host.ingest(&id, text).await.expect("ingest") else { panic!("{what}") };
        shown.push(format!("{what}: {}: {}", error.code, error.message.replace(name, "RUN")));
    }
    insta::assert_snapshot!(shown.join("\n"));
    assert_eq!(host.get(&id).await.expect("view").events, 3);
    assert_eq!(code(&host.ingest(&id, &start).await.expect("ingest")), "accepted");

    let unknown = RunId::from_parts(1, 1);
    assert_eq!(host.ingest(&unknown, &start).await.expect_err("no run").code, "run-unknown");
    assert_eq!(host.open_outside_run(outside("No Name")).await.expect_err("a bad name").kind.as_str(), "invalid");
    assert_eq!(host.steer(&id, "hi").await.expect_err("no plugin").code, "run-outside");
    let error = host.remove_run(&id).await.expect_err("it has not ended");
    assert_eq!(error.hint, Some(format!("close it first: `midplane runs close {id}`")));
    host.observe_job(&id, &Observation::exited(0)).await.expect("observed");
    host.remove_run(&id).await.expect("removed");
    assert_eq!(host.ingest(&id, &start).await.expect_err("removed").code, "run-unknown");
}

#[tokio::test]
async fn a_claim_waits_for_the_job_and_then_for_its_grace() {
    let home = tempfile::tempdir().expect("home");
    let config = || Config::parse("limits: {grace_ms: 60}", "test").expect("config");
    let host = || Host::builder().paths(Paths::under(home.path())).config(config()).open();
    let one = host().await.expect("host");
    let id = one.open_outside_run(outside("r")).await.expect("run");
    for text in script(id.as_str(), 1) {
        one.ingest(&id, &text).await.expect("ingest");
    }
    // Nobody observes the job; a follower sees the end come all the same.
    let outcome = all(&one, &id).await.last().expect("terminal").clone();
    assert_eq!((outcome.kind, outcome.data["reason"].as_str()), (EventKind::RuntimeTerminal, Some("complete")));
    assert_eq!(outcome.data.get("exit_code"), None);

    // The process that took the claim is gone before the grace has passed: whoever looks next settles it.
    let id = one.open_outside_run(outside("r")).await.expect("run");
    let (claim, taken) = (script(id.as_str(), 0), id.clone());
    let paths = Paths::under(home.path());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async {
            let lost = Host::builder().paths(paths).config(config()).open().await.expect("host");
            for text in &claim {
                assert_eq!(code(&lost.ingest(&taken, text).await.expect("ingest")), "accepted");
            }
        });
    })
    .join()
    .expect("the lost host");
    tokio::time::sleep(Duration::from_millis(80)).await;
    let (two, three) = (host().await.expect("two"), host().await.expect("three"));
    let (a, b) = tokio::join!(two.get(&id), three.get(&id));
    assert_eq!((a.expect("view").status, b.expect("view").status), ("terminated", "terminated"));
    let terminals = all(&two, &id).await.iter().filter(|record| record.kind == EventKind::RuntimeTerminal).count();
    assert_eq!(terminals, 1);
}

#[tokio::test]
async fn cancel_job_states_and_a_sender_with_a_name_of_its_own() {
    let host = Host::builder().open().await.expect("host");
    let run = OutsideRun { sender_run_id: Some("run_1".to_owned()), ..outside("r") };
    let id = host.open_outside_run(run).await.expect("run");
    let start = |name: &str| batch(name, &[event(0, "runtime_started", json!({}))]);
    assert_eq!(code(&host.ingest(&id, &start(id.as_str())).await.expect("ingest")), "run-mismatch");
    assert_eq!(code(&host.ingest(&id, &start("run_1")).await.expect("ingest")), "accepted");
    let back = Observation::of(Status::Provisioning);
    assert_eq!(host.observe_job(&id, &back).await.expect_err("backwards").code, "illegal-transition");
    assert_eq!(host.cancel(&id).await.expect("cancel"), CancelReceipt::Requested);
    assert_eq!(host.get(&id).await.expect("view").status, "stopping");
    assert_eq!(
        host.runs(RunQuery { status: Some("stopping".into()), ..RunQuery::default() }).await.expect("runs").len(),
        1
    );
    host.observe_job(&id, &Observation { error_class: Some("Killed".into()), ..Observation::exited(143) })
        .await
        .expect("seen");
    let outcome = host.get(&id).await.expect("view").outcome.expect("outcome");
    assert_eq!((outcome.finish_reason.as_str(), outcome.exit_code), ("interrupted", Some(143)));
    assert_eq!((outcome.reason.as_deref(), &outcome.metadata["error_class"]), (Some(NO_TERMINAL), &json!("Killed")));
    assert_eq!(host.cancel(&id).await.expect("again"), CancelReceipt::NotActive);
}

#[tokio::test]
async fn secrets_and_odd_data_through_the_store() {
    let home = tempfile::tempdir().expect("home");
    let config = Config::parse("secrets: {KEY: 'env:KEY'}", "test").expect("config");
    let host = Host::builder()
        .paths(Paths::under(home.path()))
        .config(config)
        .env(|name| (name == "KEY").then(|| "sk-very-secret-0123456789".to_owned()));
    let host = host.open().await.expect("host");
    let id = host.open_outside_run(outside("r")).await.expect("run");
    let deep = format!("{}{}{}", "[".repeat(990), r#""sk-very-secret-0123456789""#, "]".repeat(990));
    let odd = format!(
        r#"{{"v":1,"runId":"{id}","events":[
            {{"seq":0,"tMs":0,"kind":"runtime_started","data":{{"api_key":"x"}}}},
            {{"seq":1,"tMs":0,"kind":"assistant_text","data":{{"text":"say sk-very-sec"}}}},
            {{"seq":2,"tMs":0,"kind":"assistant_text","data":{{"text":"ret-0123456789 and \ud83d"}}}},
            {{"seq":3,"tMs":0,"kind":"assistant_text","data":{{"text":"ret-0123456789"}}}},
            {{"seq":4,"tMs":0,"kind":"notification","data":{{"type":"created","deep":{deep}}}}},
            {{"seq":1.5e300,"tMs":1e21,"kind":"runtime_terminal","data":{{"reason":"done","note":"sk-very-secret-0123456789"}}}}]}}"#
    );
    assert_eq!(code(&host.ingest(&id, &odd.replace('\n', "")).await.expect("ingest")), "accepted");
    assert_eq!(code(&host.ingest(&id, &odd).await.expect("again")), "duplicate");
    let refusal = format!(r#"{{"v":"sk-very-secret-0123456789","runId":"{id}","events":[]}}"#);
    let Ingested::Refused { error, .. } = host.ingest(&id, &refusal).await.expect("ingest") else { panic!("taken") };
    assert_eq!(error.message, "batch.v must equal 1 (got \"[redacted:KEY]\")");
    host.observe_job(&id, &Observation::exited(0)).await.expect("observed");
    // A host that knows nothing of what this one keeps in memory.
    let records = all(&Host::builder().paths(Paths::under(home.path())).open().await.expect("host"), &id).await;
    let text = serde_json::to_string(&as_json(&records)).expect("JSON");
    assert!(!text.contains("sk-very-secret-0123456789"), "{text}");
    assert!(text.contains("[redacted:KEY]") && text.contains("1.5e+300") && text.contains("\\\\ud83d"), "{text}");
    assert_eq!(host.get(&id).await.expect("view").outcome.expect("outcome").finish_reason.as_str(), "done");
}

#[tokio::test]
async fn two_hosts_on_one_store_take_turns() {
    let home = tempfile::tempdir().expect("home");
    let open = || Host::builder().paths(Paths::under(home.path())).open();
    let (one, two) = (open().await.expect("one"), open().await.expect("two"));
    let id = one.open_outside_run(outside("r")).await.expect("run");
    let batches = script(id.as_str(), 40);
    // Both are told all of it at once, as by a sender with two connections that trusts neither.
    let feed = |host: Host| {
        let (id, batches) = (id.clone(), batches.clone());
        tokio::spawn(async move {
            let mut accepted = 0;
            for text in &batches {
                match host.ingest(&id, text).await.expect("ingest") {
                    Ingested::Accepted { .. } => accepted += 1,
                    Ingested::Duplicate => {}
                    refused => panic!("{refused:?}"),
                }
            }
            accepted
        })
    };
    let (a, b) = tokio::join!(feed(one.clone()), feed(two.clone()));
    assert_eq!(a.expect("one") + b.expect("two"), batches.len());
    let seen = Observation::exited(0);
    let (a, b) = tokio::join!(one.observe_job(&id, &seen), two.observe_job(&id, &seen));
    a.and(b).expect("observed");
    let records = as_json(&all(&two, &id).await);
    assert_eq!(outside_events(&records), expected(&batches));
    assert_eq!(records.iter().filter(|record| record["kind"] == "runtime_terminal").count(), 1);
}

#[tokio::test]
async fn a_call_that_is_dropped_at_any_point_is_repeated() {
    let home = tempfile::tempdir().expect("home");
    let host = Host::builder().paths(Paths::under(home.path())).open().await.expect("host");
    for polls in 0..12 {
        let id = host.open_outside_run(outside("r")).await.expect("run");
        let batches = script(id.as_str(), 3);
        for text in &batches {
            {
                let mut call = std::pin::pin!(host.ingest(&id, text));
                for _ in 0..polls {
                    let mut context = Context::from_waker(std::task::Waker::noop());
                    if call.as_mut().poll(&mut context).is_ready() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_micros(300)).await;
                }
            }
            let again = host.ingest(&id, text).await.expect("ingest");
            assert!(matches!(again, Ingested::Accepted { .. } | Ingested::Duplicate), "{again:?}");
        }
        host.observe_job(&id, &Observation::exited(0)).await.expect("observed");
        assert_eq!(outside_events(&as_json(&all(&host, &id).await)), expected(&batches), "after {polls} polls");
    }
}

/// `midplane runs ingest` in the background.
struct Ingesting {
    child: Child,
    stdin: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Ingesting {
    fn new(home: &Home, id: &str) -> Self {
        let mut command = home.command(&["runs", "ingest", id, "--json"]);
        let mut child = command.stdin(Stdio::piped()).spawn().expect("the command starts");
        let stdin = child.stdin.take().expect("stdin");
        let answers = BufReader::new(child.stdout.take().expect("stdout")).lines();
        Self { child, stdin, answers }
    }

    fn send(&mut self, batch: &str) {
        // One that was killed reads no more, which its answers will show.
        let _ = writeln!(self.stdin, "{batch}").and_then(|()| self.stdin.flush());
    }

    fn answer(&mut self) -> Option<Value> {
        serde_json::from_str(&self.answers.next()?.ok()?).ok()
    }

    /// kill -9. What was answered before is given: it counts.
    fn kill(mut self) -> usize {
        self.child.kill().expect("kill -9");
        self.child.wait().expect("reaped");
        std::iter::from_fn(|| self.answer()).count()
    }
}

fn open(home: &Home) -> String {
    let opened = home.run(&["runs", "open", "--provider", "fly-runner", "--goal", "feed it"]);
    assert_eq!(opened.code, Some(0), "{opened:?}");
    opened.out.trim().to_owned()
}

#[test]
fn a_killed_process_takes_each_batch_once() {
    let home = Home::new();
    // Every point between two batches, and then points within: so many batches are sent ahead of so many answers.
    let between = (0..8).map(|answered| (answered, answered));
    let within = (0..16).map(|round: usize| (1 + round % 5, (round * 3) % 5));
    for (sent_ahead, answered) in between.chain(within) {
        let id = open(&home);
        let batches = script(&id, 8);
        let mut acknowledged = 0;
        while acknowledged < batches.len() {
            let mut process = Ingesting::new(&home, &id);
            let end = (acknowledged + sent_ahead.max(1)).min(batches.len());
            for batch in &batches[acknowledged..end] {
                process.send(batch);
            }
            let before = acknowledged;
            for _ in 0..answered.min(end - before) {
                let verdict = process.answer().expect("an answer")["verdict"].clone();
                assert!(verdict == "accepted" || verdict == "duplicate", "{verdict}");
                acknowledged += 1;
            }
            acknowledged += process.kill();
            if acknowledged == before && answered == 0 {
                // Killed at once it may never get anywhere; one that is let be shows where it stands.
                let mut process = Ingesting::new(&home, &id);
                process.send(&batches[acknowledged]);
                assert_ne!(process.answer().expect("an answer")["verdict"], "refused");
                acknowledged += 1;
                process.kill();
            }
        }
        let closed = home.run(&["runs", "close", &id, "--exit-code", "0", "--json"]);
        assert_eq!((closed.code, closed.json()["status"].as_str()), (Some(0), Some("terminated")), "{closed:?}");
        let log = home.run(&["runs", "events", &id, "--json"]).lines();
        assert_eq!(outside_events(&log), expected(&batches), "{sent_ahead} ahead of {answered}");
        for (index, record) in log.iter().enumerate() {
            assert_eq!(record["seq"].as_u64(), Some(index as u64 + 1));
        }
        assert_eq!(log.iter().filter(|record| record["kind"] == "runtime_terminal").count(), 1);
    }
}

#[test]
fn the_commands_answer_a_line_each() {
    let home = Home::new();
    let id = open(&home);
    let good = script(&id, 1);
    let input = format!(
        "{}\n{}\n\nnope\n{}\n{}\n{}",
        good[0],
        good[0],
        good[1].replace("\"seq\":10", "\"seq\":0"),
        batch("other", &[event(50, "notification", json!({}))]),
        good[2]
    );
    let pipe = |arguments: &[&str], input: &str| {
        let mut child = home.command(arguments).stdin(Stdio::piped()).spawn().expect("the command starts");
        child.stdin.take().expect("stdin").write_all(input.as_bytes()).expect("written");
        crate::command::printed(child.wait_with_output().expect("ended"))
    };
    let mut shown = Vec::new();
    for (what, arguments, input) in [
        ("ingest", vec!["runs", "ingest", &id], input.clone()),
        ("ingest again", vec!["runs", "ingest", &id, "--json"], input.clone()),
        ("ingest nothing", vec!["runs", "ingest", &id], String::new()),
        ("no such run", vec!["runs", "ingest", "zzz"], input.clone()),
        ("validate", vec!["batch", "validate"], input.clone()),
        ("validate one", vec!["batch", "validate", "--json"], good[2].replace(',', ",\n")),
        ("close", vec!["runs", "close", &id, "--exit-code", "3", "--error-class", "OOMKilled"], String::new()),
        ("close again", vec!["runs", "close", &id, "--exit-code", "0"], String::new()),
        ("after the end", vec!["runs", "ingest", &id], good[2].replace("20", "21")),
        ("no name", vec!["runs", "open", "--provider", "No Name"], String::new()),
    ] {
        let printed = pipe(&arguments, &input);
        shown.push(format!("== {what}: exit {:?}\n{}{}", printed.code, printed.out, printed.err).replace(&id, "RUN"));
    }
    insta::assert_snapshot!(shown.join("\n"));
}
