//! A database of the application's that is not in WAL mode, on a device whose power may be cut while it is put into it.
//!
//! For that one commit SQLite keeps a rollback journal. Synced once, as with `synchronous = NORMAL`, it may say after a cut
//! that it holds more than it does, and take the whole database with it. So it is synced in full, whatever the
//! application has set for its connections.

use std::path::Path;

use edge_outbox::Outbox;
use edge_outbox::rusqlite::Connection;

use crate::child::{Child, listen, say};
use crate::device::{Device, quick, value};
use crate::faults::{Does, Faults, JOURNAL, SYNC};

const TABLE: &str =
    "PRAGMA journal_mode = DELETE; CREATE TABLE reading (value REAL); INSERT INTO reading VALUES (21.5)";
/// More syncs than there are: they are counted, and none fails.
const NONE: i64 = 1_000_000;

/// The part: puts the database into WAL mode, itself or by an outbox, with connections that sync as it is told.
pub fn switches(database: &Path) {
    say("ready");
    let told = listen().unwrap();
    let (by, synchronous) = told.split_once(' ').unwrap();
    let synchronous = format!("PRAGMA synchronous = {synchronous}");
    if by == "sqlite" {
        let connection = Connection::open(database).unwrap();
        connection.execute_batch(&synchronous).unwrap();
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).unwrap();
    } else {
        let set = move |connection: &mut Connection| connection.execute_batch(&synchronous);
        drop(Outbox::builder(database).settings(quick()).on_connect(set).open().unwrap());
    }
    say("done");
}

/// How often the journal was synced for it.
fn syncs(by: &str) -> i64 {
    let (device, faults) = (Device::new(), Faults::new());
    device.sql().execute_batch(TABLE).unwrap();
    let mut child = Child::play_with("log_switch::switches", &device.database(), |command| faults.preload(command));
    assert_eq!(child.hear(), "ready");
    faults.some(Does::Kill, SYNC, JOURNAL, NONE, 1);
    assert_eq!(child.ask(by), "done");
    let sql = device.sql();
    assert_eq!(value::<String>(&sql, "PRAGMA journal_mode", []), "wal", "{by}");
    assert_eq!(value::<f64>(&sql, "SELECT value FROM reading", []), 21.5, "{by}");
    faults.seen()
}

#[test]
fn an_applications_database_is_put_into_wal_mode_with_full_syncs_whatever_its_connections_do() {
    let (normal, full) = (syncs("sqlite NORMAL"), syncs("sqlite FULL"));
    assert!(0 < normal && normal < full, "SQLite alone: {normal} syncs of the journal with NORMAL, {full} with FULL");
    for synchronous in ["OFF", "NORMAL", "FULL"] {
        assert_eq!(syncs(&format!("outbox {synchronous}")), full, "{synchronous}");
    }
}
