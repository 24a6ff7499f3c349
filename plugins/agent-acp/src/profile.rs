//! What differs between agents, as data: the rows of `profiles.json`, or the one that the setting `custom` holds.
//!
//! A row says how the program is started, how it is told the address and the token of its model's API, and what its own
//! words for permissions are. Nothing else in this crate names an agent.

use std::collections::BTreeMap;

use midplane_plugin::agent::{FilesystemAccess, PermissionMode, PermissionProfile};
use midplane_plugin::host::Command;
use midplane_plugin::program::version_in;
use midplane_plugin::settings::Endpoint;
use midplane_plugin::{Error, Host, Result, settings};
use serde::Deserialize;

/// The rows, by the value of the setting `agent`.
const PROFILES: &str = include_str!("profiles.json");

/// One row. In texts `{model}`, `{effort}`, `{url}`, `{token}` and `{ask}` (`ask` or `allow`) are filled in.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Profile {
    /// Its name for people.
    pub title: String,
    /// The program's usual name.
    pub program: String,
    /// Arguments that are always given, first.
    pub args: Vec<String>,
    /// The model where neither task nor settings name one; unset leaves it to the agent.
    pub model: Option<String>,
    /// Arguments that name the model, left out where there is none.
    pub model_args: Vec<String>,
    /// Variables that name the model, left out where there is none.
    pub model_env: BTreeMap<String, String>,
    /// Arguments that say how hard to think. Without them the task must leave it open.
    pub effort_args: Vec<String>,
    /// Variables that are always set.
    pub env: BTreeMap<String, String>,
    /// The endpoint of the manifest that it uses: `gemini`, `openai` or `anthropic`. Unset: its login is its own affair.
    pub api: Option<String>,
    /// Arguments that name the endpoint's address; never its token.
    pub endpoint_args: Vec<String>,
    /// Variables that give the endpoint's address and token.
    pub endpoint_env: BTreeMap<String, String>,
    /// Its words for permissions.
    pub modes: Modes,
    /// The variable that sets the mode; unset: the protocol does.
    pub mode_env: Option<String>,
    /// Arguments in place of a mode, by its word in `modes`, where the host's own sandbox is around the program and one
    /// of the program's would not work in it.
    pub confined_args: BTreeMap<String, Vec<String>>,
    /// The method of `authenticate`, where it demands one and needs no person.
    pub auth_method: Option<String>,
    /// Beginnings of what it says as if the model said it: warnings and notes of its own.
    pub asides: Vec<String>,
    /// What ends a tool's name at the beginning of a call's id.
    pub tool_name_end: Option<String>,
    /// How long it must have been silent after it loaded a session, in milliseconds, before the history is over.
    pub settle_ms: u32,
    /// Whether it tells what each request to its model used while a turn goes on (`_meta.usage`), so that the host can
    /// stop it when a budget is spent.
    pub counts_requests: bool,
    /// Whether it goes on when its input ends, so that it is not worth waiting for.
    pub ignores_eof: bool,
    /// How to install it.
    pub install: String,
    /// The oldest version that is known to do.
    pub version_min: Option<String>,
    /// What is particular about it, for whoever reads the table.
    pub note: String,
}

/// An agent's ids of its modes, by what the task allows. A missing one is refused, never replaced by a wider one.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Modes {
    /// Plans and reads; also used where nothing may be written.
    pub strict: Option<String>,
    /// The sensible middle. Missing: the mode in which the agent starts.
    pub default: Option<String>,
    /// Asks before each change.
    pub cautious: Option<String>,
    /// Asks for nothing inside of the workspace.
    pub permissive: Option<String>,
    /// Asks for nothing: permissive, with full access to files.
    pub full: Option<String>,
}

impl Profile {
    /// The row of the settings. Errors: `invalid` code `setting`.
    pub fn read(host: &dyn Host) -> Result<Self> {
        let agent = settings::text_required(host, "agent")?;
        let mut profile = if agent == "custom" {
            settings::parsed::<Self>(host, "custom")?.ok_or_else(|| {
                Error::invalid("setting", "setting `agent` is `custom` and setting `custom` has no value")
                    .hint("describe the agent there: `program`, `args`, `api`, `endpoint_env` and the rest")
            })?
        } else {
            let mut rows = table()?;
            let known: Vec<String> = rows.keys().map(|name| format!("`{name}`")).collect();
            rows.remove(&agent).ok_or_else(|| {
                let known = known.join(", ");
                Error::invalid(
                    "setting",
                    format!("setting `agent` is `{agent}`, which is none of {known} and `custom`"),
                )
            })?
        };
        if let Some(program) = settings::text(host, "program").filter(|program| !program.trim().is_empty()) {
            profile.program = program;
        }
        profile.check()?;
        Ok(profile)
    }

