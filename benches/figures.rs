//! What the outbox costs, measured on the machine at hand.
//!
//! ```console
//! $ cargo bench --bench figures
//! ```
//!
//! It takes about a minute and 400 MB in the folder for temporary files, needs Linux for `/proc/self/io`, and judges
//! nothing: the goals stand beside the figures. Each figure comes from a process of its own, which is this program with
//! arguments.
//!
//! *Bytes written* are what SQLite passed to the kernel (`wchar`: log and database, checkpoints included), less what the
//! same program writes without an outbox. Each message is one transaction: a row into a table of the program's own and
//! a message of 200 bytes. They are counted in a second round, when the messages of the first are being purged, so that
//! enqueue, settling and purge of one message each are in it; at enqueue it is the log alone. The disk writes more than
//! SQLite does: see README.

use std::collections::VecDeque;
use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use edge_outbox::broker::in_process::Unsubscribed;
use edge_outbox::broker::{Broker, Delivery, InProcess, Link};
use edge_outbox::rusqlite::{Connection, Transaction, TransactionBehavior};
use edge_outbox::{Backoff, Message, Outbox, Settings};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// In a round. Few enough for the log to hold them all: what is counted at enqueue is the log alone.
const MESSAGES: usize = 1_000;
const FEW: usize = 1_000;
const MANY: usize = 1_000_000;
const PAYLOAD: usize = 200;
const SOON: Duration = Duration::from_secs(600);
const HOUR: Duration = Duration::from_secs(3600);

fn main() -> Result<()> {
    // `cargo bench` says so to every benchmark
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => report(),
        ["alone", database] => alone(Path::new(database)),
        ["enqueued", database] => enqueued(Path::new(database)),
        ["sent", database, way, retention] => {
            sent(Path::new(database), way == "one", Duration::from_secs(retention.parse()?))
        }
        ["memory", database] => memory(Path::new(database)),
        ["first", database] => first(Path::new(database)),
        ["rate", database, retention] => rate(Path::new(database), Duration::from_secs(retention.parse()?)),
        _ => Err("it takes no arguments".into()),
    }
}

fn report() -> Result<()> {
    let folder = env::temp_dir().join(format!("edge-outbox-figures-{}", std::process::id()));
    fs::create_dir(&folder)?;
    let reported = figures(&folder);
    fs::remove_dir_all(&folder)?;
    reported
}

fn figures(folder: &Path) -> Result<()> {
    let alone = measure(folder, "alone", &["alone", "DB"])?;
    let each = |bytes: f64| bytes / MESSAGES as f64 / 1000.0;
    println!("bytes written per message, beyond the program's own transaction of {:.2} kB", each(alone[1]));
    let enqueued = measure(folder, "enqueued", &["enqueued", "DB"])?;
    line("  at enqueue, the table grows", each(enqueued[0] - alone[0]), "kB", "at most 5.2");
    line("  at enqueue, onto pages of purged messages", each(enqueued[1] - alone[0]), "kB", "at most 5.2");
    for (way, words, goal) in [("many", "drained by 500", "6.5"), ("one", "drained one at a time", "10")] {
        for (seconds, retention) in [("0", "retention 0"), ("3600", "retention 1 h")] {
            let sent = measure(folder, &format!("{way}-{seconds}"), &["sent", "DB", way, seconds])?;
            let goal = format!("at most {goal}");
            line(&format!("  in all, {words}, {retention}"), each(sent[0] - alone[1]), "kB", &goal);
        }
    }

    println!("with {FEW} and with {MANY} pending messages");
    let mut peaks = Vec::new();
    for rows in [FEW, MANY] {
        let database = folder.join(format!("pending-{rows}"));
        fill(&database, rows)?;
        let name = format!("pending-{rows}");
        let memory = measure(folder, &name, &["memory", "DB"])?;
        line(&format!("  memory, {rows} pending, broker away"), memory[0] / 1024.0, "MiB", "");
        line(&format!("  memory at its peak, after sending 500 of {rows}"), memory[1] / 1024.0, "MiB", "");
        peaks.push(memory);
        let first = measure(folder, &name, &["first", "DB"])?;
        line(&format!("  link up to first message, {rows} pending"), first[0], "ms", "at most 100");
        line(&format!("  open to first message, {rows} pending"), first[1], "ms", "");
    }
    line("  difference of memory, broker away", (peaks[1][0] - peaks[0][0]).abs() / 1024.0, "MiB", "at most 1");
    line("  difference of memory at its peak", (peaks[1][1] - peaks[0][1]).abs() / 1024.0, "MiB", "at most 1");

    println!("messages per second to a subscriber within the process");
    for (seconds, retention) in [("0", "retention 0"), ("3600", "retention 1 h")] {
        let rate = measure(folder, &format!("rate-{seconds}"), &["rate", "DB", seconds])?;
        line(&format!("  a backlog of 100000, {retention}"), rate[0], "/s", "");
        line(&format!("  enqueued one by one meanwhile, {retention}"), rate[1], "/s", "");
    }
    Ok(())
}

