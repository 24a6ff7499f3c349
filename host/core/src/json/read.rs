//! The reader: one pass over the bytes, one flat list of nodes, no recursion.
//!
//! While a container is open its node holds the place of the container around it instead of its end, so the list of
//! nodes is the stack too.

use std::fmt;

use wide::u8x16;

use super::{DEPTH_MAX, Document, Node, TEXT_BYTES_MAX, Tag, WHOLE_DIGITS_MAX};
use crate::Error;

/// Why a text is not JSON, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonError {
    /// What is wrong.
    pub problem: JsonProblem,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

/// What is wrong with a text that is not JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JsonProblem {
    /// Something else should stand here.
    Unexpected {
        /// What should.
        expected: &'static str,
        /// What does; nothing at the end of the text.
        found: Option<char>,
    },
    /// A control character stands in a string as itself.
    Control(char),
    /// The bytes are not UTF-8.
    NotUtf8,
    /// More than [`DEPTH_MAX`] levels.
    Depth,
    /// More than [`TEXT_BYTES_MAX`] bytes.
    Size,
}

impl JsonError {
    /// What to do about it, where there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self.problem {
            JsonProblem::Unexpected { found: Some('\''), .. } => Some("strings and keys have double quotes"),
            JsonProblem::Unexpected { found: Some('\u{feff}'), .. } => Some("remove the byte order mark"),
            JsonProblem::Unexpected { found: Some('N' | 'I'), .. } => Some("JSON has no `NaN` and no `Infinity`"),
            JsonProblem::Unexpected { found: Some('/'), .. } => Some("JSON has no comments"),
            JsonProblem::Unexpected { expected: KEY, found: Some('}') }
            | JsonProblem::Unexpected { expected: ITEM, .. } => Some("no comma before a closing bracket"),
            JsonProblem::Unexpected { expected: END, .. } => Some("one JSON value per text"),
            JsonProblem::Control(_) => Some("write it as an escape, such as `\\n`"),
            _ => None,
        }
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            JsonProblem::Unexpected { expected, found: Some(found) } => {
                // What a terminal would not show, or show as something else, is named by number.
                if found.is_ascii_graphic() || found.is_alphanumeric() {
                    write!(f, "expected {expected}, found `{found}`")
                } else {
                    write!(f, "expected {expected}, found U+{:04X}", u32::from(*found))
                }
            }
            JsonProblem::Unexpected { expected, found: None } => {
                write!(f, "expected {expected}, found the end of the text")
            }
            JsonProblem::Control(found) => {
                write!(f, "a string holds the control character U+{:04X}", u32::from(*found))
            }
            JsonProblem::NotUtf8 => f.write_str("the bytes are not UTF-8"),
            JsonProblem::Depth => write!(f, "more than {DEPTH_MAX} levels of arrays and objects"),
            JsonProblem::Size => write!(f, "more than {TEXT_BYTES_MAX} bytes"),
        }?;
        write!(f, " at line {}, column {}", self.line, self.column)
    }
}

impl std::error::Error for JsonError {}

impl From<JsonError> for Error {
    fn from(error: JsonError) -> Self {
        let message = format!("not JSON: {error}");
        let out = match error.problem {
            JsonProblem::Depth => Self::limit("json-depth", message),
            JsonProblem::Size => Self::limit("json-size", message),
            _ => Self::invalid("not-json", message),
        };
        match error.hint() {
            Some(hint) => out.hint(hint),
            None => out,
        }
    }
}

/// The text of some bytes.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, JsonError> {
    std::str::from_utf8(bytes).map_err(|error| {
        // What is before the first bad byte is UTF-8 by that error's word.
        let good = bytes.get(..error.valid_up_to()).and_then(|good| std::str::from_utf8(good).ok());
        located(good.unwrap_or_default(), error.valid_up_to(), JsonProblem::NotUtf8)
    })
}

