//! What the dispatcher goes by: the settings that concern it, and the limits of everything it keeps in memory.

use std::time::Duration;

use crate::settings::{Backoff, ClosedTopics, Ordering, Settings};

/// The slowest link that is promised to work, in bytes per second.
pub(crate) const SLOWEST_LINK: u64 = 1024;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Rules {
    pub window: usize,
    pub window_bytes: usize,
    pub ordering: Ordering,
    pub closed_topics: ClosedTopics,
    pub max_attempts: u32,
    pub retry: Backoff,
    pub reconnect: Backoff,
    pub ack_timeout: Duration,
    pub settle_after: Duration,
    pub poll_interval: Duration,
    pub bounds: Bounds,
}

/// How much of each thing stands in memory. None of it depends on the backlog.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Bounds {
    /// Rows read and not yet sent.
    pub read_rows: usize,
    /// Bytes of them.
    pub read_bytes: usize,
    /// Settlements decided and not yet written.
    pub settlements: usize,
    /// Rows that the position may run ahead of the one that is stored, and settlements that may stand unsynced.
    pub position: i64,
    /// Lanes known in memory; the others wait in the table alone.
    pub lanes: usize,
    /// Lanes that are being emptied at one time.
    pub active_lanes: usize,
    /// Rows of one lane read and not yet sent.
    pub lane_rows: usize,
    /// Rows without a lane whose waits are timed.
    pub waiting: usize,
    /// Rows that sessions died on.
    pub suspects: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            read_rows: 512,
            read_bytes: 256 * 1024,
            settlements: 500,
            position: 1_000,
            lanes: 1_024,
            active_lanes: 16,
            lane_rows: 32,
            waiting: 1_024,
            suspects: 16,
        }
    }
}

impl Rules {
    /// A wait that stands in the table: no longer than one that would be drawn now, whoever wrote it.
    pub fn believable(&self, wait: Duration) -> Duration {
        wait.min(self.retry.longest)
    }
}

impl From<&Settings> for Rules {
    fn from(settings: &Settings) -> Self {
        Rules {
            window: settings.window,
            window_bytes: settings.window_bytes,
            ordering: settings.ordering,
            closed_topics: settings.closed_topics,
            max_attempts: settings.max_attempts,
            retry: settings.retry,
            reconnect: settings.reconnect,
            ack_timeout: settings.ack_timeout,
            settle_after: settings.settle_after,
            poll_interval: settings.poll_interval,
            bounds: Bounds::default(),
        }
    }
}
