//! What is pending: counted without counting, and what a budget makes of it.

use super::{BUSY, Device, Fate, MAX_PAYLOAD, NOW, batch, failed, held, waiting};
use crate::store::{Budget, Lane, Pending, Purge, Store, Uptime, discard, enqueue, open, pending, retry, retry_all};
use crate::{Error, Full, Limit, Message};

const AMONG: usize = 50;

fn rows(most: u64) -> Budget {
    Budget { messages: Some(most), dealt_with: AMONG, ..Budget::default() }
}

fn bytes(most: u64) -> Budget {
    Budget { bytes: Some(most), dealt_with: AMONG, ..Budget::default() }
}

fn lane() -> Lane {
    Lane::Topic("t".into())
}

impl Device {
    fn pending(&self) -> Pending {
        pending(&self.app, 0, AMONG).unwrap()
    }

    /// By counting.
    fn counted(&self) -> Pending {
        let one = |sql: &str| self.number(sql) as u64;
        Pending {
            rows: one("SELECT count(*) FROM outbox WHERE status = 'PENDING'"),
            bytes: one("SELECT ifnull(sum(bytes), 0) FROM outbox WHERE status = 'PENDING'"),
            aside: one(
                "SELECT count(*) FROM outbox WHERE status = 'PENDING' AND (held_by IS NOT NULL OR attempts > 0)",
            ),
        }
    }

    #[track_caller]
    fn assert_counted(&self, when: &str) {
        assert_eq!(self.pending(), self.counted(), "{when}");
        let counters =
            (self.number("SELECT aside FROM outbox_state"), self.number("SELECT aside_bytes FROM outbox_state"));
        let aside = "status = 'PENDING' AND (held_by IS NOT NULL OR attempts > 0)";
        let counted = (
            self.number(&format!("SELECT count(*) FROM outbox WHERE {aside}")),
            self.number(&format!("SELECT ifnull(sum(bytes), 0) FROM outbox WHERE {aside}")),
        );
        assert_eq!(counters, counted, "{when}");
    }

    fn try_put(&self, message: &Message, budget: &Budget) -> Result<i64, Full> {
        match enqueue(&self.app, message, MAX_PAYLOAD, budget) {
            Ok(id) => Ok(id.row()),
            Err(Error::Full(full)) => Err(full),
            Err(error) => panic!("{error}"),
        }
    }

    fn settle_and_move(&mut self, fates: &[(i64, Fate)], position: i64) {
        let batch = super::Batch { position: Some(position), ..batch(fates) };
        self.store.settle(&batch, NOW, None).unwrap();
    }
}

fn sent(ids: std::ops::RangeInclusive<i64>) -> Vec<(i64, Fate)> {
    ids.map(|id| (id, Fate::Sent)).collect()
}

#[test]
fn every_row_knows_its_bytes_and_those_before_it_whoever_wrote_it() {
    let device = Device::new();
    let rich = Message::text("wetter/ü", "21,5 °C")
        .with_key("k")
        .with_header("unit", "°C")
        .with_content_type("text/plain")
        .with_response_topic("answers")
        .with_correlation_data([0, 255]);
    device.put(&rich);
    device.sql(
        "INSERT INTO outbox (topic, payload) VALUES ('ü', x'0000'), ('t', char(0) || 'ü');
         INSERT INTO outbox (topic, payload, key, headers, content_type, response_topic, correlation_data)
         SELECT topic, payload, key, headers, content_type, response_topic, correlation_data FROM outbox WHERE id = 1",
    );
    device.put(&Message::text("t", "p"));
    let all = "octet_length(topic) + octet_length(payload) + ifnull(octet_length(key), 0)
               + ifnull(octet_length(headers), 0) + ifnull(octet_length(content_type), 0)
               + ifnull(octet_length(response_topic), 0) + ifnull(octet_length(correlation_data), 0)";
    let wrong = format!(
        "SELECT count(*) FROM outbox AS o WHERE bytes IS NOT {all}
             OR total_bytes IS NOT (SELECT sum({all}) FROM outbox AS p WHERE p.id <= o.id)"
    );
    assert_eq!(device.number(&wrong), 0);
    assert_eq!(device.number("SELECT bytes FROM outbox WHERE id = 1") as usize, rich.size() + "[[\"\",\"\"]]".len());
}

