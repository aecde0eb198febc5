//! The receiving end.

use std::fmt;
use std::sync::mpsc::{RecvError, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Condvar};
use std::time::{Duration, Instant};

use super::shared::Shared;
use super::state::{Letter, Place, State};
use crate::broker::Refusal;
use crate::message::{Message, MessageId};

/// Receives the messages of the topics that it was made for, from its making on.
///
/// Its methods are those of a channel's receiver, and speak with the words of [`std::sync::mpsc`]. Several threads may
/// receive from one subscriber: each message goes to one of them. Messages wait here without a copy of their own, at
/// most one [window](super::Builder::limits) of them per outbox.
///
/// Dropping it ends the subscription; what still waited in it is sent again, to whoever then subscribes.
pub struct Subscriber {
    shared: Arc<Shared>,
    number: u64,
    ready: Arc<Condvar>,
}

impl Subscriber {
    pub(super) fn new(shared: Arc<Shared>, number: u64, ready: Arc<Condvar>) -> Self {
        Subscriber { shared, number, ready }
    }

    /// Waits for the next message.
    ///
    /// # Errors
    /// [`RecvError`] once every handle to the broker is gone, the outbox's included: nothing can come any more.
    pub fn recv(&self) -> Result<Arrival, RecvError> {
        self.wait(None).ok_or(RecvError)
    }

    /// Waits for the next message, for at most `timeout`.
    ///
    /// # Errors
    /// [`RecvTimeoutError::Timeout`] if none came, [`RecvTimeoutError::Disconnected`] once none can come any more.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Arrival, RecvTimeoutError> {
        // A deadline too far away for the clock is none.
        self.wait(Instant::now().checked_add(timeout)).ok_or_else(|| match self.disconnected() {
            true => RecvTimeoutError::Disconnected,
            false => RecvTimeoutError::Timeout,
        })
    }

    /// Takes the next message if one is there.
    ///
    /// # Errors
    /// [`TryRecvError::Empty`] if none is, [`TryRecvError::Disconnected`] once none can come any more.
    pub fn try_recv(&self) -> Result<Arrival, TryRecvError> {
        match self.shared.change(|state| state.next_for(self.number)) {
            Some(letter) => Ok(self.arrival(letter)),
            None if self.disconnected() => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty),
        }
    }

    /// Every message there will be: waits for each, and ends once every handle to the broker is gone.
    pub fn iter(&self) -> impl Iterator<Item = Arrival> {
        std::iter::from_fn(|| self.recv().ok())
    }

    /// Every message that is there now; never waits.
    pub fn try_iter(&self) -> impl Iterator<Item = Arrival> {
        std::iter::from_fn(|| self.try_recv().ok())
    }

    fn wait(&self, until: Option<Instant>) -> Option<Arrival> {
        let letter = self.shared.wait_for(&self.ready, until, |state| state.next_for(self.number))?;
        Some(self.arrival(letter))
    }

    fn disconnected(&self) -> bool {
        self.shared.read(|state| !state.in_use())
    }

    fn arrival(&self, letter: Letter) -> Arrival {
        let Letter { place, id, possible_duplicate, message } = letter;
        let answer = Answer { shared: Arc::clone(&self.shared), place: Some(place) };
        Arrival { id, possible_duplicate, message, answer }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.shared.change(|state| state.unsubscribe(self.number));
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subscriber({})", self.number)
    }
}

/// A message that arrived, and the right to answer it.
///
/// Dropped without an answer it counts as not delivered, and is sent again to every subscriber of its topic: as it is
/// when a consumer dies at its work. So acknowledge when the work is done, within
/// [`Settings::ack_timeout`](crate::Settings::ack_timeout).
#[derive(Debug)]
#[must_use = "an arrival that is dropped without `acknowledge` is sent again"]
#[non_exhaustive]
pub struct Arrival {
    /// The same each time this message arrives: what a consumer remembers to know a repetition.
    pub id: MessageId,
    /// Whether it may have arrived before.
    pub possible_duplicate: bool,
    /// The message, shared with the other subscribers.
    pub message: Arc<Message>,
    answer: Answer,
}

impl Arrival {
    /// This subscriber has it. The message is SENT once all that it arrived at have said so.
    ///
    /// Says nothing if the session has ended meanwhile: then the message arrives again.
    pub fn acknowledge(mut self) {
        self.answer.give(|state, place| state.acknowledged(place, Instant::now()));
    }

    /// The message is not taken, by anybody, for the reason and with the consequence that `refusal` states. The first
    /// word of any subscriber decides.
    pub fn reject(mut self, refusal: Refusal) {
        self.answer.give(|state, place| state.rejected(place, refusal));
    }
}

struct Answer {
    shared: Arc<Shared>,
    place: Option<Place>,
}

impl Answer {
    fn give(&mut self, answer: impl FnOnce(&mut State, Place)) {
        if let Some(place) = self.place.take() {
            self.shared.change(|state| answer(state, place));
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.give(State::let_go);
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.place.is_some() { "open" } else { "given" })
    }
}
