use std::fs;
use std::time::Duration;

use super::{Device, Fate, MAX_PAYLOAD, NOW, batch, failed, held, message, spoiled, waiting};
use crate::store::{Content, Lane, Status, Store, get, open, retry};
use crate::{Message, Payload};

#[test]
fn whatever_stands_in_a_row_it_is_read_named_and_parked() {
    for (damage, why) in [
        ("status = 'SEND'", "status"),
        ("status = NULL", "status"),
        ("status = 7", "status"),
        ("nonce = 'x'", "nonce"),
        ("nonce = 1.5", "nonce"),
        ("topic = NULL", "no topic"),
        ("topic = x'74'", "topic is not text"),
        ("topic = CAST(x'74ff' AS TEXT)", "topic is not UTF-8"),
        ("topic = ''", "topic"),
        ("topic = 'a/#'", "topic"),
        ("topic = printf('%.*c', 1000000, 'x')", "topic is 1000000 bytes long"),
        ("key = ''", "key"),
        ("key = 5", "key is not text"),
        ("key = CAST(x'ff' AS TEXT)", "key is not UTF-8"),
        ("key = printf('%.*c', 1025, 'x')", "key is 1025 bytes long"),
        ("qos = 3", "QoS"),
        ("qos = 257", "QoS"),
        ("qos = 'x'", "QoS"),
        ("retain = 2", "retain"),
        ("retain = NULL", "retain"),
        ("content_type = x'00'", "content type is not text"),
        ("content_type = char(0)", "content type"),
        ("response_topic = ''", "response topic"),
        ("response_topic = 'a/+'", "response topic"),
        ("response_topic = 'a' || char(0)", "response topic"),
        ("response_topic = 5", "response topic is not text"),
        ("response_topic = CAST(x'74ff' AS TEXT)", "response topic is not UTF-8"),
        ("response_topic = printf('%.*c', 65536, 'x')", "response topic is 65536 bytes long"),
        ("correlation_data = 'text'", "correlation data is not bytes"),
        ("correlation_data = 5", "correlation data is not bytes"),
        ("correlation_data = zeroblob(65536)", "correlation data is 65536 bytes long"),
        ("expires_at = 'tomorrow'", "expires is no integer"),
        ("expires_at = 1.5", "expires is no integer"),
        ("expires_at = x'00'", "expires is no integer"),
        ("expires_at = 9e18, created_at = 1", "expires is no integer"),
        ("expires_at = 9000000000000, created_at = 'then'", "when it was written"),
        ("expires_at = 9000000000000, created_at = NULL", "when it was written"),
        ("headers = 'nonsense'", "headers"),
        ("headers = '[[\"a\"]]'", "headers"),
        ("headers = '[[\"a\", 1]]'", "headers"),
        ("headers = '[[\"a\", \"b\", \"c\"]]'", "headers"),
        ("headers = '[[\"id\", \"b\"]]'", "header"),
        ("headers = '[[\"\", \"b\"]]'", "header"),
        ("headers = printf('%.*c', 9000000, '[')", "headers"),
        ("headers = printf('%.*c', 100000, '[')", "headers"),
        ("payload = NULL", "payload"),
        ("payload = 12", "payload"),
        ("payload = 1.5", "payload"),
        ("payload = zeroblob(300000)", "300000 bytes"),
        ("checksum = 1", "checksum"),
        ("checksum = 'x'", "checksum"),
        ("checksum = -1", "checksum"),
    ] {
        let device = Device::new();
        device.put_many(3);
        // Without a checksum, so that each rule is seen to hold by itself.
        let mut device = device.force(&format!(
            "UPDATE outbox SET checksum = NULL WHERE id = 2;
                                                UPDATE outbox SET {damage} WHERE id = 2"
        ));
        let read = device.fresh();
        assert_eq!(read.len(), 3, "{damage}");
        assert!(spoiled(&read[1].1).contains(why), "{damage}: {}", spoiled(&read[1].1));
        message(&read[2].1);
        let parked = device.settle(NOW, &[(1, Fate::Sent), (2, failed(spoiled(&read[1].1))), (3, Fate::Sent)]);
        assert_eq!(parked, [2], "{damage}");
        assert!(device.fresh_ids().is_empty(), "{damage}");
        let stored = get(&device.app, 2, MAX_PAYLOAD).unwrap().unwrap();
        assert_eq!(stored.status, Some(Status::Failed), "{damage}");
    }
}

