//! The database's files are deleted, moved or replaced under a running program.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edge_outbox::{Error, Inspector, Message, Outbox, Role, Storage};

use crate::device::{
    Device, SOON, broker, enqueue, eventually, next, numbered, quick, said, status_of, take, value, wait_for_stats,
    wait_for_status,
};

fn beside(device: &Device, suffix: &str) -> PathBuf {
    let mut path = device.database().into_os_string();
    path.push(suffix);
    path.into()
}

fn try_enqueue(outbox: &Outbox) -> Result<(), Error> {
    outbox.transaction(|tx| outbox.enqueue(tx, &Message::text("weather", "new")).map(drop))
}

/// Waits until the outbox knows, and takes no more.
#[track_caller]
fn wait_until_refused(outbox: &Outbox, path: &Path) {
    wait_for_status(outbox, "replaced", |status| matches!(status.storage, Storage::Replaced(_)));
    match try_enqueue(outbox) {
        Err(Error::Replaced { path: named }) => assert_eq!(named, path.canonicalize().unwrap_or(path.to_owned())),
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_is_written_into_a_database_that_was_moved_away_and_it_goes_on_when_it_is_back() {
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = device.open(broker);
    enqueue(&outbox, numbered("weather", 0..3));
    for number in 0..3 {
        assert_eq!(take(&everything), number.to_string());
    }
    outbox.flush(SOON).unwrap();
    enqueue(&outbox, numbered("weather", 3..4));
    let in_flight = next(&everything);

    let away = device.folder().join("away.db");
    fs::rename(device.database(), &away).unwrap();
    wait_until_refused(&outbox, &device.database());
    assert_eq!(said(&in_flight), "3");
    in_flight.acknowledge();
    // That it stays unwritten cannot be waited for; that the forwarder has looked again can.
    wait_for_stats(&outbox, "nothing is in flight", |stats| stats.in_flight == 0);
    assert!(matches!(outbox.flush(Duration::from_millis(200)), Err(Error::TimedOut { .. })));
    assert_eq!(outbox.stats().unwrap().sent, 3);

    fs::rename(&away, device.database()).unwrap();
    wait_for_status(&outbox, "ok again", |status| status.storage == Storage::Ok);
    try_enqueue(&outbox).unwrap();
    assert_eq!(take(&everything), "new");
    outbox.flush(SOON).unwrap();
    assert_eq!(outbox.stats().unwrap().sent, 5);
}

#[test]
fn another_database_put_in_the_place_of_ours_is_left_alone() {
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = device.open(broker);
    enqueue(&outbox, numbered("weather", 0..1));
    assert_eq!(take(&everything), "0");
    let other = Device::new();
    let (its_broker, _its_messages) = crate::device::broker();
    drop(other.open(its_broker));
    let content = fs::read(other.database()).unwrap();
    fs::rename(other.database(), device.database()).unwrap();
    wait_until_refused(&outbox, &device.database());
    drop(outbox);
    assert!(fs::read(device.database()).unwrap() == content, "something was written into the other database");
}

#[test]
fn what_only_a_deleted_log_held_is_saved_into_the_database_and_sent_after_the_next_start() {
    let device = Device::new();
    let (broker, _) = broker();
    broker.go_offline();
    let outbox = device.open_with(edge_outbox::Settings { reserve: 0, ..quick() }, broker);
    enqueue(&outbox, numbered("weather", 0..1_000));
    let log = beside(&device, "-wal");
    assert!(fs::metadata(&log).unwrap().len() > 0);

    fs::remove_file(&log).unwrap();
    wait_until_refused(&outbox, &log);
    wait_for_status(&outbox, "the forwarder has ended", |status| status.role == Role::Stopped);
    assert!(matches!(outbox.flush(SOON), Err(Error::Stopped)));
    assert!(matches!(outbox.status().storage, Storage::Replaced(_)));
    drop(outbox);

    let connection = device.sql();
    assert_eq!(value::<i64>(&connection, "SELECT count(*) FROM outbox", []), 1_000);
    assert_eq!(value::<String>(&connection, "PRAGMA integrity_check", []), "ok");
    drop(connection);
    let (broker, everything) = crate::device::broker();
    let outbox = device.open(broker);
    for number in 0..1_000 {
        assert_eq!(take(&everything), number.to_string());
    }
    outbox.flush(SOON).unwrap();
}

#[test]
fn a_log_that_is_deleted_while_somebody_reads_is_saved_when_they_have_done() {
    let device = Device::new();
    let (broker, _) = broker();
    broker.go_offline();
    let outbox = device.open(broker);
    enqueue(&outbox, numbered("weather", 0..10));
    let reader = device.sql();
    reader.execute_batch("BEGIN; SELECT count(*) FROM outbox;").unwrap();
    enqueue(&outbox, numbered("weather", 10..20));
    let log = beside(&device, "-wal");
    fs::remove_file(&log).unwrap();
    wait_until_refused(&outbox, &log);
    reader.execute_batch("ROLLBACK").unwrap();
    wait_for_status(&outbox, "the forwarder has ended", |status| status.role == Role::Stopped);
    drop((reader, outbox));
    assert_eq!(value::<i64>(&device.sql(), "SELECT count(*) FROM outbox", []), 20);
}

#[test]
fn nothing_is_written_once_the_shared_memory_is_another_and_a_restart_goes_on() {
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = device.open(broker);
    enqueue(&outbox, numbered("weather", 0..2));
    assert_eq!(take(&everything), "0");
    let in_flight = next(&everything);
    let shm = beside(&device, "-shm");
    fs::remove_file(&shm).unwrap();
    wait_until_refused(&outbox, &shm);
    in_flight.acknowledge();
    drop(outbox);

    let (broker, everything) = crate::device::broker();
    let outbox = device.open(broker);
    // Settled or not when the file went: what was not comes again.
    outbox.transaction(|tx| -> Result<_, Error> { outbox.enqueue(tx, &Message::text("weather", "last")) }).unwrap();
    let mut came = Vec::new();
    while came.last().is_none_or(|said| said != "last") {
        came.push(take(&everything));
    }
    assert!(came.contains(&"1".to_owned()), "{came:?}");
    outbox.flush(SOON).unwrap();
    assert_eq!((status_of(&device.sql(), 1), status_of(&device.sql(), 2)), ("SENT".to_owned(), "SENT".to_owned()));
}

#[test]
fn an_outbox_that_only_writes_notices_too() {
    let device = Device::new();
    let outbox = device.open_writer();
    try_enqueue(&outbox).unwrap();
    let log = beside(&device, "-wal");
    let away = beside(&device, "-away");
    fs::rename(&log, &away).unwrap();
    eventually("it is noticed", || matches!(try_enqueue(&outbox), Err(Error::Replaced { path }) if path == log));
    fs::rename(&away, &log).unwrap();
    eventually("it is back", || try_enqueue(&outbox).is_ok());
}

/// An outbox of which no connection of the pool has been opened yet: its messages came from elsewhere.
fn without_connections(device: &Device) -> Outbox {
    let (broker, _) = broker();
    broker.go_offline();
    let outbox = device.open(broker);
    let sql = device.sql();
    sql.execute_batch("PRAGMA wal_autocheckpoint = 0; CREATE TABLE reading (value)").unwrap();
    for number in 0..5 {
        sql.execute("INSERT INTO outbox (topic, payload) VALUES ('weather', ?1)", [number.to_string()]).unwrap();
    }
    outbox
}

#[test]
fn nothing_is_begun_in_the_place_of_a_database_that_was_moved_away() {
    let device = Device::new();
    let outbox = without_connections(&device);
    let away = device.folder().join("away.db");
    fs::rename(device.database(), &away).unwrap();
    assert!(matches!(outbox.stats(), Err(Error::Replaced { .. })));
    assert!(matches!(outbox.connection(), Err(Error::Replaced { .. })));
    let written =
        outbox.transaction(|tx| -> Result<_, Error> { Ok(tx.execute("INSERT INTO reading VALUES (1)", [])?) });
    assert!(matches!(written, Err(Error::Replaced { .. })), "{written:?}");
    assert!(!device.database().exists());

    fs::rename(&away, device.database()).unwrap();
    wait_for_status(&outbox, "ok again", |status| status.storage == Storage::Ok);
    assert_eq!(outbox.stats().unwrap().pending, 5);
    try_enqueue(&outbox).unwrap();
}

#[test]
fn what_the_application_writes_is_not_taken_either_once_the_log_is_deleted() {
    let device = Device::new();
    let outbox = without_connections(&device);
    let write =
        || outbox.transaction(|tx| -> Result<_, Error> { Ok(tx.execute("INSERT INTO reading VALUES (1)", [])?) });
    write().unwrap();
    // One connection stands idle in the pool; another one would have to be opened.
    let first = outbox.connection().unwrap();
    let log = beside(&device, "-wal");
    fs::remove_file(&log).unwrap();
    assert!(matches!(outbox.connection(), Err(Error::Replaced { .. })));
    drop(first);
    for _ in 0..3 {
        assert!(matches!(write(), Err(Error::Replaced { .. })));
        wait_for_status(&outbox, "the forwarder has ended", |status| status.role == Role::Stopped);
    }
    assert!(!log.exists());
    drop(outbox);
    let connection = device.sql();
    assert_eq!(value::<i64>(&connection, "SELECT count(*) FROM reading", []), 1);
    assert_eq!(value::<i64>(&connection, "SELECT count(*) FROM outbox", []), 5);
}

/// What is in a log that was left behind is SQLite's to delete as soon as somebody creates a database there.
#[test]
fn a_log_that_lost_its_database_is_not_thrown_away_by_whoever_opens_one_in_its_place() {
    let device = Device::new();
    let outbox = device.open_writer();
    enqueue(&outbox, numbered("kept", 0..3));
    drop(outbox);
    let (elsewhere, log) = (device.folder().join("moved.db"), beside(&device, "-wal"));
    let bytes = fs::read(&log).unwrap();
    fs::rename(device.database(), &elsewhere).unwrap();

    for empty in [false, true] {
        if empty {
            fs::write(device.database(), "").unwrap();
        }
        let refused = [
            Outbox::builder(device.database()).open().map(drop),
            Outbox::builder(device.database()).existing().open().map(drop),
            Inspector::open(device.database(), SOON).map(drop),
        ];
        for refused in refused {
            assert!(matches!(&refused, Err(Error::LogAlone { path }) if *path == log), "{refused:?}");
        }
        assert_eq!(fs::read(&log).unwrap(), bytes);
    }

    // As the error says: to where the database is, under its new name.
    fs::remove_file(device.database()).unwrap();
    fs::rename(&log, device.folder().join("moved.db-wal")).unwrap();
    assert_eq!(Inspector::open(&elsewhere, SOON).unwrap().figures().unwrap().pending, 3);
    assert!(Outbox::builder(device.database()).open().is_ok(), "the place is free");
}
