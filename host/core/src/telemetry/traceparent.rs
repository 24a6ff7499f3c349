//! The trace context of W3C: `00-<trace id>-<span id>-<flags>`, strictly. The original took any text of the right lengths.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};
use std::str::FromStr;

use crate::{Error, Result};

/// Which trace something belongs to, and under which span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Traceparent {
    /// The trace.
    pub trace_id: NonZeroU128,
    /// The span that is the parent.
    pub span_id: NonZeroU64,
    /// The flags; the lowest bit says that the trace is recorded.
    pub flags: u8,
}

impl Traceparent {
    /// Whether whoever began the trace records it.
    #[must_use]
    pub fn is_sampled(self) -> bool {
        self.flags & 1 == 1
    }
}

/// The trace id as 32, the span id as 16 lower case hex digits.
impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

/// Error: `invalid` `traceparent`. Only version 00 is read, as in the original.
impl FromStr for Traceparent {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: &str| Error::invalid("traceparent", format!("this is no trace context: {why}"));
        let parts: Vec<&str> = text.splitn(5, '-').collect();
        let [version, trace_id, span_id, flags] = parts[..] else {
            return Err(bad("it does not have four parts"));
        };
        if version != "00" {
            return Err(bad("its version is not 00"));
        }
        let hex = |what: &str, digits: &str, count: usize| {
            // `from_str_radix` would take a sign and capitals.
            if digits.len() != count || !digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                return Err(bad(&format!("its {what} is not {count} lower case hex digits")));
            }
            u128::from_str_radix(digits, 16).map_err(|_| bad(&format!("its {what} is no number")))
        };
        let zero = |what: &str| bad(&format!("its {what} is all zeros"));
        let trace_id = NonZeroU128::new(hex("trace id", trace_id, 32)?).ok_or_else(|| zero("trace id"))?;
        // 16 and 2 hex digits fit into 64 and 8 bits.
        let span_id = NonZeroU64::new(hex("span id", span_id, 16)? as u64).ok_or_else(|| zero("span id"))?;
        Ok(Self { trace_id, span_id, flags: hex("flags", flags, 2)? as u8 })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn strictly() {
        let (t, s) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        let good = format!("00-{t}-{s}-01");
        let parsed: Traceparent = good.parse().expect("a trace context");
        assert_eq!((parsed.to_string(), parsed.is_sampled()), (good, true));
        let cases = [
            (format!("00-{t}-{s}-00"), None),
            (format!("00-{}-{s}-01", t.to_uppercase()), Some("trace id is not 32")),
            (format!("00-+{}-{s}-01", &t[1..]), Some("trace id is not 32")),
            (format!("00-{}-{s}-01", "0".repeat(32)), Some("trace id is all zeros")),
            (format!("00-{t}-{}-01", "0".repeat(16)), Some("span id is all zeros")),
            (format!("00-{t}-{s}-1"), Some("flags is not 2")),
            (format!("00-{t}-{s}-0g"), Some("flags is not 2")),
            (format!("00-{t}-{s}"), Some("four parts")),
            (format!("00-{t}-{s}-01-x"), Some("four parts")),
            (format!("01-{t}-{s}-01"), Some("version")),
            (format!(" 00-{t}-{s}-01"), Some("version")),
            (String::new(), Some("four parts")),
        ];
        for (text, why) in cases {
            match (text.parse::<Traceparent>(), why) {
                (Ok(parsed), None) => assert_eq!(parsed.to_string(), text),
                (Err(error), Some(why)) => assert!(error.message.contains(why), "{text}: {error}"),
                (other, _) => panic!("{text}: {other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(trace_id in 1_u128.., span_id in 1_u64.., flags in any::<u8>()) {
            let (trace_id, span_id) = (NonZeroU128::new(trace_id).expect("not 0"), NonZeroU64::new(span_id).expect("not 0"));
            let one = Traceparent { trace_id, span_id, flags };
            prop_assert_eq!(one.to_string().parse::<Traceparent>(), Ok(one));
        }

        /// Whatever is taken is printed as it was.
        #[test]
        fn nothing_else_is_read(text in "(00|01|ff)?-?[0-9a-fA-F]{30,33}-[0-9a-f+]{15,17}-.{0,3}") {
            if let Ok(one) = text.parse::<Traceparent>() {
                prop_assert_eq!(one.to_string(), text);
            }
        }
    }
}
