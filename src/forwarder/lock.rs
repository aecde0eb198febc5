//! One forwarder per database: an advisory lock on a file of its own beside it.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};

use crate::{Error, disk};

/// Held for as long as this stands; the kernel lets go of it when the process ends, however it ends.
///
/// The file is never deleted: another process may be waiting on it, and would then hold a lock that nobody sees.
#[derive(Debug)]
pub(crate) struct ForwarderLock {
    _file: File,
}

impl ForwarderLock {
    /// The lock's file for a database.
    pub fn path(database: &Path) -> PathBuf {
        disk::beside(database, "-outbox-lock")
    }

    /// Takes the lock, or answers `None` where another forwarder has it. Never waits.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be created or the file system knows no locks.
    pub fn try_take(database: &Path) -> Result<Option<Self>, Error> {
        let path = Self::path(database);
        let failed = |source| Error::Io { path: path.clone(), source };
        let file = disk::open_own(database, &path).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(ForwarderLock { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => Ok(None),
            Err(errno) => Err(failed(errno.into())),
        }
    }

    /// Whether somebody has it, asked by taking a share of it for a moment. `/proc/locks` would disturb nobody, but does not
    /// show the locks of other containers, and names files in a way that not all file systems keep to.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be read.
    pub fn is_taken(database: &Path) -> Result<bool, Error> {
        let path = Self::path(database);
        // A pipe in its place would be waited for.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = match OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(Error::Io { path, source }),
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
            Err(errno) => Err(Error::Io { path, source: errno.into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_holds_it_and_the_next_gets_it_when_the_first_lets_go() -> Result<(), Error> {
        let folder = tempfile::tempdir().expect("a folder");
        let database = folder.path().join("app.db");
        assert!(!ForwarderLock::is_taken(&database)?);
        let first = ForwarderLock::try_take(&database)?;
        assert!(first.is_some() && ForwarderLock::is_taken(&database)? && ForwarderLock::is_taken(&database)?);
        assert!(ForwarderLock::try_take(&database)?.is_none());
        drop(first);
        assert!(!ForwarderLock::is_taken(&database)?);
        assert!(ForwarderLock::try_take(&database)?.is_some());
        Ok(())
    }
}
