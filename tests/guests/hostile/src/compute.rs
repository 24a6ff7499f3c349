//! Processor, stack, memory, handles, large arguments.

use std::hint::black_box;

use midplane_plugin::agent::Outcome;
use midplane_plugin::bindings::midplane::plugin::blob;
use midplane_plugin::host::Level;
use midplane_plugin::{Result, json};

use crate::{Behaviour, Call, survived};

pub(crate) const BEHAVIOURS: &[(&str, Behaviour)] = &[
    ("done", done),
    ("spin", spin),
    ("spin_in_calls", spin_in_calls),
    ("recurse", recurse),
    ("recurse_shadow", recurse_shadow),
    ("grow_memory", grow_memory),
    ("many_handles", many_handles),
    ("many_handles_heard", many_handles_heard),
    ("huge_string", huge_string),
    ("huge_list", huge_list),
    ("huge_events", huge_events),
];

/// Nothing wrong: shows that a row's expectation is about its behaviour.
fn done(_call: &Call<'_>) -> Result<Outcome> {
    Ok(Outcome::done("fine"))
}

fn spin(_call: &Call<'_>) -> Result<Outcome> {
    loop {
        black_box(());
    }
}

/// Each stretch of guest code is short; together they are not.
fn spin_in_calls(call: &Call<'_>) -> Result<Outcome> {
    loop {
        black_box(call.host.cancelled());
    }
}

fn recurse(call: &Call<'_>) -> Result<Outcome> {
    survived(format!("{}", down(call.number(1))))
}

/// Two operations after the call, so that it cannot be made a loop; nothing whose address is taken, so that the frames are
/// on the native stack alone.
#[inline(never)]
fn down(n: u64) -> u64 {
    if n == u64::MAX { 0 } else { down(n + 1).wrapping_mul(31) ^ n }
}

/// The same on the stack that Rust keeps in linear memory, where the engine sees nothing but a bad address.
fn recurse_shadow(call: &Call<'_>) -> Result<Outcome> {
    survived(format!("{}", down_shadow(call.number(1))))
}

#[inline(never)]
fn down_shadow(n: u64) -> u64 {
    let mut frame = [n; 512];
    black_box(&mut frame);
    if n == u64::MAX { 0 } else { down_shadow(n + 1).wrapping_mul(31) ^ frame[3] }
}

fn grow_memory(_call: &Call<'_>) -> Result<Outcome> {
    let mut held = Vec::new();
    loop {
        held.push(black_box(vec![1_u8; 1024 * 1024]));
    }
}

fn many_handles(_call: &Call<'_>) -> Result<Outcome> {
    let mut held = Vec::new();
    for _ in 0..1_000_000 {
        held.push(blob::open_writer()?);
    }
    survived(format!("{} handles", held.len()))
}

/// One that hears the refusal gives some back and goes on.
fn many_handles_heard(_call: &Call<'_>) -> Result<Outcome> {
    let mut held = Vec::new();
    let refused = loop {
        match blob::open_writer() {
            Ok(writer) => held.push(writer),
            Err(error) => break error,
        }
    };
    if refused.code != "handles" {
        return Err(refused);
    }
    held.truncate(held.len() / 2);
    blob::open_writer().map(|_| Outcome::done(""))
}

fn huge_string(call: &Call<'_>) -> Result<Outcome> {
    call.host.log(Level::Info, &"x".repeat(20 * 1024 * 1024));
    survived("20 MiB in a log line")
}

fn huge_list(_call: &Call<'_>) -> Result<Outcome> {
    blob::open_writer()?.write(&vec![0; 64 * 1024 * 1024])?;
    survived("64 MiB in one write")
}

/// Each event is within its bound of the engine's budget for one call; all together are not.
fn huge_events(call: &Call<'_>) -> Result<Outcome> {
    let text = "x".repeat(1024 * 1024);
    let events: Vec<_> =
        (0..20).map(|_| crate::event::event("notification", &json!({ "type": "x", "text": text }))).collect();
    call.host.emit(&events)?;
    survived("20 MiB of events in one batch")
}
