//! Whatever SQL can put into the table, through the CHECKs and past them: each row is acknowledged or parked with its
//! reason, or the status says what is in the way.
//!
//! EDGE_OUTBOX_HOSTILE_SCHEDULES: how many schedules; EDGE_OUTBOX_HOSTILE_SEED: the first of them.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use edge_outbox::broker::in_process::Unsubscribed;
use edge_outbox::broker::{InProcess, Refusal, Verdict};
use edge_outbox::rusqlite::{Connection, Row, params};
use edge_outbox::{Error, Message, Outbox, Settings, Storage};

use crate::chance::Chance;
use crate::child::{Child, say};
use crate::device::{Device, SOON, enqueue, quick, value, wait_for_stats, wait_for_status};

/// Schedules in a test run.
const SCHEDULES: usize = 15;
const MAX_PAYLOAD: usize = 100_000;

const COLUMNS: [&str; 20] = [
    "status",
    "status_at",
    "filler",
    "attempts",
    "wait_ms",
    "held_by",
    "synced",
    "last_error",
    "created_at",
    "nonce",
    "checksum",
    "qos",
    "retain",
    "priority",
    "expires_at",
    "topic",
    "key",
    "content_type",
    "headers",
    "payload",
];
const LATER_COLUMNS: [&str; 2] = ["response_topic", "correlation_data"];
const TRIGGERS: [&str; 8] = [
    "outbox_keeps_newest",
    "outbox_id_stands",
    "outbox_id_next",
    "outbox_id_fixed",
    "outbox_edited",
    "outbox_reopened",
    "outbox_released",
    "outbox_state_stays",
];

fn settings() -> Settings {
    Settings { max_payload: MAX_PAYLOAD, max_attempts: 3, ..quick() }
}

/// SQL for a value of any type.
fn anything(chance: &mut Chance) -> String {
    const CHOSEN: [&str; 44] = [
        "NULL",
        "0",
        "1",
        "-1",
        "2",
        "3",
        "257",
        "2147483648",
        "4294967296",
        "9007199254740991",
        "9007199254740992",
        "9223372036854775807",
        "-9223372036854775808",
        "0.0",
        "1.5",
        "-1e308",
        "9e999",
        "-9e999",
        "''",
        "'x'",
        "'PENDING'",
        "'SENT'",
        "'FAILED'",
        "'SEND'",
        "'key '",
        "'key a'",
        "'topic t/1'",
        "'lane'",
        "'...'",
        "'a/#'",
        "'['",
        "'[]'",
        "'[[\"a\",\"b\"]]'",
        "'[[\"id\",\"b\"]]'",
        "char(0)",
        "'t' || char(0) || 't'",
        "CAST(x'74ff' AS TEXT)",
        "CAST(x'ff' AS TEXT)",
        "x''",
        "x'74'",
        "zeroblob(65536)",
        "printf('%.*c', 70000, 'x')",
        "printf('%.*c', 100000, '[')",
        "'key ' || CAST(x'ff' AS TEXT)",
    ];
    const LARGE: [&str; 4] = [
        "printf('%.*c', 1000000, 'x')",
        "printf('%.*c', 9000000, '[')",
        "zeroblob(16000000)",
        "CAST(zeroblob(5000000) AS TEXT)",
    ];
    match chance.of(0..=9) {
        0 => (chance.of(0..=usize::MAX - 1) as i64).to_string(),
        1 => format!("randomblob({})", chance.of(0..=300)),
        2 => format!("CAST(randomblob({}) AS TEXT)", chance.of(1..=20)),
        3 if chance.one_in(4) => chance.pick(&LARGE).to_owned(),
        _ => chance.pick(&CHOSEN).to_owned(),
    }
}

fn column(chance: &mut Chance) -> &'static str {
    if chance.one_in(10) { chance.pick(&LATER_COLUMNS) } else { chance.pick(&COLUMNS) }
}

