//! One schedule: a world drawn from a seed, a dispatcher in it, and every promise checked after every step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::broker::{Broker, Happening};
use super::chance::Chance;
use super::checks::{Checks, bounded};
use super::plan::Plan;
use super::table::{Status, Stored, Table};
use crate::broker::Refusal;
use crate::broker::Verdict;
use crate::forwarder::dispatcher::{Action, Dice, Dispatcher, Session};
use crate::forwarder::{Outcome, Ticket};
use crate::store::Query;

/// What the application, the device and its users do.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Deed {
    Commit,
    /// The forwarder notices that somebody committed.
    Noticed,
    ByHand,
    Pause,
    Resume,
    Hurry(bool),
    TryNow,
    Outage,
    Closing,
    Disk,
    Kill,
    Stop,
    End,
}

#[derive(Clone, PartialEq, Debug)]
enum Event {
    World(Deed),
    Broker(Happening),
}

#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Tally {
    pub steps: u64,
    pub sent: u64,
    pub rows: u64,
    pub parked_by_guard: u64,
    pub lives: u64,
    /// From the end of the faults until everything was settled.
    pub recovery: Duration,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.steps += other.steps;
        self.sent += other.sent;
        self.rows += other.rows;
        self.parked_by_guard += other.parked_by_guard;
        self.lives += other.lives;
        self.recovery = self.recovery.max(other.recovery);
    }
}

pub(super) struct Run {
    plan: Plan,
    chance: Chance,
    now: Duration,
    /// The clock of the present life of the process began then.
    born: Duration,
    /// Not before then another message is committed only to be answered.
    next_witness: Duration,
    dispatcher: Dispatcher,
    table: Table,
    broker: Broker,
    checks: Checks,
    events: BTreeMap<(Duration, u64), Event>,
    numbered: u64,
    faulty: bool,
    disk_fails: bool,
    spoiled: Vec<i64>,
    /// Rows that a power cut made pending again.
    brought_back: BTreeSet<i64>,
    tally: Tally,
    pub trace: Option<Vec<String>>,
}

const MOST_STEPS: u64 = 60_000;
const LONGEST_RECOVERY: Duration = Duration::from_secs(12 * 3600);