    /// What no row may say. Arguments can be read by other users of the machine, so a token must not stand there.
    fn check(&self) -> Result<()> {
        let wrong = |why: &str| Err(Error::invalid("setting", format!("the row of the agent {why}")));
        if self.program.trim().is_empty() {
            return wrong("names no `program`");
        }
        let args = [&self.args, &self.model_args, &self.effort_args, &self.endpoint_args];
        let args = args.into_iter().chain(self.confined_args.values());
        if args.flatten().any(|word| word.contains("{token}")) {
            return wrong("puts `{token}` on the argument vector; give it in `endpoint_env`");
        }
        match self.api.as_deref() {
            None if !self.endpoint_env.is_empty() || !self.endpoint_args.is_empty() => {
                wrong("has `endpoint_env` or `endpoint_args` without `api`")
            }
            None | Some("gemini" | "openai" | "anthropic") => Ok(()),
            Some(other) => wrong(&format!("has `api` `{other}`, not `gemini`, `openai` or `anthropic`")),
        }
    }

    /// The mode for what a task allows: its word in `modes`, and the agent's id. Errors: the field of the task that
    /// cannot be honoured, and why.
    pub fn mode(&self, allowed: &PermissionProfile) -> Result<(&'static str, Option<&str>), (&'static str, String)> {
        let modes = &self.modes;
        let read_only = allowed.filesystem == FilesystemAccess::ReadOnly;
        let full = allowed.filesystem == FilesystemAccess::FullAccess;
        let (word, mode) = match allowed.mode {
            PermissionMode::Permissive if read_only => {
                let why = "an agent that asks for nothing cannot be kept from writing; take mode `strict` or `default`";
                return Err(("permissions.filesystem", why.to_owned()));
            }
            PermissionMode::Strict => ("strict", &modes.strict),
            _ if read_only => ("strict", &modes.strict),
            PermissionMode::Default => return Ok(("default", modes.default.as_deref())),
            PermissionMode::Cautious => ("cautious", &modes.cautious),
            PermissionMode::Permissive if full => ("full", &modes.full),
            PermissionMode::Permissive => ("permissive", &modes.permissive),
        };
        if mode.is_some() {
            return Ok((word, mode.as_deref()));
        }
        let title = self.title();
        if read_only && allowed.mode != PermissionMode::Strict {
            let why = format!("{title} has no mode in its row that only reads; take `workspace-write`");
            return Err(("permissions.filesystem", why));
        }
        Err(("permissions.mode", format!("{title} has no mode for `{word}` in its row; take mode `default`")))
    }

    /// How the program is started.
    pub fn command(&self, start: &Start<'_>) -> Command {
        let mut command =
            Command { argv: vec![self.program.clone()], cwd: None, env: Vec::new(), secret_env: Vec::new() };
        command.argv.extend(self.args.iter().cloned());
        let mut add = |args: &[String], env: &BTreeMap<String, String>| {
            command.argv.extend(args.iter().map(|word| start.fill(word)));
            command.env.extend(env.iter().map(|(name, value)| (name.clone(), start.fill(value))));
        };
        add(&[], &self.env);
        if start.endpoint.is_some() {
            add(&self.endpoint_args, &self.endpoint_env);
        }
        if start.model.is_some() {
            add(&self.model_args, &self.model_env);
        }
        if let Some(confined) = start.confined {
            add(confined, &BTreeMap::new());
        }
        if start.effort.is_some() {
            add(&self.effort_args, &BTreeMap::new());
        }
        if let (Some(name), Some(mode)) = (&self.mode_env, start.mode) {
            command.env.push((name.clone(), mode.to_owned()));
        }
        command
    }

    /// All grants that it needs. A denial names the one that is missed first, and the next would take another run to find.
    #[must_use]
    pub fn needs(&self, host: &dyn Host) -> String {
        // As in `plugin.toml`: a program that the settings name stands there alone, one of a row with what makes it an agent.
        let own = settings::text(host, "program").is_some();
        let words: Vec<&str> =
            std::iter::once(&self.program).chain(self.args.first().filter(|_| !own)).map(String::as_str).collect();
        let mut all = vec![format!("command:{}", words.join(" "))];
        let names = |variables: &BTreeMap<String, String>| {
            variables.keys().map(|name| format!("env:{name}")).collect::<Vec<_>>()
        };
        all.extend([names(&self.env), names(&self.model_env)].concat());
        all.extend(self.mode_env.iter().map(|name| format!("env:{name}")));
        if let Some(api) = self.api.as_deref().filter(|_| settings::text(host, "login").as_deref() != Some("own")) {
            all.extend(names(&self.endpoint_env));
            all.extend(settings::text(host, &format!("{api}_url")).map(|url| format!("http:{url}")));
            all.push(format!("secret:{}_API_KEY", api.to_uppercase()));
        }
        format!("grant this profile `{}`", all.join("`, `"))
    }

