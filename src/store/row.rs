//! The words that the forwarder and the store speak with each other.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::message::{Message, MessageId};

/// What the forwarder must know of a row to decide about it: everything but the message itself.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Row {
    pub id: i64,
    pub topic: Arc<str>,
    pub key: Option<Arc<str>>,
    /// Bytes on the wire, about: [`Message::size`].
    pub size: usize,
    /// Sendings that were settled so far.
    pub attempts: u32,
    /// The wait drawn when it was last refused for a while.
    pub wait: Duration,
    /// Whether its commit is known to have been synced.
    pub synced: bool,
    /// Whether, when it was read, the table held other rows in the lane of its key. Only looked up when asked for.
    pub lane_held: bool,
}

/// The message of a row, or why there is none to send.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Message {
        id: MessageId,
        /// Its expiry is the whole of it, from `created_at` on, and may be over.
        message: Box<Message>,
        /// Unix milliseconds; 0 where nothing expires.
        created_at: i64,
    },
    /// Not to be sent, ever: it breaks a rule, does not match its checksum, or is too large. The reason, in words.
    Spoiled(String),
}

/// Why rows wait together, and in whose order they go again: `outbox.held_by`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum Lane {
    Key(Arc<str>),
    Topic(Arc<str>),
}

impl Lane {
    const KEY: &str = "key ";
    const TOPIC: &str = "topic ";

    /// Reads what [`Display`](fmt::Display) writes into `held_by`.
    pub fn parse(text: &str) -> Option<Lane> {
        let key = text.strip_prefix(Self::KEY).map(|key| Lane::Key(key.into()));
        key.or_else(|| text.strip_prefix(Self::TOPIC).map(|topic| Lane::Topic(topic.into())))
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lane::Key(key) => write!(f, "{}{key}", Self::KEY),
            Lane::Topic(topic) => write!(f, "{}{topic}", Self::TOPIC),
        }
    }
}

/// What becomes of a row.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Fate {
    /// Acknowledged: SENT, one attempt more, held by nothing.
    Sent,
    /// Parked: FAILED, one attempt more, held by nothing, with its reason.
    Failed { reason: String },
    /// Refused for now: PENDING, one attempt more, with the drawn wait and the reason; in its key's lane if it has one.
    Waiting { wait: Duration, reason: String, lane: Option<Lane> },
    /// Not refused itself, but waits behind something: PENDING, nothing charged, in that lane.
    Held { lane: Lane },
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Settlement {
    pub id: i64,
    pub fate: Fate,
}

/// What one settling transaction writes.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Batch {
    /// In the order in which they were decided; a later one for the same row stands.
    pub settlements: Vec<Settlement>,
    /// Up to where every row is settled, waiting or held; written when it is given.
    pub position: Option<i64>,
    /// Whether the commit must be synced, which makes every earlier commit of anybody durable.
    pub synced: bool,
}

/// Which rows to read, in the order of their ids. `after` is exclusive.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Query {
    /// Rows nobody has dealt with yet: neither SENT nor FAILED, no attempts, not held. Until `rows` or `bytes` are reached (the row
    /// that reaches it included). `lanes`: look up [`Row::lane_held`].
    Fresh { after: i64, rows: usize, bytes: usize, lanes: bool },
    /// Rows to be sent again: neither SENT nor FAILED, with attempts, in no lane.
    Again { after: i64, rows: usize },
    /// Rows of one lane.
    Lane { lane: Lane, after: i64, rows: usize },
    /// The lanes that there are, in their own order, each with its first row.
    Lanes { after: Option<Lane>, rows: usize },
}
