//! What the forwarder's thread leaves for the session's thread.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::broker::Delivery;

/// Deliveries on their way to the session, and the word to stop. One lock and one wake per batch, in both directions.
#[derive(Default)]
pub(super) struct Inbox {
    left: Mutex<Left>,
    changed: Notify,
}

#[derive(Default)]
struct Left {
    deliveries: VecDeque<Delivery>,
    until: Option<Instant>,
    closed: bool,
}

impl Inbox {
    /// Moves all of `queue` here; leaves it alone once the session has ended. Bounded by the limits that the session
    /// announced, within which the forwarder stays.
    pub fn put(&self, queue: &mut VecDeque<Delivery>) {
        if queue.is_empty() {
            return;
        }
        let mut left = self.lock();
        if !left.closed {
            left.deliveries.append(queue);
            drop(left);
            self.changed.notify_one();
        }
    }

    /// Tells the session to end by `until`. Of several words the earliest counts.
    pub fn stop(&self, until: Instant) {
        let mut left = self.lock();
        left.until = Some(left.until.map_or(until, |earlier| earlier.min(until)));
        drop(left);
        self.changed.notify_one();
    }

    /// Moves what has come behind `queue`; answers by when the session has to end, if it has to.
    pub fn take(&self, queue: &mut VecDeque<Delivery>) -> Option<Instant> {
        let mut left = self.lock();
        queue.append(&mut left.deliveries);
        left.until
    }

    /// Waits until there is something to [`take`](Self::take).
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Takes no more. What nobody took comes back as not delivered.
    pub fn close(&self) {
        let unsent = {
            let mut left = self.lock();
            left.closed = true;
            mem::take(&mut left.deliveries)
        };
        drop(unsent); // receipts speak with the mailbox: not under our lock
    }

    fn lock(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
