use std::time::Duration;

use rusqlite::params;

use super::{Batch, Device, Fate, NOW, batch, failed, held, waiting};
use crate::Error;
use crate::broker::MAX_REASON;
use crate::store::Lane;

fn row(device: &Device, id: i64) -> (String, i64, i64, Option<String>, Option<String>) {
    let sql = "SELECT status, attempts, wait_ms, held_by, last_error FROM outbox WHERE id = ?1";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?));
    device.app.query_row(sql, params![id], read).expect("the row")
}

#[test]
fn each_fate_writes_what_it_says() {
    let mut device = Device::new();
    device.put_many(5);
    let lane = Lane::Key("k".into());
    let parked = device.settle(
        NOW,
        &[(1, Fate::Sent), (2, failed("no")), (3, waiting(None)), (4, waiting(Some(lane.clone()))), (5, held(lane))],
    );
    assert_eq!(parked, [2]);
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(row(&device, 1), ("SENT".to_owned(), 1, 0, None, None));
    assert_eq!(row(&device, 2), ("FAILED".to_owned(), 1, 0, None, text("no")));
    assert_eq!(row(&device, 3), ("PENDING".to_owned(), 1, 1_500, None, text("quota")));
    assert_eq!(row(&device, 4), ("PENDING".to_owned(), 1, 1_500, text("key k"), text("quota")));
    assert_eq!(row(&device, 5), ("PENDING".to_owned(), 0, 0, text("key k"), None));
    assert_eq!(device.number("SELECT count(*) FROM outbox WHERE status_at = 1700000000000"), 2);

    device.settle(NOW, &[(4, Fate::Sent), (5, failed("never"))]);
    assert_eq!(row(&device, 4).3, None);
    assert_eq!(row(&device, 5).3, None);
}

#[test]
fn settling_twice_is_settling_once() {
    let mut device = Device::new();
    device.put_many(3);
    assert_eq!(device.settle(NOW, &[(1, Fate::Sent), (2, failed("no"))]), [2]);
    let before = (row(&device, 1), row(&device, 2));
    let lane = Lane::Key("k".into());
    assert!(device.settle(NOW + 5, &[(1, Fate::Sent), (2, failed("again")), (99, Fate::Sent)]).is_empty());
    device.settle(NOW + 5, &[(1, waiting(None)), (2, held(lane)), (1, failed("late"))]);
    assert_eq!((row(&device, 1), row(&device, 2)), before);
}

#[test]
fn an_acknowledgement_counts_even_for_a_row_given_up() {
    let mut device = Device::new();
    device.put_many(2);
    device.settle(NOW, &[(1, failed("too late"))]);
    assert!(device.settle(NOW, &[(1, Fate::Sent), (2, failed("no")), (2, Fate::Sent)]).is_empty());
    assert_eq!((row(&device, 1).0.as_str(), row(&device, 2).0.as_str()), ("SENT", "SENT"));
}

#[test]
fn a_later_word_about_the_same_row_stands() {
    let mut device = Device::new();
    device.put_many(2);
    let (a, b) = (Lane::Key("a".into()), Lane::Key("b".into()));
    device.settle(NOW, &[(1, held(a)), (1, held(b)), (2, waiting(None)), (2, Fate::Sent)]);
    assert_eq!(row(&device, 1).3.as_deref(), Some("key b"));
    assert_eq!((row(&device, 2).0.as_str(), row(&device, 2).1), ("SENT", 2));
}

#[test]
fn reasons_are_cut_between_characters() {
    let mut device = Device::new();
    device.put_many(1);
    device.settle(NOW, &[(1, failed(&format!("x{}", "ü".repeat(MAX_REASON))))]);
    let reason = row(&device, 1).4.unwrap();
    assert_eq!(reason.len(), MAX_REASON - 1);
}

#[test]
fn the_position_is_written_when_it_is_given_and_kept_when_not() {
    let mut device = Device::new();
    device.put_many(3);
    device.store.settle(&Batch { position: Some(2), ..batch(&[(1, Fate::Sent)]) }, NOW, None).unwrap();
    device.settle(NOW, &[(2, Fate::Sent)]);
    assert_eq!(device.store.position().unwrap(), 2);
    assert_eq!(device.reopen().store.position().unwrap(), 2);
}

#[test]
fn a_synced_batch_writes_a_page_and_leaves_the_connection_as_it_was() {
    let mut device = Device::new();
    let before = device.wal_bytes();
    device.store.settle(&Batch { synced: true, ..Batch::default() }, NOW, None).unwrap();
    assert!(device.wal_bytes() > before);
    let level = |device: &Device| -> i64 {
        device.store.conn.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap()
    };
    assert_eq!(level(&device), 1);

    device.sql("BEGIN IMMEDIATE");
    let busy = device.store.settle(&Batch { synced: true, ..Batch::default() }, NOW, None);
    assert!(matches!(busy, Err(Error::Busy(_))));
    assert_eq!(level(&device), 1, "after an error too");
}

#[test]
fn an_empty_batch_writes_nothing() {
    let mut device = Device::new();
    let before = device.wal_bytes();
    device.store.settle(&Batch::default(), NOW, None).unwrap();
    assert_eq!(device.wal_bytes(), before);
}

#[test]
fn a_batch_that_fails_leaves_no_trace_and_no_transaction() {
    let mut device = Device::new();
    device.put_many(2);
    device.sql(
        "CREATE TRIGGER theirs BEFORE UPDATE OF status ON outbox WHEN NEW.id = 2
         BEGIN SELECT RAISE(ABORT, 'not this one'); END",
    );
    let all = batch(&[(1, Fate::Sent), (2, Fate::Sent)]);
    assert!(device.store.settle(&all, NOW, None).is_err());
    assert!(device.store.conn.is_autocommit());
    assert_eq!(row(&device, 1).0, "PENDING");
    assert_eq!(device.text("SELECT payload FROM outbox WHERE id = 2"), "1", "a stranger's rule is no damage");
    device.sql("DROP TRIGGER theirs");
    device.store.settle(&all, NOW, None).unwrap();
}

#[test]
fn long_waits_are_stored_as_they_are() {
    let mut device = Device::new();
    device.put_many(1);
    let wait = Duration::from_secs(86_400);
    device.settle(NOW, &[(1, Fate::Waiting { wait, reason: String::new(), lane: None })]);
    assert_eq!(device.store.read_again(0, 1).unwrap()[0].wait, wait);
}

#[test]
fn a_row_parked_before_there_was_no_space_for_the_others_is_told_when_there_is() {
    let mut device = Device::new();
    device.put_many(100);
    let pages = device.number("PRAGMA page_count");
    let limit = |device: &Device, pages| device.store.conn.pragma_update(None, "max_page_count", pages).unwrap();
    limit(&device, pages);
    let reason = |id: i64| if id > 96 { "x".repeat(1_000) } else { "x".to_owned() };
    let batch = batch(&(80..=100).map(|id| (id, failed(&reason(id)))).collect::<Vec<_>>());
    assert!(matches!(device.store.settle(&batch, NOW, None), Err(Error::DiskFull(_))));
    assert!(device.number("SELECT count(*) FROM outbox WHERE status = 'FAILED'") > 0);
    limit(&device, 1_000_000);
    let told = device.store.settle(&batch, NOW, None).unwrap().failed;
    assert_eq!(told, (80..=100).collect::<Vec<_>>());
}
