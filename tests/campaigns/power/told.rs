//! What the workload said of one database, up to a cut, and what is promised by that.

use std::collections::{BTreeMap, HashSet};

use crate::workload::{Reading, Said};

/// Whose commits are durable once the application is told of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Promise {
    Full,
    Normal,
    Mixed,
}

/// What was said up to the cut, over all that happened to the database.
#[derive(Clone)]
pub struct Told {
    pub promise: Promise,
    /// The database was an application's, which has a table of its own in it, before it had an outbox.
    pub of_application: bool,
    /// What the broker got, in its order.
    pub got: Vec<Reading>,
    /// Processes that were killed, and cuts that another life came after.
    pub kills: u64,
    pub cuts: u64,
    pub once: HashSet<Reading>,
    /// By id.
    pub committed: BTreeMap<i64, Reading>,
    /// Commits of connections that do not sync them.
    normal: HashSet<Reading>,
    /// Up to this id everything has to stand.
    pub floor: i64,
}

impl Told {
    pub fn nothing(promise: Promise, of_application: bool) -> Self {
        Told {
            promise,
            of_application,
            got: Vec::new(),
            kills: 0,
            cuts: 0,
            once: HashSet::new(),
            committed: BTreeMap::new(),
            normal: HashSet::new(),
            floor: 0,
        }
    }

    /// After a cut, which left these rows: what is lost is another's id from now on.
    pub fn after_cut(&self, rows: &[Reading]) -> Self {
        let committed = rows.iter().map(|row| (row.id, *row)).collect();
        let floor = rows.len() as i64;
        Told { committed, floor, cuts: self.cuts + 1, normal: HashSet::new(), ..self.clone() }
    }

    pub fn note(&mut self, said: &Said) -> Result<(), String> {
        match said {
            Said::Normal(reading) => drop(self.normal.insert(*reading)),
            Said::Commit(reading) => {
                self.committed.insert(reading.id, *reading);
                let is_synced = match self.promise {
                    Promise::Full => true,
                    Promise::Normal => false,
                    Promise::Mixed => !self.normal.contains(reading),
                };
                self.floor = self.floor.max(if is_synced { reading.id } else { 0 });
            }
            Said::Got(reading) => self.note_got(*reading),
            Said::Maybe(_) | Said::Damaged(_) => return Err(format!("nothing failed, and it said {said:?}")),
            _ => {}
        }
        Ok(())
    }

    pub fn note_got(&mut self, reading: Reading) {
        self.committed.insert(reading.id, reading);
        self.got.push(reading);
        self.once.insert(reading);
        self.floor = self.floor.max(reading.id);
    }

    /// What it was when a take began, after a cut or nothing; with the take's seed.
    pub fn to_text(&self, seed: u64) -> String {
        let promise = match self.promise {
            Promise::Full => "full",
            Promise::Normal => "normal",
            Promise::Mixed => "mixed",
        };
        let application = u8::from(self.of_application);
        let mut text = format!("{promise} {application} {} {} {seed}\n", self.kills, self.cuts);
        let line = |word, Reading { id, k, seq }: &Reading| format!("{word} {id} {k} {seq}\n");
        text.extend(self.got.iter().map(|got| line("GOT", got)));
        text.extend(self.committed.values().map(|stood| line("COMMIT", stood)));
        text
    }

    pub fn of_text(text: &str) -> Result<(Self, u64), String> {
        let mut lines = text.lines();
        let first: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
        let [promise, application, kills, cuts, seed] = first[..] else { return Err(format!("it begins {first:?}")) };
        let number = |word: &str| word.parse::<u64>().map_err(|why| format!("{word:?}: {why}"));
        let promise = match promise {
            "full" => Promise::Full,
            "normal" => Promise::Normal,
            "mixed" => Promise::Mixed,
            other => return Err(format!("{other:?} is no promise")),
        };
        let mut told = Told::nothing(promise, application == "1");
        (told.kills, told.cuts) = (number(kills)?, number(cuts)?);
        for line in lines {
            match Said::parse(line)? {
                Said::Got(got) => told.note_got(got),
                Said::Commit(stood) => drop(told.committed.insert(stood.id, stood)),
                other => return Err(format!("{other:?} says nothing about the start")),
            }
        }
        // All of it stood on the card.
        told.floor = told.committed.len() as i64;
        Ok((told, number(seed)?))
    }
}
