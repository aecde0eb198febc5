//! A shutdown keeps to its time, whatever the disk does.
//!
//! The bounds are wide, for a busy machine: what they tell apart is ending by itself from waiting for the disk.

use std::time::{Duration, Instant};

use edge_outbox::broker::InProcess;
use edge_outbox::rusqlite::{Connection, TransactionBehavior};
use edge_outbox::{Error, Message, Outbox, Role, Storage};

use crate::card::Card;
use crate::device::{Device, SOON, broker, enqueue, next, numbered, take, value, wait_for_status};

const MB: u64 = 1 << 20;
/// What a shutdown is given.
const TIMEOUT: Duration = Duration::from_secs(2);
/// What it may take at most, on the busiest machine.
const BOUND: Duration = Duration::from_secs(20);

/// Does it, and says how long that took.
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let done = work();
    (done, begun.elapsed())
}

/// An outbox whose disk stalls just when the acknowledgements of five messages are to be written down.
fn stalled(device: &Device, card: &Card) -> (Outbox, crate::card::Frozen) {
    let (broker, everything) = broker();
    let outbox = device.open(broker.clone());
    enqueue(&outbox, numbered("t", 0..5));
    let held: Vec<_> = (0..5).map(|_| next(&everything)).collect();
    let frozen = card.freeze();
    held.into_iter().for_each(|arrival| arrival.acknowledge());
    assert!(broker.wait_until(SOON, |counts| counts.acknowledged == 5));
    (outbox, frozen)
}

/// Whoever comes next, when the disk goes on, finds everything, and sends it if nobody could write that it was sent.
#[track_caller]
fn goes_on_with_nothing_lost(device: &Device) {
    let (broker, everything) = broker();
    let outbox = device.open(broker);
    enqueue(&outbox, [Message::text("t", "after")]);
    while take(&everything) != "after" {}
    outbox.flush(SOON).unwrap();
    assert_eq!(value::<i64>(&device.sql(), "SELECT count(*) FROM outbox WHERE status = 'SENT'", []), 6);
}

#[test]
fn a_shutdown_keeps_its_time_while_the_disk_stalls() {
    let Some(card) = Card::ext4(64 * MB) else { return };
    let device = Device::at(card.folder());
    let (outbox, frozen) = stalled(&device, &card);
    let (answer, took) = timed(|| outbox.shutdown(TIMEOUT));
    assert!(matches!(answer, Err(Error::TimedOut { .. })), "{answer:?}");
    assert!(took < BOUND, "{took:?}");
    let (_, took) = timed(|| outbox.status());
    assert!(took < BOUND, "the status after {took:?}");
    drop(frozen);
    wait_for_status(&outbox, "the end of the forwarder", |status| status.role == Role::Stopped);
    drop(outbox);
    goes_on_with_nothing_lost(&device);
}

#[test]
fn dropping_an_outbox_does_not_wait_for_a_disk_that_stalls() {
    let Some(card) = Card::ext4(64 * MB) else { return };
    let device = Device::at(card.folder());
    let (outbox, frozen) = stalled(&device, &card);
    let ((), took) = timed(|| drop(outbox));
    assert!(took < BOUND, "{took:?}");
    drop(frozen);
    goes_on_with_nothing_lost(&device);
}

#[test]
fn dropping_an_outbox_does_not_wait_for_a_lock_that_others_hold() {
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = device.open(broker);
    enqueue(&outbox, numbered("t", 0..5));
    let held: Vec<_> = (0..5).map(|_| next(&everything)).collect();
    let mut other = device.sql();
    let lock = other.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    held.into_iter().for_each(|arrival| arrival.acknowledge());
    wait_for_status(&outbox, "the lock", |status| status.storage == Storage::Busy);
    let ((), took) = timed(|| drop(outbox));
    assert!(took < BOUND, "{took:?}");
    drop(lock);
    goes_on_with_nothing_lost(&device);
}

/// Makes the log 300 MB long, and answers the reader that keeps it from being moved into the database.
fn long_log(device: &Device) -> Connection {
    let reader = device.sql();
    reader.execute_batch("BEGIN; SELECT count(*) FROM outbox").unwrap();
    let writer = device.sql();
    writer
        .execute_batch(
            "PRAGMA synchronous = OFF; PRAGMA wal_autocheckpoint = 0;
             CREATE TABLE film (frame BLOB);
             WITH RECURSIVE frames (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM frames WHERE number < 300)
             INSERT INTO film SELECT zeroblob(1048576) FROM frames;",
        )
        .unwrap();
    let log = std::fs::metadata(device.folder().join("device.db-wal")).unwrap().len();
    assert!(log > 300 * MB, "{log}");
    reader
}

#[test]
fn a_shutdown_keeps_its_time_with_a_log_of_300_mb_that_a_reader_keeps() {
    let device = Device::new();
    let outbox = device.open(InProcess::new());
    let reader = long_log(&device);
    let (answer, took) = timed(|| outbox.shutdown(TIMEOUT));
    assert!(matches!(answer, Ok(()) | Err(Error::TimedOut { .. })), "{answer:?}");
    assert!(took < BOUND, "{took:?}");
    drop(outbox);
    drop(reader);
    let (outbox, took) = timed(|| device.open(InProcess::new()));
    assert!(took < SOON, "opened after {took:?}");
    // Now it is moved into the database, or about to be.
    let ((), took) = timed(|| drop(outbox));
    assert!(took < BOUND, "{took:?}");
}
