//! Stamps that no clock ever said: anybody may write any integer into the table.

use std::time::{SystemTime, UNIX_EPOCH};

use edge_outbox::broker::InProcess;
use edge_outbox::{Message, MessageState, Outbox, Settings};

use crate::SOON;
use crate::program::{number, sql};

#[test]
fn stamps_of_any_size_are_shown_and_change_nothing_but_purging() {
    let folder = tempfile::tempdir().unwrap();
    for (nth, stamp) in [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX].into_iter().enumerate() {
        let database = folder.path().join(format!("{nth}.db"));
        let writer = Outbox::builder(&database).open().unwrap();
        let enqueue = |outbox: &Outbox, payload: &str| {
            let message = Message::text("t", payload).with_key("k").with_expiry(SOON);
            outbox.transaction(|tx| outbox.enqueue(tx, &message).map(drop)).unwrap();
        };
        (1..=5).for_each(|n| enqueue(&writer, &n.to_string()));
        let sql = sql(&database);
        sql.execute("UPDATE outbox SET status_at = ?1, created_at = ?1", [stamp]).unwrap();
        sql.execute_batch("UPDATE outbox SET status = 'FAILED', last_error = 'no' WHERE id = 1").unwrap();
        sql.execute_batch("UPDATE outbox SET expires_at = 9223372036854775807 WHERE id IN (2, 3)").unwrap();
        sql.execute_batch("UPDATE outbox SET expires_at = -9223372036854775808 WHERE id = 5").unwrap();
        sql.execute_batch("UPDATE outbox SET expires_at = NULL WHERE id = 4").unwrap();

        let stats = writer.stats().unwrap();
        let failed = writer.failed(0, 10).unwrap().remove(0);
        let stored = writer.message(3).unwrap().unwrap();
        assert!(stats.oldest_pending.is_some(), "{stats:?}");
        assert_eq!(stored.state, MessageState::Pending);
        for at in [failed.created_at, failed.failed_at, stored.created_at, stored.since] {
            assert!(at >= UNIX_EPOCH && (at > SystemTime::now()) == (stamp > 1), "{stamp} is {at:?}");
        }

        let broker = InProcess::builder().record(10).build();
        let everything = broker.subscribe("#").unwrap();
        let outbox = Outbox::builder(&database).settings(Settings::default()).broker(broker.clone()).open().unwrap();
        // One that expires may be over by now or not; this one does not, and nothing keeps it.
        loop {
            let arrival = everything.recv_timeout(SOON).unwrap();
            let last = arrival.message.payload.as_bytes() == b"4";
            arrival.acknowledge();
            if last {
                break;
            }
        }
        outbox.flush(SOON).unwrap();
        let expired = outbox.failed(1, 10).unwrap();
        assert!(expired.iter().all(|failed| failed.reason.starts_with("expired: ")), "{stamp}: {expired:?}");
        assert!(expired.iter().any(|failed| failed.id.row() == 5), "{stamp}: {expired:?}");
        assert_eq!(number(&sql, "SELECT count(*) FROM outbox WHERE status = 'PENDING'"), 0);
    }
}
