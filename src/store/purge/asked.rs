//! Purging that somebody asks for, on any connection: by the wall clock alone, and for few rows too. The forwarder's own
//! goes on beside it, since it takes rows that are missing for rows that were purged.

use rusqlite::{Connection, Transaction, params};

use super::delete;
use crate::Error;

/// As [`look`](super::look) has it, but for eras: SENT before `?2`, or by a clock that was ahead.
const SENT: &str = "
    SELECT id, status IS 'SENT' AND (status_at <= ?2 OR status_at > ?3) IS TRUE FROM main.outbox NOT INDEXED
    WHERE id > ?1 AND id < (SELECT max(id) FROM main.outbox)
    ORDER BY id LIMIT 2000";

/// Most rows that are deleted in one transaction.
const MOST: usize = 500;

/// Of the next rows behind `after`, those that were sent up to `then` or after `now`, in Unix milliseconds; and up to where
/// that tells of all, `None` where there are no more. In a transaction that writes nothing: to look takes longer than to delete.
pub(crate) fn sent_before(
    conn: &Connection,
    after: i64,
    then: i64,
    now: i64,
) -> Result<(Vec<i64>, Option<i64>), Error> {
    let mut statement = conn.prepare_cached(SENT)?;
    let mut rows = statement.query(params![after, then, now])?;
    let (mut sent, mut upto) = (Vec::new(), None);
    while sent.len() < MOST {
        let Some(row) = rows.next()? else { break };
        let id = row.get(0)?;
        upto = Some(id);
        if row.get(1)? {
            sent.push(id);
        }
    }
    Ok((sent, upto))
}

/// Deletes those of these rows that are SENT, are not the newest, and to which no table of the application's refers: how
/// many.
pub(crate) fn delete_sent(tx: &Transaction<'_>, ids: &[i64]) -> Result<usize, Error> {
    delete(tx, ids)
}
