//! Order, bounds and patience, as somebody sees them who only writes messages and listens to the broker.
//!
//! Commit order is send order, through threads that write at once, a link that breaks, refusals and restarts. No more
//! is in flight than was set, and no clock but the monotonic one has a say in any of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering as Memory};
use std::thread;
use std::time::Duration;

use edge_outbox::broker::{Refusal, Verdict};
use edge_outbox::rusqlite::TransactionBehavior;
use edge_outbox::{Backoff, ClosedTopics, Error, Message, Ordering, Outbox, Settings};

use crate::device::{
    Device, SOON, broker, enqueue, eventually, next, numbered, quick, said, status_of, take, value, wait_for_stats,
};

const THREADS: usize = 4;
const EACH: usize = 200;

/// One thread of the program: every third transaction is rolled back, every fifth is on a connection of its own.
fn write(device: &Device, outbox: &Outbox, writer: usize) {
    let mut own = device.sql();
    for number in 0..EACH {
        let message = Message::text("reading", format!("{writer} {number}")).with_key(writer.to_string());
        let change_of_mind = number % 3 == 2;
        if number % 5 == 4 {
            let tx = own.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
            outbox.enqueue(&tx, &message).unwrap();
            if !change_of_mind {
                outbox.commit(tx).unwrap();
            }
        } else {
            let written = outbox.transaction(|tx| -> Result<(), Error> {
                outbox.enqueue(tx, &message)?;
                if change_of_mind { Err(Error::Stopped) } else { Ok(()) }
            });
            assert_eq!(written.is_err(), change_of_mind, "{written:?}");
        }
    }
}

#[test]
fn threads_that_write_at_once_over_a_flapping_link_lose_nothing_and_keep_the_order_of_commits() {
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = device.open(broker.clone());
    let done = AtomicBool::new(false);
    let mut arrived = BTreeMap::new();
    thread::scope(|scope| {
        let writers: Vec<_> = (0..THREADS)
            .map(|writer| {
                let (device, outbox) = (&device, &outbox);
                scope.spawn(move || write(device, outbox, writer))
            })
            .collect();
        scope.spawn(|| {
            let mut cuts = 0;
            while !done.load(Memory::Acquire) && cuts < 20 {
                let received = broker.counts().received;
                broker.wait_until(Duration::from_millis(500), |counts| counts.received > received + 40);
                broker.break_sessions();
                cuts += 1;
            }
        });
        let expected = THREADS * EACH - THREADS * (EACH / 3);
        while arrived.len() < expected {
            let arrival = next(&everything);
            arrived.insert(arrival.id, said(&arrival));
            arrival.acknowledge();
        }
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Memory::Release);
    });
    // A message in flight at the last cut may come once more, and then somebody has to acknowledge it.
    thread::scope(|scope| {
        let flushed = scope.spawn(|| outbox.flush(SOON));
        while !flushed.is_finished() {
            if let Ok(arrival) = everything.recv_timeout(Duration::from_millis(5)) {
                assert!(arrived.contains_key(&arrival.id), "a message that was rolled back");
                arrival.acknowledge();
            }
        }
        flushed.join().unwrap().unwrap();
    });
    let mut known = BTreeSet::new();
    let sent: Vec<_> = broker.seen().iter().map(|seen| seen.id.row()).filter(|row| known.insert(*row)).collect();
    assert!(sent.is_sorted(), "first sendings are in the order of commits");
    for writer in 0..THREADS {
        let committed = (0..EACH).filter(|number| number % 3 != 2).map(|number| format!("{writer} {number}"));
        let of_writer = arrived.values().filter(|said| said.starts_with(&format!("{writer} ")));
        assert!(of_writer.cloned().eq(committed), "the messages of writer {writer}");
    }
    let sql = device.sql();
    assert_eq!(value::<i64>(&sql, "SELECT count(*) FROM outbox WHERE status <> 'SENT'", []), 0);
    assert_eq!(value::<String>(&sql, "PRAGMA integrity_check", []), "ok");
}

