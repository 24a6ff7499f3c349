//! `midplane plugin`: what is installed, whether it loads, and installing from files.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use midplane::Host;
use midplane::core::manifest::{Endpoint, Manifest};
use midplane::core::{Error, Result};
use midplane::view::{PluginView, ProfileView};
use serde_json::json;

use crate::app::App;
use crate::commands::profile::permission;
use crate::exit::Exit;
use crate::render::table::{Table, fields};
use crate::render::units;

/// List, add and remove plugins
#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// List all plugins, and whether each loads
    List,
    /// Show one plugin: what it is, what it asks for, what can be set
    Show {
        /// The plugin
        plugin: String,
    },
    /// Install a plugin, or another version of one
    Add {
        /// A folder with `plugin.toml` and one `.wasm` file, or a `plugin.toml`
        path: PathBuf,
        /// The component, where it does not lie beside `plugin.toml`
        #[arg(long, value_name = "FILE")]
        component: Option<PathBuf>,
    },
    /// Remove an installed plugin; its grants stay until they are revoked
    Remove {
        /// The plugin
        plugin: String,
    },
}

pub(crate) async fn run(app: &App, command: PluginCommand) -> anyhow::Result<Exit> {
    let host = app.host().await?;
    match command {
        PluginCommand::List => {
            let plugins = host.plugins().await?;
            app.answer(&plugins, || list(&plugins))?;
        }
        PluginCommand::Show { plugin } => {
            let plugin = host.plugin(&plugin).await?;
            let profile = host.profile(&plugin.name).await?;
            app.answer(&plugin, || show(&plugin, &profile))?;
        }
        PluginCommand::Add { path, component } => {
            let (manifest, component) = files(&path, component)?;
            let before = known(&host, &manifest).await;
            let plugin = host.install(&manifest, &component).await?;
            let profile = host.profile(&plugin.name).await?;
            app.answer(&plugin, || added(&plugin, &profile, before.as_ref()))?;
        }
        PluginCommand::Remove { plugin } => {
            host.uninstall(&plugin).await?;
            app.answer(&json!({ "removed": plugin }), || format!("removed `{plugin}`\n"))?;
        }
    }
    Ok(Exit::Done)
}

/// `plugin.toml` and component of what is to be installed.
fn files(path: &Path, component: Option<PathBuf>) -> Result<(PathBuf, PathBuf)> {
    let manifest = if path.is_dir() { path.join("plugin.toml") } else { path.to_owned() };
    if !manifest.exists() {
        return Err(Error::not_found("file", format!("there is no `{}`", manifest.display()))
            .hint("a plugin is a folder with `plugin.toml` and one `.wasm` file"));
    }
    if let Some(component) = component {
        return Ok((manifest, component));
    }
    let folder = manifest.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |error| Error::invalid("file", format!("`{}` cannot be read: {error}", folder.display()));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "wasm") {
            found.push(path);
        }
    }
    found.sort();
    match (found.pop(), found.is_empty()) {
        (Some(component), true) => Ok((manifest, component)),
        (None, _) => Err(Error::not_found("component", format!("there is no `.wasm` file in `{}`", folder.display()))
            .hint("name the component with `--component FILE`")),
        (Some(_), false) => {
            Err(Error::invalid("component", format!("there are several `.wasm` files in `{}`", folder.display()))
                .hint("name one with `--component FILE`"))
        }
    }
}

/// The profile of the version that is there already. Whatever is wrong with the manifest is said by installing it.
async fn known(host: &Host, manifest: &Path) -> Option<ProfileView> {
    let text = std::fs::read_to_string(manifest).ok()?;
    let manifest = Manifest::parse(&text, "").ok()?;
    host.profile(manifest.name.as_str()).await.ok()
}

fn list(plugins: &[PluginView]) -> String {
    let mut table =
        Table::new(["PLUGIN", "KIND", "VERSION", "DIGEST", "ORIGIN", "CAN", "ASKS", "GRANTED", "LOADS", "DESCRIPTION"]);
    for plugin in plugins {
        let loads = if plugin.loads { "yes" } else { "no" };
        let note = plugin.error.as_ref().map_or(&plugin.description, |error| &error.message);
        table.row([
            plugin.name.clone(),
            plugin.kind.to_owned(),
            plugin.version.clone(),
            plugin.digest.short().to_owned(),
            plugin.origin.to_owned(),
            // Counts: `plugin show` has the names.
            plugin.features.len().to_string(),
            plugin.permissions.as_array().map_or(0, Vec::len).to_string(),
            plugin.granted.len().to_string(),
            loads.to_owned(),
            note.clone(),
        ]);
    }
    table.text("there are no plugins; `midplane plugin add PATH` installs one")
}

