//! Everything that can go wrong for a caller, in one enum.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::Full;
use crate::broker::Refusal;

/// What went wrong, and in each variant's documentation what to do about it.
///
/// No error here loses a message: what was committed stays committed, what was not is for the caller to try again.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A message breaks a limit; nothing was written. Mend the message, see [`Message`](crate::Message) for what is
    /// allowed. The same for other text that does not parse.
    Invalid {
        /// Which part of the message.
        field: &'static str,
        /// What is wrong with it and what would be right.
        why: String,
    },
    /// The broker's adapter would not take this message (see [`Broker::check`](crate::broker::Broker::check)); nothing
    /// was written.
    Unacceptable(Refusal),
    /// [`Message::json`](crate::Message::json) could not serialize its value.
    Json(serde_json::Error),
    /// Settings out of range, all of them in one list.
    Settings(Vec<String>),

    /// The transaction began with a read (it is DEFERRED), and somebody else has committed since: SQLite cannot let it
    /// write any more, however long it waits. Roll back and start again with
    /// [`Outbox::transaction`](crate::Outbox::transaction) or
    /// [`TransactionBehavior::Immediate`](rusqlite::TransactionBehavior::Immediate).
    Snapshot(rusqlite::Error),
    /// Another connection had the database locked for longer than
    /// [`Settings::busy_timeout`](crate::Settings::busy_timeout), or, while it was
    /// [looked at](crate::Inspector::open), changed it again and again. Nothing was changed here; try again.
    Busy(rusqlite::Error),
    /// The outbox has as much as it may have, and does not take this message: see [`Full`]. Nothing was written, and
    /// the transaction can go on without it. Messages that are sent make room.
    Full(Full),
    /// The disk is full. (A quota that is used up is an [`Error::Disk`].) Nothing was written, and SQLite may have rolled back the whole
    /// transaction: leave it. What is in the outbox is sent all the same, in the space of the
    /// [reserve](crate::Settings::reserve).
    DiskFull(rusqlite::Error),
    /// The disk does not do what SQLite asks of it: an I/O error, a file system that has become read-only, a limit of
    /// the process on the size of files. SQLite may have rolled back the whole transaction: leave it, and try again
    /// once the cause is gone.
    Disk(rusqlite::Error),
    /// SQLite found the database damaged. Stop the program, keep a copy of the file with its `-wal` and `-shm`, and
    /// recover what can be read: docs/reliability.md, which comes with this crate's source, has the commands.
    Damaged(rusqlite::Error),
    /// The database, or the `-wal` or `-shm` beside it, is not the file any more that this outbox opened: it was
    /// deleted, moved, or another one was put in its place. What would be written now might be lost, or spoil the
    /// other file, so nothing is. Put it back; or restart the program. Before another database is put in its place stop
    /// the program and delete `-wal` and `-shm`: SQLite would write the old log into it.
    Replaced {
        /// The file that is missing or another.
        path: PathBuf,
    },
    /// The whole transaction is rolled back: by SQLite, after an error of an earlier statement in it (a full disk, an I/O
    /// error, no memory), or by [`Outbox::commit`](crate::Outbox::commit), after an earlier commit that failed. Nothing of
    /// it is written, and what is executed on its connection now stands by itself. Leave it and begin again.
    RolledBack,
    /// [`Outbox::transaction`](crate::Outbox::transaction) was called inside itself on the same thread, which would
    /// wait for itself for ever. Pass the outer transaction down instead, or use a savepoint of it.
    Nested,
    /// COMMIT answered with an error: the transaction may be in the database, or not. Look for its data before doing
    /// it again.
    MaybeCommitted(rusqlite::Error),
    /// The transaction given to [`Outbox::enqueue`](crate::Outbox::enqueue) belongs to another database file, which
    /// this outbox's forwarder does not read.
    OtherDatabase {
        /// The file of this outbox.
        expected: PathBuf,
        /// The file of the transaction; empty for one in memory.
        found: PathBuf,
    },

    /// The outbox in the file was made by a newer version of this crate. Upgrade the program; the file is untouched.
    NewerSchema {
        /// The version in the file.
        found: i64,
        /// The newest one that this program knows.
        known: i64,
    },
    /// There is a table, view or index named like one of ours that we did not make. The file is untouched.
    ForeignTable {
        /// Its name.
        name: String,
    },
    /// The file is no SQLite database, or one that is encrypted, or whose first page is damaged. It is untouched.
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// The file, or the folder it stands in, cannot be written to. SQLite needs both: `-wal` and `-shm` stand beside
    /// the database.
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// SQLite's own word.
        source: rusqlite::Error,
    },
    /// The database would not go into WAL mode: another connection has it open in another mode, it is in memory, or
    /// its file system has no shared memory (a network share).
    NotWal {
        /// The file.
        path: PathBuf,
        /// The journal mode it stayed in.
        mode: String,
    },
    /// The file does not exist, and was to be opened as it is: see [`Builder::existing`](crate::Builder::existing). Nothing
    /// was created.
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file does not exist, or is empty, but a write-ahead log stands beside it: the database was moved or deleted
    /// without it. SQLite would delete the log, and with it what was committed last. Put the database back, or bring the log
    /// to where it is, under its new name, while nobody has it open; delete the log only if nobody needs what it holds.
    LogAlone {
        /// The log.
        path: PathBuf,
    },
    /// The database has no outbox, and was to be opened as it is. It is untouched.
    NoOutbox {
        /// The file.
        path: PathBuf,
    },
    /// The file does not exist, and the folder does not either, or it cannot be opened.
    CannotOpen {
        /// The file.
        path: PathBuf,
        /// SQLite's own word.
        source: rusqlite::Error,
    },

    /// The database was only to be looked at, and cannot be: it is no file, or may not be read, or what SQLite needs
    /// beside it is missing and must not be made here. Nothing was changed. `why` says what to do.
    NotReadable {
        /// The file.
        path: PathBuf,
        /// What stands in the way, and what to do.
        why: String,
    },

    /// No message stands under this row id, or it is not in the state that the call needs.
    NoSuchMessage {
        /// The row id that was asked for.
        id: i64,
        /// What the call needs, for example "a failed message".
        wanted: &'static str,
    },
    /// This outbox was opened without a broker, so nothing here forwards.
    NoBroker,
    /// It was not done within the time given; it goes on in the background.
    TimedOut {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        after: Duration,
    },
    /// The forwarder was shut down, or has ended since the `-wal` was deleted, and the call needs it.
    Stopped,
    /// The forwarder, or the broker's adapter, panicked; this is what it said. Messages are kept but not sent until
    /// the outbox is opened again, usually by restarting the program. A bug: please report it.
    Panicked(String),

    /// The connection pool gave no connection: SQLite could not open one within 5 s (or
    /// [`Settings::busy_timeout`](crate::Settings::busy_timeout), if that is longer), or all are in use for longer than
    /// that setting.
    Pool(r2d2::Error),
    /// The operating system said no to a file of ours beside the database.
    Io {
        /// The file.
        path: PathBuf,
        /// Its word.
        source: std::io::Error,
    },
    /// Any other error of SQLite's.
    Sqlite(rusqlite::Error),
}

