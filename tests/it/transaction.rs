//! A message stands and falls with the transaction it was written in.
//!
//! A program takes a reading and enqueues the message about it. Whatever ends the transaction otherwise than by its
//! commit takes both away; what the transaction refuses, it refuses before the commit, and goes on.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use edge_outbox::broker::{Broker, Check, Delivery, InProcess, Link, Refusal, Verdict};
use edge_outbox::rusqlite::{self, Connection, TransactionBehavior};
use edge_outbox::{Error, MAX_EXPIRY, MAX_HEADER, MAX_KEY, MAX_TOPIC, Message, MessageId, Outbox, QoS, Settings};

use crate::device::{Device, SOON, broker, enqueue, next, quick, said, take, value};

const READINGS: &str = "CREATE TABLE reading (value REAL NOT NULL)";

/// A program with a table of its own.
fn program(device: &Device) -> Outbox {
    let outbox = device.open_writer();
    device.sql().execute_batch(READINGS).unwrap();
    outbox
}

fn record(outbox: &Outbox, tx: &rusqlite::Transaction<'_>, value: f64) -> Result<MessageId, Error> {
    tx.execute("INSERT INTO reading (value) VALUES (?1)", [value])?;
    outbox.enqueue(tx, &Message::text("reading", value.to_string()))
}

#[track_caller]
fn assert_readings_and_messages(device: &Device, readings: i64, messages: i64) {
    let sql = device.sql();
    assert_eq!(value::<i64>(&sql, "SELECT count(*) FROM reading", []), readings, "readings");
    assert_eq!(value::<i64>(&sql, "SELECT count(*) FROM outbox", []), messages, "messages");
}

#[test]
fn a_closure_that_answers_an_error_leaves_neither_data_nor_message() {
    let device = Device::new();
    let outbox = program(&device);
    let answer = outbox.transaction(|tx| -> Result<(), Error> {
        record(&outbox, tx, 21.5)?;
        Err(Error::Stopped)
    });
    assert!(matches!(answer, Err(Error::Stopped)), "{answer:?}");
    assert_readings_and_messages(&device, 0, 0);
}

#[test]
fn a_panic_in_the_closure_leaves_neither_data_nor_message_and_the_outbox_goes_on() {
    let device = Device::new();
    let outbox = program(&device);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        outbox.transaction(|tx| -> Result<(), Error> {
            record(&outbox, tx, 21.5)?;
            panic!("in the middle of a transaction");
        })
    }));
    assert!(panicked.is_err());
    assert_readings_and_messages(&device, 0, 0);
    outbox.transaction(|tx| record(&outbox, tx, 22.0)).unwrap();
    assert_readings_and_messages(&device, 1, 1);
}

#[test]
fn a_transaction_that_is_dropped_leaves_neither_data_nor_message() {
    let device = Device::new();
    let outbox = program(&device);
    let mut connection = outbox.connection().unwrap();
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    record(&outbox, &tx, 21.5).unwrap();
    drop(tx);
    assert_readings_and_messages(&device, 0, 0);
}

#[test]
fn what_was_rolled_back_never_arrives_and_its_place_is_taken_by_another_message() {
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = device.open(broker.clone());
    let mut gone = None;
    let _ = outbox.transaction(|tx| -> Result<(), Error> {
        gone = Some(outbox.enqueue(tx, &Message::text("reading", "never"))?);
        Err(Error::Stopped)
    });
    let kept = outbox.transaction(|tx| outbox.enqueue(tx, &Message::text("reading", "kept"))).unwrap();
    assert_eq!(take(&everything), "kept");
    outbox.flush(SOON).unwrap();
    assert_eq!(broker.counts().received, 1);
    let gone = gone.unwrap();
    assert_eq!(gone.row(), kept.row());
    assert_ne!(gone, kept, "two messages of one name");
}

#[test]
fn a_savepoint_takes_its_own_message_away_and_leaves_the_others() {
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = device.open(broker);
    let mut connection = outbox.connection().unwrap();
    let mut tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    outbox.enqueue(&tx, &Message::text("reading", "before")).unwrap();
    let savepoint = tx.savepoint().unwrap();
    outbox.enqueue(&savepoint, &Message::text("reading", "taken back")).unwrap();
    drop(savepoint);
    let savepoint = tx.savepoint().unwrap();
    outbox.enqueue(&savepoint, &Message::text("reading", "within")).unwrap();
    savepoint.commit().unwrap();
    outbox.commit(tx).unwrap();
    assert_eq!([take(&everything), take(&everything)], ["before", "within"]);
}

