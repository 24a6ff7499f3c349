//! What a scalar of YAML means: the same plain text is a number to one reader and text to another.
//!
//! The three readers are those whose files this project takes: YAML 1.2's core schema, PyYAML's `safe_load` (YAML 1.1),
//! and the loader of OmegaConf. Which text is what is a table of patterns a reader; see [`Dialect`].

use std::sync::LazyLock;

use base64::Engine as _;
pub use num_bigint::BigInt;
use regex::Regex;

use super::tree::{Fault, Node, Yaml};

/// Digits of a decimal number: reading more takes time beyond all use. The bound is Python's own.
const DIGITS_MAX: usize = 4300;

/// Who reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// YAML 1.2, core schema.
    Core,
    /// YAML 1.1 as PyYAML's `safe_load` reads it: `yes` is true, `017` is 15, `8:30` is 510, `1e3` is text.
    Yaml11,
    /// OmegaConf's loader: as [`Self::Yaml11`], but `1e3` is a number and a date is text.
    Config,
}

/// What a scalar is.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// `null`, `~`, nothing.
    Null,
    /// A boolean.
    Bool(bool),
    /// A whole number, without bound.
    Int(BigInt),
    /// An IEEE double, infinities and NaN included.
    Float(f64),
    /// Text.
    Text(String),
    /// A date or a moment of YAML 1.1, as it was written; that the date exists was not looked at.
    Timestamp(String),
    /// Bytes written in base 64 with `!!binary`.
    Binary(Vec<u8>),
}

/// What a node is to a reader. A fault is a node that is no scalar, a tag that is not a scalar's, and a tag that does
/// not fit the text.
pub fn scalar(node: &Node, dialect: Dialect) -> Result<Scalar, Fault> {
    let Yaml::Scalar { text, plain } = &node.value else {
        return Err(Fault::new(node.at, format!("expected a single value, found {}", node.kind())));
    };
    let Some(tag) = &node.tag else {
        return if *plain { implicit(node, text, dialect) } else { Ok(Scalar::Text(text.clone())) };
    };
    let misfit = || Fault::new(node.at, format!("the text does not fit its tag `{tag}`"));
    match tag.strip_prefix("tag:yaml.org,2002:") {
        Some("str" | "value") => Ok(Scalar::Text(text.clone())),
        Some("null") => Ok(Scalar::Null),
        Some("bool") => truth(&text.to_lowercase(), dialect).map(Scalar::Bool).ok_or_else(misfit),
        Some("int") => whole(text, dialect).map(Scalar::Int).ok_or_else(misfit),
        Some("float") => real(text).map(Scalar::Float).ok_or_else(misfit),
        Some("timestamp") if TIMESTAMP_TAGGED.is_match(text) => Ok(Scalar::Timestamp(text.clone())),
        Some("binary") => unwrap_base64(text).map(Scalar::Binary).ok_or_else(misfit),
        Some("timestamp") => Err(misfit()),
        _ => Err(Fault::new(node.at, format!("no value is made for the tag `{tag}`"))),
    }
}

fn implicit(node: &Node, text: &str, dialect: Dialect) -> Result<Scalar, Fault> {
    let unread = || Fault::new(node.at, "a number with too many digits, or with none");
    let read = match dialect {
        _ if matches!(text, "" | "~" | "null" | "Null" | "NULL") => Some(Scalar::Null),
        Dialect::Core if CORE_BOOL.is_match(text) => truth(&text.to_lowercase(), dialect).map(Scalar::Bool),
        Dialect::Core if CORE_INT.is_match(text) => whole(text, dialect).map(Scalar::Int),
        Dialect::Core if CORE_FLOAT.is_match(text) => real(text).map(Scalar::Float),
        Dialect::Core => Some(Scalar::Text(text.to_owned())),
        _ if BOOL.is_match(text) => truth(&text.to_lowercase(), dialect).map(Scalar::Bool),
        _ if INT.is_match(text) => whole(text, dialect).map(Scalar::Int),
        _ if FLOAT.is_match(text) => real(text).map(Scalar::Float),
        Dialect::Config if CONFIG_FLOAT.is_match(text) => real(text).map(Scalar::Float),
        Dialect::Yaml11 if TIMESTAMP.is_match(text) => Some(Scalar::Timestamp(text.to_owned())),
        _ if matches!(text, "=" | "<<") => {
            return Err(Fault::new(node.at, format!("`{text}` has a meaning of its own in YAML: put it in quotes")));
        }
        _ => Some(Scalar::Text(text.to_owned())),
    };
    read.ok_or_else(unread)
}

