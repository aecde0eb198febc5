//! What `check` says of a database with which something is wrong.

use std::fs;
use std::process::Command;

use edge_outbox::rusqlite::Connection;

use super::{some, tool};
use crate::device::{Device, enqueue, numbered};
use crate::tool::run;

/// What it prints of a database that is not sound.
#[track_caller]
fn found(device: &Device) -> String {
    let run = tool("check", device, &[]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert_eq!(run.err, "");
    String::from_utf8(run.out).unwrap()
}

/// Writes past every CHECK and type.
fn force(device: &Device, sql: &str) {
    let connection = device.sql();
    connection.execute_batch("PRAGMA ignore_check_constraints = ON").unwrap();
    connection.execute_batch(sql).unwrap();
}

#[test]
fn a_sound_outbox_has_no_fault() {
    let device = some();
    assert_eq!(tool("check", &device, &[]).ok(), "no fault found in 5 rows (3 FAILED)\n");
    let empty = Device::new();
    tool("init", &empty, &[]).ok();
    assert_eq!(tool("check", &empty, &[]).ok(), "no fault found in 0 rows\n");
}

#[test]
fn a_missing_trigger_is_found_and_init_is_the_remedy() {
    let device = some();
    device.sql().execute_batch("DROP TRIGGER outbox_keeps_newest").unwrap();
    let said = found(&device);
    assert!(said.contains("the trigger outbox_keeps_newest is missing"), "{said}");
    let remedy = said.lines().nth(1).unwrap().trim();
    assert!(remedy.starts_with("edge-outbox init /"), "{said}");
    run(remedy.split(' ').skip(1)).ok();
    tool("check", &device, &[]).ok();
}

#[test]
fn rows_with_a_wrong_checksum_are_found_with_what_became_of_them() {
    let device = some();
    force(&device, "UPDATE outbox SET checksum = 1 WHERE id IN (1, 2, 4)");
    let said = found(&device);
    for words in [
        "row 1 is SENT and holds what cannot have been sent: it does not match its checksum",
        "row 2 is FAILED and cannot be sent as it is: it does not match its checksum",
        "row 4 is PENDING and will be parked as FAILED: it does not match its checksum",
        "not sound; looked at 5 rows (3 FAILED)",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    tool("discard", &device, &["--yes", "2"]).ok();
    assert!(!found(&device).contains("row 2 "));
}

#[test]
fn a_status_that_is_none_is_found() {
    let device = some();
    force(&device, "UPDATE outbox SET status = 'SEND' WHERE id = 4");
    let said = found(&device);
    assert!(said.contains("row 4 will be parked as FAILED: its status is none of PENDING, SENT and FAILED"), "{said}");
}

#[test]
fn a_position_ahead_of_the_table_is_found_and_mended_by_the_remedy() {
    let device = some();
    device.sql().execute_batch("UPDATE outbox_state SET position = 4711").unwrap();
    let said = found(&device);
    assert!(said.contains("the position in outbox_state is 4711, ahead of the newest row, 5"), "{said}");
    let sql = said.split('\'').nth(1).unwrap();
    device.sql().execute_batch(sql).unwrap();
    tool("check", &device, &[]).ok();
}

/// Writes noise over one of the pages on which there are rows to the topic `noise`.
fn spoil(device: &Device, which: impl Fn(&[usize]) -> usize) {
    let connection = device.sql();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(connection);
    let mut bytes = fs::read(device.database()).unwrap();
    let holds_rows = |page: &usize| bytes[page * 4096..][..4096].windows(5).any(|bytes| bytes == b"noise");
    let pages: Vec<usize> = (1..bytes.len() / 4096).filter(holds_rows).collect();
    let page = which(&pages);
    bytes[page * 4096..][..4096].iter_mut().enumerate().for_each(|(n, byte)| *byte = (n * 151 + 7) as u8);
    fs::write(device.database(), bytes).unwrap();
}

#[test]
fn a_page_of_noise_is_found_and_does_not_end_it() {
    let device = Device::new();
    enqueue(&device.open_writer(), numbered("noise", 0..2_000));
    force(&device, "UPDATE outbox SET checksum = 1 WHERE id = 2000");
    spoil(&device, |pages| pages[pages.len() / 2]);
    let said = found(&device);
    assert!(said.contains("SQLite says of the file: "), "{said}");
    assert!(said.contains("what there is of rows ") && said.contains(" cannot be read"), "{said}");
    assert!(said.contains("docs/reliability.md"), "{said}");
    assert!(said.contains("row 2000 is PENDING and will be parked"), "it went on behind it: {said}");
}

#[test]
fn a_table_of_which_nothing_can_be_read_is_found() {
    let device = Device::new();
    enqueue(&device.open_writer(), numbered("noise", 0..2_000));
    // It was the first leaf once.
    spoil(&device, |pages| pages[0]);
    let said = found(&device);
    assert!(said.contains("no row can be read"), "{said}");
    assert!(said.contains("more faults that SQLite finds in the file"), "{said}");
}

#[test]
fn a_remedy_is_a_command_for_a_shell_whatever_the_file_is_called() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("it's my file.db");
    run(["init".as_ref(), path.as_os_str()]).ok();
    Connection::open(&path).unwrap().execute_batch("DROP INDEX outbox_failed").unwrap();
    let checked = run(["check".as_ref(), path.as_os_str()]);
    let said = String::from_utf8(checked.out).unwrap();
    let remedy = said.lines().find(|line| line.contains("    edge-outbox init ")).unwrap();
    let remedy = remedy.replace("edge-outbox", env!("CARGO_BIN_EXE_edge-outbox"));
    assert!(Command::new("sh").args(["-c", &remedy]).status().unwrap().success(), "{remedy}");
    run(["check".as_ref(), path.as_os_str()]).ok();
    let missing = folder.path().join("my other file.db");
    let told = run(["status".as_ref(), missing.as_os_str()]).refused(1);
    assert!(told.contains(&format!("edge-outbox init '{}'", missing.display())), "{told}");
}

#[test]
fn what_cannot_be_opened_is_told_in_words() {
    let device = some();
    force(&device, "UPDATE outbox_state SET version = 99");
    let said = tool("check", &device, &[]).refused(1);
    assert!(said.contains("schema version 99") && said.contains("upgrade"), "{said}");

    let foreign = Device::new();
    foreign.sql().execute_batch("CREATE TABLE outbox (mine)").unwrap();
    let said = tool("check", &foreign, &[]).refused(1);
    assert!(said.contains("not ours"), "{said}");

    fs::write(device.database(), vec![0xa5; 20_000]).unwrap();
    let said = tool("check", &device, &[]).refused(1);
    assert!(said.contains("is not a SQLite database"), "{said}");
}

#[test]
fn it_changes_nothing_and_waits_for_nobody_who_writes() {
    let device = some();
    let writer = Connection::open(device.database()).unwrap();
    writer.execute_batch("BEGIN IMMEDIATE; UPDATE outbox SET status = 'PENDING' WHERE id = 2").unwrap();
    let before = fs::read(device.database()).unwrap();
    assert_eq!(tool("check", &device, &[]).ok(), "no fault found in 5 rows (3 FAILED)\n");
    assert_eq!(fs::read(device.database()).unwrap(), before);
}

#[test]
fn a_million_of_bad_rows_would_not_fill_the_screen() {
    let device = Device::new();
    enqueue(&device.open_writer(), numbered("t", 0..5_000));
    force(&device, "UPDATE outbox SET checksum = 1");
    let said = found(&device);
    assert_eq!(said.lines().count(), 2 * (100 + 1) + 1, "{said}");
    assert!(said.contains("4900 more rows"), "{said}");
}
