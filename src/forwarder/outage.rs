//! The time without a session: why, since when, and what the log and the status say of it.

use std::time::Instant;

use super::dispatcher::{Dispatcher, Ending, Session};
use crate::broker::Down;
use crate::error::chain;
use crate::status::LinkState;

pub(super) struct Outage {
    /// What was last heard of it.
    why: String,
    since: Instant,
    /// What the log was told of it, since a session last stood.
    told: Option<Ending>,
}

impl Outage {
    /// Before the first session.
    pub fn new(now: Instant) -> Self {
        Outage { why: "not connected yet".to_owned(), since: now, told: None }
    }

    /// A session stands.
    pub fn over(&mut self) {
        self.told = None;
    }

    /// The adapter said that the session is over. `was`: how it stood before.
    pub fn session_ended(&mut self, session: u64, was: &Session, ending: Ending, why: String) {
        // Told to end, by a pause or a shutdown: what the adapter says of it is no trouble.
        let asked_for = matches!(was, Session::Closing { .. });
        match ending {
            Ending::Recycled => log::debug!("session {session} ended: {why}"),
            _ if asked_for => log::debug!("session {session} ended as it was told to"),
            _ => self.lost(ending, why),
        }
    }

    /// A session ended, or could not be had. Said when an outage begins, changes its kind, or is refused
    /// for another reason, not at each new try.
    pub fn lost(&mut self, ending: Ending, why: String) {
        // dates and ports change from try to try, and are no new reason
        let words = |why: &str| why.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
        let new_reason = ending == Ending::Refused && words(&why) != words(&self.why);
        if self.told == Some(ending) && !new_reason {
            log::debug!("still no session: {why}");
        } else {
            log::warn!("no session with the broker: {why}; messages are kept");
        }
        if self.told.is_none() {
            self.since = Instant::now();
        }
        self.told = Some(ending);
        self.why = why;
    }

    /// How the link stands. `begun`: where the dispatcher's time begins.
    pub fn link(&self, dispatcher: &Dispatcher, begun: Instant) -> LinkState {
        let why = || self.why.clone();
        match dispatcher.session() {
            _ if dispatcher.is_paused() => LinkState::Paused,
            Session::Up { .. } => match dispatcher.all_topics_shut() {
                Some(since) => LinkState::TopicsClosed {
                    since: begun + since,
                    next_try: begun + dispatcher.next_topic().unwrap_or(since),
                },
                None => LinkState::Up,
            },
            // while it is being tried again, too: that changes nothing for whoever has to mend it
            Session::Down { until: at } | Session::Connecting { since: at } if dispatcher.was_refused() => {
                LinkState::Refused { since: self.since, next_try: begun + *at, why: why() }
            }
            Session::Down { until } if dispatcher.session_number() > 0 => {
                LinkState::Offline { since: self.since, next_try: begun + *until, why: why() }
            }
            Session::Down { .. } | Session::Connecting { .. } | Session::Closing { .. } => LinkState::Connecting,
        }
    }
}

/// The adapter's word, as the backoff and the log take it.
pub(super) fn in_words(down: Down) -> (Ending, String) {
    match down {
        Down::Unreachable(cause) => (Ending::Unreachable, chain(&*cause)),
        Down::Refused(cause) => (Ending::Refused, chain(&*cause)),
        Down::Recycled => (Ending::Recycled, "the adapter wanted a fresh session".to_owned()),
    }
}
