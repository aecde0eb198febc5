//! Opening: into the application's own file, and into no other.
//!
//! What is not ours is refused in words, and stands afterwards byte for byte as it stood. What is ours is created beside
//! the application's tables, by whoever of several processes comes first.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use edge_outbox::r2d2::Pool;
use edge_outbox::r2d2_sqlite::SqliteConnectionManager;
use edge_outbox::rusqlite::{Connection, TransactionBehavior};
use edge_outbox::{Error, Message, Outbox, Settings};

use crate::child::{Child, say, wait_for_cue};
use crate::device::{Device, SOON, broker, enqueue, quick, take, value};

/// Every file in the folder and what stands in it, but for the index of the log, which holds nothing that lasts, and an
/// empty log.
fn files(device: &Device) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(device.folder()).unwrap().map(|entry| entry.unwrap());
    entries
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .filter(|(name, bytes)| !(name.ends_with("-shm") || name.ends_with("-wal") && bytes.is_empty()))
        .collect()
}

/// Opens, must be refused, and finds every file as it was.
#[track_caller]
fn refused(device: &Device) -> Error {
    let before = files(device);
    let (broker, _) = broker();
    let settings = Settings { busy_timeout: Duration::from_millis(100), ..quick() };
    let error = Outbox::builder(device.database()).settings(settings).broker(broker).open().unwrap_err();
    assert!(files(device) == before, "the files have changed: {:?}", files(device).keys());
    error
}

#[test]
fn a_newer_schema_is_refused_and_the_file_untouched() {
    let device = Device::new();
    drop(device.open_writer());
    device.sql().execute("UPDATE outbox_state SET version = 99", []).unwrap();
    let error = refused(&device);
    assert!(matches!(error, Error::NewerSchema { found: 99, known: 1 }), "{error:?}");
    let words = error.to_string();
    assert!(words.contains("99") && words.contains("upgrade"), "{words}");
}

#[test]
fn a_newer_schema_that_stands_only_in_the_log_is_refused_and_the_log_untouched() {
    let device = Device::new();
    drop(device.open_writer());
    let writer = device.sql();
    writer.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    writer.execute("UPDATE outbox_state SET version = 99", []).unwrap();
    assert!(fs::metadata(device.folder().join("device.db-wal")).unwrap().len() > 0);
    assert!(matches!(refused(&device), Error::NewerSchema { .. }));
    drop(writer);
}

#[test]
fn a_foreign_table_of_our_name_is_refused_and_the_file_untouched() {
    for foreign in [
        "CREATE TABLE outbox (id INTEGER PRIMARY KEY, mail TEXT); INSERT INTO outbox (mail) VALUES ('dear aunt')",
        "CREATE TABLE OutBox (mail TEXT)",
        "CREATE VIEW outbox AS SELECT 1 AS id",
        "CREATE TABLE outbox_state (mood TEXT)",
        "CREATE TABLE letter (id INTEGER, at TEXT); CREATE INDEX outbox_failed ON letter (at)",
    ] {
        let device = Device::new();
        device.sql().execute_batch(foreign).unwrap();
        let error = refused(&device);
        assert!(
            matches!(&error, Error::ForeignTable { name } if name.to_lowercase().starts_with("outbox")),
            "{error:?}"
        );
        assert!(error.to_string().contains("rename"), "{error}");
        let mode: String = value(&device.sql(), "PRAGMA journal_mode", []);
        assert_eq!(mode, "delete", "a refused database keeps its journal mode");
    }
}

#[test]
fn a_file_that_is_no_database_is_refused_and_untouched() {
    let device = Device::new();
    fs::write(device.database(), "dear aunt, ".repeat(1_000)).unwrap();
    let error = refused(&device);
    assert!(matches!(error, Error::NotADatabase { .. }), "{error:?}");
    assert!(error.to_string().contains("device.db"), "{error}");
}

#[test]
fn a_short_text_is_no_database_either() {
    let device = Device::new();
    fs::write(device.database(), "dear aunt").unwrap();
    let error = refused(&device);
    assert!(matches!(error, Error::NotADatabase { .. }), "{error:?}");
}

#[test]
fn an_empty_file_becomes_a_database() {
    let device = Device::new();
    fs::File::create(device.database()).unwrap();
    let (broker, everything) = broker();
    let outbox = device.open(broker);
    enqueue(&outbox, [Message::text("t", "p")]);
    assert_eq!(take(&everything), "p");
}

