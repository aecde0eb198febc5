//! One life of the outbox on a damaged file, and what is found of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use edge_outbox::broker::InProcess;
use edge_outbox::broker::in_process::{Seen, Unsubscribed};
use edge_outbox::rusqlite::config::DbConfig;
use edge_outbox::{Error, FailedMessage, Inspector, Message, Outbox, Payload, Storage};

use super::template::{Damage, Template, written};
use crate::SOON;
use crate::device::{Device, quick};

/// How a finding begins that must never be.
pub const WRONG: &str = "sent wrong: ";

/// What was seen, in words that are counted; or what is broken.
pub fn judge(template: &Template, damage: &Damage) -> Result<Vec<&'static str>, String> {
    let device = Device::new();
    template.put(&device.database(), damage);
    let broker = InProcess::builder().record(100_000).unsubscribed(Unsubscribed::Acknowledge).build();
    let opened = Outbox::builder(device.database()).settings(quick()).broker(broker.clone()).open();
    let outbox = match opened {
        Ok(outbox) => outbox,
        Err(error) if damage.in_table => return Err(format!("not opened, where only rows are damaged: {error}")),
        Err(Error::Damaged(_) | Error::NotADatabase { .. }) => return Ok(vec!["noticed by SQLite at the opening"]),
        Err(_) => return Ok(vec!["refused at the opening for another reason"]),
    };
    let mut life = Life { template, damage, outbox, broker, reported: false, intact: None };
    life.go_to_its_end()?;
    life.tell()
}

struct Life<'a> {
    template: &'a Template,
    damage: &'a Damage,
    outbox: Outbox,
    broker: InProcess,
    /// Whether the outbox said that something is wrong with the file.
    reported: bool,
    /// Rows that anybody can read as they were written.
    intact: Option<BTreeSet<i64>>,
}

