//! A decoder of server-sent events, as the HTML standard defines the format ("event stream interpretation").
//!
//! Bytes go in as they arrive and may be cut anywhere, also inside a character or between CR and LF; events come out
//! when their blank line is there. An event without its blank line is never given: a broken stream must not look
//! like a shorter one. Lines and events are bounded.

use crate::error::{Error, Result};

/// Longest event, and longest line, in bytes.
pub const EVENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseEvent {
    /// Its name; `message` when the stream gave none.
    pub name: String,
    /// Its data lines, joined with LF.
    pub data: String,
}

/// Takes bytes, gives events.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The unfinished line.
    line: Vec<u8>,
    /// The last byte ended a line as CR: an LF that follows belongs to it.
    after_cr: bool,
    /// Whether a line was seen: a byte order mark is dropped in front of the first one only.
    started: bool,
    name: String,
    data: Option<String>,
}

impl Decoder {
    /// A decoder at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and gives the events that they complete. `internal` code `stream-malformed` for bytes
    /// that are not UTF-8, `limit` code `event-size` for an event that is too long.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<SseEvent>> {
        let mut events = Vec::new();
        let mut rest = bytes;
        if self.after_cr && !rest.is_empty() {
            self.after_cr = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.extend(&rest[..end])?;
            events.extend(self.end_line()?);
            let cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            if cr {
                self.after_cr = rest.is_empty();
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            }
        }
        self.extend(rest)?;
        Ok(events)
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<()> {
        let held = self.line.len() + self.data.as_ref().map_or(0, String::len);
        if held + bytes.len() > EVENT_BYTES_MAX {
            return Err(Error::limit(
                "event-size",
                format!("the vendor's stream has an event longer than {EVENT_BYTES_MAX} bytes"),
            ));
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self) -> Result<Option<SseEvent>> {
        let line = String::from_utf8(std::mem::take(&mut self.line))
            .map_err(|_| Error::internal("stream-malformed", "the vendor's stream is not UTF-8 text"))?;
        let line = if self.started { line.as_str() } else { line.strip_prefix('\u{feff}').unwrap_or(&line) };
        self.started = true;
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            return Ok(self
                .data
                .take()
                .map(|data| SseEvent { name: if name.is_empty() { "message".into() } else { name }, data }));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.name = value.to_owned(),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            // A comment has an empty field name. `id` and `retry` are about reconnecting, which no adapter does.
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(parts: &[&[u8]]) -> Result<Vec<(String, String)>> {
        let mut decoder = Decoder::new();
        let mut events = Vec::new();
        for part in parts {
            events.extend(decoder.push(part)?.into_iter().map(|event| (event.name, event.data)));
        }
        Ok(events)
    }

    const STREAM: &str = "\u{feff}event: a\ndata: één\ndata:  two\n\n: comment\r\ndata\r\n\r\nid: 7\rretry: 1\revent: ü\rdata:€\r\r\nfoo: bar\ndata: lost";

    fn expected() -> Vec<(String, String)> {
        [("a", "één\n two"), ("message", ""), ("ü", "€")].map(|(name, data)| (name.into(), data.into())).into()
    }

    #[test]
    fn every_line_end_comment_and_field_is_read_as_the_standard_says() {
        assert_eq!(decode(&[STREAM.as_bytes()]), Ok(expected()));
    }

    #[test]
    fn cutting_the_stream_at_any_byte_changes_nothing() {
        let bytes = STREAM.as_bytes();
        for at in 0..=bytes.len() {
            assert_eq!(decode(&[&bytes[..at], &bytes[at..]]), Ok(expected()), "cut at {at}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(decode(&single), Ok(expected()));
    }

    #[test]
    fn bytes_that_are_no_text_and_a_line_without_end_are_errors() {
        let error = decode(&[b"data: \xff\n"]).expect_err("not UTF-8");
        assert_eq!(error.code, "stream-malformed");
        let long = vec![b'x'; 1024 * 1024];
        let error = decode(&[long.as_slice(); 9]).expect_err("too long");
        assert_eq!(error.code, "event-size");
    }

    proptest! {
        #[test]
        fn any_cutting_of_any_stream_gives_the_same(
            lines in prop::collection::vec(("(data|event|id|)", ":? ?", "[a-zé€ ]{0,6}", "(\n|\r\n|\r)"), 0..12),
            cuts in prop::collection::vec(0usize..200, 0..6),
        ) {
            let text: String = lines.iter().map(|(f, c, v, e)| format!("{f}{c}{v}{e}")).collect();
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let parts: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(decode(&parts), decode(&[bytes]));
        }
    }
}
