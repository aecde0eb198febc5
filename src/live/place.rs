//! Where the socket stands.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::net::SocketAddrUnix;

use crate::disk;

/// The socket of a database, in a folder that is held open: it is the same one when it is moved.
pub(crate) struct Place {
    folder: File,
    name: OsString,
    path: PathBuf,
}

impl Place {
    /// # Errors
    /// Where there is no such folder, or it lets nobody through.
    pub fn of(database: &Path) -> io::Result<Self> {
        let path = disk::beside(database, "-outbox-status");
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let folder = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(folder)?;
        Ok(Place { folder, name: path.file_name().unwrap_or_default().to_owned(), path })
    }

    pub fn folder(&self) -> &File {
        &self.folder
    }

    pub fn name(&self) -> &Path {
        Path::new(&self.name)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Valid for as long as this stands. An address has 108 bytes: a path that is longer begins at the open folder.
    ///
    /// # Errors
    /// Where the name alone is too long.
    pub fn address(&self) -> io::Result<SocketAddrUnix> {
        let short = || Path::new("/proc/self/fd").join(self.folder.as_raw_fd().to_string()).join(&self.name);
        SocketAddrUnix::new(&self.path).or_else(|_| SocketAddrUnix::new(short())).map_err(io::Error::from)
    }
}
