//! Reading on where the file is damaged: what can be read is, row by row, and the rest is passed over.
//!
//! Three things happen to a table. A page cannot be read: then nothing on it can, and reading goes on behind it. A chain
//! of overflow pages is broken: then the front of a row can be read and its content cannot. Or the id of a row was
//! changed: then it stands out of order, a search in its page may go astray, and by its new id it may be taken for
//! another row. So rows are looked at in the order in which they stand in the file, and those that are in nobody's way
//! are believed.

use rusqlite::{Connection, OptionalExtension, named_params, params};

use super::damage::{first_readable, is_damaged, of_a_row};
use super::decode::{self, AFTER_CONTENT, AFTER_ROW, content_columns, row_columns};
use super::read::{fresh_columns, is_fresh, limit};
use super::{Content, Row, Store};
use crate::Error;

/// Rows that are looked at together, to see which of them are out of order.
const WINDOW: usize = 512;

// The id is compared row by row and not searched for: a search may go astray.
const ONE: &str = concat!(
    "SELECT ",
    fresh_columns!(),
    ",
            ",
    is_fresh!(),
    "
     FROM main.outbox NOT INDEXED WHERE id BETWEEN :from AND :to AND +id = :id LIMIT 1 OFFSET :nth"
);

/// The same without what may stand in overflow pages.
const FRONT: &str = concat!(
    "SELECT ",
    row_columns!(),
    ",
            ",
    is_fresh!(),
    "
     FROM main.outbox NOT INDEXED WHERE id BETWEEN :from AND :to AND +id = :id LIMIT 1 OFFSET :nth"
);

/// The ids between which rows were seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub from: i64,
    pub to: i64,
}

/// The next rows as they stand in the file.
pub(super) struct Walk {
    pub range: Range,
    /// Those in order, and how many of the same id stand before each.
    pub ids: Vec<(i64, usize)>,
    /// How many are not.
    pub misplaced: usize,
    pub end: End,
}

pub(super) enum End {
    /// There are no more rows.
    Table,
    /// There may be more.
    Window,
    /// What comes next cannot be read.
    Damage,
}

impl Store {
    /// [`read_fresh`](Self::read_fresh), whatever is damaged: the rows that can be read. None only where there are none
    /// left.
    ///
    /// # Errors
    /// [`Error::Damaged`] where nothing at all can be told of the table.
    pub fn fresh(
        &mut self,
        after: i64,
        rows: usize,
        bytes: usize,
        lanes: bool,
        max_payload: usize,
    ) -> Result<Vec<(Row, Content)>, Error> {
        let mut fresh = match self.read_fresh(after, rows, bytes, lanes, max_payload) {
            Err(Error::Damaged(_)) => self.salvage(after, rows, bytes, lanes, max_payload)?,
            read => read?,
        };
        // Read once more, and dealt with before. Not to stand here at all might mean that there is nothing left.
        for (_, content) in fresh.iter_mut().filter(|(row, _)| self.damage.is_unwritable(row.id)) {
            *content = Content::Spoiled(UNWRITABLE.to_owned());
        }
        Ok(fresh)
    }

    /// The content of one row that is still to be dealt with.
    pub fn content(&mut self, id: i64, max_payload: usize) -> Result<Option<Content>, Error> {
        match self.load(id, max_payload) {
            Err(Error::Damaged(_)) => {
                self.damage.note(&format!("the content of row {id} cannot be read"));
                Ok(Some(Content::Spoiled(UNREADABLE.to_owned())))
            }
            loaded => Ok(loaded?.map(|(_, content)| content).filter(|_| !self.damage.is_unwritable(id))),
        }
    }

    fn salvage(
        &mut self,
        after: i64,
        rows: usize,
        bytes: usize,
        lanes: bool,
        max_payload: usize,
    ) -> Result<Vec<(Row, Content)>, Error> {
        let newest = self.newest_or_damage()?;
        let mut fresh = Vec::new();
        let (mut last, mut read) = (after, 0_usize);
        let mut take = |found: Option<(Row, Content)>| {
            if let Some((row, content)) = found {
                if let Content::Message { .. } = content {
                    read = read.saturating_add(row.size);
                }
                fresh.push((row, content));
            }
            fresh.len() >= rows || read >= bytes
        };
        loop {
            let walk = self.walk(last)?;
            let empty = walk.ids.is_empty();
            let mut misplaced = walk.misplaced as i64;
            for (id, nth) in walk.ids {
                if misplaced > 0 && id > last + 1 {
                    // Ids are dense, so one that is missing is that of a row out of order.
                    let missing = misplaced.min(id - last - 1);
                    self.damage.pass_over(last + 1, last + missing);
                    misplaced -= missing;
                }
                last = id;
                if take(self.one(walk.range, (id, nth), lanes, max_payload)?) {
                    return Ok(fresh);
                }
            }
            match walk.end {
                End::Table => return Ok(fresh),
                End::Window if !empty => {}
                End::Window | End::Damage => {
                    let Some(next) = first_readable(&self.conn, last, newest)? else {
                        self.damage.pass_over(last + 1, newest);
                        return Ok(fresh);
                    };
                    self.damage.pass_over(last + 1, next - 1);
                    last = next;
                    if take(self.one(Range { from: next, to: next }, (next, 0), lanes, max_payload)?) {
                        return Ok(fresh);
                    }
                }
            }
        }
    }

