//! Passwords: they come from files and from the environment, and go to the broker alone.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{device, forward, forward_to, ran};
use crate::device::{Device, SOON, enqueue, numbered};
use crate::mosquitto::Mosquitto;
use crate::tool::{Ran, Running, command};

const USER: &str = "station";
const PASSWORD: &str = "s3cret-Passw0rd";

/// A broker that lets one user in, with a password.
fn strict_broker() -> Mosquitto {
    let folder = tempfile::tempdir().unwrap();
    let passwords = folder.path().join("passwords");
    let made = Command::new("mosquitto_passwd").arg("-c").arg("-b").arg(&passwords).args([USER, PASSWORD]).output();
    let made = made.expect("mosquitto_passwd, which comes with mosquitto");
    assert!(made.status.success(), "{made:?}");
    // Our subscriber comes without a password: to a listener of its own that would be more than this needs.
    Mosquitto::start_in(folder, &["allow_anonymous false", "password_file passwords"])
}

fn password_file(device: &Device) -> String {
    let path = device.folder().join("password");
    fs::write(&path, format!("{PASSWORD}\n")).unwrap();
    path.to_str().unwrap().to_owned()
}

/// All that others on the device see of a process, but for its environment, which is its user's.
fn seen_by_all(process: u32) -> String {
    let file = |name: &str| fs::read(Path::new("/proc").join(process.to_string()).join(name)).unwrap_or_default();
    String::from_utf8_lossy(&[file("cmdline"), file("comm")].concat()).into_owned()
}

#[test]
fn a_password_from_a_file_the_environment_or_the_configuration_lets_in_and_is_seen_nowhere() {
    let mosquitto = strict_broker();
    let with_password = mosquitto.url().replace("mqtt://", &format!("mqtt://{USER}:{PASSWORD}@"));
    type Give = fn(&mut Command, &Device, &Mosquitto, &str);
    let ways: [(&str, Give); 5] = [
        ("a file", |command, device, mosquitto, _| {
            let password = password_file(device);
            command.args(["--to", &mosquitto.url(), "--user", USER, "--password-file", &password]);
        }),
        ("the environment", |command, _, mosquitto, _| {
            command.args(["--to", &mosquitto.url()]);
            command.envs([("EDGE_OUTBOX_USER", USER), ("EDGE_OUTBOX_PASSWORD", PASSWORD)]);
        }),
        ("a URL in the environment", |command, _, _, url| {
            command.env("EDGE_OUTBOX_TO", url);
        }),
        ("a URL in the configuration", |command, device, _, url| {
            let path = device.folder().join("forward.toml");
            fs::write(&path, format!("to = '{url}'")).unwrap();
            command.arg("--config").arg(path);
        }),
        ("the configuration", |command, device, mosquitto, _| {
            let path = device.folder().join("forward.toml");
            let (port, password) = (mosquitto.port(), PASSWORD);
            let text = format!("[mqtt]\nhost='127.0.0.1'\nport={port}\nuser='{USER}'\npassword='{password}'\n");
            fs::write(&path, text).unwrap();
            command.arg("--config").arg(path);
        }),
    ];
    for (way, give) in ways {
        let device = device([]);
        let mut command = forward(&device, &[]);
        give(&mut command, &device, &mosquitto, &with_password);
        let mut running = Running::start({
            command.env("RUST_LOG", "trace");
            command
        });
        running.hear("session with 127.0.0.1");
        let seen = seen_by_all(running.child.id());
        assert!(seen.contains("forward") && !seen.contains(PASSWORD), "{way}: {seen}");
        enqueue(&device.open_writer(), numbered("weather/roof", 0..1));
        crate::device::eventually("it is sent", || super::pending(&device) == 0);
        running.signal("TERM");
        let (status, said) = running.wait();
        assert!(status.success() && !said.contains(PASSWORD), "{way}: {said}");
    }
}

#[test]
fn a_wrong_password_is_told_without_it() {
    let mosquitto = strict_broker();
    let device = device(numbered("weather/roof", 0..1));
    let mut command = forward_to(&device, &mosquitto.url(), &["--drain", "--timeout", "30"]);
    command.envs([("EDGE_OUTBOX_USER", USER), ("EDGE_OUTBOX_PASSWORD", "wr0ng-Passw0rd"), ("RUST_LOG", "trace")]);
    let said = ran(command).refused(1);
    assert!(said.contains("the broker refuses") && !said.contains("wr0ng"), "{said}");
}

#[test]
fn a_password_on_the_command_line_is_refused_and_not_repeated() {
    let device = device([]);
    for args in [
        &["--to", "mqtt://u:s3cret@localhost"][..],
        &["--to=mqtt://:s3cret@localhost"],
        &["--to", "mqtt://u:s3/cret@localhost"],
        &["--to", "u:s3cret@localhost"],
    ] {
        let said = ran(forward(&device, args)).refused(2);
        assert!(!said.contains("s3cret") && !said.contains("cret@"), "{args:?}: {said}");
        for way in ["--password-file", "EDGE_OUTBOX_PASSWORD", "EDGE_OUTBOX_TO", "--config"] {
            assert!(said.contains(way), "{args:?}: {said}");
        }
    }
}

#[test]
fn no_mistake_repeats_what_stands_at_a_wrong_place() {
    let device = device([]);
    let url = "mqtt://u:s3cret@localhost";
    for args in [
        &["--password", "s3cret"][..],
        &["--password=s3cret"],
        &["-ps3cret"],
        &["--user", "u", "s3cret"],
        &[url],
        &["--t0", url],
        &["--too=mqtt://u:s3cret@localhost"],
        &["--to", url, "--to", url],
        &["--drain=s3cret"],
        &["--window", "s3cret"],
        &["--ordering", "s3cret"],
        &["--timeout", url, "--drain"],
        &["--password-file", "x", "--user-file", "y", "--user", "s3cret"],
        &["--certificate-file", "s3cret"],
    ] {
        let said = ran(forward(&device, args)).refused(2);
        assert!(!said.contains("s3cret"), "{args:?}: {said}");
    }
    let said = crate::tool::run(["forward", url, "--to", "mqtt://localhost"]).refused(2);
    assert!(!said.contains("s3cret") && said.contains("--to"), "{said}");
}

#[test]
fn the_help_shows_nothing_of_the_environment() {
    for flag in ["--help", "-h"] {
        let mut command = command(["forward", flag]);
        command.env("EDGE_OUTBOX_TO", "mqtt://u:s3cret@h").env("EDGE_OUTBOX_USER", "s3cret");
        command.env("EDGE_OUTBOX_PASSWORD", "s3cret");
        let help = Ran::from(command.output().unwrap()).ok();
        assert!(help.contains("EDGE_OUTBOX_PASSWORD") && !help.contains("s3cret"), "{help}");
    }
}

#[test]
fn one_brokers_password_does_not_go_to_another() {
    let mosquitto = Mosquitto::start_with(&["log_type all"]);
    let device = device([]);
    let path = device.folder().join("forward.toml");
    fs::write(&path, format!("[mqtt]\nhost = 'elsewhere'\nuser = '{USER}'\npassword = '{PASSWORD}'\n")).unwrap();
    let mut command = forward_to(&device, &mosquitto.url(), &["--client-id=stranger"]);
    command.arg("--config").arg(&path);
    let mut running = Running::start(command);
    running.hear("session with 127.0.0.1");
    let came = mosquitto.log();
    let line =
        came.lines().find(|line| line.contains("as stranger")).unwrap_or_else(|| panic!("within {SOON:?}: {came}"));
    assert!(!line.contains(USER), "{line}");
}
