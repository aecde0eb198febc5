//! How much is pending, at a price that does not depend on it, and whether one message more may be.
//!
//! Rows above the position are counted by their ids and running totals, those set aside below it by the counters in
//! `outbox_state`. That is an upper bound, since above the position some were dealt with already: where it is too much,
//! the rows just above the position are looked at one by one.

use rusqlite::{Connection, OptionalExtension, params};

use super::decode;
use super::read::limit;
use crate::{Error, Full, Limit};

/// What may be pending, and what this process knows of the table.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Budget {
    pub messages: Option<u64>,
    pub bytes: Option<u64>,
    /// Every row up to here is settled or set aside in the table, as a position is. The stored one may be behind it.
    pub settled: i64,
    /// Rows above the position that may have been dealt with.
    pub dealt_with: usize,
}

/// What is pending: rows that are neither SENT nor FAILED, and their bytes, as the table says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Pending {
    pub rows: u64,
    pub bytes: u64,
    /// Of these rows, the ones that wait or are held.
    pub aside: u64,
}

/// Begins to write without writing anything: a transaction that reads first could be told to begin again when it
/// writes.
const BEGIN_TO_WRITE: &str = "UPDATE main.outbox_state SET barrier = barrier WHERE 0";

/// The ends of what is pending.
const ENDS: &str = "
    SELECT (SELECT max(id) FROM main.outbox), (SELECT total_bytes FROM main.outbox ORDER BY id DESC LIMIT 1),
           position, aside, aside_bytes
    FROM main.outbox_state WHERE id = 1";

/// The running total before the first row above the position.
const BEFORE: &str = "
    SELECT total_bytes, bytes FROM main.outbox NOT INDEXED WHERE id > ?1 ORDER BY id LIMIT 1";

const LOOK: &str = "
    SELECT count(*), max(id), count(*) FILTER (WHERE fresh), sum(bytes) FILTER (WHERE fresh)
    FROM (SELECT id, status IS NOT 'SENT' AND status IS NOT 'FAILED' AND held_by IS NULL
                     AND (attempts > 0) IS NOT TRUE AS fresh,
                 ifnull(octet_length(topic), 0) + ifnull(octet_length(key), 0) + ifnull(octet_length(content_type), 0)
                 + ifnull(octet_length(headers), 0) + ifnull(octet_length(payload), 0)
                 + ifnull(octet_length(response_topic), 0) + ifnull(octet_length(correlation_data), 0) AS bytes
          FROM main.outbox NOT INDEXED WHERE id > ?1 ORDER BY id LIMIT ?2)";

const ANY_DEALT_WITH: &str = "
    SELECT EXISTS (SELECT 1 FROM (SELECT status, held_by, attempts FROM main.outbox NOT INDEXED
                                  WHERE id > ?1 ORDER BY id LIMIT 64)
                   WHERE status IS 'SENT' OR status IS 'FAILED' OR held_by IS NOT NULL OR attempts > 0)";

const ANY_ASIDE: &str = "
    SELECT EXISTS (SELECT 1 FROM main.outbox INDEXED BY outbox_again
                   WHERE status IS NOT 'SENT' AND status IS NOT 'FAILED' AND attempts > 0 AND held_by IS NULL)
        OR EXISTS (SELECT 1 FROM main.outbox INDEXED BY outbox_held
                   WHERE held_by IS NOT NULL AND status IS NOT 'SENT' AND status IS NOT 'FAILED')";

/// How many rows are set aside, as the counter says, and as the indexes do; both no further than the bound.
const ASIDE: &str = "
    SELECT min(aside, ?1), aside = 0 AND aside_bytes IS NOT 0,
           (SELECT count(*) FROM (
                SELECT 1 FROM main.outbox INDEXED BY outbox_again
                WHERE status IS NOT 'SENT' AND status IS NOT 'FAILED' AND attempts > 0 AND held_by IS NULL AND id > 0
                LIMIT ?1)),
           (SELECT count(*) FROM (
                SELECT 1 FROM main.outbox INDEXED BY outbox_held
                WHERE held_by IS NOT NULL AND status IS NOT 'SENT' AND status IS NOT 'FAILED' LIMIT ?1))
    FROM main.outbox_state WHERE id = 1";

/// So many are counted at a start: a few milliseconds.
const COUNTED: i64 = 100_000;