#[test]
fn a_message_written_on_the_callers_own_connection_is_sent_after_its_own_commit() {
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = device.open(broker);
    let mut own = Connection::open(device.database()).unwrap();
    let tx = own.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let id = outbox.enqueue(&tx, &Message::text("reading", "21.5")).unwrap();
    tx.commit().unwrap();
    let arrival = next(&everything);
    assert_eq!((arrival.id, said(&arrival).as_str()), (id, "21.5"));
    arrival.acknowledge();
}

#[test]
fn a_link_to_the_database_is_the_same_database() {
    let device = Device::new();
    let outbox = device.open_writer();
    let link = device.folder().join("link.db");
    std::os::unix::fs::symlink(device.database(), &link).unwrap();
    let mut own = Connection::open(&link).unwrap();
    let tx = own.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    outbox.enqueue(&tx, &Message::text("reading", "21.5")).unwrap();
    tx.commit().unwrap();
    drop(outbox);
    // And the other way round: opened by the link, written by the name.
    let outbox = Outbox::builder(&link).open().unwrap();
    let mut own = device.sql();
    let tx = own.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    outbox.enqueue(&tx, &Message::text("reading", "22")).unwrap();
    tx.commit().unwrap();
}

#[test]
fn commit_and_wake_and_transaction_do_not_wait_for_the_next_look() {
    let device = Device::new();
    let (broker, everything) = broker();
    let long = Settings { poll_interval: Duration::from_secs(60), ..quick() };
    let outbox = device.open_with(long, broker.clone());
    assert!(broker.wait_until(SOON, |counts| counts.sessions == 1));
    let begun = Instant::now();

    let mut connection = outbox.connection().unwrap();
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    outbox.enqueue(&tx, &Message::text("reading", "committed")).unwrap();
    outbox.commit(tx).unwrap();
    assert_eq!(take(&everything), "committed");

    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    outbox.enqueue(&tx, &Message::text("reading", "woken")).unwrap();
    tx.commit().unwrap();
    outbox.wake();
    assert_eq!(take(&everything), "woken");

    enqueue(&outbox, [Message::text("reading", "in a closure")]);
    assert_eq!(take(&everything), "in a closure");
    assert!(begun.elapsed() < Duration::from_secs(50), "somebody waited for the poll");
}

#[test]
fn a_deferred_transaction_that_read_first_is_told_what_to_do_and_that_works() {
    let device = Device::new();
    let outbox = program(&device);
    let mut own = device.sql();
    let tx = own.transaction().unwrap();
    assert_eq!(value::<i64>(&tx, "SELECT count(*) FROM reading", []), 0);
    outbox.transaction(|tx| record(&outbox, tx, 1.0)).unwrap();

    let answer = outbox.enqueue(&tx, &Message::text("reading", "2"));
    let Err(error @ Error::Snapshot(_)) = answer else { panic!("{answer:?}") };
    let words = error.to_string();
    assert!(words.contains("IMMEDIATE") || words.to_lowercase().contains("immediate"), "{words}");

    // Roll back and begin again, IMMEDIATE.
    tx.rollback().unwrap();
    let tx = own.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    assert_eq!(value::<i64>(&tx, "SELECT count(*) FROM reading", []), 1);
    record(&outbox, &tx, 2.0).unwrap();
    outbox.commit(tx).unwrap();
    assert_readings_and_messages(&device, 2, 2);
}

#[test]
fn a_transaction_within_a_transaction_is_refused_and_the_outer_one_goes_on() {
    let device = Device::new();
    let outbox = program(&device);
    outbox
        .transaction(|tx| -> Result<(), Error> {
            record(&outbox, tx, 1.0)?;
            let inner = outbox.transaction(|tx| record(&outbox, tx, 2.0));
            assert!(matches!(inner, Err(Error::Nested)), "{inner:?}");
            record(&outbox, tx, 3.0).map(drop)
        })
        .unwrap();
    assert_readings_and_messages(&device, 2, 2);
}

#[test]
fn a_transaction_on_another_database_is_refused_by_name() {
    let device = Device::new();
    let outbox = device.open_writer();
    let other = device.folder().join("other.db");
    // The same table stands there, so that nothing but the check can notice.
    drop(Outbox::builder(&other).open().unwrap());
    let mut connection = Connection::open(&other).unwrap();
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let error = outbox.enqueue(&tx, &Message::text("reading", "1")).unwrap_err();
    assert!(matches!(error, Error::OtherDatabase { .. }), "{error:?}");
    assert!(error.to_string().contains("device.db") && error.to_string().contains("other.db"), "{error}");

    let mut memory = Connection::open_in_memory().unwrap();
    let tx = memory.transaction().unwrap();
    let error = outbox.enqueue(&tx, &Message::text("reading", "1")).unwrap_err();
    assert!(matches!(error, Error::OtherDatabase { .. }) && error.to_string().contains("memory"), "{error}");
}

