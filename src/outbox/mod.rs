//! The [`Outbox`]: what an application holds.

mod builder;
mod messages;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError, at, bounded, never, select};
use r2d2::{Pool, PooledConnection};
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

pub use builder::Builder;
pub(crate) use messages::{state, wall_clock};

use crate::broker::{Broker, Check};
use crate::disk::Disk;
use crate::forwarder::{Command, Event, Flush, Shared};
use crate::gate::{Gate, NoTurn, Who};
use crate::status::{Role, Status, Storage};
use crate::store::Budget;
use crate::{Error, Limit, Message, MessageId, Settings, store};

/// What [`Drop`] grants the forwarder to come to a polite end.
const DROP_PATIENCE: Duration = Duration::from_secs(1);
/// More than this is no limit.
const LONGEST_SHUTDOWN: Duration = Duration::from_secs(365 * 24 * 3600);
/// The part of its time that a shutdown gives to acknowledgements; the rest is for writing them down.
const SHUTDOWN_SHARE: f64 = 0.8;
/// What the last try to write them may take beyond that, and the part of the time that it takes at most.
const LAST_TRY: Duration = Duration::from_millis(200);
const LAST_TRY_SHARE: f64 = 0.15;

/// Rows behind the stored position that may have been dealt with, beside those of a window: the position is written
/// every 1,000 rows, after at most 500 settlements.
const DEALT_WITH: usize = 1_500;
/// How long a connection may take to be opened, whatever [`Settings::busy_timeout`] is: that is for locks, while this
/// waits for a thread and for the disk, which a busy device keeps from it for longer than some programs wait for a lock.
const OPENING: Duration = Duration::from_secs(5);

/// The outbox of one database: what an application opens once, clones, and hands to whoever writes.
///
/// Cheap to clone; all clones are the same outbox. It stops forwarding when [`shutdown`](Self::shutdown) is called or
/// the last clone is dropped, which waits at most a second.
#[derive(Clone)]
pub struct Outbox {
    inner: Arc<Inner>,
}

struct Inner {
    /// As SQLite writes it: absolute, links resolved.
    path: PathBuf,
    settings: Settings,
    pool: Pool<SqliteConnectionManager>,
    gate: Arc<Gate>,
    shared: Arc<Shared>,
    disk: Arc<Disk>,
    check: Option<Check>,
    /// Disconnected when the forwarder's thread has come to its end; none where there is no forwarder.
    ended: Option<Receiver<()>>,
    /// Where there is no forwarder: `-wal` and `-shm` are the same files for as long as a connection stands.
    _anchor: Option<Mutex<Connection>>,
}

impl Outbox {
    /// Opens the outbox in the database at `path`, with default settings, and forwards to `broker`.
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn open(path: impl AsRef<Path>, broker: impl Broker) -> Result<Self, Error> {
        Self::builder(path).broker(broker).open()
    }

    /// Begins to open the outbox in the database at `path`. The file is created if it does not exist.
    pub fn builder(path: impl AsRef<Path>) -> Builder {
        Builder::new(path.as_ref())
    }

    /// Writes `message` in the caller's own transaction: it is sent after the commit, and is gone after a rollback.
    ///
    /// One INSERT into the table `outbox`, and a look at how much is pending if [`Settings::max_pending`] or
    /// [`Settings::max_pending_bytes`] is set; nothing else is touched. The forwarder notices the commit within
    /// [`Settings::poll_interval`], or at once after [`commit`](Self::commit) or [`wake`](Self::wake).
    ///
    /// Begin transactions as [IMMEDIATE](TransactionBehavior::Immediate): with a forwarder beside it, a deferred one
    /// that reads first may not be allowed to write any more.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Unacceptable`] and [`Error::Full`] for the message: the transaction can go on
    /// without it. [`Error::Snapshot`], [`Error::Busy`], [`Error::DiskFull`], [`Error::Disk`], [`Error::Damaged`],
    /// [`Error::Replaced`], [`Error::RolledBack`], [`Error::OtherDatabase`], [`Error::Sqlite`] for the transaction:
    /// leave it, since after an error of SQLite's own it may be gone as a whole, and answers [`Error::RolledBack`].
    /// [`Error::Io`] where the file system does not tell its free space, and [`Error::Panicked`]. In each case but
    /// `Replaced` the message is not in the transaction.
    pub fn enqueue(&self, transaction: &impl InTransaction, message: &Message) -> Result<MessageId, Error> {
        self.alive()?;
        let connection: &Connection = transaction;
        if connection.is_autocommit() {
            return Err(Error::RolledBack);
        }
        let found = connection.path().unwrap_or_default();
        if Path::new(found) != self.inner.path {
            return Err(Error::OtherDatabase { expected: self.inner.path.clone(), found: found.into() });
        }
        if let Some(check) = &self.inner.check {
            check(message).map_err(Error::Unacceptable)?;
        }
        self.inner.admit(message.size() as u64)?;
        let Settings { max_payload, max_pending, max_pending_bytes, window, .. } = self.inner.settings;
        let budget = Budget {
            messages: max_pending,
            bytes: max_pending_bytes,
            settled: self.inner.shared.settled(),
            dealt_with: DEALT_WITH + window,
        };
        let id = store::enqueue(connection, message, max_payload, &budget)?;
        self.inner.disk.no_loss_known()?;
        Ok(id)
    }