fn line(what: &str, figure: f64, unit: &str, goal: &str) {
    println!("{what:<58}{figure:>12.2} {unit:<4} {goal}");
}

/// Runs this program with `arguments` and reads the numbers that it prints.
fn measure(folder: &Path, database: &str, arguments: &[&str]) -> Result<Vec<f64>> {
    let path = folder.join(database).display().to_string();
    let arguments = arguments.iter().map(|argument| if *argument == "DB" { path.as_str() } else { argument });
    let output = Command::new(env::current_exe()?).args(arguments).output()?;
    if !output.status.success() {
        return Err(format!("{database}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let numbers = String::from_utf8(output.stdout)?;
    Ok(numbers.split_whitespace().map(str::parse).collect::<std::result::Result<_, _>>()?)
}

fn settings() -> Settings {
    let reconnect = Backoff { first: Duration::from_millis(1), longest: Duration::from_millis(20) };
    Settings { reconnect, ..Settings::default() }
}

fn message(number: usize) -> Message {
    Message::text("weather/roof", format!("{number:0>PAYLOAD$}"))
}

/// The program without an outbox: bytes it writes into the log in the second round, and in all.
fn alone(database: &Path) -> Result<()> {
    let mut connection = Connection::open(database)?;
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4000;")?;
    connection.execute_batch(READINGS)?;
    let (mut log, mut all) = (0, 0);
    for _ in 0..2 {
        let begun = bytes_written()?;
        for number in 0..MESSAGES {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            record(&transaction, number)?;
            transaction.commit()?;
        }
        log = bytes_written()? - begun;
        checkpoint(&connection)?;
        all = bytes_written()? - begun;
    }
    println!("{log} {all}");
    Ok(())
}

/// The same program with its outbox, and nobody forwards: bytes it writes into the log in the first round, when the
/// table grows, and in the second, when messages take the pages of purged ones.
fn enqueued(database: &Path) -> Result<()> {
    let connection = Connection::open(database)?;
    connection.execute_batch(READINGS)?;
    // As long a log as `alone` has: what moving it into the database writes is counted in all.
    let settings = Settings { reserve: 16 << 20, ..settings() };
    let mut logs = [0, 0];
    for log in &mut logs {
        let outbox = Outbox::builder(database).settings(settings.clone()).open()?;
        let begun = bytes_written()?;
        (0..MESSAGES).try_for_each(|number| enqueue(&outbox, number))?;
        *log = bytes_written()? - begun;
        drop(outbox);
        connection.execute_batch("UPDATE outbox SET status = 'SENT', filler = '...'; DELETE FROM outbox")?;
        checkpoint(&connection)?;
    }
    println!("{} {}", logs[0], logs[1]);
    Ok(())
}

/// The same program with its outbox: bytes that it writes in the second round, until all is sent and purged.
fn sent(database: &Path, one_at_a_time: bool, retention: Duration) -> Result<()> {
    let settle_after = if one_at_a_time { Duration::ZERO } else { Settings::default().settle_after };
    let broker = InProcess::builder().unsubscribed(Unsubscribed::Acknowledge).build();
    let settings = Settings { retention, settle_after, ..settings() };
    let outbox = Outbox::builder(database).settings(settings).broker(broker.clone()).open()?;
    let connection = Connection::open(database)?;
    connection.execute_batch(READINGS)?;
    let mut all = 0;
    for round in 0..2 {
        let begun = bytes_written()?;
        if !one_at_a_time {
            broker.go_offline();
        }
        for number in 0..MESSAGES {
            enqueue(&outbox, number)?;
            if one_at_a_time {
                outbox.flush(SOON)?;
            }
        }
        broker.go_online();
        outbox.flush(SOON)?;
        checkpoint(&connection)?;
        all = bytes_written()? - begun;
        if round == 0 {
            // Their time goes by; not counted.
            connection.execute("UPDATE outbox SET status_at = status_at - 7200000", [])?;
            checkpoint(&connection)?;
        }
    }
    println!("{all}");
    Ok(())
}

fn enqueue(outbox: &Outbox, number: usize) -> std::result::Result<(), edge_outbox::Error> {
    outbox.transaction(|tx| {
        record(tx, number)?;
        outbox.enqueue(tx, &message(number)).map(drop)
    })
}

const READINGS: &str = "CREATE TABLE reading (id INTEGER PRIMARY KEY, sensor TEXT NOT NULL, value REAL NOT NULL)";

fn record(transaction: &Transaction<'_>, number: usize) -> std::result::Result<(), edge_outbox::Error> {
    let mut insert = transaction.prepare_cached("INSERT INTO reading (sensor, value) VALUES ('roof', ?1)")?;
    insert.execute([number as f64])?;
    Ok(())
}

fn checkpoint(connection: &Connection) -> Result<()> {
    let busy: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if busy { Err("the log could not be moved into the database".into()) } else { Ok(()) }
}

fn bytes_written() -> Result<u64> {
    let io = fs::read_to_string("/proc/self/io")?;
    let wchar = io.lines().find_map(|line| line.strip_prefix("wchar: ")).ok_or("no wchar in /proc/self/io")?;
    Ok(wchar.parse()?)
}

/// A database with that many pending messages.
fn fill(database: &Path, rows: usize) -> Result<()> {
    drop(Outbox::builder(database).open()?);
    let mut connection = Connection::open(database)?;
    let transaction = connection.transaction()?;
    transaction.execute(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
         INSERT INTO outbox (topic, key, payload) SELECT 'weather/roof', 'roof', printf('%0200d', i) FROM n",
        [rows as i64],
    )?;
    transaction.commit()?;
    checkpoint(&connection)
}

/// KiB of memory: with the broker away, and at the peak after sending some.
fn memory(database: &Path) -> Result<()> {
    let broker = InProcess::new();
    broker.go_offline();
    let outbox = Outbox::builder(database).settings(settings()).broker(broker.clone()).open()?;
    broker.wait_until(SOON, |counts| counts.connects >= 10);
    outbox.stats()?;
    let resident = of_memory("VmRSS:")?;
    let subscriber = broker.subscribe("#")?;
    broker.go_online();
    for arrival in subscriber.iter().take(500) {
        arrival.acknowledge();
    }
    broker.go_offline();
    outbox.stats()?;
    println!("{resident} {}", of_memory("VmHWM:")?);
    Ok(())
}

fn of_memory(name: &str) -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("not in /proc/self/status")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Tells when the link came up and when the first message came.
struct Stopwatch {
    broker: InProcess,
    up: Option<Instant>,
    first: mpsc::Sender<(Instant, Instant)>,
}

impl Broker for Stopwatch {
    fn connect(&mut self, link: Link) {
        self.up = Some(Instant::now());
        self.broker.connect(link);
    }
    fn send(&mut self, queue: &mut VecDeque<Delivery>) {
        if let Some(up) = self.up.take_if(|_| !queue.is_empty()) {
            let _ = self.first.send((up, Instant::now()));
        }
        self.broker.send(queue);
    }
    fn disconnect(&mut self, until: Instant) {
        self.broker.disconnect(until);
    }
}

/// Milliseconds to the first message: since the link came up, and since the outbox was opened.
fn first(database: &Path) -> Result<()> {
    let (first, told) = mpsc::channel();
    let begun = Instant::now();
    let broker = Stopwatch { broker: InProcess::new(), up: None, first };
    let outbox = Outbox::builder(database).settings(settings()).broker(broker).open()?;
    let (up, first) = told.recv_timeout(SOON)?;
    drop(outbox);
    let ms = |since: Instant| (first - since).as_secs_f64() * 1000.0;
    println!("{} {}", ms(up), ms(begun));
    Ok(())
}

/// Messages per second: from a backlog, and while they are enqueued one by one.
fn rate(database: &Path, retention: Duration) -> Result<()> {
    const BACKLOG: usize = 100_000;
    const ONE_BY_ONE: usize = 2_000;
    fill(database, BACKLOG)?;
    let broker = InProcess::new();
    let subscriber = broker.subscribe("#")?;
    let consumer = thread::spawn(move || subscriber.iter().for_each(|arrival| arrival.acknowledge()));
    let begun = Instant::now();
    let settings = Settings { retention: retention.min(HOUR), ..settings() };
    let outbox = Outbox::builder(database).settings(settings).broker(broker.clone()).open()?;
    outbox.flush(SOON)?;
    let backlog = BACKLOG as f64 / begun.elapsed().as_secs_f64();

    let begun = Instant::now();
    for number in 0..ONE_BY_ONE {
        outbox.transaction(|tx| outbox.enqueue(tx, &message(number)))?;
    }
    outbox.flush(SOON)?;
    println!("{backlog} {}", ONE_BY_ONE as f64 / begun.elapsed().as_secs_f64());
    drop((outbox, broker));
    consumer.join().map_err(|_| "the consumer panicked")?;
    Ok(())
}
