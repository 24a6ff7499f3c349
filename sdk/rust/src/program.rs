//! What every adapter of a vendor's program needs beside its protocol: the audit of what the vendor ran, its text,
//! how long to wait for it, and errors that say what program is missing and how to get it.
//!
//! All that gathers what a vendor sends is bounded, and says what it left out.

use serde_json::{Value, json};

use crate::agent::ToolAudit;
use crate::child::visible;
use crate::error::{Error, Result, cut};
use crate::events::Events;
use crate::host::Host;
use crate::settings;

/// Audits that are kept; later calls are events only.
const AUDITS_MAX: usize = 1024;
/// Bytes of arguments that are kept in all audits together.
const ARGUMENTS_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of the arguments of one call in its event; longer ones are told by their size.
const EVENT_ARGUMENTS_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a call's id or a tool's name in events and audits.
const NAME_BYTES_MAX: usize = 256;
/// Characters of a result that are shown (`wit/README.md`, `preview`).
const PREVIEW_CHARS_MAX: usize = 256;
/// Bytes of the agent's final text that are kept, below the host's bound for an outcome.
const TEXT_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of a path in `file_change`.
const PATH_BYTES_MAX: usize = 4096;

/// How a call of a tool ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallStatus {
    /// It did what it should.
    Ok,
    /// It failed.
    Error,
    /// It was not allowed.
    Declined,
    /// It was broken off.
    Cancelled,
}

impl CallStatus {
    /// The word of events.
    #[must_use]
    pub fn event_word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Declined => "declined",
            Self::Cancelled => "cancelled",
        }
    }

    /// The word of an audit, which knows no `cancelled`: what was broken off has no end.
    #[must_use]
    pub fn audit_word(self) -> &'static str {
        match self {
            Self::Cancelled => "requested",
            other => other.event_word(),
        }
    }
}

/// How a call ended, as [`Audit::finished`] takes it.
#[derive(Debug, Clone, Copy)]
pub struct Finished<'a> {
    /// In one word.
    pub status: CallStatus,
    /// What came back, as text.
    pub result: &'a str,
    /// How long it took in milliseconds, where the vendor says it; else the time between its two events counts.
    pub duration_ms: Option<u64>,
}

/// The tools that the vendor ran itself: told as events when they come, kept for the outcome.
///
/// Calls are told apart by id, so that two of one tool side by side stay apart.
#[derive(Debug, Default)]
pub struct Audit {
    calls: Vec<ToolAudit>,
    open: Vec<Open>,
    arguments_bytes: usize,
    left_out: u64,
}

#[derive(Debug)]
struct Open {
    id: String,
    name: String,
    /// Its place in `calls`; unset for one that was left out there.
    at: Option<usize>,
    since_ms: u64,
}

impl Audit {
    /// The vendor began a call, or says again that it did: one whose id is open already is not told twice.
    pub fn requested(
        &mut self,
        events: &mut Events<'_>,
        host: &dyn Host,
        id: &str,
        name: &str,
        arguments: &Value,
    ) -> Result<()> {
        if self.is_open(id) { Ok(()) } else { self.began(events, host, id, name, arguments) }
    }

    /// The vendor began a call, also where one of its id is open: for vendors that say each beginning once, but may use an
    /// id for two.
    pub fn began(
        &mut self,
        events: &mut Events<'_>,
        host: &dyn Host,
        id: &str,
        name: &str,
        arguments: &Value,
    ) -> Result<()> {
        let (id, name) = (short(id), short(name));
        let arguments = if arguments.is_object() { arguments.clone() } else { json!({ "value": arguments }) };
        let text = arguments.to_string();
        let shown =
            if text.len() > EVENT_ARGUMENTS_BYTES_MAX { json!({ "left_out_bytes": text.len() }) } else { arguments };
        let at = (self.calls.len() < AUDITS_MAX).then(|| {
            let fits = self.arguments_bytes + text.len() <= ARGUMENTS_BYTES_MAX;
            let arguments = if fits { text } else { json!({ "left_out_bytes": text.len() }).to_string() };
            self.arguments_bytes += if fits { arguments.len() } else { 0 };
            self.calls.push(ToolAudit {
                name: name.clone(),
                arguments,
                result_preview: String::new(),
                status: "requested".into(),
                duration_ms: None,
            });
            self.calls.len() - 1
        });
        self.left_out += u64::from(at.is_none());
        // A vendor that only begins calls must not fill the memory; the oldest has waited longest for an end.
        if self.open.len() >= AUDITS_MAX {
            self.open.remove(0);
        }
        events.push("tool_request", &json!({ "id": id, "name": name, "arguments": shown, "by": "vendor" }))?;
        self.open.push(Open { id, name, at, since_ms: host.now_ms() });
        Ok(())
    }

