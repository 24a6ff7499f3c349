//! One value out of another kind: refused in strict mode, converted in compatibility mode as pydantic's lax mode does.
//!
//! Each refusal has the code that stands for the original's error type; see [`super::original_type`].

use num_bigint::Sign;
use serde_json::Number;

use super::Mode;
use super::moment::Moment;
use super::table::Wrong;
use super::value::Val;
use crate::text::{near, shown};
use crate::yaml::scalar::BigInt;

/// Digits that Python converts from text; more are refused.
const DIGITS_MAX: usize = 4300;

/// Text; in compatibility mode also bytes that are UTF-8.
pub(super) fn text(value: &Val, mode: Mode) -> Result<String, Wrong> {
    match (value, mode) {
        (Val::Text(text), _) => Ok(text.clone()),
        (Val::Bytes(bytes), Mode::Compat) => {
            String::from_utf8(bytes.clone()).map_err(|_| Wrong::new("not-utf8", "the bytes are not text in UTF-8"))
        }
        _ => Err(mismatch("not-text", "text", value)),
    }
}

/// One of several words.
pub(super) fn choice(value: &Val, of: &[&'static str], mode: Mode) -> Result<&'static str, Wrong> {
    let text = text(value, mode).ok();
    if let Some(found) = of.iter().find(|word| Some(**word) == text.as_deref()) {
        return Ok(found);
    }
    let found = match (&text, value) {
        (Some(text), _) => format!("`{}`", shown(text, 60)),
        (None, value) => value.kind().to_owned(),
    };
    let guess = text.as_deref().and_then(|text| near(text, of.iter().copied()).first().copied());
    Err(Wrong { hint: guess.map(|guess| format!("did you mean `{guess}`?")), ..one_of("unknown-choice", of, &found) })
}

/// The refusal of what is none of several words.
pub(super) fn one_of(code: &'static str, of: &[&str], found: &str) -> Wrong {
    let words: Vec<String> = of.iter().map(|word| format!("`{word}`")).collect();
    Wrong::new(code, format!("expected one of {}, found {found}", words.join(", ")))
}

/// A boolean; in compatibility mode also 0 and 1, and the words that pydantic knows.
pub(super) fn flag(value: &Val, mode: Mode) -> Result<bool, Wrong> {
    if let Val::Bool(bool) = value {
        return Ok(*bool);
    }
    if mode == Mode::Strict {
        return Err(mismatch("not-a-boolean", "`true` or `false`", value));
    }
    let unread = || Wrong::new("boolean-text", format!("`{}` is no boolean", shown(&value.written(), 60)));
    match value {
        Val::Int(number) => match i64::try_from(number) {
            Ok(0) => Ok(false),
            Ok(1) => Ok(true),
            Ok(_) => Err(unread()),
            Err(_) => Err(mismatch("not-a-boolean", "a boolean", value)),
        },
        Val::Float(number) if number.fract() == 0.0 && number.abs() < 9e18 => match *number {
            0.0 => Ok(false),
            1.0 => Ok(true),
            _ => Err(unread()),
        },
        Val::Text(_) | Val::Bytes(_) => {
            let text = text(value, mode).map_err(|_| unread())?;
            match text.to_ascii_lowercase().as_str() {
                "1" | "t" | "true" | "y" | "yes" | "on" => Ok(true),
                "0" | "f" | "false" | "n" | "no" | "off" => Ok(false),
                _ => Err(unread()),
            }
        }
        _ => Err(mismatch("not-a-boolean", "a boolean", value)),
    }
}

/// A whole number; in compatibility mode also a boolean, a number without fraction, and decimal text.
pub(super) fn whole(value: &Val, mode: Mode) -> Result<BigInt, Wrong> {
    if let Val::Int(number) = value {
        return Ok(number.clone());
    }
    if mode == Mode::Strict {
        return Err(mismatch("not-a-whole-number", "a whole number", value));
    }
    let too_long = || Wrong::new("number-too-long", "the number is too long");
    match value {
        Val::Bool(bool) => Ok(BigInt::from(u8::from(*bool))),
        Val::Float(number) if !number.is_finite() => Err(Wrong::new("number-not-finite", "the number is not finite")),
        Val::Float(number) if number.fract() != 0.0 => {
            Err(Wrong::new("whole-number-fraction", format!("`{number}` has a fraction")))
        }
        // A double of this size holds whole numbers only, but not those that were meant.
        #[expect(clippy::cast_possible_truncation, reason = "the guard keeps it in range")]
        Val::Float(number) if number.abs() < 9_223_372_036_854_775_807.0 => Ok(BigInt::from(*number as i64)),
        Val::Float(_) => Err(too_long()),
        Val::Text(_) | Val::Bytes(_) => {
            let unread =
                || Wrong::new("whole-number-text", format!("`{}` is no whole number", shown(&value.written(), 60)));
            let text = text(value, mode).map_err(|_| unread())?;
            let digits = decimal(&text).ok_or_else(unread)?;
            if digits.len() > DIGITS_MAX {
                return Err(too_long());
            }
            BigInt::parse_bytes(digits.as_bytes(), 10).ok_or_else(unread)
        }
        _ => Err(mismatch("not-a-whole-number", "a whole number", value)),
    }
}

/// The digits of a whole number in text, with its sign: space around it, `+`, single `_` between digits, leading zeros
/// and a fraction of zeros are allowed.
fn decimal(text: &str) -> Option<String> {
    let text = text.trim();
    let (minus, digits) = match text.strip_prefix(['+', '-']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text),
    };
    let (digits, fraction) = digits.split_once('.').map_or((digits, None), |(digits, zeros)| (digits, Some(zeros)));
    let zeros_only = fraction.is_none_or(|zeros| !zeros.is_empty() && zeros.bytes().all(|b| b == b'0'));
    let grouped = digits.split('_').all(|group| !group.is_empty() && group.bytes().all(|b| b.is_ascii_digit()));
    if !zeros_only || !grouped {
        return None;
    }
    let digits = digits.replace('_', "");
    let digits = digits.trim_start_matches('0');
    Some(format!("{}{}", if minus { "-" } else { "" }, if digits.is_empty() { "0" } else { digits }))
}

/// A number in a range.
pub(super) fn in_range(number: &BigInt, min: i64, max: i64, code: Option<&'static str>) -> Result<Number, Wrong> {
    match i64::try_from(number) {
        Ok(number) if (min..=max).contains(&number) => Ok(number.into()),
        outside => {
            let below = match outside {
                Ok(number) => number < min,
                Err(_) => number.sign() == Sign::Minus,
            };
            let code = code.unwrap_or(if below { "too-small" } else { "too-large" });
            let shown = shown(&number.to_string(), 30);
            Err(Wrong::new(code, format!("`{shown}` is not between {min} and {max}")))
        }
    }
}

/// A moment; in compatibility mode also text in other forms and seconds or milliseconds since 1970.
pub(super) fn moment(value: &Val, mode: Mode) -> Result<Moment, Wrong> {
    let unread = || {
        Wrong::new("moment-text", format!("`{}` is no date or moment", shown(&value.written(), 60)))
            .hint("write it as `2025-01-31T10:30:00Z`")
    };
    let out_of_range = || Wrong::new("moment-range", "the moment is before year 1 or after year 9999");
    match value {
        Val::Moment(moment, _) => Ok(moment.with_time()),
        Val::Text(text) if mode == Mode::Strict => Moment::from_text(text).ok_or_else(unread),
        Val::Text(_) | Val::Bytes(_) if mode == Mode::Compat => {
            let text = text(value, mode).map_err(|_| unread())?;
            match Moment::from_text(&text) {
                Some(moment) if moment.is_year_zero() => Err(out_of_range()),
                Some(moment) => Ok(moment),
                None => from_seconds(&text).ok_or_else(unread)?.ok_or_else(out_of_range),
            }
        }
        Val::Int(number) if mode == Mode::Compat => {
            i64::try_from(number).ok().and_then(Moment::from_unix).ok_or_else(out_of_range)
        }
        Val::Float(number) if mode == Mode::Compat => Moment::from_unix_float(*number).ok_or_else(out_of_range),
        _ => Err(mismatch("not-a-moment", "a date and time", value).hint("write it as `2025-01-31T10:30:00Z`")),
    }
}

/// Seconds since 1970 in text: a whole number or one with a point. The outer none is text that is neither; the inner, a
/// moment that the calendar does not have, which the original reports for whole numbers only.
fn from_seconds(text: &str) -> Option<Option<Moment>> {
    if let Ok(seconds) = text.parse::<i64>() {
        return Some(Moment::from_unix(seconds));
    }
    let number: f64 = if text.contains('.') { text.parse().ok()? } else { return None };
    Moment::from_unix_float(number).map(Some)
}

fn mismatch(code: &'static str, wanted: &str, value: &Val) -> Wrong {
    let wrong = Wrong::new(code, format!("expected {wanted}, found {}", value.kind()));
    match value {
        Val::Bool(_) | Val::Int(_) | Val::Float(_) if wanted == "text" => wrong.hint("put it in quotes if it is text"),
        Val::Text(_) if wanted != "text" => wrong.hint("write it without quotes"),
        _ => wrong,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::value::Item;
    use super::*;

    fn val(json: &Value) -> Val {
        Item::from_json(json).value
    }

    /// What came of it: the value, or the original's error type.
    fn told<T: std::fmt::Display>(read: Result<T, Wrong>) -> String {
        match read {
            Ok(value) => value.to_string(),
            Err(wrong) => super::super::original_type(wrong.code).unwrap_or(wrong.code).to_owned(),
        }
    }

    // Each table was made by asking pydantic.

    #[test]
    fn whole_numbers() {
        let table = [
            (json!(true), "1"),
            (json!(1.0), "1"),
            (json!(1.5), "int_from_float"),
            (json!("+1"), "1"),
            (json!(" 1 "), "1"),
            (json!("\u{a0}1"), "1"),
            (json!("1_000"), "1000"),
            (json!("1__0"), "int_parsing"),
            (json!("_1"), "int_parsing"),
            (json!("1_"), "int_parsing"),
            (json!("1.0"), "1"),
            (json!("1."), "int_parsing"),
            (json!(".0"), "int_parsing"),
            (json!("1.5"), "int_parsing"),
            (json!("1.0_0"), "int_parsing"),
            (json!("-1.0"), "-1"),
            (json!("00"), "0"),
            (json!("+01"), "1"),
            (json!("1e3"), "int_parsing"),
            (json!("0x10"), "int_parsing"),
            (json!(""), "int_parsing"),
            (json!("１"), "int_parsing"),
            (json!("99999999999999999999.0"), "99999999999999999999"),
            (json!("1".repeat(4301)), "int_parsing_size"),
            (json!(null), "int_type"),
            (json!([1]), "int_type"),
        ];
        for (value, expected) in table {
            assert_eq!(told(whole(&val(&value), Mode::Compat)), expected, "{value}");
        }
        for value in [json!(true), json!(1.0), json!("1")] {
            assert_eq!(told(whole(&val(&value), Mode::Strict)), "int_type", "{value}");
        }
        assert_eq!(told(whole(&Val::Float(f64::NAN), Mode::Compat)), "finite_number");
        assert_eq!(told(whole(&Val::Float(1e300), Mode::Compat)), "int_parsing_size");
        assert_eq!(told(whole(&Val::Bytes(b"12".to_vec()), Mode::Compat)), "12");
    }

    #[test]
    fn booleans() {
        let table = [
            (json!(0), "false"),
            (json!(1), "true"),
            (json!(2), "bool_parsing"),
            (json!(1.0), "true"),
            (json!(0.5), "bool_type"),
            (json!(2.0), "bool_parsing"),
            (json!("T"), "true"),
            (json!("oN"), "true"),
            (json!("N"), "false"),
            (json!(" true"), "bool_parsing"),
            (json!(""), "bool_parsing"),
            (json!(null), "bool_type"),
            (json!([]), "bool_type"),
        ];
        for (value, expected) in table {
            assert_eq!(told(flag(&val(&value), Mode::Compat)), expected, "{value}");
        }
        assert_eq!(told(flag(&val(&json!("true")), Mode::Strict)), "bool_type");
        assert_eq!(told(flag(&Val::Bytes(vec![0xff]), Mode::Compat)), "bool_parsing");
        assert_eq!(told(text(&Val::Bytes(vec![0xff]), Mode::Compat)), "string_unicode");
    }

    #[test]
    fn moments() {
        let table = [
            (json!("2024-12-29"), "2024-12-29T00:00:00"),
            (json!("2024-12-29t10:30z"), "2024-12-29T10:30:00Z"),
            (json!("2024-12-29_10:30:00+0200"), "2024-12-29T10:30:00+02:00"),
            (json!("2024-12-29T10:30:00,5-00:00"), "2024-12-29T10:30:00.500000Z"),
            (json!("2024-12-29T10:30:00.1234567899"), "2024-12-29T10:30:00.123456"),
            (json!("2024-12-29T10:30:00\u{2212}02:00"), "2024-12-29T10:30:00-02:00"),
            (json!("2024-12-29T10:30:00+24:00"), "datetime_from_date_parsing"),
            (json!("2024-02-30"), "datetime_from_date_parsing"),
            (json!("2024-12-29T24:00:00"), "datetime_from_date_parsing"),
            (json!("2024-12-29T"), "datetime_from_date_parsing"),
            (json!("0000-01-01"), "datetime_parsing"),
            (json!(""), "datetime_from_date_parsing"),
            (json!("1e9"), "datetime_from_date_parsing"),
            (json!("1.0e3"), "1970-01-01T00:16:40Z"),
            (json!("-1.5"), "1969-12-31T23:59:58.500000Z"),
            (json!("20000000001.5"), "1970-08-20T11:33:20.001500Z"),
            (json!(1_735_468_200), "2024-12-29T10:30:00Z"),
            (json!(1_735_468_200_000_i64), "2024-12-29T10:30:00Z"),
            (json!(20_000_000_000_i64), "2603-10-11T11:33:20Z"),
            (json!(-20_000_000_001_i64), "1969-05-14T12:26:39.999000Z"),
            (json!(1.123_456_7), "1970-01-01T00:00:01.123457Z"),
            (json!(253_402_300_800_000_i64), "datetime_parsing"),
            (json!(true), "datetime_type"),
            (json!([]), "datetime_type"),
        ];
        for (value, expected) in table {
            assert_eq!(told(moment(&val(&value), Mode::Compat)), expected, "{value}");
        }
        assert_eq!(told(moment(&val(&json!(5)), Mode::Strict)), "datetime_type");
        let yaml = [
            ("2024-1-2 3:04:05.67 +5:30", Some("2024-01-02T03:04:05.670000+05:30")),
            ("2024-12-29", Some("2024-12-29")),
            ("2024-02-29T00:00:00-8", Some("2024-02-29T00:00:00-08:00")),
            ("2023-02-29", None),
            ("2024-01-01T25:00:00", None),
        ];
        for (text, expected) in yaml {
            assert_eq!(Moment::from_yaml(text).map(|moment| moment.to_string()).as_deref(), expected, "{text}");
        }
    }
}
