//! Leases: who may run at once. In place of the original's counter, which leaked and over-admitted.
//!
//! ```text
//!  acquire(owner, limit) ──► granted: a fence, larger than any before in the scope ──► renew … renew ──► release
//!                       └──► refused: nothing changes                                    └── none in time: expired
//! ```
//! - A lease belongs to an *owner* and bears a *fence*. Only both together renew or release it, so that a second release,
//!   or one that comes too late, frees nobody else's.
//! - A lease that is not renewed in time expires. What its owner still does can be told by the fence: whoever is asked to
//!   act for a lease refuses a fence lower than the highest that it saw.
//! - An owner holds at most one lease of a scope. When it asks again (it was restarted, or did not hear the answer) it gets the
//!   same place under a new fence.
//! - A lease without a limit takes no place: it is a lease like others, and is not counted (as in the original).
//!
//! [`Slots`] is a pure structure, and the caller's clock its only time. `midplane-store` keeps it, one transaction a
//! decision.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::codes::codes;
use crate::{Error, Result};

/// What a caller asks for that sends no heartbeat: the six hours after which the original forgets its counter.
pub const TTL_MS_WITHOUT_HEARTBEAT: u64 = 21_600_000;

/// The longest time to the next heartbeat, seven days: a longer one is a mistake in units.
pub const TTL_MS_MAX: u64 = 604_800_000;

/// Live leases of one scope, counted or not: what bounds a decision where there is no limit.
pub const LEASES_MAX: usize = 10_000;

/// Bytes of the name of an owner, a resource or a tenant.
pub const NAME_BYTES_MAX: usize = 256;

codes! {
    /// The codes of leases.
    Limit "lease-limit":
        "As many are at it as may be at once."
        => "Wait until one is done, or raise the limit.";
    Conflict "lease-lost":
        "The lease expired, was released, or was taken anew by its owner under a later fence."
        => "Stop what it protected, and acquire again.";
    Invalid "lease-name":
        "An owner, a resource or a tenant of a lease has no name, or not one that can be kept."
        => "Use 1 to 256 bytes without control characters.";
    Invalid "lease-ttl":
        "The time to the next heartbeat is zero, or longer than a week."
        => "Give it in milliseconds: a few times as long as the owner needs between two heartbeats.";
    Limit "leases-full":
        "A scope without a limit holds as many leases as can be kept."
        => "Release what is done with, or set a limit.";
}

/// What is leased, and to whom it is rationed. Two parts, not one joined text: no pair can be taken for another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Scope {
    resource: String,
    tenant: String,
}

impl Scope {
    /// A scope such as (`deploy`, a tenant). The tenant may be empty, where there is only one. Error: `invalid` `lease-name`.
    pub fn new(resource: impl Into<String>, tenant: impl Into<String>) -> Result<Self> {
        let (resource, tenant) = (resource.into(), tenant.into());
        check_name("resource", &resource, 1)?;
        check_name("tenant", &tenant, 0)?;
        Ok(Self { resource, tenant })
    }

    /// What is leased.
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// To whom it is rationed.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.tenant
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Who asks: one deployment, one job. Not one process: a restart asks under the same name.
    pub owner: String,
    /// How many owners may hold a lease at once. Unset for no limit; zero or less admits nobody.
    pub limit: Option<i64>,
    /// The time to the first heartbeat, in milliseconds; at most [`TTL_MS_MAX`].
    pub ttl_ms: u64,
}

/// A lease as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lease {
    /// Whose it is.
    pub owner: String,
    /// Larger than that of every earlier lease of the scope; at least 1.
    pub fence: u64,
    /// Whether it takes a place. Not if it was granted without a limit.
    pub counted: bool,
    /// From this time on it is expired, in milliseconds since 1970 UTC.
    pub expires_ms: u64,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It is the owner's now.
    Granted {
        /// The lease.
        lease: Lease,
        /// Places taken from now on, this one included. 0 for a lease without a limit, as in the original.
        count: u64,
    },
    /// No place is free, and nothing was changed.
    Refused {
        /// Places taken.
        count: u64,
    },
}

impl Decision {
    /// The lease with the places taken, or a refusal as the error that a caller is told: `limit` `lease-limit`.
    pub fn granted(self) -> Result<(Lease, u64)> {
        match self {
            Self::Granted { lease, count } => Ok((lease, count)),
            Self::Refused { count } => {
                Err(Error::limit("lease-limit", format!("all places are taken, {count} by now"))
                    .hint("wait until one is done, or raise the limit"))
            }
        }
    }
}