    /// A call ended, and with it every open one of its id. False when there is none, and nothing was told.
    pub fn finished(&mut self, events: &mut Events<'_>, host: &dyn Host, id: &str, end: Finished<'_>) -> Result<bool> {
        let id = short(id);
        let ended: Vec<Open> = self.open.extract_if(.., |open| open.id == id).collect();
        let Some(first) = ended.first() else { return Ok(false) };
        let duration = |open: &Open| end.duration_ms.unwrap_or_else(|| host.now_ms().saturating_sub(open.since_ms));
        let preview = preview(end.result);
        for open in &ended {
            if let Some(call) = open.at.and_then(|at| self.calls.get_mut(at)) {
                call.status = end.status.audit_word().into();
                call.result_preview.clone_from(&preview);
                call.duration_ms = (end.status != CallStatus::Cancelled).then(|| duration(open));
            }
        }
        let (name, duration_ms) = (&first.name, duration(first));
        events.push(
            "tool_response",
            &json!({
                "id": id, "name": name, "status": end.status.event_word(), "preview": preview,
                "size_bytes": end.result.len(), "duration_ms": duration_ms, "by": "vendor",
            }),
        )?;
        Ok(true)
    }

    /// A call ended of whose beginning nothing was told: there is its end alone, in the events and in what is kept.
    pub fn ended_alone(&mut self, events: &mut Events<'_>, id: &str, name: &str, end: Finished<'_>) -> Result<()> {
        let preview = preview(end.result);
        if self.calls.len() < AUDITS_MAX {
            self.calls.push(ToolAudit {
                name: short(name),
                arguments: "{}".into(),
                result_preview: preview.clone(),
                status: end.status.audit_word().into(),
                duration_ms: end.duration_ms,
            });
        } else {
            self.left_out += 1;
        }
        let mut told = json!({
            "id": short(id), "name": short(name), "status": end.status.event_word(), "preview": preview,
            "size_bytes": end.result.len(), "by": "vendor",
        });
        if let Some(duration_ms) = end.duration_ms {
            told["duration_ms"] = json!(duration_ms);
        }
        events.push("tool_response", &told)
    }

    /// The vendor told other arguments of an open call than at its beginning, as it ran it.
    pub fn ran_with(&mut self, id: &str, arguments: &Value) {
        let id = short(id);
        let Some(call) = self.open.iter().find(|open| open.id == id).and_then(|open| self.calls.get_mut(open.at?))
        else {
            return;
        };
        let text = arguments.to_string();
        let bytes = self.arguments_bytes.saturating_sub(call.arguments.len()) + text.len();
        if arguments.is_object() && bytes <= ARGUMENTS_BYTES_MAX {
            self.arguments_bytes = bytes;
            call.arguments = text;
        }
    }

    /// Whether a call with this id has begun and not ended.
    #[must_use]
    pub fn is_open(&self, id: &str) -> bool {
        let id = short(id);
        self.open.iter().any(|open| open.id == id)
    }

    /// Whether any call has begun and not ended.
    #[must_use]
    pub fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// The run is over: what has no end is told as cancelled, and stays `requested` in the outcome.
    pub fn close(&mut self, events: &mut Events<'_>, host: &dyn Host) -> Result<()> {
        let ids: Vec<String> = self.open.iter().map(|open| open.id.clone()).collect();
        for id in ids {
            self.finished(
                events,
                host,
                &id,
                Finished { status: CallStatus::Cancelled, result: "", duration_ms: None },
            )?;
        }
        Ok(())
    }

    /// Whether the vendor ran anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// How many calls are not kept.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// All that is kept, in the order in which they began.
    #[must_use]
    pub fn into_calls(self) -> Vec<ToolAudit> {
        self.calls
    }
}

/// Tells that the vendor changed a file. `change` is `add`, `update`, `delete` or the vendor's own word.
pub fn file_change(events: &mut Events<'_>, path: &str, change: &str) -> Result<()> {
    let path = cut(path.to_owned(), PATH_BYTES_MAX);
    events.notification("file_change", json!({ "path": path, "change": short(change) }))
}