/// One statement of somebody who does not mean well.
fn statement(chance: &mut Chance, rows: usize) -> String {
    let row = chance.of(1..=rows);
    match chance.of(0..=9) {
        0 => format!("DELETE FROM outbox WHERE id = {row}"),
        1 | 2 => {
            let (column, value) = (column(chance), anything(chance));
            let (id, given) = match chance.of(0..=9) {
                0 => ("id, ", format!("{}, ", chance.pick(&[i64::MIN, -5, 0, 1, 9_007_199_254_740_991]))),
                1 => ("id, ", format!("{}, ", chance.pick(&[9_223_372_036_854_775_806_i64, i64::MAX]))),
                2 => ("id, ", format!("{}, ", chance.of(1..=rows * 2))),
                _ => ("", String::new()),
            };
            match column {
                "topic" => format!("INSERT INTO outbox ({id}topic, payload) VALUES ({given}{value}, 'p')"),
                "payload" => format!("INSERT INTO outbox ({id}topic, payload) VALUES ({given}'t/new', {value})"),
                _ => format!("INSERT INTO outbox ({id}topic, payload, {column}) VALUES ({given}'t/new', 'p', {value})"),
            }
        }
        3 => {
            let column = chance.pick(&["position", "barrier", "version", "id"]);
            format!("UPDATE outbox_state SET {column} = {}", anything(chance))
        }
        4 if chance.one_in(5) => format!("UPDATE outbox SET id = {} WHERE id = {row}", anything(chance)),
        _ => {
            let mut sql = format!("UPDATE outbox SET {} = {}", column(chance), anything(chance));
            if chance.one_in(3) {
                let (other, value) = (column(chance), anything(chance));
                if !sql.contains(&format!(" {other} ")) {
                    write!(sql, ", {other} = {value}").unwrap();
                }
            }
            if !chance.one_in(15) {
                write!(sql, " WHERE id = {row}").unwrap();
            }
            sql
        }
    }
}

/// Puts in place of the tables' definitions what `change` makes of them; SQLite does not look at the rows.
fn redefine(device: &Device, change: impl Fn(&str) -> String) {
    let sql = device.sql();
    sql.execute_batch("PRAGMA writable_schema = ON").unwrap();
    let mut tables =
        sql.prepare("SELECT name, sql FROM sqlite_schema WHERE name IN ('outbox', 'outbox_state')").unwrap();
    let tables: Vec<(String, String)> =
        tables.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect();
    for (name, definition) in tables {
        sql.execute("UPDATE sqlite_schema SET sql = ?2 WHERE name = ?1", params![name, change(&definition)]).unwrap();
    }
}

/// The same columns with neither types nor rules.
fn lax(definition: &str) -> String {
    let definition = definition.replace(") STRICT", ")").replace("NOT NULL", "");
    let definition = definition.replace("INTEGER", "BLOB").replace("TEXT", "BLOB").replace("ANY", "BLOB");
    definition.replace("BLOB PRIMARY KEY", "INTEGER PRIMARY KEY")
}

/// What a schedule did that excuses something.
#[derive(Default)]
struct Excuses {
    /// Somebody wrote a position, or took away the triggers that watch what happens behind it: rows up to there count as
    /// dealt with.
    position: bool,
    /// Something is missing without which nothing can be read or written.
    broken: bool,
    /// The statements that were taken.
    done: Vec<String>,
}

fn assault(device: &Device, chance: &mut Chance) -> Excuses {
    let mut excuses = Excuses::default();
    let rows: i64 = value(&device.sql(), "SELECT max(id) FROM outbox", []);
    let rows = usize::try_from(rows).unwrap();
    let past_the_checks = chance.one_in(2);
    let past_the_types = chance.one_in(2);
    let mut definitions = Vec::new();
    if past_the_types {
        let sql = device.sql();
        for table in ["outbox", "outbox_state"] {
            definitions.push(value::<String>(&sql, "SELECT sql FROM sqlite_schema WHERE name = ?1", [table]));
        }
        redefine(device, lax);
    }
    let sql = device.sql();
    if past_the_checks || past_the_types {
        sql.execute_batch("PRAGMA ignore_check_constraints = ON").unwrap();
    }
    if chance.one_in(3) {
        for trigger in TRIGGERS {
            if chance.one_in(2) {
                sql.execute_batch(&format!("DROP TRIGGER {trigger}")).unwrap();
                excuses.position = true;
            }
        }
    }
    for _ in 0..chance.of(1..=25) {
        let statement = statement(chance, rows);
        // Refused or done: both are fine.
        if sql.execute_batch(&statement).is_ok() {
            excuses.position |= statement.starts_with("UPDATE outbox_state SET position");
            excuses.done.push(statement);
        }
    }
    if chance.one_in(40) {
        let gone =
            chance.pick(&["INDEX outbox_again", "INDEX outbox_held", "INDEX outbox_failed", "TABLE outbox_state"]);
        sql.execute_batch(&format!("DROP TRIGGER IF EXISTS outbox_state_stays; DROP {gone}")).unwrap();
        excuses.broken = true;
    }
    drop(sql);
    if past_the_types && !excuses.broken && chance.of(1..=4) > 1 {
        redefine(device, |definition| {
            let own = definitions.iter().find(|own| own.split('(').next() == definition.split('(').next());
            own.unwrap().clone()
        });
    }
    excuses
}

