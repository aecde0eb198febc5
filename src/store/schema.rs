//! Opening a database file: is it one, is it ours, and is its table the version we know.

use std::path::Path;
use std::time::{Duration, Instant};
use std::{cmp, fs, io, thread};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, ffi};

use crate::{Error, disk};

/// The steps to each version: the n-th (from 0) makes version n + 1 out of version n.
pub(super) const MIGRATIONS: [&str; 1] = [include_str!("../../schema.sql")];
const VERSION: i64 = MIGRATIONS.len() as i64;

/// Every name that we give to something in the database.
pub(super) const NAMES: [&str; 16] = [
    "outbox",
    "outbox_state",
    "outbox_again",
    "outbox_held",
    "outbox_failed",
    "outbox_keeps_newest",
    "outbox_id_stands",
    "outbox_id_next",
    "outbox_counted",
    "outbox_aside",
    "outbox_aside_deleted",
    "outbox_id_fixed",
    "outbox_edited",
    "outbox_reopened",
    "outbox_released",
    "outbox_state_stays",
];

/// Opens or creates the file, and brings the outbox in it to the version of this program.
///
/// # Errors
/// [`Error::CannotOpen`], [`Error::NotADatabase`], [`Error::ReadOnly`], [`Error::NotWal`], [`Error::ForeignTable`] and
/// [`Error::NewerSchema`] leave the file as it was; [`Error::Busy`] if others kept it locked for `busy_timeout`.
#[cfg(test)]
pub(crate) fn open(path: &Path, busy_timeout: Duration) -> Result<Connection, Error> {
    let mut conn = connect(path, Creation::Allowed)?;
    prepare(&mut conn, path, Creation::Allowed, busy_timeout)?;
    Ok(conn)
}

/// How the connections of a pool are opened: the file stands by then.
pub(crate) const OPEN_EXISTING: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

/// What SQLite would have answered, for a file that we do not let it open.
pub(crate) fn not_opened(why: Error) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CANTOPEN), Some(why.to_string()))
}

/// Whether what is not there is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Creation {
    /// The file and the outbox in it.
    Allowed,
    /// Neither; an outbox of an older version is still brought up to this one.
    Refused,
}

/// A plain connection to the file.
pub(crate) fn connect(path: &Path, creation: Creation) -> Result<Connection, Error> {
    let flags = match creation {
        Creation::Allowed => OPEN_EXISTING | OpenFlags::SQLITE_OPEN_CREATE,
        Creation::Refused if is_missing(path) => return Err(Error::Missing { path: path.to_owned() }),
        Creation::Refused => OPEN_EXISTING,
    };
    Connection::open_with_flags(path, flags).map_err(|source| Error::CannotOpen { path: path.to_owned(), source })
}

fn is_missing(path: &Path) -> bool {
    fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// [`open`] for a connection that stands already, the application's for example; `path` is for the errors.
pub(crate) fn prepare(
    conn: &mut Connection,
    path: &Path,
    creation: Creation,
    busy_timeout: Duration,
) -> Result<(), Error> {
    conn.busy_timeout(busy_timeout)?;
    let deadline = Instant::now() + busy_timeout;
    loop {
        // Changing the journal mode does not wait for other connections but answers BUSY at once, so we wait here.
        match attempt(conn, path, creation) {
            Err(Error::Busy(_)) if Instant::now() < deadline => {
                thread::sleep(cmp::min(Duration::from_millis(10), busy_timeout));
            }
            result => return result,
        }
    }
}

fn attempt(conn: &mut Connection, path: &Path, creation: Creation) -> Result<(), Error> {
    let explain = |error| explain(error, path);
    // Closing the last connection would write the log of a database that we may be about to refuse into its file.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    if conn.is_readonly(rusqlite::MAIN_DB)? {
        let source = rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_READONLY), None);
        return Err(Error::ReadOnly { path: path.to_owned(), source });
    }
    // Looked at before anything is written, since the file may be another program's.
    let standing = match look(conn).map_err(explain)?.version() {
        Ok(0) if creation == Creation::Refused => Err(Error::NoOutbox { path: path.to_owned() }),
        standing => standing,
    };
    let standing = standing.inspect_err(|_| leave_no_files(conn))?;
    let mode: String = conn.pragma_query_value(Some("main"), "journal_mode", |row| row.get(0)).map_err(explain)?;
    if mode != "wal" {
        let mode = switch_to_log(conn).map_err(explain)?;
        if mode != "wal" {
            return Err(Error::NotWal { path: path.to_owned(), mode });
        }
    }
    if standing < MIGRATIONS.len() {
        migrate(conn, path)?;
    }
    Ok(())
}

