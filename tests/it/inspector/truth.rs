//! What an inspector tells, after a random life, against what plain SQL finds in the table.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use edge_outbox::inspector::{Figures, Filter, MessageSummary};
use edge_outbox::rusqlite::Connection;
use edge_outbox::{Error, Inspector, Message, MessageState, Outbox, QoS};

use crate::chance::Chance;
use crate::device::{Device, SOON};

const TOPICS: [&str; 6] = ["weather/roof", "weather/cellar", "weather", "ü/roof", "$state/roof", "a/b/c"];
const KEYS: [&str; 4] = ["roof", "Roof", "cellar", "k\u{1F980}"];
/// Filters, and which of the topics they mean.
const FILTERS: [(&str, &[&str]); 6] = [
    ("weather/#", &["weather/roof", "weather/cellar", "weather"]),
    ("+/roof", &["weather/roof", "ü/roof"]),
    ("#", &["weather/roof", "weather/cellar", "weather", "ü/roof", "a/b/c"]),
    ("$state/+", &["$state/roof"]),
    ("weather/roof", &["weather/roof"]),
    ("no/such", &[]),
];

/// A row as it stands in the table.
struct Row {
    id: i64,
    status: String,
    status_at: i64,
    created_at: i64,
    attempts: i64,
    held_by: Option<String>,
    last_error: Option<String>,
    bytes: i64,
    topic: String,
    key: Option<String>,
    qos: i64,
    retain: bool,
    lengths: i64,
}

fn table(sql: &Connection) -> Vec<Row> {
    let mut statement = sql
        .prepare(
            "SELECT id, status, status_at, created_at, attempts, held_by, last_error, bytes, topic, key, qos, retain,
                    length(CAST(topic AS BLOB)) + length(CAST(payload AS BLOB)) + ifnull(length(CAST(key AS BLOB)), 0)
                    + ifnull(length(CAST(headers AS BLOB)), 0) + ifnull(length(CAST(content_type AS BLOB)), 0)
                    + ifnull(length(CAST(response_topic AS BLOB)), 0) + ifnull(length(correlation_data), 0)
             FROM outbox ORDER BY id",
        )
        .unwrap();
    let rows = statement.query_map([], |row| {
        Ok(Row {
            id: row.get(0)?,
            status: row.get(1)?,
            status_at: row.get(2)?,
            created_at: row.get(3)?,
            attempts: row.get(4)?,
            held_by: row.get(5)?,
            last_error: row.get(6)?,
            bytes: row.get(7)?,
            topic: row.get(8)?,
            key: row.get(9)?,
            qos: row.get(10)?,
            retain: row.get(11)?,
            lengths: row.get(12)?,
        })
    });
    rows.unwrap().map(Result::unwrap).collect()
}

impl Row {
    fn state(&self) -> MessageState {
        match self.status.as_str() {
            "PENDING" => MessageState::Pending,
            "SENT" => MessageState::Sent,
            "FAILED" => MessageState::Failed,
            _ => MessageState::Damaged,
        }
    }

    fn is_pending(&self) -> bool {
        !matches!(self.state(), MessageState::Sent | MessageState::Failed)
    }
}

