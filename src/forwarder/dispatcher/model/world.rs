//! A state of the world: the dispatcher itself, the table, the line to the broker, and how much may still go wrong; and
//! what becomes of it by an event.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::clockless::{BEGINNING, Clockless};
use super::configuration::{Configuration, Durability, UNIT};
use super::events::{Event, Refused};
use super::facts::{Fact, Kept, Promise};
use super::faults::{Fault, Faults};
use crate::broker::{Limits, Refusal};
use crate::forwarder::dispatcher::simulation::table::{Status, Stored, Table};
use crate::forwarder::dispatcher::{Action, Dice, Dispatcher, Ending, Session};
use crate::forwarder::{Outcome, Ticket};
use crate::store::{Batch, Query};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Line {
    None,
    /// A session is asked for.
    Asked(u64),
    Up(u64),
    /// It is over, and the forwarder does not know.
    Broken(u64),
    /// The forwarder wants it to end.
    Closing(u64),
}

/// A message that was handed to the adapter, which has said nothing of it yet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Flying {
    pub ticket: Ticket,
    /// Whether there will be no answer.
    pub lost: bool,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) struct World {
    pub dispatcher: Dispatcher,
    pub now: Duration,
    pub table: Table,
    pub line: Line,
    pub wire: Vec<Flying>,
    /// Sendings of sessions that are over, of which something may still be said.
    pub late: Vec<Ticket>,
    /// Whether something was committed that the forwarder has not noticed.
    pub unnoticed: bool,
    pub facts: Vec<Fact>,
    pub faults: Faults,
    pub broken: Option<Box<(Promise, String)>>,
}

impl Hash for World {
    fn hash<H: Hasher>(&self, into: &mut H) {
        self.hash_future(into);
        self.late.hash(into);
        self.facts.hash(into);
        self.faults.hash(into);
        self.broken.is_some().hash(into);
    }
}

impl World {
    pub fn begin(configuration: &Configuration) -> Self {
        let mut world = World {
            dispatcher: Dispatcher::new(configuration.rules.clone(), Dice::none(), 0, 0),
            now: BEGINNING,
            table: Table::default(),
            line: Line::None,
            wire: Vec::new(),
            late: Vec::new(),
            unnoticed: false,
            facts: Vec::new(),
            faults: configuration.faults,
            broken: None,
        };
        (0..configuration.committed).for_each(|_| world.commit(configuration));
        world.be_born(configuration);
        world
    }

    /// All that decides how it goes on when nothing more goes wrong.
    pub fn hash_future<H: Hasher>(&self, into: &mut H) {
        let settle_after = self.dispatcher.rules.settle_after;
        let mut clockless = match self.dispatcher.suspects.len() {
            0 => Clockless::new(into, self.now, settle_after),
            _ => Clockless::with_suspects(into, self.now),
        };
        self.dispatcher.hash(&mut clockless);
        self.table.hash(into);
        self.line.hash(into);
        self.wire.hash(into);
        self.unnoticed.hash(into);
    }

    pub fn is_settled(&self) -> bool {
        self.wire.is_empty() && !self.unnoticed && self.table.rows().all(|(_, row)| !row.is_pending())
    }

    /// The world after it; none if it cannot happen.
    pub fn after(&self, event: Event, configuration: &Configuration) -> Option<World> {
        let mut world = self.clone();
        match event {
            Event::Step => return self.step(world, configuration),
            Event::WriteFails { busy, committed } => return world.fail_to_write(busy, committed).then_some(world),
            _ => {}
        }
        world.dispatcher.advance(world.now);
        world.happens(event, configuration);
        world.keep(Self::check_bounds);
        if !world.faults.left(Fault::LateAnswer) && !world.faults.left(Fault::LateRefusal) {
            world.late.clear();
        }
        Some(world)
    }

    pub fn keeps(&self, promise: Promise) -> bool {
        self.broken.as_ref().is_none_or(|broken| broken.0 != promise)
    }

    fn keep(&mut self, check: impl FnOnce(&Self) -> Kept) {
        if let Err(why) = check(self) {
            self.broken.get_or_insert(Box::new(why));
        }
    }

