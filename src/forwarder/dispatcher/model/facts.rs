//! What really happened to each row, and the promises, checked whenever the dispatcher acts.

use super::world::World;
use crate::broker::Verdict;
use crate::forwarder::dispatcher::simulation::checks::bounded;
use crate::forwarder::dispatcher::simulation::table::Stored;
use crate::forwarder::{Outcome, Ticket};
use crate::settings::{ClosedTopics, Ordering};
use crate::store::{Batch, Fate, Lane};

/// What is promised. Each is a property of the model.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Promise {
    Acknowledged,
    Refused,
    CommitOrder,
    Strict,
    Window,
    Durable,
    Position,
    SettledOnce,
    Duplicates,
    Bounded,
    Stopped,
    Settles,
}

/// What is known of a row beyond the table. Counts are of words heard in this life and not written yet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Fact {
    sent: bool,
    /// The broker has it, or may have.
    taken: bool,
    /// A power cut made it pending again.
    brought_back: bool,
    refused: Option<Verdict>,
    /// Its end was told, though the table may not know it yet.
    decided: bool,
    refused_alone: bool,
    acknowledged: u8,
    may_fail: u8,
    refused_later: u8,
}

impl Fact {
    fn has_word(&self) -> bool {
        self.acknowledged + self.may_fail + self.refused_later > 0
    }
}

pub(super) type Kept = Result<(), (Promise, String)>;

fn broken(promise: Promise, what: String) -> Kept {
    Err((promise, what))
}

fn index(id: i64) -> usize {
    id as usize - 1
}

impl World {
    fn fact(&mut self, id: i64) -> &mut Fact {
        &mut self.facts[index(id)]
    }

    /// Nobody knows whether the broker took what was on its way.
    pub fn may_be_taken(&mut self, id: i64) {
        self.fact(id).taken = true;
    }

    /// A new process knows what stands in the table, and nothing else.
    pub fn forget_words(&mut self) {
        self.facts.truncate(self.table.newest() as usize);
        for (fact, (_, row)) in self.facts.iter_mut().zip(self.table.rows()) {
            let told = |verdict: &Verdict| row.held_by.is_some() && (*verdict != Verdict::Later || row.attempts > 0);
            let refused = fact.refused.filter(told);
            *fact = Fact {
                sent: fact.sent,
                taken: fact.taken,
                brought_back: fact.brought_back,
                refused,
                ..Fact::default()
            };
        }
    }

    pub fn power_is_cut(&mut self) {
        for (fact, (_, row)) in self.facts.iter_mut().zip(self.table.rows()) {
            fact.brought_back |= row.is_pending();
        }
    }

    /// What the adapter says of a sending, before the dispatcher hears it. `current`: of the present session.
    pub fn said(&mut self, ticket: Ticket, outcome: &Outcome, current: bool) {
        let (parks, most) =
            (self.dispatcher.rules.closed_topics == ClosedTopics::Park, self.dispatcher.rules.max_attempts);
        let attempts = self.table.row(ticket.row).attempts;
        let fact = self.fact(ticket.row);
        match outcome {
            Outcome::Acknowledged | Outcome::HandedOver => {
                (fact.taken, fact.decided) = (true, true);
                fact.acknowledged += 1;
            }
            Outcome::NotDelivered => fact.taken = true,
            Outcome::Refused(refusal) | Outcome::Withheld(refusal) if current => match refusal.verdict {
                Verdict::Later => {
                    fact.refused_later += 1;
                    fact.refused = Some(Verdict::Later);
                    fact.may_fail += u8::from(attempts + u32::from(fact.refused_later) >= most);
                }
                Verdict::Topic if !parks => fact.refused = fact.refused.or(Some(Verdict::Topic)),
                Verdict::Alone if !fact.refused_alone => fact.refused_alone = true,
                Verdict::Never | Verdict::Alone | Verdict::Topic => {
                    fact.decided = true;
                    fact.may_fail += 1;
                }
            },
            Outcome::Refused(_) | Outcome::Withheld(_) => {}
        }
    }

    /// Before the sending is on its way.
    pub fn check_sending(&mut self, ticket: Ticket, marked: bool) -> Kept {
        let id = ticket.row;
        if !self.table.is_durable(id) {
            return broken(Promise::Durable, format!("row {id} is sent, and a power cut now would remove it"));
        }
        if self.facts[index(id)].taken && !marked {
            return broken(Promise::Duplicates, format!("row {id} may have been taken before, and is not marked"));
        }
        if self.wire.iter().any(|flying| flying.ticket.row == id) {
            return broken(Promise::SettledOnce, format!("row {id} is sent while it is in flight"));
        }
        // What a late answer settled is not unsettled, though it is in flight once more.
        let unsettled = self.wire.iter().filter(|flying| !self.facts[index(flying.ticket.row)].decided);
        let oldest = unsettled.map(|flying| flying.ticket.sending).min().unwrap_or(ticket.sending);
        let window = self.dispatcher.rules.window as u64;
        if ticket.sending - oldest >= window {
            let deep = ticket.sending - oldest + 1;
            return broken(Promise::Window, format!("row {id} is the {deep}th from the oldest that is unsettled"));
        }
        self.check_order(id)?;
        self.fact(id).sent = true;
        self.check_repetitions(id)
    }