#[test]
fn a_folder_is_refused_by_name() {
    let device = Device::new();
    fs::create_dir(device.database()).unwrap();
    let error = refused(&device);
    assert!(matches!(error, Error::CannotOpen { .. }), "{error:?}");
    assert!(error.to_string().contains("device.db"), "{error}");
}

#[test]
fn a_folder_that_does_not_exist_is_refused_by_name_and_not_made() {
    let device = Device::new();
    let path = device.folder().join("missing").join("device.db");
    let error = Outbox::builder(&path).open().unwrap_err();
    assert!(matches!(error, Error::CannotOpen { .. }), "{error:?}");
    assert!(error.to_string().contains("missing"), "{error}");
    assert!(!device.folder().join("missing").exists());
}

#[test]
fn a_database_in_memory_is_refused() {
    for path in [":memory:", ""] {
        let error = Outbox::builder(path).open().unwrap_err();
        assert!(matches!(error, Error::NotWal { .. }), "{path:?}: {error:?}");
    }
}

#[test]
fn settings_out_of_range_are_told_all_at_once_and_nothing_is_created() {
    let device = Device::new();
    let settings = Settings { window: 0, max_attempts: 0, poll_interval: Duration::ZERO, ..quick() };
    let error = Outbox::builder(device.database()).settings(settings).open().unwrap_err();
    assert!(matches!(&error, Error::Settings(wrong) if wrong.len() == 3), "{error:?}");
    assert!(!device.database().exists());
}

#[test]
fn what_may_not_be_written_is_refused_and_untouched() {
    for (what, file, folder) in [("file", 0o444, 0o777), ("folder", 0o666, 0o555)] {
        for ours in [true, false] {
            let device = Device::new();
            if ours {
                drop(device.open_writer());
                // The log goes into the file, and with it away.
                let sql = device.sql();
                value::<i64>(&sql, "PRAGMA wal_checkpoint(TRUNCATE)", []);
                drop(sql);
            } else {
                device.sql().execute_batch("CREATE TABLE reading (value REAL)").unwrap();
            }
            fs::set_permissions(device.database(), fs::Permissions::from_mode(file)).unwrap();
            fs::set_permissions(device.folder(), fs::Permissions::from_mode(folder)).unwrap();
            let before = files(&device);
            // Nothing is forbidden to root, so somebody else is asked to try.
            let heard = Child::play_as_nobody("opening::opens", &device.database()).map(|mut child| {
                child.cue();
                child.hear()
            });
            let after = files(&device);
            fs::set_permissions(device.folder(), fs::Permissions::from_mode(0o700)).unwrap();
            match heard {
                Ok(said) => assert!(said.contains("cannot be written to"), "a {what} that may not be written: {said}"),
                Err(error) => skipped("a read-only database", &format!("no process of another user: {error}")),
            }
            assert!(before == after, "a {what} that may not be written has changed");
        }
    }
}

/// Past the test harness, which would keep what a test says that passes.
pub fn skipped(what: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}: {why}");
}

/// The part of a process that opens, on cue, as others do at the same time, and writes one message.
pub fn opens(database: &Path) {
    wait_for_cue();
    let settings = Settings { busy_timeout: SOON, ..quick() };
    let opened = Outbox::builder(database).settings(settings).open();
    let written = opened.and_then(|outbox| {
        outbox.transaction(|tx| outbox.enqueue(tx, &Message::text("t", std::process::id().to_string())))
    });
    match written {
        Ok(_) => say("written"),
        Err(error) => say(error),
    }
}

#[test]
fn several_processes_that_open_a_new_file_at_once_all_get_in() {
    for round in 0..3 {
        let device = Device::new();
        if round == 1 {
            device.sql().execute_batch("PRAGMA user_version = 7; CREATE TABLE reading (value REAL)").unwrap();
        }
        let mut children: Vec<_> = (0..5).map(|_| Child::play("opening::opens", &device.database())).collect();
        children.iter_mut().for_each(Child::cue);
        let said: Vec<String> = children.iter_mut().map(Child::hear).collect();
        assert!(said.iter().all(|said| said == "written"), "{said:?}");
        children.into_iter().for_each(Child::end);
        assert_eq!(value::<i64>(&device.sql(), "SELECT count(*) FROM outbox", []), 5);
        assert_eq!(value::<String>(&device.sql(), "PRAGMA integrity_check", []), "ok");
    }
}

