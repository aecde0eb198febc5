//! Which message goes next, or what has to be read or written before one can.
//!
//! In this order: a suspect's trial, which wants to be alone; what was in flight when a session ended; lanes that are
//! being emptied; rows whose wait is over; new rows. That is nearly the order of the ids, which is commit order.

use super::Dispatcher;
use super::flight::Item;
use super::lanes::Phase;
use super::topics::Door;
use crate::forwarder::Ticket;
use crate::store::{Fate, Lane, Query, Row};

/// Rows, or lanes, read at one look for those that wait.
const AGAIN_ROWS: usize = 64;

#[derive(Debug)]
pub(crate) enum Pick {
    Send(Ticket, bool),
    Read(Query),
    /// What was decided, before something can be read.
    Write,
    /// The same, synced: the next row may not be durable yet.
    Barrier,
    Nothing,
}

/// How a row stands at the door.
enum Admission {
    Go,
    /// It has to wait in that lane, in the table.
    Hold(Lane),
    /// Its key, or the lane it belongs to, is busy: it stays where it is, others may pass.
    Busy,
    /// It may not be durable yet.
    Barrier,
}

impl Dispatcher {
    pub(super) fn pick(&mut self) -> Pick {
        let Some(limits) = self.sessions.limits() else { return Pick::Nothing };
        let window = self.rules.window.min(limits.window).min(self.suspects.window());
        if !self.flight.has_room(window) || self.flight.is_alone() {
            return Pick::Nothing;
        }
        if let Some(suspect) = self.suspects.trial(self.now) {
            return self.pick_suspect(suspect);
        }
        if self.suspects.len() >= self.rules.bounds.suspects {
            return Pick::Nothing;
        }
        self.pick_resend()
            .or_else(|| self.pick_from_lanes())
            .or_else(|| self.pick_waiting())
            .or_else(|| self.look_for_waiting())
            .or_else(|| self.look_for_lanes())
            .or_else(|| self.pick_fresh())
            .or_else(|| self.read_fresh())
            .unwrap_or(Pick::Nothing)
    }

    fn fits(&self, size: usize) -> bool {
        let limit = self.sessions.limits().map_or(0, |limits| limits.bytes).min(self.rules.window_bytes);
        self.flight.fits(size, limit)
    }

    fn send(&mut self, mut item: Item) -> Pick {
        let row = &item.row;
        let (newest, left) = &mut self.start;
        let from_before = row.id <= *newest && (!item.fresh || *left > 0);
        if item.fresh && !item.sent_before {
            *left = left.saturating_sub(1);
        }
        let possible_duplicate = item.sent_before || row.attempts > 0 || from_before;
        item.sent_before = possible_duplicate;
        let row = &item.row;
        if self.topics.door(&row.topic) == Door::Ajar {
            self.topics.probe_sent(&row.topic.clone(), row.id);
        }
        if !self.suspects.contains(row.id) {
            self.busy.occupy(&item.row);
        }
        self.returned.sending_goes_on();
        Pick::Send(self.flight.push(self.now, item, self.rules.ack_timeout), possible_duplicate)
    }

    /// A row goes back to the table, which does not tell that it was sent: when it is read again it is marked.
    pub(super) fn may_be_repeated(&mut self, item: &Item) {
        if item.sent_before {
            self.start.0 = self.start.0.max(item.row.id);
        }
    }

    fn pick_suspect(&mut self, id: i64) -> Pick {
        let Some(item) = self.suspects.item(id) else { return Pick::Nothing };
        if self.flight.open() > 0 {
            return Pick::Nothing;
        }
        let item = Item { sent_before: true, ..item.clone() };
        self.send(item)
    }

