//! How a connection is set up, and the checkpoints that only the forwarder makes.

use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ffi};

use super::Store;
use crate::Error;

/// Whose connection it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// One of the pool: commits are synced unless the application says otherwise, and it waits this long for the write lock.
    /// From `longest_log` bytes on it moves the log into the database itself.
    Application { busy_timeout: Duration, longest_log: u64 },
    /// The forwarder's: what a power cut takes from it is only sent twice, so its commits need no sync of their own,
    /// and it waits shortly and looks after its session in between.
    Forwarder,
}

const FORWARDER_BUSY_TIMEOUT: Duration = Duration::from_millis(50);
/// More than the forwarder has, so that each is prepared once.
const STATEMENTS: usize = 32;
/// Frames (pages) in the write-ahead log from which a checkpoint is worth its syncs.
const CHECKPOINT_FRAMES: i64 = 900;
/// And by whom commits wait for it.
const FEWEST_FRAMES: i32 = 100;

/// Sets up a connection of ours. What is the application's business, foreign keys above all, stays as it is.
pub(crate) fn configure(conn: &Connection, role: Role) -> rusqlite::Result<()> {
    // SQLite checkpoints when the last connection closes, which makes an exit wait for the card.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // A log that grew while a reader stood in the way is cut when it begins anew.
    conn.execute_batch("PRAGMA main.cache_size = -256; PRAGMA main.journal_size_limit = 4194304;")?;
    match role {
        Role::Application { busy_timeout, longest_log } => {
            conn.busy_timeout(busy_timeout)?;
            // The forwarder checkpoints; this is for when there is none, or it is behind.
            let page: u32 = conn.pragma_query_value(Some("main"), "page_size", |row| row.get(0))?;
            let pages = i32::try_from(longest_log / u64::from(page.max(512))).unwrap_or(i32::MAX);
            conn.pragma_update(None, "wal_autocheckpoint", pages.max(FEWEST_FRAMES))?;
        }
        Role::Forwarder => {
            conn.busy_timeout(FORWARDER_BUSY_TIMEOUT)?;
            conn.set_prepared_statement_cache_capacity(STATEMENTS);
            conn.execute_batch("PRAGMA main.synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0;")?;
        }
    }
    Ok(())
}

/// Whether a sync failed: of the log or of the database, SQLite does not tell which.
pub(crate) fn is_failed_sync(error: &Error) -> bool {
    let Error::Disk(error) = error else { return false };
    error.sqlite_error().is_some_and(|e| e.extended_code == ffi::SQLITE_IOERR_FSYNC)
}

/// [`Store::empty_log`] by a connection of the application's.
pub(crate) fn empty_log(conn: &Connection) -> Result<(), Error> {
    match conn.query_row("PRAGMA main.wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))? {
        0 => Ok(()),
        _ => Err(Error::Busy(super::busy())),
    }
}

impl Store {
    /// Moves the write-ahead log into the database if it has grown enough, and holds nobody up by it.
    pub fn checkpoint(&self) -> Result<(), Error> {
        // SQLite before 3.51 does not know NOOP and makes the checkpoint at once: more often than needed, never wrong.
        let waiting: i64 = self.conn.query_row("PRAGMA main.wal_checkpoint(NOOP)", [], |row| {
            Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?)
        })?;
        if waiting >= CHECKPOINT_FRAMES { self.checkpoint_now() } else { Ok(()) }
    }

    /// Moves it, however short it is: the next commit can then begin it anew, and needs no more space.
    pub fn checkpoint_now(&self) -> Result<(), Error> {
        Ok(self.conn.query_row("PRAGMA main.wal_checkpoint(PASSIVE)", [], |_| Ok(()))?)
    }

    /// Moves it and makes its file empty, which gives its space back.
    ///
    /// # Errors
    /// [`Error::Busy`] where another connection stands in the way.
    pub fn empty_log(&self) -> Result<(), Error> {
        empty_log(&self.conn)
    }

    /// [`empty_log`](Self::empty_log) without waiting: where readers stand in the way writers would wait with it. What
    /// can be moved is, all the same.
    ///
    /// # Errors
    /// [`Error::Busy`].
    pub fn empty_log_if_unused(&self) -> Result<(), Error> {
        self.conn.busy_timeout(Duration::ZERO)?;
        let emptied = self.empty_log();
        self.conn.busy_timeout(FORWARDER_BUSY_TIMEOUT)?;
        emptied
    }

    /// Whether anybody else has committed since the last time this was asked.
    pub fn changed(&mut self) -> Result<bool, Error> {
        let version = self.conn.prepare_cached("PRAGMA main.data_version")?.query_row([], |row| row.get(0))?;
        let changed = version != self.data_version;
        self.data_version = version;
        Ok(changed)
    }
}
