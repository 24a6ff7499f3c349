//! The rules above one batch: each rule by example, and all of them under any order of retries, kills and processes.

use midplane_core::batch::validate;
use midplane_core::event::{Event, EventKind, Record};
use midplane_core::limits::Limits;
use midplane_core::outcome::FinishReason;
use midplane_core::redact::{Redactor, Secrets};
use midplane_core::run::{Status, StopCause};
use midplane_core::stream::{Arrival, Input, NO_TERMINAL, Observation, State, Verdict, arrivals, opened, step};
use midplane_core::{Result, RunId};
use proptest::prelude::*;
use serde_json::{Value, json};

const GRACE_MS: u64 = 3_000;

/// A log that several processes append to.
#[derive(Default)]
struct Log {
    records: Vec<Record>,
    now_ms: u64,
}

impl Log {
    fn open() -> Self {
        let mut log = Self { records: Vec::new(), now_ms: 1_000 };
        log.append(0, opened(json!({})));
        log
    }

    /// Whether it was where the caller thought.
    fn append(&mut self, expected_seq: u64, events: Vec<Event>) -> bool {
        if self.records.len() as u64 != expected_seq {
            return false;
        }
        for event in events {
            self.records.push(Record {
                run_id: RunId::from_parts(1, 2),
                seq: self.records.len() as u64 + 1,
                t_ms: self.now_ms,
                kind: event.kind,
                data: event.data,
            });
        }
        true
    }

    fn state(&self) -> State {
        State::of(&self.records)
    }

    fn feed(&mut self, input: Input<'_>) -> Result<Verdict> {
        let state = self.state();
        let step = step(&state, input, &Limits::default())?;
        assert!(self.append(state.run.last_seq, step.append));
        Ok(step.verdict)
    }

    fn send(&mut self, events: &[Value]) -> String {
        match self.feed(Input::Batch(&read(events, &Redactor::default()))) {
            Ok(Verdict::Accepted(new)) => format!("accepted {new}"),
            Ok(Verdict::Duplicate) => "duplicate".to_owned(),
            Err(error) => format!("{}: {}", error.code, error.message),
        }
    }

    fn tick(&mut self, by_ms: u64) {
        self.now_ms += by_ms;
        self.feed(Input::Tick { now_ms: self.now_ms, grace_ms: GRACE_MS }).expect("a tick is never refused");
    }

