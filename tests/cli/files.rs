//! Every command on every file that is not as it should be: it says so in words, with what to do next, and spoils nothing.

mod damaged;
mod disk;
mod locked;
mod output;
mod permission;

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::device::{Device, SOON, enqueue, numbered};
use crate::forward::nowhere;
use crate::tool::{Ran, command};

/// What a command does to a database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Does {
    /// Makes what is not there.
    Creates,
    Writes,
    Forwards,
    Looks,
}

use Does::{Creates, Forwards, Looks, Writes};

/// Each command, with what stands behind the database.
const COMMANDS: [(Does, &str, &[&str]); 16] = [
    (Creates, "init", &[]),
    (Creates, "enqueue", &["--create", "--topic", "t", "21.5"]),
    (Writes, "enqueue", &["--topic", "t", "21.5"]),
    (Writes, "enqueue", &["--topic", "t", "--lines", "--progress"]),
    (Forwards, "forward", &[]),
    (Forwards, "forward", &["--drain"]),
    (Looks, "status", &[]),
    (Looks, "status", &["--json"]),
    (Looks, "list", &[]),
    (Looks, "show", &["2"]),
    (Writes, "retry", &["2"]),
    (Writes, "retry", &["--all"]),
    (Writes, "discard", &["--yes", "2"]),
    (Writes, "discard", &["--yes", "--all-failed"]),
    (Writes, "purge", &[]),
    (Looks, "check", &[]),
];

/// One of them, as it is run.
struct Case {
    command: Command,
    /// What a person would have typed.
    line: String,
}

/// Those of them that do so.
fn commands(database: &Path, does: &[Does]) -> Vec<Case> {
    let cases = COMMANDS.iter().filter(|(what, ..)| does.contains(what));
    let cases = cases.map(|(does, name, args)| {
        let mut command = command([name]);
        command.arg(database).args(*args);
        if *does == Forwards {
            command.args(["--to", &nowhere()]);
        }
        Case { command, line: format!("{name} {}", args.join(" ")) }
    });
    cases.collect()
}

const ALL: [Does; 4] = [Creates, Writes, Forwards, Looks];
/// What needs to be there for it.
const USING: [Does; 3] = [Writes, Forwards, Looks];

impl Case {
    /// Runs it to its end, with two lines on its standard input, and reads what it says with the eyes of a person.
    #[track_caller]
    fn run(&mut self) -> Ran {
        let mut child =
            self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut stdin, mut stdout, mut stderr) =
            (child.stdin.take().unwrap(), child.stdout.take().unwrap(), child.stderr.take().unwrap());
        // Neither fills a pipe; it may end before it has read everything.
        let _ = stdin.write_all(b"20\n21\n");
        drop(stdin);
        let until = Instant::now() + SOON;
        let code = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status.code();
            }
            if Instant::now() > until {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            thread::sleep(Duration::from_millis(2));
        };
        let (mut out, mut err) = (Vec::new(), String::new());
        stdout.read_to_end(&mut out).unwrap();
        stderr.read_to_string(&mut err).unwrap();
        for machine in ["panicked", "SqliteFailure", "Error code", "Error {", "Err(", "Some(", "None"] {
            assert!(!err.contains(machine), "{}: {err}", self.line);
        }
        Ran { code, out, err }
    }

    /// It ends with 1, and tells of this database all these words.
    #[track_caller]
    fn refused(&mut self, database: &Path, words: &[&str]) {
        let ran = self.run();
        let line = &self.line;
        assert_eq!(ran.code, Some(1), "{line}: {ran:?}");
        assert!(ran.err.contains(database.to_str().unwrap()), "{line}: {}", ran.err);
        words.iter().for_each(|words| assert!(ran.err.contains(words), "{line}, {words:?}: {}", ran.err));
    }

    /// It does what it does everywhere else.
    #[track_caller]
    fn goes_well(&mut self) {
        let ran = self.run();
        assert_eq!(ran.code, Some(0), "{}: {ran:?}", self.line);
    }
}

