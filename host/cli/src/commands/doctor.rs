//! `midplane doctor`: is this installation sound, and could a run under each profile succeed.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use console::Style;
use midplane::Host;
use midplane::core::agent::readiness::probe_time;
use midplane::core::{Error, Result};
use midplane::readiness::{Part, ProfileReadiness};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::app::App;
use crate::exit::Exit;
use crate::render::table::Table;

/// Check this installation, and whether each profile could run
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// Ask the vendors, too
    #[arg(long)]
    probe: bool,
    /// How long each vendor may take to answer
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds, requires = "probe")]
    timeout: Duration,
    /// Only whether each agent could run, and why not
    #[arg(long)]
    agents: bool,
}

/// How long the worker may take to say that it is there.
const HELPER: Duration = Duration::from_secs(10);

/// All that was found.
#[derive(Debug, Serialize)]
struct Report {
    checks: Vec<Check>,
    profiles: Vec<Profile>,
}

/// One thing that must be in order.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Error>,
}

/// Whether a profile could run, and what it rests on.
#[derive(Debug, Serialize)]
struct Profile {
    profile: String,
    status: &'static str,
    reason: String,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    package: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    metadata: Map<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<Part>,
}

pub(crate) async fn run(app: &App, args: DoctorArgs) -> anyhow::Result<Exit> {
    let mut report = Report { checks: Vec::new(), profiles: Vec::new() };
    if args.agents {
        let host = app.host().await?;
        report.profiles(&host, &args).await?;
        app.answer(&report.profiles, || report.text())?;
        return Ok(Exit::Done);
    }
    let paths = &app.paths;
    let folders = format!("data {}, cache {}", paths.data.display(), paths.cache.display());
    report.check("folders", folder(&paths.data).and_then(|()| folder(&paths.cache)).map(|()| folders));
    let file = paths.config_file();
    let found = if file.exists() { String::new() } else { " (not there: all is as by default)".to_owned() };
    report.check("configuration", app.config().map(|_| format!("{}{found}", file.display())));
    report.check("helper", helper().await);
    // What a kernel cannot do is no fault of the installation.
    report.check("children", Ok(format!("homes {}, sandbox {}", paths.homes().display(), midplane::child_sandbox())));
    match app.host().await {
        Ok(host) => {
            report.check("store", host.check_store().await.map(|()| "sound".to_owned()));
            report.check("plugins", plugins(&host).await);
            report.profiles(&host, &args).await?;
        }
        // The same as the configuration's, if that is what is wrong.
        Err(error) => match error.downcast::<Error>() {
            Ok(error) if !error.code.starts_with("config") => report.check("store", Err(error)),
            Ok(_) => {}
            Err(error) => return Err(error),
        },
    }
    app.answer(&report, || report.text())?;
    Ok(report.exit())
}

/// Whether files can be made in a folder.
fn folder(path: &Path) -> Result<()> {
    let failed = |error: std::io::Error| {
        Error::unavailable("folder", format!("`{}` cannot be written: {error}", path.display()))
            .hint("`MIDPLANE_HOME` names another folder for all state")
    };
    std::fs::create_dir_all(path).map_err(failed)?;
    let probe = path.join(format!(".doctor-{}", std::process::id()));
    std::fs::write(&probe, b"x").and_then(|()| std::fs::remove_file(&probe)).map_err(failed)
}

/// Whether the worker that compiles answers: without an order it says that it was given none.
async fn helper() -> Result<String> {
    let failed = |why: String| Error::unavailable("helper", format!("the worker {why}"));
    let program = std::env::current_exe().map_err(|error| failed(format!("cannot be found: {error}")))?;
    let output = tokio::process::Command::new(&program)
        .arg("helper")
        .env_clear()
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(HELPER, output)
        .await
        .map_err(|_| failed(format!("`{}` does not answer", program.display())))?
        .map_err(|error| failed(format!("`{}` cannot be started: {error}", program.display())))?;
    let verdict: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    match verdict.pointer("/error/code").and_then(Value::as_str) {
        Some("helper") => Ok(program.display().to_string()),
        _ => Err(failed(format!("`{}` gives no sensible answer", program.display()))),
    }
}

/// Whether the sandbox takes every plugin: each is compiled if need be, linked and instantiated.
async fn plugins(host: &Host) -> Result<String> {
    let plugins = host.plugins().await?;
    let count = plugins.len();
    match plugins.into_iter().find_map(|plugin| plugin.error.map(|error| (plugin.name, error))) {
        None => Ok(format!("{count} installed, all load")),
        Some((name, mut error)) => {
            error.message = format!("plugin `{name}` does not load: {}", error.message);
            Err(error)
        }
    }
}

impl Report {
    fn check(&mut self, name: &'static str, found: Result<String>) {
        self.checks.push(match found {
            Ok(detail) => Check { name, ok: true, detail, error: None },
            Err(error) => Check { name, ok: false, detail: error.message.clone(), error: Some(error) },
        });
    }

