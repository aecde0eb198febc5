//! Looking at messages, and mending the failed ones.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{DEALT_WITH, Outbox};
use crate::Error;
use crate::status::{FailedMessage, MessageState, Stats, StoredMessage};
use crate::store::{self, Content, FailedRow, Pending, Stored};

/// Fewest rows that are worth a commit, where there are more of them.
const BITE: usize = 500;

impl Outbox {
    /// Figures. As fast with a million pending messages as with ten; only the failed ones are counted.
    /// Where the database is damaged they leave out what cannot be read.
    ///
    /// # Errors
    /// [`Error::Pool`], [`Error::Sqlite`].
    pub fn stats(&self) -> Result<Stats, Error> {
        let view = self.inner.shared.view();
        let connection = self.connection()?;
        let dealt_with = DEALT_WITH + self.inner.settings.window;
        let found = match store::pending(&connection, self.inner.shared.settled(), dealt_with) {
            // Rows that cannot be counted are not for that reason none.
            Err(Error::Damaged(_)) => {
                let above = store::position(&connection).and_then(|p| store::fresh_above(&connection, p, dealt_with));
                Pending { rows: readable(above)?, ..Pending::default() }
            }
            found => found?,
        };
        let (pending, position, in_flight) = match view.progress {
            // What is acknowledged and not yet written down is not pending any more.
            Some(p) => {
                let fresh = p.taken as u64 + readable(store::fresh_above(&connection, p.cursor, dealt_with))?;
                ((fresh + found.aside).saturating_add_signed(p.unwritten), p.position, p.in_flight as u64)
            }
            None => (found.rows, store::position(&connection)?, 0),
        };
        let oldest = readable(store::oldest_pending(&connection, position))?.map(wall_clock);
        Ok(Stats {
            pending,
            pending_bytes: if pending == 0 { 0 } else { found.bytes },
            waiting: found.aside,
            failed: readable(store::failed_count(&connection))?,
            sent: view.sent,
            damaged: view.damaged,
            unreadable: match view.unreadable {
                Some(unreadable) => unreadable,
                None => readable(store::unreadable(&connection))?,
            },
            in_flight,
            reconnects: view.reconnects,
            oldest_pending: oldest
                .map(|created_at| SystemTime::now().duration_since(created_at).unwrap_or(Duration::ZERO)),
        })
    }

    /// At most `limit` failed messages with row ids greater than `after`, oldest first. Begin with 0, and go on with the
    /// last one's.
    ///
    /// # Errors
    /// [`Error::Pool`], [`Error::Sqlite`].
    pub fn failed(&self, after: i64, limit: usize) -> Result<Vec<FailedMessage>, Error> {
        let rows = store::failed(&*self.connection()?, after, limit)?;
        Ok(rows.into_iter().map(FailedMessage::from).collect())
    }

    /// The message of that row id ([`MessageId::row`](crate::MessageId::row)), whatever became of it; `None` where there
    /// is no such row, or not any more: sent ones are purged after [`Settings::retention`](crate::Settings::retention).
    ///
    /// # Errors
    /// [`Error::Pool`], [`Error::Sqlite`].
    pub fn message(&self, id: i64) -> Result<Option<StoredMessage>, Error> {
        let stored = store::get(&*self.connection()?, id, self.inner.settings.max_payload)?;
        Ok(stored.map(StoredMessage::from))
    }

    /// Makes the failed message of that row id pending again. It gets all its attempts back, and is sent soon; if its
    /// [expiry](crate::Message::expiry) is over, without one.
    ///
    /// # Errors
    /// [`Error::NoSuchMessage`] if it is not a failed one; otherwise as [`transaction`](Self::transaction).
    pub fn retry(&self, id: i64) -> Result<(), Error> {
        self.transaction(|tx| store::retry(tx, id))
    }

    /// [`retry`](Self::retry) for all failed messages, those that expired among them: how many there were.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Pool`], [`Error::Sqlite`]; those before it are pending then.
    pub fn retry_all(&self) -> Result<u64, Error> {
        // In bites with a commit each, so that other writers get their turn in between.
        let retried = store::retry_all(&*self.connection()?)?;
        self.wake();
        Ok(retried as u64)
    }

    /// Deletes the failed message of that row id for good. (Where it is the newest row of all, its content is deleted at
    /// once and the row as soon as there is a newer one.)
    ///
    /// # Errors
    /// [`Error::NoSuchMessage`] if it is not a failed one; otherwise as [`transaction`](Self::transaction).
    pub fn discard(&self, id: i64) -> Result<(), Error> {
        self.transaction(|tx| store::discard(tx, id))
    }

