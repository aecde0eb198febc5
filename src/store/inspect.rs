//! Looking at the whole table, from a connection that cannot write.

use std::cmp::Reverse;

use rusqlite::{Connection, OptionalExtension};

use super::admin::{FailedRow, Status};
use super::decode::{self, row_columns};
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

macro_rules! summaries {
    ($from:literal) => {
        concat!(
            "SELECT ",
            row_columns!(),
            ", nonce, CASE WHEN octet_length(status) <= 16 THEN status END, status_at, created_at, qos, retain,
               substr(last_error, 1, 1024), substr(held_by, 1, 65541)
             FROM main.outbox ",
            $from
        )
    };
}

const SUMMARIES: &str = summaries!("NOT INDEXED WHERE id > ?1 ORDER BY id");
const FAILED: &str = summaries!("INDEXED BY outbox_failed WHERE status = 'FAILED' AND id > ?1 ORDER BY id");
const SUMMARIES_BACK: &str = summaries!("NOT INDEXED WHERE id < ?1 ORDER BY id DESC");
const FAILED_BACK: &str = summaries!("INDEXED BY outbox_failed WHERE status = 'FAILED' AND id < ?1 ORDER BY id DESC");

/// From where on rows are told of, and in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// Those of greater ids, oldest first.
    After(i64),
    /// Those of smaller ids, newest first.
    Before(i64),
}

impl Bound {
    fn id(self) -> i64 {
        match self {
            Bound::After(id) | Bound::Before(id) => id,
        }
    }

    fn holds(self, row: i64) -> bool {
        match self {
            Bound::After(id) => row > id,
            Bound::Before(id) => row < id,
        }
    }

    /// Behind that row too.
    fn and(self, row: i64) -> Self {
        match self {
            Bound::After(id) => Bound::After(row.max(id)),
            Bound::Before(id) => Bound::Before(row.min(id)),
        }
    }
}

/// Rows looked at in one read transaction: while it lasts, the log does not begin anew.
const BITE: usize = 10_000;

/// Of one moment.
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
        figures.oldest_pending = one(&tx, oldest)?.map(|row| row.created_at);
    }
    if let Some(last) = last {
        figures.last_failed = one(&tx, last)?.map(FailedRow::from);
    }
    figures.unreadable = super::unreadable(&tx)?;
    figures.version = tx.query_row("SELECT version FROM main.outbox_state WHERE id = 1", [], |row| row.get(0))?;
    Ok(figures)
}

/// The row of an id that stands.
fn one(conn: &Connection, id: i64) -> Result<Option<Summary>, Error> {
    let mut statement = conn.prepare_cached(SUMMARIES)?;
    Ok(statement.query_row([id.saturating_sub(1)], |row| Ok(summary(row))).optional()?)
}

/// Rows by id. Not of one moment, if many are looked at.
///
/// Ids that a card changed stand out of order. They are told of, but the last of the rows is always the furthest one:
/// whoever goes on behind it comes to an end.
pub(crate) fn summaries(conn: &Connection, wanted: &Wanted, bound: Bound, most: usize) -> Result<Vec<Summary>, Error> {
    let mut found = gather(conn, wanted, bound, most)?;
    match bound {
        Bound::After(_) => found.sort_by_key(|row| row.id.row()),
        Bound::Before(_) => found.sort_by_key(|row| Reverse(row.id.row())),
    }
    Ok(found)
}

fn gather(conn: &Connection, wanted: &Wanted, bound: Bound, most: usize) -> Result<Vec<Summary>, Error> {
    let (failed, all) = match bound {
        Bound::After(_) => (FAILED, SUMMARIES),
        Bound::Before(_) => (FAILED_BACK, SUMMARIES_BACK),
    };
    let mut statement = match wanted.status {
        // Where somebody dropped the index, they are found all the same.
        Some(Some(Status::Failed)) => conn.prepare_cached(failed).or_else(|_| conn.prepare_cached(all))?,
        _ => conn.prepare_cached(all)?,
    };
    let mut found = Vec::new();
    let mut from = bound;
    loop {
        let begun = from;
        let mut rows = statement.query([from.id()])?;
        for _ in 0..BITE {
            if found.len() == most {
                return Ok(found);
            }
            let Some(row) = rows.next()? else { return Ok(found) };
            let id = decode::integer(row, 0);
            from = from.and(id);
            if bound.holds(id) && wanted.lets_through(row) {
                found.push(summary(row));
            }
        }
        if from == begun {
            return Ok(found);
        }
    }
}

impl Wanted {
    fn lets_through(&self, found: &rusqlite::Row<'_>) -> bool {
        let text = |column| decode::text_bytes(found, column);
        let status = || Status::of(text(decode::AFTER_ROW + 1).and_then(|word| std::str::from_utf8(word).ok()));
        self.status.is_none_or(|wanted| wanted == status())
            && self.key.as_ref().is_none_or(|key| text(4) == Some(key.as_bytes()))
            && self
                .topics
                .as_ref()
                .is_none_or(|topics| topics.matches(&String::from_utf8_lossy(text(2).unwrap_or_default())))
    }
}

impl From<Summary> for FailedRow {
    fn from(row: Summary) -> Self {
        FailedRow {
            id: row.id,
            topic: row.topic,
            key: row.key,
            attempts: row.attempts,
            reason: row.last_error.unwrap_or_default(),
            created_at: row.created_at,
            failed_at: row.status_at,
            size: row.size,
        }
    }
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
