//! `midplane runs`: what ran and runs, in this process or another.
//!
//! `runs/feed.rs` has the commands for runs that are fed from outside.

mod feed;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use midplane::core::agent::project::Projection;
use midplane::core::event::Record;
use midplane::core::{Error, ProfileName, RunId};
use midplane::view::{OutputFile, RunView};
use midplane::{CancelReceipt, Host, OpenQuestion, Reply, RunQuery, RunRow};
use serde_json::{Value, json};

use crate::app::App;
use crate::commands::run::pages;
use crate::exit::Exit;
use crate::render::lines::Lines;
use crate::render::plain::{Amount, Plain};
use crate::render::table::{Table, fields};
use crate::render::{Renderer, describe, tally, units};
use crate::values::{self, Inputs, Source};

/// List, follow, feed, cancel and remove runs
#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// List runs, newest first
    List {
        /// Only of this profile
        #[arg(long)]
        profile: Option<String>,
        /// Only with this status
        #[arg(long, value_parser = ["queued", "provisioning", "running", "stopping", "terminated", "failed"])]
        status: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Show a run: what was asked, where it stands, what came of it
    Show {
        #[command(flatten)]
        run: RunArg,
    },
    /// Print the events of a run
    Events {
        #[command(flatten)]
        run: RunArg,
        /// Wait for those to come, until the end
        #[arg(long, short)]
        follow: bool,
        /// Begin with this sequence number
        #[arg(long, default_value_t = 1, value_name = "SEQ")]
        from: u64,
        /// One line for each record, with those that the host writes about itself
        #[arg(long)]
        all: bool,
        /// In another form: `agent` prints the events as `agent.*`, one JSON object a line
        #[arg(long = "as", value_name = "FORM", value_parser = ["agent"], conflicts_with = "all")]
        form: Option<String>,
    },
    /// Ask a run to stop, whichever process drives it
    Cancel {
        #[command(flatten)]
        run: RunArg,
    },
    /// Give a running agent a message
    Steer {
        #[command(flatten)]
        run: RunArg,
        /// The message; `@FILE` reads a file, `-` standard input
        #[arg(value_name = "TEXT|@FILE|-")]
        text: Source,
    },
    /// Answer a question that a vendor's program waits with, or list what it waits for
    Approve {
        #[command(flatten)]
        run: RunArg,
        /// The question; the only one where there is one
        question: Option<String>,
        /// Answer with no
        #[arg(long)]
        decline: bool,
        /// Why, in words that the model may be told
        #[arg(long, default_value = "", value_name = "TEXT")]
        message: String,
        /// List the questions and answer none
        #[arg(long, conflicts_with_all = ["question", "decline", "message"])]
        list: bool,
    },
    /// Make a run that is fed from outside, and print its id
    Open {
        #[command(flatten)]
        open: feed::OpenArgs,
    },
    /// Append batches of events from standard input to such a run, one a line; one answer each
    Ingest {
        #[command(flatten)]
        run: RunArg,
    },
    /// Say that the job that feeds such a run has ended
    Close {
        #[command(flatten)]
        run: RunArg,
        #[command(flatten)]
        close: feed::CloseArgs,
    },
    /// List the files that a run made or changed, or get one of them
    Outputs {
        #[command(flatten)]
        run: RunArg,
        /// Get this file, as it was when the run ended
        #[arg(long)]
        path: Option<String>,
        /// Write it here instead of to standard output
        #[arg(long, value_name = "FILE", requires = "path")]
        to: Option<PathBuf>,
    },
    /// Remove ended runs with their events and outputs
    Rm {
        /// Ids of runs, or how they begin
        #[arg(required = true, value_name = "RUN")]
        runs: Vec<String>,
    },
    /// Remove ended runs that are old, and files that no run refers to
    Prune {
        /// How old
        #[arg(long, default_value = "30d", value_name = "DURATION", value_parser = values::duration)]
        older_than: Duration,
    },
}

/// Which run.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArg {
    /// Id of the run, or how it begins
    run: String,
}

