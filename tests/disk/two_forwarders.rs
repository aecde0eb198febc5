//! Two programs that forward from one database, of which the first is killed, or stopped and not gone.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use edge_outbox::broker::InProcess;
use edge_outbox::{Outbox, Role};

use crate::child::{Child, listen, say};
use crate::device::{Device, SOON, broker, enqueue, next, numbered, quick, said, value, wait_for_status};

/// Fewer than the window has: all of them are in flight at once.
const MESSAGES: usize = 200;

/// The part of a process that forwards, and whose broker acknowledges as many as it is told to.
pub fn forwards(database: &Path) {
    let broker = InProcess::new();
    let everything = broker.subscribe("#").unwrap();
    let outbox = Outbox::builder(database).settings(quick()).broker(broker).open().unwrap();
    wait_for_status(&outbox, "it works", |status| status.role == Role::Active);
    say("forwarding");
    let mut held = Vec::new();
    while let Some(told) = listen() {
        let (what, count) = told.split_once(' ').unwrap();
        let count: usize = count.parse().unwrap();
        match what {
            "take" => held.extend((0..count).map(|_| next(&everything))),
            "acknowledge" => held.drain(..count).for_each(|arrival| arrival.acknowledge()),
            _ => panic!("{told:?}?"),
        }
        say("done");
    }
}

fn signal(child: &Child, signal: &str) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {}", child.pid())]).status();
    assert!(sent.unwrap().success());
}

fn first(device: &Device) -> Child {
    let mut first = Child::play("two_forwarders::forwards", &device.database());
    assert_eq!(first.hear(), "forwarding");
    first
}

/// All from the given one on arrive, in order and marked as what may have arrived before, and are SENT in the end.
#[track_caller]
fn takes_over(device: &Device, second: &Outbox, from: usize, everything: &edge_outbox::broker::in_process::Subscriber) {
    wait_for_status(second, "the second takes over", |status| status.role == Role::Active);
    for number in from..MESSAGES {
        let arrival = next(everything);
        assert_eq!((said(&arrival), arrival.possible_duplicate), (number.to_string(), true));
        arrival.acknowledge();
    }
    second.flush(SOON).unwrap();
    let sent: i64 = value(&device.sql(), "SELECT count(*) FROM outbox WHERE status = 'SENT'", []);
    assert_eq!(sent, MESSAGES as i64);
}

#[test]
fn what_was_in_flight_at_a_forwarder_that_is_killed_is_sent_by_the_one_that_stood_by() {
    let device = Device::new();
    let mut first = first(&device);
    let (broker, everything) = broker();
    let second = device.open(broker.clone());
    enqueue(&second, numbered("t", 0..MESSAGES));
    assert_eq!(first.ask(&format!("take {MESSAGES}")), "done");
    assert_eq!((second.status().role, broker.counts().received), (Role::Standby, 0));
    first.kill();
    takes_over(&device, &second, 0, &everything);
}

/// A process that is stopped keeps its lock, since nobody can tell it from a slow one: two that forward at once would
/// break the order. It goes on when it is continued, and is replaced when it is gone.
#[test]
fn a_forwarder_that_is_stopped_is_replaced_when_it_is_killed_and_not_before() {
    let device = Device::new();
    let mut first = first(&device);
    let (broker, everything) = broker();
    let second = device.open(broker.clone());
    enqueue(&second, numbered("t", 0..MESSAGES / 2));
    assert_eq!(first.ask(&format!("take {}", MESSAGES / 2)), "done");
    signal(&first, "STOP");
    enqueue(&second, numbered("t", MESSAGES / 2..MESSAGES));
    // Longer than the second waits between two tries.
    let until = Instant::now() + Duration::from_millis(2_500);
    while Instant::now() < until {
        assert_eq!((second.status().role, broker.counts().received), (Role::Standby, 0));
        thread::sleep(Duration::from_millis(10));
    }
    signal(&first, "CONT");
    assert_eq!(first.ask(&format!("take {}", MESSAGES / 2)), "done");
    assert_eq!(first.ask("acknowledge 50"), "done");
    let sql = device.sql();
    crate::device::eventually("50 are SENT", || {
        value::<i64>(&sql, "SELECT count(*) FROM outbox WHERE status = 'SENT'", []) == 50
    });
    signal(&first, "STOP");
    first.kill();
    takes_over(&device, &second, 50, &everything);
}