/// The counters as they have to be. They are right by themselves, unless the file was damaged or somebody wrote over them.
const RECOUNT: &str = "
    UPDATE main.outbox_state SET (aside, aside_bytes) = (
        SELECT count(*), CAST(min(max(ifnull(sum(bytes), 0), 0), 9007199254740991) AS INTEGER) FROM (
            SELECT bytes FROM main.outbox INDEXED BY outbox_again
            WHERE status IS NOT 'SENT' AND status IS NOT 'FAILED' AND attempts > 0 AND held_by IS NULL
            UNION ALL
            SELECT bytes FROM main.outbox INDEXED BY outbox_held
            WHERE held_by IS NOT NULL AND status IS NOT 'SENT' AND status IS NOT 'FAILED'))
    WHERE id = 1";

/// Whether a message of `size` bytes may be written as the newest row. Asks nothing where there is no budget.
///
/// # Errors
/// [`Error::Full`], and the transaction can go on.
pub(super) fn admit(conn: &Connection, size: u64, budget: &Budget) -> Result<(), Error> {
    let Budget { messages, bytes, settled, dealt_with } = *budget;
    if messages.is_none() && bytes.is_none() {
        return Ok(());
    }
    conn.prepare_cached(BEGIN_TO_WRITE)?.execute([])?;
    let ends = Ends::of(conn, settled)?;
    let fits = |found: Option<u64>, wanted: u64, allowed: Option<u64>| {
        allowed.is_none_or(|allowed| found.is_some_and(|found| found.saturating_add(wanted) <= allowed))
    };
    let bound = if bytes.is_some() { ends.bytes(conn)? } else { None };
    if fits(Some(ends.rows()), 1, messages) && fits(bound, size, bytes) {
        return Ok(());
    }
    let found = ends.look(conn, dealt_with)?;
    let full = |limit, found, allowed: Option<u64>, wanted| {
        Err(Error::Full(Full { limit, found, allowed: allowed.unwrap_or_default(), wanted }))
    };
    if !fits(Some(found.rows), 1, messages) {
        return full(Limit::PendingMessages, found.rows, messages, 1);
    }
    if !fits(Some(found.bytes), size, bytes) {
        return full(Limit::PendingBytes, found.bytes, bytes, size);
    }
    Ok(())
}

/// What is pending. `settled` and `dealt_with` as in [`Budget`].
pub(crate) fn pending(conn: &Connection, settled: i64, dealt_with: usize) -> Result<Pending, Error> {
    Ends::of(conn, settled)?.look(conn, dealt_with)
}

/// What is known of the rows that are set aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Aside {
    counter: i64,
    bytes_without_rows: bool,
    /// By the indexes.
    pub found: i64,
}

impl Aside {
    pub fn of(conn: &Connection) -> Result<Self, Error> {
        let aside = conn.query_row(ASIDE, [COUNTED], |row| {
            let found = row.get::<_, i64>(2)?.saturating_add(row.get(3)?).min(COUNTED);
            Ok(Aside { counter: decode::integer(row, 0), bytes_without_rows: row.get(1)?, found })
        })?;
        Ok(aside)
    }

    pub fn agrees(self) -> bool {
        self.counter == self.found && !self.bytes_without_rows
    }
}

/// Sets the counters right.
pub(super) fn recount_aside(conn: &Connection) -> Result<(), Error> {
    conn.execute(RECOUNT, [])?;
    Ok(())
}

/// Where what is pending begins and ends. Any of it may be damaged.
struct Ends {
    newest: i64,
    /// The running total up to the newest row.
    total: Option<i64>,
    /// Every row up to here is settled or set aside.
    position: i64,
    aside: i64,
    aside_bytes: i64,
}

impl Ends {
    fn of(conn: &Connection, settled: i64) -> Result<Self, Error> {
        let ends = conn.prepare_cached(ENDS)?.query_row([], |row| {
            Ok(Ends {
                newest: decode::integer(row, 0),
                total: row.get(1).ok(),
                position: decode::integer(row, 2),
                aside: decode::integer(row, 3),
                aside_bytes: decode::integer(row, 4),
            })
        })?;
        // A position ahead of the table was not written by us, nor was a counter above all the rows there are.
        let known = |id: i64| if id > ends.newest { 0 } else { id.max(0) };
        Ok(Ends { position: known(ends.position).max(known(settled)), aside: known(ends.aside), ..ends })
    }

    /// At least as many rows as are pending.
    fn rows(&self) -> u64 {
        unsigned(self.newest.saturating_sub(self.position).saturating_add(self.aside))
    }