    fn happens(&mut self, event: Event, configuration: &Configuration) {
        match event {
            Event::Step | Event::WriteFails { .. } => {}
            Event::Commit => {
                self.commit(configuration);
                self.unnoticed = true;
            }
            Event::Notice => {
                self.unnoticed = false;
                self.dispatcher.committed();
            }
            Event::Up => {
                if let Line::Asked(number) = self.line {
                    self.line = Line::Up(number);
                    self.dispatcher.up(number, Limits::UNLIMITED);
                }
            }
            Event::NoSession(why) => {
                self.faults.spend(Fault::NoSession);
                let by_the_broker = why == Refused::ByTheBroker;
                self.hear_down(if by_the_broker { Ending::Refused } else { Ending::Unreachable });
            }
            Event::Acknowledge(index) => {
                if matches!(self.line, Line::Broken(_)) {
                    self.faults.spend(Fault::LateAnswer);
                }
                self.answer(index, Outcome::Acknowledged);
            }
            Event::LoseAnswer(index) => {
                self.faults.spend(Fault::LoseAnswer);
                self.wire[index].lost = true;
                self.may_be_taken(self.wire[index].ticket.row);
            }
            Event::Refuse(index, verdict) => {
                self.faults.spend(Fault::refusal(verdict));
                self.answer(index, Outcome::Refused(Refusal::new(verdict, "no")));
            }
            Event::Drop(index) => {
                if !matches!(self.line, Line::Broken(_)) {
                    self.faults.spend(Fault::Drop);
                }
                self.answer(index, Outcome::NotDelivered);
            }
            Event::Cut => {
                self.faults.spend(Fault::Cut);
                if let Line::Up(number) = self.line {
                    self.line = Line::Broken(number);
                }
            }
            Event::HearDown => self.hear_down(Ending::Unreachable),
            Event::AcknowledgeLate(index) => {
                self.faults.spend(Fault::LateAnswer);
                self.answer_late(index, Outcome::Acknowledged);
            }
            Event::RefuseLate(index, verdict) => {
                self.faults.spend(Fault::LateRefusal);
                self.answer_late(index, Outcome::Refused(Refusal::new(verdict, "too late")));
            }
            Event::Stop => {
                self.faults.spend(Fault::Stop);
                let now = self.now;
                self.dispatcher.stop(now + UNIT, now + 2 * UNIT);
            }
            Event::Crash => {
                self.faults.spend(Fault::Crash);
                self.be_born(configuration);
            }
            Event::PowerCut => {
                self.faults.spend(Fault::PowerCut);
                self.table.power_cut();
                self.power_is_cut();
                self.be_born(configuration);
            }
        }
    }

    fn answer(&mut self, index: usize, outcome: Outcome) {
        let ticket = self.wire.remove(index).ticket;
        self.said(ticket, &outcome, true);
        self.dispatcher.settled(ticket, outcome);
    }

    fn answer_late(&mut self, index: usize, outcome: Outcome) {
        let ticket = self.late.remove(index);
        self.said(ticket, &outcome, false);
        self.dispatcher.settled(ticket, outcome);
    }

    fn hear_down(&mut self, ending: Ending) {
        if let Line::Asked(number) | Line::Up(number) | Line::Broken(number) | Line::Closing(number) = self.line {
            self.hang_up();
            self.dispatcher.down(number, ending);
        }
    }

    /// There is no session any more.
    fn hang_up(&mut self) {
        self.line = Line::None;
        for flying in std::mem::take(&mut self.wire) {
            self.may_be_taken(flying.ticket.row);
            self.late.push(flying.ticket);
        }
    }