    /// Its name for people.
    #[must_use]
    pub fn title(&self) -> &str {
        if self.title.is_empty() { &self.program } else { &self.title }
    }

    /// Whether a model that is named reaches the agent, with or without an endpoint.
    #[must_use]
    pub fn names_model(&self, endpoint: bool) -> bool {
        let of_endpoint = self.endpoint_args.iter().chain(self.endpoint_env.values()).filter(|_| endpoint);
        let all = self.args.iter().chain(&self.model_args).chain(self.env.values()).chain(self.model_env.values());
        all.chain(of_endpoint).any(|text| text.contains("{model}"))
    }

    /// Whether a version is too old; what is no version is not.
    #[must_use]
    pub fn is_too_old(&self, version: &str) -> bool {
        let min = self.version_min.as_deref().and_then(version_in);
        min.zip(version_in(version)).is_some_and(|(min, found)| found < min)
    }
}

/// What is filled into a row.
#[derive(Debug, Clone, Copy, Default)]
pub struct Start<'a> {
    /// The model, if one is named.
    pub model: Option<&'a str>,
    /// How hard to think, if it is said.
    pub effort: Option<&'a str>,
    /// Where the model's API is, if the host serves it.
    pub endpoint: Option<&'a Endpoint>,
    /// The mode, if there is one.
    pub mode: Option<&'a str>,
    /// Arguments in place of the mode.
    pub confined: Option<&'a [String]>,
    /// Whether the agent shall ask for nothing.
    pub unasked: bool,
}

impl Start<'_> {
    fn fill(&self, text: &str) -> String {
        let ask = if self.unasked { "allow" } else { "ask" };
        let mut text = text.replace("{ask}", ask);
        // The values are checked words, so that none of them can hold the name of another.
        for (name, value) in [("{model}", self.model), ("{effort}", self.effort)] {
            text = text.replace(name, value.unwrap_or_default());
        }
        if let Some(endpoint) = self.endpoint {
            text = text.replace("{url}", &endpoint.url).replace("{token}", &endpoint.token);
        }
        text
    }
}

/// Whether a text may stand in a row's place for it: those places are inside of JSON, TOML and argument vectors, so that
/// nothing may pass that ends a text there.
#[must_use]
pub fn is_plain_word(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 200
        && !text.starts_with('-')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._:/@+-[]|()~ ".contains(c))
}

fn table() -> Result<BTreeMap<String, Profile>> {
    serde_json::from_str(PROFILES).map_err(|error| Error::internal("profiles", format!("the table of agents: {error}")))
}

#[cfg(test)]
mod tests {
    use midplane_plugin::testing::{FakeHost, task};

    use super::*;

    #[test]
    fn every_row_is_whole_and_says_how_it_is_started() {
        let mut shown = String::new();
        let endpoint = Endpoint { url: "http://127.0.0.1:1/r".into(), token: "placeholder".into() };
        for (name, row) in table().expect("the table") {
            row.check().expect("a good row");
            assert!(!row.install.is_empty() && !row.note.is_empty() && !row.title.is_empty(), "{name}");
            let model = row.model.as_deref().or(Some("m1"));
            let start =
                Start { model, effort: Some("high"), endpoint: Some(&endpoint), mode: Some("M"), ..Start::default() };
            let command = row.command(&start);
            assert!(!command.argv.join(" ").contains("placeholder"), "{name}: a token on the argument vector");
            assert!(command.env.iter().any(|(_, value)| value.contains("placeholder")), "{name}: no token");
            shown.push_str(&format!("{name}\n"));
            command.argv.iter().for_each(|word| shown.push_str(&format!("    {word}\n")));
            command.env.iter().for_each(|(name, value)| shown.push_str(&format!("    {name} = {value}\n")));
        }
        insta::assert_snapshot!(shown);
    }

