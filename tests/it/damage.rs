//! Damaged files: cards flip bits and lose sectors. What can still be read is sent, what cannot is told of, and nothing
//! is sent that nobody enqueued.

#[path = "../../src/store/tests/pages.rs"]
mod pages;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use edge_outbox::broker::InProcess;
use edge_outbox::broker::in_process::Unsubscribed;
use edge_outbox::rusqlite::{self, Connection};
use edge_outbox::{Error, Message, Outbox, Payload, Storage};

use self::pages::Pages;
use crate::device::{Device, SOON, enqueue, quick, value, wait_for_stats, wait_for_status};

fn acknowledges_everything() -> InProcess {
    InProcess::builder().record(100_000).unsubscribed(Unsubscribed::Acknowledge).build()
}

/// A message that nobody else makes, of this many bytes.
fn sample(number: usize, bytes: usize) -> Message {
    let message = Message::text(format!("t/{number}"), format!("{number}:").repeat(bytes / 4 + 1));
    if number % 3 == 0 { message.with_key(format!("k{number}")) } else { message }
}

fn spoil(device: &Device, spoil: impl FnOnce(&mut Pages)) {
    let mut pages = Pages::of(&device.database());
    spoil(&mut pages);
    pages.save();
}

fn leaf_of(pages: &Pages, row: i64) -> (usize, Vec<i64>) {
    let leaves = pages.leaves(pages.root("outbox"));
    let leaf = leaves.iter().find(|leaf| leaf.cells.iter().any(|cell| cell.id == row)).unwrap();
    (leaf.page, leaf.cells.iter().map(|cell| cell.id).collect())
}

fn is_damaged(outbox: &Outbox) -> bool {
    matches!(outbox.status().storage, Storage::Damaged(_))
}

#[test]
fn rows_on_an_unreadable_page_and_a_broken_chain_do_not_stop_those_behind_and_are_told_of() {
    let device = Device::new();
    let outbox = device.open_writer();
    let messages: Vec<_> = (1..=300).map(|number| sample(number, if number % 50 == 0 { 30_000 } else { 60 })).collect();
    enqueue(&outbox, messages.clone());
    drop(outbox);
    let mut gone = Vec::new();
    spoil(&device, |pages| {
        let (_, cell) = pages.find("outbox", 200);
        let (page, ids) = leaf_of(pages, 110);
        assert!(!ids.contains(&200) && cell.overflow.len() > 2);
        pages.overwrite(page);
        pages.overwrite(cell.overflow[1]);
        gone.extend(ids);
        gone.push(200);
    });

    let broker = acknowledges_everything();
    let outbox = device.open(broker.clone());
    outbox.flush(SOON).unwrap();
    let arrived: BTreeMap<i64, Message> = broker.seen().into_iter().map(|s| (s.id.row(), s.message)).collect();
    let whole: BTreeMap<i64, Message> = (1..).zip(messages).filter(|(row, _)| !gone.contains(row)).collect();
    assert!(arrived == whole, "{:?}", arrived.keys());
    let lost = gone.len() as u64;
    wait_for_stats(&outbox, "the rows are counted", |stats| stats.unreadable == lost && stats.pending == 0);
    let Storage::Damaged(words) = outbox.status().storage else { panic!("{:?}", outbox.status()) };
    assert!(words.contains(".recover"), "{words}");

    // Everything goes well from here on: the file is damaged all the same.
    enqueue(&outbox, [sample(301, 60)]);
    outbox.flush(SOON).unwrap();
    assert!(is_damaged(&outbox));
    outbox.shutdown(SOON).unwrap();
    assert_eq!(value::<i64>(&device.sql(), "SELECT unreadable FROM outbox_state", []), lost as i64);

    let outbox = device.open(broker.clone());
    outbox.flush(SOON).unwrap();
    assert_eq!(outbox.stats().unwrap().unreadable, lost);
    assert_eq!(broker.seen().len(), 301 - gone.len(), "nothing is sent twice");
}

