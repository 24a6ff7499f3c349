//! The contract of [`EventLog`] as tests. An implementation passes [`event_log`]; a failure panics and says which case.
//!
//! Nothing here knows an implementation, asserts a time, or relies on one: a case that would hang is a failure by the
//! test's own time limit.

use std::sync::Arc;

use midplane_core::event::{Event, EventKind, Record};
use midplane_core::{ProfileName, RunId};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::log::{Append, EventLog, READ_RECORDS_MAX, RunIndex, RunQuery, Tail};

/// Runs all cases, each on a log of its own that `make` gives empty. Needs a runtime with several threads.
pub async fn event_log(make: impl Fn() -> Arc<dyn EventLog>) {
    append_and_read(make()).await;
    refusals(make()).await;
    atomicity(make()).await;
    times(make()).await;
    tails(make()).await;
    slow_reader(make()).await;
    one_winner(make()).await;
    many_runs(make()).await;
    listing(make()).await;
    owners(make()).await;
    removal(make()).await;
    large(make()).await;
}

/// A run id that sorts by `number`.
///
/// # Panics
/// Never: a ULID always has the form of a run id.
#[must_use]
pub fn run_id(number: u64) -> RunId {
    RunId::from_parts(1_700_000_000_000 + number, u128::from(number))
}

/// A row for tests.
///
/// # Panics
/// Never: the name is a profile's.
#[must_use]
pub fn index(status: &str) -> RunIndex {
    RunIndex {
        profile: ProfileName::new("p").expect("a name"),
        task_id: "task".to_owned(),
        status: status.to_owned(),
        finish_reason: None,
        created_ms: 1,
        updated_ms: 2,
        owner: None,
        summary: json!({}),
    }
}

/// `count` events; the data of each says which it is.
#[must_use]
pub fn events(first: u64, count: u64) -> Vec<Event> {
    (first..first + count)
        .map(|n| Event::new(EventKind::AssistantText, json!({ "text": format!("event {n}"), "n": n })))
        .collect()
}

/// An append of `count` events after `expected_seq`, each carrying its own sequence number as `n`; with a row if it is
/// the first.
#[must_use]
pub fn append(run: u64, expected_seq: u64, count: u64) -> Append {
    Append {
        run_id: run_id(run),
        expected_seq,
        t_ms: 1_000,
        events: events(expected_seq + 1, count),
        index: (expected_seq == 0).then(|| index("running")),
    }
}

