//! Which of the rows may go, and which are young.

use std::mem;

use rusqlite::{Transaction, params};

use crate::Error;

/// Most rows that are deleted in one transaction.
const MOST: usize = 500;
/// Most rows that are looked at in one transaction.
pub(super) const LOOK: usize = 2_000;

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

/// What makes a row young.
pub(super) struct Young {
    /// Sent later than that, and not later than now, in Unix milliseconds.
    pub after: i64,
    pub now: i64,
    /// Sent in one of these eras.
    pub eras: [String; 2],
}

/// What a look at some rows found.
pub(super) struct Look {
    pub may_go: Vec<i64>,
    /// Young rows up to `upto`.
    pub young: i64,
    /// The first row that is SENT, old or young.
    pub first_sent: Option<i64>,
    /// All rows up to here were looked at, and none behind it may go yet.
    pub upto: i64,
    /// Whether it ended because it had seen enough, not because there was no more.
    pub full: bool,
}

/// Whether that one row is.
pub(super) fn is_young(tx: &Transaction<'_>, id: i64, young: &Young) -> Result<bool, Error> {
    Ok(look(tx, id - 1, id, young, None)?.young > 0)
}

/// Looks at the rows behind `after`, in order. More than `stragglers` young ones with no old one between them end it,
/// and count as not looked at; so do those at the end.
pub(super) fn look(
    tx: &Transaction<'_>,
    after: i64,
    upto: i64,
    young: &Young,
    stragglers: Option<i64>,
) -> Result<Look, Error> {
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
        if stragglers.is_some_and(|most| in_a_row > most) {
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
    if look.full || stragglers.is_none() {
        (look.upto, look.young) = (last, look.young + in_a_row);
    }
    Ok(look)
}