    fn pick_resend(&mut self) -> Option<Pick> {
        while let Some(item) = self.resend.values().next() {
            let (row, alone, fresh) = (item.row.clone(), item.alone, item.fresh);
            if alone && self.flight.open() > 0 || !self.fits(row.size) {
                return Some(Pick::Nothing);
            }
            match self.admit(&row, None) {
                Admission::Go => {
                    let item = self.resend.remove(&row.id)?;
                    return Some(self.send(item));
                }
                Admission::Hold(lane) => {
                    let item = self.resend.remove(&row.id)?;
                    self.may_be_repeated(&item);
                    self.hold(&row, lane, fresh);
                }
                Admission::Barrier => return Some(Pick::Barrier),
                Admission::Busy => return Some(Pick::Nothing),
            }
            if self.ledger.len() >= self.rules.bounds.settlements {
                return Some(Pick::Nothing);
            }
        }
        None
    }

    fn pick_from_lanes(&mut self) -> Option<Pick> {
        while self.lanes.active().len() < self.rules.bounds.active_lanes {
            let due = self.lanes.next_due().filter(|(at, _)| *at <= self.now).map(|(_, lane)| lane.clone());
            let Some(lane) = due else { break };
            self.lanes.set(&lane, Phase::Probing(None));
        }
        let active: Vec<Lane> = self.lanes.active().iter().cloned().collect();
        for lane in active {
            if let Some(pick) = self.pick_from_lane(&lane) {
                return Some(pick);
            }
        }
        None
    }

    fn pick_from_lane(&mut self, lane: &Lane) -> Option<Pick> {
        let state = self.lanes.get(lane)?;
        let probing = match state.phase {
            Phase::Probing(Some(_)) => return None,
            Phase::Probing(None) => true,
            _ => false,
        };
        let Some(row) = state.rows.front().cloned() else {
            if !self.ledger.is_empty() {
                return Some(Pick::Write);
            }
            // The rows in flight stand in the index too, so one row of a probe may need a longer look.
            let rows = self.rules.bounds.lane_rows;
            return Some(Pick::Read(Query::Lane { lane: lane.clone(), after: state.read_to, rows }));
        };
        if !self.fits(row.size) {
            return Some(Pick::Nothing);
        }
        match self.admit(&row, Some(lane)) {
            Admission::Go => {
                self.lanes.pop_row(lane);
                // What was refused once may be again: what has not been sent yet must not be on its way by then.
                let refused_before = row.attempts > 0 && matches!(lane, Lane::Key(_));
                if probing || refused_before {
                    self.lanes.set(lane, Phase::Probing(Some(row.id)));
                }
                Some(self.send(Item::new(row, false)))
            }
            Admission::Hold(_) => {
                self.lanes.set(lane, Phase::Blocked(row.topic.clone()));
                None
            }
            Admission::Barrier => Some(Pick::Barrier),
            Admission::Busy => None,
        }
    }

    fn pick_waiting(&mut self) -> Option<Pick> {
        while let Some(row) = self.waiting.due(self.now).cloned() {
            if !self.fits(row.size) {
                return Some(Pick::Nothing);
            }
            let admission = self.admit(&row, None);
            match admission {
                Admission::Busy => return None,
                Admission::Barrier => return Some(Pick::Barrier),
                Admission::Go | Admission::Hold(_) => {}
            }
            self.waiting.remove(row.id);
            match admission {
                Admission::Hold(lane) => self.hold(&row, lane, false),
                _ => return Some(self.send(Item::new(row, false))),
            }
            if self.ledger.len() >= self.rules.bounds.settlements {
                return Some(Pick::Nothing);
            }
        }
        None
    }

    fn pick_fresh(&mut self) -> Option<Pick> {
        let mut index = 0;
        while let Some(row) = self.fresh.get(index) {
            if !self.fits(row.size) {
                return Some(Pick::Nothing);
            }
            let row = row.clone();
            match self.admit(&row, None) {
                Admission::Go => {
                    self.fresh.remove(index);
                    return Some(self.send(Item::new(row, true)));
                }
                Admission::Hold(lane) => {
                    self.fresh.remove(index);
                    self.hold(&row, lane, true);
                    if self.ledger.len() >= self.rules.bounds.settlements {
                        return Some(Pick::Nothing);
                    }
                }
                Admission::Busy => index += 1,
                Admission::Barrier => return Some(Pick::Barrier),
            }
        }
        None
    }

