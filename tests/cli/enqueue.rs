//! `enqueue`: what is reported is in, and what is in is what was given.

mod lines;

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use crate::card::Card;
use crate::device::{Device, value};
use crate::faults::{ANY_FILE, Does, Faults, SYNC};
use crate::tool::{Ran, Running, command, run_with};

const MB: u64 = 1 << 20;

/// A device with an outbox in its database.
fn device() -> Device {
    let device = Device::new();
    drop(device.open_writer());
    device
}

/// `enqueue` into its database with these arguments behind.
fn enqueue(device: &Device, args: &[&str]) -> Command {
    let mut command = command(["enqueue"]);
    command.arg(device.database()).args(["--topic", "weather/roof"]).args(args);
    command
}

/// The row that it says it wrote.
#[track_caller]
fn row(ran: Ran) -> i64 {
    let said = ran.ok();
    said.strip_suffix('\n').and_then(|row| row.parse().ok()).unwrap_or_else(|| panic!("{said:?}"))
}

#[track_caller]
fn written(command: &mut Command) -> i64 {
    row(command.output().unwrap().into())
}

fn payload(device: &Device, row: i64) -> (String, Vec<u8>) {
    let sql = "SELECT typeof(payload), CAST(payload AS BLOB) FROM outbox WHERE id = ?1";
    device.sql().query_row(sql, [row], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
}

fn count(device: &Device) -> i64 {
    value(&device.sql(), "SELECT count(*) FROM outbox", [])
}

#[test]
fn every_option_arrives_in_the_row() {
    let device = device();
    let args = [
        "--key=roof",
        "--qos=2",
        "--retain",
        "--header=unit=celsius",
        "--header",
        "note=a=b",
        "--header=empty=",
        "--content-type=text/plain",
        "--expiry=90s",
        "--response-topic=answers/roof",
        "--correlation-data=q 7",
        "21.5",
    ];
    assert_eq!(written(&mut enqueue(&device, &args)), 1);
    type Row = (String, String, i64, bool, String, String, i64, String, Vec<u8>, String, String);
    let found: Row = device
        .sql()
        .query_row(
            "SELECT topic, key, qos, retain, headers, content_type, expires_at - created_at, response_topic,
                    correlation_data, payload, status FROM outbox WHERE id = 1",
            [],
            |row| row.try_into(),
        )
        .unwrap();
    let headers = r#"[["unit","celsius"],["note","a=b"],["empty",""]]"#.to_owned();
    let texts = |topic: &str, key: &str| (topic.to_owned(), key.to_owned());
    let ((topic, key), (content_type, answers)) = (texts("weather/roof", "roof"), texts("text/plain", "answers/roof"));
    let (said, pending) = texts("21.5", "PENDING");
    assert_eq!(found, (topic, key, 2, true, headers, content_type, 90_000, answers, b"q 7".to_vec(), said, pending));
}

#[test]
fn without_options_the_row_has_the_defaults() {
    let device = device();
    let row = written(&mut enqueue(&device, &["21.5"]));
    let plain = "SELECT qos = 1 AND NOT retain AND key IS NULL AND headers IS NULL AND content_type IS NULL
                        AND expires_at IS NULL AND response_topic IS NULL AND correlation_data IS NULL
                 FROM outbox WHERE id = ?1";
    assert!(value::<bool>(&device.sql(), plain, [row]));
}

#[test]
fn the_payload_comes_from_the_argument_a_file_or_standard_input_as_it_is() {
    let device = device();
    let file = device.folder().join("payload");
    let name = file.to_str().unwrap();
    let own = |text: &str, kind: &str| (kind.to_owned(), text.as_bytes().to_vec());
    for text in ["21.5", "", "two\nlines\r\n", "a\0b", "grün"] {
        fs::write(&file, text).unwrap();
        assert_eq!(payload(&device, written(&mut enqueue(&device, &["--file", name]))), own(text, "text"));
        let database = device.database();
        for args in [&["-"][..], &["--file", "-"], &[]] {
            let args = [&["enqueue", database.to_str().unwrap(), "--topic", "t"][..], args].concat();
            assert_eq!(payload(&device, row(run_with(args, text.as_bytes()))), own(text, "text"));
        }
        if !text.contains('\0') {
            assert_eq!(payload(&device, written(&mut enqueue(&device, &[text]))), own(text, "text"));
        }
    }
    // Figures below zero need no `--`; what else begins with a dash does.
    assert_eq!(payload(&device, written(&mut enqueue(&device, &["-3.5"]))), own("-3.5", "text"));
    assert_eq!(payload(&device, written(&mut enqueue(&device, &["--", "--retain"]))), own("--retain", "text"));
}

#[test]
fn what_is_no_text_stands_as_bytes() {
    let device = device();
    let bytes = b"\xff\x00\xfe";
    let file = device.folder().join("payload");
    fs::write(&file, bytes).unwrap();
    let blob = |bytes: &[u8]| ("blob".to_owned(), bytes.to_vec());
    assert_eq!(payload(&device, written(enqueue(&device, &["--file"]).arg(&file))), blob(bytes));
    assert_eq!(payload(&device, written(enqueue(&device, &[]).arg(OsStr::from_bytes(b"\xff")))), blob(b"\xff"));
}

#[test]
fn of_a_payload_that_is_too_long_no_more_is_read_than_shows_it() {
    let device = device();
    let endless = Ran::from(enqueue(&device, &["--file", "/dev/zero"]).output().unwrap()).refused(1);
    // Nor is more waited for: this one does not end yet.
    let (status, begun) = given_and_not_ended(enqueue(&device, &[]), &[b'x'; 262_145]);
    assert_eq!(status.code(), Some(1));
    for (told, name) in [(endless, "/dev/zero"), (begun, "standard input")] {
        assert!(told.contains(name) && told.contains("262,144 bytes") && told.contains("max_payload"), "{told}");
    }
    // One that fits to the byte, and one byte more.
    let file = device.folder().join("payload");
    fs::write(&file, vec![b'x'; 262_144]).unwrap();
    written(enqueue(&device, &["--file"]).arg(&file));
    fs::write(&file, vec![b'x'; 262_145]).unwrap();
    let ran: Ran = enqueue(&device, &["--file"]).arg(&file).output().unwrap().into();
    assert!(ran.refused(1).contains("is longer than"));
    assert_eq!(count(&device), 1);
}

#[test]
fn a_database_that_is_missing_is_created_only_when_asked_for() {
    let device = Device::new();
    for lines in [&["--lines"][..], &["21.5"]] {
        let told = Ran::from(enqueue(&device, lines).output().unwrap()).refused(1);
        let database = device.database();
        assert!(told.contains(&format!("{} does not exist", database.display())), "{told}");
        assert!(told.contains(&format!("edge-outbox init {}", database.display())), "{told}");
        assert_eq!(fs::read_dir(device.folder()).unwrap().count(), 0);
    }
    // A database of somebody else's is as it was.
    device.sql().execute_batch("CREATE TABLE reading (value REAL)").unwrap();
    let told = Ran::from(enqueue(&device, &["21.5"]).output().unwrap()).refused(1);
    assert!(told.contains("without an outbox"), "{told}");
    assert_eq!(value::<i64>(&device.sql(), "SELECT count(*) FROM sqlite_schema", []), 1);

    assert_eq!(written(&mut enqueue(&device, &["--create", "21.5"])), 1);
    assert_eq!(written(&mut enqueue(&device, &["--create", "21.6"])), 2);
}

#[test]
fn wrong_options_are_told_before_anything_is_created_or_read() {
    let device = Device::new();
    let long = "k".repeat(1_025);
    for (args, words) in [
        (&["--topic", "weather/+"][..], "the topic holds '+'"),
        (&["--topic", ""], "the topic is 0 bytes long"),
        (&["--topic", "t", "--key", &long], "the key is 1025 bytes long"),
        (&["--topic", "t", "--key", ""], "the key is 0 bytes long"),
        (&["--topic", "t", "--header", "id=7"], "which the outbox itself sets"),
        (&["--topic", "t", "--header", "unit"], "NAME=VALUE is expected"),
        (&["--topic", "t", "--header", "=x"], "header"),
        (&["--topic", "t", "--qos", "3"], "0 (at most once)"),
        (&["--topic", "t", "--expiry", "10ms"], "the expiry is 10ms"),
        (&["--topic", "t", "--expiry", "10"], "a number with a unit is expected"),
        (&["--topic", "t", "--expiry", "0s"], "expiry is 0s"),
        (&["--topic", "t", "--file", "/"], "--file /: "),
        (&["--topic", "t", "--response-topic", "a/#"], "the response topic holds '#'"),
        (&["--topic", "t", "--lines", "--batch", "0"], "1 to 10000"),
        (&["--topic", "t", "--lines", "--batch", "10001"], "1 to 10000"),
        (&["--topic", "t", "--batch", "5"], "--lines"),
        (&["--topic", "t", "--progress"], "--lines"),
        (&["--topic", "t", "--lines", "payload"], "cannot be used with"),
        (&["--topic", "t", "--file", "x", "payload"], "cannot be used with"),
        (&["--topic", "t", "--file", "/no/such/file"], "/no/such/file: No such file"),
        (&["--topic", "t", "--max-payload", "0"], "max_payload is 0; 1 to"),
        (&["--topic", "t", "--config", "/no/such/file"], "/no/such/file"),
        (&["payload"], "--topic"),
    ] {
        // An input that never ends, and that nobody may begin to read.
        let mut command = command(["enqueue"]);
        command.arg(device.database()).arg("--create").args(args).stdin(fs::File::open("/dev/zero").unwrap());
        let told = Ran::from(command.output().unwrap()).refused(2);
        assert!(told.contains(words), "{args:?}: {told}");
        assert_eq!(fs::read_dir(device.folder()).unwrap().count(), 0, "{args:?}");
    }
}

#[test]
fn a_message_is_in_although_nobody_reads_its_number() {
    let device = device();
    let told = refused_by_its_reader(enqueue(&device, &["21.5"]), b"");
    assert!(told.contains("row 1 is in, but standard output"), "{told}");
    assert_eq!(count(&device), 1);
}

/// How it ends, and what it says, where its input goes on to stand open after these bytes.
fn given_and_not_ended(mut command: Command, input: &[u8]) -> (ExitStatus, String) {
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    let mut stdin = running.child.stdin.take().unwrap();
    stdin.write_all(input).unwrap();
    let ended = running.wait();
    drop(stdin);
    ended
}

/// What it says where standard output is closed by whoever was to read it.
fn refused_by_its_reader(mut command: Command, input: &[u8]) -> String {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || drop(stdin.write_all(input)));
        Ran::from(child.wait_with_output().unwrap()).refused(1)
    })
}

