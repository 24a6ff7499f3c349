//! Leases that several processes see: `core::deploy::lease` decides, this keeps. One transaction a decision, so that of two
//! that ask for the last place one gets it.

use std::sync::Arc;

use midplane_core::Result;
use midplane_core::deploy::lease::{Decision, Lease, Released, Request, Scope, Slots};
use rusqlite::{Connection, params};

use crate::sqlite::Db;
use crate::sqlite::error::{int, sql, uint};

/// The handle. Times are the caller's, in milliseconds since 1970 UTC; processes that share a store share a clock.
#[derive(Clone)]
pub struct Leases {
    db: Arc<Db>,
}

impl Leases {
    pub(crate) fn new(db: Arc<Db>) -> Self {
        Self { db }
    }

    /// Asks for a lease: granted with a fence, or refused with how many places are taken. See [`Slots::acquire`].
    pub async fn acquire(&self, scope: &Scope, request: Request, now_ms: u64) -> Result<Decision> {
        let scope = scope.clone();
        let acquire = move |conn: &Connection| {
            let mut slots = slots(conn, &scope)?;
            let decision = slots.acquire(&request, now_ms)?;
            if let Decision::Granted { lease, .. } = &decision {
                let (resource, tenant) = (scope.resource(), scope.tenant());
                let (now_ms, last_fence) = (int(now_ms)?, int(slots.last_fence())?);
                conn.prepare_cached("DELETE FROM leases WHERE resource = ? AND tenant = ? AND expires_ms <= ?")
                    .and_then(|mut s| s.execute(params![resource, tenant, now_ms]))
                    .map_err(sql)?;
                conn.prepare_cached(
                    "INSERT INTO lease_scopes VALUES (?, ?, ?)
                     ON CONFLICT DO UPDATE SET last_fence = excluded.last_fence",
                )
                .and_then(|mut s| s.execute(params![resource, tenant, last_fence]))
                .map_err(sql)?;
                put(conn, &scope, lease)?;
            }
            Ok(decision)
        };
        self.db.write(acquire).await
    }

    /// The heartbeat of a lease. See [`Slots::renew`].
    pub async fn renew(&self, scope: &Scope, owner: &str, fence: u64, ttl_ms: u64, now_ms: u64) -> Result<Lease> {
        let (scope, owner) = (scope.clone(), owner.to_owned());
        let renew = move |conn: &Connection| {
            let lease = slots(conn, &scope)?.renew(&owner, fence, ttl_ms, now_ms)?;
            put(conn, &scope, &lease)?;
            Ok(lease)
        };
        self.db.write(renew).await
    }

    /// Gives a lease back. See [`Slots::release`].
    pub async fn release(&self, scope: &Scope, owner: &str, fence: u64, now_ms: u64) -> Result<Released> {
        let (scope, owner) = (scope.clone(), owner.to_owned());
        let release = move |conn: &Connection| {
            let released = slots(conn, &scope)?.release(&owner, fence, now_ms);
            if released.released {
                conn.prepare_cached("DELETE FROM leases WHERE resource = ? AND tenant = ? AND owner = ?")
                    .and_then(|mut s| s.execute([scope.resource(), scope.tenant(), &owner]))
                    .map_err(sql)?;
            }
            Ok(released)
        };
        self.db.write(release).await
    }

    /// How many places are taken.
    pub async fn count(&self, scope: &Scope, now_ms: u64) -> Result<u64> {
        Ok(self.slots(scope).await?.count(now_ms))
    }

    /// The leases of a scope, to list them or to ask whether a fence is still good. Expired ones may be among those kept.
    pub async fn slots(&self, scope: &Scope) -> Result<Slots> {
        let scope = scope.clone();
        self.db.read(move |conn: &Connection| slots(conn, &scope)).await
    }
}

/// What is kept of a scope. One statement, so that a reader sees one moment.
fn slots(conn: &Connection, scope: &Scope) -> Result<Slots> {
    let mut statement = conn
        .prepare_cached(
            "SELECT last_fence, owner, fence, counted, expires_ms
             FROM lease_scopes LEFT JOIN leases USING (resource, tenant) WHERE resource = ? AND tenant = ?",
        )
        .map_err(sql)?;
    let mut rows = statement.query([scope.resource(), scope.tenant()]).map_err(sql)?;
    let (mut last_fence, mut leases) = (0, Vec::new());
    while let Some(row) = rows.next().map_err(sql)? {
        last_fence = uint(row.get(0).map_err(sql)?)?;
        let Some(owner) = row.get(1).map_err(sql)? else { continue };
        leases.push(Lease {
            owner,
            fence: uint(row.get(2).map_err(sql)?)?,
            counted: row.get(3).map_err(sql)?,
            expires_ms: uint(row.get(4).map_err(sql)?)?,
        });
    }
    Ok(Slots::kept(last_fence, leases))
}

fn put(conn: &Connection, scope: &Scope, lease: &Lease) -> Result<()> {
    let (fence, expires_ms) = (int(lease.fence)?, int(lease.expires_ms)?);
    let values = params![scope.resource(), scope.tenant(), lease.owner, fence, lease.counted, expires_ms];
    conn.prepare_cached(
        "INSERT INTO leases VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET fence = excluded.fence, counted = excluded.counted, expires_ms = excluded.expires_ms",
    )
    .and_then(|mut s| s.execute(values))
    .map_err(sql)?;
    Ok(())
}
