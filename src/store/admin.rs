//! What people ask of the outbox: failed messages, single rows, counts. On any connection to the database, from any
//! thread of the application's.

use log::debug;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, named_params, params};

use super::decode::{self, AFTER_CONTENT, content_columns, row_columns};
use super::read::limit;
use super::{Content, now_ms};
use crate::Error;
use crate::message::MessageId;

/// A message that was parked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct FailedRow {
    pub id: MessageId,
    pub topic: String,
    pub key: Option<String>,
    pub attempts: u32,
    pub reason: String,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds.
    pub failed_at: i64,
    /// Bytes on the wire, about.
    pub size: usize,
}

/// The words of `outbox.status`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Status {
    Pending,
    Sent,
    Failed,
}

impl Status {
    pub fn word(self) -> &'static str {
        match self {
            Status::Pending => "PENDING",
            Status::Sent => "SENT",
            Status::Failed => "FAILED",
        }
    }

    pub fn of(word: Option<&str>) -> Option<Status> {
        [Status::Pending, Status::Sent, Status::Failed].into_iter().find(|status| word == Some(status.word()))
    }
}

/// All of one row.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub id: MessageId,
    /// `None`: damaged, it is none of the words.
    pub status: Option<Status>,
    /// Since when it has that status, in Unix milliseconds.
    pub status_at: i64,
    /// Unix milliseconds.
    pub created_at: i64,
    pub attempts: u32,
    pub last_error: Option<String>,
    pub held_by: Option<String>,
    /// Bytes on the wire, about.
    pub size: usize,
    pub content: Content,
}

const FAILED: &str = concat!(
    "SELECT ",
    row_columns!(),
    ", nonce, substr(last_error, 1, 1024), created_at, status_at
     FROM main.outbox INDEXED BY outbox_failed WHERE status = 'FAILED' AND id > ?1 ORDER BY id LIMIT ?2"
);

const GET: &str = concat!(
    "SELECT ",
    row_columns!(),
    ", ",
    content_columns!(),
    ",
            status_at, created_at, substr(last_error, 1, 1024), substr(held_by, 1, 65541)
     FROM main.outbox WHERE id = :id"
);

const RETRY: &str = "
    UPDATE main.outbox
    SET status = 'PENDING', status_at = ?3, filler = NULL, attempts = 1, wait_ms = 0, held_by = NULL
    WHERE status = 'FAILED' AND id BETWEEN ?1 AND ?2";

/// The id at the end of the next bite of failed rows.
const RETRY_BITE: &str = "
    SELECT max(id) FROM (SELECT id FROM main.outbox INDEXED BY outbox_failed
                         WHERE status = 'FAILED' AND id > ?1 AND id <= ?2 ORDER BY id LIMIT 500)";

const DISCARD_BITE: &str = "
    SELECT id FROM main.outbox INDEXED BY outbox_failed
    WHERE status = 'FAILED' AND id > ?1 AND id <= ?2 ORDER BY id LIMIT 500";

// The newest row has to stay until a newer one exists: emptied, and as if sent long ago, it goes with a later purge.
const EMPTY: &str = "
    UPDATE main.outbox
    SET status = 'SENT', filler = 'old', status_at = 0, last_error = 'discarded',
        key = NULL, headers = NULL, content_type = NULL, response_topic = NULL, correlation_data = NULL,
        expires_at = NULL, payload = x'', checksum = NULL
    WHERE id = ?1 AND status = 'FAILED'";