pub(crate) async fn run(app: &App, command: RunsCommand) -> anyhow::Result<Exit> {
    let host = app.host().await?;
    match command {
        RunsCommand::List { profile, status, limit } => {
            let profile = profile.map(ProfileName::new).transpose()?;
            let query = RunQuery { profile, status, limit: limit as usize, ..RunQuery::default() };
            let rows = host.runs(query).await?;
            let documents: Vec<Value> = rows.iter().map(document).collect();
            app.answer(&documents, || list(&rows, units::now_ms()))?;
        }
        RunsCommand::Show { run } => {
            let view = host.get(&host.find(&run.run).await?).await?;
            app.answer(&view, || show(&view))?;
        }
        RunsCommand::Events { run, follow, from, all, form } => {
            let run_id = host.find(&run.run).await?;
            let form = match (form.is_some(), all) {
                (true, _) => Form::Agent,
                (false, true) => Form::Rows,
                (false, false) => Form::Plain,
            };
            events(app, &host, &run_id, follow, from.max(1), form).await?;
        }
        RunsCommand::Cancel { run } => {
            let run_id = host.find(&run.run).await?;
            let receipt = host.cancel(&run_id).await?;
            app.answer(&json!({ "run_id": run_id, "receipt": receipt }), || match receipt {
                CancelReceipt::Requested => format!("run `{run_id}` was asked to stop\n"),
                CancelReceipt::AlreadyRequested => format!("run `{run_id}` was asked before and is stopping\n"),
                CancelReceipt::NotActive => format!("run `{run_id}` has ended\n"),
                CancelReceipt::Closed => format!("run `{run_id}` had no process any more and is closed now\n"),
            })?;
        }
        RunsCommand::Steer { run, text } => {
            let text = text.read(&mut Inputs::here()?, "the message")?;
            let run_id = host.find(&run.run).await?;
            host.steer(&run_id, &text).await?;
            app.answer(&json!({ "run_id": run_id, "sent": true }), || format!("sent to run `{run_id}`\n"))?;
        }
        RunsCommand::Approve { run, question, decline, message, list } => {
            let run_id = host.find(&run.run).await?;
            let open = host.questions(&run_id).await?;
            if list {
                app.answer(&open, || questions(&open))?;
            } else {
                let id = chosen(&run_id, question, &open)?;
                host.answer(&run_id, &id, Reply { allowed: !decline, message }).await?;
                let word = if decline { "declined" } else { "allowed" };
                app.answer(&json!({ "run_id": run_id, "question": id, "allowed": !decline }), || {
                    format!("{word} `{id}` of run `{run_id}`\n")
                })?;
            }
        }
        RunsCommand::Open { open } => feed::open(app, &host, open).await?,
        RunsCommand::Ingest { run } => {
            let run_id = host.find(&run.run).await?;
            return feed::ingest(app, &host, &run_id).await;
        }
        RunsCommand::Close { run, close } => {
            let run_id = host.find(&run.run).await?;
            feed::close(app, &host, &run_id, close).await?;
        }
        RunsCommand::Outputs { run, path, to } => {
            let run_id = host.find(&run.run).await?;
            let files = host.outputs(&run_id).await?;
            match path {
                None => app.answer(&files, || outputs(&files))?,
                Some(path) => get(app, &host, &files, &run_id, &path, to.as_deref()).await?,
            }
        }
        RunsCommand::Rm { runs } => {
            // All are found before any is removed.
            let mut found = Vec::new();
            for run in &runs {
                found.push(host.find(run).await?);
            }
            found.dedup();
            for run_id in &found {
                host.remove_run(run_id).await?;
            }
            app.answer(&json!({ "removed": found }), || {
                found.iter().map(|run_id| format!("removed run `{run_id}`\n")).collect()
            })?;
        }
        RunsCommand::Prune { older_than } => {
            let before_ms = units::now_ms().saturating_sub(values::millis(older_than));
            let (removed, freed) = host.prune(before_ms).await?;
            app.answer(&json!({ "removed": removed, "freed_bytes": freed }), || {
                let runs = if removed == 1 { "run" } else { "runs" };
                format!("removed {removed} {runs}, freed {} of files\n", units::bytes(freed))
            })?;
        }
    }
    Ok(Exit::Done)
}

/// The question that is answered: the one that was named, or the only one.
fn chosen(run_id: &RunId, named: Option<String>, open: &[OpenQuestion]) -> Result<String, Error> {
    match (named, open) {
        (Some(id), _) => Ok(id),
        (None, [one]) => Ok(one.id.clone()),
        (None, []) => Err(Error::conflict("question-closed", format!("run `{run_id}` waits for no answer"))),
        (None, several) => {
            let ids: Vec<&str> = several.iter().map(|question| question.id.as_str()).collect();
            let message = format!("run `{run_id}` waits for several answers: {}", ids.join(", "));
            Err(Error::invalid("question", message).hint("name one; `--list` shows them"))
        }
    }
}

