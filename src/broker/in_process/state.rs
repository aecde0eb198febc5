//! What the broker knows, behind one mutex: sessions, who subscribes, what is in flight, what is due.
//!
//! No thread, no clock: `now` is an argument. Settling under the lock is sound, since a receipt and a link only put a
//! word into the forwarder's mailbox; code of the user's is never called from here.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar};
use std::time::Instant;

use super::faults::{Faults, Meeting};
use super::{Builder, Counts, Seen, Unsubscribed};
use crate::broker::{Cause, Delivery, Down, Limits, Link, Receipt, Refusal, Verdict, Waker};
use crate::message::{Message, MessageId};
use crate::topic_filter::TopicFilter;

/// Names one delivery to a session, in the order of arrival, never used twice. What has been settled or let go is no
/// longer in its session, so a late word about it finds nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place {
    pub handle: u64,
    pub number: u64,
}

/// What a subscriber is given.
pub(super) struct Letter {
    pub place: Place,
    pub id: MessageId,
    pub possible_duplicate: bool,
    pub message: Arc<Message>,
}

pub(super) struct State {
    pub faults: Faults,
    pub counts: Counts,
    limits: Limits,
    unsubscribed: Unsubscribed,
    record: usize,
    seen: VecDeque<Seen>,
    /// By the handle that the outbox was given: one session each.
    sessions: BTreeMap<u64, Session>,
    /// By handle: who is to be woken once somebody subscribes.
    wanting: BTreeMap<u64, Waker>,
    subscriptions: BTreeMap<u64, Subscription>,
    due: BTreeMap<(Instant, u64), Due>,
    handles: usize,
    /// Whether the thread that keeps time runs.
    pub timer: bool,
    next: u64,
}

struct Session {
    link: Link,
    in_flight: BTreeMap<u64, InFlight>,
    bytes: usize,
    /// Told to end; what is in flight may still be settled.
    closing: bool,
}

struct InFlight {
    letter: Letter,
    receipt: Receipt,
    /// Subscribers that have not acknowledged it yet.
    missing: usize,
    /// The session ends once so many younger messages were acknowledged.
    hang_up: Option<usize>,
}

struct Subscription {
    filter: TopicFilter,
    /// Bounded by the windows of the sessions: what leaves a session leaves here.
    queue: VecDeque<Place>,
    ready: Arc<Condvar>,
}

enum Due {
    Acknowledge(Place),
    End(u64),
}

impl Due {
    fn handle(&self) -> u64 {
        match self {
            Due::Acknowledge(place) => place.handle,
            Due::End(handle) => *handle,
        }
    }
}

impl State {
    pub fn new(builder: &Builder) -> Self {
        State {
            faults: Faults::default(),
            counts: Counts::default(),
            // Nothing would ever move in a window of 0.
            limits: Limits { window: builder.limits.window.max(1), bytes: builder.limits.bytes.max(1) },
            unsubscribed: builder.unsubscribed,
            record: builder.record,
            seen: VecDeque::new(),
            sessions: BTreeMap::new(),
            wanting: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            due: BTreeMap::new(),
            handles: 0,
            timer: false,
            next: 0,
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.iter().cloned().collect()
    }
}

/// Handles and their sessions.
impl State {
    pub fn enter(&mut self) -> u64 {
        self.handles += 1;
        self.number()
    }

    pub fn leave(&mut self, handle: u64) {
        self.end(handle, None);
        self.wanting.remove(&handle);
        self.handles -= 1;
        if self.handles == 0 {
            for subscription in self.subscriptions.values() {
                subscription.ready.notify_all();
            }
        }
    }

    /// Whether anybody is left who could send, or ask.
    pub fn in_use(&self) -> bool {
        self.handles > 0
    }

    pub fn connect(&mut self, handle: u64, link: Link) {
        self.end(handle, None);
        self.counts.connects += 1;
        if let Some(why) = self.faults.against_sessions() {
            return link.down(why);
        }
        self.counts.sessions += 1;
        link.up(self.limits);
        self.sessions.insert(handle, Session { link, in_flight: BTreeMap::new(), bytes: 0, closing: false });
    }

    pub fn ping(&self, handle: u64) {
        if let Some(session) = self.sessions.get(&handle) {
            session.link.alive();
        }
    }

