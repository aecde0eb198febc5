//! A device for a test: a folder with a database in it, and what one does to it from outside.
#![allow(dead_code, reason = "each user includes this file and takes what it needs")]

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use edge_outbox::broker::in_process::{Arrival, Subscriber};
use edge_outbox::broker::{Broker, InProcess};
use edge_outbox::rusqlite::{Connection, Params, types::FromSql};
use edge_outbox::{Backoff, Error, Message, Outbox, Settings, Stats, Status};
use tempfile::TempDir;

/// Far beyond what any of this takes, the slowest machine included.
pub const SOON: Duration = Duration::from_secs(60);

pub struct Device {
    folder: PathBuf,
    _temporary: Option<TempDir>,
}

impl Device {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Device { folder: folder.path().to_owned(), _temporary: Some(folder) }
    }

    /// In a folder that somebody else looks after.
    pub fn at(folder: &Path) -> Self {
        Device { folder: folder.to_owned(), _temporary: None }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn database(&self) -> PathBuf {
        self.folder.join("device.db")
    }

    /// An outbox with settings that make waits short.
    pub fn open(&self, broker: impl Broker) -> Outbox {
        self.open_with(quick(), broker)
    }

    pub fn open_with(&self, settings: Settings, broker: impl Broker) -> Outbox {
        Outbox::builder(self.database()).settings(settings).broker(broker).open().unwrap()
    }

    /// An outbox that only writes.
    pub fn open_writer(&self) -> Outbox {
        Outbox::builder(self.database()).settings(quick()).open().unwrap()
    }

    /// A connection that knows nothing of the outbox, as another program has.
    pub fn sql(&self) -> Connection {
        let connection = Connection::open(self.database()).unwrap();
        connection.busy_timeout(SOON).unwrap();
        connection
    }
}

/// Settings that make waits short, so that no test has to sit through a default.
pub fn quick() -> Settings {
    let ms = Duration::from_millis;
    Settings {
        reconnect: Backoff { first: ms(5), longest: ms(50) },
        retry: Backoff { first: ms(5), longest: ms(50) },
        settle_after: ms(10),
        poll_interval: ms(10),
        ..Settings::default()
    }
}

/// A broker that keeps nothing from the test, and a subscriber to everything.
pub fn broker() -> (InProcess, Subscriber) {
    let broker = InProcess::builder().record(10_000).build();
    let everything = broker.subscribe("#").unwrap();
    (broker, everything)
}

/// Enqueues in one transaction.
pub fn enqueue(outbox: &Outbox, messages: impl IntoIterator<Item = Message>) {
    outbox
        .transaction(|tx| -> Result<(), Error> {
            messages.into_iter().try_for_each(|message| outbox.enqueue(tx, &message).map(drop))
        })
        .unwrap();
}

/// Messages to `topic` that say their number.
pub fn numbered(topic: &str, numbers: std::ops::Range<usize>) -> impl Iterator<Item = Message> {
    numbers.map(move |number| Message::text(topic, number.to_string()))
}

/// The next message to arrive.
#[track_caller]
pub fn next(subscriber: &Subscriber) -> Arrival {
    subscriber.recv_timeout(SOON).unwrap()
}

/// Acknowledges the next message, and says what it says.
#[track_caller]
pub fn take(subscriber: &Subscriber) -> String {
    let arrival = next(subscriber);
    let said = said(&arrival);
    arrival.acknowledge();
    said
}

pub fn said(arrival: &Arrival) -> String {
    String::from_utf8(arrival.message.payload.as_bytes().to_vec()).unwrap()
}

/// The one value that a query answers.
#[track_caller]
pub fn value<T: FromSql>(connection: &Connection, sql: &str, params: impl Params) -> T {
    connection.query_row(sql, params, |row| row.get(0)).unwrap()
}

#[track_caller]
pub fn status_of(connection: &Connection, row: i64) -> String {
    value(connection, "SELECT status FROM outbox WHERE id = ?1", [row])
}

/// Looks again and again until `holds`.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < until, "not within {SOON:?}: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[track_caller]
pub fn wait_for_status(outbox: &Outbox, what: &str, holds: impl Fn(&Status) -> bool) {
    let until = Instant::now() + SOON;
    loop {
        let status = outbox.status();
        if holds(&status) {
            return;
        }
        assert!(Instant::now() < until, "not within {SOON:?}: {what}; it is {status:?}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[track_caller]
pub fn wait_for_stats(outbox: &Outbox, what: &str, holds: impl Fn(&Stats) -> bool) {
    let until = Instant::now() + SOON;
    loop {
        let stats = outbox.stats().unwrap();
        if holds(&stats) {
            return;
        }
        assert!(Instant::now() < until, "not within {SOON:?}: {what}; it is {stats:?}");
        thread::sleep(Duration::from_millis(2));
    }
}
