//! From the table to the broker: whoever wrote a row, it is sent, and the table tells the truth about it.
//!
//! Messages come from plain SQL, from Python, from another process; they are sent without a word to the forwarder.
//! What the table calls SENT was acknowledged, what can never be sent is parked with its reason and holds up nothing.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use edge_outbox::broker::in_process::Unsubscribed;
use edge_outbox::broker::{InProcess, Refusal, Verdict};
use edge_outbox::rusqlite::Connection;
use edge_outbox::{DUPLICATE_HEADER, Error, LinkState, Message, Outbox, Role, Settings};

use crate::child::{Child, say, wait_for_cue};
use crate::device::{
    Device, SOON, broker, enqueue, eventually, next, numbered, quick, said, status_of, take, value, wait_for_stats,
    wait_for_status,
};
use crate::opening::skipped;

#[test]
fn a_row_of_plain_sql_from_another_connection_is_sent_without_a_word() {
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = device.open(broker);
    device
        .sql()
        .execute("INSERT INTO outbox (topic, payload, key) VALUES ('weather/roof', '21.5', 'roof')", [])
        .unwrap();
    let arrival = next(&everything);
    assert_eq!(arrival.message.topic, "weather/roof");
    assert_eq!(arrival.message.key.as_deref(), Some("roof"));
    assert_eq!(said(&arrival), "21.5");
    arrival.acknowledge();
    outbox.flush(SOON).unwrap();
    assert_eq!(status_of(&device.sql(), 1), "SENT");
}

const PYTHON: &str = r#"
import json, sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=60)
with database:
    database.execute("INSERT INTO outbox (topic, payload, headers) VALUES (?, ?, ?)",
                     ("python", b"\x00\xff", json.dumps([["unit", "celsius"]])))
    database.execute("INSERT INTO outbox (topic, payload) VALUES ('python', 'text')")
try:
    database.execute("INSERT INTO outbox (topic, payload) VALUES ('a/#', 'text')")
    print("taken")
except sqlite3.IntegrityError:
    print("refused")
database.rollback()
print([row[0] for row in database.execute("SELECT payload FROM outbox WHERE topic = 'rust'")],
      database.execute("PRAGMA integrity_check").fetchone()[0])
"#;

#[test]
fn pythons_own_sqlite_reads_and_writes_the_same_file_meanwhile() {
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = device.open(broker);
    enqueue(&outbox, [Message::text("rust", "hello")]);
    let python = Command::new("python3").arg("-c").arg(PYTHON).arg(device.database()).output();
    let output = match python {
        Ok(output) => output,
        Err(error) => return skipped("messages from Python's sqlite3", &format!("no python3: {error}")),
    };
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "refused\n['hello'] ok\n");
    assert_eq!(take(&everything), "hello");
    let bytes = next(&everything);
    assert_eq!(bytes.message.payload.as_bytes(), [0, 0xff]);
    assert_eq!(bytes.message.headers, [("unit".to_owned(), "celsius".to_owned())]);
    bytes.acknowledge();
    assert_eq!(take(&everything), "text");
    outbox.flush(SOON).unwrap();
}

/// The part of a process that knows nothing of this crate and commits a message on each cue.
pub fn commits(database: &Path) {
    let connection = Connection::open(database).unwrap();
    connection.busy_timeout(SOON).unwrap();
    while wait_for_cue() {
        connection.execute("INSERT INTO outbox (topic, payload) VALUES ('elsewhere', 'hello')", []).unwrap();
        say("committed");
    }
}

#[test]
fn a_commit_of_another_process_is_noticed() {
    let device = Device::new();
    let (broker, everything) = broker();
    let _outbox = device.open(broker);
    let mut other = Child::play("forwarding::commits", &device.database());
    for _ in 0..3 {
        other.cue();
        assert_eq!(other.hear(), "committed");
        assert_eq!(take(&everything), "hello");
    }
    other.end();
}

#[test]
fn a_row_is_sent_only_after_its_own_acknowledgement() {
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = device.open(broker);
    enqueue(&outbox, numbered("t", 0..2));
    let (first, second) = (next(&everything), next(&everything));
    second.acknowledge();
    let sql = device.sql();
    eventually("the second is SENT", || status_of(&sql, 2) == "SENT");
    assert_eq!(status_of(&sql, 1), "PENDING");
    first.acknowledge();
    eventually("the first is SENT", || status_of(&sql, 1) == "SENT");
}