#[test]
fn a_writer_that_does_not_let_go_is_told_apart_as_busy_after_the_time_that_was_set() {
    let device = Device::new();
    let timeout = Duration::from_millis(200);
    let settings = Settings { busy_timeout: timeout, ..quick() };
    let outbox = Outbox::builder(device.database()).settings(settings).open().unwrap();
    let mut holder = device.sql();
    let lock = holder.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();

    let begun = Instant::now();
    let answer = outbox.transaction(|tx| outbox.enqueue(tx, &Message::text("reading", "1")));
    assert!(matches!(answer, Err(Error::Busy(_))), "{answer:?}");
    assert!(begun.elapsed() >= timeout / 2 && begun.elapsed() < SOON / 4, "{:?}", begun.elapsed());

    lock.commit().unwrap();
    enqueue(&outbox, [Message::text("reading", "2")]);
    assert_eq!(value::<i64>(&device.sql(), "SELECT count(*) FROM outbox", []), 1);
}

#[test]
fn a_thread_that_does_not_let_go_is_told_apart_as_busy_too() {
    let device = Device::new();
    let settings = Settings { busy_timeout: Duration::from_millis(200), ..quick() };
    let outbox = Outbox::builder(device.database()).settings(settings).open().unwrap();
    outbox
        .transaction(|tx| -> Result<(), Error> {
            let other = std::thread::scope(|scope| {
                scope.spawn(|| outbox.transaction(|tx| outbox.enqueue(tx, &Message::text("reading", "1")))).join()
            });
            assert!(matches!(other, Ok(Err(Error::Busy(_)))), "{other:?}");
            outbox.enqueue(tx, &Message::text("reading", "2")).map(drop)
        })
        .unwrap();
}

#[test]
fn whoever_waits_for_no_lock_still_gets_a_connection_that_takes_its_time_to_open() {
    let device = Device::new();
    let slow = Duration::from_millis(100);
    let settings = Settings { busy_timeout: Duration::from_millis(1), ..quick() };
    let outbox = Outbox::builder(device.database())
        .settings(settings)
        .on_connect(move |_| {
            std::thread::sleep(slow);
            Ok(())
        })
        .open()
        .unwrap();
    enqueue(&outbox, [Message::text("reading", "1")]);
    // Where all are in use, nobody is kept waiting.
    let (begun, _one, _other) = (Instant::now(), outbox.connection().unwrap(), outbox.connection().unwrap());
    assert!(matches!(outbox.connection(), Err(Error::Pool(_))));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

/// A message that breaks a rule, and what the error must say so that it can be mended.
type Broken = (Message, &'static [&'static str]);

#[test]
fn every_limit_of_a_message_is_refused_in_words_and_the_transaction_goes_on() {
    let device = Device::new();
    let settings = Settings { max_payload: 1_000, ..quick() };
    let outbox = Outbox::builder(device.database()).settings(settings).open().unwrap();
    let plain = || Message::text("t", "p");
    let broken: Vec<Broken> = vec![
        (Message::text("", "p"), &["topic", "0 bytes", "65535"]),
        (Message::text("t".repeat(MAX_TOPIC + 1), "p"), &["topic", "65536", "65535"]),
        (Message::text("a/+/b", "p"), &["topic", "'+'"]),
        (Message::text("a/#", "p"), &["topic", "'#'"]),
        (Message::text("a\0b", "p"), &["topic", "NUL"]),
        (plain().with_key(""), &["key", "0 bytes", "1024"]),
        (plain().with_key("k".repeat(MAX_KEY + 1)), &["key", "1025", "1024"]),
        (plain().with_header("", "v"), &["header", "name of 0"]),
        (plain().with_header("n", "v".repeat(MAX_HEADER + 1)), &["header", "65536", "65535"]),
        (plain().with_header("n".repeat(MAX_HEADER + 1), "v"), &["header", "65536", "65535"]),
        (plain().with_header("id", "v"), &["header", "`id`", "another name"]),
        (plain().with_header("n", "v\0"), &["header", "NUL"]),
        (plain().with_content_type("c".repeat(MAX_HEADER + 1)), &["content type", "65536", "65535"]),
        (plain().with_expiry(Duration::ZERO), &["expiry", "0s", "1s", "4294967295s"]),
        (plain().with_expiry(Duration::from_millis(999)), &["expiry", "999ms", "1s", "4294967295s"]),
        (plain().with_expiry(MAX_EXPIRY + Duration::from_nanos(1)), &["expiry", "4294967295s"]),
        (plain().with_response_topic(""), &["response topic", "0 bytes", "65535"]),
        (plain().with_response_topic("r".repeat(MAX_TOPIC + 1)), &["response topic", "65536", "65535"]),
        (plain().with_response_topic("a/+"), &["response topic", "'+'"]),
        (plain().with_response_topic("#"), &["response topic", "'#'"]),
        (plain().with_response_topic("\0"), &["response topic", "NUL"]),
        (plain().with_correlation_data([0; MAX_HEADER + 1]), &["correlation data", "65536", "65535"]),
        (Message::new("t", vec![0; 1_001]), &["payload", "1001", "1000", "max_payload"]),
    ];
    outbox
        .transaction(|tx| -> Result<(), Error> {
            for (message, words) in &broken {
                let error = outbox.enqueue(tx, message).unwrap_err();
                assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
                let said = error.to_string();
                assert!(words.iter().all(|word| said.contains(word)), "{said:.300} lacks one of {words:?}");
            }
            outbox.enqueue(tx, &plain()).map(drop)
        })
        .unwrap();
    assert_eq!(value::<i64>(&device.sql(), "SELECT count(*) FROM outbox", []), 1);
}

