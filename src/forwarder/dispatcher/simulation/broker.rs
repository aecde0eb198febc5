//! The adapter and the broker behind it as one model: a line with a rate and a latency, and a broker that has moods.
//!
//! It only says what will happen and when; the schedule lets it happen.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::chance::Chance;
use super::plan::{Plan, Poison};
use super::table::Table;
use crate::broker::{Limits, Refusal, Verdict};
use crate::forwarder::dispatcher::Ending;
use crate::forwarder::{Outcome, Ticket};

/// What adapter and broker do at some time to come. The first number is the session's.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Happening {
    Up(u64, Limits),
    Alive(u64),
    /// What the forwarder asked for: a sign of life.
    Answers(u64),
    /// A message reaches the broker.
    Arrives(u64, Ticket),
    /// Its answer reaches the adapter: a verdict, or none for yes.
    Answer(u64, Ticket, Option<Verdict>),
    /// The adapter lets go of one delivery while the session stands.
    Drops(u64, Ticket),
    /// The session breaks.
    Breaks(u64, Ending),
    /// The forwarder hears that it has.
    Down(u64, Ending),
    Settled(Ticket, Outcome),
}

#[derive(Clone, Debug)]
struct Open {
    number: u64,
    up: bool,
    /// Receipts that the adapter holds, by sending, and whether the broker has taken the message.
    receipts: BTreeMap<u64, (Ticket, bool)>,
    /// When the line is free for the next byte.
    line_free: Duration,
}

#[derive(Clone)]
pub(super) struct Broker {
    open: Option<Open>,
    pub reachable: bool,
    /// Topics closed at present, by name.
    pub closed: BTreeSet<String>,
    /// Messages that end the session when they arrive.
    pub poison: BTreeSet<i64>,
    /// How often answers for a row were lost: never more than twice, or it would be poison.
    swallowed: BTreeMap<i64, u8>,
    /// What the broker has taken, ever.
    pub taken: BTreeSet<i64>,
    /// What comes of all this, to be put into the schedule.
    pub coming: Vec<(Duration, Happening)>,
}

impl Broker {
    pub fn new() -> Self {
        Broker {
            open: None,
            reachable: true,
            closed: BTreeSet::new(),
            poison: BTreeSet::new(),
            swallowed: BTreeMap::new(),
            taken: BTreeSet::new(),
            coming: Vec::new(),
        }
    }

    /// The process died: its sockets with it.
    pub fn forget_client(&mut self) {
        self.open = None;
    }

    fn later(&mut self, at: Duration, what: Happening) {
        self.coming.push((at, what));
    }

    pub fn connect(&mut self, now: Duration, number: u64, plan: &Plan, faulty: bool, c: &mut Chance) {
        self.breaks(now, Ending::Unreachable, plan, c);
        self.open = Some(Open { number, up: false, receipts: BTreeMap::new(), line_free: now });
        let at = now + plan.latency * 2;
        if !self.reachable {
            self.later(now + c.millis(0, 2_000), Happening::Breaks(number, Ending::Unreachable));
        } else if faulty && c.percent(plan.refuse_session) {
            self.later(at, Happening::Breaks(number, Ending::Refused));
        } else if faulty && c.percent(plan.silent_connect) {
            // Not a word.
        } else {
            let mut limits = Limits::UNLIMITED;
            if plan.tight_limits {
                limits = Limits { window: c.size(0, 4), bytes: c.size(1, 500) };
            }
            self.later(at, Happening::Up(number, limits));
        }
    }

    pub fn up(&mut self, now: Duration, number: u64, plan: &Plan, faulty: bool, c: &mut Chance) -> bool {
        let Some(open) = self.open.as_mut().filter(|open| open.number == number && !open.up) else { return false };
        open.up = true;
        if let Some(every) = plan.keep_alive {
            self.later(now + every, Happening::Alive(number));
        }
        if let Some((mean, exact)) = plan.flap.filter(|_| faulty) {
            let life = if exact { mean } else { c.exponential(mean) };
            self.later(now + life, Happening::Breaks(number, Ending::Unreachable));
        }
        if plan.recycle && faulty {
            self.later(now + c.millis(10, 20_000), Happening::Breaks(number, Ending::Recycled));
        }
        true
    }

    pub fn alive(&mut self, now: Duration, number: u64, plan: &Plan) -> bool {
        let stands = self.open.as_ref().is_some_and(|open| open.number == number && open.up);
        if let (true, Some(every)) = (stands, plan.keep_alive) {
            self.later(now + every, Happening::Alive(number));
        }
        stands
    }

    /// The forwarder asks for a sign of life.
    pub fn pinged(&mut self, now: Duration, latency: Duration) {
        if let Some(number) = self.open.as_ref().filter(|open| open.up).map(|open| open.number) {
            self.later(now + latency * 2, Happening::Answers(number));
        }
    }

    pub fn answers(&self, number: u64) -> bool {
        self.open.as_ref().is_some_and(|open| open.number == number && open.up)
    }

