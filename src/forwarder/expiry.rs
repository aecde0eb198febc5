//! How much is left of a message's time.

use std::time::Duration;

use humantime_serde::re::humantime::format_duration;

use crate::message::MAX_EXPIRY;

/// The wire counts whole seconds, and 0 of them would say that it is over.
const LEAST: Duration = Duration::from_secs(1);

/// What is left of `expiry`, which counts from `created_at`; both stamps are the wall clock's, in Unix milliseconds.
/// Where the clock went back behind `created_at` no time has passed: all of it is left, never more. Between 1 s and
/// [`MAX_EXPIRY`].
///
/// # Errors
/// The reason for which the message is parked, in words: nothing is left.
pub(super) fn left(expiry: Duration, created_at: i64, now_ms: i64) -> Result<Duration, String> {
    let age = Duration::from_millis(u64::try_from(now_ms.saturating_sub(created_at)).unwrap_or(0));
    match expiry.checked_sub(age) {
        Some(left) if !left.is_zero() => Ok(left.clamp(LEAST, MAX_EXPIRY)),
        _ => {
            let since = Duration::from_secs((age - expiry).as_secs());
            Err(format!(
                "expired: by this device's clock its time of {} was over {} before its turn came",
                format_duration(expiry),
                format_duration(since)
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEN: i64 = 1_700_000_000_000;

    #[test]
    fn what_is_left_is_what_has_not_passed() {
        let minute = Duration::from_secs(60);
        for (after_ms, expected_ms) in [(0, 60_000), (1, 59_999), (20_500, 39_500), (59_000, 1_000), (59_999, 1_000)] {
            let expected = Duration::from_millis(expected_ms);
            assert_eq!(left(minute, THEN, THEN + after_ms), Ok(expected), "after {after_ms} ms");
        }
    }

    #[test]
    fn a_clock_that_went_back_takes_nothing_and_gives_nothing() {
        let minute = Duration::from_secs(60);
        for now_ms in [THEN - 1, 0, -1, i64::MIN] {
            assert_eq!(left(minute, THEN, now_ms), Ok(minute), "at {now_ms}");
        }
        assert_eq!(left(minute, i64::MAX, 0), Ok(minute));
    }

    #[test]
    fn what_is_over_is_said_with_its_time_and_since_when() {
        let words = left(Duration::from_secs(60), THEN, THEN + 60_000).unwrap_err();
        assert_eq!(words, "expired: by this device's clock its time of 1m was over 0s before its turn came");
        let words = left(Duration::from_secs(60), THEN, THEN + 3_783_999).unwrap_err();
        assert_eq!(words, "expired: by this device's clock its time of 1m was over 1h 2m 3s before its turn came");
        assert!(left(Duration::ZERO, THEN, THEN).is_err());
        assert!(left(Duration::ZERO, THEN, 0).is_err());
        assert_eq!(left(Duration::MAX, i64::MIN, i64::MAX), Ok(MAX_EXPIRY));
        assert!(left(Duration::ZERO, i64::MIN, i64::MAX).is_err());
    }
}
