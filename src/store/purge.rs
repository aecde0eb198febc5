//! Deleting SENT rows when their time is over, in bites that are worth a commit's pages.

use std::time::Duration;

use log::debug;
use rusqlite::{ErrorCode, Transaction, params};

use super::{Fate, Settlement};
use crate::Error;

/// Fewest rows that are deleted at once: a row alone would cost the page that 15 others stand in as well.
const BITE: i64 = 100;
/// Most rows that are deleted in one transaction.
const MOST: usize = 500;
/// Most rows that are looked at in one transaction.
const LOOK: usize = 2_000;

/// 0: stays, 1: SENT but young, 2: may go. A stamp from the future tells of a clock that was set back; nobody can say
/// how old the row is, and it may go too.
const SCAN: &str = "
    SELECT id, CASE WHEN status IS NOT 'SENT' THEN 0 WHEN status_at > ?3 AND status_at <= ?4 THEN 1 ELSE 2 END
    FROM main.outbox
    WHERE id > ?1 AND id <= ?2 AND id < (SELECT max(id) FROM main.outbox)
    ORDER BY id LIMIT ?5";

/// What may be deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Purge {
    /// How long a SENT row stays.
    pub retention: Duration,
    /// Rows above this are not looked at: the position, since above it most rows are not yet sent.
    pub upto: i64,
}

/// Where purging goes on. In memory only: after a start everything is looked at again, by and by.
#[derive(Clone, Debug, Default)]
pub(super) struct Cursor {
    /// No row up to here is left to delete, but for those in `behind`.
    front: i64,
    /// Rows up to `front` that were sent after purging had passed them, and when the first of them was.
    behind: i64,
    behind_since: i64,
    /// A second way from the beginning to `front`, on behalf of those behind: how far it got.
    sweep: Option<i64>,
}

/// What a look at some rows found.
struct Look {
    may_go: Vec<i64>,
    young: i64,
    /// All rows up to here were looked at.
    upto: i64,
    /// Whether it ended because it had seen enough, not because there was no more.
    full: bool,
}

impl Cursor {
    /// Whether there may be enough to delete: the ids are dense, so a bite of rows spans at least as many ids.
    pub fn wants(&self, purge: &Purge) -> bool {
        purge.upto - self.front >= BITE || self.behind >= BITE || self.sweep.is_some()
    }

    pub fn settled(&mut self, settlement: &Settlement, now_ms: i64) {
        if settlement.fate == Fate::Sent && settlement.id <= self.front {
            if self.behind == 0 {
                self.behind_since = now_ms;
            }
            self.behind += 1;
        }
    }

    /// What comes next cannot be looked at, or not be deleted: it stays until the next start.
    pub fn skip(&mut self) {
        match &mut self.sweep {
            Some(sweep) if *sweep + (LOOK as i64) < self.front => *sweep += LOOK as i64,
            Some(_) => self.sweep = None,
            None => self.front += LOOK as i64,
        }
    }

    /// Deletes one bite, if there is one. How many rows went.
    pub fn purge(&mut self, tx: &Transaction<'_>, purge: &Purge, now_ms: i64) -> Result<usize, Error> {
        let retention = i64::try_from(purge.retention.as_millis()).unwrap_or(i64::MAX);
        let young_after = now_ms.saturating_sub(retention);
        let since = self.behind_since;
        if self.sweep.is_none() && self.behind >= BITE && (since <= young_after || since > now_ms) {
            (self.sweep, self.behind) = (Some(0), 0);
        }
        match self.sweep {
            Some(from) => self.go_over_again(tx, from, young_after, now_ms),
            None => self.go_on(tx, purge.upto, young_after, now_ms),
        }
    }

    /// Rows at the front become old in the order of their ids, more or less: the first young one ends the bite.
    fn go_on(&mut self, tx: &Transaction<'_>, upto: i64, young_after: i64, now_ms: i64) -> Result<usize, Error> {
        // One row tells in most cases that it is too early.
        let probe = look(tx, self.front + BITE - 1, self.front + BITE, young_after, now_ms, true)?;
        if upto - self.front < BITE || probe.young > 0 {
            return Ok(0);
        }
        let look = look(tx, self.front, upto, young_after, now_ms, true)?;
        match look.may_go.first() {
            Some(first) if look.may_go.len() < BITE as usize && !look.full => {
                self.front = first - 1;
                Ok(0)
            }
            _ => {
                self.front = look.upto;
                delete(tx, &look.may_go)
            }
        }
    }

    /// Rows behind the front were sent at any time: young ones are passed over, and come back with the next sweep.
    fn go_over_again(
        &mut self,
        tx: &Transaction<'_>,
        from: i64,
        young_after: i64,
        now_ms: i64,
    ) -> Result<usize, Error> {
        let look = look(tx, from, self.front, young_after, now_ms, false)?;
        if look.young > 0 {
            if self.behind == 0 {
                self.behind_since = now_ms;
            }
            self.behind += look.young;
        }
        self.sweep = look.full.then_some(look.upto);
        delete(tx, &look.may_go)
    }
}

fn look(
    tx: &Transaction<'_>,
    after: i64,
    upto: i64,
    young_after: i64,
    now_ms: i64,
    young_ends_it: bool,
) -> Result<Look, Error> {
    let mut statement = tx.prepare_cached(SCAN)?;
    let mut rows = statement.query(params![after, upto, young_after, now_ms, LOOK as i64])?;
    let mut look = Look { may_go: Vec::new(), young: 0, upto: after, full: false };
    let mut seen = 0;
    while let Some(row) = rows.next()? {
        let (id, age): (i64, i64) = (row.get(0)?, row.get(1)?);
        match age {
            1 if young_ends_it => {
                (look.young, look.upto) = (1, id - 1);
                return Ok(look);
            }
            1 => look.young += 1,
            2 => look.may_go.push(id),
            _ => (),
        }
        look.upto = id;
        seen += 1;
        if seen == LOOK || look.may_go.len() == MOST {
            look.full = true;
            break;
        }
    }
    Ok(look)
}

fn delete(tx: &Transaction<'_>, ids: &[i64]) -> Result<usize, Error> {
    let mut statement = tx.prepare_cached("DELETE FROM main.outbox WHERE id = ?1 AND status = 'SENT'")?;
    let mut gone = 0;
    for id in ids {
        gone += match statement.execute([id]) {
            // A table of the application's refers to this row: it stays as long as that does.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                debug!("row {id} cannot be purged: {error}");
                0
            }
            result => result?,
        };
    }
    Ok(gone)
}
