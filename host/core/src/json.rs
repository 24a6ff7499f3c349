//! JSON as ECMAScript reads and prints it (`JSON.parse`, `JSON.stringify`), for text that strangers sent.
//!
//! The contract of event batches was written in JavaScript, and its messages quote what it read. A reader that is
//! merely right by RFC 8259 differs where it shows: numbers are IEEE doubles and `1e400` is infinity, of equal keys the
//! last wins in the place of the first, lone surrogates are legal, and integer-like keys print first. So it is our own.
//!
//! # Layout
//! - [`Document`]: one text, read into a flat list of nodes (this file), by `json/read.rs`
//! - [`Value`], [`Shape`], [`Array`], [`Object`], [`Text`]: views into a document (this file)
//! - [`Value::to_json_text`], [`number_text`]: the printer, `json/print.rs`; also canonical, and without secrets
//! - [`Value::to_plain`]: as the value of another crate, where that can hold it, `json/plain.rs`
//! - [`JsonError`]: what is not JSON, with line and column, `json/read.rs`
//!
//! # What it never does
//! It never recurses, neither reading nor printing nor dropping, so the depth of a text costs no stack. It never copies
//! a string: a node is twelve bytes that point into the text (or are a short number), and the rest is made when it is
//! asked for. A node stands for a byte at least, nearly always for ten: that bounds what a text can make the host hold.

mod plain;
mod print;
mod read;

use std::borrow::Cow;

pub use print::number_text;
pub use read::{JsonError, JsonProblem};

/// Levels of arrays and objects in each other that are read; one more is refused.
///
/// Nothing here needs the bound, since nothing recurses; it is for the readers behind us that do. It lies above what
/// the original can print (node 20 gives up between 2,000 and 5,000 levels), so no batch that came out of it is refused.
pub const DEPTH_MAX: usize = 10_000;

/// Bytes of a text that are read: node offsets are 32 bits wide. Callers bound their input far below this.
pub const TEXT_BYTES_MAX: usize = u32::MAX as usize;

/// A JSON text that has been read. It borrows the text.
#[derive(Debug, Clone)]
pub struct Document<'t> {
    text: &'t str,
    nodes: Vec<Node>,
    /// Whether some number in the text overflowed to infinity; `false` spares a walk in [`Value::is_finite`].
    overflow: bool,
}

impl<'t> Document<'t> {
    /// Reads a text.
    pub fn parse(text: &'t str) -> Result<Self, JsonError> {
        read::read(text)
    }

    /// Reads a text whose bytes need not be UTF-8; where they are not, that is the error.
    pub fn parse_bytes(bytes: &'t [u8]) -> Result<Self, JsonError> {
        read::read(read::utf8(bytes)?)
    }

    /// The value that the text is.
    #[must_use]
    pub fn root(&self) -> Value<'_> {
        self.value(0)
    }

    /// The value at a place that [`Value::place`] gave for this document.
    #[inline]
    pub(crate) fn value(&self, place: u32) -> Value<'_> {
        Value { doc: self, at: place }
    }

    /// The text at a place that [`Text::place`] gave for this document.
    #[inline]
    pub(crate) fn text_at(&self, place: u32) -> Text<'_> {
        let node = self.node(place);
        let raw = self.text.get(node.start as usize..node.end as usize).unwrap_or_default();
        Text { raw, escaped: node.tag == Tag::EscapedText, place }
    }

    #[inline]
    fn bytes(&self, node: Node) -> &[u8] {
        // The reader only stores ranges that it has walked over, so the text has them.
        self.text.as_bytes().get(node.start as usize..node.end as usize).unwrap_or_default()
    }

    #[inline]
    fn node(&self, at: u32) -> Node {
        // Places come from the reader and from iterators that stop at a container's end, so they are in range.
        self.nodes[at as usize]
    }

    /// The place behind the value at `at`, all its content included.
    #[inline]
    fn after(&self, at: u32) -> u32 {
        let node = self.node(at);
        if node.tag.is_container() { node.end } else { at + 1 }
    }
}

/// One value, key, or beginning of a container. Children follow their container; keys and values alternate.
#[derive(Debug, Clone, Copy)]
struct Node {
    /// Where in the text it begins; for a string, behind the quote.
    start: u32,
    /// Where in the text it ends (for a string, before the quote); for a container, the place behind its last child.
    end: u32,
    tag: Tag,
}

