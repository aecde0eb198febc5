//! Others that read and write the same file: plain SQL, and another SQLite altogether.

use std::process::Command;

use super::{Device, Fate, NOW, message};
use crate::Message;
use crate::message::Payload;

#[test]
fn plain_sql_is_enough_to_enqueue() {
    let device = Device::new();
    let shell = rusqlite::Connection::open(&device.path).unwrap();
    shell
        .execute_batch(
            "INSERT INTO outbox (topic, payload, key) VALUES ('weather/roof', '21.5', 'roof');
             INSERT INTO outbox (topic, payload, headers, qos, retain, content_type)
             VALUES ('a', x'00ff', '[[\"unit\", \"K\"], [\"unit\", \"C\"]]', 2, 1, 'x/y');",
        )
        .unwrap();
    let read = device.fresh();
    assert_eq!(message(&read[0].1), &Message::text("weather/roof", "21.5").with_key("roof"));
    let second = message(&read[1].1);
    assert_eq!(second.payload, Payload::Bytes(vec![0, 255]));
    assert_eq!(second.headers.len(), 2);
    assert!(read.iter().all(|(row, _)| !row.synced));
    let age = device.number("SELECT abs(created_at - strftime('%s', 'now') * 1000) FROM outbox WHERE id = 1");
    assert!(age < 60_000, "created_at is {age} ms away from now");
    assert_eq!(device.number("SELECT created_at = status_at AND typeof(created_at) = 'integer' FROM outbox"), 1);
}

/// Python brings whatever SQLite its machine has, older than ours as a rule.
#[test]
fn pythons_sqlite_reads_and_writes_the_same_file() {
    let mut device = Device::new();
    device.put(&Message::text("from/rust", "hello"));
    device.put_many(9);
    device.settle(
        NOW,
        &[(1, Fate::Sent), (2, super::failed("no")), (3, super::waiting(None)), (4, super::waiting(None))],
    );
    let script = "
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], timeout=10, isolation_level=None)
c.execute('PRAGMA wal_autocheckpoint = 0')
assert c.execute('PRAGMA integrity_check').fetchone() == ('ok',)
assert c.execute('SELECT payload, status FROM outbox WHERE id = 1').fetchone() == ('hello', 'SENT')
c.execute('BEGIN IMMEDIATE')
c.execute(\"INSERT INTO outbox (topic, payload) VALUES ('from/python', ?)\", (b'\\x00\\x01',))
c.execute(\"INSERT INTO outbox (topic, payload, expires_at, response_topic, correlation_data) VALUES (?, ?, ?, ?, ?)\",
          ('from/python', 'expires', 2**53, 'answers', b'\\x00\\x01'))
c.execute('COMMIT')
c.execute(\"UPDATE outbox SET status = 'PENDING' WHERE id = 2\")
try:
    c.execute(\"INSERT INTO outbox (id, topic, payload) VALUES (99, 't', 'p')\")
    sys.exit('a gap was allowed')
except sqlite3.IntegrityError:
    pass
c.execute('DELETE FROM outbox WHERE id = 12')
c.execute('DELETE FROM outbox WHERE id = 4')
print(sqlite3.sqlite_version)
";
    // Old ones cannot read a STRICT table; that is said in the documentation and not tested here.
    let probe = "import sqlite3, sys; sys.exit(sqlite3.sqlite_version_info < (3, 37))";
    match Command::new("python3").args(["-c", probe]).status() {
        Ok(status) if status.success() => (),
        _ => return eprintln!("SKIPPED: there is no python3 with SQLite 3.37 or newer here"),
    }
    let output = Command::new("python3").args(["-c", script]).arg(&device.path).output().expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let again: Vec<_> = device.store.read_again(0, 9).unwrap().iter().map(|row| row.id).collect();
    assert_eq!(again, [2, 3]);
    assert_eq!(device.number("SELECT aside FROM outbox_state"), 2);
    let read = device.fresh();
    assert_eq!(message(&read[read.len() - 2].1), &Message::new("from/python", [0, 1]));
    let last = message(&read[read.len() - 1].1);
    assert_eq!(
        (last.response_topic.as_deref(), last.correlation_data.as_deref()),
        (Some("answers"), Some(&[0, 1][..]))
    );
    assert!(last.expiry.is_some());
}