    /// The log without times, which differ from one course of things to another.
    fn text(&self) -> String {
        let line = |record: &Record| {
            let mut data = record.data.clone();
            if let Some(outside) = data.get_mut("outside").and_then(Value::as_object_mut) {
                outside.remove("digest");
            }
            format!("{} {} {}", record.seq, record.kind.as_str(), Value::Object(data))
        };
        self.records.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

fn read(events: &[Value], redactor: &Redactor) -> Vec<Arrival> {
    let text = json!({ "v": 1, "runId": "r", "events": events }).to_string();
    let batch = validate(&text).expect("a batch");
    arrivals(&batch, redactor, &Limits::default()).expect("within the bounds")
}

fn event(seq: u64, kind: &str, data: Value) -> Value {
    json!({ "seq": seq, "tMs": seq * 10, "kind": kind, "data": data })
}

fn started(seq: u64) -> Value {
    event(seq, "runtime_started", json!({}))
}

fn said(seq: u64, text: &str) -> Value {
    event(seq, "assistant_text", json!({ "text": text }))
}

fn terminal(seq: u64, data: Value) -> Value {
    event(seq, "runtime_terminal", data)
}

#[test]
fn a_run_from_open_to_end() {
    let mut log = Log::open();
    assert!(log.state().is_outside());
    let answers = [
        log.send(&[started(0), said(1, "he")]),
        log.send(&[started(0), said(1, "he")]),
        // Half of it is new.
        log.send(&[
            said(1, "he"),
            said(5, "llo"),
            event(6, "notification", json!({ "type": "usage", "input_tokens": 7 })),
        ]),
        log.send(&[terminal(9, json!({ "reason": "complete", "usage": { "outputTokens": 5 } }))]),
        // The same end, told by another part of the runner.
        log.send(&[terminal(10, json!({ "reason": "process exited" }))]),
        log.send(&[terminal(9, json!({ "reason": "complete", "usage": { "outputTokens": 5 } }))]),
    ];
    assert_eq!(answers, ["accepted 2", "duplicate", "accepted 2", "accepted 1", "accepted 1", "duplicate"]);
    log.feed(Input::Observed(&Observation::exited(0))).expect("observed");
    // Resent after the end, it is still what it was.
    assert_eq!(log.send(&[terminal(10, json!({ "reason": "process exited" }))]), "duplicate");
    assert!(log.send(&[said(11, "more")]).starts_with("after-terminal"));
    log.feed(Input::Observed(&Observation::exited(1))).expect("the first end holds");
    insta::assert_snapshot!(log.text());
}

#[test]
fn what_is_refused_changes_nothing() {
    let mut log = Log::open();
    let mut shown = vec![log.send(&[said(0, "x")]), log.send(&[started(0), started(1)])];
    log.send(&[started(0), said(4, "a")]);
    for batch in [
        vec![said(4, "b")],
        vec![said(4, "a"), event(5, "runtime_started", json!({}))],
        vec![said(3, "late")],
        vec![json!({ "seq": 5, "tMs": 39, "kind": "notification", "data": {} })],
        vec![said(5, "x"), terminal(6, json!({})), said(7, "y")],
        // The same event at another time, of another kind.
        vec![json!({ "seq": 4, "tMs": 41, "kind": "assistant_text", "data": { "text": "a" } })],
        vec![event(4, "stream_error", json!({ "text": "a" }))],
    ] {
        let before = log.text();
        shown.push(log.send(&batch));
        assert_eq!(log.text(), before);
    }
    log.send(&[terminal(8, json!({}))]);
    shown.push(log.send(&[said(9, "x")]));
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn identity_is_of_content_not_of_spelling() {
    let mut log = Log::open();
    log.send(&[started(0)]);
    let send = |log: &mut Log, text: &str| {
        let text = format!(r#"{{"v":1,"runId":"r","events":[{text}]}}"#);
        let batch = validate(&text).expect("a batch");
        let arrivals = arrivals(&batch, &Redactor::default(), &Limits::default()).expect("arrivals");
        log.feed(Input::Batch(&arrivals)).map_err(|error| error.code.into_owned())
    };
    let first = r#"{"seq":1e300,"tMs":1e21,"kind":"notification","data":{"b":[1.0,"é"],"a":-0}}"#;
    assert_eq!(send(&mut log, first), Ok(Verdict::Accepted(1)));
    let again =
        r#"{ "kind":"notification","data":{"a":0, "b":[1,"\u00e9"]},"tMs":1000000000000000000000,"seq":1e+300,"x":1}"#;
    assert_eq!(send(&mut log, again), Ok(Verdict::Duplicate));
    let other = r#"{"seq":1e300,"tMs":1e21,"kind":"notification","data":{"b":["é",1],"a":0}}"#;
    assert_eq!(send(&mut log, other), Err("seq-conflict".to_owned()));
    assert_eq!(log.state().last(), Some((1e300, 1e21)));
    assert_eq!(log.records.last().expect("one").data["outside"]["seq"], "1e+300");
}

#[test]
fn what_a_record_cannot_hold_is_kept_as_text() {
    let nested = format!("{}1{}", "[".repeat(990), "]".repeat(990));
    let datas = [
        format!(r#"{{"a":{nested}}}"#),
        r#"{"half":"\ud83d x","api_key":"k","list":[{"name":"Authorization","value":"v"}],"live":"sk-very-secret-0123456789\ud83d"}"#.to_owned(),
        r#"{"type":"status","status":"terminated"}"#.to_owned(),
        r#"{"outside":{"seq":7},"password":{"deep":1}}"#.to_owned(),
    ];
    let secrets = Secrets::new([("KEY", "sk-very-secret-0123456789")]).expect("secrets");
    let redactor = Redactor::new(secrets);
    let mut log = Log::open();
    log.send(&[started(0)]);
    for (seq, data) in (1..).zip(&datas) {
        let text =
            format!(r#"{{"v":1,"runId":"r","events":[{{"seq":{seq},"tMs":10,"kind":"notification","data":{data}}}]}}"#);
        let batch = validate(&text).expect("a batch");
        let arrivals = arrivals(&batch, &redactor, &Limits::default()).expect("arrivals");
        assert_eq!(log.feed(Input::Batch(&arrivals)), Ok(Verdict::Accepted(1)));
    }
    // What a record holds is read back by all who read records.
    let texts: Vec<String> =
        log.records.iter().skip(5).map(|record| serde_json::to_string(&record.data).expect("JSON")).collect();
    for text in &texts {
        serde_json::from_str::<Value>(text).expect("readable");
    }
    assert_eq!(log.records[5].data["outside"]["text"], datas[0].as_str());
    assert_eq!(log.state().run.status, Status::Running);
    insta::assert_snapshot!(texts[1..].join("\n"));
}

#[test]
fn a_secret_cut_by_pieces_is_found() {
    let secrets = Secrets::new([("KEY", "sk-very-secret-0123456789")]).expect("secrets");
    let events = [
        started(0),
        said(1, "it is sk-very-"),
        said(2, "secret-01234"),
        said(3, "56789 and sk-v"),
        terminal(4, json!({})),
    ];
    let mut log = Log::open();
    log.feed(Input::Batch(&read(&events, &Redactor::new(secrets)))).expect("accepted");
    let text: String = log.records.iter().filter_map(|record| record.data.get("text")?.as_str()).collect();
    assert_eq!(text, "it is [redacted:KEY] and sk-v");
}

#[test]
fn claims_and_observations() {
    let job = |status, class: &str| Observation {
        error_class: (!class.is_empty()).then(|| class.to_owned()),
        message: Some("said the substrate".to_owned()),
        ..Observation::of(status)
    };
    let cases: Vec<(&str, Option<Value>, Option<Observation>)> = vec![
        (
            "done, exit 0",
            Some(json!({ "reason": "complete", "usage": { "inputTokens": 3 } })),
            Some(Observation::exited(0)),
        ),
        ("done, exit 3", Some(json!({ "reason": "done" })), Some(Observation::exited(3))),
        ("done, killed", Some(json!({ "reason": "done" })), Some(job(Status::Failed, "OOMKilled"))),
        ("done, never seen", Some(json!({ "reason": "end_turn", "output": "hi" })), None),
        (
            "failed, exit 1",
            Some(json!({ "reason": "error", "error": { "message": "no quota" } })),
            Some(Observation::exited(1)),
        ),
        ("failed, exit 0", Some(json!({ "status": "failed" })), Some(Observation::exited(0))),
        ("cancelled, exit 143", Some(json!({ "reason": "cancelled" })), Some(Observation::exited(143))),
        ("unknown word, exit 0", Some(json!({ "reason": "great" })), Some(Observation::exited(0))),
        ("unknown word, exit 2", Some(json!({ "reason": "great" })), Some(Observation::exited(2))),
        ("unknown word, never seen", Some(json!({ "reason": "great" })), None),
        ("nothing said, exit 0", Some(json!({})), Some(Observation::exited(0))),
        ("no claim, exit 0", None, Some(Observation::exited(0))),
        ("no claim, exit 9", None, Some(Observation::exited(9))),
        ("no claim, failed", None, Some(job(Status::Failed, ""))),
    ];
    let mut shown = Vec::new();
    for (name, claim, seen) in cases {
        let mut log = Log::open();
        log.send(&[started(0)]);
        if let Some(claim) = claim {
            assert_eq!(log.send(&[terminal(1, claim)]), "accepted 1");
        }
        match &seen {
            Some(seen) => drop(log.feed(Input::Observed(seen)).expect("observed")),
            None => {
                log.tick(GRACE_MS - 1);
                assert_eq!(log.state().run.outcome, None, "{name}: the grace has not passed");
                log.tick(1);
            }
        }
        let state = log.state();
        let outcome = state.run.outcome.expect("terminal");
        shown.push(format!("{name}: {}\n    {}", state.run.status, serde_json::to_string(&outcome).expect("JSON")));
    }
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn a_job_walks_the_order() {
    let mut log = Log::open();
    let see = |log: &mut Log, status| {
        let seen = log.feed(Input::Observed(&Observation::of(status)));
        seen.map(|_| log.state().run.status).map_err(|error| error.code.into_owned())
    };
    assert_eq!(see(&mut log, Status::Queued), Err("illegal-transition".to_owned()));
    assert_eq!(see(&mut log, Status::Running), Ok(Status::Running));
    assert_eq!(see(&mut log, Status::Running), Ok(Status::Running));
    log.send(&[started(0)]);
    log.feed(Input::Stop(StopCause::User)).expect("stopped");
    assert_eq!(see(&mut log, Status::Running), Err("illegal-transition".to_owned()));
    // What still arrives is taken, and does not bring it back.
    assert_eq!(log.send(&[said(1, "bye")]), "accepted 1");
    assert_eq!(log.state().run.status, Status::Stopping);
    assert_eq!(see(&mut log, Status::Failed), Ok(Status::Terminated));
    let outcome = log.state().run.outcome.expect("terminal");
    assert_eq!((outcome.finish_reason, outcome.reason.as_deref()), (FinishReason::Interrupted, Some(NO_TERMINAL)));
    let terminals = log.records.iter().filter(|record| record.kind == EventKind::RuntimeTerminal).count();
    assert_eq!(terminals, 1);
}

#[test]
fn bounds() {
    let mut log = Log::open();
    log.send(&[started(0)]);
    let limits = Limits { run_events_max: 10, event_bytes_max: 20, ..Limits::default() };
    let many: Vec<Value> = (1..4).map(|seq| said(seq, "x")).collect();
    let error = step(&log.state(), Input::Batch(&read(&many, &Redactor::default())), &limits).expect_err("over");
    assert_eq!(error.code, "run-events");
    let text = json!({ "v": 1, "runId": "r", "events": [said(1, "a text of more bytes")] }).to_string();
    let error = arrivals(&validate(&text).expect("a batch"), &Redactor::default(), &limits).expect_err("over");
    assert_eq!((error.code.as_ref(), error.message.contains("events[0]")), ("event-size", true));
}

/// What one of two processes does with a batch.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Answered,
    /// Killed before the append.
    KilledBefore,
    /// Killed between append and answer, so that the sender sends it again.
    KilledBehind,
    /// Another process takes the same batch between the decision and the append of this one.
    Raced,
}

#[derive(Debug, Clone)]
struct Sending {
    fate: Fate,
    /// How many events the next batch has, and how many that were sent before it repeats.
    fresh: usize,
    repeated: usize,
    wait_ms: u64,
}

fn any_sending() -> impl Strategy<Value = Sending> {
    let fate = prop_oneof![
        3 => Just(Fate::Answered), 1 => Just(Fate::KilledBefore), 2 => Just(Fate::KilledBehind), 1 => Just(Fate::Raced)
    ];
    (fate, 0..5_usize, 0..4_usize, 0..50_u64).prop_map(|(fate, fresh, repeated, wait_ms)| Sending {
        fate,
        fresh,
        repeated,
        wait_ms,
    })
}

/// All that a sender has to say.
fn script(length: usize) -> Vec<Value> {
    let mut all = vec![started(0)];
    all.extend((1..length as u64).map(|seq| said(seq * 3, &format!("piece {seq}"))));
    all.push(terminal(length as u64 * 3, json!({ "reason": "complete" })));
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever is sent again, cut otherwise, killed or raced: the log is the one of the sender that met no trouble.
    #[test]
    fn any_course_of_things_gives_the_same_log(length in 1..30_usize, sendings in prop::collection::vec(any_sending(), 0..60)) {
        let script = script(length);
        let mut plain = Log::open();
        for event in &script {
            prop_assert_eq!(plain.send(std::slice::from_ref(event)), "accepted 1");
        }
        plain.feed(Input::Observed(&Observation::exited(0))).expect("observed");

        let mut log = Log::open();
        // A state that is not read again from the log before each batch, as a process keeps one.
        let mut kept = log.state();
        let mut acknowledged = 0;
        // In the end all is sent, in one go.
        let rest = Sending { fate: Fate::Answered, fresh: script.len(), repeated: 2, wait_ms: 0 };
        for sending in sendings.into_iter().chain([rest]) {
            log.tick(sending.wait_ms);
            let from = acknowledged.min(script.len()) - sending.repeated.min(acknowledged);
            let to = (acknowledged + sending.fresh).min(script.len());
            let Some(events) = script.get(from..to).filter(|events| !events.is_empty()) else { continue };
            let batch = read(events, &Redactor::default());
            if matches!(sending.fate, Fate::KilledBefore) {
                kept = log.state();
                continue;
            }
            loop {
                let decided = step(&kept, Input::Batch(&batch), &Limits::default());
                if matches!(sending.fate, Fate::Raced) {
                    log.feed(Input::Batch(&batch)).expect("the other process");
                }
                let decided = decided.expect("a batch of the script is never refused");
                if decided.append.is_empty() || log.append(kept.run.last_seq, decided.append) {
                    break;
                }
                kept = log.state();
            }
            kept = log.state();
            if !matches!(sending.fate, Fate::KilledBehind) {
                acknowledged = to.max(acknowledged);
            }
        }
        log.feed(Input::Observed(&Observation::exited(0))).expect("observed");
        prop_assert_eq!(log.text(), plain.text());
        prop_assert_eq!(log.records.iter().filter(|record| record.kind == EventKind::RuntimeTerminal).count(), 1);
    }

    /// Any batches at all: what is refused leaves no trace, outside numbers grow, one terminal at most and it is last.
    #[test]
    fn nothing_breaks_the_log(inputs in prop::collection::vec((0..12_u64, 1..4_u64, 0..9_usize, 0..8_u8), 1..60)) {
        let mut log = Log::open();
        for (seq, count, kind, what) in inputs {
            let before = log.text();
            let refused = match what {
                0 => log.feed(Input::Observed(&Observation::of(Status::ALL[kind % 6]))).is_err(),
                1 => { log.tick(kind as u64 * 700); false }
                2 => log.feed(Input::Stop(StopCause::User)).is_err(),
                _ => {
                    let kinds = [kind, 1, 0, 8, 2];
                    let events: Vec<Value> = (0..count)
                        .map(|n| event(seq + n, EventKind::ALL[kinds[n as usize]].as_str(), json!({ "n": what })))
                        .collect();
                    let first = read(&events, &Redactor::default());
                    let taken = log.feed(Input::Batch(&first));
                    if taken.is_ok() {
                        prop_assert_eq!(log.feed(Input::Batch(&first)), Ok(Verdict::Duplicate));
                    }
                    taken.is_err()
                }
            };
            prop_assert!(!refused || log.text() == before);
            let outside: Vec<f64> = log.records.iter().filter_map(|record| record.data.get("outside")?.get("seq")?.as_f64()).collect();
            prop_assert!(outside.is_sorted_by(|a, b| a < b));
            let terminal = log.records.iter().position(|record| record.kind == EventKind::RuntimeTerminal);
            prop_assert!(terminal.is_none_or(|at| at + 1 == log.records.len()));
        }
    }
}
