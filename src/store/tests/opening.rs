use std::fs;
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use super::super::schema::NAMES;
use super::{BUSY, Device, open};
use crate::Error;
use crate::store::{Creation, prepare};

/// A database that is not ours, in rollback mode, and what refuses it must leave of it: every byte.
fn refused(setup: &str) -> Error {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("theirs.db");
    Connection::open(&path).unwrap().execute_batch(setup).unwrap();
    let before = fs::read(&path).unwrap();
    let error = open(&path, BUSY).expect_err("it is refused");
    assert_eq!(fs::read(&path).unwrap(), before, "the file is untouched");
    let files = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(files, 1, "nothing stands beside it");
    error
}

#[test]
fn many_that_open_at_once_create_one_outbox() {
    for round in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("device.db");
        let start = Barrier::new(8);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    start.wait();
                    open(&path, Duration::from_secs(30)).unwrap_or_else(|e| panic!("round {round}: {e:?}"));
                });
            }
        });
        let conn = Connection::open(&path).unwrap();
        let rows: i64 = conn.query_row("SELECT count(*) FROM outbox_state", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 1);
    }
}

#[test]
fn a_connection_syncs_as_it_did_before_its_database_was_put_into_wal_mode() {
    for synchronous in 0..=3 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("device.db");
        let mut conn = Connection::open(&path).unwrap();
        conn.pragma_update(None, "synchronous", synchronous).unwrap();
        prepare(&mut conn, &path, Creation::Allowed, BUSY).unwrap();
        let now: i64 = conn.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
        assert_eq!(now, synchronous);
    }
}

#[test]
fn opening_again_changes_nothing() {
    let device = Device::new();
    device.put_many(3);
    let schema = device.number("PRAGMA schema_version");
    let device = device.reopen();
    assert_eq!(device.number("PRAGMA schema_version"), schema);
    assert_eq!(device.fresh_ids(), [1, 2, 3]);
}

#[test]
fn the_names_we_look_for_are_those_we_make() {
    let device = Device::new();
    let mut statement = device.app.prepare("SELECT name FROM sqlite_schema WHERE name LIKE 'outbox%'").unwrap();
    let made: Vec<String> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(made.len(), NAMES.len());
    for name in &made {
        assert!(NAMES.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn user_version_and_application_id_stay_the_applications() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("device.db");
    let theirs = Connection::open(&path).unwrap();
    theirs.execute_batch("PRAGMA user_version = 7; PRAGMA application_id = 42; CREATE TABLE t (x);").unwrap();
    let conn = open(&path, BUSY).unwrap();
    let number = |sql| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!((number("PRAGMA user_version"), number("PRAGMA application_id")), (7, 42));
}

#[test]
fn a_table_of_somebody_else_is_left_alone() {
    for (setup, name) in [
        ("CREATE TABLE outbox (id, topic, payload)", "outbox"),
        ("CREATE TABLE OUTBOX (id)", "OUTBOX"),
        ("CREATE VIEW outbox AS SELECT 1 AS id", "outbox"),
        ("CREATE TABLE outbox_state (x)", "outbox_state"),
        ("CREATE TABLE t (x); CREATE INDEX outbox_held ON t (x)", "outbox_held"),
        ("CREATE TABLE t (x); CREATE TRIGGER outbox_edited AFTER INSERT ON t BEGIN SELECT 1; END", "outbox_edited"),
    ] {
        match refused(setup) {
            Error::ForeignTable { name: found } => assert_eq!(found, name),
            other => panic!("{setup}: {other:?}"),
        }
    }
}

/// As one made before version 1 was finished may be: it is refused when it is opened, and not in the middle of sending.
#[test]
fn an_outbox_that_lacks_a_column_is_not_taken_for_ours() {
    let schema = include_str!("../../../schema.sql");
    let columns = ["bytes", "total_bytes", "aside", "aside_bytes", "unreadable", "era", "era_age", "uptime"];
    for column in columns {
        let other = |line: &&str| {
            let mut words = line.split_whitespace();
            words.next() != Some(column) || !words.next().is_some_and(|word| word.starts_with("INTEGER"))
        };
        let without = schema.lines().filter(other).collect::<Vec<_>>().join("\n");
        assert_ne!(without, schema);
        match refused(&without) {
            Error::ForeignTable { name } => assert_eq!(name, "outbox"),
            other => panic!("without {column}: {other:?}"),
        }
    }
}

#[test]
fn an_outbox_of_a_newer_program_is_left_alone() {
    let newer = concat!(include_str!("../../../schema.sql"), "UPDATE outbox_state SET version = 9;");
    assert!(matches!(refused(newer), Error::NewerSchema { found: 9, known: 1 }));
}

#[test]
fn a_file_that_is_no_database_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("letter.txt");
    let letter = "Dear database, ".repeat(500);
    fs::write(&path, &letter).unwrap();
    assert!(matches!(open(&path, BUSY), Err(Error::NotADatabase { .. })));
    assert_eq!(fs::read_to_string(&path).unwrap(), letter);
}

#[test]
fn folders_are_not_created() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing/device.db");
    assert!(matches!(open(&path, BUSY), Err(Error::CannotOpen { .. })));
    assert!(!path.parent().unwrap().exists());
    assert!(matches!(open(folder.path(), BUSY), Err(Error::CannotOpen { .. })), "a folder is no file");
}

/// Permission bits do not bind root, whom tests often run as; a connection that was opened for reading binds everybody.
#[test]
fn what_cannot_be_written_is_said_to_be_read_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("device.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    let mut conn = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    assert!(matches!(prepare(&mut conn, &path, Creation::Allowed, BUSY), Err(Error::ReadOnly { .. })));
}

#[test]
fn a_database_in_memory_is_refused() {
    let error = open(Path::new(":memory:"), BUSY).unwrap_err();
    assert!(matches!(&error, Error::NotWal { mode, .. } if mode == "memory"), "{error:?}");
}

#[test]
fn a_database_that_stays_locked_is_busy_after_the_timeout() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("device.db");
    let other = Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE t (x); BEGIN EXCLUSIVE").unwrap();
    let begun = Instant::now();
    assert!(matches!(open(&path, Duration::from_millis(100)), Err(Error::Busy(_))));
    assert!(begun.elapsed() >= Duration::from_millis(100));
    other.execute_batch("COMMIT").unwrap();
    open(&path, BUSY).unwrap();
}
