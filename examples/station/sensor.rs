//! The sensors: each a thread that writes readings, as any part of an application would.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use edge_outbox::{Error, Message, Outbox, rusqlite};
use serde::{Deserialize, Serialize};

pub const SENSORS: [&str; 4] = ["roof", "garden", "cellar", "pond"];

/// Between two readings of a sensor.
const EVERY: Duration = Duration::from_millis(25);
/// Every so manyth reading turns out to be implausible.
const GLITCH: u64 = 8;

/// What a sensor measured, as a row and as the payload of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Which start of the station it is of: a database may hold readings of several.
    pub run: String,
    pub sensor: String,
    /// Counts up per sensor, rolled back readings included.
    pub number: u64,
    pub celsius: f64,
}

/// What all sensors did so far.
#[derive(Default)]
pub struct Tally {
    pub committed: AtomicU64,
    pub rolled_back: AtomicU64,
}

/// Why a transaction did not come about.
#[derive(Debug)]
enum Trouble {
    /// Noticed late, after everything was written: what a rollback is for.
    Implausible,
    Outbox(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::Outbox(error)
    }
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Trouble::Outbox(error.into())
    }
}

/// A name that no other start of a station has.
pub fn new_run() -> String {
    format!("{:08x}", RandomState::new().hash_one("run") as u32)
}

pub fn create_table(outbox: &Outbox) -> Result<(), Error> {
    outbox.transaction(|tx| {
        tx.execute_batch(
            "CREATE TABLE IF NOT EXISTS reading (
                 run     TEXT    NOT NULL,
                 sensor  TEXT    NOT NULL,
                 number  INTEGER NOT NULL,
                 celsius REAL    NOT NULL,
                 PRIMARY KEY (run, sensor, number)
             ) STRICT, WITHOUT ROWID",
        )?;
        Ok(())
    })
}

/// Measures until then. Stops early only for an error that is no rollback of ours.
pub fn measure(outbox: &Outbox, run: &str, sensor: &str, until: Instant, tally: &Tally) -> Result<(), Error> {
    let phase = sensor.len() as f64;
    for number in 1.. {
        if Instant::now() >= until {
            break;
        }
        let celsius = ((number as f64 / 40.0 + phase).sin() * 1000.0).round() / 100.0;
        let reading = Reading { run: run.to_owned(), sensor: sensor.to_owned(), number, celsius };
        match write(outbox, &reading) {
            Ok(()) => tally.committed.fetch_add(1, Relaxed),
            Err(Trouble::Implausible) => tally.rolled_back.fetch_add(1, Relaxed),
            Err(Trouble::Outbox(error)) => return Err(error),
        };
        thread::sleep(EVERY);
    }
    Ok(())
}

/// The row and its message, both or neither.
fn write(outbox: &Outbox, reading: &Reading) -> Result<(), Trouble> {
    outbox.transaction(|tx| {
        tx.prepare_cached("INSERT INTO reading (run, sensor, number, celsius) VALUES (?1, ?2, ?3, ?4)")?.execute((
            &reading.run,
            &reading.sensor,
            reading.number as i64,
            reading.celsius,
        ))?;
        let topic = format!("weather/{}/{}", reading.run, reading.sensor);
        outbox.enqueue(tx, &Message::json(topic, reading)?.with_key(&reading.sensor))?;
        if reading.number % GLITCH == 0 { Err(Trouble::Implausible) } else { Ok(()) }
    })
}

/// The readings of this run that were committed, as the table has them.
pub fn committed(outbox: &Outbox, run: &str) -> Result<Vec<Reading>, Error> {
    let connection = outbox.connection()?;
    let mut statement = connection
        .prepare("SELECT run, sensor, number, celsius FROM reading WHERE run = ?1 ORDER BY sensor, number")?;
    let readings = statement.query_map([run], |row| {
        let number: i64 = row.get(2)?;
        Ok(Reading { run: row.get(0)?, sensor: row.get(1)?, number: number as u64, celsius: row.get(3)? })
    })?;
    Ok(readings.collect::<rusqlite::Result<_>>()?)
}
