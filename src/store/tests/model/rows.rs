//! The model: what an outbox is, without a file. The rows stand in a `Vec`, every question goes over all of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::MAX_PAYLOAD;
use super::actions::{Behind, Outcome};
use crate::store::decode::headers_to_json;
use crate::store::{self, Fate, Lane, Status};
use crate::{Message, Payload};

#[derive(Clone, Debug)]
pub(super) struct Row {
    pub id: i64,
    pub status: Status,
    pub attempts: u32,
    pub wait: Duration,
    pub lane: Option<Lane>,
    pub last_error: Option<String>,
    pub synced: bool,
    /// Without its expiry.
    pub message: Message,
    /// What its checksum was made of.
    pub summed: Option<Message>,
    pub expiry: Option<Duration>,
    pub is_over: bool,
    /// What was counted when it was written.
    pub bytes: u64,
    /// By the wall clock; where that is the real one: not known before it was looked at.
    pub status_at: Option<i64>,
    /// How long the device had run in all when it was last acknowledged.
    pub sent: Option<Duration>,
}

impl Row {
    pub fn is_pending(&self) -> bool {
        self.status == Status::Pending
    }

    pub fn is_fresh(&self) -> bool {
        self.is_pending() && self.attempts == 0 && self.lane.is_none()
    }

    pub fn waits(&self) -> bool {
        self.is_pending() && self.attempts > 0 && self.lane.is_none()
    }

    pub fn is_held(&self) -> bool {
        self.is_pending() && self.lane.is_some()
    }

    /// What is to be sent, or how the reason begins for which it is not.
    pub fn content(&self) -> Result<Message, &'static str> {
        if self.message.payload.len() > MAX_PAYLOAD {
            return Err("too large: ");
        }
        match &self.summed {
            Some(summed) if *summed != self.message => Err("damaged: it does not match its checksum"),
            _ => Ok(Message { expiry: self.expiry, ..self.message.clone() }),
        }
    }

    pub fn octets(&self) -> u64 {
        octets(&self.message)
    }

    fn lane_behind(&self, behind: Behind) -> Lane {
        match (behind, &self.message.key) {
            (Behind::Key, Some(key)) => Lane::Key(key.as_str().into()),
            _ => Lane::Topic(self.message.topic.as_str().into()),
        }
    }

    /// What the forwarder would write of it.
    pub fn fate(&self, outcome: Outcome) -> Fate {
        match outcome {
            Outcome::Sent => Fate::Sent,
            Outcome::Failed => Fate::Failed { reason: format!("refused, row {}", self.id) },
            Outcome::Waiting { wait, lane } => {
                let lane = lane.map(|behind| self.lane_behind(behind));
                Fate::Waiting { wait, reason: format!("not now, row {}", self.id), lane }
            }
            Outcome::Held(behind) => Fate::Held { lane: self.lane_behind(behind) },
        }
    }

    /// A row that is settled stays so, but that an acknowledgement counts whatever was thought before.
    pub fn settle(&mut self, fate: &Fate, now: i64, has_run: Duration) {
        let is_open = self.is_pending();
        match fate {
            Fate::Sent if self.status != Status::Sent => {
                (self.status, self.lane, self.status_at, self.sent) = (Status::Sent, None, Some(now), Some(has_run));
                self.attempts += 1;
            }
            Fate::Failed { reason } if is_open => {
                (self.status, self.lane, self.status_at) = (Status::Failed, None, Some(now));
                self.last_error = Some(reason.clone());
                self.attempts += 1;
            }
            Fate::Waiting { wait, reason, lane } if is_open => {
                (self.wait, self.lane, self.last_error) = (*wait, lane.clone(), Some(reason.clone()));
                self.attempts += 1;
            }
            Fate::Held { lane } if is_open => self.lane = Some(lane.clone()),
            _ => {}
        }
    }

    /// PENDING again, by whatever hand.
    pub fn reopen(&mut self) {
        (self.status, self.attempts, self.wait, self.sent) = (Status::Pending, 1, Duration::ZERO, None);
        if self.is_over {
            self.expiry = None;
        }
    }

    /// The newest row stays, without what it said.
    pub fn empty(&mut self) {
        let Message { topic, qos, retain, .. } = &self.message;
        let mut empty = Message::new(topic.as_str(), []).with_qos(*qos);
        empty.retain = *retain;
        (self.message, self.summed, self.expiry, self.is_over) = (empty, None, None, false);
        (self.status, self.status_at, self.last_error) = (Status::Sent, Some(0), Some("discarded".to_owned()));
    }
}