#[test]
fn a_database_that_is_locked_is_waited_for_no_longer_than_told() {
    let device = device();
    let other = device.sql();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let ran: Ran = enqueue(&device, &["--busy-timeout", "50ms", "21.5"]).output().unwrap().into();
    let told = ran.refused(1);
    assert!(told.contains("device.db") && told.contains("kept the database locked"), "{told}");
    other.execute_batch("COMMIT").unwrap();
    written(&mut enqueue(&device, &["--busy-timeout", "50ms", "21.5"]));
}

#[test]
fn a_full_disk_is_told_and_takes_nothing() {
    let Some(card) = Card::tmpfs(64 * MB) else { return };
    let device = Device::at(card.folder());
    drop(device.open_writer());
    let others = card.fill();
    let told = Ran::from(enqueue(&device, &["21.5"]).output().unwrap()).refused(1);
    assert!(told.contains("device.db") && told.contains("the outbox is full"), "{told}");
    drop(others);
    assert_eq!(written(&mut enqueue(&device, &["21.5"])), 1);
}

#[test]
fn a_file_system_that_cannot_be_written_to_is_told() {
    let Some(card) = Card::tmpfs(64 * MB) else { return };
    let device = Device::at(card.folder());
    drop(device.open_writer());
    let remount = |how: &str| Command::new("mount").args(["-o", how]).arg(card.folder()).status();
    assert!(remount("remount,ro").unwrap().success());
    let told = Ran::from(enqueue(&device, &["21.5"]).output().unwrap()).refused(1);
    assert!(told.contains("device.db") && told.contains("cannot be written to"), "{told}");
    assert!(remount("remount,rw").unwrap().success());
    assert_eq!(written(&mut enqueue(&device, &["21.5"])), 1);
}

