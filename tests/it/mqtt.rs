//! The whole way, from a transaction to a real mosquitto.
//!
//! Between them stands a proxy, which is the network; what it saw pass is the truth where the broker itself is killed.

mod access;
mod answers;
mod archive;
mod client_ids;
pub mod journal;
mod limits;
mod outages;
mod restarts;
mod shutdown;
#[cfg(feature = "tls")]
mod tls;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use edge_outbox::broker::{Mqtt, MqttSettings, Protocol};
use edge_outbox::{Backoff, Error, LinkState, Message, Outbox, Settings, Status};
use tempfile::TempDir;

use crate::mosquitto::{Received, Subscriber};

/// Far beyond what any of this takes, the slowest machine included.
const SOON: Duration = Duration::from_secs(60);
const PROTOCOLS: [Protocol; 2] = [Protocol::V5, Protocol::V311];

/// Settings for a broker on this machine.
fn at(port: u16) -> MqttSettings {
    let client = MqttSettings::new("127.0.0.1").with_port(port).with_window(1_000);
    client.with_keep_alive(Duration::from_secs(5)).with_connect_timeout(Duration::from_secs(20))
}

/// The same for tests in which nobody answers CONNECT.
fn impatient(port: u16) -> MqttSettings {
    at(port).with_connect_timeout(Duration::from_secs(1))
}

/// Numbers that are equal modulo `keys` are of one key.
fn assert_in_order<'a>(payloads: impl Iterator<Item = &'a str>, keys: usize) {
    let mut newest: BTreeMap<usize, usize> = BTreeMap::new();
    let mut known = BTreeSet::new();
    for number in payloads.map(|payload| payload.parse::<usize>().unwrap()) {
        if known.insert(number) {
            let before = newest.insert(number % keys, number);
            assert!(before.is_none_or(|before| before < number), "{number} came after {before:?}");
        }
    }
}

/// Everything up to when there are `count` different payloads.
#[track_caller]
fn until_all(subscriber: &Subscriber, count: usize) -> Vec<Received> {
    let (mut all, mut different) = (Vec::new(), BTreeSet::new());
    while different.len() < count {
        let Some(received) = subscriber.next(SOON) else { panic!("{} of {count} messages came", different.len()) };
        different.insert(received.payload.clone());
        all.push(received);
    }
    all
}

/// A program that uses an outbox.
struct House {
    outbox: Outbox,
    dir: TempDir,
}

impl House {
    fn new(client: MqttSettings, settings: Settings) -> Self {
        Self::again(client, settings, tempfile::tempdir().unwrap())
    }

    /// The program started again, on the database that is there.
    fn again(client: MqttSettings, settings: Settings, dir: TempDir) -> Self {
        let broker = Mqtt::new(client).unwrap();
        let outbox = Outbox::builder(dir.path().join("house.db")).settings(settings).broker(broker).open().unwrap();
        House { outbox, dir }
    }

    fn enqueue(&self, messages: impl Iterator<Item = Message>) {
        self.outbox
            .transaction(|tx| -> Result<(), Error> {
                for message in messages {
                    self.outbox.enqueue(tx, &message)?;
                }
                Ok(())
            })
            .unwrap();
    }

    #[track_caller]
    fn flush(&self) {
        self.flush_within(SOON);
    }

    #[track_caller]
    fn flush_within(&self, patience: Duration) {
        self.outbox.flush(patience).unwrap_or_else(|error| panic!("{error}: {:?}", self.outbox));
        assert_eq!(self.outbox.failed(0, 10).unwrap(), []);
    }

    fn shutdown(self, patience: Duration) -> (Result<(), Error>, TempDir) {
        let House { outbox, dir } = self;
        (outbox.shutdown(patience), dir)
    }

    fn rows(&self, status: &str) -> usize {
        let count = "SELECT count(*) FROM outbox WHERE status = ?";
        self.outbox.connection().unwrap().query_row(count, [status], |row| row.get::<_, i64>(0)).unwrap() as usize
    }

    /// The payloads, which are numbers, of the rows that the table calls SENT.
    fn sent(&self) -> BTreeSet<usize> {
        let connection = self.outbox.connection().unwrap();
        let mut rows = connection.prepare_cached("SELECT payload FROM outbox WHERE status = 'SENT'").unwrap();
        let rows = rows.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.map(|payload| payload.unwrap().parse().unwrap()).collect()
    }

    #[track_caller]
    fn wait_for_sent(&self, expected: &BTreeSet<usize>) {
        self.wait_until("the row in the table", |house| house.sent().is_superset(expected));
        assert_eq!(&self.sent(), expected);
    }

    #[track_caller]
    fn wait_for(&self, what: &str, holds: impl Fn(&Status) -> bool) {
        self.wait_until(what, |house| holds(&house.outbox.status()));
    }

    #[track_caller]
    fn wait_for_session(&self) {
        self.wait_for("a session", |status| matches!(status.link, LinkState::Up));
    }

    /// Waits for an outage or a refusal, whose words hold `word`, and says all of them.
    #[track_caller]
    fn wait_for_words(&self, word: &str) -> String {
        let mut said = String::new();
        self.wait_until(word, |house| {
            if let LinkState::Offline { why, .. } | LinkState::Refused { why, .. } = house.outbox.status().link {
                said = why;
            }
            said.contains(word)
        });
        said
    }

    #[track_caller]
    fn wait_until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let until = Instant::now() + SOON;
        while !holds(self) {
            assert!(Instant::now() < until, "not within {SOON:?}: {what}; it is {:?}", self.outbox);
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Settings that make waits short, so that no test has to sit through a default.
fn quick() -> Settings {
    let ms = Duration::from_millis;
    Settings {
        reconnect: Backoff { first: ms(5), longest: ms(50) },
        retry: Backoff { first: ms(5), longest: ms(50) },
        ack_timeout: Duration::from_secs(1),
        settle_after: ms(10),
        ..Settings::default()
    }
}

fn numbered(numbers: std::ops::Range<usize>) -> impl Iterator<Item = Message> {
    numbers.map(|number| Message::text("t", number.to_string()).with_key("a"))
}
