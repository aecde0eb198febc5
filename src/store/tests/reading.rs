use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::{Device, Fate, MAX_PAYLOAD, NOW, held, spoiled, waiting};
use crate::store::Lane;
use crate::{Error, Message};

fn key(key: &str) -> Lane {
    Lane::Key(key.into())
}

#[test]
fn fresh_rows_come_in_order_until_rows_or_bytes_are_reached() {
    let device = Device::new();
    for _ in 0..5 {
        device.put(&Message::new("t", vec![0; 99])); // 100 bytes with the topic
    }
    let ids = |after, rows, bytes| {
        let read = device.store.read_fresh(after, rows, bytes, false, MAX_PAYLOAD).unwrap();
        read.iter().map(|(row, _)| row.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(0, 3, usize::MAX), [1, 2, 3]);
    assert_eq!(ids(3, 3, usize::MAX), [4, 5]);
    assert!(ids(5, 3, usize::MAX).is_empty());
    assert_eq!(ids(0, 9, 200), [1, 2]);
    assert_eq!(ids(0, 9, 201), [1, 2, 3], "the row that reaches it is included");
    assert_eq!(ids(0, 9, 1), [1]);
}

#[test]
fn a_payload_above_the_limit_is_named_and_not_loaded() {
    let device = Device::new();
    device.put(&Message::new("big", vec![0; 1_001]));
    device.put(&Message::new("fits", vec![0; 1_000]));
    let read = device.store.read_fresh(0, 9, usize::MAX, false, 1_000).unwrap();
    assert!(spoiled(&read[0].1).contains("1001 bytes"), "{}", spoiled(&read[0].1));
    assert_eq!(read[0].0.size, 1_004);
    super::message(&read[1].1);
}

#[test]
fn rows_in_lanes_are_not_fresh_and_a_key_knows_its_lane() {
    let mut device = Device::new();
    for k in ["a", "b", "a", "b"] {
        device.put(&Message::text("t", "p").with_key(k));
    }
    device.settle(NOW, &[(1, waiting(Some(key("a"))))]);
    let seen: Vec<_> = device.fresh().iter().map(|(row, _)| (row.id, row.lane_held)).collect();
    assert_eq!(seen, [(2, false), (3, true), (4, false)]);
    assert_eq!(device.store.read_again(0, 9).unwrap(), [], "it is in a lane");
    let lane = device.store.read_lane(&key("a"), 0, 9).unwrap();
    assert_eq!((lane.len(), lane[0].attempts, lane[0].wait.as_millis()), (1, 1, 1_500));
}

#[test]
fn lanes_come_in_the_order_of_their_text_each_with_its_first_row() {
    let mut device = Device::new();
    device.put_many(8);
    let topic = Lane::Topic("t".into());
    let fates = [
        (1, held(key("b"))),
        (2, held(topic.clone())),
        (3, held(key("a"))),
        (4, held(key("b"))),
        (5, held(key("ä"))),
        (6, held(key(""))),
    ];
    device.settle(NOW, &fates);
    let all = device.store.read_lanes(None, 99).unwrap();
    let seen: Vec<_> = all.iter().map(|(lane, row)| (lane.clone(), row.id)).collect();
    assert_eq!(seen, [(key(""), 6), (key("a"), 3), (key("b"), 1), (key("ä"), 5), (topic, 2)]);
    let next = device.store.read_lanes(Some(&key("a")), 2).unwrap();
    assert_eq!(next.iter().map(|(_, row)| row.id).collect::<Vec<_>>(), [1, 5]);
    let rows = device.store.read_lane(&key("b"), 1, 9).unwrap();
    assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), [4]);
}