#[test]
fn the_table_lags_the_acknowledgement_by_no_more_than_was_set() {
    let device = Device::new();
    let (broker, everything) = broker();
    let settle_after = Duration::from_millis(500);
    let outbox = device.open_with(Settings { settle_after, ..quick() }, broker);
    let sql = device.sql();
    let mut lag = Duration::MAX;
    // The best of a few, since the machine may be busy with something else for a while.
    for row in 1..=3 {
        enqueue(&outbox, [Message::text("t", "p")]);
        let arrival = next(&everything);
        let acknowledged = Instant::now();
        arrival.acknowledge();
        eventually("the row is SENT", || status_of(&sql, row) == "SENT");
        lag = lag.min(acknowledged.elapsed());
    }
    assert!(lag < settle_after * 2, "the table lags by {lag:?}");
}

#[test]
fn settlements_are_gathered_until_their_time_or_until_somebody_waits_for_them() {
    let device = Device::new();
    let (broker, everything) = broker();
    let settings = Settings { settle_after: Duration::from_secs(60), ..quick() };
    let outbox = device.open_with(settings, broker.clone());
    enqueue(&outbox, numbered("t", 0..3));
    (0..3).for_each(|_| drop(take(&everything)));
    assert!(broker.wait_until(SOON, |counts| counts.acknowledged == 3));
    let sql = device.sql();
    let pending = "SELECT count(*) FROM outbox WHERE status = 'PENDING'";
    assert_eq!(value::<i64>(&sql, pending, []), 3);
    outbox.flush(SOON).unwrap();
    assert_eq!(value::<i64>(&sql, pending, []), 0);
}

#[test]
fn flush_waits_for_what_is_committed_and_says_when_it_gave_up() {
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = device.open(broker);
    outbox.flush(SOON).unwrap();
    enqueue(&outbox, [Message::text("t", "p")]);
    let arrival = next(&everything);
    let answer = outbox.flush(Duration::from_millis(20));
    assert!(matches!(answer, Err(Error::TimedOut { what: "flush", .. })), "{answer:?}");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| outbox.flush(SOON));
        arrival.acknowledge();
        waits.join().unwrap().unwrap();
    });
    assert_eq!(status_of(&device.sql(), 1), "SENT");
}

#[test]
fn flush_counts_a_message_that_is_parked_as_settled() {
    let device = Device::new();
    let (broker, _everything) = broker();
    broker.refuse("t", Refusal::new(Verdict::Never, "no"), 1).unwrap();
    let outbox = device.open(broker);
    enqueue(&outbox, [Message::text("t", "p")]);
    outbox.flush(SOON).unwrap();
    assert_eq!(status_of(&device.sql(), 1), "FAILED");
}

#[test]
fn flush_waits_for_a_message_that_was_refused_for_now() {
    let device = Device::new();
    let (broker, everything) = broker();
    broker.refuse("t", Refusal::new(Verdict::Later, "busy"), 3).unwrap();
    let outbox = device.open(broker);
    enqueue(&outbox, [Message::text("t", "p"), Message::text("t", "q").with_key("k")]);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| outbox.flush(SOON));
        let mut both = [take(&everything), take(&everything)];
        both.sort();
        assert_eq!(both, ["p", "q"]);
        waits.join().unwrap().unwrap();
    });
    assert_eq!(value::<i64>(&device.sql(), "SELECT count(*) FROM outbox WHERE status = 'SENT'", []), 2);
}

#[test]
fn pause_keeps_messages_and_resume_sends_them() {
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = device.open(broker.clone());
    enqueue(&outbox, [Message::text("t", "before")]);
    assert_eq!(take(&everything), "before");
    outbox.pause().unwrap();
    wait_for_status(&outbox, "the pause", |status| status.link == LinkState::Paused);
    enqueue(&outbox, [Message::text("t", "meanwhile")]);
    wait_for_stats(&outbox, "one message waits", |stats| stats.pending == 1);
    let answer = outbox.flush(Duration::from_millis(50));
    assert!(matches!(answer, Err(Error::TimedOut { .. })), "{answer:?}");
    assert_eq!(broker.counts().received, 1);
    outbox.resume().unwrap();
    assert_eq!(take(&everything), "meanwhile");
    outbox.flush(SOON).unwrap();
    wait_for_status(&outbox, "the link", |status| status.link == LinkState::Up);
}