    /// Runs `work` in an IMMEDIATE transaction, commits it if it answers `Ok`, and wakes the forwarder. With `Err`, or
    /// a panic, it is rolled back.
    ///
    /// Writers of this process take turns in front of SQLite's own lock, which is faster and fairer than its waiting.
    ///
    /// The closure's error may be any type that is `From<Error>`, and has to be named: often as below. Where `work` uses
    /// rusqlite's `?` too, it is also `From<rusqlite::Error>`, as [`Error`] itself is.
    ///
    /// ```
    /// # use edge_outbox::{Message, Outbox, broker::InProcess};
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let outbox = Outbox::open(folder.path().join("station.db"), InProcess::new())?;
    /// # outbox.transaction(|tx| -> Result<(), edge_outbox::Error> {
    /// #     tx.execute_batch("CREATE TABLE reading (value REAL)").map_err(edge_outbox::Error::from)
    /// # })?;
    /// let id = outbox.transaction(|tx| -> Result<_, edge_outbox::Error> {
    ///     tx.execute("INSERT INTO reading (value) VALUES (?1)", [21.5])?;
    ///     outbox.enqueue(tx, &Message::text("weather/roof", "21.5"))
    /// })?;
    /// # Ok::<(), edge_outbox::Error>(())
    /// ```
    ///
    /// # Errors
    /// What `work` answers; and [`Error::Nested`], [`Error::Busy`], [`Error::Pool`], [`Error::DiskFull`],
    /// [`Error::Disk`], [`Error::Damaged`], [`Error::Replaced`], [`Error::Sqlite`] (a deferred constraint among others) and,
    /// after a commit that failed, [`Error::Io`] (the disk still does not keep what it is given): nothing is written.
    /// [`Error::RolledBack`], [`Error::MaybeCommitted`], [`Error::Panicked`].
    pub fn transaction<T, E: From<Error>>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T, E>) -> Result<T, E> {
        self.alive()?;
        let turn =
            self.inner.gate.wait(Who::Application, self.inner.settings.busy_timeout).map_err(
                |no_turn| match no_turn {
                    NoTurn::Nested => Error::Nested,
                    NoTurn::TimedOut => Error::Busy(store::busy()),
                },
            )?;
        let mut connection = self.connection()?;
        self.inner.disk.renew_log(|| store::empty_log(&connection))?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(Error::from)?;
        let value = work(&transaction)?;
        self.inner.commit(transaction)?;
        drop(turn);
        self.wake();
        Ok(value)
    }

    /// Commits the caller's own transaction and wakes the forwarder.
    ///
    /// After a commit that failed the write-ahead log has to be begun anew, which cannot be done within a transaction:
    /// then this rolls it back, does that, and answers [`Error::RolledBack`].
    ///
    /// # Errors
    /// [`Error::MaybeCommitted`]: look before doing it again. All others, [`Error::Busy`], [`Error::Replaced`],
    /// [`Error::RolledBack`], [`Error::Sqlite`] (a deferred constraint) and, while the disk still does not keep what it is
    /// given, [`Error::Io`], [`Error::Disk`] and [`Error::Pool`]: nothing was written.
    pub fn commit(&self, transaction: Transaction<'_>) -> Result<(), Error> {
        if self.inner.disk.is_log_doubtful() {
            transaction.rollback()?;
            let connection = self.connection()?;
            self.inner.disk.renew_log(|| store::empty_log(&connection))?;
            return Err(Error::RolledBack);
        }
        self.inner.commit(transaction)?;
        self.wake();
        Ok(())
    }

    /// Tells the forwarder that something was committed. Never needed, since it looks every
    /// [`Settings::poll_interval`]; it saves that wait.
    pub fn wake(&self) {
        self.inner.shared.mailbox.committed();
    }

    /// A connection to the database from the pool, for the application's own use. The outbox's own pool has two, one of
    /// which [`transaction`](Self::transaction) needs: give it back soon.
    ///
    /// # Errors
    /// [`Error::Pool`] if all are in use for [`Settings::busy_timeout`], or a new one cannot be opened within that and
    /// 5 s, whichever is longer; [`Error::Replaced`].
    pub fn connection(&self) -> Result<PooledConnection<SqliteConnectionManager>, Error> {
        if self.inner.pool.state().idle_connections == 0 {
            self.inner.disk.files_stand()?; // another one has to be opened
        }
        self.inner.pool.get_timeout(self.inner.patience()).map_err(Error::Pool)
    }

    /// Waits until everything that is committed now is settled: acknowledged, or parked as FAILED. What is committed
    /// meanwhile is not waited for.
    ///
    /// A message that was refused for now, or whose topic is closed (with
    /// [`InProcess`](crate::broker::InProcess), one that nobody subscribes to), is not settled: then this times out
    /// while the link stands. [`status`](Self::status) and [`stats`](Self::stats) tell.
    ///
    /// # Errors
    /// [`Error::TimedOut`], and sending goes on; [`Error::NoBroker`], [`Error::Stopped`], [`Error::Panicked`].
    pub fn flush(&self, timeout: Duration) -> Result<(), Error> {
        let until = Instant::now().checked_add(timeout);
        let (done, told) = bounded(1);
        let ended = self.command(Command::Flush(Flush { done, until }))?;
        let timed_out = || Error::TimedOut { what: "flush", after: timeout };
        let waiting = until.map_or_else(never, at);
        select! {
            recv(told) -> answer => if answer.is_ok() { return Ok(()) },
            recv(ended) -> _ => if told.try_recv().is_ok() { return Ok(()) },
            recv(waiting) -> _ => return Err(timed_out()),
        }
        // A forwarder that panics lets go of those who wait before it says why: it has said so when it has ended.
        select! {
            recv(ended) -> _ => Err(self.alive().err().unwrap_or(Error::Stopped)),
            recv(waiting) -> _ => Err(timed_out()),
        }
    }

    /// Ends the session with the broker politely and begins no other until [`resume`](Self::resume). Messages are kept
    /// meanwhile.
    ///
    /// # Errors
    /// [`Error::NoBroker`], [`Error::Stopped`], [`Error::Panicked`].
    pub fn pause(&self) -> Result<(), Error> {
        self.command(Command::Pause).map(drop)
    }

    /// Goes on after [`pause`](Self::pause). Paused or not: the next session and closed topics are tried at once, instead
    /// of when their time has come. For when a password or an access list was mended.
    ///
    /// # Errors
    /// [`Error::NoBroker`], [`Error::Stopped`], [`Error::Panicked`].
    pub fn resume(&self) -> Result<(), Error> {
        self.command(Command::Resume).map(drop)
    }

    /// How the forwarder stands, at most [`Settings::poll_interval`] ago; space on the disk is looked at each second.
    /// Asks neither the database nor the network. While the forwarder itself waits for the disk it is what it was
    /// before. An outbox that does not forward looks at files and space itself, and knows of no other trouble.
    pub fn status(&self) -> Status {
        let mut status = self.inner.shared.status();
        if status.role != Role::Active && status.storage == Storage::Ok {
            status.storage = self.inner.disk.storage();
        }
        status
    }

    /// Stops forwarding: no new message is sent, those in flight are given most of `timeout` to be acknowledged, what
    /// came is written down, and the session ends politely. What was not acknowledged is sent by the next forwarder.
    ///
    /// Messages can still be enqueued afterwards. Calling it twice is no error.
    ///
    /// # Errors
    /// [`Error::TimedOut`] when the forwarder's thread is still not done, because the disk or the broker's adapter does
    /// not answer: it is left behind. [`Error::Panicked`].
    pub fn shutdown(&self, timeout: Duration) -> Result<(), Error> {
        let Some(ended) = &self.inner.ended else { return Ok(()) };
        let until = stop(&self.inner.shared, timeout);
        match ended.recv_deadline(until) {
            Err(RecvTimeoutError::Timeout) => Err(Error::TimedOut { what: "shutdown", after: timeout }),
            _ => self.alive(),
        }
    }

    /// The database's file, as SQLite names it: absolute, links resolved.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The settings that it was opened with.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// A forwarder that panicked is seen by every caller.
    fn alive(&self) -> Result<(), Error> {
        self.inner.shared.panicked().map_or(Ok(()), |said| Err(Error::Panicked(said.to_owned())))
    }

    /// Posts it; the answer is disconnected when the forwarder has ended.
    fn command(&self, command: Command) -> Result<&Receiver<()>, Error> {
        self.alive()?;
        let ended = self.inner.ended.as_ref().ok_or(Error::NoBroker)?;
        if ended.try_recv() == Err(TryRecvError::Disconnected) {
            return Err(self.alive().err().unwrap_or(Error::Stopped));
        }
        self.inner.shared.mailbox.post(Event::Command(command));
        Ok(ended)
    }
}