    /// At least as many bytes as are pending; `None` where the totals are damaged.
    fn bytes(&self, conn: &Connection) -> Result<Option<u64>, Error> {
        let mut statement = conn.prepare_cached(BEFORE)?;
        let before: Option<Option<(i64, i64)>> =
            statement.query_row([self.position], |row| Ok(row.get(0).ok().zip(row.get(1).ok()))).optional()?;
        let above = match before {
            None => Some(0),
            Some(before) => before.and_then(|(total, bytes)| self.total?.checked_sub(total.checked_sub(bytes)?)),
        };
        Ok(above.filter(|above| *above >= 0).map(|above| unsigned(above.saturating_add(self.aside_bytes.max(0)))))
    }

    /// What is pending, with a look at the rows that may have been dealt with: the first ones above the position, and
    /// where rows far above it were, because one below them is in the way, those around the last of them. Of the rows
    /// behind them it is taken that they stand without a gap, and that none was dealt with; of those between, that all
    /// were but the few that are in the way.
    fn look(&self, conn: &Connection, among: usize) -> Result<Pending, Error> {
        let mut seen = scan(conn, self.position, among)?;
        if seen.last < self.newest && any_dealt_with(conn, seen.last)? {
            let last = last_dealt_with(conn, seen.last, self.newest)?;
            let around = scan(conn, last.saturating_sub(limit(among)).max(seen.last), among.saturating_mul(2))?;
            seen = Seen { fresh: seen.fresh + around.fresh, bytes: seen.bytes.saturating_add(around.bytes), ..around };
        }
        let (mut rows, mut bytes) = (seen.fresh, seen.bytes);
        if seen.last < self.newest {
            rows += self.newest - seen.last;
            let total: Option<i64> = conn
                .prepare_cached("SELECT total_bytes FROM main.outbox WHERE id = ?1")?
                .query_row([seen.last], |row| Ok(row.get(0).ok()))
                .optional()?
                .flatten();
            let behind = self.total.zip(total).and_then(|(newest, total)| newest.checked_sub(total));
            bytes = bytes.saturating_add(believed(conn, behind.unwrap_or(0))?);
        }
        let (mut aside, mut aside_bytes) = (self.aside, self.aside_bytes);
        if (aside != 0 || aside_bytes != 0) && !conn.prepare_cached(ANY_ASIDE)?.query_row([], |row| row.get(0))? {
            (aside, aside_bytes) = (0, 0);
        }
        Ok(Pending {
            rows: unsigned(rows.saturating_add(aside)),
            bytes: unsigned(bytes.saturating_add(believed(conn, aside_bytes)?)),
            aside: unsigned(aside),
        })
    }
}

/// What a look at some rows found.
struct Seen {
    /// The last of them; `i64::MAX` where there were no more.
    last: i64,
    fresh: i64,
    bytes: i64,
}

/// Looks at `among` rows behind `after`.
fn scan(conn: &Connection, after: i64, among: usize) -> Result<Seen, Error> {
    let mut statement = conn.prepare_cached(LOOK)?;
    let seen = statement.query_row(params![after, limit(among)], |row| {
        let column = |nth| decode::integer(row, nth);
        let last = if column(0) == limit(among) { column(1) } else { i64::MAX };
        Ok(Seen { last, fresh: column(2), bytes: column(3) })
    })?;
    Ok(seen)
}

/// Whether any of the rows just behind `after` was dealt with: of more of them than can be in the way at once.
fn any_dealt_with(conn: &Connection, after: i64) -> Result<bool, Error> {
    Ok(conn.prepare_cached(ANY_DEALT_WITH)?.query_row([after], |row| row.get(0))?)
}

/// About where the rows end that were dealt with. They are sent in the order of their ids, so halving finds it.
fn last_dealt_with(conn: &Connection, dealt_with: i64, newest: i64) -> Result<i64, Error> {
    let (mut low, mut high) = (dealt_with, newest);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        *(if any_dealt_with(conn, middle)? { &mut low } else { &mut high }) = middle;
    }
    Ok(high)
}

/// That many bytes, or none where it is more than the database holds or less than nothing: then it is damage, and no
/// reason to take no message any more.
fn believed(conn: &Connection, bytes: i64) -> Result<i64, Error> {
    if bytes == 0 {
        return Ok(0);
    }
    let number = |pragma| conn.pragma_query_value(Some("main"), pragma, |row| row.get::<_, i64>(0));
    let size = number("page_count")?.saturating_mul(number("page_size")?);
    Ok(if (0..=size).contains(&bytes) { bytes } else { 0 })
}

fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}
