//! Carries out what the dispatcher says, for as long as this forwarder is the active one.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;

use super::deliveries::Deliveries;
use super::dispatcher::{Action, Dice, Dispatcher, Ending, Rules, Session};
use super::flushes::Flushes;
use super::health::{Health, Work};
use super::outage::{self, Outage};
use super::settling::Settling;
use super::shared::Progress;
use super::watch::Watch;
use super::{Command, Event, Parts, Ticket};
use crate::Error;
use crate::broker::{Down, Link};
use crate::error::chain;
use crate::status::{ClosedTopic, Role};
use crate::store::{Batch, Query};

/// Deliveries that are handed to the adapter together.
const HAND_OVER: usize = 64;
/// How often an adapter is asked again that did not take everything.
const LEFT_OVER: Duration = Duration::from_millis(20);

pub(crate) struct Run<'p> {
    parts: &'p mut Parts,
    dispatcher: Dispatcher,
    begun: Instant,
    events: Vec<Event>,
    deliveries: Deliveries,
    /// Callers that wait until everything up to a row is settled.
    flushes: Flushes,
    watch: Watch,
    outage: Outage,
    settling: Settling,
    health: Health,
}

impl<'p> Run<'p> {
    /// # Errors
    /// What SQLite answers when asked for the position.
    pub fn new(parts: &'p mut Parts, paused: bool) -> Result<Self, Error> {
        let (position, newest) = parts.store.begin()?;
        if let Err(error) = parts.store.check_aside() {
            log::debug!("the counters of waiting messages stay as they are: {}", chain(&error));
        }
        let seed = RandomState::new().hash_one(newest);
        let mut dispatcher = Dispatcher::new(Rules::from(&parts.settings), Dice::seeded(seed), position, newest);
        if paused {
            dispatcher.pause();
        }
        let now = Instant::now();
        log::info!("forwarding from row {position} of {newest}");
        Ok(Run {
            dispatcher,
            begun: now,
            events: Vec::new(),
            deliveries: Deliveries::new(parts.settings.max_payload, parts.shared.mailbox.clone()),
            flushes: Flushes::default(),
            watch: Watch::new(now),
            outage: Outage::new(now),
            settling: Settling::new(),
            health: Health::new(parts.disk.clone()),
            parts,
        })
    }

    /// Until it is told to stop, or can go on no more. `flushes`: callers that wait already.
    pub fn run(mut self, flushes: Flushes) {
        self.flushes = flushes;
        self.settling.park_misplaced(self.parts, &mut self.health);
        let mut sending = 0;
        loop {
            if sending == 0 {
                self.receive();
                self.watch.look(self.parts, &mut self.health, &mut self.dispatcher);
                if self.watch.log_is_saved() {
                    self.parts.broker.disconnect(Instant::now());
                    break;
                }
            }
            match self.dispatcher.next(self.begun.elapsed()) {
                Action::Send { ticket, possible_duplicate } => {
                    self.prepare(ticket, possible_duplicate);
                    sending = (sending + 1) % HAND_OVER;
                    if sending != 0 {
                        continue;
                    }
                    self.hand_over();
                }
                action => {
                    sending = 0;
                    self.hand_over();
                    match action {
                        Action::Connect(session) => self.connect(session),
                        Action::Disconnect(until) => {
                            self.deliveries.drop_left_over();
                            self.parts.broker.disconnect(self.begun + until);
                            if matches!(self.dispatcher.session(), Session::Down { .. }) {
                                self.outage.lost(Ending::Unreachable, "nothing was answered in time".to_owned());
                            }
                        }
                        Action::Read(query) => self.read(&query),
                        Action::Write(batch) => self.write(batch),
                        Action::Ping => self.parts.broker.ping(),
                        Action::Wait(until) => self.wait(until.map(|until| self.begun + until)),
                        Action::Send { .. } => {}
                        Action::Stop => break,
                    }
                }
            }
        }
        self.watch.end(&self.parts.store, &mut self.health);
        if self.dispatcher.owes_settlements() {
            log::warn!("not all acknowledgements could be written down: the next start sends those messages again");
        }
        self.publish(Role::Stopped);
    }

