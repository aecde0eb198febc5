//! File systems that take no more.

use std::path::Path;
use std::process::Command;

use super::{ALL, Case, Creates, Forwards, Looks, Writes, commands, fill, names};
use crate::card::Card;
use crate::device::{Device, value};
use crate::mosquitto::Mosquitto;
use crate::tool::{Ran, command};

const MB: u64 = 1 << 20;

fn remount(folder: &Path, how: &str) {
    let status = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(folder).status();
    assert!(status.unwrap().success());
}

#[test]
fn a_card_that_is_mounted_read_only_is_told_and_can_be_looked_at_where_its_log_stands() {
    let Some(card) = Card::ext4(64 * MB) else { return };
    let device = Device::at(card.folder());
    fill(&device);
    assert!(names(card.folder()).contains(&"device.db-shm".to_owned()));
    remount(card.folder(), "ro");
    for mut case in commands(&device.database(), &[Creates, Writes, Forwards]) {
        case.refused(&device.database(), &["cannot be written to", "mounted read-only", "dmesg", "remount,rw"]);
    }
    commands(&device.database(), &[Looks]).iter_mut().for_each(Case::goes_well);
    remount(card.folder(), "rw");
    for name in ["device.db-shm", "device.db-wal"] {
        std::fs::remove_file(card.folder().join(name)).unwrap();
    }
    let standing = names(card.folder());
    remount(card.folder(), "ro");
    for mut case in commands(&device.database(), &ALL) {
        case.refused(&device.database(), &["cannot be written to", "mounted read-only", "dmesg", "remount,rw"]);
    }
    assert_eq!(names(card.folder()), standing);
    remount(card.folder(), "rw");
}

#[test]
fn a_full_disk_is_told_by_those_who_need_space_and_drained_all_the_same() {
    let Some(card) = Card::ext4(64 * MB) else { return };
    let device = Device::at(card.folder());
    fill(&device);
    let _others = card.fill();
    let database = device.database();
    commands(&database, &[Looks]).iter_mut().for_each(Case::goes_well);
    for mut case in commands(&database, &[Creates, Writes]) {
        match case.line.split(' ').next() {
            Some("enqueue") => case.refused(&database, &["the outbox is full", "iB", "df -h"]),
            // In the space of the log and of the reserve. The first row of these is made pending, and then is no failed one.
            _ => {
                let ran = case.run();
                let said = format!("{}{}", String::from_utf8(ran.out).unwrap(), ran.err);
                let words = ["everything is in place", "pending again", "deleted", "no sent message", "no space left"];
                assert!(words.iter().any(|words| said.contains(words)), "{}: {said}", case.line);
            }
        }
    }
    let mosquitto = Mosquitto::start();
    let mut drain = command(["forward", "--drain", "--timeout=60", "--to", &mosquitto.url()]);
    Ran::from(drain.arg(&database).output().unwrap()).ok();
    commands(&database, &[Looks]).iter_mut().for_each(Case::goes_well);
    assert_eq!(value::<i64>(&device.sql(), "SELECT count(*) FROM outbox WHERE status = 'PENDING'", []), 0);
}

#[test]
fn a_full_disk_without_a_log_is_told_by_all() {
    let Some(card) = Card::ext4(64 * MB) else { return };
    let device = Device::at(card.folder());
    fill(&device);
    for name in names(card.folder()).iter().filter(|name| name.starts_with("device.db-")) {
        std::fs::remove_file(card.folder().join(name)).unwrap();
    }
    let _others = card.fill();
    for mut case in commands(&device.database(), &ALL) {
        case.refused(&device.database(), &["no space left on the disk", "df -h"]);
    }
}