impl Node {
    /// A number of at most [`WHOLE_DIGITS_MAX`] digits, its bits in the place of a range.
    #[inline]
    fn of_whole(whole: u64) -> Self {
        Self { start: whole as u32, end: (whole >> 32) as u32, tag: Tag::Whole }
    }

    #[inline]
    fn whole(self) -> f64 {
        // Exact: so few digits are below 2^53.
        (i64::from(self.end) << 32 | i64::from(self.start)) as f64
    }
}

/// Digits that a double holds exactly, whatever they are.
const WHOLE_DIGITS_MAX: usize = 15;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    Null,
    True,
    False,
    Number,
    /// A number of few digits and nothing else, as nearly all are in events. It is here, not in the text.
    Whole,
    /// A string whose bytes in the text are its content.
    Text,
    /// A string with at least one backslash.
    EscapedText,
    Array,
    Object,
}

impl Tag {
    fn is_container(self) -> bool {
        matches!(self, Self::Array | Self::Object)
    }
}

/// A value in a document.
#[derive(Clone, Copy)]
pub struct Value<'d> {
    doc: &'d Document<'d>,
    at: u32,
}

/// What a value is.
#[derive(Debug, Clone, Copy)]
pub enum Shape<'d> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A double, infinite where the text overflowed.
    Number(f64),
    /// A string.
    Text(Text<'d>),
    /// A list.
    Array(Array<'d>),
    /// A map.
    Object(Object<'d>),
}

impl<'d> Value<'d> {
    /// What it is.
    #[must_use]
    #[inline]
    pub fn shape(self) -> Shape<'d> {
        let node = self.doc.node(self.at);
        match node.tag {
            Tag::Null => Shape::Null,
            Tag::True => Shape::Bool(true),
            Tag::False => Shape::Bool(false),
            Tag::Number => Shape::Number(number(self.doc.bytes(node))),
            Tag::Whole => Shape::Number(node.whole()),
            Tag::Text | Tag::EscapedText => Shape::Text(self.doc.text_at(self.at)),
            Tag::Array => Shape::Array(Array { doc: self.doc, at: self.at }),
            Tag::Object => Shape::Object(Object { doc: self.doc, at: self.at }),
        }
    }

    /// The double, where it is a number.
    #[must_use]
    #[inline]
    pub fn as_f64(self) -> Option<f64> {
        let node = self.doc.node(self.at);
        match node.tag {
            Tag::Whole => Some(node.whole()),
            Tag::Number => Some(number(self.doc.bytes(node))),
            _ => None,
        }
    }

    /// The double, where it is a whole number, finite and not negative. Minus zero is not negative.
    #[must_use]
    #[inline]
    pub fn as_whole(self) -> Option<f64> {
        let node = self.doc.node(self.at);
        if node.tag == Tag::Whole {
            return Some(node.whole());
        }
        self.as_f64().filter(|number| number.is_finite() && number.trunc() == *number && *number >= 0.0)
    }

    /// The string, where it is one.
    #[must_use]
    #[inline]
    pub fn as_text(self) -> Option<Text<'d>> {
        let tag = self.doc.node(self.at).tag;
        matches!(tag, Tag::Text | Tag::EscapedText).then(|| self.doc.text_at(self.at))
    }

    /// The list, where it is one.
    #[must_use]
    pub fn as_array(self) -> Option<Array<'d>> {
        (self.doc.node(self.at).tag == Tag::Array).then_some(Array { doc: self.doc, at: self.at })
    }

    /// The map, where it is one.
    #[must_use]
    #[inline]
    pub fn as_object(self) -> Option<Object<'d>> {
        (self.doc.node(self.at).tag == Tag::Object).then_some(Object { doc: self.doc, at: self.at })
    }

    /// Whether no number in it overflowed. One that a later equal key overwrote does not count.
    #[must_use]
    #[inline]
    pub fn is_finite(self) -> bool {
        !self.doc.overflow || self.all_finite()
    }

    #[cold]
    fn all_finite(self) -> bool {
        let mut left = vec![self];
        while let Some(value) = left.pop() {
            match value.shape() {
                Shape::Number(number) if !number.is_finite() => return false,
                Shape::Array(array) => left.extend(array.iter()),
                Shape::Object(object) => left.extend(object.own_entries().into_iter().map(|(_, value)| value)),
                _ => {}
            }
        }
        true
    }

    /// Where it is in its document, for [`Document::value`].
    pub(crate) fn place(self) -> u32 {
        self.at
    }
}

