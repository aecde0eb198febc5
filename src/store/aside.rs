//! The counters of rows that are set aside, against what the indexes of those rows hold.

use log::debug;
use rusqlite::{Connection, Transaction, params};

use crate::Error;

/// Of one moment. The bounds are those of the triggers.
const COUNT: &str = "
    SELECT again.n + held.n, CAST(min(max(again.octets + held.octets, 0), 9007199254740991) AS INTEGER),
           aside, aside_bytes
    FROM main.outbox_state,
         (SELECT count(*) AS n, total(bytes) AS octets FROM main.outbox INDEXED BY outbox_again
          WHERE status IS NOT 'SENT' AND status IS NOT 'FAILED' AND attempts > 0 AND held_by IS NULL) AS again,
         (SELECT count(*) AS n, total(bytes) AS octets FROM main.outbox INDEXED BY outbox_held
          WHERE held_by IS NOT NULL AND status IS NOT 'SENT' AND status IS NOT 'FAILED') AS held
    WHERE outbox_state.id = 1";

/// What the counters have to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Aside {
    pub rows: i64,
    pub bytes: i64,
}

/// What the counters have to say and do not; `None` where they do, and where that cannot be told: an index is missing
/// or damaged, or the row of the counters. Looks at each row that is set aside.
///
/// # Errors
/// Those that are no damage.
pub(super) fn miscounted(conn: &Connection) -> Result<Option<Aside>, Error> {
    let counted = conn.query_row(COUNT, [], |row| {
        let aside = Aside { rows: row.get(0)?, bytes: row.get(1)? };
        let is_right = row.get(2) == Ok(aside.rows) && row.get(3) == Ok(aside.bytes);
        Ok((!is_right).then_some(aside))
    });
    match counted.map_err(Error::from) {
        Err(error @ (Error::Damaged(_) | Error::Sqlite(_))) => {
            debug!("rows that are set aside cannot be counted: {error}");
            Ok(None)
        }
        counted => counted,
    }
}

/// Sets the counters right.
pub(super) fn recount(tx: &Transaction<'_>) -> Result<(), Error> {
    if let Some(Aside { rows, bytes }) = miscounted(tx)? {
        tx.execute("UPDATE main.outbox_state SET aside = ?1, aside_bytes = ?2 WHERE id = 1", params![rows, bytes])?;
    }
    Ok(())
}
