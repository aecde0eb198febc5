//! Writing down what became of rows: one transaction for many of them.

use log::{debug, warn};
use rusqlite::{Connection, Transaction, TransactionBehavior, ffi, params};

use super::connect::is_failed_sync;
use super::damage::{is_damaged, of_a_row};
use super::purge::{Era, Purge};
use super::{Batch, Fate, Settlement, Store};
use crate::Error;
use crate::broker::MAX_REASON;

/// The attempts and one more: at most what a `u32` holds, at least 1 whatever stands there.
macro_rules! one_more {
    () => {
        "min(max(coalesce(CAST(attempts AS INTEGER), 0), 0), 4294967294) + 1"
    };
}

// An acknowledgement counts whatever was thought of the row before: the broker has the message.
const SENT: &str = concat!(
    "
    UPDATE main.outbox
    SET status = 'SENT', filler = ?3, status_at = ?2, held_by = NULL,
        attempts = ",
    one_more!(),
    "
    WHERE id = ?1 AND status IS NOT 'SENT'"
);

const FAILED: &str = concat!(
    "
    UPDATE main.outbox
    SET status = 'FAILED', status_at = ?2, held_by = NULL, last_error = ?3,
        attempts = ",
    one_more!(),
    "
    WHERE id = ?1 AND status IS NOT 'SENT' AND status IS NOT 'FAILED'"
);

const WAITING: &str = concat!(
    "
    UPDATE main.outbox
    SET wait_ms = ?2, held_by = ?3, last_error = ?4, attempts = ",
    one_more!(),
    "
    WHERE id = ?1 AND status IS NOT 'SENT' AND status IS NOT 'FAILED'"
);

const HELD: &str = "
    UPDATE main.outbox SET held_by = ?2 WHERE id = ?1 AND status IS NOT 'SENT' AND status IS NOT 'FAILED'";

// The barrier may be anything: plain SQL can write the largest integer there is, and one more is none.
const STATE: &str = "
    UPDATE main.outbox_state
    SET position = coalesce(?1, position),
        barrier = CASE WHEN typeof(barrier) = 'integer' AND barrier BETWEEN 0 AND 9007199254740991
                       THEN barrier ELSE 0 END + ?2,
        unreadable = CASE WHEN typeof(unreadable) = 'integer' AND unreadable BETWEEN 0 AND 9007199254740991
                          THEN unreadable ELSE 0 END + ?3
    WHERE id = 1";

// SQLite refuses to write any part of a row that holds a wrong type anywhere. What cannot be read is replaced, the
// payload kept.
const MEND: &str = "
    UPDATE main.outbox
    SET status = 'PENDING', status_at = 0, filler = NULL, attempts = 0, wait_ms = 0, held_by = NULL, synced = 0,
        last_error = NULL, created_at = 0, nonce = 0, checksum = NULL, qos = 1, retain = 0, priority = NULL,
        bytes = NULL, total_bytes = NULL, expires_at = NULL, topic = 'damaged', key = NULL, content_type = NULL,
        response_topic = NULL, correlation_data = NULL, headers = NULL,
        payload = CASE WHEN typeof(payload) = 'text' OR typeof(payload) = 'blob' THEN payload ELSE x'' END
    WHERE id = ?1 AND NOT (
        typeof(status) = 'text' AND typeof(status_at) = 'integer' AND typeof(attempts) = 'integer'
        AND typeof(wait_ms) = 'integer' AND typeof(synced) = 'integer' AND typeof(created_at) = 'integer'
        AND typeof(nonce) = 'integer' AND typeof(qos) = 'integer' AND typeof(retain) = 'integer'
        AND typeof(topic) = 'text' AND (typeof(payload) = 'text' OR typeof(payload) = 'blob')
        AND typeof(coalesce(filler, '')) = 'text' AND typeof(coalesce(held_by, '')) = 'text'
        AND typeof(coalesce(last_error, '')) = 'text' AND typeof(coalesce(checksum, 0)) = 'integer'
        AND typeof(coalesce(priority, 0)) = 'integer' AND typeof(coalesce(expires_at, 0)) = 'integer'
        AND typeof(coalesce(key, '')) = 'text' AND typeof(coalesce(content_type, '')) = 'text'
        AND typeof(coalesce(response_topic, '')) = 'text' AND typeof(coalesce(correlation_data, x'')) = 'blob'
        AND typeof(coalesce(headers, '')) = 'text' AND typeof(coalesce(bytes, 0)) = 'integer'
        AND typeof(coalesce(total_bytes, 0)) = 'integer')";

