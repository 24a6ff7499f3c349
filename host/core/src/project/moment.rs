//! A date, or a date and a time: as YAML 1.1 writes it, as RFC 3339 and its relatives do, and as seconds since 1970.

use std::fmt;

/// From this number on, what counts from 1970 is milliseconds: pydantic's rule.
const SECONDS_MAX: u64 = 20_000_000_000;

/// A date of the Gregorian calendar, with or without a time, with or without an offset from UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    date: (u32, u32, u32),
    /// Seconds of the day and microseconds.
    time: Option<(u32, u32)>,
    offset_minutes: Option<i32>,
}

impl Moment {
    /// The form of a YAML 1.1 timestamp: parts may be short, the time may stand after spaces. None if there is no such
    /// date.
    pub(super) fn from_yaml(text: &str) -> Option<Self> {
        let date_end = text.find(['T', 't', ' ', '\t']).unwrap_or(text.len());
        let mut date = text[..date_end].splitn(3, '-').map(|part| part.parse::<u32>().ok());
        let date = real_date(date.next()??, date.next()??, date.next()??).filter(|date| date.0 >= 1)?;
        let rest = text[date_end..].trim_start_matches(['T', 't', ' ', '\t']);
        if rest.is_empty() {
            return Some(Self { date, time: None, offset_minutes: None });
        }
        let zone_at = rest.find(['Z', '+', '-', ' ', '\t']).unwrap_or(rest.len());
        let (clock, zone) = (&rest[..zone_at], rest[zone_at..].trim_start());
        let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
        let mut clock = clock.splitn(3, ':').map(|part| part.parse::<u32>().ok());
        let time = real_time(clock.next()??, clock.next()??, clock.next()??, fraction)?;
        let offset_minutes = match zone.strip_prefix(['+', '-']) {
            None if zone.is_empty() => None,
            None => Some(0),
            Some(offset) => {
                let (hours, minutes) = offset.split_once(':').unwrap_or((offset, "0"));
                real_offset(zone.starts_with('-'), hours.parse().ok()?, minutes.parse().ok()?).map(Some)?
            }
        };
        Some(Self { date, time: Some(time), offset_minutes })
    }

