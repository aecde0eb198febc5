//! A broker within the process: for tests, and to hand messages to another thread of the same program.
//!
//! [`InProcess`] is a whole broker with topics, subscriptions and acknowledgements, without a network. Its handles are
//! cheap to clone and all mean the same broker: one is given to the outbox, the others subscribe.
//!
//! ```
//! use edge_outbox::broker::InProcess;
//!
//! let broker = InProcess::new();
//! let temperatures = broker.subscribe("weather/+/temperature")?;
//!
//! // Outbox::builder("device.db").broker(broker.clone()).open()? ...
//! # drop(broker);
//!
//! for arrival in temperatures.iter() {
//!     println!("{} is {:?}", arrival.message.topic, arrival.message.payload.as_bytes());
//!     arrival.acknowledge();
//! }
//! # Ok::<(), edge_outbox::Error>(())
//! ```
//!
//! # When a message is sent
//!
//! A message is SENT when every subscriber that it arrived at has acknowledged it. An [`Arrival`] that is dropped
//! instead counts as not delivered: the message is sent again, to all of them. A message that nobody subscribes to
//! [waits](Unsubscribed::Wait): its topic counts as closed, nothing is charged to the message, other topics go on,
//! and it is sent by itself once somebody subscribes. Subscriptions live in memory, as long as their [`Subscriber`].
//!
//! What a slow subscriber has not acknowledged fills the window of the outbox: then nothing else is sent either, and
//! after [`Settings::ack_timeout`](crate::Settings::ack_timeout) the session is given up and all of it sent again.
//!
//! # Told to misbehave
//!
//! What brokers and networks do at their worst can be asked for, so that a program's tests can show how it stands it:
//! [`go_offline`](InProcess::go_offline), [`refuse_sessions`](InProcess::refuse_sessions),
//! [`close_topic`](InProcess::close_topic), [`refuse`](InProcess::refuse),
//! [`lose_acknowledgements`](InProcess::lose_acknowledgements),
//! [`delay_acknowledgements`](InProcess::delay_acknowledgements), [`hang_up_on`](InProcess::hang_up_on). As a real
//! broker does, this one leaves it to the outbox to find out that it is well again: a test that ends an outage
//! sets [`Settings::reconnect`](crate::Settings::reconnect) short. [`counts`](InProcess::counts),
//! [`wait_until`](InProcess::wait_until) and [`seen`](InProcess::seen) tell what arrived.
//!
//! ```
//! use std::time::Duration;
//! use edge_outbox::broker::{InProcess, Refusal, Verdict};
//!
//! let broker = InProcess::builder().record(100).build();
//! broker.go_offline();
//! // ... what does the program do with messages now?
//! broker.go_online();
//!
//! broker.refuse("alarms/#", Refusal::new(Verdict::Later, "quota exceeded"), 2)?;
//! // ... is the alarm sent a third time?
//! let in_time = broker.wait_until(Duration::from_millis(10), |counts| counts.acknowledged == 1);
//! assert!(!in_time); // nobody sends in this example
//! # Ok::<(), edge_outbox::Error>(())
//! ```

mod faults;
mod shared;
mod state;
mod subscriber;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar};
use std::time::{Duration, Instant};

use self::faults::Faults;
use self::shared::Shared;
use self::state::State;
pub use self::subscriber::{Arrival, Subscriber};
use crate::Error;
use crate::broker::{Broker, Delivery, Limits, Link, Refusal};
use crate::message::{Message, MessageId};
use crate::topic_filter::TopicFilter;

/// A handle to a broker within this process. See the [module](self) for how it works.
///
/// A clone is another handle to the same broker. Each handle can be given to an outbox of its own. The broker ends
/// with its last handle; its subscribers are then told so.
pub struct InProcess {
    shared: Arc<Shared>,
    handle: u64,
}

