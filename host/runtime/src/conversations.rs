//! A vendor's own threads, as the runs that were part of them tell it.
//!
//! A conversation is a profile and the id that its vendor gave; `session_id` of a task goes on with it. Nothing is kept
//! beside the runs: a conversation whose runs are removed is still the vendor's, and no longer listed here.

use std::collections::HashMap;

use midplane_core::{ProfileName, Result, RunId};
use midplane_store::RunQuery;
use serde::Serialize;
use serde_json::Value;

use crate::host::Host;

/// One conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Conversation {
    /// The id that goes on with it.
    pub id: String,
    /// Under which profile.
    pub profile: ProfileName,
    /// The latest run of it.
    pub last_run: RunId,
    /// What that one was asked, in short.
    pub last_goal: String,
    /// How that one ended.
    pub finish_reason: String,
    /// Runs that were part of it.
    pub runs: u64,
    /// When the latest ended, in milliseconds since 1970 UTC.
    pub updated_ms: u64,
}

impl Host {
    /// Conversations of ended runs, the one that was used last first. `profile` unset is all.
    pub async fn conversations(&self, profile: Option<ProfileName>) -> Result<Vec<Conversation>> {
        let mut found: Vec<Conversation> = Vec::new();
        let mut places: HashMap<(ProfileName, String), usize> = HashMap::new();
        let mut before = None;
        loop {
            let query = RunQuery { profile: profile.clone(), before, ..RunQuery::default() };
            let rows = self.runs(query).await?;
            let Some(last) = rows.last() else { break };
            before = Some(last.run_id.clone());
            for row in rows {
                let text = |name: &str| row.index.summary.get(name).and_then(Value::as_str).map(str::to_owned);
                let (Some(id), Some(finish_reason)) = (text("session_id"), row.index.finish_reason.clone()) else {
                    continue;
                };
                // Runs come newest first, so the first of a conversation is its latest.
                let place = *places.entry((row.index.profile.clone(), id.clone())).or_insert_with(|| {
                    found.push(Conversation {
                        id,
                        profile: row.index.profile.clone(),
                        last_run: row.run_id.clone(),
                        last_goal: text("goal").unwrap_or_default(),
                        finish_reason,
                        runs: 0,
                        updated_ms: row.index.updated_ms,
                    });
                    found.len() - 1
                });
                found[place].runs += 1;
            }
        }
        Ok(found)
    }
}
