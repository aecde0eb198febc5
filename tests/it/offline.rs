//! Offline is free: a device whose broker cannot be reached writes nothing, and charges nothing to any message.
//!
//! A process has messages to send and nobody to send them to. Once it has settled down, the size and time of its files
//! stand still, and so does what the kernel counts as written by it, through many attempts to connect. When the broker
//! is back, the messages go by themselves.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use edge_outbox::broker::InProcess;
use edge_outbox::{Backoff, LinkState, Message, Outbox, Settings};

use crate::child::{Child, say, wait_for_cue};
use crate::device::{Device, SOON, broker, enqueue, numbered, quick, take, value, wait_for_stats, wait_for_status};
use crate::opening::skipped;

/// Attempts to connect between two looks, each with looks at the database in between.
const ATTEMPTS: u64 = 20;

fn restless() -> Settings {
    let ms = Duration::from_millis;
    Settings { reconnect: Backoff { first: ms(20), longest: ms(20) }, settle_after: ms(200), ..quick() }
}

/// The part of a process whose broker is away. It says, on each cue and `ATTEMPTS` later, what it has written.
pub fn waits(database: &Path) {
    let broker = InProcess::builder().unsubscribed(edge_outbox::broker::in_process::Unsubscribed::Acknowledge).build();
    let outbox = Outbox::builder(database).settings(restless()).broker(broker.clone()).open().unwrap();
    // It was online once, and has sent something.
    enqueue(&outbox, numbered("t", 0..10));
    outbox.flush(SOON).unwrap();
    broker.go_offline();
    enqueue(&outbox, numbered("t", 10..200));
    wait_for_status(&outbox, "the outage", |status| matches!(status.link, LinkState::Offline { .. }));
    count_on_cue(&broker);
}

/// The part of a process that was never online.
pub fn waits_in_vain(database: &Path) {
    let broker = InProcess::new();
    broker.go_offline();
    let outbox = Outbox::builder(database).settings(restless()).broker(broker.clone()).open().unwrap();
    enqueue(&outbox, numbered("t", 0..200));
    wait_for_status(&outbox, "the outage", |status| matches!(status.link, LinkState::Offline { .. }));
    count_on_cue(&broker);
}

fn count_on_cue(broker: &InProcess) {
    while wait_for_cue() {
        let begun = broker.counts().connects;
        assert!(broker.wait_until(SOON, |counts| counts.connects >= begun + ATTEMPTS));
        say(written().map_or("unknown".to_owned(), |bytes| bytes.to_string()));
    }
}

/// Bytes that this process made the kernel write to storage.
fn written() -> Option<u64> {
    let io = fs::read_to_string("/proc/self/io").ok()?;
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok())
}

/// Size and time of every file of the device.
fn files(device: &Device) -> BTreeMap<String, (u64, SystemTime)> {
    let entries = fs::read_dir(device.folder()).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            let about = entry.metadata().unwrap();
            (entry.file_name().into_string().unwrap(), (about.len(), about.modified().unwrap()))
        })
        .collect()
}

#[track_caller]
fn stands_still(part: &str) {
    let device = Device::new();
    let mut child = Child::play(part, &device.database());
    let mut look = || {
        child.cue();
        (child.hear(), files(&device))
    };
    look(); // settles down
    look();
    let (written, files) = look();
    if written == "unknown" {
        skipped("bytes written while offline", "no /proc/self/io here");
    }
    for _ in 0..3 {
        assert_eq!(look(), (written.clone(), files.clone()));
    }
    assert!(files.contains_key("device.db-wal"), "{files:?}");
}

#[test]
fn a_device_that_lost_its_broker_writes_nothing() {
    stands_still("offline::waits");
}

#[test]
fn a_device_that_never_had_a_broker_writes_nothing() {
    stands_still("offline::waits_in_vain");
}

#[test]
fn an_outage_costs_no_message_an_attempt_and_everything_goes_when_it_ends() {
    let device = Device::new();
    let (broker, everything) = broker();
    broker.go_offline();
    let outbox = device.open(broker.clone());
    enqueue(&outbox, numbered("t", 0..100));
    assert!(broker.wait_until(SOON, |counts| counts.connects >= 20));
    let sql = device.sql();
    assert_eq!(value::<i64>(&sql, "SELECT sum(attempts) FROM outbox", []), 0);
    assert_eq!(value::<i64>(&sql, "SELECT count(*) FROM outbox WHERE status = 'PENDING'", []), 100);
    wait_for_stats(&outbox, "100 pending", |stats| stats.pending == 100 && stats.waiting == 0);
    broker.go_online();
    for number in 0..100 {
        assert_eq!(take(&everything), number.to_string());
    }
    outbox.flush(SOON).unwrap();
    assert_eq!(value::<i64>(&sql, "SELECT max(attempts) FROM outbox", []), 1, "its one successful sending");
}

#[test]
fn resuming_tries_a_broker_at_once_that_refused_or_was_not_there() {
    let (device, long) = (Device::new(), Duration::from_secs(3_600));
    let (broker, everything) = broker();
    broker.refuse_sessions("wrong password");
    let settings = Settings { reconnect: Backoff { first: long, longest: long }, ..quick() };
    let outbox = device.open_with(settings, broker.clone());
    enqueue(&outbox, numbered("t", 0..1));
    let begun = Instant::now();
    wait_for_status(&outbox, "the refusal", |status| matches!(status.link, LinkState::Refused { .. }));
    let LinkState::Refused { since, next_try, .. } = outbox.status().link else { panic!("{outbox:?}") };
    assert!(since <= Instant::now() && next_try > begun + long / 4, "{outbox:?}");
    broker.accept_sessions();
    outbox.resume().unwrap();
    assert_eq!(take(&everything), "0");

    broker.go_offline();
    wait_for_status(&outbox, "the outage", |status| matches!(status.link, LinkState::Offline { .. }));
    enqueue(&outbox, numbered("t", 1..2));
    broker.go_online();
    outbox.resume().unwrap();
    assert_eq!(take(&everything), "1");
}

#[test]
fn a_refused_session_is_told_apart_and_costs_nothing_either() {
    let device = Device::new();
    let (broker, everything) = broker();
    broker.refuse_sessions("wrong password");
    let outbox = device.open(broker.clone());
    enqueue(&outbox, [Message::text("t", "p")]);
    wait_for_status(
        &outbox,
        "the refusal",
        |status| matches!(&status.link, LinkState::Refused { why, .. } if why.contains("wrong password")),
    );
    assert!(broker.wait_until(SOON, |counts| counts.connects >= 5));
    assert_eq!(value::<i64>(&device.sql(), "SELECT sum(attempts) FROM outbox", []), 0);
    broker.accept_sessions();
    assert_eq!(take(&everything), "p");
}