/// Every call that a program can make, for rows that are there and rows that are not. None may panic.
fn call_everything(outbox: &Outbox, sql: &Connection) {
    let mut ids = vec![i64::MIN, -1, 0, 1, 2, i64::MAX];
    let mut statement = sql.prepare("SELECT id FROM outbox").unwrap();
    ids.extend(statement.query_map([], |row| row.get::<_, i64>(0)).unwrap().map(Result::unwrap));
    let _ = outbox.stats();
    for after in [i64::MIN, -1, 0, i64::MAX] {
        for limit in [0, 1, usize::MAX] {
            let _ = outbox.failed(after, limit);
        }
    }
    for id in ids {
        let _ = outbox.message(id);
    }
    assert_eq!(outbox.status().failed, None);
}

/// Rows that are neither sent nor parked, and what stands in them.
fn unsettled(sql: &Connection) -> Vec<(i64, String)> {
    let mut statement = sql
        .prepare(
            "SELECT id, 'status ' || quote(substr(status, 1, 20)) || ', attempts ' || quote(substr(attempts, 1, 20))
                        || ', held_by ' || quote(substr(held_by, 1, 40)) || ', topic ' || quote(substr(topic, 1, 20))
             FROM outbox WHERE status IS NOT 'SENT' AND status IS NOT 'FAILED'",
        )
        .unwrap();
    let lossy = |row: &Row| String::from_utf8_lossy(row.get_ref(1).unwrap().as_bytes().unwrap()).into_owned();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, lossy(row)))).unwrap();
    rows.map(Result::unwrap).collect()
}

