//! Looking at a large table makes nobody wait, and what is told is of one moment.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use edge_outbox::inspector::Filter;
use edge_outbox::rusqlite::Connection;
use edge_outbox::{Inspector, MessageState};

use crate::device::{Device, SOON, enqueue, numbered, value};

const MANY: usize = 25_000; // more than two bites

/// Ends what runs beside a test, however that ends.
struct UntilDropped<'a>(&'a AtomicBool);

impl Drop for UntilDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn large() -> Device {
    let device = Device::new();
    enqueue(&device.open_writer(), numbered("t", 0..MANY));
    device
}

#[test]
fn a_filter_that_lets_few_through_finds_them_all_in_a_table_of_any_length() {
    let device = large();
    let sql = device.sql();
    let wanted = [1, 9_999, 10_000, 10_001, 20_000, 20_001, 25_000];
    for id in wanted {
        sql.execute("UPDATE outbox SET topic = 'rare', status = 'FAILED' WHERE id = ?1", [id]).unwrap();
    }
    let inspector = Inspector::open(device.database(), SOON).unwrap();
    let rare = || Filter { topic: Some("rare".to_owned()), ..Filter::default() };
    for filter in [rare(), Filter { state: Some(MessageState::Failed), ..rare() }] {
        let found = inspector.messages(&filter, 0, 100).unwrap();
        assert_eq!(found.iter().map(|found| found.id.row()).collect::<Vec<_>>(), wanted);
        assert_eq!(inspector.messages(&filter, 10_000, 2).unwrap().len(), 2);
    }
    let all = inspector.messages(&Filter::default(), 0, usize::MAX).unwrap();
    assert!(all.iter().map(|found| found.id.row()).eq(1..=MANY as i64));
}

#[test]
fn between_two_looks_nothing_is_held_and_the_log_begins_anew() {
    let device = large();
    let inspector = Inspector::open(device.database(), SOON).unwrap();
    let sql = device.sql();
    let truncated = |sql: &Connection| value::<i64>(sql, "PRAGMA wal_checkpoint(TRUNCATE)", []) == 0;
    inspector.figures().unwrap();
    assert!(truncated(&sql));
    enqueue(&device.open_writer(), numbered("t", 0..1));
    assert_eq!(inspector.messages(&Filter::default(), 0, 10).unwrap().len(), 10); // and many are not asked for
    inspector.message(1).unwrap();
    assert!(truncated(&sql));
}

#[test]
fn figures_are_of_one_moment_while_others_write() {
    let device = Device::new();
    let outbox = device.open_writer();
    enqueue(&outbox, numbered("t", 0..1_000));
    let sql = device.sql();
    let done = &AtomicBool::new(false);
    thread::scope(|scope| {
        let _until = UntilDropped(done);
        scope.spawn(move || {
            // Each commit makes one pending, one sent and one failed: whoever sees half of one sees other sums.
            let mut last = 1_000;
            while !done.load(Ordering::Relaxed) {
                let tx = sql.unchecked_transaction().unwrap();
                for status in ["PENDING", "SENT", "FAILED"] {
                    last += 1;
                    tx.execute("INSERT INTO outbox (topic, payload, status) VALUES ('t', 'p', ?1)", [status]).unwrap();
                }
                tx.execute("UPDATE outbox_state SET unreadable = (?1 - 1000) / 3", [last]).unwrap();
                tx.commit().unwrap();
            }
        });
        let inspector = Inspector::open(device.database(), SOON).unwrap();
        let mut seen = 0;
        while seen < 100 {
            let figures = inspector.figures().unwrap();
            let commits = figures.sent;
            assert_eq!((figures.pending, figures.failed, figures.unreadable), (1_000 + commits, commits, commits));
            assert_eq!(
                figures.last_failed.map(|failed| failed.id.row()),
                (commits > 0).then_some(1_000 + 3 * commits as i64)
            );
            seen = commits;
        }
    });
}

#[test]
fn who_looks_makes_no_writer_wait() {
    let device = large();
    let outbox = device.open_writer();
    let inspector = Inspector::open(device.database(), SOON).unwrap();
    let impatient = device.sql();
    impatient.busy_timeout(Duration::ZERO).unwrap();
    let done = &AtomicBool::new(false);
    thread::scope(|scope| {
        let _until = UntilDropped(done);
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                inspector.figures().unwrap();
                inspector.messages(&Filter { key: Some("no such".to_owned()), ..Filter::default() }, 0, 1).unwrap();
            }
        });
        for _ in 0..200 {
            impatient.execute("INSERT INTO outbox (topic, payload) VALUES ('t', 'p')", []).unwrap();
        }
    });
    drop(outbox);
}
