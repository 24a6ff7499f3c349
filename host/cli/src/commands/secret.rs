//! `midplane secret`: which secrets are configured, and whether this identity could have them. Never a value.

use clap::Subcommand;
use midplane::core::{Error, Result};
use midplane::{Keeper, RuntimeContext};
use serde::Serialize;

use crate::app::App;
use crate::commands::identity::IdentityArgs;
use crate::exit::Exit;
use crate::render::table::Table;

/// List secrets, and check whether they can be had
#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// List the secrets that are configured, and who may have them
    List {
        #[command(flatten)]
        stated: IdentityArgs,
    },
    /// Read secrets without showing them, and say of each whether it can be had; exit code 0 if all can
    Check {
        /// Only this one
        name: Option<String>,
        #[command(flatten)]
        stated: IdentityArgs,
    },
}

/// A secret as it is configured.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    name: &'a str,
    store: &'a str,
    backend: Option<&'a str>,
    policy: &'a str,
    principals: &'a [String],
    allowed: bool,
}

/// What came of asking for a secret.
#[derive(Debug, Serialize)]
struct Checked {
    name: String,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Error>,
}

pub(crate) async fn run(app: &App, command: SecretCommand) -> anyhow::Result<Exit> {
    match command {
        SecretCommand::List { stated } => {
            let context = app.context(&stated.stated())?;
            let listed = listed(context.secrets());
            app.answer(&listed, || list_text(&listed))?;
            Ok(Exit::Done)
        }
        SecretCommand::Check { name, stated } => {
            let context = app.context(&stated.stated())?;
            let checked = check(&context, name).await;
            app.answer(&checked, || check_text(&checked))?;
            Ok(checked.iter().find_map(|checked| checked.error.as_ref()).map_or(Exit::Done, Exit::of_error))
        }
    }
}

fn listed(keeper: &Keeper) -> Vec<Listed<'_>> {
    let vault = keeper.vault();
    let mut listed = Vec::new();
    for (name, secret) in vault.refs() {
        let policy = vault.policies().get(&secret.policy);
        let principals = policy.map(|policy| policy.allowed_principals.as_slice()).unwrap_or_default();
        listed.push(Listed {
            name,
            store: &secret.store,
            backend: vault.stores().get(&secret.store).map(|store| store.backend.as_str()),
            policy: &secret.policy,
            principals,
            allowed: principals.iter().any(|name| name == keeper.role()),
        });
    }
    listed
}

fn list_text(listed: &[Listed<'_>]) -> String {
    let mut table = Table::new(["SECRET", "STORE", "BACKEND", "POLICY", "PRINCIPALS", "ALLOWED HERE"]);
    for secret in listed {
        let principals = if secret.principals.is_empty() { "-".to_owned() } else { secret.principals.join(", ") };
        table.row([
            secret.name.to_owned(),
            secret.store.to_owned(),
            secret.backend.unwrap_or("-").to_owned(),
            secret.policy.to_owned(),
            principals,
            if secret.allowed { "yes" } else { "no" }.to_owned(),
        ]);
    }
    table.text("no secrets are configured; `vault:` in the configuration names stores, references and policies")
}

async fn check(context: &RuntimeContext, name: Option<String>) -> Vec<Checked> {
    let all = || context.secrets().vault().refs().keys().cloned().collect();
    let names: Vec<String> = name.map_or_else(all, |name| vec![name]);
    let mut checked = Vec::new();
    for name in names {
        // The value is dropped, and wiped, right here.
        let found: Result<()> = context.secrets().require(&name).await.map(drop);
        checked.push(Checked { name, ok: found.is_ok(), error: found.err() });
    }
    checked
}

fn check_text(checked: &[Checked]) -> String {
    let mut table = Table::new(["SECRET", "STATUS", "REASON", "MESSAGE"]);
    for Checked { name, ok, error } in checked {
        let status = if *ok { "ok" } else { "failed" }.to_owned();
        let reason = error.as_ref().map(|error| error.code.to_string()).unwrap_or_default();
        let hint = |error: &Error| error.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        let message = error.as_ref().map(|error| format!("{error}{}", hint(error))).unwrap_or_default();
        table.row([name.clone(), status, reason, message]);
    }
    table.text("no secrets are configured")
}

#[cfg(test)]
mod tests {
    use super::*;
    use midplane::core::vault::Vault;
    use serde_json::json;

    #[test]
    fn secrets_are_listed() {
        console::set_colors_enabled(false);
        let config = json!({
            "stores": {"red": {"backend": "gopass", "root": "mxm/red"}},
            "refs": {
                "key": {"store": "red", "path": "p/k", "policy": "some"},
                "closed": {"store": "red", "path": "c", "policy": "nobody"},
                "lost": {"store": "blue", "path": "l", "policy": "none"},
            },
            "policies": {"some": {"allowed_principals": ["research", "ops"]}, "nobody": {"allowed_principals": []}},
        });
        let keeper = Keeper::new(Vault::parse(&config, "config").expect("a vault"), "research");
        let failed = Error::not_found("secret-absent", "secret `red:key` is not in its store").hint("store it");
        let checked = [
            Checked { name: "a".to_owned(), ok: true, error: None },
            Checked { name: "b".to_owned(), ok: false, error: Some(failed) },
        ];
        insta::assert_snapshot!(format!("{}----\n{}", list_text(&listed(&keeper)), check_text(&checked)));
    }
}
