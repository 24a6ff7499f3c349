//! All forms of all values in one automaton, and the scan that turns text into the spans to replace.
//!
//! Occurrences that overlap become one span: of two values that share their ends nothing is left over, and a value that
//! repeats into itself is one replacement. Spans that only touch stay apart. A span has the label of its longest
//! occurrence, the earliest of these where several are as long, whatever the pieces were in which the text came.
//!
//! Whether a text could still go on to be a value is read from the state of the automaton and not from a window of
//! fixed length: a state of Aho-Corasick *is* the longest end of the text that begins some form.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::{Anchored, MatchKind};

use super::SecretValue;
use super::encodings::{Form, forms};
use super::redactor::REDACTED;
use crate::{Error, Result};

/// From this length on a form is replaced wherever it stands, in bytes.
const ANYWHERE_BYTES_MIN: usize = 8;
/// From this length on a form is replaced as a whole token, and a value is protected at all, in bytes.
const TOKEN_BYTES_MIN: usize = 4;
/// The longest value, in bytes. Real ones (account files, chains of keys) stay well below; each byte costs some hundred
/// bytes of automaton.
const VALUE_BYTES_MAX: usize = 16 * 1024;

/// The live secret values of a run, ready to be looked for. Immutable: a value that comes later makes a new set.
///
/// **Short values.** To replace three letters wherever they stand would ruin every text and spell out the value by its
/// gaps; to refuse them would stop an operator whose test key is `x`. So a value of 8 bytes or more is found
/// anywhere; one of 4 to 7 only as a whole token (no ASCII letter, digit, `_` or non-ASCII byte beside it) or in an
/// encoding of 8 bytes or more; a shorter one is not looked for. [`Secrets::weak`] names the last two kinds: the host warns.
///
/// White space around a value is not part of it: a value that was read from a file is found without its newline.
#[derive(Clone, Default)]
pub struct Secrets {
    matcher: Option<Arc<Matcher>>,
    weak: Vec<String>,
    /// What went in, for a set with one more.
    values: Values,
}

/// Values by name, shared.
pub(super) type Values = Arc<Vec<(String, SecretValue)>>;

impl Secrets {
    /// Takes values by name. Of two names for one value the first is shown. Empty values are skipped.
    ///
    /// # Errors
    /// `invalid` code `secret-too-long` for a value above 16 KiB; `limit` code `secrets` where all together are too many.
    pub fn new<N: AsRef<str>, V: AsRef<[u8]>>(values: impl IntoIterator<Item = (N, V)>) -> Result<Self> {
        let mut names = Vec::new();
        let mut weak = Vec::new();
        let mut kept = Vec::new();
        let mut unique = BTreeMap::new();
        let mut numeric = false;
        for (name, value) in values {
            let (name, value) = (name.as_ref(), value.as_ref().trim_ascii());
            if value.len() > VALUE_BYTES_MAX {
                return Err(Error::invalid(
                    "secret-too-long",
                    format!("the value of `{name}` has {} bytes, at most {VALUE_BYTES_MAX} are allowed", value.len()),
                )
                .hint("name a key, not a file of other data"));
            }
            if !value.is_empty() && value.len() < ANYWHERE_BYTES_MIN {
                weak.push(name.to_owned());
            }
            if value.len() < TOKEN_BYTES_MIN {
                continue;
            }
            kept.push((name.to_owned(), SecretValue::new(value)));
            numeric |= value.iter().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(byte));
            for Form { mut bytes, whole } in forms(value) {
                bytes.make_ascii_lowercase();
                if bytes.len() >= ANYWHERE_BYTES_MIN || whole && bytes.len() >= TOKEN_BYTES_MIN {
                    unique.entry(bytes).or_insert(names.len());
                }
            }
            names.push(name.to_owned());
        }
        let matcher = if unique.is_empty() { None } else { Some(Arc::new(Matcher::new(&unique, names, numeric)?)) };
        Ok(Self { matcher, weak, values: Arc::new(kept) })
    }

    /// The names whose values have less than 8 bytes, and are found as whole tokens only or (below 4) not at all.
    #[must_use]
    pub fn weak(&self) -> &[String] {
        &self.weak
    }

    pub(super) fn into_parts(self) -> (Option<Arc<Matcher>>, Values) {
        (self.matcher, self.values)
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The automaton spells out every value.
        f.debug_struct("Secrets").field("weak", &self.weak).finish_non_exhaustive()
    }
}

