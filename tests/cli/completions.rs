//! What shells are given.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::tool::run;

#[test]
fn bash_takes_its_completions() {
    let script = run(["completions", "bash"]).ok();
    let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
    bash.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(bash.wait().unwrap().success());
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        assert!(run(["completions", shell]).ok().contains("edge-outbox"), "{shell}");
    }
}

#[test]
fn a_shell_that_is_not_known_is_told_which_are() {
    let told = run(["completions", "tcsh"]).refused(2);
    assert!(told.contains("bash") && told.contains("zsh"), "{told}");
}