/// Why a row is parked that could not be written.
const WRONG_TYPE: &str = "damaged: a value in it has the wrong type";

/// What a SENT row bears where no era is known: it goes by the wall clock alone.
const NO_ERA: &str = "...";

/// Settlements that are written in one transaction where there is little space.
const PIECE: usize = 16;
/// Settlements for which a purge that failed is left alone.
const PURGE_RESTS: u32 = 1_000;

/// What a settling transaction did, beside what it was asked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Settled {
    /// The rows that became FAILED by it.
    pub failed: Vec<i64>,
    /// The rows that could not be written, whatever was to become of them.
    pub unwritable: Vec<i64>,
    /// How many SENT rows were purged.
    pub purged: usize,
}

impl Settled {
    fn add(&mut self, mut piece: Settled) {
        self.failed.append(&mut piece.failed);
        self.unwritable.append(&mut piece.unwritable);
    }
}

impl Store {
    /// Writes the batch in one transaction: all of it, or on an error nothing; where space is missing or pages are
    /// damaged in several, of which the first may stand. Rows that somebody else settled or deleted meanwhile are left
    /// as they are.
    pub fn settle(&mut self, batch: &Batch, now_ms: i64, purge: Option<Purge>) -> Result<Settled, Error> {
        if batch.synced {
            self.conn.pragma_update(Some("main"), "synchronous", "FULL")?;
        }
        let settled = self.write_or_make_room(batch, now_ms, purge);
        if batch.synced {
            if let Err(e) = self.conn.pragma_update(Some("main"), "synchronous", "NORMAL") {
                debug!("commits go on being synced: {e}"); // slower, not wrong
            }
        }
        let mut settled = settled?;
        settled.failed.splice(0..0, self.untold.drain(..));
        Ok(settled)
    }

    /// Nothing that is not settling itself may keep it from being done: not a purge that meets a damaged page or the
    /// application's foreign keys, and not a log that could be begun anew.
    fn write_or_make_room(&mut self, batch: &Batch, now_ms: i64, purge: Option<Purge>) -> Result<Settled, Error> {
        let rests = self.purge_rests > 0;
        self.purge_rests = self.purge_rests.saturating_sub(1);
        let purge = purge.filter(|_| !rests);
        let purges = purge.is_some_and(|purge| self.purge.wants(&purge));
        match self.write(batch, now_ms, purge) {
            Err(Error::DiskFull(_)) => self.write_in_pieces(batch, now_ms),
            Err(error) if purges && !matches!(error, Error::Busy(_)) => {
                let settled = match self.write(batch, now_ms, None) {
                    // It need not have been the purge.
                    Err(Error::Damaged(error)) => return self.write_around_damage(batch, now_ms, &error),
                    settled => settled?,
                };
                self.purge_rests = PURGE_RESTS;
                if let Error::Damaged(_) = error {
                    self.purge.skip();
                }
                warn!("SENT rows cannot be purged for now: {error}");
                Ok(settled)
            }
            Err(Error::Damaged(error)) => self.write_around_damage(batch, now_ms, &error),
            result => result,
        }
    }

    /// What can be written is: a row that cannot, since SQLite needs pages for it that are damaged, is passed over.
    fn write_around_damage(&mut self, batch: &Batch, now_ms: i64, error: &rusqlite::Error) -> Result<Settled, Error> {
        let disagrees = error.sqlite_error().is_some_and(|e| e.extended_code == ffi::SQLITE_CORRUPT_INDEX);
        if (disagrees || !self.indexes_can_be_read()?) && self.mend_indexes()? {
            let written = self.write(batch, now_ms, None);
            if !is_damaged(&written) {
                return written;
            }
        }
        let mut settled = Settled::default();
        let rest = Batch { settlements: Vec::new(), ..batch.clone() };
        let written = self.halve(&batch.settlements, now_ms, &mut settled);
        let written = written.and_then(|()| self.write(&rest, now_ms, None));
        self.tell(settled, written)
    }