    /// [`discard`](Self::discard) for all messages that are failed when it begins: how many were deleted. Those that a
    /// table of the application's refers to by a foreign key stay.
    ///
    /// # Errors
    /// As [`transaction`](Self::transaction); those before it are gone then.
    pub fn discard_all(&self) -> Result<u64, Error> {
        let last = store::last_failed(&*self.connection()?)?;
        let (mut done, mut gone) = (Some(i64::MIN), 0);
        // In bites with a commit each, so that other writers get their turn in between.
        while let (Some(after), Some(last)) = (done, last) {
            let (some, upto) = self.transaction(|tx| store::discard_some(tx, after, last))?;
            gone += some as u64;
            done = upto;
        }
        Ok(gone)
    }

    /// Deletes messages that were sent at least `older_than` ago by the wall clock, and those whose stamp lies in the
    /// future: how many. The forwarder does so by itself after [`Settings::retention`](crate::Settings::retention); this
    /// is for more room at once, with or without a forwarder beside it. Rows that a table of the application's refers to
    /// by a foreign key stay, and so does the newest row of all.
    ///
    /// The room is for new messages; the file gets no smaller by it.
    ///
    /// # Errors
    /// As [`transaction`](Self::transaction); what was deleted before it is gone then.
    pub fn purge(&self, older_than: Duration) -> Result<u64, Error> {
        let now = store::now_ms();
        let then = now.saturating_sub(i64::try_from(older_than.as_millis()).unwrap_or(i64::MAX));
        let (mut last, mut sent, mut purged) = (0, Vec::new(), 0);
        loop {
            let (found, upto) = store::sent_before(&*self.connection()?, last, then, now)?;
            sent.extend(found);
            // Where ids are damaged they need not rise.
            let next = upto.filter(|upto| *upto > last);
            // In bites that are worth a commit, so that other writers get their turn in between.
            if sent.len() >= BITE || (next.is_none() && !sent.is_empty()) {
                purged += self.transaction(|tx| store::delete_sent(tx, &sent))? as u64;
                sent.clear();
            }
            match next {
                Some(next) => last = next,
                None => return Ok(purged),
            }
        }
    }

    /// Puts back those of the outbox's triggers and indexes that are missing, or that somebody altered, in one
    /// transaction: the names of those. What the triggers count is counted anew, where it is wrong. Tables and messages
    /// stay as they are, and so does what is the application's own.
    ///
    /// Where everything is in place nobody waits for it. To make an index takes as long as to read the table, and other
    /// writers wait meanwhile. [`Inspector::check`](crate::Inspector::check) tells what is missing, and what became of the
    /// rows meanwhile.
    ///
    /// # Errors
    /// [`Error::ForeignTable`] where something of another kind, or of another table, has the name of ours: rename it.
    /// [`Error::NewerSchema`] where a newer program has upgraded the outbox since it was opened. Otherwise as
    /// [`transaction`](Self::transaction).
    pub fn restore_schema(&self) -> Result<Vec<String>, Error> {
        if store::is_in_place(&*self.connection()?)? {
            return Ok(Vec::new());
        }
        self.transaction(store::restore)
    }
}

/// What can be told of a damaged database.
fn readable<T: Default>(figure: Result<T, Error>) -> Result<T, Error> {
    match figure {
        Err(Error::Damaged(_)) => Ok(T::default()),
        figure => figure,
    }
}

impl From<FailedRow> for FailedMessage {
    fn from(row: FailedRow) -> Self {
        FailedMessage {
            id: row.id,
            topic: row.topic,
            key: row.key,
            reason: row.reason,
            attempts: row.attempts,
            size: row.size as u64,
            created_at: wall_clock(row.created_at),
            failed_at: wall_clock(row.failed_at),
        }
    }
}

impl From<Stored> for StoredMessage {
    fn from(stored: Stored) -> Self {
        StoredMessage {
            id: stored.id,
            state: state(stored.status),
            since: wall_clock(stored.status_at),
            created_at: wall_clock(stored.created_at),
            attempts: stored.attempts,
            last_error: stored.last_error,
            held_by: stored.held_by,
            size: stored.size as u64,
            message: match stored.content {
                Content::Message { message, .. } => Ok(*message),
                Content::Spoiled(why) => Err(why),
            },
        }
    }
}

pub(crate) fn state(status: Option<store::Status>) -> MessageState {
    match status {
        Some(store::Status::Pending) => MessageState::Pending,
        Some(store::Status::Sent) => MessageState::Sent,
        Some(store::Status::Failed) => MessageState::Failed,
        None => MessageState::Damaged,
    }
}

pub(crate) fn wall_clock(unix_ms: i64) -> SystemTime {
    let since_1970 = Duration::from_millis(u64::try_from(unix_ms).unwrap_or(0));
    UNIX_EPOCH.checked_add(since_1970).unwrap_or(UNIX_EPOCH)
}