#[test]
fn the_applications_own_version_and_tables_stay_as_they_are() {
    let device = Device::new();
    device
        .sql()
        .execute_batch(
            "PRAGMA user_version = 42; PRAGMA application_id = 1234;
             CREATE TABLE reading (value REAL); INSERT INTO reading VALUES (21.5);",
        )
        .unwrap();
    let (broker, everything) = broker();
    let outbox = device.open(broker);
    enqueue(&outbox, [Message::text("t", "p")]);
    assert_eq!(take(&everything), "p");
    drop(outbox);
    let sql = device.sql();
    assert_eq!(value::<i64>(&sql, "PRAGMA user_version", []), 42);
    assert_eq!(value::<i64>(&sql, "PRAGMA application_id", []), 1234);
    assert_eq!(value::<f64>(&sql, "SELECT value FROM reading", []), 21.5);
    assert_eq!(value::<String>(&sql, "PRAGMA journal_mode", []), "wal");
}

#[test]
fn opening_again_finds_what_was_left() {
    let device = Device::new();
    enqueue(&device.open_writer(), [Message::text("t", "from yesterday")]);
    let (broker, everything) = broker();
    let _outbox = device.open(broker);
    assert_eq!(take(&everything), "from yesterday");
}

#[test]
fn a_database_that_another_program_locks_is_busy_after_the_time_that_was_set() {
    let device = Device::new();
    let mut other = device.sql();
    other.execute_batch("CREATE TABLE reading (value REAL)").unwrap();
    let lock = other.transaction_with_behavior(TransactionBehavior::Exclusive).unwrap();
    let settings = Settings { busy_timeout: Duration::from_millis(100), ..quick() };
    let begun = Instant::now();
    let error = Outbox::builder(device.database()).settings(settings).open().unwrap_err();
    assert!(matches!(error, Error::Busy(_)), "{error:?}");
    assert!(begun.elapsed() < SOON / 4, "{:?}", begun.elapsed());
    drop(lock);
    device.open_writer();
}

#[test]
fn the_hook_runs_on_every_connection_before_anything_else() {
    let device = Device::new();
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let outbox = Outbox::builder(device.database())
        .settings(quick())
        .on_connect(move |connection: &mut Connection| {
            counted.fetch_add(1, Ordering::SeqCst);
            connection.execute_batch("PRAGMA foreign_keys = OFF; CREATE TEMP TABLE greeting AS SELECT 'hello' AS word")
        })
        .open()
        .unwrap();
    assert_eq!(runs.load(Ordering::SeqCst), 1, "on the forwarder's");
    let (one, other) = (outbox.connection().unwrap(), outbox.connection().unwrap());
    for connection in [&one, &other] {
        assert_eq!(value::<String>(connection, "SELECT word FROM greeting", []), "hello");
        assert!(!value::<bool>(connection, "PRAGMA foreign_keys", []), "what the hook said stays");
    }
    assert_eq!(runs.load(Ordering::SeqCst), 3);
}

#[test]
fn an_error_of_the_hook_is_the_error_of_open() {
    let device = Device::new();
    let opened =
        Outbox::builder(device.database()).on_connect(|connection| connection.execute_batch("nonsense")).open();
    let error = opened.unwrap_err();
    assert!(matches!(error, Error::Sqlite(_)), "{error:?}");
}

#[test]
fn the_applications_own_pool_is_used_and_its_connections_are_left_as_they_are() {
    let device = Device::new();
    let manager = SqliteConnectionManager::file(device.database())
        .with_init(|connection| connection.execute_batch("PRAGMA busy_timeout = 1234; PRAGMA cache_size = -999;"));
    let pool = Pool::builder().max_size(3).build(manager).unwrap();
    let (broker, everything) = broker();
    let outbox = Outbox::builder(device.database()).settings(quick()).pool(pool.clone()).broker(broker).open().unwrap();
    enqueue(&outbox, [Message::text("t", "p")]);
    assert_eq!(take(&everything), "p");
    let connection = outbox.connection().unwrap();
    assert_eq!(value::<i64>(&connection, "PRAGMA cache_size", []), -999);
    assert_eq!(value::<i64>(&connection, "PRAGMA busy_timeout", []), 1234);
    assert_eq!(pool.state().connections - pool.state().idle_connections, 1);
}

#[test]
fn a_pool_on_another_file_is_told_at_the_first_message() {
    let device = Device::new();
    let other = device.folder().join("other.db");
    drop(Outbox::builder(&other).open().unwrap());
    let pool = Pool::builder().max_size(1).build(SqliteConnectionManager::file(&other)).unwrap();
    let outbox = Outbox::builder(device.database()).settings(quick()).pool(pool).open().unwrap();
    let answer = outbox.transaction(|tx| outbox.enqueue(tx, &Message::text("t", "p")));
    assert!(matches!(answer, Err(Error::OtherDatabase { .. })), "{answer:?}");
}