/// One step of the life of an outbox: of programs, of a forwarder, of people with a shell.
fn live(chance: &mut Chance, outbox: &Outbox, sql: &Connection) {
    let rows = table(sql);
    let some = |chance: &mut Chance| if rows.is_empty() { 1 } else { rows[chance.of(0..=rows.len() - 1)].id };
    let status = |id: i64, to: &str, more: &str| {
        sql.execute(&format!("UPDATE outbox SET status = ?2{more} WHERE id = ?1"), (id, to)).unwrap();
    };
    match chance.of(1..=16) {
        1..=5 => {
            let mut message = Message::text(chance.pick(&TOPICS), "x".repeat(chance.of(0..=6_000)));
            if chance.one_in(2) {
                message = message.with_key(chance.pick(&KEYS)).with_header("h", "v").with_content_type("text/plain");
            }
            if chance.one_in(3) {
                message = message.with_qos(QoS::ExactlyOnce).retained().with_correlation_data("c");
            }
            outbox.transaction(|tx| outbox.enqueue(tx, &message)).unwrap();
        }
        6 => {
            let insert = "INSERT INTO outbox (topic, payload, key) VALUES (?1, ?2, ?3)";
            sql.execute(insert, (chance.pick(&TOPICS), vec![0_u8, 255], chance.pick(&KEYS))).unwrap();
        }
        7 | 8 => status(some(chance), "SENT", ", filler = '...', attempts = attempts + 1"),
        9 => status(some(chance), "FAILED", ", last_error = 'too large: ' || id, attempts = attempts + 1"),
        10 => {
            let held = "UPDATE outbox SET held_by = ?2 WHERE id = ?1 AND status = 'PENDING'";
            sql.execute(held, (some(chance), chance.pick(&["key roof", "topic weather/roof"]))).unwrap();
        }
        11 => {
            let refused = "UPDATE outbox SET attempts = attempts + 1, last_error = 'not now' WHERE id = ?1";
            sql.execute(refused, [some(chance)]).unwrap();
        }
        12 => match outbox.retry(some(chance)) {
            Ok(()) | Err(Error::NoSuchMessage { .. }) => {}
            Err(error) => panic!("{error}"),
        },
        13 => match outbox.discard(some(chance)) {
            Ok(()) | Err(Error::NoSuchMessage { .. }) => {}
            Err(error) => panic!("{error}"),
        },
        14 => drop(sql.execute("DELETE FROM outbox WHERE status = 'SENT' AND id <= ?1", [some(chance)]).unwrap()),
        15 => {
            let edit = "UPDATE outbox SET topic = ?2, key = NULL, held_by = NULL, created_at = created_at - 5000 WHERE id = ?1";
            sql.execute(edit, (some(chance), chance.pick(&TOPICS))).unwrap();
        }
        _ => {
            sql.execute_batch("PRAGMA ignore_check_constraints = ON").unwrap();
            status(some(chance), chance.pick(&["sent", "", "PENDING, or not"]), "");
            sql.execute_batch("PRAGMA ignore_check_constraints = OFF").unwrap();
        }
    }
}

fn stamp(unix_ms: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(unix_ms.unsigned_abs())
}

fn assert_figures(found: &Figures, rows: &[Row], step: &str) {
    let count = |holds: &dyn Fn(&Row) -> bool| rows.iter().filter(|row| holds(row)).count() as u64;
    assert_eq!(found.version, 1, "{step}");
    assert_eq!(found.pending, count(&Row::is_pending), "{step}");
    let bytes: i64 = rows.iter().filter(|row| row.is_pending()).map(|row| row.bytes).sum();
    assert_eq!(found.pending_bytes, bytes.unsigned_abs(), "{step}");
    assert_eq!(found.held, count(&|row| row.is_pending() && row.held_by.is_some()), "{step}");
    assert_eq!(found.waiting, count(&|row| row.is_pending() && row.held_by.is_none() && row.attempts > 0), "{step}");
    assert_eq!(found.failed, count(&|row| row.state() == MessageState::Failed), "{step}");
    assert_eq!(found.sent, count(&|row| row.state() == MessageState::Sent), "{step}");
    assert_eq!(found.unreadable, 0, "{step}");
    let oldest = rows.iter().find(|row| row.is_pending());
    assert_eq!(found.oldest_pending.is_some(), oldest.is_some(), "{step}");
    if let (Some(found), Some(row)) = (found.oldest_pending, oldest) {
        let age = SystemTime::now().duration_since(stamp(row.created_at)).unwrap();
        assert!(found <= age && age - found < SOON, "{step}: {found:?} and {age:?}");
    }
    let last = rows.iter().rfind(|row| row.state() == MessageState::Failed);
    assert_eq!(found.last_failed.as_ref().map(|failed| failed.id.row()), last.map(|row| row.id), "{step}");
    if let (Some(found), Some(row)) = (&found.last_failed, last) {
        assert_eq!((&found.topic, &found.key), (&row.topic, &row.key), "{step}");
        assert_eq!(found.reason, row.last_error.clone().unwrap_or_default(), "{step}");
        assert_eq!((found.failed_at, found.created_at), (stamp(row.status_at), stamp(row.created_at)), "{step}");
    }
}

