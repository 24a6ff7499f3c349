//! Numbers with their units, short enough for a line.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use midplane::core::outcome::Usage;

/// `85ms`, `1.2s`, `2m 03s`, `1h 02m`.
pub(crate) fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{}m {:02}s", ms / 60_000, ms % 60_000 / 1_000),
        _ => format!("{}h {:02}m", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}

/// `812`, `1.2k`, `3.4M`.
pub(crate) fn count(n: u64) -> String {
    match n {
        0..1_000 => n.to_string(),
        1_000..1_000_000 => format!("{}.{}k", n / 1_000, n % 1_000 / 100),
        _ => format!("{}.{}M", n / 1_000_000, n % 1_000_000 / 100_000),
    }
}

/// `812 B`, `1.20 KiB`.
pub(crate) fn bytes(n: u64) -> String {
    indicatif::BinaryBytes(n).to_string()
}

/// `now`, `5m ago`, `3d ago`.
pub(crate) fn ago(t_ms: u64, now_ms: u64) -> String {
    let seconds = now_ms.saturating_sub(t_ms) / 1_000;
    match seconds {
        0..10 => "now".to_owned(),
        10..60 => format!("{seconds}s ago"),
        60..3_600 => format!("{}m ago", seconds / 60),
        3_600..86_400 => format!("{}h ago", seconds / 3_600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

/// A time as RFC 3339 in UTC.
pub(crate) fn time(t_ms: u64) -> String {
    // Bounded below the year 10000, beyond which there is no such form.
    let t_ms = t_ms.min(253_402_300_799_000);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(t_ms)).to_string()
}

/// Milliseconds since 1970 UTC.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    crate::values::millis(since)
}

/// `1.2k in, 340 out, $0.0123`: what is known of it and is more than nothing.
pub(crate) fn usage(usage: &Usage) -> Vec<String> {
    // What a vendor bills as input includes what it read from and put into its cache.
    let read = [usage.input_tokens, usage.cache_read_tokens, usage.cache_creation_tokens];
    let input = read.iter().flatten().fold(0_u64, |sum, n| sum.saturating_add(*n));
    let mut parts = Vec::new();
    if input > 0 {
        parts.push(format!("{} tokens in", count(input)));
    }
    if let Some(output @ 1..) = usage.output_tokens {
        parts.push(format!("{} out", count(output)));
    }
    if let (true, Some(total @ 1..)) = (parts.is_empty(), usage.total_tokens) {
        parts.push(format!("{} tokens", count(total)));
    }
    if let Some(cost) = usage.cost_usd.filter(|cost| *cost > 0.0) {
        parts.push(format!("${cost:.4}"));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let durations = [0, 85, 999, 1_000, 1_234, 59_999, 60_000, 123_456, 3_600_000, 3_725_000].map(duration);
        assert_eq!(
            durations,
            ["0ms", "85ms", "999ms", "1.0s", "1.2s", "59.9s", "1m 00s", "2m 03s", "1h 00m", "1h 02m"]
        );
        assert_eq!(
            [0, 999, 1_000, 12_345, 999_999, 3_450_000].map(count),
            ["0", "999", "1.0k", "12.3k", "999.9k", "3.4M"]
        );
        assert_eq!([0, 812, 1_229].map(bytes), ["0 B", "812 B", "1.20 KiB"]);
        let agos =
            [0, 9_000, 10_000, 61_000, 7_200_000, 200_000_000].map(|before| ago(1_000_000_000 - before, 1_000_000_000));
        assert_eq!(agos, ["now", "now", "10s ago", "1m ago", "2h ago", "2d ago"]);
        assert_eq!(ago(5, 0), "now");
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(u64::MAX), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn usage_says_what_is_known() {
        assert!(usage(&Usage::default()).is_empty());
        assert!(
            usage(&Usage { input_tokens: Some(0), total_tokens: Some(0), cost_usd: Some(0.0), ..Usage::default() })
                .is_empty()
        );
        let all = Usage {
            input_tokens: Some(100),
            output_tokens: Some(2_000),
            cache_read_tokens: Some(1_000),
            cost_usd: Some(0.012_34),
            ..Usage::default()
        };
        assert_eq!(usage(&all), ["1.1k tokens in", "2.0k out", "$0.0123"]);
        assert_eq!(usage(&Usage { total_tokens: Some(5), ..Usage::default() }), ["5 tokens"]);
    }
}
