//! What SQLite itself finds damaged: a file with a page overwritten, or a byte, is opened and read and written on.

use std::time::Duration;

use super::pages::Pages;
use super::{BUSY, Device, Fate, MAX_PAYLOAD, NOW, batch, failed, held, message, spoiled, waiting};
use crate::Message;
use crate::store::{Batch, Budget, Lane, Purge, Store, Uptime, open};

impl Device {
    /// Closes it, does that to the file, and opens it again.
    pub fn spoil(self, spoil: impl FnOnce(&mut Pages)) -> Self {
        let Device { _folder, path, app, store } = self;
        drop((app, store));
        let mut pages = Pages::of(&path);
        spoil(&mut pages);
        pages.save();
        let app = open(&path, BUSY).expect("opens");
        let store = Store::new(open(&path, BUSY).expect("opens again")).expect("a store");
        Device { _folder, path, app, store }
    }

    /// Rows of this many bytes each, that say their number.
    pub fn put_rows(&self, rows: usize, bytes: usize) {
        self.sql("BEGIN IMMEDIATE");
        for number in 1..=rows {
            self.put(&Message::text("t", format!("{number:0bytes$}")));
        }
        self.sql("COMMIT");
    }

    /// The ids of all fresh rows that are sound, read in bites of seven.
    fn read_all(&mut self) -> Vec<i64> {
        let (mut ids, mut after, mut newest) = (Vec::new(), 0, 0);
        for _ in 0..1_000 {
            let fresh = self.store.fresh(after, 7, usize::MAX, true, MAX_PAYLOAD).expect("reads");
            let Some((last, _)) = fresh.last() else { break };
            assert!(last.id > newest, "from {newest} to {}", last.id);
            (after, newest) = (last.id, last.id);
            for (row, content) in &fresh {
                if let super::Content::Message { message, .. } = content {
                    let said = String::from_utf8(message.payload.as_bytes().to_vec()).unwrap();
                    assert_eq!(said.trim_start_matches('0'), row.id.to_string());
                    ids.push(row.id);
                }
            }
        }
        ids
    }
}

pub(super) fn leaf(pages: &Pages, id: i64) -> (usize, Vec<i64>) {
    let leaves = pages.leaves(pages.root("outbox"));
    let leaf = leaves.iter().find(|leaf| leaf.cells.iter().any(|cell| cell.id == id)).unwrap();
    (leaf.page, leaf.cells.iter().map(|cell| cell.id).collect())
}

#[test]
fn rows_on_a_page_that_cannot_be_read_are_passed_over_and_counted_once_and_those_behind_are_read() {
    let device = Device::new();
    device.put_rows(400, 50);
    let mut gone = Vec::new();
    let mut device = device.spoil(|pages| {
        for (page, ids) in [1, 100, 200, 399].map(|id| leaf(pages, id)) {
            pages.overwrite(page);
            gone.extend(ids);
        }
    });
    let rest: Vec<i64> = (1..=400).filter(|id| !gone.contains(id)).collect();
    let last = *rest.last().unwrap();
    assert_eq!(device.store.begin().unwrap(), (0, last), "the newest row that can be read");
    assert_eq!(device.read_all(), rest);
    // The rows behind the last that can be read are not known: how many there were cannot be told.
    let counted = gone.iter().filter(|id| **id < last).count() as u64;
    assert_eq!(device.store.unreadable(), counted);
    assert_eq!(device.read_all(), rest);
    assert_eq!(device.store.unreadable(), counted, "counted twice");
    assert!(device.store.damage().is_some());

    let settle = Batch { position: Some(150), ..batch(&[(rest[0], Fate::Sent)]) };
    device.store.settle(&settle, NOW, None).unwrap();
    let recorded = gone.iter().filter(|id| **id <= 150).count() as i64;
    assert_eq!(device.number("SELECT unreadable FROM outbox_state"), recorded);
    assert_eq!(device.store.unreadable(), counted);
    let again = Store::new(open(&device.path, BUSY).unwrap()).unwrap();
    device.store = again;
    device.store.begin().unwrap();
    assert_eq!(device.store.unreadable(), recorded as u64);
}

