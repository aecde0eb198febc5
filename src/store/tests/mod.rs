//! What the store promises, on real files.

mod admin;
mod aside;
mod budget;
mod check;
mod clocks;
mod damage;
mod enqueueing;
mod guards;
mod hostile;
mod inspect;
mod model;
mod opening;
mod pages;
mod plans;
mod properties;
mod purge;
mod reading;
mod restore;
mod salvage;
mod settle;
mod strangers;

use std::path::PathBuf;
use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;

use super::{Batch, Budget, Content, Fate, Role, Row, Settlement, Store, configure, enqueue, open};
use crate::Message;

const BUSY: Duration = Duration::from_secs(5);
const MAX_PAYLOAD: usize = 256 * 1024;
const NOW: i64 = 1_700_000_000_000;

/// A database with an empty outbox, in a folder that goes with it.
struct Device {
    _folder: TempDir,
    path: PathBuf,
    app: Connection,
    store: Store,
}

impl Device {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("device.db");
        let app = open(&path, BUSY).expect("opens");
        configure(&app, Role::Application { busy_timeout: BUSY, longest_log: 16 << 20 }).expect("configures");
        let store = Store::new(open(&path, BUSY).expect("opens again")).expect("a store");
        Device { _folder: folder, path, app, store }
    }

    /// The connections again, which read the schema anew.
    fn reopen(self) -> Self {
        let Device { _folder, path, app, store } = self;
        drop((app, store));
        let app = open(&path, BUSY).expect("opens");
        let store = Store::new(open(&path, BUSY).expect("opens again")).expect("a store");
        Device { _folder, path, app, store }
    }

    fn put(&self, message: &Message) -> i64 {
        enqueue(&self.app, message, MAX_PAYLOAD, &Budget::default()).expect("enqueues").row()
    }

    fn put_many(&self, n: usize) {
        self.app.execute_batch("BEGIN IMMEDIATE").expect("begins");
        for i in 0..n {
            self.put(&Message::text("t", i.to_string()));
        }
        self.app.execute_batch("COMMIT").expect("commits");
    }

    fn sql(&self, sql: &str) {
        self.app.execute_batch(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    }

    fn number(&self, sql: &str) -> i64 {
        self.app.query_row(sql, [], |row| row.get(0)).unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    fn text(&self, sql: &str) -> String {
        self.app.query_row(sql, [], |row| row.get(0)).unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    /// Messages that were dealt with before, are to be sent again, and are in no lane.
    fn waiting_count(&self) -> i64 {
        self.number(
            "SELECT count(*) FROM outbox INDEXED BY outbox_again
             WHERE status IS NOT 'SENT' AND status IS NOT 'FAILED' AND attempts > 0 AND held_by IS NULL",
        )
    }

    /// Messages that wait in a lane.
    fn held_count(&self) -> i64 {
        self.number(
            "SELECT count(*) FROM outbox INDEXED BY outbox_held
             WHERE held_by IS NOT NULL AND status IS NOT 'SENT' AND status IS NOT 'FAILED'",
        )
    }

    fn fresh(&self) -> Vec<(Row, Content)> {
        self.store.read_fresh(0, 1_000, usize::MAX, true, MAX_PAYLOAD).expect("reads")
    }

    fn fresh_ids(&self) -> Vec<i64> {
        self.fresh().iter().map(|(row, _)| row.id).collect()
    }

    /// Settles these rows at `now`, without purging.
    fn settle(&mut self, now: i64, fates: &[(i64, Fate)]) -> Vec<i64> {
        let batch = batch(fates);
        self.store.settle(&batch, now, None).expect("settles").failed
    }

    fn wal_bytes(&self) -> u64 {
        let mut wal = self.path.clone().into_os_string();
        wal.push("-wal");
        std::fs::metadata(wal).map_or(0, |file| file.len())
    }

    /// Switches off whatever keeps nonsense out of the table, for this one statement.
    fn force(self, sql: &str) -> Self {
        let saved = self.text("SELECT sql FROM sqlite_schema WHERE name = 'outbox'");
        let lax = saved.replace(") STRICT", ")").replace("NOT NULL", "");
        // BLOB is the type that leaves every value as it is.
        let lax = lax.replace("INTEGER", "BLOB").replace("TEXT", "BLOB").replace("ANY", "BLOB");
        let lax = lax.replace("BLOB PRIMARY KEY", "INTEGER PRIMARY KEY");
        let write = |schema: &str, sql: &str| {
            let conn = Connection::open(&self.path).expect("opens");
            conn.execute_batch("PRAGMA writable_schema = ON; PRAGMA ignore_check_constraints = ON;").expect("off");
            conn.execute_batch(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
            conn.execute("UPDATE sqlite_schema SET sql = ?1 WHERE name = 'outbox'", [schema]).expect("rewrites");
        };
        write(&lax, "");
        write(&saved, sql);
        self.reopen()
    }
}

fn batch(fates: &[(i64, Fate)]) -> Batch {
    let settlements = fates.iter().map(|(id, fate)| Settlement { id: *id, fate: fate.clone() }).collect();
    Batch { settlements, ..Batch::default() }
}

fn failed(reason: &str) -> Fate {
    Fate::Failed { reason: reason.to_owned() }
}

fn waiting(lane: Option<super::Lane>) -> Fate {
    Fate::Waiting { wait: Duration::from_millis(1_500), reason: "quota".to_owned(), lane }
}

fn held(lane: super::Lane) -> Fate {
    Fate::Held { lane }
}

fn message(content: &Content) -> &Message {
    match content {
        Content::Message { message, .. } => message,
        Content::Spoiled(why) => panic!("spoiled: {why}"),
    }
}

fn spoiled(content: &Content) -> &str {
    match content {
        Content::Message { id, .. } => panic!("{id} is sound"),
        Content::Spoiled(why) => why,
    }
}