fn questions(open: &[OpenQuestion]) -> String {
    let mut table = Table::new(["QUESTION", "KIND", "SINCE", "TITLE"]);
    let now_ms = units::now_ms();
    for question in open {
        let since = units::duration(now_ms.saturating_sub(question.asked_ms));
        table.row([question.id.clone(), question.kind.clone(), since, question.title.clone()]);
    }
    table.text("it waits for no answer")
}

/// How events are printed.
enum Form {
    Plain,
    Rows,
    Agent,
}

async fn events(app: &App, host: &Host, run_id: &RunId, follow: bool, from: u64, form: Form) -> anyhow::Result<()> {
    // Without following, the end is what is there now.
    let last = if follow { u64::MAX } else { host.get(run_id).await?.events };
    if from > last {
        return Ok(());
    }
    let amount = if app.verbose { Amount::All } else { Amount::Usual };
    let mut renderer: Box<dyn Renderer> = match (&form, app.json) {
        (Form::Agent, _) => Box::new(AgentLines { projection: Projection::new(host.limits()), from }),
        (_, true) => Box::new(Lines::new(io::stdout())),
        (Form::Rows, false) => Box::new(Rows { began_ms: None }),
        (Form::Plain, false) => Box::new(Plain::new(io::stdout(), amount)),
    };
    // The first record says whose events they are, so a projection reads from there.
    let first = if matches!(form, Form::Agent) { 1 } else { from };
    let mut pages = pages(host.subscribe(run_id, first).await?);
    while let Some(page) = pages.recv().await {
        for record in &page? {
            renderer.record(record)?;
            if record.seq >= last {
                return Ok(renderer.finish()?);
            }
        }
    }
    Ok(renderer.finish()?)
}

/// One line for each record, with its number and its time since the first.
struct Rows {
    began_ms: Option<u64>,
}

impl Renderer for Rows {
    fn record(&mut self, record: &Record) -> io::Result<()> {
        let since = record.t_ms.saturating_sub(*self.began_ms.get_or_insert(record.t_ms));
        let line =
            format!("{:>6}  {:>8}  {}\n", record.seq, format!("+{}", units::duration(since)), describe::detail(record));
        io::stdout().write_all(line.as_bytes())
    }
}

/// One line for each `agent.*` event.
struct AgentLines {
    projection: Projection,
    from: u64,
}

impl Renderer for AgentLines {
    fn record(&mut self, record: &Record) -> io::Result<()> {
        let Some(event) = self.projection.take(record).filter(|_| record.seq >= self.from) else { return Ok(()) };
        writeln!(io::stdout(), "{}", serde_json::to_string(&event)?)
    }
}

fn document(row: &RunRow) -> Value {
    let index = &row.index;
    json!({
        "run_id": row.run_id,
        "profile": index.profile,
        "task_id": index.task_id,
        "status": index.status,
        "finish_reason": index.finish_reason,
        "created_ms": index.created_ms,
        "updated_ms": index.updated_ms,
        "events": row.last_seq,
        "plugin": index.summary.get("plugin"),
        "goal": index.summary.get("goal"),
    })
}

fn list(rows: &[RunRow], now_ms: u64) -> String {
    let mut table = Table::new(["RUN", "PROFILE", "STATUS", "CREATED", "GOAL"]);
    for row in rows {
        let index = &row.index;
        let goal = index.summary.get("goal").and_then(Value::as_str).unwrap_or_default();
        table.row([
            row.run_id.to_string(),
            index.profile.to_string(),
            index.finish_reason.clone().unwrap_or_else(|| index.status.clone()),
            units::ago(index.created_ms, now_ms),
            midplane::core::text::preview(goal.lines().next().unwrap_or_default(), GOAL_CHARS),
        ]);
    }
    table.text("there are no runs")
}

/// Characters of a goal in a list, and lines of it where a run is shown.
const GOAL_CHARS: usize = 60;
const GOAL_LINES: usize = 8;

