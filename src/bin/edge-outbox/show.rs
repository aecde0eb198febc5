//! One message, with all that it says.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::SystemTime;

use edge_outbox::inspector::{Filter, MessageSummary};
use edge_outbox::{Inspector, Message, StoredMessage};

use crate::args::{RowId, Show};
use crate::failure::Failure;
use crate::json;
use crate::output::{age, bytes, count, duration, hex, line, lines, stamp};
use crate::words;

/// Of a payload of text.
const MOST_TEXT: usize = 4096;
/// Of any other.
const MOST_BYTES: usize = 256;

pub fn run(args: Show) -> Result<ExitCode, Failure> {
    let inspector = args.database.inspect()?;
    let failed = |error| args.database.failure(&error);
    let row = args.id.row();
    let summary = summary(&inspector, row).map_err(failed)?;
    let stored = inspector.message(row).map_err(failed)?;
    let (Some(summary), Some(stored)) = (summary, stored) else {
        let newest = inspector.newest().map_err(failed)?;
        return Err(Failure::no(args.database.says(missing(row, newest))));
    };
    if let RowId::Whole(id) = args.id {
        if id != summary.id {
            return Err(Failure::no(args.database.says(format_args!(
                "row {row} is the message {}, and not {id}: is that of another database, or of a copy of this one?",
                summary.id
            ))));
        }
    }
    let mut out = io::stdout().lock();
    if args.json {
        json::print(&mut out, &json::Whole::new(&stored, &summary))?;
    } else if args.raw {
        match &stored.message {
            Ok(message) => out.write_all(message.payload.as_bytes())?,
            Err(why) => {
                return Err(Failure::no(
                    args.database.says(format_args!("row {row} has no payload to be sent: {}", line(why))),
                ));
            }
        }
    } else {
        print(&mut out, &stored, &summary)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn summary(inspector: &Inspector, row: i64) -> Result<Option<MessageSummary>, edge_outbox::Error> {
    let found = inspector.messages(&Filter::default(), row.saturating_sub(1), 1)?;
    Ok(found.into_iter().find(|summary| summary.id.row() == row))
}

fn missing(row: i64, newest: i64) -> String {
    let of_newest = match newest {
        0 => "there are none at all".to_owned(),
        newest => format!("the newest is row {newest}"),
    };
    match row > newest {
        true => format!("there was no row {row} yet: {of_newest}"),
        false => format!("row {row} is not there any more: it was sent and then purged, or discarded ({of_newest})"),
    }
}

fn print(out: &mut impl Write, stored: &StoredMessage, summary: &MessageSummary) -> io::Result<()> {
    let mut field = |label: &str, text: &str| writeln!(out, "{label:<18}{}", line(text));
    let none = || "-".to_owned();
    field("id", &summary.id.to_string())?;
    field("status", &format!("{}, {}", words::state(summary.state), when(summary.since)))?;
    field("enqueued", &when(summary.created_at))?;
    field("topic", &summary.topic)?;
    field("key", &summary.key.clone().unwrap_or_else(none))?;
    field("qos", &summary.qos.map_or_else(none, |qos| qos.level().to_string()))?;
    field("retain", if summary.retain { "yes" } else { "no" })?;
    field("size", &bytes(summary.size))?;
    field("attempts", &count(summary.attempts.into()))?;
    field("last error", &summary.last_error.clone().unwrap_or_else(none))?;
    field("waits behind", &summary.held_by.clone().unwrap_or_else(none))?;
    let message = match &stored.message {
        Ok(message) => message,
        Err(why) => return field("cannot be sent", why),
    };
    field("content type", &message.content_type.clone().unwrap_or_else(none))?;
    field("expiry", &message.expiry.map_or_else(none, |expiry| format!("{} after it was enqueued", duration(expiry))))?;
    field("response topic", &message.response_topic.clone().unwrap_or_else(none))?;
    field("correlation data", &message.correlation_data.as_deref().map_or_else(none, short))?;
    for (nth, (name, value)) in message.headers.iter().enumerate() {
        field(if nth == 0 { "headers" } else { "" }, &format!("{name}: {value}"))?;
    }
    payload(out, message)
}

fn when(time: SystemTime) -> String {
    let at = stamp(time).unwrap_or_else(|| "in a year that cannot be".to_owned());
    match age(time) {
        Some(age) => format!("{} ago ({at})", duration(age)),
        None => format!("in the future ({at})"),
    }
}

fn short(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("{} (hexadecimal)", hex(bytes)),
    }
}

/// Last, and each line of it set in, so that nothing that it says can be taken for one of the fields.
fn payload(out: &mut impl Write, message: &Message) -> io::Result<()> {
    let whole = message.payload.as_bytes();
    let size = bytes(whole.len() as u64);
    let more = |shown: usize| match shown < whole.len() {
        true => format!(", the first {} here, all with --raw", bytes(shown as u64)),
        false => String::new(),
    };
    match std::str::from_utf8(whole) {
        Ok("") => writeln!(out, "{:<18}empty", "payload"),
        Ok(text) => {
            let shown = start(text, MOST_TEXT);
            writeln!(out, "{:<18}{size} of text{}:", "payload", more(shown.len()))?;
            lines(shown).split('\n').try_for_each(|line| writeln!(out, "  {line}"))
        }
        Err(_) => {
            let shown = whole.get(..MOST_BYTES).unwrap_or(whole);
            writeln!(out, "{:<18}{size} that are no text{}:", "payload", more(shown.len()))?;
            shown.chunks(16).enumerate().try_for_each(|(nth, chunk)| writeln!(out, "  {}", dump(nth * 16, chunk)))
        }
    }
}

/// At most so many bytes, and whole characters.
fn start(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

/// `00000010  48 61 6c 6c 6f …  Hallo`
fn dump(offset: usize, bytes: &[u8]) -> String {
    let hex: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let text: String = bytes
        .iter()
        .map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' })
        .collect();
    format!("{offset:08x}  {:<47}  {text}", hex.join(" "))
}