#[test]
fn a_row_that_does_not_match_its_checksum_is_parked_and_counted_as_damaged() {
    let device = Device::new();
    let outbox = device.open_writer();
    enqueue(&outbox, (1..=5).map(|number| sample(number, 60)));
    drop(outbox);
    spoil(&device, |pages| {
        let at = pages.bytes.windows(3).rposition(|bytes| bytes == b"t/3").unwrap();
        pages.bytes[at + 2] = b'7';
    });
    let broker = acknowledges_everything();
    let outbox = device.open(broker.clone());
    wait_for_stats(&outbox, "it is parked", |stats| stats.damaged == 1 && stats.failed == 1 && stats.sent == 4);
    assert_eq!(outbox.failed(0, 9).unwrap()[0].id.row(), 3);
    assert_eq!(outbox.stats().unwrap().unreadable, 0);
    assert_eq!(outbox.status().storage, Storage::Ok, "SQLite can read the file");
}

#[test]
fn damage_in_flight_is_named_at_enqueue_and_in_the_status() {
    let device = Device::new();
    let outbox = device.open_writer();
    enqueue(&outbox, (1..=200).map(|number| sample(number, 60)));
    drop(outbox);
    spoil(&device, |pages| {
        let (page, _) = leaf_of(pages, 200);
        pages.overwrite(page);
    });
    let outbox = device.open(acknowledges_everything());
    let refused = outbox.transaction(|tx| outbox.enqueue(tx, &sample(1, 60)));
    assert!(matches!(refused, Err(Error::Damaged(_))), "{refused:?}");
    wait_for_status(&outbox, "it is damaged", |status| matches!(status.storage, Storage::Damaged(_)));
    wait_for_stats(&outbox, "what stands before the damaged page is sent", |stats| stats.sent > 150);
}

#[test]
fn a_database_whose_state_cannot_be_read_is_reported_at_open() {
    let device = Device::new();
    drop(device.open_writer());
    spoil(&device, |pages| pages.overwrite(pages.root("outbox_state")));
    let opened = Outbox::builder(device.database()).settings(quick()).broker(acknowledges_everything()).open();
    let error = opened.unwrap_err();
    assert!(matches!(error, Error::Damaged(_)), "{error:?}");
    assert!(error.to_string().contains(".recover"), "{error}");
}

#[test]
fn messages_that_wait_are_found_behind_a_damaged_index() {
    for index in ["outbox_again", "outbox_held", "outbox_failed"] {
        let device = Device::new();
        let outbox = device.open_writer();
        enqueue(&outbox, (1..=40).map(|number| sample(number, 60)));
        drop(outbox);
        let sql = device.sql();
        sql.execute_batch(
            "UPDATE outbox SET checksum = 1 WHERE id = 20;
             UPDATE outbox SET attempts = 1 WHERE id IN (3, 4);
             UPDATE outbox SET held_by = 'key k6' WHERE id = 6;
             UPDATE outbox SET status = 'FAILED', attempts = 1 WHERE id = 5;
             UPDATE outbox_state SET position = 10;
             UPDATE outbox SET status = 'SENT', filler = '...', attempts = 1 WHERE id <= 10 AND id NOT IN (3, 4, 5, 6);",
        )
        .unwrap();
        drop(sql);
        spoil(&device, |pages| pages.overwrite(pages.root(index)));
        let broker = acknowledges_everything();
        let outbox = device.open(broker.clone());
        wait_for_stats(&outbox, index, |stats| (stats.sent, stats.failed, stats.damaged) == (32, 2, 1));
        wait_for_status(&outbox, "it is damaged", |status| matches!(status.storage, Storage::Damaged(_)));
        outbox.retry_all().unwrap();
        wait_for_stats(&outbox, index, |stats| (stats.sent, stats.failed) == (33, 1));
        outbox.shutdown(SOON).unwrap();
        let mut rows: Vec<_> = broker.seen().iter().map(|seen| seen.id.row()).collect();
        rows.sort_unstable();
        assert_eq!(
            rows,
            [&[3, 4, 5, 6][..], &(11..=40).filter(|row| *row != 20).collect::<Vec<_>>()].concat(),
            "{index}"
        );
        let said: String = value(&device.sql(), "PRAGMA integrity_check", []);
        assert!(said == "ok" || said.contains("never used"), "{index}: {said}");
    }
}

/// What the shell answers, or `None` if it is not installed, or was built without `.recover`, as in Debian 12.
fn recover(from: &Path) -> Option<String> {
    let done = Command::new("sqlite3").arg(from).arg(".recover").stderr(Stdio::null()).output().ok()?;
    let sql = String::from_utf8_lossy(&done.stdout).into_owned();
    (done.status.success() && sql.contains("COMMIT")).then_some(sql)
}

