//! One lane: databases one after the other, until the kills are used up.

use std::iter;

use super::database::{Database, Plan};
use super::tally::Tally;
use crate::args::Args;
use crate::audit;
use crate::chance::Chance;

pub struct Lane<'a> {
    args: &'a Args,
    number: u64,
    kills: u64,
    pub tally: Tally,
}

impl<'a> Lane<'a> {
    pub fn new(args: &'a Args, number: u64, kills: u64) -> Self {
        Lane { args, number, kills, tally: Tally::default() }
    }

    /// What was broken, which ends it. `progress` is told of kills.
    pub fn run(&mut self, progress: impl Fn(u64)) -> Vec<String> {
        let mut chance = Chance::seeded(self.args.seed.wrapping_mul(1_009).wrapping_add(self.number));
        for turn in self.number.. {
            if self.tally.kills >= self.kills {
                break;
            }
            // Two of three databases before the broker that writes everything down.
            let plan = Plan::draw(&mut chance, turn % 3 == 2);
            let mut database = Database::new(self.args, &plan);
            self.tally.databases += 1;
            for chapter in 0..chance.of(1..=3) {
                let (before, left) = (self.tally.kills, self.kills.saturating_sub(self.tally.kills));
                if left == 0 {
                    break;
                }
                let kills = (chance.of(30..=70) as u64).min(left);
                let broken = database.chapter(kills, &mut self.tally, |_| {});
                progress(self.tally.kills - before);
                if !broken.is_empty() {
                    let place = format!("lane {}, database {}, chapter {chapter}", self.number, self.tally.databases);
                    self.count(&database);
                    let many = format!("{place}: {} in all, {plan:?}; {}", broken.len(), database.keep());
                    return iter::once(many).chain(broken).collect();
                }
            }
            self.count(&database);
        }
        Vec::new()
    }

    fn count(&mut self, database: &Database<'_>) {
        let evidence = &database.evidence;
        self.tally.reconnects += evidence.told.reconnects;
        self.tally.commits += evidence.told.committed.len() as u64;
        self.tally.maybes += evidence.told.maybe.len() as u64;
        self.tally.untold +=
            (evidence.stands.len() - evidence.told.committed.intersection(&evidence.stands).count()) as u64;
        let duplicates = audit::repeats(&evidence.arrived);
        self.tally.messages += evidence.arrived.len() as u64 - duplicates;
        self.tally.duplicates += duplicates;
    }
}
