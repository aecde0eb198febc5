//! What to read, send, hold and write, and how long to wait: one state machine without threads, sockets, SQL or clock.
//!
//! The thread around it asks [`Dispatcher::next`] what to do, does it, and reports what came of it; what adapter and
//! application say comes in between. Time is an argument, as a duration since the start. Everything it keeps is
//! bounded by [`Bounds`](rules::Bounds), whatever stands in the table.
//!
//! A row's way, without the detours:
//!
//! ```text
//!  table ──Read──► fresh ──Send──► flight ──settled──► ledger ──Write──► table: SENT
//!                    │               │ session ended: resend (in memory), sent again first
//!                    │               │ refused for now: waiting (no key) or its key's lane
//!                    └───────────────┴──► its lane is closed: held, in the table
//! ```

mod busy;
mod conduct;
mod dice;
mod flight;
mod found;
mod lanes;
mod ledger;
#[cfg(test)]
mod model;
mod outcome;
mod pick;
mod returned;
mod rules;
mod session;
#[cfg(test)]
mod simulation;
mod suspects;
#[cfg(test)]
mod tests;
mod topics;
mod view;
mod waiting;
mod writing;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use busy::BusyKeys;
pub(crate) use dice::Dice;
use flight::{Flight, Item};
use lanes::Lanes;
use ledger::Ledger;
use pick::Pick;
use returned::Returned;
pub(crate) use rules::Rules;
use session::Sessions;
pub(crate) use session::{Ending, Session};
use suspects::Suspects;
use topics::Topics;
use waiting::Waiting;
use writing::Written;

use crate::forwarder::Ticket;
use crate::settings::Ordering;
use crate::store::{Batch, Fate, Query, Row};

/// What the thread is to do next.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Action {
    /// Begin the session of that number.
    Connect(u64),
    /// Tell the adapter to end the session by then.
    Disconnect(Duration),
    /// Read rows, and report them with [`Dispatcher::found`] or [`Dispatcher::lanes_found`].
    Read(Query),
    /// Hand the row to the adapter.
    Send { ticket: Ticket, possible_duplicate: bool },
    /// Write, and report with [`Dispatcher::written`] or [`Dispatcher::not_written`].
    Write(Batch),
    /// Ask the adapter for a sign of life.
    Ping,
    /// Nothing before then, or before something is reported.
    Wait(Option<Duration>),
    /// It has come to its end.
    Stop,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Dispatcher {
    rules: Rules,
    dice: Dice,
    now: Duration,
    sessions: Sessions,
    topics: Topics,
    lanes: Lanes,
    suspects: Suspects,
    flight: Flight,
    ledger: Ledger,
    written: Written,

    /// New rows, read in the order of their ids up to `cursor` and not yet sent.
    fresh: VecDeque<Row>,
    cursor: i64,
    /// The highest id that was read, in whatever way.
    seen: i64,
    /// Whether there was nothing behind `cursor` when it was last looked.
    at_end: bool,
    /// Was in flight when a session ended, or came back undelivered: goes first, in the order of the ids.
    resend: BTreeMap<i64, Item>,
    /// Rows without a lane that wait for their next attempt.
    waiting: Waiting,

    /// Up to which row there may be rows in the table that were sent before, and how many sendings from the stream may
    /// still be such repetitions.
    start: (i64, usize),
    /// Keys with an unsettled message in flight, for [`Ordering::Strict`].
    busy: BusyKeys,
    /// Deliveries that came back while the session stands.
    returned: Returned,

    paused: bool,
    /// Write as soon as nothing is in flight: somebody waits for it.
    hurry: bool,
    stopping: Option<Stopping>,
    stopped: bool,
}

/// When it is to come to its end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Stopping {
    /// Acknowledgements are awaited until then.
    politely: Duration,
    /// What came is written down until then.
    until: Duration,
}

impl Dispatcher {
    /// Begins behind `position`, with `newest` the newest row there is.
    pub fn new(rules: Rules, dice: Dice, position: i64, newest: i64) -> Self {
        // Behind what was in flight, unwritten or set aside there is nothing that was sent; but with strict order rows
        // are passed over while their key is busy, and now come first.
        let passed_over = if rules.ordering == Ordering::Strict { rules.bounds.read_rows } else { 0 };
        let unsynced = usize::try_from(rules.bounds.position).unwrap_or(usize::MAX);
        let repeated = rules.window + rules.bounds.settlements + rules.bounds.suspects + unsynced + passed_over;
        Dispatcher {
            busy: BusyKeys::new(rules.ordering),
            rules,
            dice,
            now: Duration::ZERO,
            sessions: Sessions::new(),
            topics: Topics::default(),
            lanes: Lanes::new(),
            suspects: Suspects::default(),
            flight: Flight::default(),
            ledger: Ledger::default(),
            written: Written::new(position),
            fresh: VecDeque::new(),
            cursor: position,
            seen: position,
            at_end: false,
            resend: BTreeMap::new(),
            waiting: Waiting::new(),
            start: (newest, repeated),
            returned: Returned::default(),
            paused: false,
            hurry: false,
            stopping: None,
            stopped: false,
        }
    }

