use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rusqlite::Connection;

use super::salvage::leaf;
use super::{BUSY, Batch, Device, Fate, MAX_PAYLOAD, NOW, batch, failed, held, waiting};
use crate::store::check::{Fault, Looked};
use crate::store::restore::{Flaw, Kind, Misfit};
use crate::store::{Bound, Lane, Purge, Sharing, Status, Uptime, Wanted, check, look_into, summaries};

/// By a connection that cannot write, as the tool has it.
fn faults(device: &Device) -> (Vec<Fault>, Looked) {
    let conn = look_into(&device.path, Sharing::Locks, BUSY).expect("it can be looked at");
    let mut faults = Vec::new();
    let looked = check(&conn, &device.path, MAX_PAYLOAD, &mut |fault| faults.push(fault)).expect("it is looked at");
    (faults, looked)
}

fn spoiled(faults: &[Fault]) -> Vec<(i64, Option<Status>)> {
    let of = |fault: &Fault| match fault {
        Fault::Spoiled { id, status, .. } => Some((*id, *status)),
        _ => None,
    };
    faults.iter().filter_map(of).collect()
}

fn said(faults: &[Fault]) -> Vec<&str> {
    let mut said = Vec::new();
    for fault in faults {
        if let Fault::Integrity { said: words, .. } = fault {
            said.push(words.as_str());
        }
    }
    said
}

#[test]
fn a_sound_outbox_has_no_fault_whatever_became_of_its_rows() {
    let mut device = Device::new();
    device.put_many(2_000);
    device.put_rows(20, 60_000);
    device.sql("INSERT INTO outbox (topic, payload) VALUES ('plain', 'sql')");
    let lane = Lane::Topic("t".into());
    device
        .settle(NOW, &[(1, Fate::Sent), (2, failed("no")), (3, waiting(None)), (4, held(lane)), (2_005, failed("no"))]);
    device.sql("UPDATE outbox_state SET position = 4; UPDATE outbox SET status = 'PENDING' WHERE id = 1");
    device.sql("DELETE FROM outbox WHERE id BETWEEN 100 AND 900");
    device.sql("CREATE TABLE theirs (a UNIQUE); CREATE TRIGGER theirs_too AFTER INSERT ON outbox BEGIN SELECT 1; END");
    let (faults, looked) = faults(&device);
    assert_eq!(faults, []);
    assert_eq!(looked, Looked { rows: 2_021 - 801, failed: 2, application: None });
}

#[test]
fn an_empty_outbox_has_no_fault() {
    let device = Device::new();
    assert_eq!(faults(&device), (vec![], Looked::default()));
}

#[test]
fn rows_that_cannot_be_sent_are_told_with_what_became_of_them() {
    let mut device = Device::new();
    device.put_many(6);
    device.settle(NOW, &[(1, Fate::Sent), (2, failed("no"))]);
    let device = device.force(
        "UPDATE outbox SET checksum = 1 WHERE id IN (1, 2, 3); UPDATE outbox SET status = 'SEND' WHERE id = 4;
         UPDATE outbox SET checksum = NULL, headers = 'secret' WHERE id = 5;
         UPDATE outbox SET nonce = 'x' WHERE id = 6",
    );
    let (faults, looked) = faults(&device);
    assert_eq!(
        spoiled(&faults),
        [
            (1, Some(Status::Sent)),
            (2, Some(Status::Failed)),
            (3, Some(Status::Pending)),
            (4, None),
            (5, Some(Status::Pending)),
            (6, Some(Status::Pending)),
        ]
    );
    assert_eq!((looked.rows, looked.failed), (6, 1));
    assert!(!format!("{faults:?}").contains("secret"), "{faults:?}");
    assert_eq!(said(&faults), ["non-INTEGER value in outbox.nonce"]);
}

#[test]
fn a_position_that_cannot_be_is_told() {
    for (position, fault) in [
        ("7", Fault::Ahead { position: 7, newest: 3 }),
        ("'x'", Fault::Position),
        ("-1", Fault::Position),
        ("NULL", Fault::Position),
    ] {
        let device = Device::new();
        device.put_many(3);
        device.sql("PRAGMA ignore_check_constraints = ON; PRAGMA writable_schema = ON;");
        device.sql(
            "UPDATE sqlite_schema SET sql = replace(replace(replace(sql, 'STRICT', ''), 'INTEGER NOT NULL', 'BLOB'), '-- ', '--  ')
             WHERE name = 'outbox_state'",
        );
        let saved = device.text("SELECT sql FROM sqlite_schema WHERE name = 'outbox_state'");
        let device = device.reopen();
        device.sql("PRAGMA ignore_check_constraints = ON");
        device.sql(&format!("UPDATE outbox_state SET position = {position}"));
        let (faults, _) = faults(&device);
        assert!(faults.contains(&fault), "{position}: {faults:?}\n{saved}");
    }
}

