//! Batches of events that come from outside as JSON text: the thirteen checks, the eight codes, the messages.
//!
//! The contract is antpath's (`validateRunnerEventBatch`): clients branch on the codes and show the messages, so both are
//! kept to the letter, also in what ECMAScript does to numbers, keys and strings on the way ([`crate::json`]). The
//! first check that fails decides; checks of one event all come before any check of the next.
//!
//! # What it never does
//! It knows no log: that a batch continues its run, was sent before, or follows a terminal is not seen here. It changes
//! nothing: a sequence number of `1e300` is valid, and the caller decides whether it has a place for it.

use std::fmt;

use smallvec::SmallVec;

use crate::Error;
use crate::event::EventKind;
use crate::json::{Document, JsonError, Text, Value, number_text};

/// The version of the envelope.
pub const VERSION: u32 = 1;

/// Events in one batch. Part of the contract, like the messages that name it.
pub const EVENTS_MAX: usize = 256;

/// A batch that passed all checks. It borrows the text that it was read from.
#[derive(Debug, Clone)]
pub struct Batch<'t> {
    doc: Document<'t>,
    run_id: u32,
    rows: Rows,
}

/// Of one event there often is no more, and it costs no list.
type Rows = SmallVec<[Row; 1]>;

/// One event of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Event<'b> {
    /// Its place in the run: whole, not negative, finite; more than that of the event before. Any such double.
    pub seq: f64,
    /// When it was, in milliseconds: whole, not negative, finite; not less than that of the event before.
    pub t_ms: f64,
    /// What it is about.
    pub kind: EventKind,
    /// Its fields, all numbers finite.
    pub data: Value<'b>,
}

/// An event by the place of its data, since a batch cannot borrow from itself.
#[derive(Debug, Clone, Copy)]
struct Row {
    seq: f64,
    t_ms: f64,
    kind: EventKind,
    data: u32,
}

impl Batch<'_> {
    /// The run that it is for: not empty, otherwise any string, a lone surrogate in it included.
    #[must_use]
    pub fn run_id(&self) -> Text<'_> {
        self.doc.text_at(self.run_id)
    }

    /// Its events, 1 to [`EVENTS_MAX`].
    pub fn events(&self) -> impl ExactSizeIterator<Item = Event<'_>> {
        let event = |row: &Row| Event { seq: row.seq, t_ms: row.t_ms, kind: row.kind, data: self.doc.value(row.data) };
        self.rows.iter().map(event)
    }

    /// The batch as JSON, keys in the order of the contract, unknown keys left out.
    #[must_use]
    pub fn to_json_text(&self) -> String {
        let mut out = format!("{{\"v\":{VERSION},\"runId\":");
        self.run_id().write_json(&mut out);
        out.push_str(",\"events\":[");
        for (index, event) in self.events().enumerate() {
            if index > 0 {
                out.push(',');
            }
            let (seq, t_ms, kind) = (number_text(event.seq), number_text(event.t_ms), event.kind.as_str());
            out.push_str(&format!("{{\"seq\":{seq},\"tMs\":{t_ms},\"kind\":\"{kind}\",\"data\":"));
            event.data.write_json(&mut out);
            out.push('}');
        }
        out.push_str("]}");
        out
    }
}

/// Why a batch was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchError {
    /// The text is not JSON, so it has no place in the contract's eight codes.
    NotJson(JsonError),
    /// A check failed.
    Refused {
        /// Which.
        code: BatchCode,
        /// The contract's message. It may quote a value of the batch in full, so it can be as long as the text.
        message: String,
    },
}

/// The eight stable codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BatchCode {
    /// The batch is no object.
    InvalidEnvelope,
    /// `v` is not 1.
    VersionMismatch,
    /// `runId` is no string, or empty.
    MissingRunId,
    /// `events` is no array, or empty.
    EmptyBatch,
    /// More than [`EVENTS_MAX`] events.
    BatchTooLarge,
    /// An event has not the shape of one.
    InvalidEvent,
    /// `seq` does not grow.
    SeqNotMonotonic,
    /// `tMs` falls.
    TMsNotMonotonic,
}

impl BatchCode {
    /// The word of the contract.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidEnvelope => "invalid_envelope",
            Self::VersionMismatch => "version_mismatch",
            Self::MissingRunId => "missing_run_id",
            Self::EmptyBatch => "empty_batch",
            Self::BatchTooLarge => "batch_too_large",
            Self::InvalidEvent => "invalid_event",
            Self::SeqNotMonotonic => "seq_not_monotonic",
            Self::TMsNotMonotonic => "t_ms_not_monotonic",
        }
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson(error) => write!(f, "not JSON: {error}"),
            Self::Refused { message, .. } => f.write_str(message),
        }
    }
}

impl std::error::Error for BatchError {}

impl From<JsonError> for BatchError {
    fn from(error: JsonError) -> Self {
        Self::NotJson(error)
    }
}

impl From<BatchError> for Error {
    fn from(error: BatchError) -> Self {
        match error {
            BatchError::NotJson(error) => error.into(),
            BatchError::Refused { code, message } => Self::invalid(code.as_str(), message),
        }
    }
}

