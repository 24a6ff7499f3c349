//! One file a command: its arguments, and `run`, which does it and gives the exit code.

use crate::app::App;
use crate::cli::Command;
use crate::exit::Exit;

pub(crate) mod agents;
pub(crate) mod batch;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod context;
pub(crate) mod conversations;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod grant;
pub(crate) mod identity;
pub(crate) mod plugin;
pub(crate) mod profile;
pub(crate) mod requests;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod schema;
pub(crate) mod secret;
pub(crate) mod session;

/// Does what the command line says.
pub(crate) async fn run(app: &App, command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Run(args) => run::run(app, *args).await,
        Command::Runs(command) => runs::run(app, command).await,
        Command::Batch(command) => batch::run(app, command),
        Command::Agents(args) => agents::run(app, args).await,
        Command::Conversations(args) => conversations::run(app, args).await,
        Command::Plugin(command) => plugin::run(app, command).await,
        Command::Profile(command) => profile::run(app, command).await,
        Command::Grant(command) => grant::run(app, command).await,
        Command::Config(command) => config::run(app, &command),
        Command::Check(args) => check::run(app, &args),
        Command::Requests(command) => requests::run(app, command).await,
        Command::Explain(args) => explain::run(app, &args),
        Command::Schema(args) => schema::run(app, &args),
        Command::Identity(command) => identity::run(app, command).await,
        Command::Context(command) => context::run(app, command).await,
        Command::Secret(command) => secret::run(app, command).await,
        Command::Session(command) => session::run(app, command).await,
        Command::Doctor(args) => doctor::run(app, args).await,
        Command::Completions(args) => completions::run(app, args),
        // Done before there is an app.
        Command::Helper { arguments } => {
            Ok(if midplane::helper_main(&arguments) == 0 { Exit::Done } else { Exit::Failed })
        }
    }
}
