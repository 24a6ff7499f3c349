//! Keys of objects in storage: relative, in one form, unable to leave the place that they are below.
//!
//! The layout (`artifacts/ID/artifact.zip`, `build/ID`) is runtm-shared's; it built keys from any text, `../../x` included,
//! and let the store find out. Here a key that could leave its place cannot be made.

use super::id::DeploymentId;
use crate::ids::text_id;

/// Bytes of a whole key: what object stores allow.
pub const KEY_BYTES_MAX: usize = 1024;

/// Bytes of one segment: what file systems allow for a name.
pub const SEGMENT_BYTES_MAX: usize = 255;

text_id!(
    /// A key: segments joined by `/`, none of them empty, `.` or `..`.
    StorageKey, "storage key", "storage-key", check
);

impl StorageKey {
    /// Where the packed artifact of a deployment lies.
    #[must_use]
    pub fn artifact(id: &DeploymentId) -> Self {
        Self(format!("artifacts/{id}/artifact.zip"))
    }

    /// Below what the unpacked build context of a deployment lies.
    #[must_use]
    pub fn build_context(id: &DeploymentId) -> Self {
        Self(format!("build/{id}"))
    }

    /// Its segments; at least one.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

fn check(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("it is empty; a key is relative, such as `artifacts/dep_a1b2c3d4e5f6/artifact.zip`");
    }
    if text.len() > KEY_BYTES_MAX {
        return Err("it has more than 1024 bytes");
    }
    if text.starts_with('/') {
        return Err("it begins with `/`, and a key is relative");
    }
    // A backslash separates names on other systems, and a control character ends or hides a part of them.
    if text.contains(|c: char| c == '\\' || c.is_control()) {
        return Err("it has a backslash or a control character");
    }
    for segment in text.split('/') {
        match segment {
            "" => return Err("it has an empty segment"),
            "." | ".." => return Err("it has a `.` or `..` segment"),
            long if long.len() > SEGMENT_BYTES_MAX => return Err("a segment has more than 255 bytes"),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_deployment() {
        let id = DeploymentId::from_random([0; 6]);
        let key = StorageKey::artifact(&id);
        assert_eq!(key.as_str(), "artifacts/dep_000000000000/artifact.zip");
        assert_eq!(StorageKey::build_context(&id).as_str(), "build/dep_000000000000");
        for key in [key, StorageKey::build_context(&id)] {
            assert_eq!(StorageKey::new(key.as_str()).expect("what is built is valid"), key);
        }
    }

    #[test]
    fn a_key_cannot_leave_its_place() {
        let long = [format!("{}/b", "a".repeat(256)), vec!["a"; 600].join("/")];
        let bad = [
            "",
            "/",
            "/etc/passwd",
            "..",
            ".",
            "a/../b",
            "a/..",
            "../x",
            "a//b",
            "a/",
            "./a",
            "a\0b",
            "a\\..\\b",
            "a\nb",
        ];
        for bad in bad.into_iter().chain(long.iter().map(String::as_str)) {
            assert_eq!(StorageKey::new(bad).expect_err(bad).code, "storage-key", "{bad:?}");
        }
        for good in ["a", "a/b.zip", "..a/b..", "café/x y", "~"] {
            assert_eq!(StorageKey::new(good).expect(good).segments().collect::<Vec<_>>().join("/"), good);
        }
    }
}