/// What is counted of a message.
pub(super) fn octets(message: &Message) -> u64 {
    let headers = headers_to_json(&message.headers).expect("pairs of text").map_or(0, |json| json.len());
    let plain = Message { headers: Vec::new(), ..message.clone() };
    (plain.size() + headers) as u64
}

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    /// In the order of their ids, of which none is given twice.
    pub rows: Vec<Row>,
    /// The position that is stored.
    pub position: i64,
}

impl Model {
    pub fn newest(&self) -> i64 {
        self.rows.last().map_or(0, |row| row.id)
    }

    pub fn add(&mut self, message: Message, checked: bool, synced: bool) -> &mut Row {
        let summed = checked.then(|| Message { expiry: None, ..message.clone() });
        let bytes = octets(&message);
        let (expiry, message) = (message.expiry, Message { expiry: None, ..message });
        self.rows.push(Row {
            id: self.newest() + 1,
            status: Status::Pending,
            attempts: 0,
            wait: Duration::ZERO,
            lane: None,
            last_error: None,
            synced,
            message,
            summed,
            expiry,
            is_over: false,
            bytes,
            status_at: None,
            sent: None,
        });
        self.rows.last_mut().expect("it was pushed")
    }

    pub fn row(&mut self, id: i64) -> Option<&mut Row> {
        let at = self.rows.binary_search_by_key(&id, |row| row.id).ok()?;
        self.rows.get_mut(at)
    }

    /// Every row up to here was dealt with.
    pub fn dealt_with(&self) -> i64 {
        let fresh = self.rows.iter().find(|row| row.is_fresh());
        fresh.map_or(self.newest(), |row| row.id - 1)
    }

    pub fn pending(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.is_pending())
    }

    /// The rows of each lane, in the order of the lanes' texts.
    pub fn lanes(&self) -> BTreeMap<String, Vec<&Row>> {
        let mut lanes: BTreeMap<String, Vec<&Row>> = BTreeMap::new();
        for row in self.rows.iter().filter(|row| row.is_held()) {
            lanes.entry(row.lane.as_ref().expect("it is held").to_string()).or_default().push(row);
        }
        lanes
    }

    /// As the store tells of it, but for what it looks up in other rows.
    pub fn told(&self, row: &Row) -> store::Row {
        store::Row {
            id: row.id,
            topic: row.message.topic.as_str().into(),
            key: row.message.key.as_deref().map(Arc::from),
            size: row.octets() as usize,
            attempts: row.attempts,
            wait: row.wait,
            synced: row.synced,
            lane_held: false,
        }
    }

    /// Deletes these, but for the newest.
    pub fn delete(&mut self, goes: impl Fn(&Row) -> bool) -> usize {
        let (before, newest) = (self.rows.len(), self.newest());
        self.rows.retain(|row| row.id == newest || !goes(row));
        before - self.rows.len()
    }
}

/// Another message of the same length.
pub(super) fn changed(text: &str) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    if let Some(last) = letters.last_mut() {
        *last = if *last == 'x' { 'y' } else { 'x' };
    }
    letters.into_iter().collect()
}

/// The same of a payload.
pub(super) fn changed_payload(payload: &Payload) -> Payload {
    match payload {
        Payload::Text(text) => Payload::Text(changed(text)),
        Payload::Bytes(bytes) => {
            let mut bytes = bytes.clone();
            if let Some(last) = bytes.last_mut() {
                *last ^= 1;
            }
            Payload::Bytes(bytes)
        }
    }
}