/// Text that is gathered up to a bound.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Text {
    text: String,
    left_out_bytes: u64,
}

impl Text {
    /// Adds text as far as there is room.
    pub fn push(&mut self, text: &str) {
        let room = TEXT_BYTES_MAX - self.text.len();
        // Once something was left out, nothing may follow: the text would read as whole.
        let take = if self.left_out_bytes > 0 { 0 } else { text.floor_char_boundary(room) };
        self.text.push_str(&text[..take]);
        self.left_out_bytes += (text.len() - take) as u64;
    }

    /// Replaces the text.
    pub fn set(&mut self, text: &str) {
        *self = Self::default();
        self.push(text);
    }

    /// What is kept.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How many bytes are not kept.
    #[must_use]
    pub fn left_out_bytes(&self) -> u64 {
        self.left_out_bytes
    }

    /// What is kept.
    #[must_use]
    pub fn into_string(self) -> String {
        self.text
    }
}

/// The first 256 characters.
#[must_use]
pub fn preview(text: &str) -> String {
    text.chars().take(PREVIEW_CHARS_MAX).collect()
}

/// How long a silent vendor is waited for, beside the deadline of the run, which is the host's.
pub struct Patience<'h> {
    host: &'h dyn Host,
    first_ms: Option<u64>,
    idle_ms: Option<u64>,
    since_ms: u64,
    heard: bool,
}

/// Longest single wait in milliseconds: a bound for how late a cancel can be seen where a wait does not tell it.
const WAIT_MS_MAX: u64 = 1000;

impl<'h> Patience<'h> {
    /// From the settings `first_event_s` (until the vendor's first sign of work) and `idle_s` (between two), in seconds;
    /// 0 or unset waits as long as the run may last.
    pub fn from_settings(host: &'h dyn Host) -> Result<Self> {
        let seconds = |name| settings::parsed_or::<u64>(host, name, 0);
        let ms = |seconds: u64| (seconds > 0).then(|| seconds.saturating_mul(1000));
        Ok(Self::new(host, ms(seconds("first_event_s")?), ms(seconds("idle_s")?)))
    }

    /// With these times in milliseconds; unset is no bound.
    #[must_use]
    pub fn new(host: &'h dyn Host, first_ms: Option<u64>, idle_ms: Option<u64>) -> Self {
        Self { host, first_ms, idle_ms, since_ms: host.now_ms(), heard: false }
    }

    /// The vendor gave a sign of work.
    pub fn heard(&mut self) {
        self.heard = true;
        self.since_ms = self.host.now_ms();
    }

    /// The time of waiting begins anew, as after a question to a person.
    pub fn restart(&mut self) {
        self.since_ms = self.host.now_ms();
    }

    /// How long to wait now at most, in milliseconds.
    #[must_use]
    pub fn wait_ms(&self) -> u32 {
        let left = self.bound().map_or(WAIT_MS_MAX, |(_, bound)| {
            bound.saturating_sub(self.host.now_ms().saturating_sub(self.since_ms)).clamp(1, WAIT_MS_MAX)
        });
        u32::try_from(left).unwrap_or(u32::MAX)
    }

    /// An error when the vendor was silent for too long: `unavailable` code `first-event` or `idle`. The vendor was given
    /// work, so the caller may want to say `uncertain`.
    pub fn check(&self) -> Result<()> {
        let Some((code, bound)) = self.bound() else { return Ok(()) };
        if self.host.now_ms().saturating_sub(self.since_ms) < bound {
            return Ok(());
        }
        let setting = if code == "idle" { "idle_s" } else { "first_event_s" };
        Err(Error::unavailable(code, format!("the vendor's program said nothing for {bound} ms"))
            .hint(&format!("raise setting `{setting}` if it may take longer, or set it to 0")))
    }

    fn bound(&self) -> Option<(&'static str, u64)> {
        if self.heard {
            return self.idle_ms.map(|ms| ("idle", ms));
        }
        self.first_ms.map(|ms| ("first-event", ms))
    }
}

/// How long one step of an orderly end may take, so that all fit into what is left of a grace period.
#[must_use]
pub fn patience_ms(host: &dyn Host, wanted_ms: u32) -> u32 {
    let left = u32::try_from(host.remaining_ms() / 4).unwrap_or(u32::MAX);
    wanted_ms.min(left)
}