#[test]
fn a_database_recovered_by_the_shell_is_opened_and_forwarded_to_the_end() {
    let device = Device::new();
    let outbox = device.open_writer();
    let messages: BTreeMap<i64, Message> = (1..=300).map(|row| (row as i64, sample(row, 60))).collect();
    enqueue(&outbox, messages.values().cloned());
    drop(outbox);
    device
        .sql()
        .execute_batch(
            "UPDATE outbox SET status = 'SENT', filler = '...', attempts = 1 WHERE id <= 40;
             UPDATE outbox SET attempts = 1 WHERE id = 60;
             UPDATE outbox SET status = 'FAILED', attempts = 1 WHERE id = 61;
             UPDATE outbox_state SET position = 100;",
        )
        .unwrap();
    let mut gone = Vec::new();
    spoil(&device, |pages| {
        let lost = [20, 150].map(|row| leaf_of(pages, row));
        pages.overwrite(pages.root("outbox_again"));
        for (page, ids) in lost {
            pages.overwrite(page);
            gone.extend(ids);
        }
    });
    let Some(sql) = recover(&device.database()) else {
        println!("SKIPPED: there is no sqlite3 here that knows .recover");
        return;
    };
    let recovered = Device::new();
    let conn = recovered.sql();
    conn.execute_batch(&sql).unwrap();
    conn.execute_batch(
        "INSERT OR IGNORE INTO outbox_state (id, version) VALUES (1, 1); UPDATE outbox_state SET position = 0;",
    )
    .unwrap();
    drop(conn);

    let broker = acknowledges_everything();
    let outbox = recovered.open(broker.clone());
    outbox.flush(SOON).unwrap();
    enqueue(&outbox, [sample(301, 60)]);
    outbox.flush(SOON).unwrap();
    let mut rows: Vec<_> = broker.seen().iter().map(|seen| seen.id.row()).collect();
    rows.sort_unstable();
    let whole: Vec<i64> = (41..=301).filter(|row| *row != 61 && !gone.contains(row)).collect();
    assert_eq!(rows, whole, "none is lost, and none that was SENT is sent again");
    assert_eq!((outbox.stats().unwrap().unreadable, outbox.status().storage), (0, Storage::Ok));
}

/// Numbers that look like chance, and are the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
    }
}

/// What a plain reader finds of the row.
fn plainly_read(conn: &Connection, row: i64) -> rusqlite::Result<(String, String, Option<String>, String)> {
    conn.query_row("SELECT topic, payload, key, status FROM outbox NOT INDEXED WHERE id = ?1", [row], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
    })
}