    /// The manifest must ask for what the rows need, word by word.
    #[test]
    fn the_manifest_asks_for_the_programs_and_variables_of_the_rows() {
        let manifest = include_str!("../plugin.toml");
        for (name, row) in table().expect("the table") {
            let words: Vec<&String> = std::iter::once(&row.program).chain(row.args.first()).collect();
            let argv = format!("argv = {words:?}");
            let (_, rest) = manifest.split_once(&argv).unwrap_or_else(|| panic!("{name}: no {argv}"));
            let section = rest.split("[[").next().expect("the first part");
            let (_, elsewhere) = manifest.split_once(r#"argv = ["{settings.program}"]"#).expect("a program elsewhere");
            let names = [&row.env, &row.endpoint_env, &row.model_env].into_iter().flat_map(|env| env.keys());
            for variable in names.chain(&row.mode_env) {
                for section in [section, elsewhere] {
                    assert!(section.contains(&format!("\"{variable}\"")), "{name}: no {variable}");
                }
            }
            assert!(manifest.contains(&format!("name = \"{}\"", row.api.expect("an api"))), "{name}");
        }
    }

    #[test]
    fn permission_words_become_modes_and_never_wider_ones() {
        let host = FakeHost::new().setting("agent", "codex-acp");
        let codex = Profile::read(&host).expect("a row");
        let bare = Profile { program: "x".into(), ..Profile::default() };
        let mut shown = String::new();
        for mode in
            [PermissionMode::Strict, PermissionMode::Cautious, PermissionMode::Default, PermissionMode::Permissive]
        {
            for filesystem in
                [FilesystemAccess::ReadOnly, FilesystemAccess::WorkspaceWrite, FilesystemAccess::FullAccess]
            {
                let allowed = PermissionProfile { mode, filesystem, ..task("x").permissions };
                let of = |row: &Profile| match row.mode(&allowed) {
                    Ok((_, mode)) => mode.unwrap_or("as it starts").to_owned(),
                    Err((field, why)) => format!("{field}: {why}"),
                };
                shown.push_str(&format!("{mode:?} {filesystem:?}\n    {}\n    {}\n", of(&codex), of(&bare)));
            }
        }
        insta::assert_snapshot!(shown);
    }

    #[test]
    fn one_more_agent_is_configuration_only() {
        let row = r#"{"program": "my-agent", "args": ["acp"], "api": "anthropic",
            "endpoint_env": {"ANTHROPIC_BASE_URL": "{url}", "ANTHROPIC_API_KEY": "{token}"}}"#;
        let host = FakeHost::new().setting("agent", "custom").setting("custom", row);
        let row = Profile::read(&host).expect("a row");
        let endpoint = Endpoint { url: "http://e".into(), token: "T".into() };
        let command = row.command(&Start { endpoint: Some(&endpoint), ..Start::default() });
        assert_eq!(command.argv, ["my-agent", "acp"]);
        assert_eq!(
            command.env,
            [("ANTHROPIC_API_KEY".into(), "T".into()), ("ANTHROPIC_BASE_URL".into(), "http://e".into())]
        );
        // Without an endpoint nothing of it is told.
        assert_eq!(row.command(&Start::default()).env, []);
    }

    #[test]
    fn wrong_rows_are_named() {
        let rows = [
            ("custom", None),
            ("nano", None),
            ("custom", Some(r#"{"args": []}"#)),
            ("custom", Some(r#"{"program": "x", "argss": []}"#)),
            ("custom", Some(r#"{"program": "x", "api": "openai", "endpoint_args": ["--key={token}"]}"#)),
            ("custom", Some(r#"{"program": "x", "api": "cohere"}"#)),
            ("custom", Some(r#"{"program": "x", "endpoint_env": {"A": "{url}"}}"#)),
        ];
        let mut shown = String::new();
        for (agent, row) in rows {
            let mut host = FakeHost::new().setting("agent", agent);
            if let Some(row) = row {
                host = host.setting("custom", row);
            }
            shown.push_str(&format!("{}\n", Profile::read(&host).expect_err("wrong").message));
        }
        insta::assert_snapshot!(shown);
    }

    #[test]
    fn versions_are_compared_by_number() {
        let row = Profile { version_min: Some("0.16.0".into()), ..Profile::default() };
        let rows =
            [("0.16.0", false), ("0.15.9", true), ("0.9.12", true), ("1.0.0-rc.1", false), ("dev", false), ("", false)];
        for (version, too_old) in rows {
            assert_eq!(row.is_too_old(version), too_old, "{version}");
        }
    }

    #[test]
    fn only_plain_words_are_filled_in() {
        for (word, plain) in [
            ("gemini-2.5-pro", true),
            ("a/b:c@d", true),
            ("m\"]", false),
            ("", false),
            ("{url}", false),
            ("-m", false),
            ("a\n", false),
        ] {
            assert_eq!(is_plain_word(word), plain, "{word}");
        }
    }
}
