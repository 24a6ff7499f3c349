//! The messages of a conversation, kept in `kv` so that a later run can go on.
//!
//! ```text
//! session/<id>                head: format, form, the list of segments     (compare-and-set)
//! session/<id>/<run>/<n>      one segment of at most 1 MiB; all segments joined are the messages, one JSON a line
//! ```
//!
//! Messages are only ever appended, so a save writes the new ones and then the head; a crash in between leaves a
//! segment that no head names, never half a conversation. Two runs that continue one conversation at once cannot mix:
//! the second to save finds a head of another revision, and goes on without saving.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent::Task;
use crate::error::{Error, Result};
use crate::host::{Host, Level};
use crate::kv;

/// Format of the head.
const FORMAT: u32 = 1;
/// Longest conversation that is kept, in bytes: it must fit into the memory of the guest that reads it, several times.
const BYTES_MAX: usize = 8 * 1024 * 1024;
/// Longest id of a session.
const ID_BYTES_MAX: usize = 128;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Head {
    /// The vendor's form of the messages.
    form: String,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Segment {
    /// `<run>/<n>`, after the key of the head.
    name: String,
    bytes: usize,
}

/// The messages of one conversation.
#[derive(Debug)]
pub struct Transcript {
    id: String,
    run: String,
    messages: Vec<Value>,
    head: Head,
    /// Revision of the head to expect; 0 when there is none.
    revision: u64,
    /// How many messages are stored.
    stored: usize,
    /// A save failed: what is stored is no longer all.
    unsaved: bool,
}

impl Transcript {
    /// The conversation that the task continues, or a new one. `not-found` code `session` when there is none of that
    /// id; `unsupported` code `session-form` when it was kept in another form.
    pub fn open(host: &dyn Host, form: &str, task: &Task) -> Result<Self> {
        let id = match &task.session {
            Some(session) => checked(&session.id)?,
            None => words(&task.run_id),
        };
        let key = head_key(&id);
        let stored = kv::get::<Head>(host, &key, FORMAT);
        let mut transcript = Self {
            id,
            run: words(&task.run_id),
            messages: Vec::new(),
            head: Head { form: form.to_owned(), segments: Vec::new() },
            revision: 0,
            stored: 0,
            unsaved: false,
        };
        let Some(session) = &task.session else {
            // The same run id again is a run that is repeated after its host was lost: it starts anew, and its
            // head is replaced.
            transcript.revision = stored.ok().flatten().map_or(0, |note| note.revision);
            return Ok(transcript);
        };
        if let Some(given) = &session.transcript {
            transcript.messages = serde_json::from_str(given).map_err(|error| {
                Error::invalid("session-transcript", format!("`session.transcript` is not a list of messages: {error}"))
            })?;
            transcript.revision = stored.ok().flatten().map_or(0, |note| note.revision);
            return Ok(transcript);
        }
        let note = stored?.ok_or_else(|| {
            Error::not_found("session", format!("there is no conversation `{}` in this profile", session.id))
        })?;
        if note.value.form != form {
            return Err(Error::unsupported(
                "session-form",
                format!("the conversation `{}` has the form `{}`, not `{form}`", session.id, note.value.form),
            ));
        }
        transcript.messages = load(host, &transcript.id, &note.value)?;
        transcript.stored = transcript.messages.len();
        transcript.head = note.value;
        transcript.revision = note.revision;
        Ok(transcript)
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// All messages.
    #[must_use]
    pub fn messages(&self) -> &[Value] {
        &self.messages
    }

    /// Appends a message.
    pub fn push(&mut self, message: Value) {
        self.messages.push(message);
    }

    /// Appends messages.
    pub fn extend(&mut self, messages: Vec<Value>) {
        self.messages.extend(messages);
    }

    /// The id, if a later run can go on from it.
    #[must_use]
    pub fn resumable_id(&self) -> Option<String> {
        (self.revision > 0 && !self.unsaved).then(|| self.id.clone())
    }

    /// Stores what is new. A conversation that cannot be kept does not fail the run: the work is done, and only going
    /// on later is lost, which the missing id says.
    pub fn save(&mut self, host: &dyn Host) {
        if self.unsaved || self.stored == self.messages.len() {
            return;
        }
        if let Err(error) = self.try_save(host) {
            self.unsaved = true;
            host.log(Level::Warn, &format!("the conversation `{}` is no longer kept: {}", self.id, error.message));
        }
    }

    fn try_save(&mut self, host: &dyn Host) -> Result<()> {
        let mut lines = Vec::new();
        for message in &self.messages[self.stored..] {
            serde_json::to_writer(&mut lines, message)?;
            lines.push(b'\n');
        }
        let mut head = self.head.clone();
        let before: usize = head.segments.iter().map(|segment| segment.bytes).sum();
        if before + lines.len() > BYTES_MAX {
            return Err(Error::limit("session-size", format!("it is longer than {BYTES_MAX} bytes")));
        }
        for part in lines.chunks(kv::VALUE_BYTES_MAX) {
            let name = format!("{}/{}", self.run, head.segments.len());
            host.kv_put(&segment_key(&self.id, &name), part, None)?;
            head.segments.push(Segment { name, bytes: part.len() });
        }
        self.revision = kv::put(host, &head_key(&self.id), FORMAT, &head, Some(self.revision))?;
        self.head = head;
        self.stored = self.messages.len();
        Ok(())
    }
}

fn load(host: &dyn Host, id: &str, head: &Head) -> Result<Vec<Value>> {
    let damaged = |what: String| Error::internal("session-damaged", format!("the conversation `{id}` {what}"));
    let mut lines = Vec::new();
    for segment in &head.segments {
        let entry = host
            .kv_get(&segment_key(id, &segment.name))?
            .ok_or_else(|| damaged(format!("lacks its segment `{}`", segment.name)))?;
        if entry.value.len() != segment.bytes || lines.len() + entry.value.len() > BYTES_MAX {
            return Err(damaged(format!("has a segment `{}` of another length", segment.name)));
        }
        lines.extend_from_slice(&entry.value);
    }
    serde_json::Deserializer::from_slice(&lines)
        .into_iter()
        .collect::<Result<Vec<Value>, _>>()
        .map_err(|error| damaged(format!("cannot be read: {error}")))
}

fn head_key(id: &str) -> String {
    format!("session/{id}")
}

fn segment_key(id: &str, name: &str) -> String {
    format!("session/{id}/{name}")
}

/// An id that a caller gives: one that this plugin cannot have given does not exist.
fn checked(id: &str) -> Result<String> {
    if id.is_empty() || words(id) != id {
        return Err(Error::not_found("session", "there is no conversation of that id in this profile"));
    }
    Ok(id.to_owned())
}

/// The id with only characters that are safe in a key.
fn words(id: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
    id.chars().take(ID_BYTES_MAX).map(safe).collect()
}
