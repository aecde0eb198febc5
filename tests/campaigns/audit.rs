//! The oracles: what must hold between what the workload said, what its tables hold and what the broker got.
//!
//! 1. Every commit that the application was told of stands in `biz`.
//! 2. Every row of `biz` reached the broker.
//! 3. Nothing reached the broker that has no row in `biz`.
//! 4. The first deliveries of each key are in the order of its commits: seq 1, 2, 3, …
//! 5. Payloads are as they were written.
//! 6. What arrived more than once is at most what one interruption may repeat, times the interruptions.
//! 7. SQLite finds its database in order, and so does the outbox.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use edge_outbox::rusqlite::{self, Connection};
use edge_outbox::{Error, Inspector};

use crate::SOON;
use crate::workload::{Reading, Said};

/// What was said, over all lives of the workload on one database.
#[derive(Clone, Default)]
pub struct Told {
    pub committed: BTreeSet<Reading>,
    pub maybe: BTreeSet<Reading>,
    /// Sessions that were begun anew.
    pub reconnects: u64,
    /// Lives in which the outbox could be opened.
    pub opened: u64,
    /// What reached the in-process broker, in the order in which it did.
    pub got: Vec<Reading>,
    /// Payloads that were not as they had been written.
    pub damaged: Vec<String>,
}

impl Told {
    pub fn note(&mut self, said: &Said) {
        match said {
            Said::Commit(reading) => drop(self.committed.insert(*reading)),
            Said::Maybe(reading) => drop(self.maybe.insert(*reading)),
            Said::Open => self.opened += 1,
            Said::Reconnect => self.reconnects += 1,
            Said::Got(reading) => self.got.push(*reading),
            Said::Damaged(id) => self.damaged.push(id.clone()),
            _ => {}
        }
    }
}

/// All of `biz`.
pub fn readings(connection: &Connection) -> rusqlite::Result<BTreeSet<Reading>> {
    let mut statement = connection.prepare("SELECT id, k, seq FROM biz")?;
    let rows = statement.query_map([], |row| Ok(Reading { id: row.get(0)?, k: row.get(1)?, seq: row.get(2)? }))?;
    rows.collect()
}

/// The same where the table may not be there yet.
pub fn readings_if_any(connection: &Connection) -> rusqlite::Result<BTreeSet<Reading>> {
    let found: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'biz'", [], |row| row.get(0))?;
    if found == 0 { Ok(BTreeSet::new()) } else { readings(connection) }
}

/// Ids are given one by one: where a commit is missing that others follow, so is its id.
pub fn dense(stands: &BTreeSet<Reading>) -> Vec<String> {
    match stands.last() {
        Some(last) if last.id != stands.len() as i64 => {
            vec![format!("{} rows in biz, up to {last:?}: some in between are missing", stands.len())]
        }
        _ => Vec::new(),
    }
}

/// 1: what the application was told is there; and of each key nothing is missing in between.
pub fn durable(told: &Told, stands: &BTreeSet<Reading>) -> Vec<String> {
    let lost = told.committed.difference(stands);
    let mut broken: Vec<String> = lost.map(|lost| format!("{lost:?} was committed, and is not in biz")).collect();
    let mut newest: BTreeMap<i64, BTreeSet<i64>> = BTreeMap::new();
    for Reading { k, seq, .. } in stands {
        if !newest.entry(*k).or_default().insert(*seq) {
            broken.push(format!("seq {seq} of key {k} stands in biz twice"));
        }
    }
    for (k, seqs) in newest {
        if seqs.last().is_some_and(|last| *last != seqs.len() as i64) {
            broken.push(format!("key {k} has {} rows, up to seq {:?}", seqs.len(), seqs.last()));
        }
    }
    broken
}

/// 1 the other way round: what nobody was told of is at most `most`, which were committed as the workload was killed.
/// What was rolled back would be among it.
pub fn announced(told: &Told, stands: &BTreeSet<Reading>, most: usize) -> Vec<String> {
    let unknown = |reading: &&Reading| !told.committed.contains(reading) && !told.maybe.contains(reading);
    let nobodys: Vec<_> = stands.iter().filter(unknown).collect();
    if nobodys.len() <= most {
        return Vec::new();
    }
    vec![format!("nobody was told of {} rows in biz, {most} may be: {:?}", nobodys.len(), nobodys.last())]
}

/// 3, at any time: what arrived has its row.
pub fn without_row(told: &Told, stands: &BTreeSet<Reading>) -> Vec<String> {
    let got: BTreeSet<Reading> = told.got.iter().copied().collect();
    got.difference(stands).map(|ghost| format!("{ghost:?} arrived, and is not in biz")).collect()
}

