//! What an outbox tells of itself.

use std::time::{Duration, Instant, SystemTime};

use crate::{Error, Message, MessageId};

/// How the forwarder stands, from [`Outbox::status`](crate::Outbox::status).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// What this outbox is for its database.
    pub role: Role,
    /// The session with the broker. Only an [`Active`](Role::Active) forwarder has one.
    pub link: LinkState,
    /// Topics that the broker closed to us, at most 1,024. They are tried again by themselves.
    pub closed_topics: Vec<ClosedTopic>,
    /// How the database takes what the forwarder writes.
    pub storage: Storage,
    /// What forwarder or adapter said when it panicked. Calls that write or wait answer
    /// [`Error::Panicked`](crate::Error::Panicked) from then on; looking at messages still works.
    pub failed: Option<String>,
}

/// Who forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// This outbox was opened without a broker: it only writes.
    Writer,
    /// Another forwarder, of this process or another, has the database; this one takes over when that one ends, within
    /// a second or two.
    Standby,
    /// This one forwards.
    Active,
    /// It was shut down; or it has ended since the `-wal` was deleted, and `storage` says so.
    Stopped,
}

/// The session with the broker. [`Connecting`](Self::Connecting) where this outbox does not forward.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkState {
    /// On its way.
    Connecting,
    /// It stands.
    Up,
    /// The broker cannot be reached. Nothing is charged to any message.
    Offline {
        /// Since when there is no session.
        since: Instant,
        /// When the next one is tried.
        next_try: Instant,
        /// Why the last one ended or could not be had.
        why: String,
    },
    /// The broker does not want this client: credentials, certificate, not allowed. Nothing is charged to any message.
    Refused {
        /// Since when there is no session.
        since: Instant,
        /// When the next one is tried; in the past while it is. [`Outbox::resume`](crate::Outbox::resume) does not wait
        /// for it.
        next_try: Instant,
        /// Its words.
        why: String,
    },
    /// It stands, and nothing goes through it: every topic that was tried is closed, nothing was sent on it, and nothing
    /// else is left to try. [`Status::closed_topics`] has the broker's words.
    TopicsClosed {
        /// Since when the broker has said nothing else.
        since: Instant,
        /// When one of them is tried again.
        next_try: Instant,
    },
    /// [`Outbox::pause`](crate::Outbox::pause) was called.
    Paused,
}

/// A topic that the broker closed to us.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClosedTopic {
    /// Its name.
    pub topic: String,
    /// The broker's words.
    pub reason: String,
}

impl ClosedTopic {
    pub(crate) fn new(topic: &str, reason: &str) -> Self {
        ClosedTopic { topic: topic.to_owned(), reason: reason.to_owned() }
    }
}

/// How the database takes what the forwarder writes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Storage {
    /// As it should.
    Ok,
    /// Another connection keeps it locked.
    Busy,
    /// There is no space left, or less than the outbox is to leave to others: it takes no new messages.
    Full,
    /// SQLite found it damaged: stop the program, keep a copy, and recover it with the shell's `.recover`.
    Damaged(String),
    /// It was deleted, moved or replaced, or its `-wal` or `-shm` was: see [`Error::Replaced`].
    Replaced(String),
    /// It answers with another error; tried again by itself.
    Failing(String),
}

impl Storage {
    pub(crate) fn of(error: &Error) -> Self {
        let words = || crate::error::chain(error);
        match error {
            Error::Busy(_) => Storage::Busy,
            Error::DiskFull(_) | Error::Full(_) => Storage::Full,
            Error::Damaged(_) => Storage::Damaged(words()),
            Error::Replaced { .. } => Storage::Replaced(words()),
            _ => Storage::Failing(words()),
        }
    }
}

/// Figures, from [`Outbox::stats`](crate::Outbox::stats).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Messages committed and not yet settled.
    pub pending: u64,
    /// Their bytes, as [`Message::size`] counts them, but headers by the text they stand in the table as, and each message
    /// by what it had when it was written. A message that was acknowledged counts until that is written down, for
    /// [`Settings::settle_after`](crate::Settings::settle_after).
    pub pending_bytes: u64,
    /// Of the pending ones, those that wait: refused for a while, or behind one that was, or of a closed topic.
    pub waiting: u64,
    /// Messages parked as FAILED.
    pub failed: u64,
    /// Messages that this forwarder wrote down as SENT since it was opened.
    pub sent: u64,
    /// Messages that this forwarder parked as damaged since it was opened: what their rows say is not what was enqueued.
    /// They are among the [failed](Self::failed) ones.
    pub damaged: u64,
    /// Rows that were passed over, ever, because the file is damaged where they stand, or because they cannot be written
    /// any more. Where a page cannot be read nobody knows what its rows were: some may have been sent long before. See
    /// [`Storage::Damaged`].
    pub unreadable: u64,
    /// Messages handed to the broker and not yet settled.
    pub in_flight: u64,
    /// Sessions after the first one.
    pub reconnects: u64,
    /// How long ago, by the wall clock, the oldest pending message was enqueued; 0 where the clock went back since.
    pub oldest_pending: Option<Duration>,
}

/// A message that was parked as FAILED.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailedMessage {
    /// Its name; [`MessageId::row`] is what [`Outbox::retry`](crate::Outbox::retry) takes.
    pub id: MessageId,
    /// Where it was to go.
    pub topic: String,
    /// Its key.
    pub key: Option<String>,
    /// Why it was parked.
    pub reason: String,
    /// Sendings that were settled.
    pub attempts: u32,
    /// Bytes on the wire, about: [`Message::size`].
    pub size: u64,
    /// When it was enqueued, by the wall clock of that time.
    pub created_at: SystemTime,
    /// When it was parked, by the wall clock of that time.
    pub failed_at: SystemTime,
}

/// A message as it stands in the table, from [`Outbox::message`](crate::Outbox::message).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredMessage {
    /// Its name.
    pub id: MessageId,
    /// What became of it so far.
    pub state: MessageState,
    /// When it took that state, by the wall clock of that time.
    pub since: SystemTime,
    /// When it was enqueued, by the wall clock of that time.
    pub created_at: SystemTime,
    /// Sendings that were settled.
    pub attempts: u32,
    /// The last reason for which it was refused or parked.
    pub last_error: Option<String>,
    /// What it waits behind: `key ` and a key, or `topic ` and a topic.
    pub held_by: Option<String>,
    /// Bytes on the wire, about: [`Message::size`].
    pub size: u64,
    /// The message, with the whole [expiry](Message::expiry) it was given; or why there is none that could be sent, in
    /// words.
    pub message: Result<Message, String>,
}

/// What became of a message so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MessageState {
    /// It is to be sent.
    Pending,
    /// The broker acknowledged it.
    Sent,
    /// It is parked until somebody retries or discards it.
    Failed,
    /// The row says none of these: somebody or something wrote over it. It will be parked.
    Damaged,
}
