//! The file system under the database, as far as SQLite does not tell of it: how much is free, the reserve, and whether
//! the files are still those that were opened.
//!
//! The database, `-wal` and `-shm` are looked at by name and never opened here: closing them would drop SQLite's locks.

mod beside;
mod files;
mod own;
mod reserve;
#[cfg(test)]
mod tests;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use files::Files;
use reserve::{Reserve, is_lack_of_space};

pub(crate) use beside::{Beside, Identity, Stamp, resolve, why_not_readable};
pub(crate) use files::Part;
pub(crate) use own::{Audience, open_own};

use crate::{Error, Full, Limit, Settings, Storage, inspector};

/// For how long what was seen of the disk is believed, as long as little is written.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Bytes that a message takes on the disk at most beside its own, when it is committed alone: the pages that it changes, in
/// the log and in the database.
const PER_MESSAGE: u64 = 32 * 1024;
/// Bytes of a write-ahead log in which nothing is committed: <https://www.sqlite.org/fileformat2.html#walformat>. Two power cuts
/// while a database is created can leave that much of it beside an empty database.
const LOG_HEADER: u64 = 32;
/// What opening a database may take: its -shm, a header of its -wal, an entry in a folder.
const TO_OPEN: u64 = 256 * 1024;

/// Bytes by which it is found out whether the disk keeps what it is given.
const PROBE: usize = 256 * 1024;

pub(crate) struct Disk {
    folder: PathBuf,
    keep_free: u64,
    reserve: Reserve,
    files: Files,
    /// Whether one of the files was found to be another at the last look.
    lost: AtomicBool,
    /// Whether a commit failed since the log last began anew.
    log_is_doubtful: AtomicBool,
    probe: PathBuf,
    database: PathBuf,
    seen: Mutex<Option<Seen>>,
}

/// What a look at the disk found.
#[derive(Clone, Copy)]
struct Seen {
    at: Instant,
    /// Bytes that are free, less those that were admitted since.
    free: u64,
    /// Bytes that the reserve has.
    reserve: u64,
    /// Bytes that the log's file has.
    log: u64,
}

impl Disk {
    /// Of a database that is open: `-wal` and `-shm` stand beside it by now, and stay for as long as one connection of
    /// this process does.
    ///
    /// # Errors
    /// [`Error::Io`] if the database cannot be looked at.
    pub fn of(database: &Path, settings: &Settings) -> Result<Self, Error> {
        let probe = beside(database, "-outbox-probe");
        let _ = fs::remove_file(&probe); // of a program that was killed
        Ok(Disk {
            folder: database.parent().unwrap_or(Path::new("/")).to_owned(),
            keep_free: settings.keep_free,
            reserve: Reserve::of(database, settings.reserve),
            files: Files::of(database)?,
            lost: AtomicBool::new(false),
            log_is_doubtful: AtomicBool::new(false),
            probe,
            database: database.to_owned(),
            seen: Mutex::new(None),
        })
    }

    /// Whether a message of so many bytes may be written.
    ///
    /// # Errors
    /// [`Error::Full`] and [`Error::Replaced`].
    pub fn admit(&self, bytes: u64) -> Result<(), Error> {
        let mut seen = self.seen();
        let now = Instant::now();
        let known = seen.filter(|seen| {
            // Near the limit what others write counts, and is looked for each time.
            self.no_loss_known().is_ok()
                && now.duration_since(seen.at) < LOOK_EVERY
                && seen.free / 2 > self.must_stay_free(seen).saturating_add(bytes)
        });
        let mut found = match known {
            Some(found) => found,
            None => self.look(now)?,
        };
        let admitted = self.room(&found, bytes);
        if admitted.is_ok() {
            found.free = found.free.saturating_sub(bytes.saturating_add(PER_MESSAGE));
        }
        *seen = Some(found);
        admitted.map_err(Error::Full)
    }

    /// Whether the files are still those that were opened.
    ///
    /// # Errors
    /// [`Error::Replaced`] names the first that is not.
    pub fn files_stand(&self) -> Result<(), Error> {
        self.lost().map_or(Ok(()), |(_, path)| Err(Error::Replaced { path: path.to_owned() }))
    }

    /// The first of the files that is not the one any more that was opened.
    pub fn lost(&self) -> Option<(Part, &Path)> {
        let lost = self.files.lost();
        self.lost.store(lost.is_some(), Ordering::SeqCst);
        lost
    }

