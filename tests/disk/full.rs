//! Disks that are full to the last byte, by what others wrote.
//!
//! What is in the outbox is sent all the same, by a program that runs and by one that starts there; new messages are
//! turned away by name, and taken again by themselves once there is space.

use std::fs;

use crate::card::{Card, Others};
use crate::device::Device;
use crate::program::{Program, readings};

const MB: u64 = 1 << 20;
const MESSAGES: usize = 300;

/// Card and memory, as far as they are to be had here.
fn cards() -> impl Iterator<Item = (&'static str, Card)> {
    let ext4 = Card::ext4(64 * MB).map(|card| ("ext4", card));
    ext4.into_iter().chain(Card::tmpfs(64 * MB).map(|card| ("tmpfs", card)))
}

/// A program that has written messages, and sent none of them.
fn with_backlog(card: &Card) -> (Device, Program) {
    let device = Device::at(card.folder());
    Program::install(&device);
    let mut program = Program::start(&device);
    program.write();
    assert_eq!(program.ask("flush"), "Ok(())");
    program.ask("offline");
    for _ in 1..MESSAGES {
        program.write();
    }
    (device, program)
}

#[track_caller]
fn fill(card: &Card, on: &str) -> Others {
    let others = card.fill();
    let free = rustix::fs::statvfs(card.folder()).unwrap().f_bavail;
    assert_eq!(free, 0, "{on}: blocks are left");
    others
}

#[track_caller]
fn is_turned_away(program: &mut Program, on: &str) {
    let answer = program.try_write();
    assert!(answer.starts_with("Full("), "{on}: {answer}");
}

#[test]
fn on_a_full_disk_what_is_in_the_outbox_is_sent_and_new_messages_are_turned_away_until_there_is_space() {
    for (on, card) in cards() {
        let (device, mut program) = with_backlog(&card);
        let others = fill(&card, on);
        program.wait_for_storage("the full disk", |storage| storage == "Full");
        is_turned_away(&mut program, on);
        program.ask("online");
        assert_eq!(program.ask("flush"), "Ok(())", "{on}");
        assert_eq!(program.arrived(), program.written, "{on}");
        is_turned_away(&mut program, on);
        drop(others);
        program.write_until("space", |answer| answer == "written");
        program.wait_for_storage("space", |storage| storage == "Ok");
        program.settles(&device);
        program.end();
    }
}

#[test]
fn a_program_that_starts_on_a_full_disk_without_shared_memory_sends_what_is_in_the_outbox() {
    for (on, card) in cards() {
        let (device, mut program) = with_backlog(&card);
        program.process().kill_now();
        fs::remove_file(device.folder().join("device.db-shm")).unwrap();
        let others = fill(&card, on);
        let sent_before = 1;
        let mut program = Program::start_again(&device, program);
        assert_eq!(program.ask("flush"), "Ok(())", "{on}");
        assert!(program.arrived().len() >= MESSAGES - sent_before, "{on}");
        is_turned_away(&mut program, on);
        drop(others);
        program.write_until("space", |answer| answer == "written");
        assert_eq!(program.ask("flush"), "Ok(())", "{on}");
        program.judge(&readings(&device.sql()));
        program.wait_for_storage("space", |storage| storage == "Ok");
        program.end();
    }
}

/// Killed again and again on the full disk, so that each start has less than the one before, if anything leaks.
#[test]
fn programs_that_are_killed_again_and_again_on_a_full_disk_send_everything_in_the_end() {
    for (on, card) in cards() {
        let (device, mut program) = with_backlog(&card);
        let _others = fill(&card, on);
        for _ in 0..10 {
            program.process().kill_now();
            program = Program::start_again(&device, program);
        }
        assert_eq!(program.ask("flush"), "Ok(())", "{on}");
        program.judge(&readings(&device.sql()));
        program.end();
    }
}
