//! From what stands in a row to what the program can work with, whatever stands there.
//!
//! CHECKs can be switched off, and cards flip bits: any column may hold any type, and text need not be UTF-8.

use std::time::Duration;

use rusqlite::types::ValueRef;

use super::checksum::Parts;
use super::row::{Content, Row};
use crate::Error;
use crate::message::{MAX_HEADER, MAX_KEY, MAX_TOPIC, Message, MessageId, Payload, QoS};

/// The columns that [`row`] reads, from 0. A text that is longer than allowed is left out, so that it never comes into
/// memory; its length is known all the same.
macro_rules! row_columns {
    () => {
        "id, octet_length(topic), CASE WHEN octet_length(topic) <= 65535 THEN topic END,
         octet_length(key), CASE WHEN octet_length(key) <= 1024 THEN key END,
         octet_length(content_type), octet_length(headers), octet_length(payload), attempts, wait_ms, synced,
         octet_length(response_topic), octet_length(correlation_data)"
    };
}
/// The columns that [`content`] reads, behind those of [`row_columns`]. `:max_payload` bounds the payload.
macro_rules! content_columns {
    () => {
        "status, nonce, checksum, qos, retain,
         CASE WHEN octet_length(content_type) <= 65535 THEN content_type END,
         CASE WHEN octet_length(headers) <= 8388608 THEN headers END,
         CASE WHEN octet_length(payload) <= :max_payload THEN payload END,
         CASE WHEN octet_length(response_topic) <= 65535 THEN response_topic END,
         CASE WHEN octet_length(correlation_data) <= 65535 THEN correlation_data END,
         expires_at, created_at"
    };
}
pub(super) use {content_columns, row_columns};

/// The first column behind those of [`row_columns`], and behind those of [`content_columns`].
pub(super) const AFTER_ROW: usize = 13;
pub(super) const AFTER_CONTENT: usize = AFTER_ROW + 12;

/// How the reason begins for which a damaged row is parked.
pub(crate) const DAMAGED: &str = "damaged: ";

/// Longest JSON text of headers, in bytes: `MAX_HEADERS` with every byte escaped and the brackets, within reason.
const MAX_HEADERS_JSON: usize = 8 * 1024 * 1024;
/// Longest wait that is believed: the longest that can be set.
const MAX_WAIT: Duration = Duration::from_secs(24 * 3600);

/// Headers as they stand in the table: a JSON array of pairs, or NULL for none.
pub(crate) fn headers_to_json(headers: &[(String, String)]) -> Result<Option<String>, Error> {
    if headers.is_empty() { Ok(None) } else { serde_json::to_string(headers).map(Some).map_err(Error::Json) }
}

fn cell<'a>(row: &'a rusqlite::Row<'_>, column: usize) -> ValueRef<'a> {
    row.get_ref(column).unwrap_or(ValueRef::Null) // the statements here have all the columns asked for
}

/// The integer in a column; 0 for anything else.
pub(super) fn integer(row: &rusqlite::Row<'_>, column: usize) -> i64 {
    cell(row, column).as_i64().unwrap_or(0)
}

fn length(row: &rusqlite::Row<'_>, column: usize) -> usize {
    usize::try_from(integer(row, column)).unwrap_or(0)
}

/// The text in a column, which need not be UTF-8; `None` for anything but text.
pub(super) fn text_bytes<'a>(row: &'a rusqlite::Row<'_>, column: usize) -> Option<&'a [u8]> {
    match cell(row, column) {
        ValueRef::Text(bytes) => Some(bytes),
        _ => None,
    }
}

