//! An action, carried out on the store and on the model: what the application, the forwarder and the device do. For the rest
//! see `people.rs`.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::{Connection, params};
use tempfile::TempDir;

use super::actions::{Action, End, Expiry, Outcome, Pick, Sample};
use super::rows::{Model, Row, octets};
use super::{MAX_PAYLOAD, same};
use crate::message::QoS;
use crate::store::decode::headers_to_json;
use crate::store::tests::{BUSY, NOW};
use crate::store::{
    self, Batch, Budget, Purge, Role, Settlement, Status, Store, Uptime, configure, enqueue, now_ms, open,
};
use crate::{Error, Limit, Message, Payload};

const HOUR: i64 = 3_600_000;
const RETENTION: Duration = Duration::from_secs(3_600);

/// An outbox in a file and in a `Vec`, and the clocks of the device.
pub(super) struct World {
    folder: TempDir,
    pub path: PathBuf,
    pub app: Connection,
    pub store: Store,
    pub model: Model,
    is_synced: bool,
    /// Messages so far, those that were rolled back included.
    messages: u64,
    /// The wall clock, in Unix milliseconds.
    pub now: i64,
    uptime: Uptime,
    /// Over all boots.
    has_run: Duration,
    kills: u32,
}

impl World {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("device.db");
        let app = open(&path, BUSY).expect("opens");
        let store = Store::new(open(&path, BUSY).expect("opens again")).expect("a store");
        let mut world = World {
            folder,
            path,
            app,
            store,
            model: Model::default(),
            is_synced: false,
            messages: 0,
            now: NOW,
            uptime: Uptime { boot: Some(1), since_boot: Duration::from_secs(60) },
            has_run: Duration::ZERO,
            kills: 0,
        };
        world.open();
        world
    }

    fn open(&mut self) {
        self.app = open(&self.path, BUSY).expect("opens");
        configure(&self.app, Role::Application { busy_timeout: BUSY, longest_log: 16 << 20 }).expect("configures");
        self.store = Store::new(open(&self.path, BUSY).expect("opens again")).expect("a store");
        self.sync(self.is_synced);
    }

    fn sync(&mut self, synced: bool) {
        self.is_synced = synced;
        let level = if synced { "FULL" } else { "OFF" };
        self.app.pragma_update(None, "synchronous", level).expect("a level of syncing");
    }

    pub fn sql(&self, sql: &str, params: impl rusqlite::Params) -> usize {
        self.app.execute(sql, params).unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    pub fn pick(&mut self, pick: Pick) -> Option<&mut Row> {
        let rows = self.model.rows.len();
        self.model.rows.get_mut(pick.of(rows))
    }

    fn message(&mut self, sample: &Sample) -> Message {
        self.messages += 1;
        let number = format!("{}:", self.messages);
        let text: String = number.chars().cycle().take(sample.size).collect();
        let payload = if sample.is_text { Payload::Text(text) } else { Payload::Bytes(text.into_bytes()) };
        let mut message = Message::new(format!("t/{}", sample.topic), []);
        message.payload = payload;
        message.key = sample.key.map(|key| format!("k{key}"));
        message.headers = if sample.header { vec![("unit".into(), "°C".into())] } else { Vec::new() };
        message.content_type = sample.content_type.then(|| "text/plain".into());
        message.response_topic = sample.response_topic.then(|| "answers/1".into());
        message.correlation_data = sample.correlation_data.then(|| vec![0, 255, 7]);
        message.expiry = sample.expires.then_some(Duration::from_secs(3_600));
        message.qos = QoS::from_level(sample.qos).expect("0, 1 or 2");
        message.retain = sample.retain;
        message
    }

    /// What differed, if anything did.
    pub fn play(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::Enqueue(samples, end) => self.enqueue(samples, *end),
            Action::Many(count) => {
                let plain = Sample {
                    topic: 0,
                    key: None,
                    size: 5,
                    is_text: true,
                    header: false,
                    content_type: false,
                    response_topic: false,
                    correlation_data: false,
                    expires: false,
                    qos: 1,
                    retain: false,
                };
                self.enqueue(&vec![plain; usize::from(*count)], End::Commit)
            }
            Action::PlainSql(sample, expiry) => {
                self.plain_sql(sample, *expiry);
                Ok(())
            }
            Action::Tight { sample, messages, bytes, position_known } => {
                self.tight(sample, *messages, *bytes, *position_known)
            }
            Action::Settle { fates, position, synced, purge } => {
                let fates: Vec<_> =
                    fates.iter().filter_map(|(pick, outcome)| Some((self.pick(*pick)?.id, *outcome))).collect();
                self.settle(&fates, *position, *synced, *purge)
            }
            Action::SendUpTo { upto, position, purge } => {
                let upto = upto.of(self.model.rows.len());
                let pending = self.model.rows.iter().take(upto + 1).filter(|row| row.is_pending());
                let fates: Vec<_> = pending.map(|row| (row.id, Outcome::Sent)).collect();
                self.settle(&fates, position.then_some(Pick::LAST), false, *purge)
            }
            Action::Retry(_) | Action::RetryAll | Action::Discard(_) | Action::DiscardAll => self.administrate(action),
            Action::SetStatus(..) | Action::Release(_) | Action::Uncount(_) | Action::Change(..) => {
                self.edit(action);
                Ok(())
            }
            Action::Delete(pick) => {
                let Some(id) = self.pick(*pick).map(|row| row.id) else { return Ok(()) };
                let gone = self.sql("DELETE FROM outbox WHERE id = ?1", [id]);
                same("rows deleted by hand", gone, self.model.delete(|row| row.id == id))
            }
            Action::DeleteAll => {
                let gone = self.sql("DELETE FROM outbox", []);
                same("rows deleted by hand", gone, self.model.delete(|_| true))
            }
            Action::Purge { hours } => self.purge(i64::from(*hours) * HOUR),
            Action::Time { jump, hours } => {
                let passed = Duration::from_secs(u64::from(*hours) * 3_600);
                self.now += i64::from(*jump) * HOUR + i64::from(*hours) * HOUR;
                (self.uptime.since_boot, self.has_run) = (self.uptime.since_boot + passed, self.has_run + passed);
                Ok(())
            }
            Action::Reboot { known } => {
                let boot = self.uptime.boot.unwrap_or(1) + 1;
                // The time from the boot until somebody asks.
                let since_boot = Duration::from_secs(60);
                self.uptime = Uptime { boot: known.then_some(boot), since_boot };
                self.has_run += since_boot;
                self.open();
                Ok(())
            }
            Action::Reopen => {
                self.open();
                Ok(())
            }
            Action::Kill(samples) => {
                self.kill(samples);
                Ok(())
            }
            Action::OpenAgain => self.open_again(),
            Action::Sync(synced) => {
                self.sync(*synced);
                Ok(())
            }
        }
    }

    fn enqueue(&mut self, samples: &[Sample], end: End) -> Result<(), String> {
        self.app.execute_batch("BEGIN IMMEDIATE").expect("begins");
        let before = self.model.clone();
        for (nth, sample) in samples.iter().enumerate() {
            if end == End::HalfWay && nth + 1 == samples.len() {
                self.app.execute_batch("SAVEPOINT last").expect("a savepoint");
            }
            let message = self.message(sample);
            let id = enqueue(&self.app, &message, MAX_PAYLOAD, &Budget::default());
            if message.payload.len() > MAX_PAYLOAD {
                same("a message that is too large is refused", id.is_err(), true)?;
                continue;
            }
            let expected = self.model.add(message, true, self.is_synced).id;
            same("the id", id.map_err(|e| e.to_string())?.row(), expected)?;
            if end == End::HalfWay && nth + 1 == samples.len() {
                self.app.execute_batch("ROLLBACK TO last").expect("to the savepoint");
                self.model.rows.pop();
            }
        }
        self.app.execute_batch(if end == End::RollBack { "ROLLBACK" } else { "COMMIT" }).expect("ends");
        if end == End::RollBack {
            self.model = before;
        }
        Ok(())
    }

    fn plain_sql(&mut self, sample: &Sample, expiry: Expiry) {
        let mut message = self.message(sample);
        let minute = Duration::from_secs(60);
        let (created_at, expires_at) = match expiry {
            Expiry::None => (now_ms(), None),
            Expiry::Over => (1_000, Some(61_000)),
            Expiry::Later => (now_ms(), Some(now_ms() + 24 * HOUR)),
        };
        message.expiry = expires_at.map(|at| Duration::from_millis((at - created_at) as u64));
        self.sql(
            "INSERT INTO outbox (topic, payload, key, headers, content_type, response_topic, correlation_data, qos, retain,
                                 created_at, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            params![
                message.topic,
                sql_payload(&message.payload),
                message.key,
                headers_to_json(&message.headers).expect("pairs of text"),
                message.content_type,
                message.response_topic,
                message.correlation_data,
                message.qos.level(),
                message.retain,
                created_at,
                expires_at
            ],
        );
        let is_over = message.expiry == Some(minute);
        self.model.add(message, false, false).is_over = is_over;
    }

    /// A budget that leaves so much beside what is pending.
    fn tight(&mut self, sample: &Sample, rows: Option<i8>, bytes: Option<i8>, known: bool) -> Result<(), String> {
        let message = self.message(sample);
        let (pending, counted) = pending(&self.model);
        let wanted = octets(&message);
        let budget = Budget {
            messages: rows.map(|more| pending.saturating_add_signed(more.into())),
            bytes: bytes.map(|more| (counted + wanted).saturating_add_signed(more.into())),
            settled: if known { self.model.dealt_with() } else { 0 },
            dealt_with: 100_000,
        };
        let id = enqueue(&self.app, &message, MAX_PAYLOAD, &budget);
        let limit = if budget.messages.is_some_and(|allowed| pending + 1 > allowed) {
            Some((Limit::PendingMessages, pending, 1))
        } else if budget.bytes.is_some_and(|allowed| counted + wanted > allowed) {
            Some((Limit::PendingBytes, counted, wanted))
        } else {
            None
        };
        if message.payload.len() > MAX_PAYLOAD {
            return same("a message that is too large is refused", id.is_err(), true);
        }
        match (limit, id) {
            (None, Ok(id)) => same("the id", id.row(), self.model.add(message, true, self.is_synced).id),
            (Some(limit), Err(Error::Full(full))) => same("what is full", (full.limit, full.found, full.wanted), limit),
            (limit, id) => Err(format!("a budget of {budget:?}: {id:?}, but the model says {limit:?}")),
        }
    }

    fn settle(
        &mut self,
        fates: &[(i64, Outcome)],
        position: Option<Pick>,
        synced: bool,
        purge: bool,
    ) -> Result<(), String> {
        let mut settlements = Vec::new();
        let mut failed = Vec::new();
        for (id, outcome) in fates {
            let row = self.model.row(*id).expect("it was picked");
            let fate = row.fate(*outcome);
            let was = row.status;
            row.settle(&fate, self.now, self.has_run);
            match row.status {
                Status::Failed if was == Status::Pending => failed.push(*id),
                Status::Sent => failed.retain(|failed| failed != id),
                _ => {}
            }
            settlements.push(Settlement { id: *id, fate });
        }
        let (from, upto) = (self.model.position, self.model.dealt_with());
        // As the forwarder does, which never takes it back.
        let position = position.map(|pick| from.max(pick.between(from, upto)));
        self.model.position = position.unwrap_or(from);
        let purge = purge.then_some(Purge { retention: RETENTION, upto, uptime: self.uptime });
        let batch = Batch { settlements, position, synced };
        let settled = self.store.settle(&batch, self.now, purge).map_err(|e| format!("settling: {e}"))?;
        same("what became FAILED", &settled.failed, &failed)?;
        same("what could not be written", settled.unwritable.len(), 0)?;
        let gone = self.purged(upto)?;
        same("rows purged", settled.purged, gone)?;
        same("rows purged where nobody asked for it", gone > 0 && purge.is_none(), false)
    }

    /// What the forwarder purged, when and in which bites, is its own affair; but what it may not have taken has to stand.
    fn purged(&mut self, upto: i64) -> Result<usize, String> {
        let mut statement = self.app.prepare_cached("SELECT id FROM outbox NOT INDEXED ORDER BY id").expect("prepares");
        let stands: Vec<i64> = statement.query_map([], |row| row.get(0)).and_then(Iterator::collect).expect("reads");
        drop(statement);
        let newest = self.model.newest();
        let gone: Vec<&Row> = self.model.rows.iter().filter(|row| stands.binary_search(&row.id).is_err()).collect();
        for row in &gone {
            let retention = RETENTION.as_millis() as i64;
            let at = row.status_at.expect("it was looked at");
            let by_wall_clock = at <= self.now - retention || at > self.now;
            let by_uptime = row.sent.is_some_and(|sent| self.has_run - sent >= RETENTION);
            let may_go =
                row.status == Status::Sent && row.id <= upto && row.id != newest && (by_wall_clock || by_uptime);
            if !may_go {
                return Err(format!("purged at {} up to row {upto}, and should stand: {row:?}", self.now));
            }
        }
        let count = gone.len();
        self.model.rows.retain(|row| stands.binary_search(&row.id).is_ok());
        Ok(count)
    }

    /// What a kill leaves are the files as they are: without what SQLite does when a connection is closed.
    fn kill(&mut self, samples: &[Sample]) {
        self.app.execute_batch("BEGIN IMMEDIATE").expect("begins");
        for sample in samples {
            let message = self.message(sample);
            let _ = enqueue(&self.app, &message, MAX_PAYLOAD, &Budget::default());
        }
        self.app.execute_batch("UPDATE outbox SET status = 'SENT'; DELETE FROM outbox").expect("is going to be undone");
        // As happens when it has no room in the cache: it stands in the log already.
        self.app.cache_flush().expect("writes");
        self.kills += 1;
        let left = self.folder.path().join(format!("{}.db", self.kills));
        for suffix in ["", "-wal"] {
            let with = |path: &PathBuf| PathBuf::from(format!("{}{suffix}", path.display()));
            fs::copy(with(&self.path), with(&left)).expect("is copied");
        }
        self.path = left;
        self.open();
    }

    /// Nothing comes of it.
    fn open_again(&mut self) -> Result<(), String> {
        let before = schema(&self.app);
        let other = open(&self.path, BUSY).map_err(|e| e.to_string())?;
        same("the schema", schema(&other), before)?;
        same("the outbox is in place", store::is_in_place(&other).ok(), Some(true))?;
        let tx = self.app.transaction().expect("begins");
        let restored = store::restore(&tx).map_err(|e| e.to_string())?;
        tx.commit().expect("commits");
        same("what was put back", restored, Vec::new())
    }

    /// Sends everything, lets time pass and purges: nothing stays but the newest row.
    pub fn finish(&mut self) -> Result<(), String> {
        self.play(&Action::Reopen)?;
        self.play(&Action::SendUpTo { upto: Pick::LAST, position: true, purge: false })?;
        let rest = self.model.rows.iter().filter(|row| row.status == Status::Failed);
        let fates: Vec<_> = rest.map(|row| (row.id, Outcome::Sent)).collect();
        self.settle(&fates, Some(Pick::LAST), true, false)?;
        // Whatever the clock was when a row was sent, it is long ago now.
        self.play(&Action::Time { jump: 0, hours: 250 })?;
        for _ in 0..20 {
            self.settle(&[], Some(Pick::LAST), false, true)?;
        }
        let left = self.model.rows.len();
        same("more than a bite is left that may be purged", left > 100, false)?;
        self.purge(HOUR)?;
        same("rows at the end", self.model.rows.len(), left.min(1))
    }
}

/// What is pending: rows, and bytes. Those that were set aside are counted as they were written.
pub(super) fn pending(model: &Model) -> (u64, u64) {
    let bytes = model.pending().map(|row| if row.is_fresh() { row.octets() } else { row.bytes });
    (model.pending().count() as u64, bytes.sum())
}

pub(super) fn sql_payload(payload: &Payload) -> rusqlite::types::Value {
    match payload {
        Payload::Text(text) => text.clone().into(),
        Payload::Bytes(bytes) => bytes.clone().into(),
    }
}

fn schema(conn: &Connection) -> Vec<Option<String>> {
    let mut statement = conn.prepare("SELECT sql FROM sqlite_schema ORDER BY rowid").expect("prepares");
    let read = statement.query_map([], |row| row.get(0)).and_then(Iterator::collect);
    read.expect("reads")
}
