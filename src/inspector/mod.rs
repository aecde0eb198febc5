//! Looking at the outbox of a database without being part of it.

mod ask;
mod check;
mod report;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::Connection;

pub use report::{Checked, Figures, Files, Filter, Finding, Forwarder, Live, MessageSummary};

use check::Findings;

use crate::outbox::wall_clock;
use crate::status::{MessageState, StoredMessage};
use crate::store::{self, Wanted};
use crate::topic_filter::TopicFilter;
use crate::{Error, disk};

/// The most that a message can carry: see [`Settings::max_payload`](crate::Settings::max_payload).
const LARGEST_PAYLOAD: usize = 268_435_455;

/// Looks at the outbox of one database, from any process, and changes nothing: for tools and for monitoring.
///
/// It reads through a connection that cannot write, creates no file of ours, makes nobody wait, and sees what is
/// committed.
pub struct Inspector {
    connection: Connection,
    /// As SQLite writes it: absolute, links resolved.
    path: PathBuf,
}

impl Inspector {
    /// Opens the database at `path`, which must have an outbox of this version.
    ///
    /// `busy_timeout` is how long a call waits while another program has the database for itself alone.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::NoOutbox`], [`Error::CannotOpen`], [`Error::NotADatabase`], [`Error::NewerSchema`],
    /// [`Error::ForeignTable`], [`Error::Busy`], [`Error::Damaged`], [`Error::Disk`], [`Error::Sqlite`];
    /// [`Error::Invalid`] for a path that is not UTF-8.
    pub fn open(path: impl AsRef<Path>, busy_timeout: Duration) -> Result<Self, Error> {
        let path = path.as_ref();
        let connection = store::look_into(path, busy_timeout)?;
        let path = connection.path().map(PathBuf::from).ok_or_else(Error::path_is_no_text)?;
        Ok(Inspector { connection, path })
    }

    /// The database's file, as SQLite names it: absolute, links resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many messages there are and what became of them. Every row is looked at, so that the figures are exact
    /// whatever somebody wrote into the table: it takes as long as the table is large.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Damaged`], [`Error::Disk`], [`Error::Sqlite`].
    pub fn figures(&self) -> Result<Figures, Error> {
        let found = store::figures(&self.connection)?;
        let ago = |stamp| SystemTime::now().duration_since(wall_clock(stamp)).unwrap_or(Duration::ZERO);
        Ok(Figures {
            version: found.version,
            pending: found.pending,
            pending_bytes: found.pending_bytes,
            waiting: found.waiting,
            held: found.held,
            failed: found.failed,
            sent: found.sent,
            unreadable: found.unreadable,
            oldest_pending: found.oldest_pending.map(ago),
            last_failed: found.last_failed.map(Into::into),
        })
    }

    /// The database's files, and the disk under them. Does not ask SQLite.
    ///
    /// # Errors
    /// [`Error::Io`] if the database, or the file system's free space, cannot be looked at.
    pub fn files(&self) -> Result<Files, Error> {
        disk::files(&self.path)
    }

    /// Who forwards, in whatever process, and how it stands: by asking it, at a socket beside the database,
    /// `-outbox-status`. Asks neither the database nor the disk, takes three seconds at most, and writes nothing.
    ///
    /// Where nobody answers there, the forwarders' lock is tried for a moment. A forwarder that tries it in that very moment
    /// takes this for another one, and tries again a second later.
    pub fn forwarder(&self) -> Forwarder {
        ask::forwarder(&self.path)
    }

    /// At most `limit` messages that `filter` lets through, with row ids greater than `after`, in the order of their
    /// ids. Begin with 0, and go on with the last one's.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a topic filter that breaks MQTT's rules; [`Error::Busy`], [`Error::Damaged`],
    /// [`Error::Disk`], [`Error::Sqlite`].
    pub fn messages(&self, filter: &Filter, after: i64, limit: usize) -> Result<Vec<MessageSummary>, Error> {
        let wanted = Wanted {
            status: filter.state.map(word),
            topics: filter.topic.as_deref().map(TopicFilter::parse).transpose()?,
            key: filter.key.clone(),
        };
        let found = store::summaries(&self.connection, &wanted, after, limit)?;
        Ok(found.into_iter().map(MessageSummary::from).collect())
    }

    /// The message of that row id ([`MessageId::row`](crate::MessageId::row)), whatever became of it; `None` where there
    /// is no such row, or not any more.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Damaged`], [`Error::Disk`], [`Error::Sqlite`].
    pub fn message(&self, id: i64) -> Result<Option<StoredMessage>, Error> {
        Ok(store::get(&self.connection, id, LARGEST_PAYLOAD)?.map(StoredMessage::from))
    }

    /// The version of the outbox's tables.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn version(&self) -> Result<i64, Error> {
        store::version(&self.connection, &self.path)
    }

    /// Looks for all that can be wrong: what SQLite's `integrity_check` finds in the whole file, tables, indexes and
    /// triggers of ours that are not as they were made, a position that cannot be, and rows that break a rule or do not
    /// match their checksum, whatever became of them. It looks at every row that there is when it begins, so it takes as
    /// long as the database is large, and as much memory as its largest payload.
    ///
    /// What is damaged is told of, and looked around. Others read and write meanwhile; while SQLite looks at the file the
    /// write-ahead log grows by what they write.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Disk`], [`Error::Sqlite`]; [`Error::Damaged`] where not even the schema can be read.
    pub fn check(&self) -> Result<Checked, Error> {
        let mut findings = Findings::of(&self.path);
        let looked = store::check(&self.connection, &self.path, LARGEST_PAYLOAD, &mut |fault| findings.add(fault))?;
        Ok(Checked {
            rows: looked.rows,
            failed: looked.failed,
            findings: findings.done(),
            not_checked: looked.application,
        })
    }

    /// The newest message's row id; 0 where there was none yet. It stays until there is a newer one: a message of an id
    /// up to this that is not there was purged or discarded.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Damaged`], [`Error::Disk`], [`Error::Sqlite`].
    pub fn newest(&self) -> Result<i64, Error> {
        store::newest(&self.connection)
    }
}

fn word(state: MessageState) -> Option<store::Status> {
    match state {
        MessageState::Pending => Some(store::Status::Pending),
        MessageState::Sent => Some(store::Status::Sent),
        MessageState::Failed => Some(store::Status::Failed),
        MessageState::Damaged => None,
    }
}