    /// In transactions of their own, since the first damaged page makes SQLite refuse everything else in the same one,
    /// what comes after a savepoint is rolled back included.
    fn halve(&mut self, settlements: &[Settlement], now_ms: i64, settled: &mut Settled) -> Result<(), Error> {
        let piece = Batch { settlements: settlements.to_vec(), ..Batch::default() };
        match (self.write(&piece, now_ms, None), settlements) {
            (Err(Error::Damaged(_)), [one]) if self.damage.give_up(one.id) => settled.unwritable.push(one.id),
            (Err(Error::Damaged(_)), [_, _, ..]) => {
                let (front, back) = settlements.split_at(settlements.len() / 2);
                self.halve(front, now_ms, settled)?;
                self.halve(back, now_ms, settled)?;
            }
            (written, _) => settled.add(written?),
        }
        Ok(())
    }

    /// With a log that begins anew after each piece, which takes no more space than a piece does. What was written when
    /// a later piece fails is written again with the next try, and says the same.
    fn write_in_pieces(&mut self, batch: &Batch, now_ms: i64) -> Result<Settled, Error> {
        let mut settled = Settled::default();
        let pieces =
            batch.settlements.chunks(PIECE).map(|piece| Batch { settlements: piece.to_vec(), ..Batch::default() });
        let rest = Batch { settlements: Vec::new(), ..batch.clone() };
        let written = pieces.chain([rest]).try_for_each(|piece| {
            self.let_log_begin_anew()?;
            self.write(&piece, now_ms, None).map(|piece| settled.add(piece))
        });
        self.tell(settled, written)
    }

    /// What was written before the last piece was `written`, or could not be: then what became FAILED is told when the
    /// batch has been tried again, which would not meet it any more.
    fn tell<T>(&mut self, mut settled: Settled, written: Result<T, Error>) -> Result<Settled, Error> {
        if written.is_err() {
            self.untold.append(&mut settled.failed);
        }
        written.map(|_| settled)
    }

