//! Rows without a lane that wait for their next attempt.
//!
//! In memory stands a bounded number of them; the table is searched for the others, in rounds over its index.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::store::{Query, Row};

/// Every id is behind it: a row that somebody gave a negative one is parked, and can then be retried.
const BEFORE_ALL: i64 = i64::MIN;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Waiting {
    /// With the time until which each waits.
    rows: BTreeMap<i64, (Row, Duration)>,
    timers: BTreeSet<(Duration, i64)>,
    search: Search,
}

/// Where the search for rows that are not known stands.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Search {
    /// Whether there may be some.
    look: bool,
    /// Whether something changed since the present round began.
    changed: bool,
    after: i64,
    look_at: Duration,
}

impl Waiting {
    /// At the start none is known.
    pub fn new() -> Self {
        Waiting {
            rows: BTreeMap::new(),
            timers: BTreeSet::new(),
            search: Search { look: true, changed: false, after: BEFORE_ALL, look_at: Duration::ZERO },
        }
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn contains(&self, id: i64) -> bool {
        self.rows.contains_key(&id)
    }

    #[cfg(test)]
    pub fn timers(&self) -> usize {
        self.timers.len()
    }

    pub fn insert(&mut self, row: Row, until: Duration) {
        self.timers.insert((until, row.id));
        self.rows.insert(row.id, (row, until));
    }

    pub fn remove(&mut self, id: i64) {
        if let Some((_, until)) = self.rows.remove(&id) {
            self.timers.remove(&(until, id));
        }
    }

    /// The row that has waited long enough, the one whose wait was over first.
    pub fn due(&self, now: Duration) -> Option<&Row> {
        let (_, id) = self.timers.first().filter(|(at, _)| *at <= now)?;
        self.rows.get(id).map(|(row, _)| row)
    }

    /// When the next wait is over.
    pub fn next_due(&self) -> Option<Duration> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// There may be some in the table that are not known.
    pub fn look_anew(&mut self) {
        self.search.look = true;
        self.search.changed = true;
    }

    /// When to look for them, if there may be some.
    pub fn next_look(&self) -> Option<Duration> {
        self.search.look.then_some(self.search.look_at)
    }

    /// The next look of the round, for so many rows.
    pub fn query(&mut self, rows: usize) -> Query {
        if self.search.after == BEFORE_ALL {
            self.search.changed = false;
        }
        Query::Again { after: self.search.after, rows }
    }

    /// The round has come as far as this row.
    pub fn searched_to(&mut self, id: i64) {
        self.search.after = id;
    }

    /// There are no more: another round only if something changed meanwhile.
    pub fn searched(&mut self) {
        self.search.after = BEFORE_ALL;
        self.search.look = self.search.changed;
    }

    /// No hurry to look at the rest.
    pub fn look_not_before(&mut self, at: Duration) {
        self.search.look_at = at;
    }
}