#[test]
fn a_key_that_waits_keeps_its_order_through_a_restart() {
    let device = Device::new();
    let (broker, everything) = broker();
    broker.refuse("slow", Refusal::new(Verdict::Later, "busy"), 1).unwrap();
    let patient = Backoff { first: Duration::from_secs(3600), longest: Duration::from_secs(3600) };
    let outbox = device.open_with(Settings { retry: patient, window: 1, ..quick() }, broker.clone());
    enqueue(&outbox, numbered("slow", 0..20).map(|message| message.with_key("k")));
    enqueue(&outbox, [Message::text("other", "passes").with_key("other")]);
    assert_eq!(take(&everything), "passes");
    let sql = device.sql();
    eventually("the key stands aside in the table", || {
        value::<i64>(&sql, "SELECT count(*) FROM outbox WHERE held_by = 'key k'", []) == 20
    });
    outbox.shutdown(SOON).unwrap();
    drop(outbox);

    // What waits, waits again after a restart; a short wait here.
    sql.execute("UPDATE outbox SET wait_ms = 1 WHERE wait_ms > 0", []).unwrap();
    let outbox = device.open(broker);
    enqueue(&outbox, [Message::text("slow", "20").with_key("k")]);
    for number in 0..=20 {
        assert_eq!(take(&everything), number.to_string());
    }
    outbox.flush(SOON).unwrap();
    wait_for_stats(&outbox, "none waits", |stats| stats.waiting == 0 && stats.pending == 0);
}

#[test]
fn strict_order_has_one_message_of_a_key_in_flight_and_lets_other_keys_pass() {
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = device.open_with(Settings { ordering: Ordering::Strict, ..quick() }, broker);
    let keyed = |key: &str| Message::text("t", key).with_key(key);
    enqueue(&outbox, [keyed("a"), keyed("a"), keyed("b"), keyed("b"), Message::text("t", "none")]);
    let (a, b, none) = (next(&everything), next(&everything), next(&everything));
    assert_eq!([said(&a), said(&b), said(&none)], ["a", "b", "none"]);
    assert_eq!(outbox.stats().unwrap().pending, 5);
    b.acknowledge();
    assert_eq!(take(&everything), "b", "while the first `a` is still in flight");
    a.acknowledge();
    assert_eq!(take(&everything), "a");
    none.acknowledge();
    outbox.flush(SOON).unwrap();
}

#[test]
fn no_more_messages_are_in_flight_than_the_window() {
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = device.open_with(Settings { window: 3, ..quick() }, broker.clone());
    enqueue(&outbox, numbered("t", 0..20));
    let mut held: Vec<_> = (0..3).map(|_| next(&everything)).collect();
    for number in 3..20 {
        assert_eq!(broker.counts().in_flight, 3);
        held.remove(0).acknowledge();
        held.push(next(&everything));
        assert_eq!(said(&held[2]), number.to_string());
    }
    held.into_iter().for_each(|arrival| arrival.acknowledge());
    outbox.flush(SOON).unwrap();
}

#[test]
fn no_more_bytes_are_in_flight_than_the_window_and_a_larger_message_goes_alone() {
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = device.open_with(Settings { window_bytes: 1_000, ..quick() }, broker.clone());
    let of = |bytes: usize| Message::new("t", vec![0; bytes]);
    enqueue(&outbox, [of(400), of(400), of(5_000), of(400)]);
    let (one, two) = (next(&everything), next(&everything));
    assert_eq!(broker.counts().in_flight, 2);
    one.acknowledge();
    two.acknowledge();
    let large = next(&everything);
    assert_eq!((large.message.payload.len(), broker.counts().in_flight), (5_000, 1));
    large.acknowledge();
    assert_eq!(next(&everything).message.payload.len(), 400);
}

