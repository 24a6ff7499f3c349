//! An absolute instant until which a task may run.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::format_description::well_known::Iso8601;
use time::{OffsetDateTime, UtcOffset};

use crate::text::shown;
use crate::{Error, Result};

/// An instant with its time zone resolved: UTC, to the microsecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(OffsetDateTime);

impl Deadline {
    /// The instant in milliseconds since 1970 UTC; negative before.
    #[must_use]
    pub fn ms(self) -> i64 {
        // Years have four digits, so milliseconds are far inside the range.
        i64::try_from(self.0.unix_timestamp_nanos().div_euclid(1_000_000)).unwrap_or(i64::MAX)
    }

    /// The instant of a count of milliseconds since 1970 UTC; none outside years 1 to 9999.
    #[must_use]
    pub fn from_ms(ms: i64) -> Option<Self> {
        let instant = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).ok()?;
        (1..=9999).contains(&instant.year()).then_some(Self(instant))
    }
}

impl FromStr for Deadline {
    type Err = Error;

    /// ISO 8601 with a time zone; `T` or a space between date and time (`invalid`, code `deadline-form`).
    fn from_str(text: &str) -> Result<Self> {
        let refused = || {
            let shown = shown(text, 60);
            Error::invalid("deadline-form", format!("`{shown}` is not a date and time with a time zone"))
                .hint("write it as 2030-01-01T12:00:00Z or 2030-01-01T13:00:00+01:00")
        };
        // A space is how the original's language prints an instant.
        let parted = match text.char_indices().nth(10) {
            Some((at, ' ')) => format!("{}T{}", &text[..at], &text[at + 1..]),
            _ => text.to_owned(),
        };
        let instant = OffsetDateTime::parse(&parted, &Iso8601::PARSING).map_err(|_| refused())?;
        let utc = instant.checked_to_offset(UtcOffset::UTC).ok_or_else(refused)?;
        let micros = utc.nanosecond() / 1000 * 1000;
        let utc = utc.replace_nanosecond(micros).map_err(|_| refused())?;
        if (1..=9999).contains(&utc.year()) { Ok(Self(utc)) } else { Err(refused()) }
    }
}

/// `2030-01-01T00:00:00+00:00`, with six digits of a second where there is a part of one: the original's text.
impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        stamp(f, self.0, self.0.microsecond() != 0)
    }
}

impl Serialize for Deadline {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Deadline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The time of a record as an event tells it: always with six digits.
pub(super) fn timestamp(t_ms: u64) -> String {
    struct Stamp(OffsetDateTime);
    impl fmt::Display for Stamp {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            stamp(f, self.0, true)
        }
    }
    // A record from after the year 9999 has a broken clock behind it; its event says the last instant that can be said.
    let ms = i64::try_from(t_ms).unwrap_or(i64::MAX);
    let last = OffsetDateTime::new_utc(time::Date::MAX, time::Time::MAX);
    Stamp(Deadline::from_ms(ms).map_or(last, |instant| instant.0)).to_string()
}

fn stamp(f: &mut fmt::Formatter<'_>, at: OffsetDateTime, micros: bool) -> fmt::Result {
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    write!(f, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", at.hour(), at.minute(), at.second())?;
    if micros {
        write!(f, ".{:06}", at.microsecond())?;
    }
    f.write_str("+00:00")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_become_utc() {
        let utc = |text: &str| text.parse::<Deadline>().map(|at| at.to_string()).map_err(|error| error.code);
        for (text, wanted) in [
            ("2030-01-01T00:00:00+00:00", "2030-01-01T00:00:00+00:00"),
            ("2030-01-01T00:00:00Z", "2030-01-01T00:00:00+00:00"),
            ("2030-01-01 02:00:00+02:00", "2030-01-01T00:00:00+00:00"),
            ("2030-01-01T00:00:00.5-05:30", "2030-01-01T05:30:00.500000+00:00"),
            ("2030-01-01T00:00+00:00", "2030-01-01T00:00:00+00:00"),
            ("20300101T000000Z", "2030-01-01T00:00:00+00:00"),
        ] {
            assert_eq!(utc(text).as_deref(), Ok(wanted), "{text}");
        }
        for text in
            ["2030-01-01T00:00:00", "2030-01-01", "soon", "", "2030-13-01T00:00:00Z", "0001-01-01T00:00:00+01:00"]
        {
            assert_eq!(utc(text).expect_err(text), "deadline-form");
        }
    }

    #[test]
    fn milliseconds_count_from_1970() {
        let at: Deadline = "1970-01-01T00:00:01.5Z".parse().expect("an instant");
        assert_eq!(at.ms(), 1500);
        assert_eq!(Deadline::from_ms(1500), Some(at));
        assert_eq!(timestamp(1500), "1970-01-01T00:00:01.500000+00:00");
        assert_eq!(timestamp(u64::MAX), "9999-12-31T23:59:59.999999+00:00");
        assert_eq!(Deadline::from_ms(i64::MAX), None);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_answered(text in "\\PC{0,40}") {
            let _ = text.parse::<Deadline>();
        }

        #[test]
        fn an_instant_is_read_as_it_is_written(ms in 0_i64..253_402_300_800_000) {
            let at = Deadline::from_ms(ms).expect("inside the years");
            proptest::prop_assert_eq!(at.to_string().parse::<Deadline>().ok(), Some(at));
        }
    }
}
