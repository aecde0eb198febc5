//! A program on a device, in a process of its own: it writes what it measured, and a message about it, in one
//! transaction, and forwards to a broker within it. The test says what it is to do, line by line, and judges by what it
//! answers, by the tables and by what the broker got.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use edge_outbox::broker::InProcess;
use edge_outbox::rusqlite::Connection;
use edge_outbox::{Error, Message, Outbox};

use crate::child::{Child, listen, say};
use crate::device::{Device, SOON, quick, said};
use crate::faults::Faults;

/// Its table.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS reading (number INTEGER PRIMARY KEY)";

/// The part: what it is told, and what it answers to it.
pub fn runs(database: &Path) {
    let broker = InProcess::new();
    let everything = broker.subscribe("#").unwrap();
    let outbox = match Outbox::builder(database).settings(quick()).broker(broker.clone()).open() {
        Ok(outbox) => outbox,
        Err(error) => return say(format!("{error:?}")),
    };
    let arrived = Arc::new(Mutex::new(BTreeSet::new()));
    let arrives = Arc::clone(&arrived);
    thread::spawn(move || {
        for arrival in everything.iter() {
            let number: i64 = said(&arrival).trim_end().parse().unwrap();
            arrives.lock().unwrap().insert(number);
            arrival.acknowledge();
        }
    });
    say("open");
    while let Some(told) = listen() {
        match told.split_once(' ').unwrap_or((&told, "")) {
            ("write", number) => say(write(&outbox, number.parse().unwrap(), SMALL)),
            ("write-large", number) => say(write(&outbox, number.parse().unwrap(), LARGE)),
            ("storage", "") => say(format!("{:?}", outbox.status().storage)),
            ("flush", "") => say(format!("{:?}", outbox.flush(SOON).map_err(|error| error.to_string()))),
            ("offline", "") => say(format!("{:?}", broker.go_offline())),
            ("online", "") => say(format!("{:?}", broker.go_online())),
            ("arrived", "") => {
                let arrived = arrived.lock().unwrap();
                say(arrived.iter().map(i64::to_string).collect::<Vec<_>>().join(" "));
            }
            _ => panic!("{told:?}?"),
        }
    }
}

/// Messages of a transaction, and bytes of each.
type Size = (usize, usize);
const SMALL: Size = (1, 10);
/// More than SQLite keeps in memory: part of it goes to the disk before the commit.
const LARGE: Size = (8, 200_000);

fn write(outbox: &Outbox, number: i64, (messages, bytes): Size) -> String {
    let written = outbox.transaction(|tx| -> Result<(), Error> {
        tx.execute("INSERT INTO reading (number) VALUES (?1)", [number])?;
        for _ in 0..messages {
            outbox.enqueue(tx, &Message::text("t", format!("{number}{}", " ".repeat(bytes))))?;
        }
        Ok(())
    });
    written.map_or_else(|error| format!("{error:?}"), |()| "written".to_owned())
}

/// The program as the test sees it.
pub struct Program {
    child: Child,
    next: i64,
    /// What it was told is written.
    pub written: BTreeSet<i64>,
    /// What may be written or not.
    pub unknown: BTreeSet<i64>,
}

impl Program {
    /// Its table, in the database that it is to use.
    pub fn install(device: &Device) {
        device.sql().execute_batch(TABLE).unwrap();
    }

    #[track_caller]
    pub fn start(device: &Device) -> Self {
        Self::of(Child::play("program::runs", &device.database()))
    }

    #[track_caller]
    pub fn start_with(device: &Device, faults: &Faults) -> Self {
        let preloaded = |command: &mut Command| faults.preload(command);
        Self::of(Child::play_with("program::runs", &device.database(), preloaded))
    }

    /// In the place of a shell that has done something first.
    #[track_caller]
    pub fn start_after(shell: &str, device: &Device) -> Self {
        Self::of(Child::play_after(shell, "program::runs", &device.database()))
    }

