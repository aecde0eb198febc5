//! Settlements decided and not yet written.

use std::mem;
use std::time::Duration;

use crate::store::{Batch, Fate, Settlement};

/// The rest after a write that others were in the way of.
const SOON: Duration = Duration::from_millis(100);
/// The rest after a write that failed; it doubles with each, up to 32 times.
const FIRST_REST: Duration = Duration::from_millis(100);

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Ledger {
    entries: Vec<Settlement>,
    /// When the first of them was decided.
    since: Duration,
    /// Entries that put a row into a lane or make it wait: the table's indexes do not show these yet.
    marks: usize,
    /// Entries for rows that the indexes show as waiting or held, and no longer are.
    stale: usize,
    /// Rows that wait by these entries and do not in the table, less those that wait in the table and are settled here.
    hidden: i64,
    /// The three of them for what is being written.
    in_writing: (usize, usize, i64),
    /// After a failed write: not before then.
    not_before: Duration,
    /// Failed writes in a row.
    failures: u32,
}

impl Ledger {
    /// `exceptional`: the row stands in an index of waiting or held rows.
    pub fn push(&mut self, now: Duration, id: i64, fate: Fate, exceptional: bool) {
        if self.entries.is_empty() {
            self.since = now;
        }
        let mark = matches!(fate, Fate::Held { .. } | Fate::Waiting { .. });
        self.marks += usize::from(mark);
        self.stale += usize::from(exceptional);
        self.hidden += i64::from(mark) - i64::from(exceptional);
        self.entries.push(Settlement { id, fate });
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[cfg(test)]
    pub fn entries(&self) -> &[Settlement] {
        &self.entries
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a look at lanes would miss something.
    pub fn has_marks(&self) -> bool {
        self.marks > 0
    }

    /// Whether a look at waiting rows would show some that are settled.
    pub fn has_stale(&self) -> bool {
        self.stale > 0
    }

    /// Whether the disk may be asked, after it failed.
    pub fn may_write(&self, now: Duration) -> bool {
        now >= self.not_before
    }

    /// When to write what stands here, if anything does.
    pub fn due(&self, settle_after: Duration) -> Option<Duration> {
        (!self.is_empty()).then(|| (self.since + settle_after).max(self.not_before))
    }

    pub fn hidden(&self) -> i64 {
        self.hidden
    }

    pub fn not_before(&self) -> Duration {
        self.not_before
    }

    /// Takes everything out, to be written.
    pub fn take(&mut self) -> Batch {
        self.in_writing = (mem::take(&mut self.marks), mem::take(&mut self.stale), mem::take(&mut self.hidden));
        Batch { settlements: mem::take(&mut self.entries), ..Batch::default() }
    }

    pub fn written(&mut self) {
        self.failures = 0;
    }

    /// Puts back what could not be written, before what was decided since. `soon`: it is only a matter of a moment.
    pub fn put_back(&mut self, now: Duration, batch: Batch, soon: bool) {
        let later = mem::replace(&mut self.entries, batch.settlements);
        self.entries.extend(later);
        let (marks, stale, hidden) = mem::take(&mut self.in_writing);
        self.marks += marks;
        self.stale += stale;
        self.hidden += hidden;
        if soon {
            self.not_before = now + SOON;
        } else {
            self.failures = self.failures.saturating_add(1);
            self.not_before = now + FIRST_REST.saturating_mul(1 << self.failures.min(5));
        }
    }

    /// There is no time to rest after a failure.
    pub fn may_write_now(&mut self, now: Duration) {
        self.not_before = self.not_before.min(now);
    }
}
