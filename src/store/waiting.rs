//! Rows that wait, read one by one where no batch of them can be.
//!
//! An index of those that wait says which they are, also where a page of the table is damaged that one of them stands on.
//! So it is asked for their ids alone, and each is then looked up by itself: what cannot be read is passed over.

use rusqlite::{OptionalExtension, params};

use super::damage::of_a_row;
use super::decode::{self, row_columns};
use super::read::{disorder, limit};
use super::{Lane, Row, Store};
use crate::Error;

/// Ids that are read at once.
const BITE: usize = 256;

// SQLite looks for nothing of these three in the table: what they ask is what the index holds, or is made by.
const AGAIN_IDS: &str = "
    SELECT id FROM main.outbox INDEXED BY outbox_again
    WHERE status IS NOT 'SENT' AND status IS NOT 'FAILED' AND attempts > 0 AND held_by IS NULL AND id > ?1
    ORDER BY id LIMIT ?2";

const LANE_IDS: &str = "
    SELECT id FROM main.outbox INDEXED BY outbox_held
    WHERE held_by = ?3 AND id > ?1 AND status IS NOT 'SENT' AND status IS NOT 'FAILED' ORDER BY id LIMIT ?2";

const NEXT_LANE: &str = "
    SELECT CASE WHEN octet_length(held_by) <= 65541 THEN held_by END FROM main.outbox INDEXED BY outbox_held
    WHERE held_by > ?1 AND status IS NOT 'SENT' AND status IS NOT 'FAILED' ORDER BY held_by, id LIMIT 1";

/// Nothing is asked of the index but the id: whether the row is done with, the table says.
const BY_ID: &str = concat!(
    "SELECT ",
    row_columns!(),
    " FROM main.outbox NOT INDEXED WHERE id = ?1 AND status IS NOT 'SENT' AND status IS NOT 'FAILED'"
);

impl Store {
    /// [`read_again`](Self::read_again), or [`read_lane`](Self::read_lane), without what cannot be read.
    pub(super) fn waiting_one_by_one(
        &mut self,
        lane: Option<&Lane>,
        after: i64,
        rows: usize,
    ) -> Result<Vec<Row>, Error> {
        let (mut found, mut last) = (Vec::new(), after);
        loop {
            let ids = self.waiting_ids(lane, last)?;
            let Some(upto) = ids.last() else { return Ok(found) };
            last = *upto;
            for id in ids {
                found.extend(self.waiting(id)?);
                if found.len() >= rows {
                    return Ok(found);
                }
            }
        }
    }

    /// [`read_lanes`](Self::read_lanes), each with the first row that can be read. Those of which none can are left out.
    pub(super) fn lanes_one_by_one(&mut self, after: Option<&Lane>, rows: usize) -> Result<Vec<(Lane, Row)>, Error> {
        let mut last = after.map(Lane::to_string).unwrap_or_default();
        let mut lanes = Vec::new();
        while lanes.len() < rows {
            let Some(text) = self.next_lane(&last)? else { break };
            if text <= last {
                return Err(disorder("lanes").into());
            }
            last = text;
            if let Some(lane) = Lane::parse(&last) {
                let first = self.waiting_one_by_one(Some(&lane), i64::MIN, 1)?.pop();
                lanes.extend(first.map(|row| (lane, row)));
            }
        }
        Ok(lanes)
    }

    /// The next ids that the index says.
    fn waiting_ids(&self, lane: Option<&Lane>, after: i64) -> Result<Vec<i64>, Error> {
        let ids: Result<Vec<i64>, _> = match lane {
            None => {
                self.conn.prepare_cached(AGAIN_IDS)?.query_map(params![after, limit(BITE)], |row| row.get(0))?.collect()
            }
            Some(lane) => self
                .conn
                .prepare_cached(LANE_IDS)?
                .query_map(params![after, limit(BITE), lane.to_string()], |row| row.get(0))?
                .collect(),
        };
        let ids = ids?;
        if ids.first().is_some_and(|first| *first <= after) || !ids.is_sorted_by(|a, b| a < b) {
            return Err(disorder("rows").into());
        }
        Ok(ids)
    }

    /// The text of the lane behind that one. What is no text, or too long for one, stands behind all that are.
    fn next_lane(&self, after: &str) -> Result<Option<String>, Error> {
        let mut statement = self.conn.prepare_cached(NEXT_LANE)?;
        let next = statement.query_row([after], |row| Ok(row.get::<_, String>(0).ok())).optional()?;
        Ok(next.flatten())
    }

    /// One of them, if it can be read, and is still to be dealt with.
    fn waiting(&mut self, id: i64) -> Result<Option<Row>, Error> {
        let read = self.conn.prepare_cached(BY_ID)?.query_row([id], |row| Ok(decode::row(row))).optional();
        match read.map_err(of_a_row) {
            Err(Error::Damaged(_)) => {
                self.damage.pass_over_waiting(id);
                Ok(None)
            }
            read => read,
        }
    }
}
