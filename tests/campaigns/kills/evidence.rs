//! What is known about one database, and the verdict.

use std::collections::BTreeSet;

use crate::audit::{self, Told};
use crate::workload::Reading;

/// What is settled together, and the 16 of one row that is looked at more than once: see `Settings::window`.
const SETTLEMENT: u64 = 516;

/// What the witnesses tell of one database, over all its lives.
#[derive(Clone, Default)]
pub struct Evidence {
    /// The program.
    pub told: Told,
    /// The table, as it stands now.
    pub stands: BTreeSet<Reading>,
    /// The network: what was sent, whether it arrived or not.
    pub sent: Vec<Reading>,
    /// Of these, what the broker shed or refused while the connection stood, each time.
    pub delayed: Vec<Reading>,
    /// The broker.
    pub arrived: Vec<Reading>,
    /// What was sent after the outbox had said that nothing of it was pending any more.
    pub sent_again: Vec<Reading>,
    /// What does not read as it was written, and whatever else nobody should see.
    pub strange: Vec<String>,
    pub kills: u64,
    /// Of all lives that were killed: each may have committed once, and not said so.
    pub writers: usize,
    pub window: u64,
}

impl Evidence {
    /// What was broken; everything is sent, and nothing runs.
    pub fn judge(&self) -> Vec<String> {
        let mut broken = self.strange.clone();
        broken.extend(audit::durable(&self.told, &self.stands));
        broken.extend(audit::announced(&self.told, &self.stands, self.writers));
        broken.extend(audit::complete(&self.stands, &self.arrived));
        broken.extend(self.ghosts_on_the_wire());
        broken.extend(audit::in_order("was sent", &self.sent));
        broken.extend(audit::in_order_but(&self.arrived, &self.delayed.iter().copied().collect()));
        broken.extend(self.sent_again.iter().map(|again| format!("{again:?} was settled, and sent again")));
        broken.extend(self.too_many());
        broken
    }

    /// What did not arrive is not to be seen either, if it has no row.
    fn ghosts_on_the_wire(&self) -> Vec<String> {
        let sent: BTreeSet<Reading> = self.sent.iter().copied().collect();
        sent.difference(&self.stands).map(|ghost| format!("{ghost:?} was sent, and is not in biz")).collect()
    }

    fn too_many(&self) -> Vec<String> {
        let interruptions = self.kills + self.told.reconnects;
        let mut broken = audit::repeated(&self.arrived, interruptions, self.window + SETTLEMENT);
        // And by what each kind of interruption may cost: a session that ends, what was in flight; what the broker did
        // not take, itself.
        let allowed = interruptions * self.window + self.kills * SETTLEMENT + self.delayed.len() as u64;
        let repeated = audit::repeats(&self.sent);
        if repeated > allowed {
            broken.push(format!(
                "{repeated} were sent again, where {} kills, {} reconnects and {} refusals explain {allowed}",
                self.kills,
                self.told.reconnects,
                self.delayed.len()
            ));
        }
        broken
    }

    /// For people who want to know what happened.
    pub fn pages(&self) -> [(&'static str, String); 4] {
        let lines = |all: &mut dyn Iterator<Item = &Reading>| -> String {
            all.map(|Reading { id, k, seq }| format!("{id} {k} {seq}\n")).collect()
        };
        [
            ("committed", lines(&mut self.told.committed.iter())),
            ("sent", lines(&mut self.sent.iter())),
            ("delayed", lines(&mut self.delayed.iter())),
            ("arrived", lines(&mut self.arrived.iter())),
        ]
    }
}
