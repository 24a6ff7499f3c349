//! Calls of a guest without I/O: starting one, an import from its inner loop, and what the host does to each event.

use std::time::Instant;

use anyhow::{Context as _, Result};
use midplane_core::limits::Limits;
use midplane_core::redact::{Redactor, Secrets};
use midplane_engine::{Engine, Plugin};
use serde_json::json;

use crate::bare::Bare;
use crate::child::TEXT;
use crate::reach::{GUEST, agent_task, first_party, plugin, ports};
use crate::table::{Row, Samples, Unit};
use crate::{Effort, interleave};

/// Instantiate, first call, drop.
pub(crate) async fn start(effort: Effort) -> Result<Vec<Row>> {
    let limits = Limits::default();
    let engine = Engine::new(&limits)?;
    let mut rows = Vec::new();
    let adapter = first_party().find(|(name, _)| *name == "anthropic").context("no plugin `anthropic`")?;
    for (name, component) in [("smallest guest", GUEST.component), adapter] {
        let (ours, bare) = (plugin(&engine, component)?, Bare::new(component)?);
        let (ours, bare) = interleave(
            effort.of(100, 4),
            async || {
                time(effort.of(50, 10), async || {
                    ours.capabilities(ports(&limits), &limits).await.map_err(|fault| fault.error())?;
                    Ok(())
                })
                .await
            },
            async || time(effort.of(50, 10), async || bare.capabilities().await).await,
        )
        .await?;
        let row = Row::new(
            format!("start a run: instantiate, first call, drop ({name})"),
            Unit::Time,
            ours,
            "bare wasmtime",
            bare,
        );
        rows.push(row.bar("< 50 µs p50, ≤ 1.3 ×", |ours, ratio| ours.median() < 50e-6 && ratio <= 1.3));
    }
    Ok(rows)
}

/// An import that does no I/O, from a loop in the guest.
pub(crate) async fn import(effort: Effort) -> Result<Vec<Row>> {
    let limits = Limits::default();
    let (ours, bare) = (plugin(&Engine::new(&limits)?, GUEST.component)?, Bare::new(GUEST.component)?);
    let count = effort.of(100_000, 2_000);
    let mut rows = Vec::new();
    for (name, verb) in [("control.cancelled", "calls"), ("config.get", "gets")] {
        let goal = format!("{verb} {count}");
        // One sample is a whole loop; starting the instance is less than a thousandth of it.
        let each = |samples: Samples| Samples(samples.0.into_iter().map(|whole| whole / count as f64).collect());
        let (ours, bare) = interleave(
            effort.of(60, 3),
            async || Ok(each(time(1, async || run(&ours, &limits, &goal).await).await?)),
            async || Ok(each(time(1, async || bare.run(&goal, None).await).await?)),
        )
        .await?;
        let row = Row::new(format!("host import without I/O ({name})"), Unit::Time, ours, "bare wasmtime", bare);
        rows.push(row.bar("< 300 ns", |ours, _| ours.median() < 300e-9));
    }
    Ok(rows)
}

/// Redaction of one event of 200 bytes that has no secret in it.
pub(crate) async fn redact(effort: Effort) -> Result<Vec<Row>> {
    let secrets = (0..4).map(|n| (format!("KEY_{n}"), format!("sk-{n}-0123456789abcdefghijklmnopqrstuvwxyz-{n}")));
    let (with, without) = (Redactor::new(Secrets::new(secrets)?), Redactor::default());
    let event = json!({ "text": TEXT });
    let count = effort.of(20_000, 1_000);
    let each = async |redactor: &Redactor| {
        let mut value = event.clone();
        let begin = Instant::now();
        for _ in 0..count {
            redactor.json(std::hint::black_box(&mut value));
        }
        Ok(Samples(vec![begin.elapsed().as_secs_f64() / count as f64]))
    };
    let (ours, baseline) =
        interleave(effort.of(60, 3), async || each(&with).await, async || each(&without).await).await?;
    Ok(vec![Row::new("redact an event of 200 bytes (4 secrets)", Unit::Time, ours, "no secrets", baseline)])
}

async fn run(plugin: &Plugin, limits: &Limits, goal: &str) -> Result<()> {
    let returned = plugin.clone().run(ports(limits), limits.clone(), agent_task(goal)).await;
    returned.map_err(|fault| fault.error())??;
    Ok(())
}

/// The time of each of some calls.
async fn time(count: usize, mut call: impl AsyncFnMut() -> Result<()>) -> Result<Samples> {
    let mut samples = Samples::default();
    for _ in 0..count {
        let begin = Instant::now();
        call().await?;
        samples.0.push(begin.elapsed().as_secs_f64());
    }
    Ok(samples)
}
