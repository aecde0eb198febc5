//! What the forwarder reads: fresh rows in commit order, and by index what was refused or waits.
//!
//! Everything that is neither SENT nor FAILED is still to be dealt with. So the statements say that, and not
//! `status = 'PENDING'`: a row whose status was damaged is then found and parked, not passed over in silence.

use rusqlite::types::ValueRef;
use rusqlite::{OptionalExtension, Statement, ToSql, ffi, named_params, params};

use super::damage::{of_a_row, stands};
use super::decode::{self, AFTER_CONTENT, AFTER_ROW, content_columns, row_columns};
use super::settle::{is_wrong_type, park_damaged};
use super::{Content, FailedRow, Lane, Row, Store, admin, now_ms};
use crate::Error;

/// Whether nobody has dealt with a row. One that says that it waits or is held, and does not stand in the index for that,
/// would never be found: a bit of it was flipped.
macro_rules! is_fresh {
    () => {
        "status IS NOT 'SENT' AND status IS NOT 'FAILED'
         AND (held_by IS NULL AND (attempts > 0) IS NOT TRUE
              OR NOT EXISTS (SELECT 1 FROM main.outbox AS again INDEXED BY outbox_again
                             WHERE again.id = outbox.id AND again.attempts > 0 AND again.held_by IS NULL
                               AND again.status IS NOT 'SENT' AND again.status IS NOT 'FAILED')
             AND NOT EXISTS (SELECT 1 FROM main.outbox AS held INDEXED BY outbox_held
                             WHERE held.held_by = outbox.held_by AND held.id = outbox.id
                               AND held.status IS NOT 'SENT' AND held.status IS NOT 'FAILED'))"
    };
}

/// What is read of such a row, and whether its key's lane is held.
macro_rules! fresh_columns {
    () => {
        concat!(
            row_columns!(),
            ", ",
            content_columns!(),
            ",
            :lanes AND key IS NOT NULL
            AND EXISTS (SELECT 1 FROM main.outbox AS held
                        WHERE held.held_by = 'key ' || outbox.key
                          AND held.status IS NOT 'SENT' AND held.status IS NOT 'FAILED')"
        )
    };
}
pub(super) use {fresh_columns, is_fresh};

const FRESH: &str = concat!(
    "SELECT ",
    fresh_columns!(),
    "
     FROM main.outbox NOT INDEXED
     WHERE id >= :after + 1 AND ",
    is_fresh!(),
    " ORDER BY id LIMIT :rows"
);

const LOAD: &str = concat!(
    "SELECT ",
    row_columns!(),
    ", ",
    content_columns!(),
    " FROM main.outbox WHERE id = :id AND status IS NOT 'SENT' AND status IS NOT 'FAILED'"
);

// SQLite believes an index, and looks for nothing in the table that the index holds, or is made by. So it is asked whether
// the table says the same: one bit turned over in an entry makes it another row's, or another lane's, and hides the one it
// was for.
const AGAIN: &str = concat!(
    "SELECT ",
    row_columns!(),
    ", (SELECT status IS NOT 'SENT' AND status IS NOT 'FAILED' AND attempts > 0 AND held_by IS NULL
        FROM main.outbox AS row NOT INDEXED WHERE row.id = outbox.id)
     FROM main.outbox INDEXED BY outbox_again
     WHERE status IS NOT 'SENT' AND status IS NOT 'FAILED' AND attempts > 0 AND held_by IS NULL AND id > ?1
     ORDER BY id LIMIT ?2"
);

macro_rules! held_alike {
    () => {
        "(SELECT status IS NOT 'SENT' AND status IS NOT 'FAILED'
                 AND (octet_length(row.held_by) > 65541 OR row.held_by IS outbox.held_by)
          FROM main.outbox AS row NOT INDEXED WHERE row.id = outbox.id)"
    };
}

const LANE: &str = concat!(
    "SELECT ",
    row_columns!(),
    ", ",
    held_alike!(),
    " FROM main.outbox INDEXED BY outbox_held
     WHERE held_by = ?1 AND id > ?2 AND status IS NOT 'SENT' AND status IS NOT 'FAILED' ORDER BY id LIMIT ?3"
);