#[test]
fn a_commit_that_failed_is_not_called_in_or_out() {
    let (device, faults) = (device(), Faults::new());
    let mut command = enqueue(&device, &["21.5"]);
    faults.preload(&mut command);
    faults.every(Does::Answer(rustix::io::Errno::IO), SYNC, ANY_FILE);
    let told = Ran::from(command.output().unwrap()).refused(1);
    assert!(told.contains("look whether the transaction is in the database"), "{told}");
}

#[test]
fn whoever_types_the_command_alone_is_told_that_it_reads() {
    // A terminal, made by util-linux's script(1).
    let device = device();
    let (tool, database) = (env!("CARGO_BIN_EXE_edge-outbox"), device.database());
    let line = format!("{tool} enqueue {} --topic t", database.display());
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(mut script) = script.spawn() else {
        let _ = writeln!(std::io::stderr(), "SKIPPED: no terminal for the tool: there is no script(1)");
        return;
    };
    script.stdin.take().unwrap().write_all(b"21.5\n\x04").unwrap();
    let said = String::from_utf8(script.wait_with_output().unwrap().stdout).unwrap();
    assert!(said.contains("reading the message from the terminal, until Ctrl-D"), "{said}");
    assert_eq!(payload(&device, 1).1, b"21.5\n");
    // From a pipe it is not.
    let ran = run_with(["enqueue", database.to_str().unwrap(), "--topic", "t"], b"21.5");
    assert_eq!(ran.err, "");
}

#[test]
fn the_number_that_is_printed_is_the_rows() {
    let device = device();
    for expected in 1..=3 {
        assert_eq!(written(&mut enqueue(&device, &["21.5"])), expected);
    }
}

/// What a process moved into the database the next one does not know of: the log would never begin anew, and each would
/// write all of it once more.
#[test]
fn processes_that_come_write_and_go_keep_the_log_within_the_reserve() {
    let device = device();
    let payload = device.folder().join("payload");
    fs::write(&payload, vec![b'x'; 100_000]).unwrap();
    let log = || fs::metadata(device.folder().join("device.db-wal")).unwrap().len();
    let mut longest = 0;
    for nth in 1..=25 {
        let args = ["--reserve", "1048576", "--file", payload.to_str().unwrap()];
        assert_eq!(written(&mut enqueue(&device, &args)), nth);
        longest = longest.max(log());
    }
    assert!((1 << 20..(1 << 20) + 250_000).contains(&longest), "{longest} bytes");
}