#[test]
fn a_row_reopened_by_hand_is_sent_again_without_a_restart() {
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = device.open(broker);
    enqueue(&outbox, numbered("t", 0..3));
    let first: Vec<String> = (0..3).map(|_| take(&everything)).collect();
    assert_eq!(first, ["0", "1", "2"]);
    outbox.flush(SOON).unwrap();
    device.sql().execute("UPDATE outbox SET status = 'PENDING' WHERE id = 2", []).unwrap();
    let again = next(&everything);
    assert_eq!((again.id.row(), said(&again).as_str(), again.possible_duplicate), (2, "1", true));
    again.acknowledge();
    outbox.flush(SOON).unwrap();
    assert_eq!(status_of(&device.sql(), 2), "SENT");
}

#[test]
fn sent_rows_go_at_once_where_none_are_kept() {
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = device.open_with(Settings { retention: Duration::ZERO, ..quick() }, broker);
    for _ in 0..3 {
        enqueue(&outbox, numbered("t", 0..200));
        (0..200).for_each(|_| drop(take(&everything)));
        outbox.flush(SOON).unwrap();
    }
    let sql = device.sql();
    // What is too little for a bite of 100 stays, the newest row among it.
    eventually("the purge", || {
        enqueue(&outbox, [Message::text("t", "p")]);
        take(&everything);
        outbox.flush(SOON).unwrap();
        value::<i64>(&sql, "SELECT count(*) FROM outbox", []) <= 101
    });
    assert!(value::<i64>(&sql, "SELECT max(id) FROM outbox", []) > 600, "ids are not given twice");
}

#[test]
fn sent_rows_stay_for_as_long_as_was_set() {
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = device.open_with(Settings { retention: Duration::from_secs(3600), ..quick() }, broker);
    let send = |count| {
        enqueue(&outbox, numbered("t", 0..count));
        (0..count).for_each(|_| drop(take(&everything)));
        outbox.flush(SOON).unwrap();
    };
    send(400);
    send(1);
    let sql = device.sql();
    assert_eq!(value::<i64>(&sql, "SELECT count(*) FROM outbox", []), 401);
    // Two hours go by for the first 300.
    sql.execute("UPDATE outbox SET status_at = status_at - 7200000 WHERE id <= 300", []).unwrap();
    eventually("the purge of the old ones", || {
        send(1);
        value::<i64>(&sql, "SELECT min(id) FROM outbox", []) == 301
    });
}

#[test]
fn a_failed_row_outlives_every_purge() {
    let device = Device::new();
    let (broker, everything) = broker();
    broker.refuse("bad", Refusal::new(Verdict::Never, "no"), 1).unwrap();
    let outbox = device.open_with(Settings { retention: Duration::ZERO, ..quick() }, broker);
    enqueue(&outbox, [Message::text("bad", "p")]);
    for _ in 0..3 {
        enqueue(&outbox, numbered("t", 0..150));
        (0..150).for_each(|_| drop(take(&everything)));
        outbox.flush(SOON).unwrap();
    }
    let sql = device.sql();
    assert!(value::<i64>(&sql, "SELECT count(*) FROM outbox", []) < 200, "the sent ones went");
    assert_eq!(status_of(&sql, 1), "FAILED");
    outbox.retry(1).unwrap();
    assert_eq!(take(&everything), "p");
}

/// What `stats` says, counted the slow way.
#[track_caller]
fn stats_are_true(outbox: &Outbox, what: &str) {
    let sql = Connection::open(outbox.path()).unwrap();
    let count = |condition: &str| -> u64 {
        let count: i64 = value(&sql, &format!("SELECT count(*) FROM outbox WHERE {condition}"), []);
        count.try_into().unwrap()
    };
    let bytes = |condition: &str| -> u64 {
        let sum: i64 = value(&sql, &format!("SELECT ifnull(sum(bytes), 0) FROM outbox WHERE {condition}"), []);
        sum.try_into().unwrap()
    };
    wait_for_stats(outbox, what, |stats| {
        stats.pending == count("status = 'PENDING'")
            && stats.waiting == count("status = 'PENDING' AND (attempts > 0 OR held_by IS NOT NULL)")
            && stats.failed == count("status = 'FAILED'")
            && stats.pending_bytes == bytes("status = 'PENDING'")
            && stats.oldest_pending.is_some() == (stats.pending > 0)
    });
}

