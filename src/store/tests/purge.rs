use std::time::Duration;

use super::{Batch, Device, Fate, NOW, failed};
use crate::store::{Purge, Uptime, delete_sent, sent_before};

const HOUR: i64 = 3_600_000;

impl Device {
    fn purge(&mut self, now: i64, upto: i64) -> usize {
        // Where nobody sets the wall clock, both say the same.
        let uptime = Uptime { boot: Some(1), since_boot: Duration::from_millis(u64::try_from(now - NOW).unwrap_or(0)) };
        let purge = Purge { retention: Duration::from_secs(3_600), upto, uptime };
        self.store.settle(&Batch::default(), now, Some(purge)).expect("purges").purged
    }

    fn purge_all(&mut self, now: i64, upto: i64) -> usize {
        let bites = std::iter::repeat_with(|| self.purge(now, upto));
        bites.take(50).sum()
    }

    fn all_sent(&mut self, ids: impl Iterator<Item = i64>, now: i64) {
        let fates: Vec<_> = ids.map(|id| (id, Fate::Sent)).collect();
        self.settle(now, &fates);
    }

    fn rows(&self) -> i64 {
        self.number("SELECT count(*) FROM outbox")
    }
}

#[test]
fn sent_rows_go_when_their_time_is_over_but_never_the_newest() {
    let mut device = Device::new();
    device.put_many(1_200);
    device.all_sent(1..=1_200, NOW);
    assert_eq!(device.purge_all(NOW + HOUR - 1, 1_200), 0, "too young");
    assert_eq!(device.purge(NOW + HOUR, 1_200), 500, "in bites");
    assert_eq!(device.purge_all(NOW + HOUR, 1_200), 699);
    assert_eq!(device.fresh_ids().len(), 0);
    assert_eq!(device.number("SELECT id FROM outbox"), 1_200);
}

#[test]
fn fewer_rows_than_a_bite_stay_until_more_may_go() {
    let mut device = Device::new();
    device.put_many(300);
    device.all_sent(1..=99, NOW);
    assert_eq!(device.purge_all(NOW + 2 * HOUR, 300), 0);
    device.all_sent(100..=100, NOW);
    assert_eq!(device.purge(NOW + 2 * HOUR, 300), 100);
}

#[test]
fn rows_above_the_position_are_not_touched() {
    let mut device = Device::new();
    device.put_many(500);
    device.all_sent(1..=500, NOW);
    assert_eq!(device.purge_all(NOW + HOUR, 250), 250);
}

#[test]
fn a_young_row_ends_the_bite() {
    let mut device = Device::new();
    device.put_many(500);
    device.all_sent(1..=150, NOW);
    device.all_sent(151..=400, NOW + HOUR);
    assert_eq!(device.purge_all(NOW + HOUR + 5, 500), 150);
    assert_eq!(device.purge_all(NOW + 2 * HOUR, 500), 250);
}

#[test]
fn pending_and_failed_rows_are_passed_over() {
    let mut device = Device::new();
    device.put_many(6_000);
    device.all_sent((1..=6_000).filter(|id| id % 3 == 0), NOW);
    let parked: Vec<_> = (1..=6_000).filter(|id| id % 3 == 1).map(|id| (id, failed("no"))).collect();
    device.settle(NOW, &parked);
    device.purge_all(NOW + HOUR, 6_000);
    assert_eq!(device.number("SELECT count(*) FROM outbox WHERE status = 'SENT'"), 1, "the newest");
    assert_eq!(device.rows(), 4_001);
}

#[test]
fn rows_from_the_future_go_at_once() {
    let mut device = Device::new();
    device.put_many(300);
    device.all_sent(1..=200, NOW + 1_000 * HOUR);
    assert_eq!(device.purge_all(NOW, 300), 200, "the clock was set back");
}

#[test]
fn rows_sent_after_purging_had_passed_them_go_later() {
    let mut device = Device::new();
    device.put_many(1_000);
    device.all_sent(401..=900, NOW);
    assert_eq!(device.purge_all(NOW + HOUR, 900), 500);
    device.all_sent(1..=300, NOW + HOUR);
    assert_eq!(device.purge_all(NOW + 2 * HOUR - 1, 900), 0);
    assert_eq!(device.purge_all(NOW + 2 * HOUR, 900), 300);
    device.all_sent(301..=400, NOW + 3 * HOUR);
    device.all_sent(901..=999, NOW + 2 * HOUR);
    assert_eq!(device.purge_all(NOW + 4 * HOUR, 1_000), 100);
    assert_eq!(device.rows(), 100);
    assert_eq!(device.reopen().purge_all(NOW + 4 * HOUR, 1_000), 0, "one short of a bite");
}

