//! Creating the outbox, and putting back what is missing of it.

use std::io::{self, Write};
use std::process::ExitCode;

use edge_outbox::{Error, Inspector, Outbox};

use crate::args::{Database, Init};
use crate::failure::Failure;

/// What stood there before.
enum Before {
    Nothing,
    NoOutbox,
    Version(i64),
    /// Nobody could look; whoever opens it says why, or mends it.
    Unknown,
}

pub fn run(args: Init) -> Result<ExitCode, Failure> {
    let Init { database } = args;
    let failure = |error| database.failure(&error);
    let before = look(&database);
    let outbox = Outbox::builder(&database.path).settings(database.mending()).open().map_err(failure)?;
    let restored = outbox.restore_schema().map_err(failure)?;
    let version = database.inspect()?.version().map_err(failure)?;

    let mut out = io::stdout().lock();
    let file = database.shown();
    match before {
        Before::Nothing => writeln!(out, "{file}: created, with an outbox in it (schema version {version})")?,
        Before::NoOutbox => writeln!(out, "{file}: the outbox is created (schema version {version})")?,
        Before::Version(before) if before < version => {
            writeln!(out, "{file}: the outbox is upgraded from schema version {before} to {version}")?;
        }
        Before::Version(_) | Before::Unknown if restored.is_empty() => {
            writeln!(out, "{file}: everything is in place (schema version {version})")?;
        }
        Before::Version(_) | Before::Unknown => {}
    }
    for name in &restored {
        writeln!(out, "{file}: {name} is put back")?;
    }
    if !restored.is_empty() {
        writeln!(out, "What was written meanwhile may break a rule: edge-outbox check {file}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn look(database: &Database) -> Before {
    let version = Inspector::open(&database.path, database.busy_timeout()).and_then(|inspector| inspector.version());
    match version {
        Ok(version) => Before::Version(version),
        Err(Error::Missing { .. }) => Before::Nothing,
        Err(Error::NoOutbox { .. }) => Before::NoOutbox,
        Err(_) => Before::Unknown,
    }
}
