//! `status --json` against what SQL says.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use edge_outbox::broker::{Refusal, Verdict};
use edge_outbox::rusqlite::Connection;
use edge_outbox::{Backoff, Message, Settings};
use serde_json::{Value, json};

use super::{look, objects};
use crate::device::{Device, broker, enqueue, eventually, numbered, quick, take, value};

const PENDING: &str = "status NOT IN ('SENT', 'FAILED')";

/// Whatever else stands in the status.
fn truth(sql: &Connection) -> Value {
    let count = |what: &str| value::<i64>(sql, &format!("SELECT count(*) FROM outbox WHERE {what}"), []);
    let optional =
        |column: &str, last: &str| value::<Option<String>>(sql, &format!("SELECT {column} FROM outbox {last}"), []);
    let last_failed = match count("status = 'FAILED'") {
        0 => Value::Null,
        _ => {
            let last = "WHERE status = 'FAILED' ORDER BY id DESC LIMIT 1";
            json!([
                optional("format('%d-%016x', id, nonce)", last),
                optional("topic", last),
                optional("key", last),
                optional("last_error", last),
                optional("attempts || ''", last),
            ])
        }
    };
    json!({
        "pending": count(PENDING),
        "pending_bytes": value::<i64>(sql, &format!("SELECT ifnull(sum(bytes), 0) FROM outbox WHERE {PENDING}"), []),
        "waiting": count(&format!("{PENDING} AND attempts > 0 AND held_by IS NULL")),
        "held": count(&format!("{PENDING} AND held_by IS NOT NULL")),
        "failed": count("status = 'FAILED'"),
        "sent": count("status = 'SENT'"),
        "unreadable": value::<i64>(sql, "SELECT unreadable FROM outbox_state", []),
        "schema_version": 1,
        "last_failed": last_failed,
    })
}

/// What the tool says, in the same form.
fn said(device: &Device) -> (Value, Value) {
    let status = objects(&look(device, &["status", "--json"]).ok()).remove(0);
    let failed = &status["last_failed"];
    let last_failed = match failed {
        Value::Null => Value::Null,
        _ => json!([failed["id"], failed["topic"], failed["key"], failed["reason"], failed["attempts"].to_string()]),
    };
    let mut said = json!({ "last_failed": last_failed });
    for key in ["pending", "pending_bytes", "waiting", "held", "failed", "sent", "unreadable", "schema_version"] {
        said[key] = status[key].clone();
    }
    (said, status)
}

/// Of a moment at which nothing changed meanwhile.
#[track_caller]
fn assert_true(device: &Device, sql: &Connection) -> Value {
    let mut found = None;
    eventually("two looks at the same", || {
        let before = truth(sql);
        let (said, status) = said(device);
        let same = before == truth(sql);
        if same {
            assert_eq!(said, before);
            found = Some(status);
        }
        same
    });
    found.unwrap()
}

#[test]
fn status_says_what_stands_in_the_table_whatever_became_of_the_messages() {
    let device = Device::new();
    let (broker, everything) = broker();
    let long = Duration::from_secs(3600);
    let settings = Settings { window: 1, retry: Backoff { first: long, longest: long }, max_attempts: 100, ..quick() };
    let outbox = device.open_with(settings, broker.clone());
    let sql = device.sql();
    assert_eq!(assert_true(&device, &sql)["pending"], 0);

    enqueue(&outbox, numbered("weather/roof", 0..20));
    (0..20).for_each(|_| drop(take(&everything)));
    eventually("all are sent", || truth(&sql)["sent"] == 20);
    assert_true(&device, &sql);

    broker.refuse("sour/#", Refusal::new(Verdict::Later, "quota"), usize::MAX).unwrap();
    enqueue(&outbox, numbered("sour/milk", 0..2));
    enqueue(&outbox, numbered("sour/milk", 0..5).map(|message| message.with_key("milk")));
    eventually("two wait, and the five of a key", || truth(&sql)["waiting"] == 2 && truth(&sql)["held"] == 5);
    assert_true(&device, &sql);

    broker.close_topic("closed/#", "not for you").unwrap();
    enqueue(&outbox, numbered("closed/door", 0..3));
    eventually("they wait for their topic", || {
        value::<i64>(&sql, "SELECT count(*) FROM outbox WHERE held_by = 'topic closed/door'", []) == 3
    });
    assert_true(&device, &sql);

    broker.refuse("never/#", Refusal::new(Verdict::Never, "payload format invalid"), usize::MAX).unwrap();
    enqueue(&outbox, [1, 2].map(|nth| Message::text(format!("never/{nth}"), "x").with_key("k")));
    eventually("both are parked", || truth(&sql)["failed"] == 2);
    let status = assert_true(&device, &sql);
    assert!(status["last_failed"]["reason"].as_str().unwrap().contains("payload format invalid"), "{status}");

    let failed = outbox.failed(0, 10).unwrap();
    outbox.discard(failed[1].id.row()).unwrap(); // the newest row: it stays, emptied
    assert_true(&device, &sql);
    outbox.discard(failed[0].id.row()).unwrap();
    assert_eq!(assert_true(&device, &sql)["failed"], 0);

    broker.go_offline();
    enqueue(&outbox, (0..7).map(|nth| Message::new("pictures/yard", vec![nth; 5000])));
    assert_true(&device, &sql);
    sql.execute("UPDATE outbox_state SET unreadable = 3", []).unwrap();
    assert_eq!(assert_true(&device, &sql)["unreadable"], 3);
}

#[test]
fn the_oldest_pending_message_is_as_old_as_its_row_says() {
    let device = Device::new();
    let outbox = device.open_writer();
    assert_eq!(said(&device).1["oldest_pending_ms"], Value::Null);
    enqueue(&outbox, numbered("weather", 0..3));
    let sql = device.sql();
    sql.execute("UPDATE outbox SET status = 'SENT' WHERE id = 1", []).unwrap();
    sql.execute("UPDATE outbox SET created_at = created_at - 90000 WHERE id = 2", []).unwrap();
    let created_at: i64 = value(&sql, "SELECT created_at FROM outbox WHERE id = 2", []);
    let age = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64 - created_at;
    let least = age();
    let told = said(&device).1["oldest_pending_ms"].as_i64().unwrap();
    assert!((least..=age()).contains(&told), "{least} {told}");
    assert!(look(&device, &["status"]).ok().contains("2 messages"), "for people too");
}

#[test]
fn sizes_are_those_of_the_files() {
    let device = Device::new();
    let outbox = device.open_writer();
    enqueue(&outbox, (0..50).map(|_| Message::text("weather", "x".repeat(5000))));
    let status = said(&device).1;
    let size = |suffix: &str| {
        let mut path = device.database().into_os_string();
        path.push(suffix);
        std::fs::metadata(path).map_or(0, |found| found.len())
    };
    assert_eq!(status["database"], *device.database().canonicalize().unwrap().to_str().unwrap());
    assert_eq!(status["database_bytes"], size(""));
    assert_eq!(status["log_bytes"], size("-wal"));
    assert_eq!(status["reserve_bytes"], size("-outbox-reserve"));
    assert!(status["log_bytes"].as_u64() > Some(200_000) && status["reserve_bytes"].as_u64() > Some(0), "{status}");
    assert!(status["free_bytes"].as_u64() > Some(0), "{status}");
}
