//! What is written: readings, and a message about each.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use edge_outbox::rusqlite::{self, OptionalExtension, Transaction};
use edge_outbox::{Error, Message, Outbox};
use serde::{Deserialize, Serialize};

use crate::args::{Args, Synchronous};
use crate::say;

/// The index finds the newest seq of a k.
const TABLE: &str = "CREATE TABLE biz (id INTEGER PRIMARY KEY, k INTEGER, seq INTEGER);
CREATE INDEX biz_k ON biz (k, seq);";
/// Before another try, where something is in the way.
const REST: Duration = Duration::from_millis(20);

/// A row of the table, and the payload of its message.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Reading {
    id: i64,
    k: i64,
    seq: i64,
    crc: u32,
}

impl Reading {
    fn new(id: i64, k: i64, seq: i64) -> Self {
        Reading { id, k, seq, crc: crc32fast::hash(format!("{id} {k} {seq}").as_bytes()) }
    }

    pub fn is_intact(&self) -> bool {
        self.crc == Reading::new(self.id, self.k, self.seq).crc
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.id, self.k, self.seq)
    }
}

/// Makes the table, all of it or nothing, if it is not there.
pub fn make_table(outbox: &Outbox) -> Result<(), Error> {
    let found = "SELECT 1 FROM sqlite_schema WHERE name = 'biz'";
    let is_there = outbox.connection()?.query_row(found, [], |_| Ok(())).optional()?.is_some();
    if is_there { Ok(()) } else { outbox.transaction(|tx| Ok(tx.execute_batch(TABLE)?)) }
}

/// A thread that writes.
pub struct Writer<'o> {
    outbox: &'o Outbox,
    keys: i64,
    chance: u64,
    /// Whether it depends on the connection if commits are synced.
    is_mixed: bool,
    /// After so many transactions it moves the log, and so many there were.
    checkpoint: Option<u64>,
    written: u64,
    /// Between two transactions of its own, and when the next one is due.
    pace: Option<(Duration, Instant)>,
}

impl<'o> Writer<'o> {
    pub fn new(args: &Args, outbox: &'o Outbox, number: u64) -> Self {
        let between = args.rate.map(|rate| Duration::from_secs_f64(args.writers as f64 / rate));
        Writer {
            outbox,
            keys: args.keys,
            chance: args.seed.wrapping_mul(64).wrapping_add(number),
            is_mixed: args.synchronous == Synchronous::Mixed,
            checkpoint: args.checkpoint,
            written: 0,
            pace: between.map(|between| (between, Instant::now())),
        }
    }

    /// Until the next transaction is due.
    pub fn wait_until_due(&self) {
        if let Some((_, due)) = self.pace {
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }

    /// One transaction, and what comes after some of them.
    pub fn write(&mut self) {
        self.write_one();
        self.written += 1;
        if self.checkpoint.is_some_and(|every| self.written % every == 0) {
            if let Err(error) = self.move_log() {
                eprintln!("workload: the log is not moved: {error}");
            }
        }
    }

    /// As far as nobody stands in the way.
    fn move_log(&self) -> Result<(), Error> {
        Ok(self.outbox.connection()?.query_row("PRAGMA main.wal_checkpoint(PASSIVE)", [], |_| Ok(()))?)
    }

    fn write_one(&mut self) {
        if let Some((between, due)) = &mut self.pace {
            *due += *between;
        }
        let (k, gives_up) = ((self.next() % self.keys as u64) as i64, self.next() % 10 == 0);
        let (mut written, mut is_normal) = (None, false);
        let result = self.outbox.transaction(|tx| {
            let reading = insert(tx, k)?;
            written = Some(reading);
            is_normal = self.is_mixed && tx.pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0))? < 2;
            let message = Message::json(format!("biz/{k}"), &reading)?.with_key(k.to_string());
            self.outbox.enqueue(tx, &message)?;
            if gives_up { Err(Undone::OnPurpose) } else { Ok(reading) }
        });
        match (result, written) {
            (Ok(reading), _) => {
                if is_normal {
                    say(format_args!("NORMAL {reading}"));
                }
                say(format_args!("COMMIT {reading}"));
            }
            (Err(Undone::OnPurpose), _) => {}
            (Err(Undone::By(Error::MaybeCommitted(error))), Some(reading)) => {
                say(format_args!("MAYBE {reading}"));
                eprintln!("workload: {}", Error::MaybeCommitted(error));
                thread::sleep(REST);
            }
            (Err(Undone::By(Error::Full(_))), _) => {
                say("FULL");
                thread::sleep(REST);
            }
            (Err(Undone::By(error)), _) => {
                eprintln!("workload: not written: {error}");
                thread::sleep(REST);
            }
        }
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = self.chance;
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Why a transaction was not committed.
enum Undone {
    OnPurpose,
    By(Error),
}

impl From<Error> for Undone {
    fn from(error: Error) -> Self {
        Undone::By(error)
    }
}

impl From<rusqlite::Error> for Undone {
    fn from(error: rusqlite::Error) -> Self {
        Undone::By(error.into())
    }
}

fn insert(tx: &Transaction<'_>, k: i64) -> Result<Reading, rusqlite::Error> {
    let newest = "SELECT coalesce(max(seq), 0) FROM biz WHERE k = ?1";
    let seq = 1 + tx.prepare_cached(newest)?.query_row([k], |row| row.get::<_, i64>(0))?;
    tx.prepare_cached("INSERT INTO biz (k, seq) VALUES (?1, ?2)")?.execute([k, seq])?;
    Ok(Reading::new(tx.last_insert_rowid(), k, seq))
}
