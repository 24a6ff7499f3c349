//! Grants: what the operator allows a profile. Text to this crate; what a grant means is `core`'s.

use std::sync::Arc;

use midplane_core::{ProfileName, Result};
use rusqlite::{Connection, params};

use crate::sqlite::Db;
use crate::sqlite::error::{damaged, int, sql, uint};

/// Something that is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// To whom.
    pub profile: ProfileName,
    /// What, in the words of `core`.
    pub grant: String,
    /// When it was allowed, in milliseconds since 1970 UTC.
    pub created_ms: u64,
    /// How it came about, for people.
    pub note: String,
}

/// The handle.
#[derive(Clone)]
pub struct Grants {
    db: Arc<Db>,
}

impl Grants {
    pub(crate) fn new(db: Arc<Db>) -> Self {
        Self { db }
    }

    /// What is allowed to a profile, or to all, by profile and text.
    pub async fn list(&self, profile: Option<&ProfileName>) -> Result<Vec<Grant>> {
        let profile = profile.map(ToString::to_string);
        let list = move |conn: &Connection| {
            let mut statement = conn
                .prepare_cached("SELECT profile, grant_text, created_ms, note FROM grants WHERE ?1 IS NULL OR profile = ?1 ORDER BY 1, 2")
                .map_err(sql)?;
            let mut rows = statement.query([profile]).map_err(sql)?;
            let mut found = Vec::new();
            while let Some(row) = rows.next().map_err(sql)? {
                found.push(Grant {
                    profile: ProfileName::new(row.get::<_, String>(0).map_err(sql)?).map_err(damaged)?,
                    grant: row.get(1).map_err(sql)?,
                    created_ms: uint(row.get(2).map_err(sql)?)?,
                    note: row.get(3).map_err(sql)?,
                });
            }
            Ok(found)
        };
        self.db.read(list).await
    }

    /// Allows, and says whether that is new. What was allowed before keeps its time and note.
    pub async fn allow(&self, grant: Grant) -> Result<bool> {
        let created_ms = int(grant.created_ms)?;
        let allow = move |conn: &Connection| {
            conn.execute(
                "INSERT INTO grants VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                params![grant.profile.as_str(), grant.grant, created_ms, grant.note],
            )
            .map_err(sql)
        };
        Ok(self.db.write(allow).await? == 1)
    }

    /// Takes back, and says whether it was allowed.
    pub async fn revoke(&self, profile: &ProfileName, grant: &str) -> Result<bool> {
        let (profile, grant) = (profile.clone(), grant.to_owned());
        let revoke = move |conn: &Connection| {
            conn.execute("DELETE FROM grants WHERE profile = ? AND grant_text = ?", params![profile.as_str(), grant])
                .map_err(sql)
        };
        Ok(self.db.write(revoke).await? == 1)
    }

    /// Takes everything back from a profile, and says how much that was.
    pub async fn remove_profile(&self, profile: &ProfileName) -> Result<u64> {
        let profile = profile.clone();
        let remove = move |conn: &Connection| {
            conn.execute("DELETE FROM grants WHERE profile = ?", [profile.as_str()]).map_err(sql)
        };
        Ok(self.db.write(remove).await? as u64)
    }
}
