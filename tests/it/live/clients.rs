//! Those who ask are many, or do not listen, and cost the forwarder nothing.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Instant;

use edge_outbox::{Outbox, Role};

use super::{NOT_LONG, live, socket};
use crate::child::Child;
use crate::device::{Device, SOON, broker, eventually, wait_for_status};

fn forwards(device: &Device) -> Outbox {
    let (broker, everything) = broker();
    drop(everything);
    let outbox = device.open(broker);
    wait_for_status(&outbox, "active", |status| status.role == Role::Active);
    outbox
}

#[test]
fn two_hundred_that_ask_at_once_are_all_answered() {
    let device = Device::new();
    let _outbox = forwards(&device);
    let path = socket(&device.database());
    thread::scope(|scope| {
        let asking = || {
            let mut said = String::new();
            UnixStream::connect(&path).unwrap().read_to_string(&mut said).unwrap();
            said
        };
        let all: Vec<_> = (0..200).map(|_| scope.spawn(asking)).collect();
        for one in all {
            let said = one.join().unwrap();
            assert!(said.starts_with("{\"version\":1,") && said.ends_with("}\n"), "{said:?}");
            assert!(said.contains(&format!("\"pid\":{},", std::process::id())), "{said:?}");
        }
    });
}

#[test]
fn those_who_never_read_or_hang_up_or_talk_hold_up_nobody() {
    let device = Device::new();
    let outbox = forwards(&device);
    let path = socket(&device.database());
    let mute: Vec<_> = (0..200).map(|_| UnixStream::connect(&path).unwrap()).collect();
    (0..200).for_each(|_| drop(UnixStream::connect(&path).unwrap()));
    for _ in 0..50 {
        let mut talks = UnixStream::connect(&path).unwrap();
        let _ = talks.write_all(b"GET / HTTP/1.1\r\n\r\n"); // it may have hung up
    }
    assert_eq!(live(&device.database()).process, std::process::id());
    let begun = Instant::now();
    outbox.shutdown(SOON).unwrap();
    assert!(begun.elapsed() < NOT_LONG, "{:?}", begun.elapsed());
    // What was said before the end is not lost for those who come to it late.
    for mut one in mute {
        let mut said = String::new();
        one.read_to_string(&mut said).unwrap();
        assert!(said.ends_with("}\n"), "{said:?}");
    }
}

/// How often the thread that answers went to sleep, in another process.
fn sleeps(process: u32) -> Option<u64> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap().map(|entry| entry.unwrap().path());
    let is_it =
        |thread: &Path| fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.trim() == "edge-outbox-sta");
    let thread = threads.into_iter().find(|thread| is_it(thread))?;
    let status = fs::read_to_string(thread.join("status")).ok()?;
    let sleeps = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    sleeps.trim().parse().ok()
}

#[test]
fn it_sleeps_until_somebody_asks() {
    let device = Device::new();
    let mut child = Child::play("live::forwards", &device.database());
    assert_eq!((child.hear(), child.ask("and now?")), ("open".to_owned(), "active".to_owned()));
    live(&device.database());
    // Back to sleep after the answer.
    let mut before = None;
    eventually("it sleeps again", || std::mem::replace(&mut before, sleeps(child.pid())) == before && before.is_some());
    let writer = device.open_writer();
    for _ in 0..20 {
        crate::device::enqueue(&writer, crate::device::numbered("weather", 0..10));
        assert_eq!(child.ask("and now?"), "active");
    }
    assert_eq!(sleeps(child.pid()), before, "it woke up and nobody had asked");
    live(&device.database());
    eventually("it wakes up for those who ask", || sleeps(child.pid()) > before);
}
