//! Redaction of a text that arrives in pieces: the pieces that come out are, joined, what the whole text would have
//! become, wherever it was cut.
//!
//! ```text
//!   given out          held            to come
//!  ──────────────┬───────────────────┬──────────
//!   ... plain,   │ the longest end   │
//!   [redacted:A] │ that could be the │
//!                │ begin of a form   │
//! ```
//! The held part is never longer than the longest form, and empty where the text ends in nothing that begins one. A reader
//! that cannot wait takes what is held ([`Stream::release`]); the scan goes on over it all the same.

use std::sync::Arc;

use super::Redactor;
use super::matcher::{Matcher, Scan, Span};
use super::redactor::lossy;

/// A stream of bytes: a body, the output of a child.
pub struct Stream {
    /// Nothing where there is no live value: then all passes.
    work: Option<Work>,
}

struct Work {
    matcher: Arc<Matcher>,
    scan: Scan,
    held: Vec<u8>,
    /// How many bytes at the front of `held` were given out before they were decided.
    given: usize,
    /// The last byte that left `held`.
    before: Option<u8>,
}

impl Stream {
    /// A stream at its beginning.
    #[must_use]
    pub fn new(redactor: &Redactor) -> Self {
        let work = redactor.matcher.as_ref().map(|matcher| Work {
            matcher: Arc::clone(matcher),
            scan: Scan::new(matcher),
            held: Vec::new(),
            given: 0,
            before: None,
        });
        Self { work }
    }

    /// Takes the next piece and gives out all that is decided. Replacements can make that longer than what was given.
    #[must_use = "what is not passed on is lost"]
    pub fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        let Some(work) = &mut self.work else {
            return piece.to_vec();
        };
        let from = work.held.len();
        work.held.extend_from_slice(piece);
        work.scan.feed(&work.matcher, &work.held, from, work.before);
        work.settle(work.held.len() - work.scan.open_bytes(&work.matcher))
    }

    /// Ends the text and gives out what was held. The stream is then at the beginning of another text.
    #[must_use = "what is not passed on is lost"]
    pub fn finish(&mut self) -> Vec<u8> {
        let Some(work) = &mut self.work else {
            return Vec::new();
        };
        work.scan.end();
        let out = work.settle(work.held.len());
        work.scan = Scan::new(&work.matcher);
        work.before = None;
        out
    }

    /// Gives out what waits although it is not decided, for a reader that would wait for ever. What comes next can still
    /// complete a value: from there on it is replaced, so that no more of it is known than what was given out here.
    #[must_use = "what is not passed on is lost"]
    pub fn release(&mut self) -> Vec<u8> {
        let Some(work) = &mut self.work else {
            return Vec::new();
        };
        // As if the text ended here, for what is complete; the scan itself does not.
        let mut ended = work.scan.clone();
        ended.end();
        let (out, _) = work.cleaned(&ended.spans, work.held.len());
        work.given = work.held.len();
        out
    }

    /// How many bytes wait for what comes next.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.work.as_ref().map_or(0, |work| work.held.len() - work.given)
    }

    /// How many bytes at the end of the text could begin a value, those that were released counted.
    #[must_use]
    pub fn open_bytes(&self) -> usize {
        self.work.as_ref().map_or(0, |work| work.held.len())
    }

    /// The most that can ever wait: the length of the longest form of a value.
    #[must_use]
    pub fn held_bytes_max(&self) -> usize {
        self.work.as_ref().map_or(0, |work| work.matcher.form_bytes_max)
    }
}

impl Work {
    /// Gives out what stands in front of `until`: no occurrence that is still to come begins before it.
    fn settle(&mut self, until: usize) -> Vec<u8> {
        let (out, done) = self.cleaned(&self.scan.spans, until);
        self.scan.spans.drain(..done);
        self.scan.shift(until);
        self.before = until.checked_sub(1).map(|last| self.held[last]).or(self.before);
        self.held.drain(..until);
        self.given = self.given.saturating_sub(until);
        out
    }

    /// What is held between what was given out and `until`, with these spans replaced; and how many of them end there.
    fn cleaned(&self, spans: &[Span], until: usize) -> (Vec<u8>, usize) {
        let mut out = Vec::with_capacity(until);
        let mut at = self.given.min(until);
        let mut done = 0;
        for span in spans {
            out.extend_from_slice(&self.held[at..span.start.clamp(at, until)]);
            if span.end > until {
                // It may still grow, so its label is not known; its bytes are not needed for that.
                at = until;
                break;
            }
            // One that was given out whole was replaced then.
            if span.end > at {
                out.extend_from_slice(self.matcher.label(span).as_bytes());
                at = span.end;
            }
            done += 1;
        }
        out.extend_from_slice(&self.held[at..until]);
        (out, done)
    }
}

/// A stream of text: the deltas of an answer. Gives out whole characters only.
pub struct TextStream {
    bytes: Stream,
    /// The begin of a character. Held values begin at a character too, unless they are not UTF-8.
    cut: Vec<u8>,
}

impl TextStream {
    /// A stream at its beginning.
    #[must_use]
    pub fn new(redactor: &Redactor) -> Self {
        Self { bytes: Stream::new(redactor), cut: Vec::new() }
    }

    /// Takes the next piece and gives out all that is decided.
    #[must_use = "what is not passed on is lost"]
    pub fn push(&mut self, piece: &str) -> String {
        let mut out = std::mem::take(&mut self.cut);
        out.extend(self.bytes.push(piece.as_bytes()));
        if let Err(error) = std::str::from_utf8(last_character(&out))
            && error.error_len().is_none()
        {
            self.cut = out.split_off(out.len() - last_character(&out).len() + error.valid_up_to());
        }
        lossy(out)
    }

    /// Ends the text and gives out what was held. The stream is then at the beginning of another text.
    #[must_use = "what is not passed on is lost"]
    pub fn finish(&mut self) -> String {
        let mut out = std::mem::take(&mut self.cut);
        out.extend(self.bytes.finish());
        lossy(out)
    }

    /// How many bytes wait for what comes next.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.bytes.held_bytes() + self.cut.len()
    }
}

/// The end of some bytes from the last byte on that can begin a character, at most four.
fn last_character(bytes: &[u8]) -> &[u8] {
    let from = bytes.len().saturating_sub(4);
    let tail = &bytes[from..];
    let begin = tail.iter().rposition(|byte| byte & 0b1100_0000 != 0b1000_0000);
    &tail[begin.unwrap_or(0)..]
}
