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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crossbeam_channel::{Receiver, bounded};

    use super::*;

    fn flush(until: Option<Instant>) -> (Flush, Receiver<()>) {
        let (done, told) = bounded(1);
        (Flush { done, until }, told)
    }

    #[test]
    fn callers_that_gave_up_are_forgotten_although_their_messages_are_pending() {
        let mut flushes = Flushes::default();
        for _ in 0..1_000 {
            flushes.push(1, flush(Some(Instant::now())).0);
        }
        flushes.tell(|_| true);
        assert!(flushes.is_empty());
    }

    #[test]
    fn callers_are_told_as_far_as_nothing_is_pending_and_the_others_wait() {
        let mut flushes = Flushes::default();
        let later = Instant::now() + Duration::from_secs(3600);
        let (first, first_told) = flush(None);
        let (second, second_told) = flush(Some(later));
        flushes.push(5, first);
        flushes.push(9, second);
        flushes.tell(|target| target > 5);
        assert!(first_told.try_recv().is_ok() && second_told.try_recv().is_err());
        assert!(!flushes.is_empty());
        flushes.tell(|_| false);
        assert!(second_told.try_recv().is_ok() && flushes.is_empty());
    }
}
