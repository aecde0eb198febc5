//! What a message may carry beside topic and payload: how long it is of use, and where its answer goes.
//!
//! Time passes here by SQL: stamps are set back, as if the message had waited, or ahead, as if the clock had gone back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use edge_outbox::broker::InProcess;
use edge_outbox::rusqlite::Connection;
use edge_outbox::{Message, MessageState, Outbox, Settings};

use crate::device::{Device, SOON, broker, enqueue, eventually, next, numbered, quick, said, take, value};

const HOUR: Duration = Duration::from_secs(3_600);
/// More than any test takes; less than what the tests tell apart.
const A_WHILE: Duration = Duration::from_secs(600);

fn expiring(payload: &str) -> Message {
    Message::text("t", payload).with_expiry(HOUR)
}

/// As if `waited` had passed since all messages were enqueued.
fn age(sql: &Connection, waited: Duration) {
    let ms = i64::try_from(waited.as_millis()).unwrap();
    sql.execute("UPDATE outbox SET created_at = created_at - ?1, expires_at = expires_at - ?1", [ms]).unwrap();
}

/// A device on which one message of an hour has waited for two, and one without an expiry stands behind it.
fn late() -> (Device, Connection) {
    let device = Device::new();
    enqueue(&device.open_writer(), [expiring("late").with_key("k"), Message::text("t", "timeless").with_key("k")]);
    let sql = device.sql();
    age(&sql, 2 * HOUR);
    (device, sql)
}

fn never_arrived(broker: &InProcess, payload: &str) -> bool {
    broker.seen().iter().all(|seen| seen.message.payload.as_bytes() != payload.as_bytes())
}

fn assert_expired(outbox: &Outbox, row: i64) {
    let failed = outbox.failed(0, 10).unwrap();
    assert_eq!(failed.iter().map(|failed| failed.id.row()).collect::<Vec<_>>(), [row]);
    assert!(failed[0].reason.starts_with("expired: "), "{}", failed[0].reason);
    assert_eq!(outbox.stats().unwrap().failed, 1);
}

#[test]
fn response_topic_and_correlation_data_arrive_as_they_were_written() {
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = device.open(broker);
    let messages = [
        Message::text("valve", "open").with_response_topic("answers/ü").with_correlation_data([0, 255, 10]),
        Message::text("valve", "open").with_correlation_data("").with_key("k"),
        Message::text("valve", "open"),
    ];
    enqueue(&outbox, messages.clone());
    for message in messages {
        let arrival = next(&everything);
        assert_eq!(*arrival.message, message);
        arrival.acknowledge();
    }
}

#[test]
fn what_the_broker_is_told_is_the_time_that_is_left_at_each_sending() {
    let device = Device::new();
    enqueue(&device.open_writer(), [expiring("p")]);
    let sql = device.sql();
    age(&sql, HOUR / 4);
    let (broker, everything) = broker();
    let outbox = device.open(broker.clone());
    let first = next(&everything);
    let left = first.message.expiry.unwrap();
    assert!(left <= HOUR * 3 / 4 && left > HOUR * 3 / 4 - A_WHILE, "{left:?}");

    age(&sql, HOUR / 2);
    broker.break_sessions();
    let second = next(&everything);
    let left = second.message.expiry.unwrap();
    assert!(left <= HOUR / 4 && left > HOUR / 4 - A_WHILE, "{left:?}");
    drop(first);
    second.acknowledge();
    outbox.flush(SOON).unwrap();
    assert_eq!(outbox.message(1).unwrap().unwrap().message.unwrap().expiry, Some(HOUR), "in the table: the whole");
}

#[test]
fn a_message_whose_time_is_over_is_parked_and_not_sent_and_its_key_goes_on() {
    let (device, _) = late();
    let (broker, everything) = broker();
    let outbox = device.open(broker.clone());
    assert_eq!(take(&everything), "timeless");
    outbox.flush(SOON).unwrap();
    assert_expired(&outbox, 1);
    let reason = outbox.failed(0, 1).unwrap().remove(0).reason;
    assert!(reason.contains("this device's clock") && reason.contains("1h"), "{reason}");
    let stored = outbox.message(1).unwrap().unwrap();
    assert_eq!((stored.state, stored.message), (MessageState::Failed, Ok(expiring("late").with_key("k"))));
    assert!(never_arrived(&broker, "late"));
}

