//! The connection that an inspector reads by.
//!
//! A database in WAL mode that nobody has open has no `-wal` and no `-shm`, and SQLite makes both to read it. It would
//! leave them there, and could not make them in a folder that may not be written. So such a database is read without:
//! there is nobody to keep out. Whether it stayed so is seen afterwards, by a `-wal` or by the file's stamp.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use crate::Error;
use crate::disk::{Beside, Identity, Stamp};
use crate::store::{self, Sharing};

/// How often is read again what somebody wrote meanwhile.
const TRIES: usize = 5;

pub(super) struct Reader {
    connection: Connection,
    opened: Opened,
    busy_timeout: Duration,
}

/// What was opened, and by what it is known to be that still.
#[derive(Clone, Copy)]
enum Opened {
    Shared(Identity),
    LeftAlone(Stamp),
}

impl Reader {
    /// `path` must be absolute, with links resolved.
    pub fn open(path: &Path, busy_timeout: Duration) -> Result<Self, Error> {
        for _ in 0..TRIES {
            let opened = Opened::look_at(path)?;
            let connection = store::look_into(path, opened.sharing(), busy_timeout);
            if opened.stands(path)? {
                return Ok(Reader { connection: connection?, opened, busy_timeout });
            }
        }
        Err(Error::Busy(store::busy()))
    }

    /// What `ask` finds, which is asked again where the database changed under it.
    pub fn read<T>(&mut self, path: &Path, ask: impl Fn(&Connection) -> Result<T, Error>) -> Result<T, Error> {
        for _ in 0..TRIES {
            if !self.opened.stands(path)? {
                *self = Self::open(path, self.busy_timeout)?;
            }
            let found = ask(&self.connection);
            if self.opened.stands(path)? {
                return found.map_err(|error| store::explain_looking(error, path));
            }
        }
        Err(Error::Busy(store::busy()))
    }
}

impl Opened {
    fn look_at(path: &Path) -> Result<Self, Error> {
        let beside = Beside::of(path)?;
        if beside.is_left_alone() {
            if !store::is_wal(path) {
                return Ok(Opened::Shared(beside.identity())); // nothing is made beside it
            }
            if let Some(stamp) = beside.stamp() {
                return Ok(Opened::LeftAlone(stamp));
            }
        }
        beside.can_be_shared(path)?;
        Ok(Opened::Shared(beside.identity()))
    }

    fn sharing(self) -> Sharing {
        match self {
            Opened::Shared(_) => Sharing::Locks,
            Opened::LeftAlone(_) => Sharing::Nobody,
        }
    }

    fn stands(self, path: &Path) -> Result<bool, Error> {
        let beside = Beside::of(path)?;
        Ok(match self {
            Opened::Shared(identity) => beside.identity() == identity,
            Opened::LeftAlone(stamp) => beside.is_left_alone() && beside.stamp() == Some(stamp),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs::File;
    use std::time::SystemTime;

    use tempfile::TempDir;

    use super::*;

    const BUSY: Duration = Duration::from_secs(5);

    /// A database that was closed by all who had it open, so many seconds ago.
    fn left_alone() -> (TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().canonicalize().expect("a path").join("device.db");
        drop(store::open(&path, BUSY).expect("opens"));
        write(&path);
        touch(&path, 3_600);
        (folder, path)
    }

    fn touch(path: &Path, ago: u64) {
        let file = File::options().write(true).open(path).expect("opens");
        file.set_modified(SystemTime::now() - Duration::from_secs(ago)).expect("sets the stamp");
    }

    /// As a program that comes, writes and goes, and leaves no log.
    fn write(path: &Path) {
        let other = Connection::open(path).expect("opens");
        other.execute_batch("INSERT INTO outbox (topic, payload) VALUES ('t', 'p')").expect("inserts");
    }

    fn count(conn: &Connection) -> Result<u64, Error> {
        Ok(store::figures(conn)?.pending)
    }

    #[test]
    fn what_was_written_while_it_was_read_is_read_again() {
        let (_folder, path) = left_alone();
        let mut reader = Reader::open(&path, BUSY).expect("opens");
        assert!(matches!(reader.opened, Opened::LeftAlone(_)));
        let asked = Cell::new(0);
        let found = reader.read(&path, |conn| {
            asked.set(asked.get() + 1);
            let found = count(conn);
            if asked.get() == 1 {
                write(&path);
                touch(&path, 1_800); // the stamp of the change tells it all the same
            }
            found
        });
        assert_eq!((found.expect("reads"), asked.get()), (2, 2));
    }

    #[test]
    fn an_error_by_a_change_is_not_believed() {
        let (_folder, path) = left_alone();
        let mut reader = Reader::open(&path, BUSY).expect("opens");
        let asked = Cell::new(0);
        let found = reader.read(&path, |conn| {
            asked.set(asked.get() + 1);
            if asked.get() == 1 {
                write(&path);
                return Err(Error::Damaged(store::busy()));
            }
            count(conn)
        });
        assert_eq!(found.expect("reads"), 2);
    }

    #[test]
    fn what_never_stands_still_is_busy() {
        let (_folder, path) = left_alone();
        let mut reader = Reader::open(&path, BUSY).expect("opens");
        let asked = Cell::new(0);
        let found = reader.read(&path, |conn| {
            asked.set(asked.get() + 1);
            touch(&path, 1_000 + asked.get());
            count(conn)
        });
        assert!(matches!(found, Err(Error::Busy(_))), "{found:?}");
        assert_eq!(asked.get(), TRIES as u64);
    }
}
