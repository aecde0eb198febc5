//! Deleting failed messages.

use std::io::{self, BufRead, IsTerminal, Write};
use std::process::ExitCode;

use edge_outbox::Error;
use edge_outbox::rusqlite::ErrorCode;

use crate::args::Discard;
use crate::failed::{Named, messages};
use crate::failure::{Failure, NO, OK, say, told};

pub fn run(args: Discard) -> Result<ExitCode, Failure> {
    let Discard { database, ids, all_failed, yes } = args;
    if !yes && !io::stdin().is_terminal() {
        return Err(Failure::usage(
            "what is discarded is gone for good, and there is no terminal to ask at: say --yes",
        ));
    }
    let failure = |error| database.failure(&error);
    let outbox = database.mend()?;
    let mut named = Named::of(&outbox, &database, &ids)?;
    let asked_for = if all_failed { outbox.stats().map_err(failure)?.failed } else { named.rows.len() as u64 };
    if asked_for > 0 && !yes && !agreed(asked_for)? {
        say("nothing is deleted");
        return Ok(ExitCode::from(NO));
    }

    let mut gone = 0;
    if all_failed {
        gone = outbox.discard_all().map_err(failure)?;
        let left = outbox.stats().map_err(failure)?.failed;
        if left > 0 {
            say(format_args!(
                "{} stay: they came just now, or a table of the application's refers to them",
                messages(left)
            ));
        }
    }
    for row in std::mem::take(&mut named.rows) {
        match outbox.discard(row) {
            Ok(()) => gone += 1,
            Err(Error::NoSuchMessage { .. }) => named.is_wrong(format!("row {row} is not failed any more")),
            Err(Error::Sqlite(error)) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                named.is_wrong(format!("row {row} stays: a table of the application's refers to it"));
            }
            Err(error) => {
                return Err(match gone {
                    0 => failure(error),
                    _ => failure(error).and(format_args!("Deleted {} before that", messages(gone))),
                });
            }
        }
    }
    let done = format!("deleted {}", messages(gone));
    told(writeln!(io::stdout(), "{done}"), if named.wrong == 0 { OK } else { NO }, done)
}

/// Asks on standard error: standard output may go elsewhere.
fn agreed(count: u64) -> Result<bool, Failure> {
    let mut answer = String::new();
    let asked = write!(io::stderr(), "Delete {} for good? [y/N] ", messages(count))
        .and_then(|()| io::stdin().lock().read_line(&mut answer));
    match asked {
        Ok(_) => Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes" | "YES")),
        Err(error) => Err(Failure::no(format_args!("the terminal cannot be asked ({error}): say --yes"))),
    }
}
