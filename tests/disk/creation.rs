//! Programs that are killed while they create the outbox in a database.
//!
//! Whenever it happens: the next program gets in, and until then the outbox is there as a whole or not at all. What the
//! application has in its tables is not touched.

use std::ops::RangeInclusive;
use std::path::Path;
use std::thread;
use std::time::Instant;

use edge_outbox::rusqlite::Connection;
use edge_outbox::{Message, Outbox};

use crate::child::{Child, listen, say};
use crate::device::{Device, broker, enqueue, quick, take, value};
use crate::faults::{ANY_CALL, ANY_FILE, Does, Faults};

/// What the database is before.
const DATABASES: [(&str, &str); 3] = [
    ("no file", ""),
    (
        "a rollback journal",
        "PRAGMA user_version = 7; CREATE TABLE reading (value REAL); INSERT INTO reading VALUES (21.5)",
    ),
    (
        "a write-ahead log",
        "PRAGMA journal_mode = WAL; PRAGMA user_version = 7;
         CREATE TABLE reading (value REAL); INSERT INTO reading VALUES (21.5)",
    ),
];

/// The part of a process that opens, on cue.
pub fn opens(database: &Path) {
    say("ready");
    listen();
    let _outbox = Outbox::builder(database).settings(quick()).open().unwrap();
    say("open");
    listen();
}

fn prepared(setup: &str) -> Device {
    let device = Device::new();
    if !setup.is_empty() {
        let connection = Connection::open(device.database()).unwrap();
        connection.execute_batch(setup).unwrap();
        // A program that is killed leaves its log, one that closes it does not.
        std::mem::forget(connection);
    }
    device
}

/// What must hold after the kill, and that the next one gets in.
#[track_caller]
fn is_whole_or_absent(device: &Device, setup: &str, when: &str) {
    let sql = device.sql();
    let ours: i64 = value(&sql, "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'outbox%'", []);
    assert!(WHOLE.contains(&ours) || ours == 0, "{when}: {ours} of our names");
    drop(sql);
    let (broker, everything) = broker();
    let outbox = device.open(broker);
    enqueue(&outbox, [Message::text("t", "p")]);
    assert_eq!(take(&everything), "p", "{when}");
    drop(outbox);
    let sql = device.sql();
    assert_eq!(value::<String>(&sql, "PRAGMA integrity_check", []), "ok", "{when}");
    if !setup.is_empty() {
        assert_eq!(value::<i64>(&sql, "PRAGMA user_version", []), 7, "{when}");
        assert_eq!(value::<f64>(&sql, "SELECT value FROM reading", []), 21.5, "{when}");
    }
}

/// Tables, indexes and triggers of a whole outbox: no less, and room for a few more.
const WHOLE: RangeInclusive<i64> = 13..=20;

#[test]
fn a_program_killed_at_any_write_of_the_creation_leaves_all_of_the_outbox_or_nothing() {
    for (database, setup) in DATABASES {
        let mut number = 0;
        loop {
            number += 1;
            let device = prepared(setup);
            let faults = Faults::new();
            let mut child = Child::play_with("creation::opens", &device.database(), |command| faults.preload(command));
            assert_eq!(child.hear(), "ready");
            faults.some(Does::Kill, ANY_CALL, ANY_FILE, number, 1);
            child.cue();
            let killed = child.hear_or_end().is_none();
            child.kill();
            is_whole_or_absent(&device, setup, &format!("{database}, killed at call {number}"));
            if !killed {
                break;
            }
        }
        // Fewer, and the calls are not those of SQLite.
        assert!(number > 10, "{database}: only {number} calls");
    }
}

#[test]
fn a_program_killed_at_any_moment_of_the_creation_leaves_all_of_the_outbox_or_nothing() {
    let mut absent = 0;
    // How long it takes here, to spread the moments over it.
    let device = Device::new();
    let mut child = Child::play("creation::opens", &device.database());
    assert_eq!(child.hear(), "ready");
    let begun = Instant::now();
    child.cue();
    assert_eq!(child.hear(), "open");
    let takes = begun.elapsed();
    for round in 0..100 {
        let (database, setup) = DATABASES[round % DATABASES.len()];
        let device = prepared(setup);
        let mut child = Child::play("creation::opens", &device.database());
        assert_eq!(child.hear(), "ready");
        child.cue();
        thread::sleep(takes * u32::try_from(round).unwrap() / 80);
        child.kill();
        if !device.database().exists() || {
            let sql = device.sql();
            value::<i64>(&sql, "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'outbox%'", []) == 0
        } {
            absent += 1;
        }
        is_whole_or_absent(&device, setup, &format!("{database}, round {round}"));
    }
    println!("{absent} of 100 were killed before the commit, of {takes:?}");
}
