//! The baseline of runs: a child process that speaks JSON lines, which is what hosts do that have no sandbox. The child is
//! this program again, called as `child VERB ...`; this file has both of its ends.

use std::io::{BufRead as _, Write as _};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};

/// The child's end. Gives when the verb is done; `spin`, `sleep` and `wait` never are.
pub(crate) fn main(words: &[&str]) -> Result<()> {
    let mut lines = std::io::stdin().lock().lines();
    let mut out = std::io::stdout().lock();
    let mut say = |value: Value| -> std::io::Result<()> {
        writeln!(out, "{value}")?;
        out.flush()
    };
    match *words {
        // Nothing but the start of a process and one line.
        ["hello"] => say(json!({ "kind": "runtime_started", "data": {} }))?,
        // A task comes in, an outcome goes out.
        ["task"] => {
            let task: Value = serde_json::from_str(&lines.next().context("no task")??)?;
            say(json!({ "kind": "runtime_started", "data": {} }))?;
            say(json!({ "kind": "outcome", "data": { "finish_reason": "done", "goal": task.get("goal") } }))?;
        }
        // Events, each batch acknowledged before the next: the promise of `events.emit`.
        ["emit", count, batch] => {
            let (mut left, batch): (usize, usize) = (count.parse()?, batch.parse()?);
            let line = json!({ "kind": "assistant_text", "data": { "text": TEXT } }).to_string();
            while left > 0 {
                let now = left.min(batch);
                for _ in 0..now {
                    writeln!(out, "{line}")?;
                }
                out.flush()?;
                lines.next().context("no acknowledgement")??;
                left -= now;
            }
        }
        ["spin"] => {
            say(json!({ "kind": "runtime_started", "data": {} }))?;
            loop {
                std::hint::spin_loop();
            }
        }
        ["sleep"] => {
            say(json!({ "kind": "runtime_started", "data": {} }))?;
            std::thread::sleep(std::time::Duration::from_secs(3_600));
        }
        // Reads what it is told, and takes no notice.
        ["wait"] => {
            say(json!({ "kind": "runtime_started", "data": {} }))?;
            for line in lines {
                line?;
            }
        }
        // Ends badly when it is told something.
        ["trap"] => {
            say(json!({ "kind": "runtime_started", "data": {} }))?;
            lines.next().context("not told")??;
            std::process::abort();
        }
        _ => bail!("`{}` is no verb of the child", words.join(" ")),
    }
    Ok(())
}

/// An event's text, so that an event has about 200 bytes.
pub(crate) const TEXT: &str = "The quick brown fox jumps over the lazy dog, and then it does so once more. The quick brown fox jumps over the \
                        lazy dog, and then it does so once more. The quick brown fox jumps over";

/// The parent's end. Dropping it kills the child.
pub(crate) struct Child {
    process: tokio::process::Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Child {
    /// Starts this program with a verb.
    pub(crate) fn start(words: &[&str]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("child").args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().context("the child cannot be started")?;
        let input = process.stdin.take().context("no pipe to the child")?;
        let output = process.stdout.take().context("no pipe from the child")?;
        Ok(Self { process, input, output: BufReader::new(output).lines() })
    }

    /// The next line: kind and data.
    pub(crate) async fn next(&mut self) -> Result<Option<(String, Value)>> {
        let Some(line) = self.output.next_line().await? else { return Ok(None) };
        let mut value: Value = serde_json::from_str(&line)?;
        let kind = value["kind"].as_str().context("a line without a kind")?.to_owned();
        Ok(Some((kind, value["data"].take())))
    }

    /// Writes one line.
    pub(crate) async fn say(&mut self, line: &str) -> Result<()> {
        self.input.write_all(format!("{line}\n").as_bytes()).await?;
        Ok(())
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> Result<()> {
        self.process.wait().await?;
        Ok(())
    }

    /// Ends it without asking.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.process.kill().await?;
        Ok(())
    }

    /// Its process.
    pub(crate) fn id(&self) -> Result<u32> {
        self.process.id().context("the child has ended")
    }
}
