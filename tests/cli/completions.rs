//! What shells are given.

use std::process::Command;

use crate::tool::run;

/// What bash offers behind these words, the last of which is being typed.
fn offered(words: &[&str]) -> Vec<String> {
    let asking = "
        source /dev/stdin <<<\"$SCRIPT\" || exit
        registered=$(complete -p edge-outbox) || exit
        [[ $registered =~ -F\\ ([^ ]+) ]] || exit
        COMP_WORDS=(\"$@\")
        COMP_CWORD=$(($# - 1))
        ${BASH_REMATCH[1]} \"$1\" \"${!#}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"
        printf '%s\\n' \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash");
    bash.env("SCRIPT", run(["completions", "bash"]).ok()).args(["--norc", "-c", asking, "bash", "edge-outbox"]);
    let output = bash.args(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
    String::from_utf8(output.stdout).unwrap().split_whitespace().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_options_and_values() {
    assert_eq!(offered(&["sta"]), ["status"]);
    assert_eq!(offered(&["status", "x.db", "--j"]), ["--json"]);
    assert_eq!(offered(&["list", "x.db", "--status", ""]), ["pending", "sent", "failed", "damaged"]);
    assert_eq!(offered(&["forward", "x.db", "--ordering", "s"]), ["strict"]);
    assert!(offered(&["retry", "x.db", "--"]).contains(&"--all".to_owned()));
    assert!(offered(&["discard", "x.db", "--"]).contains(&"--all-failed".to_owned()));
}

#[test]
fn other_shells_are_given_scripts_of_their_own() {
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let script = run(["completions", shell]).ok();
        assert!(script.contains("edge-outbox") && script.contains("damaged"), "{shell}");
    }
}

#[test]
fn a_shell_that_is_not_known_is_told_which_are() {
    let told = run(["completions", "tcsh"]).refused(2);
    assert!(told.contains("bash") && told.contains("zsh"), "{told}");
}

#[test]
fn the_usage_names_what_is_wanted_in_the_order_in_which_it_is_taken() {
    for (command, usage) in [("retry", "<DB> <ID...|--all>"), ("discard", "<DB> <ID...|--all-failed>")] {
        let help = run([command, "--help"]).ok();
        assert!(help.contains(&format!("Usage: edge-outbox {command} [OPTIONS] {usage}\n")), "{help}");
        let told = run([command]).refused(2);
        assert!(told.contains(&format!("edge-outbox {command} [OPTIONS] {usage}")), "{told}");
    }
}
