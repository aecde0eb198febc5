//! What the suite asks of whoever runs it: an adapter, the other side of it, and a hand on the link between them.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use edge_outbox::MessageId;
use edge_outbox::broker::{Broker, Verdict};

/// An adapter and its other side. Made new for each test, with nothing in it and the link up.
pub trait Subject {
    /// For the report.
    const NAME: &str;

    /// A fresh adapter to the same other side, as a program has that was started again.
    fn broker(&self) -> Box<dyn Broker>;

    /// Cuts the link, at once and for all sessions, and keeps it cut.
    fn break_link(&self);

    /// Lets sessions be had again.
    fn heal_link(&self);

    /// Where a consumer of every topic below [`ROOT`](super::ROOT) puts what it gets.
    fn inbox(&self) -> &Inbox;

    /// Does to the other side what `fault` says, until [`mend`](Self::mend).
    fn inflict(&self, fault: &Fault) -> Result<(), Cannot>;

    /// Takes back every fault.
    fn mend(&self);

    /// Whether a consumer gets a message's id.
    fn carries_ids(&self) -> Result<(), Cannot> {
        Ok(())
    }
}

/// What the other side of an adapter may do to it.
#[derive(Debug)]
pub enum Fault {
    /// Refuses the next `times` messages to `topic`.
    Refuse { topic: &'static str, verdict: Verdict, times: usize },
    /// Refuses new sessions as one does with wrong credentials.
    RefuseSessions,
    /// The next acknowledgements get lost on the way back; the consumer has the messages.
    LoseAcknowledgements(usize),
    /// Acknowledgements are so much late.
    DelayAcknowledgements(Duration),
    /// The next messages come to nothing without a word: their receipts are dropped.
    LetGo(usize),
    /// Ends the session whenever a message to the topic arrives.
    HangUp { topic: &'static str },
}

/// Why a fault cannot be shown with this subject. Said aloud, since a promise that was not tested is not kept.
#[derive(Debug)]
pub struct Cannot(pub &'static str);

/// Inflicts `fault`, or says on the terminal that this promise was not tested and why.
pub fn inflicted<S: Subject>(subject: &S, promise: &str, fault: &Fault) -> bool {
    can::<S>(promise, subject.inflict(fault))
}

/// Whether the subject can show this, or says on the terminal why not.
pub fn can<S: Subject>(promise: &str, answer: Result<(), Cannot>) -> bool {
    match answer {
        Ok(()) => true,
        Err(Cannot(why)) => {
            // Past the test harness, which would keep what `eprintln!` says of a test that passes.
            let _ = writeln!(io::stderr(), "NOT TESTED with {}: {promise}: {why}", S::NAME);
            false
        }
    }
}

/// One message as the consumer got it.
#[derive(Clone, PartialEq, Eq)]
pub struct Received {
    pub topic: String,
    pub payload: String,
    /// The header `id`, where the subject [carries it](Subject::carries_ids).
    pub id: Option<MessageId>,
}

impl Received {
    /// What tells a repetition from another message: in this suite no two say the same.
    pub fn name(&self) -> (Option<MessageId>, &str) {
        (self.id, &self.payload)
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.id.map(|id| format!("{id} ")).unwrap_or_default();
        write!(f, "{id}{:?} to {}", self.payload, self.topic)
    }
}

/// Everything the consumer got, in that order, repetitions included.
#[derive(Default)]
pub struct Inbox {
    received: Mutex<Vec<Received>>,
    grown: Condvar,
}

impl Inbox {
    pub fn put(&self, received: Received) {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).push(received);
        self.grown.notify_all();
    }

    pub fn all(&self) -> Vec<Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until `enough` holds of what was received, and returns that.
    #[track_caller]
    pub fn wait_until(&self, what: &str, timeout: Duration, enough: impl Fn(&[Received]) -> bool) -> Vec<Received> {
        let until = Instant::now() + timeout;
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        while !enough(&received) {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "not within {timeout:?}: {what}; {} received: {received:?}", received.len());
            received = self.grown.wait_timeout(received, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        received.clone()
    }
}
