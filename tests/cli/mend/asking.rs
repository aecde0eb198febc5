//! The question that `discard` asks, at a pseudo terminal.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use super::{some, statuses, tool};
use crate::device::Device;

/// `discard` of all that failed, at a terminal where somebody types `answer`. `None`, and said so, where there is no
/// program to make a terminal.
fn answered(device: &Device, answer: &str) -> Option<Output> {
    let line =
        format!("'{}' discard '{}' --all-failed", env!("CARGO_BIN_EXE_edge-outbox"), device.database().display());
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(mut script) = script.spawn() else {
        eprintln!("SKIPPED: there is no `script` (util-linux), which gives the tool a terminal");
        return None;
    };
    // Kept until it ends: `script` passes the end of its input on as one of the terminal's.
    let mut typed = script.stdin.take().unwrap();
    typed.write_all(answer.as_bytes()).unwrap();
    let output = script.wait_with_output().unwrap();
    drop(typed);
    Some(output)
}

#[test]
fn discard_asks_on_a_terminal_and_goes_by_the_answer() {
    for (answer, code, left) in [("y\n", 0, "1S 4P 5S"), ("n\n", 1, "1S 2F 3F 4P 5F"), ("\n", 1, "1S 2F 3F 4P 5F")] {
        let device = some();
        let Some(output) = answered(&device, answer) else { return };
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("Delete 3 failed messages for good? [y/N]"), "{said}");
        assert_eq!(output.status.code(), Some(code), "{answer:?}: {said}");
        assert_eq!(statuses(&device), left, "{answer:?}: {said}");
        assert!(said.contains(if code == 0 { "deleted 3 failed messages" } else { "nothing is deleted" }), "{said}");
    }
}

#[test]
fn without_a_terminal_discard_wants_a_yes_and_deletes_nothing() {
    let device = some();
    let said = tool("discard", &device, &["--all-failed"]).refused(2);
    assert!(said.contains("--yes"), "{said}");
    assert_eq!(statuses(&device), "1S 2F 3F 4P 5F");
}
