//! Everything that comes back to the forwarder's thread, and how it is woken.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{Down, Limits, Refusal};

/// Which row, and which sending of it: a late word about an earlier sending can still acknowledge, never fail.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Ticket {
    pub row: i64,
    pub sending: u64,
}

/// What an adapter said about one sending.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Outcome {
    Acknowledged,
    /// Gone, and no answer will come: QoS 0.
    HandedOver,
    Refused(Refusal),
    /// Refused by ourselves: the other side was not asked.
    Withheld(Refusal),
    NotDelivered,
}

/// What comes back from the adapter and from the application. The number is the session's.
#[derive(Debug)]
pub(crate) enum Event {
    Settled(Ticket, Outcome),
    Up(u64, Limits),
    Alive(u64),
    Down(u64, Down),
    /// Waits for closed topics and for the next session are over: the adapter knows of a change.
    TryNow,
    Command(Command),
}

/// What the application asks of the forwarder.
#[derive(Debug)]
pub(crate) enum Command {
    Pause,
    Resume,
    Flush(Flush),
    /// Come to an end: answers are awaited until the first time, and written down until the second.
    Stop {
        politely: Instant,
        until: Instant,
    },
}

/// A caller that waits until everything committed by then is settled.
#[derive(Debug)]
pub(crate) struct Flush {
    pub done: Sender<()>,
    /// When the caller gives up.
    pub until: Option<Instant>,
}

/// Where events wait for the forwarder: no send per message, one wake per burst. Bounded by what can be said: one
/// settlement per delivery in flight, a few words per session, and the callers that wait.
pub(crate) struct Mailbox {
    events: Mutex<Vec<Event>>,
    /// Something was committed in this process. A flag, for there may be any number of writers.
    committed: AtomicBool,
    wake: Sender<()>,
}

impl Mailbox {
    /// The mailbox, and the channel on which its owner waits.
    pub fn new() -> (Arc<Self>, Receiver<()>) {
        let (wake, woken) = bounded(1);
        (Arc::new(Mailbox { events: Mutex::default(), committed: AtomicBool::new(false), wake }), woken)
    }

    pub fn post(&self, event: Event) {
        let first = {
            let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
            events.push(event);
            events.len() == 1
        };
        if first {
            let _ = self.wake.try_send(()); // full: a wake is already on its way
        }
    }

    /// Says that something was committed.
    pub fn committed(&self) {
        if !self.committed.swap(true, Ordering::AcqRel) {
            let _ = self.wake.try_send(());
        }
    }

    /// Whether something was committed since the last call.
    pub fn take_committed(&self) -> bool {
        self.committed.swap(false, Ordering::AcqRel)
    }

    /// Swaps what has come into the empty `into`.
    pub fn take(&self, into: &mut Vec<Event>) {
        mem::swap(into, &mut *self.events.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
