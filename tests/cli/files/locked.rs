//! A database that another program keeps for itself.
//!
//! None of these tests reads the file: to close it would let go of the locks that this process has on it (POSIX).

use std::path::Path;

use super::{ALL, Case, Creates, Does, Forwards, Looks, Writes, filled};
use crate::device::{enqueue, numbered, value};
use crate::tool::Running;

const LOCKED: [&str; 3] = ["kept the database locked", "fuser -v", "--busy-timeout"];

/// Those of the commands, which do not wait for long.
fn commands(database: &Path, does: &[Does]) -> Vec<Case> {
    let mut cases = super::commands(database, does);
    for case in &mut cases {
        // Long enough for a connection to be opened, which counts as well.
        case.command.args(["--busy-timeout", "500ms"]);
    }
    cases
}

#[test]
fn while_somebody_writes_everybody_may_look_and_writers_are_told() {
    let device = filled();
    let other = device.sql();
    other.execute_batch("BEGIN IMMEDIATE; INSERT INTO outbox (topic, payload) VALUES ('t', '')").unwrap();
    let (init, writing): (Vec<_>, _) =
        commands(&device.database(), &[Creates, Writes]).into_iter().partition(|case| case.line.starts_with("init"));
    for mut case in writing {
        case.refused(&device.database(), &LOCKED);
    }
    init.into_iter().for_each(|mut case| case.goes_well()); // there is nothing to put back
    commands(&device.database(), &[Looks]).iter_mut().for_each(Case::goes_well);
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(value::<i64>(&other, "SELECT count(*) FROM outbox", []), 5, "nothing was written");
}

#[test]
fn a_forwarder_waits_for_whoever_writes() {
    let device = filled();
    let other = device.sql();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let forward = commands(&device.database(), &[Forwards]).swap_remove(0).command;
    let mut forward = Running::start(forward);
    forward.hear("forwarding from row");
    forward.signal("TERM");
    let (status, said) = forward.wait();
    assert!(status.success(), "{said}");
}

#[test]
fn a_database_that_somebody_has_for_himself_is_told_by_everybody() {
    let device = filled();
    let other = device.sql();
    other.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN IMMEDIATE; COMMIT").unwrap();
    for mut case in commands(&device.database(), &ALL) {
        case.refused(&device.database(), &LOCKED);
    }
    drop(other);
    commands(&device.database(), &[Looks]).iter_mut().for_each(Case::goes_well);
    enqueue(&device.open_writer(), numbered("t", 0..1));
}
