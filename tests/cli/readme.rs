//! What README says to type, as it is printed there.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use edge_outbox::rusqlite::Connection;

use crate::device::{SOON, value};
use crate::mosquitto::Mosquitto;

const README: &str = include_str!("../../README.md");

/// The block that begins so, without its fences.
#[track_caller]
fn block(begins: &str) -> &'static str {
    let at =
        README.find(&format!("\n{begins}")).unwrap_or_else(|| panic!("README has no block that begins {begins:?}"));
    let text = &README[at + 1..];
    &text[..text.find("\n```").unwrap() + 1]
}

/// Runs a script in a folder, with the tool in PATH, and answers what it printed.
#[track_caller]
fn shell(script: &str, folder: &Path, broker: &Mosquitto) -> String {
    let tool = Path::new(env!("CARGO_BIN_EXE_edge-outbox")).parent().unwrap();
    let path = std::env::join_paths(
        std::iter::once(tool.to_owned()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let mut command = Command::new("sh");
    command.args(["-e", "-c", script]).current_dir(folder).env("PATH", path.unwrap()).env("BROKER", broker.url());
    let output = command.stdin(Stdio::null()).output().unwrap();
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}:\n{said}\n{told}", output.status);
    said.into_owned()
}

#[test]
fn a_shell_script_and_a_python_program_share_an_outbox_with_the_tool_as_readme_prints_it() {
    let broker = Mosquitto::start();
    let subscriber = broker.subscribe("#");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("door.sh"), block("# door.sh")).unwrap();
    fs::write(folder.path().join("meter.py"), block("# meter.py")).unwrap();
    shell(block("edge-outbox init station.db\nedge-outbox forward"), folder.path(), &broker);

    let mut arrived: Vec<(String, String)> = Vec::new();
    while arrived.len() < 3 {
        let next = subscriber.next(SOON).unwrap_or_else(|| panic!("of three messages came {arrived:?}"));
        arrived.push((next.topic.clone(), next.text().to_owned()));
    }
    arrived.sort();
    let open = ("door/front".to_owned(), "open".to_owned());
    let alarm = ("meter/alarm".to_owned(), r#"{"watts": 2950.0}"#.to_owned());
    assert_eq!(arrived, [open.clone(), open, alarm]);
    let sql = Connection::open(folder.path().join("station.db")).unwrap();
    assert_eq!(value::<i64>(&sql, "SELECT count(*) FROM opening", []), 2);
    assert_eq!(value::<i64>(&sql, "SELECT count(*) FROM reading", []), 4);
    assert_eq!(value::<i64>(&sql, "SELECT count(*) FROM outbox WHERE status = 'SENT'", []), 3);
}

#[test]
fn the_first_steps_of_readme_lead_to_a_message_at_the_broker() {
    let broker = Mosquitto::start();
    let subscriber = broker.subscribe("#");
    let folder = tempfile::tempdir().unwrap();
    let (steps, forward) =
        block("edge-outbox init station.db\nedge-outbox enqueue").split_once("edge-outbox forward").unwrap();
    assert!(forward.contains("mqtt://localhost:1883"), "{forward}");
    let said = shell(steps, folder.path(), &broker);
    assert!(said.lines().any(|line| line == "1"), "the row's id is not told: {said}");
    assert!(said.contains("pending"), "{said}");
    shell(r#"edge-outbox forward station.db --to "$BROKER" --drain"#, folder.path(), &broker);
    assert_eq!(subscriber.next(SOON).unwrap().text(), "21.5");
}