#[test]
fn rows_held_by_something_unreadable_are_released_and_stop_nobody() {
    let mut device = Device::new();
    device.put_many(1_300);
    device.settle(NOW, &[(1, held(key("a"))), (2, held(Lane::Topic("t".into())))]);
    let device = device.force(
        "UPDATE outbox SET held_by = 'mine' WHERE id BETWEEN 3 AND 1203;
         UPDATE outbox SET held_by = CAST(x'6b657920ff' AS TEXT) WHERE id = 1204;
         UPDATE outbox SET held_by = x'00ff' WHERE id = 1205;
         UPDATE outbox SET held_by = 'key ' || printf('%.*c', 70000, 'x') WHERE id = 1206;",
    );
    let lanes = device.store.read_lanes(None, 99).unwrap();
    assert_eq!(lanes.iter().map(|(_, row)| row.id).collect::<Vec<_>>(), [1, 2]);
    let again = device.store.read_again(0, 9_999).unwrap();
    assert_eq!(again.iter().map(|row| row.id).collect::<Vec<_>>(), (3..=1206).collect::<Vec<_>>());
}

#[test]
fn only_rows_still_to_be_dealt_with_are_loaded() {
    let mut device = Device::new();
    device.put_many(4);
    device.settle(NOW, &[(1, Fate::Sent), (2, super::failed("no")), (3, waiting(None))]);
    let there = |id| device.store.load(id, MAX_PAYLOAD).unwrap().is_some();
    assert_eq!([1, 2, 3, 4, 5].map(there), [false, false, true, true, false]);
    assert_eq!(device.store.read_again(0, 9).unwrap().len(), 1);
}

#[test]
fn a_commit_of_anybody_else_is_noticed_once() {
    let mut device = Device::new();
    assert!(!device.store.changed().unwrap());
    device.put(&Message::text("t", "p"));
    assert!(device.store.changed().unwrap());
    assert!(!device.store.changed().unwrap());
    device.settle(NOW, &[(1, Fate::Sent)]);
    assert!(!device.store.changed().unwrap(), "its own commit is not news");
}

#[test]
fn a_position_ahead_of_the_table_is_not_believed() {
    let mut device = Device::new();
    device.put_many(3);
    let batch = crate::store::Batch { position: Some(2), ..Default::default() };
    device.store.settle(&batch, NOW, None).unwrap();
    assert_eq!((device.store.position().unwrap(), device.store.newest().unwrap()), (2, 3));
    device.sql("UPDATE outbox_state SET position = 4");
    assert_eq!(device.store.position().unwrap(), 0);
}

#[test]
fn the_forwarders_checkpoint_empties_a_long_log() {
    let device = Device::new();
    device.sql("PRAGMA wal_autocheckpoint = 0");
    let waiting = || {
        device.number("SELECT 0") + {
            let row: (i64, i64) =
                device.app.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| Ok((row.get(1)?, row.get(2)?))).unwrap();
            row.0 - row.1
        }
    };
    device.put(&Message::text("t", "p"));
    device.store.checkpoint().unwrap();
    assert!(waiting() > 0, "a short log is left alone");
    for _ in 0..20 {
        device.put(&Message::new("t", vec![1; 250_000]));
    }
    assert!(waiting() >= 1_000);
    device.store.checkpoint().unwrap();
    assert_eq!(waiting(), 0);
}

/// It has the write lock meanwhile, and everybody who writes would wait with it.
#[test]
fn a_log_that_somebody_reads_is_not_waited_for() {
    let device = Device::new();
    device.put(&Message::text("t", "p"));
    let reader = Connection::open(&device.path).unwrap();
    reader.execute_batch("BEGIN; SELECT * FROM outbox").unwrap();
    let quickest = (0..5).map(|_| {
        let begun = Instant::now();
        assert!(matches!(device.store.empty_log_if_unused(), Err(Error::Busy(_))));
        begun.elapsed()
    });
    assert!(quickest.min().unwrap() < Duration::from_millis(50));
    drop(reader);
    device.store.empty_log_if_unused().unwrap();
    assert_eq!(device.wal_bytes(), 0);
}
