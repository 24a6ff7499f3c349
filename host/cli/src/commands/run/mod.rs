//! `midplane run`: a task under a profile, shown as it happens.
//!
//! ```text
//! arguments ─► task ─► Host::run ──refused, grants missing──► asked at the terminal ─► again
//!                          │ a run
//!                          ▼
//!      records ─► renderer        questions ─► terminal        signals ─► cancel        terminal ─► exit code
//! ```

mod task;

use std::io;
use std::sync::Arc;

use midplane::core::event::{EventKind, Record};
use midplane::core::outcome::Outcome;
use midplane::core::permission::Grant;
use midplane::view::Subscription;
use midplane::{Asker, Host, Refusal, Run, RunRequest};
use tokio::sync::mpsc;

use crate::app::App;
use crate::ask::{self, Answer, Person, Question, ToTerminal};
use crate::exit::{self, Exit};
use crate::render::Renderer;
use crate::render::lines::Lines;
use crate::render::plain::{Amount, Plain};
use crate::render::terminal::{self, Terminal};
use crate::screen;
use crate::signals::Signals;
use crate::values::{self, Inputs};

/// Run a task under a profile
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct RunArgs {
    /// The profile, see `midplane profile list`
    profile: String,
    #[command(flatten)]
    task: task::TaskArgs,
    /// Grant for this run alone, see `midplane grant allow --help`; repeatable
    #[arg(long, value_name = "GRANT", value_parser = values::grant)]
    allow: Vec<Grant>,
    /// Print the answer only
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,
}

const AFTER_HELP: &str = "\
Task file:
  YAML or JSON with the fields goal, task_id, system, model, reasoning_effort, workspace {path, access: read |
  read-write}, mcp_servers [{name, command, args, env, secret_env} or {name, url, secret, header}], permissions
  {mode, filesystem, allowed_tools, disallowed_tools, network, native_profile}, max_rounds, budget_usd, timeout_ms
  or deadline (an instant with its time zone), session_id, transcript, output_schema, attachments [{kind, name,
  path}], sdk_executions, metadata. Unknown fields are refused. An option beside it replaces the field; `--metadata`
  adds keys.

Events:
  With `--json` each line is one object: run_id, seq (1, 2, ...), t_ms (milliseconds since 1970 UTC), kind, data.
  Kinds: runtime_started, assistant_text, tool_request, tool_response, skill_loaded, file_uploaded, notification
  (with data.type), stream_error, and at the end runtime_terminal, whose data is the outcome.";

/// Runs that are refused for missing grants are asked about so often; a plugin cannot make it go on for ever.
const PROMPTS_MAX: usize = 4;

pub(crate) async fn run(app: &App, args: RunArgs) -> anyhow::Result<Exit> {
    // Heard from here on: before there is a run, a signal ends the command.
    let signals = Signals::listen(app.interactive)?;
    let task = args.task.task(&mut Inputs::here()?)?;
    let mut person = Person::here();
    let (asker, mut questions) = ToTerminal::new();
    let asker = app.interactive.then(|| Arc::new(asker) as Arc<dyn Asker>);
    let waits = (app.rich && !args.quiet).then(|| terminal::waiting(format!("preparing `{}`", args.profile)));
    let host = app.host_with(asker).await?;
    let profile = args.profile;
    let start = async |allow: &[Grant]| {
        host.run(RunRequest { profile: profile.clone(), task: task.clone(), allow: allow.to_vec() }).await
    };
    let run = admitted(app, &host, &profile, args.allow, &mut person, start).await;
    drop(waits);
    let mut run = run?;
    signals.attach(&host, run.id());
    let mut renderer = renderer(app, args.quiet);
    let ended = followed(&host, &mut run, renderer.as_mut(), &mut questions, &mut person).await;
    drop(renderer);
    host.shutdown().await;
    let outcome = ended?;
    if let (true, Some(error)) = (args.quiet, &outcome.error) {
        exit::complain(error);
    }
    Ok(Exit::of_reason(outcome.finish_reason))
}