/// Parked messages behind `after`, by id.
pub(crate) fn failed(conn: &Connection, after: i64, most: usize) -> Result<Vec<FailedRow>, Error> {
    let mut statement = conn.prepare_cached(FAILED)?;
    let rows = statement.query_map(params![after, limit(most)], |found| {
        let row = decode::row(found);
        Ok(FailedRow {
            id: MessageId::new(row.id, decode::integer(found, decode::AFTER_ROW)),
            topic: row.topic.as_ref().to_owned(),
            key: row.key.as_deref().map(str::to_owned),
            attempts: row.attempts,
            reason: decode::lossy(found, decode::AFTER_ROW + 1).unwrap_or_default(),
            created_at: decode::integer(found, decode::AFTER_ROW + 2),
            failed_at: decode::integer(found, decode::AFTER_ROW + 3),
            size: row.size,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// One row, whatever its status; its message is left out if its payload is above `max_payload`.
pub(crate) fn get(conn: &Connection, id: i64, max_payload: usize) -> Result<Option<Stored>, Error> {
    let mut statement = conn.prepare_cached(GET)?;
    let stored = statement
        .query_row(named_params! { ":id": id, ":max_payload": limit(max_payload) }, |found| {
            let row = decode::row(found);
            Ok(Stored {
                id: MessageId::new(row.id, decode::integer(found, decode::AFTER_ROW + 1)),
                status: Status::of(decode::lossy(found, decode::AFTER_ROW).as_deref()),
                status_at: decode::integer(found, AFTER_CONTENT),
                created_at: decode::integer(found, AFTER_CONTENT + 1),
                attempts: row.attempts,
                last_error: decode::lossy(found, AFTER_CONTENT + 2),
                held_by: decode::lossy(found, AFTER_CONTENT + 3),
                size: row.size,
                content: decode::content(found, max_payload),
            })
        })
        .optional()?;
    Ok(stored)
}

/// Makes a parked message PENDING again, as if refused once: it is sent next, and has all other attempts before it. If
/// its expiry is over, it has none any more: the trigger `outbox_reopened` sees to that, for retries by hand too.
pub(crate) fn retry(conn: &Connection, id: i64) -> Result<(), Error> {
    match conn.prepare_cached(RETRY)?.execute(params![id, id, now_ms()])? {
        0 => Err(Error::NoSuchMessage { id, wanted: "a failed message" }),
        _ => Ok(()),
    }
}

/// [`retry`] for every message that is parked by now, 500 in one statement. How many there were.
pub(crate) fn retry_all(conn: &Connection) -> Result<usize, Error> {
    let Some(last) = last_failed(conn)? else { return Ok(0) };
    let (mut done, mut retried) = (i64::MIN, 0);
    while done < last {
        let end: Option<i64> = conn.prepare_cached(RETRY_BITE)?.query_row([done, last], |row| row.get(0))?;
        let Some(end) = end else { break };
        retried += conn.prepare_cached(RETRY)?.execute(params![done.saturating_add(1), end, now_ms()])?;
        done = end;
    }
    Ok(retried)
}

/// The newest parked message.
pub(crate) fn last_failed(conn: &Connection) -> Result<Option<i64>, Error> {
    let sql = "SELECT max(id) FROM main.outbox INDEXED BY outbox_failed WHERE status = 'FAILED'";
    Ok(conn.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

/// Deletes the next parked messages behind `after`, up to `last`: how many went, and up to where it got; `None` where
/// there are no more. Those that a table of the application's refers to stay.
pub(crate) fn discard_some(tx: &Transaction<'_>, after: i64, last: i64) -> Result<(usize, Option<i64>), Error> {
    let mut statement = tx.prepare_cached(DISCARD_BITE)?;
    let ids: Vec<i64> = statement.query_map([after, last], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut gone = 0;
    for id in &ids {
        match discard(tx, *id) {
            Ok(()) => gone += 1,
            Err(Error::Sqlite(error)) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                debug!("row {id} cannot be discarded: {error}");
            }
            Err(error) => return Err(error),
        }
    }
    Ok((gone, ids.last().copied()))
}

/// Deletes a parked message.
pub(crate) fn discard(conn: &Connection, id: i64) -> Result<(), Error> {
    let deleted = conn
        .prepare_cached(
            "DELETE FROM main.outbox
             WHERE id = ?1 AND status = 'FAILED' AND id < (SELECT max(id) FROM main.outbox)",
        )?
        .execute([id])?;
    if deleted == 0 && conn.prepare_cached(EMPTY)?.execute([id])? == 0 {
        return Err(Error::NoSuchMessage { id, wanted: "a failed message" });
    }
    Ok(())
}

/// Parked messages.
pub(crate) fn failed_count(conn: &Connection) -> Result<u64, Error> {
    count(conn, "SELECT count(*) FROM main.outbox INDEXED BY outbox_failed WHERE status = 'FAILED'")
}

/// The newest row's id, 0 in an empty table.
pub(crate) fn newest(conn: &Connection) -> Result<i64, Error> {
    let newest =
        conn.prepare_cached("SELECT max(id) FROM main.outbox")?.query_row([], |row| Ok(decode::integer(row, 0)));
    Ok(newest?)
}

/// The position that is stored: every row up to it is settled, waiting or held.
pub(crate) fn position(conn: &Connection) -> Result<i64, Error> {
    let mut statement = conn.prepare_cached("SELECT position FROM main.outbox_state WHERE id = 1")?;
    let position = statement.query_row([], |row| Ok(decode::integer(row, 0)))?;
    match newest(conn) {
        // A position ahead of the table was not written by us: better to look at every row than to miss one.
        Ok(newest) if position > newest => Ok(0),
        // The last page is damaged, which says nothing of the rows before it.
        Ok(_) | Err(Error::Damaged(_)) => Ok(position.max(0)),
        Err(error) => Err(error),
    }
}

/// Rows that were passed over since they could not be read, or not be written.
pub(crate) fn unreadable(conn: &Connection) -> Result<u64, Error> {
    count(conn, "SELECT max(0, unreadable) FROM main.outbox_state WHERE id = 1")
}

fn count(conn: &Connection, sql: &str) -> Result<u64, Error> {
    let count: i64 = conn.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Whether any row up to `id` still waits, in a lane or by itself. Rows above the position are not looked at.
pub(crate) fn pending_upto(conn: &Connection, id: i64) -> Result<bool, Error> {
    let mut statement = conn.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM main.outbox INDEXED BY outbox_again
                        WHERE status IS NOT 'SENT' AND status IS NOT 'FAILED' AND attempts > 0 AND held_by IS NULL
                          AND id <= ?1)
             OR EXISTS (SELECT 1 FROM main.outbox INDEXED BY outbox_held
                        WHERE held_by IS NOT NULL AND status IS NOT 'SENT' AND status IS NOT 'FAILED' AND id <= ?1)",
    )?;
    Ok(statement.query_row([id], |row| row.get(0))?)
}

/// Whether any row up to `upto` is still to be dealt with, in a lane, by itself, or above the position `after`.
pub(crate) fn is_pending(conn: &Connection, after: i64, upto: i64) -> Result<bool, Error> {
    let mut statement = conn.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM main.outbox NOT INDEXED
                        WHERE id > ?1 AND id <= ?2 AND status IS NOT 'SENT' AND status IS NOT 'FAILED')",
    )?;
    Ok(statement.query_row([after, upto], |row| row.get(0))? || pending_upto(conn, upto)?)
}

/// When the oldest message that is still to be sent was written, in Unix milliseconds. `after` is the position: rows
/// up to it are found by their indexes.
pub(crate) fn oldest_pending(conn: &Connection, after: i64) -> Result<Option<i64>, Error> {
    let mut statement = conn.prepare_cached(
        "SELECT created_at FROM main.outbox WHERE id = (
             SELECT min(id) FROM (
                 SELECT min(id) AS id FROM main.outbox INDEXED BY outbox_again
                 WHERE status IS NOT 'SENT' AND status IS NOT 'FAILED' AND attempts > 0 AND held_by IS NULL
                 UNION ALL
                 SELECT min(id) FROM main.outbox INDEXED BY outbox_held
                 WHERE held_by IS NOT NULL AND status IS NOT 'SENT' AND status IS NOT 'FAILED'
                 UNION ALL
                 SELECT id FROM (SELECT id FROM main.outbox NOT INDEXED
                                 WHERE id > ?1 AND status IS NOT 'SENT' AND status IS NOT 'FAILED'
                                 ORDER BY id LIMIT 1)))",
    )?;
    Ok(statement.query_row([after], |row| Ok(decode::integer(row, 0))).optional()?)
}

/// Messages behind `after` that nobody has dealt with. The first `among` rows are looked at; of those behind them it is
/// taken that they stand without a gap, and are SENT or FAILED nowhere.
pub(crate) fn fresh_above(conn: &Connection, after: i64, among: usize) -> Result<u64, Error> {
    let mut statement = conn.prepare_cached(
        "SELECT count(*), max(id),
                count(*) FILTER (WHERE status IS NOT 'SENT' AND status IS NOT 'FAILED'
                                 AND held_by IS NULL AND (attempts > 0) IS NOT TRUE)
         FROM (SELECT id, status, held_by, attempts FROM main.outbox NOT INDEXED WHERE id > ?1 ORDER BY id LIMIT ?2)",
    )?;
    let counted = statement.query_row(params![after, limit(among)], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    let (seen, last, fresh): (i64, Option<i64>, i64) = match counted.map_err(Error::from) {
        // None of them can be looked at, then.
        Err(Error::Damaged(_)) => (limit(among), Some(after), 0),
        counted => counted?,
    };
    let mut count = fresh;
    if let Some(last) = last.filter(|_| seen == limit(among)) {
        let mut statement = conn.prepare_cached(
            "SELECT (SELECT count(*) FROM main.outbox INDEXED BY outbox_again
                     WHERE status IS NOT 'SENT' AND status IS NOT 'FAILED' AND attempts > 0 AND held_by IS NULL
                       AND id > ?1)
                  + (SELECT count(*) FROM main.outbox INDEXED BY outbox_held
                     WHERE held_by IS NOT NULL AND status IS NOT 'SENT' AND status IS NOT 'FAILED' AND id > ?1)",
        )?;
        let exceptions: i64 = statement.query_row([last], |row| row.get(0))?;
        count = count.saturating_add(newest(conn)?.saturating_sub(last).saturating_sub(exceptions));
    }
    Ok(u64::try_from(count).unwrap_or(0))
}