#[test]
fn a_row_to_be_sent_where_nobody_looks_any_more_is_told() {
    let mut device = Device::new();
    device.put_many(5);
    device.settle(NOW, &[(1, Fate::Sent), (2, Fate::Sent), (3, Fate::Sent)]);
    device.sql("UPDATE outbox_state SET position = 3; DROP TRIGGER outbox_reopened");
    device.sql("UPDATE outbox SET status = 'PENDING', attempts = 0 WHERE id = 2");
    let (faults, _) = faults(&device);
    let misfit = Misfit { kind: Kind::Trigger, name: "outbox_reopened".to_owned(), flaw: Flaw::Missing };
    assert_eq!(faults, [Fault::Schema(misfit), Fault::Stranded { id: 2 }]);
}

#[test]
fn counters_that_a_missing_trigger_left_behind_are_told() {
    let device = Device::new();
    device.put_many(5);
    device.sql("UPDATE outbox SET attempts = 1 WHERE id = 1");
    assert_eq!(faults(&device).0, []);
    device.sql("UPDATE outbox_state SET aside_bytes = aside_bytes - 1");
    let bytes = device.number("SELECT bytes FROM outbox WHERE id = 1");
    assert_eq!(faults(&device).0, [Fault::Aside { rows: 1, bytes }]);
    device.sql("UPDATE outbox_state SET aside_bytes = aside_bytes + 1, aside = 2");
    assert_eq!(faults(&device).0, [Fault::Aside { rows: 1, bytes }]);
}