fn show(view: &RunView) -> String {
    let created = |name: &str| view.created.as_ref().and_then(|created| created.get(name));
    let mut rows = vec![("run", view.run_id.to_string()), ("profile", view.profile.to_string())];
    if let Some(plugin) = created("plugin") {
        let text = |name: &str| plugin.get(name).and_then(Value::as_str).unwrap_or_default();
        rows.push(("plugin", format!("{} {}", text("name"), text("version"))));
    }
    rows.push(("task", view.task_id.clone()));
    if let Some(goal) = created("task").and_then(|task| task.get("goal")).and_then(Value::as_str) {
        rows.push(("goal", excerpt(goal.trim())));
    }
    if let Some(grants) = created("grants").and_then(Value::as_array).filter(|grants| !grants.is_empty()) {
        rows.push(("grants", grants.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")));
    }
    rows.push(("created", units::time(view.created_ms)));
    rows.push(("updated", units::time(view.updated_ms)));
    rows.push(("events", view.events.to_string()));
    rows.push(("status", view.status.to_owned()));
    let used = units::usage(&view.usage);
    if !used.is_empty() {
        rows.push(("used", used.join(", ")));
    }
    rows.extend(view.session_id.clone().map(|id| ("conversation", id)));
    if let Some(outcome) = &view.outcome {
        let reason = outcome.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        rows.push(("finished", format!("{}{reason}", outcome.finish_reason.as_str())));
        if let Some(error) = &outcome.error {
            rows.push(("error", error.message.clone()));
            rows.extend(error.hint.clone().map(|hint| ("hint", hint)));
        }
        let answer = tally::answer(outcome);
        if !answer.is_empty() {
            rows.push(("answer", answer));
        }
    }
    fields(&rows)
}

/// The beginning of a goal; a playbook is long.
fn excerpt(goal: &str) -> String {
    let mut lines: Vec<String> =
        goal.lines().take(GOAL_LINES).map(|line| midplane::core::text::preview(line, GOAL_CHARS * 2)).collect();
    if goal.lines().count() > GOAL_LINES {
        lines.push("…".to_owned());
    }
    lines.join("\n")
}

fn outputs(files: &[OutputFile]) -> String {
    let mut table = Table::new(["DIGEST", "SIZE", "PATH"]);
    for file in files {
        table.row([file.digest.short().to_owned(), units::bytes(file.size_bytes), file.path.clone()]);
    }
    table.text("the run made no files")
}

async fn get(
    app: &App,
    host: &Host,
    files: &[OutputFile],
    run_id: &RunId,
    path: &str,
    to: Option<&Path>,
) -> anyhow::Result<()> {
    let file = files.iter().find(|file| file.path == path).ok_or_else(|| {
        let near = midplane::core::text::near(path, files.iter().map(|file| file.path.as_str()));
        let error = Error::not_found(
            "output",
            format!("run `{run_id}` made no file `{}`", midplane::core::text::shown(path, 200)),
        );
        error.hint(match near.first() {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("`midplane runs outputs {run_id}` lists them"),
        })
    })?;
    let bytes = host.output(&file.digest).await?;
    match to {
        Some(to) => {
            std::fs::write(to, &bytes)
                .map_err(|error| Error::invalid("file", format!("`{}` cannot be written: {error}", to.display())))?;
            app.answer(&json!({ "path": path, "to": to, "size_bytes": bytes.len() }), || {
                format!("wrote `{}`\n", to.display())
            })
        }
        None => {
            // Its bytes as they are, also with `--json`: it is the file that was asked for.
            let mut out = io::stdout().lock();
            out.write_all(&bytes)?;
            Ok(out.flush()?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use midplane::core::outcome::{FinishReason, Outcome, Usage};

    #[test]
    fn a_run_as_fields() {
        console::set_colors_enabled(false);
        let error = Error::unavailable("host-lost", "the process that drove the run is gone");
        let mut outcome = Outcome::ended(FinishReason::Failed, Some(error));
        outcome.reason = Some("host_lost".to_owned());
        outcome.output = "half an\u{1b}[31m answer".to_owned();
        let view = RunView {
            run_id: RunId::from_parts(1, 2),
            profile: ProfileName::new("playbook").expect("a name"),
            task_id: "task-1".to_owned(),
            status: "failed",
            created_ms: 1_700_000_000_000,
            updated_ms: 1_700_000_012_000,
            events: 12,
            usage: Usage { input_tokens: Some(5), ..Usage::default() },
            session_id: Some("s-1".to_owned()),
            created: Some(json!({
                "plugin": {"name": "playbook", "version": "0.1.0"},
                "task": {"goal": "name: x\nsteps: []\n"},
                "grants": ["workspace:read", "shell"],
            })),
            outcome: Some(outcome),
        };
        insta::assert_snapshot!(show(&view));
    }
}