/// What stands in a folder, by name.
fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The names, without what SQLite makes beside a database in WAL mode to read it.
fn without_log(names: Vec<String>) -> Vec<String> {
    names.into_iter().filter(|name| !name.ends_with("-wal") && !name.ends_with("-shm")).collect()
}

/// Each of the commands that do so says these words, makes no file, and leaves every byte of this one.
#[track_caller]
fn all_refused(device: &Device, does: &[Does], words: &[&str]) {
    let database = device.database();
    let bytes = fs::read(&database).ok();
    let standing = names(device.folder());
    let is_wal = bytes.as_ref().is_some_and(|bytes| bytes.get(18) == Some(&2));
    for mut case in commands(&database, does) {
        case.refused(&database, words);
        let now = names(device.folder());
        match is_wal {
            true => assert_eq!(without_log(now), without_log(standing.clone()), "{}", case.line),
            false => assert_eq!(now, standing, "{}", case.line),
        }
        assert!(fs::read(&database).ok() == bytes, "{}: the file is another", case.line);
    }
}

/// Five messages in a database that nobody has open: 1 is SENT, 2 is FAILED, the others are PENDING.
fn fill(device: &Device) {
    enqueue(&device.open_writer(), numbered("t", 0..5));
    let sql = device.sql();
    sql.execute("UPDATE outbox SET status = 'SENT' WHERE id = 1", []).unwrap();
    sql.execute("UPDATE outbox SET status = 'FAILED', last_error = 'no' WHERE id = 2", []).unwrap();
    sql.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
}

fn filled() -> Device {
    let device = Device::new();
    fill(&device);
    device
}

#[test]
fn a_file_that_is_not_there_is_not_made_but_by_those_who_make_it() {
    let device = Device::new();
    all_refused(&device, &USING, &["does not exist", "If the path is right: edge-outbox init"]);
    for nth in 0..2 {
        let device = Device::new();
        commands(&device.database(), &[Creates])[nth].goes_well();
    }
}

#[test]
fn a_folder_that_is_not_there_is_told_and_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::at(&folder.path().join("mistyped"));
    all_refused(&device, &ALL, &["There is no folder", "mkdir -p"]);
    for mut case in commands(&device.database(), &[Creates]) {
        let said = case.run().refused(1);
        assert!(said.contains("cannot be created") && !said.contains("SQLite"), "{said}");
    }
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn a_folder_is_told_from_a_database() {
    let device = Device::new();
    fs::create_dir(device.database()).unwrap();
    all_refused(&device, &ALL, &["is a folder, not a database", "ls -l"]);
    assert_eq!(names(&device.database()), [""; 0]);
}

#[test]
fn a_file_without_an_outbox_gets_none_but_from_those_who_make_it() {
    let empty = |device: &Device| fs::write(device.database(), "").unwrap();
    let foreign = |device: &Device| device.sql().execute_batch("CREATE TABLE readings (celsius)").unwrap();
    for make in [&empty as &dyn Fn(&Device), &foreign] {
        let device = Device::new();
        make(&device);
        all_refused(&device, &USING, &["is a database without an outbox", "edge-outbox init"]);
        for nth in 0..2 {
            let device = Device::new();
            make(&device);
            commands(&device.database(), &[Creates])[nth].goes_well();
        }
    }
}

#[test]
fn a_file_that_is_no_database_is_told() {
    let device = Device::new();
    fs::write(device.database(), "It was a dark and stormy night.\n".repeat(1000)).unwrap();
    all_refused(&device, &ALL, &["is not a SQLite database", "Is the path right?", ".recover"]);
}

#[test]
fn a_table_of_that_name_that_is_not_ours_is_left_alone() {
    let device = Device::new();
    device.sql().execute_batch("CREATE TABLE outbox (letter); INSERT INTO outbox VALUES ('Dear Sirs')").unwrap();
    all_refused(&device, &ALL, &["`outbox` that is not ours", "rename it, or keep the outbox in another file"]);
}

#[test]
fn an_outbox_of_a_newer_version_is_left_alone() {
    let device = filled();
    let sql = device.sql();
    sql.execute("UPDATE outbox_state SET version = 99", []).unwrap();
    sql.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(sql);
    all_refused(&device, &ALL, &["schema version 99", "upgrade the program"]);
}
