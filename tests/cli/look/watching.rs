//! `status --watch`, and that looking changes nothing.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;

use super::{look, with_database};
use crate::device::{Device, SOON, enqueue, eventually, numbered, value};
use crate::tool::{Running, as_nohup_starts, command};

fn start(mut command: Command) -> (Running, Receiver<String>) {
    let mut running = Running::start({
        command.stdout(Stdio::piped());
        command
    });
    let out = BufReader::new(running.child.stdout.take().unwrap());
    let (tell, lines) = mpsc::channel();
    thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
    (running, lines)
}

#[test]
fn watching_prints_again_what_is_new_and_ends_with_0_when_it_is_interrupted() {
    let device = Device::new();
    let outbox = device.open_writer();
    for signal in ["INT", "TERM", "HUP"] {
        let before = outbox.stats().unwrap().pending;
        let (running, lines) = start(command(with_database(&device, &["status", "--watch", "--json"])));
        let next = || serde_json::from_str::<Value>(&lines.recv_timeout(SOON).unwrap()).unwrap();
        assert_eq!(next()["pending"], before);
        enqueue(&outbox, numbered("weather", 0..3));
        eventually("it counts again", || next()["pending"] == before + 3);
        running.signal(signal);
        let (status, said) = running.wait();
        assert_eq!((status.code(), said.as_str()), (Some(0), ""), "{signal}");
    }
}

#[test]
fn watching_goes_on_over_a_hangup_that_was_to_be_ignored() {
    let device = Device::new();
    drop(device.open_writer());
    let watch = command(with_database(&device, &["status", "--watch", "--json"]));
    let (running, lines) = start(as_nohup_starts(&watch));
    let next = || lines.recv_timeout(SOON).unwrap();
    next();
    running.signal("HUP");
    // The one that is drawn now may have been on its way.
    (0..3).for_each(|_| drop(next()));
    running.signal("TERM");
    assert_eq!(running.wait().0.code(), Some(0));
}

#[test]
fn watching_goes_on_over_a_database_that_is_away_for_a_while() {
    let device = Device::new();
    drop(device.open_writer());
    let (running, lines) = start(command(with_database(&device, &["status", "--watch", "--json"])));
    let next = || serde_json::from_str::<Value>(&lines.recv_timeout(SOON).unwrap()).unwrap();
    assert_eq!(next()["error"], Value::Null);
    let away = device.folder().join("away.db");
    fs::rename(device.database(), &away).unwrap();
    eventually("it says so", || next()["error"].as_str().is_some_and(|error| error.contains("not there any more")));
    assert!(!device.database().exists());
    fs::rename(&away, device.database()).unwrap();
    eventually("it counts again", || next()["pending"] == 0);
    running.signal("INT");
    assert_eq!(running.wait().0.code(), Some(0));
}

#[test]
fn for_people_watching_prints_a_block_each_time_where_there_is_no_terminal() {
    let device = Device::new();
    drop(device.open_writer());
    let (running, lines) = start(command(with_database(&device, &["status", "--watch"])));
    let blocks = || lines.recv_timeout(SOON).unwrap().is_empty();
    eventually("one block", blocks);
    let first = lines.recv_timeout(SOON).unwrap();
    assert!(first.starts_with("database  "), "{first}");
    eventually("another block", blocks);
    running.signal("INT");
    assert_eq!(running.wait().0.code(), Some(0));
}

/// Both ends of a terminal.
fn terminal() -> (File, File) {
    let ours: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let theirs = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    (File::from(ours), theirs)
}

#[test]
fn on_a_terminal_it_is_drawn_in_place_within_its_size_and_the_terminal_is_as_it_was_afterwards() {
    let device = Device::new();
    drop(device.open_writer());
    let (mut ours, theirs) = terminal();
    let size = rustix::termios::Winsize { ws_row: 6, ws_col: 24, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&theirs, size).unwrap();
    let mut command = command(with_database(&device, &["status", "--watch"]));
    command.env("TERM", "xterm").stdout(theirs);
    let running = Running::start(command); // the command's end of the terminal is closed with it

    let (tell, heard) = mpsc::channel();
    thread::spawn(move || {
        let mut some = [0; 4096];
        // EIO once nobody has the other end open any more.
        while let Ok(read @ 1..) = ours.read(&mut some) {
            if tell.send(some[..read].to_vec()).is_err() {
                break;
            }
        }
    });
    let mut drawn = Vec::new();
    while drawn.windows(3).filter(|bytes| bytes == b"\x1b[H").count() < 3 {
        drawn.extend(heard.recv_timeout(SOON).unwrap());
    }
    running.signal("INT");
    assert_eq!(running.wait().0.code(), Some(0));
    while let Ok(more) = heard.recv_timeout(SOON) {
        drawn.extend(more);
    }
    let drawn = String::from_utf8(drawn).unwrap();
    assert!(drawn.starts_with("\x1b[?1049h") && drawn.ends_with("\x1b[?1049l"), "{drawn:?}");
    let frame = drawn.split("\x1b[H").nth(1).unwrap().trim_end_matches("\x1b[J");
    let lines: Vec<_> =
        frame.split("\r\n").map(|line| line.trim_end_matches('\r').trim_end_matches("\x1b[K")).collect();
    assert!(lines.len() == 6 && lines.iter().all(|line| line.chars().count() <= 24), "{lines:?}");
    assert!(lines[1].starts_with("pending        0"), "{lines:?}");
}

#[test]
fn on_a_terminal_a_list_is_no_wider_than_it() {
    let device = Device::new();
    enqueue(&device.open_writer(), numbered(&"weather/".repeat(40), 0..3));
    device.sql().execute("UPDATE outbox SET last_error = replace(hex(zeroblob(300)), '0', 'no ')", []).unwrap();
    let mut narrow = command(with_database(&device, &["list"]));
    let printed = String::from_utf8(narrow.env("COLUMNS", "80").output().unwrap().stdout).unwrap();
    assert!(printed.lines().count() == 4 && printed.lines().all(|line| line.chars().count() <= 80), "{printed}");
    assert!(printed.lines().last().unwrap().ends_with('…') && printed.contains("no no"), "{printed}");
    let whole = look(&device, &["list"]).ok();
    assert!(whole.contains(&"weather/".repeat(40)), "in a pipe nothing is cut");
}

#[test]
fn looking_changes_nothing() {
    let device = Device::new();
    let outbox = device.open_writer();
    enqueue(&outbox, numbered("weather", 0..700));
    let sql = device.sql();
    sql.execute("UPDATE outbox SET status = 'FAILED', last_error = 'no' WHERE id < 10", []).unwrap();
    let bytes = || {
        let mut log = device.database().into_os_string();
        log.push("-wal");
        (fs::read(device.database()).unwrap(), fs::read(log).unwrap())
    };
    let data_version = || value::<i64>(&sql, "PRAGMA data_version", []);
    let names = || {
        let mut names: Vec<_> =
            fs::read_dir(device.folder()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = (bytes(), data_version(), names());
    let all: [&[&str]; 7] = [
        &["status"],
        &["status", "--json"],
        &["list", "--limit", "0"],
        &["list", "--json", "--status", "failed"],
        &["show", "5"],
        &["show", "5", "--raw"],
        &["show", "5", "--json"],
    ];
    all.iter().for_each(|args| drop(look(&device, args).ok()));
    assert!(before == (bytes(), data_version(), names()));

    drop(sql); // the outbox leaves the log as it is when it closes
    drop(outbox);
    let nobody_has_it_open = bytes();
    all.iter().for_each(|args| drop(look(&device, args).ok()));
    assert!(nobody_has_it_open == bytes());
}
