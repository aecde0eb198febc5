//! Expiry, response topic and correlation data.

use std::time::Duration;

use super::{Device, Fate, MAX_PAYLOAD, NOW, failed, message, spoiled};
use crate::message::MAX_EXPIRY;
use crate::store::{Content, Lane, Status, discard, get, retry, retry_all};
use crate::{Message, Payload};

fn request() -> Message {
    Message::text("valve/open", "50 %").with_response_topic("valve/answers").with_correlation_data([0, 255, 7])
}

fn created_at(content: &Content) -> i64 {
    match content {
        Content::Message { created_at, .. } => *created_at,
        Content::Spoiled(why) => panic!("spoiled: {why}"),
    }
}

#[test]
fn what_is_enqueued_is_what_is_read_with_the_whole_expiry() {
    let device = Device::new();
    let messages = [
        request(),
        Message::text("t", "p").with_expiry(Duration::from_secs(1)),
        Message::text("t", "p").with_expiry(MAX_EXPIRY),
        Message::text("t", "p").with_expiry(Duration::from_millis(1_001)),
        Message::text("t", "p").with_response_topic("only"),
        Message::text("t", "p").with_correlation_data([]),
        request().with_expiry(Duration::from_secs(60)).with_key("k"),
    ];
    for message in &messages {
        device.put(message);
    }
    let read = device.fresh();
    assert_eq!(read.len(), messages.len());
    for ((row, content), sent) in read.iter().zip(&messages) {
        assert_eq!(message(content), sent);
        assert_eq!(row.size, sent.size());
        assert_eq!(created_at(content) != 0, sent.expiry.is_some());
    }
    assert_eq!(device.number("SELECT expires_at - created_at FROM outbox WHERE id = 2"), 1_000, "one clock reading");
    assert_eq!(device.number("SELECT created_at FROM outbox WHERE id = 2"), created_at(&read[1].1));
}

#[test]
fn a_part_of_a_millisecond_counts_as_a_whole_one() {
    let device = Device::new();
    device.put(&Message::text("t", "p").with_expiry(Duration::new(1, 1)));
    assert_eq!(message(&device.fresh()[0].1).expiry, Some(Duration::from_millis(1_001)));
}

#[test]
fn a_message_without_them_stores_nothing_for_them() {
    let device = Device::new();
    device.put_many(1);
    let nulls = "SELECT expires_at IS NULL AND response_topic IS NULL AND correlation_data IS NULL FROM outbox";
    assert_eq!(device.number(nulls), 1);
}

/// Part of the file format: a row written by any version 1 of the table is read by every later one.
#[test]
fn checksums_are_what_they_always_were() {
    let device = Device::new();
    device.put(&Message::text("weather/roof", "21.5").with_key("roof"));
    device.put(&request());
    assert_eq!(device.number("SELECT checksum FROM outbox WHERE id = 1"), 3_014_448_771);
    assert_eq!(device.number("SELECT checksum FROM outbox WHERE id = 2"), 1_140_402_715);
}

#[test]
fn damage_to_them_is_noticed() {
    for damage in [
        "response_topic = 'valve/answert'",
        "response_topic = NULL",
        "correlation_data = x'00ff06'",
        "correlation_data = NULL",
        "response_topic = 'valve/answers' || char(1), correlation_data = x'ff07'",
        "response_topic = NULL, correlation_data = NULL",
    ] {
        let device = Device::new();
        device.put(&request());
        device.put_many(1);
        // Damage asks no trigger.
        let device = device.force(&format!("DROP TRIGGER outbox_edited; UPDATE outbox SET {damage} WHERE id = 1"));
        let read = device.fresh();
        assert!(spoiled(&read[0].1).contains("checksum"), "{damage}: {}", spoiled(&read[0].1));
    }
}

#[test]
fn plain_sql_may_give_them_and_any_integer_as_the_end() {
    let device = Device::new();
    device.sql(
        "INSERT INTO outbox (topic, payload, response_topic, correlation_data, expires_at)
         VALUES ('t', 'p', 'answers', x'00ff', CAST(strftime('%s', 'now') AS INTEGER) * 1000 + 60000);
         INSERT INTO outbox (topic, payload, created_at, expires_at) VALUES ('t', 'p', 1000, 3000);",
    );
    let read = device.fresh();
    let first = message(&read[0].1);
    assert_eq!(
        (first.response_topic.as_deref(), first.correlation_data.as_deref()),
        (Some("answers"), Some(&[0, 255][..]))
    );
    let expiry = first.expiry.unwrap();
    assert!(expiry > Duration::from_secs(50) && expiry <= Duration::from_secs(60), "{expiry:?}");
    assert_eq!(message(&read[1].1).expiry, Some(Duration::from_secs(2)));
    for end in [i64::MIN, -1, 0, 999, i64::MAX] {
        let id = device.number(&format!(
            "INSERT INTO outbox (topic, payload, created_at, expires_at) VALUES ('t', 'p', 1000, {end}) RETURNING id"
        ));
        let (_, content) = device.store.load(id, MAX_PAYLOAD).unwrap().unwrap();
        let expected = Duration::from_millis(u64::try_from(end.saturating_sub(1_000)).unwrap_or(0));
        assert_eq!(message(&content).expiry, Some(expected), "{end}");
    }
}