    pub fn disconnect(&mut self, handle: u64, until: Instant, now: Instant) {
        let Some(session) = self.sessions.get_mut(&handle) else { return };
        if session.in_flight.is_empty() || until <= now {
            return self.end(handle, None);
        }
        session.closing = true;
        self.schedule(until, Due::End(handle));
    }

    /// Ends every session as a cut would.
    pub fn cut(&mut self, why: &str) {
        let handles: Vec<u64> = self.sessions.keys().copied().collect();
        for handle in handles {
            self.end(handle, Some(Down::Unreachable(Cause::from(why))));
        }
    }

    fn end(&mut self, handle: u64, why: Option<Down>) {
        let Some(session) = self.sessions.remove(&handle) else { return };
        // The end first, what it takes with it after: so the forwarder sees what was in flight when it came.
        if let Some(why) = why {
            session.link.down(why);
        }
        self.counts.in_flight -= session.in_flight.len();
        self.due.retain(|_, due| due.handle() != handle);
        for subscription in self.subscriptions.values_mut() {
            subscription.queue.retain(|place| place.handle != handle);
        }
        drop(session.in_flight);
    }
}

/// Messages on their way in.
impl State {
    pub fn send(&mut self, handle: u64, queue: &mut VecDeque<Delivery>, now: Instant) {
        while let Some(delivery) = queue.front() {
            if !self.has_room(handle, delivery.message.size()) {
                return;
            }
            if let Some(delivery) = queue.pop_front() {
                self.receive(handle, delivery, now);
            }
        }
    }

    fn has_room(&self, handle: u64, size: usize) -> bool {
        let Some(session) = self.sessions.get(&handle).filter(|session| !session.closing) else { return false };
        let fits = session.bytes.checked_add(size).is_some_and(|bytes| bytes <= self.limits.bytes);
        session.in_flight.is_empty() || (session.in_flight.len() < self.limits.window && fits)
    }

    fn receive(&mut self, handle: u64, delivery: Delivery, now: Instant) {
        let Delivery { id, possible_duplicate, message, receipt } = delivery;
        self.counts.received += 1;
        self.note(id, possible_duplicate, &message);
        let mut hang_up = None;
        match self.faults.meet(&message.topic) {
            Meeting::Welcome => {}
            Meeting::Refused(refusal) => return self.reject(receipt, refusal),
            Meeting::HangUp(younger) => hang_up = Some(younger),
        }
        let mut takers: Vec<u64> = Vec::new();
        if hang_up.is_none() {
            let matching = self.subscriptions.iter().filter(|(_, s)| s.filter.matches(&message.topic));
            takers.extend(matching.map(|(number, _)| *number));
            if takers.is_empty() && self.unsubscribed == Unsubscribed::Wait {
                let reason = format!("nobody subscribes to {:?} yet", message.topic);
                if let Some(session) = self.sessions.get(&handle) {
                    self.wanting.insert(handle, session.link.waker());
                }
                return self.reject(receipt, Refusal::new(Verdict::Topic, reason));
            }
        }
        let place = Place { handle, number: self.number() };
        let Some(session) = self.sessions.get_mut(&handle) else { return };
        session.bytes = session.bytes.saturating_add(message.size());
        let letter = Letter { place, id, possible_duplicate, message: Arc::new(message) };
        session.in_flight.insert(place.number, InFlight { letter, receipt, missing: takers.len(), hang_up });
        self.counts.in_flight += 1;
        if hang_up == Some(0) {
            return self.end(handle, Some(hung_up()));
        }
        if takers.is_empty() && hang_up.is_none() {
            return self.answer(place, now);
        }
        for number in takers {
            if let Some(subscription) = self.subscriptions.get_mut(&number) {
                subscription.queue.push_back(place);
                subscription.ready.notify_one();
            }
        }
    }

    fn note(&mut self, id: MessageId, possible_duplicate: bool, message: &Message) {
        if self.record == 0 {
            return;
        }
        if self.seen.len() == self.record {
            self.seen.pop_front();
        }
        self.seen.push_back(Seen { id, possible_duplicate, message: message.clone() });
    }

    fn reject(&mut self, receipt: Receipt, refusal: Refusal) {
        self.counts.refused += 1;
        receipt.reject(refusal);
    }
}

/// Subscribers and their answers.
impl State {
    pub fn subscribe(&mut self, filter: TopicFilter, ready: Arc<Condvar>) -> u64 {
        let number = self.number();
        self.subscriptions.insert(number, Subscription { filter, queue: VecDeque::new(), ready });
        self.counts.subscribers += 1;
        for waker in std::mem::take(&mut self.wanting).into_values() {
            waker.wake();
        }
        number
    }