impl Error {
    pub(crate) fn path_is_no_text() -> Self {
        Error::Invalid {
            field: "path of the database",
            why: "is not UTF-8, in which SQLite tells a transaction's file by name: rename it".to_owned(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Invalid { field, why } => write!(f, "the {field} {why}"),
            Error::Unacceptable(refusal) => write!(f, "the broker would not take this message: {refusal}"),
            Error::Json(_) => f.write_str("the payload does not serialize to JSON"),
            Error::Settings(wrong) => write!(f, "settings out of range: {}", wrong.join("; ")),
            Error::Snapshot(_) => f.write_str(
                "this transaction read before it wrote, and another commit came between: begin it as IMMEDIATE",
            ),
            Error::Busy(_) => {
                f.write_str("another connection kept the database locked: nothing was changed, try again")
            }
            Error::Full(full) => write!(f, "the outbox is full: {full}"),
            Error::DiskFull(_) => f.write_str("no space left on the disk for the database, nothing was written: free some"),
            Error::Disk(_) => f.write_str(
                "the disk does not do what SQLite asks of it (look at the kernel's log and at the mount): leave the transaction \
                 and try again",
            ),
            Error::Damaged(_) => f.write_str(
                "the database is damaged: stop the program, keep a copy of it, and recover it with the sqlite3 shell's .recover",
            ),
            Error::Replaced { path } => write!(
                f,
                "{} is not the file any more that was opened, nothing is written: put it back, or restart the program (before \
                 another database is put there, stop it and delete -wal and -shm)",
                path.display()
            ),
            Error::RolledBack => f.write_str(
                "this transaction was rolled back, after an error in it or of an earlier commit: nothing of it is written, begin again",
            ),
            Error::Nested => {
                f.write_str("a transaction of this outbox is already open on this thread: pass it down instead")
            }
            Error::MaybeCommitted(_) => f.write_str(
                "COMMIT answered with an error: look whether the transaction is in the database before doing it again",
            ),
            Error::OtherDatabase { expected, found } => write!(
                f,
                "the transaction is on {}, but this outbox is in {}",
                if found.as_os_str().is_empty() { "a database in memory".into() } else { found.display().to_string() },
                expected.display()
            ),
            Error::NewerSchema { found, known } => {
                write!(
                    f,
                    "the outbox has schema version {found}, this program knows versions up to {known}: upgrade the program"
                )
            }
            Error::ForeignTable { name } => {
                write!(f, "the database has something named `{name}` that is not ours: rename it, or keep the outbox in another file")
            }
            Error::NotADatabase { path } => {
                write!(f, "{} is not a SQLite database, or it is encrypted, or its first page is damaged", path.display())
            }
            Error::ReadOnly { path, .. } => {
                write!(f, "{} cannot be written to: the file and the folder around it must be writable", path.display())
            }
            Error::NotWal { path, mode } => write!(
                f,
                "{} stays in journal mode {mode:?} instead of WAL: close its other users, and keep it on a local file system",
                path.display()
            ),
            Error::Missing { path } => write!(f, "{} does not exist", path.display()),
            Error::LogAlone { path } => write!(
                f,
                "{} holds what was committed to a database that is not there any more: put it back, or move this file to \
                 where it is, under its new name with -wal behind it, while nobody has it open",
                path.display()
            ),
            Error::NoOutbox { path } => write!(f, "{} is a database without an outbox", path.display()),
            Error::CannotOpen { path, .. } => write!(f, "{} cannot be opened", path.display()),
            Error::NotReadable { path, why } => write!(f, "{} cannot be looked at: {why}", path.display()),
            Error::NoSuchMessage { id, wanted } => write!(f, "row {id} of the outbox is not {wanted}"),
            Error::NoBroker => f.write_str("this outbox was opened without a broker"),
            Error::TimedOut { what, after } => write!(f, "{what} was not done within {after:?}"),
            Error::Stopped => f.write_str("the outbox's forwarder was shut down"),
            Error::Panicked(said) => write!(f, "the outbox's forwarder panicked: {said}"),
            Error::Pool(_) => f.write_str("no connection to the database could be had"),
            Error::Io { path, .. } => write!(f, "cannot use {}", path.display()),
            Error::Sqlite(_) => f.write_str("SQLite"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Json(e) => Some(e),
            Error::Snapshot(e)
            | Error::Busy(e)
            | Error::DiskFull(e)
            | Error::Disk(e)
            | Error::Damaged(e)
            | Error::MaybeCommitted(e)
            | Error::ReadOnly { source: e, .. }
            | Error::CannotOpen { source: e, .. }
            | Error::Sqlite(e) => Some(e),
            Error::Pool(e) => Some(e),
            Error::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Sorts SQLite's result codes into the variants that a caller would treat differently.
impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        let Some(failure) = error.sqlite_error() else { return Error::Sqlite(error) };
        match failure.code {
            _ if failure.extended_code == rusqlite::ffi::SQLITE_BUSY_SNAPSHOT => Error::Snapshot(error),
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Error::Busy(error),
            ErrorCode::DiskFull => Error::DiskFull(error),
            // -shm could not be made as long as it has to be: nothing but a lack of space does that.
            _ if failure.extended_code == IOERR_SHMSIZE => Error::DiskFull(error),
            ErrorCode::SystemIoFailure | ErrorCode::ReadOnly | ErrorCode::CannotOpen => Error::Disk(error),
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Error::Damaged(error),
            _ => Error::Sqlite(error),
        }
    }
}

/// [SQLITE_IOERR_SHMSIZE](https://www.sqlite.org/rescode.html#ioerr_shmsize), which the bindings for a system's SQLite
/// do not name.
const IOERR_SHMSIZE: i32 = 4874;

impl From<r2d2::Error> for Error {
    fn from(error: r2d2::Error) -> Self {
        Error::Pool(error)
    }
}

/// What one of them says; of SQLite's own the words once, with the number by which they are found in its manual.
fn said(error: &(dyn std::error::Error + 'static)) -> String {
    let plain = error.to_string();
    if let Some(rusqlite::Error::SqliteFailure(code, words)) = error.downcast_ref() {
        // Its own words begin with the number.
        let words = words.as_deref().unwrap_or(plain.split_once(": ").map_or(&plain, |(_, words)| words));
        return format!("{words} (SQLite's code {})", code.extended_code);
    }
    match error.downcast_ref::<rusqlite::ffi::Error>() {
        Some(code) => format!("(SQLite's code {})", code.extended_code),
        None => plain,
    }
}

/// An error with its sources, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = said(cause);
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
