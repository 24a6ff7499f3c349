//! The registry: one row an installed plugin.

use std::path::PathBuf;
use std::sync::Arc;

use midplane_core::{Digest, PluginName, Result};
use rusqlite::{Connection, Row, params};

use crate::sqlite::Db;
use crate::sqlite::error::{damaged, int, sql, uint};

/// Where a plugin's component is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Component {
    /// Among the artifacts; it stays there as long as the row does.
    Artifact(Digest),
    /// A file of the operator's, read anew each time and checked against the row's digest.
    Path(PathBuf),
}

/// An installed plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginRow {
    /// Its name; installing again replaces the row.
    pub name: PluginName,
    /// Its version.
    pub version: String,
    /// Its kind.
    pub kind: String,
    /// Digest of the component.
    pub digest: Digest,
    /// Its manifest as text.
    pub manifest_toml: String,
    /// What it can do, JSON text.
    pub capabilities: String,
    /// When it was installed, in milliseconds since 1970 UTC.
    pub installed_ms: u64,
    /// Where it came from, for people.
    pub origin: String,
    /// Where its component is.
    pub component: Component,
    /// What the trial said: whether it loads.
    pub verdict: String,
}

/// The handle.
#[derive(Clone)]
pub struct Plugins {
    db: Arc<Db>,
}

impl Plugins {
    pub(crate) fn new(db: Arc<Db>) -> Self {
        Self { db }
    }

    /// Writes a row, over the one of the same name if there is one.
    pub async fn put(&self, row: PluginRow) -> Result<()> {
        let installed_ms = int(row.installed_ms)?;
        let put = move |conn: &Connection| {
            let (digest, path) = match &row.component {
                Component::Artifact(digest) => (Some(digest.as_str()), None),
                Component::Path(path) => {
                    // A path that is not text could not be shown, typed or kept in a configuration either.
                    let text = path.to_str().ok_or_else(|| {
                        midplane_core::Error::invalid("component-path", format!("`{}` is not UTF-8", path.display()))
                    })?;
                    (None, Some(text))
                }
            };
            conn.prepare_cached("INSERT OR REPLACE INTO plugins VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
                .and_then(|mut s| {
                    s.execute(params![
                        row.name.as_str(),
                        row.version,
                        row.kind,
                        row.digest.as_str(),
                        row.manifest_toml,
                        row.capabilities,
                        installed_ms,
                        row.origin,
                        digest,
                        path,
                        row.verdict,
                    ])
                })
                .map(|_| ())
                .map_err(sql)
        };
        self.db.write(put).await
    }

    /// A row by name.
    pub async fn get(&self, name: &PluginName) -> Result<Option<PluginRow>> {
        let name = name.clone();
        self.db.read(move |conn| Ok(select(conn, "WHERE name = ?", &[name.as_str()])?.pop())).await
    }

    /// All rows by name.
    pub async fn list(&self) -> Result<Vec<PluginRow>> {
        self.db.read(|conn| select(conn, "ORDER BY name", &[])).await
    }

    /// Removes a row and says whether it was there. Its artifact goes with the next collection.
    pub async fn remove(&self, name: &PluginName) -> Result<bool> {
        let name = name.clone();
        let remove =
            move |conn: &Connection| conn.execute("DELETE FROM plugins WHERE name = ?", [name.as_str()]).map_err(sql);
        Ok(self.db.write(remove).await? == 1)
    }
}

fn select(conn: &Connection, rest: &str, values: &[&str]) -> Result<Vec<PluginRow>> {
    let mut statement = conn
        .prepare_cached(&format!(
            "SELECT name, version, kind, digest, manifest_toml, capabilities, installed_ms, origin, component_digest, component_path,
                 verdict FROM plugins {rest}"
        ))
        .map_err(sql)?;
    let mut rows = statement.query(rusqlite::params_from_iter(values)).map_err(sql)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(sql)? {
        found.push(plugin(row)?);
    }
    Ok(found)
}

fn plugin(row: &Row<'_>) -> Result<PluginRow> {
    let text = |column: usize| row.get::<_, String>(column).map_err(sql);
    let digest = |text: String| Digest::new(text).map_err(damaged);
    let component = match (row.get(8).map_err(sql)?, row.get::<_, Option<String>>(9).map_err(sql)?) {
        (Some(stored), None) => Component::Artifact(digest(stored)?),
        (None, Some(path)) => Component::Path(path.into()),
        _ => return Err(damaged("a plugin without a component")),
    };
    Ok(PluginRow {
        name: PluginName::new(text(0)?).map_err(damaged)?,
        version: text(1)?,
        kind: text(2)?,
        digest: digest(text(3)?)?,
        manifest_toml: text(4)?,
        capabilities: text(5)?,
        installed_ms: uint(row.get(6).map_err(sql)?)?,
        origin: text(7)?,
        component,
        verdict: text(10)?,
    })
}
