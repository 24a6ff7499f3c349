//! `midplane requests`: what an agent asks to be changed in the manifest (`runtm.requests.yaml`), and the change itself, which
//! is a person's decision.

use std::path::PathBuf;

use clap::Subcommand;
use midplane::check::{self, Proposal};
use midplane::core::Error;
use midplane::core::text::escape_controls;
use serde_json::json;

use crate::app::App;
use crate::ask::{self, Person};
use crate::exit::Exit;

/// Show what an agent asks to be changed in the manifest, and change it
#[derive(Debug, Subcommand)]
pub(crate) enum RequestsCommand {
    /// Show the changes that are asked for
    Show {
        /// Folder of the project
        #[arg(default_value = ".")]
        folder: PathBuf,
    },
    /// Make them, after a yes
    Apply {
        /// Folder of the project
        #[arg(default_value = ".")]
        folder: PathBuf,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

pub(crate) async fn run(app: &App, command: RequestsCommand) -> anyhow::Result<Exit> {
    let (folder, approval) = match &command {
        RequestsCommand::Show { folder } => (folder, None),
        RequestsCommand::Apply { folder, yes } => (folder, Some(*yes)),
    };
    let proposal = check::proposal(folder)?;
    let Some(yes) = approval else {
        app.answer(&json!({ "summary": proposal.summary, "changes": proposal.changes }), || text(&proposal))?;
        return Ok(Exit::Done);
    };
    if !proposal.changes.is_empty() && !yes {
        if !app.interactive {
            let error = Error::denied("approval-missing", "nobody can be asked whether the manifest may be changed");
            return Err(error.hint("look at `midplane requests show`, then add `--yes`").into());
        }
        app.print(&text(&proposal))?;
        if !ask::confirm(&mut Person::here(), "change the manifest?").await {
            app.print("nothing was changed\n")?;
            return Ok(Exit::Denied);
        }
    }
    proposal.apply()?;
    app.answer(
        &json!({ "summary": proposal.summary, "changes": proposal.changes, "applied": true }),
        || match proposal.changes.len() {
            0 => "there is nothing to change\n".to_owned(),
            count => format!("{}: {count} changes made\n", proposal.manifest.display()),
        },
    )?;
    Ok(Exit::Done)
}

fn text(proposal: &Proposal) -> String {
    let mut text = format!("{}\n", escape_controls(&proposal.summary, false));
    for change in &proposal.changes {
        text.push_str(&format!("  {}\n", escape_controls(change, false)));
    }
    // What an agent wrote to the person, apart from what it asks for.
    for note in &proposal.notes {
        text.push_str(&format!("  note: {}\n", escape_controls(note, false)));
    }
    text
}