#[track_caller]
fn assert_messages(found: &[MessageSummary], rows: &[&Row], step: &str) {
    let ids = |found: &[MessageSummary]| found.iter().map(|found| found.id.row()).collect::<Vec<_>>();
    assert_eq!(ids(found), rows.iter().map(|row| row.id).collect::<Vec<_>>(), "{step}");
    for (found, row) in found.iter().zip(rows) {
        let step = format!("{step}, row {}", row.id);
        assert_eq!(found.state, row.state(), "{step}");
        assert_eq!((found.since, found.created_at), (stamp(row.status_at), stamp(row.created_at)), "{step}");
        assert_eq!((&found.topic, &found.key, &found.held_by), (&row.topic, &row.key, &row.held_by), "{step}");
        assert_eq!(found.last_error, row.last_error, "{step}");
        assert_eq!(found.qos.map(|qos| i64::from(qos.level())), Some(row.qos), "{step}");
        assert_eq!((found.retain, i64::from(found.attempts)), (row.retain, row.attempts), "{step}");
        assert_eq!(found.size, row.lengths.unsigned_abs(), "{step}");
    }
}

#[test]
fn figures_and_messages_are_what_plain_sql_finds_after_any_life() {
    for seed in 0..8 {
        let chance = &mut Chance::seeded(seed);
        let device = Device::new();
        let outbox = device.open_writer();
        let sql = device.sql();
        let inspector = Inspector::open(device.database(), SOON).unwrap();
        for nth in 0..60 {
            (0..chance.of(1..=8)).for_each(|_| live(chance, &outbox, &sql));
            let rows = table(&sql);
            let step = format!("seed {seed}, look {nth}");
            assert_figures(&inspector.figures().unwrap(), &rows, &step);
            let (topic, topics) = chance.pick(&FILTERS);
            let states = [MessageState::Pending, MessageState::Sent, MessageState::Failed, MessageState::Damaged];
            let filter = Filter {
                state: chance.one_in(2).then(|| chance.pick(&states)),
                topic: chance.one_in(2).then(|| topic.to_owned()),
                key: chance.one_in(3).then(|| chance.pick(&KEYS).to_owned()),
            };
            let after = chance.of(0..=rows.len()) as i64 - 1;
            let limit = chance.of(0..=rows.len() + 1);
            let lets_through = |row: &Row| {
                filter.state.is_none_or(|state| row.state() == state)
                    && (filter.topic.is_none() || topics.contains(&row.topic.as_str()))
                    && (filter.key.is_none() || row.key == filter.key)
            };
            let wanted = rows.iter().filter(|row| row.id > after && lets_through(row));
            let wanted: Vec<&Row> = wanted.take(limit).collect();
            let step = format!("{step}, {filter:?} after {after}, {limit} at most");
            assert_messages(&inspector.messages(&filter, after, limit).unwrap(), &wanted, &step);
            let before = after + 2;
            let wanted = rows.iter().rev().filter(|row| row.id < before && lets_through(row)).take(limit);
            let step = format!("{step}, and before {before}");
            assert_messages(
                &inspector.messages_before(&filter, before, limit).unwrap(),
                &wanted.collect::<Vec<_>>(),
                &step,
            );
        }
    }
}

#[test]
fn failed_messages_are_found_without_their_index_too() {
    let device = Device::new();
    let outbox = device.open_writer();
    crate::device::enqueue(&outbox, crate::device::numbered("t", 0..20));
    let sql = device.sql();
    sql.execute("UPDATE outbox SET status = 'FAILED', last_error = 'no' WHERE id % 3 = 0", []).unwrap();
    sql.execute_batch("DROP INDEX outbox_failed").unwrap();
    let inspector = Inspector::open(device.database(), SOON).unwrap();
    let filter = Filter { state: Some(MessageState::Failed), ..Filter::default() };
    let rows = table(&sql);
    let failed: Vec<&Row> = rows.iter().filter(|row| row.id % 3 == 0).collect();
    assert_messages(&inspector.messages(&filter, 0, 100).unwrap(), &failed, "without its index");
    let back: Vec<&Row> = failed.into_iter().rev().collect();
    assert_messages(&inspector.messages_before(&filter, i64::MAX, 100).unwrap(), &back, "without its index");
    assert_figures(&inspector.figures().unwrap(), &rows, "without its index");
}

#[test]
fn a_filter_that_breaks_the_rules_is_refused_in_words() {
    let device = Device::new();
    drop(device.open_writer());
    let inspector = Inspector::open(device.database(), SOON).unwrap();
    let filter = Filter { topic: Some("a/#/b".to_owned()), ..Filter::default() };
    let error = inspector.messages(&filter, 0, 1).unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
}
