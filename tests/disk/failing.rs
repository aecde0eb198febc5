//! Disks that answer with errors, in the middle of what a program does.
//!
//! Whichever call fails: the program is told by a typed error, the status says how the storage does, nothing is lost,
//! and it goes on by itself once the calls succeed again. A message is sent if, and only if, it stands in the table.

use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::device::{Device, SOON};
use crate::faults::{ANY_CALL, ANY_FILE, DATABASE, Does, Faults, LOG, SYNC, WRITE};
use crate::program::{Program, readings};

/// A program that runs and has written and sent something.
fn running() -> (Device, Faults, Program) {
    let (device, faults) = (Device::new(), Faults::new());
    Program::install(&device);
    let mut program = Program::start_with(&device, &faults);
    program.write();
    assert_eq!(program.ask("flush"), "Ok(())");
    (device, faults, program)
}

#[test]
fn while_nothing_can_be_written_the_program_is_told_and_afterwards_it_goes_on() {
    // A card that fails, and one that has become read-only.
    for errno in [Errno::IO, Errno::ROFS] {
        let (device, faults, mut program) = running();
        program.ask("offline");
        program.write();
        faults.every(Does::Answer(errno), WRITE, ANY_FILE);
        // SQLite writes before the commit when it is more than it keeps in memory,
        let answer = program.try_write_large();
        assert!(answer.starts_with("Disk("), "{answer}");
        // or else at the commit.
        let answer = program.try_write();
        assert!(answer.starts_with("MaybeCommitted"), "{answer}");
        for _ in 0..3 {
            let answer = program.try_write();
            assert!(answer.starts_with("MaybeCommitted") || answer.starts_with("Disk("), "{answer}");
        }
        program.ask("online");
        program.wait_for_storage("what the forwarder meets", |storage| storage.starts_with("Failing"));
        faults.heal();
        program.write();
        program.settles(&device);
        program.wait_for_storage("the end of it", |storage| storage == "Ok");
        program.end();
    }
}

#[test]
fn while_syncs_fail_nothing_is_sent_that_is_not_in_the_table_and_afterwards_it_goes_on() {
    let (device, faults, mut program) = running();
    faults.every(Does::Answer(Errno::IO), SYNC, ANY_FILE);
    let answer = program.try_write();
    assert!(answer.starts_with("MaybeCommitted"), "{answer}");
    for _ in 0..5 {
        // A sync that succeeds now would say nothing: the log has to begin anew first.
        let answer = program.try_write();
        assert!(answer.starts_with("Disk("), "{answer}");
    }
    faults.heal();
    program.write();
    program.settles(&device);
    program.end();
}

/// Why it is "maybe": what a commit wrote before its sync failed is not seen by anybody as long as a program has the
/// database open, and is found in the log by the next one.
#[test]
fn a_commit_whose_sync_failed_may_stand_in_the_table_after_a_crash_and_is_sent_then() {
    let (device, faults, mut program) = running();
    program.ask("offline");
    faults.every(Does::Answer(Errno::IO), SYNC, ANY_FILE);
    let answer = program.try_write();
    assert!(answer.starts_with("MaybeCommitted"), "{answer}");
    let now = readings(&device.sql());
    assert_eq!(now.len(), 1, "it is not there: {now:?}");
    program.process().kill_now();
    let mut program = Program::start_again(&device, program);
    assert_eq!(program.ask("flush"), "Ok(())");
    assert_eq!(program.arrived(), program.unknown, "and now it is, and was sent");
    program.judge(&readings(&device.sql()));
    program.end();
}

#[test]
fn a_write_that_ends_halfway_is_told_as_an_error_and_leaves_nothing_half_done() {
    let (device, faults, mut program) = running();
    faults.every(Does::Half, WRITE, LOG);
    for _ in 0..3 {
        let answer = program.try_write();
        assert!(answer.starts_with("MaybeCommitted"), "{answer}");
        let answer = program.try_write_large();
        assert!(answer.starts_with("DiskFull("), "{answer}");
    }
    faults.heal();
    program.write();
    program.settles(&device);
    program.end();
}

#[test]
fn a_log_that_cannot_be_moved_into_the_database_is_seen_in_the_status_and_moved_later() {
    let (device, faults, mut program) = running();
    faults.every(Does::Answer(Errno::IO), WRITE | SYNC, DATABASE);
    // Enough for a checkpoint to be worth it.
    for _ in 0..4 {
        assert_eq!(program.try_write_large(), "written");
    }
    program.wait_for_storage("the checkpoint that fails", |storage| storage.starts_with("Failing"));
    program.write();
    faults.heal();
    program.wait_for_storage("the end of it", |storage| storage == "Ok");
    program.settles(&device);
    program.end();
}

/// A checkpoint syncs the log before it moves it, and so syncs what the forwarder committed without. Where that fails
/// nobody's commit does, but Linux takes those pages for written: no later sync has them, and in a power cut whatever was
/// committed behind them would be gone. So the log is begun anew first.
#[test]
fn after_a_checkpoint_that_could_not_sync_the_log_nothing_is_committed_into_it() {
    let (device, faults) = (Device::new(), Faults::with_pages());
    Program::install(&device);
    let mut program = Program::start_with(&device, &faults);
    program.write();
    assert_eq!(program.ask("flush"), "Ok(())");
    // Readers keep the log from being moved, and from being begun anew: one of them all of it, the other one most of it.
    let reader = || {
        let connection = device.sql();
        connection.execute_batch("BEGIN; SELECT count(*) FROM reading").unwrap();
        connection
    };
    let all = reader();
    program.write();
    let most = reader();
    // Enough for a checkpoint to be worth it; and the forwarder's own commits behind it, without a sync.
    for _ in 0..4 {
        assert_eq!(program.try_write_large(), "written");
    }
    assert_eq!(program.ask("flush"), "Ok(())");
    faults.some(Does::Lose, SYNC, LOG, 1, 1);
    drop(all);
    let until = Instant::now() + SOON;
    while faults.failed() == 0 {
        assert!(Instant::now() < until, "no checkpoint within {SOON:?}");
        thread::sleep(Duration::from_millis(5));
    }
    let answer = program.try_write();
    assert!(answer.starts_with("Busy("), "the log is in the reader's way: {answer}");
    drop(most);
    program.write_until("the log is begun anew", |answer| answer == "written");
    program.process().kill_now();
    faults.cut_power(&device.database()).unwrap();
    program.judge(&readings(&device.sql()));
}

#[test]
fn any_single_call_may_fail() {
    let (device, faults, mut program) = running();
    for number in 1..=60 {
        faults.some(Does::Answer(Errno::IO), ANY_CALL, ANY_FILE, number, 1);
        // Some of each, so that calls of enqueueing and of settling and of both are among them.
        while faults.failed() == 0 {
            program.try_write();
            if number % 2 == 0 {
                program.ask("flush");
            }
        }
    }
    faults.heal();
    program.write();
    program.settles(&device);
    program.end();
}

#[test]
fn a_program_killed_at_any_write_loses_nothing_that_it_was_told_is_written() {
    for number in 1..=30 {
        let (device, faults, mut program) = running();
        faults.some(Does::Kill, ANY_CALL, ANY_FILE, number, 1);
        while program.write_or_die(if number % 3 == 0 { "write-large" } else { "write" }).is_some() {}
        let mut program = Program::start_again(&device, program);
        assert_eq!(program.ask("flush"), "Ok(())");
        program.judge(&readings(&device.sql()));
        program.end();
    }
}