#[test]
fn a_total_that_cannot_be_fails_no_insert_and_begins_anew() {
    for damage in ["9223372036854775807", "-1", "NULL", "9007199254740992", "'x'", "1.5", "x'00'"] {
        let device = Device::new();
        device.put_many(3);
        let device = device.force(&format!("UPDATE outbox SET total_bytes = {damage} WHERE id = 3"));
        device.put(&Message::text("t", "1234"));
        assert_eq!(device.number("SELECT total_bytes FROM outbox WHERE id = 4"), 5, "{damage}");
        let device = device.force(&format!("UPDATE outbox SET total_bytes = {damage} WHERE id = 4"));
        device.sql("INSERT INTO outbox (topic, payload) VALUES ('t', '123456')");
        assert_eq!(device.number("SELECT total_bytes FROM outbox WHERE id = 5"), 7, "{damage}");
        assert_eq!((device.pending().rows, device.pending().bytes), (5, 3 * 2 + 5 + 7), "{damage}");
    }
    let device = Device::new();
    device.sql("INSERT INTO outbox (topic, payload, bytes, total_bytes) VALUES ('t', 'p', 9223372036854775807, -5)");
    device.sql("INSERT INTO outbox (topic, payload, bytes) VALUES ('t', 'p', -9223372036854775807)");
    device.sql("INSERT INTO outbox (topic, payload, total_bytes) VALUES ('t', 'p', 9223372036854775807)");
    device.put_many(1);
    assert_eq!(device.pending().bytes, 8);
}

#[test]
fn a_message_too_many_is_told_what_is_full_and_by_how_much() {
    let device = Device::new();
    for n in 1..=3 {
        assert_eq!(device.try_put(&Message::text("t", "p"), &rows(3)), Ok(n));
    }
    let full = device.try_put(&Message::text("t", "p"), &rows(3)).unwrap_err();
    assert_eq!((full.limit, full.found, full.allowed, full.wanted), (Limit::PendingMessages, 3, 3, 1));
    let full = device.try_put(&Message::text("t", "12345"), &bytes(11)).unwrap_err();
    assert_eq!((full.limit, full.found, full.allowed, full.wanted), (Limit::PendingBytes, 6, 11, 6));
    assert_eq!(device.try_put(&Message::text("t", "1234"), &bytes(11)), Ok(4));
    assert_eq!(device.number("SELECT count(*) FROM outbox"), 4);
}

#[test]
fn small_budgets_are_exact_while_the_stored_position_is_far_behind() {
    for budget in [rows(2), bytes(4)] {
        let mut device = Device::new();
        for n in 0..20 {
            device.put(&Message::text("t", "p"));
            device.put(&Message::text("t", "p"));
            assert!(device.try_put(&Message::text("t", "p"), &budget).is_err(), "{n}");
            device.settle(NOW, &sent(2 * n + 1..=2 * n + 2));
        }
        assert_eq!(device.number("SELECT position FROM outbox_state"), 0);
        assert_eq!((device.pending().rows, device.pending().bytes), (0, 0));
    }
}

/// A message that is suspected and sent alone now and then keeps the position below it, while others flow.
#[test]
fn a_row_in_the_way_of_the_position_does_not_make_sent_rows_count() {
    let mut device = Device::new();
    device.put_many(5_000);
    let odd = |id: i64| id == 7 || id == 2_000;
    let fates: Vec<_> = sent(1..=4_000).into_iter().filter(|(id, _)| !odd(*id)).collect();
    device.settle(NOW, &fates);
    device.settle_and_move(&[], 6);
    let found = device.pending();
    let counted = device.counted();
    assert!(counted.rows - found.rows <= 1 && counted.bytes - found.bytes <= 5, "{found:?} {counted:?}");
    device.settle(NOW, &sent(4_001..=5_000));
    assert_eq!(device.pending().rows, 1);
    device.settle(NOW, &sent(7..=7));
    assert_eq!(device.pending().rows, 0);
}

