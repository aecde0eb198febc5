//! What the tool is for: programs in other languages write, it forwards, and somebody else counts what arrives.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::device::{Device, enqueue, eventually, value};
use crate::mosquitto::Mosquitto;
use crate::tool::{Running, command, run};

/// Each transaction has a row of business and a message, or neither: every fourth is rolled back.
const STATION: &str = r#"
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
db.execute("PRAGMA wal_autocheckpoint = 0")
db.execute("CREATE TABLE IF NOT EXISTS reading (number INTEGER PRIMARY KEY, sensor TEXT NOT NULL)")
for number in range(int(sys.argv[2])):
    sensor = f"sensor-{number % 7}"
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT INTO reading VALUES (?, ?)", (number, sensor))
    db.execute("INSERT INTO outbox (topic, key, payload) VALUES (?, ?, ?)", (f"reading/{sensor}", sensor, str(number)))
    db.execute("ROLLBACK" if number % 4 == 3 else "COMMIT")
    print(number, flush=True)
"#;

/// mosquitto's own subscriber: its lines are what arrived, in that order.
struct Counter {
    process: Child,
    lines: std::path::PathBuf,
}

impl Counter {
    fn start(mosquitto: &Mosquitto, folder: &Path) -> Option<Self> {
        let lines = folder.join("arrived");
        let port = mosquitto.port().to_string();
        let process = Command::new("mosquitto_sub")
            .args(["-h", "127.0.0.1", "-p", &port, "-q", "1", "-t", "#", "-F", "%p"])
            .stdout(File::create(&lines).unwrap())
            .spawn();
        let Ok(process) = process else {
            println!("SKIPPED: there is no mosquitto_sub, the subscriber that is not ours (package mosquitto-clients)");
            return None;
        };
        let counter = Counter { process, lines };
        // The retained word comes as soon as it is subscribed.
        run_publisher(&port, "begin");
        eventually("mosquitto_sub is there", || counter.arrived().contains(&"begin".to_owned()));
        Some(counter)
    }

    fn arrived(&self) -> Vec<String> {
        BufReader::new(File::open(&self.lines).unwrap()).lines().map(Result::unwrap).collect()
    }

    /// All that arrived between the first word and `last`, which is sent behind everything else.
    fn until(&self, last: &str) -> Vec<String> {
        eventually("the last message arrives", || {
            let mut tail = Command::new("tail");
            let tail = tail.args(["-n", "1"]).arg(&self.lines).output().unwrap();
            String::from_utf8_lossy(&tail.stdout).trim_end() == last
        });
        self.arrived().into_iter().filter(|line| line != "begin" && line != last).collect()
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run_publisher(port: &str, word: &str) {
    let sent = Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", port, "-q", "1", "-r", "-t", "begin", "-m", word])
        .status();
    assert!(sent.unwrap().success());
}

fn forward(device: &Device, mosquitto: &Mosquitto) -> Command {
    let mut command = command(["forward", "--to", &mosquitto.url(), "--poll-interval=10ms", "--settle-after=100ms"]);
    command.arg(device.database());
    command
}

#[track_caller]
fn drain(device: &Device, mosquitto: &Mosquitto) {
    let mut forward = forward(device, mosquitto);
    forward.args(["--drain", "--timeout", "50"]);
    let (status, said) = Running::start(forward).wait();
    assert!(status.success(), "{said}");
}

fn device() -> Device {
    let device = Device::new();
    drop(device.open_writer());
    device
}

/// Whether there is a Python whose SQLite reads the table.
fn python() -> bool {
    let found = Command::new("python3").args(["-c", "import sqlite3; print(sqlite3.sqlite_version)"]).output();
    let version = found.map(|found| String::from_utf8_lossy(&found.stdout).trim().to_owned()).unwrap_or_default();
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let is_new_enough = (parts.next(), parts.next()) >= (Some(3), Some(37));
    if !is_new_enough {
        println!("SKIPPED: there is no python3 with SQLite 3.37 or newer (found {version:?})");
    }
    is_new_enough
}

#[test]
fn what_a_python_program_commits_arrives_and_what_it_rolls_back_does_not_however_often_forward_is_killed() {
    const TRANSACTIONS: usize = 2_000;
    let (device, mosquitto) = (device(), Mosquitto::start());
    let Some(counter) = Counter::start(&mosquitto, device.folder()) else { return };
    if !python() {
        return;
    }
    let mut station = Command::new("python3");
    station.args(["-c", STATION]).arg(device.database()).arg(TRANSACTIONS.to_string());
    let mut station = station.stdout(Stdio::piped()).spawn().unwrap();
    let mut forwarder = Running::start(forward(&device, &mosquitto));
    let mut kills = 0;
    for number in BufReader::new(station.stdout.take().unwrap()).lines() {
        if number.unwrap().parse::<usize>().unwrap() % 300 == 299 {
            // In the middle of its work.
            forwarder.hear("session with 127.0.0.1");
            forwarder.signal("KILL");
            forwarder.wait();
            forwarder = Running::start(forward(&device, &mosquitto));
            kills += 1;
        }
    }
    assert!(station.wait().unwrap().success());
    assert_eq!(kills, TRANSACTIONS / 300);
    forwarder.signal("TERM");
    let (status, said) = forwarder.wait();
    assert_eq!(status.code(), Some(0), "{said}");
    drain(&device, &mosquitto);
    enqueue(&device.open_writer(), [edge_outbox::Message::text("last", "end")]);
    drain(&device, &mosquitto);

    let arrived: Vec<usize> = counter.until("end").iter().map(|number| number.parse().unwrap()).collect();
    let sql = device.sql();
    let mut readings = sql.prepare("SELECT number FROM reading ORDER BY number").unwrap();
    let committed: BTreeSet<usize> =
        readings.query_map([], |row| row.get::<_, i64>(0)).unwrap().map(|number| number.unwrap() as usize).collect();
    assert_eq!(committed.len(), TRANSACTIONS - TRANSACTIONS / 4);
    assert_eq!(arrived.iter().copied().collect::<BTreeSet<_>>(), committed);
    // Of each sensor the first arrivals are in the order of its transactions.
    let mut newest = [None; 7];
    let mut seen = BTreeSet::new();
    for number in arrived.into_iter().filter(|number| seen.insert(*number)) {
        assert!(newest[number % 7] < Some(number), "{number} came behind {:?}", newest[number % 7]);
        newest[number % 7] = Some(number);
    }
}

#[test]
fn a_hundred_thousand_lines_go_in_by_batches_and_a_drain_sends_each() {
    const LINES: usize = 100_000;
    let (device, mosquitto) = (device(), Mosquitto::start());
    let Some(counter) = Counter::start(&mosquitto, device.folder()) else { return };
    let mut enqueue = command(["enqueue", "--topic", "lines", "--lines", "--batch", "500"]);
    let mut enqueue = enqueue.arg(device.database()).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = std::io::BufWriter::new(enqueue.stdin.take().unwrap());
    for number in 0..LINES {
        writeln!(input, "line {number}").unwrap();
    }
    drop(input);
    assert!(enqueue.wait().unwrap().success());
    drain(&device, &mosquitto);
    assert_eq!(value::<i64>(&device.sql(), "SELECT count(*) FROM outbox WHERE status = 'SENT'", []), LINES as i64);
    run(["enqueue".as_ref(), device.database().as_os_str(), "--topic=last".as_ref(), "end".as_ref()]).ok();
    drain(&device, &mosquitto);
    let arrived = counter.until("end");
    assert_eq!(arrived.len(), LINES);
    assert!(arrived.iter().enumerate().all(|(number, line)| *line == format!("line {number}")));
}
