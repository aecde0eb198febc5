//! The seam between the forwarder and whatever carries messages away.
//!
//! Here stand the trait [`Broker`], what passes through it, and one file or folder per adapter. A broker has never
//! heard of SQLite, of rows that wait, or of retries: it is one session at a time and nothing more.

pub mod in_process;
pub(crate) mod mailbox;
#[cfg(feature = "mqtt")]
mod mqtt;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

pub use self::in_process::InProcess;
use self::mailbox::{Event, Mailbox, Outcome, Ticket};
use crate::message::{Message, MessageId};

#[cfg(all(any(test, fuzzing), feature = "tls"))]
pub(crate) use self::mqtt::fuzzing as mqtt_fuzzing;
#[cfg(feature = "mqtt")]
pub use self::mqtt::{LastWill, Mqtt, MqttSettings, Protocol, TlsSettings};

/// Carries messages to where they go: one session at a time.
///
/// # The contract, for those who write an adapter
///
/// The forwarder calls [`connect`](Self::connect) with a fresh [`Link`]. The adapter begins a session in its own
/// thread, says [`Link::up`] once messages can be taken, and [`Link::down`] when the session has ended for whatever
/// reason; only then, or after [`disconnect`](Self::disconnect), does the forwarder connect again, after its own
/// backoff. While the session is up the forwarder calls [`send`](Self::send).
///
/// *Settling.* Each [`Delivery`] comes with a [`Receipt`], the right to settle it once. Acknowledge it when, and only
/// when, the other side has said that *this* message is safe. An adapter whose session breaks drops the receipts it
/// holds: a dropped receipt says "not delivered", and the forwarder reads the row and sends it again. So the error
/// path of an adapter is to let go of everything, and a forgotten receipt can never become a lost message. It may do
/// so before it says [`Link::down`] or after. A receipt of an earlier session may still be acknowledged late: that
/// counts.
///
/// *Order.* Deliveries are to leave in the order in which they came through `send`.
///
/// *What the adapter does not do.* It does not retry, does not back off, does not time out single messages, does not
/// keep messages over the end of a session: the forwarder owns all that, and the table is the only queue.
///
/// *Never block.* None of the methods may wait for the network or the disk; they are called on the thread that reads
/// and settles. A panic in one of them stops the forwarder and is reported by
/// [`Outbox::status`](crate::Outbox::status).
///
/// `examples/own_adapter.rs` is a complete one.
pub trait Broker: Send + 'static {
    /// Begins one session and returns at once. May be called as soon as the session before has ended or was told to.
    fn connect(&mut self, link: Link);

    /// Takes deliveries from the front of `queue`, in order, as many as there is room for. What stays in it is offered
    /// again after the next thing the adapter says. Within the [`Limits`] that it announced an adapter has room.
    fn send(&mut self, queue: &mut VecDeque<Delivery>);

    /// Ends the session, politely if there is time: by `until` every delivery is settled or its receipt dropped, and
    /// the [`Link`] is dropped. A time already past means at once. Returns without waiting for it.
    fn disconnect(&mut self, until: Instant);

    /// Asks the other side for a sign of life, to be passed on with [`Link::alive`]. Called rarely: when a quiet session
    /// must be shown to stand, to tell a message that brokers hang up on from a link that breaks by itself. Defaults to
    /// nothing: then the forwarder waits for a minute without a word of an end.
    fn ping(&mut self) {}

    /// What [`Outbox::enqueue`](crate::Outbox::enqueue) asks, on the caller's thread, before it writes a message: so
    /// that the caller's transaction fails, and not the forwarder an hour later. Asked once, when the outbox is
    /// opened. Defaults to none: everything within the outbox's own limits is taken.
    fn check(&self) -> Option<Check> {
        None
    }
}

/// An adapter's own rule for messages, asked on every thread that enqueues.
pub type Check = Arc<dyn Fn(&Message) -> Result<(), Refusal> + Send + Sync>;

impl Broker for Box<dyn Broker> {
    fn connect(&mut self, link: Link) {
        (**self).connect(link);
    }
    fn send(&mut self, queue: &mut VecDeque<Delivery>) {
        (**self).send(queue);
    }
    fn disconnect(&mut self, until: Instant) {
        (**self).disconnect(until);
    }
    fn ping(&mut self) {
        (**self).ping();
    }
    fn check(&self) -> Option<Check> {
        (**self).check()
    }
}

/// One message and the right to settle it.
///
/// Take it apart: the message may be moved into a client, the receipt is kept until the answer comes.
#[derive(Debug)]
#[non_exhaustive]
pub struct Delivery {
    /// The message's name, to be carried along so that a consumer recognises a repetition.
    pub id: MessageId,
    /// Whether this message may have been delivered before: it was in flight when a session ended, was dealt with
    /// before, or is one of the first after a start. It may as well never have been delivered.
    pub possible_duplicate: bool,
    /// What to carry. Its [expiry](Message::expiry), if it has one, is what was left of it at the handing over.
    pub message: Message,
    /// The right to settle it.
    pub receipt: Receipt,
}

impl Delivery {
    pub(crate) fn new(id: MessageId, possible_duplicate: bool, message: Message, receipt: Receipt) -> Self {
        Delivery { id, possible_duplicate, message, receipt }
    }

    /// The broker has it: see [`Receipt::acknowledge`].
    pub fn acknowledge(self) {
        self.receipt.acknowledge();
    }

