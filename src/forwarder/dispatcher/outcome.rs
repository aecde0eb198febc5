//! What follows from an adapter's word about one message.

use super::flight::Item;
use super::lanes::Phase;
use super::{Dispatcher, topics};
use crate::broker::{MAX_REASON, Refusal, Verdict};
use crate::forwarder::{Outcome, Ticket};
use crate::settings::ClosedTopics;
use crate::store::{Fate, Lane};

impl Dispatcher {
    /// The adapter settled a delivery, or let go of it. A late word about an earlier sending can still acknowledge, and
    /// nothing else.
    pub fn settled(&mut self, ticket: Ticket, outcome: Outcome) {
        let sent = self.flight.sent(ticket);
        match (self.flight.settle(ticket), outcome) {
            (Some(item), Outcome::Acknowledged) => {
                self.answered(&item);
                self.sent(item);
            }
            // nobody has answered anything: the rest is as if somebody had
            (Some(item), Outcome::HandedOver) => self.sent(item),
            (Some(item), Outcome::Refused(refusal)) => {
                self.answered(&item);
                self.refused(item, refusal);
            }
            (Some(item), Outcome::Withheld(refusal)) => self.refused(item, refusal),
            (Some(item), Outcome::NotDelivered) => {
                self.returned.came_back(self.now, ticket.sending, ticket.row, sent.unwrap_or(self.now));
                self.not_delivered(item);
            }
            (None, Outcome::Acknowledged | Outcome::HandedOver) => self.acknowledged_late(ticket.row),
            (None, _) => {}
        }
    }

    /// The row is not there any more, or no longer pending: somebody else dealt with it.
    pub fn vanished(&mut self, ticket: Ticket) {
        if let Some(item) = self.flight.settle(ticket) {
            self.let_go(&item);
            self.topics.probe_over(&item.row.topic, item.row.id);
            self.lane_goes_on(&item);
        }
    }

    /// The other side said something about this message: it lives.
    fn answered(&mut self, item: &Item) {
        self.sessions.proven();
        self.suspects.answered(self.now, item.row.id);
    }

    /// The message in flight is settled one way or the other: nothing waits for it any more.
    fn let_go(&mut self, item: &Item) {
        self.suspects.forget(self.now, item.row.id);
        self.busy.release(&item.row);
    }

    fn sent(&mut self, item: Item) {
        self.let_go(&item);
        self.returned.settled();
        self.topics.sent();
        self.ledger.push(self.now, item.row.id, Fate::Sent, !item.fresh);
        self.open_topic(&item.row.topic);
        self.lane_goes_on(&item);
    }

    /// An acknowledgement of an earlier sending: the broker has the message, wherever the row waits now.
    fn acknowledged_late(&mut self, id: i64) {
        let in_flight = self.flight.remove(id);
        let resend = self.resend.remove(&id);
        let aside = self.suspects.forget(self.now, id);
        let fresh = match (&in_flight, &aside, &resend) {
            (Some(item), ..) | (_, Some(item), _) => {
                self.busy.release(&item.row);
                item.fresh
            }
            (.., Some(item)) => item.fresh,
            _ => false,
        };
        self.waiting.remove(id);
        self.topics.sent();
        self.ledger.push(self.now, id, Fate::Sent, !fresh);
        if let Some(item) = in_flight.or(resend).or(aside) {
            self.open_topic(&item.row.topic);
            self.lane_goes_on(&item);
        }
    }

    fn not_delivered(&mut self, mut item: Item) {
        self.topics.probe_over(&item.row.topic, item.row.id);
        if self.suspects.contains(item.row.id) {
            // Set aside again; its turn comes with the next control.
            self.suspects.put_off(self.now);
        } else {
            item.sent_before = true;
            self.busy.release(&item.row);
            self.resend.insert(item.row.id, item);
        }
    }

    fn refused(&mut self, mut item: Item, refusal: Refusal) {
        let was_alone = item.alone;
        self.let_go(&item);
        self.returned.settled();
        let reason = cut(refusal.reason);
        match refusal.verdict {
            Verdict::Alone if !was_alone => {
                item.alone = true;
                self.topics.probe_over(&item.row.topic, item.row.id);
                self.resend.insert(item.row.id, item);
                return;
            }
            Verdict::Topic if self.rules.closed_topics == ClosedTopics::Hold => {
                return self.topic_refused(&item, reason);
            }
            Verdict::Later if item.row.attempts.saturating_add(1) < self.rules.max_attempts => {
                self.topics.probe_over(&item.row.topic, item.row.id);
                self.refused_for_now(&item, reason);
                // With a key its lane waits now; a topic's lane has lost its probe, and the next of its rows may try.
                return self.lane_goes_on(&item);
            }
            Verdict::Never | Verdict::Alone | Verdict::Topic | Verdict::Later => self.park(&item, reason),
        }
        self.topics.probe_over(&item.row.topic, item.row.id);
        self.lane_goes_on(&item);
    }

