//! When to write what was decided, and what the table and the disk know since.

use super::Dispatcher;
use super::flight::Item;
use crate::store::{Batch, Row};

/// What stands in the table, and what of it a power cut leaves there.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Written {
    /// The position that is stored.
    position: i64,
    /// Settlements written since the last synced commit.
    unsynced: i64,
    /// Rows up to here are durable, whoever committed them; none before the first barrier.
    durable: Option<i64>,
    /// A synced commit is being written that will make rows up to there durable.
    barrier: Option<i64>,
}

impl Written {
    pub fn new(position: i64) -> Self {
        Written { position, unsynced: 0, durable: None, barrier: None }
    }

    /// Whether a power cut leaves the row in the table, so that it may be sent.
    pub fn is_durable(&self, row: &Row) -> bool {
        self.durable.is_some_and(|durable| row.synced || row.id <= durable)
    }

    fn settled(&mut self, batch: &Batch) {
        if let Some(position) = batch.position {
            self.position = position;
        }
        self.unsynced += batch.settlements.len() as i64;
        if batch.synced {
            self.unsynced = 0;
            self.durable = self.barrier.take().or(self.durable);
        }
    }
}

impl Dispatcher {
    /// The batch is committed.
    pub fn written(&mut self, batch: &Batch) {
        self.ledger.written();
        self.written.settled(batch);
    }

    /// The batch is not committed, as far as anybody knows.
    /// `busy`: only because others write.
    pub fn not_written(&mut self, batch: Batch, busy: bool) {
        self.written.barrier = None;
        self.ledger.put_back(self.now, batch, busy || self.stopping.is_some());
    }

    /// What has to be written now, if anything.
    pub(super) fn write_due(&mut self) -> Option<Batch> {
        if !self.ledger.may_write(self.now) {
            return None;
        }
        if self.stopping.is_some() && self.is_down() && !self.is_settled() {
            let mut batch = self.batch();
            batch.position = Some(self.position());
            return Some(batch);
        }
        let full = self.ledger.len() >= self.rules.bounds.settlements;
        let due = self.ledger.due(self.rules.settle_after).is_some_and(|due| self.now >= due);
        let awaited = self.hurry && self.flight.open() == 0 && !self.ledger.is_empty();
        (full || due || awaited).then(|| self.batch())
    }

    /// All that was decided; synced now and then, for a power cut brings back what was settled since.
    pub(super) fn batch(&mut self) -> Batch {
        let position = self.position();
        let mut batch = self.ledger.take();
        let every = self.rules.bounds.position;
        batch.position = (position - self.written.position >= every).then_some(position);
        if self.written.unsynced + batch.settlements.len() as i64 >= every {
            self.sync(&mut batch);
        }
        batch
    }

    /// The same, synced: every row that was read is durable then.
    pub(super) fn barrier(&mut self) -> Batch {
        let mut batch = self.batch();
        self.sync(&mut batch);
        batch
    }

    fn sync(&mut self, batch: &mut Batch) {
        batch.synced = true;
        self.written.barrier = Some(self.seen);
    }

    /// Every row up to here is settled, waiting or held once the ledger is written.
    pub fn position(&self) -> i64 {
        let fresh = |item: &&Item| item.fresh;
        let id = |item: &Item| item.row.id;
        let first = [
            self.fresh.front().map(|row| row.id),
            self.flight.items().filter(fresh).map(id).min(),
            self.resend.values().find(fresh).map(id),
            self.suspects.items().filter(fresh).map(id).min(),
        ];
        // The cursor may stand before what is in flight: what was read ahead is sometimes read again.
        first.into_iter().flatten().map(|first| first - 1).fold(self.cursor, i64::min).max(self.written.position)
    }

    /// Whether the table knows everything that is known here.
    pub fn is_settled(&self) -> bool {
        self.ledger.is_empty() && self.position() <= self.written.position
    }

    /// Up to where every row is settled, waiting or held in the table; `None` while some of it is still to be written.
    pub fn written_upto(&self) -> Option<i64> {
        self.ledger.is_empty().then(|| self.position())
    }

    /// Where the table alone can tell whether anything up to `target` is pending: every row up to the position that
    /// this answers is settled, waiting or held, and stands so in the table. None while memory knows better.
    pub fn settled_to(&self, target: i64) -> Option<i64> {
        let position = self.position();
        (self.ledger.is_empty() && position >= target.min(self.cursor)).then_some(position)
    }
}