fn truth(lower: &str, dialect: Dialect) -> Option<bool> {
    match (lower, dialect) {
        ("true", _) | ("yes" | "on", Dialect::Yaml11 | Dialect::Config) => Some(true),
        ("false", _) | ("no" | "off", Dialect::Yaml11 | Dialect::Config) => Some(false),
        _ => None,
    }
}

/// A whole number: `0b`, `0x`, a leading zero for octal (`0o` in YAML 1.2), `1:30` to the base 60, else decimal.
fn whole(text: &str, dialect: Dialect) -> Option<BigInt> {
    let text = if dialect == Dialect::Core { text.to_owned() } else { text.replace('_', "") };
    let (negative, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text.as_str()),
    };
    let number = if digits == "0" {
        BigInt::ZERO
    } else if let Some(hex) = digits.strip_prefix("0x") {
        radix(hex, 16)?
    } else if dialect == Dialect::Core {
        digits.strip_prefix("0o").map_or_else(|| radix(digits, 10), |octal| radix(octal, 8))?
    } else if let Some(binary) = digits.strip_prefix("0b") {
        radix(binary, 2)?
    } else if digits.starts_with('0') {
        radix(digits, 8)?
    } else if digits.contains(':') {
        if digits.len() > DIGITS_MAX {
            return None;
        }
        let mut sum = BigInt::ZERO;
        for part in digits.split(':') {
            sum = sum * 60 + radix(part, 10)?;
        }
        sum
    } else {
        radix(digits, 10)?
    };
    Some(if negative { -number } else { number })
}

fn radix(digits: &str, radix: u32) -> Option<BigInt> {
    let digits_only = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    if !digits_only || digits.len() > DIGITS_MAX {
        return None;
    }
    BigInt::parse_bytes(digits.as_bytes(), radix)
}

fn real(text: &str) -> Option<f64> {
    let text = text.replace('_', "").to_ascii_lowercase();
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (if text.starts_with('-') { -1.0 } else { 1.0 }, digits),
        None => (1.0, text.as_str()),
    };
    let number = match digits {
        ".inf" => f64::INFINITY,
        ".nan" => f64::NAN,
        _ if digits.contains(':') => {
            // Summed from the last part on, so that the rounding is the original's.
            let (mut sum, mut base) = (0.0, 1.0);
            for part in digits.rsplit(':') {
                sum += part.parse::<f64>().ok()? * base;
                base *= 60.0;
            }
            sum
        }
        _ => digits.parse::<f64>().ok()?,
    };
    Some(sign * number)
}

/// Base 64 as Python decodes it: what is no letter of it is skipped, what follows the padding is not read.
fn unwrap_base64(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() {
        return None;
    }
    let letters: String = text.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=')).collect();
    base64::engine::general_purpose::STANDARD.decode(letters).ok()
}

/// A pattern for a whole text.
macro_rules! pattern {
    ($(#[$doc:meta])* $name:ident, $text:expr) => {
        $(#[$doc])*
        static $name: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(concat!("^(?:", $text, ")$")).expect("the pattern is a constant that a test reads"));
    };
}

pattern!(CORE_BOOL, "true|True|TRUE|false|False|FALSE");
pattern!(CORE_INT, "[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+");
pattern!(
    CORE_FLOAT,
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
);
pattern!(BOOL, "yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF");
pattern!(
    INT,
    "[-+]?0b[01_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+"
);
pattern!(
    FLOAT,
    concat!(
        r"[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?",
        r"|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
    )
);
pattern!(
    CONFIG_FLOAT,
    concat!(
        r"[-+]?[0-9]+(?:_[0-9]+)*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+(?:_[0-9]+)*[eE][-+]?[0-9]+",
        r"|\.[0-9]+(?:_[0-9]+)*(?:[eE][-+][0-9]+)?|[-+]?[0-9]+(?:_[0-9]+)*(?::[0-5]?[0-9])+\.[0-9_]*"
    )
);
pattern!(
    TIMESTAMP,
    concat!(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}",
        r"(?:\.[0-9]*)?(?:[ \t]*(?:Z|[-+][0-9]{1,2}(?::[0-9]{2})?))?"
    )
);
pattern!(
    /// With its tag, a timestamp may also be a date with short parts.
    TIMESTAMP_TAGGED,
    concat!(
        r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}",
        r"(?:\.[0-9]*)?(?:[ \t]*(?:Z|[-+][0-9]{1,2}(?::[0-9]{2})?))?)?"
    )
);
