//! Runs that are fed from outside: `open`, `ingest`, `close`.

use std::io;

use midplane::core::RunId;
use midplane::core::batch::validate_bytes;
use midplane::core::run::Status;
use midplane::core::stream::Observation;
use midplane::{Host, Ingested, OutsideRun};
use serde_json::json;
use tokio::sync::mpsc;

use crate::app::App;
use crate::commands::batch::refusal;
use crate::exit::Exit;
use crate::ndjson::{Line, Lines};

/// What a run that is fed from outside is made with.
#[derive(Debug, clap::Args)]
pub(crate) struct OpenArgs {
    /// Whose run it is: the name under which it is listed
    #[arg(long, value_name = "NAME")]
    provider: String,
    /// What the runner was asked to do
    #[arg(long, value_name = "TEXT")]
    goal: Option<String>,
    /// Your name of the task
    #[arg(long, value_name = "ID")]
    task_id: Option<String>,
    /// What the sender calls the run in its batches, if not by the id that is printed
    #[arg(long, value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    sender_run_id: Option<String>,
}

/// How the job of such a run ended.
#[derive(Debug, clap::Args)]
pub(crate) struct CloseArgs {
    /// Exit code of its program; zero is success
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    exit_code: Option<i64>,
    /// What its substrate calls the failure, such as `OOMKilled`; with it the job has failed
    #[arg(long, value_name = "WORD")]
    error_class: Option<String>,
    /// What its substrate says besides
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
}

pub(super) async fn open(app: &App, host: &Host, open: OpenArgs) -> anyhow::Result<()> {
    let OpenArgs { provider, goal, task_id, sender_run_id } = open;
    let run_id = host.open_outside_run(OutsideRun { provider, task_id, goal, sender_run_id }).await?;
    app.answer(&json!({ "run_id": run_id }), || format!("{run_id}\n"))
}

/// Batches that are read ahead of the one that is being appended.
const AHEAD_MAX: usize = 4;

pub(super) async fn ingest(app: &App, host: &Host, run_id: &RunId) -> anyhow::Result<Exit> {
    let bytes_max = usize::try_from(host.limits().batch_bytes_max).unwrap_or(usize::MAX);
    let (send, mut lines) = mpsc::channel::<io::Result<Line>>(AHEAD_MAX);
    // A thread of its own: standard input cannot be waited for otherwise, nor given up.
    std::thread::spawn(move || {
        let mut lines = Lines::new(io::stdin().lock(), bytes_max);
        while let Some(line) = lines.next().transpose() {
            if send.blocking_send(line).is_err() {
                return;
            }
        }
    });
    let mut exit = Exit::Done;
    while let Some(line) = lines.recv().await {
        let Line { number, bytes } = line?;
        let ingested = match std::str::from_utf8(&bytes) {
            Ok(text) => host.ingest(run_id, text).await?,
            // One that was cut where it is too long may end within a character, and is too long all the same.
            Err(_) if bytes.len() > bytes_max => host.ingest(run_id, &String::from_utf8_lossy(&bytes)).await?,
            Err(_) => match validate_bytes(&bytes) {
                Err(error) => Ingested::Refused { error: error.into(), late_events: 0 },
                Ok(_) => anyhow::bail!("bytes that are not UTF-8 were read as a batch"),
            },
        };
        if matches!(ingested, Ingested::Refused { .. }) {
            exit = Exit::Failed;
        }
        // Printed once the batch is durable, and at once: the sender may wait for it.
        app.print(&answer(app.json, number, &ingested))?;
    }
    Ok(exit)
}

fn answer(is_json: bool, number: u64, ingested: &Ingested) -> String {
    match ingested {
        Ingested::Accepted { events } if is_json => {
            json!({ "line": number, "verdict": "accepted", "events": events }).to_string()
        }
        Ingested::Duplicate if is_json => json!({ "line": number, "verdict": "duplicate" }).to_string(),
        Ingested::Accepted { .. } => "accepted".to_owned(),
        Ingested::Duplicate => "duplicate".to_owned(),
        Ingested::Refused { error, late_events: 0 } => refusal(is_json, number, error, json!({})),
        Ingested::Refused { error, late_events } => {
            refusal(is_json, number, error, json!({ "late_events": late_events }))
        }
    }
}

pub(super) async fn close(app: &App, host: &Host, run_id: &RunId, close: CloseArgs) -> anyhow::Result<()> {
    let CloseArgs { exit_code, error_class, message } = close;
    let failed = exit_code.is_some_and(|code| code != 0) || error_class.is_some();
    let status = if failed { Status::Failed } else { Status::Terminated };
    host.observe_job(run_id, &Observation { status, exit_code, error_class, message }).await?;
    let view = host.get(run_id).await?;
    app.answer(&view, || {
        let reason = view.outcome.as_ref().map_or("", |outcome| outcome.finish_reason.as_str());
        format!("run `{run_id}` is {} ({reason})\n", view.status)
    })
}