    async fn profiles(&mut self, host: &Host, args: &DoctorArgs) -> Result<()> {
        let probe = if args.probe { args.timeout } else { Duration::ZERO };
        for profile in host.profiles().await? {
            if args.agents && profile.kind.is_some_and(|kind| kind != "agent") {
                continue;
            }
            let name = profile.name.to_string();
            let found = match profile.error {
                Some(error) => Err(error),
                None => host.readiness(&name, probe).await,
            };
            self.profiles.push(Profile::new(name, found));
        }
        Ok(())
    }

    /// That a profile is not ready is no fault of the installation.
    fn exit(&self) -> Exit {
        self.checks.iter().find_map(|check| check.error.as_ref()).map_or(Exit::Done, Exit::of_error)
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for check in &self.checks {
            let (word, style) = if check.ok { ("ok", Style::new().green()) } else { ("failed", Style::new().red()) };
            let detail = midplane::core::text::escape_controls(&check.detail, false);
            text.push_str(&format!("{:<13}  {}  {detail}\n", check.name, style.apply_to(format!("{word:<6}"))));
            if let Some(hint) = check.error.as_ref().and_then(|error| error.hint.as_ref()) {
                text.push_str(&format!(
                    "{:<13}  {:<6}  hint: {}\n",
                    "",
                    "",
                    midplane::core::text::escape_controls(hint, false)
                ));
            }
        }
        if self.profiles.is_empty() {
            return text;
        }
        let mut table = Table::new(["PROFILE", "STATUS", "REASON", "MESSAGE"]);
        for profile in &self.profiles {
            let message = match (&profile.package, &profile.version) {
                (Some(package), Some(version)) => format!("{} ({package} {version})", profile.message),
                _ => profile.message.clone(),
            };
            table.row([profile.profile.clone(), profile.status.to_owned(), profile.reason.clone(), message]);
        }
        text.push('\n');
        text.push_str(&table.text(""));
        let mut table = Table::new(["PROFILE", "LACKS", "NAME", "WHY", "WHAT TO DO"]);
        let lacking = |profile: &Profile| {
            let parts = profile.parts.iter().filter(|part| !part.ok).cloned();
            parts.map(|part| (profile.profile.clone(), part)).collect::<Vec<_>>()
        };
        let lacking: Vec<(String, Part)> = self.profiles.iter().flat_map(lacking).collect();
        for (profile, Part { what, name, detail, hint, .. }) in &lacking {
            let hint = hint.clone().unwrap_or_default();
            table.row([profile.clone(), (*what).to_owned(), name.clone(), detail.clone(), hint]);
        }
        if !lacking.is_empty() {
            text.push('\n');
            text.push_str(&table.text(""));
        }
        text
    }
}

impl Profile {
    fn new(profile: String, found: Result<ProfileReadiness>) -> Self {
        match found {
            Ok(ProfileReadiness { readiness, parts }) => Self {
                profile,
                status: readiness.status.as_str(),
                reason: readiness.reason.as_str().to_owned(),
                message: readiness.message,
                package: readiness.package,
                version: readiness.version,
                metadata: readiness.metadata,
                parts,
            },
            Err(error) => Self {
                profile,
                status: "not-ready",
                reason: error.code.into_owned(),
                message: error.message,
                package: None,
                version: None,
                metadata: Map::new(),
                parts: Vec::new(),
            },
        }
    }
}

/// A time of the command line.
fn seconds(text: &str) -> std::result::Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "it is no number".to_owned())?;
    probe_time(seconds).map_err(|error| error.message)
}

#[cfg(test)]
mod tests {
    use midplane::core::agent::readiness::{Facts, Package, Probe, Readiness, Source, SourceState};

    use super::*;

    #[test]
    fn a_report() {
        console::set_colors_enabled(false);
        let mut report = Report { checks: Vec::new(), profiles: Vec::new() };
        report.check("folders", Ok("data /d, cache /c".to_owned()));
        assert_eq!(report.exit(), Exit::Done);
        let sources = vec![Source { said: Map::new(), state: SourceState::Held }];
        let facts = Facts {
            kind: "openai".to_owned(),
            package: Package::There { name: Some("openai".to_owned()), version: Some("1.2".to_owned()) },
            lacks: None,
            sources,
            probe: Probe::None,
        };
        let part = |what, name: &str, ok, detail: &str, hint: Option<&str>| Part {
            what,
            name: name.to_owned(),
            ok,
            detail: detail.to_owned(),
            hint: hint.map(str::to_owned),
        };
        let parts = vec![
            part("program", "npx", false, "the program `npx` is not installed", Some("install it")),
            part("secret", "OPENAI_API_KEY", true, "env:OPENAI_API_KEY", None),
        ];
        let ready = ProfileReadiness { readiness: Readiness::of(&facts), parts };
        report.profiles.push(Profile::new("openai".to_owned(), Ok(ready)));
        report
            .profiles
            .push(Profile::new("odd".to_owned(), Err(Error::invalid("setting", "profile `odd`: \u{1b}[2J"))));
        report.check("store", Err(Error::invalid("store-damaged", "`db` is not a sound store").hint("move it away")));
        assert_eq!(report.exit(), Exit::Usage);
        insta::assert_snapshot!(report.text());
    }
}
