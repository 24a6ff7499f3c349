//! `midplane session`: lasting workspaces with an agent.
//!
//! `session/attach.rs` works in one: a run of its agent, or its shell; `session/terminal.rs` passes this terminal through.

mod attach;
mod terminal;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use midplane::SessionView;
use midplane::core::deploy::record::{AgentType, SessionConstraints, SessionMode};
use midplane::core::deploy::session::SessionState;
use midplane::core::session::config::SandboxConfig;
use midplane::core::session::{Session, SessionRequest};
use midplane::core::{Error, Result};

use crate::app::App;
use crate::exit::Exit;
use crate::render::table::{Table, fields};
use crate::render::units;
use crate::values::{self, Inputs, Source, Switch};

/// Start, attach to, stop, destroy and list sessions: lasting workspaces with an agent
#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// Start a session and print its id; nothing runs in it yet
    Start(Box<StartArgs>),
    /// Work in a session: give its agent a prompt, or open its shell
    Attach(attach::AttachArgs),
    /// End what works in a session, whichever process does; it can be attached again
    Stop {
        #[command(flatten)]
        session: SessionArg,
    },
    /// Remove a session with its workspace and its home; the logs of its runs stay
    Destroy {
        #[command(flatten)]
        session: SessionArg,
        /// Also while a command is attached, which is ended
        #[arg(long)]
        force: bool,
    },
    /// List sessions
    List {
        /// Also those that were destroyed
        #[arg(long)]
        all: bool,
    },
}

/// Which session is meant.
#[derive(Debug, clap::Args)]
pub(crate) struct SessionArg {
    /// Its id, the beginning of it, or its name
    #[arg(value_name = "SESSION")]
    id: String,
}

/// What a session is to be.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct StartArgs {
    /// The agent; it is driven by the profile of that name (`claude-code`, `codex`, `gemini`), `custom` by the one of
    /// `--profile`
    #[arg(long)]
    agent: Option<Agent>,
    /// Whether the agent works by itself on prompts, or a person in a shell
    #[arg(long, default_value = "autopilot")]
    mode: Mode,
    /// The profile that drives the agent, see `midplane profile list`
    #[arg(long)]
    profile: Option<String>,
    /// A name to call it by
    #[arg(long)]
    name: Option<String>,
    /// A folder of yours to work in, which is never removed; without it one is made, and goes with the session
    #[arg(long, value_name = "DIR")]
    workspace: Option<PathBuf>,
    /// What the agent is asked when it is first attached without a prompt; `@FILE` reads a file, `-` standard input
    #[arg(long, value_name = "TEXT|@FILE|-")]
    prompt: Option<Source>,
    /// Sandbox configuration, YAML or JSON; options replace its fields
    #[arg(long, value_name = "FILE")]
    sandbox: Option<PathBuf>,
    /// Only this host, `*.NAME` for all below a name, or this address; repeatable
    #[arg(long, value_name = "DOMAIN")]
    allow_domain: Vec<String>,
    /// Only what is in this folder may be changed: relative to the workspace, or absolute; repeatable [default: .]
    #[arg(long, value_name = "PATH")]
    write_path: Vec<String>,
    /// This folder may not be changed; repeatable
    #[arg(long, value_name = "PATH")]
    deny_write_path: Vec<String>,
    /// A TCP port that programs may listen on, and connect to where the network is not open; repeatable
    /// [default: 3000, 8080]
    #[arg(long, value_name = "PORT")]
    port: Vec<u16>,
    /// Most time that one command may be attached, such as `30s`, `5m`, `1h` [default: 1h]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    timeout: Option<Duration>,
    /// Whether programs may use the network [default: on]
    #[arg(long)]
    network: Option<Switch>,
    /// Nothing is to be installed; needs `--network off`
    #[arg(long)]
    no_install: bool,
    /// Nothing is to be deployed
    #[arg(long)]
    no_deploy: bool,
}

const AFTER_HELP: &str = "\
What holds in a session:
  domains      the profile's `http:` grants are cut down to these hosts, and what its plugin asks for there is granted;
               programs connect to nothing but a proxy of the host that lets these hosts through (HTTPS_PROXY), what the
               host serves on loopback, and the ports
  write paths  file tools and programs change nothing else but the session's own home
  ports        programs listen on no other port
  time         the run or the shell is ended
  Programs are confined by the kernel (Landlock); what this one does not enforce is said at the start and at each attach.
  Nothing in a session can deploy, with `--no-deploy` or without.