impl Life<'_> {
    fn go_to_its_end(&mut self) -> Result<(), String> {
        let until = Instant::now() + SOON;
        loop {
            let flushed = self.outbox.flush(Duration::from_millis(100));
            let status = self.outbox.status();
            if let Some(panic) = status.failed {
                return Err(format!("it panicked: {panic}"));
            }
            self.reported |= matches!(status.storage, Storage::Damaged(_) | Storage::Failing(_));
            self.reported |= self.outbox.stats().map_or(true, |stats| stats.unreadable > 0);
            let missing = self.missing();
            if missing.is_empty() || flushed.is_ok() {
                return Ok(());
            }
            if self.reported && (!self.damage.in_table || missing.is_disjoint(self.intact())) {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(format!(
                    "rows {missing:?} neither arrived nor are parked in {SOON:?}; {:?}; intact: {:?}",
                    status.storage,
                    self.intact().intersection(&missing)
                ));
            }
        }
    }

    /// Rows that are to be sent, of which nothing is known.
    fn missing(&self) -> BTreeSet<i64> {
        let seen = self.broker.seen().into_iter().filter_map(|seen| number(&seen.message));
        let parked = self.parked().into_iter().map(|failed| failed.id.row());
        let known: BTreeSet<i64> = seen.chain(parked).collect();
        self.template.pending.difference(&known).copied().collect()
    }

    fn parked(&self) -> Vec<FailedMessage> {
        self.outbox.failed(0, 1_000).unwrap_or_default()
    }

    /// Asked only where something is missing, of files that are damaged in the same way.
    fn intact(&mut self) -> &BTreeSet<i64> {
        let (template, damage) = (self.template, self.damage);
        self.intact.get_or_insert_with(|| {
            let device = Device::new();
            template.put(&device.database(), damage);
            template.pending.iter().copied().filter(|row| plainly_read(&device, *row)).collect()
        })
    }

    fn tell(mut self) -> Result<Vec<&'static str>, String> {
        let (seen, parked, missing) = (self.broker.seen(), self.parked(), self.missing());
        let mut told = Vec::new();
        for seen in &seen {
            told.extend(self.is_as_written(seen)?);
        }
        if self.damage.in_table && !missing.is_disjoint(self.intact()) {
            return Err(format!("rows that are intact did not arrive, of {missing:?}"));
        }
        let reasons: BTreeMap<i64, &str> = parked.iter().map(|failed| (failed.id.row(), &*failed.reason)).collect();
        let is_parked = |why: &str| reasons.iter().any(|(row, reason)| *row != 9 && reason.contains(why));
        told.push(if self.reported {
            "noticed by SQLite"
        } else if !missing.is_empty() {
            self.who_tells(&missing)?
        } else if is_parked("checksum") {
            "noticed by the checksum"
        } else if is_parked("damaged") {
            "parked for what no row can hold"
        } else if is_parked("") {
            "parked for another reason"
        } else if self.damage.in_log && self.intact().len() < self.template.pending.len() {
            "in what the log still tells"
        } else {
            "harmless"
        });
        told.sort_unstable();
        told.dedup();
        let outbox = self.outbox;
        outbox.shutdown(SOON).map_err(|error| format!("it does not end: {error}"))?;
        Ok(told)
    }

    /// The outbox said nothing: SQLite does not see those rows, or the check finds what is wrong.
    fn who_tells(&mut self, missing: &BTreeSet<i64>) -> Result<&'static str, String> {
        if self.damage.in_log && missing.is_disjoint(self.intact()) {
            return Ok("cut off with the log, which ends there for SQLite");
        }
        let device = Device::new();
        self.template.put(&device.database(), self.damage);
        let checked = Inspector::open(device.database(), SOON).and_then(|inspector| inspector.check());
        match checked {
            Ok(checked) if checked.findings.is_empty() => {
                Err(format!("rows {missing:?} did not arrive, are not parked, and nothing tells of them"))
            }
            _ => Ok("told of by the check alone"),
        }
    }

    /// What is odd about it, and allowed.
    fn is_as_written(&self, seen: &Seen) -> Result<Option<&'static str>, String> {
        let Seen { id, message, .. } = seen;
        let row = self.template.names.get(&id.to_string()).copied();
        let same = |row| on_the_wire(message) == on_the_wire(&written(row));
        match (row, number(message)) {
            (Some(row), _) if !same(row) => Err(format!("{WRONG}{id}, {}", short(message))),
            (None, number) if !number.is_some_and(same) => {
                Err(format!("{WRONG}{id}, which nobody wrote, {}", short(message)))
            }
            (None, _) => Ok(Some("(with a message under another name)")),
            (Some(row), _) if !self.template.pending.contains(&row) => Ok(Some("(with a message that was done with)")),
            _ if message.expiry.is_some() => Ok(Some("(with an expiry that nobody gave)")),
            _ => Ok(None),
        }
    }
}

/// Which row a message says that it is.
fn number(message: &Message) -> Option<i64> {
    message.topic.split('/').nth(1)?.parse().ok()
}

/// What the checksum covers: of bytes that are text it does not say which, and when it expires is no part of what is said.
fn on_the_wire(message: &Message) -> Message {
    let mut said = message.clone();
    (said.payload, said.expiry) = (Payload::Bytes(message.payload.as_bytes().to_vec()), None);
    said
}

fn short(message: &Message) -> String {
    let payload = message.payload.as_bytes();
    let front = String::from_utf8_lossy(&payload[..payload.len().min(60)]).into_owned();
    format!("topic {:?}, key {:?}, {} bytes {front:?}", message.topic, message.key, payload.len())
}

/// Whether somebody who knows nothing of the outbox reads the row as it was written.
fn plainly_read(device: &Device, row: i64) -> bool {
    let sql = device.sql();
    let _ = sql.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
    let written = written(row);
    sql.query_row(
        "SELECT topic, CAST(payload AS BLOB), key, status FROM outbox NOT INDEXED WHERE id = ?1",
        [row],
        |found| {
            Ok(found.get::<_, String>(0)? == written.topic
                && found.get::<_, Vec<u8>>(1)? == written.payload.as_bytes()
                && found.get::<_, Option<String>>(2)? == written.key
                && found.get::<_, String>(3)? == "PENDING")
        },
    )
    .is_ok_and(|same| same)
}
