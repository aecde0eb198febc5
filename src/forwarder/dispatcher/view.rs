//! What the thread and the status show of the dispatcher.

use std::sync::Arc;
use std::time::Duration;

use super::Dispatcher;
use super::flight::Item;
use super::session::Session;
use super::topics::Door;

impl Dispatcher {
    /// Lets time go on without asking what to do.
    pub fn advance(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    pub fn session(&self) -> &Session {
        &self.sessions.state
    }

    /// Whether the broker did not want the last session.
    pub fn was_refused(&self) -> bool {
        self.sessions.refused
    }

    pub fn session_number(&self) -> u64 {
        self.sessions.number
    }

    /// Whether a word about that session is news.
    pub fn is_current(&self, session: u64) -> bool {
        session == self.sessions.number && !matches!(self.sessions.state, Session::Down { .. })
    }

    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether nothing is known that could be sent or written down now.
    pub fn is_idle(&self) -> bool {
        self.at_end
            && self.fresh.is_empty()
            && self.flight.open() == 0
            && self.resend.is_empty()
            && self.ledger.is_empty()
    }

    /// Whether something is settled that the table does not know.
    pub fn owes_settlements(&self) -> bool {
        !self.ledger.is_empty()
    }

    /// Sessions that came up so far.
    pub fn sessions(&self) -> u64 {
        self.sessions.ups
    }

    pub fn in_flight(&self) -> usize {
        self.flight.open()
    }

    /// Up to where the stream of new rows was read.
    pub fn cursor(&self) -> i64 {
        self.cursor
    }

    /// The first row that was read ahead and not yet sent.
    pub fn first_fresh(&self) -> i64 {
        self.fresh.front().map_or(i64::MAX, |row| row.id)
    }

    /// Unsettled rows that came from the stream and stand in memory.
    pub fn taken(&self) -> usize {
        let in_flight = self.flight.items().filter(|item| item.fresh && !self.suspects.contains(item.row.id));
        let others = self.resend.values().chain(self.suspects.items()).filter(|item| item.fresh);
        self.fresh.len() + in_flight.count() + others.count()
    }

    /// Rows that wait or are held and do not stand so in the table yet, less those that still do and are settled.
    pub fn unwritten(&self) -> i64 {
        self.ledger.hidden()
    }

    /// The topics closed to us, with the broker's words.
    pub fn closed_topics(&self) -> impl Iterator<Item = (&Arc<str>, &str)> {
        self.topics.iter().map(|(topic, closed)| (topic, closed.reason.as_str()))
    }

    /// Since when the broker has taken nothing of what was tried on this session, while nothing else is left to try.
    pub fn all_topics_shut(&self) -> Option<Duration> {
        let since = self.topics.all_shut()?;
        let is_shut = |item: &Item| self.topics.door(&item.row.topic) != Door::Open;
        let tried = self.at_end && self.fresh.is_empty();
        (tried && self.flight.items().chain(self.resend.values()).chain(self.suspects.items()).all(is_shut))
            .then_some(since)
    }

    /// When the next closed topic is tried again.
    pub fn next_topic(&self) -> Option<Duration> {
        self.topics.next_due()
    }
}