impl Run {
    pub fn new(seed: u64, traced: bool) -> Self {
        let mut chance = Chance::new(seed);
        let plan = Plan::draw(&mut chance);
        let dispatcher = Dispatcher::new(plan.rules.clone(), Dice::seeded(seed), 0, 0);
        let mut run = Run {
            plan,
            chance,
            now: Duration::ZERO,
            born: Duration::ZERO,
            next_witness: Duration::ZERO,
            dispatcher,
            table: Table::default(),
            broker: Broker::new(),
            checks: Checks::default(),
            events: BTreeMap::new(),
            numbered: 0,
            faulty: true,
            disk_fails: false,
            spoiled: Vec::new(),
            brought_back: BTreeSet::new(),
            tally: Tally::default(),
            trace: traced.then(Vec::new),
        };
        run.plan_deeds();
        run
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>12.6} {}", self.now.as_secs_f64(), what()));
        }
    }

    fn at(&mut self, at: Duration, event: Event) {
        self.numbered += 1;
        self.events.insert((at.max(self.now), self.numbered), event);
    }

    fn plan_deeds(&mut self) {
        let end = self.plan.faults;
        let plan = self.plan.clone();
        let times = |run: &mut Run, count: u64, deed: Deed| {
            for _ in 0..count {
                let at = run.chance.millis(0, end.as_millis() as u64);
                run.at(at, Event::World(deed));
            }
        };
        times(self, plan.commits, Deed::Commit);
        times(self, plan.by_hand, Deed::ByHand);
        times(self, plan.kills, Deed::Kill);
        times(self, plan.stops, Deed::Stop);
        for (on, deed) in [(plan.outages, Deed::Outage), (plan.closings, Deed::Closing), (plan.disk, Deed::Disk)] {
            times(self, if on { 4 } else { 0 }, deed);
        }
        for deed in [Deed::Pause, Deed::Resume, Deed::Hurry(true), Deed::Hurry(false), Deed::TryNow] {
            times(self, u64::from(plan.pauses) * 2, deed);
        }
        self.at(Duration::ZERO, Event::World(Deed::Commit));
        self.at(end, Event::World(Deed::End));
    }

    /// Plays it to its end.
    pub fn play(&mut self) -> Result<Tally, String> {
        let result = self.play_on();
        if result.is_err() {
            let last = format!("{:?}", self.dispatcher);
            self.note(|| last);
        }
        result
    }

    fn play_on(&mut self) -> Result<Tally, String> {
        let text = format!("{:?}", self.plan);
        self.note(|| text);
        loop {
            self.happen()?;
            let action = self.dispatcher.next(self.now - self.born);
            bounded(&self.dispatcher)?;
            self.checks.action(self.now)?;
            self.tally.steps += 1;
            self.note(|| format!("  {action:?}"));
            match action {
                Action::Wait(until) => {
                    if self.is_over() {
                        return self.conclude();
                    }
                    // now and then, since it may have to wait behind a suspect itself
                    if self.wants_witness() && self.now >= self.next_witness {
                        self.next_witness = self.now + Duration::from_secs(60);
                        self.commit();
                        continue;
                    }
                    self.wait(until)?;
                }
                action => self.carry_out(action)?,
            }
            let recovery = if self.faulty { Duration::ZERO } else { self.now - self.plan.faults };
            if self.tally.steps > MOST_STEPS || recovery > LONGEST_RECOVERY {
                let left: Vec<_> = self.table.rows().filter(|(_, row)| row.is_pending()).collect();
                return Err(format!("liveness: after {recovery:?} and {} steps still {left:?}", self.tally.steps));
            }
        }
    }

    fn is_over(&self) -> bool {
        !self.faulty && !self.table.rows().any(|(_, row)| row.is_pending())
    }

    /// Nothing is left but poison, and what waits behind it, which can be told from the innocent only once the broker
    /// answers something else.
    fn wants_witness(&self) -> bool {
        let suspects = &self.dispatcher.suspects;
        let waits_behind_one = |row: &Stored| {
            suspects
                .items()
                .any(|item| item.row.topic == row.topic || item.row.key.is_some() && item.row.key == row.key)
        };
        let mut pending = self.table.rows().filter(|(_, row)| row.is_pending());
        let nothing_else = pending.all(|(id, row)| suspects.contains(id) || waits_behind_one(row));
        !self.faulty && suspects.len() > 0 && suspects.want_witness() && nothing_else
    }

    fn conclude(&mut self) -> Result<Tally, String> {
        let poison = &self.broker.poison;
        self.checks.all_settled(&self.table, |id| poison.contains(&id))?;
        self.tally.rows = self.table.newest() as u64;
        self.tally.recovery = self.now - self.plan.faults;
        self.tally.parked_by_guard = self.checks.parked_by_guard;
        Ok(self.tally)
    }

    fn wait(&mut self, until: Option<Duration>) -> Result<(), String> {
        let until = until.map(|until| until + self.born);
        if until.is_some_and(|until| until <= self.now) {
            return Err(format!("promise 5, it spins: waits until {until:?}, and it is {:?}", self.now));
        }
        let next = self.events.first_key_value().map(|((at, _), _)| *at);
        let Some(at) = next.into_iter().chain(until).min() else {
            let left: Vec<_> = self.table.rows().filter(|(_, row)| row.is_pending()).collect();
            return Err(format!("liveness: it waits for ever, and still {left:?}"));
        };
        self.now = self.now.max(at);
        Ok(())
    }

    /// Everything that is due.
    fn happen(&mut self) -> Result<(), String> {
        loop {
            for (at, happening) in std::mem::take(&mut self.broker.coming) {
                self.at(at, Event::Broker(happening));
            }
            let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= self.now) else {
                return Ok(());
            };
            let event = entry.remove();
            self.dispatcher.advance(self.now - self.born);
            self.checks.woken();
            if !matches!(event, Event::Broker(Happening::Alive(_))) {
                self.note(|| format!("{event:?}"));
            }
            match event {
                Event::World(deed) => self.deed(deed)?,
                Event::Broker(happening) => self.happening(happening),
            }
            bounded(&self.dispatcher)?;
        }
    }

    fn happening(&mut self, happening: Happening) {
        let (now, faulty) = (self.now, self.faulty);
        match happening {
            Happening::Up(number, limits) => {
                if self.broker.up(now, number, &self.plan, faulty, &mut self.chance) {
                    self.dispatcher.up(number, limits);
                    self.checks.occasion();
                }
            }
            Happening::Alive(number) => {
                if self.broker.alive(now, number, &self.plan) {
                    self.dispatcher.alive(number);
                    self.checks.occasion();
                }
            }
            Happening::Answers(number) => {
                if self.broker.answers(number) && self.plan.answers_pings {
                    self.dispatcher.alive(number);
                    self.checks.occasion();
                }
            }
            Happening::Arrives(number, ticket) => {
                self.broker.arrives(now, number, ticket, &self.table, &self.plan, faulty, &mut self.chance);
            }
            Happening::Answer(number, ticket, verdict) => {
                if self.broker.give_back(number, ticket) {
                    let refusal = |verdict| Outcome::Refused(Refusal::new(verdict, format!("{verdict:?}")));
                    self.settled(ticket, verdict.map_or(Outcome::Acknowledged, refusal));
                }
            }
            Happening::Drops(number, ticket) => {
                if self.broker.give_back(number, ticket) {
                    self.settled(ticket, Outcome::NotDelivered);
                }
            }
            Happening::Breaks(number, ending) => {
                self.broker.breaks_if(now, number, ending, &self.plan, &mut self.chance);
            }
            Happening::Down(number, ending) => {
                let was_down = matches!(self.dispatcher.session(), Session::Down { .. });
                self.dispatcher.down(number, ending);
                if !was_down && matches!(self.dispatcher.session(), Session::Down { .. }) {
                    self.checks.session_over();
                }
            }
            Happening::Settled(ticket, outcome) => self.settled(ticket, outcome),
        }
    }

    fn settled(&mut self, ticket: Ticket, outcome: Outcome) {
        self.checks.said(&self.dispatcher, &self.table, ticket, &outcome);
        self.dispatcher.settled(ticket, outcome);
    }

    fn carry_out(&mut self, action: Action) -> Result<(), String> {
        // The thread takes its time for what it does.
        if self.chance.once_in(8) {
            self.now += self.chance.millis(0, 5);
        }
        let (now, faulty) = (self.now, self.faulty);
        match action {
            Action::Connect(number) => self.broker.connect(now, number, &self.plan, faulty, &mut self.chance),
            Action::Disconnect(until) => {
                self.broker.disconnect(now, until + self.born, &mut self.chance);
                if matches!(self.dispatcher.session(), Session::Down { .. }) {
                    self.checks.session_over();
                }
            }
            Action::Read(query) => {
                self.checks.reads(&self.dispatcher, &query)?;
                if let Query::Lanes { after, rows } = &query {
                    let lanes = self.table.find_lanes(after.as_ref(), *rows);
                    self.note(|| format!("    {lanes:?}"));
                    self.dispatcher.lanes_found(&query, lanes);
                } else {
                    let rows = self.table.find(&query);
                    self.note(|| {
                        format!("    {:?}", rows.iter().map(|row| (row.id, row.lane_held)).collect::<Vec<_>>())
                    });
                    self.dispatcher.found(&query, rows, self.table.newest());
                }
            }
            Action::Send { ticket, possible_duplicate } => self.send(ticket, possible_duplicate)?,
            Action::Write(batch) => {
                let poison = &self.broker.poison;
                self.checks.writes(&self.dispatcher, &self.table, &batch, |id| poison.contains(&id))?;
                if self.disk_fails {
                    // A COMMIT that returns an error means "maybe".
                    if self.chance.once_in(4) {
                        self.table.settle(&batch);
                    }
                    let busy = self.chance.percent(50);
                    self.dispatcher.not_written(batch, busy);
                } else {
                    self.table.settle(&batch);
                    self.checks.written(&batch);
                    self.dispatcher.written(&batch);
                }
                self.checks.position(&self.dispatcher, &self.table)?;
            }
            Action::Stop => {
                if !self.plan.disk {
                    self.checks.stopped(&self.table)?;
                }
                self.be_born();
            }
            Action::Ping => self.broker.pinged(now, self.plan.latency),
            Action::Wait(_) => {}
        }
        Ok(())
    }

    fn send(&mut self, ticket: Ticket, marked: bool) -> Result<(), String> {
        let row = self.table.row(ticket.row).clone();
        let taken = self.broker.taken.contains(&ticket.row);
        if !row.is_pending() {
            self.checks.vanished(ticket);
            self.dispatcher.vanished(ticket);
            return Ok(());
        }
        self.checks.sends(&self.dispatcher, &self.table, ticket, marked, taken)?;
        self.tally.sent += 1;
        if self.spoiled.contains(&ticket.row) {
            self.settled(ticket, Outcome::Withheld(Refusal::new(Verdict::Never, "spoiled")));
        } else {
            self.broker.send(self.now, ticket, row.size, &self.plan, self.faulty, &mut self.chance);
        }
        let counts = |id| self.broker.taken.contains(&id) && !self.brought_back.contains(&id);
        self.checks.repeated_by_crash(&self.dispatcher, &self.table, counts)
    }

    fn deed(&mut self, deed: Deed) -> Result<(), String> {
        self.checks.occasion();
        match deed {
            Deed::Commit => self.commit(),
            Deed::Noticed => self.dispatcher.committed(),
            Deed::ByHand => self.by_hand(),
            Deed::Pause => self.dispatcher.pause(),
            Deed::Resume => self.dispatcher.resume(),
            Deed::Hurry(hurry) => self.dispatcher.hurry(hurry),
            Deed::TryNow => self.dispatcher.try_now(),
            Deed::Outage => {
                self.broker.reachable = !self.broker.reachable;
                if !self.broker.reachable {
                    self.broker.breaks(
                        self.now,
                        crate::forwarder::dispatcher::Ending::Unreachable,
                        &self.plan,
                        &mut self.chance,
                    );
                }
            }
            Deed::Closing => {
                let topic = format!("t{}", self.chance.size(1, self.plan.topics));
                if !self.broker.closed.remove(&topic) {
                    self.broker.closed.insert(topic);
                }
            }
            Deed::Disk => self.disk_fails = !self.disk_fails,
            Deed::Kill => {
                if self.chance.once_in(3) {
                    // Killed inside an fsync: the frame is seen by the next process, and not yet durable.
                    self.commit_rows(true, false);
                }
                if self.plan.power_cuts && self.chance.percent(50) {
                    self.table.power_cut();
                    let newest = self.table.newest();
                    self.broker.poison.retain(|id| *id <= newest);
                    self.spoiled.retain(|id| *id <= newest);
                    self.broker.taken.retain(|id| *id <= newest);
                    // Settlements since the last synced commit are forgotten: repetitions, and marked, but not counted.
                    let pending = |(_, row): &(i64, &Stored)| row.is_pending();
                    self.brought_back.extend(self.table.rows().filter(pending).map(|(id, _)| id));
                }
                self.be_born();
            }
            Deed::Stop => {
                let until = self.now - self.born + self.chance.millis(0, 3_000);
                self.dispatcher.stop(until, until + Duration::from_millis(500));
            }
            Deed::End => {
                self.faulty = false;
                self.disk_fails = false;
                self.broker.reachable = true;
                self.broker.closed.clear();
                self.dispatcher.resume();
            }
        }
        Ok(())
    }

    fn commit(&mut self) {
        let physically = !self.chance.percent(self.plan.unsynced);
        let said = physically && !self.chance.percent(self.plan.foreign);
        self.commit_rows(said, physically);
        self.notice();
    }

    fn commit_rows(&mut self, said: bool, physically: bool) {
        let rows = if self.chance.once_in(10) { self.chance.size(10, 30) } else { self.chance.size(1, 5) };
        let mut stored = Vec::new();
        for n in 0..rows {
            let id = self.table.newest() + 1 + n as i64;
            let key = self.chance.size(0, self.plan.keys);
            let topic = self.chance.size(1, self.plan.topics);
            let most = if self.chance.once_in(6) { self.plan.largest } else { 60 };
            stored.push(Stored {
                topic: format!("t{topic}").into(),
                key: (key > 0).then(|| format!("k{key}").into()),
                size: self.chance.size(1, most),
                status: Status::Pending,
                attempts: 0,
                wait: Duration::ZERO,
                held_by: None,
                synced: said,
            });
            if self.chance.percent(self.plan.spoiled) {
                self.spoiled.push(id);
            } else if self.chance.percent(self.plan.poison) && self.broker.poison.len() < 2 {
                self.broker.poison.insert(id);
            }
        }
        let text =
            format!("    rows {:?}", stored.iter().map(|r| (&r.key, &r.topic, r.size, r.synced)).collect::<Vec<_>>());
        self.note(|| text);
        self.table.commit(stored, physically);
    }

    fn notice(&mut self) {
        let after = if self.chance.percent(50) { Duration::ZERO } else { self.chance.millis(0, 100) };
        self.at(self.now + after, Event::World(Deed::Noticed));
    }

    /// Somebody with a shell: a settled row is re-opened (the trigger sees to its attempts), or a row is discarded.
    fn by_hand(&mut self) {
        if self.table.newest() == 0 {
            return;
        }
        let id = self.chance.between(1, self.table.newest() as u64) as i64;
        let synced = self.chance.percent(50);
        match self.table.row(id).status {
            Status::Pending if self.chance.percent(30) => {
                self.table.edit(id, synced, |row| (row.status, row.held_by) = (Status::Gone, None));
            }
            Status::Sent | Status::Failed => {
                self.table.edit(id, synced, |row| {
                    (row.status, row.held_by) = (Status::Pending, None);
                    row.attempts = row.attempts.max(1);
                });
                self.checks.reopened(id);
            }
            Status::Pending | Status::Gone => return,
        }
        let what = format!("    row {id} by hand: {:?}", self.table.row(id).status);
        self.note(|| what);
        self.notice();
    }

    /// A new process over the table as it stands.
    fn be_born(&mut self) {
        self.tally.lives += 1;
        self.broker.forget_client();
        self.broker.coming.clear();
        self.events.retain(|_, event| matches!(event, Event::World(_)));
        self.born = self.now;
        let dice = Dice::seeded(self.chance.draw());
        let (position, newest) = (self.table.position(), self.table.newest());
        self.dispatcher = Dispatcher::new(self.plan.rules.clone(), dice, position, newest);
        self.checks.new_life(&self.table);
    }
}
