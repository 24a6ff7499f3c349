//! How long to wait before a request is repeated, as a pure function of what went wrong.

use crate::error::Error;

/// First wait, in milliseconds; it doubles with each repeat.
const FIRST_MS: u64 = 500;
/// Longest wait that we choose ourselves, in milliseconds.
const BACKOFF_MS_MAX: u64 = 30_000;

/// Milliseconds to wait before repeat number `repeats` + 1, or unset when it must not be repeated.
///
/// What the vendor asks for is the floor; above it the wait is exponential, its upper half random, so that clients
/// that failed together do not come back together. A vendor that asks for more than `wait_max_ms` is not waited for.
#[must_use]
pub fn wait_ms(error: &Error, repeats: u32, random: u64, wait_max_ms: u64) -> Option<u64> {
    if !error.is_retryable() {
        return None;
    }
    let backoff = FIRST_MS.saturating_mul(1 << repeats.min(20)).min(BACKOFF_MS_MAX).min(wait_max_ms);
    let jittered = backoff / 2 + random % (backoff / 2 + 1);
    let wait = jittered.max(error.retry_after_ms.unwrap_or(0));
    (wait <= wait_max_ms).then_some(wait)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_spend_limit_and_a_wrong_request_are_never_repeated() {
        for error in [Error::limit("spend-limit", ""), Error::invalid("request", ""), Error::denied("credential", "")] {
            assert_eq!(wait_ms(&error, 0, 1, 60_000), None, "{error:?}");
        }
    }

    #[test]
    fn a_vendor_that_asks_for_too_long_is_not_waited_for() {
        let error = Error::unavailable("rate-limited", "").retry_after_ms(61_000);
        assert_eq!(wait_ms(&error, 0, 1, 60_000), None);
    }

    proptest! {
        #[test]
        fn the_wait_keeps_its_floor_and_its_ceiling(repeats: u32, random: u64, floor in 0u64..60_000) {
            let error = Error::unavailable("rate-limited", "").retry_after_ms(floor);
            let wait = wait_ms(&error, repeats, random, 60_000).expect("repeatable, and below the most");
            prop_assert!(wait >= floor);
            prop_assert!(wait <= BACKOFF_MS_MAX.max(floor));
            prop_assert!(wait >= FIRST_MS / 2);
        }
    }
}
