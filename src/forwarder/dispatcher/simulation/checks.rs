//! The promises, checked after every step, with a memory of all that was ever said.

use std::collections::BTreeMap;
use std::time::Duration;

use super::table::{Status, Table};
use crate::broker::Verdict;
use crate::forwarder::dispatcher::{Dispatcher, Session};
use crate::forwarder::{Outcome, Ticket};
use crate::settings::{ClosedTopics, Ordering};
use crate::store::{Batch, Fate, Lane, Query};

/// What is remembered of a row beyond the table.
#[derive(Clone, Default, Debug)]
struct Fact {
    /// When it was first sent, in steps.
    first_sent: Option<u64>,
    /// When it was refused for now, and by which verdict, since it was last re-opened.
    refused: Option<(u64, Verdict)>,
    reopened: bool,
    /// Its fate is decided in this life, though the table may not know it yet.
    decided: bool,
    /// The sending that is in flight in the present session.
    in_flight: Option<Ticket>,
    /// Words that allow one settlement each: acknowledgements, reasons to park, refusals for now.
    acknowledged: u32,
    may_park: u32,
    refused_later: u32,
    refused_alone: u32,
}

#[derive(Clone, Default)]
pub(super) struct Checks {
    facts: BTreeMap<i64, Fact>,
    step: u64,
    /// Actions in the present second, and how many are allowed in it.
    second: u64,
    actions: u64,
    allowed: u64,
    pub parked_by_guard: u64,
}

type Verdicted = Result<(), String>;

fn broken<T>(promise: &str, what: impl std::fmt::Display) -> Result<T, String> {
    Err(format!("{promise}: {what}"))
}

impl Checks {
    fn fact(&mut self, id: i64) -> &mut Fact {
        self.facts.entry(id).or_default()
    }

    /// A new life begins over the table as it stands: what only the dead process knew is gone.
    pub fn new_life(&mut self, table: &Table) {
        self.facts.retain(|id, _| *id <= table.newest());
        for (id, fact) in &mut self.facts {
            let row = table.row(*id);
            (fact.decided, fact.in_flight) = (false, None);
            (fact.acknowledged, fact.may_park, fact.refused_later, fact.refused_alone) = (0, 0, 0, 0);
            let told = |verdict| row.held_by.is_some() && (verdict != Verdict::Later || row.attempts > 0);
            fact.refused = fact.refused.filter(|(_, verdict)| told(*verdict));
        }
    }

    pub fn reopened(&mut self, id: i64) {
        let fact = self.fact(id);
        (fact.reopened, fact.refused, fact.decided) = (true, None, false);
    }

    /// Every action counts: there are only so many in a second for what there is to do.
    pub fn action(&mut self, now: Duration) -> Verdicted {
        self.step += 1;
        if now.as_secs() != self.second {
            (self.second, self.actions, self.allowed) = (now.as_secs(), 0, 40);
        }
        self.actions += 1;
        if self.actions > self.allowed {
            return broken(
                "promise 5, it spins",
                format!("{} actions within the second {}", self.actions, self.second),
            );
        }
        Ok(())
    }

    /// The world made the thread look up, and it may find nothing to do.
    pub fn woken(&mut self) {
        self.allowed += 1;
    }

    /// Something happened that is worth some actions.
    pub fn occasion(&mut self) {
        self.allowed += 6;
    }

    pub fn sends(
        &mut self,
        d: &Dispatcher,
        table: &Table,
        ticket: Ticket,
        marked: bool,
        taken_before: bool,
    ) -> Verdicted {
        let (id, step) = (ticket.row, self.step);
        let row = table.row(id);
        if !table.is_durable(id) {
            return broken("promise 4", format!("row {id} is sent, and a power cut now would remove it"));
        }
        if !matches!(d.session(), Session::Up { .. }) {
            return broken("promise 5", format!("row {id} is sent without a session"));
        }
        if taken_before && !marked {
            return broken("duplicates", format!("row {id} was taken by the broker before, and is not marked"));
        }
        if let Some(other) = self.fact(id).in_flight {
            return broken("one sending at a time", format!("row {id} is sent while {other:?} is in flight"));
        }
        if let Some(key) = &row.key {
            let of_key = |(m, other): &(i64, &super::table::Stored)| *m != id && other.key.as_ref() == Some(key);
            let strict = d.rules.ordering == Ordering::Strict;
            let y = self.facts.get(&id).cloned().unwrap_or_default();
            for (m, other) in table.rows().filter(of_key) {
                let fact = self.facts.get(&m).cloned().unwrap_or_default();
                if strict && fact.in_flight.is_some() {
                    return broken("promise 3, strict", format!("row {id} is sent while {m} of its key is in flight"));
                }
                let open = other.is_pending() && !fact.decided && !fact.reopened && m < id && !is_over(d, m);
                if !open || y.reopened {
                    continue;
                }
                if strict {
                    return broken("promise 3, strict", format!("row {id} is sent before {m} of its key is settled"));
                }
                if y.first_sent.is_none() && fact.first_sent.is_none() {
                    return broken("promise 3", format!("row {id} is first sent before {m} of its key"));
                }
                if let Some((_, verdict)) = fact.refused {
                    let aside = fact.in_flight.is_some() || d.suspects.contains(m);
                    if y.first_sent.is_none() && (verdict == Verdict::Later || !aside) {
                        return broken("promise 3", format!("row {id} overtakes {m} of its key, refused: {verdict:?}"));
                    }
                }
            }
        }
        let fact = self.fact(id);
        fact.first_sent.get_or_insert(step);
        fact.in_flight = Some(ticket);
        self.occasion();
        Ok(())
    }

