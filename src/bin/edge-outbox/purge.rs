//! Deleting sent messages.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::args::Purge;
use crate::failure::{Failure, OK, told};
use crate::output::counted;

pub fn run(args: Purge) -> Result<ExitCode, Failure> {
    let Purge { database, older_than } = args;
    let outbox = database.mend()?;
    let purged = outbox.purge(older_than).map_err(|error| database.failure(&error))?;
    let mut out = io::stdout().lock();
    let done = match purged {
        0 => "no sent message to delete (the newest row of all stays)".to_owned(),
        purged => format!("deleted {}", counted(purged, "sent message")),
    };
    let mut written = writeln!(out, "{done}");
    if purged > 0 && written.is_ok() {
        let file = database.shown();
        written = writeln!(
            out,
            "Their room is for new messages. The file gets smaller, while nothing else uses it, by: sqlite3 {file} VACUUM"
        );
    }
    told(written, OK, done)
}
