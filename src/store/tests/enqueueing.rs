use std::collections::HashSet;

use super::{Device, Fate, MAX_PAYLOAD, NOW, enqueue, message};
use crate::store::{Budget, Content};
use crate::{Error, Message, QoS};

#[test]
fn what_is_enqueued_is_what_is_read() {
    let device = Device::new();
    let messages = [
        Message::new("a", [0_u8, 255, 10]),
        Message::text("wetter/dach/ü", "21,5 °C").with_key("dach"),
        Message::new("a/b", []).with_qos(QoS::AtMostOnce).retained(),
        Message::text("h", "").with_header("unit", "\"°\"").with_header("unit", "").with_content_type("text/plain"),
        Message::text("2", "p").with_qos(QoS::ExactlyOnce),
    ];
    for message in &messages {
        device.put(message);
    }
    let read = device.fresh();
    for ((row, content), sent) in read.iter().zip(&messages) {
        assert_eq!(message(content), sent);
        assert_eq!((&*row.topic, row.key.as_deref()), (sent.topic.as_str(), sent.key.as_deref()));
        assert!(row.synced && !row.lane_held && row.attempts == 0 && row.wait.is_zero());
    }
    assert_eq!(read.len(), messages.len());
}

#[test]
fn a_rolled_back_transaction_leaves_no_message_and_no_gap() {
    let mut device = Device::new();
    let tx = device.app.transaction().unwrap();
    let rolled_back = enqueue(&tx, &Message::text("t", "ghost"), MAX_PAYLOAD, &Budget::default()).unwrap();
    tx.rollback().unwrap();
    let kept = enqueue(&device.app, &Message::text("t", "p"), MAX_PAYLOAD, &Budget::default()).unwrap();
    assert_eq!((rolled_back.row(), kept.row()), (1, 1));
    assert_ne!(rolled_back, kept, "the nonce tells them apart");
    let (_, content) = &device.fresh()[0];
    assert!(matches!(content, Content::Message { id, .. } if *id == kept));
}

#[test]
fn nonces_differ() {
    let device = Device::new();
    device.put_many(500);
    device.sql("INSERT INTO outbox (topic, payload) VALUES ('t', 'p'), ('t', 'p')");
    assert_eq!(device.number("SELECT count(DISTINCT nonce) FROM outbox"), 502);
    let ids: HashSet<_> = device.fresh().iter().map(|(row, _)| row.id).collect();
    assert_eq!(ids.len(), 502);
}

#[test]
fn a_row_says_whether_its_commit_is_synced() {
    let device = Device::new();
    for (level, synced) in [("FULL", true), ("NORMAL", false), ("EXTRA", true), ("OFF", false), ("FULL", true)] {
        device.sql(&format!("PRAGMA synchronous = {level}"));
        let id = device.put(&Message::text("t", "p"));
        let (row, _) = device.store.load(id, MAX_PAYLOAD).unwrap().unwrap();
        assert_eq!(row.synced, synced, "{level}");
    }
    device.sql("INSERT INTO outbox (topic, payload) VALUES ('t', 'p')");
    assert!(!device.fresh().last().unwrap().0.synced, "plain SQL cannot know");
}

#[test]
fn a_message_that_breaks_a_limit_is_not_written() {
    let device = Device::new();
    let too_large = Message::new("t", vec![0; 11]);
    assert!(matches!(
        enqueue(&device.app, &too_large, 10, &Budget::default()),
        Err(Error::Invalid { field: "payload", .. })
    ));
    let wildcard = Message::text("a/#", "p");
    assert!(matches!(
        enqueue(&device.app, &wildcard, 10, &Budget::default()),
        Err(Error::Invalid { field: "topic", .. })
    ));
    assert_eq!(device.number("SELECT count(*) FROM outbox"), 0);
}

#[test]
fn a_transaction_that_read_first_and_was_overtaken_says_so() {
    let mut device = Device::new();
    let other = rusqlite::Connection::open(&device.path).unwrap();
    let tx = device.app.transaction().unwrap();
    let _: i64 = tx.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0)).unwrap();
    other.execute_batch("INSERT INTO outbox (topic, payload) VALUES ('t', 'p')").unwrap();
    assert!(matches!(enqueue(&tx, &Message::text("t", "p"), MAX_PAYLOAD, &Budget::default()), Err(Error::Snapshot(_))));
}

/// Page writes, as they stand in the write-ahead log: 4,120 bytes each.
#[test]
fn an_ordinary_message_costs_about_one_page_at_enqueue_and_enters_no_index() {
    let mut device = Device::new();
    device.sql("PRAGMA wal_autocheckpoint = 0; CREATE TABLE app (x)");
    device.put_many(100);
    let sample = Message::new("weather/roof", vec![b'x'; 200]).with_key("roof");
    let commits = |with_message: bool| {
        let before = device.wal_bytes();
        for _ in 0..200 {
            device.sql("BEGIN IMMEDIATE; INSERT INTO app VALUES (randomblob(50))");
            if with_message {
                device.put(&sample);
            }
            device.sql("COMMIT");
        }
        device.wal_bytes() - before
    };
    let ours = (commits(true) - commits(false)) / 200;
    assert!(ours <= 5_200, "{ours} bytes per message");

    let all: Vec<_> = device.fresh().iter().map(|(row, _)| (row.id, Fate::Sent)).collect();
    device.settle(NOW, &all);
    let bytes =
        device.number("SELECT sum(payload) FROM dbstat WHERE name IN ('outbox_again', 'outbox_held', 'outbox_failed')");
    assert_eq!(bytes, 0, "bytes in the indexes");
}

#[test]
fn settling_does_not_write_a_large_payload_again() {
    let mut device = Device::new();
    device.sql("PRAGMA wal_autocheckpoint = 0");
    let id = device.put(&Message::new("t", vec![b'x'; 200_000]));
    let before = device.wal_bytes();
    device.settle(NOW, &[(id, Fate::Sent)]);
    let written = device.wal_bytes() - before;
    assert!(written < 10_000, "{written} bytes");
}