/// Tells the forwarder to come to its end: by when it should have.
fn stop(shared: &Shared, timeout: Duration) -> Instant {
    // `Duration::MAX` is a way to say "however long it takes".
    let timeout = timeout.min(LONGEST_SHUTDOWN);
    let now = Instant::now();
    let politely = now + timeout.mul_f64(SHUTDOWN_SHARE);
    let until = now + timeout - LAST_TRY.min(timeout.mul_f64(LAST_TRY_SHARE));
    shared.mailbox.post(Event::Command(Command::Stop { politely, until }));
    now + timeout
}

impl Inner {
    /// How long a connection is waited for.
    fn patience(&self) -> Duration {
        let timeout = self.pool.connection_timeout();
        let state = self.pool.state();
        let opens = state.idle_connections == 0 && state.connections < self.pool.max_size();
        if opens { timeout.max(OPENING) } else { timeout }
    }

    fn admit(&self, bytes: u64) -> Result<(), Error> {
        match self.disk.admit(bytes) {
            // A forwarder looks after it; where there is none, the next who needs it does.
            Err(Error::Full(full))
                if full.limit == Limit::Reserve && self.ended.is_none() && self.disk.make_reserve(2)? =>
            {
                self.disk.admit(bytes)
            }
            admitted => admitted,
        }
    }

