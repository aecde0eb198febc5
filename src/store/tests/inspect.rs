//! Looking at rows, page by page.

use std::collections::BTreeSet;

use super::{BUSY, Device};
use crate::store::{Bound, Sharing, Wanted, look_into, summaries};

#[test]
fn who_goes_from_page_to_page_comes_to_an_end_whatever_the_ids_say() {
    for (id, becomes) in [(40, 3), (40, 39), (99, 2), (1, 77), (64, 65)] {
        let device = Device::new();
        device.put_rows(100, 30);
        let device = device.spoil(|pages| {
            let (_, cell) = pages.find("outbox", id);
            pages.bytes[cell.id_at] = becomes;
        });
        let conn = look_into(&device.path, Sharing::Locks, BUSY).unwrap();
        for size in [1, 7, 1_000] {
            let (mut after, mut seen, mut pages) = (0, BTreeSet::new(), 0);
            loop {
                let page = summaries(&conn, &Wanted::default(), Bound::After(after), size).unwrap();
                let Some(last) = page.last() else { break };
                assert!(last.id.row() > after, "{id} to {becomes}: {} behind {after}", last.id.row());
                after = last.id.row();
                seen.extend(page.iter().map(|row| row.id.row()));
                pages += 1;
                assert!(pages <= 100, "{id} to {becomes}");
            }
            if size == 1_000 && becomes < id as u8 {
                assert!(seen.len() >= 99, "{id} to {becomes}, {size} a page: {}", seen.len());
            }
        }
    }
}
