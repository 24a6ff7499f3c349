//! Ids of deployments, content-addressed ids, idempotency keys.
//!
//! # Layout
//! - [`DeploymentId`]: `dep_` and 12 lower-case hex digits, nothing else
//! - [`Content`]: what a deployment is made of, and the id that follows from it alone
//! - [`IdempotencyKey`]: 32 hex digits that stand for one request, for [`IDEMPOTENCY_WINDOW_MS`]
//!
//! The forms are runtm-shared's (`ids.py`). Its check took whatever Python's `int(text, 16)` takes (signs, underscores, white
//! space, digits of any script), and such ids became parts of storage keys; here a text has the form or it is refused.
//! Its "deterministic" id hashed the second of the clock, so that a retry got another id; here it hashes the content.
//!
//! # What it never does
//! It reads no clock and rolls no dice: time and random bytes are arguments.

use sha2::{Digest as _, Sha256};

use super::limits::IDEMPOTENCY_WINDOW_MS;
use crate::Digest;
use crate::ids::text_id;

/// What every deployment id begins with.
pub const PREFIX: &str = "dep_";

text_id!(
    /// One deployment: [`PREFIX`] and 12 lower-case hex digits.
    DeploymentId, "deployment id", "deployment-id", deployment_id
);

impl DeploymentId {
    /// An id from random bytes of the caller's.
    #[must_use]
    pub fn from_random(random: [u8; 6]) -> Self {
        Self(format!("{PREFIX}{}", hex(&random)))
    }

    /// The id of a content: the first 12 digits of its digest. 48 bits are enough to tell deployments apart, not to
    /// prove that two are the same: whoever stores one keeps [`Content::digest`] beside it and compares that.
    #[must_use]
    pub fn of(content: &Content<'_>) -> Self {
        Self(format!("{PREFIX}{}", content.digest().short()))
    }
}

/// What a deployment is made of. Equal contents have equal ids, at any time and on any machine.
#[derive(Debug, Clone, Copy)]
pub struct Content<'a> {
    /// Whose it is: two tenants with the same project do not share an id.
    pub tenant: &'a str,
    /// The name in the manifest.
    pub name: &'a str,
    /// The manifest, as its bytes.
    pub manifest: &'a [u8],
    /// The digest of the packed artifact.
    pub artifact: &'a Digest,
}

impl Content<'_> {
    /// SHA-256 over the parts. Each goes in with its length in front, so that no two contents are one text to the hash
    /// (`ab` + `c` against `a` + `bc`), and a tag keeps it apart from hashes of other things.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        let parts: [&[u8]; 5] = [
            b"midplane.deployment.1",
            self.tenant.as_bytes(),
            self.name.as_bytes(),
            self.manifest,
            self.artifact.as_str().as_bytes(),
        ];
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Digest::from_bytes(hash.finalize().as_ref())
    }
}

text_id!(
    /// What a client sends with a request so that sending it again does not do it again: 32 lower-case hex digits.
    IdempotencyKey, "idempotency key", "idempotency-key", idempotency_key
);

impl IdempotencyKey {
    /// A key from random bytes of the caller's.
    #[must_use]
    pub fn from_random(random: [u8; 16]) -> Self {
        Self(hex(&random))
    }

    /// Whether a key that was first seen at `created_ms` still stands for its request at `now_ms`. A clock that was
    /// set back makes no key older than new.
    #[must_use]
    pub fn stands(created_ms: u64, now_ms: u64) -> bool {
        now_ms.saturating_sub(created_ms) < IDEMPOTENCY_WINDOW_MS
    }
}

fn deployment_id(text: &str) -> Result<(), &'static str> {
    let digits = text.strip_prefix(PREFIX).unwrap_or_default();
    if is_lower_hex(digits, 12) {
        Ok(())
    } else {
        Err("it is `dep_` and 12 digits of `0-9a-f`, such as `dep_a1b2c3d4e5f6`")
    }
}

fn idempotency_key(text: &str) -> Result<(), &'static str> {
    if is_lower_hex(text, 32) {
        Ok(())
    } else {
        Err("it is 32 digits of `0-9a-f`, the same for each try of one request")
    }
}

fn is_lower_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
        // Writing to a string cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_form() {
        assert_eq!(DeploymentId::from_random([0, 1, 0xa2, 0xff, 4, 5]).as_str(), "dep_0001a2ff0405");
        for good in ["dep_000000000000", "dep_0b1010101010", "dep_ffffffffffff"] {
            assert_eq!(DeploymentId::new(good).expect(good).as_str(), good);
        }
        let bad = ["", "dep_", "dep_A1b2C3d4E5f6", "dep_a_b_c_d_e_ff", "dep_-a1b2c3d4e5f", "dep_0xa1b2c3d4e5"];
        let bad =
            bad.into_iter().chain(["dep_a1b2c3d4e5f\n", " dep_a1b2c3d4e5f6", "dep_a1b2c3d4e5f66", "dep_１b2c3d4e5f60"]);
        for bad in bad {
            assert_eq!(DeploymentId::new(bad).expect_err(bad).code, "deployment-id", "{bad:?}");
        }
        let json = serde_json::to_string(&DeploymentId::from_random([7; 6])).expect("an id is text");
        assert_eq!(json, "\"dep_070707070707\"");
        assert!(serde_json::from_str::<DeploymentId>("\"dep_07\"").is_err());
    }

    #[test]
    fn equal_contents_have_equal_ids_and_others_do_not() {
        let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
        let base = Content { tenant: "t", name: "api", manifest: b"name: api\n", artifact: &one };
        // Frozen: an id that changes with a release would make a retry a second deployment.
        assert_eq!(DeploymentId::of(&base).as_str(), "dep_e8772095524e");
        let others = [
            Content { tenant: "u", ..base },
            Content { name: "ap", ..base },
            Content { manifest: b"name: api", ..base },
            Content { artifact: &two, ..base },
            // The same text when put together without lengths.
            Content { tenant: "ta", name: "pi", ..base },
            Content { name: "apiname: ", manifest: b"api\n", ..base },
        ];
        let ids: std::collections::BTreeSet<_> = others.iter().chain([&base]).map(DeploymentId::of).collect();
        assert_eq!(ids.len(), others.len() + 1);
    }

    #[test]
    fn a_key_stands_for_a_day() {
        let hour_ms = 3_600_000;
        assert!(IdempotencyKey::stands(1_000, 1_000));
        assert!(IdempotencyKey::stands(1_000, 1_000 + 24 * hour_ms - 1));
        assert!(!IdempotencyKey::stands(1_000, 1_000 + 24 * hour_ms));
        assert!(IdempotencyKey::stands(1_000, 0), "a clock that was set back");
        assert!(IdempotencyKey::stands(u64::MAX, u64::MAX));
        let key = IdempotencyKey::from_random([0xab; 16]);
        assert_eq!(key.as_str(), "ab".repeat(16));
        assert_eq!(IdempotencyKey::new("AB".repeat(16)).expect_err("upper case").code, "idempotency-key");
    }
}
