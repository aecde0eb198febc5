//! File systems that take no more.

use std::path::Path;
use std::process::Command;

use super::{ALL, Case, Creates, Forwards, Looks, Writes, commands, fill, names};
use crate::card::Card;
use crate::device::{Device, enqueue, eventually, numbered, value};
use crate::mosquitto::Mosquitto;
use crate::tool::{Ran, command};

const MB: u64 = 1 << 20;

/// Once nobody has a file open to write it any more: threads of a pool may end a little later than their outbox.
fn remount(folder: &Path, how: &str) {
    let mut mount = Command::new("mount");
    mount.args(["-o", &format!("remount,{how}")]).arg(folder);
    eventually("it is mounted anew", || mount.output().unwrap().status.success());
}

#[test]
fn a_card_that_is_mounted_read_only_is_told_and_can_be_looked_at() {
    let Some(card) = Card::ext4(64 * MB) else { return };
    let device = Device::at(card.folder());
    fill(&device);
    // As a program leaves it that could not end.
    enqueue(&device.open_writer(), numbered("t", 0..1));
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
    for mut case in commands(&device.database(), &[Creates, Writes, Forwards]) {
        case.refused(&device.database(), &["cannot be written to", "mounted read-only", "dmesg", "remount,rw"]);
    }
    commands(&device.database(), &[Looks]).iter_mut().for_each(Case::goes_well);
    assert_eq!(names(card.folder()), standing);
    remount(card.folder(), "rw");
}

/// What every row stands as.
fn said(device: &Device) -> String {
    value(&device.sql(), "SELECT group_concat(id || status) FROM outbox", [])
}

#[test]
fn a_full_disk_is_told_by_those_who_need_space_and_drained_all_the_same() {
    let Some(card) = Card::ext4(64 * MB) else { return };
    let device = Device::at(card.folder());
    fill(&device);
    let _application = device.open_writer();
    let _others = card.fill();
    let database = device.database();
    commands(&database, &[Looks]).iter_mut().for_each(Case::goes_well);
    for mut case in commands(&database, &[Creates, Writes]) {
        match case.line.split(' ').next() {
            Some("enqueue") => case.refused(&database, &["the outbox is full", "iB", "df -h"]),
            Some("init") => case.goes_well(),
            // There may be space for it in the log, and there may not.
            _ => {
                let before = said(&device);
                let ran = case.run();
                match ran.code {
                    Some(0) => assert!(String::from_utf8(ran.out).unwrap().contains("message"), "{}", case.line),
                    _ => {
                        let words = ["device.db: ", "disk is full", "df -h"];
                        words.iter().for_each(|words| assert!(ran.err.contains(words), "{}: {}", case.line, ran.err));
                        assert_eq!((ran.code, said(&device)), (Some(1), before), "{}: {}", case.line, ran.err);
                    }
                }
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