    /// The broker does not take it: see [`Receipt::reject`].
    pub fn reject(self, refusal: Refusal) {
        self.receipt.reject(refusal);
    }
}

/// The right to settle one sending of one message, once. Dropped unsettled it says "not delivered", and the message is
/// sent again.
pub struct Receipt {
    ticket: Ticket,
    home: Option<Arc<Mailbox>>,
}

impl Receipt {
    pub(crate) fn new(ticket: Ticket, home: Arc<Mailbox>) -> Self {
        Receipt { ticket, home: Some(home) }
    }

    /// The other side has said that it has this very message: its row becomes SENT.
    pub fn acknowledge(mut self) {
        self.settle(Outcome::Acknowledged);
    }

    /// The message has left, and no answer to it will ever come, as with QoS 0: its row becomes SENT. Unlike an
    /// acknowledgement it does not show that the other side lives.
    pub fn handed_over(mut self) {
        self.settle(Outcome::HandedOver);
    }

    /// The adapter itself does not take this message, because the other side would not (it is larger than what was agreed
    /// on, say). As [`reject`](Self::reject), but it does not show that the other side lives.
    pub fn withhold(mut self, refusal: Refusal) {
        self.settle(Outcome::Withheld(refusal));
    }

    /// The other side has said that it does not take this message; `refusal` says for how long that holds.
    pub fn reject(mut self, refusal: Refusal) {
        self.settle(Outcome::Refused(refusal));
    }

    fn settle(&mut self, outcome: Outcome) {
        if let Some(home) = self.home.take() {
            home.post(Event::Settled(self.ticket, outcome));
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.settle(Outcome::NotDelivered);
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receipt({:?})", self.ticket)
    }
}

/// Why a broker does not take a message, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Refusal {
    /// What follows for the message.
    pub verdict: Verdict,
    /// The broker's own words, for the row's `last_error`, the log and the status. Without the payload, without
    /// secrets; cut after [`MAX_REASON`] bytes.
    pub reason: String,
}

/// Longest reason that is kept with a row, in bytes.
pub const MAX_REASON: usize = 1_024;

impl Refusal {
    /// A refusal for `reason`, with the consequence `verdict`.
    pub fn new(verdict: Verdict, reason: impl Into<String>) -> Self {
        Refusal { verdict, reason: reason.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// What follows from a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// This message can never be accepted (too large, invalid topic): it is parked as FAILED at once.
    Never,
    /// Not now: one attempt is spent, the message waits, and messages of its key that were not yet sent wait behind it.
    Later,
    /// The broker refused a group of messages: this one is sent again by itself before it is judged.
    Alone,
    /// The topic is closed to us (not authorised, unknown, quota): the topic pauses and is tried again later; nothing
    /// is charged to the message.
    Topic,
}

/// A session's voice. Cheap to clone. When the last clone is dropped without [`down`](Self::down), the session counts
/// as ended because the adapter fell silent.
#[derive(Clone)]
pub struct Link(Arc<LinkEnd>);

struct LinkEnd {
    session: u64,
    home: Arc<Mailbox>,
}

impl Link {
    pub(crate) fn new(session: u64, home: Arc<Mailbox>) -> Self {
        Link(Arc::new(LinkEnd { session, home }))
    }

    /// The session stands; messages can be sent within `limits`. Say it once.
    pub fn up(&self, limits: Limits) {
        self.0.home.post(Event::Up(self.0.session, limits));
    }

    /// The other side answered something that settles no message, a [ping](Broker::ping) for instance.
    pub fn alive(&self) {
        self.0.home.post(Event::Alive(self.0.session));
    }

    /// What can be heard of the adapter even while no session stands.
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.0.home))
    }

    /// The session has ended. The first word counts, later ones are ignored.
    pub fn down(&self, why: Down) {
        self.0.home.post(Event::Down(self.0.session, why));
    }
}

impl Drop for LinkEnd {
    fn drop(&mut self) {
        self.home.post(Event::Down(self.session, Down::Unreachable("the adapter fell silent".into())));
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link(session {})", self.0.session)
    }
}

/// Ends the forwarder's waiting. Outlives the session that it came from; cheap to clone.
#[derive(Clone)]
pub struct Waker(Arc<Mailbox>);

impl Waker {
    /// What was in the way may be gone: closed topics, and the next session, are tried now instead of at the end of
    /// their wait. For adapters that can know, say it once each time; nothing depends on it but how soon.
    pub fn wake(&self) {
        self.0.post(Event::TryNow);
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}

/// How much may be in flight in a session. The forwarder stays within the smaller of this and its own settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Messages sent and not yet settled, counted from the oldest of them.
    pub window: usize,
    /// Bytes of messages sent and not yet settled. A larger message goes alone.
    pub bytes: usize,
}

impl Limits {
    /// No limit of the adapter's own: the forwarder's settings alone hold.
    pub const UNLIMITED: Limits = Limits { window: usize::MAX, bytes: usize::MAX };
}

/// Why a session ended. Decides how soon the next one is tried.
#[derive(Debug)]
pub enum Down {
    /// Nobody there, cut, timed out. Charged to nobody; tried again with exponential backoff.
    Unreachable(Cause),
    /// The other side does not want this session (credentials, certificate, not allowed): tried again at the slow end
    /// of the backoff, and reported as refused.
    Refused(Cause),
    /// The adapter ended it by its own choice and would like a fresh one at once. Nobody is to blame.
    Recycled,
}

/// The error behind the end of a session. Its texts and those of its sources go into the log and the status: no
/// secrets in them.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;
