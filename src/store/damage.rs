//! What was found damaged in the database, and is passed over so that the rest goes on.

use std::collections::BTreeSet;

use log::warn;
use rusqlite::{Connection, ErrorCode};

use super::{Store, admin, malformed};
use crate::Error;

/// Most rows that are remembered as not to be written, with more of which nothing is sent any more; and as not to be read.
const MOST_UNWRITABLE: usize = 4_096;

#[derive(Debug, Default)]
pub(super) struct Damage {
    /// Whether anything was found.
    found: bool,
    /// Rows that were passed over, as the table has it.
    recorded: u64,
    /// Up to which id, and how many, that the table does not know of yet.
    unrecorded: Vec<(i64, u64)>,
    /// Ids up to here are counted, if they are to be.
    counted_to: i64,
    /// Rows that can be read and not written. They would be found, and sent, again and again.
    unwritable: BTreeSet<i64>,
    /// Rows that wait, by an index, and cannot be read. Every start meets them anew: the table is not told of them.
    waiting: BTreeSet<i64>,
    /// Rows behind it are counted as they are read for the first time.
    begun_at: i64,
}

impl Damage {
    /// Something is damaged that costs no row.
    pub fn note(&mut self, what: &str) {
        self.found = true;
        warn!("{what}: the database is damaged");
    }

    /// [`note`](Self::note) for what is met again and again.
    pub fn note_once(&mut self, what: &str) {
        if !self.found {
            self.note(what);
        }
    }

    /// Nothing can be read of these rows, whatever they were. Each is counted once, however often it is met.
    pub fn pass_over(&mut self, first: i64, last: i64) {
        let first = first.max(self.counted_to.saturating_add(1));
        if first > last {
            return;
        }
        self.counted_to = last;
        self.unrecorded.push((last, last.abs_diff(first).saturating_add(1)));
        self.note(&format!("rows {first} to {last} cannot be read and are passed over"));
    }

    /// Nothing can be read of this row, of which an index says that it waits.
    pub fn pass_over_waiting(&mut self, id: i64) {
        if self.waiting.len() < MOST_UNWRITABLE && self.waiting.insert(id) {
            self.note(&format!("row {id} waits, cannot be read and is passed over"));
        }
    }

    pub fn is_unwritable(&self, id: i64) -> bool {
        self.unwritable.contains(&id)
    }

    /// What became of this row cannot be written down. False if no more can be remembered.
    pub fn give_up(&mut self, id: i64) -> bool {
        if self.unwritable.contains(&id) {
            return true;
        }
        let room = self.unwritable.len() < MOST_UNWRITABLE;
        if room {
            self.unwritable.insert(id);
            self.unrecorded.push((id, 1));
            self.note(&format!("row {id} cannot be written and is passed over"));
        }
        room
    }

    /// What is to be added to the count in the table by a commit that lets the position pass `position`.
    pub fn to_record(&self, position: Option<i64>) -> u64 {
        let passed = self.unrecorded.iter().filter(|(upto, _)| position.is_some_and(|position| *upto <= position));
        passed.map(|(_, rows)| rows).sum()
    }

    /// It is committed.
    pub fn was_recorded(&mut self, position: Option<i64>) {
        self.recorded = self.recorded.saturating_add(self.to_record(position));
        self.unrecorded.retain(|(upto, _)| position.is_none_or(|position| *upto > position));
    }

    fn unreadable(&self) -> u64 {
        let waiting = self.waiting.range(..=self.begun_at).count() as u64;
        self.unrecorded.iter().fold(self.recorded.saturating_add(waiting), |sum, (_, rows)| sum.saturating_add(*rows))
    }
}

impl Store {
    /// What to tell people, once something was found damaged; for as long as this program runs, since the file does
    /// not heal.
    pub fn damage(&self) -> Option<Error> {
        self.damage.found.then(|| Error::Damaged(malformed()))
    }

    /// Rows that were passed over, ever.
    pub fn unreadable(&self) -> u64 {
        self.damage.unreadable()
    }