    /// [`files_stand`](Self::files_stand), as of the last look. Asked with the write lock in hand it says whether what
    /// is committed can be saved from a log that was deleted: before anything is saved the loss is known, and saving
    /// needs that lock.
    ///
    /// # Errors
    /// [`Error::Replaced`].
    pub fn no_loss_known(&self) -> Result<(), Error> {
        if self.lost.load(Ordering::SeqCst) { self.files_stand() } else { Ok(()) }
    }

    /// A commit failed. What could not be written to the log then is taken for written from now on by the kernel: a sync
    /// that succeeds later says nothing of it. On ext4 that stays so however often the same place is written again
    /// (measured: what was committed there afterwards, with a sync that succeeded, was zeros after the next mount). So
    /// what the log holds is written once more, into the database, and the log begun anew in an empty file, which has
    /// other places.
    pub fn doubt_log(&self) {
        self.log_is_doubtful.store(true, Ordering::Relaxed);
    }

    /// Whether the log has to be begun anew before anything is committed.
    pub fn is_log_doubtful(&self) -> bool {
        self.log_is_doubtful.load(Ordering::Relaxed)
    }

    /// Has `empty` begin the log anew, if there is doubt about it.
    ///
    /// # Errors
    /// Those of `empty`: the doubt stays then.
    pub fn renew_log(&self, empty: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        // Taken back before it is emptied: another commit may fail meanwhile.
        if self.is_log_doubtful() && self.log_is_doubtful.swap(false, Ordering::Relaxed) {
            self.probe().and_then(|()| empty()).inspect_err(|_| self.doubt_log())?;
        }
        Ok(())
    }

    /// Whether the disk keeps what it is given, by a file that nobody needs: what fails to be written in the database
    /// itself could not be mended any more.
    fn probe(&self) -> Result<(), Error> {
        let path = &self.probe;
        let synced = open_own(&self.database, path).and_then(|mut file| match file.write_all(&vec![b'x'; PROBE]) {
            // Too little to find out by: then the log is emptied all the same, which makes space.
            Err(error) if is_lack_of_space(&error) => Ok(()),
            // A sync that finds too little is another thing: so answers a card that is smaller than it says.
            written => written.and_then(|()| file.sync_all()),
        });
        let _ = fs::remove_file(path);
        synced.map_err(|source| Error::Io { path: path.clone(), source })
    }

    /// Whether a message of one byte would be taken: what [`Storage::Full`] goes by.
    pub fn is_full(&self) -> bool {
        self.full().is_some()
    }

    /// Why a message of one byte would not be taken.
    pub fn full(&self) -> Option<Full> {
        self.look(Instant::now()).ok().and_then(|found| self.room(&found, 1).err())
    }

    /// What can be told without asking SQLite.
    pub fn storage(&self) -> Storage {
        match self.files_stand() {
            Err(error) => Storage::of(&error),
            Ok(()) if self.is_full() => Storage::Full,
            Ok(()) => Storage::Ok,
        }
    }

    /// Whether the log has to give its space back: the disk may soon be full, or is, and the log takes more than there
    /// is ample room for. What it takes counts even if all of it stands in the database: only a commit would begin it
    /// anew, and there is none while new messages are turned away.
    pub fn log_is_in_the_way(&self) -> bool {
        self.look(Instant::now()).is_ok_and(|found| {
            let short = found.free / 2 < self.must_stay_free(&found).saturating_add(self.reserve.size());
            let ample = if self.room(&found, 1).is_ok() { self.reserve.size() / 4 } else { 0 };
            short && found.log > ample
        })
    }

    /// Bytes that the log's file has.
    pub fn log_size(&self) -> u64 {
        self.files.log_size()
    }

    /// Gives up the reserve; whether there was one.
    pub fn give_up_reserve(&self) -> bool {
        let given = self.reserve.give_up();
        self.forget();
        given
    }

    /// Whether the reserve has to be made again.
    pub fn lacks_reserve(&self) -> bool {
        self.reserve.lacks() > 0
    }

