//! When to ask the broker for a sign of life, and when to give it up.

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
    ping: Option<Ping>,
}

/// A ping without an answer so far.
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
        KeepAlive { every, patience: every.max(ours), sent: now, heard: now, answered: 0, ping: None }
    }

    /// Bytes went to the broker.
    pub fn sent(&mut self, now: Instant) {
        self.sent = now;
    }

    /// The kernel has everything up to `flushed`.
    pub fn flushed(&mut self, flushed: u64) {
        if let Some(ping) = self.ping.as_mut().filter(|ping| ping.end <= flushed) {
            ping.left.get_or_insert_with(Instant::now);
        }
    }

    /// Something came from the broker.
    pub fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// A ping is to be sent, and ends there.
    pub fn asked(&mut self, now: Instant, end: u64) {
        self.sent = now;
        self.ping.get_or_insert(Ping { end, left: None });
    }

    /// The answer to a ping came: whether there was one to answer.
    pub fn ponged(&mut self) -> bool {
        let ping = self.ping.take();
        self.answered = ping.as_ref().map_or(self.answered, |ping| ping.end);
        ping.is_some()
    }

    /// When the next ping is due.
    pub fn due(&self) -> Instant {
        let quiet = if self.ping.is_none() { self.sent.min(self.heard) } else { self.sent };
        quiet + self.every
    }

    /// When an answer to a ping is overdue; the broker has answered what it was sent up to `answered`. What lies between
    /// may still be on its way, on a slow link behind a kernel's buffer. Whatever comes shows that the broker lives.
    pub fn overdue(&self, answered: u64) -> Option<Instant> {
        let Ping { end, left } = self.ping.as_ref()?;
        let on_the_way = end.saturating_sub(answered.max(self.answered));
        Some((*left)?.max(self.heard) + self.patience + Duration::from_secs(on_the_way / SLOWEST_LINK))
    }
}
