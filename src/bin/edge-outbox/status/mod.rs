//! How the outbox and its forwarder stand.

mod people;
mod watch;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::SystemTime;

use edge_outbox::Inspector;
use edge_outbox::inspector::{Figures, Files, Forwarder};

use crate::args::{Database, Status};
use crate::failure::Failure;
use crate::json;

pub fn run(args: Status) -> Result<ExitCode, Failure> {
    if args.watch {
        return watch::run(args.database, if args.json { Form::Json } else { Form::People });
    }
    let inspector = args.database.inspect()?;
    let view = View::of(&args.database, &inspector, Some(Count::take(&args.database, &inspector)));
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    People,
    Json,
}

/// What the table says, which is asked for less often than the rest where that takes long.
struct Count {
    at: SystemTime,
    figures: Result<Figures, Failure>,
}

impl Count {
    fn take(database: &Database, inspector: &Inspector) -> Self {
        let figures = inspector.figures().map_err(|error| database.failure(&error));
        Count { at: SystemTime::now(), figures }
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
    fn of(database: &Database, inspector: &Inspector, count: Option<Count>) -> Self {
        View {
            database: inspector.path().display().to_string(),
            count,
            files: inspector.files().map_err(|error| database.failure(&error)),
            forwarder: inspector.forwarder(),
        }
    }

    fn figures(&self) -> Option<(SystemTime, &Figures)> {
        let count = self.count.as_ref()?;
        Some((count.at, count.figures.as_ref().ok()?))
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
        json::print(out, &json::Status::new(&self.database, trouble, self.figures(), files, &self.forwarder))
    }

    fn lines(&self) -> Vec<String> {
        people::lines(self)
    }
}
