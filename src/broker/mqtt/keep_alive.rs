//! When to ask the broker for a sign of life, and when to give it up.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The slowest link that is promised to work, in bytes a second, as for the forwarder's own watch over what is in flight.
const SLOWEST_LINK: u64 = 1024;

/// Keeps the broker from taking us for dead, and notices when it is dead itself.
pub(super) struct KeepAlive {
    /// After how long without a word there is to be one.
    every: Duration,
    /// How long an answer may take, beside the time that the bytes before the ping need.
    patience: Duration,
    sent: Instant,
    heard: Instant,
    /// Up to where the broker has read for certain, by the pings that it answered.
    answered: u64,
    /// Without an answer so far, the oldest first.
    pings: VecDeque<Ping>,
}

struct Ping {
    /// Where it ends, in bytes since the connection began.
    end: u64,
    /// When the kernel had taken it: before that it cannot be answered.
    left: Option<Instant>,
}

impl KeepAlive {
    /// `theirs` is the broker's wish, in seconds: 0 says that it does not watch, but we want to know of a dead
    /// connection nevertheless. It says how often it wants to hear something, not how fast the link is.
    pub fn new(ours: Duration, theirs: Option<u16>, now: Instant) -> Self {
        let ours = Duration::from_secs(ours.as_secs()); // as CONNECT says it
        let every = theirs.filter(|seconds| *seconds > 0).map_or(ours, |seconds| Duration::from_secs(seconds.into()));
        KeepAlive { every, patience: every.max(ours), sent: now, heard: now, answered: 0, pings: VecDeque::new() }
    }

    /// Bytes went to the broker.
    pub fn sent(&mut self, now: Instant) {
        self.sent = now;
    }

    /// The kernel has everything up to `flushed`.
    pub fn flushed(&mut self, flushed: u64, now: Instant) {
        for ping in self.pings.iter_mut().rev().take_while(|ping| ping.left.is_none()) {
            if ping.end <= flushed {
                ping.left = Some(now);
            }
        }
    }

    /// Something came from the broker.
    pub fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// A ping is to be sent, and ends there.
    pub fn asked(&mut self, now: Instant, end: u64) {
        self.sent = now;
        self.pings.push_back(Ping { end, left: None });
    }

    /// Whether a ping has yet to leave: then another one would say no more.
    pub fn is_asking(&self) -> bool {
        self.pings.back().is_some_and(|ping| ping.left.is_none())
    }

    /// The answer to a ping came: whether there was one to answer.
    pub fn ponged(&mut self) -> bool {
        let ping = self.pings.pop_front();
        self.answered = ping.as_ref().map_or(self.answered, |ping| ping.end);
        ping.is_some()
    }

    /// When the next ping is due.
    pub fn due(&self) -> Instant {
        let quiet = if self.pings.is_empty() { self.sent.min(self.heard) } else { self.sent };
        quiet + self.every
    }

