//! The JSON forms. docs/command-line.md tells of each key, and a test compares the two.

use std::io::Write;
use std::time::{Duration, Instant, SystemTime};

use edge_outbox::inspector::{Figures, Files, Forwarder, MessageSummary};
use edge_outbox::{ClosedTopic, FailedMessage, LinkState, StoredMessage};
use serde::Serialize;

use crate::failure::Failure;
use crate::output::{self, hex};
use crate::words;

/// Goes up when a key vanishes or means something else; not when there is a new one.
const FORMAT: u32 = 1;

/// One object in one line. It may be read by a person, so that what a terminal would obey is written as JSON's `\u`.
pub fn print(out: &mut impl Write, form: &impl Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string(form).map_err(Failure::no)?;
    if text.chars().any(output::is_hidden) {
        text = text.chars().fold(String::with_capacity(text.len()), |mut plain, c| {
            match output::is_hidden(c) {
                true => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| plain.push_str(&format!("\\u{unit:04x}"))),
                false => plain.push(c),
            }
            plain
        });
    }
    Ok(writeln!(out, "{text}")?)
}

#[derive(Serialize)]
pub struct Status<'a> {
    format: u32,
    time: Option<String>,
    database: &'a str,
    error: Option<&'a str>,
    counted_at: Option<String>,
    schema_version: Option<i64>,
    pending: Option<u64>,
    pending_bytes: Option<u64>,
    waiting: Option<u64>,
    held: Option<u64>,
    failed: Option<u64>,
    sent: Option<u64>,
    unreadable: Option<u64>,
    oldest_pending_ms: Option<u64>,
    last_failed: Option<Failed<'a>>,
    database_bytes: Option<u64>,
    log_bytes: Option<u64>,
    reserve_bytes: Option<u64>,
    free_bytes: Option<u64>,
    forwarder: Active<'a>,
}

/// What the tables say, as far as they can be read.
pub struct Counted<'a> {
    pub figures: Option<(SystemTime, &'a Figures)>,
    pub unreadable: Option<u64>,
}

impl<'a> Status<'a> {
    pub fn new(
        database: &'a str,
        error: Option<&'a str>,
        counted: Counted<'a>,
        files: Option<&Files>,
        forwarder: &'a Forwarder,
    ) -> Self {
        let (at, figures) = counted.figures.unzip();
        Status {
            format: FORMAT,
            time: output::stamp(SystemTime::now()),
            database,
            error,
            counted_at: at.and_then(output::stamp),
            schema_version: figures.map(|found| found.version),
            pending: figures.map(|found| found.pending),
            pending_bytes: figures.map(|found| found.pending_bytes),
            waiting: figures.map(|found| found.waiting),
            held: figures.map(|found| found.held),
            failed: figures.map(|found| found.failed),
            sent: figures.map(|found| found.sent),
            unreadable: counted.unreadable,
            oldest_pending_ms: figures.and_then(|found| found.oldest_pending).map(ms),
            last_failed: figures.and_then(|found| found.last_failed.as_ref()).map(Failed::from),
            database_bytes: files.map(|files| files.database),
            log_bytes: files.map(|files| files.log),
            reserve_bytes: files.map(|files| files.reserve),
            free_bytes: files.map(|files| files.free).filter(|free| *free < u64::MAX),
            forwarder: Active::from(forwarder),
        }
    }
}

#[derive(Serialize)]
struct Failed<'a> {
    id: String,
    row: i64,
    topic: &'a str,
    key: Option<&'a str>,
    reason: &'a str,
    attempts: u32,
    size_bytes: u64,
    created_at: Option<String>,
    failed_at: Option<String>,
}

impl<'a> From<&'a FailedMessage> for Failed<'a> {
    fn from(failed: &'a FailedMessage) -> Self {
        Failed {
            id: failed.id.to_string(),
            row: failed.id.row(),
            topic: &failed.topic,
            key: failed.key.as_deref(),
            reason: &failed.reason,
            attempts: failed.attempts,
            size_bytes: failed.size,
            created_at: output::stamp(failed.created_at),
            failed_at: output::stamp(failed.failed_at),
        }
    }
}

#[derive(Default, Serialize)]
struct Active<'a> {
    state: &'static str,
    why: Option<&'a str>,
    process: Option<u32>,
    active_ms: Option<u64>,
    role: Option<&'static str>,
    link: Option<&'static str>,
    link_why: Option<&'a str>,
    offline_ms: Option<u64>,
    next_try_ms: Option<u64>,
    storage: Option<&'static str>,
    storage_why: Option<&'a str>,
    panicked: Option<&'a str>,
    sent: Option<u64>,
    damaged: Option<u64>,
    in_flight: Option<u64>,
    reconnects: Option<u64>,
    closed_topics: Option<Vec<Closed<'a>>>,
    closed_topics_count: Option<u64>,
}

#[derive(Serialize)]
struct Closed<'a> {
    topic: &'a str,
    reason: &'a str,
}

