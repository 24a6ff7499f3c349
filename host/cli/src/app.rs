//! What every command stands on: where state is, what is printed how, and the host.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;

use midplane::core::Error;
use midplane::core::layers::Refused;
use midplane::core::telemetry::settings::{Service, Settings};
use midplane::identity::{Stated, identify};
use midplane::{Asker, Config, Embedded, FIRST_PARTY, Host, Paths, RuntimeContext, Selection, Sources};
use serde::Serialize;

use crate::cli::Global;

/// The surroundings of one command.
pub(crate) struct App {
    /// Where state is.
    pub(crate) paths: Paths,
    /// Whether JSON is wanted.
    pub(crate) json: bool,
    /// Whether the person wants to see what is going on inside.
    pub(crate) verbose: bool,
    /// Whether standard output is a terminal that can move its cursor, and JSON is not wanted.
    pub(crate) rich: bool,
    /// Whether a person can be asked.
    pub(crate) interactive: bool,
}

/// Where colours are wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Colours {
    /// On standard error.
    pub(crate) stderr: bool,
    stdout: bool,
}

/// Whether colours are wanted: never against `--no-color` or `NO_COLOR`, and only on terminals.
pub(crate) fn colours(no_color: bool) -> Colours {
    // https://no-color.org: present and not empty, whatever its value.
    let refused = no_color || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) || is_dumb();
    Colours { stderr: !refused && io::stderr().is_terminal(), stdout: !refused && io::stdout().is_terminal() }
}

fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb")
}

impl App {
    pub(crate) fn new(global: &Global, colours: Colours) -> anyhow::Result<Self> {
        console::set_colors_enabled(colours.stdout);
        console::set_colors_enabled_stderr(colours.stderr);
        let terminal = io::stdout().is_terminal() && !global.json;
        Ok(Self {
            paths: Paths::from_env(|name| std::env::var_os(name))?,
            json: global.json,
            verbose: global.log.is_verbose(),
            rich: terminal && !is_dumb(),
            interactive: terminal && io::stdin().is_terminal() && io::stderr().is_terminal(),
        })
    }

    /// The host, with the operator's configuration and the plugins that come with the command.
    pub(crate) async fn host(&self) -> anyhow::Result<Host> {
        self.host_with(None).await
    }

    /// The host, with someone who answers a vendor's questions.
    pub(crate) async fn host_with(&self, asker: Option<Arc<dyn Asker>>) -> anyhow::Result<Host> {
        let mut builder = Host::builder().context(&self.context(&Stated::default())?);
        match std::env::current_exe() {
            Ok(helper) => builder = builder.helper(helper),
            // Only what must be compiled in a worker is refused then, and says so.
            Err(error) => tracing::warn!(%error, "the path of this program is not known"),
        }
        for plugin in first_party() {
            builder = builder.plugin(*plugin);
        }
        if let Some(asker) = asker {
            builder = builder.asker(asker);
        }
        let service = Service { name: "midplane".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
        builder = builder.telemetry(Settings::from_env(|name| std::env::var(name).ok(), service));
        Ok(builder.open().await?)
    }

    /// The configuration for the identity of this process.
    pub(crate) fn config(&self) -> Result<Config, Error> {
        Ok(self.context(&Stated::default())?.config().clone())
    }

    /// The context of this process, by what is stated of its identity.
    pub(crate) fn context(&self, stated: &Stated) -> Result<RuntimeContext, Error> {
        let builder = RuntimeContext::builder(identify(stated)?).home(self.paths.clone());
        match std::env::current_dir() {
            Ok(folder) => builder.project_of(&folder),
            // A folder that is gone is part of no project.
            Err(_) => builder,
        }
        .build()
    }

    /// The blocks of configuration that the identity of this process selects.
    pub(crate) fn selection(&self) -> Result<Selection, Error> {
        Ok(identify(&Stated::default())?.selection())
    }

    /// The configuration for an identity, with assignments of the command line.
    pub(crate) fn config_for(&self, selection: &Selection, assignments: &[String]) -> Result<Config, Refused> {
        let sources = Sources::new(&self.paths.config);
        let sources = match std::env::current_dir() {
            Ok(folder) => sources.project_of(&folder),
            // A folder that is gone is part of no project.
            Err(_) => sources,
        };
        Config::load(&sources, selection, assignments, &|name| std::env::var(name).ok())
    }

    /// Prints text to standard output.
    pub(crate) fn print(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        if !text.is_empty() && !text.ends_with('\n') {
            out.write_all(b"\n")?;
        }
        out.flush()
    }

    /// Prints the one JSON document of a command, or its text.
    pub(crate) fn answer<T: Serialize>(&self, document: &T, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        if self.json {
            self.print(&serde_json::to_string_pretty(document)?)?;
        } else {
            self.print(&text())?;
        }
        Ok(())
    }
}

/// The plugins that come with the command.
pub(crate) fn first_party() -> &'static [Embedded] {
    FIRST_PARTY
}