#[test]
fn an_inner_page_that_cannot_be_read_costs_a_bounded_search() {
    let device = Device::new();
    device.put_rows(20_000, 200);
    let mut first = 0;
    let mut device = device.spoil(|pages| {
        // The second child of the root, which has hundreds of leaves.
        let root = pages.root("outbox");
        let leaves = pages.leaves(root);
        let at = (root - 1) * pages.size;
        assert_eq!(pages.bytes[at], 5);
        let cell = at + usize::from(u16::from_be_bytes([pages.bytes[at + 14], pages.bytes[at + 15]]));
        let page = u32::from_be_bytes(pages.bytes[cell..cell + 4].try_into().unwrap()) as usize;
        assert!(!leaves.iter().any(|leaf| leaf.page == page), "the tree has three levels");
        first = pages.leaves(page)[0].cells[0].id;
        pages.overwrite(page);
    });
    let begun = std::time::Instant::now();
    let ids = device.read_all_of(500);
    assert!(ids.len() > 5_000 && ids.len() < 19_000, "{}", ids.len());
    assert!(ids.contains(&(first - 1)) && !ids.contains(&first) && ids.contains(&20_000));
    assert_eq!(device.store.unreadable(), 20_000 - ids.len() as u64);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

impl Device {
    fn read_all_of(&mut self, rows: usize) -> Vec<i64> {
        let (mut ids, mut after) = (Vec::new(), 0);
        loop {
            let fresh = self.store.fresh(after, rows, usize::MAX, true, MAX_PAYLOAD).expect("reads");
            let Some((last, _)) = fresh.last() else { return ids };
            after = last.id;
            ids.extend(fresh.iter().map(|(row, _)| row.id));
        }
    }
}

#[test]
fn a_row_with_a_broken_chain_of_pages_is_named_and_given_up_and_the_others_are_written() {
    for fate in [failed("x"), Fate::Sent, waiting(None), held(Lane::Key("k".into()))] {
        let device = Device::new();
        device.put_rows(9, 20_000);
        let mut device = device.spoil(|pages| {
            let (_, cell) = pages.find("outbox", 4);
            assert!(cell.overflow.len() >= 4);
            pages.overwrite(cell.overflow[1]);
        });
        let read = device.store.fresh(0, 100, usize::MAX, true, MAX_PAYLOAD).unwrap();
        assert_eq!(read.len(), 9);
        assert!(spoiled(&read[3].1).starts_with("damaged: "), "{}", spoiled(&read[3].1));
        assert_eq!(read[3].0.topic.as_ref(), "t");
        read.iter().filter(|(row, _)| row.id != 4).for_each(|(_, content)| assert_eq!(message(content).topic, "t"));

        let fates: Vec<_> = (1..=9).map(|id| (id, if id == 4 { fate.clone() } else { Fate::Sent })).collect();
        let settle = Batch { position: Some(9), ..batch(&fates) };
        let settled = device.store.settle(&settle, NOW, None).unwrap();
        assert_eq!((settled.failed.len(), settled.unwritable), (0, vec![4]), "{fate:?}");
        assert_eq!(device.number("SELECT count(*) FROM outbox WHERE status = 'SENT'"), 8);
        assert_eq!(device.store.unreadable(), 1);
        // With the next position it stands in the table.
        device.store.settle(&settle, NOW, None).unwrap();
        assert_eq!(device.number("SELECT unreadable FROM outbox_state"), 1, "{fate:?}");
        assert_eq!(device.store.unreadable(), 1);
        assert!(device.store.content(4, MAX_PAYLOAD).unwrap().is_none_or(|content| !spoiled(&content).is_empty()));
    }
}

#[test]
fn a_waiting_row_that_cannot_be_written_is_not_found_again_and_again() {
    for lane in [None, Some(Lane::Key("k".into()))] {
        let device = Device::new();
        device.put_rows(3, 20_000);
        let mut device = device;
        device.settle(NOW, &[(2, waiting(lane.clone()))]);
        let mut device = device.spoil(|pages| {
            let (_, cell) = pages.find("outbox", 2);
            pages.overwrite(cell.overflow[1]);
        });
        let found = |device: &mut Device| match &lane {
            None => device.store.again(0, 10).unwrap().len(),
            Some(lane) => device.store.lane(lane, 0, 10).unwrap().len(),
        };
        assert_eq!(found(&mut device), 1);
        let content = device.store.content(2, MAX_PAYLOAD).unwrap().unwrap();
        let settle = batch(&[(2, failed(spoiled(&content))), (1, Fate::Sent)]);
        assert_eq!(device.store.settle(&settle, NOW, None).unwrap().unwritable, [2]);
        assert_eq!(found(&mut device), 0);
        assert_eq!(device.store.unreadable(), 1);
    }
}

#[test]
fn a_row_whose_id_was_changed_takes_no_other_row_with_it() {
    for (id, becomes) in [(40, 90), (40, 3), (40, 127), (1, 77), (100, 2), (41, 40), (64, 65), (15, 16)] {
        let device = Device::new();
        device.put_rows(100, 50);
        let mut device = device.spoil(|pages| {
            let (_, cell) = pages.find("outbox", id);
            pages.bytes[cell.id_at] = becomes;
        });
        // It says another number than its id does, which `read_all` would notice.
        let ids = device.read_all();
        let rest: Vec<i64> = (1..=100).filter(|other| *other != id).collect();
        let lost: Vec<_> = rest.iter().filter(|other| !ids.contains(other)).collect();
        assert!(lost.is_empty(), "{id} becomes {becomes}: {lost:?}");
        assert!(!ids.contains(&id) && device.store.damage().is_some(), "{id} becomes {becomes}");
    }
}

#[test]
fn an_index_that_cannot_be_read_is_made_anew() {
    for index in ["outbox_again", "outbox_held", "outbox_failed"] {
        let device = Device::new();
        device.put_many(20);
        let mut device = device;
        let lane = || Lane::Key("k".into());
        device.settle(NOW, &[(3, waiting(None)), (4, waiting(Some(lane()))), (5, failed("no"))]);
        let mut device = device.spoil(|pages| pages.overwrite(pages.root(index)));
        assert_eq!(device.store.again(0, 10).unwrap().len(), 1, "{index}");
        assert_eq!(device.store.lane(&lane(), 0, 10).unwrap().len(), 1, "{index}");
        assert_eq!(device.store.lanes(None, 10).unwrap().len(), 1, "{index}");
        assert_eq!(device.store.fresh(0, 100, usize::MAX, true, MAX_PAYLOAD).unwrap().len(), 17, "{index}");
        let settle = batch(&[(3, Fate::Sent), (4, Fate::Sent), (6, failed("no")), (7, waiting(None))]);
        let settled = device.store.settle(&settle, NOW, None).unwrap();
        assert!(settled.unwritable.is_empty(), "{index}");
        assert_eq!(settled.failed, [6], "{index}");
        assert_eq!(device.store.again(0, 10).unwrap().len(), 1, "{index}");
        assert_eq!(crate::store::failed(&device.app, 0, 10).unwrap().len(), 2, "{index}");
        assert_eq!(device.store.unreadable(), 0);
        assert!(device.store.damage().is_some(), "{index}");
    }
}

#[test]
fn an_index_that_cannot_be_made_anew_stops_only_those_who_need_it() {
    let device = Device::new();
    device.put_rows(200, 50);
    let mut device = device;
    device.settle(NOW, &[(3, waiting(None)), (4, waiting(Some(Lane::Key("k".into()))))]);
    let mut gone = Vec::new();
    let mut device = device.spoil(|pages| {
        pages.overwrite(pages.root("outbox_again"));
        pages.overwrite(pages.root("outbox_held"));
        let (page, ids) = leaf(pages, 100);
        pages.overwrite(page);
        gone = ids;
    });
    for _ in 0..3 {
        assert!(device.store.again(0, 10).unwrap().is_empty());
        assert!(device.store.lanes(None, 10).unwrap().is_empty());
    }
    let rest: Vec<i64> = (1..=200).filter(|id| ![3, 4].contains(id) && !gone.contains(id)).collect();
    assert_eq!(device.read_all(), rest);
    let settled = device.store.settle(&batch(&[(5, Fate::Sent), (6, Fate::Sent)]), NOW, None).unwrap();
    assert!(settled.unwritable.is_empty());
}

/// A leaf has lost its first cell, a row that waits. An index that is made anew knows it no more: by then it has to be told.
#[test]
fn a_waiting_row_that_the_table_has_lost_is_told_of() {
    for lane in [None, Some(Lane::Key("k".into()))] {
        let device = Device::new();
        device.put_rows(200, 50);
        let mut device = device;
        let (_, ids) = leaf(&Pages::of(&device.path), 100);
        device.settle(NOW, &[(ids[0], waiting(lane.clone())), (199, waiting(lane.clone()))]);
        let mut device = device.spoil(|pages| {
            let at = (leaf(pages, 100).0 - 1) * pages.size;
            let cells = usize::from(u16::from_be_bytes([pages.bytes[at + 3], pages.bytes[at + 4]])) - 1;
            pages.bytes[at + 3..at + 5].copy_from_slice(&(cells as u16).to_be_bytes());
            pages.bytes.copy_within(at + 10..at + 10 + 2 * cells, at + 8);
        });
        let found = match &lane {
            None => device.store.again(0, 10).unwrap(),
            Some(lane) => device.store.lane(lane, 0, 10).unwrap(),
        };
        assert_eq!(found.iter().map(|row| row.id).collect::<Vec<_>>(), [199]);
        assert!(device.store.damage().is_some(), "{lane:?}");
    }
}

/// Both the one index and the other are sound. Of the rows that wait, and of those in a lane, some stand on a page that
/// cannot be read, the first of a lane among them, and all of another lane.
#[test]
fn waiting_rows_on_a_page_that_cannot_be_read_are_passed_over_and_the_others_are_found() {
    let device = Device::new();
    device.put_rows(900, 50);
    let mut device = device;
    let lane = |name: &str| Lane::Key(name.into());
    let fate = |id: i64| match id {
        150 | 151 => held(lane("a")),
        _ if id % 3 == 0 => waiting(None),
        _ if id % 3 == 1 => held(lane("b")),
        _ => Fate::Sent,
    };
    device.settle(NOW, &(1..=900).map(|id| (id, fate(id))).collect::<Vec<_>>());
    device.sql("UPDATE outbox_state SET position = 900");
    let mut gone = Vec::new();
    let mut device = device.spoil(|pages| {
        for (page, ids) in [1, 151, 600].map(|id| leaf(pages, id)) {
            pages.overwrite(page);
            gone.extend(ids);
        }
    });
    assert!(gone.contains(&151), "{gone:?}");
    device.store.begin().unwrap();
    let left = |wanted: &dyn Fn(i64) -> bool| -> Vec<i64> {
        (1..=900).filter(|id| wanted(*id) && !gone.contains(id)).collect()
    };
    for bite in [1, 7, 1_000] {
        let mut again = Vec::new();
        loop {
            let found = device.store.again(again.last().copied().unwrap_or(i64::MIN), bite).unwrap();
            again.extend(found.iter().map(|row| row.id));
            if found.len() < bite {
                break;
            }
        }
        assert_eq!(again, left(&|id| id % 3 == 0 && id != 150), "{bite} at once");
    }
    let ids = |rows: Vec<crate::store::Row>| rows.iter().map(|row| row.id).collect::<Vec<_>>();
    let in_b = left(&|id| id % 3 == 1 && id != 151);
    assert_eq!(ids(device.store.lane(&lane("b"), 0, 1_000).unwrap()), in_b);
    assert_eq!(ids(device.store.lane(&lane("b"), in_b[2], 2).unwrap()), in_b[3..5]);
    assert!(device.store.lane(&lane("a"), 0, 1_000).unwrap().is_empty());
    let heads: Vec<_> = device.store.lanes(None, 10).unwrap().into_iter().map(|(lane, row)| (lane, row.id)).collect();
    assert_eq!(heads, [(lane("b"), in_b[0])], "the lane of which nothing is left is left out");

    let waited = gone.iter().filter(|id| **id % 3 != 2 || [150, 151].contains(*id)).count() as u64;
    assert_eq!(device.store.unreadable(), waited, "each is counted once, and none that was SENT");
    assert!(device.store.damage().is_some());
}

/// The entry for row 3 says 13, which is SENT, or 113, which does not exist, or 4, which nobody has dealt with.
#[test]
fn an_index_that_says_something_else_than_the_table_is_found_out_or_harmless() {
    for says in [13, 113, 4] {
        let device = Device::new();
        device.put_many(20);
        let mut device = device;
        device.settle(NOW, &[(3, waiting(None)), (13, Fate::Sent)]);
        let mut device = device.spoil(|pages| {
            let root = pages.root("outbox_again");
            let page = (root - 1) * pages.size;
            let cell = page + usize::from(u16::from_be_bytes([pages.bytes[page + 8], pages.bytes[page + 9]]));
            // The index holds the id twice, as its column and as the row.
            let end = cell + 1 + usize::from(pages.bytes[cell]);
            for byte in &mut pages.bytes[cell..end] {
                if *byte == 3 && says != 3 {
                    *byte = says;
                }
            }
        });
        let mut met = 0;
        for _ in 0..5 {
            let rows = device.store.again(0, 10).unwrap();
            met += rows.len();
            for row in rows {
                // As the forwarder does: what is not to be dealt with any more is gone, everything else is written.
                if device.store.content(row.id, MAX_PAYLOAD).unwrap().is_some() {
                    device.store.settle(&batch(&[(row.id, Fate::Sent)]), NOW, None).unwrap();
                }
            }
        }
        assert!(met <= 5, "{says}: {met}");
        device.store.settle(&batch(&[(3, Fate::Sent)]), NOW, None).unwrap();
        assert_eq!(device.text("SELECT status FROM outbox WHERE id = 3"), "SENT", "{says}");
        assert!(device.store.again(0, 10).unwrap().is_empty(), "{says}: the index is mended by then");
    }
}

/// The table is sound. One bit of an index is turned over, each of them in turn, and SQLite sees nothing wrong in most: an
/// entry names another row, or another lane.
#[test]
fn a_bit_turned_over_in_an_index_hides_no_row_in_silence() {
    let device = Device::new();
    device.put_many(20);
    let mut device = device;
    let lane = |name: &str| Lane::Key(name.into());
    device.settle(
        NOW,
        &[(3, waiting(None)), (4, waiting(None)), (5, held(lane("a"))), (6, held(lane("a"))), (7, held(lane("b")))],
    );
    device.settle(NOW, &(8..=20).chain(1..3).map(|id| (id, Fate::Sent)).collect::<Vec<_>>());
    device.sql("UPDATE outbox_state SET position = 20");
    let Device { _folder, path, app, store } = device;
    drop((app, store));
    let sound = Pages::of(&path);
    let mut hidden = Vec::new();
    for index in ["outbox_again", "outbox_held"] {
        let begin = (sound.root(index) - 1) * sound.size;
        for bit in (begin * 8..(begin + sound.size) * 8).filter(|bit| sound.bytes[bit / 8] != 0) {
            let mut pages = Pages::of(&path);
            pages.bytes.copy_from_slice(&sound.bytes);
            pages.bytes[bit / 8] ^= 1 << (bit % 8);
            pages.save();
            let mut store = Store::new(open(&path, BUSY).unwrap()).unwrap();
            let _ = store.check_aside();
            drain(&mut store);
            let left = "SELECT group_concat(id) FROM main.outbox NOT INDEXED WHERE status = 'PENDING'";
            let left: Option<String> = open(&path, BUSY).unwrap().query_row(left, [], |row| row.get(0)).unwrap();
            if let (Some(left), None) = (left, store.damage()) {
                hidden.push(format!("{index}, byte {}, bit {}: {left}", bit / 8 - begin, bit % 8));
            }
            drop(store);
            for log in ["-wal", "-shm"] {
                let mut file = path.clone().into_os_string();
                file.push(log);
                let _ = std::fs::remove_file(file);
            }
        }
    }
    assert!(hidden.is_empty(), "{} of them:\n{}", hidden.len(), hidden.join("\n"));
}

/// Sends whatever it finds by index, as the forwarder does.
fn drain(store: &mut Store) {
    for _ in 0..20 {
        let mut found: Vec<i64> = store.again(0, 10).unwrap().iter().map(|row| row.id).collect();
        for (lane, first) in store.lanes(None, 10).unwrap() {
            found.push(first.id);
            found.extend(store.lane(&lane, 0, 10).unwrap().iter().map(|row| row.id));
        }
        found.sort_unstable();
        found.dedup();
        for id in &found {
            if store.content(*id, MAX_PAYLOAD).unwrap().is_some() {
                store.settle(&batch(&[(*id, Fate::Sent)]), NOW, None).unwrap();
            }
        }
        if found.is_empty() {
            return;
        }
    }
}

#[test]
fn a_purge_that_meets_a_damaged_page_keeps_no_settlement_from_being_written_and_gets_past_it() {
    let device = Device::new();
    device.put_rows(6_000, 50);
    let mut device = device;
    device.settle(NOW, &(1..=5_000).map(|id| (id, Fate::Sent)).collect::<Vec<_>>());
    let mut device = device.spoil(|pages| {
        let (page, _) = leaf(pages, 150);
        pages.overwrite(page);
    });
    let purge = Purge { retention: Duration::ZERO, upto: 5_000, uptime: Uptime::default() };
    let mut purged = 0;
    for id in 5_001..=6_000 {
        let settled = device.store.settle(&batch(&[(id, Fate::Sent)]), NOW + 10, Some(purge)).unwrap();
        assert!(settled.unwritable.is_empty());
        purged += settled.purged;
    }
    assert_eq!(device.number("SELECT count(*) FROM outbox NOT INDEXED WHERE id > 5000 AND status = 'SENT'"), 1_000);
    for _ in 0..3_000 {
        purged += device.store.settle(&batch(&[(5_500, Fate::Sent)]), NOW + 10, Some(purge)).unwrap().purged;
    }
    assert!(purged > 2_000, "{purged}");
}

#[test]
fn enqueueing_behind_a_damaged_newest_page_says_that_the_database_is_damaged() {
    let device = Device::new();
    device.put_rows(100, 50);
    let device = device.spoil(|pages| {
        let (page, _) = leaf(pages, 100);
        pages.overwrite(page);
    });
    let refused = crate::store::enqueue(&device.app, &Message::text("t", "x"), MAX_PAYLOAD, &Budget::default());
    assert!(matches!(refused, Err(crate::Error::Damaged(_))), "{refused:?}");
}
