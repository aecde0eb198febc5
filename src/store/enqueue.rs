//! Writing a message into the application's transaction.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::process;
use std::time::Duration;

use rusqlite::{Connection, ToSql};

use super::budget::{self, Budget};
use super::checksum::Parts;
use super::read::limit;
use super::{decode, now_ms};
use crate::Error;
use crate::message::{Message, MessageId, Payload};

/// The running total of the newest row and the bytes of this one. A total that cannot be is damaged: the sum begins anew,
/// for no message may be refused for it.
macro_rules! total_bytes {
    () => {
        "ifnull((SELECT CASE WHEN typeof(total_bytes) = 'integer' AND total_bytes BETWEEN 0 AND 9007199254740991
                             THEN total_bytes END
                 FROM main.outbox ORDER BY id DESC LIMIT 1), 0) + ?1"
    };
}

const INSERT: &str = concat!(
    "
    INSERT INTO main.outbox (bytes, total_bytes, synced, nonce, checksum, qos, retain, topic, key, content_type, headers,
                             payload)
    VALUES (?1, ",
    total_bytes!(),
    ", ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
);

/// For the messages that have one of the three columns more, so that the others need not pay for it. To SQLite it is the
/// same instant throughout a statement: `expires_at` counts from exactly the default of `created_at`.
const INSERT_WITH_PROPERTIES: &str = concat!(
    "
    INSERT INTO main.outbox (bytes, total_bytes, synced, nonce, checksum, qos, retain, topic, key, content_type, headers,
                             payload, response_topic, correlation_data, expires_at)
    VALUES (?1, ",
    total_bytes!(),
    ", ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13,
            CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) + ?14)"
);

/// Checks the message and the budget, and writes it as the newest row, in whatever transaction stands on `conn`.
pub(crate) fn enqueue(
    conn: &Connection,
    message: &Message,
    max_payload: usize,
    budget: &Budget,
) -> Result<MessageId, Error> {
    message.check(max_payload)?;
    let headers = decode::headers_to_json(&message.headers)?;
    let bytes = bytes(message, headers.as_deref());
    budget::admit(conn, bytes.unsigned_abs(), budget)?;
    let checksum = Parts {
        topic: &message.topic,
        key: message.key.as_deref(),
        headers: headers.as_deref(),
        payload: message.payload.as_bytes(),
        qos: message.qos.level(),
        retain: message.retain,
        content_type: message.content_type.as_deref(),
        response_topic: message.response_topic.as_deref(),
        correlation_data: message.correlation_data.as_deref(),
    }
    .checksum();
    let payload: &dyn ToSql = match &message.payload {
        Payload::Bytes(bytes) => bytes,
        Payload::Text(text) => text,
    };
    let nonce = nonce();
    let synced = commits_are_synced(conn)?;
    let level = message.qos.level();
    let common: [&dyn ToSql; 11] = [
        &bytes,
        &synced,
        &nonce,
        &checksum,
        &level,
        &message.retain,
        &message.topic,
        &message.key,
        &message.content_type,
        &headers,
        payload,
    ];
    let expiry = message.expiry.map(whole_ms);
    let row = match (&message.response_topic, &message.correlation_data, &expiry) {
        (None, None, None) => conn.prepare_cached(INSERT)?.insert(&common[..])?,
        (response_topic, correlation_data, expiry) => {
            let properties: [&dyn ToSql; 3] = [response_topic, correlation_data, expiry];
            conn.prepare_cached(INSERT_WITH_PROPERTIES)?.insert(&*[&common[..], &properties].concat())?
        }
    };
    Ok(MessageId::new(row, nonce))
}

/// What the message has in the column `bytes`.
fn bytes(message: &Message, headers: Option<&str>) -> i64 {
    let lengths = [
        message.topic.len(),
        message.payload.len(),
        message.key.as_ref().map_or(0, String::len),
        message.content_type.as_ref().map_or(0, String::len),
        headers.map_or(0, str::len),
        message.response_topic.as_ref().map_or(0, String::len),
        message.correlation_data.as_ref().map_or(0, Vec::len),
    ];
    lengths.into_iter().fold(0, |sum, length| sum.saturating_add(limit(length)))
}

/// A part of a millisecond counts as a whole: a message never expires before its time.
fn whole_ms(expiry: Duration) -> i64 {
    i64::try_from(expiry.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
}

/// Whether this connection syncs its commits: FULL or EXTRA. Asked for each message, since the application may change
/// it between any two transactions.
fn commits_are_synced(conn: &Connection) -> Result<bool, Error> {
    let level: i64 = conn.pragma_query_value(Some("main"), "synchronous", |row| row.get(0))?;
    Ok(level >= 2)
}

/// 64 bits that nobody else draws: keys from the operating system per thread, the time and the process in case a
/// machine was copied or forked with the keys in its memory.
fn nonce() -> i64 {
    thread_local! {
        static KEYS: RandomState = RandomState::new();
        static DRAWN: Cell<u64> = const { Cell::new(0) };
    }
    let drawn = DRAWN.get().wrapping_add(1);
    DRAWN.set(drawn);
    let bits = KEYS.with(|keys| keys.hash_one((drawn, process::id(), now_ms())));
    i64::from_ne_bytes(bits.to_ne_bytes())
}