#[test]
fn what_is_acknowledged_and_not_yet_written_down_is_not_pending_and_after_a_flush_nothing_is() {
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = device.open_with(Settings { settle_after: Duration::from_secs(60), ..quick() }, broker.clone());
    enqueue(&outbox, numbered("plain", 0..50));
    (0..50).for_each(|_| drop(take(&everything)));
    wait_for_stats(&outbox, "nothing is pending", |stats| stats.pending == 0 && stats.pending_bytes == 0);
    let written: i64 = value(&device.sql(), "SELECT count(*) FROM outbox WHERE status = 'SENT'", []);
    assert_eq!(written, 0, "the figures are ahead of the table");
    broker.close_topic("closed", "no entry").unwrap();
    enqueue(&outbox, numbered("closed", 0..10));
    wait_for_stats(&outbox, "ten wait", |stats| stats.pending == 10 && stats.waiting == 10);
    broker.open_topic("closed").unwrap();
    (0..10).for_each(|_| drop(take(&everything)));
    outbox.flush(SOON).unwrap();
    let stats = outbox.stats().unwrap();
    assert_eq!((stats.pending, stats.pending_bytes, stats.waiting, stats.in_flight), (0, 0, 0, 0));
}

#[test]
fn the_figures_are_the_tables_own_through_a_whole_life() {
    let device = Device::new();
    let (broker, everything) = broker();
    broker.go_offline();
    let outbox = device.open(broker.clone());
    stats_are_true(&outbox, "nothing yet");

    enqueue(&outbox, numbered("plain", 0..50));
    enqueue(&outbox, (0..20).map(|n| Message::text("keyed", n.to_string()).with_key("k")));
    enqueue(&outbox, numbered("closed", 0..10));
    enqueue(&outbox, numbered("bad", 0..5));
    stats_are_true(&outbox, "85 pending while offline");
    assert_eq!(outbox.stats().unwrap().pending, 85);
    let sql = device.sql();
    sql.execute("UPDATE outbox SET created_at = created_at - 3600000 WHERE id = 1", []).unwrap();
    let oldest = outbox.stats().unwrap().oldest_pending.unwrap();
    assert!(oldest >= Duration::from_secs(3600) && oldest < Duration::from_secs(3600) + SOON, "{oldest:?}");

    broker.refuse("keyed", Refusal::new(Verdict::Later, "busy"), 3).unwrap();
    broker.refuse("bad", Refusal::new(Verdict::Never, "no"), 5).unwrap();
    broker.close_topic("closed", "no entry").unwrap();
    broker.go_online();
    for _ in 0..70 {
        take(&everything);
    }
    wait_for_stats(&outbox, "the closed ones alone wait", |stats| stats.pending == 10 && stats.failed == 5);
    stats_are_true(&outbox, "held, failed, sent");
    assert_eq!(outbox.status().closed_topics.len(), 1);
    wait_for_stats(&outbox, "70 sent", |stats| stats.sent == 70);

    assert_eq!(outbox.retry_all().unwrap(), 5);
    for _ in 0..5 {
        take(&everything);
    }
    wait_for_stats(&outbox, "none failed", |stats| stats.failed == 0 && stats.sent == 75);
    stats_are_true(&outbox, "after the retry");

    broker.open_topic("closed").unwrap();
    for _ in 0..10 {
        take(&everything);
    }
    outbox.flush(SOON).unwrap();
    stats_are_true(&outbox, "the end");
    let stats = outbox.stats().unwrap();
    assert_eq!((stats.pending, stats.waiting, stats.in_flight, stats.sent), (0, 0, 0, 85));
    assert_eq!(stats.oldest_pending, None);

    drop(outbox);
    let writer = device.open_writer();
    stats_are_true(&writer, "without a forwarder");
    enqueue(&writer, numbered("plain", 0..3));
    stats_are_true(&writer, "without a forwarder, and three more");
}