    /// `from`: the lane that the row is taken out of; its own lane does not stop it.
    fn admit(&self, row: &Row, from: Option<&Lane>) -> Admission {
        let lane = row.key.clone().map(Lane::Key);
        if let (Some(lane), None) = (&lane, from) {
            match self.lanes.get(lane).map(|state| &state.phase) {
                Some(Phase::Probing(Some(id))) if *id == row.id => {}
                Some(Phase::Draining) if self.resend.contains_key(&row.id) || row.attempts > 0 => {}
                Some(Phase::Draining) => return Admission::Busy,
                Some(_) => return Admission::Hold(lane.clone()),
                None if row.lane_held => return Admission::Hold(lane.clone()),
                None => {}
            }
        }
        // Before the topic: marked as held, it would go before what is in flight now, after a crash.
        if self.busy.contain(row) {
            return Admission::Busy;
        }
        if self.topics.door(&row.topic) == Door::Shut {
            return Admission::Hold(lane.unwrap_or_else(|| Lane::Topic(row.topic.clone())));
        }
        if self.written.is_durable(row) { Admission::Go } else { Admission::Barrier }
    }

    /// Marks a row as one that waits in the lane.
    fn hold(&mut self, row: &Row, lane: Lane, fresh: bool) {
        self.ledger.push(self.now, row.id, Fate::Held { lane: lane.clone() }, !fresh);
        for other in self.lanes.probed_by(row.id).into_iter().filter(|other| *other != lane) {
            self.lanes.set(&other, Phase::Draining); // somebody had put the row into a lane that is not its own
        }
        if let Some(state) = self.lanes.get(&lane) {
            if state.phase == Phase::Probing(Some(row.id)) {
                // The probe itself came back, and finds its topic shut.
                self.lanes.set(&lane, Phase::Blocked(row.topic.clone()));
            }
            self.lanes.read_anew(&lane);
            return;
        }
        if row.lane_held {
            // The lane stands in the table only, and is found there. What was read ahead may not know it yet.
            if !self.lanes.dormant.any {
                self.lanes.dormant.any = true;
                self.read_again_from_table();
            }
        } else {
            self.close_lane(&lane, row.id, Phase::Blocked(row.topic.clone()));
        }
    }

    /// Rows that wait by themselves, where there may be some that memory does not know.
    fn look_for_waiting(&mut self) -> Option<Pick> {
        let rows = self.rules.bounds.waiting.saturating_sub(self.waiting.len()).min(AGAIN_ROWS);
        if rows == 0 || self.waiting.next_look().is_none_or(|at| self.now < at) {
            return None;
        }
        if self.ledger.has_stale() || self.ledger.has_marks() {
            return Some(Pick::Write);
        }
        Some(Pick::Read(self.waiting.query(rows)))
    }

    /// Lanes that stand in the table alone, when there is room for them.
    fn look_for_lanes(&mut self) -> Option<Pick> {
        let dormant = &self.lanes.dormant;
        let room = self.lanes.len() - self.lanes.blocked() < self.rules.bounds.lanes / 2;
        if !dormant.any || self.now < dormant.look_at || !room {
            return None;
        }
        if !self.ledger.is_empty() {
            return Some(Pick::Write);
        }
        Some(Pick::Read(Query::Lanes { after: dormant.after.clone(), rows: AGAIN_ROWS }))
    }

    fn read_fresh(&mut self) -> Option<Pick> {
        let bounds = &self.rules.bounds;
        let bytes =
            bounds.read_bytes.saturating_sub(self.fresh.iter().fold(0, |sum: usize, row| sum.saturating_add(row.size)));
        if self.at_end || self.fresh.len() >= bounds.read_rows / 2 || bytes == 0 {
            return None;
        }
        // Read a second time, rows settled and not yet written would look new; and lanes not yet marked, open.
        let again = self.cursor < self.seen && !self.ledger.is_empty();
        if again || self.lanes.dormant.any && self.ledger.has_marks() {
            return Some(Pick::Write);
        }
        let rows = bounds.read_rows - self.fresh.len();
        Some(Pick::Read(Query::Fresh { after: self.cursor, rows, bytes, lanes: self.lanes.dormant.any }))
    }
}