#[test]
fn a_message_refused_too_often_is_parked_and_its_key_goes_on() {
    let device = Device::new();
    let (broker, everything) = broker();
    broker.refuse("slow", Refusal::new(Verdict::Later, "quota exceeded"), 3).unwrap();
    let outbox = device.open_with(Settings { max_attempts: 3, ..quick() }, broker);
    enqueue(&outbox, [Message::text("slow", "p").with_key("k"), Message::text("t", "q").with_key("k")]);
    // While it waits for its next attempt, or at once where both were on their way.
    assert_eq!(take(&everything), "q");
    outbox.flush(SOON).unwrap();
    let failed = outbox.failed(0, 10).unwrap();
    assert_eq!((failed.len(), failed[0].attempts), (1, 3));
    assert!(failed[0].reason.contains("quota exceeded"), "{}", failed[0].reason);
    outbox.retry(1).unwrap();
    assert_eq!(take(&everything), "p");
}

#[test]
fn messages_of_a_closed_topic_are_parked_where_that_was_set() {
    let device = Device::new();
    let (broker, everything) = broker();
    broker.close_topic("closed", "not authorised").unwrap();
    let outbox = device.open_with(Settings { closed_topics: ClosedTopics::Park, ..quick() }, broker);
    enqueue(&outbox, [Message::text("closed", "p"), Message::text("t", "q")]);
    assert_eq!(take(&everything), "q");
    outbox.flush(SOON).unwrap();
    let failed = outbox.failed(0, 10).unwrap();
    assert_eq!(failed.len(), 1);
    assert!(failed[0].reason.contains("not authorised"), "{}", failed[0].reason);
}

#[test]
fn thousands_of_rows_reopened_at_once_are_all_sent_again() {
    const ROWS: usize = 3_000;
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = device.open(broker);
    enqueue(&outbox, numbered("t", 0..ROWS));
    (0..ROWS).for_each(|_| drop(take(&everything)));
    outbox.flush(SOON).unwrap();
    let sql = device.sql();
    sql.execute("UPDATE outbox SET status = 'PENDING'", []).unwrap();
    let again: BTreeSet<String> = (0..ROWS).map(|_| take(&everything)).collect();
    assert_eq!(again.len(), ROWS);
    outbox.flush(SOON).unwrap();
    assert_eq!(value::<i64>(&sql, "SELECT count(*) FROM outbox WHERE status <> 'SENT'", []), 0);
    wait_for_stats(&outbox, "none waits", |stats| stats.waiting == 0 && stats.pending == 0);
}

#[test]
fn a_clock_that_jumps_changes_neither_order_nor_whether_anything_is_sent() {
    let device = Device::new();
    let writer = device.open_writer();
    enqueue(&writer, numbered("t", 0..5));
    let sql = device.sql();
    // Written in 1970, and in the year 2200.
    sql.execute("UPDATE outbox SET created_at = 0, status_at = 0 WHERE id IN (2, 4)", []).unwrap();
    sql.execute("UPDATE outbox SET created_at = 7258118400000, status_at = 7258118400000 WHERE id IN (1, 5)", [])
        .unwrap();
    assert_eq!(writer.stats().unwrap().oldest_pending, Some(Duration::ZERO), "from the future: not old");
    let (broker, everything) = broker();
    let outbox = device.open(broker);
    for number in 0..5 {
        assert_eq!(take(&everything), number.to_string());
    }
    outbox.flush(SOON).unwrap();
    assert_eq!(status_of(&sql, 5), "SENT");
}

#[test]
fn a_row_discarded_by_hand_before_it_was_sent_is_not_waited_for() {
    let device = Device::new();
    let (broker, everything) = broker();
    broker.go_offline();
    let outbox = device.open(broker.clone());
    enqueue(&outbox, numbered("t", 0..5));
    let sql = device.sql();
    sql.execute("DELETE FROM outbox WHERE id IN (1, 3)", []).unwrap();
    sql.execute("UPDATE outbox SET status = 'SENT' WHERE id = 4", []).unwrap();
    broker.go_online();
    assert_eq!([take(&everything), take(&everything)], ["1", "4"]);
    outbox.flush(SOON).unwrap();
    assert_eq!(broker.counts().received, 2);
}