/// 5.
pub fn intact(told: &Told) -> Vec<String> {
    told.damaged.iter().map(|id| format!("the payload of {id} is not as it was written")).collect()
}

/// 2, 3 and 4, of all that arrived, in the order in which it did.
pub fn delivered(stands: &BTreeSet<Reading>, arrived: &[Reading]) -> Vec<String> {
    let mut broken = complete(stands, arrived);
    broken.extend(in_order("arrived", arrived));
    broken
}

/// 2 and 3, of all that arrived.
pub fn complete(stands: &BTreeSet<Reading>, arrived: &[Reading]) -> Vec<String> {
    let arrived: BTreeSet<Reading> = arrived.iter().copied().collect();
    let ghosts = arrived.difference(stands).map(|ghost| format!("{ghost:?} arrived, and is not in biz"));
    ghosts.chain(stands.difference(&arrived).map(|lost| format!("{lost:?} is in biz, and never arrived"))).collect()
}

/// 4, of all that `happened`, in the order in which it did: to arrive, or to be sent.
pub fn in_order(happened: &str, all: &[Reading]) -> Vec<String> {
    let (mut once, mut newest) = (BTreeSet::new(), BTreeMap::new());
    let mut broken = Vec::new();
    for reading in all.iter().filter(|reading| once.insert(**reading)) {
        let before = newest.insert(reading.k, reading.seq).unwrap_or(0);
        if reading.seq != before + 1 {
            broken.push(format!("{reading:?} {happened} first after seq {before} of its key"));
        }
    }
    broken
}

/// 4 as well, where the broker shed or refused some: those may arrive late, the others not behind a later one.
pub fn in_order_but(arrived: &[Reading], delayed: &BTreeSet<Reading>) -> Vec<String> {
    let (mut once, mut newest) = (BTreeSet::new(), BTreeMap::new());
    let mut broken = Vec::new();
    for reading in arrived.iter().filter(|reading| !delayed.contains(reading) && once.insert(**reading)) {
        let before = newest.entry(reading.k).or_insert(0);
        if reading.seq < *before {
            broken.push(format!("{reading:?} arrived first after seq {before} of its key"));
        }
        *before = reading.seq.max(*before);
    }
    broken
}

/// 6: `most` is what one interruption may repeat.
pub fn repeated(arrived: &[Reading], interruptions: u64, most: u64) -> Vec<String> {
    let repeated = repeats(arrived);
    let allowed = interruptions * most;
    if repeated <= allowed {
        return Vec::new();
    }
    vec![format!("{repeated} arrived again; {allowed} may, {most} for each of {interruptions} interruptions")]
}

/// 2 as the outbox itself has it, once it is drained: nothing waits, and nothing was parked.
pub fn settled(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare("SELECT id, status FROM outbox WHERE status != 'SENT'")?;
    let rows = statement.query_map([], |row| {
        let (id, status): (i64, String) = (row.get(0)?, row.get(1)?);
        Ok(format!("row {id} of the outbox is {status} after it was drained"))
    })?;
    rows.collect()
}

/// How many came again.
pub fn repeats(all: &[Reading]) -> u64 {
    let different: BTreeSet<&Reading> = all.iter().collect();
    (all.len() - different.len()) as u64
}

/// 7, of a database that nobody has open: first by SQLite, which brings it into order after a kill, then by the outbox.
pub fn sound(database: &Path) -> Vec<String> {
    let broken = sound_to_sqlite(database);
    if broken.is_empty() { sound_to_the_outbox(database) } else { broken }
}

fn sound_to_sqlite(database: &Path) -> Vec<String> {
    let check = || -> rusqlite::Result<Vec<String>> {
        let connection = Connection::open(database)?;
        let mut statement = connection.prepare("PRAGMA integrity_check")?;
        statement.query_map([], |row| row.get(0))?.collect()
    };
    match check() {
        Ok(words) if words == ["ok"] => Vec::new(),
        Ok(words) => words.into_iter().map(|word| format!("integrity_check: {word}")).collect(),
        Err(error) => vec![format!("integrity_check: {error}")],
    }
}

/// What the outbox itself finds wrong with the database, if there is one, and an outbox in it.
pub fn sound_to_the_outbox(database: &Path) -> Vec<String> {
    match Inspector::open(database, SOON).and_then(|inspector| inspector.check()) {
        Ok(checked) => checked.findings.iter().map(|finding| format!("check: {}", finding.what)).collect(),
        Err(Error::Missing { .. } | Error::NoOutbox { .. }) => Vec::new(),
        Err(error) => vec![format!("check: {error}")],
    }
}
