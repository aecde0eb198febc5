//! As much as may be pending, and no more: who is told, what counts, and that it opens up again by itself.

use std::path::Path;

use edge_outbox::broker::{InProcess, Refusal, Verdict};
use edge_outbox::{Error, Full, Limit, Message, Outbox, Settings};

use crate::child::{Child, say};
use crate::device::{Device, SOON, broker, enqueue, eventually, next, numbered, quick, take, value, wait_for_stats};

fn at_most(messages: u64) -> Settings {
    Settings { max_pending: Some(messages), ..quick() }
}

fn bytes_at_most(bytes: u64) -> Settings {
    Settings { max_pending_bytes: Some(bytes), ..quick() }
}

fn away() -> InProcess {
    let broker = InProcess::new();
    broker.go_offline();
    broker
}

fn try_enqueue(outbox: &Outbox, message: &Message) -> Result<(), Full> {
    match outbox.transaction(|tx| outbox.enqueue(tx, message).map(drop)) {
        Ok(()) => Ok(()),
        Err(Error::Full(full)) => Err(full),
        Err(error) => panic!("{error}"),
    }
}

#[track_caller]
fn is_full(outbox: &Outbox) -> Full {
    try_enqueue(outbox, &Message::text("t", "one more")).unwrap_err()
}

#[test]
fn a_transaction_whose_message_finds_no_room_goes_on_and_commits_the_rest() {
    let device = Device::new();
    let outbox = device.open_with(at_most(2), away());
    device.sql().execute_batch("CREATE TABLE reading (value REAL)").unwrap();
    let mut found = None;
    outbox
        .transaction(|tx| -> Result<(), Error> {
            for message in numbered("t", 0..3) {
                tx.execute("INSERT INTO reading (value) VALUES (1.5)", [])?;
                match outbox.enqueue(tx, &message) {
                    Err(Error::Full(full)) => found = Some(full),
                    other => drop(other?),
                }
            }
            Ok(())
        })
        .unwrap();
    let found = found.unwrap();
    assert_eq!((found.limit, found.found, found.allowed, found.wanted), (Limit::PendingMessages, 2, 2, 1));
    let said = Error::Full(found).to_string();
    assert!(said.contains("max_pending") && said.contains('2'), "{said}");
    assert_eq!(value::<i64>(&device.sql(), "SELECT count(*) FROM reading", []), 3);
    assert_eq!(value::<i64>(&device.sql(), "SELECT count(*) FROM outbox", []), 2);
}

#[test]
fn bytes_are_counted_and_a_smaller_message_may_still_go() {
    let device = Device::new();
    let outbox = device.open_with(bytes_at_most(100), away());
    try_enqueue(&outbox, &Message::new("t", vec![0; 89]).with_key("k")).unwrap();
    assert_eq!(outbox.stats().unwrap().pending_bytes, 91);
    let full = try_enqueue(&outbox, &Message::new("t", vec![0; 9])).unwrap_err();
    assert_eq!((full.limit, full.found, full.allowed, full.wanted), (Limit::PendingBytes, 91, 100, 10));
    try_enqueue(&outbox, &Message::new("t", vec![0; 8])).unwrap();
    assert_eq!((outbox.stats().unwrap().pending, outbox.stats().unwrap().pending_bytes), (2, 100));
}

#[test]
fn it_opens_up_again_by_itself_as_soon_as_messages_are_sent() {
    for settings in [at_most(3), bytes_at_most(6)] {
        let device = Device::new();
        let (broker, everything) = broker();
        broker.go_offline();
        let outbox = device.open_with(settings, broker.clone());
        for round in 0..5 {
            enqueue(&outbox, numbered("t", 0..3));
            is_full(&outbox);
            broker.go_online();
            assert_eq!(take(&everything), "0");
            // one place, while the others are in flight, and nobody has to ask for it
            eventually("room for one", || try_enqueue(&outbox, &Message::text("t", "3")).is_ok());
            let full = try_enqueue(&outbox, &Message::text("t", "4")).unwrap_err();
            assert!(full.found == full.allowed, "round {round}: {full:?}");
            (1..4).for_each(|n| assert_eq!(take(&everything), n.to_string()));
            outbox.flush(SOON).unwrap();
            broker.go_offline();
        }
    }
}

#[test]
fn what_is_flushed_does_not_count_any_more_however_small_the_budget() {
    for retention in [0, 3_600] {
        let device = Device::new();
        let (broker, everything) = broker();
        let retention = std::time::Duration::from_secs(retention);
        let outbox = device.open_with(Settings { retention, max_pending_bytes: Some(6), ..at_most(2) }, broker);
        for _ in 0..300 {
            enqueue(&outbox, numbered("t", 0..2));
            next(&everything).acknowledge();
            next(&everything).acknowledge();
            outbox.flush(SOON).unwrap();
        }
        assert_eq!(outbox.stats().unwrap().pending_bytes, 0);
    }
}

