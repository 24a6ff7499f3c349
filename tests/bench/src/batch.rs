//! Event batches from outside: the validator beside the same checks in JavaScript on node, and beside its own parser with the
//! checks left out.

use std::hint::black_box;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use midplane_core::batch::validate;
use midplane_core::json::Document;
use serde_json::json;

use crate::child::TEXT;
use crate::reach::folder;
use crate::table::{Row, Samples, Unit};
use crate::{Effort, interleave};

/// Events of about 200 bytes in batches of three sizes.
pub(crate) async fn rows(effort: Effort) -> Result<Vec<Row>> {
    let folder = folder()?;
    let sizes = [1, 16, 256];
    let texts = sizes.map(batch);
    let files = sizes.map(|size| folder.path().join(format!("batch-{size}.json")));
    for (file, text) in files.iter().zip(&texts) {
        std::fs::write(file, text)?;
    }
    let mut node = Node::start(&files);
    let mut rows = Vec::new();
    for (index, (size, text)) in sizes.into_iter().zip(&texts).enumerate() {
        // So many a sample that the clock does not matter, and few enough that both sides take turns.
        let times = effort.of(4_000_000, 40_000) / text.len() + 1;
        let seconds = |work: &dyn Fn() -> Result<()>| {
            let begin = Instant::now();
            for _ in 0..times {
                work()?;
            }
            Ok::<_, anyhow::Error>(begin.elapsed().as_secs_f64())
        };
        let checked = || validate(black_box(text)).map(|batch| drop(black_box(batch))).map_err(Into::into);
        let parsed = || Document::parse(black_box(text)).map(|doc| drop(black_box(doc))).map_err(Into::into);

        let measure = format!("validate batches of {size} (events of about 200 bytes)");
        match &mut node {
            Ok(node) => {
                let rate = |seconds: f64| Samples(vec![(size * times) as f64 / seconds]);
                let (ours, theirs) = interleave(
                    effort.of(60, 3),
                    async || Ok(rate(seconds(&checked)?)),
                    async || Ok(rate(node.check(index, times)?)),
                )
                .await?;
                let row = Row::new(measure, Unit::Rate, ours, "node", theirs);
                rows.push(if size == 256 { row.bar("≥ 5 ×", |_, ratio| ratio >= 5.0) } else { row });
            }
            Err(error) => rows.push(Row::skipped(measure, format!("node does not start: {error}"))),
        }

        let each = |seconds: f64| Samples(vec![seconds / times as f64]);
        let (ours, bare) =
            interleave(effort.of(100, 3), async || Ok(each(seconds(&checked)?)), async || Ok(each(seconds(&parsed)?)))
                .await?;
        let measure = format!("validate a batch of {size}");
        let row = Row::new(measure, Unit::Time, ours, "checks off", bare);
        rows.push(row.bar("≤ 1.5 ×", |_, ratio| ratio <= 1.5));
    }
    Ok(rows)
}

/// A batch as a runner sends it: mostly pieces of text.
fn batch(size: usize) -> String {
    let event = |n: usize| {
        let (kind, data) = match n % 8 {
            7 => (
                "tool_request",
                json!({ "id": format!("call_{n}"), "name": "read_file", "by": "vendor",
                "arguments": { "path": "src/lib.rs", "lines": [n, n + 20], "why": TEXT.get(..60) } }),
            ),
            _ => ("assistant_text", json!({ "text": TEXT.get(..140) })),
        };
        // Written out, since the order of keys is the sender's: number, time, kind, data.
        format!(r#"{{"seq":{n},"tMs":{},"kind":"{kind}","data":{data}}}"#, 1_700_000_000_000_u64 + n as u64 * 13)
    };
    let events: Vec<String> = (0..size).map(event).collect();
    format!(r#"{{"v":1,"runId":"01hxyzabcdefghjkmnpqrstvwx","events":[{}]}}"#, events.join(","))
}

/// The same checks in JavaScript, in a process that stays.
struct Node {
    process: Child,
    stdin: ChildStdin,
    answers: std::io::Lines<BufReader<ChildStdout>>,
}

impl Node {
    fn start(files: &[impl AsRef<Path>]) -> Result<Self> {
        let mut process = Command::new("node")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/batch.js"))
            .args(files.iter().map(AsRef::as_ref))
            // Nothing of this environment: options in it would make it another program.
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = process.stdin.take().context("no pipe to node")?;
        let answers = BufReader::new(process.stdout.take().context("no pipe from node")?).lines();
        Ok(Self { process, stdin, answers })
    }

    /// The seconds that it takes to check one of the files so often, by its own clock.
    fn check(&mut self, index: usize, times: usize) -> Result<f64> {
        writeln!(self.stdin, "{index} {times}")?;
        let seconds: f64 = self.answers.next().context("node said nothing")??.parse()?;
        ensure!(seconds > 0.0, "node took no time");
        Ok(seconds)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