/// Reads a text.
pub(super) fn read(text: &str) -> Result<Document<'_>, JsonError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(located(text, 0, JsonProblem::Size));
    }
    // A node for each twelve bytes is the rule in events; room for more is made on the way. The first guess is bounded,
    // since it is made before anything has been looked at.
    let nodes = Vec::with_capacity((text.len() / 12 + 4).min(1 << 16));
    let mut reader = Reader { bytes: text.as_bytes(), nodes, overflow: false, fault: Fault { at: 0, expected: VALUE } };
    match reader.document() {
        Ok(()) => Ok(Document { text, nodes: reader.nodes, overflow: reader.overflow }),
        Err(Broken) => Err(reader.fault.locate(text)),
    }
}

fn located(text: &str, at: usize, problem: JsonProblem) -> JsonError {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    JsonError {
        problem,
        line: before.bytes().filter(|b| *b == b'\n').count() + 1,
        column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
    }
}

/// The reader has met a [`Fault`] and keeps it. Empty, so that a place or this are handed on in registers.
struct Broken;

/// A problem at a byte; line and column are counted afterwards.
struct Fault {
    at: usize,
    /// What should stand there.
    expected: &'static str,
}

const VALUE: &str = "a value";
const ITEM: &str = "a value behind the comma";
const KEY: &str = "a key in double quotes";
const END: &str = "the end of the text";
const CLOSING_QUOTE: &str = "a closing quote";
const TOO_DEEP: &str = "fewer levels";

impl Fault {
    #[cold]
    fn locate(self, text: &str) -> JsonError {
        let found = text.get(self.at..).and_then(|rest| rest.chars().next());
        let problem = match (self.expected, found) {
            (TOO_DEEP, _) => JsonProblem::Depth,
            (CLOSING_QUOTE, Some(control)) => JsonProblem::Control(control),
            (expected, found) => JsonProblem::Unexpected { expected, found },
        };
        located(text, self.at, problem)
    }
}

struct Reader<'t> {
    bytes: &'t [u8],
    nodes: Vec<Node>,
    overflow: bool,
    /// The problem, once there is one.
    fault: Fault,
}

/// The place of no container.
const NONE: u32 = u32::MAX;