#[test]
fn a_message_at_every_limit_arrives_as_it_was_written() {
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = device.open(broker);
    let message = Message::new("t".repeat(MAX_TOPIC), vec![0xff; 256 * 1024])
        .with_key("k".repeat(MAX_KEY))
        .with_header("n".repeat(MAX_HEADER), "v".repeat(MAX_HEADER))
        .with_header("quotes \" and \\", "a line\nand \u{1f600}")
        .with_content_type("c".repeat(MAX_HEADER))
        .with_response_topic("r".repeat(MAX_TOPIC))
        .with_correlation_data(vec![0xfe; MAX_HEADER])
        .with_qos(QoS::ExactlyOnce)
        .retained();
    enqueue(&outbox, [message.clone(), Message::text("empty", "")]);
    let arrival = next(&everything);
    assert!(*arrival.message == message, "{:?}", arrival.message);
    arrival.acknowledge();
    assert_eq!(take(&everything), "");
}

/// A broker that has a rule of its own.
struct Choosy(InProcess);

impl Broker for Choosy {
    fn connect(&mut self, link: Link) {
        self.0.connect(link);
    }
    fn send(&mut self, queue: &mut VecDeque<Delivery>) {
        self.0.send(queue);
    }
    fn disconnect(&mut self, until: Instant) {
        self.0.disconnect(until);
    }
    fn check(&self) -> Option<Check> {
        Some(Arc::new(|message| match message.retain {
            true => Err(Refusal::new(Verdict::Never, "this broker keeps nothing")),
            false => Ok(()),
        }))
    }
}

#[test]
fn what_the_broker_would_not_take_is_refused_in_its_words_before_it_is_written() {
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = device.open(Choosy(broker));
    outbox
        .transaction(|tx| -> Result<(), Error> {
            let error = outbox.enqueue(tx, &Message::text("t", "kept").retained()).unwrap_err();
            assert!(matches!(error, Error::Unacceptable(_)), "{error:?}");
            assert!(error.to_string().contains("this broker keeps nothing"), "{error}");
            outbox.enqueue(tx, &Message::text("t", "taken")).map(drop)
        })
        .unwrap();
    assert_eq!(take(&everything), "taken");
}

#[test]
fn a_commit_that_the_applications_own_constraint_forbids_wrote_nothing_and_says_so() {
    let device = Device::new();
    let outbox = device.open_writer();
    device
        .sql()
        .execute_batch(
            "CREATE TABLE sensor (name TEXT PRIMARY KEY);
             CREATE TABLE reading (sensor TEXT REFERENCES sensor DEFERRABLE INITIALLY DEFERRED);",
        )
        .unwrap();
    let answer = outbox.transaction(|tx| -> Result<(), Error> {
        tx.execute_batch("PRAGMA defer_foreign_keys = ON; INSERT INTO reading VALUES ('nobody')")?;
        outbox.enqueue(tx, &Message::text("t", "p")).map(drop)
    });
    // The bundled SQLite keeps foreign keys by default.
    assert!(matches!(answer, Err(Error::Sqlite(_))), "{answer:?}");
    assert_readings_and_messages(&device, 0, 0);
    enqueue(&outbox, [Message::text("t", "p")]);
}

#[test]
fn a_transaction_that_sqlite_rolled_back_takes_no_message_and_says_so_at_its_end() {
    let device = Device::new();
    let outbox = program(&device);
    // What SQLite does by itself after a full disk or an I/O error.
    let answer = outbox.transaction(|tx| -> Result<(), Error> {
        tx.execute("INSERT INTO reading (value) VALUES (1)", [])?;
        tx.execute_batch("ROLLBACK")?;
        let enqueued = outbox.enqueue(tx, &Message::text("reading", "alone"));
        assert!(matches!(enqueued, Err(Error::RolledBack)), "{enqueued:?}");
        Ok(())
    });
    assert!(matches!(answer, Err(Error::RolledBack)), "{answer:?}");
    assert_readings_and_messages(&device, 0, 0);
}