    fn commit(&self, transaction: Transaction<'_>) -> Result<(), Error> {
        if transaction.is_autocommit() {
            return Err(Error::RolledBack);
        }
        // With the write lock in hand, if it wrote anything: see `Disk::no_loss_known`.
        self.disk.files_stand()?;
        transaction.commit().map_err(|error| match Error::from(error) {
            Error::Busy(error) => Error::Busy(error),
            // A deferred constraint of the application's: SQLite looked before it wrote anything.
            Error::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                Error::Sqlite(error)
            }
            Error::Disk(error) => {
                self.disk.doubt_log();
                Error::MaybeCommitted(error)
            }
            Error::Snapshot(error) | Error::DiskFull(error) | Error::Damaged(error) | Error::Sqlite(error) => {
                Error::MaybeCommitted(error)
            }
            other => other,
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(ended) = &self.ended {
            let until = stop(&self.shared, DROP_PATIENCE);
            if ended.recv_deadline(until) == Err(RecvTimeoutError::Timeout) {
                log::warn!("the forwarder is still busy after {DROP_PATIENCE:?}: left behind");
            }
        }
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("path", &self.inner.path).field("status", &self.status()).finish_non_exhaustive()
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for rusqlite::Transaction<'_> {}
    impl Sealed for rusqlite::Savepoint<'_> {}
}

/// A connection with an open transaction: rusqlite's [`Transaction`] or [`Savepoint`](rusqlite::Savepoint). That a
/// message is written in one stands in the type.
pub trait InTransaction: std::ops::Deref<Target = rusqlite::Connection> + sealed::Sealed {}

impl InTransaction for Transaction<'_> {}
impl InTransaction for rusqlite::Savepoint<'_> {}
