//! What a person at a terminal sees.

use std::process::{Command, Stdio};

use super::{device, forward_to};
use crate::device::{eventually, numbered};
use crate::mosquitto::Mosquitto;

#[test]
fn a_terminal_shows_a_bar_that_the_log_does_not_tear() {
    let (device, mosquitto) = (device(numbered("weather/roof", 0..2_000)), Mosquitto::start());
    // With a broker that does not answer there is time to look at it.
    mosquitto.signal("STOP");
    let program = forward_to(&device, &mosquitto.url(), &["--drain"]);
    let quote = |text: &std::ffi::OsStr| format!("'{}'", text.to_str().unwrap().replace('\'', "'\\''"));
    let line: Vec<_> = std::iter::once(program.get_program()).chain(program.get_args()).map(quote).collect();
    let seen = device.folder().join("typescript");
    let mut script = Command::new("script");
    script.args(["-qefc", &line.join(" ")]).arg(&seen).env("TERM", "xterm").env_remove("RUST_LOG");
    let Ok(mut script) = script.stdin(Stdio::null()).stdout(Stdio::null()).spawn() else {
        println!("SKIPPED: there is no `script`, which makes a terminal");
        return;
    };
    let read = || String::from_utf8_lossy(&std::fs::read(&seen).unwrap_or_default()).into_owned();
    eventually("the bar shows what is pending", || read().contains("2,000 pending"));
    mosquitto.signal("CONT");
    assert!(script.wait().unwrap().success(), "{}", read());
    let seen = read();
    assert!(seen.contains("0 sent") && seen.contains("connecting"), "{seen}");
    // The log's lines begin where a line begins: behind what takes the bar away.
    let log: Vec<_> = seen.lines().filter(|line| line.contains("edge_outbox::")).collect();
    assert!(!log.is_empty(), "{seen}");
    for line in log {
        let before = line.split("[20").next().unwrap_or_default();
        let shown = before.rsplit(['\r', '\u{1b}']).next().unwrap_or_default();
        assert!(!shown.contains("pending"), "{line:?}");
    }
}