/// An error of starting a program, with what to do about it: `install` says how to get the program.
#[must_use]
pub fn explain_spawn(error: Error, program: &str, install: &str) -> Error {
    match error.code.as_str() {
        "program" => Error::not_found("program", format!("the program `{program}` was not found"))
            .hint(&format!("{install}, or name it in setting `program`")),
        // The host's message names the grant.
        "command" => error.hint(&format!("the profile must be granted the command `{program}`")),
        _ => error,
    }
}

/// A version of three numbers, the first that stands in a text; what follows the numbers is not looked at.
#[must_use]
pub fn version_in(text: &str) -> Option<[u64; 3]> {
    text.split(|c: char| !c.is_ascii_digit() && c != '.').find_map(|word| {
        let mut parts = word.split('.').map(str::parse::<u64>);
        match (parts.next()?, parts.next()?, parts.next()?) {
            (Ok(major), Ok(minor), Ok(patch)) => Some([major, minor, patch]),
            _ => None,
        }
    })
}

/// Checks a program's version: at least `from`, less than `below`. `unsupported` code `program-version`, which says what
/// is supported and what was found.
pub fn check_version(program: &str, said: &str, from: [u64; 3], below: [u64; 3], install: &str) -> Result<[u64; 3]> {
    let dotted = |[major, minor, patch]: [u64; 3]| format!("{major}.{minor}.{patch}");
    match version_in(said) {
        Some(found) if found >= from && found < below => Ok(found),
        found => {
            let found = found.map_or_else(|| format!("`{}`", visible(&preview(said))), dotted);
            let supported = format!("supported are versions from {} below {}", dotted(from), dotted(below));
            Err(Error::unsupported("program-version", format!("`{program}` says version {found}; {supported}"))
                .hint(install))
        }
    }
}

