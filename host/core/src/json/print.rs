//! The printer: `JSON.stringify` without spaces, well-formed also where a string is not.

use std::fmt;

use super::{Shape, Text, Value};

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
        // The containers that are open, innermost last.
        let mut stack: Vec<Open<'d>> = Vec::new();
        let mut next = Some(self);
        loop {
            if let Some(value) = next.take() {
                match value.shape() {
                    Shape::Null => out.push_str("null"),
                    Shape::Bool(true) => out.push_str("true"),
                    Shape::Bool(false) => out.push_str("false"),
                    Shape::Number(number) => write_number(number, out),
                    Shape::Text(text) => text.write_json(out),
                    Shape::Array(array) => {
                        out.push('[');
                        stack.push(Open { close: ']', first: true, left: Left::Items(array.items()) });
                    }
                    Shape::Object(object) => {
                        out.push('{');
                        let entries = object.own_entries().into_iter();
                        stack.push(Open { close: '}', first: true, left: Left::Entries(entries) });
                    }
                }
            }
            let Some(open) = stack.last_mut() else { return };
            let (key, value) = match &mut open.left {
                Left::Items(items) => (None, items.next()),
                Left::Entries(entries) => entries.next().map_or((None, None), |(key, value)| (Some(key), Some(value))),
            };
            next = value;
            if next.is_none() {
                out.push(open.close);
                stack.pop();
                continue;
            }
            if !std::mem::take(&mut open.first) {
                out.push(',');
            }
            if let Some(key) = key {
                key.write_json(out);
                out.push(':');
            }
        }
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
    Entries(std::vec::IntoIter<(Text<'d>, Value<'d>)>),
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