    /// What to do now. `now` never goes back.
    pub fn next(&mut self, now: Duration) -> Action {
        self.now = self.now.max(now);
        if self.stopped {
            return Action::Stop;
        }
        if let Some(action) = self.keep_session() {
            return action;
        }
        if let Some(batch) = self.write_due() {
            return Action::Write(batch);
        }
        if let Some(stopping) = self.stopping.filter(|_| self.is_down()) {
            // What cannot be written by then is sent once more after the next start.
            if self.is_settled() || self.now >= stopping.until {
                self.stopped = true;
                return Action::Stop;
            }
        }
        if self.sessions.limits().is_some() && self.suspects.wants_ping(self.now) {
            return Action::Ping;
        }
        if self.may_send() {
            self.wake_topics();
            match self.pick() {
                Pick::Send(ticket, possible_duplicate) => return Action::Send { ticket, possible_duplicate },
                Pick::Read(query) => return Action::Read(query),
                Pick::Write if self.ledger.may_write(self.now) => return Action::Write(self.batch()),
                Pick::Barrier if self.ledger.may_write(self.now) => return Action::Write(self.barrier()),
                Pick::Write | Pick::Barrier | Pick::Nothing => {}
            }
            // What was picked over may have filled the ledger.
            if let Some(batch) = self.write_due() {
                return Action::Write(batch);
            }
        }
        Action::Wait(self.next_time())
    }

    /// Something was committed, by anybody.
    pub fn committed(&mut self) {
        self.at_end = false;
        self.waiting.look_anew();
    }

    pub fn pause(&mut self) {
        self.paused = true;
    }

    /// Somebody says that it can be tried: also where nothing was paused.
    pub fn resume(&mut self) {
        self.paused = false;
        self.try_now();
    }

    /// Whether settlements are to be written as soon as nothing is in flight.
    pub fn hurry(&mut self, hurry: bool) {
        self.hurry = hurry;
    }

    /// Come to an end: acknowledgements are awaited until the first time, and written down until the second.
    pub fn stop(&mut self, politely: Duration, until: Duration) {
        let earlier = self.stopping.unwrap_or(Stopping { politely, until });
        self.stopping = Some(Stopping { politely: politely.min(earlier.politely), until: until.min(earlier.until) });
        self.ledger.may_write_now(self.now);
    }

    fn may_send(&self) -> bool {
        matches!(self.sessions.state, Session::Up { .. })
            && !self.paused
            && self.stopping.is_none()
            && self.ledger.len() < self.rules.bounds.settlements
            && self.now >= self.returned.rest_until()
    }

    /// The next moment at which something happens by itself.
    fn next_time(&self) -> Option<Duration> {
        let up = matches!(self.sessions.state, Session::Up { .. });
        let mut times = vec![self.ledger.due(self.rules.settle_after), self.stopping.map(|stopping| stopping.until)];
        match self.sessions.state {
            Session::Down { .. } if self.paused || self.stopping.is_some() => {}
            _ => times.push(self.sessions.deadline()),
        }
        if up {
            times.push(self.flight.deadline());
            times.push(self.topics.next_due());
            times.push(self.lanes.next_due().map(|(at, _)| at));
            times.push(self.waiting.next_due());
            times.push(self.suspects.due().filter(|_| self.flight.open() == 0 || self.suspects.len() > 0));
            times.push(self.lanes.dormant.any.then_some(self.lanes.dormant.look_at));
            times.push(self.waiting.next_look());
            times.push(Some(self.returned.rest_until()));
            times.push((self.ledger.not_before() > self.now).then_some(self.ledger.not_before()));
        }
        // A time that has passed waits for something else: for room in the window, or a word of the adapter.
        times.into_iter().flatten().filter(|at| *at > self.now).min()
    }

    fn park(&mut self, item: &Item, reason: String) {
        let fate = Fate::Failed { reason };
        self.ledger.push(self.now, item.row.id, fate, !item.fresh);
    }
}
