//! The broker is away while many rows stand, and comes.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use edge_outbox::rusqlite::Connection;
use edge_outbox::{Error, Message, Outbox};
use tempfile::TempDir;

use super::door::{Absence, Door};
use super::witness::{self, Sample};
use crate::SOON;
use crate::args::Args;
use crate::arrivals::Arrivals;
use crate::audit::{self, Told};
use crate::mosquitto::Mosquitto;
use crate::workload::{Said, Workload};

/// The broker is looked for about once a second; a device that is offline for weeks would take the defaults.
const SETTINGS: &str = r#"{"reconnect":{"first":"250ms","longest":"2s"}}"#;
const URL_SETTINGS: &str = "connect_timeout=500ms";
/// What is written before the first stretch is one row: the writer comes to its second after a quarter of an hour.
const RATE: &str = "0.001";
/// As examples/workload/writer.rs makes it.
const TABLE: &str = "CREATE TABLE biz (id INTEGER PRIMARY KEY, k INTEGER, seq INTEGER);
CREATE INDEX biz_k ON biz (k, seq);";
const FEW: u64 = 1_000;
const KEYS: i64 = 8;
/// How long it is watched.
const STRETCH: Duration = Duration::from_secs(10);
const TRACED: Duration = Duration::from_secs(4);
/// Nothing happened for so long: what it does at the start is done.
const CALM: Duration = Duration::from_secs(2);
/// So many tries at least in a stretch, each after at most the longest wait and the time to connect.
const TRIES: u64 = 4;
/// A line that was said is heard.
const HEARD: Duration = Duration::from_millis(30);
/// The line `RECONNECT` on its standard output, which is a pipe.
const RECONNECT_BYTES: u64 = 10;
/// Of memory, in KiB, between the ends of a stretch, and between a backlog of few and of many.
const FLAT: u64 = 64;
const ALIKE: u64 = 512;
/// What one reconnect may repeat: the window and what is settled together.
const REPEATED: u64 = 256 + 516;
const FIRST_WITHIN: Duration = Duration::from_secs(10);

pub struct Backlog {
    pub absence: Absence,
    pub rows: u64,
}

impl Backlog {
    pub fn play(&self, args: &Args) -> Result<String, Vec<String>> {
        let one = |why: String| vec![why];
        let mut few = Device::start(args, self.absence, FEW).map_err(one)?;
        let mut many = Device::start(args, self.absence, self.rows).map_err(one)?;
        let (of_few, of_many) = thread::scope(|scope| {
            let of_few = scope.spawn(|| few.watch());
            let of_many = many.watch();
            (of_few.join().expect("it does not panic"), of_many)
        });
        let (of_few, of_many) = (of_few.map_err(one)?, of_many.map_err(one)?);
        let mut broken = of_few.thrifty();
        broken.extend(of_many.thrifty());
        let (memory, alone) = (of_many.ended.memory, of_few.ended.memory);
        if memory > alone + ALIKE {
            broken.push(format!("{memory} KiB of memory with {} rows, and {alone} with {FEW}", self.rows));
        }
        many.nothing_is_charged(&mut broken);
        let traced = many.trace(&mut broken).map_err(one)?;
        match many.deliver() {
            Ok(delivered) if broken.is_empty() => {
                Ok(format!("{} rows, {of_many}, {alone} KiB with {FEW} rows; {traced}; {delivered}", self.rows))
            }
            Ok(_) => Err(broken),
            Err(more) => Err(broken.into_iter().chain(more).collect()),
        }
    }
}

/// A stretch of time that was watched.
struct Watched {
    begun: Sample,
    ended: Sample,
    tries: u64,
    lasted: Duration,
}

