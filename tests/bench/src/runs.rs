//! Whole runs through the host: how many a second, and how soon one ends that is cancelled.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use midplane_core::event::{Event, EventKind};
use midplane_store::Store;
use serde_json::json;
use tokio::task::JoinSet;

use crate::child::Child;
use crate::events::{Writer, all};
use crate::reach::{Home, folder};
use crate::table::{Row, Samples, Unit};
use crate::{Effort, interleave};

/// Runs a second, each with its record of creation and its terminal on disk.
pub(crate) async fn rate(effort: Effort) -> Result<Vec<Row>> {
    let home = Home::open(&[]).await?;
    let folder = folder()?;
    let store = Store::open(folder.path())?;
    let mut rows = Vec::new();
    for at_once in [1, 8] {
        let count = effort.of(100, 4) * at_once;
        let rate = |begin: Instant| Samples(vec![count as f64 / begin.elapsed().as_secs_f64()]);
        let ours = async || {
            let begin = Instant::now();
            let mut tasks = JoinSet::new();
            for _ in 0..at_once {
                let home = home.clone();
                tasks.spawn(async move {
                    for _ in 0..count / at_once {
                        home.start("noop").await?.outcome().await?;
                    }
                    Ok(())
                });
            }
            all(tasks).await?;
            Ok(rate(begin))
        };
        let children = async || {
            let begin = Instant::now();
            let mut tasks = JoinSet::new();
            for _ in 0..at_once {
                let store = store.clone();
                tasks.spawn(async move {
                    for _ in 0..count / at_once {
                        run_child(&store).await?;
                    }
                    Ok(())
                });
            }
            all(tasks).await?;
            Ok(rate(begin))
        };
        let (ours, children) = interleave(effort.of(5, 1), ours, children).await?;
        rows.push(Row::new(
            format!("whole runs, durable ({at_once} at once)"),
            Unit::Rate,
            ours,
            "child, JSON lines",
            children,
        ));
    }
    Ok(rows)
}

/// The least that a host of child processes keeps of a task: that it was taken, and how it ended.
async fn run_child(store: &Store) -> Result<()> {
    let mut writer = Writer::new(store.log.clone())?;
    writer.append(vec![Event::notification("created", json!({ "goal": "noop" }))]).await?;
    let mut child = Child::start(&["task"])?;
    child.say(r#"{"goal":"noop"}"#).await?;
    while let Some((kind, data)) = child.next().await? {
        if kind == "outcome" {
            writer.append(vec![Event::new(EventKind::RuntimeTerminal, data)]).await?;
        }
    }
    child.ended().await
}

/// Between cancel and the end of the instance, in these measures.
const GRACE: Duration = Duration::from_millis(50);

/// From cancel to the durable terminal, for guests that do what they can to stay.
pub(crate) async fn cancel(effort: Effort) -> Result<Vec<Row>> {
    let home = Home::open(&[("grace_ms", u64::try_from(GRACE.as_millis())?)]).await?;
    let folder = folder()?;
    let store = Store::open(folder.path())?;
    let mut rows = Vec::new();
    // Eight that spin want all processors four times over, and take turns at the epoch's ticks.
    for (verb, name, at_once) in [
        ("spin", "a spinning guest", 1),
        ("spin", "8 spinning guests", 8),
        ("sleep", "a sleeping guest", 1),
        ("wait", "a waiting guest", 1),
        ("trap", "a guest that traps on cancel", 1),
    ] {
        let ours = async || {
            let mut tasks = JoinSet::new();
            let mut running = Vec::new();
            for _ in 0..at_once {
                running.push(started(&home, verb).await?);
            }
            for mut run in running {
                let home = home.clone();
                tasks.spawn(async move {
                    let begin = Instant::now();
                    home.host.cancel(run.id()).await?;
                    run.outcome().await?;
                    anyhow::Ok(begin.elapsed().as_secs_f64())
                });
            }
            gather(tasks).await
        };
        let children = async || {
            let mut tasks = JoinSet::new();
            for _ in 0..at_once {
                let mut writer = Writer::new(store.log.clone())?;
                let mut child = Child::start(&[verb])?;
                child.next().await?.context("the child did not start")?;
                tasks.spawn(async move {
                    let begin = Instant::now();
                    child.say("cancel").await?;
                    if tokio::time::timeout(GRACE, child.ended()).await.is_err() {
                        child.kill().await?;
                    }
                    writer
                        .append(vec![Event::new(EventKind::RuntimeTerminal, json!({ "finish_reason": "interrupted" }))])
                        .await?;
                    anyhow::Ok(begin.elapsed().as_secs_f64())
                });
            }
            gather(tasks).await
        };
        let rounds = effort.of(96, 2) / at_once;
        let (ours, children) = interleave(rounds.max(1), ours, children).await?;
        let row = Row::new(format!("cancel {name}, grace 50 ms"), Unit::Time, ours, "child, killed", children);
        let bar = GRACE + Duration::from_millis(50);
        rows.push(row.bar("< grace + 50 ms p99", |ours, _| ours.percentile(99.0) < bar.as_secs_f64()));
    }
    Ok(rows)
}

/// A run whose guest has said that it is there.
pub(crate) async fn started(home: &Home, verb: &str) -> Result<midplane::Run> {
    let run = home.start(verb).await?;
    let mut events = home.host.subscribe(run.id(), 1).await?;
    while let Some(records) = events.next().await? {
        if records.iter().any(|record| record.kind == EventKind::RuntimeStarted) {
            return Ok(run);
        }
    }
    anyhow::bail!("the run ended before its guest started")
}

async fn gather(mut tasks: JoinSet<Result<f64>>) -> Result<Samples> {
    let mut samples = Samples::default();
    while let Some(sample) = tasks.join_next().await {
        samples.0.push(sample??);
    }
    Ok(samples)
}
