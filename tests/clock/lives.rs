//! What happened: a program writes what it measured, and a message about it, in one transaction, and forwards to
//! mosquitto. Its clock jumps by decades every few milliseconds, or stands; the program is killed at random moments and
//! started again. What must hold: everything arrives, each key in order; nothing is FAILED; SENT rows are purged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use edge_outbox::broker::{Mqtt, MqttSettings};
use edge_outbox::{Backoff, Error, Message, Outbox, Settings};
use tempfile::TempDir;

use crate::SOON;
use crate::chance::Chance;
use crate::clock::Clock;
use crate::mosquitto::{Mosquitto, Subscriber};
use crate::program::{Program, number, say, sql};

const KEYS: i64 = 7;
const LIVES: usize = 25;

/// The part: writes without end, and is killed.
pub fn lives(database: &Path, port: u16) {
    let ms = Duration::from_millis;
    let settings = Settings {
        settle_after: ms(10),
        retention: ms(200),
        reconnect: Backoff { first: ms(5), longest: ms(20) },
        ..Settings::default()
    };
    let broker = Mqtt::new(MqttSettings::new("127.0.0.1").with_port(port)).unwrap();
    let outbox = Outbox::builder(database).settings(settings).broker(broker).open().unwrap();
    let table = "CREATE TABLE IF NOT EXISTS reading (n INTEGER PRIMARY KEY, at REAL DEFAULT (julianday('now')))";
    outbox.connection().unwrap().execute_batch(table).unwrap();
    say("open");
    loop {
        let written = outbox.transaction(|tx| -> Result<(), Error> {
            let next = number(tx, "SELECT coalesce(max(n), 0) + 1 FROM reading");
            for n in next..next + 1 + next % 20 {
                tx.execute("INSERT INTO reading (n) VALUES (?1)", [n])?;
                outbox.enqueue(tx, &Message::text("readings", n.to_string()).with_key((n % KEYS).to_string()))?;
            }
            Ok(())
        });
        written.unwrap();
        // Not faster than a device measures: what is pending is to stay little beside what is sent.
        while outbox.stats().unwrap().pending > 200 {
            thread::sleep(ms(1));
        }
        thread::sleep(ms(2));
    }
}

struct World {
    folder: TempDir,
    broker: Mosquitto,
    everything: Subscriber,
}

impl World {
    fn new() -> Self {
        let broker = Mosquitto::start();
        let everything = broker.subscribe("readings");
        World { folder: tempfile::tempdir().unwrap(), broker, everything }
    }

    fn database(&self) -> std::path::PathBuf {
        self.folder.path().join("device.db")
    }

    fn start(&self, clock: &Clock) -> Program {
        let mut program = Program::start("lives", clock, &self.database(), self.broker.port());
        program.hear("open");
        program
    }

    /// Lets it live until messages that it wrote have gone, and for a while.
    fn live(&self, clock: &Clock, chance: &Chance) {
        let program = self.start(clock);
        let sql = sql(&self.database());
        let position = || number(&sql, "SELECT coalesce(max(id), 0) FROM outbox WHERE status = 'SENT'");
        let before = position();
        eventually("messages go", || position() > before + 50);
        thread::sleep(Duration::from_millis(chance.below(150)));
        drop(program);
    }

    /// The end: with nobody killed, everything arrives, as it should.
    fn judge(&self, clock: &Clock) {
        let database = self.database();
        let sql = sql(&database);
        let program = self.start(clock);
        let written = number(&sql, "SELECT max(n) FROM reading");
        let sent = || number(&sql, "SELECT coalesce(max(id), 0) FROM outbox WHERE status = 'SENT'");
        eventually("all of it goes", || sent() > written);
        eventually("rows are purged", || {
            let newest = number(&sql, "SELECT max(id) FROM outbox");
            number(&sql, "SELECT count(*) FROM outbox") < newest / 2
        });
        drop(program);
        assert_eq!(number(&sql, "SELECT count(*) FROM outbox WHERE status = 'FAILED'"), 0);

        let (mut arrived, mut newest) = (BTreeSet::new(), BTreeMap::new());
        let mut missing: BTreeSet<i64> = (1..=written).collect();
        while !missing.is_empty() {
            let received = self.everything.next(SOON).unwrap_or_else(|| panic!("missing: {missing:?}"));
            let n: i64 = received.text().parse().unwrap();
            missing.remove(&n);
            if arrived.insert(n) {
                let before = newest.insert(n % KEYS, n);
                assert!(before.is_none_or(|before| before < n), "{n} came after {before:?}");
            }
        }
        println!("{written} messages arrived");
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < until, "not within {SOON:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_clock_that_jumps_by_decades_changes_nothing_but_stamps_and_purging() {
    let Some(clock) = Clock::new() else { return };
    let (world, chance, over) = (World::new(), Chance::new(), AtomicBool::new(false));
    let jumps = chance.split();
    thread::scope(|scope| {
        let (clock, over) = (&clock, Over(&over));
        scope.spawn(|| clock.jump(move || jumps.next(), over.0));
        for _ in 0..LIVES {
            world.live(clock, &chance);
        }
        world.judge(clock);
    });
    let sql = sql(&world.database());
    // 1972 to 2080 are 39,000 days.
    let span = number(&sql, "SELECT CAST(max(at) - min(at) AS INTEGER) FROM reading");
    assert!(span > 30_000, "the clock jumped by {span} days");
}

#[test]
fn a_clock_that_says_the_same_after_every_start_does_not_keep_sent_rows() {
    let Some(clock) = Clock::new() else { return };
    let (world, chance) = (World::new(), Chance::new());
    clock.stop(1_000_000_000);
    for _ in 0..5 {
        world.live(&clock, &chance);
    }
    world.judge(&clock);
    let sql = sql(&world.database());
    assert_eq!(number(&sql, "SELECT count(DISTINCT at) FROM reading"), 1, "it stood");
}

/// Ends what goes on beside a test, also where the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