impl InProcess {
    /// A broker as [`Builder`] makes it by default.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A broker to be described.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Subscribes to the topics that match `filter`, by the rules of MQTT: `+` stands for one level, `#` for all that
    /// follow and for their parent, and topics that begin with `$` match no filter that begins with a wildcard.
    /// Messages that wait for somebody to subscribe are tried again at once.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `filter` breaks those rules, as do those below that take one.
    pub fn subscribe(&self, filter: &str) -> Result<Subscriber, Error> {
        let filter = TopicFilter::parse(filter)?;
        let ready = Arc::new(Condvar::new());
        let number = self.shared.change(|state| state.subscribe(filter, Arc::clone(&ready)));
        Ok(Subscriber::new(Arc::clone(&self.shared), number, ready))
    }

    /// Breaks every session, and refuses new ones as unreachable until [`go_online`](Self::go_online).
    pub fn go_offline(&self) {
        self.shared.change(|state| {
            state.faults.offline = true;
            state.cut("the in-process broker went offline");
        });
    }

    /// Takes sessions again.
    pub fn go_online(&self) {
        self.faults(|faults| faults.offline = false);
    }

    /// Breaks every session; new ones are taken.
    pub fn break_sessions(&self) {
        self.shared.change(|state| state.cut("the in-process broker broke the session"));
    }

    /// Refuses new sessions for `reason`, as a broker does with wrong credentials. Those that stand go on.
    pub fn refuse_sessions(&self, reason: impl Into<String>) {
        let reason = reason.into();
        self.faults(|faults| faults.refuse_sessions = Some(reason));
    }

    /// Ends [`refuse_sessions`](Self::refuse_sessions).
    pub fn accept_sessions(&self) {
        self.faults(|faults| faults.refuse_sessions = None);
    }

    /// Refuses messages to the topics of `filter` with [`Verdict::Topic`](crate::broker::Verdict::Topic), until
    /// [`open_topic`](Self::open_topic).
    ///
    /// # Errors
    /// [`Error::Invalid`] if `filter` is none.
    pub fn close_topic(&self, filter: &str, reason: impl Into<String>) -> Result<(), Error> {
        let (filter, reason) = (TopicFilter::parse(filter)?, reason.into());
        self.faults(|faults| faults.close(filter, reason));
        Ok(())
    }

    /// Takes back what [`close_topic`](Self::close_topic) said with the same `filter`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `filter` is none.
    pub fn open_topic(&self, filter: &str) -> Result<(), Error> {
        let filter = TopicFilter::parse(filter)?;
        self.faults(|faults| faults.open(&filter));
        Ok(())
    }

    /// Refuses the next `times` messages to the topics of `filter`, with the consequence that `refusal` states.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `filter` is none.
    pub fn refuse(&self, filter: &str, refusal: Refusal, times: usize) -> Result<(), Error> {
        let filter = TopicFilter::parse(filter)?;
        self.faults(|faults| faults.refuse(filter, refusal, times));
        Ok(())
    }

    /// The next `count` messages that the subscribers have acknowledged get no answer: the outbox never hears of it, as
    /// if the link had swallowed the word.
    pub fn lose_acknowledgements(&self, count: usize) {
        self.faults(|faults| faults.lose = count);
    }

    /// Answers come `by` later than they would, from now on. [`Duration::ZERO`] ends it; answers on their way keep
    /// their delay. Starts the broker's only thread, which ends with the last handle.
    pub fn delay_acknowledgements(&self, by: Duration) {
        self.faults(|faults| faults.delay = by);
    }

    /// Ends the session without a word when a message to the topics of `filter` arrives, each time, as brokers do that
    /// have no other way to refuse. Subscribers do not get it.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `filter` is none.
    pub fn hang_up_on(&self, filter: &str) -> Result<(), Error> {
        self.hang_up_late(filter, 0)
    }

    /// As [`hang_up_on`](Self::hang_up_on), but only once `younger` messages that came after it were acknowledged: so
    /// that it is not the last one sent that ended the session.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `filter` is none.
    pub fn hang_up_late(&self, filter: &str, younger: usize) -> Result<(), Error> {
        let filter = TopicFilter::parse(filter)?;
        self.faults(|faults| faults.hang_up(filter, younger));
        Ok(())
    }

    /// Ends all misbehaviour, and goes online. Answers on their way keep their delay, lost ones stay lost.
    pub fn behave(&self) {
        self.faults(|faults| *faults = Faults::default());
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.shared.read(|state| state.counts)
    }