    /// Whether the next rows stand in the order of their ids. Rows between them that are missing were deleted by hand.
    pub(super) fn is_in_order(&self, after: i64) -> Result<bool, Error> {
        let (found, _) = look_ahead(&self.conn, after.saturating_add(1))?;
        Ok(found.first().is_none_or(|first| *first > after) && found.is_sorted_by(|a, b| a < b))
    }

    fn walk(&mut self, after: i64) -> Result<Walk, Error> {
        let walk = walk(&self.conn, after)?;
        if walk.misplaced > 0 {
            self.damage.note(&format!("{} rows behind row {after} are out of order", walk.misplaced));
        }
        Ok(walk)
    }

    /// A row that was seen in that range, if nobody has dealt with it.
    fn one(
        &mut self,
        range: Range,
        (id, nth): (i64, usize),
        lanes: bool,
        max_payload: usize,
    ) -> Result<Option<(Row, Content)>, Error> {
        let mut read = self.whole(range, (id, nth), lanes, max_payload);
        if is_damaged(&read) && !self.indexes_can_be_read()? && self.mend_indexes()? {
            read = self.whole(range, (id, nth), lanes, max_payload);
        }
        if lanes && is_damaged(&read) {
            // Without the index of lanes the order within a key is lost, and nothing else.
            read = self.whole(range, (id, nth), false, max_payload);
        }
        let Err(Error::Damaged(_)) = read else { return read };
        let front = self
            .conn
            .prepare_cached(FRONT)?
            .query_row(named_params! { ":from": range.from, ":to": range.to, ":id": id, ":nth": limit(nth) }, |found| {
                Ok((decode::integer(found, AFTER_ROW) == 1).then(|| decode::row(found)))
            })
            .optional()
            .map_err(of_a_row);
        match front {
            Ok(row) => Ok(row.flatten().map(|row| (row, Content::Spoiled(UNREADABLE.to_owned())))),
            Err(Error::Damaged(_)) => {
                self.damage.pass_over(id, id);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn whole(
        &self,
        Range { from, to }: Range,
        (id, nth): (i64, usize),
        lanes: bool,
        max_payload: usize,
    ) -> Result<Option<(Row, Content)>, Error> {
        let mut statement = self.conn.prepare_cached(ONE)?;
        let params = named_params! {
            ":from": from, ":to": to, ":id": id, ":nth": limit(nth), ":lanes": lanes, ":max_payload": limit(max_payload),
        };
        let row = statement
            .query_row(params, |found| {
                if decode::integer(found, AFTER_CONTENT + 1) != 1 {
                    return Ok(None);
                }
                let row = Row { lane_held: decode::integer(found, AFTER_CONTENT) == 1, ..decode::row(found) };
                Ok(Some((row, decode::content(found, max_payload))))
            })
            .optional()
            .map_err(of_a_row)?;
        Ok(row.flatten())
    }
}

/// The rows that stand behind `after` in the file, and which of them are believed.
pub(super) fn walk(conn: &Connection, after: i64) -> Result<Walk, Error> {
    let from = after.saturating_add(1);
    let (found, mut end) = look_ahead(conn, from)?;
    let mut believed = found.len();
    if found.len() == WINDOW {
        // What is out of order shows by what stands behind it.
        (end, believed) = (End::Window, WINDOW / 2);
    }
    let in_order = in_order(&found, after);
    let nth = |at: usize| found[..at].iter().filter(|id| **id == found[at]).count();
    let believed_in_order = in_order.into_iter().take_while(|at| *at < believed);
    let ids: Vec<_> = believed_in_order.map(|at| (found[at], nth(at))).collect();
    let misplaced = believed - ids.len();
    let range = Range { from, to: found.iter().copied().max().unwrap_or(from) };
    Ok(Walk { range, ids, misplaced, end })
}

fn look_ahead(conn: &Connection, from: i64) -> Result<(Vec<i64>, End), Error> {
    // Not `id > after`, which would begin at a page that may be the damaged one.
    let sql = "SELECT id FROM main.outbox NOT INDEXED WHERE id >= ?1 ORDER BY id LIMIT ?2";
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params![from, limit(WINDOW)])?;
    let mut found = Vec::new();
    loop {
        match rows.next().map_err(of_a_row) {
            Ok(Some(row)) => found.push(decode::integer(row, 0)),
            Ok(None) => return Ok((found, End::Table)),
            Err(Error::Damaged(_)) => return Ok((found, End::Damage)),
            Err(error) => return Err(error),
        }
    }
}

const UNREADABLE: &str = "damaged: SQLite cannot read its content";
const UNWRITABLE: &str = "damaged: SQLite cannot write it";

/// Where the ids stand that are in order: most of those above `after` that rise from each to the next.
fn in_order(ids: &[i64], after: i64) -> Vec<usize> {
    // The place of the smallest id that ends a chain of so many, and what stands before it.
    let (mut ends, mut before) = (Vec::<usize>::new(), vec![None; ids.len()]);
    for (at, id) in ids.iter().enumerate().filter(|(_, id)| **id > after) {
        let length = ends.partition_point(|end| ids[*end] < *id);
        before[at] = length.checked_sub(1).map(|length| ends[length]);
        // Of two with the same id the first is right if it follows what stands before it.
        let same = ends.get(length).is_some_and(|end| ids[*end] == *id);
        if same && before[at].map_or(after, |before| ids[before]) == *id - 1 {
            continue;
        }
        if length == ends.len() { ends.push(at) } else { ends[length] = at }
    }
    let mut chain: Vec<usize> = std::iter::successors(ends.last().copied(), |at| before[*at]).collect();
    chain.reverse();
    chain
}