#[test]
fn what_waits_or_is_held_counts_below_the_position_and_above_it() {
    let mut device = Device::new();
    device.put_many(300);
    let fates: Vec<_> = (1..=200)
        .map(|id| match id % 4 {
            0 => (id, held(lane())),
            1 => (id, waiting(None)),
            2 => (id, waiting(Some(lane()))),
            _ => (id, Fate::Sent),
        })
        .collect();
    device.settle_and_move(&fates, 0);
    // more rows than are looked at were dealt with, which is more than the lag can be
    assert_eq!(pending(&device.app, 0, 500).unwrap(), device.counted());
    device.settle_and_move(&[], 180);
    device.assert_counted("below and above");
    device.settle_and_move(&[], 200);
    device.assert_counted("below");
    assert!(device.try_put(&Message::text("t", "p"), &rows(250)).is_err());
    assert!(device.try_put(&Message::text("t", "p"), &rows(251)).is_ok());
}

#[test]
fn whatever_is_done_to_a_row_the_counters_stay_right() {
    let mut device = Device::new();
    device.put(&Message::text("t", "first").with_key("k"));
    device.put_many(8);
    type Step = fn(&mut Device);
    let steps: [(&str, Step); 18] = [
        ("held", |d| drop(d.settle(NOW, &[(1, held(lane())), (2, held(lane()))]))),
        ("held again", |d| drop(d.settle(NOW, &[(1, held(Lane::Key("k".into())))]))),
        ("refused", |d| drop(d.settle(NOW, &[(1, waiting(None)), (3, waiting(Some(lane())))]))),
        ("refused again", |d| drop(d.settle(NOW, &[(1, waiting(None))]))),
        ("released by hand", |d| d.sql("UPDATE outbox SET held_by = NULL WHERE id = 2")),
        ("made new by hand", |d| d.sql("UPDATE outbox SET attempts = 0, held_by = NULL WHERE id = 3")),
        ("edited by hand", |d| d.sql("UPDATE outbox SET payload = 'much longer than it was' WHERE id = 3")),
        ("settled by hand", |d| d.sql("UPDATE outbox SET status = 'SENT' WHERE id = 3")),
        ("settled by hand before it was sent", |d| d.sql("UPDATE outbox SET status = 'SENT' WHERE id = 6")),
        ("held by hand", |d| d.sql("UPDATE outbox SET held_by = 'key k' WHERE id = 4")),
        ("held and settled by hand", |d| d.sql("UPDATE outbox SET held_by = 'key x', status = 'FAILED' WHERE id = 5")),
        ("parked", |d| {
            drop(d.settle(NOW, &[(1, failed("no")), (2, failed("no")), (4, failed("no")), (9, failed("no"))]))
        }),
        ("retried", |d| retry(&d.app, 1).unwrap()),
        ("all retried", |d| assert_eq!(retry_all(&d.app).unwrap(), 4)),
        ("sent", |d| drop(d.settle(NOW, &[(1, Fate::Sent), (2, Fate::Sent), (2, Fate::Sent)]))),
        ("reopened by hand", |d| d.sql("UPDATE outbox SET status = 'PENDING', attempts = 0 WHERE id IN (1, 2)")),
        ("discarded", |d| {
            d.settle(NOW, &[(2, failed("no")), (9, failed("no"))]);
            discard(&d.app, 2).unwrap();
            discard(&d.app, 9).unwrap();
        }),
        ("deleted by hand", |d| d.sql("DELETE FROM outbox")),
    ];
    for recursive in ["OFF", "ON"] {
        device.sql(&format!("PRAGMA recursive_triggers = {recursive}"));
        device.put_many(2);
    }
    for (name, step) in steps {
        step(&mut device);
        device.assert_counted(name);
        if name == "all retried" {
            assert!(device.counted().aside >= 4);
        }
    }
    device.sql(
        "INSERT INTO outbox (topic, payload, attempts) VALUES ('t', 'restored', 3);
         INSERT INTO outbox (topic, payload, held_by, bytes, total_bytes) VALUES ('t', 'restored', 'key k', 9, 100);
         INSERT INTO outbox (topic, payload, held_by, status) VALUES ('t', 'restored', 'key k', 'SENT')",
    );
    device.assert_counted("written as waiting");
    device.sql("BEGIN; DELETE FROM outbox; UPDATE outbox SET attempts = 7; ROLLBACK");
    device.assert_counted("rolled back");
}

