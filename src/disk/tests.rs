//! A folder with files in the place of a database's.

use std::fs;
use std::path::PathBuf;

use super::*;

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Place { folder: tempfile::tempdir().expect("a folder") };
        for name in ["a.db", "a.db-wal", "a.db-shm"] {
            fs::write(place.path(name), "").expect("a file");
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn disk(&self, settings: &Settings) -> Disk {
        Disk::of(&self.path("a.db"), settings).expect("a disk")
    }
}

fn settings(keep_free: u64, reserve: u64) -> Settings {
    Settings { keep_free, reserve, ..Settings::default() }
}

#[test]
fn without_limits_every_message_is_admitted() -> Result<(), Error> {
    let place = Place::new();
    let disk = place.disk(&settings(0, 0));
    disk.admit(1 << 10)?;
    assert!(disk.make_reserve(1)? && !disk.lacks_reserve() && !disk.give_up_reserve() && !disk.is_full());
    assert!(!place.path("a.db-outbox-reserve").exists());
    Ok(())
}

#[test]
fn a_message_that_would_leave_others_less_than_they_are_to_have_is_not_admitted() {
    let place = Place::new();
    let disk = place.disk(&settings(u64::MAX / 4, 0));
    match disk.admit(100) {
        Err(Error::Full(full)) => {
            assert_eq!((full.limit, full.allowed, full.wanted), (Limit::FreeSpace, u64::MAX / 4, 100));
            assert!(full.found > 0 && full.found < full.allowed, "{full:?}");
        }
        other => panic!("{other:?}"),
    }
    assert!(disk.is_full());
}

#[test]
fn no_message_is_admitted_between_giving_up_the_reserve_and_making_it_again() -> Result<(), Error> {
    let place = Place::new();
    let disk = place.disk(&settings(0, 65_536));
    assert!(
        disk.lacks_reserve() && matches!(disk.admit(1), Err(Error::Full(Full { limit: Limit::Reserve, found: 0, .. })))
    );
    assert!(disk.make_reserve(1)?);
    assert_eq!(fs::metadata(place.path("a.db-outbox-reserve")).expect("a reserve").len(), 65_536);
    disk.admit(1)?;
    assert!(disk.give_up_reserve() && !disk.give_up_reserve());
    assert!(disk.admit(1).is_err() && disk.is_full());
    assert!(!disk.make_reserve(u64::MAX)?, "more space than there is was asked for");
    assert!(disk.make_reserve(2)?);
    disk.admit(1)
}

#[test]
fn a_reserve_that_is_shorter_than_it_is_to_be_is_made_longer() -> Result<(), Error> {
    let place = Place::new();
    place.disk(&settings(0, 65_536)).make_reserve(1)?;
    let disk = place.disk(&settings(0, 100_000));
    assert!(matches!(disk.admit(1), Err(Error::Full(Full { limit: Limit::Reserve, found: 65_536, .. }))));
    assert!(disk.make_reserve(1)?);
    disk.admit(1)
}

#[test]
fn a_file_that_was_deleted_or_replaced_is_noticed_and_one_that_was_put_back_too() -> Result<(), Error> {
    for (name, part) in [("a.db", Part::Database), ("a.db-wal", Part::Log), ("a.db-shm", Part::SharedMemory)] {
        let place = Place::new();
        let disk = place.disk(&settings(0, 0));
        disk.files_stand()?;
        let away = place.path("away");
        fs::rename(place.path(name), &away).expect("moved");
        assert_eq!(disk.lost().map(|(part, _)| part), Some(part));
        assert!(matches!(disk.files_stand(), Err(Error::Replaced { path }) if path == place.path(name)));
        assert!(matches!(disk.admit(1), Err(Error::Replaced { .. })));
        fs::write(place.path(name), name).expect("another file");
        assert_eq!(disk.lost().map(|(part, _)| part), Some(part));
        fs::rename(&away, place.path(name)).expect("moved back");
        disk.files_stand()?;
        disk.admit(1)?;
    }
    Ok(())
}

#[test]
fn a_log_that_was_not_there_is_not_missed() -> Result<(), Error> {
    let place = Place::new();
    fs::remove_file(place.path("a.db-shm")).expect("removed");
    place.disk(&settings(0, 0)).files_stand()
}

/// SQLite would take the log for one that somebody left behind, and delete it with all that was committed to it.
#[test]
fn a_log_whose_database_is_gone_is_kept() {
    let place = Place::new();
    let database = place.path("a.db");
    fs::write(place.path("a.db-wal"), "committed ".repeat(10)).expect("a log");
    fs::write(&database, "a database").expect("a database");
    assert!(no_log_alone(&database).is_ok());
    fs::write(&database, "").expect("what SQLite makes where nothing is");
    assert!(matches!(no_log_alone(&database), Err(Error::LogAlone { .. })));
    fs::remove_file(&database).expect("gone");
    assert!(matches!(no_log_alone(&database), Err(Error::LogAlone { path }) if path.ends_with("a.db-wal")));
    for nothing in ["", "x".repeat(LOG_HEADER as usize).as_str()] {
        fs::write(place.path("a.db-wal"), nothing).expect("a log with nothing in it");
        assert!(no_log_alone(&database).is_ok());
    }
}
