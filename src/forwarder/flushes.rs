//! Callers that wait until what was committed before is settled.

use std::collections::VecDeque;
use std::time::Instant;

use super::Flush;

/// In the order in which they came, and so in the order of the rows that they wait for.
#[derive(Default)]
pub(crate) struct Flushes(VecDeque<(i64, Flush)>);

impl Flushes {
    pub fn push(&mut self, target: i64, flush: Flush) {
        self.0.push_back((target, flush));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets those that gave up, and tells the others as far as nothing up to their row is pending.
    pub fn tell(&mut self, is_pending: impl Fn(i64) -> bool) {
        let now = Instant::now();
        self.0.retain(|(_, flush)| flush.until.is_none_or(|until| now < until));
        while self.0.front().is_some_and(|(target, _)| !is_pending(*target)) {
            if let Some((_, flush)) = self.0.pop_front() {
                let _ = flush.done.try_send(()); // it may have given up this moment
            }
        }
    }
}
