//! `kv`: small durable state of a profile, with the meaning and the error codes of `wit/v0/kv.wit`.

use std::sync::Arc;

use midplane_core::limits::Limits;
use midplane_core::{Error, ProfileName, Result};
use rusqlite::{Connection, OptionalExtension, params};

use crate::sqlite::Db;
use crate::sqlite::error::{sql, uint};

/// Keys of one profile. The contract bounds the bytes of values only; this bounds what many empty values would cost.
pub const KV_KEYS_MAX: u64 = 100_000;

/// Keys of one page, as the contract says.
const PAGE_MAX: u32 = 1_000;

/// The handle.
#[derive(Clone)]
pub struct Kv {
    db: Arc<Db>,
}

impl Kv {
    pub(crate) fn new(db: Arc<Db>) -> Self {
        Self { db }
    }

    /// The value of a key and its revision. Sees every `put` that returned before.
    pub async fn get(&self, profile: &ProfileName, key: &str) -> Result<Option<(Vec<u8>, u64)>> {
        let (profile, key) = place(profile, key)?;
        let get = move |conn: &Connection| {
            let found: Option<(Vec<u8>, i64)> = conn
                .prepare_cached("SELECT value, revision FROM kv WHERE profile = ? AND key = ?")
                .and_then(|mut s| {
                    s.query_row(params![profile.as_str(), key], |row| Ok((row.get(0)?, row.get(1)?))).optional()
                })
                .map_err(sql)?;
            found.map(|(value, revision)| Ok((value, uint(revision)?))).transpose()
        };
        self.db.read(get).await
    }

    /// Writes a value and gives its revision, which is larger than any before and at least 1. `expect`: unset for always,
    /// 0 for absent, else exactly this revision. `total_bytes_max` bounds all values of the profile together.
    ///
    /// Errors: `conflict` `revision`; `limit` `value-size` or `kv-full`; `invalid` `kv-key`.
    pub async fn put(
        &self,
        profile: &ProfileName,
        key: &str,
        value: Vec<u8>,
        expect: Option<u64>,
        total_bytes_max: u64,
    ) -> Result<u64> {
        let (profile, key) = place(profile, key)?;
        let value_bytes_max = Limits::default().kv_value_bytes_max;
        if value.len() as u64 > value_bytes_max {
            return Err(Error::limit(
                "value-size",
                format!("a value has at most {value_bytes_max} bytes, and this has {}", value.len()),
            ));
        }
        let put = move |conn: &Connection| {
            check_revision(conn, &profile, &key, expect)?;
            let revision: i64 = conn
                .prepare_cached("UPDATE kv_revision SET last = last + 1 RETURNING last")
                .and_then(|mut s| s.query_row([], |row| row.get(0)))
                .map_err(sql)?;
            conn.prepare_cached(
                "INSERT INTO kv (profile, key, revision, value) VALUES (?, ?, ?, ?)
                 ON CONFLICT DO UPDATE SET revision = excluded.revision, value = excluded.value",
            )
            .and_then(|mut s| s.execute(params![profile.as_str(), key, revision, value]))
            .map_err(sql)?;
            // After the write, since the triggers have done the sum then; a refusal undoes it.
            let (keys, bytes): (i64, i64) = conn
                .prepare_cached("SELECT keys, value_bytes FROM kv_usage WHERE profile = ?")
                .and_then(|mut s| s.query_row([profile.as_str()], |row| Ok((row.get(0)?, row.get(1)?))))
                .map_err(sql)?;
            if uint(bytes)? > total_bytes_max {
                return Err(full(&profile, format!("more than {total_bytes_max} bytes")));
            }
            if uint(keys)? > KV_KEYS_MAX {
                return Err(full(&profile, format!("more than {KV_KEYS_MAX} keys")));
            }
            uint(revision)
        };
        self.db.write(put).await
    }

    /// Removes a key and says whether it was there. `expect` as in [`Kv::put`].
    pub async fn remove(&self, profile: &ProfileName, key: &str, expect: Option<u64>) -> Result<bool> {
        let (profile, key) = place(profile, key)?;
        let remove = move |conn: &Connection| {
            check_revision(conn, &profile, &key, expect)?;
            conn.prepare_cached("DELETE FROM kv WHERE profile = ? AND key = ?")
                .and_then(|mut s| s.execute(params![profile.as_str(), key]))
                .map_err(sql)
        };
        Ok(self.db.write(remove).await? == 1)
    }

    /// Keys that start with `prefix`, in byte order, those after `after` if set; at most `limit` and never more than 1000.
    pub async fn keys(
        &self,
        profile: &ProfileName,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>> {
        let (profile, prefix, after) = (profile.clone(), prefix.to_owned(), after.map(str::to_owned));
        let keys = move |conn: &Connection| {
            // Keys with one prefix lie together, so the page begins at it and ends at the first key without it.
            let mut statement = conn
                .prepare_cached(
                    "SELECT key FROM kv WHERE profile = ?1 AND key >= ?2 AND key > ?3 ORDER BY key LIMIT ?4",
                )
                .map_err(sql)?;
            // No key is empty, so the empty text is before all.
            let values = params![profile.as_str(), prefix, after.unwrap_or_default(), limit.min(PAGE_MAX)];
            let mut rows = statement.query(values).map_err(sql)?;
            let mut found = Vec::new();
            while let Some(row) = rows.next().map_err(sql)? {
                let key: String = row.get(0).map_err(sql)?;
                if !key.starts_with(&prefix) {
                    break;
                }
                found.push(key);
            }
            Ok(found)
        };
        self.db.read(keys).await
    }

    /// Removes all of a profile and says how many keys that were.
    pub async fn remove_profile(&self, profile: &ProfileName) -> Result<u64> {
        let profile = profile.clone();
        let remove = move |conn: &Connection| {
            let keys = conn.execute("DELETE FROM kv WHERE profile = ?", [profile.as_str()]).map_err(sql)?;
            conn.execute("DELETE FROM kv_usage WHERE profile = ?", [profile.as_str()]).map_err(sql)?;
            Ok(keys as u64)
        };
        self.db.write(remove).await
    }
}

/// A key that the contract allows.
fn place(profile: &ProfileName, key: &str) -> Result<(ProfileName, String)> {
    let bytes_max = Limits::default().kv_key_bytes_max;
    if key.is_empty() || key.len() as u64 > bytes_max || key.chars().any(char::is_control) {
        return Err(Error::invalid("kv-key", format!("a key has 1 to {bytes_max} bytes and no control characters")));
    }
    Ok((profile.clone(), key.to_owned()))
}

fn check_revision(conn: &Connection, profile: &ProfileName, key: &str, expect: Option<u64>) -> Result<()> {
    let Some(expect) = expect else { return Ok(()) };
    let found: Option<i64> = conn
        .prepare_cached("SELECT revision FROM kv WHERE profile = ? AND key = ?")
        .and_then(|mut s| s.query_row(params![profile.as_str(), key], |row| row.get(0)).optional())
        .map_err(sql)?;
    let found = uint(found.unwrap_or(0))?;
    if found == expect {
        return Ok(());
    }
    let say = |revision| if revision == 0 { "absent".to_owned() } else { format!("at revision {revision}") };
    let shown = midplane_core::text::shown(key, 80);
    Err(Error::conflict("revision", format!("`{shown}` is {}, and was expected {}", say(found), say(expect))))
}

fn full(profile: &ProfileName, what: String) -> Error {
    Error::limit("kv-full", format!("`{profile}` would keep {what}")).hint("remove keys that are no longer needed")
}
