//! Making failed messages pending again.

use std::io::{self, Write};
use std::process::ExitCode;

use edge_outbox::Error;

use crate::args::Retry;
use crate::failed::{Named, messages};
use crate::failure::{Failure, NO, OK, told};

pub fn run(args: Retry) -> Result<ExitCode, Failure> {
    let Retry { database, ids, all } = args;
    let failure = |error| database.failure(&error);
    let outbox = database.mend()?;
    if all {
        let retried = outbox.retry_all().map_err(failure)?;
        return done(retried, OK);
    }
    let mut named = Named::of(&outbox, &database, &ids)?;
    let mut retried = 0;
    for row in std::mem::take(&mut named.rows) {
        match outbox.retry(row) {
            Ok(()) => retried += 1,
            Err(Error::NoSuchMessage { .. }) => named.is_wrong(format!("row {row} is not failed any more")),
            Err(error) => {
                return Err(match retried {
                    0 => failure(error),
                    _ => failure(error).and(format_args!("Made {} pending again before that", messages(retried))),
                });
            }
        }
    }
    done(retried, if named.wrong == 0 { OK } else { NO })
}

fn done(retried: u64, code: u8) -> Result<ExitCode, Failure> {
    let done = format!("made {} pending again", messages(retried));
    told(writeln!(io::stdout(), "{done}"), code, done)
}
