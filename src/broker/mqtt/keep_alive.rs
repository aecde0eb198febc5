//! When to ask the broker for a sign of life, and when to give it up.

use std::time::{Duration, Instant};

/// Keeps the broker from taking us for dead, and notices when it is dead itself.
///
/// While messages are unanswered the forwarder watches over the connection, by the bytes in flight; a ping behind a
/// large message on a slow link says nothing. So a missing answer counts only when nothing else is in flight.
pub(super) struct KeepAlive {
    every: Duration,
    sent: Instant,
    heard: Instant,
    /// Since when an answer to a ping is due.
    asked: Option<Instant>,
}

impl KeepAlive {
    pub fn new(every: Duration, now: Instant) -> Self {
        KeepAlive { every, sent: now, heard: now, asked: None }
    }

    /// Bytes went to the broker.
    pub fn sent(&mut self, now: Instant) {
        self.sent = now;
    }

    /// Something came from the broker.
    pub fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.asked = None;
    }

    /// A ping is on its way.
    pub fn asked(&mut self, now: Instant) {
        self.asked = Some(now);
        self.sent = now;
    }

    /// When to look at it again.
    pub fn due(&self, idle: bool) -> Instant {
        let quiet = match self.asked {
            Some(asked) if idle => asked,
            None if idle => self.sent.min(self.heard),
            _ => self.sent,
        };
        quiet + self.every
    }

    /// Whether a ping has gone without an answer for too long.
    pub fn is_overdue(&self, now: Instant, idle: bool) -> bool {
        idle && self.asked.is_some_and(|asked| asked + self.every <= now)
    }
}