    pub fn unsubscribe(&mut self, number: u64) {
        let Some(subscription) = self.subscriptions.remove(&number) else { return };
        self.counts.subscribers -= 1;
        for place in subscription.queue {
            self.let_go(place);
        }
    }

    /// The next message for a subscriber.
    pub fn next_for(&mut self, number: u64) -> Option<Letter> {
        let place = self.subscriptions.get_mut(&number)?.queue.pop_front()?;
        let letter = &self.sessions.get(&place.handle)?.in_flight.get(&place.number)?.letter;
        Some(Letter { message: Arc::clone(&letter.message), ..*letter })
    }

    pub fn acknowledged(&mut self, place: Place, now: Instant) {
        let Some(delivery) = self.in_flight(place) else { return };
        delivery.missing = delivery.missing.saturating_sub(1);
        if delivery.missing == 0 {
            self.answer(place, now);
        }
    }

    pub fn rejected(&mut self, place: Place, refusal: Refusal) {
        if let Some(delivery) = self.take(place) {
            self.reject(delivery.receipt, refusal);
            self.end_if_done(place.handle);
        }
    }

    /// Not delivered: the receipt's own drop says so.
    pub fn let_go(&mut self, place: Place) {
        if self.take(place).is_some() {
            self.end_if_done(place.handle);
        }
    }

    fn in_flight(&mut self, place: Place) -> Option<&mut InFlight> {
        self.sessions.get_mut(&place.handle)?.in_flight.get_mut(&place.number)
    }

    /// Out of the session, and out of the queues of those who have not looked at it yet.
    fn take(&mut self, place: Place) -> Option<InFlight> {
        let session = self.sessions.get_mut(&place.handle)?;
        let delivery = session.in_flight.remove(&place.number)?;
        session.bytes = session.bytes.saturating_sub(delivery.letter.message.size());
        self.counts.in_flight -= 1;
        if delivery.missing > 0 {
            for subscription in self.subscriptions.values_mut() {
                subscription.queue.retain(|other| *other != place);
            }
        }
        Some(delivery)
    }

    /// Everybody has it: now, later or never the forwarder hears so.
    fn answer(&mut self, place: Place, now: Instant) {
        if self.faults.lose > 0 {
            self.faults.lose -= 1;
        } else if self.faults.delay.is_zero() {
            self.settle(place);
        } else {
            // Not a time at all if it is too far away: an answer lost.
            if let Some(at) = now.checked_add(self.faults.delay) {
                self.schedule(at, Due::Acknowledge(place));
            }
        }
    }

    fn settle(&mut self, place: Place) {
        let Some(delivery) = self.take(place) else { return };
        delivery.receipt.acknowledge();
        self.counts.acknowledged += 1;
        let Some(session) = self.sessions.get_mut(&place.handle) else { return };
        let mut over = false;
        for (_, older) in session.in_flight.range_mut(..place.number) {
            if let Some(left) = &mut older.hang_up {
                *left = left.saturating_sub(1);
                over |= *left == 0;
            }
        }
        if over {
            self.end(place.handle, Some(hung_up()));
        } else {
            self.end_if_done(place.handle);
        }
    }

    fn end_if_done(&mut self, handle: u64) {
        if self.sessions.get(&handle).is_some_and(|session| session.closing && session.in_flight.is_empty()) {
            self.end(handle, None);
        }
    }
}

/// What is due later.
impl State {
    fn schedule(&mut self, at: Instant, due: Due) {
        let number = self.number();
        self.due.insert((at, number), due);
    }

    pub fn next_due(&self) -> Option<Instant> {
        self.due.keys().next().map(|(at, _)| *at)
    }

    /// Does what is due by `now`; by no time at all: everything.
    pub fn ring(&mut self, now: Option<Instant>) {
        while let Some(entry) = self.due.first_entry() {
            if now.is_some_and(|now| entry.key().0 > now) {
                return;
            }
            match entry.remove() {
                Due::Acknowledge(place) => self.settle(place),
                Due::End(handle) => self.end(handle, None),
            }
        }
    }
}

fn hung_up() -> Down {
    Down::Unreachable(Cause::from("the in-process broker hung up"))
}
