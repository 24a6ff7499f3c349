//! Memory of a run that waits. Each side is measured in a process of its own, which is this program again: in a process that
//! has measured other things, memory that was used and freed would count for nothing.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::Effort;
use crate::bare::Bare;
use crate::child::Child;
use crate::reach::{GUEST, Home};
use crate::runs::started;
use crate::table::{Row, Samples, Unit};

/// Private bytes of one idle run.
pub(crate) fn rows(effort: Effort) -> Result<Vec<Row>> {
    let measure = "private memory of an idle run";
    if private_bytes(std::process::id()).is_err() {
        return Ok(vec![Row::skipped(measure, "this system does not tell it (`/proc/PID/smaps_rollup`)")]);
    }
    let count = effort.of(200, 10);
    let ours = asked("ours", count)?;
    let small = |ours: &Samples, _| ours.median() < 1024.0 * 1024.0;
    let mut rows = Vec::new();
    for (side, count, against) in [("bare", count, "bare wasmtime"), ("child", effort.of(20, 2), "child process")] {
        let name = format!("{measure} ({count} beside {against})");
        rows.push(Row::new(name, Unit::Bytes, ours.clone(), against, asked(side, count)?).bar("< 1 MiB", small));
    }
    Ok(rows)
}

/// One side, in a new process.
fn asked(side: &str, count: usize) -> Result<Samples> {
    let output = Command::new(std::env::current_exe()?).args(["memory", side, &count.to_string()]).output()?;
    ensure!(output.status.success(), "memory {side}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(Samples(vec![String::from_utf8(output.stdout)?.trim().parse()?]))
}

/// The body of that process: bytes a run.
pub(crate) async fn main(side: &str, count: usize) -> Result<f64> {
    let here = std::process::id();
    // Long enough for what is freed after a start to be freed.
    let settle = || tokio::time::sleep(Duration::from_millis(200));
    match side {
        "ours" => {
            let home = Home::open(&[("runs_max", 1_000)]).await?;
            let first = started(&home, "idle").await?;
            let before = private_bytes(here)?;
            let mut runs = Vec::new();
            for _ in 0..count {
                runs.push(started(&home, "idle").await?);
            }
            settle().await;
            let after = private_bytes(here)?;
            drop((first, runs));
            home.host.shutdown().await;
            Ok((after - before) / count as f64)
        }
        "bare" => {
            let bare = Bare::new(GUEST.component)?;
            let (told, mut started) = tokio::sync::mpsc::channel(1);
            let start = || {
                let (bare, told) = (bare.clone(), told.clone());
                tokio::spawn(async move { bare.run("idle", Some(told)).await })
            };
            start();
            started.recv().await.context("the guest did not start")?;
            let before = private_bytes(here)?;
            for _ in 0..count {
                start();
                started.recv().await.context("the guest did not start")?;
            }
            settle().await;
            Ok((private_bytes(here)? - before) / count as f64)
        }
        _ => {
            let mut bytes = 0.0;
            let mut children = Vec::new();
            for _ in 0..count {
                let mut child = Child::start(&["wait"])?;
                child.next().await?.context("the child did not start")?;
                bytes += private_bytes(child.id()?)?;
                children.push(child);
            }
            Ok(bytes / count as f64)
        }
    }
}

/// What a process holds that it shares with no other.
fn private_bytes(id: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{id}/smaps_rollup"))?;
    let kib = text
        .lines()
        .filter(|line| line.starts_with("Private_"))
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    Ok(kib.sum::<f64>() * 1024.0)
}