    fn step(&self, mut world: World, configuration: &Configuration) -> Option<World> {
        match world.dispatcher.next(world.now) {
            // It may have thought about something before it decided to wait.
            Action::Wait(_) if world.dispatcher != self.dispatcher => {}
            Action::Wait(until) => return world.wait(until?),
            Action::Connect(number) => {
                world.hang_up();
                world.line = Line::Asked(number);
            }
            Action::Disconnect(_) => match (world.dispatcher.session(), world.line) {
                (Session::Down { .. }, _) => world.hang_up(),
                (_, Line::Asked(number) | Line::Up(number)) => world.line = Line::Closing(number),
                _ => {}
            },
            Action::Read(query) => world.read(&query),
            Action::Send { ticket, possible_duplicate } => world.send(ticket, possible_duplicate),
            Action::Write(batch) => world.write(&batch),
            Action::Ping => {
                let number = world.dispatcher.session_number();
                world.dispatcher.alive(number);
            }
            Action::Stop => {
                if !configuration.disk_fails() {
                    world.keep(Self::check_stopped);
                }
                world.be_born(configuration);
            }
        }
        world.keep(Self::check_bounds);
        Some(world)
    }

    /// Time goes on to the moment that the dispatcher waits for. Beyond the time that others have, only as a fault.
    fn wait(mut self, until: Duration) -> Option<World> {
        let silent = match self.line {
            Line::Asked(_) => self.dispatcher.sessions.deadline(),
            Line::Broken(_) => self.dispatcher.flight.deadline(),
            Line::Up(_) if self.answerable().next().is_some() => self.dispatcher.flight.deadline(),
            Line::None | Line::Up(_) | Line::Closing(_) => None,
        };
        if silent.is_some_and(|deadline| until >= deadline) && !self.faults.spend(Fault::Silence) {
            return None;
        }
        if until <= self.now {
            self.broken = Some(Box::new((Promise::Settles, "it waits for a time that has come".to_owned())));
        }
        self.now = until;
        self.dispatcher.advance(until);
        Some(self)
    }

    fn read(&mut self, query: &Query) {
        if let Query::Lanes { after, rows } = query {
            let lanes = self.table.find_lanes(after.as_ref(), *rows);
            self.dispatcher.lanes_found(query, lanes);
        } else {
            let (newest, rows) = (self.table.newest(), self.table.find(query));
            self.dispatcher.found(query, rows, newest);
        }
    }

    fn send(&mut self, ticket: Ticket, marked: bool) {
        if !self.table.row(ticket.row).is_pending() {
            return self.dispatcher.vanished(ticket);
        }
        if let Err(why) = self.check_sending(ticket, marked) {
            self.broken.get_or_insert(Box::new(why));
        }
        let lost = matches!(self.line, Line::Broken(_));
        self.wire.push(Flying { ticket, lost });
    }

    fn write(&mut self, batch: &Batch) {
        self.keep(|world| world.check_batch(batch));
        self.table.settle(batch);
        self.words_are_written(batch);
        self.dispatcher.written(batch);
        self.keep(Self::check_position);
    }

    fn fail_to_write(&mut self, busy: bool, committed: bool) -> bool {
        let Action::Write(batch) = self.dispatcher.next(self.now) else { return false };
        self.faults.spend(Fault::Write);
        self.keep(|world| world.check_batch(&batch));
        if committed {
            self.table.settle(&batch);
        }
        self.dispatcher.not_written(batch, busy);
        self.keep(Self::check_position);
        self.keep(Self::check_bounds);
        true
    }

    fn commit(&mut self, configuration: &Configuration) {
        let row = &configuration.rows[self.table.newest() as usize];
        let stored = Stored {
            topic: row.topic.clone(),
            key: row.key.clone(),
            size: 0,
            status: Status::Pending,
            attempts: 0,
            wait: Duration::ZERO,
            held_by: None,
            synced: row.durability == Durability::Synced,
        };
        self.table.commit(vec![stored], row.durability != Durability::Unsynced);
        self.facts.push(Fact::default());
    }

    /// A new process over the table as it stands.
    fn be_born(&mut self, configuration: &Configuration) {
        self.hang_up();
        self.late.clear();
        self.forget_words();
        self.unnoticed = false;
        let (position, newest) = (self.table.position(), self.table.newest());
        self.dispatcher = Dispatcher::new(configuration.rules.clone(), Dice::none(), position, newest);
        self.dispatcher.advance(self.now);
    }
}

/// Names of topics and keys, one of each for all the worlds of a configuration.
pub(super) fn name(name: &str) -> Arc<str> {
    name.into()
}