    /// The adapter takes a delivery.
    pub fn send(&mut self, now: Duration, ticket: Ticket, size: usize, plan: &Plan, faulty: bool, c: &mut Chance) {
        let Some(open) = self.open.as_mut() else {
            return self.later(now, Happening::Settled(ticket, Outcome::NotDelivered));
        };
        open.receipts.insert(ticket.sending, (ticket, false));
        let transfer = Duration::from_micros(size as u64 * 1_000_000 / plan.bytes_per_second);
        open.line_free = open.line_free.max(now) + transfer;
        let (number, at) = (open.number, open.line_free + plan.latency);
        if faulty && c.percent(plan.drop) {
            self.later(now + c.millis(0, 50), Happening::Drops(number, ticket));
        }
        self.later(at, Happening::Arrives(number, ticket));
    }

    fn holds(&mut self, number: u64, ticket: Ticket) -> Option<&mut Open> {
        self.open.as_mut().filter(|open| open.number == number && open.receipts.contains_key(&ticket.sending))
    }

    /// A message arrives, and the broker makes up its mind.
    #[allow(clippy::too_many_arguments, reason = "a message meets everything that the model has")]
    pub fn arrives(
        &mut self,
        now: Duration,
        number: u64,
        ticket: Ticket,
        table: &Table,
        plan: &Plan,
        faulty: bool,
        c: &mut Chance,
    ) {
        let row = ticket.row;
        let poison = self.poison.contains(&row);
        let closed = self.closed.contains(&*table.row(row).topic);
        let Some(open) = self.holds(number, ticket) else { return };
        let company = open.receipts.len() > 1;
        if poison {
            let after =
                if plan.poison_kills == Poison::AtOnce { Duration::ZERO } else { plan.latency + c.millis(0, 800) };
            return self.later(now + after, Happening::Breaks(number, Ending::Unreachable));
        }
        let verdict = if closed {
            Some(Verdict::Topic)
        } else if !faulty {
            None
        } else if c.percent(plan.never) {
            Some(Verdict::Never)
        } else if c.percent(plan.later) {
            Some(Verdict::Later)
        } else if c.percent(plan.alone) && company || c.percent(plan.alone_for_good) {
            Some(Verdict::Alone)
        } else {
            None
        };
        if verdict.is_none() {
            open.receipts.insert(ticket.sending, (ticket, true));
            self.taken.insert(row);
            let lost = self.swallowed.entry(row).or_default();
            if faulty && *lost < 2 && c.percent(plan.swallow) {
                *lost += 1;
                return;
            }
        }
        let at = now + plan.latency + if plan.jitter.is_zero() { Duration::ZERO } else { c.exponential(plan.jitter) };
        self.later(at, Happening::Answer(number, ticket, verdict));
    }

    /// The adapter gives back the receipt, if it still holds it.
    pub fn give_back(&mut self, number: u64, ticket: Ticket) -> bool {
        self.holds(number, ticket).is_some_and(|open| open.receipts.remove(&ticket.sending).is_some())
    }

    /// The forwarder wants the session to end.
    pub fn disconnect(&mut self, now: Duration, until: Duration, c: &mut Chance) {
        let Some(number) = self.open.as_ref().map(|open| open.number) else { return };
        let patient = c.millis(0, 300);
        let idle = self.open.as_ref().is_some_and(|open| open.receipts.is_empty());
        let at = if idle { now + patient.min(until.saturating_sub(now)) } else { until.max(now) };
        self.later(at, Happening::Breaks(number, *c.pick(&[Ending::Unreachable, Ending::Recycled])));
    }

    pub fn breaks_if(&mut self, now: Duration, number: u64, ending: Ending, plan: &Plan, c: &mut Chance) {
        if self.open.as_ref().is_some_and(|open| open.number == number) {
            self.breaks(now, ending, plan, c);
        }
    }

    /// Whatever session there is ends: receipts are dropped before the word of it or after, and some acknowledgements
    /// were already on their way.
    pub fn breaks(&mut self, now: Duration, ending: Ending, plan: &Plan, c: &mut Chance) {
        let Some(open) = self.open.take() else { return };
        let word = if c.once_in(4) { c.millis(0, 20) } else { Duration::ZERO };
        let drops_first = c.percent(50);
        if !drops_first {
            self.later(now + word, Happening::Down(open.number, ending));
        }
        for (ticket, taken) in open.receipts.into_values() {
            if taken && c.percent(plan.ack_late) {
                self.later(now + c.millis(0, 15_000), Happening::Settled(ticket, Outcome::Acknowledged));
            } else if !taken && c.percent(plan.refuse_late) {
                let verdict = *c.pick(&[Verdict::Never, Verdict::Later, Verdict::Topic, Verdict::Alone]);
                let refused = Outcome::Refused(Refusal::new(verdict, "too late"));
                self.later(now + c.millis(0, 15_000), Happening::Settled(ticket, refused));
            } else {
                let rest = if c.once_in(8) { c.millis(0, 3_000) } else { Duration::ZERO };
                self.later(now + rest, Happening::Settled(ticket, Outcome::NotDelivered));
            }
        }
        if drops_first {
            self.later(now + word, Happening::Down(open.number, ending));
        }
    }
}