/// Actions drawn at random, a count after each.
#[test]
fn what_is_pending_is_what_counting_finds() {
    for seed in 1..=30_u64 {
        let mut device = Device::new();
        let mut state = seed;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        device.put(&Message::text("t", "p"));
        for step in 0..60 {
            let newest = device.store.newest().unwrap();
            let id = 1 + draw(newest as u64) as i64;
            match draw(10) {
                0..=2 => drop(device.put(&Message::text("t", "x".repeat(draw(50) as usize)))),
                3 => device.sql(&format!("INSERT INTO outbox (topic, payload) VALUES ('sql', zeroblob({}))", draw(90))),
                4 => drop(device.settle(NOW, &[(id, held(lane()))])),
                5 => drop(device.settle(NOW, &[(id, waiting((draw(2) == 0).then(lane)))])),
                6 => drop(device.settle(NOW, &[(id, Fate::Sent)])),
                7 => drop(device.settle(NOW, &[(id, failed("no"))])),
                8 if draw(2) == 0 => drop(retry(&device.app, id)),
                8 => drop(discard(&device.app, id)),
                _ => {
                    // as the forwarder does: up to the first row that nobody has dealt with
                    let first = device.fresh_ids().first().map_or(newest, |id| id - 1);
                    device.settle_and_move(&[], first);
                }
            }
            device.assert_counted(&format!("seed {seed}, step {step}"));
        }
    }
}

#[test]
fn a_purge_of_what_the_position_has_not_yet_reached_takes_nothing_off() {
    let mut device = Device::new();
    device.put_many(300);
    let all = batch(&sent(1..=250));
    let purge = Purge { retention: std::time::Duration::ZERO, upto: 250, uptime: Uptime::default() };
    let settled = device.store.settle(&all, NOW, Some(purge)).unwrap();
    assert_eq!((settled.purged, device.number("SELECT position FROM outbox_state")), (250, 0));
    device.assert_counted("purged");
    assert_eq!(device.try_put(&Message::text("t", "p"), &rows(51)), Ok(301));
    assert!(device.try_put(&Message::text("t", "p"), &rows(51)).is_err());
    device.assert_counted("full");
}

#[test]
fn a_flipped_total_or_counter_does_not_shut_the_outbox() {
    for damage in [
        "UPDATE outbox SET total_bytes = total_bytes + 1099511627776 WHERE id = 150",
        "UPDATE outbox SET total_bytes = total_bytes - 1099511627776 WHERE id = 150",
        "UPDATE outbox SET total_bytes = -9223372036854775808 WHERE id = 150",
        "UPDATE outbox SET total_bytes = 9223372036854775807 WHERE id IN (1, 50, 150)",
        "UPDATE outbox SET total_bytes = 'x', bytes = 'x' WHERE id IN (1, 50, 150)",
        "UPDATE outbox SET bytes = -9223372036854775808 WHERE id IN (1, 50, 150)",
        "UPDATE outbox SET bytes = 9223372036854775807 WHERE id IN (1, 50, 150)",
        "UPDATE outbox_state SET aside = 9223372036854775807, aside_bytes = 9223372036854775807",
        "UPDATE outbox_state SET aside = -9223372036854775808, aside_bytes = -9223372036854775808",
        "UPDATE outbox_state SET position = 9223372036854775807",
    ] {
        let device = Device::new();
        device.put_many(150);
        let mut device = device.force(damage);
        for _ in 0..10 {
            device.try_put(&Message::text("t", "p"), &Budget { messages: Some(161), ..bytes(1 << 20) }).expect(damage);
        }
        // with a row set aside, so that the counters are asked
        device.settle(NOW, &[(2, waiting(None)), (50, held(lane())), (150, held(lane()))]);
        device.try_put(&Message::text("t", "p"), &Budget { messages: Some(1_000), ..bytes(1 << 20) }).expect(damage);
        device.settle(NOW, &sent(1..=161));
        assert_eq!((device.pending().rows, device.pending().bytes), (0, 0), "{damage}");
    }
}