    /// Waits until `reached` is content with the [`Counts`], for at most `timeout`; says whether it was.
    pub fn wait_until(&self, timeout: Duration, reached: impl Fn(&Counts) -> bool) -> bool {
        let until = Instant::now().checked_add(timeout);
        let mut counts = self.counts();
        loop {
            if reached(&counts) {
                return true;
            }
            match self.shared.wait_for_move(counts, until) {
                Some(moved) => counts = moved,
                None => return false,
            }
        }
    }

    /// The messages that arrived, in that order, refused ones and repetitions included: the latest ones, as many as
    /// [`Builder::record`] keeps.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.read(State::seen)
    }

    fn faults(&self, change: impl FnOnce(&mut Faults)) {
        self.shared.change(|state| change(&mut state.faults));
    }

    fn enter(shared: Arc<Shared>) -> Self {
        let handle = shared.change(State::enter);
        InProcess { shared, handle }
    }
}

impl Broker for InProcess {
    fn connect(&mut self, link: Link) {
        self.shared.change(|state| state.connect(self.handle, link));
    }

    fn send(&mut self, queue: &mut VecDeque<Delivery>) {
        self.shared.change(|state| state.send(self.handle, queue, Instant::now()));
    }

    fn ping(&mut self) {
        self.shared.read(|state| state.ping(self.handle));
    }

    fn disconnect(&mut self, until: Instant) {
        self.shared.change(|state| state.disconnect(self.handle, until, Instant::now()));
    }
}

impl Default for InProcess {
    fn default() -> Self {
        Self::new()
    }
}

/// Another handle to the same broker.
impl Clone for InProcess {
    fn clone(&self) -> Self {
        Self::enter(Arc::clone(&self.shared))
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        self.shared.change(|state| state.leave(self.handle));
    }
}

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProcess").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

/// Describes an [`InProcess`] broker.
#[derive(Clone, Debug)]
pub struct Builder {
    limits: Limits,
    unsubscribed: Unsubscribed,
    record: usize,
}

impl Default for Builder {
    fn default() -> Self {
        let limits = Limits { window: 1_024, bytes: usize::MAX };
        Builder { limits, unsubscribed: Unsubscribed::default(), record: 0 }
    }
}

impl Builder {
    /// How much an outbox may have in flight here, and with it how much can wait for one subscriber. 0 counts as 1.
    /// Defaults to 1,024 messages of any size: usually it is the outbox's own window that holds.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// What becomes of messages that nobody subscribes to. Defaults to [`Unsubscribed::Wait`].
    pub fn unsubscribed(mut self, unsubscribed: Unsubscribed) -> Self {
        self.unsubscribed = unsubscribed;
        self
    }

    /// How many messages [`InProcess::seen`] keeps, in memory, payloads included; older ones are forgotten. Defaults
    /// to 0.
    pub fn record(mut self, messages: usize) -> Self {
        self.record = messages;
        self
    }

    /// The broker, and its first handle.
    pub fn build(self) -> InProcess {
        InProcess::enter(Arc::new(Shared::new(State::new(&self))))
    }
}

/// What becomes of messages that nobody subscribes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Unsubscribed {
    /// They wait in the outbox until somebody does: their topic is refused with
    /// [`Verdict::Topic`](crate::broker::Verdict::Topic). With
    /// [`ClosedTopics::Park`](crate::ClosedTopics::Park) that parks them.
    #[default]
    Wait,
    /// They are acknowledged and gone, as with an MQTT broker.
    Acknowledge,
}

/// A message that arrived at the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seen {
    /// The message's name.
    pub id: MessageId,
    /// Whether the outbox said that it may have been delivered before.
    pub possible_duplicate: bool,
    /// The message.
    pub message: Message,
}

/// What happened at the broker since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Sessions asked for.
    pub connects: u64,
    /// Sessions that came about.
    pub sessions: u64,
    /// Messages that arrived, each time they did.
    pub received: u64,
    /// Messages that the outbox was told are safe.
    pub acknowledged: u64,
    /// Messages that were refused, for whatever reason; those that nobody subscribes to among them.
    pub refused: u64,
    /// Messages in flight now: arrived, and not yet settled.
    pub in_flight: usize,
    /// Subscribers now.
    pub subscribers: usize,
}