#[test]
fn plain_sql_that_breaks_their_rules_is_refused() {
    let device = Device::new();
    for (column, value) in [
        ("response_topic", "''"),
        ("response_topic", "'a/#'"),
        ("response_topic", "'a/+'"),
        ("response_topic", "'a' || char(0)"),
        ("response_topic", "printf('%.*c', 65536, 'x')"),
        ("correlation_data", "zeroblob(65536)"),
        ("correlation_data", "'text'"),
        ("expires_at", "'tomorrow'"),
        ("expires_at", "1.5"),
    ] {
        let sql = format!("INSERT INTO outbox (topic, payload, {column}) VALUES ('t', 'p', {value})");
        assert!(device.app.execute_batch(&sql).is_err(), "{sql}");
    }
    device.sql(
        "INSERT INTO outbox (topic, payload, response_topic, correlation_data)
                VALUES ('t', 'p', printf('%.*c', 65535, 'x'), zeroblob(65535))",
    );
    assert_eq!(message(&device.fresh()[0].1).size(), 2 + 2 * 65_535);
}

#[test]
fn who_retries_a_message_whose_time_is_over_wants_it_sent_all_the_same() {
    let over = "UPDATE outbox SET created_at = 1000, expires_at = 61000 WHERE id = 1";
    type Retry = fn(&Device);
    let retries: [(&str, Retry); 3] = [
        ("retry", |device| retry(&device.app, 1).unwrap()),
        ("retry_all", |device| assert_eq!(retry_all(&device.app).unwrap(), 2)),
        ("by hand", |device| device.sql("UPDATE outbox SET status = 'PENDING' WHERE status = 'FAILED'")),
    ];
    for (name, retry) in retries {
        let mut device = Device::new();
        let minute = Duration::from_secs(60);
        device.put(&request().with_expiry(minute));
        device.put(&request().with_expiry(minute));
        device.sql(over);
        device.settle(NOW, &[(1, failed("expired: …")), (2, failed("refused"))]);
        retry(&device);
        let expiry = |id| {
            let (_, content) = device.store.load(id, MAX_PAYLOAD).unwrap()?;
            Some(message(&content).expiry)
        };
        assert_eq!(expiry(1), Some(None), "{name}");
        if name != "retry" {
            assert_eq!(expiry(2), Some(Some(minute)), "{name}: it has time left");
        }
        assert_eq!(device.number("SELECT checksum IS NOT NULL FROM outbox WHERE id = 1"), 1, "{name}");
    }
}

/// A person who retries everything must not make a damaged message look sound.
#[test]
fn a_damaged_message_whose_time_is_over_stays_damaged_when_it_is_retried() {
    let device = Device::new();
    device.put(&request().with_expiry(Duration::from_secs(60)));
    let mut device =
        device.force("UPDATE outbox SET checksum = checksum + 1, created_at = 1000, expires_at = 61000 WHERE id = 1");
    device.settle(NOW, &[(1, failed("damaged"))]);
    retry(&device.app, 1).unwrap();
    let (_, content) = device.store.load(1, MAX_PAYLOAD).unwrap().unwrap();
    assert!(spoiled(&content).contains("checksum"), "{content:?}");
}

#[test]
fn waiting_and_moving_between_lanes_keep_the_expiry() {
    let mut device = Device::new();
    device.put(&request().with_expiry(Duration::from_secs(60)));
    device.sql("UPDATE outbox SET created_at = 1000, expires_at = 61000");
    device.settle(NOW, &[(1, super::held(Lane::Key("k".into())))]);
    device.sql("UPDATE outbox SET held_by = NULL");
    assert_eq!(device.number("SELECT expires_at FROM outbox WHERE attempts = 1"), 61_000);
}

#[test]
fn a_settled_message_shows_what_it_was_given() {
    let mut device = Device::new();
    let sample = request().with_expiry(Duration::from_secs(60));
    device.put(&sample);
    device.sql("UPDATE outbox SET created_at = 1000, expires_at = 61000");
    device.settle(NOW, &[(1, Fate::Sent)]);
    let stored = get(&device.app, 1, MAX_PAYLOAD).unwrap().unwrap();
    assert_eq!((stored.status, message(&stored.content)), (Some(Status::Sent), &sample));
}

#[test]
fn nothing_of_them_stays_in_a_discarded_newest_row() {
    let mut device = Device::new();
    device.put(&request().with_expiry(Duration::from_secs(60)));
    device.settle(NOW, &[(1, failed("no"))]);
    discard(&device.app, 1).unwrap();
    let stored = get(&device.app, 1, MAX_PAYLOAD).unwrap().unwrap();
    let left = message(&stored.content);
    assert_eq!((left.expiry, &left.response_topic, &left.correlation_data), (None, &None, &None));
    assert_eq!(left.payload, Payload::Bytes(Vec::new()));
}
