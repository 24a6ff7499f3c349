//! `midplane session attach`: one run of the agent, or one shell, in a session.

use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::time::Duration;

use midplane::core::deploy::record::SessionMode;
use midplane::core::outcome::Outcome;
use midplane::core::permission::Grant;
use midplane::core::task::Task;
use midplane::core::{Error, Result};
use midplane::{Asker, Attached, Host, ShellEnd, ShellIo};
use tokio::sync::mpsc;

use super::terminal;
use crate::app::App;
use crate::ask::{Person, Question, ToTerminal};
use crate::commands::run::{admitted, followed, renderer};
use crate::exit::{self, Exit};
use crate::screen;
use crate::signals::Signals;
use crate::values::{self, Inputs, Source};

/// Work in a session: give its agent a prompt, or open its shell
#[derive(Debug, clap::Args)]
pub(crate) struct AttachArgs {
    #[command(flatten)]
    session: super::SessionArg,
    /// What its agent is to do, in autopilot; `@FILE` reads a file, `-` standard input. It goes on with the conversation of the
    /// session
    #[arg(value_name = "PROMPT|@FILE|-")]
    prompt: Option<Source>,
    /// Begin another conversation with the vendor
    #[arg(long)]
    anew: bool,
    /// Model, in the vendor's words
    #[arg(long)]
    model: Option<String>,
    /// Most time that it may take, within that of the session
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    timeout: Option<Duration>,
    /// Most model turns
    #[arg(long, value_name = "N")]
    max_turns: Option<u32>,
    /// Most that it may cost, in US dollars
    #[arg(long, value_name = "AMOUNT")]
    budget_usd: Option<f64>,
    /// Grant for this run alone, see `midplane grant allow --help`; repeatable
    #[arg(long, value_name = "GRANT", value_parser = values::grant)]
    allow: Vec<Grant>,
    /// Print the answer only
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,
}

pub(crate) async fn run(app: &App, args: AttachArgs) -> anyhow::Result<Exit> {
    let (asker, questions) = ToTerminal::new();
    let asker = app.interactive.then(|| Arc::new(asker) as Arc<dyn Asker>);
    let host = app.host_with(asker).await?;
    let mut attached = host.session_attach(&args.session.id).await?;
    // As JSON `session list` says it; here it would stand between documents.
    for open in attached.not_enforced().iter().filter(|_| !app.json) {
        screen::note(&format!("not enforced here: {open}"));
    }
    let done = match attached.session().mode {
        SessionMode::Autopilot => prompted(app, &host, &mut attached, args, questions).await,
        SessionMode::Interactive => shell(&mut attached, &args).await,
    };
    let reason = match &done {
        Ok((_, reason)) => reason.clone(),
        Err(error) => format!("nothing was done: {error:#}"),
    };
    let closed = attached.close(&reason).await;
    host.shutdown().await;
    let (exit, _) = done?;
    closed?;
    Ok(exit)
}

/// What the command ends with, and what is kept of it.
type Done = anyhow::Result<(Exit, String)>;

async fn prompted(
    app: &App,
    host: &Host,
    attached: &mut Attached,
    args: AttachArgs,
    mut questions: mpsc::Receiver<Question>,
) -> Done {
    // Before there is a run, a signal ends the command, and the session is taken up by the next one.
    let signals = Signals::listen(app.interactive)?;
    let prompt = args.prompt.as_ref().map(|prompt| prompt.read(&mut Inputs::here()?, "the prompt")).transpose()?;
    let task = Task {
        model: args.model,
        timeout_ms: args.timeout.map(values::millis),
        max_rounds: args.max_turns,
        budget_usd: args.budget_usd,
        ..Task::new(attached.prompt(prompt)?)
    };
    let profile = attached.session().profile.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut person = Person::here();
    let start = async |allow: &[Grant]| attached.run(task.clone(), allow.to_vec(), args.anew).await;
    let mut run = admitted(app, host, &profile, args.allow, &mut person, start).await?;
    signals.attach(host, run.id());
    let mut renderer = renderer(app, args.quiet);
    let ended = followed(host, &mut run, renderer.as_mut(), &mut questions, &mut person).await;
    drop(renderer);
    let Outcome { finish_reason, error, .. } = ended?;
    if let (true, Some(error)) = (args.quiet, &error) {
        exit::complain(error);
    }
    Ok((Exit::of_reason(finish_reason), format!("run {} ended: {}", run.id(), finish_reason.as_str())))
}

async fn shell(attached: &mut Attached, args: &AttachArgs) -> Done {
    let id = attached.id().to_owned();
    if args.prompt.is_some() {
        // The error that a prompt would have, too.
        attached.prompt(None)?;
    }
    refuse_options_of_a_run(args, &id)?;
    let size = if io::stdin().is_terminal() && io::stdout().is_terminal() { terminal::size() } else { None };
    let mut shell = attached.shell(size).await?;
    if size.is_some() {
        screen::note(&format!("session {id}: a shell in {}; `exit` leaves it", attached.session().workspace));
    }
    let end = match shell.io() {
        Some(ShellIo::Terminal(outer)) => terminal::through(outer, shell.ended(attached)).await?,
        Some(ShellIo::Pipes { stdin, stdout, stderr }) => {
            terminal::piped(stdin, stdout, stderr, shell.ended(attached)).await?
        }
        None => Some(shell.ended(attached).await),
    };
    let sandbox = shell.sandbox().to_owned();
    // What is dropped ends, with all that it started.
    drop(shell);
    let (exit, reason) = match end {
        Some(end) => (exit_of(&end), end.to_string()),
        None => (Exit::Interrupted, "the command was interrupted".to_owned()),
    };
    if matches!(exit, Exit::TimedOut | Exit::Interrupted) {
        screen::note(&reason);
    }
    Ok((exit, format!("{reason}; sandbox: {sandbox}")))
}

fn exit_of(end: &ShellEnd) -> Exit {
    match end {
        ShellEnd::Code(0) => Exit::Done,
        ShellEnd::Code(_) | ShellEnd::Signal(_) => Exit::Failed,
        ShellEnd::TimedOut => Exit::TimedOut,
        ShellEnd::Stopped => Exit::Interrupted,
    }
}

/// An option that would mean nothing is not passed over.
fn refuse_options_of_a_run(args: &AttachArgs, id: &str) -> Result<()> {
    let given = [
        ("--anew", args.anew),
        ("--model", args.model.is_some()),
        ("--timeout", args.timeout.is_some()),
        ("--max-turns", args.max_turns.is_some()),
        ("--budget-usd", args.budget_usd.is_some()),
        ("--allow", !args.allow.is_empty()),
        ("--quiet", args.quiet),
    ];
    match given.iter().find(|(_, given)| *given) {
        Some((name, _)) => {
            let message = format!("`{name}` is for a run, and session `{id}` is interactive");
            Err(Error::invalid("session-mode", message).hint("leave it out"))
        }
        None => Ok(()),
    }
}
