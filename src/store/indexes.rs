//! The partial indexes, which hold nothing that the table does not: one that is damaged is made anew.

use log::warn;
use rusqlite::TransactionBehavior;

use super::budget::{Aside, recount_aside};
use super::damage::{is_corrupt, is_damaged};
use super::{Lane, Row, Store};
use crate::Error;

/// The name of each, and how it is asked whether it can be read.
const INDEXES: [(&str, &str); 3] = [
    (
        "REINDEX main.outbox_again",
        "SELECT count(*) FROM main.outbox INDEXED BY outbox_again
         WHERE status IS NOT 'SENT' AND status IS NOT 'FAILED' AND attempts > 0 AND held_by IS NULL",
    ),
    (
        "REINDEX main.outbox_held",
        "SELECT count(*) FROM main.outbox INDEXED BY outbox_held
         WHERE held_by IS NOT NULL AND status IS NOT 'SENT' AND status IS NOT 'FAILED'",
    ),
    ("REINDEX main.outbox_failed", "SELECT count(*) FROM main.outbox INDEXED BY outbox_failed WHERE status = 'FAILED'"),
];

impl Store {
    /// [`read_again`](Self::read_again), whatever became of the index.
    pub fn again(&mut self, after: i64, rows: usize) -> Result<Vec<Row>, Error> {
        let one_by_one = |store: &mut Store| store.waiting_one_by_one(None, after, rows);
        let found = self.by_index(|store| store.read_again(after, rows), one_by_one)?;
        Ok(self.without_unwritable(found))
    }

    /// [`read_lane`](Self::read_lane), whatever became of the index.
    pub fn lane(&mut self, lane: &Lane, after: i64, rows: usize) -> Result<Vec<Row>, Error> {
        let one_by_one = |store: &mut Store| store.waiting_one_by_one(Some(lane), after, rows);
        let found = self.by_index(|store| store.read_lane(lane, after, rows), one_by_one)?;
        Ok(self.without_unwritable(found))
    }

    /// [`read_lanes`](Self::read_lanes), whatever became of the index.
    pub fn lanes(&mut self, after: Option<&Lane>, rows: usize) -> Result<Vec<(Lane, Row)>, Error> {
        self.by_index(|store| store.read_lanes(after, rows), |store| store.lanes_one_by_one(after, rows))
    }

    fn without_unwritable(&self, rows: Vec<Row>) -> Vec<Row> {
        rows.into_iter().filter(|row| !self.damage.is_unwritable(row.id)).collect()
    }

    /// Reads a batch, and where even a new index is of no use for that, row by row. Where that cannot be done either
    /// nothing is found, so that what needs no index goes on.
    fn by_index<T>(
        &mut self,
        batch: impl Fn(&Store) -> Result<Vec<T>, Error>,
        one_by_one: impl FnOnce(&mut Store) -> Result<Vec<T>, Error>,
    ) -> Result<Vec<T>, Error> {
        let found = batch(self);
        let Err(Error::Damaged(error)) = &found else { return found };
        if !self.indexes_mended {
            warn!("rows that wait cannot be read by index: {error}");
            self.mend_indexes()?;
            let found = batch(self);
            if !is_damaged(&found) {
                return found;
            }
        }
        match one_by_one(self) {
            Err(Error::Damaged(_)) => {
                self.damage.note_once("rows that wait, or are held, cannot be read and are left alone");
                Ok(Vec::new())
            }
            found => {
                self.damage.note_once("rows that wait, or are held, are read one by one");
                found
            }
        }
    }

    /// Makes them anew, once in the life of this connection. Whether it was done now.
    ///
    /// # Errors
    /// Those that are no damage: it is tried again.
    pub(super) fn mend_indexes(&mut self) -> Result<bool, Error> {
        if self.indexes_mended {
            return Ok(false);
        }
        self.make_indexes_anew()?;
        // A row may be gone whose id only the old one knew.
        self.damage.note_once("an index did not say what the table does, and is made anew");
        Ok(true)
    }

    /// At a start: whether the indexes know as many rows as the table has counted. Of what an index hides, nobody else would
    /// know.
    ///
    /// # Errors
    /// What SQLite answers; nothing is changed then that stood right.
    pub fn check_aside(&mut self) -> Result<(), Error> {
        let before = match Aside::of(&self.conn) {
            Err(Error::Damaged(_)) => None,
            aside => Some(aside?),
        };
        if before.is_some_and(Aside::agrees) {
            return Ok(());
        }
        self.make_indexes_anew()?;
        let anew = Aside::of(&self.conn)?;
        if before.is_none_or(|before| before.found != anew.found) {
            self.damage.note_once("an index hid rows that wait, and is made anew");
        }
        recount_aside(&self.conn)
    }

    fn make_indexes_anew(&mut self) -> Result<(), Error> {
        for (reindex, _) in INDEXES {
            match self.conn.execute_batch(reindex) {
                // SQLite walks through an index before it makes it anew, which does not help where that is the trouble.
                Err(error) if is_corrupt(&error) => self.forget_and_make(reindex)?,
                done => done?,
            }
        }
        self.indexes_mended = true;
        Ok(())
    }

    /// Whether all of them can be read.
    pub(super) fn indexes_can_be_read(&self) -> Result<bool, Error> {
        for (_, ask) in INDEXES {
            match self.conn.query_row(ask, [], |_| Ok(())) {
                Err(error) if is_corrupt(&error) => return Ok(false),
                done => done?,
            }
        }
        Ok(true)
    }

    /// The pages of the old one stay where they are, and are never used again.
    fn forget_and_make(&mut self, reindex: &str) -> Result<(), Error> {
        let name = reindex.rsplit('.').next().unwrap_or_default();
        let made = (|| {
            let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let make: String =
                tx.query_row("SELECT sql FROM main.sqlite_schema WHERE type = 'index' AND name = ?1", [name], |row| {
                    row.get(0)
                })?;
            tx.execute_batch("PRAGMA writable_schema = ON")?;
            tx.execute("DELETE FROM main.sqlite_schema WHERE type = 'index' AND name = ?1", [name])?;
            tx.execute_batch("PRAGMA writable_schema = RESET")?;
            tx.execute_batch(&make)?;
            tx.commit()
        })();
        let closed = self.conn.execute_batch("PRAGMA writable_schema = RESET");
        match made {
            Ok(()) => warn!("index {name} was damaged and is made anew"),
            // The table is damaged too.
            Err(error) if is_corrupt(&error) => warn!("index {name} is damaged and cannot be made anew: {error}"),
            Err(error) => return Err(error.into()),
        }
        self.damage.note("an index was damaged");
        Ok(closed?)
    }
}