Sandbox configuration:
  agent: claude-code
  guardrails:
    network: { enabled: true, allow_domains: [api.example.com, '*.example.org'] }
    allow_write_paths: [.]
    deny_write_paths: []
    timeout_minutes: 60
  port_mappings: { 3000: 3000 }
  What cannot be enforced is refused: a template, a port with two numbers, a denied path in an allowed one.";

/// Agents as words of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Agent {
    ClaudeCode,
    Codex,
    Gemini,
    Custom,
}

impl From<Agent> for AgentType {
    fn from(agent: Agent) -> Self {
        match agent {
            Agent::ClaudeCode => Self::ClaudeCode,
            Agent::Codex => Self::Codex,
            Agent::Gemini => Self::Gemini,
            Agent::Custom => Self::Custom,
        }
    }
}

/// Modes as words of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// `attach` gives the agent a prompt
    Autopilot,
    /// `attach` opens a shell
    Interactive,
}

impl From<Mode> for SessionMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Autopilot => Self::Autopilot,
            Mode::Interactive => Self::Interactive,
        }
    }
}

pub(crate) async fn run(app: &App, command: SessionCommand) -> anyhow::Result<Exit> {
    match command {
        SessionCommand::Start(args) => {
            let request = args.request(&mut Inputs::here()?)?;
            let view = app.host().await?.session_start(request).await.map_err(|refusal| *refusal)?;
            app.answer(&view, || started(&view))?;
        }
        SessionCommand::Attach(args) => return attach::run(app, args).await,
        SessionCommand::Stop { session } => {
            let view = app.host().await?.session_stop(&session.id, "it was stopped by `midplane session stop`").await?;
            app.answer(&view, || format!("{} {}", view.id, view.state))?;
        }
        SessionCommand::Destroy { session, force } => {
            let view = app.host().await?.session_destroy(&session.id, force).await?;
            app.answer(&view, || format!("{} {}", view.id, view.state))?;
        }
        SessionCommand::List { all } => {
            let views = app.host().await?.sessions(all).await?;
            app.answer(&views, || list(&views, units::now_ms()))?;
        }
    }
    Ok(Exit::Done)
}

impl StartArgs {
    /// The request: a file's fields with the options put over them.
    fn request(&self, inputs: &mut Inputs<'_>) -> Result<SessionRequest> {
        let mut sandbox = match &self.sandbox {
            Some(file) => {
                SandboxConfig::parse(&inputs.file(file, "the sandbox configuration")?, &file.display().to_string())?
            }
            None => SandboxConfig::default(),
        };
        if let Some(agent) = self.agent {
            sandbox.agent = agent.into();
        }
        if !self.allow_domain.is_empty() {
            sandbox.guardrails.network.allow_domains = Some(self.allow_domain.clone());
        }
        if !self.write_path.is_empty() {
            sandbox.guardrails.allow_write_paths.clone_from(&self.write_path);
        }
        if !self.deny_write_path.is_empty() {
            sandbox.guardrails.deny_write_paths.clone_from(&self.deny_write_path);
        }
        if !self.port.is_empty() {
            sandbox.port_mappings = self.port.iter().map(|port| (*port, *port)).collect();
        }
        if let Some(network) = self.network {
            sandbox.guardrails.network.enabled = network == Switch::On;
        }
        let folder = self.workspace.as_ref().map(|folder| {
            let joined = inputs.folder.join(folder);
            std::path::absolute(&joined).unwrap_or(joined)
        });
        let not_text = || Error::invalid("session-folder", "the path of the workspace is not UTF-8");
        Ok(SessionRequest {
            name: self.name.clone(),
            mode: self.mode.into(),
            profile: self.profile.clone(),
            workspace: folder
                .map(|folder| folder.into_os_string().into_string().map_err(|_| not_text()))
                .transpose()?,
            prompt: self.prompt.as_ref().map(|prompt| prompt.read(inputs, "the prompt")).transpose()?,
            sandbox,
            timeout_ms: self.timeout.map(values::millis),
            constraints: SessionConstraints {
                allow_deploy: !self.no_deploy,
                allow_network: true,
                allow_install: !self.no_install,
            },
        })
    }
}