    /// One attempt is spent. With a key the whole lane of the key waits.
    fn refused_for_now(&mut self, item: &Item, reason: String) {
        let mut row = item.row.clone();
        row.attempts = row.attempts.saturating_add(1);
        row.wait = self.dice.backoff(self.rules.retry, row.attempts);
        let due = self.now + row.wait;
        let lane = row.key.clone().map(Lane::Key);
        let fate = Fate::Waiting { wait: row.wait, reason, lane: lane.clone() };
        self.ledger.push(self.now, row.id, fate, !item.fresh);
        if let Some(lane) = lane {
            self.close_lane(&lane, row.id, Phase::Waiting(due));
        } else if self.waiting.len() < self.rules.bounds.waiting {
            self.waiting.insert(row, due);
        } else {
            self.waiting.look_anew();
        }
    }

    /// Nothing is spent: the topic is shut for a while, and the message waits in the lane of its key or its topic.
    fn topic_refused(&mut self, item: &Item, reason: String) {
        self.may_be_repeated(item);
        let until = self.now + self.dice.slow(self.rules.reconnect);
        if let Some(forgotten) = self.topics.close(self.now, &item.row.topic, reason, until) {
            self.free_lanes_of(&forgotten);
        }
        let lane = item.row.key.clone().map_or_else(|| Lane::Topic(item.row.topic.clone()), Lane::Key);
        self.ledger.push(self.now, item.row.id, Fate::Held { lane: lane.clone() }, !item.fresh);
        self.close_lane(&lane, item.row.id, Phase::Blocked(item.row.topic.clone()));
        self.lane_goes_on(item);
    }

    /// Closes a lane since `row` must wait, or keeps it closed for the reason it has.
    pub(super) fn close_lane(&mut self, lane: &Lane, row: i64, phase: Phase) {
        match self.lanes.get(lane).map(|state| &state.phase) {
            // It waits already: the first of its rows decides when it is tried.
            Some(Phase::Waiting(_) | Phase::Blocked(_)) => {}
            // Its probe is on its way, or comes first: that one decides.
            Some(Phase::Probing(Some(probe))) if *probe != row => self.lanes.read_anew(lane),
            Some(_) => self.lanes.set(lane, phase),
            None => {
                if self.lanes.make_room(self.rules.bounds.lanes) {
                    self.read_again_from_table();
                }
                self.lanes.set(lane, phase);
            }
        }
    }

    /// The lane whose probe this was is emptied from now on. Not looked up by the row's key and topic: anybody may have
    /// edited them since it was marked, or have put the row into a lane of others.
    pub(super) fn lane_goes_on(&mut self, item: &Item) {
        for lane in self.lanes.probed_by(item.row.id) {
            self.lanes.set(&lane, Phase::Draining);
        }
    }

    fn open_topic(&mut self, topic: &std::sync::Arc<str>) {
        if self.topics.open(topic) {
            self.free_lanes_of(topic);
            self.lanes.dormant.look_at = self.now;
        }
    }

    pub(super) fn free_lanes_of(&mut self, topic: &std::sync::Arc<str>) {
        for lane in self.lanes.all_blocked_on(topic) {
            self.lanes.set(&lane, Phase::Waiting(self.now));
        }
    }

    /// Lets a topic whose time has come be tried again.
    pub(super) fn wake_topics(&mut self) {
        if self.topics.is_empty() {
            return;
        }
        let wait = self.dice.slow(self.rules.reconnect);
        while let Some(topic) = self.topics.take_due(self.now, wait) {
            if self.topics.door(&topic) != topics::Door::Ajar {
                continue; // its probe is still in flight
            }
            match self.lanes.blocked_on(&topic) {
                Some(lane) => self.lanes.set(&lane, Phase::Waiting(self.now)),
                None if self.lanes.dormant.any => self.lanes.dormant.look_at = self.now,
                None => {
                    self.topics.open(&topic);
                }
            }
        }
    }
}

/// At most [`MAX_REASON`] bytes of it.
fn cut(mut reason: String) -> String {
    let end = (0..=reason.len().min(MAX_REASON)).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
    reason.truncate(end);
    reason
}