#[test]
fn a_message_that_expired_is_sent_when_somebody_asks_for_it() {
    let asks: [fn(&Outbox, &Connection); 3] = [
        |outbox, _| outbox.retry(1).unwrap(),
        |outbox, _| assert_eq!(outbox.retry_all().unwrap(), 1),
        |_, sql| assert_eq!(sql.execute("UPDATE outbox SET status = 'PENDING' WHERE id = 1", []).unwrap(), 1),
    ];
    for ask in asks {
        let (device, sql) = late();
        let (broker, everything) = broker();
        let outbox = device.open(broker);
        assert_eq!(take(&everything), "timeless");
        outbox.flush(SOON).unwrap();
        assert_expired(&outbox, 1);
        ask(&outbox, &sql);
        let arrival = next(&everything);
        assert_eq!((said(&arrival).as_str(), arrival.message.expiry), ("late", None));
        arrival.acknowledge();
        outbox.flush(SOON).unwrap();
        assert!(outbox.failed(0, 1).unwrap().is_empty());
    }
}

/// It was read, and is kept in memory, while it still had time.
#[test]
fn a_message_whose_time_ends_behind_a_full_window_is_not_sent() {
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = device.open_with(Settings { window: 1, ..quick() }, broker.clone());
    let short = Message::text("t", "short").with_expiry(Duration::from_secs(1));
    enqueue(&outbox, numbered("t", 0..1).chain([short, Message::text("t", "last")]));
    let first = next(&everything);
    let end: i64 = value(&device.sql(), "SELECT expires_at FROM outbox WHERE id = 2", []);
    let end = UNIX_EPOCH + Duration::from_millis(u64::try_from(end).unwrap());
    eventually("its time is over", || SystemTime::now() > end);
    first.acknowledge();
    assert_eq!(take(&everything), "last");
    outbox.flush(SOON).unwrap();
    assert_expired(&outbox, 2);
    assert!(never_arrived(&broker, "short"));
}

#[test]
fn a_clock_that_went_back_lets_nothing_expire_and_adds_no_time() {
    let device = Device::new();
    enqueue(&device.open_writer(), [expiring("from tomorrow"), expiring("from the year 2200"), expiring("now")]);
    let sql = device.sql();
    let stamp = "UPDATE outbox SET created_at = created_at + ?2, expires_at = expires_at + ?2 WHERE id = ?1";
    for (row, ahead) in [(1, 86_400_000), (2, 5_000_000_000_000_i64)] {
        sql.execute(stamp, [row, ahead]).unwrap();
    }
    let (broker, everything) = broker();
    let outbox = device.open(broker);
    for payload in ["from tomorrow", "from the year 2200"] {
        let arrival = next(&everything);
        assert_eq!((said(&arrival).as_str(), arrival.message.expiry), (payload, Some(HOUR)));
        arrival.acknowledge();
    }
    assert_eq!(take(&everything), "now");
    outbox.flush(SOON).unwrap();
    assert_eq!(outbox.stats().unwrap().failed, 0);
}

#[test]
fn plain_sql_may_say_when_a_message_is_over_in_any_integer() {
    let device = Device::new();
    drop(device.open_writer());
    let sql = device.sql();
    sql.execute_batch(
        "INSERT INTO outbox (topic, payload, expires_at) VALUES ('t', 'never', -9223372036854775808);
         INSERT INTO outbox (topic, payload, expires_at, response_topic, correlation_data)
         VALUES ('t', 'for ever', 9223372036854775807, 'answers', x'00ff');",
    )
    .unwrap();
    let (broker, everything) = broker();
    let outbox = device.open(broker.clone());
    let arrival = next(&everything);
    assert_eq!((said(&arrival).as_str(), arrival.message.expiry), ("for ever", Some(edge_outbox::MAX_EXPIRY)));
    assert_eq!(arrival.message.response_topic.as_deref(), Some("answers"));
    assert_eq!(arrival.message.correlation_data.as_deref(), Some(&[0, 255][..]));
    arrival.acknowledge();
    outbox.flush(SOON).unwrap();
    assert_expired(&outbox, 1);
    assert!(never_arrived(&broker, "never"));
}

#[test]
fn what_ends_up_in_a_log_does_not_say_what_the_correlation_data_says() {
    let message = Message::text("t", "p").with_correlation_data("token").with_response_topic("answers");
    let shown = format!("{message:?}");
    assert!(shown.contains("5 bytes") && shown.contains("answers"), "{shown}");
    assert!(!shown.contains("token") && !shown.contains("116"), "{shown}");
}