/// A run that may begin; what is missing is asked for where there is someone to ask.
pub(crate) async fn admitted(
    app: &App,
    host: &Host,
    profile: &str,
    mut allow: Vec<Grant>,
    person: &mut Person,
    mut start: impl AsyncFnMut(&[Grant]) -> Result<Run, Box<Refusal>>,
) -> anyhow::Result<Run> {
    for _ in 0..PROMPTS_MAX {
        let refusal = match start(&allow).await {
            Ok(run) => return Ok(run),
            Err(refusal) => refusal,
        };
        if !app.interactive || refusal.missing.is_empty() {
            return Err((*refusal).into());
        }
        screen::clear();
        let view = host.profile(profile).await?;
        let Some(answers) = ask::grants(person, &view, &refusal.missing).await else {
            return Err((*refusal).into());
        };
        for (grant, answer) in answers {
            match answer {
                Answer::Always => {
                    host.allow(profile, &grant).await?;
                }
                Answer::Once => allow.push(grant),
                // A no has ended the questions.
                Answer::No => return Err((*refusal).into()),
            }
        }
    }
    start(&allow).await.map_err(|refusal| (*refusal).into())
}

pub(crate) fn renderer(app: &App, quiet: bool) -> Box<dyn Renderer> {
    if app.json {
        return Box::new(Lines::new(io::stdout()));
    }
    match (quiet, app.rich) {
        (true, _) => Box::new(Plain::new(io::stdout(), Amount::Answer)),
        (false, true) => Box::new(Terminal::stdout(app.verbose)),
        (false, false) => Box::new(Plain::new(io::stdout(), if app.verbose { Amount::All } else { Amount::Usual })),
    }
}

/// Shows a run until its end; one that cannot be shown any more is ended.
pub(crate) async fn followed(
    host: &Host,
    run: &mut Run,
    renderer: &mut dyn Renderer,
    questions: &mut mpsc::Receiver<Question>,
    person: &mut Person,
) -> anyhow::Result<Outcome> {
    match follow(host, run, renderer, questions, person).await {
        Ok(outcome) => Ok(outcome),
        Err(error) => {
            // Nobody follows it any more, so it must not go on unseen.
            host.cancel(run.id()).await?;
            let outcome = run.outcome().await?;
            if exit::is_broken_pipe(&error) { Ok(outcome) } else { Err(error) }
        }
    }
}

/// Shows a run until its terminal has been shown.
async fn follow(
    host: &Host,
    run: &mut Run,
    renderer: &mut dyn Renderer,
    questions: &mut mpsc::Receiver<Question>,
    person: &mut Person,
) -> anyhow::Result<Outcome> {
    let mut pages = pages(host.subscribe(run.id(), 1).await?);
    let mut outcome = None;
    loop {
        tokio::select! {
            page = pages.recv() => {
                // The page with the terminal is the last one.
                let Some(page) = page else { break };
                for record in &page? {
                    renderer.record(record)?;
                }
            }
            // Seen apart from the log, whose end never comes if it can no longer be written.
            ended = run.outcome(), if outcome.is_none() => outcome = Some(ended?),
            Some(question) = questions.recv() => {
                renderer.pause()?;
                ask::approval(person, question).await;
                renderer.resume();
            }
        }
    }
    match outcome {
        Some(outcome) => Ok(outcome),
        None => Ok(run.outcome().await?),
    }
}

/// Pages that wait to be shown; more stay in the log.
const PAGES_MAX: usize = 8;

/// The records of a run, read by a task of its own until the terminal.
pub(crate) fn pages(mut subscription: Subscription) -> mpsc::Receiver<midplane::core::Result<Vec<Record>>> {
    let (send, pages) = mpsc::channel(PAGES_MAX);
    tokio::spawn(async move {
        loop {
            let page = match subscription.next().await {
                Ok(Some(page)) => Ok(page),
                Ok(None) => return,
                Err(error) => Err(error),
            };
            let last =
                page.as_ref().map_or(true, |page| page.iter().any(|record| record.kind == EventKind::RuntimeTerminal));
            if send.send(page).await.is_err() || last {
                return;
            }
        }
    });
    pages
}