/// What came of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Released {
    /// Whether it was held. A lease that is released twice, or too late, is not.
    pub released: bool,
    /// Places taken from now on.
    pub count: u64,
}

/// The leases of one scope.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slots {
    last_fence: u64,
    leases: BTreeMap<String, Lease>,
}

impl Slots {
    /// The leases as they were kept. `last_fence` is the largest fence ever granted in the scope.
    #[must_use]
    pub fn kept(last_fence: u64, leases: impl IntoIterator<Item = Lease>) -> Self {
        Self { last_fence, leases: leases.into_iter().map(|lease| (lease.owner.clone(), lease)).collect() }
    }

    /// The largest fence that was granted; 0 before the first.
    #[must_use]
    pub fn last_fence(&self) -> u64 {
        self.last_fence
    }

    /// The leases that are live, by owner.
    pub fn live(&self, now_ms: u64) -> impl Iterator<Item = &Lease> {
        self.leases.values().filter(move |lease| now_ms < lease.expires_ms)
    }

    /// How many places are taken.
    #[must_use]
    pub fn count(&self, now_ms: u64) -> u64 {
        self.live(now_ms).filter(|lease| lease.counted).count() as u64
    }

    /// Whether this fence is the owner's, and live: to be asked before acting for the lease.
    #[must_use]
    pub fn holds(&self, owner: &str, fence: u64, now_ms: u64) -> bool {
        self.live(now_ms).any(|lease| lease.owner == owner && lease.fence == fence)
    }

    /// Decides. A refusal changes nothing; a grant also forgets what has expired.
    ///
    /// An owner that holds a place keeps it, under a new fence, also when the limit was lowered below what is taken.
    ///
    /// Errors: `invalid` `lease-name` or `lease-ttl`; `limit` `leases-full`.
    pub fn acquire(&mut self, request: &Request, now_ms: u64) -> Result<Decision> {
        let Request { owner, limit, ttl_ms } = request;
        check_name("owner", owner, 1)?;
        let expires_ms = expiry(now_ms, *ttl_ms)?;
        let count = self.count(now_ms);
        let mine = self.live(now_ms).find(|lease| lease.owner == *owner);
        let has_place = mine.is_some_and(|lease| lease.counted);
        if let Some(limit) = limit
            && !has_place
            && i64::try_from(count).is_ok_and(|count| count >= *limit)
        {
            return Ok(Decision::Refused { count });
        }
        if mine.is_none() && self.live(now_ms).count() >= LEASES_MAX {
            return Err(Error::limit("leases-full", format!("a scope holds at most {LEASES_MAX} leases")));
        }
        // 2^64 grants are not reached; if they were, a fence that does not grow must not be given out.
        let fence = self
            .last_fence
            .checked_add(1)
            .ok_or_else(|| Error::limit("leases-full", "the scope has no fence left to give"))?;
        self.last_fence = fence;
        self.leases.retain(|_, lease| now_ms < lease.expires_ms);
        let lease = Lease { owner: owner.clone(), fence, counted: limit.is_some(), expires_ms };
        self.leases.insert(owner.clone(), lease.clone());
        Ok(Decision::Granted { lease, count: if limit.is_some() { self.count(now_ms) } else { 0 } })
    }

    /// The heartbeat: the lease expires `ttl_ms` from now, and gives the new lease.
    ///
    /// Errors: `conflict` `lease-lost` if it expired, was released, or the fence is not the owner's any more; `invalid` `lease-ttl`.
    pub fn renew(&mut self, owner: &str, fence: u64, ttl_ms: u64, now_ms: u64) -> Result<Lease> {
        let expires_ms = expiry(now_ms, ttl_ms)?;
        let held = |lease: &&mut Lease| lease.fence == fence && now_ms < lease.expires_ms;
        let lease = self.leases.get_mut(owner).filter(held).ok_or_else(|| {
            let shown = crate::text::shown(owner, 80);
            Error::conflict("lease-lost", format!("`{shown}` does not hold a lease with fence {fence} any more"))
                .hint("stop what it protected, and acquire again")
        })?;
        // A heartbeat never shortens what was promised.
        lease.expires_ms = lease.expires_ms.max(expires_ms);
        Ok(lease.clone())
    }

    /// Gives a lease back. Without effect unless owner and fence are those of a live lease.
    pub fn release(&mut self, owner: &str, fence: u64, now_ms: u64) -> Released {
        let released = self.holds(owner, fence, now_ms);
        if released {
            self.leases.remove(owner);
        }
        Released { released, count: self.count(now_ms) }
    }
}

