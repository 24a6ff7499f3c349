//! The forms in which a value is looked for.
//!
//! The automaton reads ASCII letters without case, so that one form stands for upper and lower hex, for `%2f` and `%2F`
//! also when mixed, and for a value that was lower-cased on its way (a header name, a host name).

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// Everything but RFC 3986 `unreserved`: what careful encoders write.
const STRICT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// What `encodeURIComponent` leaves: `unreserved` and some marks.
const COMPONENT: &AsciiSet = &STRICT.remove(b'!').remove(b'\'').remove(b'(').remove(b')').remove(b'*');
/// What may stand in a path segment: `COMPONENT`, the other sub-delimiters, `:` and `@`.
const SEGMENT: &AsciiSet =
    &COMPONENT.remove(b'$').remove(b'&').remove(b'+').remove(b',').remove(b';').remove(b'=').remove(b':').remove(b'@');
/// What may stand in a path or a query: the same, `/` and `?`.
const PATH: &AsciiSet = &SEGMENT.remove(b'/').remove(b'?');
/// Python's `quote`: strict, but `/` stays.
const QUOTE: &AsciiSet = &STRICT.remove(b'/');
/// `application/x-www-form-urlencoded`: a space stays here and becomes `+` below.
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'*').remove(b'-').remove(b'.').remove(b'_').remove(b' ');

/// One form of a value.
pub(super) struct Form {
    /// What to look for. Not wiped: the automaton that is built from it spells it out as long as the run lives.
    pub(super) bytes: Vec<u8>,
    /// Whether this is the whole value, or (base64 inside a longer text) the part of it that is always the same.
    pub(super) whole: bool,
}

/// All forms of a value, some of them equal to each other. A long value is cheap too: about 30 bytes of form a byte.
pub(super) fn forms(value: &[u8]) -> Vec<Form> {
    let mut forms = Forms(Vec::new());
    forms.whole(value);
    forms.whole(every_byte(value, ""));
    forms.whole(every_byte(value, "%"));
    for set in [STRICT, COMPONENT, SEGMENT, PATH, QUOTE] {
        forms.whole(percent_encode(value, set).to_string());
    }
    forms.whole(percent_encode(value, FORM).to_string().replace(' ', "+"));
    base64_forms(value, &mut forms);
    // Both escape text; what is not UTF-8 has no such form.
    if let Ok(text) = std::str::from_utf8(value) {
        json_forms(text, &mut forms);
        html_forms(text, &mut forms);
    }
    forms.0
}

struct Forms(Vec<Form>);

impl Forms {
    fn whole(&mut self, bytes: impl AsRef<[u8]>) {
        self.push(bytes.as_ref(), true);
    }

    fn push(&mut self, bytes: &[u8], whole: bool) {
        self.0.push(Form { bytes: bytes.to_vec(), whole });
    }
}

fn every_byte(value: &[u8], before: &str) -> String {
    value.iter().fold(String::with_capacity(value.len() * 3), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{before}{byte:02x}");
        text
    })
}

/// Base64 writes three bytes as four characters, so what a value looks like inside a longer text (`user:value`) depends
/// on where in a group it begins. For each of the three places: the characters that come from the value alone, and these
/// with the end that they have where the value is the end of the text. At most 4 bits at each edge stay outside.
fn base64_forms(value: &[u8], forms: &mut Forms) {
    for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
        for before in 0..3 {
            let mut bytes = vec![0; before];
            bytes.extend_from_slice(value);
            let text = engine.encode(&bytes);
            // Six bits a character, rounded inwards on both sides.
            let (start, end) = ((8 * before).div_ceil(6), 8 * bytes.len() / 6);
            let alone = before == 0;
            forms.push(&text.as_bytes()[start..end.max(start)], false);
            forms.push(&text.as_bytes()[start..], alone);
            let padding = "=".repeat((4 - text.len() % 4) % 4);
            forms.push(format!("{}{padding}", &text[start..]).as_bytes(), alone);
        }
    }
}

/// JSON strings as the usual encoders write them, and JSON text that is again inside a JSON string.
fn json_forms(text: &str, forms: &mut Forms) {
    // A string always has a JSON form.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let plain = quoted(text);
    let plain = plain[1..plain.len() - 1].to_owned();
    let twice = quoted(&plain);
    forms.whole(&twice[1..twice.len() - 1]);
    // PHP escapes the slash, Python all that is not ASCII, Go what HTML would read; PHP also the first two together.
    let slashes = plain.replace('/', "\\/");
    forms.whole(ascii_only(&plain));
    forms.whole(ascii_only(&slashes));
    forms.whole(&slashes);
    forms.whole(plain.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e"));
    forms.whole(&plain);
}

fn ascii_only(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out
}

/// HTML and XML, with the ways in which encoders write the two quotes.
fn html_forms(text: &str, forms: &mut Forms) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    for (double, single) in [
        ("\"", "'"),
        ("&quot;", "'"),
        ("&quot;", "&#39;"),
        ("&quot;", "&#x27;"),
        ("&quot;", "&apos;"),
        ("&#34;", "&#39;"),
    ] {
        forms.whole(text.replace('"', double).replace('\'', single));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each form once, as it is looked for. `*` marks a part of a base64 text.
    fn shown(value: &[u8]) -> String {
        let mut seen = std::collections::BTreeSet::new();
        forms(value)
            .into_iter()
            .map(|form| format!("{} {}", if form.whole { ' ' } else { '*' }, String::from_utf8_lossy(&form.bytes)))
            .filter(|line| seen.insert(line.clone()))
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn forms_of_a_plain_key() {
        insta::assert_snapshot!(shown(b"sk-live-7Q"));
    }

    #[test]
    fn forms_of_a_password_with_marks() {
        insta::assert_snapshot!(shown("a/b+c d\"<é>&'\n~\u{1f511}".as_bytes()));
    }

    #[test]
    fn bytes_that_are_no_text_have_no_escaped_form() {
        insta::assert_snapshot!(shown(&[0xff, 0xfe, 0x00, b'A']));
    }

    proptest::proptest! {
        /// Wherever a value stands in a text, the base64 of that text holds one of the parts.
        #[test]
        fn base64_of_any_text_around_the_value_holds_a_part(
            before in proptest::collection::vec(proptest::num::u8::ANY, 0..7),
            value in proptest::collection::vec(proptest::num::u8::ANY, 1..40),
            after in proptest::collection::vec(proptest::num::u8::ANY, 0..7),
        ) {
            let whole = [before.as_slice(), &value, &after].concat();
            let forms = forms(&value);
            for text in [STANDARD_NO_PAD.encode(&whole), URL_SAFE_NO_PAD.encode(&whole)] {
                let held = forms.iter().any(|form| {
                    // A part of less than two bytes can be empty and says nothing.
                    !form.whole
                        && form.bytes.len() + 2 >= value.len() * 4 / 3
                        && form.bytes.len() <= text.len()
                        && text.as_bytes().windows(form.bytes.len().max(1)).any(|window| window == &form.bytes[..])
                });
                proptest::prop_assert!(held || value.len() < 3, "{text}");
            }
        }
    }
}
