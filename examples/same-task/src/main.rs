//! One task through every agent that is ready on this machine, and a table of what came of it.
//!
//! `cargo run -p same-task -- TASK.yaml [--cancel-after-ms N] [PROFILE ...]` reads the same configuration, grants and secrets
//! as the `midplane` command. Without profiles it takes all agents, each asked first whether it could start; one that is
//! left out is named with its reason. With `--cancel-after-ms` each run is cancelled so long after its first sign of work,
//! and the time from there to its end is in the table.
//!
//! It runs one agent after another: the times are to be compared, so nothing else should use the machine meanwhile.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use midplane::core::event::EventKind;
use midplane::core::outcome::Outcome;
use midplane::core::task::{Task, Workspace, WorkspaceAccess};
use midplane::{FIRST_PARTY, Host, Paths, RunRequest, RuntimeContext};

/// How long an agent may take to say whether it is ready: vendors' programs are started for that.
const PROBE: Duration = Duration::from_secs(20);

/// What the command line says.
struct Arguments {
    task: PathBuf,
    cancel_after: Option<Duration>,
    profiles: Vec<String>,
}

/// What came of one agent.
struct Row {
    profile: String,
    /// The outcome, or why there was none.
    outcome: Result<Outcome, String>,
    /// Tools that were asked for, whoever ran them.
    tools: usize,
    total: Duration,
    /// From the cancel to the end.
    stopped: Option<Duration>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = arguments()?;
    let text = std::fs::read_to_string(&arguments.task)
        .with_context(|| format!("`{}` cannot be read", arguments.task.display()))?;
    let task: Task =
        serde_saphyr::from_str(&text).with_context(|| format!("`{}` is no task", arguments.task.display()))?;
    let host = host().await?;
    let mut rows = Vec::new();
    for profile in ready(&host, &arguments.profiles).await? {
        eprintln!("running `{profile}` ...");
        rows.push(one(&host, &profile, task.clone(), arguments.cancel_after).await);
    }
    print!("{}", table(&rows));
    host.shutdown().await;
    Ok(())
}

fn arguments() -> Result<Arguments> {
    let mut arguments = Arguments { task: PathBuf::new(), cancel_after: None, profiles: Vec::new() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--cancel-after-ms" => {
                let ms = words.next().context("`--cancel-after-ms` needs a number")?;
                arguments.cancel_after = Some(Duration::from_millis(ms.parse().context("milliseconds are a number")?));
            }
            _ if word.starts_with('-') => bail!("there is no option `{word}`"),
            _ if arguments.task.as_os_str().is_empty() => arguments.task = word.into(),
            _ => arguments.profiles.push(word),
        }
    }
    if arguments.task.as_os_str().is_empty() {
        bail!("name a task file, such as `examples/same-task/task.yaml`");
    }
    Ok(arguments)
}

/// The host of this user, as the command has it.
async fn host() -> Result<Host> {
    let paths = Paths::from_env(|name| std::env::var_os(name))?;
    let identity = midplane::identity::identify(&midplane::identity::Stated::default())?;
    let context = RuntimeContext::builder(identity).home(paths).build()?;
    // Vendors' programs run under the command's hidden helper, which lies beside this program where cargo built both.
    let beside = std::env::current_exe()?.with_file_name("midplane");
    let helper = std::env::var_os("MIDPLANE_HELPER").map_or(beside, PathBuf::from);
    let mut builder = Host::builder().context(&context);
    if helper.exists() {
        builder = builder.helper(helper);
    }
    Ok(FIRST_PARTY.iter().fold(builder, |builder, plugin| builder.plugin(*plugin)).open().await?)
}

/// The profiles to run: those that were named, or all agents that could start.
async fn ready(host: &Host, named: &[String]) -> Result<Vec<String>> {
    if !named.is_empty() {
        return Ok(named.to_vec());
    }
    let mut ready = Vec::new();
    for profile in host.profiles().await? {
        let name = profile.name.to_string();
        // A playbook needs its goal in a form of its own, so it is no agent for this.
        if profile.kind != Some("agent") || profile.plugin.as_deref() == Some("playbook") {
            continue;
        }
        match host.availability(&name, PROBE).await {
            Ok(found) if found.status == "not-ready" => eprintln!("left out `{name}`: {}", found.message),
            // A server that does not know the question is no reason: the run will tell.
            Ok(_) => ready.push(name),
            Err(error) => eprintln!("left out `{name}`: {error}"),
        }
    }
    Ok(ready)
}

