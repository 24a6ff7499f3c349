//! Events from a guest through validation and redaction into the durable log, and the log's other writers beside it.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use midplane::RunQuery;
use midplane::core::{ProfileName, RunId};
use midplane_core::event::{Event, EventKind};
use midplane_store::{Append, EventLog, RunIndex, Store};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::child::{Child, TEXT};
use crate::reach::{Home, folder};
use crate::table::{Row, Samples, Unit};
use crate::{Effort, interleave};

/// Events a second, from one run and from four at once, in batches of two sizes.
pub(crate) async fn rows(effort: Effort) -> Result<Vec<Row>> {
    let count = effort.of(200_000, 2_000);
    let home = Home::open(&[]).await?;
    let folder = folder()?;
    let store = Store::open(folder.path())?;
    let rate = |begin: Instant| Samples(vec![count as f64 / begin.elapsed().as_secs_f64()]);
    let mut rows = Vec::new();
    for (writers, batch) in [(1, 32), (1, 256), (4, 32), (4, 256)] {
        let measure = format!("events to the durable log ({writers} at once, batches of {batch})");
        let ours = async || {
            let begin = Instant::now();
            let runs = from_guests(&home, count, writers, batch).await?;
            let rate = rate(begin);
            check(&home, &runs, count / writers).await?;
            Ok(rate)
        };
        let alone = async || {
            let begin = Instant::now();
            from_nobody(&store, count, writers, batch).await?;
            Ok(rate(begin))
        };
        let (guests, nobody) = interleave(effort.of(3, 1), ours, alone).await?;
        let enough = |ours: &Samples, _| ours.median() >= 100e3;
        rows.push(Row::new(&measure, Unit::Rate, guests, "the log alone", nobody).bar("≥ 100 k/s", enough));
        let piped = async || {
            let begin = Instant::now();
            from_children(&store, count, writers, batch).await?;
            Ok(rate(begin))
        };
        let (guests, children) = interleave(effort.of(3, 1), ours, piped).await?;
        rows.push(Row::new(measure, Unit::Rate, guests, "child, JSON lines", children).bar("≥ 100 k/s", enough));
    }
    Ok(rows)
}

/// Ours: whole runs, from admission to the durable terminal. Gives their ids.
async fn from_guests(home: &Home, count: usize, writers: usize, batch: usize) -> Result<Vec<RunId>> {
    let (mut runs, mut ended) = (Vec::new(), Vec::new());
    for _ in 0..writers {
        runs.push(home.start(&format!("emit {} {batch}", count / writers)).await?);
    }
    for mut run in runs {
        let outcome = run.outcome().await?;
        ensure!(outcome.error.is_none(), "the guest failed: {:?}", outcome.error);
        ended.push(run.id().clone());
    }
    Ok(ended)
}

/// A log that lost some would be fast.
async fn check(home: &Home, run_ids: &[RunId], each: usize) -> Result<()> {
    let rows = home.host.runs(RunQuery::default()).await?;
    for row in rows.iter().filter(|row| run_ids.contains(&row.run_id)) {
        ensure!(
            row.last_seq > each as u64,
            "run `{}` has {} records, and {each} events were emitted",
            row.run_id,
            row.last_seq
        );
    }
    Ok(())
}

/// The log alone: the same events, neither validated nor redacted, from tasks of this process.
async fn from_nobody(store: &Store, count: usize, writers: usize, batch: usize) -> Result<()> {
    let mut tasks = JoinSet::new();
    for _ in 0..writers {
        let mut writer = Writer::new(store.log.clone())?;
        tasks.spawn(async move {
            let mut left = count / writers;
            while left > 0 {
                let now = left.min(batch);
                writer
                    .append((0..now).map(|_| Event::new(EventKind::AssistantText, json!({ "text": TEXT }))).collect())
                    .await?;
                left -= now;
            }
            anyhow::Ok(())
        });
    }
    all(tasks).await
}

/// Children that write lines, and wait after each batch until it is durable: the same promise, without validation.
async fn from_children(store: &Store, count: usize, writers: usize, batch: usize) -> Result<()> {
    let mut tasks = JoinSet::new();
    for _ in 0..writers {
        let mut writer = Writer::new(store.log.clone())?;
        tasks.spawn(async move {
            let mut left = count / writers;
            let mut child = Child::start(&["emit", &left.to_string(), &batch.to_string()])?;
            while left > 0 {
                let mut events = Vec::with_capacity(batch);
                for _ in 0..left.min(batch) {
                    let Some((kind, data)) = child.next().await? else { anyhow::bail!("the child ended early") };
                    ensure!(kind == EventKind::AssistantText.as_str(), "the child said `{kind}`");
                    events.push(Event::new(EventKind::AssistantText, data));
                }
                left -= events.len();
                writer.append(events).await?;
                child.say("ok").await?;
            }
            child.ended().await
        });
    }
    all(tasks).await
}

/// Waits for all tasks; the first failure is the answer.
pub(crate) async fn all(mut tasks: JoinSet<Result<()>>) -> Result<()> {
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// Appends to a run of its own, as a host without Midplane would.
pub(crate) struct Writer {
    log: Arc<dyn EventLog>,
    run_id: RunId,
    seq: u64,
}

impl Writer {
    /// A new run in a log.
    pub(crate) fn new(log: Arc<dyn EventLog>) -> Result<Self> {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(Self { log, run_id: RunId::from_parts(now_ms(), next.into()), seq: 0 })
    }

    /// Appends a batch; durable when it returns.
    pub(crate) async fn append(&mut self, events: Vec<Event>) -> Result<()> {
        let t_ms = now_ms();
        let count = events.len() as u64;
        let profile = ProfileName::new("bench")?;
        let index = (self.seq == 0).then(|| RunIndex {
            profile,
            task_id: "task".to_owned(),
            status: "running".to_owned(),
            finish_reason: None,
            created_ms: t_ms,
            updated_ms: t_ms,
            owner: None,
            summary: Value::Null,
        });
        self.log.append(Append { run_id: self.run_id.clone(), expected_seq: self.seq, t_ms, events, index }).await?;
        self.seq += count;
        Ok(())
    }
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