    /// Passes on what adapter and application said.
    fn receive(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        self.parts.shared.mailbox.take(&mut events);
        if !events.is_empty() {
            // Time goes by between the last step and a word: the dispatcher counts from when it is told.
            self.dispatcher.advance(self.begun.elapsed());
        }
        for event in events.drain(..) {
            match event {
                Event::Settled(ticket, outcome) => self.dispatcher.settled(ticket, outcome),
                Event::Up(session, limits) => {
                    log::info!("session {session} is up");
                    self.outage.over();
                    self.dispatcher.up(session, limits);
                }
                Event::Alive(session) => self.dispatcher.alive(session),
                Event::Down(session, why) => self.down(session, why),
                Event::TryNow => self.dispatcher.try_now(),
                Event::Command(command) => self.obey(command),
            }
        }
        self.events = events;
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Pause => self.dispatcher.pause(),
            Command::Resume => self.dispatcher.resume(),
            Command::Stop { politely, until } => {
                let since_begun = |at: Instant| at.saturating_duration_since(self.begun);
                self.dispatcher.stop(since_begun(politely), since_begun(until));
            }
            Command::Flush(flush) => match self.parts.store.newest() {
                Ok(newest) => {
                    self.dispatcher.committed();
                    self.dispatcher.hurry(true);
                    self.flushes.push(newest, flush);
                }
                // The caller's end is told by the drop, and looks at the reason itself.
                Err(error) => drop(self.health.trouble(Work::Read, &error)),
            },
        }
    }

    fn connect(&mut self, session: u64) {
        log::debug!("beginning session {session}");
        self.parts.broker.connect(Link::new(session, self.parts.shared.mailbox.clone()));
    }

    fn down(&mut self, session: u64, why: Down) {
        let current = self.dispatcher.is_current(session);
        let (ending, why) = outage::in_words(why);
        if current {
            self.outage.session_ended(session, self.dispatcher.session(), ending, why);
        }
        self.dispatcher.down(session, ending);
        if current {
            self.deliveries.drop_left_over();
        }
    }

    fn read(&mut self, query: &Query) {
        match self.deliveries.read(&mut self.parts.store, &mut self.dispatcher, query) {
            Ok(()) => {
                self.health.went_well(Work::Read);
                self.health.note_damage(self.parts.store.damage().as_ref());
            }
            Err(error) => {
                self.health.trouble(Work::Read, &error);
                self.wait(Some(Instant::now() + self.deliveries.rest()));
            }
        }
    }

    fn prepare(&mut self, ticket: Ticket, possible_duplicate: bool) {
        let (store, dispatcher) = (&mut self.parts.store, &mut self.dispatcher);
        if let Err(error) = self.deliveries.prepare(store, dispatcher, ticket, possible_duplicate) {
            self.health.trouble(Work::Read, &error);
        }
    }

    fn hand_over(&mut self) {
        self.deliveries.hand_over(&mut *self.parts.broker);
    }

    fn write(&mut self, batch: Batch) {
        let position = self.dispatcher.position();
        match self.settling.write(self.parts, &mut self.health, &batch, position) {
            Ok(failed) => {
                self.dispatcher.written(&batch);
                if let Some(upto) = self.dispatcher.written_upto() {
                    self.parts.shared.set_settled(upto);
                }
                self.settling.tell_failed(self.parts, &failed);
                if !self.flushes.is_empty() {
                    self.flushed();
                }
            }
            Err(error) => self.dispatcher.not_written(batch, matches!(error, Error::Busy(_))),
        }
    }

    /// Tells those whose messages are settled by now.
    fn flushed(&mut self) {
        if self.flushes.is_empty() {
            return self.dispatcher.hurry(false);
        }
        // First the figures, which they may look at when they are told.
        self.publish(Role::Active);
        let (dispatcher, store) = (&self.dispatcher, &self.parts.store);
        self.flushes.tell(|target| {
            dispatcher.settled_to(target).is_none_or(|position| store.is_pending(position, target).unwrap_or(true))
        });
        self.dispatcher.hurry(!self.flushes.is_empty());
    }

    fn wait(&mut self, until: Option<Instant>) {
        self.flushed();
        self.publish(Role::Active);
        let mut until = until.map_or(self.watch.next(), |until| until.min(self.watch.next()));
        if self.deliveries.are_left_over() {
            until = until.min(Instant::now() + LEFT_OVER);
        }
        match self.parts.woken.recv_deadline(until) {
            // The mailbox lives as long as this does, so its sender does too.
            Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }

    fn publish(&self, role: Role) {
        let dispatcher = &self.dispatcher;
        let closed = dispatcher.closed_topics().map(|(topic, reason)| ClosedTopic::new(topic, reason)).collect();
        let news = self.parts.shared.update(|view| {
            view.role = role;
            view.link = self.outage.link(dispatcher, self.begun);
            view.storage = self.health.storage();
            view.progress = Some(Progress::of(dispatcher));
            view.sent = self.settling.sent();
            view.damaged = self.settling.damaged();
            view.unreadable = Some(self.parts.store.unreadable());
            view.reconnects = dispatcher.sessions().saturating_sub(1);
            view.set_closed_topics(closed)
        });
        news.log();
    }
}