fn show(plugin: &PluginView, profile: &ProfileView) -> String {
    let mut rows = about(plugin);
    if let Some(error) = &plugin.error {
        rows.push(("error", error.message.clone()));
        rows.extend(error.hint.clone().map(|hint| ("hint", hint)));
    }
    if !plugin.features.is_empty() {
        rows.push(("can", plugin.features.join(", ")));
    }
    if !plugin.granted.is_empty() {
        rows.push(("granted", plugin.granted.join("\n")));
    }
    if !profile.permissions.is_empty() {
        rows.push(("asks for", profile.permissions.iter().map(permission).collect::<Vec<_>>().join("\n")));
    }
    if !plugin.endpoints.is_empty() {
        let line = |endpoint: &Endpoint| {
            let Endpoint { name, url, credential } = endpoint;
            format!("{name}: {url} on loopback, with the credential `{credential}` put in by the host")
        };
        rows.push(("endpoints", plugin.endpoints.iter().map(line).collect::<Vec<_>>().join("\n")));
    }
    if let Some(settings) = plugin.settings.as_object().filter(|settings| !settings.is_empty()) {
        let line = |(name, setting): (&String, &serde_json::Value)| {
            let text = |field: &str| setting.get(field).filter(|value| !value.is_null());
            let of = text("type").and_then(|of| of.as_str()).unwrap_or_default();
            let default = text("default").map(|value| format!(", default {value}")).unwrap_or_default();
            let what =
                text("description").and_then(|what| what.as_str()).map(|what| format!(": {what}")).unwrap_or_default();
            format!("{name} ({of}{default}){what}")
        };
        rows.push(("settings", settings.iter().map(line).collect::<Vec<_>>().join("\n")));
    }
    fields(&rows)
}

fn about(plugin: &PluginView) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("plugin", format!("{} {}", plugin.name, plugin.version)),
        ("kind", plugin.kind.to_owned()),
        ("what", plugin.description.clone()),
        ("publisher", plugin.publisher.clone()),
        ("contract", plugin.wit.clone()),
        ("digest", plugin.digest.to_string()),
        ("origin", plugin.origin.to_owned()),
    ];
    rows.extend(plugin.installed_ms.map(|at| ("installed", units::time(at))));
    rows.push(("loads", if plugin.loads { "yes" } else { "no" }.to_owned()));
    rows
}

fn added(plugin: &PluginView, profile: &ProfileView, before: Option<&ProfileView>) -> String {
    let mut text =
        format!("installed `{}` {} ({}, digest {})\n", plugin.name, plugin.version, plugin.kind, plugin.digest.short());
    let asks: Vec<_> = profile.permissions.iter().filter(|permission| !permission.granted).collect();
    let known = |grant: &str| {
        before.is_some_and(|before| before.permissions.iter().any(|permission| permission.grant == grant))
    };
    for permission in &asks {
        let new = if before.is_some() && !known(&permission.grant) { "newly asks" } else { "asks" };
        text.push_str(&format!("it {new} for {}\n", self::permission(permission)));
    }
    if asks.iter().any(|permission| !permission.optional) {
        text.push_str(&format!(
            "it runs after `midplane grant allow {} --all`, or asks when it is first run\n",
            profile.name
        ));
    }
    midplane::core::text::escape_controls(&text, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_plugin() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let code = |path: &Path| files(path, None).map_err(|error| error.code.into_owned());
        assert_eq!(code(folder.path()), Err("file".into()));
        std::fs::write(at("plugin.toml"), "").expect("a file");
        assert_eq!(code(folder.path()), Err("component".into()));
        std::fs::write(at("a.wasm"), "").expect("a file");
        assert_eq!(code(folder.path()), Ok((at("plugin.toml"), at("a.wasm"))));
        assert_eq!(code(&at("plugin.toml")), Ok((at("plugin.toml"), at("a.wasm"))));
        std::fs::write(at("b.wasm"), "").expect("a file");
        assert_eq!(code(folder.path()), Err("component".into()));
        let named = files(folder.path(), Some(at("b.wasm"))).expect("files");
        assert_eq!(named, (at("plugin.toml"), at("b.wasm")));
    }
}