fn expiry(now_ms: u64, ttl_ms: u64) -> Result<u64> {
    if ttl_ms == 0 || ttl_ms > TTL_MS_MAX {
        return Err(Error::invalid(
            "lease-ttl",
            format!("the time to the next heartbeat is 1 to {TTL_MS_MAX} ms, not {ttl_ms}"),
        ));
    }
    Ok(now_ms.saturating_add(ttl_ms))
}

fn check_name(what: &str, name: &str, bytes_min: usize) -> Result<()> {
    if !(bytes_min..=NAME_BYTES_MAX).contains(&name.len()) || name.chars().any(char::is_control) {
        return Err(Error::invalid(
            "lease-name",
            format!("the {what} of a lease has {bytes_min} to {NAME_BYTES_MAX} bytes and no control characters"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ErrorKind;

    fn request(owner: &str, limit: impl Into<Option<i64>>) -> Request {
        Request { owner: owner.to_owned(), limit: limit.into(), ttl_ms: 100 }
    }

    /// The fence that was granted, or the count of the refusal.
    fn acquire(slots: &mut Slots, owner: &str, limit: impl Into<Option<i64>>, now_ms: u64) -> Result<(u64, u64), u64> {
        match slots.acquire(&request(owner, limit), now_ms).expect("a good request") {
            Decision::Granted { lease, count } => Ok((lease.fence, count)),
            Decision::Refused { count } => Err(count),
        }
    }

    #[test]
    fn a_second_release_frees_nobody_else() {
        let mut slots = Slots::default();
        assert_eq!(acquire(&mut slots, "a", 2, 0), Ok((1, 1)));
        assert_eq!(acquire(&mut slots, "b", 2, 0), Ok((2, 2)));
        assert_eq!(slots.release("a", 1, 0), Released { released: true, count: 1 });
        for (owner, fence) in [("a", 1), ("b", 1), ("c", 2), ("", 0)] {
            assert_eq!(slots.release(owner, fence, 0), Released { released: false, count: 1 });
        }
        assert_eq!(acquire(&mut slots, "c", 2, 0), Ok((3, 2)));
        assert_eq!(acquire(&mut slots, "d", 2, 0), Err(2));
    }

    #[test]
    fn expiry_frees_and_refusals_do_not_prolong() {
        let mut slots = Slots::default();
        assert_eq!(acquire(&mut slots, "a", 1, 0), Ok((1, 1)));
        for now_ms in [50, 99] {
            let before = slots.clone();
            assert_eq!(acquire(&mut slots, "b", 1, now_ms), Err(1));
            assert_eq!(slots, before);
        }
        assert_eq!(slots.count(100), 0);
        assert_eq!(slots.renew("a", 1, 100, 100).expect_err("too late").code, "lease-lost");
        assert_eq!(acquire(&mut slots, "b", 1, 100), Ok((2, 1)));
        assert_eq!(slots.release("a", 1, 100), Released { released: false, count: 1 });
        assert_eq!(slots.renew("b", 2, 300, 150).map(|lease| lease.expires_ms), Ok(450));
        assert_eq!(slots.renew("b", 2, 10, 150).map(|lease| lease.expires_ms), Ok(450), "never shorter");
        assert_eq!(acquire(&mut slots, "a", 1, 449), Err(1));
    }

    #[test]
    fn an_owner_that_asks_again_keeps_its_place() {
        let mut slots = Slots::default();
        assert_eq!(acquire(&mut slots, "a", 2, 0), Ok((1, 1)));
        assert_eq!(acquire(&mut slots, "b", 2, 0), Ok((2, 2)));
        assert_eq!(acquire(&mut slots, "a", 2, 0), Ok((3, 2)), "at the limit");
        assert_eq!(acquire(&mut slots, "a", 1, 0), Ok((4, 2)), "and beyond, when it was lowered");
        assert_eq!(slots.renew("a", 1, 100, 0).expect_err("an old fence").code, "lease-lost");
        assert_eq!(slots.release("a", 3, 0), Released { released: false, count: 2 });
        assert_eq!(acquire(&mut slots, "a", None, 0), Ok((5, 0)), "it gives its place up");
        assert_eq!(slots.count(0), 1);
        assert_eq!(acquire(&mut slots, "a", 1, 0), Err(1), "and another may have it by now");
    }

    #[test]
    fn bad_requests() {
        let mut slots = Slots::default();
        for (owner, ttl_ms, code) in
            [("", 1, "lease-name"), ("a\n", 1, "lease-name"), ("a", 0, "lease-ttl"), ("a", TTL_MS_MAX + 1, "lease-ttl")]
        {
            let bad = Request { owner: owner.to_owned(), limit: None, ttl_ms };
            assert_eq!(slots.acquire(&bad, 0).expect_err("refused").code, code);
        }
        assert_eq!(acquire(&mut slots, "late", None, u64::MAX), Ok((1, 0)), "a time at the end of time is a time");
        for limit in [0, -1, i64::MIN] {
            assert_eq!(acquire(&mut slots, "a", limit, 0), Err(0));
        }
        let mut last = Slots::kept(u64::MAX, []);
        assert_eq!(last.acquire(&request("a", 1), 0).expect_err("no fence left").code, "leases-full");
        assert_eq!(Scope::new("", "t").expect_err("no resource").code, "lease-name");
        assert_ne!(Scope::new("a:b", "c"), Scope::new("a", "b:c"));
        let refused = Slots::default().acquire(&request("a", 0), 0).and_then(Decision::granted).expect_err("no place");
        assert_eq!((refused.kind, refused.code.as_ref()), (ErrorKind::Limit, "lease-limit"));
    }

    #[derive(Debug, Clone)]
    enum Call {
        Acquire(u8, bool),
        Renew(u8, u64),
        Release(u8, u64),
        Wait(u64),
    }

    fn calls() -> impl Strategy<Value = Vec<Call>> {
        let call = prop_oneof![
            4 => (0..6_u8, proptest::bool::weighted(0.8)).prop_map(|(owner, limited)| Call::Acquire(owner, limited)),
            2 => (0..6_u8, 0..3_u64).prop_map(|(owner, back)| Call::Renew(owner, back)),
            2 => (0..6_u8, 0..3_u64).prop_map(|(owner, back)| Call::Release(owner, back)),
            1 => (0..150_u64).prop_map(Call::Wait),
        ];
        proptest::collection::vec(call, 0..80)
    }

    proptest! {
        /// Whatever is asked in whatever order: never more places than the limit, fences only grow, a refusal changes
        /// nothing, and only owner and fence together free a place, once.
        #[test]
        fn invariants(calls in calls(), limit in -1..5_i64) {
            let (mut slots, mut now_ms, mut last_fence) = (Slots::default(), 0, 0);
            // The newest fence that each owner was told.
            let mut told: BTreeMap<String, u64> = BTreeMap::new();
            for call in calls {
                let before = slots.clone();
                let count = before.count(now_ms);
                match call {
                    Call::Acquire(owner, limited) => {
                        let owner = format!("o{owner}");
                        match slots.acquire(&request(&owner, limited.then_some(limit)), now_ms)? {
                            Decision::Granted { lease, .. } => {
                                prop_assert!(lease.fence > last_fence && slots.holds(&owner, lease.fence, now_ms));
                                prop_assert_eq!(lease.counted, limited);
                                last_fence = lease.fence;
                                told.insert(owner, lease.fence);
                            }
                            Decision::Refused { count: taken } => {
                                prop_assert_eq!((&slots, taken), (&before, count));
                                prop_assert!(count as i64 >= limit);
                            }
                        }
                    }
                    Call::Renew(owner, back) => {
                        let owner = format!("o{owner}");
                        let fence = told.get(&owner).map_or(0, |fence| fence.saturating_sub(back));
                        let held = before.holds(&owner, fence, now_ms);
                        prop_assert_eq!(slots.renew(&owner, fence, 100, now_ms).is_ok(), held);
                        prop_assert!(held || slots == before);
                    }
                    Call::Release(owner, back) => {
                        let owner = format!("o{owner}");
                        let fence = told.get(&owner).map_or(0, |fence| fence.saturating_sub(back));
                        let held = before.holds(&owner, fence, now_ms);
                        prop_assert_eq!(slots.release(&owner, fence, now_ms).released, held);
                        let others = |slots: &Slots| slots.live(now_ms).filter(|lease| lease.owner != owner).cloned().collect::<Vec<_>>();
                        prop_assert_eq!(others(&slots), others(&before));
                        let after = slots.clone();
                        prop_assert!(!slots.release(&owner, fence, now_ms).released, "once");
                        prop_assert_eq!(&slots, &after);
                    }
                    Call::Wait(ms) => now_ms += ms,
                }
                prop_assert!(slots.count(now_ms) as i64 <= limit.max(0));
                prop_assert!(slots.last_fence() >= before.last_fence());
            }
        }
    }
}
