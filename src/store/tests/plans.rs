//! How SQLite finds what each statement asks for: by id or by one of our indexes, and in a table of a million rows too.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use rusqlite::trace::{TraceEvent, TraceEventCodes};
use rusqlite::{Connection, params_from_iter, types::Null};

use super::{Device, Fate, MAX_PAYLOAD, NOW, batch, failed, held, waiting};
use crate::Message;
use crate::store::{
    Batch, Budget, Lane, Purge, Uptime, delete_sent, discard, discard_some, enqueue, failed as list, failed_count,
    fresh_above, get, last_failed, oldest_pending, pending, position, retry, retry_all, sent_before, unreadable,
};

thread_local! {
    static SEEN: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
}

fn listen(conn: &Connection) {
    conn.trace_v2(
        TraceEventCodes::SQLITE_TRACE_STMT,
        Some(|event| {
            if let TraceEvent::Stmt(statement, _) = event {
                SEEN.with_borrow_mut(|seen| seen.insert(statement.sql().into_owned()));
            }
        }),
    );
}

/// Everything that the store can be asked.
fn ask_everything(device: &mut Device) {
    let (key, topic) = (Lane::Key("k".into()), Lane::Topic("t".into()));
    let budget = Budget { messages: Some(2_001), bytes: Some(1), dealt_with: 100, ..Budget::default() };
    device.put(&Message::text("t", "p").with_expiry(Duration::from_secs(60)));
    device.put_many(2_000);
    enqueue(&device.app, &Message::text("t", "p"), MAX_PAYLOAD, &budget).unwrap_err();
    let mut fates = vec![(1, held(key.clone())), (2, waiting(None)), (3, waiting(Some(topic.clone())))];
    fates.extend([(4, failed("no")), (5, failed("no"))]);
    fates.extend((6..=1_500).map(|id| (id, Fate::Sent)));
    let synced = Batch { position: Some(1_500), synced: true, ..batch(&fates) };
    let purge = Purge { retention: Duration::ZERO, upto: 1_500, uptime: Uptime::default() };
    device.store.settle(&synced, NOW, Some(purge)).unwrap();
    let Device { app, store, .. } = device;
    pending(app, 0, 100).unwrap();
    store.begin().unwrap();
    store.fresh(1_500, 10, usize::MAX, true, MAX_PAYLOAD).unwrap();
    store.fresh(0, 10, usize::MAX, true, MAX_PAYLOAD).unwrap(); // over a gap
    store.content(1_600, MAX_PAYLOAD).unwrap();
    store.again(0, 10).unwrap();
    store.lane(&topic, 0, 10).unwrap();
    store.lanes(None, 10).unwrap();
    store.misplaced().unwrap();
    store.is_pending(1_500, 1_600).unwrap();
    store.failed(4).unwrap();
    store.check_aside().unwrap();
    list(app, 0, 10).unwrap();
    failed_count(app).unwrap();
    get(app, 1, MAX_PAYLOAD).unwrap();
    oldest_pending(app, 1_500).unwrap();
    fresh_above(app, 1_500, 10).unwrap();
    position(app).unwrap();
    unreadable(app).unwrap();
    retry(app, 4).unwrap();
    discard(app, 5).unwrap();
    device.settle(NOW, &[(2_001, failed("no"))]);
    discard(&device.app, 2_001).unwrap();
    device.settle(NOW, &[(1_700, failed("no"))]);
    retry_all(&device.app).unwrap();
    let tx = device.app.transaction().unwrap();
    discard_some(&tx, 0, last_failed(&tx).unwrap().unwrap_or(9)).unwrap();
    sent_before(&tx, 0, NOW, NOW).unwrap();
    delete_sent(&tx, &[1]).unwrap();
}

#[test]
fn no_statement_goes_through_the_whole_table() {
    let mut device = Device::new();
    listen(&device.app);
    listen(&device.store.conn);
    ask_everything(&mut device);
    let seen = SEEN.take();
    let ours = |sql: &&String| sql.contains("main.outbox");
    for sql in seen.iter().filter(ours) {
        let mut explain = device.app.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let nothing = params_from_iter(vec![Null; explain.parameter_count()]);
        let plan: Vec<String> =
            explain.query_map(nothing, |row| row.get("detail")).unwrap().map(Result::unwrap).collect();
        for step in &plan {
            // One of them, the last.
            let newest = step == "SCAN main.outbox" && sql.contains("ORDER BY id DESC LIMIT 1");
            let one_row = step.starts_with("SCAN main.outbox_state") || step == "SCAN CONSTANT ROW";
            let of_a_part = step.starts_with("SCAN (subquery");
            let by_index = step.contains("USING INDEX outbox_") || step.contains("USING COVERING INDEX outbox_");
            let scan = step.starts_with("SCAN ") && !newest && !one_row && !of_a_part;
            assert!(!scan || by_index, "{step}:{sql}\n{plan:#?}");
            assert!(!step.contains("TEMP B-TREE") && !step.contains("AUTOMATIC"), "{step}:{sql}\n{plan:#?}");
        }
    }
    assert!(seen.iter().filter(ours).count() >= 35, "they were all heard: {}", seen.iter().filter(ours).count());
}
