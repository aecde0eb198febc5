//! What is wrong with a database, in words: what it is, and what to do about it.

use std::path::Path;

use super::Finding;
use crate::store::{DAMAGED, Fault, Flaw, Status};

/// Most findings of one kind that are told one by one: of rows, each of which wants something done, and of SQLite's.
const MOST: u64 = 100;
const MOST_OF_FILE: u64 = 20;

/// Of faults of one kind the first are told one by one; a damaged card may have a million of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Outbox,
    File,
    Unreadable,
    Pending,
    Failed,
    Sent,
    Stranded,
}

const KINDS: [Kind; 7] =
    [Kind::Outbox, Kind::File, Kind::Unreadable, Kind::Pending, Kind::Failed, Kind::Sent, Kind::Stranded];

pub(super) struct Findings<'a> {
    path: &'a Path,
    told: Vec<Finding>,
    found: [u64; KINDS.len()],
}

impl<'a> Findings<'a> {
    pub fn of(path: &'a Path) -> Self {
        Findings { path, told: Vec::new(), found: [0; KINDS.len()] }
    }

    pub fn add(&mut self, fault: Fault) {
        let kind = kind(&fault);
        let found = &mut self.found[kind as usize];
        *found += 1;
        if *found <= most(kind) {
            self.told.push(Finding { what: what(&fault), remedy: remedy(&fault, self.path) });
        }
    }

    /// What was told, and how many of each kind were not.
    pub fn done(mut self) -> Vec<Finding> {
        for kind in KINDS {
            let left = self.found[kind as usize].saturating_sub(most(kind));
            if left > 0 {
                let what = format!("{left} more {}", more(kind));
                self.told.push(Finding { what, remedy: "as for those told one by one".to_owned() });
            }
        }
        self.told
    }
}

fn kind(fault: &Fault) -> Kind {
    match fault {
        Fault::Older { .. }
        | Fault::Schema(_)
        | Fault::State { .. }
        | Fault::Position
        | Fault::Ahead { .. }
        | Fault::Aside { .. } => Kind::Outbox,
        Fault::Integrity { .. } => Kind::File,
        Fault::Unreadable { .. } | Fault::End { .. } | Fault::Broken { .. } | Fault::Misplaced { .. } => {
            Kind::Unreadable
        }
        Fault::Spoiled { status: Some(Status::Failed), .. } => Kind::Failed,
        Fault::Spoiled { status: Some(Status::Sent), .. } => Kind::Sent,
        Fault::Spoiled { status: Some(Status::Pending) | None, .. } => Kind::Pending,
        Fault::Stranded { .. } => Kind::Stranded,
    }
}

fn most(kind: Kind) -> u64 {
    if kind == Kind::File { MOST_OF_FILE } else { MOST }
}

fn more(kind: Kind) -> &'static str {
    match kind {
        Kind::Outbox => "faults of the outbox",
        Kind::File => "faults that SQLite finds in the file",
        Kind::Unreadable => "places where rows cannot be read",
        Kind::Pending => "rows that are to be sent and will be parked as FAILED",
        Kind::Failed => "rows that are FAILED and cannot be sent as they are",
        Kind::Sent => "rows that are SENT and hold what cannot have been sent",
        Kind::Stranded => "rows that are PENDING where no forwarder looks any more",
    }
}

fn what(fault: &Fault) -> String {
    match fault {
        Fault::Older { found, known } => {
            format!("the outbox has schema version {found}, this program's is {known}")
        }
        Fault::Schema(misfit) => {
            let thing = format!("the {} {}", misfit.kind.word(), misfit.name);
            match misfit.flaw {
                Flaw::Missing => format!("{thing} is missing"),
                Flaw::Altered => format!("{thing} is not as the outbox made it: somebody altered it"),
                Flaw::Foreign => format!("{thing} is missing, and something else has its name"),
            }
        }
        Fault::Integrity { said, times: 1 } => format!("SQLite says of the file: {said}"),
        Fault::Integrity { said, times } => format!("SQLite says of the file: {said} ({times} times)"),
        Fault::State { rows } => format!("the table outbox_state has {rows} rows in the place of one"),
        Fault::Position => "the position in outbox_state is no number of a row".to_owned(),
        Fault::Ahead { position, newest } => {
            format!("the position in outbox_state is {position}, ahead of the newest row, {newest}")
        }
        Fault::Aside { rows, bytes } => format!(
            "outbox_state counts the rows that wait or are held, and is wrong: there are {rows}, of {bytes} bytes"
        ),
        Fault::Unreadable { first, last } if first == last => format!("row {first} cannot be read, if it is there"),
        Fault::Unreadable { first, last } => {
            format!("what there is of rows {first} to {last} cannot be read")
        }
        Fault::End { last: 0 } => "no row can be read".to_owned(),
        Fault::End { last } => format!("rows behind row {last} cannot be read, if there are any"),
        Fault::Broken { id } => format!("the content of row {id} cannot be read"),
        Fault::Misplaced { after, rows } => {
            format!(
                "{rows} of the rows behind row {after} do not stand in the order of their ids: their ids are damaged"
            )
        }
        Fault::Spoiled { id, status, why } => {
            let why = why.strip_prefix(DAMAGED).unwrap_or(why);
            match status {
                Some(Status::Pending) => format!("row {id} is PENDING and will be parked as FAILED: {why}"),
                Some(Status::Failed) => format!("row {id} is FAILED and cannot be sent as it is: {why}"),
                Some(Status::Sent) => format!("row {id} is SENT and holds what cannot have been sent: {why}"),
                None => format!("row {id} will be parked as FAILED: {why}"),
            }
        }
        Fault::Stranded { id } => format!(
            "row {id} is PENDING, but outbox_state says that it was dealt with: no forwarder looks at it any more"
        ),
    }
}

