//! Deleting SENT rows when their time is over, in bites that are worth a commit's pages.

mod asked;
mod era;
mod look;

use std::time::Duration;

use log::debug;
use rusqlite::{ErrorCode, Transaction};

pub(crate) use asked::{delete_sent, sent_before};
pub(crate) use era::{Era, Uptime};
use look::{LOOK, Young, is_young, look};

use super::{Fate, Settlement};
use crate::Error;

/// Fewest rows that are deleted at once: a row alone would cost the page that 15 others stand in as well.
const BITE: i64 = 100;
/// Most young rows that a bite passes over to come to old ones behind them: rows that were sent long after their
/// neighbours.
const STRAGGLERS: i64 = 100;

/// What may be deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Purge {
    /// How long a SENT row stays.
    pub retention: Duration,
    /// Rows above this are not looked at: the position, since above it most rows are not yet sent.
    pub upto: i64,
    /// Now, by the clock that nobody sets.
    pub uptime: Uptime,
}

/// Where purging goes on. In memory only: after a start everything is looked at again, by and by.
#[derive(Clone, Debug, Default)]
pub(super) struct Cursor {
    /// No row up to here is left to delete, but for those in `behind`.
    front: i64,
    /// Rows up to `front` that were sent after purging had passed them, and since when there are any.
    behind: i64,
    behind_since: Duration,
    /// A second way from the beginning to `front`, on behalf of those behind: how far it got.
    sweep: Option<i64>,
    /// The latest uptime that it was told.
    now: Duration,
}

impl Cursor {
    /// Whether there may be enough to delete: the ids are dense, so a bite of rows spans at least as many ids.
    pub fn wants(&self, purge: &Purge) -> bool {
        purge.upto.saturating_sub(self.front) >= BITE || self.behind >= BITE || self.sweep.is_some()
    }

    /// Time goes on.
    pub fn advance(&mut self, uptime: Uptime) {
        self.now = self.now.max(uptime.since_boot);
    }

    pub fn settled(&mut self, settlement: &Settlement) {
        if settlement.fate == Fate::Sent && settlement.id <= self.front {
            self.fell_behind(1);
        }
    }

    fn fell_behind(&mut self, rows: i64) {
        if self.behind == 0 {
            self.behind_since = self.now;
        }
        self.behind += rows;
    }

    /// Deletes one bite, if there is one. How many rows went.
    pub fn purge(&mut self, tx: &Transaction<'_>, purge: &Purge, era: Era, now_ms: i64) -> Result<usize, Error> {
        let retention = i64::try_from(purge.retention.as_millis()).unwrap_or(i64::MAX);
        let young =
            Young { after: now_ms.saturating_sub(retention), now: now_ms, eras: [era, era.before()].map(Era::mark) };
        if self.sweep.is_none() && self.behind >= BITE && self.now - self.behind_since >= purge.retention {
            (self.sweep, self.behind) = (Some(0), 0);
        }
        match self.sweep {
            Some(from) => self.go_over_again(tx, from, &young),
            None => self.go_on(tx, purge.upto, &young),
        }
    }

    /// What comes next cannot be looked at, or not be deleted, since the file is damaged: it stays until the next start.
    pub fn skip(&mut self) {
        let rows = LOOK as i64;
        match &mut self.sweep {
            Some(sweep) if *sweep < self.front.saturating_sub(rows) => *sweep += rows,
            Some(_) => self.sweep = None,
            None => self.front = self.front.saturating_add(rows),
        }
    }

    /// Rows at the front become old in the order of their ids, more or less: many young ones end the bite.
    fn go_on(&mut self, tx: &Transaction<'_>, upto: i64, young: &Young) -> Result<usize, Error> {
        let (near, far) = (self.front.saturating_add(BITE), self.front.saturating_add(2 * BITE).min(upto));
        // One row tells in most cases that it is too early, or two, if one of them is a straggler.
        if upto < near || is_young(tx, near, young)? && is_young(tx, far, young)? {
            return Ok(0);
        }
        let look = look(tx, self.front, upto, young, Some(STRAGGLERS))?;
        match look.first_sent {
            Some(first) if look.may_go.len() < BITE as usize && !look.full => {
                self.front = first - 1;
                Ok(0)
            }
            _ => {
                self.front = look.upto;
                self.fell_behind(look.young);
                delete(tx, &look.may_go)
            }
        }
    }

    /// Rows behind the front were sent at any time: young ones are passed over, and come back with the next sweep.
    fn go_over_again(&mut self, tx: &Transaction<'_>, from: i64, young: &Young) -> Result<usize, Error> {
        let look = look(tx, from, self.front, young, None)?;
        self.fell_behind(look.young);
        self.sweep = look.full.then_some(look.upto);
        delete(tx, &look.may_go)
    }
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
