use super::{Device, Fate, NOW, held};
use crate::Message;
use crate::store::Lane;

fn refused(device: &Device, sql: &str) {
    assert!(device.app.execute_batch(sql).is_err(), "{sql}");
}

#[test]
fn ids_are_dense_and_given_by_the_table() {
    let device = Device::new();
    refused(&device, "INSERT INTO outbox (id, topic, payload) VALUES (2, 't', 'p')");
    device.put_many(3);
    for id in [-1_i64, 0, 2, 3, 5, 9_007_199_254_740_992] {
        refused(&device, &format!("INSERT INTO outbox (id, topic, payload) VALUES ({id}, 't', 'p')"));
        refused(&device, &format!("INSERT OR REPLACE INTO outbox (id, topic, payload) VALUES ({id}, 't', 'p')"));
        refused(&device, &format!("UPDATE outbox SET id = {id} WHERE id = 1"));
    }
    device.sql("INSERT INTO outbox (id, topic, payload) VALUES (4, 't', 'next')");
    device.sql("UPDATE outbox SET id = 1 WHERE id = 1");
    assert_eq!(device.fresh_ids(), [1, 2, 3, 4]);
}

#[test]
fn deleting_everything_leaves_the_newest_row_and_so_the_count() {
    let device = Device::new();
    device.put_many(3);
    device.sql("DELETE FROM outbox");
    assert_eq!(device.fresh_ids(), [3]);
    assert_eq!(device.put(&Message::text("t", "p")), 4);
    refused(&device, "DELETE FROM outbox_state");
}

#[test]
fn rows_that_break_a_rule_are_refused() {
    let device = Device::new();
    for (columns, values) in [
        ("topic, payload", "'', 'p'"),
        ("topic, payload", "'a/+', 'p'"),
        ("topic, payload", "'#', 'p'"),
        ("topic, payload", "'a' || char(0) || 'b', 'p'"),
        ("topic, payload", "printf('%.*c', 65536, 'x'), 'p'"),
        ("topic, payload", "printf('%.*c', 32768, 'ü'), 'p'"),
        ("topic, payload", "NULL, 'p'"),
        ("topic, payload", "'t', NULL"),
        ("topic, payload", "'t', 21.5"),
        ("topic, payload, key", "'t', 'p', ''"),
        ("topic, payload, key", "'t', 'p', printf('%.*c', 1025, 'x')"),
        ("topic, payload, qos", "'t', 'p', 3"),
        ("topic, payload, qos", "'t', 'p', NULL"),
        ("topic, payload, retain", "'t', 'p', 2"),
        ("topic, payload, status", "'t', 'p', 'DONE'"),
        ("topic, payload, attempts", "'t', 'p', -1"),
        ("topic, payload, held_by", "'t', 'p', 'mine'"),
        ("topic, payload, headers", "'t', 'p', 'a: b'"),
    ] {
        refused(&device, &format!("INSERT INTO outbox ({columns}) VALUES ({values})"));
    }
    assert!(device.fresh_ids().is_empty());
}

#[test]
fn a_row_reopened_by_hand_is_found_below_the_position() {
    let mut device = Device::new();
    device.put_many(4);
    let lane = Lane::Key("k".into());
    device.settle(NOW, &[(1, Fate::Sent), (2, super::failed("no")), (3, held(lane))]);
    device.sql("UPDATE outbox SET status = 'PENDING', attempts = 0 WHERE id <= 2");
    device.sql("UPDATE outbox SET held_by = NULL WHERE id = 3");
    device.sql("UPDATE outbox SET attempts = 0 WHERE id = 1");
    let again = device.store.read_again(0, 10).unwrap();
    let found: Vec<_> = again.iter().map(|row| (row.id, row.attempts, row.wait.as_millis())).collect();
    assert_eq!(found, [(1, 1, 0), (2, 1, 0), (3, 1, 0)]);
    assert_eq!(device.fresh_ids(), [4]);
}

#[test]
fn a_row_settled_by_hand_leaves_its_lane() {
    let mut device = Device::new();
    device.put_many(2);
    let lane = Lane::Topic("t".into());
    device.settle(NOW, &[(1, held(lane.clone()))]);
    device.sql("UPDATE outbox SET status = 'SENT' WHERE id = 1");
    assert_eq!(device.number("SELECT count(*) FROM outbox WHERE held_by IS NOT NULL"), 0);
    assert_eq!(device.store.read_lane(&lane, 0, 10).unwrap(), []);
}

#[test]
fn editing_a_message_takes_its_checksum_off_and_nothing_else_does() {
    let mut device = Device::new();
    device.put_many(10);
    device.sql("PRAGMA recursive_triggers = ON");
    for (id, edit) in [
        "topic = 'u'",
        "payload = 'other'",
        "payload = CAST(payload AS BLOB)",
        "key = 'k'",
        "headers = '[]'",
        "qos = 0",
        "retain = 1",
        "content_type = 'x/y'",
        "response_topic = 'r'",
        "correlation_data = x'00'",
    ]
    .iter()
    .enumerate()
    {
        let id = id + 1;
        device.sql(&format!(
            "UPDATE outbox SET payload = payload, topic = topic, qos = 1, expires_at = 1 WHERE id = {id}"
        ));
        assert_eq!(device.number(&format!("SELECT checksum IS NOT NULL FROM outbox WHERE id = {id}")), 1);
        device.sql(&format!("UPDATE outbox SET {edit} WHERE id = {id}"));
        assert_eq!(device.number(&format!("SELECT checksum IS NULL FROM outbox WHERE id = {id}")), 1, "{edit}");
    }
    let id = device.put(&Message::text("t", "p"));
    device.settle(NOW, &[(id, Fate::Sent)]);
    assert_eq!(device.number(&format!("SELECT checksum IS NULL FROM outbox WHERE id = {id}")), 0);
}