#[test]
fn the_figures_are_true_after_a_crash_however_long_the_broker_is_away() {
    let device = Device::new();
    let mut victim = Child::play("forwarding::dies_with_messages_in_flight", &device.database());
    assert_eq!(victim.hear(), "in flight");
    victim.kill();
    stats_are_true(&device.open_writer(), "four sent, six pending");
    let sql = device.sql();
    sql.execute("UPDATE outbox SET status = 'PENDING' WHERE id = 2", []).unwrap();
    sql.execute("UPDATE outbox SET attempts = 1, held_by = 'key k', key = 'k' WHERE id = 6", []).unwrap();
    sql.execute("DELETE FROM outbox WHERE id = 7", []).unwrap();
    stats_are_true(&device.open_writer(), "one reopened, one held, one deleted");
    let (broker, everything) = broker();
    broker.go_offline();
    let outbox = device.open(broker.clone());
    wait_for_status(&outbox, "the outage", |status| matches!(status.link, LinkState::Offline { .. }));
    stats_are_true(&outbox, "the same while offline");
    enqueue(&outbox, numbered("t", 0..5_000));
    stats_are_true(&outbox, "and many more");
    broker.go_online();
    (0..5_006).for_each(|_| drop(take(&everything)));
    outbox.flush(SOON).unwrap();
    stats_are_true(&outbox, "all sent");
}

#[test]
fn a_parked_message_is_told_listed_retried_and_discarded() {
    let device = Device::new();
    let (broker, everything) = broker();
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let outbox = Outbox::builder(device.database())
        .settings(quick())
        .broker(broker.clone())
        .on_failed(move |failed| tell.lock().unwrap().push(failed.clone()))
        .open()
        .unwrap();
    broker.refuse("bad", Refusal::new(Verdict::Never, "payload format invalid"), 3).unwrap();
    enqueue(&outbox, numbered("bad", 0..3).map(|message| message.with_key("k")));
    outbox.flush(SOON).unwrap();
    eventually("three are told", || told.lock().unwrap().len() == 3);

    let listed = outbox.failed(0, 10).unwrap();
    assert_eq!(listed, *told.lock().unwrap());
    assert_eq!(outbox.failed(listed[0].id.row(), 1).unwrap(), listed[1..2]);
    let failed = &listed[0];
    assert_eq!((failed.topic.as_str(), failed.key.as_deref(), failed.attempts), ("bad", Some("k"), 1));
    assert!(failed.reason.contains("payload format invalid"), "{}", failed.reason);

    outbox.retry(1).unwrap();
    let again = next(&everything);
    assert_eq!(again.id, listed[0].id);
    again.acknowledge();
    let answer = outbox.retry(1);
    assert!(matches!(answer, Err(Error::NoSuchMessage { id: 1, .. })), "{answer:?}");

    outbox.discard(2).unwrap();
    assert_eq!(value::<i64>(&device.sql(), "SELECT count(*) FROM outbox WHERE id = 2", []), 0);
    assert_eq!(outbox.retry_all().unwrap(), 1);
    assert_eq!(take(&everything), "2");
    outbox.flush(SOON).unwrap();
    assert_eq!(outbox.failed(0, 10).unwrap(), []);
    let answer = outbox.discard(77);
    assert!(matches!(answer, Err(Error::NoSuchMessage { id: 77, .. })), "{answer:?}");
}

#[test]
fn discarding_the_newest_message_empties_it_and_it_is_never_sent() {
    let device = Device::new();
    let (broker, everything) = broker();
    broker.refuse("bad", Refusal::new(Verdict::Never, "no"), 1).unwrap();
    let outbox = device.open(broker.clone());
    enqueue(&outbox, [Message::text("bad", "secret")]);
    outbox.flush(SOON).unwrap();
    outbox.discard(1).unwrap();
    let sql = device.sql();
    assert_eq!(value::<i64>(&sql, "SELECT length(payload) FROM outbox WHERE id = 1", []), 0);
    assert_eq!(outbox.failed(0, 10).unwrap(), []);
    enqueue(&outbox, [Message::text("t", "next")]);
    let arrival = next(&everything);
    assert_eq!((arrival.id.row(), said(&arrival).as_str()), (2, "next"));
    arrival.acknowledge();
}