/// The automaton and what its patterns and states mean.
pub(super) struct Matcher {
    // Contiguous, not a DFA: a fraction of the memory, and the scan skips over most of the text anyway.
    automaton: NFA,
    start: StateID,
    /// The bytes that lead away from the start.
    first: [bool; 256],
    /// By state, sorted: the length of the longest end of the text that could go on to be a form. Not listed is 0.
    open: Box<[(StateID, usize)]>,
    /// By pattern: what to write instead, as an index into `labels`.
    label_of: Box<[usize]>,
    labels: Box<[String]>,
    /// Whether a value could be written as a JSON number.
    pub(super) numeric: bool,
    pub(super) form_bytes_max: usize,
}

impl Matcher {
    fn new(unique: &BTreeMap<Vec<u8>, usize>, names: Vec<String>, numeric: bool) -> Result<Self> {
        let too_many = |why: &dyn fmt::Display| {
            Error::limit("secrets", format!("the secret values are too many or too long to be looked for: {why}"))
        };
        let automaton = NFA::builder()
            .match_kind(MatchKind::Standard) // the only kind that reports every occurrence
            .ascii_case_insensitive(false) // forms and text are read in lower case: a third of the time to build
            .prefilter(false) // it would be used by the crate's own search loops only
            .build(unique.keys())
            .map_err(|error| too_many(&error))?;
        let start = automaton.start_state(Anchored::No).map_err(|error| too_many(&error))?;
        let step = |state, byte: u8| automaton.next_state(Anchored::No, state, byte.to_ascii_lowercase());
        let first = std::array::from_fn(|byte| step(start, byte as u8) != start); // below 256: no byte is cut
        let open = open_bytes(unique.keys().map(Vec::as_slice), start, step);
        let mut matcher = Self {
            automaton,
            start,
            first,
            open,
            label_of: unique.values().copied().collect(),
            labels: Box::default(),
            numeric,
            form_bytes_max: unique.keys().map(Vec::len).max().unwrap_or(0),
        };
        // A name can itself hold a value (a person may call a secret by it).
        let label = |name: String| {
            Some(format!("[redacted:{name}]")).filter(|label| matcher.spans(label.as_bytes()).is_empty())
        };
        matcher.labels = names.into_iter().map(|name| label(name).unwrap_or_else(|| REDACTED.to_owned())).collect();
        Ok(matcher)
    }

    /// The spans of a whole text, in order and apart.
    pub(super) fn spans(&self, text: &[u8]) -> Vec<Span> {
        let mut scan = Scan::new(self);
        scan.feed(self, text, 0, None);
        scan.end();
        scan.spans
    }

    /// What to write instead of a span.
    pub(super) fn label(&self, span: &Span) -> &str {
        &self.labels[self.label_of[span.pattern]]
    }

    fn open_bytes(&self, state: StateID) -> usize {
        self.open.binary_search_by_key(&state, |(state, _)| *state).map_or(0, |index| self.open[index].1)
    }
}

/// For each state the length of the longest end of the text that could go on to be a form.
///
/// This is the depth of the state, except where a form ends and none goes on: there it is that of the longest shorter
/// end which does go on, so that a value that is complete is not held back.
fn open_bytes<'a>(
    forms: impl Iterator<Item = &'a [u8]> + Clone,
    start: StateID,
    step: impl Fn(StateID, u8) -> StateID,
) -> Box<[(StateID, usize)]> {
    let end_of = |form: &[u8]| form.iter().fold(start, |state, &byte| step(state, byte));
    let mut open = BTreeMap::new();
    for form in forms.clone() {
        let mut state = start;
        for (depth, &byte) in form.iter().enumerate() {
            if depth > 0 {
                open.insert(state, depth);
            }
            state = step(state, byte);
        }
    }
    let complete: BTreeMap<StateID, &[u8]> =
        forms.map(|form| (end_of(form), form)).filter(|(state, _)| !open.contains_key(state)).collect();
    for (&state, &form) in &complete {
        // A form without its first byte leads to the state of its longest own end that begins a form. If that is
        // again a form that none continues, go on with that one.
        let mut form = form;
        while let Some((_, rest)) = form.split_first() {
            let shorter = end_of(rest);
            if let Some(&depth) = open.get(&shorter) {
                open.insert(state, depth);
                break;
            }
            form = complete.get(&shorter).copied().unwrap_or_default();
        }
    }
    open.into_iter().collect()
}

