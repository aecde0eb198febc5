//! How the database and the disk under it do, and what can be done for them.

use std::path::Path;
use std::sync::Arc;

use crate::Error;
use crate::disk::{Disk, Part};
use crate::error::chain;
use crate::status::Storage;
use crate::store::{Store, is_failed_sync};

/// What the forwarder does with the database. What one of them meets stands until the same goes well again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Work {
    Write,
    Read,
    /// The look whether anybody has committed.
    Look,
    /// Moving the log into the database: until that goes well the log grows.
    Checkpoint,
}

pub(super) struct Health {
    disk: Arc<Disk>,
    /// What each kind of [`Work`] met last, the gravest first.
    met: [Storage; 4],
    /// A file that is not the one any more that was opened, in words.
    replaced: Option<(Part, String)>,
    /// Whether new messages are turned away.
    full: bool,
    /// What is damaged, in words. A file does not heal: it stands even while everything else goes well.
    damaged: Option<String>,
    /// What the log was told.
    told: Storage,
}

impl Health {
    pub fn new(disk: Arc<Disk>) -> Self {
        Health { disk, met: [const { Storage::Ok }; 4], replaced: None, full: false, damaged: None, told: Storage::Ok }
    }

    pub fn storage(&self) -> Storage {
        if let Some((_, words)) = &self.replaced {
            return Storage::Replaced(words.clone());
        }
        match self.met.iter().find(|met| **met != Storage::Ok) {
            Some(met) => met.clone(),
            None if self.full => Storage::Full,
            None => self.damaged.clone().map_or(Storage::Ok, Storage::Damaged),
        }
    }

    pub fn went_well(&mut self, work: Work) {
        let met = &mut self.met[work as usize];
        if *met != Storage::Ok {
            *met = Storage::Ok;
            self.tell();
        }
    }

    /// It went wrong. Where there was no space the reserve is given up: true if that made some, and it can be tried
    /// again at once.
    pub fn trouble(&mut self, work: Work, error: &Error) -> bool {
        self.met[work as usize] = Storage::of(error);
        // A checkpoint syncs the log first, and by that what this forwarder committed: if it fails, later syncs say nothing
        // of those pages, and in a power cut all that was committed behind them would be gone with them (seen).
        if work == Work::Write && matches!(error, Error::Disk(_)) || is_failed_sync(error) {
            self.disk.doubt_log();
        }
        self.note_damage(Some(error));
        let made_space = matches!(error, Error::DiskFull(_)) && self.disk.give_up_reserve();
        // It is full until there is a reserve again, whatever goes well in the space that was made.
        self.full |= made_space;
        self.tell();
        made_space
    }

    /// Keeps in mind that the database is damaged, if that is what the error says.
    pub fn note_damage(&mut self, error: Option<&Error>) {
        if let (None, Some(error @ Error::Damaged(_))) = (&self.damaged, error) {
            self.damaged = Some(chain(error));
            self.tell();
        }
    }

    /// Looks whether the files are still those that were opened; the first that is not.
    pub fn look_at_files(&mut self) -> Option<Part> {
        let words = |path: &Path| Error::Replaced { path: path.to_owned() }.to_string();
        let lost = self.disk.lost().map(|(part, path)| (part, words(path)));
        if lost != self.replaced {
            self.replaced = lost;
            self.tell();
        }
        self.replaced.as_ref().map(|(part, _)| *part)
    }

    /// Whether something may be written.
    ///
    /// # Errors
    /// [`Error::Replaced`].
    pub fn may_write(&self) -> Result<(), Error> {
        self.disk.files_stand()
    }

    /// Moves the log into the database, sees how much is free, and makes a reserve that was given up again: once there
    /// is ample space, or `idle`, when all that could be sent is written down and the log has given back what it took.
    pub fn tend(&mut self, store: &Store, idle: bool) {
        // What the log holds takes space in the database as well: it is moved there while there is some, and what its
        // file takes is given back.
        let renewed = self.disk.renew_log(|| store.empty_log());
        match renewed
            .and_then(|()| if self.disk.log_is_in_the_way() { store.empty_log_if_unused() } else { store.checkpoint() })
        {
            Ok(()) => self.went_well(Work::Checkpoint),
            // Others are in its way, or the disk is full, which is looked at below.
            Err(error @ (Error::Busy(_) | Error::DiskFull(_))) => {
                log::debug!("no checkpoint this time: {}", chain(&error));
            }
            Err(error) => drop(self.trouble(Work::Checkpoint, &error)),
        }
        if self.disk.lacks_reserve() {
            match self.disk.make_reserve(if idle { 1 } else { 2 }) {
                Ok(true) => log::info!("the reserve is whole again"),
                Ok(false) => {}
                Err(error) => log::debug!("no reserve this time: {}", chain(&error)),
            }
        }
        let full = self.disk.is_full();
        if full != self.full {
            self.full = full;
            self.tell();
        }
    }

    /// Says what has changed; not what comes and goes by itself.
    fn tell(&mut self) {
        let now = self.storage();
        if now == self.told || now == Storage::Busy {
            return;
        }
        match &now {
            Storage::Ok | Storage::Busy if self.told == Storage::Full => {
                log::info!("there is space on the disk again: new messages are taken");
            }
            Storage::Ok | Storage::Busy => log::info!("the database takes what is written again"),
            Storage::Full => match self.disk.full() {
                Some(full) => log::warn!("no new messages are taken: {full}"),
                None => log::warn!("no new messages are taken: the disk is full"),
            },
            Storage::Damaged(words) | Storage::Failing(words) => log::warn!("{words}"),
            Storage::Replaced(words) => log::error!("{words}"),
        }
        self.told = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;

    #[test]
    fn a_disk_is_full_until_the_reserve_that_was_given_up_stands_again() -> Result<(), Error> {
        let folder = tempfile::tempdir().expect("a folder");
        let database = folder.path().join("a.db");
        std::fs::write(&database, "").expect("a file");
        let disk = Arc::new(Disk::of(&database, &Settings { keep_free: 0, ..Settings::default() })?);
        assert!(disk.make_reserve(1)?);
        let mut health = Health::new(disk);
        let no_space = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
        let no_space = Error::DiskFull(rusqlite::Error::SqliteFailure(no_space, None));
        assert!(health.trouble(Work::Write, &no_space));
        health.went_well(Work::Write);
        assert_eq!(health.storage(), Storage::Full);
        assert!(!health.trouble(Work::Write, &no_space), "there is no other");
        Ok(())
    }
}