fn reasonless(sql: &Connection) -> Vec<i64> {
    let mut statement = sql
        .prepare("SELECT id FROM outbox WHERE status = 'FAILED' AND coalesce(last_error, '') = '' AND attempts > 0")
        .unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

/// Waits until each row is settled, or the status says that the database is in the way.
fn comes_to_rest(outbox: &Outbox, sql: &Connection, excuses: &Excuses, story: &str) -> bool {
    let until = Instant::now() + SOON;
    loop {
        let status = outbox.status();
        assert_eq!(status.failed, None, "{story}");
        if !matches!(status.storage, Storage::Ok | Storage::Busy) {
            return false;
        }
        let left = unsettled(sql);
        let position = "SELECT max(CASE WHEN typeof(position) = 'integer' THEN position END) FROM outbox_state";
        let position: Option<i64> = value(sql, position, []);
        let excused = |id: i64| excuses.position && position.is_some_and(|position| id <= position);
        if left.iter().all(|(id, _)| excused(*id)) {
            return true;
        }
        assert!(
            Instant::now() < until,
            "{story}: not settled: {left:#?}, status {status:?}, done: {:#?}",
            excuses.done
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn play(seed: u64) {
    let story = format!("schedule {seed}");
    let chance = &mut Chance::seeded(seed);
    let device = Device::new();
    let broker = InProcess::builder().record(10_000).unsubscribed(Unsubscribed::Acknowledge).build();
    let kinds = |number: usize| {
        let message = Message::text(format!("t/{}", number % 4), number.to_string());
        match number % 5 {
            0 => message.with_key("a"),
            1 => message.with_header("unit", "celsius").with_correlation_data([1, 2]),
            2 => message.with_expiry(Duration::from_secs(3600)).with_response_topic("answers"),
            _ => message,
        }
    };
    // Some have been dealt with, and the position stands behind them.
    let outbox = device.open_with(settings(), broker.clone());
    broker.refuse("t/3", Refusal::new(Verdict::Never, "never"), 1).unwrap();
    enqueue(&outbox, (0..chance.of(1..=6)).map(kinds));
    outbox.flush(SOON).unwrap();
    if chance.one_in(3) {
        broker.close_topic("t/1", "not now").unwrap();
        enqueue(&outbox, [Message::text("t/1", "held").with_key("a")]);
        wait_for_status(&outbox, "the topic is closed", |status| !status.closed_topics.is_empty());
    }
    outbox.shutdown(SOON).unwrap();
    broker.behave();
    enqueue(&device.open_writer(), (0..chance.of(1..=8)).map(kinds));

    let excuses = assault(&device, chance);
    let sql = device.sql();
    if chance.one_in(3) {
        broker.refuse("t/2", Refusal::new(Verdict::Later, "later"), chance.of(1..=4)).unwrap();
    }
    let opened = Outbox::builder(device.database()).settings(settings()).broker(broker.clone()).open();
    let outbox = match opened {
        Ok(outbox) => outbox,
        Err(error) => return assert!(!error.to_string().is_empty(), "{story}"),
    };
    let flush = outbox.flush(Duration::from_millis(20));
    assert!(matches!(flush, Ok(()) | Err(Error::TimedOut { .. })), "{story}: {flush:?}");
    if !excuses.broken {
        let rested = comes_to_rest(&outbox, &sql, &excuses, &story);
        call_everything(&outbox, &sql);
        if rested {
            let by_hand = |done: &String| done.contains("last_error") || done.contains("'FAILED'");
            if !excuses.done.iter().any(by_hand) {
                assert_eq!(reasonless(&sql), [0_i64; 0], "{story}: {:#?}", excuses.done);
            }
            let _ = outbox.retry_all();
            for id in 1..=5 {
                let _ = outbox.retry(id);
                let _ = outbox.discard(id);
            }
            comes_to_rest(&outbox, &sql, &excuses, &format!("{story}, once more"));
            call_everything(&outbox, &sql);
        }
    }
    assert_eq!(outbox.status().failed, None, "{story}");
    outbox.shutdown(SOON).unwrap();
}

#[test]
fn whatever_sql_puts_into_the_table_is_sent_or_parked_or_told() {
    let number = |name: &str, otherwise: usize| env::var(name).map_or(otherwise, |text| text.parse().unwrap());
    let first = number("EDGE_OUTBOX_HOSTILE_SEED", 1) as u64;
    let schedules = number("EDGE_OUTBOX_HOSTILE_SCHEDULES", SCHEDULES) as u64;
    for seed in first..first + schedules {
        play(seed);
    }
}

/// None of them is read to be sent. To park one SQLite writes its row anew, for which it has the payload in memory twice;
/// so it is one at a time.
#[test]
fn payloads_that_are_too_large_take_memory_one_at_a_time() {
    const MIB: usize = 16;
    let (none, eight) = (peak_kib(0, MIB), peak_kib(8, MIB));
    assert!(eight < none + 3 * MIB * 1024, "{eight} KiB, and {none} KiB without any");
}

/// The most memory that a forwarder takes which meets so many rows of so many MiB.
fn peak_kib(rows: usize, mib: usize) -> usize {
    let device = Device::new();
    drop(device.open_writer());
    for _ in 0..rows {
        let size = i64::try_from(mib << 20).unwrap();
        device.sql().execute("INSERT INTO outbox (topic, payload) VALUES ('t', zeroblob(?1))", [size]).unwrap();
    }
    let mut child = Child::play("hostile::settles_everything", &device.database());
    let peak = child.hear().parse().unwrap();
    child.end();
    peak
}

/// Settles everything, and says how much memory that took at most, in KiB.
pub fn settles_everything(database: &Path) {
    let broker = InProcess::builder().unsubscribed(Unsubscribed::Acknowledge).build();
    let outbox = Outbox::builder(database).settings(settings()).broker(broker).open().unwrap();
    outbox.flush(SOON).unwrap();
    call_everything(&outbox, &outbox.connection().unwrap());
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    say(peak.trim().trim_end_matches(" kB"));
}

/// Somebody edits the key of the message that the others of its old key wait for.
#[test]
fn a_lane_goes_on_when_the_message_it_waits_for_gets_another_key() {
    let device = Device::new();
    let broker = InProcess::builder().unsubscribed(Unsubscribed::Acknowledge).build();
    broker.close_topic("t/1", "not now").unwrap();
    let outbox = device.open_with(settings(), broker.clone());
    enqueue(&outbox, [Message::text("t/1", "p").with_key("a")]);
    wait_for_status(&outbox, "the topic is closed", |status| !status.closed_topics.is_empty());
    enqueue(&outbox, (2..4).map(|nth| Message::text(format!("t/{nth}"), "p").with_key("a")));
    wait_for_stats(&outbox, "all wait", |stats| stats.waiting == 3);
    outbox.shutdown(SOON).unwrap();
    device.sql().execute("UPDATE outbox SET key = 'b' WHERE id = 1", []).unwrap();
    broker.behave();
    let outbox = device.open_with(settings(), broker);
    outbox.flush(SOON).unwrap();
    assert_eq!(outbox.stats().unwrap().waiting, 0);
}

#[test]
fn a_message_that_claims_to_have_been_sent_four_billion_times_is_parked_when_it_is_refused() {
    let device = Device::new();
    let broker = InProcess::builder().unsubscribed(Unsubscribed::Acknowledge).build();
    broker.refuse("t", Refusal::new(Verdict::Later, "later"), 1).unwrap();
    enqueue(&device.open_writer(), [Message::text("t", "p")]);
    device.sql().execute("UPDATE outbox SET attempts = 4294967295", []).unwrap();
    let outbox = device.open_with(settings(), broker);
    outbox.flush(SOON).unwrap();
    assert_eq!(outbox.failed(0, 1).unwrap()[0].reason, "later");
}
