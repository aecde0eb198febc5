//! What it is told, by flags, by the environment and by a file.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::{device, forward, forward_to, nowhere, ran};
use crate::device::numbered;
use crate::mosquitto::Mosquitto;
use crate::tool::command;

#[test]
fn flags_count_more_than_the_environment_and_that_more_than_the_file() {
    let mosquitto = Mosquitto::start();
    let (url, nowhere) = (mosquitto.url(), nowhere());
    let timeout = ["--drain", "--timeout", "20"];
    for (flag, environment, file) in
        [(Some(&url), Some(&nowhere), Some(&nowhere)), (None, Some(&url), Some(&nowhere)), (None, None, Some(&url))]
    {
        let device = device(numbered("weather/roof", 0..1));
        let mut command = forward(&device, &timeout);
        if let Some(to) = flag {
            command.args(["--to", to]);
        }
        if let Some(to) = environment {
            command.env("EDGE_OUTBOX_TO", to);
        }
        if let Some(to) = file {
            let path = device.folder().join("forward.toml");
            fs::write(&path, format!("to = '{to}'\n")).unwrap();
            command.arg("--config").arg(path);
        }
        ran(command).ok();
    }
}

#[test]
fn a_rust_log_that_says_nothing_counts_for_nothing() {
    let device = device([]);
    let mut command = forward(&device, &["--drain", "--to", &nowhere()]);
    let ran = ran({
        command.env("RUST_LOG", "");
        command
    });
    assert!(ran.err.contains("INFO"), "{}", ran.err);
}

#[test]
fn a_file_has_broker_and_settings_in_it_and_flags_count_more() {
    let mosquitto = Mosquitto::start();
    let device = device(numbered("weather/roof", 100..101));
    let path = device.folder().join("forward.toml");
    let broker = format!("[mqtt]\nhost = '127.0.0.1'\nport = {}\nclient_id = 'station-7'\n", mosquitto.port());
    fs::write(&path, broker + "[settings]\nmax_payload = 2\n").unwrap();
    let with = |args: &[&str]| {
        let mut command = forward(&device, args);
        command.arg("--config").arg(&path);
        ran(command)
    };
    let first = with(&["--drain"]);
    assert!(first.err.contains("1 message parked"), "the file's max_payload counts: {}", first.err);
    assert!(first.err.contains("as client \"station-7\""), "{}", first.err);
    let sql = device.sql();
    sql.execute("INSERT INTO outbox (topic, payload) VALUES ('weather/roof', 'long')", []).unwrap();
    let second = with(&["--drain", "--max-payload=10", "--client-id=roof"]);
    assert!(second.code == Some(0) && !second.err.contains("parked"), "{}", second.err);
    assert!(second.err.contains("as client \"roof\""), "{}", second.err);
}

#[test]
fn what_is_wrong_with_a_file_is_told_by_its_name_and_line() {
    let device = device([]);
    let path = device.folder().join("forward.toml");
    fs::write(&path, "to = 'mqtt://localhost'\n[settings]\nwindow = 'wide'\n").unwrap();
    let with = |path: &std::path::Path| {
        let mut command = forward(&device, &["--drain"]);
        command.arg("--config").arg(path);
        ran(command).refused(2)
    };
    let said = with(&path);
    assert!(said.contains("forward.toml, line 3: ") && said.contains("window"), "{said}");
    assert!(with(&device.folder().join("missing.toml")).contains("missing.toml cannot be read"));
    assert!(with(device.folder()).contains("cannot be read"));
}

#[test]
fn settings_out_of_range_and_no_broker_are_wrong_usage() {
    let device = device([]);
    let said = ran(forward_to(&device, "mqtt://localhost", &["--window=0", "--max-attempts=0"])).refused(2);
    assert!(said.contains("window is 0") && said.contains("max_attempts is 0"), "{said}");
    let said = ran(forward(&device, &[])).refused(2);
    assert!(said.contains("--to") && said.contains("EDGE_OUTBOX_TO") && said.contains("--config"), "{said}");
    let said = ran(forward_to(&device, "mqtt://localhost", &["--ca-file=ca.pem"])).refused(2);
    assert!(said.contains("mqtts://"), "{said}");
    ran(forward_to(&device, "mqtt://localhost", &["--timeout=5"])).refused(2);
}

#[test]
fn a_log_for_the_journal_has_levels_and_no_time_of_its_own() {
    let device = device([]);
    let path = device.folder().join("log");
    let file = fs::File::create(&path).unwrap();
    let found = file.metadata().unwrap();
    let mut forward = forward_to(&device, &nowhere(), &["--drain"]);
    forward.env("JOURNAL_STREAM", format!("{}:{}", found.dev(), found.ino()));
    assert!(forward.stderr(file).status().unwrap().success());
    let log = fs::read_to_string(&path).unwrap();
    assert!(
        log.lines().all(|line| ["<4>edge_outbox::", "<6>edge_outbox::"].iter().any(|begin| line.starts_with(begin)))
            && log.contains("forwarding from"),
        "{log}"
    );
    // Another program's standard error is none of the journal's, though the variable is passed on to it.
    let elsewhere = ran({
        let mut command = command(["forward"]);
        command.arg(device.database()).args(["--drain", "--to", &nowhere()]).env("JOURNAL_STREAM", "1:1");
        command
    });
    assert!(elsewhere.err.starts_with("[20"), "{}", elsewhere.err);
}
