//! File systems that are mounted read-only, as a card is that is looked at on another machine, or that the kernel has
//! given up. What can be read of an outbox there is read, and nothing else is told.

use std::fs;
use std::path::PathBuf;

use edge_outbox::inspector::Filter;
use edge_outbox::{Error, Inspector};

use crate::card::Card;
use crate::device::{Device, SOON, enqueue, eventually, numbered, value};

const MB: u64 = 1 << 20;

fn cards() -> impl Iterator<Item = (&'static str, Card)> {
    let ext4 = Card::ext4(64 * MB).map(|card| ("ext4", card));
    ext4.into_iter().chain(Card::tmpfs(64 * MB).map(|card| ("tmpfs", card)))
}

fn beside(device: &Device, suffix: &str) -> PathBuf {
    let mut path = device.database().into_os_string();
    path.push(suffix);
    path.into()
}

/// The last one to close it moves the log into the database. A pool closes its connections in the background.
fn close_for_good(device: &Device) {
    eventually("everybody has closed it", || {
        drop(device.sql().execute("PRAGMA user_version = 1", []));
        !beside(device, "-wal").exists()
    });
}

fn pending(device: &Device) -> Result<u64, Error> {
    let inspector = Inspector::open(device.database(), SOON)?;
    let figures = inspector.figures()?;
    assert_eq!(inspector.messages(&Filter::default(), 0, 100)?.len() as u64, figures.pending);
    Ok(figures.pending)
}

#[test]
fn a_database_without_a_log_is_read() {
    for (on, card) in cards() {
        let device = Device::at(card.folder());
        enqueue(&device.open_writer(), numbered("t", 0..3));
        close_for_good(&device);
        eventually("nobody has it open to write", || card.set_read_only().is_ok());
        assert_eq!(pending(&device).unwrap(), 3, "{on}");
    }
}

#[test]
fn a_database_with_all_of_its_files_is_read_with_what_stands_in_the_log() {
    for (on, card) in cards() {
        let device = Device::at(card.folder());
        enqueue(&device.open_writer(), numbered("t", 0..3));
        assert!(fs::metadata(beside(&device, "-wal")).unwrap().len() > 0, "an outbox leaves it");
        eventually("nobody has it open to write", || card.set_read_only().is_ok());
        assert_eq!(pending(&device).unwrap(), 3, "{on}");
    }
}

#[test]
fn an_empty_log_is_none() {
    for (on, card) in cards() {
        for with_index in [true, false] {
            let device = Device::at(card.folder());
            let outbox = device.open_writer();
            enqueue(&outbox, numbered("t", 0..3));
            value::<i64>(&outbox.connection().unwrap(), "PRAGMA wal_checkpoint(TRUNCATE)", []);
            drop(outbox);
            assert_eq!(fs::metadata(beside(&device, "-wal")).unwrap().len(), 0);
            if !with_index {
                fs::remove_file(beside(&device, "-shm")).unwrap();
            }
            eventually("nobody has it open to write", || card.set_read_only().is_ok());
            assert_eq!(pending(&device).unwrap(), 3, "{on}, -shm: {with_index}");
            card.set_writable();
            for suffix in ["", "-wal", "-shm"] {
                let _ = fs::remove_file(beside(&device, suffix));
            }
        }
    }
}

#[test]
fn a_log_that_cannot_be_read_is_told_and_not_passed_over() {
    for (on, card) in cards() {
        let device = Device::at(card.folder());
        enqueue(&device.open_writer(), numbered("t", 0..3));
        fs::remove_file(beside(&device, "-shm")).unwrap(); // as of a copy
        eventually("nobody has it open to write", || card.set_read_only().is_ok());
        let error = pending(&device).unwrap_err();
        let words = error.to_string();
        assert!(matches!(error, Error::NotReadable { .. }), "{on}: {error:?}");
        assert!(words.contains("device.db") && words.contains("-shm") && words.contains("copy both"), "{on}: {words}");
        // And so it goes.
        let elsewhere = Device::new();
        for suffix in ["", "-wal"] {
            fs::copy(beside(&device, suffix), beside(&elsewhere, suffix)).unwrap();
        }
        assert_eq!(pending(&elsewhere).unwrap(), 3, "{on}");
    }
}

#[test]
fn a_database_that_others_write_through_another_mount_is_followed() {
    for (on, card) in cards() {
        let device = Device::at(card.folder());
        enqueue(&device.open_writer(), numbered("t", 0..3));
        close_for_good(&device);
        let Some(window) = card.read_only_window() else { continue };
        let seen = Device::at(window.folder());
        let inspector = Inspector::open(seen.database(), SOON).unwrap();
        assert_eq!(inspector.figures().unwrap().pending, 3, "{on}");
        let outbox = device.open_writer();
        for round in 1..5 {
            enqueue(&outbox, numbered("t", 0..2));
            assert_eq!(inspector.figures().unwrap().pending, 3 + 2 * round, "{on}");
            value::<i64>(&outbox.connection().unwrap(), "PRAGMA wal_checkpoint(PASSIVE)", []);
            assert_eq!(inspector.figures().unwrap().pending, 3 + 2 * round, "{on}");
        }
        drop(inspector);
    }
}