impl Watched {
    /// What is wrong with what it did in between.
    fn thrifty(&self) -> Vec<String> {
        let Watched { begun, ended, tries, lasted } = self;
        let mut broken = Vec::new();
        let mut check = |holds: bool, words: String| {
            if !holds {
                broken.push(words);
            }
        };
        check(*tries >= TRIES, format!("{tries} tries in {lasted:?}: it hardly looks for the broker"));
        let (wrote, said) = (ended.wchar - begun.wchar, tries * RECONNECT_BYTES);
        check(wrote == said, format!("it wrote {wrote} bytes offline, and only {said} of them are what it said"));
        let to_disk = ended.write_bytes - begun.write_bytes;
        check(to_disk == 0, format!("{to_disk} bytes go to the disk offline"));
        for path in begun.files.keys().chain(ended.files.keys()).collect::<BTreeSet<_>>() {
            let (was, is) = (begun.files.get(path), ended.files.get(path));
            check(is == was, format!("{} was {was:?}, and is {is:?}", path.display()));
        }
        let grown = ended.memory.saturating_sub(begun.memory);
        check(grown <= FLAT, format!("memory grew by {grown} KiB offline, from {}", begun.memory));
        let cpu = ended.cpu - begun.cpu;
        check(cpu < *lasted / 20, format!("it took {cpu:?} of {lasted:?} offline"));
        // A try has two of its own, and one of the samples may be of its midst.
        check(ended.threads <= begun.threads + 2, format!("{} threads, then {}", begun.threads, ended.threads));
        broken
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Watched { begun, ended, tries, lasted } = self;
        let seconds = lasted.as_secs_f64();
        let cpu = (ended.cpu - begun.cpu).as_secs_f64() / seconds * 100.0;
        let sleeps = ended.sleeps.saturating_sub(begun.sleeps) as f64 / seconds;
        write!(f, "{tries} tries in {seconds:.1} s: 0 bytes written, {cpu:.1} % of a core, {} threads", ended.threads)?;
        write!(f, ", {sleeps:.0} sleeps a second, memory {} KiB, then {}", begun.memory, ended.memory)
    }
}

/// One with a backlog, and its broker away.
struct Device {
    workload: Workload,
    database: PathBuf,
    door: Door,
    broker: Mosquitto,
    arrivals: Arrivals,
    told: Told,
    _folder: TempDir,
}