/// Reads a whole run, page by page.
///
/// # Panics
/// If reading fails.
pub async fn read_all(log: &dyn EventLog, run_id: &RunId) -> Vec<Record> {
    let mut all: Vec<Record> = Vec::new();
    loop {
        let page = log.read(run_id, all.len() as u64 + 1, 0).await.expect("read");
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

/// Takes from a tail until `count` records came, and checks that they follow each other.
///
/// # Panics
/// If they do not, or the tail fails.
pub async fn take(tail: &mut Tail, count: usize) -> Vec<Record> {
    let (mut taken, first) = (Vec::new(), tail.next_seq());
    while taken.len() < count {
        let page = tail.next().await.expect("tail");
        assert!(!page.is_empty(), "a tail gives at least one record");
        taken.extend(page);
    }
    assert_eq!(taken.len(), count, "a tail gives no more than there is");
    assert_contiguous(&taken, first);
    taken
}

/// Checks that records follow each other from `first` on, and that each is the one that was appended there.
fn assert_contiguous(records: &[Record], first: u64) {
    for (seq, record) in (first..).zip(records) {
        assert_eq!(record.seq, seq, "sequence numbers have no gap");
        if let Some(n) = record.data.get("n") {
            assert_eq!(*n, json!(seq), "record {seq} is the one appended there");
        }
    }
}

fn code<T: std::fmt::Debug>(result: midplane_core::Result<T>) -> String {
    result.expect_err("a refusal").code.into_owned()
}

async fn append_and_read(log: Arc<dyn EventLog>) {
    let data = json!({ "text": "ä\u{0}\n\"\u{1f600}", "cost": 0.1 + 0.2, "tiny": 5e-324, "big": u64::MAX, "neg": i64::MIN, "null": null, "deep": [[{}]] });
    let mut first = append(1, 0, 3);
    first.events.push(Event::new(EventKind::Notification, data));
    let sent = first.events.clone();
    let returned = log.append(first).await.expect("append");
    let read = log.read(&run_id(1), 1, 0).await.expect("read");
    assert_eq!(returned.as_ref(), read, "what append gives is what is read");
    let stored: Vec<Event> = read.iter().map(|r| Event { kind: r.kind, data: r.data.clone() }).collect();
    assert_eq!(stored, sent, "what is read is what was appended");
    assert_eq!(
        read.iter().map(|r| (r.seq, r.t_ms)).collect::<Vec<_>>(),
        [(1, 1_000), (2, 1_000), (3, 1_000), (4, 1_000)]
    );
    let seqs = async |from, limit| {
        log.read(&run_id(1), from, limit).await.expect("read").iter().map(|r| r.seq).collect::<Vec<_>>()
    };
    assert_eq!(seqs(2, 2).await, [2, 3]);
    assert_eq!(seqs(0, 1).await, [1]);
    assert_eq!(seqs(5, 9).await, [0; 0]);
    assert!(log.read(&run_id(2), 1, 9).await.expect("read").is_empty(), "an unknown run is empty");
    for kind in EventKind::ALL {
        let last = log.run(&run_id(1)).await.expect("run").expect("row").last_seq;
        let one = Append { events: vec![Event::new(kind, json!({}))], ..append(1, last, 0) };
        assert_eq!(log.append(one).await.expect("append").first().map(|r| r.kind), Some(kind));
    }
    assert_contiguous(&read_all(log.as_ref(), &run_id(1)).await, 1);
}

async fn refusals(log: Arc<dyn EventLog>) {
    assert_eq!(code(log.append(append(1, 0, 0)).await), "append-empty");
    assert_eq!(code(log.append(append(1, 3, 1)).await), "log-seq");
    assert_eq!(code(log.append(Append { index: None, ..append(1, 0, 1) }).await), "index-missing");
    assert!(log.run(&run_id(1)).await.expect("run").is_none(), "a refused append makes no run");
    log.append(append(1, 0, 2)).await.expect("append");
    for expected in [0, 1, 3] {
        let wrong = Append { index: Some(index("changed")), ..append(1, expected, 2) };
        let error = log.append(wrong).await.expect_err("a refusal");
        assert_eq!((error.code.as_ref(), error.kind), ("log-seq", midplane_core::ErrorKind::Conflict));
        let both = format!("run `{}` is at seq 2, and the append expected {expected}", run_id(1));
        assert_eq!(error.message, both);
    }
    let row = log.run(&run_id(1)).await.expect("run").expect("row");
    assert_eq!((row.last_seq, row.index.status.as_str()), (2, "running"), "a refused append changes nothing");
}

async fn atomicity(log: Arc<dyn EventLog>) {
    const BATCH: u64 = 7;
    const BATCHES: u64 = 60;
    let writer = tokio::spawn({
        let log = Arc::clone(&log);
        async move {
            for n in 0..BATCHES {
                let row = Some(index(&format!("{}", (n + 1) * BATCH)));
                log.append(Append { index: row, ..append(1, n * BATCH, BATCH) }).await.expect("append");
            }
        }
    });
    let mut seen = 0;
    while seen < BATCH * BATCHES {
        // The row first: it may be older than what is read after it, never newer.
        let row = log.run(&run_id(1)).await.expect("run");
        seen = log.read(&run_id(1), 1, READ_RECORDS_MAX).await.expect("read").len() as u64;
        assert_eq!(seen % BATCH, 0, "no part of a batch is ever seen");
        if let Some(row) = row {
            assert_eq!(row.index.status, row.last_seq.to_string(), "a row and its records change together");
            assert!(row.last_seq <= seen, "what was seen stays");
        }
    }
    writer.await.expect("writer");
}

async fn times(log: Arc<dyn EventLog>) {
    for (n, t_ms) in [50, 40, 60, 0].into_iter().enumerate() {
        log.append(Append { t_ms, ..append(1, n as u64, 1) }).await.expect("append");
    }
    let times: Vec<u64> = read_all(log.as_ref(), &run_id(1)).await.iter().map(|r| r.t_ms).collect();
    assert_eq!(times, [50, 50, 60, 60], "time never goes back in a log");
}

async fn tails(log: Arc<dyn EventLog>) {
    let mut early = log.tail(&run_id(1), 1);
    let early = tokio::spawn(async move { take(&mut early, 30).await });
    // The other run's records are not this one's.
    log.append(append(2, 0, 5)).await.expect("append");
    log.append(append(1, 0, 10)).await.expect("append");
    let mut late = log.tail(&run_id(1), 4);
    assert_eq!(take(&mut late, 7).await.first().map(|r| r.seq), Some(4), "a tail begins where it was told");
    let late = tokio::spawn(async move { take(&mut late, 20).await });
    for n in 0..20 {
        log.append(append(1, 10 + n, 1)).await.expect("append");
    }
    assert_eq!(early.await.expect("early"), read_all(log.as_ref(), &run_id(1)).await);
    assert_eq!(late.await.expect("late").last().map(|r| r.seq), Some(30));
    // A call that is dropped while it waits has taken nothing.
    let mut tail = log.tail(&run_id(1), 31);
    tokio::select! {
        biased;
        page = tail.next() => panic!("there is nothing yet: {page:?}"),
        () = tokio::task::yield_now() => {}
    }
    log.append(append(1, 30, 2)).await.expect("append");
    take(&mut tail, 2).await;
}

async fn slow_reader(log: Arc<dyn EventLog>) {
    let mut tail = log.tail(&run_id(1), 1);
    log.append(append(1, 0, 1)).await.expect("append");
    take(&mut tail, 1).await;
    // Far more than any channel would hold; the writer must not mind, and the reader must miss nothing.
    for n in 0..50 {
        log.append(append(1, 1 + n * 100, 100)).await.expect("append");
    }
    take(&mut tail, 5_000).await;
}

async fn one_winner(log: Arc<dyn EventLog>) {
    log.append(append(1, 0, 1)).await.expect("append");
    for seq in 1..=20 {
        let mut race = JoinSet::new();
        for racer in 0..8 {
            let log = Arc::clone(&log);
            let event = Event::new(EventKind::Notification, json!({ "type": "race", "racer": racer }));
            race.spawn(async move { (racer, log.append(Append { events: vec![event], ..append(1, seq, 0) }).await) });
        }
        let mut winners = Vec::new();
        for (racer, outcome) in race.join_all().await {
            match outcome {
                Ok(records) => winners.push((racer, records)),
                Err(error) => assert_eq!(error.code, "log-seq", "a loser is told why"),
            }
        }
        assert_eq!(winners.len(), 1, "exactly one append takes a place");
        let stored = log.read(&run_id(1), seq + 1, 9).await.expect("read");
        assert_eq!(stored.len(), 1);
        for (racer, records) in winners {
            assert_eq!(records.as_ref(), stored);
            assert_eq!(
                stored.first().and_then(|r| r.data.get("racer")),
                Some(&json!(racer)),
                "the winner's event is there"
            );
        }
    }
}

async fn many_runs(log: Arc<dyn EventLog>) {
    const RUNS: u64 = 40;
    let mut writers = JoinSet::new();
    for run in 0..RUNS {
        let log = Arc::clone(&log);
        writers.spawn(async move {
            for n in 0..15 {
                log.append(append(run, n * 3, 3)).await.expect("append");
            }
        });
    }
    writers.join_all().await;
    for run in 0..RUNS {
        let records = read_all(log.as_ref(), &run_id(run)).await;
        assert_eq!(records.len(), 45);
        assert_contiguous(&records, 1);
    }
    assert_eq!(log.runs(RunQuery::default()).await.expect("runs").len() as u64, RUNS);
}

async fn listing(log: Arc<dyn EventLog>) {
    let row = |run: u64| RunIndex {
        profile: ProfileName::new(if run.is_multiple_of(2) { "even" } else { "odd" }).expect("a name"),
        status: if run < 4 { "failed" } else { "running" }.to_owned(),
        finish_reason: (run < 4).then(|| "failed".to_owned()),
        owner: Some(format!("process-{}", run % 3)),
        summary: json!({ "run": run }),
        ..index("")
    };
    for run in [3, 1, 2, 6, 5, 4] {
        log.append(Append { index: Some(row(run)), ..append(run, 0, run) }).await.expect("append");
    }
    let list = async |query: RunQuery| -> Vec<u64> {
        let rows = log.runs(query).await.expect("runs");
        rows.iter().map(|row| row.index.summary.get("run").and_then(Value::as_u64).unwrap_or(0)).collect()
    };
    let even = Some(ProfileName::new("even").expect("a name"));
    assert_eq!(list(RunQuery::default()).await, [6, 5, 4, 3, 2, 1], "newest first");
    assert_eq!(list(RunQuery { limit: 2, ..RunQuery::default() }).await, [6, 5]);
    assert_eq!(list(RunQuery { before: Some(run_id(5)), limit: 2, ..RunQuery::default() }).await, [4, 3]);
    assert_eq!(list(RunQuery { profile: even.clone(), ..RunQuery::default() }).await, [6, 4, 2]);
    assert_eq!(list(RunQuery { status: Some("failed".to_owned()), ..RunQuery::default() }).await, [3, 2, 1]);
    assert_eq!(list(RunQuery { owner: Some("process-0".to_owned()), ..RunQuery::default() }).await, [6, 3]);
    assert_eq!(list(RunQuery { unfinished: true, ..RunQuery::default() }).await, [6, 5, 4]);
    assert_eq!(
        list(RunQuery { unfinished: true, profile: even, before: Some(run_id(6)), ..RunQuery::default() }).await,
        [4]
    );
    let found = log.run(&run_id(5)).await.expect("run").expect("row");
    assert_eq!((found.run_id, found.index, found.last_seq), (run_id(5), row(5), 5));
    assert_eq!(found.format_version, midplane_core::event::FORMAT_VERSION);
    assert!(log.run(&run_id(9)).await.expect("run").is_none());
    // A later append changes the row if it has one, and leaves it otherwise.
    log.append(append(5, 5, 1)).await.expect("append");
    assert_eq!(log.run(&run_id(5)).await.expect("run").map(|row| (row.index, row.last_seq)), Some((row(5), 6)));
    let ended = RunIndex { finish_reason: Some("done".to_owned()), ..row(5) };
    log.append(Append { index: Some(ended.clone()), ..append(5, 6, 1) }).await.expect("append");
    assert_eq!(log.run(&run_id(5)).await.expect("run").map(|row| row.index), Some(ended));
    assert_eq!(list(RunQuery { unfinished: true, ..RunQuery::default() }).await, [6, 4]);
}

async fn owners(log: Arc<dyn EventLog>) {
    let owned = |owner: Option<&str>| Some(RunIndex { owner: owner.map(str::to_owned), ..index("running") });
    let owner = async || log.run(&run_id(1)).await.expect("run").expect("row").index.owner;
    assert!(!log.claim(&run_id(1), None, "a").await.expect("claim"), "there is no run to claim");
    log.append(append(1, 0, 1)).await.expect("append");
    assert!(!log.claim(&run_id(1), Some("x"), "a").await.expect("claim"));
    assert!(log.claim(&run_id(1), None, "a").await.expect("claim"));
    assert!(!log.claim(&run_id(1), None, "b").await.expect("claim"));
    assert_eq!(owner().await.as_deref(), Some("a"));
    log.append(Append { index: owned(Some("a")), ..append(1, 1, 1) }).await.expect("the owner appends");
    assert!(log.claim(&run_id(1), Some("a"), "b").await.expect("claim"));
    assert_eq!(
        code(log.append(Append { index: owned(Some("a")), ..append(1, 2, 1) }).await),
        "run-owner",
        "a run that was lost stays lost"
    );
    log.append(Append { index: owned(None), ..append(1, 2, 1) }).await.expect("a row without owner lets go");
    assert_eq!(owner().await, None);
    log.append(Append { index: owned(Some("c")), ..append(1, 3, 1) }).await.expect("who is first takes it");
    assert_eq!(owner().await.as_deref(), Some("c"));
    // Of many claims exactly one holds.
    let mut race = JoinSet::new();
    for racer in 0..8 {
        let log = Arc::clone(&log);
        race.spawn(async move { log.claim(&run_id(1), Some("c"), &format!("racer-{racer}")).await.expect("claim") });
    }
    assert_eq!(race.join_all().await.into_iter().filter(|won| *won).count(), 1);
}

async fn removal(log: Arc<dyn EventLog>) {
    log.append(append(1, 0, 3)).await.expect("append");
    log.append(append(2, 0, 3)).await.expect("append");
    let mut tail = log.tail(&run_id(1), 1);
    take(&mut tail, 3).await;
    assert!(log.remove_run(&run_id(1)).await.expect("remove"));
    assert!(!log.remove_run(&run_id(1)).await.expect("remove"), "it is gone already");
    assert_eq!(code(tail.next().await), "run-removed");
    assert!(log.read(&run_id(1), 1, 9).await.expect("read").is_empty());
    assert!(log.run(&run_id(1)).await.expect("run").is_none());
    assert_eq!(code(log.append(append(1, 3, 1)).await), "log-seq", "nobody can write on");
    assert_eq!(read_all(log.as_ref(), &run_id(2)).await.len(), 3, "the other run is as it was");
    // More than one piece of a removal in pieces.
    log.append(append(3, 0, 5_000)).await.expect("append");
    assert!(log.remove_run(&run_id(3)).await.expect("remove"));
    log.append(append(4, 0, 1)).await.expect("append");
    assert_eq!(read_all(log.as_ref(), &run_id(4)).await.len(), 1, "a new run has none of an old one's records");
}

async fn large(log: Arc<dyn EventLog>) {
    log.append(append(1, 0, 10_000)).await.expect("append");
    let records = read_all(log.as_ref(), &run_id(1)).await;
    assert_eq!(records.len(), 10_000);
    assert_contiguous(&records, 1);
    assert_eq!(log.read(&run_id(1), 1, usize::MAX).await.expect("read").len(), READ_RECORDS_MAX, "a read is bounded");
    // 40 events of 256 KiB: bounded by their bytes, and all there in the end.
    let text = "x".repeat(256 * 1024);
    let big = (0..40).map(|_| Event::new(EventKind::AssistantText, json!({ "text": text }))).collect();
    log.append(Append { events: big, ..append(2, 0, 0) }).await.expect("append");
    let page = log.read(&run_id(2), 1, 40).await.expect("read").len();
    assert!((1..40).contains(&page), "a read of {page} large records is not bounded");
    let mut tail = log.tail(&run_id(2), 1);
    take(&mut tail, 40).await;
}
