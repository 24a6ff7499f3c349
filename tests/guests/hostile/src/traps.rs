//! Ways to end without returning.

use midplane_plugin::agent::Outcome;
use midplane_plugin::bindings::midplane::plugin::{blob, http};
use midplane_plugin::{Result, json};

use crate::event::{event, start};
use crate::net::request;
use crate::workspace::spawn;
use crate::{Behaviour, Call};

pub(crate) const BEHAVIOURS: &[(&str, Behaviour)] =
    &[("trap", trap), ("trap_holding", trap_holding), ("trap_after_events", trap_after_events), ("exit", exit)];

fn trap(_call: &Call<'_>) -> Result<Outcome> {
    panic!("as asked")
}

/// With a response that is being read, a child that runs, and a blob in the making: all of them must go.
fn trap_holding(call: &Call<'_>) -> Result<Outcome> {
    let response = http::send(&request(call.host, "/drip"), &http::Body::Empty)?;
    let child = spawn(&["sleep", "600"])?;
    let writer = blob::open_writer()?;
    writer.write(&[1; 1024])?;
    let _first = response.read(1)?;
    let (_status, _held) = (response.status(), (child, writer));
    panic!("holding resources")
}

/// What was acknowledged stays.
fn trap_after_events(call: &Call<'_>) -> Result<Outcome> {
    start(call.host, "s")?;
    call.host.emit(&[event("assistant_text", &json!({ "text": "last words" }))])?;
    panic!("after events")
}

/// A program's way to end, also with a code that says that all is well.
fn exit(call: &Call<'_>) -> Result<Outcome> {
    std::process::exit(i32::try_from(call.number(1)).unwrap_or(1))
}