    /// The stored position and the newest row, where a forwarder begins.
    ///
    /// # Errors
    /// What SQLite answers, unless only the newest row is damaged.
    pub fn begin(&mut self) -> Result<(i64, i64), Error> {
        self.damage.recorded = admin::unreadable(&self.conn)?;
        let position = self.position()?;
        self.damage.begun_at = position;
        Ok((position, self.newest_or_damage()?))
    }

    /// The newest row that can be read.
    pub fn newest(&self) -> Result<i64, Error> {
        newest_readable(&self.conn)
    }

    /// [`newest`](Self::newest), and says so if it is not the newest of all.
    pub(super) fn newest_or_damage(&mut self) -> Result<i64, Error> {
        let newest = self.newest()?;
        if !self.damage.found && is_damaged(&admin::newest(&self.conn)) {
            self.damage.note(&format!("rows behind {newest} cannot be read"));
        }
        Ok(newest)
    }
}

/// The newest row that can be read.
pub(super) fn newest_readable(conn: &Connection) -> Result<i64, Error> {
    match admin::newest(conn) {
        Err(Error::Damaged(_)) => last_readable(conn, admin::position(conn)?),
        newest => newest,
    }
}

/// Whether there is a row of that id, of any status.
pub(super) fn stands(conn: &Connection, id: i64) -> Result<bool, Error> {
    Ok(conn.prepare_cached("SELECT 1 FROM main.outbox NOT INDEXED WHERE id = ?1")?.exists([id])?)
}

/// The first row behind `after`, and at most `newest`, whose page can be read. The ids are dense. Looks at a bounded
/// number of places, so that what can be read between two damaged pages may be missed where much is damaged.
pub(super) fn first_readable(conn: &Connection, after: i64, newest: i64) -> Result<Option<i64>, Error> {
    let (mut last_bad, mut step) = (after, 1);
    let mut good = loop {
        if last_bad >= newest {
            return Ok(None);
        }
        let id = last_bad.saturating_add(step).min(newest);
        if can_be_read(conn, id)? {
            break id;
        }
        last_bad = id;
        if id - after >= ONE_BY_ONE {
            step = step.saturating_mul(2);
        }
    };
    while good - last_bad > 1 {
        let middle = last_bad + (good - last_bad) / 2;
        if can_be_read(conn, middle)? { good = middle } else { last_bad = middle }
    }
    Ok(Some(good))
}

/// A row from `from` on behind which nothing was found that can be read.
fn last_readable(conn: &Connection, from: i64) -> Result<i64, Error> {
    let (mut good, mut step) = (from, 1_i64);
    let is_there = |id| match stands(conn, id) {
        Err(Error::Damaged(_)) => Ok(false),
        found => found,
    };
    while let Some(id) = from.checked_add(step).filter(|id| *id <= LARGEST) {
        if is_there(id)? {
            good = id;
        }
        step *= 2;
    }
    // The step after the last one that met a row met none.
    let mut bad = from.saturating_add((good - from).saturating_mul(2).max(1));
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if is_there(middle)? { good = middle } else { bad = middle }
    }
    Ok(good)
}

fn can_be_read(conn: &Connection, id: i64) -> Result<bool, Error> {
    match stands(conn, id) {
        Err(Error::Damaged(_)) => Ok(false),
        Err(error) => Err(error),
        // A page without that row is a page that can be read.
        Ok(_) => Ok(true),
    }
}

/// The largest id that the table takes.
const LARGEST: i64 = (1 << 53) - 1;
/// So many ids are tried one by one behind a damaged page; then in steps that double.
const ONE_BY_ONE: i64 = 1_000;

pub(super) fn is_damaged<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Damaged(_)))
}

/// What SQLite says of a row: that a value in it is larger than any can be means that the row is damaged.
pub(super) fn of_a_row(error: rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(ErrorCode::TooBig) => Error::Damaged(error),
        _ => error.into(),
    }
}

/// [`is_damaged`], for SQLite's own word.
pub(super) fn is_corrupt(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}