impl<'a> From<&'a ClosedTopic> for Closed<'a> {
    fn from(closed: &'a ClosedTopic) -> Self {
        Closed { topic: &closed.topic, reason: &closed.reason }
    }
}

impl<'a> From<&'a Forwarder> for Active<'a> {
    fn from(forwarder: &'a Forwarder) -> Self {
        let live = match forwarder {
            Forwarder::None => return Active { state: "none", ..Active::default() },
            Forwarder::Silent(why) => return Active { state: "silent", why: Some(why), ..Active::default() },
            Forwarder::Active(live) => live,
            _ => return Active { state: words::UNKNOWN, ..Active::default() },
        };
        let status = &live.status;
        let (link, link_why) = words::link(&status.link);
        let (storage, storage_why) = words::storage(&status.storage);
        let until = |at: &Instant| ms(at.saturating_duration_since(Instant::now()));
        let (offline_ms, next_try_ms) = match &status.link {
            LinkState::Offline { since, next_try, .. } | LinkState::Refused { since, next_try, .. } => {
                (Some(ms(since.elapsed())), Some(until(next_try)))
            }
            LinkState::TopicsClosed { next_try, .. } => (None, Some(until(next_try))),
            _ => (None, None),
        };
        Active {
            state: "active",
            why: None,
            process: Some(live.process),
            active_ms: Some(ms(live.active_for)),
            role: Some(words::role(status.role)),
            link: Some(link),
            link_why,
            offline_ms,
            next_try_ms,
            storage: Some(storage),
            storage_why,
            panicked: status.failed.as_deref(),
            sent: Some(live.sent),
            damaged: Some(live.damaged),
            in_flight: Some(live.in_flight),
            reconnects: Some(live.reconnects),
            closed_topics_count: Some(live.closed_topics),
            closed_topics: Some(status.closed_topics.iter().map(Closed::from).collect()),
        }
    }
}

/// A message in a list.
#[derive(Serialize)]
pub struct Summary<'a> {
    format: u32,
    id: String,
    row: i64,
    status: &'static str,
    status_at: Option<String>,
    created_at: Option<String>,
    topic: &'a str,
    key: Option<&'a str>,
    qos: Option<u8>,
    retain: bool,
    size_bytes: u64,
    attempts: u32,
    last_error: Option<&'a str>,
    held_by: Option<&'a str>,
}

impl<'a> From<&'a MessageSummary> for Summary<'a> {
    fn from(row: &'a MessageSummary) -> Self {
        Summary {
            format: FORMAT,
            id: row.id.to_string(),
            row: row.id.row(),
            status: words::state(row.state),
            status_at: match words::is_discarded(row.state, row.since, row.last_error.as_deref()) {
                true => None,
                false => output::stamp(row.since),
            },
            created_at: output::stamp(row.created_at),
            topic: &row.topic,
            key: row.key.as_deref(),
            qos: row.qos.map(edge_outbox::QoS::level),
            retain: row.retain,
            size_bytes: row.size,
            attempts: row.attempts,
            last_error: row.last_error.as_deref(),
            held_by: row.held_by.as_deref(),
        }
    }
}

/// All of a message.
#[derive(Serialize)]
pub struct Whole<'a> {
    #[serde(flatten)]
    summary: Summary<'a>,
    unsendable: Option<&'a str>,
    content_type: Option<&'a str>,
    expiry_ms: Option<u64>,
    response_topic: Option<&'a str>,
    correlation_data: Option<&'a str>,
    correlation_data_hex: Option<String>,
    headers: Option<&'a [(String, String)]>,
    payload_bytes: Option<u64>,
    payload: Option<&'a str>,
    payload_hex: Option<String>,
}

impl<'a> Whole<'a> {
    /// `summary` is of the same row.
    pub fn new(stored: &'a StoredMessage, summary: &'a MessageSummary) -> Self {
        let message = stored.message.as_ref().ok();
        let (payload, payload_hex) = text_or_hex(message.map(|message| message.payload.as_bytes()));
        let (correlation_data, correlation_data_hex) =
            text_or_hex(message.and_then(|message| message.correlation_data.as_deref()));
        Whole {
            summary: Summary::from(summary),
            unsendable: stored.message.as_ref().err().map(String::as_str),
            content_type: message.and_then(|message| message.content_type.as_deref()),
            expiry_ms: message.and_then(|message| message.expiry).map(ms),
            response_topic: message.and_then(|message| message.response_topic.as_deref()),
            correlation_data,
            correlation_data_hex,
            headers: message.map(|message| message.headers.as_slice()),
            payload_bytes: message.map(|message| message.payload.len() as u64),
            payload,
            payload_hex,
        }
    }
}

fn text_or_hex(bytes: Option<&[u8]>) -> (Option<&str>, Option<String>) {
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => (None, None),
        Some((Ok(text), _)) => (Some(text), None),
        Some((Err(_), bytes)) => (None, Some(hex(bytes))),
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