fn short(text: &str) -> String {
    cut(text.to_owned(), NAME_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeHost;

    #[test]
    fn calls_are_matched_by_id_and_one_without_an_end_stays_requested() {
        let host = FakeHost::new();
        let mut events = Events::new(&host);
        let mut audit = Audit::default();
        for id in ["a", "b", "c"] {
            audit.requested(&mut events, &host, id, "shell", &json!({ "id": id })).expect("told");
        }
        audit.requested(&mut events, &host, "a", "shell", &json!({})).expect("not told twice");
        host.advance(7);
        let declined = Finished { status: CallStatus::Declined, result: "no", duration_ms: None };
        assert_eq!(audit.finished(&mut events, &host, "b", declined), Ok(true));
        let ok = Finished { status: CallStatus::Ok, result: &"\u{e9}".repeat(300), duration_ms: Some(3) };
        assert_eq!(audit.finished(&mut events, &host, "a", ok), Ok(true));
        assert_eq!(audit.finished(&mut events, &host, "a", ok), Ok(false));
        audit.close(&mut events, &host).expect("told");
        events.flush().expect("told");
        assert_eq!(host.events().len(), 6);
        let calls = audit.into_calls();
        let short: Vec<_> =
            calls.iter().map(|c| (c.status.as_str(), c.result_preview.chars().count(), c.duration_ms)).collect();
        assert_eq!(short, [("ok", 256, Some(3)), ("declined", 2, Some(7)), ("requested", 0, None)]);
    }

    #[test]
    fn an_id_that_was_used_for_two_calls_ends_both_and_is_told_once() {
        let host = FakeHost::new();
        let mut events = Events::new(&host);
        let mut audit = Audit::default();
        for at in [1, 2] {
            audit.began(&mut events, &host, "a", "shell", &json!({ "at": at })).expect("told");
        }
        let ok = Finished { status: CallStatus::Ok, result: "r", duration_ms: None };
        assert_eq!(audit.finished(&mut events, &host, "a", ok), Ok(true));
        assert_eq!(audit.finished(&mut events, &host, "a", ok), Ok(false));
        events.flush().expect("told");
        assert_eq!(host.events().len(), 3);
        let calls = audit.into_calls();
        let short: Vec<_> = calls.iter().map(|call| (call.arguments.as_str(), call.status.as_str())).collect();
        assert_eq!(short, [(r#"{"at":1}"#, "ok"), (r#"{"at":2}"#, "ok")]);
    }

    #[test]
    fn an_end_alone_and_other_arguments() {
        let host = FakeHost::new();
        let mut events = Events::new(&host);
        let mut audit = Audit::default();
        let end = Finished { status: CallStatus::Error, result: "no", duration_ms: None };
        audit.ended_alone(&mut events, "x", "shell", end).expect("told");
        audit.requested(&mut events, &host, "a", "shell", &json!({ "n": 1 })).expect("told");
        audit.ran_with("a", &json!({ "n": 2 }));
        audit.ran_with("a", &json!("x".repeat(ARGUMENTS_BYTES_MAX)));
        audit.ran_with("unknown", &json!({}));
        events.flush().expect("told");
        assert_eq!(
            host.event_lines()[0],
            r#"tool_response {"by":"vendor","id":"x","name":"shell","preview":"no","size_bytes":2,"status":"error"}"#
        );
        let calls = audit.into_calls();
        let short: Vec<_> = calls.iter().map(|c| (c.status.as_str(), c.arguments.as_str())).collect();
        assert_eq!(short, [("error", "{}"), ("requested", r#"{"n":2}"#)]);
    }

    #[test]
    fn a_vendor_that_calls_without_end_fills_no_memory() {
        let host = FakeHost::new();
        let mut events = Events::new(&host);
        let mut audit = Audit::default();
        let arguments = json!({ "text": "x".repeat(20_000) });
        for n in 0..3 * AUDITS_MAX {
            audit.requested(&mut events, &host, &n.to_string(), &"n".repeat(9000), &arguments).expect("told");
        }
        assert_eq!(audit.open.len(), AUDITS_MAX);
        assert_eq!(audit.left_out(), 2 * AUDITS_MAX as u64);
        let calls = audit.into_calls();
        assert!(calls.iter().map(|call| call.arguments.len()).sum::<usize>() < 2 * ARGUMENTS_BYTES_MAX);
        assert_eq!(calls[AUDITS_MAX - 1].arguments, r#"{"left_out_bytes":20011}"#);
    }

    #[test]
    fn text_is_kept_to_a_bound_at_a_character() {
        let mut text = Text::default();
        text.push(&"a".repeat(TEXT_BYTES_MAX - 1));
        text.push("\u{20ac}b");
        text.push("c");
        assert_eq!((text.as_str().len(), text.left_out_bytes()), (TEXT_BYTES_MAX - 1, 5));
        text.set("new");
        assert_eq!(text.into_string(), "new");
    }

    #[test]
    fn silence_is_borne_as_long_as_the_settings_say() {
        let host = FakeHost::new().setting("first_event_s", "2").setting("idle_s", "1");
        let mut patience = Patience::from_settings(&host).expect("numbers");
        host.advance(1500);
        assert_eq!((patience.check(), patience.wait_ms()), (Ok(()), 500));
        host.advance(500);
        assert_eq!(patience.check().expect_err("too long").code, "first-event");
        patience.heard();
        assert_eq!(patience.check(), Ok(()));
        host.advance(1000);
        assert_eq!(patience.check().expect_err("too long").code, "idle");

        let patience = Patience::new(&host, None, None);
        host.advance(1_000_000);
        assert_eq!((patience.check(), patience.wait_ms()), (Ok(()), 1000));
    }

    #[test]
    fn a_missing_or_wrong_program_says_what_to_do() {
        let missing = explain_spawn(Error::not_found("program", "none"), "codex", "install it with `npm i x`");
        assert_eq!(
            missing.message,
            "the program `codex` was not found; hint: install it with `npm i x`, or name it in setting `program`"
        );
        let rows = [
            ("codex_cli_rs/0.169.0 (Debian 12.0.0; x86_64)", Some([0, 169, 0])),
            ("0.157.1-alpha.1", Some([0, 157, 1])),
            ("v 1.2", None),
            ("99999999999999999999.0.0", None),
            ("1..2", None),
        ];
        for (said, version) in rows {
            assert_eq!(version_in(said), version, "{said}");
        }
        assert_eq!(check_version("codex", "x/0.169.0", [0, 157, 1], [0, 170, 0], "i"), Ok([0, 169, 0]));
        let error = check_version("codex", "x/0.170.0", [0, 157, 1], [0, 170, 0], "i").expect_err("too new");
        assert_eq!(
            error.message,
            "`codex` says version 0.170.0; supported are versions from 0.157.1 below 0.170.0; hint: i"
        );
    }
}
