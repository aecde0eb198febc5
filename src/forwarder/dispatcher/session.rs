//! The session with the broker: when to begin one, when to give one up.

use std::time::Duration;

use super::dice::Dice;
use crate::broker::Limits;
use crate::settings::Backoff;

/// An adapter that says nothing at all after `connect` is believed to be stuck after this long.
const SILENT_CONNECT: Duration = Duration::from_secs(120);
/// A session that stood this long was a good one, even if nothing was sent.
const GOOD_SESSION: Duration = Duration::from_secs(10);
/// What an adapter gets beyond the time it was given to end a session.
const GRACE: Duration = Duration::from_millis(500);

/// Failures that count at most for the wait after a session that stood and ended on a message: the broker is there, and
/// as long as nobody knows which message it is, those behind it wait.
const SEARCHING: u32 = 5;
/// In a row, without any answer: then it is not the messages.
const SEARCHES: u32 = 128;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Session {
    /// None; the next one not before then.
    Down {
        until: Duration,
    },
    /// Asked for, since then.
    Connecting {
        since: Duration,
    },
    Up {
        since: Duration,
        limits: Limits,
    },
    /// Told to end by then.
    Closing {
        until: Duration,
    },
}

/// Why a session is over, as far as the backoff cares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    Unreachable,
    Refused,
    Recycled,
}

/// Counts sessions and failures.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Sessions {
    pub state: Session,
    /// The number of the present one; words about earlier ones are ignored.
    pub number: u64,
    /// Sessions that came up.
    pub ups: u64,
    /// Whether the broker did not want the last one.
    pub refused: bool,
    failures: u32,
    /// Sessions that stood and ended on a message, since anything was settled.
    searches: u32,
    /// Whether the present one settled anything.
    proven: bool,
}

impl Sessions {
    pub fn new() -> Self {
        let state = Session::Down { until: Duration::ZERO };
        Sessions { state, number: 0, ups: 0, refused: false, failures: 0, searches: 0, proven: false }
    }

    pub fn begin(&mut self, now: Duration) -> u64 {
        self.proven = false;
        self.number += 1;
        self.state = Session::Connecting { since: now };
        self.number
    }

    pub fn limits(&self) -> Option<Limits> {
        match self.state {
            Session::Up { limits, .. } => Some(limits),
            _ => None,
        }
    }

    /// It does what it is for.
    pub fn proven(&mut self) {
        self.proven = true;
        (self.failures, self.searches) = (0, 0);
    }

    /// `on_message`: it stood, and ended with a message unanswered.
    pub fn end(&mut self, now: Duration, ending: Ending, on_message: bool, backoff: Backoff, dice: &mut Dice) {
        if matches!(self.state, Session::Up { since, .. } if now.saturating_sub(since) >= GOOD_SESSION) {
            self.failures = 0;
        }
        let asked_for = matches!(self.state, Session::Closing { .. });
        let wait = if asked_for || self.proven && ending == Ending::Recycled {
            Duration::ZERO
        } else {
            self.failures = self.failures.saturating_add(1);
            self.searches = self.searches.saturating_add(u32::from(on_message));
            let searching = on_message && self.searches <= SEARCHES;
            let failures = if searching { self.failures.min(SEARCHING) } else { self.failures };
            match ending {
                Ending::Refused => dice.slow(backoff),
                Ending::Recycled | Ending::Unreachable => dice.backoff(backoff, failures),
            }
        };
        self.state = Session::Down { until: now.saturating_add(wait) };
        self.refused = ending == Ending::Refused;
    }

    /// When the present state is over by itself.
    pub fn deadline(&self) -> Option<Duration> {
        match self.state {
            Session::Down { until, .. } => Some(until),
            Session::Connecting { since } => Some(since.saturating_add(SILENT_CONNECT)),
            Session::Up { .. } => None,
            Session::Closing { until } => Some(until.saturating_add(GRACE)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_for_a_message_that_ends_sessions_is_not_slowed_down_but_not_for_ever() {
        let backoff = Backoff { first: Duration::from_millis(250), longest: Duration::from_secs(60) };
        let longest_wait = |on_message: bool, times: u32| {
            let (mut sessions, mut dice) = (Sessions::new(), Dice::seeded(1));
            let waits = (0..times).map(|_| {
                sessions.begin(Duration::ZERO);
                sessions.end(Duration::ZERO, Ending::Unreachable, on_message, backoff, &mut dice);
                let Session::Down { until } = sessions.state else { panic!("{:?}", sessions.state) };
                until
            });
            waits.max().unwrap()
        };
        assert!(longest_wait(true, SEARCHES) <= Duration::from_secs(4));
        assert!(longest_wait(true, 2 * SEARCHES) > Duration::from_secs(30));
        assert!(longest_wait(false, SEARCHES) > Duration::from_secs(30));
    }

    #[test]
    fn a_session_that_wants_a_fresh_one_gets_it_at_once_only_if_it_settled_something() {
        let backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };
        let (mut sessions, mut dice, now) = (Sessions::new(), Dice::seeded(1), Duration::from_secs(9));
        for settles in [true, false, true] {
            sessions.begin(now);
            sessions.state = Session::Up { since: now, limits: Limits::UNLIMITED };
            if settles {
                sessions.proven();
            }
            sessions.end(now, Ending::Recycled, true, backoff, &mut dice);
            let Session::Down { until } = sessions.state else { panic!("{:?}", sessions.state) };
            assert_eq!(until == now, settles);
        }
    }
}
