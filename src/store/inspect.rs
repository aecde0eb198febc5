//! Looking at the whole table, from a connection that cannot write.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, named_params};

use super::admin::{FailedRow, Status};
use super::decode::{self, row_columns};
use super::schema;
use crate::Error;
use crate::message::{MessageId, QoS};
use crate::topic_filter::TopicFilter;

/// What stands in the table, of one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub version: i64,
    pub pending: u64,
    pub pending_bytes: u64,
    pub waiting: u64,
    pub held: u64,
    pub failed: u64,
    pub sent: u64,
    pub unreadable: u64,
    /// Unix milliseconds.
    pub oldest_pending: Option<i64>,
    pub last_failed: Option<FailedRow>,
}

/// One row, without what is large.
#[derive(Clone, Debug)]
pub(crate) struct Summary {
    pub id: MessageId,
    /// `None`: damaged, it is none of the words.
    pub status: Option<Status>,
    /// Unix milliseconds.
    pub status_at: i64,
    /// Unix milliseconds.
    pub created_at: i64,
    pub topic: String,
    pub key: Option<String>,
    pub qos: Option<QoS>,
    pub retain: bool,
    pub size: usize,
    pub attempts: u32,
    pub last_error: Option<String>,
    pub held_by: Option<String>,
}

/// Which rows are told of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// `Some(None)`: those that have none of the words.
    pub status: Option<Option<Status>>,
    pub topics: Option<TopicFilter>,
    pub key: Option<String>,
}

const COUNT: &str = "
    SELECT count(*) FILTER (WHERE status IS NOT 'SENT' AND status IS NOT 'FAILED'),
           total(CASE WHEN status IS NOT 'SENT' AND status IS NOT 'FAILED' THEN bytes END),
           count(*) FILTER (WHERE status IS NOT 'SENT' AND status IS NOT 'FAILED'
                            AND held_by IS NULL AND (attempts > 0) IS TRUE),
           count(*) FILTER (WHERE status IS NOT 'SENT' AND status IS NOT 'FAILED' AND held_by IS NOT NULL),
           count(*) FILTER (WHERE status = 'FAILED'),
           count(*) FILTER (WHERE status = 'SENT'),
           min(CASE WHEN status IS NOT 'SENT' AND status IS NOT 'FAILED' THEN id END),
           max(CASE WHEN status = 'FAILED' THEN id END)
    FROM main.outbox NOT INDEXED";

const SUMMARIES: &str = concat!(
    "SELECT ",
    row_columns!(),
    ", nonce, CASE WHEN octet_length(status) <= 16 THEN status END, status_at, created_at, qos, retain,
       substr(last_error, 1, 1024), substr(held_by, 1, 65541)
     FROM main.outbox NOT INDEXED
     WHERE id > :after AND (:status IS NULL OR status = :status) AND (:key IS NULL OR key = :key)
     ORDER BY id"
);

/// A connection that cannot write, to a database that has an outbox of our version.
///
/// # Errors
/// [`Error::Missing`], [`Error::NoOutbox`], [`Error::CannotOpen`], [`Error::NotADatabase`], [`Error::NewerSchema`],
/// [`Error::ForeignTable`], [`Error::Busy`].
pub(crate) fn look_into(path: &Path, busy_timeout: Duration) -> Result<Connection, Error> {
    if schema::is_missing(path) {
        return Err(Error::Missing { path: path.to_owned() });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)
        .map_err(|source| Error::CannotOpen { path: path.to_owned(), source })?;
    conn.busy_timeout(busy_timeout)?;
    match schema::version(&conn, path)? {
        0 => Err(Error::NoOutbox { path: path.to_owned() }),
        _ => Ok(conn),
    }
}

/// The version of the outbox's tables.
pub(crate) fn version(conn: &Connection, path: &Path) -> Result<i64, Error> {
    schema::version(conn, path).map(|version| i64::try_from(version).unwrap_or(i64::MAX))
}

pub(crate) fn figures(conn: &Connection) -> Result<Figures, Error> {
    let tx = conn.unchecked_transaction()?;
    let mut figures = Figures::default();
    let (oldest, last): (Option<i64>, Option<i64>) = tx.query_row(COUNT, [], |row| {
        let count = |column| Ok::<_, rusqlite::Error>(row.get::<_, i64>(column)?.unsigned_abs());
        figures.pending = count(0)?;
        figures.pending_bytes = row.get::<_, f64>(1)? as u64;
        figures.waiting = count(2)?;
        figures.held = count(3)?;
        figures.failed = count(4)?;
        figures.sent = count(5)?;
        Ok((row.get(6)?, row.get(7)?))
    })?;
    if let Some(oldest) = oldest {
        let created_at = "SELECT created_at FROM main.outbox WHERE id = ?1";
        figures.oldest_pending = Some(tx.query_row(created_at, [oldest], |row| Ok(decode::integer(row, 0)))?);
    }
    if let Some(last) = last {
        figures.last_failed = super::failed(&tx, last.saturating_sub(1), 1)?.pop();
    }
    figures.unreadable = super::unreadable(&tx)?;
    figures.version = tx.query_row("SELECT version FROM main.outbox_state WHERE id = 1", [], |row| row.get(0))?;
    Ok(figures)
}

/// Rows behind `after`, by id.
pub(crate) fn summaries(conn: &Connection, wanted: &Wanted, after: i64, most: usize) -> Result<Vec<Summary>, Error> {
    let status = wanted.status.flatten().map(Status::word);
    let mut statement = conn.prepare_cached(SUMMARIES)?;
    let mut rows = statement.query(named_params! { ":after": after, ":status": status, ":key": wanted.key })?;
    let mut found = Vec::new();
    while found.len() < most {
        let Some(row) = rows.next()? else { break };
        let summary = summary(row);
        if wanted.topics.as_ref().is_none_or(|topics| topics.matches(&summary.topic))
            && wanted.status.is_none_or(|status| status == summary.status)
        {
            found.push(summary);
        }
    }
    Ok(found)
}

fn summary(found: &rusqlite::Row<'_>) -> Summary {
    let row = decode::row(found);
    let column = |nth: usize| decode::AFTER_ROW + nth;
    Summary {
        id: MessageId::new(row.id, decode::integer(found, column(0))),
        status: Status::of(decode::lossy(found, column(1)).as_deref()),
        status_at: decode::integer(found, column(2)),
        created_at: decode::integer(found, column(3)),
        topic: row.topic.as_ref().to_owned(),
        key: row.key.as_deref().map(str::to_owned),
        qos: u8::try_from(found.get(column(4)).unwrap_or(-1)).ok().and_then(QoS::from_level),
        retain: decode::integer(found, column(5)) == 1,
        size: row.size,
        attempts: row.attempts,
        last_error: decode::lossy(found, column(6)),
        held_by: decode::lossy(found, column(7)),
    }
}