fn started(view: &SessionView) -> String {
    let Some(session) = &view.session else { return view.id.clone() };
    let mut rows = vec![("session", view.id.clone())];
    rows.extend(session.name.clone().map(|name| ("name", name)));
    rows.extend([
        ("agent", agent(session)),
        ("mode", session.mode.as_str().to_owned()),
        ("workspace", session.workspace.clone()),
        ("domains", domains(session)),
        ("changes", join(&session.reach.write)),
        ("ports", join(&session.reach.ports)),
        ("time", units::duration(session.reach.timeout_ms)),
    ]);
    rows.extend(view.not_enforced.iter().map(|open| ("not enforced", open.clone())));
    let prompt = match session.mode {
        SessionMode::Autopilot if session.prompt.is_none() => " PROMPT",
        _ => "",
    };
    rows.push(("next", format!("midplane session attach {}{prompt}", session.name.as_ref().unwrap_or(&view.id))));
    fields(&rows)
}

fn agent(session: &Session) -> String {
    let profile = session.profile.as_ref().map(ToString::to_string).filter(|name| name != session.agent.as_str());
    profile.map_or_else(|| session.agent.as_str().to_owned(), |name| format!("{} ({name})", session.agent.as_str()))
}

fn domains(session: &Session) -> String {
    match &session.reach.domains {
        _ if !session.reach.network => "none for programs: the network is off".to_owned(),
        None => "as the profile is granted".to_owned(),
        Some(domains) => join(domains),
    }
}

fn join<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let texts: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}

fn list(views: &[SessionView], now_ms: u64) -> String {
    let mut table = Table::new(["SESSION", "NAME", "AGENT", "MODE", "STATE", "SINCE", "WHY"]);
    for view in views {
        let session = view.session.as_ref();
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let state = if view.attached && view.state == SessionState::Running { "attached" } else { view.state.as_str() };
        table.row([
            view.id.clone(),
            or_none(session.and_then(|session| session.name.clone())),
            or_none(session.map(agent)),
            or_none(session.map(|session| session.mode.as_str().to_owned())),
            state.to_owned(),
            units::ago(view.updated_ms, now_ms),
            midplane::core::text::shown(&view.reason, 60),
        ]);
    }
    table.text("there are no sessions; `midplane session start` makes one")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        args: StartArgs,
    }

    #[test]
    fn options_over_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = "agent: gemini\nguardrails: {network: {allow_domains: [a.example]}, timeout_minutes: 5}\nport_mappings: {9000: 9000}\n";
        std::fs::write(folder.path().join("sandbox.yaml"), file).expect("a file");
        std::fs::write(folder.path().join("wrong.yaml"), "guardrails: {domains: [a]}\n").expect("a file");
        let shown = |words: &[&str]| {
            let words = std::iter::once(&"start").chain(words);
            let args = Only::try_parse_from(words).expect("arguments").args;
            let request = args.request(&mut Inputs { folder: folder.path().into(), stdin: None });
            let text = match request {
                Ok(request) => format!("{request:#?}"),
                Err(error) => {
                    format!("{} {}: {error}\n{}", error.kind, error.code, error.hint.as_deref().unwrap_or_default())
                }
            };
            text.replace(folder.path().to_str().expect("text"), "[here]")
        };
        insta::assert_snapshot!(
            [
                shown(&[]),
                shown(&["--sandbox", "sandbox.yaml", "--workspace", "src", "--name", "n"]),
                shown(&[
                    "--sandbox",
                    "sandbox.yaml",
                    "--agent",
                    "codex",
                    "--allow-domain",
                    "b.example",
                    "--write-path",
                    "out",
                    "--deny-write-path",
                    "src",
                    "--port",
                    "1",
                    "--timeout",
                    "30s",
                    "--network",
                    "off",
                    "--no-install",
                    "--no-deploy",
                    "--mode",
                    "interactive",
                    "--prompt",
                    "do it",
                    "--profile",
                    "mine",
                ]),
                shown(&["--sandbox", "wrong.yaml"]),
            ]
            .join("\n\n")
        );
    }
}
