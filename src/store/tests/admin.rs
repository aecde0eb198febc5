use super::{BUSY, Device, Fate, MAX_PAYLOAD, NOW, failed, held, message, waiting};
use crate::store::{
    Lane, Status, discard, discard_some, failed as list, failed_count, fresh_above, get, last_failed, oldest_pending,
    pending_upto, retry, retry_all,
};
use crate::{Error, Message};

#[test]
fn failed_messages_are_listed_in_pages() {
    let mut device = Device::new();
    device.put(&Message::text("a/b", "12345").with_key("k"));
    device.put_many(4);
    device.settle(NOW, &[(1, failed("too large")), (3, failed("no")), (4, failed("no"))]);
    let page = list(&device.app, 0, 2).unwrap();
    assert_eq!(page.iter().map(|row| row.id.row()).collect::<Vec<_>>(), [1, 3]);
    let first = &page[0];
    assert_eq!((first.topic.as_str(), first.key.as_deref(), first.reason.as_str()), ("a/b", Some("k"), "too large"));
    assert_eq!((first.attempts, first.failed_at, first.size), (1, NOW, 9));
    assert!(first.created_at > 1_500_000_000_000);
    assert_eq!(list(&device.app, 3, 2).unwrap().len(), 1);
    assert_eq!(failed_count(&device.app).unwrap(), 3);
}

#[test]
fn a_row_is_shown_whole_whatever_its_status() {
    let mut device = Device::new();
    let sample = Message::text("t", "p").with_header("a", "b");
    device.put(&sample);
    device.put_many(1);
    device.settle(NOW, &[(1, Fate::Sent), (2, held(Lane::Topic("t".into())))]);
    let sent = get(&device.app, 1, MAX_PAYLOAD).unwrap().unwrap();
    assert_eq!((sent.status, sent.status_at, sent.attempts), (Some(Status::Sent), NOW, 1));
    assert_eq!(message(&sent.content), &sample);
    let waits = get(&device.app, 2, MAX_PAYLOAD).unwrap().unwrap();
    assert_eq!((waits.status, waits.held_by.as_deref()), (Some(Status::Pending), Some("topic t")));
    assert!(get(&device.app, 3, MAX_PAYLOAD).unwrap().is_none());
}

#[test]
fn a_retried_message_is_to_be_sent_again_and_keeps_its_reason() {
    let mut device = Device::new();
    device.put_many(2);
    device.settle(NOW, &[(1, waiting(None))]);
    device.settle(NOW, &[(1, failed("no"))]);
    retry(&device.app, 1).unwrap();
    let again = device.store.read_again(0, 9).unwrap();
    assert_eq!((again.len(), again[0].attempts, again[0].wait.is_zero()), (1, 1, true));
    assert_eq!(device.text("SELECT last_error FROM outbox WHERE id = 1"), "no");
    for id in [1, 2, 3] {
        assert!(matches!(retry(&device.app, id), Err(Error::NoSuchMessage { .. })), "{id} is not failed");
    }
}

#[test]
fn all_failed_messages_are_retried_at_once() {
    let mut device = Device::new();
    device.put_many(1_203);
    let fates: Vec<_> = (1..=1_201).map(|id| (id, failed("no"))).collect();
    device.settle(NOW, &fates);
    assert_eq!(retry_all(&device.app).unwrap(), 1_201);
    assert_eq!(retry_all(&device.app).unwrap(), 0);
    assert_eq!(device.waiting_count(), 1_201);
    assert_eq!(failed_count(&device.app).unwrap(), 0);
}

#[test]
fn a_discarded_message_is_gone_and_the_newest_is_emptied_first() {
    let mut device = Device::new();
    device.put_many(2);
    device.put(&Message::text("t", "secret").with_key("k").with_header("a", "b"));
    device.settle(NOW, &[(1, failed("no")), (3, failed("no"))]);
    discard(&device.app, 1).unwrap();
    discard(&device.app, 3).unwrap();
    assert!(get(&device.app, 1, MAX_PAYLOAD).unwrap().is_none());
    let newest = get(&device.app, 3, MAX_PAYLOAD).unwrap().unwrap();
    assert_eq!((newest.status, newest.size), (Some(Status::Sent), 1));
    assert_eq!(newest.last_error.as_deref(), Some("discarded"));
    assert_eq!(failed_count(&device.app).unwrap(), 0);
    for id in [1, 2, 3] {
        assert!(matches!(discard(&device.app, id), Err(Error::NoSuchMessage { .. })), "{id} is not failed");
    }
    assert_eq!(device.put(&Message::text("t", "p")), 4);
}

