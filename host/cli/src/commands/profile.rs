//! `midplane profile`: plugins under a name, with settings, what they ask for and what they were granted.

use clap::Subcommand;
use midplane::view::{PermissionView, ProfileView};

use crate::app::App;
use crate::exit::Exit;
use crate::render::table::{Table, fields};

/// List profiles: plugins under a name, with settings and grants
#[derive(Debug, Subcommand)]
pub(crate) enum ProfileCommand {
    /// List all profiles
    List,
    /// Show one profile: settings, what it asks for, what it was granted
    Show {
        /// The profile
        profile: String,
    },
}

pub(crate) async fn run(app: &App, command: ProfileCommand) -> anyhow::Result<Exit> {
    let host = app.host().await?;
    match command {
        ProfileCommand::List => {
            let profiles = host.profiles().await?;
            app.answer(&profiles, || list(&profiles))?;
        }
        ProfileCommand::Show { profile } => {
            let profile = host.profile(&profile).await?;
            app.answer(&profile, || show(&profile))?;
        }
    }
    Ok(Exit::Done)
}

fn list(profiles: &[ProfileView]) -> String {
    let mut table = Table::new(["PROFILE", "PLUGIN", "KIND", "GRANTS", "NOTE"]);
    for profile in profiles {
        let required = profile.permissions.iter().filter(|permission| !permission.optional);
        let open =
            required.filter(|permission| !permission.granted && !permission.grant.starts_with("workspace:")).count();
        let note = match (&profile.error, open) {
            (Some(error), _) => error.message.clone(),
            (None, 0) => String::new(),
            (None, _) => format!("needs grants: `midplane profile show {}`", profile.name),
        };
        let plugin = profile.plugin.clone().unwrap_or_default();
        let kind = profile.kind.unwrap_or_default().to_owned();
        table.row([profile.name.to_string(), plugin, kind, profile.grants.len().to_string(), note]);
    }
    table.text("there are no profiles; `midplane plugin add` brings one")
}

fn show(profile: &ProfileView) -> String {
    let mut rows = vec![("profile", profile.name.to_string())];
    if let Some(plugin) = &profile.plugin {
        rows.push(("plugin", format!("{plugin} ({})", profile.kind.unwrap_or_default())));
    }
    if let Some(error) = &profile.error {
        rows.push(("error", error.message.clone()));
        rows.extend(error.hint.clone().map(|hint| ("hint", hint)));
    }
    if !profile.settings.is_empty() {
        let settings = profile.settings.iter();
        let settings: Vec<String> = settings
            .map(|(name, value)| format!("{name} = {value}{}", configured(profile, &format!("settings.{name}"))))
            .collect();
        rows.push(("settings", settings.join("\n")));
    }
    if !profile.permissions.is_empty() {
        rows.push(("asks for", profile.permissions.iter().map(permission).collect::<Vec<_>>().join("\n")));
    }
    if !profile.grants.is_empty() {
        let grants = profile.grants.iter();
        let grants: Vec<String> =
            grants.map(|grant| format!("{grant}{}", configured(profile, &format!("grants.{grant}")))).collect();
        rows.push(("granted", grants.join("\n")));
    }
    fields(&rows)
}

/// Where in the configuration something stands, if it does.
fn configured(profile: &ProfileView, key: &str) -> String {
    profile.configured.get(key).map_or(String::new(), |origin| format!("  # {origin}"))
}

/// A permission in one line.
pub(crate) fn permission(permission: &PermissionView) -> String {
    let need = if permission.optional { "optional" } else { "required" };
    let granted = if permission.granted { ", granted" } else { "" };
    let reason = if permission.reason.is_empty() { String::new() } else { format!(": {}", permission.reason) };
    format!("{} ({need}{granted}){reason}", permission.grant)
}
