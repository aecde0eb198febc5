//! Cards that wear out, lie about their size, or whose file system finds an error in itself.

use crate::card::Card;
use crate::device::Device;
use crate::program::{Program, readings};

const MB: u64 = 1 << 20;

#[test]
fn on_a_card_with_less_behind_it_than_it_says_nothing_is_lost_that_was_told_to_be_written() {
    let Some(mut card) = Card::ext4_with_less_behind(64 * MB, 32 * MB) else { return };
    let device = Device::at(card.folder());
    Program::install(&device);
    let mut program = Program::start(&device);
    program.ask("offline");
    for _ in 0..20 {
        program.write();
    }
    let worn_out = card.wear_out();
    for _ in 0..3 {
        program.write_until("a sync that fails", |answer| answer != "written");
    }
    program.ask("online");
    drop(worn_out);
    program.write_until("the end of it", |answer| answer == "written");
    program.settles(&device);
    let (written, unknown) = (program.written.clone(), program.unknown.clone());
    program.end();
    // What stands on the card, and not only in memory.
    card.repair();
    let readings = readings(&device.sql());
    assert!(written.is_subset(&readings), "lost: {:?}", written.difference(&readings));
    assert!(readings.is_subset(&written.union(&unknown).copied().collect()));
    let sql = device.sql();
    assert_eq!(crate::device::value::<String>(&sql, "PRAGMA integrity_check", []), "ok");
}

#[test]
fn a_file_system_that_becomes_read_only_is_told_and_after_its_repair_nothing_is_lost() {
    let Some(mut card) = Card::ext4_read_only_after_errors(64 * MB) else { return };
    let device = Device::at(card.folder());
    Program::install(&device);
    let mut program = Program::start(&device);
    program.write();
    assert_eq!(program.ask("flush"), "Ok(())");
    program.ask("offline");
    for _ in 0..20 {
        program.write();
    }
    card.fail();
    let answer = program.write_until("the error", |answer| answer != "written");
    assert!(answer.starts_with("MaybeCommitted") || answer.starts_with("Disk("), "{answer}");
    program.ask("online");
    program.wait_for_storage("what the forwarder meets", |storage| storage.starts_with("Failing"));
    program.process().kill_now();
    card.repair();
    let mut program = Program::start_again(&device, program);
    program.write();
    assert_eq!(program.ask("flush"), "Ok(())");
    program.judge(&readings(&device.sql()));
    program.end();
}
