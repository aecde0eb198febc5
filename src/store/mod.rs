//! Every SQL statement of this crate stands in this folder, and nothing else does: no thread, no decision about what
//! to send, no wait longer than SQLite's own for the write lock.
//!
//! The table is described in `schema.sql`. What stands in it may have been written by anybody, or damaged by the card:
//! reading never fails because of what a row says, it says what is wrong with the row instead.

mod admin;
mod aside;
mod budget;
mod check;
mod checksum;
mod connect;
mod damage;
mod decode;
mod enqueue;
#[cfg(all(any(test, fuzzing), feature = "tls"))]
pub(crate) mod fuzzing;
mod indexes;
mod inspect;
mod look;
mod purge;
mod read;
mod restore;
mod row;
mod salvage;
mod schema;
mod settle;
#[cfg(test)]
mod tests;
mod waiting;

use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::Connection;

use crate::Error;

#[cfg(test)]
pub(crate) use admin::pending_upto;
pub(crate) use admin::{
    FailedRow, Status, Stored, discard, discard_some, failed, failed_count, fresh_above, get, last_failed, newest,
    oldest_pending, position, retry, retry_all, unreadable,
};
pub(crate) use budget::{Budget, Pending, pending};
pub(crate) use check::{Fault, check};
pub(crate) use connect::{Role, configure, empty_log, is_failed_sync};
pub(crate) use decode::DAMAGED;
#[cfg(all(any(test, fuzzing), feature = "tls"))]
pub(crate) use decode::headers_to_json;
pub(crate) use enqueue::enqueue;
pub(crate) use inspect::{Bound, Summary, Wanted, figures, summaries};
pub(crate) use look::{Sharing, explain_looking, is_wal, look_into, version};
pub(crate) use purge::{Purge, Uptime, delete_sent, sent_before};
pub(crate) use restore::{Flaw, is_in_place, restore};
pub(crate) use row::{Batch, Content, Fate, Lane, Query, Row, Settlement};
#[cfg(test)]
pub(crate) use schema::open;
pub(crate) use schema::{Creation, OPEN_EXISTING, connect, not_opened, prepare};

/// The forwarder's own connection and what it remembers of the table between two calls.
pub(crate) struct Store {
    conn: Connection,
    data_version: i64,
    purge: purge::Cursor,
    /// As it was when a transaction last asked, for settlements that do without purging.
    era: Option<purge::Era>,
    /// Settlements before purging is tried again, after it failed.
    purge_rests: u32,
    /// Rows that became FAILED in a part of a batch of which the rest could not be written.
    untold: Vec<i64>,
    damage: damage::Damage,
    indexes_mended: bool,
}

impl Store {
    /// Takes over a connection to a [prepared](prepare) database.
    pub fn new(conn: Connection) -> Result<Self, Error> {
        configure(&conn, Role::Forwarder)?;
        let mut store = Store {
            conn,
            data_version: 0,
            purge: purge::Cursor::default(),
            era: None,
            purge_rests: 0,
            untold: Vec::new(),
            damage: damage::Damage::default(),
            indexes_mended: false,
        };
        store.changed()?;
        Ok(store)
    }
}

/// The wall clock in Unix milliseconds; 0 for a clock set before 1970.
pub(crate) fn now_ms() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}

/// What SQLite would have answered, for a wait that was ended in front of it.
pub(crate) fn busy() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY), None)
}

/// [`busy`], for a file that is damaged.
fn malformed() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), None)
}
