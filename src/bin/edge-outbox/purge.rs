//! Deleting sent messages.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::args::Purge;
use crate::failure::Failure;
use crate::output::counted;

pub fn run(args: Purge) -> Result<ExitCode, Failure> {
    let Purge { database, older_than } = args;
    let outbox = database.mend()?;
    let purged = outbox.purge(older_than).map_err(|error| database.failure(&error))?;
    let mut out = io::stdout().lock();
    match purged {
        0 => writeln!(out, "no sent message to delete (the newest row of all stays)")?,
        purged => writeln!(out, "deleted {}", counted(purged, "sent message"))?,
    }
    if purged > 0 {
        let file = database.shown();
        writeln!(
            out,
            "Their room is for new messages. The file gets smaller, while nothing else uses it, by: sqlite3 {file} VACUUM"
        )?;
    }
    Ok(ExitCode::SUCCESS)
}
