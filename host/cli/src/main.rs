//! The `midplane` command: the library `midplane` on a command line.
//!
//! # Layout
//! - [`cli`]: the arguments that all commands share; [`values`]: forms of option values; [`ndjson`]: lines of input
//! - [`commands`]: one file a command, each with its arguments and its `run`
//! - [`render`]: records of a run on a terminal, as plain lines, as JSON; tables, units
//! - [`app`]: where state is, what may be printed how; [`exit`]: errors and results as exit codes
//! - [`ask`]: questions to the person at the terminal; [`screen`]: what stands at its bottom line
//! - [`signals`]: Ctrl-C and SIGTERM; [`logging`]: log lines on standard error
//!
//! # What it never does
//! It decides nothing about runs, grants or plugins: it asks the library and shows the answer. It names neither the
//! sandbox nor the database. Text of a guest reaches a terminal only with its control characters escaped. A closed
//! standard output is an end, not a panic.

#![forbid(unsafe_code)]

mod app;
mod ask;
mod cli;
mod commands;
mod exit;
mod logging;
mod ndjson;
mod render;
mod screen;
mod signals;
mod values;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

use crate::app::App;
use crate::cli::{Cli, Command};
use crate::exit::Exit;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Helper { arguments } = &cli.command {
        // The worker talks JSON to the host that started it; logs, colours and a runtime would only disturb.
        return ExitCode::from(midplane::helper_main(arguments));
    }
    let colours = app::colours(cli.global.no_color);
    logging::init(&cli.global, colours.stderr);
    let json = cli.global.json;
    let exit = App::new(&cli.global, colours)
        .and_then(|app| start(&app, cli.command))
        .unwrap_or_else(|error| exit::report(&error, json));
    ExitCode::from(exit.code())
}

fn start(app: &App, command: Command) -> anyhow::Result<Exit> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the runtime cannot start")?;
    let result = runtime.block_on(commands::run(app, command));
    // A thread that still waits for a line at the terminal must not hold up the end.
    runtime.shutdown_background();
    result
}