    /// After one that is gone, of which it knows what that one wrote.
    #[track_caller]
    pub fn start_again(device: &Device, gone: Program) -> Self {
        let Program { child, next, written, unknown } = gone;
        drop(child);
        Program { next, written, unknown, ..Self::start(device) }
    }

    #[track_caller]
    fn of(mut child: Child) -> Self {
        assert_eq!(child.hear(), "open");
        Program { child, next: 0, written: BTreeSet::new(), unknown: BTreeSet::new() }
    }

    /// Writes the next number, which must succeed.
    #[track_caller]
    pub fn write(&mut self) {
        let answer = self.try_write();
        assert_eq!(answer, "written");
    }

    /// Writes the next number; what was answered.
    pub fn try_write(&mut self) -> String {
        self.write_or_die("write").expect("the program ended without a word")
    }

    pub fn try_write_large(&mut self) -> String {
        self.write_or_die("write-large").expect("the program ended without a word")
    }

    /// Writes the next number; `None` when it died of it.
    pub fn write_or_die(&mut self, how: &str) -> Option<String> {
        self.next += 1;
        self.unknown.insert(self.next);
        self.child.tell(&format!("{how} {}", self.next));
        let answer = self.child.hear_or_end()?;
        if answer == "written" {
            self.written.insert(self.next);
        }
        if !answer.starts_with("MaybeCommitted") {
            self.unknown.remove(&self.next);
        }
        Some(answer)
    }

    /// Writes numbers until one is answered so.
    #[track_caller]
    pub fn write_until(&mut self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + SOON;
        loop {
            let answer = self.try_write();
            if holds(&answer) {
                return answer;
            }
            assert!(Instant::now() < until, "not within {SOON:?}: {what}; the last answer is {answer}");
        }
    }

    #[track_caller]
    pub fn wait_for_storage(&mut self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + SOON;
        loop {
            let storage = self.child.ask("storage");
            if holds(&storage) {
                return storage;
            }
            assert!(Instant::now() < until, "not within {SOON:?}: {what}; it is {storage}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[track_caller]
    pub fn ask(&mut self, words: &str) -> String {
        self.child.ask(words)
    }

    pub fn process(&mut self) -> &mut Child {
        &mut self.child
    }

    #[track_caller]
    pub fn arrived(&mut self) -> BTreeSet<i64> {
        self.child.ask("arrived").split_whitespace().map(|number| number.parse().unwrap()).collect()
    }

    /// Waits until it has sent all it wrote, and looks whether nothing is lost and nothing is too much.
    #[track_caller]
    pub fn settles(&mut self, device: &Device) {
        assert_eq!(self.ask("flush"), "Ok(())");
        let arrived = self.arrived();
        let readings = readings(&device.sql());
        assert_eq!(arrived, readings, "what was sent, and what stands in the table");
        self.judge(&readings);
        let open: i64 =
            device.sql().query_row("SELECT count(*) FROM outbox WHERE status <> 'SENT'", [], |row| row.get(0)).unwrap();
        assert_eq!(open, 0, "all of it is SENT");
    }

    /// What was answered with an error is not there, what was answered with success is.
    #[track_caller]
    pub fn judge(&self, readings: &BTreeSet<i64>) {
        assert!(self.written.is_subset(readings), "lost: {:?}", self.written.difference(readings));
        let possible: BTreeSet<i64> = self.written.union(&self.unknown).copied().collect();
        assert!(readings.is_subset(&possible), "too much: {:?}", readings.difference(&possible));
    }

    /// Waits until it has ended, after its input was closed.
    #[track_caller]
    pub fn end(self) {
        self.child.end();
    }
}

pub fn readings(connection: &Connection) -> BTreeSet<i64> {
    let mut statement = connection.prepare("SELECT number FROM reading").unwrap();
    let numbers = statement.query_map([], |row| row.get(0)).unwrap();
    numbers.map(Result::unwrap).collect()
}
