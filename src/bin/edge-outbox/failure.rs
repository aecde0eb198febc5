//! What went wrong, for the person at the shell: the file, what was expected, the next step, and an exit code.

use std::error::Error as _;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use edge_outbox::{Error, Full, Limit, rusqlite};

use crate::next;
use crate::output::{self, bytes, count, counted};

/// It is done.
pub const OK: u8 = 0;
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
        let mut words = match error {
            _ if database.is_dir() => format!("{file} is a folder, not a database"),
            Error::Full(full) => self::full(full),
            _ => output::line(&chain(error)),
        };
        if !words.contains(&file) {
            words = format!("{file}: {words}");
        }
        if let Some(step) = next::step(database, error) {
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

/// Whether what was done could be told or not, it is done: the code is that of what was done where nobody reads, and
/// where standard output takes nothing standard error tells it.
pub fn told(written: io::Result<()>, code: u8, done: impl Display) -> Result<ExitCode, Failure> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::no(format_args!("{done}, but standard output does not take that: {error}")))
        }
        _ => Ok(ExitCode::from(code)),
    }
}

/// To standard error, whether anybody reads it or not. Paths, topics and other programs' words come from anybody.
pub fn say(words: impl Display) {
    let _ = writeln!(io::stderr(), "edge-outbox: {}", output::lines(&words.to_string()));
}

/// With units and separators; the library's own words have plain numbers.
fn full(full: &Full) -> String {
    let Full { found, allowed, wanted, .. } = *full;
    let why = match full.limit {
        Limit::PendingMessages => {
            format!("{} are pending, and the setting max_pending allows {}", counted(found, "message"), count(allowed))
        }
        Limit::PendingBytes => format!(
            "{} are pending, this message has {}, and the setting max_pending_bytes allows {}",
            bytes(found),
            bytes(wanted),
            bytes(allowed)
        ),
        Limit::FreeSpace => format!(
            "{} of the disk are free, and {} are kept free, for others (the setting keep_free) or for the log to be moved into the database",
            bytes(found),
            bytes(allowed)
        ),
        Limit::Reserve => format!(
            "the disk has no space, or had none, for the whole reserve of {} beside the database: {} are there",
            bytes(allowed),
            bytes(found)
        ),
        _ => full.to_string(),
    };
    format!("the outbox is full: {why}")
}

/// An error with its causes, in one line.
fn chain(error: &Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = said(cause);
        if !words.contains(&said) {
            words = format!("{words}: {said}");
        }
        source = cause.source();
    }
    words
}

/// What a cause says; of SQLite's own the words once, with the number by which they are found in its manual.
fn said(cause: &(dyn std::error::Error + 'static)) -> String {
    let plain = cause.to_string();
    if let Some(rusqlite::Error::SqliteFailure(code, words)) = cause.downcast_ref() {
        // Its own words begin with the number.
        let words = words.as_deref().unwrap_or(plain.split_once(": ").map_or(&plain, |(_, words)| words));
        return format!("{words} (SQLite's code {})", code.extended_code);
    }
    match cause.downcast_ref::<rusqlite::ffi::Error>() {
        Some(code) => format!("(SQLite's code {})", code.extended_code),
        None => plain,
    }
}
