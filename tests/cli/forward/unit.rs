//! The systemd unit in docs/, as systemd itself reads it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// The unit, with the program where it is built: systemd looks whether it is there.
fn unit() -> (TempDir, PathBuf) {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/edge-outbox@.service")).unwrap();
    let installed = "/usr/local/bin/edge-outbox forward";
    assert!(text.contains(installed));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edge-outbox@station.service");
    fs::write(&path, text.replace(installed, concat!(env!("CARGO_BIN_EXE_edge-outbox"), " forward"))).unwrap();
    (folder, path)
}

/// None, in words, where there is no systemd-analyze that can do it.
fn analyze(args: &[&str], unit: &Path) -> Option<Output> {
    let output = Command::new("systemd-analyze").args(args).arg(unit).env("SYSTEMD_COLORS", "0").output();
    let Ok(output) = output else {
        println!("SKIPPED: there is no systemd-analyze here");
        return None;
    };
    if String::from_utf8_lossy(&output.stderr).contains("unrecognized option") {
        println!("SKIPPED: this systemd-analyze is too old for {args:?}");
        return None;
    }
    Some(output)
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let (_folder, unit) = unit();
    let Some(output) = analyze(&["verify", "--man=no", "--recursive-errors=no"], &unit) else { return };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let ours: Vec<_> = said.lines().filter(|line| line.contains("edge-outbox")).collect();
    assert!(output.status.success() && ours.is_empty(), "{said}");
}

#[test]
fn the_unit_gives_the_program_little_to_do_harm_with() {
    let (_folder, unit) = unit();
    // 15 of 100: what is left is the network, which it is for.
    let Some(output) = analyze(&["security", "--offline=true", "--threshold=15"], &unit) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// The commands at its beginning, which are for root.
fn steps(text: &str) -> String {
    let steps = text.lines().map_while(|line| line.strip_prefix('#')).map(str::trim);
    steps
        .skip_while(|line| !line.starts_with("useradd"))
        .take_while(|line| !line.is_empty())
        .map(|line| format!("{line}\n"))
        .collect()
}

/// They are run with an `install` and so on that only tell of themselves: nobody wants that user on this machine.
#[test]
fn the_steps_in_the_unit_make_all_that_it_needs_before_it_is_started() {
    let (folder, unit) = unit();
    let text = fs::read_to_string(unit).unwrap();
    let steps = steps(&text);
    let said = "for name in useradd install runuser systemctl journalctl; do eval \"$name() { echo $name \\\"\\$@\\\"; }\"; done\n";
    let output =
        Command::new("sh").args(["-euc", &format!("{said}{steps}")]).current_dir(folder.path()).output().unwrap();
    let (done, wrong) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success() && wrong.is_empty(), "{wrong}");
    let mut rest = done.as_str();
    for step in [
        "useradd --system",                         // User=
        "-o station -g station /var/lib/station\n", // ReadWritePaths=
        "target/release/edge-outbox /usr/local/bin/\n",
        "runuser -u station -- /usr/local/bin/edge-outbox init /var/lib/station/station.db\n",
        "install -d -m 0755 /etc/edge-outbox\n",
        "-m 0640 -o root -g station station.toml /etc/edge-outbox/\n",
        "-m 0600 -o root -g root station.user station.password /etc/edge-outbox/\n",
        "docs/edge-outbox@.service /etc/systemd/system/\n",
        "systemctl enable --now edge-outbox@station\n",
    ] {
        let at = rest.find(step).unwrap_or_else(|| panic!("{step:?} is not there, or too late: {done}"));
        rest = &rest[at + step.len()..];
    }
}

/// What it starts is understood: all but the database is there.
#[test]
fn the_unit_says_what_the_program_takes() {
    let (_folder, unit) = unit();
    let folder = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(unit).unwrap().replace("\\\n", " ");
    let start = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let here = folder.path().to_str().unwrap();
    let start = start.replace("/var/lib/%i", here).replace("/etc/edge-outbox", here).replace("%i", "station");
    let settings: String = text
        .lines()
        .skip_while(|line| !line.contains("    to ="))
        .map_while(|line| line.strip_prefix('#'))
        .take_while(|line| line.is_empty() || line.starts_with("     "))
        .map(|line| format!("{}\n", line.trim()))
        .collect();
    assert!(settings.contains("to = ") && settings.contains("[settings]"), "{settings}");
    fs::write(folder.path().join("station.toml"), settings).unwrap();
    let output = Command::new("sh").args(["-c", &start]).env("CREDENTIALS_DIRECTORY", here).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("station.db does not exist"), "{said}");
}
