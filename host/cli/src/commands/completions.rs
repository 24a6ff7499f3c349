//! `midplane completions`: what a shell needs to complete this command line.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::app::App;
use crate::cli::Cli;
use crate::exit::Exit;

/// Print completions for a shell
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// For which shell
    shell: Shell,
}

pub(crate) fn run(app: &App, args: CompletionsArgs) -> anyhow::Result<Exit> {
    // Into memory first: the generator panics where a write fails.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "midplane", &mut script);
    app.print(&String::from_utf8(script)?)?;
    Ok(Exit::Done)
}
