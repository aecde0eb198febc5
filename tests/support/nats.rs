//! A broker that is not mosquitto: a nats-server of our own, which speaks MQTT 3.1.1, on ports of its own; and a
//! subscriber that is away while messages come, for whom it keeps them.

#![allow(dead_code, reason = "each user includes this file and takes what it needs")]

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Far beyond what anything here takes, the slowest machine included.
const SOON: Duration = Duration::from_secs(60);

/// A nats-server that listens on 127.0.0.1 and writes what it is given to its folder. Killed on drop.
pub struct Nats {
    program: PathBuf,
    port: u16,
    lines: String,
    folder: TempDir,
    starts: usize,
    process: Option<Child>,
}

impl Nats {
    /// None if it is not installed, which is said aloud.
    pub fn start() -> Option<Self> {
        Self::start_with("")
    }

    /// The same with more in its configuration, for example `authorization { user: a, password: b }`.
    pub fn start_with(lines: &str) -> Option<Self> {
        Self::start_in(tempfile::tempdir().expect("a temporary folder"), "", lines)
    }

    /// The same in a folder that already holds what the lines speak of; `mqtt` is about its listener for MQTT.
    pub fn start_in(folder: TempDir, mqtt: &str, lines: &str) -> Option<Self> {
        let program = find_or_say_so()?;
        // the name is what it finds its own streams by when it comes back
        let lines = format!(
            "server_name: test\nhost: 127.0.0.1\nport: -1\njetstream {{ store_dir: store }}\n{lines}\n\
             mqtt {{ host: 127.0.0.1, port: $MQTT_PORT\n{mqtt}\n}}\n"
        );
        let mut nats = Nats { program, port: 0, lines, folder, starts: 0, process: None };
        assert!(nats.try_start(), "nats-server does not start:\n{}", nats.log());
        Some(nats)
    }

    /// Where it speaks MQTT.
    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it wrote about itself since its last start.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join(format!("log{}", self.starts))
    }

    /// Ends it by SIGKILL. What it had handed to the kernel is on its disk when it comes back.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts it again, on the port that it had.
    pub fn restart(&mut self) {
        self.kill();
        let deadline = Instant::now() + SOON;
        while !self.try_start() {
            assert!(Instant::now() < deadline, "nats-server does not come back on its port:\n{}", self.log());
        }
    }

    /// Whether it takes MQTT's connections; if not, it has ended.
    fn try_start(&mut self) -> bool {
        self.starts += 1;
        let port = if self.port == 0 { "-1".to_owned() } else { self.port.to_string() };
        fs::write(self.folder.path().join("conf"), self.lines.replace("$MQTT_PORT", &port)).expect("its configuration");
        let log = File::create(self.log_file()).expect("its log");
        let mut process = Command::new(&self.program)
            .args(["--config", "conf"])
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("its log"))
            .stderr(log)
            .spawn()
            .expect("nats-server starts");
        let deadline = Instant::now() + SOON;
        loop {
            let ended = process.try_wait().expect("a child of ours").is_some();
            if let Some(port) = port_in(&self.log()) {
                self.port = port;
                self.process = Some(process);
                return true;
            }
            if ended {
                return false;
            }
            assert!(Instant::now() < deadline, "nats-server does not become ready:\n{}", self.log());
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The port for MQTT, once the log says that all is ready.
fn port_in(log: &str) -> Option<u16> {
    let (before, _) = log.split_once("Server is ready")?;
    let (_, behind) = before.split_once("Listening for MQTT clients on ")?;
    behind.lines().next()?.rsplit(':').next()?.trim().parse().ok()
}

/// Where nats-server is. Where it is not, the test at hand can only say so: it passes, and has shown nothing.
fn find_or_say_so() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian puts it where only root's PATH looks
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = folders.map(|folder| folder.join("nats-server")).find(|file| file.is_file());
    if found.is_none() {
        let test = thread::current().name().unwrap_or("a test").to_owned();
        let words = format!("SKIPPED {test}: nats-server is not installed; scripts/test-other-brokers installs it\n");
        // not by eprintln!, which the test harness keeps to itself
        let _ = io::stderr().write_all(words.as_bytes());
    }
    found
}

/// A subscription that lasts while nobody is there, made and read by mosquitto_sub. What was acknowledged and is not in
/// it was lost.
pub struct Archive {
    options: Vec<String>,
}

/// One message of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Archived {
    pub topic: String,
    /// In hexadecimal digits.
    pub payload: String,
}

impl fmt::Debug for Archived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Archived { topic, payload } = self;
        write!(f, "{topic:?}: {:.24}… of {} B", payload, payload.len() / 2)
    }
}

impl Archived {
    pub fn new(topic: &str, payload: &[u8]) -> Self {
        Archived { topic: topic.to_owned(), payload: payload.iter().map(|byte| format!("{byte:02x}")).collect() }
    }
}

impl Archive {
    /// A subscription to `filters`; `options` are mosquitto_sub's, for user, password and TLS. Not to `#`: that is
    /// everything that goes on within NATS too.
    pub fn subscribe(port: u16, filters: &[&str], options: &[&str]) -> Self {
        let port = port.to_string();
        let ours = ["-h", "127.0.0.1", "-p", &port, "-V", "311", "-i", "archive", "-c", "-q", "1"];
        let filters = filters.iter().flat_map(|filter| ["-t", filter]);
        let all = ours.into_iter().chain(filters).chain(options.iter().copied());
        let archive = Archive { options: all.map(str::to_owned).collect() };
        let status = archive.mosquitto_sub(&["-E"]).status().unwrap_or_else(|error| not_there(&error));
        assert!(status.success(), "mosquitto_sub could not subscribe: {status}");
        archive
    }

    /// What was published until there are `count` different messages, in its order.
    pub fn read_until(&self, count: usize) -> Vec<Archived> {
        let mut reader = self.mosquitto_sub(&["-F", "%x %t"]);
        let mut reader = reader.stdout(Stdio::piped()).spawn().unwrap_or_else(|error| not_there(&error));
        let lines = BufReader::new(reader.stdout.take().expect("it is piped")).lines();
        let (send, received) = mpsc::channel();
        let thread = thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| send.send(line)));
        let (mut all, mut different) = (Vec::new(), BTreeSet::new());
        let deadline = Instant::now() + SOON;
        while different.len() < count {
            let Ok(line) = received.recv_timeout(deadline.saturating_duration_since(Instant::now())) else { break };
            let (payload, topic) = line.split_once(' ').expect("as the format says");
            let one = Archived { topic: topic.to_owned(), payload: payload.to_owned() };
            different.insert(one.clone());
            all.push(one);
        }
        drop(received);
        let _ = reader.kill();
        let _ = reader.wait();
        let _ = thread.join();
        assert_eq!(different.len(), count, "so many different messages are archived; the last is {:?}", all.last());
        all
    }

    fn mosquitto_sub(&self, more: &[&str]) -> Command {
        let mut command = Command::new("mosquitto_sub");
        command.args(&self.options).args(more).stdin(Stdio::null());
        command
    }
}

fn not_there<T>(error: &io::Error) -> T {
    panic!("mosquitto_sub does not start ({error}); on Debian: `apt-get install mosquitto-clients`")
}
