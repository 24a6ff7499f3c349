//! Typed notes in `kv`. Each is an object with a `format` number: a newer plugin may read what an older one wrote, an
//! older one must not guess.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::host::Host;

/// Longest value, in bytes (`wit/v0/kv.wit`).
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;

/// A note with its revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note<T> {
    /// What was stored.
    pub value: T,
    /// The revision to expect when writing it again.
    pub revision: u64,
}

/// The format number alone, read before anything else of the value is believed.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

#[derive(Serialize)]
struct Stored<'a, T> {
    format: u32,
    #[serde(flatten)]
    value: &'a T,
}

/// Reads a note. `unsupported` code `kv-format` when a newer plugin wrote it, `internal` code `kv-damaged` when it
/// cannot be read.
pub fn get<T: DeserializeOwned>(host: &dyn Host, key: &str, format: u32) -> Result<Option<Note<T>>> {
    let Some(entry) = host.kv_get(key)? else { return Ok(None) };
    let damaged =
        |error: serde_json::Error| Error::internal("kv-damaged", format!("the note `{key}` cannot be read: {error}"));
    let written: Format = serde_json::from_slice(&entry.value).map_err(damaged)?;
    if written.format != format {
        return Err(Error::unsupported(
            "kv-format",
            format!("the note `{key}` has format {}, this plugin reads {format}", written.format),
        )
        .hint("use the version of the plugin that wrote it, or a newer one"));
    }
    let value = serde_json::from_slice(&entry.value).map_err(damaged)?;
    Ok(Some(Note { value, revision: entry.revision }))
}

/// Writes a note and returns its revision. `value` must be an object. `expect` as in `kv.put`.
pub fn put<T: Serialize>(host: &dyn Host, key: &str, format: u32, value: &T, expect: Option<u64>) -> Result<u64> {
    let bytes = serde_json::to_vec(&Stored { format, value })?;
    host.kv_put(key, &bytes, expect)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::testing::FakeHost;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Cursor {
        at: u64,
    }

    #[test]
    fn a_note_comes_back_with_the_revision_to_write_it_again() {
        let host = FakeHost::new();
        assert_eq!(get::<Cursor>(&host, "c", 1), Ok(None));
        let revision = put(&host, "c", 1, &Cursor { at: 7 }, Some(0)).expect("stored");
        assert_eq!(get(&host, "c", 1), Ok(Some(Note { value: Cursor { at: 7 }, revision })));
        let error = put(&host, "c", 1, &Cursor { at: 8 }, Some(0)).expect_err("it is there");
        assert_eq!(error.kind, ErrorKind::Conflict);
    }

    #[test]
    fn another_format_and_a_damaged_note_are_refused_by_name() {
        let host = FakeHost::new();
        put(&host, "c", 2, &Cursor { at: 7 }, None).expect("stored");
        let error = get::<Cursor>(&host, "c", 1).expect_err("newer");
        assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Unsupported, "kv-format"));
        host.kv_put("c", b"{\"format\":1", None).expect("stored");
        let error = get::<Cursor>(&host, "c", 1).expect_err("damaged");
        assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Internal, "kv-damaged"));
    }
}
