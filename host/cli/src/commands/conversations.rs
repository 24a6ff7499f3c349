//! `midplane conversations`: vendors' threads that a run can go on with.

use midplane::Conversation;
use midplane::core::ProfileName;

use crate::app::App;
use crate::exit::Exit;
use crate::render::table::Table;
use crate::render::units;

/// List conversations with vendors; `midplane run PROFILE --conversation ID` goes on with one
#[derive(Debug, clap::Args)]
pub(crate) struct ConversationsArgs {
    /// Only of this profile
    #[arg(long)]
    profile: Option<String>,
}

pub(crate) async fn run(app: &App, args: ConversationsArgs) -> anyhow::Result<Exit> {
    let profile = args.profile.map(ProfileName::new).transpose()?;
    let found = app.host().await?.conversations(profile).await?;
    app.answer(&found, || list(&found, units::now_ms()))?;
    Ok(Exit::Done)
}

fn list(found: &[Conversation], now_ms: u64) -> String {
    let mut table = Table::new(["CONVERSATION", "PROFILE", "RUNS", "LAST", "ENDED", "LAST RUN", "LAST GOAL"]);
    for one in found {
        table.row([
            one.id.clone(),
            one.profile.to_string(),
            one.runs.to_string(),
            format!("{} ago", units::duration(now_ms.saturating_sub(one.updated_ms))),
            one.finish_reason.clone(),
            one.last_run.to_string(),
            one.last_goal.clone(),
        ]);
    }
    table.text("there are no conversations; a run of an agent with `session_resume` makes one")
}