/// The next lane behind a given one. 65,541 bytes are 'topic ' and the longest topic.
const NEXT_LANE: &str = concat!(
    "SELECT ",
    row_columns!(),
    ", ",
    held_alike!(),
    ", CASE WHEN octet_length(held_by) <= 65541 THEN held_by END
     FROM main.outbox INDEXED BY outbox_held
     WHERE held_by > ?1 AND status IS NOT 'SENT' AND status IS NOT 'FAILED' ORDER BY held_by, id LIMIT 1"
);

/// Takes rows out of the lane of the given one, so that they are sent again one by one.
const RELEASE: &str = "
    UPDATE main.outbox SET held_by = NULL, attempts = max(attempts, 1)
    WHERE id IN (SELECT id FROM main.outbox
                 WHERE held_by = (SELECT held_by FROM main.outbox WHERE id = ?1)
                   AND status IS NOT 'SENT' AND status IS NOT 'FAILED' ORDER BY id LIMIT 500)";

const RELEASE_ONE: &str = "UPDATE main.outbox SET held_by = NULL, attempts = max(attempts, 1) WHERE id = ?1";

/// Numbers, and text that is empty, stand before every lane: [`NEXT_LANE`] does not come by.
const BEFORE_LANES: &str = "
    SELECT id FROM main.outbox INDEXED BY outbox_held
    WHERE held_by <= '' AND status IS NOT 'SENT' AND status IS NOT 'FAILED' LIMIT 1";

/// Ids begin at 1; reading begins behind 0.
const MISPLACED: &str = "
    SELECT id FROM main.outbox WHERE id < 1 AND status IS NOT 'SENT' AND status IS NOT 'FAILED' ORDER BY id LIMIT 500";

impl Store {
    /// Rows behind `after` that nobody has dealt with, until `rows` or `bytes` are reached, the row that reaches it
    /// included. A payload above `max_payload` never comes into memory. `lanes`: look up [`Row::lane_held`].
    pub fn read_fresh(
        &self,
        after: i64,
        rows: usize,
        bytes: usize,
        lanes: bool,
        max_payload: usize,
    ) -> Result<Vec<(Row, Content)>, Error> {
        let mut statement = self.conn.prepare_cached(FRESH)?;
        let mut found = statement.query(named_params! {
            ":after": after,
            ":rows": limit(rows),
            ":lanes": lanes,
            ":max_payload": limit(max_payload),
        })?;
        let mut fresh = Vec::new();
        let mut read = 0_usize;
        let mut last = after;
        while read < bytes {
            let Some(found) = found.next().map_err(of_a_row)? else { break };
            let content = decode::content(found, max_payload);
            let row = Row { lane_held: decode::integer(found, AFTER_CONTENT) == 1, ..decode::row(found) };
            if row.id <= last || (row.id > last + 1 && !stands(&self.conn, last + 1)? && !self.is_in_order(last)?) {
                return Err(disorder("rows").into());
            }
            last = row.id;
            if let Content::Message { .. } = content {
                read = read.saturating_add(row.size);
            }
            fresh.push((row, content));
        }
        Ok(fresh)
    }

    /// Rows behind `after` that were dealt with before and wait in no lane.
    pub fn read_again(&self, after: i64, rows: usize) -> Result<Vec<Row>, Error> {
        let rows = collect(&mut *self.conn.prepare_cached(AGAIN)?, params![after, limit(rows)])?;
        in_order(after, rows)
    }

    /// Rows of one lane behind `after`.
    pub fn read_lane(&self, lane: &Lane, after: i64, rows: usize) -> Result<Vec<Row>, Error> {
        let rows = collect(&mut *self.conn.prepare_cached(LANE)?, params![lane.to_string(), after, limit(rows)])?;
        in_order(after, rows)
    }

    /// The lanes behind `after` in the order of their text, each with its first row: one seek per lane, however many
    /// rows wait in it. Rows whose lane cannot be read are taken out of it on the way.
    pub fn read_lanes(&self, after: Option<&Lane>, rows: usize) -> Result<Vec<(Lane, Row)>, Error> {
        let mut statement = self.conn.prepare_cached(NEXT_LANE)?;
        let mut last = after.map(Lane::to_string).unwrap_or_default();
        let mut lanes = Vec::new();
        if after.is_none() {
            self.release_what_is_before_lanes()?;
        }
        while lanes.len() < rows {
            let next = statement
                .query_row([&last], |found| Ok((waiting_row(found)?, found.get::<_, String>(AFTER_ROW + 1).ok())))
                .optional()
                .map_err(of_a_row)?;
            let Some((row, held_by)) = next else { break };
            match held_by.and_then(|text| Lane::parse(&text)) {
                Some(lane) => {
                    if lane.to_string() <= last {
                        return Err(disorder("lanes").into());
                    }
                    last = lane.to_string();
                    lanes.push((lane, row));
                }
                None if self.release(row.id)? => (),
                None => return Err(disorder("lanes").into()), // the table does not say what the index does
            }
        }
        Ok(lanes)
    }

