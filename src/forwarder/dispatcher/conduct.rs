//! How a session is begun, given up and ended, and what becomes of what was in flight.

use std::time::Duration;

use super::flight::Item;
use super::session::{Ending, Session};
use super::suspects::{End, Judgement};
use super::{Action, Dispatcher};
use crate::broker::Limits;
use crate::settings::Ordering;

/// How long a polite end of a session may take when it is not the end of everything.
const POLITE: Duration = Duration::from_secs(5);

impl Dispatcher {
    /// The adapter announced that the session stands.
    pub fn up(&mut self, session: u64, limits: Limits) {
        if session != self.sessions.number || !matches!(self.sessions.state, Session::Connecting { .. }) {
            return;
        }
        let limits = Limits { window: limits.window.max(1), bytes: limits.bytes };
        self.sessions.state = Session::Up { since: self.now, limits };
        self.sessions.ups += 1;
        self.topics.session_up();
        self.suspects.session_begun(self.now);
        self.returned.settled();
    }

    /// The other side said something that settles nothing.
    pub fn alive(&mut self, session: u64) {
        if session == self.sessions.number {
            self.suspects.heard(self.now);
        }
    }

    /// The session ended; a word about an earlier one, or a second one, is ignored.
    pub fn down(&mut self, session: u64, ending: Ending) {
        if session == self.sessions.number && !matches!(self.sessions.state, Session::Down { .. }) {
            self.end_session(ending, End::Broken);
        }
    }

    /// What waits for a time to try again, closed topics and the next session, need not wait any longer.
    pub fn try_now(&mut self) {
        self.topics.all_due(self.now);
        if let Session::Down { until, .. } = &mut self.sessions.state {
            *until = (*until).min(self.now);
        }
    }

    /// Begins, gives up and ends sessions.
    pub(super) fn keep_session(&mut self) -> Option<Action> {
        let leaving = self.paused || self.stopping.is_some();
        match self.sessions.state {
            Session::Down { until, .. } if self.now >= until && !leaving => {
                Some(Action::Connect(self.sessions.begin(self.now)))
            }
            Session::Down { .. } => None,
            Session::Connecting { .. } | Session::Up { .. } if leaving => {
                let until = self.stopping.map_or(self.now + POLITE, |stopping| stopping.politely);
                self.sessions.state = Session::Closing { until };
                Some(Action::Disconnect(until))
            }
            // Paused, and now there is less time than that.
            Session::Closing { until } if self.stopping.is_some_and(|stopping| stopping.politely < until) => {
                let until = self.stopping.map_or(until, |stopping| stopping.politely);
                self.sessions.state = Session::Closing { until };
                Some(Action::Disconnect(until))
            }
            Session::Connecting { .. } | Session::Closing { .. } => {
                let overdue = self.sessions.deadline().is_some_and(|deadline| self.now >= deadline);
                overdue.then(|| self.give_up())
            }
            Session::Up { .. } => {
                let overdue = self.flight.deadline().is_some_and(|deadline| self.now >= deadline);
                overdue.then(|| self.give_up())
            }
        }
    }

    fn give_up(&mut self) -> Action {
        self.end_session(Ending::Unreachable, End::GivenUp);
        Action::Disconnect(self.now)
    }

    pub(super) fn end_session(&mut self, ending: Ending, end: End) {
        let stood = matches!(self.sessions.state, Session::Up { .. });
        let in_flight = self.flight.open();
        let oldest = self.flight.oldest().into_iter().chain(self.returned.end()).min().map(|(_, id, sent)| (id, sent));
        self.sessions.end(self.now, ending, stood && oldest.is_some(), self.rules.reconnect, &mut self.dice);
        for mut item in self.flight.end().collect::<Vec<_>>() {
            item.sent_before = true;
            self.topics.probe_over(&item.row.topic, item.row.id);
            if !self.suspects.contains(item.row.id) {
                self.busy.release(&item.row);
                self.resend.insert(item.row.id, item);
            }
        }
        if !stood || ending == Ending::Recycled {
            return;
        }
        self.suspects.take_care(in_flight);
        let (lanes, strict) = (&self.lanes, self.rules.ordering == Ordering::Strict);
        // In strict order the others of its key wait for it; else those of a lane whose probe it is.
        let holds_up = |item: &Item| strict && item.row.key.is_some() || lanes.are_probed_by(item.row.id);
        match self.suspects.session_ended(self.now, end, oldest, self.rules.bounds.suspects, holds_up) {
            Judgement::Nothing => {}
            Judgement::Suspect(id) => {
                if let Some(item) = self.resend.remove(&id) {
                    self.busy.occupy(&item.row);
                    self.suspects.set_aside(item);
                }
            }
            Judgement::Guilty(id) => {
                let reason = "the broker ended the session each of the four times that this message was sent alone";
                if let Some(item) = self.suspects.forget(self.now, id) {
                    self.busy.release(&item.row);
                    self.park(&item, reason.to_owned());
                    self.lane_goes_on(&item);
                }
            }
            Judgement::Cleared(items) => {
                for item in items {
                    self.busy.release(&item.row);
                    self.resend.insert(item.row.id, item);
                }
            }
        }
    }

    pub(super) fn is_down(&self) -> bool {
        matches!(self.sessions.state, Session::Down { .. })
    }
}