#[test]
fn what_others_write_counts_and_a_second_outbox_keeps_to_its_own_budget() {
    let device = Device::new();
    let outbox = device.open_with(at_most(5), away());
    let writer = Outbox::builder(device.database()).settings(at_most(3)).open().unwrap();
    device
        .sql()
        .execute_batch("INSERT INTO outbox (topic, payload) VALUES ('t', 'p'), ('t', 'p'), ('t', 'p')")
        .unwrap();
    assert_eq!(is_full(&writer).found, 3);
    enqueue(&outbox, numbered("t", 0..2));
    assert_eq!((is_full(&outbox).found, is_full(&writer).found), (5, 5));
    assert_eq!(outbox.stats().unwrap().pending_bytes, 10);
    assert_eq!(writer.stats().unwrap().pending_bytes, 10);
}

/// Played in a process of its own: writes until there is no room.
pub fn fills(database: &Path) {
    let outbox = Outbox::builder(database).settings(at_most(7)).open().unwrap();
    let mut written = 0;
    let full = loop {
        match try_enqueue(&outbox, &Message::text("t", "p")) {
            Ok(()) => written += 1,
            Err(full) => break full,
        }
    };
    say(format!("{written} {} {}", full.found, full.allowed));
}

#[test]
fn another_process_finds_no_room_where_this_one_took_it() {
    let device = Device::new();
    let (broker, everything) = broker();
    broker.go_offline();
    let outbox = device.open_with(at_most(7), broker.clone());
    enqueue(&outbox, numbered("t", 0..3));
    assert_eq!(Child::play("budget::fills", &device.database()).hear(), "4 7 7");
    assert_eq!(is_full(&outbox).found, 7);
    broker.go_online();
    (0..7).for_each(|_| drop(take(&everything)));
    outbox.flush(SOON).unwrap();
    assert_eq!(Child::play("budget::fills", &device.database()).hear(), "7 7 7");
}

#[test]
fn a_budget_survives_a_restart() {
    let device = Device::new();
    for _ in 0..2 {
        let outbox = device.open_with(at_most(3), away());
        while try_enqueue(&outbox, &Message::text("t", "p")).is_ok() {}
        assert_eq!(is_full(&outbox).found, 3);
        outbox.shutdown(SOON).unwrap();
        // without a forwarder too
        is_full(&outbox);
    }
    let (broker, everything) = broker();
    let outbox = device.open_with(at_most(3), broker);
    (0..3).for_each(|_| drop(take(&everything)));
    outbox.flush(SOON).unwrap();
    enqueue(&outbox, numbered("t", 0..3));
}

/// A topic to which nobody subscribes is closed, and its messages are held below the position.
#[test]
fn messages_of_a_closed_topic_count_until_they_are_sent() {
    let device = Device::new();
    let broker = InProcess::new();
    let open = broker.subscribe("open").unwrap();
    let outbox = device.open_with(at_most(1_500), broker.clone());
    enqueue(&outbox, numbered("shut", 0..1_400));
    let shut_bytes: u64 = numbered("shut", 0..1_400).map(|message| message.size() as u64).sum();
    for n in 0..20 {
        enqueue(&outbox, numbered("open", 0..100));
        (0..100).for_each(|number| assert_eq!(take(&open), number.to_string(), "{n}"));
        // until the acknowledgements are written down
        wait_for_stats(&outbox, "room", |stats| stats.pending_bytes == shut_bytes);
    }
    wait_for_stats(&outbox, "all of them wait", |stats| stats.waiting == 1_400 && stats.pending == 1_400);
    enqueue(&outbox, numbered("shut", 1_400..1_500));
    let full = is_full(&outbox);
    assert_eq!((full.found, full.allowed), (1_500, 1_500));

    let shut = broker.subscribe("shut").unwrap();
    for number in 0..1_500 {
        assert_eq!(take(&shut), number.to_string());
    }
    outbox.flush(SOON).unwrap();
    enqueue(&outbox, numbered("open", 0..1_500));
}

#[test]
fn failed_messages_do_not_count_until_they_are_retried() {
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = device.open_with(Settings { max_attempts: 1, ..at_most(2) }, broker.clone());
    enqueue(&outbox, numbered("t", 0..2));
    for _ in 0..2 {
        next(&everything).reject(Refusal::new(Verdict::Never, "no"));
    }
    outbox.flush(SOON).unwrap();
    assert_eq!(outbox.stats().unwrap().failed, 2);
    broker.go_offline();
    enqueue(&outbox, numbered("t", 2..4));
    assert_eq!(is_full(&outbox).found, 2);
    // who asks for a failed message gets it sent, whatever the budget
    outbox.retry(1).unwrap();
    assert_eq!(is_full(&outbox).found, 3);
    outbox.discard(2).unwrap();
    assert_eq!((is_full(&outbox).found, outbox.stats().unwrap().pending_bytes), (3, 6));
}

/// It has to be moved in the space of the reserve once the disk is full, and where nobody forwards nobody else moves it.
#[test]
fn where_nobody_forwards_the_log_grows_no_longer_than_the_reserve() {
    let device = Device::new();
    let settings = Settings { reserve: 1 << 20, ..quick() };
    let outbox = Outbox::builder(device.database()).settings(settings).open().unwrap();
    let message = Message::new("large", vec![b'x'; 100_000]);
    for _ in 0..60 {
        enqueue(&outbox, [message.clone()]);
        let log = std::fs::metadata(device.folder().join("device.db-wal")).unwrap().len();
        assert!(log <= (1 << 20) + 200_000, "{log} bytes");
    }
}
