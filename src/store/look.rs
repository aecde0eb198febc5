//! Opening a database to look at it: nothing in it, and nothing beside it, is changed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use super::schema;
use crate::{Error, disk};

const READ_ONLY: OpenFlags = OpenFlags::SQLITE_OPEN_READ_ONLY.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);
/// SQLite counts in milliseconds, in 32 bits.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// Bytes of the smallest page.
const SMALLEST: u64 = 512;

/// How others are kept from changing what is being read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sharing {
    /// By SQLite's locks. In WAL mode they stand in `-shm`: it and `-wal` are made where they are missing.
    Locks,
    /// Not at all; nothing is made. For a database that nobody has open: the caller sees to it that it stays so.
    Nobody,
}

/// The version of the outbox's tables.
///
/// # Errors
/// Those of [`look_into`].
pub(crate) fn version(conn: &Connection, path: &Path) -> Result<i64, Error> {
    schema::version(conn, path).map(|version| i64::try_from(version).unwrap_or(i64::MAX))
}

/// A connection that cannot write, to a database that has an outbox of our version. `path` must be absolute.
///
/// # Errors
/// [`Error::NoOutbox`], [`Error::NotReadable`], [`Error::NotADatabase`], [`Error::NewerSchema`], [`Error::ForeignTable`],
/// [`Error::Busy`], [`Error::Damaged`], [`Error::Disk`].
pub(crate) fn look_into(path: &Path, sharing: Sharing, busy_timeout: Duration) -> Result<Connection, Error> {
    let conn = match sharing {
        Sharing::Locks => connect(path, "mode=ro"),
        Sharing::Nobody => connect(path, "mode=ro&immutable=1"),
    };
    let conn = conn.map_err(|error| explain_looking(error.into(), path))?;
    conn.busy_timeout(busy_timeout.min(LONGEST_WAIT))?;
    match schema::version(&conn, path).map_err(|error| explain_looking(error, path))? {
        // SQLite takes what is too short for a database for an empty one.
        0 if fs::metadata(path).is_ok_and(|found| (1..SMALLEST).contains(&found.len())) => {
            Err(Error::NotADatabase { path: path.to_owned() })
        }
        0 => Err(Error::NoOutbox { path: path.to_owned() }),
        _ => {
            conn.execute_batch("PRAGMA main.cache_size = -256;")?;
            Ok(conn)
        }
    }
}

/// Whether the database is in WAL mode. Only for one that nobody has open in it. Nothing beside it is made, which is
/// what a connection with locks does when it comes to know.
pub(crate) fn is_wal(path: &Path) -> bool {
    let mode = connect(path, "mode=ro&nolock=1")
        .and_then(|conn| conn.query_row("PRAGMA main.schema_version", [], |row| row.get::<_, i64>(0)));
    // There is no WAL without locks, so SQLite does not open it.
    mode.is_err_and(|error| error.sqlite_error_code() == Some(ErrorCode::CannotOpen))
}

/// What SQLite cannot have for reading is named, and what to do.
pub(crate) fn explain_looking(error: Error, path: &Path) -> Error {
    let (Error::Disk(source) | Error::ReadOnly { source, .. } | Error::CannotOpen { source, .. }) = &error else {
        return error;
    };
    match source.sqlite_error() {
        // Whoever has it open is setting it up, and is soon done.
        Some(failure) if failure.extended_code == ffi::SQLITE_READONLY_RECOVERY => Error::Busy(super::busy()),
        Some(ffi::Error {
            code: ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied, ..
        }) => Error::NotReadable { path: path.to_owned(), why: disk::why_not_readable(path) },
        _ => error,
    }
}

/// By a URI, in which alone such a thing can be said.
fn connect(path: &Path, how: &str) -> rusqlite::Result<Connection> {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => uri.push(char::from(*byte)),
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    Connection::open_with_flags(format!("{uri}?{how}"), READ_ONLY | OpenFlags::SQLITE_OPEN_URI)
}
