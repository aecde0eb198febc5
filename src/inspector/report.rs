//! What an [`Inspector`](super::Inspector) tells.

use std::time::{Duration, SystemTime};

use crate::outbox::{state, wall_clock};
use crate::status::{FailedMessage, MessageState, Status};
use crate::store::Summary;
use crate::{MessageId, QoS};

/// What stands in the table, from [`Inspector::figures`](super::Inspector::figures).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figures {
    /// The schema's version.
    pub version: i64,
    /// Messages that are neither SENT nor FAILED.
    pub pending: u64,
    /// Their bytes, as [`Stats::pending_bytes`](crate::Stats::pending_bytes) counts them.
    pub pending_bytes: u64,
    /// Of the pending ones, those that were refused for a while and are tried again.
    pub waiting: u64,
    /// Of the pending ones, those that wait behind another of their key, or for their topic.
    pub held: u64,
    /// Messages parked as FAILED.
    pub failed: u64,
    /// Messages that are SENT and not yet purged.
    pub sent: u64,
    /// Rows that were passed over, ever, because the file is damaged where they stand.
    pub unreadable: u64,
    /// How long ago, by the wall clock, the oldest pending message was enqueued; 0 where the clock went back since.
    pub oldest_pending: Option<Duration>,
    /// The failed message that was enqueued last.
    pub last_failed: Option<FailedMessage>,
}

/// The database's files, from [`Inspector::files`](super::Inspector::files).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Files {
    /// Bytes of the database.
    pub database: u64,
    /// Bytes of the write-ahead log beside it; 0 for none.
    pub log: u64,
    /// Bytes of the [reserve](crate::Settings::reserve) beside it; 0 for none.
    pub reserve: u64,
    /// Bytes that the file system still has for everybody.
    pub free: u64,
}

/// Which messages [`Inspector::messages`](super::Inspector::messages) tells of. The default lets all through. Later
/// versions may add to it: end one with `..Filter::default()`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those of this state.
    pub state: Option<MessageState>,
    /// Those to a topic that this MQTT topic filter (`weather/#`, `+/roof`) matches.
    pub topic: Option<String>,
    /// Those of this key.
    pub key: Option<String>,
}

/// A message without its payload and headers, from [`Inspector::messages`](super::Inspector::messages).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MessageSummary {
    /// Its name.
    pub id: MessageId,
    /// What became of it so far.
    pub state: MessageState,
    /// When it took that state, by the wall clock of that time.
    pub since: SystemTime,
    /// When it was enqueued, by the wall clock of that time.
    pub created_at: SystemTime,
    /// Where it is to go.
    pub topic: String,
    /// Its key.
    pub key: Option<String>,
    /// Its quality of service; `None` where the row says none that there is.
    pub qos: Option<QoS>,
    /// MQTT's retain flag.
    pub retain: bool,
    /// Bytes on the wire, about: [`Message::size`](crate::Message::size).
    pub size: u64,
    /// Sendings that were settled.
    pub attempts: u32,
    /// The last reason for which it was refused or parked.
    pub last_error: Option<String>,
    /// What it waits behind: `key ` and a key, or `topic ` and a topic.
    pub held_by: Option<String>,
}

impl From<Summary> for MessageSummary {
    fn from(row: Summary) -> Self {
        MessageSummary {
            id: row.id,
            state: state(row.status),
            since: wall_clock(row.status_at),
            created_at: wall_clock(row.created_at),
            topic: row.topic,
            key: row.key,
            qos: row.qos,
            retain: row.retain,
            size: row.size as u64,
            attempts: row.attempts,
            last_error: row.last_error,
            held_by: row.held_by,
        }
    }
}

/// Who forwards, as another process can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Forwarder {
    /// Nobody.
    None,
    /// A forwarder that tells how it stands.
    Active(Live),
    /// There is one, or it cannot be told whether there is; and why it does not say how it stands.
    Silent(String),
}

/// How the forwarder stands that has the database, in whatever process it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Live {
    /// The id of its process.
    pub process: u32,
    /// For how long it has been the active one.
    pub active_for: Duration,
    /// What [`Outbox::status`](crate::Outbox::status) says there: [`Role::Standby`](crate::Role::Standby) while it has
    /// only just taken over, or cannot read the database. Closed topics are left out beyond 64 KiB of them, and reasons
    /// are cut after 2 KiB.
    pub status: Status,
    /// Topics that are closed, those left out included.
    pub closed_topics: u64,
    /// Messages that it wrote down as SENT since it was opened.
    pub sent: u64,
    /// Messages that it parked as damaged since it was opened.
    pub damaged: u64,
    /// Messages handed to the broker and not yet settled.
    pub in_flight: u64,
    /// Sessions after the first one.
    pub reconnects: u64,
}

/// What was looked at, and what is wrong with it, from [`Inspector::check`](super::Inspector::check).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checked {
    /// Rows of the outbox that were read.
    pub rows: u64,
    /// Of them, messages parked as FAILED. That by itself is no fault.
    pub failed: u64,
    /// What is wrong; nothing where the database is sound. Of each kind at most 100 are told one by one, and the rest of
    /// them is counted in one more.
    pub findings: Vec<Finding>,
    /// Why SQLite looked at the outbox's tables alone, and not at the application's: they use a collation or a function
    /// of the application's own, as a rule. `None` where it looked at everything.
    pub not_checked: Option<String>,
}

/// Something that is not as it should be, from [`Inspector::check`](super::Inspector::check).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What is wrong, in words; nothing of what stands in a message.
    pub what: String,
    /// What to do about it, in words.
    pub remedy: String,
}
