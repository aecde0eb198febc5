//! One forwarder per database: an advisory lock on a file of its own beside it.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::Error;

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
        let mut path = database.as_os_str().to_owned();
        path.push("-outbox-lock");
        path.into()
    }

    /// Takes the lock, or answers `None` where another forwarder has it. Never waits.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be created or the file system knows no locks.
    pub fn try_take(database: &Path) -> Result<Option<Self>, Error> {
        let path = Self::path(database);
        let failed = |source| Error::Io { path: path.clone(), source };
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(ForwarderLock { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => Ok(None),
            Err(errno) => Err(failed(errno.into())),
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
        let first = ForwarderLock::try_take(&database)?;
        assert!(first.is_some());
        assert!(ForwarderLock::try_take(&database)?.is_none());
        drop(first);
        assert!(ForwarderLock::try_take(&database)?.is_some());
        Ok(())
    }
}