#[test]
fn a_payload_above_the_setting_is_parked_and_the_rows_behind_it_go_on() {
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = device.open_with(Settings { max_payload: 1_000, ..quick() }, broker);
    let sql = device.sql();
    sql.execute_batch(
        "BEGIN IMMEDIATE;
         INSERT INTO outbox (topic, payload, key) VALUES ('t', 'before', 'k');
         INSERT INTO outbox (topic, payload, key) VALUES ('t', zeroblob(1001), 'k');
         INSERT INTO outbox (topic, payload, key) VALUES ('t', 'behind', 'k');
         COMMIT;",
    )
    .unwrap();
    assert_eq!([take(&everything), take(&everything)], ["before", "behind"]);
    outbox.flush(SOON).unwrap();
    assert_eq!(status_of(&sql, 2), "FAILED");
    let reason = &outbox.failed(0, 1).unwrap()[0].reason;
    assert!(reason.contains("1001") && reason.contains("max_payload"), "{reason}");
}

#[test]
fn what_plain_sql_may_write_and_no_broker_may_carry_is_parked_with_its_reason() {
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = device.open(broker);
    let sql = device.sql();
    sql.execute_batch(
        "BEGIN IMMEDIATE;
         INSERT INTO outbox (topic, payload, headers) VALUES ('t', 'p', '[1, 2]');
         INSERT INTO outbox (topic, payload, headers) VALUES ('t', 'p', '[[\"id\", \"7\"]]');
         INSERT INTO outbox (topic, payload) VALUES ('t', 'sound');
         COMMIT;",
    )
    .unwrap();
    assert_eq!(take(&everything), "sound");
    outbox.flush(SOON).unwrap();
    let reasons: Vec<String> = outbox.failed(0, 10).unwrap().into_iter().map(|failed| failed.reason).collect();
    assert_eq!(reasons.len(), 2);
    assert!(reasons[0].contains("JSON") && reasons[1].contains("`id`"), "{reasons:?}");
}

#[test]
fn a_damaged_row_is_parked_and_never_sent() {
    let device = Device::new();
    enqueue(&device.open_writer(), numbered("t", 0..3));
    let sql = device.sql();
    sql.execute("UPDATE outbox SET checksum = (checksum + 1) % 4294967296 WHERE id = 2", []).unwrap();
    let (broker, everything) = broker();
    let outbox = device.open(broker.clone());
    assert_eq!([take(&everything), take(&everything)], ["0", "2"]);
    outbox.flush(SOON).unwrap();
    assert_eq!(status_of(&sql, 2), "FAILED");
    assert!(outbox.failed(0, 1).unwrap()[0].reason.contains("damaged"));
    // A retry does not make it sound.
    outbox.retry(2).unwrap();
    outbox.flush(SOON).unwrap();
    assert_eq!(status_of(&sql, 2), "FAILED");
    assert_eq!(broker.counts().received, 2);
    // But a hand that mends it does.
    sql.execute("UPDATE outbox SET payload = 'mended' WHERE id = 2", []).unwrap();
    outbox.retry(2).unwrap();
    assert_eq!(take(&everything), "mended");
}

#[test]
fn what_was_in_flight_at_the_end_comes_again_and_says_that_it_may_be_a_duplicate() {
    let device = Device::new();
    let (broker, everything) = broker();
    let outbox = device.open(broker.clone());
    wait_for_status(&outbox, "it works", |status| status.role == Role::Active);
    enqueue(&outbox, numbered("t", 0..10));
    let held: Vec<_> = (0..10).map(|_| next(&everything)).collect();
    assert!(held.iter().all(|arrival| !arrival.possible_duplicate), "a first sending is none");
    outbox.shutdown(Duration::from_millis(100)).ok();
    drop((held, outbox));

    let outbox = device.open(broker);
    wait_for_status(&outbox, "it works", |status| status.role == Role::Active);
    enqueue(&outbox, [Message::text("t", "new")]);
    for number in 0..10 {
        let arrival = next(&everything);
        assert_eq!((said(&arrival), arrival.possible_duplicate), (number.to_string(), true));
        arrival.acknowledge();
    }
    let new = next(&everything);
    assert_eq!((said(&new).as_str(), new.possible_duplicate), ("new", false));
    new.acknowledge();
    assert!(DUPLICATE_HEADER == "duplicate");
}

