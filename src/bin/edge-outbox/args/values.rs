//! From an argument's text to what it means.

use std::time::Duration;

use edge_outbox::{ClosedTopics, MessageId, MessageState, Ordering, QoS};

/// A header of a message.
#[derive(Clone, Debug)]
pub struct Header {
    pub name: String,
    pub value: String,
}

/// A message, by its row or by its whole id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowId {
    Row(i64),
    Whole(MessageId),
}

impl RowId {
    pub fn row(self) -> i64 {
        match self {
            RowId::Row(row) => row,
            RowId::Whole(id) => id.row(),
        }
    }
}

pub fn row_id(text: &str) -> Result<RowId, String> {
    match text.parse() {
        Ok(row) if row > 0 => Ok(RowId::Row(row)),
        _ => text
            .parse()
            .map(RowId::Whole)
            .map_err(|_| "a row's number, 1 or more, is expected, or a whole id as in 42-0123456789abcdef".to_owned()),
    }
}

/// A row to begin behind; 0 for the very beginning.
pub fn bound(text: &str) -> Result<i64, String> {
    match text {
        "0" => Ok(0),
        _ => row_id(text).map(RowId::row),
    }
}

pub fn header(text: &str) -> Result<Header, String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE is expected, with an = between them")?;
    Ok(Header { name: name.to_owned(), value: value.to_owned() })
}

pub fn qos(text: &str) -> Result<QoS, String> {
    let level = text.parse().ok().and_then(QoS::from_level);
    level.ok_or_else(|| "0 (at most once), 1 (at least once) or 2 (exactly once) is expected".to_owned())
}

pub fn state(text: &str) -> Result<MessageState, String> {
    match text.to_ascii_lowercase().as_str() {
        "pending" => Ok(MessageState::Pending),
        "sent" => Ok(MessageState::Sent),
        "failed" => Ok(MessageState::Failed),
        "damaged" => Ok(MessageState::Damaged),
        _ => Err("pending, sent, failed or damaged is expected".to_owned()),
    }
}

pub fn ordering(text: &str) -> Result<Ordering, String> {
    match text {
        "per-key" => Ok(Ordering::PerKey),
        "strict" => Ok(Ordering::Strict),
        _ => Err("per-key or strict is expected".to_owned()),
    }
}

pub fn closed_topics(text: &str) -> Result<ClosedTopics, String> {
    match text {
        "hold" => Ok(ClosedTopics::Hold),
        "park" => Ok(ClosedTopics::Park),
        _ => Err("hold or park is expected".to_owned()),
    }
}

pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "a number with a unit is expected, as in 500ms, 30s, 5min, 7d".to_owned())
}

/// A duration of which the unit can be left out.
pub fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => duration(text),
    }
}

pub fn batch(text: &str) -> Result<usize, String> {
    const MOST: usize = 10_000;
    text.parse().ok().filter(|lines| (1..=MOST).contains(lines)).ok_or_else(|| format!("1 to {MOST} is expected"))
}