/// A part of the text that is to be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
    /// The pattern of the longest occurrence in it, and the length of that.
    pattern: usize,
    pattern_bytes: usize,
}

/// A scan that can stop after any byte. Positions are in the text that is being fed.
#[derive(Clone)]
pub(super) struct Scan {
    state: StateID,
    /// Found so far, in order and apart.
    pub(super) spans: Vec<Span>,
    /// Short forms that ended with the last byte: the next one tells whether they are whole tokens.
    waiting: Vec<Span>,
}

impl Scan {
    pub(super) fn new(matcher: &Matcher) -> Self {
        Self { state: matcher.start, spans: Vec::new(), waiting: Vec::new() }
    }

    /// Reads `text` from `at` on. What is in front of `at` was read before; `before` is the byte in front of all.
    pub(super) fn feed(&mut self, matcher: &Matcher, text: &[u8], mut at: usize, before: Option<u8>) {
        while let Some(rest) = text.get(at..) {
            if self.state == matcher.start && self.waiting.is_empty() {
                // Most of the text is passed over here.
                match rest.iter().position(|&byte| matcher.first[usize::from(byte)]) {
                    Some(skipped) => at += skipped,
                    None => return,
                }
            }
            let Some(&byte) = text.get(at) else { return };
            if !self.waiting.is_empty() {
                self.decide(!is_token_byte(byte));
            }
            self.state = matcher.automaton.next_state(Anchored::No, self.state, byte.to_ascii_lowercase());
            at += 1;
            if matcher.automaton.is_match(self.state) {
                self.matched(matcher, text, at, before);
            }
        }
    }

    /// The text has ended, which is as good as a byte that belongs to no token.
    pub(super) fn end(&mut self) {
        self.decide(true);
    }

    /// How many of the last bytes are still undecided.
    pub(super) fn open_bytes(&self, matcher: &Matcher) -> usize {
        let waiting = self.waiting.iter().map(|span| span.end - span.start).max();
        matcher.open_bytes(self.state).max(waiting.unwrap_or(0))
    }

    /// Moves all positions, after `by` bytes were taken from the front of the text.
    pub(super) fn shift(&mut self, by: usize) {
        for span in self.spans.iter_mut().chain(&mut self.waiting) {
            // A span that reaches into what is left has lost its beginning, which nobody needs any more.
            span.start = span.start.saturating_sub(by);
            span.end = span.end.saturating_sub(by);
        }
    }

    fn matched(&mut self, matcher: &Matcher, text: &[u8], end: usize, before: Option<u8>) {
        for index in 0..matcher.automaton.match_len(self.state) {
            let pattern = matcher.automaton.match_pattern(self.state, index);
            let pattern_bytes = matcher.automaton.pattern_len(pattern);
            let start = end - pattern_bytes; // an occurrence does not begin before what is held
            let span = Span { start, end, pattern: pattern.as_usize(), pattern_bytes };
            if pattern_bytes >= ANYWHERE_BYTES_MIN {
                self.add(span);
            } else {
                let neighbour = if start == 0 { before } else { Some(text[start - 1]) };
                if !neighbour.is_some_and(is_token_byte) {
                    self.waiting.push(span);
                }
            }
        }
    }

    fn decide(&mut self, whole_token: bool) {
        for span in std::mem::take(&mut self.waiting) {
            if whole_token {
                self.add(span);
            }
        }
    }

    /// Adds an occurrence, which ends no earlier than all before it, and joins those that it overlaps.
    fn add(&mut self, mut span: Span) {
        while let Some(last) = self.spans.pop_if(|last| last.end > span.start) {
            if last.pattern_bytes >= span.pattern_bytes {
                (span.pattern, span.pattern_bytes) = (last.pattern, last.pattern_bytes);
            }
            span.start = span.start.min(last.start);
            span.end = span.end.max(last.end);
        }
        self.spans.push(span);
    }
}

/// What makes a short form a part of something longer.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}