/// The double that a number's text stands for, rounded by the library.
fn number(lexeme: &[u8]) -> f64 {
    // All of JSON's number grammar is in that of `f64`, and it is ASCII; NaN would fail every check if it were not so.
    std::str::from_utf8(lexeme).ok().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
}

/// A list in a document.
#[derive(Debug, Clone, Copy)]
pub struct Array<'d> {
    doc: &'d Document<'d>,
    at: u32,
}

impl<'d> Array<'d> {
    /// Its values in order.
    pub fn iter(self) -> impl Iterator<Item = Value<'d>> + Clone + use<'d> {
        self.items()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.doc.node(self.at).end == self.at + 1
    }

    fn items(self) -> Items<'d> {
        Items { doc: self.doc, at: self.at + 1, end: self.doc.node(self.at).end }
    }
}

/// A map in a document.
#[derive(Debug, Clone, Copy)]
pub struct Object<'d> {
    doc: &'d Document<'d>,
    at: u32,
}

impl<'d> Object<'d> {
    /// Keys and values as they stand in the text: equal keys are all there, the last one counts.
    pub fn iter(self) -> impl Iterator<Item = (Text<'d>, Value<'d>)> + use<'d> {
        self.places().map(move |at| (self.doc.text_at(at), self.doc.value(at + 1)))
    }

    /// The value of a key; of equal keys the last.
    #[must_use]
    pub fn get(self, name: &str) -> Option<Value<'d>> {
        let [value] = self.pick(|key| (key == name.as_bytes()).then_some(0));
        value
    }

    /// The values of some keys, found in one pass; of equal keys the last. `slot` says where the value of a key goes.
    ///
    /// It sees the key as UTF-8 with escapes undone; a lone surrogate, encoded like any other code point, equals no text.
    #[must_use]
    #[inline]
    pub fn pick<const N: usize>(self, slot: impl Fn(&[u8]) -> Option<usize>) -> [Option<Value<'d>>; N] {
        // Places first, values at the end: half the size to write, and the nodes are walked as one slice.
        let mut found = [0_u32; N];
        let mut at = self.at + 1;
        let end = self.doc.node(self.at).end;
        let mut nodes = self.doc.nodes.get(at as usize..end as usize).unwrap_or_default();
        while let [key, value, ..] = nodes {
            let slot = match key.tag {
                Tag::Text => slot(self.doc.bytes(*key)),
                _ => slot(&self.doc.text_at(at).wtf8()),
            };
            if let Some(found) = slot.and_then(|slot| found.get_mut(slot)) {
                *found = at + 1;
            }
            let next = if value.tag.is_container() { value.end } else { at + 2 };
            nodes = nodes.get((next - at) as usize..).unwrap_or_default();
            at = next;
        }
        // No value is at place 0: that is the root's, or the object's own.
        found.map(|at| (at > 0).then(|| self.doc.value(at)))
    }

    /// The places of its keys; the value of each is one behind.
    #[inline]
    fn places(self) -> impl Iterator<Item = u32> + use<'d> {
        let end = self.doc.node(self.at).end;
        let mut next = self.at + 1;
        std::iter::from_fn(move || {
            let at = next;
            (at < end).then(|| {
                next = self.doc.after(at + 1);
                at
            })
        })
    }

    /// Keys and values as ECMAScript lists them: of equal keys the last value in the place of the first, array
    /// indexes first and ascending, then the others in the order of the text (ECMA-262, OrdinaryOwnPropertyKeys).
    #[must_use]
    pub fn own_entries(self) -> Vec<(Text<'d>, Value<'d>)> {
        let mut entries: Vec<_> = self.iter().map(|(key, value)| (key.wtf8(), key, value)).collect();
        // Sorted rather than hashed: no seed to choose, and no key set that makes it slow. The sort is stable, so among
        // equal keys the text's order stays; the first then takes the value of the last.
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        entries.dedup_by(|later, kept| {
            let equal = later.0 == kept.0;
            if equal {
                kept.2 = later.2;
            }
            equal
        });
        entries.sort_by_key(|(name, key, _)| match array_index(name) {
            Some(index) => (false, index),
            None => (true, key.place),
        });
        entries.into_iter().map(|(_, key, value)| (key, value)).collect()
    }
}

