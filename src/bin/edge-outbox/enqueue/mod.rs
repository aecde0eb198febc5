//! Writing messages: one, or one for each line of standard input.
//!
//! What is to be written is read first and written then: the lock of the database is never held while waiting for input.

mod gathering;
mod lines;
mod reader;
mod source;

use std::io::{self, Write};
use std::process::ExitCode;

use edge_outbox::{Message, Outbox, Payload, Settings};

use crate::args::Enqueue;
use crate::enqueue::source::Source;
use crate::failure::Failure;

pub fn run(args: Enqueue) -> Result<ExitCode, Failure> {
    let settings = args.settings.settings(&args.database)?;
    let max_payload = settings.max_payload;
    let mut message = message(&args);
    // Before anything is created, or read that could not be read again.
    message.check(max_payload).map_err(Failure::usage)?;
    if args.lines {
        let outbox = open(&args, settings)?;
        lines::run(&args, &outbox, message)?;
    } else {
        let source = Source::of(args.payload.as_deref(), args.file.as_deref())?;
        let outbox = open(&args, settings)?;
        message.payload = payload(source.read(max_payload)?);
        one(&args, &outbox, &message)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn one(args: &Enqueue, outbox: &Outbox, message: &Message) -> Result<(), Failure> {
    let written = outbox.transaction(|tx| outbox.enqueue(tx, message));
    let row = written.map_err(|error| args.database.failure(&error))?.row();
    let mut out = io::stdout().lock();
    writeln!(out, "{row}").and_then(|()| out.flush()).map_err(|error| {
        Failure::no(format_args!("row {row} is in, but standard output does not take its number: {error}"))
    })
}

/// What the arguments say, for each payload.
fn message(args: &Enqueue) -> Message {
    let mut message = Message::new(&*args.topic, []).with_qos(args.qos);
    message.key.clone_from(&args.key);
    message.headers = args.headers.iter().map(|header| (header.name.clone(), header.value.clone())).collect();
    message.content_type.clone_from(&args.content_type);
    message.expiry = args.expiry;
    message.response_topic.clone_from(&args.response_topic);
    message.correlation_data = args.correlation_data.as_ref().map(|data| data.clone().into_bytes());
    message.retain = args.retain;
    message
}

fn open(args: &Enqueue, settings: Settings) -> Result<Outbox, Failure> {
    let builder = Outbox::builder(&args.database.path).settings(settings);
    let builder = if args.create { builder } else { builder.existing() };
    builder.open().map_err(|error| args.database.failure(&error))
}

/// Text where it is text: so it stands in the table.
fn payload(bytes: Vec<u8>) -> Payload {
    String::from_utf8(bytes).map_or_else(|bytes| Payload::Bytes(bytes.into_bytes()), Payload::Text)
}
