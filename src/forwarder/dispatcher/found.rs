//! What was read from the table, and what becomes of it in memory.

use std::time::Duration;

use super::Dispatcher;
use super::lanes::Phase;
use super::topics::Door;
use crate::store::{Lane, Query, Row};

/// After a whole round the table is not searched for lanes for this long, unless a topic opens.
const NEXT_ROUND: Duration = Duration::from_secs(5);

impl Dispatcher {
    /// Rows for a query of `Fresh`, `Again` or `Lane`; none where there are no more. `newest` is the newest row that
    /// there was before they were read.
    pub fn found(&mut self, query: &Query, rows: Vec<Row>, newest: i64) {
        let second_time = self.cursor < self.seen;
        if let Some(last) = rows.last() {
            self.seen = self.seen.max(last.id);
        }
        match query {
            Query::Fresh { .. } => {
                self.at_end = rows.is_empty();
                if self.at_end {
                    self.cursor = self.cursor.max(newest);
                }
                for row in rows {
                    self.cursor = row.id;
                    if !second_time || !self.is_tracked(row.id) {
                        self.fresh.push_back(row);
                    }
                }
            }
            Query::Again { rows: asked, .. } => self.found_again(rows, *asked),
            Query::Lane { lane, .. } => self.found_in_lane(lane, rows),
            Query::Lanes { .. } => {}
        }
    }

    /// Lanes for a query of `Lanes`, each with its first row.
    pub fn lanes_found(&mut self, query: &Query, lanes: Vec<(Lane, Row)>) {
        let Query::Lanes { rows: asked, .. } = query else { return };
        let full = lanes.len() >= *asked;
        for (lane, head) in lanes {
            self.seen = self.seen.max(head.id);
            self.lanes.dormant.after = Some(lane.clone());
            if self.lanes.get(&lane).is_some() {
                continue;
            }
            let shut = self.topics.door(&head.topic) == Door::Shut;
            if shut || self.lanes.len() >= self.rules.bounds.lanes {
                self.lanes.dormant.left = true;
            } else {
                self.lanes.set(&lane, Phase::Waiting(self.now + self.rules.believable(head.wait)));
            }
        }
        if !full {
            let dormant = &mut self.lanes.dormant;
            dormant.any = std::mem::take(&mut dormant.left);
            dormant.after = None;
            dormant.look_at = self.now + NEXT_ROUND;
            // What is held by no lane that can be read was released on the way.
            self.waiting.look_anew();
        }
    }

    fn found_again(&mut self, rows: Vec<Row>, asked: usize) {
        let full = rows.len() >= asked;
        let mut new = false;
        for row in rows {
            self.waiting.searched_to(row.id);
            if !self.is_tracked(row.id) {
                let due = self.now + self.rules.believable(row.wait);
                new = true;
                self.waiting.insert(row, due);
            }
        }
        if !full {
            self.waiting.searched();
        }
        if !new {
            // Nothing but what is known already: no hurry to look at the rest.
            self.waiting.look_not_before(self.now + self.rules.poll_interval);
        }
    }

    fn found_in_lane(&mut self, lane: &Lane, rows: Vec<Row>) {
        let Some(read_to) = rows.last().map(|row| row.id) else {
            // Nothing left that is not in flight: the lane is empty.
            self.lanes.remove(lane);
            return;
        };
        let rows = rows.into_iter().filter(|row| !self.is_tracked(row.id)).collect();
        self.lanes.fill(lane, rows, read_to);
    }

    /// Drops what was read ahead, since the table now knows more about its lanes than memory does.
    pub(super) fn read_again_from_table(&mut self) {
        if let Some(first) = self.fresh.front() {
            self.cursor = first.id - 1;
            self.at_end = false;
            self.fresh.clear();
        }
    }

    /// Whether memory holds the row as one that is not settled.
    fn is_tracked(&self, id: i64) -> bool {
        self.flight.contains(id)
            || self.resend.contains_key(&id)
            || self.suspects.contains(id)
            || self.waiting.contains(id)
    }
}
