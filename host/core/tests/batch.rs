//! The parts of a batch, its bounds, and the JSON reader against its laws. The cases of the original are in `tests/conformance`.

use midplane_core::Error;
use midplane_core::batch::{BatchError, EVENTS_MAX, validate, validate_bytes};
use midplane_core::json::{DEPTH_MAX, Document, JsonProblem, number_text};
use proptest::prelude::*;

/// Code and message of a refusal, or the batch printed.
fn outcome(text: &str) -> Result<String, (String, String)> {
    match validate(text) {
        Ok(batch) => Ok(batch.to_json_text()),
        Err(error) => {
            let error = Error::from(error);
            Err((error.code.into_owned(), error.message))
        }
    }
}

#[test]
fn a_batch_gives_its_parts() {
    let text = r#"{"v":1,"runId":"r\u00e9","x":0,"events":[{"seq":-0,"tMs":5e0,"kind":"notific\u0061tion","data":{"a":[1]}},
        {"seq":9007199254740993,"tMs":5,"kind":"stream_error","data":{},"y":1}]}"#;
    let batch = validate(text).expect("accepted");
    assert_eq!(batch.run_id().to_str().as_deref(), Some("ré"));
    assert!(batch.run_id() == *"ré");
    let parts: Vec<_> = batch
        .events()
        .map(|event| format!("{:?} {:?} {} {}", event.seq, event.t_ms, event.kind.as_str(), event.data))
        .collect();
    assert_eq!(parts, [r#"-0.0 5.0 notification {"a":[1]}"#, "9007199254740992.0 5.0 stream_error {}"]);
    let lone = validate(r#"{"v":1,"runId":"\ud800","events":[{"seq":1,"tMs":1,"kind":"notification","data":{}}]}"#);
    let lone = lone.expect("a lone surrogate is a string");
    assert_eq!((lone.run_id().to_str(), lone.run_id().to_str_lossy().as_ref()), (None, "\u{fffd}"));
}

#[test]
fn what_is_not_json_says_where() {
    let shown: Vec<String> = [
        "",
        " \n ",
        "{",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,}",
        "{,}",
        "[1,]",
        "{\"a\":]",
        "[,1]",
        "[1 2]",
        "[1}",
        "{'a':1}",
        "{a:1}",
        "nul",
        "NaN",
        "-Infinity",
        "undefined",
        "01",
        "-",
        "1.",
        ".5",
        "1e",
        "1e+",
        "+1",
        "0x10",
        "1 2",
        "{}]",
        "\u{feff}{}",
        "\"a",
        "\"a\\",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"é\\é\"",
        "\"a\tb\"",
        "\"\u{1b}\"",
        "[1, // one\n2]",
        "\u{a0}1",
        "\u{202e}",
        "{\n  \"a\": 1,\n  \"é\": tru\n}",
        "\0",
    ]
    .iter()
    .map(|text| match validate(text).expect_err(text) {
        BatchError::NotJson(error) => {
            let error = Error::from(error);
            format!(
                "{text:?}\n    {}: {}{}",
                error.code,
                error.message,
                error.hint.map(|hint| format!("\n    hint: {hint}")).unwrap_or_default()
            )
        }
        refused => panic!("{text:?} was read: {refused}"),
    })
    .collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn bytes_that_are_not_utf8_say_where() {
    let error = validate_bytes(b"{\n\"\xc3\xa9\xff\":1}").expect_err("refused");
    assert_eq!(error.to_string(), "not JSON: the bytes are not UTF-8 at line 2, column 3");
    let BatchError::NotJson(error) = validate_bytes(b"\"\xed\xa0\x80\"").expect_err("refused") else {
        panic!("not JSON")
    };
    assert_eq!(error.problem, JsonProblem::NotUtf8);
}

#[test]
fn depth_is_bounded_and_costs_no_stack() {
    // A thread with a stack on which any recursion by level would end.
    let thread = std::thread::Builder::new().stack_size(64 * 1024).spawn(|| {
        for (open, inner, close) in [("[", "", "]"), ("{\"a\":", "0", "}"), ("[{\"a\":", "[]", "}]")] {
            let nested = |levels: usize| {
                let n = levels / open.matches(['[', '{']).count();
                format!("{}{inner}{}", open.repeat(n), close.repeat(n))
            };
            let deepest = nested(DEPTH_MAX - inner.len() / 2 * 2);
            let doc = Document::parse(&deepest).expect("deep, but not too deep");
            assert_eq!(doc.root().to_json_text(), deepest);
            for text in [nested(DEPTH_MAX + 2), nested(1_000_000), open.repeat(1_000_000)] {
                let error = Document::parse(&text).expect_err("too deep");
                assert_eq!((error.problem.clone(), Error::from(error).code.as_ref()), (JsonProblem::Depth, "json-depth"));
            }
        }
        // With an overflow somewhere, all values are walked.
        let text = format!("{{\"v\":1,\"runId\":\"r\",\"events\":[{{\"seq\":0,\"tMs\":0,\"kind\":\"notification\",\"data\":{{\"a\":{}1e999{}}}}}]}}",
            "[".repeat(9_000), "]".repeat(9_000));
        assert_eq!(validate(&text).expect_err("refused").to_string(), "events[0].data must be JSON-serializable");
    });
    thread.expect("a thread").join().expect("no overflow");
}

#[test]
fn numbers_as_ecmascript_reads_and_prints_them() {
    let shown = |text: &str| Document::parse(text).expect(text).root().to_json_text();
    for (text, printed) in [
        ("-0", "0"),
        ("-0.0", "0"),
        ("-1e-400", "0"),
        ("1e21", "1e+21"),
        ("1e20", "100000000000000000000"),
        ("123456789012345678901234", "1.2345678901234569e+23"),
        ("0.000001", "0.000001"),
        ("1e-7", "1e-7"),
        ("5e-324", "5e-324"),
        ("2e-324", "0"),
        ("3e-324", "5e-324"),
        ("1.7976931348623157e308", "1.7976931348623157e+308"),
        ("1.7976931348623159e308", "null"),
        ("-1e309", "null"),
        ("1e99999999999999999999", "null"),
        ("1e-99999999999999999999", "0"),
        ("0e99999999999999999999", "0"),
        ("999999999999999", "999999999999999"),
        ("9007199254740993", "9007199254740992"),
        ("1.10", "1.1"),
        ("0.1e1", "1"),
        ("-5", "-5"),
    ] {
        assert_eq!(shown(text), printed, "{text}");
    }
    assert_eq!(shown(&format!("1{}", "0".repeat(308))), "1e+308");
    assert_eq!(shown(&format!("1{}", "0".repeat(309))), "null");
    assert_eq!(shown(&format!("0.{}1", "0".repeat(100_000))), "0");
    assert_eq!([number_text(f64::INFINITY), number_text(-0.0), number_text(1e21)], ["Infinity", "0", "1e+21"]);
}

#[test]
fn keys_and_strings_as_ecmascript_prints_them() {
    let shown = |text: &str| Document::parse(text).expect(text).root().to_json_text();
    for (text, printed) in [
        // Observed on node 20. 4294967295 is no array index, and neither is what is not canonical.
        (
            r#"{"a":1,"4294967295":2,"4294967294":3,"01":4,"-1":5,"1.5":1,"0":9}"#,
            r#"{"0":9,"4294967294":3,"a":1,"4294967295":2,"01":4,"-1":5,"1.5":1}"#,
        ),
        (
            r#"{"b":1,"a":2,"\u0062":{"x":1,"x":2},"10":1,"2":1,"\u0031":7,"1":8}"#,
            r#"{"1":8,"2":1,"10":1,"b":{"x":2},"a":2}"#,
        ),
        // Half a pair is a key of its own, and equals itself however its digits are written.
        (
            r#"{"\ud83d\ude00":1,"😀":2,"\uD83D":3,"\ud83d":4,"\ude00\ud83d":5}"#,
            r#"{"😀":2,"\ud83d":4,"\ude00\ud83d":5}"#,
        ),
        (
            r#"["\/\"\\\b\f\n\r\t\u000b\u007f\u2028","\ud800\ud800\udc00\udc00","\ud800x\u00e9"]"#,
            "[\"/\\\"\\\\\\b\\f\\n\\r\\t\\u000b\u{7f}\u{2028}\",\"\\ud800\u{10000}\\udc00\",\"\\ud800xé\"]",
        ),
        (" [ ] ", "[]"),
        ("{ }", "{}"),
        (r#"[true , false,null ,[[],{}]]"#, "[true,false,null,[[],{}]]"),
        (r#"{"":0}"#, r#"{"":0}"#),
    ] {
        assert_eq!(shown(text), printed, "{text}");
    }
    let doc = Document::parse(r#"{"a":1,"a":2}"#).expect("JSON");
    let object = doc.root().as_object().expect("an object");
    assert_eq!((object.get("a").and_then(|value| value.as_f64()), object.get("b").is_none()), (Some(2.0), true));
}

#[test]
fn the_largest_batch_and_one_more() {
    let batch = |count: usize| {
        let events: Vec<_> =
            (0..count).map(|n| format!(r#"{{"seq":{n},"tMs":{n},"kind":"notification","data":{{}}}}"#)).collect();
        outcome(&format!(r#"{{"v":1,"runId":"r","events":[{}]}}"#, events.join(",")))
    };
    assert!(batch(EVENTS_MAX).is_ok());
    let message = "batch.events has 257 entries; max is 256".to_owned();
    assert_eq!(batch(EVENTS_MAX + 1), Err(("batch_too_large".to_owned(), message)));
}

/// Texts of JSON values, with spellings that a printer would not choose.
fn json_text() -> impl Strategy<Value = String> {
    let string = prop_oneof!["[a-c0-9 é😀]{0,12}", r#"(\\u(d8|D8|dc|00)[0-9a-f]{2}|\\n|\\"|\\\\|\\/|x){0,4}"#,]
        .prop_map(|inner| format!("\"{inner}\""));
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?",
        string.clone(),
    ];
    let space = prop_oneof![4 => Just(""), 1 => Just(" "), 1 => Just("\n\t\r")];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        let key = prop_oneof![
            Just("\"a\"".to_owned()),
            Just("\"\\u0061\"".to_owned()),
            Just("\"7\"".to_owned()),
            string.clone()
        ];
        let entry =
            (key, space.clone(), inner.clone()).prop_map(|(key, space, value)| format!("{key}{space}:{space}{value}"));
        prop_oneof![
            (prop::collection::vec(inner, 0..6), space.clone())
                .prop_map(|(items, space)| format!("[{space}{}{space}]", items.join(&format!("{space},")))),
            (prop::collection::vec(entry, 0..6), space.clone())
                .prop_map(|(items, space)| format!("{{{space}{}{space}}}", items.join(&format!(",{space}")))),
        ]
    })
}

/// Whether another reader's grammar, which checks no values, takes a text.
fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_text_is_read_or_refused(text in ".*") {
        prop_assert_eq!(Document::parse(&text).is_ok(), is_json(&text));
        let _ = validate(&text).map_err(|error| Error::from(error).to_string());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = validate_bytes(&bytes).map_err(|error| Error::from(error).to_string());
    }

    #[test]
    fn the_grammar_is_that_of_json(text in r#"[\[\]{}:,"\\0-9eE.+\-tfnualrse \n]{0,12}"#) {
        prop_assert_eq!(Document::parse(&text).is_ok(), is_json(&text), "{}", text);
    }

    #[test]
    fn a_damaged_text_is_judged_as_others_do(text in json_text(), at in any::<prop::sample::Index>(), byte in 0_u8..0x80) {
        let mut bytes = text.into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(text) = String::from_utf8(bytes) {
            prop_assert_eq!(Document::parse(&text).is_ok(), is_json(&text), "{}", text);
        }
    }

    #[test]
    fn printing_is_stable(text in json_text()) {
        let doc = Document::parse(&text).expect("JSON");
        let printed = doc.root().to_json_text();
        let again = Document::parse(&printed).expect("what is printed is JSON");
        prop_assert_eq!(again.root().to_json_text(), printed.clone());
        // Where another reader can hold the values at all, it finds the same ones.
        if let (Ok(theirs), true) = (serde_json::from_str::<serde_json::Value>(&text), doc.root().is_finite()) {
            let ours: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
            prop_assert!(same(&theirs, &ours), "{} against {}", theirs, ours);
        }
    }

    #[test]
    fn doubles_survive(bits in any::<u64>()) {
        let number = f64::from_bits(bits);
        prop_assume!(number.is_finite());
        let text = number_text(number);
        prop_assert_eq!(Document::parse(&text).expect("JSON").root().as_f64(), Some(number));
    }

    #[test]
    fn batches_are_refused_or_printed(v in json_text(), run in json_text(), events in prop::collection::vec((json_text(), json_text(), json_text(), json_text()), 0..3)) {
        let events: Vec<_> = events.iter().map(|(seq, t_ms, kind, data)| format!("{{\"seq\":{seq},\"tMs\":{t_ms},\"kind\":{kind},\"data\":{data}}}")).collect();
        let events = events.join(",");
        for text in [format!("{{\"v\":{v},\"runId\":{run},\"events\":[{events}]}}"), format!("{{\"v\":1,\"runId\":\"r\",\"events\":[{events}]}}")] {
            match validate(&text) {
                Ok(batch) => {
                    let printed = batch.to_json_text();
                    prop_assert_eq!(outcome(&printed), Ok(printed));
                }
                Err(error) => prop_assert!(matches!(error, BatchError::Refused { .. }), "{}", error),
            }
        }
    }
}

/// Equality with all numbers as doubles.
fn same(a: &serde_json::Value, b: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Number, Object};
    match (a, b) {
        // Their own rounding is an ulp off without a feature that is not on here.
        (Number(a), Number(b)) => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => (a - b).abs() <= a.abs() * 1e-15 + f64::MIN_POSITIVE,
            _ => false,
        },
        (Array(a), Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Object(a), Object(b)) => a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b))),
        _ => a == b,
    }
}
