//! Disks on which there is little space left, and nothing else is wrong.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::Duration;

use edge_outbox::broker::InProcess;
use edge_outbox::{Error, Full, Limit, Message, MessageId, Outbox, Settings};
use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::card::Card;
use crate::device::{Device, SOON, broker, enqueue, eventually, numbered, quick, take};

const MB: u64 = 1 << 20;

fn write(outbox: &Outbox) -> Result<MessageId, Error> {
    outbox.transaction(|tx| outbox.enqueue(tx, &Message::text("t", "x")))
}

/// Somebody else takes the disk, but for so many bytes.
fn leave(card: &Card, bytes: u64) {
    let found = statvfs(card.folder()).unwrap();
    let others = File::create(card.folder().join("others")).unwrap();
    fallocate(&others, FallocateFlags::empty(), 0, found.f_bavail * found.f_frsize - bytes).unwrap();
}

/// Makes the log so long, by one row that changes again and again while somebody reads.
fn grow_log(device: &Device, bytes: u64) {
    let [writer, reader] = [device.sql(), device.sql()];
    writer.execute_batch("CREATE TABLE IF NOT EXISTS big AS SELECT zeroblob(100000) AS x").unwrap();
    reader.execute_batch("BEGIN; SELECT * FROM big").unwrap();
    while log(device).len() < bytes {
        writer.execute_batch("UPDATE big SET x = randomblob(100000)").unwrap();
    }
}

fn log(device: &Device) -> fs::Metadata {
    fs::metadata(device.folder().join("device.db-wal")).unwrap()
}

/// Nothing is written while messages are turned away, and only a commit would begin the log anew.
#[test]
fn a_log_that_grew_long_does_not_shut_the_outbox_for_ever() {
    let none = Settings { keep_free: 0, reserve: 0, ..quick() };
    for (settings, long, free) in [(quick(), 64 * MB, 50 * MB), (none, 6 * MB, 5 * MB)] {
        let Some(card) = Card::tmpfs(128 * MB) else { return };
        let device = Device::at(card.folder());
        let outbox = device.open_with(settings, InProcess::new());
        grow_log(&device, long);
        leave(&card, free);
        let answer = write(&outbox);
        assert!(matches!(answer, Err(Error::Full(Full { limit: Limit::FreeSpace, .. }))), "{answer:?}");
        eventually("the log gives its space back", || write(&outbox).is_ok());
    }
}

#[test]
fn where_nothing_is_kept_free_for_others_a_full_disk_is_said_before_the_commit() {
    let Some(card) = Card::tmpfs(64 * MB) else { return };
    let device = Device::at(card.folder());
    let (broker, everything) = broker();
    broker.go_offline();
    let outbox = device.open_with(Settings { keep_free: 0, ..quick() }, broker.clone());
    write(&outbox).unwrap();
    let others = card.fill();
    // What was seen of the disk is believed for a moment.
    eventually("it is seen", || matches!(write(&outbox), Err(Error::Full(_))));
    for _ in 0..10 {
        let answer = write(&outbox);
        assert!(matches!(answer, Err(Error::Full(_))), "{answer:?}");
    }
    broker.go_online();
    take(&everything);
    drop(others);
    eventually("messages are taken again", || write(&outbox).is_ok());
}

#[test]
fn a_disk_with_little_space_is_not_written_to_while_there_is_nothing_to_write() {
    let Some(card) = Card::ext4(64 * MB) else { return };
    leave(&card, 30 * MB);
    let device = Device::at(card.folder());
    let (broker, everything) = broker();
    let outbox = device.open(broker);
    grow_log(&device, 2 * MB);
    eventually("a long log is emptied", || log(&device).len() == 0);
    enqueue(&outbox, numbered("t", 0..1));
    take(&everything);
    outbox.flush(SOON).unwrap();
    let changed = || (log(&device).len(), log(&device).ctime(), log(&device).ctime_nsec());
    let before = changed();
    // The forwarder looks at the disk every second.
    thread::sleep(Duration::from_millis(2_500));
    assert_eq!(changed(), before);
}

#[test]
fn where_the_file_system_does_not_tell_what_is_free_messages_are_taken() {
    let Some(card) = Card::ramfs() else { return };
    let device = Device::at(card.folder());
    let outbox = device.open(InProcess::new());
    write(&outbox).unwrap();
}

#[test]
fn a_program_without_a_forwarder_makes_the_reserve_again_that_it_gave_up_to_start() {
    let Some(card) = Card::tmpfs(64 * MB) else { return };
    let device = Device::at(card.folder());
    drop(device.open_writer());
    let reserve = device.folder().join("device.db-outbox-reserve");
    assert!(reserve.exists());
    fs::remove_file(device.folder().join("device.db-shm")).unwrap(); // the next one needs space for its own
    let others = card.fill();
    let outbox = device.open_writer();
    assert!(!reserve.exists());
    let answer = write(&outbox);
    assert!(matches!(answer, Err(Error::Full(Full { limit: Limit::Reserve, .. }))), "{answer:?}");
    drop(others);
    write(&outbox).unwrap();
    assert_eq!(fs::metadata(reserve).unwrap().len(), outbox.settings().reserve);
}