/// The number of a key that ECMAScript counts as an array index: canonical decimal, below 2^32 - 1.
fn array_index(name: &[u8]) -> Option<u32> {
    let canonical = name == b"0" || name.first().is_some_and(|b| (b'1'..=b'9').contains(b));
    if !canonical || name.len() > 10 {
        return None;
    }
    std::str::from_utf8(name).ok()?.parse().ok().filter(|index| *index != u32::MAX)
}

#[derive(Clone)]
struct Items<'d> {
    doc: &'d Document<'d>,
    at: u32,
    end: u32,
}

impl<'d> Iterator for Items<'d> {
    type Item = Value<'d>;

    #[inline]
    fn next(&mut self) -> Option<Value<'d>> {
        if self.at >= self.end {
            return None;
        }
        let value = self.doc.value(self.at);
        self.at = self.doc.after(self.at);
        Some(value)
    }
}

/// A string in a document. It is UTF-16 by law, so it may hold half of a surrogate pair, which no `str` can.
#[derive(Clone, Copy)]
pub struct Text<'d> {
    raw: &'d str,
    escaped: bool,
    place: u32,
}

impl<'d> Text<'d> {
    /// Whether it has no characters.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.raw.is_empty()
    }

    /// The string, borrowed where the text has no escape in it; nothing where it holds a lone surrogate.
    #[must_use]
    #[inline]
    pub fn to_str(self) -> Option<Cow<'d, str>> {
        if !self.escaped {
            return Some(Cow::Borrowed(self.raw));
        }
        self.points().map(char::from_u32).collect::<Option<String>>().map(Cow::Owned)
    }

    /// The string with U+FFFD in the place of each lone surrogate.
    #[must_use]
    pub fn to_str_lossy(self) -> Cow<'d, str> {
        if !self.escaped {
            return Cow::Borrowed(self.raw);
        }
        self.points().map(|point| char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
    }

    /// Where it is in its document, for [`Document::text_at`].
    pub(crate) fn place(self) -> u32 {
        self.place
    }

    /// UTF-8 that also encodes lone surrogates: equal bytes are equal strings, escapes or not.
    fn wtf8(self) -> Cow<'d, [u8]> {
        if !self.escaped {
            return Cow::Borrowed(self.raw.as_bytes());
        }
        let mut bytes = Vec::with_capacity(self.raw.len());
        for point in self.points() {
            match char::from_u32(point) {
                Some(c) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                None => bytes.extend([
                    0xe0 | (point >> 12) as u8,
                    0x80 | (point >> 6 & 0x3f) as u8,
                    0x80 | (point & 0x3f) as u8,
                ]),
            }
        }
        Cow::Owned(bytes)
    }

    /// Its code points, escapes undone and pairs joined; a lone surrogate is a point of its own.
    fn points(self) -> Points<'d> {
        Points { rest: self.raw }
    }
}

impl PartialEq<str> for Text<'_> {
    fn eq(&self, other: &str) -> bool {
        *self.wtf8() == *other.as_bytes()
    }
}

struct Points<'d> {
    rest: &'d str,
}

impl Points<'_> {
    /// The unit of a `\uXXXX` at the beginning of the rest.
    fn unit(&self) -> Option<u32> {
        u32::from_str_radix(self.rest.strip_prefix("\\u")?.get(..4)?, 16).ok()
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }
}

impl Iterator for Points<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let mut chars = self.rest.chars();
        let first = chars.next()?;
        if first != '\\' {
            self.rest = chars.as_str();
            return Some(u32::from(first));
        }
        let Some(unit) = self.unit() else {
            let escaped = chars.next()?;
            self.rest = chars.as_str();
            return Some(match escaped {
                'b' => 8,
                'f' => 12,
                'n' => 10,
                'r' => 13,
                't' => 9,
                // Only `"`, `\` and `/` are left: the reader has refused all others.
                other => u32::from(other),
            });
        };
        self.skip(6);
        // Only two escapes can form a pair: half of one is not possible in the UTF-8 of the text.
        match (unit, self.unit()) {
            (0xd800..0xdc00, Some(low @ 0xdc00..0xe000)) => {
                self.skip(6);
                Some(0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00))
            }
            _ => Some(unit),
        }
    }
}