/// Reads and checks a batch.
pub fn validate(text: &str) -> Result<Batch<'_>, BatchError> {
    check(Document::parse(text)?)
}

/// Reads and checks a batch whose bytes need not be UTF-8.
pub fn validate_bytes(bytes: &[u8]) -> Result<Batch<'_>, BatchError> {
    check(Document::parse_bytes(bytes)?)
}

/// Checks a batch that has been read.
pub fn check(doc: Document<'_>) -> Result<Batch<'_>, BatchError> {
    let (run_id, rows) = check_envelope(doc.root())?;
    Ok(Batch { doc, run_id, rows })
}

#[inline]
fn check_envelope(root: Value<'_>) -> Result<(u32, Rows), BatchError> {
    let Some(envelope) = root.as_object() else {
        return refuse(BatchCode::InvalidEnvelope, "batch must be a JSON object");
    };
    let [version, run_id, events] = envelope.pick(|key| match key {
        b"v" => Some(0),
        b"runId" => Some(1),
        b"events" => Some(2),
        _ => None,
    });
    if version.and_then(Value::as_f64) != Some(f64::from(VERSION)) {
        let message = format!("batch.v must equal {VERSION} (got {})", Quoted(version));
        return refuse(BatchCode::VersionMismatch, message);
    }
    let run_id = run_id.and_then(Value::as_text).filter(|text| !text.is_empty());
    let Some(run_id) = run_id else {
        return refuse(BatchCode::MissingRunId, "batch.runId must be a non-empty string");
    };
    let Some(events) = events.and_then(Value::as_array).filter(|events| !events.is_empty()) else {
        return refuse(BatchCode::EmptyBatch, "batch.events must be a non-empty array");
    };
    let rows = check_events(events.iter().take(EVENTS_MAX + 1));
    // How many there are comes before what is wrong with any of them. It takes another walk to know it, so it is only
    // asked where it can matter.
    if !rows.as_ref().is_ok_and(|rows| rows.len() <= EVENTS_MAX) {
        let count = events.iter().count();
        if count > EVENTS_MAX {
            let message = format!("batch.events has {count} entries; max is {EVENTS_MAX}");
            return refuse(BatchCode::BatchTooLarge, message);
        }
    }
    Ok((run_id.place(), rows?))
}

#[inline]
fn check_events<'d>(events: impl Iterator<Item = Value<'d>>) -> Result<Rows, BatchError> {
    let mut rows = Rows::new();
    for (index, event) in events.enumerate() {
        let row = check_event(index, event, rows.last())?;
        rows.push(row);
    }
    Ok(rows)
}

#[inline(always)]
fn check_event(index: usize, event: Value<'_>, before: Option<&Row>) -> Result<Row, BatchError> {
    let invalid = |what: &str| refuse(BatchCode::InvalidEvent, format!("events[{index}]{what}"));
    let Some(event) = event.as_object() else {
        return invalid(" must be a JSON object");
    };
    let [seq, t_ms, kind, data] = event.pick(|key| match key {
        b"seq" => Some(0),
        b"tMs" => Some(1),
        b"kind" => Some(2),
        b"data" => Some(3),
        _ => None,
    });
    let Some(seq) = seq.and_then(Value::as_whole) else {
        return invalid(".seq must be a non-negative integer");
    };
    let Some(t_ms) = t_ms.and_then(Value::as_whole) else {
        return invalid(".tMs must be a non-negative integer");
    };
    let word = kind.and_then(Value::as_text).and_then(Text::to_str);
    let Some(kind_known) = word.and_then(|word| EventKind::parse(&word)) else {
        let words = EventKind::ALL.map(EventKind::as_str).join(", ");
        return invalid(&format!(".kind must be one of: {words} (got {})", Quoted(kind)));
    };
    let Some(data) = data.filter(|data| data.as_object().is_some()) else {
        return invalid(".data must be a JSON object");
    };
    if !data.is_finite() {
        return invalid(".data must be JSON-serializable");
    }
    if let Some(before) = before {
        if seq <= before.seq {
            let (seq, last) = (number_text(seq), number_text(before.seq));
            let message = format!("events[{index}].seq={seq} must be strictly greater than the previous seq={last}");
            return refuse(BatchCode::SeqNotMonotonic, message);
        }
        if t_ms < before.t_ms {
            let (t_ms, last) = (number_text(t_ms), number_text(before.t_ms));
            let message = format!("events[{index}].tMs={t_ms} must be >= the previous tMs={last}");
            return refuse(BatchCode::TMsNotMonotonic, message);
        }
    }
    Ok(Row { seq, t_ms, kind: kind_known, data: data.place() })
}

fn refuse<T>(code: BatchCode, message: impl Into<String>) -> Result<T, BatchError> {
    Err(BatchError::Refused { code, message: message.into() })
}

/// A value as the original's messages quote it: the word `undefined` for one that is not there.
struct Quoted<'d>(Option<Value<'d>>);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("undefined"),
        }
    }
}