    fn let_log_begin_anew(&self) -> Result<(), Error> {
        match self.checkpoint_now() {
            // The log is in doubt: nothing more may be committed into it.
            Err(error) if is_failed_sync(&error) => Err(error),
            Err(error) => {
                debug!("no checkpoint on a full disk: {error}"); // there may be space for a piece all the same
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    fn write(&mut self, batch: &Batch, now_ms: i64, purge: Option<Purge>) -> Result<Settled, Error> {
        let mut cursor = self.purge.clone();
        let wants = purge.is_some_and(|purge| cursor.wants(&purge));
        let mut settled = Settled::default();
        let state = batch.position.is_some() || batch.synced;
        if batch.settlements.is_empty() && !state && !wants {
            return Ok(settled);
        }
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut era = self.era;
        if let Some(Purge { retention, uptime, .. }) = purge {
            cursor.advance(uptime);
            let now = Era::read(&tx, uptime)?;
            self.era = Some(now);
            // A page of its own at most once per retention, and only while there is something to purge.
            let write = state || wants && now.is_over(retention);
            era = Some(if write { now.go_on(&tx, uptime, retention)? } else { now });
        }
        let mark = era.map_or_else(|| NO_ERA.to_owned(), |era| era.mark());
        for settlement in &batch.settlements {
            cursor.settled(settlement);
            match settle_one(&tx, settlement, now_ms, &mark)? {
                Effect::Failed => settled.failed.push(settlement.id),
                Effect::Sent => settled.failed.retain(|id| *id != settlement.id),
                Effect::Other => (),
            }
        }
        if state {
            let passed_over = i64::try_from(self.damage.to_record(batch.position)).unwrap_or(i64::MAX);
            let changed = tx.prepare_cached(STATE)?.execute(params![batch.position, batch.synced, passed_over])?;
            if changed != 1 {
                return Err(rusqlite::Error::StatementChangedRows(changed).into());
            }
        }
        if let (Some(purge), Some(era), true) = (purge, era, wants) {
            settled.purged = cursor.purge(&tx, &purge, era, now_ms)?;
        }
        tx.commit()?;
        (self.purge, self.era) = (cursor, era);
        if batch.position.is_some() {
            self.damage.was_recorded(batch.position);
        }
        Ok(settled)
    }
}

enum Effect {
    Sent,
    Failed,
    /// It waits now, or nothing became of it.
    Other,
}

fn settle_one(tx: &Transaction<'_>, settlement: &Settlement, now_ms: i64, era: &str) -> Result<Effect, Error> {
    let Settlement { id, fate } = settlement;
    let effect = |fate: &Fate| match fate {
        Fate::Sent => Effect::Sent,
        Fate::Failed { .. } => Effect::Failed,
        Fate::Waiting { .. } | Fate::Held { .. } => Effect::Other,
    };
    match update(tx, *id, fate, now_ms, era) {
        Ok(1) => Ok(effect(fate)),
        Ok(_) => Ok(Effect::Other),
        // A trigger of the application's may have failed for its own table's types: then there is nothing to mend.
        Err(error) if is_wrong_type(&error) && mend(tx, *id)? => {
            warn!("row {id} is damaged, a value has the wrong type: what it said is replaced, but for its payload");
            let reason = WRONG_TYPE.to_owned();
            let fate = if *fate == Fate::Sent { Fate::Sent } else { Fate::Failed { reason } };
            update(tx, *id, &fate, now_ms, era)?;
            Ok(effect(&fate))
        }
        Err(error) => Err(of_a_row(error)),
    }
}

fn update(tx: &Connection, id: i64, fate: &Fate, now_ms: i64, era: &str) -> rusqlite::Result<usize> {
    match fate {
        Fate::Sent => tx.prepare_cached(SENT)?.execute(params![id, now_ms, era]),
        Fate::Failed { reason } => tx.prepare_cached(FAILED)?.execute(params![id, now_ms, cut(reason)]),
        Fate::Waiting { wait, reason, lane } => {
            let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
            let lane = lane.as_ref().map(ToString::to_string);
            tx.prepare_cached(WAITING)?.execute(params![id, wait_ms, lane, cut(reason)])
        }
        Fate::Held { lane } => tx.prepare_cached(HELD)?.execute(params![id, lane.to_string()]),
    }
}

/// [SQLITE_CONSTRAINT_DATATYPE](https://www.sqlite.org/rescode.html#constraint_datatype), which the bindings for a
/// system's SQLite do not name.
const CONSTRAINT_DATATYPE: i32 = 3091;

pub(super) fn is_wrong_type(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|e| e.extended_code == CONSTRAINT_DATATYPE)
}

/// Makes a row writable again whose damage keeps it from being written; whether there was such damage. Its checksum
/// will not match, so that it is not sent when somebody retries it.
fn mend(conn: &Connection, id: i64) -> rusqlite::Result<bool> {
    if conn.prepare_cached(MEND)?.execute([id])? == 0 {
        return Ok(false);
    }
    conn.prepare_cached("UPDATE main.outbox SET checksum = 0 WHERE id = ?1")?.execute([id])?;
    Ok(true)
}

/// Parks a row whose damage keeps it from being written. Whether it was such a row.
pub(super) fn park_damaged(conn: &Connection, id: i64, now_ms: i64) -> rusqlite::Result<bool> {
    Ok(mend(conn, id)? && update(conn, id, &Fate::Failed { reason: WRONG_TYPE.to_owned() }, now_ms, NO_ERA)? > 0)
}

/// The front of a reason that the table keeps.
fn cut(reason: &str) -> &str {
    let end = (0..=reason.len().min(MAX_REASON)).rev().find(|end| reason.is_char_boundary(*end));
    &reason[..end.unwrap_or(0)]
}
