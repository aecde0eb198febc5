//! Making failed messages pending again.

use std::io::{self, Write};
use std::process::ExitCode;

use edge_outbox::Error;

use crate::args::Retry;
use crate::failed::{Named, messages};
use crate::failure::{Failure, NO, say};

pub fn run(args: Retry) -> Result<ExitCode, Failure> {
    let Retry { database, ids, all } = args;
    let failure = |error| database.failure(&error);
    let outbox = database.mend()?;
    let mut out = io::stdout().lock();
    if all {
        let retried = outbox.retry_all().map_err(failure)?;
        writeln!(out, "made {} pending again", messages(retried))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut named = Named::of(&outbox, &database, &ids)?;
    let mut retried = 0;
    for row in std::mem::take(&mut named.rows) {
        match outbox.retry(row) {
            Ok(()) => retried += 1,
            Err(Error::NoSuchMessage { .. }) => named.is_wrong(format!("row {row} is not failed any more")),
            Err(error) => {
                say(format_args!("made {} pending again before that:", messages(retried)));
                return Err(failure(error));
            }
        }
    }
    writeln!(out, "made {} pending again", messages(retried))?;
    Ok(if named.wrong == 0 { ExitCode::SUCCESS } else { ExitCode::from(NO) })
}
