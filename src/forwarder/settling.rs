//! Writing down what became of messages, and telling of those that were parked.

use std::time::Duration;

use super::Parts;
use super::boot::Boot;
use super::health::{Health, Work};
use crate::Error;
use crate::gate::Who;
use crate::status::FailedMessage;
use crate::store::{self, Batch, DAMAGED, Fate, Purge, Settlement, now_ms};

/// How long the forwarder waits for the write lock at a time, before it goes on listening.
const PATIENCE: Duration = Duration::from_millis(50);

pub(super) struct Settling {
    boot: Boot,
    sent: u64,
    damaged: u64,
}

impl Settling {
    pub fn new() -> Self {
        Settling { boot: Boot::present(), sent: 0, damaged: 0 }
    }

    /// Messages that were written down as SENT.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Messages that were parked as damaged.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Writes the batch, and purges: every row up to `position` is settled, waiting or held once it is written. Answers
    /// the rows that became FAILED by it.
    ///
    /// # Errors
    /// [`Error::Busy`] where others write, and whatever else the disk and SQLite answer.
    pub fn write(
        &mut self,
        parts: &mut Parts,
        health: &mut Health,
        batch: &Batch,
        position: i64,
    ) -> Result<Vec<i64>, Error> {
        let purge = Purge { retention: parts.settings.retention, upto: position, uptime: self.boot.uptime() };
        let settled = health.may_write().and_then(|()| {
            let _turn = parts.gate.wait(Who::Forwarder, PATIENCE).map_err(|_| Error::Busy(store::busy()))?;
            if batch.synced {
                // A sync that succeeds after one that failed says nothing of what was committed before.
                parts.disk.renew_log(|| parts.store.empty_log())?;
            }
            match parts.store.settle(batch, now_ms(), Some(purge)) {
                Err(error) if health.trouble(Work::Write, &error) => {
                    // What was gained is for the database, which the log may have made longer: then the log begins anew
                    // in the space that it has.
                    parts.store.checkpoint_now()?;
                    parts.store.settle(batch, now_ms(), None)
                }
                written => written,
            }
        });
        let settled = settled.inspect_err(|error| {
            health.trouble(Work::Write, error);
        })?;
        health.went_well(Work::Write);
        health.note_damage(parts.store.damage().as_ref());
        let sent = |s: &&Settlement| s.fate == Fate::Sent && !settled.unwritable.contains(&s.id);
        self.sent += batch.settlements.iter().filter(sent).count() as u64;
        Ok(settled.failed)
    }

    /// Parks rows that would never be met, since their ids are none that the table gives.
    pub fn park_misplaced(&mut self, parts: &mut Parts, health: &mut Health) {
        let parked = parts.store.misplaced().and_then(|ids| {
            let reason = "damaged: its id is below 1, which the table gives to no row";
            let park = |id| Settlement { id, fate: Fate::Failed { reason: reason.to_owned() } };
            let settlements = ids.into_iter().map(park).collect();
            parts.store.settle(&Batch { settlements, ..Batch::default() }, now_ms(), None)
        });
        match parked {
            Ok(settled) => self.tell_failed(parts, &settled.failed),
            Err(error) => {
                health.trouble(Work::Write, &error);
            }
        }
    }

    /// Tells log and application of rows that were parked as FAILED.
    pub fn tell_failed(&mut self, parts: &Parts, rows: &[i64]) {
        for row in rows {
            match parts.store.failed(*row) {
                Ok(Some(failed)) => self.tell(parts, &FailedMessage::from(failed)),
                Ok(None) => {}
                Err(error) => log::warn!("row {row} is parked as FAILED, and cannot be read: {error}"),
            }
        }
    }

    fn tell(&mut self, parts: &Parts, failed: &FailedMessage) {
        self.damaged += u64::from(failed.reason.starts_with(DAMAGED));
        log::warn!("message {} for topic {:?} is parked as FAILED: {}", failed.id, failed.topic, failed.reason);
        if let Some(on_failed) = &parts.on_failed {
            on_failed(failed);
        }
    }
}
