//! What went wrong, for the person at the shell: the file, what was expected, the next step, and an exit code.

use std::error::Error as _;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use edge_outbox::Error;

use crate::output;

/// The outbox, the disk or the broker says no.
pub const NO: u8 = 1;
/// The arguments, or a file of settings, are wrong.
pub const USAGE: u8 = 2;
/// It was not done within the time given.
pub const TIMED_OUT: u8 = 3;

#[derive(Debug)]
pub enum Failure {
    /// To be said on standard error.
    Told { words: String, code: u8 },
    /// Standard output was closed by whoever read it: they have what they want.
    NobodyReads,
}

impl Failure {
    pub fn no(words: impl Display) -> Self {
        Failure::Told { words: words.to_string(), code: NO }
    }

    pub fn usage(words: impl Display) -> Self {
        Failure::Told { words: words.to_string(), code: USAGE }
    }

    pub fn timed_out(words: impl Display) -> Self {
        Failure::Told { words: words.to_string(), code: TIMED_OUT }
    }

    /// What the library says about a database, with the file in front and the next step behind.
    pub fn of(database: &Path, error: &Error) -> Self {
        let code = match error {
            Error::Invalid { .. } | Error::Settings(_) => USAGE,
            Error::TimedOut { .. } => TIMED_OUT,
            _ => NO,
        };
        let file = output::path(database);
        let mut words = output::line(&chain(error));
        if !words.contains(&file) {
            words = format!("{file}: {words}");
        }
        if let Some(step) = next_step(database, error) {
            words = format!("{words}\n{step}");
        }
        Failure::Told { words, code }
    }

    /// With another line behind its words.
    pub fn and(self, more: impl Display) -> Self {
        match self {
            Failure::Told { words, code } => Failure::Told { words: format!("{words}\n{more}"), code },
            Failure::NobodyReads => Failure::NobodyReads,
        }
    }

    pub fn report(self) -> ExitCode {
        match self {
            Failure::NobodyReads => ExitCode::SUCCESS,
            Failure::Told { words, code } => {
                say(words);
                ExitCode::from(code)
            }
        }
    }
}

impl From<io::Error> for Failure {
    /// Of standard output: nothing else is written with `?`.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::NobodyReads,
            _ => Failure::no(format_args!("standard output: {error}")),
        }
    }
}

/// To standard error, whether anybody reads it or not. Paths, topics and other programs' words come from anybody.
pub fn say(words: impl Display) {
    let _ = writeln!(io::stderr(), "edge-outbox: {}", output::lines(&words.to_string()));
}

/// What to do about it, where the error's own words do not say so.
fn next_step(database: &Path, error: &Error) -> Option<String> {
    let file = output::path(database);
    match error {
        Error::Missing { .. } => Some(format!("If the path is right: edge-outbox init {file}")),
        Error::NoOutbox { .. } => Some(format!("If it is the right one: edge-outbox init {file}")),
        _ => None,
    }
}

/// An error with its causes, in one line.
fn chain(error: &Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !words.contains(&said) {
            words = format!("{words}: {said}");
        }
        source = cause.source();
    }
    words
}
