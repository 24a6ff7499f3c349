//! The printer: `JSON.stringify` without spaces, well-formed also where a string is not.

use std::fmt;

use super::{Object, Shape, Text, Value};
use crate::redact::{REDACTED, Redactor, is_sensitive_key};

impl<'d> Value<'d> {
    /// The text of `JSON.stringify`: own-key order, shortest doubles, infinity as `null`, lone surrogates as `\udXXX`.
    #[must_use]
    pub fn to_json_text(self) -> String {
        let mut out = String::new();
        self.write_json(&mut out);
        out
    }

    /// Appends [`Self::to_json_text`].
    pub fn write_json(self, out: &mut String) {
        write(self, Style::default(), out);
    }

    /// Appends the text with the keys of each object in the order of their bytes: equal values have equal texts, however
    /// they were spelt and in whatever order their sender put the keys.
    pub fn write_canonical(self, out: &mut String) {
        write(self, Style { sorted: true, redactor: None }, out);
    }

    /// [`Self::to_json_text`] without secrets, by the rules of [`Redactor::json`] and for any depth.
    #[must_use]
    pub fn to_redacted_text(self, redactor: &Redactor) -> String {
        let mut out = String::new();
        write(self, Style { sorted: false, redactor: Some(redactor) }, &mut out);
        out
    }
}

/// How it is printed.
#[derive(Clone, Copy, Default)]
struct Style<'r> {
    sorted: bool,
    redactor: Option<&'r Redactor>,
}

fn write<'d>(value: Value<'d>, style: Style<'_>, out: &mut String) {
    // The containers that are open, innermost last.
    let mut stack: Vec<Open<'d>> = Vec::new();
    let mut next = Some(value);
    loop {
        if let Some(value) = next.take() {
            match value.shape() {
                Shape::Null => out.push_str("null"),
                Shape::Bool(true) => out.push_str("true"),
                Shape::Bool(false) => out.push_str("false"),
                Shape::Number(number) => style.number(number, out),
                Shape::Text(text) => style.text(text, out),
                Shape::Array(array) => {
                    out.push('[');
                    stack.push(Open { close: ']', first: true, left: Left::Items(array.items()) });
                }
                Shape::Object(object) => {
                    out.push('{');
                    let entries = style.entries(object).into_iter();
                    stack.push(Open { close: '}', first: true, left: Left::Entries(entries) });
                }
            }
        }
        let Some(open) = stack.last_mut() else { return };
        let entry = match &mut open.left {
            Left::Items(items) => items.next().map(|value| (None, Some(value))),
            Left::Entries(entries) => entries.next().map(|(key, value)| (Some(key), value)),
        };
        let Some((key, value)) = entry else {
            out.push(open.close);
            stack.pop();
            continue;
        };
        if !std::mem::take(&mut open.first) {
            out.push(',');
        }
        if let Some(key) = key {
            style.text(key, out);
            out.push(':');
        }
        next = value;
        if next.is_none() {
            out.push_str(&format!("\"{REDACTED}\""));
        }
    }
}

impl Style<'_> {
    /// Keys and values in the order in which they are printed; no value where it is hidden for its name.
    fn entries<'d>(self, object: Object<'d>) -> Vec<(Text<'d>, Option<Value<'d>>)> {
        let mut entries = object.own_entries();
        if self.sorted {
            entries.sort_by(|(a, _), (b, _)| a.wtf8().cmp(&b.wtf8()));
        }
        let is_sensitive = |text: Text<'_>| is_sensitive_key(&text.to_str_lossy());
        let names_a_credential = self.redactor.is_some()
            && entries
                .iter()
                .any(|(key, value)| (*key == *"name" || *key == *"key") && value.as_text().is_some_and(is_sensitive));
        let hides =
            |key: Text<'_>| self.redactor.is_some() && (is_sensitive(key) || names_a_credential && key == *"value");
        entries.into_iter().map(|(key, value)| (key, (!hides(key)).then_some(value))).collect()
    }

    fn text(self, text: Text<'_>, out: &mut String) {
        match self.redactor.map(|redactor| redactor.bytes(&text.wtf8()).into_owned()) {
            Some(clean) if *clean != *text.wtf8() => {
                out.push('"');
                write_wtf8(&clean, out);
                out.push('"');
            }
            _ => text.write_json(out),
        }
    }

    fn number(self, number: f64, out: &mut String) {
        let mut text = String::new();
        write_number(number, &mut text);
        match self.redactor.map(|redactor| redactor.text(&text)) {
            Some(std::borrow::Cow::Owned(clean)) => {
                out.push('"');
                write_wtf8(clean.as_bytes(), out);
                out.push('"');
            }
            _ => out.push_str(&text),
        }
    }
}

/// Bytes of [`Text::wtf8`], of which a part may have been replaced, as the inside of a string.
fn write_wtf8(bytes: &[u8], out: &mut String) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let good = match std::str::from_utf8(rest) {
            Ok(_) => rest.len(),
            Err(error) => error.valid_up_to(),
        };
        let (valid, bad) = rest.split_at(good);
        String::from_utf8_lossy(valid).chars().for_each(|c| write_point(u32::from(c), out));
        rest = match bad {
            // Half a pair, as `wtf8` writes one.
            [0xed, high @ 0xa0..=0xbf, low @ 0x80..=0xbf, behind @ ..] => {
                write_point(0xd000 | u32::from(high & 0x3f) << 6 | u32::from(low & 0x3f), out);
                behind
            }
            [_, behind @ ..] => {
                out.push(char::REPLACEMENT_CHARACTER);
                behind
            }
            [] => bad,
        };
    }
}

/// A container of which some is still to print.
struct Open<'d> {
    close: char,
    first: bool,
    left: Left<'d>,
}

enum Left<'d> {
    Items(super::Items<'d>),
    Entries(std::vec::IntoIter<(Text<'d>, Option<Value<'d>>)>),
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_json_text())
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.write_json(&mut out);
        f.write_str(&out)
    }
}

impl Text<'_> {
    /// Appends the string with quotes and escapes.
    pub fn write_json(self, out: &mut String) {
        out.push('"');
        if self.escaped {
            self.points().for_each(|point| write_point(point, out));
        } else {
            // What stood without an escape needs none: the reader let through nothing else.
            out.push_str(self.raw);
        }
        out.push('"');
    }
}

fn write_point(point: u32, out: &mut String) {
    match char::from_u32(point) {
        Some('"') => out.push_str("\\\""),
        Some('\\') => out.push_str("\\\\"),
        Some('\u{8}') => out.push_str("\\b"),
        Some('\u{c}') => out.push_str("\\f"),
        Some('\n') => out.push_str("\\n"),
        Some('\r') => out.push_str("\\r"),
        Some('\t') => out.push_str("\\t"),
        Some(c) if c >= ' ' => out.push(c),
        // Other controls, and the lone surrogates that are no `char`.
        _ => out.push_str(&format!("\\u{point:04x}")),
    }
}

fn write_number(number: f64, out: &mut String) {
    if number.is_finite() {
        out.push_str(ryu_js::Buffer::new().format_finite(number));
    } else {
        out.push_str("null");
    }
}

/// A number as ECMAScript prints it (ECMA-262, Number::toString): `1e+21`, `1e-7`, `0` for minus zero.
#[must_use]
pub fn number_text(number: f64) -> String {
    ryu_js::Buffer::new().format(number).to_owned()
}
