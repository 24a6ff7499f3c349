//! `kv`, blobs and log lines: what the host keeps for a guest.

use std::io::Write as _;

use midplane_plugin::Result;
use midplane_plugin::agent::Outcome;
use midplane_plugin::bindings::midplane::plugin::blob;
use midplane_plugin::host::Level;

use crate::{Behaviour, Call, survived};

pub(crate) const BEHAVIOURS: &[(&str, Behaviour)] = &[
    ("kv_flood", kv_flood),
    ("kv_value", kv_value),
    ("kv_key", kv_key),
    ("kv_revision", kv_revision),
    ("blob_flood", blob_flood),
    ("blob_write", blob_write),
    ("blob_range", blob_range),
    ("log_flood", log_flood),
    ("stdout_flood", stdout_flood),
];

fn kv_flood(call: &Call<'_>) -> Result<Outcome> {
    for i in 0..1_000 {
        call.host.kv_put(&format!("k{i}"), &vec![7; 1024 * 1024], None)?;
    }
    survived("a gigabyte of state")
}

fn kv_value(call: &Call<'_>) -> Result<Outcome> {
    call.host.kv_put("k", &vec![7; 1024 * 1024 + 1], None)?;
    survived("a value of more than 1 MiB")
}

/// The parameter is the length; without one, a key with a control character.
fn kv_key(call: &Call<'_>) -> Result<Outcome> {
    let key = match call.number(1) {
        0 => "a\u{0}b".to_owned(),
        length => "k".repeat(usize::try_from(length).unwrap_or(0)),
    };
    call.host.kv_put(&key, b"x", None)?;
    survived("such a key")
}

fn kv_revision(call: &Call<'_>) -> Result<Outcome> {
    call.host.kv_put("k", b"x", Some(u64::MAX))?;
    survived("a revision that never was")
}

fn blob_flood(_call: &Call<'_>) -> Result<Outcome> {
    let writer = blob::open_writer()?;
    for _ in 0..1_000 {
        writer.write(&vec![7; 1024 * 1024])?;
    }
    survived("a gigabyte in a blob")
}

fn blob_write(_call: &Call<'_>) -> Result<Outcome> {
    blob::open_writer()?.write(&vec![7; 2 * 1024 * 1024])?;
    survived("2 MiB in one write")
}

fn blob_range(_call: &Call<'_>) -> Result<Outcome> {
    let writer = blob::open_writer()?;
    writer.write(b"x")?;
    let bytes = blob::Writer::finish(writer)?;
    if !bytes.read(u64::MAX, u32::MAX)?.is_empty() {
        return survived("bytes beyond the end");
    }
    bytes.slice(u64::MAX, Some(u64::MAX))?;
    survived("a part beyond the end")
}

fn log_flood(call: &Call<'_>) -> Result<Outcome> {
    for i in 0..100_000 {
        call.host.log(Level::Info, &format!("flood {i}"));
    }
    Ok(Outcome::done(""))
}

/// Without the end of a line.
fn stdout_flood(_call: &Call<'_>) -> Result<Outcome> {
    let piece = vec![b'y'; 64 * 1024];
    for _ in 0..1_024 {
        // It is not for the guest to know whether anybody reads it.
        let _ = std::io::stdout().write_all(&piece);
    }
    Ok(Outcome::done(""))
}
