//! Whether the files are still those that were opened.
//!
//! SQLite goes on with a file that was deleted or moved, and does not notice: what is committed then is gone with the
//! process, or stands in a file that nobody looks at; and another program that opens the new file has other locks.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::Error;

/// One of SQLite's files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    Database,
    Log,
    SharedMemory,
}

impl Part {
    const ALL: [Part; 3] = [Part::Database, Part::Log, Part::SharedMemory];

    fn suffix(self) -> &'static str {
        match self {
            Part::Database => "",
            Part::Log => "-wal",
            Part::SharedMemory => "-shm",
        }
    }
}

/// Those that stood there when the database was opened.
pub(super) struct Files(Vec<(Part, PathBuf, Identity)>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Files {
    /// `-wal` and `-shm` are left out where there are none: an application may hold the database for itself alone, and
    /// SQLite then keeps what is in `-shm` in its memory.
    pub fn of(database: &Path) -> Result<Self, Error> {
        let mut files = Vec::new();
        for part in Part::ALL {
            let mut path = database.as_os_str().to_owned();
            path.push(part.suffix());
            let path = PathBuf::from(path);
            match identity(&path) {
                Ok(found) => files.push((part, path, found)),
                Err(error) if error.kind() == io::ErrorKind::NotFound && part != Part::Database => {}
                Err(source) => return Err(Error::Io { path, source }),
            }
        }
        Ok(Files(files))
    }

    /// Bytes that the log's file has, of which all, some or none stand in the database as well.
    pub fn log_size(&self) -> u64 {
        let log = self.0.iter().find(|(part, ..)| *part == Part::Log);
        log.and_then(|(_, path, _)| fs::metadata(path).ok()).map_or(0, |found| found.len())
    }

    /// The first that is not the one any more that was opened.
    pub fn lost(&self) -> Option<(Part, &Path)> {
        let lost = self.0.iter().find(|(_, path, opened)| match identity(path) {
            Ok(found) => found != *opened,
            // A disk that does not answer says nothing about whose file it is.
            Err(error) => matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        });
        lost.map(|(part, path, _)| (*part, path.as_path()))
    }
}

fn identity(path: &Path) -> io::Result<Identity> {
    fs::metadata(path).map(|found| Identity { device: found.dev(), inode: found.ino() })
}
