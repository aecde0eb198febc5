//! What stands beside a database that this process is only to look at, and who may change that.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{Access, StatVfsMountFlags, access, statvfs};
use rustix::process::geteuid;

use super::{beside, no_log_alone};
use crate::Error;

/// The coarsest stamps of change that a file system has (FAT), and something on top: of a file whose stamp is younger a
/// second change might not show.
const COARSE: Duration = Duration::from_secs(3);

/// A database's file and its neighbours, at one moment.
pub(crate) struct Beside {
    database: fs::Metadata,
    log: Option<u64>,
    shared_memory: bool,
    journal: bool,
    /// Nobody writes through this mount, but perhaps through another one of the same file system.
    read_only: bool,
    may_create: bool,
}

/// By which a file is known to be the same one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

/// By which a file is known to be unchanged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    identity: Identity,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Beside {
    /// # Errors
    /// [`Error::Missing`]; [`Error::LogAlone`]; [`Error::NotReadable`] for what is no file, or may not be looked at.
    pub fn of(database: &Path) -> Result<Self, Error> {
        no_log_alone(database)?;
        let found = fs::metadata(database).map_err(|error| not_found(database, &error))?;
        if !found.is_file() {
            let what = if found.is_dir() { "a folder" } else { "not a regular file" };
            return Err(not_readable(database, format!("it is {what}: name the database's file")));
        }
        let folder = database.parent().unwrap_or(Path::new("/"));
        let read_only = statvfs(folder).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY));
        // What root makes SQLite gives to the database's owner. What another user makes the owner could not write.
        let user = geteuid();
        let owner = user.is_root() || (user.as_raw() == found.uid() && access(folder, Access::WRITE_OK).is_ok());
        let size = |suffix| fs::metadata(beside(database, suffix)).ok().map(|found| found.len());
        Ok(Beside {
            database: found,
            log: size("-wal"),
            shared_memory: size("-shm").is_some(),
            journal: size("-journal").is_some(),
            read_only,
            may_create: owner && !read_only,
        })
    }

    /// Whether nobody has it open, if it is in WAL mode: each connection that reads or writes has made a `-wal`.
    pub fn is_left_alone(&self) -> bool {
        let log = match self.log {
            // Nobody can write it there, nor delete it.
            Some(0) => self.shared_memory || !self.read_only,
            log => log.is_some(),
        };
        !log && !self.journal && self.database.len() > 0
    }

    /// By which it shows whether somebody has changed it since; `None` where a change might not show.
    pub fn stamp(&self) -> Option<Stamp> {
        let found = &self.database;
        let stamp = Stamp {
            identity: self.identity(),
            size: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        };
        (self.read_only || !is_fresh(found)).then_some(stamp)
    }

    pub fn identity(&self) -> Identity {
        Identity { device: self.database.dev(), inode: self.database.ino() }
    }

    /// Whether SQLite can read it, in WAL mode, without making a file that the database's owner could not write.
    ///
    /// # Errors
    /// [`Error::NotReadable`] says what is missing, and what to do.
    pub fn can_be_shared(&self, database: &Path) -> Result<(), Error> {
        let why = match self.log {
            _ if access(database, Access::READ_OK).is_err() => {
                return Err(not_readable(database, why_not_readable(database)));
            }
            _ if self.may_create => return Ok(()),
            Some(_) if self.shared_memory => return Ok(()),
            None if self.journal => return Ok(()), // not in WAL mode
            Some(_) if self.read_only => {
                "its latest changes stand in the -wal beside it, which cannot be read without a -shm, and none can be \
                 made on a read-only mount: copy both files to a folder that can be written, and look there"
            }
            Some(_) => {
                "the -shm is missing that belongs to its -wal, and only the database's owner should make one: do this \
                 as the owner, or as root"
            }
            None => "it was written a moment ago: try again in a few seconds, or do this as its owner, or as root",
        };
        Err(not_readable(database, why.to_owned()))
    }
}

/// What may not be read of a database that SQLite could not open or read, and what to do.
pub(crate) fn why_not_readable(database: &Path) -> String {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let path = if suffix.is_empty() { database.to_owned() } else { beside(database, suffix) };
        if path.exists() && access(&path, Access::READ_OK).is_err() {
            let owner = fs::metadata(&path).map(|found| format!(" (user id {})", found.uid())).unwrap_or_default();
            return format!("you may not read {}: do this as its owner{owner}, or as root", path.display());
        }
    }
    if beside(database, "-journal").exists() {
        return "a transaction that was cut short stands in the -journal beside it, and only a program that writes takes \
                it back: open it once with one (`edge-outbox init` does); from a read-only mount copy both files to a \
                folder that can be written, and look there"
            .to_owned();
    }
    "SQLite cannot use the -wal or -shm beside it: do this as the database's owner, or as root; from a read-only mount \
     copy the files to a folder that can be written, and look there"
        .to_owned()
}

/// The name by which SQLite knows it: absolute, links resolved.
///
/// # Errors
/// [`Error::Missing`], [`Error::LogAlone`], [`Error::NotReadable`].
pub(crate) fn resolve(database: &Path) -> Result<PathBuf, Error> {
    no_log_alone(database)?;
    database.canonicalize().map_err(|error| not_found(database, &error))
}

fn not_found(database: &Path, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::Missing { path: database.to_owned() },
        io::ErrorKind::PermissionDenied => not_readable(
            database,
            "you may not enter a folder on the way to it: do this as its owner, or as root".to_owned(),
        ),
        _ => not_readable(database, format!("{error}: look at the path, and at the kernel's log")),
    }
}

fn not_readable(database: &Path, why: String) -> Error {
    Error::NotReadable { path: database.to_owned(), why }
}

/// By the clock that made the stamp, wherever it stands.
fn is_fresh(found: &fs::Metadata) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(now).unwrap_or(i64::MAX).abs_diff(found.mtime()) <= COARSE.as_secs()
}
