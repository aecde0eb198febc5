//! The database before it is damaged, and where it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;

use edge_outbox::rusqlite::{Connection, params};
use edge_outbox::{Message, Payload, QoS};

use super::pages::Pages;
use crate::chance::Chance;
use crate::device::{Device, enqueue};

/// So many rows stand in the database, and so many more in its log.
const IN_FILE: i64 = 80;
const IN_LOG: i64 = 40;
/// Rows up to here were dealt with.
const POSITION: i64 = 16;

/// What a row says, by its number.
pub fn written(row: i64) -> Message {
    const SIZES: [usize; 8] = [0, 24, 60, 200, 900, 4_000, 15_000, 30_000];
    let mut chance = Chance::seeded(row as u64);
    let text: String = (0..chance.pick(&SIZES)).map(|_| char::from(b'a' + chance.of(0..=25) as u8)).collect();
    let mut message = Message::text(format!("plant/{row}/state"), text);
    if chance.one_in(3) {
        message.payload = Payload::Bytes(message.payload.into_bytes().into_iter().map(|byte| byte ^ 0x80).collect());
    }
    if chance.one_in(2) {
        message = message.with_key(format!("k{}", row % 8));
    }
    if chance.one_in(3) {
        message = message.with_header("unit", format!("°C {row}")).with_header("site", "roof");
    }
    if chance.one_in(3) {
        message = message.with_content_type("text/plain");
    }
    if chance.one_in(5) {
        message = message.with_response_topic(format!("answers/{row}")).with_correlation_data(row.to_be_bytes());
    }
    if chance.one_in(6) {
        message = message.retained();
    }
    message.with_qos(chance.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]))
}

/// Sound files, and what is in them.
pub struct Template {
    database: Vec<u8>,
    /// The database again, closed earlier, and its log.
    earlier: Vec<u8>,
    log: Vec<u8>,
    page_size: usize,
    /// Pages of the table.
    table: BTreeSet<usize>,
    /// The names on the wire, and the rows that they stand for.
    pub names: BTreeMap<String, i64>,
    /// Rows that are to be sent.
    pub pending: BTreeSet<i64>,
}

impl Template {
    pub fn write() -> Self {
        let device = Device::new();
        let outbox = device.open_writer();
        enqueue(&outbox, (1..=IN_FILE).map(written));
        drop(outbox);
        settle_some(&device.sql());
        let earlier = Pages::of(&device.database()).bytes;
        let outbox = device.open_writer();
        for rows in (IN_FILE + 1..=IN_FILE + IN_LOG).collect::<Vec<_>>().chunks(8) {
            enqueue(&outbox, rows.iter().copied().map(written));
        }
        // As a power cut leaves it: nobody closes it again.
        let log = fs::read(format!("{}-wal", device.database().display())).unwrap();
        drop(outbox);
        Template::of(&device, earlier, log)
    }

    fn of(device: &Device, earlier: Vec<u8>, log: Vec<u8>) -> Self {
        let pages = Pages::of(&device.database());
        let leaves = pages.leaves(pages.root("outbox"));
        let overflow = leaves.iter().flat_map(|leaf| &leaf.cells).flat_map(|cell| cell.overflow.clone());
        let table = leaves.iter().map(|leaf| leaf.page).chain(overflow).chain([pages.root("outbox")]).collect();
        let sql = device.sql();
        let mut statement = sql.prepare("SELECT id, nonce, status FROM outbox").unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        let rows: Vec<(i64, i64, String)> = rows.map(Result::unwrap).collect();
        Template {
            database: pages.bytes,
            earlier,
            log,
            page_size: pages.size,
            table,
            names: rows.iter().map(|(id, nonce, _)| (name(*id, *nonce), *id)).collect(),
            pending: rows.iter().filter(|(_, _, status)| status == "PENDING").map(|(id, ..)| *id).collect(),
        }
    }

    /// The same rows, as if plain SQL had written them.
    pub fn without_checksums(&self) -> Self {
        let device = Device::new();
        fs::write(device.database(), &self.database).unwrap();
        device.sql().execute("UPDATE outbox SET checksum = NULL", []).unwrap();
        Template::of(&device, self.earlier.clone(), self.log.clone())
    }

    pub fn due(&self) -> usize {
        self.pending.len()
    }

