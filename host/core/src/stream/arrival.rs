//! An event of a batch as an event of the log.
//!
//! The log keeps the data of the sender as it came, less its secrets, and beside it, under [`OUTSIDE`], what the sender called
//! it. Where a record cannot hold the data (too deep for those that read records, half a surrogate pair), or where its
//! readers would take it for something else (a type that is the host's, a field [`OUTSIDE`] of the sender's own), the
//! data is kept as its JSON text.

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{CLAIM, OUTSIDE};
use crate::batch::{self, Batch};
use crate::event::{Event, EventKind, HOST_TYPES, Record};
use crate::json::{Document, number_text};
use crate::limits::Limits;
use crate::redact::{Redactor, TextStream};
use crate::{Error, Result};

/// Levels of a record's data; what is deeper is kept as text. Readers of records stop at 128, and a record has levels of
/// its own around the data.
const DEPTH_MAX: usize = 100;

/// What an event is recognised by when it is sent again: half of the SHA-256 over time, kind and data as the sender wrote
/// them, before redaction, so that it does not change with the secrets that are known.
pub(super) type Identity = [u8; 16];

/// An event of a batch, ready for the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrival {
    pub(super) seq: f64,
    pub(super) t_ms: f64,
    pub(super) identity: Identity,
    /// With the sender's kind, and its data with [`OUTSIDE`].
    pub(super) event: Event,
}

/// The events of a batch, redacted.
///
/// Errors: `limit` `event-size`.
pub fn arrivals(batch: &Batch<'_>, redactor: &Redactor, limits: &Limits) -> Result<Vec<Arrival>> {
    let mut arrivals = Vec::with_capacity(batch.events().len());
    let mut canonical = String::new();
    for (index, event) in batch.events().enumerate() {
        canonical.clear();
        event.data.write_canonical(&mut canonical);
        if canonical.len() as u64 > limits.event_bytes_max {
            let message = format!("events[{index}]: an event's data has at most {} bytes", limits.event_bytes_max);
            return Err(Error::limit("event-size", message));
        }
        arrivals.push(arrival(&event, &canonical, redactor));
    }
    join_texts(&mut arrivals, redactor);
    Ok(arrivals)
}

fn arrival(event: &batch::Event<'_>, canonical: &str, redactor: &Redactor) -> Arrival {
    // Minus zero and zero are one number, to the contract and to a search.
    let (seq, t_ms) = (event.seq + 0.0, event.t_ms + 0.0);
    let mut hash = Sha256::new();
    hash.update(format!("{} {}\n", number_text(t_ms), event.kind.as_str()));
    hash.update(canonical);
    let mut identity = Identity::default();
    identity.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
    let mut outside = json!({ "seq": whole(seq), "t_ms": whole(t_ms), "digest": hex(&identity) });
    let data = match event.data.to_plain(DEPTH_MAX) {
        Some(mut data) if can_be_read(event.kind, &data) => {
            redactor.json(&mut data);
            data
        }
        _ => {
            outside["text"] = Value::from(event.data.to_redacted_text(redactor));
            json!({})
        }
    };
    let mut event = Event::new(event.kind, data);
    event.data.insert(OUTSIDE.to_owned(), outside);
    Arrival { seq, t_ms, identity, event }
}

/// Whether readers of a log take data for what the sender meant.
fn can_be_read(kind: EventKind, data: &Value) -> bool {
    let of = data.get("type").and_then(Value::as_str).unwrap_or_default();
    let is_hosts = kind == EventKind::Notification && HOST_TYPES.contains(&of);
    !is_hosts && data.get(OUTSIDE).is_none()
}

/// Finds secrets that are cut by the pieces of one text. What could begin one moves on to the next piece.
fn join_texts(arrivals: &mut [Arrival], redactor: &Redactor) {
    let stream_of = |arrival: &Arrival| match arrival.event.kind {
        EventKind::AssistantText => Some("assistant_text"),
        _ => arrival.event.notification_type().filter(|of| *of == "thinking").map(|_| "thinking"),
    };
    for pieces in arrivals.chunk_by_mut(|a, b| stream_of(a).is_some() && stream_of(a) == stream_of(b)) {
        if pieces.len() < 2 {
            continue;
        }
        let mut stream = TextStream::new(redactor);
        let mut last = None;
        for piece in pieces {
            if let Some(Value::String(text)) = piece.event.data.get_mut("text") {
                *text = stream.push(text);
                last = Some(text);
            }
        }
        if let Some(last) = last {
            last.push_str(&stream.finish());
        }
    }
}

impl Arrival {
    pub(super) fn seq_text(&self) -> String {
        number_text(self.seq)
    }

    /// What is appended: the event, or, where it is a terminal, the claim of one.
    pub(super) fn to_event(&self) -> Event {
        let mut event = self.event.clone();
        if event.kind != EventKind::RuntimeTerminal {
            return event;
        }
        let outside = event.data.remove(OUTSIDE).unwrap_or_default();
        Event::notification(CLAIM, json!({ OUTSIDE: outside, "terminal": event.data }))
    }
}

/// Whether a record is a claim.
pub(super) fn is_claim(record: &Record) -> bool {
    record.kind == EventKind::Notification && record.data.get("type").and_then(Value::as_str) == Some(CLAIM)
}

/// The data of a claim; of one that is kept as text, the fields that can be read.
pub(super) fn claimed(data: &Map<String, Value>) -> Map<String, Value> {
    let text = data.get(OUTSIDE).and_then(|outside| outside.get("text")).and_then(Value::as_str);
    let Some(document) = text.and_then(|text| Document::parse(text).ok()) else {
        return data.get("terminal").and_then(Value::as_object).cloned().unwrap_or_default();
    };
    let fields = document.root().as_object().into_iter().flat_map(|object| object.own_entries());
    fields.filter_map(|(key, value)| Some((key.to_str()?.into_owned(), value.to_plain(DEPTH_MAX)?))).collect()
}

/// What the sender called a record.
pub(super) struct Place {
    pub(super) seq: f64,
    pub(super) t_ms: f64,
    pub(super) identity: Identity,
}

/// What the sender called a record, if it came from one.
pub(super) fn place(data: &Map<String, Value>) -> Option<Place> {
    let outside = data.get(OUTSIDE)?;
    let number = |name: &str| match outside.get(name)? {
        Value::String(text) => text.parse().ok(),
        value => value.as_f64(),
    };
    let identity = unhex(outside.get("digest")?.as_str()?)?;
    Some(Place { seq: number("seq")?, t_ms: number("t_ms")?, identity })
}

/// A whole double: as an integer where that is exact, else as its text, since readers of numbers may be an ulp off.
fn whole(number: f64) -> Value {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if number <= EXACT_MAX { Value::from(number as u64) } else { Value::from(number_text(number)) }
}

fn hex(identity: &Identity) -> String {
    identity.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Identity> {
    let mut identity = Identity::default();
    if text.len() != identity.len() * 2 {
        return None;
    }
    for (index, byte) in identity.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(identity)
}
