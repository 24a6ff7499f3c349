//! Live values, whole and in pieces, against a second and much simpler implementation.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use super::encodings::forms;
use super::{Redactor, SecretValue, Secrets, Stream, TextStream};
use crate::Error;

const API: &str = "sk-live-7Q/x+9=&\"<k>";

fn redactor(values: &[(&str, &str)]) -> Redactor {
    Redactor::new(Secrets::new(values.iter().copied()).expect("the values are fine"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Text that holds a value as programs write it. Made without the code under test.
fn echoes(value: &[u8]) -> Vec<String> {
    let percent: String = value.iter().map(|byte| format!("%{byte:02X}")).collect();
    let mixed: String = value
        .iter()
        .enumerate()
        .map(|(index, byte)| if index % 2 == 0 { format!("%{byte:02x}") } else { format!("%{byte:02X}") })
        .collect();
    let mut echoes = vec![hex(value), hex(value).to_uppercase(), percent, mixed];
    for before in ["", "u", "us", "user:"] {
        for after in ["", "!", "!!", ":rest"] {
            let text = [before.as_bytes(), value, after.as_bytes()].concat();
            for engine in [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD] {
                echoes.push(engine.encode(&text));
            }
        }
    }
    if let Ok(text) = std::str::from_utf8(value) {
        echoes.push(text.to_owned());
        echoes.push(json!({ "echo": text }).to_string());
        echoes.push(json!({ "body": json!({ "echo": text }).to_string() }).to_string());
    }
    echoes
}

/// Whether a text holds some form of a value that must be found anywhere.
fn holds(text: &[u8], value: &[u8]) -> bool {
    let text = text.to_ascii_lowercase();
    forms(value)
        .iter()
        .filter(|form| form.bytes.len() >= 8)
        .any(|form| text.windows(form.bytes.len()).any(|window| window.eq_ignore_ascii_case(&form.bytes)))
}

/// The specification: marks all that belongs to an occurrence, and cuts the text where occurrences do not overlap.
fn plainly(text: &[u8], values: &[(&str, &[u8])]) -> Vec<u8> {
    let token_byte = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80;
    let mut found = Vec::new(); // start, end, name
    for (name, value) in values {
        for form in forms(value) {
            let bytes = form.bytes.len();
            if bytes < 4 || !form.whole && bytes < 8 {
                continue;
            }
            for start in 0..(text.len() + 1).saturating_sub(bytes) {
                let end = start + bytes;
                let whole = start.checked_sub(1).is_none_or(|before| !token_byte(&text[before]))
                    && text.get(end).is_none_or(|after| !token_byte(after));
                if text[start..end].eq_ignore_ascii_case(&form.bytes) && (bytes >= 8 || whole) {
                    found.push((start, end, *name));
                }
            }
        }
    }
    found.sort_by_key(|(start, end, _)| (*start, std::cmp::Reverse(*end)));
    let mut out = Vec::new();
    let mut at = 0;
    let mut rest = found.as_slice();
    while let Some(&(start, mut end, mut name)) = rest.first() {
        let mut longest = end - start;
        let mut count = 0;
        while let Some(&(next, next_end, next_name)) = rest.get(count).filter(|(next, _, _)| *next < end) {
            if next_end - next > longest {
                (longest, name) = (next_end - next, next_name);
            }
            end = end.max(next_end);
            count += 1;
        }
        out.extend_from_slice(&text[at..start]);
        out.extend_from_slice(format!("[redacted:{name}]").as_bytes());
        at = end;
        rest = &rest[count..];
    }
    out.extend_from_slice(&text[at..]);
    out
}

/// Pushes the pieces between some cuts, and checks what is held on the way.
fn in_pieces(redactor: &Redactor, text: &[u8], cuts: &[usize]) -> Vec<u8> {
    let mut stream = Stream::new(redactor);
    let mut out = Vec::new();
    let mut from = 0;
    for &cut in cuts.iter().chain([&text.len()]) {
        out.extend(stream.push(&text[from..cut]));
        from = cut;
        assert!(stream.held_bytes() <= stream.held_bytes_max());
    }
    out.extend(stream.finish());
    assert_eq!(stream.held_bytes(), 0);
    out
}

#[test]
fn texts_become() {
    let redactor = redactor(&[
        ("API", API),
        ("SHORT", "hunter2"),
        ("LOW", "abcdefgh"),
        ("LONGER", "abcdefghijkl"),
        ("SHIFTED", "efghijklmnop"),
        ("TWICE", "xyxyxyxy"),
        ("FILE", "  from-a-file\r\n"),
        ("PIN", "12345678"),
    ]);
    let texts = [
        "nothing here",
        API,
        "before sk-live-7Q/x+9=&\"<k> after",
        "SK-LIVE-7q/x+9=&\"<K> in another case",
        "cut off: sk-live-7Q/x+9=&\"<k",
        "?key=sk-live-7Q%2Fx%2B9%3D%26%22%3Ck%3E&x=1",
        "?key=sk-live-7Q%2fx%2B9%3d%26%22%3Ck%3e&x=1",
        "<p>sk-live-7Q/x+9=&amp;&quot;&lt;k&gt;</p>",
        r#"{"a":"sk-live-7Q/x+9=\u0026\"\u003ck\u003e"}"#,
        r#"{"a":"sk-live-7Q\/x+9=&\"<k>"}"#,
        "password hunter2, hunter2! (hunter2) HUNTER2",
        "hunter22 xhunter2 _hunter2 éhunter2",
        "68756e74657232",
        "abcdefgh",
        "abcdefghij",
        "abcdefghijkl",
        "abcdefghijklmnop",
        "xyxyxyxyxyxyxyxy",
        "xyxyxyxy xyxyxyxy",
        "abcdefghabcdefgh",
        "from-a-file",
    ];
    let shown: Vec<_> = texts.iter().map(|text| format!("{text}\n  -> {}", redactor.text(text))).collect();
    insta::assert_snapshot!(shown.join("\n"));
}

/// What a reader by offset sees: the same length, and stars where a value or an encoding of it stood.
#[test]
fn a_mask_keeps_every_position() {
    let redactor = redactor(&[("A", "abcabcabc"), ("B", "other-value")]);
    for (text, want) in [
        ("nothing here", "nothing here"),
        ("<abcabcabc>", "<*********>"),
        ("<abcabcabcabc>", "<************>"),
        ("other-valueother-value", "**********************"),
        ("6f746865722d76616c7565.", "**********************."),
    ] {
        assert_eq!(String::from_utf8_lossy(&redactor.mask(text.as_bytes())), want, "{text}");
    }
    assert_eq!(*Redactor::default().mask(b"abcabcabc"), *b"abcabcabc");
}

#[test]
fn every_echo_is_found_whole_and_at_every_cut() {
    for value in
        [API.as_bytes(), b"sk-ant-0123456789abcdef", "pä\u{df}w\u{f6}rt-\u{1f511}".as_bytes(), b"\x80\xff\x00bin\xc3"]
    {
        let redactor = Redactor::new(Secrets::new([("KEY", value)]).expect("the value is fine"));
        for echo in echoes(value) {
            let text = format!("x\u{e9} {echo} \u{20ac}y").into_bytes();
            let whole = redactor.bytes(&text).into_owned();
            assert!(!holds(&whole, value), "{echo}");
            assert!(whole.windows(14).any(|window| window == b"[redacted:KEY]"), "{echo}");
            for cut in 0..=text.len() {
                assert_eq!(in_pieces(&redactor, &text, &[cut]), whole, "{echo} cut at {cut}");
            }
            let every: Vec<_> = (0..text.len()).collect();
            assert_eq!(in_pieces(&redactor, &text, &every), whole, "{echo} byte by byte");
        }
    }
}

#[test]
fn text_that_begins_no_value_is_not_held() {
    let redactor = redactor(&[("A", "secret-one"), ("B", "one-more-value"), ("C", "abababab"), ("D", "hunter2")]);
    // What is pushed, what comes out at once, and how many bytes wait.
    let cases = [
        ("plain text! ", "plain text! ", 0),
        ("the sec", "the ", 3),
        ("the secr", "the ", 4),
        ("the second", "the second", 0),
        ("a secret-on", "a ", 9),
        // Complete, but its end begins another, which would belong to the same span.
        ("a secret-one", "a ", 3),
        ("a secret-one-m", "a ", 5),
        ("a secret-one!", "a [redacted:A]!", 0),
        ("and one-more-value", "and [redacted:B]", 0),
        // It can repeat into itself.
        ("abababab", "", 6),
        ("ababababx", "[redacted:C]x", 0),
        // Short: whether it is a whole token is told by what follows.
        ("(hunter2", "(", 7),
        ("(hunter2)", "([redacted:D])", 0),
        ("(hunter2x)", "(hunter2x)", 0),
    ];
    for (text, out, held) in cases {
        let mut stream = Stream::new(&redactor);
        assert_eq!(String::from_utf8_lossy(&stream.push(text.as_bytes())), out);
        assert_eq!(stream.held_bytes(), held, "{text}");
    }
}

/// For a pipe on which nothing more may come.
#[test]
fn what_was_released_can_still_become_a_value() {
    let redactor = redactor(&[("A", "secret-one"), ("B", "one-more-value"), ("D", "hunter2")]);
    // Pushed piece by piece, each but the last followed by a release.
    let cases: &[(&[&str], &str)] = &[
        (&["the sec", "ond"], "the second"),
        (&["the sec", "ret-one, and more"], "the sec[redacted:A], and more"),
        (&["the s", "e", "c", "ret-one"], "the sec[redacted:A]"),
        // Complete before it is released, with an end that begins another.
        (&["secret-one", "!"], "[redacted:A]!"),
        (&["secret-one", "-more-value!"], "[redacted:A][redacted:B]!"),
        (&["secret-on", "one-more-value"], "secret-on[redacted:B]"),
        (&["(hunter2", ")"], "([redacted:D])"),
        (&["(hunter2", "x)"], "([redacted:D]x)"),
        (&["sec", "", "secret-one"], "sec[redacted:A]"),
        (&["", "nothing"], "nothing"),
    ];
    for (pieces, expected) in cases {
        let mut stream = Stream::new(&redactor);
        let mut out = Vec::new();
        for piece in *pieces {
            out.extend(stream.release());
            assert_eq!(stream.held_bytes(), 0, "{pieces:?}");
            out.extend(stream.push(piece.as_bytes()));
        }
        out.extend(stream.finish());
        assert_eq!((String::from_utf8_lossy(&out).as_ref(), stream.open_bytes()), (*expected, 0), "{pieces:?}");
    }
}

/// The rule of a pipe that is quiet for a moment after each byte: what waits is released while it is little.
#[test]
fn of_a_value_that_comes_byte_by_byte_little_is_released() {
    let redactor = redactor(&[("API", API)]);
    let mut stream = Stream::new(&redactor);
    let mut out = Vec::new();
    for byte in format!("key={API};").bytes() {
        out.extend(stream.push(&[byte]));
        if stream.open_bytes() <= 4 {
            out.extend(stream.release());
        }
    }
    assert_eq!(String::from_utf8_lossy(&out), format!("key={}[redacted:API];", &API[..4]));
}

#[test]
fn a_value_that_repeats_for_ever_holds_no_memory() {
    let redactor = redactor(&[("A", "aaaaaaaa")]);
    let mut stream = Stream::new(&redactor);
    for _ in 0..10_000 {
        assert!(stream.push(b"aaaaa").is_empty());
        assert!(stream.held_bytes() < 8);
    }
    assert_eq!(stream.push(b"b"), b"[redacted:A]b");
    assert_eq!(stream.finish(), b"");
    assert_eq!(stream.push(b"and another text"), b"and another text");
}

#[test]
fn json_becomes() {
    let redactor = redactor(&[("API", API), ("PIN", "1234567890")]);
    let mut value = json!({
        "text": format!("it is {API}"),
        "Authorization": "Bearer x",
        "token": { "a": 1 },
        "password": ["x"],
        "secret": null,
        "max_tokens": 5,
        "headers": [{ "name": "X-Api-Key", "value": "x" }, { "name": "accept", "value": "json" }],
        "attributes": [{ "key": "cookie", "value": { "text": "x" } }, { "key": "cookie" }],
        "list": [1, 1234567890, "1234567890", [[API]], true, null],
        API: "by name",
        API.to_uppercase(): "by name",
        "[redacted:API]": "by name",
    });
    redactor.json(&mut value);
    let expected = json!({
        "text": "it is [redacted:API]",
        "Authorization": "[redacted]",
        "token": "[redacted]",
        "password": "[redacted]",
        "secret": "[redacted]",
        "max_tokens": 5,
        "headers": [{ "name": "X-Api-Key", "value": "[redacted]" }, { "name": "accept", "value": "json" }],
        "attributes": [{ "key": "cookie", "value": "[redacted]" }, { "key": "cookie" }],
        "list": [1, "[redacted:PIN]", "[redacted:PIN]", [["[redacted:API]"]], true, null],
        "[redacted:API]": "by name",
        "[redacted:API]#2": "by name",
        "[redacted:API]#3": "by name",
    });
    assert_eq!(value, expected);
}

#[test]
fn json_of_any_depth_is_walked() {
    let redactor = redactor(&[("API", API)]);
    let mut value = json!(API);
    for _ in 0..5_000 {
        value = json!([value]);
    }
    redactor.json(&mut value);
    let mut inner = &mut value;
    while let Some(next) = inner.get_mut(0).map(serde_json::Value::take) {
        value = next; // one level at a time: to drop all at once would recurse
        inner = &mut value;
    }
    assert_eq!(value, json!("[redacted:API]"));
}

#[test]
fn errors_become() {
    let redactor = redactor(&[("API", "sk-live-0123456789")]);
    let mut error = Error::denied("sk-live-0123456789", "no `sk-live-0123456789`").hint("not c2stbGl2ZS0wMTIzNDU2Nzg5");
    redactor.error(&mut error);
    assert_eq!(error, Error::denied("redacted", "no `[redacted:API]`").hint("not [redacted:API]"));
    let mut error = Error::denied("grant-missing", "no `b`");
    redactor.error(&mut error);
    assert_eq!(error, Error::denied("grant-missing", "no `b`"));
}

#[test]
fn values_are_taken_by_their_length() {
    let secrets = Secrets::new([("EMPTY", ""), ("BLANK", " \n"), ("X", "x"), ("DEV", "root"), ("KEY", "12345678")])
        .expect("no value is too long");
    assert_eq!(secrets.weak(), ["X", "DEV"]);
    let redactor = Redactor::new(secrets);
    assert_eq!(redactor.text("x root: roots 12345678x"), "x [redacted:DEV]: roots [redacted:KEY]x");

    let long = "k".repeat(16 * 1024 + 1);
    let error = Secrets::new([("BIG", &long)]).expect_err("it is too long");
    insta::assert_snapshot!(error, @"the value of `BIG` has 16385 bytes, at most 16384 are allowed");
    let redactor = self::redactor(&[("BIG", &long[1..])]);
    assert_eq!(redactor.text(&format!("({})", &long[1..])), "([redacted:BIG])");
}

#[test]
fn no_value_is_printed() {
    let secrets = Secrets::new([("API", API), ("X", "x")]).expect("the values are fine");
    assert_eq!(format!("{secrets:?}"), "Secrets { weak: [\"X\"], .. }");
    assert_eq!(format!("{:?}", Redactor::new(secrets)), "Redactor { live: true }");
    // A name that is itself the value of another secret.
    let redactor = redactor(&[("hunter2-hunter2", "0123456789"), ("B", "hunter2-hunter2")]);
    assert_eq!(redactor.text("0123456789 hunter2-hunter2"), "[redacted] [redacted:B]");
}

#[test]
fn without_values_all_passes() {
    let none = Redactor::default();
    assert!(matches!(none.text(API), std::borrow::Cow::Borrowed(API)));
    let mut stream = TextStream::new(&none);
    assert_eq!((stream.push(API).as_str(), stream.held_bytes(), stream.finish().as_str()), (API, 0, ""));
}

/// Values over few letters, so that they overlap, begin each other and repeat; and a text made of parts of them.
fn crowded() -> impl Strategy<Value = (Vec<Vec<u8>>, Vec<u8>)> {
    let letters = prop_oneof![4 => Just(b'a'), 1 => Just(b'b'), 1 => Just(b'A')];
    vec(vec(letters, 4..14), 1..5).prop_flat_map(|values| {
        let parts: Vec<Vec<u8>> = values
            .iter()
            .flat_map(|value| (0..value.len()).flat_map(|at| [value[at..].to_vec(), value[..at].to_vec()]))
            .chain([b" ".to_vec(), b"_".to_vec(), vec![0xc3]])
            .collect();
        let text = vec(prop::sample::select(parts), 0..10).prop_map(|parts| parts.concat());
        (Just(values), text)
    })
}

/// Any values, and a text that holds some of them in some form.
fn spread() -> impl Strategy<Value = (Vec<Vec<u8>>, Vec<u8>)> {
    let value = prop_oneof![
        vec(any::<u8>(), 4..30),
        "[ -~]{4,30}".prop_map(String::into_bytes),
        "\\PC{2,12}".prop_map(String::into_bytes),
    ];
    vec(value, 1..4).prop_flat_map(|values| {
        let echoes: Vec<Vec<u8>> = values
            .iter()
            .flat_map(|value| echoes(value).into_iter().map(String::into_bytes).chain([value.clone()]))
            .collect();
        let piece = prop_oneof![
            prop::sample::select(echoes),
            vec(any::<u8>(), 0..6),
            "[ -~]{0,8}".prop_map(String::into_bytes)
        ];
        (Just(values), vec(piece, 0..6).prop_map(|pieces| pieces.concat()))
    })
}

fn named(values: &[Vec<u8>]) -> Vec<(&str, &[u8])> {
    let trimmed = values.iter().map(|value| value.trim_ascii());
    ["A", "B", "C", "D"].into_iter().zip(trimmed).filter(|(_, value)| value.len() >= 4).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// The automaton, cut anywhere, does what the plain implementation does on the whole text; and no form is left.
    #[test]
    fn pieces_and_whole_are_as_specified(
        (values, text) in prop_oneof![crowded(), spread()],
        cuts in vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let values = named(&values);
        let redactor = Redactor::new(Secrets::new(values.iter().copied()).expect("the values are short"));
        let whole = redactor.bytes(&text).into_owned();
        let expected = plainly(&text, &values);
        prop_assert_eq!(String::from_utf8_lossy(&whole), String::from_utf8_lossy(&expected));

        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(&in_pieces(&redactor, &text, &cuts), &whole);
        let every: Vec<_> = (0..text.len()).collect();
        prop_assert_eq!(&in_pieces(&redactor, &text, &every), &whole);

        // A value with brackets can come about by a label and what stands beside it.
        for (_, value) in values {
            if !value.contains(&b'[') && !value.contains(&b']') && !value.eq_ignore_ascii_case(b"redacted") {
                prop_assert!(!holds(&whole, value));
            }
        }
    }

    /// Whatever was released on the way: no value is whole, and what holds none is what it was.
    #[test]
    fn what_is_released_gives_no_value_away(
        (values, text) in prop_oneof![crowded(), spread()],
        cuts in vec((any::<prop::sample::Index>(), 0..14_usize), 0..12),
    ) {
        let values = named(&values);
        let redactor = Redactor::new(Secrets::new(values.iter().copied()).expect("the values are short"));
        let mut cuts: Vec<_> = cuts.iter().map(|(cut, most)| (cut.index(text.len() + 1), *most)).collect();
        cuts.sort_unstable();
        let mut stream = Stream::new(&redactor);
        let mut out = Vec::new();
        let mut from = 0;
        for (cut, most) in cuts {
            out.extend(stream.push(&text[from..cut]));
            from = cut;
            if stream.open_bytes() <= most {
                out.extend(stream.release());
                prop_assert_eq!(stream.held_bytes(), 0);
            }
        }
        out.extend(stream.push(&text[from..]));
        out.extend(stream.finish());
        if redactor.bytes(&text) == text {
            // But what could have been a short value, and was replaced as such.
            prop_assert!(out == text || out.windows(9).any(|window| window == b"[redacted"));
        }
        for (_, value) in values {
            if !value.contains(&b'[') && !value.contains(&b']') && !value.eq_ignore_ascii_case(b"redacted") {
                prop_assert!(!holds(&out, value));
            }
        }
    }

    /// Text comes out as text, in the same way, also where a value that is not UTF-8 cuts a character.
    #[test]
    fn text_in_pieces_is_text(
        text in "[aé€\u{1f511}\u{80}b]{0,30}",
        value in prop_oneof![vec(any::<u8>(), 4..9), Just(b"\xa9aaaaaaaa".to_vec()), Just("é€ab".into())],
        places in vec(any::<prop::sample::Index>(), 0..3),
        cuts in vec(any::<prop::sample::Index>(), 0..8),
    ) {
        // The value goes in where the text stays text.
        let mut text = text.into_bytes();
        for place in places {
            let mut with = text.clone();
            let at = place.index(text.len() + 1);
            with.splice(at..at, value.iter().copied());
            if std::str::from_utf8(&with).is_ok() {
                text = with;
            }
        }
        let text = String::from_utf8(text).expect("only text was kept");
        let redactor = Redactor::new(Secrets::new([("A", &value)]).expect("the value is short"));
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).filter(|cut| text.is_char_boundary(*cut)).collect();
        cuts.sort_unstable();
        let mut stream = TextStream::new(&redactor);
        let mut out = String::new();
        let mut from = 0;
        for cut in cuts.into_iter().chain([text.len()]) {
            out.push_str(&stream.push(&text[from..cut]));
            from = cut;
        }
        out.push_str(&stream.finish());
        prop_assert_eq!(out, redactor.text(&text));
    }

    /// Text without a value is untouched, and not copied.
    #[test]
    fn other_text_is_untouched(text in "\\PC{0,200}") {
        let redactor = redactor(&[("A", "\u{1}unlikely-value\u{1}x"), ("B", "\u{2}another")]);
        prop_assert!(matches!(redactor.text(&text), std::borrow::Cow::Borrowed(same) if same == text));
    }
}

#[test]
fn a_value_that_comes_later_is_hidden_beside_the_others() {
    let before = redactor(&[("KEY", "sk-live-0123456789")]);
    let after = before.with("TOKEN", &SecretValue::new("ya29.a0Ab-cdefghij")).unwrap();
    assert_eq!(before.text("ya29.a0Ab-cdefghij"), "ya29.a0Ab-cdefghij", "the one from before is what it was");
    assert_eq!(after.text("sk-live-0123456789 YA29.a0Ab-cdefghij"), "[redacted:KEY] [redacted:TOKEN]");
    let error = after.with("LONG", &SecretValue::new("x".repeat(20_000))).unwrap_err();
    assert_eq!(error.code, "secret-too-long");
}
