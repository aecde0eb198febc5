//! What people do to an outbox, on the store and on the model: with what it offers for that, and by hand.

use std::time::Duration;

use rusqlite::params;

use super::actions::{Action, Change, Part, Pick};
use super::play::{World, sql_payload};
use super::rows::{Row, changed, changed_payload};
use super::same;
use crate::Message;
use crate::message::QoS;
use crate::store::decode::headers_to_json;
use crate::store::{self, Status};

impl World {
    pub fn administrate(&mut self, action: &Action) -> Result<(), String> {
        let failed = |row: &Row| row.status == Status::Failed;
        let newest = self.model.newest();
        match action {
            Action::Retry(pick) => {
                let Some(row) = self.pick(*pick) else { return Ok(()) };
                let (id, may) = (row.id, failed(row));
                if may {
                    row.reopen();
                    row.status_at = None;
                }
                same("a retry", store::retry(&self.app, id).is_ok(), may)
            }
            Action::RetryAll => {
                let rows = self.model.rows.iter_mut().filter(|row| failed(row));
                let count = rows.map(|row| {
                    row.reopen();
                    row.status_at = None;
                });
                same("retries", count.count(), store::retry_all(&self.app).map_err(|e| e.to_string())?)
            }
            Action::Discard(pick) => {
                let Some(row) = self.pick(*pick) else { return Ok(()) };
                let (id, may) = (row.id, failed(row));
                match may {
                    true if id == newest => row.empty(),
                    true => drop(self.model.delete(|row| row.id == id)),
                    false => {}
                }
                same("a message discarded", store::discard(&self.app, id).is_ok(), may)
            }
            _ => {
                let last = store::last_failed(&self.app).map_err(|e| e.to_string())?;
                same("the last FAILED", last, self.model.rows.iter().rfind(|row| failed(row)).map(|row| row.id))?;
                let (mut after, mut discarded) = (0, 0);
                while let Some(last) = last {
                    let tx = self.app.transaction().expect("begins");
                    let (gone, upto) = store::discard_some(&tx, after, last).map_err(|e| e.to_string())?;
                    tx.commit().expect("commits");
                    discarded += gone;
                    let Some(upto) = upto else { break };
                    after = upto;
                }
                let mut gone = self.model.delete(failed);
                if let Some(row) = self.model.rows.last_mut().filter(|row| failed(row)) {
                    row.empty();
                    gone += 1;
                }
                same("messages discarded", discarded, gone)
            }
        }
    }

    /// By hand.
    pub fn edit(&mut self, action: &Action) {
        match action {
            Action::SetStatus(pick, status) => {
                let Some(row) = self.pick(*pick) else { return };
                let id = row.id;
                match status {
                    Status::Pending if row.status == Status::Pending => {}
                    Status::Pending => row.reopen(),
                    settled => (row.status, row.lane) = (*settled, None),
                }
                self.sql("UPDATE outbox SET status = ?2 WHERE id = ?1", params![id, status.word()]);
            }
            Action::Release(pick) => {
                let Some(row) = self.pick(*pick) else { return };
                let id = row.id;
                if row.lane.take().is_some() && row.attempts == 0 {
                    (row.attempts, row.wait) = (1, Duration::ZERO);
                }
                self.sql("UPDATE outbox SET held_by = NULL WHERE id = ?1", [id]);
            }
            Action::Uncount(pick) => {
                let Some(row) = self.pick(*pick) else { return };
                let id = row.id;
                if row.attempts > 0 {
                    row.attempts = 0;
                    if row.is_pending() && row.lane.is_none() {
                        (row.attempts, row.wait) = (1, Duration::ZERO);
                    }
                }
                self.sql("UPDATE outbox SET attempts = 0 WHERE id = ?1", [id]);
            }
            Action::Change(parts, how) => parts.iter().for_each(|(pick, part)| self.change(*pick, *part, *how)),
            _ => unreachable!("no edit"),
        }
    }

    fn change(&mut self, pick: Pick, part: Part, how: Change) {
        let Some(row) = self.pick(pick) else { return };
        let (id, before) = (row.id, row.message.clone());
        change(&mut row.message, part);
        if let (Change::Edit, true) = (how, row.message != before) {
            row.summed = None;
        }
        let message = row.message.clone();
        self.write_over(id, &message, how);
    }

    fn write_over(&self, id: i64, message: &Message, how: Change) {
        let sum: Option<i64> =
            self.app.query_row("SELECT checksum FROM outbox WHERE id = ?1", [id], |row| row.get(0)).expect("it stands");
        self.sql(
            "UPDATE outbox SET topic = ?2, payload = ?3, key = ?4, headers = ?5, content_type = ?6, response_topic = ?7,
                               correlation_data = ?8, qos = ?9, retain = ?10 WHERE id = ?1",
            params![
                id,
                message.topic,
                sql_payload(&message.payload),
                message.key,
                headers_to_json(&message.headers).expect("pairs of text"),
                message.content_type,
                message.response_topic,
                message.correlation_data,
                message.qos.level(),
                message.retain
            ],
        );
        if let Change::Damage = how {
            self.sql("UPDATE outbox SET checksum = ?2 WHERE id = ?1", params![id, sum]);
        }
    }

    /// As somebody asks for it: by the wall clock alone.
    pub fn purge(&mut self, ago: i64) -> Result<(), String> {
        let (now, then) = (self.now, self.now - ago);
        let (mut after, mut purged) = (0, 0);
        loop {
            let (sent, upto) = store::sent_before(&self.app, after, then, now).map_err(|e| e.to_string())?;
            let tx = self.app.transaction().expect("begins");
            purged += store::delete_sent(&tx, &sent).map_err(|e| e.to_string())?;
            tx.commit().expect("commits");
            let Some(upto) = upto else { break };
            after = upto;
        }
        let gone = self.model.delete(|row| {
            let at = row.status_at.expect("it was looked at");
            row.status == Status::Sent && (at <= then || at > now)
        });
        same("rows purged", purged, gone)
    }
}

/// That part in another way; nothing where there is none.
fn change(message: &mut Message, part: Part) {
    let change = |text: &mut String| *text = changed(text);
    match part {
        Part::Topic => change(&mut message.topic),
        Part::Key => message.key.iter_mut().for_each(change),
        Part::Headers => message.headers.iter_mut().for_each(|(_, value)| change(value)),
        Part::Payload => message.payload = changed_payload(&message.payload),
        Part::QoS => message.qos = QoS::from_level((message.qos.level() + 1) % 3).expect("0, 1 or 2"),
        Part::Retain => message.retain = !message.retain,
        Part::ContentType => message.content_type.iter_mut().for_each(change),
        Part::ResponseTopic => message.response_topic.iter_mut().for_each(change),
        Part::CorrelationData => message.correlation_data.iter_mut().flatten().for_each(|byte| *byte ^= 1),
    }
}