/// The text in a column with what is no UTF-8 replaced; `None` for anything but text.
pub(super) fn lossy(row: &rusqlite::Row<'_>, column: usize) -> Option<String> {
    text_bytes(row, column).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

pub(super) fn row(row: &rusqlite::Row<'_>) -> Row {
    let size = [1, 3, 5, 6, 7, 11, 12].iter().fold(0, |sum: usize, column| sum.saturating_add(length(row, *column)));
    let wait = Duration::from_millis(u64::try_from(integer(row, 9)).unwrap_or(0));
    Row {
        id: integer(row, 0),
        topic: lossy(row, 2).unwrap_or_default().into(),
        key: lossy(row, 4).map(Into::into),
        size,
        attempts: integer(row, 8).clamp(0, i64::from(u32::MAX)) as u32,
        wait: wait.min(MAX_WAIT),
        synced: integer(row, 10) == 1,
        lane_held: false,
    }
}

pub(super) fn content(row: &rusqlite::Row<'_>, max_payload: usize) -> Content {
    match sound(row, max_payload) {
        Ok(Sound { id, message, created_at }) => Content::Message { id, message: Box::new(message), created_at },
        Err(why) => Content::Spoiled(why),
    }
}

struct Sound {
    id: MessageId,
    message: Message,
    created_at: i64,
}

/// The message, or what is wrong with it; never what stands in it, since the reason ends up in logs.
fn sound(row: &rusqlite::Row<'_>, max_payload: usize) -> Result<Sound, String> {
    let column = |nth: usize| AFTER_ROW + nth;
    let status = cell(row, column(0));
    if !matches!(status, ValueRef::Text(b"PENDING" | b"SENT" | b"FAILED")) {
        return Err("damaged: its status is none of PENDING, SENT and FAILED".to_owned());
    }
    let ValueRef::Integer(nonce) = cell(row, column(1)) else {
        return Err("damaged: its nonce is no integer".to_owned());
    };
    let topic = text(row, 2, length(row, 1), MAX_TOPIC, "topic")?.ok_or("damaged: it has no topic")?;
    let key = text(row, 4, length(row, 3), MAX_KEY, "key")?;
    let content_type = text(row, column(5), length(row, 5), MAX_HEADER, "content type")?;
    let json = text(row, column(6), length(row, 6), MAX_HEADERS_JSON, "list of headers")?;
    let qos = (cell(row, column(3)).as_i64().ok())
        .and_then(|level| QoS::from_level(u8::try_from(level).ok()?))
        .ok_or("damaged: its QoS is none of 0, 1 and 2")?;
    let retain = match cell(row, column(4)) {
        ValueRef::Integer(flag @ (0 | 1)) => flag == 1,
        _ => return Err("damaged: its retain flag is neither 0 nor 1".to_owned()),
    };
    let size = length(row, 7);
    let payload = match cell(row, column(7)) {
        ValueRef::Null if size > max_payload => {
            return Err(format!(
                "too large: its payload of {size} bytes is above the setting max_payload, {max_payload}"
            ));
        }
        payload @ (ValueRef::Text(_) | ValueRef::Blob(_)) => payload,
        _ => return Err("damaged: its payload is neither text nor bytes".to_owned()),
    };
    let bytes = payload.as_bytes().unwrap_or_default();
    let response_topic = text(row, column(8), length(row, 11), MAX_TOPIC, "response topic")?;
    let correlation_data = bytes_or_null(row, column(9), length(row, 12), MAX_HEADER, "correlation data")?;
    let parts = Parts {
        topic,
        key,
        headers: json,
        payload: bytes,
        qos: qos.level(),
        retain,
        content_type,
        response_topic,
        correlation_data,
    };
    match cell(row, column(2)) {
        ValueRef::Null => (),
        ValueRef::Integer(sum) if sum == i64::from(parts.checksum()) => (),
        _ => return Err("damaged: it does not match its checksum".to_owned()),
    }
    let headers = match json {
        None => Vec::new(),
        Some(json) => serde_json::from_str::<Vec<(String, String)>>(json)
            .map_err(|_| "its headers are not a JSON array of [name, value] pairs of strings")?,
    };
    let (expiry, created_at) = match (cell(row, column(10)), cell(row, column(11))) {
        (ValueRef::Null, _) => (None, 0),
        (ValueRef::Integer(expires_at), ValueRef::Integer(created_at)) => {
            (Some(span(created_at, expires_at)), created_at)
        }
        _ => return Err("damaged: when it was written or when it expires is no integer".to_owned()),
    };
    let mut message = Message {
        topic: topic.to_owned(),
        payload: match payload {
            // Text that is no UTF-8 can be sent as the bytes it is.
            ValueRef::Text(text) => match std::str::from_utf8(text) {
                Ok(text) => Payload::Text(text.to_owned()),
                Err(_) => Payload::Bytes(text.to_owned()),
            },
            _ => Payload::Bytes(bytes.to_owned()),
        },
        key: key.map(str::to_owned),
        headers,
        content_type: content_type.map(str::to_owned),
        // Set when the rules have been checked: in the table any integer will do, and none of them is damage.
        expiry: None,
        response_topic: response_topic.map(str::to_owned),
        correlation_data: correlation_data.map(<[u8]>::to_vec),
        qos,
        retain,
    };
    // Plain SQL keeps fewer of the rules than `enqueue` does.
    message.check(max_payload).map_err(|broken| broken.to_string())?;
    message.expiry = expiry;
    Ok(Sound { id: MessageId::new(integer(row, 0), nonce), message, created_at })
}

/// The time from one stamp to a later one; none at all to an earlier one.
fn span(from: i64, to: i64) -> Duration {
    Duration::from_millis(u64::try_from(to.saturating_sub(from)).unwrap_or(0))
}

fn bytes_or_null<'a>(
    row: &'a rusqlite::Row<'_>,
    column: usize,
    length: usize,
    most: usize,
    name: &str,
) -> Result<Option<&'a [u8]>, String> {
    match cell(row, column) {
        ValueRef::Null if length > most => Err(too_long(name, length, most)),
        ValueRef::Null => Ok(None),
        ValueRef::Blob(bytes) => Ok(Some(bytes)),
        _ => Err(format!("damaged: its {name} is not bytes")),
    }
}

fn text<'a>(
    row: &'a rusqlite::Row<'_>,
    column: usize,
    length: usize,
    most: usize,
    name: &str,
) -> Result<Option<&'a str>, String> {
    match cell(row, column) {
        ValueRef::Null if length > most => Err(too_long(name, length, most)),
        ValueRef::Null => Ok(None),
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(format!("damaged: its {name} is not UTF-8")),
        },
        _ => Err(format!("damaged: its {name} is not text")),
    }
}

fn too_long(name: &str, length: usize, most: usize) -> String {
    format!("damaged: its {name} is {length} bytes long, at most {most} are allowed")
}
