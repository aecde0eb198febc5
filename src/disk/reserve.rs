//! A file that holds a place on the disk, to be given up when there is no other left.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::open_own;
use crate::Error;

/// Bytes written at a time where a place cannot be had without writing.
const PIECE: usize = 64 * 1024;

pub(super) struct Reserve {
    database: PathBuf,
    path: PathBuf,
    size: u64,
}

impl Reserve {
    /// Of a database; a size of 0 is none.
    pub fn of(database: &Path, size: u64) -> Self {
        Reserve { database: database.to_owned(), path: super::beside(database, "-outbox-reserve"), size }
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that it has.
    pub fn standing(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |found| found.len())
    }

    /// Bytes that it has too few.
    pub fn lacks(&self) -> u64 {
        self.size.saturating_sub(self.standing())
    }

    /// Gives it up; whether there was any.
    pub fn give_up(&self) -> bool {
        let stood = self.standing() > 0;
        match fs::remove_file(&self.path) {
            Ok(()) => {
                log::warn!("the disk is full: the reserve {} is given up", self.path.display());
                stood
            }
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => {
                log::warn!("the reserve {} cannot be given up: {error}", self.path.display());
                false
            }
        }
    }

    /// Makes it as large as it has to be; `false` where the disk has no space for it, and then nothing of it is left
    /// that was not there before.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn make(&self) -> Result<bool, Error> {
        if self.size == 0 {
            return Ok(true);
        }
        let before = self.standing();
        let made = open_own(&self.database, &self.path).and_then(|file| {
            hold(&file, before, self.size).inspect_err(|_| {
                let _ = file.set_len(before); // taken back as far as possible; what is left over is looked at next time
            })
        });
        match made {
            Ok(()) => Ok(true),
            Err(error) if is_lack_of_space(&error) => {
                if before == 0 {
                    let _ = fs::remove_file(&self.path);
                }
                Ok(false)
            }
            Err(source) => Err(Error::Io { path: self.path.clone(), source }),
        }
    }
}

/// Has the file system set the bytes from `from` to `to` aside for the file.
fn hold(file: &File, from: u64, to: u64) -> io::Result<()> {
    loop {
        match fallocate(file, FallocateFlags::empty(), from, to.saturating_sub(from)) {
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => return write_out(file, to.saturating_sub(from)),
            other => return other.map_err(io::Error::from),
        }
    }
}

/// The same by bytes that no file system can store in less.
fn write_out(mut file: &File, mut bytes: u64) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    while bytes > 0 {
        for word in piece.chunks_exact_mut(8) {
            // Xorshift: not secret, only without a pattern.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        let next = usize::try_from(bytes).unwrap_or(PIECE).min(PIECE);
        file.write_all(&piece[..next])?;
        bytes -= next as u64;
    }
    file.sync_all()
}

pub(super) fn is_lack_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_set_aside_is_written() -> io::Result<()> {
        let file = tempfile::tempfile()?;
        write_out(&file, 3 * PIECE as u64 + 5)?;
        assert_eq!(file.metadata()?.len(), 3 * PIECE as u64 + 5);
        Ok(())
    }
}
