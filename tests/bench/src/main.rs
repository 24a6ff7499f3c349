//! Measures what DESIGN.md section 10 sets bars for, each beside its baseline, and prints one table.
//!
//! ```text
//! cargo run -p midplane-bench                    all of it, some minutes
//! cargo run -p midplane-bench -- start cancel    these groups
//! cargo run -p midplane-bench -- --quick         each measure once or twice: whether it works, not how fast it is
//! ```
//!
//! # Layout
//! - `calls`, `batch`, `events`, `runs`, `command`, `memory`: the measures, by what they go through
//! - `batch.js` beside this folder: the baseline of batches
//! - `bare`: the same component in bare wasmtime; `child`: a child process that speaks JSON lines
//! - `reach`: the measured guest (`tests/guests/bench`), hosts, ports that lead nowhere
//! - `table`: rows, percentiles, bars
//!
//! # Invariants
//! A measure and its baseline take turns in one process (or, where memory or a start is measured, in processes that take
//! turns), so that what else the machine does befalls both. Every figure is the median of its samples.
//!
//! # What it never does
//! Fail for a figure: a bar that is not met is a word in the table. It keeps nothing on the disk.

#![forbid(unsafe_code)]

mod bare;
mod batch;
mod calls;
mod child;
mod command;
mod events;
mod memory;
mod reach;
mod runs;
mod table;

use std::io::{Seek as _, Write as _};
use std::time::Instant;

use anyhow::{Result, bail};

use crate::table::{Row, Samples};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    quick: bool,
}

impl Effort {
    /// One of two numbers of repetitions.
    fn of(self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }
}

/// The groups of measures, in the order of the table.
const GROUPS: [&str; 9] = ["start", "import", "redact", "batch", "events", "runs", "cancel", "command", "memory"];

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    // A child of the baselines has no runtime, as a small program in any language has none.
    if let ["child", verb @ ..] = &words[..] {
        return child::main(verb);
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measure(&words))
}

async fn measure(words: &[&str]) -> Result<()> {
    if let ["memory", side, count] = words[..] {
        println!("{}", memory::main(side, count.parse()?).await?);
        return Ok(());
    }
    let quick = words.contains(&"--quick");
    let names: Vec<&str> = words.iter().copied().filter(|word| *word != "--quick").collect();
    if let Some(unknown) = names.iter().find(|name| !GROUPS.contains(name)) {
        bail!("there is no group `{unknown}`; there are: {}", GROUPS.join(", "));
    }
    let mut rows = Vec::new();
    for group in GROUPS.into_iter().filter(|group| names.is_empty() || names.contains(group)) {
        let begin = Instant::now();
        rows.extend(rows_of(group, Effort { quick }).await?);
        eprintln!("{group}: {:.1} s", begin.elapsed().as_secs_f64());
    }
    println!("{}\n\n{}", machine()?, table::render(&rows));
    Ok(())
}

async fn rows_of(group: &str, effort: Effort) -> Result<Vec<Row>> {
    match group {
        "start" => calls::start(effort).await,
        "import" => calls::import(effort).await,
        "redact" => calls::redact(effort).await,
        "batch" => batch::rows(effort).await,
        "events" => events::rows(effort).await,
        "runs" => runs::rate(effort).await,
        "cancel" => runs::cancel(effort).await,
        "memory" => memory::rows(effort),
        _ => {
            let mut rows = command::first_event(effort).await?;
            rows.extend(command::compile(effort).await?);
            Ok(rows)
        }
    }
}

/// Both sides in turns, ours first, after one round that warms both and counts for neither.
async fn interleave(
    rounds: usize,
    mut ours: impl AsyncFnMut() -> Result<Samples>,
    mut baseline: impl AsyncFnMut() -> Result<Samples>,
) -> Result<(Samples, Samples)> {
    ours().await?;
    baseline().await?;
    let (mut left, mut right) = (Samples::default(), Samples::default());
    for _ in 0..rounds {
        left.0.extend(ours().await?.0);
        right.0.extend(baseline().await?.0);
    }
    Ok((left, right))
}

/// What the figures depend on: processors, kernel, and how long the disk takes to make a page durable.
fn machine() -> Result<String> {
    let cores = std::thread::available_parallelism()?;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let folder = reach::folder()?;
    let mut file = std::fs::File::create(folder.path().join("page"))?;
    let mut synced = Samples::default();
    for _ in 0..50 {
        let begin = Instant::now();
        // In its place, as a database writes a journal that has its size.
        file.rewind()?;
        file.write_all(&[1; 4096])?;
        file.sync_data()?;
        synced.0.push(begin.elapsed().as_secs_f64());
    }
    let sync_us = synced.median() * 1e6;
    Ok(format!("{cores} cores, {} {}, a durable page of 4 KiB in {sync_us:.0} µs", std::env::consts::OS, kernel.trim()))
}