#[test]
fn a_message_that_ends_every_session_before_its_neighbours_are_answered_is_parked_and_they_are_not() {
    let device = Device::new();
    // In one transaction, so that all of them are on their way before anybody can answer any.
    let (before, behind) = (numbered("plain", 0..3), numbered("plain", 3..6));
    enqueue(&device.open_writer(), before.chain([Message::text("poison", "p")]).chain(behind));
    let (broker, everything) = broker();
    broker.hang_up_on("poison").unwrap();
    let outbox = device.open(broker);
    let mut arrived: Vec<String> = (0..6).map(|_| take(&everything)).collect();
    arrived.sort();
    assert_eq!(arrived, ["0", "1", "2", "3", "4", "5"]);
    outbox.flush(SOON).unwrap();
    let failed = outbox.failed(0, 10).unwrap();
    assert_eq!(failed.iter().map(|failed| failed.id.row()).collect::<Vec<_>>(), [4]);
}

/// The part of a process that has messages in flight when it is killed.
pub fn dies_with_messages_in_flight(database: &Path) {
    let broker = InProcess::new();
    let everything = broker.subscribe("#").unwrap();
    let outbox = Outbox::builder(database).settings(quick()).broker(broker).open().unwrap();
    enqueue(&outbox, numbered("t", 0..10));
    for _ in 0..4 {
        take(&everything);
    }
    outbox.flush(Duration::ZERO).ok();
    let _held: Vec<_> = (4..10).map(|_| next(&everything)).collect();
    eventually("four are SENT", || {
        value::<i64>(&outbox.connection().unwrap(), "SELECT count(*) FROM outbox WHERE status = 'SENT'", []) == 4
    });
    say("in flight");
    wait_for_cue();
}

#[test]
fn a_killed_process_loses_nothing_and_its_messages_in_flight_come_marked() {
    let device = Device::new();
    let mut victim = Child::play("forwarding::dies_with_messages_in_flight", &device.database());
    assert_eq!(victim.hear(), "in flight");
    victim.kill();
    let (broker, everything) = broker();
    let outbox = device.open(broker);
    for number in 4..10 {
        let arrival = next(&everything);
        assert_eq!((said(&arrival), arrival.possible_duplicate), (number.to_string(), true));
        arrival.acknowledge();
    }
    outbox.flush(SOON).unwrap();
    assert_eq!(value::<i64>(&device.sql(), "SELECT count(*) FROM outbox WHERE status = 'SENT'", []), 10);
}

#[test]
fn writers_that_never_rest_do_not_keep_the_forwarder_from_settling() {
    let device = Device::new();
    let outbox = device.open(InProcess::builder().unsubscribed(Unsubscribed::Acknowledge).build());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers = [(); 2].map(|()| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    enqueue(&outbox, [Message::text("t", "p")]);
                }
            })
        });
        wait_for_stats(&outbox, "2,000 sent beside the writers", |stats| stats.sent >= 2_000);
        done.store(true, Ordering::Relaxed);
        writers.into_iter().for_each(|writer| writer.join().unwrap());
    });
    outbox.flush(SOON).unwrap();
}

#[test]
fn a_purge_that_the_applications_foreign_keys_forbid_does_not_keep_messages_from_being_sent() {
    let device = Device::new();
    let (broker, everything) = broker();
    let settings = Settings { retention: Duration::ZERO, ..quick() };
    let outbox = Outbox::builder(device.database())
        .settings(settings)
        .broker(broker)
        .on_connect(|connection| connection.execute_batch("PRAGMA foreign_keys = ON"))
        .open()
        .unwrap();
    outbox
        .transaction(|tx| -> Result<(), Error> {
            tx.execute_batch(
                "CREATE TABLE note (message INTEGER REFERENCES outbox (id) DEFERRABLE INITIALLY DEFERRED)",
            )?;
            for number in 0..400 {
                let id = outbox.enqueue(tx, &Message::text("t", number.to_string()))?;
                tx.execute("INSERT INTO note VALUES (?1)", [id.row()])?;
            }
            Ok(())
        })
        .unwrap();
    (0..400).for_each(|number| assert_eq!(take(&everything), number.to_string()));
    outbox.flush(SOON).unwrap();
    enqueue(&outbox, [Message::text("t", "one more")]);
    assert_eq!(take(&everything), "one more");
    outbox.flush(SOON).unwrap();
    assert_eq!(value::<i64>(&device.sql(), "SELECT count(*) FROM outbox WHERE status = 'SENT'", []), 401);
}