#[test]
fn counters_that_damage_changed_are_right_again_after_a_start() {
    let mut device = Device::new();
    device.put_many(3);
    device.sql("UPDATE outbox_state SET aside = 2, aside_bytes = 70");
    device.settle(NOW, &[(1, held(lane()))]);
    assert_eq!(device.number("SELECT aside FROM outbox_state"), 3, "one is held");
    device.store.check_aside().unwrap();
    device.assert_counted("one is held");
    device.settle(NOW, &[(1, Fate::Sent)]);
    device.sql("UPDATE outbox_state SET aside_bytes = 70");
    device.store.check_aside().unwrap();
    device.assert_counted("none is");
    assert!(device.store.damage().is_none(), "of the rows themselves nothing was wrong");
}

/// A deferred transaction takes the write lock at its first statement, as it did before there was a budget.
#[test]
fn a_budget_does_not_make_a_deferred_transaction_read_before_it_writes() {
    let device = Device::new();
    let mut other = open(&device.path, BUSY).unwrap();
    let tx = other.transaction().unwrap();
    let full = enqueue(&tx, &Message::text("t", "1234567"), MAX_PAYLOAD, &bytes(7)).unwrap_err();
    assert!(matches!(full, Error::Full(_)), "{full}");
    device.app.busy_timeout(std::time::Duration::ZERO).unwrap();
    let locked = enqueue(&device.app, &Message::text("t", "p"), MAX_PAYLOAD, &Budget::default());
    assert!(matches!(locked, Err(Error::Busy(_))), "{locked:?}");
    enqueue(&tx, &Message::text("t", "p"), MAX_PAYLOAD, &bytes(7)).unwrap();
    tx.commit().unwrap();
    drop(Store::new(other).unwrap());
    assert_eq!(device.pending().rows, 1);
}

/// By what the write-ahead log grows.
#[test]
fn an_ordinary_message_leaves_the_state_alone() {
    let mut device = Device::new();
    let before =
        device.text("SELECT group_concat(quote(aside) || quote(aside_bytes) || quote(position)) FROM outbox_state");
    device.sql("PRAGMA wal_autocheckpoint = 0");
    device.put_many(5);
    device.sql("INSERT INTO outbox (topic, payload) VALUES ('t', 'p')");
    let page = device.number("SELECT rootpage FROM sqlite_schema WHERE name = 'outbox_state'") as u32;
    device.settle(NOW, &sent(1..=6));
    assert_eq!(frames_of(&device, page), 0, "outbox_state was written");
    device.put_many(1);
    device.settle(NOW, &[(7, held(lane()))]);
    assert_eq!(frames_of(&device, page), 1);
    assert_ne!(
        before,
        device.text("SELECT group_concat(quote(aside) || quote(aside_bytes) || quote(position)) FROM outbox_state")
    );
}

/// How often the page stands in the write-ahead log since the schema was made.
fn frames_of(device: &Device, page: u32) -> usize {
    let mut wal = device.path.clone().into_os_string();
    wal.push("-wal");
    let log = std::fs::read(wal).unwrap();
    let frames = log[32..].chunks_exact(24 + 4096);
    frames.filter(|frame| frame[..4] == page.to_be_bytes()).count() - 1
}
