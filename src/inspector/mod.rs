//! Looking at the outbox of a database without being part of it.

#[cfg_attr(not(any(target_os = "linux", target_os = "android")), path = "ask_nobody.rs")]
mod ask;
mod check;
mod reader;
mod report;

use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::Connection;

pub use report::{Checked, Figures, Files, Filter, Finding, Forwarder, Live, MessageSummary};

use check::Findings;

use reader::Reader;

use crate::outbox::wall_clock;
use crate::status::{MessageState, StoredMessage};
use crate::store::{self, Bound, Wanted};
use crate::topic_filter::TopicFilter;
use crate::{Error, disk};

/// The most that a message can carry: see [`Settings::max_payload`](crate::Settings::max_payload).
const LARGEST_PAYLOAD: usize = 268_435_455;

/// Looks at the outbox of one database, from any process, and changes nothing: for tools and for monitoring.
///
/// It reads through a connection that cannot write, makes nobody wait, and sees what is committed. Who may read the
/// database's files can use it, on a read-only mount and in a folder that may not be written too.
///
/// Nothing is made beside the database, with one exception: where nobody has it open, its `-shm` is missing, and it has
/// a `-wal` or was written in the last few seconds, SQLite makes what is missing and leaves it there (an empty `-wal`
/// and a `-shm` of 32 kB). That is done only for the database's owner, and for root, who gives them to the owner:
/// what another user made the owner could not write.
///
/// While one stands that reads with locks (others have the database open, or had when it was opened), `-wal` and `-shm`
/// stay when the others close it: keep none for longer than it is used. And none should look through a read-only mount
/// in the very process that writes the database through another one: SQLite has one `-shm` for both, and by the first of
/// the two the writer may find it read-only.
///
/// ```
/// use std::time::Duration;
///
/// use edge_outbox::inspector::Filter;
/// use edge_outbox::{Inspector, Message, MessageState, Outbox};
///
/// # fn main() -> Result<(), edge_outbox::Error> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let database = folder.path().join("station.db");
/// # #[cfg(any())]
/// let database = "station.db";
/// let outbox = Outbox::builder(&database).open()?;
/// outbox.transaction(|tx| outbox.enqueue(tx, &Message::text("weather/roof", "21.5")))?;
///
/// let inspector = Inspector::open(&database, Duration::from_secs(5))?;
/// assert_eq!(inspector.figures()?.pending, 1);
///
/// let filter = Filter { state: Some(MessageState::Pending), topic: Some("weather/#".into()), ..Filter::default() };
/// let mut after = 0;
/// loop {
///     let page = inspector.messages(&filter, after, 100)?;
///     let Some(last) = page.last() else { break };
///     after = last.id.row();
///     for message in &page {
///         println!("{} to {}, {} bytes", message.id, message.topic, message.size);
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Inspector {
    reader: RefCell<Reader>,
    /// As SQLite writes it: absolute, links resolved.
    path: PathBuf,
}

impl Inspector {
    /// Opens the database at `path`, which must have an outbox of this version.
    ///
    /// `busy_timeout` is how long a call waits while another program has the database for itself alone; more than a day
    /// is a day.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::LogAlone`], [`Error::NoOutbox`], [`Error::NotReadable`], [`Error::NotADatabase`],
    /// [`Error::NewerSchema`], [`Error::ForeignTable`], [`Error::Busy`], [`Error::Damaged`], [`Error::Disk`],
    /// [`Error::Sqlite`]. The database is then as it was.
    pub fn open(path: impl AsRef<Path>, busy_timeout: Duration) -> Result<Self, Error> {
        let path = disk::resolve(path.as_ref())?;
        let reader = RefCell::new(Reader::open(&path, busy_timeout)?);
        Ok(Inspector { reader, path })
    }

    /// Every statement of an inspector goes through here. It may be asked twice.
    fn read<T>(&self, ask: impl Fn(&Connection) -> Result<T, Error>) -> Result<T, Error> {
        self.reader.borrow_mut().read(&self.path, ask)
    }

    /// The database's file, as SQLite names it: absolute, links resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many messages there are and what became of them, all of one moment.
    ///
    /// Every row is looked at, so that the figures are exact whatever somebody wrote into the table: it takes as long as
    /// the table is large. A million rows of 200 B, 315 MB, took 0.6 s on x86-64 with the file in the system's memory; a
    /// card has to read it first. Of a payload that is larger than a page (4 kB) the rest is not read. Writers do not
    /// wait meanwhile, but the write-ahead log cannot begin anew.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Damaged`], [`Error::Disk`], [`Error::Sqlite`]; those of [`open`](Self::open) where the
    /// file has become another one.
    pub fn figures(&self) -> Result<Figures, Error> {
        let found = self.read(store::figures)?;
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
    /// takes this for another one, and tries again a second later. On other systems than Linux that is all that can be
    /// told.
    pub fn forwarder(&self) -> Forwarder {
        ask::forwarder(&self.path)
    }

    /// At most `limit` messages that `filter` lets through, with row ids greater than `after`, in the order of their
    /// ids. Begin with 0, and go on with the last one's. All that are answered stand in memory, up to 130 kB each and
    /// without their payloads, so a table of any length is read with a limit.
    ///
    /// Rows that the filter does not let through are looked at too (but for [`MessageState::Failed`], which has an
    /// index), 10,000 in one read transaction: the answer need not be of one moment. Nothing is held when it is there.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a topic filter that breaks MQTT's rules; those of [`figures`](Self::figures).
    pub fn messages(&self, filter: &Filter, after: i64, limit: usize) -> Result<Vec<MessageSummary>, Error> {
        self.summaries(filter, Bound::After(after), limit)
    }

    /// The same from the other end: at most `limit` messages with row ids less than `before`, the newest first. Begin
    /// with `i64::MAX`, and go on with the last one's.
    ///
    /// # Errors
    /// As [`messages`](Self::messages).
    pub fn messages_before(&self, filter: &Filter, before: i64, limit: usize) -> Result<Vec<MessageSummary>, Error> {
        self.summaries(filter, Bound::Before(before), limit)
    }

    fn summaries(&self, filter: &Filter, bound: Bound, limit: usize) -> Result<Vec<MessageSummary>, Error> {
        let wanted = Wanted {
            status: filter.state.map(word),
            topics: filter.topic.as_deref().map(TopicFilter::parse).transpose()?,
            key: filter.key.clone(),
        };
        let found = self.read(|connection| store::summaries(connection, &wanted, bound, limit))?;
        Ok(found.into_iter().map(MessageSummary::from).collect())
    }

    /// The message of that row id ([`MessageId::row`](crate::MessageId::row)), whatever became of it; `None` where there
    /// is no such row, or not any more.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Damaged`], [`Error::Disk`], [`Error::Sqlite`]; those of [`open`](Self::open) where the
    /// file has become another one.
    pub fn message(&self, id: i64) -> Result<Option<StoredMessage>, Error> {
        Ok(self.read(|connection| store::get(connection, id, LARGEST_PAYLOAD))?.map(StoredMessage::from))
    }

    /// The version of the outbox's tables.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn version(&self) -> Result<i64, Error> {
        self.read(|connection| store::version(connection, &self.path))
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
        let (looked, findings) = self.read(|connection| {
            let mut findings = Findings::of(&self.path);
            let looked = store::check(connection, &self.path, LARGEST_PAYLOAD, &mut |fault| findings.add(fault))?;
            Ok((looked, findings))
        })?;
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
        self.read(store::newest)
    }
}

impl fmt::Debug for Inspector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspector").field("path", &self.path).finish_non_exhaustive()
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