#[test]
fn nonsense_in_the_small_columns_is_read_as_the_nearest_sense() {
    for damage in [
        "attempts = -5",
        "attempts = NULL",
        "attempts = 'x'",
        "wait_ms = -1",
        "wait_ms = 9e18",
        "wait_ms = 'x'",
        "wait_ms = 9223372036854775807",
        "synced = 5",
        "synced = NULL",
        "created_at = 'then'",
        "status_at = NULL",
    ] {
        let device = Device::new();
        device.put_many(2);
        let mut device = device.force(&format!("UPDATE outbox SET {damage} WHERE id = 1"));
        let (row, _) = device.store.load(1, MAX_PAYLOAD).unwrap().expect(damage);
        assert!(row.attempts == 0 && row.wait.as_secs() <= 86_400, "{damage}");
        device.settle(NOW, &[(1, Fate::Sent)]);
        assert_eq!(device.text("SELECT status FROM outbox WHERE id = 1"), "SENT", "{damage}");
    }
}

#[test]
fn attempts_do_not_overflow() {
    let device = Device::new();
    device.put_many(2);
    let mut device = device.force("UPDATE outbox SET attempts = 9223372036854775807 WHERE id = 1");
    assert_eq!(device.store.read_again(0, 9).unwrap()[0].attempts, u32::MAX);
    device.settle(NOW, &[(1, waiting(None))]);
    assert_eq!(device.number("SELECT attempts FROM outbox WHERE id = 1"), i64::from(u32::MAX));
}

#[test]
fn a_row_with_a_wrong_type_is_parked_whatever_was_decided_and_is_never_sent() {
    for fate in [failed("x"), waiting(None), held(Lane::Key("k".into())), Fate::Sent] {
        let device = Device::new();
        device.put_many(3);
        let mut device = device.force("UPDATE outbox SET topic = x'74' WHERE id = 1");
        let settled = device.store.settle(&batch(&[(1, fate.clone()), (2, Fate::Sent)]), NOW, None).unwrap();
        assert_eq!(device.text("SELECT status FROM outbox WHERE id = 2"), "SENT");
        assert_eq!(device.text("SELECT payload FROM outbox WHERE id = 1"), "0", "the payload is kept");
        if fate == Fate::Sent {
            assert!(settled.failed.is_empty());
            continue;
        }
        assert_eq!(settled.failed, [1]);
        retry(&device.app, 1).unwrap();
        let (_, content) = device.store.load(1, MAX_PAYLOAD).unwrap().unwrap();
        assert!(spoiled(&content).contains("checksum"), "{content:?}");
    }
}

/// Each bit of the row's cell is flipped in the file, one at a time: what is read is never another message.
#[test]
fn a_flipped_bit_never_sends_a_wrong_message() {
    let device = Device::new();
    let sample = Message::text("weather/roof", "it is twenty-one and a half degrees")
        .with_key("roof")
        .with_header("unit", "celsius")
        .with_content_type("text/plain")
        .with_response_topic("weather/answers")
        .with_correlation_data("reading 4711");
    device.put(&sample);
    device.put(&Message::text("t", "last"));
    device.app.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let path = device.path.clone();
    let sound = fs::read(&path).unwrap();
    let folder = tempfile::tempdir().unwrap();

    let begin = sound.windows(12).position(|bytes| bytes == b"weather/roof").unwrap();
    let end = sound.windows(7).position(|bytes| bytes == b"degrees").unwrap() + 7;
    let (mut parked, mut unread, mut unharmed) = (0, 0, 0);
    for at in begin - 60..end {
        for bit in 0..8 {
            let mut bytes = sound.clone();
            bytes[at] ^= 1 << bit;
            let copy = folder.path().join(format!("{at}-{bit}.db"));
            fs::write(&copy, &bytes).unwrap();
            let store = open(&copy, super::BUSY).and_then(Store::new);
            let read = store.and_then(|store| store.read_fresh(0, 1, usize::MAX, true, MAX_PAYLOAD));
            match read.as_ref().map(|rows| rows.first()) {
                Ok(Some((_, Content::Spoiled(_)))) => parked += 1,
                // The checksum leaves out when a message expires; a bit that makes 0 of NULL there has it parked too.
                Ok(Some((_, Content::Message { message, .. }))) if message.expiry == Some(Duration::ZERO) => {
                    parked += 1
                }
                Ok(Some((row, Content::Message { message: read, .. }))) => {
                    // The bit that makes bytes of text changes nothing on the wire.
                    let payload = Payload::Text(String::from_utf8(read.payload.as_bytes().to_vec()).unwrap());
                    assert!(row.id != 1 || Message { payload, ..*read.clone() } == sample, "byte {at}, bit {bit}");
                    assert!(at < begin, "byte {at}, bit {bit} of the message itself is not noticed");
                    unharmed += 1;
                }
                Ok(None) | Err(_) => unread += 1,
            }
            fs::remove_file(&copy).unwrap();
        }
    }
    eprintln!("{parked} parked, {unread} unread, {unharmed} unharmed");
    assert!(parked > (end - begin) * 8, "{parked} parked, {unread} unread, {unharmed} unharmed");
}