#[test]
fn pages_that_cannot_be_read_do_not_end_it() {
    let device = Device::new();
    device.put_rows(4_000, 50);
    let mut gone = BTreeSet::new();
    let device = device.spoil(|pages| {
        for (page, ids) in [1, 700, 2_000, 3_999].map(|id| leaf(pages, id)) {
            pages.overwrite(page);
            gone.extend(ids);
        }
    });
    let (faults, looked) = faults(&device);
    assert!(!said(&faults).is_empty(), "{faults:?}");
    let (mut told, mut behind) = (BTreeSet::new(), 0);
    for fault in &faults {
        match fault {
            Fault::Unreadable { first, last } => told.extend(*first..=*last),
            Fault::End { last } => behind = *last,
            Fault::Integrity { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    // Behind the last row that can be read nobody knows of any.
    let last = (1..=4_000).rfind(|id| !gone.contains(id)).unwrap();
    assert_eq!(behind, last);
    assert_eq!(told, gone.iter().copied().filter(|id| *id <= last).collect());
    assert_eq!(looked.rows, 4_000 - gone.len() as u64);
}

#[test]
fn a_row_with_a_broken_chain_of_pages_is_told_by_its_id() {
    let device = Device::new();
    device.put_rows(9, 20_000);
    let device = device.spoil(|pages| {
        let (_, cell) = pages.find("outbox", 4);
        pages.overwrite(cell.overflow[1]);
    });
    let (faults, looked) = faults(&device);
    assert!(faults.contains(&Fault::Broken { id: 4 }), "{faults:?}");
    assert_eq!((looked.rows, spoiled(&faults)), (9, vec![]));
}

#[test]
fn rows_whose_ids_were_changed_are_told_and_hide_no_others() {
    // The last ones: at the end of what is read in one go.
    for (id, becomes) in [(40, 90), (40, 3), (1, 77), (99, 2), (64, 65), (511, 2), (512, 3)] {
        let device = Device::new();
        device.put_rows(600, 30);
        let device = device.spoil(|pages| {
            let (_, cell) = pages.find("outbox", id);
            // Ids of two bytes become larger by 128 times that.
            pages.bytes[cell.id_at] = if id < 128 { becomes } else { 0x80 | (becomes + 5) };
        });
        let (faults, looked) = faults(&device);
        assert!(faults.iter().any(|fault| matches!(fault, Fault::Misplaced { .. })), "{id}: {faults:?}");
        assert!(looked.rows >= 599, "{id}: {looked:?} {faults:?}");
    }
}

#[test]
fn whoever_reads_on_behind_ids_that_were_changed_comes_to_an_end() {
    for (id, becomes) in [(40, 90), (40, 3), (1, 77), (99, 2), (91, 95)] {
        let device = Device::new();
        device.put_rows(100, 30);
        let device = device.spoil(|pages| {
            let (_, cell) = pages.find("outbox", id);
            pages.bytes[cell.id_at] = becomes;
        });
        let read_on = |mut bound, next: fn(i64) -> Bound| {
            let page = |bound| summaries(&device.app, &Wanted::default(), bound, 10).unwrap();
            let pages = (0..100).map_while(|_| {
                let page = page(bound);
                bound = next(page.last()?.id.row());
                Some(page.len())
            });
            pages.collect::<Vec<_>>()
        };
        for pages in [read_on(Bound::After(0), Bound::After), read_on(Bound::Before(i64::MAX), Bound::Before)] {
            assert!(pages.len() < 20, "{id} became {becomes}: {pages:?}");
        }
        let whole = summaries(&device.app, &Wanted::default(), Bound::Before(i64::MAX), 1_000).unwrap();
        assert_eq!(whole.len(), 100, "{id} became {becomes}: in one go none is hidden");
    }
}

#[test]
fn an_index_that_does_not_hold_what_it_should_is_told_and_made_anew_by_its_remedy() {
    let device = Device::new();
    device.put_many(5);
    let mut device = device;
    device.sql("PRAGMA writable_schema = ON");
    let sql = device.text("SELECT sql FROM sqlite_schema WHERE name = 'outbox_again'");
    let hide = |conn: &Connection, from: &str, to: &str| {
        let hide = "UPDATE sqlite_schema SET sql = replace(sql, ?1, ?2) WHERE name = 'outbox_again'";
        conn.execute_batch("PRAGMA writable_schema = ON").unwrap();
        conn.execute(hide, [from, to]).unwrap();
    };
    // For a while it holds nothing.
    hide(&device.app, "attempts > 0", "attempts > 9");
    device = device.reopen();
    device.sql("UPDATE outbox SET attempts = 1 WHERE id = 3");
    hide(&device.app, "attempts > 9", "attempts > 0");
    let device = device.reopen();
    assert_eq!(sql, device.text("SELECT sql FROM sqlite_schema WHERE name = 'outbox_again'"));
    let (found, _) = faults(&device);
    assert!(said(&found).iter().any(|said| said.contains("missing from index outbox_again")), "{found:?}");
    device.sql("REINDEX");
    assert_eq!(faults(&device).0, []);
}

#[test]
fn a_collation_of_the_applications_keeps_nobody_from_looking_at_the_outbox() {
    let device = Device::new();
    device.put_many(3);
    device.sql("CREATE TABLE names (name TEXT COLLATE NOCASE UNIQUE); INSERT INTO names VALUES ('x')");
    device.sql("PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'NOCASE', 'theirs')");
    device.sql("UPDATE outbox SET checksum = 1 WHERE id = 2");
    let (faults, looked) = faults(&device);
    assert_eq!(spoiled(&faults), [(2, Some(Status::Pending))]);
    assert!(looked.application.as_deref().is_some_and(|why| why.contains("theirs")), "{looked:?}");
}

#[test]
fn what_is_written_and_settled_meanwhile_is_no_fault() {
    let device = Device::new();
    device.put_many(2_000);
    let conn = look_into(&device.path, Sharing::Locks, BUSY).unwrap();
    let Device { _folder, path, app, mut store } = device;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let done = &done;
        scope.spawn(move || {
            for id in 1.. {
                app.execute_batch("INSERT INTO outbox (topic, payload) VALUES ('t', 'p')").unwrap();
                let settled = Batch { position: Some(id), ..batch(&[(id, Fate::Sent)]) };
                let purge = Purge { retention: Duration::ZERO, upto: id, uptime: Uptime::default() };
                store.settle(&settled, NOW, Some(purge)).unwrap();
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        for _ in 0..20 {
            let mut faults = Vec::new();
            let looked = check(&conn, &path, MAX_PAYLOAD, &mut |fault| faults.push(fault)).unwrap();
            assert_eq!(faults, []);
            assert!(looked.rows > 0);
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn no_read_transaction_stays_open_between_two_bites() {
    let device = Device::new();
    device.put_many(1_500);
    device.sql("UPDATE outbox SET checksum = 1 WHERE id IN (10, 700, 1400)");
    let conn = look_into(&device.path, Sharing::Locks, BUSY).unwrap();
    let (mut faults, mut emptied) = (0, 0);
    check(&conn, &device.path, MAX_PAYLOAD, &mut |_| {
        faults += 1;
        device.sql("UPDATE outbox_state SET barrier = barrier + 1");
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        emptied += i64::from(device.app.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() == 0);
    })
    .unwrap();
    assert_eq!((faults, emptied), (3, 3));
}