#[test]
fn rows_that_another_table_refers_to_stay_and_stop_nothing() {
    let mut device = Device::new();
    device.put_many(400);
    device.sql("CREATE TABLE receipts (message INTEGER REFERENCES outbox (id)); INSERT INTO receipts VALUES (7), (8)");
    device.store.conn.execute_batch("PRAGMA foreign_keys = ON").unwrap();
    device.all_sent(1..=399, NOW);
    assert_eq!(device.purge_all(NOW + HOUR, 400), 397);
}

#[test]
fn purging_rides_along_and_a_failed_commit_takes_it_back() {
    let mut device = Device::new();
    device.put_many(300);
    device.all_sent(1..=200, NOW);
    let purge = Some(Purge { retention: Duration::ZERO, upto: 300, uptime: Uptime::default() });
    device.sql("BEGIN IMMEDIATE");
    assert!(device.store.settle(&Batch::default(), NOW, purge).is_err());
    device.sql("COMMIT");
    let fates = super::batch(&[(250, Fate::Sent)]);
    assert_eq!(device.store.settle(&fates, NOW, purge).unwrap().purged, 201, "what was sent just now included");
}

/// As `Outbox::purge` does it.
fn purge_what_is_asked(device: &mut Device, then: i64, now: i64) -> usize {
    let (mut last, mut purged) = (0, 0);
    loop {
        let (sent, upto) = sent_before(&device.app, last, then, now).unwrap();
        let tx = device.app.transaction().unwrap();
        purged += delete_sent(&tx, &sent).unwrap();
        tx.commit().unwrap();
        match upto {
            Some(upto) => last = upto,
            None => return purged,
        }
    }
}

#[test]
fn what_somebody_asks_to_be_purged_goes_by_the_wall_clock_alone_and_the_newest_row_stays() {
    let mut device = Device::new();
    device.put_many(5_000);
    device.all_sent(1..=1_000, NOW);
    device.all_sent(1_001..=1_010, NOW + 1);
    device.all_sent(1_011..=1_020, NOW + 2 * HOUR);
    device.settle(NOW, &[(1_021, failed("no"))]);
    device.all_sent(5_000..=5_000, NOW);
    assert_eq!(purge_what_is_asked(&mut device, NOW - 1, NOW + HOUR), 10, "those from the future");
    assert_eq!(purge_what_is_asked(&mut device, NOW, NOW + HOUR), 1_000);
    assert_eq!(purge_what_is_asked(&mut device, NOW + HOUR, NOW + HOUR), 10, "however few there are");
    assert_eq!(purge_what_is_asked(&mut device, NOW + HOUR, NOW + HOUR), 0);
    assert_eq!((device.rows(), device.number("SELECT count(*) FROM outbox WHERE status = 'SENT'")), (3_980, 1));
}

#[test]
fn what_is_purged_beside_a_forwarder_does_not_keep_it_from_purging_what_comes_later() {
    let mut device = Device::new();
    device.put_many(1_000);
    device.all_sent(1..=600, NOW);
    assert_eq!(device.purge_all(NOW + HOUR, 600), 600);
    device.all_sent(601..=900, NOW + HOUR);
    assert_eq!(purge_what_is_asked(&mut device, NOW + HOUR, NOW + HOUR), 300);
    assert_eq!(device.purge_all(NOW + 2 * HOUR, 900), 0);
    device.put_many(1_000);
    device.all_sent(901..=1_900, NOW + 2 * HOUR);
    assert_eq!(device.purge_all(NOW + 3 * HOUR - 1, 1_900), 0);
    assert_eq!(device.purge_all(NOW + 3 * HOUR, 1_900), 1_000);
    assert_eq!(device.rows(), 100);
}

#[test]
fn what_another_table_refers_to_stays_when_somebody_asks_too() {
    let mut device = Device::new();
    device.put_many(10);
    device.sql("CREATE TABLE receipts (message INTEGER REFERENCES outbox (id)); INSERT INTO receipts VALUES (7), (8)");
    device.sql("PRAGMA foreign_keys = ON");
    device.all_sent(1..=9, NOW);
    assert_eq!(purge_what_is_asked(&mut device, NOW, NOW), 7);
}
