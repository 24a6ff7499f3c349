//! `midplane grant`: what the operator allows each profile.

use clap::Subcommand;
use midplane::core::permission::Grant;
use midplane::view::GrantView;
use serde_json::json;

use crate::app::App;
use crate::exit::Exit;
use crate::render::table::Table;
use crate::render::units;
use crate::screen;
use crate::values;

/// List, give and take back grants
#[derive(Debug, Subcommand)]
pub(crate) enum GrantCommand {
    /// List grants
    List {
        /// Only of this profile
        profile: Option<String>,
    },
    /// Give grants to a profile, until they are revoked
    #[command(after_help = GRANTS)]
    Allow {
        /// The profile
        profile: String,
        /// Grants, such as `http:https://api.example.com` or `secret:NAME`
        #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "GRANT", value_parser = values::grant)]
        grants: Vec<Grant>,
        /// All that it asks for and cannot do without
        #[arg(long)]
        all: bool,
    },
    /// Take grants back; runs that have begun keep what they had
    Revoke {
        /// The profile
        profile: String,
        /// Grants, as `midplane grant list` shows them
        #[arg(required = true, value_name = "GRANT", value_parser = values::grant)]
        grants: Vec<Grant>,
    },
}

/// The forms of a grant.
pub(crate) const GRANTS: &str = "\
Grants:
  http:URL                call URLs below it, with the methods that the plugin asks for
  address:IP or IP/BITS   connect to addresses there that are not public
  secret:NAME             have a secret applied where the plugin says; it never sees the value
  workspace:read          read the workspace of a run; `--workspace` gives this by itself
  workspace:read-write    change it, too
  command:WORDS           start a program, its arguments beginning with these
  env:NAME                set a variable for programs
  shell                   the `shell` tool, which is unconfined
  folder:PATH:ro or :rw   keep files in a folder of this machine";

pub(crate) async fn run(app: &App, command: GrantCommand) -> anyhow::Result<Exit> {
    let host = app.host().await?;
    match command {
        GrantCommand::List { profile } => {
            let grants = host.grants(profile.as_deref()).await?;
            app.answer(&grants, || list(&grants))?;
        }
        GrantCommand::Allow { profile, grants, all } => {
            let grants = if all { required(&host, &profile).await? } else { grants };
            let mut done = Vec::new();
            for grant in grants {
                let new = host.allow(&profile, &grant).await?;
                if grant == Grant::Shell {
                    screen::note("warning: `shell` is unconfined: it can do all that you can");
                }
                done.push((grant, new));
            }
            let document: Vec<_> =
                done.iter().map(|(grant, new)| json!({ "profile": profile, "grant": grant, "new": new })).collect();
            app.answer(&document, || match done.is_empty() {
                true => format!("`{profile}` needs no grant\n"),
                false => done.iter().map(|(grant, new)| allowed(&profile, grant, *new)).collect(),
            })?;
        }
        GrantCommand::Revoke { profile, grants } => {
            let mut done = Vec::new();
            for grant in grants {
                let was_there = host.revoke(&profile, &grant).await?;
                done.push((grant, was_there));
            }
            let document: Vec<_> = done
                .iter()
                .map(|(grant, gone)| json!({ "profile": profile, "grant": grant, "revoked": gone }))
                .collect();
            app.answer(&document, || done.iter().map(|(grant, gone)| revoked(&profile, grant, *gone)).collect())?;
        }
    }
    Ok(Exit::Done)
}

fn list(grants: &[GrantView]) -> String {
    let mut table = Table::new(["PROFILE", "GRANT", "SINCE"]);
    for grant in grants {
        let since = match (grant.created_ms, &grant.configured) {
            (Some(created_ms), _) => units::time(created_ms),
            (None, Some(origin)) => origin.to_string(),
            (None, None) => "configuration".to_owned(),
        };
        table.row([grant.profile.to_string(), grant.grant.clone(), since]);
    }
    table.text("there are no grants; `midplane grant allow PROFILE GRANT` gives one")
}

fn allowed(profile: &str, grant: &Grant, new: bool) -> String {
    if new {
        format!("allowed `{grant}` to `{profile}`\n")
    } else {
        format!("`{grant}` was allowed to `{profile}` already\n")
    }
}

fn revoked(profile: &str, grant: &Grant, gone: bool) -> String {
    if gone {
        format!("revoked `{grant}` from `{profile}`\n")
    } else {
        format!("`{grant}` was not allowed to `{profile}`\n")
    }
}

/// What a profile cannot do without and was not granted yet.
async fn required(host: &midplane::Host, profile: &str) -> anyhow::Result<Vec<Grant>> {
    let profile = host.profile(profile).await?;
    if let Some(error) = profile.error {
        return Err(error.into());
    }
    Ok(profile.missing.iter().map(|grant| grant.parse()).collect::<Result<_, _>>()?)
}