    /// What the adapter says of a sending, before the dispatcher hears it.
    pub fn said(&mut self, d: &Dispatcher, table: &Table, ticket: Ticket, outcome: &Outcome) {
        self.occasion();
        let step = self.step;
        let row = table.row(ticket.row).clone();
        let parks = d.rules.closed_topics == ClosedTopics::Park;
        let most = d.rules.max_attempts;
        let fact = self.fact(ticket.row);
        let current = fact.in_flight == Some(ticket);
        if current {
            fact.in_flight = None;
        }
        match outcome {
            Outcome::Acknowledged | Outcome::HandedOver => {
                fact.acknowledged += 1;
                fact.decided = true;
                fact.in_flight = None;
            }
            Outcome::Refused(refusal) | Outcome::Withheld(refusal) if current => match refusal.verdict {
                Verdict::Later => {
                    fact.refused_later += 1;
                    fact.refused = Some((step, Verdict::Later));
                    // A commit that failed and was made nevertheless charges twice: then this comes early.
                    fact.may_park += u32::from(row.attempts + fact.refused_later >= most);
                }
                Verdict::Topic if !parks => fact.refused = fact.refused.or(Some((step, Verdict::Topic))),
                Verdict::Alone if fact.refused_alone == 0 => fact.refused_alone += 1,
                Verdict::Alone => fact.may_park += 1,
                _ => (fact.may_park, fact.decided) = (fact.may_park + 1, true),
            },
            _ => {}
        }
    }

    /// The session is over, as far as the dispatcher knows.
    pub fn session_over(&mut self) {
        self.facts.values_mut().for_each(|fact| fact.in_flight = None);
        self.occasion();
    }

    pub fn vanished(&mut self, ticket: Ticket) {
        self.fact(ticket.row).in_flight = None;
    }

    pub fn reads(&self, d: &Dispatcher, query: &Query) -> Verdicted {
        if !matches!(d.session(), Session::Up { .. }) {
            return broken("promise 5", format!("{query:?} without a session"));
        }
        Ok(())
    }

    /// Before the table takes a batch. Only what is `poison` may be parked for ending sessions.
    pub fn writes(&mut self, d: &Dispatcher, table: &Table, batch: &Batch, poison: impl Fn(i64) -> bool) -> Verdicted {
        let down = !matches!(d.session(), Session::Up { .. });
        if down && batch.settlements.is_empty() && d.stopping.is_none() {
            return broken("promise 5", format!("{batch:?} without a session"));
        }
        if batch.settlements.len() > d.rules.bounds.settlements + 2 * d.rules.window + d.rules.bounds.suspects + LATE {
            return broken("promise 6", format!("{} settlements in one batch", batch.settlements.len()));
        }
        let mut pending: BTreeMap<i64, bool> = BTreeMap::new();
        for settlement in &batch.settlements {
            let id = settlement.id;
            let is_pending = *pending.entry(id).or_insert_with(|| table.row(id).is_pending());
            // Work that has to be done, unless it is done a second time.
            let done = matches!(&settlement.fate, Fate::Held { lane } if table.row(id).held_by.as_ref() == Some(lane));
            self.allowed += if is_pending && !done { 4 } else { 0 };
            let fact = self.fact(id);
            match &settlement.fate {
                Fate::Sent => {
                    if is_pending && fact.acknowledged == 0 {
                        return broken("promise 2", format!("row {id} becomes SENT, and nobody acknowledged it"));
                    }
                    pending.insert(id, false);
                }
                Fate::Failed { reason } => {
                    if is_pending && fact.may_park == 0 {
                        if !poison(id) || !reason.contains("sent alone") {
                            return broken("promise 2", format!("row {id} is parked: {reason}"));
                        }
                        fact.decided = true;
                        self.parked_by_guard += 1;
                    }
                    pending.insert(id, false);
                }
                Fate::Waiting { .. } => {
                    if is_pending && fact.refused_later == 0 {
                        return broken("promise 5", format!("row {id} is charged an attempt that nobody refused"));
                    }
                }
                Fate::Held { lane } => match lane {
                    Lane::Key(key) if table.row(id).key.as_ref() == Some(key) => {}
                    Lane::Topic(topic) if table.row(id).key.is_none() && table.row(id).topic == *topic => {}
                    _ => return broken("held lanes", format!("row {id} is held in the lane {lane}")),
                },
            }
        }
        Ok(())
    }

