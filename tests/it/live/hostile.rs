//! Something else answers in the forwarder's place, or nothing does.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use edge_outbox::Role;
use edge_outbox::inspector::Forwarder;
use rustix::fs::{FlockOperation, flock};

use super::{ask, beside, live, socket};
use crate::device::{Device, SOON, broker, wait_for_status};

/// An outbox whose lock somebody has.
fn locked() -> (Device, File) {
    let device = Device::new();
    drop(device.open_writer());
    let lock = File::create(beside(&device.database(), "-outbox-lock")).unwrap();
    flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    (device, lock)
}

/// Why it is silent.
#[track_caller]
fn why(device: &Device) -> String {
    match ask(&device.database()) {
        Forwarder::Silent(why) => why,
        other => panic!("{other:?}"),
    }
}

/// Everybody who asks meets this, until the listener goes with the test.
fn served_by(device: &Device, serve: impl Fn(UnixStream) + Send + 'static) {
    let path = socket(&device.database());
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || listener.incoming().for_each(|one| one.map(&serve).unwrap_or_default()));
}

#[test]
fn an_answer_that_is_none_is_told_in_words() {
    let (device, lock) = locked();
    served_by(&device, |mut one| drop(one.write_all(b"\0\xff garbage {}\n")));
    let said = why(&device);
    assert!(said.contains("not understood") && said.contains("-outbox-status"), "{said}");
    served_by(&device, |mut one| drop(one.write_all(b"{\"version\":99}\n")));
    let said = why(&device);
    assert!(said.contains("version 99"), "{said}");
    served_by(&device, |mut one| drop(one.write_all(b"{\"version\":1,")));
    let said = why(&device);
    assert!(said.contains("has no end"), "{said}");
    served_by(&device, drop);
    let said = why(&device);
    assert!(said.contains("hung up"), "{said}");
    drop(lock);
    assert_eq!(ask(&device.database()), Forwarder::None, "nobody holds the lock: it is no forwarder");
}

#[test]
fn an_answer_without_an_end_is_not_waited_for() {
    let (device, _lock) = locked();
    served_by(&device, |mut one| while one.write_all(&[b'x'; 64 * 1024]).is_ok() {});
    let said = why(&device);
    assert!(said.contains("has no end"), "{said}");
    // A byte now and then.
    served_by(&device, |mut one| {
        while one.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(100));
        }
    });
    let said = why(&device);
    assert!(said.contains("did not answer"), "{said}");
    served_by(&device, |mut one| drop(one.read(&mut [0])));
    let said = why(&device);
    assert!(said.contains("did not answer"), "{said}");
}

#[test]
fn who_hangs_up_late_each_time_is_not_asked_for_longer_than_who_says_nothing() {
    let (device, _lock) = locked();
    served_by(&device, |one| {
        thread::sleep(Duration::from_millis(900));
        drop(one);
    });
    let began = Instant::now();
    why(&device);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn what_is_no_socket_is_named_and_left_alone() {
    let (device, lock) = locked();
    let path = socket(&device.database());
    let said = why(&device);
    assert!(said.contains("there is no socket"), "{said}");
    fs::write(&path, "mine").unwrap();
    let said = why(&device);
    assert!(said.contains("is no socket"), "{said}");
    drop(lock);

    let (broker, _everything) = broker();
    let outbox = device.open(broker);
    wait_for_status(&outbox, "active", |status| status.role == Role::Active);
    let said = why(&device);
    assert!(said.contains("is no socket"), "{said}");
    drop(outbox);
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
}

#[test]
fn a_link_is_not_followed_by_either_side() {
    let device = Device::new();
    let (path, elsewhere) = (socket(&device.database()), device.folder().join("elsewhere"));
    let listener = UnixListener::bind(&elsewhere).unwrap();
    symlink(&elsewhere, &path).unwrap();
    let (broker, _everything) = broker();
    let outbox = device.open(broker);
    wait_for_status(&outbox, "active", |status| status.role == Role::Active);
    let said = why(&device);
    assert!(said.contains("is no socket"), "{said}");
    drop(outbox);
    assert!(path.is_symlink() && elsewhere.exists());
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "somebody asked there");
}

#[test]
fn a_lock_that_is_none_is_told_in_words() {
    let device = Device::new();
    drop(device.open_writer());
    let lock = beside(&device.database(), "-outbox-lock");
    symlink(device.folder().join("elsewhere"), &lock).unwrap();
    let said = why(&device);
    assert!(said.contains("cannot be told") && said.contains("-outbox-lock"), "{said}");
    fs::remove_file(&lock).unwrap();
    // Whoever opens a pipe waits for who writes to it.
    let made = std::process::Command::new("mkfifo").arg(&lock).status();
    assert!(made.unwrap().success());
    assert_eq!(ask(&device.database()), Forwarder::None);
}

/// As tools do that tidy up folders.
#[test]
fn a_socket_that_was_deleted_is_missed_and_another_ones_is_not_removed() {
    let device = Device::new();
    let (broker, _everything) = broker();
    let outbox = device.open(broker);
    wait_for_status(&outbox, "active", |status| status.role == Role::Active);
    assert_eq!(live(&device.database()).process, std::process::id());
    fs::remove_file(socket(&device.database())).unwrap();
    let said = why(&device);
    assert!(said.contains("there is no socket") && said.contains("deleted"), "{said}");
    let _other = UnixListener::bind(socket(&device.database())).unwrap();
    outbox.shutdown(SOON).unwrap();
    assert!(socket(&device.database()).exists());
}
