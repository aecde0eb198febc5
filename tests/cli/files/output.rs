//! Standard output that takes nothing.

use std::fs::File;
use std::io::{Seek, Write};
use std::process::{Command, Stdio};

use super::{Creates, Looks, Writes, commands, filled};
use crate::tool::Ran;

/// The commands but `forward`, which prints nothing, each on a database of its own, with this standard output.
fn each(stdout: impl Fn() -> Stdio, mut look: impl FnMut(&str, Ran)) {
    let does = [Creates, Writes, Looks];
    for nth in 0..commands(filled().database().as_path(), &does).len() {
        let device = filled();
        let mut case = commands(&device.database(), &does).swap_remove(nth);
        let ran = Ran::from(case.command.stdin(one_line()).stdout(stdout()).output().unwrap());
        assert!(!ran.err.contains("panicked"), "{}: {}", case.line, ran.err);
        look(&case.line, ran);
    }
}

fn one_line() -> Stdio {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"20\n").unwrap();
    file.rewind().unwrap();
    file.into()
}

/// A pipe that nobody reads from any more.
fn closed() -> Stdio {
    let mut reader = Command::new("true").stdin(Stdio::piped()).spawn().unwrap();
    let writer = reader.stdin.take().unwrap();
    reader.wait().unwrap();
    writer.into()
}

#[test]
fn a_standard_output_that_is_full_is_told_with_what_was_done() {
    each(
        || File::create("/dev/full").unwrap().into(),
        |line, ran| {
            assert_eq!(ran.code, Some(1), "{line}: {ran:?}");
            assert!(ran.err.contains("standard output") && ran.err.contains("No space left"), "{line}: {}", ran.err);
            let done = match line.split(' ').next() {
                Some("enqueue") if line.contains("--lines") => "Line 1 of standard input is in",
                Some("enqueue") => "row 6 is in",
                Some("retry") => "made 1 failed message pending again, but",
                Some("discard") => "deleted 1 failed message, but",
                Some("purge") => "deleted 1 sent message, but",
                Some("check") => "no fault found in 5 rows (1 FAILED), but",
                _ => "standard output",
            };
            assert!(ran.err.contains(done), "{line}: {}", ran.err);
        },
    );
}

#[test]
fn whoever_reads_no_further_stops_nothing_that_was_asked_for() {
    each(closed, |line, ran| {
        // A row's number, and how far the lines are, is what one must know who goes on.
        if line.starts_with("enqueue") {
            assert_eq!(ran.code, Some(1), "{line}: {ran:?}");
            assert!(ran.err.contains("standard output does not take"), "{line}: {}", ran.err);
        } else {
            assert_eq!((ran.code, &*ran.err), (Some(0), ""), "{line}");
        }
    });
}

#[test]
fn a_fault_that_check_finds_is_one_although_nobody_reads_of_it() {
    let device = filled();
    device.sql().execute_batch("DROP TRIGGER outbox_edited").unwrap();
    let mut check = commands(&device.database(), &[Looks]).pop().unwrap();
    let ran = Ran::from(check.command.stdout(closed()).output().unwrap());
    assert_eq!((ran.code, &*ran.err), (Some(1), ""));
}