    fn check_order(&self, id: i64) -> Kept {
        let row = self.table.row(id);
        if row.key.is_none() {
            return Ok(());
        }
        let strict = self.dispatcher.rules.ordering == Ordering::Strict;
        let first_time = !self.facts[index(id)].sent;
        for (other, stored) in self.table.rows().filter(|(other, stored)| *other != id && stored.key == row.key) {
            let fact = &self.facts[index(other)];
            let flies = self.wire.iter().any(|flying| flying.ticket.row == other);
            if strict && flies {
                return broken(Promise::Strict, format!("row {id} is sent while {other} of its key is in flight"));
            }
            if other > id || !stored.is_pending() || fact.decided || self.is_over(other) {
                continue;
            }
            if strict {
                return broken(Promise::Strict, format!("row {id} is sent before {other} of its key is settled"));
            }
            if first_time && !fact.sent {
                return broken(Promise::CommitOrder, format!("row {id} is first sent before {other} of its key"));
            }
            let aside = flies || self.dispatcher.suspects.contains(other);
            if first_time && fact.refused.is_some_and(|verdict| verdict == Verdict::Later || !aside) {
                return broken(
                    Promise::CommitOrder,
                    format!("row {id} overtakes {other} of its key, which was refused"),
                );
            }
        }
        Ok(())
    }

    fn is_over(&self, id: i64) -> bool {
        let ends = |fate: &Fate| matches!(fate, Fate::Sent | Fate::Failed { .. });
        self.dispatcher.ledger.entries().iter().any(|entry| entry.id == id && ends(&entry.fate))
    }

    /// How many rows a crash now would have sent once more, although the broker has them.
    fn check_repetitions(&self, sent: i64) -> Kept {
        let (rules, facts) = (&self.dispatcher.rules, &self.facts);
        let taken =
            |id: i64| facts[index(id)].taken || id == sent || self.wire.iter().any(|flying| flying.ticket.row == id);
        let again = |(id, row): &(i64, &Stored)| {
            row.is_pending()
                && row.attempts == 0
                && row.held_by.is_none()
                && taken(*id)
                && !facts[index(*id)].brought_back
        };
        let repeated = self.table.rows().filter(again).count();
        let most = rules.window + rules.bounds.settlements + rules.bounds.suspects;
        if repeated > most {
            return broken(Promise::Duplicates, format!("a crash would repeat {repeated}; {most} are allowed"));
        }
        Ok(())
    }

    /// Before the table takes a batch.
    pub fn check_batch(&self, batch: &Batch) -> Kept {
        let mut words = self.facts.clone();
        for settlement in &batch.settlements {
            let id = settlement.id;
            let (row, word) = (self.table.row(id), &mut words[index(id)]);
            let (left, promise, what) = match &settlement.fate {
                Fate::Sent => (&mut word.acknowledged, Promise::Acknowledged, "becomes SENT"),
                Fate::Failed { .. } => (&mut word.may_fail, Promise::Refused, "becomes FAILED"),
                Fate::Waiting { .. } => (&mut word.refused_later, Promise::Refused, "is charged an attempt"),
                Fate::Held { lane } => {
                    let its_own = match lane {
                        Lane::Key(key) => row.key.as_ref() == Some(key),
                        Lane::Topic(topic) => row.key.is_none() && row.topic == *topic,
                    };
                    if !its_own {
                        return broken(Promise::CommitOrder, format!("row {id} is held in the lane {lane}"));
                    }
                    continue;
                }
            };
            let Some(less) = left.checked_sub(1) else {
                // One word, one settlement, even where the table would not mind.
                let again = !row.is_pending() || self.facts[index(id)].has_word();
                let promise = if again { Promise::SettledOnce } else { promise };
                return broken(promise, format!("row {id} {what}, and nobody said so"));
            };
            *left = less;
        }
        Ok(())
    }

    /// After the dispatcher knows that it is written.
    pub fn words_are_written(&mut self, batch: &Batch) {
        for settlement in &batch.settlements {
            let fact = self.fact(settlement.id);
            let count = match settlement.fate {
                Fate::Sent => &mut fact.acknowledged,
                Fate::Failed { .. } => &mut fact.may_fail,
                Fate::Waiting { .. } => &mut fact.refused_later,
                Fate::Held { .. } => continue,
            };
            *count = count.saturating_sub(1);
        }
    }

    /// At or below the position every row is settled, waiting or held.
    pub fn check_position(&self) -> Kept {
        let missed = |(_, row): &(i64, &Stored)| row.is_pending() && row.attempts == 0 && row.held_by.is_none();
        let first_missed = self.table.rows().find(missed).map_or(i64::MAX, |(id, _)| id);
        let position = self.table.position();
        if position >= first_missed || position > self.table.newest() {
            return broken(Promise::Position, format!("{position} is past row {first_missed}"));
        }
        match self.dispatcher.settled_to(i64::MAX) {
            Some(to) if to >= first_missed => {
                broken(Promise::Position, format!("it says that all up to {to} is settled; row {first_missed} is not"))
            }
            _ => Ok(()),
        }
    }

    pub fn check_bounds(&self) -> Kept {
        bounded(&self.dispatcher).map_err(|why| (Promise::Bounded, why))
    }

    /// A polite stop leaves nothing untold.
    pub fn check_stopped(&self) -> Kept {
        match self.table.rows().find(|(id, row)| row.is_pending() && self.facts[index(*id)].decided) {
            Some((id, _)) => broken(Promise::Stopped, format!("row {id} was settled, and the table does not know")),
            None => Ok(()),
        }
    }
}