    /// Puts the files there, with that damage.
    pub fn put(&self, database: &Path, damage: &Damage) {
        let spoil = |sound: &[u8]| {
            let mut bytes = sound.to_vec();
            match &damage.how {
                How::Bit(bit) => bytes[damage.at] ^= 1 << bit,
                How::Sector(garbage) => bytes[damage.at..][..garbage.len()].copy_from_slice(garbage),
            }
            bytes
        };
        if damage.in_log {
            fs::write(database, &self.earlier).unwrap();
            fs::write(format!("{}-wal", database.display()), spoil(&self.log)).unwrap();
        } else {
            fs::write(database, spoil(&self.database)).unwrap();
        }
    }
}

/// As the outbox names it: a row's number, and its nonce in hexadecimal digits.
fn name(id: i64, nonce: i64) -> String {
    format!("{id}-{nonce:016x}")
}

/// Every row up to the position was sent, is parked, waits by itself or in a lane.
fn settle_some(sql: &Connection) {
    sql.execute(
        "UPDATE outbox SET status = 'SENT', filler = '...', attempts = 1 WHERE id <= ?1 AND id NOT IN (9, 12, 13, 15, 16)",
        params![POSITION],
    )
    .unwrap();
    sql.execute_batch(
        "UPDATE outbox SET status = 'FAILED', attempts = 1 WHERE id = 9;
         UPDATE outbox SET attempts = 1, wait_ms = 5 WHERE id IN (12, 13);
         UPDATE outbox SET held_by = coalesce('key ' || key, 'topic ' || topic) WHERE id IN (15, 16);",
    )
    .unwrap();
    sql.execute("UPDATE outbox_state SET position = ?1", params![POSITION]).unwrap();
}

/// What the card did.
pub struct Damage {
    pub in_log: bool,
    at: usize,
    how: How,
    /// Only in pages of the table, and to nothing that is needed to find them.
    pub in_table: bool,
}

enum How {
    Bit(u8),
    Sector(Vec<u8>),
}

impl Damage {
    pub fn at_random(chance: &mut Chance, template: &Template) -> Self {
        let in_log = chance.one_in(8);
        let bytes = if in_log { &template.log } else { &template.database };
        if chance.one_in(4) {
            let garbage = (0..512).map(|_| chance.of(0..=255) as u8).collect();
            let at = chance.of(0..=bytes.len() / 512 - 1) * 512;
            return Damage { in_log, at, how: How::Sector(garbage), in_table: !in_log && template.is_in_table(at) };
        }
        let mut at = chance.of(0..=bytes.len() - 1);
        // Payloads take most of the file: half of the bits that are flipped stand where rows begin.
        if !in_log && chance.one_in(2) {
            let page = chance.of(0..=template.database.len() / template.page_size - 1) * template.page_size;
            let front = chance.one_in(4);
            at = page + if front { chance.of(0..=63) } else { chance.of(0..=template.page_size - 1) };
        }
        let how = How::Bit(chance.of(0..=7) as u8);
        Damage { in_log, at, how, in_table: !in_log && template.is_in_table(at) }
    }

    /// The lowest bit of a letter in a payload that is to be sent.
    pub fn in_a_payload(chance: &mut Chance, template: &Template) -> Self {
        let rows: Vec<i64> = template.pending.iter().copied().collect();
        loop {
            let payload = written(chance.pick(&rows)).payload.into_bytes();
            if payload.len() < 60 {
                continue;
            }
            let from = chance.of(0..=payload.len() - 24);
            let found: Vec<usize> = template
                .database
                .windows(24)
                .enumerate()
                .filter_map(|(at, bytes)| (bytes == &payload[from..from + 24]).then_some(at))
                .collect();
            // Somewhere else in the file it may stand once more, where nobody reads it.
            if let [at] = found[..] {
                return Damage { in_log: false, at: at + 9, how: How::Bit(0), in_table: true };
            }
        }
    }
}

impl Template {
    fn is_in_table(&self, at: usize) -> bool {
        self.table.contains(&(at / self.page_size + 1))
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = if self.in_log { "the log" } else { "the database" };
        match &self.how {
            How::Bit(bit) => write!(f, "bit {bit} of byte {} of {file}", self.at),
            How::Sector(_) => write!(f, "512 bytes from {} on of {file}", self.at),
        }
    }
}