    fn release_what_is_before_lanes(&self) -> Result<(), Error> {
        let mut statement = self.conn.prepare_cached(BEFORE_LANES)?;
        while let Some(id) = statement.query_row([], |row| row.get(0)).optional()? {
            if !self.release(id)? {
                return Err(disorder("lanes").into());
            }
        }
        Ok(())
    }

    /// Takes the row, and those like it, out of a lane that cannot be read; parks it where that cannot be written.
    /// Whether anything became of it.
    fn release(&self, id: i64) -> Result<bool, Error> {
        log::warn!("row {id} is held by something unreadable; it and its like are released");
        let released = match self.conn.prepare_cached(RELEASE)?.execute([id]) {
            // One of them cannot be written: this one alone, then, which may be that one.
            Err(error) if is_wrong_type(&error) => self.conn.prepare_cached(RELEASE_ONE)?.execute([id]),
            released => released,
        };
        match released {
            Err(error) if is_wrong_type(&error) => Ok(park_damaged(&self.conn, id, now_ms())?),
            released => Ok(released? > 0),
        }
    }

    /// Unsettled rows that reading would pass over, since the table never gives such ids.
    pub fn misplaced(&self) -> Result<Vec<i64>, Error> {
        let mut statement = self.conn.prepare_cached(MISPLACED)?;
        let ids = statement.query_map([], |row| row.get(0))?;
        Ok(ids.collect::<Result<_, _>>()?)
    }

    /// One row, if it is still to be dealt with.
    pub fn load(&self, id: i64, max_payload: usize) -> Result<Option<(Row, Content)>, Error> {
        let mut statement = self.conn.prepare_cached(LOAD)?;
        let row = statement
            .query_row(named_params! { ":id": id, ":max_payload": limit(max_payload) }, |found| {
                Ok((decode::row(found), decode::content(found, max_payload)))
            })
            .optional()
            .map_err(of_a_row)?;
        Ok(row)
    }

    /// See [`admin::position`].
    pub fn position(&self) -> Result<i64, Error> {
        admin::position(&self.conn)
    }

    /// See [`admin::is_pending`].
    pub fn is_pending(&self, after: i64, upto: i64) -> Result<bool, Error> {
        admin::is_pending(&self.conn, after, upto)
    }

    /// The failed message in that row, if it is one.
    pub fn failed(&self, id: i64) -> Result<Option<FailedRow>, Error> {
        Ok(admin::failed(&self.conn, id.saturating_sub(1), 1)?.pop().filter(|failed| failed.id.row() == id))
    }
}

/// What an index in order answers. In another one a search could go round in circles.
fn in_order(after: i64, rows: Vec<Row>) -> Result<Vec<Row>, Error> {
    let ids = || rows.iter().map(|row| row.id);
    if ids().next().is_some_and(|first| first <= after) || !ids().is_sorted_by(|a, b| a < b) {
        return Err(disorder("rows").into());
    }
    Ok(rows)
}

/// What SQLite would say if it had looked: it believes the order of what it reads.
pub(super) fn disorder(what: &str) -> rusqlite::Error {
    let corrupt = ffi::Error::new(ffi::SQLITE_CORRUPT);
    rusqlite::Error::SqliteFailure(corrupt, Some(format!("database disk image is malformed: {what} out of order")))
}

fn collect(statement: &mut Statement<'_>, params: &[&dyn ToSql]) -> Result<Vec<Row>, Error> {
    let rows = statement.query_map(params, waiting_row)?;
    rows.collect::<Result<_, _>>().map_err(of_a_row)
}

/// A row that an index says waits; an error if the table, asked behind the columns of the row, says otherwise.
fn waiting_row(found: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    match found.get_ref(AFTER_ROW)? {
        ValueRef::Integer(1) => Ok(decode::row(found)),
        _ => Err(disorder("index and table")),
    }
}

/// A bound for SQL: more than it can hold is no bound.
pub(super) fn limit(bound: usize) -> i64 {
    i64::try_from(bound).unwrap_or(i64::MAX)
}