impl Reader<'_> {
    fn document(&mut self) -> Result<(), Broken> {
        let mut at = self.skip_space(0);
        // The innermost open container.
        let mut open = NONE;
        let mut in_object = false;
        let mut depth = 0;
        'value: loop {
            match self.byte(at) {
                b'"' => at = self.string(at)?,
                b'-' | b'0'..=b'9' => at = self.number(at)?,
                first @ (b'{' | b'[') => {
                    depth += 1;
                    if depth > DEPTH_MAX {
                        return self.fault(at, TOO_DEEP);
                    }
                    in_object = first == b'{';
                    let tag = if in_object { Tag::Object } else { Tag::Array };
                    let place = self.nodes.len() as u32;
                    self.push(at, open, tag);
                    open = place;
                    at = self.skip_space(at + 1);
                    // Closed at once, it is closed below like any other; a comma may not follow the opening.
                    if self.byte(at) != closing(in_object) {
                        if in_object {
                            at = self.key(at)?;
                        }
                        continue 'value;
                    }
                }
                b't' => at = self.word(at, b"true", Tag::True)?,
                b'f' => at = self.word(at, b"false", Tag::False)?,
                b'n' => at = self.word(at, b"null", Tag::Null)?,
                _ => {
                    return self.fault(at, VALUE);
                }
            }
            // A value has ended at `at`, and perhaps the containers around it end too.
            loop {
                at = self.skip_space(at);
                if open == NONE {
                    let done = at == self.bytes.len();
                    return if done { Ok(()) } else { self.fault(at, END) };
                }
                let byte = self.byte(at);
                if byte == b',' {
                    at = self.skip_space(at + 1);
                    if in_object {
                        at = self.key(at)?;
                    } else if self.byte(at) == b']' {
                        return self.fault(at, ITEM);
                    }
                    continue 'value;
                }
                if byte != closing(in_object) {
                    let expected = if in_object { "`,` or `}`" } else { "`,` or `]`" };
                    return self.fault(at, expected);
                }
                at += 1;
                depth -= 1;
                let end = self.nodes.len() as u32;
                // `open` is the place of a node that was pushed above, or `NONE`, which has returned already.
                let node = &mut self.nodes[open as usize];
                open = std::mem::replace(&mut node.end, end);
                in_object = open != NONE && self.nodes[open as usize].tag == Tag::Object;
            }
        }
    }

    /// A key with its colon; gives the place of the value.
    #[inline]
    fn key(&mut self, at: usize) -> Result<usize, Broken> {
        if self.byte(at) != b'"' {
            return self.fault(at, KEY);
        }
        let at = self.string(at)?;
        let at = self.skip_space(at);
        if self.byte(at) != b':' {
            return self.fault(at, "`:`");
        }
        Ok(self.skip_space(at + 1))
    }

    /// A string whose opening quote is at `at`.
    #[inline(always)]
    fn string(&mut self, at: usize) -> Result<usize, Broken> {
        let start = at + 1;
        let end = plain_end(self.bytes, start);
        if self.byte(end) == b'"' {
            self.push(start, end as u32, Tag::Text);
            return Ok(end + 1);
        }
        self.escaped_string(start, end)
    }

    /// A string with escapes, read up to its first one at `at`, or up to what may not be in a string.
    #[inline(never)]
    fn escaped_string(&mut self, start: usize, mut at: usize) -> Result<usize, Broken> {
        loop {
            match self.byte(at) {
                b'"' => {
                    self.push(start, at as u32, Tag::EscapedText);
                    return Ok(at + 1);
                }
                b'\\' => match self.byte(at + 1) {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => at += 2,
                    b'u' => {
                        if let Some(bad) = (at + 2..at + 6).find(|at| !self.byte(*at).is_ascii_hexdigit()) {
                            return self.fault(bad, "four hex digits");
                        }
                        at += 6;
                    }
                    _ => {
                        return self.fault(at + 1, "one of `\"\\/bfnrtu` behind a backslash");
                    }
                },
                _ => {
                    return self.fault(at, CLOSING_QUOTE);
                }
            }
            at = plain_end(self.bytes, at);
        }
    }

    #[inline(always)]
    fn number(&mut self, start: usize) -> Result<usize, Broken> {
        let mut at = start;
        let mut whole = 0_u64;
        // Eight bytes at a time; it may wrap, but not within the digits after which it is used.
        while let Some((digits, value)) = word_at(self.bytes, at).and_then(leading_digits) {
            if digits < 8 {
                whole = whole.wrapping_mul(POWERS[digits]).wrapping_add(value);
                at += digits;
                break;
            }
            whole = whole.wrapping_mul(POWERS[8]).wrapping_add(value);
            at += 8;
        }
        while let digit @ 0..=9 = self.byte(at).wrapping_sub(b'0') {
            whole = whole.wrapping_mul(10).wrapping_add(u64::from(digit));
            at += 1;
        }
        let digits = at - start;
        // One digit, or several of which the first is not zero; what is more than that is looked at again.
        let plain = digits == 1 || digits > 1 && self.byte(start) != b'0';
        if plain && digits <= WHOLE_DIGITS_MAX && !matches!(self.byte(at), b'.' | b'e' | b'E') {
            self.nodes.push(Node::of_whole(whole));
            return Ok(at);
        }
        self.any_number(start)
    }

    #[inline(never)]
    fn any_number(&mut self, start: usize) -> Result<usize, Broken> {
        let mut at = start;
        if self.byte(at) == b'-' {
            at += 1;
        }
        // A leading zero stands alone.
        at = if self.byte(at) == b'0' { at + 1 } else { self.digits(at)? };
        let mut exponent = false;
        if self.byte(at) == b'.' {
            at = self.digits(at + 1)?;
        }
        if matches!(self.byte(at), b'e' | b'E') {
            exponent = true;
            at += 1;
            if matches!(self.byte(at), b'+' | b'-') {
                at += 1;
            }
            at = self.digits(at)?;
        }
        // Without an exponent it takes 309 digits to overflow, so nearly no number is looked at here.
        if exponent || at - start > 308 {
            let lexeme = self.bytes.get(start..at).unwrap_or_default();
            self.overflow |= super::number(lexeme).is_infinite();
        }
        self.push(start, at as u32, Tag::Number);
        Ok(at)
    }

    #[inline(always)]
    fn push(&mut self, start: usize, end: u32, tag: Tag) {
        // Nothing is lost: a text longer than 32 bits can count is not read.
        self.nodes.push(Node { start: start as u32, end, tag });
    }

    #[cold]
    fn fault<T>(&mut self, at: usize, expected: &'static str) -> Result<T, Broken> {
        self.fault = Fault { at, expected };
        Err(Broken)
    }

    /// One digit or more.
    #[inline]
    fn digits(&mut self, start: usize) -> Result<usize, Broken> {
        let mut at = start;
        while self.byte(at).is_ascii_digit() {
            at += 1;
        }
        if at == start { self.fault(at, "a digit") } else { Ok(at) }
    }

    fn word(&mut self, at: usize, word: &'static [u8], tag: Tag) -> Result<usize, Broken> {
        let end = at + word.len();
        if self.bytes.get(at..end) != Some(word) {
            return self.fault(at, VALUE);
        }
        self.push(at, end as u32, tag);
        Ok(end)
    }

    #[inline]
    fn skip_space(&self, mut at: usize) -> usize {
        // Nearly always there is none, and one comparison says so.
        while self.byte(at) <= b' ' && matches!(self.byte(at), b' ' | b'\n' | b'\r' | b'\t') {
            at += 1;
        }
        at
    }

    /// The byte at `at`; behind the end zero, which is legal nowhere in JSON.
    #[inline]
    fn byte(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(0)
    }
}