    /// Makes the reserve if it is not whole and the disk has space for `times` as much; whether it is whole.
    ///
    /// # Errors
    /// [`Error::Io`] where something else than space is missing.
    pub fn make_reserve(&self, times: u64) -> Result<bool, Error> {
        let lacks = self.reserve.lacks();
        if lacks == 0 {
            return Ok(true);
        }
        if free(&self.folder)? < lacks.saturating_mul(times) {
            return Ok(false);
        }
        let made = self.reserve.make();
        self.forget();
        made
    }

    fn room(&self, found: &Seen, bytes: u64) -> Result<(), Full> {
        if found.reserve < self.reserve.size() {
            let (found, allowed) = (found.reserve, self.reserve.size());
            return Err(Full { limit: Limit::Reserve, found, allowed, wanted: bytes });
        }
        let allowed = self.must_stay_free(found);
        if found.free < allowed.saturating_add(bytes) {
            return Err(Full { limit: Limit::FreeSpace, found: found.free, allowed, wanted: bytes });
        }
        Ok(())
    }

    /// What is for others, or else what the log would take in the database beyond the reserve: a log that cannot be
    /// moved grows until nothing can be written. What a message takes must be there in any case, or each of them would
    /// fail in its COMMIT, of which nobody knows what it did.
    fn must_stay_free(&self, found: &Seen) -> u64 {
        self.keep_free.max(found.log.saturating_sub(self.reserve.size())).max(PER_MESSAGE)
    }

    fn look(&self, at: Instant) -> Result<Seen, Error> {
        self.files_stand()?;
        Ok(Seen { at, free: free(&self.folder)?, reserve: self.reserve.standing(), log: self.files.log_size() })
    }

    /// What was seen does not hold any more.
    fn forget(&self) {
        *self.seen() = None;
    }

    fn seen(&self) -> MutexGuard<'_, Option<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a database may be created, or opened, in this place: not where only its log is left, which SQLite would delete.
///
/// # Errors
/// [`Error::LogAlone`].
pub(crate) fn no_log_alone(database: &Path) -> Result<(), Error> {
    let longer = |path: &Path, than: u64| fs::metadata(path).is_ok_and(|found| found.len() > than);
    let is_there = |path: &Path| longer(path, 0);
    // A link leads to where both are.
    let log = beside(&database.canonicalize().unwrap_or_else(|_| database.to_owned()), "-wal");
    // Looked at once more after the log: another process may have made both in between.
    if !is_there(database) && longer(&log, LOG_HEADER) && !is_there(database) {
        return Err(Error::LogAlone { path: log });
    }
    Ok(())
}

/// How large the files of a database are that need not be open, and how much space there is.
///
/// # Errors
/// [`Error::Io`] if the database or the file system cannot be looked at.
pub(crate) fn files(database: &Path) -> Result<inspector::Files, Error> {
    let size = |path: &Path| fs::metadata(path).map(|found| found.len());
    let size_of = |suffix| size(&beside(database, suffix)).unwrap_or(0);
    Ok(inspector::Files {
        database: size(database).map_err(|source| Error::Io { path: database.to_owned(), source })?,
        log: size_of("-wal"),
        reserve: size_of("-outbox-reserve"),
        free: free(database.parent().unwrap_or(Path::new("/")))?,
    })
}

/// A file beside the database, as SQLite names its own.
pub(crate) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Whether there is so little space that SQLite may not be able to open a database.
pub(crate) fn is_full(database: &Path) -> bool {
    database.parent().is_some_and(|folder| {
        free(if folder.as_os_str().is_empty() { Path::new(".") } else { folder }).is_ok_and(|free| free < TO_OPEN)
    })
}

/// Gives up the reserve of a database that is not open yet; whether there was one.
pub(crate) fn give_up_reserve(database: &Path) -> bool {
    // Named as SQLite does it.
    let database = database.canonicalize().unwrap_or_else(|_| database.to_owned());
    Reserve::of(&database, 0).give_up()
}

/// Bytes that anybody may still write to the file system; what is kept for root is not among them. One that does not
/// tell, as ramfs, says that it has no blocks at all: it has no limit that could be kept.
fn free(folder: &Path) -> Result<u64, Error> {
    let found =
        rustix::fs::statvfs(folder).map_err(|errno| Error::Io { path: folder.to_owned(), source: errno.into() })?;
    Ok(if found.f_blocks == 0 { u64::MAX } else { found.f_bavail.saturating_mul(found.f_frsize) })
}
