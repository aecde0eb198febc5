//! How the outbox and its forwarder stand.

mod people;
mod watch;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::SystemTime;

use edge_outbox::inspector::{Figures, Files, Forwarder};
use edge_outbox::{Error, Inspector};

use crate::args::{Database, Status};
use crate::failure::Failure;
use crate::json;

pub fn run(args: Status) -> Result<ExitCode, Failure> {
    if args.watch {
        return watch::run(args.database, if args.json { Form::Json } else { Form::People });
    }
    let count = Count::take(&args.database, look(&args.database)?);
    let view = View::of(&args.database, Some(count));
    let mut out = io::stdout().lock();
    match args.json {
        true => view.print_json(&mut out)?,
        false => view.lines().iter().try_for_each(|line| writeln!(out, "{line}"))?,
    }
    // What could be told is told; that it was not all is said on standard error.
    view.count.map_or(Ok(()), |count| count.figures.map(drop))?;
    view.files?;
    Ok(ExitCode::SUCCESS)
}

/// To count by, or why an outbox cannot be looked into: its files and its forwarder can be told of all the same.
///
/// # Errors
/// Where there is no outbox that anything could be told of.
fn look(database: &Database) -> Result<Result<Inspector, Error>, Failure> {
    match database.look() {
        Err(
            error @ (Error::Missing { .. }
            | Error::LogAlone { .. }
            | Error::NoOutbox { .. }
            | Error::ForeignTable { .. }),
        ) => Err(database.failure(&error)),
        Err(error) if !database.path.is_file() => Err(database.failure(&error)),
        looked => Ok(looked),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    People,
    Json,
}

/// What the table says, which is asked for less often than the rest where that takes long.
struct Count {
    at: SystemTime,
    figures: Result<Figures, Failure>,
    /// Rows passed over, which stand in a table of their own.
    unreadable: Option<u64>,
}

impl Count {
    fn take(database: &Database, looked: Result<Inspector, Error>) -> Self {
        let (figures, unreadable) = match looked {
            Ok(inspector) => match inspector.figures() {
                Ok(figures) => (Ok(figures.clone()), Some(figures.unreadable)),
                Err(error) => (Err(error), inspector.unreadable().ok()),
            },
            Err(error) => (Err(error), None),
        };
        Count { at: SystemTime::now(), figures: figures.map_err(|error| database.failure(&error)), unreadable }
    }
}

/// All there is to show.
struct View {
    database: String,
    /// `None`: the first one is not done yet.
    count: Option<Count>,
    files: Result<Files, Failure>,
    forwarder: Forwarder,
}

impl View {
    fn of(database: &Database, count: Option<Count>) -> Self {
        let path = &database.path;
        View {
            database: path.canonicalize().as_ref().unwrap_or(path).display().to_string(),
            count,
            files: Files::of(path).map_err(|error| database.failure(&error)),
            forwarder: Forwarder::of(path),
        }
    }

    fn figures(&self) -> Option<(SystemTime, &Figures)> {
        let count = self.count.as_ref()?;
        Some((count.at, count.figures.as_ref().ok()?))
    }

    fn unreadable(&self) -> Option<u64> {
        self.count.as_ref()?.unreadable
    }

    /// Why figures or sizes are missing.
    fn trouble(&self) -> Option<&str> {
        let counting = self.count.as_ref().and_then(|count| count.figures.as_ref().err());
        match counting.or(self.files.as_ref().err())? {
            Failure::Told { words, .. } => Some(words),
            Failure::NobodyReads => None,
        }
    }

    fn print_json(&self, out: &mut impl Write) -> Result<(), Failure> {
        let (files, trouble) = (self.files.as_ref().ok(), self.trouble());
        let counted = json::Counted { figures: self.figures(), unreadable: self.unreadable() };
        json::print(out, &json::Status::new(&self.database, trouble, counted, files, &self.forwarder))
    }

    fn lines(&self) -> Vec<String> {
        people::lines(self)
    }

    fn lines_within(&self, rows: usize) -> Vec<String> {
        people::lines_within(self, rows)
    }
}