fn remedy(fault: &Fault, path: &Path) -> String {
    let file = path.display();
    let recover = || {
        format!(
            "stop all programs that use {file}, keep a copy of it with its -wal and -shm, and recover it as docs/reliability.md \
             tells (\"The database is damaged\"); then replace the card"
        )
    };
    let look_again = || {
        format!(
            "stop the forwarder, then: sqlite3 {file} 'UPDATE outbox_state SET position = 0'; it looks at all rows again"
        )
    };
    match fault {
        Fault::Older { .. } | Fault::Aside { .. } => format!("edge-outbox init {file}"),
        Fault::Schema(misfit) => match (misfit.flaw, misfit.kind.word()) {
            (Flaw::Foreign, word) => format!("drop that, or rename it, then: edge-outbox init {file}; it makes the {word} anew"),
            (_, "table") => format!(
                "compare it with schema.sql, which comes with edge-outbox, and alter it back; or begin a new database and \
                 copy topic, key, headers and payload of the rows that are not SENT ({file} has them)"
            ),
            _ => format!("edge-outbox init {file}"),
        },
        Fault::Integrity { said, .. } if is_of_index(said) => {
            format!("sqlite3 {file} REINDEX; and look after the card, if it happens again")
        }
        Fault::Integrity { said, .. } if is_of_value(said) => {
            "a value that the table does not allow was written past its rules, or by damage: rows of the outbox that cannot \
             be sent for it are told of by their ids"
                .to_owned()
        }
        Fault::Integrity { .. }
        | Fault::Unreadable { .. }
        | Fault::End { .. }
        | Fault::Broken { .. }
        | Fault::Misplaced { .. } => recover(),
        Fault::State { .. } => recover(),
        Fault::Position | Fault::Ahead { .. } | Fault::Stranded { .. } => look_again(),
        Fault::Spoiled { id, status: Some(Status::Failed), .. } => format!(
            "edge-outbox discard {file} {id}; or put it right with an UPDATE, then: edge-outbox retry {file} {id}"
        ),
        Fault::Spoiled { status: Some(Status::Sent), .. } => {
            "none for the message, which is purged in its time; somebody or something wrote over it: look for what".to_owned()
        }
        Fault::Spoiled { id, .. } => format!(
            "put it right with an UPDATE before a forwarder parks it; once it is FAILED: edge-outbox discard {file} {id}"
        ),
    }
}

/// SQLite's words for an index that does not hold what its table does.
fn is_of_index(said: &str) -> bool {
    said.contains("missing from index") || said.contains("entries in index") || said.contains("out of order for index")
}

/// SQLite's words for a value of a wrong type, and for NULL where it must not be.
fn is_of_value(said: &str) -> bool {
    said.contains(" value in ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_bad_rows_take_no_more_words_than_a_hundred() {
        let mut findings = Findings::of(Path::new("device.db"));
        for id in 1..=1_000_000 {
            findings.add(Fault::Spoiled { id, status: Some(Status::Pending), why: "damaged: x".to_owned() });
        }
        findings.add(Fault::Spoiled { id: 1_000_001, status: Some(Status::Failed), why: "damaged: x".to_owned() });
        let told = findings.done();
        assert_eq!(told.len(), 102);
        assert_eq!(told[99].what, "row 100 is PENDING and will be parked as FAILED: x");
        assert_eq!(told[100].what, "row 1000001 is FAILED and cannot be sent as it is: x");
        assert_eq!(told[101].what, "999900 more rows that are to be sent and will be parked as FAILED");
    }
}
