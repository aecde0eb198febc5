//! Deliveries that came back undelivered while the session stands.
//!
//! An adapter whose session breaks drops what it holds, and the word that the session is over comes before that or after
//! it. So sending rests for a moment, and the oldest of them is remembered: should the session turn out to have ended,
//! it was the oldest unsettled delivery.

use std::time::Duration;

/// The first rest; it doubles with every one that comes back, up to [`LONGEST_REST`].
const FIRST_REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(1);

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Returned {
    /// How many in a row, since anything was settled.
    times: u32,
    rest_until: Duration,
    /// The number of the sending, its row, and when it was sent.
    oldest: Option<(u64, i64, Duration)>,
}

impl Returned {
    pub fn came_back(&mut self, now: Duration, sending: u64, row: i64, sent: Duration) {
        let rest = FIRST_REST.saturating_mul(1 << self.times.min(10)).min(LONGEST_REST);
        self.times = self.times.saturating_add(1);
        self.rest_until = now + rest;
        if self.oldest.is_none_or(|(earlier, ..)| sending < earlier) {
            self.oldest = Some((sending, row, sent));
        }
    }

    /// The session does what it is for.
    pub fn settled(&mut self) {
        *self = Returned::default();
    }

    /// The rest is over and the session stands: the adapter had its own reasons.
    pub fn sending_goes_on(&mut self) {
        self.oldest = None;
    }

    pub fn rest_until(&self) -> Duration {
        self.rest_until
    }

    /// The session is over: the oldest of those that came back, as [`Flight::oldest`](super::flight::Flight::oldest).
    pub fn end(&mut self) -> Option<(u64, i64, Duration)> {
        std::mem::take(self).oldest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_that_came_back_is_remembered_until_sending_goes_on() {
        let (mut returned, now) = (Returned::default(), Duration::from_secs(1));
        returned.came_back(now, 8, 80, now);
        returned.came_back(now, 7, 70, now);
        assert_eq!(returned.clone().end(), Some((7, 70, now)));
        returned.sending_goes_on();
        assert_eq!(returned.end(), None);
    }

    #[test]
    fn the_rest_grows_to_a_second_and_no_further() {
        let (mut returned, now) = (Returned::default(), Duration::from_secs(1));
        returned.came_back(now, 0, 1, now);
        assert_eq!(returned.rest_until(), now + FIRST_REST);
        (1..100).for_each(|n| returned.came_back(now, n, 1, now));
        assert_eq!(returned.rest_until(), now + LONGEST_REST);
    }
}