async fn one(host: &Host, profile: &str, task: Task, cancel_after: Option<Duration>) -> Row {
    let began = Instant::now();
    let mut row = Row {
        profile: profile.to_owned(),
        outcome: Err(String::new()),
        tools: 0,
        total: Duration::ZERO,
        stopped: None,
    };
    row.outcome = match drive(host, profile, task, cancel_after, &mut row).await {
        Ok(outcome) => Ok(outcome),
        Err(error) => Err(format!("{error:#}")),
    };
    row.total = began.elapsed();
    row
}

async fn drive(
    host: &Host,
    profile: &str,
    mut task: Task,
    cancel_after: Option<Duration>,
    row: &mut Row,
) -> Result<Outcome> {
    // Each agent finds the same: an empty folder of its own.
    let folder = tempfile::tempdir()?;
    let path = folder.path().display().to_string();
    task.workspace = Some(Workspace { path, access: WorkspaceAccess::ReadWrite });
    let request = RunRequest { profile: profile.to_owned(), task, allow: Vec::new() };
    let mut run = host.run(request).await?;
    let mut events = host.subscribe(run.id(), 1).await?;
    let mut cancelled = None;
    let mut cancel_at = None;
    loop {
        let wait = async {
            match cancel_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let records = tokio::select! {
            records = events.next() => records?,
            () = wait => {
                cancel_at = None;
                cancelled = Some(Instant::now());
                host.cancel(run.id()).await?;
                continue;
            }
        };
        let Some(records) = records else { break };
        for record in &records {
            row.tools += usize::from(record.kind == EventKind::ToolRequest);
            // Counted from the first word or act, so that what is stopped is in the middle of it.
            let begun = matches!(record.kind, EventKind::AssistantText | EventKind::ToolRequest);
            if let (true, None, None, Some(after)) = (begun, cancel_at, cancelled, cancel_after) {
                cancel_at = Some(tokio::time::Instant::now() + after);
            }
        }
    }
    let outcome = run.outcome().await?;
    row.stopped = cancelled.map(|at| at.elapsed());
    Ok(outcome)
}

fn table(rows: &[Row]) -> String {
    let head =
        ["AGENT", "FINISH", "ROUNDS", "TOOLS", "TOKENS IN", "TOKENS OUT", "COST USD", "TIME S", "STOPPED S", "NOTE"];
    let mut cells = vec![head.map(str::to_owned)];
    for row in rows {
        let seconds = |time: Duration| format!("{:.2}", time.as_secs_f64());
        // What nobody said is not zero.
        let known = |value: Option<String>| value.unwrap_or_else(|| "?".to_owned());
        let (finish, rounds, tokens_in, tokens_out, cost, note) = match &row.outcome {
            Ok(outcome) => {
                let usage = &outcome.usage;
                let cost = match (usage.cost_usd, outcome.cost_estimate_usd) {
                    (Some(cost), _) => format!("{cost:.4}"),
                    (None, Some(cost)) => format!("~{cost:.4}"),
                    (None, None) => "?".to_owned(),
                };
                let note = outcome.error.as_ref().map(|error| error.message.clone()).unwrap_or_default();
                (
                    outcome.finish_reason.as_str().to_owned(),
                    outcome.rounds.to_string(),
                    known(usage.input_tokens.map(|tokens| tokens.to_string())),
                    known(usage.output_tokens.map(|tokens| tokens.to_string())),
                    cost,
                    note,
                )
            }
            Err(why) => {
                let none = || "-".to_owned();
                ("refused".to_owned(), none(), none(), none(), none(), why.clone())
            }
        };
        let stopped = row.stopped.map(seconds).unwrap_or_default();
        let tools = row.tools.to_string();
        cells.push([
            row.profile.clone(),
            finish,
            rounds,
            tools,
            tokens_in,
            tokens_out,
            cost,
            seconds(row.total),
            stopped,
            note,
        ]);
    }
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |row: &[String; 10]| {
        let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    cells.iter().map(line).collect()
}