#[test]
fn what_waits_is_counted_and_dated() {
    let mut device = Device::new();
    device.put_many(6);
    device.sql("UPDATE outbox SET created_at = id * 1000");
    assert_eq!(oldest_pending(&device.app, 0).unwrap(), Some(1_000));
    let lane = Lane::Key("k".into());
    device.settle(NOW, &[(1, Fate::Sent), (2, Fate::Sent), (3, held(lane)), (4, waiting(None)), (5, Fate::Sent)]);
    assert_eq!((device.waiting_count(), device.held_count()), (1, 1));
    assert_eq!(fresh_above(&device.app, 0, 100).unwrap(), 1);
    assert_eq!(fresh_above(&device.app, 0, 5).unwrap(), 1, "where the last is not looked at");
    assert_eq!(
        fresh_above(&device.app, 2, 1).unwrap(),
        2,
        "SENT rows are not noticed that far behind, waiting ones are"
    );
    assert_eq!(oldest_pending(&device.app, 5).unwrap(), Some(3_000));
    assert!(!pending_upto(&device.app, 2).unwrap());
    assert!(pending_upto(&device.app, 3).unwrap());
    device.settle(NOW, &[(3, Fate::Sent)]);
    assert!(!pending_upto(&device.app, 3).unwrap());
    assert!(pending_upto(&device.app, 4).unwrap());
    assert_eq!(oldest_pending(&device.app, 5).unwrap(), Some(4_000));
    device.settle(NOW, &[(4, failed("no"))]);
    assert_eq!(oldest_pending(&device.app, 5).unwrap(), Some(6_000));
    device.settle(NOW, &[(6, Fate::Sent)]);
    assert_eq!(oldest_pending(&device.app, 5).unwrap(), None);
    assert_eq!(fresh_above(&device.app, 0, 100).unwrap(), 0);
}

#[test]
fn a_table_of_the_connections_own_does_not_stand_in_the_way() {
    let mut device = Device::new();
    device.sql("CREATE TEMP TABLE outbox (x)");
    device.put_many(3);
    device.settle(NOW, &[(1, failed("no"))]);
    assert_eq!(failed_count(&device.app).unwrap(), 1);
    retry(&device.app, 1).unwrap();
    drop(super::open(&device.path, BUSY).unwrap());
}

#[test]
fn all_failed_messages_are_discarded_in_bites_and_those_that_others_refer_to_stay() {
    let mut device = Device::new();
    device.put_many(1_203);
    let fates: Vec<_> = (1..=1_201).chain([1_203]).map(|id| (id, failed("no"))).collect();
    device.settle(NOW, &fates);
    device.sql("CREATE TABLE receipts (message INTEGER REFERENCES outbox (id)); INSERT INTO receipts VALUES (7)");
    device.sql("PRAGMA foreign_keys = ON");
    let last = last_failed(&device.app).unwrap().unwrap();
    let tx = device.app.transaction().unwrap();
    let first = discard_some(&tx, i64::MIN, last).unwrap();
    assert_eq!(first, (499, Some(500)));
    assert_eq!(discard_some(&tx, 500, last).unwrap(), (500, Some(1_000)));
    assert_eq!(discard_some(&tx, 1_000, last).unwrap(), (202, Some(1_203)));
    assert_eq!(discard_some(&tx, 1_203, last).unwrap(), (0, None));
    tx.commit().unwrap();
    assert_eq!((last, device.number("SELECT group_concat(id) = '7,1202,1203' FROM outbox")), (1_203, 1));
    assert_eq!(device.text("SELECT status || last_error FROM outbox WHERE id = 1203"), "SENTdiscarded");
}
