//! Deleting SENT rows when their time is over, in bites that are worth a commit's pages.

mod era;

use std::mem;
use std::time::Duration;

use log::debug;
use rusqlite::{ErrorCode, Transaction, params};

pub(crate) use era::{Era, Uptime};

use super::{Fate, Settlement};
use crate::Error;

/// Fewest rows that are deleted at once: a row alone would cost the page that 15 others stand in as well.
const BITE: i64 = 100;
/// Most rows that are deleted in one transaction.
const MOST: usize = 500;
/// Most rows that are looked at in one transaction.
const LOOK: usize = 2_000;

/// Most young rows that a bite passes over to come to old ones behind them: rows that were sent long after their
/// neighbours.
const STRAGGLERS: i64 = 100;

/// 0: stays, 1: SENT but young, 2: may go. Young is what neither clock says is old. To the wall clock that is what was
/// sent before `?3`, and what comes from the future, for that tells of a clock that was set back: nobody can say how
/// old it is. By uptime it is what was sent in none of the two latest eras; a row that bears none goes by the wall
/// clock alone.
const SCAN: &str = "
    SELECT id, CASE WHEN status IS NOT 'SENT' THEN 0
                    WHEN status_at > ?3 AND status_at <= ?4
                     AND (filler IS NULL OR filler = '...' OR filler = ?5 OR filler = ?6) THEN 1
                    ELSE 2 END
    FROM main.outbox
    WHERE id > ?1 AND id <= ?2 AND id < (SELECT max(id) FROM main.outbox)
    ORDER BY id LIMIT ?7";

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

/// What makes a row young.
struct Young {
    /// Sent later than that, and not later than now, in Unix milliseconds.
    after: i64,
    now: i64,
    /// Sent in one of these eras.
    eras: [String; 2],
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

/// What a look at some rows found.
struct Look {
    may_go: Vec<i64>,
    /// Young rows up to `upto`.
    young: i64,
    /// The first row that is SENT, old or young.
    first_sent: Option<i64>,
    /// All rows up to here were looked at, and none behind it may go yet.
    upto: i64,
    /// Whether it ended because it had seen enough, not because there was no more.
    full: bool,
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

    /// Rows at the front become old in the order of their ids, more or less: many young ones end the bite.
    fn go_on(&mut self, tx: &Transaction<'_>, upto: i64, young: &Young) -> Result<usize, Error> {
        let (near, far) = (self.front.saturating_add(BITE), self.front.saturating_add(2 * BITE).min(upto));
        // One row tells in most cases that it is too early, or two, if one of them is a straggler.
        if upto < near || is_young(tx, near, young)? && is_young(tx, far, young)? {
            return Ok(0);
        }
        let look = look(tx, self.front, upto, young, STRAGGLERS)?;
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
        let look = look(tx, from, self.front, young, i64::MAX)?;
        self.fell_behind(look.young);
        self.sweep = look.full.then_some(look.upto);
        delete(tx, &look.may_go)
    }
}

fn is_young(tx: &Transaction<'_>, id: i64, young: &Young) -> Result<bool, Error> {
    Ok(look(tx, id - 1, id, young, i64::MAX)?.young > 0)
}

/// Looks at the rows behind `after`, in order. More than `stragglers` young ones in a row end it, and count as not
/// looked at; so do those at the end, unless they may be stragglers too.
fn look(tx: &Transaction<'_>, after: i64, upto: i64, young: &Young, stragglers: i64) -> Result<Look, Error> {
    let mut statement = tx.prepare_cached(SCAN)?;
    let [era, era_before] = &young.eras;
    let mut rows = statement.query(params![after, upto, young.after, young.now, era, era_before, LOOK as i64])?;
    let mut look = Look { may_go: Vec::new(), young: 0, first_sent: None, upto: after, full: false };
    let (mut seen, mut last, mut in_a_row) = (0, after, 0);
    while let Some(row) = rows.next()? {
        let (id, age): (i64, i64) = (row.get(0)?, row.get(1)?);
        if age != 0 {
            look.first_sent.get_or_insert(id);
        }
        match age {
            1 => in_a_row += 1,
            2 => look.may_go.push(id),
            _ => (),
        }
        if in_a_row > stragglers {
            return Ok(look);
        }
        if age == 2 {
            look.young += mem::take(&mut in_a_row);
        }
        if in_a_row == 0 {
            look.upto = id;
        }
        (seen, last) = (seen + 1, id);
        if seen == LOOK || look.may_go.len() == MOST {
            look.full = true;
            break;
        }
    }
    if look.full || stragglers == i64::MAX {
        (look.upto, look.young) = (last, look.young + in_a_row);
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