/// 75 single bits and 25 sectors; the campaign of bit flips makes many more. `EDGE_OUTBOX_DAMAGES` says how many times as
/// many, `EDGE_OUTBOX_SEED` which.
#[test]
fn whatever_is_damaged_what_can_be_read_arrives_or_is_parked_and_nothing_else_arrives() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<usize>().ok());
    let times = number("EDGE_OUTBOX_DAMAGES").unwrap_or(1);
    let seed = number("EDGE_OUTBOX_SEED").unwrap_or(4711);

    let template = Device::new();
    let outbox = template.open_writer();
    let sizes = [20, 60, 200, 900, 4_000, 15_000];
    let messages: BTreeMap<i64, Message> =
        (1..=80).map(|row| (row as i64, sample(row, sizes[row % sizes.len()]))).collect();
    enqueue(&outbox, messages.values().cloned());
    drop(outbox);
    let sql = template.sql();
    sql.execute_batch(
        "UPDATE outbox SET status = 'SENT', filler = '...', attempts = 1 WHERE id <= 10;
         UPDATE outbox SET attempts = 1 WHERE id IN (3, 12);
         UPDATE outbox SET status = 'FAILED', attempts = 1 WHERE id = 5;
         UPDATE outbox_state SET position = 8;",
    )
    .unwrap();
    drop(sql);
    let pages = Pages::of(&template.database());
    let leaves = pages.leaves(pages.root("outbox"));
    let overflow = leaves.iter().flat_map(|leaf| &leaf.cells).flat_map(|cell| cell.overflow.clone());
    let table: BTreeSet<usize> =
        leaves.iter().map(|leaf| leaf.page).chain(overflow).chain([pages.root("outbox")]).collect();
    let (sound, page_size) = (pages.bytes, pages.size);

    let play = |case: usize| {
        let mut chance = Chance(((seed as u64) << 32) | (case as u64 + 1));
        chance.below(2);
        let mut bytes = sound.clone();
        let (at, what) = if case % 4 == 0 {
            let sector = chance.below(bytes.len() / 512);
            bytes[sector * 512..][..512].fill_with(|| chance.below(256) as u8);
            (sector * 512, format!("seed {seed}, case {case}: sector {sector}"))
        } else {
            let (at, bit) = (chance.below(bytes.len()), chance.below(8));
            bytes[at] ^= 1 << bit;
            (at, format!("seed {seed}, case {case}: bit {bit} of byte {at}"))
        };
        let device = Device::new();
        fs::write(device.database(), &bytes).unwrap();
        play(&device, &messages, &what, table.contains(&(at / page_size + 1)))
    };
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut results = Vec::new();
        loop {
            match next.fetch_add(1, Ordering::Relaxed) {
                case if case < 100 * times => results.push(play(case)),
                _ => return results,
            }
        }
    };
    let results: Vec<_> = thread::scope(|scope| {
        let workers = [(); 4].map(|()| scope.spawn(worker));
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    let mut tally = BTreeMap::<&str, usize>::new();
    results.into_iter().for_each(|result| *tally.entry(result).or_default() += 1);
    eprintln!("{tally:?}");
    assert!(tally["all that could be read arrived"] > 65 * times, "{tally:?}");
}

/// `in_table`: the table itself is damaged, and nothing that is needed to read it.
fn play(device: &Device, messages: &BTreeMap<i64, Message>, what: &str, in_table: bool) -> &'static str {
    let reader = Connection::open(device.database()).unwrap();
    let is_intact = |row: i64, message: &Message| {
        plainly_read(&reader, row).is_ok_and(|(topic, payload, key, status)| {
            topic == message.topic
                && payload.as_bytes() == message.payload.as_bytes()
                && key == message.key
                && status == "PENDING"
        })
    };
    let intact: Vec<i64> =
        messages.iter().filter(|(row, message)| is_intact(**row, message)).map(|(r, _)| *r).collect();
    drop(reader);

    let broker = acknowledges_everything();
    let outbox = match Outbox::builder(device.database()).settings(quick()).broker(broker.clone()).open() {
        Ok(outbox) => outbox,
        Err(error) => {
            assert!(!in_table, "{what}: {error}");
            return "refused at open";
        }
    };
    let until = Instant::now() + SOON;
    let mut result = "all that could be read arrived";
    loop {
        let seen: Vec<i64> = broker.seen().iter().map(|seen| seen.id.row()).collect();
        let parked: Vec<i64> = outbox.failed(0, 100).unwrap_or_default().iter().map(|failed| failed.id.row()).collect();
        let missing: Vec<_> = intact.iter().filter(|row| !seen.contains(row) && !parked.contains(row)).collect();
        if missing.is_empty() {
            break;
        }
        let status = outbox.status();
        assert!(status.failed.is_none(), "{what}: {status:?}");
        if !in_table && matches!(status.storage, Storage::Damaged(_) | Storage::Failing(_)) {
            result = "reported as damaged or failing";
            break;
        }
        if Instant::now() > until {
            panic!("{what}: {missing:?} of {} neither arrived nor are parked; {status:?}", intact.len());
        }
        thread::sleep(Duration::from_millis(2));
    }
    let status = outbox.status();
    assert!(status.failed.is_none(), "{what}: {status:?}");
    if let Err(error) = outbox.shutdown(SOON) {
        panic!("{what}: {error}");
    }
    for seen in broker.seen() {
        // The bit that makes bytes of text changes nothing on the wire.
        let payload = String::from_utf8(seen.message.payload.as_bytes().to_vec()).unwrap();
        let mut message = seen.message;
        message.payload = Payload::Text(payload);
        assert!(messages.values().any(|enqueued| *enqueued == message), "{what}: {:?}", seen.id);
    }
    result
}