    /// When an answer to a ping is overdue; the broker has answered what it was sent up to `answered`. What lies between
    /// may still be on its way, on a slow link behind a kernel's buffer. Whatever comes shows that the broker lives.
    pub fn overdue(&self, answered: u64) -> Option<Instant> {
        let Ping { end, left } = self.pings.front()?;
        let on_the_way = end.saturating_sub(answered.max(self.answered));
        Some((*left)?.max(self.heard) + self.patience + Duration::from_secs(on_the_way / SLOWEST_LINK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Duration = secs(5);

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A ping of two bytes was sent at `begin`, behind `before` bytes, and the kernel took it at once.
    fn pinged(begin: Instant, before: u64) -> KeepAlive {
        let mut keep_alive = KeepAlive::new(OURS, None, begin);
        keep_alive.asked(begin, before + 2);
        keep_alive.flushed(before + 2, begin);
        keep_alive
    }

    #[test]
    fn a_ping_is_due_by_the_whole_seconds_that_connect_said() {
        let begin = Instant::now();
        assert_eq!(KeepAlive::new(Duration::from_millis(5_900), None, begin).due(), begin + secs(5));
        assert_eq!(KeepAlive::new(Duration::from_millis(5_900), Some(0), begin).due(), begin + secs(5));
    }

    #[test]
    fn a_ping_is_due_when_either_side_has_been_quiet_for_that_long() {
        let begin = Instant::now();
        let mut keep_alive = KeepAlive::new(OURS, None, begin);
        keep_alive.heard(begin + secs(1));
        keep_alive.sent(begin + secs(2));
        assert_eq!(keep_alive.due(), begin + secs(1) + OURS);
        keep_alive.heard(begin + secs(3));
        assert_eq!(keep_alive.due(), begin + secs(2) + OURS);
    }

    #[test]
    fn while_no_answer_comes_the_broker_is_pinged_again_as_often_as_it_wants_to_hear_something() {
        let begin = Instant::now();
        let mut keep_alive = KeepAlive::new(OURS, Some(2), begin);
        for n in 1..=3 {
            assert_eq!(keep_alive.due(), begin + secs(2 * n));
            keep_alive.asked(begin + secs(2 * n), 2 * n);
        }
    }

    #[test]
    fn the_brokers_wish_says_how_often_to_ping_and_not_how_soon_to_give_it_up() {
        let begin = Instant::now();
        for (wish, every, patience) in [(1, secs(1), OURS), (60, secs(60), secs(60))] {
            let mut keep_alive = KeepAlive::new(OURS, Some(wish), begin);
            assert_eq!(keep_alive.due(), begin + every);
            keep_alive.asked(begin, 2);
            keep_alive.flushed(2, begin);
            assert_eq!(keep_alive.overdue(0), Some(begin + patience));
        }
    }

    #[test]
    fn no_answer_is_overdue_without_a_ping() {
        let begin = Instant::now();
        let mut keep_alive = KeepAlive::new(OURS, None, begin);
        keep_alive.sent(begin);
        keep_alive.flushed(1_000_000, begin);
        assert_eq!(keep_alive.overdue(0), None);
    }

    #[test]
    fn a_ping_that_has_not_left_cannot_be_answered() {
        let begin = Instant::now();
        let mut keep_alive = KeepAlive::new(OURS, None, begin);
        keep_alive.asked(begin, 1_002);
        keep_alive.flushed(1_001, begin + secs(60));
        assert_eq!(keep_alive.overdue(1_000), None);
        keep_alive.flushed(1_002, begin + secs(120));
        keep_alive.flushed(5_000, begin + secs(180));
        assert_eq!(keep_alive.overdue(1_000), Some(begin + secs(120) + OURS));
    }

    #[test]
    fn what_lies_before_the_ping_has_the_time_that_the_slowest_link_needs() {
        let begin = Instant::now();
        let keep_alive = pinged(begin, 100 * SLOWEST_LINK);
        assert_eq!(keep_alive.overdue(0), Some(begin + OURS + secs(100)));
    }

    #[test]
    fn what_the_broker_has_answered_is_on_its_way_no_more() {
        let begin = Instant::now();
        let mut keep_alive = pinged(begin, 100 * SLOWEST_LINK);
        assert_eq!(keep_alive.overdue(90 * SLOWEST_LINK), Some(begin + OURS + secs(10)));
        // messages that were sent and answered behind the ping do not lengthen or shorten its time
        assert_eq!(keep_alive.overdue(200 * SLOWEST_LINK), Some(begin + OURS));

        // with QoS 0 only pings are answered
        assert!(keep_alive.ponged());
        keep_alive.asked(begin, 130 * SLOWEST_LINK + 2);
        keep_alive.flushed(130 * SLOWEST_LINK + 2, begin);
        assert_eq!(keep_alive.overdue(0), Some(begin + OURS + secs(30)));
    }

    #[test]
    fn whatever_comes_shows_that_the_broker_lives() {
        let begin = Instant::now();
        let mut keep_alive = pinged(begin, 0);
        keep_alive.heard(begin + secs(4));
        assert_eq!(keep_alive.overdue(0), Some(begin + secs(4) + OURS));
    }

    #[test]
    fn only_the_first_ping_counts_until_it_is_answered() {
        let begin = Instant::now();
        let mut keep_alive = pinged(begin, 0);
        keep_alive.asked(begin + secs(4), 50_000);
        assert_eq!(keep_alive.overdue(0), Some(begin + OURS), "the one before is still unanswered");
    }

    #[test]
    fn a_late_answer_is_not_taken_for_one_to_a_later_ping() {
        let begin = Instant::now();
        let mut keep_alive = pinged(begin, 0);
        keep_alive.asked(begin, 4);
        keep_alive.flushed(4, begin);
        assert!(keep_alive.ponged());
        keep_alive.asked(begin, 100 * SLOWEST_LINK + 4);
        keep_alive.flushed(100 * SLOWEST_LINK + 4, begin);
        assert!(keep_alive.ponged(), "to the second");
        assert_eq!(keep_alive.overdue(0), Some(begin + OURS + secs(100)));
    }

    #[test]
    fn one_ping_at_a_time_waits_to_leave() {
        let begin = Instant::now();
        let mut keep_alive = KeepAlive::new(OURS, None, begin);
        assert!(!keep_alive.is_asking());
        keep_alive.asked(begin, 2);
        assert!(keep_alive.is_asking());
        keep_alive.flushed(2, begin);
        assert!(!keep_alive.is_asking());
    }

    #[test]
    fn an_answer_counts_once_and_only_if_there_was_a_ping() {
        let begin = Instant::now();
        assert!(!KeepAlive::new(OURS, None, begin).ponged());
        let mut keep_alive = pinged(begin, 0);
        assert!(keep_alive.ponged());
        assert_eq!(keep_alive.overdue(0), None);
        assert!(!keep_alive.ponged());
    }
}
