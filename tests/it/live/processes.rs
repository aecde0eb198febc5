//! Forwarders in other processes, which stand by, are stopped, or are killed.

use std::fs;
use std::os::unix::net::UnixStream;
use std::process::Command;

use edge_outbox::inspector::Forwarder;
use edge_outbox::{Role, Settings};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::{ask, live, socket, wait_for_live};
use crate::child::Child;
use crate::device::{Device, SOON, broker, enqueue, eventually, numbered, quick, take, wait_for_status};

fn forwarding(device: &Device) -> Child {
    let mut child = Child::play("live::forwards", &device.database());
    assert_eq!((child.hear(), child.ask("and now?")), ("open".to_owned(), "active".to_owned()));
    child
}

fn signal(child: &Child, signal: &str) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {}", child.pid())]).status();
    assert!(sent.unwrap().success());
}

#[test]
fn the_one_that_works_answers_and_the_one_that_stands_by_once_it_has_taken_over() {
    let device = Device::new();
    let (broker, _everything) = broker();
    let first = device.open(broker);
    wait_for_status(&first, "active", |status| status.role == Role::Active);
    let mut second = Child::play("live::forwards", &device.database());
    assert_eq!(second.hear(), "open");
    assert_eq!(live(&device.database()).process, std::process::id());
    first.shutdown(SOON).unwrap();
    assert_eq!(second.ask("and now?"), "active");
    assert_eq!(live(&device.database()).process, second.pid());
    second.end();
    assert_eq!(ask(&device.database()), Forwarder::None);
    assert!(!socket(&device.database()).exists());
}

#[test]
fn what_a_killed_one_leaves_behind_deceives_nobody_and_is_cleared_away() {
    let device = Device::new();
    for _ in 0..2 {
        let child = forwarding(&device);
        assert_eq!(live(&device.database()).process, child.pid());
        child.kill();
        assert!(socket(&device.database()).exists());
        assert_eq!(ask(&device.database()), Forwarder::None);
    }
    drop(device.open_writer());
    assert!(socket(&device.database()).exists(), "only who holds the lock removes it");
    let (broker, _everything) = broker();
    let outbox = device.open(broker);
    wait_for_status(&outbox, "active", |status| status.role == Role::Active);
    assert_eq!(live(&device.database()).process, std::process::id());
    drop(outbox);
    assert!(!socket(&device.database()).exists());
}

#[test]
fn one_that_is_stopped_is_called_silent_however_many_wait_for_it() {
    let device = Device::new();
    let child = forwarding(&device);
    signal(&child, "STOP");
    // One thread after another comes to stand.
    let mut told = Forwarder::None;
    eventually("it is stopped", || {
        told = ask(&device.database());
        !matches!(told, Forwarder::Active(_))
    });
    match told {
        Forwarder::Silent(why) => assert!(why.contains("did not answer") && why.contains("-outbox-status"), "{why}"),
        other => panic!("{other:?}"),
    }
    // Nobody else is let in once as many wait as may.
    let address = SocketAddrUnix::new(socket(&device.database())).unwrap();
    let mut waiting = Vec::new();
    loop {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let one = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        match connect(&one, &address) {
            Ok(()) => waiting.push(UnixStream::from(one)),
            Err(error) => break assert_eq!(error, rustix::io::Errno::AGAIN),
        }
        assert!(waiting.len() < 10_000);
    }
    assert!(matches!(ask(&device.database()), Forwarder::Silent(_)));
    signal(&child, "CONT");
    wait_for_live(&device.database(), "it goes on", |live| live.process == child.pid());
}

/// An address of a socket has 108 bytes, and a path may have 4,096.
#[test]
fn a_path_may_be_longer_than_an_address() {
    let device = Device::new();
    let folder = device.folder().join("f".repeat(150)).join("f".repeat(150));
    fs::create_dir_all(&folder).unwrap();
    let device = Device::at(&folder);
    let mut child = forwarding(&device);
    assert_eq!(live(&device.database()).process, child.pid());
    assert!(socket(&device.database()).exists());
    child.kill_now();
    assert_eq!(ask(&device.database()), Forwarder::None);
    let child = forwarding(&device);
    assert_eq!(live(&device.database()).process, child.pid());
    child.end();
    assert!(!socket(&device.database()).exists());
}

#[test]
fn a_forwarder_whose_socket_cannot_be_made_forwards_without_and_is_called_silent() {
    let device = Device::new();
    let database = device.folder().join("d".repeat(200));
    let (broker, everything) = broker();
    let settings = Settings { poll_interval: SOON / 60, ..quick() };
    let outbox = edge_outbox::Outbox::builder(&database).settings(settings).broker(broker).open().unwrap();
    enqueue(&outbox, numbered("weather", 0..1));
    assert_eq!(take(&everything), "0");
    match ask(&database) {
        Forwarder::Silent(why) => assert!(why.contains("could not make one"), "{why}"),
        other => panic!("{other:?}"),
    }
}
