//! The command line as a whole: the commands, and what all of them share.

use clap::{Parser, Subcommand, ValueEnum};

use crate::commands::{
    agents, batch, check, completions, config, context, conversations, doctor, explain, grant, identity, plugin,
    profile, requests, run, runs, schema, secret, session,
};
use crate::logging::Filter;

/// Run agent tasks in sandboxed plugins
#[derive(Debug, Parser)]
#[command(name = "midplane", version, max_term_width = 100, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER_HELP: &str = "\
Exit codes:
  0    done
  1    failed, or out of turns or tokens
  2    usage: bad arguments, bad input, something that is not there
  3    denied (a grant or a secret is missing) or unsupported
  4    timed out
  130  interrupted

Environment:
  MIDPLANE_HOME  folder for all state, else the XDG folders
  MIDPLANE_LOG   as `--log`
  NO_COLOR       as `--no-color`";

/// What every command takes.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Log level (`off`, `error`, `warn`, `info`, `debug`, `trace`), or levels by target such as
    /// `warn,midplane_engine=trace`
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        env = "MIDPLANE_LOG",
        hide_env_values = true,
        default_value = "warn",
        value_parser = Filter::parse,
    )]
    pub(crate) log: Filter,
    /// Form of log lines, which go to standard error
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
    /// Print JSON: one object per event line for events, one document for all else
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print without colours
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object a line
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a task under a profile
    Run(Box<run::RunArgs>),
    /// List, follow, feed, cancel and remove runs
    #[command(subcommand)]
    Runs(runs::RunsCommand),
    /// Start, attach to, stop, destroy and list sessions: lasting workspaces with an agent
    #[command(subcommand)]
    Session(session::SessionCommand),
    /// Show what each agent can do, and what it refuses and why
    Agents(agents::AgentsArgs),
    /// List conversations with vendors that a run can go on with
    Conversations(conversations::ConversationsArgs),
    /// Check event batches
    #[command(subcommand)]
    Batch(batch::BatchCommand),
    /// List, add and remove plugins
    #[command(subcommand)]
    Plugin(plugin::PluginCommand),
    /// List profiles: plugins under a name, with settings and grants
    #[command(subcommand)]
    Profile(profile::ProfileCommand),
    /// List, give and take back grants
    #[command(subcommand)]
    Grant(grant::GrantCommand),
    /// Show the configuration, where each value comes from, and how identities differ
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Check manifest, requests, discovery and lock files; nothing is run
    Check(check::CheckArgs),
    /// Show what an agent asks to be changed in the manifest, and change it
    #[command(subcommand)]
    Requests(requests::RequestsCommand),
    /// Say what a code of an error or a problem means
    Explain(explain::ExplainArgs),
    /// Print the JSON Schema of a file
    Schema(schema::SchemaArgs),
    /// Show who runs where, and how that is known
    Identity(identity::IdentityCommand),
    /// Show what a program gets here: identity, folders, databases, names of secrets
    Context(context::ContextCommand),
    /// List secrets, and check whether they can be had
    #[command(subcommand)]
    Secret(secret::SecretCommand),
    /// Check this installation, and whether each profile could run
    Doctor(doctor::DoctorArgs),
    /// Print completions for a shell
    Completions(completions::CompletionsArgs),
    /// The host's own worker
    #[command(hide = true)]
    Helper {
        /// What it is told
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_of_each_command() {
        let mut command = Cli::command().term_width(100);
        command.build();
        let mut texts = Vec::new();
        collect(&mut command, &mut texts);
        // What all commands share stands in the first text, and there only.
        let first = texts[0].clone();
        let global = first
            .split("Global options:")
            .nth(1)
            .and_then(|rest| rest.split("\n\nExit codes:").next())
            .unwrap_or_default();
        let global = format!("Global options:{global}");
        assert!(texts.iter().all(|text| text.contains(&global)));
        texts.iter_mut().skip(1).for_each(|text| *text = text.replace(&global, "[global options]"));
        insta::assert_snapshot!(texts.join("\n"));
    }

    fn collect(command: &mut clap::Command, texts: &mut Vec<String>) {
        let name = command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned();
        texts.push(format!("======== {name} --help\n{}", command.render_long_help()));
        for sub in command.get_subcommands_mut().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
            collect(sub, texts);
        }
    }

    #[test]
    fn usage_errors() {
        let cases: &[&[&str]] = &[
            &["run"],
            &["run", "x"],
            &["run", "x", "--goal", "g", "--mode", "yolo"],
            &["run", "x", "--goal", "g", "--filesystem", "all"],
            &["run", "x", "--goal", "g", "--network", "yes"],
            &["run", "x", "--goal", "g", "--timeout", "soon"],
            &["run", "x", "--goal", "g", "--timeout", "-5"],
            &["run", "x", "--goal", "g", "--max-turns", "many"],
            &["run", "x", "--goal", "g", "--allow", "htp:https://h"],
            &["run", "x", "--goal", "g", "--attach", "notes.md"],
            &["run", "x", "--goal", "g", "--attach", "file:"],
            &["run", "x", "--goal", "g", "--metadata", "k"],
            &["run", "x", "--goal", "g", "--metadata", "{1}"],
            &["run", "x", "--goal", "g", "--json", "--quiet"],
            &["runs", "prune", "--older-than", "x"],
            &["grant", "allow", "x"],
            &["grant", "allow", "x", "shell", "--all"],
            &["--log", "loud", "doctor"],
        ];
        let shown: Vec<String> = cases
            .iter()
            .map(|words| {
                let error = Cli::try_parse_from(std::iter::once(&"midplane").chain(*words)).expect_err("a usage error");
                assert_eq!(error.exit_code(), 2, "{words:?}");
                let text = error.to_string();
                let text = text
                    .split("\n\nUsage:")
                    .next()
                    .unwrap_or_default()
                    .split("\n\nFor more")
                    .next()
                    .unwrap_or_default();
                format!("{}\n{}\n", words.join(" "), text.trim_end())
            })
            .collect();
        insta::assert_snapshot!(shown.join("\n"));
    }
}