fn closing(in_object: bool) -> u8 {
    if in_object { b'}' } else { b']' }
}

/// The first place from `start` on with a quote, a backslash or a control character, or the end.
#[inline(always)]
fn plain_end(bytes: &[u8], start: usize) -> usize {
    let (blocks, rest) = bytes.get(start..).unwrap_or_default().as_chunks();
    let mut at = start;
    for block in blocks {
        let ends = ends(*block);
        if ends != 0 {
            return at + ends.trailing_zeros() as usize;
        }
        at += BLOCK;
    }
    at + rest.iter().position(|byte| matches!(byte, 0..0x20 | b'"' | b'\\')).unwrap_or(rest.len())
}

/// Bytes that are looked at together.
const BLOCK: usize = 16;

/// A bit for each byte that is a quote, a backslash or a control character, the first byte lowest.
#[inline(always)]
fn ends(block: [u8; BLOCK]) -> u32 {
    let block = u8x16::new(block);
    // Unsigned "less" is no instruction everywhere; "the larger one is 0x1f" is.
    let control = u8x16::splat(0x1f);
    let control = block.max(control).simd_eq(control);
    let (quote, backslash) = (block.simd_eq(u8x16::splat(b'"')), block.simd_eq(u8x16::splat(b'\\')));
    (control | quote | backslash).to_bitmask()
}

/// Eight bytes, the first one lowest.
#[inline]
fn word_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

const ONES: u64 = u64::from_ne_bytes([1; 8]);

/// Ten to the power of the place, as far as a word has digits.
const POWERS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// How many of eight bytes are digits, from the first on, and the number that they are; nothing if the first is none.
#[inline]
fn leading_digits(word: u64) -> Option<(usize, u64)> {
    // A digit is 0x30 to 0x39: with that taken away, the high half of the byte is 0, and still is with 6 added. What
    // is carried out of a byte only touches bytes behind one that is no digit.
    let value = word ^ (ONES * 0x30);
    let other = (value | value.wrapping_add(ONES * 0x06)) & (ONES * 0xf0);
    let digits = (other.trailing_zeros() / 8) as usize;
    if digits == 0 {
        return None;
    }
    // What is no digit goes out at the top, and zeros come in before the first. Neighbours are joined: digits to pairs,
    // pairs to fours, fours to the whole. The first digit is the lowest byte.
    let digits_only = (value << (64 - 8 * digits)) & (ONES * 0x0f);
    let pairs = (digits_only.wrapping_mul(10) + (digits_only >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100) + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    Some((digits, (fours.wrapping_mul(10_000) + (fours >> 32)) & 0xffff_ffff))
}