/// Synced in full, whatever the application says: with less SQLite syncs a rollback journal once, and a power cut can leave
/// a journal that says more than it holds, which takes the whole database with it.
fn switch_to_log(conn: &Connection) -> rusqlite::Result<String> {
    let synchronous: i64 = conn.pragma_query_value(Some("main"), "synchronous", |row| row.get(0))?;
    conn.pragma_update(Some("main"), "synchronous", synchronous.max(2))?;
    let mode = conn.query_row("PRAGMA main.journal_mode = WAL", [], |row| row.get(0));
    conn.pragma_update(Some("main"), "synchronous", synchronous)?;
    mode
}

/// To look into a database in WAL mode SQLite made what stood beside it no more. It takes that away as it closes, if it
/// may look after the log, which is safe where there is none: nothing is moved then.
fn leave_no_files(conn: &Connection) {
    let log = conn.path().map(|path| disk::beside(Path::new(path), "-wal"));
    if log.and_then(|log| fs::metadata(log).ok()).is_some_and(|found| found.len() == 0) {
        let _ = conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
    }
}

fn migrate(conn: &mut Connection, path: &Path) -> Result<(), Error> {
    let explain = |error| explain(error, path);
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(explain)?;
    // Another process may have done it while this one waited for the lock.
    let standing = look(&tx).map_err(explain)?.version()?;
    for migration in &MIGRATIONS[standing..] {
        tx.execute_batch(migration).map_err(explain)?;
    }
    if standing < MIGRATIONS.len() {
        tx.execute("UPDATE main.outbox_state SET version = ?1", [VERSION]).map_err(explain)?;
    }
    tx.commit().map_err(explain)
}

/// What stands in a database under our names.
enum Standing {
    Version(i64),
    Foreign(String),
}

impl Standing {
    /// How many of the migrations have been done.
    fn version(self) -> Result<usize, Error> {
        match self {
            Standing::Foreign(name) => Err(Error::ForeignTable { name }),
            Standing::Version(found) => usize::try_from(found)
                .ok()
                .filter(|done| *done <= MIGRATIONS.len())
                .ok_or(Error::NewerSchema { found, known: VERSION }),
        }
    }
}

/// The version of the outbox in the database; 0 where there is none.
///
/// # Errors
/// [`Error::NotADatabase`], [`Error::ForeignTable`], [`Error::NewerSchema`], and what SQLite answers.
pub(super) fn version(conn: &Connection, path: &Path) -> Result<usize, Error> {
    look(conn).map_err(|error| explain(error, path))?.version()
}

fn look(conn: &Connection) -> rusqlite::Result<Standing> {
    let mut statement = conn.prepare("SELECT name FROM main.sqlite_schema ORDER BY rowid")?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?;
    let mut ours = Vec::new();
    for name in names {
        let name = name?;
        if NAMES.iter().any(|known| known.eq_ignore_ascii_case(&name)) {
            ours.push(name);
        }
    }
    let Some(first) = ours.into_iter().next() else { return Ok(Standing::Version(0)) };
    // Later versions only ever add columns, so these are in every one.
    let columns: i64 = conn.query_row(
        "SELECT (SELECT count(*) FROM pragma_table_info('outbox', 'main')
                 WHERE name IN ('id', 'topic', 'payload', 'status', 'attempts', 'held_by', 'nonce', 'checksum',
                               'bytes', 'total_bytes'))
              + (SELECT count(*) FROM pragma_table_info('outbox_state', 'main')
                 WHERE name IN ('id', 'version', 'position', 'barrier', 'aside', 'aside_bytes', 'unreadable', 'era', 'era_age',
                               'uptime', 'boot'))",
        [],
        |row| row.get(0),
    )?;
    if columns != 21 {
        return Ok(Standing::Foreign(first));
    }
    let version = conn.query_row(
        "SELECT version FROM main.outbox_state WHERE id = 1 AND typeof(version) = 'integer' AND version > 0",
        [],
        |row| row.get(0),
    );
    match version {
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(Standing::Foreign("outbox_state".to_owned())),
        version => Ok(Standing::Version(version?)),
    }
}

fn explain(error: rusqlite::Error, path: &Path) -> Error {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => Error::NotADatabase { path },
        // The file itself was opened by now: what cannot be are `-wal` and `-shm` beside it.
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            Error::ReadOnly { path, source: error }
        }
        _ => Error::from(error),
    }
}