    /// After the table took it and the dispatcher knows.
    pub fn written(&mut self, batch: &Batch) {
        for settlement in &batch.settlements {
            let fact = self.fact(settlement.id);
            let count = match settlement.fate {
                Fate::Sent => &mut fact.acknowledged,
                Fate::Failed { .. } => &mut fact.may_park,
                Fate::Waiting { .. } => &mut fact.refused_later,
                Fate::Held { .. } => continue,
            };
            *count = count.saturating_sub(1);
        }
    }

    /// At or below the stored position every row is SENT, FAILED, waiting or held.
    pub fn position(&self, d: &Dispatcher, table: &Table) -> Verdicted {
        let missed = |row: &super::table::Stored| row.is_pending() && row.attempts == 0 && row.held_by.is_none();
        match table.rows().take(table.position().max(0) as usize).find(|(_, row)| missed(row)) {
            Some((id, _)) => broken("the position", format!("{} is past row {id}", table.position())),
            None if d
                .settled_to(i64::MAX)
                .is_some_and(|to| table.rows().take(to as usize).any(|(_, row)| missed(row))) =>
            {
                broken("flush", "it answers before everything is settled")
            }
            None if table.position() > table.newest() => broken("the position", "is behind the newest row"),
            None => Ok(()),
        }
    }

    /// How many rows a crash at this moment would send once more, although the broker has them.
    pub fn repeated_by_crash(&self, d: &Dispatcher, table: &Table, taken: impl Fn(i64) -> bool) -> Verdicted {
        let again = |(id, row): &(i64, &super::table::Stored)| {
            row.is_pending() && row.attempts == 0 && row.held_by.is_none() && taken(*id)
        };
        let repeated = table.rows().filter(again).count();
        let most = d.rules.window + d.rules.bounds.settlements + d.rules.bounds.suspects;
        if repeated > most {
            return broken("duplicates", format!("{repeated} would be repeated by a crash; {most} are allowed"));
        }
        Ok(())
    }

    /// A polite stop leaves nothing untold.
    pub fn stopped(&self, table: &Table) -> Verdicted {
        for (id, row) in table.rows().filter(|(_, row)| row.is_pending()) {
            if self.facts.get(&id).is_some_and(|fact| fact.decided && !fact.reopened) {
                return broken("stop", format!("row {id} was settled, and the table does not know: {row:?}"));
            }
        }
        Ok(())
    }

    /// Everything is over: only poison is parked by the guard, and nothing waits.
    pub fn all_settled(&self, table: &Table, poison: impl Fn(i64) -> bool) -> Verdicted {
        for (id, row) in table.rows() {
            if row.status == Status::Sent && poison(id) {
                return broken("promise 2", format!("row {id} is SENT, and no broker ever took it"));
            }
        }
        Ok(())
    }
}

/// Late acknowledgements that the model may have on their way at one time.
const LATE: usize = 64;

/// Whether the end of a row is decided and not yet written.
fn is_over(d: &Dispatcher, id: i64) -> bool {
    let ends = |fate: &Fate| matches!(fate, Fate::Sent | Fate::Failed { .. });
    d.ledger.entries().iter().any(|entry| entry.id == id && ends(&entry.fate))
}

/// Promise 6: everything in memory is within its bound.
pub(in crate::forwarder::dispatcher) fn bounded(d: &Dispatcher) -> Verdicted {
    let (bounds, window) = (&d.rules.bounds, d.rules.window);
    let lane_rows = |lane: &Lane| d.lanes.get(lane).map_or(0, |state| state.rows.len());
    let fresh: usize = d.fresh.iter().map(|row| row.size).sum();
    let last = d.fresh.back().map_or(0, |row| row.size);
    let most_in_lane = d.lanes.active().iter().map(lane_rows).max().unwrap_or(0);
    let sizes = [
        ("rows read", d.fresh.len(), bounds.read_rows),
        ("bytes read", fresh.saturating_sub(last), bounds.read_bytes),
        ("in flight", d.flight.open(), window),
        ("to be sent again", d.resend.len(), window + bounds.suspects),
        ("waiting", d.waiting.len(), bounds.waiting),
        ("timers", d.waiting.timers(), d.waiting.len()),
        ("lanes", d.lanes.len(), bounds.lanes + bounds.active_lanes),
        ("active lanes", d.lanes.active().len(), bounds.active_lanes),
        ("rows of a lane", most_in_lane, bounds.lane_rows),
        ("suspects", d.suspects.len(), bounds.suspects),
        ("settlements", d.ledger.len(), bounds.settlements + 2 * window + bounds.suspects + LATE),
        ("busy keys", d.busy.len(), window + bounds.suspects),
    ];
    match sizes.iter().find(|(_, size, most)| size > most) {
        Some((what, size, most)) => broken("promise 6", format!("{what}: {size}, bound {most}")),
        None => Ok(()),
    }
}