impl Device {
    fn start(args: &Args, absence: Absence, rows: u64) -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("device.db");
        fill(&database, rows).map_err(|error| error.to_string())?;
        let door = Door::closed(absence).map_err(|error| format!("no port of our own: {error}"))?;
        let url = format!("mqtt://127.0.0.1:{}?{URL_SETTINGS}", door.port());
        let mut command = Workload::command(args, &database, &url, args.seed);
        let workload = Workload::start(command.args(["--rate", RATE, "--settings", SETTINGS]));
        let broker = Mosquitto::start();
        let arrivals = Arrivals::at(&broker);
        Ok(Device { workload, database, door, broker, arrivals, told: Told::default(), _folder: folder })
    }

    /// Notes what it says until then; false if it is nothing.
    fn hear(&mut self, until: Instant) -> Result<bool, String> {
        let mut heard = false;
        while let Some(said) = self.workload.hear(until)? {
            self.told.note(&said);
            heard = true;
        }
        Ok(heard)
    }

    fn sample(&self) -> Result<Sample, String> {
        Sample::of(self.workload.pid(), &self.database).map_err(|error| format!("/proc: {error}"))
    }

    /// A sample that holds all that it said so far, and nothing else.
    fn sample_in_silence(&mut self) -> Result<(Sample, u64), String> {
        let until = Instant::now() + SOON;
        loop {
            self.hear(Instant::now() + HEARD)?;
            let sample = self.sample()?;
            if !self.hear(Instant::now() + HEARD)? || Instant::now() > until {
                return Ok((sample, self.told.reconnects));
            }
        }
    }

    fn watch(&mut self) -> Result<Watched, String> {
        self.wait_until_calm()?;
        let (begun, tries_before) = self.sample_in_silence()?;
        let since = Instant::now();
        self.hear(since + STRETCH)?;
        let (ended, tries) = self.sample_in_silence()?;
        Ok(Watched { begun, ended, tries: tries - tries_before, lasted: since.elapsed() })
    }

    /// Until what it does once, at its start, is done; or for a minute, if it never rests, which the stretch will show.
    fn wait_until_calm(&mut self) -> Result<(), String> {
        let until = Instant::now() + SOON;
        let mut before = self.sample()?;
        loop {
            self.hear(Instant::now() + CALM)?;
            let now = self.sample()?;
            let is_calm = (&now.files, now.write_bytes) == (&before.files, before.write_bytes);
            if is_calm || Instant::now() > until {
                return Ok(());
            }
            before = now;
        }
    }

    /// A second witness, of the calls themselves.
    fn trace(&mut self, broken: &mut Vec<String>) -> Result<String, String> {
        let Some(calls) = witness::writing_calls(self.workload.pid(), TRACED)? else {
            return Ok("strace is not installed, and was not asked".to_owned());
        };
        let (said, others): (Vec<String>, Vec<String>) =
            calls.into_iter().partition(|call| call.contains(r#", "RECONNECT\n", 10)"#));
        if let Some(first) = others.first() {
            broken.push(format!("{} calls that write offline, the first of them {first}", others.len()));
        }
        Ok(format!("strace saw {} lines said in {TRACED:?} and no other call that writes", said.len()))
    }

    fn nothing_is_charged(&self, broken: &mut Vec<String>) {
        let sql = Connection::open(&self.database).unwrap();
        let charged = "SELECT count(*) FROM outbox WHERE attempts > 0 OR status <> 'PENDING'";
        let charged: i64 = sql.query_row(charged, [], |row| row.get(0)).unwrap();
        if charged > 0 {
            broken.push(format!("{charged} rows were touched while nobody was there to send them to"));
        }
    }

    /// The broker is there.
    fn deliver(self) -> Result<String, Vec<String>> {
        let Device { mut workload, database, door, broker, mut arrivals, mut told, _folder } = self;
        let one = |why: String| vec![why];
        let before = told.reconnects;
        let opened = door.open(broker.port()).map_err(|error| vec![error.to_string()])?;
        let since = Instant::now();
        if !arrivals.next_within(FIRST_WITHIN) {
            return Err(vec![format!("nothing arrived within {FIRST_WITHIN:?} of the broker's return")]);
        }
        let first = since.elapsed();
        workload.tell("drain");
        let stands = audit::readings(&Connection::open(&database).unwrap()).unwrap();
        arrivals.wait_for(&stands);
        let arrived = since.elapsed();
        let mut drained = false;
        while let Some(said) = workload.hear(Instant::now() + FIRST_WITHIN).map_err(one)? {
            told.note(&said);
            drained |= said == Said::Drained;
            if drained {
                break;
            }
        }
        let peak = Sample::of(workload.pid(), &database).map_err(|error| vec![error.to_string()])?.peak;
        for said in workload.kill().map_err(one)? {
            told.note(&said);
        }
        arrivals.catch_up();
        drop(opened);

        let mut broken = std::mem::take(&mut arrivals.damaged);
        if !drained {
            broken.push(format!("all arrived, and DRAINED was not said within {FIRST_WITHIN:?}"));
        }
        broken.extend(audit::durable(&told, &stands));
        broken.extend(audit::delivered(&stands, &arrivals.readings));
        // The try that met the broker may be counted in, too.
        broken.extend(audit::repeated(&arrivals.readings, (told.reconnects - before).saturating_sub(1), REPEATED));
        broken.extend(audit::sound(&database));
        if !broken.is_empty() {
            return Err(broken);
        }
        let rate = stands.len() as f64 / arrived.as_secs_f64();
        let (first, arrived) = (first.as_secs_f64(), arrived.as_secs_f64());
        Ok(format!(
            "first arrival {first:.2} s after the broker came, the last {arrived:.1} s, {rate:.0} a second; {peak} KiB at most"
        ))
    }
}

/// As the workload writes them, many to a transaction.
fn fill(database: &Path, rows: u64) -> Result<(), Error> {
    let outbox = Outbox::builder(database).open()?;
    outbox.transaction(|tx| -> Result<(), Error> { Ok(tx.execute_batch(TABLE)?) })?;
    let mut seqs = [0; KEYS as usize];
    for first in (1..=rows as i64).step_by(1_000) {
        outbox.transaction(|tx| -> Result<(), Error> {
            for id in first..(first + 1_000).min(rows as i64 + 1) {
                let k = id % KEYS;
                seqs[k as usize] += 1;
                let seq = seqs[k as usize];
                tx.execute("INSERT INTO biz (id, k, seq) VALUES (?1, ?2, ?3)", [id, k, seq])?;
                let crc = crc32fast::hash(format!("{id} {k} {seq}").as_bytes());
                let payload = serde_json::json!({ "id": id, "k": k, "seq": seq, "crc": crc });
                outbox.enqueue(tx, &Message::json(format!("biz/{k}"), &payload)?.with_key(k.to_string()))?;
            }
            Ok(())
        })?;
    }
    Ok(())
}