    /// A date `2025-01-31`, or one with a time after `T`, `t`, a space or `_`: `10:30`, seconds and a fraction of up to
    /// nine digits if wanted, then nothing, `Z`, or an offset.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        let two = |at: usize, text: &str| -> Option<u32> {
            let part = text.get(at..at + 2)?;
            if part.bytes().all(|b| b.is_ascii_digit()) { part.parse().ok() } else { None }
        };
        let (date, rest) = (text.get(..10)?, text.get(10..)?);
        let year = date.get(..4).filter(|year| year.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()?;
        if date.as_bytes()[4] != b'-' || date.as_bytes()[7] != b'-' {
            return None;
        }
        let date = real_date(year, two(5, date)?, two(8, date)?)?;
        if rest.is_empty() {
            return Some(Self { date, time: Some((0, 0)), offset_minutes: None });
        }
        let clock = rest.strip_prefix(['T', 't', ' ', '_'])?;
        let (hour, minute) = (two(0, clock)?, two(3, clock)?);
        let mut rest = clock.get(5..).filter(|_| clock.as_bytes()[2] == b':')?;
        let (mut second, mut fraction) = (0, "");
        if let Some(after) = rest.strip_prefix(':') {
            second = two(0, after)?;
            rest = &after[2..];
            if let Some(after) = rest.strip_prefix(['.', ',']) {
                let digits = after.bytes().take_while(u8::is_ascii_digit).count();
                if digits == 0 {
                    return None;
                }
                (fraction, rest) = after.split_at(digits);
            }
        }
        let time = real_time(hour, minute, second, fraction)?;
        let offset_minutes = match rest {
            "" => None,
            "Z" | "z" => Some(0),
            _ => {
                let sign = rest.chars().next()?;
                let offset = rest.strip_prefix(['+', '-', '\u{2212}'])?;
                let minutes = offset.get(2..).map(|minutes| minutes.strip_prefix(':').unwrap_or(minutes))?;
                let minutes = if minutes.len() == 2 { two(0, minutes)? } else { return None };
                Some(real_offset(sign != '+', two(0, offset)?, minutes)?)
            }
        };
        Some(Self { date, time: Some(time), offset_minutes })
    }

    /// Seconds since 1970, or milliseconds where the number is too large to be seconds.
    pub(super) fn from_unix(number: i64) -> Option<Self> {
        let unit = if number.unsigned_abs() > SECONDS_MAX { 1000 } else { 1_000_000 };
        Self::from_micros(i128::from(number) * unit)
    }

    /// [`Self::from_unix`] of a double, rounded to microseconds.
    #[expect(clippy::cast_possible_truncation, reason = "the bound keeps it in range")]
    pub(super) fn from_unix_float(number: f64) -> Option<Self> {
        if !number.is_finite() || number.abs() > 1e18 {
            return None;
        }
        let whole = number.trunc() as i64;
        let unit = if whole.unsigned_abs() > SECONDS_MAX { 1000 } else { 1_000_000 };
        let part = (number.fract() * f64::from(unit)).round() as i64;
        Self::from_micros(i128::from(whole) * i128::from(unit) + i128::from(part))
    }

    fn from_micros(total: i128) -> Option<Self> {
        let (days, micros) = (total.div_euclid(86_400_000_000), total.rem_euclid(86_400_000_000));
        let date = civil(i64::try_from(days).ok()?)?;
        let seconds = u32::try_from(micros / 1_000_000).ok()?;
        let micros = u32::try_from(micros % 1_000_000).ok()?;
        Some(Self { date, time: Some((seconds, micros)), offset_minutes: Some(0) })
    }

    /// As Python shows it where it is a key.
    pub(super) fn as_python(&self) -> String {
        let (year, month, day) = self.date;
        let Some((seconds, micros)) = self.time else { return format!("datetime.date({year}, {month}, {day})") };
        let mut out = format!("datetime.datetime({year}, {month}, {day}, {}, {}", seconds / 3600, seconds / 60 % 60);
        if seconds % 60 != 0 || micros != 0 {
            out += &format!(", {}", seconds % 60);
        }
        if micros != 0 {
            out += &format!(", {micros}");
        }
        match self.offset_minutes {
            None => {}
            Some(0) => out += ", tzinfo=datetime.timezone.utc",
            Some(minutes) => {
                let (days, seconds) = (minutes.div_euclid(1440), minutes.rem_euclid(1440) * 60);
                let days = if days == 0 { String::new() } else { format!("days={days}, ") };
                out += &format!(", tzinfo=datetime.timezone(datetime.timedelta({days}seconds={seconds}))");
            }
        }
        out + ")"
    }

    /// A date as the moment at which it begins.
    pub(super) fn with_time(self) -> Self {
        Self { time: self.time.or(Some((0, 0))), ..self }
    }

    /// Whether the year is 0, which the original's calendar does not have.
    pub(super) fn is_year_zero(&self) -> bool {
        self.date.0 == 0
    }
}

/// ISO 8601: `2025-01-31`, `2025-01-31T10:30:00`, with six digits of a fraction if there is one, with `Z` for UTC.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.date;
        write!(f, "{year:04}-{month:02}-{day:02}")?;
        let Some((seconds, micros)) = self.time else { return Ok(()) };
        write!(f, "T{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)?;
        if micros != 0 {
            write!(f, ".{micros:06}")?;
        }
        match self.offset_minutes {
            None => Ok(()),
            Some(0) => f.write_str("Z"),
            Some(minutes) => {
                let sign = if minutes < 0 { '-' } else { '+' };
                write!(f, "{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
            }
        }
    }
}

fn real_date(year: u32, month: u32, day: u32) -> Option<(u32, u32, u32)> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    (year <= 9999 && (1..=days).contains(&day)).then_some((year, month, day))
}

fn real_time(hour: u32, minute: u32, second: u32, fraction: &str) -> Option<(u32, u32)> {
    let micros: String = format!("{fraction:0<6}").chars().take(6).collect();
    let micros = micros.parse().ok()?;
    (hour < 24 && minute < 60 && second < 60).then_some((hour * 3600 + minute * 60 + second, micros))
}

fn real_offset(west: bool, hours: u32, minutes: u32) -> Option<i32> {
    let minutes = i32::try_from(hours * 60 + minutes).ok().filter(|minutes| *minutes < 24 * 60)?;
    Some(if west { -minutes } else { minutes })
}

/// The date of a day counted from 1970, by the usual eras of 400 years that begin in March.
fn civil(days: i64) -> Option<(u32, u32, u32)> {
    let days = days.checked_add(719_468)?;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    let year = u32::try_from(year).ok().filter(|year| (1..=9999).contains(year))?;
    Some((year, u32::try_from(month).ok()?, u32::try_from(day).ok()?))
}
